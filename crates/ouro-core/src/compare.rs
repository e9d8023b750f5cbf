//! How two states differ, as people see it.
//!
//! Given the keys of the rows that differ (from deltas, or from a diff of two trees), the cost is theirs, whatever the size of the states.

use crate::content::Content;
use crate::id::FileId;
use crate::layout::{header, is_known, recovered_place};
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::{Attributes, File, Kind, Place};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// A file that is seen differently in two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which file.
    pub id: FileId,
    /// What it is.
    pub kind: Kind,
    /// How it was; `None` if it was not there.
    pub before: Option<Side>,
    /// How it is; `None` if it is not there.
    pub after: Option<Side>,
}

/// How a file stands in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Where, once for each hard link; only the root of a box stands nowhere. Natural names: what lost its name stands here under the one it lost.
    pub places: Vec<Place>,
    /// The content that is seen; `None` for directories.
    pub content: Option<Content>,
    /// The attributes that are seen.
    pub attributes: Option<Attributes>,
    /// How many contents it has, from concurrent writes.
    pub contents: usize,
}

impl Difference {
    /// Whether it is at other places.
    pub fn is_renamed(&self) -> bool {
        matches!((&self.before, &self.after), (Some(before), Some(after)) if before.places != after.places)
    }

    /// Whether it has another content.
    pub fn is_edited(&self) -> bool {
        matches!((&self.before, &self.after), (Some(before), Some(after)) if before.content != after.content)
    }

    /// Whether its mode or extended attributes differ. Times do not count: every edit changes them.
    pub fn is_attributes(&self) -> bool {
        let told = |side: &Side| side.attributes.as_ref().map(|a| (a.mode, a.rdev, a.xattrs.clone()));
        matches!((&self.before, &self.after), (Some(before), Some(after)) if told(before) != told(after))
    }
}

/// What is seen differently in `after` than in `before`, where the rows at `keys` may differ, in order of file ids. What differs only in
/// versions or times is left out.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn compare<'k>(
    before: &dyn Rows,
    after: &dyn Rows,
    keys: impl Iterator<Item = &'k Key>,
) -> Result<Vec<Difference>, Missing> {
    let mut files: BTreeMap<FileId, Vec<&Key>> = BTreeMap::new();
    for key in keys.filter(|key| key.file != FileId::RECOVERED) {
        files.entry(key.file).or_default().push(key);
    }
    let mut found = Vec::new();
    for (id, keys) in files {
        let (old, new) = (side(before, id, &keys)?, side(after, id, &keys)?);
        let Some(kind) = new.as_ref().or(old.as_ref()).map(|(kind, _)| *kind) else { continue };
        let (before, after) = (old.map(|(_, side)| side), new.map(|(_, side)| side));
        let difference = Difference { id, kind, before, after };
        let there = difference.before.is_some() != difference.after.is_some();
        if there || difference.is_renamed() || difference.is_edited() || difference.is_attributes() {
            found.push(difference);
        }
    }
    Ok(found)
}

/// How a file stands, wherever that is; `None` if it is not seen. May read all rows.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn standing(rows: &dyn Rows, id: FileId) -> Result<Option<Side>, Missing> {
    let Some((key, _)) = rows.find(id)? else { return Ok(None) };
    standing_at(rows, id, &[&key])
}

/// How a file stands whose rows may be at these keys; `None` if they are not, or if it is not seen.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn standing_at(rows: &dyn Rows, id: FileId, keys: &[&Key]) -> Result<Option<Side>, Missing> {
    Ok(side(rows, id, keys)?.map(|(_, side)| side))
}

/// How a file stands, its record found by one of the keys at which rows of it may stand. `None` if it is not seen.
fn side(rows: &dyn Rows, id: FileId, keys: &[&Key]) -> Result<Option<(Kind, Side)>, Missing> {
    let Some(file) = record(rows, id, keys)? else { return Ok(None) };
    let attributes = file.seen_attributes().cloned();
    if file.kind == Kind::Directory {
        let places = match header(rows, id)? {
            Some(header) if rows.get(&Key::at(&header.shown, id, 0))?.is_some() => vec![header.shown],
            _ if id == FileId::ROOT => Vec::new(),
            _ => return Ok(None),
        };
        return Ok(Some((file.kind, Side { places, content: None, attributes, contents: 0 })));
    }
    let contents = sibling::contents(&file);
    let Some(first) = contents.first() else { return Ok(None) };
    let (content, contents) = (Some(first.content.clone()), contents.len());
    let mut places = Vec::new();
    for stand in sibling::stands(&file) {
        places.push(if is_known(rows, stand.place.parent)? { stand.place } else { recovered_place(&stand.place) });
    }
    Ok(Some((file.kind, Side { places, content, attributes, contents })))
}

fn record(rows: &dyn Rows, id: FileId, keys: &[&Key]) -> Result<Option<Arc<File>>, Missing> {
    for key in keys {
        if let Some(Row::Record(file)) = rows.get(key)? {
            return Ok(Some(file));
        }
    }
    if let Some(Row::Record(file)) = rows.get(&Key::homeless(id))? {
        return Ok(Some(file));
    }
    // Of a directory whose header alone changed.
    let Some(header) = header(rows, id)? else { return Ok(None) };
    Ok(match rows.get(&Key::at(&header.shown, id, 0))? {
        Some(Row::Record(file)) => Some(file),
        _ => None,
    })
}
