//! What waits in the trash comes back if others go on with it before it is buried.

use super::change::Change;
use super::learn::{Commit, is_below};
use super::state::State;
use super::trash::{Waiting, has_layer};
use super::{Volume, VolumeError};
use ouro_core::apply;
use ouro_core::delta::{Delta, FileDelta, Register};
use ouro_core::id::{FileId, Version};
use ouro_core::row::{Row, RowChanges, Rows};
use ouro_core::state::Place;
use std::collections::{BTreeMap, BTreeSet};

impl Volume {
    /// Puts back to where others see it what waits in the trash, if they went on with it. Also if they removed it: then it goes from there, and
    /// who has it open reads on.
    pub(super) fn recall_what_goes_on(
        &self,
        state: &mut State,
        waiting: &Waiting,
        commit: &Commit,
        change: &mut Change,
    ) -> Result<(), VolumeError> {
        let version = Version { hlc: commit.hlc, device: commit.device, seq: commit.seq };
        for (file, place) in waiting {
            let rows = state.live_rows(&self.nodes);
            let after = apply::apply(&rows, &commit.delta, version)?.changes;
            let comes_back = goes_on_with(&rows, *file, &commit.delta, &after)?
                || removes(*file, &commit.delta) && !has_layer(state, *file)
                || self.takes_last_other_name(state, waiting, (*file, place), commit, &after)?;
            if comes_back {
                self.recall(state, *file, place, change)?;
            }
        }
        Ok(())
    }

    /// Whether a commit takes the last name elsewhere of a file that waits, or is in a directory that does: where each of two deletes one of the
    /// names, the file stays.
    fn takes_last_other_name(
        &self,
        state: &State,
        waiting: &Waiting,
        (file, place): (FileId, &Place),
        commit: &Commit,
        after: &RowChanges,
    ) -> Result<bool, VolumeError> {
        let is_name = |(register, _): &(Register, _)| matches!(register, Register::Placement { .. });
        let takes = |theirs: &&FileDelta| theirs.placements.is_empty() && theirs.replaced.iter().any(is_name);
        let taken: BTreeMap<FileId, &FileDelta> = commit.delta.files.iter().filter(takes).map(|f| (f.id, f)).collect();
        if taken.is_empty() {
            return Ok(false);
        }
        let rows = state.live_rows(&self.nodes);
        let (mut here, mut all) =
            (BTreeMap::from([(file, true)]), waiting.iter().map(|(file, _)| (*file, true)).collect());
        for row in after.values().flatten() {
            let Row::Record(record) = row else { continue };
            let Some(theirs) = taken.get(&record.id).filter(|_| record.contents.iter().any(|c| c.value.is_some()))
            else {
                continue;
            };
            let (mut is_here, mut waits) = (false, true);
            for name in record.placements.iter().filter(|name| !name.removed) {
                let itself = (record.id, name.place.clone());
                is_here |= itself == (file, place.clone()) || is_below(&rows, &mut here, name.place.parent)?;
                waits &= waiting.contains(&itself) || is_below(&rows, &mut all, name.place.parent)?;
            }
            let Some(name) = record.placements.first().filter(|_| is_here && waits) else { continue };
            let before = self.seen_at(state, record.id, &name.place)?;
            for name in before.iter().flat_map(|(seen, _)| &seen.file().placements) {
                let is_taken = theirs.replaced.contains(&(Register::Placement { slot: name.slot }, name.version));
                if is_taken && !name.removed && !is_below(&rows, &mut all, name.place.parent)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Puts something back where it stood before it was thrown away.
    pub(super) fn recall(
        &self,
        state: &mut State,
        file: FileId,
        place: &Place,
        change: &mut Change,
    ) -> Result<(), VolumeError> {
        let ((), edited, unit) = self.operate(state, &mut |state, edit| {
            let sealed = state.sealed.as_ref();
            let sealed = sealed.and_then(|sealed| Some((sealed.version, sealed.file(file)?)));
            edit.recall(&state.base_rows(&self.nodes), sealed, file, place)
        })?;
        for key in edited.changes.keys().filter(|key| !key.name.is_empty()) {
            change.directories.push(key.directory);
            change.bindings.push((key.directory, key.name.clone()));
        }
        change.files.extend(&edited.files);
        self.take_effect(state, edited, unit)
    }
}

/// Whether a commit removes a file with all its names.
fn removes(file: FileId, delta: &Delta) -> bool {
    let is_content = |(register, _): &(Register, _)| *register == Register::Content;
    let is_removed = |theirs: &FileDelta| {
        theirs.placements.is_empty() && theirs.content.is_none() && theirs.replaced.iter().any(is_content)
    };
    delta.files.iter().any(|theirs| theirs.id == file && is_removed(theirs))
}

/// Whether a commit writes a file that was thrown away, or puts or writes something below a directory that was, where it stands for whoever did
/// or where it stands here.
fn goes_on_with(rows: &dyn Rows, file: FileId, theirs: &Delta, after: &RowChanges) -> Result<bool, VolumeError> {
    let mut known = BTreeMap::from([(file, true)]);
    let mut going_on = BTreeSet::new();
    for theirs in &theirs.files {
        let written = theirs.content.iter().filter(|content| content.value.is_some()).map(|content| &content.at);
        if theirs.id == file {
            if written.count() > 0 {
                return Ok(true);
            }
            continue;
        }
        let put = theirs.placements.iter().filter(|added| !added.removed).map(|added| &added.place);
        for place in written.chain(put) {
            going_on.insert(theirs.id);
            if is_below(rows, &mut known, place.parent)? {
                return Ok(true);
            }
        }
    }
    for row in after.values().flatten() {
        let Row::Record(record) = row else { continue };
        for name in record.placements.iter().filter(|name| !name.removed && going_on.contains(&record.id)) {
            if is_below(rows, &mut known, name.place.parent)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
