//! The bytes of files: written into layers, read through layers down to clean blobs.

use super::change::Change;
use super::edit::ORPHAN_GENERATION;
use super::state::{Hot, State};
use super::{FILE_BYTES_MAX, Volume, VolumeError};
use crate::error::LocalError;
use crate::layers::Held;
use ouro_core::content::{BlobRef, Content};
use ouro_core::id::{BlobId, FileId};
use ouro_core::state::Place;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

/// What statfs tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that the box can have on this device at most: what is free and what is written and not published yet.
    pub total: u64,
    /// Bytes that can still be written: free space and what may be evicted, less the reserve.
    pub free: u64,
}

/// Where the bytes of a content are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// On the remote only.
    Online,
    /// Some of them here.
    Partial,
    /// All here.
    Local,
}

/// A stretch of a read that comes from a clean blob.
pub(super) struct Stretch {
    into: usize,
    len: usize,
    blob: BlobRef,
    offset: u32,
}

/// Where a write goes.
#[derive(Clone, Copy)]
enum Target {
    Live(u64),
    Orphan,
}

impl Volume {
    /// Writes bytes of a file that stands at `at`. They are in the layer and seen by every reader when this returns; they are journalled
    /// when the file is closed or synced, or within seconds.
    ///
    /// # Errors
    /// [`VolumeError::Gone`] if the file does not stand there any more; [`VolumeError::Full`], [`VolumeError::TooBig`].
    pub fn write(&self, file: FileId, at: &Place, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let end =
            offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_BYTES_MAX).ok_or(VolumeError::TooBig)?;
        if data.is_empty() {
            // Nothing is written, so a file that ends before `offset` does not grow (write(2)).
            return Ok(());
        }
        self.change_bytes(file, at, |volume, generation, size| {
            volume.layers.write(file, generation, offset, data)?;
            Ok(size.max(end))
        })
    }

    /// Cuts a file or makes it longer with zeros.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn truncate(&self, file: FileId, at: &Place, size: u64) -> Result<(), VolumeError> {
        if size > FILE_BYTES_MAX {
            return Err(VolumeError::TooBig);
        }
        self.change_bytes(file, at, |volume, generation, _| {
            volume.layers.truncate(file, generation, size)?;
            Ok(size)
        })
    }

    /// Makes a stretch read as zeros, and the file longer if it ends beyond and `keep_size` is not set.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn zero(&self, file: FileId, at: &Place, offset: u64, len: u64, keep_size: bool) -> Result<(), VolumeError> {
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(VolumeError::TooBig)?;
        self.change_bytes(file, at, |volume, generation, size| {
            if !keep_size && end > size {
                volume.layers.truncate(file, generation, end)?;
            }
            let size = if keep_size { size } else { size.max(end) };
            if offset < size {
                volume.layers.punch(file, generation, offset, end.min(size) - offset)?;
            }
            Ok(size)
        })
    }

    fn change_bytes(
        &self,
        file: FileId,
        at: &Place,
        change: impl FnOnce(&Volume, u64, u64) -> Result<u64, VolumeError>,
    ) -> Result<(), VolumeError> {
        let mut told = Change::default();
        let mut state = self.state.write();
        let had_sealable = state.has_sealable();
        let written = self.change_bytes_locked(&mut state, file, at, change, &mut told);
        let has_sealable = state.has_sealable();
        drop(state);
        self.announce(&told);
        // The first write after a commit into a file that stayed open: nothing else would tell that there is something to commit.
        if has_sealable && !had_sealable {
            self.signal_pending();
        }
        written
    }

    fn change_bytes_locked(
        &self,
        state: &mut State,
        file: FileId,
        at: &Place,
        change: impl FnOnce(&Volume, u64, u64) -> Result<u64, VolumeError>,
        told: &mut Change,
    ) -> Result<(), VolumeError> {
        self.check_writable(state)?;
        let now = self.now_ns();
        match self.begin_writing(state, file, at, told)? {
            Target::Orphan => {
                let size = state.open.get(&file).and_then(|o| o.orphan.as_ref()).map_or(0, |o| o.size);
                let size = change(self, ORPHAN_GENERATION, size)?;
                if let Some(orphan) = state.open.get_mut(&file).and_then(|o| o.orphan.as_mut()) {
                    orphan.size = size;
                    orphan.mtime_ns = now;
                    orphan.ctime_ns = now;
                    orphan.content = Content::Pending { size, generation: ORPHAN_GENERATION };
                }
            }
            Target::Live(generation) => {
                let size = state.hot.get(&file).map_or(0, |hot| hot.size);
                let size = change(self, generation, size)?;
                state.hot.insert(file, Hot { size, mtime_ns: now, ctime_ns: now, place: at.clone() });
                state.hot_dirty.insert(file);
            }
        }
        Ok(())
    }

    /// Makes sure that the file has a layer in the present generation, and an overlay entry that says so. `told` becomes what those who see
    /// the directory have to hear of that.
    fn begin_writing(
        &self,
        state: &mut State,
        file: FileId,
        at: &Place,
        told: &mut Change,
    ) -> Result<Target, VolumeError> {
        let generation = state.generation;
        if let Some(orphan) = state.open.get(&file).and_then(|o| o.orphan.as_ref()) {
            if orphan.elsewhere {
                return Err(VolumeError::Gone);
            }
            if let Entry::Vacant(below) = state.bases.entry((file, ORPHAN_GENERATION)) {
                self.layers.begin(file, ORPHAN_GENERATION, orphan.size);
                below.insert(orphan.content.clone());
            }
            return Ok(Target::Orphan);
        }
        if let Some(layer) = state.writable.get(&file)
            && state.hot.contains_key(&file)
        {
            return Ok(Target::Live(*layer));
        }
        self.settle_hot(state)?;
        let (seen, union) = match self.seen_at(state, file, at)? {
            Some(shown) => shown,
            // If an equal file stood for it, it becomes another one than that, and so is seen again, under a name by rule.
            None => {
                let (seen, union) = self.out_of_sight_at(state, file, at)?.ok_or(VolumeError::Gone)?;
                told.directories.clone_from(&union);
                (seen, union)
            }
        };
        let content = seen.content().cloned().unwrap_or_else(Content::empty);
        let mut attributes = seen.attributes();
        let size = content.size();
        let layer = state.writable.get(&file).copied().unwrap_or(generation);
        if !matches!(&content, Content::Pending { generation: g, .. } if *g == layer) {
            let below = content;
            let now = self.now_ns();
            attributes.mtime_ns = now;
            attributes.ctime_ns = now;
            let pending = Content::Pending { size, generation };
            self.layers.begin(file, generation, size);
            state.bases.insert((file, generation), below);
            state.writable.insert(file, generation);
            // The journal has the layer, as yet without bytes of its own, before the row that names it: a crash between two journallings
            // of what is written finds the file as it was before.
            let mut unit = self.layers.unit(file, generation)?;
            unit.push(self.local_row(state, file));
            let ticket = self.ledger.submit(unit);
            self.layers.submitted(file, generation, ticket);
            let written = self.edit_locked(state, &mut |e| e.write(&seen, &union, pending.clone(), attributes.clone()));
            if let Err(error) = written {
                state.bases.remove(&(file, generation));
                state.writable.remove(&file);
                let (rows, ending) = self.layers.removal(file, generation)?;
                self.layers.drop_file(ending, self.ledger.submit(rows))?;
                return Err(error);
            }
        }
        if !told.directories.is_empty() {
            told.bindings = self.derived_names(state, &told.directories)?;
        }
        let layer = state.writable.get(&file).copied().unwrap_or(generation);
        let hot = Hot { size, mtime_ns: attributes.mtime_ns, ctime_ns: attributes.ctime_ns, place: at.clone() };
        state.hot.insert(file, hot);
        Ok(Target::Live(layer))
    }

    /// Reads bytes of a file whose row says `content`, through what open writers wrote. Short at the end of the file.
    ///
    /// # Errors
    /// [`VolumeError::Need`] with every blob of the stretch that is not here.
    pub fn read(&self, file: FileId, content: &Content, offset: u64, len: usize) -> Result<Vec<u8>, VolumeError> {
        let mut stretches = Vec::new();
        let mut buffer;
        {
            let state = self.state.read();
            let size = match state.open.get(&file).and_then(|o| o.orphan.as_ref()) {
                Some(orphan) => orphan.size,
                None => state.hot.get(&file).map_or(content.size(), |hot| hot.size),
            };
            let len = (size.saturating_sub(offset)).min(len as u64) as usize;
            buffer = vec![0; len];
            self.read_through(&state, file, content, offset, 0, &mut buffer, &mut stretches)?;
        }
        self.fill(&stretches, &mut buffer)?;
        Ok(buffer)
    }

    /// Reads bytes of a sealed content. Short at the end.
    ///
    /// # Errors
    /// [`VolumeError::Need`] with every blob of the stretch that is not here.
    pub fn read_content(&self, content: &Content, offset: u64, len: usize) -> Result<Vec<u8>, VolumeError> {
        let len = (content.size().saturating_sub(offset)).min(len as u64) as usize;
        let mut buffer = vec![0; len];
        let mut stretches = Vec::new();
        self.read_clean(content, offset, 0, &mut buffer, &mut stretches)?;
        self.fill(&stretches, &mut buffer)?;
        Ok(buffer)
    }

    /// Reads bytes of one generation's layer of a file down to what lies below: what the sealer commits. What lies below in one of the blobs
    /// in `gone` and is not here reads as zeros.
    ///
    /// # Errors
    /// [`VolumeError::Need`] with every blob of the stretch that is not here; [`VolumeError::Lost`] without such a layer.
    pub fn read_layer(
        &self,
        file: FileId,
        content: &Content,
        offset: u64,
        buffer: &mut [u8],
        gone: &BTreeSet<BlobId>,
    ) -> Result<(), VolumeError> {
        let is_gone = |blob: &BlobRef| gone.contains(&blob.id);
        let mut stretches = Vec::new();
        {
            let state = self.state.read();
            match self.read_through(&state, file, content, offset, 0, buffer, &mut stretches) {
                // The list of all chunks below.
                Err(VolumeError::Need(lists)) if lists.iter().all(is_gone) => {}
                Err(VolumeError::Gone | VolumeError::Local(LocalError::NoLayer { .. })) => {
                    return Err(VolumeError::Lost { file });
                }
                outcome => outcome?,
            }
        }
        match self.fill(&stretches, buffer) {
            Err(VolumeError::Need(mut blobs)) if blobs.iter().any(is_gone) => {
                blobs.retain(|blob| !is_gone(blob));
                if blobs.is_empty() { Ok(()) } else { Err(VolumeError::Need(blobs)) }
            }
            outcome => outcome,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a stretch of a recursion; every argument is a different thing")]
    pub(super) fn read_through(
        &self,
        state: &State,
        file: FileId,
        content: &Content,
        offset: u64,
        into: usize,
        buffer: &mut [u8],
        stretches: &mut Vec<Stretch>,
    ) -> Result<(), VolumeError> {
        let Content::Pending { generation, .. } = content else {
            return self.read_clean(content, offset, into, buffer, stretches);
        };
        let file = state.written_to(file, *generation);
        let parts = self.layers.read(file, *generation, offset, buffer)?;
        let below: Vec<_> =
            parts.into_iter().filter(|(_, held)| *held == Held::Below).map(|(range, _)| range).collect();
        if below.is_empty() {
            return Ok(());
        }
        let base = state.bases.get(&(file, *generation)).ok_or(VolumeError::Gone)?;
        for hole in below {
            let (start, end) = ((hole.start - offset) as usize, (hole.end - offset) as usize);
            self.read_through(state, file, base, hole.start, into + start, &mut buffer[start..end], stretches)?;
        }
        Ok(())
    }

    fn read_clean(
        &self,
        content: &Content,
        offset: u64,
        into: usize,
        buffer: &mut [u8],
        stretches: &mut Vec<Stretch>,
    ) -> Result<(), VolumeError> {
        match content {
            Content::Pending { .. } => Err(VolumeError::Gone),
            Content::Inline(bytes) => {
                let from = (offset as usize).min(bytes.len());
                let len = buffer.len().min(bytes.len() - from);
                buffer[..len].copy_from_slice(&bytes[from..from + len]);
                Ok(())
            }
            Content::Chunks(chunks) => {
                stretch(chunks, offset, into, buffer.len(), stretches);
                Ok(())
            }
            Content::BlockList { list, .. } => {
                stretch(&self.block_list(list)?, offset, into, buffer.len(), stretches);
                Ok(())
            }
        }
    }

    /// Fills the stretches from the clean cache; all that is missing is named at once.
    pub(super) fn fill(&self, stretches: &[Stretch], buffer: &mut [u8]) -> Result<(), VolumeError> {
        let mut need = Vec::new();
        for s in stretches {
            let part = &mut buffer[s.into..s.into + s.len];
            if self.blobs.read(&s.blob.id, u64::from(s.offset), part)? != Some(part.len()) {
                need.push(s.blob);
            }
        }
        if need.is_empty() { Ok(()) } else { Err(VolumeError::Need(need)) }
    }

    /// The blobs of the next `bytes` bytes from `offset` that are not on this device.
    pub fn blobs_ahead(&self, content: &Content, offset: u64, bytes: u64) -> Vec<BlobRef> {
        let Ok(chunks) = self.chunks(content) else { return Vec::new() };
        let mut stretches = Vec::new();
        let len = bytes.min(content.size().saturating_sub(offset)) as usize;
        stretch(&chunks, offset, 0, len, &mut stretches);
        stretches.into_iter().map(|s| s.blob).filter(|b| !self.blobs.contains(&b.id).unwrap_or(false)).collect()
    }

    /// Makes a file durable on this device: its bytes, its entry and every operation before.
    ///
    /// # Errors
    /// A failing disk or journal: what was promised is not durable.
    pub fn sync_file(&self, file: FileId) -> Result<(), VolumeError> {
        {
            let mut state = self.state.write();
            self.settle(&mut state, file)?;
        }
        self.flush(true)
    }

    /// Waits until everything so far is in the journal, and with `durable` on the disk's platter.
    ///
    /// # Errors
    /// A failing disk or journal.
    pub fn flush(&self, durable: bool) -> Result<(), VolumeError> {
        let ticket = {
            let mut state = self.state.write();
            self.settle_hot(&mut state)?;
            self.ledger.submit(Vec::new())
        };
        Ok(self.ledger.flush(ticket, durable)?)
    }

    /// How much of a content is on this device.
    ///
    /// # Errors
    /// What the cache says; [`VolumeError::Need`] if the content's list is not here: then nothing of it is known to be.
    pub fn residency(&self, content: &Content) -> Result<Residency, VolumeError> {
        let chunks = self.chunks(content)?;
        let mut here = 0;
        for chunk in chunks.iter() {
            here += usize::from(self.blobs.contains(&chunk.id)?);
        }
        Ok(match here {
            n if n == chunks.len() => Residency::Local,
            0 => Residency::Online,
            _ => Residency::Partial,
        })
    }

    /// Journals what open writers wrote since; to be called every few seconds.
    ///
    /// # Errors
    /// A failing disk or journal.
    pub fn tick(&self) -> Result<(), VolumeError> {
        let has_sealable = {
            let mut state = self.state.write();
            self.settle_hot(&mut state)?;
            state.has_sealable()
        };
        if has_sealable {
            self.signal_pending();
        }
        // What is lost of it costs downloads only: no reason to stop.
        if let Err(error) = self.blobs.flush() {
            tracing::warn!(%error, "what is in the cache cannot be noted");
        }
        Ok(())
    }

    /// Room on the cache disk.
    pub fn space(&self) -> Space {
        let evictable = self.blobs.total_bytes();
        // A disk that cannot tell is treated as full: nothing is promised.
        let unused = self.ports.disk.free_bytes().unwrap_or(0);
        let free = unused.saturating_add(evictable).saturating_sub(self.options.free_bytes_min);
        Space { total: free.saturating_add(self.layers.dirty_bytes()), free }
    }
}

/// Cuts the stretch `[offset, offset + len)` of a file into stretches of its chunks.
fn stretch(chunks: &[BlobRef], offset: u64, into: usize, len: usize, out: &mut Vec<Stretch>) {
    let (mut start, end, mut into) = (0_u64, offset + len as u64, into);
    for blob in chunks {
        let blob_end = start + u64::from(blob.len);
        if blob_end > offset && start < end {
            let from = offset.max(start);
            let part = (end.min(blob_end) - from) as usize;
            out.push(Stretch { into, len: part, blob: *blob, offset: (from - start) as u32 });
            into += part;
        }
        if blob_end >= end {
            break;
        }
        start = blob_end;
    }
}
