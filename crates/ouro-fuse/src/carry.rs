//! Carries an operation to its answer: at once where the vfs can, else in a task, together with the kernel's reply.

use crate::interrupt::interrupted;
use futures::future::{Either, select};
use ouro_core::port::Runtime;
use ouro_vfs::{Errno, NodeNo, Reply, Stop, Vfs, Wait};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

/// How often one operation may have to wait for something before it is given up. Each wait brings at least one index node or a range of
/// bytes, and has a deadline of its own.
const WAITS_MAX: usize = 64;

/// What an operation needs on its way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Carrier {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl Carrier {
    /// Calls `operation` and hands what it gives to `answer`, exactly once. Never blocks: an operation that must wait is called again in a
    /// task. The task ends with EINTR when thread `pid` is to wait no longer.
    pub(crate) fn run<T, R>(
        &self,
        pid: u32,
        reply: R,
        operation: impl Fn(&Vfs) -> Reply<T> + Send + Sync + 'static,
        answer: impl FnOnce(&Carrier, R, Result<T, Errno>) + Send + 'static,
    ) where
        T: Send,
        R: Send + 'static,
    {
        match self.attempt(&operation) {
            Ok(value) => answer(self, reply, Ok(value)),
            Err(Stop::Errno(errno)) => answer(self, reply, Err(errno)),
            Err(Stop::Wait(wait)) => self.later(pid, wait, reply, operation, answer),
        }
    }

    /// Like [`Carrier::run`] for an operation that waits for the disk: off the kernel's thread from the beginning.
    pub(crate) fn run_blocking<T, R>(
        &self,
        pid: u32,
        reply: R,
        operation: impl Fn(&Vfs) -> Reply<T> + Send + Sync + 'static,
        answer: impl FnOnce(&Carrier, R, Result<T, Errno>) + Send + 'static,
    ) where
        T: Send,
        R: Send + 'static,
    {
        let carrier = self.clone();
        let done = self.runtime.blocking(Box::new(move || carrier.run(pid, reply, operation, answer)));
        self.runtime.spawn(done);
    }

    /// The way on from a [`Wait`].
    pub(crate) fn later<T, R>(
        &self,
        pid: u32,
        wait: Wait,
        reply: R,
        operation: impl Fn(&Vfs) -> Reply<T> + Send + Sync + 'static,
        answer: impl FnOnce(&Carrier, R, Result<T, Errno>) + Send + 'static,
    ) where
        T: Send,
        R: Send + 'static,
    {
        let carrier = self.clone();
        self.runtime.spawn(Box::pin(async move {
            let result = carrier.insist(pid, wait, &operation).await;
            answer(&carrier, reply, result);
        }));
    }

    /// Waits and calls again until there is an answer.
    async fn insist<T>(
        &self,
        pid: u32,
        first: Wait,
        operation: &(impl Fn(&Vfs) -> Reply<T> + Send + Sync),
    ) -> Result<T, Errno> {
        let mut gone = pin!(interrupted(pid, &*self.runtime));
        let mut wait = first;
        for _ in 0..WAITS_MAX {
            match select(wait.0, gone.as_mut()).await {
                Either::Left((brought, _)) => brought?,
                Either::Right(((), _)) => return Err(Errno::Interrupted),
            }
            match self.attempt(operation) {
                Ok(value) => return Ok(value),
                Err(Stop::Errno(errno)) => return Err(errno),
                Err(Stop::Wait(next)) => wait = next,
            }
        }
        tracing::error!(pid, waits = WAITS_MAX, "an operation kept asking for something more and was given up");
        Err(Errno::Io)
    }

    /// Makes the kernel list a directory anew when it is opened next. In a task: whoever answers the kernel does not wait for it.
    pub(crate) fn drop_listing(&self, directory: NodeNo) {
        let vfs = Arc::clone(&self.vfs);
        self.runtime.spawn(self.runtime.blocking(Box::new(move || vfs.drop_listing(directory))));
    }

    /// Calls `operation` once. A panic in it is a bug that costs one operation and not the mount: a kernel thread that unwinds answers nobody.
    pub(crate) fn attempt<T>(&self, operation: impl FnOnce(&Vfs) -> Reply<T>) -> Reply<T> {
        catch_unwind(AssertUnwindSafe(|| operation(&self.vfs))).unwrap_or_else(|_| {
            tracing::error!("an operation panicked; it is answered with an input/output error");
            Err(Stop::Errno(Errno::Io))
        })
    }
}
