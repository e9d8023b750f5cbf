//! Making and opening repositories; devices and hints.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::delta::Delta;
use ouro_core::id::{DeviceId, DeviceNo, Line, Seq};
use ouro_remote::Store;
use ouro_repo::{
    Announcement, Body, Branch, ChunkerParams, DeviceInfo, Hint, InitOptions, RULES, Removal, RepoError, Repository,
    Secret,
};
use ouro_testkit::MemoryStore;

use crate::support::{DEVICE, NUMBER, new_repo, options, passphrase, ports, record};

fn open(store: &Arc<MemoryStore>, secret: &Secret) -> Result<Repository, RepoError> {
    block_on(Repository::open(store.clone(), ports(2), secret))
}

fn init(store: &Arc<MemoryStore>, secret: &Secret) -> Result<Repository, RepoError> {
    block_on(Repository::init(store.clone(), ports(3), secret, options()))
}

fn put(store: &MemoryStore, name: &str, bytes: &[u8]) {
    block_on(store.overwrite(name, Bytes::copy_from_slice(bytes))).unwrap();
}

#[test]
fn what_was_made_opens_with_the_same_keys() {
    for encrypted in [true, false] {
        let (store, made) = new_repo(encrypted);
        let secret = if encrypted { passphrase("open sesame") } else { Secret::None };
        let opened = open(&store, &secret).unwrap();
        assert_eq!(opened.id(), made.id());
        assert_eq!(opened.config(), made.config());
        assert_eq!(opened.blob_id(b"x"), made.blob_id(b"x"));
        assert_eq!(opened.tree_params(), made.tree_params());
    }
}

#[test]
fn a_wrong_passphrase_a_missing_one_and_one_too_many_are_told_apart() {
    let (store, _) = new_repo(true);
    assert!(matches!(open(&store, &passphrase("open")), Err(RepoError::WrongPassphrase)));
    assert!(matches!(open(&store, &Secret::None), Err(RepoError::EncryptedNeedsPassphrase)));
    let (store, _) = new_repo(false);
    assert!(matches!(open(&store, &passphrase("x")), Err(RepoError::UnencryptedButPassphraseGiven)));
}

#[test]
fn an_empty_place_and_a_strangers_file_are_no_repository() {
    let store = Arc::new(MemoryStore::new());
    assert!(matches!(open(&store, &Secret::None), Err(RepoError::NotARepository)));
    put(&store, "ourobox.json", b"<html>");
    assert!(matches!(open(&store, &Secret::None), Err(RepoError::StrangeConfig)));
    put(&store, "ourobox.json", br#"{"format":"ourobox","version":9}"#);
    assert!(matches!(open(&store, &Secret::None), Err(RepoError::NewerFormat { found: 9, .. })));
}

#[test]
fn init_refuses_a_place_that_holds_anything_and_writes_nothing_there() {
    let (store, made) = new_repo(true);
    let before = store.snapshot();
    let again = init(&store, &Secret::None);
    assert!(matches!(again, Err(RepoError::AlreadyRepository { id: Some(id) }) if id == made.id()));
    assert_eq!(store.snapshot(), before);
    let store = Arc::new(MemoryStore::new());
    put(&store, "holiday.jpg", b"x");
    assert!(matches!(init(&store, &Secret::None), Err(RepoError::NotEmpty { found }) if found == "holiday.jpg"));
    assert_eq!(store.snapshot().len(), 1);
}

#[test]
fn an_interrupted_init_can_be_repeated() {
    let (complete, _) = new_repo(true);
    let interrupted = Arc::new(MemoryStore::new());
    for (name, bytes) in complete.snapshot().iter().filter(|(name, _)| name.starts_with("keys/")) {
        put(&interrupted, name, bytes);
    }
    assert!(matches!(open(&interrupted, &Secret::None), Err(RepoError::NotARepository)));
    let made = init(&interrupted, &passphrase("another")).unwrap();
    assert_eq!(open(&interrupted, &passphrase("another")).unwrap().id(), made.id());
    assert!(matches!(open(&interrupted, &passphrase("open sesame")), Err(RepoError::WrongPassphrase)));
}

#[test]
fn a_second_passphrase_opens_the_same_repository() {
    let (store, made) = new_repo(true);
    block_on(made.add_passphrase(&"second".to_owned().into(), options().cost)).unwrap();
    for text in ["open sesame", "second"] {
        let opened = open(&store, &passphrase(text)).unwrap();
        assert_eq!(opened.master_key().unwrap().as_bytes(), made.master_key().unwrap().as_bytes());
    }
}

#[test]
fn a_device_opens_what_it_joined_without_any_request() {
    for encrypted in [true, false] {
        let (_, made) = new_repo(encrypted);
        let store = Arc::new(MemoryStore::new());
        let (config, key) = (made.config_bytes().clone(), made.master_key().cloned());
        let opened = Repository::open_with_key(store.clone(), ports(4), config, key).unwrap();
        assert_eq!(opened.blob_id(b"x"), made.blob_id(b"x"));
        assert_eq!(store.usage().gets, 0);
    }
    let (_, first) = new_repo(true);
    let second_store = Arc::new(MemoryStore::new());
    let second = init(&second_store, &passphrase("x")).unwrap();
    let mixed =
        Repository::open_with_key(second_store, ports(4), first.config_bytes().clone(), second.master_key().cloned());
    assert!(matches!(mixed, Err(RepoError::WrongKey)));
}

#[test]
fn ordinary_options_take_an_ordinary_passphrase() {
    let store = Arc::new(MemoryStore::new());
    let secret = passphrase("correct horse battery staple");
    block_on(Repository::init(store.clone(), ports(5), &secret, InitOptions::default())).unwrap();
    open(&store, &secret).unwrap();
}

fn device(byte: u8, number: u32) -> DeviceInfo {
    let (id, number) = (DeviceId([byte; 16]), DeviceNo(number));
    DeviceInfo { id, number, name: format!("laptop {byte}"), created_ms: 1_800_000_000_000, rules: RULES, branch: None }
}

#[test]
fn devices_are_registered_once_and_learnt_by_reading() {
    let (store, repo) = new_repo(true);
    for info in [device(2, 20), device(1, 10)] {
        block_on(repo.register_device(&info)).unwrap();
        block_on(repo.register_device(&info)).unwrap();
    }
    let other = open(&store, &passphrase("open sesame")).unwrap();
    assert!(matches!(other.device_id(DeviceNo(20)), Err(RepoError::UnknownDevice { .. })));
    assert_eq!(block_on(other.devices()).unwrap(), [device(1, 10), device(2, 20)]);
    assert_eq!(other.device_id(DeviceNo(20)).unwrap(), DeviceId([2; 16]));
    let names: Vec<String> = store.snapshot().into_keys().collect();
    assert!(names.contains(&format!("devices/{}", "01".repeat(16))), "{names:?}");
    assert!(!store.snapshot().values().any(|bytes| bytes.windows(6).any(|w| w == b"laptop")));
}

#[test]
fn a_removed_device_is_known_to_all_and_its_log_counts_up_to_the_greatest_number_said() {
    let (store, repo) = new_repo(true);
    for info in [device(1, 10), device(2, 20), device(3, 30)] {
        block_on(repo.register_device(&info)).unwrap();
    }
    let removal =
        |by, last| Removal { device: DeviceId([2; 16]), by: DeviceId([by; 16]), last: Seq(last), removed_ms: 7 };
    block_on(repo.remove_device(&removal(1, 4))).unwrap();
    assert_eq!(repo.retired_at(DeviceId([2; 16])), Some(Seq(4)));
    let other = open(&store, &passphrase("open sesame")).unwrap();
    assert!(other.retired().is_empty(), "nobody was asked");
    assert_eq!(block_on(other.devices()).unwrap().len(), 3, "a removed device is a device all the same");
    assert_eq!(other.retired(), [(DeviceId([2; 16]), Seq(4))].into());
    block_on(other.remove_device(&removal(3, 6))).unwrap();
    block_on(repo.devices()).unwrap();
    for repo in [&repo, &other] {
        assert_eq!(repo.retired(), [(DeviceId([2; 16]), Seq(6))].into());
    }
    let gets = store.usage().gets;
    block_on(repo.devices()).unwrap();
    assert_eq!(store.usage().gets, gets, "what is written once is read once");
    block_on(repo.remove_device(&removal(1, 9))).unwrap();
    assert_eq!(repo.retired_at(DeviceId([2; 16])), Some(Seq(6)), "what was said first stays");
}

#[test]
fn a_removal_whose_upload_was_cut_off_is_written_again() {
    let (store, repo) = new_repo(true);
    block_on(repo.register_device(&device(2, 20))).unwrap();
    let removal = Removal { device: DeviceId([2; 16]), by: DeviceId([1; 16]), last: Seq(4), removed_ms: 7 };
    block_on(repo.remove_device(&removal)).unwrap();
    let (name, bytes) = store.snapshot().into_iter().find(|(name, _)| name.contains("removed")).unwrap();
    block_on(store.overwrite(&name, bytes.slice(..bytes.len() - 5))).unwrap();
    let other = open(&store, &passphrase("open sesame")).unwrap();
    block_on(other.devices()).unwrap();
    assert!(other.retired().is_empty(), "a torn one counts as absent");
    block_on(other.remove_device(&Removal { last: Seq(6), removed_ms: 9, ..removal })).unwrap();
    let third = open(&store, &passphrase("open sesame")).unwrap();
    block_on(third.devices()).unwrap();
    assert_eq!(third.retired_at(DeviceId([2; 16])), Some(Seq(6)));
}

#[test]
fn of_two_devices_with_one_number_the_one_that_writes_has_it() {
    let (store, repo) = new_repo(false);
    for byte in [1, 2, 3] {
        block_on(repo.register_device(&device(byte, 10))).unwrap();
    }
    let look = || {
        let other = open(&store, &Secret::None).unwrap();
        block_on(other.devices()).unwrap();
        other.device_id(DeviceNo(10)).unwrap()
    };
    assert_eq!(look(), DeviceId([1; 16]));
    let removal = Removal { device: DeviceId([1; 16]), by: DeviceId([9; 16]), last: Seq(0), removed_ms: 7 };
    block_on(repo.remove_device(&removal)).unwrap();
    assert_eq!(look(), DeviceId([2; 16]), "one that drew again is none any more");
    repo.learn_device(DeviceNo(10), DeviceId([3; 16]));
    let mut record = record(1, Body::Delta(Delta::default()));
    record.device = DeviceNo(10);
    let sealed = repo.seal_record(&record, &[]).unwrap();
    block_on(repo.publish_record(DeviceNo(10), DeviceId([3; 16]), Seq(1), sealed.bytes)).unwrap();
    assert_eq!(look(), DeviceId([3; 16]));
}

#[test]
fn devices_that_open_a_branch_of_one_name_write_one_line() {
    let (store, repo) = new_repo(true);
    let branch = |name: &str| Some(Branch { name: name.to_owned(), opened_by: DeviceId([1; 16]) });
    let opened = [
        device(1, 10),
        DeviceInfo { branch: branch("draft"), ..device(2, 20) },
        DeviceInfo { branch: branch("draft"), ..device(3, 30) },
        DeviceInfo { branch: branch("other"), ..device(4, 40) },
    ];
    for info in &opened {
        block_on(repo.register_device(info)).unwrap();
    }
    let other = open(&store, &passphrase("open sesame")).unwrap();
    assert_eq!(block_on(other.devices()).unwrap(), opened);
    assert_eq!(
        opened.map(|info| info.shown()),
        ["laptop 1", "laptop 2 on draft", "laptop 3 on draft", "laptop 4 on other"]
    );
    for repo in [&repo, &other] {
        let lines = [10, 20, 30, 40].map(|no| repo.line(DeviceNo(no)));
        assert_eq!(lines[0], Line::MAIN);
        assert!(!lines[1].is_main() && lines[1] == lines[2] && lines[1] != lines[3], "{lines:?}");
        assert_eq!(lines[1], repo.line_named("draft"));
    }
    let (_, elsewhere) = new_repo(false);
    assert_ne!(elsewhere.line_named("draft"), repo.line_named("draft"), "numbers tell nothing about names");
    let long = DeviceInfo { branch: branch(&"x".repeat(256)), ..device(5, 50) };
    assert!(matches!(block_on(repo.register_device(&long)), Err(RepoError::TooLarge { .. })));
}

#[test]
fn a_hint_is_overwritten_and_a_damaged_one_is_left_out() {
    let (store, repo) = new_repo(true);
    let checkpoint = Some(Announcement { root: None, covers: vec![(NUMBER, Seq(3))], digest: 4 });
    let mut hint = Hint { device: DEVICE, seq: Seq(3), checkpoint, acknowledged: 0, written_ms: 5, rules: RULES };
    block_on(repo.write_hint(&hint)).unwrap();
    hint.seq = Seq(9);
    block_on(repo.write_hint(&hint)).unwrap();
    let other = Hint { device: DeviceId([1; 16]), checkpoint: None, ..hint.clone() };
    block_on(repo.write_hint(&other)).unwrap();
    assert_eq!(block_on(repo.hints()).unwrap(), [other.clone(), hint.clone()]);
    let name = format!("heads/{DEVICE}");
    let mut bytes = store.snapshot()[&name].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    put(&store, &name, &bytes);
    put(&store, "heads/notes.txt", b"a stranger's");
    assert_eq!(block_on(repo.hints()).unwrap(), [other]);
}

/// A first chunk of up to 128 bytes was taken for the whole file.
#[test]
fn no_chunk_may_be_so_short_that_it_fits_into_an_entry() {
    for (min, fits) in [(64, true), (128, true), (130, false)] {
        let chunker = ChunkerParams { min, average: 256, max: 1 << 10 };
        let options = InitOptions { chunker, ..options() };
        let made = block_on(Repository::init(Arc::new(MemoryStore::new()), ports(1), &Secret::None, options));
        assert_eq!(matches!(made, Err(RepoError::Unsupported { .. })), fits, "{min}");
        assert_eq!(made.is_err(), fits, "{min}");
    }
}
