//! What people see differently: which listings and which files to look at again.

use super::{Layout, Step, rows_at};
use crate::id::FileId;
use crate::name::Name;
use crate::row::{Missing, Row};
use crate::sibling::{self, Stand};
use crate::state::{File, Kind, Place};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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

    fn has_company(&self, place: &Place, id: FileId) -> Result<bool, Missing> {
        Ok(rows_at(&self.work, place.parent, &place.name)?.iter().any(|(key, _)| key.file != id))
    }

    /// Adds the members of unions that a directory joined or left: their listings are one.
    pub(super) fn note_neighbours(&mut self) -> Result<(), Missing> {
        let mut names: BTreeMap<(FileId, &Name), bool> = BTreeMap::new();
        for (key, row) in &self.work.changes {
            let directory = match row {
                Some(row) => is_directory(row),
                None => self.listings.contains(&key.directory),
            };
            if directory && key.directory != FileId::HOMELESS && !key.name.is_empty() {
                *names.entry((key.directory, &key.name)).or_default() |= row.is_none();
            }
        }
        let mut members = Vec::new();
        for ((directory, name), left) in names {
            let at = rows_at(&self.work, directory, name)?;
            let ids: Vec<FileId> = at.iter().filter(|(_, row)| is_directory(row)).map(|(key, _)| key.file).collect();
            if ids.len() > 1 || left {
                members.extend(ids);
            }
        }
        self.listings.extend(members);
        Ok(())
    }
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
        let copies = sibling::contents(file).iter().skip(1).map(|c| sibling::copy_id(file.id, c.earliest())).collect();
        Sight { stands: sibling::stands(file), copies }
    }
}
