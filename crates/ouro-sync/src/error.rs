//! Why syncing stopped.

use ouro_local::LocalError;
use ouro_local::volume::VolumeError;
use ouro_repo::RepoError;

/// Any failure of this crate. Trying again is always safe.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The repository or its storage.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// This device's disk or journal.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// This device's volume refuses.
    #[error(transparent)]
    Volume(VolumeError),
    /// An index node is needed and nobody knows where it lies.
    #[error("an index node is nowhere to be found: run `ourobox check --repair`")]
    NodeLost,
    /// Bytes are needed and nobody knows where they lie.
    #[error("a part of a file is nowhere to be found: run `ourobox check --repair`")]
    BlobLost,
    /// A record says that its device computed another state than this device did.
    #[error("device {device} computed another state than this one at its commit {seq}: stop writing and report this")]
    DigestDiffers {
        /// Number of the device.
        device: u32,
        /// Its commit.
        seq: u64,
    },
    /// The delta of a bulk commit is not what it should be, although its hash is right.
    #[error("a bulk commit cannot be read ({error}): update Ourobox on this device")]
    BulkDelta {
        /// What the decoder says.
        error: ouro_core::codec::DecodeError,
    },
    /// What a device's log says was rewritten: a copy of that device runs somewhere, or the storage was set back.
    #[error(
        "the log of device {device} was written twice at its commit {seq}: a copy of that device runs somewhere, or the storage was set back; end the copy and join it again under a new name"
    )]
    Rewritten {
        /// Number of the device.
        device: u32,
        /// Its commit.
        seq: u64,
    },
    /// A list does not show a collection that took place.
    #[error("the storage's list does not show the newest collection yet: try again later")]
    CollectionHidden,
    /// This device cannot take note of a collection yet.
    #[error("this device is still busy with an import or with commits on their way: try again when it is done")]
    CollectionBusy,
    /// The branch that this box is was deleted by another device.
    #[error(
        "branch {branch:?} was deleted on another device: `ourobox branch {branch:?} --delete` removes its box here too"
    )]
    BranchEnded {
        /// Its name.
        branch: String,
    },
    /// What branches are made on would go.
    #[error("{} in this repository: a repository that has branches cannot be collected: `ourobox branch NAME --delete` deletes one; nothing was changed", .names.join(", "))]
    Branches {
        /// Who writes them.
        names: Vec<String>,
    },
    /// Something that is needed lies in an object that is not there.
    #[error("{name} is needed and is not there: nothing was collected; run `ourobox check --repair`")]
    ObjectLost {
        /// The object.
        name: String,
    },
    /// The log lacks a commit of this device that was there.
    #[error(
        "the storage was set back: commit {seq} of this device was there and is not any more; restore the storage, or join again into a new repository"
    )]
    RolledBack {
        /// The commit.
        seq: u64,
    },
    /// This device goes on under another identity, and what was under way goes along.
    #[error("this device goes on under another identity: try again")]
    Renewed,
    /// A commit may refer to what a collection took that did not wait for this device.
    #[error("this device was away for long and has to look first at what was collected meanwhile: try again")]
    LookDue,
    /// Chance gave no number that is free.
    #[error("no free device number was drawn: try again")]
    NoNumber,
    /// A tree was written and its root has no place.
    #[error("a checkpoint was written without a place for its root")]
    RootLost,
    /// The engine is ending.
    #[error("the engine is ending")]
    Stopped,
}

impl SyncError {
    /// Whether going on writing could do harm: something is not as every device must find it, or not known to this version.
    pub fn is_alarm(&self) -> bool {
        matches!(self, SyncError::DigestDiffers { .. } | SyncError::Rewritten { .. } | SyncError::RolledBack { .. })
            || self.is_copy()
            || self.is_newer()
    }

    /// Whether the name of this device's next commit was taken.
    pub(crate) fn is_copy(&self) -> bool {
        matches!(self, SyncError::Repo(RepoError::ClonedDevice { .. }))
    }

    /// Whether something that is needed is not there, or not what it should be.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            SyncError::Repo(error) => error.is_corrupt(),
            SyncError::NodeLost | SyncError::BlobLost | SyncError::Volume(VolumeError::Thinned { .. }) => true,
            _ => false,
        }
    }

    /// Whether something was written by a newer Ourobox, so that what it does to the state can't be told.
    pub(crate) fn is_newer(&self) -> bool {
        use ouro_core::codec::DecodeError;
        match self {
            SyncError::Repo(error) => error.is_newer(),
            SyncError::BulkDelta { error } => matches!(error, DecodeError::NewerFormat { .. }),
            _ => false,
        }
    }

    /// Whether waiting and trying again may help by itself.
    pub fn is_retryable(&self) -> bool {
        match self {
            SyncError::Repo(error) => error.is_retryable(),
            SyncError::Local(error) => error.is_full(),
            SyncError::Volume(error) => !matches!(error, VolumeError::ReadOnly { .. }),
            SyncError::Stopped
            | SyncError::NoNumber
            | SyncError::Renewed
            | SyncError::LookDue
            | SyncError::CollectionHidden
            | SyncError::CollectionBusy => true,
            _ => false,
        }
    }
}

impl From<VolumeError> for SyncError {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::Local(error) => SyncError::Local(error),
            other => SyncError::Volume(other),
        }
    }
}
