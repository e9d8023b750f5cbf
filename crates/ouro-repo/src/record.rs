//! Commit records: `log/<device>/<seq>`.

use bytes::Bytes;
use ouro_core::content::{BlobRef, Locator, ObjectId};
use ouro_core::delta::Delta;
use ouro_core::id::{BlobId, DeviceId, DeviceNo, Hlc, Line, RecordHash, Seq};
use ouro_core::tree::NodeRef;
use ouro_remote::RemoteError;

use crate::blob::Sealer;
use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::frame::{self, Compressor, Effort, PLAIN_BYTES_MAX};
use crate::object::{self, HEADER_BYTES, ObjectKind};
use crate::record_codec::{self, Directory, InlineEntry};
use crate::repository::Repository;
use crate::rules::RULES;

/// File data of at most this many bytes each goes into the record; larger goes into packs.
pub const INLINE_BLOB_BYTES_MAX: usize = 64 << 10;
/// All file data in one record has at most this many bytes together.
pub const INLINE_TOTAL_BYTES_MAX: usize = 1 << 20;
/// Longest message of a commit in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The rules by which it is to be understood: at most [`RULES`](crate::RULES).
    pub rules: u32,
    /// Who committed.
    pub device: DeviceNo,
    /// Which commit of that device, from 1.
    pub seq: Seq,
    /// Which line it is a commit of: its device's.
    pub line: Line,
    /// The heads it was made on, reduced to the maximal ones: one per device, sorted by device.
    pub parents: Vec<(DeviceNo, Seq, RecordHash)>,
    /// The record before it in this log; `None` for the first.
    pub previous: Option<RecordHash>,
    /// When.
    pub hlc: Hlc,
    /// What the user said about it; usually empty.
    pub message: String,
    /// Digest of the state it was made on.
    pub digest: u128,
    /// The newest collection this device has acknowledged; 0 if none.
    pub acknowledged: u64,
    /// What it says.
    pub body: Body,
}

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// What changed.
    Delta(Delta),
    /// What changed, encoded (`ouro_core::codec::encode_delta`) and kept in packs: bulk changes.
    DeltaBlobs(Vec<BlobRef>),
    /// A tree was written out.
    Checkpoint(Announcement),
}

/// A tree that was written out, and for which commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its root; `None` for the empty tree.
    pub root: Option<NodeRef>,
    /// The newest commit of each device that is in it, sorted by device.
    pub covers: Vec<(DeviceNo, Seq)>,
    /// Digest of the state it holds.
    pub digest: u128,
}

/// A record ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRecord {
    /// The whole object. Sealing the same record again gives the same bytes.
    pub bytes: Bytes,
    /// Hash of these bytes: what later records call it.
    pub hash: RecordHash,
    /// Where the inline blobs lie, in the order in which they were given.
    pub locators: Vec<Locator>,
}

/// A record as it was read: the record, its hash, and the inline blobs with their places.
pub type ReadRecord = (Record, RecordHash, Vec<(BlobId, Locator)>);

impl Repository {
    /// Fixes the bytes of a record, with `blobs` (plain bytes) inside.
    ///
    /// The record's device must be known ([`Repository::learn_device`]). References to the inline blobs in the delta need no locators;
    /// readers get them from the record.
    ///
    /// # Errors
    ///
    /// [`RepoError::UnknownDevice`], [`RepoError::WrongBlob`] if bytes do not have the id they are given under, [`RepoError::TooLarge`] if
    /// an inline blob, all of them, the message or the record exceed their limits.
    pub fn seal_record(&self, record: &Record, blobs: &[(BlobId, Bytes)]) -> Result<SealedRecord, RepoError> {
        let device = self.device_id(record.device)?;
        limit("the message", record.message.len(), MESSAGE_BYTES_MAX)?;
        limit("the inline data of a record", blobs.iter().map(|(_, b)| b.len()).sum(), INLINE_TOTAL_BYTES_MAX)?;
        let mut sealer = Sealer::new(self.clone(), Effort::Thorough);
        let mut data = Vec::new();
        let mut inline = Vec::with_capacity(blobs.len());
        for (id, plain) in blobs {
            limit("an inline blob", plain.len(), INLINE_BLOB_BYTES_MAX)?;
            if !self.verify_blob(id, plain) {
                return Err(RepoError::WrongBlob { blob: *id });
            }
            let sealed = sealer.seal(*id, plain)?;
            inline.push(InlineEntry { id: *id, len: sealed.len, stored: sealed.bytes.len() as u32 });
            data.extend_from_slice(&sealed.bytes);
        }
        let directory = Directory { hash: self.keys().inline_hash(&data), entries: inline };
        let plain = record_codec::encode(record, &directory);
        limit("a record", plain.len(), PLAIN_BYTES_MAX)?;
        let frame = Compressor::new(Effort::Thorough).frame(&plain);
        let part = frame.len() + self.keys().seal_bytes();
        let len = object::length("a record", HEADER_BYTES + part + data.len())?;
        let mut bytes = object::header(ObjectKind::Record, len, part as u32).to_vec();
        self.keys().seal(Sealed::Record, &record_key(device, record.seq), &frame, &mut bytes);
        let locators = directory.locate(record.device, record.seq, bytes.len() as u32);
        bytes.extend_from_slice(&data);
        let bytes = Bytes::from(bytes);
        let hash = self.keys().record_hash(&bytes);
        Ok(SealedRecord { hash, locators: locators.into_iter().map(|(_, at)| at).collect(), bytes })
    }

    /// The newest commit of a log that a list shows; `None` if it shows none. A list may be behind.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn log_end(&self, id: DeviceId) -> Result<Option<Seq>, RepoError> {
        let names = self.store().list(&object::log_prefix(id)).await?;
        Ok(names.iter().filter_map(|found| object::seq_of(&found.name, id)).max())
    }

    /// Publishes the bytes of a sealed record; repeating it is safe.
    ///
    /// What a broken upload of these very bytes left under the name is overwritten.
    ///
    /// # Errors
    ///
    /// [`RepoError::ClonedDevice`] if the name holds another commit: a copy of this device runs somewhere; [`RepoError::Remote`].
    pub async fn publish_record(
        &self,
        device: DeviceNo,
        id: DeviceId,
        seq: Seq,
        bytes: Bytes,
    ) -> Result<(), RepoError> {
        self.learn_device(device, id);
        let name = object::record_name(id, seq);
        let Err(error) = self.store().publish(&name, bytes.clone()).await else {
            return Ok(());
        };
        if !matches!(error, RemoteError::Taken { .. }) {
            return Err(error.into());
        }
        match self.store().get(&name).await? {
            Some(found) if found == bytes => Ok(()),
            Some(found) if !object::is_remnant(&found, &bytes) => Err(RepoError::ClonedDevice { device: id, seq }),
            _ => Ok(self.store().overwrite(&name, bytes).await?),
        }
    }

    /// Reads a record; `None` if it is not there yet, or torn. References in its delta to blobs inside it are given their places.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`] if it is complete and not what that device wrote there, [`RepoError::NewerFormat`], or what the storage says.
    pub async fn read_record(&self, device: DeviceId, seq: Seq) -> Result<Option<ReadRecord>, RepoError> {
        let Some(bytes) = self.read_record_bytes(device, seq).await? else {
            return Ok(None);
        };
        self.open_record(device, seq, &bytes).map(Some)
    }

    /// Reads the bytes of a record, to be given to [`Repository::open_record`] and [`Repository::open_inline`]: so the blobs inside need
    /// no further request. `None` if it is not there yet, or torn.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`], [`RepoError::NewerFormat`], [`RepoError::Foreign`], or what the storage says.
    pub async fn read_record_bytes(&self, device: DeviceId, seq: Seq) -> Result<Option<Bytes>, RepoError> {
        let object = self.read_object(&object::record_name(device, seq), ObjectKind::Record).await?;
        Ok(object.map(|(bytes, _)| bytes))
    }

    /// Opens the bytes of a record that was published as `device`'s `seq`-th. Learns the device's number.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`] if they are torn, damaged, or another record's; [`RepoError::NewerFormat`]; [`RepoError::NewerRules`].
    pub fn open_record(&self, device: DeviceId, seq: Seq, bytes: &Bytes) -> Result<ReadRecord, RepoError> {
        let name = object::record_name(device, seq);
        let corrupt = |what| RepoError::corrupt(name.clone(), what);
        let lengths = object::check(&name, bytes, ObjectKind::Record)?.ok_or_else(|| corrupt("torn"))?;
        let data_start = HEADER_BYTES + lengths.part as usize;
        let opened = self.keys().open(Sealed::Record, &record_key(device, seq), &bytes[HEADER_BYTES..data_start]);
        let frame = opened.map_err(|_| corrupt("the seal is broken"))?;
        let plain = frame::expand(&frame).map_err(|error| RepoError::malformed(name.clone(), error))?;
        let rules = record_codec::rules(&plain).map_err(|error| RepoError::malformed(name.clone(), error))?;
        if rules > RULES {
            return Err(RepoError::NewerRules { name, found: rules, supported: RULES });
        }
        let (mut record, directory) =
            record_codec::decode(&plain).map_err(|error| RepoError::malformed(name.clone(), error))?;
        if record.seq != seq {
            return Err(corrupt("the sequence number differs from the name"));
        }
        let data = &bytes[data_start..];
        if data.len() as u64 != directory.stored_bytes() || self.keys().inline_hash(data) != directory.hash {
            return Err(corrupt("the inline data differ from their directory"));
        }
        self.learn_device(record.device, device);
        let inline = directory.locate(record.device, seq, data_start as u32);
        if let Body::Delta(delta) = &mut record.body {
            record_codec::locate_inline(delta, &inline);
        }
        Ok((record, self.keys().record_hash(bytes), inline))
    }

    /// What later records call the record of these bytes.
    pub fn record_hash(&self, bytes: &[u8]) -> RecordHash {
        self.keys().record_hash(bytes)
    }

    /// Opens a blob inside the bytes of a record.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`] if it is not there or not that blob.
    pub fn open_inline(&self, record: &Bytes, blob: &BlobId, at: &Locator) -> Result<Bytes, RepoError> {
        let (start, len) = (at.offset as usize, at.len as usize);
        let sealed = start.checked_add(len).and_then(|end| record.get(start..end));
        let missing = || RepoError::corrupt(object::describe(at.object), "the record ends before the blob does");
        self.open_blob(blob, sealed.ok_or_else(missing)?)
    }
}

/// What a record's seal is bound to: device id and sequence number.
fn record_key(device: DeviceId, seq: Seq) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&device.0);
    key[16..].copy_from_slice(&seq.0.to_be_bytes());
    key
}

fn limit(what: &'static str, bytes: usize, limit: usize) -> Result<(), RepoError> {
    let (size, most) = (bytes as u64, limit as u64);
    if bytes > limit { Err(RepoError::TooLarge { what, bytes: size, limit: most }) } else { Ok(()) }
}

impl Directory {
    fn stored_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.stored)).sum()
    }

    fn locate(&self, device: DeviceNo, seq: Seq, mut offset: u32) -> Vec<(BlobId, Locator)> {
        let object = ObjectId::Record(device, seq);
        let mut place = |entry: &InlineEntry| {
            let at = Locator { object, offset, len: entry.stored };
            offset = offset.saturating_add(entry.stored);
            (entry.id, at)
        };
        self.entries.iter().map(&mut place).collect()
    }
}
