//! SFTP by the `ssh` command.

use std::sync::Arc;

use bytes::Bytes;
use opendal::{ErrorKind, Operator, layers::TimeoutLayer, services};

use crate::dal::{Dal, Site, temporary_name};
use crate::meter::{Kind, Meter};
use crate::remote::Place;
use crate::store::is_torn_write;
use crate::{BoxFuture, Credentials, Limits, ListedObject, RemoteError, RemoteUri, Store, Usage, check_name};

/// Bytes written under one time limit.
const PIECE_BYTES: usize = 256 << 10;

/// An account reached by SSH with a key. Publishing is: temporary file, look, rename.
///
/// OpenDAL's SFTP cannot fsync, and renames over what is there; so the name is looked at first. Two writers of one name can pass each other
/// there, which only a second machine with the same device id would do.
pub(crate) struct SftpStore {
    dal: Dal,
}

impl SftpStore {
    pub(crate) fn open(
        uri: &RemoteUri,
        credentials: &Credentials,
        limits: &Limits,
        meter: &Arc<Meter>,
    ) -> Result<Self, RemoteError> {
        let site = Site { remote: uri.to_string(), credentials: credentials.clone() };
        let mut builder = services::Sftp::default()
            .endpoint(&format!("ssh://{}", uri.authority()))
            .root(&format!("/{}", uri.path_text()?))
            .known_hosts_strategy(uri.parameter("known_hosts").unwrap_or("strict"));
        if let Some(user) = uri.user() {
            builder = builder.user(user);
        }
        if let Some(key) = credentials.get("OUROBOX_SFTP_KEY") {
            builder = builder.key(key);
        }
        let limit = limits.progress_timeout;
        let operator = Operator::new(builder)
            .map_err(|error| site.error(&error))?
            .layer(TimeoutLayer::new().with_timeout(limit).with_io_timeout(limit));
        Ok(Self { dal: Dal::new(operator, site, limits, Arc::clone(meter)) })
    }

    /// Writes in pieces, so that the time limit is one on progress. Without a `/` in the name no directory is made.
    async fn write(&self, path: &str, bytes: &Bytes) -> opendal::Result<()> {
        self.dal.meter.request(Kind::Put);
        let mut writer = self.dal.operator.writer(path).await?;
        for start in (0..bytes.len()).step_by(PIECE_BYTES) {
            writer.write(bytes.slice(start..bytes.len().min(start + PIECE_BYTES))).await?;
        }
        writer.close().await.map(|_| ())
    }

    async fn rename(&self, source: &str, target: &str) -> opendal::Result<()> {
        self.dal.meter.request(Kind::Put);
        self.dal.operator.rename(source, target).await
    }

    async fn remove(&self, path: &str) {
        self.dal.meter.request(Kind::Delete);
        if let Err(error) = self.dal.operator.delete(path).await {
            tracing::debug!(error = %self.dal.site.error(&error), "a temporary file stays behind");
        }
    }

    /// Whether the target may be replaced by these bytes; `false` if it holds them already.
    async fn may_place(&self, name: &str, bytes: &Bytes) -> Result<bool, RemoteError> {
        self.dal.meter.request(Kind::Head);
        match self.dal.operator.stat(name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(self.dal.site.error(&error)),
            Ok(_) => {}
        }
        match self.get(name).await? {
            Some(found) if found == *bytes => Ok(false),
            Some(found) if !is_torn_write(&found, bytes) => Err(RemoteError::Taken { name: name.to_owned() }),
            _ => Ok(true),
        }
    }

    async fn place(&self, name: &str, bytes: &Bytes, once: bool) -> Result<(), RemoteError> {
        check_name(name)?;
        self.dal.meter.sent(name, bytes.len());
        let temporary = temporary_name();
        let written = self.write(&temporary, bytes).await.map_err(|error| self.dal.site.error(&error));
        let allowed = match written {
            Ok(()) if once => self.may_place(name, bytes).await,
            other => other.map(|()| true),
        };
        let placed = match allowed {
            Ok(true) => self.rename(&temporary, name).await.map_err(|error| self.dal.site.error(&error)).map(|()| true),
            other => other,
        };
        if !matches!(placed, Ok(true) | Err(RemoteError::Unreachable { .. } | RemoteError::Denied { .. })) {
            self.remove(&temporary).await;
        }
        placed.map(|_| ())
    }
}

impl Store for SftpStore {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            self.dal.meter.request(Kind::Get);
            let found = self.dal.get(name).await?;
            self.dal.meter.received(found.as_ref().map_or(0, Bytes::len));
            Ok(found)
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            self.dal.meter.request(Kind::Get);
            let found = self.dal.get_range(name, offset, len).await?;
            self.dal.meter.received(found.as_ref().map_or(0, Bytes::len));
            Ok(found)
        })
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move { self.place(name, &bytes, true).await })
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move { self.place(name, &bytes, false).await })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            self.dal.meter.request(Kind::Delete);
            self.dal.delete(name).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        Box::pin(async move {
            self.dal.meter.request(Kind::List);
            self.dal.list(prefix).await
        })
    }

    fn usage(&self) -> Usage {
        self.dal.meter.usage()
    }
}

impl Place for SftpStore {}
