//! Everything that stands at one natural name of a listing.

use super::Devices;
use super::derived::{Derivation, Stem};
use super::seen::{Seen, What};
use crate::content::Content;
use crate::id::{FileId, Version};
use crate::layout::{header, rows_at};
use crate::name::Name;
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::{File, Kind, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// A directory at a name.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) id: FileId,
    pub(crate) removed: bool,
    pub(crate) file: Arc<File>,
}

/// Something else at a name: one link of a file.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) file: Arc<File>,
    pub(crate) slot: u64,
    pub(crate) directory: FileId,
    pub(crate) version: Version,
    /// The first link of its file: copies are shown beside it.
    first: bool,
}

/// All at one natural name. Directories are shown as one; of the files the latest comes first.
#[derive(Clone, Default)]
pub(crate) struct Group {
    pub(crate) name: Name,
    pub(crate) members: Vec<Member>,
    pub(crate) entries: Vec<Entry>,
}

/// What is shown under a derived name.
#[derive(Clone)]
pub(crate) enum Derived {
    /// The entry of the group with this index.
    Entry(usize),
    /// A conflict copy of that file.
    Copy { file: Arc<File>, versions: Vec<Version>, content: Content },
}

/// What is shown under a derived name, and the name.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) natural: Name,
    pub(crate) derivation: Derivation,
    pub(crate) version: Version,
    pub(crate) id: FileId,
    pub(crate) slot: u64,
    pub(crate) directory: FileId,
    pub(crate) what: Derived,
    pub(crate) name: Name,
}

impl Group {
    /// Makes the group of a name from the rows at it, those of all members of a union together.
    pub(crate) fn of(rows: &dyn Rows, name: &Name, at: Vec<(Key, Row)>) -> Result<Group, Missing> {
        let mut group = Group { name: name.clone(), ..Group::default() };
        for (key, row) in at {
            let file = match row {
                Row::Record(file) => file,
                Row::Reference(_) if key.file == FileId::RECOVERED => {
                    Arc::new(File::new(FileId::RECOVERED, Kind::Directory))
                }
                Row::Reference(_) => match rows.get(&Key::homeless(key.file))? {
                    Some(Row::Record(file)) => file,
                    _ => continue,
                },
                Row::Header(_) => continue,
            };
            if file.kind == Kind::Directory {
                let removed = key.file == FileId::RECOVERED || sibling::is_removed(&file);
                group.members.push(Member { id: key.file, removed, file });
                continue;
            }
            if let Some((version, first)) = sibling::stands_at(&file, key.slot) {
                group.entries.push(Entry { file, slot: key.slot, directory: key.directory, version, first });
            }
        }
        group.members.sort_by_key(|m| (m.removed, m.id));
        group.entries.sort_by_key(|e| core::cmp::Reverse((e.version, e.file.id, e.slot)));
        Ok(group)
    }

    /// The group of a name in a listing.
    pub(crate) fn read(rows: &dyn Rows, directory: &[FileId], name: &Name) -> Result<Group, Missing> {
        let mut at = Vec::new();
        for &member in directory {
            at.extend(rows_at(rows, member, name)?);
        }
        Group::of(rows, name, at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.entries.is_empty()
    }

    /// Whether there is anything that cannot keep its name.
    pub(crate) fn has_conflict(&self) -> bool {
        let rivals = self.entries.len() + usize::from(!self.members.is_empty());
        rivals > 1
            || self.entries.iter().any(|e| e.first && e.file.contents.len() > 1 && sibling::contents(&e.file).len() > 1)
    }

    /// What keeps the name.
    pub(crate) fn natural(&self) -> Option<Seen> {
        if let [least, ..] = self.members.as_slice() {
            let members = self.members.iter().map(|m| m.id).collect();
            return Some(Seen {
                name: self.name.clone(),
                group: self.name.clone(),
                slot: 0,
                id: least.id,
                what: What::Directory { file: least.file.clone(), members },
            });
        }
        self.entries.first().map(|e| e.seen(self.name.clone(), self.name.clone()))
    }

    /// For each entry the earlier one that stands for it because its content is the same.
    pub(crate) fn stand_ins(&self) -> Vec<Option<usize>> {
        let mut distinct: Vec<(usize, Kind, Content)> = vec![];
        let mut all = Vec::with_capacity(self.entries.len());
        for (i, entry) in self.entries.iter().enumerate() {
            let content = sibling::winner(&entry.file).and_then(|w| w.value.clone()).unwrap_or_else(Content::empty);
            let kind = entry.file.kind;
            match distinct.iter().find(|(_, k, c)| *k == kind && sibling::same(c, &content)) {
                Some((by, ..)) => all.push(Some(*by)),
                None => {
                    distinct.push((i, kind, content));
                    all.push(None);
                }
            }
        }
        all
    }

    /// Where the file is among the entries, if it is out of sight: an equal one stands for it, or no copy may be shown here.
    pub(crate) fn out_of_sight(
        &self,
        rows: &dyn Rows,
        directory: &[FileId],
        file: FileId,
    ) -> Result<Option<usize>, Missing> {
        let Some(at) = self.entries.iter().position(|entry| entry.file.id == file) else { return Ok(None) };
        let loses = at > 0 || !self.members.is_empty();
        let hidden = loses && (self.stand_ins()[at].is_some() || is_quiet(rows, directory, &self.name)?);
        Ok(hidden.then_some(at))
    }

    /// What must be shown under derived names, these not yet numbered.
    pub(crate) fn losers(&self, devices: &dyn Devices) -> Vec<Named> {
        let mut losers = Vec::new();
        if !self.has_conflict() {
            return losers;
        }
        let named = |version, id, slot, directory, what| Named {
            natural: self.name.clone(),
            derivation: Derivation::new(&self.name, version, devices),
            version,
            id,
            slot,
            directory,
            what,
            name: Name::empty(),
        };
        let stand_ins = self.stand_ins();
        for (i, entry) in self.entries.iter().enumerate() {
            if stand_ins[i].is_none() && (i > 0 || !self.members.is_empty()) {
                losers.push(named(entry.version, entry.file.id, entry.slot, entry.directory, Derived::Entry(i)));
            }
            if !entry.first {
                continue;
            }
            for copy in sibling::contents(&entry.file).into_iter().skip(1) {
                let earliest = copy.earliest();
                let what =
                    Derived::Copy { file: entry.file.clone(), content: copy.content.clone(), versions: copy.versions };
                losers.push(named(earliest, sibling::copy_id(entry.file.id, earliest), 0, entry.directory, what));
            }
        }
        losers
    }
}

impl Entry {
    pub(crate) fn seen(&self, name: Name, group: Name) -> Seen {
        let (content, copies) = sibling::content_and_copies(&self.file);
        let what = What::File { file: self.file.clone(), content: content.cloned(), copies };
        Seen { name, group, slot: self.slot, id: self.file.id, what }
    }
}

impl Named {
    pub(crate) fn seen(&self, group: &Group) -> Seen {
        let (name, natural) = (self.name.clone(), self.natural.clone());
        match &self.what {
            Derived::Entry(i) => group.entries[*i].seen(name, natural),
            Derived::Copy { file, versions, content } => {
                let what = What::Copy { file: file.clone(), versions: versions.clone(), content: content.clone() };
                Seen { name, group: natural, slot: 0, id: self.id, what }
            }
        }
    }
}

/// The natural names of a stem with what stands there, and everything shown under derived names of it.
pub(crate) struct StemView {
    pub(crate) groups: BTreeMap<Name, Group>,
    pub(crate) derived: Vec<Named>,
}

impl StemView {
    /// Reads a stem of a listing and decides its derived names: in order of name, version, id and slot each gets the first that
    /// neither a natural name nor an earlier one has.
    pub(crate) fn read(
        rows: &dyn Rows,
        devices: &dyn Devices,
        directory: &[FileId],
        stem: &Stem,
    ) -> Result<StemView, Missing> {
        let mut at: BTreeMap<Name, Vec<(Key, Row)>> = BTreeMap::new();
        for &member in directory {
            if let Some(plain) = stem.plain() {
                at.entry(plain.clone()).or_default().extend(rows_at(rows, member, &plain)?);
            }
            let prefix = stem.prefix();
            let Ok(from) = Name::new(&prefix) else { continue };
            rows.scan(&Key::first_of(member, from), &mut |key, row| {
                if key.directory != member || !key.name.as_bytes().starts_with(&prefix) {
                    return ControlFlow::Break(());
                }
                if Stem::of(&key.name) == *stem && stem.plain().as_ref() != Some(&key.name) {
                    at.entry(key.name.clone()).or_default().push((key.clone(), row.clone()));
                }
                ControlFlow::Continue(())
            })?;
        }
        let mut groups = BTreeMap::new();
        let mut derived = Vec::new();
        for (name, at) in at {
            let group = Group::of(rows, &name, at)?;
            if group.is_empty() {
                continue;
            }
            if group.has_conflict() && !is_quiet(rows, directory, &name)? {
                derived.extend(group.losers(devices));
            }
            groups.insert(name, group);
        }
        derived.sort_by(|a, b| (&a.derivation, a.version, a.id, a.slot).cmp(&(&b.derivation, b.version, b.id, b.slot)));
        let mut taken: BTreeSet<Name> = BTreeSet::new();
        for named in &mut derived {
            let free = |name: &Name| !groups.contains_key(name) && !taken.contains(name);
            named.name = (1..).map(|n| named.derivation.numbered(n)).find(free).expect("numbers do not end");
            taken.insert(named.name.clone());
        }
        Ok(StemView { groups, derived })
    }
}

/// Whether no copy may be shown beside a name, because whoever reads the directory would trip over it: inside `.git`, and the
/// companions of SQLite databases.
pub(crate) fn is_quiet(rows: &dyn Rows, directory: &[FileId], name: &Name) -> Result<bool, Missing> {
    const COMPANIONS: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];
    if COMPANIONS.iter().any(|suffix| name.as_bytes().ends_with(suffix)) {
        return Ok(true);
    }
    let mut at = directory.first().copied();
    while let Some(here) = at.filter(|&d| d != FileId::ROOT) {
        let Some(Place { parent, name }) = header(rows, here)?.map(|h| h.shown) else { break };
        if name.as_bytes() == b".git" {
            return Ok(true);
        }
        at = Some(parent);
    }
    Ok(false)
}
