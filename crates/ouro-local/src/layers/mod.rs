//! Dirty bytes: what was written to files since their last published content.
//!
//! A file's content is a stack: published chunks below, the layer of the generation being sealed on it, the layer of the current
//! generation on top. A layer knows its size, which bytes it holds (*extents*), and the *base limit*: bytes it does not hold come from
//! below up to there, and are zeros beyond.
//!
//! Up to [`SMALL_BYTES_MAX`] a layer's bytes stand in memory and then in the ledger; larger ones in a sparse file `dirty/<file>.<generation>`
//! of the cache disk. The ledger's rows decide what is valid: bytes of a file outside the journalled extents mean nothing. A crash brings
//! a layer back as its last journalled unit described it; ranges overwritten in place since may hold the newer bytes.
//!
//! Layers whose last unit is in the ledger may leave memory and are read back when asked for, so memory is bounded whatever is pending.

mod extents;
mod graves;
mod layer;

#[cfg(test)]
mod tests;

use crate::disk::{Disk, Handles};
use crate::error::LocalError;
use crate::ledger::{Ledger, Ticket, Write};
use graves::Graves;
use layer::{DIRTY, Files, Layer};
use ouro_core::id::FileId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A layer of more data bytes than this gets a file of its own.
pub const SMALL_BYTES_MAX: usize = 64 << 10;
/// Layers kept in memory before journalled ones are let go.
pub const LAYERS_IN_MEMORY_MAX: usize = 20_000;
/// Data bytes kept in memory before journalled layers are let go.
pub const LAYER_BYTES_IN_MEMORY_MAX: u64 = 64 << 20;
/// Dirty files open at a time.
const FILES_OPEN_MAX: usize = 256;
/// A group that names more dirty files than this syncs the whole cache disk at once instead of each file.
const SYNC_FILES_MAX: usize = 8;

/// What is valid in a layer: what the ledger keeps of a dirty file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerState {
    /// Size of the file in bytes.
    pub size: u64,
    /// Bytes not held come from below up to here and are zeros beyond; at most `size`.
    pub base_limit: u64,
    /// Bytes held: sorted, disjoint `(start, end)`.
    pub extents: Vec<(u64, u64)>,
}

/// Where a part of a range comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Written in this layer; the buffer has it.
    Data,
    /// A hole of this layer; the buffer has zeros.
    Zeros,
    /// Whatever is below this layer; the buffer is as it was.
    Below,
}

type Key = (u64, FileId);

struct Table {
    layers: BTreeMap<Key, Arc<Mutex<Layer>>>,
    /// Look for layers to let go when there are this many, or this many bytes.
    sweep_at: (usize, u64),
    /// Files whose rows are removed by a unit: they go when that is durable.
    graves: Graves,
}

#[derive(Default)]
struct Totals {
    dirty: BTreeMap<u64, u64>,
    memory: u64,
}

/// The file of a layer that was forgotten, to be removed once that is durable.
#[must_use = "the file stays unless it is given to `Layers::drop_file`"]
pub struct LayerFile(String);

/// All dirty layers of a box, by file and seal generation.
///
/// A file may bear a layer that was begun for another one ([`Layers::bear`]): rows and files keep the name of the one it was begun for.
///
/// Changes of one file are made by one caller at a time; different files may be changed at once.
pub struct Layers {
    files: Arc<Files>,
    ledger: Arc<Ledger>,
    table: Mutex<Table>,
    totals: Mutex<Totals>,
    /// Layers that were begun for another file: by file and generation, for which one.
    borne: Mutex<BTreeMap<(FileId, u64), FileId>>,
}

fn path_of((generation, file): Key) -> String {
    format!("{DIRTY}/{:016x}.{generation:x}", file.0)
}

impl Layers {
    /// Takes the cache disk and the ledger, removes dirty files that no row names, and makes the ledger sync dirty files before rows
    /// that name them.
    ///
    /// # Errors
    /// What the disk or the ledger says.
    pub fn open(disk: Arc<dyn Disk>, ledger: Arc<Ledger>) -> Result<Layers, LocalError> {
        let files =
            Arc::new(Files { handles: Handles::new(disk.clone(), FILES_OPEN_MAX), disk, made: AtomicBool::new(false) });
        let mut totals = Totals { dirty: ledger.small_bytes()?, memory: 0 };
        let mut named = Vec::new();
        for (file, generation, state) in ledger.layers()? {
            named.push(path_of((generation, file)));
            *totals.dirty.entry(generation).or_default() +=
                state.extents.iter().map(|(start, end)| end - start).sum::<u64>();
        }
        named.sort_unstable();
        for name in files.disk.list(DIRTY).map_err(|e| LocalError::io(DIRTY, e))? {
            let path = format!("{DIRTY}/{name}");
            if named.binary_search(&path).is_err() {
                files.disk.remove(&path).map_err(|e| LocalError::io(path, e))?;
            }
        }
        let prepare = files.clone();
        ledger.set_prepare(Box::new(move |dirty| make_durable(&prepare, dirty)));
        let table = Table {
            layers: BTreeMap::new(),
            sweep_at: (LAYERS_IN_MEMORY_MAX, LAYER_BYTES_IN_MEMORY_MAX),
            graves: Graves::default(),
        };
        Ok(Layers { files, ledger, table: Mutex::new(table), totals: Mutex::new(totals), borne: Mutex::default() })
    }

    /// Says that `file` has the layer that `born` had in this generation; nothing is moved. The caller journals that ([`Layers::borne`]) and says
    /// it at the next start ([`Layers::bears`]).
    pub fn bear(&self, file: FileId, generation: u64, born: FileId) {
        let mut borne = self.borne.lock();
        let begun_for = borne.remove(&(born, generation)).unwrap_or(born);
        borne.insert((file, generation), begun_for);
    }

    /// Says what was journaled: `file` has the layer that was begun for another one, which may have got one that was begun for a third since.
    pub fn bears(&self, file: FileId, generation: u64, begun_for: FileId) {
        self.borne.lock().insert((file, generation), begun_for);
    }

    /// The layers that a file bears and that were begun for others: generation, and for which one.
    pub fn borne(&self, file: FileId) -> Vec<(u64, FileId)> {
        let borne = self.borne.lock();
        borne.range((file, 0)..=(file, u64::MAX)).map(|((_, generation), born)| (*generation, *born)).collect()
    }

    /// Which file bears the layer that was begun for this one.
    pub fn bearer(&self, begun_for: FileId, generation: u64) -> FileId {
        let borne = self.borne.lock();
        let bearer = borne.iter().find(|((_, g), born)| *g == generation && **born == begun_for);
        bearer.map_or(begun_for, |((file, _), _)| *file)
    }

    /// For which file a layer was begun: under that name it stands in the ledger.
    fn begun_for(&self, file: FileId, generation: u64) -> FileId {
        self.borne.lock().get(&(file, generation)).copied().unwrap_or(file)
    }

    /// Begins a layer on a content of `base_size` bytes; one that is there is replaced.
    pub fn begin(&self, file: FileId, generation: u64, base_size: u64) {
        let key = (generation, file);
        let mut layer = Layer::new(path_of(key), base_size);
        let mut table = self.table.lock();
        // The name is in use again. Until the older layer's removal is durable a power cut may bring its row back, and its file must
        // still be what that row says: so wait. A ledger that failed stops the box by itself.
        let path = path_of(key);
        let older = table.graves.take(&path);
        if let Some(ticket) = older.filter(|ticket| !self.ledger.is_durable(*ticket)) {
            let _ = self.ledger.flush(ticket, true);
        }
        let old = table.layers.remove(&key);
        if let Some(old) = old {
            let old = old.lock();
            layer.small_row = old.small_row;
            layer.layer_row = old.layer_row;
            self.count(generation, (old.extents.total(), old.memory()), (0, 0));
        }
        table.layers.insert(key, Arc::new(Mutex::new(layer)));
        drop(table);
        self.let_go();
    }

    /// Whether there is a layer of this file and generation, in memory or in the ledger.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn contains(&self, file: FileId, generation: u64) -> Result<bool, LocalError> {
        match self.layer(file, generation) {
            Ok(_) => Ok(true),
            Err(LocalError::NoLayer { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes bytes; the file grows as needed.
    ///
    /// # Errors
    /// [`LocalError::Full`] or another failure of the cache disk: the layer is as before, but bytes of the range that it held before
    /// may be overwritten. [`LocalError::NoLayer`] if it was not begun.
    pub fn write(&self, file: FileId, generation: u64, offset: u64, data: &[u8]) -> Result<(), LocalError> {
        self.change(file, generation, |layer, files| layer.write(files, offset, data))
    }

    /// Sets the size: what is cut off is forgotten, what is added reads as zeros.
    ///
    /// # Errors
    /// As [`Layers::write`].
    pub fn truncate(&self, file: FileId, generation: u64, size: u64) -> Result<(), LocalError> {
        self.change(file, generation, |layer, _| layer.truncate(size))
    }

    /// Grows the file to hold `offset..offset + len`; never shrinks it. Space is not reserved.
    ///
    /// # Errors
    /// As [`Layers::write`].
    pub fn allocate(&self, file: FileId, generation: u64, offset: u64, len: u64) -> Result<(), LocalError> {
        self.change(file, generation, |layer, _| match offset.saturating_add(len) {
            end if end > layer.size => layer.truncate(end),
            _ => Ok(()),
        })
    }

    /// Makes a range read as zeros, within the size.
    ///
    /// # Errors
    /// As [`Layers::write`].
    pub fn punch(&self, file: FileId, generation: u64, offset: u64, len: u64) -> Result<(), LocalError> {
        self.change(file, generation, |layer, files| layer.punch(files, offset..offset.saturating_add(len)))
    }

    /// Reads what this layer knows of `offset..` into `buf`. The parts returned are in order and without gaps, in offsets of the file;
    /// they end at the size or with the buffer. The caller fills those that are [`Held::Below`].
    ///
    /// # Errors
    /// A failure of the cache disk; [`LocalError::NoLayer`] if it was not begun.
    pub fn read(
        &self,
        file: FileId,
        generation: u64,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Vec<(Range<u64>, Held)>, LocalError> {
        let layer = self.layer(file, generation)?;
        let layer = layer.lock();
        layer.read(&self.files, offset, buf).map_err(|e| LocalError::io(path_of((generation, file)), e))
    }

    /// As [`Layers::read`], without the bytes: for SEEK_DATA, for sealing.
    ///
    /// # Errors
    /// As [`Layers::read`].
    pub fn parts(
        &self,
        file: FileId,
        generation: u64,
        range: Range<u64>,
    ) -> Result<Vec<(Range<u64>, Held)>, LocalError> {
        Ok(self.layer(file, generation)?.lock().parts(range))
    }

    /// The present state.
    ///
    /// # Errors
    /// [`LocalError::NoLayer`] if it was not begun; what the ledger says.
    pub fn state(&self, file: FileId, generation: u64) -> Result<LayerState, LocalError> {
        Ok(self.layer(file, generation)?.lock().state())
    }

    /// The file's size as of this layer, in bytes.
    ///
    /// # Errors
    /// As [`Layers::state`].
    pub fn size(&self, file: FileId, generation: u64) -> Result<u64, LocalError> {
        Ok(self.layer(file, generation)?.lock().size)
    }

    /// What to submit so that the present content is there after a crash; empty if that was submitted already. Follow it with
    /// [`Layers::submitted`].
    ///
    /// # Errors
    /// As [`Layers::state`].
    pub fn unit(&self, file: FileId, generation: u64) -> Result<Vec<Write>, LocalError> {
        let layer = self.layer(file, generation)?;
        let file = self.begun_for(file, generation);
        let mut layer = layer.lock();
        let revision = layer.revision();
        if layer.submitted.is_some_and(|(of, _)| of == revision) {
            return Ok(Vec::new());
        }
        layer.described = revision;
        let mut unit = Vec::with_capacity(2);
        match layer.encode() {
            Some(bytes) => {
                unit.push(Write::Small { file, generation, bytes: Some(bytes.into()) });
                if std::mem::take(&mut layer.layer_row) {
                    unit.push(Write::Layer { file, generation, state: None });
                }
                layer.small_row = true;
            }
            None => {
                unit.push(Write::Layer { file, generation, state: Some(layer.state()) });
                if std::mem::take(&mut layer.small_row) {
                    unit.push(Write::Small { file, generation, bytes: None });
                }
                layer.layer_row = true;
            }
        }
        Ok(unit)
    }

    /// Says that the last [`Layers::unit`] of this layer was submitted: once it is in the ledger the layer may leave memory.
    pub fn submitted(&self, file: FileId, generation: u64, ticket: Ticket) {
        let key = (generation, self.begun_for(file, generation));
        let layer = self.table.lock().layers.get(&key).cloned();
        if let Some(layer) = layer {
            let mut layer = layer.lock();
            layer.submitted = Some((layer.described, ticket));
        }
        self.let_go();
    }

    /// Forgets a layer and returns the rows to submit for that, and what to give to [`Layers::drop_file`] then.
    ///
    /// # Errors
    /// What the ledger says; then nothing was forgotten.
    pub fn removal(&self, file: FileId, generation: u64) -> Result<(Vec<Write>, LayerFile), LocalError> {
        match self.layer(file, generation) {
            Ok(_) | Err(LocalError::NoLayer { .. }) => {}
            Err(e) => return Err(e),
        }
        let file = self.borne.lock().remove(&(file, generation)).unwrap_or(file);
        if let Some(layer) = self.table.lock().layers.remove(&(generation, file)) {
            let layer = layer.lock();
            self.count(generation, (layer.extents.total(), layer.memory()), (0, 0));
        }
        let rows = vec![Write::Small { file, generation, bytes: None }, Write::Layer { file, generation, state: None }];
        Ok((rows, LayerFile(path_of((generation, file)))))
    }

    /// Removes the file of a layer, if it has one, once its [`Layers::removal`], submitted as `ticket`, is durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn drop_file(&self, file: LayerFile, ticket: Ticket) -> Result<(), LocalError> {
        self.table.lock().graves.add(ticket, file.0);
        self.bury()
    }

    /// Forgets all layers of a generation whose `ClearGeneration` was submitted. Their files go once that is durable.
    ///
    /// # Errors
    /// What the ledger or the disk says.
    pub fn drop_generation(&self, generation: u64, ticket: Ticket) -> Result<(), LocalError> {
        let mut table = self.table.lock();
        let range = (generation, FileId(0))..=(generation, FileId(u64::MAX));
        let keys: Vec<Key> = table.layers.range(range).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(layer) = table.layers.remove(&key) {
                let layer = layer.lock();
                self.count(generation, (layer.extents.total(), layer.memory()), (0, 0));
            }
        }
        self.totals.lock().dirty.remove(&generation);
        self.borne.lock().retain(|(_, g), _| *g != generation);
        let suffix = format!(".{generation:x}");
        for name in self.files.disk.list(DIRTY).map_err(|e| LocalError::io(DIRTY, e))? {
            if name.ends_with(&suffix) {
                table.graves.add(ticket, format!("{DIRTY}/{name}"));
            }
        }
        drop(table);
        self.bury()
    }

    /// Removes the files of dropped layers whose removal is durable by now. Called when something is dropped; call it after a durable flush too.
    ///
    /// # Errors
    /// What the disk says; the file stays to be removed.
    pub fn bury(&self) -> Result<(), LocalError> {
        let mut table = self.table.lock();
        let mut outcome = Ok(());
        for (ticket, path) in table.graves.due(|ticket| self.ledger.is_durable(ticket)) {
            self.files.handles.forget(&path);
            if let Err(e) = self.files.disk.remove(&path) {
                outcome = Err(LocalError::io(path.clone(), e));
                table.graves.add(ticket, path);
            }
        }
        outcome
    }

    /// Gives back disk space of bytes that were cut off or punched. Only when the layer's last unit is durable and nobody changes it:
    /// else an older state that a crash would bring back loses bytes.
    ///
    /// # Errors
    /// As [`Layers::write`].
    pub fn trim(&self, file: FileId, generation: u64) -> Result<(), LocalError> {
        let layer = self.layer(file, generation)?;
        let layer = layer.lock();
        let durable =
            layer.submitted.is_some_and(|(of, ticket)| of == layer.revision() && self.ledger.is_durable(ticket));
        if !durable {
            return Ok(());
        }
        layer.trim(&self.files).map_err(|e| LocalError::io(path_of((generation, file)), e))
    }

    /// Data bytes in all layers: what this device alone has.
    pub fn dirty_bytes(&self) -> u64 {
        self.totals.lock().dirty.values().sum()
    }

    fn change(
        &self,
        file: FileId,
        generation: u64,
        act: impl FnOnce(&mut Layer, &Files) -> std::io::Result<()>,
    ) -> Result<(), LocalError> {
        let layer = self.layer(file, generation)?;
        let mut layer = layer.lock();
        let before = (layer.extents.total(), layer.memory());
        let outcome = act(&mut layer, &self.files);
        self.count(generation, before, (layer.extents.total(), layer.memory()));
        outcome.map_err(|e| LocalError::io(path_of((generation, file)), e))
    }

    /// The layer, from the ledger if it left memory.
    fn layer(&self, file: FileId, generation: u64) -> Result<Arc<Mutex<Layer>>, LocalError> {
        let begun_for = self.begun_for(file, generation);
        let key = (generation, begun_for);
        // Held while the ledger is asked: else a layer loaded here could be older than one that another thread loaded, changed and let go.
        let mut table = self.table.lock();
        if let Some(layer) = table.layers.get(&key) {
            return Ok(layer.clone());
        }
        let path = path_of(key);
        let damaged = || LocalError::Damaged { name: path_of(key), reason: "its row in the ledger".to_owned() };
        let layer = if let Some(bytes) = self.ledger.small(begun_for, generation)? {
            let layer = Layer::decode(path, &bytes).ok_or_else(damaged)?;
            self.count(generation, (bytes.len() as u64, 0), (layer.extents.total(), layer.memory()));
            layer
        } else if let Some(state) = self.ledger.layer(begun_for, generation)? {
            Layer::from_state(path, state).ok_or_else(damaged)?
        } else {
            return Err(LocalError::NoLayer { file, generation });
        };
        let layer = Arc::new(Mutex::new(layer));
        table.layers.insert(key, layer.clone());
        Ok(layer)
    }

    /// Moves the totals from one (data, memory) to another.
    fn count(&self, generation: u64, before: (u64, u64), after: (u64, u64)) {
        if before == after {
            return;
        }
        let mut totals = self.totals.lock();
        let dirty = totals.dirty.entry(generation).or_default();
        *dirty = (*dirty + after.0).saturating_sub(before.0);
        totals.memory = (totals.memory + after.1).saturating_sub(before.1);
    }

    /// Lets layers go from memory that the ledger can bring back, if there are too many.
    fn let_go(&self) {
        let mut table = self.table.lock();
        let memory = self.totals.lock().memory;
        if table.layers.len() <= table.sweep_at.0 && memory <= table.sweep_at.1 {
            return;
        }
        let mut freed = 0;
        table.layers.retain(|(generation, _), layer| {
            // Others reach a layer only through the table, whose lock is held: one reference means nobody is at work on it.
            if Arc::strong_count(layer) > 1 {
                return true;
            }
            let layer = layer.lock();
            let safe =
                layer.submitted.is_some_and(|(of, ticket)| of == layer.revision() && self.ledger.flushed(ticket));
            if safe && layer.memory() > 0 {
                freed += layer.memory();
                // Counted as the row's length from now on, as at the start.
                let row = layer.encode().map_or(0, |bytes| bytes.len() as u64);
                self.count(*generation, (layer.extents.total(), layer.memory()), (row, 0));
            }
            !safe
        });
        let left = memory.saturating_sub(freed);
        // Looking again only after a quarter more came keeps this cheap when nothing can go.
        table.sweep_at = (
            LAYERS_IN_MEMORY_MAX.max(table.layers.len() + LAYERS_IN_MEMORY_MAX / 4),
            LAYER_BYTES_IN_MEMORY_MAX.max(left + LAYER_BYTES_IN_MEMORY_MAX / 4),
        );
    }
}

/// Makes dirty files durable before rows that name them.
fn make_durable(files: &Files, dirty: &[(FileId, u64)]) -> Result<(), LocalError> {
    if dirty.len() > SYNC_FILES_MAX {
        files.made.store(false, Ordering::Release);
        return files.disk.sync_all().map_err(|e| {
            files.made.store(true, Ordering::Release);
            LocalError::io(DIRTY, e)
        });
    }
    for &(file, generation) in dirty {
        let path = path_of((generation, file));
        let sync = files.handles.get(&path).and_then(|file| file.sync_data());
        sync.map_err(|e| LocalError::io(path, e))?;
    }
    if files.made.swap(false, Ordering::AcqRel) {
        files.disk.sync_dir(DIRTY).map_err(|e| {
            files.made.store(true, Ordering::Release);
            LocalError::io(DIRTY, e)
        })?;
    }
    Ok(())
}
