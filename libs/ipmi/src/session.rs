// SPDX-License-Identifier: Apache-2.0
//! The client's side of one RMCP+ session as a state machine: `(state, datagram | tick | request, now) -> step`.
//!
//! Called by [`crate::client::Client`], which owns the socket and the clock. Randomness comes from a seed. It must never
//! act on a datagram whose integrity it has not verified once a session is active, and never send a password.
//!
//! ```text
//! New -> Capabilities -> Opening -> Rakp1 -> Rakp3 -> Raising -> Ready <-> Asking
//!                          ^  next suite |       |                  |
//!                          +-------------+-------+ forgotten        +-> Closing -> Closed
//! ```
//! Every state but `New`, `Ready` and `Closed` has one question pending, which is sent again when its deadline passes;
//! after the last attempt the session is `Closed` and the outcome is [`Error::Unreachable`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::command::{Command, CompletionCode};
use crate::crypto::{BLOCK, CipherSuite, SessionKeys, same};
use crate::error::{AuthFailure, Error};
use crate::lan::Message;
use crate::options::{Credentials, Options};
use crate::packet::{self, Packet, PayloadType, Secured};
use crate::rakp::{
    Exchange, NAME_ONLY_LOOKUP, OpenRequest, OpenResponse, Rakp1, Rakp2, Rakp3, Rakp4, Status,
};
use crate::window::SequenceWindow;

/// "This channel", with the bit that asks for IPMI 2.0 data (section 22.13).
const THIS_CHANNEL_V20: u8 = 0x8e;
/// Handshakes that are started again because the BMC forgot the attempt. A lost answer makes some BMCs do that.
const MAX_RESTARTS: u32 = 2;
/// Attempts to say goodbye: the BMC would drop an idle session after 60 s anyway (section 6.12.15).
const CLOSE_ATTEMPTS: u32 = 3;

/// What the caller does after an input.
#[derive(Debug, Default)]
pub struct Step {
    /// Send this datagram to the BMC.
    pub send: Option<Vec<u8>>,
    /// The question is settled: response data after the completion code (empty for opening and closing), or why not.
    pub outcome: Option<Result<Vec<u8>, Error>>,
}

/// One session, from the first question to the last.
pub struct Session {
    credentials: Credentials,
    options: Options,
    rng: StdRng,
    state: State,
    pending: Option<Pending>,
    active: Option<Active>,
    untried: VecDeque<CipherSuite>,
    restarts: u32,
    console_id: u32,
    tag: u8,
    rq_seq: u8,
}

enum State {
    New,
    Capabilities,
    Opening { suite: CipherSuite },
    Rakp1 { suite: CipherSuite, bmc_id: u32, console_random: [u8; 16] },
    Rakp3 { exchange: Box<Exchange> },
    Raising,
    Ready,
    Asking,
    Closing,
    Closed,
}

struct Pending {
    question: Question,
    attempts: u32,
    limit: u32,
    timeout: Duration,
    deadline: Instant,
    busy: bool,
}

enum Question {
    /// Outside a session: sent again byte for byte.
    Open(Vec<u8>),
    /// Inside a session: sealed anew for every attempt, since each datagram has its own sequence number.
    Sealed(Message),
}

struct Active {
    keys: SessionKeys,
    bmc_id: u32,
    next_sequence: u32,
    window: SequenceWindow,
}

impl Session {
    /// A session that has not sent anything yet. `seed` must be random and used once.
    #[must_use]
    pub fn new(credentials: Credentials, options: Options, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let rq_seq = rng.random();
        let untried = options.suites.iter().copied().collect();
        Self {
            credentials,
            options,
            rng,
            state: State::New,
            pending: None,
            active: None,
            untried,
            restarts: 0,
            console_id: 0,
            tag: 0,
            rq_seq,
        }
    }

    /// Starts to set up the session.
    pub fn open(&mut self, now: Instant) -> Step {
        let Command { netfn, code } = Command::GET_AUTH_CAPABILITIES;
        let data = [THIS_CHANNEL_V20, self.options.privilege.number()];
        let message = Message::request(netfn, code, self.next_rq_seq(), &data);
        self.state = State::Capabilities;
        self.ask(Question::Open(packet::unauthenticated(&message.encode())), now)
    }

    /// Asks the BMC something. A question that is still pending is given up: its late answer will be ignored.
    pub fn request(&mut self, command: Command, data: &[u8], now: Instant) -> Step {
        if !matches!(self.state, State::Ready | State::Asking) {
            return fail(Error::Closed);
        }
        self.state = State::Asking;
        self.ask_sealed(command, data, now)
    }

    /// Asks the BMC to forget the session.
    pub fn close(&mut self, now: Instant) -> Step {
        let Some(active) = &self.active else {
            self.state = State::Closed;
            return done(Vec::new());
        };
        let bmc_id = active.bmc_id.to_le_bytes();
        self.state = State::Closing;
        self.ask_sealed(Command::CLOSE_SESSION, &bmc_id, now)
    }

    /// The datagram that closes the session without waiting for an answer, for a caller that cannot wait.
    pub fn farewell(&mut self) -> Option<Vec<u8>> {
        let Command { netfn, code } = Command::CLOSE_SESSION;
        let bmc_id = self.active.as_ref()?.bmc_id.to_le_bytes();
        let message = Message::request(netfn, code, self.next_rq_seq(), &bmc_id);
        let datagram = self.seal(&message);
        self.active = None;
        self.state = State::Closed;
        datagram
    }

    /// When [`Self::tick`] has to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.deadline)
    }

    /// The suite of the active session.
    #[must_use]
    pub fn suite(&self) -> Option<CipherSuite> {
        self.active.as_ref().map(|active| active.keys.suite())
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Step {
        let Some(mut pending) = self.pending.take() else { return Step::default() };
        if now < pending.deadline {
            self.pending = Some(pending);
            return Step::default();
        }
        if pending.attempts >= pending.limit {
            return self.give_up(&pending, now);
        }
        pending.attempts += 1;
        pending.timeout = (pending.timeout * 2).min(self.options.max_timeout);
        pending.deadline = now + pending.timeout;
        let send = self.datagram_of(&pending.question);
        self.pending = Some(pending);
        Step { send, outcome: None }
    }

    /// A datagram has come. Whatever does not belong to the pending question is ignored.
    pub fn datagram(&mut self, datagram: &[u8], now: Instant) -> Step {
        match Packet::decode(datagram) {
            Ok(Packet::Unauthenticated { message, .. }) => self.on_unauthenticated(message, now),
            Ok(Packet::Plain { payload_type, payload }) => self.on_handshake(payload_type, payload, now),
            Ok(Packet::Secured(secured)) => self.on_secured(&secured, now),
            Ok(Packet::Ping { .. } | Packet::Pong { .. }) | Err(_) => Step::default(),
        }
    }

    fn on_unauthenticated(&mut self, message: &[u8], now: Instant) -> Step {
        let Ok(message) = Message::decode(message) else { return Step::default() };
        let Command { netfn, code } = Command::GET_AUTH_CAPABILITIES;
        let answers =
            message.netfn == netfn | 1 && message.command == code && message.sequence == self.rq_seq;
        if !matches!(self.state, State::Capabilities) || !answers {
            return Step::default();
        }
        // Completion code, channel, authentication types, login status, extended capabilities (section 22.13). A BMC that
        // refuses the question may still speak IPMI 2.0; only a clear no ends it here.
        if let [0x00, _, types, _, extended, ..] = *message.data
            && (types & 0x80 == 0 || extended & 0x02 == 0)
        {
            return self.refuse_suites("it speaks IPMI 1.5 only".to_owned());
        }
        self.offer_next_suite("no suite is configured".to_owned(), now)
    }

    fn on_handshake(&mut self, payload_type: PayloadType, payload: &[u8], now: Instant) -> Step {
        match (&self.state, payload_type) {
            (State::Opening { suite }, PayloadType::OpenResponse) => {
                let suite = *suite;
                let Ok(response) = OpenResponse::decode(payload) else { return Step::default() };
                self.on_open_response(suite, &response, now)
            }
            (State::Rakp1 { suite, bmc_id, console_random }, PayloadType::Rakp2) => {
                let Ok(rakp2) = Rakp2::decode(payload) else { return Step::default() };
                let exchange = Exchange {
                    suite: *suite,
                    console_id: self.console_id,
                    bmc_id: *bmc_id,
                    console_random: *console_random,
                    bmc_random: rakp2.accepted.as_ref().map(|a| a.bmc_random).unwrap_or_default(),
                    guid: rakp2.accepted.as_ref().map(|a| a.guid).unwrap_or_default(),
                    role: self.role(),
                    user: self.credentials.user().as_bytes().to_vec(),
                };
                self.on_rakp2(exchange, &rakp2, now)
            }
            (State::Rakp3 { exchange }, PayloadType::Rakp4) => {
                let exchange = exchange.clone();
                let Ok(rakp4) = Rakp4::decode(payload) else { return Step::default() };
                self.on_rakp4(&exchange, &rakp4, now)
            }
            _ => Step::default(),
        }
    }

    fn on_open_response(&mut self, suite: CipherSuite, response: &OpenResponse, now: Instant) -> Step {
        if !self.is_mine(response.tag, response.console_id, response.status) {
            return Step::default();
        }
        let Some((bmc_id, algorithms)) = response.accepted else {
            if response.status.refuses_suite() {
                return self.offer_next_suite(response.status.to_string(), now);
            }
            return self.close_with(Error::Busy(response.status));
        };
        if algorithms != suite.algorithms().map(Some) || bmc_id == 0 {
            return self.offer_next_suite("it answered with another suite".to_owned(), now);
        }
        let console_random = self.rng.random();
        let rakp1 = Rakp1 {
            tag: self.next_tag(),
            bmc_id,
            console_random,
            role: self.role(),
            user: self.credentials.user().as_bytes().to_vec(),
        };
        self.state = State::Rakp1 { suite, bmc_id, console_random };
        self.ask(Question::Open(packet::plain(PayloadType::Rakp1, &rakp1.encode())), now)
    }

    fn on_rakp2(&mut self, exchange: Exchange, rakp2: &Rakp2, now: Instant) -> Step {
        if !self.is_mine(rakp2.tag, rakp2.console_id, rakp2.status) {
            return Step::default();
        }
        let Some(accepted) = &rakp2.accepted else { return self.on_refusal(rakp2.status, now) };
        let password = self.credentials.password();
        let known = same(&exchange.bmc_code(password), &accepted.code);
        let (status, code) = if known {
            (Status::OK, exchange.console_code(password).to_vec())
        } else {
            (Status::INVALID_CODE, Vec::new())
        };
        let rakp3 = Rakp3 { tag: self.next_tag(), status, bmc_id: exchange.bmc_id, code };
        let datagram = packet::plain(PayloadType::Rakp3, &rakp3.encode());
        if !known {
            let refused = self.close_with(Error::Auth(AuthFailure::WrongPassword));
            return Step { send: Some(datagram), ..refused };
        }
        self.state = State::Rakp3 { exchange: Box::new(exchange) };
        self.ask(Question::Open(datagram), now)
    }

    fn on_rakp4(&mut self, exchange: &Exchange, rakp4: &Rakp4, now: Instant) -> Step {
        if !self.is_mine(rakp4.tag, rakp4.console_id, rakp4.status) {
            return Step::default();
        }
        if rakp4.status == Status::INVALID_CODE {
            // The BMC has proved that it knows the password, so ours is right: it answered a repeated message 1 with
            // another random number than the one we saw.
            return self.restart(rakp4.status, now);
        }
        if rakp4.status != Status::OK {
            return self.on_refusal(rakp4.status, now);
        }
        let sik = exchange.session_integrity_key(self.credentials.password());
        if !same(&exchange.integrity_check(&sik), &rakp4.check) {
            return self.close_with(Error::Auth(AuthFailure::BmcKey));
        }
        self.active = Some(Active {
            keys: exchange.keys(&sik),
            bmc_id: exchange.bmc_id,
            next_sequence: 1,
            window: SequenceWindow::new(u32::MAX),
        });
        self.state = State::Raising;
        self.ask_sealed(Command::SET_SESSION_PRIVILEGE, &[self.options.privilege.number()], now)
    }

    fn on_refusal(&mut self, status: Status, now: Instant) -> Step {
        match status {
            Status::UNAUTHORIZED_NAME | Status::INVALID_NAME_LENGTH => {
                self.close_with(Error::Auth(AuthFailure::UnknownUser))
            }
            Status::INVALID_ROLE | Status::UNAUTHORIZED_ROLE => {
                self.close_with(Error::Auth(AuthFailure::Privilege))
            }
            Status::INVALID_CODE => self.close_with(Error::Auth(AuthFailure::WrongPassword)),
            Status::INVALID_SESSION | Status::INACTIVE_SESSION => self.restart(status, now),
            status if status.refuses_suite() => self.offer_next_suite(status.to_string(), now),
            status => self.close_with(Error::Busy(status)),
        }
    }

    fn on_secured(&mut self, secured: &Secured<'_>, now: Instant) -> Step {
        let Some(active) = &mut self.active else { return Step::default() };
        if secured.session_id != self.console_id || secured.payload_type != PayloadType::Ipmi {
            return Step::default();
        }
        let Ok(payload) = secured.open(&active.keys) else { return Step::default() };
        if !active.window.accept(secured.sequence) {
            return Step::default();
        }
        let Ok(message) = Message::decode(&payload) else { return Step::default() };
        let Some(Pending { question: Question::Sealed(request), .. }) = &self.pending else {
            return Step::default();
        };
        if !message.answers(request) {
            return Step::default();
        }
        let Some((&code, data)) = message.data.split_first() else { return Step::default() };
        let command = Command::new(request.netfn, request.command);
        self.on_response(command, CompletionCode(code), data, now)
    }

    fn on_response(&mut self, command: Command, code: CompletionCode, data: &[u8], now: Instant) -> Step {
        if code == CompletionCode::NODE_BUSY && !matches!(self.state, State::Closing) {
            return self.wait_for_busy_bmc(now);
        }
        self.pending = None;
        match self.state {
            State::Raising => self.on_privilege(code, data),
            State::Closing => {
                self.active = None;
                self.state = State::Closed;
                done(Vec::new())
            }
            _ => {
                self.state = State::Ready;
                if code == CompletionCode::OK {
                    done(data.to_vec())
                } else {
                    fail(Error::Completion { command, code })
                }
            }
        }
    }

    fn on_privilege(&mut self, code: CompletionCode, data: &[u8]) -> Step {
        let wanted = self.options.privilege.number();
        let granted = data.first().map_or(wanted, |level| level & 0x0f);
        match code {
            CompletionCode::OK if granted >= wanted => {
                self.state = State::Ready;
                done(Vec::new())
            }
            CompletionCode(0x00 | 0x80 | 0x81) => self.close_with(Error::Auth(AuthFailure::Privilege)),
            code => self.close_with(Error::Completion { command: Command::SET_SESSION_PRIVILEGE, code }),
        }
    }

    /// The question is asked again at its deadline, as a new one: the BMC has answered the old one.
    fn wait_for_busy_bmc(&mut self, now: Instant) -> Step {
        let sequence = self.next_rq_seq();
        if let Some(pending) = &mut self.pending {
            pending.busy = true;
            pending.deadline = now + pending.timeout;
            if let Question::Sealed(message) = &mut pending.question {
                message.sequence = sequence;
            }
        }
        Step::default()
    }

    fn give_up(&mut self, pending: &Pending, now: Instant) -> Step {
        let step = match &self.state {
            State::New | State::Capabilities => "capabilities",
            // A BMC may be silent about a suite that it does not know.
            State::Opening { .. } | State::Rakp1 { .. } if !self.untried.is_empty() => {
                return self.offer_next_suite("no answer".to_owned(), now);
            }
            State::Opening { .. } => "open session",
            State::Rakp1 { .. } => "RAKP message 1",
            State::Rakp3 { .. } => "RAKP message 3",
            State::Raising => "session privilege",
            State::Ready | State::Asking => "command",
            State::Closing | State::Closed => {
                self.state = State::Closed;
                self.active = None;
                return done(Vec::new());
            }
        };
        if let (true, Question::Sealed(message)) = (pending.busy, &pending.question) {
            self.state = State::Ready;
            let command = Command::new(message.netfn, message.command);
            return fail(Error::Completion { command, code: CompletionCode::NODE_BUSY });
        }
        self.close_with(Error::Unreachable { step, attempts: pending.attempts, source: None })
    }

    /// Offers the next suite, or ends with `refused`: what became of the last one.
    fn offer_next_suite(&mut self, refused: String, now: Instant) -> Step {
        match self.untried.pop_front() {
            Some(suite) => self.offer(suite, now),
            None => self.refuse_suites(refused),
        }
    }

    fn offer(&mut self, suite: CipherSuite, now: Instant) -> Step {
        self.console_id = self.rng.random_range(1..=u32::MAX);
        let request = OpenRequest {
            tag: self.next_tag(),
            privilege: self.options.privilege.number(),
            console_id: self.console_id,
            algorithms: suite.algorithms().map(Some),
        };
        self.state = State::Opening { suite };
        self.ask(Question::Open(packet::plain(PayloadType::OpenRequest, &request.encode())), now)
    }

    fn restart(&mut self, status: Status, now: Instant) -> Step {
        let suite = match &self.state {
            State::Rakp1 { suite, .. } => *suite,
            State::Rakp3 { exchange } => exchange.suite,
            _ => return self.close_with(Error::Busy(status)),
        };
        if self.restarts >= MAX_RESTARTS {
            return self.close_with(Error::Busy(status));
        }
        self.restarts += 1;
        self.offer(suite, now)
    }

    fn refuse_suites(&mut self, reason: String) -> Step {
        let tried = self.options.suites.clone();
        self.close_with(Error::Unsupported { tried, reason })
    }

    /// Ends the session. What is active stays known, so that [`Self::farewell`] can still tell the BMC.
    fn close_with(&mut self, error: Error) -> Step {
        self.pending = None;
        self.state = State::Closed;
        fail(error)
    }

    fn ask_sealed(&mut self, command: Command, data: &[u8], now: Instant) -> Step {
        let message = Message::request(command.netfn, command.code, self.next_rq_seq(), data);
        self.ask(Question::Sealed(message), now)
    }

    fn ask(&mut self, question: Question, now: Instant) -> Step {
        let send = self.datagram_of(&question);
        // A repeated power cycle may cycle twice, so a BMC that is slow to answer one gets more time.
        let acts = matches!(&question, Question::Sealed(message)
            if Command::new(message.netfn, message.command) == Command::CHASSIS_CONTROL);
        let timeout = if acts { self.options.max_timeout } else { self.options.first_timeout };
        let limit = match self.state {
            State::Closing => CLOSE_ATTEMPTS.min(self.options.attempts),
            _ => self.options.attempts,
        };
        self.pending =
            Some(Pending { question, attempts: 1, limit, timeout, deadline: now + timeout, busy: false });
        Step { send, outcome: None }
    }

    fn datagram_of(&mut self, question: &Question) -> Option<Vec<u8>> {
        match question {
            Question::Open(datagram) => Some(datagram.clone()),
            Question::Sealed(message) => self.seal(message),
        }
    }

    fn seal(&mut self, message: &Message) -> Option<Vec<u8>> {
        let vector: [u8; BLOCK] = self.rng.random();
        let active = self.active.as_mut()?;
        let sequence = active.next_sequence;
        active.next_sequence = sequence.checked_add(1).unwrap_or(1);
        let payload = message.encode();
        Some(packet::secured(&active.keys, active.bmc_id, sequence, PayloadType::Ipmi, &vector, &payload))
    }

    /// Whether an answer of the handshake is for the pending message. A refusal may leave the identifier out.
    const fn is_mine(&self, tag: u8, console_id: u32, status: Status) -> bool {
        tag == self.tag && (console_id == self.console_id || (console_id == 0 && status.0 != 0))
    }

    const fn role(&self) -> u8 {
        self.options.privilege.number() | NAME_ONLY_LOOKUP
    }

    const fn next_tag(&mut self) -> u8 {
        self.tag = self.tag.wrapping_add(1);
        self.tag
    }

    const fn next_rq_seq(&mut self) -> u8 {
        self.rq_seq = self.rq_seq.wrapping_add(1) % crate::lan::SEQUENCES;
        self.rq_seq
    }
}

const fn done(data: Vec<u8>) -> Step {
    Step { send: None, outcome: Some(Ok(data)) }
}

const fn fail(error: Error) -> Step {
    Step { send: None, outcome: Some(Err(error)) }
}
