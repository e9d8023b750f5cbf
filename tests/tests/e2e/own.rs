//! What each device keeps to itself: ignored names, owners, locks.

use ouro_tests::{Device, EVER, NOBODY, Place, until};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};

/// Two devices with one box; the second one joins when the first has written what `write` does.
fn two(place: &Place, write: impl FnOnce(&Device)) -> (Device, Device) {
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(place);
    a.mount();
    write(&a);
    a.wait();
    b.join(place);
    b.mount();
    (a, b)
}

#[test]
fn ignored_names_are_files_like_others_here_and_nowhere_else() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| {
        fs::write(a.at(".ouroignore"), "*.log\nbuild/\n!kept.log\n").expect("written");
        fs::create_dir_all(a.at("build/deep")).expect("made");
        for name in ["build/deep/object", "run.log", "kept.log", "film.part", ".a.swp", "text"] {
            fs::write(a.at(name), name).expect("written");
        }
    });
    let names = |device: &Device| -> Vec<String> {
        let entries = fs::read_dir(device.mountpoint()).expect("listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&b), [".ouroignore", "kept.log", "text"]);
    a.remount();
    for name in ["build/deep/object", "run.log", "film.part", ".a.swp"] {
        assert_eq!(fs::read_to_string(a.at(name)).expect("kept here"), name);
    }
    // Under a name that is not ignored it is everybody's.
    fs::rename(a.at("film.part"), a.at("film")).expect("renamed");
    a.wait();
    until(EVER, "B has the film", || fs::read_to_string(b.at("film")).is_ok_and(|text| text == "film.part"));
}

#[test]
fn owners_are_noted_here_and_mean_nothing_elsewhere() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| {
        fs::write(a.at("file"), "text").expect("written");
        std::os::unix::fs::chown(a.at("file"), Some(NOBODY), Some(NOBODY)).expect("root may");
    });
    let owner = |device: &Device| {
        let metadata = fs::metadata(device.at("file")).expect("there");
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner(&a), (NOBODY, NOBODY));
    a.remount();
    assert_eq!(owner(&a), (NOBODY, NOBODY));
    assert_eq!(owner(&b), (0, 0), "elsewhere it belongs to who mounted");
}

#[test]
fn locks_hold_among_the_programs_of_one_device() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| fs::write(a.at("file"), "text").expect("written"));
    let open = |device: &Device| File::open(device.at("file")).expect("opened");
    let (first, second, elsewhere) = (open(&a), open(&a), open(&b));
    flock(&first, FlockOperation::LockExclusive).expect("free");
    let refused = flock(&second, FlockOperation::NonBlockingLockExclusive).expect_err("it is locked");
    assert_eq!(refused, rustix::io::Errno::WOULDBLOCK);
    flock(&elsewhere, FlockOperation::NonBlockingLockExclusive).expect("nobody asks the other device");
    drop(first);
    // The kernel tells a mount of a closed file only after the program goes on.
    until(EVER, "free again", || flock(&second, FlockOperation::NonBlockingLockExclusive).is_ok());
}

/// Takes a POSIX lock on a range of bytes (`now` or `wait` for it), or asks who has it (`ask`); says how it went, and keeps it until its input ends.
const LOCKER: &str = r"
import fcntl, os, struct, sys
path, how, start, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
file = open(path, 'r+b', buffering=0)
# struct flock: type, whence, start, length, process
lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
try:
    found = fcntl.fcntl(file, {'now': fcntl.F_SETLK, 'wait': fcntl.F_SETLKW, 'ask': fcntl.F_GETLK}[how], lock)
except OSError as error:
    print('refused' if error.errno in (11, 13) else error, flush=True)
    sys.exit(0)
if how == 'ask':
    kind, _, first, bytes, process = struct.unpack('hhqqi4x', found)
    print('free' if kind == fcntl.F_UNLCK else f'{process} {first} {bytes}', flush=True)
    sys.exit(0)
print('locked', flush=True)
sys.stdin.read()
";

/// A program that locks bytes of a file.
struct Locker {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Locker {
    fn start(device: &Device, path: &Path, how: &str, start: u64, length: u64) -> Locker {
        let mut command = device.command("python3");
        command.args(["-c", LOCKER]).arg(path).args([how, &start.to_string(), &length.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Locker { child, said }
    }

    /// The next line that it says.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it says something");
        line.trim_end().to_owned()
    }

    /// Ends it in its tracks: it gives nothing back by itself.
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("waited");
    }
}

#[test]
fn locks_on_ranges_of_bytes_hold_between_processes_while_their_file_is_committed_and_changed_elsewhere() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let (a, b) = two(&place, |a| fs::write(a.at("file"), "ten bytes.and ten more").expect("written"));
    let path = a.at("file");
    let asks = |how: &str, start, length| {
        let mut locker = Locker::start(&a, &path, how, start, length);
        let said = locker.says();
        locker.kill();
        said
    };
    let mut first = Locker::start(&a, &path, "now", 0, 10);
    assert_eq!(first.says(), "locked");
    assert_eq!(asks("now", 5, 10), "refused", "half of it is another's");
    assert_eq!(asks("now", 10, 10), "locked", "nobody has these bytes");
    assert_eq!(asks("ask", 0, 0), format!("{} 0 10", first.child.id()), "who asks is told who has it");

    // Not even a commit, a new name or another device's edit takes it from who has it.
    let mut elsewhere = Locker::start(&b, &b.at("file"), "now", 0, 10);
    assert_eq!(elsewhere.says(), "locked", "nobody asks the other device");
    elsewhere.kill();
    fs::write(&path, "edited here, while it is locked").expect("these locks are advice");
    a.wait();
    fs::rename(&path, a.at("moved")).expect("renamed");
    fs::rename(a.at("moved"), &path).expect("renamed");
    a.wait();
    until(EVER, "B has it", || fs::read(b.at("file")).is_ok_and(|text| text == b"edited here, while it is locked"));
    fs::write(b.at("file"), "edited there, while it is locked here").expect("written");
    until(EVER, "A has what B wrote", || {
        fs::read(&path).is_ok_and(|text| text == b"edited there, while it is locked here")
    });
    assert_eq!(asks("now", 0, 1), "refused");

    let mut second = Locker::start(&a, &path, "wait", 0, 10);
    until(EVER, "it waits for the lock", || {
        let locks = fs::read_to_string("/proc/locks").expect("readable");
        let process = second.child.id().to_string();
        locks.lines().any(|line| line.contains(" -> ") && line.split_whitespace().any(|field| field == process))
    });
    first.kill();
    assert_eq!(second.says(), "locked", "who waits has it when its holder dies");
    assert_eq!(asks("now", 9, 1), "refused");
    second.kill();
    assert_eq!(asks("ask", 0, 0), "free");
}
