//! Opening a volume: from the journal back to the state in memory.

use super::collected;
use super::encode::{self, read_number};
use super::learn::{Announced, Built, Commit};
use super::lines::Lines;
use super::lists::BlockLists;
use super::seal::Sealed;
use super::state::{Counts, Guarded, Head, STAYING_GENERATION, State};
use super::{NodeCache, Volume, VolumeError};
use crate::blobs::{Blobs, BlobsOptions, Keep, Verify};
use crate::database::DatabaseAt;
use crate::disk::{Disk, RealDisk};
use crate::error::LocalError;
use crate::ignore::Ignore;
use crate::layers::Layers;
use crate::ledger::{Ledger, Loaded, Mode};
use crate::locations::Locations;
use crate::nodes::NodeStore;
use crate::pins::Pins;
use ouro_core::codec::decode_file_delta;
use ouro_core::content::Content;
use ouro_core::delta::FileDelta;
use ouro_core::edit::Pending;
use ouro_core::id::{DeviceNo, FileId, Hlc, NodeId};
use ouro_core::port::{Clock, Runtime};
use ouro_core::row::RowChanges;
use ouro_core::tree::TreeParams;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The database of index nodes in the cache directory.
const INDEX: &str = "index.db";

/// What a volume needs of the world.
#[derive(Clone)]
pub struct VolumePorts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Threads for the journal's writer.
    pub runtime: Arc<dyn Runtime>,
    /// The cache directory.
    pub disk: Arc<dyn Disk>,
}

/// The databases of a volume; its files are on the disk of [`VolumePorts`].
pub struct VolumeStores {
    /// The journal.
    pub ledger: Arc<Ledger>,
    /// What blobs are in the clean cache.
    pub blobs: DatabaseAt,
    /// Where chunks are stored in the repository.
    pub locations: DatabaseAt,
    /// Index nodes.
    pub nodes: DatabaseAt,
}

/// Limits of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeOptions {
    /// The clean cache holds at most so many bytes.
    pub cache_bytes_max: u64,
    /// The cache disk keeps at least so many bytes free.
    pub free_bytes_min: u64,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        VolumeOptions { cache_bytes_max: 64 << 30, free_bytes_min: 1 << 30 }
    }
}

impl Volume {
    /// Opens a box's volume: the journal in `data`, the caches in `cache`; both are made if they do not exist. `verify` tells whether bytes
    /// are what a blob id says, `keep` whether a blob must not be evicted. `device` is the number this device joined with. Fast whatever the size of the box: only what is unpublished and the commits since the checkpoint are
    /// read.
    ///
    /// # Errors
    /// A damaged journal (it is left as it is), [`VolumeError::Missing`] if a node of the checkpoint is needed and is not here.
    pub fn load(
        data: &Path,
        cache: &Path,
        device: DeviceNo,
        params: TreeParams,
        (verify, keep): (Verify, Keep),
        ports: VolumePorts,
        options: VolumeOptions,
    ) -> Result<Arc<Volume>, VolumeError> {
        let mode = Mode::Threaded(Arc::clone(&ports.runtime));
        let stores = VolumeStores {
            ledger: Arc::new(Ledger::open(&data.join("box.db"), mode)?),
            blobs: DatabaseAt::File(cache.join("cache.db")),
            locations: DatabaseAt::File(cache.join("chunks.db")),
            nodes: DatabaseAt::File(cache.join(INDEX)),
        };
        Volume::load_from(stores, device, params, (verify, keep), ports, options)
    }

    /// Puts index nodes into the cache of a box that is not open: [`Volume::load`] finds them there.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn keep_nodes<B: AsRef<[u8]>>(cache: &Path, nodes: &[(NodeId, B)]) -> Result<(), LocalError> {
        NodeStore::open(DatabaseAt::File(cache.join(INDEX)))?.put_many(nodes)
    }

    /// Opens a box's volume from stores wherever they are: in memory for the simulator.
    ///
    /// # Errors
    /// As [`Volume::load`].
    pub fn load_from(
        stores: VolumeStores,
        device: DeviceNo,
        params: TreeParams,
        (verify, keep): (Verify, Keep),
        ports: VolumePorts,
        options: VolumeOptions,
    ) -> Result<Arc<Volume>, VolumeError> {
        let (bytes_max, free_bytes_min) = (options.cache_bytes_max, options.free_bytes_min);
        let limits = BlobsOptions { bytes_max, free_bytes_min, verify, keep };
        let blobs = Arc::new(Blobs::open(Arc::clone(&ports.disk), stores.blobs, limits)?);
        let locations = Arc::new(Locations::open(stores.locations)?);
        let nodes = Arc::new(NodeCache::new(NodeStore::open(stores.nodes)?, params));
        Volume::assemble(stores.ledger, (nodes, blobs, locations), device, ports, options)
    }

    /// Opens the volume of another line of the same repository beside this one, its journal in `data`, what is written on it on the
    /// disk of `ports`. The two share what is the same whoever asks for it: clean bytes, index nodes, and where chunks are stored.
    ///
    /// # Errors
    /// As [`Volume::load`].
    pub fn load_beside(
        &self,
        data: &Path,
        device: DeviceNo,
        ports: VolumePorts,
        options: VolumeOptions,
    ) -> Result<Arc<Volume>, VolumeError> {
        let ledger = Ledger::open(&data.join("box.db"), Mode::Threaded(Arc::clone(&ports.runtime)))?;
        let shared = (Arc::clone(&self.nodes), Arc::clone(&self.blobs), Arc::clone(&self.locations));
        Volume::assemble(Arc::new(ledger), shared, device, ports, options)
    }

    fn assemble(
        ledger: Arc<Ledger>,
        (nodes, blobs, locations): (Arc<NodeCache>, Arc<Blobs>, Arc<Locations>),
        device: DeviceNo,
        ports: VolumePorts,
        options: VolumeOptions,
    ) -> Result<Arc<Volume>, VolumeError> {
        let layers = Layers::open(Arc::clone(&ports.disk), Arc::clone(&ledger))?;
        let loaded = ledger.load()?;
        let state = State::load(&loaded, &layers, device)?;
        let volume = Volume {
            state: Guarded::new(state),
            nodes,
            ledger,
            layers,
            blobs,
            locations,
            pins: Pins::new(loaded.pins.iter().copied()),
            ignore: RwLock::new(Arc::new(Ignore::new())),
            ports,
            options,
            listeners: RwLock::new(Vec::new()),
            renumber_hooks: RwLock::new(Vec::new()),
            block_lists: BlockLists::default(),
            named: Mutex::default(),
            pending_signal: RwLock::new(None),
        };
        volume.replay(loaded)?;
        Ok(Arc::new(volume))
    }

    /// The ordinary disk for a cache directory.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn disk(cache: &Path) -> Result<Arc<dyn Disk>, VolumeError> {
        let disk = RealDisk::new(cache);
        Ok(Arc::new(
            disk.map_err(|source| LocalError::Io { path: cache.display().to_string(), source: Arc::new(source) })?,
        ))
    }

    /// Commits since the checkpoint, then what is sealed, then what is pending.
    fn replay(&self, loaded: Loaded) -> Result<(), VolumeError> {
        let mut state = self.state.write();
        let state = &mut *state;
        let mut known = state.covers.clone();
        for (device, _, last) in self.ledger.logs()? {
            if let Some(row) = self.ledger.record(device, last)? {
                let commit = encode::read_commit(&row).map_err(|e| encode::damaged("record", e))?;
                let head = super::Head { seq: commit.seq, hash: commit.hash, hlc: commit.hlc };
                let newest = known.entry(device).or_insert(head);
                if newest.seq < head.seq {
                    *newest = head;
                }
            }
        }
        let (built, commits) = self.replayed(state, &known)?;
        for commit in commits {
            state.count(&commit);
            state.announced.extend(commit.checkpoint);
        }
        state.base = Arc::new(built.base);
        state.put_live(built.live);
        state.digest = built.digest;
        state.heads = built.heads;
        self.heed_heads(state);
        self.sweep(state, &loaded)
    }

    /// The rows by what lasts: the checkpoint, the commits since, what is sealed, what is pending.
    fn replayed(&self, state: &State, heads: &BTreeMap<DeviceNo, Head>) -> Result<(Built, Vec<Commit>), VolumeError> {
        let mut built = Built {
            root: state.root,
            base: RowChanges::new(),
            live: RowChanges::new(),
            digest: state.covers_digest,
            heads: state.covers.clone(),
        };
        let commits = self.commits_beyond(&state.covers, heads)?;
        for commit in &commits {
            built.commit(&self.nodes, commit)?;
        }
        built.live = built.base.clone();
        built.overlay(&self.nodes, state.sealed.as_ref(), state.pending.files.values())?;
        Ok((built, commits))
    }

    /// Reads all that the next start will read, so that it can do without the remote.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again.
    pub fn rehearse_start(&self) -> Result<(), VolumeError> {
        let state = self.state.read();
        self.replayed(&state, &state.heads).map(drop)
    }

    /// Forgets dirty data that no overlay row names: of files that were unlinked while open when the process ended.
    fn sweep(&self, state: &mut State, loaded: &Loaded) -> Result<(), VolumeError> {
        let mut named: BTreeSet<(FileId, u64)> = BTreeSet::new();
        let sealed = state.sealed.iter().flat_map(|s| s.files.iter());
        for delta in state.pending.files.values().chain(sealed) {
            if let Some(Content::Pending { generation, .. }) = delta.content.as_ref().and_then(|c| c.value.as_ref()) {
                named.insert((delta.id, *generation));
            }
        }
        let mut unit = Vec::new();
        let mut ended = Vec::new();
        let small = loaded.small.iter().map(|(file, generation, _)| (*file, *generation));
        let layers = loaded.layers.iter().map(|(file, generation, _)| (*file, *generation));
        for (file, generation) in small.chain(layers) {
            let file = self.layers.bearer(file, generation);
            if !named.contains(&(file, generation)) {
                let (rows, ending) = self.layers.removal(file, generation)?;
                unit.extend(rows);
                state.bases.remove(&(file, generation));
                unit.push(self.local_row(state, file));
                ended.push(ending);
            }
        }
        let ticket = self.ledger.submit(unit);
        for file in ended {
            self.layers.drop_file(file, ticket)?;
        }
        Ok(())
    }
}

impl State {
    /// The state without rows: they are replayed.
    fn load(loaded: &Loaded, layers: &Layers, joined: DeviceNo) -> Result<State, VolumeError> {
        let meta = |key: &str| loaded.meta.get(key);
        let number = |key: &str| meta(key).and_then(|value| read_number(value));
        let checkpoint = match meta(encode::META_CHECKPOINT) {
            Some(bytes) => encode::read_checkpoint(bytes).map_err(|e| encode::damaged("checkpoint", e))?,
            None => Announced::default(),
        };
        let sealed_head = match meta(encode::META_SEALED) {
            Some(bytes) => Some(encode::read_sealed(bytes).map_err(|e| encode::damaged("sealed", e))?),
            None => None,
        };
        let (mut pending, mut staying) = (Pending::default(), BTreeSet::new());
        let mut sealed_files = Vec::new();
        for (generation, rows) in &loaded.pending {
            for (file, bytes) in rows {
                let delta = decode_file_delta(bytes).map_err(|e| encode::damaged("overlay", e))?;
                if sealed_head.as_ref().is_some_and(|s| s.generation == *generation) {
                    sealed_files.push(delta);
                } else {
                    pending.files.insert(*file, delta);
                    if *generation == STAYING_GENERATION {
                        staying.insert(*file);
                    }
                }
            }
        }
        sealed_files.sort_by_key(|f| f.id);
        let (mut bases, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for (file, row) in &loaded.local_only {
            let row = encode::read_local_row(row).map_err(|e| encode::damaged("local row", e))?;
            bases.extend(row.bases.into_iter().map(|(generation, content)| ((*file, generation), content)));
            owners.extend(row.owner.map(|owner| (*file, owner)));
            row.borne.into_iter().for_each(|(generation, begun_for)| layers.bears(*file, generation, begun_for));
        }
        let writable = writable_layers(pending.files.values(), &bases);
        let record = meta(encode::META_RECORD).and_then(|value| encode::read_record(value));
        let sealed = sealed_head.map(|head| Sealed {
            generation: head.generation,
            version: head.version,
            parents: head.parents,
            digest: head.digest,
            message: head.message,
            files: Arc::new(sealed_files),
            record: record.map(|(hash, bytes)| (Arc::from(bytes), hash)),
        });
        let devices = match meta(encode::META_DEVICES) {
            Some(bytes) => encode::read_devices(bytes).map_err(|e| encode::damaged("devices", e))?,
            None => BTreeMap::new(),
        };
        let lines = match meta(encode::META_LINES) {
            Some(bytes) => encode::read_lines(bytes).map_err(|e| encode::damaged("lines", e))?,
            None => Lines::default(),
        };
        let outright = match meta(encode::META_OUTRIGHT) {
            Some(value) => Some(encode::read_outright(value).map_err(|e| encode::damaged("commit on its way", e))?),
            None => None,
        };
        let outright = outright.map(|(commit, bytes)| (Arc::new(commit), Arc::from(bytes)));
        let collected = match meta(encode::META_COLLECTED) {
            Some(value) => Some(collected::decode(value).map_err(|e| encode::damaged("collection", e))?),
            None => None,
        };
        let identity = |key| match meta(key) {
            Some(value) => encode::read_identity(value).map(Some).map_err(|e| encode::damaged("identity", e)),
            None => Ok(None),
        };
        let (identity, intended) = (identity(encode::META_IDENTITY)?, identity(encode::META_INTENDED)?);
        let counter = number(encode::META_COUNTER).unwrap_or(u64::from(FileId::COUNTER_FIRST)) as u32;
        Ok(State {
            device: identity.as_ref().map_or(joined, |identity| identity.number),
            identity,
            intended,
            rules: number(encode::META_RULES).unwrap_or(0) as u32,
            hinted_ms: number(encode::META_HINTED).unwrap_or(0),
            clock_offset_ms: 0,
            root: checkpoint.root,
            covers: checkpoint.covers.clone(),
            covers_digest: checkpoint.digest,
            base: Arc::default(),
            digest: checkpoint.digest,
            live: RowChanges::new(),
            fresh: 0,
            pending,
            // Nothing is open yet, whatever was when the process ended.
            trash_waits: false,
            trash_due: !staying.is_empty(),
            staying,
            generation: number(encode::META_GENERATION).unwrap_or(1),
            sealed,
            heads: BTreeMap::new(),
            clock: Hlc(number(encode::META_CLOCK).unwrap_or(0)),
            counter,
            counter_reserved: counter,
            hot: BTreeMap::new(),
            hot_dirty: BTreeSet::new(),
            open: BTreeMap::new(),
            writable,
            bases,
            devices,
            lines,
            owners,
            // Those beyond the checkpoint come with the commits. It may itself be announced by none: a collection made it.
            announced: Vec::new(),
            outright,
            collected: collected.map(Arc::new),
            since: Counts::default(),
            retired: BTreeSet::new(),
            read_only: None,
        })
    }
}

/// The layers of files that go on being written to. A copy of what is on its way has none of its own.
fn writable_layers<'a>(
    pending: impl Iterator<Item = &'a FileDelta>,
    bases: &BTreeMap<(FileId, u64), Content>,
) -> BTreeMap<FileId, u64> {
    let content = |delta: &'a FileDelta| delta.content.as_ref().and_then(|c| c.value.as_ref());
    pending
        .filter_map(|delta| match content(delta) {
            Some(Content::Pending { generation, .. }) => Some((delta.id, *generation)),
            _ => None,
        })
        .filter(|layer| bases.contains_key(layer))
        .collect()
}
