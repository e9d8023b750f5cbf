//! Files with ignored names: each belongs to the device on which it was made, and stays there whatever others do around it.

use crate::contents::name as shown;
use crate::history::{History, Seen};
use crate::operate::{Done, Operation, leaf};
use crate::trash::is_in_trash;
use crate::tree::{self, Spot, Spots};
use ouro_core::id::FileId;
use ouro_local::volume::VolumeError;
use std::collections::{BTreeMap, BTreeSet};

/// The files with ignored names of a device, by name. No two in a history have one name, so each is known wherever its directory goes.
#[derive(Clone, Default)]
pub(crate) struct Ignored(BTreeMap<String, Stay>);

/// What is known of one of them.
#[derive(Clone)]
enum Stay {
    /// It is there with these bytes, or was removed; and whether no crash takes that back.
    Known(Option<Vec<u8>>, bool),
    /// A crash, or an error in the middle of an operation, left one state or another.
    Unsure,
}

impl Ignored {
    /// Something is about to be done to a file.
    fn begin(&mut self, name: &str) {
        self.0.insert(name.to_owned(), Stay::Unsure);
    }

    /// It was done: the file has these bytes, or is no more.
    fn end(&mut self, name: &str, content: Option<Vec<u8>>) {
        self.0.insert(name.to_owned(), Stay::Known(content, false));
    }

    /// What was done so far stays.
    pub(crate) fn keep(&mut self) {
        for stay in self.0.values_mut() {
            if let Stay::Known(_, is_safe) = stay {
                *is_safe = true;
            }
        }
    }

    /// A crash may have taken back what was not safe.
    pub(crate) fn crash(&mut self) {
        for stay in self.0.values_mut() {
            if let Stay::Known(_, false) = stay {
                *stay = Stay::Unsure;
            }
        }
    }

    /// What is not sure is as it is seen now, and as it is known otherwise.
    fn look(&mut self, seen: &BTreeMap<String, Vec<u8>>, who: &str) {
        for (name, stay) in &mut self.0 {
            match stay {
                Stay::Unsure => *stay = Stay::Known(seen.get(name).cloned(), false),
                Stay::Known(content, _) => assert!(
                    seen.get(name) == content.as_ref(),
                    "{name}, which only {who} has, is {:?} and not {:?}",
                    seen.get(name).map(|content| shown(content)),
                    content.as_ref().map(|content| shown(content)),
                ),
            }
        }
        let foreign = seen.keys().find(|name| !self.0.contains_key(*name));
        assert!(foreign.is_none(), "{foreign:?} is seen by {who}, who never made it");
    }
}

/// Whether a file has one of the names that are given here, all of them ignored by the built-in rules.
pub(crate) fn is_ignored(spot: &Spot) -> bool {
    let name = spot.seen.name.as_bytes();
    name.starts_with(b"stays-") || name.starts_with(b".stays-")
}

/// Those that are seen, by name.
fn seen_in(spots: &Spots, bytes: impl Fn(&Spot) -> Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let mut seen = BTreeMap::new();
    for (path, spot) in spots.iter().filter(|(_, spot)| is_ignored(spot)) {
        let before = seen.insert(spot.seen.name.display(), bytes(spot));
        assert!(before.is_none(), "{path} is there twice");
    }
    seen
}

impl Operation<'_> {
    /// Does something at random with files that stay here.
    pub(crate) fn any_ignored(&mut self) -> Done {
        self.look_at_ignored();
        match self.chance.below(10) {
            0..4 => self.make_ignored(),
            4..6 => self.write_ignored(),
            6..8 => self.move_ignored(),
            8 => self.remove_ignored(),
            _ => self.publish_ignored(),
        }
    }

    fn look_at_ignored(&mut self) {
        let all: Spots =
            self.spots.iter().chain(&self.trash).map(|(path, spot)| (path.clone(), spot.clone())).collect();
        let seen = seen_in(&all, |spot| self.content(spot));
        self.ignored.look(&seen, &format!("device {}", self.volume.device().0));
    }

    fn one_ignored(&mut self) -> Option<(String, Spot)> {
        let all: Vec<(String, Spot)> =
            self.spots.iter().filter(|(_, spot)| is_ignored(spot)).map(|(p, s)| (p.clone(), s.clone())).collect();
        self.chance.one(&all).cloned()
    }

    /// A name that no other file of the history has.
    fn ignored_name(&mut self) -> String {
        *self.written += 1;
        if self.chance.percent(50) {
            format!("stays-{}.part", self.written)
        } else {
            format!(".stays-{}.swp", self.written)
        }
    }

    /// Where something is to stand that is ignored. People put nothing into `Recovered/`.
    fn directory_for_ignored(&mut self) -> Option<(String, Vec<FileId>)> {
        let (path, members) = self.any_directory();
        (members != [FileId::RECOVERED]).then_some((path, members))
    }

    fn make_ignored(&mut self) -> Done {
        let Some((path, parent)) = self.directory_for_ignored() else { return Ok(String::new()) };
        let name = self.ignored_name();
        let content = self.bytes();
        self.ignored.begin(&name);
        self.make(&parent, &leaf(&name), &content)?;
        let told = format!("create {path}/{name} {}", shown(&content));
        self.ignored.end(&name, Some(content));
        Ok(told)
    }

    fn write_ignored(&mut self) -> Done {
        let Some((path, spot)) = self.one_ignored() else { return Ok(String::new()) };
        let (id, place, name) = (spot.seen.id, spot.place(), spot.seen.name.display());
        let mut content = if self.chance.percent(50) { self.content(&spot) } else { Vec::new() };
        let data = self.bytes();
        self.ignored.begin(&name);
        self.volume.open(id)?;
        let mut done = self.volume.truncate(id, &place, content.len() as u64);
        self.breathe();
        if done.is_ok() {
            done = self.volume.write(id, &place, content.len() as u64, &data);
        }
        self.volume.close(id)?;
        done?;
        content.extend_from_slice(&data);
        let told = format!("write {path} {}", shown(&content));
        self.ignored.end(&name, Some(content));
        Ok(told)
    }

    fn move_ignored(&mut self) -> Done {
        let Some((path, spot)) = self.one_ignored() else { return Ok(String::new()) };
        let Some((target, to)) = self.directory_for_ignored() else { return Ok(String::new()) };
        let (before, after) = (spot.seen.name.display(), self.ignored_name());
        let content = self.content(&spot);
        self.ignored.begin(&before);
        self.ignored.begin(&after);
        self.move_to(&spot, &to, &leaf(&after), None)?;
        self.ignored.end(&before, None);
        self.ignored.end(&after, Some(content));
        Ok(format!("rename {path} {target}/{after}"))
    }

    fn remove_ignored(&mut self) -> Done {
        let Some((path, spot)) = self.one_ignored() else { return Ok(String::new()) };
        self.remove_at(&spot)?;
        Ok(format!("remove {path}"))
    }

    /// Removes what stands at a spot, be it for others to see or not.
    pub(crate) fn remove_at(&mut self, spot: &Spot) -> Result<(), VolumeError> {
        let name = is_ignored(spot).then(|| spot.seen.name.display());
        match &name {
            Some(name) => self.ignored.begin(name),
            None if !spot.is_directory() => drop(self.leaves(spot)),
            None => {}
        }
        self.volume.edit(|e| Ok(((), e.remove(&spot.seen, &spot.parent)?)))?;
        if let Some(name) = &name {
            self.ignored.end(name, None);
        }
        Ok(())
    }

    /// A download has ended: the file gets a name that others are to see.
    fn publish_ignored(&mut self) -> Done {
        let Some((path, spot)) = self.one_ignored() else { return Ok(String::new()) };
        let (target, to) = self.any_directory();
        let (before, name) = (spot.seen.name.display(), self.any_leaf());
        let target = format!("{target}/{name}");
        if self.spots.contains_key(&target) {
            return Ok(String::new());
        }
        let content = self.content(&spot);
        self.ignored.begin(&before);
        self.move_to(&spot, &to, &leaf(name), None)?;
        self.ignored.end(&before, None);
        self.wrote(content);
        Ok(format!("rename {path} {target}"))
    }
}

impl History {
    /// Each device has its own files with ignored names, with their bytes, and nobody else's. They are in directories: what goes on as
    /// another device may begin anew on the checkpoint of a collection, and find those in `Recovered/` whose directories were purged.
    pub(crate) fn what_is_ignored_stays(&mut self) {
        let begins_anew = self.manner.copies || self.manner.removes;
        for at in 0..self.devices.len() {
            let volume = self.volume(at);
            let spots = self.with_all(at, |volume| Ok(tree::spots(volume)?));
            let astray = spots.iter().find(|(_, spot)| is_ignored(spot) && spot.parent == [FileId::RECOVERED]);
            assert!(astray.is_none() || begins_anew, "{} has lost its directory", astray.map_or("", |(path, _)| path));
            let seen = seen_in(&spots, |spot| self.truth.bytes_at(&volume, spot));
            let name = self.devices[at].info.name.clone();
            self.devices[at].ignored.look(&seen, &name);
        }
    }

    /// What of all that is seen on a device is for others too: neither files with ignored names, nor directories that only they keep here.
    pub(crate) fn shared(&mut self, at: usize, seen: Seen) -> Seen {
        if !self.manner.ignores && !self.manner.throws {
            return seen;
        }
        let committed = self.with_all(at, |volume| {
            let snapshot = volume.snapshot_of(&volume.heads())?;
            Ok(tree::spots_of(&*snapshot, &*snapshot)?)
        });
        let everywhere: BTreeSet<FileId> =
            committed.values().flat_map(|spot| spot.seen.members().iter().copied()).collect();
        let live = self.with_all(at, |volume| Ok(tree::spots(volume)?));
        let is_shared = |path: &String| {
            let spot = &live[path];
            !is_ignored(spot)
                && !is_in_trash(path)
                && (!spot.is_directory() || spot.seen.members().iter().any(|member| everywhere.contains(member)))
        };
        seen.into_iter().filter(|(path, _)| is_shared(path)).collect()
    }
}
