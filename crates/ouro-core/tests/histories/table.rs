//! The table of conflicts (docs/semantics.md), case by case, on two devices.

use crate::device::{Commit, Device, attributes, bytes};
use crate::oracle::name;
use ouro_core::birth::{Birth, Cradle};
use ouro_core::edit::EditError;
use ouro_core::id::FileId;
use ouro_core::render::{self, What};
use ouro_core::state::Kind;
use std::collections::BTreeMap;

/// 2026-11-22 14.30 UTC.
pub(crate) const MILLIS: u64 = 1_795_357_800_000;

/// Two devices that know the same.
pub(crate) struct Two {
    pub(crate) a: Device,
    pub(crate) b: Device,
}

impl Two {
    /// Both know what the first one makes: paths with contents, directories without.
    pub(crate) fn with(entries: &[(&str, Option<&str>)]) -> Two {
        let mut two = Two { a: Device::new(1), b: Device::new(2) };
        for (path, content) in entries {
            two.a.make(path, *content);
        }
        two.exchange();
        two
    }

    /// Both seal, the second one later, and learn of each other.
    pub(crate) fn exchange(&mut self) {
        let (from_a, from_b) = (self.a.seal(MILLIS), self.b.seal(MILLIS + 60_000));
        let learn = |device: &mut Device, commit: &Option<Commit>| {
            if let Some(commit) = commit {
                device.learn(commit);
            }
        };
        learn(&mut self.b, &from_a);
        learn(&mut self.a, &from_b);
        self.a.check();
        self.b.check();
        assert_eq!(self.a.committed.0, self.b.committed.0);
        assert_eq!(self.a.paths(), self.b.paths());
    }

    /// What both show.
    pub(crate) fn shows(&self, expected: &[(&str, Option<&str>)]) {
        let mut paths = self.a.paths();
        paths.remove("");
        let expected: BTreeMap<_, _> = expected.iter().map(|(p, c)| (p.to_string(), c.map(bytes))).collect();
        assert_eq!(paths, expected);
    }
}

pub(crate) const COPY_OF_F: &str = "/f (conflict from D1 2026-11-22 14.30)";

#[test]
fn both_changed_to_the_same_content_is_no_conflict() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.a.write("/f", "new");
    two.b.write("/f", "new");
    two.exchange();
    two.shows(&[("/f", Some("new"))]);
}

#[test]
fn edit_against_edit_keeps_the_later_and_shows_the_other_beside_it() {
    let mut two = Two::with(&[("/f.txt", Some("old"))]);
    two.a.write("/f.txt", "of a");
    two.b.write("/f.txt", "of b");
    let (from_a, from_b) = (two.a.seal(MILLIS), two.b.seal(MILLIS + 60_000));
    two.b.learn(&from_a.expect("a wrote"));
    two.a.learn(&from_b.expect("b wrote"));
    two.shows(&[("/f (conflict from D1 2026-11-22 14.30).txt", Some("of a")), ("/f.txt", Some("of b"))]);
    let ids = |d: &Device| d.spots().values().map(|s| s.seen.id).collect::<Vec<_>>();
    assert_eq!(ids(&two.a), ids(&two.b), "every device shows the same copy");
    let copy = two.a.spot("/f (conflict from D1 2026-11-22 14.30).txt").seen;
    assert!(copy.id.is_derived() && matches!(copy.what, What::Copy { .. }));
}

#[test]
fn a_copy_that_is_removed_stays_removed_when_the_other_edits_the_file() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.a.write("/f", "of a");
    two.b.write("/f", "of b");
    two.exchange();
    two.shows(&[("/f", Some("of b")), (COPY_OF_F, Some("of a"))]);
    two.a.remove(COPY_OF_F);
    two.b.write("/f", "newer");
    two.exchange();
    two.shows(&[("/f", Some("newer"))]);
}

#[test]
fn a_conflict_copy_that_conflicts_again_never_has_two_suffixes() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.a.write("/f", "of a");
    two.b.write("/f", "of b");
    two.exchange();
    two.a.write(COPY_OF_F, "a again");
    two.b.write(COPY_OF_F, "b again");
    two.exchange();
    two.shows(&[
        ("/f", Some("of b")),
        (COPY_OF_F, Some("b again")),
        ("/f (conflict from D1 2026-11-22 14.31)", Some("a again")),
    ]);
}

#[test]
fn no_copy_is_shown_inside_git_nor_beside_companions_of_databases() {
    let mut two = Two::with(&[("/.git", None), ("/.git/index", Some("old")), ("/db-wal", Some("old"))]);
    for (device, content) in [(&mut two.a, "of a"), (&mut two.b, "of b")] {
        device.write("/.git/index", content);
        device.write("/db-wal", content);
    }
    let (from_a, from_b) = (two.a.seal(MILLIS), two.b.seal(MILLIS + 60_000));
    two.b.learn(&from_a.expect("a wrote"));
    two.a.learn(&from_b.expect("b wrote"));
    two.shows(&[("/.git", None), ("/.git/index", Some("of b")), ("/db-wal", Some("of b"))]);
    let git = two.a.spot("/.git").seen.members().to_vec();
    let conflicts = render::conflicts(&two.a.live, &two.a.names, &git).expect("all rows are there");
    assert_eq!(conflicts.len(), 1, "but it is listed");
    assert_eq!((conflicts[0].natural.clone(), conflicts[0].shown.clone()), (name("index"), None));
    two.a.remove("/db-wal");
    two.shows(&[("/.git", None), ("/.git/index", Some("of b"))]);
}

#[test]
fn edit_against_delete_keeps_the_edit() {
    for deletes_later in [false, true] {
        let mut two = Two::with(&[("/d", None), ("/d/f", Some("old"))]);
        let (deletes, edits) = if deletes_later { (&mut two.b, &mut two.a) } else { (&mut two.a, &mut two.b) };
        deletes.remove("/d/f");
        edits.write("/d/f", "new");
        two.exchange();
        two.shows(&[("/d", None), ("/d/f", Some("new"))]);
    }
}

#[test]
fn a_removed_directory_comes_back_with_what_was_changed_in_it() {
    let mut two =
        Two::with(&[("/d", None), ("/d/e", None), ("/d/e/f", Some("old")), ("/d/g", Some("old")), ("/d/h", None)]);
    two.a.remove_all("/d");
    two.b.write("/d/e/f", "new");
    two.exchange();
    two.shows(&[("/d", None), ("/d/e", None), ("/d/e/f", Some("new"))]);
    // Whoever acts inside takes the directories back.
    two.b.remove("/d/e/f");
    two.exchange();
    two.shows(&[("/d", None), ("/d/e", None)]);
}

#[test]
fn what_is_made_in_a_revived_directory_keeps_it() {
    let mut two = Two::with(&[("/d", None), ("/d/f", Some("old"))]);
    two.a.remove_all("/d");
    two.b.write("/d/f", "new");
    two.exchange();
    two.a.make("/d/g", Some("more"));
    two.b.remove("/d/f");
    two.exchange();
    two.shows(&[("/d", None), ("/d/g", Some("more"))]);
    two.a.remove("/d/g");
    two.exchange();
    two.shows(&[("/d", None)]);
}

#[test]
fn rename_and_edit_both_apply() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.a.rename("/f", "/g");
    two.b.write("/f", "new");
    two.exchange();
    two.shows(&[("/g", Some("new"))]);
}

#[test]
fn rename_against_rename_is_one_file_under_the_later_name() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.a.rename("/f", "/of a");
    two.b.rename("/f", "/of b");
    two.exchange();
    two.shows(&[("/of b", Some("old"))]);
}

#[test]
fn two_files_at_one_name_are_one_if_equal_else_the_later_keeps_it() {
    let mut two = Two::with(&[]);
    two.a.make("/same", Some("x"));
    two.b.make("/same", Some("x"));
    two.a.make("/f", Some("of a"));
    two.b.make("/f", Some("of b"));
    two.exchange();
    two.shows(&[("/f", Some("of b")), (COPY_OF_F, Some("of a")), ("/same", Some("x"))]);
    two.a.remove("/f");
    two.a.remove("/same");
    two.exchange();
    two.shows(&[(COPY_OF_F, Some("of a"))]);
}

#[test]
fn two_directories_at_one_name_are_shown_as_one() {
    let mut two = Two::with(&[]);
    for (device, own) in [(&mut two.a, "/d/a"), (&mut two.b, "/d/b")] {
        device.make("/d", None);
        device.make("/d/e", None);
        device.make(own, Some("x"));
        device.make("/d/e/f", Some(own));
    }
    two.exchange();
    two.shows(&[
        ("/d", None),
        ("/d/a", Some("x")),
        ("/d/b", Some("x")),
        ("/d/e", None),
        ("/d/e/f", Some("/d/b")),
        ("/d/e/f (conflict from D1 2026-11-22 14.30)", Some("/d/a")),
    ]);
    assert_eq!(two.a.spot("/d").seen.members().len(), 2);
    two.a.rename("/d", "/moved");
    two.exchange();
    assert_eq!(two.b.spot("/moved/e").seen.members().len(), 2, "both halves move");
    two.b.remove_all("/moved");
    two.exchange();
    two.shows(&[]);
}

#[test]
fn a_directory_keeps_its_name_against_a_file() {
    let mut two = Two::with(&[]);
    two.a.make("/x", None);
    two.b.make("/x", Some("file"));
    two.exchange();
    two.shows(&[("/x", None), ("/x (conflict from D2 2026-11-22 14.31)", Some("file"))]);
}

#[test]
fn an_own_file_that_lost_its_name_before_sealing_keeps_the_name_it_was_shown_under() {
    let mut two = Two::with(&[]);
    two.a.make("/x", None);
    two.b.make("/x", Some("file"));
    let from_a = two.a.seal(MILLIS).expect("a made something");
    two.b.learn(&from_a);
    let shown = two.b.paths();
    assert!(shown.contains_key("/x (conflict from D2 unsynced)"));
    let from_b = two.b.seal(MILLIS).expect("b made something");
    assert_eq!(two.b.paths(), shown);
    two.a.learn(&from_b);
    assert_eq!(two.a.paths(), shown);
}

#[test]
fn move_against_delete_is_deleted_unless_edited() {
    let mut two = Two::with(&[("/f", Some("old")), ("/g", Some("old too"))]);
    two.a.remove("/f");
    two.a.remove("/g");
    two.b.rename("/f", "/f2");
    two.b.rename("/g", "/g2");
    two.b.write("/g2", "new");
    two.exchange();
    two.shows(&[("/g2", Some("new"))]);
}

#[test]
fn moves_that_close_a_cycle_put_the_latest_back() {
    let mut two = Two::with(&[("/a", None), ("/b", None), ("/a/f", Some("x")), ("/b/g", Some("y"))]);
    two.a.rename("/a", "/b/a");
    two.b.rename("/b", "/a/b");
    two.exchange();
    two.shows(&[("/b", None), ("/b/a", None), ("/b/a/f", Some("x")), ("/b/g", Some("y"))]);
    // Any further move writes down what is shown.
    two.a.rename("/b/a", "/a");
    two.exchange();
    two.shows(&[("/a", None), ("/a/f", Some("x")), ("/b", None), ("/b/g", Some("y"))]);
}

#[test]
fn a_child_moved_into_a_deleted_directory_brings_it_back() {
    let mut two = Two::with(&[("/d", None), ("/f", Some("x"))]);
    two.a.remove("/d");
    two.b.rename("/f", "/d/f");
    two.exchange();
    two.shows(&[("/d", None), ("/d/f", Some("x"))]);
}

#[test]
fn a_link_survives_the_removal_of_another_name_but_not_of_all_that_were_known() {
    let mut two = Two::with(&[("/f", Some("x")), ("/g", Some("y"))]);
    two.a.link("/f", "/f2");
    two.exchange();
    two.a.remove("/f");
    two.b.write("/f2", "new");
    two.a.remove("/g");
    two.b.link("/g", "/g2");
    two.exchange();
    two.shows(&[("/f2", Some("new"))]);
}

#[test]
fn attributes_merge_without_a_copy() {
    let mut two = Two::with(&[("/f", Some("x"))]);
    for (device, mode) in [(&mut two.a, 0o600), (&mut two.b, 0o644)] {
        let spot = device.spot("/f");
        device.edit(|e| e.set_attributes(&spot.seen, &spot.parent, attributes(mode))).expect("it is there");
    }
    two.exchange();
    two.shows(&[("/f", Some("x"))]);
    assert_eq!(two.a.spot("/f").seen.attributes().mode, 0o644);
}

#[test]
fn atomic_saves_on_two_devices_are_edits_of_one_file() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    let id = two.a.spot("/f").seen.id;
    two.a.make("/f.tmp", Some("of a"));
    two.a.rename("/f.tmp", "/f");
    two.b.rename("/f", "/f~");
    two.b.make("/f", Some("of b"));
    two.b.remove("/f~");
    for device in [&mut two.a, &mut two.b] {
        let committed = ouro_core::tree::MapRows(device.committed.0.clone());
        let kept = device.edit(|e| e.keep_identities(&committed, &|_| true)).expect("all rows are there");
        assert_eq!(kept.iter().map(|s| s.old).collect::<Vec<_>>(), [id]);
        assert_eq!(device.spot("/f").seen.id, id);
        assert_eq!(device.pending.files.len(), 1);
        device.check();
    }
    two.exchange();
    two.shows(&[("/f", Some("of b")), (COPY_OF_F, Some("of a"))]);
}

#[test]
fn an_atomic_save_meets_an_edit_that_was_learnt_before_sealing() {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.b.make("/f.tmp", Some("of b"));
    two.b.rename("/f.tmp", "/f");
    two.a.write("/f", "of a");
    let from_a = two.a.seal(MILLIS).expect("a wrote");
    two.b.learn(&from_a);
    let committed = ouro_core::tree::MapRows(two.b.committed.0.clone());
    two.b.edit(|e| e.keep_identities(&committed, &|_| true)).expect("all rows are there");
    two.b.check();
    two.exchange();
    two.shows(&[("/f", Some("of b")), (COPY_OF_F, Some("of a"))]);
}

#[test]
fn what_is_created_and_removed_in_one_generation_leaves_nothing() {
    let mut device = Device::new(1);
    device.make("/d", None);
    device.make("/d/e", None);
    device.make("/d/e/f", Some("x"));
    device.link("/d/e/f", "/g");
    device.remove("/g");
    device.remove_all("/d");
    assert!(device.pending.files.is_empty() && device.live.0.is_empty());
}

#[test]
fn many_entries_born_in_a_commit_are_what_single_ones_would_be() {
    let (mut single, mut many) = (Device::new(1), Device::new(1));
    for device in [&mut single, &mut many] {
        device.make("/old", None);
        device.make("/old/taken", Some("before"));
        device.seal(MILLIS);
    }
    let old = many.spot("/old").seen.members().to_vec();
    let birth = |cradle: Cradle, text: &str, kind: Kind| {
        let content = (kind == Kind::File).then(|| bytes(text));
        Birth { cradle, name: name(text), kind, attributes: attributes(0o600), content }
    };
    let births = [
        birth(Cradle::At(old.clone()), "a", Kind::File),
        birth(Cradle::At(old.clone()), "taken", Kind::File),
        birth(Cradle::At(old.clone()), "d", Kind::Directory),
        birth(Cradle::Born(2), "e", Kind::Directory),
        birth(Cradle::Born(3), "f", Kind::File),
        birth(Cradle::Born(3), "g", Kind::File),
        birth(Cradle::Born(3), "f", Kind::File),
        birth(Cradle::Born(1), "in what was not made", Kind::File),
        birth(Cradle::At(old), "z", Kind::File),
    ];
    let (made, _) = many.bear(&births);
    many.check();
    let expected = [
        None,
        Some(EditError::Exists),
        None,
        None,
        None,
        None,
        Some(EditError::Exists),
        Some(EditError::NotFound),
        None,
    ];
    assert_eq!(made.iter().map(|made| made.err()).collect::<Vec<_>>(), expected);
    for (path, text) in
        [("/old/a", "a"), ("/old/d", ""), ("/old/d/e", ""), ("/old/d/e/f", "f"), ("/old/d/e/g", "g"), ("/old/z", "z")]
    {
        single.make(path, Some(text).filter(|text| !text.is_empty()));
    }
    single.seal(MILLIS);
    assert_eq!(many.paths(), single.paths());
    assert_eq!(many.live, single.live, "the same rows");
}

#[test]
fn what_is_born_under_a_name_that_is_pending_or_in_a_directory_that_goes_is_lost_to_nobody() {
    let mut two = Two::with(&[("/d", None), ("/d/old", Some("old"))]);
    let birth = |cradle: Vec<FileId>, text: &str| Birth {
        cradle: Cradle::At(cradle),
        name: name(text),
        kind: Kind::File,
        attributes: attributes(0o600),
        content: Some(bytes("born")),
    };
    let d = two.a.spot("/d").seen.members().to_vec();
    let (made, commit) = two.a.bear_beside(&[birth(vec![FileId::ROOT], "f"), birth(d, "g")], |a| {
        a.make("/f", Some("pending"));
        a.remove_all("/d");
    });
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    two.a.check();
    two.b.learn(&commit);
    two.b.check();
    two.exchange();
    let contents: Vec<_> = two.b.paths().into_iter().filter_map(|(path, content)| Some((path, content?))).collect();
    let is = |path: &str, text: &str| contents.iter().any(|(p, c)| p.starts_with(path) && *c == bytes(text));
    assert!(is("/f", "pending") && is("/f (conflict", "born") && is("/d/g", "born"), "{contents:?}");
    assert_eq!(contents.len(), 3, "{contents:?}");
}

#[test]
fn nothing_is_born_in_a_directory_that_is_only_shown_until_it_is_revived() {
    let mut two = Two::with(&[("/d", None), ("/d/f", Some("old"))]);
    two.a.remove_all("/d");
    two.b.write("/d/f", "new");
    two.exchange();
    let d = two.a.spot("/d").seen.members().to_vec();
    let births = [Birth {
        cradle: Cradle::At(d.clone()),
        name: name("g"),
        kind: Kind::File,
        attributes: attributes(0o600),
        content: Some(bytes("born")),
    }];
    assert_eq!(two.a.bear(&births).0, [Err(EditError::NotFound)]);
    two.a.edit(|e| e.revive(&d)).expect("it is shown");
    two.exchange();
    assert!(two.a.bear(&births).0[0].is_ok());
    two.a.check();
    two.a.remove("/d/f");
    assert_eq!(two.a.spot("/d/g").seen.content(), Some(&bytes("born")));
    let gone = two.a.edit(|e| e.revive(&[FileId(77)]));
    assert_eq!(gone, Err(EditError::NotFound));
}

#[test]
fn operations_refuse_what_posix_forbids() {
    let mut device = Device::new(1);
    device.make("/d", None);
    device.make("/d/e", None);
    device.make("/f", Some("x"));
    assert_eq!(device.try_rename("/d", "/d/e/d"), Err(EditError::Loop));
    assert_eq!(device.try_rename("/d/e", "/d"), Err(EditError::NotEmpty));
    let (d, root) = (device.spot("/d"), [FileId::ROOT]);
    let removed = device.edit(|e| Ok(((), e.remove(&d.seen, &root)?)));
    assert_eq!(removed, Err(EditError::NotEmpty));
    let kind = ouro_core::state::Kind::File;
    let made = device.edit(|e| e.create(&root, &name("f"), kind, attributes(0o600), None));
    assert_eq!(made, Err(EditError::Exists));
    let linked = device.edit(|e| e.link(&d.seen, &root, &root, &name("l")));
    assert_eq!(linked, Err(EditError::IsDirectory));
    device.remove("/d/e");
    let gone = device.edit(|e| e.create(d.seen.members(), &name("x"), kind, attributes(0o600), None));
    assert!(gone.is_ok());
}
