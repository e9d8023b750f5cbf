//! Two devices change the same things without knowing of each other: afterwards both show the same, and nothing is lost.

use ouro_tests::{Device, EVER, Place, assert_same, survey, until, without_directory_times};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// The contents of all files in a directory, without those that vanish between the listing and the look.
fn contents(folder: &Path) -> BTreeSet<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("listed");
    let read = |entry: io::Result<fs::DirEntry>| match fs::read(entry.expect("listed").path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.expect("read")),
    };
    entries.filter_map(read).collect()
}

fn set(contents: &[&[u8]]) -> BTreeSet<Vec<u8>> {
    contents.iter().map(|content| content.to_vec()).collect()
}

#[test]
fn what_two_devices_wrote_apart_is_all_there_afterwards_on_both() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    for folder in ["edited", "born", "deleted", "renamed", "folder"] {
        fs::create_dir(a.at(folder)).expect("made");
    }
    for name in ["edited/file.txt", "deleted/file.txt", "renamed/file.txt", "folder/old"] {
        fs::write(a.at(name), "before").expect("written");
    }
    a.wait();
    b.join(&place);
    b.mount();
    assert_eq!(fs::read(b.at("edited/file.txt")).expect("there"), b"before");

    place.server().stop();
    fs::write(a.at("edited/file.txt"), "by A").expect("written");
    fs::write(b.at("edited/file.txt"), "by B").expect("written");
    fs::write(a.at("born/file.txt"), "new by A").expect("written");
    fs::write(b.at("born/file.txt"), "new by B").expect("written");
    fs::remove_file(a.at("deleted/file.txt")).expect("removed");
    fs::write(b.at("deleted/file.txt"), "edited by B").expect("written");
    fs::rename(a.at("renamed/file.txt"), a.at("renamed/by A.txt")).expect("renamed");
    fs::write(b.at("renamed/file.txt"), "edited by B").expect("written");
    fs::remove_dir_all(a.at("folder")).expect("removed");
    fs::write(b.at("folder/new"), "put in by B").expect("written");
    place.server().cont();
    a.wait();
    b.wait();

    for device in [&a, &b] {
        until(EVER, "both edits are seen", || fs::read_dir(device.at("edited")).expect("listed").count() == 2);
        until(EVER, "both new files are seen", || fs::read_dir(device.at("born")).expect("listed").count() == 2);
        until(EVER, "the edit after the deletion is seen", || device.at("deleted/file.txt").exists());
        until(EVER, "rename and edit both apply", || {
            fs::read(device.at("renamed/by A.txt")).is_ok_and(|bytes| bytes == b"edited by B")
                && !device.at("renamed/file.txt").exists()
        });
        until(EVER, "the directory has what is new, only", || {
            device.at("folder/new").exists() && !device.at("folder/old").exists()
        });
        assert_eq!(contents(&device.at("edited")), set(&[b"by A", b"by B"]));
        assert_eq!(contents(&device.at("born")), set(&[b"new by A", b"new by B"]));
        let names = fs::read_dir(device.at("edited")).expect("listed");
        let names: Vec<_> =
            names.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
        let is_copy = |name: &String| name.starts_with("file (conflict from ") && name.ends_with(").txt");
        assert!(names.iter().any(is_copy) && names.contains(&"file.txt".to_owned()), "{names:?}");
    }
    let look = |device: &Device| without_directory_times(survey(&device.mountpoint()));
    assert_same("both devices", &look(&a), &look(&b));

    // A conflict is settled by ordinary work on the files.
    let copies = fs::read_dir(a.at("edited")).expect("listed").map(|entry| entry.expect("listed").path());
    let copy = copies.into_iter().find(|path| path.to_string_lossy().contains("conflict")).expect("there is a copy");
    fs::remove_file(copy).expect("removed");
    fs::write(a.at("edited/file.txt"), "settled").expect("written");
    a.wait();
    until(EVER, "B shows the settled file alone", || contents(&b.at("edited")) == set(&[b"settled"]));
}
