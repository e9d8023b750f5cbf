//! Purging: hidden records that nobody can bring to light any more are forgotten.
//!
//! Deleting leaves records that nobody sees: of removed directories, of conflict copies that were removed before they were files, of names
//! of files whose content somebody deleted. While a device may still write without having known them they are needed: a file put into a
//! removed directory brings that directory back, and would be in `Recovered/` if nobody knew where it had been.

use super::draft::Draft;
use super::{Edit, EditError, Edited};
use crate::digest::versions;
use crate::id::FileId;
use crate::layout::{header, locate};
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::{File, Kind, Place};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Which records [`Edit::purge`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Those that stand nowhere: all that is hidden but files with one name and no content. Reads no more than these.
    Homeless,
    /// All: reads the whole index.
    Everything,
}

impl Edit<'_> {
    /// Forgets hidden records, and returns how many. What is seen does not change.
    ///
    /// `settled` are the rows of the state of which every living device knew every commit when it wrote its newest one. A record goes if
    /// it is hidden here and was hidden there, and all its living versions were there: then every commit still to come was made by a
    /// device that knew it as hidden. A device that was expired meanwhile may show what it puts into such a directory in `Recovered/`.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn purge(self, settled: &dyn Rows, among: Among) -> Result<(usize, Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let mut count = 0;
        for (key, file) in hidden(self.rows, among)? {
            if !was_hidden(settled, &file)? {
                continue;
            }
            let place = Place { parent: key.directory, name: key.name };
            let drafted = draft.file(file.id, file.kind, Some(&place))?;
            *drafted = File::new(file.id, file.kind);
            count += 1;
        }
        Ok((count, draft.finish()?))
    }
}

/// All records that show nothing.
fn hidden(rows: &dyn Rows, among: Among) -> Result<Vec<(Key, Arc<File>)>, Missing> {
    let mut records = Vec::new();
    rows.scan(&Key::homeless(FileId(0)), &mut |key, row| {
        if among == Among::Homeless && (key.directory != FileId::HOMELESS || !key.name.is_empty()) {
            return ControlFlow::Break(());
        }
        if let Row::Record(file) = row {
            records.push((key.clone(), file.clone()));
        }
        ControlFlow::Continue(())
    })?;
    let mut hidden = Vec::new();
    for (key, file) in records {
        if is_hidden(rows, &file)? {
            hidden.push((key, file));
        }
    }
    Ok(hidden)
}

fn is_hidden(rows: &dyn Rows, file: &File) -> Result<bool, Missing> {
    if file.kind != Kind::Directory {
        return Ok(sibling::is_hidden(file));
    }
    // The root has no header.
    let Some(header) = header(rows, file.id)? else { return Ok(false) };
    Ok(header.removed && rows.get(&Key::at(&header.shown, file.id, 0))?.is_none())
}

/// Whether a record was hidden in `settled`, where all that lives of it was.
fn was_hidden(settled: &dyn Rows, file: &File) -> Result<bool, Missing> {
    let place = file.placements.first().map(|p| &p.place);
    let Some((_, before)) = locate(settled, file.id, file.kind, place)? else { return Ok(false) };
    let there: BTreeSet<_> = versions(&before).collect();
    Ok(versions(file).all(|version| there.contains(&version)) && is_hidden(settled, &before)?)
}
