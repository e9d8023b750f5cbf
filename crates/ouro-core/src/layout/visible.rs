//! Removed directories are shown while something in them is.

use super::{Layout, header};
use crate::id::FileId;
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::Kind;
use core::ops::ControlFlow;

/// Whether anything is shown in a directory.
pub(crate) fn shows_anything(rows: &dyn Rows, directory: FileId) -> Result<bool, Missing> {
    let mut any = false;
    rows.scan(&Key::header(directory), &mut |key, row| {
        if key.directory != directory {
            return ControlFlow::Break(());
        }
        any = match row {
            Row::Record(file) => !key.name.is_empty() && !sibling::is_hidden(file),
            Row::Reference(_) => true,
            Row::Header(_) => false,
        };
        if any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(any)
}

/// Whether any row but the header stands in a directory, shown or not.
pub(crate) fn has_rows(rows: &dyn Rows, directory: FileId) -> Result<bool, Missing> {
    let mut any = false;
    rows.scan(&Key::header(directory), &mut |key, _| {
        any = key.directory == directory && !key.name.is_empty();
        if any || key.directory != directory { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(any)
}

impl Layout<'_> {
    /// Gives removed directories their reference while they show anything and takes it away otherwise, up to the root.
    pub(super) fn settle_visibility(&mut self) -> Result<(), Missing> {
        while let Some(directory) = self.unsure.pop_last() {
            if directory == FileId::ROOT {
                continue;
            }
            let Some(header) = header(&self.work, directory)? else { continue };
            if !header.removed {
                continue;
            }
            let reference = Key::at(&header.shown, directory, 0);
            let is_shown = self.work.get(&reference)?.is_some();
            let shown = shows_anything(&self.work, directory)?;
            if shown == is_shown {
                continue;
            }
            self.listings.insert(header.shown.parent);
            if shown {
                self.put(reference, Row::Reference(Kind::Directory));
            } else {
                self.remove(reference);
            }
        }
        Ok(())
    }
}
