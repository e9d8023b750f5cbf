//! The repository through its public face, against a store in memory.
#![expect(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod blobs;
mod golden;
mod nodes;
mod opening;
mod pipeline;
mod records;
mod support;
mod tamper;
