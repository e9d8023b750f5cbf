//! Files on their way from what they are to what an operation makes of them.

use crate::delta::{AddedContent, AddedPlacement, FileDelta, Register};
use crate::digest::versions;
use crate::edit::{Edited, Pending};
use crate::id::{FileId, Version};
use crate::layout::{Reach, Step, Working, lay_out, locate, returns};
use crate::render::Devices;
use crate::row::{Key, Missing, Rows};
use crate::state::{Attributes, AttributesVersion, ContentVersion, File, Kind, Place, Placement};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What an operation has decided so far. Rows show what was put into effect by [`Draft::commit`]; the files drafted since do not show
/// in them, so one phase of an operation decides on one view.
pub(crate) struct Draft<'a> {
    pub(crate) work: Working<'a>,
    pub(crate) devices: &'a dyn Devices,
    pending: &'a Pending,
    files: BTreeMap<FileId, Drafted>,
    deltas: BTreeMap<FileId, Option<FileDelta>>,
    listings: BTreeSet<FileId>,
    touched: BTreeSet<FileId>,
}

struct Drafted {
    old: Option<(Key, Arc<File>)>,
    new: File,
    /// Where others who derive the same file put it.
    hint: Option<Place>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(rows: &'a dyn Rows, pending: &'a Pending, devices: &'a dyn Devices) -> Draft<'a> {
        Draft {
            work: Working::new(rows),
            devices,
            pending,
            files: BTreeMap::new(),
            deltas: BTreeMap::new(),
            listings: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The file as drafted; a new one if there is none. `place` is where it stands or would.
    pub(crate) fn file(&mut self, id: FileId, kind: Kind, place: Option<&Place>) -> Result<&mut File, Missing> {
        if !self.files.contains_key(&id) {
            let old = locate(&self.work, id, kind, place)?;
            let new = old.as_ref().map_or_else(|| File::new(id, kind), |(_, file)| (**file).clone());
            let hint = if old.is_none() && id.is_derived() { place.cloned() } else { None };
            self.files.insert(id, Drafted { old, new, hint });
        }
        let drafted = self.files.get_mut(&id).expect("it was inserted if it was not there");
        Ok(&mut drafted.new)
    }

    /// What was changed about a file in this generation, before this operation or by it.
    pub(crate) fn delta_of(&self, id: FileId) -> Option<&FileDelta> {
        match self.deltas.get(&id) {
            Some(delta) => delta.as_ref(),
            None => self.pending.files.get(&id),
        }
    }

    /// All changes of this generation, before this operation or by it.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = &FileDelta> {
        let before = self.pending.files.values().filter(|d| !self.deltas.contains_key(&d.id));
        before.chain(self.deltas.values().flatten())
    }

    /// Puts the drafted files into effect: later reads of the rows see them.
    pub(crate) fn commit(&mut self) -> Result<(), Missing> {
        let mut steps = Vec::new();
        for (id, mut drafted) in core::mem::take(&mut self.files) {
            drafted.new.normalize();
            let same = match &drafted.old {
                Some((_, old)) => **old == drafted.new,
                None => drafted.new.is_gone(),
            };
            if same {
                continue;
            }
            let delta = self.delta_after(&drafted);
            let returns = returns(&delta);
            self.deltas.insert(id, Some(delta).filter(|d| !d.is_empty()));
            steps.push(Step { old: drafted.old, new: drafted.new, returns });
        }
        let laid = lay_out(&self.work, steps, Reach::OwnDirectory)?;
        self.work.changes.extend(laid.changes);
        self.listings.extend(laid.listings);
        self.touched.extend(laid.files);
        Ok(())
    }

    /// The pending delta of a file that follows from what it was and what it is now: what is pending in it is added, and every real
    /// version that went away since the generation began is replaced.
    fn delta_after(&self, drafted: &Drafted) -> FileDelta {
        let Drafted { old, new, hint } = drafted;
        let mut delta = match self.delta_of(new.id) {
            Some(before) => FileDelta {
                hint: before.hint.clone(),
                replaced: before.replaced.clone(),
                ..FileDelta::new(new.id, new.kind, None)
            },
            None => FileDelta::new(new.id, new.kind, old.as_ref().and_then(|(key, _)| place_of(key)).or(hint.clone())),
        };
        if let Some((_, old)) = old {
            delta.replaced.extend(versions(old).filter(|(_, version)| !version.is_pending()));
        }
        let still: BTreeSet<(Register, Version)> = versions(new).collect();
        delta.replaced.retain(|living| !still.contains(living));
        delta.replaced.sort_unstable();
        delta.replaced.dedup();
        for p in new.placements.iter().filter(|p| p.version.is_pending()) {
            let (place, was) = (p.place.clone(), p.was.clone());
            delta.placements.push(AddedPlacement { slot: p.slot, place, was, by_rule: p.by_rule, removed: p.removed });
        }
        let content = new.contents.iter().find(|c| c.version.is_pending());
        delta.content = content.map(|c| AddedContent { value: c.value.clone(), at: c.at.clone(), by_rule: c.by_rule });
        delta.attributes = new.attributes.iter().find(|a| a.version.is_pending()).map(|a| a.value.clone());
        delta
    }

    /// Ends the operation.
    pub(crate) fn finish(mut self) -> Result<Edited, Missing> {
        self.commit()?;
        Ok(Edited {
            pending: self.deltas.into_iter().collect(),
            changes: self.work.changes,
            listings: self.listings.into_iter().collect(),
            files: self.touched.into_iter().collect(),
        })
    }
}

fn place_of(key: &Key) -> Option<Place> {
    (key.directory != FileId::HOMELESS).then(|| Place { parent: key.directory, name: key.name.clone() })
}

/// Makes `place` the only placement of a slot.
pub(crate) fn put_placement(file: &mut File, slot: u64, place: Place, by_rule: bool) {
    file.placements.retain(|p| p.slot != slot);
    file.placements.push(Placement { slot, version: Version::PENDING, place, was: None, by_rule, removed: false });
}

/// Adds a content beside those that stay; an earlier pending one goes.
pub(crate) fn add_content(file: &mut File, content: ContentVersion) {
    file.contents.retain(|c| !c.version.is_pending());
    file.contents.push(content);
}

/// Makes these the only attributes.
pub(crate) fn put_attributes(file: &mut File, value: Attributes) {
    file.attributes.clear();
    file.attributes.push(AttributesVersion { version: Version::PENDING, value });
}
