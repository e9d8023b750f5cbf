//! What each device keeps to itself: ignored names, owners, locks.

use ouro_tests::{Device, EVER, NOBODY, Place, until};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

/// Two devices with one box; the second one joins when the first has written what `write` does.
fn two(place: &Place, write: impl FnOnce(&Device)) -> (Device, Device) {
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(place);
    a.mount();
    write(&a);
    a.wait();
    b.join(place);
    b.mount();
    (a, b)
}

#[test]
fn ignored_names_are_files_like_others_here_and_nowhere_else() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| {
        fs::write(a.at(".ouroignore"), "*.log\nbuild/\n!kept.log\n").expect("written");
        fs::create_dir_all(a.at("build/deep")).expect("made");
        for name in ["build/deep/object", "run.log", "kept.log", "film.part", ".a.swp", "text"] {
            fs::write(a.at(name), name).expect("written");
        }
    });
    let names = |device: &Device| -> Vec<String> {
        let entries = fs::read_dir(device.mountpoint()).expect("listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&b), [".ouroignore", "kept.log", "text"]);
    a.remount();
    for name in ["build/deep/object", "run.log", "film.part", ".a.swp"] {
        assert_eq!(fs::read_to_string(a.at(name)).expect("kept here"), name);
    }
    // Under a name that is not ignored it is everybody's.
    fs::rename(a.at("film.part"), a.at("film")).expect("renamed");
    a.wait();
    until(EVER, "B has the film", || fs::read_to_string(b.at("film")).is_ok_and(|text| text == "film.part"));
}

#[test]
fn owners_are_noted_here_and_mean_nothing_elsewhere() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| {
        fs::write(a.at("file"), "text").expect("written");
        std::os::unix::fs::chown(a.at("file"), Some(NOBODY), Some(NOBODY)).expect("root may");
    });
    let owner = |device: &Device| {
        let metadata = fs::metadata(device.at("file")).expect("there");
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner(&a), (NOBODY, NOBODY));
    a.remount();
    assert_eq!(owner(&a), (NOBODY, NOBODY));
    assert_eq!(owner(&b), (0, 0), "elsewhere it belongs to who mounted");
}

#[test]
fn locks_hold_among_the_programs_of_one_device() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| fs::write(a.at("file"), "text").expect("written"));
    let open = |device: &Device| File::open(device.at("file")).expect("opened");
    let (first, second, elsewhere) = (open(&a), open(&a), open(&b));
    flock(&first, FlockOperation::LockExclusive).expect("free");
    let refused = flock(&second, FlockOperation::NonBlockingLockExclusive).expect_err("it is locked");
    assert_eq!(refused, rustix::io::Errno::WOULDBLOCK);
    flock(&elsewhere, FlockOperation::NonBlockingLockExclusive).expect("nobody asks the other device");
    drop(first);
    // The kernel tells a mount of a closed file only after the program goes on.
    until(EVER, "free again", || flock(&second, FlockOperation::NonBlockingLockExclusive).is_ok());
}
