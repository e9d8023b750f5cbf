//! HTTP for OpenDAL's services and for our own WebDAV verbs: time limits by progress, size limits, exact accounting.

use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_RANGE, DATE, HeaderValue, RANGE};
use http::{Method, Request, Response, StatusCode};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport};

use crate::Limits;
use crate::meter::{Kind, Meter};

/// A list may take this many times as long as an answer without bytes: some servers say nothing until they have all of it.
const LIST_PATIENCE: u32 = 6;
/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Redirects followed.
const REDIRECTS_MAX: usize = 3;

/// What failed below HTTP or by its status alone; found again as the source of an OpenDAL error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    NoConnection(String),
    #[error("no space left (status 507)")]
    Full,
    #[error("an answer of more than {0} bytes")]
    TooLarge(u64),
}

/// The HTTP client of one remote.
#[derive(Clone)]
pub(crate) struct Transport {
    /// For GET and HEAD: gives up when no byte arrived for a while, follows redirects.
    reading: reqwest::Client,
    /// For the rest: each request has a time limit by its length, for the server says nothing until it has all of it. Follows only redirects
    /// that keep the method; the others would turn a PUT into a GET, and a login page's answer into a success.
    writing: reqwest::Client,
    limits: Limits,
    meter: Arc<Meter>,
}

impl Transport {
    /// A client; `direct` bypasses the proxies the environment names.
    pub(crate) fn new(limits: &Limits, meter: Arc<Meter>, direct: bool) -> Result<Self, reqwest::Error> {
        static PROVIDER: Once = Once::new();
        // An application that chose a provider before us keeps its own.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let client = || {
            let builder = reqwest::Client::builder()
                .connect_timeout(limits.connect_timeout)
                .tcp_user_timeout(limits.progress_timeout)
                .pool_idle_timeout(IDLE_CONNECTION)
                .pool_max_idle_per_host(limits.requests_max)
                .user_agent(concat!("ourobox/", env!("CARGO_PKG_VERSION")));
            if direct { builder.no_proxy() } else { builder }
        };
        let reading = client()
            .read_timeout(limits.progress_timeout)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .build()?;
        let writing = client().redirect(reqwest::redirect::Policy::custom(keeps_the_method)).build()?;
        Ok(Self { reading, writing, limits: limits.clone(), meter })
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn exchange(&self, request: Request<Bytes>) -> opendal::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        self.meter.request(kind_of(&parts.method, parts.uri.query(), &parts.headers));
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the URL is invalid").set_source(error))?;
        if parts.method == Method::GET {
            parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        let range = parts.headers.get(RANGE).and_then(parse_range);
        let mut builder = match parts.method.as_str() {
            "GET" | "HEAD" => self.reading.request(parts.method, url),
            "PROPFIND" => self.writing.request(parts.method, url).timeout(self.limits.progress_timeout * LIST_PATIENCE),
            _ => self.writing.request(parts.method, url).timeout(self.limits.upload_timeout(body.len() as u64)),
        };
        builder = builder.headers(parts.headers);
        if !body.is_empty() {
            builder = builder.body(body);
        }
        let mut response = builder.send().await.map_err(no_answer)?;
        if let Some(seconds) = response.headers().get(DATE).and_then(parse_date) {
            self.meter.dated(seconds);
        }
        let status = response.status();
        let mut answer = Response::builder().status(status).version(response.version());
        if let Some(headers) = answer.headers_mut() {
            std::mem::swap(headers, response.headers_mut());
        }
        let partial = answer.headers_ref().is_some_and(|headers| headers.contains_key(CONTENT_RANGE));
        let mut bytes = self.read_body(response).await?;
        match (status, range) {
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                return Err(Error::new(ErrorKind::RangeNotSatisfied, "the object ends before this range"));
            }
            // A server may ignore the range and send everything; another sends the range, but not its status.
            (StatusCode::OK, Some((first, last))) if !partial => {
                let end = last.saturating_add(1).min(bytes.len() as u64);
                if first >= end {
                    return Err(Error::new(ErrorKind::RangeNotSatisfied, "the object ends before this range"));
                }
                bytes = bytes.slice(first as usize..end as usize);
            }
            (StatusCode::UNAUTHORIZED, _) => {
                return Err(Error::new(ErrorKind::PermissionDenied, "user name or password not accepted (status 401)"));
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                return Err(Error::new(ErrorKind::RateLimited, "too many requests").set_temporary());
            }
            (StatusCode::INSUFFICIENT_STORAGE, _) => {
                return Err(Error::new(ErrorKind::Unexpected, "no space").set_source(Failure::Full));
            }
            _ => {}
        }
        answer.body(bytes).map_err(|error| Error::new(ErrorKind::Unexpected, "the answer is invalid").set_source(error))
    }

    async fn read_body(&self, mut response: reqwest::Response) -> opendal::Result<Bytes> {
        let limit = self.limits.object_bytes_max;
        let too_large = || Error::new(ErrorKind::Unexpected, "too large").set_source(Failure::TooLarge(limit));
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let Some(first) = response.chunk().await.map_err(no_answer)? else { return Ok(Bytes::new()) };
        self.meter.received(first.len());
        let Some(second) = response.chunk().await.map_err(no_answer)? else { return Ok(first) };
        self.meter.received(second.len());
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            self.meter.received(chunk.len());
            whole.extend_from_slice(&chunk);
            if whole.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(whole.freeze())
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let uri = request.uri().clone();
        let (mut parts, body) = self.exchange(request.map(|body| body.to_bytes())).await?.into_parts();
        // Services look up in the answer where it came from.
        parts.extensions.insert(uri);
        let body = HttpBody::new(futures::stream::iter([Ok(Buffer::from(body))]), None);
        Ok(Response::from_parts(parts, body))
    }
}

fn keeps_the_method(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let keeps = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if keeps && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
}

fn kind_of(method: &Method, query: Option<&str>, headers: &http::HeaderMap) -> Kind {
    match method.as_str() {
        "GET" if query.is_some_and(|query| query.contains("list-type=") || query.contains("delimiter=")) => Kind::List,
        "GET" => Kind::Get,
        "HEAD" => Kind::Head,
        "PROPFIND" if headers.get("Depth").is_some_and(|depth| depth == "0") => Kind::Head,
        "PROPFIND" => Kind::List,
        "DELETE" => Kind::Delete,
        _ => Kind::Put,
    }
}

/// First and last byte of a `bytes=first-last` header.
fn parse_range(value: &HeaderValue) -> Option<(u64, u64)> {
    let (first, last) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Seconds since 1970 of a date like `Sun, 06 Nov 1994 08:49:37 GMT`, the only form servers may send.
fn parse_date(value: &HeaderValue) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = value.to_str().ok()?.split(' ').skip(1);
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part < 61));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Years that begin in March put the leap day at the end: days before a month follow a straight line.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Days from 0000-03-01 to 1970-01-01.
    Some(days.checked_sub(719_468)? * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn no_answer(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let failure = if error.is_timeout() {
        Failure::TimedOut
    } else {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Failure::NoConnection(cause.to_string())
    };
    Error::new(ErrorKind::Unexpected, "no answer").set_source(failure).set_temporary()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_as_what_they_are() {
        let headers = http::HeaderMap::new();
        assert_eq!(kind_of(&Method::GET, None, &headers), Kind::Get);
        assert_eq!(kind_of(&Method::GET, Some("list-type=2&prefix=a"), &headers), Kind::List);
        assert_eq!(kind_of(&Method::PUT, None, &headers), Kind::Put);
        assert_eq!(kind_of(&Method::HEAD, None, &headers), Kind::Head);
        let mut depth = http::HeaderMap::new();
        depth.insert("Depth", HeaderValue::from_static("0"));
        let propfind = Method::from_bytes(b"PROPFIND").unwrap();
        assert_eq!(kind_of(&propfind, None, &depth), Kind::Head);
        assert_eq!(kind_of(&propfind, None, &headers), Kind::List);
    }

    #[test]
    fn a_date_becomes_seconds() {
        let seconds = |text: &'static str| parse_date(&HeaderValue::from_static(text));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(seconds("Wed, 31 Dec 2025 23:59:59 GMT"), Some(1_767_225_599));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn a_bounded_range_is_understood() {
        assert_eq!(parse_range(&HeaderValue::from_static("bytes=3-9")), Some((3, 9)));
        assert_eq!(parse_range(&HeaderValue::from_static("bytes=3-")), None);
    }
}
