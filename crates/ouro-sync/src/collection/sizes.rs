//! What a state holds, added up.

use crate::{Sync, SyncError};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::row::{Key, Missing, Row, Rows};
use ouro_core::state::File;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Visits the record of every file in a state.
pub(super) fn records(rows: &dyn Rows, visit: &mut dyn FnMut(&File)) -> Result<(), Missing> {
    let first = Key { directory: FileId(0), name: Name::empty(), file: FileId(0), slot: 0 };
    rows.scan(&first, &mut |_, row| {
        if let Row::Record(file) = row {
            visit(file);
        }
        ControlFlow::Continue(())
    })
}

impl Sync {
    /// Bytes of all files that are committed, those with several names counted once for each.
    pub async fn logical_bytes(self: &Arc<Self>) -> Result<u64, SyncError> {
        let heads = self.volume.heads();
        self.with_all(move |sync| {
            let newest = sync.volume.snapshot_of(&heads)?;
            let mut bytes = 0;
            records(&*newest, &mut |file| {
                let names = file.placements.iter().filter(|place| !place.removed).count() as u64;
                let size = file.contents.iter().filter_map(|content| content.value.as_ref()).map(|c| c.size()).max();
                bytes += size.unwrap_or(0) * names;
            })?;
            Ok(bytes)
        })
        .await
    }
}
