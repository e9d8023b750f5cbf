//! A remote that does not answer: what is here works, what is not fails in time, and what was written goes up later.

use ouro_tests::{Device, EVER, Pair, Place, Pseudo, run, until};
use std::fs;
use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long an uncached read may take in these tests.
const DEADLINE_MS: &str = "3000";
/// The deadline, and what a busy machine adds.
const DEADLINE_AND_MORE: Duration = Duration::from_secs(8);

/// Changed files after which there is a checkpoint.
const FILES_FOR_A_CHECKPOINT: usize = 10_050;

fn is_out_of_reach(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(rustix::io::Errno::TIMEDOUT.raw_os_error())
        || errno == Some(rustix::io::Errno::NETUNREACH.raw_os_error())
}

#[test]
fn a_remote_that_does_not_answer_stops_neither_work_nor_a_start() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::with_variables("berta", &[("OUROBOX_READ_DEADLINE_MS", DEADLINE_MS)]));
    a.init(&place);
    a.mount();
    let (cached, uncached) = (Pseudo::new(1).bytes(3 << 20), Pseudo::new(2).bytes(3 << 20));
    fs::create_dir(a.at("folder")).expect("made");
    fs::write(a.at("folder/cached"), &cached).expect("written");
    fs::write(a.at("folder/uncached"), &uncached).expect("written");
    a.wait();
    b.join(&place);
    b.mount();
    until(EVER, "B holds the whole index", || b.json(&["status"])["boxes"][0]["index_complete"] == true);
    assert!(fs::read(b.at("folder/cached")).expect("read") == cached);

    place.server().stop();
    works_without_a_remote(&b, &cached, "written while away");
    b.umount();
    let began = Instant::now();
    b.mount();
    assert!(began.elapsed() < Duration::from_secs(15), "a start waited for the remote: {:?}", began.elapsed());
    works_without_a_remote(&b, &cached, "written after a start");

    // The reader is asked to end: it does so at once.
    // Whoever starts these tests in the background may have made them, and so their children, ignore Ctrl-C.
    let mut reader = b.command("env");
    reader.args(["--default-signal=INT", "cat"]).arg(b.at("folder/uncached"));
    let mut reader = reader.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cat runs");
    until(EVER, "cat waits for the mount", || is_waiting(reader.id()));
    let began = Instant::now();
    let pid = rustix::process::Pid::from_child(&reader);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let status = reader.wait().expect("waited");
    assert!(!status.success());
    assert!(began.elapsed() < Duration::from_millis(1_500), "Ctrl-C took {:?}", began.elapsed());

    let outcome = b.ourobox(&["wait", "--all", "--timeout", "2"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "one line: {outcome:?}");

    place.server().cont();
    b.wait();
    until(EVER, "A has what was written meanwhile", || {
        fs::read(a.at("folder/written while away")).is_ok_and(|bytes| bytes == b"offline")
            && fs::read(a.at("folder/written after a start")).is_ok_and(|bytes| bytes == b"offline")
    });
    until(EVER, "the uncached file can be read again", || {
        fs::read(b.at("folder/uncached")).is_ok_and(|bytes| bytes == uncached)
    });
}

fn works_without_a_remote(device: &Device, cached: &[u8], new: &str) {
    let began = Instant::now();
    let listed = fs::read_dir(device.at("folder")).expect("listed").count();
    assert!(listed >= 2, "{listed}");
    assert_eq!(fs::metadata(device.at("folder/uncached")).expect("known").len(), 3 << 20);
    assert!(fs::read(device.at("folder/cached")).expect("cached") == cached);
    fs::write(device.at("folder").join(new), "offline").expect("written");
    fs::File::open(device.at("folder").join(new)).and_then(|file| file.sync_all()).expect("durable here");
    assert!(began.elapsed() < Duration::from_secs(2), "local work waited: {:?}", began.elapsed());
    device.ok(&["status"]);

    let began = Instant::now();
    let error = fs::read(device.at("folder/uncached")).expect_err("it is not here");
    assert!(is_out_of_reach(&error), "{error}");
    assert!(began.elapsed() < DEADLINE_AND_MORE, "the error took {:?}", began.elapsed());
}

/// Whether a process sleeps in a read of a FUSE file.
fn is_waiting(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let asleep = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']));
    let call = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    asleep
        && program.ends_with("cat")
        && (call.contains("fuse") || call.contains("folio") || call.contains("request_wait") || call == "0")
}

#[test]
fn a_server_that_is_gone_is_an_error_at_once_and_joining_says_what_to_do() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::s3();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    let bytes = Pseudo::new(5).bytes(200_000);
    fs::write(a.at("file"), &bytes).expect("written");
    a.wait();
    let b = Device::with_variables("berta", &[("OUROBOX_READ_DEADLINE_MS", DEADLINE_MS)]);
    let arguments = b.remote_arguments(&place);
    b.join(&place);
    b.mount();
    let late = Device::new("late");
    late.remote_arguments(&place);
    drop(place);

    assert!(b.at("file").exists());
    let began = Instant::now();
    let error = fs::read(b.at("file")).expect_err("it is not here");
    assert!(is_out_of_reach(&error), "{error}");
    assert!(began.elapsed() < DEADLINE_AND_MORE, "the error took {:?}", began.elapsed());
    fs::write(a.at("later"), "kept").expect("written");
    assert_eq!(a.ourobox(&["wait", "--all", "--timeout", "1"]).code, Some(1));
    a.remount();
    assert_eq!(fs::read(a.at("later")).expect("kept here"), b"kept");
    assert!(fs::read(a.at("file")).expect("kept here") == bytes);

    let mut join = late.command(ouro_tests::ourobox_binary());
    join.arg("join").args(arguments);
    let outcome = run(&join);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "one line: {outcome:?}");
}

/// Deletes the index caches of a device that does not run, as somebody who clears caches does.
fn lose_the_index(device: &Device) {
    let mut folders = vec![device.home()];
    let mut lost = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed")) {
            if entry.file_type().expect("known").is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with("index.db") {
                fs::remove_file(entry.path()).expect("removed");
                lost += 1;
            }
        }
    }
    assert!(lost > 0, "there was no index");
}

#[test]
fn an_index_that_was_deleted_while_changes_waited_is_brought_back_at_the_next_start() {
    let Some(pair) = Pair::over(Place::folder) else { return };
    let Pair { a, b, place } = &pair;
    fs::create_dir(a.at("folder")).expect("made");
    for number in 0..FILES_FOR_A_CHECKPOINT {
        fs::File::create(a.at(format!("folder/{number}"))).expect("made");
    }
    a.wait();
    until(EVER, "there is a checkpoint", || a.stat("/checkpoints") > 0);
    pair.join();
    until(EVER, "B holds the whole index", || b.json(&["status"])["boxes"][0]["index_complete"] == true);

    let (there, away) = (place.data().to_owned(), place.data().with_extension("away"));
    fs::rename(&there, &away).expect("taken away");
    fs::write(b.at("folder/7"), "waits to be published").expect("written");
    b.umount();
    lose_the_index(b);
    let outcome = b.ourobox(&["fuse".as_ref(), b.mountpoint().as_os_str()]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "one line: {outcome:?}");
    assert!(outcome.stderr.contains("cannot be brought back"), "{outcome:?}");

    fs::rename(&away, &there).expect("brought back");
    b.mount();
    assert_eq!(fs::read_to_string(b.at("folder/7")).expect("read"), "waits to be published");
    b.wait();
    until(EVER, "A has it", || fs::read(a.at("folder/7")).is_ok_and(|bytes| bytes == b"waits to be published"));
}
