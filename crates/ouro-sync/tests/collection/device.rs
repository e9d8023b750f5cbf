//! Devices that do what a test says, on one remote and one clock.

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::content::Content;
use ouro_core::id::{DeviceId, DeviceNo, FileId};
use ouro_core::name::Name;
use ouro_core::port::BoxFuture;
use ouro_core::render::{self, Seen};
use ouro_core::retention::Retention;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::database::DatabaseAt;
use ouro_local::disk::MemoryDisk;
use ouro_local::ledger::{Ledger, Mode};
use ouro_local::volume::{Volume, VolumeError, VolumeOptions, VolumePorts, VolumeStores};
use ouro_remote::{ListedObject, RemoteError, Store, Usage};
use ouro_repo::{ChunkerParams, DeviceInfo, InitOptions, Ports, Repository, Secret};
use ouro_sync::{CollectOptions, Report, Sync, SyncError};
use ouro_testkit::sim::{Group, Simulation};
use ouro_testkit::{Faults, FaultyStore, MemoryStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The directory of what is thrown away.
pub(crate) const TRASH: &str = ".Trash-1000";
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// Everything goes but what is seen now and what has a name.
pub(crate) const NOTHING_KEPT: Retention = Retention { all_ms: 0, hourly_ms: 0, daily_ms: 0, weekly_ms: 0 };

/// The remote with a clock of its own, and a budget of writes after which it fails as if the process had been killed.
pub(crate) struct Shelf {
    store: FaultyStore<MemoryStore>,
    world: Arc<Simulation>,
    /// Whether answers bear a date.
    pub(crate) tells_time: bool,
    /// Writes and deletions left; negative: any number.
    pub(crate) effects_left: AtomicI64,
    /// How often collections were listed.
    pub(crate) collections_listed: AtomicU64,
}

impl Shelf {
    fn effect(&self) -> Result<(), RemoteError> {
        let left = self.effects_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(RemoteError::Unreachable {
                remote: "memory:".into(),
                reason: "no effects are left".into(),
                timed_out: false,
            });
        }
        if left > 0 {
            self.effects_left.store(left - 1, Ordering::SeqCst);
        }
        Ok(())
    }

    pub(crate) fn faults(&self) -> &FaultyStore<MemoryStore> {
        &self.store
    }
}

impl Store for Shelf {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        self.store.get(name)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        self.store.get_range(name, offset, len)
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            self.effect()?;
            self.store.publish(name, bytes).await
        })
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            self.effect()?;
            self.store.overwrite(name, bytes).await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            self.effect()?;
            self.store.delete(name).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        self.collections_listed.fetch_add(u64::from(prefix == "gc/"), Ordering::SeqCst);
        self.store.list(prefix)
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn storage_time(&self) -> Option<u64> {
        let seconds = self.world.clock(0).wall_ns() / 1_000_000_000;
        self.tells_time.then(|| u64::try_from(seconds).unwrap_or(0))
    }
}

/// Objects by their names.
pub(crate) type Objects = BTreeMap<String, Bytes>;

/// The remote and the clock.
pub(crate) struct World {
    pub(crate) simulation: Arc<Simulation>,
    pub(crate) remote: Arc<MemoryStore>,
    config: Bytes,
    next: u32,
}

impl World {
    pub(crate) fn new() -> World {
        let simulation = Arc::new(Simulation::new(7));
        let remote = Arc::new(MemoryStore::new());
        let chunker = ChunkerParams { min: 4 << 10, average: 16 << 10, max: 64 << 10 };
        let group = simulation.group();
        let ports = Ports { clock: simulation.clock(0), rng: simulation.rng(1), runtime: simulation.runtime(group) };
        let options = InitOptions { chunker, ..InitOptions::default() };
        let made = Repository::init(Arc::clone(&remote) as _, ports, &Secret::None, options);
        let config = block_on(made).unwrap().config_bytes().clone();
        World { simulation, remote, config, next: 1 }
    }

    /// A new device, joined and up to date.
    pub(crate) fn join(&mut self) -> Device {
        self.join_telling_time(true)
    }

    pub(crate) fn join_telling_time(&mut self, tells_time: bool) -> Device {
        let no = self.next;
        self.next += 1;
        let store = Shelf {
            store: FaultyStore::sharing(Arc::clone(&self.remote), u64::from(no), Faults::none()),
            world: Arc::clone(&self.simulation),
            tells_time,
            effects_left: AtomicI64::new(-1),
            collections_listed: AtomicU64::new(0),
        };
        let created_ms = (self.simulation.clock(0).wall_ns() / 1_000_000) as u64;
        let info = device_info(no, created_ms);
        let mut device = Device {
            world: Arc::clone(&self.simulation),
            place: Arc::new(store),
            config: self.config.clone(),
            info: info.clone(),
            disk: MemoryDisk::new(),
            boots: 0,
            process: None,
        };
        device.boot(Images::default());
        device.run(move |sync| async move { Ok(sync.repo().register_device(&info).await?) }).unwrap();
        device.run(|sync| async move { sync.begin().await }).unwrap();
        device.look();
        device
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.simulation.pass(millis);
    }

    /// Names of objects that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.remote.snapshot().into_keys().filter(|name| name.starts_with(prefix)).collect()
    }

    /// The objects whose names begin so.
    pub(crate) fn listed(&self, prefix: &str) -> Objects {
        self.remote.snapshot().into_iter().filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    /// Takes away what is there and puts something else in its place, as a list shows it that is stale.
    pub(crate) fn replace(&self, there: &Objects, by: &Objects) {
        for name in there.keys() {
            block_on(self.remote.delete(name)).unwrap();
        }
        for (name, bytes) in by {
            block_on(self.remote.overwrite(name, bytes.clone())).unwrap();
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.remote.snapshot().values().map(|bytes| bytes.len() as u64).sum()
    }
}

fn device_info(no: u32, created_ms: u64) -> DeviceInfo {
    DeviceInfo {
        id: DeviceId([no as u8; 16]),
        number: DeviceNo(no),
        name: format!("device {no}"),
        created_ms,
        rules: ouro_repo::RULES,
        branch: None,
    }
}

#[derive(Default)]
struct Images {
    journal: Option<Vec<u8>>,
    nodes: Option<Vec<u8>>,
    locations: Option<Vec<u8>>,
    blobs: Option<Vec<u8>>,
}

struct Process {
    group: Group,
    ledger: Arc<Ledger>,
    volume: Arc<Volume>,
    sync: Arc<Sync>,
}

/// A device.
pub(crate) struct Device {
    world: Arc<Simulation>,
    pub(crate) place: Arc<Shelf>,
    config: Bytes,
    info: DeviceInfo,
    disk: MemoryDisk,
    boots: u64,
    process: Option<Process>,
}

fn at(image: Option<Vec<u8>>) -> DatabaseAt {
    image.map_or(DatabaseAt::Memory, DatabaseAt::Image)
}

impl Device {
    fn boot(&mut self, images: Images) {
        self.boots += 1;
        let group = self.world.group();
        let rng = self.world.rng(u64::from(self.info.number.0) * 1_000 + self.boots);
        let ports = Ports { clock: self.world.clock(0), rng, runtime: self.world.runtime(group) };
        let store = Arc::clone(&self.place) as Arc<dyn Store>;
        let repo = Repository::open_with_key(store, ports.clone(), self.config.clone(), None).unwrap();
        repo.learn_device(self.info.number, self.info.id);
        let ledger = Arc::new(Ledger::open_in_memory(images.journal, Mode::Inline).unwrap());
        let stores = VolumeStores {
            ledger: Arc::clone(&ledger),
            blobs: at(images.blobs),
            locations: at(images.locations),
            nodes: at(images.nodes),
        };
        let verifying = repo.clone();
        let hooks = (
            Arc::new(move |id: &ouro_core::id::BlobId, plain: &[u8]| verifying.verify_blob(id, plain)) as _,
            Arc::new(|_: &ouro_core::id::BlobId| false) as _,
        );
        let volume_ports = VolumePorts {
            clock: Arc::clone(&ports.clock),
            runtime: Arc::clone(&ports.runtime),
            disk: Arc::new(self.disk.clone()),
        };
        let options = VolumeOptions { free_bytes_min: 0, ..VolumeOptions::default() };
        let volume =
            Volume::load_from(stores, self.info.number, repo.tree_params(), hooks, volume_ports, options).unwrap();
        let sync = Sync::new(Arc::clone(&volume), repo, ports, self.info.id);
        self.process = Some(Process { group, ledger, volume, sync });
    }

    /// Ends the process, as a kill does, and begins another one.
    pub(crate) fn restart(&mut self) {
        let process = self.process.take().unwrap();
        process.ledger.flush(process.ledger.last(), false).unwrap();
        self.world.end(process.group);
        let images = Images {
            journal: Some(process.ledger.image().unwrap()),
            nodes: Some(process.volume.nodes().store().image().unwrap()),
            locations: Some(process.volume.locations().image().unwrap()),
            blobs: Some(process.volume.blobs().image().unwrap()),
        };
        drop(process);
        self.boot(images);
    }

    pub(crate) fn volume(&self) -> Arc<Volume> {
        Arc::clone(&self.process.as_ref().unwrap().volume)
    }

    pub(crate) fn run<T: Send + 'static, F: Future<Output = Result<T, SyncError>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Sync>) -> F,
    ) -> Result<T, SyncError> {
        let process = self.process.as_ref().unwrap();
        self.world.finish(process.group, work(Arc::clone(&process.sync)))
    }

    pub(crate) fn push(&self) {
        self.run(|sync| async move { sync.push().await }).unwrap();
    }

    pub(crate) fn pull(&self) {
        self.run(|sync| async move {
            ouro_sync::learn_devices(sync.repo(), sync.volume()).await?;
            sync.pull().await
        })
        .unwrap();
    }

    pub(crate) fn look(&self) {
        self.run(|sync| async move { sync.look().await }).unwrap();
    }

    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.process.as_ref().unwrap().sync.checkpoint_due()
    }

    /// Does by itself for so long what a device does that is on.
    pub(crate) fn goes_by_itself(&self, millis: u64) {
        let process = self.process.as_ref().unwrap();
        let runtime = self.world.runtime(process.group);
        self.run(move |sync| async move {
            sync.run();
            runtime.sleep(millis).await;
            sync.stop();
            Ok(())
        })
        .unwrap();
    }

    pub(crate) fn checkpoint(&self) {
        self.run(|sync| async move { sync.checkpoint().await }).unwrap();
    }

    pub(crate) fn try_collect(&self, options: CollectOptions) -> Result<Report, SyncError> {
        // What was made at this very moment is never old.
        self.world.pass(1_000);
        self.run(move |sync| async move { sync.collect(&options).await })
    }

    pub(crate) fn collect(&self, retention: Retention) -> Report {
        self.try_collect(CollectOptions { retention, grace_ms: 0, dry_run: false }).unwrap()
    }

    /// Drops everything that can be fetched again.
    pub(crate) fn empty_cache(&self) {
        let volume = self.volume();
        volume.nodes().remove_if(&|_, _| true).unwrap();
        volume.blobs().evict(0, &|_| false).unwrap();
    }

    /// Makes or rewrites a file in the root.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let leaf = Name::new(name.as_bytes()).unwrap();
        let place = Place { parent: FileId::ROOT, name: leaf.clone() };
        let file = match self.find(&leaf) {
            Some(seen) => seen.id,
            None => {
                let attributes = Attributes { mode: 0o644, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
                self.ask(|volume| {
                    volume.edit(|e| e.create(&[FileId::ROOT], &leaf, Kind::File, attributes.clone(), None))
                })
            }
        };
        self.ask(|volume| volume.truncate(file, &place, 0));
        self.ask(|volume| volume.write(file, &place, 0, content));
    }

    /// Writes into a file in the root. Nothing of it is fetched for that.
    pub(crate) fn patch(&self, name: &str, offset: u64, bytes: &[u8]) {
        let leaf = Name::new(name.as_bytes()).unwrap();
        let file = self.find(&leaf).unwrap().id;
        self.ask(|volume| volume.write(file, &Place { parent: FileId::ROOT, name: leaf.clone() }, offset, bytes));
    }

    pub(crate) fn remove(&self, name: &str) {
        let leaf = Name::new(name.as_bytes()).unwrap();
        let seen = self.find(&leaf).unwrap();
        self.ask(|volume| volume.edit(|e| Ok(((), e.remove(&seen, &[FileId::ROOT])?))));
    }

    /// Throws away what stands in the root.
    pub(crate) fn throw_away(&self, name: &str) -> FileId {
        let trash = seen(self, &[TRASH]).map_or_else(|| make_directory(self, TRASH), |trash| trash.id);
        rename(self, (FileId::ROOT, &[name]), (trash, name));
        trash
    }

    /// The other way.
    pub(crate) fn bring_back(&self, name: &str) {
        let trash = seen(self, &[TRASH]).unwrap().id;
        rename(self, (trash, &[TRASH, name]), (FileId::ROOT, name));
    }

    fn find(&self, leaf: &Name) -> Option<Seen> {
        self.ask(|volume| {
            let view = volume.view();
            Ok(render::lookup(&view, &view, &[FileId::ROOT], leaf)?)
        })
    }

    /// Asks the volume, bringing what is missing.
    pub(crate) fn ask<T>(&self, question: impl Fn(&Arc<Volume>) -> Result<T, VolumeError>) -> T {
        self.try_ask(question).unwrap()
    }

    pub(crate) fn try_ask<T>(&self, question: impl Fn(&Arc<Volume>) -> Result<T, VolumeError>) -> Result<T, SyncError> {
        let volume = self.volume();
        loop {
            match question(&volume) {
                Ok(answer) => return Ok(answer),
                Err(VolumeError::Missing(missing)) => {
                    self.run(move |sync| async move { sync.fetch_node(missing).await })?;
                }
                Err(VolumeError::Need(blobs)) => {
                    self.run(move |sync| async move { sync.fetch_blobs(blobs).await })?;
                }
                Err(VolumeError::Record { device, seq }) => {
                    self.run(move |sync| async move { sync.fetch_records(device, seq).await })?;
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// All files in the root with their bytes.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let listed: Vec<Seen> = self.ask(|volume| {
            let view = volume.view();
            list(&view, &view)
        });
        self.read_all(listed)
    }

    /// The same, at the state of a commit.
    pub(crate) fn files_at(&self, device: u32, seq: u64) -> Result<BTreeMap<String, Vec<u8>>, SyncError> {
        let snapshot = self.try_ask(|volume| volume.snapshot(DeviceNo(device), ouro_core::id::Seq(seq)))?;
        let listed = self.try_ask(|_| list(&*snapshot, &*snapshot))?;
        Ok(self.read_all(listed))
    }

    fn read_all(&self, listed: Vec<Seen>) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for seen in listed {
            let content = seen.content().cloned().unwrap_or_else(Content::empty);
            let bytes = self.ask(|volume| {
                let len = content.size() as usize;
                if matches!(content, Content::Pending { .. }) {
                    volume.read(seen.id, &content, 0, len)
                } else {
                    volume.read_content(&content, 0, len)
                }
            });
            files.insert(seen.name.display().to_string(), bytes);
        }
        files
    }
}

fn list(rows: &dyn ouro_core::row::Rows, devices: &dyn render::Devices) -> Result<Vec<Seen>, VolumeError> {
    let mut found = Vec::new();
    let mut after: Option<Name> = None;
    loop {
        let page = render::list(rows, devices, &[FileId::ROOT], after.as_ref(), 64)?;
        found.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

pub(crate) fn attributes() -> Attributes {
    Attributes { mode: 0o755, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] }
}

pub(crate) fn leaf(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

pub(crate) fn make_directory(device: &Device, name: &str) -> FileId {
    device.ask(|v| v.edit(|e| e.create(&[FileId::ROOT], &leaf(name), Kind::Directory, attributes(), None)))
}

/// Gives something another name, in another directory or not.
pub(crate) fn rename(device: &Device, from: (FileId, &[&str]), to: (FileId, &str)) {
    let found = seen(device, from.1).unwrap();
    device.ask(|v| v.edit(|e| e.rename(&found, &[from.0], &[to.0], &leaf(to.1), None)));
}

/// What stands at a path.
pub(crate) fn seen(device: &Device, path: &[&str]) -> Option<Seen> {
    device.ask(|volume| {
        let view = volume.view();
        let mut found = Seen::root(&view)?;
        for name in path {
            match render::lookup(&view, &view, found.members(), &leaf(name))? {
                Some(next) => found = next,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    })
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut chance = ouro_testkit::sim::Chance::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&chance.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
