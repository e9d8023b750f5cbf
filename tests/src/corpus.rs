//! Trees to put into a box: a real one, and one with everything that is odd.

use crate::pseudo::Pseudo;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// Where real files are taken from.
const SOURCES: &[&str] = &["/usr/share", "/usr/lib"];
/// Larger real files are left out.
const REAL_BYTES_MAX: u64 = 1 << 20;
/// Arguments per call of cp.
const COPY_AT_ONCE: usize = 400;

/// Copies about so many files and symlinks of this system to `target`, with their directories, modes and times.
///
/// # Panics
///
/// If the system has fewer, or one cannot be copied.
pub fn plant_real(target: &Path, count: usize) {
    fs::create_dir_all(target).expect("made");
    let mut left = count;
    for source in SOURCES {
        let mut names = Vec::new();
        collect(Path::new(source), Path::new(""), &mut left, &mut names);
        for part in names.chunks(COPY_AT_ONCE) {
            let mut copy = Command::new("cp");
            copy.args(["-a", "--no-preserve=ownership", "--parents", "--target-directory"])
                .arg(target)
                .arg("--")
                .args(part);
            let status = copy.current_dir(source).status().expect("cp runs");
            assert!(status.success(), "cp failed");
        }
    }
    assert_eq!(left, 0, "this system has too few files below {SOURCES:?}");
}

fn collect(source: &Path, relative: &Path, left: &mut usize, names: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(source.join(relative)) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if *left == 0 {
            return;
        }
        let name = relative.join(entry.file_name());
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            collect(source, &name, left, names);
        } else if metadata.is_symlink() || metadata.is_file() && metadata.len() <= REAL_BYTES_MAX {
            names.push(name);
            *left -= 1;
        }
    }
}

/// Names that programs stumble over.
const ODD_NAMES: &[&[u8]] = &[
    b"two  spaces ",
    b"new\nline",
    b"tab\tand\rreturn",
    b"not UTF-8 \xff\xfe\x80",
    b"\xc3\x84pfel and \xf0\x9f\x8d\x8e",
    b"A\xcc\x88pfel and \xf0\x9f\x8d\x8e",
    b"-rf",
    b"*?[x]{a,b}$HOME`id`\"'\\",
    b"CON",
    b"...",
    b"trailing dot.",
    b"name (conflict from nobody 2026-01-01 00.00).txt",
];

/// Makes a tree of everything that is odd: names, sizes at borders, modes, times, links, extended attributes, holes.
///
/// # Panics
///
/// If something cannot be made.
pub fn plant_odd(target: &Path) {
    let make = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let folder = |name: &str| {
        let path = target.join(name);
        fs::create_dir_all(&path).expect("made");
        path
    };
    let mut random = Pseudo::new(7);

    let names = folder("names");
    for name in ODD_NAMES {
        make(&names.join(OsStr::from_bytes(name)), name);
        fs::create_dir(names.join(OsStr::from_bytes(&[name, &b" as a directory"[..]].concat()))).expect("made");
    }
    make(&names.join("x".repeat(255)), b"255 bytes");
    let mut deep = folder("deep");
    for level in 0..40 {
        deep = deep.join(format!("level {level}"));
        fs::create_dir(&deep).expect("made");
    }
    make(&deep.join("bottom"), b"deep down");

    let sizes = folder("sizes");
    for size in [0, 1, 255, 256, 257, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) + 3] {
        make(&sizes.join(size.to_string()), &random.bytes(size));
    }
    make(&sizes.join("zeros"), &vec![0; 3 << 20]);
    File::create(sizes.join("hole"))
        .and_then(|file| file.set_len(2 << 20).and_then(|()| file.write_all_at(b"end", (1 << 20) + 17)))
        .expect("sparse");

    let links = folder("links");
    make(&links.join("one"), b"three names");
    fs::hard_link(links.join("one"), links.join("two")).expect("linked");
    fs::hard_link(links.join("one"), sizes.join("three")).expect("linked");
    symlink("one", links.join("relative")).expect("linked");
    symlink("/nowhere/at all", links.join("dangling")).expect("linked");
    symlink("t".repeat(4000), links.join("long")).expect("linked");
    symlink(OsStr::from_bytes(b"bytes \xff"), links.join("bytes")).expect("linked");
    rustix::fs::mkfifoat(rustix::fs::CWD, links.join("fifo"), 0o640.into()).expect("made");

    let xattrs = folder("xattrs");
    make(&xattrs.join("file"), b"with attributes");
    for (name, value) in
        [("user.plain", &b"text"[..]), ("user.empty", b""), ("user.binary", b"\0\xff\0"), ("user.long", &[b'x'; 2000])]
    {
        for path in [xattrs.join("file"), xattrs.clone()] {
            rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty()).expect("the disk has attributes");
        }
    }

    folder("empty");
    let modes = folder("modes");
    for mode in [0o000, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o666] {
        let path = modes.join(format!("{mode:o}"));
        File::create(&path).and_then(|mut file| write!(file, "{mode:o}")).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
    }
    fs::set_permissions(folder("modes/directory"), Permissions::from_mode(0o1771)).expect("set");

    // Times come last: everything above changes them.
    let times = folder("times");
    let at = |name: &str, time| {
        let path = times.join(name);
        File::create(&path).and_then(|file| file.set_times(FileTimes::new().set_modified(time))).expect("set");
    };
    at("nanoseconds", UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789));
    at("the first", UNIX_EPOCH + Duration::from_nanos(1));
    at("before", UNIX_EPOCH - Duration::new(86_400, 5));
    at("far", UNIX_EPOCH + Duration::from_secs(5_000_000_000));
    let directory = File::open(&times).expect("it is there");
    directory
        .set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(1_600_000_000, 987_654_321)))
        .expect("set");
}
