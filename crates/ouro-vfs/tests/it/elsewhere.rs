//! What is on other devices, at other times and in other boxes.

use crate::support::{ProcessTable, READ, ROOT, WRITE, World, copy_folder, errno, load, made, name, wait};
use ouro_core::content::Content;
use ouro_core::delta::{AddedContent, AddedPlacement, FileDelta, Register};
use ouro_core::id::{DeviceNo, FileId, Version};
use ouro_core::state::{Kind, Place};
use ouro_vfs::{Caller, Errno, FetchError, Mounted, NodeNo, RenameHow, Stop, Vfs, VfsOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: usize = 1 << 20;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 3 + i / 1000) as u8).collect()
}

/// A world with a file of 8 MiB whose bytes are on the remote only.
fn online() -> (World, NodeNo, Vec<u8>) {
    let world = World::new();
    let bytes = pattern(8 * MIB);
    let content = world.online(&bytes, MIB);
    world.learn(1, vec![made(16, Kind::File, FileId::ROOT, "big", Some(content))]);
    let node = world.node("big");
    (world, node, bytes)
}

#[test]
fn opening_and_looking_bring_nothing_and_a_random_read_brings_what_it_needs() {
    let (world, node, bytes) = online();
    let vfs = &world.vfs;
    let stat = vfs.getattr(node, None).unwrap();
    assert_eq!((stat.size, stat.blocks), (8 << 20, (8 << 20) / 512));
    let handle = vfs.open(&ROOT, node, READ).unwrap();
    assert_eq!(vfs.getxattr(&ROOT, node, b"user.ourobox.residency").unwrap(), b"online");
    assert!(world.remote.asked.lock().is_empty() && world.remote.ahead.lock().is_empty());
    for at in [5 * MIB + 10, 2 * MIB, 7 * MIB] {
        let part = wait(|| vfs.read(&ROOT, node, handle, at as u64, 1000)).unwrap();
        assert_eq!(part, bytes[at..at + 1000]);
    }
    let asked: Vec<usize> = world.remote.asked.lock().iter().map(Vec::len).collect();
    assert_eq!(asked, [1, 1, 1]);
    assert!(world.remote.ahead.lock().is_empty());
    assert_eq!(vfs.getxattr(&ROOT, node, b"user.ourobox.residency").unwrap(), b"partial");
    assert_eq!(world.read_file(node), bytes);
    assert_eq!(vfs.getxattr(&ROOT, node, b"user.ourobox.residency").unwrap(), b"local");
}

#[test]
fn a_sequential_reader_is_run_ahead_of() {
    let (world, node, bytes) = online();
    let handle = world.vfs.open(&ROOT, node, READ).unwrap();
    let mut read = Vec::new();
    while read.len() < 2 * MIB {
        let at = read.len() as u64;
        read.extend(wait(|| world.vfs.read(&ROOT, node, handle, at, 128 << 10)).unwrap());
    }
    assert_eq!(read, bytes[..2 * MIB]);
    assert!(!world.remote.ahead.lock().is_empty());
}

#[test]
fn without_the_network_reads_fail_as_the_fetch_says_and_everything_else_works() {
    let (world, node, _) = online();
    *world.remote.fails.lock() = Some(FetchError::TimedOut);
    let handle = world.vfs.open(&ROOT, node, READ).unwrap();
    assert_eq!(errno(wait(|| world.vfs.read(&ROOT, node, handle, 0, 10))), Errno::TimedOut);
    assert_eq!(world.names(NodeNo::ROOT), ["big"]);
    world.vfs.rename(&ROOT, NodeNo::ROOT, b"big", NodeNo::ROOT, b"big2", RenameHow::Replace).unwrap();
    assert_eq!(world.vfs.getattr(node, None).unwrap().size, 8 << 20);
}

#[test]
fn scanners_get_no_bytes_that_are_not_here() {
    let (world, node, bytes) = online();
    let mut processes = ProcessTable::default();
    processes.0.insert(50, (Vec::new(), "/usr/bin/baloo_file_extractor"));
    world.vfs.set_processes(Arc::new(processes));
    let baloo = Caller { pid: 50, ..ROOT };
    let handle = world.vfs.open(&baloo, node, READ).unwrap();
    assert_eq!(errno(world.vfs.read(&baloo, node, handle, 0, 100)), Errno::Unreachable);
    assert!(world.remote.asked.lock().is_empty());
    wait(|| world.vfs.read(&ROOT, node, handle, 0, 100)).unwrap();
    assert_eq!(world.vfs.read(&baloo, node, handle, 0, 100).unwrap(), bytes[..100], "what is here is served");
}

#[test]
fn writing_into_an_online_file_keeps_the_rest_online() {
    let (world, node, mut bytes) = online();
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    world.vfs.write(&ROOT, node, handle, 3 << 20, b"here").unwrap();
    assert!(world.remote.asked.lock().is_empty());
    bytes[3 << 20..(3 << 20) + 4].copy_from_slice(b"here");
    assert_eq!(wait(|| world.vfs.read(&ROOT, node, handle, 0, 16 << 20)).unwrap(), bytes);
}

#[test]
fn a_whole_file_is_copied_without_moving_a_byte() {
    let (world, node, bytes) = online();
    let vfs = &world.vfs;
    let source = vfs.open(&ROOT, node, READ).unwrap();
    let copy =
        |to: NodeNo, handle, offset, len| vfs.copy_file_range(&ROOT, node, source, offset, to, handle, offset, len);
    let (stat, target) = vfs.create(&ROOT, NodeNo::ROOT, b"copy", 0o644, WRITE, true).unwrap();
    assert_eq!(errno(copy(stat.node, target, 0, 1 << 20)), Errno::NotSupported, "a part");
    assert_eq!(copy(stat.node, target, 0, 0xffff_f000).unwrap(), 8 << 20);
    assert_eq!(copy(stat.node, target, 8 << 20, 1 << 20).unwrap(), 0, "the end");
    assert_eq!(copy(stat.node, target, 4 << 20, 1 << 20).unwrap(), 1 << 20, "a range that is the same already");
    assert!(world.remote.asked.lock().is_empty());
    vfs.release(stat.node, target);
    assert_eq!(vfs.getattr(stat.node, None).unwrap().size, 8 << 20);
    assert_eq!(world.read_file(stat.node), bytes);
    let other = world.write_file(NodeNo::ROOT, "other", b"not empty");
    let handle = vfs.open(&ROOT, other.node, WRITE).unwrap();
    assert_eq!(errno(copy(other.node, handle, 0, 1 << 30)), Errno::NotSupported);
}

#[test]
fn the_kernel_hears_exactly_what_changed_behind_its_back() {
    let world = World::new();
    let directory = FileId::new(DeviceNo(9), 16);
    let text = |bytes: &[u8]| Some(Content::Inline(bytes.into()));
    world.learn(
        1,
        vec![
            made(16, Kind::Directory, FileId::ROOT, "d", None),
            made(17, Kind::File, directory, "f", text(b"1")),
            made(18, Kind::File, directory, "unseen", text(b"2")),
        ],
    );
    assert_eq!(world.told.take(), ["entry 1 d", "node 1"]);
    let (d, f) = (world.node("d"), world.node("d/f"));
    let version = {
        let view = world.volume.view();
        let seen = ouro_core::render::lookup(&view, &view, &[directory], &name("f")).unwrap().unwrap();
        seen.file().contents[0].version
    };
    let place = |text: &str| Place { parent: directory, name: name(text) };
    let mut edit = made(17, Kind::File, directory, "f", text(b"11"));
    edit.placements.clear();
    edit.hint = Some(place("f"));
    edit.replaced = vec![(Register::Content, version), (Register::Attributes, version)];
    world.learn(2, vec![edit]);
    assert_eq!(world.told.take(), [format!("node {}", f.0)]);
    assert_eq!(world.vfs.getattr(f, None).unwrap().size, 2);
    let mut moved = made(17, Kind::File, directory, "f", None);
    moved.attributes = None;
    moved.hint = Some(place("f"));
    moved.replaced = vec![(Register::Placement { slot: 0 }, version)];
    moved.placements =
        vec![AddedPlacement { slot: 0, place: place("g"), was: Some(place("f")), by_rule: false, removed: false }];
    world.learn(3, vec![moved]);
    let mut told = world.told.take();
    told.sort();
    let mut expected =
        vec![format!("entry {} f", d.0), format!("entry {} g", d.0), format!("node {}", d.0), format!("node {}", f.0)];
    expected.sort();
    assert_eq!(told, expected);
    // The node is found where it stands now, though nobody looked it up there.
    assert_eq!(world.vfs.getattr(f, None).unwrap().size, 2);
    assert_eq!(world.read_file(f), b"11");
    // What came through the mount is no news to the kernel.
    world.write_file(d, "own", b"x");
    world.publish();
    assert_eq!(
        world.told.take().into_iter().filter(|t| t.starts_with("entry")).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
}

/// Lets this device and another one edit `a.txt`, and returns its living contents and its node.
fn conflict(world: &World) -> (Vec<(Content, Version)>, NodeNo) {
    let seen = || {
        let view = world.volume.view();
        ouro_core::render::lookup(&view, &view, &[FileId::ROOT], &name("a.txt")).unwrap().unwrap()
    };
    world.volume.name_device(DeviceNo(9), "laptop".into());
    world.learn(1, vec![made(16, Kind::File, FileId::ROOT, "a.txt", Some(Content::Inline(b"old"[..].into())))]);
    let node = world.node("a.txt");
    let version = seen().file().contents[0].version;
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    world.vfs.write(&ROOT, node, handle, 0, b"mine").unwrap();
    world.vfs.release(node, handle);
    world.publish();
    let mut theirs = made(16, Kind::File, FileId::ROOT, "a.txt", None);
    let at = theirs.placements.remove(0).place;
    theirs.hint = Some(at.clone());
    theirs.content = Some(AddedContent { value: Some(Content::Inline(b"theirs"[..].into())), at, by_rule: false });
    theirs.replaced = vec![(Register::Content, version), (Register::Attributes, version)];
    world.learn(2, vec![theirs]);
    let contents = &seen().file().contents.clone();
    (contents.iter().map(|c| (c.value.clone().unwrap(), c.version)).collect(), node)
}

#[test]
fn edits_of_two_devices_are_both_there_under_two_names() {
    let world = World::new();
    conflict(&world);
    let names = world.names(NodeNo::ROOT);
    assert_eq!(names.len(), 2, "{names:?}");
    let mut contents: Vec<Vec<u8>> = names.iter().map(|n| world.read_file(world.node(n))).collect();
    contents.sort();
    assert_eq!(contents, [b"mine".to_vec(), b"theirs".to_vec()]);
}

#[test]
fn what_is_written_into_a_file_that_stayed_open_since_the_last_commit_asks_for_the_next_one() {
    let world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = asked.clone();
    world.volume.on_pending(Box::new(move || {
        asking.fetch_add(1, Ordering::Relaxed);
    }));
    let (stat, handle) = world.vfs.create(&ROOT, NodeNo::ROOT, b"log", 0o644, WRITE, false).unwrap();
    for line in 0..3 {
        asked.store(0, Ordering::Relaxed);
        world.vfs.write(&ROOT, stat.node, handle, line * 5, b"line\n").unwrap();
        assert!(line == 0 || asked.load(Ordering::Relaxed) == 1, "line {line} is not asked to be committed");
        assert!(world.publish());
        assert!(!world.volume.has_sealable());
    }
}

#[test]
fn what_another_device_deletes_lives_on_for_who_has_it_open() {
    let (world, node, bytes) = online();
    let handle = world.vfs.open(&ROOT, node, WRITE).unwrap();
    let version = {
        let view = world.volume.view();
        let seen = ouro_core::render::lookup(&view, &view, &[FileId::ROOT], &name("big")).unwrap().unwrap();
        seen.file().contents[0].version
    };
    let place = Place { parent: FileId::ROOT, name: name("big") };
    let mut gone = FileDelta::new(FileId::new(DeviceNo(9), 16), Kind::File, Some(place));
    let registers = [Register::Placement { slot: 0 }, Register::Content, Register::Attributes];
    gone.replaced = registers.map(|register| (register, version)).to_vec();
    world.learn(2, vec![gone]);
    assert_eq!(errno(world.find("big")), Errno::NoEntry);
    assert_eq!(wait(|| world.vfs.read(&ROOT, node, handle, 0, 16 << 20)).unwrap(), bytes);
    let stat = world.vfs.getattr(node, Some(handle)).unwrap();
    assert_eq!((stat.size, stat.links), (8 << 20, 0));
    assert_eq!(errno(world.vfs.write(&ROOT, node, handle, 0, b"nobody would see this")), Errno::Stale);
    world.vfs.release(node, handle);
    assert_eq!(errno(world.vfs.getattr(node, None)), Errno::Stale);
}

#[test]
fn a_conflict_copy_that_another_device_deletes_lives_on_for_who_has_it_open() {
    let world = World::new();
    let (version, node) = conflict(&world);
    let names = world.names(NodeNo::ROOT);
    assert_eq!(names.len(), 2, "{names:?}");
    let copy = world.node(names.iter().find(|name| name.contains("conflict")).unwrap());
    let bytes = world.read_file(copy);
    let handle = world.vfs.open(&ROOT, copy, READ).unwrap();
    let content = Content::Inline(bytes.as_slice().into());
    let lost = version.into_iter().find(|(value, _)| *value == content).unwrap().1;
    let place = Place { parent: FileId::ROOT, name: name("a.txt") };
    let mut settled = FileDelta::new(FileId::new(DeviceNo(9), 16), Kind::File, Some(place));
    settled.replaced = vec![(Register::Content, lost)];
    world.learn(3, vec![settled]);
    assert_eq!(world.names(NodeNo::ROOT), ["a.txt"]);
    assert_eq!(world.vfs.read(&ROOT, copy, handle, 0, 100).unwrap(), bytes);
    assert_eq!(world.vfs.getattr(copy, Some(handle)).unwrap().size, bytes.len() as u64);
    world.vfs.release(copy, handle);
    assert_eq!(errno(world.vfs.getattr(copy, None)), Errno::Stale);
    assert_ne!(world.read_file(node), bytes);
}

#[test]
fn every_commit_is_a_read_only_tree_under_its_time() {
    let world = World::new();
    let first = world.write_file(NodeNo::ROOT, "a", b"first");
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755).unwrap().node;
    world.write_file(directory, "inside", &pattern(100_000));
    world.publish();
    world.clock.0.fetch_add(3_600_000_000_000, std::sync::atomic::Ordering::Relaxed);
    let handle = world.vfs.open(&ROOT, first.node, WRITE).unwrap();
    world.vfs.write(&ROOT, first.node, handle, 0, b"SECOND").unwrap();
    world.vfs.release(first.node, handle);
    world.vfs.unlink(&ROOT, directory, b"inside").unwrap();
    world.publish();
    let world = world.restart();
    let shelf = world.vfs.lookup(&ROOT, NodeNo::ROOT, b".snapshots").unwrap();
    assert!(world.vfs.is_volatile(shelf.node) && !world.vfs.is_volatile(NodeNo::ROOT));
    let moments = world.names(shelf.node);
    assert_eq!(moments, ["2026-11-22T14.30.00Z", "2026-11-22T15.30.00Z"]);
    let listed = world.vfs.readdir(&ROOT, shelf.node, 0, 10).unwrap().entries;
    assert_eq!(world.names(listed[2].stat.node), ["a", "d"], "a listed one is known as if it was looked up");
    let past = world.vfs.lookup(&ROOT, shelf.node, moments[0].as_bytes()).unwrap();
    assert_eq!(past.node, listed[2].stat.node);
    assert_eq!(world.names(past.node), ["a", "d"]);
    let old = world.vfs.lookup(&ROOT, past.node, b"a").unwrap();
    assert_ne!(old.node, first.node, "another inode, another page cache");
    assert_eq!(world.read_file(old.node), b"first");
    assert_eq!(world.read_file(world.node("a")), b"SECOND");
    let inside = world.find(&format!(".snapshots/{}/d/inside", moments[0])).unwrap();
    assert_eq!(world.read_file(inside.node), pattern(100_000));
    assert_eq!(errno(world.find(&format!(".snapshots/{}/d/inside", moments[1]))), Errno::NoEntry);
    assert_eq!(errno(world.vfs.open(&ROOT, old.node, WRITE)), Errno::ReadOnly);
    assert_eq!(errno(world.vfs.unlink(&ROOT, past.node, b"a")), Errno::ReadOnly);
    assert_eq!(errno(world.vfs.mkdir(&ROOT, past.node, b"new", 0o755)), Errno::ReadOnly);
    assert_eq!(errno(world.vfs.link(&ROOT, old.node, NodeNo::ROOT, b"b")), Errno::CrossBox);
    let ago = world.vfs.lookup(&ROOT, shelf.node, b"@30min-ago").unwrap();
    assert_eq!(ago.kind, Kind::Symlink);
    assert_eq!(world.vfs.readlink(ago.node).unwrap(), b"2026-11-22T14.30.00Z");
    let now = world.vfs.lookup(&ROOT, shelf.node, b"@0s-ago").unwrap();
    assert_eq!(world.vfs.readlink(now.node).unwrap(), b"2026-11-22T15.30.00Z");
    assert_eq!(errno(world.vfs.lookup(&ROOT, shelf.node, b"@5days-ago")), Errno::NoEntry);
    assert_eq!(errno(world.vfs.mkdir(&ROOT, NodeNo::ROOT, b".snapshots", 0o755)), Errno::Exists);
    assert_eq!(errno(world.vfs.rmdir(&ROOT, NodeNo::ROOT, b".snapshots")), Errno::NotPermitted);
    // A copy out of a snapshot moves no byte.
    let source = world.vfs.open(&ROOT, inside.node, READ).unwrap();
    let (back, target) = world.vfs.create(&ROOT, NodeNo::ROOT, b"back", 0o644, WRITE, true).unwrap();
    let copied = world.vfs.copy_file_range(&ROOT, inside.node, source, 0, back.node, target, 0, 1 << 30).unwrap();
    assert_eq!(copied, 100_000);
    assert_eq!(world.read_file(back.node), pattern(100_000));
}

#[test]
fn several_boxes_are_folders_under_one_root() {
    let (one, two) = (World::new(), World::new());
    one.write_file(NodeNo::ROOT, "a", b"1");
    two.write_file(NodeNo::ROOT, "a", b"2");
    let boxes = vec![
        Mounted { name: name("one"), volume: one.volume.clone() },
        Mounted { name: name("two"), volume: two.volume.clone() },
    ];
    let vfs = Vfs::new(boxes, one.remote.clone(), VfsOptions::default());
    let root = vfs.getattr(NodeNo::ROOT, None).unwrap();
    assert_eq!((root.kind, root.mode), (Kind::Directory, 0o555));
    let entries = vfs.readdir(&ROOT, NodeNo::ROOT, 0, 10).unwrap().entries;
    assert_eq!(entries.iter().map(|e| &*e.name).collect::<Vec<_>>(), [&b"."[..], b"..", b"one", b"two"]);
    assert_eq!(vfs.readdir(&ROOT, NodeNo::ROOT, entries[3].cookie, 10).unwrap().entries, []);
    let folder = |text: &[u8]| vfs.lookup(&ROOT, NodeNo::ROOT, text).unwrap().node;
    let file = |text: &[u8]| vfs.lookup(&ROOT, folder(text), b"a").unwrap().node;
    let (a, b) = (file(b"one"), file(b"two"));
    assert_ne!(a, b);
    assert!(a.0 >> 63 == 1 && b.0 >> 63 == 1);
    for (node, expected) in [(a, b"1"), (b, b"2")] {
        let handle = vfs.open(&ROOT, node, READ).unwrap();
        assert_eq!(vfs.read(&ROOT, node, handle, 0, 9).unwrap(), expected);
        vfs.release(node, handle);
    }
    let rename = vfs.rename(&ROOT, folder(b"one"), b"a", folder(b"two"), b"b", RenameHow::Replace);
    assert_eq!(errno(rename), Errno::CrossBox);
    assert_eq!(errno(vfs.link(&ROOT, a, folder(b"two"), b"b")), Errno::CrossBox);
    assert_eq!(errno(vfs.mkdir(&ROOT, NodeNo::ROOT, b"three", 0o755)), Errno::NotPermitted);
    vfs.rename(&ROOT, folder(b"one"), b"a", folder(b"one"), b"c", RenameHow::Replace).unwrap();
    assert_eq!(vfs.getattr(a, None).unwrap().size, 1);
    assert_eq!(one.names(NodeNo::ROOT), ["c"], "the same box seen by another mount");
    let entries = vfs.readdir(&ROOT, folder(b"one"), 0, 10).unwrap().entries;
    assert_eq!((entries[0].stat.node, entries[1].stat.node), (folder(b"one"), NodeNo::ROOT));
}

#[test]
fn nothing_is_lost_when_the_process_dies() {
    let world = World::new();
    world.write_file(NodeNo::ROOT, "closed", b"kept");
    let (stat, handle) = world.vfs.create(&ROOT, NodeNo::ROOT, b"synced", 0o644, WRITE, true).unwrap();
    world.vfs.write(&ROOT, stat.node, handle, 0, b"durable").unwrap();
    world.vfs.fsync(stat.node, handle, true).unwrap();
    // The process ends here: nothing is closed, a copy of its folder is opened.
    let copy = tempfile::TempDir::new().unwrap();
    copy_folder(world.folder.path(), copy.path());
    let volume = load(copy.path(), world.clock.clone());
    let boxes = vec![Mounted { name: name("box"), volume }];
    let vfs = Vfs::new(boxes, world.remote.clone(), VfsOptions::default());
    let mut contents = BTreeMap::new();
    for file in ["closed", "synced"] {
        let node = vfs.lookup(&ROOT, NodeNo::ROOT, file.as_bytes()).unwrap().node;
        let handle = vfs.open(&ROOT, node, READ).unwrap();
        contents.insert(file, vfs.read(&ROOT, node, handle, 0, 99).unwrap());
    }
    assert_eq!(contents["closed"], b"kept");
    assert_eq!(contents["synced"], b"durable");
}

#[test]
fn a_wait_is_something_to_carry_away() {
    let (world, node, bytes) = online();
    let handle = world.vfs.open(&ROOT, node, READ).unwrap();
    let Err(Stop::Wait(waiting)) = world.vfs.read(&ROOT, node, handle, 0, 10) else { panic!("it was not here") };
    let vfs = world.vfs.clone();
    #[expect(clippy::disallowed_methods, reason = "a task of a door, in a test")]
    let task = std::thread::spawn(move || {
        futures::executor::block_on(waiting.0).unwrap();
        vfs.read(&ROOT, node, handle, 0, 10).unwrap()
    });
    assert_eq!(task.join().unwrap(), bytes[..10]);
}

/// What a checkpoint changes that holds commits this device never learnt was told to nobody, except where something of its own lies on top.
#[test]
fn the_kernel_forgets_all_it_knows_of_a_box_that_begins_anew() {
    let (world, other) = (World::new(), World::new());
    let directory = FileId::new(DeviceNo(9), 16);
    let place = |text: &str| Place { parent: directory, name: name(text) };
    let text = |bytes: &[u8]| Some(Content::Inline(bytes.into()));
    for each in [&world, &other] {
        let files = [(17, "edited"), (18, "gone"), (19, "open"), (20, "stays")];
        let files = files.map(|(counter, name)| made(counter, Kind::File, directory, name, text(b"1")));
        each.learn(1, [made(16, Kind::Directory, FileId::ROOT, "d", None)].into_iter().chain(files).collect());
    }
    let d = world.node("d");
    let [edited, gone, open, stays] = ["d/edited", "d/gone", "d/open", "d/stays"].map(|path| world.node(path));
    assert_eq!(errno(world.find("new")), Errno::NoEntry, "and the kernel remembers that");
    let handle = world.vfs.open(&ROOT, open, READ).unwrap();
    let version = {
        let view = other.volume.view();
        ouro_core::render::lookup(&view, &view, &[directory], &name("open")).unwrap().unwrap().file().contents[0]
            .version
    };
    let mut edit = made(17, Kind::File, directory, "edited", text(b"11"));
    edit.placements.clear();
    edit.hint = Some(place("edited"));
    edit.replaced = vec![(Register::Content, version), (Register::Attributes, version)];
    let removed = [(18, "gone"), (19, "open")].map(|(counter, text)| {
        let mut removed = FileDelta::new(FileId::new(DeviceNo(9), counter), Kind::File, Some(place(text)));
        let all = [Register::Placement { slot: 0 }, Register::Content, Register::Attributes];
        removed.replaced = all.map(|register| (register, version)).into();
        removed
    });
    let new = made(21, Kind::File, FileId::ROOT, "new", text(b"new"));
    other.learn(2, [edit, new].into_iter().chain(removed).collect());
    world.told.take();
    world.volume.adopt(&other.checkpoint_in(&world)).unwrap();
    let told: BTreeSet<String> = world.told.take().into_iter().collect();
    let entries = ["edited", "gone", "open", "stays"].map(|name| format!("entry {} {name}", d.0));
    let nodes = [NodeNo::ROOT, d, edited, gone, open, stays].map(|node| format!("node {}", node.0));
    let expected = entries.into_iter().chain(nodes).chain(["entry 1 d".into(), "entry 1 new".into()]);
    assert_eq!(told, expected.collect());
    assert_eq!(world.vfs.getattr(edited, None).unwrap().size, 2);
    assert_eq!(world.names(d), ["edited", "stays"]);
    // Who has it open reads on.
    assert_eq!(world.vfs.read(&ROOT, open, handle, 0, 10).unwrap(), b"1");
    world.vfs.release(open, handle);
    assert_eq!(errno(world.vfs.getattr(open, None)), Errno::Stale);
}
