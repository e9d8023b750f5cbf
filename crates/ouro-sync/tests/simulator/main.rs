//! Devices that work at the same time on one bad remote, crash and come back, in a world that follows from a seed.
//!
//! The engine's real code runs on simulated time, chance, disk and storage. `OUROBOX_SEED` runs a single history again, of the shape
//! `OUROBOX_SHAPE` (`Short`, `Whole` or `Collecting`); `make sim` runs whole ones for as long as one likes.

mod branches;
mod check;
mod collecting;
mod contents;
mod device;
mod history;
mod identity;
mod ignored;
mod import;
mod manner;
mod operate;
mod regressions;
mod relay;
mod run;
mod trash;
mod tree;
mod twins;

use history::History;
use manner::Shape;
use run::{Run, number};

/// Histories of an ordinary test run.
const SHORT_HISTORIES: u64 = 300;
const WHOLE_HISTORIES: u64 = 20;
const COLLECTING_HISTORIES: u64 = 50;
/// How long a run of whole histories goes if nobody says.
const SECONDS: u64 = 60;

#[test]
fn devices_that_know_the_same_see_the_same_and_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("OUROBOX_SEED") {
        println!("{:?}", History::run(seed, shape().unwrap_or(Shape::Short)));
        return;
    }
    let histories = number("OUROBOX_HISTORIES").unwrap_or(SHORT_HISTORIES);
    Run { shape: Shape::Short, first: 1, histories, seconds: u64::MAX, threads: 1 }.run();
}

#[test]
fn whole_histories_end_well() {
    let histories = number("OUROBOX_HISTORIES").map_or(WHOLE_HISTORIES, |short| short / 10);
    Run { shape: Shape::Whole, first: 1, histories, seconds: u64::MAX, threads: 1 }.run();
}

#[test]
fn collections_of_rivals_end_well() {
    let histories = number("OUROBOX_HISTORIES").map_or(COLLECTING_HISTORIES, |short| short / 10);
    Run { shape: Shape::Collecting, first: 1, histories, seconds: u64::MAX, threads: 1 }.run();
}

/// On all cores, for `OUROBOX_SECONDS` or as many as `OUROBOX_HISTORIES`, from the seed `OUROBOX_FIRST` on: `make sim`.
#[test]
#[ignore = "runs for as long as one likes: make sim"]
fn sim() {
    let (histories, seconds) = (number("OUROBOX_HISTORIES"), number("OUROBOX_SECONDS"));
    let seconds = seconds.unwrap_or(if histories.is_some() { u64::MAX } else { SECONDS });
    let histories = histories.unwrap_or(u64::MAX);
    let threads = number("OUROBOX_THREADS").map_or_else(run::cores, |threads| threads as usize);
    let shape = shape().unwrap_or(Shape::Whole);
    Run { shape, first: number("OUROBOX_FIRST").unwrap_or(1), histories, seconds, threads }.run();
}

/// What `OUROBOX_SHAPE` says.
fn shape() -> Option<Shape> {
    std::env::var("OUROBOX_SHAPE").ok().map(|name| Shape::named(&name))
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for (shape, seeds) in [(Shape::Short, 1..=12), (Shape::Whole, 1..=2)] {
        for seed in seeds {
            assert_eq!(History::run(seed, shape), History::run(seed, shape), "seed {seed}");
        }
    }
}
