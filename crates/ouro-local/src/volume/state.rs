//! The state in memory behind the volume's one lock.

use super::collected::Collected;
use super::edit::Orphan;
use super::identity::Identity;
use super::learn::{Announced, Commit};
use super::lines::Lines;
use super::seal::Sealed;
use ouro_core::content::Content;
use ouro_core::digest::Digest;
use ouro_core::edit::Pending;
use ouro_core::id::{DeviceNo, FileId, Hlc, RecordHash, Seq};
use ouro_core::render::copy_id;
use ouro_core::row::RowChanges;
use ouro_core::state::Place;
use ouro_core::tree::NodeRef;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The generation under which the journal keeps changes that are never sealed: a seal leaves their rows where they are.
pub(crate) const STAYING_GENERATION: u64 = u64::MAX - 1;

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
    /// This device's number; its identity if that is not the one it joined with; and the one it is about to take.
    pub(crate) device: DeviceNo,
    pub(crate) identity: Option<Identity>,
    pub(crate) intended: Option<Identity>,
    /// The newest rules that any commit known here was made by.
    pub(crate) rules: u32,
    /// When this device's hint was written last, in milliseconds since 1970; 0 if that is not known.
    pub(crate) hinted_ms: u64,
    /// What is to be added to this device's clock to have the storage's.
    pub(crate) clock_offset_ms: i64,
    /// The checkpoint's tree and the commits in it.
    pub(crate) root: Option<NodeRef>,
    pub(crate) covers: BTreeMap<DeviceNo, Head>,
    /// Digest of what is in the tree.
    pub(crate) covers_digest: Digest,
    /// Rows of the committed state that differ from the tree, and its digest.
    pub(crate) base: Arc<RowChanges>,
    pub(crate) digest: Digest,
    /// Rows of what is seen (committed, sealed, pending) that differ from the tree.
    pub(crate) live: RowChanges,
    /// How many of these are rows of names that are there.
    pub(crate) fresh: u64,
    pub(crate) pending: Pending,
    /// Those of them that the last seal left because their names are ignored, or because they wait in the trash: of a change that was sealed in
    /// part, the rest. Their rows in the journal are of [`STAYING_GENERATION`].
    pub(crate) staying: BTreeSet<FileId>,
    /// Something in the trash was left by the last seal because somebody has it open, or because it is to be published first …
    pub(crate) trash_waits: bool,
    /// … and something was closed, or published, since.
    pub(crate) trash_due: bool,
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
    pub(crate) lines: Lines,
    pub(crate) owners: BTreeMap<FileId, (u32, u32)>,
    /// Checkpoints known, for opening old states.
    pub(crate) announced: Vec<Announced>,
    /// A commit made outright, and its record, that is being published.
    pub(crate) outright: Option<(Arc<Commit>, Arc<[u8]>)>,
    /// The newest collection that was taken note of.
    pub(crate) collected: Option<Arc<Collected>>,
    pub(crate) since: Counts,
    /// Ids that files were born with and lost to the file whose name they took: nobody opens them any more.
    pub(crate) retired: BTreeSet<FileId>,
    /// Set when the box must not be written any more, with the reason.
    pub(crate) read_only: Option<String>,
}

/// The state behind its lock, which counts how often it was held for writing.
pub(crate) struct Guarded {
    lock: RwLock<State>,
    turn: AtomicU64,
}

impl Guarded {
    pub(crate) fn new(state: State) -> Guarded {
        Guarded { lock: RwLock::new(state), turn: AtomicU64::new(0) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.lock.read()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        let state = self.lock.write();
        self.turn.fetch_add(1, Ordering::Relaxed);
        state
    }

    /// How often the lock was held for writing. Only while it is held for reading does that say anything.
    pub(crate) fn turn(&self, _held: &RwLockReadGuard<'_, State>) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }
}

impl State {
    /// The position of this device's newest commit.
    pub(crate) fn own_seq(&self) -> Seq {
        self.heads.get(&self.device).map_or(Seq(0), |head| head.seq)
    }

    /// The generation that a pending change's row in the journal is of.
    pub(crate) fn row_generation(&self, file: FileId) -> u64 {
        if self.staying.contains(&file) { STAYING_GENERATION } else { self.generation }
    }

    /// Whether something changed that is not ignored, or what waits in the trash may be ready.
    pub(crate) fn has_sealable(&self) -> bool {
        self.pending.files.len() > self.staying.len() || self.trash_due
    }

    /// The file to which a content was written that is not published yet: a copy that is shown of what is on its way, because somebody
    /// else's content came in before it, has the bytes of the file that was sealed.
    pub(crate) fn written_to(&self, file: FileId, layer: u64) -> FileId {
        if !file.is_derived() || self.bases.contains_key(&(file, layer)) {
            return file;
        }
        let Some(sealed) = &self.sealed else { return file };
        let source = sealed.files.iter().find(|f| sealed.holds(f.id, layer) && copy_id(f.id, sealed.version) == file);
        source.map_or(file, |source| source.id)
    }

    /// Lays rows on top of what is seen.
    pub(crate) fn lay(&mut self, changes: RowChanges) {
        for (key, row) in changes {
            let named = !key.name.is_empty();
            let is = u64::from(named && row.is_some());
            let was = self.live.insert(key, row);
            self.fresh = self.fresh + is - u64::from(named && was.flatten().is_some());
        }
    }

    /// Takes rows into the committed state; those that are seen just so are kept in memory once.
    pub(crate) fn lay_below(&mut self, mut changes: RowChanges) {
        for (key, row) in &mut changes {
            if let Some(seen) = self.live.get(key)
                && seen == row
            {
                row.clone_from(seen);
            }
        }
        Arc::make_mut(&mut self.base).extend(changes);
    }

    /// Puts other rows in the place of those on top of the tree.
    pub(crate) fn put_live(&mut self, live: RowChanges) {
        self.fresh = live.iter().filter(|(key, row)| row.is_some() && !key.name.is_empty()).count() as u64;
        self.live = live;
    }
}
