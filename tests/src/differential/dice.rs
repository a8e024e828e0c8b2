// SPDX-License-Identifier: Apache-2.0
//! Random choices, the same ones for the same seed.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A source of choices.
#[derive(Debug)]
pub struct Dice(StdRng);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// A number below a bound that is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// One of these.
    #[expect(
        clippy::indexing_slicing,
        reason = "below the length; nobody calls it with nothing to choose from"
    )]
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// One of these, as often as its weight says.
    #[expect(clippy::indexing_slicing, reason = "nobody calls it with nothing to choose from")]
    pub fn weighted<'a, T>(&mut self, of: &'a [(u32, T)]) -> &'a T {
        let mut left = self.0.random_range(0..of.iter().map(|(weight, _)| weight).sum());
        let mut at = 0;
        while left >= of[at].0 {
            left -= of[at].0;
            at += 1;
        }
        &of[at].1
    }
}
