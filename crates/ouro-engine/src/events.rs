//! Events: what became so since the last look, told to who listens.
//!
//! Nothing is queued. Who listens has the state it was told last; when the box's sync tells that something happened, the two states are
//! compared, at a cost in proportion to what changed. So a slow reader holds up nobody and misses nothing that lasts: it is told later what is
//! different by then, and what came and went meanwhile is not told. Without listeners there is nothing to be done.

use crate::api::{Event, Failure, FailureKind};
use crate::boxes::OpenBox;
use crate::conflicts::{Dispute, line};
use crate::diff::written;
use crate::engine::Engine;
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceNo, FileId};
use ouro_core::name::Name;
use ouro_core::render::{self, copied_from};
use ouro_core::state::Place;
use ouro_local::volume::Snapshot;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// Least time between two looks.
const LOOK_MS: u64 = 200;

/// What tells, without a comparison, that nothing happened: who this device is, what is committed, and how much waits.
type Stamp = (DeviceNo, Digest, usize, usize);

/// What somebody hears of one box.
pub struct Events {
    engine: Arc<Engine>,
    open: Arc<OpenBox>,
    told: watch::Receiver<u64>,
    stamp: Stamp,
    /// The state of which everything was told, or waits to be.
    seen: Arc<Snapshot>,
    waiting: VecDeque<Event>,
}

impl Engine {
    /// Begins to listen to a box: the only one, if none is named.
    ///
    /// # Errors
    /// An unknown box.
    pub fn events(self: &Arc<Self>, name: Option<&str>) -> Result<Events, Failure> {
        let open = self.box_meant(name, None)?;
        let told = open.sync.status_changes();
        let listening = Event::Listening { box_name: open.name.clone() };
        Ok(Events {
            engine: Arc::clone(self),
            told,
            stamp: stamp(&open),
            seen: open.volume.still(),
            open,
            waiting: VecDeque::from([listening]),
        })
    }

    /// What is different in a later state of a box, for who listens.
    fn told_between(&self, open: &OpenBox, before: &Snapshot, after: &Snapshot) -> Result<Vec<Event>, Failure> {
        let mut names: BTreeSet<(FileId, Name)> = self.places_apart(open, before, after)?;
        let of_copies = names.iter().filter_map(|(directory, name)| Some((*directory, copied_from(name)?.0)));
        names.extend(of_copies.collect::<Vec<_>>());
        // Directories that are shown as one have their names together.
        let mut met: BTreeSet<(Vec<FileId>, Name)> = BTreeSet::new();
        let mut events = Vec::new();
        for (directory, name) in names {
            let disputed = |state: &Snapshot| -> Result<(Vec<FileId>, Option<Dispute>), Failure> {
                let members = self.ask(open, |_| Ok(render::members(state, directory)?))?;
                let found = if members.is_empty() { None } else { self.dispute_in(open, state, &members, &name)? };
                Ok((members, found))
            };
            let (stood, was) = disputed(before)?;
            let (stands, is) = disputed(after)?;
            let members = if stands.is_empty() { stood } else { stands };
            let Some(first) = members.first().copied().filter(|_| met.insert((members.clone(), name.clone()))) else {
                continue;
            };
            let place = Place { parent: first, name };
            match (was, is) {
                (was, Some(is)) if was.as_ref().is_none_or(|was| was.sides.len() < is.sides.len()) => {
                    events.push(Event::Conflict(line(open, &is, &self.names_to(open, after, &place)?)));
                }
                (Some(_), None) => {
                    let path = written(&self.names_to(open, before, &place)?);
                    events.push(Event::Resolved { box_name: open.name.clone(), path });
                }
                _ => {}
            }
        }
        Ok(events)
    }
}

impl Events {
    /// The next event; `None` if the box is no more, or its engine ends. What was not taken when it is dropped comes with the next call.
    pub async fn next(&mut self) -> Option<Event> {
        let runtime = self.engine.runtime();
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.open.sync.is_stopped() || self.told.changed().await.is_err() {
                return None;
            }
            runtime.sleep(LOOK_MS).await;
            self.told.mark_unchanged();
            let stamp = stamp(&self.open);
            if stamp == self.stamp {
                continue;
            }
            let found = Arc::new(Mutex::new(None));
            let (engine, open, before) = (Arc::clone(&self.engine), Arc::clone(&self.open), Arc::clone(&self.seen));
            let filled = Arc::clone(&found);
            let look = move || {
                let after = open.volume.still();
                let told = engine.told_between(&open, &before, &after);
                *filled.lock() = Some((after, told));
            };
            runtime.blocking(Box::new(look)).await;
            let (after, told) = found.lock().take()?;
            match told {
                Ok(events) => self.waiting.extend(events),
                // The next look compares from where this one would have.
                Err(failure) if matches!(failure.kind, FailureKind::Offline | FailureKind::Retry) => continue,
                Err(failure) => {
                    self.waiting.push_back(Event::Missed { box_name: self.open.name.clone(), why: failure.message });
                }
            }
            (self.seen, self.stamp) = (after, stamp);
        }
    }
}

fn stamp(open: &OpenBox) -> Stamp {
    let counts = open.volume.counts();
    (open.volume.device(), open.volume.digest(), counts.pending, counts.sealed)
}
