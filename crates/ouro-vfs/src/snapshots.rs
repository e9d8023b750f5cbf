//! `.snapshots`: a box at any commit as a read-only tree.
//!
//! In the root of every box, hidden from listings unless asked for. Commits are directories named by their time (UTC), the second of a
//! second with `.2` and so on; `@5min-ago` and the like are symlinks to the commit that was the newest then.

use crate::listing::dot;
use crate::look::Locus;
use crate::realm::{PAST_FIRST, Realm, SHELF_ITSELF};
use crate::stop::{Errno, Reply};
use crate::table::ViewNo;
use crate::types::{DirectoryEntry, NodeNo, Stat};
use crate::vfs::Vfs;
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq};
use ouro_core::time::civil;
use ouro_local::volume::{CommitInfo, Snapshot};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The directory's name.
pub(crate) const SHELF_NAME: &[u8] = b".snapshots";

/// Snapshots kept ready; others are built again when they are used.
const READY_MAX: usize = 4;
/// Commits of one second that have names.
const SAME_SECOND_MAX: usize = 1000;
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
        if let Some(seconds) = parse_ago(name) {
            let realm = Realm::Shelf(volume);
            let link = FileId(seconds + 1);
            self.shelf_target(volume, link)?;
            let stat = self.virtual_stat(&realm, link)?;
            self.count(stat.node, &realm, link, None);
            return Ok(stat);
        }
        let (second, ordinal) = parse_moment(name).ok_or(Errno::NoEntry)?;
        let commits = self.commits_of_second(volume, second, ordinal)?;
        let commit = commits.get(ordinal - 1).ok_or(Errno::NoEntry)?;
        let stat = self.enter_past(volume, commit)?;
        Ok(stat)
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
        Ok(moment_name(second, ordinal).into_bytes())
    }

    /// Lists a shelf: the newest commits, oldest first. The cookie is the position, since commits are only added.
    pub(crate) fn list_shelf(&self, volume: u32, at: u64, limit: usize) -> Reply<Vec<DirectoryEntry>> {
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
                break;
            }
            let realm = Realm::Past(self.pasts.of(volume, commit));
            // The state at the commit is not built for a listing: its root's attributes come with a lookup.
            let stat = Stat { node: self.numbering.node(&realm, FileId::ROOT), ..itself };
            self.count(stat.node, &realm, FileId::ROOT, None);
            let name = moment_name(second, ordinal).into_bytes().into();
            entries.push(DirectoryEntry { name, stat, cookie: position, looked_up: true });
        }
        Ok(entries)
    }
}

/// `2026-11-22T14.30.05Z`, the second of that second `2026-11-22T14.30.05Z.2`.
fn moment_name(second: u64, ordinal: usize) -> String {
    let (year, month, day) = civil((second / DAY_S) as i64);
    let rest = second % DAY_S;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut name = format!("{year:04}-{month:02}-{day:02}T{hour:02}.{minute:02}.{second:02}Z");
    if ordinal > 1 {
        name.push_str(&format!(".{ordinal}"));
    }
    name
}

/// The second and the ordinal (from 1) that a name means. Only the one spelling that [`moment_name`] gives is taken.
fn parse_moment(name: &[u8]) -> Option<(u64, usize)> {
    let text = std::str::from_utf8(name).ok()?;
    let (moment, ordinal) = match text.split_once("Z.") {
        Some((moment, ordinal)) => (moment, ordinal.parse().ok().filter(|n| (2..=SAME_SECOND_MAX).contains(n))?),
        None => (text.strip_suffix('Z')?, 1),
    };
    let numbers: Vec<u64> = moment.split(['-', 'T', '.']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let &[year, month, day, hour, minute, second] = numbers.as_slice() else { return None };
    if !(1970..=9999).contains(&year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let second = days(year, month, day)? * DAY_S + hour * 3600 + minute * 60 + second;
    (moment_name(second, ordinal) == text).then_some((second, ordinal))
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Seconds that a name like `@5min-ago` means.
fn parse_ago(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?.strip_prefix('@')?.strip_suffix("-ago")?;
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => DAY_S,
        "w" | "week" | "weeks" => 7 * DAY_S,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds < 1 << 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_named_in_utc_and_found_by_exactly_that_name() {
        assert_eq!(moment_name(1_795_357_805, 1), "2026-11-22T14.30.05Z");
        assert_eq!(parse_moment(b"2026-11-22T14.30.05Z"), Some((1_795_357_805, 1)));
        assert_eq!(parse_moment(b"2026-11-22T14.30.05Z.2"), Some((1_795_357_805, 2)));
        for day in 0..40_000 {
            let second = day * DAY_S + day * 37 % DAY_S;
            assert_eq!(parse_moment(moment_name(second, 1).as_bytes()), Some((second, 1)));
        }
        let no_names: [&[u8]; 7] = [
            b"2026-11-22T14.30.05",
            b"2026-11-22T14.30.05Z.1",
            b"2026-11-22T14.30.05Z.02",
            b"2026-2-22T14.30.05Z",
            b"2026-02-30T14.30.05Z",
            b"2026-11-22 14.30.05Z",
            b"x",
        ];
        for no_name in no_names {
            assert_eq!(parse_moment(no_name), None);
        }
    }

    #[test]
    fn spans_back_are_understood() {
        assert_eq!(parse_ago(b"@5min-ago"), Some(300));
        assert_eq!(parse_ago(b"@90s-ago"), Some(90));
        assert_eq!(parse_ago(b"@2h-ago"), Some(7200));
        assert_eq!(parse_ago(b"@3days-ago"), Some(3 * DAY_S));
        for no_span in [&b"@min-ago"[..], b"5min-ago", b"@5min", b"@5years-ago", b"@99999999999999999999s-ago"] {
            assert_eq!(parse_ago(no_span), None);
        }
    }
}
