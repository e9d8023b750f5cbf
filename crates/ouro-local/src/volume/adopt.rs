//! Moving on to a newer checkpoint. What must be read for that is read before the lock is taken: others go on meanwhile.

use super::change::Change;
use super::encode;
use super::learn::{Announced, Built, CheckpointInput};
use super::state::{Head, State};
use super::{Counts, Volume, VolumeError};
use crate::ledger::Write;
use ouro_core::codec::encode_file_delta;
use ouro_core::id::{DeviceNo, FileId, NodeId};
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::row::{Key, Row, RowChanges, Rows};
use ouro_core::state::File;
use ouro_core::tree::{self, NodeRef};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rounds of reading ahead before the rest is read with the lock held: each one reads what came up during the one before.
const ROUNDS_MAX: usize = 4;
/// Names of the root that are listed at once.
const NAMES_AT_ONCE: usize = 1024;

impl Volume {
    /// Moves on to a checkpoint. Its index nodes need not be here. If every commit in it is known, nothing that is seen changes and only
    /// memory is freed; else (a fresh device, or one long away) the state is built anew on it from the commits and changes it does not
    /// hold. One that lacks a commit of the present checkpoint is left alone: that commit's record need not be on this device.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: nothing changed; fetch and call again.
    pub fn adopt(&self, checkpoint: &Announced) -> Result<(), VolumeError> {
        let known = {
            let state = self.state.read();
            if !reaches(&checkpoint.covers, &state.covers) {
                return Ok(());
            }
            reaches(&state.heads, &checkpoint.covers)
        };
        if known { self.prune(checkpoint) } else { self.rebuild(checkpoint, &BTreeSet::new()) }
    }

    /// Moves on to a checkpoint that was just made here of `input`: what is in it is known without reading it.
    ///
    /// # Errors
    /// As [`Volume::adopt`].
    pub fn adopt_own(&self, checkpoint: &Announced, input: &CheckpointInput) -> Result<(), VolumeError> {
        {
            let mut state = self.state.write();
            if state.root == input.root && Arc::ptr_eq(&state.base, &input.changes) {
                return self.fold_in(&mut state, checkpoint, input);
            }
        }
        // Something came in between: the tree is read.
        self.adopt(checkpoint)
    }

    /// All that was committed is in the new tree.
    fn fold_in(&self, state: &mut State, checkpoint: &Announced, input: &CheckpointInput) -> Result<(), VolumeError> {
        // What is pending may keep a row as the old tree has it: it differs from the new one.
        let mut kept = RowChanges::new();
        for (key, row) in input.changes.iter().filter(|(key, _)| !state.live.contains_key(*key)) {
            let old = match &input.root {
                Some(_) => tree::get(&self.nodes, input.root.as_ref(), key)?,
                None => None,
            };
            if old != *row {
                kept.insert(key.clone(), old);
            }
        }
        let mut live = std::mem::take(&mut state.live);
        live.retain(|key, row| input.changes.get(key) != Some(&*row));
        live.extend(kept);
        self.ledger.submit(vec![encode::checkpoint(checkpoint)]);
        state.base = Arc::default();
        state.put_live(live);
        state.root = checkpoint.root;
        state.covers = checkpoint.covers.clone();
        state.covers_digest = checkpoint.digest;
        state.since = Counts::default();
        Ok(())
    }

    /// What is seen stays; it is told as what differs from the new tree instead of the old one.
    fn prune(&self, checkpoint: &Announced) -> Result<(), VolumeError> {
        let (mut ahead, mut round) = (Ahead::default(), 0);
        loop {
            round += 1;
            let (root, keys) = {
                let state = self.state.read();
                (state.root, ahead.unread(&state))
            };
            ahead.read(self, root, checkpoint.root.as_ref(), keys)?;
            let mut state = self.state.write();
            let state = &mut *state;
            let left = if state.root == root { ahead.unread(state) } else { Vec::new() };
            if state.root != root || (!left.is_empty() && round < ROUNDS_MAX) {
                continue;
            }
            ahead.read(self, root, checkpoint.root.as_ref(), left)?;
            let (base, live) = (ahead.differing(&state.base), ahead.differing(&state.live));
            self.ledger.submit(vec![encode::checkpoint(checkpoint)]);
            state.base = Arc::new(base);
            state.put_live(live);
            state.root = checkpoint.root;
            state.covers = checkpoint.covers.clone();
            state.covers_digest = checkpoint.digest;
            state.since = Counts { entries: state.base.len() as u64, ..Counts::default() };
            return Ok(());
        }
    }

    /// What a checkpoint says that is not known here is not told one change after the other: then all that waits in the trash comes back.
    fn bury_before_rebuilding(
        &self,
        state: &mut State,
        checkpoint: &Announced,
        change: &mut Change,
    ) -> Result<(), VolumeError> {
        let waiting = self.bury_before_learning(state, change)?;
        if reaches(&state.heads, &checkpoint.covers) {
            return Ok(());
        }
        waiting.iter().try_for_each(|(file, place)| self.recall(state, *file, place, change))
    }

    pub(super) fn rebuild(&self, checkpoint: &Announced, gone: &BTreeSet<NodeId>) -> Result<(), VolumeError> {
        let mut change = Change::default();
        let buried = self.bury_before_rebuilding(&mut self.state.write(), checkpoint, &mut change);
        change.tidy();
        self.announce(&change);
        buried?;
        loop {
            let heads = self.heads();
            let mut fresh = Built {
                root: checkpoint.root,
                base: RowChanges::new(),
                live: RowChanges::new(),
                digest: checkpoint.digest,
                heads: checkpoint.covers.clone(),
            };
            let mut since = Counts::default();
            for commit in self.commits_beyond(&checkpoint.covers, &heads)? {
                fresh.commit(&self.nodes, &commit)?;
                since.commits += 1;
                since.entries += commit.delta.files.len() as u64;
            }
            fresh.live = fresh.base.clone();
            let mut change = {
                let mut state = self.state.write();
                let state = &mut *state;
                if state.heads != heads {
                    // A commit came in meanwhile.
                    continue;
                }
                self.settle_hot(state)?;
                let holding = self.hold_unknown(state, &fresh, gone)?;
                let pending = state.pending.files.values().chain(&holding);
                fresh.overlay(&self.nodes, state.sealed.as_ref(), pending)?;
                let open = self.changes_of_open(state, &fresh)?;
                let bindings = self.names_in_root(state, &fresh)?;
                // From here on nothing fails but the disk.
                self.end_revived_orphans(state, &open)?;
                self.adopt_orphans(state, &open, true);
                let mut unit = vec![encode::checkpoint(checkpoint)];
                for delta in holding {
                    let (generation, file) = (state.generation, delta.id);
                    unit.push(Write::Pending { generation, file, delta: Some(encode_file_delta(&delta)) });
                    state.pending.files.insert(file, delta);
                }
                self.ledger.submit(unit);
                state.root = fresh.root;
                state.base = Arc::new(fresh.base);
                state.put_live(fresh.live);
                state.digest = fresh.digest;
                state.heads = fresh.heads;
                state.covers = checkpoint.covers.clone();
                state.covers_digest = checkpoint.digest;
                state.since = since;
                self.heed_heads(state);
                // The trees may differ anywhere, and nodes of the old one may be nowhere any more: nobody compares them.
                Change { all: true, bindings, ..Change::default() }
            };
            change.tidy();
            self.announce(&change);
            return Ok(());
        }
    }

    /// What becomes of the records of files that are open here when this device begins anew: of one that lost its last name here and is there
    /// again, and of one that is there no more.
    fn changes_of_open(&self, state: &State, fresh: &Built) -> Result<RowChanges, VolumeError> {
        let (before, after) = (state.live_rows(&self.nodes), fresh.seen(&self.nodes));
        let mut changes = RowChanges::new();
        for (file, open) in &state.open {
            match &open.orphan {
                // Nobody else can have brought back what nobody else knew.
                Some(orphan) if orphan.record.is_unheard_of() => {}
                Some(orphan) => {
                    let found = find_brought_back(&after, *file, &orphan.record)?;
                    changes.extend(found.map(|(key, record)| (key, Some(Row::Record(record)))));
                }
                None => {
                    // A conflict copy has no record. One that is not on this device any more need not be anywhere: who has the file
                    // open does without.
                    let Ok(Some((key, _))) = before.find(*file) else { continue };
                    let stays = matches!(after.get(&key)?, Some(Row::Record(_)));
                    if !stays && after.find(*file)?.is_none() {
                        changes.insert(key, None);
                    }
                }
            }
        }
        Ok(changes)
    }

    /// All names that the root of the box will have. The kernel may remember of each that there was nothing; of names in any other directory
    /// it forgets that with the directory's own name.
    fn names_in_root(&self, state: &State, fresh: &Built) -> Result<Vec<(FileId, Name)>, VolumeError> {
        if state.heads.is_empty() {
            // Of a box that has not begun the kernel keeps no names.
            return Ok(Vec::new());
        }
        let rows = fresh.seen(&self.nodes);
        let members = render::members(&rows, FileId::ROOT)?;
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = render::list(&rows, state, &members, after.as_ref(), NAMES_AT_ONCE)?;
            names.extend(page.entries.into_iter().map(|seen| (FileId::ROOT, seen.name)));
            after = page.next;
            if after.is_none() {
                return Ok(names);
            }
        }
    }
}

/// The record of a file that had this one when it lost its last name here. Most with a derived id are conflict copies that ended and are nowhere:
/// every node would be read for that. They are looked for where they are if somebody wrote to them, and in the directories where they were.
fn find_brought_back(rows: &dyn Rows, file: FileId, was: &File) -> Result<Option<(Key, Arc<File>)>, VolumeError> {
    if !file.is_derived() {
        return Ok(rows.find(file)?);
    }
    let homeless = Key::homeless(file);
    if let Some(Row::Record(record)) = rows.get(&homeless)? {
        return Ok(Some((homeless, record)));
    }
    let named = was.placements.iter().map(|placement| placement.place.parent);
    let directories: BTreeSet<FileId> = named.chain(was.contents.iter().map(|content| content.at.parent)).collect();
    let mut found = None;
    for directory in directories {
        rows.scan(&Key::header(directory), &mut |key, row| match row {
            _ if key.directory != directory => ControlFlow::Break(()),
            Row::Record(record) if key.file == file => {
                found = Some((key.clone(), Arc::clone(record)));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })?;
    }
    Ok(found)
}

fn reaches(far: &BTreeMap<DeviceNo, Head>, near: &BTreeMap<DeviceNo, Head>) -> bool {
    near.iter().all(|(device, head)| far.get(device).is_some_and(|h| h.seq >= head.seq))
}

/// What must be known of the new tree to tell the rows by it.
#[derive(Default)]
struct Ahead {
    /// The tree that `moved` was found with.
    from: Option<NodeRef>,
    /// Rows of the old tree that are others in the new one.
    moved: Option<RowChanges>,
    /// Rows of the new tree.
    there: BTreeMap<Key, Option<Row>>,
}

impl Ahead {
    /// Keys of rows on top of the old tree whose rows in the new one were not read yet.
    fn unread(&self, state: &State) -> Vec<Key> {
        let changed = state.base.keys().chain(state.live.keys());
        let unread: BTreeSet<&Key> = changed.filter(|key| !self.there.contains_key(*key)).collect();
        unread.into_iter().cloned().collect()
    }

    fn read(
        &mut self,
        volume: &Volume,
        old: Option<NodeRef>,
        new: Option<&NodeRef>,
        keys: Vec<Key>,
    ) -> Result<(), VolumeError> {
        if self.moved.is_none() || self.from != old {
            let mut moved = RowChanges::new();
            let there = &mut self.there;
            tree::diff(&volume.nodes, old.as_ref(), new, &mut |key, old, new| {
                moved.insert(key.clone(), old.cloned());
                there.insert(key.clone(), new.cloned());
            })?;
            (self.moved, self.from) = (Some(moved), old);
        }
        for key in keys {
            if let Entry::Vacant(unread) = self.there.entry(key) {
                let row = tree::get(&volume.nodes, new, unread.key())?;
                unread.insert(row);
            }
        }
        Ok(())
    }

    /// Rows on top of the old tree, told by the new one. A row that nothing on top changes is the old tree's: pending changes may keep a
    /// row as it was that a commit in the new tree changes, and a commit beyond it may have led a file past a place where the new tree
    /// shows it.
    fn differing(&self, changes: &RowChanges) -> RowChanges {
        let untouched = self.moved.iter().flatten().filter(|(key, _)| !changes.contains_key(*key));
        let all = changes.iter().chain(untouched);
        let kept = all.filter(|(key, row)| self.there.get(*key).is_none_or(|there| there != *row));
        kept.map(|(key, row)| (key.clone(), row.clone())).collect()
    }
}
