//! Every state the box ever had, as far as this device knows it.

use super::encode;
use super::learn::{Announced, Built, Commit};
use super::{Volume, VolumeError};
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq};
use ouro_core::render::Devices;
use ouro_core::row::{Key, Missing, Row, RowChanges, Rows};
use ouro_core::state::File;
use ouro_core::tree::{NodeRef, TreeRows};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

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
    volume: Arc<Volume>,
    root: Option<NodeRef>,
    changes: RowChanges,
}

impl Volume {
    /// Commits made between two times (inclusive), oldest first, at most `limit`; announcements of checkpoints are left out.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn commits(&self, from: Hlc, to: Hlc, limit: usize) -> Result<Vec<CommitInfo>, VolumeError> {
        let mut found = Vec::new();
        let mut from = from;
        while found.len() < limit {
            let rows = self.ledger.records_by_time(from, to, 256)?;
            for row in &rows {
                let commit = encode::read_commit(row).map_err(|e| encode::damaged("record", e))?;
                if commit.checkpoint.is_none() && found.len() < limit {
                    let Commit { device, seq, hlc, message, delta, .. } = commit;
                    found.push(CommitInfo { device, seq, hlc, files: delta.files.len(), message });
                }
            }
            match rows.last() {
                Some(last) if rows.len() == 256 => from = last.hlc.next(),
                _ => break,
            }
        }
        Ok(found)
    }

    /// The newest commits, or the newest that changed one file, newest first; announcements of checkpoints are left out.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn commits_of(&self, file: Option<FileId>, limit: usize) -> Result<Vec<CommitInfo>, VolumeError> {
        let state_heads = self.heads();
        let mut cursors: BTreeMap<DeviceNo, u64> = state_heads.iter().map(|(d, h)| (*d, h.seq.0)).collect();
        let mut next: BTreeMap<(Hlc, DeviceNo), Commit> = BTreeMap::new();
        let mut found = Vec::new();
        let mut empty: Vec<DeviceNo> = cursors.keys().copied().collect();
        loop {
            for device in empty.drain(..) {
                let Some(seq) = cursors.get(&device).copied().filter(|seq| *seq > 0) else { continue };
                cursors.insert(device, seq - 1);
                if let Ok(commit) = self.commit(device, Seq(seq)) {
                    next.insert((commit.hlc, device), commit);
                }
            }
            let Some(((_, device), commit)) = next.pop_last() else { return Ok(found) };
            empty.push(device);
            let touches = file.is_none_or(|file| commit.delta.files.binary_search_by_key(&file, |f| f.id).is_ok());
            if touches && commit.checkpoint.is_none() {
                let Commit { device, seq, hlc, message, delta, .. } = commit;
                found.push(CommitInfo { device, seq, hlc, files: delta.files.len(), message });
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
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

    /// The state at a commit: the newest checkpoint that holds nothing else, and the commits since.
    ///
    /// # Errors
    /// [`VolumeError::Missing`] or [`VolumeError::Record`]: fetch and call again.
    pub fn snapshot(self: &Arc<Self>, device: DeviceNo, seq: Seq) -> Result<Arc<Snapshot>, VolumeError> {
        let commit = self.commit(device, seq)?;
        let mut wanted = commit.parents.clone();
        wanted.insert(device, super::Head { seq, hash: commit.hash, hlc: commit.hlc });
        let start = self.checkpoint_below(&wanted)?;
        let covers: BTreeMap<DeviceNo, Seq> = start.covers.iter().map(|(d, h)| (*d, h.seq)).collect();
        let mut built = Built {
            root: start.root,
            base: RowChanges::new(),
            live: RowChanges::new(),
            digest: start.digest,
            heads: start.covers,
        };
        let mut commits = Vec::new();
        for (device, head) in &wanted {
            let first = covers.get(device).map_or(1, |s| s.0 + 1);
            for seq in first..=head.seq.0 {
                commits.push(self.commit(*device, Seq(seq))?);
            }
        }
        commits.sort_by_key(|c| (c.hlc, c.device, c.seq));
        for commit in &commits {
            built.commit(&self.nodes, commit)?;
        }
        Ok(Arc::new(Snapshot { volume: Arc::clone(self), root: built.root, changes: built.base }))
    }

    fn checkpoint_below(&self, wanted: &BTreeMap<DeviceNo, super::Head>) -> Result<Announced, VolumeError> {
        let fits = |a: &Announced| a.covers.iter().all(|(d, h)| wanted.get(d).is_some_and(|w| w.seq >= h.seq));
        let state = self.state.read();
        let candidates = state.announced.iter().filter(|a| fits(a));
        let best = candidates.max_by_key(|a| a.covers.values().map(|h| h.seq.0).sum::<u64>());
        Ok(best.cloned().unwrap_or_default())
    }
}

impl Snapshot {
    fn rows(&self) -> TreeRows<'_, super::NodeCache> {
        TreeRows { nodes: &self.volume.nodes, root: self.root.as_ref(), changes: &self.changes }
    }

    /// Rows that differ from the checkpoint below.
    pub fn changes(&self) -> &RowChanges {
        &self.changes
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
