//! What is told of a check.

use serde::{Deserialize, Serialize};

/// What a check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Commit records read.
    pub records: u64,
    /// Index nodes read.
    pub nodes: u64,
    /// Blobs seen to exist (or read back, with `read_data`).
    pub blobs: u64,
    /// Bytes read back.
    pub bytes: u64,
    /// What was wrong and is mended, one line each.
    pub repaired: Vec<String>,
    /// What is wrong, one line each; empty if all is well.
    pub problems: Vec<String>,
}
