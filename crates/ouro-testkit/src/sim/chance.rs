//! Reproducible chance for those who drive a simulation.

use crate::faults::Draw;

/// Random numbers that follow from a seed.
pub struct Chance(Draw);

impl Chance {
    /// The numbers of one seed.
    pub fn new(seed: u64) -> Chance {
        Chance(Draw(seed))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit)
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, of_hundred: u32) -> bool {
        self.0.happens(of_hundred * 10)
    }

    /// One of several; `None` if there is none.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }
}
