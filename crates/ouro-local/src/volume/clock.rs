//! This device's clock as its commits have it.
//!
//! Readers never correct a stamp. A writer goes by the storage's clock where that is known, stays above everything it has seen, and does not
//! follow a clock that runs far ahead: only what it touches must be exceeded, whatever its stamp (`ouro_core::edit::hlc_floor`).

use super::Volume;
use super::state::State;
use ouro_core::id::{DeviceNo, Hlc};

/// A remote clock may be this far ahead before it no longer moves ours (format.md, "Clock").
const CLOCK_AHEAD_MAX_MS: u64 = 5 * 60 * 1000;

impl Volume {
    /// Says what is to be added to this device's clock to have the storage's, in milliseconds. Commits are stamped with it; times of files
    /// are not.
    pub fn correct_clock(&self, offset_ms: i64) {
        self.state.write().clock_offset_ms = offset_ms;
    }

    /// The time by which commits are stamped.
    pub(super) fn wall(&self, state: &State) -> Hlc {
        let millis = (self.now_ns() / 1_000_000).saturating_add(state.clock_offset_ms);
        Hlc::from_millis(millis.max(0).cast_unsigned())
    }

    /// Moves the clock on to a commit's stamp, unless another device's clock runs far ahead.
    pub(super) fn heed_clock(&self, state: &mut State, device: DeviceNo, stamp: Hlc) {
        if device == state.device || stamp.millis() <= self.wall(state).millis() + CLOCK_AHEAD_MAX_MS {
            state.clock = state.clock.max(stamp);
        }
    }

    /// Moves the clock on to the stamps of the newest commits known.
    pub(super) fn heed_heads(&self, state: &mut State) {
        let stamps: Vec<(DeviceNo, Hlc)> = state.heads.iter().map(|(device, head)| (*device, head.hlc)).collect();
        stamps.into_iter().for_each(|(device, stamp)| self.heed_clock(state, device, stamp));
    }
}
