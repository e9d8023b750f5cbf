//! The last stage of a pipeline: sealed pieces into packs, packs to the remote, word to the sink.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ouro_core::codec::encode_block_list;
use ouro_core::content::{BlobRef, CHUNKS_IN_ENTRY_MAX, Content};
use ouro_core::id::BlobId;

use crate::blob::{SealedBlob, Sealer};
use crate::error::RepoError;
use crate::frame::Effort;
use crate::pack::{FinishedPack, Packer};
use crate::pipeline::{Known, Piece, Pipeline, Placed, Produced, Sink, Totals};
use crate::repository::Repository;

/// The source that is being put together.
#[derive(Default)]
struct Current {
    chunks: Vec<BlobRef>,
    inline: Option<Vec<u8>>,
    /// Packs of this run that must be published before the source is stored.
    packs_needed: u64,
}

/// A source that waits for its packs.
struct Waiting {
    tag: u64,
    content: io::Result<Content>,
    packs_needed: u64,
}

/// Puts what the workers give into packs, uploads these, and tells the sink.
pub(crate) struct Assembly<'a> {
    repo: &'a Repository,
    known: &'a dyn Known,
    effort: Effort,
    sink: &'a mut dyn Sink,
    packer: Packer,
    placed: Placed,
    /// How many units may have been in work when a pack was published.
    units_ahead: u64,
    /// Units put into packs so far.
    units: u64,
    /// Blobs of published packs, with the number of units after which nobody who looked before they were placed is left.
    retired: VecDeque<(u64, Vec<BlobId>)>,
    /// Blobs of the last unit and their places, for [`Piece::Again`].
    unit: HashMap<BlobId, (BlobRef, u64)>,
    current: Current,
    waiting: VecDeque<Waiting>,
    pub(crate) uploads: FuturesUnordered<BoxFuture<'static, Result<(u64, FinishedPack), RepoError>>>,
    /// Number of the open pack; those below are closed.
    pack_open: u64,
    /// Packs below this are published.
    packs_done: u64,
    /// Packs from `packs_done` on that are published already.
    done_early: HashSet<u64>,
    totals: Totals,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, placed: Placed, sink: &'a mut dyn Sink) -> Assembly<'a> {
        let effort = pipeline.options.effort;
        Assembly {
            repo: &pipeline.repo,
            known: pipeline.known.as_ref(),
            effort,
            sink,
            packer: pipeline.repo.packer_with(effort),
            placed,
            units_ahead: pipeline.options.workers.max(1) as u64 + 2,
            units: 0,
            retired: VecDeque::new(),
            unit: HashMap::new(),
            current: Current::default(),
            waiting: VecDeque::new(),
            uploads: FuturesUnordered::new(),
            pack_open: 0,
            packs_done: 0,
            done_early: HashSet::new(),
            totals: Totals::default(),
        }
    }

    pub(crate) fn place(&mut self, unit: Vec<Produced>) -> Result<(), RepoError> {
        self.unit.clear();
        self.units += 1;
        while let Some((_, blobs)) = self.retired.pop_front_if(|(until, _)| *until < self.units) {
            let mut placed = self.placed.write();
            for id in &blobs {
                placed.remove(id);
            }
        }
        for produced in unit {
            for piece in produced.pieces {
                self.place_piece(piece)?;
            }
            if let Some(end) = produced.end {
                self.end_source(produced.tag, end)?;
            }
        }
        self.report()
    }

    fn place_piece(&mut self, piece: Piece) -> Result<(), RepoError> {
        let (blob, packs_needed) = match piece {
            Piece::Inline(bytes) => {
                self.totals.bytes_read += bytes.len() as u64;
                self.current.inline = Some(bytes);
                return Ok(());
            }
            Piece::Known(blob, packs_needed) => {
                self.totals.bytes_known += u64::from(blob.len);
                (blob, packs_needed)
            }
            Piece::Again(id, len) => {
                self.totals.bytes_known += u64::from(len);
                *self.unit.get(&id).expect("the same unit gave the blob before")
            }
            Piece::New(sealed) => {
                let placed = self.placed.read().get(&sealed.id).copied();
                let found = match placed {
                    Some((blob, pack)) => {
                        // Another unit sealed the same bytes at the same time.
                        self.totals.bytes_known += u64::from(blob.len);
                        (blob, pack + 1)
                    }
                    None => self.add(&sealed)?,
                };
                self.unit.insert(sealed.id, found);
                found
            }
        };
        self.totals.bytes_read += u64::from(blob.len);
        self.current.chunks.push(blob);
        self.current.packs_needed = self.current.packs_needed.max(packs_needed);
        Ok(())
    }

    /// Puts a blob into the open pack and starts the upload of the one before if it is full.
    fn add(&mut self, sealed: &SealedBlob) -> Result<(BlobRef, u64), RepoError> {
        let (blob, full) = self.packer.add_sealed(sealed)?;
        if let Some(pack) = full {
            self.upload(pack);
        }
        self.placed.write().insert(blob.id, (blob, self.pack_open));
        Ok((blob, self.pack_open + 1))
    }

    fn upload(&mut self, pack: FinishedPack) {
        let (repo, number) = (self.repo.clone(), self.pack_open);
        self.pack_open += 1;
        self.uploads.push(Box::pin(async move {
            repo.publish_pack(&pack).await?;
            Ok((number, pack))
        }));
    }

    fn end_source(&mut self, tag: u64, end: io::Result<()>) -> Result<(), RepoError> {
        let mut source = std::mem::take(&mut self.current);
        let content = match (end, source.inline.take()) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(bytes)) => Ok(Content::Inline(bytes.into())),
            (Ok(()), None) if source.chunks.is_empty() => Ok(Content::empty()),
            (Ok(()), None) if source.chunks.len() <= CHUNKS_IN_ENTRY_MAX => Ok(Content::Chunks(source.chunks.into())),
            (Ok(()), None) => {
                let size = source.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
                let (list, packs_needed) = self.place_list(&source.chunks)?;
                source.packs_needed = source.packs_needed.max(packs_needed);
                Ok(Content::BlockList { list, size })
            }
        };
        match content {
            Ok(_) => self.totals.sources += 1,
            Err(_) => self.totals.failed += 1,
        }
        self.waiting.push_back(Waiting { tag, content, packs_needed: source.packs_needed });
        Ok(())
    }

    /// Stores the list of a large file's chunks, unless this run has. One of an earlier run has the same id, but may say where the chunks were before a
    /// collection took them from there; to store it again costs 70 bytes for each chunk.
    fn place_list(&mut self, chunks: &[BlobRef]) -> Result<(BlobRef, u64), RepoError> {
        let sealed = Sealer::new(self.repo.clone(), self.effort).seal_list(chunks)?;
        self.known.passing(&sealed.id, &encode_block_list(chunks));
        let placed = self.placed.read().get(&sealed.id).copied();
        if let Some((list, pack)) = placed {
            return Ok((list, pack + 1));
        }
        self.add(&sealed)
    }

    pub(crate) async fn await_upload(&mut self) -> Result<(), RepoError> {
        match self.uploads.next().await {
            Some(done) => self.uploaded(done?),
            None => Ok(()),
        }
    }

    pub(crate) fn uploaded(&mut self, (number, pack): (u64, FinishedPack)) -> Result<(), RepoError> {
        self.totals.packs += 1;
        self.totals.bytes_uploaded += pack.bytes.len() as u64;
        self.sink.packed(pack.id, &pack.blobs).map_err(|source| RepoError::Sink { source })?;
        let blobs = pack.blobs.iter().map(|blob| blob.id).collect();
        self.retired.push_back((self.units + self.units_ahead, blobs));
        self.done_early.insert(number);
        while self.done_early.remove(&self.packs_done) {
            self.packs_done += 1;
        }
        self.report()
    }

    /// Tells the sink of every source whose packs are published, in order.
    fn report(&mut self) -> Result<(), RepoError> {
        while let Some(source) = self.waiting.pop_front_if(|source| source.packs_needed <= self.packs_done) {
            self.sink.stored(source.tag, source.content).map_err(|source| RepoError::Sink { source })?;
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<Totals, RepoError> {
        let packer = std::mem::replace(&mut self.packer, self.repo.packer_with(self.effort));
        if let Some(last) = packer.finish()? {
            self.upload(last);
        }
        while !self.uploads.is_empty() {
            self.await_upload().await?;
        }
        self.report()?;
        Ok(self.totals)
    }
}
