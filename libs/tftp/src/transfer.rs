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
//! timeout follows the measured round trip (RFC 6298) and doubles while the client is silent, beyond what the client asked
//! for too: atftp acknowledges a repeated block only once, and its own timer, of five seconds, begins anew with each copy.
//!
//! A repeated ACK never causes data to be sent in lock-step, or every later block would go out twice (RFC 1123
//! section 4.2.3.1). In a window it says that the first block was lost, and an ACK of a part of it that the next one was: the
//! window is sent again from there (RFC 7440 section 4). But clients also acknowledge blocks that they have already, so that
//! every copy could make another one. So an ACK is believed to tell of a loss when the copies of the last time have had two
//! round trips to arrive, and when copies are no more than some times what was acknowledged. One that is not believed only
//! moves the window on.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::negotiate::Negotiated;

/// Timeout before the first round trip is measured (RFC 6298 section 2).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Never shorter than this: firmware polls its network card, every 10 ms in EDK II.
const MIN_TIMEOUT: Duration = Duration::from_millis(50);
/// The backoff goes as far at least, which is longer than the timers of clients.
const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// How often the first packet is sent to a client that does not answer, unless it repeats its request.
pub const FIRST_PACKETS: u32 = 4;
/// Blocks that may be sent again because of ACKs, for each block acknowledged: with 64 in a window and one lost in a hundred
/// it takes one or two.
const COPIES: u64 = 4;

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
    /// Packets or windows sent since then.
    unanswered: u32,
    deadline: Instant,
    /// When a window was last sent.
    left: Instant,
    /// When one was last sent again.
    repeated: Option<Instant>,
    /// Blocks that may be sent again because of ACKs.
    credit: u64,
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
            unanswered: 0,
            deadline: now,
            left: now,
            repeated: None,
            credit: COPIES * u64::from(negotiated.window),
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
                self.hear(now);
                self.repeat(now)
            }
            Event::Ack(block) => self.on_ack(block, now),
            Event::ClientError { code, message } => self.finish(Outcome::Aborted { code, message }),
            Event::Unreachable => self.finish(self.lost()),
            Event::Timeout if now < self.deadline => Output::Wait,
            Event::Timeout if self.is_given_up(now) => self.finish(self.lost()),
            Event::Timeout => {
                self.timeout = self.timeout.saturating_mul(2).min(self.max_timeout.max(MAX_BACKOFF));
                self.repeat(now)
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
        if block > self.acked {
            return self.advance(block, now);
        }
        self.hear(now);
        let is_done = self.window == 1 || self.sent == self.acked;
        let is_news = self.is_about_window(now) && self.is_believed(now);
        if is_done || !is_news { Output::Wait } else { self.fill_gap(now) }
    }

    /// The client has everything up to `block`.
    fn advance(&mut self, block: u64, now: Instant) -> Output {
        self.hear(now);
        let earned = (block - self.acked).saturating_mul(COPIES);
        self.credit = self.credit.saturating_add(earned).min(COPIES * self.window);
        self.acked = block;
        match self.measuring.take() {
            Some(since) => self.measure(now.saturating_duration_since(since)),
            // The client answers again, so the backoff is over; before there is a measurement it stays (RFC 6298 section 3,
            // Karn's rule), or a client that is farther away than the timeout would get every block twice.
            None if self.smoothed.is_some() => self.timeout = self.estimate(),
            None => {}
        }
        if block == self.last {
            self.finish(Outcome::Complete)
        } else if block == self.sent {
            self.send(now)
        } else if self.is_believed(now) {
            self.fill_gap(now)
        } else {
            self.slide(now)
        }
    }

    /// The client lacks the first block of the window.
    fn fill_gap(&mut self, now: Instant) -> Output {
        self.credit = self.credit.saturating_sub(self.sent - self.acked);
        self.repeat(now)
    }

    /// Sends the window again.
    fn repeat(&mut self, now: Instant) -> Output {
        self.repeated = Some(now);
        self.send(now)
    }

    /// Sends what the window has come to hold and was never sent.
    fn slide(&mut self, now: Instant) -> Output {
        let (first, last) = (self.sent + 1, self.last.min(self.acked + self.window));
        self.deadline = now + self.timeout;
        if first > last {
            return Output::Wait;
        }
        self.sent = last;
        Output::Blocks(first..=last)
    }

    /// Whether an ACK of less than was sent tells of a loss.
    fn is_believed(&self, now: Instant) -> bool {
        let mean = self.smoothed.map_or(MIN_TIMEOUT, |(mean, _)| mean);
        self.repeated.is_none_or(|at| now.saturating_duration_since(at) >= mean * 2)
            && self.credit >= self.sent - self.acked
    }

    /// Whether enough time went by since a window left for an ACK to be about it.
    fn is_about_window(&self, now: Instant) -> bool {
        let mean = self.smoothed.map_or(MIN_TIMEOUT, |(mean, _)| mean);
        now.saturating_duration_since(self.left) >= mean / 2
    }

    fn hear(&mut self, now: Instant) {
        (self.heard, self.unanswered) = (now, 0);
    }

    fn is_given_up(&self, now: Instant) -> bool {
        let silence = now.saturating_duration_since(self.heard);
        silence >= self.patience || (!self.started() && self.unanswered >= FIRST_PACKETS)
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
        self.unanswered = self.unanswered.saturating_add(1);
        (self.left, self.deadline) = (now, now + self.timeout);
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
    fn a_window_is_repeated_from_the_gap_and_for_a_repeated_ack() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut t = transfer(4, false, 50_000, start);
        t.on(Event::Start, start);
        assert_eq!(t.on(Event::Ack(4), at(5)), Output::Blocks(5..=8));
        assert_eq!(t.on(Event::Ack(6), at(9)), Output::Blocks(7..=10), "7 was lost");
        assert_eq!(t.on(Event::Ack(6), at(11)), Output::Wait, "of 8, on the way then");
        assert_eq!(t.on(Event::Ack(8), at(15)), Output::Blocks(11..=12), "it may be of a copy of 8");
        assert_eq!(t.on(Event::Ack(12), at(20)), Output::Blocks(13..=16));
        assert_eq!(t.on(Event::Ack(12), at(21)), Output::Wait, "too early to be about those");
        assert_eq!(t.on(Event::Ack(12), at(25)), Output::Blocks(13..=16), "13 was lost");
        assert_eq!(t.resent(), 2 + 4);
    }

    #[test]
    fn after_a_timeout_the_window_moves_on() {
        let start = Instant::now();
        let mut t = transfer(4, false, 50_000, start);
        t.on(Event::Start, start);
        let due = t.deadline();
        assert_eq!(t.on(Event::Timeout, due), Output::Blocks(1..=4));
        // The client has three of them and says so when it gets the first once more.
        let answer = due + Duration::from_millis(5);
        assert_eq!(t.on(Event::Ack(3), answer), Output::Blocks(5..=7));
        assert_eq!(t.on(Event::Ack(3), answer), Output::Wait);
        assert_eq!(t.on(Event::Ack(7), answer + Duration::from_millis(5)), Output::Blocks(8..=11));
    }

    #[test]
    fn acknowledgements_buy_only_so_many_copies() {
        let mut now = Instant::now();
        let mut t = transfer(4, false, 50_000, now);
        t.on(Event::Start, now);
        now += Duration::from_millis(5);
        t.on(Event::Ack(4), now);
        for _ in 0..100 {
            now += Duration::from_millis(20);
            t.on(Event::Ack(4), now);
        }
        assert_eq!(t.resent(), COPIES * 4);
    }

    #[test]
    fn a_client_that_never_answers_gets_few_packets() {
        let start = Instant::now();
        let mut t = transfer(64, true, 1 << 30, start);
        let (sends, end) = silence(&mut t, start, Event::Start);
        assert_eq!((sends, end - start), (FIRST_PACKETS, 15 * SECOND), "after 1, 3, 7 seconds");
    }

    #[test]
    fn silence_backs_off_and_ends() {
        let start = Instant::now();
        let mut t = transfer(1, false, 6000, start);
        t.on(Event::Start, start);
        let (sends, end) = silence(&mut t, start + SECOND, Event::Ack(1));
        // The timeout is 3 seconds after one round trip of one.
        assert_eq!((sends, end - start), (7, 60 * SECOND), "after 3, 9, 19, 29, 39, 49 seconds");
    }

    /// Plays an event and then nothing more; how often something was sent, and when it was given up.
    fn silence(t: &mut Transfer, mut now: Instant, event: Event) -> (u32, Instant) {
        let mut output = t.on(event, now);
        for sends in 0.. {
            if output == Output::Finished(Outcome::Lost) {
                return (sends, now);
            }
            assert!(matches!(output, Output::Oack | Output::Blocks(_)), "{output:?}");
            now = t.deadline();
            output = t.on(Event::Timeout, now);
        }
        panic!("no end");
    }

    #[test]
    fn a_client_beyond_the_timeout_gets_one_block_twice_and_no_more() {
        let start = Instant::now();
        let mut t = transfer(1, false, 1 << 20, start);
        t.on(Event::Start, start);
        let mut sent = start;
        for block in 1..100 {
            let acknowledged = sent + 2 * SECOND;
            while t.deadline() < acknowledged {
                t.on(Event::Timeout, t.deadline());
            }
            t.on(Event::Ack(block), acknowledged);
            sent = acknowledged;
        }
        assert_eq!(t.resent(), 1);
    }

    #[test]
    fn the_backoff_outlasts_the_timer_of_a_client_that_wants_short_ones() {
        let start = Instant::now();
        let asked = Negotiated { timeout: Some(SECOND), ..negotiated(1, true) };
        let mut t = Transfer::new(&asked, 6000, 10 * SECOND, 50 * SECOND, start);
        t.on(Event::Start, start);
        let mut now = start + Duration::from_millis(5);
        t.on(Event::Ack(0), now);
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(t.deadline() - now);
            now = t.deadline();
            t.on(Event::Timeout, now);
        }
        assert_eq!((waits[0], waits[1], waits[8]), (MIN_TIMEOUT, MIN_TIMEOUT * 2, MAX_BACKOFF));
        now += Duration::from_millis(5);
        t.on(Event::Ack(1), now);
        assert!(t.deadline() - now <= SECOND, "that the client answers again ends it");
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
}
