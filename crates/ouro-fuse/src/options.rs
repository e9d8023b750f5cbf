//! How a mount is made: what the user chooses, and what the kernel is told.

use crate::error::MountError;
use ouro_vfs::VfsOptions;
use std::path::PathBuf;

/// What can be chosen about one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Where; see [`check_mountpoint`](crate::check_mountpoint).
    pub mountpoint: PathBuf,
    /// The source shown by `findmnt` and `df`. No comma, backslash or control character.
    pub fsname: String,
    /// Lets other users in (needs root, or `user_allow_other` in /etc/fuse.conf). Implies `default_permissions`.
    pub allow_other: bool,
    /// Lets the kernel check permissions; costs one request more per created file. Without it the file system checks them itself.
    pub default_permissions: bool,
    /// No changes through this mount.
    pub read_only: bool,
    /// Threads that take requests from the kernel; at least 2 are used, so that one slow request does not stall the mount.
    pub threads: usize,
}

impl MountOptions {
    /// The usual single-user mount: the file system checks permissions itself, two threads.
    pub fn new(mountpoint: impl Into<PathBuf>) -> MountOptions {
        MountOptions {
            mountpoint: mountpoint.into(),
            fsname: "ourobox".to_owned(),
            allow_other: false,
            default_permissions: false,
            read_only: false,
            threads: THREADS_MIN,
        }
    }

    /// Whether the kernel checks permissions: always when other users are let in.
    pub fn kernel_checks_permissions(&self) -> bool {
        self.default_permissions || self.allow_other
    }

    /// How the vfs behind such a mount is to behave: it checks permissions if the kernel does not, and what has no owner noted on this
    /// device belongs to this process's user. `node_key` is the key of inode numbers that are hashes.
    pub fn vfs_options(&self, node_key: [u8; 32]) -> VfsOptions {
        VfsOptions {
            check_permissions: !self.kernel_checks_permissions(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            read_only: self.read_only,
            node_key,
            ..VfsOptions::default()
        }
    }

    pub(crate) fn thread_count(&self) -> usize {
        self.threads.clamp(THREADS_MIN, THREADS_MAX)
    }

    /// The options that kernel and fusermount3 spell alike.
    ///
    /// The subtype is an option of its own because desktops look for `fuse.ourobox`: KDE takes a bare `fuse` for a pseudo file system.
    pub(crate) fn common(&self) -> Vec<&'static str> {
        let mut options = vec!["subtype=ourobox"];
        if self.kernel_checks_permissions() {
            options.push("default_permissions");
        }
        if self.allow_other {
            options.push("allow_other");
        }
        options
    }

    /// The options string for fusermount3.
    pub(crate) fn for_helper(&self) -> String {
        let mut options = vec!["nosuid", "nodev"];
        options.extend(self.common());
        if self.read_only {
            options.push("ro");
        }
        format!("{},fsname={}", options.join(","), self.fsname)
    }

    pub(crate) fn check(&self) -> Result<(), MountError> {
        let carried = |c: char| c != ',' && c != '\\' && !c.is_control();
        if self.fsname.is_empty() || !self.fsname.chars().all(carried) {
            return Err(MountError::BadSource { name: self.fsname.clone() });
        }
        Ok(())
    }
}

const THREADS_MIN: usize = 2;
const THREADS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letting_others_in_implies_permission_checks_by_the_kernel() {
        let options = MountOptions { allow_other: true, ..MountOptions::new("/m") };
        assert!(!options.vfs_options([0; 32]).check_permissions);
        assert_eq!(options.for_helper(), "nosuid,nodev,subtype=ourobox,default_permissions,allow_other,fsname=ourobox");
    }

    #[test]
    fn the_usual_mount_is_private_and_checks_permissions_itself() {
        let options = MountOptions::new("/m");
        assert_eq!(options.for_helper(), "nosuid,nodev,subtype=ourobox,fsname=ourobox");
        assert!(options.vfs_options([0; 32]).check_permissions);
        let read_only = MountOptions { read_only: true, ..options };
        assert!(read_only.for_helper().contains(",ro,"));
    }

    #[test]
    fn a_source_that_would_break_the_option_list_is_refused() {
        for bad in ["", "a,allow_other", "a\\,b", "a\nb"] {
            let options = MountOptions { fsname: bad.into(), ..MountOptions::new("/m") };
            assert!(options.check().is_err(), "{bad:?}");
        }
        assert!(MountOptions { fsname: "my box (s3)".into(), ..MountOptions::new("/m") }.check().is_ok());
    }

    #[test]
    fn one_thread_is_never_enough() {
        assert_eq!(MountOptions { threads: 0, ..MountOptions::new("/m") }.thread_count(), 2);
        assert_eq!(MountOptions { threads: 5, ..MountOptions::new("/m") }.thread_count(), 5);
    }
}
