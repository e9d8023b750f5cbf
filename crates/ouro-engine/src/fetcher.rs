//! The vfs asks for what is missing; the sync brings it, within a deadline.

use futures::FutureExt;
use futures::future::{Either, select};
use ouro_core::content::BlobRef;
use ouro_core::port::{BoxFuture, Runtime};
use ouro_core::row::Missing;
use ouro_sync::{Sync, SyncError};
use ouro_vfs::{Fetch, FetchError, VolumeNo};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long a read may wait by default.
pub(crate) const DEADLINE_MS: u64 = 30_000;
/// Blobs fetched ahead of readers at the same time; more are not begun.
const PREFETCHES_MAX: usize = 64;

/// Port `Fetch` over the syncs of the mounted boxes, in the order of their volume numbers.
pub(crate) struct Fetcher {
    pub(crate) syncs: Vec<Arc<Sync>>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) deadline_ms: u64,
    pub(crate) prefetches: Arc<AtomicUsize>,
}

impl Fetcher {
    fn sync(&self, volume: VolumeNo) -> Option<Arc<Sync>> {
        self.syncs.get(usize::try_from(volume.0).ok()?).cloned()
    }

    /// Runs a fetch beside its waiter, so that one who gives up does not end it for the others.
    fn within_deadline(
        &self,
        work: BoxFuture<'static, Result<(), SyncError>>,
    ) -> BoxFuture<'static, Result<(), FetchError>> {
        let (done, ended) = tokio::sync::oneshot::channel();
        self.runtime.spawn(
            async move {
                // Nobody may be waiting any more.
                let _unheard = done.send(work.await);
            }
            .boxed(),
        );
        let sleep = self.runtime.sleep(self.deadline_ms);
        async move {
            match select(ended, sleep).await {
                Either::Left((Ok(Ok(())), _)) => Ok(()),
                Either::Left((Ok(Err(error)), _)) => Err(judge(&error)),
                Either::Left((Err(_), _)) => Err(FetchError::Io),
                Either::Right(_) => Err(FetchError::TimedOut),
            }
        }
        .boxed()
    }
}

fn judge(error: &SyncError) -> FetchError {
    tracing::warn!(%error, "a read cannot be served");
    match error {
        SyncError::Repo(error) if error.is_retryable() => FetchError::Unreachable,
        _ => FetchError::Io,
    }
}

impl Fetch for Fetcher {
    fn nodes(&self, volume: VolumeNo, missing: Missing) -> BoxFuture<'static, Result<(), FetchError>> {
        let Some(sync) = self.sync(volume) else { return async { Err(FetchError::Io) }.boxed() };
        self.within_deadline(async move { sync.fetch_node(missing).await }.boxed())
    }

    fn blobs(&self, volume: VolumeNo, blobs: Vec<BlobRef>, _: u32) -> BoxFuture<'static, Result<(), FetchError>> {
        let Some(sync) = self.sync(volume) else { return async { Err(FetchError::Io) }.boxed() };
        self.within_deadline(async move { sync.fetch_blobs(blobs).await }.boxed())
    }

    fn prefetch(&self, volume: VolumeNo, blobs: Vec<BlobRef>) {
        let Some(sync) = self.sync(volume) else { return };
        let count = blobs.len();
        if count == 0 || self.prefetches.fetch_add(count, Ordering::Relaxed) > PREFETCHES_MAX {
            self.prefetches.fetch_sub(count, Ordering::Relaxed);
            return;
        }
        let prefetches = Arc::clone(&self.prefetches);
        self.runtime.spawn(
            async move {
                if let Err(error) = sync.fetch_blobs(blobs).await {
                    tracing::debug!(%error, "nothing fetched ahead");
                }
                prefetches.fetch_sub(count, Ordering::Relaxed);
            }
            .boxed(),
        );
    }
}
