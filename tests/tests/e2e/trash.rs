//! The trash that desktops make in the root of a mount: what lies there is gone for others, and comes back by a rename.

use ouro_tests::{Device, EVER, Place, Pseudo, until};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::path::Path;

fn colour(path: &Path) -> Vec<u8> {
    let mut value = [0; 16];
    let len = getxattr(path, "user.colour", &mut value[..]).expect("it has one");
    value[..len].to_vec()
}

#[test]
fn what_is_thrown_away_on_one_device_goes_on_the_other_and_comes_back_with_all_it_had() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    let (film, letter) = (Pseudo::new(1).bytes(3 << 20), b"a letter".to_vec());
    fs::create_dir_all(a.at("folder/below")).expect("made");
    fs::write(a.at("folder/below/film"), &film).expect("written");
    fs::write(a.at("folder/letter"), &letter).expect("written");
    setxattr(a.at("folder/letter"), "user.colour", b"red", XattrFlags::empty()).expect("set");
    fs::write(a.at("stays"), "here").expect("written");
    a.wait();
    b.join(&place);
    b.mount();
    assert_eq!(fs::read(b.at("folder/letter")).expect("it has come"), letter);

    // As the specification of desktops' trash has it.
    for made in [".Trash-0", ".Trash-0/info", ".Trash-0/files"] {
        fs::create_dir(a.at(made)).expect("made");
    }
    let note = "[Trash Info]\nPath=folder\nDeletionDate=2026-11-28T12:00:00\n";
    fs::write(a.at(".Trash-0/info/folder.trashinfo"), note).expect("written");
    fs::rename(a.at("folder"), a.at(".Trash-0/files/folder")).expect("moved");
    a.wait();
    until(EVER, "the folder is gone for B", || !b.at("folder").exists());
    let names = |device: &Device| -> Vec<String> {
        let entries = fs::read_dir(device.mountpoint()).expect("listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&b), ["stays"], "nobody sees another's trash");
    assert_eq!(names(&a), [".Trash-0", "stays"]);

    a.remount();
    let thrown = a.at(".Trash-0/files/folder");
    assert!(fs::read(thrown.join("below/film")).expect("still here") == film);
    assert_eq!(fs::read_to_string(a.at(".Trash-0/info/folder.trashinfo")).expect("still here"), note);
    fs::rename(&thrown, a.at("folder")).expect("moved back");
    fs::remove_file(a.at(".Trash-0/info/folder.trashinfo")).expect("removed");
    a.wait();
    until(EVER, "the folder is back for B", || b.at("folder/letter").exists());
    for device in [&a, &b] {
        assert!(fs::read(device.at("folder/below/film")).expect("back") == film);
        assert_eq!(fs::read(device.at("folder/letter")).expect("back"), letter);
        assert_eq!(colour(&device.at("folder/letter")), b"red");
    }
    let report = b.json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
}
