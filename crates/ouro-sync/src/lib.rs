//! Keeping a box and its repository together: what was changed here goes up, what others wrote comes down.
//!
//! The principal type is [`Sync`]. It holds no state that the volume's journal does not: after a crash a new one goes on where the old one
//! stopped. Order of effects of a push: packs, the record's bytes fixed in the journal, the record on the remote, the committed state.
//!
//! ```text
//! volume.seal() → contents into packs (or into the record) → fix_record → publish → confirm → now and then a checkpoint
//! read_record(next of each device) → learn
//! ```
//!
//! Never knows: kernel, windows, which storage it is.

mod bootstrap;
mod checkpoint;
mod collection;
mod content;
mod error;
mod fetch;
mod fork;
mod identity;
mod import;
mod index;
mod layer_reader;
mod lines;
mod neighbours;
mod outright;
mod presence;
mod pull;
mod push;
mod references;
mod schedule;
mod snapshot;
mod status;

pub use bootstrap::learn_devices;
pub use collection::{CollectOptions, EXPIRY_MS, GRACE_MS, Report, Stage};
pub use error::SyncError;
pub use identity::{Renewal, device_info, draw_identity};
pub use import::{Import, Incoming, Inflow, LeftOut, Ordinal};
pub use snapshot::{Taken, Turn};
pub use status::{Cost, SyncStatus};

use ouro_core::id::{BlobId, DeviceId, DeviceNo, Line, NodeId, Seq};
use ouro_local::volume::Volume;
use ouro_repo::{Ports, Repository};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// One box's sync. Shared by reference; start [`Sync::run`] as a task, and call the rest from anywhere.
pub struct Sync {
    volume: Arc<Volume>,
    repo: Repository,
    ports: Ports,
    device: RwLock<DeviceId>,
    /// Rung when there is something to push and nobody is about to.
    changed: Notify,
    /// The pushing task waits to be rung. While it does not, a change costs no wake-up.
    idle: AtomicBool,
    /// Counts changes of the volume.
    changes: AtomicU64,
    /// Rung when somebody waits for the remote and delays should end.
    hurry: Notify,
    stopped: watch::Sender<bool>,
    /// One push, pull or checkpoint at a time.
    turn: tokio::sync::Mutex<()>,
    status: Mutex<SyncStatus>,
    /// Told after each change of the status.
    told: watch::Sender<u64>,
    blobs_in_flight: Mutex<BTreeMap<BlobId, watch::Receiver<()>>>,
    nodes_in_flight: Mutex<BTreeMap<NodeId, watch::Receiver<()>>>,
    index_complete: AtomicBool,
    /// One fetch of the upper index at a time: the second finds it here.
    upper_index: tokio::sync::Mutex<()>,
    neighbours: neighbours::Neighbours,
    /// Imports under way.
    imports: AtomicU64,
    /// When this process looked for collections last: by the steady clock and by the wall's, in nanoseconds.
    looked: Mutex<Option<(u64, i64)>>,
    /// The newest collection with regard to which all that was fixed here before is in order, as far as this process saw to it.
    cleared: AtomicU64,
    /// The collection that this device's hint says was acknowledged, as far as this process knows.
    hinted: Mutex<u64>,
    /// Commits that are needed of devices that were removed, since others are made on them.
    needed: Mutex<BTreeMap<DeviceNo, Seq>>,
    /// The newest rules that every device knows, as far as this one knows.
    rules_supported: AtomicU32,
}

impl Sync {
    /// A sync of `volume` with `repo`. This device joined as `joined`, and may have become another since. Nothing runs yet.
    pub fn new(volume: Arc<Volume>, repo: Repository, ports: Ports, joined: DeviceId) -> Arc<Sync> {
        let id = volume.identity().map_or(joined, |identity| identity.id);
        repo.learn_device(volume.device(), id);
        let sync = Arc::new(Sync {
            volume,
            repo,
            ports,
            device: RwLock::new(id),
            changed: Notify::new(),
            idle: AtomicBool::new(true),
            changes: AtomicU64::new(0),
            hurry: Notify::new(),
            stopped: watch::Sender::new(false),
            turn: tokio::sync::Mutex::new(()),
            status: Mutex::new(SyncStatus::default()),
            told: watch::Sender::new(0),
            blobs_in_flight: Mutex::default(),
            nodes_in_flight: Mutex::default(),
            index_complete: AtomicBool::new(false),
            upper_index: tokio::sync::Mutex::default(),
            neighbours: neighbours::Neighbours::default(),
            imports: AtomicU64::new(0),
            looked: Mutex::default(),
            cleared: AtomicU64::new(0),
            hinted: Mutex::default(),
            needed: Mutex::default(),
            rules_supported: AtomicU32::new(0),
        });
        let weak = Arc::downgrade(&sync);
        sync.volume.on_pending(Box::new(move || {
            if let Some(sync) = weak.upgrade() {
                sync.changes.fetch_add(1, Ordering::Relaxed);
                if sync.idle.swap(false, Ordering::AcqRel) {
                    sync.changed.notify_one();
                }
            }
        }));
        sync
    }

    /// The volume.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// The repository.
    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    /// The line that this device writes.
    pub fn line(&self) -> Line {
        self.repo.line(self.volume.device())
    }

    /// Ends [`Sync::run`] at its next pause; what was sealed stays in the journal.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
        self.changed.notify_one();
        self.hurry.notify_waiters();
        // Who waits for news hears that there will be none.
        self.tell(|_| {});
    }

    /// Runs work that blocks off the async threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Self>) -> T + Send + 'static,
    ) -> Result<T, SyncError> {
        let slot = Arc::new(Mutex::new(None));
        let (sync, filled) = (Arc::clone(self), Arc::clone(&slot));
        self.ports.runtime.blocking(Box::new(move || *filled.lock() = Some(work(sync)))).await;
        slot.lock().take().ok_or(SyncError::Stopped)
    }
}
