//! The limits of a [`Remote`](crate::Remote), each with a name.

use std::time::Duration;

use backon::ExponentialBuilder;

/// How much a remote may ask of its storage, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at the same time; further ones wait their turn. Default 16.
    pub requests_max: usize,
    /// How long a request may stay without any progress. Default 20 s.
    pub progress_timeout: Duration,
    /// How long connecting may take. Default 10 s.
    pub connect_timeout: Duration,
    /// The slowest upload that still counts as progress, in bytes per second. Default 16 KiB/s.
    pub upload_rate_min: u64,
    /// How often a failed request is tried again within one call. A request that ran into its time limit is not. Default 3.
    pub retries_max: usize,
    /// The pause before the first of these tries; it doubles each time, plus a random part. Default 200 ms.
    pub retry_pause_min: Duration,
    /// The longest pause between tries. Default 5 s.
    pub retry_pause_max: Duration,
    /// The largest object that is read at once, in bytes. Default 256 MiB.
    pub object_bytes_max: u64,
    /// The longest list. Default 5 million entries.
    pub list_entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 16,
            progress_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            upload_rate_min: 16 << 10,
            retries_max: 3,
            retry_pause_min: Duration::from_millis(200),
            retry_pause_max: Duration::from_secs(5),
            object_bytes_max: 256 << 20,
            list_entries_max: 5_000_000,
        }
    }
}

impl Limits {
    /// The pauses between tries.
    pub(crate) fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.retry_pause_min)
            .with_max_delay(self.retry_pause_max)
            .with_max_times(self.retries_max)
            .with_jitter()
    }

    /// How long an upload of this many bytes may take in all.
    pub(crate) fn upload_timeout(&self, bytes: u64) -> Duration {
        self.progress_timeout + Duration::from_secs(bytes / self.upload_rate_min.max(1))
    }
}
