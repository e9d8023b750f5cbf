//! Waiting for what other processes do.

use std::time::{Duration, Instant};

/// What two devices that are online may take to show each other's changes.
pub const SOON: Duration = Duration::from_secs(5);

/// Longer than anything that ends at all, on a busy machine.
pub const EVER: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks again and again until `holds`; returns how long that took.
///
/// # Panics
///
/// If it does not hold within `limit`.
pub fn until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        pause();
    }
    began.elapsed()
}

/// The pause between two looks at another process.
pub fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}

/// Whether the long variants are wanted (`OUROBOX_LONG=1`).
pub fn is_long() -> bool {
    std::env::var_os("OUROBOX_LONG").is_some_and(|value| value == "1")
}
