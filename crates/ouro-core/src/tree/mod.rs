//! The index as a prolly tree: a B-tree over rows whose node boundaries are decided by the keys alone.
//!
//! The same rows give the same nodes and the same root, whatever the order of edits: two devices that reach one state write one tree,
//! and trees are compared by skipping what has the same id. [`Builder`] makes a tree from sorted rows, [`update`] changes one and writes
//! only the nodes that differ, [`diff`] names the rows in which two differ, [`get`], [`scan`] and [`find`] read. Nodes come through
//! [`Nodes`], which may answer that one must be fetched first. [`TreeRows`] is a tree with the changes since on top.
//!
//! A node is columnar. What its id covers (keys, values, ids of children and blobs) stands apart from the locators, so that moving bytes
//! on the remote changes no id.

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
