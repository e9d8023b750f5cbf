//! Many entries made at once, as the delta of a commit of their own: what an import does.
//!
//! A commit that only adds files to names that are free replaces nothing. So none of it has to be pending first: the commit is made,
//! published and learnt as if it were another device's.

use crate::content::Content;
use crate::delta::{AddedContent, AddedPlacement, Delta, FileDelta};
use crate::edit::EditError;
use crate::id::FileId;
use crate::layout::header;
use crate::name::Name;
use crate::render::{self, Devices};
use crate::row::{Missing, Rows};
use crate::state::{Attributes, Kind, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Where an entry of [`bear`] is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cradle {
    /// In a directory that is there: the union of directories shown as one.
    At(Vec<FileId>),
    /// In the directory that the entry with this index makes; it comes earlier in the same call.
    Born(usize),
}

/// An entry to be made by [`bear`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Where.
    pub cradle: Cradle,
    /// Its name there.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its content; `None` for directories, and for what begins empty.
    pub content: Option<Content>,
}

/// What [`bear`] found: for each entry its id or why it is not made, and the delta that makes the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Born {
    /// In the order of the births.
    pub made: Vec<Result<FileId, EditError>>,
    /// What the commit says.
    pub delta: Delta,
}

/// The delta that makes entries in the order given, by the rules of [`crate::edit::Edit::create`]. `fresh` hands out ids that were never
/// used, each greater than the one before.
///
/// An entry gets [`EditError::Exists`] if its name is taken; [`EditError::NotFound`] if its directory is gone, was not made, or is shown
/// only for what is in it though it was removed ([`crate::edit::Edit::revive`] it first).
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn bear(
    rows: &dyn Rows,
    devices: &dyn Devices,
    fresh: &mut dyn FnMut() -> FileId,
    births: &[Birth],
) -> Result<Born, Missing> {
    let mut born = Born { made: Vec::with_capacity(births.len()), delta: Delta::default() };
    let mut taken: BTreeSet<(FileId, &Name)> = BTreeSet::new();
    let mut open: BTreeMap<FileId, bool> = BTreeMap::new();
    for birth in births {
        let parent = match &birth.cradle {
            Cradle::Born(index) => match (births.get(*index), born.made.get(*index)) {
                (Some(Birth { kind: Kind::Directory, .. }), Some(Ok(id))) => Some(*id),
                _ => None,
            },
            Cradle::At(union) => first_open(rows, union, &mut open)?,
        };
        let outcome = match (parent, &birth.cradle) {
            (None, _) => Err(EditError::NotFound),
            (Some(parent), _) if !taken.insert((parent, &birth.name)) => Err(EditError::Exists),
            (Some(_), Cradle::At(union)) if render::lookup(rows, devices, union, &birth.name)?.is_some() => {
                Err(EditError::Exists)
            }
            (Some(parent), _) => {
                let id = fresh();
                born.delta.files.push(newborn(id, Place { parent, name: birth.name.clone() }, birth));
                Ok(id)
            }
        };
        born.made.push(outcome);
    }
    Ok(born)
}

/// The directory of a union that new entries are placed in, if neither it nor any above it was removed.
fn first_open(
    rows: &dyn Rows,
    union: &[FileId],
    known: &mut BTreeMap<FileId, bool>,
) -> Result<Option<FileId>, Missing> {
    let Some(&first) = union.first() else { return Ok(None) };
    if let Some(is_open) = known.get(&first) {
        return Ok(Some(first).filter(|_| *is_open));
    }
    let mut at = first;
    let is_open = loop {
        if at == FileId::ROOT || at == FileId::RECOVERED {
            break true;
        }
        match header(rows, at)? {
            Some(header) if !header.removed => at = header.shown.parent,
            _ => break false,
        }
    };
    known.insert(first, is_open);
    Ok(Some(first).filter(|_| is_open))
}

fn newborn(id: FileId, place: Place, birth: &Birth) -> FileDelta {
    let mut delta = FileDelta::new(id, birth.kind, None);
    if birth.kind != Kind::Directory {
        let value = Some(birth.content.clone().unwrap_or_else(Content::empty));
        delta.content = Some(AddedContent { value, at: place.clone(), by_rule: false });
    }
    delta.placements.push(AddedPlacement { slot: 0, place, was: None, by_rule: false, removed: false });
    delta.attributes = Some(birth.attributes.clone());
    delta
}
