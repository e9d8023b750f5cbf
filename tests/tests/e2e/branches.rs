//! Branches: a writable line of its own that begins at any state, and comes back by the rules that hold between devices.

use ouro_tests::{Device, EVER, Pair, Place, assert_same, survey, until, without_directory_times};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A branch's mount on a device, taken away when dropped.
struct Mount<'a> {
    device: &'a Device,
    root: PathBuf,
}

impl Mount<'_> {
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.device.ok(&[OsStr::new("umount"), self.root.as_os_str()]);
        }
    }
}

/// `ourobox branch NAME … --mount`.
fn branch<'a>(device: &'a Device, name: &str, options: &[&str]) -> (Mount<'a>, Value) {
    let root = device.beside(name);
    let mut arguments: Vec<&OsStr> = ["branch", name, "--mount"].map(OsStr::new).to_vec();
    arguments.push(root.as_os_str());
    arguments.extend(options.iter().map(OsStr::new));
    let branched = device.json(&arguments);
    assert_eq!(branched["box_name"], format!("box@{name}"), "{branched}");
    (Mount { device, root }, branched)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The changes of a merge as `what path`.
fn changes(merged: &Value) -> Vec<String> {
    let all = merged["changes"].as_array().unwrap_or_else(|| panic!("no changes in {merged}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().map(|change| format!("{} {}", text(&change["what"][0]), text(&change["path"]))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The only line of a refusal.
fn refused(device: &Device, arguments: &[&str]) -> String {
    let outcome = device.ourobox(arguments);
    assert_eq!(outcome.code, Some(1), "{arguments:?}: {outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    outcome.stderr
}

#[test]
fn a_branch_from_the_past_is_edited_previewed_and_merged_and_both_devices_show_the_same() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    fs::create_dir(a.at("texts")).expect("made");
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(a.at("texts/big"), &big).expect("written");
    fs::write(a.at("texts/both"), "as it was").expect("written");
    fs::write(a.at("texts/dropped"), "dropped on main").expect("written");
    a.json(&["snapshot", "-m", "an hour ago"]);
    b.join(&place);
    b.mount();
    fs::write(a.at("texts/both"), "main's, and longer").expect("written");
    fs::remove_file(a.at("texts/dropped")).expect("removed");
    fs::write(a.at("texts/main only"), "main").expect("written");
    a.wait();

    // A line of its own, from a state of the past.
    let stored = place.bytes_stored();
    let (draft, branched) = branch(&a, "draft", &["--at", "an hour ago"]);
    assert_eq!(branched["made"], true, "{branched}");
    assert_eq!(names(&draft.at("texts")), ["big", "both", "dropped"]);
    assert_eq!(read(draft.at("texts/both")), "as it was");
    assert_eq!(fs::read(draft.at("texts/big")).expect("read"), big);
    fs::write(draft.at("texts/big copy"), &big).expect("written");
    fs::write(draft.at("texts/both"), "the draft's").expect("written");
    fs::write(draft.at("texts/draft only"), "draft").expect("written");
    a.wait();
    let grown = place.bytes_stored() - stored;
    assert!(grown < 100_000, "{grown} bytes: what the box had stored is not stored again");
    assert_eq!(names(&a.at("texts")), ["big", "both", "main only"], "nothing of it is on the main line");
    let listed = a.json(&["branch"]);
    assert_eq!(listed["branches"][0]["name"], "draft", "{listed}");
    assert_eq!(listed["branches"][0]["box_name"], "box@draft");
    assert_eq!(listed["branches"][0]["merged"], false, "{listed}");
    assert_eq!(listed["branches"][0]["writers"][0]["device"], "anna");
    assert!(listed["branches"][0]["from"].as_str().is_some_and(|from| from.starts_with("an hour ago")), "{listed}");

    // What would change; nothing changes.
    let before = survey(&a.mountpoint());
    let preview = a.json(&["merge", "draft", "--preview"]);
    let expected = ["created texts/big copy", "edited texts/both", "created texts/draft only"];
    let mut told = changes(&preview);
    told.retain(|change| !change.contains("conflict"));
    assert_eq!(told, expected, "{preview}");
    assert_eq!(preview["conflicts"][0]["path"], "texts/both", "{preview}");
    assert_eq!(preview["conflicts"][0]["sides"].as_array().map(Vec::len), Some(2), "{preview}");
    assert_same("a preview changes nothing", &before, &survey(&a.mountpoint()));

    let merged = a.json(&["merge", "draft"]);
    assert_eq!(changes(&merged), changes(&preview), "it does what it said");
    assert_eq!(merged["waiting"], Value::Null, "{merged}");
    let shown = names(&a.at("texts"));
    assert_eq!(shown.len(), 6, "{shown:?}");
    assert_eq!(read(a.at("texts/both")), "the draft's", "the later one has the name");
    let copy = shown.iter().find(|name| name.contains("conflict from anna ")).expect("the other stands beside");
    assert_eq!(read(a.at("texts").join(copy)), "main's, and longer");
    until(EVER, "B has it", || b.at("texts/draft only").exists());
    until(EVER, "both devices show the same", || ouro_tests::look_same(&a.mountpoint(), &b.mountpoint()));
    let again = a.json(&["merge", "draft"]);
    assert_eq!((&again["commit"], changes(&again)), (&Value::Null, vec![]), "there is nothing new");

    // Every state of both lines is still there.
    assert_eq!(read(a.at(".snapshots/an hour ago/texts/dropped")), "dropped on main");
    assert_eq!(read(draft.at(".snapshots/an hour ago/texts/both")), "as it was");
    let id = merged["before"].as_str().expect("a commit").to_owned();
    let undone = a.json(&["diff", &id, "now"]);
    assert_eq!(changes(&undone), changes(&merged), "the state before is a commit");
    let log = a.json(&["log"]);
    let authors: Vec<&str> =
        log["commits"].as_array().into_iter().flatten().filter_map(|commit| commit["device"].as_str()).collect();
    assert!(authors.contains(&"anna on draft") && authors.contains(&"anna"), "{authors:?}");

    // The state before comes back, and the draft's work is still there to be had.
    a.json(&["restore", "/", "--at", &id, "--box", "box"]);
    assert_eq!(names(&a.at("texts")), ["big", "both", "main only"]);
    assert_eq!(read(a.at("texts/both")), "main's, and longer");
    assert_eq!(read(draft.at("texts/both")), "the draft's");
    drop(draft);
}

#[test]
fn a_branch_is_opened_on_another_device_and_outlives_restarts() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    fs::write(a.at("file"), "one").expect("written");
    a.wait();
    b.join(&place);
    b.mount();
    let (mine, _) = branch(&a, "trial", &[]);
    fs::write(mine.at("tried"), "by A").expect("written");
    a.wait();
    fs::write(a.at("file"), "two").expect("written");
    a.wait();

    assert!(refused(&b, &["branch", "trial", "--at", "1h ago"]).contains("already"));
    let (theirs, branched) = branch(&b, "trial", &[]);
    assert_eq!(branched["made"], false, "it is there already: {branched}");
    assert_eq!(names(&theirs.root), ["file", "tried"]);
    assert_eq!(read(theirs.at("file")), "one");
    fs::write(theirs.at("tried too"), "by B").expect("written");
    until(EVER, "A has what B wrote on the branch", || mine.at("tried too").exists());
    assert_eq!(names(&a.mountpoint()), ["file"], "the main line has none of it");

    // The main line comes into the branch.
    let merged = b.json(&["merge", "main", "--box", "box@trial"]);
    assert_eq!(changes(&merged), ["edited file"], "{merged}");
    until(EVER, "A's branch has what B merged into it", || read(mine.at("file")) == "two");

    // An engine that begins anew finds both lines, and writes on.
    drop((mine, theirs));
    for device in [&a, &b] {
        device.umount();
        device.mount();
    }
    let (mine, _) = branch(&a, "trial", &[]);
    assert_eq!(names(&mine.root), ["file", "tried", "tried too"]);
    fs::write(mine.at("after"), "the restart").expect("written");
    // What is not committed by itself yet belongs to the branch all the same.
    let merged = b_merges_when_it_is_there(&a, &b);
    assert_eq!(changes(&merged), ["created after", "created tried", "created tried too"], "{merged}");
    until(EVER, "A has the merge", || a.at("after").exists());
    assert_same(
        "both lines are equal now",
        &without_directory_times(survey(&a.mountpoint())),
        &without_directory_times(survey(&mine.root)),
    );
    drop(mine);

    assert!(refused(&a, &["branch", "main"]).contains("main"));
    assert!(refused(&a, &["branch", "a/b"]).contains("letters"));
    assert!(refused(&a, &["branch", "early", "--at", "2001-01-01"]).contains("yet"));
    assert!(refused(&a, &["merge", "nothing"]).contains("no branch"));
    assert!(refused(&a, &["merge", "trial", "--box", "box@trial"]).contains("itself"));
}

fn b_merges_when_it_is_there(a: &Device, b: &Device) -> Value {
    a.wait();
    b.json(&["merge", "trial"])
}

#[test]
fn a_box_and_its_branch_are_folders_of_one_mount() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    fs::write(a.at("file"), "main").expect("written");
    a.wait();
    a.umount();
    a.ok(&["branch", "side"]);
    a.ok(&[
        OsStr::new("fuse"),
        a.mountpoint().as_os_str(),
        "--box".as_ref(),
        "box".as_ref(),
        "--box".as_ref(),
        "box@side".as_ref(),
    ]);
    assert_eq!(names(&a.mountpoint()), ["box", "box@side"]);
    fs::write(a.at("box@side/file"), "side").expect("written");
    assert_eq!((read(a.at("box/file")), read(a.at("box@side/file"))), ("main".to_owned(), "side".to_owned()));
    let path = a.at("box@side/file");
    a.wait();
    let log = a.json(&[OsStr::new("log"), path.as_os_str()]);
    assert_eq!(log["commits"][0]["device"], "anna on side", "{log}");
    assert_eq!(log["commits"][1]["device"], "anna", "and what was before: {log}");
    let merged = a.json(&["merge", "side"]);
    assert_eq!(changes(&merged), ["edited file"]);
    until(Duration::from_secs(10), "the mount shows it", || read(a.at("box/file")) == "side");
    a.umount();
}

#[test]
fn a_branch_is_deleted_and_its_name_is_free_and_the_repository_can_be_collected() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    fs::write(a.at("file"), "one").expect("written");
    a.wait();
    let (trial, _) = branch(&a, "trial", &[]);
    fs::write(trial.at("tried"), "on the branch").expect("written");
    a.wait();
    assert!(refused(&a, &["gc", "--box", "box"]).contains("--delete"), "it says how to go on");
    assert!(refused(&a, &["branch", "trial", "--delete", "--box", "box"]).contains("mounted at"));
    drop(trial);
    assert!(refused(&a, &["branch", "trial", "--delete", "--box", "box"]).contains("ourobox merge"));
    a.json(&["merge", "trial", "--box", "box"]);
    let ended = a.json(&["branch", "trial", "--delete", "--box", "box"]);
    assert_eq!((&ended["box_name"], &ended["discarded"]), (&Value::from("box@trial"), &Value::from(0)), "{ended}");
    assert_eq!(names(&a.mountpoint()), ["file", "tried"], "what was merged stays");
    assert_eq!(a.json(&["branch"])["branches"], Value::Array(vec![]));
    assert!(refused(&a, &["branch", "trial", "--delete"]).contains("no branch"));
    let collected = a.json(&["gc", "--keep-all", "0s", "--grace", "0s"]);
    assert_eq!(collected["boxes"].as_array().map(Vec::len), Some(1), "{collected}");

    // Another one of that name begins anew, and what nobody merged goes only if that is said.
    let (again, branched) = branch(&a, "trial", &["--at", "now"]);
    assert_eq!(branched["made"], true, "{branched}");
    assert_eq!(names(&again.root), ["file", "tried"]);
    fs::write(again.at("unwanted"), "never merged").expect("written");
    drop(again);
    let ended = a.json(&["branch", "trial", "--delete", "--discard", "--box", "box"]);
    assert_eq!(ended["discarded"], 1, "{ended}");
    a.umount();
    a.mount();
    assert_eq!(names(&a.mountpoint()), ["file", "tried"]);
    assert_eq!(a.json(&["check", "--read-data"])["problems"], Value::Array(vec![]));
}

/// Two devices that have the same box and the same branch open, and mounted; the second one joined the branch.
fn both_on_trial(pair: &Pair) -> (Mount<'_>, Mount<'_>) {
    fs::write(pair.a.at("file"), "one").expect("written");
    pair.join();
    let (mine, _) = branch(&pair.a, "trial", &[]);
    let (theirs, branched) = branch(&pair.b, "trial", &[]);
    assert_eq!(branched["made"], false, "{branched}");
    (mine, theirs)
}

fn status_of(device: &Device, name: &str) -> Value {
    let status = device.json(&["status"]);
    let boxes = status["boxes"].as_array().unwrap_or_else(|| panic!("no boxes in {status}"));
    boxes.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no box {name} in {status}")).clone()
}

#[test]
fn a_branch_that_was_deleted_elsewhere_stops_where_nothing_was_done_on_it() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let Pair { a, b, .. } = &pair;
    let (mine, theirs) = both_on_trial(&pair);
    fs::write(mine.at("tried"), "by A").expect("written");
    until(EVER, "B has what A wrote on the branch", || theirs.at("tried").exists());
    a.json(&["merge", "trial", "--box", "box"]);
    drop(mine);
    let ended = a.json(&["branch", "trial", "--delete", "--box", "box"]);
    assert_eq!(ended["discarded"], 0, "{ended}");

    let says = || status_of(b, "box@trial")["problem"].as_str().map(str::to_owned);
    until(EVER, "B's box says it", || says().is_some());
    let problem = says().expect("it does");
    assert!(problem.contains("deleted") && problem.contains("ourobox branch \"trial\" --delete"), "{problem}");
    let status = status_of(b, "box@trial");
    assert!(!status["summary"].to_string().contains("out of reach"), "{status}");
    assert_eq!(status["pending_files"], 0, "{status}");
    assert_eq!(status_of(b, "box")["problem"], Value::Null, "the box itself goes on");
    assert_eq!(a.json(&["branch"])["branches"], Value::Array(vec![]), "nobody took it up again");
    assert_eq!(names(&theirs.root), ["file", "tried"], "what was there can be read");

    // It goes from here by the command that is told.
    drop(theirs);
    let ended = b.json(&["branch", "trial", "--delete", "--box", "box"]);
    assert_eq!((&ended["box_name"], &ended["discarded"]), (&Value::from("box@trial"), &Value::from(0)), "{ended}");
    assert_eq!(b.json(&["status"])["boxes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_was_done_on_a_branch_that_was_deleted_elsewhere_is_not_lost() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let Pair { a, b, .. } = &pair;
    let (mine, theirs) = both_on_trial(&pair);
    drop(mine);
    a.json(&["branch", "trial", "--delete", "--box", "box"]);
    fs::write(theirs.at("late"), "by B").expect("written");
    b.wait();

    until(EVER, "B took the branch up again", || status_of(b, "box@trial")["renewed"].is_string());
    until(EVER, "the branch is there again", || a.json(&["branch"])["branches"][0]["name"] == "trial");
    assert_eq!(read(theirs.at("late")), "by B");
    until(EVER, "and all is well", || status_of(b, "box@trial")["problem"].is_null());
    let refusal = refused(a, &["branch", "trial", "--delete", "--box", "box"]);
    assert!(refusal.contains("ourobox merge"), "{refusal}");
    let (again, branched) = branch(a, "trial", &[]);
    assert_eq!(branched["made"], false, "{branched}");
    assert_eq!(names(&again.root), ["file", "late"]);
    fs::write(again.at("later"), "by A").expect("written");
    until(EVER, "both write it", || theirs.at("later").exists());
    let merged = a.json(&["merge", "trial", "--box", "box"]);
    assert_eq!(changes(&merged), ["created late", "created later"], "{merged}");
    until(EVER, "B's box has the merge", || b.at("late").exists());
}

#[test]
fn what_others_published_on_a_branch_before_it_was_discarded_is_taken_up_again() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let Pair { a, b, .. } = &pair;
    let (mine, theirs) = both_on_trial(&pair);
    fs::write(mine.at("by A"), "A").expect("written");
    until(EVER, "B has what A wrote on the branch", || theirs.at("by A").exists());
    fs::write(theirs.at("by B"), "B").expect("written");
    b.wait();
    drop(mine);
    let ended = a.json(&["branch", "trial", "--delete", "--discard", "--box", "box"]);
    assert_eq!(ended["discarded"], 2, "{ended}");

    until(EVER, "the branch is there again", || a.json(&["branch"])["branches"][0]["name"] == "trial");
    let merged = a.json(&["merge", "trial", "--box", "box"]);
    assert_eq!(changes(&merged), ["created by A", "created by B"], "{merged}");
    drop(theirs);
    b.json(&["branch", "trial", "--delete", "--box", "box"]);
    assert_eq!(a.json(&["branch"])["branches"], Value::Array(vec![]));
}

#[test]
fn a_branch_that_was_deleted_elsewhere_keeps_its_work_also_from_being_deleted_here() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let Pair { a, b, .. } = &pair;
    let (mine, theirs) = both_on_trial(&pair);
    drop(mine);
    a.json(&["branch", "trial", "--delete", "--box", "box"]);
    fs::write(theirs.at("late"), "by B").expect("written");
    drop(theirs);
    let refusal = refused(b, &["branch", "trial", "--delete", "--box", "box"]);
    assert!(refusal.contains("--discard"), "{refusal}");
    let (theirs, _) = branch(b, "trial", &[]);
    assert_eq!(read(theirs.at("late")), "by B");
}

#[test]
fn what_is_on_this_device_only_goes_with_a_branch_only_if_that_is_said() {
    let Some(Pair { a, .. }) = &Pair::over(Place::folder) else { return };
    fs::write(a.at("file"), "one").expect("written");
    let (trial, _) = branch(a, "trial", &[]);
    fs::write(trial.at("notes.part"), "half a download").expect("written");
    a.wait();
    drop(trial);
    let refusal = refused(a, &["branch", "trial", "--delete", "--box", "box"]);
    assert!(refusal.contains("notes.part") && refusal.contains("--discard"), "{refusal}");
    let (trial, _) = branch(a, "trial", &[]);
    assert_eq!(read(trial.at("notes.part")), "half a download");
    drop(trial);
    a.json(&["branch", "trial", "--delete", "--discard", "--box", "box"]);
    assert_eq!(a.json(&["branch"])["branches"], Value::Array(vec![]));
}
