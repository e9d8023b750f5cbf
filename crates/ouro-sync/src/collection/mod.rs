//! Collection: what nothing needs any more goes from the remote, and nothing that anything needs ever does.
//!
//! A collection has two halves, and between them every live device says that it knows.
//!
//! 1. *Begin.* Commits are thinned to what retention keeps; each state that stays gets a tree of its own ([`pins`]). Everything that those
//!    trees and the records that stay refer to is live ([`mark`]). What holds little that is live is condemned, its live rest is copied, and
//!    a collection says all that on the remote ([`begin`]). Nothing has gone yet.
//! 2. *Acknowledge.* Every live device takes note: it brings itself up to date, publishes what it has sealed, forgets that it could refer
//!    to condemned objects, and says so in its hint and its records ([`acknowledge`]).
//! 3. *Finish.* When all have, and the time of grace has passed, everything is marked again from every log: what came to be referred to
//!    meanwhile is released. Then the rest goes ([`finish`]), and so do hidden records that everybody knew to be hidden ([`purge`]).
//!
//! Known to hold at each step, and why, stands at its function. Any of them may be interrupted anywhere and begun again.

mod acknowledge;
mod begin;
mod finish;
mod mark;
mod pins;
mod purge;
mod sizes;

pub(crate) use acknowledge::{LOOK_BEFORE_PUT_MS, LOOK_MS, collected_of, newest_and_before};
use ouro_core::id::DeviceNo;
use ouro_core::retention::Retention;
use ouro_local::volume::{Cut, Head};
use ouro_repo::{Covered, Pin};

/// Between the beginning of a collection and its end lies at least so much of the storage's time.
pub const GRACE_MS: u64 = 48 * 3_600_000;
/// A device from which nothing was heard for so long is not waited for any more.
pub const EXPIRY_MS: u64 = 60 * 24 * 3_600_000;

/// How a collection is made.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// What stays of the past.
    pub retention: Retention,
    /// Least time between the two halves. Shorter than [`GRACE_MS`] is safe only if no device can have joined that a list does not show
    /// yet: devices that are known are waited for in any case.
    pub grace_ms: u64,
    /// Nothing is written and nothing goes.
    pub dry_run: bool,
}

impl Default for CollectOptions {
    fn default() -> Self {
        CollectOptions { retention: Retention::default(), grace_ms: GRACE_MS, dry_run: false }
    }
}

/// How far a collection came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It was only looked what would go.
    Looked,
    /// There is nothing to collect.
    Nothing,
    /// These devices have not acknowledged it yet.
    Waiting(Vec<DeviceNo>),
    /// All have; so many milliseconds of grace are left.
    Grace(u64),
    /// What was condemned is gone.
    Ended,
}

/// What a collection found and did. Bytes are as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How far it came.
    pub stage: Stage,
    /// Objects on the remote that the collection is about: packs, node packs, records.
    pub objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Bytes of what is live in them.
    pub live_bytes: u64,
    /// Bytes of files in the newest state, each as often as it is seen.
    pub logical_bytes: u64,
    /// Bytes that go (or would), less those of copies that are made.
    pub reclaimed_bytes: u64,
    /// States of the past that stay beyond those of which all records do.
    pub kept: u64,
    /// Commits whose state is kept no more.
    pub thinned: u64,
    /// Objects that went, or would.
    pub gone: u64,
    /// Hidden records of the index that went.
    pub purged: u64,
}

/// A cut as a collection names it.
fn pin_of(root: Option<ouro_core::tree::NodeRef>, cut: &Cut) -> Pin {
    let covers =
        cut.iter().map(|(device, head)| Covered { device: *device, seq: head.seq, hash: head.hash, hlc: head.hlc });
    Pin { root, covers: covers.collect() }
}

/// A collection's cut as the volume names it.
pub(crate) fn cut_of(pin: &Pin) -> Cut {
    pin.covers.iter().map(|c| (c.device, Head { seq: c.seq, hash: c.hash, hlc: c.hlc })).collect()
}

/// Whether a cut holds all of another.
pub(crate) fn holds(far: &Cut, near: &Cut) -> bool {
    near.iter().all(|(device, head)| far.get(device).is_some_and(|known| known.seq >= head.seq))
}
