//! `restore`: what was, as new edits. Content references are taken over; no byte of a content is read.
//!
//! What still lives keeps its identity: it is moved back and gets its old content. All of it is one commit of its own, made after one that
//! holds everything before it, so nothing that was there is lost.

mod act;

use crate::api::{Failure, FailureKind, Response, Restored};
use crate::boxes::OpenBox;
use crate::diff::written;
use crate::engine::Engine;
use crate::paths::Way;
use crate::when::ids;
use act::Act;
use ouro_core::compare;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Seen};
use ouro_core::row::{Key, Rows};
use ouro_core::state::Kind;
use ouro_local::volume::Snapshot;
use ouro_sync::Turn;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What is to be restored where.
struct Aim {
    /// The names from the box's root to what is restored, as it was called then.
    source: Vec<Name>,
    /// What stood along them; empty for the root.
    was: Vec<Seen>,
    /// The directory into which copies are put.
    copies: Option<Vec<FileId>>,
}

/// Where the state to be restored and what is seen now differ.
#[derive(Default)]
struct Apart {
    /// Directories in or below which something differs.
    directories: BTreeSet<FileId>,
    /// Files that stood then where they do not stand now.
    was: BTreeSet<FileId>,
    /// The rows of files that stand now where they did not stand then.
    is: BTreeMap<FileId, Vec<Key>>,
}

impl Engine {
    pub(crate) fn restore(
        &self,
        path: Option<&Path>,
        at: &str,
        to: Option<&Path>,
        name: Option<&str>,
    ) -> Result<Response, Failure> {
        let way = match path {
            Some(path) => self.walk(path)?,
            None => Way { open: self.box_meant(name, None)?, names: Vec::new(), seen: Vec::new() },
        };
        let open = Arc::clone(&way.open);
        let turn = self.block_on(open.sync.turn());
        let unsealed = self.block_on(open.sync.seal_rest(&turn)).err().map(Failure::from);
        let past = self.past(&open, at)?;
        let aim = self.aim(&way, &past, at, to)?;
        let now = open.volume.still();
        let apart = self.apart(&open, &past, &now)?;
        if let Some(why) = unsealed {
            let mut dry = Act::new(self, &open, &past, &apart).dry();
            self.carry_through(&mut dry, &aim)?;
            let waiting = |id: &FileId| open.volume.is_pending(*id) && !open.volume.is_sealed(*id);
            if dry.touched.iter().any(waiting) {
                let text = format!(
                    "nothing was restored: what was changed there last is in no commit yet, and would be lost: {}",
                    why.message
                );
                return Err(Failure::new(why.kind, text));
            }
        }
        let before = self.newest(&open);
        let mut act = Act::new(self, &open, &past, &apart);
        let outcome = self.carry_through(&mut act, &aim);
        let mut done = Restored { box_name: open.name.clone(), before, ..act.done };
        if done.created + done.edited + done.renamed + done.removed > 0 {
            let remark = format!("\nrestored {} as of {at}", written(&aim.source));
            self.commit_restored(&open, &turn, remark, &mut done);
        }
        outcome?;
        Ok(Response::Restored(done))
    }

    fn commit_restored(&self, open: &OpenBox, turn: &Turn<'_>, remark: String, done: &mut Restored) {
        match self.block_on(open.sync.commit_as(turn, remark)) {
            Ok(Some(taken)) => {
                done.commit = Some(ids(open, taken.device, taken.seq).0);
                done.waiting = taken.published.err().map(|error| Failure::from(error).message);
            }
            Ok(None) => {}
            Err(error) => done.waiting = Some(Failure::from(error).message),
        }
        open.sync.hurry();
    }

    /// The id of the newest commit, the one on its way included.
    pub(crate) fn newest(&self, open: &OpenBox) -> Option<String> {
        if let Some(sealed) = open.volume.sealed() {
            return Some(ids(open, sealed.version.device, sealed.version.seq).0);
        }
        let heads = open.volume.heads();
        let (device, head) = heads.iter().max_by_key(|(_, head)| head.hlc)?;
        Some(ids(open, *device, head.seq).0)
    }

    fn aim(&self, way: &Way, past: &Snapshot, at: &str, to: Option<&Path>) -> Result<Aim, Failure> {
        let copies = match to {
            Some(to) => Some(self.copies_into(way, to)?),
            None => None,
        };
        let was = self.walk_past(&way.open, past, &way.names)?;
        if was.len() == way.names.len() {
            return Ok(Aim { source: way.names.clone(), was, copies });
        }
        // What is called so now may have had another name then.
        let missing = || {
            Failure::needs_user(format!(
                "{} was not there then: `ourobox log` and `ourobox diff {at:?}` show what was",
                written(&way.names)
            ))
        };
        let seen = way.entry().ok_or_else(missing)?;
        let stood = self.ask(&way.open, |_| Ok(compare::standing(past, seen.id)?))?;
        let place = stood.and_then(|side| side.places.into_iter().next()).ok_or_else(missing)?;
        let source = self.names_to(&way.open, past, &place)?;
        let was = self.walk_past(&way.open, past, &source)?;
        match was.last() {
            Some(found) if was.len() == source.len() && found.id == seen.id => {}
            _ => return Err(missing()),
        }
        if copies.is_some() || seen.kind() == Kind::Directory {
            return Ok(Aim { source, was, copies });
        }
        // It keeps the name that it has now.
        let mut kept = self.walk_past(&way.open, past, &way.names[..way.names.len() - 1])?;
        if kept.len() + 1 < way.names.len() {
            return Ok(Aim { source, was, copies });
        }
        kept.extend(was.last().cloned());
        Ok(Aim { source: way.names.clone(), was: kept, copies })
    }

    fn copies_into(&self, way: &Way, to: &Path) -> Result<Vec<FileId>, Failure> {
        let target = self.find(to)?;
        let shown = to.display();
        if !Arc::ptr_eq(&target.open, &way.open) {
            return Err(Failure::needs_user(format!("{shown} is in another box: copy from .snapshots instead")));
        }
        let members = target.members();
        if members.is_empty() {
            return Err(Failure::needs_user(format!("{shown} is no directory: name one for --to")));
        }
        let taken = match way.names.last() {
            Some(name) => self.live(&way.open, &members, name)?.map(|_| name.display()),
            None => {
                let mut first = None;
                self.each_entry(&way.open, &members, &mut |seen| {
                    first = Some(seen.name.display());
                    Ok(())
                })?;
                first
            }
        };
        match taken {
            Some(name) => Err(Failure::new(
                FailureKind::Conflict,
                format!("{shown} holds {name:?} already: name another directory for --to"),
            )),
            None => Ok(members),
        }
    }

    fn carry_through(&self, act: &mut Act<'_>, aim: &Aim) -> Result<(), Failure> {
        let Some(was) = aim.was.last() else {
            let target = aim.copies.clone().unwrap_or_else(|| vec![FileId::ROOT]);
            if aim.copies.is_some() {
                act.only_copy();
            }
            act.contents(&[FileId::ROOT], &target)?;
            return act.remove_others();
        };
        let Some(name) = aim.source.last() else { return Ok(()) };
        if let Some(target) = &aim.copies {
            act.only_copy();
            return act.entry(was, target, name);
        }
        let mut parent = vec![FileId::ROOT];
        for (above, name) in aim.was.iter().zip(&aim.source).take(aim.was.len() - 1) {
            parent = act.directory_there(above, &parent, name)?;
        }
        act.entry(was, &parent, name)?;
        act.remove_others()
    }

    /// Where two states differ.
    fn apart(&self, open: &OpenBox, past: &Snapshot, now: &Snapshot) -> Result<Apart, Failure> {
        let keys = self.ask(open, |_| past.keys_apart(now))?;
        let mut apart = Apart::default();
        for rows in [past as &dyn Rows, now as &dyn Rows] {
            let mut met: BTreeSet<FileId> = BTreeSet::new();
            for key in &keys {
                let mut at = if key.name.is_empty() { key.file } else { key.directory };
                while met.insert(at) {
                    apart.directories.insert(at);
                    match self.ask(open, |_| Ok(render::place(rows, at)?))? {
                        Some(place) => at = place.parent,
                        None => break,
                    }
                }
            }
        }
        for key in keys.into_iter().filter(|key| !key.file.is_derived()) {
            let (was, is) = self.ask(open, |_| Ok((past.get(&key)?.is_some(), now.get(&key)?.is_some())))?;
            if was {
                apart.was.insert(key.file);
            }
            if is {
                apart.is.entry(key.file).or_default().push(key);
            }
        }
        Ok(apart)
    }
}
