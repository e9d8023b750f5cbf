//! What is told of devices.

use serde::{Deserialize, Serialize};

/// One device of a box.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceLine {
    /// The box.
    pub box_name: String,
    /// The device's name.
    pub name: String,
    /// Its id, hexadecimal.
    pub id: String,
    /// Its number.
    pub number: u32,
    /// Whether it is this one.
    pub this: bool,
    /// When it joined, RFC 3339, UTC; `None` if the remote could not be asked yet.
    pub joined: Option<String>,
    /// Commits known: the last one's position in its log.
    pub commits: u64,
    /// When its last commit was made, RFC 3339, UTC.
    pub last_commit: Option<String>,
    /// When it is known to have been there last, RFC 3339, UTC: by its commits and its hint.
    pub last_seen: Option<String>,
    /// When it was removed, RFC 3339, UTC.
    pub removed: Option<String>,
    /// Commits of others known here that it did not know when it made its last one; `None` if that is not known.
    pub behind: Option<u64>,
}
