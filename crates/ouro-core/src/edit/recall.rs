//! Taking a move back before it is sealed.

use super::draft::Draft;
use super::{Edit, EditError, Edited};
use crate::apply::locate_any;
use crate::delta::{AddedPlacement, FileDelta, Register};
use crate::id::{FileId, Version};
use crate::layout::locate;
use crate::row::{Missing, Rows};
use crate::state::{File, Place, Placement};
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Edit<'_> {
    /// Puts a file or a directory back where it stood before the pending change that put it at `from`, or where others have put it since, also as
    /// removed; nothing of the move stays. What has come to stand there meanwhile stands beside it, as names do that two devices gave. A name
    /// that it did not have before goes. `committed` are the rows without this device's changes, `sealed` what is on its way of the file.
    ///
    /// # Errors
    /// [`EditError::Missing`] only.
    pub fn recall(
        self,
        committed: &dyn Rows,
        sealed: Option<(Version, &FileDelta)>,
        id: FileId,
        from: &Place,
    ) -> Result<((), Edited), EditError> {
        let delta = self.pending.files.get(&id);
        let moved = delta.and_then(|delta| Some((delta, delta.placements.iter().find(|added| added.place == *from)?)));
        let Some((delta, AddedPlacement { slot, .. })) = moved else { return Ok(((), Edited::default())) };
        let register = Register::Placement { slot: *slot };
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let file = draft.file(id, delta.kind, Some(from))?;
        let before = before(committed, sealed, delta, file, *slot)?;
        file.placements.retain(|p| p.slot != *slot || !p.version.is_pending());
        file.placements.extend(before);
        let stands = file.placements.iter().filter(|p| p.slot == *slot).max_by_key(|p| p.version);
        let written = file.contents.iter().find(|c| !c.version.is_pending());
        let home = stands.map(|p| &p.place).or(written.map(|c| &c.at)).or(delta.hint.as_ref()).cloned();
        // Nobody else knows the directory that it was moved into.
        for content in file.contents.iter_mut().filter(|c| c.version.is_pending() && c.at == *from) {
            content.at = home.clone().unwrap_or_else(|| from.clone());
        }
        let mut edited = draft.finish()?;
        for (_, left) in &mut edited.pending {
            // What others replaced meanwhile is not this device's to replace any more.
            if let Some(delta) = left {
                delta.replaced.retain(|(of, _)| *of != register);
            }
            if left.as_ref().is_some_and(FileDelta::is_empty) {
                *left = None;
            }
        }
        Ok(((), edited))
    }
}

/// The placements of a slot that a pending change replaced and that nobody else has replaced since.
fn before(
    committed: &dyn Rows,
    sealed: Option<(Version, &FileDelta)>,
    delta: &FileDelta,
    seen: &File,
    slot: u64,
) -> Result<Vec<Placement>, Missing> {
    let register = Register::Placement { slot };
    let is_replaced = |p: &Placement| p.slot == slot && delta.replaced.contains(&(register, p.version));
    let on_its_way =
        sealed.into_iter().flat_map(|(version, delta)| delta.placements.iter().map(move |p| p.under(version)));
    let mut before: Vec<Placement> = on_its_way.filter(is_replaced).collect();
    let is_committed = |version: Version| sealed.is_none_or(|(sealed, _)| sealed != version);
    if delta.replaced.iter().any(|(of, version)| *of == register && is_committed(*version))
        && let Some(known) = find(committed, delta, seen)?
    {
        before.extend(known.placements.iter().filter(|p| is_replaced(p)).cloned());
    }
    Ok(before)
}

/// A file without this device's changes. Where its record stood when they began need not be known, nor where it stands now: one with several
/// names stands at none of them, and others may have taken the others away since.
fn find(committed: &dyn Rows, delta: &FileDelta, seen: &File) -> Result<Option<Arc<File>>, Missing> {
    for hint in delta.hint.iter().chain(seen.contents.iter().map(|content| &content.at)) {
        if let Some((_, file)) = locate(committed, delta.id, delta.kind, Some(hint))? {
            return Ok(Some(file));
        }
    }
    Ok(locate_any(committed, delta.id, None)?.map(|(_, file)| file))
}
