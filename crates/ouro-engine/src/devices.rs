//! The devices of a box: who they are, when they were there last, and removing one.

use crate::api::{DeviceLine, Failure, FailureKind, Response};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use futures::future::{Either, select};
use ouro_core::id::{DeviceId, Hlc};
use ouro_core::time::rfc3339;
use ouro_repo::{DeviceInfo, Hint, Removal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a list of devices waits for the remote before it shows what is known here.
const LOOK_MS: u64 = 5_000;
/// Fewest digits of an id by which a device can be named.
const ID_DIGITS_MIN: usize = 4;

impl Engine {
    pub(crate) fn devices(&self) -> Result<Response, Failure> {
        let mut devices = Vec::new();
        for open in self.boxes.lock().clone() {
            let hints = self.look_at_devices(&open);
            let shown = lines(&open, &hints).into_iter();
            // Who writes another line only is told by `branch`.
            devices.extend(shown.filter(|(own, _)| *own).map(|(_, line)| line));
        }
        Ok(Response::Devices { devices })
    }

    /// Removes a device from a box: by its name, its number, or the beginning of its id.
    pub(crate) fn remove_device(&self, device: &str, name: Option<&str>, this: bool) -> Result<Response, Failure> {
        let open = self.choose(&name.map(str::to_owned).into_iter().collect::<Vec<_>>())?.remove(0);
        let sync = Arc::clone(&open.sync);
        self.block_on(async move {
            ouro_sync::learn_devices(sync.repo(), sync.volume()).await?;
            // What it did until now counts: all of it that is there.
            sync.pull().await
        })?;
        let chosen = choose(&open, device)?;
        if chosen.id == open.sync.device() && !this {
            return Err(Failure::needs_user(format!(
                "{:?} is this device: if you mean it, say so with --this-device; what is not published yet then goes on under another identity",
                chosen.name
            )));
        }
        let sync = Arc::clone(&open.sync);
        self.block_on(async move { sync.remove(chosen.id).await })?;
        let lines = lines(&open, &BTreeMap::new()).into_iter().map(|(_, line)| line);
        Ok(Response::Devices { devices: lines.filter(|line| line.id == chosen.id.to_string()).collect() })
    }

    /// Asks the remote who is there and when they wrote their hints; what is known here stays if it does not answer soon.
    fn look_at_devices(&self, open: &OpenBox) -> BTreeMap<DeviceId, Hint> {
        let (sync, runtime) = (Arc::clone(&open.sync), self.runtime());
        let look = Box::pin(async move {
            ouro_sync::learn_devices(sync.repo(), sync.volume()).await?;
            Ok::<_, ouro_sync::SyncError>(sync.repo().hints().await?)
        });
        let looked = self.block_on(async move {
            match select(look, runtime.sleep(LOOK_MS)).await {
                Either::Left((hints, _)) => hints.unwrap_or_else(|error| {
                    tracing::info!(%error, "the devices are shown as they are known here");
                    Vec::new()
                }),
                Either::Right(_) => Vec::new(),
            }
        });
        looked.into_iter().map(|hint| (hint.device, hint)).collect()
    }
}

/// The device that is meant.
fn choose(open: &OpenBox, device: &str) -> Result<DeviceInfo, Failure> {
    let repo = open.sync.repo();
    let retired = repo.retired();
    let alive: Vec<DeviceInfo> = repo.known().into_iter().filter(|info| !retired.contains_key(&info.id)).collect();
    let is_meant = |info: &&DeviceInfo| {
        let id = info.id.to_string();
        let by_id = device.len() >= ID_DIGITS_MIN && id.starts_with(&device.to_ascii_lowercase());
        by_id || info.name == device || info.shown() == device || info.number.0.to_string() == device
    };
    let meant: Vec<&DeviceInfo> = alive.iter().filter(is_meant).collect();
    match meant.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::needs_user(format!(
            "there is no device {device:?} in box {:?}: `ourobox devices` shows them with their ids",
            open.name
        ))),
        _ => Err(Failure::new(
            FailureKind::NeedsUser,
            format!(
                "{device:?} may be one of {} devices: give more of its id, as `ourobox devices` shows it",
                meant.len()
            ),
        )),
    }
}

/// What is known of each device, and whether it has to do with the box's own line.
fn lines(open: &OpenBox, hints: &BTreeMap<DeviceId, Hint>) -> Vec<(bool, DeviceLine)> {
    let (repo, heads, names) = (open.sync.repo(), open.volume.heads(), open.volume.device_names());
    let removals = repo.removals();
    let mut devices: BTreeMap<DeviceId, Option<DeviceInfo>> =
        repo.known_devices().into_iter().map(|(_, id)| (id, None)).collect();
    devices.extend(repo.known().into_iter().map(|info| (info.id, Some(info))));
    let numbers: BTreeMap<_, _> = repo.known_devices().into_iter().map(|(no, id)| (id, no)).collect();
    let mut lines = Vec::new();
    for (id, info) in devices {
        // One that drew again writes nothing, and its number may be another's.
        let head = numbers.get(&id).and_then(|number| heads.get(number));
        let Some(number) = info.as_ref().map(|info| info.number).or_else(|| numbers.get(&id).copied()) else {
            continue;
        };
        let knew = head.and_then(|head| open.volume.cut_of(number, head.seq).ok());
        let behind = knew.map(|cut| {
            let missed = heads.iter().map(|(no, head)| head.seq.0 - cut.get(no).map_or(0, |k| k.seq.0.min(head.seq.0)));
            missed.sum()
        });
        let this = id == open.sync.device();
        let committed = head.filter(|head| head.hlc > Hlc(0)).map(|head| head.hlc.millis());
        let joined = info.as_ref().map(|info| info.created_ms);
        let seen = [committed, joined, hints.get(&id).map(|hint| hint.written_ms)].into_iter().flatten().max();
        let own = head.is_some() || repo.line(number) == open.sync.line();
        let name = info.map(|info| info.shown()).or_else(|| names.get(&number).cloned());
        let line = DeviceLine {
            box_name: open.name.clone(),
            name: name.unwrap_or_else(|| format!("device {}", number.0)),
            id: id.to_string(),
            number: number.0,
            this,
            joined: joined.map(rfc3339),
            commits: head.map_or(0, |head| head.seq.0),
            last_commit: committed.map(rfc3339),
            last_seen: seen.map(rfc3339),
            removed: removal_of(&removals, id),
            behind: behind.filter(|_| !this),
        };
        lines.push((own, line));
    }
    lines.sort_by(|(_, a), (_, b)| (a.removed.is_some(), &a.name, &a.id).cmp(&(b.removed.is_some(), &b.name, &b.id)));
    lines
}

/// When a device was removed first.
fn removal_of(removals: &[Removal], device: DeviceId) -> Option<String> {
    let removed = removals.iter().filter(|removal| removal.device == device);
    removed.map(|removal| removal.removed_ms).min().map(rfc3339)
}
