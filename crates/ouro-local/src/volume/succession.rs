//! Atomic saves keep identity: what this device keeps by file id goes with the id.

use super::change::Change;
use super::edit::ORPHAN_GENERATION;
use super::learn::is_below;
use super::state::State;
use super::trash::{Waiting, trashes};
use super::{Volume, VolumeError};
use crate::ledger::Write;
use crate::pins::Pin;
use ouro_core::content::Content;
use ouro_core::edit::Succession;
use ouro_core::id::FileId;

/// Ids of files that were born and got another id, as they are remembered for whoever is just about to open one.
const RETIRED_MAX: usize = 4_096;

impl Volume {
    /// Gives every file that was saved by way of a new one its old id back ([`ouro_core::edit::Edit::keep_identities`]), and returns what
    /// others hear of that. Called right before sealing. A save of which anybody has the old or the new file open keeps the new id for
    /// good: a program must never find itself with a file that has gone. What is `waiting` for its burial waits under the id it has then, and so
    /// does a name in the trash that was this device's own as long as the file was.
    pub(super) fn keep_identities(&self, state: &mut State, waiting: &mut Waiting) -> Result<Change, VolumeError> {
        let (successions, edited, mut unit) = self.operate(state, &mut |state, edit| {
            let closed = |s: &Succession| !state.open.contains_key(&s.born) && !state.open.contains_key(&s.old);
            edit.keep_identities(&state.base_rows(&self.nodes), &closed)
        })?;
        if successions.is_empty() {
            return Ok(Change::default());
        }
        let listings = edited.listings.clone();
        let mut derived = self.derived_names(state, &listings)?;
        let names = self.own_names_in_trash(state, waiting, &successions)?;
        for succession in &successions {
            self.succeed(state, succession, &mut unit);
        }
        self.take_effect(state, edited, unit)?;
        let mut change = Change::default();
        for Succession { born, old } in successions {
            let thrown: Waiting = waiting.extract_if(.., |(file, _)| *file == born).collect();
            waiting.extend(thrown.into_iter().map(|(_, place)| (old, place)));
            change.files.extend([born, old]);
            let delta = state.pending.files.get(&old);
            let places = delta.iter().flat_map(|d| d.placements.iter().map(|p| &p.place).chain(&d.hint));
            change.renumbered.extend(places.map(|place| (place.parent, place.name.clone())));
        }
        waiting.extend(names);
        // Something from afar may have been shown beside the new file, and is another content of the old one now.
        derived.extend(self.derived_names(state, &listings).unwrap_or_default());
        if !derived.is_empty() {
            change.bindings = derived;
            change.directories = listings;
        }
        Ok(change)
    }

    /// Names in the trash, but for those in a directory that waits, of files that are about to get the ids of known ones.
    fn own_names_in_trash(
        &self,
        state: &State,
        waiting: &Waiting,
        successions: &[Succession],
    ) -> Result<Waiting, VolumeError> {
        let mut trash = trashes(state);
        let mut waits = waiting.iter().map(|(file, _)| (*file, true)).collect();
        let rows = state.live_rows(&self.nodes);
        let mut names = Waiting::new();
        for Succession { born, old } in successions {
            for name in state.pending.files.get(born).iter().flat_map(|delta| &delta.placements) {
                let parent = name.place.parent;
                if is_below(&rows, &mut trash, parent)? && !is_below(&rows, &mut waits, parent)? {
                    names.insert((*old, name.place.clone()));
                }
            }
        }
        Ok(names)
    }

    /// What was kept for the file as it was born is the old one's from now on.
    fn succeed(&self, state: &mut State, succession: &Succession, unit: &mut Vec<Write>) {
        self.hand_over(state, succession.born, succession.old, unit);
        self.retire(state, succession.born);
    }

    /// What this device keeps of one file by its id is another's from now on. Its bytes are not moved.
    pub(super) fn hand_over(&self, state: &mut State, from: FileId, to: FileId, unit: &mut Vec<Write>) {
        if let Some(generation) = state.writable.remove(&from) {
            state.writable.insert(to, generation);
        }
        let layers: Vec<(u64, Content)> = state
            .bases
            .range((from, 0)..(from, ORPHAN_GENERATION))
            .map(|((_, generation), below)| (*generation, below.clone()))
            .collect();
        for (generation, below) in layers {
            state.bases.remove(&(from, generation));
            state.bases.insert((to, generation), below);
            self.layers.bear(to, generation, from);
        }
        state.hot.remove(&from);
        match state.owners.remove(&from) {
            Some(owner) => state.owners.insert(to, owner),
            None => state.owners.remove(&to),
        };
        let pin = self.pins.own(from);
        if pin != Pin::Auto {
            unit.extend([self.pins.set(from, Pin::Auto), self.pins.set(to, pin)]);
        }
        unit.extend([self.local_row(state, from), self.local_row(state, to)]);
    }

    fn retire(&self, state: &mut State, born: FileId) {
        state.retired.insert(born);
        if state.retired.len() > RETIRED_MAX {
            // Ids are given out in order: the least is the oldest.
            state.retired.pop_first();
        }
    }
}
