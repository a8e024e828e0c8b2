// SPDX-License-Identifier: Apache-2.0
//! The session sequence window of section 6.12.13: what tells a fresh packet from a replayed one.
//!
//! Called by both ends after a packet's integrity was verified, never before: an unverified number must not move it.

/// How many numbers behind the highest are still told apart (section 6.12.13: 16 below).
const BEHIND: u32 = 16;

/// The packets that one direction of a session has accepted.
#[derive(Debug, Clone)]
pub struct SequenceWindow {
    highest: u32,
    seen: u32,
    ahead: u32,
}

impl SequenceWindow {
    /// A window that accepts at most `ahead` numbers beyond the highest seen. The specification gives a BMC 15; a
    /// client may be generous, since each number was signed by its BMC.
    #[must_use]
    pub const fn new(ahead: u32) -> Self {
        Self { highest: 0, seen: 0, ahead }
    }

    /// Whether a packet with this number is fresh; it counts as seen from now on. Zero is for packets outside a
    /// session and is refused.
    pub fn accept(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false;
        }
        if sequence > self.highest {
            let step = sequence - self.highest;
            if step > self.ahead {
                return false;
            }
            self.seen = self.seen.checked_shl(step).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let age = self.highest - sequence;
        let bit = 1_u32 << age.min(31);
        if age > BEHIND || self.seen & bit != 0 {
            return false;
        }
        self.seen |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_zero_repeats_and_what_is_too_far() {
        let mut window = SequenceWindow::new(15);
        assert!(!window.accept(0));
        assert!(window.accept(1));
        assert!(!window.accept(1), "a replay");
        assert!(!window.accept(17), "16 ahead");
        assert!(window.accept(16), "15 ahead");
        assert!(window.accept(2), "14 behind, never seen");
        assert!(window.accept(31));
        assert!(window.accept(15), "16 behind, never seen");
        assert!(!window.accept(14), "17 behind");
    }

    proptest! {
        #[test]
        fn never_accepts_a_number_twice(numbers in proptest::collection::vec(0_u32..120, 0..400)) {
            let mut window = SequenceWindow::new(15);
            let mut accepted = HashSet::new();
            for number in numbers {
                if window.accept(number) {
                    prop_assert!(accepted.insert(number), "{number} was accepted twice");
                }
            }
        }
    }
}
