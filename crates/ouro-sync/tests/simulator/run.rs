//! Many histories, one after another or on several cores.

use crate::history::History;
use crate::manner::Shape;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a long run says how far it is.
const REPORT_SECONDS: u64 = 60;

/// A number in the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Histories to be run: seed after seed from the first on, until there were enough or the time is over, or one fails.
pub(crate) struct Run {
    pub(crate) shape: Shape,
    pub(crate) first: u64,
    pub(crate) histories: u64,
    pub(crate) seconds: u64,
    pub(crate) threads: usize,
}

impl Run {
    /// Runs them and prints how many and how fast.
    ///
    /// # Panics
    /// If one fails; the seed is said.
    pub(crate) fn run(&self) {
        let progress = Progress {
            began: now(),
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            collected: AtomicU64::new(0),
            purged: AtomicU64::new(0),
            told: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        let failed: Vec<u64> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(|| self.work(&progress))).collect();
            workers.into_iter().filter_map(|worker| worker.join().expect("a worker catches panics")).collect()
        });
        self.report(&progress);
        let after = progress.done.load(Ordering::Relaxed);
        assert!(failed.is_empty(), "{:?} seeds {failed:?} failed after {after} histories", self.shape);
    }

    /// Runs histories until all are done; returns the seed of one that failed.
    fn work(&self, progress: &Progress) -> Option<u64> {
        loop {
            let index = progress.next.fetch_add(1, Ordering::Relaxed);
            let late = progress.began.elapsed() >= Duration::from_secs(self.seconds);
            if index >= self.histories || late || progress.failed.load(Ordering::Relaxed) {
                return None;
            }
            let seed = self.first + index;
            let Ok(passed) = catch_unwind(AssertUnwindSafe(|| History::run(seed, self.shape))) else {
                progress.failed.store(true, Ordering::Relaxed);
                return Some(seed);
            };
            progress.collected.fetch_add(passed.collected, Ordering::Relaxed);
            progress.purged.fetch_add(passed.purged[0], Ordering::Relaxed);
            progress.done.fetch_add(1, Ordering::Relaxed);
            let turn = progress.began.elapsed().as_secs() / REPORT_SECONDS;
            if progress.told.fetch_max(turn, Ordering::Relaxed) < turn {
                self.report(progress);
            }
        }
    }

    fn report(&self, progress: &Progress) {
        let done = progress.done.load(Ordering::Relaxed);
        let seconds = progress.began.elapsed().as_secs_f64();
        println!(
            "{done} {:?} histories from seed {} on in {seconds:.0} s: {:.1} a second on {} threads, {} collections, {} records purged",
            self.shape,
            self.first,
            done as f64 / seconds,
            self.threads,
            progress.collected.load(Ordering::Relaxed),
            progress.purged.load(Ordering::Relaxed)
        );
    }
}

struct Progress {
    began: Instant,
    next: AtomicU64,
    done: AtomicU64,
    /// Collections that ended in them.
    collected: AtomicU64,
    /// Hidden records that these purged.
    purged: AtomicU64,
    /// Reports printed.
    told: AtomicU64,
    failed: AtomicBool,
}

#[expect(clippy::disallowed_methods, reason = "the rate is told to people and decides nothing")]
fn now() -> Instant {
    Instant::now()
}
