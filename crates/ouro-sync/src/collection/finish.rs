//! The second half of a collection: when every live device has acknowledged it, what is still dead goes.

use super::acknowledge::object_of;
use super::begin::condemned_objects;
use super::mark::{Live, Mark};
use super::pins::Pinner;
use super::{CollectOptions, EXPIRY_MS, Report, Stage, cut_of, pin_of};
use crate::{Sync, SyncError};
use futures::{StreamExt, TryStreamExt, stream};
use ouro_core::content::ObjectId;
use ouro_core::id::{BlobId, DeviceNo, NodeId, Seq};
use ouro_repo::{Collection, CollectionNo, Covered, Gone, Hint, KeptState, MovedTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deletions in flight.
const DELETIONS_AT_ONCE: usize = 16;

/// Who is waited for.
struct Devices {
    waiting: Vec<DeviceNo>,
    expired: Vec<DeviceNo>,
}

impl Sync {
    /// Carries collection as far as it goes now: begins one, or finishes the one that is under way. Safe on several devices at once, and
    /// after any interruption.
    ///
    /// Of two begun at the same time the one with the greater number stands: every device acknowledges only the newest it knows, so the
    /// other one is never acknowledged by all, and nothing goes because of it.
    ///
    /// # Errors
    /// What the remote or the disk says. Nothing that is live is gone then, and the next call goes on.
    pub async fn collect(self: &Arc<Self>, options: &CollectOptions) -> Result<Report, SyncError> {
        self.begin().await?;
        self.look().await?;
        self.pull().await?;
        self.no_branches().await?;
        // One that cannot be read may hold the places of everything: no other may be begun beside it.
        let collections = self.repo.listed_collections().await?;
        let newest = collections.values().flatten().next_back();
        let listed = newest.map_or(CollectionNo::default(), |newest| newest.number);
        if listed.0 < self.acknowledged() {
            return Err(SyncError::CollectionHidden);
        }
        if newest.is_some_and(|newest| newest.number.0 != self.acknowledged()) {
            return Err(SyncError::CollectionBusy);
        }
        let underway = newest.filter(|newest| newest.ends.is_none());
        // Nobody else publishes under a number of this device; should its own publication be cut off from here on, this call ends.
        let torn: BTreeSet<CollectionNo> =
            collections.iter().filter(|(_, whole)| whole.is_none()).map(|(number, _)| *number).collect();
        // What the end of the last one left, if it was interrupted or there was much.
        let purged = if options.dry_run { 0 } else { self.purge_settled().await? };
        let (collection, mut report) = match underway {
            Some(underway) => (underway.clone(), self.size_up(underway).await?),
            None => {
                let last = newest.cloned().map(Arc::new);
                let number = self.number_after(listed, &torn);
                match self.begin_collection(last, number, options).await {
                    Ok((Some(begun), report)) => (begun, report),
                    Ok((None, report)) => return Ok(Report { purged, ..report }),
                    // Another device began one, and this one took note of it meanwhile: that one is carried on.
                    Err(error) if error.is_lost() && self.acknowledged() > listed.0 => {
                        return Box::pin(self.collect(options)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if options.dry_run {
            return Ok(report);
        }
        self.look().await?;
        let number = collection.number;
        report.stage = match self.finish_collection(collection, &torn, options).await {
            // Another device was faster: what this one was reading went with that.
            Err(error) if error.is_lost() && self.is_ended(number).await? => {
                tracing::info!(%error, "another device ended this collection first");
                Stage::Ended
            }
            outcome => outcome?,
        };
        report.purged = purged;
        if report.stage == Stage::Ended {
            report.purged += self.purge_settled().await?;
        }
        Ok(report)
    }

    /// Whether a list shows the end of a collection.
    async fn is_ended(&self, number: CollectionNo) -> Result<bool, SyncError> {
        Ok(self.repo.collections().await?.into_values().any(|later| later.ends == Some(number)))
    }

    /// Logs of branches are not read by who follows the main line, so what they refer to would be taken for dead.
    async fn no_branches(self: &Arc<Self>) -> Result<(), SyncError> {
        let devices = self.repo.devices().await?;
        let retired = self.repo.retired();
        let open = devices.iter().filter(|device| device.branch.is_some() && !retired.contains_key(&device.id));
        let names: Vec<String> = open.map(|device| format!("{} is", device.shown())).collect();
        if names.is_empty() { Ok(()) } else { Err(SyncError::Branches { names }) }
    }

    /// What a collection that is under way is about.
    async fn size_up(self: &Arc<Self>, collection: &Collection) -> Result<Report, SyncError> {
        let listed = self.listed().await?;
        let covers = cut_of(&collection.checkpoint);
        let packs: Vec<u64> = condemned_objects(collection).filter_map(|o| listed.packs.get(&o).copied()).collect();
        let below = |device: &DeviceNo, seq: &Seq| covers.get(device).is_some_and(|head| head.seq >= *seq);
        let records: Vec<u64> =
            listed.records.iter().filter(|((device, seq), _)| below(device, seq)).map(|(_, bytes)| *bytes).collect();
        let reclaimed_bytes = packs.iter().chain(&records).sum::<u64>();
        Ok(Report {
            stage: Stage::Looked,
            objects: (listed.packs.len() + listed.records.len()) as u64,
            stored_bytes: listed.bytes(),
            live_bytes: listed.bytes().saturating_sub(reclaimed_bytes),
            logical_bytes: self.logical_bytes().await?,
            reclaimed_bytes,
            kept: collection.kept.len() as u64,
            thinned: 0,
            gone: (packs.len() + records.len()) as u64,
            purged: 0,
        })
    }

    /// Lets go what a collection condemned, if everybody has acknowledged it.
    ///
    /// Known to hold before the first deletion: every live device has acknowledged this very collection, so it refers to nothing
    /// condemned any more; all that it did before is in the logs, which were read to their ends after that; and what is referred to there
    /// is released, or its place is in a table that is durable.
    async fn finish_collection(
        self: &Arc<Self>,
        collection: Collection,
        torn: &BTreeSet<CollectionNo>,
        options: &CollectOptions,
    ) -> Result<Stage, SyncError> {
        // Hints first, logs second: what a hint says was published is then in what was read.
        let hints = self.repo.hints().await?;
        self.pull().await?;
        let devices = self.who_is_waited_for(&collection, &hints).await?;
        if !devices.waiting.is_empty() {
            return Ok(Stage::Waiting(devices.waiting));
        }
        match (collection.begun_storage_ms, self.storage_ms()) {
            _ if options.grace_ms == 0 => {}
            (Some(begun), Some(now)) if now.saturating_sub(begun) >= options.grace_ms => {}
            (Some(begun), Some(now)) => return Ok(Stage::Grace(options.grace_ms - now.saturating_sub(begun))),
            // Without the storage's time everybody has to acknowledge the same twice in a row.
            _ if collection.confirmed => {}
            _ => return self.confirm_collection(collection, torn, options).await,
        }
        let number = self.number_after(collection.number, torn);
        let ended = self.end_collection(&collection, number, devices.expired).await?;
        self.say_collection(&ended).await?;
        self.look().await?;
        self.delete_condemned(&ended).await?;
        for number in self.repo.collections().await?.into_keys().filter(|number| *number < ended.number) {
            self.repo.delete_collection(number).await?;
        }
        Ok(Stage::Ended)
    }

    /// The number of what this device publishes after a collection: behind those of its own whose publication was cut off.
    fn number_after(&self, number: CollectionNo, torn: &BTreeSet<CollectionNo>) -> CollectionNo {
        let device = self.volume.device();
        let mut next = number.next(device);
        while torn.contains(&next) {
            next = next.next(device);
        }
        next
    }

    async fn confirm_collection(
        self: &Arc<Self>,
        collection: Collection,
        torn: &BTreeSet<CollectionNo>,
        options: &CollectOptions,
    ) -> Result<Stage, SyncError> {
        let number = self.number_after(collection.number, torn);
        let again = Collection { number, confirmed: true, ..collection };
        self.say_collection(&again).await?;
        self.look().await?;
        Box::pin(self.finish_collection(again, torn, options)).await
    }

    /// Who has not acknowledged a collection, and of whom nothing was heard for so long that nobody waits.
    async fn who_is_waited_for(
        self: &Arc<Self>,
        collection: &Collection,
        hints: &[Hint],
    ) -> Result<Devices, SyncError> {
        let (mut waiting, mut expired) = (Vec::new(), Vec::new());
        let heads = self.volume.heads();
        let devices = self.repo.devices().await?;
        let retired = self.repo.retired();
        for device in devices.into_iter().filter(|device| !retired.contains_key(&device.id)) {
            let hint = hints.iter().find(|hint| hint.device == device.id);
            let head = heads.get(&device.number);
            let known = head.map_or(Seq(0), |head| head.seq);
            let read = |hint: &&Hint| hint.seq <= known;
            let mut acknowledged = hint.filter(read).map_or(0, |hint| hint.acknowledged);
            if acknowledged != collection.number.0
                && known > Seq(0)
                && collection.covered(device.number).is_none_or(|covered| covered.seq < known)
            {
                let newest = self.repo.read_record(device.id, known).await?;
                acknowledged = acknowledged.max(newest.map_or(0, |(record, ..)| record.acknowledged));
            }
            if acknowledged == collection.number.0 {
                continue;
            }
            let heard = [device.created_ms, head.map_or(0, |head| head.hlc.millis()), hint.map_or(0, |h| h.written_ms)];
            let silent = self.storage_ms().map(|now| now.saturating_sub(heard.into_iter().max().unwrap_or(0)));
            if device.number != self.volume.device() && silent.is_some_and(|silent| silent >= EXPIRY_MS) {
                expired.push(device.number);
            } else {
                waiting.push(device.number);
            }
        }
        Ok(Devices { waiting, expired })
    }

    /// Marks again, from every log to its end, and says under a number what goes for good.
    async fn end_collection(
        self: &Arc<Self>,
        collection: &Collection,
        number: CollectionNo,
        expired: Vec<DeviceNo>,
    ) -> Result<Collection, SyncError> {
        let heads = self.volume.heads();
        let covers = cut_of(&collection.checkpoint);
        let mut mark = Mark::new(self, Some(Arc::new(collection.clone()))).await?;
        mark.tree(collection.checkpoint.root).await?;
        for kept in &collection.kept {
            mark.tree(kept.pin.root).await?;
        }
        mark.records(&covers, &heads).await?;
        mark.local(&self.listed().await?).await?;
        // Commits that came in since, made without knowing all of the checkpoint: their records' parents go now.
        let late = self.stragglers(&covers, &heads).await?;
        let known = |commit: &Covered| late.iter().any(|(c, _)| (c.device, c.seq) == (commit.device, commit.seq));
        let mut kept: Vec<KeptState> = collection.kept.iter().filter(|kept| !known(&kept.commit)).cloned().collect();
        let mut pinner = Pinner::new(self, false);
        for (_, cut) in &late {
            pinner.pin(cut, &mut mark).await?;
        }
        for ((commit, cut), root) in late.iter().zip(pinner.finish(&mut mark).await?) {
            let head = cut[&commit.device];
            let covered = Covered { device: commit.device, seq: commit.seq, hash: head.hash, hlc: head.hlc };
            kept.push(KeptState { commit: covered, message: commit.message.clone(), pin: pin_of(root, cut) });
        }
        kept.sort_by_key(|kept| (kept.commit.hlc, kept.commit.device, kept.commit.seq));
        let live = mark.finish();
        let released = |gone: &Gone| object_of(gone).is_some_and(|object| live.refers_to(object));
        let spared = live.bytes.keys().filter_map(|object| match *object {
            ObjectId::Record(device, seq) if covers.get(&device).is_some_and(|head| head.seq >= seq) => {
                Some((device, seq))
            }
            _ => None,
        });
        let spared: BTreeSet<(DeviceNo, Seq)> = spared.collect();
        let moved = self.needed_tables(&collection.moved, &live).await?;
        let all_expired: BTreeSet<DeviceNo> = collection.expired.iter().copied().chain(expired).collect();
        Ok(Collection {
            number,
            ends: Some(collection.number),
            kept,
            condemned: collection.condemned.iter().copied().filter(|gone| !released(gone)).collect(),
            spared: spared.into_iter().collect(),
            moved,
            expired: all_expired.into_iter().collect(),
            ..collection.clone()
        })
    }

    /// Tables that still place something live. The others are named no more and go with the next collection, not with this one: of two devices
    /// that end it at the same moment the other may still name them, since what had died was written again.
    async fn needed_tables(&self, tables: &[MovedTable], live: &Live) -> Result<Vec<MovedTable>, SyncError> {
        let mut needed = Vec::new();
        for table in tables {
            let places = self.repo.table(table.id).await?.ok_or(SyncError::NodeLost)?;
            let lives =
                |id: &[u8; 32]| live.nodes.contains_key(&NodeId(*id)) || live.copies_of(BlobId(*id)).next().is_some();
            if places.keys().any(lives) {
                needed.push(table.clone());
            }
        }
        Ok(needed)
    }

    /// Deletes what a collection that has ended condemned. What is left by an interruption is condemned by the next one.
    pub(super) async fn delete_condemned(self: &Arc<Self>, ended: &Collection) -> Result<(), SyncError> {
        let covers = cut_of(&ended.checkpoint);
        let spared: BTreeSet<(DeviceNo, Seq)> = ended.spared.iter().copied().collect();
        let shared = self.shared_numbers().await?;
        let goes = |device: DeviceNo, seq: Seq| {
            let first = seq == Seq(1) && shared.contains(&device);
            covers.get(&device).is_some_and(|head| head.seq >= seq) && !spared.contains(&(device, seq)) && !first
        };
        let listed = self.listed().await?;
        let records = listed.records.keys().filter(|(device, seq)| goes(*device, *seq));
        let records = records.map(|(device, seq)| ObjectId::Record(*device, *seq));
        let objects: Vec<ObjectId> = condemned_objects(ended).chain(records).collect();
        stream::iter(objects)
            .map(|object| self.repo.delete_object(object))
            .buffer_unordered(DELETIONS_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        for table in &ended.condemned_tables {
            self.repo.delete_table(*table).await?;
        }
        Ok(())
    }

    /// Numbers that several devices drew: by its first record is told which of them keeps it.
    async fn shared_numbers(self: &Arc<Self>) -> Result<BTreeSet<DeviceNo>, SyncError> {
        let mut count: BTreeMap<DeviceNo, usize> = BTreeMap::new();
        for device in self.repo.devices().await? {
            *count.entry(device.number).or_default() += 1;
        }
        Ok(count.into_iter().filter(|(_, count)| *count > 1).map(|(device, _)| device).collect())
    }
}
