//! Errors of the rooms below, as what to do about them.

use crate::api::{Failure, FailureKind};
use ouro_local::LocalError;
use ouro_local::volume::VolumeError;
use ouro_remote::RemoteError;
use ouro_repo::RepoError;
use ouro_sync::SyncError;
use std::path::Path;

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    pub(crate) fn needs_user(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::NeedsUser, message)
    }

    pub(crate) fn bug(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Bug, message)
    }

    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Failure {
        Failure::needs_user(format!("cannot use {}: {error}", path.display()))
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        let kind = if error.is_retryable() { FailureKind::Offline } else { FailureKind::NeedsUser };
        Failure::new(kind, error.to_string())
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Failure {
        let kind = match &error {
            e if e.is_corrupt() => FailureKind::Corrupt,
            e if e.is_retryable() => FailureKind::Offline,
            e if e.needs_user() => FailureKind::NeedsUser,
            _ => FailureKind::Retry,
        };
        Failure::new(kind, with_sources(&error))
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        let kind = match &error {
            LocalError::Damaged { .. } => FailureKind::Corrupt,
            LocalError::Newer { .. } => FailureKind::Unsupported,
            _ => FailureKind::NeedsUser,
        };
        Failure::new(kind, with_sources(&error))
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Failure {
        match error {
            VolumeError::Local(error) => error.into(),
            VolumeError::Missing(_) | VolumeError::Need(_) | VolumeError::Record { .. } => {
                Failure::new(FailureKind::Offline, error.to_string())
            }
            other => Failure::needs_user(other.to_string()),
        }
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Failure {
        match error {
            SyncError::Rewritten { .. } | SyncError::RolledBack { .. } => {
                Failure::new(FailureKind::Conflict, error.to_string())
            }
            SyncError::Repo(error) => error.into(),
            SyncError::Local(error) => error.into(),
            SyncError::Volume(error) => error.into(),
            SyncError::NodeLost
            | SyncError::BlobLost
            | SyncError::DigestDiffers { .. }
            | SyncError::BulkDelta { .. } => Failure::new(FailureKind::Corrupt, error.to_string()),
            SyncError::RootLost => Failure::new(FailureKind::Bug, error.to_string()),
            SyncError::Branches { .. } | SyncError::BranchEnded { .. } => Failure::needs_user(error.to_string()),
            SyncError::ObjectLost { .. } => Failure::new(FailureKind::Corrupt, error.to_string()),
            SyncError::CollectionHidden | SyncError::CollectionBusy => {
                Failure::new(FailureKind::Retry, error.to_string())
            }
            SyncError::Stopped | SyncError::NoNumber | SyncError::Renewed | SyncError::LookDue => {
                Failure::new(FailureKind::Retry, error.to_string())
            }
        }
    }
}

/// An error in one line: what it says, then why, without saying anything twice.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line.replace('\n', " ")
}

/// The index cache of a box was lost while changes wait that need it.
pub(crate) fn index_lost(name: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::Offline,
        format!("the index of box {name:?} is not on this device any more and cannot be brought back: {why}"),
    )
}
