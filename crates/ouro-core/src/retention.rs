//! Which commits stay as states that can be looked at: all of the last day, then fewer and fewer.
//!
//! A span of time is cut into slots at fixed moments since 1970 (UTC): hours, days, weeks. Of each slot its latest commit stays. The
//! slots of a coarser span are made of those of the finer one, so what a later thinning keeps was kept by every earlier one, and it does
//! not matter when, how often or on which device commits are thinned.

use crate::id::Hlc;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;

/// How long commits stay, by age in milliseconds. Each span begins where the one before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every commit up to this age stays.
    pub all_ms: u64,
    /// Up to this age the latest of each hour.
    pub hourly_ms: u64,
    /// Up to this age the latest of each day.
    pub daily_ms: u64,
    /// Up to this age the latest of each week; older ones go.
    pub weekly_ms: u64,
}

impl Default for Retention {
    /// All of 24 hours, hourly for 7 days, daily for 30, weekly for a year.
    fn default() -> Self {
        Retention { all_ms: DAY_MS, hourly_ms: 7 * DAY_MS, daily_ms: 30 * DAY_MS, weekly_ms: 365 * DAY_MS }
    }
}

/// A commit as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When it was made.
    pub hlc: Hlc,
    /// It is a named snapshot: it stays whatever its age.
    pub named: bool,
}

impl Retention {
    /// The newest moment that is old enough to be thinned at `now_ms`: what came after it stays as it is.
    pub fn thinned_until(&self, now_ms: u64) -> Hlc {
        Hlc(Hlc::from_millis(now_ms.saturating_sub(self.all_ms).saturating_add(1)).0.saturating_sub(1))
    }

    /// Which of these commits stay at `now_ms` (since 1970, UTC), in their order. The latest of all always does.
    pub fn kept(&self, now_ms: u64, commits: &[Moment]) -> Vec<bool> {
        let mut kept = vec![false; commits.len()];
        // The latest commit of each slot; equal moments are told apart by the order given.
        let mut latest: BTreeMap<(u64, u64), (Hlc, usize)> = BTreeMap::new();
        let mut newest: Option<(Hlc, usize)> = None;
        for (index, commit) in commits.iter().enumerate() {
            let candidate = (commit.hlc, index);
            newest = newest.max(Some(candidate));
            match self.slot(now_ms, commit.hlc.millis()) {
                Slot::Always => kept[index] = true,
                Slot::LatestOf(slot) => {
                    let best = latest.entry(slot).or_insert(candidate);
                    *best = candidate.max(*best);
                }
                Slot::Never => {}
            }
            kept[index] |= commit.named;
        }
        for (_, index) in latest.into_values().chain(newest) {
            kept[index] = true;
        }
        kept
    }

    fn slot(&self, now_ms: u64, at_ms: u64) -> Slot {
        // A clock that is ahead makes a commit young, never old.
        let age = now_ms.saturating_sub(at_ms);
        let wide = |width: u64| Slot::LatestOf((width, at_ms / width));
        match age {
            age if age <= self.all_ms => Slot::Always,
            age if age <= self.hourly_ms => wide(HOUR_MS),
            age if age <= self.daily_ms => wide(DAY_MS),
            age if age <= self.weekly_ms => wide(WEEK_MS),
            _ => Slot::Never,
        }
    }
}

enum Slot {
    Always,
    /// Of all in this slot (width, number) the latest.
    LatestOf((u64, u64)),
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A Monday noon, far from every border of a slot but that of weeks, which begin on Thursdays.
    const NOW_MS: u64 = 20_780 * DAY_MS + 12 * HOUR_MS;
    const MINUTE_MS: u64 = 60_000;

    fn moment(at_ms: u64) -> Moment {
        Moment { hlc: Hlc::from_millis(at_ms), named: false }
    }

    fn kept_ages(now_ms: u64, ages_ms: &[u64]) -> Vec<u64> {
        let commits: Vec<Moment> = ages_ms.iter().map(|age| moment(NOW_MS - age)).collect();
        let kept = Retention::default().kept(now_ms, &commits);
        ages_ms.iter().zip(kept).filter(|(_, kept)| *kept).map(|(age, _)| *age).collect()
    }

    #[test]
    fn of_each_slot_the_latest_commit_stays() {
        let table: &[(&[u64], &[u64])] = &[
            // Everything of the last day, the border included.
            (&[0, 1, MINUTE_MS, DAY_MS - 1, DAY_MS], &[0, 1, MINUTE_MS, DAY_MS - 1, DAY_MS]),
            // Two in one hour of the day before yesterday, one in the next.
            (
                &[0, 50 * HOUR_MS - MINUTE_MS, 50 * HOUR_MS - 2 * MINUTE_MS, 50 * HOUR_MS + 1],
                &[0, 50 * HOUR_MS - 2 * MINUTE_MS, 50 * HOUR_MS + 1],
            ),
            // Several hours of one day, ten days ago.
            (
                &[0, 10 * DAY_MS, 10 * DAY_MS + HOUR_MS, 10 * DAY_MS - 3 * HOUR_MS, 11 * DAY_MS],
                &[0, 10 * DAY_MS - 3 * HOUR_MS, 11 * DAY_MS],
            ),
            // Days of two weeks, a year ago and more.
            (
                &[0, 40 * DAY_MS, 41 * DAY_MS, 47 * DAY_MS, 364 * DAY_MS, 366 * DAY_MS],
                &[0, 40 * DAY_MS, 47 * DAY_MS, 364 * DAY_MS],
            ),
            // The head stays whatever its age.
            (&[700 * DAY_MS, 900 * DAY_MS], &[700 * DAY_MS]),
            (&[], &[]),
        ];
        for (ages, expected) in table {
            assert_eq!(kept_ages(NOW_MS, ages), *expected, "of {ages:?}");
        }
    }

    #[test]
    fn named_snapshots_stay_and_clocks_ahead_make_nobody_old() {
        let mut commits =
            vec![moment(NOW_MS - 900 * DAY_MS), moment(NOW_MS + 900 * DAY_MS), moment(NOW_MS - 800 * DAY_MS)];
        commits[0].named = true;
        assert_eq!(Retention::default().kept(NOW_MS, &commits), [true, true, false]);
    }

    #[test]
    fn what_is_thinned_begins_right_behind_the_span_in_which_all_stays() {
        let until = Retention::default().thinned_until(NOW_MS);
        assert!(Hlc::from_millis(NOW_MS - DAY_MS) <= until && until < Hlc::from_millis(NOW_MS - DAY_MS + 1));
    }

    proptest! {
        #[test]
        fn thinning_again_and_again_keeps_what_thinning_once_keeps(
            ages in proptest::collection::vec(0..400 * DAY_MS, 1..60),
            later in proptest::collection::vec(0..60 * DAY_MS, 0..4),
        ) {
            let mut now = NOW_MS;
            let mut left = ages.clone();
            for wait in later {
                left = kept_ages(now, &left);
                now += wait;
            }
            // Two of one slot may lie in two once the border between spans has come between them.
            let (again, once) = (kept_ages(now, &left), kept_ages(now, &ages));
            let week = |age: &u64| (NOW_MS - age) / WEEK_MS;
            prop_assert!(once.iter().all(|age| again.iter().any(|kept| kept <= age && week(kept) == week(age))));
            let span = |age: &u64| [1, 7, 30, 365].map(|days| now - (NOW_MS - age) <= days * DAY_MS);
            let is_cut = ages.iter().any(|one| ages.iter().any(|b| week(one) == week(b) && span(one) != span(b)));
            if !is_cut {
                prop_assert_eq!(again, once);
            }
        }

        #[test]
        fn the_order_in_which_commits_are_known_does_not_matter(
            ages in proptest::collection::btree_set(0..400 * DAY_MS, 1..60),
        ) {
            let ages: Vec<u64> = ages.into_iter().collect();
            let mut turned = kept_ages(NOW_MS, &ages.iter().rev().copied().collect::<Vec<_>>());
            turned.reverse();
            prop_assert_eq!(turned, kept_ages(NOW_MS, &ages));
        }
    }
}
