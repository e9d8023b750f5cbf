//! Files into packs, over all cores.
//!
//! Sources are read, cut, hashed, compressed and encrypted in *units* of a few megabytes on several threads at once; the units' results
//! are put into packs in the order of the sources, so files that belong together lie together; full packs are uploaded beside that. A large
//! file is read in one thread, unit by unit, while others compress what was read.
//!
//! Only units and packs in flight are in memory: about `(workers + 1) × 2 × `[`UNIT_BYTES`]` + (uploads + 1) × `[`PACK_BYTES`](crate::PACK_BYTES).

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use ouro_core::content::{BlobRef, Content, INLINE_BYTES_MAX, Locator};
use ouro_core::id::{BlobId, PackId};
use parking_lot::RwLock;

use crate::assembly::Assembly;
use crate::blob::{SealedBlob, Sealer};
use crate::cut::Cutter;
use crate::error::RepoError;
use crate::frame::Effort;
use crate::repository::Repository;

/// Plain bytes that one thread works on at a time.
const UNIT_BYTES: u64 = 4 << 20;
/// Small files that one thread works on at a time.
const UNIT_SOURCES: usize = 512;
/// A file announced as small may turn out to be this large at most; beyond, it is still growing and has to be announced anew.
const SMALL_SOURCE_BYTES_MAX: u64 = 64 << 20;

/// Opens a source's bytes; called on a blocking thread, once.
pub type Open = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

/// A file to be stored.
pub struct Source {
    /// What the caller calls it.
    pub tag: u64,
    /// Its size in bytes as far as the caller knows; need not be exact.
    pub bytes_expected: u64,
    /// Its bytes.
    pub open: Open,
}

/// What is stored in the repository already, as far as this device knows.
///
/// Called from several threads at once. What [`Sink::packed`] was told should be found here afterwards.
pub trait Known: Send + Sync + 'static {
    /// Where a blob lies.
    fn locate(&self, blob: &BlobId) -> Option<Locator>;

    /// The plain bytes of a blob pass by, stored before or not: a cache may keep them.
    fn passing(&self, _blob: &BlobId, _plain: &[u8]) {}
}

/// Why a sink refuses.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Takes what the pipeline has done.
pub trait Sink: Send {
    /// A pack is durable on the remote. Noting its blobs durably lets a later run go on from here.
    ///
    /// # Errors
    ///
    /// Ends the run with [`RepoError::Sink`].
    fn packed(&mut self, pack: PackId, blobs: &[BlobRef]) -> Result<(), SinkError>;

    /// A source is stored: everything its content refers to is durable on the remote. Comes in the order of the sources. An error is the
    /// reader's; the other sources go on.
    ///
    /// # Errors
    ///
    /// Ends the run with [`RepoError::Sink`].
    fn stored(&mut self, tag: u64, content: io::Result<Content>) -> Result<(), SinkError>;
}

/// How much a pipeline does at once.
#[derive(Clone, Copy, Debug)]
pub struct PipelineOptions {
    /// Units in work: one per core.
    pub workers: usize,
    /// Packs being uploaded.
    pub uploads: usize,
    /// How hard to compress.
    pub effort: Effort,
}

impl Default for PipelineOptions {
    fn default() -> PipelineOptions {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        PipelineOptions { workers, uploads: 3, effort: Effort::Quick }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sources stored.
    pub sources: u64,
    /// Sources that could not be read.
    pub failed: u64,
    /// Plain bytes read.
    pub bytes_read: u64,
    /// Plain bytes that were stored before, in this run or another.
    pub bytes_known: u64,
    /// Bytes uploaded, packs as a whole.
    pub bytes_uploaded: u64,
    /// Packs uploaded.
    pub packs: u64,
}

/// Stores files: see the module's head.
pub struct Pipeline {
    pub(crate) repo: Repository,
    pub(crate) known: Arc<dyn Known>,
    pub(crate) options: PipelineOptions,
}

impl Pipeline {
    /// A pipeline into `repo` that stores nothing which `known` knows.
    pub fn new(repo: Repository, known: Arc<dyn Known>, options: PipelineOptions) -> Pipeline {
        Pipeline { repo, known, options }
    }

    /// Stores all sources. Order of effects for each: its packs are published, [`Sink::packed`], [`Sink::stored`].
    ///
    /// Dropping the future loses at most the packs that were not reported: their blobs are stored again by the next run.
    ///
    /// # Errors
    ///
    /// The first one from the storage or the sink; what was reported until then stays stored.
    pub async fn run<I>(&self, sources: I, sink: &mut dyn Sink) -> Result<Totals, RepoError>
    where
        I: Iterator<Item = Source> + Send,
    {
        let placed = Placed::default();
        let worker = Worker {
            repo: self.repo.clone(),
            known: self.known.clone(),
            placed: placed.clone(),
            effort: self.options.effort,
        };
        let units = self
            .units(sources)
            .map(move |unit| {
                let worker = worker.clone();
                async move {
                    let repo = worker.repo.clone();
                    let unit = unit?;
                    repo.blocking(move || worker.work(unit)).await?
                }
            })
            .buffered(self.options.workers.max(1) + 1)
            .fuse();
        futures::pin_mut!(units);
        let mut assembly = Assembly::new(self, placed, sink);
        loop {
            if assembly.uploads.len() >= self.options.uploads.max(1) {
                assembly.await_upload().await?;
                continue;
            }
            futures::select_biased! {
                done = assembly.uploads.select_next_some() => assembly.uploaded(done?)?,
                produced = units.next() => match produced {
                    Some(produced) => assembly.place(produced?)?,
                    None => break,
                },
            }
        }
        assembly.finish().await
    }

    /// Cuts the sources into units: many small ones, or a part of a large one.
    fn units<I>(&self, sources: I) -> impl Stream<Item = Result<Unit, RepoError>> + Send + use<'_, I>
    where
        I: Iterator<Item = Source> + Send,
    {
        let state = Reading { sources: sources.fuse(), next: None, large: None };
        stream::try_unfold(state, move |mut state| async move {
            if state.large.is_none() {
                let small = state.take_small();
                if !small.is_empty() {
                    return Ok(Some((Unit::Small(small), state)));
                }
                let Some(source) = state.next.take() else {
                    return Ok(None);
                };
                state.large = Some(Large::Closed(source));
            }
            let large = state.large.take().expect("a large source is at hand");
            let repo = self.repo.clone();
            let (unit, rest) = self.repo.blocking(move || large.read_part(&repo)).await?;
            state.large = rest;
            Ok(Some((unit, state)))
        })
    }
}

/// Where the reading of sources stands.
struct Reading<I: Iterator<Item = Source>> {
    sources: std::iter::Fuse<I>,
    next: Option<Source>,
    large: Option<Large>,
}

impl<I: Iterator<Item = Source>> Reading<I> {
    /// The next sources, as long as they are small and one unit holds them; the first large one stays in `next`.
    fn take_small(&mut self) -> Vec<Source> {
        let mut small = Vec::new();
        let mut bytes = 0;
        loop {
            if self.next.is_none() {
                self.next = self.sources.next();
            }
            let fits = |source: &mut Source| {
                source.bytes_expected < UNIT_BYTES && (small.is_empty() || bytes + source.bytes_expected <= UNIT_BYTES)
            };
            let Some(source) = self.next.take_if(fits) else {
                return small;
            };
            bytes += source.bytes_expected;
            small.push(source);
            if small.len() == UNIT_SOURCES {
                return small;
            }
        }
    }
}

/// A large source on its way.
enum Large {
    Closed(Source),
    Open(u64, Cutter<Box<dyn Read + Send>>),
}

impl Large {
    /// Reads and cuts about a unit's worth of bytes.
    fn read_part(self, repo: &Repository) -> (Unit, Option<Large>) {
        let (tag, mut cutter) = match self {
            Large::Open(tag, cutter) => (tag, cutter),
            Large::Closed(source) => match (source.open)() {
                Ok(reader) => (source.tag, repo.cutter(reader, source.bytes_expected)),
                Err(error) => return (Unit::Part { tag: source.tag, chunks: Vec::new(), end: Some(Err(error)) }, None),
            },
        };
        let mut chunks = Vec::new();
        let mut bytes = 0;
        while bytes < UNIT_BYTES {
            match cutter.next_chunk() {
                Ok(Some(chunk)) => {
                    bytes += chunk.len() as u64;
                    chunks.push(chunk.to_vec());
                }
                Ok(None) => return (Unit::Part { tag, chunks, end: Some(Ok(())) }, None),
                Err(error) => return (Unit::Part { tag, chunks, end: Some(Err(error)) }, None),
            }
        }
        (Unit::Part { tag, chunks, end: None }, Some(Large::Open(tag, cutter)))
    }
}

/// Work for one thread.
enum Unit {
    Small(Vec<Source>),
    Part { tag: u64, chunks: Vec<Vec<u8>>, end: Option<io::Result<()>> },
}

/// A piece of a source's content.
pub(crate) enum Piece {
    /// The whole of a tiny file.
    Inline(Vec<u8>),
    /// Stored before. The number is that of the pack of this run which must be published first, plus one; 0 if none.
    Known(BlobRef, u64),
    /// Sealed earlier in the same unit.
    Again(BlobId, u32),
    /// New, with its plain length.
    New(SealedBlob),
}

/// What became of a source, or of a part of it.
pub(crate) struct Produced {
    pub(crate) tag: u64,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) end: Option<io::Result<()>>,
}

/// Blobs in packs of this run that are not published, or were published only just now, each with the number of its pack.
pub(crate) type Placed = Arc<RwLock<HashMap<BlobId, (BlobRef, u64)>>>;

#[derive(Clone)]
struct Worker {
    repo: Repository,
    known: Arc<dyn Known>,
    placed: Placed,
    effort: Effort,
}

impl Worker {
    fn work(&self, unit: Unit) -> Result<Vec<Produced>, RepoError> {
        let mut sealer = Sealer::new(self.repo.clone(), self.effort);
        let mut sealed = HashSet::new();
        match unit {
            Unit::Small(sources) => {
                sources.into_iter().map(|source| self.work_small(source, &mut sealer, &mut sealed)).collect()
            }
            Unit::Part { tag, chunks, end } => {
                let pieces = chunks.iter().map(|chunk| self.piece(chunk, &mut sealer, &mut sealed));
                Ok(vec![Produced { tag, pieces: pieces.collect::<Result<_, _>>()?, end }])
            }
        }
    }

    fn work_small(
        &self,
        source: Source,
        sealer: &mut Sealer,
        sealed: &mut HashSet<BlobId>,
    ) -> Result<Produced, RepoError> {
        let mut pieces = Vec::new();
        let reader = match (source.open)() {
            Ok(reader) => reader,
            Err(error) => return Ok(Produced { tag: source.tag, pieces, end: Some(Err(error)) }),
        };
        let mut cutter = self.repo.cutter(reader.take(SMALL_SOURCE_BYTES_MAX + 1), source.bytes_expected);
        let mut bytes = 0;
        let end = loop {
            match cutter.next_chunk() {
                Ok(Some(chunk)) => {
                    bytes += chunk.len() as u64;
                    if bytes > SMALL_SOURCE_BYTES_MAX {
                        break Err(io::Error::other("the file grows while it is read"));
                    }
                    // A chunk this short, first of all, is the whole file: only a file's last chunk is below the least size.
                    if pieces.is_empty() && chunk.len() <= INLINE_BYTES_MAX {
                        pieces.push(Piece::Inline(chunk.to_vec()));
                    } else {
                        pieces.push(self.piece(chunk, sealer, sealed)?);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        Ok(Produced { tag: source.tag, pieces, end: Some(end) })
    }

    fn piece(&self, chunk: &[u8], sealer: &mut Sealer, sealed: &mut HashSet<BlobId>) -> Result<Piece, RepoError> {
        let (id, len) = (self.repo.blob_id(chunk), chunk.len() as u32);
        self.known.passing(&id, chunk);
        if sealed.contains(&id) {
            return Ok(Piece::Again(id, len));
        }
        // First what is on its way, then what is known: blobs come to the second before they leave the first.
        if let Some((blob, pack)) = self.placed.read().get(&id) {
            return Ok(Piece::Known(*blob, pack + 1));
        }
        if let Some(at) = self.known.locate(&id) {
            return Ok(Piece::Known(BlobRef { id, len, at: Some(at) }, 0));
        }
        sealed.insert(id);
        Ok(Piece::New(sealer.seal(id, chunk)?))
    }
}
