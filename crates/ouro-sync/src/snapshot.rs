//! Commits that somebody asks for: now, under a name, or as one that holds nothing else.

use crate::collection::LOOK_BEFORE_PUT_MS;
use crate::{Sync, SyncError};
use ouro_core::id::{DeviceNo, Seq, Version};
use ouro_local::volume::Sealed;
use std::sync::Arc;

/// The right to seal, push, pull and checkpoint: while it is held, nobody else does, and what is changed stays together.
pub struct Turn<'a>(#[expect(dead_code, reason = "held, not looked at")] tokio::sync::MutexGuard<'a, ()>);

/// A commit that was made on request.
pub struct Taken {
    /// Whose.
    pub device: DeviceNo,
    /// Position in its log.
    pub seq: Seq,
    /// Whether it is on the remote; else it goes there as soon as that can be reached.
    pub published: Result<(), SyncError>,
}

impl Sync {
    /// Waits for the turn. Who was not there for a while looks for collections before: with the turn it cannot, and what it publishes would wait.
    pub async fn turn(self: &Arc<Self>) -> Turn<'_> {
        if let Err(error) = self.look_if_due(LOOK_BEFORE_PUT_MS).await {
            // What is done is kept here, and published after a look.
            tracing::warn!(%error, "collections cannot be looked for");
        }
        Turn(self.turn.lock().await)
    }

    /// Fixes everything changed so far as a commit of its own, on this device; it is published later. What follows is another commit.
    ///
    /// # Errors
    /// What the remote says, if an earlier commit is still on its way there and cannot be finished: then nothing was fixed.
    pub async fn seal_rest(self: &Arc<Self>, _turn: &Turn<'_>) -> Result<(), SyncError> {
        let settled = self.blocking(|sync| sync.volume.tick()).await?;
        settled?;
        if !self.volume.has_sealable() {
            return Ok(());
        }
        self.finish_earlier().await?;
        self.with_all(|sync| sync.volume.seal()).await.map(drop)
    }

    /// Makes everything changed so far one commit with a message, and publishes it; with a message it is made even if nothing changed.
    /// `None` if there is nothing to commit. The message's first line, if it is not empty, is the name of the snapshot.
    ///
    /// # Errors
    /// What the remote says, if an earlier commit is still on its way there and cannot be finished: then none was made.
    pub async fn commit_as(self: &Arc<Self>, _turn: &Turn<'_>, message: String) -> Result<Option<Taken>, SyncError> {
        self.commit_in_turn(message).await
    }

    /// [`Sync::commit_as`] for who has the turn already.
    pub(crate) async fn commit_in_turn(self: &Arc<Self>, message: String) -> Result<Option<Taken>, SyncError> {
        self.finish_earlier().await?;
        let Some(sealed) = self.with_all(move |sync| sync.volume.seal_as(&message)).await? else { return Ok(None) };
        Ok(Some(self.publish_taken(&sealed).await))
    }

    /// Publishes a commit that was asked for, and says how that went.
    pub(crate) async fn publish_taken(self: &Arc<Self>, sealed: &Sealed) -> Taken {
        self.tell(|status| status.pushing = true);
        let published = self.push_anyhow(sealed.clone()).await;
        self.tell(|status| status.pushing = false);
        let Version { device, seq, .. } = *published.as_ref().unwrap_or(&sealed.version);
        Taken { device, seq, published: published.map(drop) }
    }

    /// One commit is on its way at a time, and it has the next place in the log.
    pub(crate) async fn finish_earlier(self: &Arc<Self>) -> Result<(), SyncError> {
        self.finish_outright().await?;
        match self.volume.sealed() {
            Some(sealed) => self.push_anyhow(sealed).await.map(drop),
            None => Ok(()),
        }
    }
}
