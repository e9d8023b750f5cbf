//! What one device puts into a box is on the other, byte by byte, on every kind of storage.

use ouro_tests::{EVER, Pair, Place, SOON, assert_same, is_long, plant_odd, plant_real, survey, until};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

/// Files of this system that go into the box.
fn real_files() -> usize {
    if is_long() { 20_000 } else { 2_000 }
}

fn a_tree_travels_and_changes_come_back(place: fn() -> Place) {
    let Some(pair) = Pair::over(place) else { return };
    let (a, b) = (&pair.a, &pair.b);
    let source = tempfile::tempdir().expect("a temporary folder");
    plant_real(&source.path().join("real"), real_files());
    plant_odd(&source.path().join("odd"));
    let expected = survey(source.path());

    let mut copy = Command::new("cp");
    copy.args(["-a", "--no-preserve=ownership"])
        .arg(source.path().join("real"))
        .arg(source.path().join("odd"))
        .arg(a.mountpoint());
    let outcome = ouro_tests::run(&copy);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_same("what was copied in", &expected, &survey(&a.mountpoint()));

    pair.join();
    assert_same("on the other device", &expected, &survey(&b.mountpoint()));
    a.remount();
    assert_same("after a remount", &expected, &survey(&a.mountpoint()));

    // Kept open by nobody, seen by both: what B changes, A shows without being asked to.
    let size = a.at("odd/sizes/65537");
    let before = fs::read(&size).expect("it is there");
    OpenOptions::new()
        .append(true)
        .open(b.at("odd/sizes/65537"))
        .and_then(|mut file| file.write_all(b"more"))
        .expect("appended");
    fs::rename(b.at("odd/deep"), b.at("odd/names/moved")).expect("renamed");
    fs::remove_file(b.at("odd/modes/644")).expect("removed");
    fs::remove_dir_all(b.at("odd/xattrs")).expect("removed");
    fs::write(b.at("odd/new"), b"born on B").expect("written");
    let appended = [&before[..], b"more"].concat();
    until(SOON, "A shows what B changed", || {
        fs::read(&size).is_ok_and(|bytes| bytes == appended)
            && a.at("odd/names/moved/level 0/level 1").is_dir()
            && !a.at("odd/deep").exists()
            && !a.at("odd/modes/644").exists()
            && !a.at("odd/xattrs").exists()
            && fs::read(a.at("odd/new")).is_ok_and(|bytes| bytes == b"born on B")
    });
    b.wait();
    pair.assert_same("both, after all");
    let report = a.json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    b.umount();
    a.umount();
}

#[test]
fn what_is_appended_to_a_file_that_stays_open_travels_without_any_other_change() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let (a, b) = (&pair.a, &pair.b);
    let mut log = fs::File::create(a.at("log")).expect("made");
    pair.join();
    let mut expected = Vec::new();
    for line in [&b"one\n"[..], b"two\n", b"three\n"] {
        log.write_all(line).expect("written");
        expected.extend_from_slice(line);
        // Longer than the pauses between two commits and two looks: the next line finds a device at rest.
        until(EVER, "B shows the line", || fs::read(b.at("log")).is_ok_and(|bytes| bytes == expected));
    }
}

#[test]
fn a_tree_is_the_same_on_two_devices_over_a_plain_folder() {
    a_tree_travels_and_changes_come_back(Place::folder);
}

#[test]
fn a_tree_is_the_same_on_two_devices_over_s3() {
    a_tree_travels_and_changes_come_back(Place::s3);
}

#[test]
fn a_tree_is_the_same_on_two_devices_over_webdav() {
    a_tree_travels_and_changes_come_back(Place::webdav);
}

#[test]
fn a_tree_is_the_same_on_two_devices_over_sftp() {
    a_tree_travels_and_changes_come_back(Place::sftp);
}
