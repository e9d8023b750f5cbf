//! Restoring entry by entry. First everything that was is put where it was, then what was not is removed: so what moved is found.

use super::Apart;
use crate::api::{Failure, Restored};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use ouro_core::compare;
use ouro_core::content::Content;
use ouro_core::edit::{Edit, EditError, Edited};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Page, Seen};
use ouro_core::row::Key;
use ouro_core::state::{Attributes, Kind};
use ouro_local::volume::{Snapshot, VolumeError};
use std::collections::BTreeMap;

/// Entries asked of a directory at a time.
const PAGE: usize = 1_000;

/// A restore on its way.
pub(super) struct Act<'a> {
    engine: &'a Engine,
    open: &'a OpenBox,
    past: &'a Snapshot,
    /// What does not differ is left alone.
    apart: &'a Apart,
    /// Nothing is changed.
    dry: bool,
    /// Nothing that is there is moved, changed or removed.
    copy: bool,
    /// Directories as they were and as they are.
    pairs: Vec<(Vec<FileId>, Vec<FileId>)>,
    /// Where files with several names were put.
    put: BTreeMap<FileId, (Vec<FileId>, Name)>,
    /// Living files that are changed, moved or removed.
    pub(super) touched: Vec<FileId>,
    /// What was done.
    pub(super) done: Restored,
}

impl<'a> Act<'a> {
    pub(super) fn new(engine: &'a Engine, open: &'a OpenBox, past: &'a Snapshot, apart: &'a Apart) -> Self {
        Act {
            engine,
            open,
            past,
            apart,
            dry: false,
            copy: false,
            pairs: Vec::new(),
            put: BTreeMap::new(),
            touched: Vec::new(),
            done: Restored::default(),
        }
    }

    /// Only says what it would touch.
    pub(super) fn dry(mut self) -> Self {
        self.dry = true;
        self
    }

    /// Makes everything anew.
    pub(super) fn only_copy(&mut self) {
        self.copy = true;
    }

    /// Puts what was in a directory into one that is there.
    pub(super) fn contents(&mut self, was: &[FileId], there: &[FileId]) -> Result<(), Failure> {
        let same = was.first() == there.first() && was.len() == there.len();
        if same && !self.copy && !there.iter().any(|d| self.apart.directories.contains(d)) {
            return Ok(());
        }
        self.pairs.push((was.to_vec(), there.to_vec()));
        let mut after = None;
        loop {
            let past = self.past;
            let page: Page =
                self.engine.ask(self.open, |_| Ok(render::list(past, past, was, after.as_ref(), PAGE)?))?;
            for seen in &page.entries {
                self.entry(seen, there, &seen.name)?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Puts what was at a name, with all in it.
    pub(super) fn entry(&mut self, was: &Seen, parent: &[FileId], name: &Name) -> Result<(), Failure> {
        if was.kind() == Kind::Directory {
            let there = self.directory_there(was, parent, name)?;
            return self.contents(was.members(), &there);
        }
        let there = self.engine.live(self.open, parent, name)?;
        let there = match there {
            Some(there) if there.kind() == was.kind() => {
                let moved = if there.id == was.id { None } else { self.alive(was)? };
                match moved {
                    Some((moved, from)) if !self.apart.was.contains(&there.id) => {
                        return self.move_back(was, &moved, &from, parent, name, Some(&there));
                    }
                    _ => return self.write_over(was, &there, parent),
                }
            }
            other => other,
        };
        if let Some(there) = there {
            self.remove(&there, parent)?;
        }
        match self.alive(was)? {
            Some((moved, from)) => self.move_back(was, &moved, &from, parent, name, None),
            None => self.make(was, parent, name).map(drop),
        }
    }

    /// A directory at a name, the one that was there if it lives; its attributes are put, its contents are not. Returns its union.
    pub(super) fn directory_there(
        &mut self,
        was: &Seen,
        parent: &[FileId],
        name: &Name,
    ) -> Result<Vec<FileId>, Failure> {
        if let Some(there) = self.engine.live(self.open, parent, name)? {
            if there.kind() == Kind::Directory {
                if differ(&was.attributes(), &there.attributes(), false) && !self.copy {
                    self.set_attributes(was, &there, parent)?;
                }
                return Ok(there.members().to_vec());
            }
            self.remove(&there, parent)?;
        }
        if let Some((moved, from)) = self.alive(was)? {
            match self.move_back(was, &moved, &from, parent, name, None) {
                Ok(()) => return Ok(moved.members().to_vec()),
                // It holds the place where it was: then that is another one.
                Err(failure) if self.holds(&moved, parent)? => tracing::debug!(%failure.message, "made anew"),
                Err(failure) => return Err(failure),
            }
        }
        Ok(vec![self.make(was, parent, name)?])
    }

    /// Removes what is in the directories met and was not there.
    pub(super) fn remove_others(&mut self) -> Result<(), Failure> {
        if self.copy {
            return Ok(());
        }
        while let Some((was, there)) = self.pairs.pop() {
            let mut others = Vec::new();
            self.engine.each_entry(self.open, &there, &mut |seen| {
                others.push(seen.clone());
                Ok(())
            })?;
            let past = self.past;
            for seen in others {
                let name = seen.name.clone();
                let known = self.engine.ask(self.open, |_| Ok(render::lookup(past, past, &was, &name)?))?;
                if known.is_none() {
                    self.remove(&seen, &there)?;
                }
            }
        }
        Ok(())
    }

    /// Removes an entry with all in it, but not what never leaves this device.
    fn remove(&mut self, seen: &Seen, parent: &[FileId]) -> Result<(), Failure> {
        if self.open.volume.is_staying(seen.id) {
            return Ok(());
        }
        let mut inside = Vec::new();
        if seen.kind() == Kind::Directory {
            self.engine.each_entry(self.open, seen.members(), &mut |seen| {
                inside.push(seen.clone());
                Ok(())
            })?;
        }
        for entry in &inside {
            self.remove(entry, seen.members())?;
        }
        if seen.id == FileId::RECOVERED {
            return Ok(());
        }
        self.touched.push(seen.id);
        if self.dry {
            return Ok(());
        }
        let outcome = self.engine.ask(self.open, |volume| {
            match volume.edit_outside(|edit| Ok(((), edit.remove(seen, parent)?))) {
                // Something that stays on this device is in it.
                Err(VolumeError::Edit(EditError::NotEmpty)) => Ok(false),
                done => done.map(|()| true),
            }
        })?;
        self.done.removed += u64::from(outcome);
        Ok(())
    }

    fn make(&mut self, was: &Seen, parent: &[FileId], name: &Name) -> Result<FileId, Failure> {
        self.done.created += 1;
        if self.dry {
            // Nothing stands in what is not there.
            return Ok(FileId::HOMELESS);
        }
        if was.links() > 1
            && let Some((directory, first)) = self.put.get(&was.id).cloned()
            && let Some(seen) = self.engine.live(self.open, &directory, &first)?
        {
            return self.edit(|edit| edit.link(&seen, &directory, parent, name));
        }
        let (attributes, content) = (self.attributes(was), was.content().cloned());
        let id = self.edit(|edit| edit.create(parent, name, was.kind(), attributes.clone(), content.clone()))?;
        if was.links() > 1 {
            self.put.insert(was.id, (parent.to_vec(), name.clone()));
        }
        Ok(id)
    }

    fn move_back(
        &mut self,
        was: &Seen,
        moved: &Seen,
        from: &[FileId],
        parent: &[FileId],
        name: &Name,
        over: Option<&Seen>,
    ) -> Result<(), Failure> {
        self.touched.push(moved.id);
        self.touched.extend(over.map(|over| over.id));
        if self.dry {
            return Ok(());
        }
        if was.links() > 1 {
            if let Some(over) = over {
                self.edit(|edit| Ok(((), edit.remove(over, parent)?)))?;
            }
            self.edit(|edit| edit.link(moved, from, parent, name))?;
        } else {
            self.edit(|edit| edit.rename(moved, from, parent, name, over))?;
        }
        self.done.renamed += 1;
        match self.engine.live(self.open, parent, name)? {
            Some(there) if was.kind() != Kind::Directory => self.write_over(was, &there, parent),
            Some(there) if differ(&was.attributes(), &there.attributes(), false) => {
                self.set_attributes(was, &there, parent)
            }
            _ => Ok(()),
        }
    }

    fn write_over(&mut self, was: &Seen, there: &Seen, parent: &[FileId]) -> Result<(), Failure> {
        let same = was.content() == there.content();
        if same && !differ(&was.attributes(), &there.attributes(), true) {
            return Ok(());
        }
        if same {
            return self.set_attributes(was, there, parent);
        }
        self.touched.push(there.id);
        self.done.edited += 1;
        if self.dry {
            return Ok(());
        }
        let (attributes, content) = (self.attributes(was), was.content().cloned().unwrap_or_else(Content::empty));
        self.edit(|edit| edit.write(there, parent, content.clone(), attributes.clone())).map(drop)
    }

    fn set_attributes(&mut self, was: &Seen, there: &Seen, parent: &[FileId]) -> Result<(), Failure> {
        self.touched.push(there.id);
        self.done.edited += 1;
        if self.dry {
            return Ok(());
        }
        let attributes = self.attributes(was);
        self.edit(|edit| edit.set_attributes(there, parent, attributes.clone())).map(drop)
    }

    /// The attributes that were, changed now.
    fn attributes(&self, was: &Seen) -> Attributes {
        Attributes { ctime_ns: self.open.volume.now_ns(), ..was.attributes() }
    }

    /// The same file where it stands now, and the directory there.
    fn alive(&self, was: &Seen) -> Result<Option<(Seen, Vec<FileId>)>, Failure> {
        // What stands elsewhere now has a row there that it had not then.
        let Some(keys) = self.apart.is.get(&was.id).filter(|_| !self.copy) else { return Ok(None) };
        let keys: Vec<&Key> = keys.iter().collect();
        self.engine.ask(self.open, |volume| {
            let view = volume.view();
            let Some(side) = compare::standing_at(&view, was.id, &keys)? else { return Ok(None) };
            for place in side.places {
                let union = render::members(&view, place.parent)?;
                let seen = render::lookup(&view, &view, &union, &place.name)?;
                if let Some(seen) = seen.filter(|seen| seen.id == was.id) {
                    return Ok(Some((seen, union)));
                }
            }
            Ok(None)
        })
    }

    /// Whether a directory is one of those above a place.
    fn holds(&self, directory: &Seen, place: &[FileId]) -> Result<bool, Failure> {
        self.engine.ask(self.open, |volume| {
            let view = volume.view();
            let mut at = place.first().copied();
            while let Some(here) = at {
                if directory.members().contains(&here) {
                    return Ok(true);
                }
                at = render::place(&view, here)?.map(|place| place.parent);
            }
            Ok(false)
        })
    }

    fn edit<R>(&self, mut op: impl FnMut(Edit<'_>) -> Result<(R, Edited), EditError>) -> Result<R, Failure> {
        self.engine.ask(self.open, |volume| volume.edit_outside(&mut op))
    }
}

/// Whether attributes that people see differ.
fn differ(one: &Attributes, other: &Attributes, times: bool) -> bool {
    one.mode != other.mode || one.xattrs != other.xattrs || (times && one.mtime_ns != other.mtime_ns)
}
