//! Sealing: one cut in operation order over all files, fixed as a commit, and taken into the committed state once it is durable on
//! the remote.

use super::change::Change;
use super::encode::{self, SealedHead};
use super::learn::Commit;
use super::state::{Head, STAYING_GENERATION, State};
use super::{Volume, VolumeError};
use crate::ledger::Write;
use ouro_core::codec::encode_file_delta;
use ouro_core::content::Content;
use ouro_core::delta::{Delta, FileDelta, Register};
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceNo, FileId, Hlc, RecordHash, Version};
use ouro_core::render::copy_id;
use ouro_core::row::Row;
use ouro_core::{apply, edit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Files refined under one hold of the lock.
const REFINED_AT_ONCE: usize = 256;

/// The generation that is on its way to the remote.
#[derive(Clone)]
pub struct Sealed {
    /// Which seal generation.
    pub generation: u64,
    /// The version that all its registers have.
    pub version: Version,
    /// The heads it was made on, this device's own among them.
    pub parents: BTreeMap<DeviceNo, Head>,
    /// Digest of the committed state it was made on.
    pub digest: Digest,
    /// What the user said about it; usually empty.
    pub message: String,
    /// What it changes; contents written on this device are still [`Content::Pending`].
    pub files: Arc<Vec<FileDelta>>,
    /// The record's exact bytes and hash, once fixed: these and no others are published.
    pub record: Option<(Arc<[u8]>, RecordHash)>,
}

impl Sealed {
    /// What it changes of a file.
    pub(crate) fn file(&self, file: FileId) -> Option<&FileDelta> {
        self.files.binary_search_by_key(&file, |f| f.id).ok().map(|index| &self.files[index])
    }

    /// All of it but its files.
    pub(crate) fn head(&self) -> SealedHead {
        SealedHead {
            generation: self.generation,
            version: self.version,
            parents: self.parents.clone(),
            digest: self.digest,
            message: self.message.clone(),
        }
    }

    /// Whether a layer of this generation belongs to it.
    pub(crate) fn holds(&self, file: FileId, layer: u64) -> bool {
        let source = self.file(file).and_then(|delta| delta.source());
        matches!(source, Some(Content::Pending { generation, .. }) if *generation == layer)
    }
}

/// What the sealer asks of a sealed file.
pub trait SealedFile {
    /// The content that is to be cut into chunks, if it was written on this device.
    fn source(&self) -> Option<&Content>;
}

impl SealedFile for FileDelta {
    fn source(&self) -> Option<&Content> {
        self.content.as_ref().and_then(|c| c.value.as_ref()).filter(|c| matches!(c, Content::Pending { .. }))
    }
}

impl Volume {
    /// Cuts off everything changed so far as one commit to be, and returns it. `None` if nothing changed, or only ignored names did.
    /// While one is on its way, the same one is returned.
    ///
    /// # Errors
    /// A failing journal; [`VolumeError::Missing`].
    pub fn seal(&self) -> Result<Option<Sealed>, VolumeError> {
        self.seal_as("")
    }

    /// Like [`Volume::seal`], with what the user says about the commit. With a message it is made even if nothing changed, and
    /// one that is on its way is returned as it is, without it.
    ///
    /// # Errors
    /// As [`Volume::seal`].
    pub fn seal_as(&self, message: &str) -> Result<Option<Sealed>, VolumeError> {
        let mut change = Change::default();
        let sealed = self.seal_locked(&mut self.state.write(), message, &mut change, &mut Vec::new());
        change.tidy();
        self.announce(&change);
        sealed
    }

    /// `unit` is what goes into the journal before the seal, and with it if nothing is pending; what could not go there is left in it.
    pub(super) fn seal_locked(
        &self,
        state: &mut State,
        message: &str,
        change: &mut Change,
        unit: &mut Vec<Write>,
    ) -> Result<Option<Sealed>, VolumeError> {
        if state.sealed.is_some() {
            return Ok(state.sealed.clone());
        }
        self.check_writable(state)?;
        self.settle_hot(state)?;
        state.trash_due = false;
        if state.pending.files.is_empty() && message.is_empty() {
            return Ok(None);
        }
        if !state.pending.files.is_empty() {
            self.ledger.submit(std::mem::take(unit));
        }
        self.forget_the_trash(state)?;
        self.edit_locked(state, &mut |edit| Ok(((), edit.settle()?)))?;
        let mut waiting = self.bury(state, change, &|state, seen| !state.open.contains_key(&seen.id))?;
        self.take_back_ignored(state)?;
        self.release_held(state, change)?;
        change.append(self.keep_identities(state, &mut waiting)?);
        state.trash_waits = !waiting.is_empty();
        self.edit_locked(state, &mut |edit| edit.place_newborns())?;
        let (files, staying) = self.part_ignored(state, &waiting)?;
        self.leave(state, &files, &staying);
        if files.is_empty() && message.is_empty() {
            return Ok(None);
        }
        let floor = edit::hlc_floor(&state.live_rows(&self.nodes), &state.pending)?;
        let version = self.next_version(state, floor);
        // What only goes has no register that gets a version; it would be searched for everywhere.
        let stands = |f: &FileDelta| state.pending.files.get(&f.id).and_then(place_of);
        let hints: Vec<_> = files.iter().filter(|f| adds(f)).map(|f| (f, stands(f))).collect();
        let sealed_rows = apply::seal(&state.live_rows(&self.nodes), &hints, version)?;
        state.lay(sealed_rows.changes);
        let head = SealedHead {
            generation: state.generation,
            version,
            parents: state.heads.clone(),
            digest: state.digest,
            message: message.to_owned(),
        };
        self.part(state, &files, &staying, unit);
        unit.push(encode::sealed(&head));
        unit.push(encode::meta(encode::META_CLOCK, encode::number(version.hlc.0)));
        state.generation += 1;
        unit.push(encode::meta(encode::META_GENERATION, encode::number(state.generation)));
        self.ledger.submit(std::mem::take(unit));
        for file in &files {
            state.writable.remove(&file.id);
            state.hot.remove(&file.id);
        }
        state.clock = version.hlc;
        state.pending.files = staying.into_iter().map(|f| (f.id, f)).collect();
        let SealedHead { generation, version, parents, digest, message } = head;
        state.sealed =
            Some(Sealed { generation, version, parents, digest, message, files: Arc::new(files), record: None });
        Ok(state.sealed.clone())
    }

    /// Notes which changes stay. Their rows go where no seal touches them, and those of changes that stayed until now come back: at any
    /// moment the journal has those of [`State::staying`] there and all others in the present generation.
    fn leave(&self, state: &mut State, files: &[FileDelta], staying: &[FileDelta]) {
        let leaves: BTreeSet<FileId> = files.iter().map(|delta| delta.id).collect();
        // What is parted is one change until the seal.
        let now = staying.iter().map(|delta| delta.id).filter(|id| !leaves.contains(id)).collect();
        let before = std::mem::replace(&mut state.staying, now);
        let go = state.staying.difference(&before).map(|id| (id, state.generation, STAYING_GENERATION));
        let come = leaves.intersection(&before).map(|id| (id, STAYING_GENERATION, state.generation));
        let mut unit = Vec::new();
        for (id, from, to) in go.chain(come) {
            unit.push(Write::Pending { generation: from, file: *id, delta: None });
            let delta = state.pending.files.get(id).map(encode_file_delta);
            unit.push(Write::Pending { generation: to, file: *id, delta });
        }
        self.ledger.submit(unit);
    }

    /// Of a change that is sealed in part, the rest stays.
    fn part(&self, state: &mut State, files: &[FileDelta], staying: &[FileDelta], unit: &mut Vec<Write>) {
        for rest in staying {
            let Ok(index) = files.binary_search_by_key(&rest.id, |f| f.id) else { continue };
            for (generation, delta) in [(state.generation, &files[index]), (STAYING_GENERATION, rest)] {
                unit.push(Write::Pending { generation, file: rest.id, delta: Some(encode_file_delta(delta)) });
            }
            state.staying.insert(rest.id);
        }
    }

    /// The generation that is on its way, if any.
    pub fn sealed(&self) -> Option<Sealed> {
        self.state.read().sealed.clone()
    }

    fn next_version(&self, state: &State, floor: Hlc) -> Version {
        let hlc = self.wall(state).max(state.clock.next()).max(floor.next());
        Version { hlc, device: state.device, seq: state.own_seq().next() }
    }

    /// Fixes the bytes of the sealed generation's record: from now on these are published and no others. Durable when it returns.
    ///
    /// # Errors
    /// A failing journal: nothing may be published then.
    pub fn fix_record(&self, bytes: Arc<[u8]>, hash: RecordHash) -> Result<(), VolumeError> {
        let ticket = {
            let mut state = self.state.write();
            let ticket = self.ledger.submit(vec![encode::record(&hash, &bytes)]);
            if let Some(sealed) = state.sealed.as_mut() {
                sealed.record = Some((bytes, hash));
            }
            ticket
        };
        Ok(self.ledger.flush(ticket, true)?)
    }

    /// Forgets the bytes of the sealed generation's record: they were never published and will not be, for they refer to what is gone.
    ///
    /// # Errors
    /// A failing journal.
    pub fn unfix_record(&self) -> Result<(), VolumeError> {
        let ticket = {
            let mut state = self.state.write();
            if let Some(sealed) = state.sealed.as_mut() {
                sealed.record = None;
            }
            self.ledger.submit(vec![Write::Meta { key: encode::META_RECORD, value: None }])
        };
        Ok(self.ledger.flush(ticket, true)?)
    }

    /// Takes the sealed generation into the committed state: its record is durable on the remote. `delta` is what the record says,
    /// with the contents it got.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again; a failing journal.
    pub fn confirm(&self, delta: Delta) -> Result<(), VolumeError> {
        let Some(sealed) = self.sealed() else { return Ok(()) };
        let Some((_, hash)) = sealed.record else { return Ok(()) };
        let version = sealed.version;
        for files in delta.files.chunks(REFINED_AT_ONCE) {
            let mut state = self.state.write();
            self.refine(&mut state, &sealed, files)?;
        }
        let applied = {
            let state = self.state.read();
            // It may be in a checkpoint that this device has begun on since: see `Built::overlay`.
            let committed = state.heads.get(&version.device).is_some_and(|head| head.seq >= version.seq);
            if committed { None } else { Some(apply::apply(&state.base_rows(&self.nodes), &delta, version)?) }
        };
        let commit = Commit {
            device: version.device,
            seq: version.seq,
            hash,
            hlc: version.hlc,
            parents: sealed.parents.clone(),
            message: sealed.message.clone(),
            delta,
            checkpoint: None,
        };
        let mut unit = vec![
            encode::commit(&commit),
            Write::Meta { key: encode::META_SEALED, value: None },
            Write::Meta { key: encode::META_RECORD, value: None },
        ];
        let mut state = self.state.write();
        let state = &mut *state;
        let mut ended = Vec::new();
        for file in sealed.files.iter() {
            unit.push(Write::Pending { generation: sealed.generation, file: file.id, delta: None });
            if let Some(Content::Pending { generation, .. }) = file.source() {
                let (rows, ending) = self.layers.removal(file.id, *generation)?;
                unit.extend(rows);
                ended.push(ending);
                state.bases.remove(&(file.id, *generation));
                unit.push(self.local_row(state, file.id));
            }
        }
        if let Some(applied) = applied {
            state.lay_below(applied.changes);
            state.digest = state.digest.plus(applied.digest);
            state.count(&commit);
            state.heads.insert(version.device, Head { seq: version.seq, hash, hlc: version.hlc });
        }
        state.sealed = None;
        // What waited only for this is buried now; what is open is when it is closed.
        state.trash_due |= state.trash_waits && sealed.files.iter().any(|file| !state.open.contains_key(&file.id));
        let ticket = self.ledger.submit(unit);
        // The disk forgets the layers only after the journal did: a crash between must not find a row without its file.
        for file in ended {
            self.layers.drop_file(file, ticket)?;
        }
        Ok(())
    }

    /// Gives rows, and layers on top, the contents that the sealed files got.
    fn refine(&self, state: &mut State, sealed: &Sealed, files: &[FileDelta]) -> Result<(), VolumeError> {
        let mut unit = Vec::new();
        for delta in files {
            let Some(value) = delta.content.as_ref().and_then(|c| c.value.as_ref()) else { continue };
            let Ok(index) = sealed.files.binary_search_by_key(&delta.id, |f| f.id) else { continue };
            let Some(source) = sealed.files[index].source() else { continue };
            // What was changed since says where the file stands, and whether this content is seen at all: a search through all rows for each
            // file that was moved or removed meanwhile would stop the box for minutes.
            let later = state.pending.files.get(&delta.id);
            let is_over = later.is_some_and(|l| l.replaced.contains(&(Register::Content, sealed.version)));
            if !is_over {
                let moved = later.and_then(|l| l.placements.iter().find(|p| p.slot == 0)).map(|p| p.place.clone());
                let place = moved.or_else(|| place_of(delta));
                let rows = state.live_rows(&self.nodes);
                let refined = apply::refine(&rows, delta.id, place.as_ref(), sealed.version, value)?;
                state.lay(refined.changes);
            }
            // Somebody else's content may have come in first: then this one was a copy, and may have been touched as one.
            let copy = copy_id(delta.id, sealed.version);
            refine_touched_copy(state, copy, source, value, &mut unit);
            for file in [delta.id, copy] {
                let above: Vec<u64> = state
                    .bases
                    .range((file, 0)..=(file, u64::MAX))
                    .filter(|(_, base)| *base == source)
                    .map(|((_, generation), _)| *generation)
                    .collect();
                for generation in above {
                    state.bases.insert((file, generation), value.clone());
                    unit.push(self.local_row(state, file));
                }
                if let Some(orphan) = state.open.get_mut(&file).and_then(|o| o.orphan.as_mut())
                    && orphan.content == *source
                {
                    orphan.content = value.clone();
                }
            }
        }
        self.ledger.submit(unit);
        Ok(())
    }
}

/// Where a file's record stands after its change, as a hint.
pub(crate) fn place_of(delta: &FileDelta) -> Option<ouro_core::state::Place> {
    delta.placements.first().map(|p| p.place.clone()).or_else(|| delta.hint.clone())
}

/// Whether a change adds anything to its file.
fn adds(delta: &FileDelta) -> bool {
    !delta.placements.is_empty() || delta.content.is_some() || delta.attributes.is_some()
}

/// Gives a copy that was made a file before its content was published that content.
fn refine_touched_copy(state: &mut State, copy: FileId, source: &Content, value: &Content, unit: &mut Vec<Write>) {
    let generation = state.generation;
    let Some(delta) = state.pending.files.get_mut(&copy) else { return };
    let Some(content) = delta.content.as_mut().filter(|content| content.value.as_ref() == Some(source)) else { return };
    content.value = Some(value.clone());
    unit.push(Write::Pending { generation, file: copy, delta: Some(encode_file_delta(delta)) });
    for row in state.live.values_mut() {
        let Some(Row::Record(record)) = row else { continue };
        if record.id != copy {
            continue;
        }
        for content in Arc::make_mut(record).contents.iter_mut().filter(|c| c.version.is_pending()) {
            content.value = Some(value.clone());
        }
    }
}
