//! Values at random, from a seed: the same seed gives the same values for ever.

use ouro_core::content::{BlobRef, Content, Locator, ObjectId};
use ouro_core::delta::{AddedContent, AddedPlacement, Delta, FileDelta, Register};
use ouro_core::id::{BlobId, DeviceNo, FileId, Hlc, PackId, Seq, Version};
use ouro_core::name::Name;
use ouro_core::row::{Header, Key, Row};
use ouro_core::state::{Attributes, AttributesVersion, ContentVersion, File, Kind, Place, Placement};
use ouro_core::tree::TreeParams;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const PARAMS: TreeParams = TreeParams { node_key: [7; 32], salt: [9; 32] };

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.next() as u8)
    }

    /// A number of any magnitude.
    pub(crate) fn number(&mut self) -> u64 {
        let bits = self.below(65);
        if bits == 0 { 0 } else { self.next() >> (64 - bits) }
    }
}

pub(crate) fn name(dice: &mut Dice) -> Name {
    let len = if dice.one_in(20) { 1 + dice.below(255) } else { 1 + dice.below(12) };
    let letters = b"aabbcdefxyz0129-_. \xff\xc3\xa4";
    let bytes: Vec<u8> = (0..len).map(|_| letters[dice.below(letters.len() as u64) as usize]).collect();
    Name::new(&bytes).unwrap_or_else(|_| Name::new(b"dot").expect("a name"))
}

pub(crate) fn file_id(dice: &mut Dice) -> FileId {
    match dice.below(12) {
        0 => FileId::derived(dice.next()),
        1 => FileId::ROOT,
        2 => FileId(dice.next() >> 1),
        _ => FileId::new(DeviceNo(77), 16 + dice.below(5000) as u32),
    }
}

pub(crate) fn place(dice: &mut Dice) -> Place {
    Place { parent: file_id(dice), name: if dice.one_in(50) { Name::empty() } else { name(dice) } }
}

pub(crate) fn version(dice: &mut Dice) -> Version {
    match dice.below(20) {
        0 => Version { hlc: Hlc(dice.next()), device: DeviceNo(dice.next() as u32), seq: Seq(dice.number()) },
        1 => Version::PENDING,
        _ => {
            let n = dice.below(30);
            Version {
                hlc: Hlc::from_millis(1_700_000_000_000 + n * 977),
                device: DeviceNo(77 + n as u32 % 2),
                seq: Seq(n),
            }
        }
    }
}

pub(crate) fn locator(dice: &mut Dice) -> Option<Locator> {
    let object = match dice.below(8) {
        0 => return None,
        1 => ObjectId::Nodes(PackId([1; 16])),
        2 => ObjectId::Record(DeviceNo(77), Seq(dice.below(3))),
        3 => ObjectId::Pack(PackId(dice.bytes())),
        _ => ObjectId::Pack(PackId([dice.below(3) as u8; 16])),
    };
    let any = dice.one_in(8);
    let mut number = |below: u64| if any { dice.next() as u32 } else { dice.below(below) as u32 };
    Some(Locator { object, offset: number(1 << 24), len: number(1 << 16) })
}

pub(crate) fn blob(dice: &mut Dice) -> BlobRef {
    BlobRef { id: BlobId(dice.bytes()), len: dice.number() as u32, at: locator(dice) }
}

pub(crate) fn content(dice: &mut Dice) -> Content {
    match dice.below(10) {
        0 => Content::BlockList { list: blob(dice), size: dice.number() },
        1 => Content::Pending { size: dice.number(), generation: dice.number() },
        2 => Content::Chunks((0..dice.below(6)).map(|_| blob(dice)).collect::<Vec<_>>().into()),
        3 | 4 => Content::Inline((0..dice.below(129)).map(|n| n as u8).collect::<Vec<_>>().into()),
        _ => Content::Chunks(Arc::from([blob(dice)])),
    }
}

pub(crate) fn kind(dice: &mut Dice) -> Kind {
    match dice.below(20) {
        0 => Kind::Symlink,
        1 => Kind::Fifo,
        2 => Kind::Socket,
        3 => Kind::CharDevice,
        4 => Kind::BlockDevice,
        5..8 => Kind::Directory,
        _ => Kind::File,
    }
}

pub(crate) fn attributes(dice: &mut Dice) -> Attributes {
    let mtime_ns = match dice.below(10) {
        0 => dice.next() as i64,
        1 => 1_700_000_000_000_000_000,
        _ => 1_700_000_000_000_000_000 + dice.below(1 << 40) as i64,
    };
    let ctime_ns = match dice.below(10) {
        0 => dice.next() as i64,
        1..6 => mtime_ns,
        _ => mtime_ns + dice.below(1 << 40) as i64 % 5_000_000_000,
    };
    let mut names = BTreeSet::new();
    if dice.one_in(8) {
        names.extend((0..dice.below(4)).map(|_| name(dice).as_bytes().to_vec()));
    }
    let xattrs = names.into_iter().map(|n| (n.into(), dice.bytes::<5>().as_slice().into())).collect();
    let rdev = if dice.one_in(20) { dice.number() } else { 0 };
    Attributes { mode: dice.below(0o10000) as u16, mtime_ns, ctime_ns, rdev, xattrs }
}

fn sorted_versions(dice: &mut Dice, count: u64) -> Vec<Version> {
    (0..count).map(|_| version(dice)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A record with anything a record can have.
pub(crate) fn strange_file(dice: &mut Dice, key: &Key) -> File {
    let mut file = File::new(key.file, kind(dice));
    let near = |dice: &mut Dice| {
        if dice.one_in(2) { Place { parent: key.directory, name: key.name.clone() } } else { place(dice) }
    };
    let mut slots: Vec<u64> = (0..dice.below(3)).map(|_| dice.number()).collect();
    slots.sort_unstable();
    slots.dedup();
    for slot in slots {
        let count = 1 + dice.below(2);
        for version in sorted_versions(dice, count) {
            let was = dice.one_in(2).then(|| place(dice));
            let (by_rule, removed) = (dice.one_in(2), dice.one_in(4));
            file.placements.push(Placement { slot, version, place: near(dice), was, by_rule, removed });
        }
    }
    let count = dice.below(3);
    for version in sorted_versions(dice, count) {
        let value = (!dice.one_in(5)).then(|| content(dice));
        file.contents.push(ContentVersion { version, value, at: near(dice), by_rule: dice.one_in(3) });
    }
    let count = dice.below(3);
    for version in sorted_versions(dice, count) {
        file.attributes.push(AttributesVersion { version, value: attributes(dice) });
    }
    file
}

/// A record as most are.
pub(crate) fn usual_file(dice: &mut Dice, key: &Key) -> File {
    let mut file = File::new(key.file, kind(dice));
    let place = Place { parent: key.directory, name: key.name.clone() };
    let (was, by_rule, removed) = (None, false, false);
    let placement = Placement { slot: key.slot, version: version(dice), place: place.clone(), was, by_rule, removed };
    file.placements.push(placement);
    if file.kind != Kind::Directory {
        file.contents.push(ContentVersion { version: version(dice), value: Some(content(dice)), at: place, by_rule });
    }
    file.attributes.push(AttributesVersion { version: version(dice), value: attributes(dice) });
    file
}

pub(crate) fn row(dice: &mut Dice, key: &Key) -> Row {
    match dice.below(20) {
        0 => Row::Reference(kind(dice)),
        1 => Row::Header(Header { shown: place(dice), removed: dice.one_in(2), cut: dice.one_in(2) }),
        2 | 3 => Row::Record(Arc::new(strange_file(dice, key))),
        _ => Row::Record(Arc::new(usual_file(dice, key))),
    }
}

pub(crate) fn key(dice: &mut Dice) -> Key {
    if dice.one_in(30) {
        return Key::homeless(file_id(dice));
    }
    let directory = FileId::new(DeviceNo(77), dice.below(40) as u32);
    let name = if dice.one_in(20) { Name::empty() } else { name(dice) };
    Key { directory, name, file: file_id(dice), slot: if dice.one_in(20) { dice.number() } else { 0 } }
}

pub(crate) fn file_delta(dice: &mut Dice, id: FileId) -> FileDelta {
    let hint = (!dice.one_in(3)).then(|| place(dice));
    let mut file = FileDelta::new(id, kind(dice), hint);
    let near = |dice: &mut Dice, file: &FileDelta| match (&file.hint, file.placements.first(), dice.below(3)) {
        (Some(hint), _, 0) => hint.clone(),
        (_, Some(placement), 1) => placement.place.clone(),
        _ => place(dice),
    };
    let slots: BTreeSet<u64> = (0..dice.below(3)).map(|n| n * dice.number()).collect();
    for slot in slots {
        let was = (!dice.one_in(3)).then(|| near(dice, &file));
        let place = near(dice, &file);
        file.placements.push(AddedPlacement { slot, place, was, by_rule: dice.one_in(3), removed: dice.one_in(4) });
    }
    if dice.one_in(2) {
        let value = (!dice.one_in(5)).then(|| content(dice));
        let at = near(dice, &file);
        file.content = Some(AddedContent { value, at, by_rule: dice.one_in(4) });
    }
    file.attributes = dice.one_in(2).then(|| attributes(dice));
    let mut replaced = BTreeSet::new();
    for _ in 0..dice.below(5) {
        let register = match dice.below(4) {
            0 => Register::Placement { slot: 0 },
            1 => Register::Placement { slot: dice.number() },
            2 => Register::Content,
            _ => Register::Attributes,
        };
        replaced.insert((register, version(dice)));
    }
    file.replaced = replaced.into_iter().collect();
    file
}

pub(crate) fn delta(dice: &mut Dice, files: u64) -> Delta {
    let ids: BTreeSet<FileId> = (0..files).map(|_| file_id(dice)).collect();
    Delta { files: ids.into_iter().map(|id| file_delta(dice, id)).collect() }
}
