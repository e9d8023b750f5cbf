//! Packs: many blobs (or tree nodes) in one object, with a directory at its end.
//!
//! Header, sealed blobs one after the other, sealed directory. A pack is built whole in memory, so its header can say how long the
//! directory is: two small reads find everything in it, without knowing anything before, on storages that cannot read from the end.

use bytes::Bytes;
use ouro_core::content::{BlobRef, Locator, ObjectId};
use ouro_core::id::{BlobId, NodeId, PackId};

use crate::blob::{SealedBlob, Sealer};
use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::frame::{self, Compressor, Effort};
use crate::object::{self, HEADER_BYTES, ObjectKind};
use crate::repository::Repository;
use crate::wire::{DecodeError, Reader, Writer, invalid};

/// A pack is closed before it would grow beyond this many bytes; only a single blob may make one larger.
pub const PACK_BYTES: usize = 16 << 20;
/// Fewest bytes of a directory entry.
const ENTRY_BYTES_MIN: usize = 32 + 1 + 1;

/// What a pack holds: one line of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: [u8; 32],
    /// Plain length in bytes.
    pub(crate) len: u32,
    pub(crate) at: Locator,
}

/// A pack that is being filled.
pub(crate) struct OpenPack {
    object: ObjectId,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// A pack of either kind, ready to be published.
pub(crate) struct ClosedPack {
    pub(crate) object: ObjectId,
    pub(crate) bytes: Bytes,
    pub(crate) entries: Vec<Entry>,
}

impl OpenPack {
    /// Begins a pack under a random id.
    pub(crate) fn new(repo: &Repository, kind: ObjectKind) -> OpenPack {
        let mut id = PackId([0; 16]);
        repo.ports().rng.fill(&mut id.0);
        let object = if kind == ObjectKind::Nodes { ObjectId::Nodes(id) } else { ObjectId::Pack(id) };
        OpenPack { object, bytes: vec![0; HEADER_BYTES], entries: Vec::new() }
    }

    /// Whether `bytes` more would fit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.entries.is_empty() || self.bytes.len() + bytes <= PACK_BYTES
    }

    /// Adds something sealed and says where it lies.
    pub(crate) fn add(&mut self, id: [u8; 32], len: u32, sealed: &[u8]) -> Result<Locator, RepoError> {
        let (offset, stored) = (object::length("a pack", self.bytes.len())?, object::length("a blob", sealed.len())?);
        let at = Locator { object: self.object, offset, len: stored };
        self.bytes.extend_from_slice(sealed);
        self.entries.push(Entry { id, len, at });
        Ok(at)
    }

    /// Ends the pack with its directory.
    pub(crate) fn close(self, repo: &Repository) -> Result<ClosedPack, RepoError> {
        let bytes = with_directory(repo, self.object, self.bytes, &self.entries)?;
        Ok(ClosedPack { object: self.object, bytes, entries: self.entries })
    }
}

/// A whole pack: the header's room and the blobs are there already, entry by entry.
pub(crate) fn with_directory(
    repo: &Repository,
    object: ObjectId,
    mut bytes: Vec<u8>,
    entries: &[Entry],
) -> Result<Bytes, RepoError> {
    let (kind, id) = kind_of(object);
    let mut writer = Writer::default();
    writer.varint(entries.len() as u64);
    for entry in entries {
        writer.raw(&entry.id);
        writer.varint(u64::from(entry.len));
        writer.varint(u64::from(entry.at.len));
    }
    let frame = Compressor::new(Effort::Quick).frame(writer.as_bytes());
    let blobs_end = bytes.len();
    repo.keys().seal(Sealed::Directory, &id.0, &frame, &mut bytes);
    let len = object::length("a pack", bytes.len())?;
    let directory_len = (bytes.len() - blobs_end) as u32;
    bytes[..HEADER_BYTES].copy_from_slice(&object::header(kind, len, directory_len));
    Ok(bytes.into())
}

fn kind_of(object: ObjectId) -> (ObjectKind, PackId) {
    match object {
        ObjectId::Pack(id) => (ObjectKind::Pack, id),
        ObjectId::Nodes(id) => (ObjectKind::Nodes, id),
        ObjectId::Record(..) => unreachable!("packs are only made as packs"),
    }
}

fn parse_directory(object: ObjectId, blobs_end: u32, plain: &[u8]) -> Result<Vec<Entry>, DecodeError> {
    let mut reader = Reader::new(plain);
    let count = reader.count(ENTRY_BYTES_MIN)?;
    let mut entries = Vec::with_capacity(count);
    let mut offset = HEADER_BYTES as u32;
    for _ in 0..count {
        let (id, len, stored) =
            (reader.array()?, reader.varint32("length of a blob")?, reader.varint32("stored length")?);
        entries.push(Entry { id, len, at: Locator { object, offset, len: stored } });
        offset = offset.checked_add(stored).ok_or(invalid("lengths do not fit"))?;
    }
    reader.finish()?;
    if offset == blobs_end { Ok(entries) } else { Err(invalid("lengths do not fit")) }
}

/// A pack of blobs, ready for [`Repository::publish_pack`].
#[derive(Clone, Debug)]
pub struct FinishedPack {
    /// Which.
    pub id: PackId,
    /// The whole object.
    pub bytes: Bytes,
    /// What it holds, each with its place in it.
    pub blobs: Vec<BlobRef>,
}

/// Fills packs, one after the other, in the order in which blobs come.
pub struct Packer {
    repo: Repository,
    sealer: Sealer,
    open: Option<OpenPack>,
}

impl Packer {
    /// Compresses and encrypts plain bytes into the open pack. Returns where they lie, and the pack before if it is full.
    ///
    /// # Errors
    ///
    /// [`RepoError::TooLarge`].
    pub fn add(&mut self, plain: &[u8]) -> Result<(BlobRef, Option<FinishedPack>), RepoError> {
        let sealed = self.sealer.seal(self.repo.blob_id(plain), plain)?;
        self.add_sealed(&sealed)
    }

    /// Puts a sealed blob into the open pack. Returns where it lies, and the pack before if it is full.
    ///
    /// # Errors
    ///
    /// [`RepoError::TooLarge`].
    pub fn add_sealed(&mut self, blob: &SealedBlob) -> Result<(BlobRef, Option<FinishedPack>), RepoError> {
        let full = match self.open.take_if(|open| !open.has_room(blob.bytes.len())) {
            Some(open) => Some(finished(open.close(&self.repo)?)),
            None => None,
        };
        let open = self.open.get_or_insert_with(|| OpenPack::new(&self.repo, ObjectKind::Pack));
        let at = open.add(blob.id.0, blob.len, &blob.bytes)?;
        Ok((BlobRef { id: blob.id, len: blob.len, at: Some(at) }, full))
    }

    /// Ends the last pack, if there is one.
    ///
    /// # Errors
    ///
    /// [`RepoError::TooLarge`].
    pub fn finish(mut self) -> Result<Option<FinishedPack>, RepoError> {
        self.open.take().map(|open| Ok(finished(open.close(&self.repo)?))).transpose()
    }
}

fn finished(pack: ClosedPack) -> FinishedPack {
    let blobs = pack.entries.iter().map(|e| BlobRef { id: BlobId(e.id), len: e.len, at: Some(e.at) }).collect();
    FinishedPack { id: kind_of(pack.object).1, bytes: pack.bytes, blobs }
}

impl Repository {
    /// A packer at quick compression.
    pub fn packer(&self) -> Packer {
        self.packer_with(Effort::Quick)
    }

    /// A packer that compresses as hard as it is told.
    pub fn packer_with(&self, effort: Effort) -> Packer {
        Packer { repo: self.clone(), sealer: Sealer::new(self.clone(), effort), open: None }
    }

    /// Publishes a pack: when this returns, its blobs are durable. Repeating it is safe.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn publish_pack(&self, pack: &FinishedPack) -> Result<(), RepoError> {
        Ok(self.store().publish(&object::pack_name(pack.id), pack.bytes.clone()).await?)
    }

    /// Stores bytes of any length, cut into chunks, in packs of their own, and returns where they lie: for a bulk commit's delta.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn store_bytes(&self, plain: &Bytes) -> Result<Vec<BlobRef>, RepoError> {
        let (repo, plain) = (self.clone(), plain.clone());
        let packed = self.blocking(move || {
            let mut packer = repo.packer_with(Effort::Thorough);
            let (mut blobs, mut packs) = (Vec::new(), Vec::new());
            for chunk in repo.cut(&plain) {
                let (blob, full) = packer.add(&chunk)?;
                blobs.push(blob);
                packs.extend(full);
            }
            packs.extend(packer.finish()?);
            Ok::<_, RepoError>((blobs, packs))
        });
        let (blobs, packs) = packed.await??;
        for pack in &packs {
            self.publish_pack(pack).await?;
        }
        Ok(blobs)
    }

    /// What a pack of blobs holds, read from the pack itself in two small requests. `None`: it is not there, or torn.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn pack_directory(&self, pack: PackId) -> Result<Option<Vec<BlobRef>>, RepoError> {
        let entries = self.directory(ObjectId::Pack(pack)).await?;
        let blob = |e: &Entry| BlobRef { id: BlobId(e.id), len: e.len, at: Some(e.at) };
        Ok(entries.map(|entries| entries.iter().map(blob).collect()))
    }

    /// What a pack of tree nodes holds, in the order in which they lie. `None`: it is not there, or torn.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn nodes_directory(&self, pack: PackId) -> Result<Option<Vec<(NodeId, Locator)>>, RepoError> {
        let entries = self.directory(ObjectId::Nodes(pack)).await?;
        Ok(entries.map(|entries| entries.iter().map(|e| (NodeId(e.id), e.at)).collect()))
    }

    pub(crate) async fn directory(&self, object: ObjectId) -> Result<Option<Vec<Entry>>, RepoError> {
        let (kind, id) = kind_of(object);
        let name = self.object_name(object)?;
        let Some(header) = torn_is_absent(self.store().get_range(&name, 0, HEADER_BYTES as u64).await)? else {
            return Ok(None);
        };
        let Some(lengths) = object::parse_header(&name, &header, kind)? else {
            return Ok(None);
        };
        let start = lengths.object - lengths.part;
        let range = self.store().get_range(&name, u64::from(start), u64::from(lengths.part)).await;
        let Some(sealed) = torn_is_absent(range)? else {
            return Ok(None);
        };
        let corrupt = |what| RepoError::corrupt(name.clone(), what);
        let frame = self.keys().open(Sealed::Directory, &id.0, &sealed).map_err(|_| corrupt("the seal is broken"))?;
        let plain = frame::expand(&frame).map_err(|error| RepoError::malformed(name.clone(), error))?;
        Ok(Some(parse_directory(object, start, &plain).map_err(|error| RepoError::malformed(name.clone(), error))?))
    }
}

fn torn_is_absent(range: Result<Option<Bytes>, ouro_remote::RemoteError>) -> Result<Option<Bytes>, RepoError> {
    match range {
        Err(ouro_remote::RemoteError::Torn { .. }) => Ok(None),
        other => Ok(other?),
    }
}
