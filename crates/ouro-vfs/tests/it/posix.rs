//! What POSIX promises, through the face.

use crate::support::{READ, ROOT, WRITE, World, errno};
use ouro_core::state::Kind;
use ouro_vfs::{
    Allocate, Caller, Errno, NodeNo, OpenFlags, RenameHow, Seek, SetAttributes, SetTime, SetXattr, VfsOptions,
};

const ALICE: Caller = Caller { uid: 10, gid: 20, pid: 100 };
const BOB: Caller = Caller { uid: 11, gid: 21, pid: 101 };

fn mode(mode: u16) -> SetAttributes {
    SetAttributes { mode: Some(mode), ..SetAttributes::default() }
}

#[test]
fn what_is_written_is_read_back_and_found_after_a_restart() {
    let world = World::new();
    let stat = world.write_file(NodeNo::ROOT, "a", b"hello");
    assert_eq!((stat.size, stat.blocks, stat.links, stat.kind), (5, 1, 1, Kind::File));
    assert_eq!(world.read_file(stat.node), b"hello");
    let world = world.restart();
    let again = world.find("a").unwrap();
    assert_eq!((again.node, again.size, again.mtime_ns, again.ctime_ns), (stat.node, 5, stat.mtime_ns, stat.ctime_ns));
    assert_eq!(world.read_file(again.node), b"hello");
    assert_eq!(errno(world.find("b")), Errno::NoEntry);
}

#[test]
fn what_was_published_reads_the_same() {
    let world = World::new();
    let big: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
    let (small, large) = (world.write_file(NodeNo::ROOT, "small", b"x"), world.write_file(NodeNo::ROOT, "large", &big));
    assert!(world.publish());
    assert!(!world.publish());
    assert_eq!(world.read_file(small.node), b"x");
    assert_eq!(world.read_file(large.node), big);
    assert_eq!(world.find("large").unwrap().mtime_ns, large.mtime_ns);
    let handle = world.vfs.open(&ROOT, large.node, WRITE).unwrap();
    world.vfs.write(&ROOT, large.node, handle, 100_000, b"patch").unwrap();
    let mut patched = big.clone();
    patched[100_000..100_005].copy_from_slice(b"patch");
    assert_eq!(world.read_file(large.node), patched);
    world.volume.seal().unwrap();
    world.vfs.write(&ROOT, large.node, handle, 0, b"later").unwrap();
    patched[..5].copy_from_slice(b"later");
    assert_eq!(world.read_file(large.node), patched);
    world.vfs.release(large.node, handle);
    assert_eq!(world.read_file(world.node("large")), patched);
}

#[test]
fn a_file_unlinked_while_open_lives_until_it_is_closed() {
    let world = World::new();
    let stat = world.write_file(NodeNo::ROOT, "a", b"hello");
    let handle = world.vfs.open(&ROOT, stat.node, WRITE).unwrap();
    world.vfs.unlink(&ROOT, NodeNo::ROOT, b"a").unwrap();
    assert_eq!(errno(world.find("a")), Errno::NoEntry);
    let orphan = world.vfs.getattr(stat.node, Some(handle)).unwrap();
    assert_eq!((orphan.links, orphan.size, orphan.mode), (0, 5, 0o644));
    assert!(orphan.ctime_ns > stat.ctime_ns);
    world.vfs.write(&ROOT, stat.node, handle, 5, b" world").unwrap();
    assert_eq!(world.vfs.read(&ROOT, stat.node, handle, 0, 100).unwrap(), b"hello world");
    let cut = SetAttributes { size: Some(2), mode: Some(0o600), handle: Some(handle), ..SetAttributes::default() };
    let after = world.vfs.setattr(&ROOT, stat.node, &cut).unwrap();
    assert_eq!((after.size, after.mode), (2, 0o600));
    assert_eq!(errno(world.vfs.link(&ROOT, stat.node, NodeNo::ROOT, b"b")), Errno::NoEntry);
    world.vfs.release(stat.node, handle);
    assert_eq!(errno(world.vfs.getattr(stat.node, None)), Errno::Stale);
    assert_eq!(errno(world.vfs.read(&ROOT, stat.node, handle, 0, 1)), Errno::BadHandle);
}

#[test]
fn a_replaced_file_lives_on_for_who_has_it_open() {
    let world = World::new();
    let old = world.write_file(NodeNo::ROOT, "a", b"old");
    let new = world.write_file(NodeNo::ROOT, "a.new", b"new");
    let handle = world.vfs.open(&ROOT, old.node, READ).unwrap();
    world.vfs.rename(&ROOT, NodeNo::ROOT, b"a.new", NodeNo::ROOT, b"a", RenameHow::Replace).unwrap();
    assert_eq!(world.find("a").unwrap().node, new.node);
    assert_eq!(world.read_file(new.node), b"new");
    assert_eq!(world.vfs.read(&ROOT, old.node, handle, 0, 9).unwrap(), b"old");
    world.vfs.release(old.node, handle);
    assert_eq!(world.names(NodeNo::ROOT), ["a"]);
}

#[test]
fn names_of_one_file_share_everything_and_are_counted() {
    let world = World::new();
    let one = world.write_file(NodeNo::ROOT, "one", b"1");
    let two = world.vfs.link(&ROOT, one.node, NodeNo::ROOT, b"two").unwrap();
    assert_eq!((two.node, two.links), (one.node, 2));
    assert!(two.ctime_ns > one.ctime_ns);
    assert_eq!(errno(world.vfs.link(&ROOT, one.node, NodeNo::ROOT, b"two")), Errno::Exists);
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755).unwrap();
    assert_eq!(errno(world.vfs.link(&ROOT, directory.node, NodeNo::ROOT, b"e")), Errno::NotPermitted);
    world.vfs.unlink(&ROOT, NodeNo::ROOT, b"two").unwrap();
    assert_eq!(world.vfs.getattr(one.node, None).unwrap().links, 1);
    world.vfs.link(&ROOT, one.node, directory.node, b"three").unwrap();
    world.vfs.unlink(&ROOT, NodeNo::ROOT, b"one").unwrap();
    let left = world.vfs.getattr(one.node, None).unwrap();
    assert_eq!(left.links, 1);
    world.vfs.rename(&ROOT, directory.node, b"three", NodeNo::ROOT, b"four", RenameHow::Replace).unwrap();
    assert_eq!(world.read_file(one.node), b"1");
    // Two names of one file: nothing happens.
    world.vfs.link(&ROOT, one.node, NodeNo::ROOT, b"five").unwrap();
    world.vfs.rename(&ROOT, NodeNo::ROOT, b"four", NodeNo::ROOT, b"five", RenameHow::Replace).unwrap();
    assert_eq!(world.names(NodeNo::ROOT), ["d", "five", "four"]);
}

#[test]
fn rename_replaces_only_what_fits() {
    let world = World::new();
    let fresh = |tag: &str| {
        let top = world.vfs.mkdir(&ROOT, NodeNo::ROOT, tag.as_bytes(), 0o755).unwrap().node;
        world.write_file(top, "file", b"f");
        world.vfs.mkdir(&ROOT, top, b"empty", 0o755).unwrap();
        let full = world.vfs.mkdir(&ROOT, top, b"full", 0o755).unwrap().node;
        world.write_file(full, "inside", b"i");
        world.vfs.symlink(&ROOT, top, b"symlink", b"target").unwrap();
        top
    };
    let rename =
        |top: NodeNo, from: &str, to: &str, how| world.vfs.rename(&ROOT, top, from.as_bytes(), top, to.as_bytes(), how);
    use Errno::*;
    use RenameHow::*;
    let table: [(&str, &str, RenameHow, Option<Errno>); 17] = [
        ("file", "new", Replace, None),
        ("file", "new", NoReplace, None),
        ("file", "symlink", Replace, None),
        ("file", "symlink", NoReplace, Some(Exists)),
        ("file", "empty", Replace, Some(IsDirectory)),
        ("file", "full", Replace, Some(IsDirectory)),
        ("symlink", "file", Replace, None),
        ("empty", "new", Replace, None),
        ("empty", "file", Replace, Some(NotDirectory)),
        ("empty", "full", Replace, Some(NotEmpty)),
        ("full", "empty", Replace, None),
        ("full", "full", Replace, None),
        ("missing", "new", Replace, Some(NoEntry)),
        ("file", "missing", Exchange, Some(NoEntry)),
        ("file", "full", Exchange, None),
        ("empty", "full", Exchange, None),
        ("file", "file", NoReplace, Some(Exists)),
    ];
    for (i, (from, to, how, expected)) in table.into_iter().enumerate() {
        let top = fresh(&format!("case{i}"));
        let source = world.vfs.lookup(&ROOT, top, from.as_bytes()).map(|s| s.node);
        let result = rename(top, from, to, how);
        match expected {
            Some(expected) => assert_eq!(errno(result), expected, "{from} {to} {how:?}"),
            None => {
                result.unwrap();
                let there = world.vfs.lookup(&ROOT, top, to.as_bytes()).unwrap().node;
                assert_eq!(there, source.unwrap(), "{from} {to} {how:?}");
                let left = world.vfs.lookup(&ROOT, top, from.as_bytes()).is_ok();
                assert_eq!(left, how == Exchange || from == to, "{from} {to} {how:?}");
            }
        }
    }
    let top = fresh("loop");
    let full = world.vfs.lookup(&ROOT, top, b"full").unwrap().node;
    let deep = world.vfs.mkdir(&ROOT, full, b"deep", 0o755).unwrap().node;
    assert_eq!(errno(world.vfs.rename(&ROOT, top, b"full", deep, b"x", Replace)), Invalid);
    assert_eq!(errno(rename(top, ".", "x", Replace)), Busy);
    // Children of a moved directory keep their numbers.
    world.vfs.rename(&ROOT, top, b"full", NodeNo::ROOT, b"moved", Replace).unwrap();
    assert_eq!(world.node("moved/deep"), deep);
    assert_eq!(world.vfs.getattr(deep, None).unwrap().kind, Kind::Directory);
}

#[test]
fn directories_are_removed_when_they_are_empty() {
    let world = World::new();
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755).unwrap();
    world.write_file(directory.node, "f", b"");
    assert_eq!(errno(world.vfs.rmdir(&ROOT, NodeNo::ROOT, b"d")), Errno::NotEmpty);
    assert_eq!(errno(world.vfs.unlink(&ROOT, NodeNo::ROOT, b"d")), Errno::IsDirectory);
    assert_eq!(errno(world.vfs.rmdir(&ROOT, directory.node, b"f")), Errno::NotDirectory);
    assert_eq!(errno(world.vfs.rmdir(&ROOT, directory.node, b".")), Errno::Invalid);
    world.vfs.unlink(&ROOT, directory.node, b"f").unwrap();
    world.vfs.rmdir(&ROOT, NodeNo::ROOT, b"d").unwrap();
    assert_eq!(errno(world.vfs.mkdir(&ROOT, directory.node, b"x", 0o755)), Errno::NoEntry);
    assert_eq!(world.vfs.readdir(&ROOT, directory.node, 0, 10).unwrap().entries, []);
    assert_eq!(world.names(NodeNo::ROOT), Vec::<String>::new());
}

#[test]
fn changes_touch_the_times_of_files_and_of_the_directories_they_stand_in() {
    let world = World::new();
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755).unwrap().node;
    let look = |node| world.vfs.getattr(node, None).unwrap();
    let mut before = look(directory);
    let mut touched = |what: &str| {
        let now = look(directory);
        assert!(now.mtime_ns > before.mtime_ns && now.ctime_ns > before.ctime_ns, "{what}");
        before = now;
    };
    let file = world.write_file(directory, "f", b"1");
    touched("create");
    world.vfs.link(&ROOT, file.node, directory, b"g").unwrap();
    touched("link");
    world.vfs.rename(&ROOT, directory, b"g", directory, b"h", RenameHow::Replace).unwrap();
    touched("rename");
    world.vfs.symlink(&ROOT, directory, b"s", b"t").unwrap();
    touched("symlink");
    let unlinked = look(file.node);
    world.vfs.unlink(&ROOT, directory, b"h").unwrap();
    touched("unlink");
    assert!(look(file.node).ctime_ns > unlinked.ctime_ns);
    let handle = world.vfs.open(&ROOT, file.node, WRITE).unwrap();
    let before_write = look(file.node);
    world.vfs.write(&ROOT, file.node, handle, 0, b"2").unwrap();
    let after_write = look(file.node);
    assert!(after_write.mtime_ns > before_write.mtime_ns && after_write.ctime_ns > before_write.ctime_ns);
    world.vfs.setattr(&ROOT, file.node, &mode(0o600)).unwrap();
    let after_chmod = look(file.node);
    assert_eq!(after_chmod.mtime_ns, after_write.mtime_ns);
    assert!(after_chmod.ctime_ns > after_write.ctime_ns);
    world.vfs.release(file.node, handle);
    assert_eq!(look(file.node).mtime_ns, after_write.mtime_ns);
}

#[test]
fn times_are_set_as_asked_even_while_the_file_is_being_written() {
    let world = World::new();
    let stat = world.write_file(NodeNo::ROOT, "a", b"1");
    let handle = world.vfs.open(&ROOT, stat.node, WRITE).unwrap();
    world.vfs.write(&ROOT, stat.node, handle, 0, b"2").unwrap();
    let set = SetAttributes {
        atime: Some(SetTime::At(123_456_789)),
        mtime: Some(SetTime::At(-5)),
        ..SetAttributes::default()
    };
    let after = world.vfs.setattr(&ROOT, stat.node, &set).unwrap();
    assert_eq!((after.atime_ns, after.mtime_ns), (123_456_789, -5));
    assert!(after.ctime_ns > stat.ctime_ns);
    world.vfs.release(stat.node, handle);
    assert_eq!(world.vfs.getattr(stat.node, None).unwrap().mtime_ns, -5);
    let only_atime = SetAttributes { atime: Some(SetTime::At(9)), ..SetAttributes::default() };
    let after = world.vfs.setattr(&ROOT, stat.node, &only_atime).unwrap();
    assert_eq!((after.atime_ns, after.mtime_ns), (9, -5));
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755).unwrap().node;
    world.write_file(directory, "f", b"");
    let after = world.vfs.setattr(&ROOT, directory, &set).unwrap();
    assert_eq!((after.atime_ns, after.mtime_ns), (123_456_789, -5));
    let world = world.restart();
    assert_eq!(world.find("a").unwrap().mtime_ns, -5);
    assert_eq!(world.find("d").unwrap().mtime_ns, -5);
}

#[test]
fn subdirectories_made_here_are_counted_as_links() {
    let world = World::new();
    let (one, two) = (
        world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"one", 0o755).unwrap(),
        world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"two", 0o755).unwrap(),
    );
    let links = |node| world.vfs.getattr(node, None).unwrap().links;
    assert_eq!((one.links, two.links), (2, 2));
    world.vfs.mkdir(&ROOT, one.node, b"sub", 0o755).unwrap();
    assert_eq!((links(one.node), links(two.node)), (3, 2));
    world.vfs.rename(&ROOT, one.node, b"sub", two.node, b"sub", RenameHow::Replace).unwrap();
    assert_eq!((links(one.node), links(two.node)), (2, 3));
    world.vfs.rmdir(&ROOT, two.node, b"sub").unwrap();
    assert_eq!(links(two.node), 2);
    assert_eq!(links(NodeNo::ROOT), 1, "not known: one, which every tool takes as such");
}

#[test]
fn create_and_open_follow_their_flags() {
    let world = World::new();
    world.write_file(NodeNo::ROOT, "a", b"hello");
    let create = |name: &[u8], flags, exclusive| world.vfs.create(&ROOT, NodeNo::ROOT, name, 0o600, flags, exclusive);
    assert_eq!(errno(create(b"a", WRITE, true)), Errno::Exists);
    let (stat, handle) = create(b"a", OpenFlags { truncate: true, ..WRITE }, false).unwrap();
    assert_eq!((stat.size, stat.mode), (0, 0o644), "the mode of what exists stays");
    world.vfs.release(stat.node, handle);
    let append = OpenFlags { append: true, ..WRITE };
    let handle = world.vfs.open(&ROOT, stat.node, append).unwrap();
    world.vfs.write(&ROOT, stat.node, handle, 0, b"one").unwrap();
    world.vfs.write(&ROOT, stat.node, handle, 0, b"two").unwrap();
    world.vfs.write_back(&ROOT, stat.node, handle, 0, b"O").unwrap();
    assert_eq!(world.vfs.read(&ROOT, stat.node, handle, 0, 99).unwrap(), b"Onetwo");
    world.vfs.release(stat.node, handle);
    let handle = world.vfs.open(&ROOT, stat.node, READ).unwrap();
    assert_eq!(errno(world.vfs.write(&ROOT, stat.node, handle, 0, b"x")), Errno::BadHandle);
    world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755).unwrap();
    assert_eq!(errno(create(b"d", WRITE, false)), Errno::IsDirectory);
    assert_eq!(errno(create(&[b'n'; 256], WRITE, false)), Errno::NameTooLong);
    assert_eq!(create(&[b'n'; 255], WRITE, true).unwrap().0.size, 0);
    assert_eq!(errno(create(b"a/b", WRITE, false)), Errno::Invalid);
    assert_eq!(errno(world.vfs.readdir(&ROOT, stat.node, 0, 10)), Errno::NotDirectory);
    assert_eq!(errno(world.vfs.mkdir(&ROOT, stat.node, b"x", 0o755)), Errno::NotDirectory);
}

#[test]
fn special_files_and_symlinks_keep_what_they_were_made_with() {
    let world = World::new();
    let kinds = [Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice];
    for (i, kind) in kinds.into_iter().enumerate() {
        let name = format!("{i}");
        let stat = world.vfs.mknod(&ROOT, NodeNo::ROOT, name.as_bytes(), kind, 0o640, 0x0103).unwrap();
        let rdev = if i < 2 { 0 } else { 0x0103 };
        assert_eq!((stat.kind, stat.mode, stat.rdev, stat.size), (kind, 0o640, rdev, 0));
    }
    let long = vec![b't'; 4095];
    let link = world.vfs.symlink(&ROOT, NodeNo::ROOT, b"long", &long).unwrap();
    assert_eq!((link.size, link.mode), (4095, 0o777));
    assert_eq!(errno(world.vfs.symlink(&ROOT, NodeNo::ROOT, b"longer", &[b't'; 4096])), Errno::NameTooLong);
    let world = world.restart();
    assert_eq!(world.vfs.readlink(world.node("long")).unwrap(), long);
    assert_eq!(world.find("2").unwrap().rdev, 0x0103);
    assert_eq!(errno(world.vfs.readlink(world.node("2"))), Errno::Invalid);
}

#[test]
fn modes_are_checked_for_who_is_not_root() {
    let world = World::new();
    let vfs = &world.vfs;
    vfs.setattr(&ROOT, NodeNo::ROOT, &mode(0o777)).unwrap();
    let own = vfs.mkdir(&ALICE, NodeNo::ROOT, b"own", 0o755).unwrap();
    assert_eq!((own.uid, own.gid), (10, 20));
    let (file, handle) = vfs.create(&ALICE, own.node, b"f", 0o640, WRITE, true).unwrap();
    vfs.release(file.node, handle);
    assert_eq!(errno(vfs.create(&BOB, own.node, b"g", 0o644, WRITE, true)), Errno::Access);
    assert_eq!(errno(vfs.unlink(&BOB, own.node, b"f")), Errno::Access);
    assert_eq!(errno(vfs.rename(&BOB, own.node, b"f", NodeNo::ROOT, b"f", RenameHow::Replace)), Errno::Access);
    assert_eq!(errno(vfs.link(&BOB, file.node, own.node, b"l")), Errno::Access);
    assert_eq!(errno(vfs.open(&BOB, file.node, READ)), Errno::Access);
    assert_eq!(errno(vfs.setattr(&BOB, file.node, &mode(0o777))), Errno::NotPermitted);
    let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
    assert_eq!(errno(vfs.setattr(&BOB, file.node, &cut)), Errno::Access);
    let now = SetAttributes { atime: Some(SetTime::Now), mtime: Some(SetTime::Now), ..SetAttributes::default() };
    assert_eq!(errno(vfs.setattr(&BOB, file.node, &now)), Errno::Access);
    let then = SetAttributes { mtime: Some(SetTime::At(1)), ..SetAttributes::default() };
    assert_eq!(errno(vfs.setattr(&BOB, file.node, &then)), Errno::NotPermitted);
    assert_eq!(errno(vfs.setxattr(&BOB, file.node, b"user.x", b"1", SetXattr::Any)), Errno::Access);
    vfs.setattr(&ALICE, file.node, &mode(0o646)).unwrap();
    vfs.setattr(&BOB, file.node, &now).unwrap();
    assert_eq!(errno(vfs.setattr(&BOB, file.node, &then)), Errno::NotPermitted);
    vfs.setattr(&ALICE, own.node, &mode(0o600)).unwrap();
    assert_eq!(errno(vfs.lookup(&ALICE, own.node, b"f")), Errno::Access, "no search permission");
    let begun = vfs.readdir(&ALICE, own.node, 0, 1).unwrap().entries;
    vfs.setattr(&ALICE, own.node, &mode(0o300)).unwrap();
    assert_eq!(errno(vfs.readdir(&ALICE, own.node, 0, 1)), Errno::Access, "no read permission");
    assert!(vfs.readdir(&ALICE, own.node, begun[0].cookie, 1).is_ok(), "who has begun may go on");
    vfs.setattr(&ALICE, own.node, &mode(0o1777)).unwrap();
    assert_eq!(errno(vfs.unlink(&BOB, own.node, b"f")), Errno::NotPermitted, "sticky");
    let over = vfs.create(&BOB, own.node, b"mine", 0o644, WRITE, true).unwrap().0;
    assert_eq!(over.uid, 11);
    assert_eq!(errno(vfs.rename(&BOB, own.node, b"mine", own.node, b"f", RenameHow::Replace)), Errno::NotPermitted);
    vfs.rename(&ALICE, own.node, b"mine", own.node, b"f", RenameHow::Replace).unwrap();
    assert!(vfs.access(&BOB, over.node, 7).is_err() && vfs.access(&BOB, over.node, 6).is_ok());
}

#[test]
fn a_write_of_nothing_behind_the_end_makes_no_file_longer() {
    let world = World::new();
    let (stat, handle) = world.vfs.create(&ROOT, NodeNo::ROOT, b"f", 0o644, WRITE, true).unwrap();
    world.vfs.write(&ROOT, stat.node, handle, 7, b"").unwrap();
    assert_eq!(world.vfs.getattr(stat.node, Some(handle)).unwrap().size, 0);
}

#[test]
fn a_program_runs_for_who_may_run_it_also_without_the_right_to_read_it() {
    let world = World::new();
    let vfs = &world.vfs;
    vfs.setattr(&ROOT, NodeNo::ROOT, &mode(0o777)).unwrap();
    let (file, handle) = vfs.create(&ALICE, NodeNo::ROOT, b"program", 0o110, WRITE, true).unwrap();
    vfs.release(file.node, handle);
    let run = OpenFlags { execute: true, ..READ };
    let handle = vfs.open(&ALICE, file.node, run).unwrap();
    vfs.release(file.node, handle);
    assert_eq!(errno(vfs.open(&ALICE, file.node, READ)), Errno::Access);
    vfs.setattr(&ALICE, file.node, &mode(0o644)).unwrap();
    assert_eq!(errno(vfs.open(&ALICE, file.node, run)), Errno::Access);
}

#[test]
fn a_directory_moves_to_another_one_only_for_who_may_write_it() {
    let world = World::new();
    let vfs = &world.vfs;
    vfs.setattr(&ROOT, NodeNo::ROOT, &mode(0o777)).unwrap();
    let target = vfs.mkdir(&ALICE, NodeNo::ROOT, b"to", 0o777).unwrap().node;
    vfs.mkdir(&ALICE, NodeNo::ROOT, b"d", 0o755).unwrap();
    assert_eq!(errno(vfs.rename(&BOB, NodeNo::ROOT, b"d", target, b"d", RenameHow::Replace)), Errno::Access);
    vfs.rename(&BOB, NodeNo::ROOT, b"d", NodeNo::ROOT, b"e", RenameHow::Replace).unwrap();
    vfs.rename(&ALICE, NodeNo::ROOT, b"e", target, b"d", RenameHow::Replace).unwrap();
}

#[test]
fn set_id_bits_go_with_a_new_owner_and_with_new_bytes() {
    let world = World::new();
    let vfs = &world.vfs;
    vfs.setattr(&ROOT, NodeNo::ROOT, &mode(0o777)).unwrap();
    let (file, handle) = vfs.create(&ALICE, NodeNo::ROOT, b"f", 0o6777, WRITE, true).unwrap();
    assert_eq!(file.mode, 0o6777);
    vfs.write(&BOB, file.node, handle, 0, b"x").unwrap();
    assert_eq!(vfs.getattr(file.node, None).unwrap().mode, 0o777);
    vfs.setattr(&ALICE, file.node, &mode(0o6755)).unwrap();
    let give = SetAttributes { uid: Some(10), gid: Some(20), ..SetAttributes::default() };
    assert_eq!(vfs.setattr(&ALICE, file.node, &give).unwrap().mode, 0o755);
    let to_bob = SetAttributes { uid: Some(11), ..SetAttributes::default() };
    assert_eq!(errno(vfs.setattr(&ALICE, file.node, &to_bob)), Errno::NotPermitted);
    let owned = vfs.setattr(&ROOT, file.node, &to_bob).unwrap();
    assert_eq!((owned.uid, owned.gid), (11, 20));
    vfs.release(file.node, handle);
    let world = world.restart();
    assert_eq!(world.find("f").unwrap().uid, 11, "owners are kept on this device");
}

#[test]
fn what_is_made_in_a_set_group_directory_gets_its_group() {
    let world = World::new();
    let vfs = &world.vfs;
    vfs.setattr(&ROOT, NodeNo::ROOT, &mode(0o777)).unwrap();
    let directory = vfs.mkdir(&ALICE, NodeNo::ROOT, b"d", 0o2777).unwrap();
    let sub = vfs.mkdir(&BOB, directory.node, b"s", 0o755).unwrap();
    assert_eq!((sub.uid, sub.gid, sub.mode), (11, 20, 0o2755));
    let file = vfs.mknod(&BOB, directory.node, b"f", Kind::File, 0o644, 0).unwrap();
    assert_eq!((file.gid, file.mode), (20, 0o644));
}

#[test]
fn ranges_are_allocated_punched_and_sought() {
    let world = World::new();
    let vfs = &world.vfs;
    let stat = world.write_file(NodeNo::ROOT, "a", &[7; 10_000]);
    let handle = vfs.open(&ROOT, stat.node, WRITE).unwrap();
    let size = || vfs.getattr(stat.node, None).unwrap().size;
    let go = |offset, len, how| vfs.fallocate(&ROOT, stat.node, handle, offset, len, how);
    go(0, 20_000, Allocate::KeepSize).unwrap();
    assert_eq!(size(), 10_000);
    go(5_000, 15_000, Allocate::Extend).unwrap();
    assert_eq!(size(), 20_000);
    go(100, 200, Allocate::PunchHole).unwrap();
    go(19_000, 2_000, Allocate::ZeroRange).unwrap();
    assert_eq!(size(), 21_000);
    go(20_000, 9_000, Allocate::ZeroRangeKeepSize).unwrap();
    let mut expected = vec![7; 10_000];
    expected[100..300].fill(0);
    expected.resize(21_000, 0);
    assert_eq!(world.read_file(stat.node), expected);
    assert_eq!(vfs.seek(stat.node, handle, 150, Seek::Data).unwrap(), 150);
    assert_eq!(vfs.seek(stat.node, handle, 150, Seek::Hole).unwrap(), 21_000);
    assert_eq!(errno(vfs.seek(stat.node, handle, 21_000, Seek::Data)), Errno::NoDevice);
    assert_eq!(errno(go(0, 0, Allocate::Extend)), Errno::Invalid);
    assert_eq!(errno(go(u64::MAX - 1, 5, Allocate::Extend)), Errno::FileTooBig);
    assert_eq!(vfs.read(&ROOT, stat.node, handle, 20_990, 100).unwrap().len(), 10);
    assert_eq!(vfs.read(&ROOT, stat.node, handle, 30_000, 100).unwrap(), b"");
    vfs.fsync(stat.node, handle, false).unwrap();
}

#[test]
fn extended_attributes_keep_to_their_limits() {
    let world = World::new();
    let vfs = &world.vfs;
    let node = world.write_file(NodeNo::ROOT, "a", b"1").node;
    let set = |name: &[u8], value: &[u8], how| vfs.setxattr(&ROOT, node, name, value, how);
    set(b"user.b", b"2", SetXattr::Create).unwrap();
    set(b"user.a", b"", SetXattr::Any).unwrap();
    assert_eq!(errno(set(b"user.a", b"", SetXattr::Create)), Errno::Exists);
    assert_eq!(errno(set(b"user.c", b"", SetXattr::Replace)), Errno::NoData);
    assert_eq!(errno(set(&[&b"user."[..], &[b'x'; 251]].concat(), b"", SetXattr::Any)), Errno::Range);
    assert_eq!(errno(set(b"user.big", &vec![0; 65_537], SetXattr::Any)), Errno::TooBig);
    assert_eq!(errno(set(b"user.big", &vec![0; 65_536], SetXattr::Any)), Errno::NoSpace);
    set(b"user.big", &vec![0; 60_000], SetXattr::Any).unwrap();
    assert_eq!(errno(set(b"security.x", b"", SetXattr::Any)), Errno::NotSupported);
    assert_eq!(errno(set(b"user.ourobox.state", b"", SetXattr::Any)), Errno::NotPermitted);
    assert_eq!(vfs.listxattr(&ROOT, node).unwrap(), b"user.a\0user.b\0user.big\0");
    vfs.removexattr(&ROOT, node, b"user.big").unwrap();
    assert_eq!(errno(vfs.removexattr(&ROOT, node, b"user.big")), Errno::NoData);
    let link = vfs.symlink(&ROOT, NodeNo::ROOT, b"l", b"t").unwrap().node;
    assert_eq!(errno(vfs.setxattr(&ROOT, link, b"user.x", b"", SetXattr::Any)), Errno::NotPermitted);
    let get = |name: &[u8]| vfs.getxattr(&ROOT, node, name);
    assert_eq!(get(b"user.b").unwrap(), b"2");
    assert_eq!(errno(get(b"user.c")), Errno::NoData);
    assert_eq!(errno(get(b"system.posix_acl_access")), Errno::NotSupported);
    assert_eq!(get(b"user.ourobox.state").unwrap(), b"pending");
    assert_eq!(get(b"user.ourobox.residency").unwrap(), b"local");
    assert_eq!(get(b"user.ourobox.pin").unwrap(), b"auto");
    set(b"user.ourobox.pin", b"keep", SetXattr::Any).unwrap();
    assert_eq!(get(b"user.ourobox.pin").unwrap(), b"keep");
    world.publish();
    assert_eq!(get(b"user.ourobox.state").unwrap(), b"kept");
    assert_eq!(get(b"user.ourobox.content-id").unwrap().len(), 64);
    vfs.setxattr(&ROOT, NodeNo::ROOT, b"user.root", b"r", SetXattr::Any).unwrap();
    let world = world.restart();
    assert_eq!(world.vfs.getxattr(&ROOT, world.node("a"), b"user.b").unwrap(), b"2");
    assert_eq!(world.vfs.getxattr(&ROOT, NodeNo::ROOT, b"user.root").unwrap(), b"r");
    assert_eq!(world.vfs.getxattr(&ROOT, world.node("a"), b"user.ourobox.pin").unwrap(), b"keep");
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let world = World::with(VfsOptions { read_only: true, ..VfsOptions::default() });
    let vfs = &world.vfs;
    assert_eq!(errno(vfs.mkdir(&ROOT, NodeNo::ROOT, b"d", 0o755)), Errno::ReadOnly);
    assert_eq!(errno(vfs.create(&ROOT, NodeNo::ROOT, b"f", 0o755, WRITE, false)), Errno::ReadOnly);
    assert_eq!(errno(vfs.setattr(&ROOT, NodeNo::ROOT, &mode(0))), Errno::ReadOnly);
    assert_eq!(errno(vfs.unlink(&ROOT, NodeNo::ROOT, b"f")), Errno::ReadOnly);
    assert_eq!(errno(vfs.access(&ROOT, NodeNo::ROOT, 2)), Errno::ReadOnly);
    assert!(vfs.statfs(NodeNo::ROOT).total > 0);
}
