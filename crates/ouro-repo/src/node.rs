//! Tree nodes on the remote: packed, leaves first, inner nodes and the root together at the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ouro_core::content::Locator;
use ouro_core::id::NodeId;
use ouro_core::row::Missing;
use ouro_core::tree::{NewNode, Node, NodeRef, verify};

use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::frame::{self, Compressor, Effort};
use crate::moved::HOPS_MAX;
use crate::object::ObjectKind;
use crate::pack::OpenPack;
use crate::repository::Repository;

/// Leaves are sealed this many at a time, on a blocking thread.
const LEAVES_AT_ONCE: usize = 64;
/// Node packs being uploaded.
const UPLOADS_AT_ONCE: usize = 2;
/// How much [`Repository::fetch_top`] reads: the inner nodes of a tree over two million files fit.
pub const TOP_WINDOW_BYTES: u32 = 512 << 10;

/// Writes the nodes of a tree, as they come from a builder or an update.
///
/// Leaves go into packs as they come; inner nodes wait for [`NodeWriter::finish`], because they name the places of their children and
/// because all of them shall lie together. In memory are the open pack, packs being uploaded, all inner nodes (about one in 60 leaves)
/// and the places of all leaves (80 bytes each).
pub struct NodeWriter {
    repo: Repository,
    pack: Option<OpenPack>,
    leaves: Vec<NewNode>,
    inner: Vec<NewNode>,
    located: BTreeMap<NodeId, Locator>,
    uploads: FuturesUnordered<BoxFuture<'static, Result<(), RepoError>>>,
}

/// The places of all nodes that were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenNodes {
    /// Where each lies.
    pub located: BTreeMap<NodeId, Locator>,
}

impl WrittenNodes {
    /// Gives a reference its place, if its node was written; else it keeps the one it has.
    pub fn locate(&self, node: NodeRef) -> NodeRef {
        NodeRef { at: self.located.get(&node.id).copied().or(node.at), ..node }
    }
}

impl NodeWriter {
    /// Takes a node. A node's children come before it.
    ///
    /// # Errors
    ///
    /// What the storage says to an upload begun earlier.
    pub async fn push(&mut self, node: NewNode) -> Result<(), RepoError> {
        if node.reference.level > 0 {
            self.inner.push(node);
            return Ok(());
        }
        self.leaves.push(node);
        if self.leaves.len() >= LEAVES_AT_ONCE { self.write_leaves().await } else { Ok(()) }
    }

    /// Tells where a node lies that is stored already: nodes above it that are written will say so.
    pub fn know(&mut self, node: NodeId, at: Locator) {
        self.located.insert(node, at);
    }

    /// Writes what is left; when this returns, all nodes are durable.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn finish(mut self) -> Result<WrittenNodes, RepoError> {
        self.write_leaves().await?;
        self.write_inner().await?;
        if let Some(last) = self.pack.take() {
            self.upload(last).await?;
        }
        while let Some(done) = self.uploads.next().await {
            done?;
        }
        Ok(WrittenNodes { located: self.located })
    }

    async fn write_leaves(&mut self) -> Result<(), RepoError> {
        if self.leaves.is_empty() {
            return Ok(());
        }
        let (repo, leaves) = (self.repo.clone(), std::mem::take(&mut self.leaves));
        let seal_all = move || {
            let mut compressor = Compressor::new(Effort::Thorough);
            leaves.iter().map(|leaf| seal(&repo, &mut compressor, leaf, &BTreeMap::new())).collect::<Vec<_>>()
        };
        for node in self.repo.blocking(seal_all).await? {
            if let Some(full) = self.pack.take_if(|pack| !pack.has_room(node.bytes.len())) {
                self.upload(full).await?;
            }
            self.add(&node)?;
        }
        Ok(())
    }

    /// Inner nodes, level by level, in one pack.
    async fn write_inner(&mut self) -> Result<(), RepoError> {
        let mut inner = std::mem::take(&mut self.inner);
        inner.sort_by_key(|node| node.reference.level); // stable: key order within a level
        let raw: usize = inner.iter().map(|node| node.encode(&|_| None).len()).sum();
        // Places make nodes longer and compression makes them shorter; half as much again is on the safe side.
        if let Some(full) = self.pack.take_if(|pack| !pack.has_room(raw + raw / 2)) {
            self.upload(full).await?;
        }
        let mut compressor = Compressor::new(Effort::Thorough);
        for node in &inner {
            let sealed = seal(&self.repo, &mut compressor, node, &self.located);
            self.add(&sealed)?;
        }
        Ok(())
    }

    fn add(&mut self, node: &SealedNode) -> Result<(), RepoError> {
        let pack = self.pack.get_or_insert_with(|| OpenPack::new(&self.repo, ObjectKind::Nodes));
        let at = pack.add(node.id.0, node.len, &node.bytes)?;
        self.located.insert(node.id, at);
        Ok(())
    }

    async fn upload(&mut self, pack: OpenPack) -> Result<(), RepoError> {
        while self.uploads.len() >= UPLOADS_AT_ONCE {
            self.uploads.next().await.unwrap_or(Ok(()))?;
        }
        let repo = self.repo.clone();
        let closed = pack.close(&repo)?;
        self.uploads.push(Box::pin(async move {
            let name = repo.object_name(closed.object)?;
            Ok(repo.store().publish(&name, closed.bytes).await?)
        }));
        Ok(())
    }
}

/// A node as it came from the remote, verified.
#[derive(Clone, Debug)]
pub struct OpenNode {
    /// Its plain bytes.
    pub bytes: Bytes,
    /// What they say.
    pub node: Arc<Node>,
}

impl AsRef<[u8]> for OpenNode {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct SealedNode {
    id: NodeId,
    len: u32,
    bytes: Vec<u8>,
}

fn seal(
    repo: &Repository,
    compressor: &mut Compressor,
    node: &NewNode,
    located: &BTreeMap<NodeId, Locator>,
) -> SealedNode {
    let id = node.reference.id;
    let plain = node.encode(&|child| located.get(&child).copied());
    let mut bytes = Vec::new();
    repo.keys().seal(Sealed::Node, &id.0, &compressor.frame(&plain), &mut bytes);
    SealedNode { id, len: plain.len() as u32, bytes }
}

impl Repository {
    /// Begins to write the nodes of a tree.
    pub fn node_writer(&self) -> NodeWriter {
        let (leaves, inner, located) = (Vec::new(), Vec::new(), BTreeMap::new());
        NodeWriter { repo: self.clone(), pack: None, leaves, inner, located, uploads: FuturesUnordered::new() }
    }

    /// Writes nodes that are in memory already.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub async fn write_nodes(&self, nodes: Vec<NewNode>) -> Result<WrittenNodes, RepoError> {
        let mut writer = self.node_writer();
        for node in nodes {
            writer.push(node).await?;
        }
        writer.finish().await
    }

    /// Fetches one node in one ranged request.
    ///
    /// # Errors
    ///
    /// [`RepoError::Unlocated`], [`RepoError::NodeGone`], [`RepoError::Corrupt`], or what the storage says.
    pub async fn fetch_node(&self, node: &Missing) -> Result<OpenNode, RepoError> {
        let mut found = None;
        self.fetch_nodes(std::slice::from_ref(node), &mut |_, node| found = Some(node)).await?;
        found.ok_or(RepoError::Interrupted)
    }

    /// Fetches many nodes: neighbours together, several requests at once. `each` gets every one as it comes, in no certain order.
    ///
    /// # Errors
    ///
    /// As [`Repository::fetch_node`]: the first error, after everything that could be fetched was given to `each`.
    pub async fn fetch_nodes(
        &self,
        nodes: &[Missing],
        each: &mut (dyn FnMut(NodeId, OpenNode) + Send),
    ) -> Result<(), RepoError> {
        let mut failed = None;
        let mut placed = Vec::with_capacity(nodes.len());
        for (index, missing) in nodes.iter().enumerate() {
            match missing.at {
                Some(at) => placed.push((index, at)),
                None => failed = failed.or(Some(RepoError::Unlocated { what: format!("tree node {}", missing.node) })),
            }
        }
        let ids: Vec<NodeId> = nodes.iter().map(|missing| missing.node).collect();
        let gone = |index: usize, name: String| RepoError::NodeGone { node: ids[index], name };
        let open_ids = ids.clone();
        let open = move |repo: &Repository, index: usize, sealed: &[u8]| repo.open_node(open_ids[index], sealed);
        let raw: Vec<[u8; 32]> = ids.iter().map(|id| id.0).collect();
        let fetched = self.fetch_stretches(placed, &raw, gone, open, &mut |index, node| each(ids[index], node)).await;
        match failed {
            Some(error) => Err(error),
            None => fetched,
        }
    }

    /// Fetches a root together with all inner nodes that lie right before it, in one request of at most [`TOP_WINDOW_BYTES`]: after a
    /// checkpoint written as a whole these are all inner nodes. Returns the root first.
    ///
    /// # Errors
    ///
    /// As [`Repository::fetch_node`], for the root; what else is in the window and cannot be used is left out.
    pub async fn fetch_top(&self, root: &NodeRef) -> Result<Vec<(NodeId, Bytes)>, RepoError> {
        let mut at = root.at.ok_or_else(|| RepoError::Unlocated { what: format!("tree node {}", root.id) })?;
        let mut hops = 0;
        let (window, start) = loop {
            let name = self.object_name(at.object)?;
            let end = at.offset.saturating_add(at.len);
            let start = end.saturating_sub(TOP_WINDOW_BYTES.max(at.len));
            if let Some(window) = self.store().get_range(&name, u64::from(start), u64::from(end - start)).await? {
                break (window, start);
            }
            hops += 1;
            let moved = if hops > HOPS_MAX { None } else { self.follow(&root.id.0, at.object).await? };
            at = moved.ok_or(RepoError::NodeGone { node: root.id, name })?;
        };
        let mut open = VecDeque::from([(root.id, at)]);
        let mut found = Vec::new();
        while let Some((id, at)) = open.pop_front() {
            let from = (at.offset - start) as usize;
            let Some(sealed) = window.get(from..from + at.len as usize) else {
                continue;
            };
            let OpenNode { bytes, node } = match self.open_node(id, sealed) {
                Ok(opened) => opened,
                Err(error) if id == root.id => return Err(error),
                Err(_) => continue,
            };
            for child in node.children() {
                let inside = |place: &Locator| place.object == at.object && place.offset >= start;
                if let Some(place) = child.at.filter(|place| child.level > 0 && inside(place)) {
                    open.push_back((child.id, place));
                }
            }
            found.push((id, bytes));
        }
        Ok(found)
    }

    /// Decrypts, decompresses and verifies what is stored for a node.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`] if it is anything but that node; [`RepoError::NewerFormat`].
    pub fn open_node(&self, id: NodeId, sealed: &[u8]) -> Result<OpenNode, RepoError> {
        let name = || format!("tree node {id}");
        let opened = self.keys().open(Sealed::Node, &id.0, sealed);
        let frame = opened.map_err(|_| RepoError::corrupt(name(), "the seal is broken"))?;
        let plain = frame::expand(&frame).map_err(|error| RepoError::malformed(name(), error))?;
        let node = verify(&plain, &self.tree_params(), id).map_err(|error| RepoError::malformed(name(), error))?;
        Ok(OpenNode { bytes: plain.into(), node: Arc::new(node) })
    }
}
