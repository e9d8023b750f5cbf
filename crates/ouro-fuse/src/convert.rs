//! The kernel's words for ours: attributes, kinds, times and flags.

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use ouro_core::state::Kind;
use ouro_vfs::{Allocate, OpenFlags, RenameHow, Seek, SetTime, SetXattr, Stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Transfer size recommended to programs, in bytes. Each write(2) is one request (there is no write-back cache), so programs that ask for
/// the block size shall use large ones.
const BLOCK_BYTES: u32 = 128 * 1024;

/// Attributes as the kernel gets them.
pub(crate) fn attributes(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.node.0),
        size: stat.size,
        blocks: stat.blocks,
        atime: time(stat.atime_ns),
        mtime: time(stat.mtime_ns),
        ctime: time(stat.ctime_ns),
        crtime: UNIX_EPOCH,
        kind: file_type(stat.kind),
        perm: stat.mode,
        nlink: stat.links,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev as u32, // the kernel's 32-bit encoding, as it came in mknod
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// What stands for "there is nothing at this name": inode 0.
pub(crate) fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(crate) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind that mknod(2) asks for; `None` for those it cannot make.
pub(crate) fn kind_to_make(mode: u32) -> Option<Kind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(Kind::File),
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFSOCK => Some(Kind::Socket),
        libc::S_IFCHR => Some(Kind::CharDevice),
        libc::S_IFBLK => Some(Kind::BlockDevice),
        _ => None,
    }
}

/// Permission bits without the kind.
pub(crate) fn mode_bits(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

pub(crate) fn time_to_set(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(nanoseconds(time)),
    }
}

/// Nanoseconds since 1970, cut to what 64 bits hold (the years 1677 to 2262).
///
/// fuser 0.18 makes a time before 1970 from the kernel's (seconds, nanoseconds) by subtracting both, where the nanoseconds must be added;
/// that is undone here.
fn nanoseconds(time: SystemTime) -> i64 {
    let join = |seconds: u64, nanos: i64, sign: i64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        (sign * seconds).saturating_mul(1_000_000_000).saturating_add(nanos)
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => join(after.as_secs(), i64::from(after.subsec_nanos()), 1),
        Err(before) => {
            let before = before.duration();
            join(before.as_secs(), i64::from(before.subsec_nanos()), -1)
        }
    }
}

/// What the kernel adds to the flags of an open by execve (`__FMODE_EXEC`, include/linux/fs.h); programs cannot ask for it.
const FMODE_EXEC: i32 = 0x20;

pub(crate) fn open_flags(flags: i32) -> OpenFlags {
    let mode = flags & libc::O_ACCMODE;
    OpenFlags {
        read: mode == libc::O_RDONLY || mode == libc::O_RDWR,
        write: mode == libc::O_WRONLY || mode == libc::O_RDWR,
        append: flags & libc::O_APPEND != 0,
        truncate: flags & libc::O_TRUNC != 0,
        direct: flags & libc::O_DIRECT != 0,
        execute: flags & FMODE_EXEC != 0,
    }
}

/// `None` for combinations that no file system here knows (RENAME_WHITEOUT).
pub(crate) fn rename_how(flags: fuser::RenameFlags) -> Option<RenameHow> {
    match flags.bits() {
        0 => Some(RenameHow::Replace),
        libc::RENAME_NOREPLACE => Some(RenameHow::NoReplace),
        libc::RENAME_EXCHANGE => Some(RenameHow::Exchange),
        _ => None,
    }
}

/// `None` for what is not supported (collapsing and inserting ranges).
pub(crate) fn allocate_how(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    match mode {
        0 => Some(Allocate::Extend),
        KEEP => Some(Allocate::KeepSize),
        mode if mode == PUNCH | KEEP => Some(Allocate::PunchHole),
        ZERO => Some(Allocate::ZeroRange),
        mode if mode == ZERO | KEEP => Some(Allocate::ZeroRangeKeepSize),
        _ => None,
    }
}

/// `None` for anything but SEEK_DATA and SEEK_HOLE; the kernel answers the others itself.
pub(crate) fn seek_how(whence: i32) -> Option<Seek> {
    match whence {
        libc::SEEK_DATA => Some(Seek::Data),
        libc::SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

/// `None` for flags that contradict each other or are unknown.
pub(crate) fn xattr_how(flags: i32) -> Option<SetXattr> {
    match flags {
        0 => Some(SetXattr::Any),
        libc::XATTR_CREATE => Some(SetXattr::Create),
        libc::XATTR_REPLACE => Some(SetXattr::Replace),
        _ => None,
    }
}

/// Whether an extended attribute is of a kind that we have none of, and never will: said before any lookup. Told once "not supported",
/// `ls` and the desktop stop asking for each file; "no such attribute" would cost two requests a file.
pub(crate) fn is_foreign_xattr(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"security.") || name.starts_with(b"system.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_vfs::NodeNo;

    /// What fuser makes of the kernel's two numbers.
    fn as_fuser_reads(seconds: i64, nanos: u32) -> SystemTime {
        if seconds >= 0 {
            UNIX_EPOCH + Duration::new(seconds as u64, nanos)
        } else {
            UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanos)
        }
    }

    #[test]
    fn a_time_to_set_arrives_as_it_was_sent_before_and_after_1970() {
        for (seconds, nanos) in
            [(0, 0), (1_800_000_000, 999_999_999), (-1, 0), (-1, 500_000_000), (-2, 1), (-86_400, 999_999_999)]
        {
            let set = time_to_set(TimeOrNow::SpecificTime(as_fuser_reads(seconds, nanos)));
            assert_eq!(set, SetTime::At(seconds * 1_000_000_000 + i64::from(nanos)), "{seconds} s {nanos} ns");
        }
        assert_eq!(time_to_set(TimeOrNow::Now), SetTime::Now);
    }

    #[test]
    fn times_that_nanoseconds_cannot_hold_are_cut() {
        assert_eq!(nanoseconds(as_fuser_reads(1 << 40, 0)), i64::MAX);
        assert_eq!(nanoseconds(as_fuser_reads(-(1 << 40), 0)), i64::MIN);
    }

    #[test]
    fn a_stat_keeps_its_times_and_numbers() {
        let stat = Stat {
            node: NodeNo(7),
            kind: Kind::CharDevice,
            mode: 0o4755,
            links: 3,
            uid: 1,
            gid: 2,
            rdev: 0x103,
            size: 9,
            blocks: 1,
            atime_ns: -1_500_000_000,
            mtime_ns: 1,
            ctime_ns: i64::MIN,
        };
        let attr = attributes(&stat);
        assert_eq!((attr.ino, attr.kind, attr.perm, attr.nlink), (INodeNo(7), FileType::CharDevice, 0o4755, 3));
        assert_eq!((attr.rdev, attr.size, attr.blocks), (0x103, 9, 1));
        assert_eq!(attr.atime, UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(attr.mtime, UNIX_EPOCH + Duration::from_nanos(1));
    }

    #[test]
    fn open_flags_are_read_bit_by_bit() {
        let flags = open_flags(libc::O_RDWR | libc::O_APPEND | libc::O_TRUNC);
        assert_eq!(flags, OpenFlags { read: true, write: true, append: true, truncate: true, ..OpenFlags::default() });
        assert_eq!(open_flags(libc::O_RDONLY), OpenFlags { read: true, ..OpenFlags::default() });
        assert_eq!(open_flags(libc::O_WRONLY), OpenFlags { write: true, ..OpenFlags::default() });
        let run = OpenFlags { read: true, execute: true, ..OpenFlags::default() };
        assert_eq!(open_flags(libc::O_RDONLY | FMODE_EXEC), run);
    }

    #[test]
    fn unknown_flags_are_not_guessed() {
        assert_eq!(rename_how(fuser::RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(allocate_how(libc::FALLOC_FL_COLLAPSE_RANGE), None);
        assert_eq!(allocate_how(libc::FALLOC_FL_PUNCH_HOLE), None, "a hole never changes the size");
        assert_eq!(seek_how(libc::SEEK_SET), None);
        assert_eq!(xattr_how(libc::XATTR_CREATE | libc::XATTR_REPLACE), None);
        assert_eq!(kind_to_make(libc::S_IFDIR), None);
    }

    #[test]
    fn attributes_of_the_system_are_told_from_those_of_the_user() {
        for foreign in ["security.capability", "system.posix_acl_access", "system.ntfs_attrib_be"] {
            assert!(is_foreign_xattr(OsStr::new(foreign)), "{foreign}");
        }
        for ours in ["user.xdg.tags", "trusted.x", "systemd.x", "user.security."] {
            assert!(!is_foreign_xattr(OsStr::new(ours)), "{ours}");
        }
    }
}
