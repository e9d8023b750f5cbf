//! The kernel's requests, each translated into one call of the vfs. Decides nothing but what is a matter of the kernel's protocol.

use crate::carry::Carrier;
use crate::convert::{
    allocate_how, attributes, is_foreign_xattr, kind_to_make, mode_bits, nothing, open_flags, rename_how, seek_how,
    time_to_set, xattr_how,
};
use crate::errno::code;
use crate::listing::{Names, WithAttributes, list};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use futures::channel::oneshot;
use ouro_core::state::Kind;
use ouro_vfs::{Caller, Errno, Handle, NodeNo, SetAttributes, Stat, Stop, Vfs};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long the kernel may believe names and attributes: for ever, in practice. The vfs says what changed behind its back.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is in a volatile directory is asked for each time.
const NOT_AT_ALL: Duration = Duration::ZERO;

/// Largest read or write in one request. The kernel's own limit for ordinary users is the same (fs.fuse.max_pages_limit, 256 pages).
const TRANSFER_BYTES_MAX: u32 = 1024 * 1024;

/// Requests of the kernel's own (read-ahead, releases) under way at once. Reads may wait for a remote, so far more than the usual 12.
const BACKGROUND_MAX: u16 = 256;

/// What we like the kernel to do, each only if it can.
const WANTED: &[InitFlags] = &[
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS, // without READDIRPLUS_AUTO: always
];

/// A file's pages outlive its closing, because the vfs reports changes; and the kernel need not report a close before the release.
const FILE_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// A listing is kept until the directory changes or the vfs says so.
const DIRECTORY_FLAGS: FopenFlags = FopenFlags::FOPEN_CACHE_DIR.union(FopenFlags::FOPEN_KEEP_CACHE);

/// What the kernel names an open directory by: nothing is noted of it.
const NO_HANDLE: FileHandle = FileHandle(0);

/// Block size of statfs, in bytes.
const STATFS_BLOCK_BYTES: u32 = 4096;

/// Inodes said to be there and free: more than any program asks for.
const FREE_FILES: u64 = 1 << 32;

/// The door to one mount.
pub(crate) struct Door {
    carrier: Carrier,
    /// The kernel can open directories without asking.
    opens_itself: bool,
    /// Falls with the door, which is how the end of the mount is noticed.
    _open: oneshot::Sender<()>,
}

impl Door {
    /// The door, and what resolves when it is gone.
    pub(crate) fn new(carrier: Carrier) -> (Door, oneshot::Receiver<()>) {
        let (open, closed) = oneshot::channel();
        (Door { carrier, opens_itself: false, _open: open }, closed)
    }
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

fn node(number: INodeNo) -> NodeNo {
    NodeNo(number.0)
}

fn handle(number: FileHandle) -> Handle {
    Handle(number.0)
}

/// How long the kernel may keep what it learns about the names in `parent`.
pub(crate) fn lifetime(vfs: &Vfs, parent: NodeNo) -> Duration {
    if vfs.is_volatile(parent) { NOT_AT_ALL } else { FOR_EVER }
}

fn send_empty(_: &Carrier, reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}

fn send_attributes(_: &Carrier, reply: ReplyAttr, result: Result<Stat, Errno>) {
    match result {
        Ok(stat) => reply.attr(&FOR_EVER, &attributes(&stat)),
        Err(errno) => reply.error(code(errno)),
    }
}

fn send_entry(_: &Carrier, reply: ReplyEntry, result: Result<Stat, Errno>) {
    match result {
        Ok(stat) => reply.entry(&FOR_EVER, &attributes(&stat), Generation(0)),
        Err(errno) => reply.error(code(errno)),
    }
}

fn send_data(_: &Carrier, reply: ReplyData, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => reply.error(code(errno)),
    }
}

fn send_written(_: &Carrier, reply: ReplyWrite, result: Result<u32, Errno>) {
    match result {
        Ok(count) => reply.written(count),
        Err(errno) => reply.error(code(errno)),
    }
}

/// The protocol of getxattr and listxattr: size 0 asks how long the value is.
fn send_xattr(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(code(errno)),
    }
}

impl Filesystem for Door {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for &wanted in WANTED {
            // One at a time: asked together, one that is missing loses all.
            if config.add_capabilities(wanted).is_err() {
                tracing::info!(?wanted, "this kernel lacks a feature; things work without it, more slowly");
            }
        }
        self.opens_itself = config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT).is_ok();
        let set = config
            .set_max_write(TRANSFER_BYTES_MAX)
            .and(config.set_max_background(BACKGROUND_MAX).map(u32::from).map_err(u32::from));
        if let Err(nearest) = set {
            tracing::warn!(nearest, "a transfer limit was refused");
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        self.carrier.run(
            caller.pid,
            reply,
            move |vfs| vfs.lookup(&caller, parent, &name),
            move |carrier, reply, result| {
                let lifetime = lifetime(&carrier.vfs, parent);
                match result {
                    Ok(stat) => reply.entry_with_ttls(&FOR_EVER, &lifetime, &attributes(&stat), Generation(0)),
                    Err(Errno::NoEntry) if !lifetime.is_zero() => reply.entry(&lifetime, &nothing(), Generation(0)),
                    Err(errno) => reply.error(code(errno)),
                }
            },
        );
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        self.carrier.vfs.forget(node(number), lookups);
    }

    fn getattr(&self, request: &Request, number: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let (number, fh) = (node(number), fh.map(handle));
        self.carrier.run(request.pid(), reply, move |vfs| vfs.getattr(number, fh), send_attributes);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (caller, number) = (caller(request), node(number));
        let change = SetAttributes {
            mode: mode.map(mode_bits),
            uid,
            gid,
            size,
            atime: atime.map(time_to_set),
            mtime: mtime.map(time_to_set),
            handle: fh.map(handle),
        };
        let rights = mode.is_some() || uid.is_some() || gid.is_some();
        self.carrier.run(
            caller.pid,
            reply,
            move |vfs| vfs.setattr(&caller, number, &change),
            move |carrier, reply, result| {
                let directory = result.as_ref().is_ok_and(|stat| stat.kind == Kind::Directory);
                send_attributes(carrier, reply, result);
                if rights && directory {
                    // Who may not read it any more is refused when it is listed anew.
                    carrier.drop_listing(number);
                }
            },
        );
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        let number = node(number);
        self.carrier.run(request.pid(), reply, move |vfs| vfs.readlink(number), send_data);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = kind_to_make(mode) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        let make = move |vfs: &Vfs| vfs.mknod(&caller, parent, &name, kind, mode_bits(mode), u64::from(rdev));
        self.carrier.run(caller.pid, reply, make, send_entry);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        self.carrier.run(caller.pid, reply, move |vfs| vfs.mkdir(&caller, parent, &name, mode_bits(mode)), send_entry);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        self.carrier.run(caller.pid, reply, move |vfs| vfs.unlink(&caller, parent, &name), send_empty);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        self.carrier.run(caller.pid, reply, move |vfs| vfs.rmdir(&caller, parent, &name), send_empty);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        let target = target.as_os_str().as_bytes().to_vec();
        self.carrier.run(caller.pid, reply, move |vfs| vfs.symlink(&caller, parent, &name, &target), send_entry);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(how) = rename_how(flags) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        let (new_parent, new_name) = (node(new_parent), new_name.as_bytes().to_vec());
        let rename = move |vfs: &Vfs| vfs.rename(&caller, parent, &name, new_parent, &new_name, how);
        self.carrier.run(caller.pid, reply, rename, send_empty);
    }

    fn link(&self, request: &Request, number: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        let (caller, number) = (caller(request), node(number));
        let (new_parent, new_name) = (node(new_parent), new_name.as_bytes().to_vec());
        self.carrier.run(caller.pid, reply, move |vfs| vfs.link(&caller, number, new_parent, &new_name), send_entry);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (caller, number, flags) = (caller(request), node(number), open_flags(flags.0));
        self.carrier.run(
            caller.pid,
            reply,
            move |vfs| vfs.open(&caller, number, flags),
            |_, reply, result| match result {
                Ok(handle) => reply.opened(FileHandle(handle.0), FILE_FLAGS),
                Err(errno) => reply.error(code(errno)),
            },
        );
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, parent, name) = (caller(request), node(parent), name.as_bytes().to_vec());
        let (exclusive, flags) = (flags & libc::O_EXCL != 0, open_flags(flags));
        self.carrier.run(
            caller.pid,
            reply,
            move |vfs| vfs.create(&caller, parent, &name, mode_bits(mode), flags, exclusive),
            |_, reply, result| match result {
                Ok((stat, handle)) => {
                    reply.created(&FOR_EVER, &attributes(&stat), Generation(0), FileHandle(handle.0), FILE_FLAGS);
                }
                Err(errno) => reply.error(code(errno)),
            },
        );
    }

    fn read(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (caller, number, fh) = (caller(request), node(number), handle(fh));
        self.carrier.run(caller.pid, reply, move |vfs| vfs.read(&caller, number, fh, offset, size), send_data);
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (caller, number, fh) = (caller(request), node(number), handle(fh));
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let put = move |vfs: &Vfs, data: &[u8]| {
            if from_cache {
                vfs.write_back(&caller, number, fh, offset, data)
            } else {
                vfs.write(&caller, number, fh, offset, data)
            }
        };
        // The bytes are copied only if the write must wait for what it is written over.
        match self.carrier.attempt(|vfs| put(vfs, data)) {
            Ok(count) => reply.written(count),
            Err(Stop::Errno(errno)) => reply.error(code(errno)),
            Err(Stop::Wait(wait)) => {
                let data = data.to_vec();
                self.carrier.later(caller.pid, wait, reply, move |vfs| put(vfs, &data), send_written);
            }
        }
    }

    /// Asked at most once: the answer switches these requests off for the mount. What a close has to do is done by the release, one round
    /// trip less, and write errors were told by the writes.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.carrier.vfs.release(node(number), handle(fh));
        reply.ok();
    }

    fn fsync(&self, request: &Request, number: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let (number, fh) = (node(number), handle(fh));
        self.carrier.run_blocking(request.pid(), reply, move |vfs| vfs.fsync(number, fh, data_only), send_empty);
    }

    /// Asked for the last time once every box has begun: the answer switches these requests off for the mount, and the kernel keeps listings
    /// like those of [`DIRECTORY_FLAGS`] by itself. Two requests less for each directory, one of which is waited for.
    fn opendir(&self, _: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let vfs = &self.carrier.vfs;
        if self.opens_itself && vfs.have_begun() {
            return reply.error(fuser::Errno::ENOSYS);
        }
        let flags = if vfs.is_volatile(node(number)) { FopenFlags::empty() } else { DIRECTORY_FLAGS };
        reply.opened(NO_HANDLE, flags);
    }

    fn readdir(&self, request: &Request, number: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        list(&self.carrier, caller(request), node(number), offset, Names(reply));
    }

    fn readdirplus(&self, request: &Request, number: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        list(&self.carrier, caller(request), node(number), offset, WithAttributes(reply));
    }

    fn fsyncdir(&self, request: &Request, number: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let number = node(number);
        self.carrier.run_blocking(request.pid(), reply, move |vfs| vfs.fsyncdir(number, data_only), send_empty);
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        let space = self.carrier.vfs.statfs(node(number));
        let unit = u64::from(STATFS_BLOCK_BYTES);
        let (total, free) = (space.total / unit, space.free / unit);
        let names = ouro_core::name::NAME_BYTES_MAX as u32;
        reply.statfs(total, free, free, FREE_FILES, FREE_FILES, STATFS_BLOCK_BYTES, names, STATFS_BLOCK_BYTES);
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if is_foreign_xattr(name) {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        }
        let Some(how) = xattr_how(flags) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let (caller, number, name, value) = (caller(request), node(number), name.as_bytes().to_vec(), value.to_vec());
        self.carrier.run(caller.pid, reply, move |vfs| vfs.setxattr(&caller, number, &name, &value, how), send_empty);
    }

    fn getxattr(&self, request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if is_foreign_xattr(name) {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        }
        let (caller, number, name) = (caller(request), node(number), name.as_bytes().to_vec());
        let get = move |vfs: &Vfs| vfs.getxattr(&caller, number, &name);
        self.carrier.run(caller.pid, reply, get, move |_, reply, result| send_xattr(reply, size, result));
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let (caller, number) = (caller(request), node(number));
        let get = move |vfs: &Vfs| vfs.listxattr(&caller, number);
        self.carrier.run(caller.pid, reply, get, move |_, reply, result| send_xattr(reply, size, result));
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if is_foreign_xattr(name) {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        }
        let (caller, number, name) = (caller(request), node(number), name.as_bytes().to_vec());
        self.carrier.run(caller.pid, reply, move |vfs| vfs.removexattr(&caller, number, &name), send_empty);
    }

    fn access(&self, request: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (caller, number, mask) = (caller(request), node(number), mask.bits() as u32);
        self.carrier.run(caller.pid, reply, move |vfs| vfs.access(&caller, number, mask), send_empty);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = allocate_how(mode) else {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        };
        let (caller, number, fh) = (caller(request), node(number), handle(fh));
        self.carrier.run(
            caller.pid,
            reply,
            move |vfs| vfs.fallocate(&caller, number, fh, offset, length, how),
            send_empty,
        );
    }

    fn lseek(&self, request: &Request, number: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let Some(how) = seek_how(whence) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(fuser::Errno::ENXIO); // before the file's begin
        };
        let (number, fh) = (node(number), handle(fh));
        self.carrier.run(
            request.pid(),
            reply,
            move |vfs| vfs.seek(number, fh, offset, how),
            |_, reply, result| match result.map(i64::try_from) {
                Ok(Ok(found)) => reply.offset(found),
                Ok(Err(_)) => reply.error(fuser::Errno::EOVERFLOW),
                Err(errno) => reply.error(code(errno)),
            },
        );
    }

    fn copy_file_range(
        &self,
        request: &Request,
        source: INodeNo,
        source_fh: FileHandle,
        source_offset: u64,
        target: INodeNo,
        target_fh: FileHandle,
        target_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let caller = caller(request);
        let (source, source_fh) = (node(source), handle(source_fh));
        let (target, target_fh) = (node(target), handle(target_fh));
        let copy = move |vfs: &Vfs| {
            vfs.copy_file_range(&caller, source, source_fh, source_offset, target, target_fh, target_offset, length)
        };
        self.carrier.run(caller.pid, reply, copy, |carrier, reply, result| {
            // The protocol says how much was copied in 32 bits; the caller asks again for the rest.
            send_written(carrier, reply, result.map(|copied| u32::try_from(copied).unwrap_or(u32::MAX)));
        });
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }
}
