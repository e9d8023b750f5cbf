//! Machines that are copied while they work, and devices that remove one another.

use crate::history::{History, way_to};
use crate::manner::DEVICES_MAX;
use crate::tree;
use ouro_core::content::Content;

impl History {
    /// A machine is copied, and both go on.
    pub(crate) fn is_copied(&mut self, at: usize) {
        let device = &self.devices[at];
        if !device.registered || !device.process().begun || self.devices.len() > DEVICES_MAX {
            return;
        }
        let volume = self.volume(at);
        volume.flush(true).expect("the journal is written");
        self.is_safe(at);
        let Ok(spots) = tree::spots(&volume) else { return };
        // What one of them publishes and somebody replaces then, the other one may publish beside it.
        let pending = spots.values().filter(|spot| matches!(spot.seen.content(), Some(Content::Pending { .. })));
        let contents: Vec<Vec<u8>> = pending.map(|spot| self.truth.bytes_at(&volume, spot)).collect();
        self.contents.excuse(contents);
        let no = self.devices.len() as u32 + 1;
        let store = way_to(&self.world, &self.remote, self.story.seed, no, self.manner.weather());
        let twin = self.devices[at].copy(self.devices.len(), store);
        let twin = self.come_in(twin);
        self.left[twin] = self.left[at] / 2;
        self.left[at] -= self.left[twin];
        self.tell(at, format!("is copied: the copy is device {twin}"));
    }

    /// Says whom a device removes next.
    pub(crate) fn choose_victim(&mut self, at: usize) {
        let other = self.chance.below(self.devices.len());
        let victim = self.devices[other].running().map(|process| process.sync.device());
        let own = self.devices[at].process().sync.device();
        *self.devices[at].process().victim.lock() = victim.filter(|victim| *victim != own);
    }
}
