//! A digest of a state that is kept as it changes, so that two devices can tell cheaply whether they have the same one.

use crate::delta::Register;
use crate::id::{FileId, Version};
use crate::state::File;

/// The multiset digest of a state: the wrapping sum of one 128-bit hash per living version. Versions that are not sealed yet do not
/// count. Equal states have equal digests in whatever order their versions came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of a single version; zero if it is pending.
    pub fn of(file: FileId, register: Register, version: Version) -> Digest {
        if version.is_pending() {
            return Digest(0);
        }
        let (tag, slot) = match register {
            Register::Placement { slot } => (1, slot),
            Register::Content => (2, 0),
            Register::Attributes => (3, 0),
        };
        let mut bytes = [0; 37];
        bytes[0] = tag;
        bytes[1..9].copy_from_slice(&file.0.to_le_bytes());
        bytes[9..17].copy_from_slice(&slot.to_le_bytes());
        bytes[17..25].copy_from_slice(&version.hlc.0.to_le_bytes());
        bytes[25..29].copy_from_slice(&version.device.0.to_le_bytes());
        bytes[29..37].copy_from_slice(&version.seq.0.to_le_bytes());
        let hash = blake3::hash(&bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        Digest(u128::from_le_bytes(half))
    }

    /// The digest of all that is alive about one file.
    pub fn of_file(file: &File) -> Digest {
        let mut sum = Digest::default();
        for (register, version) in versions(file) {
            sum = sum.plus(Digest::of(file.id, register, version));
        }
        sum
    }

    /// This and the other together.
    #[must_use]
    pub fn plus(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_add(other.0))
    }

    /// This without the other.
    #[must_use]
    pub fn minus(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_sub(other.0))
    }
}

/// Every living version of a file with its register, in register order.
pub(crate) fn versions(file: &File) -> impl Iterator<Item = (Register, Version)> + '_ {
    let placements = file.placements.iter().map(|p| (Register::Placement { slot: p.slot }, p.version));
    let contents = file.contents.iter().map(|c| (Register::Content, c.version));
    let attributes = file.attributes.iter().map(|a| (Register::Attributes, a.version));
    placements.chain(contents).chain(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceNo, Hlc, Seq};

    fn version(n: u64) -> Version {
        Version { hlc: Hlc(n), device: DeviceNo(1), seq: Seq(n) }
    }

    #[test]
    fn order_of_versions_does_not_change_the_digest() {
        let a = Digest::of(FileId(9), Register::Content, version(1));
        let b = Digest::of(FileId(9), Register::Placement { slot: 0 }, version(1));
        assert_eq!(a.plus(b), b.plus(a));
        assert_ne!(a, b);
        assert_eq!(a.plus(b).minus(b), a);
    }

    #[test]
    fn pending_versions_do_not_count() {
        assert_eq!(Digest::of(FileId(9), Register::Content, Version::PENDING), Digest::default());
    }
}
