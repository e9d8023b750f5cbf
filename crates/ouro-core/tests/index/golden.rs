//! Bytes that may never change: what is on a remote today must be read for ever.
//!
//! `OUROBOX_BLESS=1 cargo test -p ouro-core --test index golden` writes the files anew: for a new format number only.

use crate::given::PARAMS;
use ouro_core::codec::{
    decode_block_list, decode_delta, decode_file_delta, decode_row, encode_block_list, encode_delta, encode_file_delta,
    encode_row,
};
use ouro_core::content::{BlobRef, Content, Locator, ObjectId};
use ouro_core::delta::{AddedContent, AddedPlacement, Delta, FileDelta, Register};
use ouro_core::id::{BlobId, DeviceNo, FileId, Hlc, NodeId, PackId, Seq, Version};
use ouro_core::name::Name;
use ouro_core::row::{Header, Key, Row};
use ouro_core::state::{Attributes, AttributesVersion, ContentVersion, File, Kind, Place, Placement};
use ouro_core::tree::{Builder, NewNode, Node, verify};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

const DEVICE: DeviceNo = DeviceNo(0x1234_5678);
const OTHER: DeviceNo = DeviceNo(0x0bad_cafe);
const TIME: i64 = 1_700_000_000_123_456_789;

/// Compares bytes with the file of that name.
fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("OUROBOX_BLESS").is_some() {
        std::fs::write(&path, bytes).expect("the golden file can be written");
    }
    let expected = std::fs::read(&path).expect("the golden file is there");
    assert!(expected == bytes, "{name} changed: {} bytes, now {}", expected.len(), bytes.len());
}

fn id(counter: u32) -> FileId {
    FileId::new(DEVICE, counter)
}

fn version(device: DeviceNo, seq: u64) -> Version {
    Version { hlc: Hlc(((1_700_000_000_000 + seq * 1000) << 16) | (seq % 3)), device, seq: Seq(seq) }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn place(parent: FileId, text: &str) -> Place {
    Place { parent, name: name(text) }
}

fn blob(n: u8, at: Option<Locator>) -> BlobRef {
    BlobRef { id: BlobId(core::array::from_fn(|i| n.wrapping_mul(i as u8 + 1))), len: 1000 * u32::from(n), at }
}

fn in_pack(offset: u32) -> Option<Locator> {
    Some(Locator { object: ObjectId::Pack(PackId([0xaa; 16])), offset, len: 700 })
}

fn in_record(offset: u32) -> Option<Locator> {
    Some(Locator { object: ObjectId::Record(DEVICE, Seq(5)), offset, len: 300 })
}

fn attributes(mode: u16) -> Attributes {
    Attributes { mode, mtime_ns: TIME, ctime_ns: TIME + 5, rdev: 0, xattrs: Vec::new() }
}

/// A saved file, a new directory, a renamed link, a device, a settled copy.
fn delta() -> Delta {
    let mut saved = FileDelta::new(id(20), Kind::File, Some(place(id(16), "report.txt")));
    let value = Some(Content::Chunks(Arc::from([blob(1, in_pack(0)), blob(2, in_pack(700)), blob(3, None)])));
    saved.content = Some(AddedContent { value, at: place(id(16), "report.txt"), by_rule: false });
    saved.attributes = Some(attributes(0o644));
    saved.replaced = vec![(Register::Content, version(DEVICE, 3)), (Register::Attributes, version(OTHER, 9))];

    let mut directory = FileDelta::new(id(21), Kind::Directory, None);
    let at = place(FileId::ROOT, "new directory");
    directory.placements.push(AddedPlacement { slot: 0, place: at, was: None, by_rule: false, removed: false });
    directory.attributes = Some(Attributes { ctime_ns: TIME, ..attributes(0o755) });

    let mut renamed = FileDelta::new(id(400), Kind::Symlink, Some(place(id(21), "old")));
    let was = Some(place(id(21), "old"));
    let moved = AddedPlacement { slot: 0, place: place(id(16), "new"), was, by_rule: false, removed: false };
    let was = Some(place(id(7), "elsewhere"));
    let link = AddedPlacement { slot: 99, place: place(id(16), "link"), was, by_rule: true, removed: true };
    renamed.placements = vec![moved, link];
    let value = Some(Content::Inline(Arc::from(b"../target".as_slice())));
    renamed.content = Some(AddedContent { value, at: place(id(16), "new"), by_rule: true });
    let slots = [(0, version(DEVICE, 3)), (99, version(DEVICE, 4))];
    renamed.replaced = slots.map(|(slot, version)| (Register::Placement { slot }, version)).to_vec();

    let mut device = FileDelta::new(FileId::new(OTHER, 16), Kind::BlockDevice, None);
    let xattrs = vec![(b"user.a".as_slice().into(), b"1".as_slice().into()), (b"user.b".as_slice().into(), [].into())];
    device.attributes = Some(Attributes { rdev: 0x801, xattrs, ..attributes(0o7777) });

    let mut copy = FileDelta::new(FileId::derived(0xfeed), Kind::File, None);
    copy.content = Some(AddedContent { value: None, at: place(id(16), "copy"), by_rule: true });
    let list = FileDelta {
        content: Some(AddedContent {
            value: Some(Content::BlockList { list: blob(4, in_record(16)), size: 1 << 40 }),
            at: place(id(2), "big"),
            by_rule: false,
        }),
        ..FileDelta::new(FileId::derived(0xffff), Kind::File, None)
    };
    Delta { files: vec![device, saved, directory, renamed, copy, list] }
}

fn record(key: &Key, kind: Kind, value: Option<Content>) -> File {
    let mut file = File::new(key.file, kind);
    let place = Place { parent: key.directory, name: key.name.clone() };
    let (version, was, by_rule, removed) = (version(DEVICE, 3), None, false, false);
    file.placements.push(Placement { slot: key.slot, version, place: place.clone(), was, by_rule, removed });
    if value.is_some() {
        file.contents.push(ContentVersion { version, value, at: place, by_rule });
    }
    file.attributes.push(AttributesVersion { version, value: attributes(0o640) });
    file
}

/// One row of every sort.
fn rows() -> Vec<(Key, Row)> {
    let key = |text: &str, file: u32, slot: u64| Key { directory: id(16), name: name(text), file: id(file), slot };
    let of = |key: Key, kind: Kind, value: Option<Content>| {
        let file = record(&key, kind, value);
        (key, Row::Record(Arc::new(file)))
    };
    let mut siblings = record(&key("both", 30, 0), Kind::File, Some(Content::Pending { size: 5, generation: 6 }));
    let list = Some(Content::BlockList { list: blob(9, in_pack(1400)), size: 1 << 33 });
    let at = place(id(17), "both");
    siblings.contents.push(ContentVersion { version: version(OTHER, 7), value: list, at, by_rule: true });
    siblings.placements[0].was = Some(place(id(18), "before"));
    siblings.placements[0].by_rule = true;
    let chunk = |n, at| Some(Content::Chunks(Arc::from([blob(n, at)])));
    let shown = place(FileId::ROOT, "directory");
    vec![
        (Key::homeless(id(40)), Row::Record(Arc::new(File::new(id(40), Kind::File)))),
        (Key::header(id(16)), Row::Header(Header { shown, removed: true, cut: false })),
        (key("both", 30, 0), Row::Record(Arc::new(siblings))),
        of(key("directory", 31, 0), Kind::Directory, None),
        of(key("file", 32, 0), Kind::File, chunk(5, in_pack(2100))),
        of(key("file 2", 33, 0), Kind::File, chunk(6, in_record(64))),
        of(key("file 3", 34, 12), Kind::File, chunk(7, None)),
        (key("link", 40, 1), Row::Reference(Kind::File)),
        of(key("small", 35, 0), Kind::File, Some(Content::Inline(Arc::from(b"few bytes".as_slice())))),
        of(key("symlink", 36, 0), Kind::Symlink, Some(Content::Inline(Arc::from(b"file".as_slice())))),
    ]
}

#[test]
fn a_delta_is_read_and_written_as_ever() {
    let bytes = encode_delta(&delta());
    golden("delta.bin", &bytes);
    assert_eq!(decode_delta(&bytes), Ok(delta()));
}

#[test]
fn a_row_of_the_journal_is_read_and_written_as_ever() {
    let mut bytes = Vec::new();
    for file in delta().files {
        let one = encode_file_delta(&file);
        assert_eq!(decode_file_delta(&one), Ok(file));
        bytes.extend(one);
    }
    golden("file-deltas.bin", &bytes);
}

#[test]
fn rows_are_read_and_written_as_ever() {
    let mut bytes = Vec::new();
    for (key, row) in rows() {
        let one = encode_row(&key, &row);
        assert_eq!(decode_row(&one), Ok((key, row)));
        bytes.extend(one);
    }
    golden("rows.bin", &bytes);
}

#[test]
fn a_block_list_is_read_and_written_as_ever() {
    let chunks: Vec<BlobRef> =
        (0..40).map(|n| blob(n, if n % 7 == 0 { None } else { in_pack(u32::from(n) * 700) })).collect();
    let bytes = encode_block_list(&chunks);
    golden("block-list.bin", &bytes);
    assert_eq!(decode_block_list(&bytes), Ok(chunks));
}

#[test]
fn a_leaf_is_read_and_written_as_ever() {
    let mut made = Vec::new();
    let mut sink = |node: NewNode| made.push(node);
    let mut builder = Builder::new(&PARAMS, &mut sink);
    rows().into_iter().for_each(|(key, row)| builder.push(key, row));
    let root = builder.finish().expect("rows");
    let bytes = made[0].encode(&|_| None);
    golden("leaf.bin", &bytes);
    let leaf = verify(&bytes, &PARAMS, root.id).expect("the leaf");
    let back: Vec<_> = (0..leaf.len()).filter_map(|index| leaf.entry(index)).collect();
    assert_eq!(back, rows());
    assert_eq!(root.ids, (id(30), id(40)));
}

#[test]
fn a_tree_has_the_nodes_it_ever_had() {
    let mut made = Vec::new();
    let mut sink = |node: NewNode| made.push(node);
    let mut builder = Builder::new(&PARAMS, &mut sink);
    for n in 0..3000u32 {
        let text = name(&format!("file {:08}", n * 7));
        let key = Key { directory: id(16 + n / 900), name: text, file: id(1000 + n), slot: 0 };
        let value = Some(Content::Chunks(Arc::from([blob(n as u8, in_pack(n * 700))])));
        builder.push(key.clone(), Row::Record(Arc::new(record(&key, Kind::File, value))));
    }
    builder.finish();
    let mut text = String::new();
    for node in &made {
        let reference = node.reference;
        writeln!(text, "{} level {} rows {} ids {:?}", reference.id, reference.level, reference.rows, reference.ids)
            .expect("text has room");
    }
    golden("tree.txt", text.as_bytes());
    let locate = |id: NodeId| {
        let offset = u32::from(id.0[0]) << 8;
        Some(Locator { object: ObjectId::Nodes(PackId([0xbb; 16])), offset, len: 9000 })
    };
    let root = made.last().expect("a root");
    let bytes = root.encode(&locate);
    golden("inner.bin", &bytes);
    assert!(Node::decode(&bytes).expect("the root").children().iter().all(|child| child.at == locate(child.id)));
}
