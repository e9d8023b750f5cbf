//! What is known of files beyond their records, since the mount: times of directories, access times, counts of subdirectories.
//!
//! None of it is committed: it would cost traffic and conflicts. It is bounded; what is forgotten falls back to the record.

use ouro_core::id::FileId;
use std::collections::HashMap;

/// Files remembered at least; at most twice as many are kept.
const TOUCHED_MIN: usize = 32 * 1024;

/// What is known of one file.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Touch {
    /// Last access, as set.
    pub(crate) atime_ns: Option<i64>,
    /// Last change of a directory's listing.
    pub(crate) mtime_ns: Option<i64>,
    /// Last change that the record does not tell (links, owners, listings).
    pub(crate) ctime_ns: Option<i64>,
    /// Directories in a directory that was made since the mount.
    pub(crate) subdirectories: Option<u32>,
}

/// Which box, which file.
pub(crate) type TouchKey = (u32, FileId);

/// Two generations: when the young one is full it becomes the old one, and what is used again becomes young again.
#[derive(Default)]
pub(crate) struct Touched {
    young: HashMap<TouchKey, Touch>,
    old: HashMap<TouchKey, Touch>,
}

impl Touched {
    /// What is known of a file.
    pub(crate) fn get(&self, key: TouchKey) -> Touch {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or_default()
    }

    /// Changes what is known of a file.
    pub(crate) fn change(&mut self, key: TouchKey, change: impl FnOnce(&mut Touch)) {
        let mut touch = self.get(key);
        change(&mut touch);
        self.old.remove(&key);
        if touch == Touch::default() {
            self.young.remove(&key);
            return;
        }
        self.young.insert(key, touch);
        if self.young.len() >= TOUCHED_MIN {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// Notes a change of a directory's listing, with so many subdirectories more or less.
    pub(crate) fn listing(&mut self, key: TouchKey, now_ns: i64, subdirectories: i64) {
        self.change(key, |touch| {
            touch.mtime_ns = Some(now_ns);
            touch.ctime_ns = Some(now_ns);
            touch.subdirectories = touch.subdirectories.and_then(|n| u32::try_from(i64::from(n) + subdirectories).ok());
        });
    }

    /// Forgets all files of a box.
    pub(crate) fn forget_box(&mut self, volume: u32) {
        self.young.retain(|(of, _), _| *of != volume);
        self.old.retain(|(of, _), _| *of != volume);
    }

    /// Forgets a file.
    pub(crate) fn forget(&mut self, key: TouchKey) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_remembered_and_memory_is_bounded() {
        let mut touched = Touched::default();
        touched.change((0, FileId(1)), |t| t.subdirectories = Some(0));
        for i in 0..200_000_u64 {
            touched.listing((0, FileId(100 + i)), 5, 0);
            if i % 1000 == 0 {
                touched.listing((0, FileId(1)), i as i64, 1);
            }
        }
        assert_eq!(touched.get((0, FileId(1))).subdirectories, Some(200));
        assert!(touched.young.len() + touched.old.len() <= 2 * TOUCHED_MIN);
        assert_eq!(touched.get((0, FileId(100))), Touch::default(), "the oldest is forgotten");
    }

    #[test]
    fn a_count_that_is_not_known_stays_unknown() {
        let mut touched = Touched::default();
        touched.listing((0, FileId(1)), 7, 1);
        assert_eq!(touched.get((0, FileId(1))).subdirectories, None);
        assert_eq!(touched.get((0, FileId(1))).mtime_ns, Some(7));
        touched.forget((0, FileId(1)));
        assert_eq!(touched.get((0, FileId(1))), Touch::default());
    }
}
