//! Tree nodes by id, plain: the part of the index that this device holds, possibly all of it. Can be fetched again, so a damaged
//! database is emptied.

use crate::database::{DatabaseAt, Layout, Rebuildable};
use crate::error::LocalError;
use ouro_core::id::NodeId;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use std::sync::Arc;

const LAYOUT: Layout = Layout { version: 1, schema: "CREATE TABLE node (id BLOB PRIMARY KEY, bytes BLOB NOT NULL);" };
/// Nodes removed in one transaction.
const REMOVE_ROWS_MAX: usize = 1_000;

/// The node cache of a box, `index.db`. Each change is durable when its call returns: the journal's commits are laid on these nodes at the
/// next start, with or without a network. All calls may block on the disk.
pub struct NodeStore {
    database: Rebuildable,
}

impl NodeStore {
    /// Opens or makes it; a damaged one is emptied.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn open(at: DatabaseAt) -> Result<NodeStore, LocalError> {
        Ok(NodeStore { database: Rebuildable::open(at, LAYOUT, true)?.0 })
    }

    /// Keeps nodes, all in one transaction; those that are there are replaced: what comes from the remote knows better where things lie.
    ///
    /// # Errors
    /// [`LocalError::Full`] or what SQLite says; then none is kept.
    pub fn put_many<B: AsRef<[u8]>>(&self, nodes: &[(NodeId, B)]) -> Result<(), LocalError> {
        self.database.run(|db| {
            let group = db.transaction()?;
            {
                let mut insert = group.prepare_cached("INSERT OR REPLACE INTO node VALUES (?1, ?2)")?;
                for (id, bytes) in nodes {
                    insert.execute(params![id.0, bytes.as_ref()])?;
                }
            }
            group.commit()
        })
    }

    /// A node's plain bytes, as they were put. They are not verified here.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn get(&self, id: &NodeId) -> Result<Option<Arc<[u8]>>, LocalError> {
        self.database.run(|db| {
            db.prepare_cached("SELECT bytes FROM node WHERE id = ?1")?
                .query_row(params![id.0], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?)))
                .optional()
        })
    }

    /// Whether a node is here.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn contains(&self, id: &NodeId) -> Result<bool, LocalError> {
        self.database.run(|db| db.prepare_cached("SELECT 1 FROM node WHERE id = ?1")?.exists(params![id.0]))
    }

    /// How many nodes are here.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count(&self) -> Result<u64, LocalError> {
        self.database
            .run(|db| db.query_row("SELECT count(*) FROM node", [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned)))
    }

    /// Removes the nodes that `stale` says so of, shown one after the other; returns how many went.
    ///
    /// # Errors
    /// What SQLite says; batches done before stay done.
    pub fn remove_if(&self, stale: &dyn Fn(&NodeId, &[u8]) -> bool) -> Result<u64, LocalError> {
        let ids: Vec<NodeId> = self.database.run(ids)?;
        let mut gone = Vec::new();
        for id in ids {
            if self.get(&id)?.is_some_and(|bytes| stale(&id, &bytes)) {
                gone.push(id);
            }
        }
        for batch in gone.chunks(REMOVE_ROWS_MAX) {
            self.remove(batch)?;
        }
        Ok(gone.len() as u64)
    }

    /// Removes all nodes but these, in batches; returns how many went.
    ///
    /// # Errors
    /// What SQLite says; batches done before stay done.
    pub fn retain(&self, kept: &BTreeSet<NodeId>) -> Result<u64, LocalError> {
        let ids: Vec<NodeId> = self.database.run(ids)?;
        let gone: Vec<NodeId> = ids.into_iter().filter(|id| !kept.contains(id)).collect();
        for batch in gone.chunks(REMOVE_ROWS_MAX) {
            self.remove(batch)?;
        }
        Ok(gone.len() as u64)
    }

    /// Removes nodes, for instance one whose bytes turned out to be wrong.
    ///
    /// # Errors
    /// What SQLite says; then all stay.
    pub fn remove(&self, nodes: &[NodeId]) -> Result<(), LocalError> {
        self.database.run(|db| {
            let group = db.transaction()?;
            for id in nodes {
                group.prepare_cached("DELETE FROM node WHERE id = ?1")?.execute(params![id.0])?;
            }
            group.commit()
        })
    }

    /// The database as bytes, for a simulated crash: [`DatabaseAt::Image`].
    ///
    /// # Errors
    /// What SQLite says.
    pub fn image(&self) -> Result<Vec<u8>, LocalError> {
        self.database.image()
    }
}

fn ids(db: &mut Connection) -> rusqlite::Result<Vec<NodeId>> {
    db.prepare("SELECT id FROM node")?.query_map([], |row| row.get(0).map(NodeId))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn nodes_are_found_again_after_reopening_until_they_are_not_retained() {
        let dir = tempfile::tempdir().unwrap();
        let at = DatabaseAt::File(dir.path().join("index.db"));
        let store = NodeStore::open(at.clone()).unwrap();
        store.put_many(&[(id(1), b"one".as_slice()), (id(2), b"two")]).unwrap();
        store.put_many(&[(id(1), b"one".as_slice()), (id(3), b"three")]).unwrap();
        drop(store);
        let store = NodeStore::open(at).unwrap();
        assert_eq!(store.get(&id(2)).unwrap().as_deref(), Some(b"two".as_slice()));
        assert_eq!(store.count().unwrap(), 3);
        assert_eq!(store.retain(&BTreeSet::from([id(1)])).unwrap(), 2);
        assert!(store.contains(&id(1)).unwrap());
        assert!(!store.contains(&id(2)).unwrap());
    }

    #[test]
    fn a_garbage_index_is_emptied_and_usable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        std::fs::write(&path, [7; 5000]).unwrap();
        let store = NodeStore::open(DatabaseAt::File(path)).unwrap();
        assert_eq!(store.get(&id(1)).unwrap(), None);
        store.put_many(&[(id(1), b"one")]).unwrap();
        assert!(store.contains(&id(1)).unwrap());
    }

    #[test]
    fn an_index_damaged_while_open_is_emptied_and_usable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let store = NodeStore::open(DatabaseAt::File(path.clone())).unwrap();
        for n in 0..200 {
            store.put_many(&[(id(n), [n; 2000])]).unwrap();
        }
        store.database.run(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))).unwrap();
        store.database.run(|db| db.execute_batch("PRAGMA cache_size = 0; PRAGMA shrink_memory")).unwrap();
        let len = std::fs::metadata(&path).unwrap().len();
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0xaa; len as usize - 4096], 4096).unwrap();
        let found = (0..200).filter(|n| store.get(&id(*n)).unwrap().is_some()).count();
        assert_eq!(found, 0);
        store.put_many(&[(id(9), b"nine")]).unwrap();
        assert!(store.contains(&id(9)).unwrap());
    }

    #[test]
    fn a_full_disk_is_said_and_keeps_none_of_the_batch() {
        let store = NodeStore::open(DatabaseAt::Memory).unwrap();
        store.database.run(|db| db.execute_batch("PRAGMA max_page_count = 20")).unwrap();
        let nodes: Vec<_> = (0..100).map(|n| (id(n), [n; 3000])).collect();
        assert!(matches!(store.put_many(&nodes), Err(LocalError::Full { .. })));
        assert_eq!(store.count().unwrap(), 0);
        store.put_many(&nodes[..3]).unwrap();
        assert_eq!(store.count().unwrap(), 3);
    }
}
