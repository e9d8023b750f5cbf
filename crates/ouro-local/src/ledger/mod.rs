//! The journal of a box: everything of this device that exists nowhere else, in one SQLite database.
//!
//! Operations apply in memory and hand their rows over as *units*. Units are written in the order they were submitted, many to one
//! transaction, each unit whole: after a crash the database holds a prefix of the units, and every unit for which a durable
//! [`Ledger::flush`] returned.
//!
//! A failing disk is never swallowed: the group's units stay queued, [`Ledger::failure`] and every flush say what happened, and the hook
//! given to [`Ledger::on_error`] is called once. After a full disk [`Ledger::retry`] tries again; after anything else only opening anew.

mod read;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

pub use read::{Loaded, RecordRow};

use crate::database::DatabaseAt;
pub use crate::error::LocalError as LedgerError;
use crate::layers::LayerState;
use crate::pins::Pin;
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq};
use ouro_core::port::Runtime;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use writer::{Shared, writer_loop};

/// A group is written when this many bytes wait in it.
pub const GROUP_BYTES: usize = 4 << 20;
/// A group is written this many milliseconds after its first unit came, if nothing asks for it earlier.
pub const GROUP_MILLIS: u64 = 50;
/// [`Ledger::submit`] waits while more bytes than this are queued.
pub const QUEUE_BYTES_MAX: usize = 32 << 20;

/// One row to write or remove.
#[derive(Clone, Debug)]
pub enum Write {
    /// A row of the overlay: the encoded change of one file in a seal generation; `None` removes it.
    Pending {
        /// Seal generation.
        generation: u64,
        /// The file.
        file: FileId,
        /// Encoded `FileDelta`.
        delta: Option<Vec<u8>>,
    },
    /// Dirty data small enough for the database, encoded by [`crate::layers`]; `None` removes it.
    Small {
        /// The file.
        file: FileId,
        /// Seal generation.
        generation: u64,
        /// State and bytes.
        bytes: Option<Arc<[u8]>>,
    },
    /// What is valid in a dirty file of the cache disk; `None` removes the row, not the file.
    Layer {
        /// The file.
        file: FileId,
        /// Seal generation.
        generation: u64,
        /// Size, base limit, extents.
        state: Option<LayerState>,
    },
    /// A small fact of the box: device id, counters, heads, checkpoint root, sealed generation.
    Meta {
        /// Which.
        key: &'static str,
        /// `None` removes it.
        value: Option<Vec<u8>>,
    },
    /// A commit record learnt or sealed, encoded without its inline blobs; `None` removes it.
    Record {
        /// Whose.
        device: DeviceNo,
        /// Position in its log.
        seq: Seq,
        /// When.
        hlc: Hlc,
        /// Encoded record.
        bytes: Option<Vec<u8>>,
    },
    /// What the user wants of a file; `None` (like [`Pin::Auto`]) removes the row.
    Pin {
        /// The file.
        file: FileId,
        /// The wish.
        pin: Option<Pin>,
    },
    /// A row of this device only, by file: ignored names, owners. Opaque here; `None` removes it.
    LocalOnly {
        /// The file.
        file: FileId,
        /// Encoded row.
        row: Option<Vec<u8>>,
    },
    /// Removes all `Pending`, `Small` and `Layer` rows of a generation: its commit is durable on the remote.
    ClearGeneration {
        /// Seal generation.
        generation: u64,
    },
}

impl Write {
    /// Roughly how many bytes it holds in memory while queued.
    fn bytes(&self) -> usize {
        const ROW: usize = 64;
        ROW + match self {
            Write::Pending { delta: value, .. }
            | Write::Meta { value, .. }
            | Write::Record { bytes: value, .. }
            | Write::LocalOnly { row: value, .. } => value.as_ref().map_or(0, Vec::len),
            Write::Small { bytes, .. } => bytes.as_ref().map_or(0, |b| b.len()),
            Write::Layer { state, .. } => state.as_ref().map_or(0, |s| s.extents.len() * 16),
            Write::Pin { .. } | Write::ClearGeneration { .. } => 0,
        }
    }
}

/// A submitted unit: tickets grow in submission order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Who writes.
#[derive(Clone)]
pub enum Mode {
    /// A thread of the runtime, for as long as the ledger lives.
    Threaded(Arc<dyn Runtime>),
    /// Whoever calls [`Ledger::submit`] (when a group is full) or [`Ledger::flush`]: nothing happens beside the caller.
    Inline,
}

/// Makes dirty files durable before a group that names them is committed.
pub type Prepare = Box<dyn Fn(&[(FileId, u64)]) -> Result<(), LedgerError> + Send + Sync>;
/// Hears once of the failure that stopped writing.
pub type OnError = Box<dyn Fn(&LedgerError) + Send + Sync>;

/// The journal of one box. One process at a time opens it.
pub struct Ledger {
    shared: Arc<Shared>,
    /// Reads beside the writer; `None` in memory, where there is one connection.
    reader: Option<Mutex<Connection>>,
    threaded: bool,
}

impl Ledger {
    /// Opens or makes `<box dir>/box.db`.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] if this is no ledger: it is left as it is. [`LedgerError::Newer`] if a newer Ourobox wrote it.
    /// Else whatever the disk says.
    pub fn open(path: &Path, mode: Mode) -> Result<Ledger, LedgerError> {
        Ledger::open_at(DatabaseAt::File(path.to_owned()), mode)
    }

    /// A ledger in memory, beginning with `image` if given: for the simulator.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_in_memory(image: Option<Vec<u8>>, mode: Mode) -> Result<Ledger, LedgerError> {
        Ledger::open_at(image.map_or(DatabaseAt::Memory, DatabaseAt::Image), mode)
    }

    fn open_at(at: DatabaseAt, mode: Mode) -> Result<Ledger, LedgerError> {
        let name = at.name();
        let connection = schema::open(&at, &name)?;
        let reader = match &at {
            DatabaseAt::File(_) => Some(Mutex::new(at.connect(false).map_err(|e| LedgerError::sql(&name, e))?)),
            DatabaseAt::Memory | DatabaseAt::Image(_) => None,
        };
        let shared = Arc::new(Shared::new(name, connection, reader.is_none())?);
        let threaded = match mode {
            Mode::Threaded(runtime) => {
                let writer = shared.clone();
                let work = runtime.blocking(Box::new(move || writer_loop(&writer)));
                runtime.spawn(work);
                true
            }
            Mode::Inline => false,
        };
        Ok(Ledger { shared, reader, threaded })
    }

    /// Sets what makes dirty files durable; called by the layers before their first unit.
    pub fn set_prepare(&self, prepare: Prepare) {
        *self.shared.prepare.lock() = Some(Arc::from(prepare));
    }

    /// Sets who hears of a failure. Called from the writer, with no lock held that `failure` or `flushed` take.
    pub fn on_error(&self, hook: OnError) {
        *self.shared.on_error.lock() = Some(Arc::from(hook));
    }

    /// Hands over rows that belong together. They are in the database all or none, after those submitted before and before those
    /// submitted later. Returns at once, unless [`QUEUE_BYTES_MAX`] is reached: then when the writer has caught up.
    ///
    /// After a failure units are still queued up to that limit, then dropped; then [`Ledger::retry`] is of no use any more. The box
    /// must stop accepting changes when it hears of the failure.
    pub fn submit(&self, unit: Vec<Write>) -> Ticket {
        let (ticket, full) = self.shared.enqueue(unit, self.threaded);
        if full && !self.threaded {
            self.shared.write_queued();
        }
        ticket
    }

    /// The newest ticket given.
    pub fn last(&self) -> Ticket {
        Ticket(self.shared.queue.lock().last)
    }

    /// Waits until a unit and all before it are in the database: read after a crash of the process. With `durable` until they are on
    /// the disk: read after a power cut too. Blocks.
    ///
    /// # Errors
    /// The failure that stopped writing; the unit may yet be written by [`Ledger::retry`].
    pub fn flush(&self, ticket: Ticket, durable: bool) -> Result<(), LedgerError> {
        if self.threaded { self.shared.wait(ticket.0, durable) } else { self.shared.flush_inline(ticket.0, durable) }
    }

    /// Whether a unit is in the database.
    pub fn flushed(&self, ticket: Ticket) -> bool {
        self.shared.queue.lock().written >= ticket.0
    }

    /// Whether a unit is on the disk, so that a power cut cannot undo it.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        self.shared.is_durable(ticket)
    }

    /// The failure that stopped writing, if any: the box is read-only for that reason.
    pub fn failure(&self) -> Option<LedgerError> {
        self.shared.queue.lock().failure.clone()
    }

    /// Tries again after [`LedgerError::Full`], once there may be room.
    ///
    /// # Errors
    /// The failure, if it is of a kind that no retry helps or if it failed again.
    pub fn retry(&self) -> Result<(), LedgerError> {
        self.shared.clear_failure()?;
        self.flush(self.last(), false)
    }

    /// Writes what is queued and makes it durable; then the ledger may be dropped without loss.
    ///
    /// # Errors
    /// As [`Ledger::flush`].
    pub fn close(&self) -> Result<(), LedgerError> {
        self.flush(self.last(), true)
    }

    /// The database as written up to now, without what is queued. For a simulated crash of the process.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub fn image(&self) -> Result<Vec<u8>, LedgerError> {
        self.shared.image()
    }

    /// The database as of the last durable flush; in memory only. For a simulated power cut.
    pub fn durable_image(&self) -> Option<Arc<[u8]>> {
        self.shared.durable_image.lock().clone()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.end(self.threaded);
    }
}
