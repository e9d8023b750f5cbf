//! SQLite databases of this device: where they are, and those that may be rebuilt when they are damaged.

use crate::error::LocalError;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long SQLite waits for another process that reads the same file.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Statements kept prepared for each connection.
const STATEMENTS_MAX: usize = 64;

/// Where a database is kept.
#[derive(Clone, Debug)]
pub enum DatabaseAt {
    /// A file, with its write-ahead log beside it.
    File(PathBuf),
    /// Memory only.
    Memory,
    /// Memory, beginning with an image taken before: what a simulated crash left.
    Image(Vec<u8>),
}

impl DatabaseAt {
    /// The name in error messages.
    pub(crate) fn name(&self) -> String {
        match self {
            DatabaseAt::File(path) => {
                path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
            }
            DatabaseAt::Memory | DatabaseAt::Image(_) => "memory".to_owned(),
        }
    }

    /// Opens a connection without looking at what is in it. `alone`: there is no other one, so that no lock has to be taken and given back
    /// with each question.
    pub(crate) fn connect(&self, alone: bool) -> rusqlite::Result<Connection> {
        let connection = match self {
            DatabaseAt::File(path) => Connection::open(path)?,
            DatabaseAt::Memory => Connection::open_in_memory()?,
            DatabaseAt::Image(image) => {
                let mut connection = Connection::open_in_memory()?;
                connection.deserialize_read_exact("main", image.as_slice(), image.len(), false)?;
                connection
            }
        };
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        if let DatabaseAt::File(_) = self {
            if alone {
                connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |row| row.get::<_, String>(0))?;
            }
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        }
        Ok(connection)
    }
}

/// The layout of a database.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Raised when `schema` changes.
    pub(crate) version: i64,
    pub(crate) schema: &'static str,
}

impl Layout {
    /// Lays out an empty database; returns the layout version found otherwise.
    pub(crate) fn apply(&self, connection: &mut Connection) -> rusqlite::Result<i64> {
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if found != 0 || tables != 0 {
            return Ok(found);
        }
        let group = connection.transaction()?;
        group.execute_batch(self.schema)?;
        group.pragma_update(None, "user_version", self.version)?;
        group.commit()?;
        Ok(self.version)
    }
}

/// A database whose content can be learnt again: emptied when it is damaged or laid out otherwise.
pub(crate) struct Rebuildable {
    name: String,
    at: DatabaseAt,
    layout: Layout,
    full_sync: bool,
    connection: Mutex<Connection>,
    rebuilds: AtomicU64,
}

impl Rebuildable {
    /// Opens it; `full_sync`: each transaction is durable when it returns. True beside it if it had to be emptied.
    pub(crate) fn open(at: DatabaseAt, layout: Layout, full_sync: bool) -> Result<(Rebuildable, bool), LocalError> {
        let name = at.name();
        let (connection, rebuilt) = match try_open(&at, layout, full_sync) {
            Ok(Some(connection)) => (connection, false),
            Ok(None) => (rebuild(&at, &name, layout, full_sync)?, true),
            Err(e) if is_damage(&e) => (rebuild(&at, &name, layout, full_sync)?, true),
            Err(e) => return Err(LocalError::sql(&name, e)),
        };
        Ok((
            Rebuildable {
                name,
                at,
                layout,
                full_sync,
                connection: Mutex::new(connection),
                rebuilds: AtomicU64::new(0),
            },
            rebuilt,
        ))
    }

    /// Runs `act`; if it finds the database damaged, empties it and runs `act` again on the empty one.
    pub(crate) fn run<T>(&self, act: impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T, LocalError> {
        let mut connection = self.connection.lock();
        match act(&mut connection) {
            Err(e) if is_damage(&e) => {
                // Closed before its files are removed: closing removes the log by name, which would then be the new one's.
                *connection = Connection::open_in_memory().map_err(|e| LocalError::sql(&self.name, e))?;
                self.rebuilds.fetch_add(1, Ordering::AcqRel);
                *connection = rebuild(&self.at, &self.name, self.layout, self.full_sync)?;
                act(&mut connection).map_err(|e| LocalError::sql(&self.name, e))
            }
            done => done.map_err(|e| LocalError::sql(&self.name, e)),
        }
    }

    /// How often it was emptied since it was opened.
    pub(crate) fn rebuilds(&self) -> u64 {
        self.rebuilds.load(Ordering::Acquire)
    }

    /// The whole database as bytes, for [`DatabaseAt::Image`].
    pub(crate) fn image(&self) -> Result<Vec<u8>, LocalError> {
        let mut connection = self.connection.lock();
        connection.serialize("main").map(|data| data.to_vec()).map_err(|e| LocalError::sql(&self.name, e))
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// `None` if it is laid out otherwise.
fn try_open(at: &DatabaseAt, layout: Layout, full_sync: bool) -> rusqlite::Result<Option<Connection>> {
    let mut connection = at.connect(true)?;
    if full_sync {
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    Ok((layout.apply(&mut connection)? == layout.version).then_some(connection))
}

fn rebuild(at: &DatabaseAt, name: &str, layout: Layout, full_sync: bool) -> Result<Connection, LocalError> {
    tracing::warn!(database = name, "damaged or of another layout: emptied, to be learnt again");
    let fresh = match at {
        DatabaseAt::File(path) => {
            for suffix in ["", "-wal", "-shm"] {
                let mut file = path.clone().into_os_string();
                file.push(suffix);
                match std::fs::remove_file(&file) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(LocalError::io(name, e)),
                    _ => {}
                }
            }
            at.clone()
        }
        DatabaseAt::Memory | DatabaseAt::Image(_) => DatabaseAt::Memory,
    };
    match try_open(&fresh, layout, full_sync) {
        Ok(Some(connection)) => Ok(connection),
        Ok(None) => Err(LocalError::Damaged { name: name.to_owned(), reason: "cannot be laid out anew".to_owned() }),
        Err(e) => Err(LocalError::sql(name, e)),
    }
}
