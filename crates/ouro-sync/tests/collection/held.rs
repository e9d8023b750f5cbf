//! Purged directories that one device holds: what it takes with it when it begins anew, and when it lets go.

use crate::device::{DAY_MS, Device, NOTHING_KEPT, Objects, World, leaf, rename, seen};
use crate::purging::{put, with_directories, with_one_held_for_what_came_back};
use ouro_core::id::FileId;
use ouro_core::render;
use ouro_core::row::{Key, Row, Rows};
use ouro_core::state::Place;
use ouro_local::volume::Change;
use ouro_sync::Stage;
use std::sync::{Arc, Mutex};

fn known(device: &Device) -> u64 {
    device.volume().collected().map_or(0, |collected| collected.number)
}

/// Collects until no collection is under way, and once more.
fn collect_twice(device: &Device) {
    for _ in 0..2 {
        while device.collect(NOTHING_KEPT).stage != Stage::Ended {}
    }
}

/// Two devices that know the directory `d0` and the file `g` in it.
fn with_a_file(world: &mut World) -> (Device, Device, Vec<FileId>) {
    let (ada, bob, made) = with_directories(world, 1);
    put(&ada, made[0], "g");
    ada.push();
    bob.pull();
    (ada, bob, made)
}

#[test]
fn who_has_no_node_of_the_old_tree_any_more_begins_anew_all_the_same() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    for n in 0..3_000 {
        put(&ada, FileId::ROOT, &format!("a file of the box {n}"));
    }
    ada.push();
    bob.pull();
    put(&bob, made[0], "x.part");
    ada.remove("d0");
    ada.push();
    ada.checkpoint();
    bob.pull();
    let checkpoint = ada.volume().checkpoint().unwrap();
    bob.ask(|v| v.adopt(&checkpoint));
    world.pass(90 * DAY_MS);
    for n in 0..3_000 {
        ada.write(&format!("a file of the box {n}"), b"new");
    }
    ada.push();
    ada.checkpoint();
    collect_twice(&ada);
    // Index nodes are a cache, and the remote has none of these any more.
    bob.empty_cache();
    bob.look();
    assert_eq!(known(&bob), known(&ada));
    bob.push();
    assert!(seen(&bob, &["d0", "x.part"]).is_some() && seen(&bob, &["Recovered"]).is_none());
    assert_eq!(bob.ask(|v| v.audit()).wrong, []);
}

#[test]
fn what_came_back_in_a_purged_directory_stays_where_it_is_on_who_begins_anew_on_the_next_checkpoint() {
    let mut world = World::new();
    let (ada, bob, made) = with_a_file(&mut world);
    let carol = world.join();
    carol.pull();
    let g = seen(&carol, &["d0", "g"]).unwrap();
    let place = Place { parent: made[0], name: leaf("g") };
    carol.ask(|v| v.write(g.id, &place, 0, b"written by carol"));
    rename(&bob, (made[0], &["d0", "g"]), (FileId::ROOT, "g"));
    bob.push();
    ada.pull();
    ada.remove("d0");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    bob.look();
    bob.remove("g");
    carol.look();
    ada.pull();
    let before = world.listed("log/");
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1));
    let (noted, number) = (known(&bob), known(&ada));
    while known(&ada) == number {
        ada.collect(NOTHING_KEPT);
    }
    let mut purging = world.listed("log/");
    purging.retain(|name, _| !before.contains_key(name));
    world.replace(&purging, &Objects::new());
    bob.look();
    assert!(known(&bob) > noted);
    world.replace(&Objects::new(), &purging);
    bob.look();
    assert!(seen(&bob, &["d0", "g"]).is_some() && seen(&bob, &["Recovered"]).is_none());
    bob.push();
    for device in [&ada, &carol, &world.join()] {
        device.pull();
        assert!(seen(device, &["d0", "g"]).is_some() && seen(device, &["Recovered"]).is_none());
        assert_eq!(device.volume().audit().unwrap().wrong, []);
    }
}

#[test]
fn others_hear_of_every_name_that_is_another_when_a_held_directory_goes() {
    let (_world, [ada, bob, _], _) = with_one_held_for_what_came_back();
    ada.write("d0", b"a file");
    ada.push();
    bob.pull();
    let derived = bob.ask(|v| {
        let view = v.view();
        let shown = render::conflicts(&view, &view, &[FileId::ROOT])?;
        Ok(shown.into_iter().find_map(|seen| seen.shown))
    });
    let derived = derived.expect("a directory keeps the name");
    let heard: Arc<Mutex<Vec<Change>>> = Arc::default();
    let hearing = Arc::clone(&heard);
    let g = seen(&bob, &["d0", "g"]).unwrap();
    let d0 = seen(&bob, &["d0"]).unwrap();
    bob.ask(|v| v.edit(|e| Ok(((), e.remove(&g, d0.members())?))));
    bob.volume().on_change(Box::new(move |change| hearing.lock().unwrap().push(change.clone())));
    bob.push();
    assert_eq!(bob.files().get("d0").map(Vec::as_slice), Some(&b"a file"[..]));
    let heard = heard.lock().unwrap();
    let bindings: Vec<_> = heard.iter().flat_map(|change| &change.bindings).collect();
    for name in [leaf("d0"), derived] {
        assert!(bindings.contains(&&(FileId::ROOT, name.clone())), "{}", name.display());
    }
}

#[test]
fn of_a_held_directory_that_was_removed_once_more_nothing_is_published() {
    let mut world = World::new();
    let (ada, bob, made) = with_a_file(&mut world);
    let (carol, dave) = (world.join(), world.join());
    carol.pull();
    let g = seen(&carol, &["d0", "g"]).unwrap();
    let place = Place { parent: made[0], name: leaf("g") };
    carol.ask(|v| v.write(g.id, &place, 0, b"written by carol"));
    rename(&bob, (made[0], &["d0", "g"]), (FileId::ROOT, "g"));
    bob.push();
    ada.pull();
    dave.pull();
    // Dave is given up before anybody hears of it.
    dave.remove("d0");
    ada.remove("d0");
    ada.push();
    assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
    world.pass(90 * DAY_MS);
    bob.look();
    bob.remove("g");
    carol.look();
    ada.pull();
    let ended = ada.collect(NOTHING_KEPT);
    assert_eq!((ended.stage, ended.purged), (Stage::Ended, 1));
    bob.pull();
    assert!(seen(&bob, &["d0", "g"]).is_some());
    dave.look();
    dave.push();
    bob.pull();
    assert!(seen(&bob, &["d0", "g"]).is_some());
    ada.pull();
    ada.remove("g");
    ada.push();
    bob.pull();
    assert!(seen(&bob, &["d0"]).is_none());
    bob.push();
    assert_eq!(bob.volume().counts().pending, 0);
    ada.pull();
    for device in [&ada, &bob] {
        let row = device.ask(|v| Ok(v.view().get(&Key::homeless(made[0]))?));
        let Some(Row::Record(record)) = row else { panic!("it is removed, and not purged") };
        assert_eq!((record.placements.len(), record.attributes.len()), (1, 0), "{record:?}");
        assert_eq!(device.volume().audit().unwrap().wrong, []);
    }
}

#[test]
fn a_held_directory_in_recovered_in_which_its_device_removed_what_was_ignored_is_nobody_elses() {
    let mut world = World::new();
    let (ada, bob, made) = with_directories(&mut world, 1);
    rename(&ada, (FileId::ROOT, &["d0"]), (FileId::RECOVERED, "d0"));
    ada.push();
    bob.pull();
    put(&bob, made[0], "x.part");
    bob.push();
    let gone = seen(&ada, &["Recovered", "d0"]).unwrap();
    ada.ask(|v| v.edit(|e| Ok(((), e.remove(&gone, &[FileId::RECOVERED])?))));
    ada.push();
    ada.collect(NOTHING_KEPT);
    bob.look();
    assert_eq!(ada.collect(NOTHING_KEPT).purged, 1);
    bob.pull();
    let file = seen(&bob, &["Recovered", "d0", "x.part"]).unwrap();
    bob.ask(|v| v.edit(|e| Ok(((), e.remove(&file, &[made[0]])?))));
    let before = world.names("log/");
    bob.push();
    assert_eq!(world.names("log/"), before, "nobody hears of it");
    assert!(seen(&bob, &["Recovered"]).is_none());
}
