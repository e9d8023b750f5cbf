//! What the file system asks of others: bytes that are not here, the kernel's caches, and who a process is.

use crate::stop::Errno;
use crate::types::{NodeNo, VolumeNo};
use ouro_core::content::BlobRef;
use ouro_core::port::BoxFuture;
use ouro_core::row::Missing;

/// Why something could not be brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FetchError {
    /// It did not come within the deadline.
    #[error("the storage did not answer in time")]
    TimedOut,
    /// There is no way to the storage now.
    #[error("the storage cannot be reached")]
    Unreachable,
    /// It came and was not what it should be, or could not be kept.
    #[error("the bytes could not be read or kept")]
    Io,
}

impl From<FetchError> for Errno {
    fn from(error: FetchError) -> Errno {
        match error {
            FetchError::TimedOut => Errno::TimedOut,
            FetchError::Unreachable => Errno::Unreachable,
            FetchError::Io => Errno::Io,
        }
    }
}

/// Brings what is not on this device. Every future ends in bounded time: the deadline is inside.
pub trait Fetch: Send + Sync + 'static {
    /// Brings an index node.
    fn nodes(&self, volume: VolumeNo, missing: Missing) -> BoxFuture<'static, Result<(), FetchError>>;

    /// Brings blobs of contents; `caller_pid` says for whom (0 if unknown).
    fn blobs(
        &self,
        volume: VolumeNo,
        blobs: Vec<BlobRef>,
        caller_pid: u32,
    ) -> BoxFuture<'static, Result<(), FetchError>>;

    /// Begins to bring blobs that will probably be asked for soon; returns at once.
    fn prefetch(&self, volume: VolumeNo, blobs: Vec<BlobRef>);
}

/// The kernel's caches, as far as they must be told. Called only for what the kernel cannot know by itself, on a thread that holds no
/// lock, after the new state can be seen.
pub trait Invalidate: Send + Sync + 'static {
    /// What stands at a name in a directory has changed: another file, or none, or one where none was.
    fn entry(&self, parent: NodeNo, name: &[u8]);
    /// The attributes and the bytes (of a directory: the listing) have changed.
    fn node(&self, node: NodeNo);
    /// Only the attributes have changed.
    fn attributes(&self, node: NodeNo);
}

/// Who a process is, looked up when it matters.
pub trait Processes: Send + Sync + 'static {
    /// Supplementary groups of a process.
    fn groups(&self, pid: u32) -> Vec<u32>;
    /// Command line of a process: its arguments, the program first. Empty if it is gone.
    fn command_line(&self, pid: u32) -> Vec<Vec<u8>>;
}
