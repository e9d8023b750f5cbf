//! Retention and collection on a real server: what is left, and that all of it reads back.

use ouro_tests::{Device, EVER, Place, Pseudo, assert_same, is_long, survey, until, without_directory_times};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything in it is what it should be, read byte by byte.
fn assert_clean(device: &Device) {
    let checked = device.json(&["check", "--read-data"]);
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}

/// Whoever writes meanwhile stops also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn many_commits_are_thinned_while_another_device_writes_and_what_is_left_reads_back() {
    if !Device::can_mount() {
        return;
    }
    let commits = if is_long() { 2_000 } else { 150 };
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    b.join(&place);
    b.mount();
    for n in 0..20_u32 {
        fs::write(a.at(format!("still {n}")), vec![n as u8; 3_000]).expect("written");
    }
    let mut noise = Pseudo::new(1);
    for n in 0..commits {
        let len = if n % 10 == 0 { 200_000 } else { 4_000 };
        fs::write(a.at(format!("f{}", n % 7)), noise.bytes(len)).expect("written");
        if n == commits / 2 {
            a.ok(&["snapshot", "-m", "half way"]);
        } else {
            a.ok(&["snapshot"]);
        }
    }
    let half = survey(&a.at(".snapshots/half way"));
    let before = place.bytes_stored();
    let (ended, writing) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        scope.spawn(|| {
            let mut n = 0_u32;
            while !ended.load(Ordering::Relaxed) {
                fs::write(b.at(format!("b{}", n % 5)), format!("by berta, {n}").repeat(100)).expect("written");
                b.ok(&["snapshot"]);
                writing.store(true, Ordering::Relaxed);
                n += 1;
            }
        });
        until(EVER, "berta writes", || writing.load(Ordering::Relaxed));
        let collect = ["gc", "--grace", "0s", "--keep-all", "0s"];
        // What was committed within the storage's last second stays: the first collection may find nearly all too young.
        until(EVER, "collections end and leave little", || {
            let told = a.json(&collect);
            let waits = told["boxes"][0]["waiting_for"].as_array().map(|names| !names.is_empty());
            if waits == Some(true) {
                // Berta takes note when her engine looks next, within a minute, or when she asks herself.
                b.ok(&["gc", "--dry-run"]);
            }
            told["boxes"][0]["ended"] == true && place.bytes_stored() < before / 3
        });
    });
    b.wait();
    a.wait();
    let after = place.bytes_stored();
    let stats = a.json(&["stats", "--remote"]);
    println!("{commits} commits: {before} bytes before, {after} after; {}", stats["boxes"][0]["remote"]);
    let logical = stats["boxes"][0]["remote"]["logical_bytes"].as_u64().expect("a figure");
    assert!(after < before / 2, "{after} of {before} bytes are left");
    assert!(after < 3 * logical + (1 << 20), "{after} bytes are stored for {logical}");
    assert_clean(&a);
    assert_clean(&b);
    let c = Device::new("clara");
    c.join(&place);
    c.mount();
    assert_clean(&c);
    until(EVER, "clara shows the same", || ouro_tests::look_same(&a.mountpoint(), &c.mountpoint()));
    let seen = |root: &std::path::Path| without_directory_times(survey(root));
    assert_same("on a fresh device", &seen(&a.mountpoint()), &seen(&c.mountpoint()));
    let half = without_directory_times(half);
    assert_same("the named state on a fresh device", &half, &seen(&c.at(".snapshots/half way")));
}

#[test]
fn a_lost_and_a_damaged_pack_are_put_back_from_a_device_that_has_the_bytes() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    fs::create_dir(a.at("docs")).expect("made");
    for n in 0..3_u8 {
        let bytes: Vec<u8> = (0..400_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n).collect();
        fs::write(a.at(format!("docs/large {n}")), bytes).expect("written");
        a.wait();
    }
    let mut packs = Vec::new();
    for folder in fs::read_dir(place.data().join("packs")).expect("listed") {
        packs.extend(fs::read_dir(folder.expect("an entry").path()).expect("listed").map(|e| e.expect("one").path()));
    }
    packs.sort();
    fs::remove_file(&packs[0]).expect("removed");
    let mut bytes = fs::read(&packs[1]).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&packs[1], bytes).expect("written");

    let found = a.ourobox(&["check", "--read-data"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert_eq!(found.stderr.matches("docs/large").count(), 2, "{found:?}");
    b.join(&place);
    let elsewhere = b.ourobox(&["check", "--read-data", "--repair"]);
    assert_eq!(elsewhere.code, Some(1), "Berta has none of it: {elsewhere:?}");
    let mended = a.ok(&["check", "--read-data", "--repair"]);
    assert_eq!(mended.matches("mended").count(), 2, "{mended}");
    assert_clean(&a);
    assert_clean(&b);
}
