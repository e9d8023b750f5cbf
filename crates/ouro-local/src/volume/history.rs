//! Every state the box ever had, as far as this device knows it.

use super::collected::Collected;
use super::encode;
use super::learn::{Announced, Built, Commit, in_order};
use super::log::LogWalk;
use super::{Head, Volume, VolumeError};
use crate::ledger::RecordRow;
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq};
use ouro_core::render::Devices;
use ouro_core::row::{Key, Missing, Row, RowChanges, Rows};
use ouro_core::state::File;
use ouro_core::tree::{self, NodeRef, TreeRows};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The newest commit of each device in a set of commits that holds with each all it was made on.
pub type Cut = BTreeMap<DeviceNo, Head>;

/// A commit in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Whose.
    pub device: DeviceNo,
    /// Position in its log.
    pub seq: Seq,
    /// When.
    pub hlc: Hlc,
    /// Files it changes.
    pub files: usize,
    /// What the user said about it.
    pub message: String,
}

/// A read-only state at a commit. Immutable; cheap to share.
pub struct Snapshot {
    pub(super) volume: Arc<Volume>,
    pub(super) root: Option<NodeRef>,
    pub(super) changes: RowChanges,
    /// The commits in it; `None` if it holds what is in none.
    pub(super) cut: Option<Cut>,
}

impl Volume {
    /// Commits made between two times (inclusive), oldest first, at most `limit`; announcements of checkpoints are left out.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn commits(&self, from: Hlc, to: Hlc, limit: usize) -> Result<Vec<CommitInfo>, VolumeError> {
        let collected = self.collected();
        let thinned = |row: &RecordRow| {
            let covered = |c: &Arc<Collected>| c.covers(row.device, row.seq) || c.find(row.device, row.seq).is_some();
            collected.as_ref().is_some_and(covered)
        };
        // Those without a record come first: they are the oldest, and few.
        let mut found = self.kept_between(from, to);
        found.truncate(limit);
        let mut from = from;
        while found.len() < limit {
            let rows = self.ledger.records_by_time(from, to, 256)?;
            for row in rows.iter().filter(|row| !thinned(row)) {
                let (head, _) = encode::read_commit_head(row).map_err(|e| encode::damaged("record", e))?;
                if head.checkpoint.is_none() && found.len() < limit {
                    let files = encode::count_commit_files(row).map_err(|e| encode::damaged("record", e))?;
                    found.push(CommitInfo {
                        device: row.device,
                        seq: row.seq,
                        hlc: row.hlc,
                        files,
                        message: head.message,
                    });
                }
            }
            match rows.last() {
                Some(last) if rows.len() == 256 => from = last.hlc.next(),
                _ => break,
            }
        }
        found.sort_by_key(|commit| (commit.hlc, commit.device, commit.seq));
        Ok(found)
    }

    /// The newest commit at or before a time.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn commit_before(&self, at: Hlc) -> Result<Option<CommitInfo>, VolumeError> {
        // Look back over growing spans: most asked-for moments are close to a commit.
        let mut span = 60_000_u64 << 16;
        loop {
            let from = Hlc(at.0.saturating_sub(span));
            if let Some(last) = self.commits(from, at, usize::MAX)?.pop() {
                return Ok(Some(last));
            }
            if from.0 == 0 {
                return Ok(None);
            }
            span = span.saturating_mul(8);
        }
    }

    /// A commit in full.
    ///
    /// # Errors
    /// [`VolumeError::Record`] if it is not on this device.
    pub fn commit(&self, device: DeviceNo, seq: Seq) -> Result<Commit, VolumeError> {
        let row = self.ledger.record(device, seq)?.ok_or(VolumeError::Record { device, seq })?;
        Ok(encode::read_commit(&row).map_err(|e| encode::damaged("record", e))?)
    }

    /// The state at a commit.
    ///
    /// # Errors
    /// [`VolumeError::Missing`] or [`VolumeError::Record`]: fetch and call again.
    pub fn snapshot(self: &Arc<Self>, device: DeviceNo, seq: Seq) -> Result<Arc<Snapshot>, VolumeError> {
        if let Some(kept) = self.collected().as_ref().and_then(|collected| collected.find(device, seq)) {
            return Ok(self.kept_snapshot(kept));
        }
        self.snapshot_of(&self.cut_of(device, seq)?)
    }

    /// A commit and all it was made on.
    ///
    /// # Errors
    /// [`VolumeError::Record`]: fetch and call again.
    pub fn cut_of(&self, device: DeviceNo, seq: Seq) -> Result<Cut, VolumeError> {
        if let Some(collected) = self.collected() {
            match collected.find(device, seq) {
                Some(kept) => return Ok(kept.cut.clone()),
                None if collected.covers(device, seq) => return Err(VolumeError::Thinned { device, seq }),
                None => {}
            }
        }
        let (head, parents) = self.head_of(device, seq)?;
        let mut cut = parents;
        cut.insert(device, head);
        Ok(cut)
    }

    /// All commits of the box's line that were made until a time, by all devices, with all they were made on: what was merged in later
    /// is not among them, whenever it was made.
    ///
    /// # Errors
    /// [`VolumeError::Record`]: fetch and call again. A search by halves asks for few of them.
    pub fn cut_at(&self, at: Hlc) -> Result<Cut, VolumeError> {
        let (heads, logs) = {
            let state = self.state.read();
            (state.heads.clone(), state.own_logs(state.device))
        };
        let collected = self.collected().unwrap_or_default();
        match collected.at(at) {
            Some(Some(kept)) => return Ok(kept.cut.clone()),
            Some(None) => {
                return match collected.checkpoint.covers.iter().next() {
                    Some((device, head)) => Err(VolumeError::Thinned { device: *device, seq: head.seq }),
                    None => Ok(Cut::new()),
                };
            }
            None => {}
        }
        let below = &collected.checkpoint.covers;
        let mut cut = below.clone();
        for (device, head) in &logs {
            if head.hlc <= at {
                cut.insert(*device, *head);
                continue;
            }
            let (before, after) = self.ledger.record_around(*device, at)?;
            let least = below.get(device).map_or(0, |head| head.seq.0);
            let low = before.map_or(0, |s| s.0.min(head.seq.0)).max(least);
            let high = after.map_or(head.seq.0 + 1, |s| s.0.min(head.seq.0 + 1));
            if low + 1 < high {
                return Err(VolumeError::Record { device: *device, seq: Seq(low + (high - low) / 2) });
            }
            if low > least {
                cut.insert(*device, self.head_of(*device, Seq(low))?.0);
            }
        }
        if logs.iter().all(|(device, head)| cut.get(device).is_some_and(|known| known.seq >= head.seq)) {
            return Ok(heads);
        }
        // A commit may be older by its clock than one it was made on: clocks far ahead do not move others.
        loop {
            let mut grown = cut.clone();
            for (device, head) in &cut {
                if collected.covers(*device, head.seq) {
                    continue;
                }
                for (parent, below) in self.head_of(*device, head.seq)?.1 {
                    if grown.get(&parent).is_none_or(|known| known.seq < below.seq) {
                        grown.insert(parent, self.head_of(parent, below.seq)?.0);
                    }
                }
            }
            if grown == cut {
                return Ok(cut);
            }
            cut = grown;
        }
    }

    fn head_of(&self, device: DeviceNo, seq: Seq) -> Result<(Head, Cut), VolumeError> {
        let row = self.ledger.record(device, seq)?.ok_or(VolumeError::Record { device, seq })?;
        let (head, _) = encode::read_commit_head(&row).map_err(|e| encode::damaged("record", e))?;
        Ok((Head { seq, hash: head.hash, hlc: row.hlc }, head.parents))
    }

    /// The state after a closed set of commits: the newest checkpoint that holds nothing else, and the commits since.
    ///
    /// # Errors
    /// [`VolumeError::Missing`] or [`VolumeError::Record`]: fetch and call again.
    pub fn snapshot_of(self: &Arc<Self>, cut: &Cut) -> Result<Arc<Snapshot>, VolumeError> {
        if let Some(kept) = self.collected().as_ref().and_then(|c| c.kept.iter().find(|kept| same(&kept.cut, cut))) {
            return Ok(self.kept_snapshot(kept));
        }
        let start = self.checkpoint_below(cut)?;
        self.grow(start.root, RowChanges::new(), &start.covers, cut)
    }

    /// The same, on top of an earlier state where that is less work.
    ///
    /// # Errors
    /// As [`Volume::snapshot_of`].
    pub fn snapshot_after(self: &Arc<Self>, earlier: &Snapshot, cut: &Cut) -> Result<Arc<Snapshot>, VolumeError> {
        let sum = |cut: &Cut| cut.values().map(|head| head.seq.0).sum::<u64>();
        let start = self.checkpoint_below(cut)?;
        match &earlier.cut {
            Some(below) if is_below(below, cut) && sum(below) >= sum(&start.covers) => {
                self.grow(earlier.root, earlier.changes.clone(), below, cut)
            }
            _ => self.grow(start.root, RowChanges::new(), &start.covers, cut),
        }
    }

    /// The state after `cut`, from that after `covers`: a tree and what differs from it.
    fn grow(
        self: &Arc<Self>,
        root: Option<NodeRef>,
        changes: RowChanges,
        covers: &Cut,
        cut: &Cut,
    ) -> Result<Arc<Snapshot>, VolumeError> {
        let mut built =
            Built { root, base: changes, live: RowChanges::new(), digest: Digest::default(), heads: covers.clone() };
        for commit in self.commits_between(covers, cut)? {
            built.commit(&self.nodes, &commit)?;
        }
        let cut = Some(cut.clone());
        Ok(Arc::new(Snapshot { volume: Arc::clone(self), root: built.root, changes: built.base, cut }))
    }

    /// The commits of a cut that another, below it, does not hold.
    ///
    /// # Errors
    /// [`VolumeError::Record`]: fetch and call again.
    pub fn commits_between(&self, covers: &Cut, cut: &Cut) -> Result<Vec<Commit>, VolumeError> {
        let mut commits = Vec::new();
        for (device, head) in cut {
            let mut after = covers.get(device).map_or(Seq(0), |known| known.seq);
            while after < head.seq {
                let left = usize::try_from(head.seq.0 - after.0).unwrap_or(usize::MAX);
                let rows = self.ledger.records_after(*device, after, left.min(256))?;
                if rows.is_empty() {
                    return Err(VolumeError::Record { device: *device, seq: head.seq });
                }
                for row in rows {
                    if row.seq != after.next() {
                        return Err(VolumeError::Record { device: *device, seq: head.seq.min(Seq(row.seq.0 - 1)) });
                    }
                    after = row.seq;
                    commits.push(encode::read_commit(&row).map_err(|e| encode::damaged("record", e))?);
                }
            }
        }
        Ok(in_order(commits))
    }

    /// What is seen now, what is not sealed yet included, held still: reading it holds no lock. Contents that are pending in it can only
    /// be told apart, not read.
    pub fn still(self: &Arc<Self>) -> Arc<Snapshot> {
        let (root, changes) = {
            let state = self.state.read();
            (state.root, state.live.clone())
        };
        Snapshot::uncommitted(self, root, changes)
    }

    /// The checkpoint to begin on: one that is known since the start, or the first that a walk back from the cut meets.
    ///
    /// # Errors
    /// [`VolumeError::Record`]: fetch and call again.
    pub fn checkpoint_below(&self, cut: &Cut) -> Result<Announced, VolumeError> {
        // What a collection covers has no records any more: nothing below its checkpoint can be built upon.
        let collected = self.collected();
        let collected = collected.iter().flat_map(|known| [&known.checkpoint, &known.before]);
        let collected = collected.filter(|c| !c.covers.is_empty()).find(|c| is_below(&c.covers, cut)).cloned();
        let bare = Announced::default();
        let least = collected.as_ref().unwrap_or(&bare);
        let fits = |a: &Announced| is_below(&a.covers, cut) && is_below(&least.covers, &a.covers);
        let known = {
            let state = self.state.read();
            // The one that this device stands on may not be among the announced: a fresh device begins on a hint.
            let own = Announced { root: state.root, covers: state.covers.clone(), digest: state.covers_digest };
            let own = Some(own).filter(|own| own.root.is_some());
            let candidates = state.announced.iter().chain(&own).chain(&collected).filter(|a| fits(a));
            candidates.max_by_key(|a| a.covers.values().map(|h| h.seq.0).sum::<u64>()).cloned()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let mut walk = LogWalk::new(cut);
        while let Some(logged) = walk.step(self)? {
            if let Some(announced) = &logged.head().checkpoint
                && fits(announced)
            {
                return Ok(announced.clone());
            }
        }
        Ok(Announced::default())
    }
}

fn same(one: &Cut, other: &Cut) -> bool {
    one.len() == other.len() && is_below(one, other) && is_below(other, one)
}

/// Whether a cut holds all of another one.
fn is_below(one: &Cut, other: &Cut) -> bool {
    one.iter().all(|(device, head)| other.get(device).is_some_and(|known| known.seq >= head.seq))
}

impl Snapshot {
    /// A state that no set of commits makes alone.
    pub(super) fn uncommitted(volume: &Arc<Volume>, root: Option<NodeRef>, changes: RowChanges) -> Arc<Snapshot> {
        Arc::new(Snapshot { volume: Arc::clone(volume), root, changes, cut: None })
    }

    fn rows(&self) -> TreeRows<'_, super::NodeCache> {
        TreeRows { nodes: &self.volume.nodes, root: self.root.as_ref(), changes: &self.changes }
    }

    /// Rows that differ from the checkpoint below.
    pub fn changes(&self) -> &RowChanges {
        &self.changes
    }

    /// Keys at which two states of one box may differ, in order. Nothing is walked: the cost is that of what changed since the checkpoints
    /// they lie on, and of the index nodes in which these differ.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again.
    pub fn keys_apart(&self, other: &Snapshot) -> Result<BTreeSet<Key>, VolumeError> {
        let mut keys: BTreeSet<Key> = BTreeSet::new();
        for (one, another) in [(self, other), (other, self)] {
            let differs = |(key, row): &(&Key, &Option<Row>)| another.changes.get(*key) != Some(*row);
            keys.extend(one.changes.iter().filter(differs).map(|(key, _)| key.clone()));
        }
        tree::diff(&self.volume.nodes, self.root.as_ref(), other.root.as_ref(), &mut |key, _, _| {
            keys.insert(key.clone());
        })?;
        Ok(keys)
    }
}

impl Rows for Snapshot {
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing> {
        self.rows().get(key)
    }

    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing> {
        self.rows().scan(from, visit)
    }

    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing> {
        self.rows().find(file)
    }
}

impl Devices for Snapshot {
    fn name(&self, device: DeviceNo) -> String {
        self.volume.state.read().name(device)
    }
}
