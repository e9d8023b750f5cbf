//! Making a thing anew where it stands: what stays on one device is another file than the one that everybody knew.

use super::draft::{Draft, put_placement};
use super::{Edit, EditError, Edited};
use crate::content::Content;
use crate::id::FileId;
use crate::render::{self, Seen, What};
use crate::state::{Kind, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

/// Entries of a directory looked at together.
const PAGE: usize = 1024;

/// A file that was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replanted {
    /// The id it had: nothing stands under it any more, unless the file has a name elsewhere.
    pub from: FileId,
    /// The id it has.
    pub to: FileId,
    /// The file has a name elsewhere, which keeps the old id; its content is known to others.
    pub shared: bool,
}

/// One entry of what is made anew.
struct Sprig {
    seen: Seen,
    /// Index of the directory it is in; none for the topmost.
    above: Option<usize>,
}

impl Edit<'_> {
    /// Removes an entry, with all that is below a directory, and makes the same under the same names with new ids: contents are taken over
    /// by reference, names of one file stay names of one file. So others see a removal, and what stands here is this device's own.
    ///
    /// `may` says of each file, as it is seen, whether it may be made anew now; a file with names elsewhere and a content that is not
    /// sealed yet may never be. Returns `None` if anything may not: then nothing changes. `own` says which files are this device's own already, under all
    /// their names: one with names elsewhere stays the file that it is.
    ///
    /// # Errors
    /// [`EditError::NotFound`] if it is gone; [`EditError::Invalid`] for the root and `Recovered/`.
    pub fn replant(
        self,
        seen: &Seen,
        parent: &[FileId],
        may: &dyn Fn(&Seen) -> bool,
        own: &dyn Fn(&Seen) -> bool,
    ) -> Result<(Option<Vec<Replanted>>, Edited), EditError> {
        let mut draft = self.draft();
        draft.expect_movable(seen, &[])?;
        let sprigs = sprigs(&draft, seen)?;
        let mut names: BTreeMap<FileId, u32> = BTreeMap::new();
        for sprig in &sprigs {
            *names.entry(sprig.seen.id).or_default() += 1;
        }
        let shared = |seen: &Seen| names.get(&seen.id).is_some_and(|count| seen.links() > *count);
        let stays = |seen: &Seen| shared(seen) && own(seen);
        for Sprig { seen, .. } in &sprigs {
            let unsealed = matches!(seen.content(), Some(Content::Pending { .. }));
            if !may(seen) || (unsealed && shared(seen) && !stays(seen)) {
                return Ok((None, Edited::default()));
            }
        }
        pull_up(&mut draft, &sprigs, parent)?;
        let mut replanted = Vec::new();
        let mut made: Vec<FileId> = Vec::with_capacity(sprigs.len());
        let here: BTreeSet<(FileId, u64)> = sprigs.iter().map(|sprig| (sprig.seen.id, sprig.seen.slot)).collect();
        let staying = sprigs.iter().map(|sprig| &sprig.seen).filter(|seen| stays(seen));
        let mut first_of: BTreeMap<FileId, (FileId, Place)> =
            staying.filter_map(|seen| Some((seen.id, (seen.id, name_elsewhere(seen, &here)?)))).collect();
        let mut cradle = None;
        for Sprig { seen, above } in &sprigs {
            if cradle != Some(*above) {
                // What was made before is found from now on.
                draft.commit()?;
                cradle = Some(*above);
            }
            let at = above.map_or_else(|| parent.to_vec(), |index| vec![made[index]]);
            if let Some((id, place)) = first_of.get(&seen.id) {
                add_name(&mut draft, *id, seen, place, &at, (self.fresh)().0)?;
                made.push(*id);
                continue;
            }
            let content = seen.content().cloned();
            let id = draft.make(self.fresh, &at, &seen.name, seen.kind(), seen.attributes(), content)?;
            first_of.insert(seen.id, (id, Place { parent: at[0], name: seen.name.clone() }));
            replanted.push(Replanted { from: seen.id, to: id, shared: shared(seen) });
            made.push(id);
        }
        Ok((Some(replanted), draft.finish()?))
    }
}

/// An entry and all below it, each after the directory it is in.
fn sprigs(draft: &Draft<'_>, seen: &Seen) -> Result<Vec<Sprig>, EditError> {
    let mut all = vec![Sprig { seen: seen.clone(), above: None }];
    let mut next = 0;
    while let Some(members) = all.get(next).map(|sprig| sprig.seen.members().to_vec()) {
        let mut after = None;
        while !members.is_empty() {
            let page = render::list(&draft.work, draft.devices, &members, after.as_ref(), PAGE)?;
            all.extend(page.entries.into_iter().map(|seen| Sprig { seen, above: Some(next) }));
            match page.next {
                Some(name) => after = Some(name),
                None => break,
            }
        }
        next += 1;
    }
    Ok(all)
}

/// Removes everything, the innermost first.
fn pull_up(draft: &mut Draft<'_>, sprigs: &[Sprig], parent: &[FileId]) -> Result<(), EditError> {
    for Sprig { seen, above } in sprigs.iter().rev() {
        let directory = above.map_or(parent, |index| sprigs[index].seen.members());
        // What is only drafted is not found by a look at the rows: a directory must be seen empty, and what stood beside a file under a
        // derived name becomes real with the file's removal.
        let simple = matches!(&seen.what, What::File { copies: 0, .. }) && seen.name == seen.group;
        if !simple {
            draft.commit()?;
            draft.remove_hidden(seen.members())?;
        }
        draft.remove(seen, directory)?;
        if !simple {
            draft.commit()?;
        }
    }
    draft.commit()?;
    Ok(())
}

/// A name of a file that is not among what is made anew.
fn name_elsewhere(seen: &Seen, here: &BTreeSet<(FileId, u64)>) -> Option<Place> {
    let mut names = seen.file().placements.iter();
    names.find(|p| !p.removed && !here.contains(&(seen.id, p.slot))).map(|p| p.place.clone())
}

/// Gives a file that was made here a further name.
fn add_name(
    draft: &mut Draft<'_>,
    id: FileId,
    seen: &Seen,
    first: &Place,
    parent: &[FileId],
    slot: u64,
) -> Result<(), EditError> {
    if seen.kind() == Kind::Directory {
        return Err(EditError::Invalid);
    }
    draft.expect_free(parent, &seen.name)?;
    let file = draft.file(id, seen.kind(), Some(first))?;
    put_placement(file, slot, Place { parent: parent[0], name: seen.name.clone() }, false);
    Ok(())
}
