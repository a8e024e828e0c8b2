// SPDX-License-Identifier: Apache-2.0
//! How much one client gets: a bucket per client, in a table whose size never changes.
//!
//! Pure but for the random key of the table, which keeps a client from choosing whose bucket it shares. Asked by the rim of
//! each protocol before anything is done for a client.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Buckets per table; a power of two is not needed. At 50,000 clients two share one now and then, for which a burst has room.
pub(crate) const BUCKETS: usize = 65_536;

/// What a bucket gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u16,
    /// Per second after that.
    pub per_second: u16,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u16,
    /// Seconds since the start when `left` was true, wrapping: a bucket that is a day old counts as some seconds old.
    at: u16,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Buckets {
    key: RandomState,
    rate: Rate,
    table: Vec<Bucket>,
}

/// What the requests of each address are limited to, for servers that ask from many tasks; possibly nothing.
#[derive(Debug)]
pub(crate) struct Limits(Option<Mutex<Buckets>>);

impl Limits {
    /// So many requests per second, four times as many at once; nothing is no limit.
    pub(crate) fn new(per_second: Option<u16>) -> Self {
        let rate = |per_second: u16| Rate { burst: per_second.saturating_mul(4), per_second };
        Self(per_second.map(|per_second| Mutex::new(Buckets::new(rate(per_second)))))
    }

    /// Takes one request out of the bucket of an address; false when it is empty. `now` is in seconds.
    pub(crate) fn allow(&self, address: IpAddr, now: u64) -> bool {
        // Every change is one bucket, so that a panic elsewhere leaves the table whole.
        let limits = self.0.as_ref().map(|limits| limits.lock().unwrap_or_else(PoisonError::into_inner));
        limits.is_none_or(|mut limits| limits.allow(address.to_canonical(), now))
    }
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        let table = vec![Bucket { left: rate.burst, at: 0 }; BUCKETS];
        Self { key: RandomState::new(), rate, table }
    }

    /// Takes one out of the client's bucket; false when it is empty. `now` is in seconds.
    pub(crate) fn allow(&mut self, client: impl Hash, now: u64) -> bool {
        let slot = self.key.hash_one(client) % self.table.len().max(1) as u64;
        let Some(bucket) = usize::try_from(slot).ok().and_then(|slot| self.table.get_mut(slot)) else {
            return false;
        };
        let at = u16::try_from(now & 0xffff).unwrap_or_default();
        let gained = u64::from(at.wrapping_sub(bucket.at)).saturating_mul(u64::from(self.rate.per_second));
        let left = u64::from(bucket.left).saturating_add(gained).min(u64::from(self.rate.burst));
        let after = left.checked_sub(1);
        *bucket = Bucket { left: u16::try_from(after.unwrap_or(0)).unwrap_or(self.rate.burst), at };
        after.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_burst_and_then_a_rate() {
        let mut buckets = Buckets::new(Rate { burst: 32, per_second: 2 });
        let granted = |buckets: &mut Buckets, now| (0..100).filter(|_| buckets.allow("one", now)).count();
        assert_eq!(granted(&mut buckets, 1000), 32);
        assert_eq!(granted(&mut buckets, 1000), 0);
        assert_eq!(granted(&mut buckets, 1003), 6);
        assert_eq!(granted(&mut buckets, 9999), 32, "never more than the burst");
        for client in 0..200_000 {
            buckets.allow(client, 50);
        }
        assert_eq!(buckets.table.len(), BUCKETS);
    }
}
