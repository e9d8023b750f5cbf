//! Going on under another identity: what this device has not published goes over to it, and its old log is another device's from then on.

use super::change::Change;
use super::edit::COUNTERS_RESERVED;
use super::encode;
use super::learn::{Built, Commit};
use super::renumber::{self, Claim, Overlay, Published, Renumbering};
use super::seal::{Sealed, SealedFile};
use super::state::{STAYING_GENERATION, State};
use super::{Volume, VolumeError};
use crate::ledger::{Ticket, Write};
use crate::pins::Pin;
use ouro_core::codec::encode_file_delta;
use ouro_core::content::Content;
use ouro_core::delta::FileDelta;
use ouro_core::id::{DeviceId, DeviceNo, FileId, Line, Seq, Version};
use ouro_core::row::RowChanges;
use std::collections::{BTreeMap, BTreeSet};

/// Who a device is in a box's repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: DeviceId,
    /// Its number.
    pub number: DeviceNo,
    /// What people call it.
    pub name: String,
    /// When it was drawn, in milliseconds since 1970, by this device's clock.
    pub drawn_ms: u64,
}

/// Hears which files have other ids now, while nobody can look at the state: it must not call back.
pub type OnRenumber = Box<dyn Fn(&BTreeMap<FileId, FileId>) + Send + Sync>;

impl Volume {
    /// Who this device is, if it took another identity since it joined.
    pub fn identity(&self) -> Option<Identity> {
        self.state.read().identity.clone()
    }

    /// The identity that this device is about to take: it may stand on the remote already.
    pub fn intended(&self) -> Option<Identity> {
        self.state.read().intended.clone()
    }

    /// Fixes the identity that is to be taken, before it is written down on the remote. Durable when it returns.
    ///
    /// # Errors
    /// A failing journal.
    pub fn intend(&self, identity: &Identity) -> Result<(), VolumeError> {
        let ticket = {
            let mut state = self.state.write();
            state.intended = Some(identity.clone());
            self.ledger.submit(vec![encode::identity(encode::META_INTENDED, identity)])
        };
        Ok(self.ledger.flush(ticket, true)?)
    }

    /// Says who hears of files that get other ids.
    pub fn on_renumber(&self, hook: OnRenumber) {
        self.renumber_hooks.write().push(hook);
    }

    /// What is unpublished here and may stand in this device's own log: its bytes must be compared before [`Volume::take_identity`].
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: fetch and call again; a failing journal.
    pub fn claims(&self, log: &[Commit]) -> Result<Vec<Claim>, VolumeError> {
        let mut state = self.state.write();
        self.settle_hot(&mut state)?;
        let overlay = unpublished(&state);
        Ok(renumber::claims(&overlay, log))
    }

    /// Goes on as another device. What is not published goes over to it with ids of its own: a copy of this device may have given the
    /// same ones to other files. Who has a file open keeps it.
    ///
    /// `log` is what stands in this device's own log after what it knows, as far as everything it was made on is known, and before that what it
    /// knows and has not published by its own account: what is unpublished here and stands there all the same does not go along, since a
    /// former self published it: `proven` are the files whose bytes were compared ([`Volume::claims`]). All of it is one unit of the journal,
    /// durable when this returns.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]: nothing changed; fetch and call again; a failing journal.
    pub fn take_identity(
        &self,
        identity: &Identity,
        log: &[Commit],
        proven: &BTreeSet<FileId>,
    ) -> Result<(), VolumeError> {
        let mut change = Change::default();
        let taken = self.take_identity_locked(&mut self.state.write(), identity, log, proven, &mut change);
        change.tidy();
        self.announce(&change);
        self.ledger.flush(taken?, true)?;
        self.signal_pending();
        Ok(())
    }

    fn take_identity_locked(
        &self,
        state: &mut State,
        identity: &Identity,
        log: &[Commit],
        proven: &BTreeSet<FileId>,
        change: &mut Change,
    ) -> Result<Ticket, VolumeError> {
        self.settle_hot(state)?;
        self.bury_before_log(state, log, proven, change)?;
        let before = unpublished(state);
        let published = Published::find(&before, log, proven);
        let numbers = (state.device, identity.number);
        let known = state.heads.values().map(|head| head.hlc).chain(log.iter().map(|commit| commit.hlc));
        let known = known.max().unwrap_or_default();
        let renumbering = Renumbering::new(numbers, &before, &published, known, unpublished_orphans(state));
        let mut after = renumbering.apply(&before, &published);
        let head = state.heads.get(&state.device).map_or(Seq(0), |head| head.seq);
        let log = &log[log.partition_point(|commit| commit.seq <= head)..];
        let built = self.build_with(state, log, &after)?;
        // Nothing was changed until here, and nothing fails from here on but the disk.
        if let Some(sealed) = after.sealed.as_mut().filter(|_| !published.sealed.is_empty()) {
            // What went is below the rest now.
            sealed.parents = built.heads.clone();
            sealed.digest = built.digest;
            state.clock = state.clock.max(sealed.version.hlc);
        }
        let mut unit: Vec<Write> = log.iter().map(encode::commit).collect();
        let ended = self.end_published(state, &before, &published, &mut unit)?;
        unit.extend(overlay_rows(state, &before, &after, &renumbering));
        for (was, is) in &renumbering.files {
            self.move_file(state, *was, *is, &mut unit);
        }
        // The log may hold what brings files back, or takes them away, that are open here.
        self.end_revived_orphans(state, &built.live)?;
        self.adopt_orphans(state, &built.live, true);
        change.renumber(|file| renumbering.file(file));
        for delta in log.iter().flat_map(|commit| &commit.delta.files) {
            let places = delta.placements.iter().map(|p| &p.place).chain(&delta.hint);
            change.bindings.extend(places.map(|place| (place.parent, place.name.clone())));
            change.files.push(delta.id);
        }
        change.directories.extend(change.bindings.iter().map(|(directory, _)| *directory));
        log.iter().for_each(|commit| state.count(commit));
        let line = state.lines.line(state.device);
        if line != Line::MAIN {
            state.lines.of.insert(identity.number, line);
        }
        state.announced.extend(log.iter().filter_map(|commit| commit.checkpoint.clone()));
        state.generation += 1;
        state.staying = state.staying.iter().map(|file| renumbering.file(*file)).collect();
        state.pending.files = after.pending;
        state.sealed = after.sealed;
        state.base = std::sync::Arc::new(built.base);
        state.put_live(built.live);
        state.digest = built.digest;
        state.heads = built.heads;
        state.outright = None;
        state.device = identity.number;
        state.identity = Some(identity.clone());
        state.intended = None;
        state.counter = renumbering.counter;
        state.counter_reserved = state.counter.saturating_add(COUNTERS_RESERVED);
        state.devices.insert(identity.number, identity.name.clone());
        unit.extend(identity_rows(state, identity));
        self.renumber_hooks.read().iter().for_each(|hook| hook(&renumbering.files));
        let ticket = self.ledger.submit(unit);
        for file in ended {
            self.layers.drop_file(file, ticket)?;
        }
        Ok(ticket)
    }

    /// What stands in the log and is not known here is learnt, too, where another self said it.
    fn bury_before_log(
        &self,
        state: &mut State,
        log: &[Commit],
        proven: &BTreeSet<FileId>,
        change: &mut Change,
    ) -> Result<(), VolumeError> {
        let mut waiting = self.bury_before_learning(state, change)?;
        let head = state.heads.get(&state.device).map_or(Seq(0), |head| head.seq);
        let before = unpublished(state);
        let published = Published::find(&before, log, proven);
        let is_own = |file: FileId| published.sealed.contains_key(&file) || published.pending.contains(&file);
        for commit in log.iter().filter(|commit| commit.seq > head) {
            if waiting.is_empty() {
                break;
            }
            let mut theirs = commit.clone();
            theirs.delta.files.retain(|delta| !is_own(delta.id));
            self.recall_what_goes_on(state, &mut waiting, &theirs, change)?;
        }
        Ok(())
    }

    /// The rows with the commits of the log, and what is unpublished on top.
    fn build_with(&self, state: &State, log: &[Commit], after: &Overlay) -> Result<Built, VolumeError> {
        let mut built = Built {
            root: state.root,
            base: RowChanges::clone(&state.base),
            live: RowChanges::new(),
            digest: state.digest,
            heads: state.heads.clone(),
        };
        for commit in log {
            built.commit(&self.nodes, commit)?;
        }
        built.live = built.base.clone();
        built.overlay(&self.nodes, after.sealed.as_ref(), after.pending.values())?;
        Ok(built)
    }

    /// Ends the layers of what is published already; what was written on top of such a content stands on what the log says.
    fn end_published(
        &self,
        state: &mut State,
        before: &Overlay,
        published: &Published<'_>,
        unit: &mut Vec<Write>,
    ) -> Result<Vec<crate::layers::LayerFile>, VolumeError> {
        let mut ended = Vec::new();
        let sealed = published.sealed.iter().filter_map(|(file, (theirs, _))| {
            Some((before.sealed.as_ref()?.file(*file)?, theirs.content.as_ref().and_then(|c| c.value.clone())))
        });
        let pending = published.pending.iter().filter_map(|file| Some((before.pending.get(file)?, None)));
        for (ours, value) in sealed.chain(pending) {
            let Some(source @ Content::Pending { generation, .. }) = ours.source() else { continue };
            if let Some(value) = value {
                let above =
                    state.bases.range_mut((ours.id, 0)..=(ours.id, u64::MAX)).filter(|(_, below)| *below == source);
                above.for_each(|(_, below)| *below = value.clone());
            }
            if state.writable.get(&ours.id) == Some(generation) {
                state.writable.remove(&ours.id);
                state.hot.remove(&ours.id);
            }
            state.bases.remove(&(ours.id, *generation));
            let (rows, ending) = self.layers.removal(ours.id, *generation)?;
            unit.extend(rows);
            unit.push(self.local_row(state, ours.id));
            ended.push(ending);
        }
        Ok(ended)
    }

    /// What was kept for a file by its id is kept by its new one. Its bytes are not moved.
    fn move_file(&self, state: &mut State, was: FileId, is: FileId, unit: &mut Vec<Write>) {
        if let Some(generation) = state.writable.remove(&was) {
            state.writable.insert(is, generation);
        }
        let layers: Vec<(u64, Content)> = state
            .bases
            .range((was, 0)..=(was, u64::MAX))
            .map(|((_, generation), below)| (*generation, below.clone()))
            .collect();
        for (generation, below) in layers {
            state.bases.remove(&(was, generation));
            state.bases.insert((is, generation), below);
            self.layers.bear(is, generation, was);
        }
        if let Some(hot) = state.hot.remove(&was) {
            state.hot.insert(is, hot);
        }
        if let Some(open) = state.open.remove(&was) {
            state.open.insert(is, open);
        }
        if let Some(owner) = state.owners.remove(&was) {
            state.owners.insert(is, owner);
        }
        let pin = self.pins.own(was);
        if pin != Pin::Auto {
            unit.extend([self.pins.set(was, Pin::Auto), self.pins.set(is, pin)]);
        }
        unit.extend([self.local_row(state, was), self.local_row(state, is)]);
    }
}

/// All that is not published, a commit made outright among it: its changes are pending from now on.
fn unpublished(state: &State) -> Overlay {
    let mut pending = state.pending.files.clone();
    for delta in state.outright.iter().flat_map(|(commit, _)| &commit.delta.files) {
        pending.entry(delta.id).or_insert_with(|| delta.clone());
    }
    Overlay { sealed: state.sealed.clone(), pending }
}

/// Files without a name that somebody has open and nobody else ever knew.
fn unpublished_orphans(state: &State) -> impl Iterator<Item = FileId> + '_ {
    let own = state.sealed.as_ref().map(|sealed| sealed.version);
    let unknown = move |version: Version| version.is_pending() || Some(version) == own;
    state.open.iter().filter_map(move |(file, open)| {
        let record = &open.orphan.as_ref()?.record;
        let born =
            record.placements.iter().all(|p| unknown(p.version)) && record.contents.iter().all(|c| unknown(c.version));
        (born && !file.is_derived()).then_some(*file)
    })
}

/// The overlay's rows: the old ones go, the new ones of what is pending come in a generation of their own, so that no layer of it can have
/// the name of one that was begun before. What stays on this device stays where no seal touches it.
fn overlay_rows(state: &State, before: &Overlay, after: &Overlay, renumbering: &Renumbering) -> Vec<Write> {
    let row = |generation, delta: &FileDelta| Write::Pending {
        generation,
        file: delta.id,
        delta: Some(encode_file_delta(delta)),
    };
    let gone = |generation, file| Write::Pending { generation, file, delta: None };
    let mut unit = Vec::new();
    if let Some(sealed) = &before.sealed {
        unit.extend(sealed.files.iter().map(|delta| gone(sealed.generation, delta.id)));
    }
    for file in before.pending.keys() {
        unit.push(gone(state.row_generation(*file), *file));
    }
    if let Some(sealed) = &after.sealed {
        unit.extend(sealed.files.iter().map(|delta| row(sealed.generation, delta)));
    }
    let staying: BTreeSet<FileId> = state.staying.iter().map(|file| renumbering.file(*file)).collect();
    for delta in after.pending.values() {
        let stays = staying.contains(&delta.id);
        unit.push(row(if stays { STAYING_GENERATION } else { state.generation + 1 }, delta));
    }
    unit
}

/// The facts of the box that a new identity changes.
fn identity_rows(state: &State, identity: &Identity) -> Vec<Write> {
    let gone = |key| Write::Meta { key, value: None };
    vec![
        encode::identity(encode::META_IDENTITY, identity),
        gone(encode::META_INTENDED),
        gone(encode::META_OUTRIGHT),
        gone(encode::META_RECORD),
        match &state.sealed {
            Some(sealed) => encode::sealed(&Sealed::head(sealed)),
            None => gone(encode::META_SEALED),
        },
        encode::meta(encode::META_CLOCK, encode::number(state.clock.0)),
        encode::meta(encode::META_GENERATION, encode::number(state.generation)),
        encode::counter(state.counter_reserved),
        encode::devices(&state.devices),
        encode::lines(&state.lines),
    ]
}
