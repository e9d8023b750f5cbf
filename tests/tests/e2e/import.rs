//! A folder taken into a box past the mount is what `cp -a` through the mount would have made of it.

use ouro_tests::{Device, EVER, Place, assert_same, is_long, plant_odd, plant_real, survey, until};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn an_imported_tree_is_the_same_on_both_devices_and_a_second_import_brings_only_what_is_new() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let source = tempfile::tempdir().expect("a temporary folder");
    let tree = source.path().join("tree");
    plant_real(&tree.join("real"), if is_long() { 20_000 } else { 1_000 });
    plant_odd(&tree.join("odd"));
    fs::write(tree.join("first name"), b"one file").expect("written");
    fs::hard_link(tree.join("first name"), tree.join("odd/second name")).expect("linked");
    let expected = survey(&tree);
    // What never travels is not imported either.
    fs::write(tree.join("odd/.notes.txt.swp"), b"an editor's").expect("written");
    fs::write(tree.join("real/.ouroignore"), b"*.o\n").expect("written");
    fs::write(tree.join("real/main.o"), b"an object").expect("written");

    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    let imported = a.json(&["import", &tree.to_string_lossy()]);
    assert_eq!(imported["left_out"], 0, "{imported}");
    assert_eq!(imported["ignored"], 2, "{imported}");
    let seen = |device: &Device| {
        let mut seen = survey(&device.at("tree"));
        assert!(seen.remove(Path::new("real/.ouroignore")).is_some(), "the rules travel");
        seen
    };
    // The folder with the rules got them after the survey.
    let expected = ouro_tests::without_directory_times(expected);
    let look = |device: &Device| ouro_tests::without_directory_times(seen(device));
    assert_same("where it was imported", &expected, &look(&a));
    let times = |path: &Path| fs::metadata(path).map(|m| (m.mtime(), m.mtime_nsec())).expect("it is there");
    assert_eq!(times(&a.at("tree/odd/names")), times(&tree.join("odd/names")), "times of directories too");
    b.join(&place);
    b.mount();
    assert_same("on the other device", &expected, &look(&b));
    let (one, other) = (fs::metadata(b.at("tree/first name")), fs::metadata(b.at("tree/odd/second name")));
    assert_eq!(one.expect("it is there").ino(), other.expect("it is there").ino(), "one file with two names");

    // Again, with something new, and something that differs from what the box has: nothing is sent twice, nothing overwritten.
    fs::create_dir(tree.join("new")).expect("made");
    fs::write(tree.join("new/file"), b"came later").expect("written");
    fs::write(tree.join("first name"), b"differs from what the box has").expect("written");
    let before = a.stat("/bytes_out");
    let again = a.ourobox(&["--json", "import", &tree.to_string_lossy()]);
    assert_eq!(again.code, Some(1), "something was left out: {again:?}");
    assert!(again.stdout.contains("something else stands"), "{again:?}");
    assert!(a.stat("/bytes_out") - before < 16 << 10, "only what is new was sent");
    assert_eq!(fs::read(a.at("tree/new/file")).expect("read"), b"came later");
    assert_eq!(fs::read(a.at("tree/first name")).expect("read"), b"one file");
    let report = a.json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    b.umount();
    a.umount();
}

#[test]
fn an_import_goes_where_it_is_told_and_says_what_it_cannot_do() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let source = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(source.path().join("in")).expect("made");
    fs::write(source.path().join("in/file"), b"bytes").expect("written");
    let tree = source.path().to_string_lossy().into_owned();
    let a = Device::new("anna");
    a.init(&place);
    // Without a mount into the box's root, under its own name.
    a.ok(&["import", &format!("{tree}/in")]);
    a.mount();
    assert_eq!(fs::read(a.at("in/file")).expect("read"), b"bytes");
    fs::create_dir(a.at("there")).expect("made");
    let into = |path: &str| a.at(path).to_string_lossy().into_owned();
    a.ok(&["import", &tree, &into("there/copy")]);
    assert_eq!(fs::read(a.at("there/copy/in/file")).expect("read"), b"bytes");
    a.ok(&["import", &tree, &a.mountpoint().to_string_lossy()]);
    // The box's own rules count, also when nothing met them since the engine began.
    fs::write(a.at("there/.ouroignore"), b"*.o\n").expect("written");
    a.ok(&["wait", "--all"]);
    a.umount();
    a.mount();
    fs::write(source.path().join("in/main.o"), b"an object").expect("written");
    let imported = a.json(&["import", &tree, &into("there/new")]);
    assert_eq!((&imported["ignored"], &imported["files"]), (&1.into(), &1.into()), "{imported}");
    assert!(!fs::exists(a.at("there/new/in/main.o")).expect("looked up"));
    fs::remove_file(source.path().join("in/main.o")).expect("removed");
    for (arguments, says) in [
        (vec!["import".to_owned(), format!("{tree}/in/file")], "is no directory"),
        (vec!["import".to_owned(), format!("{tree}/none")], "No such file"),
        (vec!["import".to_owned(), into("in")], "lies in the mount"),
        (vec!["import".to_owned(), tree.clone(), into("nowhere/x")], "does not exist"),
        (vec!["import".to_owned(), tree.clone(), format!("{tree}/x")], "not inside a mounted box"),
    ] {
        let outcome = a.ourobox(&arguments);
        assert_eq!(outcome.code, Some(1), "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says) && outcome.stderr.trim_end().lines().count() == 1, "{outcome:?}");
    }
    a.umount();
}

#[test]
fn what_cannot_be_read_is_left_out_and_named_and_the_rest_is_taken_in() {
    if !Device::can_mount() {
        return;
    }
    let source = tempfile::tempdir().expect("a temporary folder");
    let closed = source.path().join("closed");
    fs::write(&closed, b"nobody reads this").expect("written");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    fs::write(source.path().join("open"), b"bytes").expect("written");
    // Nothing is closed to root but what the kernel closes: some of its settings can only be written.
    let (folder, closed, open) = match fs::read(&closed) {
        Err(_) => (source.path().to_owned(), "closed", "open"),
        Ok(_) => (Path::new("/proc/sys/vm").to_owned(), "compact_memory", "overcommit_memory"),
    };
    if fs::read(folder.join(closed)).is_ok() || fs::read(folder.join(open)).is_err() {
        eprintln!("nothing is closed to this user here");
        return;
    }
    let (place, a) = (Place::folder(), Device::new("anna"));
    a.init(&place);
    a.mount();
    let outcome = a.ourobox(&["import", &folder.to_string_lossy(), &a.at("in").to_string_lossy()]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let named = folder.join(closed).to_string_lossy().into_owned();
    assert!(outcome.stderr.contains(&named) && outcome.stderr.contains("cannot be read"), "{outcome:?}");
    assert!(!fs::exists(a.at("in").join(closed)).expect("looked up"));
    assert_eq!(fs::read(a.at("in").join(open)).expect("read"), fs::read(folder.join(open)).expect("read"));
    a.umount();
}

#[test]
fn an_import_that_is_cut_off_goes_on_where_it_was() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let source = tempfile::tempdir().expect("a temporary folder");
    let tree = source.path().join("tree");
    // A batch and a half, of files that are no two alike.
    for directory in 0..6 {
        let folder = tree.join(format!("{directory}"));
        fs::create_dir_all(&folder).expect("made");
        for file in 0..1_000 {
            let text = format!("{directory} {file} ").repeat(40);
            fs::write(folder.join(format!("{file}")), text).expect("written");
        }
    }
    let expected = survey(&tree);
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    let argument = tree.to_string_lossy().into_owned();
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| a.ourobox(&["import", &argument]));
        until(EVER, "the first entries are in the box", || fs::exists(a.at("tree/0/999")).is_ok_and(|there| there));
        a.kill_engine();
        assert_ne!(importing.join().expect("it ends").code, Some(0), "it was cut off");
    });
    let stored = place.bytes_stored();
    a.mount();
    // What was there is there again, if not at once: its commit is in the journal, and finds its way.
    let imported = a.json(&["import", &argument]);
    assert_eq!(imported["left_out"], 0, "{imported}");
    assert!(imported["same"].as_u64().is_some_and(|same| same >= 1_000), "{imported}");
    eprintln!("{stored} bytes stored at the kill, {} in the end", place.bytes_stored());
    assert_same("where it was imported", &expected, &survey(&a.at("tree")));
    b.join(&place);
    b.mount();
    let look = |device: &Device| ouro_tests::without_directory_times(survey(&device.at("tree")));
    assert_same("on the other device", &ouro_tests::without_directory_times(expected), &look(&b));
    b.umount();
    a.umount();
}
