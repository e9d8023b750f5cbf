//! Other lines: a box takes in its own line's logs, and of others exactly what a commit that it takes in was made on.

use crate::pull::{READ_AHEAD, ReadCommit, next_of};
use crate::snapshot::{Taken, Turn};
use crate::{Sync, SyncError};
use futures::FutureExt;
use ouro_core::id::{DeviceNo, Line, Seq};
use ouro_core::port::BoxFuture;
use ouro_local::volume::{Commit, Cut, Head};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// What commits are read for.
#[derive(Clone, Copy)]
enum Course<'a> {
    /// They become part of the box's state.
    Learn,
    /// They are only looked at.
    Look(&'a Mutex<Looked>),
}

/// Commits that were looked at, and what is known with them.
struct Looked {
    heads: Cut,
    commits: Vec<Arc<Commit>>,
}

impl Sync {
    /// The devices known that write a line, in order of number: this one left out, and those that were removed and of which all is known
    /// that counts.
    pub(crate) fn writers(&self, line: Line) -> Vec<DeviceNo> {
        let (own, heads) = (self.volume.device(), self.volume.heads());
        let known = self.repo.known_devices().into_iter().map(|(no, _)| no).filter(|no| *no != own);
        known.filter(|no| self.repo.line(*no) == line && self.counts(*no, next_of(&heads, *no))).collect()
    }

    /// Takes in what a commit was made on, as far as that belongs to other lines. True if all it was made on is known then.
    pub(crate) async fn reach_other_lines(self: &Arc<Self>, commit: &Commit) -> Result<bool, SyncError> {
        let own = self.line();
        if self.unknown_parents(Course::Learn, commit).iter().any(|(device, _)| self.repo.line(*device) == own) {
            return Ok(false);
        }
        self.reach_parents(Course::Learn, commit).await
    }

    /// The commits of a line that are not known here, each after those it was made on, which are among them if they are not known either.
    /// Nothing changes in the box. They are held in memory: about 300 bytes for each change of a file.
    ///
    /// # Errors
    /// What the remote says; [`SyncError::Rewritten`].
    pub async fn read_line(self: &Arc<Self>, line: Line) -> Result<Vec<Arc<Commit>>, SyncError> {
        crate::learn_devices(&self.repo, &self.volume).await?;
        let looked = Mutex::new(Looked { heads: self.volume.heads(), commits: Vec::new() });
        loop {
            let mut progress = 0;
            for device in self.writers(line) {
                progress += self.take_log(Course::Look(&looked), device, None).await?;
            }
            if progress == 0 {
                return Ok(looked.into_inner().commits);
            }
        }
    }

    /// Takes in commits of another line, and makes a commit on them, with everything changed here so far. `None` if there is nothing that
    /// this line does not have.
    ///
    /// # Errors
    /// What the remote says, if an earlier commit is still on its way there and cannot be finished: then nothing was merged.
    pub async fn merge(
        self: &Arc<Self>,
        _turn: &Turn<'_>,
        commits: Vec<Arc<Commit>>,
        message: String,
    ) -> Result<Option<Taken>, SyncError> {
        self.finish_earlier().await?;
        let sealed = self.with_all(move |sync| sync.volume.merge(&commits, &message)).await?;
        Ok(match sealed {
            Some(sealed) => Some(self.publish_taken(&sealed).await),
            None => None,
        })
    }

    /// Takes in a log: all of it that is there, or up to a commit. Returns how many commits. Each is preceded by all that it was made on,
    /// of whatever line. The depth is at most the number of devices: what a commit was made on lies in other logs than those on the way.
    fn take_log<'a>(
        self: &'a Arc<Self>,
        course: Course<'a>,
        device: DeviceNo,
        last: Option<Seq>,
    ) -> BoxFuture<'a, Result<usize, SyncError>> {
        async move {
            let (mut ahead, mut count) = (VecDeque::new(), 0_usize);
            loop {
                let next = self.known(course).get(&device).map_or(Seq(0), |head| head.seq).next();
                let left = last.map_or(u64::MAX, |last| (last.0 + 1).saturating_sub(next.0));
                if left == 0 {
                    return Ok(count);
                }
                if ahead.is_empty() {
                    let at_once = READ_AHEAD[count.min(READ_AHEAD.len() - 1)];
                    ahead = self.read_ahead(device, next, at_once.min(left)).await?;
                }
                let Some(bytes) = ahead.pop_front() else { return Ok(count) };
                let read = self.open_commit(device, next, bytes).await?;
                if !self.reach_parents(course, &read.commit).await? {
                    // A record that it was made on is not to be seen yet.
                    return Ok(count);
                }
                self.take_on(course, read).await?;
                count += 1;
            }
        }
        .boxed()
    }

    async fn take_on(self: &Arc<Self>, course: Course<'_>, read: ReadCommit) -> Result<(), SyncError> {
        match course {
            Course::Learn => {
                self.compare(&read)?;
                self.take(read.commit).await
            }
            Course::Look(looked) => {
                let mut looked = looked.lock();
                self.compare_hashes(&read, &looked.heads)?;
                let Commit { device, seq, hash, hlc, .. } = read.commit;
                looked.heads.insert(device, Head { seq, hash, hlc });
                looked.commits.push(Arc::new(read.commit));
                Ok(())
            }
        }
    }

    async fn reach_parents(self: &Arc<Self>, course: Course<'_>, commit: &Commit) -> Result<bool, SyncError> {
        for (device, seq) in self.unknown_parents(course, commit) {
            self.take_log(course, device, Some(seq)).await?;
        }
        Ok(self.unknown_parents(course, commit).is_empty())
    }

    fn unknown_parents(&self, course: Course<'_>, commit: &Commit) -> Vec<(DeviceNo, Seq)> {
        let known = self.known(course);
        let unknown =
            commit.parents.iter().filter(|(no, parent)| known.get(*no).is_none_or(|head| head.seq < parent.seq));
        unknown.map(|(device, parent)| (*device, parent.seq)).collect()
    }

    fn known(&self, course: Course<'_>) -> Cut {
        match course {
            Course::Learn => self.volume.heads(),
            Course::Look(looked) => looked.lock().heads.clone(),
        }
    }
}
