//! Small files lie beside one another in packs, in the order in which they were written: who reads several of them will probably read the
//! next ones too. From the third small read in a pack on, a read brings what lies behind it as well, in the same request.

use crate::Sync;
use ouro_core::content::{BlobRef, ObjectId};
use ouro_core::id::PackId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A blob of at most this many stored bytes is small.
const SMALL_BYTES: u32 = 64 << 10;
/// Small reads in a pack before its neighbours are brought along.
const READS_MIN: u32 = 3;
/// Bytes brought along, from the blob that was asked for on.
const WINDOW_BYTES: u32 = 1 << 20;
/// Packs remembered; of more than these all are forgotten.
const PACKS_MAX: usize = 16;
/// A call for more blobs than this knows what it wants.
const ASKED_MAX: usize = 4;

/// What was read of packs lately.
#[derive(Default)]
pub(crate) struct Neighbours(Mutex<BTreeMap<PackId, Pack>>);

#[derive(Default)]
struct Pack {
    reads: u32,
    /// What it holds, sorted by place; empty until it is known.
    blobs: Arc<Vec<BlobRef>>,
}

impl Neighbours {
    /// Counts a small read; whether the pack's neighbours are worth bringing, and what it holds if that is known.
    fn read(&self, pack: PackId) -> Option<Arc<Vec<BlobRef>>> {
        let mut packs = self.0.lock();
        if packs.len() >= PACKS_MAX && !packs.contains_key(&pack) {
            packs.clear();
        }
        let seen = packs.entry(pack).or_default();
        seen.reads += 1;
        (seen.reads >= READS_MIN).then(|| Arc::clone(&seen.blobs))
    }

    fn know(&self, pack: PackId, mut blobs: Vec<BlobRef>) -> Arc<Vec<BlobRef>> {
        blobs.sort_by_key(|blob| blob.at.map(|at| at.offset));
        let blobs = Arc::new(blobs);
        self.0.lock().entry(pack).or_default().blobs = Arc::clone(&blobs);
        blobs
    }
}

impl Sync {
    /// Adds to a small read what lies behind it in its pack. Some of that may be gone: no read may fail for it.
    pub(crate) async fn with_neighbours(&self, mut asked: Vec<BlobRef>) -> Vec<BlobRef> {
        if asked.is_empty() || asked.len() > ASKED_MAX {
            return asked;
        }
        let Some(at) = asked[asked.len() - 1].at.filter(|at| at.len <= SMALL_BYTES) else { return asked };
        let ObjectId::Pack(pack) = at.object else { return asked };
        let Some(mut blobs) = self.neighbours.read(pack) else { return asked };
        if blobs.is_empty() {
            match self.repo.pack_directory(pack).await {
                Ok(Some(found)) => blobs = self.neighbours.know(pack, found),
                // The read itself will say what is wrong.
                Ok(None) | Err(_) => return asked,
            }
        }
        let behind = blobs.iter().filter(|blob| {
            blob.at.is_some_and(|b| b.offset > at.offset && b.offset - at.offset < WINDOW_BYTES && b.len <= SMALL_BYTES)
        });
        let absent = behind.filter(|blob| !self.volume.blobs().contains(&blob.id).unwrap_or(true));
        asked.extend(absent.copied().collect::<Vec<_>>());
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_small_read_of_a_pack_is_worth_its_neighbours() {
        let neighbours = Neighbours::default();
        let (one, other) = (PackId([1; 16]), PackId([2; 16]));
        assert!(neighbours.read(one).is_none());
        assert!(neighbours.read(one).is_none());
        assert!(neighbours.read(other).is_none());
        assert!(neighbours.read(one).is_some());
    }

    #[test]
    fn no_more_packs_are_remembered_than_the_limit() {
        let neighbours = Neighbours::default();
        for n in 0..100 {
            neighbours.read(PackId([n; 16]));
        }
        assert!(neighbours.0.lock().len() <= PACKS_MAX);
    }
}
