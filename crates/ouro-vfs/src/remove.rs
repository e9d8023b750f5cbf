//! Taking names away and moving them.

use crate::look::{Halt, Locus, Look, Standing, name};
use crate::permission::Judge;
use crate::realm::Realm;
use crate::snapshots::SHELF_NAME;
use crate::stop::{Errno, Reply};
use crate::types::{ACCESS_EXECUTE, ACCESS_WRITE, Caller, NodeNo, RenameHow, Stat};
use crate::vfs::Vfs;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Devices, Seen};
use ouro_core::row::Rows;
use ouro_core::state::{Kind, Place};

/// A directory, looked at for permissions; what stands in it is looked up again when it is changed.
struct Above {
    id: FileId,
    stat: Stat,
    standing: Standing,
}

impl Vfs {
    /// Removes a name that is no directory; the file goes with its last name and its last handle.
    ///
    /// # Errors
    /// [`Errno::NoEntry`], [`Errno::IsDirectory`], [`Errno::Access`], [`Errno::NotPermitted`] (sticky directory).
    pub fn unlink(&self, caller: &Caller, parent: NodeNo, name: &[u8]) -> Reply<()> {
        self.remove(caller, parent, name, false)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As [`Vfs::unlink`]; [`Errno::NotEmpty`], [`Errno::NotDirectory`].
    pub fn rmdir(&self, caller: &Caller, parent: NodeNo, name: &[u8]) -> Reply<()> {
        match name {
            b"." => Err(Errno::Invalid.into()),
            b".." => Err(Errno::NotEmpty.into()),
            _ => self.remove(caller, parent, name, true),
        }
    }

    fn remove(&self, caller: &Caller, parent: NodeNo, bytes: &[u8], directory: bool) -> Reply<()> {
        let locus = self.locus(parent)?;
        let volume = self.changeable(&locus, bytes)?;
        let name = name(bytes)?;
        let judge = self.judge(caller);
        let above = self.look(&locus.realm, |look| {
            let above = above(look, &judge, &locus)?;
            let (_, entry) = entry(look, &above, &name)?;
            judge.may_remove(&above.stat, &entry)?;
            match (entry.kind == Kind::Directory, directory) {
                (true, false) => Err(Errno::IsDirectory.into()),
                (false, true) => Err(Errno::NotDirectory.into()),
                _ => Ok(above),
            }
        })?;
        let (seen, first) = self.edit(volume, |edit| {
            let (seen, union) = seen_in(edit.rows, edit.devices, above.id, &name)?;
            let seen = seen.ok_or(Errno::NoEntry)?;
            if (seen.kind() == Kind::Directory) != directory {
                return Err(if directory { Errno::NotDirectory } else { Errno::IsDirectory }.into());
            }
            let edited = edit.remove(&seen, &union)?;
            Ok(((seen, union[0]), edited))
        })?;
        let now = self.volume(volume).now_ns();
        self.touched.lock().listing((volume, first), now, -i64::from(directory));
        self.gone(&locus.realm, volume, &seen, now);
        Ok(())
    }

    /// Which box a directory belongs to if names in it may be changed.
    fn changeable(&self, directory: &Locus, name: &[u8]) -> Result<u32, Errno> {
        let shelf = name == SHELF_NAME && directory.file == FileId::ROOT && matches!(directory.realm, Realm::Live(_));
        if shelf { Err(Errno::NotPermitted) } else { self.writable(&directory.realm) }
    }

    /// Notes that one name of something has gone.
    fn gone(&self, realm: &Realm, volume: u32, seen: &Seen, now_ns: i64) {
        if seen.kind() == Kind::Directory {
            self.touched.lock().forget((volume, seen.id));
            return;
        }
        self.touched.lock().change((volume, seen.id), |touch| touch.ctime_ns = Some(now_ns));
        // Another name keeps the node findable.
        let other = seen.file().placements.iter().find(|p| p.slot != seen.slot);
        if let Some(other) = other {
            self.table.lock().note(self.numbering.node(realm, seen.id), seen.id, &other.place);
        }
    }

    /// Moves a name.
    ///
    /// # Errors
    /// [`Errno::CrossBox`], [`Errno::Exists`] for [`RenameHow::NoReplace`], [`Errno::NotDirectory`], [`Errno::IsDirectory`],
    /// [`Errno::NotEmpty`], [`Errno::Invalid`] for a directory into itself, [`Errno::Access`], [`Errno::NotPermitted`], [`Errno::NoEntry`].
    pub fn rename(
        &self,
        caller: &Caller,
        parent: NodeNo,
        name: &[u8],
        new_parent: NodeNo,
        new_name: &[u8],
        how: RenameHow,
    ) -> Reply<()> {
        let (from, to) = (self.locus(parent)?, self.locus(new_parent)?);
        if !from.realm.is(&to.realm) {
            return Err(Errno::CrossBox.into());
        }
        for dots in [b".".as_slice(), b".."] {
            if name == dots || new_name == dots {
                return Err(Errno::Busy.into());
            }
        }
        self.changeable(&from, name)?;
        let volume = self.changeable(&to, new_name)?;
        let (name, new_name) = (crate::look::name(name)?, crate::look::name(new_name)?);
        let judge = self.judge(caller);
        let (source, target) = self.look(&from.realm, |look| {
            let (source, target) = (above(look, &judge, &from)?, above(look, &judge, &to)?);
            may_rename(look, &judge, (&source, &name), (&target, &new_name), how)?;
            Ok((source.id, target.id))
        })?;
        let moved = self.edit(volume, |edit| {
            let (seen, union) = seen_in(edit.rows, edit.devices, source, &name)?;
            let seen = seen.ok_or(Errno::NoEntry)?;
            let (over, to_union) = seen_in(edit.rows, edit.devices, target, &new_name)?;
            let firsts = (union[0], to_union[0]);
            let edited = match (how, &over) {
                (RenameHow::NoReplace, Some(_)) => return Err(Errno::Exists.into()),
                (RenameHow::Exchange, None) => return Err(Errno::NoEntry.into()),
                (RenameHow::Exchange, Some(over)) => edit.exchange(&seen, &union, over, &to_union)?,
                (RenameHow::Replace | RenameHow::NoReplace, _) => {
                    fits(&seen, over.as_ref())?;
                    edit.rename(&seen, &union, &to_union, &new_name, over.as_ref())?.1
                }
            };
            Ok(((seen, over, firsts), edited))
        })?;
        let (seen, over, (first, to_first)) = moved;
        if over.as_ref().is_some_and(|over| over.id == seen.id) {
            return Ok(());
        }
        let now = self.volume(volume).now_ns();
        let place = Place { parent: to_first, name: new_name };
        let old = Place { parent: first, name };
        self.moved(&from.realm, volume, (&seen, &old), &place, now);
        match over {
            Some(over) if how == RenameHow::Exchange => self.moved(&from.realm, volume, (&over, &place), &old, now),
            Some(over) => {
                let replaced_directory = over.kind() == Kind::Directory;
                self.touched.lock().listing((volume, to_first), now, -i64::from(replaced_directory));
                self.gone(&from.realm, volume, &over, now);
            }
            None => {}
        }
        Ok(())
    }

    /// Notes that something stands elsewhere now.
    fn moved(&self, realm: &Realm, volume: u32, (seen, from): (&Seen, &Place), to: &Place, now_ns: i64) {
        let directory = i64::from(seen.kind() == Kind::Directory);
        {
            let mut touched = self.touched.lock();
            touched.listing((volume, from.parent), now_ns, -directory);
            touched.listing((volume, to.parent), now_ns, directory);
            touched.change((volume, seen.id), |touch| touch.ctime_ns = Some(now_ns));
        }
        self.table.lock().note(self.numbering.node(realm, seen.id), seen.id, to);
    }
}

/// What stands at a name, found again under the lock that changes it, and the directory's members.
fn seen_in(
    rows: &dyn Rows,
    devices: &dyn Devices,
    directory: FileId,
    name: &Name,
) -> Result<(Option<Seen>, Vec<FileId>), Halt> {
    let union = render::members(rows, directory)?;
    if union.is_empty() {
        return Err(Errno::NoEntry.into());
    }
    Ok((render::lookup(rows, devices, &union, name)?, union))
}

fn above(look: &Look<'_>, judge: &Judge<'_>, locus: &Locus) -> Result<Above, Halt> {
    let (standing, stat) = look.directory(locus)?;
    judge.may(&stat, ACCESS_EXECUTE)?;
    Ok(Above { id: standing.seen.id, stat, standing })
}

fn entry(look: &Look<'_>, above: &Above, name: &Name) -> Result<(Seen, Stat), Halt> {
    let seen = look.lookup(above.standing.seen.members(), name)?.ok_or(Errno::NoEntry)?;
    let stat = look.stat(&seen);
    Ok((seen, stat))
}

/// A directory replaces an empty directory only, and nothing else a directory.
fn fits(seen: &Seen, over: Option<&Seen>) -> Result<(), Errno> {
    match over.map(|over| (seen.kind() == Kind::Directory, over.kind() == Kind::Directory)) {
        Some((true, false)) => Err(Errno::NotDirectory),
        Some((false, true)) => Err(Errno::IsDirectory),
        _ => Ok(()),
    }
}

fn may_rename(
    look: &Look<'_>,
    judge: &Judge<'_>,
    (source, name): (&Above, &Name),
    (target, new_name): (&Above, &Name),
    how: RenameHow,
) -> Result<(), Halt> {
    let (seen, stat) = entry(look, source, name)?;
    let over = look.lookup(target.standing.seen.members(), new_name)?;
    if how == RenameHow::NoReplace && over.is_some() {
        return Err(Errno::Exists.into());
    }
    if over.as_ref().is_some_and(|over| over.id == seen.id) {
        return Ok(());
    }
    judge.may_remove(&source.stat, &stat)?;
    let across = source.id != target.id;
    match &over {
        None if how == RenameHow::Exchange => return Err(Errno::NoEntry.into()),
        None => judge.may_create(&target.stat)?,
        Some(over) => {
            let over_stat = look.stat(over);
            judge.may_remove(&target.stat, &over_stat)?;
            if how == RenameHow::Exchange && across && over_stat.kind == Kind::Directory {
                judge.may(&over_stat, ACCESS_WRITE)?;
            }
        }
    }
    if how != RenameHow::Exchange {
        fits(&seen, over.as_ref())?;
    }
    if across && stat.kind == Kind::Directory {
        // Its `..` changes.
        judge.may(&stat, ACCESS_WRITE)?;
    }
    Ok(())
}
