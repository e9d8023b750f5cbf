//! What is read back from the ledger.

use super::{Ledger, LedgerError, Write, schema};
use crate::layers::LayerState;
use crate::pins::Pin;
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that a box needs at its start. Records and dirty data stay in the database.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Encoded deltas by generation, sorted by file as a signed number.
    pub pending: BTreeMap<u64, Vec<(FileId, Vec<u8>)>>,
    /// Dirty data in the database: file, generation, encoded bytes.
    pub small: Vec<(FileId, u64, u64)>,
    /// Dirty files on the cache disk: file, generation, what is valid in them.
    pub layers: Vec<(FileId, u64, LayerState)>,
    /// Small facts.
    pub meta: BTreeMap<String, Vec<u8>>,
    /// The user's wishes, other than automatic.
    pub pins: Vec<(FileId, Pin)>,
    /// Rows of this device only.
    pub local_only: Vec<(FileId, Vec<u8>)>,
}

/// A commit record in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// Whose.
    pub device: DeviceNo,
    /// Position in its log.
    pub seq: Seq,
    /// When.
    pub hlc: Hlc,
    /// Encoded, without inline blobs.
    pub bytes: Vec<u8>,
}

impl Ledger {
    fn query<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        match &self.reader {
            Some(reader) => ask(&reader.lock()),
            None => ask(&self.shared.writer.lock().connection),
        }
        .map_err(|e| LedgerError::sql(&self.shared.name, e))
    }

    /// The newest queued answer to a question, if the queue knows one. What is not found here and is in a group just written is in
    /// the database, so asking the queue first and the database second misses nothing.
    fn queued<T>(&self, answer: impl Fn(&Write) -> Option<T>) -> Option<T> {
        let queue = self.shared.queue.lock();
        let queued = queue.units.iter().rev().flat_map(|unit| unit.writes.iter().rev()).find_map(&answer);
        queued.or_else(|| queue.writing.iter().rev().flat_map(|unit| unit.writes.iter().rev()).find_map(&answer))
    }

    /// Everything needed at start, with what was submitted before the call.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] if a row is none of ours; else as [`Ledger::flush`].
    pub fn load(&self) -> Result<Loaded, LedgerError> {
        self.flush(self.last(), false)?;
        let mut loaded = self.query(|db| {
            let mut loaded = Loaded::default();
            each(db, "SELECT generation, file, delta FROM pending ORDER BY generation, file", |row| {
                loaded.pending.entry(number(row, 0)?).or_default().push((FileId(number(row, 1)?), row.get(2)?));
                Ok(())
            })?;
            each(db, "SELECT file, generation, length(bytes) FROM small ORDER BY generation, file", |row| {
                loaded.small.push((FileId(number(row, 0)?), number(row, 1)?, number(row, 2)?));
                Ok(())
            })?;
            each(db, "SELECT key, value FROM meta", |row| {
                loaded.meta.insert(row.get(0)?, row.get(1)?);
                Ok(())
            })?;
            each(db, "SELECT file, pin FROM pin ORDER BY file", |row| {
                loaded.pins.push((FileId(number(row, 0)?), Pin::from_code(row.get(1)?)));
                Ok(())
            })?;
            each(db, "SELECT file, row FROM local_only ORDER BY file", |row| {
                loaded.local_only.push((FileId(number(row, 0)?), row.get(1)?));
                Ok(())
            })?;
            Ok(loaded)
        })?;
        loaded.layers = self.layers()?;
        Ok(loaded)
    }

    /// All layer rows in the database.
    pub(crate) fn layers(&self) -> Result<Vec<(FileId, u64, LayerState)>, LedgerError> {
        let mut rows = Vec::new();
        self.query(|db| {
            each(db, "SELECT file, generation, size, base_limit, extents FROM layer ORDER BY generation, file", |row| {
                rows.push((FileId(number(row, 0)?), number(row, 1)?, layer_state(row, 2)?));
                Ok(())
            })
        })?;
        rows.into_iter()
            .map(|(file, generation, state)| Ok((file, generation, state.ok_or_else(|| self.bad_extents(file))?)))
            .collect()
    }

    /// Bytes of dirty data in the database, by generation.
    pub(crate) fn small_bytes(&self) -> Result<BTreeMap<u64, u64>, LedgerError> {
        self.query(|db| {
            db.prepare_cached("SELECT generation, sum(length(bytes)) FROM small GROUP BY generation")?
                .query_map([], |row| Ok((number(row, 0)?, number(row, 1)?)))?
                .collect()
        })
    }

    fn bad_extents(&self, file: FileId) -> LedgerError {
        LedgerError::Damaged { name: self.shared.name.clone(), reason: format!("extents of {file:?}") }
    }

    /// Dirty data kept in the database, as encoded by the layers; sees every unit submitted before.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub fn small(&self, file: FileId, generation: u64) -> Result<Option<Arc<[u8]>>, LedgerError> {
        let queued = self.queued(|write| match write {
            Write::Small { file: f, generation: g, bytes } if *f == file && *g == generation => Some(bytes.clone()),
            Write::ClearGeneration { generation: g } if *g == generation => Some(None),
            _ => None,
        });
        if let Some(bytes) = queued {
            return Ok(bytes);
        }
        self.query(|db| {
            db.prepare_cached("SELECT bytes FROM small WHERE generation = ?1 AND file = ?2")?
                .query_row(params![generation.cast_signed(), file.0.cast_signed()], |row| {
                    Ok(Arc::from(row.get_ref(0)?.as_blob()?))
                })
                .optional()
        })
    }

    /// What is valid in a dirty file of the cache disk; sees every unit submitted before.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] if the row is none of ours; else whatever SQLite says.
    pub fn layer(&self, file: FileId, generation: u64) -> Result<Option<LayerState>, LedgerError> {
        let queued = self.queued(|write| match write {
            Write::Layer { file: f, generation: g, state } if *f == file && *g == generation => Some(state.clone()),
            Write::ClearGeneration { generation: g } if *g == generation => Some(None),
            _ => None,
        });
        if let Some(state) = queued {
            return Ok(state);
        }
        let row = self.query(|db| {
            db.prepare_cached("SELECT size, base_limit, extents FROM layer WHERE generation = ?1 AND file = ?2")?
                .query_row(params![generation.cast_signed(), file.0.cast_signed()], |row| layer_state(row, 0))
                .optional()
        })?;
        row.map(|state| state.ok_or_else(|| self.bad_extents(file))).transpose()
    }

    /// One commit record; sees every unit submitted before.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub fn record(&self, device: DeviceNo, seq: Seq) -> Result<Option<RecordRow>, LedgerError> {
        let queued = self.queued(|write| match write {
            Write::Record { device: d, seq: s, hlc, bytes } if *d == device && *s == seq => {
                Some(bytes.clone().map(|bytes| RecordRow { device, seq, hlc: *hlc, bytes }))
            }
            _ => None,
        });
        if let Some(record) = queued {
            return Ok(record);
        }
        self.query(|db| {
            db.prepare_cached("SELECT device, seq, hlc, bytes FROM record WHERE device = ?1 AND seq = ?2")?
                .query_row(params![device.0, seq.0.cast_signed()], record_row)
                .optional()
        })
    }

    /// At most `limit` records of a device after `seq`, in order; waits for what was submitted before.
    ///
    /// # Errors
    /// As [`Ledger::flush`].
    pub fn records_after(&self, device: DeviceNo, seq: Seq, limit: usize) -> Result<Vec<RecordRow>, LedgerError> {
        self.flush(self.last(), false)?;
        self.query(|db| {
            db.prepare_cached(
                "SELECT device, seq, hlc, bytes FROM record WHERE device = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?
            .query_map(params![device.0, seq.0.cast_signed(), limit.cast_signed() as i64], record_row)?
            .collect()
        })
    }

    /// At most `limit` records of a device from `seq` downwards, the latest first; waits for what was submitted before.
    ///
    /// # Errors
    /// As [`Ledger::flush`].
    pub fn records_down(&self, device: DeviceNo, seq: Seq, limit: usize) -> Result<Vec<RecordRow>, LedgerError> {
        self.flush(self.last(), false)?;
        self.query(|db| {
            db.prepare_cached(
                "SELECT device, seq, hlc, bytes FROM record WHERE device = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT ?3",
            )?
            .query_map(params![device.0, seq.0.cast_signed(), limit.cast_signed() as i64], record_row)?
            .collect()
        })
    }

    /// The place and time of the last record of a device that is not younger than `hlc`, and the place of the first one after it, among
    /// those that are here; waits for what was submitted before.
    ///
    /// # Errors
    /// As [`Ledger::flush`].
    pub fn record_around(&self, device: DeviceNo, hlc: Hlc) -> Result<(Option<Seq>, Option<Seq>), LedgerError> {
        self.flush(self.last(), false)?;
        self.query(|db| {
            let one = |sql: &str| -> rusqlite::Result<Option<Seq>> {
                let found = db.prepare_cached(sql)?.query_row(params![device.0, schema::hlc_key(hlc)], |row| {
                    Ok(row.get::<_, Option<i64>>(0)?.map(|seq| Seq(seq.cast_unsigned())))
                });
                found.optional().map(Option::flatten)
            };
            let before = one("SELECT max(seq) FROM record WHERE device = ?1 AND hlc <= ?2")?;
            Ok((before, one("SELECT min(seq) FROM record WHERE device = ?1 AND hlc > ?2")?))
        })
    }

    /// At most `limit` records with `from <= hlc <= to`, sorted by (hlc, device, seq); waits for what was submitted before. To page on,
    /// ask again from the last hlc and skip what was seen.
    ///
    /// # Errors
    /// As [`Ledger::flush`].
    pub fn records_by_time(&self, from: Hlc, to: Hlc, limit: usize) -> Result<Vec<RecordRow>, LedgerError> {
        self.flush(self.last(), false)?;
        self.query(|db| {
            let sql = "SELECT device, seq, hlc, bytes FROM record WHERE hlc BETWEEN ?1 AND ?2 ORDER BY hlc, device, seq LIMIT ?3";
            db.prepare_cached(sql)?
                .query_map(params![schema::hlc_key(from), schema::hlc_key(to), limit.cast_signed() as i64], record_row)?
                .collect()
        })
    }

    /// The first and the last record known of each device, sorted by device number; waits for what was submitted before.
    ///
    /// # Errors
    /// As [`Ledger::flush`].
    pub fn logs(&self) -> Result<Vec<(DeviceNo, Seq, Seq)>, LedgerError> {
        self.flush(self.last(), false)?;
        self.query(|db| {
            db.prepare_cached("SELECT device, min(seq), max(seq) FROM record GROUP BY device ORDER BY device")?
                .query_map([], |row| Ok((DeviceNo(row.get(0)?), Seq(number(row, 1)?), Seq(number(row, 2)?))))?
                .collect()
        })
    }

    /// Reads the whole database and compares it with itself: for `check`, not for every start.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] with the first finding.
    pub fn check(&self) -> Result<(), LedgerError> {
        let found: String = self.query(|db| db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        if found == "ok" { Ok(()) } else { Err(LedgerError::Damaged { name: self.shared.name.clone(), reason: found }) }
    }
}

fn each(db: &Connection, sql: &str, mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(row)?;
    }
    Ok(())
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

fn layer_state(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<LayerState>> {
    let (size, base_limit) = (number(row, first)?, number(row, first + 1)?);
    let extents = schema::decode_extents(row.get_ref(first + 2)?.as_blob()?);
    Ok(extents.map(|extents| LayerState { size, base_limit, extents }))
}

fn record_row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    Ok(RecordRow {
        device: DeviceNo(row.get(0)?),
        seq: Seq(number(row, 1)?),
        hlc: schema::hlc_of(row.get(2)?),
        bytes: row.get(3)?,
    })
}
