//! Deltas, rows and block lists: what is written comes back, and nothing else is read.

use crate::given::{self, Dice, PARAMS};
use ouro_core::codec::{
    DecodeError, Reader, Writer, decode_block_list, decode_delta, decode_file_delta, decode_row, encode_block_list,
    encode_delta, encode_file_delta, encode_row,
};
use ouro_core::content::{BlobRef, Content, Locator, ObjectId};
use ouro_core::delta::{AddedContent, Delta, FileDelta, Register};
use ouro_core::id::{BlobId, DeviceNo, FileId, Hlc, PackId, Seq, Version};
use ouro_core::name::Name;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_core::tree::{Node, NodeRef, read_node_ref, write_node_ref};
use proptest::prelude::*;
use std::fmt::Debug;
use std::sync::Arc;

/// Locators are no part of equality; their text is.
fn same_with_locators<T: Debug + PartialEq>(a: &T, b: &T, encode: impl Fn(&T) -> Vec<u8>) {
    assert_eq!(a, b);
    assert_eq!(encode(a), encode(b));
}

/// Decodes bytes damaged in many ways: never a panic, and what is accepted is the one encoding of its value.
fn survives<T>(
    dice: &mut Dice,
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    for cut in 0..bytes.len().min(40) {
        assert!(decode(&bytes[..bytes.len() - 1 - cut]).is_err(), "accepted a value {} bytes short", cut + 1);
    }
    for _ in 0..60 {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(bytes.len() as u64) as usize;
            match dice.below(4) {
                0 => bytes[at] = dice.next() as u8,
                1 => bytes[at] ^= 1 << dice.below(8),
                2 => bytes.insert(at, dice.next() as u8),
                _ => drop((bytes.len() > 1).then(|| bytes.remove(at))),
            }
        }
        if let Ok(value) = decode(&bytes) {
            assert_eq!(encode(&value), bytes, "two encodings of one value");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_comes_back_and_damage_is_noticed(seed: u64) {
        let mut dice = Dice(seed);
        let files = dice.below(8);
        let delta = given::delta(&mut dice, files);
        let bytes = encode_delta(&delta);
        same_with_locators(&decode_delta(&bytes).expect("just encoded"), &delta, encode_delta);
        survives(&mut dice, &bytes, decode_delta, encode_delta);
    }

    #[test]
    fn a_row_of_the_journal_comes_back(seed: u64) {
        let mut dice = Dice(seed);
        let id = given::file_id(&mut dice);
        let file = given::file_delta(&mut dice, id);
        let bytes = encode_file_delta(&file);
        same_with_locators(&decode_file_delta(&bytes).expect("just encoded"), &file, encode_file_delta);
        survives(&mut dice, &bytes, decode_file_delta, encode_file_delta);
    }

    #[test]
    fn a_row_by_itself_comes_back(seed: u64) {
        let mut dice = Dice(seed);
        let key = given::key(&mut dice);
        let row = given::row(&mut dice, &key);
        let bytes = encode_row(&key, &row);
        let back = decode_row(&bytes).expect("just encoded");
        same_with_locators(&back, &(key, row), |(key, row)| encode_row(key, row));
        survives(&mut dice, &bytes, decode_row, |(key, row)| encode_row(key, row));
    }

    #[test]
    fn a_block_list_comes_back(seed: u64) {
        let mut dice = Dice(seed);
        let chunks: Vec<BlobRef> = (0..dice.below(50)).map(|_| given::blob(&mut dice)).collect();
        let bytes = encode_block_list(&chunks);
        let back = decode_block_list(&bytes).expect("just encoded");
        prop_assert!(back.iter().map(|c| c.at).eq(chunks.iter().map(|c| c.at)));
        prop_assert_eq!(back, chunks);
        survives(&mut dice, &bytes, decode_block_list, |chunks| encode_block_list(chunks));
    }

    #[test]
    fn a_reference_to_a_node_comes_back(seed: u64) {
        let mut dice = Dice(seed);
        let ids = (given::file_id(&mut dice), given::file_id(&mut dice));
        let id = ouro_core::id::NodeId(dice.bytes());
        let node = NodeRef { id, level: dice.next() as u8, rows: dice.number(), ids, at: given::locator(&mut dice) };
        let mut out = Writer::new();
        write_node_ref(&mut out, &node);
        let mut input = Reader::new(out.as_bytes());
        let back = read_node_ref(&mut input).expect("just encoded");
        prop_assert_eq!(input.finish(), Ok(()));
        prop_assert_eq!(back.at, node.at);
        prop_assert_eq!(back, node);
    }

    #[test]
    fn random_bytes_never_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_delta(&bytes);
        let _ = decode_file_delta(&bytes);
        let _ = decode_row(&bytes);
        let _ = decode_block_list(&bytes);
        let _ = Node::decode(&bytes);
        let _ = ouro_core::tree::verify(&bytes, &PARAMS, ouro_core::id::NodeId([0; 32]));
    }
}

/// An edit as a text editor makes it: new content of one chunk, new attributes, both registers replaced.
fn one_edit(n: u32) -> FileDelta {
    let id = FileId::new(DeviceNo(0x5eed_1234), 16 + n * 997);
    let place =
        Place { parent: FileId::new(DeviceNo(0x5eed_1234), 16 + n), name: Name::new(b"report.txt").expect("a name") };
    let version = Version { hlc: Hlc::from_millis(1_700_000_000_000), device: DeviceNo(0x5eed_1234), seq: Seq(41) };
    let mut hash = Dice(u64::from(n));
    let at = Some(Locator { object: ObjectId::Pack(PackId([3; 16])), offset: 1000 + n * 7000, len: 6543 });
    let chunk = BlobRef { id: BlobId(hash.bytes()), len: 9876, at };
    let mut file = FileDelta::new(id, Kind::File, Some(place.clone()));
    file.content = Some(AddedContent { value: Some(Content::Chunks(Arc::from([chunk]))), at: place, by_rule: false });
    let time = 1_700_000_100_123_456_789 + i64::from(n) * 12_345_678_901;
    file.attributes = Some(Attributes { mode: 0o644, mtime_ns: time, ctime_ns: time, rdev: 0, xattrs: Vec::new() });
    file.replaced = vec![(Register::Content, version), (Register::Attributes, version)];
    file
}

#[test]
fn one_edited_file_costs_at_most_150_bytes() {
    let bytes = encode_delta(&Delta { files: vec![one_edit(1)] });
    assert!(bytes.len() <= 150, "{} bytes", bytes.len());
}

#[test]
fn a_thousand_scattered_edits_cost_at_most_100_kb() {
    let bytes = encode_delta(&Delta { files: (0..1000).map(one_edit).collect() });
    assert!(bytes.len() <= 100_000, "{} bytes", bytes.len());
}

#[test]
fn a_delta_of_a_newer_format_is_told_from_a_broken_one() {
    let mut bytes = encode_delta(&Delta::default());
    bytes[1] = 2;
    assert_eq!(decode_delta(&bytes), Err(DecodeError::NewerFormat { format: 2 }));
}

#[test]
#[should_panic(expected = "sorted by id")]
fn a_delta_with_a_file_twice_is_not_written() {
    encode_delta(&Delta { files: vec![one_edit(1), one_edit(1)] });
}
