//! One box on this device: its live state, what is written and not yet published, and its bytes.
//!
//! The principal type is [`Volume`]. The mount (ouro-vfs) and the sync (ouro-sync) meet here and nowhere else. Every call is
//! synchronous and never waits for the network: what is not on this device comes back as [`VolumeError::Missing`] or
//! [`VolumeError::Need`], and the caller fetches it and calls again.
//!
//! One lock guards the state in memory; it is held for microseconds, never across disk or network. Order of effects: bytes into a
//! layer, then the overlay row, both in one journal unit; a crash leaves a prefix of the units.

mod adopt;
mod audit;
mod change;
mod clock;
mod collected;
mod contents;
mod copies;
mod edit;
mod encode;
mod history;
mod identity;
mod ignored;
mod learn;
mod lines;
mod lists;
mod log;
mod lost;
mod node_cache;
mod open;
mod outside;
mod recall;
mod renumber;
mod seal;
mod state;
mod succession;
mod trash;
mod view;

pub use audit::{Audit, WrongRow};
pub use change::Change;
pub use collected::{Collected, KeptState};
pub use contents::{Residency, Space};
pub use edit::Orphan;
pub use history::{CommitInfo, Cut, Snapshot};
pub use identity::{Identity, OnRenumber};
pub use learn::{Announced, CheckpointInput, Commit};
pub use log::{LogWalk, Logged};
pub use node_cache::NodeCache;
pub use open::{VolumeOptions, VolumePorts, VolumeStores};
pub use renumber::Claim;
pub use seal::{Sealed, SealedFile};
pub use state::{Counts, Head, Hot};
pub use view::View;

use crate::blobs::Blobs;
use crate::error::LocalError;
use crate::ignore::Ignore;
use crate::layers::Layers;
use crate::ledger::{Ledger, Write};
use crate::locations::Locations;
use crate::pins::Pins;
use ouro_core::content::BlobRef;
use ouro_core::edit::EditError;
use ouro_core::id::{DeviceNo, FileId, Seq};
use ouro_core::row::Missing;
use parking_lot::{Mutex, RwLock};
use state::{Guarded, State};
use std::sync::Arc;

/// Why a call on a [`Volume`] could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// An index node is not on this device: fetch it and call again.
    #[error("an index node is not on this device yet")]
    Missing(Missing),
    /// Bytes of a content are not on this device: fetch them and call again.
    #[error("{} blobs are not on this device yet", .0.len())]
    Need(Vec<BlobRef>),
    /// The operation does not fit what stands there.
    #[error("{0:?}")]
    Edit(EditError),
    /// The cache disk is full.
    #[error("the cache disk is full: free space on it or lower the box's cache limit")]
    Full,
    /// Nothing can be written to this box now.
    #[error("this box is read-only: {reason}")]
    ReadOnly {
        /// Why, and what to do.
        reason: String,
    },
    /// A commit record is not on this device: fetch it and call again.
    #[error("commit {} of device {} is not on this device yet", .seq.0, .device.0)]
    Record {
        /// Whose.
        device: DeviceNo,
        /// Which.
        seq: Seq,
    },
    /// The commit was thinned out by a collection: its state is kept nowhere.
    #[error("the state after commit {} of device {} was thinned out: `ourobox log` shows what there is", .seq.0, .device.0)]
    Thinned {
        /// Whose.
        device: DeviceNo,
        /// Which.
        seq: Seq,
    },
    /// The file does not exist any more.
    #[error("the file is gone")]
    Gone,
    /// Bytes that were written on this device and not published are on no disk any more.
    #[error("bytes of a file that were not yet on the remote are lost on this device")]
    Lost {
        /// The file.
        file: FileId,
    },
    /// The file would be larger than [`FILE_BYTES_MAX`].
    #[error("the file would be too large")]
    TooBig,
    /// The local disk or database failed.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Largest file: 8 TiB, what a block list of average chunks can still name within a blob.
pub const FILE_BYTES_MAX: u64 = 8 << 40;

type Listener = Box<dyn Fn(&Change) + Send + Sync>;

/// One box on this device. Shared by reference; every method may be called from any thread.
pub struct Volume {
    state: Guarded,
    nodes: Arc<NodeCache>,
    ledger: Arc<Ledger>,
    layers: Layers,
    blobs: Arc<Blobs>,
    locations: Arc<Locations>,
    pins: Pins,
    ignore: RwLock<Arc<Ignore>>,
    ports: VolumePorts,
    options: VolumeOptions,
    listeners: RwLock<Vec<Listener>>,
    renumber_hooks: RwLock<Vec<OnRenumber>>,
    block_lists: lists::BlockLists,
    named: Mutex<log::Named>,
    pending_signal: RwLock<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Volume {
    /// This device's number in the box's repository.
    pub fn device(&self) -> DeviceNo {
        self.state.read().device
    }

    /// The position of this device's newest commit; 0 if it has none.
    pub fn own_seq(&self) -> Seq {
        self.state.read().own_seq()
    }

    /// What the user's clock says, in nanoseconds since 1970 (UTC).
    pub fn now_ns(&self) -> i64 {
        self.ports.clock.wall_ns()
    }

    /// The clean cache.
    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// Where chunks are known to be stored in the repository.
    pub fn locations(&self) -> &Arc<Locations> {
        &self.locations
    }

    /// The index nodes on this device.
    pub fn nodes(&self) -> &NodeCache {
        &self.nodes
    }

    /// Says what the user wants of a file or of all in a directory.
    pub fn set_pin(&self, file: FileId, pin: crate::pins::Pin) {
        self.ledger.submit(vec![self.pins.set(file, pin)]);
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Calls `listener` after each change that did not come through the mount, on a thread that holds no lock, when the new state is
    /// already visible.
    pub fn on_change(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    /// Calls `signal` whenever there is something to seal; it must be cheap and must not call back.
    pub fn on_pending(&self, signal: Box<dyn Fn() + Send + Sync>) {
        *self.pending_signal.write() = Some(signal);
    }

    fn announce(&self, change: &Change) {
        if !change.is_empty() {
            self.listeners.read().iter().for_each(|listener| listener(change));
        }
    }

    fn signal_pending(&self) {
        if let Some(signal) = self.pending_signal.read().as_ref() {
            signal();
        }
    }

    /// The user and group that own a file on this device, if they are not the mount's.
    pub fn owner(&self, file: FileId) -> Option<(u32, u32)> {
        self.state.read().owners.get(&file).copied()
    }

    /// The ledger's row for what only this device knows of a file.
    fn local_row(&self, state: &State, file: FileId) -> Write {
        let bases = state.bases.range((file, 0)..(file, edit::ORPHAN_GENERATION));
        let row = encode::LocalRow {
            owner: state.owners.get(&file).copied(),
            bases: bases.map(|((_, generation), content)| (*generation, content.clone())).collect(),
            borne: self.layers.borne(file),
        };
        encode::local_row(file, &row)
    }

    /// Writes down who owns a file on this device.
    pub fn set_owner(&self, file: FileId, uid: u32, gid: u32) {
        let mut state = self.state.write();
        state.owners.insert(file, (uid, gid));
        self.ledger.submit(vec![self.local_row(&state, file)]);
    }
}

impl From<Missing> for VolumeError {
    fn from(missing: Missing) -> Self {
        VolumeError::Missing(missing)
    }
}

impl From<EditError> for VolumeError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Missing(missing) => VolumeError::Missing(missing),
            other => VolumeError::Edit(other),
        }
    }
}
