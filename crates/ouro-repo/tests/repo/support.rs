//! Ports that do the same every time, and what the tests store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::content::{BlobRef, Content};
use ouro_core::delta::{AddedContent, AddedPlacement, Delta, FileDelta};
use ouro_core::id::{DeviceId, DeviceNo, FileId, Hlc, Line, Seq};
use ouro_core::name::Name;
use ouro_core::port::{BoxFuture, Clock, Rng, Runtime};
use ouro_core::state::{Attributes, Kind, Place};
use ouro_repo::{Body, ChunkerParams, InitOptions, PassphraseCost, Ports, RULES, Record, Repository, Secret};
use ouro_testkit::MemoryStore;

pub(crate) const DEVICE: DeviceId = DeviceId([0xd1; 16]);
pub(crate) const NUMBER: DeviceNo = DeviceNo(7);

struct FixedClock;

impl Clock for FixedClock {
    fn wall_ns(&self) -> i64 {
        1_800_000_000_000_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

/// The same numbers for the same seed.
struct SeededRng {
    seed: u64,
    drawn: AtomicU64,
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&drawn.to_le_bytes());
        hasher.finalize_xof().fill(bytes);
    }
}

/// Runs blocking work where it stands.
struct InlineRuntime;

impl Runtime for InlineRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        block_on(task);
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }

    fn sleep(&self, _millis: u64) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

pub(crate) fn ports(seed: u64) -> Ports {
    let rng = Arc::new(SeededRng { seed, drawn: AtomicU64::new(0) });
    Ports { clock: Arc::new(FixedClock), rng, runtime: Arc::new(InlineRuntime) }
}

pub(crate) fn passphrase(text: &str) -> Secret {
    Secret::Passphrase(text.to_owned().into())
}

/// Small chunks and a cheap passphrase, so that tests are quick.
pub(crate) fn options() -> InitOptions {
    let chunker = ChunkerParams { min: 4 << 10, average: 16 << 10, max: 64 << 10 };
    InitOptions { chunker, cost: PassphraseCost { memory_kib: 8, passes: 1, lanes: 1 } }
}

pub(crate) fn new_repo(encrypted: bool) -> (Arc<MemoryStore>, Repository) {
    let store = Arc::new(MemoryStore::new());
    let secret = if encrypted { passphrase("open sesame") } else { Secret::None };
    let repo = block_on(Repository::init(store.clone(), ports(1), &secret, options())).unwrap();
    repo.learn_device(NUMBER, DEVICE);
    (store, repo)
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A delta that creates one file with a content.
pub(crate) fn delta(content: Content) -> Delta {
    let place = Place { parent: FileId::ROOT, name: Name::new(b"letter.txt").unwrap() };
    let mut file = FileDelta::new(FileId::new(NUMBER, 16), Kind::File, None);
    let placement = AddedPlacement { slot: 0, place: place.clone(), was: None, by_rule: false, removed: false };
    file.placements.push(placement);
    file.content = Some(AddedContent { value: Some(content), at: place, by_rule: false });
    file.attributes = Some(Attributes { mode: 0o644, mtime_ns: 5, ctime_ns: 6, rdev: 0, xattrs: Vec::new() });
    Delta { files: vec![file] }
}

pub(crate) fn record(seq: u64, body: Body) -> Record {
    Record {
        rules: RULES,
        device: NUMBER,
        seq: Seq(seq),
        line: Line::MAIN,
        parents: Vec::new(),
        previous: None,
        hlc: Hlc::from_millis(1_800_000_000_000),
        message: String::new(),
        digest: 0x0123_4567_89ab_cdef,
        acknowledged: 0,
        body,
    }
}

/// A record with one file of 1,000 bytes inside, and that blob.
pub(crate) fn record_with_inline(repo: &Repository, seq: u64) -> (Record, BlobRef, Bytes) {
    let plain = Bytes::from(noise(9, 1000));
    let blob = BlobRef { id: repo.blob_id(&plain), len: 1000, at: None };
    let content = Content::Chunks(Arc::from([blob].as_slice()));
    (record(seq, Body::Delta(delta(content))), blob, plain)
}
