use super::*;
use crate::disk::MemoryDisk;
use std::io;

/// A hash good enough for tests: the id repeats the length and a sum.
fn id_of(bytes: &[u8]) -> BlobId {
    let sum = bytes.iter().fold(bytes.len() as u64, |sum, b| sum.wrapping_mul(1_000_003).wrapping_add(u64::from(*b)));
    let mut id = [0; 32];
    id.chunks_mut(8).for_each(|part| part.copy_from_slice(&sum.to_be_bytes()));
    BlobId(id)
}

fn options(bytes_max: u64) -> BlobsOptions {
    BlobsOptions {
        bytes_max,
        free_bytes_min: 0,
        verify: Arc::new(|id, bytes| id_of(bytes) == *id),
        keep: Arc::new(|_| false),
    }
}

fn blob(n: u32, len: usize) -> (BlobId, Vec<u8>) {
    let bytes: Vec<u8> = n.to_le_bytes().into_iter().cycle().take(len).collect();
    (id_of(&bytes), bytes)
}

const SMALL: usize = 5_000;
const LARGE: usize = 100_000;

struct Place {
    _dir: tempfile::TempDir,
    disk: MemoryDisk,
    database: DatabaseAt,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let database = DatabaseAt::File(dir.path().join("cache.db"));
        Place { _dir: dir, disk: MemoryDisk::new(), database }
    }

    fn open(&self, options: BlobsOptions) -> Blobs {
        Blobs::open(Arc::new(self.disk.clone()), self.database.clone(), options).unwrap()
    }
}

#[test]
fn blobs_large_and_small_are_read_whole_and_in_parts_before_and_after_reopening() {
    let place = Place::new();
    let all: Vec<_> =
        [1, SMALL, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, LARGE].into_iter().map(|len| blob(7, len)).collect();
    let blobs = place.open(options(u64::MAX));
    for (id, bytes) in &all {
        assert_eq!(blobs.get(id).unwrap(), None);
        blobs.put(*id, bytes).unwrap();
        blobs.put(*id, bytes).unwrap();
    }
    let check = |blobs: &Blobs| {
        for (id, bytes) in &all {
            for (offset, len) in [(0, 10), (bytes.len() as u64 / 2, 1 << 20), (bytes.len() as u64, 5), (u64::MAX, 5)] {
                let mut buf = vec![0; len];
                let read = blobs.read(id, offset, &mut buf).unwrap().unwrap();
                let start = bytes.len().min(usize::try_from(offset).unwrap());
                assert_eq!(buf[..read], bytes[start..bytes.len().min(start.saturating_add(len))]);
            }
            assert!(blobs.get(id).unwrap().is_some_and(|got| got[..] == bytes[..]));
        }
        assert_eq!(blobs.total_bytes(), all.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
        let ids: Vec<_> = all.iter().map(|(id, _)| *id).collect();
        assert!(blobs.contains_all(&ids).unwrap());
        assert!(!blobs.contains_all(&[ids[0], BlobId([9; 32])]).unwrap());
    };
    check(&blobs);
    blobs.flush().unwrap();
    check(&blobs);
    drop(blobs);
    check(&place.open(options(u64::MAX)));
}

#[test]
fn a_torn_blob_is_never_served_and_is_dropped() {
    for damage in ["flipped", "short", "gone"] {
        let place = Place::new();
        let (id, bytes) = blob(1, LARGE);
        let blobs = place.open(options(u64::MAX));
        blobs.put(id, &bytes).unwrap();
        blobs.flush().unwrap();
        drop(blobs);
        let path = path_of(&id);
        match damage {
            "flipped" => place.disk.corrupt(&path, 5_000, &[0xff]).unwrap(),
            "short" => place.disk.open(&path).unwrap().set_len(10).unwrap(),
            _ => place.disk.remove(&path).unwrap(),
        }
        let blobs = place.open(options(u64::MAX));
        assert!(blobs.contains(&id).unwrap(), "{damage}");
        assert_eq!(blobs.read(&id, 0, &mut [0; 10]).unwrap(), None, "{damage}");
        assert!(!blobs.contains(&id).unwrap(), "{damage}");
        assert_eq!(blobs.total_bytes(), 0, "{damage}");
        blobs.put(id, &bytes).unwrap();
        assert!(blobs.get(&id).unwrap().is_some(), "{damage}");
    }
}

#[test]
fn after_a_power_cut_blobs_are_whole_or_not_there() {
    for seed in 1..40u64 {
        let place = Place::new();
        let all: Vec<_> = (0..6).map(|n| blob(n, LARGE)).collect();
        let blobs = place.open(options(u64::MAX));
        for (id, bytes) in &all {
            blobs.put(*id, bytes).unwrap();
        }
        blobs.flush().unwrap();
        drop(blobs);
        let mut state = seed;
        place.disk.crash(&mut || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 61 != 0
        });
        let blobs = place.open(options(u64::MAX));
        for (id, bytes) in &all {
            if let Some(got) = blobs.get(id).unwrap() {
                assert!(got[..] == bytes[..], "seed {seed}");
            }
        }
    }
}

#[test]
fn what_was_used_longest_ago_goes_first_and_what_must_stay_stays() {
    for len in [SMALL, LARGE] {
        let place = Place::new();
        let all: Vec<_> = (0..10).map(|n| blob(n, len)).collect();
        let blobs = place.open(options(u64::MAX));
        for (id, bytes) in &all {
            blobs.put(*id, bytes).unwrap();
        }
        blobs.get(&all[1].0).unwrap();
        blobs.flush().unwrap();
        drop(blobs);
        let blobs = place.open(options(u64::MAX));
        blobs.get(&all[0].0).unwrap();
        let kept = all[2].0;
        assert_eq!(blobs.evict(5 * len as u64, &|id| *id == kept).unwrap(), 5 * len as u64);
        let held: Vec<_> = (0..10).filter(|n| blobs.contains(&all[*n].0).unwrap()).collect();
        assert_eq!(held, [0, 1, 2, 8, 9]);
        assert_eq!(blobs.total_bytes(), 5 * len as u64);
        let everything_stays: &dyn Fn(&BlobId) -> bool = &|_| true;
        assert_eq!(blobs.evict(0, everything_stays).unwrap(), 0);
    }
}

#[test]
fn the_limit_holds_by_evicting_and_is_said_when_nothing_may_go() {
    let place = Place::new();
    let limit = 10 * LARGE as u64;
    let blobs = place.open(options(limit));
    for n in 0..50 {
        let (id, bytes) = blob(n, LARGE);
        blobs.put(id, &bytes).unwrap();
        assert!(blobs.total_bytes() <= limit);
        assert!(blobs.contains(&id).unwrap());
    }
    drop(blobs);
    let place = Place::new();
    let blobs = place.open(BlobsOptions { keep: Arc::new(|_| true), ..options(limit) });
    for n in 0..10 {
        let (id, bytes) = blob(n, LARGE);
        blobs.put(id, &bytes).unwrap();
    }
    let (id, bytes) = blob(10, LARGE);
    assert!(matches!(blobs.put(id, &bytes), Err(LocalError::CacheFull { needed }) if needed == LARGE as u64));
    assert!(!blobs.contains(&id).unwrap());
}

#[test]
fn a_full_disk_evicts_and_a_disk_full_of_others_is_said() {
    let place = Place::new();
    place.disk.set_capacity(Some(5 * LARGE as u64 + 10));
    let blobs = place.open(options(u64::MAX));
    for n in 0..20 {
        let (id, bytes) = blob(n, LARGE);
        blobs.put(id, &bytes).unwrap();
        assert!(blobs.get(&id).unwrap().is_some());
    }
    place.disk.fail_at_write(1, io::ErrorKind::StorageFull);
    let (id, bytes) = blob(99, LARGE);
    assert!(matches!(blobs.put(id, &bytes), Err(LocalError::CacheFull { .. })));
    place.disk.fail_at_write(2, io::ErrorKind::Other);
    assert!(matches!(blobs.put(id, &bytes), Err(LocalError::Io { .. })));
    place.disk.heal();
    assert!(!blobs.contains(&id).unwrap());
    assert!(place.disk.list("blobs/tmp").unwrap().is_empty());
}

#[test]
fn the_reserve_of_the_disk_is_left_to_others() {
    let place = Place::new();
    let blobs = place.open(BlobsOptions { free_bytes_min: 3 * LARGE as u64, ..options(u64::MAX) });
    place.disk.set_capacity(Some(10 * LARGE as u64));
    for n in 0..30 {
        let (id, bytes) = blob(n, LARGE);
        blobs.put(id, &bytes).unwrap();
        assert!(place.disk.free_bytes().unwrap() >= 3 * LARGE as u64);
    }
}

#[test]
fn a_garbage_database_is_rebuilt_from_the_files() {
    let place = Place::new();
    let (large, small) = (blob(1, LARGE), blob(2, SMALL));
    let blobs = place.open(options(u64::MAX));
    blobs.put(large.0, &large.1).unwrap();
    blobs.put(small.0, &small.1).unwrap();
    blobs.flush().unwrap();
    drop(blobs);
    let DatabaseAt::File(path) = &place.database else { panic!() };
    std::fs::write(path, [0x33; 9_000]).unwrap();
    let blobs = place.open(options(u64::MAX));
    assert!(blobs.get(&large.0).unwrap().is_some());
    assert!(blobs.get(&small.0).unwrap().is_none());
    assert_eq!(blobs.total_bytes(), LARGE as u64);
}

#[test]
fn files_without_a_row_are_adopted() {
    let place = Place::new();
    let (id, bytes) = blob(1, LARGE);
    let blobs = place.open(options(u64::MAX));
    blobs.put(id, &bytes).unwrap();
    // Not flushed: the row is lost, the file is not.
    drop(blobs);
    let blobs = place.open(options(u64::MAX));
    assert!(!blobs.contains(&id).unwrap());
    assert_eq!(blobs.adopt().unwrap(), 1);
    assert_eq!(blobs.adopt().unwrap(), 0);
    assert!(blobs.get(&id).unwrap().is_some());
}
