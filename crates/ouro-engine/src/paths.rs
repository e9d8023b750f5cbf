//! From a path inside a mount to what stands there.

use crate::api::{Failure, FailureKind};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Seen};
use ouro_local::volume::{Snapshot, Volume, VolumeError};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

/// Looks up a name in a union of directories.
type Look<'l> = dyn FnMut(&[FileId], &Name) -> Result<Option<Seen>, VolumeError> + 'l;

/// What stands at a path.
pub(crate) struct Found {
    pub(crate) open: Arc<OpenBox>,
    /// The directories from the root down to the parent, then the entry itself; empty for the root.
    pub(crate) seen: Vec<Seen>,
}

/// A path and what stands along it.
pub(crate) struct Way {
    pub(crate) open: Arc<OpenBox>,
    /// Its names from the box's root.
    pub(crate) names: Vec<Name>,
    /// What stands there, as far as it exists.
    pub(crate) seen: Vec<Seen>,
}

impl Way {
    /// The union of directories in which the last name stands, or would, if they exist.
    pub(crate) fn parent(&self) -> Option<Vec<FileId>> {
        match self.names.len() {
            0 => None,
            1 => Some(vec![FileId::ROOT]),
            n => self.seen.get(n - 2).map(|seen| seen.members().to_vec()),
        }
    }

    /// What stands at the whole path.
    pub(crate) fn entry(&self) -> Option<&Seen> {
        if self.seen.len() == self.names.len() { self.seen.last() } else { None }
    }
}

impl Found {
    /// The union of directories that the entry is, if it is a directory.
    pub(crate) fn members(&self) -> Vec<FileId> {
        self.seen.last().map_or_else(|| vec![FileId::ROOT], |seen| seen.members().to_vec())
    }

    /// The entry's id and those of all directories above, nearest first: the chain that pins are inherited along.
    pub(crate) fn chain(&self) -> Vec<FileId> {
        let ids = self.seen.iter().rev().map(|seen| seen.id);
        ids.chain(std::iter::once(FileId::ROOT)).collect()
    }
}

impl Engine {
    /// Finds what stands at an absolute path inside a mount.
    pub(crate) fn find(&self, path: &Path) -> Result<Found, Failure> {
        let Way { open, names, seen } = self.walk(path)?;
        if seen.len() < names.len() {
            return Err(Failure::needs_user(format!("{} does not exist", path.display())));
        }
        Ok(Found { open, seen })
    }

    /// Walks an absolute path inside a mount as far as it exists.
    pub(crate) fn walk(&self, path: &Path) -> Result<Way, Failure> {
        let (open, names) = self.box_of(path)?;
        let volume = Arc::clone(&open.volume);
        let seen = self.walk_in(&open, &names, &mut |union, name| {
            let view = volume.view();
            Ok(render::lookup(&view, &view, union, name)?)
        })?;
        Ok(Way { open, names, seen })
    }

    /// Walks a path from the root of a box as far as it exists in a state of the past.
    pub(crate) fn walk_past(&self, open: &OpenBox, past: &Snapshot, names: &[Name]) -> Result<Vec<Seen>, Failure> {
        self.walk_in(open, names, &mut |union, name| Ok(render::lookup(past, past, union, name)?))
    }

    fn walk_in(&self, open: &OpenBox, names: &[Name], look: &mut Look<'_>) -> Result<Vec<Seen>, Failure> {
        let mut seen: Vec<Seen> = Vec::new();
        for name in names {
            let union = seen.last().map_or_else(|| vec![FileId::ROOT], |s| s.members().to_vec());
            match self.ask(open, |_| look(&union, name))? {
                Some(entry) => seen.push(entry),
                None => break,
            }
        }
        Ok(seen)
    }

    /// What stands at a name now.
    pub(crate) fn live(&self, open: &OpenBox, directory: &[FileId], name: &Name) -> Result<Option<Seen>, Failure> {
        self.ask(open, |volume| {
            let view = volume.view();
            Ok(render::lookup(&view, &view, directory, name)?)
        })
    }

    /// The box that is named, or in whose mount a path is, or the only one.
    pub(crate) fn box_meant(&self, name: Option<&str>, path: Option<&Path>) -> Result<Arc<OpenBox>, Failure> {
        match (name, path) {
            (Some(name), _) => self.find_box(name),
            (None, Some(path)) => Ok(self.box_of(path)?.0),
            (None, None) => Ok(self.choose(&[])?.remove(0)),
        }
    }

    fn box_of(&self, path: &Path) -> Result<(Arc<OpenBox>, Vec<Name>), Failure> {
        let attached = self.attached.lock();
        let mount = attached.iter().find(|a| path.starts_with(&a.mountpoint));
        let mount = mount.ok_or_else(|| {
            Failure::needs_user(format!(
                "{} is not inside a mounted box; `ourobox status` shows where they are",
                path.display()
            ))
        })?;
        let inside = path.strip_prefix(&mount.mountpoint).unwrap_or(Path::new(""));
        let mut names = Vec::new();
        for component in inside.components() {
            if let Component::Normal(name) = component {
                let name = Name::new(name.as_bytes());
                names.push(name.map_err(|_| Failure::needs_user(format!("{} is no path in a box", path.display())))?);
            }
        }
        let alone = mount.boxes.len() == 1;
        let name = if alone {
            mount.boxes[0].clone()
        } else if names.is_empty() {
            return Err(Failure::needs_user(format!("{} holds several boxes: name one of them", path.display())));
        } else {
            names.remove(0).display()
        };
        drop(attached);
        Ok((self.find_box(&name)?, names))
    }

    /// Asks a volume something, fetching index nodes that it misses.
    pub(crate) fn ask<T>(
        &self,
        open: &OpenBox,
        mut question: impl FnMut(&Volume) -> Result<T, VolumeError>,
    ) -> Result<T, Failure> {
        /// Deeper than any path and any tree.
        const ROUNDS_MAX: usize = 100_000;
        for _ in 0..ROUNDS_MAX {
            match question(&open.volume) {
                Ok(answer) => return Ok(answer),
                Err(VolumeError::Missing(missing)) => self.block_on(open.sync.fetch_node(missing))?,
                Err(VolumeError::Need(blobs)) => self.block_on(open.sync.fetch_blobs(blobs))?,
                Err(VolumeError::Record { device, seq }) => self.block_on(open.sync.fetch_records(device, seq))?,
                Err(other) => return Err(other.into()),
            }
        }
        Err(Failure::new(FailureKind::Bug, "an answer needs more of the index than there is"))
    }
}
