//! Rows as the other modules see them: a tree with changes on top, or a plain map.

use super::read::{Cursor, Nodes, find, get};
use super::reference::NodeRef;
use crate::id::FileId;
use crate::row::{Key, Missing, Row, RowChanges, Rows};
use crate::state::File;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::ops::{Bound, ControlFlow};

/// A tree with the changes since on top.
#[derive(Debug)]
pub struct TreeRows<'a, N: ?Sized> {
    /// Where the tree's nodes come from.
    pub nodes: &'a N,
    /// The tree; `None` is an empty one.
    pub root: Option<&'a NodeRef>,
    /// What differs from it; `None` removes.
    pub changes: &'a RowChanges,
}

impl<N: ?Sized> Clone for TreeRows<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N: ?Sized> Copy for TreeRows<'_, N> {}

impl<N: Nodes + ?Sized> Rows for TreeRows<'_, N> {
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            // A row about a file comes with the file's record in the same tree, but for `Recovered/`, which has none.
            None if key.file != FileId::RECOVERED && self.root.is_some_and(|root| !root.may_hold(key.file)) => Ok(None),
            None => get(self.nodes, self.root, key),
        }
    }

    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing> {
        let mut changes = self.changes.range((Bound::Included(from), Bound::Unbounded)).peekable();
        let mut cursor = Cursor::seek(self.nodes, self.root, from);
        loop {
            let (order, entry) = match (cursor.peek()?, changes.peek()) {
                (None, None) => return Ok(()),
                (None, Some(_)) => (Ordering::Greater, None),
                (Some((node, index)), change) => {
                    let order = change.map_or(Ordering::Less, |(key, _)| node.compare(index, key));
                    (order, if order == Ordering::Less { node.entry(index) } else { None })
                }
            };
            if order != Ordering::Greater {
                cursor.advance();
            }
            let flow = match entry {
                Some((key, row)) => visit(&key, &row),
                None => match changes.next() {
                    Some((key, Some(row))) => visit(key, row),
                    _ => ControlFlow::Continue(()),
                },
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing> {
        if let Some(found) = find_in(self.changes.iter().filter_map(|(key, row)| Some((key, row.as_ref()?))), file) {
            return Ok(Some(found));
        }
        // A file has one record: if the tree's was changed and no change holds it, it is gone.
        let found = find(self.nodes, self.root, file)?;
        Ok(found.filter(|(key, _)| !self.changes.contains_key(key)))
    }
}

/// Rows in a map: for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapRows(pub BTreeMap<Key, Row>);

impl MapRows {
    /// Puts changes into effect.
    pub fn change(&mut self, changes: &RowChanges) {
        for (key, row) in changes {
            match row {
                Some(row) => self.0.insert(key.clone(), row.clone()),
                None => self.0.remove(key),
            };
        }
    }
}

impl Rows for MapRows {
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing> {
        for (key, row) in self.0.range((Bound::Included(from), Bound::Unbounded)) {
            if visit(key, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing> {
        Ok(find_in(self.0.iter(), file))
    }
}

fn find_in<'r>(mut rows: impl Iterator<Item = (&'r Key, &'r Row)>, file: FileId) -> Option<(Key, Arc<File>)> {
    rows.find_map(|(key, row)| match row {
        Row::Record(record) if record.id == file => Some((key.clone(), record.clone())),
        _ => None,
    })
}
