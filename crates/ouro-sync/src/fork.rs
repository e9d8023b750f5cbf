//! The beginning of a branch on this device: at a state of the box that it comes from, or where others have brought it.

use crate::identity::Renewal;
use crate::snapshot::Taken;
use crate::{Sync, SyncError};
use ouro_core::id::{DeviceNo, Line, Seq};
use ouro_local::volume::{Cut, Head};
use ouro_repo::{DeviceInfo, Record};
use std::sync::Arc;

impl Sync {
    /// The commits with which the writers of a line began it: one, unless two devices made the branch without knowing of each other, or took
    /// it up again after it had been deleted. None if the line has no commits.
    ///
    /// # Errors
    /// What the remote says.
    pub async fn first_commits(&self, line: Line) -> Result<Vec<Record>, SyncError> {
        let mut firsts = Vec::new();
        let devices = self.repo.devices().await?;
        let writes =
            |device: &DeviceInfo| self.repo.line_of(device) == line && self.repo.retired_at(device.id).is_none();
        let writers: Vec<DeviceInfo> = devices.into_iter().filter(writes).collect();
        for device in &writers {
            if let Some((record, ..)) = self.repo.read_record(device.id, Seq(1)).await?
                && !record.parents.iter().any(|(no, ..)| writers.iter().any(|writer| writer.number == *no))
            {
                firsts.push(record);
            }
        }
        Ok(firsts)
    }

    /// The state that a line began on, by its first commits.
    pub fn began_on(&self, firsts: &[Record]) -> Cut {
        let known = self.volume.heads();
        let mut fork = Cut::new();
        for first in firsts {
            // One that took the branch up again was made on what its former writers did.
            let others = first.parents.iter().filter(|(no, ..)| self.repo.line(*no) != first.line);
            for (device, seq, hash) in others.copied() {
                // Where its time is not known it is not later than this.
                let hlc = known.get(&device).filter(|head| head.seq == seq).map_or(first.hlc, |head| head.hlc);
                if fork.get(&device).is_none_or(|other: &Head| other.seq < seq) {
                    fork.insert(device, Head { seq, hash, hlc });
                }
            }
        }
        fork
    }

    /// Begins a new branch at a state of `parent`, and publishes its first commit, by which others find it. Nothing may be known here yet.
    /// No byte of a file is read: what has to be read of the parent's index and of its records is on this device or is fetched.
    ///
    /// # Errors
    /// What the remote or the disk says: the box is then to be thrown away.
    pub async fn begin_branch(
        self: &Arc<Self>,
        parent: &Arc<Sync>,
        fork: &Cut,
        message: String,
    ) -> Result<Option<Taken>, SyncError> {
        crate::learn_devices(&self.repo, &self.volume).await?;
        self.volume.begin_line(fork);
        let covers = self.begin_on_parent(parent, fork).await?;
        let (from, to) = (covers, fork.clone());
        let commits = parent.with_all(move |parent| parent.volume.commits_between(&from, &to)).await?;
        for commit in commits {
            self.with_all(move |sync| sync.volume.learn(&commit)).await?;
        }
        debug_assert!(self.volume.heads().keys().eq(fork.keys()), "it begins where it should");
        let turn = self.turn().await;
        self.commit_as(&turn, message).await
    }

    /// Begins a branch that is there, which began on `fork`, at its newest state. Nothing may be known here yet.
    ///
    /// # Errors
    /// As [`Sync::begin_branch`].
    pub async fn join_branch(self: &Arc<Self>, parent: &Arc<Sync>, fork: &Cut) -> Result<(), SyncError> {
        self.volume.begin_line(fork);
        self.begin().await?;
        if !self.volume.has_begun() {
            // Nobody wrote the branch's index out yet: the parent's, below where it began, is the nearest.
            let known = parent.volume.heads();
            let within = |no: &DeviceNo, head: &Head| known.get(no).is_some_and(|known| known.seq >= head.seq);
            let shared: Cut =
                fork.iter().filter(|(no, head)| within(no, head)).map(|(no, head)| (*no, *head)).collect();
            self.begin_on_parent(parent, &shared).await?;
        }
        self.pull().await?;
        Ok(())
    }

    /// Begins on the newest checkpoint below a state of the parent; returns what it holds.
    async fn begin_on_parent(self: &Arc<Self>, parent: &Arc<Sync>, state: &Cut) -> Result<Cut, SyncError> {
        let state = state.clone();
        let start = parent.with_all(move |parent| parent.volume.checkpoint_below(&state)).await?;
        let covers = start.covers.clone();
        self.with_all(move |sync| sync.volume.adopt(&start)).await?;
        Ok(covers)
    }

    /// What a device does whose branch was deleted elsewhere, where its log counts up to `counted`: if it did nothing that is not there, nothing
    /// more; else it takes the branch up again under another identity, with a commit by which others find it, so that nothing is lost. The caller
    /// has the turn.
    ///
    /// # Errors
    /// [`SyncError::BranchEnded`] if it did nothing; what the remote says.
    pub(crate) async fn heed_end_of_branch(self: &Arc<Self>, counted: Seq) -> Result<(), SyncError> {
        if self.is_stopped() {
            // Its box is about to go with it: whoever deletes it has seen to what is here.
            return Err(SyncError::Stopped);
        }
        let branch = self.repo.met(self.device()).and_then(|info| info.branch).map(|branch| branch.name);
        let branch = branch.unwrap_or_default();
        if !self.has_done_since(counted).await? {
            return Err(SyncError::BranchEnded { branch });
        }
        self.renew(Renewal::Removed).await?;
        let message = format!("\nbranch {branch} taken up again");
        if let Some(Taken { published: Err(error), .. }) = self.commit_in_turn(message).await? {
            // It goes there as soon as that can be reached.
            tracing::warn!(%error, branch, "taken up again, which is not on the remote yet");
        }
        Ok(())
    }

    /// Whether this device changed something that is not published, or did so after a commit of its log.
    async fn has_done_since(self: &Arc<Self>, seq: Seq) -> Result<bool, SyncError> {
        if self.has_unpublished() {
            return Ok(true);
        }
        let number = self.volume.device();
        let Some(head) = self.volume.heads().get(&number).copied().filter(|head| head.seq > seq) else {
            return Ok(false);
        };
        let after = Cut::from([(number, Head { seq, ..head })]);
        let to = Cut::from([(number, head)]);
        let own = self.with_all(move |sync| sync.volume.commits_between(&after, &to)).await?;
        Ok(own.iter().any(|commit| !commit.delta.files.is_empty()))
    }
}
