//! A repository: made, opened, and what everything else hangs on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use ouro_core::content::ObjectId;
use ouro_core::id::{DeviceId, DeviceNo, Line};
use ouro_core::port::{Clock, Rng, Runtime};
use ouro_core::tree::TreeParams;
use ouro_remote::{RemoteError, Store};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::config::{ChunkerParams, RepoConfig, RepositoryId, hex};
use crate::crypto::{Keys, MasterKey};
use crate::cut::Tables;
use crate::device::DeviceInfo;
use crate::error::RepoError;
use crate::keyslot::{self, PassphraseCost, Unwrapped};
use crate::moved::Followed;
use crate::object::{self, CONFIG_NAME, KEYS_PREFIX, Lengths, ObjectKind};
use crate::removed::Removal;

/// The slot that `init` uses; read without asking for a list.
const FIRST_SLOT: &str = "keys/0000000000000000";

/// What a repository may not do by itself.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
    /// Tasks.
    pub runtime: Arc<dyn Runtime>,
}

/// What opens a repository.
#[derive(Clone)]
pub enum Secret {
    /// Nothing: an unencrypted repository.
    None,
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::None => "Secret::None",
            Secret::Passphrase(_) => "Secret::Passphrase(…)",
        })
    }
}

/// How a repository is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitOptions {
    /// Sizes of chunks.
    pub chunker: ChunkerParams,
    /// What it costs to try the passphrase.
    pub cost: PassphraseCost,
}

/// A repository on a remote. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    ports: Ports,
    config: RepoConfig,
    config_bytes: Bytes,
    master: Option<MasterKey>,
    keys: Keys,
    tables: Arc<Tables>,
    devices: RwLock<BTreeMap<DeviceNo, DeviceId>>,
    /// Lines of devices that were not met in `devices/` yet: this one, offline.
    lines: RwLock<BTreeMap<DeviceNo, Line>>,
    roster: RwLock<Roster>,
    followed: Followed,
}

/// Who is written down below `devices/`: written once, so read once.
#[derive(Default)]
struct Roster {
    devices: BTreeMap<DeviceId, DeviceInfo>,
    removals: Vec<Removal>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({})", self.inner.config.id)
    }
}

impl Repository {
    /// Makes a repository in an empty place: encrypted if there is a passphrase.
    ///
    /// The key slot is published before `ourobox.json`, so an interruption leaves a place where `init` can be called again and nothing
    /// that looks like a repository.
    ///
    /// # Errors
    ///
    /// [`RepoError::AlreadyRepository`], [`RepoError::NotEmpty`] (nothing was written), or what the storage says.
    pub async fn init(
        store: Arc<dyn Store>,
        ports: Ports,
        secret: &Secret,
        options: InitOptions,
    ) -> Result<Repository, RepoError> {
        if !options.chunker.is_valid() {
            return Err(RepoError::Unsupported { what: format!("chunks of {:?}", options.chunker) });
        }
        if let Some(bytes) = store.get(CONFIG_NAME).await? {
            return Err(RepoError::AlreadyRepository { id: RepoConfig::decode(&bytes).ok().map(|config| config.id) });
        }
        let there = store.list("").await?;
        if let Some(other) = there.iter().find(|object| !object.name.starts_with(KEYS_PREFIX)) {
            return Err(RepoError::NotEmpty { found: other.name.clone() });
        }
        let mut id = RepositoryId([0; 16]);
        ports.rng.fill(&mut id.0);
        let master = match secret {
            Secret::None => None,
            Secret::Passphrase(_) => {
                let mut key = Zeroizing::new([0; 32]);
                ports.rng.fill(key.as_mut_slice());
                Some(MasterKey::from_bytes(*key))
            }
        };
        let config = RepoConfig {
            id,
            version: u32::from(object::FORMAT_VERSION),
            encrypted: master.is_some(),
            chunker: options.chunker,
            created_ms: now_ms(&ports),
            key_check: master.as_ref().map(|key| key.check_value(id)),
        };
        let config_bytes = Bytes::from(config.encode());
        if let (Some(master), Secret::Passphrase(passphrase)) = (&master, secret) {
            let slot = new_slot(&ports, master, passphrase, options.cost, &config_bytes).await?;
            let mut name = FIRST_SLOT.to_owned();
            if !there.is_empty() {
                name = format!("{KEYS_PREFIX}{}", hex(&ports.rng.next_u64().to_be_bytes()));
            }
            store.publish(&name, slot).await?;
        }
        match store.publish(CONFIG_NAME, config_bytes.clone()).await {
            Err(RemoteError::Taken { .. }) => return Err(RepoError::AlreadyRepository { id: None }),
            other => other?,
        }
        Ok(Repository::assemble(store, ports, config, config_bytes, master))
    }

    /// Opens the repository at a place.
    ///
    /// # Errors
    ///
    /// [`RepoError::NotARepository`], [`RepoError::StrangeConfig`], [`RepoError::NewerFormat`], [`RepoError::EncryptedNeedsPassphrase`], [`RepoError::WrongPassphrase`],
    /// [`RepoError::UnencryptedButPassphraseGiven`] (somebody may have put another repository there), or what the storage says.
    pub async fn open(store: Arc<dyn Store>, ports: Ports, secret: &Secret) -> Result<Repository, RepoError> {
        let config_bytes = store.get(CONFIG_NAME).await?.ok_or(RepoError::NotARepository)?;
        let config = RepoConfig::decode(&config_bytes)?;
        let master = match (config.encrypted, secret) {
            (false, Secret::None) => None,
            (true, Secret::None) => return Err(RepoError::EncryptedNeedsPassphrase),
            (false, Secret::Passphrase(_)) => return Err(RepoError::UnencryptedButPassphraseGiven),
            (true, Secret::Passphrase(passphrase)) => {
                Some(find_key(store.as_ref(), &ports, passphrase, &config, &config_bytes).await?)
            }
        };
        Ok(Repository::assemble(store, ports, config, config_bytes, master))
    }

    /// Opens a repository from what this device stored when it joined, without any request: the bytes of `ourobox.json`
    /// ([`Repository::config_bytes`]) and, if it is encrypted, the key ([`Repository::master_key`]).
    ///
    /// # Errors
    ///
    /// [`RepoError::WrongKey`], [`RepoError::EncryptedNeedsPassphrase`] if there is no key and one is needed, or what
    /// [`Repository::open`] says of a bad configuration.
    pub fn open_with_key(
        store: Arc<dyn Store>,
        ports: Ports,
        config_bytes: Bytes,
        key: Option<MasterKey>,
    ) -> Result<Repository, RepoError> {
        let config = RepoConfig::decode(&config_bytes)?;
        match (&key, config.key_check) {
            (None, None) => {}
            (Some(key), Some(check)) if key.check_value(config.id) == check => {}
            (Some(_), Some(_)) => return Err(RepoError::WrongKey),
            (None, Some(_)) => return Err(RepoError::EncryptedNeedsPassphrase),
            (Some(_), None) => return Err(RepoError::UnencryptedButPassphraseGiven),
        }
        Ok(Repository::assemble(store, ports, config, config_bytes, key))
    }

    fn assemble(
        store: Arc<dyn Store>,
        ports: Ports,
        config: RepoConfig,
        config_bytes: Bytes,
        master: Option<MasterKey>,
    ) -> Repository {
        let keys = Keys::derive(master.as_ref(), config.id);
        let tables = Arc::new(Tables::new(&keys.chunker, config.chunker));
        let (devices, lines, roster) = (RwLock::default(), RwLock::default(), RwLock::default());
        let followed = Followed::default();
        let inner =
            Inner { store, ports, config, config_bytes, master, keys, tables, devices, lines, roster, followed };
        Repository { inner: Arc::new(inner) }
    }

    /// Which repository this is.
    pub fn id(&self) -> RepositoryId {
        self.inner.config.id
    }

    /// What `ourobox.json` says.
    pub fn config(&self) -> &RepoConfig {
        &self.inner.config
    }

    /// `ourobox.json` as it stands, for [`Repository::open_with_key`].
    pub fn config_bytes(&self) -> &Bytes {
        &self.inner.config_bytes
    }

    /// The master key, to be stored where this device keeps secrets; `None` if the repository is not encrypted.
    pub fn master_key(&self) -> Option<&MasterKey> {
        self.inner.master.as_ref()
    }

    /// How this repository's trees are cut and named.
    pub fn tree_params(&self) -> TreeParams {
        TreeParams { node_key: *self.inner.keys.node_id, salt: *self.inner.keys.splitter }
    }

    /// The storage place.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Time, chance and tasks.
    pub fn ports(&self) -> &Ports {
        &self.inner.ports
    }

    /// Adds a passphrase that opens this repository besides those there are; nothing to do for an unencrypted one.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn add_passphrase(&self, passphrase: &Zeroizing<String>, cost: PassphraseCost) -> Result<(), RepoError> {
        let Some(master) = self.master_key() else {
            return Ok(());
        };
        let slot = new_slot(self.ports(), master, passphrase, cost, self.config_bytes()).await?;
        let name = format!("{KEYS_PREFIX}{}", hex(&self.ports().rng.next_u64().to_be_bytes()));
        Ok(self.store().publish(&name, slot).await?)
    }

    /// Remembers which device has a number, so that its log can be found from a locator.
    pub fn learn_device(&self, no: DeviceNo, id: DeviceId) {
        self.inner.devices.write().insert(no, id);
    }

    /// Remembers which line a device writes that is not met yet.
    pub fn learn_line(&self, no: DeviceNo, line: Line) {
        self.inner.lines.write().insert(no, line);
    }

    /// The line that a device writes; the main line for one that was never learnt.
    pub fn line(&self, no: DeviceNo) -> Line {
        match self.device_id(no).ok().and_then(|id| self.met(id)) {
            Some(device) => self.line_of(&device),
            None => self.inner.lines.read().get(&no).copied().unwrap_or_default(),
        }
    }

    /// Every device learnt, by number.
    pub fn known_devices(&self) -> Vec<(DeviceNo, DeviceId)> {
        self.inner.devices.read().iter().map(|(no, id)| (*no, *id)).collect()
    }

    /// The device that has a number.
    ///
    /// # Errors
    ///
    /// [`RepoError::UnknownDevice`] if it was never learnt.
    pub fn device_id(&self, no: DeviceNo) -> Result<DeviceId, RepoError> {
        self.inner.devices.read().get(&no).copied().ok_or(RepoError::UnknownDevice { device: no })
    }

    /// What is known of a device without asking.
    pub fn met(&self, id: DeviceId) -> Option<DeviceInfo> {
        self.inner.roster.read().devices.get(&id).cloned()
    }

    /// Every device that was met, sorted by id.
    pub fn known(&self) -> Vec<DeviceInfo> {
        self.inner.roster.read().devices.values().cloned().collect()
    }

    pub(crate) fn meet(&self, device: DeviceInfo) {
        self.inner.roster.write().devices.insert(device.id, device);
    }

    /// Every removal learnt.
    pub fn removals(&self) -> Vec<Removal> {
        self.inner.roster.read().removals.clone()
    }

    pub(crate) fn learn_removal(&self, removal: Removal) {
        let mut roster = self.inner.roster.write();
        if !roster.removals.iter().any(|known| (known.device, known.by) == (removal.device, removal.by)) {
            roster.removals.push(removal);
        }
    }

    /// What an object is called on the remote.
    ///
    /// # Errors
    ///
    /// [`RepoError::UnknownDevice`] for a record of a device never learnt.
    pub fn object_name(&self, object: ObjectId) -> Result<String, RepoError> {
        Ok(match object {
            ObjectId::Pack(id) => object::pack_name(id),
            ObjectId::Nodes(id) => object::nodes_name(id),
            ObjectId::Record(device, seq) => object::record_name(self.device_id(device)?, seq),
        })
    }

    pub(crate) fn followed(&self) -> &Followed {
        &self.inner.followed
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(crate) fn tables(&self) -> &Arc<Tables> {
        &self.inner.tables
    }

    /// Reads a whole object; `None` if it is not there, or torn.
    pub(crate) async fn read_object(
        &self,
        name: &str,
        kind: ObjectKind,
    ) -> Result<Option<(Bytes, Lengths)>, RepoError> {
        let Some(bytes) = self.store().get(name).await? else {
            return Ok(None);
        };
        Ok(object::check(name, &bytes, kind)?.map(|lengths| (bytes, lengths)))
    }

    /// Runs work on a blocking thread and returns what it gives.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RepoError> {
        blocking(&self.inner.ports, work).await
    }
}

/// Runs work on a blocking thread and returns what it gives.
async fn blocking<T: Send + 'static>(ports: &Ports, work: impl FnOnce() -> T + Send + 'static) -> Result<T, RepoError> {
    let (sender, receiver) = oneshot::channel();
    let work = Box::new(move || {
        // The receiver is gone only if the caller no longer wants the answer.
        let _ = sender.send(work());
    });
    ports.runtime.blocking(work).await;
    receiver.await.map_err(|_| RepoError::Interrupted)
}

async fn new_slot(
    ports: &Ports,
    master: &MasterKey,
    passphrase: &Zeroizing<String>,
    cost: PassphraseCost,
    config: &Bytes,
) -> Result<Bytes, RepoError> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    ports.rng.fill(&mut salt);
    ports.rng.fill(&mut nonce);
    let (master, passphrase, config) = (master.clone(), passphrase.clone(), config.clone());
    let slot = blocking(ports, move || keyslot::wrap(&master, &passphrase, cost, &config, salt, nonce)).await??;
    Ok(Bytes::from(slot))
}

/// Tries the first slot, then all that a list shows.
async fn find_key(
    store: &dyn Store,
    ports: &Ports,
    passphrase: &Zeroizing<String>,
    config: &RepoConfig,
    config_bytes: &Bytes,
) -> Result<MasterKey, RepoError> {
    let mut names = vec![FIRST_SLOT.to_owned()];
    let mut listed = false;
    let mut damaged = None;
    while let Some(name) = names.pop() {
        if let Some(slot) = store.get(&name).await? {
            let (passphrase, bytes, of) = (passphrase.clone(), config_bytes.clone(), name.clone());
            match blocking(ports, move || keyslot::unwrap(&of, &slot, &passphrase, &bytes)).await? {
                Ok(Unwrapped::Key(key)) if Some(key.check_value(config.id)) == config.key_check => return Ok(key),
                Ok(Unwrapped::Key(_)) => return Err(RepoError::corrupt(name, "holds another key")),
                Ok(Unwrapped::WrongPassphrase | Unwrapped::NotOurs) => {}
                Err(error) => damaged = Some(error),
            }
        }
        if names.is_empty() && !listed {
            listed = true;
            names = store.list(KEYS_PREFIX).await?.into_iter().map(|o| o.name).filter(|n| n != FIRST_SLOT).collect();
        }
    }
    Err(damaged.unwrap_or(RepoError::WrongPassphrase))
}

fn now_ms(ports: &Ports) -> u64 {
    u64::try_from(ports.clock.wall_ns() / 1_000_000).unwrap_or(0)
}
