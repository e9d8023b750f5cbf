//! One node: decoded ([`Node`]) or just made ([`NewNode`]).

use super::inner::{decode_inner, sum};
use super::keys::Keys;
use super::leaf::{Leaf, decode_leaf};
use super::reference::NodeRef;
use super::split::TreeParams;
use crate::codec::sections::{Decoder, join, split};
use crate::codec::{DecodeError, Reader};
use crate::content::{BlobRef, Locator};
use crate::id::{FileId, NodeId};
use crate::row::{Key, Row};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The number that nodes begin with.
const FORMAT: u8 = 1;

/// What the logical bytes of a node of `level` begin with.
pub(super) fn head(level: u8) -> [u8; 2] {
    [FORMAT, level]
}

/// A decoded node: compact in memory, rows are made when asked for.
#[derive(Debug)]
pub struct Node {
    level: u8,
    keys: Keys,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Leaf(Leaf),
    Inner(Vec<NodeRef>),
}

impl Node {
    /// Decodes the bytes that [`NewNode::encode`] made.
    ///
    /// # Errors
    /// [`DecodeError`] if they are anything else; [`verify`] also asks whether they are the node that was wanted.
    pub fn decode(bytes: &[u8]) -> Result<Node, DecodeError> {
        let (logical, locators) = split(bytes)?;
        Node::from_sections(logical, locators)
    }

    fn from_sections(logical: &[u8], locators: &[u8]) -> Result<Node, DecodeError> {
        let mut input = Reader::new(logical);
        match input.u8()? {
            FORMAT => {}
            0 => return Err(DecodeError::Invalid { what: "format of a node" }),
            format => return Err(DecodeError::NewerFormat { format }),
        }
        let level = input.u8()?;
        let (keys, body) = if level == 0 {
            let (keys, leaf) = decode_leaf(Decoder::new(input, locators)?)?;
            (keys, Body::Leaf(leaf))
        } else {
            let (keys, children) = decode_inner(input, locators, level)?;
            (keys, Body::Inner(children))
        };
        if keys.len() == 0 {
            Err(DecodeError::Invalid { what: "an empty node" })
        } else {
            Ok(Node { level, keys, body })
        }
    }

    /// 0 for leaves.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Rows of a leaf, children of an inner node; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a node is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Rows below, the leaf's own or all its children's.
    pub fn rows(&self) -> u64 {
        match &self.body {
            Body::Leaf(_) => self.len() as u64,
            Body::Inner(children) => sum(children.iter()).0,
        }
    }

    /// The key at an index: a row's own, or the last one below a child.
    ///
    /// # Panics
    /// If `index` is not below [`Node::len`].
    pub fn key(&self, index: usize) -> Key {
        self.keys.key(index)
    }

    /// The row at an index; `None` in inner nodes.
    ///
    /// # Panics
    /// If `index` is not below [`Node::len`].
    pub fn row(&self, index: usize) -> Option<Row> {
        self.entry(index).map(|(_, row)| row)
    }

    /// The row at an index with its key; `None` in inner nodes.
    ///
    /// # Panics
    /// If `index` is not below [`Node::len`].
    pub fn entry(&self, index: usize) -> Option<(Key, Row)> {
        let Body::Leaf(leaf) = &self.body else { return None };
        let key = self.keys.key(index);
        let row = leaf.row(index, &key);
        Some((key, row))
    }

    /// The children in order; none in leaves.
    pub fn children(&self) -> &[NodeRef] {
        match &self.body {
            Body::Leaf(_) => &[],
            Body::Inner(children) => children,
        }
    }

    /// Visits the blobs that the rows of a leaf name; a blob may come more than once.
    pub fn blobs(&self, visit: &mut dyn FnMut(&BlobRef)) {
        if let Body::Leaf(leaf) = &self.body {
            leaf.blobs(visit);
        }
    }

    /// Visits the block lists among them.
    pub fn lists(&self, visit: &mut dyn FnMut(&BlobRef)) {
        if let Body::Leaf(leaf) = &self.body {
            leaf.lists(visit);
        }
    }

    /// Bytes held in memory, about: for caches with a limit.
    pub fn weight(&self) -> usize {
        let body = match &self.body {
            Body::Leaf(leaf) => leaf.weight(),
            Body::Inner(children) => children.capacity() * size_of::<NodeRef>(),
        };
        size_of::<Node>() + self.keys.weight() + body
    }

    pub(super) fn lower_bound(&self, key: &Key) -> usize {
        self.keys.lower_bound(key)
    }

    pub(super) fn compare(&self, index: usize, key: &Key) -> Ordering {
        self.keys.compare(index, key)
    }

    pub(super) fn compare_with(&self, index: usize, other: &Node, other_index: usize) -> Ordering {
        self.keys.compare_with(index, &other.keys, other_index)
    }

    /// Whether the rows at two places are equal, their keys being so.
    pub(super) fn same_row(&self, index: usize, other: &Node, other_index: usize) -> bool {
        match (&self.body, &other.body) {
            (Body::Leaf(a), Body::Leaf(b)) => a.same(index, b, other_index),
            _ => false,
        }
    }

    /// Where the record of a file stands in this leaf.
    pub(super) fn position_of_record(&self, file: FileId) -> Option<usize> {
        let Body::Leaf(leaf) = &self.body else { return None };
        let files = self.keys.files().iter().enumerate();
        files.filter(|(_, id)| **id == file).map(|(row, _)| row).find(|&row| leaf.is_record(row))
    }
}

/// Decodes a node and checks that it is the one that was asked for.
///
/// # Errors
/// [`DecodeError`] if the bytes are no node or another one.
pub fn verify(bytes: &[u8], params: &TreeParams, expected: NodeId) -> Result<Node, DecodeError> {
    let (logical, locators) = split(bytes)?;
    if params.node_id(logical) != expected {
        return Err(DecodeError::Invalid { what: "bytes of another node" });
    }
    Node::from_sections(logical, locators)
}

/// Writes a node anew with other locators, after a repack: its id stays.
///
/// `blob` and `child` say where a blob or a child lies now; they are shown the reference with the locator that stands there.
///
/// # Errors
/// [`DecodeError`] if the bytes are no node.
pub fn relocate(
    bytes: &[u8],
    blob: &dyn Fn(&BlobRef) -> Option<Locator>,
    child: &dyn Fn(&NodeRef) -> Option<Locator>,
) -> Result<Vec<u8>, DecodeError> {
    let (logical, locators) = split(bytes)?;
    let node = Node::from_sections(logical, locators)?;
    let mut locators: Vec<_> = node.children().iter().map(child).collect();
    node.blobs(&mut |found| locators.push(blob(found)));
    Ok(join(logical, &locators))
}

/// A node just made, not stored yet.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// What it is; `at` is `None`.
    pub reference: NodeRef,
    logical: Vec<u8>,
    below: Below,
}

/// What the locator section will be about.
#[derive(Clone, Debug)]
enum Below {
    Blobs(Vec<Option<Locator>>),
    Children(Vec<NodeRef>),
}

impl NewNode {
    pub(super) fn leaf(reference: NodeRef, logical: Vec<u8>, locators: Vec<Option<Locator>>) -> NewNode {
        NewNode { reference, logical, below: Below::Blobs(locators) }
    }

    pub(super) fn inner(reference: NodeRef, logical: Vec<u8>, children: Vec<NodeRef>) -> NewNode {
        NewNode { reference, logical, below: Below::Children(children) }
    }

    /// The bytes to store. A child that has a locator keeps it; for the others `locate` says where they lie by now.
    pub fn encode(&self, locate: &dyn Fn(NodeId) -> Option<Locator>) -> Vec<u8> {
        match &self.below {
            Below::Blobs(locators) => join(&self.logical, locators),
            Below::Children(children) => {
                let locators: Vec<_> = children.iter().map(|child| child.at.or_else(|| locate(child.id))).collect();
                join(&self.logical, &locators)
            }
        }
    }

    /// The children in order; none in leaves.
    pub fn children(&self) -> &[NodeRef] {
        match &self.below {
            Below::Blobs(_) => &[],
            Below::Children(children) => children,
        }
    }

    /// The node as it will be read, without locators of children that have none yet.
    pub fn node(&self) -> Node {
        Node::decode(&self.encode(&|_| None)).expect("what was just encoded can be decoded")
    }
}
