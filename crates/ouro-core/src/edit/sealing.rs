//! What has to be done right before pending changes become a commit.

use super::{Edit, EditError, Edited, Pending};
use crate::delta::FileDelta;
use crate::digest::versions;
use crate::edit::draft::Draft;
use crate::edit::identity::is_born;
use crate::id::{FileId, Hlc, Version};
use crate::layout::{all_cuts, is_known, recovered_place};
use crate::render::group::Group;
use crate::render::members;
use crate::row::{Key, Missing, Row, Rows};
use crate::state::{File, Kind, Place};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use core::ops::ControlFlow;

impl Edit<'_> {
    /// Settles what this device placed in this generation and what lost its name meanwhile to something from afar, so that sealing
    /// changes no name. To be put into effect right before sealing.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn settle(self) -> Result<Edited, EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let mut unions = Unions::default();
        for delta in self.pending.files.values().filter(|d| d.kind != Kind::Directory) {
            if is_among_newborns(self.rows, &mut unions, self.pending, delta)? {
                continue;
            }
            for place in own_places(self.rows, delta)? {
                let union = unions.of(self.rows, place.parent)?;
                let group = Group::read(&draft.work, union, &place.name)?;
                let lost = |(i, e): (usize, &crate::render::group::Entry)| {
                    e.file.id == delta.id && e.version.is_pending() && (i > 0 || !group.members.is_empty())
                };
                if group.has_conflict() && group.entries.iter().enumerate().any(lost) {
                    draft.settle_names(union, &place.name)?;
                }
            }
        }
        Ok(draft.finish()?)
    }

    /// Notes with the contents of files that nobody else has heard of the name that they are first heard of by. They were written under
    /// another if the file was moved since, often one that no other device ever sees (`.page.html.swp`); a file that loses its names to
    /// others and keeps a content is revived where that content stood. To be put into effect right before sealing, after
    /// [`Edit::keep_identities`]. What is seen does not change.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn place_newborns(self) -> Result<((), Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        for delta in self.pending.files.values().filter(|delta| is_born(delta)) {
            let (Some(content), Some(first)) = (&delta.content, delta.placements.first()) else { continue };
            if delta.placements.iter().any(|p| p.place == content.at) {
                continue;
            }
            let file = draft.file(delta.id, delta.kind, Some(&first.place))?;
            for content in file.contents.iter_mut().filter(|c| c.version.is_pending()) {
                content.at = first.place.clone();
            }
        }
        Ok(((), draft.finish()?))
    }

    /// Forgets where directories were before their pending moves, as of those that were made where they are: to be put into effect before anything
    /// is learnt, for those that were where nobody else knows them. A cycle that others close is not cut there.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn forget_origins(self, directories: &[FileId]) -> Result<((), Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        for &id in directories {
            let file = draft.file(id, Kind::Directory, None)?;
            for placement in file.placements.iter_mut().filter(|placement| placement.version.is_pending()) {
                placement.was = None;
            }
        }
        Ok(((), draft.finish()?))
    }
}

/// The stamp that the commit of `pending` must exceed, however far it is ahead of the clock: that of every version in the registers and
/// name groups it touches, and of every directory placement if it writes one while some directory is cut.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn hlc_floor(rows: &dyn Rows, pending: &Pending) -> Result<Hlc, Missing> {
    let mut floor = Hlc::default();
    let mut unions = Unions::default();
    let mut directories = false;
    for delta in pending.files.values() {
        delta.replaced.iter().for_each(|(_, version)| raise(&mut floor, *version));
        if delta.kind == Kind::Directory {
            directories |= !delta.placements.is_empty();
            if let Some((_, file)) = crate::layout::locate(rows, delta.id, delta.kind, None)? {
                raise_by(&mut floor, &file);
            }
            continue;
        }
        if is_among_newborns(rows, &mut unions, pending, delta)? {
            continue;
        }
        for place in own_places(rows, delta)? {
            let union = unions.of(rows, place.parent)?;
            for entry in Group::read(rows, union, &place.name)?.entries {
                raise_by(&mut floor, &entry.file);
            }
        }
    }
    if directories && !all_cuts(rows)?.is_empty() {
        rows.scan(&Key::homeless(FileId(0)), &mut |_, row| {
            if let Row::Record(file) = row
                && file.kind == Kind::Directory
            {
                raise_by(&mut floor, file);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(floor)
}

/// Whether a file was made in this generation, and all its names are in directories that were too and are shown as one with no other:
/// nothing from afar can stand at them. One that is only held here ([`Edit::hold`]) others may know.
fn is_among_newborns(
    rows: &dyn Rows,
    unions: &mut Unions,
    pending: &Pending,
    delta: &FileDelta,
) -> Result<bool, Missing> {
    if !delta.replaced.is_empty() || delta.id.is_derived() || delta.placements.is_empty() {
        return Ok(false);
    }
    for placement in &delta.placements {
        let parent = placement.place.parent;
        let is_newborn = pending.files.get(&parent).is_some_and(|d| {
            d.kind == Kind::Directory && d.replaced.is_empty() && d.placements.iter().any(|p| !p.by_rule)
        });
        if !is_newborn || unions.of(rows, parent)? != [parent] {
            return Ok(false);
        }
    }
    Ok(true)
}

fn raise(floor: &mut Hlc, version: Version) {
    if !version.is_pending() {
        *floor = (*floor).max(version.hlc);
    }
}

fn raise_by(floor: &mut Hlc, file: &File) {
    versions(file).for_each(|(_, version)| raise(floor, version));
}

/// Where the file of a delta stands by its natural names.
fn own_places(rows: &dyn Rows, delta: &FileDelta) -> Result<Vec<Place>, Missing> {
    let mut hints =
        delta.placements.iter().map(|p| &p.place).chain(delta.content.iter().map(|c| &c.at)).chain(&delta.hint);
    let file = loop {
        let hint = hints.next();
        if let Some((_, file)) = crate::layout::locate(rows, delta.id, delta.kind, hint)? {
            break Some(file);
        }
        if hint.is_none() {
            break None;
        }
    };
    let Some(file) = file else { return Ok(Vec::new()) };
    let mut places = Vec::new();
    for stand in crate::sibling::stands(&file) {
        places.push(if is_known(rows, stand.place.parent)? { stand.place } else { recovered_place(&stand.place) });
    }
    Ok(places)
}

/// The unions of directories that were asked for already.
#[derive(Default)]
struct Unions(BTreeMap<FileId, Vec<FileId>>);

impl Unions {
    fn of(&mut self, rows: &dyn Rows, directory: FileId) -> Result<&[FileId], Missing> {
        Ok(match self.0.entry(directory) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(members(rows, directory)?),
        })
    }
}
