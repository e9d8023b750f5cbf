//! The mounts of one engine.

use super::blocking;
use crate::server::Turn;
use ouro_engine::Engine;
use ouro_engine::api::{Failure, FailureKind, MountRequest, Response};
use ouro_fuse::{
    Mount, MountError, MountOptions, Unmounted, check_mountpoint, mount, recover_dead_mount, resolve_mountpoint,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How often an unmount is tried again while something uses the mount.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// How long the kernel and the disk may take for one attempt: then the asker is told, and it goes on.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(60);

/// How long an unmount waits for those who use the mount.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Somebody asked for it and can close what is open: one second, then it stays mounted.
    Short,
    /// The engine ends: five seconds, then it is taken out of the tree and ends with its last user, or with this process.
    ThenLazily,
}

impl Patience {
    fn time(self) -> Duration {
        match self {
            Patience::Short => Duration::from_secs(1),
            Patience::ThenLazily => Duration::from_secs(5),
        }
    }
}

/// What is mounted by this process.
pub(super) struct Mounts {
    engine: Arc<Engine>,
    turn: Arc<Turn>,
    /// What a mount must neither contain nor lie in.
    own_folders: Vec<PathBuf>,
    mounted: Mutex<BTreeMap<PathBuf, Arc<Mount>>>,
    /// Counts every mount and unmount.
    changes: watch::Sender<u64>,
}

impl Mounts {
    pub(super) fn new(engine: Arc<Engine>, turn: Arc<Turn>, own_folders: Vec<PathBuf>) -> Mounts {
        Mounts { engine, turn, own_folders, mounted: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Changes what is mounted, and writes it down.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, Arc<Mount>>) -> T) -> T {
        let mut mounted = self.mounted.lock();
        let result = change(&mut mounted);
        self.turn.note(&mounted.values().filter_map(|mount| mount.connection()).collect::<Vec<_>>());
        result
    }

    /// Mounts boxes. Blocks.
    pub(super) fn mount(self: &Arc<Self>, request: &MountRequest) -> Response {
        match self.try_mount(request) {
            Ok(mountpoint) => Response::Mounted { mountpoint },
            Err(failure) => Response::Failed(failure),
        }
    }

    fn try_mount(self: &Arc<Self>, request: &MountRequest) -> Result<PathBuf, Failure> {
        let path = resolve_mountpoint(&request.mountpoint).map_err(failure)?;
        if recover_dead_mount(&path).map_err(failure)? {
            tracing::info!(mountpoint = %path.display(), "cleared the mount of an engine that died");
        }
        check_mountpoint(&path, &self.own_folders).map_err(failure)?;
        let options = MountOptions {
            allow_other: request.allow_other,
            default_permissions: request.default_permissions,
            ..MountOptions::new(&path)
        };
        let vfs = self.engine.attach(&request.boxes, &path, options.vfs_options(self.node_key()))?;
        let mounted = match mount(vfs, &options, self.engine.runtime()) {
            Ok(mounted) => Arc::new(mounted),
            Err(error) => {
                self.engine.detach(&path)?;
                return Err(failure(error));
            }
        };
        self.watch(&path, &mounted);
        self.change(|all| all.insert(path.clone(), mounted));
        self.changes.send_modify(|count| *count += 1);
        Ok(path)
    }

    /// The key of inode numbers that are hashes: the same for the same installation, so that they survive remounts.
    fn node_key(&self) -> [u8; 32] {
        let data = self.own_folders.iter().map(|folder| folder.as_os_str().as_bytes()).collect::<Vec<_>>().join(&b'\0');
        blake3::derive_key("ourobox 2026-11-22 inode numbers of one installation", &data)
    }

    /// Cleans up after a mount whenever it ends, whoever ended it.
    fn watch(self: &Arc<Self>, path: &Path, mounted: &Mount) {
        let (mounts, path, ended) = (Arc::clone(self), path.to_owned(), mounted.on_unmounted());
        let runtime = self.engine.runtime();
        let clean = {
            let runtime = Arc::clone(&runtime);
            async move {
                ended.await;
                let forget = move || mounts.forget(&path);
                runtime.blocking(Box::new(forget)).await;
            }
        };
        runtime.spawn(Box::pin(clean));
    }

    /// Forgets a mount that has ended, once. Blocks until what was written through it is durable here.
    fn forget(&self, path: &Path) {
        let ended = self.change(|all| {
            let ended = all.get(path).is_some_and(|mount| mount.is_unmounted());
            if ended { all.remove(path) } else { None }
        });
        if ended.is_none() {
            return;
        }
        if let Err(failure) = self.engine.detach(path) {
            tracing::error!(message = failure.message, "what was written last may not be durable");
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Takes down what is mounted at `path`.
    pub(super) async fn unmount(self: &Arc<Self>, path: &Path, patience: Patience) -> Response {
        let path = match resolve_mountpoint(path) {
            Ok(path) => path,
            Err(error) => return Response::Failed(failure(error)),
        };
        let Some(mounted) = self.mounted.lock().get(&path).cloned() else {
            return clear_dead(path).await;
        };
        let shown = path.clone();
        let deadline = Instant::now() + patience.time();
        let mut ticks = interval(TRY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (tried, mounts, path) = (Arc::clone(&mounted), Arc::clone(self), path.clone());
            let last = Instant::now() >= deadline;
            let lazily = last && patience == Patience::ThenLazily;
            let attempt = blocking(move || {
                let outcome = if lazily {
                    tried.unmount_lazily().map(|()| Unmounted::HeldElsewhere)
                } else {
                    tried.try_unmount()
                };
                match outcome {
                    Ok(Unmounted::Ended) => {
                        mounts.forget(&path);
                        Response::Done
                    }
                    Ok(Unmounted::HeldElsewhere) => mounts.let_go(&path),
                    Err(MountError::Busy { path }) if last => Response::Failed(busy(&path, &tried.users())),
                    Err(error) => Response::Failed(failure(error)),
                }
            });
            match timeout(ATTEMPT_WITHIN, attempt).await {
                Ok(Response::Failed(busy)) if busy.kind == FailureKind::Retry && !last => {}
                Ok(response) => return response,
                Err(_) => return Response::Failed(slow(&shown)),
            }
        }
    }

    /// Forgets a mount that is out of the tree, though somebody who cannot be seen from here still has it: what was written is durable, and it
    /// ends with this process at the latest.
    fn let_go(&self, path: &Path) -> Response {
        if self.change(|all| all.remove(path)).is_none() {
            return Response::Done;
        }
        tracing::warn!(mountpoint = %path.display(), "still in use, perhaps by a container: it ends with its last user");
        let flushed = self.engine.detach(path);
        self.changes.send_modify(|count| *count += 1);
        flushed.map_or_else(Response::Failed, |()| Response::Done)
    }

    /// Takes everything down, at last lazily; what cannot be taken down is told to the log.
    pub(super) async fn end_all(self: &Arc<Self>) {
        let paths: Vec<PathBuf> = self.mounted.lock().keys().cloned().collect();
        for path in paths {
            if let Response::Failed(failure) = self.unmount(&path, Patience::ThenLazily).await {
                tracing::error!(mountpoint = %path.display(), message = failure.message, "a mount stays behind");
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mounted.lock().is_empty()
    }

    /// Resolves when something was mounted for the first time.
    pub(super) async fn first(&self) {
        // An error would be the sender falling, which is this object.
        let mut changes = self.changes.subscribe();
        drop(changes.wait_for(|&count| count > 0).await);
    }

    /// Resolves at the next mount or unmount after this call.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.changes.subscribe();
        async move {
            drop(changes.changed().await);
        }
    }
}

/// What can be done about a place where this engine has mounted nothing.
async fn clear_dead(path: PathBuf) -> Response {
    blocking(move || match recover_dead_mount(&path) {
        Ok(true) => Response::Done,
        Ok(false) => {
            let message = format!("nothing of Ourobox is mounted at {}", path.display());
            Response::Failed(Failure { kind: FailureKind::NeedsUser, message })
        }
        Err(error) => Response::Failed(failure(error)),
    })
    .await
}

/// Who has to be asked to let go of a mount.
fn busy(path: &Path, users: &[String]) -> Failure {
    let by = if users.is_empty() { "a program of another user".to_owned() } else { users.join(", ") };
    let message = format!("{} is still in use by {by}: close what is open there and try again", path.display());
    Failure { kind: FailureKind::Retry, message }
}

fn slow(path: &Path) -> Failure {
    let seconds = ATTEMPT_WITHIN.as_secs();
    let message = format!(
        "unmounting {} has taken {seconds} seconds and goes on: the disk is slow, or a program does not let go; the log says more",
        path.display()
    );
    Failure { kind: FailureKind::NeedsUser, message }
}

/// A mount's error as what to do about it.
fn failure(error: MountError) -> Failure {
    let kind = match &error {
        MountError::Busy { .. } => FailureKind::Retry,
        MountError::AlreadyMounted { .. } | MountError::NotEmpty { .. } | MountError::ForeignDead { .. } => {
            FailureKind::Conflict
        }
        MountError::Device { .. } | MountError::HelperMissing { .. } => FailureKind::Unsupported,
        MountError::NotDirectory { .. }
        | MountError::Contains { .. }
        | MountError::Inside { .. }
        | MountError::Path { .. }
        | MountError::BadSource { .. }
        | MountError::Helper { .. }
        | MountError::Kernel { .. }
        | MountError::Abort { .. }
        | MountError::Unmount { .. } => FailureKind::NeedsUser,
    };
    Failure { kind, message: error.to_string() }
}
