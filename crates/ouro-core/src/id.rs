//! Identities: newtypes for everything that has one, so that no bare integer crosses a wall.

use core::fmt;

/// A file, directory or other entry for as long as it lives, whatever it is called: top bit 0, 31 bits device number, 32 bits counter.
/// Ids derived by rule (conflict copies) have the top bit set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

impl FileId {
    /// No file: the pseudo directory under which records without exactly one place stand.
    pub const HOMELESS: FileId = FileId(0);
    /// The root directory of every box.
    pub const ROOT: FileId = FileId(1);
    /// The directory `Recovered/`, shown only while something is in it.
    pub const RECOVERED: FileId = FileId(2);
    /// The first counter value a device hands out; those below are reserved.
    pub const COUNTER_FIRST: u32 = 16;

    /// The id that `device` gives to the `counter`-th thing it makes.
    pub fn new(device: DeviceNo, counter: u32) -> FileId {
        FileId((u64::from(device.0) << 32) | u64::from(counter))
    }

    /// An id derived by rule from a hash: the same on every device, never equal to one that a device hands out.
    pub fn derived(hash: u64) -> FileId {
        FileId(hash | (1 << 63))
    }

    /// Whether this id was derived by rule.
    pub fn is_derived(self) -> bool {
        self.0 >> 63 == 1
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{:x}.{:x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A device for ever: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 16]);

/// The short number of a device inside file ids and versions: 31 random bits, never 0, unique among `devices/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNo(pub u32);

/// A line of commits: main, or a branch. A branch's number follows from its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(pub u32);

impl Line {
    /// The main line.
    pub const MAIN: Line = Line(0);

    /// Whether this is the main line.
    pub fn is_main(self) -> bool {
        self == Line::MAIN
    }
}

/// Position of a commit in its device's log, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// Hybrid logical clock: 48 bits of milliseconds since 1970 (UTC) and 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The earliest stamp of a millisecond.
    pub fn from_millis(millis: u64) -> Hlc {
        Hlc(millis << 16)
    }

    /// Milliseconds since 1970 (UTC).
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The next stamp after this one.
    pub fn next(self) -> Hlc {
        Hlc(self.0 + 1)
    }
}

/// The commit that wrote a register. The order is the one every *later* rule uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// When, by hybrid logical clock.
    pub hlc: Hlc,
    /// Who.
    pub device: DeviceNo,
    /// Which commit of that device.
    pub seq: Seq,
}

impl Version {
    /// The version of changes that are not sealed yet: later than every real one.
    pub const PENDING: Version = Version { hlc: Hlc(u64::MAX), device: DeviceNo(u32::MAX), seq: Seq(u64::MAX) };

    /// Whether this is [`Version::PENDING`].
    pub fn is_pending(self) -> bool {
        self == Version::PENDING
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_pending() {
            return f.write_str("pending");
        }
        write!(f, "{}.{}@{}", self.device.0, self.seq.0, self.hlc.0)
    }
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    };
}

bytes_id!(
    /// A blob (a chunk, a block list, a delta kept apart): keyed BLAKE3 of its plain bytes.
    BlobId,
    32
);
bytes_id!(
    /// A tree node: keyed BLAKE3 of its logical bytes, locators not included.
    NodeId,
    32
);
bytes_id!(
    /// A pack object on the remote: 16 random bytes.
    PackId,
    16
);
bytes_id!(
    /// A commit record: keyed BLAKE3 of the exact bytes published.
    RecordHash,
    32
);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
