//! The past as people ask for it: what was done, what is different, a state under a name.

use ouro_tests::{Device, EVER, Pair, Place, assert_same, survey, until, without_directory_times};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Runs a verb with arguments, the last of which is a path; returns its document.
fn asked(device: &Device, verb: &[&str], path: &Path) -> Value {
    let mut arguments: Vec<&OsStr> = verb.iter().map(OsStr::new).collect();
    arguments.push(path.as_os_str());
    device.json(&arguments)
}

/// What each commit of a log did to the first file in it, newest first.
fn deeds(log: &Value) -> Vec<String> {
    let commits = log["commits"].as_array().unwrap_or_else(|| panic!("no commits in {log}"));
    let first = |commit: &Value| commit["changes"][0]["what"][0].as_str().unwrap_or_default().to_owned();
    commits.iter().map(first).collect()
}

/// The changes of a diff as `what path (from)`.
fn changes(diff: &Value) -> Vec<String> {
    let all = diff["changes"].as_array().unwrap_or_else(|| panic!("no changes in {diff}"));
    let told = |change: &Value| {
        let words = change["what"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        let from = change["from"].as_str().map(|from| format!(" ({from})")).unwrap_or_default();
        format!("{} {}{from}", words.join("+"), change["path"].as_str().unwrap_or_default())
    };
    all.iter().map(told).collect()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").ino()
}

/// The only line of a refusal.
fn refused(device: &Device, arguments: &[&str]) -> String {
    let outcome = device.ourobox(arguments);
    assert_eq!(outcome.code, Some(1), "{arguments:?}: {outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    outcome.stderr
}

#[test]
fn a_file_is_followed_through_its_renames_and_states_are_found_by_name() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let (a, b) = (&pair.a, &pair.b);
    fs::create_dir(a.at("notes")).expect("made");
    fs::write(a.at("notes/a.txt"), "one").expect("written");
    a.wait();
    fs::rename(a.at("notes/a.txt"), a.at("notes/b.txt")).expect("renamed");
    a.wait();
    fs::write(a.at("notes/b.txt"), "one and two").expect("written");
    a.wait();
    let taken = a.json(&["snapshot", "-m", "before the end"]);
    assert_eq!(taken["snapshot"], "before the end");
    assert_eq!(taken["waiting"], Value::Null, "it is on the remote: {taken}");
    fs::write(a.at("other"), "else").expect("written");
    fs::remove_file(a.at("notes/b.txt")).expect("removed");
    a.wait();

    let log = asked(a, &["log"], &a.at("notes/b.txt"));
    assert_eq!(deeds(&log), ["deleted", "edited", "renamed", "created"], "{log}");
    assert_eq!(log["commits"][2]["changes"][0]["from"], "notes/a.txt");
    assert_eq!(log["commits"][1]["changes"][0]["size"], 11);
    assert_eq!(deeds(&asked(a, &["log"], &a.at("notes")))[..1], ["deleted"]);
    let all = a.json(&["log"]);
    assert_eq!(all["commits"][1]["snapshot"], "before the end", "{all}");

    assert_eq!(changes(&a.json(&["diff", "before the end"])), ["deleted notes/b.txt", "created other"]);
    let commit = |n: usize| all["commits"][n]["short"].as_str().expect("an id").to_owned();
    assert_eq!(changes(&a.json(&["diff", &commit(4), &commit(3)])), ["renamed notes/b.txt (notes/a.txt)"]);
    assert_eq!(changes(&a.json(&["diff", &commit(3), &commit(2)])), ["edited notes/b.txt"]);
    assert_eq!(changes(&a.json(&["diff", &commit(3), &commit(3)])), Vec::<String>::new());
    let below = a.at("notes");
    let inside = asked(a, &["diff", &commit(4), "now"], &below);
    assert_eq!(changes(&inside), ["deleted notes/a.txt"]);

    assert!(refused(a, &["diff", "1h ago"]).contains("yet"), "the box is younger");

    pair.join();
    for device in [a, b] {
        let kept = device.at(".snapshots/before the end/notes/b.txt");
        assert_eq!(fs::read(kept).expect("kept"), b"one and two");
        assert_eq!(changes(&device.json(&["diff", "before the end", "now"])).len(), 2);
    }
    assert!(refused(a, &["snapshot", "-m", "before the end"]).contains("already"));
    assert!(refused(a, &["snapshot", "-m", "2h ago"]).contains("name"));
    assert!(refused(a, &["diff", "no such state"]).contains("no such state"));
    assert!(refused(a, &["diff", "@7"]).contains("names no time"));
    let nowhere = a.at("never/was");
    assert!(refused(a, &["log", nowhere.to_str().expect("plain")]).contains("does not exist"));

    // A name given there is found here, also where nothing had changed.
    let taken = b.json(&["snapshot", "-m", "from berta\nwith a remark"]);
    assert_eq!(taken["made"], true);
    until(EVER, "A finds the snapshot of B", || a.at(".snapshots/from berta/other").exists());
    let plain = b.json(&["snapshot"]);
    assert_eq!((&plain["made"], &plain["commit"]), (&Value::Bool(false), &taken["commit"]));
}

#[test]
fn a_purge_is_in_the_log_as_what_it_is_and_no_change_of_any_path() {
    if !Device::can_mount() {
        return;
    }
    let (place, a) = (Place::folder(), Device::new("anna"));
    a.init(&place);
    a.mount();
    for directory in ["kept", "kept/gone", "kept/gone/too"] {
        fs::create_dir(a.at(directory)).expect("made");
    }
    fs::write(a.at("kept/gone/too/file"), "text").expect("written");
    a.wait();
    fs::remove_dir_all(a.at("kept/gone")).expect("removed");
    a.json(&["snapshot", "-m", "removed"]);
    let collect = ["gc", "--keep-all", "0s", "--grace", "0s"];
    // What the storage's clock calls the present stays, so the first ones may find the removal too young.
    until(EVER, "records are forgotten", || a.json(&collect)["boxes"][0]["purged"] == 2);

    let newest = a.json(&["log", "-n", "1"])["commits"][0].clone();
    assert_eq!((&newest["forgotten"], &newest["files"]), (&Value::from(2), &Value::from(0)), "{newest}");
    assert_eq!(newest["what"], "forgot 2 records that nobody can see any more");
    assert_eq!(newest["changes"], Value::Array(Vec::new()));
    let text = a.ok(&["log"]);
    assert!(text.contains("forgot 2 records"), "{text}");
    let kept = asked(&a, &["log"], &a.at("kept"));
    let kept = kept["commits"].as_array().expect("commits");
    assert!(kept.iter().all(|commit| commit["id"] != newest["id"]), "{kept:?}");
    assert_eq!(kept[0]["snapshot"], "removed", "the last that changed anything in it");
    assert_eq!(changes(&a.json(&["diff", "removed", "now"])), Vec::<String>::new());
    assert_eq!(a.ok(&["diff", "removed", "now"]), "No difference.\n");
}

#[test]
fn what_was_is_restored_without_reading_a_byte_and_what_is_newer_stays_in_history() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let (a, b) = (&pair.a, &pair.b);
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    fs::create_dir_all(a.at("work/deep")).expect("made");
    fs::write(a.at("work/deep/big"), &big).expect("written");
    fs::write(a.at("work/edited"), "old").expect("written");
    fs::write(a.at("work/moved"), "moves").expect("written");
    fs::write(a.at("work/one"), "linked").expect("written");
    fs::hard_link(a.at("work/one"), a.at("work/two")).expect("linked");
    std::os::unix::fs::symlink("edited", a.at("work/link")).expect("linked");
    let taken = a.json(&["snapshot", "-m", "good"]);
    assert_eq!(taken["waiting"], Value::Null, "{taken}");
    let good = survey(&a.at("work"));
    pair.join();

    let edited = inode(&b.at("work/edited"));
    let moved = inode(&b.at("work/moved"));
    fs::write(b.at("work/edited"), "newer and longer").expect("written");
    fs::rename(b.at("work/moved"), b.at("elsewhere")).expect("renamed");
    fs::remove_dir_all(b.at("work/deep")).expect("removed");
    fs::remove_file(b.at("work/link")).expect("removed");
    fs::create_dir(b.at("work/link")).expect("made");
    fs::write(b.at("work/link/new"), "new").expect("written");
    fs::write(b.at("work/later"), "later").expect("written");

    // One file, one that was deleted, and a copy of one.
    let path = b.at("work/edited");
    let restored = asked(b, &["restore", "--at", "good"], &path);
    assert_eq!(restored["edited"], 1, "{restored}");
    assert_eq!((fs::read(&path).expect("read"), inode(&path)), (b"old".to_vec(), edited), "the same file");
    let newer = restored["before"].as_str().expect("a commit").to_owned();
    assert_eq!(asked(b, &["restore", "--at", "good"], &path)["commit"], Value::Null, "nothing is left to do");
    asked(b, &["restore", "--at", &newer], &path);
    assert_eq!(fs::read(&path).expect("read"), b"newer and longer", "what was there before is in history");
    let before = b.stat("/bytes_in");
    let deep = asked(b, &["restore", "--at", "good"], &b.at("work/deep/big"));
    assert_eq!(deep["created"], 2, "the file and its directory: {deep}");
    fs::create_dir(b.at("copies")).expect("made");
    let copies = b.at("copies");
    let copies = copies.to_str().expect("plain");
    asked(b, &["restore", "--at", "good", "--to", copies], &b.at("work"));
    assert!(b.stat("/bytes_in") - before < 1_000_000, "no content was read");
    assert_same(
        "the copies",
        &without_directory_times(good.clone()),
        &without_directory_times(survey(&b.at("copies/work"))),
    );
    assert_eq!(fs::read(b.at("work/later")).expect("left alone"), b"later");
    let again = b.at("work");
    let taken = [OsStr::new("restore"), OsStr::new("--at"), OsStr::new("good"), OsStr::new("--to"), OsStr::new(copies)];
    let taken: Vec<&OsStr> = taken.into_iter().chain([again.as_os_str()]).collect();
    assert!(b.ourobox(&taken).stderr.contains("holds"), "nothing is put over what is there");

    // The whole box, in one commit.
    let all = b.json(&["restore", "/", "--at", "good"]);
    assert_eq!(all["waiting"], Value::Null, "{all}");
    assert_same(
        "the box as it was",
        &without_directory_times(good.clone()),
        &without_directory_times(survey(&b.at("work"))),
    );
    assert_eq!(inode(&b.at("work/moved")), moved, "it was moved back");
    assert_eq!(inode(&b.at("work/one")), inode(&b.at("work/two")), "still one file with two names");
    for gone in ["elsewhere", "copies", "work/later"] {
        assert!(!b.at(gone).exists(), "{gone}");
    }
    let log = b.json(&["log", "-n", "2"]);
    assert_eq!(log["commits"][0]["message"], "restored / as of good", "{log}");
    assert_eq!(log["commits"][0]["id"], all["commit"]);
    assert_eq!(changes(&b.json(&["diff", "good", "now"])), Vec::<String>::new());
    until(EVER, "A shows it too", || {
        !a.at("elsewhere").exists() && fs::read(a.at("work/deep/big")).is_ok_and(|bytes| bytes == big)
    });
    assert_same("A", &without_directory_times(good), &without_directory_times(survey(&a.at("work"))));
    assert!(
        refused(b, &["restore", b.at("never").to_str().expect("plain"), "--at", "good"]).contains("not there then")
    );
}

#[test]
fn a_restore_needs_no_remote() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    fs::write(a.at("file"), "first").expect("written");
    a.json(&["snapshot", "-m", "first"]);
    place.server().stop();
    fs::write(a.at("file"), "second").expect("written");
    let restored = asked(&a, &["restore", "--at", "first"], &a.at("file"));
    assert_ne!(restored["waiting"], Value::Null, "{restored}");
    assert_eq!(fs::read(a.at("file")).expect("read"), b"first");
    place.server().cont();
    a.wait();
    let before = restored["before"].as_str().expect("a commit");
    asked(&a, &["restore", "--at", before], &a.at("file"));
    assert_eq!(fs::read(a.at("file")).expect("read"), b"second", "what was written without the remote is in history");
}
