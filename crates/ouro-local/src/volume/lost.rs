//! Ways out when bytes that were to be published are on no disk any more, or lay on what a collection took: the rest goes on.

use super::change::Change;
use super::learn::Built;
use super::seal::{Sealed, SealedFile, place_of};
use super::state::State;
use super::{Volume, VolumeError};
use crate::ledger::Write;
use ouro_core::codec::encode_file_delta;
use ouro_core::content::{BlobRef, Content};
use ouro_core::delta::{FileDelta, Register};
use ouro_core::id::{BlobId, FileId, Version};
use ouro_core::render;
use ouro_core::row::RowChanges;
use ouro_core::state::Place;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Deeper paths are cut.
const DEPTH_MAX: usize = 4_096;

impl Volume {
    /// Leaves the content of a file out of the sealed generation because its bytes are lost ([`VolumeError::Lost`]): the content committed
    /// last stays; a file that has none is empty. Everything else of the generation is published. Returns the file's path, for people;
    /// `None` if there is nothing to leave out, or if the record is fixed already and its bytes are safe in it.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: nothing changed; fetch and call again.
    pub fn leave_out(&self, file: FileId) -> Result<Option<String>, VolumeError> {
        let (path, mut change) = {
            let mut state = self.state.write();
            let state = &mut *state;
            let Some(sealed) = state.sealed.clone().filter(|sealed| sealed.record.is_none()) else { return Ok(None) };
            let Ok(index) = sealed.files.binary_search_by_key(&file, |f| f.id) else { return Ok(None) };
            let Some(Content::Pending { generation, .. }) = sealed.files[index].source().cloned() else {
                return Ok(None);
            };
            let lost = sealed.files[index].content.as_ref().and_then(|c| c.value.clone());
            let place = place_of(&sealed.files[index]);
            let path = self.path_of(state, file, place.as_ref())?;
            let mut files = sealed.files.to_vec();
            let back = without_content(&mut files[index]);
            let left = Some(files[index].clone()).filter(|delta| !delta.is_empty());
            if left.is_none() {
                files.remove(index);
            }
            let before = state.pending.files.get(&file).cloned();
            state.sealed = Some(Sealed { files: Arc::new(files), ..sealed.clone() });
            if let Some(content) = state.pending.files.get_mut(&file).filter(|delta| delta.content.is_some()) {
                // What was written on top replaces what comes back, as it replaced what was lost.
                content.replaced.extend(back.iter().copied());
                content.replaced.sort_unstable();
                content.replaced.dedup();
            }
            let live = match self.live_anew(state) {
                Ok(live) => live,
                Err(error) => {
                    state.sealed = Some(sealed);
                    state.pending.files.extend(before.map(|delta| (file, delta)));
                    return Err(error);
                }
            };
            state.put_live(live);
            let mut unit = vec![Write::Pending {
                generation: sealed.generation,
                file,
                delta: left.as_ref().map(encode_file_delta),
            }];
            if let Some(delta) = state.pending.files.get(&file) {
                let delta = Some(encode_file_delta(delta));
                unit.push(Write::Pending { generation: state.row_generation(file), file, delta });
            }
            // Nothing lies under what was written on top any more.
            let above = state
                .bases
                .range_mut((file, 0)..=(file, u64::MAX))
                .filter(|(_, below)| Some(&**below) == lost.as_ref());
            above.for_each(|(_, below)| *below = Content::empty());
            state.bases.remove(&(file, generation));
            let (rows, ending) = self.layers.removal(file, generation)?;
            unit.extend(rows);
            unit.push(self.local_row(state, file));
            let ticket = self.ledger.submit(unit);
            self.layers.drop_file(ending, ticket)?;
            let bindings: Vec<_> = place.map(|place| (place.parent, place.name)).into_iter().collect();
            let directories = bindings.iter().map(|(directory, _)| *directory).collect();
            (path, Change { bindings, files: vec![file], directories, ..Change::default() })
        };
        change.tidy();
        self.announce(&change);
        Ok(Some(path))
    }

    /// The sealed files that only refer to a content, since nobody wrote it for them (a touched conflict copy, what was restored or brought back
    /// from the trash), each with those blobs of it of which this device does not know that they are stored where it says. One whose list is in
    /// `gone` has the list only.
    ///
    /// # Errors
    /// [`VolumeError::Need`] if a list of chunks is not here: fetch it and call again.
    pub fn sealed_references(&self, gone: &BTreeSet<BlobId>) -> Result<Vec<(FileId, Vec<BlobRef>)>, VolumeError> {
        let sealed = self.sealed().filter(|sealed| sealed.record.is_none());
        let (mut found, mut need) = (Vec::new(), Vec::new());
        for delta in sealed.iter().flat_map(|sealed| sealed.files.iter()) {
            let Some(content) = delta.content.as_ref().and_then(|content| content.value.as_ref()) else { continue };
            let blobs = match content {
                Content::BlockList { list, .. } if gone.contains(&list.id) => vec![*list],
                Content::BlockList { list, .. } => match self.block_list(list) {
                    Err(VolumeError::Need(lists)) => {
                        need.extend(lists);
                        continue;
                    }
                    chunks => [&[*list], &*chunks?].concat(),
                },
                Content::Chunks(chunks) => chunks.to_vec(),
                Content::Inline(_) | Content::Pending { .. } => continue,
            };
            let mut unsure = Vec::new();
            for blob in blobs {
                let stored = self.locations.get(&blob.id)?;
                // Elsewhere is not there: nobody else looks where this device knows it to be.
                if stored.is_none() || stored != blob.at {
                    unsure.push(blob);
                }
            }
            if !unsure.is_empty() {
                found.push((delta.id, unsure));
            }
        }
        if need.is_empty() { Ok(found) } else { Err(VolumeError::Need(need)) }
    }

    /// The block lists that sealed files only refer to.
    pub fn sealed_lists(&self) -> Vec<BlobRef> {
        let sealed = self.sealed().filter(|sealed| sealed.record.is_none());
        let files = sealed.iter().flat_map(|sealed| sealed.files.iter());
        let lists = files.filter_map(|delta| match delta.content.as_ref()?.value.as_ref()? {
            Content::BlockList { list, .. } => Some(*list),
            Content::Chunks(_) | Content::Inline(_) | Content::Pending { .. } => None,
        });
        lists.collect()
    }

    /// What these sealed files only refer to is stored with their generation: each gets a layer without any bytes of its own on that.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: nothing changed; fetch and call again.
    pub fn store_anew(&self, files: &BTreeSet<FileId>) -> Result<(), VolumeError> {
        let mut state = self.state.write();
        let state = &mut *state;
        let Some(sealed) = state.sealed.clone().filter(|sealed| sealed.record.is_none()) else { return Ok(()) };
        let generation = sealed.generation;
        let (mut changed, mut laid) = (sealed.files.to_vec(), Vec::new());
        for delta in changed.iter_mut().filter(|delta| files.contains(&delta.id) && delta.source().is_none()) {
            let Some(value) = delta.content.as_mut().and_then(|content| content.value.as_mut()) else { continue };
            let pending = Content::Pending { size: value.size(), generation };
            let below = std::mem::replace(value, pending.clone());
            laid.push((delta.id, encode_file_delta(delta), pending, below));
        }
        self.put_sealed(state, sealed, changed)?;
        for (file, delta, pending, below) in laid {
            // What was written on top lies on what this becomes.
            for (_, base) in state.bases.range_mut((file, 0)..=(file, u64::MAX)).filter(|(_, base)| **base == below) {
                *base = pending.clone();
            }
            self.layers.begin(file, generation, below.size());
            state.bases.insert((file, generation), below);
            let mut unit = self.layers.unit(file, generation)?;
            unit.push(self.local_row(state, file));
            unit.push(Write::Pending { generation, file, delta: Some(delta) });
            let ticket = self.ledger.submit(unit);
            self.layers.submitted(file, generation, ticket);
        }
        Ok(())
    }

    /// What the sealed files that stand on `blob` were made on: every blob of it that is not here, `blob` among them. Empty if none does.
    pub fn below_sealed(&self, blob: BlobId) -> Vec<BlobRef> {
        let mut below = Vec::new();
        for (_, blobs) in self.standing_on(&self.state.read(), blob) {
            below.extend(blobs);
        }
        below.retain(|part| part.id == blob || !self.blobs.contains(&part.id).unwrap_or(false));
        below
    }

    /// Every sealed file that stands on `blob` goes on without it ([`Volume::read_layer`]), beside what it was made on instead of in its place:
    /// should that be somewhere all the same, nothing of it is lost. Returns the paths of the files, for people.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: nothing changed; fetch and call again.
    pub fn stand_beside(&self, blob: BlobId) -> Result<Vec<String>, VolumeError> {
        let (paths, mut change) = {
            let mut state = self.state.write();
            let state = &mut *state;
            let Some(sealed) = state.sealed.clone().filter(|sealed| sealed.record.is_none()) else {
                return Ok(Vec::new());
            };
            let standing: BTreeSet<FileId> = self.standing_on(state, blob).into_iter().map(|(file, _)| file).collect();
            let (mut files, mut paths) = (sealed.files.to_vec(), Vec::new());
            let (mut unit, mut change) = (Vec::new(), Change::default());
            for delta in files.iter_mut().filter(|delta| standing.contains(&delta.id)) {
                let place = place_of(delta);
                paths.push(self.path_of(state, delta.id, place.as_ref())?);
                delta.replaced.retain(|(register, _)| *register != Register::Content);
                let (generation, row) = (sealed.generation, Some(encode_file_delta(delta)));
                unit.push(Write::Pending { generation, file: delta.id, delta: row });
                change.files.push(delta.id);
                change.directories.extend(place.iter().map(|place| place.parent));
                change.bindings.extend(place.map(|place| (place.parent, place.name)));
            }
            self.put_sealed(state, sealed, files)?;
            self.ledger.submit(unit);
            (paths, change)
        };
        change.tidy();
        self.announce(&change);
        Ok(paths)
    }

    /// Gives a sealed generation other changes. On an error it is as it was.
    fn put_sealed(&self, state: &mut State, sealed: Sealed, files: Vec<FileDelta>) -> Result<(), VolumeError> {
        state.sealed = Some(Sealed { files: Arc::new(files), ..sealed.clone() });
        match self.live_anew(state) {
            Ok(live) => {
                state.put_live(live);
                Ok(())
            }
            Err(error) => {
                state.sealed = Some(sealed);
                Err(error)
            }
        }
    }

    /// The sealed files whose bytes lie partly in `blob`, each with all the blobs that it was made on.
    fn standing_on(&self, state: &State, blob: BlobId) -> Vec<(FileId, Vec<BlobRef>)> {
        let mut standing = Vec::new();
        for delta in state.sealed.iter().flat_map(|sealed| sealed.files.iter()) {
            let Some(Content::Pending { generation, .. }) = delta.source() else { continue };
            let Some(base) = state.bases.get(&(delta.id, *generation)) else { continue };
            if let Content::BlockList { list, .. } = base
                && list.id == blob
            {
                standing.push((delta.id, vec![*list]));
                continue;
            }
            // One whose list is not here has asked for none of its chunks.
            let Ok(chunks) = self.chunks(base) else { continue };
            if chunks.iter().any(|chunk| chunk.id == blob) {
                standing.push((delta.id, chunks.to_vec()));
            }
        }
        standing
    }

    /// The live rows by definition: what is sealed and what is pending on top of what is committed.
    fn live_anew(&self, state: &State) -> Result<RowChanges, VolumeError> {
        let mut built = Built {
            root: state.root,
            base: RowChanges::new(),
            live: RowChanges::clone(&state.base),
            digest: state.digest,
            heads: state.heads.clone(),
        };
        built.overlay(&self.nodes, state.sealed.as_ref(), state.pending.files.values())?;
        Ok(built.live)
    }

    fn path_of(&self, state: &State, file: FileId, place: Option<&Place>) -> Result<String, VolumeError> {
        let rows = state.live_rows(&self.nodes);
        let Some(place) = place else { return Ok(format!("file {:x}", file.0)) };
        let mut path = place.name.display().to_string();
        let mut at = place.parent;
        for _ in 0..DEPTH_MAX {
            let Some(place) = render::place(&rows, at)? else { break };
            path = format!("{}/{path}", place.name.display());
            at = place.parent;
        }
        Ok(path)
    }
}

/// Takes the content out of a change; the versions that are not replaced any more.
fn without_content(delta: &mut FileDelta) -> Vec<(Register, Version)> {
    let (back, replaced) = delta.replaced.iter().copied().partition(|(register, _)| *register == Register::Content);
    delta.replaced = replaced;
    let back: Vec<(Register, Version)> = back;
    if !back.is_empty() {
        delta.content = None;
    } else if let Some(content) = delta.content.as_mut() {
        content.value = Some(Content::empty());
    }
    back
}
