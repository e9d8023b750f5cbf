//! WebDAV: OpenDAL reads, lists and deletes; PUT, MOVE and MKCOL are our own.
//!
//! OpenDAL's own MOVE always replaces, and looks up the source and every directory before each write.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header::AUTHORIZATION};
use opendal::{Operator, services};
use parking_lot::Mutex;

use crate::dal::{Dal, Site, temporary_name};
use crate::http::Transport;
use crate::meter::Meter;
use crate::remote::Place;
use crate::store::is_torn_write;
use crate::uri::{Scheme, encoded, is_loopback};
use crate::{BoxFuture, Credentials, Limits, ListedObject, RemoteError, RemoteUri, Store, Usage, check_name};

/// What a refused PUT is called in errors.
const WRITING: &str = "writing";

/// A WebDAV folder. Publishing is PUT to a temporary name and MOVE without replacing; where a server has no MOVE, PUT to the final name.
pub(crate) struct WebdavStore {
    dal: Dal,
    transport: Transport,
    /// Scheme, host and port, without a slash at the end.
    server: String,
    /// Path of the folder, encoded, starting with a slash unless empty.
    root: String,
    authorization: Option<HeaderValue>,
    /// Directories known to be there, by their name below the root.
    made: Mutex<BTreeSet<String>>,
    has_move: AtomicBool,
}

impl WebdavStore {
    pub(crate) fn open(
        uri: &RemoteUri,
        credentials: &Credentials,
        limits: &Limits,
        meter: &Arc<Meter>,
    ) -> Result<Self, RemoteError> {
        let site = Site { remote: uri.to_string(), credentials: credentials.clone() };
        let protocol = if uri.scheme() == Scheme::Webdavs { "https" } else { "http" };
        let server = format!("{protocol}://{}", uri.authority());
        let path = uri.path_text()?;
        let root = if path.is_empty() { String::new() } else { format!("/{}", encoded(path.as_bytes(), "/")) };
        let mut builder = services::Webdav::default().endpoint(&server).root(path).disable_create_dir(true);
        let user = uri.user().or_else(|| credentials.get("OUROBOX_WEBDAV_USER"));
        let authorization = match (credentials.get("OUROBOX_WEBDAV_TOKEN"), user) {
            (Some(token), _) => {
                builder = builder.token(token);
                Some(format!("Bearer {token}"))
            }
            (None, Some(user)) => {
                let password = credentials.get("OUROBOX_WEBDAV_PASSWORD").unwrap_or_default();
                builder = builder.username(user).password(password);
                Some(opendal::raw::format_authorization_by_basic(user, password).map_err(|error| site.error(&error))?)
            }
            (None, None) => None,
        };
        let authorization = authorization.map(HeaderValue::try_from).transpose().map_err(|_| {
            let reason = "user, password or token hold characters that HTTP cannot carry".to_owned();
            RemoteError::BadCredentials { reason }
        })?;
        let transport = Transport::new(limits, Arc::clone(meter), is_loopback(uri.host())).map_err(|error| {
            RemoteError::Other { remote: site.remote.clone(), reason: error.to_string(), retryable: false }
        })?;
        let operator = Operator::new(builder).map_err(|error| site.error(&error))?;
        let dal = Dal::new(operator, site, limits, Arc::clone(meter)).over_http(transport.clone());
        let (made, has_move) = (Mutex::default(), AtomicBool::new(true));
        Ok(Self { dal, transport, server, root, authorization, made, has_move })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{}/{}", self.server, self.root, encoded(path.as_bytes(), "/"))
    }

    /// Sends one of our own requests; only its status counts.
    async fn send(
        &self,
        method: &'static str,
        url: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<StatusCode, RemoteError> {
        let method = Method::from_bytes(method.as_bytes()).expect("the verbs of this file are valid methods");
        let mut request = Request::builder().method(method).uri(url);
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|error| RemoteError::Other {
            remote: self.dal.site.remote.clone(),
            reason: error.to_string(),
            retryable: false,
        })?;
        let answer = self.transport.exchange(request).await.map_err(|error| self.dal.site.error(&error))?;
        Ok(answer.status())
    }

    fn refusal(&self, what: &str, status: StatusCode) -> RemoteError {
        let remote = self.dal.site.remote.clone();
        match status.as_u16() {
            401 | 403 | 407 => RemoteError::Denied { remote, reason: format!("{what}: status {status}") },
            405 | 501 => RemoteError::ReadOnly { remote },
            429 => RemoteError::Throttled { remote },
            404 | 409 => {
                let reason = format!("{what}: its folder is not there (status {status})");
                RemoteError::Unreachable { remote, reason, timed_out: true }
            }
            code => RemoteError::Other {
                remote,
                reason: format!("{what}: status {status}"),
                retryable: code == 423 || code >= 500,
            },
        }
    }

    /// Makes a directory below the root and those above it, except those we know.
    async fn make_directory(&self, directory: &str) -> Result<(), RemoteError> {
        let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
        for end in ends.filter(|end| *end > 0) {
            let path = &directory[..end];
            if self.made.lock().contains(path) {
                continue;
            }
            match self.send("MKCOL", &format!("{}/", self.url(path)), &[], Bytes::new()).await? {
                // 405: something is there already.
                StatusCode::CREATED | StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED => {}
                status => return Err(self.refusal("making a folder", status)),
            }
            self.made.lock().insert(path.to_owned());
        }
        Ok(())
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), RemoteError> {
        let headers = [("content-type", "application/octet-stream")];
        match self.send("PUT", &self.url(path), &headers, bytes).await? {
            status if status.is_success() => Ok(()),
            status => Err(self.refusal(WRITING, status)),
        }
    }

    /// Writes a temporary object. Some servers answer "not found" when they mean "not allowed": the folder itself tells the two apart.
    async fn put_temporary(&self, path: &str, bytes: Bytes) -> Result<(), RemoteError> {
        match self.put(path, bytes).await {
            Err(RemoteError::Unreachable { remote, reason, timed_out: true }) if reason.starts_with(WRITING) => {
                if self.dal.operator.stat("/").await.is_ok() {
                    return Err(RemoteError::Denied {
                        remote,
                        reason: "its folder is there but takes no files".to_owned(),
                    });
                }
                Err(RemoteError::Unreachable { remote, reason, timed_out: true })
            }
            other => other,
        }
    }

    async fn rename(&self, source: &str, target: &str, replace: bool) -> Result<StatusCode, RemoteError> {
        let target = self.url(target);
        let headers = [("destination", target.as_str()), ("overwrite", if replace { "T" } else { "F" })];
        self.send("MOVE", &self.url(source), &headers, Bytes::new()).await
    }

    async fn remove(&self, path: &str) {
        if let Err(error) = self.dal.delete_unchecked(path).await {
            tracing::debug!(%error, "a temporary object stays behind");
        }
    }

    /// Whether these bytes may be put over what is there; `false` if it is them.
    async fn may_replace(&self, name: &str, bytes: &Bytes) -> Result<bool, RemoteError> {
        match self.get(name).await? {
            Some(found) if found == *bytes => Ok(false),
            Some(found) if !is_torn_write(&found, bytes) => Err(RemoteError::Taken { name: name.to_owned() }),
            _ => Ok(true),
        }
    }

    async fn place(&self, name: &str, bytes: Bytes, once: bool) -> Result<(), RemoteError> {
        check_name(name)?;
        self.dal.meter.sent(name, bytes.len());
        if let Some((directory, _)) = name.rsplit_once('/')
            && !self.made.lock().contains(directory)
        {
            self.make_directory(directory).await?;
        }
        if self.has_move.load(Relaxed) {
            let temporary = temporary_name();
            self.put_temporary(&temporary, bytes.clone()).await?;
            let settled = match self.place_temporary(&temporary, name, &bytes, once).await {
                Ok(Moved::Placed) => return Ok(()),
                Ok(Moved::AlreadyThere) => Ok(true),
                Ok(Moved::NoMove) => Ok(false),
                Err(error) => Err(error),
            };
            self.remove(&temporary).await;
            if settled? {
                return Ok(());
            }
            self.has_move.store(false, Relaxed);
        }
        if once && !self.may_replace(name, &bytes).await? {
            return Ok(());
        }
        self.put(name, bytes).await
    }

    async fn place_temporary(
        &self,
        temporary: &str,
        name: &str,
        bytes: &Bytes,
        once: bool,
    ) -> Result<Moved, RemoteError> {
        let mut status = self.rename(temporary, name, !once).await?;
        if once && status == StatusCode::PRECONDITION_FAILED {
            if !self.may_replace(name, bytes).await? {
                return Ok(Moved::AlreadyThere);
            }
            status = self.rename(temporary, name, true).await?;
        }
        match status {
            status if status.is_success() => Ok(Moved::Placed),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(Moved::NoMove),
            status => {
                // The directory may have been removed behind our back: the next try makes it again.
                self.made.lock().clear();
                Err(self.refusal("moving into place", status))
            }
        }
    }
}

/// What became of a temporary object.
enum Moved {
    Placed,
    AlreadyThere,
    NoMove,
}

impl Store for WebdavStore {
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
        Box::pin(self.place(name, bytes, true))
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.place(name, bytes, false))
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

impl Place for WebdavStore {
    /// Makes the folder, and those above it if they are missing.
    fn prepare(&self) -> BoxFuture<'_, Result<(), RemoteError>> {
        Box::pin(async move {
            if self.root.is_empty() {
                return Ok(());
            }
            let make = |end: usize| {
                let url = format!("{}{}/", self.server, &self.root[..end]);
                async move { self.send("MKCOL", &url, &[], Bytes::new()).await }
            };
            let mut status = make(self.root.len()).await?;
            if matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) {
                // What servers say of folders that are theirs differs; only the last answer counts.
                for (end, _) in self.root.match_indices('/').filter(|(at, _)| *at > 0) {
                    make(end).await?;
                }
                status = make(self.root.len()).await?;
            }
            // 405: it is there already.
            let is_there = status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED;
            if is_there { Ok(()) } else { Err(self.refusal("making the folder", status)) }
        })
    }
}
