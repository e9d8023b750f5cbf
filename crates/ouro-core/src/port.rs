//! Ports for what the engine may not do by itself: time, chance and tasks. Their adapters live in ouro-engine (the real ones) and in
//! ouro-testkit (the simulator's). They stand here because several rooms call them.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since 1970 (UTC), as the user's clock says; may jump.
    fn wall_ns(&self) -> i64;
    /// Nanoseconds since some fixed moment; never goes back.
    fn monotonic_ns(&self) -> u64;
}

/// Chance.
pub trait Rng: Send + Sync + 'static {
    /// Fills `bytes` with random bytes, fit for keys in the real adapter.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// Tasks and sleeping.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a future to its end beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    /// Runs work that blocks (disk, compression, SQL) off the async threads; resolves when it has run.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// Resolves after `millis` milliseconds.
    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()>;
}
