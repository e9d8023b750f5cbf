//! Positions in listings that stay good while entries come and go.
//!
//! A cookie is (listing, position). A listing is one pass over a directory from its beginning; what it has given out is remembered beyond
//! the handle that asked, because the kernel's directory cache may go on with another handle. To go on after a position is to go on after
//! a name, so every entry that stays is listed exactly once.

use ouro_core::name::Name;
use std::collections::{BTreeMap, VecDeque};

/// Listings remembered in full; of the least recently used only the end is kept.
const LISTINGS_MAX: usize = 256;
/// How many are shortened or forgotten at once: finding the least recently used looks through all.
const BATCH: usize = 64;
/// Listings of which anything is remembered.
const ENDS_MAX: usize = 4096;
/// Entries kept of the end: what a door is given at once and does not take, and somewhat more. There a reader goes on.
const END_ENTRIES: usize = 192;
/// Entries kept of the end once a reader was told that nothing follows: it took them all. Without this the names of the last quarter of a
/// million files stayed in memory.
const ENDED_ENTRIES: usize = 1;
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
    /// Nothing followed in the state of this turn.
    pub(crate) ended: Option<u64>,
}

#[derive(Default)]
struct Listing {
    used: u64,
    /// Only the end is kept.
    shortened: bool,
    /// A reader came to the end.
    ended: bool,
    /// The position of the last entry there was, and the state's turn.
    last: Option<(u32, u64)>,
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
    /// Listings remembered in full.
    whole: usize,
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
        self.forget(self.last);
        self.listings.insert(self.last, listing);
        self.whole += 1;
        self.make_room();
        self.last
    }

    fn make_room(&mut self) {
        if self.whole > LISTINGS_MAX {
            for number in self.oldest(|l| !l.shortened) {
                self.shorten(number);
            }
        }
        while self.entries > ENTRIES_MAX && self.whole > 1 {
            let whole = self.listings.iter().filter(|(_, l)| !l.shortened);
            let Some((&oldest, _)) = whole.min_by_key(|(_, l)| l.used) else { break };
            self.shorten(oldest);
        }
        if self.listings.len() > ENDS_MAX {
            for number in self.oldest(|_| true) {
                self.forget(number);
            }
        }
    }

    /// The least recently used listings of some kind, at most [`BATCH`].
    fn oldest(&self, of: impl Fn(&Listing) -> bool) -> Vec<u32> {
        let mut found: Vec<(u64, u32)> =
            self.listings.iter().filter(|(_, l)| of(l)).map(|(number, l)| (l.used, *number)).collect();
        if found.len() > BATCH {
            found.select_nth_unstable(BATCH);
            found.truncate(BATCH);
        }
        found.into_iter().map(|(_, number)| number).collect()
    }

    /// Keeps only the end of a listing.
    fn shorten(&mut self, number: u32) {
        if let Some(oldest) = self.listings.get_mut(&number) {
            let kept = if oldest.ended { ENDED_ENTRIES } else { END_ENTRIES };
            let gone = oldest.recent.len().saturating_sub(kept);
            oldest.recent.drain(..gone);
            oldest.recent.shrink_to_fit();
            oldest.first += gone as u32;
            oldest.shortened = true;
            self.entries -= gone;
            self.whole -= 1;
        }
    }

    fn forget(&mut self, number: u32) {
        if let Some(old) = self.listings.remove(&number) {
            self.entries -= old.recent.len();
            self.whole -= usize::from(!old.shortened);
        }
    }

    /// A listing that goes on from `position` like `listing`, with the end of that before it.
    fn branch(&mut self, listing: u32, position: u32) -> u32 {
        let Some(l) = self.listings.get(&listing) else { return self.begin() };
        let end = (position.saturating_sub(l.first) as usize).min(l.recent.len());
        let from = end.saturating_sub(END_ENTRIES);
        let first = position.min(l.first + from as u32);
        let recent: VecDeque<Given> = l.recent.range(from..end).cloned().collect();
        let marks = l.marks.range(..first).map(|(at, name)| (*at, name.clone())).collect();
        let number = self.begin();
        self.entries += recent.len();
        if let Some(branch) = self.listings.get_mut(&number) {
            (branch.first, branch.recent, branch.marks) = (first, recent, marks);
        }
        number
    }

    /// Remembers what is given out at `position` and returns the listing that its cookie belongs to: another one from here on if this
    /// one has something else there already. That was given out before and names changed since; somebody may still be there.
    pub(crate) fn give(&mut self, listing: u32, position: u32, given: Given) -> u32 {
        self.clock += 1;
        let Some(l) = self.listings.get_mut(&listing) else { return listing };
        l.used = self.clock;
        let index = position.checked_sub(l.first).map(|index| index as usize);
        if index.is_some_and(|index| l.recent.get(index) == Some(&given)) {
            return listing;
        }
        let differs = index.is_none_or(|index| index < l.recent.len());
        let listing = if differs { self.branch(listing, position) } else { listing };
        let Some(l) = self.listings.get_mut(&listing) else { return listing };
        if position > l.first + l.recent.len() as u32 {
            self.entries -= l.recent.len();
            l.recent.clear();
            l.first = position;
        }
        l.recent.push_back(given);
        l.ended = false;
        self.entries += 1;
        let recent_max = if l.shortened { 2 * END_ENTRIES } else { RECENT_MAX };
        if l.recent.len() > recent_max
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
        listing
    }

    /// A reader was told that nothing follows.
    pub(crate) fn end(&mut self, listing: u32) {
        if let Some(l) = self.listings.get_mut(&listing) {
            l.ended = true;
        }
    }

    /// Nothing follows a position in the state of this turn.
    pub(crate) fn ends(&mut self, listing: u32, position: u32, turn: u64) {
        if let Some(l) = self.listings.get_mut(&listing) {
            l.last = Some((position, turn));
        }
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
        resume.ended = l.last.filter(|(last, _)| *last == position).map(|(_, turn)| turn);
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
        assert!(cookies.whole <= LISTINGS_MAX);
        assert!(cookies.entries <= ENTRIES_MAX + ENDS_MAX * 2 * END_ENTRIES);
        let end = cookies.resume(cookie(listing, FIRST_POSITION + total - 30));
        assert_eq!((end.after, end.skip), (Some(name("099970")), 0), "the end of an old listing is known by name");
        for _ in 0..ENDS_MAX {
            cookies.begin();
        }
        assert!(cookies.listings.len() <= ENDS_MAX);
        let resume = cookies.resume(cookie(listing, FIRST_POSITION + 9));
        assert_eq!((resume.after, resume.skip), (None, 10), "a forgotten listing is counted from the beginning");
    }

    #[test]
    fn of_a_listing_that_was_read_to_its_end_hardly_anything_stays_in_memory() {
        let mut cookies = Cookies::default();
        for _ in 0..ENDS_MAX {
            let listing = cookies.begin();
            for i in 0..100 {
                cookies.give(listing, FIRST_POSITION + i, plain(&format!("{i:03}")));
            }
            cookies.end(listing);
        }
        assert!(cookies.entries <= LISTINGS_MAX * 100 + ENDS_MAX, "{}", cookies.entries);
        let resume = cookies.resume(cookie(1, FIRST_POSITION + 99));
        assert_eq!(
            (resume.after, resume.skip),
            (Some(name("099")), 0),
            "a name that is added later follows the last one"
        );
        cookies.give(1, FIRST_POSITION + 100, plain("100"));
        assert_eq!(cookies.resume(cookie(1, FIRST_POSITION + 100)).after, Some(name("100")));
    }

    #[test]
    fn what_the_kernel_did_not_take_is_given_again_in_its_place() {
        let mut cookies = Cookies::default();
        let listing = cookies.begin();
        for i in 0..10 {
            cookies.give(listing, FIRST_POSITION + i, plain(&format!("{i}")));
        }
        assert_eq!(cookies.give(listing, FIRST_POSITION + 4, plain("4")), listing);
        let other = cookies.give(listing, FIRST_POSITION + 5, plain("new"));
        assert_ne!(other, listing);
        assert_eq!(cookies.give(other, FIRST_POSITION + 6, plain("next")), other);
        assert_eq!(cookies.resume(cookie(other, FIRST_POSITION + 5)).after, Some(name("new")));
        assert_eq!(cookies.resume(cookie(other, FIRST_POSITION + 4)).after, Some(name("4")));
    }

    #[test]
    fn two_readers_of_one_listing_go_on_where_they_are_though_names_went_between_them() {
        let mut cookies = Cookies::default();
        let listing = cookies.begin();
        for i in 0..10 {
            cookies.give(listing, FIRST_POSITION + i, plain(&format!("{i}")));
        }
        // One of them stands behind the first name, and the names up to the sixth are gone.
        for i in 1..4 {
            let at = cookies.give(listing, FIRST_POSITION + i, plain(&format!("{}", i + 5)));
            assert_ne!(at, listing);
        }
        let other = cookies.resume(cookie(listing, FIRST_POSITION + 6));
        assert_eq!((other.after, other.skip), (Some(name("6")), 0));
    }
}
