//! What every object on the remote begins with, and what the objects are called.

use ouro_core::content::ObjectId;
use ouro_core::id::{DeviceId, PackId, Seq};

use crate::collection::CollectionNo;
use crate::error::RepoError;

/// First bytes of every object but `ourobox.json`.
pub(crate) const MAGIC: [u8; 6] = *b"OURBX\x1a";
/// The format version written here, and the newest that is understood.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes before the first part of an object: magic (6), format version (1), kind (1), length of the whole object (4, little-endian), length
/// of the part that the kind speaks of (4, little-endian).
pub const HEADER_BYTES: usize = 16;

pub(crate) const CONFIG_NAME: &str = "ourobox.json";
pub(crate) const KEYS_PREFIX: &str = "keys/";
pub(crate) const DEVICES_PREFIX: &str = "devices/";
pub(crate) const HEADS_PREFIX: &str = "heads/";
const REMOVED: &str = ".removed.";
pub(crate) const COLLECTIONS_PREFIX: &str = "gc/";
pub(crate) const MOVED_PREFIX: &str = "moved/";

/// What an object is: its eighth byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ObjectKind {
    KeySlot = 1,
    Device = 2,
    Record = 3,
    Hint = 4,
    Pack = 5,
    Nodes = 6,
    Removal = 7,
    Collection = 8,
    Moved = 9,
}

/// A header for an object of `len` bytes whose principal part has `part_len` bytes.
pub(crate) fn header(kind: ObjectKind, len: u32, part_len: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..6].copy_from_slice(&MAGIC);
    header[6] = FORMAT_VERSION;
    header[7] = kind as u8;
    header[8..12].copy_from_slice(&len.to_le_bytes());
    header[12..].copy_from_slice(&part_len.to_le_bytes());
    header
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// The whole object, in bytes.
    pub(crate) object: u32,
    /// The principal part, in bytes; never more than the object holds behind its header.
    pub(crate) part: u32,
}

/// Reads the header of an object of which at least the beginning is there. `None`: not even the header is (a torn object).
pub(crate) fn parse_header(name: &str, bytes: &[u8], kind: ObjectKind) -> Result<Option<Lengths>, RepoError> {
    let seen = bytes.len().min(HEADER_BYTES);
    if bytes[..seen].iter().all(|&b| b == 0) {
        return Ok(None); // nothing, or the zeros that a power cut leaves
    }
    if bytes[..seen.min(6)] != MAGIC[..seen.min(6)] {
        return Err(RepoError::Foreign { name: name.to_owned() });
    }
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    if header[6] > FORMAT_VERSION {
        let (found, supported) = (u32::from(header[6]), u32::from(FORMAT_VERSION));
        return Err(RepoError::NewerFormat { name: name.to_owned(), found, supported });
    }
    if header[6] == 0 || header[7] != kind as u8 {
        return Err(RepoError::corrupt(name, "wrong kind of object"));
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let lengths = Lengths { object: word(8), part: word(12) };
    if u64::from(lengths.object) < HEADER_BYTES as u64 + u64::from(lengths.part) {
        return Err(RepoError::corrupt(name, "lengths do not fit"));
    }
    Ok(Some(lengths))
}

/// Checks a whole object. `None`: it is torn, which counts as absent.
pub(crate) fn check(name: &str, bytes: &[u8], kind: ObjectKind) -> Result<Option<Lengths>, RepoError> {
    let Some(lengths) = parse_header(name, bytes, kind)? else {
        return Ok(None);
    };
    match (bytes.len() as u64).cmp(&u64::from(lengths.object)) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Equal => Ok(Some(lengths)),
        std::cmp::Ordering::Greater => Err(RepoError::corrupt(name, "longer than it says")),
    }
}

/// A length as the header holds it.
pub(crate) fn length(what: &'static str, bytes: usize) -> Result<u32, RepoError> {
    let too_large = RepoError::TooLarge { what, bytes: bytes as u64, limit: u64::from(u32::MAX) };
    u32::try_from(bytes).map_err(|_| too_large)
}

pub(crate) fn device_name(id: DeviceId) -> String {
    format!("{DEVICES_PREFIX}{id}")
}

/// Removals stand beside the devices, so that one list shows both.
pub(crate) fn removal_name(device: DeviceId, by: DeviceId) -> String {
    format!("{DEVICES_PREFIX}{device}{REMOVED}{by}")
}

/// The device that was removed, and the one that did it.
pub(crate) fn removal_of(name: &str) -> Option<(DeviceId, DeviceId)> {
    let (device, by) = name.strip_prefix(DEVICES_PREFIX)?.split_once(REMOVED)?;
    Some((device_of(device, "")?, device_of(by, "")?))
}

pub(crate) fn hint_name(id: DeviceId) -> String {
    format!("{HEADS_PREFIX}{id}")
}

/// The sequence number is 16 hexadecimal digits, so that names sort as numbers do.
pub(crate) fn record_name(id: DeviceId, seq: Seq) -> String {
    format!("log/{id}/{:016x}", seq.0)
}

/// What all names of a log begin with.
pub(crate) fn log_prefix(id: DeviceId) -> String {
    format!("log/{id}/")
}

/// Which commit of a log has a name; `None` for a stranger's.
pub(crate) fn seq_of(name: &str, id: DeviceId) -> Option<Seq> {
    let seq = Seq(u64::from_str_radix(name.strip_prefix(&log_prefix(id))?, 16).ok()?);
    (record_name(id, seq) == name).then_some(seq)
}

pub(crate) fn pack_name(id: PackId) -> String {
    format!("packs/{:02x}/{id}", id.0[0])
}

pub(crate) fn nodes_name(id: PackId) -> String {
    format!("nodes/{:02x}/{id}", id.0[0])
}

/// The number is 16 hexadecimal digits, so that names sort as numbers do.
pub(crate) fn collection_name(number: CollectionNo) -> String {
    format!("{COLLECTIONS_PREFIX}{:016x}", number.0)
}

/// The number of the collection that an object below `gc/` is.
pub(crate) fn collection_of(name: &str) -> Option<CollectionNo> {
    let digits = name.strip_prefix(COLLECTIONS_PREFIX)?;
    let number = CollectionNo(u64::from_str_radix(digits, 16).ok()?);
    (collection_name(number) == name).then_some(number)
}

pub(crate) fn moved_name(id: PackId) -> String {
    format!("{MOVED_PREFIX}{id}")
}

/// The pack that a name below `packs/` or `nodes/` is.
pub fn pack_of(name: &str) -> Option<ObjectId> {
    let (kind, rest) = name.split_once('/')?;
    let (_, digits) = rest.split_once('/')?;
    let DeviceId(id) = device_of(digits, "")?;
    let object = match kind {
        "packs" => ObjectId::Pack(PackId(id)),
        "nodes" => ObjectId::Nodes(PackId(id)),
        _ => return None,
    };
    (describe(object) == name).then_some(object)
}

/// For messages: where something lies, when the name itself may be unknown.
pub(crate) fn describe(object: ObjectId) -> String {
    match object {
        ObjectId::Pack(id) => pack_name(id),
        ObjectId::Nodes(id) => nodes_name(id),
        ObjectId::Record(device, seq) => format!("log/<device {}>/{:016x}", device.0, seq.0),
    }
}

/// The device that an object below `devices/` or `heads/` belongs to.
pub(crate) fn device_of(name: &str, prefix: &str) -> Option<DeviceId> {
    let text = name.strip_prefix(prefix)?;
    let mut id = [0; 16];
    if text.len() != 32 {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let hex = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = hex(digits[0])? << 4 | hex(digits[1])?;
    }
    Some(DeviceId(id))
}

/// Whether `found` is what a broken upload of exactly `wanted` leaves behind: a beginning of it, then nothing or zeros.
pub(crate) fn is_remnant(found: &[u8], wanted: &[u8]) -> bool {
    if found.len() > wanted.len() || found == wanted {
        return false;
    }
    let common = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    found[common..].iter().all(|&b| b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(body: &[u8]) -> Vec<u8> {
        let mut bytes = header(ObjectKind::Hint, (HEADER_BYTES + body.len()) as u32, body.len() as u32).to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_removal_is_told_from_a_device_by_its_name() {
        let (device, by) = (DeviceId([1; 16]), DeviceId([0xfe; 16]));
        assert_eq!(removal_of(&removal_name(device, by)), Some((device, by)));
        assert_eq!(device_of(&removal_name(device, by), DEVICES_PREFIX), None);
        assert_eq!(removal_of(&device_name(device)), None);
    }

    #[test]
    fn every_beginning_of_an_object_counts_as_torn() {
        let whole = object(b"something");
        for len in 0..whole.len() {
            assert_eq!(check("x", &whole[..len], ObjectKind::Hint).unwrap(), None, "{len} bytes");
        }
        assert_eq!(check("x", &whole, ObjectKind::Hint).unwrap(), Some(Lengths { object: 25, part: 9 }));
    }

    #[test]
    fn strangers_newer_formats_and_torn_objects_are_told_apart() {
        let whole = object(b"something");
        assert!(matches!(check("x", b"<html>", ObjectKind::Hint), Err(RepoError::Foreign { .. })));
        assert!(matches!(check("x", b"O<html>", ObjectKind::Hint), Err(RepoError::Foreign { .. })));
        let mut newer = whole.clone();
        newer[6] = 2;
        assert!(matches!(check("x", &newer, ObjectKind::Hint), Err(RepoError::NewerFormat { found: 2, .. })));
        assert!(matches!(check("x", &whole, ObjectKind::Pack), Err(RepoError::Corrupt { .. })));
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(check("x", &longer, ObjectKind::Hint), Err(RepoError::Corrupt { .. })));
        assert_eq!(check("x", &[0; 40], ObjectKind::Hint).unwrap(), None);
    }

    #[test]
    fn only_a_beginning_followed_by_zeros_is_a_remnant() {
        assert!(is_remnant(b"", b"abc"));
        assert!(is_remnant(b"ab", b"abc"));
        assert!(is_remnant(b"a\0\0", b"abc"));
        assert!(!is_remnant(b"abc", b"abc"));
        assert!(!is_remnant(b"abd", b"abc"));
        assert!(!is_remnant(b"abcd", b"abc"));
    }

    #[test]
    fn packs_and_collections_are_read_back_from_their_names() {
        for object in [ObjectId::Pack(PackId([0xa5; 16])), ObjectId::Nodes(PackId([7; 16]))] {
            assert_eq!(pack_of(&describe(object)), Some(object));
        }
        assert_eq!(pack_of("packs/00/a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"), None);
        let number = CollectionNo(0x1_0000_0007);
        assert_eq!(collection_of(&collection_name(number)), Some(number));
        assert_eq!(collection_of("gc/1"), None);
    }

    #[test]
    fn a_device_is_read_back_from_its_name() {
        let id = DeviceId([0xa5; 16]);
        assert_eq!(device_of(&hint_name(id), HEADS_PREFIX), Some(id));
        assert_eq!(device_of("heads/zz", HEADS_PREFIX), None);
        assert_eq!(device_of(&format!("heads/{}", "G".repeat(32)), HEADS_PREFIX), None);
    }
}
