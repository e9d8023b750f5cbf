//! One mount, from making it to taking it down.

use crate::attach::{attach, detach};
use crate::carry::Carrier;
use crate::connection::Connection;
use crate::door::Door;
use crate::error::MountError;
use crate::mountinfo;
use crate::mountpoint::resolve;
use crate::notify::KernelCaches;
use crate::options::MountOptions;
use crate::processes::{SystemProcesses, users_of};
use fuser::{BackgroundSession, Config, Session, SessionACL};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, Shared, select};
use ouro_core::port::{BoxFuture, Runtime};
use ouro_vfs::Vfs;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mounted file system. Dropping it takes the mount out of the tree at once; programs that still use it keep it alive until they are done.
pub struct Mount {
    path: PathBuf,
    /// The device number it was given: tells it from a mount that somebody made over it.
    device: Option<String>,
    session: Option<BackgroundSession>,
    runtime: Arc<dyn Runtime>,
    closed: Shared<oneshot::Receiver<()>>,
}

/// How long the kernel may take to end a mount that is out of the tree, in milliseconds.
pub const END_WITHIN_MS: u64 = 5_000;

/// What became of a mount that was taken out of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It has ended: no request comes any more.
    Ended,
    /// Somebody in another mount namespace still has it.
    HeldElsewhere,
}

/// Mounts `vfs` where `options` say, and serves it on threads of its own until it is unmounted, from here or from outside.
///
/// The mount point must have passed [`check_mountpoint`](crate::check_mountpoint). When this returns, the mount answers. `runtime` carries
/// what has to wait and what may block.
///
/// # Errors
///
/// [`MountError::Device`], [`MountError::HelperMissing`], [`MountError::Helper`] and [`MountError::Kernel`] when the system does not let us
/// mount; nothing is left mounted then.
pub fn mount(vfs: Arc<Vfs>, options: &MountOptions, runtime: Arc<dyn Runtime>) -> Result<Mount, MountError> {
    let path = resolve(&options.mountpoint)?;
    let failed = |source| {
        if let Err(error) = detach(&path, true) {
            tracing::warn!(%error, "a mount that failed half-way stays behind");
        }
        MountError::Kernel { path: path.clone(), source }
    };
    let connection = attach(&path, options)?;
    let (door, closed) = Door::new(Carrier { vfs: Arc::clone(&vfs), runtime: Arc::clone(&runtime) });
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(options.thread_count());
    let session = Session::from_fd(door, connection, acl, config).map_err(failed)?;
    vfs.set_processes(Arc::new(SystemProcesses));
    vfs.set_invalidate(Arc::new(KernelCaches::new(session.notifier(), Arc::clone(&runtime))));
    let session = session.spawn().map_err(failed)?;
    let device = mountinfo::at(&path).ok().flatten().map(|line| line.device);
    tracing::info!(mountpoint = %path.display(), "mounted");
    Ok(Mount { path, device, session: Some(session), runtime, closed: closed.shared() })
}

impl Mount {
    /// Where it is mounted, without symlinks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its connection to the kernel, for [`Connection::abort`] by others if this process dies; `None` if it was gone at once.
    pub fn connection(&self) -> Option<Connection> {
        let device = self.device.clone()?;
        Some(Connection { device, mountpoint: self.path.clone() })
    }

    /// Takes the mount down if nobody uses it, and returns when its last request is answered, or after [`END_WITHIN_MS`]: then it is out
    /// of the tree here, and a copy of it in another mount namespace (a container, a sandboxed program) keeps it alive until it goes too, or
    /// this process ends.
    ///
    /// # Errors
    ///
    /// [`MountError::Busy`] if it is in use: then it stays as it is. [`MountError::Unmount`] if the system refuses.
    pub fn try_unmount(&self) -> Result<Unmounted, MountError> {
        self.detach(false)?;
        let patience = self.runtime.sleep(END_WITHIN_MS);
        match futures::executor::block_on(select(self.on_unmounted(), patience)) {
            Either::Left(_) => Ok(Unmounted::Ended),
            Either::Right(_) => Ok(Unmounted::HeldElsewhere),
        }
    }

    /// Programs that have files open in the mount or stand in one of its directories, as far as this user may know: at most
    /// [`USERS_MAX`](crate::USERS_MAX), as `name (process id)`.
    pub fn users(&self) -> Vec<String> {
        users_of(&self.path)
    }

    /// Takes the mount out of the tree at once, in use or not, and returns at once: it ends with its last user, or with this process.
    ///
    /// # Errors
    ///
    /// [`MountError::Unmount`] if the system refuses.
    pub fn unmount_lazily(&self) -> Result<(), MountError> {
        self.detach(true)
    }

    /// Takes the mount down and returns when its last request is answered. If it is in use, it is taken out of the tree instead and this
    /// returns at once: it ends with its last user, or with this process.
    ///
    /// # Errors
    ///
    /// [`MountError::Unmount`] if the system refuses.
    pub fn unmount(mut self) -> Result<(), MountError> {
        match self.detach(false) {
            Ok(()) => {}
            Err(MountError::Busy { path }) => {
                tracing::info!(mountpoint = %path.display(), "still in use: it goes with its last user");
                return self.detach(true);
            }
            Err(error) => return Err(error),
        }
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        session.join().map_err(|source| MountError::Unmount { path: self.path.clone(), source })
    }

    /// Blocks until the mount has ended, whoever ended it.
    pub fn wait(&self) {
        futures::executor::block_on(self.on_unmounted());
    }

    /// Resolves when the mount has ended, whoever ended it.
    pub fn on_unmounted(&self) -> BoxFuture<'static, ()> {
        let closed = self.closed.clone();
        Box::pin(async move {
            // An error is the other end falling, which is all it ever does.
            let _ended = closed.await;
        })
    }

    /// Whether the mount has ended.
    pub fn is_unmounted(&self) -> bool {
        self.closed.clone().now_or_never().is_some()
    }

    /// Detaches this mount and no other that may stand in its place by now.
    fn detach(&self, lazy: bool) -> Result<(), MountError> {
        if self.is_unmounted() {
            return Ok(());
        }
        let on_top = mountinfo::at(&self.path).ok().flatten().map(|line| line.device);
        if on_top.is_none() || on_top != self.device {
            return Ok(());
        }
        detach(&self.path, lazy)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.detach(true) {
            tracing::warn!(mountpoint = %self.path.display(), %error, "the mount stays behind");
        }
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("path", &self.path).field("device", &self.device).finish_non_exhaustive()
    }
}
