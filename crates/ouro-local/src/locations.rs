//! Where blobs are stored on the remote, as far as this device knows: what it need not upload again. Can be learnt again from the packs,
//! so a damaged database is emptied.

use crate::database::{DatabaseAt, Layout, Rebuildable};
use crate::error::LocalError;
use crate::filter::Filter;
use ouro_core::content::{Locator, ObjectId};
use ouro_core::id::{BlobId, DeviceNo, PackId, Seq};
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};

const LAYOUT: Layout = Layout {
    version: 1,
    schema: "
        CREATE TABLE object (no INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
        CREATE TABLE location (id BLOB PRIMARY KEY, object INTEGER NOT NULL, offset INTEGER NOT NULL, len INTEGER NOT NULL) WITHOUT ROWID;
    ",
};

/// Locations of blobs, `chunks.db`. Each change is durable when its call returns. All calls may block on the disk.
pub struct Locations {
    database: Rebuildable,
    /// Most blobs asked for are new: these are told without asking the database. Made when it is needed first, and anew when it is full.
    /// Locked before the database.
    filter: RwLock<Option<Filter>>,
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
        Ok(Locations { database: Rebuildable::open(at, LAYOUT, true)?.0, filter: RwLock::default() })
    }

    /// Notes where blobs are stored, all in one durable transaction; a later location replaces an earlier one.
    ///
    /// # Errors
    /// [`LocalError::Full`] or what SQLite says; then none is noted.
    pub fn insert_many(&self, blobs: &[(BlobId, Locator)]) -> Result<(), LocalError> {
        let mut filter = self.filter.write();
        // Rows next to one another are written together.
        let mut blobs: Vec<&(BlobId, Locator)> = blobs.iter().collect();
        blobs.sort_by_key(|(id, _)| *id);
        self.database.run(|db| {
            let group = db.transaction()?;
            let mut known: Option<(ObjectId, i64)> = None;
            for (id, at) in &blobs {
                let object = match known {
                    Some((object, no)) if object == at.object => no,
                    _ => object_no(&group, at.object)?,
                };
                known = Some((at.object, object));
                group
                    .prepare_cached("INSERT OR REPLACE INTO location VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id.0, object, at.offset, at.len])?;
            }
            group.commit()
        })?;
        if let Some(present) = filter.as_mut()
            && !blobs.iter().all(|(id, _)| present.add(id))
        {
            *filter = None;
        }
        Ok(())
    }

    /// Where a blob is stored, if known.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn get(&self, id: &BlobId) -> Result<Option<Locator>, LocalError> {
        if !self.may_hold(id)? {
            return Ok(None);
        }
        self.database.run(|db| locator(db, id))
    }

    /// False only if no location of the blob is known.
    fn may_hold(&self, id: &BlobId) -> Result<bool, LocalError> {
        if let Some(filter) = self.filter.read().as_ref() {
            return Ok(filter.may_hold(id));
        }
        let mut filter = self.filter.write();
        let made = self.database.run(|db| {
            let count: i64 = db.query_row("SELECT count(*) FROM location", [], |row| row.get(0))?;
            let mut made = Filter::new(count.cast_unsigned());
            let mut ids = db.prepare("SELECT id FROM location")?;
            let mut rows = ids.query([])?;
            while let Some(row) = rows.next()? {
                made.add(&BlobId(row.get(0)?));
            }
            Ok(made)
        })?;
        Ok(filter.insert(made).may_hold(id))
    }

    /// Where blobs are stored, in the order asked.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn get_many(&self, ids: &[BlobId]) -> Result<Vec<Option<Locator>>, LocalError> {
        self.database.run(|db| ids.iter().map(|id| locator(db, id)).collect())
    }

    /// Forgets all that lies in these objects: they are condemned or gone. One walk of the table for all of them.
    ///
    /// # Errors
    /// What SQLite says; then all stay.
    pub fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), LocalError> {
        self.database.run(|db| {
            let group = db.transaction()?;
            group.execute_batch("CREATE TEMP TABLE IF NOT EXISTS gone (no INTEGER PRIMARY KEY); DELETE FROM gone")?;
            for object in objects {
                group
                    .prepare_cached("INSERT OR IGNORE INTO gone SELECT no FROM object WHERE name = ?1")?
                    .execute(params![name_of(*object)])?;
            }
            group.execute("DELETE FROM location WHERE object IN (SELECT no FROM gone)", [])?;
            group.execute("DELETE FROM object WHERE no IN (SELECT no FROM gone)", [])?;
            group.commit()
        })
    }

    /// Forgets all that lies in one object.
    ///
    /// # Errors
    /// As [`Locations::forget_objects`].
    pub fn forget_object(&self, object: ObjectId) -> Result<(), LocalError> {
        self.forget_objects(&[object])
    }

    /// How many locations are known.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count(&self) -> Result<u64, LocalError> {
        self.database.run(|db| {
            db.query_row("SELECT count(*) FROM location", [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
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
        locations.forget_object(objects[1]).unwrap();
        let ids: Vec<_> = blobs.iter().map(|(id, _)| *id).collect();
        let found = locations.get_many(&ids).unwrap();
        assert!(found.iter().zip(&blobs).all(|(found, (_, at))| found.is_some() == (at.object != objects[1])));
        assert_eq!(locations.count().unwrap(), 20);
        locations.insert_many(&[(ids[0], at(objects[2], 77))]).unwrap();
        assert_eq!(locations.get(&ids[0]).unwrap(), Some(at(objects[2], 77)));
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
