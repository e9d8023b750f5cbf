//! An open box: its volume, its sync, and what they are opened from.

use crate::api::Failure;
use crate::config::{BoxConfig, BoxSecrets, from_hex};
use crate::connect::{RemoteParts, open_store};
use crate::engine::EngineDirs;
use crate::failure;
use crate::keeper::Kept;
use ouro_core::id::{FileId, Line};
use ouro_core::port::Runtime;
use ouro_core::render::Seen;
use ouro_core::state::Attributes;
use ouro_local::volume::{Volume, VolumeError, VolumeOptions, VolumePorts};
use ouro_repo::{MasterKey, Ports, Repository};
use ouro_sync::Sync;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::runtime::Handle;

/// A box that is open on this device.
pub(crate) struct OpenBox {
    pub(crate) name: String,
    pub(crate) config: BoxConfig,
    pub(crate) volume: Arc<Volume>,
    pub(crate) sync: Arc<Sync>,
    /// Blobs that the cache must not evict.
    pub(crate) kept: Arc<Kept>,
}

impl OpenBox {
    /// Opens a box from what this device wrote down: no request is made, unless the index cache was lost while changes wait that need it, and
    /// no sync started. A branch is opened beside the box that it
    /// comes from.
    pub(crate) fn open(
        dirs: &EngineDirs,
        name: &str,
        (config, secrets): (BoxConfig, &BoxSecrets),
        beside: Option<&OpenBox>,
        (ports, handle): (&Ports, &Handle),
        options: VolumeOptions,
    ) -> Result<OpenBox, Failure> {
        let damaged = || Failure::needs_user(format!("the configuration of box {name:?} is damaged: join it again"));
        let device = config.device_id().ok_or_else(damaged)?;
        let RemoteParts { store, remote, .. } =
            open_store(&config.remote, secrets.credentials.as_deref(), &ports.runtime)?;
        remote.set_write_once(config.write_once);
        let key = master_key(secrets).map_err(|()| damaged())?;
        let repository = bytes::Bytes::copy_from_slice(config.repository.as_bytes());
        let repo = Repository::open_with_key(store, ports.clone(), repository, key)?;
        let line = config.branch.as_ref().map_or(Line::MAIN, |branch| repo.line_named(&branch.name));
        let kept = beside.map_or_else(Arc::default, |beside| Arc::clone(&beside.kept));
        let volume = open_volume(dirs, name, &config, &repo, (&kept, beside), (ports, handle), options)?;
        // It may have become another device since it joined.
        for number in [config.device(), volume.device()] {
            repo.learn_line(number, line);
            volume.learn_line(number, line);
        }
        volume.name_device(config.device(), config.shown());
        let sync = Sync::new(Arc::clone(&volume), repo, ports.clone(), device);
        Ok(OpenBox { name: name.to_owned(), config, volume, sync, kept })
    }

    /// The box of the main line of the same repository: itself, if it is no branch.
    pub(crate) fn root(&self) -> &str {
        self.config.branch.as_ref().map_or(&self.name, |branch| &branch.of)
    }

    /// Whether two boxes are lines of one repository on this device.
    pub(crate) fn is_sibling_of(&self, other: &OpenBox) -> bool {
        self.root() == other.root()
    }

    /// Whether it is the branch of a name of another box's repository.
    pub(crate) fn is_branch_of(&self, other: &OpenBox, name: &str) -> bool {
        self.is_sibling_of(other) && self.config.branch.as_ref().is_some_and(|branch| branch.name == name)
    }

    /// Looks in the background for cached bytes that an engine which died had not noted.
    pub(crate) fn adopt_cache(&self, runtime: &Arc<dyn Runtime>) {
        let (volume, name) = (Arc::clone(&self.volume), self.name.clone());
        let looking = runtime.blocking(Box::new(move || match volume.blobs().adopt() {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, name, "found in the cache again"),
            // It is found by the next start, or fetched again.
            Err(error) => tracing::warn!(%error, name, "the cache cannot be looked through"),
        }));
        runtime.spawn(looking);
    }

    /// Gives the root of a new repository its attributes: the same on every device from then on.
    pub(crate) fn make_root(&self) -> Result<(), Failure> {
        let now = self.volume.now_ns();
        self.volume.edit(|edit| {
            let seen = Seen::root(edit.rows)?;
            let attributes = Attributes { mode: 0o755, mtime_ns: now, ctime_ns: now, rdev: 0, xattrs: Vec::new() };
            edit.set_attributes(&seen, &[FileId::ROOT], attributes)
        })?;
        Ok(())
    }
}

pub(crate) fn master_key(secrets: &BoxSecrets) -> Result<Option<MasterKey>, ()> {
    match &secrets.key {
        None => Ok(None),
        Some(hex) => from_hex(hex).map(|bytes| Some(MasterKey::from_bytes(bytes))).ok_or(()),
    }
}

fn open_volume(
    dirs: &EngineDirs,
    name: &str,
    config: &BoxConfig,
    repo: &Repository,
    (kept, beside): (&Arc<Kept>, Option<&OpenBox>),
    (ports, handle): (&Ports, &Handle),
    options: VolumeOptions,
) -> Result<Arc<Volume>, Failure> {
    let (data, cache) = (dirs.box_data(name), dirs.box_cache(name));
    for folder in [&data, &cache] {
        crate::config::create_private(folder).map_err(|error| Failure::io(folder, &error))?;
    }
    let disk = Volume::disk(&cache)?;
    let volume_ports = VolumePorts { clock: Arc::clone(&ports.clock), runtime: Arc::clone(&ports.runtime), disk };
    let verifying = repo.clone();
    let verify = Arc::new(move |id: &ouro_core::id::BlobId, plain: &[u8]| verifying.verify_blob(id, plain));
    let kept = Arc::clone(kept);
    let keep = Arc::new(move |id: &ouro_core::id::BlobId| kept.holds(id));
    let load = || {
        if let Some(beside) = beside {
            return beside.volume.load_beside(&data, config.device(), volume_ports.clone(), options);
        }
        let hooks = (verify.clone() as _, keep.clone() as _);
        Volume::load(&data, &cache, config.device(), repo.tree_params(), hooks, volume_ports.clone(), options)
    };
    let mut brought = BTreeSet::new();
    loop {
        let missing = match load() {
            Ok(volume) => return Ok(volume),
            Err(VolumeError::Missing(missing)) => missing,
            Err(error) => return Err(error.into()),
        };
        // One that was brought is there, or the cache takes nothing.
        if !brought.insert(missing.node) {
            return Err(failure::index_lost(name, "the cache does not keep it"));
        }
        let mut nodes = Vec::new();
        let fetched = handle.block_on(repo.fetch_nodes(&[missing], &mut |id, bytes| nodes.push((id, bytes))));
        fetched.map_err(|error| failure::index_lost(name, &error.to_string()))?;
        match beside {
            Some(beside) => beside.volume.nodes().store().put_many(&nodes),
            None => Volume::keep_nodes(&cache, &nodes),
        }
        .map_err(VolumeError::from)?;
    }
}
