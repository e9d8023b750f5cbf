//! Boxes as a file system, in our own types.
//!
//! The principal type is [`Vfs`]: one mount, of one box or of several as folders under one root. Doors (the kernel's, the gateway's) translate
//! their requests into its calls; it is synchronous and no call waits for the network: an operation answers, fails with an [`Errno`], or
//! gives a [`Wait`] to be awaited elsewhere before it is called again.
//!
//! Never knows: the kernel's ABI, how sync works, remotes. What is not on this device comes through the port [`Fetch`].

mod ahead;
mod attributes;
mod bytes;
mod changes;
mod cookies;
mod handles;
mod listing;
mod look;
mod names;
mod permission;
mod ports;
mod realm;
mod remove;
mod renumber;
mod snapshots;
mod stop;
mod table;
mod touched;
mod types;
mod vfs;
mod xattr;

pub use ouro_local::volume::Space;
pub use ports::{Fetch, FetchError, Invalidate, Processes};
pub use stop::{Errno, Reply, Stop, Wait};
pub use types::{
    ACCESS_EXECUTE, ACCESS_READ, ACCESS_WRITE, Allocate, Caller, DirectoryEntry, Handle, Listed, NodeNo, OpenFlags,
    RenameHow, Seek, SetAttributes, SetTime, SetXattr, Stat, VfsOptions, VolumeNo,
};
pub use vfs::{Mounted, Vfs};
