//! Names: bytes, valid as one component of a path on Linux.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

/// Longest name in bytes, as on every Linux file system.
pub const NAME_BYTES_MAX: usize = 255;

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`. Need not be UTF-8. The empty name exists only as the
/// key of a directory's header and is made by [`Name::empty`]. Clones share their bytes: one name stands in many rows and changes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

/// Why bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// Empty, `.`, `..`, or with `/` or NUL in it.
    Invalid,
    /// Longer than [`NAME_BYTES_MAX`].
    TooLong,
}

impl Name {
    /// Takes bytes as a name.
    ///
    /// # Errors
    /// [`BadName`] if a Linux directory could not hold it.
    pub fn new(bytes: &[u8]) -> Result<Name, BadName> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(BadName::Invalid);
        }
        Ok(Name(bytes.into()))
    }

    /// The empty name: sorts first, stands for a directory's header.
    pub fn empty() -> Name {
        Name::default()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is [`Name::empty`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people: invalid UTF-8 shown as replacement characters.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display())
    }
}
