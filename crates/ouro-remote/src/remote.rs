//! The adapter for real storage places: one face over all backends, with retries and a limit on requests in flight.

use std::fmt;
use std::sync::Arc;

use backon::Retryable as _;
use bytes::Bytes;
use futures::future::join_all;
use ouro_core::port::Runtime;
use tokio::sync::Semaphore;

use crate::dal::temporary_name;
use crate::disk::DiskStore;
use crate::meter::Meter;
use crate::s3::S3Store;
use crate::sftp::SftpStore;
use crate::store::TEMPORARY_PREFIX;
use crate::uri::Scheme;
use crate::webdav::WebdavStore;
use crate::{BoxFuture, Credentials, Limits, ListedObject, MemoryStore, RemoteError, RemoteUri, Store, Usage};

/// Writers that race for one name when create-if-absent is proved.
const RACERS: usize = 8;

/// Each request in flight to SFTP has a connection of its own, and sshd turns new ones away at random from ten at once (MaxStartups).
const SFTP_REQUESTS_MAX: usize = 6;

/// A backend: a store, and what only opening one needs.
pub(crate) trait Place: Store {
    /// Makes the place itself, where that is possible.
    fn prepare(&self) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(async { Ok(()) })
    }

    /// Gives it threads for blocking work.
    fn set_runtime(&mut self, _runtime: Arc<dyn Runtime>) {}

    /// Says whether the server proved create-if-absent.
    fn set_write_once(&self, _proven: bool) {}

    /// Writes unless the name is taken; `false` if it was.
    fn create_if_absent<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(async move {
            match self.publish(name, bytes).await {
                Ok(()) => Ok(true),
                Err(RemoteError::Taken { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}

impl Place for MemoryStore {}

/// A real storage place.
///
/// Each call is tried again a few times with growing, partly random pauses when that may help, and at most [`Limits::requests_max`]
/// calls run at once; a call that waits too long can be dropped. Network backends need a tokio runtime around them.
pub struct Remote {
    place: Box<dyn Place>,
    uri: RemoteUri,
    limits: Limits,
    permits: Semaphore,
    meter: Option<Arc<Meter>>,
}

/// What [`Remote::probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether objects can be written and deleted there.
    pub writable: bool,
    /// Why not, if not.
    pub refusal: Option<RemoteError>,
    /// Whether [`Store::publish`] notices a name that holds other bytes.
    pub write_once: bool,
}

impl Remote {
    /// Opens a storage place. Nothing is sent yet, so wrong credentials or addresses show at the first call.
    ///
    /// # Errors
    ///
    /// [`RemoteError::BadUri`], [`RemoteError::BadCredentials`], [`RemoteError::Denied`] if credentials are missing altogether.
    pub fn open(uri: &RemoteUri, credentials: &Credentials, limits: &Limits) -> Result<Self, RemoteError> {
        let meter = Arc::new(Meter::default());
        let place: Box<dyn Place> = match uri.scheme() {
            Scheme::S3 => Box::new(S3Store::open(uri, credentials, limits, &meter)?),
            Scheme::Webdav | Scheme::Webdavs => Box::new(WebdavStore::open(uri, credentials, limits, &meter)?),
            Scheme::Sftp => Box::new(SftpStore::open(uri, credentials, limits, &meter)?),
            Scheme::Fs => Box::new(DiskStore::new(uri.folder(), uri.to_string(), limits, Arc::clone(&meter))),
            Scheme::Memory => Box::new(MemoryStore::new()),
        };
        let meter = Some(meter).filter(|_| uri.scheme() != Scheme::Memory);
        let requests_max = match uri.scheme() {
            Scheme::Sftp => limits.requests_max.min(SFTP_REQUESTS_MAX),
            _ => limits.requests_max,
        };
        let permits = Semaphore::new(requests_max.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Self { place, uri: uri.clone(), limits: limits.clone(), permits, meter })
    }

    /// Gives a folder remote threads for its blocking calls; without it they run in the caller's task.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.place.set_runtime(runtime);
        self
    }

    /// The name of the place.
    pub fn uri(&self) -> &RemoteUri {
        &self.uri
    }

    /// When the newest answer was sent by the storage's own clock, in seconds since 1970; `None` where answers bear no date (folders, SFTP)
    /// or before the first one. Read it right after a call and compare it with the clock of this device.
    pub fn storage_time(&self) -> Option<u64> {
        self.meter.as_ref().and_then(|meter| meter.last_date())
    }

    /// Says what an earlier [`probe`](Self::probe) found, to spare a new one.
    pub fn set_write_once(&self, proven: bool) {
        self.place.set_write_once(proven);
    }

    /// Connects for the first time: makes the folder where there is none, writes, reads and deletes an object, and lets several writers
    /// race for one name to see whether the storage really creates only what is absent. A dozen small requests.
    ///
    /// # Errors
    ///
    /// What the storage said, except that a place which can only be read is an `Ok` with [`Probe::writable`] false.
    pub async fn probe(&self) -> Result<Probe, RemoteError> {
        let read_only = |error: RemoteError| Probe { writable: false, refusal: Some(error), write_once: false };
        let token = temporary_name();
        let name = format!("probe-{}", &token[TEMPORARY_PREFIX.len()..]);
        let written = match self.retried(|| self.place.prepare()).await {
            Ok(()) => self.overwrite(&name, Bytes::from_static(b"probe")).await,
            refused => refused,
        };
        if let Err(error) = written {
            let refused =
                matches!(error, RemoteError::Denied { .. } | RemoteError::ReadOnly { .. } | RemoteError::Full { .. });
            // Refused writing: is reading allowed at least?
            return if refused && self.list("devices/").await.is_ok() { Ok(read_only(error)) } else { Err(error) };
        }
        let read = self.get(&name).await?;
        if read.as_deref() != Some(b"probe") {
            let reason = "it does not return what was just written".to_owned();
            return Err(RemoteError::Other { remote: self.uri.to_string(), reason, retryable: false });
        }
        let write_once = self.race(&name).await?;
        self.place.set_write_once(write_once);
        self.tidy(&name).await?;
        Ok(Probe { writable: true, refusal: None, write_once })
    }

    /// Deletes, where that is allowed: some buckets keep everything on purpose.
    async fn tidy(&self, name: &str) -> Result<(), RemoteError> {
        match self.delete(name).await {
            Err(RemoteError::Denied { .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether exactly one of several writers creates a name, and none replaces one that is there.
    async fn race(&self, taken: &str) -> Result<bool, RemoteError> {
        match self.place.create_if_absent(taken, Bytes::from_static(b"other")).await {
            Ok(false) => {}
            Ok(true) | Err(RemoteError::Unsupported { .. } | RemoteError::Other { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let name = format!("{taken}-race");
        let writers =
            (0..RACERS).map(|racer| self.place.create_if_absent(&name, Bytes::from(format!("racer {racer}"))));
        let created = join_all(writers).await.into_iter().filter(|result| matches!(result, Ok(true))).count();
        self.tidy(&name).await?;
        Ok(created == 1)
    }

    async fn retried<'a, T>(
        &'a self,
        call: impl Fn() -> BoxFuture<'a, Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        call.retry(self.limits.pauses())
            .when(RemoteError::is_worth_another_try)
            .notify(|error, pause| {
                if let Some(meter) = &self.meter {
                    meter.retry();
                }
                tracing::debug!(%error, ?pause, "a request is tried again");
            })
            .await
    }
}

impl Store for Remote {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.retried(move || self.place.get(name)))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.retried(move || self.place.get_range(name, offset, len)))
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.retried(move || self.place.publish(name, bytes.clone())))
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.retried(move || self.place.overwrite(name, bytes.clone())))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.retried(move || self.place.delete(name)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        Box::pin(self.retried(move || self.place.list(prefix)))
    }

    fn usage(&self) -> Usage {
        self.place.usage()
    }

    fn storage_time(&self) -> Option<u64> {
        Remote::storage_time(self)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("uri", &self.uri.to_string())
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
