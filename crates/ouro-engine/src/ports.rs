//! The real world behind the ports: tokio, the system's clock and its random numbers.

use futures::FutureExt;
use ouro_core::port::{BoxFuture, Clock, Rng, Runtime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// Tasks on a tokio runtime.
pub struct TokioRuntime(Handle);

impl TokioRuntime {
    /// Tasks on this runtime.
    pub fn new(handle: Handle) -> TokioRuntime {
        TokioRuntime(handle)
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.0.spawn(task));
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.0
            .spawn_blocking(work)
            .map(|ended| match ended {
                Ok(()) => {}
                Err(error) if error.is_cancelled() => tracing::debug!("blocking work was not begun: the engine ends"),
                Err(error) => tracing::error!(%error, "a blocking task ended badly"),
            })
            .boxed()
    }

    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        let _inside = self.0.enter();
        #[expect(clippy::disallowed_methods, reason = "this is the adapter behind the port")]
        let sleep = tokio::time::sleep(Duration::from_millis(millis));
        sleep.boxed()
    }
}

/// The system's clock.
pub(crate) struct SystemClock {
    began: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> SystemClock {
        #[expect(clippy::disallowed_methods, reason = "this is the adapter behind the port")]
        let began = Instant::now();
        SystemClock { began }
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the adapter behind the port")]
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The system's random numbers.
pub(crate) struct SystemRng;

impl Rng for SystemRng {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("Linux always has random numbers");
    }
}
