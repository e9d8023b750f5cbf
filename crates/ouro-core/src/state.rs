//! What a file is: three registers, each with its living versions.
//!
//! A register normally holds one version; after concurrent writes it holds several, *siblings*. All vectors here are sorted by version
//! (placements by slot, then version) and free of duplicates: [`File::normalize`].

use crate::content::{Content, Xattrs};
use crate::id::{FileId, Version};
use crate::name::Name;
use alloc::vec::Vec;

/// What kind of thing a file is; never changes during its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its target is its content.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A place in the tree: directory and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The directory.
    pub parent: FileId,
    /// The name in it.
    pub name: Name,
}

/// One living version of where a file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which hard link this is about; 0 for the first name of a file and for directories.
    pub slot: u64,
    /// The commit that wrote it.
    pub version: Version,
    /// Where.
    pub place: Place,
    /// Where it was before this placement, for cutting cycles of directories; `None` if it was created here.
    pub was: Option<Place>,
    /// Written by settling, not by a user: yields to a sibling that a user wrote.
    pub by_rule: bool,
    /// The directory was removed here. Always false for other kinds.
    pub removed: bool,
}

/// One living version of what a file contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentVersion {
    /// The commit that wrote it.
    pub version: Version,
    /// The bytes; `None` is the removed record of a conflict copy that was deleted before it was settled.
    pub value: Option<Content>,
    /// Where the file stood then, or when others first heard of it: where it is revived if all names are gone.
    pub at: Place,
    /// Written by settling.
    pub by_rule: bool,
}

/// Attributes that travel; owners stay on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, 0 to 0o7777.
    pub mode: u16,
    /// Last change of the content: nanoseconds since 1970 (UTC).
    pub mtime_ns: i64,
    /// Last change of content or attributes: nanoseconds since 1970 (UTC); stable across remounts.
    pub ctime_ns: i64,
    /// Device number of a device file, else 0.
    pub rdev: u64,
    /// `user.*` attributes, sorted by name.
    pub xattrs: Xattrs,
}

/// One living version of a file's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributesVersion {
    /// The commit that wrote it.
    pub version: Version,
    /// The attributes.
    pub value: Attributes,
}

/// Everything alive about one file. A directory has no content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Which.
    pub id: FileId,
    /// What kind.
    pub kind: Kind,
    /// Living placements, sorted by (slot, version). The root has none.
    pub placements: Vec<Placement>,
    /// Living contents, sorted by version.
    pub contents: Vec<ContentVersion>,
    /// Living attributes, sorted by version.
    pub attributes: Vec<AttributesVersion>,
}

impl File {
    /// A file about which nothing is known yet.
    pub fn new(id: FileId, kind: Kind) -> File {
        File { id, kind, placements: Vec::new(), contents: Vec::new(), attributes: Vec::new() }
    }

    /// Whether no version is alive: such a file has no row.
    pub fn is_gone(&self) -> bool {
        self.placements.is_empty() && self.contents.is_empty() && self.attributes.is_empty()
    }

    /// Whether no commit says anything of it.
    pub fn is_unheard_of(&self) -> bool {
        let placements = self.placements.iter().map(|p| p.version);
        let contents = self.contents.iter().map(|c| c.version);
        let attributes = self.attributes.iter().map(|a| a.version);
        placements.chain(contents).chain(attributes).all(|version| version.is_pending())
    }

    /// Brings the registers into their one order.
    pub fn normalize(&mut self) {
        self.placements.sort_by_key(|p| (p.slot, p.version));
        self.contents.sort_by_key(|c| c.version);
        self.attributes.sort_by_key(|a| a.version);
    }

    /// The attributes that are seen: the latest sibling's.
    pub fn seen_attributes(&self) -> Option<&Attributes> {
        self.attributes.last().map(|a| &a.value)
    }
}
