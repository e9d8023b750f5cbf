//! Attributes: reading them, changing them, and what a caller may do.

use crate::look::{Locus, Standing};
use crate::permission::{Judge, without_privileges};
use crate::realm::{Realm, SHELF_ITSELF};
use crate::stop::{Errno, Reply, Stop};
use crate::types::{ACCESS_WRITE, Caller, Handle, NodeNo, SetAttributes, SetTime, Stat};
use crate::vfs::{TRIES_MAX, Vfs};
use ouro_core::id::FileId;
use ouro_core::render;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::volume::{Orphan, Space, VolumeError};
use std::sync::Arc;

impl Vfs {
    /// Attributes of a node.
    ///
    /// # Errors
    /// [`Errno::Stale`] if it stands nowhere any more and is not open.
    pub fn getattr(&self, node: NodeNo, _handle: Option<Handle>) -> Reply<Stat> {
        self.stat(&self.locus(node)?)
    }

    pub(crate) fn stat(&self, locus: &Locus) -> Reply<Stat> {
        if matches!(locus.realm, Realm::Top | Realm::Shelf(_)) {
            return Ok(self.virtual_stat(&locus.realm, locus.file)?);
        }
        let found = self.find(locus, |look, found| Ok(look.stat(&found.seen)))?;
        Ok(match (found, &locus.realm) {
            (Ok(stat), _) => stat,
            (Err(orphan), Realm::Live(volume)) => self.orphan_stat(*volume, locus.file, &orphan),
            (Err(_), _) => return Err(Errno::Stale.into()),
        })
    }

    /// Attributes of what is in no box.
    pub(crate) fn virtual_stat(&self, realm: &Realm, file: FileId) -> Result<Stat, Errno> {
        let directory = matches!(realm, Realm::Top) || file == SHELF_ITSELF;
        Ok(Stat {
            node: self.numbering.node(realm, file),
            kind: if directory { Kind::Directory } else { Kind::Symlink },
            mode: if directory { 0o555 } else { 0o777 },
            links: 1,
            uid: self.options.uid,
            gid: self.options.gid,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime_ns: self.born_ns,
            mtime_ns: self.born_ns,
            ctime_ns: self.born_ns,
        })
    }

    /// Whether the caller may do all that `mask` names ([`crate::ACCESS_READ`] and so on); 0 asks only whether it is there.
    ///
    /// # Errors
    /// [`Errno::Access`]; [`Errno::ReadOnly`] for writing where nothing can be written.
    pub fn access(&self, caller: &Caller, node: NodeNo, mask: u32) -> Reply<()> {
        let locus = self.locus(node)?;
        let stat = self.stat(&locus)?;
        if mask & ACCESS_WRITE != 0
            && !matches!(stat.kind, Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice)
        {
            self.writable(&locus.realm)?;
        }
        Ok(self.judge(caller).access(&stat, mask)?)
    }

    /// Room on the cache disk.
    pub fn statfs(&self, node: NodeNo) -> Space {
        let volume = match self.locus(node).map(|locus| locus.realm) {
            Ok(Realm::Live(volume) | Realm::Shelf(volume)) => Some(volume),
            Ok(Realm::Past(past)) => Some(past.volume),
            Ok(Realm::Top) | Err(_) => None,
        };
        match volume.and_then(|volume| self.boxes.get(volume as usize)).or(self.boxes.first()) {
            Some(mounted) => mounted.volume.space(),
            None => Space { total: 0, free: 0 },
        }
    }

    /// Changes attributes: first the size, then owner, mode and times.
    ///
    /// Owners stay on this device. A new owner, and new bytes by anybody but root, take the set-id bits away.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] for who does not own it, [`Errno::Access`] for who may not write it, [`Errno::ReadOnly`].
    pub fn setattr(&self, caller: &Caller, node: NodeNo, set: &SetAttributes) -> Reply<Stat> {
        let locus = self.locus(node)?;
        let volume = self.writable(&locus.realm)?;
        let judge = self.judge(caller);
        let stat = self.stat(&locus)?;
        check(&judge, &stat, set, self.may_write_through(set.handle))?;
        if let Some(size) = set.size {
            self.resize(caller, &locus, volume, &stat, size)?;
        }
        let given = set.uid.is_some() || set.gid.is_some();
        if given {
            let owner = (set.uid.unwrap_or(stat.uid), set.gid.unwrap_or(stat.gid));
            if owner != (stat.uid, stat.gid) {
                self.volume(volume).set_owner(locus.file, owner.0, owner.1);
            }
        }
        if given || set.mode.is_some() || set.atime.is_some() || set.mtime.is_some() {
            let gid = set.gid.unwrap_or(stat.gid);
            self.apply(
                &locus,
                volume,
                |stat, attributes| {
                    if let Some(mode) = set.mode {
                        attributes.mode = judge.chmod(stat, mode & 0o7777, gid);
                    }
                    if given && stat.kind != Kind::Directory {
                        attributes.mode = without_privileges(attributes.mode);
                    }
                },
                set,
            )?;
        }
        self.stat(&locus)
    }

    fn may_write_through(&self, handle: Option<Handle>) -> bool {
        handle.and_then(|handle| self.handles.file(handle).ok()).is_some_and(|open| open.flags.write)
    }

    /// Cuts a file or makes it longer.
    pub(crate) fn resize(&self, caller: &Caller, locus: &Locus, volume: u32, stat: &Stat, size: u64) -> Reply<()> {
        match stat.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::IsDirectory.into()),
            _ => return Err(Errno::Invalid.into()),
        }
        self.with_place(locus, volume, |volume, place| volume.truncate(locus.file, place, size))?;
        self.drop_privileges(caller, locus, volume, stat)
    }

    /// Carries out a change of bytes at the place where the file stands now, again if it moves meanwhile.
    pub(crate) fn with_place<R>(
        &self,
        locus: &Locus,
        volume: u32,
        change: impl Fn(&ouro_local::volume::Volume, &Place) -> Result<R, VolumeError>,
    ) -> Reply<R> {
        for _ in 0..TRIES_MAX {
            let place = match self.find(locus, |_, found| Ok(found.place()))? {
                Ok(Some(place)) => place,
                Ok(None) => return Err(Errno::Invalid.into()),
                // Where it stood does not matter any more.
                Err(_) => Place { parent: FileId::HOMELESS, name: ouro_core::name::Name::empty() },
            };
            match change(self.volume(volume), &place) {
                Err(VolumeError::Gone) => {}
                other => return other.map_err(|error| self.stop_of(volume, error, 0)),
            }
        }
        Err(Errno::Stale.into())
    }

    /// Takes the set-id bits away after a change of bytes by anybody but root.
    pub(crate) fn drop_privileges(&self, caller: &Caller, locus: &Locus, volume: u32, stat: &Stat) -> Reply<()> {
        if caller.uid == 0 || without_privileges(stat.mode) == stat.mode {
            return Ok(());
        }
        let nothing = SetAttributes::default();
        self.apply(locus, volume, |_, attributes| attributes.mode = without_privileges(attributes.mode), &nothing)
    }

    /// Changes what the record holds, and what is only known here. What was set through an open writer's back stays set.
    fn apply(
        &self,
        locus: &Locus,
        volume: u32,
        change: impl Fn(&Stat, &mut Attributes),
        set: &SetAttributes,
    ) -> Reply<()> {
        let now = self.volume(volume).now_ns();
        let time = |time: SetTime| match time {
            SetTime::Now => now,
            SetTime::At(ns) => ns,
        };
        // A truncation has set the time by itself.
        let mtime = set.mtime.filter(|mtime| set.size.is_none() || *mtime != SetTime::Now);
        let result = self.revise(locus, volume, |stat, attributes| {
            change(stat, attributes);
            if let Some(mtime) = mtime {
                attributes.mtime_ns = time(mtime);
            }
            Ok(())
        })?;
        let key = (volume, locus.file);
        self.touched.lock().change(key, |touch| {
            if let Some(atime) = set.atime {
                touch.atime_ns = Some(time(atime));
            } else if set.mtime.is_some() && touch.atime_ns.is_none() {
                // What was not set stays what it was.
                touch.atime_ns = Some(result.atime_ns);
            }
            if set.mtime.is_some() {
                touch.mtime_ns = None;
            }
            touch.ctime_ns = Some(now);
        });
        Ok(())
    }

    /// Changes a file's record if the change makes a difference, and returns the attributes from before. `ctime` is set with it.
    pub(crate) fn revise(
        &self,
        locus: &Locus,
        volume: u32,
        change: impl Fn(&Stat, &mut Attributes) -> Result<(), Errno>,
    ) -> Reply<Stat> {
        let now = self.volume(volume).now_ns();
        for _ in 0..TRIES_MAX {
            let before = self.find(locus, |look, found| Ok((look.stat(&found.seen), found.clone())))?;
            let (stat, found) = match before {
                Ok(before) => before,
                Err(orphan) => return self.revise_orphan(locus, volume, &orphan, &change),
            };
            let mut attributes = seen_now(&found, &stat);
            let was = attributes.clone();
            change(&stat, &mut attributes)?;
            if attributes == was {
                return Ok(stat);
            }
            attributes.ctime_ns = now;
            let box_ = self.volume(volume);
            box_.cool(locus.file).map_err(|error| self.stop_of(volume, error, 0))?;
            let done = self.edit(volume, |edit| {
                let union = match found.union.first() {
                    Some(first) => render::members(edit.rows, *first)?,
                    None => Vec::new(),
                };
                let seen = match found.place() {
                    Some(place) => render::lookup(edit.rows, edit.devices, &union, &place.name)?,
                    None => Some(render::Seen::root(edit.rows)?),
                };
                let seen = seen.filter(|seen| seen.id == found.seen.id).ok_or(Errno::Stale)?;
                Ok(edit.set_attributes(&seen, &union, attributes.clone())?)
            });
            match done {
                Err(Stop::Errno(Errno::Stale)) => {}
                other => return other.map(|_| stat),
            }
        }
        Err(Errno::Stale.into())
    }

    fn revise_orphan(
        &self,
        locus: &Locus,
        volume: u32,
        orphan: &Orphan,
        change: &dyn Fn(&Stat, &mut Attributes) -> Result<(), Errno>,
    ) -> Reply<Stat> {
        let stat = self.orphan_stat(volume, locus.file, orphan);
        let now = self.volume(volume).now_ns();
        let mut failed = None;
        self.volume(volume).edit_orphan(locus.file, |orphan| {
            let mtime_ns = orphan.mtime_ns;
            let Some(last) = Arc::make_mut(&mut orphan.record).attributes.last_mut() else { return };
            let mut attributes = last.value.clone();
            attributes.mtime_ns = mtime_ns;
            match change(&stat, &mut attributes) {
                Ok(()) => {
                    orphan.mtime_ns = attributes.mtime_ns;
                    orphan.ctime_ns = now;
                    last.value = attributes;
                }
                Err(errno) => failed = Some(errno),
            }
        });
        failed.map_or(Ok(stat), |errno| Err(errno.into()))
    }
}

/// The attributes of the record, with the times that an open writer knows better.
fn seen_now(found: &Standing, stat: &Stat) -> Attributes {
    let mut attributes = found.seen.attributes();
    if stat.kind != Kind::Directory {
        attributes.mtime_ns = stat.mtime_ns;
    }
    attributes
}

fn check(judge: &Judge<'_>, stat: &Stat, set: &SetAttributes, open_for_writing: bool) -> Result<(), Errno> {
    if set.uid.is_some() || set.gid.is_some() {
        judge.may_give(stat, set.uid, set.gid)?;
    }
    if set.mode.is_some() {
        // The kernel may send the mode without its set-id bits along with a new owner or size: that is its right, not the caller's wish.
        let kernels = set.mode.is_some_and(|mode| mode == without_privileges(stat.mode));
        let along = set.uid.is_some() || set.gid.is_some() || set.size.is_some();
        if !(kernels && along) {
            judge.must_own(stat)?;
        }
    }
    match (set.atime, set.mtime) {
        (None, None) => {}
        (Some(SetTime::Now), Some(SetTime::Now)) => {
            if judge.must_own(stat).is_err() {
                judge.may(stat, ACCESS_WRITE)?;
            }
        }
        // A truncation says the time along with the size.
        (None, Some(SetTime::Now)) if set.size.is_some() => {}
        _ => judge.must_own(stat)?,
    }
    if set.size.is_some() && !open_for_writing {
        judge.may(stat, ACCESS_WRITE)?;
    }
    Ok(())
}
