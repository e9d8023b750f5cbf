//! When things happen: pushing soon after a change, pulling often while somebody writes, backing off when the remote is away.

use crate::collection::LOOK_MS;
use crate::{Sync, SyncError};
use futures::FutureExt;
use futures::future::{Either, select};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A push waits until nothing changed for so long …
const QUIET_MS: u64 = 150;
/// … seen by looking this often: a change itself wakes nobody …
const QUIET_STEP_MS: u64 = 50;
/// … but no longer than this after the first change: a busy writer still commits.
const BUSY_MS: u64 = 2_000;
/// Between two polls while a device wrote lately.
const POLL_ACTIVE_MS: u64 = 2_000;
/// Between two polls otherwise.
const POLL_IDLE_MS: u64 = 30_000;
/// A device that wrote within this time counts as writing lately.
const ACTIVE_NS: u64 = 600 * 1_000_000_000;
/// Polls between two looks at who joined, while active.
const DEVICES_EVERY: u64 = 2;
/// First delay after a failure; doubled each time.
const RETRY_MS: u64 = 1_000;
/// Longest delay after a failure.
const RETRY_MS_MAX: u64 = 60_000;
/// When this variable is set, the index's leaves are not fetched in the background, and nothing of the index if it is `all`: for measuring
/// what single operations cost a fresh device.
const NO_INDEX_FETCH: &str = "OUROBOX_NO_INDEX_FETCH";
/// What open writers wrote is journalled this often.
const TICK_MS: u64 = 5_000;

/// What of the index is fetched in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexFetch {
    /// All of it.
    Whole,
    /// What is above the leaves.
    Upper,
    /// Only what somebody waits for.
    Nothing,
}

/// What of the index is to be fetched in the background.
pub(crate) fn index_fetch() -> IndexFetch {
    match std::env::var_os(NO_INDEX_FETCH) {
        None => IndexFetch::Whole,
        Some(what) if what == "all" => IndexFetch::Nothing,
        Some(_) => IndexFetch::Upper,
    }
}

impl Sync {
    /// Pushes, pulls, checkpoints and fetches the index until [`Sync::stop`]. Spawns its parts through the runtime port.
    pub fn run(self: &Arc<Self>) {
        for part in [Sync::pushing as fn(Arc<Self>) -> _, Sync::pulling, Sync::ticking] {
            self.ports.runtime.spawn(part(Arc::clone(self)));
        }
        self.changed.notify_one();
    }

    /// Ends all delays: push and pull now.
    pub fn hurry(&self) {
        self.hurry.notify_waiters();
        self.changed.notify_one();
    }

    /// Whether [`Sync::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn pushing(self: Arc<Self>) -> ouro_core::port::BoxFuture<'static, ()> {
        async move {
            let mut failures = 0;
            while !self.is_stopped() {
                self.until_rung(|| {
                    let waiting = self.volume.counts();
                    waiting.pending + waiting.sealed == 0
                })
                .await;
                if self.is_stopped() {
                    break;
                }
                self.settle_down().await;
                let outcome = match self.push().await {
                    // One that is due for what was only learnt is left to whoever writes next.
                    Ok(true) if self.checkpoint_due() => self.checkpoint().await,
                    pushed => pushed.map(drop),
                };
                failures = self.heed(outcome, failures);
                if failures > 0 {
                    self.pause(self.delay(failures)).await;
                } else {
                    self.until_rung(|| self.volume.counts().sealed == 0 && !self.volume.has_sealable()).await;
                }
            }
        }
        .boxed()
    }

    /// Waits to be rung, unless there is something to do already.
    async fn until_rung(&self, nothing_to_do: impl Fn() -> bool) {
        // Said before looking: a change after the look rings.
        self.idle.store(true, Ordering::Release);
        if nothing_to_do() {
            self.changed.notified().await;
        }
        self.idle.store(false, Ordering::Release);
    }

    /// Waits until the writer pauses, within a bound; not at all when somebody waits for the remote.
    async fn settle_down(&self) {
        let began = self.ports.clock.monotonic_ns();
        let hurry = self.hurry.notified();
        futures::pin_mut!(hurry);
        let (mut seen, mut quiet_ms) = (self.changes.load(Ordering::Relaxed), 0);
        while quiet_ms < QUIET_MS {
            let step = self.ports.runtime.sleep(QUIET_STEP_MS);
            if matches!(select(step, hurry.as_mut()).await, Either::Right(_)) || self.is_stopped() {
                return;
            }
            let changes = self.changes.load(Ordering::Relaxed);
            quiet_ms = if changes == seen { quiet_ms + QUIET_STEP_MS } else { 0 };
            seen = changes;
            if (self.ports.clock.monotonic_ns() - began) / 1_000_000 > BUSY_MS {
                return;
            }
        }
    }

    fn pulling(self: Arc<Self>) -> ouro_core::port::BoxFuture<'static, ()> {
        async move {
            let (mut failures, mut round) = (0, 0_u64);
            let mut active_until = self.ports.clock.monotonic_ns() + ACTIVE_NS;
            while !self.is_stopped() {
                let outcome = self.pull_round(round).await;
                if let Ok(taken) = &outcome
                    && *taken > 0
                {
                    active_until = self.ports.clock.monotonic_ns() + ACTIVE_NS;
                }
                failures = self.heed(outcome.map(|_| ()), failures);
                if failures == 0 {
                    round += 1;
                }
                let now = self.ports.clock.monotonic_ns();
                let poll = if now < active_until { POLL_ACTIVE_MS } else { POLL_IDLE_MS };
                let delay = if failures > 0 { self.delay(failures) } else { self.jitter(poll) };
                self.pause(delay).await;
            }
        }
        .boxed()
    }

    async fn pull_round(self: &Arc<Self>, round: u64) -> Result<usize, SyncError> {
        if round == 0 {
            self.begin().await?;
        } else if round.is_multiple_of(DEVICES_EVERY) {
            self.meet_devices().await?;
        }
        let mut taken = if self.look_due(LOOK_MS) { self.look().await? } else { 0 };
        taken += self.pull().await?;
        self.show_presence().await?;
        if round == 0 || !self.index_complete() {
            match index_fetch() {
                IndexFetch::Whole => self.fetch_index().await?,
                IndexFetch::Upper => self.fetch_upper_index().await?,
                IndexFetch::Nothing => {}
            }
        }
        Ok(taken)
    }

    fn ticking(self: Arc<Self>) -> ouro_core::port::BoxFuture<'static, ()> {
        async move {
            while !self.is_stopped() {
                self.pause(TICK_MS).await;
                let ticked = self.blocking(|sync| sync.volume.tick()).await;
                if let Ok(Err(error)) = ticked {
                    tracing::error!(%error, "what was written cannot be journalled");
                    self.tell(|status| status.problem = Some(error.to_string()));
                }
            }
        }
        .boxed()
    }

    /// Notes how it went; returns the number of failures in a row.
    fn heed(&self, outcome: Result<(), SyncError>, failures: u32) -> u32 {
        match outcome {
            Ok(()) => {
                self.tell(|status| {
                    status.online = true;
                    status.problem = None;
                    status.needs_user = false;
                });
                0
            }
            Err(SyncError::Stopped) => failures,
            Err(error) => {
                tracing::warn!(%error, "the remote is not in step");
                if error.is_alarm() {
                    self.volume.stop_writing(error.to_string());
                }
                self.tell(|status| {
                    status.online = false;
                    status.problem = Some(error.to_string());
                    status.needs_user = !error.is_retryable();
                });
                failures.saturating_add(1)
            }
        }
    }

    fn delay(&self, failures: u32) -> u64 {
        let doubled = RETRY_MS.saturating_mul(1 << failures.saturating_sub(1).min(10));
        self.jitter(doubled.min(RETRY_MS_MAX))
    }

    /// Up to a quarter more or less, so that devices do not march in step.
    fn jitter(&self, millis: u64) -> u64 {
        let spread = (millis / 2).max(1);
        millis - spread / 2 + self.ports.rng.next_u64() % spread
    }

    /// Sleeps, unless somebody is in a hurry.
    async fn pause(&self, millis: u64) {
        let hurry = self.hurry.notified();
        futures::pin_mut!(hurry);
        select(hurry, self.ports.runtime.sleep(millis)).await;
    }

    /// Resolves when everything changed until now is durable on the remote.
    pub async fn synced(self: &Arc<Self>) -> Result<(), SyncError> {
        loop {
            let told = self.status_changed();
            let settled = self.blocking(|sync| sync.volume.tick()).await?;
            settled?;
            if self.volume.counts().sealed == 0 && !self.volume.has_sealable() {
                return Ok(());
            }
            if self.is_stopped() {
                return Err(SyncError::Stopped);
            }
            self.hurry();
            futures::pin_mut!(told);
            select(told, self.ports.runtime.sleep(1_000)).await;
        }
    }
}
