//! Tasks, and the time they wait for.

use super::chance::Chance;
use ouro_core::port::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// When a simulation begins: nanoseconds since 1970 (UTC).
const BEGIN_NS: u64 = 1_795_357_800_000_000_000;
/// Steps that one [`Simulation::finish`] may take before it is taken for endless.
const STEPS_MAX: u64 = 2_000_000;

/// The tasks of one process: what ends when it crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(u64);

/// A world in one thread. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Simulation {
    pub(super) shared: Arc<Mutex<Shared>>,
}

pub(super) struct Shared {
    seed: u64,
    chance: Chance,
    now_ns: u64,
    /// Counts groups, tasks and timers.
    count: u64,
    tasks: BTreeMap<u64, Task>,
    ready: Vec<u64>,
    waiting: BTreeSet<u64>,
    timers: BTreeMap<(u64, u64), Waker>,
    ended: BTreeSet<Group>,
    trace: u64,
}

struct Task {
    group: Group,
    /// Gone while it is being polled.
    future: Option<BoxFuture<'static, ()>>,
}

struct TaskWaker {
    shared: Weak<Mutex<Shared>>,
    task: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().make_ready(self.task);
        }
    }
}

impl Shared {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn make_ready(&mut self, task: u64) {
        if self.waiting.insert(task) {
            self.ready.push(task);
        }
    }

    #[cfg(test)]
    pub(super) fn timers_len(&self) -> usize {
        self.timers.len()
    }

    fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }
}

impl Simulation {
    /// A world in which nothing has happened yet.
    pub fn new(seed: u64) -> Simulation {
        let shared = Shared {
            seed,
            chance: Chance::new(seed),
            now_ns: BEGIN_NS,
            count: 0,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            waiting: BTreeSet::new(),
            timers: BTreeMap::new(),
            ended: BTreeSet::new(),
            trace: 0,
        };
        Simulation { shared: Arc::new(Mutex::new(shared)) }
    }

    /// A new process without tasks.
    pub fn group(&self) -> Group {
        Group(self.shared.lock().next())
    }

    /// Begins a task.
    pub fn spawn(&self, group: Group, task: BoxFuture<'static, ()>) {
        let mut shared = self.shared.lock();
        if shared.ended.contains(&group) {
            return;
        }
        let id = shared.next();
        shared.tasks.insert(id, Task { group, future: Some(task) });
        shared.make_ready(id);
    }

    /// Drops all tasks of a process wherever they are; it begins no more.
    pub fn end(&self, group: Group) {
        let mut shared = self.shared.lock();
        shared.ended.insert(group);
        let of_group = |(id, task): (&u64, &Task)| (task.group == group).then_some(*id);
        let ids: Vec<u64> = shared.tasks.iter().filter_map(of_group).collect();
        let dropped: Vec<Task> = ids.iter().filter_map(|id| shared.tasks.remove(id)).collect();
        drop(shared);
        // Dropping a task may wake others.
        drop(dropped);
    }

    /// Lets one task that can go on do so; if none can, time goes to what is waited for next. False if nothing is left to do.
    pub fn step(&self) -> bool {
        let (id, mut future) = {
            let mut shared = self.shared.lock();
            loop {
                if shared.ready.is_empty() {
                    let Some(((at, _), waker)) = shared.timers.pop_first() else { return false };
                    shared.now_ns = shared.now_ns.max(at);
                    drop(shared);
                    waker.wake();
                    return true;
                }
                let count = shared.ready.len();
                let index = shared.chance.below(count);
                let id = shared.ready.swap_remove(index);
                shared.waiting.remove(&id);
                if let Some(future) = shared.tasks.get_mut(&id).and_then(|task| task.future.take()) {
                    shared.note(id);
                    break (id, future);
                }
            }
        };
        let waker = Waker::from(Arc::new(TaskWaker { shared: Arc::downgrade(&self.shared), task: id }));
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut shared = self.shared.lock();
        match poll {
            Poll::Ready(()) => {
                shared.tasks.remove(&id);
            }
            Poll::Pending => {
                if let Some(task) = shared.tasks.get_mut(&id) {
                    task.future = Some(future);
                    return true;
                }
            }
        }
        drop(shared);
        true
    }

    /// Steps until a future of a process is done and returns what it gives; others go on meanwhile.
    ///
    /// # Panics
    /// If nothing can go on any more, or after two million steps.
    pub fn finish<T: Send + 'static>(&self, group: Group, work: impl Future<Output = T> + Send + 'static) -> T {
        let slot = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&slot);
        self.spawn(group, Box::pin(async move { *filled.lock() = Some(work.await) }));
        for _ in 0..STEPS_MAX {
            if let Some(done) = slot.lock().take() {
                return done;
            }
            assert!(self.step(), "a task waits for something that nobody will do");
        }
        panic!("a task goes on for ever");
    }

    /// Time goes, whether or not somebody has something to do; what is due then can go on.
    pub fn pass(&self, millis: u64) {
        let due = {
            let mut shared = self.shared.lock();
            shared.now_ns += millis * 1_000_000;
            let after_now = (shared.now_ns + 1, 0);
            let later = shared.timers.split_off(&after_now);
            std::mem::replace(&mut shared.timers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Tasks that are not done yet.
    pub fn tasks(&self) -> usize {
        self.shared.lock().tasks.len()
    }

    /// Notes something in the trace.
    pub fn note(&self, what: u64) {
        self.shared.lock().note(what);
    }

    /// A number that stands for all that happened so far, in its order: every step, and everything noted.
    pub fn trace(&self) -> u64 {
        let shared = self.shared.lock();
        shared.trace ^ shared.now_ns
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.shared.lock().now_ns
    }

    pub(super) fn seed(&self) -> u64 {
        self.shared.lock().seed
    }

    pub(super) fn sleeping(&self, millis: u64) -> Sleep {
        Sleep { simulation: self.clone(), millis, timer: None }
    }
}

/// Resolves at a time. The time begins to count at the first poll.
pub(super) struct Sleep {
    simulation: Simulation,
    millis: u64,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let simulation = self.simulation.clone();
        let mut shared = simulation.shared.lock();
        let timer = match self.timer {
            Some(timer) => timer,
            None => {
                let timer = (shared.now_ns + self.millis * 1_000_000, shared.next());
                self.timer = Some(timer);
                timer
            }
        };
        if shared.now_ns >= timer.0 && self.millis > 0 {
            shared.timers.remove(&timer);
            return Poll::Ready(());
        }
        if self.millis == 0 {
            // The others have their turn once.
            self.millis = 1;
            self.timer = Some((0, timer.1));
            drop(shared);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        shared.timers.insert(timer, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.simulation.shared.lock().timers.remove(&timer);
        }
    }
}
