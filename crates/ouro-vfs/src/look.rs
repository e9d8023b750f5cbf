//! Looking at a state: where a node stands, and what its attributes are.

use crate::permission::Judge;
use crate::realm::Realm;
use crate::stop::Errno;
use crate::touched::Touch;
use crate::types::{Caller, Stat};
use crate::vfs::Vfs;
use ouro_core::edit::EditError;
use ouro_core::id::FileId;
use ouro_core::name::{BadName, Name};
use ouro_core::render::{self, Devices, Seen, What};
use ouro_core::row::{Key, Missing, Rows};
use ouro_core::state::{Kind, Place};
use ouro_local::volume::{Orphan, View};

/// Why a look or an edit ended early.
#[derive(Debug)]
pub(crate) enum Halt {
    Errno(Errno),
    Missing(Missing),
    Edit(EditError),
}

impl From<Errno> for Halt {
    fn from(errno: Errno) -> Halt {
        Halt::Errno(errno)
    }
}
impl From<Missing> for Halt {
    fn from(missing: Missing) -> Halt {
        Halt::Missing(missing)
    }
}
impl From<EditError> for Halt {
    fn from(error: EditError) -> Halt {
        match error {
            EditError::Missing(missing) => Halt::Missing(missing),
            other => Halt::Edit(other),
        }
    }
}

/// A node as the table knows it.
#[derive(Clone)]
pub(crate) struct Locus {
    pub(crate) realm: Realm,
    pub(crate) file: FileId,
    /// Where it was found last.
    pub(crate) noted: Option<Place>,
}

/// Where something stands now and what it is.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) seen: Seen,
    /// The directory in which it stands, as its members; empty for a root.
    pub(crate) union: Vec<FileId>,
}

impl Standing {
    /// The place that is noted: the first member and the name.
    pub(crate) fn place(&self) -> Option<Place> {
        let parent = *self.union.first()?;
        Some(Place { parent, name: self.seen.name.clone() })
    }
}

/// Takes bytes as a name to be looked up or made.
pub(crate) fn name(bytes: &[u8]) -> Result<Name, Errno> {
    Name::new(bytes).map_err(|bad| match bad {
        BadName::TooLong => Errno::NameTooLong,
        BadName::Invalid => Errno::Invalid,
    })
}

/// Finds a node: where it was noted, where its header says, anywhere. `None` if it stands nowhere.
pub(crate) fn stand(
    rows: &dyn Rows,
    devices: &dyn Devices,
    file: FileId,
    noted: Option<&Place>,
) -> Result<Option<Standing>, Missing> {
    if file == FileId::ROOT {
        return Ok(Some(Standing { seen: Seen::root(rows)?, union: Vec::new() }));
    }
    if let Some(place) = noted
        && let Some(found) = stand_at(rows, devices, file, place)?
    {
        return Ok(Some(found));
    }
    if let Some(place) = render::place(rows, file)? {
        return stand_at(rows, devices, file, &place);
    }
    Ok(None)
}

/// The last resort for a file that is not where it was noted. May read the whole tree.
pub(crate) fn search(rows: &dyn Rows, devices: &dyn Devices, file: FileId) -> Result<Option<Standing>, Missing> {
    if file.is_derived() {
        return Ok(None);
    }
    let Some((key, record)) = rows.find(file)? else { return Ok(None) };
    let mut places = Vec::new();
    if key.directory != FileId::HOMELESS {
        places.push(Place { parent: key.directory, name: key.name.clone() });
    }
    places.extend(record.placements.iter().map(|p| p.place.clone()));
    places.extend(record.contents.iter().map(|c| c.at.clone()));
    for place in places {
        if let Some(found) = stand_at(rows, devices, file, &place)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn stand_at(rows: &dyn Rows, devices: &dyn Devices, file: FileId, place: &Place) -> Result<Option<Standing>, Missing> {
    let union = render::members(rows, place.parent)?;
    if union.is_empty() {
        return Ok(None);
    }
    let seen = match render::lookup(rows, devices, &union, &place.name)? {
        Some(seen) if is(&seen, file) => Some(seen),
        _ => beside(rows, devices, &union, file, &place.name)?,
    };
    Ok(seen.map(|seen| Standing { seen, union }))
}

/// A file whose name was taken by a later one is shown under a derived name in the same group.
fn beside(
    rows: &dyn Rows,
    devices: &dyn Devices,
    union: &[FileId],
    file: FileId,
    name: &Name,
) -> Result<Option<Seen>, Missing> {
    let from = Key::first_of(union[0], name.clone());
    let mut several = false;
    rows.scan(&from, &mut |key, _| {
        several |= key.directory == union[0] && key.name == *name && key.file == file;
        if several || key.name != *name {
            core::ops::ControlFlow::Break(())
        } else {
            core::ops::ControlFlow::Continue(())
        }
    })?;
    if !several {
        return Ok(None);
    }
    let page = render::list(rows, devices, union, before(name).as_ref(), 1)?;
    Ok(page.entries.into_iter().find(|seen| is(seen, file) && seen.group == *name))
}

/// The greatest name before `name`, so that a listing behind it begins with `name`; `None` if that is the first name there can be.
fn before(name: &Name) -> Option<Name> {
    let (last, head) = name.as_bytes().split_last()?;
    let mut bytes = head.to_vec();
    if *last > 1 {
        // A name holds no slash.
        bytes.push(if *last == b'/' + 1 { b'/' - 1 } else { *last - 1 });
        bytes.resize(ouro_core::name::NAME_BYTES_MAX, 0xff);
    }
    Name::new(&bytes).ok()
}

fn is(seen: &Seen, file: FileId) -> bool {
    seen.id == file || seen.members().contains(&file)
}

/// A look at one realm's state. Short: the box's lock is held meanwhile.
pub(crate) struct Look<'a> {
    pub(crate) vfs: &'a Vfs,
    pub(crate) realm: &'a Realm,
    pub(crate) rows: &'a dyn Rows,
    pub(crate) devices: &'a dyn Devices,
    /// The live state, if it is one.
    pub(crate) live: Option<&'a View<'a>>,
}

impl Look<'_> {
    /// Where a node stands.
    pub(crate) fn stand(&self, locus: &Locus) -> Result<Standing, Halt> {
        if let Some(found) = stand(self.rows, self.devices, locus.file, locus.noted.as_ref())? {
            return Ok(found);
        }
        Err(Halt::Errno(Errno::Stale))
    }

    /// Where a node stands that is not shown there any more: a file of another device has its name, and no copy beside it is shown.
    pub(crate) fn out_of_sight(&self, locus: &Locus) -> Result<Option<Standing>, Halt> {
        let Some(place) = &locus.noted else { return Ok(None) };
        let union = render::members(self.rows, place.parent)?;
        if union.is_empty() {
            return Ok(None);
        }
        let seen = render::out_of_sight(self.rows, &union, &place.name, locus.file)?;
        Ok(seen.map(|seen| Standing { seen, union }))
    }

    /// A directory with its attributes.
    pub(crate) fn directory(&self, locus: &Locus) -> Result<(Standing, Stat), Halt> {
        let found = match self.stand(locus) {
            Err(Halt::Errno(Errno::Stale)) => return Err(Errno::NoEntry.into()),
            other => other?,
        };
        if found.seen.kind() != Kind::Directory {
            return Err(Errno::NotDirectory.into());
        }
        let stat = self.stat(&found.seen);
        Ok((found, stat))
    }

    /// Tells states of the realm apart: two looks with the same one find the same. What others see of a commit never changes.
    pub(crate) fn turn(&self) -> u64 {
        self.live.map_or(0, View::turn)
    }

    /// The entry at a name.
    pub(crate) fn lookup(&self, directory: &[FileId], name: &Name) -> Result<Option<Seen>, Halt> {
        Ok(render::lookup(self.rows, self.devices, directory, name)?)
    }

    /// Attributes of something seen.
    pub(crate) fn stat(&self, seen: &Seen) -> Stat {
        let record = seen.file();
        let hot = self.live.and_then(|view| view.hot(seen.id));
        let content_size = seen.content().map_or(0, |content| content.size());
        let (mut size, mut mtime_ns, mut ctime_ns, mut mode, mut rdev) = (content_size, 0, 0, None, 0);
        if let Some(attributes) = record.seen_attributes() {
            (mtime_ns, ctime_ns) = (attributes.mtime_ns, attributes.ctime_ns);
            (mode, rdev) = (Some(attributes.mode), attributes.rdev);
        }
        if let Some(hot) = hot {
            (size, mtime_ns, ctime_ns) = (hot.size, hot.mtime_ns, hot.ctime_ns);
        }
        let mut touch = Touch::default();
        let options = &self.vfs.options;
        let mut owner = (options.uid, options.gid);
        if let (Some(view), Realm::Live(volume)) = (self.live, self.realm) {
            touch = self.vfs.touched.lock().get((*volume, seen.id));
            owner = view.owner(seen.id).unwrap_or(owner);
        }
        let directory = matches!(seen.what, What::Directory { .. });
        if directory {
            mtime_ns = touch.mtime_ns.map_or(mtime_ns, |t| t.max(mtime_ns));
            size = 0;
        }
        ctime_ns = touch.ctime_ns.map_or(ctime_ns, |t| t.max(ctime_ns));
        let links = match touch.subdirectories {
            Some(subdirectories) if directory => subdirectories.saturating_add(2),
            _ => seen.links(),
        };
        Stat {
            node: self.vfs.numbering.node(self.realm, seen.id),
            kind: seen.kind(),
            mode: mode.unwrap_or_else(|| seen.attributes().mode),
            links,
            uid: owner.0,
            gid: owner.1,
            rdev,
            size,
            blocks: size.div_ceil(512),
            atime_ns: touch.atime_ns.unwrap_or(mtime_ns),
            mtime_ns,
            ctime_ns,
        }
    }
}

impl Vfs {
    /// Attributes of a file without a name that is still open.
    pub(crate) fn orphan_stat(&self, volume: u32, file: FileId, orphan: &Orphan) -> Stat {
        let attributes = orphan.record.seen_attributes();
        let (uid, gid) = self.volume(volume).owner(file).unwrap_or((self.options.uid, self.options.gid));
        let touch = self.touched.lock().get((volume, file));
        Stat {
            node: self.numbering.node(&Realm::Live(volume), file),
            kind: orphan.record.kind,
            mode: attributes.map_or(0o600, |a| a.mode),
            links: 0,
            uid,
            gid,
            rdev: attributes.map_or(0, |a| a.rdev),
            size: orphan.size,
            blocks: orphan.size.div_ceil(512),
            atime_ns: touch.atime_ns.unwrap_or(orphan.mtime_ns),
            mtime_ns: orphan.mtime_ns,
            ctime_ns: touch.ctime_ns.map_or(orphan.ctime_ns, |t| t.max(orphan.ctime_ns)),
        }
    }

    /// Judges a caller.
    pub(crate) fn judge<'a>(&'a self, caller: &'a Caller) -> Judge<'a> {
        Judge { caller, processes: self.processes.get().map(|p| &**p), strict: self.options.check_permissions }
    }
}
