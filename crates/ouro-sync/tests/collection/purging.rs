//! Records that show nothing: when they go, and what comes of what was put beside them.

use crate::device::{DAY_MS, Device, NOTHING_KEPT, Objects, World, attributes, leaf, make_directory, noise, seen};
use ouro_core::edit::{Among, purgeable};
use ouro_core::id::FileId;
use ouro_core::state::{Kind, Place};
use ouro_sync::Stage;
use std::sync::atomic::Ordering;

/// Makes a file in a directory that this device knows by its id.
pub(crate) fn put(device: &Device, directory: FileId, name: &str) {
    let content = ouro_core::content::Content::Inline(name.as_bytes().into());
    device.ask(|v| {
        v.edit(|e| e.create(&[directory], &leaf(name), Kind::File, attributes(), Some(content.clone()))).map(drop)
    });
}

pub(crate) fn hidden(device: &Device) -> usize {
    device.ask(|volume| {
        let view = volume.view();
        Ok(purgeable(&view, &view, Among::Everything, usize::MAX)?.len())
    })
}

/// Two devices that know the same directories `d0`, `d1`, …
pub(crate) fn with_directories(world: &mut World, count: usize) -> (Device, Device, Vec<FileId>) {
    let (ada, bob) = (world.join(), world.join());
    let made = (0..count).map(|n| make_directory(&ada, &format!("d{n}"))).collect();
    ada.write("f", &noise(1, 60_000));
    ada.push();
    bob.pull();
    (ada, bob, made)
}

#[test]
fn removed_directories_are_forgotten_when_a_collection_has_ended_and_not_before() {
    let mut world = World::new();
    let (ada, bob, _) = with_directories(&mut world, 3);
    for name in ["d0", "d1"] {
        ada.remove(name);
    }
    ada.push();
    bob.pull();
    let waiting = ada.collect(NOTHING_KEPT);
    assert!(matches!(waiting.stage, Stage::Waiting(_)));
    assert_eq!((waiting.purged, hidden(&ada)), (0, 2), "bob has not said yet that he knows");
    bob.look();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 2));
    bob.pull();
    let carol = world.join();
    for device in [&ada, &bob, &carol] {
        assert_eq!(hidden(device), 0);
        assert!(seen(device, &["d2"]).is_some() && seen(device, &["d0"]).is_none());
        assert_eq!(device.volume().checkpoint_input().digest, ada.volume().checkpoint_input().digest);
    }
    // Nothing is left to purge, so nobody writes anything because of it.
    for _ in 0..2 {
        ada.collect(NOTHING_KEPT);
        bob.look();
    }
    ada.collect(NOTHING_KEPT);
    bob.look();
    let before = world.names("");
    assert_eq!(ada.collect(NOTHING_KEPT).purged, 0);
    assert_eq!(world.names("log/"), before.into_iter().filter(|n| n.starts_with("log/")).collect::<Vec<_>>());
}

#[test]
fn what_is_put_into_a_removed_directory_by_who_did_not_know_brings_it_back() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 2);
    ada.remove("d0");
    ada.remove("d1");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    // Bob knows of neither; what he did is published before he takes note.
    put(&bob, made[0], "x");
    bob.look();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1), "only the one that shows nothing");
    bob.pull();
    for device in [&ada, &bob, &world.join()] {
        assert!(seen(device, &["d0", "x"]).is_some());
        assert!(seen(device, &["Recovered"]).is_none());
    }
}

#[test]
fn a_directory_that_was_removed_after_the_mark_stays_until_the_next_collection() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    ada.remove("d0");
    ada.push();
    // Bob does not know that when he writes.
    put(&bob, made[0], "x");
    assert_eq!(ada.collect(NOTHING_KEPT).purged, 0, "nobody has said that he knows that it is removed");
    bob.push();
    ada.pull();
    for device in [&ada, &bob] {
        device.pull();
        assert!(seen(device, &["d0", "x"]).is_some());
        assert!(seen(device, &["Recovered"]).is_none());
    }
}

#[test]
fn what_a_device_that_was_given_up_put_into_a_purged_directory_brings_it_back() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    put(&bob, made[0], "x");
    ada.remove("d0");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    world.pass(90 * DAY_MS);
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1));
    bob.look();
    bob.push();
    ada.pull();
    for device in [&ada, &bob, &world.join()] {
        assert!(seen(device, &["Recovered"]).is_none());
        let found = seen(device, &["d0", "x"]).expect("nothing is lost");
        assert_eq!(found.content(), Some(&ouro_core::content::Content::Inline(b"x"[..].into())));
    }
}

/// Simulator seed 800923: whoever keeps a purged directory for what is ignored in it has a hidden record elsewhere than others have it.
#[test]
fn what_is_hidden_in_a_directory_that_only_the_collecting_device_has_any_more_goes_too() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    put(&ada, made[0], "x.part");
    bob.remove("d0");
    bob.push();
    assert!(matches!(bob.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    // Neither knows what the other one does to the file; that comes after the mark, so only the directory goes with this collection.
    bob.remove("f");
    bob.push();
    let f = seen(&ada, &["f"]).unwrap();
    ada.ask(|v| v.edit(|e| e.rename(&f, &[FileId::ROOT], &[made[0]], &leaf("f"), None)));
    ada.look();
    let ended = bob.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1));
    ada.look();
    assert!(seen(&ada, &["d0", "x.part"]).is_some() && seen(&ada, &["d0", "f"]).is_none());
    assert_eq!((hidden(&ada), hidden(&bob)), (1, 1), "the name of a file without content");
    // Simulator seed 746792: moved, it was taken for one that was just made, and what is hidden in it was not looked for at a start.
    for name in ["moved", "d0"] {
        let before = if name == "d0" { "moved" } else { "d0" };
        let kept = seen(&ada, &[before]).unwrap();
        ada.ask(|v| v.edit(|e| e.rename(&kept, &[FileId::ROOT], &[FileId::ROOT], &leaf(name), None)));
        assert_eq!(ada.volume().audit().unwrap().wrong, []);
    }
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1));
    bob.pull();
    assert_eq!((hidden(&ada), hidden(&bob)), (0, 0));
    assert!(seen(&ada, &["d0", "x.part"]).is_some());
}

/// What is open, ignored or in the trash on one device stays as it is when others forget the directory.
#[test]
fn what_only_one_device_has_below_a_purged_directory_stays_where_it_is() {
    let mut world = World::new();
    let (ada, mut bob, made) = with_directories(&mut world, 2);
    let inner = ada.ask(|v| v.edit(|e| e.create(&[made[0]], &leaf("e"), Kind::Directory, attributes(), None)));
    for name in ["open", "thrown away"] {
        put(&ada, inner, name);
    }
    ada.push();
    bob.pull();
    put(&bob, inner, "x.part");
    let trash = make_directory(&bob, ".Trash-1000");
    let thrown = seen(&bob, &["d0", "e", "thrown away"]).unwrap();
    bob.ask(|v| v.edit(|e| e.rename(&thrown, &[inner], &[trash], &leaf("thrown away"), None)));
    let open = seen(&bob, &["d0", "e", "open"]).unwrap();
    bob.ask(|v| v.open(open.id));
    bob.push();
    ada.pull();
    let gone = seen(&ada, &["d0", "e", "open"]).unwrap();
    ada.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[inner])?))));
    let gone = seen(&ada, &["d0", "e"]).unwrap();
    ada.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[made[0]])?))));
    ada.remove("d0");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 2));
    bob.pull();
    let stays = |bob: &Device| {
        let path = seen(bob, &["d0", "e", "x.part"]).map(|seen| seen.id);
        assert!(path.is_some() && seen(bob, &["Recovered"]).is_none());
        assert_eq!(seen(bob, &["d0", "e"]).unwrap().id, inner, "whoever stands in it still does");
        assert_eq!(seen(bob, &["d0", "e"]).unwrap().attributes(), attributes());
        assert!(seen(bob, &[".Trash-1000", "thrown away"]).is_some());
    };
    stays(&bob);
    let size = bob.volume().orphan(open.id).map(|orphan| orphan.size);
    assert_eq!(size, Some(4), "who reads it reads on");
    let before = world.names("log/");
    bob.push();
    assert_eq!(world.names("log/"), before, "nobody hears of it");
    bob.restart();
    stays(&bob);
    assert!(seen(&ada, &["d0"]).is_none() && seen(&ada, &["Recovered"]).is_none());
    // Something that others are to see takes it along.
    put(&bob, inner, "y");
    bob.push();
    ada.pull();
    for device in [&ada, &world.join()] {
        assert!(seen(device, &["d0", "e", "y"]).is_some() && seen(device, &["d0", "e", "x.part"]).is_none());
        assert!(seen(device, &["Recovered"]).is_none());
    }
    stays(&bob);
}

/// Simulator seed 1816585: a directory that was held in `Recovered/` was taken for one that was made there.
#[test]
fn a_directory_in_recovered_that_is_kept_for_what_is_ignored_in_it_is_nobody_elses() {
    let mut world = World::new();
    let (ada, mut bob, made) = with_directories(&mut world, 1);
    let moved = seen(&ada, &["d0"]).unwrap();
    ada.ask(|v| v.edit(|e| e.rename(&moved, &[FileId::ROOT], &[FileId::RECOVERED], &leaf("d0"), None)));
    ada.push();
    bob.pull();
    put(&bob, made[0], "x.part");
    bob.push();
    let gone = seen(&ada, &["Recovered", "d0"]).unwrap();
    ada.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[FileId::RECOVERED])?))));
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    assert_eq!(ada.collect(NOTHING_KEPT).purged, 1);
    bob.pull();
    let before = world.names("log/");
    bob.push();
    assert_eq!(world.names("log/"), before, "nobody hears of it");
    bob.restart();
    assert!(seen(&bob, &["Recovered", "d0", "x.part"]).is_some());
    assert!(seen(&ada, &["Recovered"]).is_none());
}

/// Simulator seed 1630099: the inner one of two removed directories was removed once more since, so that only the outer one is purged yet.
#[test]
fn a_purged_directory_is_nobody_elses_for_a_removed_one_in_it_that_is_shown_for_what_is_ignored() {
    let mut world = World::new();
    let (ada, mut bob, made) = with_directories(&mut world, 1);
    let carol = world.join();
    let inner = ada.ask(|v| v.edit(|e| e.create(&[made[0]], &leaf("e"), Kind::Directory, attributes(), None)));
    let remove_inner = |device: &Device| {
        let gone = seen(device, &["d0", "e"]).unwrap();
        device.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[made[0]])?))));
    };
    ada.push();
    bob.pull();
    carol.pull();
    put(&bob, inner, "x.part");
    remove_inner(&ada);
    ada.remove("d0");
    ada.push();
    bob.pull();
    // Carol does not know that; what she does so comes after the mark.
    remove_inner(&carol);
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    carol.look();
    ada.pull();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1), "only the outer one");
    let here_only = |bob: &Device| {
        let before = world.names("log/");
        bob.push();
        assert_eq!(world.names("log/"), before, "nobody hears of it");
        assert!(seen(bob, &["d0", "e", "x.part"]).is_some() && seen(bob, &["Recovered"]).is_none());
        ada.pull();
        assert!(seen(&ada, &["d0"]).is_none() && seen(&ada, &["Recovered"]).is_none());
    };
    bob.look();
    here_only(&bob);
    bob.restart();
    here_only(&bob);
    // Then the inner one goes too.
    ada.collect(NOTHING_KEPT);
    bob.look();
    carol.look();
    assert_eq!(ada.collect(NOTHING_KEPT).purged, 1);
    bob.look();
    here_only(&bob);
    // Something that others are to see takes both along.
    put(&bob, inner, "y");
    bob.push();
    ada.pull();
    assert!(seen(&ada, &["d0", "e", "y"]).is_some() && seen(&ada, &["d0", "e", "x.part"]).is_none());
    assert!(seen(&ada, &["Recovered"]).is_none());
}

/// As above, but the innermost directory was purged before: it is held, and so is the outermost, with one between them that is not.
#[test]
fn what_is_ignored_no_longer_takes_every_directory_above_it_along() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    let carol = world.join();
    let make = |parent, name: &str| {
        ada.ask(|v| v.edit(|e| e.create(&[parent], &leaf(name), Kind::Directory, attributes(), None)))
    };
    let inner = make(made[0], "e");
    let innermost = make(inner, "g");
    let remove = |device: &Device, parent, path: &[&str]| {
        let gone = seen(device, path).unwrap();
        device.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[parent])?))));
    };
    ada.push();
    bob.pull();
    put(&bob, innermost, "x.part");
    remove(&ada, inner, &["d0", "e", "g"]);
    ada.push();
    let collect = || {
        ada.collect(NOTHING_KEPT);
        bob.look();
        carol.look();
        ada.pull();
        let ended = ada.collect(NOTHING_KEPT);
        bob.look();
        (ended.stage, ended.purged)
    };
    assert_eq!(collect(), (Stage::Ended, 1), "the innermost one");
    carol.pull();
    remove(&ada, made[0], &["d0", "e"]);
    ada.remove("d0");
    ada.push();
    remove(&carol, made[0], &["d0", "e"]);
    assert_eq!(collect(), (Stage::Ended, 1), "the outermost one");
    bob.write(".ouroignore", b"!*.part\n");
    bob.push();
    ada.pull();
    for device in [&ada, &bob, &world.join()] {
        assert!(seen(device, &["d0", "e", "g", "x.part"]).is_some());
        assert!(seen(device, &["Recovered"]).is_none());
    }
}

/// Simulator seed 1900051: a storage that shows the record of the purge late, or a collection that did not wait.
#[test]
fn what_is_ignored_in_a_purged_directory_stays_where_it_is_on_who_begins_anew_on_the_next_checkpoint() {
    for given_up in [false, true] {
        let mut world = World::new();
        let (ada, mut bob, made) = with_directories(&mut world, 1);
        let inner = ada.ask(|v| v.edit(|e| e.create(&[made[0]], &leaf("e"), Kind::Directory, attributes(), None)));
        ada.push();
        bob.pull();
        put(&bob, inner, "x.part");
        let gone = seen(&ada, &["d0", "e"]).unwrap();
        ada.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[made[0]])?))));
        ada.remove("d0");
        ada.push();
        bob.pull();
        assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
        if given_up {
            world.pass(90 * DAY_MS);
        } else {
            bob.look();
        }
        let before = world.listed("log/");
        let ended = ada.collect(NOTHING_KEPT);
        assert_eq!((ended.stage, ended.purged), (Stage::Ended, 2));
        let known = |bob: &Device| bob.volume().collected().map_or(0, |collected| collected.number);
        let (noted, number) = (known(&bob), known(&ada));
        while known(&ada) == number {
            ada.collect(NOTHING_KEPT);
        }
        let mut purging = world.listed("log/");
        purging.retain(|name, _| !before.contains_key(name));
        world.replace(&purging, &Objects::new());
        bob.look();
        assert!(known(&bob) > noted);
        world.replace(&Objects::new(), &purging);
        bob.look();
        let stays = |bob: &Device| {
            assert!(seen(bob, &["d0", "e", "x.part"]).is_some() && seen(bob, &["Recovered"]).is_none());
            assert_eq!(bob.volume().audit().unwrap().wrong, []);
        };
        stays(&bob);
        let before = world.names("log/");
        bob.push();
        assert_eq!(world.names("log/"), before, "nobody hears of it");
        bob.restart();
        stays(&bob);
        ada.pull();
        assert!(seen(&ada, &["d0"]).is_none() && seen(&ada, &["Recovered"]).is_none());
    }
}

#[test]
fn a_directory_that_only_one_device_has_any_more_is_removed_as_any_other() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 2);
    put(&bob, made[0], "x.part");
    bob.push();
    ada.remove("d0");
    ada.push();
    ada.collect(NOTHING_KEPT);
    bob.look();
    assert_eq!(ada.collect(NOTHING_KEPT).purged, 1);
    bob.pull();
    bob.push();
    let before = world.names("log/");
    let file = seen(&bob, &["d0", "x.part"]).unwrap();
    bob.ask(|v| v.edit(|e| Ok(((), e.remove(&file, &[made[0]])?))));
    assert!(seen(&bob, &["d0"]).is_some());
    bob.remove("d0");
    bob.push();
    assert!(seen(&bob, &["d0"]).is_none() && hidden(&bob) == 0);
    assert_eq!(world.names("log/"), before, "nobody else had it");
}

/// Bob's directory `d0` was purged; he has it for what comes back in it: he removed the file `g`, which he had moved out of there, and learnt
/// then that Carol had written to it where it was. The others see it where he moved it to.
pub(crate) fn with_one_held_for_what_came_back() -> (World, [Device; 3], FileId) {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    put(&ada, made[0], "g");
    ada.push();
    bob.pull();
    let carol = world.join();
    carol.pull();
    let g = seen(&carol, &["d0", "g"]).unwrap();
    let place = Place { parent: made[0], name: leaf("g") };
    carol.ask(|v| v.write(g.id, &place, 0, b"written by carol"));
    bob.ask(|v| v.edit(|e| e.rename(&g, &[made[0]], &[FileId::ROOT], &leaf("g"), None)));
    bob.push();
    ada.pull();
    ada.remove("d0");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    bob.remove("g");
    carol.look();
    ada.pull();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1));
    bob.pull();
    assert!(seen(&bob, &["d0", "g"]).is_some() && seen(&bob, &["Recovered"]).is_none());
    assert!(seen(&ada, &["g"]).is_some() && seen(&ada, &["d0"]).is_none());
    (world, [ada, bob, carol], made[0])
}

fn nobody_has_it_any_more(world: &mut World, devices: &[Device; 3]) {
    for device in devices {
        device.push();
    }
    for device in devices.iter().chain([&world.join()]) {
        device.pull();
        for path in ["d0", "g", "Recovered"] {
            assert!(seen(device, &[path]).is_none(), "{path}");
        }
        assert_eq!(device.volume().counts().pending, 0);
        assert_eq!(device.volume().audit().unwrap().wrong, []);
    }
}

/// Simulator seed 1831462: the directory stayed, for one device only, when there was nothing in it any more.
#[test]
fn a_held_directory_goes_when_others_remove_what_came_back_in_it() {
    let (mut world, devices, _) = with_one_held_for_what_came_back();
    let [ada, bob, _] = &devices;
    ada.remove("g");
    ada.push();
    bob.pull();
    assert!(seen(bob, &["d0"]).is_none());
    nobody_has_it_any_more(&mut world, &devices);
}

#[test]
fn a_held_directory_in_which_its_device_removed_what_came_back_goes_with_the_commit() {
    let (mut world, devices, d0) = with_one_held_for_what_came_back();
    let bob = &devices[1];
    let g = seen(bob, &["d0", "g"]).unwrap();
    bob.ask(|v| v.edit(|e| Ok(((), e.remove(&g, &[d0])?))));
    assert!(seen(bob, &["d0"]).is_some(), "whoever removes a tree finds it");
    nobody_has_it_any_more(&mut world, &devices);
}

#[test]
fn a_held_directory_comes_back_for_all_with_what_came_back_in_it() {
    let (mut world, [ada, bob, carol], _) = with_one_held_for_what_came_back();
    for device in [&bob, &ada, &carol] {
        device.push();
        device.pull();
    }
    for device in [&ada, &bob, &carol, &world.join()] {
        device.pull();
        assert!(seen(device, &["d0", "g"]).is_some() && seen(device, &["g"]).is_none());
        assert!(seen(device, &["Recovered"]).is_none());
        assert_eq!(device.volume().audit().unwrap().wrong, []);
    }
}

/// A removed directory in it that is not purged yet is then, here too, in one that nobody knows.
#[test]
fn what_is_hidden_in_a_held_directory_is_in_order_when_that_goes() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    let carol = world.join();
    let make =
        |name: &str| ada.ask(|v| v.edit(|e| e.create(&[made[0]], &leaf(name), Kind::Directory, attributes(), None)));
    make("e");
    ada.push();
    bob.pull();
    carol.pull();
    put(&bob, made[0], "x.part");
    for device in [&ada, &carol] {
        let gone = seen(device, &["d0", "e"]).unwrap();
        device.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[made[0]])?))));
    }
    ada.remove("d0");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    carol.look();
    ada.pull();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1), "only the outer one");
    bob.pull();
    let file = seen(&bob, &["d0", "x.part"]).unwrap();
    bob.ask(|v| v.edit(|e| Ok(((), e.remove(&file, &[made[0]])?))));
    bob.write("f", b"new");
    bob.push();
    assert!(seen(&bob, &["d0"]).is_none());
    for device in [&bob, &ada] {
        device.pull();
        assert_eq!((device.volume().audit().unwrap().wrong, hidden(device)), (vec![], 1));
    }
}

#[test]
fn two_devices_purge_the_same_at_once() {
    let mut world = World::new();
    let (ada, bob, _) = with_directories(&mut world, 2);
    ada.remove("d0");
    ada.push();
    bob.look();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    // Ada ends it and cannot say any more what she purges; Bob does so as well.
    for effects in 0.. {
        ada.place.effects_left.store(effects, Ordering::SeqCst);
        let _ = ada.try_collect(ouro_sync::CollectOptions { retention: NOTHING_KEPT, grace_ms: 0, dry_run: false });
        if hidden(&ada) == 0 {
            break;
        }
    }
    ada.place.effects_left.store(-1, Ordering::SeqCst);
    bob.collect(NOTHING_KEPT);
    assert_eq!(hidden(&bob), 0);
    ada.push();
    for device in [&ada, &bob] {
        device.pull();
    }
    for device in [&ada, &bob, &world.join()] {
        assert_eq!(hidden(device), 0);
        assert!(seen(device, &["d1"]).is_some());
        assert_eq!(device.volume().checkpoint_input().digest, ada.volume().checkpoint_input().digest);
    }
}

#[test]
fn purging_that_is_ended_after_any_effect_goes_on() {
    for effects in 0.. {
        let mut world = World::new();
        let (mut ada, bob, _) = with_directories(&mut world, 3);
        ada.remove("d0");
        ada.remove("d1");
        ada.push();
        bob.pull();
        ada.collect(NOTHING_KEPT);
        bob.look();
        ada.place.effects_left.store(effects, Ordering::SeqCst);
        let options = ouro_sync::CollectOptions { retention: NOTHING_KEPT, grace_ms: 0, dry_run: false };
        let cut_off = ada.try_collect(options).is_err();
        ada.place.effects_left.store(-1, Ordering::SeqCst);
        ada.restart();
        ada.empty_cache();
        for _ in 0..3 {
            ada.collect(NOTHING_KEPT);
            bob.look();
        }
        bob.empty_cache();
        for device in [&ada, &bob, &world.join()] {
            assert_eq!(hidden(device), 0, "after {effects} effects");
            assert!(seen(device, &["d2"]).is_some() && device.files().contains_key("f"));
        }
        if !cut_off {
            break;
        }
    }
}
