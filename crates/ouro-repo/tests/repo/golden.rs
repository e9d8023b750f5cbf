//! Golden files: every kind of object as it stands on the remote. A change of any of these bytes is a change of the format.
//!
//! `OUROBOX_WRITE_GOLDEN=1 cargo test -p ouro-repo golden` writes them anew.

use std::path::PathBuf;

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::content::ObjectId;
use ouro_core::id::{DeviceId, DeviceNo, Hlc, PackId, RecordHash, Seq};
use ouro_core::tree::NodeRef;
use ouro_repo::{
    Announcement, Body, Branch, Collection, CollectionNo, Covered, DeviceInfo, Gone, Hint, KeptState, MovedTable, Pin,
    Places, RULES, Removal, Repository, Secret,
};
use ouro_testkit::MemoryStore;

use crate::support::{DEVICE, NUMBER, new_repo, passphrase, ports, record_with_inline};

fn folder(encrypted: bool) -> PathBuf {
    let kind = if encrypted { "encrypted" } else { "plain" };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

const OTHER: DeviceId = DeviceId([0xd2; 16]);

/// A repository with one object of every kind.
fn write_everything(encrypted: bool) -> (std::sync::Arc<MemoryStore>, Repository) {
    let (store, repo) = new_repo(encrypted);
    let (name, rules) = ("kitchen".to_owned(), RULES);
    let info = DeviceInfo { id: DEVICE, number: NUMBER, name, created_ms: 1_800_000_000_000, rules, branch: None };
    block_on(repo.register_device(&info)).unwrap();
    let branch = Some(Branch { name: "draft".into(), opened_by: DEVICE });
    let opened = DeviceInfo { id: DeviceId([0xe5; 16]), number: DeviceNo(8), branch, ..info };
    block_on(repo.register_device(&opened)).unwrap();
    let mut packer = repo.packer();
    packer.add(b"a blob that is stored as it is").unwrap();
    packer.add(&b"a blob that compresses. ".repeat(50)).unwrap();
    let pack = packer.finish().unwrap().unwrap();
    block_on(repo.publish_pack(&pack)).unwrap();
    let (nodes, root) = crate::nodes::tree(&repo, 3);
    let root = block_on(repo.write_nodes(nodes)).unwrap().locate(root);
    let (mut first, blob, plain) = record_with_inline(&repo, 1);
    first.message = "first".into();
    let sealed = repo.seal_record(&first, &[(blob.id, plain)]).unwrap();
    block_on(repo.publish_record(NUMBER, DEVICE, Seq(1), sealed.bytes)).unwrap();
    let checkpoint = Announcement { root: Some(root), covers: vec![(NUMBER, Seq(1))], digest: 77 };
    let mut second = crate::support::record(2, Body::Checkpoint(checkpoint.clone()));
    second.previous = Some(sealed.hash);
    second.parents = vec![(NUMBER, Seq(1), sealed.hash), (DeviceNo(8), Seq(300), RecordHash([8; 32]))];
    let third = crate::support::record(3, Body::DeltaBlobs(pack.blobs.clone()));
    for record in [second, third] {
        let sealed = repo.seal_record(&record, &[]).unwrap();
        block_on(repo.publish_record(NUMBER, DEVICE, record.seq, sealed.bytes)).unwrap();
    }
    let checkpoint = Some(checkpoint);
    let hint = Hint { device: DEVICE, seq: Seq(3), checkpoint, acknowledged: 0, written_ms: 9, rules: RULES };
    block_on(repo.write_hint(&hint)).unwrap();
    let removal = Removal { device: DEVICE, by: OTHER, last: Seq(2), removed_ms: 1_800_000_000_009 };
    block_on(repo.remove_device(&removal)).unwrap();
    let places = Places::from([(pack.blobs[0].id.0, pack.blobs[1].at.unwrap())]);
    let table = block_on(repo.publish_table(&places)).unwrap();
    block_on(repo.publish_collection(&collection(root, table))).unwrap();
    (store, repo)
}

/// One with something in every field.
fn collection(root: NodeRef, table: PackId) -> Collection {
    let hlc = Hlc::from_millis(1_800_000_000_000);
    let commit = Covered { device: NUMBER, seq: Seq(1), hash: RecordHash([3; 32]), hlc };
    let pin = Pin { root: Some(root), covers: vec![commit] };
    let gone = vec![
        Gone::Pack(PackId([1; 16])),
        Gone::Nodes(PackId([2; 16])),
        Gone::Log { device: NUMBER, from: Seq(1), to: Seq(1) },
    ];
    Collection {
        number: CollectionNo(0).next(NUMBER),
        begun_ms: 1_800_000_000_000,
        begun_storage_ms: Some(1_800_000_001_000),
        ends: Some(CollectionNo(3)),
        confirmed: true,
        checkpoint: pin.clone(),
        digest: 77,
        marked: vec![(NUMBER, Seq(3))],
        kept: vec![KeptState { commit, message: "first".into(), pin }],
        condemned: gone.clone(),
        condemned_tables: vec![PackId([5; 16])],
        spared: vec![(NUMBER, Seq(1))],
        moved: vec![MovedTable { id: table, of: gone }],
        expired: vec![DeviceNo(9)],
    }
}

fn hex(bytes: &Bytes) -> String {
    let mut lines = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| lines += &format!("{byte:02x}"));
        lines.push('\n');
    }
    lines
}

#[test]
fn every_object_is_written_as_the_golden_files_say() {
    for encrypted in [true, false] {
        let (store, _) = write_everything(encrypted);
        let mut names = Vec::new();
        for (name, bytes) in store.snapshot() {
            let file = format!("{}.hex", name.replace('/', "_"));
            let path = folder(encrypted).join(&file);
            names.push(file);
            if std::env::var_os("OUROBOX_WRITE_GOLDEN").is_some() {
                std::fs::create_dir_all(folder(encrypted)).unwrap();
                std::fs::write(&path, hex(&bytes)).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(hex(&bytes), golden, "{name} differs from its golden file");
        }
        let mut there: Vec<String> = std::fs::read_dir(folder(encrypted))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        names.sort();
        assert_eq!(names, there, "golden files without an object");
    }
}

#[test]
fn the_golden_files_are_read() {
    for encrypted in [true, false] {
        let (written, _) = write_everything(encrypted);
        let store = std::sync::Arc::new(MemoryStore::new());
        for name in written.snapshot().keys() {
            let path = folder(encrypted).join(format!("{}.hex", name.replace('/', "_")));
            let text: String = std::fs::read_to_string(path).unwrap().split_whitespace().collect();
            let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let bytes: Vec<u8> = text.as_bytes().chunks(2).map(digits).collect();
            block_on(ouro_remote::Store::publish(store.as_ref(), name, bytes.into())).unwrap();
        }
        let secret = if encrypted { passphrase("open sesame") } else { Secret::None };
        let repo = block_on(Repository::open(store, ports(9), &secret)).unwrap();
        let devices = block_on(repo.devices()).unwrap();
        assert_eq!((devices[0].name.as_str(), devices[0].branch.as_ref()), ("kitchen", None));
        assert_eq!(devices[1].shown(), "kitchen on draft");
        assert_eq!(repo.retired(), [(DEVICE, Seq(2))].into());
        assert_eq!(block_on(repo.hints()).unwrap()[0].seq, Seq(3));
        let (first, hash, inline) = block_on(repo.read_record(DEVICE, Seq(1))).unwrap().unwrap();
        assert_eq!((first.message.as_str(), inline.len()), ("first", 1));
        let (second, ..) = block_on(repo.read_record(DEVICE, Seq(2))).unwrap().unwrap();
        assert_eq!(second.previous, Some(hash));
        let Body::Checkpoint(Announcement { root: Some(root), .. }) = second.body else { panic!("no checkpoint") };
        assert_eq!(block_on(repo.fetch_top(&root)).unwrap().len(), 1);
        let (third, ..) = block_on(repo.read_record(DEVICE, Seq(3))).unwrap().unwrap();
        let (number, found) = block_on(repo.collections()).unwrap().pop_last().unwrap();
        assert_eq!(found, collection(root, found.moved[0].id));
        assert_eq!(number, found.number);
        let Body::DeltaBlobs(blobs) = third.body else { panic!("no blobs") };
        // The first blob, once its pack is gone, is looked for where the table says.
        let at = block_on(repo.follow(&blobs[0].id.0, ObjectId::Pack(PackId([1; 16])))).unwrap();
        assert_eq!(at, blobs[1].at);
        assert_eq!(block_on(repo.fetch_blob(&blobs[0])).unwrap().as_ref(), b"a blob that is stored as it is");
    }
}
