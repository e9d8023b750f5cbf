//! A box on a temporary folder, mounted by the kernel.

use futures::channel::oneshot;
use futures::executor::block_on;
use ouro_core::content::{BlobRef, Content};
use ouro_core::delta::{AddedContent, AddedPlacement, Delta, FileDelta};
use ouro_core::id::{BlobId, DeviceNo, FileId, Hlc, RecordHash, Seq};
use ouro_core::name::Name;
use ouro_core::port::{BoxFuture, Clock, Runtime};
use ouro_core::row::Missing;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_core::tree::{self, NewNode, TreeParams};
use ouro_fuse::{Mount, MountOptions, check_mountpoint, mount, recover_dead_mount};
use ouro_local::volume::{Announced, Commit, Volume, VolumeOptions, VolumePorts};
use ouro_vfs::{Fetch, FetchError, Mounted, Vfs, VolumeNo};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The clocks and threads of this machine.
pub(crate) struct Machine;

impl Clock for Machine {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the port, for tests")]
    fn wall_ns(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        i64::try_from(since.as_nanos()).expect("before 2262")
    }
    fn monotonic_ns(&self) -> u64 {
        self.wall_ns() as u64
    }
}

impl Runtime for Machine {
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
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the port, for tests")]
    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        self.blocking(Box::new(move || std::thread::sleep(Duration::from_millis(millis))))
    }
}

/// What the remote holds. A blob that it does not hold never comes.
#[derive(Default)]
pub(crate) struct Remote {
    blobs: Mutex<BTreeMap<BlobId, Vec<u8>>>,
    volume: Mutex<Option<Arc<Volume>>>,
}

impl Fetch for Remote {
    fn nodes(&self, _: VolumeNo, _: Missing) -> BoxFuture<'static, Result<(), FetchError>> {
        Box::pin(async { Err(FetchError::Unreachable) })
    }
    fn blobs(&self, _: VolumeNo, blobs: Vec<BlobRef>, _: u32) -> BoxFuture<'static, Result<(), FetchError>> {
        let held = self.blobs.lock();
        let Some(volume) = self.volume.lock().clone() else {
            return Box::pin(std::future::pending());
        };
        for blob in &blobs {
            match held.get(&blob.id) {
                Some(bytes) => volume.blobs().put(blob.id, bytes).expect("room in the cache"),
                None => return Box::pin(std::future::pending()),
            }
        }
        Box::pin(async { Ok(()) })
    }
    fn prefetch(&self, _: VolumeNo, _: Vec<BlobRef>) {}
}

fn blob_id(bytes: &[u8]) -> BlobId {
    BlobId(*blake3::hash(bytes).as_bytes())
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a good name")
}

/// Whether this machine lets us mount. Where it does not, these tests say so and pass.
pub(crate) fn can_mount() -> bool {
    let possible = std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !possible {
        eprintln!("skipped: /dev/fuse cannot be opened here");
    }
    possible
}

/// A mounted box. Unmounts when dropped, also when a test fails.
pub(crate) struct World {
    pub(crate) mount: Option<Mount>,
    pub(crate) path: PathBuf,
    pub(crate) volume: Arc<Volume>,
    pub(crate) remote: Arc<Remote>,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|_| {})
    }

    pub(crate) fn with(choose: impl FnOnce(&mut MountOptions)) -> World {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().canonicalize().expect("it exists").join("mount");
        let volume = load(folder.path());
        let remote = Arc::new(Remote::default());
        *remote.volume.lock() = Some(Arc::clone(&volume));
        let mut options = MountOptions::new(&path);
        choose(&mut options);
        let mount = mount_at(&volume, &remote, &options);
        World { mount: Some(mount), path, volume, remote, folder }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Unmounts, ends the box in good order and mounts again what is on the disk.
    pub(crate) fn remount(mut self) -> World {
        self.mount.take().expect("mounted").unmount().expect("nobody uses it");
        self.volume.flush(true).expect("the disk works");
        let World { path, volume, remote, folder, .. } = self;
        *remote.volume.lock() = None;
        drop(volume);
        let volume = load(folder.path());
        *remote.volume.lock() = Some(Arc::clone(&volume));
        let mount = mount_at(&volume, &remote, &MountOptions::new(&path));
        World { mount: Some(mount), path, volume, remote, folder }
    }

    /// A file that another device made in the root; its bytes are on the remote, or nowhere if `held` is false.
    pub(crate) fn learn_file(&self, seq: u64, text: &str, bytes: &[u8], held: bool) {
        let chunks = bytes.chunks(64 * 1024).map(|part| {
            if held {
                self.remote.blobs.lock().insert(blob_id(part), part.to_vec());
            }
            BlobRef { id: blob_id(part), len: part.len() as u32, at: None }
        });
        self.learn(seq, Kind::File, FileId::ROOT, text, Some(Content::Chunks(chunks.collect())));
    }

    /// What another device made; returns its id.
    pub(crate) fn learn(&self, seq: u64, kind: Kind, parent: FileId, text: &str, content: Option<Content>) -> FileId {
        let place = Place { parent, name: name(text) };
        let id = FileId::new(DeviceNo(9), seq as u32 + 100);
        let mut file = FileDelta::new(id, kind, None);
        let at = place.clone();
        file.placements.push(AddedPlacement { slot: 0, place, was: None, by_rule: false, removed: false });
        file.content = content.map(|value| AddedContent { value: Some(value), at, by_rule: false });
        file.attributes = Some(Attributes { mode: 0o755, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: Vec::new() });
        let hlc = Hlc::from_millis((Machine.wall_ns() / 1_000_000) as u64);
        let parents = self.volume.heads();
        let delta = Delta { files: vec![file] };
        let (device, hash, message) = (DeviceNo(9), RecordHash([seq as u8; 32]), String::new());
        let commit = Commit { device, seq: Seq(seq), hash, hlc, parents, message, delta, checkpoint: None };
        self.volume.learn(&commit).expect("a good commit");
        id
    }

    /// Begins anew on what another device has committed.
    pub(crate) fn begin_anew_on(&self, other: &World) {
        let input = other.volume.checkpoint_input();
        let (cache, mut nodes) = (other.volume.nodes(), Vec::<NewNode>::new());
        let keep = &mut |node| nodes.push(node);
        let root = tree::update(cache, cache.params(), input.root.as_ref(), &input.changes, keep).expect("all is here");
        let encoded: Vec<_> = nodes.iter().map(|n| (n.reference.id, n.encode(&|_| None))).collect();
        self.volume.nodes().store().put_many(&encoded).expect("room on the disk");
        let checkpoint = Announced { root, covers: input.covers, digest: input.digest };
        self.volume.adopt(&checkpoint).expect("all is here");
    }
}

fn load(folder: &Path) -> Arc<Volume> {
    let (data, cache) = (folder.join("data"), folder.join("cache"));
    std::fs::create_dir_all(&data).expect("made");
    std::fs::create_dir_all(&cache).expect("made");
    let disk = Volume::disk(&cache).expect("a usable disk");
    let ports = VolumePorts { clock: Arc::new(Machine), runtime: Arc::new(Machine), disk };
    let params = TreeParams { node_key: [1; 32], salt: [2; 32] };
    let checks: (ouro_local::blobs::Verify, ouro_local::blobs::Keep) =
        (Arc::new(|id, bytes| blob_id(bytes) == *id), Arc::new(|_| false));
    let options = VolumeOptions { free_bytes_min: 0, ..VolumeOptions::default() };
    Volume::load(&data, &cache, DeviceNo(7), params, checks, ports, options).expect("a new or a sound box")
}

fn mount_at(volume: &Arc<Volume>, remote: &Arc<Remote>, options: &MountOptions) -> Mount {
    recover_dead_mount(&options.mountpoint).expect("nothing foreign there");
    check_mountpoint(&options.mountpoint, &[]).expect("a good mount point");
    let boxes = vec![Mounted { name: name("box"), volume: Arc::clone(volume) }];
    let vfs = Vfs::new(boxes, Arc::clone(remote) as Arc<dyn Fetch>, options.vfs_options([3; 32]));
    mount(vfs, options, Arc::new(Machine)).expect("it can be mounted")
}

/// Looks again and again, for at most ten seconds: for what the kernel is told beside the caller.
#[expect(clippy::disallowed_methods, reason = "the kernel gives no sign that it has taken a notice")]
pub(crate) fn soon(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within ten seconds: {what}");
}
