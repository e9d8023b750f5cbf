//! Replays what fuzzing found worth keeping (`fuzz/corpus`), and damages it in ways of our own.

#[path = "../../../../fuzz/checks.rs"]
mod checks;

use crate::given::{self, Dice, PARAMS};
use ouro_core::codec::{encode_block_list, encode_delta, encode_file_delta, encode_row};
use ouro_core::tree::{Builder, NewNode};
use std::path::PathBuf;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

/// Runs a check over a corpus, each input as it is and damaged.
fn replay(name: &str, check: fn(&[u8])) {
    let files = std::fs::read_dir(corpus().join(name)).expect("the corpus is there");
    let mut inputs: Vec<Vec<u8>> =
        files.map(|file| std::fs::read(file.expect("an entry").path()).expect("a file")).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "an empty corpus shows nothing");
    let mut dice = Dice(1);
    for input in &inputs {
        check(input);
        for _ in 0..if input.is_empty() { 0 } else { 8 } {
            check(&damaged(&mut dice, input));
        }
    }
}

fn damaged(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = dice.below(bytes.len() as u64) as usize;
    match dice.below(4) {
        0 => bytes[at] = dice.next() as u8,
        1 => bytes[at] ^= 1 << dice.below(8),
        2 => bytes.insert(at, dice.next() as u8),
        _ => bytes.truncate(at),
    }
    bytes
}

#[test]
fn deltas_of_the_corpus_are_refused_or_canonical() {
    replay("delta", checks::delta);
    replay("file_delta", checks::file_delta);
}

#[test]
fn rows_of_the_corpus_are_refused_or_canonical() {
    replay("row", checks::row);
}

#[test]
fn block_lists_of_the_corpus_are_refused_or_canonical() {
    replay("block_list", checks::block_list);
}

#[test]
fn nodes_of_the_corpus_are_refused_or_canonical() {
    replay("node", checks::node);
    replay("node_ref", checks::node_ref);
}

/// Nodes of random rows, for fuzzing to begin with and for damaging here.
fn nodes(seed: u64, rows: u64) -> Vec<Vec<u8>> {
    let mut dice = Dice(seed);
    let keys: std::collections::BTreeSet<_> = (0..rows).map(|_| given::key(&mut dice)).collect();
    let mut made = Vec::new();
    let mut sink = |node: NewNode| made.push(node.encode(&|_| None));
    let mut builder = Builder::new(&PARAMS, &mut sink);
    for key in keys {
        let row = given::row(&mut dice, &key);
        builder.push(key, row);
    }
    builder.finish();
    made
}

#[test]
fn damaged_nodes_are_refused_or_canonical() {
    let mut dice = Dice(2);
    for seed in 0..60 {
        for node in nodes(seed, 1 + seed * 7 % 40) {
            checks::node(&node);
            for _ in 0..200 {
                checks::node(&damaged(&mut dice, &node));
            }
        }
    }
}

#[test]
#[ignore = "writes the seeds of the corpora anew"]
fn seeds_of_the_corpora() {
    let write = |name: &str, n: u64, bytes: &[u8]| {
        let folder = corpus().join(name);
        std::fs::create_dir_all(&folder).expect("the folder of the corpus");
        std::fs::write(folder.join(format!("seed-{n}")), bytes).expect("a seed");
    };
    for n in 0..12 {
        let mut dice = Dice(1000 + n);
        write("delta", n, &encode_delta(&given::delta(&mut dice, n)));
        let id = given::file_id(&mut dice);
        write("file_delta", n, &encode_file_delta(&given::file_delta(&mut dice, id)));
        let key = given::key(&mut dice);
        write("row", n, &encode_row(&key, &given::row(&mut dice, &key)));
        let chunks: Vec<_> = (0..n).map(|_| given::blob(&mut dice)).collect();
        write("block_list", n, &encode_block_list(&chunks));
        let made = nodes(n, 1 + n);
        write("node", n, made.last().expect("a node"));
    }
    let big = nodes(77, 700);
    write("node", 100, big.last().expect("a node"));
    let mut dice = Dice(5);
    for n in 0..4 {
        let ids = (given::file_id(&mut dice), given::file_id(&mut dice));
        let id = ouro_core::id::NodeId(dice.bytes());
        let at = given::locator(&mut dice);
        let mut out = ouro_core::codec::Writer::new();
        let node = ouro_core::tree::NodeRef { id, level: n as u8, rows: dice.number(), ids, at };
        ouro_core::tree::write_node_ref(&mut out, &node);
        write("node_ref", n, out.as_bytes());
    }
}
