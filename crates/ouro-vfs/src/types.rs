//! The words of the face: nodes, handles, callers and attributes.

use ouro_core::state::Kind;

/// An inode number. The root of a mount is 1. In a mount of one box it is the file id; everything else (snapshots, further boxes, virtual
/// directories) has a stable keyed hash with the top bit set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeNo(pub u64);

impl NodeNo {
    /// The root of the mount.
    pub const ROOT: NodeNo = NodeNo(1);
}

/// An open file or directory; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Handle(pub u64);

/// Which of the mounted boxes, counted from 0 in the order given to [`crate::Vfs::new`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct VolumeNo(pub u32);

/// Who asks. Supplementary groups are looked up when a check needs them, see [`crate::Processes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process (thread) id; 0 if unknown.
    pub pid: u32,
}

/// How a mount behaves.
#[derive(Clone, Debug)]
pub struct VfsOptions {
    /// Check modes here. For a single-user mount without `default_permissions`; false when the kernel checks them.
    pub check_permissions: bool,
    /// Who owns what has no owner noted on this device.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// List `.snapshots` in the root of each box; it can be reached by name either way.
    pub show_snapshots: bool,
    /// Refuse every change.
    pub read_only: bool,
    /// Contents above this many bytes that are not here are not fetched for indexers and thumbnailers.
    pub indexer_bytes_max: u64,
    /// Key of the inode numbers that are hashes. Keep it, and they stay the same over remounts.
    pub node_key: [u8; 32],
}

impl Default for VfsOptions {
    fn default() -> VfsOptions {
        VfsOptions {
            check_permissions: true,
            uid: 0,
            gid: 0,
            show_snapshots: false,
            read_only: false,
            indexer_bytes_max: 64 * 1024,
            node_key: [0; 32],
        }
    }
}

/// Attributes of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Inode number.
    pub node: NodeNo,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u16,
    /// Hard links; 1 for directories, whose subdirectories are not counted; 0 for a file that is open and has no name any more.
    pub links: u32,
    /// Owner, on this device.
    pub uid: u32,
    /// Group, on this device.
    pub gid: u32,
    /// Device number of a device file, else 0.
    pub rdev: u64,
    /// Size in bytes; of a symlink the length of its target.
    pub size: u64,
    /// Size in units of 512 bytes, wherever the bytes are; never 0 for a file that has any.
    pub blocks: u64,
    /// Last access: as set, else the time of the last change. Nanoseconds since 1970 (UTC).
    pub atime_ns: i64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Last change of content or attributes.
    pub ctime_ns: i64,
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The present.
    Now,
    /// Nanoseconds since 1970 (UTC).
    At(i64),
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
    /// The open file it was asked through, if any: one open for writing may be truncated whatever its mode says now.
    pub handle: Option<Handle>,
}

/// One entry of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    /// The name; also `.` and `..`.
    pub name: Box<[u8]>,
    /// Its attributes.
    pub stat: Stat,
    /// Give it to the next `readdir` to go on after this entry. Stays good when entries come and go, and for other handles of the directory.
    pub cookie: u64,
    /// Counted as one kernel lookup: call [`crate::Vfs::forget`] if the entry does not reach the kernel. False for `.` and `..`.
    pub looked_up: bool,
}

/// A part of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The entries, in order.
    pub entries: Vec<DirectoryEntry>,
    /// Nothing follows them.
    pub ends: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Empty it.
    pub truncate: bool,
    /// Past the kernel's page cache.
    pub direct: bool,
    /// To run it as a program: the right to do so is asked for instead of the right to read.
    pub execute: bool,
}

/// What a rename does with the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameHow {
    /// Replaces what stands there.
    Replace,
    /// Fails if something stands there.
    NoReplace,
    /// Both must exist and change places.
    Exchange,
}

/// What to do with a range of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Make sure of the range, growing the file if needed.
    Extend,
    /// Make sure of the range, the size stays.
    KeepSize,
    /// Zeros, the size stays.
    PunchHole,
    /// Zeros, growing the file if needed.
    ZeroRange,
    /// Zeros where the file has bytes, the size stays.
    ZeroRangeKeepSize,
}

/// What to look for in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// The next data.
    Data,
    /// The next hole.
    Hole,
}

/// Whether an extended attribute may or must exist already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetXattr {
    /// Either.
    Any,
    /// It must not exist.
    Create,
    /// It must exist.
    Replace,
}

/// Asks for read permission in `access`.
pub const ACCESS_READ: u32 = 4;
/// Asks for write permission in `access`.
pub const ACCESS_WRITE: u32 = 2;
/// Asks for permission to execute or search in `access`.
pub const ACCESS_EXECUTE: u32 = 1;
