//! What is decided among the siblings of one file alone: which placement, which content, and which contents are copies.

use crate::content::Content;
use crate::id::{FileId, Version};
use crate::state::{ContentVersion, File, Kind, Place, Placement};
use alloc::vec;
use alloc::vec::Vec;

/// The placement that is seen among siblings: one that a user wrote before one by rule, standing before removed, then the latest.
pub(crate) fn pick<'a>(placements: impl Iterator<Item = &'a Placement>) -> Option<&'a Placement> {
    placements.max_by_key(|p| (!p.by_rule, !p.removed, p.version))
}

/// The picked placement of each slot, in slot order.
pub fn slots(file: &File) -> Vec<&Placement> {
    file.placements.chunk_by(|a, b| a.slot == b.slot).filter_map(|siblings| pick(siblings.iter())).collect()
}

/// Whether some living placement says that the directory was removed.
pub(crate) fn is_removed(file: &File) -> bool {
    file.placements.iter().any(|p| p.removed)
}

/// Whether two contents are known to be the same bytes. What is not sealed yet is equal to nothing.
pub(crate) fn same(a: &Content, b: &Content) -> bool {
    !matches!(a, Content::Pending { .. }) && a == b
}

/// Equal contents among the siblings of a file.
pub(crate) struct Contents<'a> {
    /// The bytes.
    pub(crate) content: &'a Content,
    /// The versions that hold them, ascending.
    pub(crate) versions: Vec<Version>,
    /// Where the file stood at the latest of them.
    pub(crate) at: &'a Place,
}

impl Contents<'_> {
    /// The earliest version, by which a copy is named.
    pub(crate) fn earliest(&self) -> Version {
        self.versions[0]
    }

    fn latest(&self) -> Version {
        self.versions[self.versions.len() - 1]
    }
}

/// The contents that are seen: the winner first, then the copies with the latest first. Empty if the file is hidden.
pub(crate) fn contents(file: &File) -> Vec<Contents<'_>> {
    let by_users = file.contents.iter().any(|c| !c.by_rule);
    let mut groups: Vec<Contents<'_>> = vec![];
    for (c, value) in file.contents.iter().filter(|c| c.by_rule != by_users).filter_map(with_value) {
        match groups.iter_mut().find(|g| same(g.content, value)) {
            Some(group) => {
                group.versions.push(c.version);
                group.at = &c.at;
            }
            None => groups.push(Contents { content: value, versions: vec![c.version], at: &c.at }),
        }
    }
    groups.sort_by_key(|g| core::cmp::Reverse(g.latest()));
    groups
}

fn with_value(c: &ContentVersion) -> Option<(&ContentVersion, &Content)> {
    c.value.as_ref().map(|value| (c, value))
}

/// The content version that is seen, if any.
pub(crate) fn winner(file: &File) -> Option<&ContentVersion> {
    let by_users = file.contents.iter().any(|c| !c.by_rule);
    file.contents.iter().rfind(|c| c.by_rule != by_users && c.value.is_some())
}

/// One place where a file that is no directory is to be seen, before names are decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) slot: u64,
    pub(crate) version: Version,
    pub(crate) place: Place,
}

/// Where a file that is no directory stands: once per slot, or where its winning content says if it has no placement any more, or
/// nowhere if it has no content.
pub(crate) fn stands(file: &File) -> Vec<Stand> {
    let Some(winner) = winner(file) else { return vec![] };
    if file.placements.is_empty() {
        return vec![Stand { slot: 0, version: winner.version, place: winner.at.clone() }];
    }
    let stand = |p: &Placement| Stand { slot: p.slot, version: p.version, place: p.place.clone() };
    slots(file).into_iter().map(stand).collect()
}

/// By which version a file that is no directory stands at a slot, and whether that is the first of its places; `None` if it does not. What
/// [`stands`] says, without naming the places.
pub(crate) fn stands_at(file: &File, slot: u64) -> Option<(Version, bool)> {
    if let [only] = &file.placements[..] {
        return (only.slot == slot && winner(file).is_some()).then_some((only.version, true));
    }
    let stands = stands(file);
    let stand = stands.iter().find(|s| s.slot == slot)?;
    Some((stand.version, stands[0].slot == slot))
}

/// The content that is seen, and how many copies there are beside it. What [`contents`] says, without their versions.
pub(crate) fn content_and_copies(file: &File) -> (Option<&Content>, usize) {
    if let [only] = &file.contents[..] {
        return (only.value.as_ref(), 0);
    }
    let contents = contents(file);
    (contents.first().map(|c| c.content), contents.len().saturating_sub(1))
}

/// Whether the row of this record shows nothing: a file without content.
pub(crate) fn is_hidden(file: &File) -> bool {
    file.kind != Kind::Directory && winner(file).is_none()
}

/// The id of the conflict copy of a content of `file`, by the earliest version that holds it: the same on every device.
pub fn copy_id(file: FileId, earliest: Version) -> FileId {
    let mut bytes = [0; 28];
    bytes[..8].copy_from_slice(&file.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&earliest.hlc.0.to_le_bytes());
    bytes[16..20].copy_from_slice(&earliest.device.0.to_le_bytes());
    bytes[20..28].copy_from_slice(&earliest.seq.0.to_le_bytes());
    let hash = blake3::hash(&bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    FileId::derived(u64::from_le_bytes(first))
}
