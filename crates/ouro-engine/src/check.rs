//! `check`: whether everything that the present and the states that are kept refer to is on the remote; with `read_data` whether every byte
//! is what it should be; with `repair` what this device still has is put back.

mod repair;

use crate::api::{CheckReport, Failure, Progress, Response, Unit};
use crate::boxes::OpenBox;
use crate::engine::{Engine, OnProgress};
use bytes::Bytes;
use ouro_core::codec::decode_block_list;
use ouro_core::content::{BlobRef, Content, Locator, ObjectId};
use ouro_core::id::{BlobId, DeviceNo, NodeId, Seq};
use ouro_core::row::Missing;
use ouro_core::tree::{Node, NodeRef};
use ouro_remote::RemoteError;
use ouro_repo::{Body, PackPart, RepoError, pack_of};
use repair::Bad;
use std::collections::{BTreeMap, BTreeSet};

/// Blobs read back in one go.
const BLOBS_AT_ONCE: usize = 256;
/// A place is followed through collections so many times.
const HOPS_MAX: usize = 32;

/// What is needed, and where it lies.
#[derive(Default)]
struct Inventory {
    nodes: BTreeMap<NodeId, Locator>,
    /// A blob may be stored several times.
    blobs: BTreeMap<(BlobId, ObjectId, u32), BlobRef>,
    lists: BTreeSet<(BlobId, ObjectId, u32)>,
    /// Lists that records name.
    lists_left: Vec<BlobRef>,
    /// The list that names a chunk.
    listed_in: BTreeMap<BlobId, BlobId>,
    bad: Vec<Bad>,
    lost_records: Vec<(DeviceNo, Seq)>,
}

impl Inventory {
    fn blob(&mut self, blob: &BlobRef) {
        if let Some(at) = blob.at {
            self.blobs.insert((blob.id, at.object, at.offset), *blob);
        }
    }

    /// Everything needed that lies in an object.
    fn parts_of(&self, object: ObjectId) -> Vec<PackPart> {
        let nodes = self.nodes.iter().filter(|(_, at)| at.object == object);
        let nodes = nodes.map(|(id, at)| PackPart { id: id.0, len: 0, at: *at });
        let blobs = self.blobs.values().filter_map(|b| Some((b, b.at?))).filter(|(_, at)| at.object == object);
        nodes.chain(blobs.map(|(b, at)| PackPart { id: b.id.0, len: b.len, at })).collect()
    }
}

impl Engine {
    pub(crate) fn check(&self, read_data: bool, repair: bool, progress: &OnProgress) -> Result<Response, Failure> {
        let mut report = CheckReport::default();
        for open in self.boxes.lock().clone() {
            // An engine that has just begun knows nobody yet.
            self.block_on(ouro_sync::learn_devices(open.sync.repo(), &open.volume))?;
            let mut inventory = Inventory::default();
            self.check_records(&open, &mut inventory, &mut report)?;
            self.check_trees(&open, &mut inventory, &mut report)?;
            report.blobs += inventory.blobs.len() as u64;
            if read_data {
                self.read_back(&open, &mut inventory, &mut report, progress)?;
            } else {
                self.objects_exist(&open, &mut inventory)?;
            }
            self.judge(&open, inventory, repair, &mut report)?;
        }
        Ok(Response::Checked(report))
    }

    /// Every record beyond the newest checkpoint, and beyond the newest collection, can be read.
    fn check_records(
        &self,
        open: &OpenBox,
        inventory: &mut Inventory,
        report: &mut CheckReport,
    ) -> Result<(), Failure> {
        let collected =
            open.volume.collected().map(|collected| collected.checkpoint.covers.clone()).unwrap_or_default();
        let covers = open.volume.standing().map(|standing| standing.covers).unwrap_or_default();
        for (device, head) in open.volume.heads() {
            let gone = collected.get(&device).map_or(0, |head| head.seq.0);
            let from = covers.get(&device).map_or(1, |h| h.seq.0.min(head.seq.0)).max(gone + 1);
            let id = open.sync.repo().device_id(device)?;
            for seq in from..=head.seq.0 {
                report.records += 1;
                match self.block_on(open.sync.repo().read_record(id, Seq(seq))) {
                    Ok(Some((record, ..))) => note_record(inventory, &record.body),
                    Ok(None) => inventory.lost_records.push((device, Seq(seq))),
                    Err(error) if error.is_corrupt() => {
                        report.problems.push(format!("box {}: {error}", open.name));
                        inventory.lost_records.push((device, Seq(seq)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Every node of the newest checkpoint, and of every state that is kept, is there.
    fn check_trees(&self, open: &OpenBox, inventory: &mut Inventory, report: &mut CheckReport) -> Result<(), Failure> {
        let mut todo: Vec<NodeRef> = open.volume.checkpoint_root().into_iter().collect();
        if let Some(collected) = open.volume.collected() {
            todo.extend(collected.checkpoint.root);
            todo.extend(collected.kept.iter().filter_map(|kept| kept.root));
        }
        while let Some(node) = todo.pop() {
            if inventory.nodes.contains_key(&node.id) {
                continue;
            }
            report.nodes += 1;
            let Some(at) = node.at else {
                report.problems.push(format!("box {}: nobody knows where index node {} lies", open.name, node.id));
                continue;
            };
            let at = self.now_at(open, &node.id.0, at)?;
            inventory.nodes.insert(node.id, at);
            let bytes = match self.block_on(open.sync.repo().fetch_node(&Missing { node: node.id, at: Some(at) })) {
                Ok(opened) => opened.bytes,
                Err(error) if is_loss(&error) => {
                    inventory.bad.push(Bad { id: node.id.0, at, node: true, why: error.to_string() });
                    // What is below it is known here all the same, if the node is.
                    match open.volume.nodes().store().get(&node.id)? {
                        Some(kept) => Bytes::copy_from_slice(&kept),
                        None => continue,
                    }
                }
                Err(error) => return Err(error.into()),
            };
            match Node::decode(&bytes) {
                Ok(decoded) => {
                    todo.extend_from_slice(decoded.children());
                    let mut lists = Vec::new();
                    decoded.blobs(&mut |blob| inventory.blob(blob));
                    decoded.lists(&mut |list| lists.push(*list));
                    for list in lists {
                        self.note_list(open, inventory, &list)?;
                    }
                }
                Err(error) => report.problems.push(format!("box {}: index node {}: {error}", open.name, node.id)),
            }
        }
        let left = std::mem::take(&mut inventory.lists_left);
        left.iter().try_for_each(|list| self.note_list(open, inventory, list))
    }

    /// The chunks that a block list names are needed.
    fn note_list(&self, open: &OpenBox, inventory: &mut Inventory, list: &BlobRef) -> Result<(), Failure> {
        let Some(at) = list.at else { return Ok(()) };
        if !inventory.lists.insert((list.id, at.object, at.offset)) {
            return Ok(());
        }
        let bytes = match self.block_on(open.sync.repo().fetch_blob(list)) {
            Ok(bytes) => bytes,
            Err(error) if is_loss(&error) => {
                inventory.bad.push(Bad { id: list.id.0, at, node: false, why: error.to_string() });
                match open.volume.blobs().get(&list.id)? {
                    Some(kept) => Bytes::copy_from_slice(&kept),
                    None => return Ok(()),
                }
            }
            Err(error) => return Err(error.into()),
        };
        for chunk in decode_block_list(&bytes).unwrap_or_default() {
            inventory.listed_in.insert(chunk.id, list.id);
            inventory.blob(&chunk);
        }
        Ok(())
    }

    /// Where something lies now whose place may be of before a collection.
    fn now_at(&self, open: &OpenBox, id: &[u8; 32], at: Locator) -> Result<Locator, Failure> {
        let repo = open.sync.repo();
        let Some(collection) = repo.known_collection() else { return Ok(at) };
        let mut at = at;
        for _ in 0..HOPS_MAX {
            match self.block_on(repo.follow_in(&collection, id, at.object))? {
                Some(now) => at = now,
                None => break,
            }
        }
        Ok(at)
    }

    /// Every object that something lies in is listed, and long enough.
    fn objects_exist(&self, open: &OpenBox, inventory: &mut Inventory) -> Result<(), Failure> {
        let repo = open.sync.repo();
        let mut listed: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for prefix in ["packs/", "nodes/"] {
            let objects = self.block_on(repo.store().list(prefix))?;
            listed.extend(objects.iter().filter_map(|object| Some((pack_of(&object.name)?, object.bytes))));
        }
        let blobs: Vec<BlobRef> = inventory.blobs.values().copied().collect();
        inventory.blobs.clear();
        for blob in blobs {
            let Some(at) = blob.at else { continue };
            let at = self.now_at(open, &blob.id.0, at)?;
            inventory.blob(&BlobRef { at: Some(at), ..blob });
            let end = u64::from(at.offset) + u64::from(at.len);
            // Records were read.
            let there =
                matches!(at.object, ObjectId::Record(..)) || listed.get(&at.object).is_some_and(|len| *len >= end);
            if !there {
                let name = repo.object_name(at.object)?;
                let why = if listed.contains_key(&at.object) { "is shorter than it was" } else { "is not listed" };
                inventory.bad.push(Bad { id: blob.id.0, at, node: false, why: format!("{name} {why}") });
            }
        }
        Ok(())
    }

    fn read_back(
        &self,
        open: &OpenBox,
        inventory: &mut Inventory,
        report: &mut CheckReport,
        progress: &OnProgress,
    ) -> Result<(), Failure> {
        let mut sorted = Vec::with_capacity(inventory.blobs.len());
        for blob in inventory.blobs.values() {
            let at = blob.at.map(|at| self.now_at(open, &blob.id.0, at)).transpose()?;
            sorted.push(BlobRef { at, ..*blob });
        }
        inventory.blobs.clear();
        sorted.iter().for_each(|blob| inventory.blob(blob));
        sorted.sort_by_key(|blob| blob.at.map(|at| (at.object, at.offset)));
        let total = sorted.len() as u64;
        let mut done = 0;
        for part in sorted.chunks(BLOBS_AT_ONCE) {
            let mut seen = BTreeSet::new();
            let mut bytes = 0;
            let read = self.block_on(open.sync.repo().fetch_blobs(part, &mut |blob, plain| {
                seen.insert((blob.id, blob.at.map(|at| (at.object, at.offset))));
                bytes += plain.len() as u64;
            }));
            report.bytes += bytes;
            if let Err(error) = read {
                if !is_loss(&error) {
                    return Err(error.into());
                }
                // One by one, to name each that is lost.
                let key = |blob: &BlobRef| (blob.id, blob.at.map(|at| (at.object, at.offset)));
                for blob in part.iter().filter(|blob| !seen.contains(&key(blob))) {
                    if let (Err(error), Some(at)) = (self.block_on(open.sync.repo().fetch_blob(blob)), blob.at) {
                        inventory.bad.push(Bad { id: blob.id.0, at, node: false, why: error.to_string() });
                    }
                }
            }
            done += part.len() as u64;
            progress(Progress { what: "reading back".to_owned(), done, total: Some(total), unit: Unit::Files });
        }
        Ok(())
    }
}

fn note_record(inventory: &mut Inventory, body: &Body) {
    match body {
        Body::Delta(delta) => {
            for content in delta.files.iter().filter_map(|file| file.content.as_ref()?.value.as_ref()) {
                match content {
                    Content::Chunks(chunks) => chunks.iter().for_each(|chunk| inventory.blob(chunk)),
                    Content::BlockList { list, .. } => {
                        inventory.blob(list);
                        inventory.lists_left.push(*list);
                    }
                    Content::Inline(_) | Content::Pending { .. } => {}
                }
            }
        }
        Body::DeltaBlobs(blobs) => blobs.iter().for_each(|blob| inventory.blob(blob)),
        Body::Checkpoint(_) => {}
    }
}

/// Whether something is damaged or gone, rather than out of reach.
fn is_loss(error: &RepoError) -> bool {
    error.is_corrupt() || matches!(error, RepoError::Remote { source: RemoteError::Torn { .. } })
}
