//! Purging: hidden records go when a collection has ended, for then everybody knows that they are hidden.

use crate::{Sync, SyncError};
use ouro_core::edit::{Among, purgeable};
use ouro_core::id::{DeviceNo, Seq};
use ouro_local::volume::Collected;
use ouro_repo::{CollectionNo, DeviceInfo};
use std::sync::Arc;

/// Records that go at most by one run; the next ones go on.
const PURGED_MAX: usize = 65_536;
/// Records that one commit purges, and that are looked at while the volume waits.
const PURGED_BY_COMMIT_MAX: usize = 1_024;

impl Sync {
    /// Publishes commits that forget hidden records, and returns how many records went; no commit if there are none.
    ///
    /// What is settled is the state of the last collection's checkpoint, once it has ended. Known to hold then, and from then on: every
    /// live device knew all of that before it said so, had published what it did before, and all of that is known here. So
    /// each commit that is not known here was made by somebody to whom the record was hidden, or who was given up. Safe on several devices
    /// at once, for they name the same versions, and after any interruption: a record that is pending or sealed says the same later.
    pub(super) async fn purge_settled(self: &Arc<Self>) -> Result<u64, SyncError> {
        let Some(collected) = self.volume.collected().filter(|collected| collected.ended) else { return Ok(0) };
        match self.purge_below(&collected).await {
            // A later one was begun by another device meanwhile: at its end is time enough.
            Err(error) if error.is_lost() && self.acknowledged() > collected.number => Ok(0),
            outcome => outcome,
        }
    }

    async fn purge_below(self: &Arc<Self>, collected: &Collected) -> Result<u64, SyncError> {
        // The device that ended it had read what each did before it took note; this one may be another, and a store be slow to show.
        let Some(ended) = self.repo.collection(CollectionNo(collected.number)).await? else { return Ok(0) };
        let (Some(number), expired) = (ended.ends, ended.expired) else { return Ok(0) };
        if !self.knows_all_before(number, &expired).await? {
            return Ok(0);
        }
        let heads = self.volume.heads();
        let covers = collected.checkpoint.covers.clone();
        let (settled, candidates) = self
            .with_all(move |sync| {
                let settled = sync.volume.snapshot_of(&covers)?;
                let newest = sync.volume.snapshot_of(&heads)?;
                let candidates = purgeable(&*newest, &*settled, Among::Everything, PURGED_MAX)?;
                Ok((settled, candidates))
            })
            .await?;
        let mut purged = 0;
        for some in candidates.chunks(PURGED_BY_COMMIT_MAX) {
            let (settled, some) = (Arc::clone(&settled), some.to_vec());
            let count = self.with_all(move |sync| sync.volume.edit(|edit| edit.purge(&*settled, &some))).await?;
            // Also if an interrupted run left them pending: they are published now.
            self.push().await?;
            purged += count as u64;
        }
        Ok(purged)
    }

    /// Whether each live device is seen to have acknowledged a collection, and everything that it did before is known here.
    async fn knows_all_before(self: &Arc<Self>, number: CollectionNo, expired: &[DeviceNo]) -> Result<bool, SyncError> {
        // Hints first, logs second, as at the end of a collection.
        let hints = self.repo.hints().await?;
        self.pull().await?;
        let heads = self.volume.heads();
        let retired = self.repo.retired();
        let live = |device: &DeviceInfo| {
            device.number != self.volume.device()
                && !retired.contains_key(&device.id)
                && !expired.contains(&device.number)
        };
        for device in self.repo.devices().await?.into_iter().filter(live) {
            let known = heads.get(&device.number).map_or(Seq(0), |head| head.seq);
            let hint = hints.iter().find(|hint| hint.device == device.id);
            if hint.is_some_and(|hint| hint.acknowledged >= number.0 && hint.seq <= known) {
                continue;
            }
            let newest = if known > Seq(0) { self.repo.read_record(device.id, known).await? } else { None };
            if newest.is_none_or(|(record, ..)| record.acknowledged < number.0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
