//! Commits that come out of no overlay: what an import takes in, and what announces a checkpoint.

use crate::checkpoint::announcement;
use crate::{Sync, SyncError};
use bytes::Bytes;
use ouro_core::delta::Delta;
use ouro_local::volume::{Announced, Commit};
use ouro_repo::{Body, Record};
use std::sync::Arc;

impl Sync {
    /// Makes a commit of a delta, or one that announces a checkpoint, publishes it and takes it in. The caller has the turn, and no other
    /// commit is on its way.
    ///
    /// # Errors
    /// [`SyncError::Renewed`] if this device goes on under another identity; what the remote or the disk says. Once its record is fixed in the journal, the commit is published by whoever has the next turn.
    pub(crate) async fn commit_outright(
        self: &Arc<Self>,
        delta: Delta,
        checkpoint: Option<Announced>,
    ) -> Result<(), SyncError> {
        let (device, id) = (self.volume.device(), self.device());
        let (seq, hlc) = self.volume.next_stamp();
        let parents = self.volume.heads();
        let mut record = Record {
            rules: self.rules(),
            device,
            seq,
            line: self.line(),
            parents: parents.iter().map(|(device, head)| (*device, head.seq, head.hash)).collect(),
            previous: parents.get(&device).map(|head| head.hash),
            hlc,
            message: String::new(),
            digest: self.volume.digest().0,
            acknowledged: self.acknowledged(),
            body: checkpoint.as_ref().map_or(Body::Delta(delta), |made| Body::Checkpoint(announcement(made))),
        };
        self.blocking(move |sync| {
            let made = sync.repo.seal_record(&record, &[])?;
            let delta = match &mut record.body {
                Body::Delta(delta) => std::mem::take(delta),
                Body::DeltaBlobs(_) | Body::Checkpoint(_) => Delta::default(),
            };
            let (hash, message) = (made.hash, String::new());
            let commit = Commit { device, seq, hash, hlc, parents, message, delta, checkpoint };
            sync.volume.fix_outright(commit, Arc::from(made.bytes.as_ref()))?;
            Ok::<(), SyncError>(())
        })
        .await??;
        self.finish_outright().await?;
        // What an import took in goes along and is committed with all else; who asked knows ids that are none any more.
        if self.device() == id { Ok(()) } else { Err(SyncError::Renewed) }
    }

    /// Publishes a commit that was fixed outright and is not confirmed yet.
    pub(crate) async fn finish_outright(self: &Arc<Self>) -> Result<(), SyncError> {
        let Some((commit, bytes)) = self.volume.outright() else { return Ok(()) };
        if self.check_name().await? {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(&bytes);
        let published = self.repo.publish_record(commit.device, self.device(), commit.seq, bytes).await;
        match self.outlive_copy(published.map_err(SyncError::from)).await? {
            Some(()) => self.with_all(|sync| sync.volume.confirm_outright()).await,
            None => Ok(()),
        }
    }
}
