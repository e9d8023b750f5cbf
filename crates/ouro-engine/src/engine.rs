//! The engine: boxes, runtime and lock.

use crate::api::{Failure, FailureKind, Progress, Request, Response};
use crate::boxes::OpenBox;
use crate::config::{BoxConfig, BoxSecrets, create_private};
use crate::connect::{self, Wanted};
use crate::fetcher::{DEADLINE_MS, Fetcher};
use crate::ports::{SystemClock, SystemRng, TokioRuntime};
use ouro_core::name::Name;
use ouro_core::port::Runtime;
use ouro_local::volume::VolumeOptions;
use ouro_repo::Ports;
use ouro_vfs::{Fetch, Mounted, Vfs, VfsOptions};
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Notify;

/// Async worker threads: the work is in the kernel, in SQLite and in compression, which have threads of their own.
const WORKERS: usize = 2;
/// Threads for blocking work. Idle ones end after seconds.
const BLOCKING_MAX: usize = 64;

/// Where the engine keeps things.
#[derive(Clone, Debug)]
pub struct EngineDirs {
    /// What must not be lost: boxes, journals, secrets.
    pub data: PathBuf,
    /// What can be fetched again.
    pub cache: PathBuf,
    /// What the user wrote.
    pub config: PathBuf,
}

/// Reports progress; any thread.
pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// A mounted view.
pub(crate) struct Attached {
    pub(crate) mountpoint: PathBuf,
    pub(crate) boxes: Vec<String>,
}

/// All boxes of one user on this device. One engine per data directory.
pub struct Engine {
    pub(crate) dirs: EngineDirs,
    pub(crate) ports: Ports,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    handle: tokio::runtime::Handle,
    pub(crate) boxes: Mutex<Vec<Arc<OpenBox>>>,
    pub(crate) attached: Mutex<Vec<Attached>>,
    /// Held while a branch is opened.
    pub(crate) opening: Mutex<()>,
    options: VolumeOptions,
    /// Rung when what is to be kept may have changed.
    pub(crate) keeping: Arc<Notify>,
    deadline_ms: u64,
    /// By the steady clock, in nanoseconds.
    pub(crate) started_ns: u64,
    /// Held for as long as the engine lives.
    _lock: File,
}

impl Engine {
    /// Opens every box of this device, also without a network, and starts syncing.
    ///
    /// # Errors
    /// If another engine runs on the same directories; a damaged box.
    pub fn start(dirs: EngineDirs) -> Result<Arc<Engine>, Failure> {
        for folder in [&dirs.data, &dirs.cache, &dirs.config] {
            create_private(folder).map_err(|error| Failure::io(folder, &error))?;
        }
        let lock = lock(&dirs.data)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING_MAX)
            .thread_name("ourobox")
            .enable_all()
            .build()
            .map_err(|error| Failure::needs_user(format!("threads cannot be started: {error}")))?;
        let handle = runtime.handle().clone();
        let ports = Ports {
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(SystemRng),
            runtime: Arc::new(TokioRuntime::new(handle.clone())),
        };
        let engine = Arc::new(Engine {
            started_ns: ports.clock.monotonic_ns(),
            options: volume_options(),
            keeping: Arc::default(),
            deadline_ms: number_from_env("OUROBOX_READ_DEADLINE_MS").unwrap_or(DEADLINE_MS),
            dirs,
            ports,
            runtime: Mutex::new(Some(runtime)),
            handle,
            boxes: Mutex::default(),
            attached: Mutex::default(),
            opening: Mutex::default(),
            _lock: lock,
        });
        for name in engine.dirs.box_names()? {
            let opened = engine.open_box(&name)?;
            opened.sync.run();
            if opened.config.branch.is_none() {
                opened.adopt_cache(&engine.ports.runtime);
            }
        }
        engine.keep(Arc::clone(&engine.keeping));
        Ok(engine)
    }

    fn open_box(&self, name: &str) -> Result<Arc<OpenBox>, Failure> {
        let (config, secrets) = self.dirs.load_box(name)?;
        let opened = self.open_configured(name, config, &secrets)?;
        self.serve_box(&opened);
        Ok(opened)
    }

    /// Opens a box that need not be written down yet.
    pub(crate) fn open_configured(
        &self,
        name: &str,
        config: BoxConfig,
        secrets: &BoxSecrets,
    ) -> Result<Arc<OpenBox>, Failure> {
        let _inside = self.handle.enter();
        let beside = config.branch.as_ref().map(|branch| self.find_box(&branch.of)).transpose()?;
        let given = (config, secrets);
        Ok(Arc::new(OpenBox::open(
            &self.dirs,
            name,
            given,
            beside.as_deref(),
            (&self.ports, &self.handle),
            self.options,
        )?))
    }

    /// Takes a box among those that are asked and looked after.
    pub(crate) fn serve_box(&self, opened: &Arc<OpenBox>) {
        let keeping = Arc::clone(&self.keeping);
        opened.volume.on_change(Box::new(move |_| keeping.notify_one()));
        self.boxes.lock().push(Arc::clone(opened));
    }

    /// Carries out a request; blocks until it is done. Mounting is the host's: see [`Engine::attach`].
    pub fn call(&self, request: Request, progress: Arc<dyn Fn(Progress) + Send + Sync>) -> Response {
        match self.carry_out(request, &progress) {
            Ok(response) => response,
            Err(failure) => Response::Failed(failure),
        }
    }

    fn carry_out(&self, request: Request, progress: &OnProgress) -> Result<Response, Failure> {
        match request {
            Request::Init(request) => self.connect(request.into()),
            Request::Join(request) => self.connect(request.into()),
            Request::Mount(_) | Request::Unmount { .. } | Request::Events { .. } | Request::Stop => {
                Err(Failure::new(FailureKind::Bug, "this belongs to the process that hosts the engine"))
            }
            Request::Status { paths } => self.status(&paths),
            Request::List { path } => self.list(&path),
            Request::Wait { path, timeout_seconds } => self.wait(path.as_deref(), timeout_seconds, progress),
            Request::Pin { paths, pin } => self.pin(&paths, pin, progress),
            Request::Free { paths } => self.free(&paths),
            Request::Import { source, into, box_name } => {
                self.import(&source, into.as_deref(), box_name.as_deref(), progress)
            }
            Request::Log { path, name, limit } => self.log(path.as_deref(), name.as_deref(), limit),
            Request::Diff { from, to, path, name } => self.diff(&from, &to, path.as_deref(), name.as_deref()),
            Request::Conflicts { path, name } => self.conflicts(path.as_deref(), name.as_deref(), progress),
            Request::Resolve { path, keep } => self.resolve(&path, keep),
            Request::Restore { path, at, to, name } => {
                self.restore(path.as_deref(), &at, to.as_deref(), name.as_deref())
            }
            Request::Snapshot { message, path, name } => self.snapshot(message, path.as_deref(), name.as_deref()),
            Request::Branch { branch, at, name } => self.branch(&branch, at.as_deref(), name.as_deref()),
            Request::EndBranch { branch, discard, name } => self.end_branch(&branch, discard, name.as_deref()),
            Request::Branches { name } => self.branches(name.as_deref()),
            Request::Merge { branch, preview, name } => self.merge(&branch, preview, name.as_deref()),
            Request::Stats { remote } => self.stats(remote),
            Request::Collect(request) => self.collect(&request),
            Request::Check { read_data, repair } => self.check(read_data, repair, progress),
            Request::Devices => self.devices(),
            Request::RemoveDevice { device, name, this } => self.remove_device(&device, name.as_deref(), this),
        }
    }

    fn connect(&self, wanted: Wanted) -> Result<Response, Failure> {
        let mut joined = self.handle.block_on(connect::connect(&self.dirs, &self.ports, wanted))?;
        let opened = match self.open_box(&joined.name) {
            Ok(opened) => opened,
            Err(failure) => {
                self.dirs.forget_box(&joined.name);
                return Err(failure);
            }
        };
        // The first look at the repository belongs to joining: the first mount then shows what is there.
        let sync = Arc::clone(&opened.sync);
        self.handle.block_on(async move {
            sync.begin().await?;
            sync.look().await?;
            sync.pull().await
        })?;
        if joined.created {
            opened.make_root()?;
        }
        opened.sync.run();
        joined.files = opened.files();
        Ok(Response::Joined(joined))
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    pub(crate) fn find_box(&self, name: &str) -> Result<Arc<OpenBox>, Failure> {
        let boxes = self.boxes.lock();
        boxes.iter().find(|b| b.name == name).cloned().ok_or_else(|| {
            let known: Vec<&str> = boxes.iter().map(|b| b.name.as_str()).collect();
            Failure::needs_user(match known.as_slice() {
                [] => "there is no box on this device yet: `ourobox init REMOTE` makes one".to_owned(),
                _ => format!("there is no box {name:?} here; there are: {}", known.join(", ")),
            })
        })
    }

    /// The boxes named, or the only one: its branches are meant only by name.
    pub(crate) fn choose(&self, names: &[String]) -> Result<Vec<Arc<OpenBox>>, Failure> {
        if !names.is_empty() {
            return names.iter().map(|name| self.find_box(name)).collect();
        }
        let boxes: Vec<_> = self.boxes.lock().iter().filter(|b| b.config.branch.is_none()).cloned().collect();
        match boxes.len() {
            1 => Ok(boxes),
            0 => Err(Failure::needs_user("there is no box on this device yet: `ourobox init REMOTE` makes one")),
            _ => {
                let known: Vec<&str> = boxes.iter().map(|b| b.name.as_str()).collect();
                Err(Failure::needs_user(format!(
                    "there are several boxes ({}): say which with --box",
                    known.join(", ")
                )))
            }
        }
    }

    /// The view of boxes to be mounted at a place: one alone, or several as folders.
    ///
    /// # Errors
    /// An unknown box; a box or a place that is mounted already.
    pub fn attach(&self, boxes: &[String], mountpoint: &Path, options: VfsOptions) -> Result<Arc<Vfs>, Failure> {
        // Held while they are chosen: what is chosen and not attached yet might be deleted.
        let mut attached = self.attached.lock();
        let chosen = self.choose(boxes)?;
        for one in &chosen {
            if let Some(other) = attached.iter().find(|a| a.boxes.contains(&one.name)) {
                return Err(Failure::new(
                    FailureKind::Conflict,
                    format!("box {:?} is mounted at {} already", one.name, other.mountpoint.display()),
                ));
            }
        }
        let mounted = chosen.iter().map(|one| {
            let name = Name::new(one.name.as_bytes());
            let name = name.map_err(|_| Failure::new(FailureKind::Bug, "a box has no proper name"))?;
            Ok(Mounted { name, volume: Arc::clone(&one.volume) })
        });
        let mounted = mounted.collect::<Result<Vec<_>, Failure>>()?;
        let fetcher = Fetcher {
            syncs: chosen.iter().map(|one| Arc::clone(&one.sync)).collect(),
            runtime: Arc::clone(&self.ports.runtime),
            deadline_ms: self.deadline_ms,
            prefetches: Arc::new(AtomicUsize::new(0)),
        };
        let vfs = Vfs::new(mounted, Arc::new(fetcher) as Arc<dyn Fetch>, options);
        attached.push(Attached {
            mountpoint: mountpoint.to_owned(),
            boxes: chosen.iter().map(|one| one.name.clone()).collect(),
        });
        Ok(vfs)
    }

    /// Forgets a view after it was unmounted, and makes everything written through it durable on this device.
    ///
    /// # Errors
    /// A failing journal.
    pub fn detach(&self, mountpoint: &Path) -> Result<(), Failure> {
        let removed = {
            let mut attached = self.attached.lock();
            let index = attached.iter().position(|a| a.mountpoint == mountpoint);
            index.map(|index| attached.remove(index))
        };
        for name in removed.iter().flat_map(|a| &a.boxes) {
            let opened = self.find_box(name)?;
            opened.volume.flush(true)?;
            opened.volume.blobs().flush()?;
        }
        Ok(())
    }

    /// Tasks, for doors.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.ports.runtime)
    }

    /// Directories that must not lie inside a mount, nor a mount inside them.
    pub fn cache_dirs(&self) -> Vec<PathBuf> {
        vec![self.dirs.data.clone(), self.dirs.cache.clone()]
    }

    /// Makes everything durable on this device and stops syncing.
    ///
    /// # Errors
    /// A failing journal; everything else is stopped all the same.
    pub fn shutdown(&self) -> Result<(), Failure> {
        let boxes = std::mem::take(&mut *self.boxes.lock());
        let mut outcome = Ok(());
        for one in &boxes {
            one.sync.stop();
            if let Err(error) = one.volume.flush(true) {
                outcome = Err(error.into());
            }
            if let Err(error) = one.volume.blobs().flush() {
                outcome = Err(error.into());
            }
        }
        drop(boxes);
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
        outcome
    }
}

/// One engine per data directory: the lock goes with the process.
fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("engine.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| Failure::io(&path, &error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::new(
            FailureKind::Conflict,
            format!("another engine runs on {}: end it, or set OUROBOX_HOME to another place", data.display()),
        )),
        Err(error) => Err(Failure::io(&path, &error.into())),
    }
}

fn volume_options() -> VolumeOptions {
    let default = VolumeOptions::default();
    VolumeOptions {
        cache_bytes_max: number_from_env("OUROBOX_CACHE_BYTES").unwrap_or(default.cache_bytes_max),
        free_bytes_min: number_from_env("OUROBOX_FREE_BYTES_MIN").unwrap_or(default.free_bytes_min),
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
