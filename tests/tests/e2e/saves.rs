//! Files saved as editors save them are the files they were, on every device.

use ouro_tests::{Device, EVER, Pair, Place, SOON, until};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

/// As Kate, LibreOffice and most others do: a new file, synced, renamed over the old one.
fn save_over(file: &Path, text: &str) {
    let temporary = file.with_extension("saving");
    let mut new = File::create(&temporary).expect("made");
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).expect("written");
    drop(new);
    fs::rename(&temporary, file).expect("renamed");
}

/// As vim does: the old file moved aside, a new one written, the old one deleted.
fn save_aside(file: &Path, text: &str) {
    let backup = file.with_extension("txt~");
    fs::rename(file, &backup).expect("renamed");
    fs::write(file, text).expect("written");
    fs::remove_file(&backup).expect("removed");
}

fn inode(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|found| found.ino())
}

/// The inode that a listing says.
fn listed(file: &Path) -> Option<u64> {
    let mut entries = fs::read_dir(file.parent()?).ok()?.flatten();
    entries.find(|entry| Some(&*entry.file_name()) == file.file_name()).map(|entry| entry.ino())
}

#[test]
fn a_saved_file_is_the_same_file_on_both_devices() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let (a, b) = (&pair.a, &pair.b);
    fs::create_dir(a.at("folder")).expect("made");
    let (file, elsewhere) = (a.at("folder/text.txt"), b.at("folder/text.txt"));
    fs::write(&file, "first").expect("written");
    pair.join();
    let first = inode(&file).expect("it is there");
    until(SOON, "B shows the file", || inode(&elsewhere) == Some(first));
    for (round, save) in [save_over, save_aside, save_over].into_iter().enumerate() {
        let (text, before) = (format!("saved {round}"), a.stat("/commits"));
        save(&file, &text);
        assert_eq!(fs::read_to_string(&file).expect("read"), text);
        a.wait();
        until(SOON, "A shows the old inode", || inode(&file) == Some(first) && listed(&file) == Some(first));
        assert_eq!(a.stat("/commits"), before + 1, "a save is one commit");
        until(SOON, "B shows what was saved", || fs::read_to_string(&elsewhere).is_ok_and(|found| found == text));
        assert_eq!((inode(&elsewhere), listed(&elsewhere)), (Some(first), Some(first)));
        assert_eq!(fs::read_to_string(&file).expect("read"), text);
    }
    // Its own program may have it open: then it is a new file, and nothing breaks.
    let held = File::open(&file).expect("opened");
    save_over(&file, "saved while it was open");
    a.wait();
    assert_ne!(inode(&file), Some(first));
    assert_eq!(held.metadata().expect("it is open").ino(), first);
    drop(held);
    a.remount();
    assert_eq!(fs::read_to_string(&file).expect("read"), "saved while it was open");
    let report = a.json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    b.umount();
    a.umount();
}

#[test]
fn saves_on_two_devices_that_are_offline_are_one_file_and_one_copy() {
    let Some(pair) = Pair::over(Place::s3) else { return };
    let (a, b) = (&pair.a, &pair.b);
    fs::write(a.at("text.txt"), "first").expect("written");
    pair.join();
    until(SOON, "B shows the file", || b.at("text.txt").exists());
    let first = inode(&a.at("text.txt"));
    pair.apart(|a, b| {
        save_over(&a.at("text.txt"), "of anna");
        save_aside(&b.at("text.txt"), "of berta");
    });
    let texts = |device: &Device| {
        let entries = fs::read_dir(device.mountpoint()).expect("listed").flatten();
        let mut texts: Vec<String> = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
        texts.sort();
        texts
    };
    for device in [a, b] {
        until(EVER, "both contents are there", || texts(device) == ["of anna", "of berta"]);
        assert_eq!(inode(&device.at("text.txt")), first, "the name is the old file's");
    }
    b.umount();
    a.umount();
}
