//! Ending a conflict: what is kept is written as a user's, what is not is removed, and nothing is left to rendering.

use super::draft::{Draft, add_content, put_attributes, put_placement};
use super::{Edit, EditError, Edited};
use crate::content::Content;
use crate::id::{FileId, Version};
use crate::name::Name;
use crate::render::derived::Stem;
use crate::render::group::{Derived, Group, Named, StemView, is_quiet};
use crate::row::Missing;
use crate::state::{Attributes, ContentVersion, File, Place};
use alloc::sync::Arc;

/// What of a conflict is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The file of this id, or the conflict copy of this derived id: it stands alone at the name afterwards.
    Only(FileId),
    /// Everything: each copy becomes a file of its own, under the name at which it was shown.
    All,
}

impl Edit<'_> {
    /// Ends the conflict at a natural name of a directory. Without one nothing is written.
    ///
    /// # Errors
    /// [`EditError::NotFound`] if what is to be kept is not there; [`EditError::Invalid`] for [`Keep::All`] where no copy may be shown (inside
    /// `.git`, companions of databases); [`EditError::IsDirectory`] if a file is to be kept whose name a directory has.
    pub fn resolve(mut self, parent: &[FileId], natural: &Name, keep: Keep) -> Result<Edited, EditError> {
        let mut draft = self.draft();
        if !Group::read(&draft.work, parent, natural)?.has_conflict() {
            return Ok(Edited::default());
        }
        if !draft.touch_directory(parent)? {
            return Err(EditError::NotFound);
        }
        let quiet = is_quiet(&draft.work, parent, natural)?;
        if !quiet {
            draft.settle_others(parent, natural)?;
            draft.commit()?;
        }
        let group = Group::read(&draft.work, parent, natural)?;
        let mut named: alloc::vec::Vec<Named> = if quiet {
            group.losers(draft.devices)
        } else {
            let derived = StemView::read(&draft.work, draft.devices, parent, &Stem::of(natural))?.derived;
            derived.into_iter().filter(|n| n.natural == *natural).collect()
        };
        for loser in named.iter_mut().filter(|n| n.name.is_empty()) {
            loser.name = natural.clone();
        }
        match keep {
            Keep::All if quiet => return Err(EditError::Invalid),
            Keep::All => draft.keep_all(&group, &named, &mut self)?,
            Keep::Only(id) => draft.keep_only(&group, &named, id, self.now_ns)?,
        }
        Ok(draft.finish()?)
    }
}

impl Draft<'_> {
    /// Settles what has a derived name of this stem for the sake of another natural name: its number must not change.
    fn settle_others(&mut self, parent: &[FileId], natural: &Name) -> Result<(), Missing> {
        let view = StemView::read(&self.work, self.devices, parent, &Stem::of(natural))?;
        for other in view.derived.iter().filter(|n| n.natural != *natural) {
            match other.what {
                Derived::Copy { .. } => self.settle_copy(other)?,
                Derived::Entry(_) => self.settle_names(parent, &other.natural)?,
            }
        }
        Ok(())
    }

    fn keep_all(&mut self, group: &Group, named: &[Named], edit: &mut Edit<'_>) -> Result<(), Missing> {
        for loser in named {
            match &loser.what {
                Derived::Copy { .. } => self.bury_copy(loser)?,
                Derived::Entry(at) => {
                    let entry = &group.entries[*at];
                    let natural = Place { parent: entry.directory, name: group.name.clone() };
                    let file = self.file(entry.file.id, entry.file.kind, Some(&natural))?;
                    put_placement(file, entry.slot, Place { name: loser.name.clone(), ..natural }, false);
                }
            }
        }
        self.commit()?;
        for loser in named {
            let Derived::Copy { file: source, content, .. } = &loser.what else { continue };
            let place = Place { parent: loser.directory, name: loser.name.clone() };
            let file = self.file((edit.fresh)(), source.kind, Some(&place))?;
            if let Some(attributes) = source.seen_attributes() {
                put_attributes(file, attributes.clone());
            }
            let value = Some(content.clone());
            add_content(file, ContentVersion { version: Version::PENDING, value, at: place.clone(), by_rule: false });
            put_placement(file, 0, place, false);
        }
        Ok(())
    }

    fn keep_only(&mut self, group: &Group, named: &[Named], id: FileId, now_ns: i64) -> Result<(), EditError> {
        let copy = named.iter().find_map(|n| match &n.what {
            Derived::Copy { file, content, .. } if n.id == id => Some((file, content)),
            _ => None,
        });
        let kept = copy.map_or(id, |(file, _)| file.id);
        let is_directory = group.members.iter().any(|member| member.id == id);
        if !group.members.is_empty() && !is_directory {
            return Err(EditError::IsDirectory);
        }
        if !is_directory && !group.entries.iter().any(|entry| entry.file.id == kept) {
            return Err(EditError::NotFound);
        }
        for loser in named.iter().filter(|n| matches!(n.what, Derived::Copy { .. })) {
            self.bury_copy(loser)?;
        }
        if let Some((source, content)) = copy {
            self.put_content(source, group, content, now_ns)?;
        }
        self.commit()?;
        for entry in &group.entries {
            let natural = Place { parent: entry.directory, name: group.name.clone() };
            if is_directory || entry.file.id != kept {
                self.drop_name(&entry.file, entry.slot)?;
                continue;
            }
            let file = self.file(entry.file.id, entry.file.kind, Some(&natural))?;
            put_placement(file, entry.slot, natural, false);
        }
        Ok(())
    }

    /// Makes this the only content of a file.
    fn put_content(
        &mut self,
        source: &Arc<File>,
        group: &Group,
        content: &Content,
        now_ns: i64,
    ) -> Result<(), Missing> {
        let Some(entry) = group.entries.iter().find(|entry| entry.file.id == source.id) else { return Ok(()) };
        let at = Place { parent: entry.directory, name: group.name.clone() };
        let attributes = source.seen_attributes().cloned();
        let file = self.file(source.id, source.kind, Some(&at))?;
        file.contents.clear();
        add_content(
            file,
            ContentVersion { version: Version::PENDING, value: Some(content.clone()), at, by_rule: false },
        );
        if let Some(attributes) = attributes {
            put_attributes(file, Attributes { mtime_ns: now_ns, ctime_ns: now_ns, ..attributes });
        }
        Ok(())
    }
}
