//! Devices that work one after the other, each knowing everything that was done before: there is nothing to be in conflict about.

use crate::device::Work;
use crate::history::History;
use crate::tree;
use ouro_core::id::{DeviceNo, Seq};
use std::collections::BTreeMap;

/// Attempts after which a work must have been done, however bad the weather.
const TRIES_MAX: usize = 1_000;

impl History {
    /// One device after the other takes in what there is, does something, and publishes it. Storms and crashes go on.
    pub(crate) fn relay(&mut self) {
        for at in 0..self.devices.len() {
            self.persist(at, Work::Register);
        }
        let mut done = BTreeMap::new();
        for _ in 0..self.manner.operations * self.devices.len() / 4 {
            let at = self.chance.below(self.devices.len());
            self.catch_up(at, &done);
            for _ in 0..self.chance.below(8) {
                self.operate(at);
                if self.manner.crashes && self.chance.percent(3) {
                    self.crash(at);
                    self.catch_up(at, &done);
                }
            }
            self.persist(at, Work::Push);
            done = self.seqs(at);
            self.audit();
            self.no_conflict_is_seen(at);
        }
    }

    /// Takes in all that was done, however stale the lists and reads are.
    fn catch_up(&mut self, at: usize, done: &BTreeMap<DeviceNo, Seq>) {
        for _ in 0..TRIES_MAX {
            for work in [Work::LearnDevices, Work::Begin, Work::Pull] {
                self.persist(at, work);
            }
            if self.volume(at).sealed().is_some() {
                // It crashed right after it had published this.
                self.persist(at, Work::Push);
            }
            let here = self.seqs(at);
            if done.iter().all(|(device, seq)| here.get(device).is_some_and(|here| here >= seq)) {
                return;
            }
        }
        panic!("what was published is never found");
    }

    fn seqs(&self, at: usize) -> BTreeMap<DeviceNo, Seq> {
        self.volume(at).heads().into_iter().map(|(device, head)| (device, head.seq)).collect()
    }

    /// Does a work until it is done.
    fn persist(&mut self, at: usize, work: Work) {
        for _ in 0..TRIES_MAX {
            if self.devices[at].running().is_none() {
                self.tell(at, "boots");
                self.boot(at);
            }
            match self.try_to(at, work) {
                Ok(count) => return self.take(at, work, Ok(count)),
                Err(error) => self.judge(at, &format!("{work:?}"), &error),
            }
        }
        panic!("{work:?} fails again and again");
    }

    fn no_conflict_is_seen(&self, at: usize) {
        let Ok(spots) = tree::spots(&self.volume(at)) else { return };
        let conflict = spots.keys().find(|path| path.contains(" (conflict from ") || path.starts_with("/Recovered"));
        assert!(conflict.is_none(), "a conflict without a conflict: {conflict:?}");
    }
}
