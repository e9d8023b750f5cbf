//! A box on a temporary folder, mounted without a kernel.

use futures::channel::oneshot;
use futures::executor::block_on;
use ouro_core::content::{BlobRef, Content};
use ouro_core::delta::{AddedContent, AddedPlacement, Delta, FileDelta};
use ouro_core::id::{BlobId, DeviceNo, FileId, Hlc, NodeId, RecordHash, Seq};
use ouro_core::name::Name;
use ouro_core::port::{BoxFuture, Clock, Runtime};
use ouro_core::row::Missing;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_core::tree::{self, NewNode, TreeParams};
use ouro_local::volume::{Announced, Commit, LogWalk, Volume, VolumeOptions, VolumePorts};
use ouro_vfs::{
    Caller, Fetch, FetchError, Invalidate, Mounted, NodeNo, OpenFlags, Processes, Reply, Stat, Stop, Vfs, VfsOptions,
    VolumeNo,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

pub(crate) const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 1 };
pub(crate) const READ: OpenFlags =
    OpenFlags { read: true, write: false, append: false, truncate: false, direct: false, execute: false };
pub(crate) const WRITE: OpenFlags =
    OpenFlags { read: true, write: true, append: false, truncate: false, direct: false, execute: false };
pub(crate) const START_NS: i64 = 1_795_357_800_000_000_000;

/// A clock that goes on by a microsecond whenever somebody looks.
pub(crate) struct TestClock(pub(crate) AtomicI64);
impl Clock for TestClock {
    fn wall_ns(&self) -> i64 {
        self.0.fetch_add(1000, Ordering::Relaxed)
    }
    fn monotonic_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64
    }
}

struct Threads;
impl Runtime for Threads {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.blocking(Box::new(move || block_on(task))));
    }
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the port, for tests")]
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (done, waits) = oneshot::channel();
        std::thread::spawn(move || {
            work();
            let _nobody_waits = done.send(());
        });
        Box::pin(async move {
            let _dropped = waits.await;
        })
    }
    fn sleep(&self, _millis: u64) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// What the remote holds, and what was asked of it.
#[derive(Default)]
pub(crate) struct Remote {
    pub(crate) blobs: Mutex<BTreeMap<BlobId, Vec<u8>>>,
    pub(crate) volume: Mutex<Option<Arc<Volume>>>,
    pub(crate) asked: Mutex<Vec<Vec<BlobRef>>>,
    pub(crate) ahead: Mutex<Vec<Vec<BlobRef>>>,
    pub(crate) fails: Mutex<Option<FetchError>>,
}

impl Fetch for Remote {
    fn nodes(&self, _: VolumeNo, _: Missing) -> BoxFuture<'static, Result<(), FetchError>> {
        Box::pin(async { Err(FetchError::Unreachable) })
    }
    fn blobs(&self, _: VolumeNo, blobs: Vec<BlobRef>, _: u32) -> BoxFuture<'static, Result<(), FetchError>> {
        self.asked.lock().push(blobs.clone());
        if let Some(error) = *self.fails.lock() {
            return Box::pin(async move { Err(error) });
        }
        if let Some(volume) = &*self.volume.lock() {
            for blob in blobs {
                volume.blobs().put(blob.id, &self.blobs.lock()[&blob.id]).unwrap();
            }
        }
        Box::pin(async { Ok(()) })
    }
    fn prefetch(&self, _: VolumeNo, blobs: Vec<BlobRef>) {
        self.ahead.lock().push(blobs);
    }
}

/// What the kernel was told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<Vec<String>>);
impl Told {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}
impl Invalidate for Told {
    fn entry(&self, parent: NodeNo, name: &[u8]) {
        self.0.lock().push(format!("entry {} {}", parent.0, String::from_utf8_lossy(name)));
    }
    fn node(&self, node: NodeNo) {
        self.0.lock().push(format!("node {}", node.0));
    }
    fn attributes(&self, node: NodeNo) {
        self.0.lock().push(format!("attributes {}", node.0));
    }
}

/// Processes by number: groups and command line.
#[derive(Default)]
pub(crate) struct ProcessTable(pub(crate) BTreeMap<u32, (Vec<u32>, &'static str)>);
impl Processes for ProcessTable {
    fn groups(&self, pid: u32) -> Vec<u32> {
        self.0.get(&pid).map(|p| p.0.clone()).unwrap_or_default()
    }
    fn command_line(&self, pid: u32) -> Vec<Vec<u8>> {
        let line = self.0.get(&pid).map_or("", |p| p.1);
        line.split_whitespace().map(|part| part.as_bytes().to_vec()).collect()
    }
}

/// A mounted box; the folder outlives restarts.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) remote: Arc<Remote>,
    pub(crate) told: Arc<Told>,
    pub(crate) options: VfsOptions,
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) volume: Arc<Volume>,
}

pub(crate) fn blob_id(bytes: &[u8]) -> BlobId {
    BlobId(*blake3::hash(bytes).as_bytes())
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn load(folder: &std::path::Path, clock: Arc<TestClock>) -> Arc<Volume> {
    let (data, cache) = (folder.join("data"), folder.join("cache"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&cache).unwrap();
    let ports = VolumePorts { clock, runtime: Arc::new(Threads), disk: Volume::disk(&cache).unwrap() };
    let params = TreeParams { node_key: [1; 32], salt: [2; 32] };
    let checks: (ouro_local::blobs::Verify, ouro_local::blobs::Keep) =
        (Arc::new(|id, bytes| blob_id(bytes) == *id), Arc::new(|_| false));
    let options = VolumeOptions { free_bytes_min: 0, ..VolumeOptions::default() };
    Volume::load(&data, &cache, DeviceNo(7), params, checks, ports, options).unwrap()
}

impl World {
    /// How many files each commit changes that changes this one, the newest first.
    pub(crate) fn commits_of(&self, file: FileId) -> Vec<usize> {
        let mut walk = LogWalk::new(&self.volume.heads());
        let mut found = Vec::new();
        while let Some(logged) = walk.step(&self.volume).unwrap() {
            let files = logged.commit().unwrap().delta.files;
            if files.iter().any(|delta| delta.id == file) {
                found.push(files.len());
            }
        }
        found
    }

    pub(crate) fn new() -> World {
        World::with(VfsOptions::default())
    }

    pub(crate) fn with(options: VfsOptions) -> World {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(START_NS)));
        let volume = load(folder.path(), clock.clone());
        let (remote, told) = (Arc::new(Remote::default()), Arc::new(Told::default()));
        *remote.volume.lock() = Some(volume.clone());
        let vfs = mount(&volume, &remote, &told, options.clone());
        World { folder, clock, remote, told, options, vfs, volume }
    }

    /// Ends the mount and the box in good order and begins again from what is on the disk.
    pub(crate) fn restart(self) -> World {
        let World { folder, clock, remote, told, options, vfs, volume } = self;
        volume.flush(true).unwrap();
        *remote.volume.lock() = None;
        drop((vfs, volume));
        let volume = load(folder.path(), clock.clone());
        *remote.volume.lock() = Some(volume.clone());
        let vfs = mount(&volume, &remote, &told, options.clone());
        World { folder, clock, remote, told, options, vfs, volume }
    }

    /// Publishes what is pending as one commit, as the sync would.
    pub(crate) fn publish(&self) -> bool {
        let Some(sealed) = self.volume.seal().unwrap() else { return false };
        let mut delta = Delta { files: (*sealed.files).clone() };
        for file in &mut delta.files {
            let Some(content) = file.content.as_mut().and_then(|c| c.value.as_mut()) else { continue };
            if let Content::Pending { size, .. } = content {
                let mut bytes = vec![0; *size as usize];
                self.volume.read_layer(file.id, content, 0, &mut bytes, &BTreeSet::new()).unwrap();
                *content = self.stored(&bytes, 64 * 1024);
            }
        }
        let hash = RecordHash(*blake3::hash(format!("{:?}", sealed.version).as_bytes()).as_bytes());
        self.volume.fix_record(Arc::from(&b"record"[..]), hash).unwrap();
        self.volume.confirm(delta).unwrap();
        true
    }

    /// Bytes as a sealed content whose chunks are on this device and on the remote.
    pub(crate) fn stored(&self, bytes: &[u8], chunk: usize) -> Content {
        let content = self.online(bytes, chunk);
        if let Content::Chunks(chunks) = &content {
            for chunk in chunks.iter() {
                self.volume.blobs().put(chunk.id, &self.remote.blobs.lock()[&chunk.id]).unwrap();
            }
        }
        content
    }

    /// Bytes as a sealed content whose chunks are on the remote only.
    pub(crate) fn online(&self, bytes: &[u8], chunk: usize) -> Content {
        if bytes.len() <= 128 {
            return Content::Inline(bytes.into());
        }
        let mut blobs = self.remote.blobs.lock();
        let chunks = bytes.chunks(chunk).map(|part| {
            blobs.insert(blob_id(part), part.to_vec());
            BlobRef { id: blob_id(part), len: part.len() as u32, at: None }
        });
        Content::Chunks(chunks.collect())
    }

    /// Learns a commit of another device.
    pub(crate) fn learn(&self, seq: u64, files: Vec<FileDelta>) {
        let parents = self.volume.heads();
        let hlc = Hlc::from_millis((self.clock.wall_ns() / 1_000_000) as u64 + seq);
        let mut delta = Delta { files };
        delta.files.sort_by_key(|file| file.id);
        let hash = RecordHash([seq as u8; 32]);
        let (device, seq, message) = (DeviceNo(9), Seq(seq), String::new());
        self.volume.learn(&Commit { device, seq, hash, hlc, parents, message, delta, checkpoint: None }).unwrap();
    }

    /// Folds what is committed into a tree whose nodes another device, or this one, has.
    pub(crate) fn checkpoint_in(&self, there: &World) -> Announced {
        let input = self.volume.checkpoint_input();
        let (cache, mut nodes) = (self.volume.nodes(), Vec::<NewNode>::new());
        let keep = &mut |node| nodes.push(node);
        let root = tree::update(cache, cache.params(), input.root.as_ref(), &input.changes, keep).unwrap();
        let encoded: Vec<(NodeId, Vec<u8>)> = nodes.iter().map(|n| (n.reference.id, n.encode(&|_| None))).collect();
        there.volume.nodes().store().put_many(&encoded).unwrap();
        Announced { root, covers: input.covers, digest: input.digest }
    }

    // Short forms, as root.

    pub(crate) fn find(&self, path: &str) -> Reply<Stat> {
        let mut stat = self.vfs.getattr(NodeNo::ROOT, None)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            stat = self.vfs.lookup(&ROOT, stat.node, part.as_bytes())?;
        }
        Ok(stat)
    }

    pub(crate) fn node(&self, path: &str) -> NodeNo {
        self.find(path).unwrap().node
    }

    pub(crate) fn write_file(&self, parent: NodeNo, name: &str, bytes: &[u8]) -> Stat {
        let (stat, handle) = self.vfs.create(&ROOT, parent, name.as_bytes(), 0o644, WRITE, false).unwrap();
        self.vfs.write(&ROOT, stat.node, handle, 0, bytes).unwrap();
        self.vfs.release(stat.node, handle);
        self.vfs.getattr(stat.node, None).unwrap()
    }

    /// Reads a whole file, waiting for what must be fetched.
    pub(crate) fn read_file(&self, node: NodeNo) -> Vec<u8> {
        let handle = self.vfs.open(&ROOT, node, READ).unwrap();
        let bytes = wait(|| self.vfs.read(&ROOT, node, handle, 0, 1 << 30)).unwrap();
        self.vfs.release(node, handle);
        bytes
    }

    pub(crate) fn names(&self, directory: NodeNo) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let entries = self.vfs.readdir(&ROOT, directory, cookie, 100).unwrap().entries;
            let Some(last) = entries.last() else { break };
            cookie = last.cookie;
            names.extend(entries.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }
}

fn mount(volume: &Arc<Volume>, remote: &Arc<Remote>, told: &Arc<Told>, options: VfsOptions) -> Arc<Vfs> {
    let boxes = vec![Mounted { name: name("box"), volume: volume.clone() }];
    let vfs = Vfs::new(boxes, remote.clone(), options);
    vfs.set_invalidate(told.clone());
    vfs
}

/// Calls an operation until it need not wait any more, as a door does.
pub(crate) fn wait<T>(operation: impl Fn() -> Reply<T>) -> Reply<T> {
    for _ in 0..100 {
        match operation() {
            Err(Stop::Wait(wait)) => block_on(wait.0)?,
            other => return other,
        }
    }
    panic!("it waits for ever");
}

/// The error of an answer.
pub(crate) fn errno<T: std::fmt::Debug>(reply: Reply<T>) -> ouro_vfs::Errno {
    match reply {
        Err(Stop::Errno(errno)) => errno,
        other => panic!("no error: {other:?}"),
    }
}

/// A file that another device made.
pub(crate) fn made(counter: u32, kind: Kind, parent: FileId, text: &str, content: Option<Content>) -> FileDelta {
    let place = Place { parent, name: name(text) };
    let mut delta = FileDelta::new(FileId::new(DeviceNo(9), counter), kind, None);
    let at = place.clone();
    delta.placements.push(AddedPlacement { slot: 0, place, was: None, by_rule: false, removed: false });
    delta.content = content.map(|value| AddedContent { value: Some(value), at, by_rule: false });
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    delta.attributes = Some(Attributes { mode, mtime_ns: START_NS, ctime_ns: START_NS, rdev: 0, xattrs: Vec::new() });
    delta
}

/// Copies what a process has on the disk, as it is at this moment.
pub(crate) fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
