//! An engine that is killed while it tells the kernel of a change, when a program waits for it just there: neither can end by itself.

use ouro_tests::{Connections, Device, EVER, NOBODY, OpenDevice, Place, Pseudo, is_gone, pause, until};
use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The read has to wait for longer than the test takes.
const DEADLINE_MS: &str = "120000";
/// Looks at a thread that waits in the kernel, one after the other: one that waits for a disk is through before.
const LOOKS: usize = 50;
/// What is to happen at once takes so long on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(15);

/// A device of which a thread is stuck in the kernel, and the program that waits for it.
struct Stuck {
    device: Device,
    _place: Place,
    /// Objects put aside, and what stands in their places.
    held: Vec<(PathBuf, PathBuf)>,
    reader: Child,
    restorer: Child,
    before: Vec<u8>,
}

impl Stuck {
    /// A program reads a file of which no byte comes, so the kernel holds its pages; then the file gets another content, and the engine
    /// tells the kernel to drop them.
    fn new(device: Device) -> Stuck {
        let place = Place::folder();
        for folder in [place.data().parent().expect("a folder"), place.data()] {
            fs::create_dir_all(folder).expect("made");
            fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("set");
        }
        device.init(&place);
        device.mount();
        let path = device.at("file");
        let shell = |script: &str| run_in(device.command("sh").args(["-euc", script, "sh"]).arg(&path));
        let before = Pseudo::new(1).bytes(300_000);
        let source = device.beside("source");
        for (bytes, name) in [(&before, "first"), (&Pseudo::new(2).bytes(300_000), "second")] {
            fs::write(&source, bytes).expect("written");
            shell(&format!("cat '{}' > \"$1\"", source.display()));
            device.ok(&["snapshot".as_ref(), "-m".as_ref(), name.as_ref(), device.mountpoint().as_os_str()]);
        }
        device.ok(&["free".as_ref(), path.as_os_str()]);
        device.remount();
        let held = hold_back(place.data());
        let quiet =
            |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs");
        let reader = quiet(device.command("cat").arg(&path).stderr(Stdio::null()));
        until(EVER, "cat waits for bytes", || waits_for_bytes(reader.id(), &path));
        let mut restore = device.command(device.program());
        let restorer = quiet(restore.arg("restore").arg(&path).args(["--at", "first"]).stderr(Stdio::piped()));
        let mut stuck = Stuck { device, _place: place, held, reader, restorer, before };
        let mut restored = None;
        until(EVER, "a thread of the engine is stuck in the kernel", || {
            restored = restored.or_else(|| stuck.has_restored().then(Instant::now));
            // What the kernel is told is sent beside it.
            let late = restored.is_some_and(|when| when.elapsed() > AT_ONCE);
            let is_stuck = stuck.has_stuck_thread();
            assert!(is_stuck || !late, "restored, and nothing is stuck: cat is {:?}", state_of(stuck.reader.id()));
            is_stuck
        });
        stuck
    }

    /// Whether the restore is through. It must not fail: then nothing comes to be stuck.
    fn has_restored(&mut self) -> bool {
        let Some(status) = self.restorer.try_wait().expect("waited") else { return false };
        let mut said = String::new();
        if let Some(mut stderr) = self.restorer.stderr.take() {
            stderr.read_to_string(&mut said).expect("it is text");
        }
        assert!(status.success(), "the restore failed: {said}");
        true
    }

    fn has_stuck_thread(&self) -> bool {
        // The command that asks for the restore is among them; it has no thread that stays in the kernel so.
        let mut waiting: Vec<(i32, String)> = Vec::new();
        for engine in self.device.engines() {
            let threads = fs::read_dir(format!("/proc/{engine}/task")).into_iter().flatten().flatten();
            waiting.extend(threads.map(|thread| (engine, thread.file_name().to_string_lossy().into_owned())));
        }
        for _ in 0..LOOKS {
            waiting.retain(|(engine, thread)| state(*engine, thread) == Some('D'));
            if waiting.is_empty() {
                return false;
            }
            pause();
        }
        true
    }

    /// Kills it; returns its process.
    fn kill_engine(&self) -> i32 {
        let engine = *self.device.engines().iter().find(|pid| is_engine(**pid)).expect("it runs");
        kill(engine);
        engine
    }

    /// The reader ended with an error, and the new engine has what the old one did last.
    fn check(mut self) {
        let began = Instant::now();
        until(AT_ONCE, "the reader ends", || self.reader.try_wait().expect("waited").is_some());
        assert!(!self.reader.wait().expect("waited").success(), "it read something");
        self.device.mount();
        assert!(began.elapsed() < AT_ONCE, "a new engine took {:?}", began.elapsed());
        for (aside, path) in &self.held {
            fs::rename(aside, path).expect("put back");
        }
        self.restorer.wait().expect("waited");
        let path = self.device.at("file");
        until(EVER, "the restored content is there", || {
            let mut compare = self.device.command("cat");
            let output = compare.arg(&path).output().expect("cat runs");
            output.status.success() && output.stdout == self.before
        });
    }
}

/// Puts a pipe that nobody writes to in the place of every pack: who opens it waits.
fn hold_back(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let (mut held, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                todo.push(path);
            } else if folder.components().any(|part| part.as_os_str() == "packs") {
                let aside = path.with_extension("aside");
                fs::rename(&path, &aside).expect("put aside");
                rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0)
                    .expect("made");
                fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("set");
                held.push((aside, path));
            }
        }
    }
    assert!(!held.is_empty(), "there are packs");
    held
}

fn run_in(command: &Command) {
    let outcome = ouro_tests::run(command);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it runs");
}

/// The state of a process of one thread, a letter.
fn state_of(pid: u32) -> Option<char> {
    state(pid.cast_signed(), &pid.to_string())
}

/// The state of a thread, a letter.
fn state(pid: i32, thread: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether it is the engine and not a command that asks it.
fn is_engine(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|argument| argument == b"service")
}

/// Whether it waits for bytes of this file, so that the kernel holds their pages. Also `open` and `fstat` wait for the engine, for longer the
/// busier the machine is, and no page is held yet; but they can be interrupted, unlike who waits for a page.
fn waits_for_bytes(pid: u32, path: &Path) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let first = call.split_whitespace().nth(1).and_then(|argument| argument.strip_prefix("0x"));
    let Some(descriptor) = first.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { return false };
    let opened = fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
    opened.is_ok_and(|opened| opened.file_name() == path.file_name()) && state_of(pid) == Some('D')
}

#[test]
fn the_guard_of_a_killed_engine_frees_who_waits_for_it() {
    if !Device::can_mount() {
        return;
    }
    let stuck = Stuck::new(Device::with_variables("anna", &[("OUROBOX_READ_DEADLINE_MS", DEADLINE_MS)]));
    let engine = stuck.kill_engine();
    until(AT_ONCE, "the engine is gone", || is_gone(engine));
    until(AT_ONCE, "the guard is gone", || stuck.device.guards().is_empty());
    stuck.check();
}

#[test]
fn an_ordinary_users_guard_frees_who_waits_through_the_kernels_control_files() {
    if !Device::can_mount() {
        return;
    }
    let (_open, _connections) = (OpenDevice::new(), Connections::show());
    let device = Device::of_user_with("norbert", NOBODY, &[("OUROBOX_READ_DEADLINE_MS", DEADLINE_MS)]);
    let stuck = Stuck::new(device);
    let engine = stuck.kill_engine();
    until(AT_ONCE, "the engine is gone", || is_gone(engine));
    stuck.check();
}

#[test]
fn without_a_guard_the_next_start_ends_what_is_left_of_a_killed_engine() {
    if !Device::can_mount() {
        return;
    }
    let stuck = Stuck::new(Device::with_variables("anna", &[("OUROBOX_READ_DEADLINE_MS", DEADLINE_MS)]));
    let guards = stuck.device.guards();
    assert_eq!(guards.len(), 1);
    guards.into_iter().for_each(kill);
    let engine = stuck.kill_engine();
    for _ in 0..LOOKS {
        assert!(!is_gone(engine), "the engine could end by itself: this shows nothing");
        pause();
    }
    // Also a question alone finds it out instead of waiting for an answer.
    let outcome = stuck.device.ourobox(&["status"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    until(AT_ONCE, "the engine is gone", || is_gone(engine));
    stuck.check();
}
