//! Where directories are shown: at their picked placement, unless that closes a cycle or names an unknown parent.
//!
//! While the parents hold a cycle: of its members not yet put back whose was-before names another parent, the latest goes back to its
//! was-before; if there is none left, the latest goes to `Recovered/`. Cycles are disjoint, so the order in which they are met does not
//! matter. A cycle can only hold a directory whose placement changed or one that was cut before: the walks start there.

use super::{Layout, Step, header, locate};
use crate::id::{FileId, Version};
use crate::name::Name;
use crate::row::{Key, Missing, Rows};
use crate::sibling;
use crate::state::{File, Kind, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::ops::ControlFlow;

const CUT_NAME: &[u8] = b"cut";

/// The key that says that a directory is cut.
pub(crate) fn mark(directory: FileId) -> Key {
    Key { directory: FileId::HOMELESS, name: cut_name(), file: directory, slot: 0 }
}

fn cut_name() -> Name {
    Name::new(CUT_NAME).expect("a constant that is a name")
}

/// All directories that are not shown where their placement says.
pub(crate) fn all(rows: &dyn Rows) -> Result<Vec<FileId>, Missing> {
    let mut found = Vec::new();
    let name = cut_name();
    rows.scan(&Key::first_of(FileId::HOMELESS, name.clone()), &mut |key, _| {
        if key.directory != FileId::HOMELESS || key.name != name {
            return ControlFlow::Break(());
        }
        found.push(key.file);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// A directory by its own registers.
struct Node {
    place: Place,
    was: Option<Place>,
    version: Version,
}

impl Node {
    fn of(file: &File) -> Node {
        match sibling::pick(file.placements.iter()) {
            Some(p) => Node { place: p.place.clone(), was: p.was.clone(), version: p.version },
            None => Node { place: nowhere(file.id), was: None, version: Version::PENDING },
        }
    }
}

/// Where a directory is put of which no placement is alive.
fn nowhere(id: FileId) -> Place {
    let name = Name::new(format!("{:016x}", id.0).as_bytes()).expect("hexadecimal digits are a name");
    Place { parent: FileId::RECOVERED, name }
}

impl Layout<'_> {
    /// Where each affected directory is shown now: those given, and all that are or were cut.
    pub(super) fn shown_places(
        &mut self,
        steps: &BTreeMap<FileId, Step>,
        mut affected: BTreeSet<FileId>,
    ) -> Result<Vec<(FileId, Place)>, Missing> {
        for id in all(&self.work)? {
            if !affected.contains(&id) && self.knows(id)? {
                affected.insert(id);
            }
        }
        let mut put_back: BTreeMap<FileId, Place> = BTreeMap::new();
        let mut fine: BTreeSet<FileId> = BTreeSet::new();
        let mut walks: Vec<FileId> = affected.iter().copied().collect();
        while let Some(start) = walks.pop() {
            let mut path = Vec::new();
            let mut on_path = BTreeSet::new();
            let mut at = start;
            while at != FileId::ROOT
                && at != FileId::RECOVERED
                && !fine.contains(&at)
                && self.knows(at)?
                && on_path.insert(at)
            {
                path.push(at);
                at = match put_back.get(&at) {
                    Some(place) => place.parent,
                    None => self.picked_parent(at, steps)?,
                };
            }
            let Some(first) = path.iter().position(|&d| d == at) else {
                fine.extend(path);
                continue;
            };
            let cut = self.cut(&path[first..], steps, &mut put_back)?;
            affected.insert(cut);
            walks.extend([start, cut]);
        }
        let mut shown = Vec::new();
        for id in affected {
            let place = match put_back.remove(&id) {
                Some(place) => place,
                None => self.node(id, steps)?.place,
            };
            let place = if self.knows(place.parent)? { place } else { super::recovered_place(&place) };
            shown.push((id, place));
        }
        Ok(shown)
    }

    /// Cuts one cycle: puts one of its members back and returns it.
    fn cut(
        &mut self,
        cycle: &[FileId],
        steps: &BTreeMap<FileId, Step>,
        put_back: &mut BTreeMap<FileId, Place>,
    ) -> Result<FileId, Missing> {
        let mut latest_back: Option<(Version, FileId, Place)> = None;
        let mut latest: Option<(Version, FileId, Place)> = None;
        for &id in cycle {
            let node = self.node(id, steps)?;
            let rank = (node.version, id);
            if latest.as_ref().is_none_or(|l| (l.0, l.1) < rank) {
                let now = put_back.get(&id).unwrap_or(&node.place);
                latest = Some((node.version, id, super::recovered_place(now)));
            }
            if let Some(was) = node.was
                && !put_back.contains_key(&id)
                && was.parent != node.place.parent
                && latest_back.as_ref().is_none_or(|l| (l.0, l.1) < rank)
            {
                latest_back = Some((node.version, id, was));
            }
        }
        let (_, id, place) = latest_back.or(latest).expect("a cycle has members");
        put_back.insert(id, place);
        Ok(id)
    }

    fn node(&self, id: FileId, steps: &BTreeMap<FileId, Step>) -> Result<Node, Missing> {
        if let Some(step) = steps.get(&id) {
            return Ok(Node::of(&step.new));
        }
        Ok(match locate(&self.work, id, Kind::Directory, None)? {
            Some((_, file)) => Node::of(&file),
            None => Node { place: nowhere(id), was: None, version: Version::PENDING },
        })
    }

    fn picked_parent(&self, id: FileId, steps: &BTreeMap<FileId, Step>) -> Result<FileId, Missing> {
        if !steps.contains_key(&id)
            && let Some(header) = header(&self.work, id)?
            && !header.cut
        {
            return Ok(header.shown.parent);
        }
        Ok(self.node(id, steps)?.place.parent)
    }
}
