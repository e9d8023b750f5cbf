//! `devices/<device>` and `heads/<device>`: who writes here, and hints about how far.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use ouro_core::id::{DeviceId, DeviceNo, Line, Seq};
use ouro_remote::ListedObject;
use std::collections::BTreeMap;

use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::frame::{self, Compressor, Effort};
use crate::object::{self, DEVICES_PREFIX, HEADER_BYTES, HEADS_PREFIX, ObjectKind};
use crate::record::Announcement;
use crate::record_codec::{read_announcement, write_announcement};
use crate::repository::Repository;
use crate::rules::RULES;
use crate::wire::{DecodeError, Reader, Writer, invalid, read_flag, read_text, read_u64, write_flag};

/// Requests in flight when many small objects are read: fewer than a remote takes, so that a reader who waits for something else finds room.
pub(crate) const READS_AT_ONCE: usize = 4;
/// Longest device name in bytes.
const DEVICE_NAME_BYTES_MAX: usize = 255;
/// Longest name of a branch in bytes.
const BRANCH_NAME_BYTES_MAX: usize = 255;

/// A device that writes to the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Which.
    pub id: DeviceId,
    /// Its number inside file ids and versions.
    pub number: DeviceNo,
    /// What people call it: at most 255 bytes.
    pub name: String,
    /// When it joined: milliseconds since 1970 (UTC), by its own clock.
    pub created_ms: u64,
    /// The newest rules that it knew when it joined: see [`RULES`].
    pub rules: u32,
    /// The branch it writes; `None`: it writes the main line.
    pub branch: Option<Branch>,
}

/// What a device that writes a branch says of it. All of a log belongs to one line, so whoever opens a branch writes there as a device of
/// its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its name: at most 255 bytes.
    pub name: String,
    /// The device that opened it.
    pub opened_by: DeviceId,
}

/// How far a device's log goes, as far as anybody wrote it down: may be stale, so it saves time and decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Whose log.
    pub device: DeviceId,
    /// The newest record that was there.
    pub seq: Seq,
    /// The newest checkpoint this device knows, whoever wrote it.
    pub checkpoint: Option<Announcement>,
    /// The newest collection this device has acknowledged; 0 if none.
    pub acknowledged: u64,
    /// When it was written: milliseconds since 1970 (UTC), by the device's own clock.
    pub written_ms: u64,
    /// The newest rules that the device knows: see [`RULES`].
    pub rules: u32,
}

impl DeviceInfo {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.varint(u64::from(self.rules));
        writer.varint(u64::from(self.number.0));
        writer.raw(&self.created_ms.to_le_bytes());
        writer.bytes(self.name.as_bytes());
        // What writes the main line ends here.
        if let Some(branch) = &self.branch {
            writer.bytes(branch.name.as_bytes());
            writer.raw(&branch.opened_by.0);
        }
        writer.into_vec()
    }

    fn decode(id: DeviceId, plain: &[u8]) -> Result<DeviceInfo, DecodeError> {
        let mut reader = Reader::new(plain);
        let rules = reader.varint32("rules")?;
        let (number, created_ms) = (DeviceNo(reader.varint32("device number")?), read_u64(&mut reader)?);
        let name = read_text(&mut reader, DEVICE_NAME_BYTES_MAX)?;
        let branch = if reader.remaining() > 0 { Some(Branch::decode(&mut reader)?) } else { None };
        finish(reader, rules)?;
        Ok(DeviceInfo { id, number, name, created_ms, branch, rules })
    }

    /// What people see as the author of its commits: its name, and the branch it writes.
    pub fn shown(&self) -> String {
        author(&self.name, self.branch.as_ref().map(|branch| branch.name.as_str()))
    }
}

impl Branch {
    fn decode(reader: &mut Reader<'_>) -> Result<Branch, DecodeError> {
        let name = read_text(reader, BRANCH_NAME_BYTES_MAX)?;
        if name.is_empty() {
            return Err(invalid("a branch without a name"));
        }
        Ok(Branch { name, opened_by: DeviceId(reader.array()?) })
    }
}

impl Hint {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.varint(u64::from(self.rules));
        writer.varint(self.seq.0);
        writer.varint(self.acknowledged);
        writer.raw(&self.written_ms.to_le_bytes());
        write_flag(&mut writer, self.checkpoint.is_some());
        if let Some(checkpoint) = &self.checkpoint {
            write_announcement(&mut writer, checkpoint);
        }
        writer.into_vec()
    }

    fn decode(device: DeviceId, plain: &[u8]) -> Result<Hint, DecodeError> {
        let mut reader = Reader::new(plain);
        let rules = reader.varint32("rules")?;
        let (seq, acknowledged, written_ms) = (Seq(reader.varint()?), reader.varint()?, read_u64(&mut reader)?);
        let checkpoint = if read_flag(&mut reader)? { Some(read_announcement(&mut reader)?) } else { None };
        finish(reader, rules)?;
        Ok(Hint { device, seq, checkpoint, acknowledged, written_ms, rules })
    }
}

/// A device of newer rules may have more to say; what is known of it stands in front.
fn finish(reader: Reader<'_>, rules: u32) -> Result<(), DecodeError> {
    if rules > RULES { Ok(()) } else { reader.finish() }
}

/// What people see as the author of commits: the device's name, and the branch it writes.
pub fn author(device: &str, branch: Option<&str>) -> String {
    branch.map_or_else(|| device.to_owned(), |branch| format!("{device} on {branch}"))
}

fn ids_of(names: &[ListedObject], prefix: &str) -> Vec<DeviceId> {
    names.iter().filter_map(|object| object::device_of(&object.name, prefix)).collect()
}

impl Repository {
    /// Writes down that a device exists, once, and learns its number.
    ///
    /// The caller has compared the number with [`Repository::devices`] before and does so again afterwards: two devices that join at the
    /// same moment may draw the same one.
    ///
    /// # Errors
    ///
    /// [`RepoError::TooLarge`] for a name of more than 255 bytes, its own or its branch's, or what the storage says.
    pub async fn register_device(&self, device: &DeviceInfo) -> Result<(), RepoError> {
        let (bytes, limit) = (device.name.len() as u64, DEVICE_NAME_BYTES_MAX as u64);
        if bytes > limit {
            return Err(RepoError::TooLarge { what: "the device's name", bytes, limit });
        }
        let (bytes, limit) = (device.branch.as_ref().map_or(0, |b| b.name.len()) as u64, BRANCH_NAME_BYTES_MAX as u64);
        if bytes > limit {
            return Err(RepoError::TooLarge { what: "the branch's name", bytes, limit });
        }
        let object = self.small_object(ObjectKind::Device, Sealed::Device, &device.id.0, &device.encode());
        self.store().publish(&object::device_name(device.id), object).await?;
        self.meet(device.clone());
        self.learn_device(device.number, device.id);
        Ok(())
    }

    /// All devices that a list shows, sorted by id, the removed ones too ([`Repository::retired`]); learns them and their numbers. Torn
    /// ones count as absent. One list, and a read for each device and each removal that was not known yet.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`] if one is damaged: without it records cannot be understood.
    pub async fn devices(&self) -> Result<Vec<DeviceInfo>, RepoError> {
        let names = self.store().list(DEVICES_PREFIX).await?;
        self.learn_removals(names.iter().map(|object| object.name.as_str())).await?;
        let ids: Vec<DeviceId> = ids_of(&names, DEVICES_PREFIX);
        let found: Vec<Option<DeviceInfo>> =
            stream::iter(ids).map(|id| self.meet_device(id)).buffered(READS_AT_ONCE).try_collect().await?;
        let devices: Vec<DeviceInfo> = found.into_iter().flatten().collect();
        self.learn_numbers(&devices).await?;
        Ok(devices)
    }

    /// Learns which device has which number. Of several that drew the same one (see [`Repository::register_device`]) at most one has
    /// commits: the others drew again before their first.
    async fn learn_numbers(&self, devices: &[DeviceInfo]) -> Result<(), RepoError> {
        let mut by_number: BTreeMap<DeviceNo, Vec<DeviceId>> = BTreeMap::new();
        for device in devices {
            by_number.entry(device.number).or_default().push(device.id);
        }
        let retired = self.retired();
        for (number, mut ids) in by_number {
            ids.sort_by_key(|id| (retired.get(id) == Some(&Seq(0)), *id));
            let mut holder = ids[0];
            for id in ids.iter().rev().filter(|_| ids.len() > 1) {
                if self.read_record_bytes(*id, Seq(1)).await?.is_some() {
                    holder = *id;
                }
            }
            self.learn_device(number, holder);
        }
        Ok(())
    }

    async fn meet_device(&self, id: DeviceId) -> Result<Option<DeviceInfo>, RepoError> {
        match self.met(id) {
            Some(known) => Ok(Some(known)),
            None => self.device(id).await,
        }
    }

    /// Reads one device; `None` if it is not there, or torn.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`].
    pub async fn device(&self, id: DeviceId) -> Result<Option<DeviceInfo>, RepoError> {
        let name = object::device_name(id);
        let Some(plain) = self.open_small_object(&name, ObjectKind::Device, Sealed::Device, &id.0).await? else {
            return Ok(None);
        };
        let device = DeviceInfo::decode(id, &plain).map_err(|error| RepoError::malformed(name, error))?;
        self.meet(device.clone());
        Ok(Some(device))
    }

    /// The line that a device writes.
    pub fn line_of(&self, device: &DeviceInfo) -> Line {
        device.branch.as_ref().map_or(Line::MAIN, |branch| self.line_named(&branch.name))
    }

    /// The line of a branch: two devices that open a branch of one name work on one line.
    pub fn line_named(&self, branch: &str) -> Line {
        Line(self.keys().line(branch))
    }

    /// Writes a device's hint over the one before.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn write_hint(&self, hint: &Hint) -> Result<(), RepoError> {
        let object = self.small_object(ObjectKind::Hint, Sealed::Hint, &hint.device.0, &hint.encode());
        Ok(self.store().overwrite(&object::hint_name(hint.device), object).await?)
    }

    /// All hints that a list shows, sorted by device. Damaged ones are left out with a warning: they cost time, never truth.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn hints(&self) -> Result<Vec<Hint>, RepoError> {
        let names = self.store().list(HEADS_PREFIX).await?;
        let ids: Vec<DeviceId> = ids_of(&names, HEADS_PREFIX);
        let found: Vec<Option<Hint>> =
            stream::iter(ids).map(|id| self.hint(id)).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// One hint; `None` if it is not there, or cannot be used.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn hint(&self, device: DeviceId) -> Result<Option<Hint>, RepoError> {
        let name = object::hint_name(device);
        let plain = match self.open_small_object(&name, ObjectKind::Hint, Sealed::Hint, &device.0).await {
            Err(error) if !matches!(error, RepoError::Remote { .. }) => {
                tracing::warn!(%name, %error, "a hint cannot be used");
                return Ok(None);
            }
            other => other?,
        };
        let hint = plain.map(|plain| Hint::decode(device, &plain)).transpose();
        Ok(hint.unwrap_or_else(|error| {
            tracing::warn!(%name, %error, "a hint cannot be used");
            None
        }))
    }

    pub(crate) fn small_object(&self, kind: ObjectKind, what: Sealed, id: &[u8], plain: &[u8]) -> Bytes {
        let frame = Compressor::new(Effort::Thorough).frame(plain);
        let len = frame.len() + self.keys().seal_bytes();
        let mut bytes = object::header(kind, (HEADER_BYTES + len) as u32, len as u32).to_vec();
        self.keys().seal(what, id, &frame, &mut bytes);
        bytes.into()
    }

    pub(crate) async fn open_small_object(
        &self,
        name: &str,
        kind: ObjectKind,
        what: Sealed,
        id: &[u8],
    ) -> Result<Option<Vec<u8>>, RepoError> {
        let Some((bytes, lengths)) = self.read_object(name, kind).await? else {
            return Ok(None);
        };
        if lengths.part as usize != bytes.len() - HEADER_BYTES {
            return Err(RepoError::corrupt(name, "lengths do not fit"));
        }
        let opened = self.keys().open(what, id, &bytes[HEADER_BYTES..]);
        let frame = opened.map_err(|_| RepoError::corrupt(name, "the seal is broken"))?;
        Ok(Some(frame::expand(&frame).map_err(|error| RepoError::malformed(name, error))?))
    }
}
