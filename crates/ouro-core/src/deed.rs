//! What a commit did to a file, told from its delta alone: no state before or after is needed.

use crate::delta::{FileDelta, Register};
use crate::state::{Kind, Place};

/// What a commit did to one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// It was made.
    pub created: bool,
    /// It got another content.
    pub edited: bool,
    /// It moved from here; the new place is [`Deeds::place`].
    pub renamed_from: Option<Place>,
    /// It lost its last name, or the directory was removed.
    pub deleted: bool,
    /// It got a further name, or lost one and kept others.
    pub links: bool,
    /// Only attributes changed.
    pub attributes: bool,
    /// What was only shown until then (a conflict copy, a name given by rule) was written down.
    pub settled: bool,
    /// Its record, which showed nothing any more, was purged: nothing is seen differently, and of the rest only [`Deeds::place`] may be set.
    pub forgotten: bool,
    /// Where it stands afterwards, or stood before if it was deleted.
    pub place: Option<Place>,
    /// Size of the content that it got, in bytes.
    pub bytes: Option<u64>,
}

/// What a commit did to a file.
///
/// Two purged records cannot be told from what people do, and are told as that: of a file of several names as a name lost, of a conflict copy
/// that one device removed while another wrote it down as a file as a deletion.
pub fn deeds(delta: &FileDelta) -> Deeds {
    let replaces = |slot: u64| delta.replaced.iter().any(|(r, _)| *r == Register::Placement { slot });
    let unplaces = delta.replaced.iter().any(|(r, _)| matches!(r, Register::Placement { .. }));
    let uncontents = delta.replaced.iter().any(|(r, _)| *r == Register::Content);
    let value = delta.content.as_ref().and_then(|c| c.value.as_ref());
    let first = delta.placements.first();
    let forgotten = is_forgotten(delta, unplaces, uncontents);
    // By rule only what was removed before is said to be: a directory that comes back for what is in it ([`crate::edit::Edit::hold`]).
    let removed =
        first.is_some_and(|p| p.removed && !p.by_rule) || delta.content.as_ref().is_some_and(|c| c.value.is_none());
    let gone = delta.placements.is_empty() && unplaces && uncontents;
    let deleted = !forgotten && (removed || (gone && value.is_none()));
    let is_new = delta.hint.is_none() && !unplaces && !uncontents;
    let created = !deleted && is_new && first.is_some() && (value.is_some() || delta.kind == Kind::Directory);
    let moved = delta.placements.iter().find(|p| replaces(p.slot) && !p.by_rule && !p.removed);
    let before =
        moved.and_then(|p| delta.hint.clone().filter(|h| p.slot == 0 && *h != p.place).or_else(|| p.was.clone()));
    let renamed_from = before.filter(|from| moved.is_some_and(|p| p.place != *from));
    let settled =
        delta.placements.iter().any(|p| p.by_rule && !p.removed) || delta.content.as_ref().is_some_and(|c| c.by_rule);
    let added = delta.placements.iter().any(|p| !replaces(p.slot) && !p.by_rule);
    let links = !created && !deleted && !forgotten && (added || (unplaces && delta.placements.is_empty()));
    let edited = !created && value.is_some() && !settled;
    let attributes =
        delta.attributes.is_some() && !created && !edited && !deleted && !links && renamed_from.is_none() && !settled;
    let at_first = first.map(|p| p.place.clone());
    let place = if deleted { delta.hint.clone().or(at_first) } else { at_first.or_else(|| delta.hint.clone()) };
    let place = place.or_else(|| delta.content.as_ref().map(|c| c.at.clone()));
    let bytes = value.map(crate::content::Content::size);
    Deeds { created, edited, renamed_from, deleted, links, attributes, settled, forgotten, place, bytes }
}

/// Whether a delta purges the record. It only takes away, and not what who removes something takes away: a directory is removed by a placement
/// that says so, a file with its content. A name that is lost while others stay is none at which the record stood.
fn is_forgotten(delta: &FileDelta, unplaces: bool, uncontents: bool) -> bool {
    if !delta.placements.is_empty() || delta.content.is_some() || delta.attributes.is_some() {
        return false;
    }
    if delta.kind == Kind::Directory {
        return unplaces;
    }
    // A conflict copy that was removed before it was a file has nothing but the word that it was.
    let buried = delta.id.is_derived() && delta.replaced.iter().all(|(register, _)| *register == Register::Content);
    if uncontents { buried } else { unplaces && delta.hint.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::delta::{AddedContent, AddedPlacement};
    use crate::id::{DeviceNo, FileId, Hlc, Seq, Version};
    use crate::name::Name;
    use crate::state::Attributes;

    fn at(name: &str) -> Place {
        Place { parent: FileId::ROOT, name: Name::new(name.as_bytes()).unwrap() }
    }
    fn placed(name: &str) -> AddedPlacement {
        AddedPlacement { slot: 0, place: at(name), was: None, by_rule: false, removed: false }
    }
    fn content(at_name: &str) -> AddedContent {
        AddedContent { value: Some(Content::empty()), at: at(at_name), by_rule: false }
    }
    const OLD: Version = Version { hlc: Hlc(1), device: DeviceNo(1), seq: Seq(1) };
    const PLACEMENT: (Register, Version) = (Register::Placement { slot: 0 }, OLD);
    const CONTENT: (Register, Version) = (Register::Content, OLD);

    fn delta(hint: Option<&str>) -> FileDelta {
        FileDelta::new(FileId(77), Kind::File, hint.map(at))
    }

    #[test]
    fn what_a_commit_did_is_told_from_its_delta_alone() {
        let created = FileDelta { placements: vec![placed("a")], content: Some(content("a")), ..delta(None) };
        let told = deeds(&created);
        assert!(told.created && !told.edited && told.place == Some(at("a")) && told.bytes == Some(0));
        let edited = FileDelta { content: Some(content("a")), replaced: vec![CONTENT], ..delta(Some("a")) };
        assert!(deeds(&edited).edited && !deeds(&edited).created);
        let renamed = FileDelta { placements: vec![placed("b")], replaced: vec![PLACEMENT], ..delta(Some("a")) };
        let told = deeds(&renamed);
        assert_eq!((told.renamed_from, told.place), (Some(at("a")), Some(at("b"))));
        let deleted = FileDelta { replaced: vec![PLACEMENT, CONTENT], ..delta(Some("a")) };
        let told = deeds(&deleted);
        assert!(told.deleted && !told.links && told.place == Some(at("a")));
        let unlinked = FileDelta { replaced: vec![PLACEMENT], ..delta(None) };
        assert!(deeds(&unlinked).links && !deeds(&unlinked).deleted && !deeds(&unlinked).forgotten);
        let linked = FileDelta { placements: vec![AddedPlacement { slot: 9, ..placed("b") }], ..delta(Some("a")) };
        assert!(deeds(&linked).links && !deeds(&linked).created);
        let value = Attributes { mode: 0o600, mtime_ns: 0, ctime_ns: 0, rdev: 0, xattrs: vec![] };
        let chmod = FileDelta { attributes: Some(value), ..delta(Some("a")) };
        assert!(deeds(&chmod).attributes);
    }

    #[test]
    fn a_directory_is_removed_by_a_placement_that_says_so() {
        let gone = AddedPlacement { removed: true, ..placed("d") };
        let removed =
            FileDelta { kind: Kind::Directory, placements: vec![gone], replaced: vec![PLACEMENT], ..delta(Some("d")) };
        let told = deeds(&removed);
        assert!(told.deleted && !told.links && told.renamed_from.is_none() && !told.forgotten);
    }

    #[test]
    fn a_directory_that_comes_back_for_what_is_in_it_is_not_told_as_deleted() {
        let held = AddedPlacement { by_rule: true, removed: true, ..placed("d") };
        let directory = FileDelta { placements: vec![held], ..FileDelta::new(FileId(77), Kind::Directory, None) };
        let told = deeds(&directory);
        assert!(told.created && !told.deleted && told.place == Some(at("d")));
    }

    #[test]
    fn a_record_that_is_purged_is_forgotten_and_nothing_else() {
        let only = |place| Deeds { forgotten: true, place, ..Deeds::default() };
        let attributes = (Register::Attributes, OLD);
        let directory = FileDelta { kind: Kind::Directory, replaced: vec![PLACEMENT, attributes], ..delta(None) };
        assert_eq!(deeds(&directory), only(None));
        let without_content = FileDelta { replaced: vec![PLACEMENT], ..delta(Some("a")) };
        assert_eq!(deeds(&without_content), only(Some(at("a"))));
        let buried = FileDelta { id: FileId::derived(7), replaced: vec![CONTENT], ..delta(None) };
        assert_eq!(deeds(&buried), only(None));
        let written_down = FileDelta { id: FileId::derived(7), replaced: vec![PLACEMENT, CONTENT], ..delta(Some("c")) };
        assert!(
            deeds(&written_down).deleted && !deeds(&written_down).forgotten,
            "a copy that is a file is removed as one"
        );
    }
}
