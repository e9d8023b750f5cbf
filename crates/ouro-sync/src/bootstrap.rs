//! The beginning on a fresh device: who writes here, and the newest checkpoint.

use crate::collection::{collected_of, newest_and_before};
use crate::{Sync, SyncError};
use futures::future::try_join_all;
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceId, DeviceNo, Seq};
use ouro_local::volume::{Announced, Head, Volume};
use ouro_repo::{Announcement, Repository};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Learns who writes to the repository.
///
/// # Errors
/// What the remote says.
pub async fn learn_devices(repo: &Repository, volume: &Volume) -> Result<(), SyncError> {
    for device in repo.devices().await? {
        // Of several that drew one number at most one writes.
        if repo.device_id(device.number).is_ok_and(|holder| holder == device.id) {
            volume.learn_line(device.number, repo.line_of(&device));
            volume.name_device(device.number, device.shown());
        }
    }
    Ok(())
}

impl Sync {
    /// Begins on the newest checkpoint that any device left a hint of, if this device knows no commit yet. The hints may be stale: the logs
    /// are read forward from there by the first pull.
    ///
    /// # Errors
    /// What the remote or the disk says.
    pub async fn begin(self: &Arc<Self>) -> Result<(), SyncError> {
        let _turn = self.turn.lock().await;
        learn_devices(&self.repo, &self.volume).await?;
        self.check_identity().await?;
        self.check_number().await?;
        if !self.volume.heads().is_empty() {
            return Ok(());
        }
        let hints = self.repo.hints().await?;
        let reach = |a: &Announcement| a.covers.iter().map(|(_, seq)| seq.0).sum::<u64>();
        // A checkpoint of another line holds commits that are not in this one.
        let known = self.repo.known_devices().into_iter();
        let own: BTreeSet<DeviceId> =
            known.filter(|(no, _)| self.repo.line(*no) == self.line()).map(|(_, id)| id).collect();
        let hints = hints.into_iter().filter(|hint| own.contains(&hint.device));
        let newest = hints.filter_map(|hint| hint.checkpoint).max_by_key(reach);
        let (collection, before) = newest_and_before(self.repo.collections().await?);
        if !self.line().is_main() {
            // A collection speaks of the main line.
            let covered = collection.map(|collection| collected_of(&collection).checkpoint.covers).unwrap_or_default();
            let Some(newest) = newest else { return Ok(()) };
            let checkpoint = self.checkpoint_of(&newest, &covered).await?;
            return self.begin_on(checkpoint).await;
        }
        let checkpoint = match (&collection, newest) {
            // What lies below a collection's checkpoint may be gone.
            (Some(collection), newest) => {
                let own = collected_of(collection).checkpoint;
                let reaches = |a: &Announcement| {
                    own.covers.iter().all(|(device, head)| a.covers.iter().any(|c| c.0 == *device && c.1 >= head.seq))
                };
                match newest.filter(reaches) {
                    Some(newer) => self.checkpoint_of(&newer, &own.covers).await?,
                    None => own,
                }
            }
            (None, Some(newest)) => self.checkpoint_of(&newest, &BTreeMap::new()).await?,
            (None, None) => return Ok(()),
        };
        self.begin_on(checkpoint).await?;
        // Also if the next one is under way: what this one took was gone before this device had anything.
        match collection.filter(|collection| collection.ends.is_some()).or(before) {
            Some(ended) => {
                self.repo.know_collection(ended.clone());
                self.note(&ended, None, false).await
            }
            None => Ok(()),
        }
    }

    /// Stands on a checkpoint, unless it holds a commit that this device was about to publish: then that is known now, and the logs are read on
    /// from there, or from a collection.
    async fn begin_on(self: &Arc<Self>, checkpoint: Announced) -> Result<(), SyncError> {
        self.outlive_covered(&checkpoint.covers).await?;
        if self.volume.heads().is_empty() {
            self.with_all(move |sync| sync.volume.adopt(&checkpoint)).await?;
        }
        Ok(())
    }

    async fn checkpoint_of(
        self: &Arc<Self>,
        announcement: &Announcement,
        known: &BTreeMap<DeviceNo, Head>,
    ) -> Result<Announced, SyncError> {
        let covers = self.covered_heads(announcement, known).await?;
        Ok(Announced { root: announcement.root, covers, digest: Digest(announcement.digest) })
    }

    /// The hashes and times of the commits that a checkpoint covers: read from their records, all at once.
    async fn covered_heads(
        self: &Arc<Self>,
        a: &Announcement,
        known: &BTreeMap<DeviceNo, Head>,
    ) -> Result<BTreeMap<DeviceNo, Head>, SyncError> {
        let mut reads = Vec::with_capacity(a.covers.len());
        // The record of a commit that a collection's checkpoint ends with may be gone.
        let is_known = |(device, seq): &(DeviceNo, Seq)| known.get(device).is_some_and(|head| head.seq == *seq);
        for (device, seq) in a.covers.iter().copied().filter(|covered| !is_known(covered)) {
            let repo = self.repo.clone();
            reads.push(async move {
                let id = repo.device_id(device)?;
                let (record, hash, _) = repo.read_record(id, seq).await?.ok_or(SyncError::NodeLost)?;
                Ok::<_, SyncError>((device, Head { seq, hash, hlc: record.hlc }))
            });
        }
        let mut heads: BTreeMap<DeviceNo, Head> = try_join_all(reads).await?.into_iter().collect();
        let covers: BTreeMap<DeviceNo, Seq> = a.covers.iter().copied().collect();
        heads
            .extend(known.iter().filter(|(device, head)| covers.get(device) == Some(&head.seq)).map(|(d, h)| (*d, *h)));
        Ok(heads)
    }
}
