//! What the user wants kept: fetched when it is not here, and never evicted.

use crate::api::Failure;
use crate::boxes::OpenBox;
use crate::engine::Engine;
use futures::FutureExt;
use futures::future::select;
use ouro_core::content::BlobRef;
use ouro_core::id::{BlobId, FileId};
use ouro_core::row::Rows;
use ouro_core::state::Kind;
use ouro_local::pins::Pin;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;

/// Between two looks at what is to be kept, if nothing calls for one.
const LOOK_MS: u64 = 60_000;
/// Blobs fetched in one go.
const BLOBS_AT_ONCE: usize = 64;

/// The blobs that must stay in a cache, by the box that wants them: the lines of a repository share one cache.
#[derive(Default)]
pub(crate) struct Kept(RwLock<BTreeMap<String, BTreeSet<BlobId>>>);

impl Kept {
    pub(crate) fn holds(&self, blob: &BlobId) -> bool {
        self.0.read().values().any(|blobs| blobs.contains(blob))
    }
}

impl Engine {
    /// Looks after what is to be kept, now and then and whenever `wake` is rung, until the engine is dropped.
    pub(crate) fn keep(self: &Arc<Self>, wake: Arc<Notify>) {
        let (weak, runtime) = (Arc::downgrade(self), self.runtime());
        let pause = Arc::clone(&runtime);
        runtime.spawn(
            async move {
                loop {
                    let rung = wake.notified();
                    futures::pin_mut!(rung);
                    select(rung, pause.sleep(LOOK_MS)).await;
                    let Some(engine) = weak.upgrade() else { return };
                    pause.blocking(Box::new(move || engine.keep_all())).await;
                }
            }
            .boxed(),
        );
    }

    fn keep_all(&self) {
        for open in self.boxes.lock().clone() {
            if let Err(failure) = self.keep_box(&open) {
                tracing::warn!(failure = %failure.message, "not everything that is to be kept is here");
            }
        }
    }

    /// Fetches what is pinned in a box and is not here, and tells the cache what must stay.
    fn keep_box(&self, open: &OpenBox) -> Result<(), Failure> {
        let pins = open.volume.pins().all();
        let wanted: Vec<FileId> = pins.iter().filter(|(_, pin)| *pin == Pin::Keep).map(|(file, _)| *file).collect();
        let mut blobs: BTreeSet<BlobId> = BTreeSet::new();
        let mut absent: Vec<BlobRef> = Vec::new();
        for file in wanted {
            self.each_file_of(open, file, &mut |seen| {
                let Some(content) = seen.content() else { return Ok(()) };
                for chunk in self.ask(open, |volume| volume.chunks(content))?.iter() {
                    if blobs.insert(chunk.id) && !open.volume.blobs().contains(&chunk.id)? {
                        absent.push(*chunk);
                    }
                }
                Ok(())
            })?;
        }
        // What only this device refers to, under ignored names or since it has not said so yet, may be nowhere else one day.
        let local = self.ask(open, |volume| volume.local_references(&BTreeSet::new()));
        blobs.extend(local.iter().flatten().map(|blob| blob.id));
        if local.is_err() {
            // Not all of it can be told now, so what is known, and what was, stays.
            let staying = self.ask(open, |volume| volume.staying_references());
            blobs.extend(staying.iter().flatten().map(|blob| blob.id));
            blobs.extend(open.kept.0.read().get(&open.name).into_iter().flatten());
        }
        open.kept.0.write().insert(open.name.clone(), blobs);
        for part in absent.chunks(BLOBS_AT_ONCE) {
            self.block_on(open.sync.fetch_blobs(part.to_vec()))?;
        }
        local.map(drop)
    }

    /// Visits a file by its id, or every file below a directory.
    fn each_file_of(
        &self,
        open: &OpenBox,
        file: FileId,
        visit: &mut dyn FnMut(&ouro_core::render::Seen) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if file == FileId::ROOT {
            return self.each_below(open, vec![FileId::ROOT], visit);
        }
        let Some((key, record)) = self.ask(open, |volume| Ok(volume.view().find(file)?))? else { return Ok(()) };
        if record.kind == Kind::Directory {
            return self.each_below(open, vec![file], visit);
        }
        let seen = self.ask(open, |volume| {
            let view = volume.view();
            Ok(ouro_core::render::lookup(&view, &view, &[key.directory], &key.name)?)
        })?;
        seen.filter(|seen| seen.id == file).as_ref().map_or(Ok(()), visit)
    }
}
