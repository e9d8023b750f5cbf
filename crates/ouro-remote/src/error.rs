//! What can go wrong at a storage place, in words that say what to do.

/// An error from a storage place. Its text is one line, says what to do, and never holds credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The storage did not answer, or not in time.
    #[error("{remote} cannot be reached ({reason}); work goes on locally, check the network and the address")]
    Unreachable {
        /// The storage place, as its URI.
        remote: String,
        /// What happened.
        reason: String,
        /// Whether a time limit ran out, so that trying again at once would only wait again.
        timed_out: bool,
    },
    /// The storage refused: wrong or missing credentials, or no right to do this.
    #[error("{remote} refuses access ({reason}); check the credentials and what they are allowed to do")]
    Denied {
        /// The storage place, as its URI.
        remote: String,
        /// What it refused.
        reason: String,
    },
    /// The storage can be read but not written.
    #[error("{remote} is read-only; make it writable or choose another place")]
    ReadOnly {
        /// The storage place, as its URI.
        remote: String,
    },
    /// The storage has no space left, or a quota is used up.
    #[error("{remote} is full; free some space there or raise the quota")]
    Full {
        /// The storage place, as its URI.
        remote: String,
    },
    /// The storage asked us to slow down.
    #[error("{remote} asks for fewer requests; it is tried again later")]
    Throttled {
        /// The storage place, as its URI.
        remote: String,
    },
    /// An object is shorter than what was asked of it: its write was cut off.
    #[error(
        "the object {name} ends before byte {wanted}: its upload was cut off; the device that wrote it will complete it"
    )]
    Torn {
        /// The object.
        name: String,
        /// The length it needs to have at least, in bytes.
        wanted: u64,
    },
    /// A write-once name holds other bytes.
    #[error(
        "the object {name} is there already with other content; does a copy of this device write to the same repository?"
    )]
    Taken {
        /// The object.
        name: String,
    },
    /// An object name that is not safe everywhere.
    #[error("{name:?} is not a valid object name")]
    BadName {
        /// The name.
        name: String,
    },
    /// A remote's URI, or what belongs to it, is wrong.
    #[error("{reason}; {hint}")]
    BadUri {
        /// What is wrong, without repeating a secret.
        reason: String,
        /// What to write instead.
        hint: String,
    },
    /// A credentials file is wrong.
    #[error("the credentials cannot be used: {reason}")]
    BadCredentials {
        /// What is wrong, without repeating a secret.
        reason: String,
    },
    /// The storage cannot do this at all.
    #[error("{remote} does not support this: {what}")]
    Unsupported {
        /// The storage place, as its URI.
        remote: String,
        /// What it cannot do.
        what: String,
    },
    /// Anything else the storage said.
    #[error("{remote} answered with an error ({reason}); if it stays, ask whoever runs that storage")]
    Other {
        /// The storage place, as its URI.
        remote: String,
        /// What it said, shortened and without credentials.
        reason: String,
        /// Whether the same request may succeed later.
        retryable: bool,
    },
}

impl RemoteError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Throttled { .. } | Self::Torn { .. } => true,
            Self::Other { retryable, .. } => *retryable,
            Self::Denied { .. }
            | Self::ReadOnly { .. }
            | Self::Full { .. }
            | Self::Taken { .. }
            | Self::BadName { .. }
            | Self::BadUri { .. }
            | Self::BadCredentials { .. }
            | Self::Unsupported { .. } => false,
        }
    }

    /// Whether it makes sense to try again within the same call.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Unreachable { timed_out, .. } => !timed_out,
            Self::Torn { .. } => false,
            other => other.is_retryable(),
        }
    }
}
