//! `branch`: a writable line of its own that begins at any state, as a box beside the one it comes from; and what branches there are.

mod end;

use crate::api::{BranchLine, Branched, Failure, FailureKind, Response, WriterLine};
use crate::boxes::OpenBox;
use crate::config::{BoxBranch, BoxConfig, to_hex};
use crate::connect::is_name;
use crate::engine::Engine;
use crate::when::ids;
use ouro_core::id::DeviceNo;
use ouro_core::time::rfc3339;
use ouro_core::when::remark;
use ouro_local::volume::Cut;
use ouro_repo::{Branch, DeviceInfo};
use ouro_sync::{SyncError, Turn, device_info, draw_identity};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the main line is called where a branch is asked for.
pub(crate) const MAIN: &str = "main";
/// Stands between the names of a box and of a branch of it.
pub(crate) const OF: char = '@';

/// Where a branch begins.
enum Start {
    /// It is there: the state that its first commit was made on.
    There(Cut),
    /// It begins now, at this state, called so by who asked.
    New(Cut, String),
}

impl Engine {
    /// Opens a branch as a box: one that is there, or a new one that begins at a state of the box it comes from.
    pub(crate) fn branch(&self, name: &str, at: Option<&str>, box_name: Option<&str>) -> Result<Response, Failure> {
        // One at a time: two that open the same one would clear away each other's beginnings.
        let _opening = self.opening.lock();
        let parent = self.box_meant(box_name, None)?;
        if name == MAIN || !is_name(name) {
            return Err(Failure::needs_user(format!(
                "{name:?} is no name for a branch: use letters, digits, spaces, '-', '_' and '.', and not {MAIN:?}"
            )));
        }
        let branch_box = format!("{}{OF}{name}", parent.root());
        let branched = |made, from| Branched {
            box_name: branch_box.clone(),
            branch: name.to_owned(),
            made,
            from,
            mountpoint: None,
        };
        if self.find_box(&branch_box).is_ok() {
            no_state_wanted(name, at)?;
            return Ok(Response::Branched(branched(false, None)));
        }
        self.block_on(parent.sync.pull())?;
        let devices = self.block_on(parent.sync.repo().devices())?;
        let start = match self.fork_of(&parent, &devices, name)? {
            Some(fork) => {
                no_state_wanted(name, at)?;
                Start::There(fork)
            }
            None => self.new_start(&parent, at)?,
        };
        let config = self.register_on(&parent, &devices, name)?;
        let opened = self.begin_box(&parent, &branch_box, config, &start)?;
        self.serve_box(&opened);
        opened.sync.run();
        let (made, from) = match start {
            Start::There(_) => (false, None),
            Start::New(_, from) => (true, Some(from)),
        };
        Ok(Response::Branched(branched(made, from)))
    }

    /// Where a branch began, if it is there.
    fn fork_of(&self, parent: &OpenBox, devices: &[DeviceInfo], name: &str) -> Result<Option<Cut>, Failure> {
        let repo = parent.sync.repo();
        let line = repo.line_named(name);
        let other =
            devices.iter().find_map(|d| d.branch.as_ref().filter(|b| b.name != name && repo.line_of(d) == line));
        if let Some(Branch { name: other, .. }) = other {
            let text = format!("the branches {name:?} and {other:?} would be one: choose another name");
            return Err(Failure::new(FailureKind::Conflict, text));
        }
        let firsts = self.block_on(parent.sync.first_commits(line))?;
        Ok((!firsts.is_empty()).then(|| parent.sync.began_on(&firsts)))
    }

    fn new_start(&self, parent: &OpenBox, at: Option<&str>) -> Result<Start, Failure> {
        let cut = match at.filter(|at| *at != "now") {
            Some(at) => self.cut_meant(parent, at)?,
            None => {
                // So that now is a state that others can have too.
                self.commit_now(parent, "no branch was made")?;
                parent.volume.heads()
            }
        };
        let newest = cut.iter().max_by_key(|(_, head)| head.hlc);
        let (device, head) = newest.ok_or_else(|| {
            Failure::needs_user(format!("box {:?} is empty: there is nothing to branch from", parent.name))
        })?;
        let (_, short) = ids(parent, *device, head.seq);
        let from = format!("{} (commit {short}, {})", at.unwrap_or("now"), rfc3339(head.hlc.millis()));
        Ok(Start::New(cut, from))
    }

    /// Makes everything changed in a box a commit that is on the remote.
    pub(crate) fn commit_now(&self, open: &OpenBox, otherwise: &str) -> Result<(), Failure> {
        if open.config.branch.is_some() {
            // What is committed in the log of a branch that was deleted elsewhere nobody reads: it is taken up again first.
            match self.block_on(open.sync.meet_devices()) {
                Ok(()) | Err(SyncError::BranchEnded { .. }) => {}
                Err(error) => {
                    let failure = Failure::from(error);
                    return Err(Failure::new(failure.kind, format!("{otherwise}: {}", failure.message)));
                }
            }
        }
        let turn = self.block_on(open.sync.turn());
        self.commit_in(&turn, open, otherwise)
    }

    /// [`Engine::commit_now`] for who has the turn.
    fn commit_in(&self, turn: &Turn<'_>, open: &OpenBox, otherwise: &str) -> Result<(), Failure> {
        let published = self.block_on(async {
            match open.sync.commit_as(turn, String::new()).await? {
                Some(taken) => taken.published,
                None => Ok(()),
            }
        });
        published.map_err(|error| {
            let failure = Failure::from(error);
            let text = format!(
                "{otherwise}: what was changed in box {:?} last is not on the remote yet: {}",
                open.name, failure.message
            );
            Failure::new(failure.kind, text)
        })
    }

    /// Writes down on the remote who writes the branch from here.
    fn register_on(&self, parent: &OpenBox, devices: &[DeviceInfo], name: &str) -> Result<BoxConfig, Failure> {
        let branch = Branch { name: name.to_owned(), opened_by: parent.sync.device() };
        let drawn = draw_identity(&self.ports, devices, &parent.config.device_name, &|_| false)?;
        let device = device_info(drawn, Some(branch));
        self.block_on(parent.sync.repo().register_device(&device))?;
        let of = parent.root().to_owned();
        Ok(BoxConfig {
            device_id: to_hex(&device.id.0),
            device_number: device.number.0,
            branch: Some(BoxBranch { name: name.to_owned(), of }),
            ..parent.config.clone()
        })
    }

    /// Makes the box of a branch and brings it to where it begins. It is written down last: what a crash leaves is cleared away by the next
    /// attempt.
    fn begin_box(
        &self,
        parent: &OpenBox,
        name: &str,
        config: BoxConfig,
        start: &Start,
    ) -> Result<Arc<OpenBox>, Failure> {
        self.dirs.clear_box(name)?;
        let (_, secrets) = self.dirs.load_box(parent.root())?;
        let opened = self.open_configured(name, config, &secrets)?;
        match start {
            Start::There(fork) => self.block_on(opened.sync.join_branch(&parent.sync, fork))?,
            Start::New(fork, from) => {
                let name = opened.config.branch.as_ref().map_or("", |branch| branch.name.as_str());
                let message = first_remark(name, from);
                let taken = self.block_on(opened.sync.begin_branch(&parent.sync, fork, message))?;
                // If it is not on the remote yet, it goes there as soon as that can be reached.
                if let Some(Err(error)) = taken.map(|taken| taken.published) {
                    tracing::warn!(%error, name, "the branch is not on the remote yet");
                }
            }
        }
        opened.volume.flush(true)?;
        self.dirs.save_branch(name, &opened.config)?;
        Ok(opened)
    }

    /// Every branch of the repository of a box.
    pub(crate) fn branches(&self, box_name: Option<&str>) -> Result<Response, Failure> {
        let open = self.box_meant(box_name, None)?;
        let repo = open.sync.repo();
        let devices = self.block_on(repo.devices())?;
        let mut lines: BTreeMap<&str, Vec<&DeviceInfo>> = BTreeMap::new();
        for device in &devices {
            if let Some(branch) = device.branch.as_ref().filter(|_| repo.retired_at(device.id).is_none()) {
                lines.entry(&branch.name).or_default().push(device);
            }
        }
        let mut branches = Vec::new();
        for (name, writers) in lines {
            branches.extend(self.branch_line(&open, name, &writers)?);
        }
        Ok(Response::Branches { branches })
    }

    /// What is to be told of a branch; nothing of one that was begun and never got its first commit.
    fn branch_line(&self, open: &OpenBox, name: &str, writers: &[&DeviceInfo]) -> Result<Option<BranchLine>, Failure> {
        let repo = open.sync.repo();
        let known = open.volume.heads();
        let line = repo.line_named(name);
        // How far each log of the line is part of it: that of a former writer as far as others went on from it.
        let mut reach: BTreeMap<DeviceNo, u64> = BTreeMap::new();
        let mut reaches = |no, seq: u64| {
            let known = reach.entry(no).or_default();
            *known = seq.max(*known);
        };
        let mut told = Vec::new();
        for writer in writers {
            let Some(end) = self.block_on(repo.log_end(writer.id))? else { continue };
            let Some((newest, ..)) = self.block_on(repo.read_record(writer.id, end))? else { continue };
            reaches(writer.number, end.0);
            for (no, seq, _) in newest.parents.iter().filter(|(no, ..)| repo.line(*no) == line) {
                reaches(*no, seq.0);
            }
            told.push(WriterLine {
                device: writer.name.clone(),
                last_commit: rfc3339(newest.hlc.millis()),
                commits: end.0,
            });
        }
        if told.is_empty() {
            return Ok(None);
        }
        let firsts = self.block_on(open.sync.first_commits(line))?;
        let first = firsts.iter().min_by_key(|record| record.hlc);
        let here = |no, end: u64| known.get(no).map_or(0, |head| head.seq.0.min(end));
        let merged: u64 = reach.iter().map(|(no, end)| here(no, *end)).sum();
        let mut ahead = reach.values().sum::<u64>() - merged;
        // The first commit only says that the branch is there.
        ahead -= u64::from(merged == 0 && ahead > 0);
        let local = self.boxes.lock().iter().find(|b| b.is_branch_of(open, name)).map(|b| b.name.clone());
        Ok(Some(BranchLine {
            name: name.to_owned(),
            box_name: local,
            made: first.map(|record| rfc3339(record.hlc.millis())),
            from: first.and_then(|record| from_of(name, &record.message)),
            writers: told,
            ahead,
            merged: merged > 0,
        }))
    }
}

/// What the first commit of a branch says.
fn first_remark(name: &str, from: &str) -> String {
    format!("\nbranch {name} from {from}")
}

/// What a first commit says of where its branch began.
fn from_of(name: &str, message: &str) -> Option<String> {
    remark(message).strip_prefix(&first_remark(name, "")[1..]).map(str::to_owned)
}

fn no_state_wanted(name: &str, at: Option<&str>) -> Result<(), Failure> {
    match at {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            FailureKind::Conflict,
            format!("there is a branch {name:?} already: leave --at out to open it, or choose another name"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_commit_tells_where_its_branch_began() {
        let message = first_remark("copy from home", "2h ago (commit 1827.3)");
        assert_eq!(from_of("copy from home", &message).as_deref(), Some("2h ago (commit 1827.3)"));
        assert_eq!(from_of("copy", "\nsomething else"), None);
    }
}
