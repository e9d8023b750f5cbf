//! The door between the kernel and the vfs: FUSE requests in, answers and invalidations out.
//!
//! The principal type is [`Mount`], made by [`mount`](mount()). Each request becomes one call of [`ouro_vfs::Vfs`]; a call that must wait is carried
//! to a task together with the kernel's reply, so no handler blocks. The kernel keeps names, attributes, pages and listings for as long as
//! it likes, because the vfs reports exactly what changed behind its back: that is where the speed comes from.
//!
//! Never knows: what a box, a commit or a remote is.
//!
//! ```no_run
//! # fn example(vfs: std::sync::Arc<ouro_vfs::Vfs>, runtime: std::sync::Arc<dyn ouro_core::port::Runtime>) -> Result<(), ouro_fuse::MountError> {
//! let options = ouro_fuse::MountOptions::new("/home/ada/Box");
//! ouro_fuse::recover_dead_mount(&options.mountpoint)?;
//! ouro_fuse::check_mountpoint(&options.mountpoint, &["/home/ada/.cache/ourobox".into()])?;
//! let mount = ouro_fuse::mount(vfs, &options, runtime)?;
//! mount.wait(); // until somebody unmounts it
//! # Ok(())
//! # }
//! ```

mod attach;
mod carry;
mod connection;
mod convert;
mod door;
mod errno;
mod error;
mod interrupt;
mod listing;
mod mount;
mod mountinfo;
mod mountpoint;
mod notify;
mod options;
mod processes;

pub use connection::Connection;
pub use error::MountError;
pub use mount::{END_WITHIN_MS, Mount, Unmounted, mount};
pub use mountpoint::{check_mountpoint, recover_dead_mount, resolve as resolve_mountpoint};
pub use options::MountOptions;
pub use processes::USERS_MAX;
