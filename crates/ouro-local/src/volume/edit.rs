//! Operations on the live state: applied in memory, journalled in order, put into effect at once.

use super::state::{Hot, STAYING_GENERATION, State};
use super::{Volume, VolumeError};
use crate::layers::LayerFile;
use crate::ledger::Write;
use ouro_core::birth::{Birth, Born};
use ouro_core::codec::encode_file_delta;
use ouro_core::content::Content;
use ouro_core::edit::{Edit, EditError, Edited};
use ouro_core::id::{FileId, Version};
use ouro_core::row::{Key, Row, RowChanges, Rows};
use ouro_core::state::{File, Place};
use ouro_core::{birth, edit, render};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The layer generation of files that were unlinked while open: never journalled, never sealed.
pub(crate) const ORPHAN_GENERATION: u64 = u64::MAX;

/// File id counters reserved in the ledger at a time.
pub(super) const COUNTERS_RESERVED: u32 = 4096;

/// A file that was unlinked, here or elsewhere, while somebody has it open: it lives until it is closed.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// Its record when its last name went.
    pub record: Arc<File>,
    /// Its content.
    pub content: Content,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change at all, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Another device took its last name: it can be read, but what is written to it would be gone with its last handle, unknown to who
    /// writes, so that is refused.
    pub elsewhere: bool,
}

impl Volume {
    /// Carries out one operation: `op` is given the live state and says what changes; the changes take effect at once, are journalled in
    /// order, and are sealed into a commit later.
    ///
    /// # Errors
    /// What `op` says, [`VolumeError::ReadOnly`], or a failing journal.
    pub fn edit<R>(&self, mut op: impl FnMut(Edit<'_>) -> Result<(R, Edited), EditError>) -> Result<R, VolumeError> {
        let result = {
            let mut state = self.state.write();
            self.check_writable(&state)?;
            self.settle_hot(&mut state)?;
            self.edit_locked(&mut state, &mut op)?
        };
        self.signal_pending();
        Ok(result)
    }

    pub(crate) fn check_writable(&self, state: &State) -> Result<(), VolumeError> {
        if let Some(reason) = &state.read_only {
            return Err(VolumeError::ReadOnly { reason: reason.clone() });
        }
        self.ledger.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }

    pub(crate) fn edit_locked<R>(
        &self,
        state: &mut State,
        op: &mut impl FnMut(Edit<'_>) -> Result<(R, Edited), EditError>,
    ) -> Result<R, VolumeError> {
        let (result, edited, unit) = self.operate(state, &mut |_, edit| op(edit))?;
        self.take_effect(state, edited, unit)?;
        Ok(result)
    }

    /// Asks an operation what it changes; nothing is in effect yet.
    pub(super) fn operate<R>(
        &self,
        state: &mut State,
        op: &mut impl FnMut(&State, Edit<'_>) -> Result<(R, Edited), EditError>,
    ) -> Result<(R, Edited, Vec<Write>), VolumeError> {
        let mut counter = state.counter;
        let (result, edited) = {
            let state = &*state;
            let rows = state.live_rows(&self.nodes);
            let mut fresh = || {
                counter += 1;
                FileId::new(state.device, counter - 1)
            };
            let edit = Edit {
                rows: &rows,
                pending: &state.pending,
                devices: state,
                fresh: &mut fresh,
                now_ns: self.now_ns(),
                generation: state.generation,
            };
            op(state, edit)?
        };
        let mut unit = Vec::with_capacity(edited.pending.len() + 1);
        unit.extend(hand_out(state, counter));
        Ok((result, edited, unit))
    }

    /// What a commit says that makes entries: ids are handed out for them, nothing else happens. [`Volume::fix_outright`] comes next.
    ///
    /// # Errors
    /// [`VolumeError::ReadOnly`], [`VolumeError::Missing`], or a failing journal.
    pub fn bear(&self, births: &[Birth]) -> Result<Born, VolumeError> {
        let (device, mut counter) = {
            let mut state = self.state.write();
            self.check_writable(&state)?;
            let first = state.counter;
            let reserved = hand_out(&mut state, first.saturating_add(births.len() as u32));
            if let Some(reserved) = reserved {
                self.ledger.submit(vec![reserved]);
            }
            (state.device, first)
        };
        let mut fresh = || {
            counter += 1;
            FileId::new(device, counter - 1)
        };
        let view = self.view();
        Ok(birth::bear(&view, &view, &mut fresh, births)?)
    }

    /// Puts what an operation changes into effect, and into the journal after what `unit` holds already.
    pub(super) fn take_effect(
        &self,
        state: &mut State,
        edited: Edited,
        mut unit: Vec<Write>,
    ) -> Result<(), VolumeError> {
        let ended = self.put_in_effect(state, edited, &mut unit)?;
        let ticket = self.ledger.submit(unit);
        for file in ended {
            self.layers.drop_file(file, ticket)?;
        }
        Ok(())
    }

    /// Puts rows and overlay entries into memory and the same into `unit`.
    /// Returns the layers that ended: their bytes go once the unit is durable.
    fn put_in_effect(
        &self,
        state: &mut State,
        edited: Edited,
        unit: &mut Vec<Write>,
    ) -> Result<Vec<LayerFile>, VolumeError> {
        let mut ended = Vec::new();
        self.adopt_orphans(state, &edited.changes, false);
        for (file, delta) in edited.pending {
            if let Some(layer) = state.writable.get(&file).copied() {
                let layered = delta.as_ref().and_then(|d| d.content.as_ref()).is_some_and(
                    |c| matches!(&c.value, Some(Content::Pending { generation, .. }) if *generation == layer),
                );
                if !layered {
                    ended.extend(self.end_layer(state, file, layer, unit)?);
                }
            }
            if state.staying.remove(&file) {
                unit.push(Write::Pending { generation: STAYING_GENERATION, file, delta: None });
            }
            let generation = state.generation;
            unit.push(Write::Pending { generation, file, delta: delta.as_ref().map(encode_file_delta) });
            match delta {
                Some(delta) => state.pending.files.insert(file, delta),
                None => state.pending.files.remove(&file),
            };
        }
        state.lay(edited.changes);
        Ok(ended)
    }

    /// The file's content is no longer the layer. `None` if somebody has the unlinked file open: then its bytes stay until it is closed.
    fn end_layer(
        &self,
        state: &mut State,
        file: FileId,
        generation: u64,
        unit: &mut Vec<Write>,
    ) -> Result<Option<LayerFile>, VolumeError> {
        state.writable.remove(&file);
        state.hot.remove(&file);
        state.hot_dirty.remove(&file);
        if state.open.get(&file).is_some_and(|o| o.orphan.is_some()) {
            return Ok(None);
        }
        let (rows, ending) = self.layers.removal(file, generation)?;
        unit.extend(rows);
        state.bases.remove(&(file, generation));
        unit.push(self.local_row(state, file));
        Ok(Some(ending))
    }

    /// A file of which only rows vanish has lost its last name: if it is open, it lives on as an orphan.
    pub(crate) fn adopt_orphans(&self, state: &mut State, changes: &RowChanges, elsewhere: bool) {
        if state.open.is_empty() {
            return;
        }
        let mut alive: BTreeMap<FileId, bool> = BTreeMap::new();
        for (key, row) in changes {
            *alive.entry(key.file).or_default() |= row.is_some();
        }
        for (file, alive) in alive {
            if alive || state.open.get(&file).is_none_or(|o| o.orphan.is_some()) {
                continue;
            }
            let rows = state.live_rows(&self.nodes);
            let record = changes.keys().filter(|k| k.file == file).find_map(|key| match rows.get(key) {
                Ok(Some(Row::Record(record))) => Some(record),
                _ => None,
            });
            let Some(record) = record else { continue };
            let content = record.contents.last().and_then(|c| c.value.clone()).unwrap_or_else(Content::empty);
            let seen = record.seen_attributes();
            let (mtime_ns, ctime_ns) = seen.map_or((0, 0), |a| (a.mtime_ns, a.ctime_ns));
            let (size, mtime_ns, ctime_ns) = match state.hot.get(&file) {
                Some(hot) => (hot.size, hot.mtime_ns, self.now_ns()),
                None => (content.size(), mtime_ns, self.now_ns().max(ctime_ns)),
            };
            let orphan = Orphan { size, mtime_ns, ctime_ns, record, content, elsewhere };
            if let Some(open) = state.open.get_mut(&file) {
                open.orphan = Some(orphan);
            }
        }
    }

    /// Puts what open writers know into rows, overlay and journal.
    pub(crate) fn settle_hot(&self, state: &mut State) -> Result<(), VolumeError> {
        while let Some(file) = state.hot_dirty.first().copied() {
            self.settle(state, file)?;
        }
        Ok(())
    }

    /// Puts what the open writer of one file knows into its row, overlay and journal.
    pub(crate) fn settle(&self, state: &mut State, file: FileId) -> Result<(), VolumeError> {
        if !state.hot_dirty.contains(&file) {
            return Ok(());
        }
        let Some(hot) = state.hot.get(&file).cloned() else {
            state.hot_dirty.remove(&file);
            return Ok(());
        };
        let Some(generation) = state.writable.get(&file).copied() else {
            state.hot_dirty.remove(&file);
            return Ok(());
        };
        let found = record_place(state, file, &hot.place);
        if !patch(state, file, generation, found.as_ref(), &hot) {
            // The row is not the plain one: let the rules decide, where the file is to be seen.
            let seen_at = found.as_ref().map_or(&hot.place, |found| &found.place);
            match self.seen_at(state, file, seen_at)? {
                Some((seen, union)) => {
                    let mut attributes = seen.attributes();
                    attributes.mtime_ns = hot.mtime_ns;
                    attributes.ctime_ns = hot.ctime_ns;
                    let content = Content::Pending { size: hot.size, generation };
                    self.edit_locked(state, &mut |e| e.write(&seen, &union, content.clone(), attributes.clone()))?;
                }
                None => patch_unseen(state, file, generation, found.as_ref(), &hot),
            }
        }
        if let (Some(found), Some(hot)) = (found, state.hot.get_mut(&file)) {
            hot.place = found.place;
        }
        let mut unit = self.layers.unit(file, generation)?;
        if let Some(delta) = state.pending.files.get(&file) {
            if state.staying.remove(&file) {
                unit.push(Write::Pending { generation: STAYING_GENERATION, file, delta: None });
            }
            let generation = state.generation;
            unit.push(Write::Pending { generation, file, delta: Some(encode_file_delta(delta)) });
        }
        let ticket = self.ledger.submit(unit);
        self.layers.submitted(file, generation, ticket);
        state.hot_dirty.remove(&file);
        Ok(())
    }

    /// The entry at a place, if it is this file or a union with this directory in it, with the union of directories it stands in.
    pub(crate) fn seen_at(
        &self,
        state: &State,
        file: FileId,
        at: &Place,
    ) -> Result<Option<(render::Seen, Vec<FileId>)>, VolumeError> {
        let rows = state.live_rows(&self.nodes);
        let mut union = render::members(&rows, at.parent)?;
        if union.is_empty() {
            union = vec![at.parent];
        }
        let seen = render::lookup(&rows, state, &union, &at.name)?;
        Ok(seen.filter(|seen| seen.id == file || seen.members().contains(&file)).map(|seen| (seen, union)))
    }

    /// The file at a place where another one is shown, with the union of directories it stands in.
    pub(crate) fn out_of_sight_at(
        &self,
        state: &State,
        file: FileId,
        at: &Place,
    ) -> Result<Option<(render::Seen, Vec<FileId>)>, VolumeError> {
        let rows = state.live_rows(&self.nodes);
        let union = render::members(&rows, at.parent)?;
        Ok(render::out_of_sight(&rows, &union, &at.name, file)?.map(|seen| (seen, union)))
    }

    /// Counts an opening of a file.
    ///
    /// # Errors
    /// [`VolumeError::Gone`] for an id that a file was born with and has no more since it was sealed as the one whose name it took:
    /// look again.
    pub fn open(&self, file: FileId) -> Result<(), VolumeError> {
        let mut state = self.state.write();
        if state.retired.contains(&file) {
            return Err(VolumeError::Gone);
        }
        state.open.entry(file).or_default().count += 1;
        Ok(())
    }

    /// Whether somebody has a file open.
    pub fn is_open(&self, file: FileId) -> bool {
        self.state.read().open.contains_key(&file)
    }

    /// Counts a closing: what was written is journalled, and an orphan ends with its last handle.
    ///
    /// # Errors
    /// A failing journal or disk.
    pub fn close(&self, file: FileId) -> Result<(), VolumeError> {
        let (closed, is_due) = {
            let mut state = self.state.write();
            let closed = self.close_locked(&mut state, file);
            state.trash_due |= state.trash_waits && !state.open.contains_key(&file);
            (closed, state.trash_due)
        };
        if is_due {
            self.signal_pending();
        }
        closed
    }

    fn close_locked(&self, state: &mut State, file: FileId) -> Result<(), VolumeError> {
        let settled = self.settle(state, file);
        let Some(open) = state.open.get_mut(&file) else { return settled };
        open.count = open.count.saturating_sub(1);
        if open.count == 0 {
            let orphan = state.open.remove(&file).and_then(|o| o.orphan);
            if orphan.is_some() {
                self.drop_orphan_layers(state, file)?;
            } else if !state.hot_dirty.contains(&file) {
                state.hot.remove(&file);
            }
        }
        settled
    }

    /// A file that lost its last name here while somebody has it open, and that another device edited meanwhile, is back: from now on it is
    /// what everybody sees again, for those who have it open too.
    pub(crate) fn end_revived_orphans(&self, state: &mut State, changes: &RowChanges) -> Result<(), VolumeError> {
        let orphans: Vec<FileId> = state.open.iter().filter(|(_, o)| o.orphan.is_some()).map(|(f, _)| *f).collect();
        for file in orphans {
            if changes.iter().any(|(key, row)| key.file == file && row.is_some()) {
                if let Some(open) = state.open.get_mut(&file) {
                    open.orphan = None;
                }
                self.drop_orphan_layers(state, file)?;
            }
        }
        Ok(())
    }

    fn drop_orphan_layers(&self, state: &mut State, file: FileId) -> Result<(), VolumeError> {
        state.hot.remove(&file);
        state.hot_dirty.remove(&file);
        let sealed = state.sealed.as_ref();
        let dead: Vec<u64> = state
            .bases
            .range((file, 0)..=(file, u64::MAX))
            .map(|((_, generation), _)| *generation)
            .filter(|g| !sealed.is_some_and(|s| s.holds(file, *g)))
            .collect();
        let (mut unit, mut ended) = (Vec::new(), Vec::new());
        for generation in dead {
            state.bases.remove(&(file, generation));
            let (rows, ending) = self.layers.removal(file, generation)?;
            unit.extend(rows);
            ended.push(ending);
        }
        unit.push(self.local_row(state, file));
        let ticket = self.ledger.submit(unit);
        for file in ended {
            self.layers.drop_file(file, ticket)?;
        }
        Ok(())
    }

    /// What a file unlinked while open still is.
    pub fn orphan(&self, file: FileId) -> Option<Orphan> {
        self.state.read().open.get(&file).and_then(|o| o.orphan.clone())
    }

    /// Changes an orphan's attributes (its record is seen by nobody else).
    pub fn edit_orphan(&self, file: FileId, change: impl FnOnce(&mut Orphan)) {
        if let Some(orphan) = self.state.write().open.get_mut(&file).and_then(|o| o.orphan.as_mut()) {
            change(orphan);
        }
    }

    /// Forgets the hot times of a file, after they were set by hand; call it before the edit that sets them.
    ///
    /// # Errors
    /// A failing journal.
    pub fn cool(&self, file: FileId) -> Result<(), VolumeError> {
        let mut state = self.state.write();
        self.settle(&mut state, file)?;
        state.hot.remove(&file);
        Ok(())
    }

    /// Files changed and not sealed yet.
    pub fn pending_files(&self) -> edit::Pending {
        self.state.read().pending.clone()
    }
}

/// Counters below `counter` are used up: returns what the journal has to know of that, if anything.
fn hand_out(state: &mut State, counter: u32) -> Option<Write> {
    state.counter = counter;
    if counter < state.counter_reserved {
        return None;
    }
    state.counter_reserved = counter.saturating_add(COUNTERS_RESERVED);
    Some(super::encode::counter(state.counter_reserved))
}

/// Where a record stands among the rows that changed.
struct Found {
    key: Key,
    /// A place at which the file may be seen.
    place: Place,
}

/// Finds the record of a file that is being written, which is always among the rows that changed: where its writer found it, where its
/// change puts it, and else by its id.
fn record_place(state: &State, file: FileId, noted: &Place) -> Option<Found> {
    let delta = state.pending.files.get(&file)?;
    let hints = delta.placements.iter().map(|p| &p.place).chain(delta.content.iter().map(|c| &c.at)).chain(&delta.hint);
    for place in [noted].into_iter().chain(hints) {
        let slots = Key::at(place, file, 0)..=Key::at(place, file, u64::MAX);
        let found = state.live.range(slots).find(|(_, row)| matches!(row, Some(Row::Record(_))));
        if let Some((key, _)) = found {
            return Some(Found { key: key.clone(), place: place.clone() });
        }
    }
    let is_it = |row: &Option<Row>| matches!(row, Some(Row::Record(record)) if record.id == file);
    let homeless = Key::homeless(file);
    let key = match state.live.get(&homeless) {
        Some(row) if is_it(row) => homeless,
        _ => state.live.iter().find(|(_, row)| is_it(row))?.0.clone(),
    };
    let Some(Some(Row::Record(record))) = state.live.get(&key) else { return None };
    let named = key.directory != FileId::HOMELESS;
    let own = named.then(|| Place { parent: key.directory, name: key.name.clone() });
    let place = own.or_else(|| record.placements.first().map(|p| p.place.clone()));
    let place = place.or_else(|| record.contents.first().map(|c| c.at.clone())).unwrap_or_else(|| noted.clone());
    Some(Found { key, place })
}

/// The quick way for the ordinary file: same rows, new size and times.
fn patch(state: &mut State, file: FileId, generation: u64, found: Option<&Found>, hot: &Hot) -> bool {
    let Some(delta) = state.pending.files.get_mut(&file) else { return false };
    let Some(Content::Pending { size, generation: g }) = delta.content.as_mut().and_then(|c| c.value.as_mut()) else {
        return false;
    };
    let Some(attributes) = delta.attributes.as_mut() else { return false };
    let Some(Some(Row::Record(record))) = found.and_then(|found| state.live.get_mut(&found.key)) else { return false };
    if *g != generation || record.contents.len() != 1 || record.attributes.len() != 1 {
        return false;
    }
    let record = Arc::make_mut(record);
    if record.contents[0].version != Version::PENDING || record.attributes[0].version != Version::PENDING {
        return false;
    }
    *size = hot.size;
    attributes.mtime_ns = hot.mtime_ns;
    attributes.ctime_ns = hot.ctime_ns;
    record.contents[0].value = Some(Content::Pending { size: hot.size, generation });
    record.attributes[0].value.mtime_ns = hot.mtime_ns;
    record.attributes[0].value.ctime_ns = hot.ctime_ns;
    true
}

/// The way for a file that is nowhere to be seen, such as one inside of `.git` that lost its name to a directory from afar: its registers
/// get what was written, for they are what is sealed.
fn patch_unseen(state: &mut State, file: FileId, generation: u64, found: Option<&Found>, hot: &Hot) {
    let written = Content::Pending { size: hot.size, generation };
    let delta = state.pending.files.get_mut(&file);
    let Some(delta) = delta.filter(|d| d.content.is_some()) else {
        // The layer and the change that names it come and go together.
        tracing::error!(file = file.0, "bytes were written to a file that has no change");
        return;
    };
    if let Some(content) = delta.content.as_mut() {
        content.value = Some(written.clone());
    }
    if let Some(attributes) = delta.attributes.as_mut() {
        attributes.mtime_ns = hot.mtime_ns;
        attributes.ctime_ns = hot.ctime_ns;
    }
    let Some(Some(Row::Record(record))) = found.and_then(|found| state.live.get_mut(&found.key)) else { return };
    let record = Arc::make_mut(record);
    for content in record.contents.iter_mut().filter(|c| c.version.is_pending()) {
        content.value = Some(written.clone());
    }
    for attributes in record.attributes.iter_mut().filter(|a| a.version.is_pending()) {
        attributes.value.mtime_ns = hot.mtime_ns;
        attributes.value.ctime_ns = hot.ctime_ns;
    }
}
