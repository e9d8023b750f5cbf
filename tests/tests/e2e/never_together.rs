//! Devices that are never on at the same time: each edits the same tree without knowing of the others, and all end with the same.

use ouro_tests::{Device, EVER, Place, assert_devices_show_the_same, is_long, survey, until, without_directory_times};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The devices in the order in which they edit: the last is always the later one.
const NAMES: [&str; 5] = ["anna", "berta", "carla", "dora", "emil"];
/// The mode that each device sets.
const MODES: [u32; 5] = [0o600, 0o640, 0o664, 0o700, 0o755];
/// Files in each directory of the tree; what is done to one of them follows from its number.
const FILES_PER_FOLDER: usize = 50;
/// Of these, the first that are edited by one device each.
const ALONE: std::ops::Range<usize> = 8..20;
/// Looks at the remote that make a device idle for long enough.
const IDLE_REQUESTS: u64 = 6;

/// What a tree shows: kind, mode and text by path; the times in the names of conflict copies are left out.
type Shown = BTreeMap<String, (char, u32, Vec<u8>)>;

fn folder(d: usize) -> String {
    format!("tree/folder {d:03}")
}

fn first_text(d: usize, f: usize) -> String {
    format!("file {f} of folder {d}, as it was first. ").repeat(6)
}

fn text_of(name: &str, path: &str) -> String {
    format!("{path} as {name} wrote it. ").repeat(5)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// One directory as the devices leave it, each without knowing of the others.
struct Folder {
    d: usize,
    devices: usize,
}

/// Of several devices that claimed one thing, the one that has it: the later one. Which that is follows from the log if each device's work became
/// one commit; a slow machine cuts it in two. Then whoever has it is taken, and the others must have their copies all the same.
struct Later<'a> {
    found: &'a Shown,
    /// Who made the commits, the first one first.
    order: Option<Vec<usize>>,
}

impl Later<'_> {
    /// Who of the first so many devices has it.
    fn of(&self, devices: usize, has_it: impl Fn(usize, &Shown) -> bool) -> usize {
        let latest = |order: &Vec<usize>| order.iter().rev().copied().find(|me| *me < devices);
        let whoever = || (0..devices).find(|me| has_it(*me, self.found));
        self.order.as_ref().map_or_else(whoever, latest).expect("somebody has it")
    }
}

fn file(text: &str, mode: u32) -> (char, u32, Vec<u8>) {
    ('f', mode, blake3::hash(text.as_bytes()).as_bytes().to_vec())
}

impl Folder {
    /// Whose turn it is where one device does something that the others do not.
    fn one(&self, step: usize) -> usize {
        (self.d + step) % self.devices
    }

    /// Where it is in the end: of some, the last device changes the name.
    fn last_path(&self) -> String {
        if self.d % 3 == 1 { format!("{} moved", folder(self.d)) } else { folder(self.d) }
    }

    fn edit(&self, me: usize, device: &Device) {
        let (name, path) = (NAMES[me], folder(self.d));
        let at = |file: &str| device.at(&path).join(file);
        let numbered = |f: usize| at(&format!("file {f:02}.txt"));
        write(&numbered(0), &text_of(name, "0"));
        write(&numbered(1), &text_of("everybody", "1"));
        if me == self.one(0) {
            write(&numbered(2), &text_of(name, "2"));
            fs::rename(numbered(3), at("renamed 03.txt")).expect("renamed");
            fs::remove_file(numbered(7)).expect("removed");
        } else {
            fs::remove_file(numbered(2)).expect("removed");
        }
        if me == self.one(1) {
            write(&numbered(3), &text_of(name, "3"));
        }
        fs::rename(numbered(4), at(&format!("renamed by {name}.txt"))).expect("renamed");
        fs::set_permissions(numbered(5), Permissions::from_mode(MODES[me])).expect("set");
        write(&at("file 06.saving"), &text_of(name, "6"));
        fs::rename(at("file 06.saving"), numbered(6)).expect("saved");
        for f in ALONE.filter(|f| f % self.devices == me) {
            write(&numbered(f), &text_of(name, &f.to_string()));
        }
        write(&at("new.txt"), &text_of(name, "new"));
        write(&at("new and equal.txt"), &text_of("everybody", "new"));
        fs::create_dir(at("new folder")).expect("made");
        write(&at("new folder").join(format!("by {name}.txt")), &text_of(name, "inside"));
        if me == self.devices - 1 && self.last_path() != path {
            fs::rename(device.at(&path), device.at(self.last_path())).expect("renamed");
        }
        self.edit_others(me, device);
    }

    /// Directories beside it that go, or go into each other.
    fn edit_others(&self, me: usize, device: &Device) {
        let at = |path: String| device.at(path);
        let d = self.d;
        if me == 0 {
            fs::remove_dir_all(at(format!("tree/gone {d}"))).expect("removed");
            fs::rename(at(format!("tree/P {d}")), at(format!("tree/Q {d}/P {d}"))).expect("moved");
        }
        if me == 1 {
            write(&at(format!("tree/gone {d}/late.txt")), &text_of(NAMES[me], "late"));
            fs::rename(at(format!("tree/Q {d}")), at(format!("tree/P {d}/Q {d}"))).expect("moved");
        }
    }

    /// What the rules of docs/semantics.md make of that.
    fn expect(&self, later: &Later<'_>, shown: &mut Shown) {
        let (d, path) = (self.d, self.last_path());
        let mut put = |path: String, mode: u32, text: &str| {
            shown.insert(path, file(text, mode));
        };
        for (stem, about) in [("file 00", "0"), ("file 06", "6"), ("new", "new")] {
            let at = format!("{path}/{stem}.txt");
            let text = |me: usize| text_of(NAMES[me], about);
            let winner = later.of(self.devices, |me, found| found.get(&at) == Some(&file(&text(me), 0o644)));
            put(at, 0o644, &text(winner));
            for loser in (0..self.devices).filter(|me| *me != winner) {
                put(format!("{path}/{stem} (conflict from {}).txt", NAMES[loser]), 0o644, &text(loser));
            }
        }
        put(format!("{path}/file 01.txt"), 0o644, &text_of("everybody", "1"));
        put(format!("{path}/file 02.txt"), 0o644, &text_of(NAMES[self.one(0)], "2"));
        put(format!("{path}/renamed 03.txt"), 0o644, &text_of(NAMES[self.one(1)], "3"));
        let renamed = |me: usize| format!("{path}/renamed by {}.txt", NAMES[me]);
        let winner = later.of(self.devices, |me, found| found.contains_key(&renamed(me)));
        put(renamed(winner), 0o644, &first_text(d, 4));
        let at = format!("{path}/file 05.txt");
        let winner = later.of(self.devices, |me, found| found.get(&at).is_some_and(|entry| entry.1 == MODES[me]));
        put(at, MODES[winner], &first_text(d, 5));
        for f in ALONE {
            put(format!("{path}/file {f:02}.txt"), 0o644, &text_of(NAMES[f % self.devices], &f.to_string()));
        }
        for f in ALONE.end..FILES_PER_FOLDER {
            put(format!("{path}/file {f:02}.txt"), 0o644, &first_text(d, f));
        }
        put(format!("{path}/new and equal.txt"), 0o644, &text_of("everybody", "new"));
        for name in &NAMES[..self.devices] {
            put(format!("{path}/new folder/by {name}.txt"), 0o644, &text_of(name, "inside"));
        }
        put(format!("tree/gone {d}/late.txt"), 0o644, &text_of(NAMES[1], "late"));
        // Of the two moves into each other the later is undone.
        let winner = later.of(2, |me, found| found.contains_key(&inner(d, 1 - me)));
        let (upper, lower) = if winner == 1 { ('Q', 'P') } else { ('P', 'Q') };
        let small = |letter: char| letter.to_ascii_lowercase();
        put(format!("tree/{upper} {d}/{}.txt", small(upper)), 0o644, &small(upper).to_string());
        put(format!("{}/{}.txt", inner(d, 1 - winner), small(lower)), 0o644, &small(lower).to_string());
        let folders = [path.clone(), format!("{path}/new folder"), format!("tree/gone {d}")];
        for folder in folders.into_iter().chain([format!("tree/{upper} {d}"), inner(d, 1 - winner)]) {
            shown.insert(folder, ('d', 0o755, Vec::new()));
        }
    }
}

/// Where the first two devices put the one directory into the other.
fn inner(d: usize, me: usize) -> String {
    if me == 0 { format!("tree/Q {d}/P {d}") } else { format!("tree/P {d}/Q {d}") }
}

/// The tree before anybody edits it.
fn plant(root: &Path, folders: usize) {
    for d in 0..folders {
        let make = |path: String| {
            fs::create_dir_all(root.join(&path)).expect("made");
            root.join(path)
        };
        let folder = make(folder(d));
        for f in 0..FILES_PER_FOLDER {
            write(&folder.join(format!("file {f:02}.txt")), &first_text(d, f));
        }
        write(&make(format!("tree/gone {d}")).join("old.txt"), "old");
        write(&make(format!("tree/P {d}")).join("p.txt"), "p");
        write(&make(format!("tree/Q {d}")).join("q.txt"), "q");
    }
}

/// A path without the time in the name of a conflict copy.
fn without_time(path: &Path) -> String {
    let text = path.to_str().expect("plain names");
    let Some((before, after)) = text.split_once(" (conflict from ") else { return text.to_owned() };
    let (name, rest) = after.split_once(' ').expect("a device and a time");
    let (_, ending) = rest.split_once(')').expect("the end of the mark");
    format!("{before} (conflict from {name}){ending}")
}

fn shown(device: &Device) -> Shown {
    let all = survey(&device.mountpoint()).into_iter();
    all.map(|(path, entry)| (without_time(&path), (entry.kind, entry.mode, entry.content))).collect()
}

fn assert_shown(what: &str, expected: &Shown, found: &Shown) {
    let missing: Vec<_> = expected.iter().filter(|(path, entry)| found.get(*path) != Some(entry)).collect();
    let extra: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    let some = (missing.iter().take(10).collect::<Vec<_>>(), extra.iter().take(10).collect::<Vec<_>>());
    assert!(missing.is_empty() && extra.is_empty(), "{what}: {} and {} differ: {some:?}", missing.len(), extra.len());
}

/// Every object on the remote, by name, with a hash of its bytes.
fn objects(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    survey(folder)
        .into_iter()
        .filter(|(_, entry)| entry.kind == 'f')
        .map(|(path, entry)| (path, entry.content))
        .collect()
}

/// The ids of all commits a device knows.
fn commits(device: &Device) -> BTreeSet<String> {
    let log = device.json(&["log", "-n", "100000"]);
    let all = log["commits"].as_array().unwrap_or_else(|| panic!("no commits in {log}"));
    all.iter().map(|commit| commit["id"].as_str().expect("an id").to_owned()).collect()
}

/// Who made the commits that a device knows, the first one first.
fn authors(device: &Device) -> Vec<usize> {
    let log = device.json(&["log", "-n", "100000"]);
    let all = log["commits"].as_array().unwrap_or_else(|| panic!("no commits in {log}"));
    let number = |commit: &Value| NAMES.iter().position(|name| commit["device"] == *name).expect("one of ours");
    all.iter().rev().map(number).collect()
}

fn digest(device: &Device) -> String {
    device.json(&["stats"])["boxes"][0]["digest"].as_str().expect("a digest").to_owned()
}

/// The only one that is on: until it has sent all it has and knows all that was sent before.
fn meet(device: &Device, known: &mut BTreeSet<String>) {
    device.mount();
    device.wait();
    until(EVER, "it knows what the others did", || commits(device).is_superset(known));
    device.wait();
    *known = commits(device);
}

fn never_together(count: usize, files: usize) {
    if !Device::can_mount() {
        return;
    }
    let folders = files / FILES_PER_FOLDER;
    let place = Place::s3();
    let devices: Vec<Device> = NAMES[..count].iter().map(|name| Device::new(name)).collect();
    let source = tempfile::tempdir().expect("a temporary folder");
    plant(source.path(), folders);
    let first = without_directory_times(survey(source.path()));
    let mut imported = 0;
    for (number, device) in devices.iter().enumerate() {
        if number == 0 {
            device.init(&place);
            device.ok(&[OsStr::new("import"), source.path().join("tree").as_os_str()]);
        } else {
            device.join(&place);
        }
        device.mount();
        device.wait();
        until(EVER, "it holds the index", || device.json(&["status"])["boxes"][0]["index_complete"] == true);
        ouro_tests::assert_same("the tree", &first, &without_directory_times(survey(&device.mountpoint())));
        imported = commits(device).len();
        device.umount();
    }

    // Each alone, and nobody reaches the storage: no edit is made in the knowledge of another's.
    place.server().stop();
    for (me, device) in devices.iter().enumerate() {
        device.mount();
        (0..folders).for_each(|d| Folder { d, devices: count }.edit(me, device));
        device.umount();
    }
    place.server().cont();

    // Each alone with the storage; those who edited first come last. Then once more, to hear of those who came later.
    let (mut known, mut order) = (BTreeSet::new(), Vec::new());
    for device in devices.iter().rev() {
        meet(device, &mut known);
        order = authors(device);
        device.umount();
    }
    order.drain(..imported);
    let order = (order.len() == count).then_some(order);
    let mut digests = BTreeSet::new();
    let before = objects(place.data());
    for device in &devices {
        meet(device, &mut known);
        let found = shown(device);
        let mut expected = Shown::from([("tree".to_owned(), ('d', 0o755, Vec::new()))]);
        let later = Later { found: &found, order: order.clone() };
        (0..folders).for_each(|d| Folder { d, devices: count }.expect(&later, &mut expected));
        assert_shown("after all have met", &expected, &found);
        digests.insert(digest(device));
        let asked = || device.stat("/requests/get") + device.stat("/requests/list") + device.stat("/requests/head");
        let begun = asked();
        until(EVER, "it looks at the remote again and again", || asked() >= begun + IDLE_REQUESTS);
        let changing = [device.stat("/requests/put"), device.stat("/requests/delete"), device.stat("/commits")];
        assert_eq!(changing, [0; 3], "an idle device writes nothing");
        device.umount();
    }
    assert_eq!(digests.len(), 1, "one state: {digests:?}");
    assert!(before == objects(place.data()), "nothing on the remote changed while nobody changed anything");
    one_after_another(&devices, &place, &mut known);
}

/// Each edits what it has seen of the others: nothing is in conflict, and a conflict that one ends is ended for all.
fn one_after_another(devices: &[Device], place: &Place, known: &mut BTreeSet<String>) {
    let copy = "tree/folder 000/file 00 (conflict from ";
    for (me, device) in devices.iter().enumerate() {
        meet(device, known);
        let listed: Vec<PathBuf> = survey(&device.mountpoint()).into_keys().collect();
        let copies: Vec<&PathBuf> = listed.iter().filter(|path| path.to_string_lossy().starts_with(copy)).collect();
        assert_eq!(copies.len(), devices.len() - 1 - usize::from(me > 0), "a copy that one deletes stays away");
        if me == 0 {
            fs::remove_file(device.at(copies[0])).expect("removed");
        }
        write(&device.at("tree/folder 000/new.txt"), &text_of(NAMES[me], "in turn"));
        let from = if me == 0 { "tree/folder 002".to_owned() } else { format!("tree/with {}", NAMES[me - 1]) };
        fs::rename(device.at(from), device.at(format!("tree/with {}", NAMES[me]))).expect("renamed");
        device.wait();
        *known = commits(device);
        device.umount();
    }
    // Only now are they on together.
    for device in devices {
        meet(device, known);
    }
    let all: Vec<&Device> = devices.iter().collect();
    assert_devices_show_the_same("after working in turn", &all);
    let last = NAMES[devices.len() - 1];
    let text = fs::read_to_string(devices[0].at("tree/folder 000/new.txt")).expect("read");
    assert_eq!(text, text_of(last, "in turn"), "who writes last, having seen the rest, has the last word");
    assert!(devices[0].at(format!("tree/with {last}")).is_dir());
    let report = devices[0].json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{}: {report}", place.kind);
}

#[test]
fn devices_that_are_never_on_together_end_with_the_same_tree_and_the_copies_that_the_rules_name() {
    never_together(3, 300);
}

#[test]
fn two_devices_with_ten_thousand_files_are_never_on_together() {
    if is_long() {
        never_together(2, 10_000);
    }
}

#[test]
fn five_devices_with_ten_thousand_files_are_never_on_together() {
    if is_long() {
        never_together(5, 10_000);
    }
}
