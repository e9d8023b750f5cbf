//! What random histories found, told shortly.

use crate::device::{End, Work};
use crate::history::History;
use crate::tree::{self, Spot};
use ouro_core::name::Name;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::volume::{Volume, VolumeError};

const ADA: usize = 0;
const BOB: usize = 1;

fn leaf(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a name")
}

fn spot(volume: &Volume, path: &str) -> Spot {
    tree::spots(volume).expect("all nodes are here")[path].clone()
}

fn write(volume: &Volume, path: &str, content: &[u8]) {
    let spot = spot(volume, path);
    volume.truncate(spot.seen.id, &spot.place(), 0).expect("it can be done");
    volume.write(spot.seen.id, &spot.place(), 0, content).expect("it can be done");
}

/// Makes a file in the root.
fn create(volume: &Volume, name: &str, content: &[u8]) {
    let root = spot(volume, "").seen.members().to_vec();
    let attributes = Attributes { mode: 0o644, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
    let made =
        volume.edit(|e| e.create(&root, &leaf(name), Kind::File, attributes.clone(), None)).expect("it can be done");
    volume.write(made, &Place { parent: root[0], name: leaf(name) }, 0, content).expect("it can be done");
}

fn rename(volume: &Volume, from: &str, to: &str) {
    let spot = spot(volume, from);
    volume.edit(|e| e.rename(&spot.seen, &spot.parent, &spot.parent, &leaf(to), None)).expect("it can be done");
}

fn remove(volume: &Volume, path: &str) {
    let spot = spot(volume, path);
    volume.edit(|e| Ok(((), e.remove(&spot.seen, &spot.parent)?))).expect("it can be done");
}

fn change_mode(volume: &Volume, path: &str) {
    let spot = spot(volume, path);
    let attributes = Attributes { mode: 0o600, ..spot.seen.attributes() };
    volume.edit(|e| e.set_attributes(&spot.seen, &spot.parent, attributes.clone())).expect("it can be done");
}

/// Ada has made `/f`, and both know it from a checkpoint.
fn with_a_file(content: &[u8]) -> History {
    let mut history = History::calm(2);
    create(&history.volume(ADA), "f", content);
    for (at, work) in [(ADA, Work::Push), (BOB, Work::Pull), (ADA, Work::Checkpoint), (BOB, Work::Pull)] {
        history.finish(at, work);
    }
    history.finish(BOB, Work::Checkpoint);
    history.finish(ADA, Work::Pull);
    history
}

fn paths(history: &mut History, at: usize) -> Vec<String> {
    history.seen(at).into_keys().filter(|path| !path.is_empty()).collect()
}

#[test]
fn regression_a_checkpoint_does_not_show_through_a_pending_rename() {
    let mut history = with_a_file(b"text");
    rename(&history.volume(ADA), "/f", "mine");
    rename(&history.volume(BOB), "/f", "theirs");
    history.finish(BOB, Work::Push);
    history.finish(ADA, Work::Pull);
    let before = paths(&mut history, ADA);
    history.finish(ADA, Work::Checkpoint);
    history.audit();
    assert_eq!(paths(&mut history, ADA), before);
    assert_eq!(before.len(), 1, "one file has one name: {before:?}");
}

#[test]
fn regression_a_commit_confirmed_late_brings_nothing_back() {
    let mut history = History::calm(2);
    create(&history.volume(ADA), "f", b"text");
    history.finish(ADA, Work::Push);
    for work in [Work::LearnDevices, Work::Pull] {
        history.finish(BOB, work);
    }
    change_mode(&history.volume(BOB), "/f");
    for work in [Work::Push, Work::Checkpoint] {
        history.finish(BOB, work);
    }
    history.restart(ADA, End::PowerCutLosingAll);
    assert!(history.volume(ADA).heads().is_empty(), "Ada does not know that her commit was published");
    for work in [Work::Begin, Work::Push, Work::Pull] {
        history.finish(ADA, work);
    }
    history.finish(BOB, Work::Pull);
    let seen = history.seen(ADA);
    history.agree(&seen);
    history.audit();
}

#[test]
fn regression_a_checkpoint_lets_a_commit_on_its_way_go_first() {
    let mut history = with_a_file(b"text");
    write(&history.volume(ADA), "/f", b"more");
    history.device(ADA).store.set_unreachable(true);
    assert!(history.try_to(ADA, Work::Push).is_err());
    history.device(ADA).store.set_unreachable(false);
    history.finish(ADA, Work::Checkpoint);
    history.finish(ADA, Work::Push);
    history.finish(BOB, Work::Pull);
    let seen = history.seen(ADA);
    assert_eq!(seen["/f"].as_deref(), Some(&b"more"[..]));
    history.agree(&seen);
}

#[test]
fn regression_a_file_deleted_while_open_is_itself_again_when_an_edit_revives_it() {
    let mut history = with_a_file(b"a text of some length");
    let volume = history.volume(ADA);
    let file = spot(&volume, "/f").seen.id;
    volume.open(file);
    remove(&volume, "/f");
    assert!(volume.orphan(file).is_some());
    write(&history.volume(BOB), "/f", b"edited");
    history.finish(BOB, Work::Push);
    history.finish(ADA, Work::Pull);
    assert!(volume.orphan(file).is_none());
    assert_eq!(history.seen(ADA)["/f"].as_deref(), Some(&b"edited"[..]));
    volume.write(file, &spot(&volume, "/f").place(), 6, b" again").unwrap();
    volume.close(file).unwrap();
    assert_eq!(history.seen(ADA)["/f"].as_deref(), Some(&b"edited again"[..]));
    history.finish(ADA, Work::Push);
    history.finish(BOB, Work::Pull);
    let seen = history.seen(ADA);
    history.agree(&seen);
}

#[test]
fn regression_a_conflict_copy_keeps_its_name_through_a_restart_without_network() {
    let mut history = with_a_file(b"text");
    write(&history.volume(ADA), "/f", b"one");
    write(&history.volume(BOB), "/f", b"other");
    history.finish(ADA, Work::Push);
    history.finish(BOB, Work::Push);
    history.finish(BOB, Work::Pull);
    let before = paths(&mut history, BOB);
    assert_eq!(before.len(), 2, "{before:?}");
    history.volume(BOB).flush(true).unwrap();
    history.device(BOB).store.set_unreachable(true);
    history.restart(BOB, End::Killed);
    let booted = history.volume(BOB);
    let after: Vec<String> = tree::spots(&booted).unwrap().into_keys().filter(|path| !path.is_empty()).collect();
    assert_eq!(after, before);
}

#[test]
fn regression_bytes_in_the_record_of_another_device_are_found_right_after_a_restart() {
    let content = vec![b'x'; 3_000];
    let mut history = with_a_file(&content);
    history.volume(BOB).flush(true).unwrap();
    history.restart(BOB, End::Killed);
    let volume = history.volume(BOB);
    let spot = spot(&volume, "/f");
    let Err(VolumeError::Need(blobs)) = tree::bytes_at(&volume, &spot) else {
        panic!("the cache is empty after a restart in this world")
    };
    let sync = std::sync::Arc::clone(&history.device(BOB).process().sync);
    history.bring(BOB, async move { sync.fetch_blobs(blobs).await }).unwrap();
    assert_eq!(tree::bytes_at(&volume, &spot).unwrap(), content);
}

#[test]
fn regression_a_crash_while_a_file_is_written_leaves_it_readable_and_the_rest_goes_on() {
    let mut history = with_a_file(b"text");
    let volume = history.volume(ADA);
    let spot = spot(&volume, "/f");
    volume.open(spot.seen.id);
    volume.write(spot.seen.id, &spot.place(), 4, b" and more").unwrap();
    // The journal's writer comes by before what was written is journalled.
    let ledger = std::sync::Arc::clone(&history.device(ADA).process().ledger);
    ledger.flush(ledger.last(), true).unwrap();
    history.restart(ADA, End::PowerCutLosingAll);
    assert_eq!(history.seen(ADA)["/f"].as_deref(), Some(&b"text"[..]));
    create(&history.volume(ADA), "g", b"next");
    for (at, work) in [(ADA, Work::Begin), (ADA, Work::Push), (BOB, Work::Pull)] {
        history.finish(at, work);
    }
    let seen = history.seen(ADA);
    assert_eq!(seen["/g"].as_deref(), Some(&b"next"[..]));
    history.agree(&seen);
}
