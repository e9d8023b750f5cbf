//! What is unpublished, told again as another device's: new ids for the files born here, a new version for what is sealed.
//!
//! Pure. The ids that a device hands out begin with its number, so a copy of it hands out the same ones. Whoever goes on under another number
//! must take none of them along.

use super::learn::Commit;
use super::seal::{Sealed, SealedFile};
use ouro_core::content::Content;
use ouro_core::delta::{FileDelta, Register};
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq, Version};
use ouro_core::render::copy_id;
use ouro_core::state::{Kind, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What changes its id, and what does not go along since it is published already.
#[derive(Default)]
pub(super) struct Renumbering {
    /// Files born here and copies of what is sealed, by the id they had.
    pub(super) files: BTreeMap<FileId, FileId>,
    /// Hard links made here.
    slots: BTreeMap<u64, u64>,
    /// The version of the sealed generation, before and after.
    sealed: Option<(Version, Version)>,
    /// Sealed changes that are published: under which version.
    published: BTreeMap<FileId, Version>,
    /// The next counter that is free.
    pub(super) counter: u32,
}

/// What is unpublished, before and after.
pub(super) struct Overlay {
    pub(super) sealed: Option<Sealed>,
    pub(super) pending: BTreeMap<FileId, FileDelta>,
}

/// What goes, since the log says it already: of the sealed generation and of what is pending, each with what the log says.
#[derive(Default)]
pub(super) struct Published<'a> {
    pub(super) sealed: BTreeMap<FileId, (&'a FileDelta, Version)>,
    pub(super) pending: BTreeSet<FileId>,
}

impl<'a> Published<'a> {
    /// Compares what is unpublished with what this device's own log says beyond what it knows: a device that was restored from a backup has
    /// pending what its former self published. Only what is the same to the nanosecond counts, and contents that are the same bytes:
    /// `proven` says of which files they are.
    pub(super) fn find(overlay: &Overlay, commits: &'a [Commit], proven: &BTreeSet<FileId>) -> Published<'a> {
        let is_it = |ours: &FileDelta, theirs: &FileDelta| {
            is_same(ours, theirs) && (ours.source().is_none() || proven.contains(&ours.id))
        };
        // A copy may have sealed something else under the very same version: what is pending on top of a sealed change is what the log says only
        // if that change is.
        let before = overlay.sealed.as_ref().map(|sealed| sealed.version);
        let is_on_sealed = |ours: &FileDelta| ours.replaced.iter().any(|(_, version)| Some(*version) == before);
        let mut found = Published::default();
        for commit in commits {
            let version = Version { hlc: commit.hlc, device: commit.device, seq: commit.seq };
            for theirs in &commit.delta.files {
                let sealed = overlay.sealed.as_ref().and_then(|s| s.file(theirs.id));
                let pending = overlay.pending.get(&theirs.id).filter(|ours| is_it(ours, theirs));
                if sealed.is_some_and(|ours| is_it(ours, theirs)) {
                    found.sealed.entry(theirs.id).or_insert((theirs, version));
                } else if pending.is_some_and(|ours| !is_on_sealed(ours) || found.sealed.contains_key(&ours.id)) {
                    found.pending.insert(theirs.id);
                }
            }
        }
        found
    }
}

/// What is unpublished and may be what the log says: our content, which only this device has, and that of the log.
pub struct Claim {
    /// The file.
    pub file: FileId,
    /// What was written here: see [`super::Volume::read_layer`].
    pub ours: Content,
    /// What the log says.
    pub theirs: Content,
}

/// Every content that must be compared to tell whether it is published.
pub(super) fn claims(overlay: &Overlay, commits: &[Commit]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for theirs in commits.iter().flat_map(|commit| &commit.delta.files) {
        let Some(value) = theirs.content.as_ref().and_then(|content| content.value.as_ref()) else { continue };
        let sealed = overlay.sealed.as_ref().and_then(|sealed| sealed.file(theirs.id));
        for ours in sealed.into_iter().chain(overlay.pending.get(&theirs.id)) {
            if let Some(source) = ours.source()
                && is_same(ours, theirs)
            {
                claims.push(Claim { file: theirs.id, ours: source.clone(), theirs: value.clone() });
            }
        }
    }
    claims
}

/// Whether two changes are one, but for the bytes of their contents: made on the same, at the same nanosecond, with the same outcome.
fn is_same(ours: &FileDelta, theirs: &FileDelta) -> bool {
    let contents = match (&ours.content, &theirs.content) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            let values = match (&a.value, &b.value) {
                (Some(Content::Pending { size, .. }), Some(value)) => {
                    ours.attributes.is_some() && value.size() == *size
                }
                (a, b) => a == b,
            };
            values && a.at == b.at && a.by_rule == b.by_rule
        }
        _ => false,
    };
    contents
        && ours.kind == theirs.kind
        && ours.placements == theirs.placements
        && ours.attributes == theirs.attributes
        && ours.replaced == theirs.replaced
}

impl Renumbering {
    /// The ids that everything gets which `old` made and nobody knows. If the log says a part of what is sealed, the rest is made on all that
    /// is `known`, and stamped after it. `orphans` are files without a name that somebody has open. One whose
    /// removal is still to be published keeps the id by which others know it.
    pub(super) fn new(
        (old, new): (DeviceNo, DeviceNo),
        overlay: &Overlay,
        published: &Published<'_>,
        known: Hlc,
        orphans: impl Iterator<Item = FileId>,
    ) -> Renumbering {
        let before = overlay.sealed.as_ref().map(|sealed| sealed.version);
        let after = |version: Version| Version {
            hlc: if published.sealed.is_empty() { version.hlc } else { version.hlc.max(known.next()) },
            device: new,
            seq: Seq(1),
        };
        let is_own = |id: u64| id >> 32 == u64::from(old.0);
        let is_known = |file: &FileId| {
            let sealed = overlay.sealed.as_ref().and_then(|sealed| sealed.file(*file));
            let mut told = sealed.into_iter().chain(overlay.pending.get(file)).flat_map(|delta| &delta.replaced);
            published.sealed.contains_key(file) || told.any(|(_, version)| Some(*version) != before)
        };
        let orphans = orphans.filter(|file| is_own(file.0) && !is_known(file));
        let mut drawn: BTreeSet<u64> = orphans.map(|file| file.0).collect();
        let mut slots: BTreeSet<u64> = BTreeSet::new();
        let sealed = overlay.sealed.iter().flat_map(|s| s.files.iter());
        let sealed = sealed.filter(|delta| !published.sealed.contains_key(&delta.id));
        let pending = overlay.pending.values().filter(|delta| !published.pending.contains(&delta.id));
        for delta in sealed.chain(pending) {
            let known = |version| Some(version) != before || published.sealed.contains_key(&delta.id);
            let is_new = |slot: u64| {
                let register = Register::Placement { slot };
                !delta.replaced.iter().any(|(of, version)| *of == register && known(*version))
            };
            if is_own(delta.id.0) && is_birth(delta, &known) {
                drawn.insert(delta.id.0);
            }
            let own = delta.placements.iter().map(|p| p.slot).filter(|slot| is_own(*slot) && is_new(*slot));
            slots.extend(own);
        }
        let mut renumbering = Renumbering {
            sealed: before.map(|version| (version, after(version))),
            published: published.sealed.iter().map(|(file, (_, version))| (*file, *version)).collect(),
            counter: FileId::COUNTER_FIRST,
            ..Renumbering::default()
        };
        for id in drawn.union(&slots) {
            let fresh = FileId::new(new, renumbering.counter);
            renumbering.counter += 1;
            if drawn.contains(id) {
                renumbering.files.insert(FileId(*id), fresh);
            }
            if slots.contains(id) {
                renumbering.slots.insert(*id, fresh.0);
            }
        }
        let Some(version) = before else { return renumbering };
        for delta in overlay.sealed.iter().flat_map(|s| s.files.iter()).filter(|delta| delta.content.is_some()) {
            let (was, is) = (copy_id(delta.id, version), renumbering.file(delta.id));
            let copy = copy_id(is, renumbering.version(delta.id, version));
            renumbering.files.insert(was, copy);
        }
        renumbering
    }

    /// The id that a file has from now on.
    pub(super) fn file(&self, file: FileId) -> FileId {
        self.files.get(&file).copied().unwrap_or(file)
    }

    /// What is unpublished without what is published already, told by the new ids.
    pub(super) fn apply(&self, overlay: &Overlay, published: &Published<'_>) -> Overlay {
        let sealed = overlay.sealed.as_ref().map(|sealed| {
            let rest = sealed.files.iter().filter(|delta| !published.sealed.contains_key(&delta.id));
            let mut files: Vec<FileDelta> = rest.map(|delta| self.delta(delta)).collect();
            files.sort_by_key(|delta| delta.id);
            let version = self.sealed.map_or(sealed.version, |(_, after)| after);
            Sealed { version, files: Arc::new(files), record: None, ..sealed.clone() }
        });
        let rest = overlay.pending.values().filter(|delta| !published.pending.contains(&delta.id));
        Overlay {
            sealed: sealed.filter(|sealed| !sealed.files.is_empty() || !sealed.message.is_empty()),
            pending: rest.map(|delta| self.delta(delta)).map(|delta| (delta.id, delta)).collect(),
        }
    }

    fn version(&self, file: FileId, version: Version) -> Version {
        match self.sealed {
            Some((before, after)) if before == version => self.published.get(&file).copied().unwrap_or(after),
            _ => version,
        }
    }

    fn slot(&self, slot: u64) -> u64 {
        self.slots.get(&slot).copied().unwrap_or(slot)
    }

    pub(super) fn place(&self, place: &Place) -> Place {
        Place { parent: self.file(place.parent), name: place.name.clone() }
    }

    fn delta(&self, delta: &FileDelta) -> FileDelta {
        let mut told = delta.clone();
        told.id = self.file(delta.id);
        told.hint = delta.hint.as_ref().map(|place| self.place(place));
        for placement in &mut told.placements {
            placement.slot = self.slot(placement.slot);
            placement.place = self.place(&placement.place);
            placement.was = placement.was.as_ref().map(|place| self.place(place));
        }
        told.placements.sort_by_key(|placement| placement.slot);
        if let Some(content) = told.content.as_mut() {
            content.at = self.place(&content.at);
        }
        for (register, version) in &mut told.replaced {
            *version = self.version(delta.id, *version);
            if let Register::Placement { slot } = register {
                *slot = self.slot(*slot);
            }
        }
        told.replaced.sort_unstable();
        told
    }
}

/// Whether a change is the first of its file, as far as others know: nothing that is `known` is replaced.
fn is_birth(delta: &FileDelta, known: &dyn Fn(Version) -> bool) -> bool {
    let made = match delta.kind {
        Kind::Directory => delta.placements.iter().any(|p| p.slot == 0),
        // The name that a file was made with may be gone, if it was given another one meanwhile.
        _ => delta.content.is_some(),
    };
    made && delta.hint.is_none() && !delta.replaced.iter().any(|(_, version)| known(*version))
}
