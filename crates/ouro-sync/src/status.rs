//! What can be told of a sync.

use crate::Sync;
use tokio::sync::watch;

/// What a commit or a checkpoint took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Objects written.
    pub puts: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Of these, the record without file data, or the tree's nodes.
    pub index_bytes: u64,
    /// Files changed.
    pub files: u64,
    /// From sealing to durable, in milliseconds.
    pub millis: u64,
}

/// How a sync stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// Whether the remote answered last time.
    pub online: bool,
    /// A commit is on its way.
    pub pushing: bool,
    /// What went wrong last, one line; `None` after a success.
    pub problem: Option<String>,
    /// Trying again will not help: the user must do something.
    pub needs_user: bool,
    /// Files whose newest bytes were lost on this device since start, so that they are as they were committed last.
    pub lost: Vec<String>,
    /// Files published since start of which a collection took parts that were never on this device: zeros stand there.
    pub incomplete: Vec<String>,
    /// Why this device goes on under another identity, and which, if it took one since start.
    pub renewed: Option<String>,
    /// Commits published since start.
    pub commits: u64,
    /// Checkpoints published since start.
    pub checkpoints: u64,
    /// Of the last commit.
    pub last_commit: Option<Cost>,
    /// Of the last checkpoint.
    pub last_checkpoint: Option<Cost>,
    /// Index nodes fetched in the background, and of how many.
    pub index: (u64, u64),
    /// Rounds of pulling that ended well.
    pub pulls: u64,
}

impl Sync {
    /// How it stands.
    pub fn status(&self) -> SyncStatus {
        self.status.lock().clone()
    }

    /// Whether every index node of the newest checkpoint is on this device.
    pub fn index_complete(&self) -> bool {
        self.index_complete.load(std::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn tell(&self, change: impl FnOnce(&mut SyncStatus)) {
        change(&mut self.status.lock());
        self.told.send_modify(|n| *n += 1);
    }

    /// Tells of every change of the status from now on, of each round of pulling too: whatever changes in a box, this changes soon after.
    pub fn status_changes(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Resolves after the next change of the status.
    pub async fn status_changed(&self) {
        let mut told = self.told.subscribe();
        told.mark_unchanged();
        // The sender lives as long as `self`.
        let _ended = told.changed().await;
    }
}
