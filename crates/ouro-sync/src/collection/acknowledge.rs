//! Taking note of a collection, as every device does: from then on nothing condemned is referred to by anything new.

use super::mark::{Tables, now_at};
use super::{cut_of, holds};
use crate::{Sync, SyncError};
use ouro_core::content::{BlobRef, Locator, ObjectId};
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceNo, NodeId, Seq};
use ouro_core::tree::Node;
use ouro_local::volume::{Announced, Collected, Cut, KeptState};
use ouro_repo::{Collection, CollectionNo, Gone, RepoError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Commits that are published before an acknowledgement; what is changed after them was made in sight of everything that was marked.
const FLUSHES_MAX: usize = 8;
/// A device looks for collections so often …
pub(crate) const LOOK_MS: u64 = 60_000;
/// … and before it publishes anything if it did not for so long.
pub(crate) const LOOK_BEFORE_PUT_MS: u64 = 24 * 3_600_000;

impl Sync {
    /// The newest collection that this device has acknowledged; 0 if none.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.volume.collected().map_or(0, |collected| collected.number)
    }

    /// Whether the last look for collections is longer ago than this, by either clock: one stands still while the machine sleeps.
    pub(crate) fn look_due(&self, after_ms: u64) -> bool {
        let Some((monotonic_ns, wall_ns)) = *self.looked.lock() else { return true };
        let clock = &self.ports.clock;
        let since = clock.monotonic_ns().saturating_sub(monotonic_ns).max(clock.wall_ns().abs_diff(wall_ns));
        since / 1_000_000 >= after_ms
    }

    /// Looks for a collection, brings this device up to date and acknowledges it. Returns how many commits of others came in.
    ///
    /// # Errors
    /// What the remote or the disk says; then nothing is acknowledged, and the next look goes on.
    pub async fn look(self: &Arc<Self>) -> Result<usize, SyncError> {
        if !self.line().is_main() {
            // Collections are of the main line, and none is begun or ended while there are branches.
            return Ok(0);
        }
        let mut taken = 0;
        let (newest, before) = match self.repo.collections().await {
            Ok(collections) => newest_and_before(collections),
            // Work goes on; but what cannot be read is not acknowledged, so nothing goes because of it.
            Err(error) if error.is_corrupt() => {
                tracing::warn!(%error, "a collection cannot be read");
                (None, None)
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(newest) = newest {
            self.repo.know_collection(newest.clone());
            {
                let _turn = self.turn.lock().await;
                self.outlive_covered(&cut_of(&newest.checkpoint)).await?;
            }
            taken += self.pull().await?;
            if self.catch_up(&newest).await? {
                taken += self.pull().await?;
            }
            let _turn = self.turn.lock().await;
            self.acknowledge(&newest, before.as_ref()).await?;
        }
        *self.looked.lock() = Some((self.ports.clock.monotonic_ns(), self.ports.clock.wall_ns()));
        Ok(taken)
    }

    /// Looks, if the last time is longer ago than this.
    pub(crate) async fn look_if_due(self: &Arc<Self>, after_ms: u64) -> Result<(), SyncError> {
        if self.look_due(after_ms) { Box::pin(self.look()).await.map(drop) } else { Ok(()) }
    }

    /// The silence of a log below a collection's checkpoint is no news: its records may be gone. Who is there begins anew on the checkpoint.
    async fn catch_up(self: &Arc<Self>, newest: &Collection) -> Result<bool, SyncError> {
        let heads = self.volume.heads();
        let covers = cut_of(&newest.checkpoint);
        if heads.is_empty() || holds(&heads, &covers) {
            return Ok(false);
        }
        let _turn = self.turn.lock().await;
        let checkpoint = Announced { root: newest.checkpoint.root, covers, digest: Digest(newest.digest) };
        self.begin_anew(&checkpoint).await.map(|()| true)
    }

    /// Begins anew on the checkpoint of a collection. The one that this device stood on may be of a time that no collection waited for it.
    async fn begin_anew(self: &Arc<Self>, checkpoint: &Announced) -> Result<(), SyncError> {
        let mut gone = BTreeSet::new();
        loop {
            let (checkpoint, known) = (checkpoint.clone(), gone.clone());
            match self.with_all(move |sync| sync.volume.rejoin(&checkpoint, &known)).await {
                Err(SyncError::Repo(RepoError::NodeGone { node, .. })) if gone.insert(node) => {}
                begun => return begun,
            }
        }
    }

    /// Takes note of a collection. The caller has the turn.
    ///
    /// Known to hold when it is noted: this device knows every commit that was known when it was marked, so nothing that it shows is dead;
    /// and everything it did before is published, so the second mark finds what that refers to.
    async fn acknowledge(self: &Arc<Self>, newest: &Collection, before: Option<&Collection>) -> Result<(), SyncError> {
        if self.acknowledged() >= newest.number.0 {
            return if *self.hinted.lock() < newest.number.0 { self.hint_acknowledged().await } else { Ok(()) };
        }
        if self.was_waited_for(newest) {
            return self.note(newest, before, false).await;
        }
        let missed = self.misses(newest, before);
        self.forget_places(newest, missed).await?;
        if missed {
            self.renew_sealed().await?;
            self.cleared.fetch_max(newest.number.0, Ordering::Relaxed);
        }
        let heads = self.volume.heads();
        let behind = |(device, seq): &(DeviceNo, Seq)| heads.get(device).is_none_or(|h| h.seq < *seq);
        if self.imports.load(Ordering::Relaxed) > 0 || newest.marked.iter().any(behind) {
            // What an import has stored is in no record yet; and who lacks commits may show what is dead. The next look comes soon.
            return Ok(());
        }
        self.finish_outright().await?;
        for _ in 0..FLUSHES_MAX {
            match self.with_all(|sync| sync.volume.seal()).await? {
                Some(sealed) => drop(self.push_anyhow(sealed).await?),
                None => break,
            }
        }
        let tables = self.tables(newest).await?;
        self.keep_own(newest, before, &tables).await?;
        self.stand_above(newest).await?;
        self.drop_stale_nodes(newest, tables, missed).await?;
        self.note(newest, before, missed).await
    }

    /// Whether a collection is the end of one that this device acknowledged; it may know another end of that, by another device.
    fn was_waited_for(&self, newest: &Collection) -> bool {
        let Some(ended) = newest.ends else { return false };
        self.volume.collected().is_some_and(|known| known.number == ended.0 || (known.ended && known.ends == ended.0))
    }

    /// Whether a collection ended that did not wait for this device, and that it has not taken note of yet; the next one may be under way.
    fn misses(&self, newest: &Collection, before: Option<&Collection>) -> bool {
        let acknowledged = self.acknowledged();
        let unheard = |c: &Collection| c.ends.is_some() && acknowledged < c.number.0 && !self.was_waited_for(c);
        let ended = unheard(newest) || before.is_some_and(unheard);
        acknowledged < newest.number.0 && (ended || newest.expired.contains(&self.volume.device()))
    }

    /// Whether what is fixed here may refer to what a collection took that did not wait for this device, and that no look has met yet.
    ///
    /// # Errors
    /// What the remote says.
    pub(crate) async fn must_look(&self) -> Result<bool, SyncError> {
        let (newest, before) = match self.repo.collections().await {
            Ok(collections) => newest_and_before(collections),
            // Nothing goes because of one that cannot be read.
            Err(error) if error.is_corrupt() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let is_cleared = |newest: &Collection| newest.number.0 <= self.cleared.load(Ordering::Relaxed);
        Ok(newest.is_some_and(|newest| self.misses(&newest, before.as_ref()) && !is_cleared(&newest)))
    }

    /// Whether bytes that this device referred to, without having published that, may be gone: a collection did not wait for it, or for what it
    /// was before it went on as another device.
    ///
    /// # Errors
    /// What the remote says.
    pub(crate) async fn may_miss_bytes(&self) -> Result<bool, SyncError> {
        let (newest, before) = newest_and_before(self.repo.collections().await?);
        let missed = self.volume.collected().is_some_and(|collected| collected.missed);
        let missed = missed || self.volume.identity().is_some();
        Ok(newest.is_some_and(|newest| missed || self.misses(&newest, before.as_ref())))
    }

    pub(crate) async fn note(
        self: &Arc<Self>,
        newest: &Collection,
        before: Option<&Collection>,
        missed: bool,
    ) -> Result<(), SyncError> {
        // A stale list may lack the one that this device knows to have ended, and show one before it that is gone.
        let last = self.volume.collected();
        let missed = missed || last.as_ref().is_some_and(|last| last.missed);
        let is_past = |before: &Collection| match &last {
            Some(known) if known.ended => before.number.0 <= known.number,
            Some(known) => holds(&known.before.covers, &cut_of(&before.checkpoint)),
            None => false,
        };
        let before = before.filter(|before| newest.ends.is_none() && !is_past(before));
        let before = before.map(|before| collected_of(before).checkpoint);
        let collected = Collected { before: before.unwrap_or_default(), missed, ..collected_of(newest) };
        self.blocking(move |sync| sync.volume.note_collection(collected)).await??;
        self.hint_acknowledged().await
    }

    /// What only this device refers to, its trash above all, no other can know to be live: it is brought into the cache, which keeps it. A table that
    /// leads on to something goes, too, when nothing that others know needs it.
    async fn keep_own(
        self: &Arc<Self>,
        newest: &Collection,
        before: Option<&Collection>,
        tables: &Tables,
    ) -> Result<(), SyncError> {
        let now = |blob: &BlobRef| blob.at.map(|at| now_at(newest, tables, &blob.id.0, at));
        let mut own = self.with_all(|sync| sync.volume.staying_references()).await?;
        own.retain(|blob| now(blob).is_some_and(|now| newest.condemns(now.object) || Some(now) != blob.at));
        if own.is_empty() {
            return Ok(());
        }
        // An ended collection may have taken it, and what is gone from the cache too holds nobody up. What only one under way condemns must be
        // there still.
        let may_be_gone = |blob: &BlobRef| {
            newest.ends.is_some()
                || now(blob).is_none_or(|now| match now.object {
                    ObjectId::Record(..) => true,
                    object => !newest.condemns(object) || before.is_some_and(|before| before.condemns(object)),
                })
        };
        let is_gone = |error: &SyncError| matches!(error, SyncError::Repo(RepoError::BlobGone { .. }));
        match self.fetch_blobs(own.clone()).await {
            Err(error) if is_gone(&error) => {
                for blob in own {
                    match self.fetch_blobs(vec![blob]).await {
                        Err(error) if is_gone(&error) && may_be_gone(&blob) => {
                            tracing::warn!(%error, "a part of what only this device has is gone")
                        }
                        brought => brought?,
                    }
                }
            }
            brought => brought?,
        }
        // A crash must not take it: when this is acknowledged, it goes from the remote.
        Ok(self.blocking(|sync| sync.volume.blobs().persist()).await??)
    }

    /// The tables of a collection, without those that a later one took.
    async fn tables(&self, newest: &Collection) -> Result<Tables, SyncError> {
        let mut tables = Tables::new();
        for table in &newest.moved {
            let found = self.repo.table(table.id).await?;
            tables.extend(found.map(|places| (table.id, places)));
        }
        Ok(tables)
    }

    /// Says in the hint what is acknowledged: this device may have nothing to commit for days.
    async fn hint_acknowledged(self: &Arc<Self>) -> Result<(), SyncError> {
        let acknowledged = self.acknowledged();
        self.write_hint().await?;
        *self.hinted.lock() = acknowledged;
        Ok(())
    }

    /// Chunks in condemned objects are stored again if they come again; also in those that went before, whose places this device has learnt since
    /// from what others referred to: a table leads on to where they lie now, which may be condemned itself. Who missed a collection knows
    /// nothing for certain.
    async fn forget_places(self: &Arc<Self>, newest: &Collection, all: bool) -> Result<(), SyncError> {
        let outdated = newest.condemned.iter().chain(newest.moved.iter().flat_map(|table| &table.of));
        let outdated: BTreeSet<ObjectId> = outdated.filter_map(object_of).collect();
        let outdated: Vec<ObjectId> = outdated.into_iter().collect();
        let covers = newest.checkpoint.covers.clone();
        self.blocking(move |sync| {
            let locations = sync.volume.locations();
            if all {
                return locations.forget_all();
            }
            locations.forget_objects(&outdated)?;
            covers.iter().try_for_each(|covered| locations.forget_records(covered.device, covered.seq))
        })
        .await?
        .map_err(SyncError::from)
    }

    /// A record that was fixed before a collection which this device missed may refer to what is gone. If it never got to the remote it
    /// is made anew, from what this device has.
    async fn renew_sealed(self: &Arc<Self>) -> Result<(), SyncError> {
        let Some(sealed) = self.volume.sealed().filter(|sealed| sealed.record.is_some()) else { return Ok(()) };
        if self.repo.read_record_bytes(self.device(), sealed.version.seq).await?.is_none() {
            self.blocking(|sync| sync.volume.unfix_record()).await??;
        }
        Ok(())
    }

    /// The trees of earlier checkpoints go: this device stands on one that stays. So does that of a collection which was begun at the same time
    /// and lost, also where it covers more: no record announced it, so whoever marked did not know that anybody stands on it. That collection
    /// need not be the one noted last: this device may have been ended right before it noted it.
    async fn stand_above(self: &Arc<Self>, newest: &Collection) -> Result<(), SyncError> {
        let covers = cut_of(&newest.checkpoint);
        let stands = self.volume.standing().map_or_else(Cut::new, |standing| standing.covers);
        // Every record beyond the checkpoint was looked for: what announces the one that this device stands on is known.
        let on_lost = self.volume.checkpoint().is_none();
        let is_above = holds(&covers, &stands);
        let checkpoint = Announced { root: newest.checkpoint.root, covers, digest: Digest(newest.digest) };
        match (is_above, on_lost) {
            (true, _) => self.with_all(move |sync| sync.volume.adopt(&checkpoint)).await,
            (false, true) => self.begin_anew(&checkpoint).await,
            (false, false) => Ok(()),
        }
    }

    /// Nodes kept here that name something which lies where all is condemned now were of trees that went. If such a node comes to live again, the
    /// remote's has other places in it.
    async fn drop_stale_nodes(
        self: &Arc<Self>,
        newest: &Collection,
        tables: Tables,
        all: bool,
    ) -> Result<(), SyncError> {
        let newest = newest.clone();
        self.blocking(move |sync| {
            let dangling = |id: &[u8; 32], at: Option<Locator>| {
                at.is_some_and(|at| newest.condemns(now_at(&newest, &tables, id, at).object))
            };
            let stale = |_: &NodeId, bytes: &[u8]| {
                if all {
                    return true;
                }
                let Ok(node) = Node::decode(bytes) else { return true };
                let mut stale = node.children().iter().any(|child| dangling(&child.id.0, child.at));
                node.blobs(&mut |blob| stale |= dangling(&blob.id.0, blob.at));
                stale
            };
            sync.volume.nodes().remove_if(&stale)
        })
        .await??;
        self.index_complete.store(false, Ordering::Release);
        self.with_all(|sync| sync.volume.rehearse_start()).await
    }
}

/// The whole object that goes; `None` for a stretch of a log.
pub(super) fn object_of(gone: &Gone) -> Option<ObjectId> {
    match gone {
        Gone::Pack(id) => Some(ObjectId::Pack(*id)),
        Gone::Nodes(id) => Some(ObjectId::Nodes(*id)),
        Gone::Log { .. } => None,
    }
}

/// The newest collection, and the newest before it that has ended.
pub(crate) fn newest_and_before(
    collections: BTreeMap<CollectionNo, Collection>,
) -> (Option<Collection>, Option<Collection>) {
    let mut later = collections.into_values().rev();
    let newest = later.next();
    (newest, later.find(|earlier| earlier.ends.is_some()))
}

pub(crate) fn collected_of(collection: &Collection) -> Collected {
    let kept = collection.kept.iter().map(|kept| KeptState {
        device: kept.commit.device,
        seq: kept.commit.seq,
        message: kept.message.clone(),
        root: kept.pin.root,
        cut: cut_of(&kept.pin),
    });
    let checkpoint = Announced {
        root: collection.checkpoint.root,
        covers: cut_of(&collection.checkpoint),
        digest: Digest(collection.digest),
    };
    let ends = collection.ends.map_or(0, |number| number.0);
    let ended = collection.ends.is_some();
    Collected { number: collection.number.0, checkpoint, kept: kept.collect(), ended, ends, ..Collected::default() }
}
