//! Making many entries in one operation: what an import does.

use super::{Edit, EditError, Edited};
use crate::content::Content;
use crate::id::FileId;
use crate::name::Name;
use crate::state::{Attributes, Kind};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// Where an entry of [`Edit::create_many`] is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cradle {
    /// In a directory that is there: the union of directories shown as one.
    At(Vec<FileId>),
    /// In the directory that the entry with this index made; it comes earlier in the same call.
    Born(usize),
}

/// An entry to be made by [`Edit::create_many`].
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

impl Edit<'_> {
    /// Makes entries in the order given, as so many calls of [`Edit::create`] would, and says for each its id or why it was not made.
    /// Quickest when the entries of a directory follow one another.
    ///
    /// # Errors
    /// [`EditError::Missing`] only: then nothing is made.
    pub fn create_many(self, births: &[Birth]) -> Result<(Vec<Result<FileId, EditError>>, Edited), EditError> {
        let mut draft = self.draft();
        let mut made: Vec<Result<FileId, EditError>> = Vec::with_capacity(births.len());
        // What is only drafted is not found by a look at the rows: that is so for the names of one run in one directory.
        let (mut cradle, mut drafted) = (None, BTreeSet::new());
        for birth in births {
            if cradle != Some(&birth.cradle) || drafted.contains(&birth.name) {
                draft.commit()?;
                drafted.clear();
                cradle = Some(&birth.cradle);
            }
            let parent = match &birth.cradle {
                Cradle::At(union) => union.clone(),
                Cradle::Born(index) => match made.get(*index) {
                    Some(Ok(id)) => vec![*id],
                    _ => {
                        made.push(Err(EditError::NotFound));
                        continue;
                    }
                },
            };
            let Birth { name, kind, attributes, content, .. } = birth;
            match draft.make(self.fresh, &parent, name, *kind, attributes.clone(), content.clone()) {
                Err(EditError::Missing(missing)) => return Err(EditError::Missing(missing)),
                outcome => {
                    drafted.insert(&birth.name);
                    made.push(outcome);
                }
            }
        }
        Ok((made, draft.finish()?))
    }
}
