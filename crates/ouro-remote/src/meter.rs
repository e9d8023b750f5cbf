//! Request accounting: what a provider would bill.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests and bytes so far, tries and retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Reads of objects or of ranges.
    pub gets: u64,
    /// Requests that write: PUT, and for other protocols also making directories and moving into place.
    pub puts: u64,
    /// List requests (pages).
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Questions about one object without its bytes.
    pub heads: u64,
    /// Bytes of objects and lists received.
    pub bytes_in: u64,
    /// Bytes of objects sent.
    pub bytes_out: u64,
    /// Bytes of objects sent, by what they belong to.
    pub out_by_prefix: PrefixBytes,
    /// Tries after the first one.
    pub retries: u64,
}

impl Usage {
    /// All requests together.
    pub fn requests(&self) -> u64 {
        self.gets + self.puts + self.lists + self.deletes + self.heads
    }

    /// What happened since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            gets: self.gets - earlier.gets,
            puts: self.puts - earlier.puts,
            lists: self.lists - earlier.lists,
            deletes: self.deletes - earlier.deletes,
            heads: self.heads - earlier.heads,
            bytes_in: self.bytes_in - earlier.bytes_in,
            bytes_out: self.bytes_out - earlier.bytes_out,
            out_by_prefix: PrefixBytes {
                log: self.out_by_prefix.log - earlier.out_by_prefix.log,
                packs: self.out_by_prefix.packs - earlier.out_by_prefix.packs,
                nodes: self.out_by_prefix.nodes - earlier.out_by_prefix.nodes,
                other: self.out_by_prefix.other - earlier.out_by_prefix.other,
            },
            retries: self.retries - earlier.retries,
        }
    }
}

/// Bytes by top-level prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixBytes {
    /// Below `log/`.
    pub log: u64,
    /// Below `packs/`.
    pub packs: u64,
    /// Below `nodes/`.
    pub nodes: u64,
    /// Anywhere else.
    pub other: u64,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put,
    List,
    Delete,
    Head,
}

/// The counters behind [`Usage`].
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: [AtomicU64; 5],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    by_prefix: [AtomicU64; 4],
    retries: AtomicU64,
    /// Seconds since 1970 of the newest answer, as the storage dated it; 0 before the first.
    dated: AtomicU64,
}

impl Meter {
    /// Notes when the storage says it answered.
    pub(crate) fn dated(&self, seconds: u64) {
        self.dated.store(seconds, Relaxed);
    }

    pub(crate) fn last_date(&self) -> Option<u64> {
        Some(self.dated.load(Relaxed)).filter(|seconds| *seconds > 0)
    }

    pub(crate) fn request(&self, kind: Kind) {
        self.requests[kind as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts the bytes of one object on their way out.
    pub(crate) fn sent(&self, name: &str, bytes: usize) {
        let slot = match name.trim_start_matches(".ourobox/").split('/').next() {
            Some("log") => 0,
            Some("packs") => 1,
            Some("nodes") => 2,
            _ => 3,
        };
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.by_prefix[slot].fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn usage(&self) -> Usage {
        let requests = |kind: Kind| self.requests[kind as usize].load(Relaxed);
        let [log, packs, nodes, other] = [0, 1, 2, 3].map(|slot: usize| self.by_prefix[slot].load(Relaxed));
        Usage {
            gets: requests(Kind::Get),
            puts: requests(Kind::Put),
            lists: requests(Kind::List),
            deletes: requests(Kind::Delete),
            heads: requests(Kind::Head),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            out_by_prefix: PrefixBytes { log, packs, nodes, other },
            retries: self.retries.load(Relaxed),
        }
    }
}
