//! The beginning on a fresh device: who writes here, and the newest checkpoint.

use crate::{Sync, SyncError};
use futures::future::try_join_all;
use ouro_core::digest::Digest;
use ouro_core::id::DeviceNo;
use ouro_local::volume::{Announced, Head, Volume};
use ouro_repo::{Announcement, Repository};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Learns who writes to the repository.
///
/// # Errors
/// What the remote says.
pub async fn learn_devices(repo: &Repository, volume: &Volume) -> Result<(), SyncError> {
    for device in repo.devices().await? {
        repo.learn_device(device.number, device.id);
        volume.name_device(device.number, device.name);
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
        if !self.volume.heads().is_empty() {
            return Ok(());
        }
        let hints = self.repo.hints().await?;
        let reach = |a: &Announcement| a.covers.iter().map(|(_, seq)| seq.0).sum::<u64>();
        let newest = hints.into_iter().filter_map(|hint| hint.checkpoint).max_by_key(reach);
        let Some(announcement) = newest else { return Ok(()) };
        let covers = self.covered_heads(&announcement).await?;
        let checkpoint = Announced { root: announcement.root, covers, digest: Digest(announcement.digest) };
        self.with_all(move |sync| sync.volume.adopt(&checkpoint)).await
    }

    /// The hashes and times of the commits that a checkpoint covers: read from their records, all at once.
    async fn covered_heads(self: &Arc<Self>, a: &Announcement) -> Result<BTreeMap<DeviceNo, Head>, SyncError> {
        let mut reads = Vec::with_capacity(a.covers.len());
        for (device, seq) in a.covers.iter().copied() {
            let repo = self.repo.clone();
            reads.push(async move {
                let id = repo.device_id(device)?;
                let (record, hash, _) = repo.read_record(id, seq).await?.ok_or(SyncError::NodeLost)?;
                Ok::<_, SyncError>((device, Head { seq, hash, hlc: record.hlc }))
            });
        }
        Ok(try_join_all(reads).await?.into_iter().collect())
    }
}
