//! Rows and names by definition: slow, at once, from a plain map of what is alive.

use ouro_core::content::Content;
use ouro_core::delta::{Delta, Register};
use ouro_core::digest::Digest;
use ouro_core::id::{FileId, Version};
use ouro_core::name::Name;
use ouro_core::row::{Header, Key, Row};
use ouro_core::state::{AttributesVersion, ContentVersion, File, Kind, Place, Placement};
use ouro_core::time::minute;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is alive.
pub(crate) type State = BTreeMap<FileId, File>;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name of the test")
}

/// Adds and removes versions as a commit says.
pub(crate) fn commit(state: &mut State, delta: &Delta, version: Version) {
    for d in &delta.files {
        let file = state.entry(d.id).or_insert_with(|| File::new(d.id, d.kind));
        for (register, old) in &d.replaced {
            match register {
                Register::Placement { slot } => file.placements.retain(|p| p.slot != *slot || p.version != *old),
                Register::Content => file.contents.retain(|c| c.version != *old),
                Register::Attributes => file.attributes.retain(|a| a.version != *old),
            }
        }
        for p in d.placements.clone() {
            let (place, was) = (p.place, p.was);
            file.placements.push(Placement {
                slot: p.slot,
                version,
                place,
                was,
                by_rule: p.by_rule,
                removed: p.removed,
            });
        }
        if let Some(c) = d.content.clone() {
            file.contents.push(ContentVersion { version, value: c.value, at: c.at, by_rule: c.by_rule });
        }
        if let Some(value) = d.attributes.clone() {
            file.attributes.push(AttributesVersion { version, value });
        }
        file.normalize();
        if file.is_gone() {
            state.remove(&d.id);
        }
    }
}

pub(crate) fn digest(state: &State) -> Digest {
    state.values().fold(Digest::default(), |sum, file| sum.plus(Digest::of_file(file)))
}

fn best<'a>(placements: impl Iterator<Item = &'a Placement>) -> &'a Placement {
    placements.max_by_key(|p| (!p.by_rule, !p.removed, p.version)).expect("a slot has a placement")
}

struct Dir {
    place: Place,
    was: Option<Place>,
    version: Version,
    removed: bool,
    cut: bool,
}

/// One content of a file: equal ones together.
struct Bytes {
    value: Content,
    versions: Vec<Version>,
    at: Place,
}

/// Winner first.
fn contents(file: &File) -> Vec<Bytes> {
    let users: Vec<&ContentVersion> = file.contents.iter().filter(|c| !c.by_rule).collect();
    let chosen = if users.is_empty() { file.contents.iter().collect() } else { users };
    let mut groups: Vec<Bytes> = Vec::new();
    for c in chosen {
        let Some(value) = c.value.clone() else { continue };
        let equal = groups.iter_mut().find(|g| g.value == value && !matches!(value, Content::Pending { .. }));
        if let Some(group) = equal {
            group.versions.push(c.version);
            group.at = c.at.clone();
        } else {
            groups.push(Bytes { value, versions: vec![c.version], at: c.at.clone() });
        }
    }
    groups.sort_by_key(|g| g.versions.last().copied());
    groups.reverse();
    groups
}

/// Everything that is decided about a state.
pub(crate) struct View<'a> {
    state: &'a State,
    dirs: BTreeMap<FileId, Dir>,
    /// (slot, version, natural place) of each file that is shown.
    stands: BTreeMap<FileId, Vec<(u64, Version, Place)>>,
    visible: BTreeSet<FileId>,
}

impl<'a> View<'a> {
    pub(crate) fn of(state: &'a State) -> View<'a> {
        let mut dirs = BTreeMap::new();
        for file in state.values().filter(|f| f.kind == Kind::Directory && f.id != FileId::ROOT) {
            let p = best(file.placements.iter());
            let removed = file.placements.iter().any(|p| p.removed);
            let dir = Dir { place: p.place.clone(), was: p.was.clone(), version: p.version, removed, cut: false };
            dirs.insert(file.id, dir);
        }
        let place = Place { parent: FileId::ROOT, name: name("Recovered") };
        let recovered = Dir { place, was: None, version: Version::PENDING, removed: true, cut: false };
        dirs.insert(FileId::RECOVERED, recovered);
        cut_cycles(&mut dirs);
        let known: BTreeSet<FileId> = dirs.keys().copied().chain([FileId::ROOT]).collect();
        for dir in dirs.values_mut().filter(|d| !known.contains(&d.place.parent)) {
            dir.place.parent = FileId::RECOVERED;
            dir.cut = true;
        }
        let mut stands = BTreeMap::new();
        for file in state.values().filter(|f| f.kind != Kind::Directory) {
            let Some(winner) = contents(file).into_iter().next() else { continue };
            let mut slots: BTreeMap<u64, Vec<&Placement>> = BTreeMap::new();
            file.placements.iter().for_each(|p| slots.entry(p.slot).or_default().push(p));
            let mut all: Vec<(u64, Version, Place)> = Vec::new();
            for (slot, siblings) in slots {
                let p = best(siblings.into_iter());
                all.push((slot, p.version, p.place.clone()));
            }
            if all.is_empty() {
                all.push((0, *winner.versions.last().expect("not empty"), winner.at));
            }
            for (_, _, place) in &mut all {
                if !known.contains(&place.parent) {
                    place.parent = FileId::RECOVERED;
                }
            }
            stands.insert(file.id, all);
        }
        let mut view = View { state, dirs, stands, visible: BTreeSet::new() };
        let occupied: BTreeSet<FileId> = view.stands.values().flatten().map(|(_, _, place)| place.parent).collect();
        let mut visible: BTreeSet<FileId> =
            view.dirs.iter().filter(|(d, dir)| !dir.removed || occupied.contains(d)).map(|(d, _)| *d).collect();
        loop {
            let parents: Vec<FileId> = visible.iter().map(|d| view.dirs[d].place.parent).collect();
            let before = visible.len();
            visible.extend(parents.into_iter().filter(|p| *p != FileId::ROOT));
            if visible.len() == before {
                break;
            }
        }
        view.visible = visible;
        view
    }

    /// The rows as crate::row defines them.
    pub(crate) fn rows(&self) -> BTreeMap<Key, Row> {
        let mut rows = BTreeMap::new();
        for file in self.state.values() {
            let record = Row::Record(Arc::new(file.clone()));
            if file.kind == Kind::Directory {
                let mut home = Key::homeless(file.id);
                if let Some(dir) = self.dirs.get(&file.id) {
                    let header = Header { shown: dir.place.clone(), removed: dir.removed, cut: dir.cut };
                    rows.insert(Key::header(file.id), Row::Header(header));
                    let here = Key::at(&dir.place, file.id, 0);
                    if file.placements.len() == 1 && !dir.removed && !dir.cut {
                        home = here;
                    } else if self.visible.contains(&file.id) {
                        rows.insert(here, Row::Reference(Kind::Directory));
                    }
                    if dir.cut {
                        let cut = Place { parent: FileId::HOMELESS, name: name("cut") };
                        rows.insert(Key::at(&cut, file.id, 0), Row::Reference(Kind::Directory));
                    }
                }
                rows.insert(home, record);
                continue;
            }
            let known = |p: &Place| p.parent == FileId::ROOT || self.dirs.contains_key(&p.parent);
            if let [only] = file.placements.as_slice()
                && known(&only.place)
            {
                rows.insert(Key::at(&only.place, file.id, only.slot), record);
                continue;
            }
            rows.insert(Key::homeless(file.id), record);
            for (slot, _, place) in self.stands.get(&file.id).into_iter().flatten() {
                rows.insert(Key::at(place, file.id, *slot), Row::Reference(file.kind));
            }
        }
        if self.visible.contains(&FileId::RECOVERED) {
            let place = &self.dirs[&FileId::RECOVERED].place;
            rows.insert(Key::at(place, FileId::RECOVERED, 0), Row::Reference(Kind::Directory));
        }
        rows
    }

    /// Every path with the id and content shown there; directories have none. `own` is the number for what is pending.
    pub(crate) fn shown(&self, own: u32) -> BTreeMap<String, (FileId, Option<Content>)> {
        let mut paths = BTreeMap::new();
        let mut todo = vec![(String::new(), vec![FileId::ROOT])];
        while let Some((path, union)) = todo.pop() {
            for (name, id, content, members) in self.listing(&union, own) {
                let path = format!("{path}/{name}");
                assert!(paths.insert(path.clone(), (id, content)).is_none(), "two things at {path}");
                if !members.is_empty() {
                    todo.push((path, members));
                }
            }
        }
        paths
    }

    fn listing(&self, union: &[FileId], own: u32) -> Vec<(String, FileId, Option<Content>, Vec<FileId>)> {
        type File = (Version, FileId, u64, Content);
        let mut dirs: BTreeMap<String, Vec<(bool, FileId)>> = BTreeMap::new();
        let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
        let mut derived: Vec<(String, Version, FileId, u64, Content)> = Vec::new();
        for (id, dir) in self.dirs.iter().filter(|(id, d)| union.contains(&d.place.parent) && self.visible.contains(id))
        {
            dirs.entry(dir.place.name.display()).or_default().push((dir.removed, *id));
        }
        for (id, stands) in &self.stands {
            let all = contents(&self.state[id]);
            for (i, (slot, version, place)) in stands.iter().enumerate() {
                if !union.contains(&place.parent) {
                    continue;
                }
                let natural = place.name.display();
                if i == 0 {
                    for copy in &all[1..] {
                        let id = copy_id(*id, copy.versions[0]);
                        let derivation = derive(&natural, copy.versions[0], own);
                        derived.push((derivation, copy.versions[0], id, 0, copy.value.clone()));
                    }
                }
                files.entry(natural).or_default().push((*version, *id, *slot, all[0].value.clone()));
            }
        }
        let mut taken: BTreeSet<String> = dirs.keys().chain(files.keys()).cloned().collect();
        let mut shown = Vec::new();
        for (natural, mut here) in files {
            here.sort_by_key(|(version, id, slot, _)| std::cmp::Reverse((*version, *id, *slot)));
            let mut different: Vec<Content> = Vec::new();
            for (i, (version, id, slot, content)) in here.into_iter().enumerate() {
                if different.contains(&content) {
                    continue;
                }
                different.push(content.clone());
                if i == 0 && !dirs.contains_key(&natural) {
                    shown.push((natural.clone(), id, Some(content), vec![]));
                } else {
                    derived.push((derive(&natural, version, own), version, id, slot, content));
                }
            }
        }
        for (natural, mut members) in dirs {
            members.sort_unstable();
            shown.push((natural, members[0].1, None, members.iter().map(|m| m.1).collect()));
        }
        derived.sort_by(|a, b| (&a.0, a.1, a.2, a.3).cmp(&(&b.0, b.1, b.2, b.3)));
        for (derivation, _, id, _, content) in derived {
            let numbered = |n: u32| if n == 1 { derivation.clone() } else { format!("{derivation}-{n}") };
            let name = (1..).map(numbered).find(|name| !taken.contains(name)).expect("numbers do not end");
            taken.insert(name.clone());
            shown.push((name, id, Some(content), vec![]));
        }
        shown
    }
}

/// The names in the tests have no extension, so the suffix is what follows the first mark.
fn derive(natural: &str, version: Version, own: u32) -> String {
    let base = natural.split(" (conflict from ").next().unwrap_or_default();
    if version.is_pending() {
        return format!("{base} (conflict from D{own} unsynced)");
    }
    format!("{base} (conflict from D{} {})", version.device.0, minute(version.hlc.millis()))
}

fn copy_id(file: FileId, version: Version) -> FileId {
    let mut bytes = file.0.to_le_bytes().to_vec();
    bytes.extend(version.hlc.0.to_le_bytes());
    bytes.extend(version.device.0.to_le_bytes());
    bytes.extend(version.seq.0.to_le_bytes());
    let hash = blake3::hash(&bytes);
    FileId::derived(u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes")))
}

fn cut_cycles(dirs: &mut BTreeMap<FileId, Dir>) {
    while let Some(cycle) = find_cycle(dirs) {
        let back = cycle.iter().filter(|d| {
            let dir = &dirs[d];
            !dir.cut && dir.was.as_ref().is_some_and(|was| was.parent != dir.place.parent)
        });
        if let Some(id) = back.max_by_key(|d| (dirs[d].version, **d)).copied() {
            let dir = dirs.get_mut(&id).expect("a member");
            dir.place = dir.was.clone().expect("it has one");
            dir.cut = true;
        } else {
            let id = *cycle.iter().max_by_key(|d| (dirs[d].version, **d)).expect("not empty");
            let dir = dirs.get_mut(&id).expect("a member");
            dir.place.parent = FileId::RECOVERED;
            dir.cut = true;
        }
    }
}

fn find_cycle(dirs: &BTreeMap<FileId, Dir>) -> Option<Vec<FileId>> {
    for &start in dirs.keys() {
        let mut path = vec![start];
        let mut at = dirs[&start].place.parent;
        while dirs.contains_key(&at) {
            if let Some(first) = path.iter().position(|&d| d == at) {
                return Some(path[first..].to_vec());
            }
            path.push(at);
            at = dirs[&at].place.parent;
        }
    }
    None
}
