//! The clean cache's table: what is held, how long, when it was used last; and the bytes of small blobs.

use super::SMALL_BYTES_MAX;
use crate::database::{DatabaseAt, Layout, Rebuildable};
use crate::error::LocalError;
use ouro_core::id::BlobId;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows gathered before they are written together.
const BATCH_ROWS_MAX: usize = 512;
/// Bytes of small blobs gathered before they are written together.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// Candidates looked at together when evicting.
const EVICT_PAGE_ROWS: i64 = 256;

const LAYOUT: Layout = Layout {
    version: 1,
    schema: "
        CREATE TABLE blob (id BLOB PRIMARY KEY, len INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
        CREATE UNIQUE INDEX blob_by_use ON blob (used, len);
        CREATE TABLE small (id BLOB PRIMARY KEY, bytes BLOB NOT NULL);
    ",
};

/// A row as eviction sees it.
pub(super) struct Used {
    pub(super) id: BlobId,
    pub(super) len: u64,
    pub(super) used: i64,
}

pub(super) struct Rows {
    database: Rebuildable,
    batch: Mutex<Batch>,
}

/// A blob that is not in the database yet: length, use stamp, and the bytes if small.
type New = (u64, i64, Option<Arc<[u8]>>);

/// What is not in the database yet.
struct Batch {
    /// New blobs.
    new: BTreeMap<BlobId, New>,
    /// New use stamps of blobs that are in the database.
    touched: BTreeMap<BlobId, i64>,
    /// Bytes of small blobs in `new`.
    bytes: usize,
    /// The last stamp given. Stamps count uses, they are no time: unique, so that they also page.
    clock: i64,
    /// Bytes held, batch included.
    total: u64,
    /// How often the database had been emptied when `total` was counted.
    rebuilds: u64,
}

fn sums(db: &Connection) -> rusqlite::Result<(i64, u64)> {
    db.query_row("SELECT coalesce(max(used), 0), coalesce(sum(len), 0) FROM blob", [], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
    })
}

impl Rows {
    /// True beside it if the database had to be emptied.
    pub(super) fn open(at: DatabaseAt) -> Result<(Rows, bool), LocalError> {
        let (database, rebuilt) = Rebuildable::open(at, LAYOUT, false)?;
        let (clock, total) = database.run(|db| sums(db))?;
        let batch = Batch {
            new: BTreeMap::new(),
            touched: BTreeMap::new(),
            bytes: 0,
            clock,
            total,
            rebuilds: database.rebuilds(),
        };
        Ok((Rows { database, batch: Mutex::new(batch) }, rebuilt))
    }

    pub(super) fn total(&self) -> u64 {
        self.batch.lock().total
    }

    pub(super) fn len_of(&self, id: &BlobId) -> Result<Option<u64>, LocalError> {
        // The batch stays locked while the database is asked, so that a row on its way between them is not missed.
        let batch = self.batch.lock();
        match batch.new.get(id) {
            Some((len, ..)) => Ok(Some(*len)),
            None => self.database.run(|db| stored_len(db, id)),
        }
    }

    pub(super) fn contains_all(&self, ids: &[BlobId]) -> Result<bool, LocalError> {
        let batch = self.batch.lock();
        self.database.run(|db| {
            for id in ids {
                if !batch.new.contains_key(id) && stored_len(db, id)?.is_none() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The bytes of a small blob.
    pub(super) fn small(&self, id: &BlobId) -> Result<Option<Arc<[u8]>>, LocalError> {
        let batch = self.batch.lock();
        if let Some((_, _, bytes)) = batch.new.get(id) {
            return Ok(bytes.clone());
        }
        self.database.run(|db| {
            db.prepare_cached("SELECT bytes FROM small WHERE id = ?1")?
                .query_row(params![id.0], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?)))
                .optional()
        })
    }

    pub(super) fn insert_small(&self, id: BlobId, bytes: &[u8]) -> Result<(), LocalError> {
        debug_assert!(bytes.len() <= SMALL_BYTES_MAX);
        self.insert(id, bytes.len() as u64, Some(bytes.into()))
    }

    pub(super) fn insert_file(&self, id: BlobId, len: u64) -> Result<(), LocalError> {
        self.insert(id, len, None)
    }

    fn insert(&self, id: BlobId, len: u64, bytes: Option<Arc<[u8]>>) -> Result<(), LocalError> {
        let mut batch = self.batch.lock();
        batch.clock += 1;
        let clock = batch.clock;
        let held = bytes.as_ref().map_or(0, |b| b.len());
        if batch.new.insert(id, (len, clock, bytes)).is_none() {
            batch.bytes += held;
            batch.total += len;
        }
        self.write_if_full(&mut batch).inspect_err(|_| {
            // Refused: the caller makes room or gives up; the older rows of the batch stay for the next try.
            if batch.new.remove(&id).is_some() {
                batch.bytes -= held;
                batch.total = batch.total.saturating_sub(len);
            }
        })
    }

    /// Notes a use.
    pub(super) fn touch(&self, id: &BlobId) -> Result<(), LocalError> {
        let mut batch = self.batch.lock();
        batch.clock += 1;
        let clock = batch.clock;
        match batch.new.get_mut(id) {
            Some((_, used, _)) => *used = clock,
            None => {
                batch.touched.insert(*id, clock);
            }
        }
        match self.write_if_full(&mut batch) {
            // A full disk is no reason not to read; use stamps are only hints.
            Err(e) if e.is_full() => {
                batch.touched.clear();
                Ok(())
            }
            done => done,
        }
    }

    fn write_if_full(&self, batch: &mut Batch) -> Result<(), LocalError> {
        if batch.new.len() + batch.touched.len() < BATCH_ROWS_MAX && batch.bytes < BATCH_BYTES_MAX {
            return Ok(());
        }
        self.write(batch)
    }

    pub(super) fn flush(&self) -> Result<(), LocalError> {
        self.write(&mut self.batch.lock())
    }

    pub(super) fn image(&self) -> Result<Vec<u8>, LocalError> {
        self.database.image()
    }

    fn write(&self, batch: &mut Batch) -> Result<(), LocalError> {
        if batch.new.is_empty() && batch.touched.is_empty() {
            return Ok(());
        }
        self.database.run(|db| {
            let group = db.transaction()?;
            {
                let mut touch = group.prepare_cached("UPDATE blob SET used = ?2 WHERE id = ?1")?;
                for (id, used) in &batch.touched {
                    touch.execute(params![id.0, used])?;
                }
                let mut blob = group.prepare_cached("INSERT OR REPLACE INTO blob VALUES (?1, ?2, ?3)")?;
                let mut small = group.prepare_cached("INSERT OR REPLACE INTO small VALUES (?1, ?2)")?;
                for (id, (len, used, bytes)) in &batch.new {
                    blob.execute(params![id.0, len.cast_signed(), used])?;
                    if let Some(bytes) = bytes {
                        small.execute(params![id.0, &bytes[..]])?;
                    }
                }
            }
            group.commit()
        })?;
        batch.new.clear();
        batch.touched.clear();
        batch.bytes = 0;
        if batch.rebuilds != self.database.rebuilds() {
            // Emptied in between: what was counted is gone.
            batch.rebuilds = self.database.rebuilds();
            (_, batch.total) = self.database.run(|db| sums(db))?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, ids: &[BlobId]) -> Result<(), LocalError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut batch = self.batch.lock();
        let stored: u64 = self.database.run(|db| {
            let group = db.transaction()?;
            let mut stored = 0;
            for id in ids {
                stored += stored_len(&group, id)?.unwrap_or(0);
                group.prepare_cached("DELETE FROM blob WHERE id = ?1")?.execute(params![id.0])?;
                group.prepare_cached("DELETE FROM small WHERE id = ?1")?.execute(params![id.0])?;
            }
            group.commit()?;
            Ok(stored)
        })?;
        batch.total = batch.total.saturating_sub(stored);
        for id in ids {
            batch.touched.remove(id);
            if let Some((len, _, bytes)) = batch.new.remove(id) {
                batch.bytes -= bytes.map_or(0, |b| b.len());
                batch.total = batch.total.saturating_sub(len);
            }
        }
        Ok(())
    }

    /// The rows used longest ago, after a stamp if given. Writes the batch first.
    pub(super) fn oldest(&self, after: Option<i64>) -> Result<Vec<Used>, LocalError> {
        let mut batch = self.batch.lock();
        match self.write(&mut batch) {
            // Making room must work on a full disk: then what is in the batch is no candidate yet.
            Err(e) if e.is_full() => {}
            done => done?,
        }
        self.database.run(|db| {
            db.prepare_cached("SELECT id, len, used FROM blob WHERE used > ?1 ORDER BY used LIMIT ?2")?
                .query_map(params![after.unwrap_or(i64::MIN), EVICT_PAGE_ROWS], |row| {
                    Ok(Used { id: BlobId(row.get(0)?), len: row.get::<_, i64>(1)?.cast_unsigned(), used: row.get(2)? })
                })?
                .collect()
        })
    }
}

fn stored_len(db: &Connection, id: &BlobId) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached("SELECT len FROM blob WHERE id = ?1")?
        .query_row(params![id.0], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
        .optional()
}
