//! `snapshot`: a commit on request, under a name if the user gives one.

use crate::api::{Failure, FailureKind, Response, SnapshotLine};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use crate::when::ids;
use ouro_core::when::{When, snapshot_name};
use ouro_local::volume::LogWalk;
use ouro_repo::MESSAGE_BYTES_MAX;
use std::path::{Path, PathBuf};

/// The folder of snapshots in the root of a mounted box.
const SHELF: &str = ".snapshots";

impl Engine {
    pub(crate) fn snapshot(
        &self,
        message: String,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> Result<Response, Failure> {
        let open = self.box_meant(name, path)?;
        let snapshot = if message.is_empty() { None } else { Some(self.free_name(&open, &message)?) };
        let taken = self.block_on(async {
            let turn = open.sync.turn().await;
            open.sync.commit_as(&turn, message).await
        });
        let taken = taken.map_err(|error| {
            let error: Failure = error.into();
            let why = format!(
                "no snapshot was made: earlier changes are still on their way to the remote: {}",
                error.message
            );
            Failure::new(error.kind, why)
        })?;
        let (device, seq, made, waiting) = match taken {
            Some(taken) => {
                open.sync.hurry();
                (taken.device, taken.seq, true, taken.published.err().map(|error| Failure::from(error).message))
            }
            None => {
                let mut walk = LogWalk::new(&open.volume.heads());
                let newest = loop {
                    match self.step(&open, &mut walk)? {
                        Some(logged) if logged.is_announcement() => {}
                        Some(logged) => break logged,
                        None => {
                            return Err(Failure::needs_user(format!(
                                "box {:?} is empty: there is nothing to take",
                                open.name
                            )));
                        }
                    }
                };
                (newest.device(), newest.seq(), false, None)
            }
        };
        let there = snapshot.as_ref().filter(|_| waiting.is_none());
        let path = there.and_then(|name| Some(self.shelf(&open.name)?.join(name)));
        let (commit, _) = ids(&open, device, seq);
        Ok(Response::Snapshot(SnapshotLine { box_name: open.name.clone(), commit, snapshot, path, made, waiting }))
    }

    /// The name that a message gives to a snapshot, if it can be used.
    fn free_name(&self, open: &OpenBox, message: &str) -> Result<String, Failure> {
        if message.len() > MESSAGE_BYTES_MAX {
            let message = format!("the message is longer than {} KiB: shorten it", MESSAGE_BYTES_MAX / 1024);
            return Err(Failure::needs_user(message));
        }
        let unfit = || {
            Failure::needs_user(
                "the first line of the message is the snapshot's name: it cannot be empty, begin with a dot or @, or read like a time or a commit's id",
            )
        };
        let name = snapshot_name(message).ok_or_else(unfit)?;
        match When::parse(&name, 0) {
            Ok(When::Name(_)) => {}
            Ok(When::Commit { device, .. }) if device.bytes().any(|b| !b.is_ascii_digit()) => {}
            _ => return Err(unfit()),
        }
        if let Some(other) = self.ask(open, |volume| volume.snapshot_named(&name))? {
            let (id, _) = ids(open, other.device, other.seq);
            let message = format!("there is a snapshot {name:?} already (commit {id}): choose another name");
            return Err(Failure::new(FailureKind::Conflict, message));
        }
        Ok(name)
    }

    /// Where the snapshots of a box can be looked at, if it is mounted.
    fn shelf(&self, name: &str) -> Option<PathBuf> {
        let attached = self.attached.lock();
        let mount = attached.iter().find(|a| a.boxes.iter().any(|b| b == name))?;
        let root = if mount.boxes.len() == 1 { mount.mountpoint.clone() } else { mount.mountpoint.join(name) };
        Some(root.join(SHELF))
    }
}
