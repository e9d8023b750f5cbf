//! Listings: directories read entry by entry, with attributes.

use crate::ahead::Ready;
use crate::cookies::{FIRST_POSITION, Given, Resume, cookie};
use crate::look::{Halt, Locus, Look};
use crate::permission::Judge;
use crate::realm::{Realm, SHELF_ITSELF};
use crate::snapshots::SHELF_NAME;
use crate::stop::{Errno, Reply, Stop};
use crate::types::{ACCESS_READ, Caller, DirectoryEntry, Listed, NodeNo, Stat};
use crate::vfs::Vfs;
use ouro_core::id::FileId;
use ouro_core::render::{self, Seen};
use ouro_core::state::{Kind, Place};

/// Most entries of one answer.
const ENTRIES_MAX: usize = 4096;
/// Entries of a listing that is made ready: what the kernel has room for.
const READY_ENTRIES: usize = 160;
const DOT: u32 = 1;
const DOT_DOT: u32 = 2;
const SHELF: u32 = 3;

/// Entries of a directory as they are found.
struct Found {
    itself: Stat,
    entries: Vec<(Seen, Stat)>,
    /// The directory above, if it is in the same realm.
    above: Option<FileId>,
    /// Nothing follows them, and in which state.
    ends: bool,
    turn: u64,
}

impl Vfs {
    /// Makes everything in the box so far durable on this device. Blocks for some milliseconds.
    ///
    /// # Errors
    /// A failing disk or journal.
    pub fn fsyncdir(&self, node: NodeNo, _data_only: bool) -> Reply<()> {
        match self.locus(node)?.realm {
            Realm::Live(volume) => self.volume(volume).flush(true).map_err(|error| self.stop_of(volume, error, 0)),
            _ => Ok(()),
        }
    }

    /// Lists a directory from behind `cookie` (0: from the beginning), at least `limit` entries (up to 4,096) while there are so many, and
    /// 160 if the listing was made ready; none at the end. Attributes are always filled in, and every entry but `.` and `..` counts as one
    /// kernel lookup.
    ///
    /// Entries may come and go between calls: each one that stays is listed exactly once. No directory has to be opened: whoever may read it is
    /// judged at the beginning, and where to go on is all in the cookie.
    ///
    /// # Errors
    /// [`Errno::NotDirectory`], [`Errno::Access`].
    pub fn readdir(&self, caller: &Caller, node: NodeNo, at: u64, limit: usize) -> Reply<Listed> {
        let locus = self.locus(node)?;
        let limit = limit.clamp(1, ENTRIES_MAX);
        match locus.realm {
            Realm::Top => self.list_boxes(at, limit),
            Realm::Shelf(volume) => self.list_shelf(volume, at, limit),
            Realm::Live(_) | Realm::Past(_) => self.list(caller, node, &locus, at, limit),
        }
    }

    fn list(&self, caller: &Caller, node: NodeNo, locus: &Locus, at: u64, limit: usize) -> Reply<Listed> {
        let resume = {
            let mut cookies = self.cookies.lock();
            if at == 0 {
                Resume { position: DOT, listing: cookies.begin(), ..Resume::default() }
            } else {
                cookies.resume(at)
            }
        };
        let judge = self.judge(caller);
        let ready = if at == 0 { self.ahead.lock().begin(node) } else { None };
        let found = self.look(&locus.realm, |look| {
            let is_over = resume.ended == Some(look.turn());
            if is_over { Ok(None) } else { find_entries(look, &judge, locus, &resume, ready, limit).map(Some) }
        });
        let found = match found {
            // Removed while it is open: there is nothing in it.
            Err(Stop::Errno(Errno::NoEntry)) => return Ok(Listed { entries: Vec::new(), ends: true }),
            other => other?,
        };
        let Some(found) = found else {
            self.cookies.lock().end(resume.listing);
            return Ok(Listed { entries: Vec::new(), ends: true });
        };
        let mut entries = Vec::with_capacity(found.entries.len() + 3);
        let mut position = resume.position;
        if position == DOT {
            entries.push(dot(b".", found.itself, cookie(resume.listing, DOT)));
            position = DOT_DOT;
        }
        if position == DOT_DOT {
            let stat = Stat { node: self.above(locus, found.above), ..found.itself };
            entries.push(dot(b"..", stat, cookie(resume.listing, DOT_DOT)));
            position = SHELF;
        }
        if position == SHELF {
            entries.extend(self.shelf_entry(locus, cookie(resume.listing, SHELF)));
            position += 1;
        }
        let ends = found.ends;
        self.meet(node, &found);
        self.give(resume.listing, position, found, &mut entries);
        if entries.is_empty() {
            self.cookies.lock().end(resume.listing);
        }
        Ok(Listed { entries, ends })
    }

    /// Notes which directories a listing shows.
    fn meet(&self, node: NodeNo, found: &Found) {
        let mut directories = found.entries.iter().filter(|(_, stat)| stat.kind == Kind::Directory).peekable();
        if directories.peek().is_some() {
            let mut ahead = self.ahead.lock();
            directories.for_each(|(_, stat)| ahead.met(node, stat.node));
        }
    }

    /// Makes the listing ready that is likely to be asked for next, if any is. To be called when a listing has ended and its reader has been
    /// told: it is busy with that for longer than this takes.
    ///
    /// # Errors
    /// As [`Vfs::readdir`]; nothing is ready then.
    pub fn ready_next(&self) -> Reply<()> {
        let Some(node) = self.ahead.lock().wanted() else { return Ok(()) };
        let locus = self.locus(node)?;
        let ready = self.look(&locus.realm, |look| {
            let (standing, _) = look.directory(&locus)?;
            let page = render::list(look.rows, look.devices, standing.seen.members(), None, READY_ENTRIES)?;
            Ok(Ready { node, turn: look.turn(), standing, page })
        })?;
        self.ahead.lock().keep(ready);
        Ok(())
    }

    fn give(&self, mut listing: u32, mut position: u32, found: Found, entries: &mut Vec<DirectoryEntry>) {
        let mut rest = found.entries.into_iter().peekable();
        let mut cookies = self.cookies.lock();
        while let Some((seen, stat)) = rest.next() {
            let last = rest.peek().is_none_or(|(next, _)| next.group != seen.group);
            let name = seen.name.as_bytes().into();
            let derived = (seen.name != seen.group).then_some(seen.name);
            listing = cookies.give(listing, position, Given { group: seen.group, derived, last });
            entries.push(DirectoryEntry { name, stat, cookie: cookie(listing, position), looked_up: true });
            position += 1;
        }
        if found.ends && position > FIRST_POSITION {
            cookies.ends(listing, position - 1, found.turn);
        }
    }

    /// The number of the directory above.
    fn above(&self, locus: &Locus, above: Option<FileId>) -> NodeNo {
        match (&locus.realm, above) {
            (realm, Some(above)) => self.numbering.node(realm, above),
            (Realm::Past(past), None) => self.numbering.node(&Realm::Shelf(past.volume), SHELF_ITSELF),
            _ => NodeNo::ROOT,
        }
    }

    fn shelf_entry(&self, locus: &Locus, cookie: u64) -> Option<DirectoryEntry> {
        let Realm::Live(volume) = locus.realm else { return None };
        if !self.options.show_snapshots || locus.file != FileId::ROOT {
            return None;
        }
        let realm = Realm::Shelf(volume);
        let stat = self.virtual_stat(&realm, SHELF_ITSELF).ok()?;
        self.count(stat.node, &realm, SHELF_ITSELF, None);
        Some(DirectoryEntry { name: SHELF_NAME.into(), stat, cookie, looked_up: true })
    }

    fn list_boxes(&self, at: u64, limit: usize) -> Reply<Listed> {
        let mut entries = Vec::new();
        let top = self.virtual_stat(&Realm::Top, FileId::ROOT)?;
        for position in at + 1..=(self.boxes.len() as u64 + 2) {
            if entries.len() >= limit {
                break;
            }
            if position <= 2 {
                let name: &[u8] = if position == 1 { b"." } else { b".." };
                entries.push(dot(name, top, position));
                continue;
            }
            let number = (position - 3) as u32;
            let locus = Locus { realm: Realm::Live(number), file: FileId::ROOT, noted: None };
            let stat = self.stat(&locus)?;
            self.count(stat.node, &locus.realm, FileId::ROOT, None);
            let name = self.boxes[number as usize].name.as_bytes().into();
            entries.push(DirectoryEntry { name, stat, cookie: position, looked_up: true });
        }
        let ends = entries.len() < limit;
        Ok(Listed { entries, ends })
    }
}

/// An entry that is no lookup.
pub(crate) fn dot(name: &[u8], stat: Stat, cookie: u64) -> DirectoryEntry {
    DirectoryEntry { name: name.into(), stat, cookie, looked_up: false }
}

fn find_entries(
    look: &Look<'_>,
    judge: &Judge<'_>,
    locus: &Locus,
    resume: &Resume,
    ready: Option<Ready>,
    limit: usize,
) -> Result<Found, Halt> {
    let (turn, mut ends) = (look.turn(), false);
    let (standing, itself, mut first) = match ready.filter(|ready| ready.turn == turn) {
        Some(ready) => {
            let itself = look.stat(&ready.standing.seen);
            (ready.standing, itself, Some(ready.page))
        }
        None => {
            let (standing, itself) = look.directory(locus)?;
            (standing, itself, None)
        }
    };
    if resume.position == DOT {
        judge.may(&itself, ACCESS_READ)?;
    }
    let members = standing.seen.members();
    let hides_shelf = locus.file == FileId::ROOT && matches!(locus.realm, Realm::Live(_));
    let mut entries: Vec<(Seen, Stat)> = Vec::new();
    let (mut after, mut skip) = (resume.after.clone(), resume.skip as usize);
    while entries.len() < limit {
        let want = limit - entries.len() + skip.min(ENTRIES_MAX);
        let page = match first.take() {
            Some(page) => page,
            None => render::list(look.rows, look.devices, members, after.as_ref(), want)?,
        };
        for seen in page.entries {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let shelf = hides_shelf && seen.name.as_bytes() == SHELF_NAME;
            if shelf || resume.given.contains(&seen.name) {
                continue;
            }
            let stat = look.stat(&seen);
            entries.push((seen, stat));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => {
                ends = true;
                break;
            }
        }
    }
    // Counted while the state is held: see `Vfs::enter`.
    let parent = standing.seen.id;
    let listed = entries.iter().map(|(seen, stat)| (stat.node, seen.id, Place { parent, name: seen.name.clone() }));
    look.vfs.table.lock().count_all(locus.realm.view(), listed.collect());
    Ok(Found { itself, entries, above: standing.union.first().copied(), ends, turn })
}
