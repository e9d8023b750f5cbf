//! Reading a tree.

use super::node::{NewNode, Node};
use super::reference::NodeRef;
use crate::id::{FileId, NodeId};
use crate::row::{Key, Missing, Row};
use crate::state::File;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Where decoded nodes come from: a cache, a disk, a map in tests.
pub trait Nodes {
    /// The node that a reference names.
    ///
    /// # Errors
    /// [`Missing`] if it must be fetched first.
    fn node(&self, at: &NodeRef) -> Result<Arc<Node>, Missing>;
}

/// Nodes in a map: for tests and small tools.
#[derive(Clone, Debug, Default)]
pub struct MapNodes(pub BTreeMap<NodeId, Arc<Node>>);

impl MapNodes {
    /// Adds a node just made.
    pub fn insert(&mut self, new: &NewNode) {
        self.0.insert(new.reference.id, Arc::new(new.node()));
    }
}

impl Nodes for MapNodes {
    fn node(&self, at: &NodeRef) -> Result<Arc<Node>, Missing> {
        self.0.get(&at.id).cloned().ok_or(Missing { node: at.id, at: at.at })
    }
}

impl<N: Nodes + ?Sized> Nodes for Arc<N> {
    fn node(&self, at: &NodeRef) -> Result<Arc<Node>, Missing> {
        (**self).node(at)
    }
}

/// Brings a node. One that is not what its parent says counts as missing, so that no tree, however made, is walked for ever.
pub(super) fn bring<N: Nodes + ?Sized>(nodes: &N, at: &NodeRef) -> Result<Arc<Node>, Missing> {
    let node = nodes.node(at)?;
    if node.level() == at.level { Ok(node) } else { Err(Missing { node: at.id, at: at.at }) }
}

/// The row at `key`. Reads one node per level.
///
/// # Errors
/// [`Missing`] if a node on the way is.
pub fn get<N: Nodes + ?Sized>(nodes: &N, root: Option<&NodeRef>, key: &Key) -> Result<Option<Row>, Missing> {
    let Some(root) = root else { return Ok(None) };
    let mut at = *root;
    loop {
        let node = bring(nodes, &at)?;
        let index = node.lower_bound(key);
        if index == node.len() {
            return Ok(None);
        }
        if let Some(child) = node.children().get(index) {
            at = *child;
            continue;
        }
        return Ok(if node.compare(index, key).is_eq() { node.row(index) } else { None });
    }
}

/// Visits rows in order from `from` (inclusive) until the visitor breaks or rows end. Reads only nodes that hold visited rows.
///
/// # Errors
/// [`Missing`] if a node is; rows visited before stay visited.
pub fn scan<N: Nodes + ?Sized>(
    nodes: &N,
    root: Option<&NodeRef>,
    from: &Key,
    visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>,
) -> Result<(), Missing> {
    let mut cursor = Cursor::seek(nodes, root, from);
    while let Some((node, index)) = cursor.peek()? {
        if let Some((key, row)) = node.entry(index)
            && visit(&key, &row).is_break()
        {
            return Ok(());
        }
        cursor.advance();
    }
    Ok(())
}

/// Finds the record of a file wherever it stands. Reads the nodes whose range of ids holds it, for derived ids all nodes.
///
/// # Errors
/// [`Missing`] if a node is that may hold it, and none that is here does.
pub fn find<N: Nodes + ?Sized>(
    nodes: &N,
    root: Option<&NodeRef>,
    file: FileId,
) -> Result<Option<(Key, Arc<File>)>, Missing> {
    let mut open: Vec<NodeRef> = root.into_iter().copied().collect();
    let mut missing = None;
    while let Some(at) = open.pop() {
        if !at.may_hold(file) {
            continue;
        }
        let node = match bring(nodes, &at) {
            Ok(node) => node,
            Err(first) => {
                missing.get_or_insert(first);
                continue;
            }
        };
        if let Some(row) = node.position_of_record(file)
            && let Some((key, Row::Record(file))) = node.entry(row)
        {
            return Ok(Some((key, file)));
        }
        open.extend(node.children().iter().rev());
    }
    missing.map_or(Ok(None), Err)
}

/// A place between rows, moving forward. Nodes are brought when the row in them is looked at, not before.
pub(super) struct Cursor<'n, N: ?Sized> {
    nodes: &'n N,
    /// What is open, from the root down, each with the index of what comes next in it.
    open: Vec<(Arc<Node>, usize)>,
    /// A tree still to be opened, at its first row that is not below the key.
    next: Option<(NodeRef, Option<Key>)>,
}

impl<'n, N: Nodes + ?Sized> Cursor<'n, N> {
    /// Stands before the first row that is not below `from`.
    pub(super) fn seek(nodes: &'n N, root: Option<&NodeRef>, from: &Key) -> Cursor<'n, N> {
        Cursor { nodes, open: Vec::new(), next: root.map(|root| (*root, Some(from.clone()))) }
    }

    /// The row that comes next: a leaf and an index in it.
    pub(super) fn peek(&mut self) -> Result<Option<(&Arc<Node>, usize)>, Missing> {
        loop {
            if let Some((at, from)) = &self.next {
                let node = bring(self.nodes, at)?;
                let index = from.as_ref().map_or(0, |from| node.lower_bound(from));
                let from = self.next.take().and_then(|(_, from)| from);
                if let Some(child) = node.children().get(index) {
                    self.next = Some((*child, from));
                }
                self.open.push((node, index));
                continue;
            }
            let Some((node, index)) = self.open.last() else { return Ok(None) };
            if *index < node.len() {
                break;
            }
            self.open.pop();
            let Some((node, index)) = self.open.last_mut() else { return Ok(None) };
            *index += 1;
            self.next = node.children().get(*index).map(|child| (*child, None));
        }
        Ok(self.open.last().map(|(node, index)| (node, *index)))
    }

    /// Steps over the row that [`Cursor::peek`] named.
    pub(super) fn advance(&mut self) {
        if let Some((_, index)) = self.open.last_mut() {
            *index += 1;
        }
    }
}
