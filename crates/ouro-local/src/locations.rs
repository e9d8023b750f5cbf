//! Where blobs are stored on the remote, as far as this device knows: what it need not upload again. Can be learnt again from the packs,
//! so a damaged database is emptied.

use crate::database::{DatabaseAt, Layout, Rebuildable};
use crate::error::LocalError;
use crate::filter::Filter;
use ouro_core::content::{Locator, ObjectId};
use ouro_core::id::{BlobId, DeviceNo, PackId, Seq};
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

const LAYOUT: Layout = Layout {
    version: 1,
    schema: "
        CREATE TABLE object (no INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
        CREATE TABLE location (id BLOB PRIMARY KEY, object INTEGER NOT NULL, offset INTEGER NOT NULL, len INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE recent (no INTEGER PRIMARY KEY, object INTEGER NOT NULL, blobs BLOB NOT NULL);
    ",
};
/// Databases of earlier builds have no such table.
const RECENT: &str =
    "CREATE TABLE IF NOT EXISTS recent (no INTEGER PRIMARY KEY, object INTEGER NOT NULL, blobs BLOB NOT NULL)";

/// Locations kept apart, about 100 bytes of memory each, before they are put among the others.
const RECENT_MAX: usize = 32_768;
/// A blob in a row of `recent`: id, offset, length.
const RECENT_BYTES: usize = 40;

/// Locations of blobs, `chunks.db`. Each change is durable when its call returns. All calls may block on the disk.
///
/// The table stands in the order of ids, which are hashes: whatever is written, some rows of it belong on every page. So new locations are
/// first written one object after the other, kept in memory too, and put among the others many at a time.
pub struct Locations {
    database: Rebuildable,
    /// Locked before the database.
    memory: RwLock<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Most blobs asked for are new: these are told without asking the database. Made when it is needed first, and anew when it is full.
    filter: Option<Filter>,
    /// What stands in `recent`.
    recent: HashMap<BlobId, Locator>,
}

/// An object's name in the table: a tag and its id.
fn name_of(object: ObjectId) -> Vec<u8> {
    match object {
        ObjectId::Pack(PackId(id)) => [&[0], id.as_slice()].concat(),
        ObjectId::Nodes(PackId(id)) => [&[1], id.as_slice()].concat(),
        ObjectId::Record(device, seq) => [&[2], device.0.to_le_bytes().as_slice(), &seq.0.to_le_bytes()].concat(),
    }
}

fn object_of(name: &[u8]) -> Option<ObjectId> {
    let (tag, id) = name.split_first()?;
    match tag {
        0 => Some(ObjectId::Pack(PackId(id.try_into().ok()?))),
        1 => Some(ObjectId::Nodes(PackId(id.try_into().ok()?))),
        2 => {
            let (device, seq) = id.split_at_checked(4)?;
            let device = DeviceNo(u32::from_le_bytes(device.try_into().ok()?));
            Some(ObjectId::Record(device, Seq(u64::from_le_bytes(seq.try_into().ok()?))))
        }
        _ => None,
    }
}

impl Locations {
    /// Opens or makes it; a damaged one is emptied.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn open(at: DatabaseAt) -> Result<Locations, LocalError> {
        let database = Rebuildable::open(at, LAYOUT, true)?.0;
        let recent = database.run(|db| {
            db.execute_batch(RECENT)?;
            read_recent(db)
        })?;
        Ok(Locations { database, memory: RwLock::new(Memory { filter: None, recent }) })
    }

    /// Notes where blobs are stored, all in one durable transaction; a later location replaces an earlier one.
    ///
    /// # Errors
    /// [`LocalError::Full`] or what SQLite says; then none is noted.
    pub fn insert_many(&self, blobs: &[(BlobId, Locator)]) -> Result<(), LocalError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let mut memory = self.memory.write();
        let memory = &mut *memory;
        let is_full = memory.recent.len() + blobs.len() > RECENT_MAX;
        let recent = &memory.recent;
        self.database.run(|db| {
            let group = db.transaction()?;
            if is_full {
                put_among_others(&group, recent.iter().chain(blobs.iter().map(|(id, at)| (id, at))))?;
            } else {
                for of_one in blobs.chunk_by(|(_, a), (_, b)| a.object == b.object) {
                    let object = object_no(&group, of_one[0].1.object)?;
                    group
                        .prepare_cached("INSERT INTO recent (object, blobs) VALUES (?1, ?2)")?
                        .execute(params![object, recent_row(of_one)])?;
                }
            }
            group.commit()
        })?;
        if is_full {
            memory.recent = HashMap::new();
        } else {
            memory.recent.extend(blobs.iter().copied());
        }
        if let Some(present) = &mut memory.filter
            && !blobs.iter().all(|(id, _)| present.add(id))
        {
            memory.filter = None;
        }
        Ok(())
    }

    /// Where a blob is stored, if known.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn get(&self, id: &BlobId) -> Result<Option<Locator>, LocalError> {
        {
            let memory = self.memory.read();
            if let Some(at) = memory.recent.get(id) {
                return Ok(Some(*at));
            }
            if memory.filter.as_ref().is_some_and(|filter| !filter.may_hold(id)) {
                return Ok(None);
            }
        }
        self.make_filter()?;
        self.database.run(|db| locator(db, id))
    }

    fn make_filter(&self) -> Result<(), LocalError> {
        if self.memory.read().filter.is_some() {
            return Ok(());
        }
        let mut memory = self.memory.write();
        let recent = memory.recent.len() as u64;
        let mut made = self.database.run(|db| {
            let count: i64 = db.query_row("SELECT count(*) FROM location", [], |row| row.get(0))?;
            let mut made = Filter::new(count.cast_unsigned() + recent);
            let mut ids = db.prepare("SELECT id FROM location")?;
            let mut rows = ids.query([])?;
            while let Some(row) = rows.next()? {
                made.add(&BlobId(row.get(0)?));
            }
            Ok(made)
        })?;
        memory.recent.keys().for_each(|id| {
            made.add(id);
        });
        memory.filter = Some(made);
        Ok(())
    }

    /// Where blobs are stored, in the order asked.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn get_many(&self, ids: &[BlobId]) -> Result<Vec<Option<Locator>>, LocalError> {
        let memory = self.memory.read();
        let find = |db: &Connection, id: &BlobId| match memory.recent.get(id) {
            Some(at) => Ok(Some(*at)),
            None => locator(db, id),
        };
        self.database.run(|db| ids.iter().map(|id| find(db, id)).collect())
    }

    /// Forgets all that lies in these objects: they are condemned or gone. One walk of the table for all of them.
    ///
    /// # Errors
    /// What SQLite says; then all stay.
    pub fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), LocalError> {
        let mut memory = self.memory.write();
        self.database.run(|db| {
            let group = db.transaction()?;
            group.execute_batch("CREATE TEMP TABLE IF NOT EXISTS gone (no INTEGER PRIMARY KEY); DELETE FROM gone")?;
            for object in objects {
                group
                    .prepare_cached("INSERT OR IGNORE INTO gone SELECT no FROM object WHERE name = ?1")?
                    .execute(params![name_of(*object)])?;
            }
            group.execute("DELETE FROM location WHERE object IN (SELECT no FROM gone)", [])?;
            group.execute("DELETE FROM recent WHERE object IN (SELECT no FROM gone)", [])?;
            group.execute("DELETE FROM object WHERE no IN (SELECT no FROM gone)", [])?;
            group.commit()
        })?;
        memory.recent.retain(|_, at| !objects.contains(&at.object));
        Ok(())
    }

    /// Forgets all that lies in records of a device up to one: they are condemned or gone.
    ///
    /// # Errors
    /// What SQLite says; then all stay.
    pub fn forget_records(&self, device: DeviceNo, until: Seq) -> Result<(), LocalError> {
        let names: Vec<Vec<u8>> = self
            .database
            .run(|db| db.prepare("SELECT name FROM object")?.query_map([], |row| row.get(0))?.collect())?;
        let gone = names.iter().filter_map(|name| object_of(name));
        let gone =
            gone.filter(|object| matches!(object, ObjectId::Record(whose, seq) if *whose == device && *seq <= until));
        self.forget_objects(&gone.collect::<Vec<_>>())
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// What SQLite says; then all stays.
    pub fn forget_all(&self) -> Result<(), LocalError> {
        let mut memory = self.memory.write();
        let all = "BEGIN; DELETE FROM location; DELETE FROM recent; DELETE FROM object; COMMIT";
        self.database.run(|db| db.execute_batch(all))?;
        memory.recent.clear();
        Ok(())
    }

    /// Forgets all that lies in one object.
    ///
    /// # Errors
    /// As [`Locations::forget_objects`].
    pub fn forget_object(&self, object: ObjectId) -> Result<(), LocalError> {
        self.forget_objects(&[object])
    }

    /// How many locations are known; one that was noted again lately may count twice.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count(&self) -> Result<u64, LocalError> {
        let recent = self.memory.read().recent.len() as u64;
        self.database.run(|db| {
            let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(i64::cast_unsigned);
            Ok(recent + db.query_row("SELECT count(*) FROM location", [], count)?)
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

/// Puts locations into the table; later ones replace earlier ones. Rows next to one another are written together.
fn put_among_others<'a>(
    group: &Connection,
    blobs: impl Iterator<Item = (&'a BlobId, &'a Locator)>,
) -> rusqlite::Result<()> {
    let mut blobs: Vec<_> = blobs.collect();
    blobs.sort_by_key(|(id, _)| *id);
    let mut objects: HashMap<ObjectId, i64> = HashMap::new();
    let mut insert = group.prepare_cached("INSERT OR REPLACE INTO location VALUES (?1, ?2, ?3, ?4)")?;
    for (id, at) in blobs {
        let object = match objects.entry(at.object) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(object_no(group, at.object)?),
        };
        insert.execute(params![id.0, object, at.offset, at.len])?;
    }
    group.execute("DELETE FROM recent", [])?;
    Ok(())
}

/// Blobs of one object as they stand in `recent`.
fn recent_row(blobs: &[(BlobId, Locator)]) -> Vec<u8> {
    let mut row = Vec::with_capacity(blobs.len() * RECENT_BYTES);
    for (id, at) in blobs {
        row.extend_from_slice(&id.0);
        row.extend_from_slice(&at.offset.to_le_bytes());
        row.extend_from_slice(&at.len.to_le_bytes());
    }
    row
}

fn read_recent(db: &Connection) -> rusqlite::Result<HashMap<BlobId, Locator>> {
    let mut recent = HashMap::new();
    let mut query =
        db.prepare("SELECT name, blobs FROM recent JOIN object ON object.no = recent.object ORDER BY recent.no")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        // A name of another layout is as good as not known.
        let Some(object) = object_of(row.get_ref(0)?.as_blob()?) else { continue };
        for blob in row.get_ref(1)?.as_blob()?.as_chunks::<RECENT_BYTES>().0 {
            let (Some(id), Some([a, b, c, d, e, f, g, h])) = (blob.first_chunk::<32>(), blob.last_chunk::<8>()) else {
                continue;
            };
            let (offset, len) = (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]));
            recent.insert(BlobId(*id), Locator { object, offset, len });
        }
    }
    Ok(recent)
}

fn object_no(db: &Connection, object: ObjectId) -> rusqlite::Result<i64> {
    let name = name_of(object);
    db.prepare_cached("INSERT OR IGNORE INTO object (name) VALUES (?1)")?.execute(params![name])?;
    db.prepare_cached("SELECT no FROM object WHERE name = ?1")?.query_row(params![name], |row| row.get(0))
}

fn locator(db: &Connection, id: &BlobId) -> rusqlite::Result<Option<Locator>> {
    let row = db
        .prepare_cached("SELECT name, offset, len FROM location JOIN object ON no = object WHERE id = ?1")?
        .query_row(params![id.0], |row| Ok((object_of(row.get_ref(0)?.as_blob()?), row.get(1)?, row.get(2)?)))
        .optional()?;
    // A name of another layout is as good as not known.
    Ok(row.and_then(|(object, offset, len)| Some(Locator { object: object?, offset, len })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(object: ObjectId, offset: u32) -> Locator {
        Locator { object, offset, len: 10 }
    }

    #[test]
    fn locations_survive_reopening_and_go_with_their_object() {
        let dir = tempfile::tempdir().unwrap();
        let file = DatabaseAt::File(dir.path().join("chunks.db"));
        let objects = [
            ObjectId::Pack(PackId([1; 16])),
            ObjectId::Nodes(PackId([1; 16])),
            ObjectId::Record(DeviceNo(u32::MAX), Seq(u64::MAX)),
        ];
        let blobs: Vec<_> = (0..30u8).map(|n| (BlobId([n; 32]), at(objects[n as usize % 3], n.into()))).collect();
        let locations = Locations::open(file.clone()).unwrap();
        locations.insert_many(&blobs).unwrap();
        drop(locations);
        let locations = Locations::open(file).unwrap();
        for (id, at) in &blobs {
            assert_eq!(locations.get(id).unwrap(), Some(*at));
        }
        locations.forget_records(DeviceNo(u32::MAX), Seq(u64::MAX - 1)).unwrap();
        locations.forget_object(objects[1]).unwrap();
        let ids: Vec<_> = blobs.iter().map(|(id, _)| *id).collect();
        let found = locations.get_many(&ids).unwrap();
        assert!(found.iter().zip(&blobs).all(|(found, (_, at))| found.is_some() == (at.object != objects[1])));
        assert_eq!(locations.count().unwrap(), 20);
        locations.insert_many(&[(ids[0], at(objects[2], 77))]).unwrap();
        assert_eq!(locations.get(&ids[0]).unwrap(), Some(at(objects[2], 77)));
        locations.forget_records(DeviceNo(u32::MAX), Seq(u64::MAX)).unwrap();
        assert_eq!(locations.count().unwrap(), 9);
        locations.forget_all().unwrap();
        assert_eq!((locations.count().unwrap(), locations.get(&ids[3]).unwrap()), (0, None));
    }

    #[test]
    fn many_locations_are_found_however_they_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = DatabaseAt::File(dir.path().join("chunks.db"));
        let blob = |n: u32, object: u8| {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
            (BlobId(id), at(ObjectId::Pack(PackId([object; 16])), n))
        };
        let locations = Locations::open(file.clone()).unwrap();
        assert_eq!(locations.get(&blob(0, 0).0).unwrap(), None);
        let batch = RECENT_MAX as u32 / 3;
        for object in 0..5 {
            let blobs: Vec<_> = (0..batch).map(|n| blob(u32::from(object) * batch + n, object)).collect();
            locations.insert_many(&blobs).unwrap();
        }
        // One from among the others is noted anew, one from the recent ones too.
        let moved = [blob(5, 77), blob(5 * batch - 1, 77)];
        locations.insert_many(&moved).unwrap();
        let check = |locations: &Locations| {
            for n in (0..5 * batch).filter(|n| ![5, 5 * batch - 1].contains(n)) {
                let (id, at) = blob(n, (n / batch) as u8);
                assert_eq!(locations.get(&id).unwrap(), Some(at), "{n}");
            }
            assert_eq!(locations.get_many(&moved.map(|(id, _)| id)).unwrap(), moved.map(|(_, at)| Some(at)));
            assert_eq!(locations.get(&moved[0].0).unwrap(), Some(moved[0].1));
            assert_eq!(locations.get(&blob(9 * batch, 0).0).unwrap(), None);
        };
        check(&locations);
        drop(locations);
        let locations = Locations::open(file.clone()).unwrap();
        check(&locations);
        locations.forget_objects(&[1, 4, 77].map(|n| ObjectId::Pack(PackId([n; 16])))).unwrap();
        drop(locations);
        let locations = Locations::open(file).unwrap();
        for (n, known) in [(batch, false), (4 * batch, false), (5 * batch - 1, false), (2 * batch, true), (7, true)] {
            assert_eq!(locations.get(&blob(n, 0).0).unwrap().is_some(), known, "{n}");
        }
    }

    #[test]
    fn a_database_without_recent_locations_gets_its_table() {
        let dir = tempfile::tempdir().unwrap();
        let file = DatabaseAt::File(dir.path().join("chunks.db"));
        let blob = (BlobId([1; 32]), at(ObjectId::Pack(PackId([2; 16])), 5));
        let locations = Locations::open(file.clone()).unwrap();
        locations.database.run(|db| db.execute_batch("DROP TABLE recent")).unwrap();
        drop(locations);
        let locations = Locations::open(file).unwrap();
        locations.insert_many(&[blob]).unwrap();
        assert_eq!(locations.get(&blob.0).unwrap(), Some(blob.1));
    }

    #[test]
    fn a_garbage_table_is_emptied_and_usable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunks.db");
        std::fs::write(&path, b"SQLite format 3\0 and then nothing that makes sense at all").unwrap();
        let locations = Locations::open(DatabaseAt::File(path)).unwrap();
        let blob = (BlobId([1; 32]), at(ObjectId::Pack(PackId([2; 16])), 5));
        locations.insert_many(&[blob]).unwrap();
        assert_eq!(locations.get(&blob.0).unwrap(), Some(blob.1));
    }
}
