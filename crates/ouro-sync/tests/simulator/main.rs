//! Devices that work at the same time on one bad remote, crash and come back, in a world that follows from a seed.
//!
//! The engine's real code runs on simulated time, chance, disk and storage. `OUROBOX_HISTORIES` says how many histories are run,
//! `OUROBOX_SEED` runs a single one again.

mod contents;
mod device;
mod history;
mod operate;
mod regressions;
mod tree;

use history::History;

/// Histories of an ordinary test run.
const HISTORIES: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn devices_that_know_the_same_see_the_same_and_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("OUROBOX_SEED") {
        History::run(seed);
        return;
    }
    let count = number("OUROBOX_HISTORIES").unwrap_or(HISTORIES);
    #[expect(clippy::disallowed_methods, reason = "the rate is told to people and decides nothing")]
    let began = std::time::Instant::now();
    for seed in 1..=count {
        History::run(seed);
    }
    println!("{count} histories, {:.1} a second", count as f64 / began.elapsed().as_secs_f64());
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..=12 {
        assert_eq!(History::run(seed), History::run(seed), "seed {seed}");
    }
}
