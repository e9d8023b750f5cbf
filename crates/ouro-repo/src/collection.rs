//! `gc/<number>`: collections, that is what is to go, what stays of the past, and where live blobs of what goes lie now.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use ouro_core::content::ObjectId;
use ouro_core::id::{DeviceNo, Hlc, PackId, RecordHash, Seq};
use ouro_core::tree::{NodeRef, read_node_ref, write_node_ref};

use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::object::{self, COLLECTIONS_PREFIX, ObjectKind};
use crate::record::MESSAGE_BYTES_MAX;
use crate::repository::Repository;
use crate::wire::{DecodeError, Reader, Writer, invalid, read_flag, read_text, read_u64, write_flag};

/// Requests in flight when collections are read.
const READS_AT_ONCE: usize = 4;

const PACK: u8 = 0;
const NODES: u8 = 1;
const LOG: u8 = 2;

/// The number of a collection: a count in the upper, the device's number in the lower half, so that no two devices ever write the same
/// name, and a greater one was begun by somebody who knew the smaller one or at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionNo(pub u64);

impl CollectionNo {
    /// The number of the collection that `device` begins after this one.
    pub fn next(self, device: DeviceNo) -> CollectionNo {
        CollectionNo(((self.0 >> 32) + 1) << 32 | u64::from(device.0))
    }
}

/// A commit as a cut names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Whose.
    pub device: DeviceNo,
    /// Position in its log.
    pub seq: Seq,
    /// Hash of its record.
    pub hash: RecordHash,
    /// When it was made.
    pub hlc: Hlc,
}

/// A tree, and the commits in it: the newest of each device, sorted by device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// Its root; `None` for the empty tree.
    pub root: Option<NodeRef>,
    /// The commits in it.
    pub covers: Vec<Covered>,
}

/// A state of the past that stays, with a tree of its own: the records from which it was made may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptState {
    /// The commit that it is the state of. It is among the pin's, too.
    pub commit: Covered,
    /// What the user said about that commit.
    pub message: String,
    /// The state.
    pub pin: Pin,
}

/// An object that goes, or a stretch of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gone {
    /// A pack.
    Pack(PackId),
    /// A pack of nodes.
    Nodes(PackId),
    /// Records of a device.
    Log {
        /// Whose.
        device: DeviceNo,
        /// The first of them.
        from: Seq,
        /// The last of them.
        to: Seq,
    },
}

impl Gone {
    /// Whether it is, or holds, this object.
    pub fn holds(&self, object: ObjectId) -> bool {
        match (*self, object) {
            (Gone::Pack(gone), ObjectId::Pack(id)) | (Gone::Nodes(gone), ObjectId::Nodes(id)) => gone == id,
            (Gone::Log { device, from, to }, ObjectId::Record(whose, seq)) => {
                device == whose && (from..=to).contains(&seq)
            }
            _ => false,
        }
    }
}

/// A `moved/` object, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedTable {
    /// Which.
    pub id: PackId,
    /// The objects whose live blobs it places, sorted.
    pub of: Vec<Gone>,
}

/// A collection, whole: whoever knows the newest one needs no earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// Which.
    pub number: CollectionNo,
    /// When it was begun: milliseconds since 1970 (UTC), by the clock of who did.
    pub begun_ms: u64,
    /// The same by the storage's clock, if it tells it.
    pub begun_storage_ms: Option<u64>,
    /// All live devices acknowledged the collection of this number, and what it condemned goes, or is gone: who missed it must not trust
    /// what it knows of places. `None` while it is to be acknowledged.
    pub ends: Option<CollectionNo>,
    /// All live devices acknowledged the collection before, which condemned the same: where the storage tells no time.
    pub confirmed: bool,
    /// The state in which every record that goes is contained.
    pub checkpoint: Pin,
    /// Digest of that state.
    pub digest: u128,
    /// The commits that who made it knew, sorted by device: what is to go is referred to by none of them.
    pub marked: Vec<(DeviceNo, Seq)>,
    /// States before that one which stay.
    pub kept: Vec<KeptState>,
    /// What goes, or went with this one, sorted.
    pub condemned: Vec<Gone>,
    /// `moved/` objects that go with it.
    pub condemned_tables: Vec<PackId>,
    /// Records below the checkpoint that stay, because something that came later needs a blob in them.
    pub spared: Vec<(DeviceNo, Seq)>,
    /// Where the live blobs of what went, or goes, lie now.
    pub moved: Vec<MovedTable>,
    /// Devices from which nothing was heard for so long that nobody waits for them.
    pub expired: Vec<DeviceNo>,
}

impl Collection {
    /// Whether an object is to be referred to no more.
    pub fn condemns(&self, object: ObjectId) -> bool {
        let spared = matches!(object, ObjectId::Record(device, seq) if self.spared.contains(&(device, seq)));
        // Records by their stretches, which are few; the rest is sorted.
        let listed = match object {
            ObjectId::Pack(id) => self.condemned.binary_search(&Gone::Pack(id)).is_ok(),
            ObjectId::Nodes(id) => self.condemned.binary_search(&Gone::Nodes(id)).is_ok(),
            ObjectId::Record(device, seq) => self.covered(device).is_some_and(|covered| covered.seq >= seq),
        };
        listed && !spared
    }

    /// The newest commit of a device that the checkpoint holds.
    pub fn covered(&self, device: DeviceNo) -> Option<&Covered> {
        self.checkpoint.covers.iter().find(|covered| covered.device == device)
    }

    /// The tables that may place blobs of an object.
    pub fn tables_of(&self, object: ObjectId) -> impl Iterator<Item = PackId> + '_ {
        let about = move |table: &&MovedTable| match object {
            ObjectId::Pack(id) => table.of.binary_search(&Gone::Pack(id)).is_ok(),
            ObjectId::Nodes(id) => table.of.binary_search(&Gone::Nodes(id)).is_ok(),
            ObjectId::Record(..) => table.of.iter().any(|gone| gone.holds(object)),
        };
        self.moved.iter().filter(about).map(|table| table.id)
    }

    fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.raw(&self.begun_ms.to_le_bytes());
        write_flag(&mut to, self.begun_storage_ms.is_some());
        if let Some(ms) = self.begun_storage_ms {
            to.raw(&ms.to_le_bytes());
        }
        write_flag(&mut to, self.ends.is_some());
        if let Some(number) = self.ends {
            to.raw(&number.0.to_le_bytes());
        }
        write_flag(&mut to, self.confirmed);
        write_pin(&mut to, &self.checkpoint);
        to.raw(&self.digest.to_le_bytes());
        write_seqs(&mut to, &self.marked);
        to.varint(self.kept.len() as u64);
        for kept in &self.kept {
            write_covered(&mut to, &kept.commit);
            to.bytes(kept.message.as_bytes());
            write_pin(&mut to, &kept.pin);
        }
        to.varint(self.condemned.len() as u64);
        self.condemned.iter().for_each(|gone| write_gone(&mut to, gone));
        to.varint(self.condemned_tables.len() as u64);
        self.condemned_tables.iter().for_each(|table| to.raw(&table.0));
        write_seqs(&mut to, &self.spared);
        to.varint(self.moved.len() as u64);
        for table in &self.moved {
            to.raw(&table.id.0);
            to.varint(table.of.len() as u64);
            table.of.iter().for_each(|gone| write_gone(&mut to, gone));
        }
        to.varint(self.expired.len() as u64);
        self.expired.iter().for_each(|device| to.varint(u64::from(device.0)));
        to.into_vec()
    }

    fn decode(number: CollectionNo, plain: &[u8]) -> Result<Collection, DecodeError> {
        let mut from = Reader::new(plain);
        let from = &mut from;
        let begun_ms = read_u64(from)?;
        let begun_storage_ms = if read_flag(from)? { Some(read_u64(from)?) } else { None };
        let ends = if read_flag(from)? { Some(CollectionNo(read_u64(from)?)) } else { None };
        let confirmed = read_flag(from)?;
        let checkpoint = read_pin(from)?;
        let digest = u128::from_le_bytes(from.array()?);
        let marked = read_seqs(from)?;
        let kept = read_many(from, 45, |from| {
            Ok(KeptState {
                commit: read_covered(from)?,
                message: read_text(from, MESSAGE_BYTES_MAX)?,
                pin: read_pin(from)?,
            })
        })?;
        let condemned = read_gones(from)?;
        let condemned_tables = read_many(from, 16, |from| Ok(PackId(from.array()?)))?;
        let spared = read_seqs(from)?;
        let moved = read_many(from, 17, |from| Ok(MovedTable { id: PackId(from.array()?), of: read_gones(from)? }))?;
        let expired = read_many(from, 1, |from| Ok(DeviceNo(from.varint32("device number")?)))?;
        if from.remaining() > 0 {
            return Err(invalid("bytes behind the end"));
        }
        Ok(Collection {
            number,
            begun_ms,
            begun_storage_ms,
            ends,
            confirmed,
            checkpoint,
            digest,
            marked,
            kept,
            condemned,
            condemned_tables,
            spared,
            moved,
            expired,
        })
    }
}

fn read_many<T>(
    from: &mut Reader<'_>,
    bytes_min: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(bytes_min)?;
    (0..count).map(|_| read(from)).collect()
}

fn write_seqs(to: &mut Writer, seqs: &[(DeviceNo, Seq)]) {
    to.varint(seqs.len() as u64);
    for (device, seq) in seqs {
        to.varint(u64::from(device.0));
        to.varint(seq.0);
    }
}

fn read_seqs(from: &mut Reader<'_>) -> Result<Vec<(DeviceNo, Seq)>, DecodeError> {
    read_many(from, 2, |from| Ok((DeviceNo(from.varint32("device number")?), Seq(from.varint()?))))
}

fn write_covered(to: &mut Writer, covered: &Covered) {
    to.varint(u64::from(covered.device.0));
    to.varint(covered.seq.0);
    to.raw(&covered.hash.0);
    to.raw(&covered.hlc.0.to_le_bytes());
}

fn read_covered(from: &mut Reader<'_>) -> Result<Covered, DecodeError> {
    Ok(Covered {
        device: DeviceNo(from.varint32("device number")?),
        seq: Seq(from.varint()?),
        hash: RecordHash(from.array()?),
        hlc: Hlc(read_u64(from)?),
    })
}

fn write_pin(to: &mut Writer, pin: &Pin) {
    write_flag(to, pin.root.is_some());
    if let Some(root) = &pin.root {
        write_node_ref(to, root);
    }
    to.varint(pin.covers.len() as u64);
    pin.covers.iter().for_each(|covered| write_covered(to, covered));
}

fn read_pin(from: &mut Reader<'_>) -> Result<Pin, DecodeError> {
    let root = if read_flag(from)? { Some(read_node_ref(from)?) } else { None };
    let covers = read_many(from, 42, read_covered)?;
    if !covers.is_sorted_by(|a, b| a.device < b.device) {
        return Err(invalid("devices are not in order"));
    }
    Ok(Pin { root, covers })
}

fn write_gone(to: &mut Writer, gone: &Gone) {
    match gone {
        Gone::Pack(id) => {
            to.u8(PACK);
            to.raw(&id.0);
        }
        Gone::Nodes(id) => {
            to.u8(NODES);
            to.raw(&id.0);
        }
        Gone::Log { device, from, to: last } => {
            to.u8(LOG);
            to.varint(u64::from(device.0));
            to.varint(from.0);
            to.varint(last.0);
        }
    }
}

fn read_gones(from: &mut Reader<'_>) -> Result<Vec<Gone>, DecodeError> {
    let gones = read_many(from, 4, |from| {
        Ok(match from.u8()? {
            PACK => Gone::Pack(PackId(from.array()?)),
            NODES => Gone::Nodes(PackId(from.array()?)),
            LOG => {
                let device = DeviceNo(from.varint32("device number")?);
                Gone::Log { device, from: Seq(from.varint()?), to: Seq(from.varint()?) }
            }
            _ => return Err(invalid("kind of object")),
        })
    })?;
    if gones.is_sorted_by(|a, b| a < b) { Ok(gones) } else { Err(invalid("objects are not in order")) }
}

impl Repository {
    /// All collections that a list shows, by number. One that cannot be read is an error: what it says decides what may be referred to.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn collections(&self) -> Result<BTreeMap<CollectionNo, Collection>, RepoError> {
        let found = self.listed_collections().await?.into_iter();
        Ok(found.filter_map(|(number, collection)| Some((number, collection?))).collect())
    }

    /// The same, by one list with what it shows under a collection's name and is none (`None`): a publication was cut off there. No other takes
    /// that name any more.
    ///
    /// # Errors
    ///
    /// As [`Repository::collections`].
    pub async fn listed_collections(&self) -> Result<BTreeMap<CollectionNo, Option<Collection>>, RepoError> {
        let names = self.store().list(COLLECTIONS_PREFIX).await?;
        let numbers: Vec<CollectionNo> = names.iter().filter_map(|o| object::collection_of(&o.name)).collect();
        let read = |number| async move { Ok((number, self.collection(number).await?)) };
        stream::iter(numbers).map(read).buffered(READS_AT_ONCE).try_collect().await
    }

    /// One collection; `None` if it is not there, or torn.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn collection(&self, number: CollectionNo) -> Result<Option<Collection>, RepoError> {
        let name = object::collection_name(number);
        let key = number.0.to_be_bytes();
        let Some(plain) = self.open_small_object(&name, ObjectKind::Collection, Sealed::Collection, &key).await? else {
            return Ok(None);
        };
        Collection::decode(number, &plain).map(Some).map_err(|error| RepoError::malformed(name, error))
    }

    /// Publishes a collection of this device.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::TooLarge`].
    pub async fn publish_collection(&self, collection: &Collection) -> Result<(), RepoError> {
        let key = collection.number.0.to_be_bytes();
        let plain = collection.encode();
        let (bytes, limit) = (plain.len() as u64, crate::frame::PLAIN_BYTES_MAX as u64);
        if bytes > limit {
            return Err(RepoError::TooLarge { what: "a collection", bytes, limit });
        }
        let object = self.small_object(ObjectKind::Collection, Sealed::Collection, &key, &plain);
        Ok(self.store().publish(&object::collection_name(collection.number), object).await?)
    }

    /// Deletes a collection that a later one replaces.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn delete_collection(&self, number: CollectionNo) -> Result<(), RepoError> {
        Ok(self.store().delete(&object::collection_name(number)).await?)
    }

    /// Deletes what a collection condemned. That it is not there is success.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn delete_object(&self, object: ObjectId) -> Result<(), RepoError> {
        Ok(self.store().delete(&self.object_name(object)?).await?)
    }

    /// Deletes a `moved/` object.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn delete_table(&self, table: PackId) -> Result<(), RepoError> {
        Ok(self.store().delete(&object::moved_name(table)).await?)
    }
}
