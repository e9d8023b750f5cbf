//! Changing a tree: the same root as a rebuild from scratch, at the cost of the nodes that differ.

use super::build::Builder;
use super::node::{NewNode, Node};
use super::read::{Nodes, bring};
use super::reference::NodeRef;
use super::split::TreeParams;
use crate::row::{Key, Missing, Row, RowChanges};
use alloc::collections::btree_map;
use core::iter::Peekable;

/// Applies changes of rows to a tree and returns the new root, `None` if no row is left.
///
/// Nodes that did not exist before go to `sink` as from [`Builder`]; untouched ones keep their locators. Removing a row that is not there,
/// or setting one to what it is, changes nothing; a row that differs only in locators is no change either (see [`relocate`]).
///
/// [`relocate`]: super::relocate
///
/// # Errors
/// [`Missing`] if a node that must be read is. What went to `sink` before is then of no use: fetch and call again.
///
/// # Panics
/// As [`Builder::push`].
pub fn update<N: Nodes + ?Sized>(
    nodes: &N,
    params: &TreeParams,
    root: Option<&NodeRef>,
    changes: &RowChanges,
    sink: &mut dyn FnMut(NewNode),
) -> Result<Option<NodeRef>, Missing> {
    if changes.is_empty() {
        return Ok(root.copied());
    }
    let mut merge = Merge { nodes, builder: Builder::new(params, sink), changes: changes.iter().peekable() };
    match root {
        Some(root) => merge.tree(root, None)?,
        None => merge.rest(),
    }
    let Some((mut root, new)) = merge.builder.end() else { return Ok(None) };
    // A tree taken over whole may be higher than its rows need: the last node of a level can have a single child. One just made is not.
    while !new && root.level > 0 {
        match bring(nodes, &root)?.children() {
            [only] => root = *only,
            _ => break,
        }
    }
    Ok(Some(root))
}

struct Merge<'a, 'n, N: ?Sized> {
    nodes: &'n N,
    builder: Builder<'a>,
    changes: Peekable<btree_map::Iter<'n, Key, Option<Row>>>,
}

impl<N: Nodes + ?Sized> Merge<'_, '_, N> {
    /// Merges the tree at `at` with the changes up to `last`, its last key; without one, with all that are left.
    fn tree(&mut self, at: &NodeRef, last: Option<&Key>) -> Result<(), Missing> {
        let node = bring(self.nodes, at)?;
        self.builder.know(*at);
        if at.level == 0 {
            self.leaf(&node);
            if last.is_none() {
                self.rest();
            }
            return Ok(());
        }
        for (index, child) in node.children().iter().enumerate() {
            let key = node.key(index);
            let rightmost = last.is_none() && index + 1 == node.len();
            let touched = self.changes.peek().is_some_and(|(change, _)| rightmost || **change <= key);
            if !touched && self.builder.may_take(child.level) {
                self.builder.take(key, *child);
            } else {
                self.tree(child, if rightmost { None } else { Some(&key) })?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, node: &Node) {
        for index in 0..node.len() {
            let mut replaced = false;
            while let Some((key, row)) = self.changes.next_if(|(key, _)| node.compare(index, key).is_ge()) {
                replaced |= node.compare(index, key).is_eq();
                self.push(key, row);
            }
            if !replaced && let Some((key, row)) = node.entry(index) {
                self.builder.push(key, row);
            }
        }
    }

    fn rest(&mut self) {
        while let Some((key, row)) = self.changes.next() {
            self.push(key, row);
        }
    }

    fn push(&mut self, key: &Key, row: &Option<Row>) {
        if let Some(row) = row {
            self.builder.push(key.clone(), row.clone());
        }
    }
}
