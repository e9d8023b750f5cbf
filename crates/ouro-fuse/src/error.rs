//! Why a mount could not be made, or not be taken down.

use std::io;
use std::path::PathBuf;

/// What went wrong with a mount point; the text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Something that is no directory stands at the mount point.
    #[error("{} is not a directory: choose another mount point", path.display())]
    NotDirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// The directory holds files that the mount would hide.
    #[error("{} is not empty (it holds {example:?}): move what is in it aside, for example to {}, or choose another mount point", path.display(), aside.display())]
    NotEmpty {
        /// The mount point.
        path: PathBuf,
        /// One name in it, for people.
        example: String,
        /// A free name beside it where its contents could go.
        aside: PathBuf,
    },
    /// Something is mounted there.
    #[error("{} is in use: {by} is mounted there; unmount it first or choose another mount point", path.display())]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
        /// Type and source of what is mounted.
        by: String,
    },
    /// The process behind a mount is gone, and the mount is not one of ours.
    #[error("the mount of {by} at {} is dead: take it down with `fusermount3 -uz` first", path.display())]
    ForeignDead {
        /// The mount point.
        path: PathBuf,
        /// Type and source of what is mounted.
        by: String,
    },
    /// The mount would hide files that the program itself needs, so it would wait for itself.
    #[error("the mount point {} contains {}, which Ourobox itself needs: choose another mount point", path.display(), inner.display())]
    Contains {
        /// The mount point.
        path: PathBuf,
        /// What it would hide.
        inner: PathBuf,
    },
    /// The mount point lies in a folder that belongs to the program.
    #[error("the mount point {} lies inside {}, where Ourobox keeps its own files: choose another mount point", path.display(), outer.display())]
    Inside {
        /// The mount point.
        path: PathBuf,
        /// The folder it lies in.
        outer: PathBuf,
    },
    /// The mount point cannot be made, looked at or changed.
    #[error("{what} {}: {source}", path.display())]
    Path {
        /// What was tried, as the beginning of a sentence.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name in the options has a byte that mount options cannot carry.
    #[error(
        "the name {name:?} cannot be shown as the source of a mount: it may hold no comma, backslash or control character"
    )]
    BadSource {
        /// The name.
        name: String,
    },
    /// The kernel's FUSE device is missing or closed to this user.
    #[error(
        "/dev/fuse cannot be opened ({source}): load the module with `modprobe fuse`, and see that this user may read and write the device"
    )]
    Device {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An ordinary user needs `fusermount3` to mount, and it cannot be started.
    #[error("fusermount3 cannot be started ({source}): install the package fuse3")]
    HelperMissing {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `fusermount3` refused.
    #[error("fusermount3 refused {}: {message}", path.display())]
    Helper {
        /// The mount point.
        path: PathBuf,
        /// What it wrote.
        message: String,
    },
    /// The kernel refused the mount, or the connection broke while both sides agreed on features.
    #[error("mounting {} failed: {source}", path.display())]
    Kernel {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Programs still have files open, or stand in a folder of the mount.
    #[error("{} is still in use: close the programs that have files open there", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// Taking the mount down failed.
    #[error("unmounting {} failed: {source}", path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection of a process that is dying cannot be ended by this user.
    #[error(
        "the process that served {0} was killed and cannot let go of it ({source}): end it with `sudo umount -f {0}`",
        path.display()
    )]
    Abort {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
