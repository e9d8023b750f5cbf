//! The door between a real kernel and a real box.

mod support;

use ouro_core::content::Content;
use ouro_core::id::FileId;
use ouro_core::state::Kind;
use ouro_fuse::{MountError, MountOptions};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use support::{World, can_mount, soon};

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().expect("an error of the system")
}

#[test]
fn what_is_written_is_read_and_survives_a_remount() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    fs::create_dir_all(world.at("a/b")).expect("made");
    fs::write(world.at("a/b/large"), &bytes).expect("written");
    fs::write(world.at("a/small"), "hello").expect("written");
    fs::rename(world.at("a/small"), world.at("a/b/renamed")).expect("renamed");
    symlink("b/renamed", world.at("a/link")).expect("linked");
    fs::hard_link(world.at("a/b/large"), world.at("hard")).expect("linked");
    let check = |world: &World| {
        assert_eq!(fs::read(world.at("a/b/large")).expect("readable"), bytes);
        assert_eq!(fs::read_to_string(world.at("a/link")).expect("through the link"), "hello");
        assert_eq!(fs::metadata(world.at("hard")).expect("there").nlink(), 2);
        assert_eq!(
            fs::metadata(world.at("hard")).expect("there").ino(),
            fs::metadata(world.at("a/b/large")).expect("there").ino()
        );
        assert_eq!(fs::metadata(world.at("a/small")).expect_err("renamed").kind(), ErrorKind::NotFound);
    };
    check(&world);
    let world = world.remount();
    check(&world);
}

#[test]
fn a_large_directory_lists_each_entry_once_with_its_attributes() {
    if !can_mount() {
        return;
    }
    const COUNT: usize = 3000;
    let world = World::new();
    let directory = world.at("many");
    fs::create_dir(&directory).expect("made");
    for number in 0..COUNT {
        fs::write(directory.join(format!("{number:05}-a name of some length")), number.to_string()).expect("written");
    }
    let world = world.remount();
    let list = || -> Vec<(Vec<u8>, u64)> {
        let entries = fs::read_dir(world.at("many")).expect("listed");
        let entries = entries.map(|entry| entry.expect("an entry"));
        entries
            .map(|entry| (entry.file_name().as_encoded_bytes().to_vec(), entry.metadata().expect("there").len()))
            .collect()
    };
    for _ in 0..2 {
        let listed = list();
        assert_eq!(listed.len(), COUNT);
        assert_eq!(listed.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), COUNT);
        assert!(listed.iter().all(|(name, size)| {
            let number: usize = String::from_utf8_lossy(&name[..5]).parse().expect("digits");
            *size == number.to_string().len() as u64
        }));
    }
    fs::remove_file(world.at("many/00007-a name of some length")).expect("removed");
    fs::write(world.at("many/new"), "").expect("written");
    let names: BTreeSet<_> = list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), COUNT);
    assert!(names.contains(&b"new"[..]) && !names.contains(&b"00007-a name of some length"[..]));
}

#[test]
fn errors_have_the_numbers_of_a_local_disk() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    fs::create_dir(world.at("full")).expect("made");
    fs::write(world.at("full/file"), "x").expect("written");
    assert_eq!(errno(&fs::remove_dir(world.at("full")).expect_err("not empty")), 39);
    assert_eq!(errno(&fs::create_dir(world.at("full")).expect_err("exists")), 17);
    assert_eq!(errno(&fs::read(world.at("full")).expect_err("a directory")), 21);
    assert_eq!(errno(&fs::read(world.at("full/file/x")).expect_err("no directory")), 20);
    assert_eq!(errno(&fs::write(world.at(&"n".repeat(256)), "").expect_err("too long")), 36);
    let twice = OpenOptions::new().write(true).create_new(true).open(world.at("full/file"));
    assert_eq!(errno(&twice.expect_err("exists")), 17);
}

#[test]
fn appending_truncating_holes_and_times_work_through_the_kernel() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    fs::write(world.at("f"), "one").expect("written");
    let mut append = OpenOptions::new().append(true).open(world.at("f")).expect("opened");
    append.write_all(b" two").expect("appended");
    assert_eq!(fs::read_to_string(world.at("f")).expect("readable"), "one two");
    let file = OpenOptions::new().read(true).write(true).open(world.at("f")).expect("opened");
    file.set_len(3).expect("cut");
    file.write_at(b"end", 100_000).expect("written beyond the end");
    assert_eq!(file.metadata().expect("there").len(), 100_003);
    let mut middle = [1; 4];
    file.read_exact_at(&mut middle, 50_000).expect("a hole");
    assert_eq!(middle, [0; 4]);
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, flags, 0, 2).expect("punched");
    let mut head = [1; 3];
    file.read_exact_at(&mut head, 0).expect("readable");
    assert_eq!(&head, b"\0\0e");
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(500)).expect("all is data"), 500);
    drop(OpenOptions::new().write(true).truncate(true).open(world.at("f")).expect("emptied"));
    assert_eq!(fs::metadata(world.at("f")).expect("there").len(), 0);
    let before_1970 = rustix::fs::Timespec { tv_sec: -2, tv_nsec: 250_000_000 };
    let times = rustix::fs::Timestamps { last_access: before_1970, last_modification: before_1970 };
    rustix::fs::futimens(&file, &times).expect("set");
    let metadata = file.metadata().expect("there");
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 250_000_000));
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(world.at("f")).expect("made");
    fs::remove_file(world.at("f")).expect("removed");
    file.write_all(b"still here").expect("written");
    file.seek(SeekFrom::Start(0)).expect("sought");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "still here");
    assert_eq!(file.metadata().expect("open").nlink(), 0);
    assert!(!world.at("f").exists());
}

#[test]
fn attributes_of_the_user_are_kept_and_those_of_the_system_are_refused_at_once() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let file = world.at("f");
    fs::write(&file, "x").expect("written");
    let any = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "user.tag", b"blue", any).expect("set");
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&file, "user.tag", &mut value[..]).expect("there");
    assert_eq!(&value[..length], b"blue");
    assert_eq!(rustix::fs::getxattr_query(&file, "user.tag"), Ok(4), "asks for the length");
    let mut small = [0; 2];
    assert_eq!(rustix::fs::getxattr(&file, "user.tag", &mut small[..]), Err(rustix::io::Errno::RANGE));
    let mut names = [0; 64];
    let length = rustix::fs::listxattr(&file, &mut names[..]).expect("listed");
    assert_eq!(&names[..length], b"user.tag\0");
    for foreign in ["security.capability", "system.posix_acl_access"] {
        assert_eq!(
            rustix::fs::getxattr(&file, foreign, &mut value[..]),
            Err(rustix::io::Errno::OPNOTSUPP),
            "{foreign}"
        );
    }
    assert_eq!(rustix::fs::getxattr(&file, "user.none", &mut value[..]), Err(rustix::io::Errno::NODATA));
    let create = rustix::fs::XattrFlags::CREATE;
    assert_eq!(rustix::fs::setxattr(&file, "user.tag", b"red", create), Err(rustix::io::Errno::EXIST));
    rustix::fs::removexattr(&file, "user.tag").expect("removed");
    assert_eq!(rustix::fs::getxattr(&file, "user.tag", &mut value[..]), Err(rustix::io::Errno::NODATA));
}

#[test]
fn what_another_device_did_is_seen_though_the_kernel_keeps_names_for_ever() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let list = || {
        fs::read_dir(&world.path).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
    };
    assert!(list().is_empty());
    assert!(!world.at("theirs").exists(), "the kernel now knows that there is nothing");
    let bytes = vec![5; 100_000];
    world.learn_file(1, "theirs", &bytes, true);
    soon("the name appears", || world.at("theirs").exists());
    assert_eq!(fs::read(world.at("theirs")).expect("fetched"), bytes);
    soon("the listing holds it", || list() == [OsStr::new("theirs")]);
}

#[test]
fn what_came_while_a_device_was_away_is_seen_though_the_kernel_knew_that_there_was_nothing() {
    if !can_mount() {
        return;
    }
    let (world, other) = (World::new(), World::new());
    let make = |world: &World, seq, directory, name| {
        world.learn(seq, Kind::File, directory, name, Some(Content::Inline(b"theirs"[..].into())))
    };
    for world in [&world, &other] {
        let outer = world.learn(1, Kind::Directory, FileId::ROOT, "outer", None);
        let inner = world.learn(2, Kind::Directory, outer, "inner", None);
        make(world, 3, inner, "before");
    }
    // Somebody stands in a directory, and has a file in it open.
    let standing = File::open(world.at("outer/inner")).expect("there");
    let open = File::open(world.at("outer/inner/before")).expect("there");
    let new = ["new", "outer/new", "outer/inner/new"];
    assert!(new.iter().all(|path| !world.at(path).exists()), "the kernel now knows that there is nothing");
    assert_eq!(fs::read_dir(world.at("outer/inner")).expect("listed").count(), 1);
    let outer = FileId(fs::metadata(other.at("outer")).expect("there").ino());
    let inner = FileId(fs::metadata(other.at("outer/inner")).expect("there").ino());
    for (seq, directory) in (4..).zip([FileId::ROOT, outer, inner]) {
        make(&other, seq, directory, "new");
    }
    world.begin_anew_on(&other);
    for path in new {
        soon(path, || fs::read(world.at(path)).is_ok_and(|bytes| bytes == b"theirs"));
    }
    soon("the listing holds it", || fs::read_dir(world.at("outer/inner")).expect("listed").count() == 2);
    drop((standing, open));
}

#[test]
fn snapshots_are_listed_anew_each_time_though_the_kernel_keeps_listings() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let count = || fs::read_dir(world.at(".snapshots")).expect("listed").count();
    for seq in 1..4 {
        let before = count();
        world.learn_file(seq, &format!("theirs {seq}"), b"1", true);
        soon("the listing holds the new commit", || count() > before);
    }
}

#[test]
fn a_read_that_waits_for_the_remote_ends_when_its_program_is_interrupted() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    world.learn_file(1, "nowhere", &[7; 100_000], false);
    soon("the name appears", || world.at("nowhere").exists());
    // Whoever starts these tests in the background may have made them, and so their children, ignore Ctrl-C.
    let mut reader = Command::new("env");
    reader.args(["--default-signal=INT", "cat"]).arg(world.at("nowhere"));
    let mut reader = reader.stdout(Stdio::null()).spawn().expect("cat runs");
    let pid = rustix::process::Pid::from_child(&reader);
    // It waits in the kernel as soon as it sleeps for a page or for our answer: no sign of it but its state.
    let look = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", reader.id())).unwrap_or_default();
    soon("cat waits", || {
        let wchan = look("wchan");
        let is_asleep = look("stat").contains(" S ") || look("stat").contains(" D ");
        is_asleep && look("comm") == "cat\n" && (wchan.contains("folio") || wchan.contains("fuse") || wchan == "0")
    });
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is there");
    let status = reader.wait().expect("it ends");
    assert!(!status.success());
    fs::write(world.at("other"), "x").expect("the mount goes on");
}

#[test]
fn a_mount_in_use_is_not_taken_down_and_one_that_is_not_leaves_a_locked_directory() {
    if !can_mount() {
        return;
    }
    let mut world = World::new();
    let table = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let line = table.lines().find(|line| line.contains(world.path.to_str().expect("UTF-8"))).expect("listed");
    assert!(line.contains(" - fuse.ourobox ourobox "), "{line}");
    let open = File::create(world.at("f")).expect("made");
    let mount = world.mount.as_ref().expect("mounted");
    assert!(matches!(mount.try_unmount(), Err(MountError::Busy { .. })));
    assert!(!mount.is_unmounted());
    drop(open);
    // The kernel tells of the last close a moment after close(2) returned.
    soon("nobody uses it", || mount.try_unmount().is_ok());
    assert!(mount.is_unmounted());
    world.mount.take().expect("mounted").unmount().expect("nothing is left to do");
    assert_eq!(fs::metadata(&world.path).expect("there").permissions().mode() & 0o777, 0o555);
    assert_eq!(fs::read_dir(&world.path).expect("listed").count(), 0);
}

#[test]
fn a_mount_in_use_can_be_left_to_its_last_user() {
    if !can_mount() {
        return;
    }
    let mut world = World::new();
    let mut open = File::create(world.at("f")).expect("made");
    let mount = world.mount.take().expect("mounted");
    let ended = mount.on_unmounted();
    mount.unmount().expect("out of the tree");
    assert_eq!(fs::read_dir(&world.path).expect("the bare directory").count(), 0);
    open.write_all(b"to the last").expect("it still works");
    drop(open);
    futures::executor::block_on(ended);
}

#[test]
fn unmounting_from_outside_is_noticed() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount.as_ref().expect("mounted");
    assert!(Command::new("umount").arg(&world.path).status().expect("umount runs").success());
    mount.wait();
    assert!(mount.is_unmounted());
}

#[test]
fn others_are_let_in_only_when_that_was_chosen() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let as_nobody = |path: &std::path::Path| {
        let shell = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        shell.expect("setpriv runs").success()
    };
    let open = World::with(|options| options.allow_other = true);
    fs::set_permissions(open.folder.path(), fs::Permissions::from_mode(0o755)).expect("allowed");
    assert!(as_nobody(&open.path));
    fs::set_permissions(&open.path, fs::Permissions::from_mode(0o700)).expect("allowed");
    assert!(!as_nobody(&open.path), "the kernel checks permissions");
    let closed = World::new();
    fs::set_permissions(closed.folder.path(), fs::Permissions::from_mode(0o755)).expect("allowed");
    assert!(!as_nobody(&closed.path));
}

#[test]
fn direct_input_and_output_work() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    fs::write(world.at("f"), [3; 10_000]).expect("written");
    let file = OpenOptions::new().read(true).custom_flags(0o40000).open(world.at("f")).expect("O_DIRECT");
    let mut bytes = vec![0; 20_000];
    assert_eq!(file.read_at(&mut bytes, 0).expect("readable"), 10_000, "short at the end of the file");
    assert!(bytes[..10_000].iter().all(|&byte| byte == 3));
}

/// Mounts and says so, to be killed. Runs only when the test below starts it.
#[test]
fn child_that_will_be_killed() {
    if std::env::var_os("OUROBOX_TEST_CHILD").is_none() {
        return;
    }
    let world = World::new();
    fs::write(world.at("f"), "x").expect("written");
    println!("\nmounted:{}", world.path.display());
    world.mount.as_ref().expect("mounted").wait();
}

#[test]
fn the_mount_of_a_killed_process_is_cleared_and_mounted_again() {
    if !can_mount() {
        return;
    }
    let program = std::env::current_exe().expect("this test");
    let mut child = Command::new(program)
        .args(["--exact", "child_that_will_be_killed", "--nocapture"])
        .env("OUROBOX_TEST_CHILD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = io::BufReader::new(child.stdout.take().expect("piped"));
    let path = loop {
        let mut line = String::new();
        assert_ne!(io::BufRead::read_line(&mut said, &mut line).expect("it says something"), 0, "it ended");
        if let Some(path) = line.trim().strip_prefix("mounted:") {
            break std::path::PathBuf::from(path);
        }
    };
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    assert_eq!(errno(&fs::read_dir(&path).expect_err("dead")), 107);
    assert!(ouro_fuse::recover_dead_mount(&path).expect("it is ours"));
    assert!(!ouro_fuse::recover_dead_mount(&path).expect("nothing left"));
    ouro_fuse::check_mountpoint(&path, &[]).expect("free again");
    fs::remove_dir_all(path.parent().expect("its folder")).expect("nothing is mounted there");
    assert_eq!(MountOptions::new(&path).threads, 2);
}
