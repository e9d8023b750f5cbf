//! Finding files and directories in the rows.

use crate::id::FileId;
use crate::name::Name;
use crate::row::{Header, Key, Missing, Row, Rows};
use crate::state::{File, Kind, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// The name under which what lost its directory is found.
pub(crate) const RECOVERED_NAME: &[u8] = b"Recovered";

/// Where something is shown whose directory nobody knows any more.
pub(crate) fn recovered_place(place: &Place) -> Place {
    Place { parent: FileId::RECOVERED, name: place.name.clone() }
}

/// The header of a directory other than the root, `Recovered/` included, which has no row of its own.
pub(crate) fn header(rows: &dyn Rows, directory: FileId) -> Result<Option<Header>, Missing> {
    if directory == FileId::RECOVERED {
        let name = Name::new(RECOVERED_NAME).expect("a constant that is a name");
        let shown = Place { parent: FileId::ROOT, name };
        return Ok(Some(Header { shown, removed: true, cut: false }));
    }
    Ok(match rows.get(&Key::header(directory))? {
        Some(Row::Header(header)) => Some(header),
        _ => None,
    })
}

/// Whether a directory exists, removed or not.
pub(crate) fn is_known(rows: &dyn Rows, directory: FileId) -> Result<bool, Missing> {
    Ok(directory == FileId::ROOT || header(rows, directory)?.is_some())
}

/// The rows at one name of a directory.
pub(crate) fn rows_at(rows: &dyn Rows, directory: FileId, name: &Name) -> Result<Vec<(Key, Row)>, Missing> {
    let mut found = Vec::new();
    rows.scan(&Key::first_of(directory, name.clone()), &mut |key, row| {
        if key.directory != directory || key.name != *name {
            return ControlFlow::Break(());
        }
        found.push((key.clone(), row.clone()));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Finds a file's record where it may stand by what is known without a search: at the hint, where the directory's header says, or
/// homeless. `None` for a directory means that there is none; for another file that it stands elsewhere or nowhere.
pub(crate) fn locate(
    rows: &dyn Rows,
    id: FileId,
    kind: Kind,
    hint: Option<&Place>,
) -> Result<Option<(Key, Arc<File>)>, Missing> {
    if kind == Kind::Directory {
        if id != FileId::ROOT {
            let Some(header) = header(rows, id)? else { return Ok(None) };
            let key = Key::at(&header.shown, id, 0);
            if let Some(Row::Record(file)) = rows.get(&key)? {
                return Ok(Some((key, file)));
            }
        }
    } else if let Some(place) = hint {
        let from = Key { directory: place.parent, name: place.name.clone(), file: id, slot: 0 };
        let mut found = None;
        rows.scan(&from, &mut |key, row| {
            if key.directory == place.parent
                && key.name == place.name
                && key.file == id
                && let Row::Record(file) = row
            {
                found = Some((key.clone(), file.clone()));
            }
            ControlFlow::Break(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let key = Key::homeless(id);
    Ok(match rows.get(&key)? {
        Some(Row::Record(file)) => Some((key, file)),
        _ => None,
    })
}
