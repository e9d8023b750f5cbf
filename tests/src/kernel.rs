//! What the kernel lets others than root do, changed for a while.

use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many tests of this process want `/dev/fuse` open now, and what it was before.
static OPEN: Mutex<(usize, Option<Permissions>)> = Mutex::new((0, None));

/// Makes `/dev/fuse` open to all, and restores it when the last of them is dropped.
pub struct OpenDevice(());

impl OpenDevice {
    /// Opens it.
    ///
    /// # Panics
    ///
    /// If this is not root.
    pub fn new() -> OpenDevice {
        let mut open = wanted();
        if open.0 == 0 {
            let before = File::open("/dev/fuse").and_then(|file| file.metadata()).expect("root may").permissions();
            fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666)).expect("root may");
            open.1 = Some(before);
        }
        open.0 += 1;
        OpenDevice(())
    }
}

/// What was counted stays true also where a test failed in between.
fn wanted() -> MutexGuard<'static, (usize, Option<Permissions>)> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for OpenDevice {
    fn default() -> OpenDevice {
        OpenDevice::new()
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let mut open = wanted();
        open.0 -= 1;
        if open.0 == 0
            && let Some(before) = open.1.take()
            && let Err(error) = fs::set_permissions("/dev/fuse", before)
        {
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
