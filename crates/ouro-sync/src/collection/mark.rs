//! What is live: everything that trees and records which stay refer to, and where it lies.

use super::begin::Listed;
use crate::{Sync, SyncError};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use ouro_core::codec::decode_block_list;
use ouro_core::content::{BlobRef, Content, Locator, ObjectId};
use ouro_core::delta::Delta;
use ouro_core::id::{BlobId, NodeId, PackId, Seq};
use ouro_core::row::Missing;
use ouro_core::tree::{NewNode, Node, NodeRef};
use ouro_local::volume::Cut;
use ouro_repo::{Body, Collection, HOPS_MAX, OpenNode, Places, RepoError, StoredCopy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Nodes read at a time.
const NODES_AT_ONCE: usize = 256;
/// Block lists read at a time.
const LISTS_AT_ONCE: usize = 64;
/// Records read at a time.
const RECORDS_AT_ONCE: usize = 16;
/// Copies gathered before equal ones are joined: a copy takes 80 bytes.
const COPIES_BEFORE_SORTING: usize = 1 << 18;

/// The tables of a collection.
pub(super) type Tables = BTreeMap<PackId, Arc<Places>>;

/// A node that is live.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveNode {
    /// Where; `None` for one that is not stored (a look at what would be).
    pub(super) at: Option<Locator>,
    pub(super) level: u8,
}

/// Follows a place through the tables of a collection.
pub(super) fn now_at(collection: &Collection, tables: &Tables, id: &[u8; 32], mut at: Locator) -> Locator {
    for _ in 0..HOPS_MAX {
        match collection.tables_of(at.object).find_map(|table| tables.get(&table)?.get(id)) {
            Some(now) => at = *now,
            None => break,
        }
    }
    at
}

/// What is live, gathered root by root.
pub(super) struct Mark {
    sync: Arc<Sync>,
    /// The collection whose tables say where things lie, and these tables.
    collection: Option<Arc<Collection>>,
    tables: Tables,
    /// Blobs, each as often as it is stored and referred to; in order of places after [`Mark::sort`].
    copies: Vec<StoredCopy<BlobId>>,
    sorted: usize,
    pub(super) nodes: BTreeMap<NodeId, LiveNode>,
    /// Other places of nodes that are referred to as well, and were read there: two of one id may name different places for what is below.
    other_nodes: BTreeSet<(NodeId, ObjectId, u32)>,
    /// Lists that were read: two of one id may name different places for the chunks.
    lists: BTreeSet<(BlobId, ObjectId, u32)>,
    lists_left: Vec<BlobRef>,
    /// Objects written meanwhile: no list taken before shows them.
    written: BTreeSet<ObjectId>,
}

impl Mark {
    /// Nothing is live yet.
    pub(super) async fn new(sync: &Arc<Sync>, collection: Option<Arc<Collection>>) -> Result<Mark, SyncError> {
        let mut tables = BTreeMap::new();
        for table in collection.iter().flat_map(|collection| &collection.moved) {
            let places = sync.repo.table(table.id).await?.ok_or(SyncError::NodeLost)?;
            tables.insert(table.id, places);
        }
        Ok(Mark {
            sync: Arc::clone(sync),
            collection,
            tables,
            copies: Vec::new(),
            sorted: 0,
            nodes: BTreeMap::new(),
            other_nodes: BTreeSet::new(),
            lists: BTreeSet::new(),
            lists_left: Vec::new(),
            written: BTreeSet::new(),
        })
    }

    /// Where something lies now whose place may be of before a collection.
    fn resolve(&self, id: &[u8; 32], at: Locator) -> Locator {
        self.collection.as_ref().map_or(at, |collection| now_at(collection, &self.tables, id, at))
    }

    /// A tree, and all that it names.
    ///
    /// # Errors
    /// What the remote says; a node that is nowhere: then nothing may go.
    pub(super) async fn tree(&mut self, root: Option<NodeRef>) -> Result<(), SyncError> {
        self.below(root.into_iter().collect()).await
    }

    async fn below(&mut self, nodes: Vec<NodeRef>) -> Result<(), SyncError> {
        let mut left = nodes;
        while !left.is_empty() {
            let part = left.split_off(left.len().saturating_sub(NODES_AT_ONCE));
            let mut fresh = Vec::with_capacity(part.len());
            let mut stored = Vec::new();
            for node in part {
                let known = self.nodes.get(&node.id).copied();
                if known.is_some() && !self.is_second() {
                    continue;
                }
                let at = node.at.ok_or(SyncError::NodeLost)?;
                let at = self.resolve(&node.id.0, at);
                match known {
                    None => {
                        self.nodes.insert(node.id, LiveNode { at: Some(at), level: node.level });
                        fresh.push(Missing { node: node.id, at: Some(at) });
                    }
                    Some(LiveNode { at: first, .. }) if first != Some(at) => {
                        // Which of its copies is kept on this device nobody knows.
                        for at in first.into_iter().chain([at]) {
                            if self.other_nodes.insert((node.id, at.object, at.offset)) {
                                stored.push(Missing { node: node.id, at: Some(at) });
                            }
                        }
                    }
                    Some(_) => {}
                }
            }
            let mut read = self.sync.read_nodes(fresh).await?;
            self.sync.repo.fetch_nodes(&stored, &mut |_, opened| read.push(opened.node)).await?;
            for node in read {
                left.extend_from_slice(node.children());
                self.rows(&node)?;
            }
        }
        self.read_lists().await
    }

    /// Whether this is the second mark: what was written since the first is in no table, so each place that is referred to counts. The
    /// tables of the first one place what lives in all that is condemned, so there one place is enough.
    fn is_second(&self) -> bool {
        self.collection.as_ref().is_some_and(|collection| collection.ends.is_none())
    }

    /// A node just made, before or after it is stored.
    pub(super) async fn new_node(&mut self, node: &NewNode, at: Option<Locator>) -> Result<(), SyncError> {
        self.nodes.insert(node.reference.id, LiveNode { at, level: node.reference.level });
        // Children that are new too come, or came, by themselves.
        let known: Vec<NodeRef> = node.children().iter().filter(|child| child.at.is_some()).copied().collect();
        if node.reference.level == 0 {
            self.rows(&node.node())?;
        }
        self.below(known).await
    }

    /// Where nodes that were new lie now.
    pub(super) fn place(&mut self, located: &BTreeMap<NodeId, Locator>) {
        for (id, at) in located {
            if let Some(node) = self.nodes.get_mut(id).filter(|node| node.at.is_none()) {
                node.at = Some(*at);
                self.written.insert(at.object);
            }
        }
    }

    fn rows(&mut self, node: &Node) -> Result<(), SyncError> {
        let mut blobs = Vec::new();
        node.blobs(&mut |blob| blobs.push(*blob));
        let mut lists = Vec::new();
        node.lists(&mut |list| lists.push(*list));
        blobs.iter().try_for_each(|blob| self.blob(blob).map(drop))?;
        lists.iter().try_for_each(|list| self.list(list))
    }

    /// A blob that is referred to.
    fn blob(&mut self, blob: &BlobRef) -> Result<Locator, SyncError> {
        let at = self.resolve(&blob.id.0, blob.at.ok_or(SyncError::BlobLost)?);
        self.copies.push(StoredCopy { id: blob.id, len: blob.len, at });
        if self.copies.len() - self.sorted > COPIES_BEFORE_SORTING {
            self.sort();
        }
        Ok(at)
    }

    fn list(&mut self, list: &BlobRef) -> Result<(), SyncError> {
        let at = self.blob(list)?;
        if self.lists.insert((list.id, at.object, at.offset)) {
            self.lists_left.push(BlobRef { at: Some(at), ..*list });
        }
        Ok(())
    }

    /// Reads the block lists that were met, each copy: their chunks are live.
    async fn read_lists(&mut self) -> Result<(), SyncError> {
        while !self.lists_left.is_empty() {
            let part = self.lists_left.split_off(self.lists_left.len().saturating_sub(LISTS_AT_ONCE));
            let mut read: Vec<Bytes> = Vec::with_capacity(part.len());
            self.sync.repo.fetch_blobs(&part, &mut |_, bytes| read.push(bytes)).await?;
            for bytes in read {
                for chunk in decode_block_list(&bytes).map_err(|error| SyncError::BulkDelta { error })? {
                    self.blob(&chunk)?;
                }
            }
        }
        Ok(())
    }

    fn content(&mut self, content: &Content) -> Result<(), SyncError> {
        match content {
            Content::Chunks(chunks) => chunks.iter().try_for_each(|chunk| self.blob(chunk).map(drop)),
            Content::BlockList { list, .. } => self.list(list),
            Content::Inline(_) | Content::Pending { .. } => Ok(()),
        }
    }

    fn delta(&mut self, delta: &Delta) -> Result<(), SyncError> {
        let contents = delta.files.iter().filter_map(|file| file.content.as_ref()?.value.as_ref());
        contents.into_iter().try_for_each(|content| self.content(content))
    }

    /// Every record beyond a cut, up to the heads: what each changes, its blobs, and the tree that it announces.
    ///
    /// # Errors
    /// What the remote says; a record that is not there.
    pub(super) async fn records(&mut self, beyond: &Cut, heads: &Cut) -> Result<(), SyncError> {
        for (device, head) in heads {
            let first = beyond.get(device).map_or(Seq(0), |covered| covered.seq).next();
            let id = self.sync.repo.device_id(*device)?;
            let repo = self.sync.repo.clone();
            let reads = stream::iter(first.0..=head.seq.0).map(|seq| {
                let repo = repo.clone();
                async move { repo.read_record(id, Seq(seq)).await }
            });
            let mut reads = reads.buffered(RECORDS_AT_ONCE).boxed();
            while let Some(read) = reads.try_next().await? {
                let (record, ..) = read.ok_or(SyncError::NodeLost)?;
                match &record.body {
                    Body::Delta(delta) => self.delta(delta)?,
                    Body::DeltaBlobs(blobs) => {
                        blobs.iter().try_for_each(|blob| self.blob(blob).map(drop))?;
                        let delta = self.sync.delta_of(record.body).await?;
                        self.delta(&delta)?;
                    }
                    Body::Checkpoint(announcement) => self.tree(announcement.root).await?,
                }
                self.read_lists().await?;
            }
        }
        Ok(())
    }

    /// What only this device refers to: its trash, and what it has not committed yet. What a collection of another device let go is on this
    /// device only, and holds nothing up.
    ///
    /// # Errors
    /// What the remote says: a list of chunks may have to be brought.
    pub(super) async fn local(&mut self, listed: &Listed) -> Result<(), SyncError> {
        let mut gone = BTreeSet::new();
        let blobs = loop {
            let known = gone.clone();
            match self.sync.with_all(move |sync| sync.volume.local_references(&known)).await {
                // A file that is open here and deleted for all: what it was made on went, with the list of its chunks.
                Err(SyncError::Repo(RepoError::BlobGone { blob, .. })) if gone.insert(blob) => {}
                blobs => break blobs?,
            }
        };
        for blob in blobs {
            let at = blob.at.map(|at| self.resolve(&blob.id.0, at));
            if at.is_some_and(|at| listed.shows(at.object)) {
                self.blob(&blob)?;
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        let key = |c: &StoredCopy<BlobId>| (c.at.object, c.at.offset, c.id);
        self.copies.sort_unstable_by_key(key);
        self.copies.dedup_by_key(|c| key(c));
        self.sorted = self.copies.len();
    }

    /// Everything that was gathered, for looking at.
    pub(super) fn finish(mut self) -> Live {
        self.sort();
        let mut bytes: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for copy in &self.copies {
            *bytes.entry(copy.at.object).or_default() += u64::from(copy.at.len);
        }
        for at in self.nodes.values().filter_map(|node| node.at) {
            *bytes.entry(at.object).or_default() += u64::from(at.len);
        }
        let mut ids: Vec<(BlobId, u32)> = self.copies.iter().zip(0..).map(|(copy, index)| (copy.id, index)).collect();
        ids.sort_unstable();
        let others = self.other_nodes.into_iter().map(|(_, object, _)| object).collect();
        Live { copies: self.copies, ids, nodes: self.nodes, others, bytes, written: self.written }
    }
}

/// What is live.
pub(super) struct Live {
    /// Blobs by place.
    copies: Vec<StoredCopy<BlobId>>,
    /// The same by id: index in `copies`.
    ids: Vec<(BlobId, u32)>,
    pub(super) nodes: BTreeMap<NodeId, LiveNode>,
    /// Objects in which live nodes are referred to that lie elsewhere, too.
    others: BTreeSet<ObjectId>,
    /// Live bytes by object.
    pub(super) bytes: BTreeMap<ObjectId, u64>,
    /// Objects written while it was marked.
    pub(super) written: BTreeSet<ObjectId>,
}

impl Live {
    /// The blobs in an object, in the order in which they lie.
    pub(super) fn blobs_in(&self, object: ObjectId) -> &[StoredCopy<BlobId>] {
        let start = self.copies.partition_point(|copy| copy.at.object < object);
        let len = self.copies[start..].partition_point(|copy| copy.at.object == object);
        &self.copies[start..start + len]
    }

    /// All copies of a blob.
    pub(super) fn copies_of(&self, id: BlobId) -> impl Iterator<Item = &StoredCopy<BlobId>> {
        let start = self.ids.partition_point(|(known, _)| *known < id);
        self.ids[start..]
            .iter()
            .take_while(move |(known, _)| *known == id)
            .map(|(_, index)| &self.copies[*index as usize])
    }

    /// Whether anything that lives refers to something in an object.
    pub(super) fn refers_to(&self, object: ObjectId) -> bool {
        self.bytes.contains_key(&object) || self.others.contains(&object)
    }

    /// Bytes that are live.
    pub(super) fn total(&self) -> u64 {
        self.bytes.values().sum()
    }
}

impl Sync {
    /// Decoded nodes, from this device or the remote; what came from there is kept here.
    async fn read_nodes(self: &Arc<Self>, wanted: Vec<Missing>) -> Result<Vec<Arc<Node>>, SyncError> {
        let asked = wanted.clone();
        let (mut found, missing) = self
            .blocking(move |sync| {
                let (mut found, mut missing) = (Vec::new(), Vec::new());
                for one in asked {
                    let bytes = sync.volume.nodes().store().get(&one.node)?;
                    match bytes.and_then(|bytes| Node::decode(&bytes).ok()) {
                        Some(node) => found.push(Arc::new(node)),
                        None => missing.push(one),
                    }
                }
                Ok::<_, SyncError>((found, missing))
            })
            .await??;
        let mut brought: Vec<(NodeId, OpenNode)> = Vec::with_capacity(missing.len());
        self.repo.fetch_nodes(&missing, &mut |id, opened| brought.push((id, opened))).await?;
        found.extend(brought.iter().map(|(_, opened)| Arc::clone(&opened.node)));
        self.blocking(move |sync| sync.volume.nodes().store().put_many(&brought)).await??;
        Ok(found)
    }
}
