//! What waits in the trash comes back if others go on with it before it is buried.

use super::change::Change;
use super::learn::{Commit, find_above};
use super::state::State;
use super::trash::{Waiting, has_layer};
use super::{Volume, VolumeError};
use ouro_core::apply;
use ouro_core::delta::{FileDelta, Register};
use ouro_core::edit::{Edit, EditError, Edited};
use ouro_core::id::{FileId, Version};
use ouro_core::render::slots;
use ouro_core::row::{Key, Row, Rows};
use ouro_core::state::{File, Place};
use std::collections::{BTreeMap, BTreeSet};

/// What a commit does to things that wait in the trash.
struct GoingOn<'a> {
    waiting: &'a Waiting,
    rows: &'a dyn Rows,
    /// The next directory above one that waits, or itself, as far as that was asked; all that waits to begin with.
    above: BTreeMap<FileId, Option<FileId>>,
    /// What comes back.
    back: BTreeSet<FileId>,
}

impl Volume {
    /// Puts back to where others see it what waits in the trash, if they went on with it: wrote it, took its last other name (where each of two
    /// deletes one of the names, the file stays), or put or wrote something below it. Also if they removed it: then it goes from there, and who
    /// has it open reads on. A commit that is known already does nothing. Takes what came back out of `waiting`.
    pub(super) fn recall_what_goes_on(
        &self,
        state: &mut State,
        waiting: &mut Waiting,
        commit: &Commit,
        change: &mut Change,
    ) -> Result<(), VolumeError> {
        let is_known = state.heads.get(&commit.device).is_some_and(|head| head.seq >= commit.seq);
        if waiting.is_empty() || is_known {
            return Ok(());
        }
        loop {
            let back = self.goes_on(state, waiting, commit)?;
            if back.is_empty() {
                return Ok(());
            }
            for (file, place) in waiting.extract_if(.., |(file, _)| back.contains(file)) {
                self.recall(state, file, &place, change)?;
            }
            // What came back may stand in a directory that was thrown away after it, and would go with that, for all, with what they did to
            // it: they go on with the directory, too.
        }
    }

    /// Those of what waits that a commit goes on with, where they stand for whoever made it or where they stand here.
    fn goes_on(&self, state: &State, waiting: &Waiting, commit: &Commit) -> Result<BTreeSet<FileId>, VolumeError> {
        let rows = state.live_rows(&self.nodes);
        let above = waiting.iter().map(|(file, _)| (*file, Some(*file))).collect();
        let mut going = GoingOn { waiting, rows: &rows, above, back: BTreeSet::new() };
        let thrown: BTreeSet<FileId> = waiting.iter().map(|(file, _)| *file).collect();
        let (mut active, mut renamed) = (BTreeSet::new(), BTreeSet::new());
        for theirs in &commit.delta.files {
            let waits = thrown.contains(&theirs.id);
            let written = theirs.content.iter().filter(|content| content.value.is_some()).map(|content| &content.at);
            let put = theirs.placements.iter().filter(|added| !added.removed && !waits).map(|added| &added.place);
            if waits && (written.clone().count() > 0 || (removes(theirs) && !has_layer(state, theirs.id))) {
                going.back.insert(theirs.id);
            }
            for place in written.chain(put) {
                active.insert(theirs.id);
                going.meet(place)?;
            }
            // They took a name, or moved one, or did the one to a name that waits here and the other to another.
            if theirs.replaced.iter().any(|(of, _)| is_name(*of)) {
                renamed.insert(theirs.id);
            }
        }
        if active.is_empty() && renamed.is_empty() {
            return Ok(going.back);
        }
        let version = Version { hlc: commit.hlc, device: commit.device, seq: commit.seq };
        let changes = apply::apply(&rows, &commit.delta, version)?.changes;
        let elsewhere = going.with_names_elsewhere(changes.keys(), &renamed)?;
        for row in changes.values().flatten() {
            let Row::Record(record) = row else { continue };
            let names = || record.placements.iter().filter(|name| !name.removed);
            if active.contains(&record.id) {
                names().try_for_each(|name| going.meet(&name.place))?;
            }
            // The last name that was not thrown away here is taken: nobody threw away the file.
            if elsewhere.contains(&record.id)
                && record.contents.iter().any(|content| content.value.is_some())
                && let Some(over) = going.over_all(record)?
            {
                going.back.extend(over);
            }
        }
        Ok(going.back)
    }

    /// Puts something back where it stood before it was thrown away.
    pub(super) fn recall(
        &self,
        state: &mut State,
        file: FileId,
        place: &Place,
        change: &mut Change,
    ) -> Result<(), VolumeError> {
        self.edit_unasked(state, change, &mut |state, edit| {
            let sealed = state.sealed.as_ref();
            let sealed = sealed.and_then(|sealed| Some((sealed.version, sealed.file(file)?)));
            edit.recall(&state.base_rows(&self.nodes), sealed, file, place)
        })
    }

    /// Does what nobody asked for through the mount, and adds to `change` what others hear of that.
    pub(super) fn edit_unasked<R>(
        &self,
        state: &mut State,
        change: &mut Change,
        op: &mut impl FnMut(&State, Edit<'_>) -> Result<(R, Edited), EditError>,
    ) -> Result<R, VolumeError> {
        let (result, edited, unit) = self.operate(state, op)?;
        for key in edited.changes.keys().filter(|key| !key.name.is_empty()) {
            change.directories.push(key.directory);
            change.bindings.push((key.directory, key.name.clone()));
        }
        change.files.extend(&edited.files);
        change.directories.extend(&edited.listings);
        let listings = edited.listings.clone();
        change.bindings.extend(self.derived_names(state, &listings)?);
        self.take_effect(state, edited, unit)?;
        change.bindings.extend(self.derived_names(state, &listings).unwrap_or_default());
        Ok(result)
    }
}

impl GoingOn<'_> {
    /// What is written or put at a place brings back the directory that it is in.
    fn meet(&mut self, place: &Place) -> Result<(), VolumeError> {
        self.back.extend(find_above(self.rows, &mut self.above, place.parent)?);
        Ok(())
    }

    /// Those of some files that have a name which does not wait, before a commit that changes these rows.
    fn with_names_elsewhere<'k>(
        &mut self,
        changed: impl Iterator<Item = &'k Key>,
        files: &BTreeSet<FileId>,
    ) -> Result<BTreeSet<FileId>, VolumeError> {
        let mut found = BTreeSet::new();
        for key in changed.filter(|key| files.contains(&key.file)) {
            if let Some(Row::Record(before)) = self.rows.get(key)?
                && self.over_all(&before)?.is_none()
            {
                found.insert(before.id);
            }
        }
        Ok(found)
    }

    /// What of the waiting all names of a file are, or are below of; `None` if one is elsewhere. A name that waits is
    /// in the trash although others moved it: the later placement is seen, and what is pending is later.
    fn over_all(&mut self, record: &File) -> Result<Option<BTreeSet<FileId>>, VolumeError> {
        let mut over = BTreeSet::new();
        for name in slots(record).into_iter().filter(|name| !name.removed) {
            let itself = self.waiting.contains(&(record.id, name.place.clone()));
            let found =
                if itself { Some(record.id) } else { find_above(self.rows, &mut self.above, name.place.parent)? };
            let Some(found) = found else { return Ok(None) };
            over.insert(found);
        }
        Ok(Some(over))
    }
}

fn is_name(register: Register) -> bool {
    matches!(register, Register::Placement { .. })
}

/// Whether a file is removed with all its names.
fn removes(theirs: &FileDelta) -> bool {
    let is_content = |(register, _): &(Register, _)| *register == Register::Content;
    theirs.placements.is_empty() && theirs.content.is_none() && theirs.replaced.iter().any(is_content)
}
