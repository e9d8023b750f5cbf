//! The trash of this device: what is moved into it is removed for others, stays here without a byte being read, and comes back by a rename.

use crate::support::{ROOT, WRITE, World};
use ouro_core::content::Content;
use ouro_core::delta::FileDelta;
use ouro_core::id::FileId;
use ouro_core::render;
use ouro_vfs::{NodeNo, RenameHow, SetXattr};
use std::collections::BTreeSet;

/// More than fits into a row of the journal.
const LARGE: usize = 200_000;

fn rename(world: &World, from: (NodeNo, &str), to: (NodeNo, &str)) {
    world.vfs.rename(&ROOT, from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), RenameHow::Replace).unwrap();
}

/// Makes the trash as desktops do; returns the directory in which files lie.
fn make_trash(world: &World) -> NodeNo {
    let trash = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b".Trash-0", 0o700).unwrap().node;
    world.vfs.mkdir(&ROOT, trash, b"info", 0o700).unwrap();
    world.vfs.mkdir(&ROOT, trash, b"files", 0o700).unwrap().node
}

/// What the next commit would change; it is published.
fn publish(world: &World) -> Vec<FileDelta> {
    let sealed = world.volume.seal().unwrap();
    let files = sealed.map(|sealed| sealed.files.to_vec()).unwrap_or_default();
    world.publish();
    files
}

/// Whether a change only takes away.
fn removes(delta: &FileDelta) -> bool {
    delta.content.is_none() && delta.placements.iter().all(|p| p.removed) && !delta.replaced.is_empty()
}

fn stored_of(world: &World, path: &str) -> Content {
    let stat = world.find(path).unwrap();
    let view = world.volume.view();
    let (key, _) = ouro_core::row::Rows::find(&view, FileId(stat.node.0)).unwrap().expect("it stands somewhere");
    let seen = render::lookup(&view, &view, &[key.directory], &key.name).unwrap().expect("it is seen");
    seen.content().expect("a file").clone()
}

#[test]
fn what_is_thrown_away_goes_for_others_and_comes_back_with_its_content_and_attributes() {
    let mut world = World::new();
    let bytes: Vec<u8> = (0..LARGE as u64).map(|i| ((i * 2_654_435_761) >> 24) as u8).collect();
    let node = world.write_file(NodeNo::ROOT, "letter", &bytes).node;
    world.vfs.setxattr(&ROOT, node, b"user.colour", b"red", SetXattr::Any).unwrap();
    assert!(world.publish());
    let files = make_trash(&world);
    assert!(publish(&world).is_empty(), "the trash itself is nobody else's business");
    rename(&world, (NodeNo::ROOT, "letter"), (files, "letter"));
    world.told.take();
    let committed = publish(&world);
    assert!(committed.len() == 1 && removes(&committed[0]), "{committed:?}");
    let told = world.told.take();
    assert!(told.contains(&format!("entry {} letter", files.0)), "{told:?}");
    for restart in [false, true] {
        if restart {
            assert!(world.remote.asked.lock().is_empty(), "no byte was fetched");
            world = world.restart();
        }
        let thrown = world.node(".Trash-0/files/letter");
        assert_ne!(thrown, node, "it is another file than the one that is gone");
        assert_eq!(world.read_file(thrown), bytes);
        assert!(!world.volume.has_sealable() || world.volume.seal().unwrap().is_none());
    }
    let kept = world.volume.staying_references().unwrap();
    assert_eq!(kept.iter().map(|blob| blob.len as usize).sum::<usize>(), LARGE);

    let files = world.node(".Trash-0/files");
    rename(&world, (files, "letter"), (NodeNo::ROOT, "back"));
    world.volume.seal().unwrap().expect("it is to be told");
    assert!(world.volume.staying_references().unwrap().is_empty());
    let local = world.volume.local_references(&BTreeSet::new()).unwrap();
    assert_eq!(local.iter().map(|blob| blob.len as usize).sum::<usize>(), LARGE, "nobody has heard of it yet");
    let committed = publish(&world);
    let [back] = &committed[..] else { panic!("one file: {committed:?}") };
    assert!(matches!(back.content.as_ref().and_then(|c| c.value.as_ref()), Some(Content::Chunks(_))), "by reference");
    let node = world.node("back");
    assert_eq!(world.read_file(node), bytes);
    assert_eq!(world.vfs.getxattr(&ROOT, node, b"user.colour").unwrap(), b"red");
    assert!(world.volume.staying_references().unwrap().is_empty());
}

#[test]
fn a_tree_is_thrown_away_with_what_is_committed_and_what_is_not() {
    let world = World::new();
    let tree = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"tree", 0o755).unwrap().node;
    let deep = world.vfs.mkdir(&ROOT, tree, b"deep", 0o755).unwrap().node;
    world.write_file(deep, "old", &[1; LARGE]);
    world.write_file(tree, "edited", b"before");
    assert!(world.publish());
    let files = make_trash(&world);
    world.write_file(deep, "new", &[2; LARGE]);
    world.write_file(tree, "edited", b"after!");
    rename(&world, (NodeNo::ROOT, "tree"), (files, "tree"));
    let committed = publish(&world);
    assert!(committed.len() == 4 && committed.iter().all(removes), "{committed:#?}");
    let world = world.restart();
    let check = |at: &str| {
        assert_eq!(world.names(world.node(at)), ["deep", "edited"]);
        assert_eq!(world.read_file(world.node(&format!("{at}/edited"))), b"after!");
        assert_eq!(world.read_file(world.node(&format!("{at}/deep/old"))), [1; LARGE]);
        assert_eq!(world.read_file(world.node(&format!("{at}/deep/new"))), [2; LARGE]);
    };
    check(".Trash-0/files/tree");
    let files = world.node(".Trash-0/files");
    rename(&world, (files, "tree"), (NodeNo::ROOT, "tree"));
    let committed = publish(&world);
    assert_eq!(committed.len(), 5, "{committed:#?}");
    check("tree");
}

#[test]
fn what_was_brought_back_before_the_next_commit_was_never_away() {
    let world = World::new();
    let node = world.write_file(NodeNo::ROOT, "letter", b"text").node;
    assert!(world.publish());
    let files = make_trash(&world);
    rename(&world, (NodeNo::ROOT, "letter"), (files, "letter"));
    rename(&world, (files, "letter"), (NodeNo::ROOT, "letter"));
    let committed = publish(&world);
    assert!(committed.iter().all(|delta| delta.id == FileId(node.0)), "{committed:?}");
    assert_eq!(world.node("letter"), node);
}

#[test]
fn what_somebody_has_open_is_thrown_away_for_others_when_it_is_closed() {
    let world = World::new();
    let tree = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"tree", 0o755).unwrap().node;
    let node = world.write_file(tree, "open", b"text").node;
    assert!(world.publish());
    let files = make_trash(&world);
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    rename(&world, (NodeNo::ROOT, "tree"), (files, "tree"));
    assert!(publish(&world).is_empty());
    world.vfs.write(&ROOT, node, handle, 0, b"more").unwrap();
    publish(&world);
    assert_eq!(world.node(".Trash-0/files/tree/open"), node, "it is still the file that is open");
    assert!(!world.volume.has_sealable());
    world.vfs.release(node, handle);
    assert!(world.volume.has_sealable());
    let committed = publish(&world);
    assert!(committed.len() == 2 && committed.iter().all(removes), "{committed:?}");
    assert_eq!(world.read_file(world.node(".Trash-0/files/tree/open")), b"more");
    assert!(world.find("tree").is_err());
}

#[test]
fn what_stays_keeps_its_last_change_through_commits_and_restarts_and_is_committed_under_another_name() {
    let mut world = World::new();
    for number in 0..50 {
        world.write_file(NodeNo::ROOT, &format!("{number}.part"), b"first");
    }
    world.write_file(NodeNo::ROOT, "other", b"x");
    assert_eq!(publish(&world).len(), 1);
    world = world.restart();
    assert!(publish(&world).is_empty());
    // Changed after a commit left it where it was; the next commits and restarts must not bring back what it was.
    let node = world.node("7.part");
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    world.vfs.write(&ROOT, node, handle, 0, b"later").unwrap();
    world.vfs.release(node, handle);
    world.vfs.unlink(&ROOT, NodeNo::ROOT, b"8.part").unwrap();
    for round in 0..3 {
        world = world.restart();
        assert_eq!(world.read_file(world.node("7.part")), b"later", "round {round}");
        assert_eq!(world.read_file(world.node("9.part")), b"first", "round {round}");
        assert!(world.find("8.part").is_err(), "round {round}");
        world.write_file(NodeNo::ROOT, "other", &[round; 3]);
        assert_eq!(publish(&world).len(), 1, "round {round}");
    }
    rename(&world, (NodeNo::ROOT, "7.part"), (NodeNo::ROOT, "whole"));
    assert_eq!(publish(&world).len(), 1);
    world = world.restart();
    assert!(publish(&world).is_empty());
    assert_eq!(world.read_file(world.node("whole")), b"later");
    assert_eq!(world.names(NodeNo::ROOT).len(), 50);
}

#[test]
fn emptying_the_trash_leaves_nothing_behind() {
    let world = World::new();
    world.write_file(NodeNo::ROOT, "letter", &[7; LARGE]);
    assert!(world.publish());
    let files = make_trash(&world);
    rename(&world, (NodeNo::ROOT, "letter"), (files, "letter"));
    publish(&world);
    world.vfs.unlink(&ROOT, files, b"letter").unwrap();
    assert!(publish(&world).is_empty());
    assert!(world.volume.local_references(&BTreeSet::new()).unwrap().is_empty());
    let world = world.restart();
    assert_eq!(world.names(world.node(".Trash-0/files")), Vec::<String>::new());
}

#[test]
fn what_is_only_online_is_thrown_away_unread_and_can_be_read_there() {
    let world = World::new();
    let content = world.online(&[9; LARGE], 64 * 1024);
    let file = crate::support::made(100, ouro_core::state::Kind::File, FileId::ROOT, "online", Some(content.clone()));
    world.learn(1, vec![file]);
    let files = make_trash(&world);
    rename(&world, (NodeNo::ROOT, "online"), (files, "online"));
    let committed = publish(&world);
    assert!(committed.len() == 1 && removes(&committed[0]), "{committed:?}");
    assert!(world.remote.asked.lock().is_empty(), "moving reads nothing");
    assert_eq!(stored_of(&world, ".Trash-0/files/online"), content);
    assert_eq!(world.read_file(world.node(".Trash-0/files/online")), [9; LARGE]);
}
