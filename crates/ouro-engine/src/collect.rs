//! `gc`: retention and collection of boxes; and what `stats --remote` says of the same.

use crate::api::{CollectRequest, CollectedLine, Failure, RemoteStats, Response};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use ouro_core::retention::Retention;
use ouro_sync::{CollectOptions, GRACE_MS, Report, Stage};
use std::sync::Arc;

const SECOND_MS: u64 = 1_000;

impl Engine {
    pub(crate) fn collect(&self, request: &CollectRequest) -> Result<Response, Failure> {
        let boxes = match &request.name {
            Some(name) => vec![self.find_box(name)?],
            None => self.boxes.lock().clone(),
        };
        if boxes.is_empty() {
            self.choose(&[])?;
        }
        let mut retention = Retention::default();
        if let Some(seconds) = request.keep_all_seconds {
            retention.all_ms = seconds.saturating_mul(SECOND_MS);
        }
        let grace_ms = request.grace_seconds.map_or(GRACE_MS, |seconds| seconds.saturating_mul(SECOND_MS));
        let options = CollectOptions { retention, grace_ms, dry_run: request.dry_run };
        let mut lines = Vec::new();
        for open in boxes {
            let report = self.collect_box(&open, options)?;
            lines.push(line(&open, &report));
        }
        Ok(Response::Collected { boxes: lines })
    }

    fn collect_box(&self, open: &Arc<OpenBox>, options: CollectOptions) -> Result<Report, Failure> {
        let sync = Arc::clone(&open.sync);
        self.block_on(async move { sync.collect(&options).await }).map_err(Failure::from)
    }

    /// What the remote holds of a box, by a list and a walk through what is live.
    pub(crate) fn remote_stats(&self, open: &Arc<OpenBox>) -> Result<RemoteStats, Failure> {
        let report = self.collect_box(open, CollectOptions { dry_run: true, ..CollectOptions::default() })?;
        Ok(RemoteStats {
            logical_bytes: report.logical_bytes,
            stored_bytes: report.stored_bytes,
            live_bytes: report.live_bytes,
            reclaimable_bytes: report.reclaimed_bytes,
            objects: report.objects,
        })
    }
}

fn line(open: &OpenBox, report: &Report) -> CollectedLine {
    let names = open.volume.device_names();
    let name = |no: &ouro_core::id::DeviceNo| names.get(no).cloned().unwrap_or_else(|| format!("device {}", no.0));
    let (waiting_for, grace_ms) = match &report.stage {
        Stage::Waiting(devices) => (devices.iter().map(name).collect(), 0),
        Stage::Grace(left) => (Vec::new(), *left),
        _ => (Vec::new(), 0),
    };
    CollectedLine {
        box_name: open.name.clone(),
        ended: report.stage == Stage::Ended,
        nothing: report.stage == Stage::Nothing,
        waiting_for,
        grace_seconds: grace_ms.div_ceil(SECOND_MS),
        objects: report.objects,
        stored_bytes: report.stored_bytes,
        live_bytes: report.live_bytes,
        logical_bytes: report.logical_bytes,
        reclaimed_bytes: report.reclaimed_bytes,
        gone: report.gone,
        kept: report.kept,
        thinned: report.thinned,
        purged: report.purged,
    }
}
