//! What can go wrong with a repository.

use ouro_core::id::{BlobId, DeviceId, DeviceNo, NodeId, Seq};
use ouro_remote::RemoteError;

use crate::config::RepositoryId;
use crate::object::FORMAT_VERSION;
use crate::wire::DecodeError;

/// An error about a repository. Its text is one line and says what to do where somebody can do something.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The storage said no, or nothing.
    #[error("{source}")]
    Remote {
        /// What it said.
        #[from]
        #[source]
        source: RemoteError,
    },
    /// There is no repository at this place.
    #[error("there is no repository here; make one with `ourobox init`")]
    NotARepository,
    /// There is an `ourobox.json`, but not one of ours, or damaged.
    #[error(
        "the file ourobox.json here is damaged or of something else: restore it, or choose an empty folder or prefix"
    )]
    StrangeConfig,
    /// The place holds something else.
    #[error("the place is not empty (it holds {found:?}); choose an empty folder or prefix for a new repository")]
    NotEmpty {
        /// One of the objects there.
        found: String,
    },
    /// The place holds a repository already.
    #[error("there is a repository here already; use `ourobox join`")]
    AlreadyRepository {
        /// Which one, if its configuration can be read.
        id: Option<RepositoryId>,
    },
    /// No key slot opens with this passphrase.
    #[error("the passphrase does not open this repository")]
    WrongPassphrase,
    /// The key is not this repository's.
    #[error("the stored key is not the one of this repository; join again with the passphrase")]
    WrongKey,
    /// The repository is encrypted and no passphrase was given.
    #[error("the repository is encrypted; a passphrase is needed")]
    EncryptedNeedsPassphrase,
    /// A passphrase was given for a repository that is not encrypted: somebody may have put another one in its place.
    #[error("the repository is not encrypted although a passphrase was given; nothing was opened")]
    UnencryptedButPassphraseGiven,
    /// Something was written by a newer version of Ourobox.
    #[error("{name} has format {found}, this version of Ourobox knows {supported}; please update Ourobox")]
    NewerFormat {
        /// The object.
        name: String,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// A commit was made by newer rules than this version knows: what it does to the state can't be told.
    #[error(
        "{name} was written by rules {found}, this version of Ourobox knows rules {supported}; please update Ourobox"
    )]
    NewerRules {
        /// The object.
        name: String,
        /// The rules it was made by.
        found: u32,
        /// The newest rules known here.
        supported: u32,
    },
    /// The repository uses something that this version does not have.
    #[error("the repository needs {what}, which this version of Ourobox does not have; please update Ourobox")]
    Unsupported {
        /// What it needs.
        what: String,
    },
    /// An object is complete and not what it should be: damaged or tampered with. Trying again will not help.
    #[error("{name} is damaged ({what}); `ourobox check --repair` looks for a device that still has the data")]
    Corrupt {
        /// The object, or the blob in it.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// An object under one of our names was not written by Ourobox.
    #[error("{name} was not written by Ourobox; something else writes into the repository")]
    Foreign {
        /// The object.
        name: String,
    },
    /// The object that should hold a blob is not there.
    #[error("the object {name} with blob {blob:?} is not there")]
    BlobGone {
        /// The blob.
        blob: BlobId,
        /// The object.
        name: String,
    },
    /// The object that should hold a tree node is not there.
    #[error("the object {name} with tree node {node:?} is not there")]
    NodeGone {
        /// The node.
        node: NodeId,
        /// The object.
        name: String,
    },
    /// Nobody said where a blob or a node lies.
    #[error("it is not known where {what} lies")]
    Unlocated {
        /// The blob or node.
        what: String,
    },
    /// A device number that no known device has.
    #[error("no device with number {} is known", device.0)]
    UnknownDevice {
        /// The number.
        device: DeviceNo,
    },
    /// The next place in this device's log holds another commit: a copy of this device is running.
    #[error("commit {} of device {device:?} is there already with other content: a copy of this device writes to the same repository", seq.0)]
    ClonedDevice {
        /// Who.
        device: DeviceId,
        /// Which commit.
        seq: Seq,
    },
    /// Bytes that were given under an id which is not theirs.
    #[error("the bytes given for blob {blob:?} are not that blob's")]
    WrongBlob {
        /// The blob.
        blob: BlobId,
    },
    /// Something exceeds what the format holds.
    #[error("{what} has {bytes} bytes, at most {limit} are possible")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The caller's sink refused what the pipeline gave it.
    #[error("what was stored could not be noted on this device")]
    Sink {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Work was handed to the runtime and never came back: the engine is shutting down, or the work panicked.
    #[error("the work was interrupted")]
    Interrupted,
}

impl RepoError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Remote { source } => source.is_retryable(),
            // A list of devices may be stale.
            Self::Interrupted | Self::UnknownDevice { .. } => true,
            _ => false,
        }
    }

    /// Whether it was written by a newer version of Ourobox: nothing may be written on top of it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::NewerFormat { .. } | Self::NewerRules { .. })
    }

    /// Whether data on the remote is damaged or missing: an alarm, not a reason to try for ever.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Foreign { .. } | Self::BlobGone { .. } | Self::NodeGone { .. })
    }

    /// Whether somebody has to do something first: give a passphrase, choose another place, update Ourobox.
    pub fn needs_user(&self) -> bool {
        matches!(
            self,
            Self::NotARepository
                | Self::StrangeConfig
                | Self::NotEmpty { .. }
                | Self::AlreadyRepository { .. }
                | Self::WrongPassphrase
                | Self::WrongKey
                | Self::EncryptedNeedsPassphrase
                | Self::UnencryptedButPassphraseGiven
                | Self::NewerFormat { .. }
                | Self::NewerRules { .. }
                | Self::Unsupported { .. }
        )
    }

    /// An object whose sealed inside does not decode: damaged before it was sealed, or written by newer rules.
    pub(crate) fn malformed(name: impl Into<String>, error: DecodeError) -> RepoError {
        let name = name.into();
        match error {
            DecodeError::NewerFormat { format } => {
                RepoError::NewerFormat { name, found: u32::from(format), supported: u32::from(FORMAT_VERSION) }
            }
            DecodeError::Truncated => RepoError::Corrupt { name, what: "ends too early" },
            DecodeError::Invalid { what } | DecodeError::TooLarge { what } => RepoError::Corrupt { name, what },
        }
    }

    pub(crate) fn corrupt(name: impl Into<String>, what: &'static str) -> RepoError {
        RepoError::Corrupt { name: name.into(), what }
    }
}
