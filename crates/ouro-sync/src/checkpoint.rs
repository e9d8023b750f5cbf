//! Checkpoints: the deltas since the last one folded into the tree, and written out.

use crate::collection::LOOK_BEFORE_PUT_MS;
use crate::status::Cost;
use crate::{Sync, SyncError};
use ouro_core::delta::Delta;
use ouro_core::id::NodeId;
use ouro_core::tree::{self, NewNode, NodeRef};
use ouro_local::volume::{Announced, CheckpointInput, VolumeError};
use ouro_repo::Announcement;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A checkpoint is due at so many bytes of deltas since the last …
pub(crate) const DELTA_BYTES: u64 = 1 << 20;
/// … or so many changed files …
pub(crate) const ENTRIES: u64 = 10_000;
/// … or so many commits.
pub(crate) const COMMITS: u64 = 4_096;
/// During an import these are so many times as much.
const IMPORT_PATIENCE: u64 = 2;
/// Nodes handed to the storage at a time.
const NODES_AT_ONCE: usize = 512;

impl Sync {
    /// Whether the deltas since the last checkpoint have grown enough for another.
    pub fn checkpoint_due(&self) -> bool {
        let counts = self.volume.counts();
        // Every commit of an import is a large one: a checkpoint after each would write the upper levels of the index as often.
        let patience = if self.imports.load(Ordering::Relaxed) > 0 { IMPORT_PATIENCE } else { 1 };
        counts.entries > ENTRIES * patience
            || counts.delta_bytes > DELTA_BYTES * patience
            || counts.commits > COMMITS * patience
    }

    /// Writes a checkpoint of everything committed, announces it and moves on to it. A commit that is on its way is published first.
    ///
    /// # Errors
    /// Anything the remote or the disk says. Nodes that were written and not announced are garbage, nothing else.
    pub async fn checkpoint(self: &Arc<Self>) -> Result<(), SyncError> {
        self.look_if_due(LOOK_BEFORE_PUT_MS).await?;
        let _turn = self.turn.lock().await;
        self.finish_earlier().await?;
        let began = self.ports.clock.monotonic_ns();
        let before = self.repo.store().usage();
        let input = Arc::new(self.volume.checkpoint_input());
        let files = input.changes.len() as u64;
        let folding = Arc::clone(&input);
        let (root, nodes) = self.with_all(move |sync| sync.fold(&folding)).await?;
        let root = self.write_tree(root, nodes).await?;
        let announced = Announced { root, covers: input.covers.clone(), digest: input.digest };
        self.commit_outright(Delta::default(), Some(announced.clone())).await?;
        let adopting = announced.clone();
        self.with_all(move |sync| sync.volume.adopt_own(&adopting, &input)).await?;
        self.write_hint().await?;
        let after = self.repo.store().usage();
        let bytes = after.bytes_out - before.bytes_out;
        let cost = Cost {
            puts: after.puts - before.puts,
            bytes,
            index_bytes: bytes,
            files,
            millis: (self.ports.clock.monotonic_ns() - began) / 1_000_000,
        };
        self.tell(|status| {
            status.checkpoints += 1;
            status.last_checkpoint = Some(cost);
        });
        Ok(())
    }

    /// The tree with the committed rows on top, and the nodes that are new in it.
    fn fold(&self, input: &CheckpointInput) -> Result<(Option<NodeRef>, Vec<NewNode>), VolumeError> {
        let mut nodes = Vec::new();
        let params = self.repo.tree_params();
        let root = tree::update(self.volume.nodes(), &params, input.root.as_ref(), &input.changes, &mut |node| {
            nodes.push(node)
        })?;
        Ok((root, nodes))
    }

    /// Writes new nodes to the remote and keeps them here.
    async fn write_tree(
        self: &Arc<Self>,
        root: Option<NodeRef>,
        nodes: Vec<NewNode>,
    ) -> Result<Option<NodeRef>, SyncError> {
        let Some(root) = root else { return Ok(None) };
        if nodes.is_empty() {
            // Nothing in the tree changed: it stands where it stood.
            return Ok(Some(root));
        }
        let nodes = Arc::new(nodes);
        let mut writer = self.repo.node_writer();
        for node in nodes.iter() {
            writer.push(node.clone()).await?;
        }
        let written = writer.finish().await?;
        let root = written.locate(root);
        root.at.ok_or(SyncError::RootLost)?;
        self.blocking(move |sync| {
            for part in nodes.chunks(NODES_AT_ONCE) {
                let encode = |node: &NewNode| (node.reference.id, node.encode(&|id| written.located.get(&id).copied()));
                let encoded: Vec<(NodeId, Vec<u8>)> = part.iter().map(encode).collect();
                sync.volume.nodes().store().put_many(&encoded)?;
            }
            Ok::<(), ouro_local::LocalError>(())
        })
        .await??;
        Ok(Some(root))
    }
}

pub(crate) fn announcement(announced: &Announced) -> Announcement {
    Announcement {
        root: announced.root,
        covers: announced.covers.iter().map(|(device, head)| (*device, head.seq)).collect(),
        digest: announced.digest.0,
    }
}
