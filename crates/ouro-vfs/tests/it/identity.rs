//! Files saved by way of a new one are the files they were.

use crate::support::{READ, ROOT, WRITE, World, copy_folder, errno, load, made, name};
use ouro_core::content::Content;
use ouro_core::id::{DeviceId, DeviceNo, FileId};
use ouro_core::state::Kind;
use ouro_local::volume::Identity;
use ouro_vfs::{Errno, Mounted, NodeNo, RenameHow, Vfs, VfsOptions};
use std::collections::BTreeSet;

/// More than fits into a row of the journal.
const LARGE: usize = 200_000;

fn replace(world: &World, from: &str, to: &str) {
    world.vfs.rename(&ROOT, NodeNo::ROOT, from.as_bytes(), NodeNo::ROOT, to.as_bytes(), RenameHow::Replace).unwrap();
}

/// As most programs save: a new file, renamed over the old one. The node it was born with.
fn save_over(world: &World, file: &str, bytes: &[u8]) -> NodeNo {
    let born = world.write_file(NodeNo::ROOT, ".saving", bytes).node;
    replace(world, ".saving", file);
    born
}

/// As vim saves: the old file moved aside, a new one written, the old one removed.
fn save_aside(world: &World, file: &str, bytes: &[u8]) -> NodeNo {
    let backup = format!("{file}~");
    replace(world, file, &backup);
    let born = world.write_file(NodeNo::ROOT, file, bytes).node;
    world.vfs.unlink(&ROOT, NodeNo::ROOT, backup.as_bytes()).unwrap();
    born
}

/// A world with a published file, and its node.
fn with_a_file() -> (World, NodeNo) {
    let world = World::new();
    let node = world.write_file(NodeNo::ROOT, "text", b"first").node;
    assert!(world.publish());
    world.told.take();
    (world, node)
}

fn dirty_files(world: &World) -> usize {
    world.volume.flush(true).unwrap();
    // Files go when something else does after that.
    world.write_file(NodeNo::ROOT, "passing", b"x");
    world.vfs.unlink(&ROOT, NodeNo::ROOT, b"passing").unwrap();
    std::fs::read_dir(world.folder.path().join("cache/dirty")).map_or(0, Iterator::count)
}

#[test]
fn a_saved_file_has_its_old_id_once_it_is_sealed_and_the_kernel_hears_of_it() {
    for save in [save_over, save_aside] {
        for bytes in [vec![7; 10], vec![8; LARGE]] {
            let (world, node) = with_a_file();
            let born = save(&world, "text", &bytes);
            assert_ne!(born, node);
            assert_eq!(world.node("text"), born);
            assert_eq!(world.told.take(), Vec::<String>::new());
            assert!(world.publish());
            let mut told = world.told.take();
            told.sort();
            let nodes = [node, born].map(|node| format!("node {}", node.0));
            assert_eq!(told, [&["entry 1 text".to_owned(), "node 1".to_owned()], &nodes[..]].concat());
            assert_eq!(world.node("text"), node);
            assert_eq!(world.read_file(node), bytes);
            assert_eq!(world.commits_of(FileId(node.0)), [1, 1], "history goes on");
            assert_eq!(world.volume.audit().unwrap().wrong, []);
            assert_eq!(dirty_files(&world), 0);
            let world = world.restart();
            assert_eq!(world.node("text"), node);
            assert_eq!(world.read_file(node), bytes);
        }
    }
}

#[test]
fn the_id_it_was_born_with_is_told_to_be_stale() {
    let (world, node) = with_a_file();
    let born = save_over(&world, "text", b"second");
    world.publish();
    assert_eq!(errno(world.vfs.open(&ROOT, born, READ)), Errno::Stale);
    assert_eq!(errno(world.vfs.getattr(born, None)), Errno::Stale);
    assert!(world.volume.open(FileId(born.0)).is_err());
    assert_eq!(world.read_file(node), b"second");
}

#[test]
fn several_saves_between_two_commits_are_one() {
    let (world, node) = with_a_file();
    for round in 0..3_u8 {
        save_over(&world, "text", &[round; 100]);
        save_aside(&world, "text", &[round; LARGE]);
    }
    world.publish();
    assert_eq!(world.node("text"), node);
    assert_eq!(world.read_file(node), [2; LARGE]);
    assert_eq!(world.commits_of(FileId(node.0)).len(), 2);
    assert_eq!(dirty_files(&world), 0);
}

#[test]
fn a_file_that_is_open_keeps_the_id_it_has() {
    for which in ["old", "new"] {
        let (world, node) = with_a_file();
        let early = (which == "old").then(|| world.vfs.open(&ROOT, node, READ).unwrap());
        let born = save_over(&world, "text", b"second");
        let late = (which == "new").then(|| world.vfs.open(&ROOT, born, WRITE).unwrap());
        world.publish();
        assert_eq!(world.node("text"), born, "{which}");
        if let Some(handle) = early {
            assert_eq!(world.vfs.read(&ROOT, node, handle, 0, 9).unwrap(), b"first");
            world.vfs.release(node, handle);
        }
        if let Some(handle) = late {
            world.vfs.write(&ROOT, born, handle, 6, b" and more").unwrap();
            assert_eq!(world.vfs.read(&ROOT, born, handle, 0, 99).unwrap(), b"second and more");
            world.vfs.release(born, handle);
        }
        world.publish();
        assert_eq!(world.node("text"), born);
        assert_eq!(world.volume.audit().unwrap().wrong, []);
    }
}

#[test]
fn what_is_written_on_top_of_a_save_that_is_on_its_way_is_kept() {
    for size in [50, LARGE] {
        let (world, node) = with_a_file();
        save_over(&world, "text", &vec![1; size]);
        world.volume.seal().unwrap().unwrap();
        let world = world.restart();
        assert_eq!(world.node("text"), node);
        let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
        world.vfs.write(&ROOT, node, handle, size as u64, b"more").unwrap();
        world.vfs.release(node, handle);
        let expected = [&vec![1; size][..], b"more"].concat();
        assert_eq!(world.read_file(node), expected);
        assert!(world.publish(), "the generation that was on its way");
        assert_eq!(world.read_file(node), expected);
        let world = world.restart();
        assert_eq!(world.read_file(node), expected);
        assert!(world.publish());
        assert_eq!(world.read_file(node), expected);
        assert_eq!(dirty_files(&world), 0);
    }
}

#[test]
fn a_saved_file_that_is_unlinked_while_it_is_open_is_read_until_it_is_closed() {
    let (world, node) = with_a_file();
    save_over(&world, "text", &[1; LARGE]);
    world.volume.seal().unwrap().unwrap();
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    world.vfs.unlink(&ROOT, NodeNo::ROOT, b"text").unwrap();
    world.vfs.write(&ROOT, node, handle, 0, b"late").unwrap();
    world.publish();
    let bytes = world.vfs.read(&ROOT, node, handle, 0, u32::MAX).unwrap();
    assert_eq!((&bytes[..4], bytes.len()), (&b"late"[..], LARGE));
    world.vfs.release(node, handle);
    world.publish();
    assert_eq!(world.names(NodeNo::ROOT), Vec::<String>::new());
    assert_eq!(dirty_files(&world), 0);
}

#[test]
fn a_process_that_dies_with_a_save_on_its_way_has_it() {
    for size in [50, LARGE] {
        let (world, node) = with_a_file();
        save_over(&world, "text", &vec![1; size]);
        world.volume.seal().unwrap().unwrap();
        world.volume.flush(true).unwrap();
        let copy = tempfile::TempDir::new().unwrap();
        copy_folder(world.folder.path(), copy.path());
        let volume = load(copy.path(), world.clock.clone());
        let boxes = vec![Mounted { name: name("box"), volume: volume.clone() }];
        let vfs = Vfs::new(boxes, world.remote.clone(), VfsOptions::default());
        let found = vfs.lookup(&ROOT, NodeNo::ROOT, b"text").unwrap().node;
        assert_eq!(found, node);
        let handle = vfs.open(&ROOT, node, READ).unwrap();
        assert_eq!(vfs.read(&ROOT, node, handle, 0, u32::MAX).unwrap(), vec![1; size]);
        assert_eq!(volume.audit().unwrap().wrong, []);
    }
}

#[test]
fn who_has_a_file_open_notices_nothing_when_the_box_goes_on_as_another_device() {
    for bytes in [3, LARGE] {
        let world = World::new();
        let vfs = &world.vfs;
        let directory = vfs.mkdir(&ROOT, NodeNo::ROOT, b"directory", 0o755).unwrap().node;
        let (stat, handle) = vfs.create(&ROOT, directory, b"open", 0o644, WRITE, false).unwrap();
        vfs.write(&ROOT, stat.node, handle, 0, &vec![b'1'; bytes]).unwrap();
        let identity = Identity { id: DeviceId([8; 16]), number: DeviceNo(8), name: "again".to_owned(), drawn_ms: 0 };
        world.volume.take_identity(&identity, &[], &BTreeSet::new()).unwrap();
        assert_eq!(world.volume.device(), DeviceNo(8));
        // A copy of the device gave the same ids to files of its own.
        let mut other = made(0, Kind::File, FileId::ROOT, "other", Some(Content::Inline((&b"another"[..]).into())));
        other.id = FileId(stat.node.0);
        world.learn(1, vec![other]);
        assert_eq!((world.node("directory"), world.node("directory/open")), (directory, stat.node));
        vfs.write(&ROOT, stat.node, handle, bytes as u64, b"2").unwrap();
        vfs.release(stat.node, handle);
        let written = [vec![b'1'; bytes], vec![b'2']].concat();
        assert_eq!(world.read_file(stat.node), written);
        let listed = vfs.readdir(&ROOT, directory, 0, 100).unwrap().entries;
        assert!(listed.iter().any(|entry| &*entry.name == b"open" && entry.stat.node == stat.node));
        let other = world.node("other");
        assert_ne!(other, stat.node);
        assert_eq!(world.read_file(other), b"another");
        vfs.unlink(&ROOT, NodeNo::ROOT, b"other").unwrap();
        assert_eq!(world.read_file(stat.node), written);
        let audit = world.volume.audit().unwrap();
        assert!(audit.wrong.is_empty(), "{:?}", audit.wrong);
        let world = world.restart();
        assert_eq!(world.volume.device(), DeviceNo(8), "it stays who it became");
        assert_eq!(world.names(NodeNo::ROOT), ["directory"]);
        let now = world.node("directory/open");
        assert_eq!(now.0 >> 32, 8, "from now on the ids are those of the new number");
        assert_eq!(world.read_file(now), written);
        assert!(world.publish());
        assert_eq!(world.read_file(now), written);
        assert_eq!(dirty_files(&world), 0);
    }
}
