//! `moved/<id>`: where live blobs and nodes of collected objects lie now, and how a stale place is followed there.
//!
//! Places are hints that stand in nodes, records and block lists, and on devices; a collection rewrites none of them. So a place may name
//! an object that is gone. Whoever finds it absent asks the newest collection which tables are about it, and looks the blob up there; what
//! was moved twice is followed twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use ouro_core::codec::{read_locator, write_locator};
use ouro_core::content::{Locator, ObjectId};
use ouro_core::id::PackId;
use parking_lot::Mutex;

use crate::collection::{Collection, CollectionNo};
use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::object::{self, ObjectKind};
use crate::repository::Repository;
use crate::wire::{DecodeError, Reader, Writer, invalid};

/// Places in one table: about 900 KB of them.
pub const TABLE_PLACES_MAX: usize = 16 << 10;
/// Tables kept in memory.
const TABLES_MAX: usize = 16;
/// A place is followed so many times: a blob is moved once in a collection, and seldom in two.
pub const HOPS_MAX: usize = 32;
/// Fewest bytes of a place in a table.
const PLACE_BYTES_MIN: usize = 32 + 1 + 1 + 2;

/// A table: a blob or node by its id, and where it lies.
pub type Places = BTreeMap<[u8; 32], Locator>;

/// What a repository knows of collections.
#[derive(Default)]
pub(crate) struct Followed {
    /// The newest one.
    newest: Mutex<Option<Arc<Collection>>>,
    tables: Mutex<BTreeMap<PackId, Arc<Places>>>,
}

fn decode(plain: &[u8]) -> Result<Places, DecodeError> {
    let mut from = Reader::new(plain);
    let count = from.count(PLACE_BYTES_MIN)?;
    let mut places = Places::new();
    let mut last = None;
    for _ in 0..count {
        let id = from.array()?;
        if last.is_some_and(|last| last >= id) {
            return Err(invalid("places are not in order"));
        }
        last = Some(id);
        places.insert(id, read_locator(&mut from)?);
    }
    from.finish()?;
    Ok(places)
}

impl Repository {
    /// The newest collection this device has seen since it opened the repository.
    pub fn known_collection(&self) -> Option<Arc<Collection>> {
        self.followed().newest.lock().clone()
    }

    /// Remembers a collection, if it is newer than the one known.
    pub fn know_collection(&self, collection: Collection) {
        let mut newest = self.followed().newest.lock();
        if newest.as_ref().is_none_or(|known| known.number <= collection.number) {
            *newest = Some(Arc::new(collection));
        }
    }

    /// Publishes a table of at most [`TABLE_PLACES_MAX`] places under a random name.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn publish_table(&self, places: &Places) -> Result<PackId, RepoError> {
        let mut id = PackId([0; 16]);
        self.ports().rng.fill(&mut id.0);
        let mut to = Writer::default();
        to.varint(places.len() as u64);
        for (id, at) in places {
            to.raw(id);
            write_locator(&mut to, at);
        }
        let bytes = self.small_object(ObjectKind::Moved, Sealed::Moved, &id.0, to.as_bytes());
        self.store().publish(&object::moved_name(id), bytes).await?;
        Ok(id)
    }

    /// Reads a table; `None` if it is not there, or torn.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn table(&self, id: PackId) -> Result<Option<Arc<Places>>, RepoError> {
        if let Some(table) = self.followed().tables.lock().get(&id) {
            return Ok(Some(Arc::clone(table)));
        }
        let name = object::moved_name(id);
        let Some(plain) = self.open_small_object(&name, ObjectKind::Moved, Sealed::Moved, &id.0).await? else {
            return Ok(None);
        };
        let table = Arc::new(decode(&plain).map_err(|error| RepoError::malformed(name, error))?);
        let mut tables = self.followed().tables.lock();
        if tables.len() >= TABLES_MAX {
            tables.pop_first();
        }
        tables.insert(id, Arc::clone(&table));
        Ok(Some(table))
    }

    /// All tables that a list shows.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn moved_tables(&self) -> Result<Vec<PackId>, RepoError> {
        let listed = self.store().list(object::MOVED_PREFIX).await?;
        Ok(listed
            .iter()
            .filter_map(|found| object::device_of(&found.name, object::MOVED_PREFIX))
            .map(|id| PackId(id.0))
            .collect())
    }

    /// Where a blob or node lies whose place names an object that is not there. `None`: nobody moved it.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn follow(&self, id: &[u8; 32], object: ObjectId) -> Result<Option<Locator>, RepoError> {
        let known = self.known_collection();
        let found = match &known {
            Some(collection) => self.follow_in(collection, id, object).await,
            None => Ok(None),
        };
        match found {
            Ok(None) => {}
            // A later collection may have taken that table, too.
            Err(ref error) if error.is_corrupt() => {}
            found => return found,
        }
        // A collection that this device has not heard of may have moved it.
        let newest = self.collections().await?.into_values().next_back();
        match newest.filter(|newest| newest.number > known.map_or(CollectionNo(0), |known| known.number)) {
            Some(newest) => {
                let at = self.follow_in(&newest, id, object).await;
                self.know_collection(newest);
                at
            }
            None => found,
        }
    }

    /// The same, with a collection that is known.
    ///
    /// # Errors
    ///
    /// As [`Repository::follow`].
    pub async fn follow_in(
        &self,
        collection: &Collection,
        id: &[u8; 32],
        object: ObjectId,
    ) -> Result<Option<Locator>, RepoError> {
        for table in collection.tables_of(object) {
            let lost = || RepoError::corrupt(object::moved_name(table), "it is not there");
            if let Some(at) = self.table(table).await?.ok_or_else(lost)?.get(id) {
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }
}
