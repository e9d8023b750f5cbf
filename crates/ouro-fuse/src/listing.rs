//! Fills the kernel's buffer with a directory's entries.

use crate::carry::Carrier;
use crate::convert::{attributes, file_type};
use crate::door::{FOR_EVER, lifetime};
use crate::errno::code;
use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use ouro_vfs::{Caller, DirectoryEntry, Errno, Listed, NodeNo, Stop, Vfs};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Entries asked for at once, step by step; the last one is repeated. Each step finds the directory anew, so few are better; but fuser does
/// not say how large the kernel's buffer is, and what does not fit was looked up for nothing. It is a page (some 20 entries) before Linux 6.16
/// and as large as the reader's since then (32 KiB, some 160 to 190 entries).
const STEPS_ENTRIES: [usize; 4] = [32, 64, 64, 32];

/// A reply with room for entries.
pub(crate) trait Listing: Send + 'static {
    /// Entries in it count as looked up by the kernel.
    const LOOKS_UP: bool;
    /// Adds an entry; false if there is no room for it.
    fn add(&mut self, entry: &DirectoryEntry, lifetime: Duration) -> bool;
    fn ok(self);
    fn error(self, errno: Errno);
}

/// A listing of names and kinds.
pub(crate) struct Names(pub(crate) ReplyDirectory);

/// A listing with attributes: saves the kernel a lookup per entry.
pub(crate) struct WithAttributes(pub(crate) ReplyDirectoryPlus);

impl Listing for Names {
    const LOOKS_UP: bool = false;

    fn add(&mut self, entry: &DirectoryEntry, _: Duration) -> bool {
        !self.0.add(
            INodeNo(entry.stat.node.0),
            entry.cookie,
            file_type(entry.stat.kind),
            OsStr::from_bytes(&entry.name),
        )
    }

    fn ok(self) {
        self.0.ok();
    }

    fn error(self, errno: Errno) {
        self.0.error(code(errno));
    }
}

impl Listing for WithAttributes {
    const LOOKS_UP: bool = true;

    fn add(&mut self, entry: &DirectoryEntry, lifetime: Duration) -> bool {
        let attributes = attributes(&entry.stat);
        let name = OsStr::from_bytes(&entry.name);
        !self.0.add(attributes.ino, entry.cookie, name, &lifetime, &attributes, Generation(0))
    }

    fn ok(self) {
        self.0.ok();
    }

    fn error(self, errno: Errno) {
        self.0.error(code(errno));
    }
}

/// Answers with the entries of `directory` after `cookie`, as many as fit.
pub(crate) fn list<L: Listing>(carrier: &Carrier, caller: Caller, directory: NodeNo, cookie: u64, reply: L) {
    let first = move |vfs: &Vfs| vfs.readdir(&caller, directory, cookie, STEPS_ENTRIES[0]);
    carrier.run(caller.pid, reply, first, move |carrier, reply, result| match result {
        Ok(listed) => fill(carrier, &caller, directory, listed, reply),
        Err(errno) => reply.error(errno),
    });
}

/// Goes on from the first entries until the buffer is full or the directory ends. What must be waited for, and what fails, is left to the
/// kernel's next request: these entries are good.
fn fill<L: Listing>(carrier: &Carrier, caller: &Caller, directory: NodeNo, mut listed: Listed, mut reply: L) {
    // Names in a volatile directory must be asked for again, and a listing cannot tell names and attributes apart.
    let lifetime = lifetime(&carrier.vfs, directory);
    debug_assert!(lifetime <= FOR_EVER);
    let ended = listed.entries.is_empty();
    let mut step = 0;
    while let Some(last) = listed.entries.last() {
        let cookie = last.cookie;
        if !add_all(carrier, &listed.entries, lifetime, &mut reply) || listed.ends {
            break;
        }
        step = (step + 1).min(STEPS_ENTRIES.len() - 1);
        listed = match carrier.attempt(|vfs| vfs.readdir(caller, directory, cookie, STEPS_ENTRIES[step])) {
            Ok(listed) => listed,
            Err(Stop::Errno(_) | Stop::Wait(_)) => break,
        };
    }
    reply.ok();
    if ended {
        ready_next(carrier);
    }
    if ended && lifetime.is_zero() {
        // The kernel keeps what was listed to its end, if it opens directories by itself.
        carrier.drop_listing(directory);
    }
}

/// Makes ready what is likely to be listed next. Whoever was answered is busy with that, and the kernel's next request finds another thread.
/// What this misses of the index is brought: who asks next would wait for it. What fails is found again by who asks.
fn ready_next(carrier: &Carrier) {
    if let Err(Stop::Wait(wait)) = carrier.attempt(Vfs::ready_next) {
        let later = carrier.clone();
        carrier.runtime.spawn(Box::pin(async move {
            if wait.0.await.is_ok() {
                let _ready = later.attempt(Vfs::ready_next);
            }
        }));
    }
}

/// Adds entries while they fit and gives back the lookups of those the kernel will not count. False if one did not fit.
fn add_all<L: Listing>(carrier: &Carrier, entries: &[DirectoryEntry], lifetime: Duration, reply: &mut L) -> bool {
    let mut room = true;
    for entry in entries {
        room = room && reply.add(entry, lifetime);
        let counted = room && L::LOOKS_UP;
        if entry.looked_up && !counted {
            carrier.vfs.forget(entry.stat.node, 1);
        }
    }
    room
}
