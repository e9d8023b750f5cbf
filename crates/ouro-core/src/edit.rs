//! What an operation on the seen writes.
//!
//! An operation names what it acts on as it is seen ([`Seen`]); what it writes are registers of files, so what was only rendered is
//! settled on the way: losers get their shown names, copies become files, revived directories are un-removed. The real versions that go
//! are named as replaced from the first change on, so heads that move meanwhile do not change what a commit says.

mod act;
mod draft;
mod identity;
mod purge;
mod recall;
mod replant;
mod resolve;
mod sealing;
mod settle;

pub use identity::Succession;
pub use purge::{Among, held, is_held, is_shown_though_removed, purgeable};
pub use replant::Replanted;
pub use resolve::Keep;
pub use sealing::hlc_floor;

use crate::content::Content;
use crate::delta::FileDelta;
use crate::id::{FileId, Version};
use crate::name::Name;
use crate::render::{Devices, Seen};
use crate::row::{Missing, RowChanges, Rows};
use crate::state::{Attributes, ContentVersion, File, Kind, Place};
use act::{Ready, Subject};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use draft::{Draft, add_content, put_attributes, put_placement};

/// Most names a file may have.
pub const LINKS_MAX: u32 = 65_000;

/// What this device changed and has not sealed: the overlay's current generation. None of the deltas is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// By file.
    pub files: BTreeMap<FileId, FileDelta>,
}

impl Pending {
    /// Puts the deltas of an operation into effect.
    pub fn take(&mut self, deltas: Vec<(FileId, Option<FileDelta>)>) {
        for (id, delta) in deltas {
            match delta {
                Some(delta) => self.files.insert(id, delta),
                None => self.files.remove(&id),
            };
        }
    }
}

/// One operation to come, with all that decides what it writes.
pub struct Edit<'a> {
    /// The live rows, with pending changes in them as [`Version::PENDING`].
    pub rows: &'a dyn Rows,
    /// What is pending already.
    pub pending: &'a Pending,
    /// How devices are called.
    pub devices: &'a dyn Devices,
    /// Hands out an id that was never used: for what is created, and for hard links.
    pub fresh: &'a mut dyn FnMut() -> FileId,
    /// Now: nanoseconds since 1970 (UTC).
    pub now_ns: i64,
    /// The seal generation in which the operation falls.
    pub generation: u64,
}

/// What an operation does, to be put into effect by the caller at once.
#[derive(Clone, Debug, Default)]
pub struct Edited {
    /// New pending deltas; `None` where none is left.
    pub pending: Vec<(FileId, Option<FileDelta>)>,
    /// The live rows that change.
    pub changes: RowChanges,
    /// Directories whose shown entries may differ: sorted, each once. Where several are shown as one, at least one of them:
    /// [`crate::render::members`] tells the others.
    pub listings: Vec<FileId>,
    /// Files whose content or attributes may differ: sorted, each once.
    pub files: Vec<FileId>,
}

/// Why an operation was not done. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// A node must be brought first; then ask again.
    Missing(Missing),
    /// What was to be changed, or the directory, is not there any more.
    NotFound,
    /// Something stands at the name already.
    Exists,
    /// The directory to be removed or replaced shows something.
    NotEmpty,
    /// Not a directory, but it should be one.
    NotDirectory,
    /// A directory, but it should be none.
    IsDirectory,
    /// A directory cannot be moved into itself.
    Loop,
    /// The file has [`LINKS_MAX`] names.
    TooManyLinks,
    /// Not possible for this entry, such as moving the root or `Recovered/`.
    Invalid,
}

impl From<Missing> for EditError {
    fn from(missing: Missing) -> EditError {
        EditError::Missing(missing)
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditError::Missing(_) => "a part of the index must be fetched first",
            EditError::NotFound => "no such entry",
            EditError::Exists => "the name is taken",
            EditError::NotEmpty => "the directory is not empty",
            EditError::NotDirectory => "not a directory",
            EditError::IsDirectory => "is a directory",
            EditError::Loop => "a directory cannot be moved into itself",
            EditError::TooManyLinks => "too many names of one file",
            EditError::Invalid => "not possible for this entry",
        })
    }
}

impl core::error::Error for EditError {}

impl<'a> Edit<'a> {
    fn draft(&self) -> Draft<'a> {
        Draft::new(self.rows, self.pending, self.devices)
    }

    /// Makes a new entry and returns its id. Files without a given content begin empty; directories have none.
    ///
    /// # Errors
    /// [`EditError::Exists`] if the name is taken; [`EditError::NotFound`] if the directory is gone.
    pub fn create(
        self,
        parent: &[FileId],
        name: &Name,
        kind: Kind,
        attributes: Attributes,
        content: Option<Content>,
    ) -> Result<(FileId, Edited), EditError> {
        let mut draft = self.draft();
        let id = draft.make(self.fresh, parent, name, kind, attributes, content)?;
        Ok((id, draft.finish()?))
    }

    /// Gives a file new content and attributes; returns the id it has afterwards, which is the one it was seen with.
    ///
    /// Other contents from concurrent writes stay, unless they are equal to the new one.
    ///
    /// # Errors
    /// [`EditError::IsDirectory`]; [`EditError::NotFound`] if it is gone.
    pub fn write(
        self,
        seen: &Seen,
        parent: &[FileId],
        content: Content,
        attributes: Attributes,
    ) -> Result<(FileId, Edited), EditError> {
        let mut draft = self.draft();
        let (id, stood) = match draft.find(parent, seen)? {
            Subject::Directory { .. } => return Err(EditError::IsDirectory),
            Subject::Copy(copy) => {
                draft.settle_stem(parent, &copy.name)?;
                draft.settle_copy(&copy)?;
                (copy.id, Place { parent: copy.directory, name: copy.name })
            }
            Subject::Link(link) => {
                // Who writes to a file that is out of sight does not see what has its name: this is as if that had not arrived yet.
                if link.shown {
                    draft.settle_names(parent, &link.natural.name)?;
                }
                draft.settle_other_links(&link)?;
                draft.replace_content(&link, &content)?;
                (link.file.id, link.natural)
            }
        };
        let at = Place { parent: stood.parent, name: seen.name.clone() };
        let file = draft.file(id, seen.kind(), Some(&stood))?;
        add_content(file, ContentVersion { version: Version::PENDING, value: Some(content), at, by_rule: false });
        put_attributes(file, attributes);
        Ok((id, draft.finish()?))
    }

    /// Gives an entry new attributes; `parent` does not matter for the root. Nothing is written if they are what it has.
    ///
    /// # Errors
    /// [`EditError::NotFound`] if it is gone.
    pub fn set_attributes(
        self,
        seen: &Seen,
        parent: &[FileId],
        attributes: Attributes,
    ) -> Result<(FileId, Edited), EditError> {
        let mut draft = self.draft();
        if seen.id == FileId::ROOT {
            put_attributes_unless_same(draft.file(FileId::ROOT, Kind::Directory, None)?, attributes);
            return Ok((seen.id, draft.finish()?));
        }
        match draft.find(parent, seen)? {
            Subject::Directory { members, .. } => {
                if let Some(&first) = members.first().filter(|&&d| d != FileId::RECOVERED) {
                    put_attributes_unless_same(draft.file(first, Kind::Directory, None)?, attributes);
                }
            }
            Subject::Copy(copy) => {
                draft.settle_stem(parent, &copy.name)?;
                draft.settle_copy(&copy)?;
                put_attributes(draft.file(copy.id, seen.kind(), None)?, attributes);
            }
            Subject::Link(link) => {
                let file = draft.file(link.file.id, link.file.kind, Some(&link.natural))?;
                put_attributes_unless_same(file, attributes);
            }
        }
        Ok((seen.id, draft.finish()?))
    }

    /// Moves an entry to another name; returns the id it has afterwards. `over` is what stands there and is replaced. Two names of one
    /// file, and a name onto itself, are left as they are.
    ///
    /// # Errors
    /// [`EditError::Exists`] if something stands there that `over` does not name; [`EditError::NotEmpty`] if `over` is a directory
    /// that shows something; [`EditError::Loop`] for a directory into itself.
    pub fn rename(
        self,
        seen: &Seen,
        from: &[FileId],
        to: &[FileId],
        name: &Name,
        over: Option<&Seen>,
    ) -> Result<(FileId, Edited), EditError> {
        let mut draft = self.draft();
        let at_itself = from.first() == to.first() && seen.name == *name;
        if at_itself || over.is_some_and(|over| over.id == seen.id) {
            return Ok((seen.id, Edited::default()));
        }
        draft.expect_movable(seen, to)?;
        match over {
            Some(over) => {
                draft.remove(over, to)?;
                draft.commit()?;
            }
            None => draft.expect_free(to, name)?,
        }
        let ready = draft.prepare(seen, from)?;
        if !draft.touch_directory(to)? {
            return Err(EditError::NotFound);
        }
        draft.place(&ready, &Place { parent: to[0], name: name.clone() })?;
        Ok((seen.id, draft.finish()?))
    }

    /// Swaps two entries: each stands where the other stood.
    ///
    /// # Errors
    /// [`EditError::Loop`] if one is a directory that holds the other.
    pub fn exchange(self, one: &Seen, from: &[FileId], other: &Seen, to: &[FileId]) -> Result<Edited, EditError> {
        let mut draft = self.draft();
        if from.first() == to.first() && one.name == other.name {
            return Ok(Edited::default());
        }
        draft.expect_movable(one, to)?;
        draft.expect_movable(other, from)?;
        // Settled one after the other, for what one settles the other may be part of.
        draft.prepare(one, from)?;
        draft.commit()?;
        draft.prepare(other, to)?;
        draft.commit()?;
        let (first, second): (Ready, Ready) = (draft.prepare(one, from)?, draft.prepare(other, to)?);
        if first.is_same(&second) {
            return Ok(draft.finish()?);
        }
        draft.place(&first, &Place { parent: to[0], name: other.name.clone() })?;
        draft.place(&second, &Place { parent: from[0], name: one.name.clone() })?;
        Ok(draft.finish()?)
    }

    /// Gives a file a further name; returns the id it has afterwards.
    ///
    /// # Errors
    /// [`EditError::Exists`]; [`EditError::IsDirectory`]; [`EditError::TooManyLinks`].
    pub fn link(self, seen: &Seen, from: &[FileId], to: &[FileId], name: &Name) -> Result<(FileId, Edited), EditError> {
        let mut draft = self.draft();
        draft.expect_free(to, name)?;
        if seen.links() >= LINKS_MAX {
            return Err(EditError::TooManyLinks);
        }
        let (id, kind, place) = match draft.find_shown(from, seen)? {
            Subject::Directory { .. } => return Err(EditError::IsDirectory),
            Subject::Copy(copy) => {
                draft.settle_stem(from, &copy.name)?;
                draft.settle_copy(&copy)?;
                (copy.id, seen.kind(), Place { parent: copy.directory, name: copy.name })
            }
            Subject::Link(link) => {
                draft.settle_names(from, &link.natural.name)?;
                draft.settle_copies(&link.file)?;
                (link.file.id, link.file.kind, link.natural)
            }
        };
        if !draft.touch_directory(to)? {
            return Err(EditError::NotFound);
        }
        let slot = (self.fresh)().0;
        let file = draft.file(id, kind, Some(&place))?;
        put_placement(file, slot, Place { parent: to[0], name: name.clone() }, false);
        Ok((id, draft.finish()?))
    }

    /// Un-removes a directory that is shown though it was removed, and what was removed above it, as making something in it does.
    ///
    /// # Errors
    /// [`EditError::NotFound`] if it is not shown.
    pub fn revive(self, directory: &[FileId]) -> Result<((), Edited), EditError> {
        let mut draft = self.draft();
        if !draft.touch_directory(directory)? {
            return Err(EditError::NotFound);
        }
        Ok(((), draft.finish()?))
    }

    /// Removes a name, and the file with its last one; or an empty directory.
    ///
    /// # Errors
    /// [`EditError::NotEmpty`] for a directory that shows something; [`EditError::NotFound`].
    pub fn remove(self, seen: &Seen, parent: &[FileId]) -> Result<Edited, EditError> {
        let mut draft = self.draft();
        draft.remove(seen, parent)?;
        Ok(draft.finish()?)
    }
}

fn put_attributes_unless_same(file: &mut File, attributes: Attributes) {
    if !matches!(file.attributes.as_slice(), [only] if only.value == attributes) {
        put_attributes(file, attributes);
    }
}
