//! The whole index in the background: after that no metadata operation asks the remote for anything.

use crate::{Sync, SyncError};
use bytes::Bytes;
use ouro_core::id::NodeId;
use ouro_core::row::Missing;
use ouro_core::tree::{self, Node, NodeRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Nodes asked for in one go, and held in memory meanwhile; neighbours come in one request.
const NODES_AT_ONCE: usize = 512;

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
        let mut brought: Vec<(NodeId, Bytes)> = Vec::with_capacity(missing.len());
        self.repo.fetch_nodes(&missing, &mut |node, bytes| brought.push((node, bytes))).await?;
        let total = brought.len() as u64;
        self.blocking(move |sync| {
            let params = sync.repo.tree_params();
            for (id, bytes) in &brought {
                tree::verify(bytes, &params, *id).map_err(|_| SyncError::NodeLost)?;
            }
            Ok::<(), SyncError>(sync.volume.nodes().store().put_many(&brought)?)
        })
        .await??;
        self.tell(|status| {
            status.index.0 += total;
            status.index.1 = status.index.1.max(status.index.0);
        });
        Ok(())
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
