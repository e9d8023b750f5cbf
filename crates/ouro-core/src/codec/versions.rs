//! The table of versions: each stands once, in order of first use, as its difference from the one before.

use super::bytes::{Reader, Writer};
use super::error::{DecodeError, invalid};
use crate::id::{DeviceNo, Hlc, Seq, Version};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Fewest bytes a version takes in the table.
const VERSION_BYTES_MIN: usize = 3;

/// Numbers versions as they are first used.
#[derive(Default)]
pub(crate) struct VersionTable {
    index: BTreeMap<Version, u64>,
    versions: Vec<Version>,
    last: Option<(Version, u64)>,
}

impl VersionTable {
    pub(crate) fn index_of(&mut self, version: Version) -> u64 {
        if let Some((last, index)) = self.last
            && last == version
        {
            return index;
        }
        let next = self.versions.len() as u64;
        let index = *self.index.entry(version).or_insert(next);
        if index == next {
            self.versions.push(version);
        }
        self.last = Some((version, index));
        index
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.versions.len() as u64);
        let mut before = Version { hlc: Hlc(0), device: DeviceNo(0), seq: Seq(0) };
        for version in &self.versions {
            out.zigzag(version.hlc.millis() as i64 - before.hlc.millis() as i64);
            let other = version.device != before.device;
            out.varint((version.hlc.0 & 0xffff) << 1 | u64::from(other));
            if other {
                out.raw(&version.device.0.to_be_bytes());
            }
            out.zigzag(version.seq.0.wrapping_sub(before.seq.0) as i64);
            before = *version;
        }
    }
}

/// Reads the table, then checks that versions are used in its order.
pub(crate) struct VersionReader {
    versions: Vec<Version>,
    used: usize,
}

impl VersionReader {
    pub(crate) fn read(input: &mut Reader<'_>) -> Result<VersionReader, DecodeError> {
        let count = input.count(VERSION_BYTES_MIN)?;
        let mut versions = Vec::with_capacity(count);
        let mut before = Version { hlc: Hlc(0), device: DeviceNo(0), seq: Seq(0) };
        for _ in 0..count {
            let millis = (before.hlc.millis() as i64).checked_add(input.zigzag()?);
            let millis = millis.filter(|m| (0..1 << 48).contains(m)).ok_or(DecodeError::TooLarge { what: "time" })?;
            let counter = input.varint()?;
            if counter >> 17 != 0 {
                return Err(DecodeError::TooLarge { what: "counter of a time" });
            }
            let mut device = before.device;
            if counter & 1 == 1 {
                device = DeviceNo(u32::from_be_bytes(input.array()?));
                if device == before.device {
                    return invalid("a device repeated");
                }
            }
            let seq = Seq(before.seq.0.wrapping_add(input.zigzag()? as u64));
            before = Version { hlc: Hlc((millis as u64) << 16 | counter >> 1), device, seq };
            versions.push(before);
        }
        if count > 1 && versions.iter().collect::<BTreeSet<_>>().len() != count {
            return invalid("a version twice in the table");
        }
        Ok(VersionReader { versions, used: 0 })
    }

    /// The version at an index, which must have been used before or be the next unused one.
    pub(crate) fn get(&mut self, index: u64) -> Result<Version, DecodeError> {
        if index > self.used as u64 || index >= self.versions.len() as u64 {
            return invalid("a version out of turn");
        }
        let index = index as usize;
        self.used = self.used.max(index + 1);
        Ok(self.versions[index])
    }

    /// Ends use and gives the table.
    pub(crate) fn finish(self) -> Result<Vec<Version>, DecodeError> {
        if self.used != self.versions.len() {
            return invalid("a version that nothing names");
        }
        Ok(self.versions)
    }
}
