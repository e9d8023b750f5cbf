//! Whether the state in memory is what it should be by definition.

use super::learn::Built;
use super::{Volume, VolumeError};
use ouro_core::digest::Digest;
use ouro_core::id::FileId;
use ouro_core::row::{Key, Row, RowChanges, Rows};
use ouro_core::tree::TreeRows;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// A row that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongRow {
    /// Where.
    pub key: Key,
    /// What is there.
    pub is: Option<Row>,
    /// What should be there.
    pub should_be: Option<Row>,
}

/// What [`Volume::audit`] finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Live rows that are not what they should be.
    pub wrong: Vec<WrongRow>,
    /// The digest of the committed rows: it should be [`Volume::digest`].
    pub digest: Digest,
}

impl Volume {
    /// Compares the live rows, which operations and commits change one by one, with those that the committed rows, the sealed generation
    /// and the pending changes give when they are laid on top of each other anew, as the next start does: they differ nowhere, unless there
    /// is a bug. Counts the digest of the committed rows too. Reads the whole index.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again.
    pub fn audit(&self) -> Result<Audit, VolumeError> {
        let state = self.state.read();
        let mut built = Built {
            root: state.root,
            base: RowChanges::new(),
            live: RowChanges::clone(&state.base),
            digest: state.digest,
            heads: state.heads.clone(),
        };
        built.overlay(&self.nodes, state.sealed.as_ref(), state.pending.files.values())?;
        let rows = |changes| TreeRows { nodes: &self.nodes, root: state.root.as_ref(), changes };
        let (live, fresh) = (rows(&state.live), rows(&built.live));
        let keys: BTreeSet<&Key> = state.live.keys().chain(built.live.keys()).collect();
        let mut wrong = Vec::new();
        for key in keys {
            let (is, should_be) = (live.get(key)?, fresh.get(key)?);
            if is != should_be {
                wrong.push(WrongRow { key: key.clone(), is, should_be });
            }
        }
        let mut digest = Digest::default();
        state.base_rows(&self.nodes).scan(&Key::homeless(FileId(0)), &mut |_, row| {
            if let Row::Record(file) = row {
                digest = digest.plus(Digest::of_file(file));
            }
            ControlFlow::Continue(())
        })?;
        Ok(Audit { wrong, digest })
    }
}
