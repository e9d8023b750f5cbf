//! Index nodes: raw on disk, decoded in a bounded memory cache.

use crate::error::LocalError;
use crate::nodes::NodeStore;
use lru::LruCache;
use ouro_core::id::NodeId;
use ouro_core::row::Missing;
use ouro_core::tree::{Node, NodeRef, Nodes, TreeParams};
use parking_lot::Mutex;
use std::sync::Arc;

/// Memory for decoded nodes, in bytes.
const DECODED_BYTES_MAX: usize = 24 << 20;

/// Decoded nodes over a [`NodeStore`].
pub struct NodeCache {
    store: NodeStore,
    params: TreeParams,
    decoded: Mutex<Decoded>,
}

struct Decoded {
    nodes: LruCache<NodeId, Arc<Node>>,
    weight: usize,
}

impl NodeCache {
    /// A cache over the nodes stored on this device.
    pub fn new(store: NodeStore, params: TreeParams) -> NodeCache {
        NodeCache { store, params, decoded: Mutex::new(Decoded { nodes: LruCache::unbounded(), weight: 0 }) }
    }

    /// The nodes on disk.
    pub fn store(&self) -> &NodeStore {
        &self.store
    }

    /// The tree's parameters.
    pub fn params(&self) -> &TreeParams {
        &self.params
    }

    /// Removes the nodes that `stale` says so of, on disk and in memory; returns how many went.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn remove_if(&self, stale: &dyn Fn(&NodeId, &[u8]) -> bool) -> Result<u64, LocalError> {
        let gone = self.store.remove_if(stale)?;
        let mut decoded = self.decoded.lock();
        decoded.nodes.clear();
        decoded.weight = 0;
        Ok(gone)
    }

    /// Keeps nodes that came from the remote, on disk and, as `decoded` gives them, in memory. On disk first: what is done on a node that is seen
    /// goes to the journal, and the next start lays it on that node again, with or without a network.
    ///
    /// # Errors
    /// As [`NodeStore::put_many`]; then none is kept.
    pub fn put_many<B: AsRef<[u8]>>(
        &self,
        nodes: &[(NodeId, B)],
        decoded: impl Fn(&B) -> &Arc<Node>,
    ) -> Result<(), LocalError> {
        self.store.put_many(nodes)?;
        nodes.iter().for_each(|(id, node)| self.offer(*id, decoded(node)));
        Ok(())
    }

    /// Holds a decoded node in memory if there is room: what readers use is not pushed out for one that nobody asked for yet.
    fn offer(&self, id: NodeId, node: &Arc<Node>) {
        let has_room = self.decoded.lock().weight + node.weight() <= DECODED_BYTES_MAX;
        if has_room {
            self.keep(id, node);
        }
    }

    fn keep(&self, id: NodeId, node: &Arc<Node>) {
        let mut decoded = self.decoded.lock();
        decoded.weight += node.weight();
        if let Some(old) = decoded.nodes.put(id, Arc::clone(node)) {
            decoded.weight -= old.weight();
        }
        while decoded.weight > DECODED_BYTES_MAX && decoded.nodes.len() > 4 {
            let Some((_, old)) = decoded.nodes.pop_lru() else { break };
            decoded.weight -= old.weight();
        }
    }
}

impl Nodes for NodeCache {
    fn node(&self, at: &NodeRef) -> Result<Arc<Node>, Missing> {
        if let Some(node) = self.decoded.lock().nodes.get(&at.id) {
            return Ok(Arc::clone(node));
        }
        let missing = Missing { node: at.id, at: at.at };
        let bytes = self.store.get(&at.id).ok().flatten().ok_or(missing)?;
        // A damaged node is as good as none: it is fetched again.
        let node = Arc::new(Node::decode(&bytes).map_err(|_| missing)?);
        self.keep(at.id, &node);
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::DatabaseAt;
    use ouro_core::id::{DeviceNo, FileId, Hlc, Seq, Version};
    use ouro_core::name::Name;
    use ouro_core::row::{Key, Row};
    use ouro_core::state::{Attributes, AttributesVersion, File, Kind, Place, Placement};
    use ouro_core::tree::Builder;

    /// A leaf of one file, and what refers to it.
    fn leaf(params: &TreeParams) -> (Arc<Node>, NodeRef) {
        let version = Version { hlc: Hlc(1), device: DeviceNo(1), seq: Seq(1) };
        let mut file = File::new(FileId::new(DeviceNo(1), 16), Kind::File);
        let place = Place { parent: FileId::ROOT, name: Name::new(b"photo.jpg").unwrap() };
        let key = Key::at(&place, file.id, 0);
        file.placements.push(Placement { slot: 0, version, place, was: None, by_rule: false, removed: false });
        let value = Attributes { mode: 0o644, mtime_ns: 0, ctime_ns: 0, rdev: 0, xattrs: Vec::new() };
        file.attributes.push(AttributesVersion { version, value });
        let mut nodes = Vec::new();
        let mut sink = |node| nodes.push(node);
        let mut builder = Builder::new(params, &mut sink);
        builder.push(key, Row::Record(Arc::new(file)));
        let root = builder.finish().unwrap();
        (Arc::new(Node::decode(&nodes[0].encode(&|_| None)).unwrap()), root)
    }

    #[test]
    fn a_node_on_offer_is_held_until_memory_is_full_and_pushes_out_none_that_was_read() {
        let params = TreeParams { node_key: [1; 32], salt: [2; 32] };
        let (node, root) = leaf(&params);
        let cache = NodeCache::new(NodeStore::open(DatabaseAt::Memory).unwrap(), params);
        let at = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_le_bytes());
            NodeRef { id: NodeId(id), ..root }
        };
        let fitting = DECODED_BYTES_MAX / node.weight();
        for n in 0..fitting + 10 {
            cache.offer(at(n).id, &node);
        }
        for n in 0..fitting {
            assert!(cache.node(&at(n)).is_ok(), "{n} of {fitting}");
        }
        for n in fitting..fitting + 10 {
            assert_eq!(cache.node(&at(n)).unwrap_err().node, at(n).id);
        }
    }
}
