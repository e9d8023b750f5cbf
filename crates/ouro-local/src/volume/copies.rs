//! Conflict copies that somebody has open. They have no rows of their own: what is seen of them comes and goes by rule.

use super::edit::Orphan;
use super::state::State;
use super::{Volume, VolumeError};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, What};
use ouro_core::row::RowChanges;

/// A conflict copy that is open, as it was seen before a change.
pub(crate) struct OpenCopy {
    directory: FileId,
    name: Name,
    id: FileId,
    orphan: Orphan,
}

impl Volume {
    /// The copies in these directories that somebody has open and that the change to come makes no files of their own, wherever these stand.
    /// Looks at no directory unless some copy is open.
    pub(crate) fn open_copies(
        &self,
        state: &State,
        directories: &[FileId],
        to_come: &RowChanges,
    ) -> Result<Vec<OpenCopy>, VolumeError> {
        let becomes_a_file = |id: FileId| to_come.iter().any(|(key, row)| key.file == id && row.is_some());
        let is_open = |id: &FileId| state.open.get(id).is_some_and(|open| open.orphan.is_none());
        let mut copies = Vec::new();
        if !state.open.keys().any(|id| id.is_derived() && is_open(id)) {
            return Ok(copies);
        }
        let rows = state.live_rows(&self.nodes);
        for directory in directories {
            for conflict in render::conflicts(&rows, state, &[*directory])? {
                let Some(name) = conflict.shown.filter(|_| conflict.is_copy && is_open(&conflict.id)) else { continue };
                if becomes_a_file(conflict.id) {
                    continue;
                }
                let Some(seen) = render::lookup(&rows, state, &[*directory], &name)? else { continue };
                let What::Copy { file, content, .. } = seen.what else { continue };
                let mtime_ns = file.seen_attributes().map_or(0, |attributes| attributes.mtime_ns);
                let (size, ctime_ns) = (content.size(), self.now_ns());
                let orphan = Orphan { record: file, content, size, mtime_ns, ctime_ns, elsewhere: true };
                copies.push(OpenCopy { directory: *directory, name, id: conflict.id, orphan });
            }
        }
        Ok(copies)
    }

    /// After the change: copies that are seen no longer live on for those who have them open.
    pub(crate) fn adopt_copies(&self, state: &mut State, copies: Vec<OpenCopy>) {
        for copy in copies {
            let seen = render::lookup(&state.live_rows(&self.nodes), &*state, &[copy.directory], &copy.name);
            // One that cannot be looked at is taken as gone: what is seen comes before what lives on.
            let stays = seen.is_ok_and(|seen| seen.is_some_and(|seen| seen.id == copy.id));
            if let Some(open) = state.open.get_mut(&copy.id).filter(|_| !stays) {
                open.orphan = Some(copy.orphan);
            }
        }
    }
}
