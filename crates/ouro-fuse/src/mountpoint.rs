//! The directory a mount is made on: whether it can serve, and how a dead mount on it is cleared away.

use crate::attach;
use crate::error::MountError;
use crate::mountinfo::{self, TYPE, lies_in};
use rustix::io::Errno as SystemErrno;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Permission bits of a mount point while nothing is mounted: nothing can be written under the mount by mistake.
pub(crate) const BARE_MODE: u32 = 0o555;

/// Mounts that may lie dead on top of each other at one place and are cleared in one go.
const DEAD_MOUNTS_MAX: usize = 16;

/// Says whether a mount can be made at `path`, and makes the directory (mode 0555) if there is none.
///
/// A mount must neither contain one of the folders `must_not_contain` (the program's own state: it would wait for itself) nor lie in one.
/// Nothing else is changed. A dead mount of ours is not cleared here: call [`recover_dead_mount`] before.
///
/// # Errors
///
/// [`MountError::NotEmpty`], [`MountError::AlreadyMounted`], [`MountError::Contains`], [`MountError::Inside`],
/// [`MountError::NotDirectory`], and [`MountError::Path`] when the system refuses to say or to make it.
pub fn check_mountpoint(path: &Path, must_not_contain: &[PathBuf]) -> Result<(), MountError> {
    let path = resolve(path)?;
    for folder in must_not_contain {
        let folder = resolve(folder)?;
        if lies_in(&folder, &path) {
            return Err(MountError::Contains { path, inner: folder });
        }
        if lies_in(&path, &folder) {
            return Err(MountError::Inside { path, outer: folder });
        }
    }
    if let Some(line) = mounted_at(&path)? {
        return Err(MountError::AlreadyMounted { path, by: line.label() });
    }
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(&path),
        Err(source) => return Err(MountError::Path { what: "cannot look at", path, source }),
    };
    if !metadata.is_dir() {
        return Err(MountError::NotDirectory { path });
    }
    let first = std::fs::read_dir(&path).and_then(|mut entries| entries.next().transpose());
    match first {
        Ok(None) => Ok(()),
        Ok(Some(entry)) => {
            let example = entry.file_name().to_string_lossy().into_owned();
            let aside = free_name_beside(&path);
            Err(MountError::NotEmpty { path, example, aside })
        }
        Err(source) => Err(MountError::Path { what: "cannot list", path, source }),
    }
}

/// Clears a mount of ours whose process is gone ("transport endpoint is not connected"), so that `path` can be mounted again.
///
/// Returns whether there was one. A living mount is left alone, whoever made it.
///
/// # Errors
///
/// [`MountError::ForeignDead`] if the dead mount is not ours; [`MountError::Unmount`] if it cannot be taken down.
pub fn recover_dead_mount(path: &Path) -> Result<bool, MountError> {
    let path = resolve(path)?;
    let mut recovered = false;
    for _ in 0..DEAD_MOUNTS_MAX {
        let Some(line) = mounted_at(&path)? else {
            return Ok(recovered);
        };
        if !line.fs_type.starts_with("fuse") || !is_dead(&path) {
            return Ok(recovered);
        }
        if line.fs_type != TYPE {
            return Err(MountError::ForeignDead { path, by: line.label() });
        }
        attach::detach(&path, true)?;
        recovered = true;
    }
    Ok(recovered)
}

/// Whether the process behind the mount is gone. Asks for the free space: that is never answered from the kernel's cache, unlike a stat.
fn is_dead(path: &Path) -> bool {
    matches!(rustix::fs::statfs(path), Err(SystemErrno::NOTCONN | SystemErrno::CONNABORTED))
}

fn mounted_at(path: &Path) -> Result<Option<mountinfo::MountLine>, MountError> {
    mountinfo::at(path).map_err(|source| MountError::Path {
        what: "cannot read",
        path: "/proc/self/mountinfo".into(),
        source,
    })
}

fn make(path: &Path) -> Result<(), MountError> {
    let made = match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent),
        None => Ok(()),
    };
    made.and_then(|()| std::fs::DirBuilder::new().mode(BARE_MODE).create(path)).map_err(|source| MountError::Path {
        what: "cannot make",
        path: path.to_path_buf(),
        source,
    })
}

/// The path without symlinks, as [`Mount::path`](crate::Mount::path) will say it. The last component is not looked into (it may be a dead mount)
/// unless it is a symlink; what does not exist yet keeps the name it was given.
///
/// # Errors
///
/// [`MountError::Path`].
pub fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    let failed = |source| MountError::Path { what: "cannot resolve", path: path.to_path_buf(), source };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let is_link = std::fs::symlink_metadata(&absolute).is_ok_and(|metadata| metadata.is_symlink());
    let plain = absolute.components().next_back().is_some_and(|last| matches!(last, std::path::Component::Normal(_)));
    if is_link || !plain {
        return absolute.canonicalize().map_err(failed);
    }
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute);
    };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(resolve(parent)?.join(name)),
        Err(source) => Err(failed(source)),
    }
}

/// A name beside `path` that nothing bears yet, for moving its contents aside.
fn free_name_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_os_string();
    let numbered = |number: u32| {
        let mut candidate = name.clone();
        candidate.push(if number == 1 { ".before-ourobox".to_owned() } else { format!(".before-ourobox-{number}") });
        path.with_file_name(candidate)
    };
    (1..1000)
        .map(numbered)
        .find(|candidate| std::fs::symlink_metadata(candidate).is_err())
        .unwrap_or_else(|| numbered(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let guard = tempfile::tempdir().expect("a temporary folder");
        let path = guard.path().canonicalize().expect("it exists");
        (guard, path)
    }

    #[test]
    fn a_missing_mountpoint_is_made_unwritable_with_its_parents() {
        let (_guard, base) = folder();
        let path = base.join("new/Box");
        check_mountpoint(&path, &[]).expect("it can be made");
        assert_eq!(path.metadata().expect("it is there").mode() & 0o7777, BARE_MODE);
        check_mountpoint(&path, &[]).expect("an empty folder serves");
    }

    #[test]
    fn a_folder_with_files_is_refused_and_a_place_to_move_them_to_is_named() {
        let (_guard, base) = folder();
        let path = base.join("Box");
        std::fs::create_dir(&path).expect("made");
        std::fs::write(path.join("letter.txt"), "x").expect("written");
        std::fs::create_dir(base.join("Box.before-ourobox")).expect("made");
        let error = check_mountpoint(&path, &[]).expect_err("it is not empty");
        let MountError::NotEmpty { example, aside, .. } = &error else { panic!("{error}") };
        assert_eq!(example, "letter.txt");
        assert_eq!(aside, &base.join("Box.before-ourobox-2"));
        assert!(error.to_string().contains("move what is in it aside"), "{error}");
    }

    #[test]
    fn a_file_is_no_mountpoint() {
        let (_guard, base) = folder();
        std::fs::write(base.join("file"), "x").expect("written");
        let error = check_mountpoint(&base.join("file"), &[]).expect_err("a file");
        assert!(matches!(error, MountError::NotDirectory { .. }), "{error}");
    }

    #[test]
    fn a_mountpoint_may_neither_hide_the_cache_nor_lie_in_it_even_through_a_symlink() {
        let (_guard, base) = folder();
        let cache = base.join("state/cache");
        std::fs::create_dir_all(&cache).expect("made");
        symlink(&base, base.join("state/way-round")).expect("linked");
        for outer in [base.clone(), base.join("state"), base.join("state/way-round/state")] {
            let error = check_mountpoint(&outer, std::slice::from_ref(&cache)).expect_err("it contains the cache");
            assert!(matches!(error, MountError::Contains { .. }), "{error}");
        }
        let error = check_mountpoint(&cache.join("Box"), &[base.join("state")]).expect_err("it lies in the cache");
        assert!(matches!(error, MountError::Inside { .. }), "{error}");
        assert!(!cache.join("Box").exists(), "nothing is made for a refused mount point");
        check_mountpoint(&base.join("Box"), &[cache]).expect("beside the cache is fine");
    }

    #[test]
    fn a_place_where_something_is_mounted_is_refused() {
        let error = check_mountpoint(Path::new("/proc"), &[]).expect_err("procfs is there");
        let MountError::AlreadyMounted { by, .. } = &error else { panic!("{error}") };
        assert!(by.starts_with("proc"), "{by}");
    }

    #[test]
    fn a_place_without_a_dead_mount_needs_no_recovery() {
        let (_guard, base) = folder();
        assert!(!recover_dead_mount(&base.join("nothing there")).expect("nothing to do"));
        assert!(!recover_dead_mount(Path::new("/proc")).expect("alive and not ours"));
    }
}
