//! What others hear of a change that did not come through the mount.

use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::row::{Key, Row, RowChanges};

/// What became different. Delivered after the new state is visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Names whose binding changed: they now stand for another file, or for none.
    pub bindings: Vec<(FileId, Name)>,
    /// Files whose content or attributes changed.
    pub files: Vec<FileId>,
    /// Directories whose listing changed.
    pub directories: Vec<FileId>,
    /// Names that stand for the same file as before, which has another id now: the directories' listings and times are as they were.
    pub renumbered: Vec<(FileId, Name)>,
    /// The directories' times are as their records say, whatever changed in them.
    pub timeless: bool,
    /// Anything may have changed: what else is said here names only what nobody can know of who saw the state before.
    pub all: bool,
}

impl Change {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let names_none = self.bindings.is_empty() && self.renumbered.is_empty();
        names_none && self.files.is_empty() && self.directories.is_empty() && !self.all
    }

    /// Tells bindings from contents: a key that had a row and still has one is a changed file, every other is a changed binding.
    pub(crate) fn of_rows(changes: &RowChanges, mut had: impl FnMut(&Key) -> Option<Row>) -> Change {
        let mut change = Change::default();
        for (key, new) in changes {
            let old = had(key);
            if old == *new {
                continue;
            }
            change.files.push(key.file);
            let rebound = old.is_none() || new.is_none();
            if rebound && !key.name.is_empty() {
                change.bindings.push((key.directory, key.name.clone()));
                change.directories.push(key.directory);
            }
        }
        change.tidy();
        change
    }

    /// Adds what else became different at the same time.
    pub(crate) fn append(&mut self, mut other: Change) {
        self.bindings.append(&mut other.bindings);
        self.files.append(&mut other.files);
        self.directories.append(&mut other.directories);
        self.renumbered.append(&mut other.renumbered);
        self.timeless |= other.timeless;
        self.all |= other.all;
    }

    /// Tells it by the ids that files have now.
    pub(crate) fn renumber(&mut self, now: impl Fn(FileId) -> FileId) {
        let names = self.bindings.iter_mut().chain(&mut self.renumbered).map(|(directory, _)| directory);
        names.chain(&mut self.files).chain(&mut self.directories).for_each(|file| *file = now(*file));
    }

    pub(crate) fn tidy(&mut self) {
        self.bindings.sort();
        self.bindings.dedup();
        self.files.sort();
        self.files.dedup();
        self.directories.sort();
        self.directories.dedup();
        self.renumbered.sort();
        self.renumbered.dedup();
    }
}
