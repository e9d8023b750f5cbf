//! The first half of a collection: what is live is marked, what holds little of it is condemned, and the rest in that is copied.

use super::acknowledge::object_of;
use super::mark::{Live, Mark};
use super::pins::{Candidate, Pinner};
use super::{CollectOptions, Report, Stage, cut_of, holds, pin_of};
use crate::{Sync, SyncError};
use ouro_core::content::{Locator, ObjectId};
use ouro_core::digest::Digest;
use ouro_core::id::{BlobId, DeviceNo, NodeId, PackId, Seq};
use ouro_core::retention::Moment;
use ouro_core::when::snapshot_name;
use ouro_local::volume::{Collected, Cut};
use ouro_remote::RemoteError;
use ouro_repo::{
    Collection, CollectionNo, Covered, Gone, KeptState, MovedTable, Places, RepoError, StoredCopy, TABLE_PLACES_MAX,
    pack_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pack of which less than this part is live is copied and goes.
const LIVE_PERCENT_MIN: u64 = 50;
/// Header and directory may be a good part of a pack that is no larger.
const SMALL_PACK_BYTES_MAX: u64 = 16 << 10;

/// What is on the remote, by a list.
#[derive(Default)]
pub(super) struct Listed {
    /// Packs and node packs with their bytes.
    pub(super) packs: BTreeMap<ObjectId, u64>,
    /// Records with their bytes.
    pub(super) records: BTreeMap<(DeviceNo, Seq), u64>,
}

impl Listed {
    pub(super) fn shows(&self, object: ObjectId) -> bool {
        match object {
            ObjectId::Record(device, seq) => self.records.contains_key(&(device, seq)),
            _ => self.packs.contains_key(&object),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.packs.values().chain(self.records.values()).sum()
    }
}

/// Which states stay, and where the records begin.
struct Plan {
    /// All commits that are contained in the new checkpoint.
    cut: Cut,
    /// Those of the last collection's kept states that stay.
    kept: Vec<KeptState>,
    /// Commits whose states get a tree now.
    fresh: Vec<(Candidate, Cut)>,
    thinned: u64,
}

impl Sync {
    /// Makes the first half of a collection, on top of the last one. The caller has made sure that this device knows every commit that
    /// is there.
    ///
    /// Known to hold when the collection is published: its trees, its copies and its tables are durable; nothing that was there is gone;
    /// no commit that this device knows refers to what is condemned, unless its tables say where that lies now.
    pub(super) async fn begin_collection(
        self: &Arc<Self>,
        last: Option<Arc<Collection>>,
        number: CollectionNo,
        options: &CollectOptions,
    ) -> Result<(Option<Collection>, Report), SyncError> {
        let heads = self.volume.heads();
        let listed = self.listed().await?;
        let plan = self.plan(last.as_deref(), &heads, options).await?;
        if last.is_none() {
            self.first_records_are_there(&plan.cut).await?;
        }
        let mut mark = Mark::new(self, last.clone()).await?;
        for kept in &plan.kept {
            mark.tree(kept.pin.root).await?;
        }
        mark.records(&plan.cut, &heads).await?;
        mark.local(&listed).await?;
        let mut pinner = Pinner::new(self, options.dry_run);
        pinner.pin(&plan.cut, &mut mark).await?;
        for (_, cut) in &plan.fresh {
            pinner.pin(cut, &mut mark).await?;
        }
        let mut roots = pinner.finish(&mut mark).await?.into_iter();
        let checkpoint = pin_of(roots.next().flatten(), &plan.cut);
        let live = mark.finish();
        let covered = |device: DeviceNo| plan.cut.get(&device).map_or(Seq(0), |head| head.seq);
        self.everything_is_there(&listed, &live).await?;

        let condemned = self.condemned_packs(&listed, &live).await?;
        let gone_records: Vec<_> =
            listed.records.iter().filter(|((device, seq), _)| *seq <= covered(*device)).collect();
        let mut gone: Vec<Gone> = condemned.iter().filter_map(gone_pack).collect();
        for (device, head) in &plan.cut {
            gone.push(Gone::Log { device: *device, from: Seq(1), to: head.seq });
        }
        gone.sort_unstable();
        let in_condemned = |object: ObjectId| match object {
            ObjectId::Record(device, seq) => seq <= covered(device),
            _ => condemned.contains(&object),
        };
        let moving: u64 = live.bytes.iter().filter(|(object, _)| in_condemned(**object)).map(|(_, bytes)| bytes).sum();
        let going = condemned.iter().filter_map(|object| listed.packs.get(object)).sum::<u64>()
            + gone_records.iter().map(|(_, bytes)| **bytes).sum::<u64>();
        let mut report = Report {
            stage: if condemned.is_empty() && gone_records.is_empty() { Stage::Nothing } else { Stage::Looked },
            objects: (listed.packs.len() + listed.records.len()) as u64,
            stored_bytes: listed.bytes(),
            live_bytes: live.total(),
            logical_bytes: 0,
            reclaimed_bytes: going.saturating_sub(moving),
            kept: (plan.kept.len() + plan.fresh.len()) as u64,
            thinned: plan.thinned,
            gone: (condemned.len() + gone_records.len()) as u64,
            purged: 0,
        };
        report.logical_bytes = self.logical_bytes().await?;
        if options.dry_run || report.stage == Stage::Nothing {
            return Ok((None, report));
        }

        // All tables stay until the end: a commit that comes in meanwhile may have been made on what only the last checkpoint holds.
        let mut tables = last.as_ref().map_or_else(Vec::new, |last| last.moved.clone());
        let condemned_tables = self.tables_beside(&tables).await?;
        let moved = self.move_live(&condemned, &in_condemned, &live).await?;
        tables.extend(self.write_tables(&moved, &gone).await?);
        let kept = plan.kept.into_iter().chain(plan.fresh.iter().zip(roots).map(|((commit, cut), root)| KeptState {
            commit: covered_of(commit, cut),
            message: commit.message.clone(),
            pin: pin_of(root, cut),
        }));
        let mut kept: Vec<KeptState> = kept.collect();
        kept.sort_by_key(|kept| (kept.commit.hlc, kept.commit.device, kept.commit.seq));
        let collection = Collection {
            number,
            begun_ms: (self.ports.clock.wall_ns() / 1_000_000).max(0) as u64,
            begun_storage_ms: self.storage_ms(),
            ends: None,
            confirmed: false,
            digest: self.digest_of(&plan.cut).await?.0,
            checkpoint,
            marked: heads.iter().map(|(device, head)| (*device, head.seq)).collect(),
            kept,
            condemned: gone,
            condemned_tables,
            spared: Vec::new(),
            moved: tables,
            expired: last.map_or_else(Vec::new, |last| last.expired.clone()),
        };
        self.say_collection(&collection).await?;
        Ok((Some(collection), report))
    }

    /// Publishes a collection.
    pub(super) async fn say_collection(&self, collection: &Collection) -> Result<(), SyncError> {
        match self.repo.publish_collection(collection).await {
            // This device published it before, and neither an answer nor a list had said so.
            Err(RepoError::Remote { source: RemoteError::Taken { .. } }) => Err(SyncError::CollectionHidden),
            outcome => Ok(outcome?),
        }
    }

    /// Which commits stay as states, by the storage's clock where it has one, else as if it were the time of the newest commit: no
    /// deletion is decided by a local clock.
    async fn plan(
        self: &Arc<Self>,
        last: Option<&Collection>,
        heads: &Cut,
        options: &CollectOptions,
    ) -> Result<Plan, SyncError> {
        let newest = heads.values().map(|head| head.hlc.millis()).max().unwrap_or(0);
        let now_ms = self.storage_ms().unwrap_or(newest);
        let until = options.retention.thinned_until(now_ms);
        let below = last.map_or_else(Cut::new, |last| cut_of(&last.checkpoint));
        let later = below.values().all(|head| head.hlc <= until);
        let cut = if later { self.with_all(move |sync| sync.volume.cut_at(until)).await? } else { below.clone() };
        let mut candidates = Vec::new();
        for commit in self.commits_between(&below, &cut).await? {
            let (device, seq) = (commit.device, commit.seq);
            let state = self.with_all(move |sync| sync.volume.cut_of(device, seq)).await?;
            // One that was made without knowing what went already can be opened no more than its records can be read.
            if holds(&state, &below) {
                candidates.push((commit, state));
            }
        }
        let before = last.map_or(&[][..], |last| &last.kept);
        let moment = |hlc, message: &str| Moment { hlc, named: snapshot_name(message).is_some() };
        let mut moments: Vec<Moment> = before.iter().map(|kept| moment(kept.commit.hlc, &kept.message)).collect();
        moments.extend(candidates.iter().map(|(commit, _)| moment(commit.hlc, &commit.message)));
        let stays = options.retention.kept(now_ms, &moments);
        let thinned = stays.iter().filter(|stays| !**stays).count() as u64;
        let (old, new) = stays.split_at(before.len());
        let kept = before.iter().zip(old).filter(|(_, stays)| **stays).map(|(kept, _)| kept.clone()).collect();
        let mut fresh: Vec<_> = candidates.into_iter().zip(new).filter(|(_, stays)| **stays).map(|(c, _)| c).collect();
        fresh.extend(self.stragglers(&cut, heads).await?);
        Ok(Plan { cut, kept, fresh, thinned })
    }

    /// Commits beyond a checkpoint that do not hold all of it: their states cannot be built from it. Without those whose states cannot be built
    /// at all any more, since they were made without knowing what a collection took before.
    pub(super) async fn stragglers(
        self: &Arc<Self>,
        checkpoint: &Cut,
        heads: &Cut,
    ) -> Result<Vec<(Candidate, Cut)>, SyncError> {
        let known = self.volume.collected();
        let can_be_built = |state: &Cut| {
            let before = |known: &Collected| !known.ended && holds(state, &known.before.covers);
            known.as_ref().is_none_or(|known| holds(state, &known.checkpoint.covers) || before(known))
        };
        let mut found = Vec::new();
        for commit in self.commits_between(checkpoint, heads).await? {
            let (device, seq) = (commit.device, commit.seq);
            let state = self.with_all(move |sync| sync.volume.cut_of(device, seq)).await?;
            if !holds(&state, checkpoint) && can_be_built(&state) {
                found.push((commit, state));
            }
        }
        Ok(found)
    }

    /// Without a collection before, every log begins at its beginning; else a list hides one, and nothing may be concluded.
    async fn first_records_are_there(self: &Arc<Self>, cut: &Cut) -> Result<(), SyncError> {
        for device in cut.keys() {
            let id = self.repo.device_id(*device)?;
            if self.repo.read_record_bytes(id, Seq(1)).await?.is_none() {
                return Err(SyncError::CollectionHidden);
            }
        }
        Ok(())
    }

    /// All packs and records that a list shows.
    pub(super) async fn listed(self: &Arc<Self>) -> Result<Listed, SyncError> {
        let mut listed = Listed::default();
        for prefix in ["packs/", "nodes/"] {
            let objects = self.repo.store().list(prefix).await.map_err(RepoError::from)?;
            listed.packs.extend(objects.iter().filter_map(|object| Some((pack_of(&object.name)?, object.bytes))));
        }
        let devices: BTreeMap<String, DeviceNo> =
            self.repo.known_devices().into_iter().map(|(no, id)| (id.to_string(), no)).collect();
        for object in self.repo.store().list("log/").await.map_err(RepoError::from)? {
            let mut parts = object.name.split('/').skip(1);
            let device = parts.next().and_then(|id| devices.get(id));
            let seq = parts.next().and_then(|seq| u64::from_str_radix(seq, 16).ok());
            if let (Some(device), Some(seq)) = (device, seq) {
                listed.records.insert((*device, Seq(seq)), object.bytes);
            }
        }
        Ok(listed)
    }

    /// Everything live lies in an object that is there: else the index of this device or the remote is not what it should be, and nothing
    /// may go because of it. A list may be stale, or of before a checkpoint that this device wrote meanwhile: what it lacks is asked for.
    async fn everything_is_there(&self, listed: &Listed, live: &Live) -> Result<(), SyncError> {
        for object in live.bytes.keys() {
            if matches!(object, ObjectId::Record(..)) || listed.shows(*object) || live.written.contains(object) {
                continue;
            }
            let name = self.repo.object_name(*object)?;
            if self.repo.store().get_range(&name, 0, 1).await.map_err(RepoError::from)?.is_none() {
                return Err(SyncError::ObjectLost { name });
            }
        }
        Ok(())
    }

    /// Packs of which little is live. One that holds nothing else is none of them, however much of it is header and directory: it would be
    /// copied again and again.
    async fn condemned_packs(&self, listed: &Listed, live: &Live) -> Result<BTreeSet<ObjectId>, SyncError> {
        let is_little = |lives: u64, of: u64| lives.saturating_mul(100) < of.saturating_mul(LIVE_PERCENT_MIN);
        let mut condemned = BTreeSet::new();
        for (object, bytes) in &listed.packs {
            let lives = live.bytes.get(object).copied().unwrap_or(0);
            if !is_little(lives, *bytes) {
                continue;
            }
            let held = match object {
                _ if lives == 0 || *bytes > SMALL_PACK_BYTES_MAX => None,
                ObjectId::Pack(id) => self
                    .repo
                    .pack_directory(*id)
                    .await?
                    .map(|blobs| blobs.iter().filter_map(|blob| blob.at).map(|at| u64::from(at.len)).sum()),
                ObjectId::Nodes(id) => {
                    let nodes = self.repo.nodes_directory(*id).await?;
                    nodes.map(|nodes| nodes.iter().map(|(_, at)| u64::from(at.len)).sum())
                }
                ObjectId::Record(..) => None,
            };
            if is_little(lives, held.unwrap_or(*bytes)) {
                condemned.insert(*object);
            }
        }
        Ok(condemned)
    }

    /// Copies what is live out of what is condemned, and tells where all that lies now; also of what is live and lies elsewhere too.
    async fn move_live(
        self: &Arc<Self>,
        condemned: &BTreeSet<ObjectId>,
        in_condemned: &(dyn Fn(ObjectId) -> bool + Send + std::marker::Sync),
        live: &Live,
    ) -> Result<BTreeMap<ObjectId, Places>, SyncError> {
        let mut moved: BTreeMap<ObjectId, Places> = BTreeMap::new();
        let objects: Vec<ObjectId> = live.bytes.keys().copied().filter(|object| in_condemned(*object)).collect();
        let blobs: Vec<StoredCopy<BlobId>> = objects.iter().flat_map(|o| live.blobs_in(*o)).copied().collect();
        let places = self.repo.repack_blobs(&blobs).await?;
        for copy in &blobs {
            moved.entry(copy.at.object).or_default().insert(copy.id.0, places[&copy.id.0]);
        }
        let mut nodes: Vec<(u8, StoredCopy<NodeId>)> = Vec::new();
        for (id, node) in &live.nodes {
            if let Some(at) = node.at.filter(|at| in_condemned(at.object)) {
                nodes.push((node.level, StoredCopy { id: *id, len: 0, at }));
            }
        }
        // Upper levels together, at the end, as a checkpoint writes them.
        nodes.sort_by_key(|(level, copy)| (*level, copy.at.object, copy.at.offset));
        let nodes: Vec<StoredCopy<NodeId>> = nodes.into_iter().map(|(_, copy)| copy).collect();
        let node_places = self.repo.repack_nodes(&nodes).await?;
        for copy in &nodes {
            moved.entry(copy.at.object).or_default().insert(copy.id.0, node_places[&copy.id.0]);
        }
        for object in condemned {
            self.note_elsewhere(*object, live, in_condemned, (&places, &node_places), &mut moved).await?;
        }
        Ok(moved)
    }

    /// Somebody may know this object as the place of something live that nobody else looks for there.
    async fn note_elsewhere(
        self: &Arc<Self>,
        object: ObjectId,
        live: &Live,
        in_condemned: &(dyn Fn(ObjectId) -> bool + Send + std::marker::Sync),
        (blobs, nodes): (&Places, &Places),
        moved: &mut BTreeMap<ObjectId, Places>,
    ) -> Result<(), SyncError> {
        let mut found: Vec<([u8; 32], Locator)> = Vec::new();
        match object {
            ObjectId::Pack(id) => {
                for blob in self.repo.pack_directory(id).await?.unwrap_or_default() {
                    let stays = live.copies_of(blob.id).map(|copy| copy.at).find(|at| !in_condemned(at.object));
                    found.extend(blobs.get(&blob.id.0).copied().or(stays).map(|at| (blob.id.0, at)));
                }
            }
            ObjectId::Nodes(id) => {
                for (node, _) in self.repo.nodes_directory(id).await?.unwrap_or_default() {
                    let stays = live.nodes.get(&node).and_then(|live| live.at).filter(|at| !in_condemned(at.object));
                    found.extend(nodes.get(&node.0).copied().or(stays).map(|at| (node.0, at)));
                }
            }
            ObjectId::Record(..) => {}
        }
        if !found.is_empty() {
            moved.entry(object).or_default().extend(found);
        }
        Ok(())
    }

    /// Writes tables of where things lie now.
    async fn write_tables(
        self: &Arc<Self>,
        moved: &BTreeMap<ObjectId, Places>,
        gone: &[Gone],
    ) -> Result<Vec<MovedTable>, SyncError> {
        let mut tables = Vec::new();
        let (mut places, mut of) = (Places::new(), BTreeSet::new());
        for (object, there) in moved {
            let about = gone.iter().find(|gone| gone.holds(*object)).copied();
            for (id, at) in there {
                of.extend(about);
                places.insert(*id, *at);
                if places.len() == TABLE_PLACES_MAX {
                    let id = self.repo.publish_table(&std::mem::take(&mut places)).await?;
                    tables.push(MovedTable { id, of: std::mem::take(&mut of).into_iter().collect() });
                }
            }
        }
        if !places.is_empty() {
            let id = self.repo.publish_table(&places).await?;
            tables.push(MovedTable { id, of: of.into_iter().collect() });
        }
        Ok(tables)
    }

    /// Tables that the last collection does not name: nothing needed them when it ended, or they are of one that was never acknowledged by all.
    async fn tables_beside(&self, named: &[MovedTable]) -> Result<Vec<PackId>, SyncError> {
        let listed = self.repo.moved_tables().await?;
        Ok(listed.into_iter().filter(|id| named.iter().all(|table| table.id != *id)).collect())
    }

    /// The digest of the state after a cut, from all that lives in it.
    async fn digest_of(self: &Arc<Self>, cut: &Cut) -> Result<Digest, SyncError> {
        let wanted = cut.clone();
        let digest = self.with_all(move |sync| {
            let snapshot = sync.volume.snapshot_of(&wanted)?;
            let mut digest = Digest::default();
            super::sizes::records(&*snapshot, &mut |file| digest = digest.plus(Digest::of_file(file)))?;
            Ok(digest)
        });
        let digest = digest.await?;
        // Others may have written meanwhile: only the digest of this very state can be compared.
        let known = self.volume.checkpoint_input();
        if *cut == known.covers && digest != known.digest {
            let (device, seq) = cut.iter().next().map_or((0, 0), |(device, head)| (device.0, head.seq.0));
            return Err(SyncError::DigestDiffers { device, seq });
        }
        Ok(digest)
    }

    /// Milliseconds since 1970 by the storage's clock, if it tells the time.
    pub(super) fn storage_ms(&self) -> Option<u64> {
        self.repo.store().storage_time().map(|seconds| seconds * 1_000)
    }
}

fn gone_pack(object: &ObjectId) -> Option<Gone> {
    match object {
        ObjectId::Pack(id) => Some(Gone::Pack(*id)),
        ObjectId::Nodes(id) => Some(Gone::Nodes(*id)),
        ObjectId::Record(..) => None,
    }
}

/// Objects, not stretches of logs, that a collection condemns.
pub(super) fn condemned_objects(collection: &Collection) -> impl Iterator<Item = ObjectId> + '_ {
    collection.condemned.iter().filter_map(object_of)
}

fn covered_of(commit: &Candidate, cut: &Cut) -> Covered {
    let head = cut.get(&commit.device);
    let hash = head.map_or(ouro_core::id::RecordHash([0; 32]), |head| head.hash);
    Covered { device: commit.device, seq: commit.seq, hash, hlc: commit.hlc }
}
