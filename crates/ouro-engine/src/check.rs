//! `check`: whether what the index names is on the remote, and with `read_data` whether every byte is what it should be.

use crate::api::{CheckReport, Failure, Progress, Response, Unit};
use crate::boxes::OpenBox;
use crate::engine::{Engine, OnProgress};
use ouro_core::content::{BlobRef, ObjectId};
use ouro_core::id::Seq;
use ouro_core::tree::{Node, NodeRef};
use ouro_repo::RepoError;
use std::collections::{BTreeMap, BTreeSet};

/// Blobs read back in one go.
const BLOBS_AT_ONCE: usize = 256;

impl Engine {
    pub(crate) fn check(&self, read_data: bool, progress: &OnProgress) -> Result<Response, Failure> {
        let mut report = CheckReport::default();
        for open in self.boxes.lock().clone() {
            self.check_records(&open, &mut report)?;
            self.check_tree(&open, read_data, &mut report, progress)?;
        }
        Ok(Response::Checked(report))
    }

    /// Every record from the newest checkpoint on can be read.
    fn check_records(&self, open: &OpenBox, report: &mut CheckReport) -> Result<(), Failure> {
        let covers = open.volume.checkpoint_input().covers;
        for (device, head) in open.volume.heads() {
            let from = covers.get(&device).map_or(1, |h| h.seq.0.min(head.seq.0));
            for seq in from..=head.seq.0 {
                let id = open.sync.repo().device_id(device)?;
                report.records += 1;
                match self.block_on(open.sync.repo().read_record(id, Seq(seq))) {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        report.problems.push(format!("box {}: record {seq} of device {} is gone", open.name, device.0))
                    }
                    Err(error) if error.is_corrupt() => report.problems.push(format!("box {}: {error}", open.name)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Every node of the newest checkpoint is there, and so is every blob that it names.
    fn check_tree(
        &self,
        open: &OpenBox,
        read_data: bool,
        report: &mut CheckReport,
        progress: &OnProgress,
    ) -> Result<(), Failure> {
        let mut todo: Vec<NodeRef> = open.volume.checkpoint_root().into_iter().collect();
        let mut blobs: BTreeMap<ouro_core::id::BlobId, BlobRef> = BTreeMap::new();
        while let Some(at) = todo.pop() {
            let missing = ouro_core::row::Missing { node: at.id, at: at.at };
            report.nodes += 1;
            let bytes = match self.block_on(open.sync.repo().fetch_node(&missing)) {
                Ok(bytes) => bytes,
                Err(error) if is_loss(&error) => {
                    report.problems.push(format!("box {}: index node {}: {error}", open.name, at.id));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match Node::decode(&bytes) {
                Ok(node) => {
                    todo.extend_from_slice(node.children());
                    node.blobs(&mut |blob| {
                        blobs.insert(blob.id, *blob);
                    });
                }
                Err(error) => report.problems.push(format!("box {}: index node {}: {error}", open.name, at.id)),
            }
        }
        report.blobs += blobs.len() as u64;
        if read_data { self.read_back(open, blobs, report, progress) } else { self.objects_exist(open, &blobs, report) }
    }

    /// Every object that blobs lie in is listed, and long enough.
    fn objects_exist(
        &self,
        open: &OpenBox,
        blobs: &BTreeMap<ouro_core::id::BlobId, BlobRef>,
        report: &mut CheckReport,
    ) -> Result<(), Failure> {
        let mut needed: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for at in blobs.values().filter_map(|blob| blob.at) {
            let end = u64::from(at.offset) + u64::from(at.len);
            let longest = needed.entry(at.object).or_default();
            *longest = end.max(*longest);
        }
        let mut listed: BTreeMap<String, u64> = BTreeMap::new();
        for prefix in ["packs/", "log/"] {
            let objects = self.block_on(open.sync.repo().store().list(prefix))?;
            listed.extend(objects.into_iter().map(|object| (object.name, object.bytes)));
        }
        for (object, bytes) in needed {
            let name = open.sync.repo().object_name(object)?;
            match listed.get(&name) {
                Some(found) if *found >= bytes => {}
                Some(_) => report.problems.push(format!("box {}: {name} is shorter than the index says", open.name)),
                None => report.problems.push(format!("box {}: {name} is not listed", open.name)),
            }
        }
        Ok(())
    }

    fn read_back(
        &self,
        open: &OpenBox,
        blobs: BTreeMap<ouro_core::id::BlobId, BlobRef>,
        report: &mut CheckReport,
        progress: &OnProgress,
    ) -> Result<(), Failure> {
        let total = blobs.len() as u64;
        let mut sorted: Vec<BlobRef> = blobs.into_values().collect();
        sorted.sort_by_key(|blob| blob.at.map(|at| (at.object, at.offset)));
        let mut done = 0;
        for part in sorted.chunks(BLOBS_AT_ONCE) {
            let mut seen = BTreeSet::new();
            let mut bytes = 0;
            let read = self.block_on(open.sync.repo().fetch_blobs(part, &mut |blob, plain| {
                seen.insert(blob.id);
                bytes += plain.len() as u64;
            }));
            report.bytes += bytes;
            if let Err(error) = read {
                if !is_loss(&error) {
                    return Err(error.into());
                }
                // One by one, to name each that is lost.
                for blob in part.iter().filter(|blob| !seen.contains(&blob.id)) {
                    if let Err(error) = self.block_on(open.sync.repo().fetch_blob(blob)) {
                        report.problems.push(format!("box {}: {error}", open.name));
                    }
                }
            }
            done += part.len() as u64;
            progress(Progress { what: "reading back".to_owned(), done, total: Some(total), unit: Unit::Files });
        }
        Ok(())
    }
}

fn is_loss(error: &RepoError) -> bool {
    error.is_corrupt() || matches!(error, RepoError::BlobGone { .. })
}
