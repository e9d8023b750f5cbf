//! The seam: what the rest of Ourobox asks of a storage place.

use bytes::Bytes;

use crate::{BoxFuture, RemoteError, Usage};

/// Longest object name in bytes (S3's limit).
pub(crate) const NAME_BYTES_MAX: usize = 1024;
/// Components that start like this are ours while a write is under way; no list shows them and no caller may use them.
pub(crate) const TEMPORARY_PREFIX: &str = ".ouro-tmp-";

/// One storage place as the repository sees it; also the seam for the simulator.
///
/// Names are relative paths with `/` between components (see [`check_name`]). Every call may be repeated safely, and every future may be
/// dropped: the request then may or may not take effect.
pub trait Store: Send + Sync + 'static {
    /// Reads a whole object; `None` means that it is not there.
    ///
    /// # Errors
    ///
    /// Anything the storage says except "not found".
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>>;

    /// Reads exactly `len` bytes at `offset`; `None` means that the object is not there.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Torn`] if the object ends before `offset + len`.
    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>>;

    /// Publishes a whole object under a name that is written once.
    ///
    /// Readers see nothing or the whole object wherever the storage can do that. If the name holds exactly these bytes already the call
    /// succeeds; if it holds only their beginning (a write that was cut off) they are completed. When the call returns the bytes are as
    /// durable as the storage makes them.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Taken`] if the name holds other bytes. S3 says so only once [`Remote::probe`](crate::Remote::probe) has proved that
    /// the server honours create-if-absent; elsewhere on S3 the last write wins.
    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Writes a hint, whatever the name held before; readers see the old or the new bytes where the storage can do that.
    ///
    /// # Errors
    ///
    /// Anything the storage says.
    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Deletes an object; that it is not there is success.
    ///
    /// # Errors
    ///
    /// Anything the storage says except "not found".
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>>;

    /// Lists the objects below `prefix` (empty, or ending with `/`), all the way down, sorted by name; a prefix that is not there is an
    /// empty list.
    ///
    /// A list may be stale: never conclude from it that an object is absent.
    ///
    /// # Errors
    ///
    /// Anything the storage says; more than [`Limits::list_entries_max`](crate::Limits::list_entries_max) entries.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>>;

    /// What was asked of the storage so far.
    fn usage(&self) -> Usage;

    /// When the newest answer was sent by the storage's own clock, in seconds since 1970; `None` where answers bear no date, and before the
    /// first answer.
    fn storage_time(&self) -> Option<u64> {
        None
    }
}

/// An object as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedObject {
    /// Its full name, prefix included.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Checks that an object name is safe on every storage: relative, without empty, `.` or `..` components, control characters or our own
/// temporary names, at most 1024 bytes long.
///
/// # Errors
///
/// [`RemoteError::BadName`].
pub fn check_name(name: &str) -> Result<(), RemoteError> {
    let bad = name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.chars().any(|c| c.is_control() || c == '\\')
        || name.split('/').any(|part| matches!(part, "" | "." | "..") || part.starts_with(TEMPORARY_PREFIX));
    if bad { Err(RemoteError::BadName { name: name.to_owned() }) } else { Ok(()) }
}

/// Checks a prefix for [`Store::list`]: empty, or a name followed by `/`.
///
/// # Errors
///
/// [`RemoteError::BadName`].
pub fn check_prefix(prefix: &str) -> Result<(), RemoteError> {
    if prefix.is_empty() {
        return Ok(());
    }
    let name = prefix.strip_suffix('/').ok_or_else(|| RemoteError::BadName { name: prefix.to_owned() })?;
    check_name(name)
}

/// Checks the whole range of a read.
pub(crate) fn check_range(name: &str, offset: u64, len: u64) -> Result<u64, RemoteError> {
    check_name(name)?;
    offset.checked_add(len).ok_or_else(|| RemoteError::Torn { name: name.to_owned(), wanted: u64::MAX })
}

/// Whether `found` is what a cut-off write of `wanted` leaves behind.
pub(crate) fn is_torn_write(found: &[u8], wanted: &[u8]) -> bool {
    found.len() < wanted.len() && wanted.starts_with(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_repository_are_refused() {
        for name in ["", "/", "a/", "/a", "a//b", "../a", "a/..", "a/./b", "a\nb", "a\\b", "x/.ouro-tmp-1"] {
            assert!(check_name(name).is_err(), "{name:?} was accepted");
        }
        for name in ["a", "packs/0a/0a31", ".ourobox/log/x/1", "Bilder/Über uns.jpg"] {
            check_name(name).unwrap();
        }
        assert!(check_name(&"a".repeat(1025)).is_err());
    }

    #[test]
    fn a_prefix_is_empty_or_ends_with_a_slash() {
        check_prefix("").unwrap();
        check_prefix("heads/").unwrap();
        assert!(check_prefix("heads").is_err());
        assert!(check_prefix("../").is_err());
    }

    #[test]
    fn only_a_true_beginning_counts_as_a_torn_write() {
        assert!(is_torn_write(b"", b"abc"));
        assert!(is_torn_write(b"ab", b"abc"));
        assert!(!is_torn_write(b"abc", b"abc"));
        assert!(!is_torn_write(b"ax", b"abc"));
    }
}
