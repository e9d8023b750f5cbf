//! The least a FUSE file system can do: everything in memory, answers at once. `make bench` mounts it beside Ourobox as the limit that
//! the kernel's protocol sets.
//!
//! ```text
//! cargo run --release -p ouro-fuse --example memory -- MOUNTPOINT
//! ```
//!
//! Serves until it is unmounted. Knows directories and files, no links, no permissions.

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
const DIRECTORY_FLAGS: FopenFlags = FopenFlags::FOPEN_CACHE_DIR.union(FopenFlags::FOPEN_KEEP_CACHE);

#[derive(Default)]
struct Node {
    bytes: Vec<u8>,
    children: Option<Children>,
}

/// Entries in order of creation, so that a position in a listing stays what it is.
#[derive(Default)]
struct Children {
    order: Vec<Option<(OsString, u64)>>,
    by_name: HashMap<OsString, usize>,
}

/// Node `n` has the inode number `n + 1`.
struct Memory(Mutex<Vec<Node>>);

impl Memory {
    fn new() -> Memory {
        Memory(Mutex::new(vec![Node { children: Some(Children::default()), ..Node::default() }]))
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.0.lock()
    }

    fn make(&self, parent: INodeNo, name: &OsStr, directory: bool) -> Option<FileAttr> {
        let mut nodes = self.nodes();
        let number = nodes.len() as u64 + 1;
        let above = nodes.get_mut(index(parent))?.children.as_mut()?;
        let place = above.order.len();
        above.order.push(Some((name.to_owned(), number)));
        above.by_name.insert(name.to_owned(), place);
        nodes.push(Node { children: directory.then(Children::default), ..Node::default() });
        nodes.last().map(|node| attributes(number, node))
    }
}

fn index(number: INodeNo) -> usize {
    (number.0 - 1) as usize
}

fn attributes(number: u64, node: &Node) -> FileAttr {
    let size = node.bytes.len() as u64;
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if node.children.is_some() { FileType::Directory } else { FileType::RegularFile },
        perm: if node.children.is_some() { 0o755 } else { 0o644 },
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Memory {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_ATOMIC_O_TRUNC]
        {
            // An older kernel does without.
            let _missing = config.add_capabilities(wanted);
        }
        config.set_max_write(1 << 20).map(|_| ()).map_err(|_| io::ErrorKind::Unsupported.into())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let nodes = self.nodes();
        let Some(children) = nodes.get(index(parent)).and_then(|node| node.children.as_ref()) else {
            return reply.error(Errno::ENOTDIR);
        };
        let found = children.by_name.get(name).and_then(|place| children.order[*place].as_ref());
        match found {
            Some((_, number)) => {
                let attributes = attributes(*number, &nodes[index(INodeNo(*number))]);
                reply.entry(&FOR_EVER, &attributes, Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes().get(index(number)) {
            Some(node) => reply.attr(&FOR_EVER, &attributes(number.0, node)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.nodes().get_mut(index(number)) {
            Some(node) => {
                if let Some(size) = size {
                    node.bytes.resize(size as usize, 0);
                }
                reply.attr(&FOR_EVER, &attributes(number.0, node));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        match self.make(parent, name, true) {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, false) {
            Some(attributes) => {
                reply.created(&FOR_EVER, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut nodes = self.nodes();
        if let Some(children) = nodes.get_mut(index(parent)).and_then(|node| node.children.as_mut())
            && let Some(place) = children.by_name.remove(name)
        {
            children.order[place] = None;
            return reply.ok();
        }
        reply.error(Errno::ENOENT);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let nodes = self.nodes();
        let bytes = nodes.get(index(number)).map_or(&[][..], |node| &node.bytes);
        let from = bytes.len().min(offset as usize);
        reply.data(&bytes[from..bytes.len().min(from + size as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(index(number)) else { return reply.error(Errno::ENOENT) };
        let (from, end) = (offset as usize, offset as usize + data.len());
        if node.bytes.len() < end {
            node.bytes.resize(end, 0);
        }
        node.bytes[from..end].copy_from_slice(data);
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), DIRECTORY_FLAGS);
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let nodes = self.nodes();
        let Some(children) = nodes.get(index(number)).and_then(|node| node.children.as_ref()) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (place, (name, number)) in children.after(offset) {
            let kind = attributes(*number, &nodes[index(INodeNo(*number))]).kind;
            if reply.add(INodeNo(*number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let nodes = self.nodes();
        let Some(children) = nodes.get(index(number)).and_then(|node| node.children.as_ref()) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (place, (name, number)) in children.after(offset) {
            let attributes = attributes(*number, &nodes[index(INodeNo(*number))]);
            if reply.add(attributes.ino, place, name, &FOR_EVER, &attributes, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }
}

impl Children {
    /// The entries from a position on, each with the position after it.
    fn after(&self, offset: u64) -> impl Iterator<Item = (u64, &(OsString, u64))> {
        let places = self.order.iter().enumerate().skip(offset as usize);
        places.filter_map(|(place, entry)| Some((place as u64 + 1, entry.as_ref()?)))
    }
}

fn main() -> io::Result<()> {
    let mountpoint = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: memory MOUNTPOINT"))?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("memory".to_owned())];
    config.n_threads = Some(2);
    fuser::mount(Memory::new(), mountpoint, &config)
}
