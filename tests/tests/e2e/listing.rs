//! A directory's listing holds each name once, whatever goes on beside it.

use ouro_tests::{Device, Place, Pseudo, is_long};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FILES: usize = 6_000;
/// Files whose attributes change together. A checkpoint is due at a mebibyte of deltas, which are counted as 136 bytes for a changed file of
/// which one version is replaced, whatever the attributes hold: with every second commit or so.
const CHANGING: usize = 5_000;
const ATTRIBUTE_BYTES: usize = 100;

/// Changes many records again and again, so that commits and checkpoints go by.
fn churn(folder: &Path, stop: &AtomicBool) {
    fs::create_dir(folder).expect("made");
    let mut random = Pseudo::new(5);
    for number in 0..CHANGING {
        File::create(folder.join(number.to_string())).expect("made");
    }
    while !stop.load(Ordering::Relaxed) {
        for number in 0..CHANGING {
            let (path, value) = (folder.join(number.to_string()), random.bytes(ATTRIBUTE_BYTES));
            rustix::fs::setxattr(&path, "user.x", &value, rustix::fs::XattrFlags::empty()).expect("set");
        }
    }
}

fn assert_lists(what: &str, folder: &Path, expected: &BTreeSet<String>) {
    let entries = fs::read_dir(folder).expect("listed");
    let names: Vec<String> =
        entries.map(|entry| entry.expect("listed").file_name().into_string().expect("digits")).collect();
    let found: BTreeSet<String> = names.iter().cloned().collect();
    let (missing, extra) = (expected.difference(&found).count(), found.difference(expected).count());
    let twice = names.len() - found.len();
    assert!(missing + extra + twice == 0, "{what}: {missing} names missing, {extra} too much, {twice} twice");
}

#[test]
fn a_listing_is_complete_while_commits_and_checkpoints_go_by() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    let mut folder = a.at("listed");
    fs::create_dir(&folder).expect("made");
    for number in 0..FILES {
        File::create(folder.join(number.to_string())).expect("made");
    }
    for number in (0..FILES).step_by(2) {
        fs::remove_file(folder.join(number.to_string())).expect("removed");
    }
    let mut expected: BTreeSet<String> = (1..FILES).step_by(2).map(|number| number.to_string()).collect();
    assert_lists("after half was removed", &folder, &expected);
    let (stop, churned) = (AtomicBool::new(false), a.at("churned"));
    let limit = Duration::from_secs(if is_long() { 600 } else { 15 });
    std::thread::scope(|scope| {
        let churning = scope.spawn(|| churn(&churned, &stop));
        // Ends the other thread also when this one fails.
        let _stopping = Stopping(&stop);
        let began = Instant::now();
        let mut round = 0;
        while began.elapsed() < limit && !churning.is_finished() {
            round += 1;
            // A change of the directory takes its listing out of the kernel's cache.
            let probe = format!("probe {round}");
            File::create(folder.join(&probe)).expect("made");
            expected.insert(probe.clone());
            assert_lists(&format!("round {round}"), &folder, &expected);
            fs::remove_file(folder.join(&probe)).expect("removed");
            expected.remove(&probe);
            if round % 3 == 0 {
                let moved = a.at(format!("listed {round}"));
                fs::rename(&folder, &moved).expect("renamed");
                folder = moved;
                assert_lists(&format!("round {round}, renamed"), &folder, &expected);
            }
        }
    });
    let (commits, checkpoints) = (a.stat("/commits"), a.stat("/checkpoints"));
    assert!(commits > 3 && checkpoints > 1, "too little went by: {commits} commits, {checkpoints} checkpoints");
    a.remount();
    assert_lists("after a remount", &folder, &expected);
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
