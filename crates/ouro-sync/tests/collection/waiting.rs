//! What waits in the trash because it is open, or was written and is not published: until it is buried, and if it comes back.

use crate::device::{Device, TRASH, World, leaf, make_directory, noise, rename, seen};
use crate::purging::hidden;
use crate::trash::{all_see, files, link, meet};
use ouro_core::id::FileId;
use std::collections::BTreeSet;

/// Simulator seed 1700968: what was thrown away stayed whole until it was closed, and the copy that became a file with that did not.
#[test]
fn a_copy_that_becomes_a_file_is_seen_once_though_what_it_was_a_copy_of_waits_in_the_trash() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", b"of the beginning");
    ada.push();
    bob.pull();
    ada.write("f", b"by ada");
    ada.push();
    bob.write("f", b"by bob");
    bob.push();
    bob.pull();
    ada.pull();
    let before = bob.files();
    assert_eq!(before.len(), 2);
    let open = seen(&ada, &["f"]).unwrap();
    ada.ask(|v| v.open(open.id));
    ada.throw_away("f");
    ada.push();
    bob.pull();
    assert_eq!(bob.files(), before, "it is where it was");
    let copy = before.keys().find(|name| name.contains("conflict")).unwrap();
    rename(&bob, (FileId::ROOT, &[copy]), (FileId::ROOT, "kept"));
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    ada.ask(|v| v.close(open.id));
    meet(&[&ada, &bob]);
    all_see(&[&ada, &bob, &world.join()], &[("kept", &before[copy])]);
    assert!(seen(&ada, &[TRASH, "f"]).is_some_and(|seen| seen.id != open.id));
}

/// It could not be made anew before it was published, and was not published before it was made anew (simulator seed 1701967). Of a new file the
/// trash itself was published.
#[test]
fn what_was_written_to_a_file_is_published_though_one_of_its_names_lies_in_the_trash() {
    for is_new in [false, true] {
        for (thrown, stays) in [("f", "g"), ("g", "f")] {
            let mut world = World::new();
            let (ada, mut bob) = (world.join(), world.join());
            bob.write("f", b"of the beginning");
            if !is_new {
                meet(&[&bob, &ada]);
            }
            let file = seen(&bob, &["f"]).unwrap();
            bob.ask(|v| v.edit(|e| e.link(&file, &[FileId::ROOT], &[FileId::ROOT], &leaf("g"))));
            if !is_new {
                bob.push();
            }
            bob.patch("g", 0, b"by");
            bob.throw_away(thrown);
            for restarts in [false, true] {
                bob.push();
                assert_eq!(bob.ask(|v| v.audit()).wrong, []);
                if restarts {
                    bob.restart();
                }
            }
            all_see(&[&ada, &bob, &world.join()], &[(stays, b"by the beginning")]);
            let made = seen(&bob, &[TRASH, thrown]).unwrap();
            assert!(made.id != file.id && made.links() == 1);
            bob.bring_back(thrown);
            meet(&[&bob, &ada]);
            all_see(&[&ada, &bob, &world.join()], &[("f", b"by the beginning"), ("g", b"by the beginning")]);
        }
    }
}

/// The trash was published with it: the file had got back the id of the one that it replaced, which did not wait (Whole seed 1866356).
#[test]
fn a_name_in_the_trash_of_a_file_that_was_saved_anew_stays_here() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    meet(&[&ada, &bob]);
    bob.write("new", &noise(2, 3_000));
    let (new, old) = (seen(&bob, &["new"]).unwrap(), seen(&bob, &["f"]).unwrap());
    bob.ask(|v| v.edit(|e| e.rename(&new, &[FileId::ROOT], &[FileId::ROOT], &leaf("f"), Some(&old))));
    link(&bob, "f", FileId::ROOT, "g");
    bob.throw_away("g");
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &noise(2, 3_000))]);
    assert!(seen(&ada, &[TRASH]).is_none() && seen(&bob, &[TRASH, "g"]).is_some_and(|seen| seen.links() == 1));
}

/// As above, where the name that it was saved under lies in a directory that waits: the file was nobody else's yet when its other name was made
/// this device's own, and got back the known id afterwards (Whole seed 1895603).
#[test]
fn a_name_in_the_trash_of_what_was_saved_anew_in_a_directory_that_waits_stays_here() {
    for thrown in [["d", "e"], ["e", "d"]] {
        let mut world = World::new();
        let (ada, mut bob) = (world.join(), world.join());
        let [d, e] = thrown.map(|name| make_directory(&ada, name));
        let (d, e) = if thrown[0] == "d" { (d, e) } else { (e, d) };
        for name in ["f", "open"] {
            ada.write(name, &noise(1, 3_000));
            rename(&ada, (FileId::ROOT, &[name]), (d, name));
        }
        meet(&[&ada, &bob]);
        let (open, old) = (seen(&bob, &["d", "open"]).unwrap().id, seen(&bob, &["d", "f"]).unwrap());
        bob.ask(|v| v.open(open));
        bob.write("new", &noise(2, 3_000));
        link(&bob, "new", e, "g");
        let new = seen(&bob, &["new"]).unwrap();
        bob.ask(|v| v.edit(|edit| edit.rename(&new, &[FileId::ROOT], &[d], &leaf("f"), Some(&old))));
        for name in thrown {
            bob.throw_away(name);
        }
        let saved = |device: &Device, path: &[&str]| {
            let (id, content) = seen(device, path).map(|seen| (seen.id, seen.content().unwrap().clone())).unwrap();
            device.ask(|volume| volume.read(id, &content, 0, 3_000)) == noise(2, 3_000)
        };
        for _ in 0..2 {
            meet(&[&bob, &ada]);
            assert_eq!(bob.ask(|v| v.audit()).wrong, []);
            assert!(seen(&ada, &[TRASH]).is_none() && seen(&ada, &["e"]).is_none());
            assert!(saved(&ada, &["d", "f"]) && saved(&bob, &[TRASH, "d", "f"]) && saved(&bob, &[TRASH, "e", "g"]));
            bob.restart();
            bob.ask(|v| v.open(open));
        }
        bob.ask(|v| v.close(open));
        meet(&[&bob, &ada]);
        all_see(&[&ada, &bob, &world.join()], &[]);
        assert!(saved(&bob, &[TRASH, "d", "f"]) && saved(&bob, &[TRASH, "e", "g"]));
    }
}

/// It went along into the trash of who had thrown the file away, and was gone for everybody else.
#[test]
fn an_edit_of_what_waits_in_the_trash_of_another_device_brings_it_back() {
    for (is_open, is_written, has_names) in
        [(true, false, false), (true, false, true), (false, true, false), (false, true, true), (true, true, false)]
    {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("f", &noise(1, 3_000));
        meet(&[&ada, &bob]);
        let file = seen(&bob, &["f"]).unwrap();
        if has_names {
            bob.ask(|v| v.edit(|e| e.link(&file, &[FileId::ROOT], &[FileId::ROOT], &leaf("g"))));
            meet(&[&bob, &ada]);
        }
        if is_open {
            bob.ask(|v| v.open(file.id));
        }
        if is_written {
            bob.patch("f", 0, b"by bob");
        }
        bob.throw_away("f");
        ada.write("f", &noise(2, 3_000));
        ada.push();
        bob.pull();
        assert_eq!(bob.ask(|v| v.audit()).wrong, []);
        assert!(seen(&bob, &[TRASH, "f"]).is_none());
        if is_open {
            bob.ask(|v| v.close(file.id));
        }
        meet(&[&bob, &ada]);
        let mut contents = BTreeSet::from([noise(2, 3_000)]);
        if is_written {
            contents.insert([b"by bob", &noise(1, 3_000)[6..]].concat());
        }
        for device in [&ada, &bob, &world.join()] {
            device.pull();
            let files = files(device);
            assert!(files.contains_key("f") && files.contains_key("g") == has_names);
            assert!(files.into_values().collect::<BTreeSet<_>>() == contents);
        }
    }
}

/// Where each of two deletes one of the names of a file, it stays. It was gone for all, with what was written to it since (Whole seed 1891064).
#[test]
fn who_takes_the_last_other_name_of_what_waits_in_the_trash_brings_it_back() {
    for (in_directory, is_written) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("g", &noise(1, 3_000));
        let directory = make_directory(&ada, "d");
        link(&ada, "g", if in_directory { directory } else { FileId::ROOT }, "f");
        meet(&[&ada, &bob]);
        let file = seen(&bob, &["g"]).unwrap().id;
        bob.ask(|volume| volume.open(file));
        bob.throw_away(if in_directory { "d" } else { "f" });
        bob.push();
        if is_written {
            bob.write("g", &noise(2, 3_000));
        }
        ada.remove("g");
        ada.push();
        bob.pull();
        assert_eq!(bob.ask(|volume| volume.audit()).wrong, []);
        bob.ask(|volume| volume.close(file));
        meet(&[&bob, &ada]);
        let content = if is_written { noise(2, 3_000) } else { noise(1, 3_000) };
        for device in [&ada, &bob, &world.join()] {
            device.pull();
            let path: &[&str] = if in_directory { &["d", "f"] } else { &["f"] };
            assert!(seen(device, path).is_some_and(|seen| seen.id == file));
            assert!(in_directory || files(device)["f"] == content);
        }
    }
}

/// The name that waited stood in two places, here in the trash, so not all were there: the file was gone for all, with what was written to it
/// under the name that was taken (Collecting seed 1827896).
#[test]
fn who_takes_the_last_other_name_of_what_waits_in_the_trash_brings_it_back_to_where_it_was_moved() {
    for (in_two_commits, is_written) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("f", &noise(1, 3_000));
        link(&ada, "f", FileId::ROOT, "g");
        meet(&[&ada, &bob]);
        let file = seen(&bob, &["g"]).unwrap().id;
        bob.ask(|volume| volume.open(file));
        bob.throw_away("f");
        if is_written {
            bob.write("g", &noise(2, 3_000));
        }
        rename(&ada, (FileId::ROOT, &["f"]), (FileId::ROOT, "h"));
        if in_two_commits {
            ada.push();
            bob.pull();
            assert!(seen(&bob, &[TRASH, "f"]).is_some(), "it has a name elsewhere");
        }
        ada.remove("g");
        ada.push();
        bob.pull();
        assert_eq!(bob.ask(|volume| volume.audit()).wrong, []);
        bob.ask(|volume| volume.close(file));
        meet(&[&bob, &ada]);
        let content = noise(if is_written { 2 } else { 1 }, 3_000);
        all_see(&[&ada, &bob, &world.join()], &[("h", &content)]);
    }
}

/// It came back into the directory, and went for all when that was buried, with what was written to it (Whole seed 1966404).
#[test]
fn what_comes_back_brings_back_the_directory_that_was_thrown_away_after_it() {
    for is_written in [false, true] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("g", &noise(1, 3_000));
        let directory = make_directory(&ada, "d");
        link(&ada, "g", directory, "f");
        meet(&[&ada, &bob]);
        let file = seen(&bob, &["g"]).unwrap().id;
        bob.ask(|volume| volume.open(file));
        let trash = make_directory(&bob, TRASH);
        rename(&bob, (directory, &["d", "f"]), (trash, "f"));
        if is_written {
            bob.write("g", &noise(2, 2_000));
        }
        bob.write("open", b"open");
        rename(&bob, (FileId::ROOT, &["open"]), (directory, "open"));
        bob.push();
        let open = seen(&bob, &["d", "open"]).unwrap().id;
        bob.ask(|volume| volume.open(open));
        bob.throw_away("d");
        bob.push();
        ada.remove("g");
        ada.push();
        bob.pull();
        assert_eq!(bob.ask(|volume| volume.audit()).wrong, []);
        [file, open].iter().for_each(|file| bob.ask(|volume| volume.close(*file)));
        meet(&[&bob, &ada]);
        for device in [&ada, &bob, &world.join()] {
            device.pull();
            let size =
                seen(device, &["d", "f"]).filter(|seen| seen.id == file).and_then(|seen| Some(seen.content()?.size()));
            assert_eq!(size, Some(if is_written { 2_000 } else { 3_000 }));
        }
    }
}

/// As above, of a directory: what others put into it was gone for them.
#[test]
fn a_directory_that_comes_back_brings_back_the_one_that_was_thrown_away_after_it() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let (outer, inner) = (make_directory(&ada, "d"), make_directory(&ada, "e"));
    rename(&ada, (FileId::ROOT, &["e"]), (outer, "e"));
    for (name, directory) in [("f", inner), ("g", outer), ("h", FileId::ROOT)] {
        ada.write(name, &noise(1, 3_000));
        rename(&ada, (FileId::ROOT, &[name]), (directory, name));
    }
    meet(&[&ada, &bob]);
    let open = [seen(&bob, &["d", "e", "f"]).unwrap().id, seen(&bob, &["d", "g"]).unwrap().id];
    open.iter().for_each(|file| bob.ask(|volume| volume.open(*file)));
    let trash = make_directory(&bob, TRASH);
    rename(&bob, (outer, &["d", "e"]), (trash, "e"));
    bob.throw_away("d");
    rename(&ada, (FileId::ROOT, &["h"]), (inner, "h"));
    ada.push();
    bob.pull();
    assert_eq!(bob.ask(|volume| volume.audit()).wrong, []);
    open.iter().for_each(|file| bob.ask(|volume| volume.close(*file)));
    meet(&[&bob, &ada]);
    for device in [&ada, &bob, &world.join()] {
        device.pull();
        assert!(["f", "h"].iter().all(|name| seen(device, &["d", "e", name]).is_some()));
    }
}

/// Who moves a file has not edited it: it goes, however often it is moved.
#[test]
fn what_waits_in_the_trash_goes_though_others_move_it() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    meet(&[&ada, &bob]);
    let file = seen(&bob, &["f"]).unwrap().id;
    bob.ask(|volume| volume.open(file));
    bob.throw_away("f");
    for (from, to) in [("f", "g"), ("g", "h")] {
        rename(&ada, (FileId::ROOT, &[from]), (FileId::ROOT, to));
        ada.push();
        bob.pull();
        assert!(seen(&bob, &[TRASH, "f"]).is_some());
    }
    bob.ask(|volume| volume.close(file));
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[]);
    assert!(seen(&bob, &[TRASH, "f"]).is_some_and(|seen| seen.id != file));
}

/// There was nothing to put back any more, so it stayed, and went along (Collecting seed 1748356).
#[test]
fn an_edit_of_what_waits_in_the_trash_brings_it_back_also_if_it_was_removed_in_between() {
    let mut world = World::new();
    let (ada, bob, carol) = (world.join(), world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    meet(&[&ada, &bob, &carol]);
    let file = seen(&bob, &["f"]).unwrap();
    bob.patch("f", 0, b"by bob");
    bob.ask(|v| v.open(file.id));
    bob.throw_away("f");
    ada.remove("f");
    ada.push();
    meet(&[&bob, &ada]);
    ada.write("f", &noise(2, 3_000));
    ada.push();
    bob.pull();
    assert!(seen(&bob, &[TRASH, "f"]).is_none());
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    bob.ask(|v| v.close(file.id));
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &carol, &world.join()], &[("f", &noise(2, 3_000))]);
}

/// It was in the trash only, where the other name was (Whole seed 1866793).
#[test]
fn what_was_written_under_one_name_stays_though_another_is_in_the_trash_and_others_removed_both() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    bob.write("f", &noise(1, 3_000));
    link(&bob, "f", FileId::ROOT, "g");
    meet(&[&bob, &ada]);
    bob.patch("f", 0, b"by bob");
    bob.throw_away("g");
    ada.remove("f");
    ada.remove("g");
    ada.push();
    bob.pull();
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("f", &[b"by bob", &noise(1, 3_000)[6..]].concat())]);
}

/// Its first name was in an ignored place, so it stayed, and the directory waited for it (Whole seed 1872263).
#[test]
fn a_new_file_is_published_though_one_of_its_names_is_in_a_directory_in_the_trash() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let directory = make_directory(&ada, "d");
    meet(&[&ada, &bob]);
    bob.write("f", &noise(1, 3_000));
    link(&bob, "f", FileId::ROOT, "g");
    rename(&bob, (FileId::ROOT, &["f"]), (directory, "f"));
    bob.throw_away("d");
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("g", &noise(1, 3_000))]);
    assert!(seen(&bob, &[TRASH, "d", "f"]).is_some_and(|seen| seen.links() == 1));
}

/// As above, in a directory, and the others removed one name only (Collecting seed 1762127).
#[test]
fn what_was_written_under_a_name_that_others_removed_stays_though_another_is_in_a_directory_in_the_trash() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let directory = make_directory(&ada, "d");
    ada.write("f", &noise(1, 3_000));
    link(&ada, "f", directory, "g");
    meet(&[&ada, &bob]);
    bob.patch("f", 0, b"by bob");
    bob.throw_away("d");
    ada.remove("f");
    ada.push();
    bob.pull();
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    meet(&[&bob, &ada]);
    let written = [b"by bob", &noise(1, 3_000)[6..]].concat();
    for device in [&ada, &bob, &world.join()] {
        device.pull();
        assert!(seen(device, &["d", "g"]).is_some() || files(device).values().any(|content| *content == written));
    }
}

/// Simulator seed 1865372: a file with several names stands at none of them, so its change did not say where it had been, and what others had
/// written meanwhile went with it.
#[test]
fn an_edit_of_what_waits_in_the_trash_brings_it_back_although_its_other_name_was_removed() {
    for is_sealed in [false, true] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        ada.write("f", &noise(1, 3_000));
        meet(&[&ada, &bob]);
        let file = seen(&bob, &["f"]).unwrap().id;
        link(&bob, "f", FileId::ROOT, "g");
        if is_sealed {
            bob.ask(|volume| volume.seal());
        } else {
            meet(&[&bob, &ada]);
        }
        bob.ask(|volume| volume.open(file));
        bob.throw_away("f");
        bob.remove("g");
        if !is_sealed {
            meet(&[&bob, &ada]);
        }
        ada.write("f", &noise(2, 3_000));
        ada.push();
        bob.pull();
        assert_eq!(bob.ask(|volume| volume.audit()).wrong, []);
        assert!(seen(&bob, &[TRASH, "f"]).is_none());
        bob.ask(|volume| volume.close(file));
        meet(&[&bob, &ada]);
        all_see(&[&ada, &bob, &world.join()], &[("f", &noise(2, 3_000))]);
    }
}

/// Nothing stood any more where it had been thrown away.
#[test]
fn an_edit_of_what_waits_in_the_trash_brings_it_back_to_where_it_was_moved_meanwhile() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    meet(&[&ada, &bob]);
    let file = seen(&bob, &["f"]).unwrap().id;
    bob.ask(|volume| volume.open(file));
    bob.throw_away("f");
    rename(&ada, (FileId::ROOT, &["f"]), (FileId::ROOT, "g"));
    meet(&[&ada, &bob]);
    ada.write("g", &noise(2, 3_000));
    ada.push();
    bob.pull();
    assert_eq!(bob.ask(|volume| volume.audit()).wrong, []);
    assert!(seen(&bob, &[TRASH, "f"]).is_none());
    assert_eq!(bob.volume().pending_files().files.len(), 1, "the trash");
    bob.ask(|volume| volume.close(file));
    meet(&[&bob, &ada]);
    all_see(&[&ada, &bob, &world.join()], &[("g", &noise(2, 3_000))]);
}

#[test]
fn a_directory_that_waits_in_the_trash_comes_back_with_what_another_device_puts_into_it() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let directory = make_directory(&ada, "d");
    for name in ["f", "g"] {
        ada.write(name, &noise(1, 3_000));
    }
    rename(&ada, (FileId::ROOT, &["f"]), (directory, "f"));
    meet(&[&ada, &bob]);
    let open = seen(&bob, &["d", "f"]).unwrap();
    bob.ask(|v| v.open(open.id));
    bob.throw_away("d");
    rename(&ada, (FileId::ROOT, &["g"]), (directory, "g"));
    ada.push();
    bob.pull();
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    bob.ask(|v| v.close(open.id));
    meet(&[&bob, &ada]);
    for device in [&ada, &bob, &world.join()] {
        device.pull();
        assert!(["f", "g"].iter().all(|name| seen(device, &["d", name]).is_some()));
    }
    assert!(seen(&bob, &[TRASH, "d"]).is_none());
}

/// Simulator seed 1865116: it went along into the trash of who had moved the file into that directory, and was gone for everybody else.
#[test]
fn an_edit_under_its_old_name_of_what_is_in_a_directory_that_waits_in_the_trash_brings_that_back() {
    for is_below in [false, true] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        let directory = make_directory(&ada, "d");
        for name in ["f", "g"] {
            ada.write(name, &noise(1, 3_000));
        }
        meet(&[&ada, &bob]);
        let (mut parent, mut path) = (directory, &["d", "g"][..]);
        if is_below {
            (parent, path) = (make_directory(&bob, "e"), &["d", "e", "g"]);
            rename(&bob, (FileId::ROOT, &["e"]), (directory, "e"));
        }
        rename(&bob, (FileId::ROOT, &["f"]), (directory, "f"));
        rename(&bob, (FileId::ROOT, &["g"]), (parent, "g"));
        bob.push();
        let open = seen(&bob, &["d", "f"]).unwrap();
        bob.ask(|v| v.open(open.id));
        bob.throw_away("d");
        ada.write("g", &noise(2, 2_000));
        ada.push();
        bob.pull();
        assert_eq!(bob.ask(|v| v.audit()).wrong, []);
        bob.ask(|v| v.close(open.id));
        meet(&[&bob, &ada]);
        for device in [&ada, &bob, &world.join()] {
            device.pull();
            let edited = seen(device, path).and_then(|seen| Some(seen.content()?.size()));
            assert_eq!(edited, Some(2_000));
        }
    }
}

/// As above: nothing was left to put it back to, and what others had put into it was gone for them.
#[test]
fn what_is_put_into_a_directory_that_waits_in_the_trash_and_was_removed_brings_it_back() {
    let mut world = World::new();
    let (ada, bob, carol) = (world.join(), world.join(), world.join());
    let directory = make_directory(&ada, "d");
    for name in ["f", "g"] {
        ada.write(name, &noise(1, 3_000));
    }
    meet(&[&ada, &bob, &carol]);
    link(&bob, "f", directory, "f");
    let open = seen(&bob, &["d", "f"]).unwrap();
    bob.ask(|v| v.open(open.id));
    bob.throw_away("d");
    ada.remove("d");
    ada.push();
    bob.pull();
    rename(&carol, (FileId::ROOT, &["g"]), (directory, "g"));
    carol.push();
    bob.pull();
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    assert!(seen(&bob, &["d", "g"]).is_some());
    bob.ask(|v| v.close(open.id));
    meet(&[&bob, &ada, &carol]);
    for device in [&ada, &bob, &carol, &world.join()] {
        device.pull();
        assert!(seen(device, &["d", "g"]).is_some());
    }
}

/// Simulator seed 1865154: it was made anew alone, and when the directory came back it was a new file for others, who had moved or removed it.
#[test]
fn what_is_in_a_directory_that_waits_in_the_trash_comes_back_with_it_as_what_it_was() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let directory = make_directory(&ada, "d");
    for name in ["f", "g", "h"] {
        ada.write(name, &noise(1, 3_000));
    }
    rename(&ada, (FileId::ROOT, &["f"]), (directory, "f"));
    meet(&[&ada, &bob]);
    rename(&bob, (FileId::ROOT, &["g"]), (directory, "g"));
    let (open, moved) = (seen(&bob, &["d", "f"]).unwrap(), seen(&bob, &["d", "g"]).unwrap());
    bob.ask(|v| v.open(open.id));
    bob.throw_away("d");
    meet(&[&bob, &ada]);
    assert!(seen(&ada, &["d", "f"]).is_some() && seen(&ada, &["d", "g"]).is_some());
    rename(&ada, (FileId::ROOT, &["h"]), (directory, "h"));
    ada.push();
    bob.pull();
    bob.ask(|v| v.close(open.id));
    meet(&[&bob, &ada]);
    for device in [&ada, &bob, &world.join()] {
        device.pull();
        assert_eq!(seen(device, &["d", "g"]).map(|seen| seen.id), Some(moved.id));
        assert!(["f", "h"].iter().all(|name| seen(device, &["d", name]).is_some()));
    }
}

/// As above: it was seen no more when all that was in it had gone, stayed where it lay, and others heard of that place: the trash was theirs, too.
#[test]
fn a_directory_that_others_remove_while_it_waits_in_the_trash_ends_there() {
    for is_union in [false, true] {
        let mut world = World::new();
        let (ada, bob, carol) = (world.join(), world.join(), world.join());
        let directory = make_directory(&ada, "d");
        meet(&[&ada, &bob]);
        if is_union {
            make_directory(&carol, "d");
            carol.push();
        }
        bob.write("f", &noise(1, 3_000));
        link(&bob, "f", directory, "f");
        meet(&[&bob]);
        let open = seen(&bob, &["d", "f"]).unwrap();
        bob.ask(|v| v.open(open.id));
        bob.throw_away("d");
        ada.remove("d");
        ada.push();
        bob.pull();
        bob.push();
        bob.ask(|v| v.close(open.id));
        meet(&[&bob, &ada, &carol]);
        for device in [&ada, &carol, &world.join()] {
            device.pull();
            assert!(seen(device, &[TRASH]).is_none() && seen(device, &["d"]).is_none());
        }
        assert!(seen(&bob, &[TRASH, "d", "f"]).is_some());
    }
}

/// As above, but the file was moved there. Who has it open reads on.
#[test]
fn what_others_remove_that_is_open_in_the_trash_can_be_read_until_it_is_closed() {
    let mut world = World::new();
    let (ada, mut bob, carol) = (world.join(), world.join(), world.join());
    ada.write("f", &noise(1, 3_000));
    meet(&[&ada, &bob, &carol]);
    let file = seen(&bob, &["f"]).unwrap().id;
    bob.ask(|volume| volume.open(file));
    bob.throw_away("f");
    ada.remove("f");
    ada.push();
    bob.pull();
    bob.push();
    assert_eq!(bob.volume().orphan(file).map(|orphan| orphan.size), Some(3_000));
    bob.ask(|volume| volume.close(file));
    bob.push();
    for _ in 0..2 {
        assert_eq!((hidden(&bob), bob.volume().pending_files().files.len()), (0, 1));
        bob.restart();
    }
    carol.write("f", &noise(2, 3_000));
    meet(&[&carol, &bob, &ada]);
    all_see(&[&ada, &bob, &carol, &world.join()], &[("f", &noise(2, 3_000))]);
}

/// Nobody else ever heard of the file, so its bytes are not published before its directory is buried, and that waited for them for ever.
#[test]
fn a_directory_goes_though_a_new_file_in_it_has_another_name_in_the_trash() {
    for is_thrown_first in [true, false] {
        let mut world = World::new();
        let (ada, mut bob) = (world.join(), world.join());
        let directory = make_directory(&bob, "d");
        meet(&[&bob, &ada]);
        bob.write("f", &noise(1, 3_000));
        link(&bob, "f", directory, "g");
        link(&bob, "f", directory, "h");
        let thrown = if is_thrown_first { ["f", "d"] } else { ["d", "f"] };
        for name in thrown {
            bob.throw_away(name);
        }
        meet(&[&bob, &ada]);
        for device in [&ada, &bob, &world.join()] {
            device.pull();
            assert!(seen(device, &["d"]).is_none());
        }
        for _ in 0..2 {
            let names = [seen(&bob, &[TRASH, "f"]), seen(&bob, &[TRASH, "d", "g"]), seen(&bob, &[TRASH, "d", "h"])];
            let names = names.map(Option::unwrap);
            assert!(names.iter().all(|name| name.id == names[0].id && name.links() == 3), "names of one file");
            let (id, content) = (names[1].id, names[1].content().unwrap().clone());
            assert!(bob.ask(|volume| volume.read(id, &content, 0, 3_000)) == noise(1, 3_000));
            bob.restart();
        }
    }
}

/// What others would have heard of it under that name was not sealed, and what stayed was the name in the trash alone.
#[test]
fn a_new_file_with_an_ignored_name_stays_whole_though_another_name_is_in_the_trash() {
    let mut world = World::new();
    let (ada, mut bob) = (world.join(), world.join());
    bob.write("a.part", &noise(1, 3_000));
    link(&bob, "a.part", FileId::ROOT, "g");
    bob.throw_away("g");
    bob.write("other", b"other");
    for _ in 0..2 {
        meet(&[&bob, &ada]);
        assert_eq!(bob.ask(|v| v.audit()).wrong, []);
        assert!(files(&bob)["a.part"] == noise(1, 3_000));
        bob.restart();
    }
    assert!(seen(&bob, &[TRASH, "g"]).is_some());
    all_see(&[&ada, &world.join()], &[("other", b"other")]);
}

/// It waited until that file was published, which its other name never is.
#[test]
fn a_directory_goes_though_a_new_file_in_it_has_an_ignored_name_elsewhere() {
    let mut world = World::new();
    let (ada, bob) = (world.join(), world.join());
    let directory = make_directory(&ada, "d");
    meet(&[&ada, &bob]);
    bob.write("a.part", &noise(1, 3_000));
    link(&bob, "a.part", directory, "b.part");
    bob.throw_away("d");
    meet(&[&bob, &ada]);
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    assert!(seen(&ada, &["d"]).is_none());
    assert!(seen(&bob, &[TRASH, "d", "b.part"]).is_some_and(|seen| seen.links() == 2));
}

/// The row of what stayed was written among those of the next seal, and after a restart the trash was published with it.
#[test]
fn what_waits_in_the_trash_stays_though_the_bytes_that_were_sealed_of_it_are_lost() {
    let mut world = World::new();
    let (ada, mut bob) = (world.join(), world.join());
    bob.write("f", &noise(1, 3_000));
    link(&bob, "f", FileId::ROOT, "g");
    meet(&[&bob, &ada]);
    let file = seen(&bob, &["f"]).unwrap().id;
    bob.patch("g", 0, b"by bob");
    bob.ask(|v| v.open(file));
    bob.throw_away("f");
    assert!(bob.ask(|v| v.seal()).is_some_and(|sealed| sealed.files.iter().any(|sealed| sealed.id == file)));
    assert!(bob.ask(|v| v.leave_out(file)).is_some());
    bob.push();
    bob.write("other", b"other");
    bob.ask(|v| v.seal());
    bob.restart();
    meet(&[&bob, &ada]);
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
    all_see(&[&ada, &world.join()], &[("g", &noise(1, 3_000)), ("other", b"other")]);
}
