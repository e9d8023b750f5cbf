//! One device.

use crate::device::{DAY_MS, Device, HOUR_MS, NOTHING_KEPT, World, noise};
use ouro_core::retention::Retention;
use ouro_sync::{CollectOptions, Stage};
use std::sync::atomic::Ordering;

/// A file rewritten so often: small ones travel in records, large ones in packs.
fn rewrite(device: &Device, name: &str, times: u64, len: usize) {
    for time in 0..times {
        device.write(name, &noise(time + len as u64, len));
        device.push();
    }
}

#[test]
fn what_nothing_needs_goes_and_everything_that_is_seen_is_read_back_by_a_fresh_device() {
    let mut world = World::new();
    let ada = world.join();
    ada.write(
        "stays",
        b"a content that never changes, longer than what stands in the index itself: it lies in a record. "
            .repeat(3)
            .as_slice(),
    );
    ada.push();
    rewrite(&ada, "small", 30, 2_000);
    rewrite(&ada, "large", 10, 200_000);
    let before = world.bytes();
    let report = ada.collect(NOTHING_KEPT);
    assert_eq!(report.stage, Stage::Ended);
    assert!(world.bytes() < before / 5, "{} of {before} bytes are left: {report:?}", world.bytes());
    assert!(world.names("log/").is_empty(), "{:?}", world.names("log/"));
    let expected = ada.files();
    assert_eq!(expected.len(), 3);
    ada.empty_cache();
    assert_eq!(ada.files(), expected, "the device itself reads it from the remote");
    let bob = world.join();
    assert_eq!(bob.files(), expected);
    // Both go on.
    bob.write("small", b"new");
    bob.push();
    ada.pull();
    assert_eq!(ada.files()["small"], b"new");
    let carol = world.join();
    assert_eq!(carol.files(), ada.files());
}

#[test]
fn collecting_again_finds_nothing_and_a_dry_run_changes_nothing() {
    let mut world = World::new();
    let ada = world.join();
    rewrite(&ada, "f", 5, 50_000);
    let before = world.remote.snapshot();
    let dry = CollectOptions { retention: NOTHING_KEPT, grace_ms: 0, dry_run: true };
    let looked = ada.try_collect(dry).unwrap();
    assert_eq!(looked.stage, Stage::Looked);
    assert_eq!(world.remote.snapshot(), before);
    let report = ada.collect(NOTHING_KEPT);
    assert_eq!((report.stage, report.reclaimed_bytes), (Stage::Ended, looked.reclaimed_bytes));
    assert_eq!(ada.collect(NOTHING_KEPT).stage, Stage::Nothing);
    assert_eq!(ada.files().len(), 1);
}

/// Each list comes with a read of every collection that it shows. Others may have begun one meanwhile: so a run lists them to begin on the newest
/// checkpoint, to see what there is, and to delete what came before, and looks before it begins, when it has begun and when it has ended one.
#[test]
fn a_run_lists_the_collections_no_more_often_than_others_may_have_begun_one() {
    let mut world = World::new();
    let ada = world.join();
    for round in 0..2 {
        rewrite(&ada, "f", 5, 50_000);
        ada.remove("f");
        ada.push();
        let before = ada.place.collections_listed.load(Ordering::SeqCst);
        assert_eq!(ada.collect(NOTHING_KEPT).stage, Stage::Ended);
        assert_eq!(ada.place.collections_listed.load(Ordering::SeqCst) - before, 6, "in round {round}");
    }
}

#[test]
fn kept_states_are_opened_by_devices_that_never_saw_their_records() {
    let mut world = World::new();
    let ada = world.join();
    let mut states = Vec::new();
    for hour in 0..60_u64 {
        for quarter in 0..4_u64 {
            let seed = hour * 4 + quarter;
            ada.write("f", &noise(seed, if seed % 2 == 0 { 3_000 } else { 40_000 }));
            ada.write(&format!("g{}", seed % 7), &noise(seed + 1_000, 500));
            ada.push();
            states.push(ada.files());
            world.pass(HOUR_MS / 4);
        }
        if hour % 20 == 7 {
            ada.checkpoint();
        }
    }
    let report = ada.collect(Retention::default());
    assert_eq!(report.stage, Stage::Ended);
    let bob = world.join();
    ada.empty_cache();
    let (mut kept, mut thinned) = (0, 0);
    for info in ada.ask(|volume| volume.commits(ouro_core::id::Hlc(0), ouro_core::id::Hlc(u64::MAX), usize::MAX)) {
        // Announcements of checkpoints count in the log and make no state.
        let found = bob.files_at(info.device.0, info.seq.0).unwrap();
        assert!(states.contains(&found), "commit {} is no state there was", info.seq.0);
        assert_eq!(ada.files_at(info.device.0, info.seq.0).unwrap(), found);
        kept += 1;
    }
    for seq in 1..=200 {
        thinned += usize::from(ada.files_at(1, seq).is_err());
    }
    // 24 hours whole, and one for each of the 36 hours before.
    assert!((96 + 35..=96 + 40).contains(&kept), "{kept} states are kept: {report:?}");
    assert!(thinned > 80, "{thinned} states are thinned");
    // A month later most of these are gone too, and the rest still reads.
    world.pass(40 * DAY_MS);
    ada.write("f", b"the newest");
    ada.push();
    bob.look();
    assert!(matches!(ada.collect(Retention::default()).stage, Stage::Waiting(_)));
    bob.look();
    assert_eq!(ada.collect(Retention::default()).stage, Stage::Ended);
    let carol = world.join();
    let left = carol.ask(|volume| volume.commits(ouro_core::id::Hlc(0), ouro_core::id::Hlc(u64::MAX), usize::MAX));
    assert!((2..6).contains(&left.len()), "{} states are left", left.len());
    for info in left {
        carol.files_at(info.device.0, info.seq.0).unwrap();
    }
    assert_eq!(carol.files(), ada.files());
}

#[test]
fn a_named_snapshot_stays_whatever_its_age_and_is_found_by_its_name() {
    let mut world = World::new();
    let ada = world.join();
    ada.write("f", b"as it was");
    ada.run(|sync| async move {
        let turn = sync.turn().await;
        sync.commit_as(&turn, "the good one".to_owned()).await.map(drop)
    })
    .unwrap();
    let named = ada.files();
    rewrite(&ada, "f", 3, 1_000);
    world.pass(900 * DAY_MS);
    rewrite(&ada, "f", 3, 1_000);
    assert_eq!(ada.collect(Retention::default()).stage, Stage::Ended);
    let bob = world.join();
    let info = bob.ask(|volume| volume.snapshot_named("the good one")).unwrap();
    assert_eq!(bob.files_at(info.device.0, info.seq.0).unwrap(), named);
}

#[test]
fn packs_of_which_a_little_is_live_are_copied_and_old_places_are_followed_again_and_again() {
    let mut world = World::new();
    let ada = world.join();
    for n in 0..20 {
        ada.write(&format!("f{n}"), &noise(n, 70_000));
    }
    ada.push();
    ada.checkpoint();
    let mut expected = ada.files();
    for round in 0..3 {
        // Each round most of what is left goes.
        let left: Vec<String> = expected.keys().cloned().collect();
        for name in left.iter().take(left.len() * 2 / 3) {
            ada.remove(name);
        }
        ada.push();
        world.pass(HOUR_MS);
        let report = ada.collect(NOTHING_KEPT);
        assert_eq!(report.stage, Stage::Ended, "round {round}");
        expected = ada.files();
        ada.empty_cache();
        assert_eq!(ada.files(), expected, "round {round}");
    }
    assert_eq!(world.join().files(), expected);
}

#[test]
fn a_large_file_with_a_block_list_survives_collections_around_it() {
    let mut world = World::new();
    let ada = world.join();
    let whole = noise(1, 2_000_000);
    ada.write("whole", &whole);
    ada.push();
    // The same chunks but one, under another list.
    let mut patched = whole.clone();
    patched[1_000_000..1_000_100].fill(7);
    ada.write("whole", &patched);
    ada.push();
    ada.checkpoint();
    assert_eq!(ada.collect(NOTHING_KEPT).stage, Stage::Ended);
    ada.empty_cache();
    assert!(ada.files()["whole"] == patched);
    assert!(world.join().files()["whole"] == patched);
}
