// SPDX-License-Identifier: Apache-2.0
//! How many DHCP answers one client gets.
//!
//! Asked by the listener before a decision is made. Machines that are known and strangers have tables of their own, so that a
//! flood of invented MACs costs no machine its boot.

use std::hash::Hash;

use crate::limit::{Buckets, Rate};

/// A boot takes six answers: two exchanges of firmware, iPXE and operating system; the rest of the burst is for repeats. A
/// client that waits as RFC 2131 section 4.1 says asks once in four seconds.
const RATE: Rate = Rate { burst: 32, per_second: 2 };

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A machine of which there is a Hardware.
    Known,
    /// Any other.
    Stranger,
}

/// The tables.
#[derive(Debug)]
pub(crate) struct Limits {
    known: Buckets,
    strangers: Buckets,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self { known: Buckets::new(RATE), strangers: Buckets::new(RATE) }
    }

    /// Takes one answer out of the client's bucket; false when it is empty. `now` is in seconds.
    pub(crate) fn allow(&mut self, class: Class, client: impl Hash, now: u64) -> bool {
        match class {
            Class::Known => self.known.allow(client, now),
            Class::Stranger => self.strangers.allow(client, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Mac;

    use super::*;

    #[test]
    fn strangers_take_nothing_from_machines() {
        let mut limits = Limits::new();
        for i in 0..200_000u32 {
            let [a, b, c, d] = i.to_be_bytes();
            for _ in 0..2 {
                limits.allow(Class::Stranger, Mac::from([2, 9, a, b, c, d]), 50);
            }
        }
        assert!(limits.allow(Class::Known, Mac::from([2, 0, 0, 0, 0, 1]), 50));
    }
}
