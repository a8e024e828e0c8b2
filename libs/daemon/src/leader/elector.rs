// SPDX-License-Identifier: Apache-2.0
//! The rules of the election: client-go's `leaderelection`, without clock and network.
//!
//! Two clocks are given, and kept apart. `now` is the time since some moment of this process; only its differences count, so that
//! clocks that are set wrong elect nobody: a Lease that somebody holds is over when it has not changed for its duration *as we
//! watched*. Wall-clock times are written for people to read, and never compared.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// The durations of an election; `renew` < `lease`, and both sides of the difference are needed: the leader stops within it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// How long others keep away after a change of the Lease.
    pub lease: Duration,
    /// How long a leader leads after it asked for a renewal that was granted.
    pub renew: Duration,
    /// Between two tries.
    pub retry: Duration,
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty when it was given back.
    pub holder: String,
    pub lease: Duration,
    pub acquired: Option<Timestamp>,
    pub renewed: Option<Timestamp>,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Somebody else holds it.
    Wait,
    /// Write this over what was observed, if that is still there.
    Write(Record),
}

/// One candidate.
#[derive(Debug)]
pub(super) struct Elector {
    identity: String,
    timing: Timing,
    /// What was observed last, and when it was new to us.
    seen: Option<(Record, Duration)>,
    /// When the renewal that was granted last was sent.
    granted: Option<Duration>,
}

impl Elector {
    pub fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, granted: None }
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The Lease was read; nothing when there is none.
    pub fn observe(&mut self, record: Option<Record>, now: Duration) {
        let Some(record) = record else {
            (self.seen, self.granted) = (None, None);
            return;
        };
        if record.holder != self.identity {
            self.granted = None;
        }
        if self.seen.as_ref().is_none_or(|(known, _)| *known != record) {
            self.seen = Some((record, now));
        }
    }

    /// What to do, after what was observed.
    pub fn plan(&self, now: Duration, wall: Timestamp) -> Plan {
        let fresh = |acquired, transitions| Record {
            holder: self.identity.clone(),
            lease: self.timing.lease,
            acquired: Some(acquired),
            renewed: Some(wall),
            transitions,
        };
        let Some((known, since)) = &self.seen else { return Plan::Write(fresh(wall, 0)) };
        if known.holder == self.identity {
            return Plan::Write(fresh(known.acquired.unwrap_or(wall), known.transitions));
        }
        if !known.holder.is_empty() && now < since.saturating_add(known.lease) {
            return Plan::Wait;
        }
        Plan::Write(fresh(wall, known.transitions.saturating_add(1)))
    }

    /// A planned record was written; `sent` is when the request began.
    pub fn wrote(&mut self, record: Record, sent: Duration) {
        self.seen = Some((record, sent));
        self.granted = Some(sent);
    }

    /// Until when this candidate leads, unless a renewal comes through.
    pub fn leads_until(&self) -> Option<Duration> {
        self.granted.map(|sent| sent.saturating_add(self.timing.renew))
    }

    pub fn leads(&self, now: Duration) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// Whether it may be ours as far as we know: what was seen last does not name another.
    pub fn may_hold(&self) -> bool {
        self.seen.as_ref().is_some_and(|(known, _)| known.holder == self.identity)
    }

    /// The record by which the Lease is given back, if it is ours; from then on it is not.
    pub fn release(&mut self, wall: Timestamp) -> Option<Record> {
        self.granted = None;
        let (known, _) = self.seen.take().filter(|(known, _)| known.holder == self.identity)?;
        // One second, since zero is no valid duration.
        let lease = Duration::from_secs(1);
        Some(Record { holder: String::new(), lease, acquired: Some(wall), renewed: Some(wall), ..known })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing = super::super::TIMING;

    fn elector(name: &str) -> Elector {
        Elector::new(name.to_owned(), TIMING)
    }

    fn written(plan: Plan) -> Record {
        match plan {
            Plan::Write(record) => record,
            Plan::Wait => panic!("it must write"),
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_fields_are_those_of_client_go() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (mut a, mut b) = (elector("a"), elector("b"));
        a.observe(None, s(0));
        let first = written(a.plan(s(0), at(100)));
        let expected = Record {
            holder: "a".into(),
            lease: s(15),
            acquired: Some(at(100)),
            renewed: Some(at(100)),
            transitions: 0,
        };
        assert_eq!(first, expected);
        a.wrote(first.clone(), s(0));
        let renewed = written(a.plan(s(2), at(102)));
        assert_eq!(
            (renewed.acquired, renewed.renewed, renewed.transitions),
            (Some(at(100)), Some(at(102)), 0)
        );
        assert!(a.leads(s(9)) && !a.leads(s(10)));

        b.observe(Some(first.clone()), s(50));
        assert_eq!(b.plan(s(64), at(0)), Plan::Wait, "its clock does not matter, only what it watched");
        b.observe(Some(first), s(65));
        let taken = written(b.plan(s(65), at(200)));
        assert_eq!((taken.acquired, taken.transitions), (Some(at(200)), 1));
        b.wrote(taken, s(65));
        let given_back = b.release(at(201)).unwrap();
        assert_eq!((given_back.holder.as_str(), given_back.lease, given_back.transitions), ("", s(1), 1));
        assert!(!b.leads(s(65)) && b.release(at(202)).is_none());
        a.observe(Some(given_back), s(70));
        assert!(!a.leads(s(70)));
        assert_eq!(written(a.plan(s(70), at(210))).transitions, 2, "nobody waits for what was given back");
    }

    /// A server with one Lease.
    #[derive(Default)]
    struct Server {
        lease: Option<Record>,
        version: u64,
    }

    /// A candidate with a clock that is wrong, in the middle of what it does.
    struct Node {
        elector: Elector,
        skew: i64,
        /// Its process began here: its monotonic clock counts from then.
        born: Duration,
        next: Duration,
        doing: Doing,
    }

    enum Doing {
        Read,
        /// What it read and will act on.
        Decide(Option<(Record, u64)>),
        /// When it sent this, over which version.
        Commit(Record, Duration, u64),
        /// The answer comes now, or never.
        Hear(Option<(Record, Duration)>),
    }

    #[derive(Debug, Clone)]
    struct Fate {
        delay: u64,
        lost: bool,
        crash: bool,
        release: bool,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let delay = prop_oneof![8 => 0u64..800, 2 => 800u64..6_000, 1 => 6_000u64..40_000];
        let rare = |percent: f64| proptest::bool::weighted(percent);
        let fate = (delay, rare(0.08), rare(0.02), rare(0.02));
        let fate = fate.prop_map(|(delay, lost, crash, release)| Fate { delay, lost, crash, release });
        proptest::collection::vec(fate, 200..600)
    }

    /// When the work of a node may be going on: whose, from, until. Work that is stopped because nothing was renewed takes its grace.
    type Term = (usize, Duration, Duration);

    fn simulate(skews: [i64; 3], fates: &[Fate]) -> Vec<Term> {
        let node = |(number, skew): (usize, i64)| Node {
            elector: elector(&format!("n{number}")),
            skew,
            born: Duration::ZERO,
            next: Duration::from_millis(u64::try_from(number).unwrap() * 37),
            doing: Doing::Read,
        };
        let mut nodes: Vec<Node> = skews.into_iter().enumerate().map(node).collect();
        let (mut server, mut terms) = (Server::default(), Vec::<Term>::new());
        for (step, fate) in fates.iter().enumerate() {
            let (number, _) = nodes.iter().enumerate().min_by_key(|(_, node)| node.next).unwrap();
            let node = &mut nodes[number];
            let time = node.next;
            let own = time - node.born;
            let wall = Timestamp::from_second(1_000_000 + node.skew + i64::try_from(time.as_secs()).unwrap())
                .unwrap();
            let mut wait = Duration::from_millis(fate.delay);
            if fate.crash {
                end(&mut terms, number, time);
                node.elector = elector(&format!("n{number}-{step}"));
                (node.born, node.doing) = (time, Doing::Read);
                node.next = time + wait;
                continue;
            }
            node.doing = match std::mem::replace(&mut node.doing, Doing::Read) {
                Doing::Read => Doing::Decide(server.lease.clone().map(|lease| (lease, server.version))),
                Doing::Decide(found) => {
                    let version = found.as_ref().map_or(0, |(_, version)| *version);
                    node.elector.observe(found.map(|(record, _)| record), own);
                    match node.elector.plan(own, wall) {
                        Plan::Write(record) => Doing::Commit(record, own, version),
                        Plan::Wait => Doing::Read,
                    }
                }
                Doing::Commit(record, sent, version) => {
                    let fits = server.lease.is_some() == (version > 0)
                        && (version == 0 || version == server.version);
                    if fits {
                        (server.lease, server.version) = (Some(record.clone()), server.version + 1);
                    }
                    Doing::Hear((fits && !fate.lost).then_some((record, sent)))
                }
                Doing::Hear(granted) => {
                    if let Some((record, sent)) = granted {
                        node.elector.wrote(record, sent);
                        if node.elector.leads(own) {
                            let until = node.elector.leads_until().unwrap() + node.born;
                            terms.push((number, time, until + super::super::GRACE));
                        }
                    }
                    if fate.release && node.elector.leads(own) {
                        end(&mut terms, number, time);
                        if let Some(record) = node.elector.release(wall) {
                            (server.lease, server.version) = (Some(record), server.version + 1);
                        }
                    }
                    wait += TIMING.retry;
                    Doing::Read
                }
            };
            node.next = time + wait;
        }
        terms
    }

    /// What a node believed is over at `time`: it crashed, or gave the Lease back after its work had ended.
    fn end(terms: &mut [Term], number: usize, time: Duration) {
        for term in terms.iter_mut().filter(|term| term.0 == number) {
            term.2 = term.2.min(time);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn no_two_lead_at_a_time(skews in [-100_000i64..100_000, -100_000i64..100_000, -100_000i64..100_000], fates in fates()) {
            let terms = simulate(skews, &fates);
            for (index, one) in terms.iter().enumerate() {
                for other in terms.iter().skip(index + 1).filter(|other| other.0 != one.0) {
                    prop_assert!(one.2 <= other.1 || other.2 <= one.1, "{one:?} and {other:?} overlap");
                }
            }
        }

        #[test]
        fn somebody_leads_soon_after_a_crash(skews in [-100_000i64..100_000, -100_000i64..100_000, -100_000i64..100_000]) {
            let quick = Fate { delay: 10, lost: false, crash: false, release: false };
            let mut fates = vec![quick; 400];
            fates[40].crash = true;
            fates[41].crash = true;
            fates[42].crash = true;
            let terms = simulate(skews, &fates);
            let mut ends: Vec<(Duration, Duration)> = terms.iter().map(|(_, from, until)| (*from, *until)).collect();
            ends.sort();
            let mut covered = ends[0].1;
            for (from, until) in ends {
                let gap = from.saturating_sub(covered);
                prop_assert!(gap <= TIMING.lease + TIMING.retry * 2, "nobody led for {gap:?}");
                covered = covered.max(until);
            }
        }
    }
}
