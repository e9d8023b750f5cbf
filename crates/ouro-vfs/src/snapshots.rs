//! `.snapshots`: a box at any commit as a read-only tree.
//!
//! In the root of every box, hidden from listings unless asked for. Commits are directories named by their time (UTC), the second of a
//! second with `.2` and so on, and those that the user named by that name too; `@5min-ago` and the like are symlinks to the commit that was
//! the newest then.

use crate::listing::dot;
use crate::look::Locus;
use crate::realm::{PAST_FIRST, Realm, SHELF_ITSELF};
use crate::stop::{Errno, Reply};
use crate::table::ViewNo;
use crate::types::{DirectoryEntry, Listed, NodeNo, Stat};
use crate::vfs::Vfs;
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq};
use ouro_core::when::{SAME_SECOND_MAX, parse_ago, parse_shelf, shelf_name};
use ouro_local::volume::{CommitInfo, Snapshot};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The directory's name.
pub(crate) const SHELF_NAME: &[u8] = b".snapshots";

/// Snapshots kept ready; others are built again when they are used.
const READY_MAX: usize = 4;
/// Commits listed, the newest; all others can still be reached by name.
const LISTED_MAX: usize = 1000;
/// How far back the listing looks.
const LISTED_DAYS: u64 = 31;

const SECOND_MS: u64 = 1000;
const DAY_S: u64 = 86_400;

/// A box at a commit, as a realm.
pub(crate) struct Past {
    pub(crate) volume: u32,
    pub(crate) view: ViewNo,
    device: DeviceNo,
    seq: Seq,
}

impl Past {
    /// What tells it from other snapshots of the box, for ever.
    pub(crate) fn identity(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.device.0.to_le_bytes());
        bytes[4..].copy_from_slice(&self.seq.0.to_le_bytes());
        bytes
    }
}

#[derive(Default)]
struct Known {
    by_commit: BTreeMap<(u32, DeviceNo, Seq), Arc<Past>>,
    /// In the order of their views.
    by_view: Vec<Arc<Past>>,
}

/// Snapshots that were looked up or listed in this mount.
#[derive(Default)]
pub(crate) struct Pasts {
    known: Mutex<Known>,
    ready: Mutex<VecDeque<(ViewNo, Arc<Snapshot>)>>,
}

impl Pasts {
    pub(crate) fn get(&self, view: ViewNo) -> Option<Arc<Past>> {
        let index = view.0.checked_sub(PAST_FIRST)? as usize;
        self.known.lock().by_view.get(index).cloned()
    }

    fn of(&self, volume: u32, commit: &CommitInfo) -> Arc<Past> {
        let (device, seq) = (commit.device, commit.seq);
        let mut known = self.known.lock();
        if let Some(past) = known.by_commit.get(&(volume, device, seq)) {
            return Arc::clone(past);
        }
        let past = Arc::new(Past { volume, view: ViewNo(PAST_FIRST + known.by_view.len() as u32), device, seq });
        known.by_commit.insert((volume, device, seq), Arc::clone(&past));
        known.by_view.push(Arc::clone(&past));
        past
    }
}

impl Vfs {
    /// The state at a snapshot's commit.
    pub(crate) fn snapshot(&self, past: &Past) -> Reply<Arc<Snapshot>> {
        if let Some((_, snapshot)) = self.pasts.ready.lock().iter().find(|(view, _)| *view == past.view) {
            return Ok(Arc::clone(snapshot));
        }
        let built = self.volume(past.volume).snapshot(past.device, past.seq);
        let snapshot = built.map_err(|error| self.stop_of(past.volume, error, 0))?;
        let mut ready = self.pasts.ready.lock();
        ready.push_front((past.view, Arc::clone(&snapshot)));
        ready.truncate(READY_MAX);
        Ok(snapshot)
    }

    /// Finds a name on a shelf and counts a kernel lookup.
    pub(crate) fn lookup_shelf(&self, volume: u32, name: &[u8]) -> Reply<Stat> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::NoEntry)?;
        if let Some(seconds) = name.starts_with('@').then(|| parse_ago(name)).flatten() {
            let realm = Realm::Shelf(volume);
            let link = FileId(seconds + 1);
            self.shelf_target(volume, link)?;
            let stat = self.virtual_stat(&realm, link)?;
            self.count(stat.node, &realm, link, None);
            return Ok(stat);
        }
        if let Some((second, ordinal)) = parse_shelf(name) {
            let commits = self.commits_of_second(volume, second, ordinal)?;
            return self.enter_past(volume, commits.get(ordinal - 1).ok_or(Errno::NoEntry)?);
        }
        let named = self.volume(volume).snapshot_named(name).map_err(|error| self.stop_of(volume, error, 0))?;
        self.enter_past(volume, &named.ok_or(Errno::NoEntry)?)
    }

    fn enter_past(&self, volume: u32, commit: &CommitInfo) -> Reply<Stat> {
        let realm = Realm::Past(self.pasts.of(volume, commit));
        let locus = Locus { realm, file: FileId::ROOT, noted: None };
        let stat = self.stat(&locus)?;
        self.count(stat.node, &locus.realm, FileId::ROOT, None);
        Ok(stat)
    }

    fn commits_of_second(&self, volume: u32, second: u64, limit: usize) -> Reply<Vec<CommitInfo>> {
        let from = Hlc::from_millis(second * SECOND_MS);
        let to = Hlc(Hlc::from_millis((second + 1) * SECOND_MS).0 - 1);
        self.volume(volume).commits(from, to, limit).map_err(|error| self.stop_of(volume, error, 0))
    }

    /// Where a `@…-ago` leads now.
    pub(crate) fn shelf_target(&self, volume: u32, link: FileId) -> Reply<Vec<u8>> {
        let seconds = link.0.checked_sub(1).ok_or(Errno::Invalid)?;
        let now_ms = (self.volume(volume).now_ns() / 1_000_000).max(0) as u64;
        let then = now_ms.saturating_sub(seconds.saturating_mul(SECOND_MS));
        let at = Hlc(Hlc::from_millis(then + 1).0 - 1);
        let found = self.volume(volume).commit_before(at).map_err(|error| self.stop_of(volume, error, 0))?;
        let commit = found.ok_or(Errno::NoEntry)?;
        let second = commit.hlc.millis() / SECOND_MS;
        let same = self.commits_of_second(volume, second, SAME_SECOND_MAX)?;
        let ordinal = same.iter().position(|c| (c.device, c.seq) == (commit.device, commit.seq)).unwrap_or(0) + 1;
        Ok(shelf_name(second, ordinal).into_bytes())
    }

    /// Lists a shelf: the newest commits, oldest first. The cookie is the position, since commits are only added.
    pub(crate) fn list_shelf(&self, volume: u32, at: u64, limit: usize) -> Reply<Listed> {
        let mut entries = Vec::new();
        let itself = self.virtual_stat(&Realm::Shelf(volume), SHELF_ITSELF)?;
        if at == 0 {
            entries.push(dot(b".", itself, 1));
        }
        if at <= 1 {
            let above = self.numbering.node(&Realm::Live(volume), FileId::ROOT);
            let node = if self.numbering.alone { NodeNo::ROOT } else { above };
            entries.push(dot(b"..", Stat { node, ..itself }, 2));
        }
        let now_ms = (self.volume(volume).now_ns() / 1_000_000).max(0) as u64;
        let from = Hlc::from_millis(now_ms.saturating_sub(LISTED_DAYS * DAY_S * SECOND_MS));
        let commits = self.volume(volume).commits(from, Hlc(u64::MAX), usize::MAX);
        let commits = commits.map_err(|error| self.stop_of(volume, error, 0))?;
        let newest = commits.len().saturating_sub(LISTED_MAX);
        let (mut second_before, mut ordinal) = (u64::MAX, 0);
        for (position, commit) in (3..).zip(&commits[newest..]) {
            let second = commit.hlc.millis() / SECOND_MS;
            ordinal = if second == second_before { ordinal + 1 } else { 1 };
            second_before = second;
            if position <= at {
                continue;
            }
            if entries.len() >= limit {
                return Ok(Listed { entries, ends: false });
            }
            let realm = Realm::Past(self.pasts.of(volume, commit));
            // The state at the commit is not built for a listing: its root's attributes come with a lookup.
            let stat = Stat { node: self.numbering.node(&realm, FileId::ROOT), ..itself };
            self.count(stat.node, &realm, FileId::ROOT, None);
            let name = shelf_name(second, ordinal).into_bytes().into();
            entries.push(DirectoryEntry { name, stat, cookie: position, looked_up: true });
        }
        Ok(Listed { entries, ends: true })
    }
}
