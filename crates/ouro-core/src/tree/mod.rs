//! The index as a prolly tree: a B-tree over rows whose node boundaries are decided by the keys alone.
//!
//! The same rows give the same nodes and the same root, whatever the order of edits: two devices that reach one state write one tree,
//! and trees are compared by skipping what has the same id. [`Builder`] makes a tree from sorted rows, [`update`] changes one and writes
//! only the nodes that differ, [`diff`] names the rows in which two differ, [`get`], [`scan`] and [`find`] read. Nodes come through
//! [`Nodes`], which may answer that one must be fetched first. [`TreeRows`] is a tree with the changes since on top.
//!
//! A node is columnar. What its id covers (keys, values, ids of children and blobs) stands apart from the locators, so that moving bytes
//! on the remote changes no id.
//!
//! # Bytes
//!
//! A stored node is `varint length, logical section, locator section`; its id is the BLAKE3 of the logical section, keyed with
//! [`TreeParams::node_key`]. Numbers are varints unless said otherwise, ± marks zigzag, differences wrap at 64 bits.
//!
//! * **Keys** (of rows, or the last one below each child): runs of directories (count; per run: id - (id before + 1), rows); a byte per key
//!   for the prefix shared with the name before, a byte for the rest's length, the rests; file ids (± to the one before); slots that are not
//!   0 (count; per slot: rows skipped, slot).
//! * **Leaf**: format 1 (byte), level 0 (byte); table of versions (as in deltas); rows; keys; a byte of form per row (bits 0-2 kind, 3-4
//!   content: none, one chunk, inline, special; 5: ctime is mtime). Then columns of the ordinary rows: modes; mtime seconds (± to the one
//!   before), mtime nanoseconds (u32 little endian); the same of those ctimes that differ; versions of placement, of attributes, of content
//!   (indices in the table); chunk ids (32 bytes); chunk lengths; inline lengths; inline bytes. Then the special rows in full.
//! * **Inner node**: format 1, level (byte); children; keys; ids (32 bytes); rows below; ranges of file ids (± least to the least before,
//!   greatest - least).
//! * **Locators**: of blobs in the order of the logical section (columns before special rows), of children in order: see [`crate::codec`].
//! * **Boundaries**: a node ends after the key whose draw, the first 4 bytes (big endian) of BLAKE3 keyed with [`TreeParams::salt`] over
//!   `level (byte), directory, file, slot (8 bytes big endian each), name`, is below `2^32 (b^4 - a^4) / 18076^4`, where the node's size went
//!   from a to b with this key, each key counting 64 + the length of its name; not below 2 KiB, always at 64 KiB. The root is the first
//!   level that has one node.

mod build;
mod column;
mod diff;
mod inner;
mod keys;
mod leaf;
mod node;
mod read;
mod reference;
mod rows;
mod split;
mod update;

pub use build::Builder;
pub use diff::{DiffVisitor, diff};
pub use node::{NewNode, Node, relocate, verify};
pub use read::{MapNodes, Nodes, find, get, scan};
pub use reference::{NodeRef, read_node_ref, write_node_ref};
pub use rows::{MapRows, TreeRows};
pub use split::{NODE_BYTES_MAX, NODE_BYTES_MIN, NODE_BYTES_TARGET, ROW_BYTES, TreeParams};
pub use update::update;
