//! A tree on this machine, walked in the order in which its entries are to be born in a box: a directory, what is in it, then the
//! directories in it, each by name. So neighbours in the tree get neighbouring ids.

use crate::api::Failure;
use crate::engine::Engine;
use crate::import::Target;
use ouro_core::content::{Content, Xattrs};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::Seen;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::ignore::{Ignore, RULES_BYTES_MAX, RULES_NAME};
use ouro_sync::{Import, Incoming, Inflow, Ordinal};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries handed over at once.
const BATCH_ENTRIES: usize = 4_096;
/// Bytes of files handed over at once.
const BATCH_BYTES: u64 = 256 << 20;
/// Most bytes of the names of a file's extended attributes, as on Linux.
const XATTR_NAMES_BYTES_MAX: usize = 64 << 10;
/// Longest value of an extended attribute, as on Linux.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// What the box has at an entry already.
pub(crate) enum Stands {
    /// A directory: the union shown as one.
    Directory(Vec<FileId>),
    /// The same file, of which further names may follow.
    File(FileId, Place),
}

impl Stands {
    pub(crate) fn tell(self, import: &mut Import, ordinal: Ordinal) {
        match self {
            Stands::Directory(union) => import.stands(ordinal, union),
            Stands::File(file, place) => import.stands_as(ordinal, file, place),
        }
    }
}

/// A part of the tree.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Incoming>,
    /// Where each entry comes from, in the order of their ordinals.
    pub(crate) labels: Vec<(Ordinal, PathBuf)>,
    pub(crate) standing: Vec<(Ordinal, Stands)>,
    /// Entries that the box has already, the same.
    pub(crate) same: u64,
    /// Entries whose names are ignored.
    pub(crate) ignored: u64,
    pub(crate) left_out: Vec<(PathBuf, String)>,
    /// Directories of which nothing more comes after this batch.
    pub(crate) finished: Vec<Ordinal>,
    bytes: u64,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.same == 0 && self.ignored == 0 && self.left_out.is_empty()
    }
}

/// A directory on the way.
struct Directory {
    ordinal: Ordinal,
    path: PathBuf,
    /// Names from the box's root.
    inside: Vec<Name>,
    /// What it is in the box, if it stood there before.
    standing: Option<Vec<FileId>>,
}

/// An entry as the directory lists it.
struct Listed {
    name: Name,
    path: PathBuf,
    metadata: Metadata,
}

/// What is still to be done, last first.
enum Step {
    /// A directory in another one is met, and walked.
    Enter(Arc<Directory>, Box<Listed>),
    /// A directory that stands is walked.
    Walk(Arc<Directory>),
    /// Nothing more comes for a directory.
    Leave(Ordinal),
}

/// The walk; see the module's head.
pub(crate) struct Walk<'a> {
    engine: &'a Engine,
    target: Target,
    rules: Ignore,
    next: Ordinal,
    steps: Vec<Step>,
    /// What is left of a directory's entries, directories apart.
    rest: Option<(Arc<Directory>, std::vec::IntoIter<Listed>)>,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), Ordinal>,
    /// Not to be walked into: mounts of this engine, and where it keeps its state.
    barred: Vec<PathBuf>,
    owner: (u32, u32),
}

impl<'a> Walk<'a> {
    /// A walk of `source`, which becomes `name` in `target`, or `target` itself. Ordinal 0 is `target`.
    pub(crate) fn new(
        engine: &'a Engine,
        source: &Path,
        target: Target,
        name: Option<Name>,
    ) -> Result<Walk<'a>, Failure> {
        let mounts = engine.attached.lock().iter().map(|a| a.mountpoint.clone()).collect::<Vec<_>>();
        let kept = engine.cache_dirs().into_iter().filter_map(|dir| dir.canonicalize().ok());
        let above = Arc::new(Directory {
            ordinal: 0,
            path: source.to_owned(),
            inside: target.path.clone(),
            standing: Some(target.union.clone()),
        });
        for member in &target.union {
            engine.ask(&target.open, |volume| volume.meet_rules(*member))?;
        }
        let first = match name {
            None => Step::Walk(above),
            Some(name) => {
                let metadata = std::fs::symlink_metadata(source).map_err(|error| Failure::io(source, &error))?;
                Step::Enter(above, Box::new(Listed { name, path: source.to_owned(), metadata }))
            }
        };
        Ok(Walk {
            engine,
            target,
            rules: Ignore::new(),
            next: 1,
            steps: vec![first],
            rest: None,
            linked: HashMap::new(),
            barred: mounts.into_iter().chain(kept).collect(),
            owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        })
    }

    /// The next part of the tree; empty at its end.
    pub(crate) fn next_batch(&mut self) -> Result<Batch, Failure> {
        let mut batch = Batch::default();
        while batch.entries.len() < BATCH_ENTRIES && batch.bytes < BATCH_BYTES {
            if let Some((directory, mut entries)) = self.rest.take() {
                if let Some(listed) = entries.next() {
                    self.enter(&directory, listed, &mut batch)?;
                    self.rest = Some((directory, entries));
                }
                continue;
            }
            match self.steps.pop() {
                None => break,
                Some(Step::Leave(ordinal)) => batch.finished.push(ordinal),
                Some(Step::Walk(directory)) => self.walk(directory, &mut batch)?,
                Some(Step::Enter(parent, listed)) => {
                    if let Some(directory) = self.enter(&parent, *listed, &mut batch)? {
                        self.walk(Arc::new(directory), &mut batch)?;
                    }
                }
            }
        }
        Ok(batch)
    }

    /// Lists a directory and lays out what comes next: its entries by name, then the directories in it by name.
    fn walk(&mut self, directory: Arc<Directory>, batch: &mut Batch) -> Result<(), Failure> {
        // What the box's own rules ignore there does not travel either.
        for member in directory.standing.iter().flatten() {
            self.engine.ask(&self.target.open, |volume| volume.meet_rules(*member))?;
        }
        let mut entries = list(&directory, batch);
        entries.sort_by(|a, b| (a.metadata.is_dir(), &a.name).cmp(&(b.metadata.is_dir(), &b.name)));
        if let Some(rules) = entries.iter().find(|e| e.name.as_bytes() == RULES_NAME && e.metadata.is_file()) {
            self.read_rules(&directory, rules);
        }
        let below = entries.split_off(entries.partition_point(|e| !e.metadata.is_dir()));
        self.steps.push(Step::Leave(directory.ordinal));
        self.steps.extend(below.into_iter().rev().map(|listed| Step::Enter(Arc::clone(&directory), Box::new(listed))));
        self.rest = Some((directory, entries.into_iter()));
        Ok(())
    }

    fn read_rules(&self, directory: &Directory, rules: &Listed) {
        if rules.metadata.len() > RULES_BYTES_MAX as u64 {
            return;
        }
        // What cannot be read here is left out, and named, when its turn comes.
        let Ok(content) = std::fs::read(&rules.path) else { return };
        let path: Vec<&[u8]> = directory.inside.iter().map(Name::as_bytes).collect();
        for bad in self.rules.set(&path, Some(&content)) {
            tracing::warn!(line = bad.line, reason = %bad.reason, "a line of an .ouroignore is no rule");
        }
    }

    /// Puts an entry into the batch. Returns the directory that is to be walked, if it is one.
    fn enter(&mut self, parent: &Directory, listed: Listed, batch: &mut Batch) -> Result<Option<Directory>, Failure> {
        let Listed { name, path, metadata } = listed;
        let kind = kind_of(&metadata);
        let mut inside = parent.inside.clone();
        inside.push(name.clone());
        if self.is_ignored(&inside, kind == Kind::Directory) {
            batch.ignored += 1;
            return Ok(None);
        }
        if kind == Kind::Directory && self.barred.contains(&path) {
            batch.left_out.push((path, "a mount of Ourobox, or its own state, is not imported".to_owned()));
            return Ok(None);
        }
        let ordinal = self.next;
        self.next += 1;
        let found = match &parent.standing {
            Some(union) => self.engine.look_up(&self.target.open, union, &name)?,
            None => None,
        };
        if let Some(seen) = found {
            return Ok(self.meet(parent, ordinal, seen, (path, &metadata, inside), batch));
        }
        let has_links = kind != Kind::Directory && metadata.nlink() > 1;
        let linked = has_links.then(|| self.linked.get(&(metadata.dev(), metadata.ino())).copied()).flatten();
        let inflow = match (linked, kind) {
            (Some(first), _) => Inflow::Link(first),
            (None, Kind::File) => {
                batch.bytes += metadata.len();
                let path = path.clone();
                Inflow::Bytes(metadata.len(), Box::new(move || Ok(Box::new(open(&path)?))))
            }
            (None, Kind::Symlink) => match std::fs::read_link(&path) {
                Ok(target) => Inflow::Target(target.as_os_str().as_bytes().into()),
                Err(error) => {
                    batch.left_out.push((path, format!("it cannot be read: {error}")));
                    return Ok(None);
                }
            },
            (None, _) => Inflow::Nothing,
        };
        let attributes = match attributes(&path, kind, &metadata) {
            Ok(attributes) => attributes,
            Err(error) => {
                batch.left_out.push((path, format!("its extended attributes cannot be read: {error}")));
                return Ok(None);
            }
        };
        if has_links && linked.is_none() {
            self.linked.insert((metadata.dev(), metadata.ino()), ordinal);
        }
        let owner = Some((metadata.uid(), metadata.gid())).filter(|owner| *owner != self.owner);
        batch.labels.push((ordinal, path.clone()));
        let parent = parent.ordinal;
        batch.entries.push(Incoming { ordinal, parent, name, kind, attributes, owner, inflow, has_links });
        Ok((kind == Kind::Directory).then_some(Directory { ordinal, path, inside, standing: None }))
    }

    /// Something stands at the name in the box: a directory takes what is in it, the same is left as it is, else it is left out.
    fn meet(
        &mut self,
        parent: &Directory,
        ordinal: Ordinal,
        seen: Seen,
        (path, metadata, inside): (PathBuf, &Metadata, Vec<Name>),
        batch: &mut Batch,
    ) -> Option<Directory> {
        if metadata.is_dir() && seen.kind() == Kind::Directory {
            let union = seen.members().to_vec();
            batch.standing.push((ordinal, Stands::Directory(union.clone())));
            batch.same += 1;
            return Some(Directory { ordinal, path, inside, standing: Some(union) });
        }
        if !is_same(&seen, &path, metadata) {
            let why = "something else stands at this name in the box: move that away, or import into another directory";
            batch.left_out.push((path, why.to_owned()));
            return None;
        }
        batch.same += 1;
        let home = parent.standing.as_ref().and_then(|union| union.first());
        if metadata.nlink() > 1
            && let Some(home) = home
        {
            self.linked.entry((metadata.dev(), metadata.ino())).or_insert(ordinal);
            let place = Place { parent: *home, name: seen.name.clone() };
            batch.standing.push((ordinal, Stands::File(seen.id, place)));
        }
        None
    }

    fn is_ignored(&self, inside: &[Name], directory: bool) -> bool {
        let path: Vec<&[u8]> = inside.iter().map(Name::as_bytes).collect();
        let volume = &self.target.open.volume;
        self.rules.ignores_last(&path, directory) || (volume.has_ignore_rules() && volume.ignored(inside, directory))
    }
}

/// The entries of a directory, in no order.
fn list(directory: &Directory, batch: &mut Batch) -> Vec<Listed> {
    let mut entries = Vec::new();
    let reading = match std::fs::read_dir(&directory.path) {
        Ok(reading) => reading,
        Err(error) => {
            batch.left_out.push((directory.path.clone(), format!("it cannot be listed: {error}")));
            return entries;
        }
    };
    for entry in reading {
        let found = entry.and_then(|entry| Ok((entry.path(), entry.file_name(), entry.metadata()?)));
        match found {
            Ok((path, name, metadata)) => match Name::new(name.as_bytes()) {
                Ok(name) => entries.push(Listed { name, path, metadata }),
                Err(_) => batch.left_out.push((path, "its name is not possible in a box".to_owned())),
            },
            Err(error) => batch.left_out.push((directory.path.clone(), format!("an entry cannot be read: {error}"))),
        }
    }
    entries
}

/// Opens a regular file, and nothing that came into its place meanwhile.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    Ok(file)
}

fn kind_of(metadata: &Metadata) -> Kind {
    match metadata.file_type() {
        t if t.is_dir() => Kind::Directory,
        t if t.is_symlink() => Kind::Symlink,
        t if t.is_fifo() => Kind::Fifo,
        t if t.is_socket() => Kind::Socket,
        t if t.is_char_device() => Kind::CharDevice,
        t if t.is_block_device() => Kind::BlockDevice,
        _ => Kind::File,
    }
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn attributes(path: &Path, kind: Kind, metadata: &Metadata) -> io::Result<Attributes> {
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Ok(Attributes {
        mode: (metadata.mode() & 0o7777) as u16,
        mtime_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        rdev: if device { metadata.rdev() } else { 0 },
        xattrs: match kind {
            Kind::File | Kind::Directory => xattrs(path)?,
            _ => Vec::new(),
        },
    })
}

/// The `user.*` attributes, sorted by name.
fn xattrs(path: &Path) -> rustix::io::Result<Xattrs> {
    let (mut few, mut many) = ([0_u8; 256], Vec::new());
    let names = match rustix::fs::llistxattr(path, &mut few[..]) {
        Ok(size) => &few[..size],
        // A file system without any.
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(rustix::io::Errno::RANGE) => {
            many.resize(XATTR_NAMES_BYTES_MAX, 0);
            let size = rustix::fs::llistxattr(path, &mut many[..])?;
            &many[..size]
        }
        Err(error) => return Err(error),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.") && name.len() > 5) {
        let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
        rustix::fs::lgetxattr(path, OsStr::from_bytes(name), rustix::buffer::spare_capacity(&mut value))?;
        xattrs.push((Box::from(name), value.into_boxed_slice()));
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Whether what stands in the box is this very entry: kind, size and time of the last change, or the target.
fn is_same(seen: &Seen, path: &Path, metadata: &Metadata) -> bool {
    if seen.kind() != kind_of(metadata) {
        return false;
    }
    match seen.kind() {
        Kind::File => {
            let mtime_ns = nanos(metadata.mtime(), metadata.mtime_nsec());
            seen.content().map_or(0, Content::size) == metadata.len() && seen.attributes().mtime_ns == mtime_ns
        }
        Kind::Symlink => match (seen.content(), std::fs::read_link(path)) {
            (Some(Content::Inline(target)), Ok(found)) => target[..] == *found.as_os_str().as_bytes(),
            _ => false,
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_into_a_files_place_is_not_read_as_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), b"bytes").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(open(&at("file")).is_ok());
        for name in ["link", "directory", "fifo", "gone"] {
            assert!(open(&at(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn attributes_that_cannot_be_read_are_an_error_and_not_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let long = [b"user.".as_slice(), &[b'x'; 200]].concat();
        for name in [b"user.b".as_slice(), b"user.a", &long, &[b"user.y".as_slice(), &[b'y'; 90]].concat()] {
            if rustix::fs::setxattr(&path, OsStr::from_bytes(name), b"value", rustix::fs::XattrFlags::empty()).is_err()
            {
                // A file system without any.
                return;
            }
        }
        let read = attributes(&path, Kind::File, &metadata).unwrap().xattrs;
        assert_eq!(read.len(), 4, "more names than fit into the first look");
        assert!(read.is_sorted() && read.iter().all(|(_, value)| **value == *b"value"));
        std::fs::remove_file(&path).unwrap();
        assert!(attributes(&path, Kind::File, &metadata).is_err());
    }
}
