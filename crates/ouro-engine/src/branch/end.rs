//! `branch NAME --delete`: nobody writes the branch any more, and its box goes from this device. What was merged stays.

use super::MAIN;
use crate::api::{BranchEnded, Failure, FailureKind, Response};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use ouro_core::id::{DeviceNo, Line, Seq};
use ouro_local::volume::{Commit, Cut};
use ouro_repo::DeviceInfo;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A box that nobody finds while it is decided whether it goes: it cannot be mounted, imported into or merged. It is found again when this is
/// dropped, unless it went.
struct Withdrawn<'a> {
    engine: &'a Engine,
    open: Arc<OpenBox>,
    went: bool,
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        if !self.went {
            self.engine.boxes.lock().push(Arc::clone(&self.open));
        }
    }
}

impl Engine {
    /// Deletes a branch. Unless `discard` is said, it is refused while something is on it that is nowhere else.
    pub(crate) fn end_branch(&self, name: &str, discard: bool, box_name: Option<&str>) -> Result<Response, Failure> {
        let _opening = self.opening.lock();
        let meant = self.box_meant(box_name, None)?;
        let parent = self.find_box(meant.root())?;
        let (repo, line) = (parent.sync.repo(), parent.sync.repo().line_named(name));
        let mut here = self.withdraw(&parent, name)?;
        if let Some(here) = &here {
            // What was done there and not committed yet is seen below then.
            self.commit_now(&here.open, "nothing was deleted")?;
        }
        // While it is held, the branch's box hears of nothing: it would take the branch up again, for what is discarded.
        let turn = here.as_ref().map(|here| self.block_on(here.open.sync.turn()));
        let devices = self.block_on(repo.devices())?;
        let writes = |device: &&DeviceInfo| repo.line_of(device) == line && repo.retired_at(device.id).is_none();
        let writers: Vec<&DeviceInfo> = devices.iter().filter(writes).collect();
        if name == MAIN || (writers.is_empty() && here.is_none()) {
            return Err(Failure::needs_user(format!("there is no branch {name:?}: `ourobox branch` lists them")));
        }
        let unmerged = self.unmerged(&parent, here.as_ref().map(|here| &*here.open), line)?;
        if unmerged > 0 && !discard {
            let text = format!(
                "branch {name:?} has changes that box {:?} does not have: `ourobox merge` brings them in, --discard deletes them",
                parent.name
            );
            return Err(Failure::new(FailureKind::Conflict, text));
        }
        if let Some(here) = here.as_ref().filter(|_| !discard) {
            nothing_only_here(&here.open)?;
        }
        for writer in writers {
            self.block_on(parent.sync.remove(writer.id)).map_err(|error| {
                let failure = Failure::from(error);
                let text = format!("branch {name:?} is not deleted yet: {}: delete it again", failure.message);
                Failure::new(failure.kind, text)
            })?;
        }
        if let Some(here) = &here {
            here.open.sync.stop();
        }
        drop(turn);
        let mut box_name = None;
        if let Some(here) = &mut here {
            here.went = true;
            self.dirs.forget_box(&here.open.name);
            self.dirs.clear_box(&here.open.name)?;
            box_name = Some(here.open.name.clone());
        }
        Ok(Response::BranchEnded(BranchEnded { branch: name.to_owned(), box_name, discarded: unmerged }))
    }

    /// Takes the box of a branch out of those that are found, if it is open here.
    fn withdraw(&self, parent: &OpenBox, name: &str) -> Result<Option<Withdrawn<'_>>, Failure> {
        // Held, so that nobody mounts it in between.
        let attached = self.attached.lock();
        let mut boxes = self.boxes.lock();
        let Some(at) = boxes.iter().position(|open| open.is_branch_of(parent, name)) else { return Ok(None) };
        if let Some(mounted) = attached.iter().find(|attached| attached.boxes.contains(&boxes[at].name)) {
            let text = format!(
                "box {:?} is mounted at {}: unmount it first, with `ourobox umount`",
                boxes[at].name,
                mounted.mountpoint.display()
            );
            return Err(Failure::new(FailureKind::Conflict, text));
        }
        Ok(Some(Withdrawn { engine: self, open: boxes.remove(at), went: false }))
    }

    /// Counts the commits of a line that change something and that a box does not have: those that can be read, and those that are known in the
    /// line's own box. The two differ where the branch was deleted elsewhere: nobody reads the logs of its former writers.
    fn unmerged(&self, parent: &OpenBox, here: Option<&OpenBox>, line: Line) -> Result<u64, Failure> {
        self.block_on(parent.sync.pull())?;
        let repo = parent.sync.repo();
        let told = |commit: &Commit| repo.line(commit.device) == line && !commit.delta.files.is_empty();
        let read = self.block_on(parent.sync.read_line(line))?;
        let mut unmerged: BTreeSet<(DeviceNo, Seq)> =
            read.iter().filter(|commit| told(commit)).map(|commit| (commit.device, commit.seq)).collect();
        if let Some(here) = here {
            let heads = here.volume.heads().into_iter();
            let known: Cut = heads.filter(|(device, _)| repo.line(*device) == line).collect();
            let commits = self.ask(here, |volume| volume.commits_between(&parent.volume.heads(), &known))?;
            unmerged.extend(commits.iter().filter(|commit| told(commit)).map(|commit| (commit.device, commit.seq)));
        }
        Ok(unmerged.len() as u64)
    }
}

/// Refuses to let go what was never committed because its name is ignored.
fn nothing_only_here(open: &OpenBox) -> Result<(), Failure> {
    let staying = open.volume.staying_names();
    let Some(first) = staying.first() else { return Ok(()) };
    let more = if staying.len() > 1 { format!(" and {} more", staying.len() - 1) } else { String::new() };
    let text = format!(
        "box {:?} holds what is on this device only, since its name is ignored or it was thrown away: {:?}{more}; copy out what you need, --discard deletes it",
        open.name,
        first.display()
    );
    Err(Failure::new(FailureKind::Conflict, text))
}
