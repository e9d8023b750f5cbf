//! Pulling: the commits that other devices wrote.

use crate::{Sync, SyncError};
use bytes::Bytes;
use futures::future::join_all;
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceNo, RecordHash, Seq};
use ouro_local::volume::{Announced, Commit, Head, VolumeError};
use ouro_repo::{Announcement, Body, Record};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Records asked for at once while more and more of them are there: a poll that finds nothing costs one request, a device that was
/// long away does not wait for one round trip per commit.
pub(crate) const READ_AHEAD: [u64; 5] = [1, 1, 4, 16, 32];
/// Records taken from one device before the others have their turn.
const RECORDS_AT_ONCE: usize = 256;

/// Old records brought in one go.
const RECORDS_BACK: usize = 64;

/// A commit as its record says it.
pub(crate) struct ReadCommit {
    pub(crate) commit: Commit,
    /// Digest of the state it was made on, as its device computed it.
    digest: Digest,
    /// The record before it in its log.
    previous: Option<RecordHash>,
}

impl Sync {
    /// Takes in every commit of other devices that is there. Returns how many.
    ///
    /// # Errors
    /// What the remote or the disk says; what was taken in until then stays.
    pub async fn pull(self: &Arc<Self>) -> Result<usize, SyncError> {
        let _turn = self.turn.lock().await;
        let mut taken = 0;
        let mut refused = BTreeMap::new();
        let needed = || self.needed.lock().values().map(|seq| seq.0).sum::<u64>();
        let mut needed_before = needed();
        loop {
            let mut progress = 0;
            for device in self.writers(self.line()) {
                match self.pull_device(device).await {
                    Ok(count) => progress += count,
                    // What is wrong with one log, or not known to this version, keeps nobody from reading the others.
                    Err(error) if error.is_alarm() => drop(refused.insert(device, error)),
                    Err(error) => return Err(error),
                }
            }
            taken += progress;
            // What turned out to be needed of a removed device is read in the next round.
            let needed_now = needed();
            if progress == 0 && needed_now == needed_before {
                break;
            }
            needed_before = needed_now;
        }
        self.heed_storage_clock();
        self.tell(|status| status.pulls += 1);
        refused.into_values().next().map_or(Ok(taken), Err)
    }

    /// Whether a commit counts: all of a device that was not removed; of one that was, those up to the last that was counted, and those
    /// that others are made on. Of a branch only these: it was deleted when its writers were removed, and there may be another of its name, or
    /// one of them took it up again.
    pub(crate) fn counts(&self, device: DeviceNo, seq: Seq) -> bool {
        let id = self.repo.device_id(device);
        let Some(last) = id.ok().and_then(|id| self.repo.retired_at(id)) else { return true };
        let by_itself = seq <= last && self.repo.line(device).is_main();
        by_itself || self.needed.lock().get(&device).is_some_and(|needed| seq <= *needed)
    }

    /// Notes what a commit was made on and is not known here. Of this device itself nothing should be unknown.
    async fn need(self: &Arc<Self>, commit: &Commit) -> Result<(), SyncError> {
        let (own, heads) = (self.volume.device(), self.volume.heads());
        let mut copied = false;
        for (device, parent) in &commit.parents {
            let unknown = heads.get(device).is_none_or(|head| head.seq < parent.seq);
            copied |= unknown && *device == own;
            if unknown {
                let mut needed = self.needed.lock();
                let seq = needed.entry(*device).or_insert(parent.seq);
                *seq = parent.seq.max(*seq);
            }
        }
        if copied { self.check_identity().await } else { Ok(()) }
    }

    async fn pull_device(self: &Arc<Self>, device: DeviceNo) -> Result<usize, SyncError> {
        let mut ahead = VecDeque::new();
        for count in 0..RECORDS_AT_ONCE {
            let next = next_of(&self.volume.heads(), device);
            if !self.counts(device, next) {
                return Ok(count);
            }
            if ahead.is_empty() {
                ahead = self.read_ahead(device, next, READ_AHEAD[count.min(READ_AHEAD.len() - 1)]).await?;
            }
            let Some(bytes) = ahead.pop_front() else { return Ok(count) };
            let read = self.open_commit(device, next, bytes).await?;
            if !self.knows_parents(&read.commit) && !self.reach_other_lines(&read.commit).await? {
                // Its turn comes after those it was made on.
                self.need(&read.commit).await?;
                return Ok(count);
            }
            self.compare(&read)?;
            self.take(read.commit).await?;
        }
        Ok(RECORDS_AT_ONCE)
    }

    /// Reads records from `first` on, `count` of them at once, up to the first that is not there.
    pub(crate) async fn read_ahead(
        &self,
        device: DeviceNo,
        first: Seq,
        count: u64,
    ) -> Result<VecDeque<Bytes>, SyncError> {
        let id = self.repo.device_id(device)?;
        let mut reads = Vec::new();
        for seq in first.0..first.0 + count {
            let repo = self.repo.clone();
            reads.push(async move { repo.read_record_bytes(id, Seq(seq)).await });
        }
        let mut found = VecDeque::new();
        for read in join_all(reads).await {
            match read {
                Ok(Some(bytes)) => found.push_back(bytes),
                Ok(None) => break,
                // What came before it is taken in; the next round meets the error first.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    fn knows_parents(&self, commit: &Commit) -> bool {
        let heads = self.volume.heads();
        commit.parents.iter().all(|(device, parent)| heads.get(device).is_some_and(|head| head.seq >= parent.seq))
    }

    /// Holds a record against what is known here. All parents are known.
    pub(crate) fn compare(&self, read: &ReadCommit) -> Result<(), SyncError> {
        let heads = self.volume.heads();
        self.compare_hashes(read, &heads)?;
        let Commit { device, seq, parents, .. } = &read.commit;
        let same_state = heads.len() == parents.len()
            && heads.iter().all(|(device, head)| parents.get(device).is_some_and(|parent| parent.seq == head.seq));
        if same_state && self.volume.digest() != read.digest {
            return Err(SyncError::DigestDiffers { device: device.0, seq: seq.0 });
        }
        Ok(())
    }

    /// Whether the commits that a record names are those known.
    pub(crate) fn compare_hashes(&self, read: &ReadCommit, heads: &BTreeMap<DeviceNo, Head>) -> Result<(), SyncError> {
        let Commit { device, seq, parents, .. } = &read.commit;
        let rewritten = |device: DeviceNo, seq: Seq| SyncError::Rewritten { device: device.0, seq: seq.0 };
        for (parent, head) in parents {
            let known = heads.get(parent).filter(|known| known.seq == head.seq).map(|known| known.hash);
            // A commit below the newest is compared where this device wrote it: its own log is what a copy would overwrite.
            let known = match known {
                None if *parent == self.volume.device() => self.volume.commit(*parent, head.seq).ok().map(|c| c.hash),
                known => known,
            };
            if known.is_some_and(|hash| hash != head.hash) {
                return Err(rewritten(*parent, head.seq));
            }
        }
        if let (Some(head), Some(previous)) = (heads.get(device), read.previous)
            && head.seq.next() == *seq
            && head.hash != previous
        {
            return Err(rewritten(*device, head.seq));
        }
        Ok(())
    }

    pub(crate) async fn take(self: &Arc<Self>, commit: Commit) -> Result<(), SyncError> {
        self.keep_known(&commit);
        let commit = Arc::new(commit);
        let learning = Arc::clone(&commit);
        self.with_all(move |sync| sync.volume.learn(&learning)).await?;
        if self.checkpoint_due()
            && let Some(checkpoint) = commit.checkpoint.clone()
        {
            self.with_all(move |sync| sync.volume.adopt(&checkpoint)).await?;
        }
        Ok(())
    }

    /// Remembers where the chunks lie that others stored, so that they are not stored again.
    fn keep_known(&self, commit: &Commit) {
        let mut located = Vec::new();
        for file in &commit.delta.files {
            let content = file.content.as_ref().and_then(|c| c.value.as_ref());
            if let Some(ouro_core::content::Content::Chunks(chunks)) = content {
                located.extend(chunks.iter().filter_map(|c| Some((c.id, c.at?))));
            }
        }
        if let Err(error) = self.volume.locations().insert_many(&located) {
            tracing::debug!(%error, "places of chunks are not remembered");
        }
    }

    /// Reads a record and what it says in full. Small contents inside it go into the clean cache: they are here already.
    pub(crate) async fn read_commit(
        self: &Arc<Self>,
        device: DeviceNo,
        seq: Seq,
    ) -> Result<Option<ReadCommit>, SyncError> {
        let id = self.repo.device_id(device)?;
        let Some(bytes) = self.repo.read_record_bytes(id, seq).await? else { return Ok(None) };
        Ok(Some(self.open_commit(device, seq, bytes).await?))
    }

    /// Opens a record's bytes and brings what it says in full.
    pub(crate) async fn open_commit(
        self: &Arc<Self>,
        device: DeviceNo,
        seq: Seq,
        bytes: Bytes,
    ) -> Result<ReadCommit, SyncError> {
        let id = self.repo.device_id(device)?;
        let opening = bytes.clone();
        let (record, hash, inline) = self.blocking(move |sync| sync.repo.open_record(id, seq, &opening)).await??;
        self.meet_parents(&record).await?;
        self.volume.meet_rules_version(record.rules);
        self.keep_inline(&bytes, &inline);
        let (digest, previous) = (Digest(record.digest), record.previous);
        let commit = self.commit_of(record, hash).await?;
        Ok(ReadCommit { commit, digest, previous })
    }

    fn keep_inline(&self, bytes: &Bytes, inline: &[(ouro_core::id::BlobId, ouro_core::content::Locator)]) {
        for (blob, at) in inline {
            let kept = self.repo.open_inline(bytes, blob, at).map_err(SyncError::from);
            let kept = kept.and_then(|plain| Ok(self.volume.blobs().put(*blob, &plain)?));
            if let Err(error) = kept {
                tracing::debug!(%error, "a small content is not kept in the cache");
            }
        }
        if let Err(error) = self.volume.locations().insert_many(inline) {
            tracing::debug!(%error, "places of chunks are not remembered");
        }
    }

    /// A record that names a device nobody has heard of yet: look who joined.
    async fn meet_parents(self: &Arc<Self>, record: &Record) -> Result<(), SyncError> {
        let known = self.repo.known_devices();
        if record.parents.iter().any(|(no, _, _)| !known.iter().any(|(k, _)| k == no)) {
            crate::learn_devices(&self.repo, &self.volume).await?;
        }
        Ok(())
    }

    async fn commit_of(self: &Arc<Self>, record: Record, hash: RecordHash) -> Result<Commit, SyncError> {
        let known = self.volume.heads();
        let parents: BTreeMap<DeviceNo, Head> = record
            .parents
            .iter()
            .map(|(device, seq, hash)| {
                // A parent's own time is not in the record; it cannot be later than the record's.
                let hlc = known.get(device).filter(|h| h.seq == *seq).map_or(record.hlc, |h| h.hlc);
                (*device, Head { seq: *seq, hash: *hash, hlc })
            })
            .collect();
        let checkpoint = match &record.body {
            Body::Checkpoint(a) => Some(announced(a, &parents)),
            _ => None,
        };
        let Record { device, seq, hlc, message, body, .. } = record;
        let delta = self.delta_of(body).await?;
        Ok(Commit { device, seq, hash, hlc, parents, message, delta, checkpoint })
    }

    fn was_collected(&self, device: DeviceNo, seq: Seq) -> bool {
        let collected = self.volume.collected();
        collected.is_some_and(|c| c.checkpoint.covers.get(&device).is_some_and(|head| head.seq >= seq))
    }

    /// Brings an old record into the journal, and some of those before it: who asks for one usually walks back.
    ///
    /// # Errors
    /// What the repository says; [`SyncError::NodeLost`] if the record is not there.
    pub async fn fetch_records(self: &Arc<Self>, device: DeviceNo, seq: Seq) -> Result<(), SyncError> {
        if self.repo.device_id(device).is_err() {
            crate::learn_devices(&self.repo, &self.volume).await?;
        }
        let mut reads = Vec::new();
        for seq in (1..=seq.0).rev().take(RECORDS_BACK) {
            if self.volume.commit(device, Seq(seq)).is_ok() {
                break;
            }
            let sync = Arc::clone(self);
            reads.push(async move { sync.read_commit(device, Seq(seq)).await });
        }
        for (at, read) in join_all(reads).await.into_iter().enumerate() {
            match read {
                Ok(Some(read)) => self.volume.remember(&read.commit),
                Ok(None) if at == 0 && self.was_collected(device, seq) => {
                    return Err(VolumeError::Thinned { device, seq }.into());
                }
                Ok(None) if at == 0 => return Err(SyncError::NodeLost),
                Err(error) if at == 0 => return Err(error),
                // It is asked for again when it is needed.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }
}

pub(crate) fn next_of(heads: &BTreeMap<DeviceNo, Head>, device: DeviceNo) -> Seq {
    heads.get(&device).map_or(Seq(0), |head| head.seq).next()
}

/// A checkpoint as the volume knows it: its announcement's parents are the very commits it covers.
fn announced(announcement: &Announcement, parents: &BTreeMap<DeviceNo, Head>) -> Announced {
    let covers = announcement.covers.iter().filter_map(|(device, seq)| {
        let head = parents.get(device).filter(|head| head.seq == *seq)?;
        Some((*device, *head))
    });
    Announced { root: announcement.root, covers: covers.collect(), digest: Digest(announcement.digest) }
}
