//! Contents: what the bytes of a file are, and where blobs lie.

use crate::id::{BlobId, DeviceNo, PackId, Seq};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Contents up to this many bytes stand in the entry itself.
pub const INLINE_BYTES_MAX: usize = 128;
/// Contents of more chunks than this keep their list in a blob of its own.
pub const CHUNKS_IN_ENTRY_MAX: usize = 32;

/// The remote object that holds a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectId {
    /// `packs/<xx>/<id>`.
    Pack(PackId),
    /// `nodes/<xx>/<id>`: a pack of tree nodes.
    Nodes(PackId),
    /// `log/<device>/<seq>`: inline blobs of a commit record.
    Record(DeviceNo, Seq),
}

/// Where a stored blob lies: a hint, never part of a hash or of an equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Locator {
    /// The object.
    pub object: ObjectId,
    /// Bytes from its beginning.
    pub offset: u32,
    /// Stored length in bytes (compressed, encrypted).
    pub len: u32,
}

/// A blob by what it is, with a hint of where it is. Two are equal if they are the same bytes.
#[derive(Clone, Copy)]
pub struct BlobRef {
    /// What: keyed hash of the plain bytes.
    pub id: BlobId,
    /// Plain length in bytes.
    pub len: u32,
    /// Where; `None` while it is only on this device.
    pub at: Option<Locator>,
}

impl PartialEq for BlobRef {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.len == other.len
    }
}
impl Eq for BlobRef {}
impl PartialOrd for BlobRef {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for BlobRef {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.id, self.len).cmp(&(other.id, other.len))
    }
}
impl core::fmt::Debug for BlobRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}+{}", self.id, self.len)
    }
}

/// The bytes of a file or the target of a symlink. Equality is equality of the bytes (for sealed contents).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// The bytes themselves, at most [`INLINE_BYTES_MAX`] for files; a symlink's target whatever its length (≤ 4,095).
    Inline(Arc<[u8]>),
    /// Chunks in order, at most [`CHUNKS_IN_ENTRY_MAX`].
    Chunks(Arc<[BlobRef]>),
    /// A blob that lists the chunks (32-byte id, length and locator each), and the size in bytes.
    BlockList {
        /// The list.
        list: BlobRef,
        /// Size of the file in bytes.
        size: u64,
    },
    /// Written on this device and not sealed into chunks yet; never leaves the device.
    Pending {
        /// Size of the file in bytes when the row was made; an open writer knows better.
        size: u64,
        /// Tells two pending contents of one file apart (the seal generation it was begun in).
        generation: u64,
    },
}

impl Content {
    /// An empty file.
    pub fn empty() -> Content {
        Content::Inline(Arc::from([].as_slice()))
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Chunks(chunks) => chunks.iter().map(|c| u64::from(c.len)).sum(),
            Content::BlockList { size, .. } | Content::Pending { size, .. } => *size,
        }
    }
}

/// Extended attributes, sorted by name: `(name, value)`.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;
