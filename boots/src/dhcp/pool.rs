// SPDX-License-Identifier: Apache-2.0
//! Dynamic addresses for clients without a reservation: which pool, which address, and until when.
//!
//! ```text
//!            offer            bind                release, or time
//!   (none) ───────► Offered ───────► Bound ──────────────────────────► over, kept for its client
//!                      │ time           │ decline                        │ somebody needs it
//!                      ├────► over      └────────► Declined ──► over     └────► (none)
//!                      └ somebody answers there ──────► Declined
//! ```
//!
//! Pure: the caller brings the time (unix seconds) and what is reserved. Every change that must survive a restart comes
//! out as a [`Record`], which `leases` writes before the client hears of it. A client is its MAC and not its option 61:
//! firmware, iPXE and operating system of one machine send three different identifiers and are one client.
//!
//! It never gives an address to two clients at a time, nor one that is reserved. There are at most as many leases as
//! addresses, of which the configuration allows [`MAX_ADDRESSES`].

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::str::FromStr;

use api::Mac;
use daemon::config::parse_duration;
use ipnet::Ipv4Net;

use super::leases::{Record, State};
use crate::machine::Lease as Network;

/// Addresses of all pools together.
pub(crate) const MAX_ADDRESSES: u32 = 65_536;
/// Seconds that an offered address waits for its REQUEST; clients choose within some ten.
const OFFER_HOLD: u64 = 30;
/// Seconds that an address which somebody else was found to use is left alone.
const DECLINE_HOLD: u64 = 3600;
/// Seconds between two searches for addresses that were reserved and are not any more, when a pool has no other.
const RESCAN: u64 = 60;
/// Lease of a pool that says nothing: short, because clients come and go.
const DEFAULT_LEASE: u32 = 3600;

/// A range of addresses and what its clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    first: Ipv4Addr,
    last: Ipv4Addr,
    net: Ipv4Net,
    seconds: u32,
    router: Option<Ipv4Addr>,
    name_servers: Vec<Ipv4Addr>,
    time_servers: Vec<Ipv4Addr>,
    domain: Option<String>,
}

/// What a pool must look like, for messages.
pub(crate) const POOL_FORM: &str = "pools such as \"172.31.0.100-172.31.0.199/24 router=172.31.0.1 dns=1.1.1.1,8.8.8.8 ntp=IP domain=NAME lease=1h\"";

impl FromStr for Pool {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_ascii_whitespace();
        let (range, prefix) = words.next().and_then(|word| word.split_once('/')).ok_or(())?;
        let (first, last) = range.split_once('-').ok_or(())?;
        let ip = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| ());
        let ips = |text: &str| text.split(',').map(ip).collect::<Result<Vec<_>, ()>>();
        let (first, last) = (ip(first)?, ip(last)?);
        let net = Ipv4Net::new(first, prefix.parse().map_err(|_| ())?).map_err(|_| ())?;
        let mut pool = Self {
            first,
            last,
            net,
            seconds: DEFAULT_LEASE,
            router: None,
            name_servers: Vec::new(),
            time_servers: Vec::new(),
            domain: None,
        };
        for word in words {
            match word.split_once('=').ok_or(())? {
                ("router", value) => pool.router = Some(ip(value)?),
                ("dns", value) => pool.name_servers = ips(value)?,
                ("ntp", value) => pool.time_servers = ips(value)?,
                ("domain", value) => pool.domain = Some(value.to_owned()),
                ("lease", value) => {
                    let seconds = parse_duration(value).ok_or(())?.as_secs();
                    pool.seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds >= 60).ok_or(())?;
                }
                _ => return Err(()),
            }
        }
        let edges = [net.network(), net.broadcast()];
        let is_host = |ip: &Ipv4Addr| net.contains(ip) && !(net.prefix_len() < 31 && edges.contains(ip));
        let sound = first <= last && is_host(&first) && is_host(&last) && pool.size() <= MAX_ADDRESSES;
        if sound { Ok(pool) } else { Err(()) }
    }
}

impl Pool {
    /// How many addresses it has.
    pub(crate) fn size(&self) -> u32 {
        u32::from(self.last).saturating_sub(u32::from(self.first)).saturating_add(1)
    }

    /// Whether two pools share an address.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// What a client with this address is told about its network.
    pub(crate) fn network(&self, address: Ipv4Addr) -> Network {
        Network {
            address: Some(address),
            netmask: Some(self.net.netmask()),
            gateway: self.router,
            seconds: self.seconds,
            hostname: None,
            domain: self.domain.clone(),
            name_servers: self.name_servers.clone(),
            time_servers: self.time_servers.clone(),
            routes: Vec::new(),
        }
    }

    fn has(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address) && self.router != Some(address)
    }
}

/// What a REQUEST asks for (RFC 2131 section 4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The address that this server offered.
    Offered(Ipv4Addr),
    /// The address of an earlier life of the client (INIT-REBOOT).
    Remembered(Ipv4Addr),
    /// More time for an address in use (RENEWING, REBINDING).
    Longer(Ipv4Addr),
}

/// The answer to a REQUEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Yes.
    Bound(Record),
    /// No: the client must begin anew.
    Refused,
    /// Another server may know it (RFC 2131 section 4.3.2: no record of the client, no answer).
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Offered,
    Bound,
    Declined,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    mac: Mac,
    until: u64,
    state: Use,
}

/// One pool's leases.
#[derive(Debug)]
struct Table {
    pool: Pool,
    by_address: HashMap<Ipv4Addr, Entry>,
    by_mac: HashMap<Mac, Ipv4Addr>,
    by_time: BTreeSet<(u64, Ipv4Addr)>,
    /// The first address that was never given.
    next: u32,
    rescan: u64,
}

/// All pools' leases.
#[derive(Debug)]
pub(crate) struct Leases {
    tables: Vec<Table>,
}

impl Leases {
    pub(crate) fn new(pools: &[Pool]) -> Self {
        let tables = pools.iter().cloned().map(|pool| Table {
            next: u32::from(pool.first),
            pool,
            by_address: HashMap::new(),
            by_mac: HashMap::new(),
            by_time: BTreeSet::new(),
            rescan: 0,
        });
        Self { tables: tables.collect() }
    }

    /// Takes over what a file says; of several records for one address the last counts. Records of addresses in no pool
    /// are passed over. Unlike a grant, a record takes no other address away from its client: which one is newer is not
    /// known for sure, and an address that is held for nobody costs less than one that two clients have.
    pub(crate) fn restore(&mut self, records: impl IntoIterator<Item = Record>) {
        for Record { state, address, mac, until } in records {
            let Some(table) = self.tables.iter_mut().find(|table| table.pool.has(address)) else { continue };
            table.remove(address);
            let state = if state == State::Declined { Use::Declined } else { Use::Bound };
            let known = table.by_mac.get(&mac).and_then(|own| table.by_address.get(own));
            if state == Use::Bound && known.is_none_or(|known| known.until <= until) {
                table.by_mac.insert(mac, address);
            }
            table.by_time.insert((until, address));
            table.by_address.insert(address, Entry { mac, until, state });
        }
    }

    /// The pool for clients of the network that this address is in; its position is for the other calls.
    pub(crate) fn pool(&self, link: Ipv4Addr) -> Option<(usize, &Pool)> {
        let found = self.tables.iter().enumerate().find(|(_, table)| table.pool.net.contains(&link));
        found.map(|(index, table)| (index, &table.pool))
    }

    /// An address to offer: the one that the client has or had, else the one that it wishes for, else any. Nothing when
    /// all are in use.
    pub(crate) fn offer(
        &mut self,
        pool: usize,
        mac: Mac,
        wish: Option<Ipv4Addr>,
        now: u64,
        reserved: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let table = self.tables.get_mut(pool)?;
        let address = table.find(mac, wish, now, &reserved)?;
        let bound =
            table.by_address.get(&address).filter(|entry| entry.mac == mac && entry.until > now + OFFER_HOLD);
        if bound.is_none() {
            // One that is its client's from before stays that.
            let had = table
                .by_address
                .get(&address)
                .is_some_and(|entry| entry.mac == mac && entry.state == Use::Bound);
            let state = if had { Use::Bound } else { Use::Offered };
            table.put(address, Entry { mac, until: now + OFFER_HOLD, state });
        }
        Some(address)
    }

    /// Whether an address is offered to a client that did not have it before, so that somebody else may have it unasked.
    pub(crate) fn is_new(&self, address: Ipv4Addr) -> bool {
        let mut entries = self.tables.iter().filter_map(|table| table.by_address.get(&address));
        entries.any(|entry| entry.state == Use::Offered)
    }

    /// An address that is offered was found to be in use: nobody gets it for a while.
    pub(crate) fn in_use(&mut self, address: Ipv4Addr, now: u64) -> Option<Record> {
        let table = self.tables.iter_mut().find(|table| table.pool.has(address))?;
        let mac = table.by_address.get(&address).filter(|entry| entry.state == Use::Offered)?.mac;
        let until = now + DECLINE_HOLD;
        table.put(address, Entry { mac, until, state: Use::Declined });
        Some(Record { state: State::Declined, address, mac, until })
    }

    /// Decides a REQUEST.
    pub(crate) fn request(
        &mut self,
        pool: usize,
        mac: Mac,
        wish: Wish,
        now: u64,
        reserved: impl Fn(Ipv4Addr) -> bool,
    ) -> Grant {
        let Some(table) = self.tables.get_mut(pool) else { return Grant::Unknown };
        let (Wish::Offered(address) | Wish::Remembered(address) | Wish::Longer(address)) = wish;
        if !table.pool.has(address) || reserved(address) {
            return Grant::Refused;
        }
        let known = table.by_mac.get(&mac).copied();
        let granted = match known {
            Some(own) => own == address,
            // We forgot the offer in a restart, or the lease with the file. What nobody else has may go on.
            None => match wish {
                Wish::Remembered(_) => return Grant::Unknown,
                Wish::Offered(_) | Wish::Longer(_) => table.is_free(address, now),
            },
        };
        if !granted {
            return Grant::Refused;
        }
        let until = now + u64::from(table.pool.seconds);
        table.put(address, Entry { mac, until, state: Use::Bound });
        Grant::Bound(Record { state: State::Bound, address, mac, until })
    }

    /// The client gives its address back. It is kept for it as long as nobody needs it.
    pub(crate) fn release(&mut self, mac: Mac, address: Ipv4Addr, now: u64) -> Option<Record> {
        let table = self.owner(mac, address)?;
        table.put(address, Entry { mac, until: now, state: Use::Bound });
        Some(Record { state: State::Bound, address, mac, until: now })
    }

    /// The client found its address in use by another host: nobody gets it for a while.
    pub(crate) fn decline(&mut self, mac: Mac, address: Ipv4Addr, now: u64) -> Option<Record> {
        let table = self.owner(mac, address)?;
        let until = now + DECLINE_HOLD;
        table.put(address, Entry { mac, until, state: Use::Declined });
        Some(Record { state: State::Declined, address, mac, until })
    }

    fn owner(&mut self, mac: Mac, address: Ipv4Addr) -> Option<&mut Table> {
        self.tables.iter_mut().find(|table| table.by_mac.get(&mac) == Some(&address))
    }
}

impl Table {
    /// Sets the entry of an address and takes the client's other one away.
    fn put(&mut self, address: Ipv4Addr, entry: Entry) {
        self.remove(address);
        if entry.state != Use::Declined
            && let Some(other) = self.by_mac.insert(entry.mac, address)
            && other != address
        {
            self.remove(other);
            self.by_mac.insert(entry.mac, address);
        }
        self.by_time.insert((entry.until, address));
        self.by_address.insert(address, entry);
    }

    fn remove(&mut self, address: Ipv4Addr) {
        let Some(entry) = self.by_address.remove(&address) else { return };
        self.by_time.remove(&(entry.until, address));
        if self.by_mac.get(&entry.mac) == Some(&address) {
            self.by_mac.remove(&entry.mac);
        }
    }

    /// Whether nobody holds an address.
    fn is_free(&self, address: Ipv4Addr, now: u64) -> bool {
        self.by_address.get(&address).is_none_or(|entry| entry.until <= now)
    }

    fn find(
        &mut self,
        mac: Mac,
        wish: Option<Ipv4Addr>,
        now: u64,
        reserved: &impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        if let Some(own) = self.by_mac.get(&mac).copied() {
            if !reserved(own) {
                return Some(own);
            }
            // It goes on using it until its time is over, whatever becomes of the reservation.
            self.by_mac.remove(&mac);
        }
        let wished = wish.filter(|ip| self.pool.has(*ip) && !reserved(*ip) && self.is_free(*ip, now));
        wished.or_else(|| self.never_given(reserved)).or_else(|| self.longest_over(now, reserved)).or_else(
            || {
                if now < self.rescan {
                    return None;
                }
                self.rescan = now + RESCAN;
                self.next = u32::from(self.pool.first);
                self.never_given(reserved)
            },
        )
    }

    /// The next address that has no entry. Goes over each address once, so that all calls together cost the pool's size.
    fn never_given(&mut self, reserved: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        while self.next <= u32::from(self.pool.last) {
            let address = Ipv4Addr::from(self.next);
            self.next = self.next.checked_add(1)?;
            if self.pool.has(address) && !self.by_address.contains_key(&address) && !reserved(address) {
                return Some(address);
            }
        }
        None
    }

    /// The address whose lease is over for the longest time.
    fn longest_over(&mut self, now: u64, reserved: &impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        while let Some((until, address)) = self.by_time.first().copied() {
            if until > now {
                return None;
            }
            self.remove(address);
            if !reserved(address) {
                return Some(address);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn pool(text: &str) -> Result<Pool, ()> {
        text.parse()
    }

    fn small() -> Vec<Pool> {
        vec![pool("10.0.0.10-10.0.0.13/24 router=10.0.0.12 lease=100s").unwrap()]
    }

    fn mac(last: u8) -> Mac {
        Mac::from([2, 0, 0, 0, 0, last])
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn an_offered_address_that_is_in_use_goes_to_nobody() {
        let mut leases = Leases::new(&small());
        assert_eq!(leases.offer(0, mac(1), None, NOW, |_| false), Some(ip(10)));
        assert!(leases.is_new(ip(10)) && !leases.is_new(ip(11)));
        let record = leases.in_use(ip(10), NOW).unwrap();
        assert_eq!(
            (record.state, record.address, record.until),
            (State::Declined, ip(10), NOW + DECLINE_HOLD)
        );
        assert_eq!(leases.in_use(ip(10), NOW), None, "once");
        assert_eq!(leases.offer(0, mac(1), None, NOW, |_| false), Some(ip(11)));
        assert!(matches!(leases.request(0, mac(1), Wish::Offered(ip(11)), NOW, |_| false), Grant::Bound(_)));
        assert_eq!(leases.in_use(ip(11), NOW), None, "its client answers for it");
        let over = NOW + 101;
        assert_eq!(leases.offer(0, mac(1), None, over, |_| false), Some(ip(11)));
        assert!(!leases.is_new(ip(11)), "it had it before");
    }

    #[test]
    fn a_pool_says_all_about_its_network_or_is_refused() {
        let full = pool(
            "10.0.0.10-10.0.0.19/24 router=10.0.0.1 dns=1.1.1.1,9.9.9.9 ntp=10.0.0.2 domain=lab lease=2h",
        );
        let network = full.unwrap().network(ip(11));
        assert_eq!((network.netmask, network.gateway), (Some(Ipv4Addr::new(255, 255, 255, 0)), Some(ip(1))));
        assert_eq!((network.seconds, network.name_servers.len()), (7200, 2));
        assert_eq!((network.time_servers, network.domain.as_deref()), (vec![ip(2)], Some("lab")));
        for bad in [
            "",
            "10.0.0.10-10.0.0.19",
            "10.0.0.19-10.0.0.10/24",
            "10.0.0.0-10.0.0.9/24",
            "10.0.0.10-10.0.0.255/24",
            "10.0.0.10-10.0.1.19/24",
            "10.0.0.1-10.1.255.254/8",
            "10.0.0.10-10.0.0.19/24 lease=1s",
            "10.0.0.10-10.0.0.19/24 dns=one",
            "10.0.0.10-10.0.0.19/24 gateway=10.0.0.1",
        ] {
            assert_eq!(pool(bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn an_address_is_offered_bound_renewed_and_given_back() {
        let mut leases = Leases::new(&small());
        assert_eq!(leases.offer(0, mac(1), None, NOW, |_| false), Some(ip(10)));
        assert_eq!(leases.offer(0, mac(2), None, NOW, |_| false), Some(ip(11)));
        assert_eq!(
            leases.offer(0, mac(1), Some(ip(13)), NOW, |_| false),
            Some(ip(10)),
            "the one it was offered"
        );
        let record = Record { state: State::Bound, address: ip(10), mac: mac(1), until: NOW + 100 };
        assert_eq!(leases.request(0, mac(1), Wish::Offered(ip(10)), NOW, |_| false), Grant::Bound(record));
        assert_eq!(leases.request(0, mac(2), Wish::Longer(ip(10)), NOW, |_| false), Grant::Refused);
        assert_eq!(leases.request(0, mac(3), Wish::Remembered(ip(13)), NOW, |_| false), Grant::Unknown);
        assert_eq!(leases.release(mac(2), ip(10), NOW), None, "only its own client gives it back");
        assert_eq!(
            leases.offer(0, mac(3), None, NOW, |_| false),
            Some(ip(13)),
            "the router is none of the pool"
        );
        assert_eq!(leases.offer(0, mac(4), None, NOW, |_| false), None);
        assert!(leases.release(mac(1), ip(10), NOW + 1).is_some());
        assert_eq!(leases.offer(0, mac(4), None, NOW + 2, |_| false), Some(ip(10)));
    }

    #[test]
    fn what_is_reserved_or_declined_is_not_given() {
        let mut leases = Leases::new(&small());
        assert_eq!(leases.offer(0, mac(1), None, NOW, |address| address == ip(10)), Some(ip(11)));
        assert_eq!(
            leases.request(0, mac(1), Wish::Offered(ip(11)), NOW, |address| address == ip(11)),
            Grant::Refused
        );
        assert!(leases.decline(mac(1), ip(11), NOW).is_some());
        assert_eq!(leases.offer(0, mac(1), Some(ip(11)), NOW, |address| address == ip(10)), Some(ip(13)));
        let over = NOW + DECLINE_HOLD;
        assert_eq!(leases.offer(0, mac(2), Some(ip(11)), over, |address| address == ip(10)), Some(ip(11)));
        assert_eq!(
            leases.offer(0, mac(3), None, over + RESCAN, |_| false),
            Some(ip(13)),
            "its offer is long over"
        );
    }

    #[test]
    fn an_address_that_is_no_longer_reserved_is_found_again() {
        let mut leases = Leases::new(&small());
        for (client, last) in [(1, 11), (2, 13)] {
            assert_eq!(leases.offer(0, mac(client), None, NOW, |address| address == ip(10)), Some(ip(last)));
        }
        assert_eq!(leases.offer(0, mac(3), None, NOW, |_| false), Some(ip(10)));
    }

    #[test]
    fn a_lease_lasts_although_its_address_was_reserved_for_a_while() {
        let mut leases = Leases::new(&small());
        let all_but = |free: u8| move |address: Ipv4Addr| address != ip(free);
        assert_eq!(leases.offer(0, mac(1), None, NOW, all_but(13)), Some(ip(13)));
        let granted = leases.request(0, mac(1), Wish::Offered(ip(13)), NOW, |_| false);
        assert!(matches!(granted, Grant::Bound(_)));
        assert_eq!(leases.offer(0, mac(1), None, NOW, |address| address == ip(13)), Some(ip(10)));
        assert_eq!(leases.offer(0, mac(2), Some(ip(13)), NOW, all_but(13)), None, "the first has it");
        let over = NOW + 100;
        assert_eq!(leases.offer(0, mac(2), Some(ip(13)), over, all_but(13)), Some(ip(13)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Discover(u8, Option<u8>),
        Request(u8, u8, u8),
        Release(u8, u8),
        Decline(u8, u8),
        Reserve(u8),
        Free(u8),
        Wait(u64),
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (client, last) = (0u8..6, 9u8..15);
        let step = prop_oneof![
            4 => (client.clone(), proptest::option::of(last.clone())).prop_map(|(c, l)| Step::Discover(c, l)),
            6 => (client.clone(), last.clone(), 0u8..3).prop_map(|(c, l, k)| Step::Request(c, l, k)),
            1 => (client.clone(), last.clone()).prop_map(|(c, l)| Step::Release(c, l)),
            1 => (client, last.clone()).prop_map(|(c, l)| Step::Decline(c, l)),
            1 => last.clone().prop_map(Step::Reserve),
            1 => last.prop_map(Step::Free),
            2 => (1u64..5000).prop_map(Step::Wait),
            1 => Just(Step::Restart),
        ];
        proptest::collection::vec(step, 1..120)
    }

    /// What clients believe: who holds what until when, and what was found in use.
    #[derive(Default)]
    struct Model {
        held: HashMap<Ipv4Addr, (Mac, u64)>,
        bad: HashMap<Ipv4Addr, u64>,
        reserved: HashSet<Ipv4Addr>,
        written: Vec<Record>,
    }

    proptest! {
        #[test]
        fn no_address_is_ever_held_twice(steps in steps()) {
            let mut now = NOW;
            let mut leases = Leases::new(&small());
            let mut model = Model::default();
            for step in steps {
                let reserved = model.reserved.clone();
                let is_reserved = |address: Ipv4Addr| reserved.contains(&address);
                let usable = |model: &Model, address: Ipv4Addr, client: Mac| {
                    let other = model.held.get(&address).is_some_and(|(holder, until)| *holder != client && *until > now);
                    let bad = model.bad.get(&address).is_some_and(|until| *until > now);
                    !other && !bad && !reserved.contains(&address) && [10, 11, 13].map(ip).contains(&address)
                };
                match step {
                    Step::Discover(client, wish) => {
                        let offered = leases.offer(0, mac(client), wish.map(ip), now, is_reserved);
                        if let Some(address) = offered {
                            prop_assert!(usable(&model, address, mac(client)), "{address} offered to {client}");
                        }
                    }
                    Step::Request(client, last, kind) => {
                        let wish = match kind {
                            0 => Wish::Offered(ip(last)),
                            1 => Wish::Remembered(ip(last)),
                            _ => Wish::Longer(ip(last)),
                        };
                        if let Grant::Bound(record) = leases.request(0, mac(client), wish, now, is_reserved) {
                            prop_assert_eq!((record.address, record.mac, record.until), (ip(last), mac(client), now + 100));
                            prop_assert!(usable(&model, record.address, record.mac), "{:?}", record);
                            model.held.retain(|_, (holder, _)| *holder != record.mac);
                            model.held.insert(record.address, (record.mac, record.until));
                            model.written.push(record);
                        }
                    }
                    Step::Release(client, last) => {
                        let holds = model.held.get(&ip(last)).is_some_and(|(holder, _)| *holder == mac(client));
                        let record = leases.release(mac(client), ip(last), now);
                        if holds && record.is_some() {
                            model.held.remove(&ip(last));
                        }
                        model.written.extend(record);
                    }
                    Step::Decline(client, last) => {
                        if let Some(record) = leases.decline(mac(client), ip(last), now) {
                            model.held.remove(&ip(last));
                            model.bad.insert(ip(last), record.until);
                            model.written.push(record);
                        }
                    }
                    Step::Reserve(last) => { model.reserved.insert(ip(last)); }
                    Step::Free(last) => { model.reserved.remove(&ip(last)); }
                    Step::Wait(seconds) => now += seconds,
                    Step::Restart => {
                        // In the order of a file that was written anew.
                        let last: BTreeMap<_, _> = model.written.iter().map(|record| (record.address, *record)).collect();
                        leases = Leases::new(&small());
                        leases.restore(last.into_values());
                    }
                }
                prop_assert!(leases.tables[0].by_address.len() <= 4);
                prop_assert_eq!(leases.tables[0].by_address.len(), leases.tables[0].by_time.len());
            }
        }
    }
}
