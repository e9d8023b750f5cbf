//! What changed behind the kernel's back: exactly what it holds of that is dropped from its caches.

use crate::realm::Realm;
use crate::types::NodeNo;
use crate::vfs::Vfs;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render;
use ouro_local::volume::Change;
use std::collections::{BTreeMap, BTreeSet};

impl Vfs {
    /// Hears of a change that did not come through a mount. Called on a thread that holds no lock, after the new state can be seen.
    pub(crate) fn changed(&self, volume: u32, change: &Change) {
        let realm = Realm::Live(volume);
        let everything;
        let change = if change.all {
            self.touched.lock().forget_box(volume);
            everything = self.all_known(&realm, change);
            &everything
        } else {
            change
        };
        self.forget_touches(volume, change);
        let Some(invalidate) = self.invalidate.get() else { return };
        let mut unions = BTreeMap::new();
        for (directory, name) in change.bindings.iter().chain(&change.renumbered) {
            let nodes = unions.entry(*directory).or_insert_with(|| self.known_nodes(&realm, *directory));
            for node in nodes.iter() {
                invalidate.entry(*node, Name::as_bytes(name));
            }
        }
        let mut listings = BTreeSet::new();
        for directory in change.directories.iter().chain(change.renumbered.iter().map(|(directory, _)| directory)) {
            let nodes = unions.entry(*directory).or_insert_with(|| self.known_nodes(&realm, *directory));
            listings.extend(nodes.iter().copied());
        }
        for node in &listings {
            invalidate.node(*node);
        }
        for file in &change.files {
            let node = self.numbering.node(&realm, *file);
            if self.knows(node) && !listings.contains(&node) {
                invalidate.node(node);
            }
        }
    }

    /// A change of all that the kernel knows of a box: it forgets each file, each name by which it found one, and with a directory's name what it
    /// knows of names in it, also that there was nothing.
    fn all_known(&self, realm: &Realm, change: &Change) -> Change {
        let mut all = Change { files: vec![FileId::ROOT], directories: vec![FileId::ROOT], ..change.clone() };
        for (file, place) in self.table.lock().of(realm.view()) {
            all.files.push(file);
            all.bindings.extend(place.map(|place| (place.parent, place.name)));
        }
        let above: BTreeSet<FileId> = all.bindings.iter().map(|(directory, _)| *directory).collect();
        all.directories.extend(above);
        all
    }

    /// Tells the kernel to list a directory anew. May wait for room among the notices: not for whoever has a request to answer.
    pub fn drop_listing(&self, directory: NodeNo) {
        if let Some(invalidate) = self.invalidate.get() {
            invalidate.node(directory);
        }
    }

    /// The nodes under which the kernel knows a directory or the union it is shown in.
    fn known_nodes(&self, realm: &Realm, directory: FileId) -> Vec<NodeNo> {
        let union = self.look(realm, |look| Ok(render::members(look.rows, directory)?)).unwrap_or_default();
        let mut ids: BTreeSet<FileId> = union.into_iter().collect();
        ids.insert(directory);
        let nodes = ids.into_iter().map(|id| self.numbering.node(realm, id));
        nodes.filter(|node| self.knows(*node)).collect()
    }

    fn knows(&self, node: NodeNo) -> bool {
        node == NodeNo::ROOT || self.table.lock().knows(node)
    }

    /// Records and listings say it better now than what was noted.
    fn forget_touches(&self, volume: u32, change: &Change) {
        let now = self.volume(volume).now_ns();
        let mut touched = self.touched.lock();
        for file in &change.files {
            touched.forget((volume, *file));
        }
        for directory in &change.directories {
            touched.change((volume, *directory), |touch| touch.subdirectories = None);
            if !change.timeless {
                touched.listing((volume, *directory), now, 0);
            }
        }
    }
}
