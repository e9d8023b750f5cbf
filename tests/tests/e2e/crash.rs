//! An engine that dies at any moment loses nothing that was promised, and shows nothing that never was.

use ouro_tests::{Device, EVER, Place, Pseudo, is_long};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Names that each writer uses again and again.
const NAMES: usize = 12;
/// Bytes of a block; each says whose it is.
const BLOCK: usize = 512;
/// Longest file in blocks.
const BLOCKS_MAX: usize = 300;

/// Content `version` of a file: blocks that say file, version and position, and nothing else.
fn content(file: u64, version: u64, blocks: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(blocks * BLOCK);
    for position in 0..blocks {
        let mut block = format!("{file:08x}.{version:08x}.{position:08x}.").into_bytes();
        block.extend(Pseudo::new(file << 40 | version << 16 | position as u64).bytes(BLOCK - block.len()));
        bytes.extend(block);
    }
    bytes
}

/// The version of the content that starts so.
fn version_of(bytes: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(bytes.get(9..17)?).ok()?, 16).ok()
}

/// What a file is called: a bare number could be one that is never synced, as vim's 4913.
fn name_of(file: u64) -> String {
    format!("file {file}")
}

/// What is known of the files of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// By file: the newest version that was fsynced under its name, and how many blocks it has.
    pub(crate) synced: BTreeMap<u64, (u64, usize)>,
    /// By file: the newest version begun, with its blocks.
    pub(crate) begun: BTreeMap<u64, BTreeMap<u64, usize>>,
}

/// Replaces files by rename, with fsync, until the mount is gone.
pub(crate) fn replace(folder: &Path, known: &Mutex<Known>, versions: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut random = Pseudo::new(versions.load(Ordering::Relaxed));
    while !stop.load(Ordering::Relaxed) {
        let file = random.below(NAMES) as u64;
        let (version, blocks) = (versions.fetch_add(1, Ordering::Relaxed), 1 + random.below(BLOCKS_MAX));
        known.lock().expect("sound").begun.entry(file).or_default().insert(version, blocks);
        let temporary = folder.join(format!("file {file}.new"));
        let mut handle = File::create(&temporary)?;
        handle.write_all(&content(file, version, blocks))?;
        handle.sync_all()?;
        fs::rename(&temporary, folder.join(name_of(file)))?;
        File::open(folder)?.sync_all()?;
        known.lock().expect("sound").synced.insert(file, (version, blocks));
    }
    Ok(())
}

/// Writes files of their own piece by piece, some with fsync at the end, until the mount is gone.
pub(crate) fn append(folder: &Path, known: &Mutex<Known>, versions: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut random = Pseudo::new(!versions.load(Ordering::Relaxed));
    while !stop.load(Ordering::Relaxed) {
        let (file, blocks) = (versions.fetch_add(1, Ordering::Relaxed), 1 + random.below(BLOCKS_MAX));
        known.lock().expect("sound").begun.entry(file).or_default().insert(0, blocks);
        let bytes = content(file, 0, blocks);
        let mut handle = OpenOptions::new().create_new(true).append(true).open(folder.join(name_of(file)))?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (part, left) = rest.split_at(rest.len().min(1 + random.below(40_000)));
            handle.write_all(part)?;
            rest = left;
        }
        if file.is_multiple_of(2) {
            handle.sync_all()?;
            File::open(folder)?.sync_all()?;
            known.lock().expect("sound").synced.insert(file, (0, blocks));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{} cannot be read: {error}", path.display()),
    }
}

/// Holds replaced files against what is known: each is whole, and no older than the newest that was fsynced.
pub(crate) fn check_replaced(whose: &str, folder: &Path, known: &Known, at_least: &BTreeMap<u64, (u64, usize)>) {
    for (file, versions) in &known.begun {
        let Some(bytes) = read(&folder.join(name_of(*file))) else {
            assert!(!at_least.contains_key(file), "{whose}: file {file} was promised and is gone");
            continue;
        };
        let version =
            version_of(&bytes).unwrap_or_else(|| panic!("{whose}: file {file} holds {} strange bytes", bytes.len()));
        let blocks =
            versions.get(&version).unwrap_or_else(|| panic!("{whose}: file {file} never had version {version}"));
        assert!(bytes == content(*file, version, *blocks), "{whose}: file {file}, version {version}, is not whole");
        if let Some((promised, _)) = at_least.get(file) {
            assert!(version >= *promised, "{whose}: file {file} fell back from {promised} to {version}");
        }
    }
}

/// Holds appended files against what is known: what was fsynced is whole, everything else is a beginning.
pub(crate) fn check_appended(whose: &str, folder: &Path, known: &Known, whole: &BTreeMap<u64, (u64, usize)>) {
    for (file, versions) in &known.begun {
        let expected = content(*file, 0, versions[&0]);
        match read(&folder.join(name_of(*file))) {
            None => assert!(!whole.contains_key(file), "{whose}: file {file} was promised and is gone"),
            Some(bytes) if whole.contains_key(file) => {
                assert!(
                    bytes == expected,
                    "{whose}: file {file} was promised and is not whole: {} of {}",
                    bytes.len(),
                    expected.len()
                );
            }
            Some(bytes) => {
                assert!(expected.starts_with(&bytes), "{whose}: file {file} holds bytes that were never written to it");
            }
        }
    }
}

/// Starts an `ourobox wait` that may be cut off.
fn start_wait(device: &Device) -> Child {
    let mut command = device.command(ouro_tests::ourobox_binary());
    command.args(["wait", "--all", "--timeout", "60"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("ourobox runs")
}

#[test]
fn a_killed_engine_keeps_what_was_fsynced_and_what_wait_acknowledged() {
    if !Device::can_mount() {
        return;
    }
    let rounds = if is_long() { 200 } else { 10 };
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    for folder in ["replaced", "appended"] {
        fs::create_dir(a.at(folder)).expect("made");
    }
    a.wait();
    let (replaced, appended) = (Mutex::new(Known::default()), Mutex::new(Known::default()));
    let (replaced_versions, appended_versions) = (AtomicU64::new(1), AtomicU64::new(1));
    let mut random = Pseudo::new(std::env::var("OUROBOX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1));
    let (mut acknowledged, mut acknowledgements) = ((BTreeMap::new(), BTreeMap::new()), 0);
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let first_new = appended_versions.load(Ordering::Relaxed);
        let life = Duration::from_millis(100 + random.below(1_500) as u64);
        let (at_replaced, at_appended): (PathBuf, PathBuf) = (a.at("replaced"), a.at("appended"));
        std::thread::scope(|scope| {
            // They end when the mount dies under them; what they were told until then is what counts.
            scope.spawn(|| replace(&at_replaced, &replaced, &replaced_versions, &stop));
            scope.spawn(|| append(&at_appended, &appended, &appended_versions, &stop));
            let began = Instant::now();
            // The last round lives until there was an acknowledgement: an engine that no longer syncs gives none.
            let lives = |acknowledgements: usize| {
                let must = round + 1 == rounds && acknowledgements == 0;
                began.elapsed() < if must { EVER } else { life }
            };
            while lives(acknowledgements) {
                let asked =
                    (replaced.lock().expect("sound").synced.clone(), appended.lock().expect("sound").synced.clone());
                let mut wait = start_wait(&a);
                while lives(acknowledgements) {
                    if let Some(status) = wait.try_wait().expect("waited") {
                        if status.success() {
                            acknowledged = asked;
                            acknowledgements += 1;
                        }
                        break;
                    }
                    ouro_tests::pause();
                }
                if wait.try_wait().expect("waited").is_none() {
                    wait.kill().expect("it runs");
                    wait.wait().expect("waited");
                }
            }
            a.kill_engine();
            stop.store(true, Ordering::Relaxed);
        });
        a.mount();
        let (replaced, appended) = (replaced.lock().expect("sound").clone(), appended.lock().expect("sound").clone());
        let whose = format!("round {round}");
        // Older ones are looked at when all rounds are over.
        let mut appended = appended;
        appended.begun.retain(|file, _| *file >= first_new);
        check_replaced(&whose, &a.at("replaced"), &replaced, &replaced.synced);
        check_appended(&whose, &a.at("appended"), &appended, &appended.synced);
    }
    assert!(acknowledgements > 0, "nothing was ever acknowledged");

    // Should A never come back: what it had acknowledged is on a device that joins now.
    a.kill_engine();
    b.join(&place);
    b.mount();
    let (replaced, appended) = (replaced.lock().expect("sound").clone(), appended.lock().expect("sound").clone());
    check_replaced("on the other device", &b.at("replaced"), &replaced, &acknowledged.0);
    check_appended("on the other device", &b.at("appended"), &appended, &acknowledged.1);
    // It does come back: both see all.
    a.mount();
    a.wait();
    ouro_tests::until(EVER, "B sees all that A has", || ouro_tests::look_same(&a.mountpoint(), &b.mountpoint()));
    let report = b.json(&["check", "--read-data"]);
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
}

#[test]
fn bytes_overwritten_in_place_and_fsynced_survive_a_killed_engine() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    let path = a.at("large");
    let mut expected = Pseudo::new(3).bytes(3 << 20);
    fs::write(&path, &expected).expect("written");
    a.wait();
    let mut random = Pseudo::new(4);
    for round in 0..5_u8 {
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        for _ in 0..20 {
            let (at, part) = (random.below(3 << 20), vec![round; 1 + random.below(9_000)]);
            let part = &part[..part.len().min((3 << 20) - at)];
            file.write_all_at(part, at as u64).expect("written");
            expected[at..at + part.len()].copy_from_slice(part);
        }
        file.sync_data().expect("durable");
        // Beyond what was fsynced: may be there or not.
        file.write_all_at(b"maybe", (3 << 20) + 100).expect("written");
        a.kill_engine();
        drop(file);
        a.mount();
        let mut found = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut found)).expect("read");
        assert!(found[..3 << 20] == expected[..], "round {round}: fsynced bytes are not there");
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(3 << 20)).expect("cut");
    }
}
