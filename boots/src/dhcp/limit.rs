// SPDX-License-Identifier: Apache-2.0
//! How many DHCP answers one client gets.
//!
//! Asked by the listeners before a decision is made. A client is its MAC, whichever relay it is behind. Machines that are known
//! and strangers have tables of their own, so that a flood of invented MACs costs no machine its boot.

use std::hash::Hash;

use crate::limit::{Buckets, Rate};

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A machine of which there is a Hardware.
    Known,
    /// Any other.
    Stranger,
}

/// The tables; none where there is no limit.
#[derive(Debug)]
pub(crate) struct Limits(Option<Tables>);

#[derive(Debug)]
struct Tables {
    known: Buckets,
    strangers: Buckets,
}

impl Limits {
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| Tables { known: Buckets::new(rate), strangers: Buckets::new(rate) }))
    }

    /// Takes one answer out of the client's bucket; false when it is empty. `now` is in seconds.
    pub(crate) fn allow(&mut self, class: Class, client: impl Hash, now: u64) -> bool {
        match (&mut self.0, class) {
            (None, _) => true,
            (Some(tables), Class::Known) => tables.known.allow(client, now),
            (Some(tables), Class::Stranger) => tables.strangers.allow(client, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Mac;

    use super::*;

    #[test]
    fn strangers_take_nothing_from_machines() {
        let mut limits = Limits::new(Some(Rate { burst: 32, per_second: 2 }));
        for i in 0..200_000u32 {
            let [a, b, c, d] = i.to_be_bytes();
            for _ in 0..2 {
                limits.allow(Class::Stranger, Mac::from([2, 9, a, b, c, d]), 50);
            }
        }
        assert!(limits.allow(Class::Known, Mac::from([2, 0, 0, 0, 0, 1]), 50));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut limits = Limits::new(None);
        assert!((0..100_000).all(|_| limits.allow(Class::Known, Mac::from([2, 0, 0, 0, 0, 1]), 50)));
    }
}
