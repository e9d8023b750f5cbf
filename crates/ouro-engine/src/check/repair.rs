//! What `check` found wrong: which files it is of, and putting back what this device has.

use super::Inventory;
use crate::api::{CheckReport, Failure};
use crate::boxes::OpenBox;
use crate::diff::written;
use crate::engine::Engine;
use bytes::Bytes;
use ouro_core::content::{Content, Locator, ObjectId};
use ouro_core::id::{BlobId, FileId, NodeId};
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::row::{Key, Row, Rows};
use ouro_core::state::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Files that are named for one object; the others are counted.
const FILES_NAMED_MAX: usize = 5;

/// Something that is not where it should be, or not what it should be.
pub(super) struct Bad {
    pub(super) id: [u8; 32],
    pub(super) at: Locator,
    /// An index node; else a blob.
    pub(super) node: bool,
    pub(super) why: String,
}

impl Engine {
    /// Tells what is wrong, and mends what can be.
    pub(super) fn judge(
        &self,
        open: &Arc<OpenBox>,
        inventory: Inventory,
        repair: bool,
        report: &mut CheckReport,
    ) -> Result<(), Failure> {
        let files = self.files_of(open, &inventory)?;
        let mut by_object: BTreeMap<ObjectId, Vec<&Bad>> = BTreeMap::new();
        for bad in &inventory.bad {
            by_object.entry(bad.at.object).or_default().push(bad);
        }
        for (object, bad) in by_object {
            let back = if repair { self.put_back(open, &inventory, object)? } else { BTreeSet::new() };
            let (mended, left): (Vec<&Bad>, Vec<&Bad>) = bad.into_iter().partition(|bad| back.contains(&bad.id));
            let name = open.sync.repo().object_name(object)?;
            if !mended.is_empty() {
                report.repaired.push(format!("box {}: {name}: {} parts are there again", open.name, mended.len()));
            }
            if let Some(first) = left.first() {
                let what = if first.node { "of the index".to_owned() } else { named(&left, &files) };
                let hint = if repair { "; run it on a device that has them" } else { "" };
                report.problems.push(format!("box {}: {}: {what}{hint}", open.name, first.why));
            }
        }
        self.mend_records(open, &inventory, repair, report)
    }

    /// Everybody who has the commit of a record goes on without it; a new checkpoint lets the others do so too.
    fn mend_records(
        &self,
        open: &Arc<OpenBox>,
        inventory: &Inventory,
        repair: bool,
        report: &mut CheckReport,
    ) -> Result<(), Failure> {
        if inventory.lost_records.is_empty() {
            return Ok(());
        }
        let lost: Vec<String> =
            inventory.lost_records.iter().map(|(device, seq)| format!("{}.{}", device.0, seq.0)).collect();
        let lost = format!("box {}: records of the commits {} are gone or damaged", open.name, lost.join(", "));
        if repair {
            self.block_on(open.sync.checkpoint())?;
            report.repaired.push(format!("{lost}; a checkpoint was written, by which devices go on without them"));
        } else {
            report.problems.push(lost);
        }
        Ok(())
    }

    /// Writes an object anew from what is there and what this device has; returns the ids that are back.
    fn put_back(&self, open: &OpenBox, inventory: &Inventory, object: ObjectId) -> Result<BTreeSet<[u8; 32]>, Failure> {
        if matches!(object, ObjectId::Record(..)) {
            return Ok(BTreeSet::new());
        }
        let nodes = matches!(object, ObjectId::Nodes(_));
        let volume = Arc::clone(&open.volume);
        let plain = move |id: &[u8; 32]| {
            let kept = if nodes {
                volume.nodes().store().get(&NodeId(*id)).ok().flatten()
            } else {
                volume.blobs().get(&BlobId(*id)).ok().flatten()
            };
            kept.map(|bytes| Bytes::copy_from_slice(&bytes))
        };
        let rebuilt = self.block_on(open.sync.repo().rebuild_pack(object, &inventory.parts_of(object), &plain))?;
        Ok(rebuilt.back.into_iter().collect())
    }

    /// The paths of files that need what is bad, by blob.
    fn files_of(&self, open: &Arc<OpenBox>, inventory: &Inventory) -> Result<BTreeMap<[u8; 32], Vec<String>>, Failure> {
        let mut wanted: BTreeMap<BlobId, Vec<[u8; 32]>> = BTreeMap::new();
        for bad in inventory.bad.iter().filter(|bad| !bad.node) {
            wanted.entry(BlobId(bad.id)).or_default().push(bad.id);
            if let Some(list) = inventory.listed_in.get(&BlobId(bad.id)) {
                wanted.entry(*list).or_default().push(bad.id);
            }
        }
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let now = open.volume.still();
        self.ask(open, |_| {
            let mut found: Vec<([u8; 32], Place)> = Vec::new();
            let first = Key { directory: FileId(0), name: Name::empty(), file: FileId(0), slot: 0 };
            now.scan(&first, &mut |_, row| {
                let Row::Record(file) = row else { return ControlFlow::Continue(()) };
                let places = || file.placements.iter().filter(|place| !place.removed).map(|place| place.place.clone());
                let mut note = |blob: &BlobId| {
                    for id in wanted.get(blob).into_iter().flatten() {
                        found.extend(places().map(|place| (*id, place)));
                    }
                };
                for content in file.contents.iter().filter_map(|content| content.value.as_ref()) {
                    match content {
                        Content::Chunks(chunks) => chunks.iter().for_each(|chunk| note(&chunk.id)),
                        Content::BlockList { list, .. } => note(&list.id),
                        Content::Inline(_) | Content::Pending { .. } => {}
                    }
                }
                ControlFlow::Continue(())
            })?;
            let mut files: BTreeMap<[u8; 32], Vec<String>> = BTreeMap::new();
            for (id, place) in found {
                files.entry(id).or_default().push(written(&render::path(&*now, &place)?));
            }
            Ok(files)
        })
    }
}

fn named(left: &[&Bad], files: &BTreeMap<[u8; 32], Vec<String>>) -> String {
    let paths: BTreeSet<&String> = left.iter().filter_map(|bad| files.get(&bad.id)).flatten().collect();
    let first: Vec<&str> = paths.iter().take(FILES_NAMED_MAX).map(|path| path.as_str()).collect();
    match (paths.len(), paths.len().saturating_sub(FILES_NAMED_MAX)) {
        (0, _) => "of files in states of the past".to_owned(),
        (_, 0) => format!("of {}", first.join(", ")),
        (_, more) => format!("of {} and {more} more", first.join(", ")),
    }
}
