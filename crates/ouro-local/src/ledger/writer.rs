//! The queue of units and the one who writes them.
//!
//! Invariants, with the queue's lock held: units are in ticket order; `written` is the last ticket in the database; while a group is
//! being written its units stand in `writing` and nowhere else; on failure they go back to the front of `units`.

use super::{GROUP_BYTES, GROUP_MILLIS, LedgerError, OnError, Prepare, QUEUE_BYTES_MAX, Ticket, Write, schema};
use ouro_core::id::FileId;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Unit {
    ticket: u64,
    pub(super) writes: Vec<Write>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) units: VecDeque<Unit>,
    pub(super) writing: Arc<Vec<Unit>>,
    bytes: usize,
    pub(super) last: u64,
    pub(super) written: u64,
    durable: u64,
    want_written: u64,
    want_durable: u64,
    pub(super) failure: Option<LedgerError>,
    /// Units were dropped after the failure: what is queued is no prefix any more.
    lost: bool,
    /// Somebody takes groups from the queue: one at a time, or their order would be lost.
    running: bool,
    ending: bool,
    /// A writer that starts now comes too late.
    ended: bool,
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) queue: Mutex<Queue>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those who wait for the writer.
    done: Condvar,
    pub(super) writer: Mutex<Writer>,
    pub(super) prepare: Mutex<Option<Arc<Prepare>>>,
    pub(super) on_error: Mutex<Option<Arc<OnError>>>,
    pub(super) durable_image: Mutex<Option<Arc<[u8]>>>,
}

/// The writing connection; its lock is held while a group is written.
pub(super) struct Writer {
    pub(super) connection: Connection,
    in_memory: bool,
    full_sync: bool,
}

impl Shared {
    pub(super) fn new(name: String, connection: Connection, in_memory: bool) -> Result<Shared, LedgerError> {
        let writer = Writer { connection, in_memory, full_sync: false };
        let shared = Shared {
            name,
            queue: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            writer: Mutex::new(writer),
            prepare: Mutex::new(None),
            on_error: Mutex::new(None),
            durable_image: Mutex::new(None),
        };
        if in_memory {
            *shared.durable_image.lock() = Some(shared.image()?.into());
        }
        Ok(shared)
    }

    /// Queues a unit. True beside the ticket if a group is full.
    pub(super) fn enqueue(&self, writes: Vec<Write>, threaded: bool) -> (Ticket, bool) {
        let bytes = writes.iter().map(Write::bytes).sum();
        let mut queue = self.queue.lock();
        while threaded && queue.bytes > QUEUE_BYTES_MAX && queue.failure.is_none() {
            self.work.notify_one();
            self.done.wait(&mut queue);
        }
        queue.last += 1;
        let ticket = queue.last;
        if queue.failure.is_some() && (queue.lost || queue.bytes > QUEUE_BYTES_MAX) {
            queue.lost = true;
            return (Ticket(ticket), false);
        }
        let first = queue.units.is_empty();
        let full_before = queue.bytes >= GROUP_BYTES;
        queue.bytes += bytes;
        queue.units.push_back(Unit { ticket, writes, bytes });
        let full = queue.bytes >= GROUP_BYTES;
        if first || (full && !full_before) {
            self.work.notify_one();
        }
        (Ticket(ticket), full)
    }

    /// Waits for the writer thread.
    pub(super) fn wait(&self, ticket: u64, durable: bool) -> Result<(), LedgerError> {
        let mut queue = self.queue.lock();
        let ticket = ticket.min(queue.last);
        while !queue.reached(ticket, durable) {
            queue.check()?;
            queue.want_written = queue.want_written.max(ticket);
            if durable {
                queue.want_durable = queue.want_durable.max(ticket);
            }
            self.work.notify_one();
            self.done.wait(&mut queue);
        }
        Ok(())
    }

    /// Writes up to a ticket in the caller's thread.
    pub(super) fn flush_inline(&self, ticket: u64, durable: bool) -> Result<(), LedgerError> {
        loop {
            let mut queue = self.queue.lock();
            let ticket = ticket.min(queue.last);
            if queue.reached(ticket, durable) {
                return Ok(());
            }
            queue.check()?;
            if queue.running {
                self.done.wait(&mut queue);
                continue;
            }
            if durable {
                queue.want_durable = queue.want_durable.max(ticket);
            }
            self.take_turn(queue);
        }
    }

    /// Writes all that is queued in the caller's thread; a failure stays to be asked for.
    pub(super) fn write_queued(&self) {
        loop {
            let mut queue = self.queue.lock();
            if queue.units.is_empty() || queue.failure.is_some() {
                return;
            }
            if queue.running {
                self.done.wait(&mut queue);
                continue;
            }
            self.take_turn(queue);
        }
    }

    /// Writes one group in the caller's thread.
    fn take_turn(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.running = true;
        self.write_group(queue);
        self.queue.lock().running = false;
        self.done.notify_all();
    }

    /// Takes the next group from the queue and writes it, or makes durable what is written if that was asked for and nothing is queued.
    fn write_group(&self, mut queue: MutexGuard<'_, Queue>) {
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(unit) = queue.units.front() {
            if !group.is_empty() && bytes + unit.bytes > GROUP_BYTES {
                break;
            }
            bytes += unit.bytes;
            group.extend(queue.units.pop_front());
        }
        let reaches = group.last().map_or(queue.written, |unit: &Unit| unit.ticket);
        let durable = queue.want_durable > queue.durable && reaches >= queue.want_durable;
        let group = Arc::new(group);
        queue.writing = group.clone();
        drop(queue);

        let outcome = self.commit(&group, durable);

        let mut queue = self.queue.lock();
        queue.writing = Arc::default();
        let failed = match outcome {
            Ok(()) => {
                queue.bytes -= bytes;
                queue.written = reaches;
                if durable {
                    queue.durable = reaches;
                }
                None
            }
            Err(error) => {
                // Readers that took `writing` only look at it for a moment; then the units come back whole.
                match Arc::try_unwrap(group) {
                    Ok(units) => units.into_iter().rev().for_each(|unit| queue.units.push_front(unit)),
                    Err(units) => units
                        .iter()
                        .rev()
                        .map(|unit| Unit { ticket: unit.ticket, writes: unit.writes.clone(), bytes: unit.bytes })
                        .for_each(|unit| queue.units.push_front(unit)),
                }
                queue.failure = Some(error.clone());
                Some(error)
            }
        };
        self.done.notify_all();
        drop(queue);
        if let Some(error) = failed {
            tracing::error!(ledger = %self.name, %error, "the journal cannot be written");
            let hook = self.on_error.lock().clone();
            if let Some(hook) = hook {
                hook(&error);
            }
        }
    }

    fn commit(&self, group: &[Unit], durable: bool) -> Result<(), LedgerError> {
        let mut dirty: Vec<(FileId, u64)> = group
            .iter()
            .flat_map(|unit| &unit.writes)
            .filter_map(|write| match write {
                Write::Layer { file, generation, state: Some(_) } => Some((*file, *generation)),
                _ => None,
            })
            .collect();
        if !dirty.is_empty() {
            dirty.sort_unstable();
            dirty.dedup();
            let prepare = self.prepare.lock().clone();
            if let Some(prepare) = prepare {
                prepare(&dirty)?;
            }
        }
        let mut writer = self.writer.lock();
        writer.commit(group, durable).map_err(|e| LedgerError::sql(&self.name, e))?;
        if durable && writer.in_memory {
            let image = writer.connection.serialize("main").map_err(|e| LedgerError::sql(&self.name, e))?;
            *self.durable_image.lock() = Some(Arc::from(&image[..]));
        }
        Ok(())
    }

    pub(super) fn image(&self) -> Result<Vec<u8>, LedgerError> {
        let mut writer = self.writer.lock();
        writer.connection.serialize("main").map(|data| data.to_vec()).map_err(|e| LedgerError::sql(&self.name, e))
    }

    pub(super) fn clear_failure(&self) -> Result<(), LedgerError> {
        let mut queue = self.queue.lock();
        match &queue.failure {
            Some(_) if queue.lost => Err(LedgerError::Stopped),
            Some(error) if !error.is_full() => Err(error.clone()),
            _ => {
                queue.failure = None;
                self.work.notify_one();
                Ok(())
            }
        }
    }

    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        self.queue.lock().durable >= ticket.0
    }

    /// Ends the writer after it wrote what is queued.
    pub(super) fn end(&self, threaded: bool) {
        let mut queue = self.queue.lock();
        queue.ending = true;
        self.work.notify_all();
        while queue.running {
            self.done.wait(&mut queue);
        }
        queue.ended = true;
        drop(queue);
        // The runtime never came to start the writer: nothing is lost for that.
        if threaded {
            self.write_queued();
        }
    }
}

impl Queue {
    fn reached(&self, ticket: u64, durable: bool) -> bool {
        self.written >= ticket && (!durable || self.durable >= ticket)
    }

    fn check(&self) -> Result<(), LedgerError> {
        match &self.failure {
            Some(_) if self.lost => Err(LedgerError::Stopped),
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn is_asked_for(&self) -> bool {
        self.ending || self.bytes >= GROUP_BYTES || self.want_written > self.written || self.want_durable > self.durable
    }
}

impl Writer {
    /// One transaction; `durable`: on the disk when it returns, and with it all before.
    fn commit(&mut self, units: &[Unit], durable: bool) -> rusqlite::Result<()> {
        if !self.in_memory && self.full_sync != durable {
            self.connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
            self.full_sync = durable;
        }
        let group = self.connection.transaction()?;
        for write in units.iter().flat_map(|unit| &unit.writes) {
            schema::apply(&group, write)?;
        }
        if units.is_empty() {
            // Nothing to write, but a commit with a sync: it covers the log written before.
            group.execute("UPDATE barrier SET count = count + 1", [])?;
        }
        group.commit()
    }
}

/// Writes groups until the ledger ends.
pub(super) fn writer_loop(shared: &Shared) {
    let mut queue = shared.queue.lock();
    if queue.ended {
        return;
    }
    queue.running = true;
    loop {
        let idle = queue.units.is_empty() && queue.want_durable <= queue.durable;
        if idle || queue.failure.is_some() {
            if queue.ending {
                break;
            }
            shared.work.wait(&mut queue);
        } else {
            // Let a group gather, unless somebody waits for it.
            while !queue.is_asked_for() && queue.failure.is_none() {
                if shared.work.wait_for(&mut queue, Duration::from_millis(GROUP_MILLIS)).timed_out() {
                    break;
                }
            }
            if queue.failure.is_none() {
                shared.write_group(queue);
                queue = shared.queue.lock();
            }
        }
    }
    queue.running = false;
    shared.done.notify_all();
}
