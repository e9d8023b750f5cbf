//! Purging: hidden records that nobody can bring to light any more are forgotten.
//!
//! Deleting leaves records that nobody sees: of removed directories, of conflict copies that were removed before they were files, of names
//! of files whose content somebody deleted. While a device may still write without having known them they are needed: a file put into a
//! removed directory brings that directory back, and would be in `Recovered/` if nobody knew where it had been.

use super::draft::Draft;
use super::{Edit, EditError, Edited};
use crate::apply::change;
use crate::content::Content;
use crate::delta::{AddedPlacement, FileDelta};
use crate::digest::versions;
use crate::id::{FileId, Version};
use crate::layout::{header, locate, shows_anything};
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::{Attributes, File, Kind, Place};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Which records [`purgeable`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Those that stand nowhere: all that is hidden but files with one name and no content. Reads no more than these.
    Homeless,
    /// All: reads the whole index.
    Everything,
}

/// Hidden records that [`Edit::purge`] would forget, at most so many.
///
/// `rows` may be of a moment ago, or without what only this device has: whoever forgets them asks again.
///
/// # Errors
/// A node that must be brought first.
pub fn purgeable(
    rows: &dyn Rows,
    settled: &dyn Rows,
    among: Among,
    count_max: usize,
) -> Result<Vec<Arc<File>>, Missing> {
    let mut records = Vec::new();
    rows.scan(&Key::homeless(FileId(0)), &mut |key, row| {
        if among == Among::Homeless && (key.directory != FileId::HOMELESS || !key.name.is_empty()) {
            return ControlFlow::Break(());
        }
        if let Row::Record(file) = row
            && may_be_hidden(file)
        {
            records.push(file.clone());
        }
        ControlFlow::Continue(())
    })?;
    let mut found = Vec::new();
    for file in records {
        if found.len() == count_max {
            break;
        }
        if is_hidden(rows, &file)? && was_hidden(settled, &file)? {
            found.push(file);
        }
    }
    Ok(found)
}

impl Edit<'_> {
    /// Forgets hidden records, and returns how many. What is seen does not change.
    ///
    /// `candidates` are what [`purgeable`] found; those that are so no more stay. `settled` are the rows of a state of which every living
    /// device knew every commit when it wrote its newest one. A record goes if it is hidden here and was hidden there, and all its living
    /// versions were there: then every commit still to come was made by a device that knew it as hidden. A device that was expired
    /// meanwhile may show what it puts into such a directory in `Recovered/`.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn purge(self, settled: &dyn Rows, candidates: &[Arc<File>]) -> Result<(usize, Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let mut going = Vec::new();
        for candidate in candidates {
            // Whoever keeps a purged directory for what is ignored in it has what is hidden in there elsewhere than others.
            let place = candidate.placements.first().map(|p| &p.place);
            let Some((key, file)) = locate(self.rows, candidate.id, candidate.kind, place)? else { continue };
            if is_hidden(self.rows, &file)? && was_hidden(settled, &file)? {
                going.push((file, Place { parent: key.directory, name: key.name.clone() }));
            }
        }
        if going.iter().any(|(file, _)| file.kind == Kind::Directory) {
            // Without a record in it a cycle is none any more, and what was put back for it would be in `Recovered/`.
            draft.settle_cuts()?;
        }
        for (file, place) in &going {
            *draft.file(file.id, file.kind, Some(place))? = File::new(file.id, file.kind);
        }
        let count = going.len();
        Ok((count, draft.finish()?))
    }

    /// Takes back a name that this device gave, and has not sealed, to what others removed meanwhile: it shows nothing. False, and nothing
    /// changes, if there is anything to see or to publish of the file, or no such name.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn take_back(self, id: FileId, kind: Kind, name: &Place) -> Result<(bool, Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let file = draft.file(id, kind, Some(name))?;
        let is_written = file.contents.iter().any(|c| matches!(c.value, Some(Content::Pending { .. })));
        if !is_hidden(self.rows, file)? || is_written {
            return Ok((false, Edited::default()));
        }
        let count = file.placements.len();
        file.placements.retain(|p| !p.version.is_pending() || p.place != *name);
        let is_taken = file.placements.len() < count;
        Ok((is_taken, draft.finish()?))
    }

    /// Keeps removed directories that are shown here as they are shown, whatever others do with their records: a placement beside those that
    /// are there ([`held`]). Nothing is seen differently while the records stay.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn hold(self, directories: &[FileId]) -> Result<((), Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        for &id in directories {
            let Some(header) = header(self.rows, id)? else { continue };
            let file = draft.file(id, Kind::Directory, None)?;
            let holding = held(id, header.shown, file.seen_attributes().cloned());
            change(file, &holding, Version::PENDING);
        }
        Ok(((), draft.finish()?))
    }

    /// Lets go of those held directories ([`Edit::hold`]) in which nothing is shown any more.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn release(self, held: &[FileId]) -> Result<((), Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let mut left = held.to_vec();
        loop {
            let mut stay = Vec::new();
            for &id in &left {
                if shows_anything(&draft.work, id)? {
                    stay.push(id);
                    continue;
                }
                let file = draft.file(id, Kind::Directory, None)?;
                file.placements.retain(|placement| !placement.version.is_pending());
                // Others may have removed it once more since: that is all there is of it then.
                file.attributes.retain(|attributes| !attributes.version.is_pending());
            }
            if stay.len() == left.len() {
                break;
            }
            // One in which others were may be empty now.
            draft.commit()?;
            left = stay;
        }
        Ok(((), draft.finish()?))
    }
}

/// What holds a directory: a placement by rule, which replaces nothing. It says that the directory is removed, so that is shown as long as
/// something in it is; and that it was where it is, which no other placement says: that tells it from a directory that was made here and is
/// shown where a rule put it ([`is_held`]).
pub fn held(directory: FileId, place: Place, attributes: Option<Attributes>) -> FileDelta {
    let was = Some(place.clone());
    let placement = AddedPlacement { slot: 0, place, was, by_rule: true, removed: true };
    let placements = vec![placement];
    FileDelta { placements, attributes, ..FileDelta::new(directory, Kind::Directory, None) }
}

/// Whether a pending change does no more than [`held`], but for what was done in the directory since.
pub fn is_held(delta: &FileDelta) -> bool {
    let stays = |p: &AddedPlacement| p.by_rule && p.was.as_ref() == Some(&p.place);
    delta.kind == Kind::Directory
        && delta.replaced.is_empty()
        && !delta.placements.is_empty()
        && delta.placements.iter().all(stays)
}

/// Whether a directory is shown though it was removed: for what is in it.
///
/// # Errors
/// A node that must be brought first.
pub fn is_shown_though_removed(rows: &dyn Rows, directory: FileId) -> Result<bool, Missing> {
    let Some(header) = header(rows, directory)? else { return Ok(false) };
    Ok(header.removed && rows.get(&Key::at(&header.shown, directory, 0))?.is_some())
}

/// Told from the record alone; of a directory that is shown for what is in it too.
fn may_be_hidden(file: &File) -> bool {
    if file.kind == Kind::Directory { file.placements.iter().any(|p| p.removed) } else { sibling::is_hidden(file) }
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
