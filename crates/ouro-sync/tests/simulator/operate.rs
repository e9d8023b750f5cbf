//! What people and programs do on a device.

use crate::contents::{Contents, Truth, name as shown};
use crate::ignored::{Ignored, is_ignored};
use crate::manner::Manner;
use crate::tree::{self, Spot, Spots};
use ouro_core::edit::EditError;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::ledger::Ledger;
use ouro_local::volume::{Volume, VolumeError};
use ouro_testkit::sim::Chance;

pub(crate) const NAMES: [&str; 8] = ["a", "b", "c", "d", "notes.txt", "pic.jpg", "main.rs", "data.db"];
pub(crate) const PARTS: [&str; 4] = ["docs", "src", "old", "x"];

/// One operation on one device.
pub(crate) struct Operation<'a> {
    pub(crate) chance: &'a mut Chance,
    pub(crate) volume: &'a Volume,
    pub(crate) ledger: &'a Ledger,
    pub(crate) truth: &'a Truth,
    pub(crate) contents: &'a mut Contents,
    /// Counts what was written in this history.
    pub(crate) written: &'a mut u64,
    /// Contents written here that a crash may still take.
    pub(crate) fresh: &'a mut Vec<Vec<u8>>,
    /// Contents that this operation replaces or deletes, and whether no other name shows them.
    pub(crate) touched: &'a mut Vec<(Vec<u8>, bool)>,
    /// Files held open by programs.
    pub(crate) open: &'a mut Vec<(FileId, Place)>,
    /// What is seen, without the trash.
    pub(crate) spots: Spots,
    pub(crate) trash: Spots,
    pub(crate) manner: &'a Manner,
    /// Those of this device.
    pub(crate) ignored: &'a mut Ignored,
}

/// What was done, for the trace and for whoever reads a failure.
pub(crate) type Done = Result<String, VolumeError>;

pub(crate) fn attributes(volume: &Volume, mode: u16) -> Attributes {
    let now = volume.now_ns();
    Attributes { mode, mtime_ns: now, ctime_ns: now, rdev: 0, xattrs: vec![] }
}

pub(crate) fn leaf(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a name")
}

impl Operation<'_> {
    /// Does something at random.
    pub(crate) fn any(&mut self) -> Done {
        if self.manner.ignores && self.chance.percent(20) {
            return self.any_ignored();
        }
        if self.manner.throws && self.chance.percent(12) {
            return self.any_thrown();
        }
        match self.chance.below(100) {
            0..4 => self.hold_open(),
            4..7 => self.let_go(),
            7..12 => self.write_to_open(),
            12..22 => self.create(),
            22..34 => self.overwrite(),
            34..44 => self.patch(),
            44..52 => self.rename(),
            52..60 => self.save(),
            60..64 => self.save_aside(),
            64..72 => self.remove(),
            72..80 => self.make_directory(),
            80..87 => self.move_directory(),
            87..91 => self.remove_directory(),
            91..95 => self.link(),
            95..98 => self.change_mode(),
            _ => self.remove_all(),
        }
    }

    fn directories(&self) -> Vec<String> {
        self.spots.iter().filter(|(_, s)| s.is_directory()).map(|(path, _)| path.clone()).collect()
    }

    /// Files that others see too.
    fn files(&self) -> Vec<String> {
        self.spots.iter().filter(|(_, s)| !s.is_directory() && !is_ignored(s)).map(|(path, _)| path.clone()).collect()
    }

    pub(crate) fn any_directory(&mut self) -> (String, Vec<FileId>) {
        let path = self.chance.one(&self.directories()).cloned().unwrap_or_default();
        let members = self.spots[&path].seen.members().to_vec();
        (path, members)
    }

    pub(crate) fn any_file(&mut self) -> Option<(String, Spot)> {
        let path = self.chance.one(&self.files()).cloned()?;
        Some((path.clone(), self.spots[&path].clone()))
    }

    pub(crate) fn any_leaf(&mut self) -> &'static str {
        NAMES[self.chance.below(NAMES.len())]
    }

    /// Bytes that nobody wrote before, or now and then somebody did: seldom more than fit into a record.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        if self.manner.repeats() > 0
            && self.chance.percent(self.manner.repeats())
            && let Some(again) = self.contents.large(self.chance)
        {
            return again;
        }
        *self.written += 1;
        let mut bytes = format!("<{}.{}>", self.volume.device().0, self.written).into_bytes();
        let length = match self.chance.below(20) {
            0..10 => 0,
            10..15 => 200,
            15..19 => 3_000 + self.chance.below(3_000),
            _ => 70_000 + self.chance.below(30_000),
        };
        let mut filling = Chance::new(*self.written);
        while bytes.len() < length {
            bytes.push(b'.');
            bytes.extend_from_slice(&filling.number().to_le_bytes());
        }
        bytes
    }

    pub(crate) fn content(&self, spot: &Spot) -> Vec<u8> {
        self.truth.bytes_at(self.volume, spot)
    }

    /// What is seen there is about to be replaced or deleted by someone who sees it.
    pub(crate) fn leaves(&mut self, spot: &Spot) -> Vec<u8> {
        self.leaves_unless(spot, false)
    }

    /// Nobody may miss it; that it is seen again is no fault if it may come back.
    pub(crate) fn leaves_unless(&mut self, spot: &Spot, may_come_back: bool) -> Vec<u8> {
        let content = self.content(spot);
        self.contents.leaves(content.clone());
        self.touched.push((content.clone(), spot.seen.links() == 1 && !may_come_back));
        content
    }

    pub(crate) fn wrote(&mut self, content: Vec<u8>) {
        self.contents.wrote(&content);
        self.fresh.push(content);
    }

    /// Between two calls the journal's writer may come by: a crash later may find just that.
    pub(crate) fn breathe(&mut self) {
        if self.chance.percent(15) {
            self.ledger.flush(self.ledger.last(), false).expect("the journal is written");
        }
    }

    /// Makes a file and writes it; the caller says that it was written.
    pub(crate) fn make(&mut self, parent: &[FileId], name: &Name, content: &[u8]) -> Result<FileId, VolumeError> {
        let attributes = attributes(self.volume, 0o644);
        let id = self.volume.edit(|e| e.create(parent, name, Kind::File, attributes.clone(), None))?;
        let place = Place { parent: parent[0], name: name.clone() };
        self.breathe();
        self.volume.open(id)?;
        let written = self.volume.write(id, &place, 0, content);
        self.breathe();
        self.volume.close(id)?;
        written?;
        Ok(id)
    }

    fn create(&mut self) -> Done {
        let (path, parent) = self.any_directory();
        let name = self.any_leaf();
        let path = format!("{path}/{name}");
        if self.spots.contains_key(&path) {
            return Ok(String::new());
        }
        let content = self.bytes();
        self.make(&parent, &leaf(name), &content)?;
        let told = format!("create {path} {}", shown(&content));
        self.wrote(content);
        Ok(told)
    }

    fn overwrite(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        self.leaves(&spot);
        let content = self.bytes();
        let (id, place) = (spot.seen.id, spot.place());
        self.volume.open(id)?;
        let mut done = self.volume.truncate(id, &place, 0);
        self.breathe();
        if done.is_ok() {
            done = self.volume.write(id, &place, 0, &content);
        }
        self.breathe();
        self.volume.close(id)?;
        done?;
        let told = format!("overwrite {path} {}", shown(&content));
        self.wrote(content);
        Ok(told)
    }

    /// Writes into a file, at its end or before it, and now and then cuts it.
    fn patch(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        let mut content = self.leaves(&spot);
        let data = self.bytes();
        let (id, place) = (spot.seen.id, spot.place());
        let offset = if self.chance.percent(60) { content.len() } else { self.chance.below(content.len() + 10) };
        self.volume.open(id)?;
        let mut done = self.volume.write(id, &place, offset as u64, &data);
        self.breathe();
        content.resize(content.len().max(offset + data.len()), 0);
        content[offset..offset + data.len()].copy_from_slice(&data);
        if self.chance.percent(20) {
            let length = offset + data.len();
            content.truncate(length);
            if done.is_ok() {
                done = self.volume.truncate(id, &place, length as u64);
            }
        }
        self.volume.close(id)?;
        done?;
        let told = format!("patch {path} at {offset}: {}", shown(&content));
        self.wrote(content);
        Ok(told)
    }

    fn rename(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        let (target, to) = self.any_directory();
        let name = self.any_leaf();
        let target = format!("{target}/{name}");
        let over = self.spots.get(&target).cloned();
        if over.as_ref().is_some_and(Spot::is_directory) || target == path {
            return Ok(String::new());
        }
        if let Some(over) = over.as_ref().filter(|over| over.seen.id != spot.seen.id) {
            self.leaves(over);
        }
        self.move_to(&spot, &to, &leaf(name), over.as_ref())?;
        Ok(format!("rename {path} {target}{}", if over.is_some() { " over a file" } else { "" }))
    }

    pub(crate) fn move_to(
        &self,
        spot: &Spot,
        to: &[FileId],
        name: &Name,
        over: Option<&Spot>,
    ) -> Result<(), VolumeError> {
        let over = over.map(|over| &over.seen);
        self.volume.edit(|e| e.rename(&spot.seen, &spot.parent, to, name, over)).map(|_| ())
    }

    /// An atomic save: a new file beside it, renamed over it.
    fn save(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        let content = self.bytes();
        // A name that a crash in the middle of an earlier save did not leave behind.
        let temporary = format!("saving-{}-{}", self.volume.device().0, self.written);
        self.leaves(&spot);
        self.make(&spot.parent, &leaf(&temporary), &content)?;
        self.breathe();
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let made = self.again()?[&format!("{directory}/{temporary}")].clone();
        self.move_to(&made, &spot.parent, &spot.seen.name, Some(&spot))?;
        let told = format!("save {path} {}", shown(&content));
        self.wrote(content);
        Ok(told)
    }

    /// The other atomic save: the old one moved aside, a new one made, the old one deleted.
    fn save_aside(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        let aside = format!("{path}.aside");
        let name = format!("{}.aside", spot.seen.name.display());
        if self.spots.contains_key(&aside) || spot.seen.name.as_bytes().len() > 60 {
            return Ok(String::new());
        }
        self.leaves(&spot);
        let content = self.bytes();
        self.move_to(&spot, &spot.parent, &leaf(&name), None)?;
        self.breathe();
        self.make(&spot.parent, &spot.seen.name, &content)?;
        let old = self.again()?[&aside].clone();
        self.volume.edit(|e| Ok(((), e.remove(&old.seen, &old.parent)?)))?;
        let told = format!("save-aside {path} {}", shown(&content));
        self.wrote(content);
        Ok(told)
    }

    fn again(&self) -> Result<Spots, VolumeError> {
        Ok(tree::spots(self.volume)?)
    }

    fn remove(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        self.remove_at(&spot)?;
        Ok(format!("remove {path}"))
    }

    fn make_directory(&mut self) -> Done {
        let (path, parent) = self.any_directory();
        let name = PARTS[self.chance.below(PARTS.len())];
        let path = format!("{path}/{name}");
        if self.spots.contains_key(&path) || path.matches('/').count() > 4 {
            return Ok(String::new());
        }
        let attributes = attributes(self.volume, 0o755);
        self.volume.edit(|e| e.create(&parent, &leaf(name), Kind::Directory, attributes.clone(), None))?;
        Ok(format!("mkdir {path}"))
    }

    fn move_directory(&mut self) -> Done {
        let (path, _) = self.any_directory();
        if path.is_empty() {
            return Ok(String::new());
        }
        let spot = self.spots[&path].clone();
        let (target, to) = self.any_directory();
        let name = PARTS[self.chance.below(PARTS.len())];
        let target = format!("{target}/{name}");
        if self.spots.contains_key(&target) || format!("{target}/").starts_with(&format!("{path}/")) {
            return Ok(String::new());
        }
        self.move_to(&spot, &to, &leaf(name), None)?;
        Ok(format!("move {path} {target}"))
    }

    fn remove_directory(&mut self) -> Done {
        let (path, _) = self.any_directory();
        if path.is_empty() {
            return Ok(String::new());
        }
        let spot = self.spots[&path].clone();
        self.remove_at(&spot)?;
        Ok(format!("rmdir {path}"))
    }

    /// As `rm -r` does.
    fn remove_all(&mut self) -> Done {
        let (path, _) = self.any_directory();
        if path.is_empty() {
            return Ok(String::new());
        }
        self.remove_below(&path)?;
        Ok(format!("rm -r {path}"))
    }

    /// Removes what stands at a path, with all below.
    pub(crate) fn remove_below(&mut self, path: &str) -> Result<(), VolumeError> {
        for _ in 0..200 {
            let spots = self.again()?;
            let inside = spots.iter().filter(|(at, _)| **at == path || at.starts_with(&format!("{path}/")));
            // The deepest of them is empty.
            let Some((_, deepest)) = inside.max_by_key(|(at, _)| at.matches('/').count()) else { break };
            let deepest = deepest.clone();
            self.remove_at(&deepest)?;
        }
        Ok(())
    }

    /// A program opens a file and keeps it open.
    fn hold_open(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        self.volume.open(spot.seen.id)?;
        self.open.push((spot.seen.id, spot.place()));
        Ok(format!("open {path}"))
    }

    fn let_go(&mut self) -> Done {
        if self.open.is_empty() {
            return Ok(String::new());
        }
        let (id, place) = self.open.swap_remove(self.chance.below(self.open.len()));
        self.volume.close(id)?;
        Ok(format!("close {:?}", place.name))
    }

    /// Appends to a file that is open: what it has become, or what nobody sees any more.
    fn write_to_open(&mut self) -> Done {
        let Some((id, place)) = self.chance.one(self.open).cloned() else { return Ok(String::new()) };
        let data = self.bytes();
        if let Some(orphan) = self.volume.orphan(id) {
            self.volume.write(id, &place, orphan.size, &data)?;
            return Ok(format!("write to unlinked {:?}", place.name));
        }
        let Some((path, spot)) = self.spots.iter().find(|(_, s)| s.seen.id == id && !s.is_directory()) else {
            return Ok(String::new());
        };
        let (path, spot) = (path.clone(), spot.clone());
        let mut content = self.leaves(&spot);
        self.volume.write(id, &spot.place(), content.len() as u64, &data)?;
        self.breathe();
        content.extend_from_slice(&data);
        let told = format!("write to open {path}: {}", shown(&content));
        self.wrote(content);
        Ok(told)
    }

    fn link(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        let (target, to) = self.any_directory();
        let name = self.any_leaf();
        let target = format!("{target}/{name}");
        if self.spots.contains_key(&target) {
            return Ok(String::new());
        }
        self.volume.edit(|e| e.link(&spot.seen, &spot.parent, &to, &leaf(name)))?;
        Ok(format!("link {path} {target}"))
    }

    fn change_mode(&mut self) -> Done {
        let Some((path, spot)) = self.any_file() else { return Ok(String::new()) };
        let mut attributes = spot.seen.attributes();
        attributes.mode = if self.chance.percent(50) { 0o600 } else { 0o755 };
        self.volume.cool(spot.seen.id)?;
        self.volume.edit(|e| e.set_attributes(&spot.seen, &spot.parent, attributes.clone()))?;
        Ok(format!("chmod {path}"))
    }
}

/// Whether an operation may end like this: it met something else than it expected.
pub(crate) fn is_refusal(error: &VolumeError) -> bool {
    matches!(error, VolumeError::Edit(e) if !matches!(e, EditError::Missing(_))) || matches!(error, VolumeError::Gone)
}
