//! Open files. Directories are not opened: see [`crate::Vfs::readdir`].

use crate::look::Locus;
use crate::realm::Realm;
use crate::renumber::{told, told_place};
use crate::stop::Errno;
use crate::types::{Handle, NodeNo, OpenFlags};
use ouro_core::id::FileId;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first window that is brought ahead of a sequential reader, in bytes: about one chunk.
const WINDOW_BYTES_MIN: u64 = 1 << 20;
/// The largest.
const WINDOW_BYTES_MAX: u64 = 8 << 20;
/// Reads of one reader may overtake each other by so much and still count as sequential: the kernel reads ahead in parallel.
const SLACK_BYTES: u64 = 1 << 20;

/// An open file.
pub(crate) struct OpenFile {
    pub(crate) node: NodeNo,
    pub(crate) locus: Locus,
    pub(crate) flags: OpenFlags,
    pub(crate) run: Mutex<Run>,
}

#[derive(Default)]
pub(crate) struct Handles {
    last: AtomicU64,
    open: RwLock<HashMap<u64, Arc<OpenFile>>>,
}

impl Handles {
    pub(crate) fn insert_file(&self, file: OpenFile) -> Handle {
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(handle, Arc::new(file));
        Handle(handle)
    }

    pub(crate) fn file(&self, handle: Handle) -> Result<Arc<OpenFile>, Errno> {
        self.open.read().get(&handle.0).cloned().ok_or(Errno::BadHandle)
    }

    pub(crate) fn remove_file(&self, handle: Handle) -> Result<Arc<OpenFile>, Errno> {
        self.open.write().remove(&handle.0).ok_or(Errno::BadHandle)
    }

    /// Files of a live box have other ids now; who has them open goes on.
    pub(crate) fn renumber(&self, realm: &Realm, files: &BTreeMap<FileId, FileId>) {
        let tell = |locus: &Locus| Locus {
            realm: locus.realm.clone(),
            file: told(files, locus.file),
            noted: locus.noted.as_ref().map(|place| told_place(files, place)),
        };
        for file in self.open.write().values_mut().filter(|file| file.locus.realm.is(realm)) {
            let OpenFile { node, locus, flags, .. } = &**file;
            let (node, locus, flags) = (*node, tell(locus), *flags);
            *file = Arc::new(OpenFile { node, locus, flags, run: Mutex::default() });
        }
    }
}

/// How a file has been read through one handle: decides what is brought ahead.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    last: (u64, u64),
    next: u64,
    reads: u32,
    window: u64,
    ahead_to: u64,
}

impl Run {
    /// Notes a read and says which stretch `(offset, bytes)` to begin to bring, if any. One read alone says nothing: previews and type
    /// sniffers read one head. From the second on the window doubles. The same read again is one that waited for its bytes.
    pub(crate) fn read(&mut self, offset: u64, bytes: u64, size: u64) -> Option<(u64, u64)> {
        let sequential =
            offset <= self.next.saturating_add(SLACK_BYTES) && offset.saturating_add(SLACK_BYTES) >= self.next;
        let end = offset.saturating_add(bytes).min(size.max(offset));
        if self.reads > 0 && self.last == (offset, end) {
            return None;
        }
        self.last = (offset, end);
        if self.reads == 0 || !sequential || (offset == 0 && self.next > SLACK_BYTES) {
            *self = Run { last: (offset, end), next: end, reads: 1, window: 0, ahead_to: end };
            return None;
        }
        self.reads = self.reads.saturating_add(1);
        self.next = self.next.max(end);
        let from = self.ahead_to.max(self.next);
        if from >= size || from - self.next > self.window / 2 {
            return None;
        }
        self.window = (self.window * 2).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        let to = self.next.saturating_add(self.window).min(size);
        self.ahead_to = self.ahead_to.max(to);
        (to > from).then(|| (from, to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 100 << 20;
    const STEP: u64 = 128 << 10;

    #[test]
    fn one_read_brings_nothing_ahead_and_random_reads_never_do() {
        let mut run = Run::default();
        assert_eq!(run.read(0, STEP, SIZE), None);
        assert_eq!(run.read(0, STEP, SIZE), None, "the same one, after it waited");
        for offset in [50 << 20, 10 << 20, 90 << 20, 30 << 20] {
            assert_eq!(run.read(offset, 4096, SIZE), None, "{offset}");
        }
    }

    #[test]
    fn the_window_of_a_sequential_reader_doubles_up_to_its_limit_and_covers_every_byte_once() {
        let mut run = Run::default();
        let (mut covered, mut largest) = (0, 0);
        for offset in (0..SIZE).step_by(STEP as usize) {
            if let Some((from, bytes)) = run.read(offset, STEP, SIZE) {
                assert!(from >= covered, "nothing is asked for twice");
                assert!(covered == 0 || from == covered, "no gap");
                covered = from + bytes;
                largest = largest.max(bytes);
                assert!(covered - offset <= WINDOW_BYTES_MAX + 2 * STEP);
            }
        }
        assert_eq!(covered, SIZE);
        assert!(largest > WINDOW_BYTES_MIN && largest <= WINDOW_BYTES_MAX);
    }

    #[test]
    fn reads_that_overtake_each_other_are_still_sequential() {
        let mut run = Run::default();
        run.read(0, STEP, SIZE);
        assert!(run.read(2 * STEP, STEP, SIZE).is_some());
        run.read(STEP, STEP, SIZE);
        assert!(run.window >= WINDOW_BYTES_MIN);
    }
}
