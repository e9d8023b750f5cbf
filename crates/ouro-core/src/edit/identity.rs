//! Atomic saves keep identity.

use super::draft::{add_content, put_attributes};
use super::{Edit, EditError, Edited, Pending};
use crate::delta::{FileDelta, Register};
use crate::edit::draft::Draft;
use crate::id::FileId;
use crate::layout::locate;
use crate::row::{Missing, Rows};
use crate::state::{ContentVersion, File, Kind, Place, Placement};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A file that was born at the name of one that went in the same generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The id it was born with.
    pub born: FileId,
    /// The id of the file whose name it took, which it bears from now on.
    pub old: FileId,
}

impl Edit<'_> {
    /// Gives files that were saved by way of a new file the identity of the one they replace, judged by the net effect of what is
    /// pending: a name whose file is gone and whose successor was born in the same generation keeps the old file's id, so that such
    /// saves on two devices are two edits of one file. To be put into effect right before sealing, after [`Edit::settle`]. What the
    /// caller keeps by id (bytes not yet sealed, owners) moves from `born` to `old`.
    ///
    /// `committed` are the rows without what is pending; `may` says whether a file may change its id now. A file that somebody else moved
    /// meanwhile is left as removed.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn keep_identities(
        self,
        committed: &dyn Rows,
        may: &dyn Fn(&Succession) -> bool,
    ) -> Result<(Vec<Succession>, Edited), EditError> {
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let mut successions = successions(committed, self.pending)?;
        successions.retain(|(succession, _)| may(succession));
        for (succession, place) in &successions {
            let Some(gone) = self.pending.files.get(&succession.old) else { continue };
            let born = draft.file(succession.born, gone.kind, Some(place))?;
            let successor = core::mem::replace(born, File::new(succession.born, gone.kind));
            let stands = locate(committed, succession.old, gone.kind, gone.hint.as_ref())?;
            let mut at = place;
            for p in stands.iter().flat_map(|(_, old)| &old.placements) {
                if locate(self.rows, succession.old, gone.kind, Some(&p.place))?.is_some() {
                    at = &p.place;
                }
            }
            let file = draft.file(succession.old, gone.kind, Some(at))?;
            if let Some((_, old)) = &stands {
                file.placements.extend(old.placements.iter().filter(|p| goes(gone, p)).cloned());
            }
            // The first name is the old file's own; others that the successor got stay.
            file.placements.extend(successor.placements.into_iter().filter(|p| p.slot != 0));
            for content in successor.contents {
                add_content(file, ContentVersion { at: place.clone(), ..content });
            }
            successor.attributes.into_iter().for_each(|a| put_attributes_beside(file, a.value));
        }
        let edited = draft.finish()?;
        Ok((successions.into_iter().map(|(succession, _)| succession).collect(), edited))
    }
}

/// Own attributes replace those that went; what came from elsewhere meanwhile stays a sibling.
fn put_attributes_beside(file: &mut File, value: crate::state::Attributes) {
    let siblings = core::mem::take(&mut file.attributes);
    put_attributes(file, value);
    file.attributes.extend(siblings.into_iter().filter(|a| !a.version.is_pending()));
}

fn goes(delta: &FileDelta, placement: &Placement) -> bool {
    delta.replaced.contains(&(Register::Placement { slot: placement.slot }, placement.version))
}

fn successions(committed: &dyn Rows, pending: &Pending) -> Result<Vec<(Succession, Place)>, Missing> {
    let mut born: BTreeMap<&Place, FileId> = BTreeMap::new();
    for delta in pending.files.values().filter(|d| is_born(d)) {
        born.extend(delta.placements.iter().filter(|p| p.slot == 0 && !p.by_rule).map(|p| (&p.place, delta.id)));
    }
    let mut found = Vec::new();
    for gone in pending.files.values().filter(|d| is_gone(d)) {
        let Some(place) = &gone.hint else { continue };
        let Some(&id) = born.get(place) else { continue };
        if pending.files[&id].kind != gone.kind {
            continue;
        }
        let here = |file: &File| file.placements.iter().any(|p| p.slot == 0 && p.place == *place && goes(gone, p));
        let moved = match locate(committed, gone.id, gone.kind, Some(place))? {
            Some((_, old)) => !here(&old),
            None => true,
        };
        if !moved {
            found.push((Succession { born: id, old: gone.id }, place.clone()));
        }
    }
    Ok(found)
}

/// Whether a file was made in this generation, or in earlier ones that are not sealed: nobody else knows of it.
pub(super) fn is_born(delta: &FileDelta) -> bool {
    let is_file = matches!(delta.kind, Kind::File | Kind::Symlink);
    is_file && !delta.id.is_derived() && delta.replaced.is_empty() && delta.hint.is_none() && delta.content.is_some()
}

/// Whether all of a file with one name goes: nothing is added, and a placement is among what is replaced.
fn is_gone(delta: &FileDelta) -> bool {
    let added = !delta.placements.is_empty() || delta.content.is_some() || delta.attributes.is_some();
    let mut placements = delta.replaced.iter().filter(|(register, _)| matches!(register, Register::Placement { .. }));
    !added && placements.next().is_some() && placements.next().is_none()
}
