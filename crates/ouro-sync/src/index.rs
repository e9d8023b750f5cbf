//! The whole index in the background: after that no metadata operation asks the remote for anything.

use crate::schedule::{IndexFetch, index_fetch};
use crate::{Sync, SyncError};
use futures::{FutureExt, StreamExt, stream};
use ouro_core::content::ObjectId;
use ouro_core::id::NodeId;
use ouro_core::row::Missing;
use ouro_core::tree::{Node, NodeRef};
use ouro_repo::OpenNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Nodes asked for in one go, and held in memory meanwhile; neighbours come in one request.
const NODES_AT_ONCE: usize = 512;
/// Objects read at once: fewer than the requests that a remote takes at the same time, so that a reader who waits for a node finds room.
const OBJECTS_AT_ONCE: usize = 10;

impl Sync {
    /// Brings every node of the newest checkpoint that is not here, level by level. Those here already cost no request.
    ///
    /// # Errors
    /// What the remote or the disk says; what came until then stays.
    pub async fn fetch_index(self: &Arc<Self>) -> Result<(), SyncError> {
        self.fetch_upper_index().await?;
        self.fetch_levels(0).await?;
        self.index_complete.store(true, Ordering::Release);
        self.tell(|_| {});
        Ok(())
    }

    /// Brings the nodes above the leaves: about a hundredth of the index. With them any leaf is one request away. Several callers share
    /// one fetch.
    ///
    /// # Errors
    /// As [`Sync::fetch_index`].
    pub async fn fetch_upper_index(self: &Arc<Self>) -> Result<(), SyncError> {
        let _turn = self.upper_index.lock().await;
        self.fetch_levels(1).await
    }

    /// Begins the same in the background.
    pub(crate) fn fetch_upper_index_beside(self: &Arc<Self>) {
        if index_fetch() == IndexFetch::Nothing {
            return;
        }
        let sync = Arc::clone(self);
        let fetching = async move {
            if let Err(error) = sync.fetch_upper_index().await {
                // Who needs a node asks for it.
                tracing::debug!(%error, "the upper index is not here yet");
            }
        };
        self.ports.runtime.spawn(fetching.boxed());
    }

    async fn fetch_levels(self: &Arc<Self>, lowest: u8) -> Result<(), SyncError> {
        let root = self.volume.checkpoint_root();
        let mut level: Vec<NodeRef> = root.into_iter().collect();
        let mut seen: BTreeSet<NodeId> = BTreeSet::new();
        while !level.is_empty() && !*self.stopped.borrow() {
            level.retain(|node| node.level >= lowest && seen.insert(node.id));
            let mut next = Vec::new();
            for part in level.chunks(NODES_AT_ONCE) {
                self.bring_nodes(part).await?;
                let inner: Vec<NodeRef> = part.iter().filter(|node| node.level > lowest).copied().collect();
                next.extend(self.children_of(inner).await?);
            }
            level = next;
        }
        Ok(())
    }

    async fn bring_nodes(self: &Arc<Self>, nodes: &[NodeRef]) -> Result<(), SyncError> {
        let asked: Vec<NodeRef> = nodes.to_vec();
        let missing: Vec<Missing> = self
            .blocking(move |sync| {
                let absent = asked.iter().filter(|n| !sync.volume.nodes().store().contains(&n.id).unwrap_or(false));
                absent.map(|n| Missing { node: n.id, at: n.at }).collect()
            })
            .await?;
        if missing.is_empty() {
            return Ok(());
        }
        // Inner nodes are kept object by object, as they come: a reader who needs one does not wait for all. Leaves are too many for that,
        // for each time the disk is waited for.
        let by_object = nodes.iter().any(|node| node.level > 0);
        let mut objects: BTreeMap<Option<ObjectId>, Vec<Missing>> = BTreeMap::new();
        for node in missing {
            objects.entry(node.at.map(|at| at.object).filter(|_| by_object)).or_default().push(node);
        }
        let bringing = objects.into_values().map(|nodes| self.bring_together(nodes));
        let outcomes: Vec<Result<(), SyncError>> =
            stream::iter(bringing).buffer_unordered(OBJECTS_AT_ONCE).collect().await;
        outcomes.into_iter().collect()
    }

    async fn bring_together(self: &Arc<Self>, nodes: Vec<Missing>) -> Result<(), SyncError> {
        let mut brought: Vec<(NodeId, OpenNode)> = Vec::with_capacity(nodes.len());
        let fetched = self.repo.fetch_nodes(&nodes, &mut |id, opened| brought.push((id, opened))).await;
        let total = brought.len() as u64;
        self.keep_nodes(brought).await?;
        self.tell(|status| {
            status.index.0 += total;
            status.index.1 = status.index.1.max(status.index.0);
        });
        Ok(fetched?)
    }

    async fn children_of(self: &Arc<Self>, nodes: Vec<NodeRef>) -> Result<Vec<NodeRef>, SyncError> {
        self.blocking(move |sync| {
            let mut children = Vec::new();
            for node in nodes {
                let bytes = sync.volume.nodes().store().get(&node.id)?.ok_or(SyncError::NodeLost)?;
                let decoded = Node::decode(&bytes).map_err(|_| SyncError::NodeLost)?;
                children.extend_from_slice(decoded.children());
            }
            Ok(children)
        })
        .await?
    }
}
