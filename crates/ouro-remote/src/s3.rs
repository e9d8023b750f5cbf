//! S3 and what speaks its language.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use opendal::{ErrorKind, Operator, services};

use crate::dal::{Dal, Site};
use crate::http::Transport;
use crate::meter::Meter;
use crate::remote::Place;
use crate::store::is_torn_write;
use crate::uri::{host_of, is_loopback};
use crate::{BoxFuture, Credentials, Limits, ListedObject, RemoteError, RemoteUri, Store, Usage, check_name};

/// A bucket. A PUT is atomic, so publishing is one PUT; with create-if-absent (`If-None-Match: *`) once the server proved that it means it.
pub(crate) struct S3Store {
    dal: Dal,
    write_once: AtomicBool,
}

impl S3Store {
    pub(crate) fn open(
        uri: &RemoteUri,
        credentials: &Credentials,
        limits: &Limits,
        meter: &Arc<Meter>,
    ) -> Result<Self, RemoteError> {
        let site = Site { remote: uri.to_string(), credentials: credentials.clone() };
        let (Some(key), Some(secret)) =
            (credentials.get("AWS_ACCESS_KEY_ID"), credentials.get("AWS_SECRET_ACCESS_KEY"))
        else {
            let reason = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --credentials-file".to_owned();
            return Err(RemoteError::Denied { remote: site.remote, reason });
        };
        let endpoint = uri.parameter("endpoint").or_else(|| credentials.get("AWS_ENDPOINT_URL"));
        let region = uri.parameter("region").or_else(|| credentials.get("AWS_REGION"));
        let region = region.or_else(|| endpoint.map(|_| "us-east-1")).ok_or_else(|| RemoteError::BadUri {
            reason: "the bucket's region is not known".to_owned(),
            hint: "add ?region=… to the URI".to_owned(),
        })?;
        let mut builder = services::S3::default()
            .bucket(uri.host())
            .root(uri.path_text()?)
            .region(region)
            .access_key_id(key)
            .secret_access_key(secret)
            .disable_config_load()
            .disable_ec2_metadata();
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(token) = credentials.get("AWS_SESSION_TOKEN") {
            builder = builder.session_token(token);
        }
        if uri.parameter("style") == Some("virtual") {
            builder = builder.enable_virtual_host_style();
        }
        let direct = endpoint.is_some_and(|endpoint| is_loopback(host_of(endpoint)));
        let transport = Transport::new(limits, Arc::clone(meter), direct).map_err(|error| RemoteError::Other {
            remote: site.remote.clone(),
            reason: error.to_string(),
            retryable: false,
        })?;
        let operator = Operator::new(builder).map_err(|error| site.error(&error))?;
        let dal = Dal::new(operator, site, limits, Arc::clone(meter)).over_http(transport);
        Ok(Self { dal, write_once: AtomicBool::new(false) })
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), RemoteError> {
        check_name(name)?;
        self.dal.meter.sent(name, bytes.len());
        match self.dal.operator.write(name, bytes).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.dal.site.error(&error)),
        }
    }

    /// Writes unless the name is taken; `false` if it was.
    async fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<bool, RemoteError> {
        check_name(name)?;
        self.dal.meter.sent(name, bytes.len());
        match self.dal.operator.write_with(name, bytes).if_not_exists(true).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => Ok(false),
            Err(error) => Err(self.dal.site.error(&error)),
        }
    }
}

impl Store for S3Store {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.dal.get(name))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.dal.get_range(name, offset, len))
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            if !self.write_once.load(Relaxed) {
                return self.put(name, bytes).await;
            }
            if self.put_if_absent(name, bytes.clone()).await? {
                return Ok(());
            }
            match self.get(name).await? {
                Some(found) if found == bytes => Ok(()),
                Some(found) if !is_torn_write(&found, &bytes) => Err(RemoteError::Taken { name: name.to_owned() }),
                // Torn, or deleted in between.
                _ => self.put(name, bytes).await,
            }
        })
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.put(name, bytes))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.dal.delete(name))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        Box::pin(self.dal.list(prefix))
    }

    fn usage(&self) -> Usage {
        self.dal.meter.usage()
    }
}

impl Place for S3Store {
    fn set_write_once(&self, proven: bool) {
        self.write_once.store(proven, Relaxed);
    }

    fn create_if_absent<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(self.put_if_absent(name, bytes))
    }
}
