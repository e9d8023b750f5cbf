//! The ports, as a simulation has them.

use super::chance::Chance;
use super::executor::{Group, Simulation};
use ouro_core::port::{BoxFuture, Clock, Rng, Runtime};
use parking_lot::Mutex;
use std::sync::Arc;

struct SimClock {
    simulation: Simulation,
    skew_ns: i64,
}

impl Clock for SimClock {
    fn wall_ns(&self) -> i64 {
        self.simulation.now_ns().cast_signed().saturating_add(self.skew_ns)
    }

    fn monotonic_ns(&self) -> u64 {
        self.simulation.now_ns()
    }
}

struct SimRng(Mutex<Chance>);

impl Rng for SimRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut chance = self.0.lock();
        for part in bytes.chunks_mut(8) {
            let number = chance.number().to_le_bytes();
            part.copy_from_slice(&number[..part.len()]);
        }
    }
}

struct SimRuntime {
    simulation: Simulation,
    group: Group,
}

impl Runtime for SimRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.simulation.spawn(self.group, task);
    }

    /// Others have their turn before and after, so that a crash may come at both.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (before, after) = (self.simulation.sleeping(0), self.simulation.sleeping(0));
        Box::pin(async move {
            before.await;
            work();
            after.await;
        })
    }

    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        Box::pin(self.simulation.sleeping(millis))
    }
}

impl Simulation {
    /// A clock that is ahead of the true one by so many milliseconds.
    pub fn clock(&self, ahead_millis: i64) -> Arc<dyn Clock> {
        Arc::new(SimClock { simulation: self.clone(), skew_ns: ahead_millis * 1_000_000 })
    }

    /// Chance of one's own: another one for each `stream`.
    pub fn rng(&self, stream: u64) -> Arc<dyn Rng> {
        let mut mixed = Chance::new(self.seed() ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Arc::new(SimRng(Mutex::new(Chance::new(mixed.number()))))
    }

    /// Tasks and sleep for a process.
    pub fn runtime(&self, group: Group) -> Arc<dyn Runtime> {
        Arc::new(SimRuntime { simulation: self.clone(), group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tasks that sleep and write down what they see.
    fn story(seed: u64) -> (Vec<(u64, u64)>, u64) {
        let world = Simulation::new(seed);
        let told = Arc::new(Mutex::new(Vec::new()));
        let group = world.group();
        for task in 0..3 {
            let (runtime, rng, told) = (world.runtime(group), world.rng(task), Arc::clone(&told));
            let clock = world.clock(0);
            world.spawn(
                group,
                Box::pin(async move {
                    for _ in 0..5 {
                        runtime.sleep(rng.next_u64() % 3).await;
                        runtime.blocking(Box::new(|| {})).await;
                        told.lock().push((task, clock.monotonic_ns()));
                    }
                }),
            );
        }
        while world.step() {}
        let told = told.lock().clone();
        (told, world.trace())
    }

    #[test]
    fn the_same_seed_gives_the_same_history_and_another_seed_another() {
        assert_eq!(story(1), story(1));
        assert_eq!(story(1).0.len(), 15);
        assert_ne!(story(1), story(2));
    }

    #[test]
    fn time_goes_only_when_nobody_can_go_on() {
        let world = Simulation::new(1);
        let group = world.group();
        let (runtime, clock) = (world.runtime(group), world.clock(1));
        let began = clock.wall_ns();
        world.finish(group, async move { runtime.sleep(3_600_000).await });
        assert_eq!(clock.wall_ns() - began, 3_600_000_000_000);
    }

    #[test]
    fn a_process_that_ends_does_nothing_any_more() {
        let world = Simulation::new(1);
        let (one, other) = (world.group(), world.group());
        let reached = Arc::new(Mutex::new(Vec::new()));
        for group in [one, other] {
            let (runtime, reached) = (world.runtime(group), Arc::clone(&reached));
            let task = async move {
                runtime.sleep(10).await;
                reached.lock().push(group);
            };
            world.spawn(group, Box::pin(task));
        }
        while world.tasks() == 2 && reached.lock().is_empty() && world.shared.lock().timers_len() < 2 {
            world.step();
        }
        world.end(one);
        world.spawn(one, Box::pin(async { panic!("an ended process begins a task") }));
        while world.step() {}
        assert_eq!(*reached.lock(), [other]);
    }
}
