//! Programs that go on writing to a file while its name goes elsewhere.

use crate::support::{READ, ROOT, WRITE, World, made, name};
use ouro_core::delta::{AddedPlacement, FileDelta, Register};
use ouro_core::id::{DeviceNo, FileId, Version};
use ouro_core::state::{Kind, Place};
use ouro_vfs::{NodeNo, RenameHow};
use std::collections::BTreeSet;

fn place(parent: FileId, text: &str) -> Place {
    Place { parent, name: name(text) }
}

/// The version of this device's newest commit.
fn newest(world: &World) -> Version {
    let head = world.volume.heads()[&DeviceNo(7)];
    Version { hlc: head.hlc, device: DeviceNo(7), seq: head.seq }
}

/// What is committed of a file in the root.
fn committed(world: &World, file: &str) -> Vec<u8> {
    world.publish();
    let node = world.node(file);
    assert!(!world.volume.is_pending(FileId(node.0)), "all of it is committed");
    world.read_file(node)
}

#[test]
fn bytes_written_to_where_the_file_stood_a_moment_ago_are_sealed() {
    let world = World::new();
    let node = world.write_file(NodeNo::ROOT, "before", b"").node;
    let (file, stood) = (FileId(node.0), place(FileId::ROOT, "before"));
    world.volume.open(file).unwrap();
    world.volume.write(file, &stood, 0, b"0123456789").unwrap();
    world.vfs.rename(&ROOT, NodeNo::ROOT, b"before", NodeNo::ROOT, b"after", RenameHow::Replace).unwrap();
    // The writer had looked for the file before it was moved.
    world.volume.write(file, &stood, 10, b"abcdefghij").unwrap();
    world.volume.close(file).unwrap();
    assert_eq!(committed(&world, "after"), b"0123456789abcdefghij");
}

#[test]
fn bytes_written_while_another_device_moves_the_file_are_sealed() {
    let world = World::new();
    let node = world.write_file(NodeNo::ROOT, "before", b"x").node;
    world.publish();
    let (file, stood) = (FileId(node.0), place(FileId::ROOT, "before"));
    world.volume.open(file).unwrap();
    world.volume.write(file, &stood, 0, b"0123456789").unwrap();
    let mut moved = FileDelta::new(file, Kind::File, Some(stood.clone()));
    moved.replaced.push((Register::Placement { slot: 0 }, newest(&world)));
    let after = place(FileId::ROOT, "after");
    moved.placements.push(AddedPlacement { slot: 0, place: after, was: None, by_rule: false, removed: false });
    world.learn(1, vec![moved]);
    world.volume.write(file, &stood, 10, b"abcdefghij").unwrap();
    world.volume.close(file).unwrap();
    assert_eq!(committed(&world, "after"), b"0123456789abcdefghij");
}

#[test]
fn bytes_written_to_a_file_that_is_out_of_sight_are_sealed() {
    let world = World::new();
    let git = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b".git", 0o755).unwrap().node;
    let node = world.write_file(git, "index", b"").node;
    let (file, stood) = (FileId(node.0), place(FileId(git.0), "index"));
    world.volume.open(file).unwrap();
    world.volume.write(file, &stood, 0, b"0123456789").unwrap();
    // A directory keeps the name, and nothing inside of `.git` is shown under another one.
    world.learn(1, vec![made(16, Kind::Directory, FileId(git.0), "index", None)]);
    world.volume.write(file, &stood, 10, b"abcdefghij").unwrap();
    world.volume.close(file).unwrap();
    let sealed = world.volume.seal().unwrap().unwrap();
    let delta = sealed.files.iter().find(|delta| delta.id == file).unwrap();
    let content = delta.content.as_ref().and_then(|c| c.value.clone()).unwrap();
    assert_eq!(content.size(), 20);
    let mut bytes = vec![0; 20];
    world.volume.read_layer(file, &content, 0, &mut bytes, &BTreeSet::new()).unwrap();
    assert_eq!(bytes, b"0123456789abcdefghij");
    assert_eq!(world.volume.audit().unwrap().wrong, []);
}

#[test]
fn a_reader_of_a_moved_file_sees_what_its_writer_wrote() {
    let world = World::new();
    let node = world.write_file(NodeNo::ROOT, "before", b"x").node;
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    world.vfs.write(&ROOT, node, handle, 0, b"0123").unwrap();
    world.vfs.rename(&ROOT, NodeNo::ROOT, b"before", NodeNo::ROOT, b"after", RenameHow::Replace).unwrap();
    world.vfs.write(&ROOT, node, handle, 4, b"4567").unwrap();
    let reader = world.vfs.open(&ROOT, node, READ).unwrap();
    assert_eq!(world.vfs.read(&ROOT, node, reader, 0, 100).unwrap(), b"01234567");
    world.vfs.release(node, reader);
    world.vfs.release(node, handle);
    assert_eq!(committed(&world, "after"), b"01234567");
}
