//! Whatever somebody does to the bytes on the remote: an error, or nothing; never a panic, never wrong bytes.

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::content::{BlobRef, Locator, ObjectId};
use ouro_core::id::{NodeId, Seq};
use ouro_remote::Store;
use ouro_repo::{DeviceInfo, Effort, HEADER_BYTES, RULES, RepoError};
use proptest::prelude::*;

use crate::support::{DEVICE, NUMBER, new_repo, noise, record_with_inline};

/// Every byte changed, one after the other.
fn changes(bytes: &Bytes) -> impl Iterator<Item = (usize, Bytes)> + '_ {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        (at, changed.into())
    })
}

#[test]
fn every_changed_byte_of_a_record_is_noticed() {
    for encrypted in [true, false] {
        let (store, repo) = new_repo(encrypted);
        let (record, blob, plain) = record_with_inline(&repo, 1);
        let sealed = repo.seal_record(&record, &[(blob.id, plain)]).unwrap();
        let name = format!("log/{DEVICE}/{:016x}", 1);
        for (at, changed) in changes(&sealed.bytes) {
            block_on(store.overwrite(&name, changed)).unwrap();
            match block_on(repo.read_record(DEVICE, Seq(1))) {
                Err(RepoError::Corrupt { .. } | RepoError::Foreign { .. }) => {}
                Err(RepoError::NewerFormat { .. }) if at == 6 => {}
                Ok(None) if (8..12).contains(&at) => {} // a greater length: as good as torn
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_changed_byte_of_a_blob_is_corrupt() {
    for encrypted in [true, false] {
        let (_, repo) = new_repo(encrypted);
        for plain in [noise(1, 300), vec![7; 5000]] {
            let sealed = repo.seal_blob(&plain, Effort::Quick).unwrap();
            let bytes = Bytes::from(sealed.bytes);
            assert_eq!(repo.open_blob(&sealed.id, &bytes).unwrap(), plain);
            for (at, changed) in changes(&bytes) {
                let opened = repo.open_blob(&sealed.id, &changed);
                assert!(matches!(opened, Err(RepoError::Corrupt { .. })), "byte {at}");
            }
        }
    }
}

#[test]
fn every_changed_byte_of_a_packs_header_and_directory_is_noticed() {
    let (store, repo) = new_repo(true);
    let mut packer = repo.packer();
    packer.add(&noise(1, 200)).unwrap();
    let pack = packer.finish().unwrap().unwrap();
    let directory_start = pack.bytes.len() - u32::from_le_bytes(pack.bytes[12..16].try_into().unwrap()) as usize;
    let name = repo.object_name(ObjectId::Pack(pack.id)).unwrap();
    for (at, changed) in changes(&pack.bytes) {
        block_on(store.overwrite(&name, changed)).unwrap();
        let found = block_on(repo.pack_directory(pack.id));
        if (HEADER_BYTES..directory_start).contains(&at) {
            assert!(matches!(found, Ok(Some(_))), "byte {at} is a blob's");
        } else {
            assert!(!matches!(found, Ok(Some(_))), "byte {at}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_is_an_error() {
    let (_, repo) = new_repo(true);
    let mut packer = repo.packer();
    let (blob, _) = packer.add(&noise(1, 200)).unwrap();
    block_on(repo.publish_pack(&packer.finish().unwrap().unwrap())).unwrap();
    let at = blob.at.unwrap();
    for (offset, len) in [(at.offset, u32::MAX), (u32::MAX, 10), (u32::MAX, u32::MAX), (0, 0), (at.offset, 3)] {
        let wrong = BlobRef { at: Some(Locator { offset, len, ..at }), ..blob };
        assert!(block_on(repo.fetch_blob(&wrong)).is_err(), "{offset} {len}");
    }
}

#[test]
fn every_changed_byte_of_a_device_is_noticed() {
    let (store, repo) = new_repo(true);
    let (name, rules) = ("laptop".to_owned(), RULES);
    let info = DeviceInfo { id: DEVICE, number: NUMBER, name, created_ms: 1, rules, branch: None };
    block_on(repo.register_device(&info)).unwrap();
    let name = format!("devices/{DEVICE}");
    for (at, changed) in changes(&store.snapshot()[&name]) {
        block_on(store.overwrite(&name, changed)).unwrap();
        assert!(!matches!(block_on(repo.device(DEVICE)), Ok(Some(_))), "byte {at}");
    }
}

/// Random bytes behind a right header, so that they reach the decoders.
fn dressed(kind: u8, body: &[u8], part: u32) -> Bytes {
    let mut bytes = b"OURBX\x1a\x01".to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_le_bytes());
    bytes.extend_from_slice(&part.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn random_bytes_are_never_taken_for_anything(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        part in 0u32..400,
        kind in 0u8..8,
        bare: bool,
    ) {
        let (store, repo) = new_repo(false);
        let bytes = if bare { Bytes::from(body.clone()) } else { dressed(kind, &body, part) };
        let log = format!("log/{DEVICE}/{:016x}", 1);
        let pack = ouro_core::id::PackId([1; 16]);
        let places = [log, format!("devices/{DEVICE}"), format!("heads/{DEVICE}"), repo.object_name(ObjectId::Pack(pack)).unwrap()];
        for name in &places {
            block_on(store.overwrite(name, bytes.clone())).unwrap();
        }
        prop_assert!(!matches!(block_on(repo.read_record(DEVICE, Seq(1))), Ok(Some(_))));
        prop_assert!(!matches!(block_on(repo.device(DEVICE)), Ok(Some(_))));
        prop_assert!(block_on(repo.hints()).unwrap().is_empty());
        prop_assert!(!matches!(block_on(repo.pack_directory(pack)), Ok(Some(_))));
        prop_assert!(repo.open_blob(&repo.blob_id(b"x"), &bytes).is_err());
        prop_assert!(repo.open_node(NodeId([1; 32]), &bytes).is_err());
        let at = Locator { object: ObjectId::Record(NUMBER, Seq(1)), offset: part, len: u32::MAX };
        prop_assert!(repo.open_inline(&bytes, &repo.blob_id(b"x"), &at).is_err());
    }
}
