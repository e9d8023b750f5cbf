//! Learning commits of other devices, and moving on to a newer checkpoint.

use super::change::Change;
use super::encode;
use super::state::{Head, State};
use super::{Volume, VolumeError};
use crate::ledger::Write;
use ouro_core::delta::{Delta, FileDelta};
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceNo, FileId, Hlc, RecordHash, Seq, Version};
use ouro_core::row::{Row, RowChanges, Rows};
use ouro_core::tree::{NodeRef, TreeRows};
use ouro_core::{apply, render};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A commit as this device keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whose.
    pub device: DeviceNo,
    /// Position in its log.
    pub seq: Seq,
    /// Hash of its record.
    pub hash: RecordHash,
    /// When.
    pub hlc: Hlc,
    /// The heads it was made on.
    pub parents: BTreeMap<DeviceNo, Head>,
    /// What the user said about it; usually empty.
    pub message: String,
    /// What it changes.
    pub delta: Delta,
    /// The checkpoint it announces, if it is an announcement.
    pub checkpoint: Option<Announced>,
}

/// A checkpoint: a tree and the commits in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The tree's root; `None` for the empty state.
    pub root: Option<NodeRef>,
    /// The newest commit of each device in it.
    pub covers: BTreeMap<DeviceNo, Head>,
    /// Digest of that state.
    pub digest: Digest,
}

/// What a checkpoint is made from.
pub struct CheckpointInput {
    /// The tree so far.
    pub root: Option<NodeRef>,
    /// The committed rows that differ from it.
    pub changes: Arc<RowChanges>,
    /// The commits in both.
    pub covers: BTreeMap<DeviceNo, Head>,
    /// Digest of that state.
    pub digest: Digest,
}

impl State {
    fn in_sealed(&self, file: FileId) -> bool {
        self.sealed.as_ref().is_some_and(|s| s.files.binary_search_by_key(&file, |f| f.id).is_ok())
    }

    pub(crate) fn count(&mut self, commit: &Commit) {
        self.since.commits += 1;
        self.since.entries += commit.delta.files.len() as u64;
        self.since.delta_bytes += commit.delta.files.iter().map(|f| 96 + 40 * f.replaced.len() as u64).sum::<u64>();
    }
}

impl Volume {
    /// Stops all writing to this box until the engine is started anew, for a reason that the user is told.
    pub fn stop_writing(&self, reason: String) {
        self.state.write().read_only.get_or_insert(reason);
    }

    /// The newest commit known of each device.
    pub fn heads(&self) -> BTreeMap<DeviceNo, Head> {
        self.state.read().heads.clone()
    }

    /// Whether any commit is known here. Until then the box may still move on to a checkpoint as a whole.
    pub fn has_begun(&self) -> bool {
        !self.state.read().heads.is_empty()
    }

    /// Digest of the committed state.
    pub fn digest(&self) -> Digest {
        self.state.read().digest
    }

    /// The newest rules that any commit known here was made by; 0 if that is not known.
    pub fn rules_version(&self) -> u32 {
        self.state.read().rules
    }

    /// Takes note of the rules that a commit was made by.
    pub fn meet_rules_version(&self, rules: u32) {
        let mut state = self.state.write();
        if rules > state.rules {
            state.rules = rules;
            self.ledger.submit(vec![encode::meta(encode::META_RULES, encode::number(u64::from(rules)))]);
        }
    }

    /// When this device's hint was written last, in milliseconds since 1970; 0 if that is not known.
    pub fn hinted_ms(&self) -> u64 {
        self.state.read().hinted_ms
    }

    /// Takes note of when this device's hint was written.
    pub fn note_hinted(&self, millis: u64) {
        self.state.write().hinted_ms = millis;
        self.ledger.submit(vec![encode::meta(encode::META_HINTED, encode::number(millis))]);
    }

    /// How much is waiting and how much was committed since the checkpoint.
    pub fn counts(&self) -> super::Counts {
        let state = self.state.read();
        let mut counts = state.since;
        counts.pending = state.pending.files.len().saturating_sub(state.staying.len());
        // One that only has a message waits for the remote all the same; one that announces a checkpoint is nobody's concern.
        let outright = state.outright.as_ref().map_or(0, |(commit, _)| commit.delta.files.len());
        counts.sealed = outright + state.sealed.as_ref().map_or(0, |s| s.files.len().max(1));
        counts
    }

    /// Writes down what a device is called: conflict copies are named after it, at the next start too.
    pub fn name_device(&self, device: DeviceNo, name: String) {
        let mut state = self.state.write();
        if state.devices.get(&device) != Some(&name) {
            state.devices.insert(device, name);
            self.ledger.submit(vec![encode::devices(&state.devices)]);
        }
    }

    /// Takes in a commit of another device: all its parents must be known already. One that is known already changes nothing.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: nothing changed; fetch and call again.
    pub fn learn(&self, commit: &Commit) -> Result<(), VolumeError> {
        let mut change = Change::default();
        let learnt = self.learn_above(&mut self.state.write(), commit, &mut change);
        change.tidy();
        self.announce(&change);
        learnt
    }

    fn learn_above(&self, state: &mut State, commit: &Commit, change: &mut Change) -> Result<(), VolumeError> {
        let mut waiting = self.bury_before_learning(state, change)?;
        self.recall_what_goes_on(state, &mut waiting, commit, change)?;
        let mut unit = Vec::new();
        change.append(self.learn_locked(state, commit, &mut unit)?);
        self.ledger.submit(unit);
        Ok(())
    }

    /// Takes a commit into the state in memory, and its row into `unit`, which must go to the journal before the lock is given back. An
    /// error changes nothing.
    pub(super) fn learn_locked(
        &self,
        state: &mut State,
        commit: &Commit,
        unit: &mut Vec<Write>,
    ) -> Result<Change, VolumeError> {
        let version = Version { hlc: commit.hlc, device: commit.device, seq: commit.seq };
        if state.heads.get(&commit.device).is_some_and(|h| h.seq >= commit.seq) {
            return Ok(Change::default());
        }
        // What an open writer knows goes into the row where the file still stands.
        self.settle_hot(state)?;
        self.hold_purged(state, &commit.delta)?;
        let base = apply::apply(&state.base_rows(&self.nodes), &commit.delta, version)?;
        // Without changes of this device on top, what is seen is what is committed.
        let live = if state.pending.files.is_empty() && state.sealed.is_none() {
            base.clone()
        } else {
            apply::apply(&state.live_rows(&self.nodes), &commit.delta, version)?
        };
        let before = self.derived_names(state, &live.listings)?;
        let copies = self.open_copies(state, &live.listings, &live.changes)?;
        let change = {
            let rows = state.live_rows(&self.nodes);
            let mut failed = None;
            let change = Change::of_rows(&live.changes, |key| {
                rows.get(key).unwrap_or_else(|m| {
                    failed = Some(m);
                    None
                })
            });
            if let Some(missing) = failed {
                return Err(missing.into());
            }
            change
        };
        self.end_revived_orphans(state, &live.changes)?;
        self.adopt_orphans(state, &live.changes, true);
        unit.push(encode::commit(commit));
        if !base.changes.is_empty() {
            Arc::make_mut(&mut state.base).extend(base.changes);
        }
        state.digest = state.digest.plus(base.digest);
        state.lay(live.changes);
        self.adopt_copies(state, copies);
        state.heads.insert(commit.device, Head { seq: commit.seq, hash: commit.hash, hlc: commit.hlc });
        state.count(commit);
        state.announced.extend(commit.checkpoint.clone());
        self.heed_clock(state, commit.device, commit.hlc);
        let mut change = change;
        // What comes from here brings the times of its directories along.
        change.timeless = commit.device == state.device;
        change.directories.extend(live.listings.iter().copied());
        change.files.extend(live.files.iter().copied());
        change.bindings.extend(before);
        if let Ok(after) = self.derived_names(state, &live.listings) {
            change.bindings.extend(after);
        }
        Ok(change)
    }

    /// Names shown by rule in these directories: they come and go without a row of their own.
    pub(super) fn derived_names(
        &self,
        state: &State,
        directories: &[FileId],
    ) -> Result<Vec<(FileId, ouro_core::name::Name)>, VolumeError> {
        /// Beyond this many directories at once, listing them costs more than it is worth; their listings are dropped anyway.
        const DIRECTORIES_MAX: usize = 64;
        let rows = state.live_rows(&self.nodes);
        let mut names = Vec::new();
        for directory in directories.iter().take(DIRECTORIES_MAX) {
            if has_siblings(&state.live, *directory) {
                for seen in render::conflicts(&rows, state, &[*directory])? {
                    names.extend(seen.shown.map(|name| (*directory, name)));
                }
            }
        }
        Ok(names)
    }

    /// The position and clock of the next commit that this device makes outright.
    pub fn next_stamp(&self) -> (Seq, Hlc) {
        let state = self.state.read();
        (state.own_seq().next(), self.wall(&state).max(state.clock.next()))
    }

    /// Fixes a commit that is made outright, out of no overlay: one that announces a checkpoint, or what an import takes in. These bytes
    /// of its record and no others are published. Durable when it returns; nothing of the commit is in effect yet.
    ///
    /// # Errors
    /// A failing journal: nothing may be published then.
    pub fn fix_outright(&self, commit: Commit, bytes: Arc<[u8]>) -> Result<(), VolumeError> {
        let ticket = {
            let mut state = self.state.write();
            let ticket = self.ledger.submit(vec![encode::outright(&commit, &bytes)]);
            state.outright = Some((Arc::new(commit), bytes));
            ticket
        };
        Ok(self.ledger.flush(ticket, true)?)
    }

    /// The commit made outright that is on its way, if any, and its record.
    pub fn outright(&self) -> Option<(Arc<Commit>, Arc<[u8]>)> {
        self.state.read().outright.clone()
    }

    /// The commit made outright is durable on the remote: it takes effect as if it were another device's.
    ///
    /// # Errors
    /// As [`Volume::learn`].
    pub fn confirm_outright(&self) -> Result<(), VolumeError> {
        let Some((commit, _)) = self.outright() else { return Ok(()) };
        self.learn(&commit)?;
        let mut state = self.state.write();
        state.clock = state.clock.max(commit.hlc);
        state.outright = None;
        self.ledger.submit(vec![Write::Meta { key: encode::META_OUTRIGHT, value: None }]);
        Ok(())
    }

    /// Files known: rows of the checkpoint's tree, and those since.
    pub fn rows_known(&self) -> u64 {
        let state = self.state.read();
        // Directories have two rows, and the tree's rows that changed since are counted again: this is a figure for people.
        state.root.map_or(0, |root| root.rows) + state.fresh
    }

    /// Whether a file has a change that is not on the remote yet.
    pub fn is_pending(&self, file: FileId) -> bool {
        let state = self.state.read();
        state.pending.files.contains_key(&file) || state.hot_dirty.contains(&file) || state.in_sealed(file)
    }

    /// Whether a file is in the commit that is on its way.
    pub fn is_sealed(&self, file: FileId) -> bool {
        self.state.read().in_sealed(file)
    }

    /// Whether anything below these directories is not on the remote yet.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again.
    pub fn has_pending_below(&self, directories: &[FileId]) -> Result<bool, VolumeError> {
        let state = self.state.read();
        let sealed = state.sealed.iter().flat_map(|s| s.files.iter());
        let rows = state.live_rows(&self.nodes);
        let mut known: BTreeMap<FileId, bool> = directories.iter().map(|d| (*d, true)).collect();
        for delta in state.pending.files.values().filter(|f| !state.staying.contains(&f.id)).chain(sealed) {
            let places = delta.placements.iter().map(|p| &p.place).chain(&delta.hint);
            for place in places {
                if is_below(&rows, &mut known, place.parent)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Keeps a record that lies below the checkpoint, for opening old states. Nothing that is seen changes.
    pub fn remember(&self, commit: &Commit) {
        self.ledger.submit(vec![encode::commit(commit)]);
    }

    /// Whether a seal would have something to take: something changed that is not ignored.
    pub fn has_sealable(&self) -> bool {
        self.state.read().has_sealable()
    }

    /// The checkpoint that this device stands on; `None` if no record that is known here announces it.
    pub fn checkpoint(&self) -> Option<Announced> {
        let state = self.state.read();
        state.announced.iter().rev().find(|known| known.root == state.root && known.covers == state.covers).cloned()
    }

    /// The root of the newest checkpoint's tree.
    pub fn checkpoint_root(&self) -> Option<NodeRef> {
        self.state.read().root
    }

    /// The tree, the rows and the commits that a checkpoint is made from.
    pub fn checkpoint_input(&self) -> CheckpointInput {
        let state = self.state.read();
        CheckpointInput {
            root: state.root,
            changes: Arc::clone(&state.base),
            covers: state.heads.clone(),
            digest: state.digest,
        }
    }

    /// The commits known here that a checkpoint does not hold, each after its parents.
    pub(crate) fn commits_beyond(
        &self,
        covers: &BTreeMap<DeviceNo, Head>,
        heads: &BTreeMap<DeviceNo, Head>,
    ) -> Result<Vec<Commit>, VolumeError> {
        let mut commits = Vec::new();
        for (device, head) in heads {
            let mut after = covers.get(device).map_or(Seq(0), |h| h.seq);
            while after < head.seq {
                let rows = self.ledger.records_after(*device, after, 256)?;
                for row in &rows {
                    if row.seq != after.next() {
                        break;
                    }
                    after = row.seq;
                    commits.push(encode::read_commit(row).map_err(|e| encode::damaged("record", e))?);
                }
                if after < head.seq && rows.last().is_none_or(|last| last.seq != after) {
                    return Err(VolumeError::Record { device: *device, seq: after.next() });
                }
            }
        }
        Ok(in_order(commits))
    }
}

/// Puts commits in an order in which each comes after those it was made on: a version must be there before it is replaced. The clock alone
/// does not do that, for one that is far ahead moves no other.
pub(crate) fn in_order(mut commits: Vec<Commit>) -> Vec<Commit> {
    commits.sort_by_key(|c| (c.device, c.seq));
    let mut left: BTreeMap<DeviceNo, VecDeque<Commit>> = BTreeMap::new();
    for commit in commits {
        left.entry(commit.device).or_default().push_back(commit);
    }
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let waits_for = |(device, head): (&DeviceNo, &Head)| {
            left.get(device).and_then(VecDeque::front).is_some_and(|next| next.seq <= head.seq)
        };
        let nexts = left.values().filter_map(VecDeque::front);
        let ready = nexts.clone().filter(|next| !next.parents.iter().any(waits_for));
        // Parents never wait for each other in a circle; if they did, the earliest would go first.
        let earliest = |c: &&Commit| (c.hlc, c.device, c.seq);
        let Some(device) = ready.min_by_key(earliest).or_else(|| nexts.min_by_key(earliest)).map(|c| c.device) else {
            break;
        };
        let queue = left.entry(device).or_default();
        ordered.extend(queue.pop_front());
        if queue.is_empty() {
            left.remove(&device);
        }
    }
    ordered
}

/// A state under construction.
pub(crate) struct Built {
    pub(crate) root: Option<NodeRef>,
    pub(crate) base: RowChanges,
    pub(crate) live: RowChanges,
    pub(crate) digest: Digest,
    pub(crate) heads: BTreeMap<DeviceNo, Head>,
}

impl Built {
    pub(crate) fn commit(&mut self, nodes: &super::NodeCache, commit: &Commit) -> Result<(), VolumeError> {
        let version = Version { hlc: commit.hlc, device: commit.device, seq: commit.seq };
        let (changes, digest) = apply::apply_unseen(&self.committed(nodes), &commit.delta, version)?;
        self.base.extend(changes);
        self.digest = self.digest.plus(digest);
        let head = Head { seq: commit.seq, hash: commit.hash, hlc: commit.hlc };
        let known = self.heads.entry(commit.device).or_insert(head);
        if known.seq < head.seq {
            *known = head;
        }
        Ok(())
    }

    /// Lays what is sealed and what is pending on top of the live rows. What is sealed may be in the committed rows already: it was
    /// published, this device ended before it noted that, and then began on a checkpoint that others made of it. Adding its versions
    /// again would bring back those that were replaced since.
    pub(crate) fn overlay<'p>(
        &mut self,
        nodes: &super::NodeCache,
        sealed: Option<&super::Sealed>,
        pending: impl IntoIterator<Item = &'p FileDelta>,
    ) -> Result<(), VolumeError> {
        if let Some(sealed) = sealed.filter(|sealed| !self.holds(sealed)) {
            let delta = Delta { files: sealed.files.to_vec() };
            self.on_top(nodes, &delta, sealed.version)?;
        }
        let delta = Delta { files: pending.into_iter().cloned().collect() };
        self.on_top(nodes, &delta, Version::PENDING)
    }

    /// The rows that are committed.
    pub(crate) fn committed<'a>(&'a self, nodes: &'a super::NodeCache) -> TreeRows<'a, super::NodeCache> {
        TreeRows { nodes, root: self.root.as_ref(), changes: &self.base }
    }

    /// The rows that are seen.
    pub(crate) fn seen<'a>(&'a self, nodes: &'a super::NodeCache) -> TreeRows<'a, super::NodeCache> {
        TreeRows { nodes, root: self.root.as_ref(), changes: &self.live }
    }

    /// Whether what is sealed is in the committed rows.
    pub(crate) fn holds(&self, sealed: &super::Sealed) -> bool {
        self.heads.get(&sealed.version.device).is_some_and(|head| head.seq >= sealed.version.seq)
    }

    fn on_top(&mut self, nodes: &super::NodeCache, delta: &Delta, version: Version) -> Result<(), VolumeError> {
        let (changes, _) = apply::apply_unseen(&self.seen(nodes), delta, version)?;
        self.live.extend(changes);
        Ok(())
    }
}

/// Whether a directory is one of the known ones or below one of them. Every directory on the way is remembered.
pub(super) fn is_below(
    rows: &dyn Rows,
    known: &mut BTreeMap<FileId, bool>,
    directory: FileId,
) -> Result<bool, VolumeError> {
    find_above(rows, known, directory)
}

/// What is known of a directory, or of the next one above it. Every directory on the way is remembered.
pub(super) fn find_above<T: Copy + Default>(
    rows: &dyn Rows,
    known: &mut BTreeMap<FileId, T>,
    directory: FileId,
) -> Result<T, VolumeError> {
    let mut way = Vec::new();
    let mut at = directory;
    let answer = loop {
        if let Some(answer) = known.get(&at) {
            break *answer;
        }
        way.push(at);
        known.insert(at, T::default());
        match render::place(rows, at)? {
            Some(place) => at = place.parent,
            None => break T::default(),
        }
    };
    known.extend(way.into_iter().map(|d| (d, answer)));
    Ok(answer)
}

/// Whether rows changed since the checkpoint show siblings in a directory.
fn has_siblings(changes: &RowChanges, directory: FileId) -> bool {
    let from = ouro_core::row::Key::header(directory);
    let mut last: Option<&ouro_core::name::Name> = None;
    for (key, row) in changes.range(from..).take_while(|(k, _)| k.directory == directory) {
        let Some(row) = row else { continue };
        let twice = last == Some(&key.name) && !key.name.is_empty();
        let siblings = matches!(row, Row::Record(file) if file.contents.len() > 1 || file.placements.len() > 1);
        if twice || siblings {
            return true;
        }
        last = Some(&key.name);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(device: u32, seq: u64, hlc: u64, on: &[(u32, u64)]) -> Commit {
        let hash = RecordHash([0; 32]);
        let head = |seq: u64| Head { seq: Seq(seq), hash, hlc: Hlc(0) };
        Commit {
            device: DeviceNo(device),
            seq: Seq(seq),
            hash,
            hlc: Hlc(hlc),
            parents: on.iter().map(|(device, seq)| (DeviceNo(*device), head(*seq))).collect(),
            message: String::new(),
            delta: Delta::default(),
            checkpoint: None,
        }
    }

    #[test]
    fn regression_a_commit_made_by_a_slow_clock_comes_after_what_it_was_made_on() {
        // Device 1 is hours ahead; device 2 knows its second commit, device 3 only the first, and a checkpoint holds what device 4 wrote.
        let commits = vec![
            commit(3, 1, 6, &[(1, 1), (4, 9)]),
            commit(2, 1, 5, &[(1, 2)]),
            commit(1, 2, 1_001, &[(1, 1)]),
            commit(2, 2, 7, &[(2, 1), (1, 2)]),
            commit(1, 1, 1_000, &[]),
        ];
        let order: Vec<(u32, u64)> = in_order(commits).iter().map(|c| (c.device.0, c.seq.0)).collect();
        assert_eq!(order, [(1, 1), (3, 1), (1, 2), (2, 1), (2, 2)]);
    }
}
