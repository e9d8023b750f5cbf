//! What is told of branches and merges.

use super::{ChangeLine, ConflictLine};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A branch that is open as a box.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Branched {
    /// The box.
    pub box_name: String,
    /// The branch.
    pub branch: String,
    /// Whether it was made now.
    pub made: bool,
    /// At which state it begins, if it was made now.
    pub from: Option<String>,
    /// Where it is mounted, if that was asked for too.
    pub mountpoint: Option<PathBuf>,
}

/// A branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BranchLine {
    /// Its name.
    pub name: String,
    /// The box as which it is open on this device.
    pub box_name: Option<String>,
    /// When it was made, RFC 3339, UTC; `None` if its first commit is not kept any more.
    pub made: Option<String>,
    /// At which state it begins, as its maker said.
    pub from: Option<String>,
    /// Who writes it.
    pub writers: Vec<WriterLine>,
    /// Its commits that the box does not have.
    pub ahead: u64,
    /// Whether it was merged into the box before.
    pub merged: bool,
}

/// A branch that was deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BranchEnded {
    /// The branch.
    pub branch: String,
    /// The box as which it was open on this device.
    pub box_name: Option<String>,
    /// Its commits that the box did not have: they went with it.
    pub discarded: u64,
}

/// A device that writes a branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriterLine {
    /// Its name.
    pub device: String,
    /// Its last commit there, RFC 3339, UTC.
    pub last_commit: String,
    /// How many it made there.
    pub commits: u64,
}

/// What a merge did, or would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Merged {
    /// The box.
    pub box_name: String,
    /// The branch that is brought in.
    pub branch: String,
    /// Nothing was written: this is what would change.
    pub preview: bool,
    /// Commits of the branch that come in, those that change nothing left out.
    pub commits: u64,
    /// What becomes different, in order of paths.
    pub changes: Vec<ChangeLine>,
    /// What is in dispute by it.
    pub conflicts: Vec<ConflictLine>,
    /// The commit that holds it; `None` if there was nothing to bring in, and for a preview.
    pub commit: Option<String>,
    /// The commit that holds what was there before.
    pub before: Option<String>,
    /// Why it is not on the remote yet, if it is not; it goes there by itself.
    pub waiting: Option<String>,
}
