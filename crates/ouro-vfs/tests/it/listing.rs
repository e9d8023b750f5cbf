//! Listings while entries come and go.

use crate::support::{ROOT, WRITE, World, errno, made};
use ouro_core::content::Content;
use ouro_core::id::FileId;
use ouro_core::state::Kind;
use ouro_vfs::{Caller, Errno, Listed, NodeNo, RenameHow, VfsOptions};
use std::collections::BTreeMap;

fn fill(world: &World, count: u32) {
    for i in 0..count {
        world.vfs.mknod(&ROOT, NodeNo::ROOT, format!("{i:05}").as_bytes(), Kind::File, 0o644, 0).unwrap();
    }
}

fn count(seen: &[String]) -> BTreeMap<&str, usize> {
    let mut times = BTreeMap::new();
    for name in seen {
        *times.entry(name.as_str()).or_default() += 1;
    }
    times
}

#[test]
fn every_entry_that_stays_is_listed_exactly_once_while_others_come_and_go() {
    let world = World::new();
    fill(&world, 3000);
    let (mut seen, mut cookie, mut step) = (Vec::new(), 0, 0_u32);
    loop {
        let entries = world.vfs.readdir(&ROOT, NodeNo::ROOT, cookie, 70).unwrap().entries;
        // A door takes as many as fit into its buffer.
        let taken = entries.len().min(57);
        let Some(last) = entries[..taken].last() else { break };
        cookie = last.cookie;
        seen.extend(entries[..taken].iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
        for entry in &entries[taken..] {
            world.vfs.forget(entry.stat.node, 1);
        }
        // Remove what was given last, something before and something behind; add on both sides.
        let at = step * 57;
        for i in [at, at.saturating_sub(30), at + 200] {
            if i % 3 == 0 {
                let _may_be_gone = world.vfs.unlink(&ROOT, NodeNo::ROOT, format!("{i:05}").as_bytes());
            }
        }
        let name = String::from_utf8_lossy(&entries[taken - 1].name).into_owned();
        if name.parse::<u32>().is_ok_and(|i| i % 3 == 0) {
            world.vfs.unlink(&ROOT, NodeNo::ROOT, name.as_bytes()).unwrap();
        }
        for side in ["00000x", "99999x"] {
            let new = format!("{side}{step}");
            world.vfs.mknod(&ROOT, NodeNo::ROOT, new.as_bytes(), Kind::File, 0o644, 0).unwrap();
        }
        step += 1;
    }
    let times = count(&seen);
    for i in (0..3000).filter(|i| i % 3 != 0) {
        assert_eq!(times.get(format!("{i:05}").as_str()), Some(&1), "{i}");
    }
    assert!(times.values().all(|n| *n == 1), "nothing twice");
}

#[test]
fn a_position_is_good_for_another_reader() {
    let world = World::new();
    fill(&world, 500);
    let entries = world.vfs.readdir(&ROOT, NodeNo::ROOT, 0, 200).unwrap().entries;
    let (taken, cookie) = (120, entries[119].cookie);
    world.vfs.unlink(&ROOT, NodeNo::ROOT, &entries[119].name).unwrap();
    let mut seen: Vec<String> =
        entries[..taken].iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect();
    let mut at = cookie;
    loop {
        let more = world.vfs.readdir(&ROOT, NodeNo::ROOT, at, 99).unwrap().entries;
        let Some(last) = more.last() else { break };
        at = last.cookie;
        seen.extend(more.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
    }
    assert_eq!(seen.len(), 502);
    assert!(count(&seen).values().all(|n| *n == 1));
}

#[test]
fn entries_carry_attributes_and_count_as_lookups_but_for_the_dots() {
    let world = World::new();
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o750).unwrap();
    let file = world.write_file(directory.node, "f", b"123");
    world.vfs.forget(file.node, 1);
    world.vfs.forget(directory.node, 1);
    assert_eq!(world.vfs.nodes_known(), 0);
    let entries = world.vfs.readdir(&ROOT, NodeNo::ROOT, 0, 10).unwrap().entries;
    let shown: Vec<_> = entries.iter().map(|e| (&*e.name, e.stat.node, e.looked_up)).collect();
    let expected: [(&[u8], NodeNo, bool); 3] =
        [(b".", NodeNo::ROOT, false), (b"..", NodeNo::ROOT, false), (b"d", directory.node, true)];
    assert_eq!(shown, expected);
    assert_eq!(world.vfs.nodes_known(), 1);
    let entries = world.vfs.readdir(&ROOT, directory.node, 0, 10).unwrap().entries;
    assert_eq!((entries[0].stat.node, entries[1].stat.node), (directory.node, NodeNo::ROOT));
    assert_eq!((entries[2].stat.node, entries[2].stat.size), (file.node, 3));
    assert_eq!(world.vfs.readdir(&ROOT, directory.node, entries[2].cookie, 10).unwrap().entries, []);
    world.vfs.rename(&ROOT, directory.node, b"f", NodeNo::ROOT, b"f", RenameHow::Replace).unwrap();
    assert_eq!(world.vfs.getattr(file.node, None).unwrap().size, 3);
}

/// Five directories with three files each, for their owner alone, and a walk that has listed the first two: enough for the third to be
/// expected.
fn walked() -> (World, NodeNo) {
    let world = World::with(VfsOptions { check_permissions: true, ..VfsOptions::default() });
    let directories: Vec<NodeNo> = (0..5)
        .map(|i| {
            let node = world.vfs.mkdir(&ROOT, NodeNo::ROOT, format!("d{i}").as_bytes(), 0o700).unwrap().node;
            for file in 0..3 {
                world.write_file(node, &format!("{file}"), b"x");
            }
            node
        })
        .collect();
    for node in [NodeNo::ROOT, directories[0], directories[1]] {
        world.names(node);
    }
    (world, directories[2])
}

#[test]
fn what_a_walk_comes_to_next_is_ready_and_is_what_is_there_when_it_is_asked_for() {
    let changes: [fn(&World, NodeNo); 5] = [
        |_, _| {},
        |world, next| {
            world.write_file(next, "new", b"");
        },
        |world, next| world.vfs.unlink(&ROOT, next, b"1").unwrap(),
        |world, next| {
            let how = RenameHow::Replace;
            world.vfs.rename(&ROOT, next, b"1", NodeNo::ROOT, b"moved", how).unwrap();
        },
        |world, _| {
            let how = RenameHow::Replace;
            world.vfs.rename(&ROOT, NodeNo::ROOT, b"d2", NodeNo::ROOT, b"moved", how).unwrap();
        },
    ];
    let expected: [&[&str]; 5] =
        [&["0", "1", "2"], &["0", "1", "2", "new"], &["0", "2"], &["0", "2"], &["0", "1", "2"]];
    for (number, (change, expected)) in changes.into_iter().zip(expected).enumerate() {
        let (world, next) = walked();
        world.vfs.ready_next().unwrap();
        change(&world, next);
        let listed = world.vfs.readdir(&ROOT, next, 0, 1).unwrap();
        // What was made ready is given at once, however little is asked for.
        let is_ready = number == 0;
        assert_eq!((listed.entries.len(), listed.ends), if is_ready { (5, true) } else { (3, false) }, "{number}");
        assert_eq!(world.names(next), expected, "{number}");
    }
}

#[test]
fn a_listing_made_ready_is_not_for_who_may_not_read_it() {
    let (world, next) = walked();
    world.vfs.ready_next().unwrap();
    let somebody = Caller { uid: 10, gid: 20, pid: 100 };
    assert_eq!(errno(world.vfs.readdir(&somebody, next, 0, 1)), Errno::Access);
}

#[test]
fn what_comes_behind_the_end_of_a_listing_is_listed_by_who_stands_there() {
    let world = World::new();
    fill(&world, 3);
    let listed = world.vfs.readdir(&ROOT, NodeNo::ROOT, 0, 10).unwrap();
    let end = listed.entries.last().unwrap().cookie;
    assert!(listed.ends);
    for _ in 0..2 {
        assert_eq!(world.vfs.readdir(&ROOT, NodeNo::ROOT, end, 10).unwrap(), Listed { entries: vec![], ends: true });
    }
    world.write_file(NodeNo::ROOT, "later", b"");
    let more = world.vfs.readdir(&ROOT, NodeNo::ROOT, end, 10).unwrap().entries;
    assert_eq!(more.iter().map(|e| &*e.name).collect::<Vec<_>>(), [b"later"]);
}

#[test]
fn snapshots_are_listed_only_if_asked_for() {
    let hidden = World::new();
    assert_eq!(hidden.names(NodeNo::ROOT), Vec::<String>::new());
    let shown = World::with(VfsOptions { show_snapshots: true, ..VfsOptions::default() });
    shown.write_file(NodeNo::ROOT, "a", b"");
    assert_eq!(shown.names(NodeNo::ROOT), [".snapshots", "a"]);
}

#[test]
fn conflict_copies_are_listed_once_whatever_is_taken_of_a_page() {
    let world = World::new();
    world.volume.name_device(ouro_core::id::DeviceNo(9), "other".into());
    for i in 0..20_u32 {
        let name = format!("n{i:02}.txt");
        world.write_file(NodeNo::ROOT, &name, format!("mine {i}").as_bytes());
    }
    world.publish();
    let theirs = (0..20_u32)
        .map(|i| {
            made(16 + i, Kind::File, FileId::ROOT, &format!("n{i:02}.txt"), Some(Content::Inline(b"theirs"[..].into())))
        })
        .collect();
    world.learn(1, theirs);
    for step in [1, 3, 7, 64] {
        let (mut seen, mut cookie) = (Vec::new(), 0);
        loop {
            let entries = world.vfs.readdir(&ROOT, NodeNo::ROOT, cookie, step).unwrap().entries;
            // Fewer than were offered, so that listings go on inside of groups.
            let taken = entries.len().min(step);
            let Some(last) = entries[..taken].last() else { break };
            cookie = last.cookie;
            seen.extend(entries[..taken].iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
        }
        assert_eq!(seen.len(), 42, "{step}: {seen:?}");
        assert!(count(&seen).values().all(|n| *n == 1), "{step}: {seen:?}");
    }
    let copies = world.names(NodeNo::ROOT).into_iter().filter(|n| n.contains(" (conflict from ")).collect::<Vec<_>>();
    assert_eq!(copies.len(), 20);
    let copy = world.find(&copies[0]).unwrap();
    assert_eq!(world.vfs.getattr(copy.node, None).unwrap(), copy);
    let handle = world.vfs.open(&ROOT, copy.node, WRITE).unwrap();
    world.vfs.write(&ROOT, copy.node, handle, 0, b"edit").unwrap();
    world.vfs.release(copy.node, handle);
    assert_eq!(&world.read_file(copy.node)[..4], b"edit");
    world.vfs.unlink(&ROOT, NodeNo::ROOT, copies[1].as_bytes()).unwrap();
    assert_eq!(world.names(NodeNo::ROOT).len(), 39);
}
