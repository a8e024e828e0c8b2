// SPDX-License-Identifier: Apache-2.0
//! How many answers one client gets: a bucket per MAC, in a table whose size never changes.
//!
//! Pure but for the random key of the table, which keeps a client from choosing whose bucket it shares. Asked by the
//! listener before a decision is made. Machines that are known and strangers have tables of their own, so that a flood of
//! invented MACs costs no machine its boot.

use std::hash::{BuildHasher as _, RandomState};

use api::Mac;

/// Buckets per table; a power of two is not needed. At 50,000 machines two share one now and then, for which [`BURST`] has room.
const BUCKETS: usize = 65_536;
/// Answers at once. A boot takes six: two exchanges of firmware, iPXE and operating system; the rest is for repeats.
const BURST: u8 = 32;
/// Answers per second after that. A client that waits as RFC 2131 section 4.1 says asks once in four seconds.
const PER_SECOND: u64 = 2;

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A machine of which there is a Hardware.
    Known,
    /// Any other.
    Stranger,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u8,
    /// Seconds since the start when `left` was true, wrapping: a bucket that is a day old counts as some seconds old.
    at: u16,
}

/// The tables.
#[derive(Debug)]
pub(crate) struct Limits {
    key: RandomState,
    known: Vec<Bucket>,
    strangers: Vec<Bucket>,
}

impl Limits {
    pub(crate) fn new() -> Self {
        let full = vec![Bucket { left: BURST, at: 0 }; BUCKETS];
        Self { key: RandomState::new(), known: full.clone(), strangers: full }
    }

    /// Takes one answer out of the client's bucket; false when it is empty. `now` is in seconds.
    pub(crate) fn allow(&mut self, class: Class, mac: Mac, now: u64) -> bool {
        let table = match class {
            Class::Known => &mut self.known,
            Class::Stranger => &mut self.strangers,
        };
        let slot = self.key.hash_one(mac) % table.len().max(1) as u64;
        let Some(bucket) = usize::try_from(slot).ok().and_then(|slot| table.get_mut(slot)) else {
            return false;
        };
        let at = u16::try_from(now & 0xffff).unwrap_or_default();
        let gained = u64::from(at.wrapping_sub(bucket.at)).saturating_mul(PER_SECOND);
        let left = u64::from(bucket.left).saturating_add(gained).min(u64::from(BURST));
        let after = left.checked_sub(1);
        *bucket = Bucket { left: u8::try_from(after.unwrap_or(0)).unwrap_or(BURST), at };
        after.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac::from([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn a_client_has_a_burst_and_then_a_rate() {
        let mut limits = Limits::new();
        let granted =
            |limits: &mut Limits, now| (0..100).filter(|_| limits.allow(Class::Known, mac(1), now)).count();
        assert_eq!(granted(&mut limits, 1000), usize::from(BURST));
        assert_eq!(granted(&mut limits, 1000), 0);
        assert_eq!(granted(&mut limits, 1003), 6);
        assert_eq!(granted(&mut limits, 9999), usize::from(BURST), "never more than the burst");
    }

    #[test]
    fn strangers_take_nothing_from_machines() {
        let mut limits = Limits::new();
        for i in 0..200_000u32 {
            let [a, b, c, d] = i.to_be_bytes();
            for _ in 0..2 {
                limits.allow(Class::Stranger, Mac::from([2, 9, a, b, c, d]), 50);
            }
        }
        assert!(limits.allow(Class::Known, mac(1), 50));
        assert_eq!((limits.known.len(), limits.strangers.len()), (BUCKETS, BUCKETS));
    }
}
