//! What is thrown away on one device, while others go on with it, and while collections run.

use crate::device::{
    Device, NOTHING_KEPT, Objects, TRASH, World, attributes, leaf, make_directory, noise, rename, seen,
};
use crate::purging::hidden;
use crate::references::collect;
use ouro_core::id::FileId;
use ouro_core::state::Kind;
use ouro_sync::Stage;
use std::collections::BTreeMap;

/// What is seen in the root, without the trash.
pub(crate) fn files(device: &Device) -> BTreeMap<String, Vec<u8>> {
    let mut files = device.files();
    files.remove(TRASH);
    files
}

/// Until nobody has anything to say.
pub(crate) fn meet(devices: &[&Device]) {
    for _ in 0..3 {
        devices.iter().for_each(|device| device.push());
        devices.iter().for_each(|device| device.pull());
    }
}

pub(crate) fn all_see(devices: &[&Device], expected: &[(&str, &[u8])]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    for device in devices {
        device.pull();
        assert_eq!(files(device).keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(files(device) == expected);
    }
}

/// The removal was of all that was known when it was made a commit, an edit among it that came in after the file had been thrown away.
#[test]
fn an_edit_of_what_another_device_throws_away_meanwhile_stays_for_all() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    ada.push();
    bob.pull();
    bob.throw_away("f");
    ada.write("f", &noise(2, 3_000));
    ada.push();
    bob.pull();
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &noise(2, 3_000))]);
}

/// It had no name of its own, so the change that gave it one in the trash was taken for that of a new file, and others went on seeing it.
#[test]
fn what_is_shown_although_it_was_removed_is_gone_for_all_when_it_is_thrown_away() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    ada.push();
    bob.pull();
    ada.remove("f");
    bob.write("f", &noise(2, 3_000));
    meet(&[&ada, &bob]);
    all_see(&[&ada, &bob], &[("f", &noise(2, 3_000))]);
    bob.throw_away("f");
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob], &[]);
    bob.bring_back("f");
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &noise(2, 3_000))]);
}

/// The one that was new here stayed in the trash, and under its name nobody looked for the other.
#[test]
fn a_directory_that_two_devices_made_is_gone_for_both_when_one_throws_it_away() {
    for is_known in [false, true] {
        let mut world = World::new();
        // Its own directory comes first.
        let (bob, ada) = (world.join(), world.join());
        make_directory(&ada, "d");
        ada.push();
        make_directory(&bob, "d");
        if is_known {
            bob.push();
        }
        bob.pull();
        bob.throw_away("d");
        meet(&[&bob, &ada]);
        for device in [&ada, &bob] {
            assert!(seen(device, &["d"]).is_none());
        }
        assert!(seen(&bob, &[TRASH, "d"]).is_some());
    }
}

#[test]
fn an_edit_of_a_conflict_copy_that_another_device_throws_away_stays_for_all() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    bob.write("f", &noise(2, 3_000));
    meet(&[&ada, &bob]);
    let all = files(&bob);
    let copy = all.keys().find(|name| name.contains("conflict")).unwrap();
    bob.throw_away(copy);
    bob.push();
    ada.write(copy, &noise(3, 3_000));
    meet(&[&ada, &bob]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &all["f"]), (copy, &noise(3, 3_000))]);
}

/// It was brought into the cache before others let it go, and a crash took it from there.
#[test]
fn what_only_the_trash_of_a_device_has_outlives_its_crash() {
    for size in [2_000, 100_000, 2_000_000] {
        let mut world = World::new();
        let (ada, mut bob) = (world.join(), world.join());
        ada.write("f", &noise(1, size));
        ada.push();
        bob.pull();
        bob.empty_cache();
        bob.throw_away("f");
        bob.push();
        ada.pull();
        collect(&ada, &bob);
        bob.restart();
        bob.bring_back("f");
        meet(&[&bob, &ada]);
        all_see(&[&ada, &bob, &world.join()], &[("f", &noise(1, size))]);
    }
}

/// Only one place of a chunk that was stored twice counted, and the collection took the other (Whole seed 1985371).
#[test]
fn what_lies_in_the_trash_twice_from_two_places_stays_there_when_one_of_them_goes() {
    for size in [2_000, 100_000, 2_000_000] {
        for (first, second) in [("f", "g"), ("g", "f")] {
            for bob_begins in [false, true] {
                let mut world = World::new();
                let (ada, bob) = (world.join(), world.join());
                // So much stays beside it that the pack of the one does.
                ada.write("f", &noise(1, size));
                ada.write("stays", &noise(2, 3 * size));
                ada.push();
                bob.write("g", &noise(1, size));
                meet(&[&bob, &ada]);
                bob.empty_cache();
                bob.throw_away(first);
                bob.push();
                bob.throw_away(second);
                meet(&[&bob, &ada]);
                match bob_begins {
                    true => collect(&bob, &ada),
                    false => collect(&ada, &bob),
                }
                bob.bring_back("g");
                meet(&[&bob, &ada]);
                ada.empty_cache();
                all_see(&[&ada, &bob, &world.join()], &[("g", &noise(1, size)), ("stays", &noise(2, 3 * size))]);
            }
        }
    }
}

/// It never acknowledged anything any more, so nothing was ever collected.
#[test]
fn who_has_lost_what_only_its_trash_had_holds_up_no_collection() {
    for size in [2_000, 100_000] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        for name in ["f", "g"] {
            ada.write(name, &noise(1, size));
            ada.push();
            bob.pull();
            bob.throw_away(name);
            bob.push();
            ada.pull();
            collect(&ada, &bob);
            bob.empty_cache();
        }
    }
}

/// It was given up with a warning, and the collection that this device acknowledged took it.
#[test]
fn what_the_storage_hides_for_a_moment_from_who_acknowledges_a_collection_is_not_given_up() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 100_000));
    ada.push();
    bob.pull();
    bob.empty_cache();
    bob.throw_away("f");
    bob.push();
    ada.pull();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    let packs = world.listed("packs/");
    world.replace(&packs, &Objects::new());
    assert!(bob.run(|sync| async move { sync.look().await }).is_err());
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    world.replace(&Objects::new(), &packs);
    collect(&ada, &bob);
    bob.bring_back("f");
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &noise(1, 100_000))]);
}

/// Its place was of before an earlier collection. Who ended the one that was under way knew of no need for the table that led on from there, and
/// it went: nobody else could read the file, and no collection could begin any more.
#[test]
fn what_comes_back_from_the_trash_while_a_collection_ends_is_whole_on_every_device() {
    for cached in [true, false] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        bob.write("f", &noise(1, 2_000));
        meet(&[&bob, &ada]);
        // Out of the record.
        collect(&ada, &bob);
        bob.throw_away("f");
        meet(&[&bob, &ada]);
        assert!(matches!(bob.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
        assert_eq!(ada.collect(NOTHING_KEPT).stage, Stage::Ended);
        if !cached {
            bob.empty_cache();
        }
        bob.bring_back("f");
        meet(&[&bob, &ada]);
        all_see(&[&ada, &bob], &[("f", &noise(1, 2_000))]);
        collect(&bob, &ada);
        all_see(&[&ada, &bob, &world.join()], &[("f", &noise(1, 2_000))]);
    }
}

/// One got the id of the other, and at the next start the bytes of either were taken for the other's (Whole seed 1866963).
#[test]
fn what_was_thrown_away_and_what_was_made_in_its_place_keep_their_bytes_over_a_restart() {
    let mut world = World::new();
    let (ada, mut bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 100_000));
    meet(&[&ada, &bob]);
    bob.patch("f", 0, b"thrown");
    let trash = bob.throw_away("f");
    bob.write("f", b"made in its place");
    bob.place.faults().set_unreachable(true);
    assert!(bob.run(|sync| async move { sync.push().await }).is_err());
    bob.restart();
    bob.place.faults().set_unreachable(false);
    rename(&bob, (trash, &[TRASH, "f"]), (FileId::ROOT, "g"));
    meet(&[&bob, &ada]);
    let thrown = [b"thrown", &noise(1, 100_000)[6..]].concat();
    all_see(&[&ada, &bob, &world.join()], &[("f", b"made in its place"), ("g", &thrown)]);
}

/// As above, with nothing left in it.
#[test]
fn a_name_in_the_trash_of_a_directory_that_others_removed_ends() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    let directory = make_directory(&ada, "d");
    rename(&ada, (FileId::ROOT, &["f"]), (directory, "f"));
    meet(&[&ada, &bob]);
    let open = seen(&bob, &["d", "f"]).unwrap();
    bob.ask(|v| v.open(open.id));
    bob.throw_away("d");
    rename(&ada, (directory, &["d", "f"]), (FileId::ROOT, "f"));
    ada.remove("d");
    ada.push();
    bob.pull();
    bob.ask(|v| v.close(open.id));
    bob.push();
    assert_eq!(bob.volume().pending_files().files.len(), 1, "the trash");
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &noise(1, 3_000))]);
}

/// Simulator seed 1675566: such a name shows nothing. It stayed in the overlay for ever, and had the file not been removed after all, the file
/// would have been in this trash only here, and where it was everywhere else.
#[test]
fn a_name_in_the_trash_of_a_file_that_others_removed_ends() {
    for is_committed in [false, true] {
        let mut world = World::new();
        let (ada, bob, carol) = (world.join(), world.join(), world.join());
        ada.write("f", &noise(1, 3_000));
        let directory = make_directory(&bob, "d");
        if is_committed {
            bob.push();
        }
        meet(&[&ada, &carol]);
        bob.pull();
        link(&bob, "f", directory, "g");
        ada.remove("f");
        ada.push();
        bob.pull();
        assert!(seen(&bob, &["d", "g"]).is_none(), "it went with the others");
        bob.throw_away("d");
        bob.push();
        assert_eq!((hidden(&bob), bob.volume().pending_files().files.len()), (usize::from(is_committed), 2));
        carol.write("f", &noise(2, 3_000));
        meet(&[&carol, &bob, &ada]);
        all_see(&[&ada, &bob, &carol, &world.join()], &[("f", &noise(2, 3_000))]);
        assert!(seen(&bob, &[TRASH, "d", "g"]).is_none());
    }
}

/// A name elsewhere of the same file, which shows nothing either, is published: others may bring that file back.
#[test]
fn an_ignored_name_of_a_file_that_others_removed_ends() {
    let mut world = World::new();
    let (ada, bob, carol) = (world.join(), world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    meet(&[&ada, &bob, &carol]);
    link(&bob, "f", FileId::ROOT, "f.part");
    link(&bob, "f", FileId::ROOT, "g");
    ada.remove("f");
    ada.push();
    bob.pull();
    bob.push();
    assert_eq!(bob.volume().pending_files().files.len(), 0);
    carol.write("f", &noise(2, 3_000));
    meet(&[&carol, &bob, &ada]);
    all_see(&[&ada, &bob, &carol, &world.join()], &[("g", &noise(2, 3_000))]);
}

/// Gives a file in the root a further name.
pub(crate) fn link(device: &Device, name: &str, directory: FileId, as_name: &str) {
    let file = seen(device, &[name]).unwrap();
    device.ask(|volume| volume.edit(|e| e.link(&file, &[FileId::ROOT], &[directory], &leaf(as_name))));
}

/// A cycle of directories was cut where one had been: in the trash, and with it went what others had in it (Whole seeds 1884526 and 1888572).
#[test]
fn a_directory_that_was_brought_back_does_not_return_to_the_trash_when_a_cycle_is_cut() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let (a, b) = (make_directory(&ada, "a"), make_directory(&ada, "b"));
    make_directory(&ada, "t");
    ada.write("f", &noise(1, 3_000));
    rename(&ada, (FileId::ROOT, &["f"]), (a, "f"));
    meet(&[&ada, &bob]);
    let trash = bob.throw_away("t");
    meet(&[&bob, &ada]);
    rename(&bob, (trash, &[TRASH, "t"]), (b, "t"));
    let brought_back = seen(&bob, &["b", "t"]).unwrap().id;
    rename(&bob, (FileId::ROOT, &["a"]), (brought_back, "a"));
    rename(&ada, (FileId::ROOT, &["b"]), (a, "b"));
    ada.push();
    bob.pull();
    assert!(seen(&bob, &[TRASH, "t"]).is_none());
    meet(&[&bob, &ada]);
    for device in [&ada, &bob, &world.join()] {
        device.pull();
        assert!(seen(device, &["a", "f"]).is_some());
        assert!(seen(device, &["a", "b", "t"]).is_some_and(|seen| seen.id == brought_back));
    }
}

/// The removal of the inner one was taken for a name that shows nothing, and ended with it: simulator seed 1816585.
#[test]
fn a_directory_that_was_moved_within_what_is_thrown_away_is_gone_for_all() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let outer = make_directory(&ada, "outer");
    let make = |name| ada.ask(|v| v.edit(|e| e.create(&[outer], &leaf(name), Kind::Directory, attributes(), None)));
    let inner = make("inner");
    make("moved");
    ada.push();
    bob.pull();
    rename(&bob, (outer, &["outer", "moved"]), (inner, "moved"));
    bob.throw_away("outer");
    meet(&[&bob, &ada]);
    for device in [&ada, &bob] {
        assert!(seen(device, &["Recovered"]).is_none() && seen(device, &["outer"]).is_none());
    }
    collect(&ada, &bob);
    assert!(seen(&ada, &["Recovered"]).is_none() && hidden(&ada) == 0);
}
