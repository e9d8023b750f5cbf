//! The trash: `.Trash-UID` in the root, as desktops make it. It belongs to this device.
//!
//! A move into it is an ordinary rename until the next seal, or until something is learnt: what is brought back before was never away. Then what lies there is made anew
//! under ids of its own ([`ouro_core::edit::Edit::replant`]): the commit says that the old files are gone, and the new ones stay here, as
//! all ignored names do, with references to the same contents. Brought back later, they are new files with known contents.

use super::change::Change;
use super::ignored::is_name_only;
use super::learn::is_below;
use super::state::State;
use super::{Volume, VolumeError};
use crate::ignore::is_trash;
use crate::pins::Pin;
use ouro_core::content::{BlobRef, Content};
use ouro_core::delta::{FileDelta, Register};
use ouro_core::id::{BlobId, FileId};
use ouro_core::render::Seen;
use ouro_core::row::Rows;
use ouro_core::state::{Kind, Place};
use std::collections::{BTreeMap, BTreeSet};

/// Files that wait for their burial, and where they lie.
pub(super) type Waiting = BTreeSet<(FileId, Place)>;

impl Volume {
    /// Makes anew what was thrown away before anything is learnt from others: who throws a file away throws away what they knew of it. Else
    /// an edit of another device that comes in between would be in this trash only, and the file gone for all. Returns what waits all the same,
    /// because it is open, or was written here and is not published.
    pub(super) fn bury_before_learning(&self, state: &mut State, change: &mut Change) -> Result<Waiting, VolumeError> {
        self.forget_the_trash(state)?;
        if self.thrown_away(state)?.is_empty() {
            return Ok(Waiting::new());
        }
        self.edit_locked(state, &mut |edit| Ok(((), edit.settle()?)))?;
        // A layer is known by a generation and the file that it was begun for, which may be written again in this one.
        let is_written = |state: &State, seen: &Seen| {
            has_layer(state, seen.id) || matches!(seen.content(), Some(Content::Pending { .. }))
        };
        self.bury(state, change, &|state, seen| !state.open.contains_key(&seen.id) && !is_written(state, seen))
    }

    /// Makes anew what everybody knows and lies in this device's trash. Called before sealing, and before anything is learnt. Adds to `change` what others hear of
    /// that, also if it fails half-way. Returns what must wait because it, or something in it, may not be made anew now, or because what was written
    /// to it while it has a name elsewhere is to be published first: until then others see it where it was. What is in a directory that waits is
    /// in it for others too, for it may come back as it is.
    pub(super) fn bury(
        &self,
        state: &mut State,
        change: &mut Change,
        may: &dyn Fn(&State, &Seen) -> bool,
    ) -> Result<Waiting, VolumeError> {
        let mut waiting = Waiting::new();
        let thrown = self.thrown_away(state)?;
        let thrown_files: BTreeSet<FileId> = thrown.iter().map(|(file, _)| *file).collect();
        // Not published before it is taken out, and so never if its directory waited for that.
        let is_own = |seen: &Seen| seen.file().is_unheard_of() && !thrown_files.contains(&seen.id);
        let parts = part_inner(&state.live_rows(&self.nodes), thrown)?;
        for part in parts {
            let mut waits = waiting.iter().map(|(file, _)| (*file, true)).collect();
            for (file, place) in part {
                if is_below(&state.live_rows(&self.nodes), &mut waits, place.parent)? {
                    // Of a new file others hear under its other names.
                    if let Some(delta) = state.pending.files.get(&file)
                        && self.is_unheard_of(state, delta, &place)?
                        && delta.replaced.is_empty()
                    {
                        waiting.insert((file, place));
                    }
                    continue;
                }
                let Some((seen, union)) = self.seen_at(state, file, &place)? else {
                    // What was buried with the directory that it lay in does not lie there any more: its removal is for others to hear.
                    if lies_at(state, file, &place) && !self.take_back(state, file, &place)? {
                        waiting.insert((file, place));
                    }
                    continue;
                };
                let asked = self
                    .operate(state, &mut |state, edit| edit.replant(&seen, &union, &|seen| may(state, seen), &is_own));
                let (replanted, edited, mut unit) = match asked {
                    // Better seen by others for longer than a box that commits nothing any more.
                    Err(VolumeError::Edit(error)) => {
                        tracing::warn!(%error, file = file.0, "what was thrown away cannot be made this device's own yet");
                        waiting.insert((file, place));
                        continue;
                    }
                    asked => asked?,
                };
                let Some(replanted) = replanted else {
                    waiting.insert((file, place));
                    self.ledger.submit(unit);
                    continue;
                };
                for made in &replanted {
                    if !made.shared && self.keeps(state, made.from) {
                        self.hand_over(state, made.from, made.to, &mut unit);
                    }
                }
                self.take_effect(state, edited, unit)?;
                // What is below goes with the name of the topmost.
                change.files.extend(replanted.first().iter().flat_map(|made| [made.from, made.to]));
                change.renumbered.push((place.parent, place.name));
            }
        }
        state.trash_waits = !waiting.is_empty();
        Ok(waiting)
    }

    /// Ends a name that would stay here and shows nothing, because others removed its file: nobody would ever see it go, and if others bring the
    /// file back, it would be here and not where it is for them. False if there is anything to see or to read of the file.
    pub(super) fn take_back(&self, state: &mut State, file: FileId, name: &Place) -> Result<bool, VolumeError> {
        let Some(kind) = state.pending.files.get(&file).map(|delta| delta.kind) else { return Ok(false) };
        if state.open.contains_key(&file) || has_layer(state, file) {
            return Ok(false);
        }
        self.edit_locked(state, &mut |edit| edit.take_back(file, kind, name))
    }

    /// Whether this device knows more of a file than its record.
    fn keeps(&self, state: &State, file: FileId) -> bool {
        has_layer(state, file) || state.owners.contains_key(&file) || self.pins.own(file) != Pin::Auto
    }

    /// Of directories that were brought back, others must not hear that they were in the trash: where a cycle of directories is cut, one of them goes
    /// back to where it was.
    pub(super) fn forget_the_trash(&self, state: &mut State) -> Result<(), VolumeError> {
        let mut known = trashes(state);
        if known.is_empty() {
            return Ok(());
        }
        let mut brought_back = Vec::new();
        let rows = state.live_rows(&self.nodes);
        for delta in state.pending.files.values().filter(|delta| delta.kind == Kind::Directory) {
            for was in delta.placements.iter().filter_map(|placement| placement.was.as_ref()) {
                if is_below(&rows, &mut known, was.parent)? {
                    brought_back.push(delta.id);
                }
            }
        }
        if brought_back.is_empty() {
            return Ok(());
        }
        self.edit_locked(state, &mut |edit| edit.forget_origins(&brought_back))
    }

    /// Files that others know, or hear of next under another name, and that were moved into the trash, with where they lie.
    fn thrown_away(&self, state: &State) -> Result<Vec<(FileId, Place)>, VolumeError> {
        let mut known = trashes(state);
        let mut found = Vec::new();
        if known.is_empty() {
            return Ok(found);
        }
        let rows = state.live_rows(&self.nodes);
        for delta in state.pending.files.values() {
            // Who makes a file says all of it: nobody else knows one with a single name, wherever it is.
            let is_made_here = delta.attributes.is_some() && delta.replaced.is_empty() && !delta.id.is_derived();
            if is_made_here && delta.placements.len() == 1 {
                continue;
            }
            let (mut thrown, mut elsewhere) = (Vec::new(), Vec::new());
            for placement in delta.placements.iter().filter(|placement| !placement.removed) {
                let is_thrown = is_below(&rows, &mut known, placement.place.parent)?;
                if is_thrown { &mut thrown } else { &mut elsewhere }.push(&placement.place);
            }
            // Others may make a file of the same conflict copy: of that id, too.
            let is_others = !delta.replaced.is_empty() || delta.id.is_derived() || is_name_only(delta);
            let is_heard_of =
                !thrown.is_empty() && (is_others || self.is_any_tracked(state, elsewhere.into_iter(), delta.kind)?);
            for place in thrown {
                if is_heard_of || !self.is_unheard_of(state, delta, place)? {
                    found.push((delta.id, place.clone()));
                }
            }
        }
        Ok(found)
    }

    /// Blobs of contents that changes of this device refer to and perhaps no commit does any more: what stays here because its name is
    /// ignored (the trash above all), and what is about to be committed. One that is known in several places comes with each of them. They are
    /// roots for a collection on this device. Of a list in `gone` that is not here nobody knows the chunks: it stands for itself.
    ///
    /// # Errors
    /// [`VolumeError::Need`] if a list of chunks is not here: fetch it and call again.
    pub fn local_references(&self, gone: &BTreeSet<BlobId>) -> Result<Vec<BlobRef>, VolumeError> {
        self.references(gone, |_, _| true)
    }

    /// Those of [`Volume::local_references`] that stay here because their names are ignored: the cache must not drop them.
    ///
    /// # Errors
    /// As [`Volume::local_references`].
    pub fn staying_references(&self) -> Result<Vec<BlobRef>, VolumeError> {
        self.references(&BTreeSet::new(), |state, file| state.staying.contains(&file))
    }

    fn references(
        &self,
        gone: &BTreeSet<BlobId>,
        which: impl Fn(&State, FileId) -> bool,
    ) -> Result<Vec<BlobRef>, VolumeError> {
        let contents: Vec<Content> = {
            let state = self.state.read();
            let sealed = state.sealed.iter().flat_map(|sealed| sealed.files.iter());
            let deltas = state.pending.files.values().chain(sealed).filter(|delta| which(&state, delta.id));
            let written = deltas.filter_map(|delta| delta.content.as_ref()?.value.clone());
            let below = state.bases.iter().filter(|((file, _), _)| which(&state, *file));
            written.chain(below.map(|(_, content)| content.clone())).collect()
        };
        // References to the same bytes are equal, but each of them says only one place: that of another may stay when its own goes.
        let by_place = |blob: &BlobRef| ((blob.id, blob.at.map(|at| (at.object, at.offset))), *blob);
        let mut blobs = BTreeMap::new();
        for content in &contents {
            if let Content::BlockList { list, .. } = content {
                blobs.extend([by_place(list)]);
                if gone.contains(&list.id) {
                    continue;
                }
            }
            blobs.extend(self.chunks(content)?.iter().map(by_place));
        }
        Ok(blobs.into_values().collect())
    }
}

/// The directories that are this device's trash. One of that name that others know too is a directory like any other.
pub(super) fn trashes(state: &State) -> BTreeMap<FileId, bool> {
    let stands_in_root = |place: &Place| place.parent == FileId::ROOT && is_trash(place.name.as_bytes());
    let pending = state.pending.files.values();
    let own = pending.filter(|delta| delta.kind == Kind::Directory && delta.replaced.is_empty());
    let trash = own.filter(|delta| delta.placements.iter().any(|p| !p.removed && stands_in_root(&p.place)));
    trash.map(|delta| (delta.id, true)).collect()
}

/// Parts the change of a file into what is committed, though it waits for its burial, and what waits: where it lies. All else cannot. A copy
/// of it that was made a file has its content no longer, which others must see in one commit; and what was written to it while it has a
/// name elsewhere can only be made anew once it is published.
pub(super) fn part_waiting(delta: &FileDelta, waiting: &Waiting) -> (FileDelta, FileDelta) {
    let (mut goes, mut waits) = (delta.clone(), FileDelta::new(delta.id, delta.kind, delta.hint.clone()));
    let lies_at = |place: &Place| waiting.contains(&(delta.id, place.clone()));
    waits.placements = goes.placements.extract_if(.., |added| lies_at(&added.place)).collect();
    let waits_at = |slot: u64| waits.placements.iter().any(|added| added.slot == slot);
    let is_of_it = |register: Register| matches!(register, Register::Placement { slot } if waits_at(slot));
    waits.replaced = goes.replaced.extract_if(.., |(register, _)| is_of_it(*register)).collect();
    // Others know it where it was, or hear of it now where else it stands.
    waits.hint = delta.hint.clone().or_else(|| goes.placements.first().map(|added| added.place.clone()));
    if let (Some(content), Some(known)) = (goes.content.as_mut().filter(|c| lies_at(&c.at)), &waits.hint) {
        content.at = known.clone();
    }
    (goes, waits)
}

/// Parts what was thrown away: a directory goes before what was moved into it.
fn part_inner(rows: &dyn Rows, thrown: Vec<(FileId, Place)>) -> Result<[Vec<(FileId, Place)>; 2], VolumeError> {
    let mut known = thrown.iter().map(|(file, _)| (*file, true)).collect();
    let mut parts = [Vec::new(), Vec::new()];
    for (file, place) in thrown {
        let is_inner = is_below(rows, &mut known, place.parent)?;
        parts[usize::from(is_inner)].push((file, place));
    }
    Ok(parts)
}

/// Whether bytes that were written here for a file, or for a conflict copy of it, are not published.
pub(super) fn has_layer(state: &State, file: FileId) -> bool {
    state.bases.range((file, 0)..=(file, u64::MAX)).next().is_some()
}

/// Whether a change of this device puts a file at a place.
fn lies_at(state: &State, file: FileId, place: &Place) -> bool {
    let placements = state.pending.files.get(&file).map(|delta| delta.placements.as_slice());
    placements.is_some_and(|placements| placements.iter().any(|p| !p.removed && p.place == *place))
}
