//! Blobs, packs and their directories.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::codec::{decode_block_list, encode_block_list};
use ouro_core::content::{BlobRef, Locator, ObjectId};
use ouro_core::id::{BlobId, PackId};
use ouro_remote::Store;
use ouro_repo::{Effort, PACK_BYTES, PLAIN_BYTES_MAX, RepoError, Repository};

use crate::support::{new_repo, noise};

/// Stores blobs and returns their places.
fn store_all(repo: &Repository, plains: &[Vec<u8>]) -> Vec<BlobRef> {
    let mut packer = repo.packer();
    let mut blobs = Vec::new();
    for plain in plains {
        let (blob, full) = packer.add(plain).unwrap();
        blobs.push(blob);
        full.iter().for_each(|pack| block_on(repo.publish_pack(pack)).unwrap());
    }
    packer.finish().unwrap().iter().for_each(|pack| block_on(repo.publish_pack(pack)).unwrap());
    blobs
}

#[test]
fn blobs_come_back_from_packs() {
    for encrypted in [true, false] {
        let (_, repo) = new_repo(encrypted);
        let plains = [vec![], vec![1], noise(1, 100), vec![7; 100_000], noise(2, 300_000)];
        for (blob, plain) in store_all(&repo, &plains).iter().zip(&plains) {
            assert_eq!(blob.len as usize, plain.len());
            assert_eq!(block_on(repo.fetch_blob(blob)).unwrap(), plain);
        }
    }
}

#[test]
fn packs_are_closed_before_they_grow_beyond_their_size() {
    let (store, repo) = new_repo(true);
    let plains: Vec<_> = (0..20).map(|n| noise(n, 2 << 20)).collect();
    store_all(&repo, &plains);
    let packs: Vec<usize> =
        store.snapshot().iter().filter(|(n, _)| n.starts_with("packs/")).map(|(_, b)| b.len()).collect();
    assert_eq!(packs.len(), 3);
    assert!(packs.iter().all(|len| *len <= PACK_BYTES + 4096), "{packs:?}");
}

#[test]
fn neighbours_are_fetched_in_one_request() {
    let (store, repo) = new_repo(true);
    let plains: Vec<_> = (0..500).map(|n| noise(n, 3000)).collect();
    let blobs = store_all(&repo, &plains);
    let before = store.usage().gets;
    let mut found = BTreeMap::new();
    block_on(repo.fetch_blobs(&blobs, &mut |blob, bytes| drop(found.insert(blob.id, bytes)))).unwrap();
    assert_eq!(store.usage().gets - before, 1);
    assert!(blobs.iter().zip(&plains).all(|(blob, plain)| found[&blob.id] == *plain));
}

#[test]
fn a_pack_says_itself_what_it_holds() {
    let (store, repo) = new_repo(true);
    let plains: Vec<_> = (0..50).map(|n| noise(n, 1000 + n as usize)).collect();
    let blobs = store_all(&repo, &plains);
    let Some(Locator { object: ObjectId::Pack(pack), .. }) = blobs[0].at else { panic!("{blobs:?}") };
    let before = store.usage();
    let found = block_on(repo.pack_directory(pack)).unwrap().unwrap();
    let places = |blobs: &[BlobRef]| blobs.iter().map(|b| (b.id, b.len, b.at)).collect::<Vec<_>>();
    assert_eq!(places(&found), places(&blobs));
    let after = store.usage();
    assert_eq!(after.gets - before.gets, 2);
    assert!(after.bytes_in - before.bytes_in < 4096);
    assert!(block_on(repo.pack_directory(PackId([0; 16]))).unwrap().is_none());
}

#[test]
fn a_torn_pack_counts_as_absent() {
    let (store, repo) = new_repo(true);
    let blobs = store_all(&repo, &[noise(1, 5000)]);
    let Some(Locator { object: ObjectId::Pack(pack), .. }) = blobs[0].at else { panic!("{blobs:?}") };
    let (name, bytes) = store.snapshot().into_iter().find(|(name, _)| name.starts_with("packs/")).unwrap();
    for len in [0, 10, 16, 3000, bytes.len() - 1] {
        block_on(store.overwrite(&name, bytes.slice(..len))).unwrap();
        assert!(block_on(repo.pack_directory(pack)).unwrap().is_none(), "{len} bytes");
    }
    block_on(store.overwrite(&name, bytes.slice(..3000))).unwrap();
    let torn = block_on(repo.fetch_blob(&blobs[0])).unwrap_err();
    assert!(matches!(&torn, RepoError::Remote { .. }) && torn.is_retryable(), "{torn:?}");
}

#[test]
fn what_is_gone_or_has_no_place_is_said_and_the_rest_is_delivered() {
    let (store, repo) = new_repo(true);
    let kept = store_all(&repo, &[noise(1, 5000)]);
    let lost = store_all(&repo, &[noise(2, 5000)]);
    block_on(store.delete(&repo.object_name(lost[0].at.unwrap().object).unwrap())).unwrap();
    let nowhere = BlobRef { at: None, ..kept[0] };
    let mut delivered = 0;
    let fetched = block_on(repo.fetch_blobs(&[lost[0], kept[0]], &mut |_, _| delivered += 1));
    assert!(matches!(fetched, Err(RepoError::BlobGone { blob, .. }) if blob == lost[0].id));
    assert_eq!(delivered, 1);
    assert!(matches!(block_on(repo.fetch_blob(&nowhere)), Err(RepoError::Unlocated { .. })));
}

#[test]
fn another_blob_at_the_place_is_corrupt() {
    let (_, repo) = new_repo(true);
    let blobs = store_all(&repo, &[noise(1, 5000), noise(2, 5000)]);
    let wrong = BlobRef { at: blobs[1].at, ..blobs[0] };
    assert!(matches!(block_on(repo.fetch_blob(&wrong)), Err(RepoError::Corrupt { .. })));
}

#[test]
fn a_block_list_is_known_by_its_chunks_wherever_they_lie() {
    let (_, repo) = new_repo(true);
    let chunk = |n: u8, pack: u8| {
        let at = Locator { object: ObjectId::Pack(PackId([pack; 16])), offset: u32::from(n) * 1000, len: 1000 };
        BlobRef { id: BlobId([n; 32]), len: 1 << 20, at: Some(at) }
    };
    let here: Vec<_> = (0..40).map(|n| chunk(n, 1)).collect();
    let there: Vec<_> = (0..40).map(|n| chunk(n, n)).collect();
    let (first, second) = (repo.seal_block_list(&here).unwrap(), repo.seal_block_list(&there).unwrap());
    assert_eq!((first.id, first.len), (second.id, second.len));
    assert_ne!(first.bytes, second.bytes);
    let plain = repo.open_blob(&second.id, &second.bytes).unwrap();
    assert_eq!(decode_block_list(&plain).unwrap()[7].at, there[7].at);
    assert!(repo.verify_blob(&first.id, &encode_block_list(&here)));
    assert!(!repo.verify_blob(&first.id, &encode_block_list(&here[1..])));
}

#[test]
fn a_blob_beyond_the_limit_is_refused() {
    let (_, repo) = new_repo(true);
    let sealed = repo.seal_blob(&vec![0; PLAIN_BYTES_MAX + 1], Effort::Quick);
    assert!(matches!(sealed, Err(RepoError::TooLarge { .. })));
}

#[test]
fn equal_bytes_are_equal_blobs_only_within_a_repository() {
    let (_, repo) = new_repo(true);
    let (_, open) = new_repo(false);
    assert_eq!(repo.blob_id(b"x"), repo.clone().blob_id(b"x"));
    assert_ne!(repo.blob_id(b"x"), open.blob_id(b"x"));
    assert_ne!(repo.blob_id(b"x").0, *blake3::hash(b"x").as_bytes());
}

#[test]
fn cutting_in_memory_equals_cutting_a_stream() {
    let (_, repo) = new_repo(true);
    let bytes = Bytes::from(noise(3, 500_000));
    let mut cutter = repo.cutter(bytes.as_ref(), 10);
    let mut streamed = Vec::new();
    while let Some(chunk) = cutter.next_chunk().unwrap() {
        streamed.push(Bytes::copy_from_slice(chunk));
    }
    assert_eq!(repo.cut(&bytes), streamed);
    assert!(streamed.len() > 5);
}
