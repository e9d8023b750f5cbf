//! What a device tells the others of itself when it has nothing to commit, and what it gathers of them: hints, rules, clocks.

use crate::checkpoint::announcement;
use crate::{Sync, SyncError};
use ouro_core::id::DeviceId;
use ouro_repo::{Hint, RULES, rules_in_effect};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A hint is written anew at checkpoints and after so many milliseconds: so others know when this device was there last.
const HINT_EVERY_MS: u64 = 24 * 60 * 60 * 1000;
/// Differences to the storage's clock up to here are left alone: its dates are whole seconds, and an answer takes its time.
const CLOCK_TOLERANCE_MS: i64 = 10_000;

impl Sync {
    fn wall_ms(&self) -> u64 {
        (self.ports.clock.wall_ns() / 1_000_000).max(0).cast_unsigned()
    }

    /// Leaves the hint by which a fresh device begins, and by which others see that this one is there.
    pub(crate) async fn write_hint(&self) -> Result<(), SyncError> {
        let written_ms = self.wall_ms();
        let collected = || self.volume.collected().map(|collected| collected.checkpoint.clone());
        let checkpoint = self.volume.checkpoint().or_else(collected);
        let hint = Hint {
            device: self.device(),
            seq: self.volume.own_seq(),
            checkpoint: checkpoint.as_ref().map(announcement),
            acknowledged: self.acknowledged(),
            written_ms,
            rules: RULES,
        };
        self.repo.write_hint(&hint).await?;
        self.volume.note_hinted(written_ms);
        Ok(())
    }

    /// Once a day: writes the hint anew, looks at those of the others, and sees whether the storage still has what this device wrote.
    pub(crate) async fn show_presence(self: &Arc<Self>) -> Result<(), SyncError> {
        let hinted = self.volume.hinted_ms();
        if hinted == 0 {
            // It has just joined, which others see from its name.
            self.volume.note_hinted(self.wall_ms());
            return Ok(());
        }
        if self.wall_ms().saturating_sub(hinted) < HINT_EVERY_MS {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.check_identity().await?;
        let hints = self.repo.hints().await?;
        let known: BTreeMap<DeviceId, u32> = hints.into_iter().map(|hint| (hint.device, hint.rules)).collect();
        let retired = self.repo.retired();
        let devices = self.repo.devices().await?;
        let alive = devices.iter().filter(|device| !retired.contains_key(&device.id));
        let supported = alive.map(|device| known.get(&device.id).copied().unwrap_or(0).max(device.rules)).min();
        self.rules_supported.store(supported.unwrap_or(0), Ordering::Relaxed);
        self.write_hint().await
    }

    /// The rules for the next commit.
    pub(crate) fn rules(&self) -> u32 {
        // The first ones are known to all.
        let supported = self.rules_supported.load(Ordering::Relaxed).max(1);
        rules_in_effect(self.volume.rules_version(), [supported, RULES])
    }

    /// Learns who writes here and who was removed, and heeds it: a removed device goes on under another identity, and of other removed ones
    /// everything counts that is known here.
    ///
    /// # Errors
    /// What the remote says.
    pub async fn meet_devices(self: &Arc<Self>) -> Result<(), SyncError> {
        crate::learn_devices(&self.repo, &self.volume).await?;
        if self.repo.retired().is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if self.repo.retired_at(self.device()).is_some() {
            self.check_identity().await?;
        }
        self.count_known().await
    }

    /// Goes by the storage's clock where its answers bear a date. Called right after an answer.
    pub(crate) fn heed_storage_clock(&self) {
        let Some(seconds) = self.repo.store().storage_time() else { return };
        let there = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let offset = there.saturating_add(500).saturating_sub(self.wall_ms().cast_signed());
        self.volume.correct_clock(if offset.abs() > CLOCK_TOLERANCE_MS { offset } else { 0 });
    }
}
