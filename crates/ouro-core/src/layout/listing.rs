//! What people see differently: which listings and which files to look at again.

use super::{Layout, Reach, Step, rows_at};
use crate::id::FileId;
use crate::name::Name;
use crate::render::members;
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling::{self, Stand};
use crate::state::{File, Kind, Place};
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

impl Layout<'_> {
    /// Collects what differs by the files alone.
    pub(super) fn note_differences(
        &mut self,
        directories: &BTreeMap<FileId, Step>,
        others: &[Step],
    ) -> Result<(), Missing> {
        for step in directories.values() {
            let old = step.old.as_ref().map(|(_, file)| &**file);
            if old.and_then(File::seen_attributes) != step.new.seen_attributes() {
                self.files.insert(step.new.id);
            }
        }
        for step in others {
            self.note_other(step)?;
        }
        Ok(())
    }

    fn note_other(&mut self, step: &Step) -> Result<(), Missing> {
        let id = step.new.id;
        if step.old.is_none() {
            let Sight { stands, copies } = Sight::of(&step.new);
            self.files.insert(id);
            self.files.extend(copies);
            self.listings.extend(stands.iter().map(|stand| stand.place.parent));
            return Ok(());
        }
        let old = step.old.as_ref().map(|(_, file)| &**file);
        let (before, after) = (old.map(Sight::of).unwrap_or_default(), Sight::of(&step.new));
        let attributes = old.and_then(File::seen_attributes) != step.new.seen_attributes();
        let value =
            old.and_then(|f| sibling::winner(f)).map(|c| &c.value) != sibling::winner(&step.new).map(|c| &c.value);
        if attributes || value || before.stands.len() != after.stands.len() {
            self.files.insert(id);
        }
        let copies = before.copies != after.copies;
        if copies {
            self.files.insert(id);
            self.files.extend(before.copies.iter().chain(&after.copies).copied());
        }
        let places = |sight: &Sight| sight.stands.iter().map(|s| (s.slot, s.place.clone())).collect::<Vec<_>>();
        let moved = places(&before) != places(&after);
        let versions = before.stands.iter().map(|s| s.version).ne(after.stands.iter().map(|s| s.version));
        for stand in before.stands.iter().chain(&after.stands) {
            // Which of several at one name keeps it, and which are equal, may change without anything moving.
            if moved || copies || ((versions || value) && self.has_company(&stand.place, id)?) {
                self.listings.insert(stand.place.parent);
            }
        }
        Ok(())
    }

    /// Whether anything else stands at the name of a file.
    fn has_company(&mut self, place: &Place, id: FileId) -> Result<bool, Missing> {
        let is_other = |(key, _): &(Key, Row)| key.file != id;
        if rows_at(&self.work, place.parent, &place.name)?.iter().any(is_other) {
            return Ok(true);
        }
        if self.reach == Reach::OwnDirectory {
            return Ok(false);
        }
        let union = match self.unions.entry(place.parent) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(members(&self.work, place.parent)?),
        };
        for &mate in union.iter().filter(|&&d| d != place.parent) {
            if !rows_at(&self.work, mate, &place.name)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the members of unions that form or dissolve where a directory came or went, and of the unions inside these: their listings
    /// are one.
    pub(super) fn note_unions(&mut self) -> Result<(), Missing> {
        let base = self.work.base;
        let mut bound = Vec::new();
        for (key, row) in &self.work.changes {
            let is_now = row.as_ref().is_some_and(is_directory);
            if key.directory != FileId::HOMELESS
                && !key.name.is_empty()
                && (is_now || row.is_none())
                && base.get(key)?.as_ref().is_some_and(is_directory) != is_now
            {
                bound.push((key.directory, key.name.clone()));
            }
        }
        let mut found = BTreeSet::new();
        for rows in [base, &self.work] {
            let mut unions: BTreeMap<FileId, Vec<FileId>> = BTreeMap::new();
            for (directory, name) in &bound {
                if !unions.contains_key(directory) {
                    unions.insert(*directory, members(rows, *directory)?);
                }
                note_union(rows, &unions[directory], name, &mut found)?;
            }
        }
        self.listings.extend(found);
        Ok(())
    }
}

/// Adds the directories that are shown as one at a name, and those inside them.
fn note_union(rows: &dyn Rows, union: &[FileId], name: &Name, found: &mut BTreeSet<FileId>) -> Result<(), Missing> {
    let mut todo = vec![(union.to_vec(), name.clone())];
    while let Some((union, name)) = todo.pop() {
        let mut ids = Vec::new();
        for &member in &union {
            let at = rows_at(rows, member, &name)?;
            ids.extend(at.iter().filter(|(_, row)| is_directory(row)).map(|(key, _)| key.file));
        }
        if ids.len() < 2 {
            continue;
        }
        let mut names: BTreeMap<Name, usize> = BTreeMap::new();
        for &id in &ids {
            rows.scan(&Key::header(id), &mut |key, row| {
                if key.directory != id {
                    return ControlFlow::Break(());
                }
                if is_directory(row) {
                    *names.entry(key.name.clone()).or_default() += 1;
                }
                ControlFlow::Continue(())
            })?;
        }
        found.extend(&ids);
        todo.extend(names.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| (ids.clone(), name)));
    }
    Ok(())
}

fn is_directory(row: &Row) -> bool {
    match row {
        Row::Record(file) => file.kind == Kind::Directory,
        Row::Reference(kind) => *kind == Kind::Directory,
        Row::Header(_) => false,
    }
}

/// What is seen of a file that is no directory.
#[derive(Default)]
struct Sight {
    stands: Vec<Stand>,
    copies: Vec<FileId>,
}

impl Sight {
    fn of(file: &File) -> Sight {
        let contents = if file.contents.len() < 2 { Vec::new() } else { sibling::contents(file) };
        let copies = contents.iter().skip(1).map(|c| sibling::copy_id(file.id, c.earliest())).collect();
        Sight { stands: sibling::stands(file), copies }
    }
}
