//! `import`: a tree that stands elsewhere on this machine becomes part of a box, without going through the mount.

use crate::api::{Failure, Imported, Progress, Refused, Response, Unit};
use crate::boxes::OpenBox;
use crate::engine::{Engine, OnProgress};
use crate::walk::{Batch, Walk};
use ouro_core::edit::EditError;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Seen};
use ouro_core::state::Kind;
use ouro_sync::{Import, LeftOut, Ordinal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was left out is named up to this many times; the rest is counted.
const NAMED_MAX: usize = 100;

/// A directory of the box: the union of directories shown as one, and the names from the root down to it.
pub(crate) struct Target {
    pub(crate) open: Arc<OpenBox>,
    pub(crate) union: Vec<FileId>,
    pub(crate) path: Vec<Name>,
}

impl Engine {
    /// Takes in all of `source`. It becomes the directory `into` of a mounted box; without `into`, a directory of its own name in the root
    /// of the box called `name`, or of the only one.
    pub(crate) fn import(
        &self,
        source: &Path,
        into: Option<&Path>,
        name: Option<&str>,
        progress: &OnProgress,
    ) -> Result<Response, Failure> {
        let source = source.canonicalize().map_err(|error| Failure::io(source, &error))?;
        self.check_source(&source)?;
        let (target, name) = self.target(&source, into, name)?;
        let open = Arc::clone(&target.open);
        let mut import = self.block_on(Import::begin(Arc::clone(&open.sync)))?;
        import.stands(0, target.union.clone());
        let mut walk = Walk::new(self, &source, target, name)?;
        let files = Arc::new(AtomicU64::new(0));
        let bytes = Arc::new(AtomicU64::new(0));
        let stored = {
            let (files, bytes, told) = (Arc::clone(&files), Arc::clone(&bytes), Arc::clone(progress));
            let what = format!("importing {}", source.display());
            move |size: u64| {
                let done = files.fetch_add(1, Ordering::Relaxed) + 1;
                bytes.fetch_add(size, Ordering::Relaxed);
                if done.is_multiple_of(256) {
                    told(Progress { what: what.clone(), done, total: None, unit: Unit::Files });
                }
            }
        };
        let mut imported = Imported::default();
        let mut batch = walk.next_batch()?;
        while !batch.is_empty() {
            let Batch { entries, labels, standing, same, ignored, left_out, finished, .. } = batch;
            for (ordinal, stands) in standing {
                stands.tell(&mut import, ordinal);
            }
            imported.entries += entries.len() as u64;
            imported.same += same;
            imported.ignored += ignored;
            left_out.into_iter().for_each(|(path, why)| imported.leave_out(path, why));
            // While this batch goes up, the next one is looked up.
            let (taken, next) = std::thread::scope(|scope| {
                let next = scope.spawn(|| walk.next_batch());
                let taken = self.block_on(import.take(entries, &stored));
                (taken, next.join())
            });
            self.note_left_out(&mut imported, taken?, &labels);
            finished.into_iter().for_each(|ordinal| import.forget(ordinal));
            batch = next.map_err(|_| Failure::bug("the walk of the folder ended early"))??;
        }
        imported.files = files.load(Ordering::Relaxed);
        imported.bytes = bytes.load(Ordering::Relaxed);
        self.wait_for(&open, None, progress)?;
        Ok(Response::Imported(imported))
    }

    fn note_left_out(&self, imported: &mut Imported, left: Vec<(Ordinal, LeftOut)>, labels: &[(Ordinal, PathBuf)]) {
        for (ordinal, why) in left {
            imported.entries -= 1;
            let why = match why {
                LeftOut::Unreadable(error) => format!("it cannot be read: {error}"),
                LeftOut::Edit(EditError::Exists) => "something came to stand at its name meanwhile".to_owned(),
                LeftOut::Edit(EditError::NotFound) => "its directory, or its first name, was left out".to_owned(),
                LeftOut::Edit(error) => error.to_string(),
            };
            let label = labels.binary_search_by_key(&ordinal, |(ordinal, _)| *ordinal);
            imported.leave_out(label.map_or_else(|_| PathBuf::new(), |at| labels[at].1.clone()), why);
        }
    }

    /// Refuses what cannot be imported sensibly.
    fn check_source(&self, source: &Path) -> Result<(), Failure> {
        if !source.is_dir() {
            return Err(Failure::needs_user(format!(
                "{} is no directory: name the folder to import",
                source.display()
            )));
        }
        if let Some(inside) = self.attached.lock().iter().find(|a| source.starts_with(&a.mountpoint)) {
            return Err(Failure::needs_user(format!(
                "{} lies in the mount {}: use `cp` or `mv` inside it",
                source.display(),
                inside.mountpoint.display()
            )));
        }
        Ok(())
    }

    /// The directory of a box that `source` goes into, and its name there if it is to be made or looked up.
    fn target(
        &self,
        source: &Path,
        into: Option<&Path>,
        name: Option<&str>,
    ) -> Result<(Target, Option<Name>), Failure> {
        let usable = |name: Option<&std::ffi::OsStr>, path: &Path| {
            name.and_then(|name| Name::new(name.as_bytes()).ok())
                .ok_or_else(|| Failure::needs_user(format!("{} has no name: say where it goes", path.display())))
        };
        let Some(into) = into else {
            let names: Vec<String> = name.map(str::to_owned).into_iter().collect();
            let open = self.choose(&names)?.remove(0);
            let name = usable(source.file_name(), source)?;
            return Ok((Target { open, union: vec![FileId::ROOT], path: Vec::new() }, Some(name)));
        };
        let is_root = self.attached.lock().iter().any(|a| a.mountpoint == into);
        let above = if is_root { into } else { into.parent().unwrap_or(into) };
        let found = self.find(above)?;
        if found.seen.last().is_some_and(|seen| seen.kind() != Kind::Directory) {
            return Err(Failure::needs_user(format!("{} is no directory", above.display())));
        }
        let target = Target {
            union: found.members(),
            path: found.seen.iter().map(|seen| seen.name.clone()).collect(),
            open: found.open,
        };
        let name = if is_root { None } else { Some(usable(into.file_name(), into)?) };
        Ok((target, name))
    }

    /// What stands at a name of a box's directory.
    pub(crate) fn look_up(&self, open: &OpenBox, union: &[FileId], name: &Name) -> Result<Option<Seen>, Failure> {
        self.ask(open, |volume| {
            let view = volume.view();
            Ok(render::lookup(&view, &view, union, name)?)
        })
    }
}

impl Imported {
    fn leave_out(&mut self, path: PathBuf, why: String) {
        self.left_out += 1;
        if self.refused.len() < NAMED_MAX {
            self.refused.push(Refused { path, why });
        }
    }
}
