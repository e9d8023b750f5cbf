//! Puts a FUSE connection into the directory tree and takes it out again.
//!
//! fuser could do this too, but it loses the subtype when root mounts, unmounts again a place it already left (and so perhaps what lay
//! below), and can only unmount lazily for ordinary users.

use crate::error::MountError;
use crate::mountpoint::BARE_MODE;
use crate::options::MountOptions;
use rustix::fs::Mode;
use rustix::io::Errno as SystemErrno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

const HELPER: &str = "fusermount3";

/// Permission bits of the mount point while fusermount3 looks at it: it insists on a directory that its user may write to.
const HELPER_MODE: u32 = 0o755;

/// Mounts a new connection at `path` and returns the kernel's end of it. As root directly, for others through fusermount3.
///
/// The bare directory is left with mode 0555, if it belongs to this user.
pub(crate) fn attach(path: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    options.check()?;
    // Opened before mounting: afterwards the path leads into the mount.
    let bare =
        File::open(path).map_err(|source| MountError::Path { what: "cannot open", path: path.into(), source })?;
    let connection = match attach_directly(path, options) {
        Ok(None) => {
            set_mode(&bare, HELPER_MODE);
            attach_by_helper(path, options)
        }
        Ok(Some(connection)) => Ok(connection),
        Err(error) => Err(error),
    };
    set_mode(&bare, BARE_MODE);
    connection
}

/// Sets the mode of the bare mount point where that is allowed; it is a courtesy, so a refusal is only noted.
fn set_mode(bare: &File, mode: u32) {
    let owned = bare.metadata().is_ok_and(|metadata| metadata.uid() == rustix::process::geteuid().as_raw());
    if owned && let Err(error) = rustix::fs::fchmod(bare, Mode::from_raw_mode(mode)) {
        tracing::debug!(%error, mode, "the bare mount point keeps its mode");
    }
}

/// The mount(2) of a privileged process; `None` if this process is none.
fn attach_directly(path: &Path, options: &MountOptions) -> Result<Option<OwnedFd>, MountError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let device =
        File::options().read(true).write(true).open("/dev/fuse").map_err(|source| MountError::Device { source })?;
    let mut data = vec![
        format!("fd={}", device.as_raw_fd()),
        "rootmode=40000".to_owned(),
        format!("user_id={}", rustix::process::getuid().as_raw()),
        format!("group_id={}", rustix::process::getgid().as_raw()),
    ];
    data.extend(options.common().into_iter().map(str::to_owned));
    let data = CString::new(data.join(",")).expect("options hold no NUL");
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if options.read_only {
        flags |= MountFlags::RDONLY;
    }
    match rustix::mount::mount(options.fsname.as_str(), path, "fuse", flags, data.as_c_str()) {
        Ok(()) => Ok(Some(device.into())),
        Err(SystemErrno::PERM) => Ok(None), // root of a container without the capability
        Err(errno) => Err(MountError::Kernel { path: path.into(), source: errno.into() }),
    }
}

/// Lets the setuid helper mount: it passes the connection back over a socket, here its standard input.
fn attach_by_helper(path: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let broken = |errno: SystemErrno| MountError::Kernel { path: path.into(), source: errno.into() };
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(broken)?;
    let helper = Command::new(HELPER)
        .args(["-o", &options.for_helper(), "--"])
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| MountError::HelperMissing { source })?;
    let received = receive_fd(&ours);
    let output = helper.wait_with_output().map_err(|source| MountError::HelperMissing { source })?;
    match received {
        Ok(Some(connection)) if output.status.success() => Ok(connection),
        Err(errno) => Err(broken(errno)),
        Ok(_) => Err(MountError::Helper { path: path.into(), message: said(&output.stderr) }),
    }
}

/// Waits for one file descriptor; `None` if the other end closed without sending one.
fn receive_fd(socket: &OwnedFd) -> Result<Option<OwnedFd>, SystemErrno> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags))?;
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(passed)
}

/// Takes down what is mounted on top at `path`. `lazy` takes it out of the tree at once and ends it when its last user is gone; otherwise a
/// mount in use is left as it is.
///
/// # Errors
///
/// [`MountError::Busy`] (never when `lazy`) and [`MountError::Unmount`].
pub(crate) fn detach(path: &Path, lazy: bool) -> Result<(), MountError> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(SystemErrno::PERM) => detach_by_helper(path, lazy),
        Err(SystemErrno::BUSY) => Err(MountError::Busy { path: path.into() }),
        Err(errno) => Err(MountError::Unmount { path: path.into(), source: errno.into() }),
    }
}

fn detach_by_helper(path: &Path, lazy: bool) -> Result<(), MountError> {
    let output = Command::new(HELPER)
        .args(if lazy { ["-u", "-z"].as_slice() } else { &["-u"] })
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| MountError::HelperMissing { source })?;
    if output.status.success() {
        return Ok(());
    }
    let message = said(&output.stderr);
    if message.contains("busy") {
        return Err(MountError::Busy { path: path.into() });
    }
    Err(MountError::Unmount { path: path.into(), source: io::Error::other(message) })
}

/// What the helper wrote, in one line, without its name in front.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().map(|line| line.trim().trim_start_matches("fusermount3: ")).collect();
    match lines.join("; ") {
        line if line.is_empty() => "it gave no reason".to_owned(),
        line => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_helper_says_becomes_one_line() {
        assert_eq!(
            said(b"fusermount3: user has no write access to mountpoint /x\n"),
            "user has no write access to mountpoint /x"
        );
        assert_eq!(said(b""), "it gave no reason");
    }

    #[test]
    fn a_helper_that_ends_without_a_connection_is_noticed() {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        drop(theirs);
        assert!(receive_fd(&ours).expect("end of stream").is_none());
    }
}
