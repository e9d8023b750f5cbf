//! A mount's connection to the kernel, ended from outside: what programs ask through it fails then instead of waiting.
//!
//! A process that dies lets go of its connection when its last thread is gone. A thread that is just telling the kernel of a change can
//! wait there for a directory or a page that a program holds, while the program waits for an answer of the process: neither ever ends. The
//! kernel has two ways out for others: a file for each connection (fusectl), and the forced unmount (root only).

use crate::error::MountError;
use crate::mountinfo::{self, MountLine, TYPE};
use rustix::io::Errno as SystemErrno;
use rustix::mount::UnmountFlags;
use std::io;
use std::path::{Path, PathBuf};

/// Where fusectl shows the connections, if it is mounted; each file belongs to the user who mounted.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Which connection: a mount's, as `/proc/self/mountinfo` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `major:minor` of the mount. Given anew to another mount once this one is gone.
    pub device: String,
    /// Where it was mounted.
    pub mountpoint: PathBuf,
}

impl Connection {
    /// Ends the connection: whoever waits for an answer gets `ECONNABORTED`, everybody else `ENOTCONN`. The dead mount stays.
    ///
    /// Returns whether there was one. One whose number belongs to another mount by now is left alone, and so is one that is in no directory
    /// tree any more. Call it only for a process that is certainly dying: a living one loses its mount.
    ///
    /// # Errors
    ///
    /// [`MountError::Abort`] if this user has no way to do so.
    pub fn abort(&self) -> Result<bool, MountError> {
        let all = mountinfo::all().map_err(|source| MountError::Path {
            what: "cannot read",
            path: "/proc/self/mountinfo".into(),
            source,
        })?;
        if !self.stands_in(&all) {
            return Ok(false);
        }
        match self.abort_by_file(Path::new(CONNECTIONS)) {
            Ok(()) => Ok(true),
            Err(why) => self.abort_by_force(&all, why),
        }
    }

    /// Whether the mount is there, and its number means nothing else.
    fn stands_in(&self, all: &[MountLine]) -> bool {
        let mut same = all.iter().filter(|line| line.device == self.device).peekable();
        same.peek().is_some()
            && same.clone().all(|line| line.fs_type == TYPE)
            && same.any(|line| line.mountpoint == self.mountpoint)
    }

    fn abort_by_file(&self, connections: &Path) -> io::Result<()> {
        // The directories are called after the whole number; the major part of a file system without a device is 0.
        let number = self.device.strip_prefix("0:").ok_or(io::ErrorKind::NotFound)?;
        let file = connections.join(number).join("abort");
        std::fs::OpenOptions::new().write(true).open(file).and_then(|mut file| io::Write::write_all(&mut file, b"1"))
    }

    fn abort_by_force(&self, all: &[MountLine], no_file: io::Error) -> Result<bool, MountError> {
        let on_top = all.iter().rfind(|line| line.mountpoint == self.mountpoint);
        if on_top.is_none_or(|line| line.device != self.device) {
            return Err(MountError::Abort { path: self.mountpoint.clone(), source: no_file });
        }
        match rustix::mount::unmount(&self.mountpoint, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW) {
            // In use is as good: the connection ends before the kernel looks for users.
            Ok(()) | Err(SystemErrno::BUSY) => Ok(true),
            Err(_) => Err(MountError::Abort { path: self.mountpoint.clone(), source: no_file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(device: &str, mountpoint: &str, fs_type: &str) -> MountLine {
        MountLine {
            device: device.into(),
            mountpoint: mountpoint.into(),
            fs_type: fs_type.into(),
            source: "ourobox".into(),
        }
    }

    #[test]
    fn a_number_that_belongs_to_another_mount_by_now_is_left_alone() {
        let ours = Connection { device: "0:57".into(), mountpoint: "/home/a/Box".into() };
        let there = line("0:57", "/home/a/Box", TYPE);
        assert!(ours.stands_in(&[line("0:20", "/proc", "proc"), there.clone()]));
        assert!(ours.stands_in(&[there.clone(), line("0:57", "/bound/here/too", TYPE)]));
        assert!(!ours.stands_in(&[]), "gone");
        assert!(!ours.stands_in(&[line("0:58", "/home/a/Box", TYPE)]), "mounted anew");
        assert!(!ours.stands_in(&[line("0:57", "/home/b/Box", TYPE)]), "somebody else's box");
        assert!(!ours.stands_in(&[line("0:57", "/home/a/Box", "fuse.sshfs")]), "somebody else's file system");
        assert!(!ours.stands_in(&[there, line("0:57", "/mnt", "fuse.sshfs")]));
    }

    #[test]
    fn only_a_file_system_without_a_device_has_a_connection() {
        let disk = Connection { device: "8:1".into(), mountpoint: "/".into() };
        let error = disk.abort_by_file(Path::new(CONNECTIONS)).expect_err("none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!disk.abort().expect("no connection of ours"));
    }
}
