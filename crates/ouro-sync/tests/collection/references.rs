//! Commits that refer to contents nobody wrote for them: what a collection took of these meanwhile is stored again.

use crate::device::{DAY_MS, Device, NOTHING_KEPT, World, leaf, noise, rename, seen};
use ouro_core::id::FileId;
use ouro_core::state::Place;
use ouro_sync::Stage;
use std::sync::atomic::Ordering;

/// In a record, in a pack, as a list of chunks.
const SIZES: [usize; 3] = [2_000, 100_000, 2_000_000];

/// Nothing is left that the two have to do for a collection.
pub(crate) fn collect(ada: &Device, bob: &Device) {
    for _ in 0..3 {
        if !matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)) {
            return;
        }
        bob.look();
    }
    panic!("it does not end");
}

/// A collection begins and ends that does not wait for Bob, who comes back then.
fn collect_without(world: &World, ada: &Device, bob: &Device) {
    bob.place.faults().set_unreachable(true);
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    world.pass(90 * DAY_MS);
    ada.write("more", b"more");
    ada.push();
    assert_eq!(ada.collect(NOTHING_KEPT).stage, Stage::Ended, "nobody waits for ninety days");
    bob.place.faults().set_unreachable(false);
    bob.look();
}

/// It was published with the place where it had been, which was gone: nobody could read it, and no collection ended any more.
#[test]
fn what_comes_back_from_the_trash_after_a_collection_is_whole_on_every_device() {
    for size in SIZES {
        for cached in [true, false] {
            let mut world = World::new();
            let (ada, bob) = (world.join(), world.join());
            ada.write("f", &noise(1, size));
            ada.write("g", &noise(2, size));
            ada.push();
            bob.pull();
            if cached {
                bob.files();
            } else {
                bob.empty_cache();
            }
            bob.throw_away("f");
            bob.throw_away("g");
            bob.push();
            ada.pull();
            // One is still stored when it comes back, and nothing of it is sent again.
            let before = world.bytes();
            bob.bring_back("g");
            bob.push();
            assert!(world.bytes() - before < 2_000);
            collect(&ada, &bob);
            bob.look();
            bob.bring_back("f");
            // What is written on top of it lies on what is stored again.
            bob.place.effects_left.store(0, Ordering::SeqCst);
            assert!(bob.run(|sync| async move { sync.push().await }).is_err());
            bob.patch("f", 5, b"by bob");
            bob.place.effects_left.store(-1, Ordering::SeqCst);
            bob.push();
            ada.pull();
            ada.empty_cache();
            assert!(ada.files()["f"] == noise(1, size));
            bob.push();
            ada.pull();
            let mut patched = noise(1, size);
            patched[5..11].copy_from_slice(b"by bob");
            collect(&ada, &bob);
            for device in [&ada, &bob, &world.join()] {
                device.empty_cache();
                let files = device.files();
                assert!(files["f"] == patched && files["g"] == noise(2, size));
            }
        }
    }
}

/// Its place was of before a collection that had moved it, so nobody saw that the next one took it from where it lay.
#[test]
fn what_was_moved_before_it_came_into_the_trash_stays_there() {
    for size in SIZES {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("f", &noise(1, size));
        ada.write("gone", &noise(2, 2 * size + 100_000));
        ada.push();
        ada.remove("gone");
        ada.push();
        bob.pull();
        collect(&ada, &bob);
        bob.throw_away("f");
        bob.push();
        ada.pull();
        collect(&ada, &bob);
        bob.look();
        bob.bring_back("f");
        bob.push();
        let said = bob.run(|sync| async move { Ok(sync.status().incomplete) }).unwrap();
        assert_eq!(said, Vec::<String>::new());
        ada.pull();
        for device in [&ada, &bob, &world.join()] {
            device.empty_cache();
            assert!(device.files()["f"] == noise(1, size));
        }
    }
}

#[test]
fn who_was_not_waited_for_takes_note_although_what_was_in_its_trash_is_gone() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 100_000));
    ada.push();
    bob.pull();
    bob.throw_away("f");
    bob.push();
    ada.pull();
    collect_without(&world, &ada, &bob);
    bob.write("by bob", b"bob");
    bob.push();
    ada.pull();
    assert_eq!(ada.files()["by bob"], bob.files()["by bob"]);
    collect(&ada, &bob);
}

/// Simulator seed 620855.
#[test]
fn a_conflict_copy_that_was_touched_before_a_collection_that_did_not_wait_has_what_is_here() {
    for size in SIZES {
        for cached in [true, false] {
            let mut world = World::new();
            let (ada, bob) = (world.join(), world.join());
            ada.write("f", b"of the beginning");
            ada.push();
            bob.pull();
            ada.write("f", &noise(1, size));
            ada.push();
            bob.write("f", &noise(2, size));
            bob.push();
            bob.pull();
            ada.pull();
            let files = bob.files();
            let (copy, content) = files.iter().find(|(name, _)| name.contains("conflict")).unwrap();
            if !cached {
                bob.empty_cache();
            }
            rename(&bob, (FileId::ROOT, &[copy]), (FileId::ROOT, "kept"));
            ada.remove(copy);
            ada.push();
            collect_without(&world, &ada, &bob);
            bob.push();
            let said = bob.run(|sync| async move { Ok(sync.status().incomplete) }).unwrap();
            let kept = if cached { content.clone() } else { vec![0; size] };
            assert_eq!(said, if cached { vec![] } else { vec!["kept".to_owned()] });
            ada.pull();
            ada.empty_cache();
            assert!(ada.files()["kept"] == kept);
            collect(&ada, &bob);
            for device in [&ada, &world.join()] {
                device.empty_cache();
                assert!(device.files()["kept"] == kept);
            }
        }
    }
}

/// Its list of chunks lay in a pack that stayed, and said where they had been before.
#[test]
fn a_large_file_that_comes_back_is_whole_although_its_list_stayed_and_its_chunks_went() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let large = noise(1, 2_000_000);
    ada.write("half", &large[..1_000_000]);
    ada.write("rest", &large[1_000_000..]);
    ada.push();
    ada.write("large", &large);
    ada.write("stays", &noise(2, 500_000));
    ada.push();
    bob.pull();
    for name in ["half", "rest", "large"] {
        ada.remove(name);
    }
    ada.push();
    bob.pull();
    collect(&ada, &bob);
    ada.write("large", &large);
    ada.push();
    bob.pull();
    for device in [&ada, &bob, &world.join()] {
        device.empty_cache();
        assert!(device.files()["large"] == large);
    }
}

/// Its chunks were known to be stored: for another file, elsewhere.
#[test]
fn what_comes_back_while_another_file_has_the_same_bytes_is_whole_on_every_device() {
    for size in SIZES {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("f", &noise(1, size));
        ada.push();
        bob.pull();
        bob.throw_away("f");
        bob.push();
        ada.pull();
        collect(&ada, &bob);
        ada.write("same", &noise(1, size));
        ada.push();
        bob.pull();
        bob.bring_back("f");
        bob.push();
        ada.pull();
        for device in [&ada, &bob] {
            device.empty_cache();
            let files = device.files();
            assert!(files["f"] == noise(1, size) && files["same"] == noise(1, size));
        }
        ada.remove("same");
        ada.push();
        bob.pull();
        collect(&ada, &bob);
        for device in [&ada, &bob, &world.join()] {
            device.empty_cache();
            assert!(device.files()["f"] == noise(1, size));
        }
    }
}

/// Who wrote to it then could neither begin nor end a collection: what it was made on had gone, with the
/// list of its chunks (simulator seed 1785619).
#[test]
fn a_file_that_is_open_although_a_collection_took_it_holds_nothing_up() {
    for size in SIZES {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("f", &noise(1, size));
        ada.push();
        bob.pull();
        let file = seen(&bob, &["f"]).unwrap().id;
        bob.volume().open(file).unwrap();
        bob.remove("f");
        bob.push();
        ada.pull();
        collect(&ada, &bob);
        bob.look();
        bob.empty_cache();
        let place = Place { parent: FileId::ROOT, name: leaf("f") };
        bob.ask(|volume| volume.write(file, &place, size as u64, b"more"));
        bob.write("g", b"goes on");
        bob.push();
        ada.pull();
        collect(&bob, &ada);
        assert_eq!(bob.files(), world.join().files());
    }
}
