//! Rows with changes on top that are being made.

use crate::id::FileId;
use crate::row::{Key, Missing, Row, RowChanges, Rows};
use crate::state::File;
use alloc::sync::Arc;
use core::ops::{Bound, ControlFlow};

/// Rows as they will be when the changes collected so far are in effect.
pub(crate) struct Working<'a> {
    pub(crate) base: &'a dyn Rows,
    pub(crate) changes: RowChanges,
}

impl<'a> Working<'a> {
    pub(crate) fn new(base: &'a dyn Rows) -> Working<'a> {
        Working { base, changes: RowChanges::new() }
    }
}

impl Rows for Working<'_> {
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing> {
        match self.changes.get(key) {
            Some(row) => Ok(row.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing> {
        let mut above = self.changes.range((Bound::Included(from), Bound::Unbounded)).peekable();
        let mut stopped = false;
        self.base.scan(from, &mut |key, row| {
            while let Some((changed, now)) = above.next_if(|(changed, _)| *changed < key) {
                if let Some(now) = now
                    && visit(changed, now).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match above.next_if(|(changed, _)| *changed == key) {
                Some((_, Some(now))) => visit(key, now),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(key, row),
            };
            stopped = flow.is_break();
            flow
        })?;
        if !stopped {
            for (key, now) in above {
                if let Some(now) = now
                    && visit(key, now).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing> {
        for (key, row) in &self.changes {
            if let Some(Row::Record(record)) = row
                && record.id == file
            {
                return Ok(Some((key.clone(), record.clone())));
            }
        }
        Ok(self.base.find(file)?.filter(|(key, _)| !self.changes.contains_key(key)))
    }
}
