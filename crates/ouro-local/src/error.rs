//! What can go wrong on this device's disk.

use ouro_core::id::FileId;
use std::io;
use std::sync::Arc;

/// Any failure of this crate. Cloneable, because one failed group of writes has several waiters.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LocalError {
    /// The disk (or a quota on it) is full; nothing of the failed call is in place.
    #[error("no space left for {what}")]
    Full {
        /// A path below the box's directory, or a database.
        what: String,
        /// What the system said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The clean cache holds only what it must keep, or the disk stays below its reserve after eviction.
    #[error("the cache has no room for {needed} bytes and nothing left to evict")]
    CacheFull {
        /// Bytes that were to be kept.
        needed: u64,
    },
    /// Reading or writing a file failed.
    #[error("cannot use {path}")]
    Io {
        /// A path below the box's directory.
        path: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A database refused.
    #[error("database {name} failed")]
    Database {
        /// Which database.
        name: String,
        /// What SQLite said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// What is on the disk is not what was written there. Never repaired by forgetting.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// Which file or database.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a newer Ourobox.
    #[error("{name} was written by a newer version (layout {found}, this one knows {known})")]
    Newer {
        /// Which database.
        name: String,
        /// Layout found.
        found: i64,
        /// Newest layout known here.
        known: i64,
    },
    /// No dirty layer of this file and generation is known.
    #[error("no dirty data of {file:?} in generation {generation}")]
    NoLayer {
        /// The file.
        file: FileId,
        /// The seal generation.
        generation: u64,
    },
    /// Writes were dropped while the journal had failed; only opening it anew helps.
    #[error("the journal stopped after a failure and lost later writes")]
    Stopped,
}

impl LocalError {
    /// Takes an error of the cache disk; a full disk apart from others.
    pub(crate) fn io(path: impl Into<String>, source: io::Error) -> LocalError {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LocalError::Full { what: path, source: Arc::new(source) }
            }
            _ => LocalError::Io { path, source: Arc::new(source) },
        }
    }

    /// Takes an error of SQLite; full and damaged apart from others.
    pub(crate) fn sql(name: &str, source: rusqlite::Error) -> LocalError {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
        let name = name.to_owned();
        match source.sqlite_error_code() {
            Some(DiskFull) => LocalError::Full { what: name, source: Arc::new(source) },
            Some(DatabaseCorrupt | NotADatabase) => LocalError::Damaged { name, reason: source.to_string() },
            _ => LocalError::Database { name, source: Arc::new(source) },
        }
    }

    /// Whether making room may help.
    pub fn is_full(&self) -> bool {
        matches!(self, LocalError::Full { .. } | LocalError::CacheFull { .. })
    }
}
