//! Pushing: from the overlay to a commit that is durable on the remote.

use crate::collection::LOOK_BEFORE_PUT_MS;
use crate::content::Stored;
use crate::status::Cost;
use crate::{Sync, SyncError};
use bytes::Bytes;
use ouro_core::codec::{decode_delta, encode_delta};
use ouro_core::content::Locator;
use ouro_core::delta::Delta;
use ouro_core::id::{BlobId, FileId, RecordHash, Version};
use ouro_local::volume::{Sealed, VolumeError};
use ouro_repo::{Body, Record, RepoError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A delta of more files than this is kept in packs instead of in the record.
pub(crate) const BULK_FILES: usize = 10_000;

/// Identities that one push takes at most: a copy made while another one was being taken takes that, too.
const RENEWALS_MAX: usize = 3;

/// Lost files, and incomplete ones, that are named; older ones are in the log only.
const LOST_MAX: usize = 64;

impl Sync {
    /// Publishes what was changed so far as one commit. False if nothing was.
    ///
    /// A crash at any point is safe: before the record is fixed the generation is stored again (packs that are durable are not sent again);
    /// after it, the same bytes are published until they are there.
    ///
    /// # Errors
    /// Anything the remote or the disk says. That another machine writes as this device is none: this one goes on as another device.
    pub async fn push(self: &Arc<Self>) -> Result<bool, SyncError> {
        self.look_before_publishing().await?;
        let _turn = self.turn.lock().await;
        self.finish_outright().await?;
        let Some(sealed) = self.with_all(|sync| sync.volume.seal()).await? else { return Ok(false) };
        self.tell(|status| status.pushing = true);
        let outcome = self.push_anyhow(sealed).await;
        self.tell(|status| status.pushing = false);
        outcome.map(|_| true)
    }

    /// Looks for collections if something is to be published and the last time is long ago: what this device takes for stored may be gone, and the
    /// next name of its log may have been a copy's and be free again. The caller does not have the turn.
    pub(crate) async fn look_before_publishing(self: &Arc<Self>) -> Result<(), SyncError> {
        let publishes = self.has_unpublished() || self.volume.has_sealable();
        if publishes { self.look_if_due(LOOK_BEFORE_PUT_MS).await } else { Ok(()) }
    }

    /// Whether something was changed here that is not on the remote, as far as this device knows.
    pub(crate) fn has_unpublished(&self) -> bool {
        let waiting = self.volume.counts();
        waiting.pending + waiting.sealed > 0 || self.volume.outright().is_some()
    }

    /// Publishes a sealed generation, as another device if it turns out that a copy of this one runs. Returns the version it got at last. The
    /// caller has the turn.
    pub(crate) async fn push_anyhow(self: &Arc<Self>, sealed: Sealed) -> Result<Version, SyncError> {
        let mut sealed = sealed;
        for _ in 0..RENEWALS_MAX {
            let published = match self.push_sealed(&sealed).await {
                Err(SyncError::Renewed) => None,
                outcome => self.outlive_copy(outcome).await?,
            };
            match self.volume.sealed() {
                Some(renewed) if published.is_none() => sealed = renewed,
                // It is there, or a former self of this device had published all of it.
                _ => return Ok(sealed.version),
            }
        }
        self.push_sealed(&sealed).await.map(|()| sealed.version)
    }

    /// Publishes a sealed generation and takes it into the committed state. The caller has the turn.
    pub(crate) async fn push_sealed(self: &Arc<Self>, sealed: &Sealed) -> Result<(), SyncError> {
        let began = self.ports.clock.monotonic_ns();
        let before = self.repo.store().usage();
        let (record, hash) = match &sealed.record {
            Some((bytes, hash)) => (Bytes::copy_from_slice(bytes), *hash),
            None => self.make_record(sealed).await?,
        };
        if self.check_name().await? {
            return Err(SyncError::Renewed);
        }
        let Version { seq, device, .. } = sealed.version;
        self.repo.publish_record(device, self.device(), seq, record.clone()).await?;
        // What is durable is read back from the very bytes: the contents have their places then.
        let (opened, inline) = self.open_own(sealed, hash, &record)?;
        let delta = self.delta_of(opened.body).await?;
        let files = delta.files.len() as u64;
        self.volume.locations().insert_many(&inline)?;
        let delta = Arc::new(delta);
        self.with_all(move |sync| sync.volume.confirm(Delta::clone(&delta))).await?;
        let after = self.repo.store().usage();
        let inline_bytes: u64 = inline.iter().map(|(_, at)| u64::from(at.len)).sum();
        let cost = Cost {
            puts: after.puts - before.puts,
            bytes: after.bytes_out - before.bytes_out,
            index_bytes: (record.len() as u64).saturating_sub(inline_bytes),
            files,
            millis: (self.ports.clock.monotonic_ns() - began) / 1_000_000,
        };
        self.tell(|status| {
            status.commits += 1;
            status.last_commit = Some(cost);
        });
        Ok(())
    }

    fn open_own(
        &self,
        sealed: &Sealed,
        hash: RecordHash,
        bytes: &Bytes,
    ) -> Result<(Record, Vec<(BlobId, Locator)>), SyncError> {
        let (record, found, inline) = self.repo.open_record(self.device(), sealed.version.seq, bytes)?;
        debug_assert_eq!(found, hash, "the journal keeps the very bytes");
        Ok((record, inline))
    }

    /// Stores the contents and fixes the record's bytes in the journal.
    async fn make_record(self: &Arc<Self>, sealed: &Sealed) -> Result<(Bytes, RecordHash), SyncError> {
        let bulk = sealed.files.len() > BULK_FILES;
        let mut sealed = self.hold_references(sealed.clone()).await?;
        let mut gone = Arc::new(BTreeSet::new());
        let Stored { mut contents, inline } = loop {
            match self.store_contents(&sealed, bulk, &gone).await {
                Err(SyncError::Volume(VolumeError::Lost { file })) => sealed = self.leave_out(file).await?,
                Err(SyncError::Repo(error @ RepoError::BlobGone { blob, .. })) if !gone.contains(&blob) => {
                    Arc::make_mut(&mut gone).extend(self.go_without(blob, error).await?);
                    sealed = self.volume.sealed().ok_or(SyncError::Stopped)?;
                }
                stored => break stored?,
            }
        };
        let mut files = sealed.files.to_vec();
        for file in &mut files {
            if let (Some(added), Some(content)) = (file.content.as_mut(), contents.remove(&file.id)) {
                added.value = Some(content);
            }
        }
        let delta = Delta { files };
        let body = if bulk {
            let encoded = self.blocking(move |_| Bytes::from(encode_delta(&delta))).await?;
            Body::DeltaBlobs(self.repo.store_bytes(&encoded).await?)
        } else {
            Body::Delta(delta)
        };
        let own = sealed.parents.get(&self.volume.device());
        let record = Record {
            rules: self.rules(),
            device: self.volume.device(),
            seq: sealed.version.seq,
            line: self.line(),
            parents: sealed.parents.iter().map(|(device, head)| (*device, head.seq, head.hash)).collect(),
            previous: own.map(|head| head.hash),
            hlc: sealed.version.hlc,
            message: sealed.message.clone(),
            digest: sealed.digest.0,
            acknowledged: self.acknowledged(),
            body,
        };
        self.blocking(move |sync| {
            let made = sync.repo.seal_record(&record, &inline)?;
            sync.volume.fix_record(Arc::from(made.bytes.as_ref()), made.hash)?;
            Ok((made.bytes, made.hash))
        })
        .await?
    }

    /// Goes on without the content of a file whose bytes are lost, says so, and returns what is left of the generation.
    async fn leave_out(self: &Arc<Self>, file: FileId) -> Result<Sealed, SyncError> {
        let path = self.with_all(move |sync| sync.volume.leave_out(file)).await?;
        let Some(path) = path else { return Err(VolumeError::Lost { file }.into()) };
        tracing::error!(
            file = file.0,
            path,
            "bytes written on this device are lost: the file is as it was committed last"
        );
        self.tell(|status| {
            status.lost.push(path);
            if status.lost.len() > LOST_MAX {
                status.lost.remove(0);
            }
        });
        self.volume.sealed().ok_or(SyncError::Stopped)
    }

    /// Goes on without what a collection took from under files that were changed in part: others had deleted or replaced them, and this device
    /// was not waited for. Returns all the blobs below these files that are gone. `error` is returned if nothing sealed stands on `blob`, and if
    /// every collection waited for this device: then the storage is damaged, and what is missing may come back.
    async fn go_without(self: &Arc<Self>, blob: BlobId, error: RepoError) -> Result<BTreeSet<BlobId>, SyncError> {
        let below = self.blocking(move |sync| sync.volume.below_sealed(blob)).await?;
        if below.is_empty() || !self.may_miss_bytes().await? {
            return Err(error.into());
        }
        let mut gone = BTreeSet::from([blob]);
        for part in below.into_iter().filter(|part| part.id != blob) {
            match self.fetch_blobs(vec![part]).await {
                Err(SyncError::Repo(RepoError::BlobGone { blob, .. })) => drop(gone.insert(blob)),
                outcome => outcome?,
            }
        }
        let paths = self.with_all(move |sync| sync.volume.stand_beside(blob)).await?;
        tracing::error!(?paths, "parts that were never on this device were collected meanwhile: zeros stand there");
        self.tell(|status| {
            let news: Vec<String> = paths.into_iter().filter(|path| !status.incomplete.contains(path)).collect();
            status.incomplete.extend(news);
            let excess = status.incomplete.len().saturating_sub(LOST_MAX);
            status.incomplete.drain(..excess);
        });
        Ok(gone)
    }

    /// The delta that a record says, fetched if it is kept in packs.
    pub(crate) async fn delta_of(self: &Arc<Self>, body: Body) -> Result<Delta, SyncError> {
        match body {
            Body::Delta(delta) => Ok(delta),
            Body::Checkpoint(_) => Ok(Delta::default()),
            Body::DeltaBlobs(blobs) => {
                let mut encoded = Vec::new();
                for blob in &blobs {
                    encoded.extend_from_slice(&self.repo.fetch_blob(blob).await?);
                }
                self.blocking(move |_| decode_delta(&encoded)).await?.map_err(|error| SyncError::BulkDelta { error })
            }
        }
    }
}
