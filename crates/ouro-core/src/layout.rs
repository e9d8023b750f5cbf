//! Keeps the rows in step with the files: takes files before and after, gives the rows that change.
//!
//! Rows of files that are no directories follow from the file and from whether its parents are known. Rows of directories follow from
//! the whole graph of directories, because cycles are cut ([`cuts`]) and removed directories are shown while something in them is; both
//! are looked at again only around what changed. Besides the rows that [`crate::row`] names, each cut directory has a reference at
//! `(0, "cut", d, 0)`, so that the cuts are found without a search, and `Recovered/` a reference in the root while it shows anything.

mod cuts;
mod listing;
mod place;
mod visible;
mod working;

use crate::delta::{AddedPlacement, FileDelta};
use crate::digest::versions;
use crate::id::FileId;
use crate::row::{Header, Key, Missing, Row, RowChanges, Rows};
use crate::sibling;
use crate::state::{File, Kind, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

pub(crate) use cuts::all as all_cuts;
pub(crate) use place::{header, is_known, locate, recovered_place, rows_at};
pub(crate) use visible::{has_rows, shows_anything};
pub(crate) use working::Working;

/// A file as its rows are, and as it is to be.
pub(crate) struct Step {
    /// Where its record stands and what it holds.
    pub(crate) old: Option<(Key, Arc<File>)>,
    /// What it becomes; gone if nothing in it is alive.
    pub(crate) new: File,
    /// A directory that is not known and may have been: [`returns`].
    pub(crate) returns: bool,
}

/// Whether a directory that is not known may have been, and was purged: it is not only just made, but replaces something, was moved, or is
/// there by rule. What is hidden in it has no row by which it would be found.
pub(crate) fn returns(delta: &FileDelta) -> bool {
    let is_placed = |p: &AddedPlacement| !p.by_rule && p.was.is_none();
    delta.kind == Kind::Directory && !(delta.replaced.is_empty() && delta.placements.iter().all(is_placed))
}

/// Whether others knew a directory: it was sealed, or is held since its record was purged ([`crate::edit::Edit::hold`]).
fn was_known(directory: &File) -> bool {
    versions(directory).any(|(_, version)| !version.is_pending()) || directory.placements.iter().any(|p| p.by_rule)
}

/// The rows that change, and what people see differently.
pub(crate) struct LaidOut {
    pub(crate) changes: RowChanges,
    pub(crate) listings: Vec<FileId>,
    pub(crate) files: Vec<FileId>,
}

/// How far to look for names that change because a file at the same name did. The rows are the same whatever is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nowhere: only the rows are wanted.
    Nowhere,
    /// In its directory: enough where the name group was settled before.
    OwnDirectory,
    /// In all directories with which its own is shown.
    Union,
}

/// Lays out the files of `steps`, each file at most once.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub(crate) fn lay_out(rows: &dyn Rows, steps: Vec<Step>, reach: Reach) -> Result<LaidOut, Missing> {
    let mut layout = Layout {
        work: Working::new(rows),
        listings: BTreeSet::new(),
        files: BTreeSet::new(),
        unsure: BTreeSet::new(),
        known: BTreeMap::new(),
        reach,
        unions: BTreeMap::new(),
    };
    let (directories, mut others): (BTreeMap<_, _>, Vec<_>) = split(steps);
    if reach != Reach::Nowhere {
        layout.note_differences(&directories, &others)?;
    }
    layout.lay_directories(directories, &mut others)?;
    for step in others {
        layout.lay_other(step)?;
    }
    layout.settle_visibility()?;
    if reach != Reach::Nowhere {
        layout.note_unions()?;
    }
    let Layout { work, listings, files, .. } = layout;
    Ok(LaidOut { changes: work.changes, listings: listings.into_iter().collect(), files: files.into_iter().collect() })
}

fn split(steps: Vec<Step>) -> (BTreeMap<FileId, Step>, Vec<Step>) {
    let (directories, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(|s| s.new.kind == Kind::Directory);
    (directories.into_iter().map(|s| (s.new.id, s)).collect(), others)
}

struct Layout<'a> {
    work: Working<'a>,
    listings: BTreeSet<FileId>,
    files: BTreeSet<FileId>,
    /// Directories whose visibility may have changed.
    unsure: BTreeSet<FileId>,
    /// Whether a directory is known, once looked up.
    known: BTreeMap<FileId, bool>,
    reach: Reach,
    /// The unions of directories as they were, once looked up.
    unions: BTreeMap<FileId, Vec<FileId>>,
}

impl Layout<'_> {
    /// Moves the rows of a file that is no directory.
    fn lay_other(&mut self, step: Step) -> Result<(), Missing> {
        let Step { old, new, .. } = step;
        let mut remove = BTreeSet::new();
        if let Some((key, file)) = &old {
            remove.insert(key.clone());
            if key.directory == FileId::HOMELESS {
                for stand in sibling::stands(file) {
                    for place in [stand.place.clone(), recovered_place(&stand.place)] {
                        let reference = Key::at(&place, file.id, stand.slot);
                        if matches!(self.work.get(&reference)?, Some(Row::Reference(_))) {
                            remove.insert(reference);
                        }
                    }
                }
            }
        }
        let put = if new.is_gone() { Vec::new() } else { self.rows_of_other(new)? };
        for key in remove {
            if !put.iter().any(|(stays, _)| *stays == key) {
                self.remove(key);
            }
        }
        for (key, row) in put {
            self.put(key, row);
        }
        Ok(())
    }

    fn rows_of_other(&mut self, file: File) -> Result<Vec<(Key, Row)>, Missing> {
        if let [only] = file.placements.as_slice()
            && self.knows(only.place.parent)?
        {
            return Ok(vec![(Key::at(&only.place, file.id, only.slot), Row::Record(Arc::new(file)))]);
        }
        let mut put = Vec::new();
        for stand in sibling::stands(&file) {
            let place = if self.knows(stand.place.parent)? { stand.place } else { recovered_place(&stand.place) };
            put.push((Key::at(&place, file.id, stand.slot), Row::Reference(file.kind)));
        }
        put.push((Key::homeless(file.id), Row::Record(Arc::new(file))));
        Ok(put)
    }

    fn knows(&mut self, directory: FileId) -> Result<bool, Missing> {
        if let Some(&known) = self.known.get(&directory) {
            return Ok(known);
        }
        let known = is_known(&self.work, directory)?;
        self.known.insert(directory, known);
        Ok(known)
    }

    fn put(&mut self, key: Key, row: Row) {
        self.look_at_parent(&key);
        self.work.changes.insert(key, Some(row));
    }

    fn remove(&mut self, key: Key) {
        self.look_at_parent(&key);
        self.work.changes.insert(key, None);
    }

    fn look_at_parent(&mut self, key: &Key) {
        if !key.name.is_empty() && key.directory != FileId::HOMELESS {
            self.unsure.insert(key.directory);
        }
        if key.directory == FileId::RECOVERED {
            // What is shown there says that it stands elsewhere.
            self.listings.insert(FileId::RECOVERED);
        }
    }

    /// Moves the rows of directories: first who is known at all, then where each is shown, then their rows.
    fn lay_directories(&mut self, mut steps: BTreeMap<FileId, Step>, others: &mut Vec<Step>) -> Result<(), Missing> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut affected: BTreeSet<FileId> = BTreeSet::new();
        let (mut came, mut went, mut purged) = (false, Vec::new(), BTreeSet::new());
        for (&id, step) in &steps {
            if id == FileId::ROOT {
                continue;
            }
            if step.new.is_gone() {
                went.push(id);
                if step.old.as_ref().is_some_and(|(_, file)| was_known(file)) {
                    purged.insert(id);
                }
            } else {
                affected.insert(id);
                came |= step.old.is_none();
            }
        }
        if let Some(step) = steps.remove(&FileId::ROOT) {
            self.lay_root(step);
        }
        for &id in &went {
            if let Some((key, _)) = steps.remove(&id).and_then(|step| step.old) {
                self.forget_directory(id, key)?;
            }
        }
        // An entry in `Recovered/` may be there because its directory was unknown till now, and what stood in a directory that went is
        // to be shown there: look at all of these again.
        let mut again = went;
        if came {
            again.push(FileId::RECOVERED);
        }
        for directory in again {
            self.look_again(directory, &steps, &mut affected, others)?;
        }
        if !purged.is_empty() {
            affected.extend(self.hidden_in(&purged)?.0);
        }
        let returned: BTreeSet<FileId> =
            steps.values().filter(|s| s.returns && s.old.is_none()).map(|s| s.new.id).collect();
        if !returned.is_empty() {
            let (directories, files) =
                self.hidden_in(&returned.iter().copied().chain([FileId::RECOVERED]).collect())?;
            affected.extend(directories.into_iter().filter(|id| !steps.contains_key(id)));
            let listed: BTreeSet<FileId> = others.iter().map(|s| s.new.id).collect();
            others.extend(files.into_iter().filter(|file| !listed.contains(&file.id)).map(|file| Step {
                old: Some((Key::homeless(file.id), Arc::clone(&file))),
                new: (*file).clone(),
                returns: false,
            }));
        }
        for (&id, step) in &steps {
            if step.old.is_none() {
                self.known.insert(id, true);
            }
        }
        for (id, shown) in self.shown_places(&steps, affected)? {
            let (old, new) = match steps.remove(&id) {
                Some(step) => (step.old, Arc::new(step.new)),
                None => match locate(&self.work, id, Kind::Directory, None)? {
                    Some((key, file)) => (Some((key, file.clone())), file),
                    None => continue,
                },
            };
            self.lay_directory(old.map(|(key, _)| key), new, shown)?;
        }
        Ok(())
    }

    /// What is hidden has no row where it would be shown, so what is in directories that go or return is searched for among all that is
    /// homeless: directories, and files with one name there. What nobody else knew holds none (see [`crate::edit`]).
    fn hidden_in(&self, directories: &BTreeSet<FileId>) -> Result<(Vec<FileId>, Vec<Arc<File>>), Missing> {
        let (mut homeless, mut files) = (Vec::new(), Vec::new());
        self.work.scan(&Key::homeless(FileId(0)), &mut |key, row| {
            if key.directory != FileId::HOMELESS || !key.name.is_empty() {
                return ControlFlow::Break(());
            }
            if let Row::Record(file) = row {
                match (file.kind, file.placements.as_slice()) {
                    (Kind::Directory, _) if file.id != FileId::ROOT => homeless.push(file.id),
                    (_, [only]) if directories.contains(&only.place.parent) => files.push(Arc::clone(file)),
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        })?;
        let mut hidden = Vec::new();
        for id in homeless {
            if header(&self.work, id)?.is_some_and(|h| directories.contains(&h.shown.parent)) {
                hidden.push(id);
            }
        }
        Ok((hidden, files))
    }

    fn lay_root(&mut self, step: Step) {
        let key = Key::homeless(FileId::ROOT);
        if step.new.is_gone() {
            self.remove(key);
        } else {
            self.put(key, Row::Record(Arc::new(step.new)));
        }
    }

    fn forget_directory(&mut self, id: FileId, record: Key) -> Result<(), Missing> {
        if let Some(header) = header(&self.work, id)? {
            let reference = Key::at(&header.shown, id, 0);
            if self.work.get(&reference)?.is_some() {
                self.remove(reference);
                self.listings.insert(header.shown.parent);
            }
            if header.cut {
                self.remove(cuts::mark(id));
            }
        }
        self.remove(record);
        self.remove(Key::header(id));
        self.known.insert(id, false);
        Ok(())
    }

    /// Adds everything that stands in `directory` to what is laid out anew.
    fn look_again(
        &mut self,
        directory: FileId,
        steps: &BTreeMap<FileId, Step>,
        affected: &mut BTreeSet<FileId>,
        others: &mut Vec<Step>,
    ) -> Result<(), Missing> {
        let mut found = Vec::new();
        self.work.scan(&Key::header(directory), &mut |key, row| {
            if key.directory != directory {
                return ControlFlow::Break(());
            }
            if !key.name.is_empty() {
                found.push((key.clone(), row.clone()));
            }
            ControlFlow::Continue(())
        })?;
        if found.is_empty() {
            return Ok(());
        }
        let mut listed: BTreeSet<FileId> = others.iter().map(|s| s.new.id).collect();
        self.listings.insert(directory);
        self.listings.insert(FileId::RECOVERED);
        for (key, row) in found {
            let place = Place { parent: key.directory, name: key.name.clone() };
            let kind = match &row {
                Row::Record(file) => file.kind,
                Row::Reference(kind) => *kind,
                Row::Header(_) => continue,
            };
            if kind == Kind::Directory {
                if !steps.contains_key(&key.file) && key.file != FileId::RECOVERED {
                    affected.insert(key.file);
                }
            } else if listed.insert(key.file)
                && let Some((key, file)) = locate(&self.work, key.file, kind, Some(&place))?
            {
                others.push(Step { new: (*file).clone(), old: Some((key, file)), returns: false });
            }
        }
        Ok(())
    }

    fn lay_directory(&mut self, old_record: Option<Key>, file: Arc<File>, shown: Place) -> Result<(), Missing> {
        let id = file.id;
        let removed = sibling::is_removed(&file);
        let cut = sibling::pick(file.placements.iter()).is_none_or(|p| p.place != shown);
        let plain = !removed && !cut && file.placements.len() == 1;
        let record = if plain { Key::at(&shown, id, 0) } else { Key::homeless(id) };
        let before = header(&self.work, id)?;
        let moved = before.as_ref().map(|b| &b.shown) != Some(&shown);
        let mut remove: BTreeSet<Key> = old_record.into_iter().collect();
        let mut was_shown = false;
        if let Some(before) = &before {
            let stood = Key::at(&before.shown, id, 0);
            was_shown = self.work.get(&stood)?.is_some();
            if was_shown {
                remove.insert(stood);
            }
        }
        let mut put = BTreeMap::new();
        put.insert(record, Row::Record(file));
        if !plain && (!removed || (was_shown && !moved)) {
            // Whether a removed directory stays shown is settled once all rows in it are.
            put.insert(Key::at(&shown, id, 0), Row::Reference(Kind::Directory));
        }
        for key in remove {
            if !put.contains_key(&key) {
                self.remove(key);
            }
        }
        for (key, row) in put {
            self.put(key, row);
        }
        match (before.as_ref().is_some_and(|b| b.cut), cut) {
            (false, true) => self.put(cuts::mark(id), Row::Reference(Kind::Directory)),
            (true, false) => self.remove(cuts::mark(id)),
            _ => {}
        }
        let header = Header { shown: shown.clone(), removed, cut };
        if before.as_ref() != Some(&header) {
            self.put(Key::header(id), Row::Header(header));
        }
        if removed {
            self.unsure.insert(id);
        }
        // Which of a union comes first hangs on what is removed.
        let reordered = before.as_ref().is_some_and(|b| b.removed != removed);
        if moved || reordered || (!was_shown && !removed) {
            self.listings.insert(shown.parent);
            if let Some(before) = before {
                self.listings.insert(before.shown.parent);
            }
        }
        Ok(())
    }
}
