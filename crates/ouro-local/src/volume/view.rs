//! Reading the live state.

use super::state::{Hot, State};
use super::{NodeCache, Volume};
use ouro_core::id::{DeviceNo, FileId};
use ouro_core::render::Devices;
use ouro_core::row::{Key, Missing, Row, Rows};
use ouro_core::state::File;
use ouro_core::tree::TreeRows;
use parking_lot::RwLockReadGuard;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A look at the live state. Holds the volume's lock for reading: keep it only for a moment, and never call the volume meanwhile.
pub struct View<'a> {
    state: RwLockReadGuard<'a, State>,
    turn: u64,
    nodes: &'a NodeCache,
}

impl Volume {
    /// Looks at the live state.
    pub fn view(&self) -> View<'_> {
        let state = self.state.read();
        let turn = self.state.turn(&state);
        View { state, turn, nodes: &self.nodes }
    }
}

impl View<'_> {
    /// Tells states apart: two looks with the same one see the same, bytes of open files apart.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// What an open writer knows better than the file's row.
    pub fn hot(&self, file: FileId) -> Option<&Hot> {
        self.state.hot.get(&file)
    }

    /// The user and group that own a file on this device, if they are not the mount's.
    pub fn owner(&self, file: FileId) -> Option<(u32, u32)> {
        self.state.owners.get(&file).copied()
    }

    fn rows(&self) -> TreeRows<'_, NodeCache> {
        self.state.live_rows(self.nodes)
    }
}

impl State {
    pub(crate) fn live_rows<'a>(&'a self, nodes: &'a NodeCache) -> TreeRows<'a, NodeCache> {
        TreeRows { nodes, root: self.root.as_ref(), changes: &self.live }
    }

    pub(crate) fn base_rows<'a>(&'a self, nodes: &'a NodeCache) -> TreeRows<'a, NodeCache> {
        TreeRows { nodes, root: self.root.as_ref(), changes: &self.base }
    }
}

impl Rows for View<'_> {
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing> {
        self.rows().get(key)
    }

    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing> {
        self.rows().scan(from, visit)
    }

    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing> {
        self.rows().find(file)
    }
}

impl Devices for View<'_> {
    fn name(&self, device: DeviceNo) -> String {
        self.state.name(device)
    }
}

impl Devices for State {
    fn name(&self, device: DeviceNo) -> String {
        self.devices.get(&device).cloned().unwrap_or_else(|| format!("device {}", device.0))
    }
}
