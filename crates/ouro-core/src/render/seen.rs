//! One entry of a listing as a person sees it.

use crate::content::Content;
use crate::id::{FileId, Version};
use crate::name::Name;
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::{Attributes, File, Kind};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// What is seen at one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The name under which it is shown.
    pub name: Name,
    /// The name it bears by its placement, or beside whose file a copy is shown: `name`, unless that is derived.
    pub group: Name,
    /// Which hard link of the file this is.
    pub slot: u64,
    /// Which file; of a union the member that receives new children; of a conflict copy an id derived by rule.
    pub id: FileId,
    /// What it is.
    pub what: What,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file, symlink or special file.
    File {
        /// All about it.
        file: Arc<File>,
        /// The content that is seen.
        content: Option<Content>,
        /// How many other contents it has, from concurrent writes.
        copies: usize,
    },
    /// A content that lost to another one of the same file, shown as a file of its own. Not real until something touches it.
    Copy {
        /// The file whose content it was.
        file: Arc<File>,
        /// The versions that wrote it.
        versions: Vec<Version>,
        /// The content.
        content: Content,
    },
    /// A directory, or several of the same name shown as one.
    Directory {
        /// All about the first member.
        file: Arc<File>,
        /// The directories, those not removed first, then by id.
        members: Vec<FileId>,
    },
}

impl Seen {
    /// The root of a box, which stands at no name.
    ///
    /// # Errors
    /// [`Missing`] if a node is not on this device.
    pub fn root(rows: &dyn Rows) -> Result<Seen, Missing> {
        let file = match rows.get(&Key::homeless(FileId::ROOT))? {
            Some(Row::Record(file)) => file,
            _ => Arc::new(File::new(FileId::ROOT, Kind::Directory)),
        };
        let what = What::Directory { file, members: vec![FileId::ROOT] };
        Ok(Seen { name: Name::empty(), group: Name::empty(), slot: 0, id: FileId::ROOT, what })
    }

    /// All that is alive about the file, the source's for a conflict copy.
    pub fn file(&self) -> &Arc<File> {
        match &self.what {
            What::File { file, .. } | What::Copy { file, .. } | What::Directory { file, .. } => file,
        }
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> Kind {
        self.file().kind
    }

    /// The attributes that are seen; a plain default where there are none.
    pub fn attributes(&self) -> Attributes {
        let default = || Attributes {
            mode: match self.kind() {
                Kind::Directory => 0o755,
                Kind::Symlink => 0o777,
                _ => 0o644,
            },
            mtime_ns: 0,
            ctime_ns: 0,
            rdev: 0,
            xattrs: Vec::new(),
        };
        self.file().seen_attributes().cloned().unwrap_or_else(default)
    }

    /// The content that is seen; `None` for directories.
    pub fn content(&self) -> Option<&Content> {
        match &self.what {
            What::File { content, .. } => content.as_ref(),
            What::Copy { content, .. } => Some(content),
            What::Directory { .. } => None,
        }
    }

    /// How many names the file has; 1 for directories and copies.
    pub fn links(&self) -> u32 {
        match &self.what {
            // As nearly all of them are: no need to decide where it stands.
            What::File { file, .. } if file.placements.len() < 2 => 1,
            What::File { file, .. } => u32::try_from(sibling::stands(file).len().max(1)).unwrap_or(u32::MAX),
            What::Copy { .. } | What::Directory { .. } => 1,
        }
    }

    /// The directories behind it, to list or look up in; empty for other kinds.
    pub fn members(&self) -> &[FileId] {
        match &self.what {
            What::Directory { members, .. } => members,
            What::File { .. } | What::Copy { .. } => &[],
        }
    }
}
