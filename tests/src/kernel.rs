//! What the kernel lets others than root do, changed for a while.

use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Makes `/dev/fuse` open to all, and restores it when dropped.
pub struct OpenDevice(Permissions);

impl OpenDevice {
    /// Opens it.
    ///
    /// # Panics
    ///
    /// If this is not root.
    pub fn new() -> OpenDevice {
        let before = File::open("/dev/fuse").and_then(|file| file.metadata()).expect("root may").permissions();
        fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666)).expect("root may");
        OpenDevice(before)
    }
}

impl Default for OpenDevice {
    fn default() -> OpenDevice {
        OpenDevice::new()
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        if let Err(error) = fs::set_permissions("/dev/fuse", self.0.clone()) {
            eprintln!("/dev/fuse stays open to all: {error}");
        }
    }
}

/// Shows the kernel's files of all FUSE connections, as systemd does on most machines, and hides them again when dropped.
pub struct Connections(bool);

impl Connections {
    /// Where they are shown.
    const PLACE: &str = "/sys/fs/fuse/connections";

    /// Shows them, if they are not shown already.
    ///
    /// # Panics
    ///
    /// If this is not root, or sysfs cannot be mounted on.
    pub fn show() -> Connections {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        let shown = mounts.lines().any(|line| line.split(' ').nth(1) == Some(Connections::PLACE));
        if !shown {
            let none = MountFlags::empty();
            rustix::mount::mount("fusectl", Connections::PLACE, "fusectl", none, None).expect("root may");
        }
        Connections(!shown)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let flags = UnmountFlags::DETACH;
        if self.0
            && let Err(error) = rustix::mount::unmount(Connections::PLACE, flags)
        {
            eprintln!("{} stays mounted: {error}", Connections::PLACE);
        }
    }
}
