//! Files into packs.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::Arc;

use futures::executor::block_on;
use ouro_core::codec::decode_block_list;
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::id::{BlobId, PackId};
use ouro_repo::{Effort, Known, Pipeline, PipelineOptions, RepoError, Repository, Sink, SinkError, Source, Totals};
use ouro_testkit::{Faults, FaultyStore};
use parking_lot::Mutex;

use crate::support::{new_repo, noise, ports};

/// What a device remembers: shared by the pipeline's lookups and its sink.
#[derive(Default)]
struct Locations(Mutex<HashMap<BlobId, Locator>>);

impl Known for Locations {
    fn locate(&self, blob: &BlobId) -> Option<Locator> {
        self.0.lock().get(blob).copied()
    }
}

#[derive(Default)]
struct Notes {
    locations: Arc<Locations>,
    packs: Vec<PackId>,
    contents: Vec<(u64, Result<Content, String>)>,
    /// Refuses packs beyond so many.
    packs_max: Option<usize>,
    /// Every blob of a content reported must lie in a pack reported before it.
    out_of_order: bool,
}

impl Sink for Notes {
    fn packed(&mut self, pack: PackId, blobs: &[BlobRef]) -> Result<(), SinkError> {
        if self.packs_max.is_some_and(|most| self.packs.len() >= most) {
            return Err("enough".into());
        }
        self.packs.push(pack);
        let mut locations = self.locations.0.lock();
        locations.extend(blobs.iter().map(|blob| (blob.id, blob.at.unwrap())));
        Ok(())
    }

    fn stored(&mut self, tag: u64, content: io::Result<Content>) -> Result<(), SinkError> {
        for blob in content.iter().flat_map(blobs_of) {
            self.out_of_order |= self.locations.locate(&blob.id) != blob.at;
        }
        self.contents.push((tag, content.map_err(|error| error.to_string())));
        Ok(())
    }
}

fn blobs_of(content: &Content) -> Vec<BlobRef> {
    match content {
        Content::Chunks(chunks) => chunks.to_vec(),
        Content::BlockList { list, .. } => vec![*list],
        _ => Vec::new(),
    }
}

fn source(tag: usize, bytes: &Arc<Vec<u8>>) -> Source {
    let bytes = bytes.clone();
    let bytes_expected = bytes.len() as u64;
    let open = move || Ok(Box::new(Shared { bytes, read: 0 }) as Box<dyn Read + Send>);
    Source { tag: tag as u64, bytes_expected, open: Box::new(open) }
}

struct Shared {
    bytes: Arc<Vec<u8>>,
    read: usize,
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (&self.bytes[self.read..]).read(buffer)?;
        self.read += len;
        Ok(len)
    }
}

fn run(repo: &Repository, files: &[Arc<Vec<u8>>], notes: &mut Notes) -> Result<Totals, RepoError> {
    let options = PipelineOptions { workers: 2, uploads: 2, effort: Effort::Quick };
    let pipeline = Pipeline::new(repo.clone(), notes.locations.clone(), options);
    let sources: Vec<Source> = files.iter().enumerate().map(|(tag, bytes)| source(tag, bytes)).collect();
    block_on(pipeline.run(sources.into_iter(), notes))
}

/// The bytes a content stands for.
fn read_back(repo: &Repository, content: &Content) -> Vec<u8> {
    let chunks = match content {
        Content::Inline(bytes) => return bytes.to_vec(),
        Content::Chunks(chunks) => chunks.to_vec(),
        Content::BlockList { list, size } => {
            let chunks = decode_block_list(&block_on(repo.fetch_blob(list)).unwrap()).unwrap();
            assert_eq!(chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>(), *size);
            chunks
        }
        Content::Pending { .. } => panic!("nothing is pending in a repository"),
    };
    let mut found = BTreeMap::new();
    block_on(repo.fetch_blobs(&chunks, &mut |blob, bytes| drop(found.insert(blob.id, bytes)))).unwrap();
    chunks.iter().flat_map(|chunk| found[&chunk.id].to_vec()).collect()
}

fn check_contents(repo: &Repository, files: &[Arc<Vec<u8>>], notes: &Notes) {
    assert!(!notes.out_of_order, "a content was reported before its packs");
    let tags: Vec<u64> = notes.contents.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, (0..files.len() as u64).collect::<Vec<_>>());
    for ((_, content), bytes) in notes.contents.iter().zip(files) {
        assert!(read_back(repo, content.as_ref().unwrap()) == **bytes, "{} bytes differ", bytes.len());
    }
}

fn files(sizes: &[usize]) -> Vec<Arc<Vec<u8>>> {
    sizes.iter().enumerate().map(|(n, size)| Arc::new(noise(n as u64, *size))).collect()
}

#[test]
fn files_of_every_size_come_back_in_order() {
    for encrypted in [true, false] {
        let (_, repo) = new_repo(encrypted);
        let files = files(&[0, 1, 128, 129, 4000, 70_000, 9_000_000, 128, 600_000, 0, 5_000_000, 300]);
        let mut notes = Notes::default();
        let totals = run(&repo, &files, &mut notes).unwrap();
        check_contents(&repo, &files, &notes);
        let bytes: usize = files.iter().map(|file| file.len()).sum();
        assert_eq!((totals.sources, totals.bytes_read, totals.bytes_known), (12, bytes as u64, 0));
        assert!(matches!(notes.contents[2].1, Ok(Content::Inline(_))));
        assert!(matches!(notes.contents[3].1, Ok(Content::Chunks(_))));
        assert!(matches!(notes.contents[6].1, Ok(Content::BlockList { .. })));
    }
}

#[test]
fn ten_thousand_small_files_are_one_pack_and_lie_in_their_order() {
    let (store, repo) = new_repo(true);
    let files: Vec<_> = (0..10_000).map(|n| Arc::new(noise(n, 200 + n as usize % 1000))).collect();
    let mut notes = Notes::default();
    let before = ouro_remote::Store::usage(store.as_ref()).puts;
    let totals = run(&repo, &files, &mut notes).unwrap();
    assert_eq!(totals.packs, 1);
    assert_eq!(ouro_remote::Store::usage(store.as_ref()).puts - before, 1);
    let places = notes.contents.iter().flat_map(|(_, c)| blobs_of(c.as_ref().unwrap())).map(|b| b.at.unwrap().offset);
    assert!(places.is_sorted());
}

#[test]
fn what_two_files_have_in_common_is_stored_once() {
    let (_, repo) = new_repo(true);
    let first = noise(1, 8_000_000);
    let mut second = first.clone();
    second.splice(3_000_000..3_800_000, noise(2, 800_000));
    let files = [first.clone(), first, second].map(Arc::new);
    let mut notes = Notes::default();
    let totals = run(&repo, &files, &mut notes).unwrap();
    check_contents(&repo, &files, &notes);
    assert!(totals.bytes_uploaded < 8_000_000 + 1_300_000, "{totals:?}");
    assert!(totals.bytes_known > 8_000_000 + 6_500_000, "{totals:?}");
}

#[test]
fn a_run_on_known_files_uploads_nothing_but_lists_of_chunks() {
    let (_, repo) = new_repo(true);
    let mut files = files(&[100_000, 300, 2000, 5_000_000]);
    let mut notes = Notes::default();
    run(&repo, &files, &mut notes).unwrap();
    let known = || Notes { locations: notes.locations.clone(), ..Notes::default() };
    let mut again = known();
    let totals = run(&repo, &files, &mut again).unwrap();
    assert!(totals.packs == 1 && totals.bytes_uploaded < 30_000, "{totals:?}");
    assert_eq!(totals.bytes_known, totals.bytes_read);
    let contents = |notes: &Notes| notes.contents.iter().map(|(_, c)| c.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(contents(&notes), contents(&again));
    files.pop();
    let totals = run(&repo, &files, &mut known()).unwrap();
    assert_eq!((totals.packs, totals.bytes_uploaded), (0, 0));
}

#[test]
fn an_interrupted_run_goes_on_at_the_last_finished_pack() {
    let (_, repo) = new_repo(true);
    let files: Vec<_> = (0..60).map(|n| Arc::new(noise(n, 1 << 20))).collect();
    let mut first = Notes { packs_max: Some(2), ..Notes::default() };
    assert!(matches!(run(&repo, &files, &mut first), Err(RepoError::Sink { .. })));
    assert_eq!(first.packs.len(), 2);
    assert!(!first.contents.is_empty());
    let mut second = Notes { locations: first.locations.clone(), ..Notes::default() };
    let totals = run(&repo, &files, &mut second).unwrap();
    check_contents(&repo, &files, &second);
    assert!(totals.bytes_known > 30 << 20, "{totals:?}");
    assert!(totals.bytes_uploaded < 32 << 20, "{totals:?}");
}

#[test]
fn a_run_dropped_at_any_await_can_be_repeated() {
    let files: Vec<_> = (0..6).map(|n| Arc::new(noise(n, 3 << 20))).collect();
    let (_, repo) = new_repo(true);
    for polls in 0..12 {
        let mut dropped = Notes::default();
        let locations = dropped.locations.clone();
        {
            let options = PipelineOptions { workers: 1, uploads: 1, effort: Effort::Quick };
            let pipeline = Pipeline::new(repo.clone(), locations.clone(), options);
            let sources: Vec<Source> = files.iter().enumerate().map(|(tag, bytes)| source(tag, bytes)).collect();
            let mut future = Box::pin(pipeline.run(sources.into_iter(), &mut dropped));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..polls {
                if future.as_mut().poll(&mut context).is_ready() {
                    break;
                }
            }
        }
        let mut notes = Notes { locations, ..Notes::default() };
        run(&repo, &files, &mut notes).unwrap();
        check_contents(&repo, &files, &notes);
    }
}

#[test]
fn a_file_that_cannot_be_read_does_not_stop_the_others() {
    let (_, repo) = new_repo(true);
    let broken = |tag, bytes_expected| {
        let open = move || Ok(Box::new(Breaks(20_000)) as Box<dyn Read + Send>);
        Source { tag, bytes_expected, open: Box::new(open) }
    };
    let gone: Source =
        Source { tag: 1, bytes_expected: 9 << 20, open: Box::new(|| Err(io::ErrorKind::NotFound.into())) };
    let good = Arc::new(noise(3, 50_000));
    let sources = vec![broken(0, 10), gone, broken(2, 9 << 20), source(3, &good)];
    let mut notes = Notes::default();
    let pipeline = Pipeline::new(repo.clone(), notes.locations.clone(), PipelineOptions::default());
    let totals = block_on(pipeline.run(sources.into_iter(), &mut notes)).unwrap();
    assert_eq!((totals.sources, totals.failed), (1, 3));
    assert!(notes.contents[..3].iter().all(|(_, content)| content.is_err()));
    assert_eq!(read_back(&repo, notes.contents[3].1.as_ref().unwrap()), *good);
}

/// Gives so many bytes, then an error.
struct Breaks(usize);

impl Read for Breaks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("bad sector"));
        }
        let len = buffer.len().min(self.0);
        buffer[..len].fill(1);
        self.0 -= len;
        Ok(len)
    }
}

#[test]
fn a_storage_that_fails_ends_the_run_and_reports_nothing_untrue() {
    let (store, repo) = new_repo(true);
    let faulty = Arc::new(FaultyStore::sharing(store.clone(), 1, Faults::none()));
    let config = repo.config_bytes().clone();
    let repo = Repository::open_with_key(faulty.clone(), ports(8), config, repo.master_key().cloned()).unwrap();
    faulty.set_unreachable(true);
    let mut notes = Notes::default();
    let failed = run(&repo, &files(&[3000, 20 << 20, 3000]), &mut notes).unwrap_err();
    assert!(failed.is_retryable(), "{failed:?}");
    assert!(notes.packs.is_empty());
    assert!(notes.contents.is_empty());
}
