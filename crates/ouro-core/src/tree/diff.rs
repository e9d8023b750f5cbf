//! In which rows two trees differ.

use super::node::Node;
use super::read::{Nodes, bring};
use super::reference::NodeRef;
use crate::row::{Key, Missing, Row};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Is shown a key with the row in the first tree and the row in the second; never both `None`, never equal.
pub type DiffVisitor<'v> = dyn FnMut(&Key, Option<&Row>, Option<&Row>) + 'v;

/// Visits the rows in which `b` differs from `a`, in key order: the row in `a`, the row in `b`.
///
/// Subtrees with the same id are skipped unread; so the cost is that of the nodes that differ.
///
/// # Errors
/// [`Missing`] if a node that must be read is; rows visited before stay visited.
pub fn diff<N: Nodes + ?Sized>(
    nodes: &N,
    a: Option<&NodeRef>,
    b: Option<&NodeRef>,
    visit: &mut DiffVisitor<'_>,
) -> Result<(), Missing> {
    let (mut a, mut b) = (Walk::new(nodes, a), Walk::new(nodes, b));
    loop {
        match (a.next(), b.next()) {
            (Next::End, Next::End) => return Ok(()),
            (Next::Tree(x), Next::Tree(y)) if x.id == y.id => {
                a.skip();
                b.skip();
            }
            (Next::Tree(x), Next::Tree(y)) => {
                // The higher is opened first, so that both come to trees of one size that begin at one key.
                if x.level >= y.level {
                    a.enter()?;
                }
                if y.level >= x.level {
                    b.enter()?;
                }
            }
            (Next::Tree(_), _) => a.enter()?,
            (_, Next::Tree(_)) => b.enter()?,
            (Next::Row(x, i), Next::Row(y, j)) => match x.compare_with(i, y, j) {
                Ordering::Less => a.take(&mut |key, row| visit(key, Some(row), None)),
                Ordering::Greater => b.take(&mut |key, row| visit(key, None, Some(row))),
                Ordering::Equal if x.same_row(i, y, j) => {
                    a.skip();
                    b.skip();
                }
                Ordering::Equal => {
                    let other = y.row(j);
                    a.take(&mut |key, row| visit(key, Some(row), other.as_ref()));
                    b.skip();
                }
            },
            (Next::Row(..), Next::End) => a.take(&mut |key, row| visit(key, Some(row), None)),
            (Next::End, Next::Row(..)) => b.take(&mut |key, row| visit(key, None, Some(row))),
        }
    }
}

/// What comes next on one side.
enum Next<'w> {
    End,
    /// A tree not opened.
    Tree(NodeRef),
    Row(&'w Arc<Node>, usize),
}

/// A walk over a tree that opens nodes only when told to.
struct Walk<'n, N: ?Sized> {
    nodes: &'n N,
    root: Option<NodeRef>,
    /// What is open, each with the index of what comes next in it.
    open: Vec<(Arc<Node>, usize)>,
}

impl<'n, N: Nodes + ?Sized> Walk<'n, N> {
    fn new(nodes: &'n N, root: Option<&NodeRef>) -> Walk<'n, N> {
        Walk { nodes, root: root.copied(), open: Vec::new() }
    }

    fn next(&self) -> Next<'_> {
        match (&self.root, self.open.last()) {
            (Some(root), _) => Next::Tree(*root),
            (None, None) => Next::End,
            (None, Some((node, index))) => match node.children().get(*index) {
                Some(child) => Next::Tree(*child),
                None => Next::Row(node, *index),
            },
        }
    }

    /// Opens the tree that comes next.
    fn enter(&mut self) -> Result<(), Missing> {
        if let Next::Tree(at) = self.next() {
            let node = bring(self.nodes, &at)?;
            self.root = None;
            self.open.push((node, 0));
        }
        Ok(())
    }

    /// Steps over the tree or row that comes next.
    fn skip(&mut self) {
        self.root = None;
        while let Some((node, index)) = self.open.last_mut() {
            *index += 1;
            if *index < node.len() {
                return;
            }
            self.open.pop();
        }
    }

    /// Shows the row that comes next and steps over it.
    fn take(&mut self, show: &mut dyn FnMut(&Key, &Row)) {
        if let Next::Row(node, index) = self.next()
            && let Some((key, row)) = node.entry(index)
        {
            show(&key, &row);
        }
        self.skip();
    }
}
