//! Which changes never travel: those of names that `.ouroignore` or the built-in rules ignore stay in the overlay for ever.

use super::change::Change;
use super::learn::Built;
use super::state::State;
use super::trash::{Waiting, part_waiting};
use super::{Volume, VolumeError};
use crate::ignore::{Ignore, RULES_BYTES_MAX, RULES_NAME};
use ouro_core::content::Content;
use ouro_core::delta::{Delta, FileDelta, Register};
use ouro_core::edit::{held, is_held, is_shown_though_removed};
use ouro_core::id::{FileId, NodeId};
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::row::{Key, Row, Rows};
use ouro_core::state::{Kind, Place};
use std::collections::{BTreeMap, BTreeSet};

/// Deeper paths are not looked at.
const DEPTH_MAX: usize = 4_096;
/// Entries asked of a directory at a time.
const PAGE: usize = 1_000;

/// Judges the paths of one seal.
struct Judge<'a> {
    volume: &'a Volume,
    state: &'a State,
    rules: Ignore,
    paths: BTreeMap<FileId, Vec<Name>>,
}

impl Volume {
    /// Parts the pending changes into those to be sealed and those that stay. What is tracked already stays tracked, and takes the
    /// directories that it was moved into along; but what is `waiting` for its burial stays where it lies, and may be among both.
    pub(super) fn part_ignored(
        &self,
        state: &State,
        waiting: &Waiting,
    ) -> Result<(Vec<FileDelta>, Vec<FileDelta>), VolumeError> {
        let mut judge = Judge { volume: self, state, rules: Ignore::new(), paths: BTreeMap::new() };
        let mut staying: BTreeSet<FileId> = BTreeSet::new();
        let part = |file: &FileId| Some((*file, part_waiting(state.pending.files.get(file)?, waiting)));
        let parted: BTreeMap<FileId, (FileDelta, FileDelta)> =
            waiting.iter().filter_map(|(file, _)| part(file)).collect();
        let goes = |delta| goes_of(&parted, delta);
        for delta in state.pending.files.values().map(goes).filter(|delta| delta.replaced.is_empty()) {
            if let Some(placement) = delta.placements.first()
                && (is_held(delta)
                    || judge.ignores(&placement.place, delta.kind)?
                        && self.is_unheard_of(state, delta, &placement.place)?)
            {
                staying.insert(delta.id);
            }
        }
        for delta in state.pending.files.values().filter(|delta| is_held(delta)) {
            if judge.shows_others(delta.id, &staying)? {
                staying.remove(&delta.id);
            }
        }
        let mut leaving: Vec<FileId> =
            state.pending.files.keys().filter(|id| !staying.contains(*id)).copied().collect();
        while let Some(id) = leaving.pop() {
            for placement in state.pending.files.get(&id).map(goes).iter().flat_map(|delta| &delta.placements) {
                if staying.remove(&placement.place.parent) {
                    leaving.push(placement.place.parent);
                }
            }
        }
        let (mut files, mut stays) = (Vec::new(), Vec::new());
        for delta in state.pending.files.values() {
            match parted.get(&delta.id) {
                _ if staying.contains(&delta.id) => stays.push(delta.clone()),
                Some((goes, waits)) => {
                    files.extend(Some(goes).filter(|goes| !goes.is_empty()).cloned());
                    stays.extend(Some(waits).filter(|waits| !waits.is_empty()).cloned());
                }
                None => files.push(delta.clone()),
            }
        }
        Ok((files, stays))
    }

    /// Whether any of these names is not ignored.
    pub(super) fn is_any_tracked<'a>(
        &self,
        state: &State,
        names: impl Iterator<Item = &'a Place>,
        kind: Kind,
    ) -> Result<bool, VolumeError> {
        let mut judge = Judge { volume: self, state, rules: Ignore::new(), paths: BTreeMap::new() };
        for name in names {
            if !judge.ignores(name, kind)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes back the ignored names of files that others removed: no seal would ever take them.
    pub(super) fn take_back_ignored(&self, state: &mut State) -> Result<(), VolumeError> {
        let mut names = Vec::new();
        let mut judge = Judge { volume: self, state, rules: Ignore::new(), paths: BTreeMap::new() };
        for delta in state.pending.files.values().filter(|delta| is_name_only(delta)) {
            for placement in &delta.placements {
                if judge.ignores(&placement.place, delta.kind)? {
                    names.push((delta.id, placement.place.clone()));
                }
            }
        }
        for (file, name) in names {
            self.take_back(state, file, &name)?;
        }
        Ok(())
    }

    /// Whether nobody else knows of a file that stands at a place since a change which replaces nothing. Others may all the same: of one that they had
    /// removed and that was shown, and of a conflict copy of which they made a file, too.
    pub(super) fn is_unheard_of(&self, state: &State, delta: &FileDelta, place: &Place) -> Result<bool, VolumeError> {
        // Who makes a file says all of it.
        if delta.attributes.is_some() && !delta.id.is_derived() {
            return Ok(true);
        }
        let seen = self.seen_at(state, delta.id, place)?;
        Ok(seen.is_none_or(|(seen, _)| seen.file().is_unheard_of()))
    }

    /// A removed directory whose record a commit forgets stays here if it is shown here only, for what is ignored in it: nobody else knew of
    /// that when the record was forgotten. It is never committed, unless something that is not ignored is in it.
    pub(super) fn hold_purged(&self, state: &mut State, delta: &Delta) -> Result<(), VolumeError> {
        if state.pending.files.is_empty() {
            return Ok(());
        }
        let is_placement = |(register, _): &(Register, _)| matches!(register, Register::Placement { .. });
        let is_purged = |file: &&FileDelta| {
            file.kind == Kind::Directory && file.placements.is_empty() && file.replaced.iter().any(is_placement)
        };
        let mut held = Vec::new();
        for file in delta.files.iter().filter(is_purged) {
            // One with a pending change is held already, or not forgotten for that change.
            if !state.pending.files.contains_key(&file.id)
                && is_shown_though_removed(&state.live_rows(&self.nodes), file.id)?
                && !is_shown_though_removed(&state.base_rows(&self.nodes), file.id)?
            {
                held.push(file.id);
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        self.edit_locked(state, &mut |edit| edit.hold(&held))
    }

    /// The same for directories whose records were forgotten by commits that this device does not learn one by one: it begins anew on `fresh`.
    /// Returns what holds them there. Of the tree that this device leaves, nothing need be on the remote any more: only a directory's attributes
    /// are read of it, and of one whose record is in a node that is `gone` there are none.
    pub(super) fn hold_unknown(
        &self,
        state: &State,
        fresh: &Built,
        gone: &BTreeSet<NodeId>,
    ) -> Result<Vec<FileDelta>, VolumeError> {
        let (rows, committed) = (state.live_rows(&self.nodes), fresh.committed(&self.nodes));
        let sealed = state.sealed.as_ref().filter(|sealed| !fresh.holds(sealed));
        let mut holding = Vec::new();
        for (key, row) in &state.live {
            // A removed directory that only this device shows has a reference that is in no commit. Marks of cuts are none, and `Recovered/` has no
            // record.
            let is_reference = key.directory != FileId::HOMELESS && *row == Some(Row::Reference(Kind::Directory));
            if !is_reference || key.file == FileId::RECOVERED || state.base.get(key) == Some(row) {
                continue;
            }
            let directory = key.file;
            let is_changed = state.pending.files.contains_key(&directory)
                || sealed.is_some_and(|sealed| sealed.file(directory).is_some());
            // Every commit known here is in `fresh`: what is not known there was purged.
            if is_changed || committed.get(&Key::header(directory))?.is_some() {
                continue;
            }
            let attributes = match rows.get(&Key::homeless(directory)) {
                Ok(Some(Row::Record(record))) => record.seen_attributes().cloned(),
                Ok(_) => None,
                Err(missing) if gone.contains(&missing.node) => None,
                Err(missing) => return Err(missing.into()),
            };
            let place = Place { parent: key.directory, name: key.name.clone() };
            holding.push(held(directory, place, attributes));
        }
        Ok(holding)
    }

    /// Lets go of what is held ([`Volume::hold_purged`]) and shows nothing any more: what held it was removed by others, by this device, or
    /// stands elsewhere. Nobody else would ever see it go.
    pub(super) fn release_held(&self, state: &mut State, change: &mut Change) -> Result<(), VolumeError> {
        let held: Vec<FileId> = state.pending.files.values().filter(|delta| is_held(delta)).map(|d| d.id).collect();
        if held.is_empty() {
            return Ok(());
        }
        // One in which something was done here was shown until now.
        self.edit_unasked(state, change, &mut |_, edit| edit.release(&held))
    }

    /// Reads the rules of a directory and of those above it, as a seal of something in it does.
    ///
    /// # Errors
    /// [`VolumeError::Missing`] and [`VolumeError::Need`]: fetch and call again.
    pub fn meet_rules(&self, directory: FileId) -> Result<(), VolumeError> {
        let state = self.state.read();
        let mut judge = Judge { volume: self, state: &state, rules: Ignore::new(), paths: BTreeMap::new() };
        judge.path(directory, 0).map(drop)
    }

    /// Whether a seal met rules beside the built-in ones.
    pub fn has_ignore_rules(&self) -> bool {
        self.ignore.read().has_rules()
    }

    /// Whether a path from the root is ignored, by itself or by a directory above it. Only rules that were met by a seal count.
    pub fn ignored(&self, path: &[Name], directory: bool) -> bool {
        let path: Vec<&[u8]> = path.iter().map(Name::as_bytes).collect();
        self.ignore.read().is_ignored(&path, directory)
    }
}

/// What of a change leaves.
fn goes_of<'a>(parted: &'a BTreeMap<FileId, (FileDelta, FileDelta)>, delta: &'a FileDelta) -> &'a FileDelta {
    parted.get(&delta.id).map_or(delta, |(goes, _)| goes)
}

/// Whether a change gives names, and nothing else, to a file that was there already: who makes one says all of it.
pub(super) fn is_name_only(delta: &FileDelta) -> bool {
    delta.kind != Kind::Directory
        && delta.replaced.is_empty()
        && delta.content.is_none()
        && delta.attributes.is_none()
        && !delta.placements.is_empty()
}

impl Judge<'_> {
    /// Whether anything is shown in a directory that does not stay on this device. A removed directory in it that is shown for what stays
    /// does, held already or not: the outer one may be purged first, or the inner one.
    fn shows_others(&self, directory: FileId, staying: &BTreeSet<FileId>) -> Result<bool, VolumeError> {
        let rows = self.state.live_rows(&self.volume.nodes);
        let mut todo = vec![(directory, None)];
        while let Some((directory, after)) = todo.pop() {
            let page = render::list(&rows, self.state, &[directory], after.as_ref(), PAGE)?;
            todo.extend(page.next.map(|next| (directory, Some(next))));
            for seen in &page.entries {
                let itself = [seen.id];
                let ids = if seen.members().is_empty() { &itself } else { seen.members() };
                for id in ids {
                    let stays = staying.contains(id);
                    let is_held = stays && self.state.pending.files.get(id).is_some_and(is_held);
                    if is_held || is_shown_though_removed(&rows, *id)? {
                        todo.push((*id, None));
                    } else if !stays {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn ignores(&mut self, place: &Place, kind: Kind) -> Result<bool, VolumeError> {
        let mut path = self.path(place.parent, 0)?;
        path.push(place.name.clone());
        let bytes: Vec<&[u8]> = path.iter().map(Name::as_bytes).collect();
        Ok(self.rules.is_ignored(&bytes, kind == Kind::Directory))
    }

    /// The path of a directory; its rules are read when it is met first.
    fn path(&mut self, directory: FileId, depth: usize) -> Result<Vec<Name>, VolumeError> {
        if let Some(path) = self.paths.get(&directory) {
            return Ok(path.clone());
        }
        let rows = self.state.live_rows(&self.volume.nodes);
        let mut path = match render::place(&rows, directory)? {
            Some(place) if depth < DEPTH_MAX => {
                let mut path = self.path(place.parent, depth + 1)?;
                path.push(place.name);
                path
            }
            _ => Vec::new(),
        };
        path.shrink_to_fit();
        self.read_rules(directory, &path)?;
        self.paths.insert(directory, path.clone());
        Ok(path)
    }

    fn read_rules(&mut self, directory: FileId, path: &[Name]) -> Result<(), VolumeError> {
        let rows = self.state.live_rows(&self.volume.nodes);
        let Ok(name) = Name::new(RULES_NAME) else { return Ok(()) };
        let found = render::lookup(&rows, self.state, &[directory], &name)?;
        let content = found.as_ref().and_then(|seen| Some((seen.id, seen.content()?)));
        let rules = match content {
            Some((file, content)) if content.size() <= RULES_BYTES_MAX as u64 => Some(self.read(file, content)?),
            _ => None,
        };
        let key: Vec<&[u8]> = path.iter().map(Name::as_bytes).collect();
        for bad in self.rules.set(&key, rules.as_deref()) {
            tracing::warn!(line = bad.line, reason = %bad.reason, "a line of an .ouroignore is no rule");
        }
        self.volume.ignore.read().set(&key, rules.as_deref());
        Ok(())
    }

    fn read(&self, file: FileId, content: &Content) -> Result<Vec<u8>, VolumeError> {
        let mut bytes = vec![0; content.size() as usize];
        let mut stretches = Vec::new();
        self.volume.read_through(self.state, file, content, 0, 0, &mut bytes, &mut stretches)?;
        self.volume.fill(&stretches, &mut bytes)?;
        Ok(bytes)
    }
}
