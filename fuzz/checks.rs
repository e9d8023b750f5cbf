//! What must hold for any bytes at all: no decoder panics, and what one accepts is the only encoding of its value.

use ouro_core::codec::{
    Reader, Writer, decode_block_list, decode_delta, decode_file_delta, decode_row, encode_block_list, encode_delta,
    encode_file_delta, encode_row,
};
use ouro_core::tree::{Builder, NewNode, Node, TreeParams, read_node_ref, write_node_ref};

/// A whole delta.
pub(crate) fn delta(bytes: &[u8]) {
    if let Ok(delta) = decode_delta(bytes) {
        assert_eq!(encode_delta(&delta), bytes);
    }
}

/// A row of the journal.
pub(crate) fn file_delta(bytes: &[u8]) {
    if let Ok(file) = decode_file_delta(bytes) {
        assert_eq!(encode_file_delta(&file), bytes);
    }
}

/// A row by itself.
pub(crate) fn row(bytes: &[u8]) {
    if let Ok((key, row)) = decode_row(bytes) {
        assert_eq!(encode_row(&key, &row), bytes);
    }
}

/// The chunks of a big file.
pub(crate) fn block_list(bytes: &[u8]) {
    if let Ok(chunks) = decode_block_list(bytes) {
        assert_eq!(encode_block_list(&chunks), bytes);
    }
}

/// A node of a tree. Rows of a leaf make that leaf again, unless they are more than one node's.
pub(crate) fn node(bytes: &[u8]) {
    let Ok(node) = Node::decode(bytes) else { return };
    let params = TreeParams { node_key: [1; 32], salt: [2; 32] };
    let mut made = Vec::new();
    let mut sink = |node: NewNode| made.push(node);
    let mut builder = Builder::new(&params, &mut sink);
    for index in 0..node.len() {
        match node.entry(index) {
            Some((key, row)) => builder.push(key, row),
            None => drop(node.key(index)),
        }
    }
    builder.finish();
    if let [leaf] = &made[..] {
        assert_eq!(leaf.encode(&|_| None), bytes);
    }
    assert!(node.weight() > 0 && node.children().len() <= node.len());
}

/// A reference to a node.
pub(crate) fn node_ref(bytes: &[u8]) {
    let mut input = Reader::new(bytes);
    if let Ok(node) = read_node_ref(&mut input) {
        let mut out = Writer::new();
        write_node_ref(&mut out, &node);
        assert_eq!(out.as_bytes(), &bytes[..bytes.len() - input.remaining()]);
    }
}
