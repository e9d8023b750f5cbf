//! How commits change rows.
//!
//! A version is added once and replaced at most once, and adding and removing commute: a delta may be applied to rows that also hold
//! changes of this device that are not sealed yet ([`Version::PENDING`]), with the same result as if these came after.

use crate::content::Content;
use crate::delta::{Delta, FileDelta, Register};
use crate::digest::{Digest, versions};
use crate::id::{FileId, Version};
use crate::layout::{Reach, Step, lay_out, locate, returns};
use crate::row::{Key, Missing, Row, RowChanges, Rows};
use crate::sibling::copy_id;
use crate::state::{AttributesVersion, ContentVersion, File, Kind, Place};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// What a change does to rows and to what people see.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The rows that change.
    pub changes: RowChanges,
    /// What to add to the digest of the state. Right for the rows it was computed over: keep the digest of the committed state from
    /// rows without pending versions, because a version that a pending change replaces is no longer among the live rows.
    pub digest: Digest,
    /// Directories whose shown entries may differ: sorted, each once. Where several are shown as one, at least one of them:
    /// [`crate::render::members`] tells the others.
    pub listings: Vec<FileId>,
    /// Files whose content or attributes may differ: sorted, each once.
    pub files: Vec<FileId>,
}

/// The effect on `rows` of adding and replacing the versions of `delta`, a commit of `version`.
///
/// Applying a delta twice in a row is applying it once. Takes time in proportion to the delta, unless files were moved or deleted meanwhile
/// so that their hints fail: then all rows may be read once.
///
/// # Errors
/// [`Missing`] if a node is not on this device; nothing was changed.
pub fn apply(rows: &dyn Rows, delta: &Delta, version: Version) -> Result<Applied, Missing> {
    finish(rows, steps(rows, delta, version)?, Reach::Union)
}

/// The rows and the digest that [`apply`] gives, for a state that nobody looks at yet: what is seen differently, which is half of the
/// work, is not asked. Of a state of the past all commits since a checkpoint are laid on one another so.
///
/// # Errors
/// [`Missing`] if a node is not on this device; nothing was changed.
pub fn apply_unseen(rows: &dyn Rows, delta: &Delta, version: Version) -> Result<(RowChanges, Digest), Missing> {
    let Applied { changes, digest, .. } = finish(rows, steps(rows, delta, version)?, Reach::Nowhere)?;
    Ok((changes, digest))
}

/// The files of a delta as they are and as it makes them.
fn steps(rows: &dyn Rows, delta: &Delta, version: Version) -> Result<Vec<Step>, Missing> {
    let mut found = Vec::with_capacity(delta.files.len());
    let mut lost: BTreeMap<FileId, Option<(Key, Arc<File>)>> = BTreeMap::new();
    for file in &delta.files {
        let old = locate_for(rows, file)?;
        if old.is_none() && file.kind != Kind::Directory && !is_new(file) {
            lost.insert(file.id, None);
        }
        found.push(old);
    }
    if lost.keys().any(|id| id.is_derived()) {
        forget_new_copies(delta, &found, &mut lost);
    }
    find_all(rows, &mut lost)?;
    let mut steps = Vec::with_capacity(delta.files.len());
    for (file, old) in delta.files.iter().zip(found) {
        let old = old.or_else(|| lost.remove(&file.id).flatten());
        let mut new = match &old {
            Some((_, old)) => (**old).clone(),
            None => File::new(file.id, file.kind),
        };
        change(&mut new, file, version);
        if old.as_ref().is_none_or(|(_, old)| **old != new) && !(old.is_none() && new.is_gone()) {
            steps.push(Step { old, new, returns: returns(file) });
        }
    }
    Ok(steps)
}

/// Gives the pending registers that changes write their version: [`Version::PENDING`] becomes `version` there. What else is pending of a
/// file stays so. Each change comes with the place where its file stands, if it has one; files that are not found are passed over.
///
/// # Errors
/// [`Missing`] if a node is not on this device; nothing was changed.
pub fn seal(rows: &dyn Rows, files: &[(&FileDelta, Option<Place>)], version: Version) -> Result<Applied, Missing> {
    let mut steps = Vec::with_capacity(files.len());
    for (delta, place) in files {
        let Some((key, file)) = locate_any(rows, delta.id, place.as_ref())? else { continue };
        let mut new = (*file).clone();
        let is_written = |slot: u64| delta.placements.iter().any(|added| added.slot == slot);
        for placement in new.placements.iter_mut().filter(|p| p.version.is_pending() && is_written(p.slot)) {
            placement.version = version;
        }
        if let Some(added) = &delta.content {
            for content in new.contents.iter_mut().filter(|c| c.version.is_pending()) {
                content.version = version;
                content.at = added.at.clone();
            }
        }
        if delta.attributes.is_some() {
            for attributes in new.attributes.iter_mut().filter(|a| a.version.is_pending()) {
                attributes.version = version;
            }
        }
        new.normalize();
        if new != *file {
            steps.push(Step { old: Some((key, file)), new, returns: false });
        }
    }
    finish(rows, steps, Reach::Union)
}

/// Replaces the value of the content that `version` wrote to a file, and nothing else: a content that was pending is now chunks. Does
/// nothing if the file or that version of it is not there any more. `hint` is a place where the file stands.
///
/// # Errors
/// [`Missing`] if a node is not on this device; nothing was changed.
pub fn refine(
    rows: &dyn Rows,
    file: FileId,
    hint: Option<&Place>,
    version: Version,
    value: &Content,
) -> Result<Applied, Missing> {
    let mut steps = Vec::new();
    if let Some((key, old)) = locate_any(rows, file, hint)? {
        let mut new = (*old).clone();
        for content in new.contents.iter_mut().filter(|c| c.version == version) {
            content.value = Some(value.clone());
        }
        if new != *old {
            steps.push(Step { old: Some((key, old)), new, returns: false });
        }
    }
    finish(rows, steps, Reach::Union)
}

fn finish(rows: &dyn Rows, steps: Vec<Step>, reach: Reach) -> Result<Applied, Missing> {
    let mut digest = Digest::default();
    for step in &steps {
        digest = digest.plus(Digest::of_file(&step.new));
        if let Some((_, old)) = &step.old {
            digest = digest.minus(Digest::of_file(old));
        }
    }
    let laid = lay_out(rows, steps, reach)?;
    Ok(Applied { changes: laid.changes, digest, listings: laid.listings, files: laid.files })
}

fn locate_for(rows: &dyn Rows, file: &FileDelta) -> Result<Option<(Key, Arc<File>)>, Missing> {
    if is_new(file) {
        return locate_newborn(rows, file);
    }
    if let Some(found) = locate(rows, file.id, file.kind, file.hint.as_ref())? {
        return Ok(Some(found));
    }
    // Applied before, or derived by two devices alike: then it stands where it is put.
    for added in file.placements.iter().filter(|_| file.kind != Kind::Directory) {
        if file.hint.as_ref() != Some(&added.place)
            && let Some(found) = locate(rows, file.id, file.kind, Some(&added.place))?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Finds a file that this very delta makes: it is there only if the delta was applied before, and then where it was born.
fn locate_newborn(rows: &dyn Rows, file: &FileDelta) -> Result<Option<(Key, Arc<File>)>, Missing> {
    let born_at = file.placements.iter().map(|added| Key::at(&added.place, file.id, added.slot));
    for key in born_at.chain([Key::homeless(file.id)]) {
        if let Some(Row::Record(found)) = rows.get(&key)? {
            return Ok(Some((key, found)));
        }
    }
    Ok(None)
}

/// Finds a file of unknown kind by a place where it stands, or by a search.
pub(crate) fn locate_any(
    rows: &dyn Rows,
    id: FileId,
    place: Option<&Place>,
) -> Result<Option<(Key, Arc<File>)>, Missing> {
    for kind in [Kind::File, Kind::Directory] {
        if let Some(found) = locate(rows, id, kind, place)? {
            return Ok(Some(found));
        }
    }
    rows.find(id)
}

/// Finds the files that no hint finds: one by itself, several in one pass over all rows.
fn find_all(rows: &dyn Rows, lost: &mut BTreeMap<FileId, Option<(Key, Arc<File>)>>) -> Result<(), Missing> {
    if lost.len() <= 1 {
        for (&id, found) in lost.iter_mut() {
            *found = rows.find(id)?;
        }
        return Ok(());
    }
    let mut left = lost.len();
    rows.scan(&Key::homeless(FileId(0)), &mut |key, row| {
        if let Row::Record(file) = row
            && let Some(found) = lost.get_mut(&file.id)
            && found.is_none()
        {
            *found = Some((key.clone(), file.clone()));
            left -= 1;
        }
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// Whether a delta can only be the first of its file: one whose id two devices derive alike may be there already.
fn is_new(delta: &FileDelta) -> bool {
    let created = delta.content.is_some() && delta.placements.iter().any(|p| p.slot == 0);
    created && delta.replaced.is_empty() && delta.hint.is_none() && !delta.id.is_derived()
}

/// A copy that this very delta makes real cannot be there yet while the version it is named by is alive: no need to search for it.
fn forget_new_copies(
    delta: &Delta,
    found: &[Option<(Key, Arc<File>)>],
    lost: &mut BTreeMap<FileId, Option<(Key, Arc<File>)>>,
) {
    for (file, old) in delta.files.iter().zip(found) {
        let Some((_, old)) = old else { continue };
        for &(register, version) in &file.replaced {
            if register == Register::Content && old.contents.iter().any(|c| c.version == version) {
                lost.remove(&copy_id(file.id, version));
            }
        }
    }
}

/// Removes the replaced versions from a file and adds the new ones.
pub(crate) fn change(file: &mut File, delta: &FileDelta, version: Version) {
    for &(register, replaced) in &delta.replaced {
        match register {
            Register::Placement { slot } => file.placements.retain(|p| (p.slot, p.version) != (slot, replaced)),
            Register::Content => file.contents.retain(|c| c.version != replaced),
            Register::Attributes => file.attributes.retain(|a| a.version != replaced),
        }
    }
    let there: Vec<(Register, Version)> = versions(file).filter(|(_, v)| *v == version).collect();
    let is_new = |register: Register| !there.contains(&(register, version));
    for added in &delta.placements {
        if is_new(Register::Placement { slot: added.slot }) {
            file.placements.push(added.under(version));
        }
    }
    if let Some(added) = &delta.content
        && is_new(Register::Content)
    {
        let (value, at) = (added.value.clone(), added.at.clone());
        file.contents.push(ContentVersion { version, value, at, by_rule: added.by_rule });
    }
    if let Some(value) = &delta.attributes
        && is_new(Register::Attributes)
    {
        file.attributes.push(AttributesVersion { version, value: value.clone() });
    }
    file.normalize();
}
