//! Walking back through the commits that this device has records of.

use super::encode::{self, CommitHead};
use super::history::CommitInfo;
use super::learn::Commit;
use super::{Cut, Volume, VolumeError};
use crate::ledger::RecordRow;
use ouro_core::id::{DeviceNo, Hlc, Seq};
use ouro_core::when::snapshot_name;
use std::collections::{BTreeMap, VecDeque};

/// Records of a device read in one go.
const PAGE: usize = 256;

/// A walk through commits, the latest first. It holds one page of records for each device, whatever the length of the logs.
pub struct LogWalk {
    /// The next record to read of each device; those at 0 are through.
    left: BTreeMap<DeviceNo, u64>,
    /// Where the walk ends, below the last of each device.
    floor: BTreeMap<DeviceNo, u64>,
    pages: BTreeMap<DeviceNo, VecDeque<RecordRow>>,
    /// The newest record not shown yet of each device that is not through.
    next: BTreeMap<(Hlc, DeviceNo), RecordRow>,
}

/// A commit in a walk: what it changes is decoded only when asked for.
pub struct Logged {
    row: RecordRow,
    head: CommitHead,
}

impl LogWalk {
    /// A walk that begins with the newest commits of a cut.
    pub fn new(cut: &Cut) -> LogWalk {
        let left = cut.iter().map(|(device, head)| (*device, head.seq.0)).collect();
        LogWalk { left, floor: BTreeMap::new(), pages: BTreeMap::new(), next: BTreeMap::new() }
    }

    /// A walk through the commits of a cut that another does not hold.
    pub fn between(below: &Cut, cut: &Cut) -> LogWalk {
        let mut walk = LogWalk::new(cut);
        walk.floor = below.iter().map(|(device, head)| (*device, head.seq.0)).collect();
        walk
    }

    /// The next commit, announcements of checkpoints included; `None` at the end.
    ///
    /// # Errors
    /// [`VolumeError::Record`]: fetch it and call again, the walk goes on where it was; a damaged journal.
    pub fn step(&mut self, volume: &Volume) -> Result<Option<Logged>, VolumeError> {
        let waiting: Vec<DeviceNo> = self.left.iter().filter(|(_, seq)| **seq > 0).map(|(device, _)| *device).collect();
        for device in waiting {
            if self.next.keys().all(|(_, d)| *d != device) {
                self.advance(volume, device)?;
            }
        }
        let Some((_, row)) = self.next.pop_last() else { return Ok(None) };
        let head = encode::read_commit_head(&row).map_err(|e| encode::damaged("record", e))?.0;
        Ok(Some(Logged { row, head }))
    }

    /// Puts the next record of a device among those that may come next.
    fn advance(&mut self, volume: &Volume, device: DeviceNo) -> Result<(), VolumeError> {
        let Some(left) = self.left.get_mut(&device) else { return Ok(()) };
        if *left <= self.floor.get(&device).copied().unwrap_or(0) {
            *left = 0;
            return Ok(());
        }
        let page = self.pages.entry(device).or_default();
        if page.is_empty() {
            *page = volume.ledger.records_down(device, Seq(*left), PAGE)?.into();
        }
        match page.front() {
            Some(row) if row.seq.0 == *left => {}
            _ => {
                page.clear();
                if volume.collected().is_some_and(|collected| collected.covers(device, Seq(*left))) {
                    // A collection took it, and all before it.
                    *left = 0;
                    return Ok(());
                }
                return Err(VolumeError::Record { device, seq: Seq(*left) });
            }
        }
        if let Some(row) = page.pop_front() {
            *left -= 1;
            self.next.insert((row.hlc, device), row);
        }
        Ok(())
    }
}

impl Logged {
    /// Whose.
    pub fn device(&self) -> DeviceNo {
        self.row.device
    }

    /// Position in its log.
    pub fn seq(&self) -> Seq {
        self.row.seq
    }

    /// When.
    pub fn hlc(&self) -> Hlc {
        self.row.hlc
    }

    /// What the user said about it.
    pub fn message(&self) -> &str {
        &self.head.message
    }

    /// Whether it only announces a checkpoint.
    pub fn is_announcement(&self) -> bool {
        self.head.checkpoint.is_some()
    }

    pub(crate) fn head(&self) -> &CommitHead {
        &self.head
    }

    /// How many files it changes.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn files(&self) -> Result<usize, VolumeError> {
        Ok(encode::count_commit_files(&self.row).map_err(|e| encode::damaged("record", e))?)
    }

    /// All of it.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn commit(&self) -> Result<Commit, VolumeError> {
        Ok(encode::read_commit(&self.row).map_err(|e| encode::damaged("record", e))?)
    }
}

/// Snapshots that were found by name, for as long as no commit is added: the kernel asks for the name again with every path below it, and
/// finding it walks through the whole log.
#[derive(Default)]
pub(super) struct Named {
    heads: Cut,
    found: BTreeMap<String, CommitInfo>,
}

impl Named {
    fn get(&self, heads: &Cut, name: &str) -> Option<CommitInfo> {
        self.found.get(name).filter(|_| self.heads == *heads).cloned()
    }

    fn keep(&mut self, heads: Cut, name: &str, commit: &CommitInfo) {
        if self.heads != heads {
            *self = Named { heads, found: BTreeMap::new() };
        }
        self.found.insert(name.to_owned(), commit.clone());
    }
}

impl Volume {
    /// How devices are called.
    pub fn device_names(&self) -> BTreeMap<DeviceNo, String> {
        self.state.read().devices.clone()
    }

    /// The newest commit that is a snapshot of this name, among those of which records are on this device.
    ///
    /// # Errors
    /// A damaged journal.
    pub fn snapshot_named(&self, name: &str) -> Result<Option<CommitInfo>, VolumeError> {
        let heads = self.heads();
        if let Some(found) = self.named.lock().get(&heads, name) {
            return Ok(Some(found));
        }
        let mut walk = LogWalk::new(&heads);
        loop {
            let logged = match walk.step(self) {
                Ok(Some(logged)) => logged,
                Ok(None) | Err(VolumeError::Record { .. }) => return Ok(self.kept_named(name)),
                Err(error) => return Err(error),
            };
            if snapshot_name(logged.message()).as_deref() == Some(name) {
                let Logged { row: RecordRow { device, seq, hlc, .. }, head } = &logged;
                let files = logged.files()?;
                let (device, seq, hlc, message) = (*device, *seq, *hlc, head.message.clone());
                let found = CommitInfo { device, seq, hlc, files, message };
                self.named.lock().keep(heads, name, &found);
                return Ok(Some(found));
            }
        }
    }
}
