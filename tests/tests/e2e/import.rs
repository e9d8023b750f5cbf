//! A folder taken into a box past the mount is what `cp -a` through the mount would have made of it.

use ouro_tests::{Device, Place, assert_same, is_long, plant_odd, plant_real, survey};
use std::fs;
use std::os::unix::fs::MetadataExt;

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
        assert!(seen.remove(std::path::Path::new("real/.ouroignore")).is_some(), "the rules travel");
        seen
    };
    // The folder with the rules got them after the survey.
    let expected = ouro_tests::without_directory_times(expected);
    let look = |device: &Device| ouro_tests::without_directory_times(seen(device));
    assert_same("where it was imported", &expected, &look(&a));
    let times = |path: &std::path::Path| fs::metadata(path).map(|m| (m.mtime(), m.mtime_nsec())).expect("it is there");
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
