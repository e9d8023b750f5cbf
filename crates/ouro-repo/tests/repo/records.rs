//! Commit records.

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::codec::{decode_delta, encode_delta};
use ouro_core::content::{Content, ObjectId};
use ouro_core::delta::Delta;
use ouro_core::id::{DeviceId, DeviceNo, RecordHash, Seq};
use ouro_remote::Store;
use ouro_repo::{
    Announcement, Body, INLINE_BLOB_BYTES_MAX, INLINE_TOTAL_BYTES_MAX, MESSAGE_BYTES_MAX, RULES, RepoError,
};

use crate::support::{DEVICE, NUMBER, delta, new_repo, noise, passphrase, ports, record, record_with_inline};

fn name(seq: u64) -> String {
    format!("log/{DEVICE}/{seq:016x}")
}

#[test]
fn an_ordinary_save_is_one_put_and_one_get() {
    for encrypted in [true, false] {
        let (store, repo) = new_repo(encrypted);
        let (record, blob, plain) = record_with_inline(&repo, 1);
        let before = store.usage();
        let sealed = repo.seal_record(&record, &[(blob.id, plain.clone())]).unwrap();
        block_on(repo.publish_record(NUMBER, DEVICE, Seq(1), sealed.bytes.clone())).unwrap();
        let bytes = block_on(repo.read_record_bytes(DEVICE, Seq(1))).unwrap().unwrap();
        let (found, hash, inline) = repo.open_record(DEVICE, Seq(1), &bytes).unwrap();
        assert_eq!(repo.open_inline(&bytes, &inline[0].0, &inline[0].1).unwrap(), plain);
        let after = store.usage();
        assert_eq!((after.puts - before.puts, after.gets - before.gets), (1, 1));
        assert_eq!(hash, sealed.hash);
        assert_eq!(inline, [(blob.id, sealed.locators[0])]);
        assert_eq!(found, record, "but for the locators, which are no part of an equality");
        assert!(bytes.len() < 1000 + 400, "{} bytes for a file of 1,000", bytes.len());
    }
}

#[test]
fn a_blob_in_a_record_is_found_by_the_reference_in_its_delta() {
    let (_, repo) = new_repo(true);
    let (record, blob, plain) = record_with_inline(&repo, 1);
    let sealed = repo.seal_record(&record, &[(blob.id, plain.clone())]).unwrap();
    block_on(repo.publish_record(NUMBER, DEVICE, Seq(1), sealed.bytes)).unwrap();
    let (found, _, _) = block_on(repo.read_record(DEVICE, Seq(1))).unwrap().unwrap();
    let Body::Delta(delta) = &found.body else { panic!("{found:?}") };
    let Some(Content::Chunks(chunks)) = &delta.files[0].content.as_ref().unwrap().value else { panic!("{delta:?}") };
    let at = chunks[0].at.unwrap();
    assert_eq!(at.object, ObjectId::Record(NUMBER, Seq(1)));
    assert_eq!(block_on(repo.fetch_blob(&chunks[0])).unwrap(), plain);
}

#[test]
fn every_field_comes_back() {
    let (_, repo) = new_repo(true);
    let mut full = record(3, Body::Delta(Delta::default()));
    full.line = ouro_core::id::Line(4);
    full.parents = vec![(DeviceNo(1), Seq(2), RecordHash([3; 32])), (NUMBER, Seq(2), RecordHash([4; 32]))];
    full.previous = Some(RecordHash([5; 32]));
    full.message = "before the journey".into();
    full.acknowledged = 6;
    let announcement = Announcement { root: None, covers: vec![(DeviceNo(1), Seq(2)), (NUMBER, Seq(3))], digest: 7 };
    let blobs = block_on(repo.store_bytes(&Bytes::from(noise(1, 200_000)))).unwrap();
    for body in [Body::Delta(delta(Content::empty())), Body::DeltaBlobs(blobs), Body::Checkpoint(announcement)] {
        full.body = body;
        let sealed = repo.seal_record(&full, &[]).unwrap();
        let (found, _, inline) = repo.open_record(DEVICE, Seq(3), &sealed.bytes).unwrap();
        assert_eq!(found, full);
        assert!(inline.is_empty());
    }
}

#[test]
fn a_bulk_delta_goes_through_packs() {
    let (_, repo) = new_repo(true);
    let encoded = Bytes::from(encode_delta(&delta(Content::Inline(noise(1, 100).into()))));
    let blobs = block_on(repo.store_bytes(&encoded)).unwrap();
    let mut pieces = vec![Bytes::new(); blobs.len()];
    let place = |id| blobs.iter().position(|blob| blob.id == id).unwrap();
    block_on(repo.fetch_blobs(&blobs, &mut |blob, bytes| pieces[place(blob.id)] = bytes)).unwrap();
    assert_eq!(decode_delta(&pieces.concat()).unwrap(), delta(Content::Inline(noise(1, 100).into())));
}

#[test]
fn sealing_is_deterministic() {
    let (_, repo) = new_repo(true);
    let (record, blob, plain) = record_with_inline(&repo, 1);
    let seal = || repo.seal_record(&record, &[(blob.id, plain.clone())]).unwrap();
    assert_eq!(seal(), seal());
}

#[test]
fn a_missing_or_torn_record_is_not_there_yet() {
    let (store, repo) = new_repo(true);
    assert!(block_on(repo.read_record(DEVICE, Seq(1))).unwrap().is_none());
    let (record, blob, plain) = record_with_inline(&repo, 1);
    let sealed = repo.seal_record(&record, &[(blob.id, plain)]).unwrap();
    for len in (0..sealed.bytes.len()).step_by(7) {
        block_on(store.overwrite(&name(1), sealed.bytes.slice(..len))).unwrap();
        assert!(block_on(repo.read_record(DEVICE, Seq(1))).unwrap().is_none(), "{len} bytes");
    }
}

#[test]
fn own_torn_bytes_are_completed_and_a_clones_commit_is_an_alarm() {
    let (store, repo) = new_repo(true);
    let (record, blob, plain) = record_with_inline(&repo, 1);
    let mine = repo.seal_record(&record, &[(blob.id, plain.clone())]).unwrap().bytes;
    let publish = |bytes: &Bytes| block_on(repo.publish_record(NUMBER, DEVICE, Seq(1), bytes.clone()));
    let mut holed = mine.to_vec();
    holed[100..].fill(0);
    for remnant in [mine.slice(..50), Bytes::new(), Bytes::from(vec![0; 200]), Bytes::from(holed)] {
        block_on(store.overwrite(&name(1), remnant)).unwrap();
        publish(&mine).unwrap();
        publish(&mine).unwrap();
        assert_eq!(store.snapshot()[&name(1)], mine);
    }
    let mut other = record.clone();
    other.message = "the clone's".into();
    let theirs = repo.seal_record(&other, &[(blob.id, plain)]).unwrap().bytes;
    assert!(matches!(publish(&theirs), Err(RepoError::ClonedDevice { device: DEVICE, seq: Seq(1) })));
    assert_eq!(store.snapshot()[&name(1)], mine);
}

#[test]
fn a_record_put_in_anothers_place_is_noticed() {
    let (store, repo) = new_repo(true);
    let (record, blob, plain) = record_with_inline(&repo, 1);
    let sealed = repo.seal_record(&record, &[(blob.id, plain)]).unwrap();
    block_on(store.publish(&name(2), sealed.bytes.clone())).unwrap();
    assert!(matches!(block_on(repo.read_record(DEVICE, Seq(2))), Err(RepoError::Corrupt { .. })));
    let stranger = DeviceId([1; 16]);
    block_on(store.publish(&format!("log/{stranger}/{:016x}", 1), sealed.bytes)).unwrap();
    assert!(matches!(block_on(repo.read_record(stranger, Seq(1))), Err(RepoError::Corrupt { .. })));
}

#[test]
fn what_exceeds_a_limit_is_refused_before_anything_is_written() {
    let (_, repo) = new_repo(true);
    let plain = record(1, Body::Delta(Delta::default()));
    let blob = |len: usize| {
        let bytes = Bytes::from(noise(len as u64, len));
        (repo.blob_id(&bytes), bytes)
    };
    let too_large = |blobs: &[_]| matches!(repo.seal_record(&plain, blobs), Err(RepoError::TooLarge { .. }));
    assert!(too_large(&[blob(INLINE_BLOB_BYTES_MAX + 1)]));
    let full: Vec<_> = (0..=INLINE_TOTAL_BYTES_MAX / 60_000).map(|n| blob(60_000 + n)).collect();
    assert!(too_large(&full));
    assert!(!too_large(&full[..full.len() - 2]));
    let mut wordy = plain.clone();
    wordy.message = "x".repeat(MESSAGE_BYTES_MAX + 1);
    assert!(matches!(repo.seal_record(&wordy, &[]), Err(RepoError::TooLarge { .. })));
    let wrong = (repo.blob_id(b"one thing"), Bytes::from_static(b"another"));
    assert!(matches!(repo.seal_record(&plain, &[wrong]), Err(RepoError::WrongBlob { .. })));
}

#[test]
fn a_device_nobody_introduced_cannot_seal() {
    let (store, _) = new_repo(true);
    let secret = passphrase("open sesame");
    let opened = block_on(ouro_repo::Repository::open(store, ports(2), &secret)).unwrap();
    let sealed = opened.seal_record(&record(1, Body::Delta(Delta::default())), &[]);
    assert!(matches!(sealed, Err(RepoError::UnknownDevice { device: NUMBER })));
}

#[test]
fn a_record_of_newer_rules_is_refused_with_a_clear_word_whatever_follows_in_it() {
    let (store, repo) = new_repo(true);
    let mut newer = record(1, Body::Delta(Delta::default()));
    newer.rules = RULES + 1;
    let sealed = repo.seal_record(&newer, &[]).unwrap();
    block_on(repo.publish_record(NUMBER, DEVICE, Seq(1), sealed.bytes)).unwrap();
    let error = block_on(repo.read_record(DEVICE, Seq(1))).unwrap_err();
    assert!(matches!(error, RepoError::NewerRules { found, .. } if found == RULES + 1), "{error}");
    assert!(error.is_newer() && error.needs_user() && !error.is_corrupt() && !error.is_retryable());
    assert!(error.to_string().contains("update Ourobox"));
    assert!(store.snapshot().contains_key(&name(1)));
}
