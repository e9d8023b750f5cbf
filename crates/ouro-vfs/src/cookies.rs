//! Positions in listings that stay good while entries come and go.
//!
//! A cookie is (listing, position). A listing is one pass over a directory from its beginning; what it has given out is remembered beyond
//! the handle that asked, because the kernel's directory cache may go on with another handle. To go on after a position is to go on after
//! a name, so every entry that stays is listed exactly once.

use ouro_core::name::Name;
use std::collections::{BTreeMap, VecDeque};

/// Listings remembered; the least recently used goes first.
const LISTINGS_MAX: usize = 256;
/// Entries remembered one by one in each listing.
const RECENT_MAX: usize = 32 * 1024;
/// Entries remembered in all listings together.
const ENTRIES_MAX: usize = 512 * 1024;
/// Of the older ones every so many-th is kept.
const MARK_EVERY: u32 = 128;
/// Positions before this one belong to `.`, `..` and `.snapshots`.
pub(crate) const FIRST_POSITION: u32 = 4;

/// An entry that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The natural name it belongs to.
    pub(crate) group: Name,
    /// Its own name, if that is derived.
    pub(crate) derived: Option<Name>,
    /// Whether it is the last one of its group.
    pub(crate) last: bool,
}

impl Given {
    fn name(&self) -> &Name {
        self.derived.as_ref().unwrap_or(&self.group)
    }
}

/// From where a listing goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    /// List what follows this group; `None`: from the beginning.
    pub(crate) after: Option<Name>,
    /// Entries of the group that follows which have been given out already.
    pub(crate) given: Vec<Name>,
    /// Leave out so many entries: the position is known by number only.
    pub(crate) skip: u32,
    /// The position of the next entry.
    pub(crate) position: u32,
    /// The listing it belongs to.
    pub(crate) listing: u32,
}

#[derive(Default)]
struct Listing {
    used: u64,
    /// Position of the first of `recent`.
    first: u32,
    recent: VecDeque<Given>,
    /// Older entries, by position: the last of their groups.
    marks: BTreeMap<u32, Name>,
}

#[derive(Default)]
pub(crate) struct Cookies {
    last: u32,
    clock: u64,
    entries: usize,
    listings: BTreeMap<u32, Listing>,
}

/// The cookie of a position.
pub(crate) fn cookie(listing: u32, position: u32) -> u64 {
    u64::from(listing) << 32 | u64::from(position)
}

impl Cookies {
    /// Begins a listing.
    pub(crate) fn begin(&mut self) -> u32 {
        // 31 bits: a cookie is a positive offset to the kernel.
        self.last = (self.last % (u32::MAX >> 1)) + 1;
        self.clock += 1;
        let listing = Listing { used: self.clock, first: FIRST_POSITION, ..Listing::default() };
        if let Some(old) = self.listings.insert(self.last, listing) {
            self.entries -= old.recent.len();
        }
        self.make_room();
        self.last
    }

    fn make_room(&mut self) {
        while self.listings.len() > 1 && (self.listings.len() > LISTINGS_MAX || self.entries > ENTRIES_MAX) {
            let oldest = self.listings.iter().min_by_key(|(_, l)| l.used).map(|(number, _)| *number);
            if let Some(old) = oldest.and_then(|number| self.listings.remove(&number)) {
                self.entries -= old.recent.len();
            }
        }
    }

    /// Remembers what was given out at `position`.
    pub(crate) fn give(&mut self, listing: u32, position: u32, given: Given) {
        self.clock += 1;
        let Some(l) = self.listings.get_mut(&listing) else { return };
        l.used = self.clock;
        let next = l.first + l.recent.len() as u32;
        if position < next {
            // Given out again after the kernel took fewer: what followed then is forgotten.
            let keep = position.saturating_sub(l.first) as usize;
            self.entries -= l.recent.len() - keep.min(l.recent.len());
            l.recent.truncate(keep);
            if position < l.first {
                l.first = position;
                l.marks.split_off(&position);
            }
        } else if position > next {
            self.entries -= l.recent.len();
            l.recent.clear();
            l.first = position;
        }
        l.recent.push_back(given);
        self.entries += 1;
        if l.recent.len() > RECENT_MAX
            && let Some(old) = l.recent.pop_front()
        {
            self.entries -= 1;
            let due = l.marks.last_key_value().is_none_or(|(last, _)| l.first - last >= MARK_EVERY);
            if due && old.last {
                l.marks.insert(l.first, old.group);
            }
            l.first += 1;
        }
        self.make_room();
    }

    /// From where to go on after a cookie.
    pub(crate) fn resume(&mut self, cookie: u64) -> Resume {
        let (listing, position) = ((cookie >> 32) as u32, (cookie & u64::from(u32::MAX)) as u32);
        self.clock += 1;
        let mut resume = Resume { position: position + 1, listing, ..Resume::default() };
        let Some(l) = self.listings.get_mut(&listing) else {
            resume.skip = (position + 1).saturating_sub(FIRST_POSITION);
            resume.listing = self.begin();
            return resume;
        };
        l.used = self.clock;
        if position < FIRST_POSITION {
            return resume;
        }
        let index = position.checked_sub(l.first).map(|i| i as usize).filter(|i| *i < l.recent.len());
        let Some(index) = index else {
            // Too long ago: count from the last mark before.
            let mark = l.marks.range(..=position).next_back();
            resume.after = mark.map(|(_, name)| name.clone());
            resume.skip = position - mark.map_or(FIRST_POSITION - 1, |(at, _)| *at);
            return resume;
        };
        let given = &l.recent[index];
        if given.last {
            resume.after = Some(given.group.clone());
            return resume;
        }
        let of_group = l.recent.iter().take(index + 1).rev().take_while(|g| g.group == given.group);
        resume.given = of_group.map(|g| g.name().clone()).collect();
        let before = (index + 1).checked_sub(resume.given.len() + 1).map(|i| l.recent[i].group.clone());
        resume.after = before.or_else(|| l.marks.last_key_value().map(|(_, name)| name.clone()));
        resume
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn plain(text: &str) -> Given {
        Given { group: name(text), derived: None, last: true }
    }

    #[test]
    fn a_cookie_leads_back_to_the_name_it_was_given_with() {
        let mut cookies = Cookies::default();
        let listing = cookies.begin();
        for (i, text) in ["a", "b", "c"].iter().enumerate() {
            cookies.give(listing, FIRST_POSITION + i as u32, plain(text));
        }
        assert_eq!(cookies.resume(cookie(listing, 3)).after, None);
        for (position, text) in [(4, "a"), (5, "b"), (6, "c"), (4, "a")] {
            let resume = cookies.resume(cookie(listing, position));
            assert_eq!((resume.after, resume.skip, resume.position), (Some(name(text)), 0, position + 1));
        }
    }

    #[test]
    fn inside_a_group_the_rest_of_the_group_follows() {
        let mut cookies = Cookies::default();
        let listing = cookies.begin();
        cookies.give(listing, 4, plain("a"));
        cookies.give(listing, 5, Given { group: name("b"), derived: None, last: false });
        cookies.give(listing, 6, Given { group: name("b"), derived: Some(name("b (conflict)")), last: false });
        let resume = cookies.resume(cookie(listing, 6));
        assert_eq!(resume.after, Some(name("a")));
        assert_eq!(resume.given, [name("b (conflict)"), name("b")]);
    }

    #[test]
    fn memory_is_bounded_and_old_positions_are_counted_from_a_mark() {
        let mut cookies = Cookies::default();
        let listing = cookies.begin();
        let total = 100_000;
        for i in 0..total {
            cookies.give(listing, FIRST_POSITION + i, plain(&format!("{i:06}")));
        }
        let old = 20_000;
        let resume = cookies.resume(cookie(listing, FIRST_POSITION + old));
        let mark: u32 = resume.after.map_or(0, |n| n.display().parse().unwrap());
        assert_eq!(mark + resume.skip, old);
        assert!(resume.skip <= MARK_EVERY);
        for _ in 0..1000 {
            let other = cookies.begin();
            for i in 0..3000 {
                cookies.give(other, FIRST_POSITION + i, plain("x"));
            }
        }
        assert!(cookies.listings.len() <= LISTINGS_MAX);
        assert!(cookies.entries <= ENTRIES_MAX + RECENT_MAX);
        let resume = cookies.resume(cookie(listing, FIRST_POSITION + 9));
        assert_eq!((resume.after, resume.skip), (None, 10), "a forgotten listing is counted from the beginning");
    }

    #[test]
    fn what_the_kernel_did_not_take_is_given_again_in_its_place() {
        let mut cookies = Cookies::default();
        let listing = cookies.begin();
        for i in 0..10 {
            cookies.give(listing, FIRST_POSITION + i, plain(&format!("{i}")));
        }
        cookies.give(listing, FIRST_POSITION + 4, plain("new"));
        assert_eq!(cookies.resume(cookie(listing, FIRST_POSITION + 4)).after, Some(name("new")));
        assert_eq!(cookies.resume(cookie(listing, FIRST_POSITION + 3)).after, Some(name("3")));
        assert_eq!(cookies.entries, 5);
    }
}
