//! Who holds the turn to run an engine: written in the lock file, so that others can tell a working engine from one that is dying.
//!
//! A killed engine may be unable to end (see [`Connection`]): then it keeps the lock, and the programs in its mounts wait for ever. Whoever
//! finds that ends its connections, and the kernel ends the rest.

use anyhow::{Context, Result};
use ouro_fuse::Connection;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The kernel's mark of a thread that is on its way out, in the flags of `/proc/PID/stat`.
const EXITING: u64 = 0x4;

/// SIGKILL among pending signals.
const KILL: u64 = 1 << 8;

/// What the holder writes about itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    /// When it was started, in ticks since the machine's start: tells it from a later process with the same number.
    started: u64,
    mounts: Vec<Held>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    device: String,
    mountpoint: PathBuf,
}

/// Writes into the lock file that this process holds it, and its mounts. Those with names that are no UTF-8 are left out.
///
/// # Errors
///
/// If that cannot be written; what stands there then says nothing.
pub(crate) fn note(lock: &File, connections: &[Connection]) -> Result<()> {
    let pid = std::process::id();
    let started = Life::of(pid).context("this process is not listed in /proc")?.started;
    let nameable = connections.iter().filter(|connection| connection.mountpoint.to_str().is_some());
    let mounts = nameable.map(|c| Held { device: c.device.clone(), mountpoint: c.mountpoint.clone() }).collect();
    let text = serde_json::to_vec(&Holder { pid, started, mounts })?;
    // Cut first: a reader in between finds something that it cannot understand, and looks again.
    lock.set_len(0).and_then(|()| lock.write_all_at(&text, 0)).context("cannot write into the engine's lock file")
}

/// Ends the mounts' connections of a holder that is dying. Returns whether it is; a living one is left alone.
///
/// # Errors
///
/// If the file cannot be read, or a connection cannot be ended.
pub(crate) fn end_if_dying(lock_file: &Path) -> Result<bool> {
    let text = match std::fs::read(lock_file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", lock_file.display())),
    };
    // An older engine wrote nothing.
    let Ok(Holder { pid, started, mounts }) = serde_json::from_slice(&text) else { return Ok(false) };
    if !Life::of(pid).is_some_and(|life| life.started == started && life.is_ending) {
        return Ok(false);
    }
    for Held { device, mountpoint } in mounts {
        if (Connection { device, mountpoint: mountpoint.clone() }).abort()? {
            tracing::warn!(pid, mountpoint = %mountpoint.display(), "ended the mount of an engine that was killed");
        }
    }
    Ok(true)
}

/// What `/proc` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Life {
    started: u64,
    /// It will run no more of its own code: it was killed, or is being taken down.
    is_ending: bool,
}

impl Life {
    /// `None` if there is no such process.
    fn of(pid: u32) -> Option<Life> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Life::from(&stat, &status)
    }

    /// From the texts of `/proc/PID/stat` and `/proc/PID/status` (proc(5)), which are those of the process's first thread.
    fn from(stat: &str, status: &str) -> Option<Life> {
        // The fields after the program's name, which stands in brackets: the first is the third.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let (state, flags) = (*fields.first()?, fields.get(6)?.parse::<u64>().ok()?);
        let pending = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
        };
        let killed = (pending("SigPnd") | pending("ShdPnd")) & KILL != 0;
        let is_ending = killed || flags & EXITING != 0 || matches!(state, "Z" | "X");
        Some(Life { started: fields.get(19)?.parse().ok()?, is_ending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(state: &str, flags: u64, pending: u64) -> Life {
        let stat = format!("7 (our) box) {state} 1 7 7 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 4711 1000 10");
        Life::from(&stat, &format!("Name:\tx\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\n", 0)).expect("understood")
    }

    #[test]
    fn a_killed_and_an_exiting_process_are_dying_and_others_are_not() {
        for (state, flags, pending) in [("S", 0x40_0040, 0), ("D", 0x40_0040, 1 << 14), ("T", 0x40_0040, 0)] {
            assert_eq!(life(state, flags, pending), Life { started: 4711, is_ending: false }, "{state}");
        }
        for (state, flags, pending) in [("Z", 0x40_0040, 0), ("D", 0x40_0044, 0), ("D", 0x40_0040, KILL)] {
            assert_eq!(life(state, flags, pending), Life { started: 4711, is_ending: true }, "{state}");
        }
    }

    #[test]
    fn this_process_lives_and_one_that_never_was_does_not() {
        let living = Life::of(std::process::id()).expect("it is there");
        assert!(!living.is_ending && living.started > 0);
        assert_eq!(Life::of(u32::MAX - 1), None);
    }

    #[test]
    fn a_living_holder_and_an_unreadable_note_are_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("engine.lock");
        assert!(!end_if_dying(&path).expect("nothing there"));
        let lock = File::create(&path).expect("made");
        assert!(!end_if_dying(&path).expect("nothing in it"));
        let mount = Connection { device: "0:1".into(), mountpoint: "/nowhere".into() };
        note(&lock, std::slice::from_ref(&mount)).expect("written");
        assert!(!end_if_dying(&path).expect("readable"));
        note(&lock, &[]).expect("written over");
        let holder: Holder = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("whole");
        assert_eq!((holder.pid, holder.mounts), (std::process::id(), Vec::new()));
    }

    #[test]
    fn a_dead_child_that_nobody_waited_for_is_dying() {
        let mut child = std::process::Command::new("true").spawn().expect("it runs");
        let pid = child.id();
        while !Life::of(pid).expect("not waited for").is_ending {
            std::thread::yield_now();
        }
        child.wait().expect("waited");
        assert_eq!(Life::of(pid), None);
    }
}
