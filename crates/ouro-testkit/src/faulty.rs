//! A store that fails on purpose, always the same way for the same seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use ouro_remote::{BoxFuture, ListedObject, RemoteError, Store, Usage};
use parking_lot::Mutex;

use crate::faults::{Draw, Faults, Operation};

/// What the faulty remote is called in its errors.
const REMOTE: &str = "faulty:";
/// How many of the newest publications a stale list may leave out.
const UNLISTED_MAX: usize = 16;
/// Writes that were lost and may still land.
const LATE_MAX: usize = 64;

/// Called before and after each call with its kind and name; the call goes on when the future is done. A simulator sleeps in it.
pub type Delay = Arc<dyn Fn(Operation, &str) -> BoxFuture<'static, ()> + Send + Sync>;

/// Wraps a [`Store`] with faults drawn from a seed.
///
/// Each draw depends on the seed, the operation, the name, and how often that pair was called, so the faults are the same however tasks
/// interleave. Switches stand above chance: [`set_unreachable`](Self::set_unreachable), [`set_full`](Self::set_full),
/// [`set_read_only`](Self::set_read_only).
pub struct FaultyStore<S> {
    inner: Arc<S>,
    seed: u64,
    faults: Mutex<Faults>,
    delay: Option<Delay>,
    unreachable: AtomicBool,
    full: AtomicBool,
    read_only: AtomicBool,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    calls: BTreeMap<(Operation, String), u64>,
    newest: Vec<String>,
    deleted: BTreeMap<String, u64>,
    hints_before: BTreeMap<String, Option<Bytes>>,
    late: Vec<Late>,
}

struct Late {
    name: String,
    bytes: Bytes,
    once: bool,
}

impl<S: Store> FaultyStore<S> {
    /// Wraps a store.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        Self::sharing(Arc::new(inner), seed, faults)
    }

    /// Wraps a store that others use too: each device sees it through faults of its own.
    pub fn sharing(inner: Arc<S>, seed: u64, faults: Faults) -> Self {
        let off = || AtomicBool::new(false);
        Self {
            inner,
            seed,
            faults: Mutex::new(faults),
            delay: None,
            unreachable: off(),
            full: off(),
            read_only: off(),
            memory: Mutex::default(),
        }
    }

    /// Sets what each call waits for, once before and once after its effect.
    #[must_use]
    pub fn with_delay(mut self, delay: Delay) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The store behind the faults.
    pub fn inner(&self) -> &Arc<S> {
        &self.inner
    }

    /// Changes how often faults happen from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Takes the network away, or gives it back.
    pub fn set_unreachable(&self, on: bool) {
        self.unreachable.store(on, Relaxed);
    }

    /// Fills the storage up, or frees space.
    pub fn set_full(&self, on: bool) {
        self.full.store(on, Relaxed);
    }

    /// Refuses all changes, or allows them.
    pub fn set_read_only(&self, on: bool) {
        self.read_only.store(on, Relaxed);
    }

    /// Much time has passed: lists are as they should be, and no write that was lost lands any more.
    pub fn settle(&self) {
        let mut memory = self.memory.lock();
        memory.newest.clear();
        memory.deleted.clear();
        memory.late.clear();
    }

    fn draw(&self, operation: Operation, name: &str) -> Draw {
        let mut memory = self.memory.lock();
        let count = memory.calls.entry((operation, name.to_owned())).or_default();
        *count += 1;
        let mut draw = Draw(self.seed);
        for part in [operation as u64 + 1, *count] {
            draw.0 = draw.next() ^ part;
        }
        for byte in name.bytes() {
            draw.0 = (draw.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        draw
    }

    async fn wait(&self, operation: Operation, name: &str) {
        if let Some(delay) = &self.delay {
            delay(operation, name).await;
        }
    }

    /// Everything that happens before a call has any effect.
    async fn begin(&self, operation: Operation, name: &str) -> Result<(Draw, Faults), RemoteError> {
        self.wait(operation, name).await;
        let mut draw = self.draw(operation, name);
        let faults = *self.faults.lock();
        if self.unreachable.load(Relaxed) {
            return Err(unreachable("switched off"));
        }
        let late = {
            let mut memory = self.memory.lock();
            let due = !memory.late.is_empty() && draw.happens(faults.land_late);
            due.then(|| {
                let which = draw.below(memory.late.len());
                memory.late.swap_remove(which)
            })
        };
        if let Some(late) = late {
            // What becomes of it nobody learns.
            if late.once {
                let _ = self.inner.publish(&late.name, late.bytes).await;
            } else {
                let _ = self.write_hint(&late.name, late.bytes).await;
            }
        }
        if draw.happens(faults.throttle) {
            return Err(RemoteError::Throttled { remote: REMOTE.to_owned() });
        }
        if draw.happens(faults.server_error) {
            let reason = "status 503".to_owned();
            return Err(RemoteError::Other { remote: REMOTE.to_owned(), reason, retryable: true });
        }
        Ok((draw, faults))
    }

    fn may_change(&self, operation: Operation) -> Result<(), RemoteError> {
        if self.read_only.load(Relaxed) {
            return Err(RemoteError::ReadOnly { remote: REMOTE.to_owned() });
        }
        if self.full.load(Relaxed) && operation != Operation::Delete {
            return Err(RemoteError::Full { remote: REMOTE.to_owned() });
        }
        Ok(())
    }

    /// Everything that may still go wrong once the effect is there.
    async fn end<T>(
        &self,
        operation: Operation,
        name: &str,
        lost: bool,
        answer: Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        self.wait(operation, name).await;
        if lost || self.unreachable.load(Relaxed) { Err(unreachable("answer lost")) } else { answer }
    }

    async fn write_hint(&self, name: &str, bytes: Bytes) -> Result<(), RemoteError> {
        let before = self.inner.get(name).await?;
        self.memory.lock().hints_before.insert(name.to_owned(), before);
        self.inner.overwrite(name, bytes).await
    }

    async fn write(&self, name: &str, bytes: Bytes, once: bool) -> Result<(), RemoteError> {
        let operation = if once { Operation::Publish } else { Operation::Overwrite };
        let (mut draw, faults) = self.begin(operation, name).await?;
        self.may_change(operation)?;
        if draw.happens(faults.lose_before) {
            let mut memory = self.memory.lock();
            if memory.late.len() < LATE_MAX {
                memory.late.push(Late { name: name.to_owned(), bytes, once });
            }
            return Err(unreachable("request lost"));
        }
        let lost = draw.happens(faults.lose_after);
        if once && draw.happens(faults.torn_publish) && self.inner.get(name).await?.is_none() {
            let kept = draw.below(bytes.len());
            self.inner.overwrite(name, bytes.slice(..kept)).await?;
            return self.end(operation, name, true, Ok(())).await;
        }
        let times = if draw.happens(faults.duplicate) { 2 } else { 1 };
        let conditional = once && !draw.happens(faults.ignored_condition);
        let mut answer = Ok(());
        for _ in 0..times {
            answer = if conditional {
                self.inner.publish(name, bytes.clone()).await
            } else if once {
                self.inner.overwrite(name, bytes.clone()).await
            } else {
                self.write_hint(name, bytes.clone()).await
            };
        }
        if once && answer.is_ok() {
            let mut memory = self.memory.lock();
            memory.newest.push(name.to_owned());
            if memory.newest.len() > UNLISTED_MAX {
                memory.newest.remove(0);
            }
        }
        self.end(operation, name, lost, answer).await
    }

    async fn remove(&self, name: &str) -> Result<(), RemoteError> {
        let (mut draw, faults) = self.begin(Operation::Delete, name).await?;
        self.may_change(Operation::Delete)?;
        if draw.happens(faults.lose_before) {
            return Err(unreachable("request lost"));
        }
        let lost = draw.happens(faults.lose_after);
        if let Some(bytes) = self.inner.get(name).await? {
            let mut memory = self.memory.lock();
            memory.deleted.insert(name.to_owned(), bytes.len() as u64);
            if memory.deleted.len() > UNLISTED_MAX {
                memory.deleted.pop_first();
            }
        }
        let times = if draw.happens(faults.duplicate) { 2 } else { 1 };
        let mut answer = Ok(());
        for _ in 0..times {
            answer = self.inner.delete(name).await;
        }
        self.end(Operation::Delete, name, lost, answer).await
    }

    async fn read(&self, name: &str, range: Option<(u64, u64)>) -> Result<Option<Bytes>, RemoteError> {
        let operation = if range.is_some() { Operation::GetRange } else { Operation::Get };
        let (mut draw, faults) = self.begin(operation, name).await?;
        let lost = draw.happens(faults.lose_before) || draw.happens(faults.lose_after);
        let answer = match range {
            Some((offset, len)) => self.inner.get_range(name, offset, len).await,
            None => {
                let stale = draw.happens(faults.stale_hint);
                let before = self.memory.lock().hints_before.get(name).cloned().filter(|_| stale);
                match before {
                    Some(before) => Ok(before),
                    None => self.inner.get(name).await,
                }
            }
        };
        self.end(operation, name, lost, answer).await
    }

    async fn read_list(&self, prefix: &str) -> Result<Vec<ListedObject>, RemoteError> {
        let (mut draw, faults) = self.begin(Operation::List, prefix).await?;
        let lost = draw.happens(faults.lose_before) || draw.happens(faults.lose_after);
        let mut answer = self.inner.list(prefix).await;
        if draw.happens(faults.stale_list)
            && let Ok(found) = &mut answer
        {
            let memory = self.memory.lock();
            found.retain(|object| !memory.newest.contains(&object.name) || draw.happens(500));
            let deleted = memory.deleted.iter().filter(|(name, _)| name.starts_with(prefix));
            for (name, bytes) in deleted {
                if draw.happens(500) && !found.iter().any(|object| object.name == *name) {
                    found.push(ListedObject { name: name.clone(), bytes: *bytes });
                }
            }
            found.sort_unstable();
        }
        self.end(Operation::List, prefix, lost, answer).await
    }
}

fn unreachable(reason: &str) -> RemoteError {
    RemoteError::Unreachable { remote: REMOTE.to_owned(), reason: reason.to_owned(), timed_out: false }
}

impl<S: Store> Store for FaultyStore<S> {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.read(name, None))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.read(name, Some((offset, len))))
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.write(name, bytes, true))
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.write(name, bytes, false))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.remove(name))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        Box::pin(self.read_list(prefix))
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn storage_time(&self) -> Option<u64> {
        self.inner.storage_time()
    }
}

impl<S> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("seed", &self.seed).field("faults", &self.faults).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use ouro_remote::MemoryStore;

    use super::*;

    fn data(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// The answers of a fixed series of calls, retried until they succeed, as one text.
    fn story(seed: u64) -> String {
        let store = FaultyStore::new(MemoryStore::new(), seed, Faults::stormy());
        let mut story = String::new();
        for number in 0..60 {
            let name = format!("log/d/{number}");
            for _ in 0..100 {
                let answer = block_on(store.publish(&name, data("some bytes of a record")));
                story.push_str(&format!("{answer:?}\n"));
                if answer.is_ok() {
                    break;
                }
            }
            story.push_str(&format!("{:?}\n", block_on(store.overwrite("heads/d", Bytes::from(name)))));
            story.push_str(&format!("{:?}{:?}\n", block_on(store.get("heads/d")), block_on(store.list("log/"))));
        }
        story
    }

    #[test]
    fn the_same_seed_tells_the_same_story_and_another_seed_another() {
        assert_eq!(story(7), story(7));
        assert_ne!(story(7), story(8));
    }

    #[test]
    fn every_publish_that_is_retried_ends_with_its_whole_bytes() {
        let store = FaultyStore::new(MemoryStore::new(), 3, Faults { torn_publish: 500, ..Faults::stormy() });
        for number in 0..100 {
            let name = format!("packs/{number}");
            assert!((0..1000).any(|_| block_on(store.publish(&name, data("whole"))).is_ok()));
            assert_eq!(store.inner().snapshot()[&name], data("whole"));
        }
    }

    #[test]
    fn a_torn_publish_leaves_a_beginning() {
        let store = FaultyStore::new(MemoryStore::new(), 1, Faults { torn_publish: 1000, ..Faults::none() });
        assert!(block_on(store.publish("a", data("whole"))).is_err());
        let left = store.inner().snapshot()["a"].clone();
        assert!(left.len() < 5 && data("whole").starts_with(&left));
    }

    #[test]
    fn a_lost_overwrite_may_land_over_a_newer_one() {
        let store = FaultyStore::new(MemoryStore::new(), 1, Faults { lose_before: 1000, ..Faults::none() });
        assert!(block_on(store.overwrite("heads/d", data("old"))).is_err());
        store.set_faults(Faults::none());
        block_on(store.overwrite("heads/d", data("new"))).unwrap();
        store.set_faults(Faults { land_late: 1000, ..Faults::none() });
        assert_eq!(block_on(store.get("heads/d")).unwrap(), Some(data("old")));
    }

    #[test]
    fn a_stale_hint_is_the_one_before() {
        let store = FaultyStore::new(MemoryStore::new(), 1, Faults { stale_hint: 1000, ..Faults::none() });
        block_on(store.overwrite("heads/d", data("1"))).unwrap();
        block_on(store.overwrite("heads/d", data("2"))).unwrap();
        assert_eq!(block_on(store.get("heads/d")).unwrap(), Some(data("1")));
    }

    #[test]
    fn a_stale_list_misses_new_objects_and_shows_deleted_ones() {
        let store = FaultyStore::new(MemoryStore::new(), 1, Faults { stale_list: 1000, ..Faults::none() });
        for number in 0..10 {
            block_on(store.publish(&format!("a/{number}"), data("x"))).unwrap();
        }
        assert!(block_on(store.list("a/")).unwrap().len() < 10);
        for number in 0..10 {
            block_on(store.delete(&format!("a/{number}"))).unwrap();
        }
        assert!(!block_on(store.list("a/")).unwrap().is_empty());
    }

    #[test]
    fn switches_stand_above_chance() {
        let store = FaultyStore::new(MemoryStore::new(), 1, Faults::none());
        store.set_unreachable(true);
        assert!(matches!(block_on(store.get("a")), Err(RemoteError::Unreachable { .. })));
        store.set_unreachable(false);
        store.set_full(true);
        assert!(matches!(block_on(store.publish("a", data("x"))), Err(RemoteError::Full { .. })));
        block_on(store.delete("a")).unwrap();
        store.set_full(false);
        store.set_read_only(true);
        assert!(matches!(block_on(store.delete("a")), Err(RemoteError::ReadOnly { .. })));
        assert_eq!(block_on(store.get("a")).unwrap(), None);
    }
}
