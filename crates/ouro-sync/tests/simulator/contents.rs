//! What was written, what of it must still be there, and a look at bytes that are on the remote only.

use crate::tree::{self, Spot};
use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::codec::decode_block_list;
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::id::BlobId;
use ouro_core::port::{BoxFuture, Clock, Rng, Runtime};
use ouro_local::volume::{Volume, VolumeError};
use ouro_repo::{Ports, RepoError, Repository};
use ouro_testkit::MemoryStore;
use ouro_testkit::sim::Chance;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A content of more bytes lies in a pack, not in a record.
const LARGE_BYTES: usize = 66_000;

/// Every content that somebody wrote as a whole.
#[derive(Default)]
pub(crate) struct Contents {
    /// How often each was written: equal contents count as one, so only what was written once is told apart.
    times: BTreeMap<Vec<u8>, u32>,
    /// What someone who saw it replaced or deleted.
    gone: BTreeSet<Vec<u8>>,
    /// What of that is sure: no crash takes it back, and no other name showed the content.
    superseded: BTreeSet<Vec<u8>>,
    /// What was under the pen when its device crashed: a write of which only the beginning is left is a write of what was there.
    interrupted: BTreeSet<Vec<u8>>,
    /// What was promised to be kept.
    kept: BTreeSet<Vec<u8>>,
}

impl Contents {
    /// Not an empty one: a crash leaves that of any file that was under the pen.
    pub(crate) fn wrote(&mut self, content: &[u8]) {
        if content.is_empty() {
            return;
        }
        *self.times.entry(content.to_vec()).or_default() += 1;
    }

    /// One of the large contents that were written before.
    pub(crate) fn large(&self, chance: &mut Chance) -> Option<Vec<u8>> {
        let large: Vec<&Vec<u8>> = self.times.keys().filter(|content| content.len() > LARGE_BYTES).collect();
        chance.one(&large).map(|content| (*content).clone())
    }

    pub(crate) fn leaves(&mut self, content: Vec<u8>) {
        self.gone.insert(content);
    }

    pub(crate) fn supersede(&mut self, contents: impl IntoIterator<Item = Vec<u8>>) {
        self.superseded.extend(contents);
    }

    /// Whether a content that was written once is shown although somebody who saw it replaced or deleted it.
    pub(crate) fn is_back(&self, content: &[u8]) -> bool {
        let once = self.times.get(content) == Some(&1);
        once && self.superseded.contains(content) && !self.interrupted.contains(content)
    }

    pub(crate) fn excuse(&mut self, contents: impl IntoIterator<Item = Vec<u8>>) {
        self.interrupted.extend(contents);
    }

    pub(crate) fn keep(&mut self, contents: impl IntoIterator<Item = Vec<u8>>) {
        self.kept.extend(contents);
    }

    /// The contents that should be among those shown and are not.
    pub(crate) fn lost<'a>(&'a self, shown: &'a BTreeSet<Vec<u8>>) -> impl Iterator<Item = &'a Vec<u8>> {
        let once = |content: &&Vec<u8>| self.times.get(*content) == Some(&1);
        self.kept.iter().filter(once).filter(|content| !self.gone.contains(*content) && !shown.contains(*content))
    }

    /// The contents that nobody ever wrote.
    pub(crate) fn invented<'a>(&'a self, shown: &'a BTreeSet<Vec<u8>>) -> impl Iterator<Item = &'a Vec<u8>> {
        shown.iter().filter(|content| !self.was_written(content))
    }

    /// Whether somebody wrote this.
    pub(crate) fn was_written(&self, content: &[u8]) -> bool {
        content.is_empty() || self.times.contains_key(content)
    }

    /// Whether what is left of a content was shown, with zeros where the rest was.
    pub(crate) fn is_left_of(&self, content: &[u8], shown: &BTreeSet<Vec<u8>>) -> bool {
        shown.iter().chain(&self.gone).any(|left| is_rest(left, content))
    }

    /// Whether this is what is left of a content that was written; of one that was only referred to that may be nothing but zeros.
    pub(crate) fn is_left(&self, left: &[u8]) -> bool {
        let nothing = |content: &Vec<u8>| left.len() == content.len() && left.iter().all(|byte| *byte == 0);
        self.times.keys().any(|content| is_rest(left, content) || nothing(content))
    }
}

/// Whether the one is the other with zeros for a part of it.
fn is_rest(left: &[u8], content: &[u8]) -> bool {
    let same = |(left, content): (&u8, &u8)| left == content || *left == 0;
    left.len() == content.len() && left.iter().any(|byte| *byte != 0) && left.iter().zip(content).all(same)
}

/// A content for people: how it begins, and its length.
pub(crate) fn name(content: &[u8]) -> String {
    let plain = content.iter().take(24).take_while(|byte| byte.is_ascii_graphic());
    let begin: String = plain.map(|byte| char::from(*byte)).collect();
    format!("{begin} ({} bytes)", content.len())
}

struct Still;

impl Clock for Still {
    fn wall_ns(&self) -> i64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

impl Rng for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Runtime for Still {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        block_on(task);
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }

    fn sleep(&self, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// A reader of the remote that no fault ever meets and no time passes for.
pub(crate) struct Truth {
    pub(crate) repo: Repository,
    /// What was read before.
    known: Mutex<HashMap<(BlobId, Option<Locator>), Bytes>>,
}

impl Truth {
    pub(crate) fn ports() -> Ports {
        Ports { clock: Arc::new(Still), rng: Arc::new(Still), runtime: Arc::new(Still) }
    }

    pub(crate) fn new(store: Arc<MemoryStore>, config: Bytes) -> Truth {
        let repo = Repository::open_with_key(store, Truth::ports(), config, None).expect("it is our own");
        Truth { repo, known: Mutex::default() }
    }

    /// Reads everything anew from the remote from now on.
    pub(crate) fn forget(&self) {
        self.known.lock().clear();
    }

    /// The bytes at a spot: those of a clean content from the remote, by what its references say, and only if they are not there from this device.
    /// Leaves no trace on the device but of what lies below something written.
    pub(crate) fn bytes_at(&self, volume: &Volume, spot: &Spot) -> Vec<u8> {
        let part = |blob: &BlobRef| self.fetch(volume, blob).or_else(|error| self.kept(volume, blob).ok_or(error));
        self.clean(spot.seen.content(), part).unwrap_or_else(|| self.written_at(volume, spot))
    }

    /// The bytes at a spot as everybody can have them.
    pub(crate) fn bytes_for_all(&self, volume: &Volume, spot: &Spot) -> Vec<u8> {
        self.clean(spot.seen.content(), |blob| self.fetch(volume, blob))
            .unwrap_or_else(|| self.written_at(volume, spot))
    }

    /// The bytes of a clean content of chunks; `None` for another.
    fn clean(&self, content: Option<&Content>, part: impl Fn(&BlobRef) -> Result<Bytes, RepoError>) -> Option<Vec<u8>> {
        let get = |blob: &BlobRef| part(blob).unwrap_or_else(|error| panic!("a chunk cannot be read: {error}"));
        let chunks = match content? {
            Content::Chunks(chunks) => chunks.to_vec(),
            Content::BlockList { list, .. } => decode_block_list(&get(list)).expect("a list of chunks"),
            Content::Inline(_) | Content::Pending { .. } => return None,
        };
        Some(chunks.iter().map(get).collect::<Vec<Bytes>>().concat())
    }

    fn written_at(&self, volume: &Volume, spot: &Spot) -> Vec<u8> {
        for _ in 0..100 {
            match tree::bytes_at(volume, spot) {
                Ok(bytes) => return bytes,
                Err(VolumeError::Need(blobs)) => self.bring(volume, &blobs),
                Err(error) => panic!("what stands at {:?} cannot be read: {error}", spot.seen.name),
            }
        }
        panic!("what stands at {:?} is never all here", spot.seen.name);
    }

    /// Reads a content of any state from what lies on the remote.
    pub(crate) fn read(&self, volume: &Volume, content: &Content) -> usize {
        loop {
            match volume.read_content(content, 0, content.size() as usize) {
                Ok(bytes) => return bytes.len(),
                Err(VolumeError::Need(blobs)) => self.bring(volume, &blobs),
                Err(error) => panic!("a kept content cannot be read: {error}"),
            }
        }
    }

    /// Puts what a device misses into its cache. A list of chunks that it keeps may be of before a collection: the remote's says where they are.
    fn bring(&self, volume: &Volume, blobs: &[BlobRef]) {
        for blob in blobs {
            let bytes = self.fetch(volume, blob).or_else(|error| {
                let lists = volume.lists_naming(blob.id).into_iter();
                let chunks = lists.flat_map(|list| decode_block_list(&self.fetch(volume, &list).ok()?).ok()).flatten();
                let now = chunks.filter(|chunk| chunk.id == blob.id).find_map(|chunk| self.fetch(volume, &chunk).ok());
                now.ok_or(error)
            });
            let bytes = bytes.unwrap_or_else(|error| panic!("a chunk cannot be read: {error}"));
            volume.blobs().put(blob.id, &bytes).expect("the cache takes it");
        }
    }

    /// What a device keeps of a blob: of what came out of its trash, and is not published yet, the remote may have nothing.
    fn kept(&self, volume: &Volume, blob: &BlobRef) -> Option<Bytes> {
        let kept = volume.blobs().get(&blob.id).expect("the cache can be read")?;
        Some(Bytes::copy_from_slice(&kept))
    }

    fn fetch(&self, volume: &Volume, blob: &BlobRef) -> Result<Bytes, RepoError> {
        let at = blob.at.or_else(|| volume.locations().get(&blob.id).ok().flatten());
        if let Some(bytes) = self.known.lock().get(&(blob.id, at)) {
            return Ok(bytes.clone());
        }
        let placed = BlobRef { at, ..*blob };
        let bytes = block_on(self.repo.fetch_blob(&placed)).or_else(|_| {
            // A device that is new since.
            block_on(self.repo.devices())?;
            block_on(self.repo.fetch_blob(&placed))
        })?;
        self.known.lock().insert((blob.id, at), bytes.clone());
        Ok(bytes)
    }
}
