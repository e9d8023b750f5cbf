//! Listings: directories read entry by entry, with attributes.

use crate::cookies::{Given, Resume, cookie};
use crate::look::{Halt, Locus, Look};
use crate::permission::Judge;
use crate::realm::{Realm, SHELF_ITSELF};
use crate::snapshots::SHELF_NAME;
use crate::stop::{Errno, Reply, Stop};
use crate::types::{ACCESS_READ, Caller, DirectoryEntry, NodeNo, Stat};
use crate::vfs::Vfs;
use ouro_core::id::FileId;
use ouro_core::render::{self, Seen};
use ouro_core::state::Place;

/// Most entries of one answer.
const ENTRIES_MAX: usize = 4096;
const DOT: u32 = 1;
const DOT_DOT: u32 = 2;
const SHELF: u32 = 3;

/// Entries of a directory as they are found.
struct Found {
    itself: Stat,
    entries: Vec<(Seen, Stat)>,
    /// The directory above, if it is in the same realm.
    above: Option<FileId>,
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

    /// Lists a directory from behind `cookie` (0: from the beginning), at least `limit` entries (up to 4,096) while
    /// there are so many; none at the end. Attributes are always filled in, and every entry but `.` and `..` counts as one kernel lookup.
    ///
    /// Entries may come and go between calls: each one that stays is listed exactly once. No directory has to be opened: whoever may read it is
    /// judged at the beginning, and where to go on is all in the cookie.
    ///
    /// # Errors
    /// [`Errno::NotDirectory`], [`Errno::Access`].
    pub fn readdir(&self, caller: &Caller, node: NodeNo, at: u64, limit: usize) -> Reply<Vec<DirectoryEntry>> {
        let locus = self.locus(node)?;
        let limit = limit.clamp(1, ENTRIES_MAX);
        match locus.realm {
            Realm::Top => self.list_boxes(at, limit),
            Realm::Shelf(volume) => self.list_shelf(volume, at, limit),
            Realm::Live(_) | Realm::Past(_) => self.list(caller, &locus, at, limit),
        }
    }

    fn list(&self, caller: &Caller, locus: &Locus, at: u64, limit: usize) -> Reply<Vec<DirectoryEntry>> {
        let resume = {
            let mut cookies = self.cookies.lock();
            if at == 0 {
                Resume { position: DOT, listing: cookies.begin(), ..Resume::default() }
            } else {
                cookies.resume(at)
            }
        };
        let judge = self.judge(caller);
        let found = match self.look(&locus.realm, |look| find_entries(look, &judge, locus, &resume, limit)) {
            // Removed while it is open: there is nothing in it.
            Err(Stop::Errno(Errno::NoEntry)) => return Ok(Vec::new()),
            other => other?,
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
        self.give(resume.listing, position, found, &mut entries);
        if entries.is_empty() {
            self.cookies.lock().end(resume.listing);
        }
        Ok(entries)
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

    fn list_boxes(&self, at: u64, limit: usize) -> Reply<Vec<DirectoryEntry>> {
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
        Ok(entries)
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
    limit: usize,
) -> Result<Found, Halt> {
    let (standing, itself) = look.directory(locus)?;
    if resume.position == DOT {
        judge.may(&itself, ACCESS_READ)?;
    }
    let members = standing.seen.members();
    let hides_shelf = locus.file == FileId::ROOT && matches!(locus.realm, Realm::Live(_));
    let mut entries: Vec<(Seen, Stat)> = Vec::new();
    let (mut after, mut skip) = (resume.after.clone(), resume.skip as usize);
    while entries.len() < limit {
        let want = limit - entries.len() + skip.min(ENTRIES_MAX);
        let page = render::list(look.rows, look.devices, members, after.as_ref(), want)?;
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
            None => break,
        }
    }
    // Counted while the state is held: see `Vfs::enter`.
    let parent = standing.seen.id;
    let listed = entries.iter().map(|(seen, stat)| (stat.node, seen.id, Place { parent, name: seen.name.clone() }));
    look.vfs.table.lock().count_all(locus.realm.view(), listed.collect());
    Ok(Found { itself, entries, above: standing.union.first().copied() })
}
