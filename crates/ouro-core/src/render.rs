//! From living versions to what a person sees.
//!
//! Rendering is a pure function of the rows and is never fed back: nobody writes what it decides until somebody touches the file
//! ([`crate::edit`]). A directory is given as the list of its members, because several directories at one name are shown as one; nearly
//! always it is one. A listing is one range scan per member, a lookup one point range per member; names that are derived by rule are
//! looked for only where the asked name has their form.

pub(crate) mod derived;
pub(crate) mod group;
mod seen;
mod survey;

pub use crate::sibling::{copy_id, slots};
pub use derived::COPY_MARK;
pub use seen::{Seen, What};
pub use survey::{Suspects, copied_from, suspects};

use crate::content::Content;
use crate::id::{DeviceNo, FileId, Version};
use crate::layout::header;
use crate::name::Name;
use crate::row::{Key, Missing, Row, Rows};
use crate::sibling;
use crate::state::Place;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use derived::Stem;
use group::{Derived, Group, StemView, is_quiet};

/// How devices are called in derived names.
pub trait Devices {
    /// The name of a device as people know it; that of this device for the number of [`Version::PENDING`].
    fn name(&self, device: DeviceNo) -> String;
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries in order of their natural names; what has a derived name follows the one it stands beside.
    pub entries: Vec<Seen>,
    /// What to give as `after` for the next page; `None` at the end.
    pub next: Option<Name>,
}

/// A thing that lost its name or its place as content to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name at which the winner stands.
    pub natural: Name,
    /// The name under which the loser is shown; `None` where no copy may be shown (inside `.git`, companions of databases).
    pub shown: Option<Name>,
    /// The loser: a file, or the derived id of a copy.
    pub id: FileId,
    /// The version that lost.
    pub version: Version,
    /// Whether it is another content of the file that won, rather than another file.
    pub is_copy: bool,
    /// Its content.
    pub content: Option<Content>,
}

/// What stands at a name that several things claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// What keeps the name.
    pub winner: Seen,
    /// The version by which it does.
    pub version: Version,
    /// All others.
    pub losers: Vec<Conflict>,
}

/// Finds a name in a directory.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn lookup(
    rows: &dyn Rows,
    devices: &dyn Devices,
    directory: &[FileId],
    name: &Name,
) -> Result<Option<Seen>, Missing> {
    if let Some(seen) = Group::read(rows, directory, name)?.natural() {
        return Ok(Some(seen));
    }
    let Some(stem) = Stem::of_derived(name) else { return Ok(None) };
    let view = StemView::read(rows, devices, directory, &stem)?;
    Ok(view
        .derived
        .iter()
        .find(|n| n.name == *name)
        .and_then(|n| view.groups.get(&n.natural).map(|group| n.seen(group))))
}

/// Finds a file that is not shown where it stands, for those who have it open: an equal one is shown for both, and what is written to it
/// makes it another one again; or it lost its name where no copy may be shown.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn out_of_sight(
    rows: &dyn Rows,
    directory: &[FileId],
    natural: &Name,
    file: FileId,
) -> Result<Option<Seen>, Missing> {
    let group = Group::read(rows, directory, natural)?;
    let at = group.out_of_sight(rows, directory, file)?;
    Ok(at.map(|at| group.entries[at].seen(natural.clone(), natural.clone())))
}

/// Lists a directory from behind the natural name `after`, whether or not something stands there, at least `limit` entries if there are so
/// many.
///
/// Whole groups are listed: a natural name together with the derived names beside it, so a page may exceed `limit` by these. Going on
/// with [`Page::next`] (or the [`Seen::group`] of any entry whose group was taken whole) lists every entry that stays exactly once,
/// whatever else comes and goes. The cost of a page is in proportion to `limit`.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn list(
    rows: &dyn Rows,
    devices: &dyn Devices,
    directory: &[FileId],
    after: Option<&Name>,
    limit: usize,
) -> Result<Page, Missing> {
    let limit = limit.max(1);
    let mut page = Page::default();
    let mut after = after.cloned();
    while page.entries.len() < limit {
        let want = limit - page.entries.len();
        let (names, more) = read_names(rows, directory, after.as_ref(), want)?;
        for (name, at) in names {
            let group = Group::of(rows, &name, at)?;
            page.entries.extend(group.natural());
            if group.has_conflict() && !is_quiet(rows, directory, &name)? {
                let view = StemView::read(rows, devices, directory, &Stem::of(&name))?;
                page.entries.extend(view.derived.iter().filter(|n| n.natural == name).map(|n| n.seen(&group)));
            }
            after = Some(name);
        }
        if !more {
            return Ok(page);
        }
    }
    page.next = after;
    Ok(page)
}

type Names = BTreeMap<Name, Vec<(Key, Row)>>;

/// The next names of a listing with the rows at them, at most `want`, and whether there are more.
fn read_names(
    rows: &dyn Rows,
    directory: &[FileId],
    after: Option<&Name>,
    want: usize,
) -> Result<(Names, bool), Missing> {
    let mut names = Names::new();
    let mut end: Option<Name> = None;
    for &member in directory {
        let from = match after {
            Some(name) => Key { directory: member, name: name.clone(), file: FileId(u64::MAX), slot: u64::MAX },
            None => Key::header(member),
        };
        let mut count = 0;
        let mut last: Option<Name> = None;
        let mut full = false;
        rows.scan(&from, &mut |key, row| {
            if key.directory != member {
                return ControlFlow::Break(());
            }
            if key.name.is_empty() || after == Some(&key.name) {
                return ControlFlow::Continue(());
            }
            if last.as_ref() != Some(&key.name) {
                if count == want {
                    full = true;
                    return ControlFlow::Break(());
                }
                count += 1;
                last = Some(key.name.clone());
            }
            names.entry(key.name.clone()).or_default().push((key.clone(), row.clone()));
            ControlFlow::Continue(())
        })?;
        if full && let Some(last) = last {
            // Beyond the last name read of this member others may have names that this one has too.
            end = Some(end.map_or(last.clone(), |end| end.min(last)));
        }
    }
    if let Some(end) = &end {
        names.retain(|name, _| name <= end);
    }
    let mut more = end.is_some();
    while names.len() > want {
        names.pop_last();
        more = true;
    }
    Ok((names, more))
}

/// The directories together with which a directory is shown, in the order of a union; empty if it is not shown.
///
/// Costs a few lookups for each level above it.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn members(rows: &dyn Rows, directory: FileId) -> Result<Vec<FileId>, Missing> {
    let mut way = Vec::new();
    let mut at = directory;
    while at != FileId::ROOT {
        let Some(shown) = place(rows, at)? else { return Ok(vec![]) };
        way.push((at, shown.name));
        at = shown.parent;
    }
    let mut union = vec![FileId::ROOT];
    while let Some((id, name)) = way.pop() {
        let group = Group::read(rows, &union, &name)?;
        union = group.members.iter().map(|m| m.id).collect();
        if !union.contains(&id) {
            return Ok(vec![]);
        }
    }
    Ok(union)
}

/// Where a directory is shown, or would be if it is hidden; `None` for the root and for what is no directory.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn place(rows: &dyn Rows, directory: FileId) -> Result<Option<Place>, Missing> {
    Ok(header(rows, directory)?.map(|h| h.shown))
}

/// The path of a place from the root, by where directories are shown. A directory that is not known any more, or one of a chain that does
/// not end, is left out with all above it.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn path(rows: &dyn Rows, at: &Place) -> Result<Vec<Name>, Missing> {
    /// Deeper than any path that a kernel would take.
    const DEPTH_MAX: usize = 4_096;
    let mut names = vec![at.name.clone()];
    let mut directory = at.parent;
    while directory != FileId::ROOT && names.len() < DEPTH_MAX {
        let Some(shown) = place(rows, directory)? else { break };
        names.push(shown.name);
        directory = shown.parent;
    }
    names.reverse();
    Ok(names)
}

/// The conflicts shown directly in a directory, and those kept out of sight there, in order of their natural names.
///
/// Reads the whole directory.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn conflicts(rows: &dyn Rows, devices: &dyn Devices, directory: &[FileId]) -> Result<Vec<Conflict>, Missing> {
    const NAMES_PER_READ: usize = 1_000;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let (names, more) = read_names(rows, directory, after.as_ref(), NAMES_PER_READ)?;
        for (name, at) in names {
            let group = Group::of(rows, &name, at)?;
            found.extend(conflicts_in(rows, devices, directory, &group)?);
            after = Some(name);
        }
        if !more {
            return Ok(found);
        }
    }
}

/// The conflicts at one natural name of a directory.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn conflicts_at(
    rows: &dyn Rows,
    devices: &dyn Devices,
    directory: &[FileId],
    name: &Name,
) -> Result<Vec<Conflict>, Missing> {
    conflicts_in(rows, devices, directory, &Group::read(rows, directory, name)?)
}

/// What stands at a natural name of a directory, if there is a conflict.
///
/// # Errors
/// [`Missing`] if a node is not on this device.
pub fn contest(
    rows: &dyn Rows,
    devices: &dyn Devices,
    directory: &[FileId],
    name: &Name,
) -> Result<Option<Contest>, Missing> {
    let group = Group::read(rows, directory, name)?;
    let losers = conflicts_in(rows, devices, directory, &group)?;
    let Some(winner) = group.natural().filter(|_| !losers.is_empty()) else { return Ok(None) };
    let copies = losers.iter().any(|loser| loser.is_copy);
    let version = match (&winner.what, group.entries.first()) {
        (What::File { .. }, Some(first)) => match sibling::winner(&first.file) {
            Some(content) if copies => content.version,
            _ => first.version,
        },
        _ => sibling::pick(winner.file().placements.iter()).map_or(Version::PENDING, |p| p.version),
    };
    Ok(Some(Contest { winner, version, losers }))
}

fn conflicts_in(
    rows: &dyn Rows,
    devices: &dyn Devices,
    directory: &[FileId],
    group: &Group,
) -> Result<Vec<Conflict>, Missing> {
    if !group.has_conflict() {
        return Ok(vec![]);
    }
    let losers = if is_quiet(rows, directory, &group.name)? {
        group.losers(devices)
    } else {
        let derived = StemView::read(rows, devices, directory, &Stem::of(&group.name))?.derived;
        derived.into_iter().filter(|n| n.natural == group.name).collect()
    };
    let told = losers.into_iter().map(|n| Conflict {
        natural: n.natural,
        shown: Some(n.name).filter(|name| !name.is_empty()),
        id: n.id,
        version: n.version,
        is_copy: matches!(n.what, Derived::Copy { .. }),
        content: match &n.what {
            Derived::Copy { content, .. } => Some(content.clone()),
            Derived::Entry(at) => sibling::winner(&group.entries[*at].file).and_then(|w| w.value.clone()),
        },
    });
    Ok(told.collect())
}
