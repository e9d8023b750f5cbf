//! `devices/<device>.removed.<device>`: a device that is to be one no more.
//!
//! Whoever removes a device says up to which commit its log counts; what comes after is not taken in. Several may say so, each in an
//! object of its own, and the greatest number counts: so two that remove one device at once agree in the end, and one that has taken in
//! more than was counted says so itself, instead of knowing commits that others leave out.

use futures::{StreamExt, TryStreamExt, stream};
use ouro_core::id::{DeviceId, Seq};
use std::collections::BTreeMap;

use crate::crypto::Sealed;
use crate::device::READS_AT_ONCE;
use crate::error::RepoError;
use crate::object::{self, ObjectKind};
use crate::repository::Repository;
use crate::wire::{DecodeError, Reader, Writer, read_u64};

/// A device was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub device: DeviceId,
    /// The device that did it.
    pub by: DeviceId,
    /// The last commit of its log that counts; 0 if none does.
    pub last: Seq,
    /// When: milliseconds since 1970 (UTC), by the clock of who did it.
    pub removed_ms: u64,
}

impl Removal {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.varint(self.last.0);
        writer.raw(&self.removed_ms.to_le_bytes());
        writer.into_vec()
    }

    fn decode(device: DeviceId, by: DeviceId, plain: &[u8]) -> Result<Removal, DecodeError> {
        let mut reader = Reader::new(plain);
        let (last, removed_ms) = (Seq(reader.varint()?), read_u64(&mut reader)?);
        reader.finish()?;
        Ok(Removal { device, by, last, removed_ms })
    }
}

/// What a removal's seal is bound to: both devices.
fn removal_key(device: DeviceId, by: DeviceId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&device.0);
    key[16..].copy_from_slice(&by.0);
    key
}

impl Repository {
    /// Writes down that a device is removed, once for each device that does it, and learns it. Repeating it is safe, also with another
    /// time or count: then the first stays.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn remove_device(&self, removal: &Removal) -> Result<(), RepoError> {
        let (name, key) = (object::removal_name(removal.device, removal.by), removal_key(removal.device, removal.by));
        let object = self.small_object(ObjectKind::Removal, Sealed::Removal, &key, &removal.encode());
        match self.store().publish(&name, object.clone()).await {
            Err(ouro_remote::RemoteError::Taken { .. }) => {
                self.removal(removal.device, removal.by).await?;
                if self.removals().iter().any(|known| (known.device, known.by) == (removal.device, removal.by)) {
                    return Ok(());
                }
                // What lies there is torn, and nobody else writes this name.
                self.store().overwrite(&name, object).await?;
            }
            published => published?,
        }
        self.learn_removal(removal.clone());
        Ok(())
    }

    /// The devices that are known to be removed, each with the last commit of its log that counts. Asks nobody: [`Repository::devices`]
    /// learns them.
    pub fn retired(&self) -> BTreeMap<DeviceId, Seq> {
        let mut retired = BTreeMap::new();
        for removal in self.removals() {
            let last = retired.entry(removal.device).or_insert(removal.last);
            *last = removal.last.max(*last);
        }
        retired
    }

    /// Whether a device is known to be removed, and up to which commit its log counts.
    pub fn retired_at(&self, device: DeviceId) -> Option<Seq> {
        self.removals().into_iter().filter(|removal| removal.device == device).map(|removal| removal.last).max()
    }

    /// Reads the removals among these names that are not known yet.
    pub(crate) async fn learn_removals(&self, names: impl Iterator<Item = &str>) -> Result<(), RepoError> {
        let known: Vec<(DeviceId, DeviceId)> = self.removals().iter().map(|r| (r.device, r.by)).collect();
        let unknown: Vec<_> = names.filter_map(object::removal_of).filter(|pair| !known.contains(pair)).collect();
        let reads = stream::iter(unknown).map(|(device, by)| self.removal(device, by)).buffered(READS_AT_ONCE);
        reads.try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Reads one removal and learns it; a torn one counts as absent.
    async fn removal(&self, device: DeviceId, by: DeviceId) -> Result<(), RepoError> {
        let (name, key) = (object::removal_name(device, by), removal_key(device, by));
        let opened = self.open_small_object(&name, ObjectKind::Removal, Sealed::Removal, &key).await?;
        let Some(plain) = opened else { return Ok(()) };
        let removal = Removal::decode(device, by, &plain).map_err(|error| RepoError::malformed(name, error))?;
        self.learn_removal(removal);
        Ok(())
    }
}
