//! The state in memory behind the volume's one lock.

use super::edit::{ORPHAN_GENERATION, Orphan};
use super::encode::{self, LocalRow};
use super::learn::{Announced, Commit};
use super::seal::Sealed;
use crate::ledger::Write;
use ouro_core::content::Content;
use ouro_core::digest::Digest;
use ouro_core::edit::Pending;
use ouro_core::id::{DeviceNo, FileId, Hlc, RecordHash, Seq};
use ouro_core::row::RowChanges;
use ouro_core::state::Place;
use ouro_core::tree::NodeRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The newest commit known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its position in the log.
    pub seq: Seq,
    /// Hash of its record.
    pub hash: RecordHash,
    /// When it was made.
    pub hlc: Hlc,
}

/// What an open writer knows better than the row: put into the row when the file is closed, synced, sealed, or any other operation
/// comes in between, so that the journal keeps the order of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change at all, nanoseconds since 1970.
    pub ctime_ns: i64,
    pub(crate) place: Place,
}

/// How much there is, for status and for deciding on a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files with unsealed changes.
    pub pending: usize,
    /// Files in the sealed generation that is on its way.
    pub sealed: usize,
    /// Commits since the checkpoint.
    pub commits: u64,
    /// File changes in them.
    pub entries: u64,
    /// Bytes of their encoded deltas.
    pub delta_bytes: u64,
}

#[derive(Default)]
pub(crate) struct OpenFile {
    pub(crate) count: u32,
    pub(crate) orphan: Option<Orphan>,
}

pub(crate) struct State {
    /// The checkpoint's tree and the commits in it.
    pub(crate) root: Option<NodeRef>,
    pub(crate) covers: BTreeMap<DeviceNo, Head>,
    /// Rows of the committed state that differ from the tree, and its digest.
    pub(crate) base: RowChanges,
    pub(crate) digest: Digest,
    /// Rows of what is seen (committed, sealed, pending) that differ from the tree.
    pub(crate) live: RowChanges,
    pub(crate) pending: Pending,
    /// Those of them that the last seal left because their names are ignored.
    pub(crate) staying: BTreeSet<FileId>,
    pub(crate) generation: u64,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) heads: BTreeMap<DeviceNo, Head>,
    pub(crate) clock: Hlc,
    /// The next counter for a file id, and up to where counters are reserved in the ledger.
    pub(crate) counter: u32,
    pub(crate) counter_reserved: u32,
    pub(crate) hot: BTreeMap<FileId, Hot>,
    pub(crate) hot_dirty: BTreeSet<FileId>,
    pub(crate) open: BTreeMap<FileId, OpenFile>,
    /// The generation of the layer that writes to a file go to, while it is not sealed.
    pub(crate) writable: BTreeMap<FileId, u64>,
    /// What lies under a layer.
    pub(crate) bases: BTreeMap<(FileId, u64), Content>,
    pub(crate) devices: BTreeMap<DeviceNo, String>,
    pub(crate) owners: BTreeMap<FileId, (u32, u32)>,
    /// Checkpoints known, for opening old states.
    pub(crate) announced: Vec<Announced>,
    /// A checkpoint's record that is being published.
    pub(crate) announcing: Option<(Commit, Arc<[u8]>)>,
    pub(crate) since: Counts,
    /// Set when the box must not be written any more, with the reason.
    pub(crate) read_only: Option<String>,
}

impl State {
    /// The ledger's row for what only this device knows of a file.
    pub(crate) fn local_row(&self, file: FileId) -> Write {
        let bases = self.bases.range((file, 0)..(file, ORPHAN_GENERATION));
        let row = LocalRow {
            owner: self.owners.get(&file).copied(),
            bases: bases.map(|((_, generation), content)| (*generation, content.clone())).collect(),
        };
        encode::local_row(file, &row)
    }
}
