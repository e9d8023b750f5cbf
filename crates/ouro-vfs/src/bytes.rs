//! Open files and their bytes.

use crate::handles::{OpenFile, Run};
use crate::look::Locus;
use crate::ports::Processes;
use crate::realm::Realm;
use crate::stop::{Errno, Reply};
use crate::types::{
    ACCESS_EXECUTE, ACCESS_READ, ACCESS_WRITE, Allocate, Caller, Handle, NodeNo, OpenFlags, Seek, VolumeNo,
};
use crate::vfs::{TRIES_MAX, Vfs};
use ouro_core::content::{BlobRef, Content};
use ouro_core::render;
use ouro_core::state::Kind;
use ouro_local::volume::VolumeError;
use parking_lot::Mutex;
use std::sync::Arc;

impl Vfs {
    /// Opens a file. Brings nothing: bytes come when they are read.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::IsDirectory`], [`Errno::ReadOnly`].
    pub fn open(&self, caller: &Caller, node: NodeNo, flags: OpenFlags) -> Reply<Handle> {
        let locus = self.locus(node)?;
        let stat = self.stat(&locus)?;
        let writes = flags.write || flags.truncate;
        match stat.kind {
            Kind::Directory if writes => return Err(Errno::IsDirectory.into()),
            Kind::Symlink => return Err(Errno::Loop.into()),
            _ => {}
        }
        let judge = self.judge(caller);
        if flags.execute {
            judge.may(&stat, ACCESS_EXECUTE)?;
        } else if flags.read {
            judge.may(&stat, ACCESS_READ)?;
        }
        if writes {
            judge.may(&stat, ACCESS_WRITE)?;
            let volume = self.writable(&locus.realm)?;
            if flags.truncate {
                self.resize(caller, &locus, volume, &stat, 0)?;
            }
        }
        self.hold_open(node, locus, flags)
    }

    /// Makes a handle of a file that was found. [`Errno::Stale`] if it was sealed under another id since: look again.
    pub(crate) fn hold_open(&self, node: NodeNo, locus: Locus, flags: OpenFlags) -> Reply<Handle> {
        if let Realm::Live(volume) = locus.realm {
            self.volume(volume).open(locus.file).map_err(|error| self.stop_of(volume, error, 0))?;
        }
        Ok(self.handles.insert_file(OpenFile { node, locus, flags, run: Mutex::new(Run::default()) }))
    }

    /// The file behind a handle, where it is noted now.
    fn opened(&self, handle: Handle) -> Result<(Arc<OpenFile>, Locus), Errno> {
        let open = self.handles.file(handle)?;
        let locus = self.locus(open.node).unwrap_or_else(|_| open.locus.clone());
        Ok((open, locus))
    }

    /// Reads bytes. Short at the end of the file.
    ///
    /// # Errors
    /// [`Errno::Unreachable`] for indexers and thumbnailers that ask for bytes which are not here; [`Errno::IsDirectory`].
    pub fn read(&self, caller: &Caller, _node: NodeNo, handle: Handle, offset: u64, len: u32) -> Reply<Vec<u8>> {
        let (open, locus) = self.opened(handle)?;
        let volume = match &locus.realm {
            Realm::Live(volume) => *volume,
            Realm::Past(past) => past.volume,
            Realm::Top | Realm::Shelf(_) => return Err(Errno::IsDirectory.into()),
        };
        for _ in 0..TRIES_MAX {
            let found = self.find(&locus, |look, found| {
                if found.seen.kind() == Kind::Directory {
                    return Err(Errno::IsDirectory.into());
                }
                let content = found.seen.content().cloned().unwrap_or_else(Content::empty);
                Ok((content, look.live.and_then(|view| view.hot(locus.file)).map(|hot| hot.size)))
            })?;
            let (content, size) = match found {
                Ok((content, hot_size)) => {
                    let size = hot_size.unwrap_or_else(|| content.size());
                    (content, size)
                }
                Err(orphan) => (orphan.content, orphan.size),
            };
            let read = match &locus.realm {
                Realm::Live(_) => self.volume(volume).read(locus.file, &content, offset, len as usize),
                _ => self.volume(volume).read_content(&content, offset, len as usize),
            };
            match read {
                Ok(bytes) => {
                    self.read_ahead(&open, volume, &content, offset, bytes.len() as u64, size);
                    return Ok(bytes);
                }
                // Sealed or written meanwhile: the content has another name now.
                Err(VolumeError::Gone) => {}
                Err(VolumeError::Need(blobs)) => {
                    self.read_ahead(&open, volume, &content, offset, u64::from(len), size);
                    return Err(self.need(caller, volume, blobs, size)?);
                }
                Err(error) => return Err(self.stop_of(volume, error, caller.pid)),
            }
        }
        Err(Errno::Stale.into())
    }

    /// What a reader waits for, unless it is one that only scans.
    fn need(&self, caller: &Caller, volume: u32, blobs: Vec<BlobRef>, size: u64) -> Result<crate::Stop, Errno> {
        let scans = size > self.options.indexer_bytes_max
            && self.processes.get().is_some_and(|processes| is_indexer(&**processes, caller.pid));
        if scans { Err(Errno::Unreachable) } else { Ok(self.wait_for_blobs(volume, blobs, caller.pid)) }
    }

    fn read_ahead(&self, open: &OpenFile, volume: u32, content: &Content, offset: u64, len: u64, size: u64) {
        let Some((from, bytes)) = open.run.lock().read(offset, len, size) else { return };
        if !matches!(content, Content::Chunks(_) | Content::BlockList { .. }) {
            return;
        }
        let blobs = self.volume(volume).blobs_ahead(content, from, bytes);
        if !blobs.is_empty() {
            self.fetch.prefetch(VolumeNo(volume), blobs);
        }
    }

    /// Writes bytes; with a handle opened for appending to the end. All of them or none.
    ///
    /// # Errors
    /// [`Errno::NoSpace`], [`Errno::FileTooBig`], [`Errno::BadHandle`] if it is not open for writing.
    pub fn write(&self, caller: &Caller, _node: NodeNo, handle: Handle, offset: u64, data: &[u8]) -> Reply<u32> {
        let (open, locus) = self.opened(handle)?;
        self.put(caller, &open, &locus, offset, data, open.flags.append)
    }

    /// Writes back pages of the kernel's cache (a shared mapping), at `offset` even through a handle opened for appending.
    ///
    /// # Errors
    /// As [`Vfs::write`].
    pub fn write_back(&self, caller: &Caller, _node: NodeNo, handle: Handle, offset: u64, data: &[u8]) -> Reply<u32> {
        let (open, locus) = self.opened(handle)?;
        self.put(caller, &open, &locus, offset, data, false)
    }

    fn put(
        &self,
        caller: &Caller,
        open: &OpenFile,
        locus: &Locus,
        offset: u64,
        data: &[u8],
        append: bool,
    ) -> Reply<u32> {
        if !open.flags.write {
            return Err(Errno::BadHandle.into());
        }
        let volume = self.writable(&locus.realm)?;
        let privileged = caller.uid != 0;
        let stat = if append || privileged { Some(self.stat(locus)?) } else { None };
        let offset = stat.filter(|_| append).map_or(offset, |stat| stat.size);
        self.with_place(locus, volume, |volume, place| volume.write(locus.file, place, offset, data))?;
        if let Some(stat) = stat {
            self.drop_privileges(caller, locus, volume, &stat)?;
        }
        Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
    }

    /// A descriptor of the file was closed. What was written is journalled when the last one is.
    ///
    /// # Errors
    /// [`Errno::BadHandle`].
    pub fn flush(&self, _node: NodeNo, handle: Handle) -> Reply<()> {
        Ok(self.handles.file(handle).map(|_| ())?)
    }

    /// Closes a file and journals what was written. An unknown handle is closed already.
    pub fn release(&self, _node: NodeNo, handle: Handle) {
        let Ok(open) = self.handles.remove_file(handle) else { return };
        if let Realm::Live(volume) = open.locus.realm
            && let Err(error) = self.volume(volume).close(open.locus.file)
        {
            // Nobody is left to be told; the box turns read-only by itself if its journal fails.
            tracing::error!(%error, "a closed file could not be journalled");
        }
    }

    /// Makes a file durable on this device. Blocks for some milliseconds: not for a loop that serves others.
    ///
    /// # Errors
    /// A failing disk or journal.
    pub fn fsync(&self, _node: NodeNo, handle: Handle, _data_only: bool) -> Reply<()> {
        let open = self.handles.file(handle)?;
        match open.locus.realm {
            Realm::Live(volume) => {
                self.volume(volume).sync_file(open.locus.file).map_err(|error| self.stop_of(volume, error, 0))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure of a range, or makes it zeros.
    ///
    /// # Errors
    /// [`Errno::NoSpace`], [`Errno::FileTooBig`], [`Errno::BadHandle`].
    pub fn fallocate(
        &self,
        caller: &Caller,
        _node: NodeNo,
        handle: Handle,
        offset: u64,
        len: u64,
        how: Allocate,
    ) -> Reply<()> {
        let (open, locus) = self.opened(handle)?;
        if !open.flags.write {
            return Err(Errno::BadHandle.into());
        }
        if len == 0 {
            return Err(Errno::Invalid.into());
        }
        let volume = self.writable(&locus.realm)?;
        let end = offset.checked_add(len).ok_or(Errno::FileTooBig)?;
        let stat = self.stat(&locus)?;
        if stat.kind != Kind::File {
            return Err(Errno::NoDevice.into());
        }
        self.with_place(&locus, volume, |volume, place| match how {
            Allocate::Extend if end > stat.size => volume.truncate(locus.file, place, end),
            Allocate::Extend | Allocate::KeepSize => Ok(()),
            Allocate::PunchHole | Allocate::ZeroRangeKeepSize => volume.zero(locus.file, place, offset, len, true),
            Allocate::ZeroRange => volume.zero(locus.file, place, offset, len, false),
        })?;
        self.drop_privileges(caller, &locus, volume, &stat)
    }

    /// Finds data or a hole. All bytes of a file are data, wherever they are: an archiver must never take online ones for zeros.
    ///
    /// # Errors
    /// [`Errno::NoDevice`] beyond the end.
    pub fn seek(&self, _node: NodeNo, handle: Handle, offset: u64, how: Seek) -> Reply<u64> {
        let (_, locus) = self.opened(handle)?;
        let size = self.stat(&locus)?.size;
        match how {
            _ if offset >= size => Err(Errno::NoDevice.into()),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    /// Copies a whole sealed file over an empty one of the same box by its index entry: no byte moves. Returns how much of the range asked
    /// for is there now.
    ///
    /// The kernel cuts what it asks for at [`COPY_BYTES_MAX`]: a call that was cut makes the whole copy, and those that go on after it find
    /// their range done.
    ///
    /// # Errors
    /// [`Errno::NotSupported`] for everything else: the kernel copies then.
    #[expect(clippy::too_many_arguments, reason = "two ranges and who asks: the system call's own arguments")]
    pub fn copy_file_range(
        &self,
        caller: &Caller,
        _from_node: NodeNo,
        from: Handle,
        from_offset: u64,
        _to_node: NodeNo,
        to: Handle,
        to_offset: u64,
        len: u64,
    ) -> Reply<u64> {
        let ((source, from), (target, to)) = (self.opened(from)?, self.opened(to)?);
        if !source.flags.read || !target.flags.write {
            return Err(Errno::BadHandle.into());
        }
        let volume = self.writable(&to.realm)?;
        let same_box = match &from.realm {
            Realm::Live(other) => *other == volume,
            Realm::Past(past) => past.volume == volume,
            Realm::Top | Realm::Shelf(_) => false,
        };
        if !same_box || from_offset != to_offset || from.file == to.file {
            return Err(Errno::NotSupported.into());
        }
        let content = self.sealed_content(&from)?;
        let size = content.size();
        if from_offset > 0 {
            let done = self.sealed_content(&to).is_ok_and(|copy| copy == content);
            let rest = size.saturating_sub(from_offset).min(len);
            return if done { Ok(rest) } else { Err(Errno::NotSupported.into()) };
        }
        if size == 0 || (len < size && len != COPY_BYTES_MAX) {
            return Err(Errno::NotSupported.into());
        }
        self.clone_over(caller, &to, volume, &content)?;
        Ok(size.min(len))
    }

    /// The content of a file that nobody is writing.
    fn sealed_content(&self, locus: &Locus) -> Reply<Content> {
        let found = self.find(locus, |look, found| {
            let written = look.live.is_some_and(|view| view.hot(locus.file).is_some());
            Ok(found.seen.content().filter(|_| !written).cloned())
        })?;
        let content = found.ok().flatten().filter(|content| !matches!(content, Content::Pending { .. }));
        Ok(content.ok_or(Errno::NotSupported)?)
    }

    /// Gives an empty file the content of another one.
    fn clone_over(&self, caller: &Caller, to: &Locus, volume: u32, content: &Content) -> Reply<()> {
        let (place, stat) = match self.find(to, |look, found| Ok((found.place(), look.stat(&found.seen))))? {
            Ok((Some(place), stat)) if stat.size == 0 && stat.kind == Kind::File => (place, stat),
            _ => return Err(Errno::NotSupported.into()),
        };
        let now = self.volume(volume).now_ns();
        self.volume(volume).cool(to.file).map_err(|error| self.stop_of(volume, error, 0))?;
        self.edit(volume, |edit| {
            let union = render::members(edit.rows, place.parent)?;
            let seen = render::lookup(edit.rows, edit.devices, &union, &place.name)?;
            let seen = seen.filter(|s| s.id == to.file).ok_or(Errno::NotSupported)?;
            if seen.content().is_some_and(|content| content.size() > 0) {
                return Err(Errno::NotSupported.into());
            }
            let mut attributes = seen.attributes();
            attributes.mtime_ns = now;
            attributes.ctime_ns = now;
            Ok(edit.write(&seen, &union, content.clone(), attributes)?)
        })?;
        self.drop_privileges(caller, to, volume, &stat)
    }
}

/// What a Linux kernel asks at most of one `copy_file_range`: a page less than 4 GiB.
pub(crate) const COPY_BYTES_MAX: u64 = 0xffff_f000;

/// Programs that read every file they see, by the last part of their first argument.
const INDEXERS: [&[u8]; 8] = [
    b"baloo_file",
    b"baloo_file_extractor",
    b"tracker-extract",
    b"tracker-extract-3",
    b"localsearch-extractor-3",
    b"localsearch-3",
    b"tracker-miner-fs-3",
    b"tumblerd",
];

/// Whether a process only scans. Judged by its command line: the executable alone says nothing, since a file manager's own copies run in
/// the same executables.
fn is_indexer(processes: &dyn Processes, pid: u32) -> bool {
    let arguments = processes.command_line(pid);
    let Some(program) = arguments.first().and_then(|first| first.rsplit(|b| *b == b'/').next()) else { return false };
    INDEXERS.contains(&program)
        || program.ends_with(b"-thumbnailer")
        || program == b"ffmpegthumbnailer"
        || arguments.iter().any(|argument| argument.ends_with(b"thumbnail.so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line(&'static str);
    impl Processes for Line {
        fn groups(&self, _pid: u32) -> Vec<u32> {
            Vec::new()
        }
        fn command_line(&self, _pid: u32) -> Vec<Vec<u8>> {
            self.0.split_whitespace().map(|part| part.as_bytes().to_vec()).collect()
        }
    }

    #[test]
    fn scanners_are_known_by_their_command_line_and_file_managers_are_none() {
        for (line, scans) in [
            ("/usr/bin/baloo_file_extractor", true),
            ("/usr/libexec/tracker-extract-3 --socket-fd 3", true),
            ("/usr/lib/kf5/kioslave5 /usr/lib/qt5/plugins/kf5/kio/thumbnail.so thumbnail local:/run/x", true),
            ("/usr/bin/evince-thumbnailer -s 256", true),
            ("/usr/lib/kf5/kioslave5 /usr/lib/qt5/plugins/kf5/kio/kio_file.so file", false),
            ("/usr/bin/dolphin", false),
            ("cp tracker-extract /tmp", false),
            ("", false),
        ] {
            assert_eq!(is_indexer(&Line(line), 1), scans, "{line}");
        }
    }
}
