//! Answers to what doors ask.

use crate::api::{
    BoxStats, BoxStatus, CommitCost, EntryInfo, Failure, FailureKind, PathState, PathStatus, PinWish, Progress,
    Refused, Requests, Response, Status, Unit,
};
use crate::boxes::OpenBox;
use crate::engine::{Engine, OnProgress};
use crate::paths::Found;
use futures::future::{Either, select};
use ouro_core::content::{BlobRef, Content};
use ouro_core::id::FileId;
use ouro_core::render::{self, Page, Seen, What};
use ouro_core::state::Kind;
use ouro_local::pins::Pin;
use ouro_local::volume::{Residency, VolumeError};
use ouro_sync::Cost;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DAY_SECONDS: u64 = 86_400;

/// Blobs fetched in one go.
const BLOBS_AT_ONCE: usize = 256;
/// Entries asked of a directory at a time.
const PAGE: usize = 1_000;

impl OpenBox {
    /// Files in the box, as far as its newest checkpoint and the changes since tell.
    pub(crate) fn files(&self) -> u64 {
        self.volume.rows_known()
    }

    fn status(&self, mounted_at: Option<PathBuf>) -> BoxStatus {
        let (sync, counts) = (self.sync.status(), self.volume.counts());
        let pending = (counts.pending + counts.sealed) as u64;
        let problem = sync.problem.clone();
        let waiting = match (pending, sync.pushing) {
            (0, _) => "up to date".to_owned(),
            (1, true) => "1 file on its way".to_owned(),
            (n, true) => format!("{n} files on their way"),
            (1, false) => "1 file waiting".to_owned(),
            (n, false) => format!("{n} files waiting"),
        };
        let summary = match (&problem, sync.online || sync.pulls > 0) {
            (Some(problem), _) if sync.needs_user => format!("{waiting}; stopped: {problem}"),
            (Some(problem), _) => format!("{waiting}; the remote is out of reach: {problem}"),
            (None, false) => format!("{waiting}; connecting"),
            (None, true) => waiting,
        };
        BoxStatus {
            name: self.name.clone(),
            remote: self.config.remote.clone(),
            mounted_at,
            summary,
            online: sync.online,
            pending_files: pending,
            index_complete: self.sync.index_complete(),
            files: self.files(),
            cached_bytes: self.volume.blobs().total_bytes(),
            problem,
            lost: sync.lost,
            incomplete: sync.incomplete,
            renewed: sync.renewed,
        }
    }

    fn stats(&self) -> BoxStats {
        let (usage, sync) = (self.sync.repo().store().usage(), self.sync.status());
        BoxStats {
            name: self.name.clone(),
            requests: Requests {
                get: usage.gets,
                put: usage.puts,
                list: usage.lists,
                delete: usage.deletes,
                head: usage.heads,
            },
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            index_bytes_out: usage.out_by_prefix.log + usage.out_by_prefix.nodes,
            last_commit: sync.last_commit.map(cost),
            last_checkpoint: sync.last_checkpoint.map(cost),
            commits: sync.commits,
            checkpoints: sync.checkpoints,
            digest: format!("{:032x}", self.volume.digest().0),
            requests_a_day: 0,
            remote: None,
        }
    }
}

/// What a kind of file is called in answers.
pub(crate) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char-device",
        Kind::BlockDevice => "block-device",
    }
}

fn cost(c: Cost) -> CommitCost {
    CommitCost { puts: c.puts, bytes: c.bytes, index_bytes: c.index_bytes, files: c.files, millis: c.millis }
}

impl From<Pin> for PinWish {
    fn from(pin: Pin) -> PinWish {
        match pin {
            Pin::Auto => PinWish::Auto,
            Pin::Keep => PinWish::Keep,
            Pin::Online => PinWish::Online,
        }
    }
}

impl From<PinWish> for Pin {
    fn from(pin: PinWish) -> Pin {
        match pin {
            PinWish::Auto => Pin::Auto,
            PinWish::Keep => Pin::Keep,
            PinWish::Online => Pin::Online,
        }
    }
}

impl Engine {
    pub(crate) fn status(&self, paths: &[PathBuf]) -> Result<Response, Failure> {
        let boxes = self.boxes.lock().clone();
        let mounted =
            |name: &String| self.attached.lock().iter().find(|a| a.boxes.contains(name)).map(|a| a.mountpoint.clone());
        let mut status = Status::default();
        if paths.is_empty() {
            status.boxes = boxes.iter().map(|b| b.status(mounted(&b.name))).collect();
        }
        for path in paths {
            let found = self.find(path)?;
            let (state, pin) = self.state_of(&found)?;
            status.paths.push(PathStatus { path: path.clone(), state, pin });
        }
        Ok(Response::Status(status))
    }

    fn state_of(&self, found: &Found) -> Result<(PathState, PinWish), Failure> {
        let pin = found.open.volume.pins().resolve(found.chain());
        let state = match found.seen.last() {
            Some(seen) if seen.kind() == Kind::File => self.state_of_file(&found.open, seen, pin)?,
            _ => self.state_of_directory(found, pin)?,
        };
        Ok((state, pin.into()))
    }

    fn state_of_file(&self, open: &OpenBox, seen: &Seen, pin: Pin) -> Result<PathState, Failure> {
        if matches!(&seen.what, What::File { copies, .. } if *copies > 0) || matches!(&seen.what, What::Copy { .. }) {
            return Ok(PathState::Conflict);
        }
        let Some(content) = seen.content() else { return Ok(PathState::Synced) };
        if matches!(content, Content::Pending { .. }) || open.volume.is_pending(seen.id) {
            let uploading = open.sync.status().pushing && open.volume.is_sealed(seen.id);
            return Ok(if uploading { PathState::Uploading } else { PathState::Pending });
        }
        Ok(match open.volume.residency(content) {
            Ok(Residency::Local) if pin == Pin::Keep => PathState::Kept,
            Ok(Residency::Local) => PathState::Synced,
            Ok(_) | Err(VolumeError::Need(_)) => PathState::Online,
            Err(error) => return Err(error.into()),
        })
    }

    /// A directory is as urgent as the most urgent thing that waits in the box below it.
    fn state_of_directory(&self, found: &Found, pin: Pin) -> Result<PathState, Failure> {
        let members = found.members();
        let waiting = self.ask(&found.open, |volume| volume.has_pending_below(&members))?;
        Ok(match (waiting, pin) {
            (true, _) => PathState::Pending,
            (false, Pin::Keep) => PathState::Kept,
            (false, Pin::Online) => PathState::Online,
            (false, Pin::Auto) => PathState::Synced,
        })
    }

    pub(crate) fn list(&self, path: &Path) -> Result<Response, Failure> {
        let found = self.find(path)?;
        let mut entries = Vec::new();
        if let Some(seen) = found.seen.last()
            && seen.kind() != Kind::Directory
        {
            entries.push(self.entry(&found, seen)?);
            return Ok(Response::Entries { entries });
        }
        self.each_entry(&found.open, &found.members(), &mut |seen| {
            entries.push(self.entry(&found, seen)?);
            Ok(())
        })?;
        Ok(Response::Entries { entries })
    }

    fn entry(&self, found: &Found, seen: &Seen) -> Result<EntryInfo, Failure> {
        let chain = std::iter::once(seen.id).chain(found.chain());
        let pin = found.open.volume.pins().resolve(chain);
        let state = match seen.kind() {
            Kind::File => self.state_of_file(&found.open, seen, pin)?,
            _ => PathState::Synced,
        };
        let attributes = seen.attributes();
        Ok(EntryInfo {
            name: seen.name.display(),
            kind: kind_word(seen.kind()).to_owned(),
            size: seen.content().map_or(0, Content::size),
            mtime: attributes.mtime_ns.div_euclid(1_000_000_000),
            state,
            pin: pin.into(),
        })
    }

    /// Visits every entry of a directory.
    pub(crate) fn each_entry(
        &self,
        open: &OpenBox,
        members: &[FileId],
        visit: &mut dyn FnMut(&Seen) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page: Page = self.ask(open, |volume| {
                let view = volume.view();
                Ok(render::list(&view, &view, members, after.as_ref(), PAGE)?)
            })?;
            for seen in &page.entries {
                visit(seen)?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Visits a file, or every file below a directory.
    fn each_file(&self, found: &Found, visit: &mut dyn FnMut(&Seen) -> Result<(), Failure>) -> Result<(), Failure> {
        if let Some(seen) = found.seen.last()
            && seen.kind() != Kind::Directory
        {
            return visit(seen);
        }
        self.each_below(&found.open, found.members(), visit)
    }

    /// Visits every file below a directory, shown as the union of `members`.
    pub(crate) fn each_below(
        &self,
        open: &OpenBox,
        members: Vec<FileId>,
        visit: &mut dyn FnMut(&Seen) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut todo = vec![members];
        while let Some(members) = todo.pop() {
            self.each_entry(open, &members, &mut |seen| match seen.kind() {
                Kind::Directory => {
                    todo.push(seen.members().to_vec());
                    Ok(())
                }
                _ => visit(seen),
            })?;
        }
        Ok(())
    }

    pub(crate) fn wait(
        &self,
        path: Option<&Path>,
        timeout_seconds: Option<u64>,
        progress: &OnProgress,
    ) -> Result<Response, Failure> {
        let boxes = match path {
            Some(path) => vec![self.find(path)?.open],
            None => self.boxes.lock().clone(),
        };
        for open in boxes {
            self.wait_for(&open, timeout_seconds, progress)?;
        }
        Ok(Response::Done)
    }

    /// Returns when everything changed in a box until now is durable on its remote.
    pub(crate) fn wait_for(
        &self,
        open: &OpenBox,
        timeout_seconds: Option<u64>,
        progress: &OnProgress,
    ) -> Result<(), Failure> {
        let sync = Arc::clone(&open.sync);
        let runtime = self.runtime();
        let (volume, told) = (Arc::clone(&open.volume), Arc::clone(progress));
        let outcome = self.block_on(async move {
            let reporting = async {
                loop {
                    let counts = volume.counts();
                    let left = (counts.pending + counts.sealed) as u64;
                    told(Progress {
                        what: "waiting for the remote".to_owned(),
                        done: left,
                        total: None,
                        unit: Unit::Files,
                    });
                    runtime.sleep(500).await;
                }
            };
            let limit = async {
                match timeout_seconds {
                    Some(seconds) => runtime.sleep(seconds.saturating_mul(1_000)).await,
                    None => std::future::pending().await,
                }
            };
            let synced = sync.synced();
            futures::pin_mut!(reporting, limit, synced);
            let others = select(reporting, limit);
            match select(synced, others).await {
                Either::Left((outcome, _)) => Some(outcome),
                Either::Right(_) => None,
            }
        });
        match outcome {
            Some(outcome) => outcome?,
            None => {
                let why = open.sync.status().problem.map_or_else(String::new, |p| format!(": {p}"));
                let left = open.volume.counts();
                return Err(Failure::new(
                    FailureKind::Offline,
                    format!("{} files of box {:?} are still waiting{why}", left.pending + left.sealed, open.name),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn pin(&self, paths: &[PathBuf], wish: PinWish, progress: &OnProgress) -> Result<Response, Failure> {
        for path in paths {
            let found = self.find(path)?;
            let file = found.chain()[0];
            found.open.volume.set_pin(file, wish.into());
            if wish == PinWish::Keep {
                self.hydrate(&found, path, progress)?;
            }
        }
        self.keeping.notify_one();
        Ok(Response::Done)
    }

    /// Brings every byte below a path here, many files in one go.
    fn hydrate(&self, found: &Found, path: &Path, progress: &OnProgress) -> Result<(), Failure> {
        let (mut done, mut waiting) = (0, Vec::new());
        let what = format!("fetching {}", path.display());
        let mut fetch = |waiting: &mut Vec<BlobRef>, least: usize| -> Result<(), Failure> {
            while waiting.len() > least {
                let part: Vec<BlobRef> = waiting.drain(..waiting.len().min(BLOBS_AT_ONCE)).collect();
                done += part.iter().map(|c| u64::from(c.len)).sum::<u64>();
                self.block_on(found.open.sync.fetch_blobs(part))?;
                progress(Progress { what: what.clone(), done, total: None, unit: Unit::Bytes });
            }
            Ok(())
        };
        self.each_file(found, &mut |seen| {
            if let Some(content) = seen.content() {
                waiting.extend_from_slice(&self.ask(&found.open, |volume| volume.chunks(content))?);
            }
            fetch(&mut waiting, BLOBS_AT_ONCE)
        })?;
        fetch(&mut waiting, 0)
    }

    pub(crate) fn free(&self, paths: &[PathBuf]) -> Result<Response, Failure> {
        let (mut bytes, mut refused) = (0, Vec::new());
        for path in paths {
            let found = self.find(path)?;
            let volume = Arc::clone(&found.open.volume);
            let before = volume.blobs().total_bytes();
            self.each_file(&found, &mut |seen| {
                let Some(content) = seen.content() else { return Ok(()) };
                if matches!(content, Content::Pending { .. }) || volume.is_pending(seen.id) {
                    let name = seen.name.display();
                    let why = format!("{name} is not on the remote yet: `ourobox wait` tells when it is");
                    refused.push(Refused { path: path.clone(), why });
                    return Ok(());
                }
                match volume.chunks(content) {
                    Ok(chunks) => chunks.iter().try_for_each(|chunk| Ok(volume.blobs().remove(&chunk.id)?)),
                    // Its list is not here, so none of its bytes are needed here.
                    Err(VolumeError::Need(_)) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            })?;
            bytes += before.saturating_sub(volume.blobs().total_bytes());
        }
        Ok(Response::Freed { bytes, refused })
    }

    pub(crate) fn stats(&self, remote: bool) -> Result<Response, Failure> {
        let seconds = (self.ports.clock.monotonic_ns().saturating_sub(self.started_ns) / 1_000_000_000).max(1);
        let mut boxes = Vec::new();
        for open in self.boxes.lock().clone() {
            let mut stats = open.stats();
            let requests = open.sync.repo().store().usage().requests();
            stats.requests_a_day = requests.saturating_mul(DAY_SECONDS) / seconds;
            stats.remote = if remote { Some(self.remote_stats(&open)?) } else { None };
            boxes.push(stats);
        }
        Ok(Response::Stats { boxes })
    }
}
