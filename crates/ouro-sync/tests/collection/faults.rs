//! What fails: the storage in the middle, the process after any effect, objects that are not what they should be.

use crate::device::{HOUR_MS, NOTHING_KEPT, World, noise};
use futures::executor::block_on;
use ouro_core::retention::Retention;
use ouro_remote::Store;
use ouro_sync::{CollectOptions, Stage};
use std::sync::atomic::Ordering;

const KEPT: Retention = Retention { all_ms: 2 * HOUR_MS, hourly_ms: 5 * HOUR_MS, daily_ms: 0, weekly_ms: 0 };

/// Two devices' work over some hours: in packs and in records, with checkpoints.
fn busy(world: &mut World) -> (crate::device::Device, crate::device::Device) {
    let (ada, bob) = (world.join(), world.join());
    for n in 0..8_u64 {
        ada.write("large", &noise(n, 80_000));
        ada.write(&format!("a{}", n % 3), &noise(50 + n, 2_000));
        ada.push();
        bob.pull();
        bob.write(&format!("b{}", n % 3), &noise(90 + n, 3_000));
        bob.push();
        ada.pull();
        world.pass(HOUR_MS);
        if n == 4 {
            ada.checkpoint();
            bob.pull();
        }
    }
    (ada, bob)
}

#[test]
fn a_collection_that_is_ended_after_any_effect_goes_on_and_loses_nothing() {
    let mut interrupted = 0;
    for effects in 0.. {
        let mut world = World::new();
        let (mut ada, bob) = busy(&mut world);
        let expected = ada.files();
        let options = CollectOptions { retention: KEPT, grace_ms: 0, dry_run: false };
        // The first half and the second, each of them cut off at every effect in turn.
        ada.place.effects_left.store(effects, Ordering::SeqCst);
        let mut cut_off = ada.try_collect(options).is_err();
        if !cut_off {
            bob.look();
            cut_off = ada.try_collect(options).is_err();
        }
        ada.place.effects_left.store(-1, Ordering::SeqCst);
        ada.restart();
        ada.empty_cache();
        bob.empty_cache();
        assert_eq!(ada.files(), expected, "after {effects} effects");
        assert_eq!(bob.files(), expected, "after {effects} effects");
        bob.look();
        for _ in 0..3 {
            ada.try_collect(options).unwrap();
            bob.look();
        }
        ada.empty_cache();
        bob.empty_cache();
        assert_eq!(ada.files(), expected, "after {effects} effects and another collection");
        let carol = world.join();
        assert_eq!(carol.files(), expected, "after {effects} effects, on a fresh device");
        for info in carol.ask(|v| v.commits(ouro_core::id::Hlc(0), ouro_core::id::Hlc(u64::MAX), usize::MAX)) {
            carol.files_at(info.device.0, info.seq.0).unwrap();
        }
        if !cut_off {
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 20, "only {interrupted} effects were cut off");
}

#[test]
fn a_remote_that_is_full_in_the_middle_of_a_repack_keeps_everything() {
    let mut world = World::new();
    let (ada, bob) = busy(&mut world);
    let expected = ada.files();
    ada.place.faults().set_full(true);
    let options = CollectOptions { retention: KEPT, grace_ms: 0, dry_run: false };
    assert!(ada.try_collect(options).is_err());
    bob.empty_cache();
    assert_eq!(bob.files(), expected);
    ada.place.faults().set_full(false);
    assert!(matches!(ada.try_collect(options).unwrap().stage, Stage::Waiting(_)));
    bob.look();
    assert_eq!(ada.try_collect(options).unwrap().stage, Stage::Ended);
    bob.empty_cache();
    assert_eq!(bob.files(), expected);
}

#[test]
fn a_collection_that_is_garbage_stops_collecting_and_nothing_else() {
    let mut world = World::new();
    let (ada, bob) = busy(&mut world);
    let garbage = bytes::Bytes::from_static(b"OURBX\x1a\x01\x08\x20\x00\x00\x00\x10\x00\x00\x00garbage garbage!");
    futures::executor::block_on(ouro_remote::Store::publish(world.remote.as_ref(), "gc/0000000100000009", garbage))
        .unwrap();
    let options = CollectOptions { retention: NOTHING_KEPT, grace_ms: 0, dry_run: false };
    let refused = ada.try_collect(options).unwrap_err();
    assert!(refused.to_string().contains("gc/0000000100000009"), "{refused}");
    bob.look();
    bob.write("f", b"work goes on");
    bob.push();
    ada.pull();
    assert_eq!(ada.files()["f"], b"work goes on");
    futures::executor::block_on(ouro_remote::Store::delete(world.remote.as_ref(), "gc/0000000100000009")).unwrap();
    assert!(matches!(ada.try_collect(options).unwrap().stage, Stage::Waiting(_)));
}

/// Simulator seed 110248.
#[test]
fn a_collection_whose_publication_was_cut_off_is_made_under_another_name() {
    let mut world = World::new();
    let ada = world.join();
    let collect = |n: u64| {
        ada.write("f", &noise(n, 50_000));
        ada.push();
        ada.collect(NOTHING_KEPT).stage
    };
    assert_eq!(collect(0), Stage::Ended);
    let (whole, bytes) = world.remote.snapshot().into_iter().find(|(name, _)| name.starts_with("gc/")).unwrap();
    let last = u64::from_str_radix(&whole["gc/".len()..], 16).unwrap();
    // That of the next collection, and that of the end of the one made instead.
    for later in [1, 3] {
        let name = format!("gc/{:016x}", last + (later << 32));
        block_on(world.remote.overwrite(&name, bytes.slice(..bytes.len() / 2))).unwrap();
    }
    assert_eq!((collect(1), collect(2)), (Stage::Ended, Stage::Ended));
    assert_eq!(world.join().files(), ada.files());
}

#[test]
fn a_pack_that_is_missing_stops_the_collection_before_anything_goes() {
    let mut world = World::new();
    let (ada, _bob) = busy(&mut world);
    ada.write("victim", &noise(1_000, 90_000));
    let before = world.names("packs/");
    ada.push();
    let fresh: Vec<String> = world.names("packs/").into_iter().filter(|name| !before.contains(name)).collect();
    for name in &fresh {
        futures::executor::block_on(ouro_remote::Store::delete(world.remote.as_ref(), name)).unwrap();
    }
    let there = world.remote.snapshot();
    let options = CollectOptions { retention: NOTHING_KEPT, grace_ms: 0, dry_run: false };
    let refused = ada.try_collect(options).unwrap_err();
    assert!(refused.to_string().contains(&fresh[0]), "{refused}");
    assert!(there.keys().all(|name| world.names("").contains(name)), "something went");
}
