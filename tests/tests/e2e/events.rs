//! Events: conflicts are told as they come up and end, to who listens.

use ouro_tests::{Device, EVER, Pair, Place, until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// `ourobox --json events`, read as it comes.
struct Listener {
    child: Child,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    /// Returns once it hears whatever happens.
    fn of(device: &Device) -> Listener {
        let mut command = device.command(device.program());
        let mut child = command.args(["--json", "events"]).stdout(Stdio::piped()).spawn().expect("ourobox runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
                into.lock().expect("not poisoned").push(event);
            }
        });
        let listener = Listener { child, heard };
        until(EVER, "it listens", || listener.heard().first().is_some_and(|event| event["event"] == "listening"));
        listener
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Value>> {
        self.heard.lock().expect("not poisoned")
    }

    /// The paths of all events of a kind so far, sorted.
    fn paths(&self, kind: &str) -> Vec<String> {
        let heard = self.heard();
        let told = heard.iter().filter(|event| event["event"] == kind);
        let mut paths: Vec<String> = told.map(|event| event["path"].as_str().expect("a path").to_owned()).collect();
        paths.sort();
        paths
    }

    /// What was told of the conflict at a path.
    fn conflict(&self, path: &str) -> Value {
        let heard = self.heard();
        let told = heard.iter().find(|event| event["event"] == "conflict" && event["path"] == path);
        told.unwrap_or_else(|| panic!("{path} in {heard:?}")).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("plain").to_owned()
}

#[test]
fn conflicts_are_told_as_they_come_up_and_end_on_both_devices() {
    let Some(pair) = Pair::over(Place::s3) else { return };
    let (a, b) = (&pair.a, &pair.b);
    fs::create_dir(a.at("texts")).expect("made");
    fs::create_dir(a.at(".git")).expect("made");
    let files = ["texts/edited.txt", "texts/again.txt", ".git/index"];
    for file in files {
        fs::write(a.at(file), "before").expect("written");
    }
    pair.join();
    let listeners = [Listener::of(a), Listener::of(b)];
    // Nothing of this is a conflict.
    fs::write(a.at("texts/edited.txt"), "once more").expect("written");
    until(EVER, "B has it", || fs::read(b.at("texts/edited.txt")).is_ok_and(|bytes| bytes == b"once more"));
    pair.apart(|a, b| {
        for (device, by) in [(a, "anna"), (b, "berta, at some length")] {
            for file in files {
                fs::write(device.at(file), format!("by {by}")).expect("written");
            }
            fs::write(device.at("new"), format!("new by {by}")).expect("written");
            fs::write(device.at(format!("{by} only")), "no conflict").expect("written");
        }
    });
    let expected = [".git/index", "new", "texts/again.txt", "texts/edited.txt"];
    for listener in &listeners {
        until(EVER, "every conflict is told", || listener.paths("conflict").len() >= expected.len());
        assert_eq!(listener.paths("conflict"), expected, "each once");
        assert_eq!(listener.paths("resolved"), [] as [&str; 0]);
        let sides = listener.conflict("texts/edited.txt")["sides"].clone();
        let mut devices: Vec<&str> =
            sides.as_array().expect("sides").iter().filter_map(|s| s["device"].as_str()).collect();
        devices.sort_unstable();
        assert_eq!(devices, ["anna", "berta"], "{sides}");
        assert!(sides.as_array().expect("sides").iter().all(|side| side["time"].is_string()), "{sides}");
    }
    let theirs = listeners[0].conflict("texts/edited.txt")["sides"].clone();
    let theirs = theirs.as_array().expect("sides").iter().find(|side| side["mine"] == false).expect("theirs").clone();
    assert!(theirs["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{theirs}");

    // By the command, and by ordinary work on the files; a copy that was written down is the same conflict still.
    fs::rename(a.at("texts/again.txt"), a.at("texts/x")).expect("renamed");
    fs::rename(a.at("texts/x"), a.at("texts/again.txt")).expect("renamed");
    a.ok(&["resolve", &text(&a.at("texts/edited.txt")), "--keep", "mine"]);
    a.ok(&["resolve", &text(&a.at(".git/index")), "--keep", "theirs"]);
    for listener in &listeners {
        until(EVER, "what ended is told", || listener.paths("resolved").len() >= 2);
    }
    let listed = a.json(&["conflicts"]);
    assert_eq!(
        (&listed["conflicts"][1]["path"], &listed["conflicts"][1]["settled"]),
        (&"texts/again.txt".into(), &true.into())
    );
    let copies = fs::read_dir(a.at("texts")).expect("listed").map(|entry| entry.expect("listed").path());
    let copy = copies.into_iter().find(|path| text(path).contains("again (conflict")).expect("a copy");
    fs::remove_file(copy).expect("removed");
    a.wait();
    for (device, listener) in [a, b].into_iter().zip(&listeners) {
        until(EVER, "what ended is told", || listener.paths("resolved").len() >= 3);
        assert_eq!(listener.paths("resolved"), [".git/index", "texts/again.txt", "texts/edited.txt"]);
        assert_eq!(listener.paths("conflict"), expected, "each once");
        let listed = device.json(&["conflicts"]);
        assert_eq!(listed["conflicts"][0]["path"], "new", "{listed}");
        assert_eq!(listed["conflicts"].as_array().map(Vec::len), Some(1), "{listed}");
    }

    // Who listens does not keep an engine, and hears of its end.
    let [mut listening, _] = listeners;
    a.umount();
    until(EVER, "it ends with the engine", || listening.child.try_wait().expect("a child").is_some());
    assert!(listening.child.wait().expect("a child").success());
    let refused = a.ourobox(&["events"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains("no engine runs"), "{refused:?}");
}

#[test]
fn who_does_not_read_what_is_told_holds_up_nobody_and_is_told_later() {
    let Some(pair) = Pair::over(Place::s3) else { return };
    let (a, b) = (&pair.a, &pair.b);
    pair.join();
    let listener = Listener::of(a);
    let pid = rustix::process::Pid::from_child(&listener.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
    // More than fits into a pipe and a socket.
    const FILES: usize = 2_000;
    let name = |i: usize| format!("a file with a conflict {i:04}");
    pair.apart(|a, b| {
        for (device, by) in [(a, "anna"), (b, "berta")] {
            (0..FILES).for_each(|i| fs::write(device.at(name(i)), format!("{i} by {by}")).expect("written"));
        }
    });
    until(EVER, "A lists them", || a.json(&["conflicts"])["conflicts"].as_array().map(Vec::len) == Some(FILES));
    // The engine goes on meanwhile.
    fs::write(b.at("after"), "it").expect("written");
    until(EVER, "A has what came after", || a.at("after").exists());
    a.ok(&["resolve", &text(&a.at(name(FILES - 1))), "--keep", "mine"]);
    a.wait();

    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it is there");
    // The one that ended is told to have come up and ended, or neither.
    let left = || {
        let (mut told, ended) = (listener.paths("conflict"), listener.paths("resolved"));
        told.retain(|path| !ended.contains(path));
        told
    };
    until(EVER, "everything is told", || left().len() == FILES - 1 && listener.heard().len() > FILES - 1);
    assert_eq!(left(), (0..FILES - 1).map(name).collect::<Vec<_>>());
    assert!(listener.paths("conflict").len() <= FILES, "each once");
    assert_eq!(listener.paths("missed"), [] as [&str; 0]);
}
