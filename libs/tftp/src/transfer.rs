// SPDX-License-Identifier: Apache-2.0
//! The state of one transfer: what to send next, when to send it again, when to stop.
//!
//! ```text
//!            Start                    Ack(0)                    Ack(last block)
//!   Created ───────► Offering (OACK) ───────► Sending (window) ───────────────► Done
//!        └───────────── no options granted ─────────►   │
//!                                       error, silence ─┴──────────────────────► Done
//! ```
//!
//! Pure: events and the time go in, what to send comes out. Owned by one session. Blocks are counted from 1 without
//! wrapping; only the wire has 16 bits. A window is sent again from the first block that is not acknowledged. The
//! timeout follows the measured round trip (RFC 6298) and doubles while the client is silent.
//!
//! A repeated ACK never causes data to be sent in lock-step, or every later block would go out twice (RFC 1123
//! section 4.2.3.1). In a window it says that the first block was lost and repeats the window once.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::negotiate::Negotiated;

/// Timeout before the first round trip is measured (RFC 6298 section 2).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Never shorter than this: firmware polls its network card.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The transfer begins.
    Start,
    /// The client repeated its request.
    RepeatedRequest,
    /// An acknowledgement with its wire number.
    Ack(u16),
    /// The client gave up.
    ClientError {
        /// Code of RFC 1350.
        code: u16,
        /// Its text.
        message: String,
    },
    /// The client's port is closed.
    Unreachable,
    /// The deadline passed.
    Timeout,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    Wait,
    /// Send the OACK.
    Oack,
    /// Send these blocks, counted from 1.
    Blocks(RangeInclusive<u64>),
    /// The transfer is over.
    Finished(Outcome),
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The last block was acknowledged.
    Complete,
    /// Every block was sent and all but the last window acknowledged; some firmware never acknowledges the last one.
    Unconfirmed,
    /// The client sent an error; after a `tsize` probe this is normal.
    Aborted {
        /// Code of RFC 1350.
        code: u16,
        /// Its text.
        message: String,
    },
    /// The client fell silent or its port closed.
    Lost,
    /// The content could not be read.
    Failed(String),
    /// The server shut down or a new request from the same port replaced this one.
    Replaced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offering,
    Sending,
    Done,
}

/// One transfer.
#[derive(Debug)]
pub struct Transfer {
    state: State,
    offers_options: bool,
    offered: bool,
    window: u64,
    last: u64,
    acked: u64,
    sent: u64,
    /// When the newest window left, while it may be measured: nothing in it was sent twice (Karn's rule).
    measuring: Option<Instant>,
    smoothed: Option<(Duration, Duration)>,
    timeout: Duration,
    max_timeout: Duration,
    patience: Duration,
    heard: Instant,
    deadline: Instant,
    repeated_for_ack: bool,
    resent: u64,
}

impl Transfer {
    /// A transfer of `size` bytes. `max_timeout` bounds the wait for one ACK, `patience` the silence of the client.
    #[must_use]
    pub fn new(
        negotiated: &Negotiated,
        size: u64,
        max_timeout: Duration,
        patience: Duration,
        now: Instant,
    ) -> Self {
        let max_timeout = negotiated.timeout.unwrap_or(max_timeout).max(MIN_TIMEOUT);
        let offers_options = negotiated.oack.is_some();
        Self {
            state: if offers_options { State::Offering } else { State::Sending },
            offers_options,
            offered: false,
            window: negotiated.window.max(1).into(),
            // A last block shorter than the others ends the transfer, be it empty (RFC 1350 section 2).
            last: size / u64::from(negotiated.block_size.max(1)) + 1,
            acked: 0,
            sent: 0,
            measuring: None,
            smoothed: None,
            timeout: INITIAL_TIMEOUT.min(max_timeout),
            max_timeout,
            patience,
            heard: now,
            deadline: now,
            repeated_for_ack: false,
            resent: 0,
        }
    }

    /// When [`Event::Timeout`] is due.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the client has acknowledged anything yet.
    #[must_use]
    pub fn started(&self) -> bool {
        self.acked > 0 || (self.offers_options && self.state != State::Offering)
    }

    /// When the client was last heard.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Blocks acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Blocks that were sent more than once.
    #[must_use]
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, now: Instant) -> Output {
        match event {
            _ if self.state == State::Done => Output::Wait,
            Event::Start => self.send(now),
            Event::RepeatedRequest if self.started() => Output::Wait,
            Event::RepeatedRequest => {
                self.heard = now;
                self.send(now)
            }
            Event::Ack(block) => self.on_ack(block, now),
            Event::ClientError { code, message } => self.finish(Outcome::Aborted { code, message }),
            Event::Unreachable => self.finish(self.lost()),
            Event::Timeout if now < self.deadline => Output::Wait,
            Event::Timeout if now.saturating_duration_since(self.heard) >= self.patience => {
                self.finish(self.lost())
            }
            Event::Timeout => {
                self.timeout = self.timeout.saturating_mul(2).min(self.max_timeout);
                self.send(now)
            }
        }
    }

    fn on_ack(&mut self, wire: u16, now: Instant) -> Output {
        if self.state == State::Offering {
            if wire != 0 {
                return Output::Wait;
            }
            self.state = State::Sending;
            return self.advance(0, now);
        }
        // The distance from the last acknowledged block, modulo the wire's 16 bits.
        let base = crate::packet::wire_block(self.acked);
        let block = self.acked + u64::from(wire.wrapping_sub(base));
        if block > self.sent {
            return Output::Wait;
        }
        if block == self.acked {
            self.heard = now;
            if self.window == 1 || self.repeated_for_ack || self.sent == self.acked {
                return Output::Wait;
            }
            self.repeated_for_ack = true;
            return self.send(now);
        }
        self.advance(block, now)
    }

    /// The client has everything up to `block`.
    fn advance(&mut self, block: u64, now: Instant) -> Output {
        self.heard = now;
        self.acked = block;
        self.repeated_for_ack = false;
        match self.measuring.take() {
            Some(since) => self.measure(now.saturating_duration_since(since)),
            // Whatever the backoff was, the client is alive again.
            None => self.timeout = self.estimate(),
        }
        if block == self.last {
            return self.finish(Outcome::Complete);
        }
        self.send(now)
    }

    /// Sends the OACK or the window after the last acknowledged block, and arms the timer.
    fn send(&mut self, now: Instant) -> Output {
        let first = self.acked + 1;
        let last = self.last.min(self.acked + self.window);
        let (output, fresh) = match self.state {
            State::Offering => (Output::Oack, !std::mem::replace(&mut self.offered, true)),
            State::Sending | State::Done => {
                let fresh = self.sent < first;
                self.resent += (self.sent + 1).saturating_sub(first).min(last + 1 - first);
                self.sent = self.sent.max(last);
                (Output::Blocks(first..=last), fresh)
            }
        };
        self.measuring = fresh.then_some(now);
        self.deadline = now + self.timeout;
        output
    }

    fn finish(&mut self, outcome: Outcome) -> Output {
        self.state = State::Done;
        Output::Finished(outcome)
    }

    fn lost(&self) -> Outcome {
        if self.state == State::Sending && self.sent == self.last {
            Outcome::Unconfirmed
        } else {
            Outcome::Lost
        }
    }

    /// RFC 6298 section 2, rules 2.2 and 2.3.
    fn measure(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                let error = mean.abs_diff(sample);
                ((mean * 7 + sample) / 8, (deviation * 3 + error) / 4)
            }
        });
        self.timeout = self.estimate();
    }

    fn estimate(&self) -> Duration {
        match self.smoothed {
            None => INITIAL_TIMEOUT.min(self.max_timeout),
            Some((mean, deviation)) => (mean + deviation * 4).clamp(MIN_TIMEOUT, self.max_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn negotiated(window: u16, oack: bool) -> Negotiated {
        Negotiated { block_size: 512, window, timeout: None, oack: oack.then(Vec::new) }
    }

    fn transfer(window: u16, oack: bool, size: u64, now: Instant) -> Transfer {
        Transfer::new(&negotiated(window, oack), size, 10 * SECOND, 50 * SECOND, now)
    }

    #[test]
    fn lock_step_to_the_short_last_block() {
        let now = Instant::now();
        let mut t = transfer(1, false, 600, now);
        assert_eq!(t.on(Event::Start, now), Output::Blocks(1..=1));
        assert_eq!(t.on(Event::Ack(1), now), Output::Blocks(2..=2));
        assert_eq!(t.on(Event::Ack(2), now), Output::Finished(Outcome::Complete));
        assert_eq!(t.on(Event::Timeout, now + 99 * SECOND), Output::Wait);
    }

    #[test]
    fn a_multiple_of_the_block_size_ends_with_an_empty_block() {
        let now = Instant::now();
        let mut t = transfer(8, false, 1024, now);
        assert_eq!(t.on(Event::Start, now), Output::Blocks(1..=3));
    }

    #[test]
    fn options_are_acknowledged_with_block_zero() {
        let now = Instant::now();
        let mut t = transfer(4, true, 5000, now);
        assert_eq!(t.on(Event::Start, now), Output::Oack);
        assert_eq!(t.on(Event::Ack(3), now), Output::Wait);
        assert!(!t.started());
        assert_eq!(t.on(Event::Ack(0), now), Output::Blocks(1..=4));
        assert!(t.started());
    }

    #[test]
    fn a_repeated_request_is_answered_until_the_client_acknowledged() {
        let now = Instant::now();
        let mut t = transfer(1, true, 600, now);
        t.on(Event::Start, now);
        assert_eq!(t.on(Event::RepeatedRequest, now), Output::Oack);
        t.on(Event::Ack(0), now);
        assert_eq!(t.on(Event::RepeatedRequest, now), Output::Wait);
    }

    #[test]
    fn a_repeated_ack_sends_nothing_in_lock_step() {
        let now = Instant::now();
        let mut t = transfer(1, false, 5000, now);
        t.on(Event::Start, now);
        t.on(Event::Ack(1), now);
        assert_eq!(t.on(Event::Ack(1), now), Output::Wait);
        assert_eq!(t.on(Event::Ack(0), now), Output::Wait);
    }

    #[test]
    fn a_window_is_repeated_from_the_gap_and_once_for_a_repeated_ack() {
        let now = Instant::now();
        let mut t = transfer(4, false, 50_000, now);
        t.on(Event::Start, now);
        assert_eq!(t.on(Event::Ack(2), now), Output::Blocks(3..=6));
        assert_eq!(t.on(Event::Ack(2), now), Output::Blocks(3..=6));
        assert_eq!(t.on(Event::Ack(2), now), Output::Wait);
        assert_eq!(t.on(Event::Ack(6), now), Output::Blocks(7..=10));
        assert_eq!(t.resent(), 6);
    }

    #[test]
    fn silence_backs_off_and_ends() {
        let start = Instant::now();
        let mut t = transfer(1, false, 600, start);
        t.on(Event::Start, start);
        let mut sends = 1;
        let now = loop {
            let now = t.deadline();
            match t.on(Event::Timeout, now) {
                Output::Blocks(blocks) => assert_eq!(blocks, 1..=1),
                Output::Finished(outcome) => {
                    assert_eq!(outcome, Outcome::Lost);
                    break now;
                }
                other => panic!("{other:?}"),
            }
            sends += 1;
        };
        assert_eq!(sends, 8, "1, 3, 7, 15, 25, 35, 45, then the end at 55 seconds");
        assert_eq!(now - start, 55 * SECOND);
    }

    #[test]
    fn the_timeout_follows_the_round_trip() {
        let mut now = Instant::now();
        let mut t = transfer(1, false, 1 << 20, now);
        t.on(Event::Start, now);
        for block in 1..50 {
            now += Duration::from_millis(2);
            t.on(Event::Ack(block), now);
        }
        assert_eq!(t.deadline() - now, MIN_TIMEOUT);
    }

    #[test]
    fn the_client_may_leave_after_the_last_block() {
        let now = Instant::now();
        let mut t = transfer(1, false, 10, now);
        t.on(Event::Start, now);
        assert_eq!(t.on(Event::Unreachable, now), Output::Finished(Outcome::Unconfirmed));
        let mut t = transfer(1, true, 10, now);
        t.on(Event::Start, now);
        let abort = Event::ClientError { code: 8, message: "abort".into() };
        assert!(matches!(t.on(abort, now), Output::Finished(Outcome::Aborted { code: 8, .. })));
    }

    /// A client of RFC 7440 that acknowledges the last block in order at the end of a window or at a gap.
    struct Client {
        have: u64,
        window: u64,
    }

    impl Client {
        fn take(&mut self, blocks: &[u64], last: u64) -> Option<u64> {
            let mut gap = false;
            for block in blocks {
                if *block == self.have + 1 {
                    self.have += 1;
                } else {
                    gap = true;
                }
            }
            let full = blocks.len() as u64 >= self.window || self.have == last;
            (gap || full || !blocks.is_empty()).then_some(self.have)
        }
    }

    proptest! {
        /// Whatever is lost on the way, a living client gets every block in the end, past the wrap of the numbers.
        #[test]
        fn loss_never_stops_a_transfer(
            window in 1u16..=64,
            blocks in prop_oneof![1u64..400, 65_500u64..65_700],
            seed: u64,
        ) {
            let mut now = Instant::now();
            let mut t = transfer(window, true, blocks * 512 - 1, now);
            let mut client = Client { have: 0, window: window.into() };
            let mut dice = seed;
            let mut lost = || {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                dice >> 56 < 20
            };
            let mut output = t.on(Event::Start, now);
            let mut acknowledged_options = false;
            for _ in 0..20_000_000u64 {
                now += Duration::from_micros(300);
                let ack = match output {
                    Output::Finished(outcome) => {
                        // The client may have all of it while its last ACK was lost for ever.
                        prop_assert!(matches!(outcome, Outcome::Complete));
                        prop_assert_eq!(client.have, blocks);
                        return Ok(());
                    }
                    Output::Oack => (!lost()).then(|| { acknowledged_options = true; 0 }),
                    Output::Blocks(range) => {
                        prop_assert!(acknowledged_options);
                        prop_assert!(range.end() - range.start() < u64::from(window));
                        let arrived: Vec<u64> = range.filter(|_| !lost()).collect();
                        if arrived.is_empty() { None } else { client.take(&arrived, blocks) }
                    }
                    Output::Wait => None,
                };
                output = match ack.filter(|_| !lost()) {
                    Some(block) => t.on(Event::Ack(crate::packet::wire_block(block)), now),
                    None => { now = now.max(t.deadline()); t.on(Event::Timeout, now) }
                };
            }
            prop_assert!(false, "no end");
        }
    }
}
