// SPDX-License-Identifier: Apache-2.0
//! Growing, jittered waits between attempts, so that a rack of agents does not ask in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Shortest first wait.
const FIRST: Duration = Duration::from_millis(500);

/// The next wait: 0.5 s, each 1.5 times the one before up to a cap, then varied by up to half either way.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    pub(crate) fn new(cap: Duration) -> Self {
        Self { next: FIRST.min(cap), cap }
    }

    /// The attempt succeeded: the next wait is a first one.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST.min(self.cap);
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(3).checked_div(2).unwrap_or(wait).min(self.cap);
        vary(wait, random_percent())
    }
}

/// `percent` of 0 to 100 gives half to one and a half times `wait`.
fn vary(wait: Duration, percent: u32) -> Duration {
    wait.saturating_mul(50 + percent) / 100
}

/// The standard library's hasher keys are random; nothing here needs better.
fn random_percent() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() % 101).unwrap_or(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        for expected in [0.5, 0.75, 1.125, 1.6875, 2.53125, 3.796_875, 5.0, 5.0] {
            let wait = backoff.next().as_secs_f64();
            assert!((expected * 0.499..=expected * 1.501).contains(&wait), "{wait} for {expected}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(750));
        assert_eq!(vary(Duration::from_secs(2), 0), Duration::from_secs(1));
        assert_eq!(vary(Duration::from_secs(2), 100), Duration::from_secs(3));
    }
}
