//! Power cuts: the disk as it is at one instant, with all that lay in memory gone.

use crate::crash::{Known, append, check_appended, check_replaced, replace};
use ouro_tests::{Device, Place, Pseudo, is_long};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Size of the disk that loses its power.
const DISK: &str = "400M";
/// Copies of a disk that somebody wrote to meanwhile are made again this often.
const COPIES_MAX: usize = 50;

/// A file system in a file, mounted where a device keeps everything.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(device: &Device) -> Disk {
        let disk = Disk { image: device.beside("disk"), at: device.home() };
        tool(Command::new("truncate").args(["-s", DISK]).arg(&disk.image));
        tool(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        disk.plug_in();
        disk
    }

    fn plug_in(&self) {
        tool(Command::new("mount").args(["-o", "loop,user_xattr"]).arg(&self.image).arg(&self.at));
    }

    /// Bytes that were written to it, in sectors.
    fn written(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        let at = self.at.display().to_string();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&at)).expect("it is mounted");
        let device = Path::new(line.split(' ').next().expect("a device")).file_name().expect("in /dev").to_owned();
        let figures = fs::read_to_string(Path::new("/sys/block").join(device).join("stat")).expect("it is a disk");
        figures.split_whitespace().skip(4).take(3).collect::<Vec<_>>().join(" ")
    }

    /// Copies what has reached it, at one instant.
    fn copy(&self) -> PathBuf {
        let copy = self.image.with_extension("copy");
        for _ in 0..COPIES_MAX {
            let before = self.written();
            tool(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&copy));
            if self.written() == before {
                return copy;
            }
        }
        panic!("the disk is never still");
    }

    /// Goes on with a copy.
    fn replace_by(&self, copy: &Path) {
        tool(Command::new("umount").arg(&self.at));
        fs::rename(copy, &self.image).expect("renamed");
        self.plug_in();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let quiet = Command::new("umount").arg("-l").arg(&self.at).status();
        if !quiet.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}

fn tool(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

#[test]
fn after_a_power_cut_what_was_fsynced_is_there_and_nothing_strange() {
    if !Device::can_mount() {
        return;
    }
    if !Path::new("/dev/loop-control").exists() {
        eprintln!("left out: this machine has no loop devices, so that no disk can lose its power");
        return;
    }
    let cuts = if is_long() { 50 } else { 3 };
    let place = Place::folder();
    let a = Device::with_variables("anna", &[("OUROBOX_FREE_BYTES_MIN", "1000000")]);
    let disk = Disk::new(&a);
    a.init(&place);
    a.mount();
    for folder in ["replaced", "appended"] {
        fs::create_dir(a.at(folder)).expect("made");
    }
    a.wait();
    let (replaced, appended) = (Mutex::new(Known::default()), Mutex::new(Known::default()));
    let (replaced_versions, appended_versions) = (AtomicU64::new(1), AtomicU64::new(1));
    let mut random = Pseudo::new(9);
    for cut in 0..cuts {
        let stop = AtomicBool::new(false);
        let (at_replaced, at_appended) = (a.at("replaced"), a.at("appended"));
        let copy = std::thread::scope(|scope| {
            // They end when the mount dies under them.
            scope.spawn(|| replace(&at_replaced, &replaced, &replaced_versions, &stop));
            scope.spawn(|| append(&at_appended, &appended, &appended_versions, &stop));
            let (_never, nothing) = std::sync::mpsc::channel::<()>();
            let life = Duration::from_millis(200 + random.below(1_500) as u64);
            assert!(nothing.recv_timeout(life).is_err(), "this only lets time pass");
            a.stop_engine();
            let copy = disk.copy();
            stop.store(true, Ordering::Relaxed);
            a.kill_engine();
            copy
        });
        a.clear_dead_mount();
        disk.replace_by(&copy);
        a.mount();
        let whose = format!("cut {cut}");
        let (replaced, appended) = (replaced.lock().expect("sound").clone(), appended.lock().expect("sound").clone());
        check_replaced(&whose, &a.at("replaced"), &replaced, &replaced.synced);
        // Data beyond an fsync may be gone while its place is kept, as on any disk: only what was promised is looked at.
        let promised = Known {
            begun: appended.begun.into_iter().filter(|(file, _)| appended.synced.contains_key(file)).collect(),
            synced: appended.synced,
        };
        check_appended(&whose, &a.at("appended"), &promised, &promised.synced);
    }
    // The device goes on as if nothing had been: it does not take itself for another.
    a.wait();
    let report = a.json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    let b = Device::new("berta");
    b.join(&place);
    b.mount();
    let (replaced, appended) = (replaced.lock().expect("sound").clone(), appended.lock().expect("sound").clone());
    check_replaced("on the other device", &b.at("replaced"), &replaced, &replaced.synced);
    let promised = Known {
        begun: appended.begun.into_iter().filter(|(file, _)| appended.synced.contains_key(file)).collect(),
        synced: appended.synced,
    };
    check_appended("on the other device", &b.at("appended"), &promised, &promised.synced);
    a.umount();
}
