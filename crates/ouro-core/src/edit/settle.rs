//! Settling: what a touch writes so that what was only rendered becomes real under the names and places at which it was shown.

use super::draft::{Draft, add_content, put_attributes, put_placement};
use crate::id::{FileId, Version};
use crate::layout::{all_cuts, header, is_known, recovered_place};
use crate::name::Name;
use crate::render::derived::{Stem, contains_mark};
use crate::render::group::{Derived, Group, Named, StemView, is_quiet};
use crate::render::members;
use crate::row::Missing;
use crate::sibling;
use crate::state::{Attributes, ContentVersion, File, Kind, Place, Placement};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

impl Draft<'_> {
    /// Writes the losers of a name group under their shown names, so that nothing in it is renamed by what happens to the others.
    pub(crate) fn settle_names(&mut self, directory: &[FileId], natural: &Name) -> Result<(), Missing> {
        let group = Group::read(&self.work, directory, natural)?;
        let settled = |e: &crate::render::group::Entry| match e.file.placements.as_slice() {
            [only] => only.place.parent == e.directory,
            _ => false,
        };
        if group.entries.iter().all(settled) && !group.has_conflict() {
            return Ok(());
        }
        let names = if group.has_conflict() && !is_quiet(&self.work, directory, natural)? {
            StemView::read(&self.work, self.devices, directory, &Stem::of(natural))?.derived
        } else {
            vec![]
        };
        for (i, (entry, stand_in)) in group.entries.iter().zip(group.stand_ins()).enumerate() {
            let is_this = |n: &&Named| n.natural == *natural && matches!(n.what, Derived::Entry(at) if at == i);
            let keeps = i == 0 && group.members.is_empty();
            let shown = match names.iter().find(is_this) {
                Some(named) => &named.name,
                None if keeps => natural,
                // Equal to another one, which stands for both from now on.
                None if stand_in.is_some() => {
                    self.drop_name(&entry.file, entry.slot)?;
                    continue;
                }
                // Kept out of sight.
                None => continue,
            };
            let place = Place { parent: entry.directory, name: shown.clone() };
            let mut siblings = entry.file.placements.iter().filter(|p| p.slot == entry.slot);
            let is_real = siblings.next().is_some_and(|p| p.place == place) && siblings.next().is_none();
            if !is_real {
                let natural = Place { parent: entry.directory, name: natural.clone() };
                let file = self.file(entry.file.id, entry.file.kind, Some(&natural))?;
                put_placement(file, entry.slot, place, true);
            }
        }
        Ok(())
    }

    /// Takes a name away, and all of the file with its last name. Copies shown beside it become real.
    pub(crate) fn drop_name(&mut self, file: &Arc<File>, slot: u64) -> Result<(), Missing> {
        let stands = sibling::stands(file);
        if stands.first().is_none_or(|first| first.slot == slot) {
            self.settle_copies(file)?;
        }
        let place = stands.into_iter().find(|s| s.slot == slot).map(|s| s.place);
        let drafted = self.file(file.id, file.kind, place.as_ref())?;
        drafted.placements.retain(|p| p.slot != slot);
        if drafted.placements.is_empty() {
            drafted.contents.clear();
            drafted.attributes.clear();
        }
        Ok(())
    }

    /// Makes all copies of a file real, where they are shown.
    pub(crate) fn settle_copies(&mut self, file: &Arc<File>) -> Result<(), Missing> {
        for copy in self.copies_of(file)? {
            self.settle_copy(&copy)?;
        }
        Ok(())
    }

    /// The copies of a file with the names under which they are shown.
    pub(crate) fn copies_of(&self, file: &Arc<File>) -> Result<Vec<Named>, Missing> {
        if file.contents.len() < 2 || sibling::contents(file).len() < 2 {
            return Ok(vec![]);
        }
        let Some(first) = sibling::stands(file).into_iter().next() else { return Ok(vec![]) };
        let place = self.known_place(first.place)?;
        let directory = members(&self.work, place.parent)?;
        let is_its = |n: &Named| matches!(&n.what, Derived::Copy { file: source, .. } if source.id == file.id);
        let view = StemView::read(&self.work, self.devices, &directory, &Stem::of(&place.name))?;
        Ok(view.derived.into_iter().filter(is_its).collect())
    }

    /// Where a placement is shown: in `Recovered/` if its directory is unknown.
    pub(crate) fn known_place(&self, place: Place) -> Result<Place, Missing> {
        Ok(if is_known(&self.work, place.parent)? { place } else { recovered_place(&place) })
    }

    /// Makes a copy a real file under its derived id.
    pub(crate) fn settle_copy(&mut self, copy: &Named) -> Result<(), Missing> {
        let Derived::Copy { file: source, versions, content } = &copy.what else { return Ok(()) };
        self.take_contents(source, versions)?;
        let place = Place { parent: copy.directory, name: copy.name.clone() };
        let attributes: Option<Attributes> = source.seen_attributes().cloned();
        let file = self.file(copy.id, source.kind, Some(&place))?;
        file.placements.retain(|p| p.slot != 0 || !p.version.is_pending());
        let at = place.clone();
        file.placements.push(Placement {
            slot: 0,
            version: Version::PENDING,
            place,
            was: None,
            by_rule: true,
            removed: false,
        });
        let value = Some(content.clone());
        add_content(file, ContentVersion { version: Version::PENDING, value, at, by_rule: true });
        if let Some(attributes) = attributes {
            put_attributes(file, attributes);
        }
        Ok(())
    }

    /// Removes an unsettled copy: others may know it too and must see that it is gone.
    pub(crate) fn bury_copy(&mut self, copy: &Named) -> Result<(), Missing> {
        let Derived::Copy { file: source, versions, .. } = &copy.what else { return Ok(()) };
        self.take_contents(source, versions)?;
        let at = Place { parent: copy.directory, name: copy.name.clone() };
        let file = self.file(copy.id, source.kind, Some(&at))?;
        add_content(file, ContentVersion { version: Version::PENDING, value: None, at, by_rule: false });
        Ok(())
    }

    fn take_contents(&mut self, source: &Arc<File>, versions: &[Version]) -> Result<(), Missing> {
        let place = sibling::stands(source).into_iter().next().map(|s| s.place);
        let drafted = self.file(source.id, source.kind, place.as_ref())?;
        drafted.contents.retain(|c| !versions.contains(&c.version));
        Ok(())
    }

    /// Settles what would be shown under another name once `name`, derived as `own` or natural, is free.
    pub(crate) fn settle_stem(&mut self, directory: &[FileId], name: &Name) -> Result<(), Missing> {
        if !contains_mark(name.as_bytes()) {
            return Ok(());
        }
        let view = StemView::read(&self.work, self.devices, directory, &Stem::of(name))?;
        let own = view.derived.iter().find(|n| n.name == *name);
        for other in view.derived.iter().filter(|n| n.name != *name) {
            let follows =
                own.is_some_and(|own| own.derivation == other.derivation) || other.derivation.numbered(1) == *name;
            match other.what {
                _ if !follows => {}
                Derived::Copy { .. } => self.settle_copy(other)?,
                Derived::Entry(_) => self.settle_names(directory, &other.natural)?,
            }
        }
        Ok(())
    }

    /// Un-removes a directory in which something is about to be done, and what is removed above it. False if it is not shown at all.
    pub(crate) fn touch_directory(&mut self, directory: &[FileId]) -> Result<bool, Missing> {
        let Some(&first) = directory.first() else { return Ok(false) };
        let mut at = first;
        let mut revived = false;
        while at != FileId::ROOT && at != FileId::RECOVERED {
            let Some(header) = header(&self.work, at)? else { return Ok(false) };
            if header.removed {
                let level = members(&self.work, at)?;
                let Some(&least) = level.first() else { return Ok(false) };
                if least != FileId::RECOVERED && self.is_removed(least)? {
                    self.settle_directory(least, false)?;
                    revived = true;
                }
            }
            at = header.shown.parent;
        }
        if revived {
            self.settle_cuts()?;
        }
        Ok(true)
    }

    fn is_removed(&self, directory: FileId) -> Result<bool, Missing> {
        Ok(header(&self.work, directory)?.is_some_and(|h| h.removed))
    }

    /// Writes all directories that are shown elsewhere than they say where they are shown.
    pub(crate) fn settle_cuts(&mut self) -> Result<(), Missing> {
        for id in all_cuts(&self.work)? {
            let Some(header) = header(&self.work, id)? else { continue };
            let drafted = self.file(id, Kind::Directory, None)?;
            // What was settled just now, perhaps as no longer removed, stays as it is.
            let is_settled = |p: &Placement| p.version.is_pending() && p.by_rule && p.place == header.shown;
            if !matches!(drafted.placements.as_slice(), [only] if is_settled(only)) {
                self.settle_directory(id, header.removed)?;
            }
        }
        Ok(())
    }

    /// Writes a directory where it is shown.
    pub(crate) fn settle_directory(&mut self, id: FileId, removed: bool) -> Result<(), Missing> {
        let Some(shown) = header(&self.work, id)? else { return Ok(()) };
        let file = self.file(id, Kind::Directory, None)?;
        let was = sibling::pick(file.placements.iter()).and_then(|p| p.was.clone()).filter(|_| !shown.cut);
        put_directory(file, shown.shown, was, true, removed);
        Ok(())
    }
}

/// Makes this the only placement of a directory.
pub(crate) fn put_directory(file: &mut File, place: Place, was: Option<Place>, by_rule: bool, removed: bool) {
    file.placements.clear();
    file.placements.push(Placement { slot: 0, version: Version::PENDING, place, was, by_rule, removed });
}
