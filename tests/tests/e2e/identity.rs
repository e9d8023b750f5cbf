//! Devices that are copied at work, and devices that are removed.

use ouro_tests::{Device, EVER, Place, run, until};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;

/// The device that a home says it is becomes two: the home is copied as a disk image would.
fn copy_home(from: &Device, to: &Device) {
    fs::remove_dir(to.home()).expect("nothing has run there");
    let mut copy = to.command("cp");
    copy.arg("-a").arg(from.home()).arg(to.home());
    assert_eq!(run(&copy).code, Some(0));
}

fn devices(of: &Device) -> Vec<Value> {
    of.json(&["devices"])["devices"].as_array().expect("a list").clone()
}

fn names(of: &Device) -> Vec<String> {
    devices(of).iter().map(|device| device["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_home_that_is_copied_at_work_becomes_two_devices_and_every_edit_arrives_everywhere() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b, copy) = (Device::new("anna"), Device::new("berta"), Device::new("the copy"));
    a.init(&place);
    a.mount();
    fs::create_dir(a.at("folder")).expect("made");
    fs::write(a.at("folder/common"), b"before").expect("written");
    a.wait();
    b.join(&place);
    b.mount();
    a.umount();
    copy_home(&a, &copy);
    a.mount();
    copy.mount();

    fs::create_dir(a.at("of anna")).expect("made");
    fs::write(a.at("of anna/file"), vec![b'a'; 200_000]).expect("written");
    fs::write(a.at("folder/common"), b"edited by anna").expect("written");
    a.wait();
    // The copy gives the same ids to other files; one of them is open all the while.
    let mut held = File::create(copy.at("held")).expect("made");
    held.write_all(b"one, ").expect("written");
    fs::create_dir(copy.at("of the copy")).expect("made");
    fs::write(copy.at("of the copy/file"), vec![b'c'; 200_000]).expect("written");
    fs::write(copy.at("folder/common"), b"edited by the copy").expect("written");
    copy.wait();
    held.write_all(b"two").expect("written by who had it open all the while");
    held.sync_all().expect("synced");
    assert_eq!(fs::read(copy.at("held")).expect("read"), b"one, two");
    drop(held);
    copy.wait();

    let edited = |device: &Device| -> Vec<Vec<u8>> {
        let entries = fs::read_dir(device.at("folder")).expect("listed").flatten();
        let mut contents: Vec<_> = entries.map(|entry| fs::read(entry.path()).unwrap_or_default()).collect();
        contents.sort();
        contents
    };
    for device in [&a, &b, &copy] {
        until(EVER, "everything arrives", || {
            fs::read(device.at("of anna/file")).is_ok_and(|bytes| bytes == vec![b'a'; 200_000])
                && fs::read(device.at("of the copy/file")).is_ok_and(|bytes| bytes == vec![b'c'; 200_000])
                && fs::read(device.at("held")).is_ok_and(|bytes| bytes == b"one, two")
                && edited(device) == [b"edited by anna".to_vec(), b"edited by the copy".to_vec()]
        });
    }
    assert_eq!(names(&b), ["anna", "anna 2", "berta"]);
    let status = copy.json(&["status"]);
    assert!(status["boxes"][0]["renewed"].as_str().is_some_and(|line| line.contains("anna 2")), "{status}");
    // It stays who it became.
    copy.umount();
    copy.mount();
    fs::write(copy.at("later"), b"later").expect("written");
    copy.wait();
    until(EVER, "it goes on", || fs::read(a.at("later")).is_ok_and(|bytes| bytes == b"later"));
    assert_eq!(names(&b).len(), 3);
}

#[test]
fn a_device_is_removed_by_name_and_comes_back_as_another_with_all_its_work() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    b.join(&place);
    a.mount();
    b.mount();
    fs::write(b.at("of berta"), b"published").expect("written");
    b.wait();
    b.umount();
    until(EVER, "what is listed is known", || a.at("of berta").exists());

    let outcome = a.ourobox(&["devices", "remove", "nobody"]);
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{outcome:?}");
    assert!(outcome.stderr.contains("nobody"), "{outcome:?}");
    let outcome = a.ourobox(&["devices", "remove", "anna"]);
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{outcome:?}");
    assert!(outcome.stderr.contains("--this-device"), "{outcome:?}");
    let removed = a.json(&["devices", "remove", "berta"]);
    assert!(removed["devices"][0]["removed"].is_string(), "{removed}");
    let listed = devices(&a);
    assert_eq!(listed.len(), 2);
    let berta = listed.iter().find(|device| device["name"] == "berta").expect("it is still listed");
    for field in ["id", "joined", "last_commit", "last_seen", "removed"] {
        assert!(berta[field].is_string(), "{field}: {berta}");
    }
    assert_eq!(fs::read(a.at("of berta")).expect("its work stays"), b"published");
    let outcome = a.ourobox(&["devices", "remove", "berta"]);
    assert_eq!(outcome.code, Some(1), "it is none any more: {outcome:?}");

    b.mount();
    fs::write(b.at("back"), b"again").expect("written");
    b.wait();
    until(EVER, "what it does as another arrives", || fs::read(a.at("back")).is_ok_and(|bytes| bytes == b"again"));
    assert_eq!(devices(&a).iter().filter(|device| device["name"] == "berta").count(), 2, "{:?}", devices(&a));
}
