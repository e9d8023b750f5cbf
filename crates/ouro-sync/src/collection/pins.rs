//! Trees of their own for states whose records go.

use super::mark::Mark;
use crate::{Sync, SyncError};
use ouro_core::tree::{self, NewNode, NodeRef};
use ouro_local::volume::{Cut, LogWalk};
use ouro_repo::NodeWriter;
use std::sync::Arc;

use ouro_core::id::{DeviceNo, Hlc, Seq};

/// A commit that may be thinned.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) device: DeviceNo,
    pub(super) seq: Seq,
    pub(super) hlc: Hlc,
    pub(super) message: String,
}

/// Writes trees that share nearly all their nodes, each node once.
pub(super) struct Pinner {
    sync: Arc<Sync>,
    /// `None`: nothing is written, it is only looked what would be.
    writer: Option<NodeWriter>,
    roots: Vec<Option<NodeRef>>,
}

impl Pinner {
    pub(super) fn new(sync: &Arc<Sync>, dry_run: bool) -> Pinner {
        let writer = (!dry_run).then(|| sync.repo.node_writer());
        Pinner { sync: Arc::clone(sync), writer, roots: Vec::new() }
    }

    /// The tree of a state. What it names is live from here on.
    ///
    /// # Errors
    /// What the remote says; a state that cannot be opened any more.
    pub(super) async fn pin(&mut self, cut: &Cut, mark: &mut Mark) -> Result<(), SyncError> {
        let wanted = cut.clone();
        let snapshot = self.sync.with_all(move |sync| sync.volume.snapshot_of(&wanted)).await?;
        let folding = Arc::clone(&snapshot);
        let (root, nodes) = self
            .sync
            .with_all(move |sync| {
                let mut nodes = Vec::new();
                let (cache, params) = (sync.volume.nodes(), sync.repo.tree_params());
                let mut sink = |node: NewNode| nodes.push(node);
                let root = tree::update(cache, &params, folding.root().as_ref(), folding.changes(), &mut sink)?;
                Ok((root, nodes))
            })
            .await?;
        for node in nodes {
            let stored = mark.nodes.get(&node.reference.id).map(|live| live.at);
            match (stored, &mut self.writer) {
                (Some(Some(at)), Some(writer)) => writer.know(node.reference.id, at),
                (Some(_), _) => {}
                (None, writer) => {
                    mark.new_node(&node, None).await?;
                    if let Some(writer) = writer {
                        writer.push(node).await?;
                    }
                }
            }
        }
        // One that was there before; what is new was marked as it came.
        if let Some(there) = root.filter(|root| root.at.is_some()) {
            mark.tree(Some(there)).await?;
        }
        self.roots.push(root);
        Ok(())
    }

    /// The roots, in the order in which their states came; all is durable, and the mark knows where it lies.
    ///
    /// # Errors
    /// What the remote says.
    pub(super) async fn finish(self, mark: &mut Mark) -> Result<Vec<Option<NodeRef>>, SyncError> {
        let Some(writer) = self.writer else { return Ok(self.roots) };
        let written = writer.finish().await?;
        mark.place(&written.located);
        Ok(self.roots.into_iter().map(|root| root.map(|root| written.locate(root))).collect())
    }
}

impl Sync {
    /// The commits of a cut that another does not hold, oldest first: all of their records are brought here.
    pub(super) async fn commits_between(self: &Arc<Self>, below: &Cut, cut: &Cut) -> Result<Vec<Candidate>, SyncError> {
        let wanted = cut.clone();
        let below = below.clone();
        let mut commits = self
            .with_all(move |sync| {
                let mut walk = LogWalk::between(&below, &wanted);
                let mut found = Vec::new();
                while let Some(logged) = walk.step(&sync.volume)? {
                    if !logged.is_announcement() {
                        let (device, seq, hlc) = (logged.device(), logged.seq(), logged.hlc());
                        found.push(Candidate { device, seq, hlc, message: logged.message().to_owned() });
                    }
                }
                Ok(found)
            })
            .await?;
        commits.reverse();
        Ok(commits)
    }
}
