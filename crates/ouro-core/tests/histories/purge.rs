//! What is purged, and what comes of purging too early.

use crate::device::{Commit, Device};
use crate::table::MILLIS;
use ouro_core::deed::deeds;
use ouro_core::edit::{Among, purgeable};
use std::sync::Arc;

fn purge(device: &mut Device, settled: &Device, among: Among) -> usize {
    device
        .edit(|e| {
            let candidates = purgeable(e.rows, &settled.committed, among, usize::MAX)?;
            e.purge(&settled.committed, &candidates)
        })
        .expect("all rows are there")
}

fn seal(device: &mut Device, minutes: u64) -> Commit {
    device.seal(MILLIS + minutes * 60_000).expect("something is pending")
}

/// A device that knows some commits.
fn knowing(commits: &[&Commit]) -> Device {
    let mut device = Device::new(9);
    for commit in commits {
        device.learn(commit);
    }
    device
}

#[test]
fn what_was_hidden_when_all_knew_it_goes_and_nothing_else() {
    let mut device = Device::new(1);
    for path in ["/d", "/d/e", "/kept"] {
        device.make(path, None);
    }
    device.make("/d/f", Some("text"));
    let made = seal(&mut device, 0);
    device.remove_all("/d");
    let removed = seal(&mut device, 1);
    assert_eq!(
        purge(&mut device, &knowing(&[&made]), Among::Homeless),
        0,
        "somebody may not know yet that it is removed"
    );
    assert_eq!(purge(&mut device, &knowing(&[&made, &removed]), Among::Homeless), 2, "both directories");
    seal(&mut device, 2);
    device.check();
    assert_eq!(device.paths().into_keys().collect::<Vec<_>>(), ["", "/kept"]);
    assert!(device.state.values().all(|file| file.placements.iter().all(|p| !p.removed)), "no record is left");
}

/// Whoever reads the log is not told that something was deleted when nothing was.
#[test]
fn a_purge_is_told_as_forgetting_and_what_people_removed_as_deleting() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.make("/d", None);
    for file in ["/d/f", "/renamed", "/edited"] {
        a.make(file, Some("text"));
    }
    let made = seal(&mut a, 0);
    b.learn(&made);
    // A name without content, which somebody else deleted, and a conflict copy that is removed before it is a file.
    a.rename("/renamed", "/elsewhere");
    a.write("/edited", "by a");
    a.remove_all("/d");
    let by_a = seal(&mut a, 1);
    b.remove("/renamed");
    b.write("/edited", "by b");
    let by_b = seal(&mut b, 2);
    a.learn(&by_b);
    let copy = a.paths().into_keys().find(|path| path.contains("(conflict")).expect("there is a copy");
    a.remove(&copy);
    let buried = seal(&mut a, 3);
    let told = |commit: &Commit| commit.delta.files.iter().map(deeds).collect::<Vec<_>>();
    assert_eq!(told(&by_a).iter().filter(|told| told.deleted).count(), 2, "the directory and what was in it");
    assert_eq!(told(&by_b).iter().filter(|told| told.deleted).count(), 1);
    assert_eq!(told(&buried).iter().filter(|told| told.deleted).count(), 1);
    for commit in [&made, &by_a, &by_b, &buried] {
        assert!(told(commit).iter().all(|told| !told.forgotten), "{:?}", told(commit));
    }
    assert_eq!(purge(&mut a, &knowing(&[&made, &by_a, &by_b, &buried]), Among::Everything), 3);
    let purged = told(&seal(&mut a, 4));
    assert_eq!(purged.len(), 3);
    for told in purged {
        assert!(told.forgotten && !told.deleted && !told.links && !told.settled && !told.edited, "{told:?}");
    }
}

/// What a device that was given up puts into a purged directory is found in `Recovered/`, and so is the next one.
#[test]
fn regression_a_file_that_joins_others_in_recovered_is_announced() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.make("/d", None);
    let made = seal(&mut a, 0);
    b.learn(&made);
    a.remove("/d");
    let removed = seal(&mut a, 1);
    assert_eq!(purge(&mut a, &knowing(&[&made, &removed]), Among::Everything), 1);
    seal(&mut a, 2);
    for (minutes, leaf) in [(3, "x"), (4, "y")] {
        b.make(&format!("/d/{leaf}"), Some(leaf));
        let late = seal(&mut b, minutes);
        // That its directory is told to list something else is checked there.
        a.learn(&late);
        assert!(a.paths().contains_key(&format!("/Recovered/{leaf}")));
    }
    a.check();
}

#[test]
fn regression_what_was_put_back_for_a_cycle_stays_there_when_a_hidden_member_is_purged() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.make("/x", None);
    a.make("/y", None);
    let made = seal(&mut a, 0);
    b.learn(&made);
    a.rename("/x", "/y/x");
    let inside = seal(&mut a, 1);
    a.remove("/y/x");
    let removed = seal(&mut a, 2);
    b.rename("/y", "/x/y");
    let moved = seal(&mut b, 3);
    a.learn(&moved);
    for commit in [&inside, &removed] {
        b.learn(commit);
    }
    let before = a.paths();
    assert!(before.contains_key("/y"), "{before:?}");
    assert_eq!(purge(&mut a, &knowing(&[&made, &inside, &removed, &moved]), Among::Homeless), 1);
    assert_eq!(a.paths(), before);
    b.learn(&seal(&mut a, 4));
    for device in [&a, &b] {
        assert_eq!(device.paths(), before);
        device.check();
    }
}

/// Simulator seed 509284: in one order they were found in the directory, in the other they were not.
#[test]
fn regression_what_is_hidden_in_a_directory_that_returns_after_a_purge_is_laid_out_as_if_it_had_never_gone() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    for path in ["/x", "/x/inner", "/f"] {
        a.make(path, (path == "/f").then_some("text"));
    }
    let made = seal(&mut a, 0);
    b.learn(&made);
    // A file with a name in it and no content, a directory in it, and it itself: all hidden.
    a.rename("/f", "/x/f");
    let moved = seal(&mut a, 1);
    b.remove("/f");
    let gone = seal(&mut b, 2);
    b.make("/x/late", Some("late"));
    let put = seal(&mut b, 3);
    a.learn(&gone);
    a.remove("/x/inner");
    a.remove("/x");
    let removed = seal(&mut a, 4);
    // Who knows of nothing but the removal purges the directory; who knows all settles it where it is shown.
    let before = [&made, &moved, &gone, &removed];
    let mut purger = knowing(&before);
    let x = purger.state.values().find(|file| file.placements.iter().any(|p| p.place.name.as_bytes() == b"x"));
    let x = [Arc::new(x.unwrap().clone())];
    purger.edit(|e| e.purge(&knowing(&before).committed, &x)).unwrap();
    let purged = seal(&mut purger, 5);
    for commit in [&moved, &removed] {
        b.learn(commit);
    }
    b.make("/x/later", Some("later"));
    let settled = seal(&mut b, 6);
    let mut first = knowing(&[&made, &moved, &gone, &removed, &put, &purged, &settled]);
    let second = knowing(&[&made, &moved, &gone, &removed, &put, &settled, &purged]);
    assert_eq!(first.committed.0, second.committed.0, "one state, the same rows");
    for device in [&first, &second] {
        device.check();
        assert!(device.paths().contains_key("/x/later"));
    }
    b.learn(&purged);
    first.learn(&purged);
    b.check();
}
