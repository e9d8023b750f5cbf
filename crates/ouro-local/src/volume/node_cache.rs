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
