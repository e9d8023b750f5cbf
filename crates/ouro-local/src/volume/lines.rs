//! Lines: which logs are a box's own, what it began on, and taking in what another line has.

use super::change::Change;
use super::encode;
use super::learn::{Built, Commit};
use super::seal::Sealed;
use super::state::State;
use super::{Cut, Snapshot, Volume, VolumeError};
use ouro_core::id::{DeviceNo, Line, Seq};
use ouro_core::row::RowChanges;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The line that a device writes, where that is not main.
    pub(crate) of: BTreeMap<DeviceNo, Line>,
    /// Where the box's own line began: commits of other lines. Empty for main.
    pub(crate) fork: Cut,
}

impl Lines {
    pub(crate) fn line(&self, device: DeviceNo) -> Line {
        self.of.get(&device).copied().unwrap_or_default()
    }
}

impl State {
    /// The newest commits that the own line is made of: those of its own logs, and those it began on. What was merged in since is not
    /// among them: it belongs to the moment when it was merged.
    pub(super) fn own_logs(&self, device: DeviceNo) -> Cut {
        let own = self.lines.line(device);
        let mut logs = self.lines.fork.clone();
        logs.extend(self.heads.iter().filter(|(no, _)| self.lines.line(**no) == own).map(|(no, head)| (*no, *head)));
        logs
    }
}

impl Volume {
    /// Writes down which line a device writes.
    pub fn learn_line(&self, device: DeviceNo, line: Line) {
        let mut state = self.state.write();
        if state.lines.line(device) != line {
            state.lines.of.insert(device, line);
            self.ledger.submit(vec![encode::lines(&state.lines)]);
        }
    }

    /// Writes down where the box's own line began.
    pub fn begin_line(&self, fork: &Cut) {
        let mut state = self.state.write();
        state.lines.fork.clone_from(fork);
        self.ledger.submit(vec![encode::lines(&state.lines)]);
    }

    /// What would be seen if these commits were taken in too, each after those it was made on. Nothing is written, and what is pending
    /// stays on top.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again.
    pub fn imagine(self: &Arc<Self>, commits: &[Arc<Commit>]) -> Result<Arc<Snapshot>, VolumeError> {
        let (mut built, known) = {
            let state = self.state.read();
            let (base, heads) = (state.live.clone(), state.heads.clone());
            let built = Built { root: state.root, base, live: RowChanges::new(), digest: state.digest, heads };
            (built, state.heads.clone())
        };
        let is_new = |commit: &&Arc<Commit>| known.get(&commit.device).is_none_or(|head| head.seq < commit.seq);
        for commit in commits.iter().filter(is_new) {
            built.commit(&self.nodes, commit)?;
        }
        Ok(Snapshot::uncommitted(self, built.root, built.base))
    }

    /// Takes in commits of another line, each after those it was made on, and seals a commit of this device that is made on them. `None`
    /// if all are known and some commit of this line was made on them already, or if a commit is on its way.
    ///
    /// Unless something is pending, a crash leaves either nothing of it or all. Else it may leave the commits taken in and not
    /// named by any of this line yet: the next commit here names them, or the next call.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again; a failing journal.
    pub fn merge(&self, commits: &[Arc<Commit>], message: &str) -> Result<Option<Sealed>, VolumeError> {
        if self.knows(commits) && self.is_said()? {
            return Ok(None);
        }
        let mut change = Change::default();
        let sealed = self.merge_locked(&mut self.state.write(), commits, message, &mut change);
        change.tidy();
        self.announce(&change);
        sealed
    }

    fn merge_locked(
        &self,
        state: &mut State,
        commits: &[Arc<Commit>],
        message: &str,
        change: &mut Change,
    ) -> Result<Option<Sealed>, VolumeError> {
        if state.sealed.is_some() {
            return Ok(None);
        }
        self.check_writable(state)?;
        let mut waiting = self.bury_before_learning(state, change)?;
        let mut unit = Vec::new();
        let learnt: Result<(), VolumeError> = commits.iter().try_for_each(|commit| {
            self.recall_what_goes_on(state, &mut waiting, commit, change)?;
            change.append(self.learn_locked(state, commit, &mut unit)?);
            Ok(())
        });
        let sealed = learnt.and_then(|()| self.seal_locked(state, message, change, &mut unit));
        // What is in memory is in the journal, also if it went no further.
        self.ledger.submit(unit);
        sealed
    }

    fn knows(&self, commits: &[Arc<Commit>]) -> bool {
        let state = self.state.read();
        commits.iter().all(|c| state.heads.get(&c.device).is_some_and(|head| head.seq >= c.seq))
    }

    /// Whether every commit of another line that is known here was named by a commit of this line.
    fn is_said(&self) -> Result<bool, VolumeError> {
        let (lines, covers, heads, device) = {
            let state = self.state.read();
            (state.lines.clone(), state.covers.clone(), state.heads.clone(), state.device)
        };
        let mut said: BTreeMap<DeviceNo, Seq> = BTreeMap::new();
        let mut say = |cut: &Cut| {
            for (device, head) in cut {
                let newest = said.entry(*device).or_insert(head.seq);
                *newest = head.seq.max(*newest);
            }
        };
        say(&lines.fork);
        say(&covers);
        let own = lines.line(device);
        for (device, head) in heads.iter().filter(|(no, _)| lines.line(**no) == own) {
            match self.cut_of(*device, head.seq) {
                Ok(cut) => say(&cut),
                // Then it is in the checkpoint.
                Err(VolumeError::Record { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heads.iter().all(|(device, head)| said.get(device).is_some_and(|seq| *seq >= head.seq)))
    }
}
