//! Two devices change the same things without knowing of each other: afterwards both show the same, and nothing is lost.

use ouro_tests::{Device, EVER, Pair, Place, until};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
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
    let Some(pair) = Pair::over(Place::s3) else { return };
    let (a, b) = (&pair.a, &pair.b);
    for folder in ["edited", "born", "deleted", "renamed", "folder"] {
        fs::create_dir(a.at(folder)).expect("made");
    }
    for name in ["edited/file.txt", "deleted/file.txt", "renamed/file.txt", "folder/old"] {
        fs::write(a.at(name), "before").expect("written");
    }
    pair.join();
    assert_eq!(fs::read(b.at("edited/file.txt")).expect("there"), b"before");

    pair.apart(|a, b| {
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
    });

    for device in [a, b] {
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
    pair.assert_same("both devices");

    // A conflict is settled by ordinary work on the files.
    let copies = fs::read_dir(a.at("edited")).expect("listed").map(|entry| entry.expect("listed").path());
    let copy = copies.into_iter().find(|path| path.to_string_lossy().contains("conflict")).expect("there is a copy");
    fs::remove_file(copy).expect("removed");
    fs::write(a.at("edited/file.txt"), "settled").expect("written");
    a.wait();
    // The copy may go between a listing and a reading of it.
    until(EVER, "B shows the settled file alone", || fs::read_dir(b.at("edited")).expect("listed").count() == 1);
    until(EVER, "with its last content", || contents(&b.at("edited")) == set(&[b"settled"]));
}

/// The conflicts that a device lists: path, and whether each side is its own.
fn listed(device: &Device) -> Vec<(String, Vec<bool>)> {
    let answer = device.json(&["conflicts"]);
    let all = answer["conflicts"].as_array().unwrap_or_else(|| panic!("no conflicts in {answer}"));
    let mine = |side: &serde_json::Value| side["mine"].as_bool().expect("a flag");
    let told = |conflict: &serde_json::Value| {
        let sides = conflict["sides"].as_array().expect("sides");
        (conflict["path"].as_str().expect("a path").to_owned(), sides.iter().map(mine).collect())
    };
    all.iter().map(told).collect()
}

#[test]
fn conflicts_are_listed_on_both_devices_and_end_as_their_user_wishes() {
    let Some(pair) = Pair::over(Place::s3) else { return };
    let (a, b) = (&pair.a, &pair.b);
    fs::create_dir(a.at(".git")).expect("made");
    let files = ["mine.txt", "theirs.txt", "both.txt", ".git/index", "later.txt"];
    for file in files {
        fs::write(a.at(file), "before").expect("written");
    }
    pair.join();
    // The later one, B, keeps the names.
    pair.apart(|a, b| {
        for file in files {
            fs::write(a.at(file), format!("{file} by anna, at some length")).expect("written");
        }
        for file in files {
            fs::write(b.at(file), format!("{file} by berta")).expect("written");
        }
    });
    for device in [a, b] {
        until(EVER, "every conflict is listed", || listed(device).len() == files.len());
    }
    let answer = a.json(&["conflicts"]);
    let of = |path: &str| {
        let all = answer["conflicts"].as_array().expect("a list");
        all.iter().find(|conflict| conflict["path"] == path).unwrap_or_else(|| panic!("{path} in {answer}")).clone()
    };
    let git = of(".git/index");
    assert_eq!(git["sides"][1]["path"], serde_json::Value::Null, "no copy is shown there: {git}");
    let sides = of("mine.txt");
    let own = sides["sides"].as_array().expect("sides").iter().find(|side| side["mine"] == true).expect("ours").clone();
    assert_eq!((&own["device"], &own["size"]), (&"anna".into(), &32.into()), "{sides}");

    let text = |path: &Path| path.to_str().expect("plain").to_owned();
    let resolve = |device: &Device, path: &Path, keep: &str| device.ok(&["resolve", &text(path), "--keep", keep]);
    resolve(a, &a.at("mine.txt"), "mine");
    resolve(a, &a.at("theirs.txt"), "theirs");
    let copy = fs::read_dir(a.mountpoint()).expect("listed").map(|entry| entry.expect("listed").path());
    let copy = copy.into_iter().find(|path| text(path).contains("/both (conflict")).expect("a copy");
    resolve(a, &copy, "both");
    let refused = a.ourobox(&["resolve", &text(&a.at(".git/index")), "--keep", "both"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("mine or theirs") && refused.stderr.lines().count() == 1, "{refused:?}");
    resolve(a, &a.at(".git/index"), "mine");
    // The copy of this one is written down by a touch, and still known for what it is.
    fs::rename(a.at("later.txt"), a.at("x")).expect("renamed");
    fs::rename(a.at("x"), a.at("later.txt")).expect("renamed");
    a.wait();
    let left = a.json(&["conflicts"]);
    assert_eq!((&left["conflicts"][0]["path"], &left["conflicts"][0]["settled"]), (&"later.txt".into(), &true.into()));
    resolve(a, &a.at("later.txt"), "mine");
    assert_eq!(listed(a), []);
    a.wait();

    for device in [a, b] {
        let is = |path: &str, by: &str| {
            fs::read(device.at(path)).is_ok_and(|bytes| bytes.starts_with(format!("{path} by {by}").as_bytes()))
        };
        until(EVER, "what was kept is seen", || {
            is("mine.txt", "anna")
                && is("theirs.txt", "berta")
                && is(".git/index", "anna")
                && is("later.txt", "anna")
                && listed(device).is_empty()
        });
        let names = fs::read_dir(device.mountpoint()).expect("listed").count();
        assert_eq!(names, 6, "four files, one copy that was kept, and the directory");
    }
    let refused = a.ourobox(&["resolve", &text(&a.at("mine.txt")), "--keep", "mine"]);
    assert!(refused.stderr.contains("in no conflict"), "{refused:?}");
}

#[test]
fn a_file_that_two_devices_made_alike_and_keep_open_takes_what_both_go_on_writing() {
    let Some(pair) = Pair::over(Place::s3) else { return };
    pair.join();
    let mut open = Vec::new();
    pair.apart(|a, b| {
        for (device, name) in [(a, "anna"), (b, "berta")] {
            let how = &mut fs::OpenOptions::new();
            let mut log = how.read(true).write(true).create_new(true).open(device.at("log")).expect("made");
            log.write_all(b"begun\n").expect("written");
            fs::write(device.at(format!("{name} was here")), "").expect("written");
            open.push(log);
        }
    });
    until(EVER, "both know of each other", || {
        pair.a.at("berta was here").exists() && pair.b.at("anna was here").exists()
    });
    for (log, line) in open.iter_mut().zip([b"anna goes on\n", b"berta does  \n"]) {
        let mut begun = [0; 6];
        log.read_exact_at(&mut begun, 0).expect("what is open can be read");
        assert_eq!(&begun, b"begun\n");
        assert_eq!(log.metadata().expect("what is open can be looked at").len(), 6);
        log.write_all(line).expect("what is open can be written");
    }
    drop(open);
    pair.a.wait();
    pair.b.wait();
    let whole: [&[u8]; 2] = [b"begun\nanna goes on\n", b"begun\nberta does  \n"];
    until(EVER, "both have what both wrote", || {
        [&pair.a, &pair.b].iter().all(|device| contents(&device.mountpoint()).is_superset(&set(&whole)))
    });
    pair.assert_same("after both went on");
}

#[test]
fn a_companion_of_a_database_that_is_kept_out_of_sight_goes_on_for_who_has_it_open() {
    let Some(pair) = Pair::over(Place::s3) else { return };
    pair.join();
    let both = [(&pair.a, "anna"), (&pair.b, "berta")];
    let mut open = Vec::new();
    pair.apart(|_, _| {
        for (device, name) in both {
            let how = &mut fs::OpenOptions::new();
            let mut wal = how.read(true).write(true).create_new(true).open(device.at("data-wal")).expect("made");
            wal.write_all(format!("by {name}\n").as_bytes()).expect("written");
            fs::write(device.at(format!("{name} was here")), "").expect("written");
            open.push(wal);
        }
    });
    until(EVER, "both know of each other", || {
        pair.a.at("berta was here").exists() && pair.b.at("anna was here").exists()
    });
    for round in 1..=3 {
        for (wal, (device, name)) in open.iter_mut().zip(both) {
            let mut found = String::new();
            wal.rewind().and_then(|()| wal.read_to_string(&mut found)).expect("what is open can be read");
            assert_eq!(found, format!("by {name}\n").repeat(round), "everybody has their own");
            wal.write_all(format!("by {name}\n").as_bytes()).expect("what is open can be written");
            wal.sync_all().expect("durable here");
            device.wait();
        }
    }
    drop(open);
    pair.b.wait();
    let contents = |device: &Device| fs::read_to_string(device.at("data-wal")).expect("read");
    until(EVER, "both show the same one", || contents(&pair.a) == contents(&pair.b));
    assert!(["by anna\n", "by berta\n"].map(|line| line.repeat(4)).contains(&contents(&pair.a)));
    pair.assert_same("after both went on");
    for device in [&pair.a, &pair.b] {
        let names = fs::read_dir(device.mountpoint()).expect("listed").count();
        assert_eq!(names, 3, "no copy beside it");
    }
}
