//! Taking a move back before it is sealed.

use super::draft::Draft;
use super::{Edit, EditError, Edited};
use crate::delta::{AddedPlacement, FileDelta, Register};
use crate::id::{FileId, Version};
use crate::layout::locate;
use crate::row::Rows;
use crate::state::{Place, Placement};
use alloc::vec::Vec;

impl Edit<'_> {
    /// Puts a file or a directory back where it stood before the pending change that put it at `from`; nothing of the move stays. What has come
    /// to stand there meanwhile stands beside it, as names do that two devices gave; if it has no name there any more, or never had one, it is
    /// where others see it. `committed` are the rows without this device's changes, `sealed` what is on its way of the file.
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
        let known = locate(committed, id, delta.kind, delta.hint.as_ref())?;
        let known = known.iter().flat_map(|(_, file)| &file.placements).cloned();
        let sealed = sealed
            .into_iter()
            .flat_map(|(version, delta)| delta.placements.iter().map(move |added| added.under(version)));
        let is_before = |p: &Placement| {
            p.slot == *slot && delta.replaced.contains(&(Register::Placement { slot: *slot }, p.version))
        };
        let before: Vec<Placement> = known.chain(sealed).filter(is_before).collect();
        let mut draft = Draft::new(self.rows, self.pending, self.devices);
        let file = draft.file(id, delta.kind, Some(from))?;
        file.placements.retain(|p| p.slot != *slot || !p.version.is_pending());
        file.placements.extend(before);
        Ok(((), draft.finish()?))
    }
}
