//! A folder as storage place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use ouro_core::port::Runtime;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::meter::{Kind, Meter};
use crate::remote::Place;
use crate::store::{TEMPORARY_PREFIX, check_range, is_torn_write};
use crate::{BoxFuture, Limits, ListedObject, RemoteError, Store, Usage, check_name, check_prefix};

/// How many names are tried for a temporary file.
const TEMPORARY_TRIES_MAX: usize = 1000;

/// A folder. Publishing is: temporary file, fsync, rename without replacing, fsync of the directory.
///
/// `std::fs` is used directly: OpenDAL's `fs` syncs a file but not its directory, and costs several times the CPU. The calls block, so they
/// run where the [`Runtime`] port runs blocking work; without one they run in the caller's task, which is right for tests and one-shot tools.
#[derive(Clone)]
pub(crate) struct DiskStore {
    folder: Arc<Folder>,
    runtime: Option<Arc<dyn Runtime>>,
}

struct Folder {
    root: PathBuf,
    remote: String,
    list_entries_max: usize,
    object_bytes_max: u64,
    temporary: AtomicU64,
    meter: Arc<Meter>,
}

impl DiskStore {
    pub(crate) fn new(root: PathBuf, remote: String, limits: &Limits, meter: Arc<Meter>) -> Self {
        let (list_entries_max, object_bytes_max) = (limits.list_entries_max, limits.object_bytes_max);
        let folder = Folder { root, remote, list_entries_max, object_bytes_max, temporary: AtomicU64::new(0), meter };
        Self { folder: Arc::new(folder), runtime: None }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, RemoteError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, RemoteError>> {
        let folder = Arc::clone(&self.folder);
        let Some(runtime) = self.runtime.clone() else { return Box::pin(async move { work(&folder) }) };
        Box::pin(async move {
            let (sender, receiver) = futures::channel::oneshot::channel();
            let remote = folder.remote.clone();
            // Nobody listens any more when the caller dropped its future; the work is done all the same.
            runtime.blocking(Box::new(move || drop(sender.send(work(&folder))))).await;
            receiver.await.unwrap_or_else(|_| {
                Err(RemoteError::Other { remote, reason: "the work was given up".to_owned(), retryable: true })
            })
        })
    }
}

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Turns an error of the operating system into ours.
    fn error(&self, error: &io::Error) -> RemoteError {
        let remote = self.remote.clone();
        let reason = error.to_string();
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ROFS) => RemoteError::ReadOnly { remote },
            Some(Errno::ACCESS | Errno::PERM) => RemoteError::Denied { remote, reason },
            Some(Errno::NOSPC | Errno::DQUOT) => RemoteError::Full { remote },
            Some(
                Errno::STALE | Errno::NOTCONN | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::TIMEDOUT | Errno::NODEV,
            ) => RemoteError::Unreachable { remote, reason, timed_out: true },
            Some(Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE) => {
                RemoteError::Other { remote, reason, retryable: true }
            }
            _ => RemoteError::Other { remote, reason, retryable: false },
        }
    }

    /// What "not found" means: the object's absence only if the folder itself is there; else a disk is not plugged in.
    fn absent<T>(&self) -> Result<Option<T>, RemoteError> {
        match fs::metadata(&self.root) {
            Ok(metadata) if metadata.is_dir() => Ok(None),
            Ok(_) => Err(self.missing("it is not a folder")),
            Err(error) if is_absence(&error) => Err(self.missing("the folder is not there; is its disk connected?")),
            Err(error) => Err(self.error(&error)),
        }
    }

    fn missing(&self, reason: &str) -> RemoteError {
        RemoteError::Unreachable { remote: self.remote.clone(), reason: reason.to_owned(), timed_out: true }
    }

    fn read(&self, name: &str, range: Option<(u64, u64)>) -> Result<Option<Bytes>, RemoteError> {
        self.meter.request(Kind::Get);
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return self.absent(),
            Err(error) => return Err(self.error(&error)),
        };
        let metadata = file.metadata().map_err(|error| self.error(&error))?;
        if metadata.is_dir() {
            return Ok(None);
        }
        let (offset, len) = range.unwrap_or((0, metadata.len()));
        if len > self.object_bytes_max {
            let reason = format!("{name} is larger than {} bytes", self.object_bytes_max);
            return Err(RemoteError::Other { remote: self.remote.clone(), reason, retryable: false });
        }
        // A missing rest is found by the length first: a hint may ask for far more than there is.
        if metadata.len() < offset + len {
            return Err(RemoteError::Torn { name: name.to_owned(), wanted: offset + len });
        }
        let mut bytes = vec![0; len as usize];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(RemoteError::Torn { name: name.to_owned(), wanted: offset + len });
            }
            Err(error) => return Err(self.error(&error)),
        }
        self.meter.received(bytes.len());
        Ok(Some(bytes.into()))
    }

    /// Makes the directories above an object, each durable in its parent. Never the root: where that is missing, so is its disk.
    fn make_directories(&self, directory: &Path) -> Result<(), RemoteError> {
        if directory == self.root {
            return self.absent::<()>().map(|_| ());
        }
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_directories(parent(directory))?;
                match fs::create_dir(directory) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(self.error(&error)),
                    _ => {}
                }
            }
            Err(error) => return Err(self.error(&error)),
        }
        self.sync_directory(parent(directory))
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), RemoteError> {
        match File::open(directory).and_then(|file| file.sync_all()) {
            // Some network and FUSE file systems cannot sync a directory; there is nothing more to do there.
            Err(error)
                if matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::INVAL | Errno::NOTSUP)) =>
            {
                Ok(())
            }
            other => other.map_err(|error| self.error(&error)),
        }
    }

    /// Writes a synced temporary file beside `target`.
    fn write_temporary(&self, target: &Path, bytes: &[u8]) -> Result<PathBuf, RemoteError> {
        let directory = parent(target);
        for _ in 0..TEMPORARY_TRIES_MAX {
            let mut name = OsString::from(TEMPORARY_PREFIX);
            name.push(format!("{}-{}", std::process::id(), self.temporary.fetch_add(1, Relaxed)));
            let path = directory.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let written = write_synced(file, bytes);
                    if let Err(error) = written {
                        self.remove_temporary(&path);
                        return Err(self.error(&error));
                    }
                    return Ok(path);
                }
                // Left behind by an earlier process with the same number: take the next name.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => self.make_directories(directory)?,
                Err(error) => return Err(self.error(&error)),
            }
        }
        let reason = format!("no temporary file can be made in {}", directory.display());
        Err(RemoteError::Other { remote: self.remote.clone(), reason, retryable: false })
    }

    fn remove_temporary(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path) {
            tracing::debug!(%error, "a temporary file stays behind");
        }
    }

    fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.meter.request(Kind::Put);
        self.meter.sent(name, bytes.len());
        let target = self.path(name);
        let temporary = self.write_temporary(&target, bytes)?;
        match rename_without_replacing(&temporary, &target) {
            Ok(()) => return self.sync_directory(parent(&target)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                self.remove_temporary(&temporary);
                return Err(self.error(&error));
            }
        }
        let settled = fs::read(&target).map_err(|error| self.error(&error)).and_then(|found| {
            if found == bytes {
                self.remove_temporary(&temporary);
                Ok(())
            } else if is_torn_write(&found, bytes) {
                fs::rename(&temporary, &target).map_err(|error| self.error(&error))
            } else {
                Err(RemoteError::Taken { name: name.to_owned() })
            }
        });
        match settled {
            // Synced even when the bytes were there: the earlier call may have died before its own sync.
            Ok(()) => self.sync_directory(parent(&target)),
            Err(error) => {
                self.remove_temporary(&temporary);
                Err(error)
            }
        }
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.meter.request(Kind::Put);
        self.meter.sent(name, bytes.len());
        let target = self.path(name);
        let temporary = self.write_temporary(&target, bytes)?;
        if let Err(error) = fs::rename(&temporary, &target) {
            self.remove_temporary(&temporary);
            return Err(self.error(&error));
        }
        self.sync_directory(parent(&target))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.meter.request(Kind::Delete);
        match fs::remove_file(self.path(name)) {
            Ok(()) => Ok(()),
            Err(error) if is_absence(&error) => self.absent::<()>().map(|_| ()),
            Err(error) => Err(self.error(&error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, RemoteError> {
        self.meter.request(Kind::List);
        let mut found = Vec::new();
        let mut directories = vec![prefix.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = match fs::read_dir(self.path(&directory)) {
                Ok(entries) => entries,
                Err(error) if is_absence(&error) => {
                    self.absent::<()>()?;
                    continue;
                }
                Err(error) => return Err(self.error(&error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| self.error(&error))?;
                // What is not UTF-8 is not ours.
                let Ok(file_name) = entry.file_name().into_string() else { continue };
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if is_absence(&error) => continue,
                    Err(error) => return Err(self.error(&error)),
                };
                let name = format!("{directory}{file_name}");
                if metadata.is_dir() {
                    directories.push(format!("{name}/"));
                } else if metadata.is_file() && !file_name.starts_with(TEMPORARY_PREFIX) {
                    found.push(ListedObject { name, bytes: metadata.len() });
                }
                if found.len() + directories.len() > self.list_entries_max {
                    return Err(RemoteError::Unsupported {
                        remote: self.remote.clone(),
                        what: format!("listing more than {} objects", self.list_entries_max),
                    });
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl Store for DiskStore {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        let owned = name.to_owned();
        Box::pin(async move {
            check_name(name)?;
            self.run(move |folder| folder.read(&owned, None)).await
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        let owned = name.to_owned();
        Box::pin(async move {
            check_range(name, offset, len)?;
            self.run(move |folder| folder.read(&owned, Some((offset, len)))).await
        })
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        let owned = name.to_owned();
        Box::pin(async move {
            check_name(name)?;
            self.run(move |folder| folder.publish(&owned, &bytes)).await
        })
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        let owned = name.to_owned();
        Box::pin(async move {
            check_name(name)?;
            self.run(move |folder| folder.overwrite(&owned, &bytes)).await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        let owned = name.to_owned();
        Box::pin(async move {
            check_name(name)?;
            self.run(move |folder| folder.delete(&owned)).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        let owned = prefix.to_owned();
        Box::pin(async move {
            check_prefix(prefix)?;
            self.run(move |folder| folder.list(&owned)).await
        })
    }

    fn usage(&self) -> Usage {
        self.folder.meter.usage()
    }
}

impl Place for DiskStore {
    /// Makes the folder itself; nothing else ever does.
    fn prepare(&self) -> BoxFuture<'_, Result<(), RemoteError>> {
        self.run(|folder| fs::create_dir_all(&folder.root).map_err(|error| folder.error(&error)))
    }

    fn set_runtime(&mut self, runtime: Arc<dyn Runtime>) {
        self.runtime = Some(runtime);
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn write_synced(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_data()
}

/// Renames without replacing; falls back to a hard link, then to looking first, on file systems that lack it.
fn rename_without_replacing(source: &Path, target: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, source, CWD, target, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        other => return Ok(other?),
    }
    match fs::hard_link(source, target) {
        Ok(()) => return fs::remove_file(source),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
    }
    if fs::symlink_metadata(target).is_ok() { Err(ErrorKind::AlreadyExists.into()) } else { fs::rename(source, target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_says_what_to_do() {
        let store = DiskStore::new("/x".into(), "fs:///x".to_owned(), &Limits::default(), Arc::default());
        let of = |errno: Errno| store.folder.error(&io::Error::from(errno));
        assert!(matches!(of(Errno::ROFS), RemoteError::ReadOnly { .. }));
        assert!(matches!(of(Errno::ACCESS), RemoteError::Denied { .. }));
        assert!(matches!(of(Errno::PERM), RemoteError::Denied { .. }));
        assert!(matches!(of(Errno::NOSPC), RemoteError::Full { .. }));
        assert!(matches!(of(Errno::DQUOT), RemoteError::Full { .. }));
        assert!(matches!(of(Errno::STALE), RemoteError::Unreachable { .. }));
        assert!(matches!(of(Errno::IO), RemoteError::Other { retryable: false, .. }));
    }
}
