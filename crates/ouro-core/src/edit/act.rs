//! The parts that several operations share: finding the subject, settling around it, removing and placing it.

use super::EditError;
use super::draft::{Draft, add_content, put_attributes, put_placement};
use super::purge::is_shown_though_removed;
use super::settle::put_directory;
use crate::content::Content;
use crate::digest::versions;
use crate::id::{FileId, Version};
use crate::layout::{has_rows, header};
use crate::name::Name;
use crate::render::derived::{Stem, contains_mark};
use crate::render::group::{Derived, Group, Named, StemView};
use crate::render::{self, Seen, What, members};
use crate::sibling;
use crate::state::{Attributes, ContentVersion, File, Kind, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What an operation acts on, found again in the rows.
pub(super) enum Subject {
    Link(Link),
    Copy(Named),
    Directory { natural: Name, members: Vec<FileId> },
}

/// One name of a file.
pub(super) struct Link {
    pub(super) file: Arc<File>,
    pub(super) slot: u64,
    /// Where it stands by its placement.
    pub(super) natural: Place,
    /// Whether it is shown, see [`render::out_of_sight`].
    pub(super) shown: bool,
}

/// What stands ready to be placed elsewhere, everything around it settled.
pub(super) enum Ready {
    Link { id: FileId, kind: Kind, slot: u64, stood: Place },
    Directory { members: Vec<FileId> },
}

impl Ready {
    pub(super) fn is_same(&self, other: &Ready) -> bool {
        match (self, other) {
            (Ready::Link { id, .. }, Ready::Link { id: other, .. }) => id == other,
            (Ready::Directory { members }, Ready::Directory { members: others }) => members == others,
            _ => false,
        }
    }
}

impl Draft<'_> {
    pub(super) fn expect_free(&self, directory: &[FileId], name: &Name) -> Result<(), EditError> {
        match render::lookup(&self.work, self.devices, directory, name)? {
            Some(_) => Err(EditError::Exists),
            None => Ok(()),
        }
    }

    /// Drafts a new entry and returns its id.
    pub(super) fn make(
        &mut self,
        fresh: &mut dyn FnMut() -> FileId,
        parent: &[FileId],
        name: &Name,
        kind: Kind,
        attributes: Attributes,
        content: Option<Content>,
    ) -> Result<FileId, EditError> {
        self.expect_free(parent, name)?;
        if !self.touch_directory(parent)? {
            return Err(EditError::NotFound);
        }
        let id = fresh();
        let place = Place { parent: parent[0], name: name.clone() };
        let file = self.file(id, kind, Some(&place))?;
        put_attributes(file, attributes);
        if kind != Kind::Directory {
            let value = Some(content.unwrap_or_else(Content::empty));
            add_content(file, ContentVersion { version: Version::PENDING, value, at: place.clone(), by_rule: false });
        }
        put_placement(file, 0, place, false);
        Ok(id)
    }

    /// Refuses to move the root and `Recovered/`, and directories into themselves.
    pub(super) fn expect_movable(&self, seen: &Seen, to: &[FileId]) -> Result<(), EditError> {
        if seen.id == FileId::ROOT || seen.id == FileId::RECOVERED {
            return Err(EditError::Invalid);
        }
        let What::Directory { members, .. } = &seen.what else { return Ok(()) };
        for &directory in to {
            let mut at = directory;
            while at != FileId::ROOT {
                if members.contains(&at) {
                    return Err(EditError::Loop);
                }
                let Some(header) = header(&self.work, at)? else { break };
                at = header.shown.parent;
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, parent: &[FileId], seen: &Seen) -> Result<Subject, EditError> {
        let group = Group::read(&self.work, parent, &seen.name)?;
        if let Some(at) = group.out_of_sight(&self.work, parent, seen.id)? {
            let (_, mut link) = link(&group, at);
            link.shown = false;
            return Ok(Subject::Link(link));
        }
        let (id, subject) = if let Some(first) = group.members.first() {
            let members = group.members.iter().map(|m| m.id).collect();
            (first.id, Subject::Directory { natural: seen.name.clone(), members })
        } else if !group.entries.is_empty() {
            let (id, first) = link(&group, 0);
            (id, Subject::Link(first))
        } else if contains_mark(seen.name.as_bytes()) {
            let view = StemView::read(&self.work, self.devices, parent, &Stem::of(&seen.name))?;
            let named = view.derived.iter().find(|n| n.name == seen.name).ok_or(EditError::NotFound)?;
            match (&named.what, view.groups.get(&named.natural)) {
                (Derived::Entry(i), Some(group)) => {
                    let (id, entry) = link(group, *i);
                    (id, Subject::Link(entry))
                }
                _ => (named.id, Subject::Copy(named.clone())),
            }
        } else {
            return Err(EditError::NotFound);
        };
        if id == seen.id { Ok(subject) } else { Err(EditError::NotFound) }
    }

    /// As [`Draft::find`], for what is done to a name: nobody does anything to one that is not shown.
    pub(super) fn find_shown(&self, parent: &[FileId], seen: &Seen) -> Result<Subject, EditError> {
        match self.find(parent, seen)? {
            Subject::Link(Link { shown: false, .. }) => Err(EditError::NotFound),
            subject => Ok(subject),
        }
    }

    /// Settles the name groups of the other links of a file, for what is written shows under all of them.
    pub(super) fn settle_other_links(&mut self, link: &Link) -> Result<(), EditError> {
        let stands = sibling::stands(&link.file);
        if stands.len() < 2 {
            return Ok(());
        }
        for stand in stands.into_iter().filter(|s| s.slot != link.slot) {
            let place = self.known_place(stand.place)?;
            let directory = members(&self.work, place.parent)?;
            self.settle_names(&directory, &place.name)?;
        }
        Ok(())
    }

    /// Makes room for a new content: what is seen now goes, copies stay as siblings; but one that is equal to the new content becomes
    /// a file, or the two would be one from now on.
    pub(super) fn replace_content(&mut self, link: &Link, content: &Content) -> Result<(), EditError> {
        let contents = sibling::contents(&link.file);
        let stays = |c: &&sibling::Contents<'_>| !sibling::same(c.content, content);
        let living: Vec<Version> = contents.iter().skip(1).filter(stays).flat_map(|c| c.versions.clone()).collect();
        if contents.len() > 1 && contents.iter().skip(1).any(|c| sibling::same(c.content, content)) {
            for copy in self.copies_of(&link.file)? {
                if matches!(&copy.what, Derived::Copy { content: its, .. } if sibling::same(its, content)) {
                    self.settle_copy(&copy)?;
                }
            }
        }
        let file = self.file(link.file.id, link.file.kind, Some(&link.natural))?;
        file.contents.retain(|c| living.contains(&c.version));
        Ok(())
    }

    /// Settles what is around an entry that is to be moved, and makes it real itself.
    pub(super) fn prepare(&mut self, seen: &Seen, parent: &[FileId]) -> Result<Ready, EditError> {
        let subject = self.find_shown(parent, seen)?;
        if let Subject::Directory { .. } = subject {
            self.settle_cuts()?;
        }
        if !self.touch_directory(parent)? {
            return Err(EditError::NotFound);
        }
        self.settle_stem(parent, &seen.name)?;
        match subject {
            Subject::Directory { natural, members } => {
                self.settle_names(parent, &natural)?;
                Ok(Ready::Directory { members })
            }
            Subject::Copy(copy) => {
                self.settle_copy(&copy)?;
                let stood = Place { parent: copy.directory, name: copy.name.clone() };
                Ok(Ready::Link { id: copy.id, kind: seen.kind(), slot: 0, stood })
            }
            Subject::Link(link) => {
                self.settle_names(parent, &link.natural.name)?;
                if sibling::stands(&link.file).first().is_some_and(|first| first.slot == link.slot) {
                    self.settle_copies(&link.file)?;
                }
                Ok(Ready::Link { id: link.file.id, kind: link.file.kind, slot: link.slot, stood: link.natural })
            }
        }
    }

    /// Places what is ready elsewhere.
    pub(super) fn place(&mut self, ready: &Ready, place: &Place) -> Result<(), EditError> {
        match ready {
            Ready::Link { id, kind, slot, stood } => {
                let file = self.file(*id, *kind, Some(stood))?;
                put_placement(file, *slot, place.clone(), false);
            }
            Ready::Directory { members } => {
                for &id in members.iter().filter(|&&d| d != FileId::RECOVERED) {
                    let Some(header) = header(&self.work, id)? else { continue };
                    let file = self.file(id, Kind::Directory, None)?;
                    let before = if header.cut { None } else { first_move(file) };
                    put_directory(file, place.clone(), Some(before.unwrap_or(header.shown)), false, false);
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, seen: &Seen, parent: &[FileId]) -> Result<(), EditError> {
        let subject = self.find_shown(parent, seen)?;
        if let Subject::Directory { members, .. } = &subject {
            if seen.id == FileId::ROOT || seen.id == FileId::RECOVERED {
                return Err(EditError::Invalid);
            }
            if !render::list(&self.work, self.devices, members, None, 1)?.entries.is_empty() {
                return Err(EditError::NotEmpty);
            }
            self.settle_cuts()?;
        }
        if !self.touch_directory(parent)? {
            return Err(EditError::NotFound);
        }
        match subject {
            Subject::Directory { natural, members } => {
                self.settle_names(parent, &natural)?;
                for id in members {
                    self.remove_directory(id)?;
                }
            }
            Subject::Copy(copy) => {
                self.settle_stem(parent, &seen.name)?;
                self.bury_copy(&copy)?;
            }
            Subject::Link(link) => {
                self.settle_stem(parent, &seen.name)?;
                self.settle_names(parent, &link.natural.name)?;
                self.drop_name(&link.file, link.slot)?;
            }
        }
        Ok(())
    }

    /// Removes those of a union that others removed: they are not seen with the others now that nothing is in them.
    pub(super) fn remove_hidden(&mut self, members: &[FileId]) -> Result<(), EditError> {
        for &id in members {
            let is_removed = header(&self.work, id)?.is_some_and(|header| header.removed);
            if is_removed && id != FileId::RECOVERED && !is_shown_though_removed(&self.work, id)? {
                self.remove_directory(id)?;
            }
        }
        Ok(())
    }

    /// A directory that was made in this generation and in which nothing is leaves nothing behind; any other is marked as removed.
    fn remove_directory(&mut self, id: FileId) -> Result<(), EditError> {
        let Some(header) = header(&self.work, id)? else { return Ok(()) };
        let leaves_nothing = self.is_unsealed(id)? && !has_rows(&self.work, id)? && !self.holds_directories(id);
        let file = self.file(id, Kind::Directory, None)?;
        if leaves_nothing {
            file.placements.clear();
            file.attributes.clear();
            return Ok(());
        }
        // Nobody else has seen a move that is not sealed yet: it is removed where others know it.
        let (place, was) = match first_move(file).filter(|_| !header.cut) {
            Some(place) => (place, None),
            None => {
                let was = sibling::pick(file.placements.iter()).and_then(|p| p.was.clone());
                (header.shown, was.filter(|_| !header.cut))
            }
        };
        let place = self.lasting_place(place)?;
        put_directory(self.file(id, Kind::Directory, None)?, place, was, false, true);
        Ok(())
    }

    /// Whether a directory was placed here in this generation. It may be hidden: removed elsewhere since.
    fn holds_directories(&self, parent: FileId) -> bool {
        self.deltas().any(|d| d.kind == Kind::Directory && d.placements.iter().any(|p| p.place.parent == parent))
    }

    /// The place, or one above it: directories made in this generation may go without a trace.
    fn lasting_place(&mut self, mut place: Place) -> Result<Place, EditError> {
        while self.is_unsealed(place.parent)? {
            let Some(above) = header(&self.work, place.parent)? else { break };
            place.parent = above.shown.parent;
        }
        Ok(place)
    }

    fn is_unsealed(&mut self, directory: FileId) -> Result<bool, EditError> {
        if directory == FileId::ROOT || directory == FileId::RECOVERED {
            return Ok(false);
        }
        let is_new = self.delta_of(directory).is_some_and(|delta| delta.replaced.is_empty());
        Ok(is_new && versions(self.file(directory, Kind::Directory, None)?).all(|(_, version)| version.is_pending()))
    }
}

fn link(group: &Group, index: usize) -> (FileId, Link) {
    let entry = &group.entries[index];
    let natural = Place { parent: entry.directory, name: group.name.clone() };
    (entry.file.id, Link { file: entry.file.clone(), slot: entry.slot, natural, shown: true })
}

/// Where a directory was before it was first moved in this generation.
fn first_move(file: &File) -> Option<Place> {
    sibling::pick(file.placements.iter())
        .filter(|p| p.version.is_pending() && !p.by_rule && !p.removed)
        .and_then(|p| p.was.clone())
}
