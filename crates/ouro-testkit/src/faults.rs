//! Which faults there are, how often they happen, and the chance that decides.

/// How often each fault happens, in per mille of the calls it applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The call fails as unreachable and has no effect.
    pub lose_before: u32,
    /// The call takes effect, but its answer is lost: it fails as unreachable.
    pub lose_after: u32,
    /// A write that was lost before its effect lands later, before some other call, perhaps over something newer.
    pub land_late: u32,
    /// A publish leaves only the beginning of its bytes and fails as unreachable.
    pub torn_publish: u32,
    /// A write or delete takes effect twice.
    pub duplicate: u32,
    /// The storage asks to slow down (429).
    pub throttle: u32,
    /// The storage fails for a moment (503).
    pub server_error: u32,
    /// A list leaves out some of the newest publications and still shows some deleted objects.
    pub stale_list: u32,
    /// A get of a hint returns what it held before its last overwrite.
    pub stale_hint: u32,
    /// A publish does not look whether the name is taken: the last write wins.
    pub ignored_condition: u32,
}

impl Faults {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Some of each, but what takes dozens of calls mostly gets to its end: an ordinary day.
    pub fn breezy() -> Self {
        Self { lose_before: 4, lose_after: 4, torn_publish: 10, throttle: 2, server_error: 2, ..Self::stormy() }
    }

    /// Some of each: a bad day.
    pub fn stormy() -> Self {
        Self {
            lose_before: 60,
            lose_after: 60,
            land_late: 500,
            torn_publish: 40,
            duplicate: 60,
            throttle: 30,
            server_error: 30,
            stale_list: 200,
            stale_hint: 200,
            ignored_condition: 100,
        }
    }
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::get_range`].
    GetRange,
    /// [`Store::publish`].
    Publish,
    /// [`Store::overwrite`].
    Overwrite,
    /// [`Store::delete`].
    Delete,
    /// [`Store::list`].
    List,
}

/// A small generator (splitmix64): the seed's whole future is in one number.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn happens(&mut self, per_mille: u32) -> bool {
        self.next() % 1000 < u64::from(per_mille)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit.max(1) as u64)) as usize
    }
}
