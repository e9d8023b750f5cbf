//! Where in a whole state there may be conflicts.

use super::derived::{COPY_MARK, Stem, contains_mark};
use crate::id::FileId;
use crate::layout::{is_known, recovered_place};
use crate::name::Name;
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::{File, Kind};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Names at which there may be a conflict: found by looking at rows alone, without deciding anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Directories with the natural names at which several things stand, or one of several contents.
    pub names: BTreeSet<(FileId, Name)>,
    /// Directories that stand at one name with another one: names in them may meet.
    pub unions: BTreeSet<FileId>,
    /// Conflict copies that were written down as files: directory, name, id.
    pub copies: Vec<(FileId, Name, FileId)>,
}

/// Looks through all rows once.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn suspects(rows: &dyn Rows) -> Result<Suspects, Missing> {
    let mut found = Suspects::default();
    let mut homeless: Vec<alloc::sync::Arc<File>> = Vec::new();
    let mut last: Option<(Key, Kind)> = None;
    rows.scan(&Key::homeless(FileId(0)), &mut |key, row| {
        let kind = match row {
            Row::Record(file) => {
                if file.kind != Kind::Directory && file.contents.len() > 1 && sibling::contents(file).len() > 1 {
                    if key.name.is_empty() {
                        homeless.push(file.clone());
                    } else {
                        found.names.insert((key.directory, key.name.clone()));
                    }
                }
                file.kind
            }
            Row::Reference(kind) => *kind,
            Row::Header(_) => return ControlFlow::Continue(()),
        };
        if key.name.is_empty() {
            return ControlFlow::Continue(());
        }
        if key.file.is_derived() && kind != Kind::Directory && contains_mark(key.name.as_bytes()) {
            found.copies.push((key.directory, key.name.clone(), key.file));
        }
        if let Some((before, other)) = &last
            && before.directory == key.directory
            && before.name == key.name
        {
            if kind == Kind::Directory && *other == Kind::Directory {
                found.unions.extend([before.file, key.file]);
            } else {
                found.names.insert((key.directory, key.name.clone()));
            }
        }
        last = Some((key.clone(), kind));
        ControlFlow::Continue(())
    })?;
    for file in homeless {
        for stand in sibling::stands(&file) {
            let place = if is_known(rows, stand.place.parent)? { stand.place } else { recovered_place(&stand.place) };
            found.names.insert((place.parent, place.name));
        }
    }
    Ok(found)
}

/// What the name of a conflict copy says: the name it stands beside, the device whose version it holds, and the time. `None` for any other
/// name, and for one that was cut.
pub fn copied_from(name: &Name) -> Option<(Name, String, String)> {
    let natural = Stem::of_derived(name)?.plain()?;
    let shown = name.display();
    let inside = &shown[shown.rfind(COPY_MARK)? + COPY_MARK.len()..];
    let inside = inside.split(')').next()?;
    let at = inside.len().checked_sub("2026-11-22 14.30".len()).filter(|at| inside.is_char_boundary(*at));
    let (device, time) = at.map_or((inside, ""), |at| inside.split_at(at));
    Some((natural, String::from(device.trim_end()), String::from(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_copy_says_whose_it_is() {
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        assert_eq!(
            copied_from(&name("a b (conflict from my desk 2026-11-22 14.30)-2.txt")),
            Some((name("a b.txt"), String::from("my desk"), String::from("2026-11-22 14.30")))
        );
        assert_eq!(copied_from(&name("a.txt")), None);
        assert_eq!(copied_from(&name("a (conflict from b).txt")), None);
    }
}
