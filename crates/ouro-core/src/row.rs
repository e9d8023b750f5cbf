//! A state laid out as sorted rows: what trees store and views scan.
//!
//! * A file with exactly one living placement, not removed, has its [`Row::Record`] at `(parent, name, id, slot)`.
//! * Every other file has its record at `(0, "", id, 0)`, and a [`Row::Reference`] at each place where it is shown.
//! * A directory other than the root has besides a [`Row::Header`] at `(d, "", d, 0)`.
//!
//! The rows are a function of the state alone, so the tree over them is history independent.

use crate::content::Locator;
use crate::id::{FileId, NodeId};
use crate::name::Name;
use crate::state::{File, Kind, Place};
use alloc::sync::Arc;
use core::ops::ControlFlow;

/// The key of a row. Ordered by directory, name bytes, file id, slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The directory, or [`FileId::HOMELESS`].
    pub directory: FileId,
    /// The name; empty for headers and homeless records.
    pub name: Name,
    /// The file.
    pub file: FileId,
    /// The hard link.
    pub slot: u64,
}

impl Key {
    /// Where the record of a file without exactly one place stands.
    pub fn homeless(file: FileId) -> Key {
        Key { directory: FileId::HOMELESS, name: Name::empty(), file, slot: 0 }
    }

    /// Where a directory's header stands: the first key of its range.
    pub fn header(directory: FileId) -> Key {
        Key { directory, name: Name::empty(), file: directory, slot: 0 }
    }

    /// Where a file's row at a place stands.
    pub fn at(place: &Place, file: FileId, slot: u64) -> Key {
        Key { directory: place.parent, name: place.name.clone(), file, slot }
    }

    /// The first possible key for a name in a directory.
    pub fn first_of(directory: FileId, name: Name) -> Key {
        Key { directory, name, file: FileId(0), slot: 0 }
    }
}

/// A directory's own header: who its parent is and what it is called, as *shown* (cycles already cut).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Shown parent and name.
    pub shown: Place,
    /// Some living placement says removed; the directory is shown only while something in it is.
    pub removed: bool,
    /// The shown place is not the one its placement names: put back to cut a cycle, or in `Recovered/`.
    pub cut: bool,
}

/// What stands at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// All that is alive about a file.
    Record(Arc<File>),
    /// The file's record is homeless; this is one place where it is shown.
    Reference(Kind),
    /// A directory's header.
    Header(Header),
}

/// A node that must be brought before the question can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which node.
    pub node: NodeId,
    /// Where it lies, if known.
    pub at: Option<Locator>,
}

/// Sorted rows: a tree with the changes since on top, or a plain map in tests.
pub trait Rows {
    /// The row at `key`.
    ///
    /// # Errors
    /// [`Missing`] if a node is not on this device.
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing>;

    /// Visits rows in order from `from` (inclusive) until the visitor breaks or rows end.
    ///
    /// # Errors
    /// [`Missing`] if a node is not on this device; rows visited before stay visited.
    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing>;

    /// Finds the record of a file wherever it stands, for the rare case that every hint failed. May read the whole tree.
    ///
    /// # Errors
    /// [`Missing`] if a node is not on this device.
    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing>;
}

/// Changes of rows: `None` removes.
pub type RowChanges = alloc::collections::BTreeMap<Key, Option<Row>>;
