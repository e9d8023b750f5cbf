//! What a commit changes: versions added and versions replaced. Nothing else.

use crate::content::Content;
use crate::id::{FileId, Version};
use crate::state::{Attributes, Kind, Place, Placement};
use alloc::vec::Vec;

/// Which register of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// Where it stands; one register per hard link.
    Placement {
        /// The link.
        slot: u64,
    },
    /// What it contains.
    Content,
    /// Its attributes.
    Attributes,
}

/// A placement that a commit adds; its version is the commit's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedPlacement {
    /// The link.
    pub slot: u64,
    /// Where.
    pub place: Place,
    /// Where it was before.
    pub was: Option<Place>,
    /// Written by settling.
    pub by_rule: bool,
    /// The directory is removed here.
    pub removed: bool,
}

impl AddedPlacement {
    /// The placement as it stands in the file's record.
    pub(crate) fn under(&self, version: Version) -> Placement {
        let AddedPlacement { slot, place, was, by_rule, removed } = self.clone();
        Placement { slot, version, place, was, by_rule, removed }
    }
}

/// A content that a commit adds; its version is the commit's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedContent {
    /// The bytes; `None` removes an unsettled conflict copy.
    pub value: Option<Content>,
    /// Where the file stood when it was written; of a new file, where it is placed.
    pub at: Place,
    /// Written by settling.
    pub by_rule: bool,
}

/// What a commit changes about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDelta {
    /// Which file.
    pub id: FileId,
    /// What kind it is.
    pub kind: Kind,
    /// Where its record stood when the change was made (slot 0's place): a hint for finding it, `None` if it is new or homeless.
    pub hint: Option<Place>,
    /// New placements, at most one per slot, sorted by slot.
    pub placements: Vec<AddedPlacement>,
    /// New content, if any.
    pub content: Option<AddedContent>,
    /// New attributes, if any.
    pub attributes: Option<Attributes>,
    /// Versions that this commit replaces, sorted.
    pub replaced: Vec<(Register, Version)>,
}

impl FileDelta {
    /// A delta that changes nothing yet.
    pub fn new(id: FileId, kind: Kind, hint: Option<Place>) -> FileDelta {
        FileDelta { id, kind, hint, placements: Vec::new(), content: None, attributes: None, replaced: Vec::new() }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty() && self.content.is_none() && self.attributes.is_none() && self.replaced.is_empty()
    }
}

/// What a commit changes: one [`FileDelta`] per file, sorted by file id, none empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The files.
    pub files: Vec<FileDelta>,
}
