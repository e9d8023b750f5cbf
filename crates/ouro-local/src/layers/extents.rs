//! Sets of byte ranges.

use std::ops::Range;

/// Disjoint ranges `start..end`, sorted, neither empty nor touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extents(Vec<(u64, u64)>);

impl Extents {
    /// Takes ranges from outside; `None` if they are not sorted, disjoint and non-empty.
    pub(super) fn new(ranges: Vec<(u64, u64)>) -> Option<Extents> {
        let sound =
            ranges.iter().all(|&(start, end)| start < end) && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        sound.then_some(Extents(ranges))
    }

    pub(super) fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Everything that overlaps or touches becomes one range.
        let first = self.0.partition_point(|&(_, end)| end < range.start);
        let last = self.0.partition_point(|&(start, _)| start <= range.end);
        let mut merged = (range.start, range.end);
        if first < last {
            merged = (merged.0.min(self.0[first].0), merged.1.max(self.0[last - 1].1));
        }
        self.0.splice(first..last, [merged]);
    }

    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end <= range.start);
        let last = self.0.partition_point(|&(start, _)| start < range.end);
        if first >= last {
            return;
        }
        let before = (self.0[first].0, range.start);
        let after = (range.end, self.0[last - 1].1);
        self.0.splice(first..last, [before, after].into_iter().filter(|(start, end)| start < end));
    }

    /// Cuts `range` at every border: parts inside the set (true) and outside.
    pub(super) fn parts(&self, range: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        let first = self.0.partition_point(|&(_, end)| end <= range.start);
        for &(start, end) in self.0[first..].iter().take_while(|(start, _)| *start < range.end) {
            if at < start {
                parts.push((at..start, false));
                at = start;
            }
            let end = end.min(range.end);
            parts.push((at..end, true));
            at = end;
        }
        if at < range.end {
            parts.push((at..range.end, false));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn extents_are_the_set_of_bytes_put_in_and_not_taken_out(
            steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 0..40),
            from in 0u64..60, len in 0u64..40,
        ) {
            let mut extents = Extents::default();
            let mut model = [false; 100];
            for (add, start, len) in steps {
                if add { extents.insert(start..start + len) } else { extents.remove(start..start + len) }
                model[start as usize..(start + len) as usize].fill(add);
            }
            prop_assert!(Extents::new(extents.as_slice().to_vec()).is_some());
            prop_assert_eq!(extents.total(), model.iter().filter(|b| **b).count() as u64);
            let mut at = from;
            for (range, inside) in extents.parts(from..from + len) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.clone().all(|b| model[b as usize] == inside));
                at = range.end;
            }
            prop_assert_eq!(at, from + len);
        }
    }
}
