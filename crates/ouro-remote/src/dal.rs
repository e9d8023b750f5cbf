//! What the OpenDAL backends share: reading, listing, deleting, and turning OpenDAL's errors into ours.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures::StreamExt as _;
use opendal::{EntryMode, ErrorKind, HttpTransporter, OperationContext, Operator};

use crate::http::{Failure, Transport};
use crate::meter::Meter;
use crate::store::{TEMPORARY_PREFIX, check_range};
use crate::{Credentials, Limits, ListedObject, RemoteError, check_name, check_prefix};

/// Longest text of a foreign error that we pass on, in characters.
const REASON_CHARS_MAX: usize = 200;

/// What OpenDAL says of a range that the object does not fill; it has no kind of its own.
const TOO_LITTLE: &str = "reader got too little data";

/// Who answers, for errors; and what must not appear in them.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) remote: String,
    pub(crate) credentials: Credentials,
}

/// An OpenDAL operator and what all requests to it need.
#[derive(Clone)]
pub(crate) struct Dal {
    pub(crate) operator: Operator,
    pub(crate) site: Site,
    pub(crate) meter: Arc<Meter>,
    list_entries_max: usize,
}

impl Dal {
    pub(crate) fn new(operator: Operator, site: Site, limits: &Limits, meter: Arc<Meter>) -> Self {
        Self { operator, site, meter, list_entries_max: limits.list_entries_max }
    }

    /// The same over our own HTTP client.
    pub(crate) fn over_http(self, transport: Transport) -> Self {
        let executor = self.operator.base_context().executor().clone();
        let context = OperationContext::from_parts(HttpTransporter::new(transport), executor);
        Self { operator: self.operator.with_context(context), ..self }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Bytes>, RemoteError> {
        check_name(name)?;
        match self.operator.read(name).await {
            Ok(buffer) => Ok(Some(buffer.to_bytes())),
            Err(error) => self.site.absent(error),
        }
    }

    pub(crate) async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Option<Bytes>, RemoteError> {
        let end = check_range(name, offset, len)?;
        let torn = || RemoteError::Torn { name: name.to_owned(), wanted: end };
        if len == 0 {
            return match self.operator.stat(name).await {
                Ok(metadata) if metadata.content_length() < end => Err(torn()),
                Ok(_) => Ok(Some(Bytes::new())),
                Err(error) => self.site.absent(error),
            };
        }
        match self.operator.read_with(name).range(offset..end).await {
            Ok(buffer) if (buffer.len() as u64) < len => Err(torn()),
            Ok(buffer) => Ok(Some(buffer.to_bytes())),
            Err(error) if error.kind() == ErrorKind::RangeNotSatisfied || error.to_string().contains(TOO_LITTLE) => {
                Err(torn())
            }
            Err(error) => self.site.absent(error),
        }
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), RemoteError> {
        check_name(name)?;
        self.delete_unchecked(name).await
    }

    /// Deletes also what bears one of our temporary names.
    pub(crate) async fn delete_unchecked(&self, path: &str) -> Result<(), RemoteError> {
        match self.operator.delete(path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.site.error(&error)),
            _ => Ok(()),
        }
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, RemoteError> {
        check_prefix(prefix)?;
        let path = if prefix.is_empty() { "/" } else { prefix };
        let mut lister = match self.operator.lister_with(path).recursive(true).await {
            Ok(lister) => lister,
            Err(error) => return self.site.absent(error).map(|_: Option<()>| Vec::new()),
        };
        let mut found = Vec::new();
        while let Some(entry) = lister.next().await {
            let entry = match entry {
                Ok(entry) => entry,
                // A directory that went away while we walked.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(self.site.error(&error)),
            };
            let ours = entry.name().starts_with(TEMPORARY_PREFIX);
            if entry.metadata().mode() != EntryMode::FILE || ours {
                continue;
            }
            if found.len() >= self.list_entries_max {
                let what = format!("listing more than {} objects", self.list_entries_max);
                return Err(RemoteError::Unsupported { remote: self.site.remote.clone(), what });
            }
            found.push(ListedObject { name: entry.path().to_owned(), bytes: entry.metadata().content_length() });
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl Site {
    /// `None` if the error only says that the object is not there.
    pub(crate) fn absent<T>(&self, error: opendal::Error) -> Result<Option<T>, RemoteError> {
        if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(self.error(&error)) }
    }

    /// Turns OpenDAL's error into ours.
    pub(crate) fn error(&self, error: &opendal::Error) -> RemoteError {
        let remote = self.remote.clone();
        let text = full_text(error);
        let reason = || self.reason(error);
        match std::error::Error::source(error).and_then(|source| source.downcast_ref::<Failure>()) {
            Some(Failure::TimedOut) => {
                return RemoteError::Unreachable { remote, reason: "no answer in time".to_owned(), timed_out: true };
            }
            Some(Failure::NoConnection(what)) => {
                return RemoteError::Unreachable { remote, reason: self.shorten(what), timed_out: false };
            }
            Some(Failure::Full) => return RemoteError::Full { remote },
            Some(Failure::TooLarge(_)) | None => {}
        }
        let says = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
        match error.kind() {
            ErrorKind::RateLimited => RemoteError::Throttled { remote },
            _ if says(&["SlowDown", "TooManyRequests", "RequestLimitExceeded"]) => RemoteError::Throttled { remote },
            _ if says(&["QuotaExceeded", "StorageFull", "InsufficientStorage"]) => RemoteError::Full { remote },
            ErrorKind::PermissionDenied => RemoteError::Denied { remote, reason: reason() },
            _ if says(&["Host key verification failed"]) => {
                let reason = "the host's key is not known: connect once with ssh, or add known_hosts=add to the URI";
                RemoteError::Denied { remote, reason: reason.to_owned() }
            }
            _ if says(&["Permission denied (", "Too many authentication failures"]) => {
                RemoteError::Denied { remote, reason: "the SSH key was not accepted".to_owned() }
            }
            _ if says(&["timeout reached", "request: timeout", "timed out"]) => {
                RemoteError::Unreachable { remote, reason: "no answer in time".to_owned(), timed_out: true }
            }
            _ if says(&[
                "ssh error",
                "failed to connect",
                "Connection closed",
                "background task failed",
                "Connection reset",
            ]) =>
            {
                RemoteError::Unreachable { remote, reason: reason(), timed_out: false }
            }
            ErrorKind::Unsupported => RemoteError::Unsupported { remote, what: reason() },
            _ if says(&["NoSuchBucket"]) => {
                RemoteError::Denied { remote, reason: "there is no such bucket for these credentials".to_owned() }
            }
            _ => RemoteError::Other { remote, reason: reason(), retryable: error.is_temporary() },
        }
    }

    /// What the storage said, in short: the message without OpenDAL's context, which repeats requests.
    fn reason(&self, error: &opendal::Error) -> String {
        let text = full_text(error);
        let message = text.split_once(" => ").map_or(text.as_str(), |(_, message)| message);
        // S3 errors come as `S3Error { code: "…", message: "…", … }`; the rest of them repeats ids.
        let field = |key: &str| message.split_once(key)?.1.split('"').next().filter(|value| !value.is_empty());
        let text = match (field("code: \""), field("message: \"")) {
            (Some(code), Some(words)) => format!("{code}: {words}"),
            (Some(code), None) => code.to_owned(),
            (None, _) if message.is_empty() => error.kind().to_string(),
            (None, _) => message.to_owned(),
        };
        self.shorten(&text)
    }

    /// One line without credentials.
    pub(crate) fn shorten(&self, text: &str) -> String {
        let line = self.credentials.scrub(text).split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(REASON_CHARS_MAX).collect()
    }
}

/// An error with all its causes.
fn full_text(error: &opendal::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A name for a temporary object that no other writer uses.
///
/// It needs to differ between processes and machines and nothing else depends on it, so it does not come from the `Rng` port.
pub(crate) fn temporary_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNTER.fetch_add(1, Relaxed));
    hasher.write_u32(std::process::id());
    format!("{TEMPORARY_PREFIX}{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let credentials =
            Credentials::parse("AWS_ACCESS_KEY_ID=AKIAHUNTER2\nAWS_SECRET_ACCESS_KEY=hunter2hunter2").unwrap();
        Site { remote: "s3://b".to_owned(), credentials }
    }

    #[test]
    fn an_s3_refusal_is_short_and_holds_no_key() {
        let message = r#"S3Error { code: "SignatureDoesNotMatch", message: "no match for AKIAHUNTER2", resource: "hunter2hunter2", request_id: "1" }"#;
        let error =
            opendal::Error::new(ErrorKind::PermissionDenied, message).with_context("response", "hunter2hunter2");
        let error = site().error(&error);
        assert!(
            matches!(&error, RemoteError::Denied { reason, .. } if reason == "SignatureDoesNotMatch: no match for ***"),
            "{error}"
        );
    }

    #[test]
    fn a_time_limit_is_told_apart_from_a_refused_connection() {
        let error = |failure| opendal::Error::new(ErrorKind::Unexpected, "x").set_source(failure);
        let timed_out = site().error(&error(Failure::TimedOut));
        assert!(matches!(timed_out, RemoteError::Unreachable { timed_out: true, .. }));
        let refused = site().error(&error(Failure::NoConnection("refused".to_owned())));
        assert!(matches!(refused, RemoteError::Unreachable { timed_out: false, .. }));
    }

    #[test]
    fn temporary_names_differ() {
        assert_ne!(temporary_name(), temporary_name());
    }
}
