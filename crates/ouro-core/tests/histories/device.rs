//! A device: committed rows, live rows, what is pending, and a clock.

use crate::oracle::{self, State, View};
use ouro_core::apply::{apply, apply_unseen, seal};
use ouro_core::birth::{Birth, Born, bear};
use ouro_core::content::Content;
use ouro_core::delta::Delta;
use ouro_core::digest::Digest;
use ouro_core::edit::{Edit, EditError, Edited, Pending, hlc_floor};
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq, Version};
use ouro_core::name::Name;
use ouro_core::render::{self, Devices, Seen};
use ouro_core::row::{RowChanges, Rows};
use ouro_core::state::{Attributes, Kind};
use ouro_core::tree::MapRows;
use std::collections::{BTreeMap, BTreeSet};

/// A commit as others learn it.
#[derive(Clone)]
pub(crate) struct Commit {
    pub(crate) version: Version,
    pub(crate) delta: Delta,
    /// How many commits of each device it was made on.
    pub(crate) known: BTreeMap<DeviceNo, u64>,
}

/// A path with what is seen there and the union it is in.
#[derive(Clone)]
pub(crate) struct Spot {
    pub(crate) seen: Seen,
    pub(crate) parent: Vec<FileId>,
}

pub(crate) struct Names(pub(crate) u32);

impl Devices for Names {
    fn name(&self, device: DeviceNo) -> String {
        format!("D{}", if device == Version::PENDING.device { self.0 } else { device.0 })
    }
}

pub(crate) struct Device {
    pub(crate) no: DeviceNo,
    pub(crate) names: Names,
    pub(crate) committed: MapRows,
    pub(crate) live: MapRows,
    pub(crate) digest: Digest,
    pub(crate) pending: Pending,
    pub(crate) known: BTreeMap<DeviceNo, u64>,
    pub(crate) state: State,
    clock: Hlc,
    pub(crate) counter: u32,
}

pub(crate) fn attributes(mode: u16) -> Attributes {
    Attributes { mode, mtime_ns: 0, ctime_ns: 0, rdev: 0, xattrs: vec![] }
}

pub(crate) fn bytes(text: &str) -> Content {
    Content::Inline(text.as_bytes().into())
}

fn put(rows: &mut MapRows, changes: RowChanges) {
    for (key, row) in changes {
        match row {
            Some(row) => rows.0.insert(key, row),
            None => rows.0.remove(&key),
        };
    }
}

impl Device {
    pub(crate) fn new(no: u32) -> Device {
        Device {
            no: DeviceNo(no),
            names: Names(no),
            committed: MapRows::default(),
            live: MapRows::default(),
            digest: Digest::default(),
            pending: Pending::default(),
            known: BTreeMap::new(),
            state: State::new(),
            clock: Hlc::default(),
            counter: FileId::COUNTER_FIRST,
        }
    }

    /// Every path with what is seen there, by listings.
    pub(crate) fn spots(&self) -> BTreeMap<String, Spot> {
        let mut spots = BTreeMap::new();
        let root = Seen::root(&self.live).expect("all rows are there");
        let mut todo = vec![(String::new(), root.members().to_vec())];
        spots.insert(String::new(), Spot { seen: root, parent: vec![] });
        while let Some((path, union)) = todo.pop() {
            let mut after: Option<Name> = None;
            loop {
                let page =
                    render::list(&self.live, &self.names, &union, after.as_ref(), 2).expect("all rows are there");
                for seen in page.entries {
                    let path = format!("{path}/{}", seen.name.display());
                    if !seen.members().is_empty() {
                        todo.push((path.clone(), seen.members().to_vec()));
                    }
                    let spot = Spot { seen, parent: union.clone() };
                    assert!(spots.insert(path.clone(), spot).is_none(), "{path} is listed twice");
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        spots
    }

    /// Every path with its content; directories have none.
    pub(crate) fn paths(&self) -> BTreeMap<String, Option<Content>> {
        self.spots().into_iter().map(|(path, spot)| (path, spot.seen.content().cloned())).collect()
    }

    /// Does one operation and puts it into effect.
    pub(crate) fn edit<T>(
        &mut self,
        act: impl FnOnce(Edit<'_>) -> Result<(T, Edited), EditError>,
    ) -> Result<T, EditError> {
        let (no, counter) = (self.no, &mut self.counter);
        let mut fresh = || {
            *counter += 1;
            FileId::new(no, *counter)
        };
        let edit = Edit {
            rows: &self.live,
            pending: &self.pending,
            devices: &self.names,
            fresh: &mut fresh,
            now_ns: 0,
            generation: 0,
        };
        let (value, edited) = act(edit)?;
        let before = self.listings(&edited);
        put(&mut self.live, edited.changes);
        self.pending.take(edited.pending);
        self.check_listings(&before, &edited.listings);
        Ok(value)
    }

    fn listings(&self, _: &Edited) -> BTreeMap<FileId, BTreeSet<(String, FileId)>> {
        self.all_listings()
    }

    /// What each member of each shown directory lists.
    fn all_listings(&self) -> BTreeMap<FileId, BTreeSet<(String, FileId)>> {
        let mut listings: BTreeMap<FileId, BTreeSet<(String, FileId)>> = BTreeMap::new();
        let spots = self.spots();
        for spot in spots.values() {
            for &member in spot.seen.members() {
                listings.entry(member).or_default();
            }
            for &member in &spot.parent {
                listings.entry(member).or_default().insert((spot.seen.name.display(), spot.seen.id));
            }
        }
        listings
    }

    /// Every directory that is shown before and after and lists something else was announced.
    fn check_listings(&self, before: &BTreeMap<FileId, BTreeSet<(String, FileId)>>, announced: &[FileId]) {
        for (directory, after) in self.all_listings() {
            if let Some(old) = before.get(&directory)
                && *old != after
            {
                // Names of one directory may hang on equal contents in another member of its union: one of them is announced.
                let union = render::members(&self.live, directory).expect("all rows are there");
                let told = union.iter().any(|d| announced.contains(d));
                assert!(told, "{directory:?} changed unannounced: {old:?} -> {after:?}, announced {announced:?}");
            }
        }
    }

    /// The state with what is pending, by definition.
    pub(crate) fn live_state(&self) -> State {
        let mut state = self.state.clone();
        let files = self.pending.files.values().cloned().collect();
        oracle::commit(&mut state, &Delta { files }, Version::PENDING);
        state
    }

    /// Rows, digest and names are what they are by definition.
    pub(crate) fn check(&self) {
        assert_eq!(self.committed.0, View::of(&self.state).rows(), "committed rows of {:?}", self.no);
        assert_eq!(self.digest, oracle::digest(&self.state), "digest of {:?}", self.no);
        let state = self.live_state();
        let view = View::of(&state);
        similar(&self.live, &view.rows());
        let shown = view.shown(self.no.0);
        let mut seen = BTreeMap::new();
        for (path, spot) in self.spots().into_iter().filter(|(path, _)| !path.is_empty()) {
            let found =
                render::lookup(&self.live, &self.names, &spot.parent, &spot.seen.name).expect("all rows are there");
            assert_eq!(found.as_ref(), Some(&spot.seen), "{path} is found as it is listed");
            for &member in spot.seen.members() {
                assert_eq!(render::members(&self.live, member).expect("all rows are there"), spot.seen.members());
            }
            seen.insert(path, (spot.seen.id, spot.seen.content().cloned()));
        }
        assert_eq!(seen, shown, "names on {:?}", self.no);
    }

    /// Makes a commit of what is pending.
    pub(crate) fn seal(&mut self, millis: u64) -> Option<Commit> {
        let floor = self.settle()?;
        self.clock = self.clock.max(Hlc::from_millis(millis)).max(floor).next();
        Some(self.seal_at(self.clock))
    }

    /// Does what has to be done before sealing; the stamp that the commit must exceed, or nothing if nothing is pending.
    pub(crate) fn settle(&mut self) -> Option<Hlc> {
        self.edit(|e| Ok(((), e.settle()?))).expect("settling works");
        if self.pending.files.is_empty() {
            return None;
        }
        Some(hlc_floor(&self.live, &self.pending).expect("all rows are there"))
    }

    /// Makes a commit of what is pending and settled.
    pub(crate) fn seal_at(&mut self, hlc: Hlc) -> Commit {
        let seq = Seq(self.known.get(&self.no).copied().unwrap_or(0) + 1);
        let version = Version { hlc, device: self.no, seq };
        let pending = core::mem::take(&mut self.pending);
        let place = |d: &ouro_core::delta::FileDelta| {
            let at = d.content.as_ref().map(|c| &c.at);
            d.placements.first().map(|p| &p.place).or(d.hint.as_ref()).or(at).cloned()
        };
        let files: Vec<_> = pending.files.values().map(|d| (d, place(d))).collect();
        let sealed = seal(&self.live, &files, version).expect("all rows are there");
        put(&mut self.live, sealed.changes);
        let commit = Commit {
            version,
            delta: Delta { files: pending.files.into_values().collect() },
            known: self.known.clone(),
        };
        self.commit(&commit);
        assert_eq!(self.live.0, self.committed.0, "nothing is pending after sealing");
        commit
    }

    /// Ends and begins again with what the journal held of what was pending.
    pub(crate) fn crash(&mut self, pending: Pending) {
        let delta = Delta { files: pending.files.values().cloned().collect() };
        let applied = apply(&self.committed, &delta, Version::PENDING).expect("all rows are there");
        self.live = MapRows(self.committed.0.clone());
        put(&mut self.live, applied.changes);
        self.pending = pending;
    }

    fn commit(&mut self, commit: &Commit) {
        let applied = apply(&self.committed, &commit.delta, commit.version).expect("all rows are there");
        let unseen = apply_unseen(&self.committed, &commit.delta, commit.version).expect("all rows are there");
        assert_eq!((&applied.changes, applied.digest), (&unseen.0, unseen.1), "whether anybody looks or not");
        put(&mut self.committed, applied.changes);
        self.digest = self.digest.plus(applied.digest);
        oracle::commit(&mut self.state, &commit.delta, commit.version);
        self.known.insert(commit.version.device, commit.version.seq.0);
    }

    /// Whether everything a commit was made on is known here.
    pub(crate) fn can_learn(&self, commit: &Commit) -> bool {
        let has = |device: &DeviceNo| self.known.get(device).copied().unwrap_or(0);
        has(&commit.version.device) + 1 == commit.version.seq.0
            && commit.known.iter().all(|(device, seq)| has(device) >= *seq)
    }

    /// Learns a commit of another device.
    pub(crate) fn learn(&mut self, commit: &Commit) {
        let before = self.all_listings();
        let applied = apply(&self.live, &commit.delta, commit.version).expect("all rows are there");
        put(&mut self.live, applied.changes);
        self.check_listings(&before, &applied.listings);
        self.commit(commit);
        self.clock = self.clock.max(commit.version.hlc);
    }

    /// Makes many entries as a commit of their own.
    pub(crate) fn bear(&mut self, births: &[Birth]) -> (Vec<Result<FileId, EditError>>, Commit) {
        self.bear_beside(births, |_| ())
    }

    /// Makes many entries as a commit of their own; `meanwhile` happens between its making and its taking effect.
    pub(crate) fn bear_beside(
        &mut self,
        births: &[Birth],
        meanwhile: impl FnOnce(&mut Device),
    ) -> (Vec<Result<FileId, EditError>>, Commit) {
        let (no, counter) = (self.no, &mut self.counter);
        let mut fresh = || {
            *counter += 1;
            FileId::new(no, *counter)
        };
        let Born { made, delta } = bear(&self.live, &self.names, &mut fresh, births).expect("all rows are there");
        let seq = Seq(self.known.get(&self.no).copied().unwrap_or(0) + 1);
        let version = Version { hlc: self.clock.next(), device: self.no, seq };
        let commit = Commit { version, delta, known: self.known.clone() };
        meanwhile(self);
        self.learn(&commit);
        (made, commit)
    }

    /// Makes a file or directory at a path whose parent is there.
    pub(crate) fn make(&mut self, path: &str, content: Option<&str>) -> FileId {
        let (parent, leaf) = path.rsplit_once('/').expect("a path from the root");
        let parent = self.spots()[parent].seen.members().to_vec();
        let kind = if content.is_some() { Kind::File } else { Kind::Directory };
        let leaf = oracle::name(leaf);
        self.edit(|e| e.create(&parent, &leaf, kind, attributes(0o600), content.map(bytes))).expect("it can be made")
    }

    /// What is seen at a path.
    pub(crate) fn spot(&self, path: &str) -> Spot {
        self.spots().get(path).cloned().unwrap_or_else(|| panic!("nothing at {path}: {:?}", self.paths().keys()))
    }

    pub(crate) fn write(&mut self, path: &str, content: &str) {
        let spot = self.spot(path);
        self.edit(|e| e.write(&spot.seen, &spot.parent, bytes(content), spot.seen.attributes()))
            .expect("it can be written");
    }

    pub(crate) fn remove(&mut self, path: &str) {
        let spot = self.spot(path);
        self.edit(|e| Ok(((), e.remove(&spot.seen, &spot.parent)?))).expect("it can be removed");
    }

    /// Moves over whatever stands at the target.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        self.try_rename(from, to).expect("it can be moved");
    }

    pub(crate) fn try_rename(&mut self, from: &str, to: &str) -> Result<FileId, EditError> {
        let spot = self.spot(from);
        let (parent, leaf) = to.rsplit_once('/').expect("a path from the root");
        let (target, leaf) = (self.spot(parent).seen.members().to_vec(), oracle::name(leaf));
        let over = self.spots().get(to).map(|s| s.seen.clone());
        self.edit(|e| e.rename(&spot.seen, &spot.parent, &target, &leaf, over.as_ref()))
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) {
        let spot = self.spot(from);
        let (parent, leaf) = to.rsplit_once('/').expect("a path from the root");
        let (target, leaf) = (self.spot(parent).seen.members().to_vec(), oracle::name(leaf));
        self.edit(|e| e.link(&spot.seen, &spot.parent, &target, &leaf)).expect("it can be linked");
    }

    /// Removes a directory and all in it, as `rm -r` does.
    pub(crate) fn remove_all(&mut self, path: &str) {
        loop {
            let below = format!("{path}/");
            let inside: Vec<String> = self.spots().into_keys().filter(|p| p.starts_with(&below)).collect();
            // The deepest of them is empty.
            let Some(deepest) = inside.into_iter().max_by_key(|p| p.matches('/').count()) else { break };
            self.remove(&deepest);
        }
        self.remove(path);
    }
}

/// Rows are those expected; says which differ.
fn similar(rows: &MapRows, expected: &BTreeMap<ouro_core::row::Key, ouro_core::row::Row>) {
    let mut differ = Vec::new();
    for key in rows.0.keys().chain(expected.keys()) {
        if rows.0.get(key) != expected.get(key) {
            differ.push((key.clone(), rows.get(key).ok().flatten(), expected.get(key).cloned()));
        }
    }
    assert!(differ.is_empty(), "live rows differ (key, are, should be): {differ:#?}");
}
