//! What random histories found, told shortly.

use crate::device::{End, Work};
use crate::history::History;
use crate::identity::link;
use crate::tree::{self, Spot};
use futures::executor::block_on;
use ouro_core::name::Name;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::ledger::Write;
use ouro_local::volume::{Volume, VolumeError};
use ouro_remote::Store;

const ADA: usize = 0;
const BOB: usize = 1;

fn leaf(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a name")
}

fn spot(volume: &Volume, path: &str) -> Spot {
    tree::spots(volume).expect("all nodes are here")[path].clone()
}

pub(crate) fn write(volume: &Volume, path: &str, content: &[u8]) {
    let spot = spot(volume, path);
    volume.truncate(spot.seen.id, &spot.place(), 0).expect("it can be done");
    volume.write(spot.seen.id, &spot.place(), 0, content).expect("it can be done");
}

/// Makes a file in the root.
pub(crate) fn create(volume: &Volume, name: &str, content: &[u8]) {
    let root = spot(volume, "").seen.members().to_vec();
    let attributes = Attributes { mode: 0o644, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
    let made =
        volume.edit(|e| e.create(&root, &leaf(name), Kind::File, attributes.clone(), None)).expect("it can be done");
    volume.write(made, &Place { parent: root[0], name: leaf(name) }, 0, content).expect("it can be done");
}

/// Makes an empty file in the root, of which nothing has to be known.
fn create_in_root(volume: &Volume, name: &str) {
    let attributes = Attributes { mode: 0o644, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
    let root = [ouro_core::id::FileId::ROOT];
    volume.edit(|e| e.create(&root, &leaf(name), Kind::File, attributes.clone(), None)).expect("it can be done");
}

fn rename(volume: &Volume, from: &str, to: &str) {
    let spot = spot(volume, from);
    volume.edit(|e| e.rename(&spot.seen, &spot.parent, &spot.parent, &leaf(to), None)).expect("it can be done");
}

pub(crate) fn remove(volume: &Volume, path: &str) {
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
    volume.open(file).unwrap();
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
    volume.open(spot.seen.id).unwrap();
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

#[test]
fn bytes_lost_before_they_were_published_hold_up_nothing_else() {
    for size in [20, 90_000] {
        let mut history = with_a_file(b"committed");
        let volume = history.volume(ADA);
        write(&volume, "/f", &vec![b'x'; size]);
        create(&volume, "born", &vec![b'y'; size]);
        create(&volume, "whole", b"whole");
        let ids = ["/f", "/born"].map(|path| spot(&volume, path).seen.id);
        let generation = volume.seal().unwrap().unwrap().generation;
        drop(volume);
        // As an old fault left it: the generation names bytes that the journal does not have.
        let ledger = std::sync::Arc::clone(&history.device(ADA).process().ledger);
        let gone = ids.into_iter().flat_map(|file| {
            [Write::Small { file, generation, bytes: None }, Write::Layer { file, generation, state: None }]
        });
        ledger.flush(ledger.submit(gone.collect()), true).unwrap();
        drop(ledger);
        history.restart(ADA, End::PowerCutLosingAll);
        write(&history.volume(ADA), "/whole", b"more");
        for (at, work) in [(ADA, Work::Begin), (ADA, Work::Push), (ADA, Work::Push), (BOB, Work::Pull)] {
            history.finish(at, work);
        }
        let seen = history.seen(ADA);
        let text = |path: &str| seen[path].clone().unwrap();
        assert_eq!((text("/f"), text("/born"), text("/whole")), (b"committed".to_vec(), vec![], b"more".to_vec()));
        let mut lost = history.device(ADA).process().sync.status().lost;
        lost.sort();
        assert_eq!(lost, ["born", "f"]);
        history.agree(&seen);
        history.audit();
    }
}

/// A save by way of a new file, from another program on each device.
#[test]
fn saves_on_two_devices_that_know_nothing_of_each_other_are_edits_of_one_file() {
    let mut history = with_a_file(b"text");
    let file = spot(&history.volume(ADA), "/f").seen.id;
    let volume = history.volume(ADA);
    create(&volume, "new", b"of ada");
    let (new, old) = (spot(&volume, "/new"), spot(&volume, "/f"));
    volume
        .edit(|e| e.rename(&new.seen, &new.parent, &old.parent, &leaf("f"), Some(&old.seen)))
        .expect("it can be done");
    let volume = history.volume(BOB);
    rename(&volume, "/f", "f~");
    create(&volume, "f", b"of bob");
    remove(&volume, "/f~");
    for (at, work) in [(ADA, Work::Push), (BOB, Work::Push), (ADA, Work::Pull), (BOB, Work::Pull)] {
        history.finish(at, work);
    }
    let seen = history.seen(ADA);
    history.agree(&seen);
    let contents: std::collections::BTreeSet<Vec<u8>> = seen.values().flatten().cloned().collect();
    assert_eq!(contents, [b"of ada".to_vec(), b"of bob".to_vec()].into());
    for at in [ADA, BOB] {
        let volume = history.volume(at);
        assert_eq!(spot(&volume, "/f").seen.id, file);
        let copy =
            paths(&mut history, at).into_iter().find(|path| path.contains("conflict from")).expect("one is a copy");
        assert!(spot(&volume, &copy).seen.id.is_derived(), "another content of the same file");
    }
    history.audit();
}

/// Simulator seeds 651914, 670189 and 671789: it was shown under the name that it was written under, which nobody else ever saw.
#[test]
fn a_file_that_lost_all_its_names_is_back_under_the_one_that_others_first_knew() {
    for sealed_meanwhile in [false, true] {
        let mut history = with_a_file(b"text");
        let volume = history.volume(ADA);
        create(&volume, ".page.swp", b"a page");
        if sealed_meanwhile {
            history.finish(ADA, Work::Push);
        }
        rename(&volume, "/.page.swp", "page");
        link(&volume, "/page", "print");
        history.finish(ADA, Work::Push);
        history.finish(BOB, Work::Pull);
        remove(&volume, "/page");
        remove(&history.volume(BOB), "/print");
        for (at, work) in [(ADA, Work::Push), (BOB, Work::Push), (ADA, Work::Pull), (BOB, Work::Pull)] {
            history.finish(at, work);
        }
        let seen = history.seen(ADA);
        history.agree(&seen);
        assert_eq!(paths(&mut history, BOB), ["/f", "/page"]);
        assert_eq!(seen["/page"].as_deref(), Some(&b"a page"[..]));
        history.audit();
    }
}

/// Simulator seed 51804: whoever had it open read the old bytes under the new name.
#[test]
fn a_copy_that_is_open_is_the_file_that_another_device_makes_of_it_elsewhere() {
    let mut history = with_a_file(b"text");
    let volume = history.volume(ADA);
    let attributes = Attributes { mode: 0o755, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
    let root = [ouro_core::id::FileId::ROOT];
    volume.edit(|e| e.create(&root, &leaf("elsewhere"), Kind::Directory, attributes.clone(), None)).unwrap();
    history.exchange();
    write(&history.volume(ADA), "/f", b"of ada");
    write(&history.volume(BOB), "/f", b"of bob");
    for (at, work) in [(ADA, Work::Push), (BOB, Work::Push), (ADA, Work::Pull), (BOB, Work::Pull)] {
        history.finish(at, work);
    }
    let copy = paths(&mut history, BOB).into_iter().find(|path| path.contains("conflict")).unwrap();
    let bob = history.volume(BOB);
    let opened = spot(&bob, &copy).seen.id;
    bob.open(opened).unwrap();
    let ada = history.volume(ADA);
    let (from, to) = (spot(&ada, &copy), spot(&ada, "/elsewhere"));
    ada.edit(|e| e.rename(&from.seen, &from.parent, to.seen.members(), &leaf("moved"), None)).unwrap();
    let moved = spot(&ada, "/elsewhere/moved");
    ada.write(moved.seen.id, &moved.place(), 0, b"written, longer").unwrap();
    history.finish(ADA, Work::Push);
    history.finish(BOB, Work::Pull);
    assert_eq!(spot(&bob, "/elsewhere/moved").seen.id, opened);
    assert!(bob.orphan(opened).is_none());
    assert_eq!(history.seen(BOB)["/elsewhere/moved"].as_deref(), Some(&b"written, longer"[..]));
    bob.close(opened).unwrap();
    let seen = history.seen(ADA);
    history.agree(&seen);
}

/// What is on its way loses to a content that comes in before it is there: it is a copy whose bytes only this device has.
#[test]
fn a_copy_of_what_is_on_its_way_is_read_and_can_be_touched() {
    type Touch = fn(&Volume, &str);
    let touches: [(&str, Touch); 5] = [
        ("nothing", |_, _| {}),
        ("rename", |volume, copy| rename(volume, copy, "kept")),
        ("write", |volume, copy| {
            let spot = spot(volume, copy);
            volume.write(spot.seen.id, &spot.place(), 0, b"M").expect("it can be done");
        }),
        ("chmod", change_mode),
        ("remove the other", |volume, _| remove(volume, "/f")),
    ];
    for size in [6, 90_000] {
        for (what, touch) in touches {
            for restarts in [false, true] {
                let mut history = with_a_file(b"text");
                let mine = vec![b'm'; size];
                write(&history.volume(ADA), "/f", &mine);
                history.finish(ADA, Work::Look);
                history.device(ADA).store.set_unreachable(true);
                assert!(history.try_to(ADA, Work::Push).is_err());
                history.device(ADA).store.set_unreachable(false);
                history.pass(10_000);
                write(&history.volume(BOB), "/f", b"theirs");
                history.finish(BOB, Work::Push);
                history.finish(ADA, Work::Pull);
                let copy = paths(&mut history, ADA).into_iter().find(|path| path.contains("conflict")).expect(what);
                assert_eq!(history.seen(ADA)[&copy].as_deref(), Some(&mine[..]), "{what}");
                touch(&history.volume(ADA), &copy);
                if restarts {
                    history.volume(ADA).flush(true).unwrap();
                    history.restart(ADA, End::PowerCutLosingAll);
                    history.finish(ADA, Work::Begin);
                }
                let before = history.seen(ADA);
                history.audit();
                for (at, work) in [(ADA, Work::Push), (ADA, Work::Push), (BOB, Work::Pull)] {
                    history.finish(at, work);
                }
                assert_eq!(history.seen(ADA), before, "{what}, {size} bytes, restarts: {restarts}");
                assert!(before.values().flatten().any(|content| content.len() == size && content[1..] == mine[1..]));
                history.agree(&before);
                history.audit();
            }
        }
    }
}

/// Simulator seed 1832969: what the one had written and removed came back, since the other had removed the same file.
#[test]
fn what_was_removed_after_it_was_sealed_stays_away_although_a_copy_stamped_its_own_commit_alike() {
    let mut history = with_a_file(b"text");
    history.volume(ADA).flush(true).unwrap();
    // Their clocks are behind what both know: each stamps its next commit right after that.
    history.device_mut(ADA).set_ahead(-3_600_000);
    let twin = history.copy(ADA);
    history.restart(ADA, End::Killed);
    history.boot(twin);
    for (at, content) in [(ADA, b"of ada"), (twin, b"of two")] {
        history.finish(at, Work::Begin);
        write(&history.volume(at), "/f", content);
        // Both give it the same id.
        create(&history.volume(at), "born", content);
        history.finish(at, Work::Look);
    }
    history.device(twin).store.set_unreachable(true);
    assert!(history.try_to(twin, Work::Push).is_err());
    history.device(twin).store.set_unreachable(false);
    history.finish(ADA, Work::Push);
    let number = history.volume(ADA).device();
    let stamped = history.volume(ADA).heads()[&number];
    let sealed = history.volume(twin).sealed().expect("it is on its way").version;
    assert_eq!((sealed.device, sealed.seq, sealed.hlc), (number, stamped.seq, stamped.hlc));
    for at in [ADA, twin] {
        remove(&history.volume(at), "/f");
        remove(&history.volume(at), "/born");
        history.finish(at, Work::Push);
    }
    assert_ne!(history.volume(twin).device(), number);
    history.exchange();
    assert!(paths(&mut history, BOB).is_empty(), "{:?}", paths(&mut history, BOB));
    history.audit();
}

/// Whole seed 1871377: when the one heard that it was a copy it took in what the other had written, into its trash, and that was gone for all.
#[test]
fn what_a_copy_of_a_device_wrote_stays_although_the_other_threw_the_file_away() {
    for is_open in [false, true] {
        let mut history = with_a_file(b"text");
        history.manner.throws = true;
        history.volume(ADA).flush(true).unwrap();
        let twin = history.copy(ADA);
        history.boot(twin);
        write(&history.volume(twin), "/f", b"of two");
        history.finish(twin, Work::Push);
        let ada = history.volume(ADA);
        let thrown = spot(&ada, "/f");
        if is_open {
            ada.open(thrown.seen.id).unwrap();
        }
        let attributes = Attributes { mode: 0o700, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
        let root = spot(&ada, "").seen.members().to_vec();
        let trash = leaf(".Trash-1000");
        let made = ada.edit(|e| e.create(&root, &trash, Kind::Directory, attributes.clone(), None)).unwrap();
        ada.edit(|e| e.rename(&thrown.seen, &thrown.parent, &[made], &leaf("f"), None)).unwrap();
        history.finish(ADA, Work::Begin);
        history.finish(ADA, Work::Push);
        assert_ne!(history.volume(ADA).device(), history.volume(twin).device());
        if is_open {
            ada.close(thrown.seen.id).unwrap();
        }
        history.exchange();
        for at in [ADA, BOB, twin] {
            let volume = history.volume(at);
            assert_eq!(tree::bytes_at(&volume, &spot(&volume, "/f")).unwrap(), b"of two");
        }
        assert_eq!(tree::spots(&ada).unwrap().contains_key("/.Trash-1000/f"), !is_open);
    }
}

/// A box whose index has inner nodes below its root.
#[test]
fn who_misses_the_root_of_the_index_waits_for_it_alone_and_what_is_above_the_leaves_comes_beside() {
    let mut history = History::calm(2);
    let volume = history.volume(ADA);
    // Long names, so that fewer files make so many nodes.
    for number in 0..6_000 {
        create_in_root(&volume, &format!("{number:04}{}", "n".repeat(200)));
    }
    for (at, work) in [(ADA, Work::Push), (ADA, Work::Checkpoint)] {
        history.finish(at, work);
    }
    let root = volume.checkpoint_root().expect("it was written");
    assert!(root.level > 1, "{root:?}");
    let bob = history.volume(BOB);
    history.finish(BOB, Work::Begin);
    assert_eq!(bob.checkpoint_root().map(|root| root.id), Some(root.id));
    let sync = std::sync::Arc::clone(&history.device(BOB).process().sync);
    let bring = |history: &History, missing| {
        let sync = std::sync::Arc::clone(&sync);
        history.bring(BOB, async move { sync.fetch_node(missing).await }).expect("it is there");
    };
    let held = || bob.nodes().store().count().expect("readable");
    let missing = |volume: &Volume| tree::spots(volume).expect_err("a node is missing");
    bring(&history, missing(&bob));
    assert_eq!(held(), 1, "nothing else was waited for");
    // Something that asks for no node, while which others can go on.
    history.begin_for(BOB, Work::LearnDevices, 1_000);
    let inner = held();
    assert!(inner > 2);
    for more in 1..4 {
        let leaf = missing(&bob);
        bring(&history, leaf);
        assert_eq!(held(), inner + more);
        let bytes = bob.nodes().store().get(&leaf.node).expect("readable").expect("just brought");
        assert_eq!(ouro_core::tree::Node::decode(&bytes).expect("a node").level(), 0);
    }
}

#[test]
fn what_was_done_on_an_index_node_that_just_came_is_there_after_a_power_cut_without_network() {
    for index_comes_beside in [false, true] {
        let mut history = History::calm(2);
        create(&history.volume(ADA), "f", b"text");
        for (at, work) in [(ADA, Work::Push), (ADA, Work::Checkpoint), (BOB, Work::Begin)] {
            history.finish(at, work);
        }
        let bob = history.volume(BOB);
        let missing = tree::spots(&bob).expect_err("nothing was brought yet");
        if index_comes_beside {
            history.begin_for(BOB, Work::FetchIndex, 0);
        } else {
            let process = history.device(BOB).process();
            let sync = std::sync::Arc::clone(&process.sync);
            let bringing = async move { sync.fetch_node(missing).await.expect("it is there") };
            history.world.spawn(process.group, Box::pin(bringing));
        }
        // The first moment at which it is seen.
        while tree::spots(&bob).is_err() {
            assert!(history.world.step(), "it comes");
        }
        rename(&bob, "/f", "mine");
        bob.flush(true).expect("the journal is written");
        // The start finds no remote to bring a node from.
        for object in block_on(history.remote().list("nodes/")).expect("listed") {
            block_on(history.remote().delete(&object.name)).expect("deleted");
        }
        history.restart(BOB, End::PowerCutLosingAll);
        let booted = history.volume(BOB);
        let after: Vec<String> = tree::spots(&booted).expect("the node is here").into_keys().collect();
        assert_eq!(after, ["", "/mine"]);
    }
}

#[test]
fn what_has_an_owner_of_its_own_is_thrown_away_as_it_was_known() {
    let mut history = History::calm(2);
    let (ada, bob) = (history.volume(ADA), history.volume(BOB));
    create(&ada, "a", b"first");
    history.finish(ADA, Work::Push);
    history.finish(BOB, Work::Pull);
    // Nothing of this is on its way, and no bytes were written.
    ada.set_owner(spot(&ada, "/a").seen.id, 1234, 99);
    write(&bob, "/a", b"second");
    history.finish(BOB, Work::Push);
    let attributes = Attributes { mode: 0o700, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
    let root = spot(&ada, "").seen.members().to_vec();
    let made =
        ada.edit(|e| e.create(&root, &leaf(".Trash-1000"), Kind::Directory, attributes.clone(), None)).expect("made");
    let thrown = spot(&ada, "/a");
    ada.edit(|e| e.rename(&thrown.seen, &thrown.parent, &[made], &leaf("a"), None)).expect("it can be done");
    for (at, work) in [(ADA, Work::Pull), (ADA, Work::Push), (BOB, Work::Pull)] {
        history.finish(at, work);
    }
    for volume in [&ada, &bob] {
        assert_eq!(tree::bytes_at(volume, &spot(volume, "/a")).expect("it is here"), b"second");
    }
    let thrown = spot(&ada, "/.Trash-1000/a");
    assert_eq!(tree::bytes_at(&ada, &thrown).expect("it is here"), b"first");
    assert_eq!(ada.owner(thrown.seen.id), Some((1234, 99)));
}
