//! The trash that desktops make in the root of a mount: what lies there is gone for others, and comes back by a rename.

use ouro_tests::{Device, EVER, NOBODY, OpenDevice, Outcome, Place, Pseudo, run, until};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn colour(path: &Path) -> Vec<u8> {
    let mut value = [0; 16];
    let len = getxattr(path, "user.colour", &mut value[..]).expect("it has one");
    value[..len].to_vec()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
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
    assert_eq!(names(&b.mountpoint()), ["stays"], "nobody sees another's trash");
    assert_eq!(names(&a.mountpoint()), [".Trash-0", "stays"]);

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

/// Throws a file away as GNOME's and others' file managers do: all of them by the library behind this command.
fn throw_away(device: &Device, path: &Path) -> Outcome {
    let mut command = device.command("gio");
    command.env("GIO_USE_VFS", "local").env_remove("XDG_DATA_HOME").arg("trash").arg(path);
    run(&command)
}

#[test]
fn a_desktops_library_finds_the_trash_for_root_and_for_an_ordinary_user() {
    if !Device::can_mount() {
        return;
    }
    let _open = OpenDevice::new();
    let place = Place::folder();
    let open_to_all = Permissions::from_mode(0o777);
    for folder in [place.data().parent().expect("a folder"), place.data()] {
        fs::set_permissions(folder, open_to_all.clone()).expect("set");
    }
    let devices = [(Device::of_user("norbert", NOBODY), NOBODY), (Device::new("anna"), 0)];
    let film = Pseudo::new(3).bytes(3 << 20);
    let source = devices[0].0.beside("source");
    fs::write(&source, &film).expect("written");
    for (number, (device, user)) in devices.iter().enumerate() {
        let shell = |script: &str| {
            let mut command = device.command("sh");
            command.args(["-euc", script, "sh"]).arg(device.mountpoint()).arg(&source);
            let outcome = run(&command);
            assert_eq!(outcome.code, Some(0), "{script}: {outcome:?}");
            outcome.stdout
        };
        if number == 0 {
            device.init(&place);
            device.mount();
            shell(
                "cd \"$1\"; for n in 0 1; do mkdir -p \"$n/a folder/below\"; cp \"$2\" \"$n/a folder/below/film\"; done",
            );
            shell("cd \"$1\"; for n in 0 1; do echo dear >\"$n/letter\"; done");
            device.wait();
        } else {
            // Those who sync next change the place's files too.
            device.join(&place);
            device.mount();
        }
        device.ok(&[OsStr::new("free"), device.at(format!("{number}/a folder")).as_os_str()]);
        let before = device.stat("/bytes_in");
        for name in ["a folder", "letter"] {
            let outcome = throw_away(device, &device.at(format!("{number}/{name}")));
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
        }
        device.wait();
        assert_eq!(shell(&format!("ls \"$1/{number}\"")), "");
        let list = format!("cd \"$1/.Trash-{user}\"; ls files info; stat -c '%u %a' .");
        let expected = format!("files:\na folder\nletter\n\ninfo:\na folder.trashinfo\nletter.trashinfo\n{user} 700\n");
        assert_eq!(shell(&list), expected);
        let note = shell(&format!("cat \"$1/.Trash-{user}/info/a folder.trashinfo\""));
        assert!(note.contains(&format!("Path={number}/a%20folder\n")), "where to bring it back to: {note}");
        let fetched = device.stat("/bytes_in") - before;
        assert!(fetched < film.len() as u64 / 2, "{fetched} bytes were fetched to throw something away");
        let log = device.json(&["log", "-n", "1"]);
        assert!(!log.to_string().contains("Trash"), "it is no part of the commit: {log}");
        // It comes back as a file manager brings it back, with all its bytes.
        shell(&format!(
            "cd \"$1\"; mv '.Trash-{user}/files/a folder' {number}/; cmp '{number}/a folder/below/film' \"$2\""
        ));
        device.wait();
        // The other one's trash is nowhere to be seen.
        assert_eq!(shell("cd \"$1\"; ls -d .Trash*"), format!(".Trash-{user}\n"));
        device.umount();
    }
}

#[test]
fn over_several_boxes_what_cannot_be_thrown_away_stays_where_it_is() {
    if !Device::can_mount() {
        return;
    }
    let places = [Place::folder(), Place::folder()];
    let a = Device::new("anna");
    for (name, place) in ["one", "two"].into_iter().zip(&places) {
        let mut arguments = a.remote_arguments(place);
        arguments.insert(0, "init".into());
        let at = arguments.iter().position(|argument| argument == "box").expect("a name is given");
        arguments[at] = name.into();
        a.ok(&arguments);
    }
    let boxes = ["--box", "one", "--box", "two"].map(OsStr::new);
    a.ok(&[&["fuse".as_ref(), a.mountpoint().as_os_str()], &boxes[..]].concat());
    fs::write(a.at("one/letter"), "dear").expect("written");
    a.wait();
    let outcome = throw_away(&a, &a.at("one/letter"));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(fs::read(a.at("one/letter")).expect("still there"), b"dear");
    assert_eq!(names(&a.mountpoint()), ["one", "two"]);

    // Mounted alone, the same box has its trash; and what lies in it stays this device's where the box is one of several.
    a.umount();
    a.ok(&[&["fuse".as_ref(), a.mountpoint().as_os_str()], &boxes[..2]].concat());
    let outcome = throw_away(&a, &a.at("letter"));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    a.wait();
    a.umount();
    a.ok(&[&["fuse".as_ref(), a.mountpoint().as_os_str()], &boxes[..]].concat());
    assert_eq!(names(&a.at("one")), [".Trash-0"]);
    assert_eq!(fs::read(a.at("one/.Trash-0/files/letter")).expect("still here"), b"dear");
    fs::rename(a.at("one/.Trash-0/files/letter"), a.at("one/letter")).expect("brought back");
    a.wait();
    let b = Device::new("berta");
    b.join(&places[0]);
    b.mount();
    assert_eq!(names(&b.mountpoint()), ["letter"]);
    assert_eq!(fs::read(b.at("letter")).expect("it travels again"), b"dear");
}
