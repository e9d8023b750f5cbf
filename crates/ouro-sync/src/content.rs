//! Contents of a sealed generation: cut into chunks and stored, or small enough for the record.

use crate::layer_reader::{Lacks, LayerReader};
use crate::{Sync, SyncError};
use bytes::Bytes;
use ouro_core::content::{BlobRef, Content, INLINE_BYTES_MAX, Locator};
use ouro_core::id::{BlobId, FileId, PackId};
use ouro_local::locations::Locations;
use ouro_local::volume::{Sealed, SealedFile, Volume, VolumeError};
use ouro_repo::{
    INLINE_BLOB_BYTES_MAX, INLINE_TOTAL_BYTES_MAX, Known, Pipeline, PipelineOptions, Sink, SinkError, Source,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Rounds of fetching what lies under partly rewritten files before giving up.
const ROUNDS_MAX: usize = 100_000;

/// What the contents of a generation became.
#[derive(Default)]
pub(crate) struct Stored {
    /// By file.
    pub(crate) contents: BTreeMap<FileId, Content>,
    /// Blobs that travel in the record.
    pub(crate) inline: Vec<(BlobId, Bytes)>,
}

/// What the repository holds already, and where plain chunks are kept on this device as they pass.
struct Keeper {
    locations: Arc<Locations>,
    volume: Arc<Volume>,
}

impl Known for Keeper {
    fn locate(&self, blob: &BlobId) -> Option<Locator> {
        // A database that fails costs a second upload, nothing else.
        self.locations.get(blob).ok().flatten()
    }

    fn passing(&self, blob: &BlobId, plain: &[u8]) {
        // A full cache is no reason not to upload: the chunk is then online only.
        if let Err(error) = self.volume.blobs().put(*blob, plain) {
            tracing::debug!(%error, "a chunk is not kept in the cache");
        }
    }
}

/// Notes what the pipeline has done.
struct Notes<'a> {
    locations: &'a Locations,
    contents: &'a mut BTreeMap<FileId, Content>,
    failed: Vec<(FileId, io::Error)>,
}

impl Sink for Notes<'_> {
    fn packed(&mut self, _: PackId, blobs: &[BlobRef]) -> Result<(), SinkError> {
        let located: Vec<(BlobId, Locator)> = blobs.iter().filter_map(|b| Some((b.id, b.at?))).collect();
        Ok(self.locations.insert_many(&located)?)
    }

    fn stored(&mut self, tag: u64, content: io::Result<Content>) -> Result<(), SinkError> {
        match content {
            Ok(content) => {
                self.contents.insert(FileId(tag), content);
            }
            Err(error) => self.failed.push((FileId(tag), error)),
        }
        Ok(())
    }
}

impl Sync {
    /// Stores the contents of a sealed generation. Everything they refer to is durable on the remote, or in the returned inline blobs. What lies
    /// below a file in one of the blobs in `gone` is zeros.
    ///
    /// # Errors
    /// [`VolumeError::Lost`] for a file whose bytes are on no disk any more.
    pub(crate) async fn store_contents(
        self: &Arc<Self>,
        sealed: &Sealed,
        bulk: bool,
        gone: &Arc<BTreeSet<BlobId>>,
    ) -> Result<Stored, SyncError> {
        let sizes = || sealed.files.iter().filter_map(|f| f.source().map(Content::size));
        let (largest, total) = (sizes().max().unwrap_or(0), sizes().sum::<u64>());
        if !bulk && largest <= INLINE_BLOB_BYTES_MAX as u64 && total <= INLINE_TOTAL_BYTES_MAX as u64 {
            let (sealed, gone) = (sealed.clone(), Arc::clone(gone));
            return self.with_all(move |sync| sync.inline_contents(&sealed, &gone)).await;
        }
        let mut stored = Stored::default();
        self.pack_contents(sealed, gone, &mut stored.contents).await?;
        Ok(stored)
    }

    fn inline_contents(&self, sealed: &Sealed, gone: &BTreeSet<BlobId>) -> Result<Stored, VolumeError> {
        let mut stored = Stored::default();
        let mut taken = BTreeSet::new();
        for file in sealed.files.iter() {
            let Some(source) = file.source() else { continue };
            let mut bytes = vec![0; source.size() as usize];
            self.volume.read_layer(file.id, source, 0, &mut bytes, gone)?;
            if bytes.len() <= INLINE_BYTES_MAX {
                stored.contents.insert(file.id, Content::Inline(bytes.into()));
                continue;
            }
            let id = self.repo.blob_id(&bytes);
            let at = self.volume.locations().get(&id)?;
            let blob = BlobRef { id, len: bytes.len() as u32, at };
            let bytes = Bytes::from(bytes);
            self.volume.blobs().put(id, &bytes)?;
            if at.is_none() && taken.insert(id) {
                stored.inline.push((id, bytes));
            }
            stored.contents.insert(file.id, Content::Chunks(Arc::from([blob])));
        }
        Ok(stored)
    }

    /// Sends the contents through the pipeline; files of which a part must be fetched first are read again afterwards.
    async fn pack_contents(
        self: &Arc<Self>,
        sealed: &Sealed,
        gone: &Arc<BTreeSet<BlobId>>,
        contents: &mut BTreeMap<FileId, Content>,
    ) -> Result<(), SyncError> {
        let locations = Arc::clone(self.volume.locations());
        let keeper = Keeper { locations: Arc::clone(&locations), volume: Arc::clone(&self.volume) };
        let pipeline = Pipeline::new(self.repo.clone(), Arc::new(keeper), PipelineOptions::default());
        let lacks = Arc::new(Mutex::new(Lacks::default()));
        let mut left: Option<BTreeSet<FileId>> = None;
        for _ in 0..ROUNDS_MAX {
            let sources = sealed.files.iter().filter_map(|file| {
                let content = file.source()?.clone();
                if left.as_ref().is_some_and(|left| !left.contains(&file.id)) {
                    return None;
                }
                let (volume, lacks, gone) = (Arc::clone(&self.volume), Arc::clone(&lacks), Arc::clone(gone));
                let id = file.id;
                let bytes_expected = content.size();
                let open = move || -> io::Result<Box<dyn io::Read + Send>> {
                    Ok(Box::new(LayerReader::new(volume, (id, content), gone, lacks)))
                };
                Some(Source { tag: id.0, bytes_expected, open: Box::new(open) })
            });
            let mut notes = Notes { locations: &locations, contents, failed: Vec::new() };
            pipeline.run(sources, &mut notes).await?;
            let failed = notes.failed;
            if failed.is_empty() {
                return Ok(());
            }
            let Lacks { blobs: wanted, lost } = std::mem::take(&mut *lacks.lock());
            if let Some(&file) = lost.first() {
                return Err(VolumeError::Lost { file }.into());
            }
            if wanted.is_empty() {
                let (file, error) = &failed[0];
                tracing::error!(?file, %error, "a file that was sealed cannot be read");
                return Err(SyncError::Volume(VolumeError::Gone));
            }
            self.fetch_blobs(wanted).await?;
            left = Some(failed.into_iter().map(|(file, _)| file).collect());
        }
        Err(SyncError::BlobLost)
    }
}
