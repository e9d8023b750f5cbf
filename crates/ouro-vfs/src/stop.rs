//! Why an operation gave no answer: an error for the caller, or something to wait for.

use core::fmt;
use ouro_core::port::BoxFuture;

/// What an operation answers.
pub type Reply<T> = Result<T, Stop>;

/// Why there is no answer yet, or none at all.
#[derive(Debug)]
pub enum Stop {
    /// The operation failed; nothing was changed.
    Errno(Errno),
    /// Something must be brought first; nothing was changed.
    Wait(Wait),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno)
    }
}

/// Something to wait for. Carry it to a task together with the kernel's reply, await it there, then call the same operation again; it ends in
/// bounded time (the deadline is inside). An error is the operation's answer.
pub struct Wait(pub BoxFuture<'static, Result<(), Errno>>);

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

/// Errors as the kernel's callers know them. Doors translate with one exhaustive match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errno {
    /// ENOENT. From a lookup it may be cached, see [`crate::Vfs::is_volatile`].
    NoEntry,
    /// EEXIST
    Exists,
    /// ENOTDIR
    NotDirectory,
    /// EISDIR
    IsDirectory,
    /// ENOTEMPTY
    NotEmpty,
    /// EINVAL
    Invalid,
    /// ENAMETOOLONG
    NameTooLong,
    /// EXDEV: the other name is in another box.
    CrossBox,
    /// EPERM
    NotPermitted,
    /// EACCES
    Access,
    /// ENOSPC
    NoSpace,
    /// ENODATA: no such extended attribute.
    NoData,
    /// EOPNOTSUPP
    NotSupported,
    /// ETIMEDOUT: the bytes did not come in time.
    TimedOut,
    /// ENETUNREACH: the bytes are not on this device and cannot be fetched now.
    Unreachable,
    /// EIO
    Io,
    /// ELOOP
    Loop,
    /// EROFS
    ReadOnly,
    /// EBUSY
    Busy,
    /// ESTALE: the node no longer stands anywhere.
    Stale,
    /// E2BIG: the value of an extended attribute.
    TooBig,
    /// ERANGE: the name of an extended attribute.
    Range,
    /// EINTR
    Interrupted,
    /// EBADF
    BadHandle,
    /// EFBIG
    FileTooBig,
    /// EMLINK
    TooManyLinks,
    /// ENXIO: nothing there to seek.
    NoDevice,
}
