//! Ending conflicts, on two devices: afterwards both show the same, and nothing of it comes back.

use crate::device::Device;
use crate::oracle::name;
use crate::table::{COPY_OF_F, MILLIS, Two};
use ouro_core::edit::{EditError, Keep};
use ouro_core::id::FileId;
use ouro_core::render;

const ROOT: [FileId; 1] = [FileId::ROOT];

fn resolve(device: &mut Device, parent: &[FileId], natural: &str, keep: Keep) -> Result<(), EditError> {
    let natural = name(natural);
    device.edit(|e| Ok(((), e.resolve(parent, &natural, keep)?)))
}

/// `/f` was edited on both: that of the second device is later and keeps the name.
fn edited_on_both() -> Two {
    let mut two = Two::with(&[("/f", Some("old"))]);
    two.a.write("/f", "of a");
    two.b.write("/f", "of b");
    two.exchange();
    two.shows(&[("/f", Some("of b")), (COPY_OF_F, Some("of a"))]);
    two
}

#[test]
fn the_content_that_is_kept_stands_alone_under_the_name_and_id_of_the_file() {
    for keep_copy in [false, true] {
        let mut two = edited_on_both();
        let id = two.a.spot("/f").seen.id;
        let kept = if keep_copy { two.a.spot(COPY_OF_F).seen.id } else { id };
        resolve(&mut two.a, &ROOT, "f", Keep::Only(kept)).expect("there is a conflict");
        two.exchange();
        two.shows(&[("/f", Some(if keep_copy { "of a" } else { "of b" }))]);
        assert_eq!(two.b.spot("/f").seen.id, id);
        assert_eq!(two.b.spot("/f").seen.file().contents.len(), 1, "nothing is left to rendering");
    }
}

#[test]
fn both_kept_are_two_files_that_are_no_conflict_any_more() {
    let mut two = edited_on_both();
    resolve(&mut two.b, &ROOT, "f", Keep::All).expect("there is a conflict");
    two.exchange();
    two.shows(&[("/f", Some("of b")), (COPY_OF_F, Some("of a"))]);
    assert!(!two.a.spot(COPY_OF_F).seen.id.is_derived(), "a file like any other");
    let left = render::suspects(&two.a.live).expect("all rows are there");
    assert_eq!(left, render::Suspects::default());
    resolve(&mut two.a, &ROOT, "f", Keep::All).expect("nothing is left to do");
    assert!(two.a.pending.files.is_empty());
}

#[test]
fn of_two_files_at_one_name_the_one_that_is_kept_gets_it() {
    for keep_first in [false, true] {
        let mut two = Two::with(&[]);
        let of_a = two.a.make("/f", Some("of a"));
        let of_b = two.b.make("/f", Some("of b"));
        two.exchange();
        resolve(&mut two.a, &ROOT, "f", Keep::Only(if keep_first { of_a } else { of_b })).expect("both are there");
        two.exchange();
        two.shows(&[("/f", Some(if keep_first { "of a" } else { "of b" }))]);
        assert_eq!(two.b.spot("/f").seen.id, if keep_first { of_a } else { of_b });
    }
}

/// As [`Two::exchange`], without holding what is shown against the definition, which knows no names that are kept free of copies.
fn swap(two: &mut Two) {
    let (from_a, from_b) = (two.a.seal(MILLIS), two.b.seal(MILLIS + 60_000));
    from_a.iter().for_each(|commit| two.b.learn(commit));
    from_b.iter().for_each(|commit| two.a.learn(commit));
}

#[test]
fn inside_git_one_side_is_kept_and_both_are_refused() {
    let mut two = Two::with(&[("/.git", None), ("/.git/index", Some("old"))]);
    two.a.write("/.git/index", "of a");
    two.b.write("/.git/index", "of b");
    swap(&mut two);
    let git = two.a.spot("/.git").seen.members().to_vec();
    let contest = render::contest(&two.a.live, &two.a.names, &git, &name("index")).expect("all rows are there");
    let contest = contest.expect("there is a conflict");
    assert_eq!((contest.losers.len(), contest.losers[0].shown.clone()), (1, None));
    assert_eq!(resolve(&mut two.a, &git, "index", Keep::All), Err(EditError::Invalid));
    assert!(two.a.pending.files.is_empty());
    resolve(&mut two.a, &git, "index", Keep::Only(contest.losers[0].id)).expect("there is a conflict");
    swap(&mut two);
    two.shows(&[("/.git", None), ("/.git/index", Some("of a"))]);
    assert_eq!(two.a.paths(), two.b.paths());
}

#[test]
fn a_directory_and_a_file_at_one_name() {
    let mut two = Two::with(&[]);
    let directory = two.a.make("/x", None);
    let file = two.b.make("/x", Some("file"));
    two.exchange();
    assert_eq!(resolve(&mut two.a, &ROOT, "x", Keep::Only(file)), Err(EditError::IsDirectory));
    resolve(&mut two.a, &ROOT, "x", Keep::Only(directory)).expect("both are there");
    two.exchange();
    two.shows(&[("/x", None)]);
}

#[test]
fn two_devices_that_resolve_alike_or_not_agree_afterwards() {
    for (of_a, of_b) in [(false, false), (false, true), (true, true)] {
        let mut two = edited_on_both();
        let ids = [two.a.spot("/f").seen.id, two.a.spot(COPY_OF_F).seen.id];
        resolve(&mut two.a, &ROOT, "f", Keep::Only(ids[usize::from(of_a)])).expect("there is a conflict");
        resolve(&mut two.b, &ROOT, "f", Keep::Only(ids[usize::from(of_b)])).expect("there is a conflict");
        two.exchange();
        assert!(two.a.paths().contains_key("/f"));
    }
}

#[test]
fn what_is_suspected_is_where_the_conflicts_are() {
    let mut two = edited_on_both();
    two.a.make("/d", None);
    two.b.make("/d", None);
    two.a.make("/d/g", Some("of a"));
    two.b.make("/d/g", Some("of b"));
    let (from_a, from_b) = (two.a.seal(MILLIS), two.b.seal(MILLIS + 120_000));
    two.b.learn(&from_a.expect("a made something"));
    two.a.learn(&from_b.expect("b made something"));
    let found = render::suspects(&two.a.live).expect("all rows are there");
    assert_eq!(found.names.iter().map(|(d, n)| (*d, n.clone())).collect::<Vec<_>>(), [(FileId::ROOT, name("f"))]);
    assert_eq!(found.unions.len(), 2);
    let union = two.a.spot("/d").seen.members().to_vec();
    assert!(union.iter().all(|member| found.unions.contains(member)));
    assert_eq!(render::conflicts(&two.a.live, &two.a.names, &union).expect("all rows are there").len(), 1);
    // A touch writes the copy down: it is recognised by its id.
    two.a.remove("/f");
    two.exchange();
    let copies = render::suspects(&two.a.live).expect("all rows are there").copies;
    assert_eq!(copies.len(), 1);
    assert_eq!(render::copied_from(&copies[0].1).map(|(natural, ..)| natural), Some(name("f")));
}
