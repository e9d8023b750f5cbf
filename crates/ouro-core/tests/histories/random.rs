//! Random histories. A failure names its seed.

use crate::device::{Commit, Device, Spot, attributes, bytes};
use crate::oracle::name;
use ouro_core::content::Content;
use ouro_core::edit::EditError;
use ouro_core::id::FileId;
use ouro_core::render::What;
use ouro_core::state::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// Reproducible chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below n")
    }

    fn percent(&mut self, p: usize) -> bool {
        self.below(100) < p
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { Some(&of[self.below(of.len())]) }
    }
}

type Paths = BTreeMap<String, Option<Content>>;

struct World {
    chance: Chance,
    devices: Vec<Device>,
    log: Vec<Commit>,
    millis: u64,
    written: u64,
    /// How often each content was written, and which someone who saw them replaced or deleted.
    contents: BTreeMap<Content, u32>,
    gone: BTreeSet<Content>,
    /// Directories are moved and removed more often.
    moving: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Chance(seed);
        let count = [2, 2, 3, 3, 4][chance.below(5)];
        let devices = (1..=count).map(Device::new).collect();
        let moving = chance.percent(50);
        World {
            chance,
            devices,
            log: vec![],
            millis: 0,
            written: 0,
            contents: BTreeMap::new(),
            gone: BTreeSet::new(),
            moving,
        }
    }

    fn run(&mut self) {
        let (seals, learns) = ([10, 25, 50][self.chance.below(3)], [10, 30, 60][self.chance.below(3)]);
        self.prepare();
        for _ in 0..15 + self.chance.below(30) {
            self.millis += [0, 10_000, 10_000, 30_000, 100_000][self.chance.below(5)];
            let at = self.chance.below(self.devices.len());
            self.operate(at);
            self.devices[at].check();
            if self.chance.percent(seals) {
                self.seal(at);
            }
            if self.chance.percent(learns) {
                let all = self.chance.percent(50);
                self.learn(at, all);
            }
        }
        self.meet();
        self.agree();
        self.nothing_is_lost();
        self.settled_by_touching_all();
    }

    /// Most histories begin with some directories and files known to all.
    fn prepare(&mut self) {
        if self.chance.percent(30) {
            return;
        }
        let count = 2 + self.chance.below(3);
        for path in ["/a", "/b", "/a/c", "/b/d"].into_iter().take(count) {
            self.devices[0].make(path, None);
        }
        for _ in 0..1 + self.chance.below(4) {
            let (directory, leaf) = (self.directory(0), self.leaf());
            let path = format!("{directory}/{leaf}");
            if !self.devices[0].spots().contains_key(&path) {
                let content = self.content(&[]);
                let text = text(&content);
                self.devices[0].make(&path, Some(&text));
                self.wrote(content);
            }
        }
        self.seal(0);
        for at in 1..self.devices.len() {
            self.learn(at, true);
        }
    }

    fn seal(&mut self, at: usize) {
        let skew = [0, 0, 200_000][at % 3];
        let before = self.devices[at].paths();
        let commit = self.devices[at].seal(1_000_000_000_000 + self.millis + skew);
        self.log.extend(commit);
        self.devices[at].check();
        let contents = |paths: Paths| paths.into_values().collect::<Vec<_>>();
        let after = self.devices[at].paths();
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "sealing changes no name");
        assert_eq!(contents(before), contents(after), "sealing changes no content");
    }

    fn learn(&mut self, at: usize, all: bool) {
        loop {
            let open: Vec<Commit> = self.log.iter().filter(|c| self.devices[at].can_learn(c)).cloned().collect();
            let Some(commit) = self.chance.one(&open) else { return };
            self.devices[at].learn(commit);
            self.devices[at].check();
            if !all {
                return;
            }
        }
    }

    fn meet(&mut self) {
        for at in 0..self.devices.len() {
            self.seal(at);
        }
        for at in 0..self.devices.len() {
            self.learn(at, true);
        }
    }

    fn agree(&self) {
        let (first, others) = self.devices.split_first().expect("there are devices");
        for other in others {
            assert_eq!(first.committed.0, other.committed.0, "same commits, same rows");
            assert_eq!(first.digest, other.digest, "same commits, same digest");
            assert_eq!(first.paths(), other.paths(), "same commits, same names");
        }
    }

    fn nothing_is_lost(&self) {
        let shown: BTreeSet<Content> = self.devices[0].paths().into_values().flatten().collect();
        for (content, times) in &self.contents {
            // Equal contents count as one, so only what was written once is told apart.
            if *times == 1 && !self.gone.contains(content) {
                assert!(shown.contains(content), "{} is lost", text(content));
            }
        }
    }

    /// One device settles every name; what others see stays as it is.
    fn settled_by_touching_all(&mut self) {
        let before = self.devices[0].paths();
        for (path, spot) in self.devices[0].spots() {
            if spot.seen.members().is_empty() {
                let spot = self.devices[0].spot(&path);
                let attributes = attributes(0o444);
                let changed = self.devices[0].edit(|e| e.set_attributes(&spot.seen, &spot.parent, attributes));
                changed.expect("what is seen can be changed");
            }
        }
        assert_eq!(self.devices[0].paths(), before, "touching attributes moves nothing");
        self.meet();
        self.agree();
        assert_eq!(self.devices[0].paths(), before, "touching attributes moves nothing for others");
    }

    fn content(&mut self, there: &[Content]) -> Content {
        if self.chance.percent(30)
            && let Some(content) = self.chance.one(there)
        {
            return content.clone();
        }
        self.written += 1;
        bytes(&format!("v{}", self.written))
    }

    fn wrote(&mut self, content: Content) {
        *self.contents.entry(content).or_default() += 1;
    }

    fn leaf(&mut self) -> &'static str {
        ["a", "b", "c", "d"][self.chance.below(4)]
    }

    fn directory(&mut self, at: usize) -> String {
        let spots = self.devices[at].spots();
        let all: Vec<&String> = spots.iter().filter(|(_, s)| !s.seen.members().is_empty()).map(|(p, _)| p).collect();
        self.chance.one(&all).map(|p| p.to_string()).unwrap_or_default()
    }

    fn operate(&mut self, at: usize) {
        let spots = self.devices[at].spots();
        let is_directory = |s: &Spot| !s.seen.members().is_empty();
        let files: Vec<String> = spots.iter().filter(|(_, s)| !is_directory(s)).map(|(p, _)| p.clone()).collect();
        let hot: Vec<String> = files.iter().filter(|p| is_hot(&spots[*p])).cloned().collect();
        let movable =
            |(path, s): &(&String, &Spot)| is_directory(s) && !path.is_empty() && s.seen.id != FileId::RECOVERED;
        let subs: Vec<String> = spots.iter().filter(movable).map(|(p, _)| p.clone()).collect();
        let directory = self.directory(at);
        let target = format!("{directory}/{}", self.leaf());
        let free = !spots.contains_key(&target);
        let there: Vec<Content> = spots.values().filter_map(|s| s.seen.content().cloned()).collect();
        let content = self.content(&there);
        let file =
            if !hot.is_empty() && self.chance.percent(40) { self.chance.one(&hot) } else { self.chance.one(&files) };
        let sub = self.chance.one(&subs).cloned();
        let mut dice = self.chance.below(100);
        if self.moving && self.chance.percent(50) {
            dice = 68 + self.chance.below(25);
        }
        let before = self.devices[at].paths();
        let mut expected = before.clone();
        let device = &mut self.devices[at];
        match (dice, file.cloned(), sub) {
            (0..20, ..) | (_, None, None) if free => {
                device.make(&target, Some(&text(&content)));
                expected.insert(target, Some(content.clone()));
                self.wrote(content);
            }
            (20..42, Some(path), _) => {
                let id = spots[&path].seen.id;
                let old = spots[&path].seen.content().cloned();
                device.write(&path, &text(&content));
                for (other, spot) in &spots {
                    if spot.seen.id == id {
                        expected.insert(other.clone(), Some(content.clone()));
                    }
                }
                self.gone.extend(old);
                self.wrote(content);
            }
            (42..51, Some(path), _) => {
                self.gone_with_last_name(&spots, &path);
                self.devices[at].remove(&path);
                expected.remove(&path);
            }
            // Made anew where it stands: names and contents stay.
            (51..52, Some(path), _) | (85..86, _, Some(path)) => {
                let spot = spots[&path].clone();
                let replanted = device.edit(|e| e.replant(&spot.seen, &spot.parent, &|_| true, &|_| false));
                replanted.expect("it stands there").expect("nothing is unsealed beside contents that are known");
            }
            (52..64, Some(path), _) if free => {
                device.rename(&path, &target);
                let moved = expected.remove(&path).expect("it is there");
                expected.insert(target, moved);
            }
            (64..68, Some(path), _) => {
                let Some(over) = self.chance.one(&files).cloned() else { return };
                let same_file = spots[&over].seen.file().id == spots[&path].seen.file().id;
                if over == path || same_file {
                    return;
                }
                self.gone_with_last_name(&spots, &over);
                self.devices[at].rename(&path, &over);
                let moved = expected.remove(&path).expect("it is there");
                expected.insert(over, moved);
            }
            (68..74, ..) if free => {
                device.make(&target, None);
                expected.insert(target, None);
            }
            (74..85, _, Some(path)) if free => {
                let into_itself = format!("{directory}/").starts_with(&format!("{path}/"));
                let result = device.try_rename(&path, &target);
                if into_itself {
                    assert_eq!(result, Err(EditError::Loop));
                } else {
                    result.expect("it can be moved");
                    move_all(&mut expected, &path, &target);
                }
            }
            (86..92, _, Some(path)) => {
                let below = format!("{path}/");
                for inside in spots.keys().filter(|p| p.starts_with(&below)) {
                    self.gone_with_last_name_but(&spots, inside, &below);
                }
                self.devices[at].remove_all(&path);
                expected.retain(|p, _| *p != path && !p.starts_with(&below));
            }
            (92..95, Some(path), _) if free => {
                device.link(&path, &target);
                expected.insert(target, before[&path].clone());
            }
            (95..97, Some(path), _) => {
                let Some(other) = self.chance.one(&files).cloned() else { return };
                if spots[&other].seen.file().id == spots[&path].seen.file().id {
                    return;
                }
                let (a, b) = (spots[&path].clone(), spots[&other].clone());
                let swapped = self.devices[at].edit(|e| Ok(((), e.exchange(&a.seen, &a.parent, &b.seen, &b.parent)?)));
                swapped.expect("they can be exchanged");
                expected.insert(path.clone(), before[&other].clone());
                expected.insert(other, before[&path].clone());
            }
            (97..100, Some(path), _) => {
                let spot = spots[&path].clone();
                let mode = u16::try_from(self.chance.below(0o1000)).expect("a mode");
                let changed = device.edit(|e| e.set_attributes(&spot.seen, &spot.parent, attributes(mode)));
                changed.expect("it can be changed");
                assert_eq!(device.spot(&path).seen.attributes().mode, mode);
            }
            _ => return,
        }
        let mut got = self.devices[at].paths();
        for paths in [&mut got, &mut expected] {
            if !paths.keys().any(|p| p.starts_with("/Recovered/")) {
                paths.remove("/Recovered");
            }
        }
        assert_eq!(got, expected, "after an operation with dice {dice} on {:?}: was {before:?}", self.devices[at].no);
    }

    fn gone_with_last_name(&mut self, spots: &BTreeMap<String, Spot>, path: &str) {
        self.gone_with_last_name_but(spots, path, path);
    }

    /// The content shown at `path` goes if no name of its file is left outside of what begins with `except`.
    fn gone_with_last_name_but(&mut self, spots: &BTreeMap<String, Spot>, path: &str, except: &str) {
        let seen = &spots[path].seen;
        let left = spots.iter().any(|(p, s)| s.seen.id == seen.id && !p.starts_with(except));
        if !left {
            self.gone.extend(seen.content().cloned());
        }
    }
}

fn is_hot(spot: &Spot) -> bool {
    let copies = matches!(spot.seen.what, What::Copy { .. } | What::File { copies: 1.., .. });
    copies || spot.seen.name != spot.seen.group
}

fn move_all(paths: &mut Paths, from: &str, to: &str) {
    let below = format!("{from}/");
    let moved: Vec<String> = paths.keys().filter(|p| *p == from || p.starts_with(&below)).cloned().collect();
    for path in moved {
        let value = paths.remove(&path).expect("it is there");
        paths.insert(format!("{to}{}", &path[from.len()..]), value);
    }
}

fn text(content: &Content) -> String {
    match content {
        Content::Inline(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

fn histories(seeds: std::ops::Range<u64>) {
    let mut failed = Vec::new();
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| World::new(seed).run()) {
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            failed.push((seed, said.chars().take(1_500).collect::<String>()));
        }
    }
    let first: Vec<_> = failed.iter().take(5).collect();
    assert!(failed.is_empty(), "{} histories failed, the first of them (seed, what): {first:#?}", failed.len());
}

/// How many histories each test runs: more on demand.
fn count() -> u64 {
    std::env::var("OUROBOX_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_200)
}

#[test]
fn devices_agree_with_each_other_and_with_the_definition() {
    let first = std::env::var("OUROBOX_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    histories(first..first + count());
}

#[test]
fn a_directory_of_kinds_is_listed_by_name() {
    let mut device = Device::new(1);
    for (leaf, kind) in [("f", Kind::File), ("l", Kind::Symlink), ("p", Kind::Fifo), ("d", Kind::Directory)] {
        let leaf = name(leaf);
        let made = device.edit(|e| e.create(&[FileId::ROOT], &leaf, kind, attributes(0o700), None));
        made.expect("it can be made");
    }
    device.check();
    let kinds: Vec<Kind> = device.spots().values().skip(1).map(|s| s.seen.kind()).collect();
    assert_eq!(kinds, [Kind::Directory, Kind::File, Kind::Symlink, Kind::Fifo]);
}
