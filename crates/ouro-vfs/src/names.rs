//! Names: finding what stands at one, and making new ones.

use crate::look::{Halt, Locus, name};
use crate::permission::{SET_GID, SET_UID, STICKY};
use crate::realm::{Realm, SHELF_ITSELF};
use crate::snapshots::SHELF_NAME;
use crate::stop::{Errno, Reply, Stop};
use crate::types::{ACCESS_EXECUTE, Caller, Handle, NodeNo, OpenFlags, Stat};
use crate::vfs::{TRIES_MAX, Vfs};
use ouro_core::content::Content;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Seen};
use ouro_core::state::{Attributes, Kind, Place};
use std::sync::Arc;

/// Longest target of a symlink in bytes, as on Linux.
const TARGET_BYTES_MAX: usize = 4095;

/// What is to be made.
struct Wanted {
    kind: Kind,
    mode: u16,
    rdev: u64,
    content: Option<Content>,
}

impl Vfs {
    /// Finds a name in a directory and counts one kernel lookup of what stands there.
    ///
    /// # Errors
    /// [`Errno::NoEntry`] if nothing stands there: to be cached for ever, unless [`Vfs::is_volatile`].
    pub fn lookup(&self, caller: &Caller, parent: NodeNo, name: &[u8]) -> Reply<Stat> {
        let locus = self.locus(parent)?;
        match &locus.realm {
            Realm::Top => self.lookup_box(name),
            Realm::Shelf(volume) => self.lookup_shelf(*volume, name),
            Realm::Live(volume) if locus.file == FileId::ROOT && name == SHELF_NAME => {
                let realm = Realm::Shelf(*volume);
                let stat = self.virtual_stat(&realm, SHELF_ITSELF)?;
                self.count(stat.node, &realm, SHELF_ITSELF, None);
                Ok(stat)
            }
            Realm::Live(_) | Realm::Past(_) => {
                let name = crate::look::name(name)?;
                self.enter(caller, &locus, &name).map(|(_, stat)| stat)
            }
        }
    }

    fn lookup_box(&self, name: &[u8]) -> Reply<Stat> {
        let found = (0..).zip(&self.boxes).find(|(_, b)| b.name.as_bytes() == name);
        let realm = Realm::Live(found.ok_or(Errno::NoEntry)?.0);
        let locus = Locus { realm, file: FileId::ROOT, noted: None };
        let stat = self.look(&locus.realm, |look| Ok(look.directory(&locus)?.1))?;
        self.count(stat.node, &locus.realm, FileId::ROOT, None);
        Ok(stat)
    }

    /// Finds a name and counts a kernel lookup.
    fn enter(&self, caller: &Caller, directory: &Locus, name: &Name) -> Reply<(Seen, Stat)> {
        let judge = self.judge(caller);
        self.look(&directory.realm, |look| {
            let (found, above) = look.directory(directory)?;
            judge.may(&above, ACCESS_EXECUTE)?;
            let seen = look.lookup(found.seen.members(), name)?.ok_or(Errno::NoEntry)?;
            let stat = look.stat(&seen);
            // Counted while the state is held: a change that comes after what is answered here finds that the kernel knows the node.
            let place = Place { parent: found.seen.id, name: name.clone() };
            self.count(stat.node, &directory.realm, seen.id, Some(&place));
            Ok((seen, stat))
        })
    }

    /// Whether names of this directory must not be cached, neither found nor missing: they change by themselves.
    ///
    /// So are all names of a box that has not begun: it may move on to a checkpoint that others wrote, and what is in that is told to nobody.
    pub fn is_volatile(&self, parent: NodeNo) -> bool {
        if self.numbering.alone && parent.0 >> 63 == 0 {
            return !self.volume(0).has_begun();
        }
        self.locus(parent).is_ok_and(|locus| match locus.realm {
            Realm::Shelf(_) => true,
            Realm::Live(volume) => !self.volume(volume).has_begun(),
            Realm::Top | Realm::Past(_) => false,
        })
    }

    /// Whether all boxes have begun: the names of a live box are not volatile then, and never will be again.
    pub fn have_begun(&self) -> bool {
        self.boxes.iter().all(|mounted| mounted.volume.has_begun())
    }

    /// Makes a file, fifo, socket or device and counts one kernel lookup of it.
    ///
    /// # Errors
    /// [`Errno::Exists`], [`Errno::Access`], [`Errno::NoEntry`] if the directory is gone.
    pub fn mknod(&self, caller: &Caller, parent: NodeNo, name: &[u8], kind: Kind, mode: u16, rdev: u64) -> Reply<Stat> {
        if matches!(kind, Kind::Directory | Kind::Symlink) {
            return Err(Errno::Invalid.into());
        }
        let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let wanted = Wanted { kind, mode, rdev: if device { rdev } else { 0 }, content: None };
        self.make(caller, parent, name, &wanted).map(|(_, stat)| stat)
    }

    /// Makes a directory and counts one kernel lookup of it.
    ///
    /// # Errors
    /// As [`Vfs::mknod`].
    pub fn mkdir(&self, caller: &Caller, parent: NodeNo, name: &[u8], mode: u16) -> Reply<Stat> {
        let wanted = Wanted { kind: Kind::Directory, mode, rdev: 0, content: None };
        self.make(caller, parent, name, &wanted).map(|(_, stat)| stat)
    }

    /// Makes a symlink and counts one kernel lookup of it.
    ///
    /// # Errors
    /// As [`Vfs::mknod`]; [`Errno::NameTooLong`] for a target of more than 4,095 bytes.
    pub fn symlink(&self, caller: &Caller, parent: NodeNo, name: &[u8], target: &[u8]) -> Reply<Stat> {
        if target.is_empty() {
            return Err(Errno::NoEntry.into());
        }
        if target.len() > TARGET_BYTES_MAX {
            return Err(Errno::NameTooLong.into());
        }
        let content = Some(Content::Inline(Arc::from(target)));
        let wanted = Wanted { kind: Kind::Symlink, mode: 0o777, rdev: 0, content };
        self.make(caller, parent, name, &wanted).map(|(_, stat)| stat)
    }

    /// Makes a regular file, or takes the one that stands there unless `exclusive`, opens it, and counts one kernel lookup.
    ///
    /// # Errors
    /// [`Errno::Exists`], [`Errno::IsDirectory`], those of [`Vfs::mknod`] and [`Vfs::open`].
    pub fn create(
        &self,
        caller: &Caller,
        parent: NodeNo,
        name: &[u8],
        mode: u16,
        flags: OpenFlags,
        exclusive: bool,
    ) -> Reply<(Stat, Handle)> {
        let wanted = Wanted { kind: Kind::File, mode, rdev: 0, content: None };
        for _ in 0..TRIES_MAX {
            match self.make(caller, parent, name, &wanted) {
                Ok((file, stat)) => {
                    let realm = self.locus(parent)?.realm;
                    let locus = Locus { realm, file, noted: None };
                    match self.hold_open(stat.node, locus, flags) {
                        // Sealed in this moment as the file whose name it took: there it is, under that id.
                        Err(Stop::Errno(Errno::Stale)) => self.forget(stat.node, 1),
                        opened => return Ok((stat, opened?)),
                    }
                }
                Err(Stop::Errno(Errno::Exists)) if !exclusive => {}
                Err(stop) => return Err(stop),
            }
            let stat = match self.lookup(caller, parent, name) {
                Err(Stop::Errno(Errno::NoEntry)) => continue,
                other => other?,
            };
            let opened = match stat.kind {
                Kind::File => self.open(caller, stat.node, flags).and_then(|handle| {
                    let stat = self.getattr(stat.node, Some(handle))?;
                    Ok((stat, handle))
                }),
                Kind::Directory => Err(Errno::IsDirectory.into()),
                // The kernel must look again and go on from there.
                _ => Err(Errno::Stale.into()),
            };
            if opened.is_err() {
                self.forget(stat.node, 1);
            }
            return opened;
        }
        Err(Errno::Busy.into())
    }

    fn make(&self, caller: &Caller, parent: NodeNo, name: &[u8], wanted: &Wanted) -> Reply<(FileId, Stat)> {
        let locus = self.locus(parent)?;
        if name == b"." || name == b".." || (name == SHELF_NAME && locus.file == FileId::ROOT) {
            return Err(Errno::Exists.into());
        }
        let name = crate::look::name(name)?;
        let judge = self.judge(caller);
        let directory = match &locus.realm {
            Realm::Live(_) | Realm::Past(_) => self.look(&locus.realm, |look| {
                let (found, stat) = look.directory(&locus)?;
                judge.may(&stat, ACCESS_EXECUTE)?;
                if look.lookup(found.seen.members(), &name)?.is_some() {
                    return Err(Halt::Errno(Errno::Exists));
                }
                Ok((found.seen.id, stat))
            })?,
            Realm::Top | Realm::Shelf(_) => {
                return Err(self.writable(&locus.realm).err().unwrap_or(Errno::ReadOnly).into());
            }
        };
        let (directory, above) = directory;
        let volume = self.writable(&locus.realm)?;
        judge.may_create(&above)?;
        let now = self.volume(volume).now_ns();
        let inherits = above.mode & SET_GID != 0;
        let mode = mode_of(wanted, inherits);
        let attributes = Attributes { mode, mtime_ns: now, ctime_ns: now, rdev: wanted.rdev, xattrs: Vec::new() };
        let (file, parent) = self.edit(volume, |edit| {
            let union = render::members(edit.rows, directory)?;
            let first = *union.first().ok_or(Errno::NoEntry)?;
            let (file, edited) = edit.create(&union, &name, wanted.kind, attributes.clone(), wanted.content.clone())?;
            Ok(((file, first), edited))
        })?;
        let owner = (caller.uid, if inherits { above.gid } else { caller.gid });
        if owner != (self.options.uid, self.options.gid) {
            self.volume(volume).set_owner(file, owner.0, owner.1);
        }
        {
            let mut touched = self.touched.lock();
            let directory = wanted.kind == Kind::Directory;
            touched.listing((volume, parent), now, i64::from(directory));
            if directory {
                touched.change((volume, file), |touch| touch.subdirectories = Some(0));
            }
        }
        let place = Place { parent, name };
        let born = Locus { realm: locus.realm, file, noted: Some(place) };
        let stat = self.look(&born.realm, |look| {
            let found = look.stand(&born)?;
            Ok(look.stat(&found.seen))
        })?;
        self.count(stat.node, &born.realm, file, born.noted.as_ref());
        Ok((file, stat))
    }

    /// Gives a file a further name and counts one kernel lookup of it.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] for directories, [`Errno::CrossBox`], [`Errno::Exists`], [`Errno::TooManyLinks`], [`Errno::NoEntry`] for a
    /// file that has no name any more.
    pub fn link(&self, caller: &Caller, node: NodeNo, new_parent: NodeNo, new_name: &[u8]) -> Reply<Stat> {
        let (source, target) = (self.locus(node)?, self.locus(new_parent)?);
        if !source.realm.is(&target.realm) {
            return Err(Errno::CrossBox.into());
        }
        if new_name == SHELF_NAME && target.file == FileId::ROOT {
            return Err(Errno::Exists.into());
        }
        let new_name = name(new_name)?;
        let volume = self.writable(&target.realm)?;
        let judge = self.judge(caller);
        let Ok(from) = self.find(&source, |_, found| Ok(found.clone()))? else {
            return Err(Errno::NoEntry.into());
        };
        if from.seen.kind() == Kind::Directory {
            return Err(Errno::NotPermitted.into());
        }
        let directory = self.look(&target.realm, |look| {
            let (found, stat) = look.directory(&target)?;
            judge.may(&stat, ACCESS_EXECUTE)?;
            if look.lookup(found.seen.members(), &new_name)?.is_some() {
                return Err(Halt::Errno(Errno::Exists));
            }
            judge.may_create(&stat)?;
            Ok(found.seen.id)
        })?;
        let parent = self.edit(volume, |edit| {
            let union = render::members(edit.rows, directory)?;
            let first = *union.first().ok_or(Errno::NoEntry)?;
            let at = from.place().ok_or(Errno::NoEntry)?;
            let above = render::members(edit.rows, at.parent)?;
            let seen = render::lookup(edit.rows, edit.devices, &above, &at.name)?;
            let seen = seen.filter(|s| s.id == source.file).ok_or(Errno::NoEntry)?;
            let (_, edited) = edit.link(&seen, &above, &union, &new_name)?;
            Ok((first, edited))
        })?;
        let now = self.volume(volume).now_ns();
        {
            let mut touched = self.touched.lock();
            touched.listing((volume, parent), now, 0);
            touched.change((volume, source.file), |touch| touch.ctime_ns = Some(now));
        }
        let place = Place { parent, name: new_name };
        let linked = Locus { noted: Some(place), ..source };
        let stat = self.look(&linked.realm, |look| {
            let found = look.stand(&linked)?;
            Ok(look.stat(&found.seen))
        })?;
        self.count(stat.node, &linked.realm, linked.file, linked.noted.as_ref());
        Ok(stat)
    }

    /// Where a symlink leads.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if it is none.
    pub fn readlink(&self, node: NodeNo) -> Reply<Vec<u8>> {
        let locus = self.locus(node)?;
        if let Realm::Shelf(volume) = locus.realm {
            return self.shelf_target(volume, locus.file);
        }
        if matches!(locus.realm, Realm::Top) {
            return Err(Errno::Invalid.into());
        }
        let content = self.find(&locus, |_, found| {
            if found.seen.kind() == Kind::Symlink {
                Ok(found.seen.content().cloned())
            } else {
                Err(Errno::Invalid.into())
            }
        })?;
        match content {
            Ok(Some(Content::Inline(target))) => Ok(target.to_vec()),
            Err(orphan) => match &orphan.content {
                Content::Inline(target) => Ok(target.to_vec()),
                _ => Err(Errno::Io.into()),
            },
            Ok(_) => Err(Errno::Io.into()),
        }
    }
}

fn mode_of(wanted: &Wanted, inherits_group: bool) -> u16 {
    let mode = wanted.mode & 0o7777;
    match wanted.kind {
        Kind::Directory if inherits_group => mode | SET_GID,
        Kind::Directory => mode,
        Kind::Symlink => 0o777,
        _ => mode & (0o777 | SET_UID | SET_GID | STICKY),
    }
}
