//! Making a tree from sorted rows, in one pass and with memory for one node per level.

use super::inner::{encode_inner, sum};
use super::leaf::encode_leaf;
use super::node::{NewNode, head};
use super::reference::NodeRef;
use super::split::{Splitter, TreeParams};
use crate::id::{FileId, NodeId};
use crate::row::{Key, Row};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Makes a tree from rows pushed in order. Nodes go to the sink bottom-up, leaves in key order; a node's children went before it.
pub struct Builder<'a> {
    params: &'a TreeParams,
    sink: &'a mut dyn FnMut(NewNode),
    rows: Vec<(Key, Row)>,
    splitter: Splitter,
    /// Levels from 1 up.
    inner: Vec<Level>,
    /// Nodes that exist already: made again, they are not new.
    known: BTreeMap<NodeId, NodeRef>,
    /// What went to the sink last.
    last_new: Option<NodeId>,
}

/// The open node of an inner level.
struct Level {
    children: Vec<(Key, NodeRef)>,
    splitter: Splitter,
    /// Children of this level so far, closed nodes' too; at least 2 as soon as that is all that can matter.
    total: u64,
}

impl<'a> Builder<'a> {
    /// A builder of an empty tree.
    pub fn new(params: &'a TreeParams, sink: &'a mut dyn FnMut(NewNode)) -> Builder<'a> {
        let splitter = Splitter::new(params, 0);
        Builder { params, sink, rows: Vec::new(), splitter, inner: Vec::new(), known: BTreeMap::new(), last_new: None }
    }

    /// Adds a row behind all others.
    ///
    /// # Panics
    /// If `key` is not greater than the one before, or `row` is a record of another file or not normalized.
    pub fn push(&mut self, key: Key, row: Row) {
        assert!(self.last_key().is_none_or(|last| *last < key), "rows are pushed in order");
        let ends = self.splitter.ends_after(&key);
        self.rows.push((key, row));
        if ends {
            self.close_leaf();
        }
    }

    /// Ends the tree; `None` if it has no rows.
    pub fn finish(self) -> Option<NodeRef> {
        self.end().map(|(root, _)| root)
    }

    /// Ends the tree; gives the root and whether it is new. A root is made last, so a new one is what went to the sink last.
    pub(super) fn end(mut self) -> Option<(NodeRef, bool)> {
        if !self.rows.is_empty() {
            self.close_leaf();
        }
        let mut level = 1;
        loop {
            let open = self.inner.get(level - 1)?;
            match &open.children[..] {
                [(_, only)] if open.total == 1 => return Some((*only, self.last_new == Some(only.id))),
                [] => {}
                _ => self.close_inner(level),
            }
            level += 1;
        }
    }

    /// Whether a whole tree of `level` may be taken as it is: nothing is open up to that level.
    pub(super) fn may_take(&self, level: u8) -> bool {
        self.rows.is_empty() && self.inner.iter().take(usize::from(level)).all(|open| open.children.is_empty())
    }

    /// Adds a whole tree, whose last key is `key`, behind all others.
    pub(super) fn take(&mut self, key: Key, node: NodeRef) {
        debug_assert!(self.may_take(node.level));
        let level = usize::from(node.level);
        self.open(level + 1);
        // More than this one tree below: none of these levels can hold the root.
        self.inner[..level].iter_mut().for_each(|open| open.total += 2);
        self.push_child(level + 1, key, node);
    }

    /// Tells of a node that exists: if it comes out again it does not go to the sink, and keeps its locator.
    pub(super) fn know(&mut self, node: NodeRef) {
        self.known.insert(node.id, node);
    }

    fn last_key(&self) -> Option<&Key> {
        let leaf = self.rows.last().map(|(key, _)| key);
        leaf.or_else(|| self.inner.iter().find_map(|open| open.children.last().map(|(key, _)| key)))
    }

    fn open(&mut self, level: usize) {
        while self.inner.len() < level {
            let splitter = Splitter::new(self.params, self.inner.len() as u8 + 1);
            self.inner.push(Level { children: Vec::new(), splitter, total: 0 });
        }
    }

    fn push_child(&mut self, level: usize, key: Key, child: NodeRef) {
        self.open(level);
        let open = &mut self.inner[level - 1];
        let ends = open.splitter.ends_after(&key);
        open.children.push((key, child));
        open.total += 1;
        if ends {
            self.close_inner(level);
        }
    }

    fn close_leaf(&mut self) {
        self.splitter.reset();
        let rows = core::mem::take(&mut self.rows);
        let encoded = encode_leaf(&head(0), &rows);
        let reference = self.reference(0, &encoded.logical, rows.len() as u64, encoded.ids);
        let node = NewNode::leaf(reference, encoded.logical, encoded.locators);
        let last = rows.into_iter().next_back().expect("a node that is closed has rows").0;
        let reference = self.emit(node);
        self.push_child(1, last, reference);
    }

    fn close_inner(&mut self, level: usize) {
        let open = &mut self.inner[level - 1];
        open.splitter.reset();
        let children = core::mem::take(&mut open.children);
        let logical = encode_inner(&head(level as u8), &children);
        let (rows, ids) = sum(children.iter().map(|(_, child)| child));
        let reference = self.reference(level as u8, &logical, rows, ids);
        let node = NewNode::inner(reference, logical, children.iter().map(|(_, child)| *child).collect());
        let last = children.into_iter().next_back().expect("a node that is closed has children").0;
        let reference = self.emit(node);
        self.push_child(level + 1, last, reference);
    }

    fn reference(&self, level: u8, logical: &[u8], rows: u64, ids: (FileId, FileId)) -> NodeRef {
        NodeRef { id: self.params.node_id(logical), level, rows, ids, at: None }
    }

    fn emit(&mut self, node: NewNode) -> NodeRef {
        if let Some(known) = self.known.get(&node.reference.id) {
            return *known;
        }
        let reference = node.reference;
        self.last_new = Some(reference.id);
        (self.sink)(node);
        reference
    }
}
