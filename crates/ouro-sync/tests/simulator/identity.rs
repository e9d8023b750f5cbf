//! Devices that are copied, restored, removed, numbered alike, behind or ahead of their time.

use crate::collecting::LITTLE;
use crate::device::{End, Work};
use crate::history::{History, Seen};
use crate::regressions::remove;
use crate::tree::{self, Spot};
use futures::executor::block_on;
use ouro_core::delta::Delta;
use ouro_core::id::{DeviceId, DeviceNo, Hlc, Line, Seq};
use ouro_core::name::Name;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::pins::Pin;
use ouro_local::volume::{Identity, Volume, VolumeError};
use ouro_remote::Store;
use ouro_repo::{Body, RULES, Record, RepoError};
use ouro_sync::{Import, SyncError};
use ouro_testkit::sim::Chance;
use std::collections::BTreeSet;
use std::sync::Arc;

const ADA: usize = 0;
const BOB: usize = 1;
const HOUR: i64 = 3_600_000;

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

fn make(volume: &Volume, directory: &str, name: &str, kind: Kind) -> Place {
    let union = spot(volume, directory).seen.members().to_vec();
    let now = volume.now_ns();
    let attributes = Attributes { mode: 0o644, mtime_ns: now, ctime_ns: now, rdev: 0, xattrs: vec![] };
    volume.edit(|e| e.create(&union, &leaf(name), kind, attributes.clone(), None)).expect("it can be done");
    Place { parent: union[0], name: leaf(name) }
}

fn create(volume: &Volume, directory: &str, name: &str, content: &[u8]) {
    let place = make(volume, directory, name, Kind::File);
    let made = spot(volume, &format!("{directory}/{name}")).seen.id;
    volume.write(made, &place, 0, content).expect("it can be done");
}

/// Gives a file a further name, in the root.
pub(crate) fn link(volume: &Volume, path: &str, name: &str) {
    let (spot, root) = (spot(volume, path), spot(volume, "").seen.members().to_vec());
    volume.edit(|e| e.link(&spot.seen, &spot.parent, &root, &leaf(name))).expect("it can be done");
}

/// Ada has made `/f` and `/d/g`, and Bob knows it.
fn ada_and_bob() -> History {
    let mut history = History::calm(2);
    let volume = history.volume(ADA);
    create(&volume, "", "f", b"text");
    make(&volume, "", "d", Kind::Directory);
    create(&volume, "/d", "g", &vec![b'g'; 70_000]);
    history.exchange();
    history
}

fn paths(seen: &Seen) -> Vec<&str> {
    seen.keys().map(String::as_str).filter(|path| !path.is_empty()).collect()
}

fn text<'a>(seen: &'a Seen, path: &str) -> &'a [u8] {
    seen[path].as_deref().unwrap_or_else(|| panic!("{path} is no file"))
}

/// A copy of Ada that runs at the same time.
fn with_a_copy() -> (History, usize) {
    let mut history = ada_and_bob();
    let twin = history.copy(ADA);
    history.boot(twin);
    history.finish(twin, Work::Begin);
    (history, twin)
}

fn id_of(history: &History, at: usize) -> DeviceId {
    history.device(at).process().sync.device()
}

#[test]
fn a_copy_of_a_device_goes_on_as_another_and_the_work_of_both_is_there() {
    for size in [9, 90_000] {
        let (mut history, twin) = with_a_copy();
        for (at, mark) in [(ADA, b'a'), (twin, b'b')] {
            let volume = history.volume(at);
            let content = |n: u8| [vec![mark, n], vec![mark; size]].concat();
            // Both give the same ids to different things.
            make(&volume, "", if at == ADA { "mine" } else { "theirs" }, Kind::Directory);
            create(&volume, if at == ADA { "/mine" } else { "/theirs" }, "inside", &content(1));
            create(&volume, "", if at == ADA { "x" } else { "y" }, &content(2));
            link(&volume, "/f", if at == ADA { "f of ada" } else { "f of twin" });
            write(&volume, "/d/g", &content(3));
        }
        history.finish(ADA, Work::Push);
        history.finish(twin, Work::Push);
        assert_ne!(id_of(&history, ADA), id_of(&history, twin));
        let seen = history.exchange();
        let copies = paths(&seen).into_iter().filter(|path| path.contains("conflict from")).count();
        assert_eq!(copies, 1, "both edited one file: {:?}", paths(&seen));
        let all: BTreeSet<&[u8]> = seen.values().flatten().map(Vec::as_slice).collect();
        for (mark, n) in [(b'a', 1), (b'a', 2), (b'a', 3), (b'b', 1), (b'b', 2), (b'b', 3)] {
            assert!(all.iter().any(|content| content.starts_with(&[mark, n])), "{}{n} is lost", char::from(mark));
        }
        let expected =
            ["/d", "/d/g", "/f", "/f of ada", "/f of twin", "/mine", "/mine/inside", "/theirs", "/theirs/inside"];
        let others = paths(&seen).into_iter().filter(|path| !path.contains("conflict")).collect::<Vec<_>>();
        assert_eq!(others, [&expected[..], &["/x", "/y"]].concat());
        let names = history.volume(BOB).device_names();
        let names: Vec<&str> = names.values().map(String::as_str).collect();
        assert!(names.contains(&"Ada") && names.contains(&"Ada 2"), "{names:?}");
    }
}

/// Simulator seed 740041: who read the rest first did not know the directory, and did not find what is hidden in it when it came.
#[test]
fn what_is_left_of_a_commit_that_the_original_published_in_part_is_made_on_that() {
    let mut history = ada_and_bob();
    make(&history.volume(ADA), "", "new", Kind::Directory);
    history.volume(ADA).flush(true).expect("it can be done");
    let twin = history.copy(ADA);
    history.boot(twin);
    history.finish(twin, Work::Begin);
    history.finish(ADA, Work::Push);
    let volume = history.volume(twin);
    let (file, new) = (spot(&volume, "/f"), spot(&volume, "/new"));
    volume.edit(|e| e.rename(&file.seen, &file.parent, new.seen.members(), &leaf("f"), None)).expect("it can be done");
    remove(&history.volume(BOB), "/f");
    history.finish(BOB, Work::Push);
    history.finish(twin, Work::Push);
    let own = history.volume(twin).device();
    let rest = history.volume(twin).commit(own, Seq(1)).expect("it is published");
    let (ada, before) = (history.volume(ADA), rest.parents.clone());
    assert_eq!(before[&ada.device()].seq, ada.heads()[&ada.device()].seq);
    assert!(before.values().all(|head| head.hlc < rest.hlc));
    assert!(rest.delta.files.iter().all(|file| file.id == spot(&ada, "/f").seen.id), "the directory is told once");
    history.exchange();
    history.audit();
}

#[test]
fn a_commit_that_was_fixed_and_lost_its_place_to_a_copy_goes_on_with_what_was_written_on_top() {
    for restarts in [false, true] {
        let (mut history, twin) = with_a_copy();
        let volume = history.volume(twin);
        create(&volume, "", "new", b"sealed");
        write(&volume, "/f", b"sealed too");
        history.finish(twin, Work::Look);
        history.device(twin).store.set_unreachable(true);
        assert!(history.try_to(twin, Work::Push).is_err());
        history.device(twin).store.set_unreachable(false);
        assert!(volume.sealed().is_some());
        write(&volume, "/new", b"and on top");
        create(&volume, "", "newer", b"pending");
        create(&history.volume(ADA), "", "of ada", b"first");
        history.finish(ADA, Work::Push);
        drop(volume);
        if restarts {
            history.volume(twin).flush(true).unwrap();
            history.restart(twin, End::PowerCutLosingAll);
            history.finish(twin, Work::Begin);
        }
        history.finish(twin, Work::Push);
        let seen = history.exchange();
        assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/new", "/newer", "/of ada"]);
        assert_eq!((text(&seen, "/f"), text(&seen, "/new")), (&b"sealed too"[..], &b"and on top"[..]));
        assert_eq!(text(&seen, "/newer"), b"pending");
    }
}

/// What publishes first after a device was away.
#[derive(Clone, Copy, Debug)]
enum First {
    Push,
    Import,
    Snapshot,
}

/// Simulator seed 687, Whole seed 1907465: the commit went under a name that was free again, below the checkpoint from which everybody reads on.
#[test]
fn a_copy_that_comes_back_after_the_records_in_its_place_were_collected_loses_nothing() {
    let pushes = [(false, true), (true, true), (true, false)].map(|(restarts, seals)| (restarts, seals, First::Push));
    let others = [(true, First::Import), (true, First::Snapshot), (false, First::Snapshot)];
    for (restarts, seals, first) in pushes.into_iter().chain(others.map(|(seals, first)| (false, seals, first))) {
        let (mut history, twin) = with_a_copy();
        create(&history.volume(twin), "", "of the twin", b"sealed");
        history.finish(twin, Work::Look);
        history.device(twin).store.set_unreachable(true);
        if seals {
            assert!(history.try_to(twin, Work::Push).is_err());
            assert!(history.volume(twin).sealed().is_some());
        }
        create(&history.volume(twin), "", "later", b"pending");
        for n in 0..3 {
            create(&history.volume(ADA), "", &format!("of ada {n}"), b"ada");
            history.finish(ADA, Work::Push);
        }
        history.finish(ADA, Work::Checkpoint);
        *history.device(ADA).process().retention.lock() = LITTLE;
        let mut ended = 0;
        while ended == 0 {
            history.let_days_pass(50);
            ended = history.finish(ADA, Work::Collect);
            history.finish(BOB, Work::Look);
        }
        history.device(twin).store.set_unreachable(false);
        if restarts {
            history.volume(twin).flush(true).unwrap();
            history.restart(twin, End::PowerCutLosingAll);
        }
        let sync = Arc::clone(&history.device(twin).process().sync);
        let published = history.bring(twin, async move {
            match first {
                First::Push => sync.push().await.map(drop),
                First::Import => Import::begin(sync).await.map(drop),
                First::Snapshot => {
                    let turn = sync.turn().await;
                    let taken = sync.commit_as(&turn, "a snapshot".to_owned()).await?;
                    taken.map_or(Ok(()), |taken| taken.published)
                }
            }
        });
        published.unwrap();
        assert_ne!(id_of(&history, twin), id_of(&history, ADA), "{first:?}");
        history.finish(twin, Work::Look);
        history.finish(twin, Work::Push);
        let seen = history.exchange();
        assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/later", "/of ada 0", "/of ada 1", "/of ada 2", "/of the twin"]);
    }
}

/// It took what the collection had taken for stored, if the next one was under way when it came back.
#[test]
fn a_copy_that_was_away_for_a_whole_collection_refers_to_nothing_that_it_took() {
    for (collected, under_way) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut history = ada_and_bob();
        let mut chance = Chance::new(1);
        let content: Vec<u8> = (0..70_000).map(|_| chance.number() as u8).collect();
        create(&history.volume(ADA), "", "x", &content);
        history.exchange();
        let collect = |history: &mut History| {
            *history.device(ADA).process().retention.lock() = LITTLE;
            while history.finish(ADA, Work::Collect) == 0 {
                history.let_days_pass(50);
                history.finish(BOB, Work::Look);
            }
        };
        if collected {
            collect(&mut history);
        }
        let twin = history.copy(ADA);
        remove(&history.volume(ADA), "/x");
        history.finish(ADA, Work::Push);
        collect(&mut history);
        if under_way {
            create(&history.volume(ADA), "", "more", b"more");
            history.finish(ADA, Work::Push);
            assert_eq!(history.finish(ADA, Work::Collect), 0);
        }
        history.boot(twin);
        create(&history.volume(twin), "", "of the twin", &content);
        history.finish(twin, Work::Begin);
        history.finish(twin, Work::Push);
        history.truth.forget();
        let seen = history.exchange();
        assert!(text(&seen, "/of the twin") == content);
        assert!(!seen.contains_key("/x"));
    }
}

#[test]
fn a_device_that_lost_everything_begins_on_a_checkpoint_although_a_record_of_its_own_is_not_shown() {
    let mut history = ada_and_bob();
    write(&history.volume(ADA), "/f", b"another commit");
    let seen = history.exchange();
    history.finish(BOB, Work::Checkpoint);
    let log = format!("log/{}/", "01".repeat(16));
    let first = history.remote.snapshot().into_keys().find(|name| name.starts_with(&log)).expect("Ada has a log");
    block_on(history.remote.delete(&first)).expect("it is deleted");
    let again = history.come_in(history.newcomer(1, "Ada"));
    history.boot(again);
    history.finish(again, Work::Begin);
    assert_eq!(history.seen(again), seen);
}

/// Simulator seed 644845: the second of them could never publish anything.
#[test]
fn copies_that_were_made_while_another_identity_was_taken_take_different_ones() {
    let (mut history, twin) = with_a_copy();
    let (id, number) = (DeviceId([9; 16]), DeviceNo(99));
    let identity = Identity { id, number, name: "Ada 2".to_owned(), drawn_ms: 0 };
    history.volume(twin).intend(&identity).expect("the journal is written");
    let third = history.copy(twin);
    history.boot(third);
    for (at, name) in [(ADA, "of ada"), (twin, "of the twin"), (third, "of the third")] {
        create(&history.volume(at), "", name, name.as_bytes());
        history.finish(at, Work::Push);
    }
    assert_eq!(id_of(&history, twin), id);
    assert!(![id, id_of(&history, ADA)].contains(&id_of(&history, third)));
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/of ada", "/of the third", "/of the twin"]);
}

/// Dan and his copy, both about to publish the very same commit, in which there is `/fixed`.
fn with_a_commit_of_two() -> (History, usize, usize) {
    let mut history = ada_and_bob();
    let dan = history.devices.len();
    history.add(history.newcomer(7, "Dan"));
    history.boot(dan);
    history.finish(dan, Work::Register);
    create(&history.volume(dan), "", "fixed", b"published without an answer");
    history.finish(dan, Work::Look);
    history.device(dan).store.set_unreachable(true);
    assert!(history.try_to(dan, Work::Push).is_err());
    assert!(history.volume(dan).sealed().is_some_and(|sealed| sealed.record.is_some()));
    let twin = history.copy(dan);
    history.boot(twin);
    history.device(dan).store.set_unreachable(false);
    (history, dan, twin)
}

/// Simulator seed 610477: the copy stood on a checkpoint that held its own commit, and waited to publish that all the same.
#[test]
fn a_copy_begins_on_a_collection_that_holds_the_commit_it_was_about_to_publish() {
    for goes_on in [false, true] {
        let (mut history, dan, twin) = with_a_commit_of_two();
        history.finish(dan, Work::Push);
        if goes_on {
            write(&history.volume(dan), "/fixed", b"by dan");
            history.finish(dan, Work::Push);
        }
        history.finish(ADA, Work::LearnDevices);
        history.finish(ADA, Work::Pull);
        write(&history.volume(ADA), "/fixed", b"by ada");
        history.finish(ADA, Work::Push);
        write(&history.volume(twin), "/fixed", b"by the twin");
        *history.device(ADA).process().retention.lock() = LITTLE;
        history.finish(ADA, Work::Collect);
        history.finish(twin, Work::Look);
        history.audit();
        history.finish(twin, Work::Push);
        history.finish(dan, Work::Begin);
        let seen = history.exchange();
        let both = ["/d", "/d/g", "/f", "/fixed"];
        let copies: Vec<&str> = paths(&seen).into_iter().filter(|path| !both.contains(path)).collect();
        assert!(copies.len() == 1 && copies[0].contains("conflict"), "{:?}", paths(&seen));
        let all: BTreeSet<&[u8]> = seen.values().flatten().map(Vec::as_slice).collect();
        assert!(all.contains(&b"by ada"[..]) && all.contains(&b"by the twin"[..]));
        assert!(!all.contains(&b"published without an answer"[..]) && !all.contains(&b"by dan"[..]));
    }
}

/// Simulator seed 514547: what had been published without an answer was taken for unpublished, so what was removed since came back.
#[test]
fn what_a_former_self_published_without_an_answer_does_not_come_back_when_a_checkpoint_holds_it() {
    let (mut history, dan, twin) = with_a_commit_of_two();
    // The one gets it there; others write a checkpoint of that; the one goes on.
    history.finish(dan, Work::Push);
    for work in [Work::LearnDevices, Work::Pull, Work::Checkpoint] {
        history.finish(ADA, work);
    }
    create(&history.volume(dan), "", "of dan", b"later");
    history.finish(dan, Work::Push);
    // The other has removed it when it begins on that.
    let removed = spot(&history.volume(twin), "/fixed");
    history.volume(twin).edit(|e| Ok(((), e.remove(&removed.seen, &removed.parent)?))).expect("it can be done");
    create(&history.volume(twin), "", "of the twin", b"its own");
    history.finish(twin, Work::Begin);
    history.finish(twin, Work::Push);
    assert_ne!(id_of(&history, twin), id_of(&history, dan));
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/of dan", "/of the twin"]);
}

#[test]
fn who_has_a_file_open_keeps_it_when_the_device_goes_on_as_another() {
    let (mut history, twin) = with_a_copy();
    let volume = history.volume(twin);
    create(&volume, "", "open", b"0123456789");
    create(&volume, "", "unlinked", b"still read");
    let renumbered = std::sync::Arc::new(parking_lot::Mutex::new(std::collections::BTreeMap::new()));
    let told = std::sync::Arc::clone(&renumbered);
    volume.on_renumber(Box::new(move |files| told.lock().extend(files.clone())));
    let (open, gone) = (spot(&volume, "/open"), spot(&volume, "/unlinked"));
    volume.open(open.seen.id).unwrap();
    volume.open(gone.seen.id).unwrap();
    volume.set_owner(open.seen.id, 1234, 99);
    volume.set_pin(open.seen.id, Pin::Keep);
    volume.edit(|e| Ok(((), e.remove(&gone.seen, &gone.parent)?))).unwrap();
    create(&history.volume(ADA), "", "of ada", b"ada");
    create(&history.volume(ADA), "", "also of ada", b"ada too");
    history.finish(ADA, Work::Push);
    history.finish(twin, Work::Push);
    let now = renumbered.lock().clone();
    let (is, was) = (now[&open.seen.id], open.seen.id);
    assert_eq!(spot(&volume, "/open").seen.id, is);
    volume.write(is, &open.place(), 3, b"abc").unwrap();
    volume.close(is).unwrap();
    let orphan = volume.orphan(now[&gone.seen.id]).expect("it is still open");
    assert_eq!(orphan.size, 10);
    volume.close(now[&gone.seen.id]).unwrap();
    assert_eq!((volume.owner(is), volume.owner(was)), (Some((1234, 99)), None));
    assert_eq!((volume.pins().own(is), volume.pins().own(was)), (Pin::Keep, Pin::Auto));
    let seen = history.exchange();
    assert_eq!(text(&seen, "/open"), b"012abc6789");
    assert_eq!(paths(&seen), ["/also of ada", "/d", "/d/g", "/f", "/of ada", "/open"]);
}

#[test]
fn a_file_deleted_while_it_is_open_is_what_all_see_if_the_log_of_the_copy_brings_it_back() {
    let (mut history, twin) = with_a_copy();
    let volume = history.volume(twin);
    let file = spot(&volume, "/f");
    volume.open(file.seen.id).unwrap();
    volume.write(file.seen.id, &file.place(), 0, b"written and deleted here").unwrap();
    volume.edit(|e| Ok(((), e.remove(&file.seen, &file.parent)?))).unwrap();
    assert!(volume.orphan(file.seen.id).is_some());
    write(&history.volume(ADA), "/f", b"by ada");
    history.finish(ADA, Work::Push);
    history.finish(twin, Work::Push);
    let seen = history.exchange();
    assert_eq!(text(&seen, "/f"), b"by ada");
    assert!(volume.orphan(file.seen.id).is_none());
    volume.close(file.seen.id).unwrap();
}

#[test]
fn a_file_moved_written_and_deleted_while_it_is_open_stays_deleted() {
    let (mut history, twin) = with_a_copy();
    let volume = history.volume(twin);
    let file = spot(&volume, "/f");
    volume.open(file.seen.id).unwrap();
    volume.write(file.seen.id, &file.place(), 0, b"written, moved and deleted here").unwrap();
    volume.edit(|e| e.rename(&file.seen, &file.parent, &file.parent, &leaf("moved"), None)).unwrap();
    let moved = spot(&volume, "/moved");
    volume.edit(|e| Ok(((), e.remove(&moved.seen, &moved.parent)?))).unwrap();
    create(&history.volume(ADA), "", "of ada", b"ada");
    history.finish(ADA, Work::Push);
    history.finish(twin, Work::Push);
    assert_eq!(volume.orphan(file.seen.id).expect("it keeps its id").size, 31);
    volume.close(file.seen.id).unwrap();
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/d", "/d/g", "/of ada"]);
}

#[test]
fn a_file_that_was_born_under_a_name_it_no_longer_has_gets_another_id_as_well() {
    let (mut history, twin) = with_a_copy();
    history.restart(ADA, End::Killed);
    history.finish(ADA, Work::Begin);
    let volume = history.volume(twin);
    create(&volume, "", "first name", b"of the twin");
    link(&volume, "/first name", "second name");
    let born = spot(&volume, "/first name");
    volume.edit(|e| Ok(((), e.remove(&born.seen, &born.parent)?))).unwrap();
    create(&history.volume(ADA), "", "of ada", b"under the same id");
    assert_eq!(spot(&history.volume(ADA), "/of ada").seen.id, born.seen.id);
    history.finish(ADA, Work::Push);
    history.finish(twin, Work::Push);
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/of ada", "/second name"]);
    assert_eq!((text(&seen, "/of ada"), text(&seen, "/second name")), (&b"under the same id"[..], &b"of the twin"[..]));
}

#[test]
fn a_device_restored_from_a_backup_publishes_nothing_twice_and_brings_nothing_back() {
    for (sealed, runs_on) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut history = ada_and_bob();
        let volume = history.volume(ADA);
        create(&volume, "", "born", b"before the backup");
        make(&volume, "", "dir", Kind::Directory);
        create(&volume, "/dir", "inside", &vec![b'i'; 80_000]);
        write(&volume, "/f", b"edited before the backup");
        if sealed {
            history.device(ADA).store.set_unreachable(true);
            assert!(history.try_to(ADA, Work::Push).is_err());
            history.device(ADA).store.set_unreachable(false);
            write(&volume, "/f", b"and on top");
            create(&volume, "", "later", b"not sealed");
        }
        let backup = history.copy(ADA);
        drop(volume);
        for work in [Work::Push, Work::Push] {
            history.finish(ADA, work);
        }
        if runs_on {
            write(&history.volume(ADA), "/f", b"newest");
            write(&history.volume(ADA), "/born", b"newest of it");
            history.finish(ADA, Work::Push);
            history.finish(ADA, Work::Checkpoint);
        }
        history.finish(BOB, Work::Pull);
        let truth = history.seen(BOB);
        history.boot(backup);
        history.take_away(ADA);
        let restored = backup - 1;
        history.finish(restored, Work::Begin);
        assert!(history.device(restored).process().sync.status().renewed.is_some());
        assert_eq!(history.finish(restored, Work::Push), 0, "all of it was published: sealed {sealed}");
        let seen = history.exchange();
        assert_eq!(seen, truth, "sealed {sealed}, went on {runs_on}");
    }
}

#[test]
fn what_a_restored_device_and_its_former_self_did_apart_is_all_there() {
    let mut history = ada_and_bob();
    create(&history.volume(ADA), "", "common", b"before the backup");
    let backup = history.copy(ADA);
    write(&history.volume(ADA), "/common", b"of the former self");
    create(&history.volume(ADA), "", "later", b"of the former self too");
    history.finish(ADA, Work::Push);
    history.boot(backup);
    history.take_away(ADA);
    let restored = backup - 1;
    write(&history.volume(restored), "/common", b"of the restored one");
    create(&history.volume(restored), "", "new", b"of the restored one too");
    history.finish(restored, Work::Begin);
    let seen = history.exchange();
    let all: BTreeSet<&[u8]> = seen.values().flatten().map(Vec::as_slice).collect();
    for content in ["of the former self", "of the former self too", "of the restored one", "of the restored one too"] {
        assert!(all.contains(content.as_bytes()), "{content:?} is lost: {:?}", paths(&seen));
    }
}

#[test]
fn two_copies_that_run_by_themselves_at_once_come_to_rest() {
    let (mut history, twin) = with_a_copy();
    history.run_syncs(0);
    for round in 0..6 {
        for (at, name) in [(ADA, "ada"), (twin, "twin"), (BOB, "bob")] {
            create(&history.volume(at), "", &format!("{name} {round}"), format!("{name}, {round}").as_bytes());
        }
        history.run_syncs(400);
    }
    history.run_syncs(20_000);
    let seen = history.exchange();
    assert_eq!(seen.len(), 1 + 3 + 3 * 6, "{:?}", paths(&seen));
}

#[test]
fn a_crash_at_any_moment_of_taking_another_identity_loses_nothing() {
    for steps in 0..60 {
        let (mut history, twin) = with_a_copy();
        let volume = history.volume(twin);
        create(&volume, "", "new", &vec![b'n'; 70_000]);
        write(&volume, "/f", b"of the twin");
        volume.flush(true).unwrap();
        drop(volume);
        create(&history.volume(ADA), "", "of ada", b"ada");
        history.finish(ADA, Work::Push);
        history.begin_for(twin, Work::Push, steps);
        let end = [End::Killed, End::PowerCutLosingAll][steps % 2];
        history.restart(twin, end);
        history.finish(twin, Work::Begin);
        history.finish(twin, Work::Push);
        let seen = history.exchange();
        assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/new", "/of ada"], "after {steps} steps");
        assert_eq!((text(&seen, "/f"), text(&seen, "/new").len()), (&b"of the twin"[..], 70_000));
        let devices = block_on(history.remote().list("devices/")).unwrap();
        assert_eq!(devices.len(), 3, "one new identity, not two, after {steps} steps");
    }
}

#[test]
fn a_removed_device_is_not_waited_for_and_its_work_stays() {
    let mut history = ada_and_bob();
    create(&history.volume(BOB), "", "of bob", b"bob");
    history.exchange();
    let (bob, number) = (id_of(&history, BOB), history.volume(BOB).device());
    let sync = std::sync::Arc::clone(&history.device(ADA).process().sync);
    history.bring(ADA, async move { sync.remove(bob).await }).unwrap();
    let before = history.remote().usage().gets;
    history.finish(ADA, Work::Pull);
    assert_eq!(history.remote().usage().gets, before, "nobody is asked for");
    assert!(history.volume(ADA).heads().contains_key(&number), "its work counts");
    // Bob does not know yet, works on, and publishes.
    create(&history.volume(BOB), "", "late", b"late");
    write(&history.volume(BOB), "/f", b"late too");
    history.finish(BOB, Work::Push);
    create(&history.volume(BOB), "", "unpublished", b"later");
    history.finish(ADA, Work::Pull);
    assert!(!history.seen(ADA).contains_key("/late"), "what comes after a removal does not count");
    history.finish(BOB, Work::LearnDevices);
    assert_ne!(id_of(&history, BOB), bob);
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/late", "/of bob", "/unpublished"]);
    assert_eq!(text(&seen, "/f"), b"late too");
    let name = history.volume(ADA).device_names()[&history.volume(BOB).device()].clone();
    assert_eq!(name, "Bob", "nobody else has it any more");
}

#[test]
fn what_a_device_published_last_counts_although_who_removes_it_had_not_heard_of_it() {
    let mut history = ada_and_bob();
    history.exchange();
    create(&history.volume(BOB), "", "last words", b"bob");
    history.finish(BOB, Work::Push);
    let bob = id_of(&history, BOB);
    let sync = std::sync::Arc::clone(&history.device(ADA).process().sync);
    history.bring(ADA, async move { sync.remove(bob).await }).unwrap();
    assert_eq!(text(&history.seen(ADA), "/last words"), b"bob");
}

#[test]
fn devices_that_know_more_and_less_of_a_removed_one_agree_in_the_end() {
    let mut history = History::calm(3);
    create(&history.volume(ADA), "", "f", b"text");
    history.exchange();
    let cleo = id_of(&history, 2);
    let sync = std::sync::Arc::clone(&history.device(ADA).process().sync);
    let removal = history.bring(ADA, async move { sync.remove(cleo).await }).unwrap();
    // Neither Cleo nor Bob has heard of that.
    create(&history.volume(2), "", "late", b"of cleo");
    history.finish(2, Work::Push);
    history.finish(BOB, Work::Pull);
    history.take_away(2);
    assert!(removal.last < history.volume(BOB).heads()[&DeviceNo(3)].seq);
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/f", "/late"]);
}

#[test]
fn of_two_devices_with_one_number_none_writes_under_it() {
    let mut history = History::calm(2);
    // Bob is given Ada's number, as chance may: neither saw the other when it drew.
    let ada = history.device(ADA).info.number;
    history.device_mut(BOB).info.number = ada;
    history.device_mut(BOB).info.id = DeviceId([0xbb; 16]);
    history.restart(BOB, End::PowerCutLosingAll);
    history.finish(BOB, Work::Register);
    create(&history.volume(ADA), "", "of ada", b"ada");
    create(&history.volume(BOB), "", "of bob", b"bob");
    for at in [BOB, ADA] {
        history.finish(at, Work::Push);
    }
    let numbers: BTreeSet<DeviceNo> = [ADA, BOB].map(|at| history.volume(at).device()).into();
    assert_eq!(numbers.len(), 2, "each has a number of its own");
    let seen = history.exchange();
    assert_eq!(paths(&seen), ["/of ada", "/of bob"]);
}

#[test]
fn a_storage_that_was_set_back_is_an_alarm_and_not_taken_for_a_copy() {
    let mut history = ada_and_bob();
    let then = history.remote().snapshot();
    create(&history.volume(ADA), "", "later", b"later");
    history.finish(ADA, Work::Push);
    for name in history.remote().snapshot().into_keys().filter(|name| !then.contains_key(name)) {
        block_on(history.remote().delete(&name)).unwrap();
    }
    history.volume(ADA).flush(true).unwrap();
    let before = id_of(&history, ADA);
    history.restart(ADA, End::PowerCutLosingAll);
    let error = history.try_to(ADA, Work::Begin).unwrap_err();
    assert!(matches!(error, SyncError::RolledBack { .. }), "{error}");
    assert!(error.is_alarm() && !error.is_retryable());
    assert_eq!(id_of(&history, ADA), before);
    let seen = history.seen(ADA);
    assert_eq!(text(&seen, "/later"), b"later", "reading goes on");
}

#[test]
fn a_record_of_newer_rules_stops_writing_and_reading_goes_on() {
    let mut history = History::calm(3);
    create(&history.volume(ADA), "", "f", b"text");
    history.exchange();
    // Cleo's Ourobox is newer than the others'.
    let sync = std::sync::Arc::clone(&history.device(2).process().sync);
    let head = history.volume(2).heads()[&DeviceNo(1)];
    let record = Record {
        rules: RULES + 1,
        device: DeviceNo(3),
        seq: Seq(1),
        line: Line::MAIN,
        parents: vec![(DeviceNo(1), head.seq, head.hash)],
        previous: None,
        hlc: Hlc(head.hlc.0 + 1),
        message: String::new(),
        digest: history.volume(2).digest().0,
        acknowledged: 0,
        body: Body::Delta(Delta::default()),
    };
    let sealed = sync.repo().seal_record(&record, &[]).unwrap();
    let cleo = id_of(&history, 2);
    let publish = async move { Ok(sync.repo().publish_record(DeviceNo(3), cleo, Seq(1), sealed.bytes).await?) };
    history.bring(2, publish).unwrap();
    history.take_away(2);
    create(&history.volume(BOB), "", "of bob", b"bob");
    history.finish(BOB, Work::Push);
    let error = history.try_to(ADA, Work::Pull).unwrap_err();
    let SyncError::Repo(RepoError::NewerRules { found, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(*found, RULES + 1);
    assert!(error.is_alarm() && error.to_string().contains("update Ourobox"), "{error}");
    assert!(history.seen(ADA).contains_key("/of bob"), "what was made by known rules is taken in");
    history.run_syncs(2_000);
    let status = history.device(ADA).process().sync.status();
    assert!(status.needs_user && status.problem.is_some_and(|line| line.contains("update Ourobox")));
    let volume = history.volume(ADA);
    let root = spot(&volume, "").seen.members().to_vec();
    let attributes = Attributes { mode: 0o644, mtime_ns: 1, ctime_ns: 1, rdev: 0, xattrs: vec![] };
    let refused = volume.edit(|e| e.create(&root, &leaf("new"), Kind::File, attributes.clone(), None));
    assert!(matches!(refused, Err(VolumeError::ReadOnly { .. })), "{refused:?}");
    let seen = history.seen(ADA);
    assert_eq!(text(&seen, "/f"), b"text");
}

#[test]
fn a_clock_that_is_hours_off_loses_no_edit_and_whoever_edits_last_wins() {
    for ahead in [3 * HOUR, -3 * HOUR] {
        let mut history = ada_and_bob();
        history.volume(BOB).flush(true).unwrap();
        history.device_mut(BOB).set_ahead(ahead);
        history.restart(BOB, End::Killed);
        history.finish(BOB, Work::Begin);
        // Who only hears of a clock that runs ahead does not follow it, neither now nor at the next start.
        create(&history.volume(BOB), "", "of bob", b"of bob");
        history.finish(BOB, Work::Push);
        history.finish(ADA, Work::Pull);
        history.volume(ADA).flush(true).unwrap();
        history.restart(ADA, End::Killed);
        history.finish(ADA, Work::Begin);
        create(&history.volume(ADA), "", "of ada", b"of ada");
        history.finish(ADA, Work::Push);
        let volume = history.volume(ADA);
        let stamp = volume.heads()[&volume.device()].hlc.millis() as i64;
        assert!((stamp - volume.now_ns() / 1_000_000).abs() < HOUR, "a clock {ahead} ms off is followed");
        drop(volume);
        // Each edits what it has seen of the other: the later one wins, whatever the clocks say.
        for (at, content) in [(BOB, "one"), (ADA, "two"), (BOB, "three"), (ADA, "four")] {
            write(&history.volume(at), "/f", content.as_bytes());
            history.finish(at, Work::Push);
            let seen = history.exchange();
            assert_eq!(text(&seen, "/f"), content.as_bytes(), "{ahead}");
            assert_eq!(paths(&seen), ["/d", "/d/g", "/f", "/of ada", "/of bob"]);
        }
        // Apart, both edits stay.
        write(&history.volume(BOB), "/f", b"bob, apart");
        write(&history.volume(ADA), "/f", b"ada, apart");
        let seen = history.exchange();
        let all: BTreeSet<&[u8]> = seen.values().flatten().map(Vec::as_slice).collect();
        assert!(all.contains(&b"bob, apart"[..]) && all.contains(&b"ada, apart"[..]), "{:?}", paths(&seen));
    }
}

#[test]
fn a_writer_goes_by_the_clock_of_the_storage() {
    let mut history = ada_and_bob();
    let volume = history.volume(BOB);
    let right = volume.now_ns() / 1_000_000;
    volume.flush(true).unwrap();
    drop(volume);
    history.device_mut(BOB).set_ahead(3 * HOUR);
    history.restart(BOB, End::Killed);
    history.remote().set_storage_time((right / 1_000).cast_unsigned());
    for work in [Work::Begin, Work::Pull] {
        history.finish(BOB, work);
    }
    create(&history.volume(BOB), "", "new", b"new");
    history.finish(BOB, Work::Push);
    let volume = history.volume(BOB);
    let stamp = volume.heads()[&volume.device()].hlc.millis() as i64;
    assert!((stamp - right).abs() < HOUR, "{} hours off", (stamp - right) / HOUR);
}

#[test]
fn a_device_that_commits_nothing_says_once_a_day_that_it_is_there() {
    let mut history = ada_and_bob();
    history.run_syncs(2_000);
    let hints = |history: &History| {
        let store = history.remote();
        block_on(store.list("heads/")).unwrap().len()
    };
    assert_eq!(hints(&history), 0, "who has just joined is seen from its name");
    history.pass(25 * HOUR.cast_unsigned());
    history.run_syncs(5_000);
    assert_eq!(hints(&history), 2);
    let repo = history.device(ADA).process().sync.repo().clone();
    let bob = id_of(&history, BOB);
    let hints = history.bring(ADA, async move { Ok(repo.hints().await?) }).unwrap();
    let hint = hints.into_iter().find(|hint| hint.device == bob).unwrap();
    let now = history.volume(BOB).now_ns() / 1_000_000;
    assert!(now - (hint.written_ms as i64) < HOUR, "{hint:?}");
    assert_eq!(hint.rules, RULES);
}
