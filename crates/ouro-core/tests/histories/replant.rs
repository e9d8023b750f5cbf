//! Making things anew where they stand: names, contents and links stay, ids do not, and for others the old ones are removed.

use crate::device::Device;
use crate::table::{MILLIS, Two};
use ouro_core::edit::Replanted;
use ouro_core::id::FileId;
use ouro_core::state::{Kind, Place};

fn replant(device: &mut Device, path: &str) -> Option<Vec<Replanted>> {
    let spot = device.spot(path);
    device.edit(|e| e.replant(&spot.seen, &spot.parent, &|_| true, &|_| false)).expect("it stands there")
}

#[test]
fn a_tree_made_anew_has_the_same_names_contents_and_links_under_new_ids() {
    let mut two = Two::with(&[("/d", None), ("/d/e", None), ("/d/e/f", Some("f")), ("/d/g", Some("g"))]);
    two.a.link("/d/g", "/d/e/h");
    two.a.make("/d/young", Some("never committed"));
    let (paths, before) = (two.a.paths(), two.a.spots());
    let replanted = replant(&mut two.a, "/d").expect("nothing speaks against it");
    two.a.check();
    assert_eq!(two.a.paths(), paths);
    let after = two.a.spots();
    for (path, spot) in before.iter().filter(|(path, _)| !path.is_empty()) {
        let now = &after[path];
        assert_ne!(now.seen.id, spot.seen.id, "{path}");
        let said = replanted.iter().find(|r| r.from == spot.seen.id).expect("it was said");
        assert_eq!((said.to, said.shared), (now.seen.id, false), "{path}");
    }
    assert_eq!(after["/d/g"].seen.id, after["/d/e/h"].seen.id);
    assert_eq!(after["/d/g"].seen.links(), 2);
    two.exchange();
    assert_eq!(two.b.paths(), paths);
}

#[test]
fn what_others_write_meanwhile_into_the_old_file_comes_back_under_its_old_name() {
    let mut two = Two::with(&[("/d", None), ("/f", Some("old"))]);
    two.a.rename("/f", "/d/f");
    replant(&mut two.a, "/d/f").expect("nothing speaks against it");
    two.b.write("/f", "new");
    two.exchange();
    two.shows(&[("/d", None), ("/d/f", Some("old")), ("/f", Some("new"))]);
}

#[test]
fn a_file_with_a_name_elsewhere_keeps_its_id_there() {
    let mut two = Two::with(&[("/d", None), ("/f", Some("f"))]);
    two.a.link("/f", "/d/f");
    let id = two.a.spot("/f").seen.id;
    let replanted = replant(&mut two.a, "/d").expect("nothing speaks against it");
    assert!(replanted.iter().any(|r| r.from == id && r.shared));
    two.a.check();
    assert_eq!(two.a.spot("/f").seen.id, id);
    assert_eq!(two.a.spot("/f").seen.links(), 1);
    assert_ne!(two.a.spot("/d/f").seen.id, id);
    two.exchange();
    two.shows(&[("/d", None), ("/d/f", Some("f")), ("/f", Some("f"))]);
}

#[test]
fn nothing_is_made_anew_if_one_file_may_not() {
    let mut two = Two::with(&[("/d", None), ("/d/f", Some("f"))]);
    let (spot, held) = (two.a.spot("/d"), two.a.spot("/d/f").seen.id);
    let outcome = two
        .a
        .edit(|e| e.replant(&spot.seen, &spot.parent, &|seen| seen.id != held, &|_| false))
        .expect("it stands there");
    assert_eq!(outcome, None);
    assert!(two.a.pending.files.is_empty());
}

#[test]
fn a_name_is_taken_back_if_it_shows_nothing_and_nobody_else_knows_it() {
    let mut two = Two::with(&[("/d", None), ("/f", Some("f")), ("/known", Some("known"))]);
    let (f, known, parent) = (two.a.spot("/f").seen.id, two.a.spot("/known").seen.id, two.a.spot("/d").seen.id);
    let take_back = |device: &mut Device, file: FileId, name: &str| {
        let place = Place { parent, name: crate::oracle::name(name) };
        device.edit(|e| e.take_back(file, Kind::File, &place)).expect("all rows are there")
    };
    for name in ["/d/one", "/d/other"] {
        two.a.link("/f", name);
    }
    two.a.link("/known", "/d/sealed");
    assert!(!take_back(&mut two.a, f, "one"), "it is seen");
    two.b.remove("/f");
    two.b.remove("/known");
    let by_b = two.b.seal(MILLIS + 60_000).expect("something is pending");
    two.a.learn(&by_b);
    assert_eq!(two.a.paths().len(), 2, "the root and the directory");
    assert!(!take_back(&mut two.a, f, "none"));
    assert!(take_back(&mut two.a, f, "one"));
    two.a.check();
    assert!(two.a.pending.files[&f].placements.iter().all(|p| p.place.name == crate::oracle::name("other")));
    assert!(take_back(&mut two.a, f, "other"));
    assert!(!take_back(&mut two.a, f, "other"), "once");
    two.a.check();
    assert!(!two.a.pending.files.contains_key(&f));
    two.exchange();
    assert!(!take_back(&mut two.a, known, "sealed"), "others know it");
}
