//! Days that pass, and collections meanwhile.

use crate::device::Work;
use crate::history::{History, Seen};
use crate::tree;
use futures::executor::block_on;
use ouro_core::edit::{Among, is_shown_though_removed, purgeable};
use ouro_core::retention::Retention;
use ouro_core::state::File;
use ouro_sync::SyncError;
use std::sync::Arc;

const HOUR_MS: u64 = 3_600_000;
/// Days pass so often at most: so nobody is ever silent for so long that a collection does not wait for it.
const RESTS_MAX: u32 = 20;
/// Rounds after which everything that nothing needs must have gone.
const COLLECTIONS_MAX: usize = 12;
/// What is kept in the end, and most times before.
pub(crate) const LITTLE: Retention = Retention { all_ms: 0, hourly_ms: 0, daily_ms: 0, weekly_ms: 0 };

impl History {
    /// Nothing happens for hours or days: lists show everything by then, and what was lost on the way does not come any more.
    pub(crate) fn days_pass(&mut self) {
        if self.rests == RESTS_MAX {
            return;
        }
        self.rests += 1;
        let hours = [5, 25, 50, 70][self.chance.below(4)];
        self.let_days_pass(hours);
        self.tell(0, format!("sees {hours} hours pass"));
    }

    /// Somebody begins a collection; all who are there go on working and take note; days later it is ended.
    pub(crate) fn collect(&mut self) {
        let Some(first) = self.somebody() else { return };
        self.start(first, Work::Collect);
        if self.manner.rivals
            && let Some(second) = self.somebody()
        {
            self.step_a_little();
            self.start(second, Work::Collect);
        }
        self.wait_a_while();
        for _ in 0..2 * self.devices.len() {
            let Some(at) = self.somebody() else { return };
            if self.chance.percent(60) {
                self.operate(at);
            }
            let work = [Work::Push, Work::Pull, Work::Look, Work::Look][self.chance.below(4)];
            self.start(at, work);
            self.wait_a_while();
        }
        self.days_pass();
        if let Some(last) = self.somebody() {
            self.start(last, Work::Collect);
            self.wait_a_while();
        }
    }

    /// A device that runs and is up to date enough to do anything.
    fn somebody(&mut self) -> Option<usize> {
        let able = |at: &usize| self.devices[*at].running().is_some_and(|process| process.begun);
        let able: Vec<usize> = (0..self.devices.len()).filter(able).collect();
        self.chance.one(&able).copied()
    }

    /// What is under way comes a little further.
    fn step_a_little(&mut self) {
        for _ in 0..[0, 0, 5, 20, 60][self.chance.below(5)] {
            if !self.world.step() {
                break;
            }
        }
    }

    /// What is under way may come to its end.
    fn wait_a_while(&mut self) {
        for _ in 0..[0, 20, 200, 2_000][self.chance.below(4)] {
            if !self.world.step() {
                break;
            }
        }
        self.date();
        self.hear();
    }

    pub(crate) fn let_days_pass(&self, hours: u64) {
        self.devices.iter().for_each(|device| device.store.settle());
        self.world.pass(hours * HOUR_MS);
        self.date();
    }

    /// The storage's clock goes with the world's, where it shows one.
    pub(crate) fn date(&self) {
        if self.manner.dated {
            let seconds = self.world.clock(0).wall_ns() / 1_000_000_000;
            self.remote.set_storage_time(seconds.max(0).cast_unsigned());
        }
    }

    /// Every state that a collection keeps reads back, all of it, from the remote alone.
    fn what_is_kept_can_be_read(&mut self, at: usize) {
        self.truth.forget();
        let (volume, only_here) = (self.volume(at), self.is_only_here(at));
        volume.nodes().remove_if(&|_, _| true).expect("the cache is emptied");
        volume.blobs().evict(0, &|id| only_here.contains(id)).expect("the cache is emptied");
        let kept = volume.collected().map_or_else(Vec::new, |collected| collected.kept.clone());
        for state in kept {
            let snapshot = volume.snapshot(state.device, state.seq).expect("a kept state has a tree of its own");
            let spots = loop {
                match tree::spots_of(&*snapshot, &*snapshot) {
                    Ok(spots) => break spots,
                    Err(missing) => {
                        let sync = Arc::clone(&self.devices[at].process().sync);
                        let brought = self.bring(at, async move { sync.fetch_node(missing).await });
                        brought.unwrap_or_else(|error| panic!("a node of a kept state cannot be fetched: {error:?}"));
                    }
                }
            };
            for content in spots.values().filter_map(|spot| spot.seen.content()) {
                self.truth.read(&volume, content);
            }
        }
    }

    /// Says what the next collection of a device keeps.
    pub(crate) fn choose_retention(&mut self, at: usize) {
        let some = Retention { all_ms: 30 * HOUR_MS, hourly_ms: 100 * HOUR_MS, ..LITTLE };
        let retention = if self.chance.percent(60) { LITTLE } else { some };
        *self.devices[at].process().retention.lock() = retention;
    }

    /// Whether a list that is stale may be the cause: then nothing has gone, and the next collection finds it there.
    pub(crate) fn is_hidden(&self, error: &SyncError) -> bool {
        self.manner.collects && matches!(error, SyncError::ObjectLost { .. } | SyncError::NodeLost)
    }

    /// Whether no device has a record any more that shows nothing; but for directories in which the first, which collects, has what it ignores.
    fn nothing_is_hidden(&mut self) -> bool {
        (0..self.devices.len()).all(|at| {
            self.finish(at, Work::Pull);
            let found = self.with_all(at, |volume| {
                let view = volume.view();
                Ok(purgeable(&view, &view, Among::Everything, usize::MAX)?)
            });
            let is_shown =
                |file: &Arc<File>| self.with_all(0, |volume| Ok(is_shown_though_removed(&volume.view(), file.id)?));
            found.iter().all(is_shown)
        })
    }

    /// A device that no machine is any more, since all its copies became others, holds up collections until somebody removes it.
    fn remove_who_is_gone(&mut self) {
        if !self.manner.copies {
            return;
        }
        let machines: Vec<_> = self.devices.iter().map(|device| device.process().sync.device()).collect();
        let devices = block_on(self.truth.repo.devices()).expect("the devices are read");
        let retired = self.truth.repo.retired();
        for gone in devices.into_iter().map(|device| device.id).filter(|id| !machines.contains(id)) {
            if !retired.contains_key(&gone) {
                *self.devices[0].process().victim.lock() = Some(gone);
                self.finish(0, Work::Remove);
            }
        }
    }

    /// Everything that nothing needs goes, and all that is seen is there, in what lies on the remote.
    pub(crate) fn collections_take_nothing_that_is_seen(&mut self, first: &Seen) {
        if !self.manner.collects {
            return;
        }
        self.remove_who_is_gone();
        for round in 0.. {
            assert!(round < COLLECTIONS_MAX, "there is always something to collect");
            for at in 0..self.devices.len() {
                // Of two copies one becomes another device when both write, which may be now.
                self.finish(at, Work::LearnDevices);
                self.finish(at, Work::Look);
            }
            self.what_is_kept_can_be_read(0);
            let before = self.remote.snapshot().len();
            *self.devices[0].process().retention.lock() = LITTLE;
            self.finish(0, Work::Collect);
            let after = self.remote.snapshot().len();
            // One that ends may leave what a later one finds.
            if round > 3 && before == after && self.nothing_is_hidden() {
                break;
            }
            self.let_days_pass(50);
        }
        self.truth.forget();
        for at in 0..self.devices.len() {
            self.finish(at, Work::Pull);
            let nodes = self.devices[at].process().volume.nodes().remove_if(&|_, _| true);
            nodes.expect("the cache is emptied");
            let seen = self.seen(at);
            self.same(first, &seen, "collections take nothing that is seen");
        }
    }
}
