//! Listings made ready while their reader still digests the one before.
//!
//! Who walks through a tree (`find`, `du`, a backup) lists one directory after the other and does nothing else while it waits for the next.
//! Where such a walk goes next is guessed, and once the guesses are right, the next listing is made ready after each one that has ended. A
//! ready listing is used only if nothing changed meanwhile: it is what would have been found anew.

use crate::look::Standing;
use crate::types::NodeNo;
use ouro_core::render::Page;
use std::collections::VecDeque;

/// Guesses that must have been right in a row before a listing is made ready: who looks into a folder here and there costs nothing more.
const RIGHT_MIN: u32 = 2;
/// Directories on the way from the root that are remembered, and of each the next that it holds.
const DEPTH_MAX: usize = 64;
const NEXT_MAX: usize = 1024;

/// The beginning of a listing.
pub(crate) struct Ready {
    /// Of which directory.
    pub(crate) node: NodeNo,
    /// The state it was found in; see `Look::turn`.
    pub(crate) turn: u64,
    pub(crate) standing: Standing,
    pub(crate) page: Page,
}

/// A directory that was listed, and those in it that were not yet, in the order of its listing.
struct Level {
    node: NodeNo,
    next: VecDeque<NodeNo>,
}

/// Where a walk stands, as far as its listings tell.
#[derive(Default)]
pub(crate) struct Ahead {
    levels: Vec<Level>,
    /// How often in a row the guess was right.
    right: u32,
    ready: Option<Ready>,
}

impl Ahead {
    /// Somebody lists a directory from its beginning. Returns what is ready of it.
    pub(crate) fn begin(&mut self, node: NodeNo) -> Option<Ready> {
        if let Some(level) = self.levels.last_mut().filter(|level| level.node == node) {
            // Once more: it had to wait for something, or its reader goes back to the beginning.
            level.next.clear();
            return self.ready.take().filter(|ready| ready.node == node);
        }
        self.right = if self.guess() == Some(node) { self.right.saturating_add(1) } else { 0 };
        let found = self.levels.iter().rposition(|level| level.next.contains(&node));
        if let Some(depth) = found {
            self.levels.truncate(depth + 1);
            let next = &mut self.levels[depth].next;
            // Those before it were passed by.
            let at = next.iter().position(|n| *n == node).unwrap_or(0);
            next.drain(..=at);
        }
        if self.levels.len() == DEPTH_MAX {
            self.levels.remove(0);
        }
        self.levels.push(Level { node, next: VecDeque::new() });
        self.ready.take().filter(|ready| ready.node == node)
    }

    /// The listing of a directory shows that another one is in it.
    pub(crate) fn met(&mut self, directory: NodeNo, inner: NodeNo) {
        if let Some(level) = self.levels.last_mut()
            && level.node == directory
            && level.next.len() < NEXT_MAX
        {
            level.next.push_back(inner);
        }
    }

    /// The directory whose listing is to be made ready now, if any is.
    pub(crate) fn wanted(&self) -> Option<NodeNo> {
        self.guess().filter(|_| self.right >= RIGHT_MIN)
    }

    /// Keeps the beginning of a listing for who asks next.
    pub(crate) fn keep(&mut self, ready: Ready) {
        self.ready = Some(ready);
    }

    fn guess(&self) -> Option<NodeNo> {
        self.levels.iter().rev().find_map(|level| level.next.front().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists directories in some order, each with those that are in it, and tells which guesses were made and right.
    fn walk(ahead: &mut Ahead, steps: &[(u64, &[u64])]) -> Vec<bool> {
        let mut right = Vec::new();
        for (node, inner) in steps {
            right.push(ahead.wanted() == Some(NodeNo(*node)));
            ahead.begin(NodeNo(*node));
            inner.iter().for_each(|inner| ahead.met(NodeNo(*node), NodeNo(*inner)));
        }
        right
    }

    #[test]
    fn a_walk_is_foreseen_once_it_is_seen_to_be_one() {
        let steps: [(u64, &[u64]); 7] =
            [(1, &[2, 5, 7]), (2, &[3, 4]), (3, &[]), (4, &[]), (5, &[6]), (6, &[]), (7, &[])];
        let right = walk(&mut Ahead::default(), &steps);
        assert_eq!(right, [false, false, false, true, true, true, true]);
    }

    #[test]
    fn who_looks_here_and_there_is_not_foreseen() {
        let steps: [(u64, &[u64]); 5] = [(1, &[2, 3, 4]), (4, &[8]), (1, &[2, 3, 4]), (3, &[]), (9, &[])];
        let mut ahead = Ahead::default();
        walk(&mut ahead, &steps);
        assert_eq!(ahead.wanted(), None);
    }

    #[test]
    fn a_walk_goes_on_behind_what_it_passes_by_and_what_others_look_at() {
        let mut ahead = Ahead::default();
        walk(&mut ahead, &[(1, &[2, 3, 4, 5, 6, 7]), (2, &[]), (3, &[])]);
        assert_eq!(ahead.wanted(), Some(NodeNo(4)));
        walk(&mut ahead, &[(5, &[])]);
        assert_eq!(ahead.wanted(), None);
        assert_eq!(walk(&mut ahead, &[(99, &[98]), (6, &[]), (7, &[])]), [false, false, false]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ahead = Ahead::default();
        for node in 0..200 {
            ahead.begin(NodeNo(node));
            (0..3000).for_each(|inner| ahead.met(NodeNo(node), NodeNo(10_000 + inner)));
        }
        assert_eq!(ahead.levels.len(), DEPTH_MAX);
        assert!(ahead.levels.iter().all(|level| level.next.len() == NEXT_MAX));
    }
}
