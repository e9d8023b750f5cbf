//! Conflicts: listed, told as they come up and end, and ended.

use serde::{Deserialize, Serialize};

/// Several things, or several contents of one file, at one name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictLine {
    /// The box.
    pub box_name: String,
    /// The name in question, as a path in the box.
    pub path: String,
    /// `file`, `directory`, … of what keeps the name.
    pub kind: String,
    /// The others were written down as files of their own already.
    pub settled: bool,
    /// The sides; the first keeps the name.
    pub sides: Vec<SideLine>,
}

/// One side of a conflict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SideLine {
    /// What `--keep mine` keeps: this device's, or what keeps the name if none is.
    pub mine: bool,
    /// The device that wrote it.
    pub device: String,
    /// When, RFC 3339, UTC; of one that was written down already to the minute.
    pub time: String,
    /// Size in bytes; not of a directory.
    pub size: Option<u64>,
    /// Where it is shown, as a path in the box; `None` if it is kept out of sight.
    pub path: Option<String>,
}

/// What of a conflict is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepWish {
    /// What this device wrote.
    Mine,
    /// What the other device wrote.
    Theirs,
    /// Everything, each as a file of its own.
    Both,
}

/// Something that became so, told to who listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first one: whatever becomes so from now on is told.
    Listening {
        /// The box.
        box_name: String,
    },
    /// A conflict came up, or one more side of it.
    Conflict(ConflictLine),
    /// A conflict ended.
    Resolved {
        /// The box.
        box_name: String,
        /// The name that was in question, as a path in the box.
        path: String,
    },
    /// What became so since the last event is not known: list the conflicts anew. What becomes so from now on is told.
    Missed {
        /// The box.
        box_name: String,
        /// Why, in one line.
        why: String,
    },
}
