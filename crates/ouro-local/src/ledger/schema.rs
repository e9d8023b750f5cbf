//! The ledger's tables and how a write becomes rows.

use super::{LedgerError, Write};
use crate::database::{DatabaseAt, Layout};
use crate::layers::LayerState;
use ouro_core::id::Hlc;
use rusqlite::{Connection, Transaction, params};

pub(super) const LAYOUT: Layout = Layout {
    version: 1,
    schema: "
        CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE pending (generation INTEGER, file INTEGER, delta BLOB NOT NULL, PRIMARY KEY (generation, file)) WITHOUT ROWID;
        CREATE TABLE small (generation INTEGER, file INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (generation, file));
        CREATE TABLE layer (generation INTEGER, file INTEGER, size INTEGER NOT NULL, base_limit INTEGER NOT NULL,
            extents BLOB NOT NULL, PRIMARY KEY (generation, file)) WITHOUT ROWID;
        CREATE TABLE record (device INTEGER, seq INTEGER, hlc INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (device, seq));
        CREATE INDEX record_by_time ON record (hlc, device, seq);
        CREATE TABLE pin (file INTEGER PRIMARY KEY, pin INTEGER NOT NULL);
        CREATE TABLE local_only (file INTEGER PRIMARY KEY, row BLOB NOT NULL);
        CREATE TABLE barrier (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL);
        INSERT INTO barrier VALUES (1, 0);
    ",
};

/// Opens the database, laying out an empty one. Never empties a damaged one.
pub(super) fn open(at: &DatabaseAt, name: &str) -> Result<Connection, LedgerError> {
    let open = || -> rusqlite::Result<(Connection, i64)> {
        let mut connection = at.connect(false)?;
        let found = LAYOUT.apply(&mut connection)?;
        Ok((connection, found))
    };
    let (connection, found) = open().map_err(|e| LedgerError::sql(name, e))?;
    if found > LAYOUT.version {
        return Err(LedgerError::Newer { name: name.to_owned(), found, known: LAYOUT.version });
    }
    if found < LAYOUT.version {
        return Err(LedgerError::Damaged {
            name: name.to_owned(),
            reason: "has tables that are not a ledger's".to_owned(),
        });
    }
    Ok(connection)
}

/// Stamps as SQLite's signed integers in the same order.
pub(super) fn hlc_key(hlc: Hlc) -> i64 {
    (hlc.0 ^ (1 << 63)).cast_signed()
}

pub(super) fn hlc_of(key: i64) -> Hlc {
    Hlc(key.cast_unsigned() ^ (1 << 63))
}

pub(super) fn encode_extents(state: &LayerState) -> Vec<u8> {
    state.extents.iter().flat_map(|&(start, end)| [start.to_le_bytes(), end.to_le_bytes()]).flatten().collect()
}

/// `None` if these are no extents.
pub(super) fn decode_extents(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (pairs, rest) = bytes.as_chunks::<16>();
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    let extents: Option<Vec<_>> = pairs.iter().map(|pair| Some((number(&pair[..8])?, number(&pair[8..])?))).collect();
    extents.filter(|_| rest.is_empty())
}

/// Makes one write's change in an open transaction.
pub(super) fn apply(group: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| group.prepare_cached(sql)?.execute(values).map(drop);
    match write {
        Write::Pending { generation, file, delta } => {
            let (generation, file) = (generation.cast_signed(), file.0.cast_signed());
            match delta {
                Some(delta) => {
                    run("INSERT OR REPLACE INTO pending VALUES (?1, ?2, ?3)", params![generation, file, delta])
                }
                None => run("DELETE FROM pending WHERE generation = ?1 AND file = ?2", params![generation, file]),
            }
        }
        Write::Small { file, generation, bytes } => {
            let (generation, file) = (generation.cast_signed(), file.0.cast_signed());
            match bytes {
                Some(bytes) => {
                    run("INSERT OR REPLACE INTO small VALUES (?1, ?2, ?3)", params![generation, file, &bytes[..]])
                }
                None => run("DELETE FROM small WHERE generation = ?1 AND file = ?2", params![generation, file]),
            }
        }
        Write::Layer { file, generation, state } => {
            let (generation, file) = (generation.cast_signed(), file.0.cast_signed());
            match state {
                Some(state) => run(
                    "INSERT OR REPLACE INTO layer VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        generation,
                        file,
                        state.size.cast_signed(),
                        state.base_limit.cast_signed(),
                        encode_extents(state)
                    ],
                ),
                None => run("DELETE FROM layer WHERE generation = ?1 AND file = ?2", params![generation, file]),
            }
        }
        Write::Meta { key, value } => match value {
            Some(value) => run("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value]),
            None => run("DELETE FROM meta WHERE key = ?1", params![key]),
        },
        Write::Record { device, seq, hlc, bytes } => {
            let (device, seq) = (device.0, seq.0.cast_signed());
            match bytes {
                Some(bytes) => run(
                    "INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3, ?4)",
                    params![device, seq, hlc_key(*hlc), bytes],
                ),
                None => run("DELETE FROM record WHERE device = ?1 AND seq = ?2", params![device, seq]),
            }
        }
        Write::Pin { file, pin } => {
            let file = file.0.cast_signed();
            match pin.and_then(|pin| pin.code()) {
                Some(code) => run("INSERT OR REPLACE INTO pin VALUES (?1, ?2)", params![file, code]),
                None => run("DELETE FROM pin WHERE file = ?1", params![file]),
            }
        }
        Write::LocalOnly { file, row } => {
            let file = file.0.cast_signed();
            match row {
                Some(row) => run("INSERT OR REPLACE INTO local_only VALUES (?1, ?2)", params![file, row]),
                None => run("DELETE FROM local_only WHERE file = ?1", params![file]),
            }
        }
        Write::ClearGeneration { generation } => {
            let generation = generation.cast_signed();
            run("DELETE FROM pending WHERE generation = ?1", params![generation])?;
            run("DELETE FROM small WHERE generation = ?1", params![generation])?;
            run("DELETE FROM layer WHERE generation = ?1", params![generation])
        }
    }
}
