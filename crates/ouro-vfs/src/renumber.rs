//! Files that get other ids while the mount runs keep their nodes: whoever has one open, or stands in it, notices nothing.
//!
//! Happens when a box goes on under another identity ([`ouro_local::volume::Volume::take_identity`]). The ids that its files had may come back
//! as those of other files, which a copy of the device made: these get nodes of another number. It lasts as long as the mount.

use crate::realm::Realm;
use crate::types::NodeNo;
use crate::vfs::Vfs;
use ouro_core::id::FileId;
use ouro_core::state::Place;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Nodes that have not the number which their file's id gives.
#[derive(Default)]
pub(crate) struct Moved {
    any: AtomicBool,
    nodes: RwLock<BTreeMap<(u32, FileId), NodeNo>>,
}

impl Moved {
    /// The node of a file, if it is not the usual one.
    pub(crate) fn node(&self, volume: u32, file: FileId) -> Option<NodeNo> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.nodes.read().get(&(volume, file)).copied()
    }

    /// The file of a node of a box that is mounted alone, if it is not the usual one.
    pub(crate) fn file(&self, node: NodeNo) -> Option<FileId> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.nodes.read().iter().find(|(_, moved)| **moved == node).map(|((_, file), _)| *file)
    }

    fn insert(&self, volume: u32, file: FileId, node: NodeNo) {
        self.nodes.write().insert((volume, file), node);
        self.any.store(true, Ordering::Release);
    }
}

/// The id that a file has now.
pub(crate) fn told(files: &BTreeMap<FileId, FileId>, file: FileId) -> FileId {
    files.get(&file).copied().unwrap_or(file)
}

/// A place, told by the ids of now.
pub(crate) fn told_place(files: &BTreeMap<FileId, FileId>, place: &Place) -> Place {
    Place { parent: told(files, place.parent), name: place.name.clone() }
}

impl Vfs {
    /// Hears which files of a box have other ids now. Called while nobody can look at the box.
    pub(crate) fn renumbered(&self, volume: u32, files: &BTreeMap<FileId, FileId>) {
        let realm = Realm::Live(volume);
        let nodes: Vec<NodeNo> = files.keys().map(|was| self.numbering.node(&realm, *was)).collect();
        for ((was, is), node) in files.iter().zip(nodes) {
            self.numbering.moved.insert(volume, *was, self.numbering.displaced(volume, *was));
            self.numbering.moved.insert(volume, *is, node);
        }
        self.table.lock().renumber(realm.view(), files);
        self.handles.renumber(&realm, files);
        let mut touched = self.touched.lock();
        for (was, is) in files {
            let known = touched.get((volume, *was));
            touched.forget((volume, *was));
            touched.change((volume, *is), |touch| *touch = known);
        }
    }
}
