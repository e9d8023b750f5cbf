//! Why bytes are no value.

use core::fmt;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends before the value does.
    Truncated,
    /// Something no encoder writes.
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// A number beyond its limit.
    TooLarge {
        /// Which.
        what: &'static str,
    },
    /// Written by rules this program does not know yet.
    NewerFormat {
        /// The format number found.
        format: u8,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("bytes end too early"),
            DecodeError::Invalid { what } => write!(f, "not canonical: {what}"),
            DecodeError::TooLarge { what } => write!(f, "too large: {what}"),
            DecodeError::NewerFormat { format } => write!(f, "written in a newer format ({format})"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Shorthand for [`DecodeError::Invalid`].
pub(crate) fn invalid<T>(what: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Invalid { what })
}
