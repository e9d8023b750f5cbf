//! Bringing what is missing, each thing once however many wait for it.

use crate::{Sync, SyncError};
use bytes::Bytes;
use ouro_core::content::{BlobRef, Locator, ObjectId};
use ouro_core::id::{BlobId, NodeId};
use ouro_core::row::Missing;
use ouro_local::volume::VolumeError;
use ouro_repo::{OpenNode, RepoError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// Times that one call may ask for another missing node or blob: deeper than any tree, and enough for a diff over many nodes.
const ROUNDS_MAX: usize = 1 << 20;

/// What this call brings; the others are brought by somebody else.
struct Mine<'a, I: Ord + Copy> {
    table: &'a Mutex<BTreeMap<I, watch::Receiver<()>>>,
    ids: Vec<I>,
    /// Dropped at the end: that wakes who waits.
    _done: watch::Sender<()>,
}

impl<I: Ord + Copy> Drop for Mine<'_, I> {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        for id in &self.ids {
            table.remove(id);
        }
    }
}

/// Parts ids into those this call must bring and those that are on their way already.
fn claim<I: Ord + Copy>(
    table: &Mutex<BTreeMap<I, watch::Receiver<()>>>,
    ids: impl Iterator<Item = I>,
) -> (Mine<'_, I>, Vec<watch::Receiver<()>>) {
    let (done, receiver) = watch::channel(());
    let mut mine = Mine { table, ids: Vec::new(), _done: done };
    let mut others = Vec::new();
    let mut locked = table.lock();
    for id in ids {
        match locked.get(&id) {
            Some(other) => others.push(other.clone()),
            None => {
                locked.insert(id, receiver.clone());
                mine.ids.push(id);
            }
        }
    }
    drop(locked);
    (mine, others)
}

async fn wait_for(others: Vec<watch::Receiver<()>>) {
    for mut other in others {
        // An error means that the sender is gone: it has ended, well or not; the caller looks again.
        let _ended = other.changed().await;
    }
}

impl Sync {
    /// Brings blobs into the clean cache.
    ///
    /// # Errors
    /// What the repository says; [`SyncError::BlobLost`] if nobody knows where one lies.
    pub async fn fetch_blobs(self: &Arc<Self>, blobs: Vec<BlobRef>) -> Result<(), SyncError> {
        let mut absent = Vec::new();
        for blob in blobs {
            if !self.volume.blobs().contains(&blob.id)? {
                absent.push(blob);
            }
        }
        let asked: BTreeSet<BlobId> = absent.iter().map(|blob| blob.id).collect();
        let absent = self.with_neighbours(absent).await;
        let (mine, others) = claim(&self.blobs_in_flight, absent.iter().map(|b| b.id));
        let mut wanted = Vec::with_capacity(mine.ids.len());
        let claimed: BTreeSet<BlobId> = mine.ids.iter().copied().collect();
        for blob in absent.iter().filter(|b| claimed.contains(&b.id)) {
            let at = match blob.at {
                Some(at) => at,
                None => self.volume.locations().get(&blob.id)?.ok_or(SyncError::BlobLost)?,
            };
            wanted.push(BlobRef { at: Some(at), ..*blob });
        }
        if !wanted.is_empty() {
            self.meet_owners(&wanted).await?;
            match self.bring_from_where_it_is(wanted.clone()).await {
                // It may be a neighbour that is gone: what was asked for says itself what is wrong with it.
                Err(SyncError::Repo(error)) if error.is_corrupt() && wanted.iter().any(|b| !asked.contains(&b.id)) => {
                    wanted.retain(|blob| asked.contains(&blob.id));
                    self.bring_from_where_it_is(wanted).await?;
                }
                brought => brought?,
            }
        }
        drop(mine);
        wait_for(others).await;
        Ok(())
    }

    /// Brings blobs. Where one is gone, it may be a list of chunks that is kept here which is of before a collection: the remote's says better.
    async fn bring_from_where_it_is(self: &Arc<Self>, mut wanted: Vec<BlobRef>) -> Result<(), SyncError> {
        loop {
            let (blob, error) = match self.bring(&wanted).await {
                Err(SyncError::Repo(error @ RepoError::BlobGone { blob, .. })) => (blob, error),
                brought => return brought,
            };
            let now = self.places_anew(blob).await?;
            if now.is_empty() {
                return Err(error.into());
            }
            for blob in &mut wanted {
                blob.at = now.get(&blob.id).copied().or(blob.at);
            }
        }
    }

    /// Fetches the lists of chunks again that name one which is gone. Returns the places of all chunks in those that say something else now; in the
    /// next round they do not any more.
    async fn places_anew(self: &Arc<Self>, gone: BlobId) -> Result<BTreeMap<BlobId, Locator>, SyncError> {
        let mut now = BTreeMap::new();
        for list in self.volume.lists_naming(gone) {
            let chunks = self.renew_list(list).await?;
            now.extend(chunks.iter().flat_map(|chunks| &**chunks).filter_map(|chunk| Some((chunk.id, chunk.at?))));
        }
        Ok(now)
    }

    /// Fetches a list of chunks although it may be here. Returns its chunks if any of them lies elsewhere than the list here says; one that is gone
    /// itself stays as it is here.
    pub(crate) async fn renew_list(self: &Arc<Self>, list: BlobRef) -> Result<Option<Arc<[BlobRef]>>, SyncError> {
        let bytes = match self.repo.fetch_blob(&list).await {
            Err(RepoError::BlobGone { .. }) => return Ok(None),
            bytes => bytes?,
        };
        Ok(self.blocking(move |sync| sync.volume.renew_list(&list, &bytes)).await??)
    }

    async fn bring(&self, wanted: &[BlobRef]) -> Result<(), SyncError> {
        let mut failed = None;
        let mut keep = |blob: BlobRef, bytes: Bytes| {
            if let Err(error) = self.volume.blobs().put(blob.id, &bytes) {
                failed = Some(error);
            }
        };
        self.repo.fetch_blobs(wanted, &mut keep).await?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// After a restart, numbers of devices must be learnt again before a blob inside a record of theirs is found.
    pub(crate) async fn meet_owners(&self, blobs: &[BlobRef]) -> Result<(), SyncError> {
        let in_strange_record = |blob: &BlobRef| match blob.at.map(|at| at.object) {
            Some(ObjectId::Record(device, _)) => self.repo.device_id(device).is_err(),
            _ => false,
        };
        if blobs.iter().any(in_strange_record) {
            crate::learn_devices(&self.repo, &self.volume).await?;
        }
        Ok(())
    }

    /// Brings an index node onto this device.
    ///
    /// # Errors
    /// What the repository says; [`SyncError::NodeLost`] if nobody knows where it lies.
    pub async fn fetch_node(self: &Arc<Self>, missing: Missing) -> Result<(), SyncError> {
        let (mine, others) = claim(&self.nodes_in_flight, std::iter::once(missing.node));
        if mine.ids.is_empty() {
            wait_for(others).await;
            return Ok(());
        }
        if missing.at.is_none() {
            return Err(SyncError::NodeLost);
        }
        let opened = self.repo.fetch_node(&missing).await?;
        self.keep_nodes(vec![(missing.node, opened)]).await?;
        // Whoever missed the root of the index will ask for what is below it next. All of that is brought beside: a reader goes down one way
        // and waits for one node of each level, not for the inner nodes of a whole box, which lie in as many packs as checkpoints wrote them.
        if self.volume.checkpoint_root().is_some_and(|root| root.id == missing.node && root.level > 0) {
            self.fetch_upper_index_beside();
        }
        Ok(())
    }

    /// Keeps index nodes that came, for readers and for the next start.
    pub(crate) async fn keep_nodes(self: &Arc<Self>, brought: Vec<(NodeId, OpenNode)>) -> Result<(), SyncError> {
        Ok(self.blocking(move |sync| sync.volume.nodes().put_many(&brought, |opened| &opened.node)).await??)
    }

    /// Does something with the volume, bringing what it misses until it can be done. Runs off the async threads.
    pub(crate) async fn with_all<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Fn(Arc<Self>) -> Result<T, VolumeError> + Send + std::marker::Sync + 'static,
    ) -> Result<T, SyncError> {
        let work = Arc::new(work);
        for _ in 0..ROUNDS_MAX {
            let again = Arc::clone(&work);
            match self.blocking(move |sync| again(sync)).await? {
                Err(VolumeError::Missing(missing)) => self.fetch_node(missing).await?,
                Err(VolumeError::Need(blobs)) => self.fetch_blobs(blobs).await?,
                Err(VolumeError::Record { device, seq }) => self.fetch_records(device, seq).await?,
                Err(other) => return Err(other.into()),
                Ok(done) => return Ok(done),
            }
        }
        Err(SyncError::NodeLost)
    }
}
