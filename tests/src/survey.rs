//! What a tree looks like to a user: names, kinds, modes, times, contents, links and extended attributes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Extended attributes longer than this are cut.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Differences shown.
const SHOWN_MAX: usize = 20;

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `f`, `d`, `l`, `p` or `?`.
    pub kind: char,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes of a file; of other kinds 0.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// A file's BLAKE3, or a symlink's target.
    pub content: Vec<u8>,
    /// `user.*` attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first other name of the same file, in the order of names, if it has several.
    pub same_as: Option<PathBuf>,
}

/// Looks at everything below `root`, by path relative to it. `.snapshots` is not entered, since it is not listed.
///
/// # Panics
///
/// If something cannot be read.
pub fn survey(root: &Path) -> BTreeMap<PathBuf, Entry> {
    try_survey(root).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether two trees look the same now, but for the times of directories. They may still change: what went while it was looked at is not the same.
pub fn look_same(one: &Path, other: &Path) -> bool {
    let look = |root| try_survey(root).map(without_directory_times).ok();
    look(one).is_some_and(|one| Some(one) == look(other))
}

fn in_words(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

fn try_survey(root: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let folder = root.join(&relative);
        for entry in fs::read_dir(&folder).map_err(|error| in_words(error, "list", &folder))? {
            let entry = entry.map_err(|error| in_words(error, "list", &folder))?;
            let name = relative.join(entry.file_name());
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).map_err(|error| in_words(error, "stat", &path))?;
            if metadata.is_dir() {
                todo.push(name.clone());
            }
            found.insert(name, (look(&path, &metadata)?, metadata));
        }
    }
    let mut first: HashMap<u64, PathBuf> = HashMap::new();
    let mut entries = BTreeMap::new();
    for (name, (mut entry, metadata)) in found {
        if metadata.nlink() > 1 && !metadata.is_dir() {
            let one = first.entry(metadata.ino()).or_insert_with(|| name.clone());
            entry.same_as = (*one != name).then(|| one.clone());
        }
        entries.insert(name, entry);
    }
    Ok(entries)
}

fn look(path: &Path, metadata: &Metadata) -> io::Result<Entry> {
    let kind = metadata.file_type();
    let (letter, content) = if kind.is_file() {
        ('f', hash(path).map_err(|error| in_words(error, "read", path))?)
    } else if kind.is_dir() {
        ('d', Vec::new())
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(|error| in_words(error, "read the link", path))?;
        ('l', target.as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        ('p', Vec::new())
    } else {
        ('?', Vec::new())
    };
    Ok(Entry {
        kind: letter,
        mode: metadata.mode() & 0o7777,
        size: if kind.is_file() { metadata.len() } else { 0 },
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        xattrs: if kind.is_symlink() { BTreeMap::new() } else { xattrs(path)? },
        same_as: None,
    })
}

fn hash(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, mut hasher) = (fs::File::open(path)?, blake3::Hasher::new());
    let mut bytes = vec![0; 256 << 10];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hasher.finalize().as_bytes().to_vec()),
            count => hasher.update(&bytes[..count]),
        };
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0_u8; XATTR_BYTES_MAX];
    let count = rustix::fs::llistxattr(path, &mut names[..])
        .map_err(|error| in_words(error.into(), "list the attributes of", path))?;
    let mut found = BTreeMap::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let key = CString::new(name).expect("split at zeros");
        let mut value = vec![0_u8; XATTR_BYTES_MAX];
        let count = rustix::fs::lgetxattr(path, &key, &mut value[..])
            .map_err(|error| in_words(error.into(), "read the attributes of", path))?;
        value.truncate(count);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// Leaves out the times of directories: after a change of their listing each device has its own.
pub fn without_directory_times(mut tree: BTreeMap<PathBuf, Entry>) -> BTreeMap<PathBuf, Entry> {
    tree.values_mut().filter(|entry| entry.kind == 'd').for_each(|entry| entry.mtime = (0, 0));
    tree
}

/// Compares two trees.
///
/// # Panics
///
/// If they differ, naming the first differences.
pub fn assert_same(what: &str, expected: &BTreeMap<PathBuf, Entry>, found: &BTreeMap<PathBuf, Entry>) {
    let mut differences = Vec::new();
    for (name, entry) in expected {
        match found.get(name) {
            None => differences.push(format!("{name:?} is missing")),
            Some(other) if other != entry => {
                differences.push(format!("{name:?}\n   expected {entry:?}\n   found    {other:?}"))
            }
            Some(_) => {}
        }
    }
    differences
        .extend(found.keys().filter(|name| !expected.contains_key(*name)).map(|name| format!("{name:?} is too much")));
    if differences.is_empty() {
        return;
    }
    let mut text = format!("{what}: {} of {} entries differ", differences.len(), expected.len());
    for difference in differences.iter().take(SHOWN_MAX) {
        let _infallible = write!(text, "\n  {difference}");
    }
    panic!("{text}");
}
