// SPDX-License-Identifier: Apache-2.0
//! The BMC's side of RMCP+: sessions and RAKP as `(state, datagram, now) -> answer`. No socket, no clock, and randomness from
//! a generator that the caller seeds.
//!
//! ```text
//! Open Session Request -> Opened -- RAKP 1 --> Keyed -- RAKP 3 --> Active -- Close Session, 60 s idle --> gone
//! ```
//! A repeated message gets the answer it got before, so that a lost answer costs nothing; a repeated command is not carried
//! out twice. Replays, foreign sessions and wrong integrity codes are met with silence (section 13.28.1).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ::ipmi::crypto::{BLOCK, SessionKeys, same};
use ::ipmi::lan::{BMC_ADDRESS, Message};
use ::ipmi::packet::{self, Packet, PayloadType, Secured};
use ::ipmi::rakp::{
    Algorithms, Exchange, OpenRequest, OpenResponse, PRIVILEGE_MASK, Rakp1, Rakp2, Rakp2Accepted, Rakp3,
    Rakp4, Status,
};
use ::ipmi::window::SequenceWindow;
use ::ipmi::{CipherSuite, Command, CompletionCode, Privilege};
use rand::Rng;
use rand::rngs::StdRng;

use super::commands::{Answer, Commands, Effect, Perform, View};
use crate::bmc::Account;
use crate::chassis::Identity;

/// Sessions in use at once; real BMCs have four or five. One more is refused with status 01h.
pub const MAX_ACTIVE: usize = 4;
/// Sessions being set up at once; one more pushes out the oldest, so that a flood of requests locks nobody out for long.
const MAX_OPENING: usize = 16;
/// An idle session ends after this time (section 6.12.15: 60 s, 3 s more or less).
const IDLE: Duration = Duration::from_secs(60);
/// A session that is not set up within this time is forgotten.
const OPENING: Duration = Duration::from_secs(20);
/// Sequence numbers that may be skipped (section 6.12.13).
const AHEAD: u32 = 15;
/// User identifier of the account, as session information shows it.
const USER_ID: u8 = 2;

/// The sessions and commands of one BMC.
pub struct Engine {
    account: Account,
    commands: Commands,
    rng: StdRng,
    sessions: HashMap<u32, Session>,
}

struct Session {
    peer: SocketAddr,
    seen: Instant,
    console_id: u32,
    suite: CipherSuite,
    /// The most that this session may ever do.
    limit: Privilege,
    stage: Stage,
}

enum Stage {
    Opened { request: Vec<u8>, answer: Vec<u8> },
    Keyed { rakp1: Vec<u8>, answer: Vec<u8>, exchange: Box<Exchange> },
    Active(Box<Active>),
}

struct Active {
    keys: SessionKeys,
    rakp3: Vec<u8>,
    answer: Vec<u8>,
    privilege: Privilege,
    next_sequence: u32,
    window: SequenceWindow,
    last: Option<(Message, Message)>,
}

impl Engine {
    /// A BMC that nobody has talked to.
    #[must_use]
    pub fn new(account: Account, identity: &Identity, addr: SocketAddr, rng: StdRng) -> Self {
        Self { account, commands: Commands::new(identity, addr), rng, sessions: HashMap::new() }
    }

    /// When [`Self::tick`] has to be called. Sessions expire when they are next looked at.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.commands.deadline()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Option<Effect> {
        self.commands.tick(now)
    }

    /// Answers one datagram, or not.
    pub fn datagram(
        &mut self,
        datagram: &[u8],
        peer: SocketAddr,
        view: View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Option<Vec<u8>> {
        self.expire(now);
        match Packet::decode(datagram).ok()? {
            Packet::Ping { tag } => Some(packet::pong(tag)),
            Packet::Pong { .. } => None,
            Packet::Unauthenticated { session_id: 0, message } => {
                let answer = self.sessionless(message, view, now, perform)?;
                Some(packet::unauthenticated(&answer))
            }
            Packet::Unauthenticated { .. } => None,
            Packet::Plain { payload_type, payload } => match payload_type {
                PayloadType::Ipmi => {
                    let answer = self.sessionless(payload, view, now, perform)?;
                    Some(packet::plain(PayloadType::Ipmi, &answer))
                }
                PayloadType::OpenRequest => self.on_open(payload, peer, now),
                PayloadType::Rakp1 => self.on_rakp1(payload, now),
                PayloadType::Rakp3 => self.on_rakp3(payload, peer, now),
                PayloadType::OpenResponse | PayloadType::Rakp2 | PayloadType::Rakp4 => None,
            },
            Packet::Secured(secured) => self.on_secured(&secured, peer, view, now, perform),
        }
    }

    fn expire(&mut self, now: Instant) {
        self.sessions.retain(|_, session| {
            let patience = if session.is_active() { IDLE } else { OPENING };
            now.duration_since(session.seen) < patience
        });
    }

    fn active(&self) -> usize {
        self.sessions.values().filter(|session| session.is_active()).count()
    }

    fn sessionless(
        &mut self,
        message: &[u8],
        view: View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Option<Vec<u8>> {
        let request = Message::decode(message).ok().filter(is_for_bmc)?;
        let command = Command::new(request.netfn, request.command);
        let answer = if Commands::needs_no_session(command) {
            self.commands.answer(command, &request.data, view, now, perform)
        } else {
            Err(CompletionCode::INSUFFICIENT_PRIVILEGE)
        };
        Some(respond(&request, &answer).encode())
    }

    fn on_open(&mut self, payload: &[u8], peer: SocketAddr, now: Instant) -> Option<Vec<u8>> {
        let request = OpenRequest::decode(payload).ok()?;
        let repeated = self.sessions.values().find_map(|session| match &session.stage {
            Stage::Opened { request, answer } if session.peer == peer && request == payload => Some(answer),
            _ => None,
        });
        if let Some(answer) = repeated {
            return Some(answer.clone());
        }
        let refuse = |status| {
            let OpenRequest { tag, console_id, .. } = request;
            let response = OpenResponse { tag, status, privilege: 0, console_id, accepted: None };
            Some(packet::plain(PayloadType::OpenResponse, &response.encode()))
        };
        let suite = match choose_suite(request.algorithms) {
            Ok(suite) => suite,
            Err(status) => return refuse(status),
        };
        let limit = match request.privilege {
            0 => Privilege::Administrator,
            number => match Privilege::from_number(number) {
                Some(privilege) => privilege,
                None => return refuse(Status::INVALID_ROLE),
            },
        };
        if request.console_id == 0 {
            return refuse(Status::ILLEGAL);
        }
        if self.active() >= MAX_ACTIVE {
            return refuse(Status::NO_SESSION_ROOM);
        }
        self.make_room_for_opening();
        let bmc_id = self.unused_id();
        let response = OpenResponse {
            tag: request.tag,
            status: Status::OK,
            privilege: limit.number(),
            console_id: request.console_id,
            accepted: Some((bmc_id, suite.algorithms().map(Some))),
        };
        let answer = packet::plain(PayloadType::OpenResponse, &response.encode());
        let stage = Stage::Opened { request: payload.to_vec(), answer: answer.clone() };
        let session = Session { peer, seen: now, console_id: request.console_id, suite, limit, stage };
        self.sessions.insert(bmc_id, session);
        Some(answer)
    }

    fn on_rakp1(&mut self, payload: &[u8], now: Instant) -> Option<Vec<u8>> {
        let rakp1 = Rakp1::decode(payload).ok()?;
        let Some(session) = self.sessions.get_mut(&rakp1.bmc_id) else {
            return Some(refuse_rakp1(rakp1.tag, 0, Status::INVALID_SESSION));
        };
        let refuse = |status| Some(refuse_rakp1(rakp1.tag, session.console_id, status));
        match &session.stage {
            Stage::Active(_) => return refuse(Status::INACTIVE_SESSION),
            Stage::Keyed { rakp1, answer, .. } if rakp1 == payload => return Some(answer.clone()),
            Stage::Opened { .. } | Stage::Keyed { .. } => {}
        }
        let Some(role) = Privilege::from_number(rakp1.role & PRIVILEGE_MASK) else {
            return refuse(Status::INVALID_ROLE);
        };
        if rakp1.user != self.account.credentials.user().as_bytes() {
            return refuse(Status::UNAUTHORIZED_NAME);
        }
        if role > self.account.privilege || role > session.limit {
            return refuse(Status::UNAUTHORIZED_ROLE);
        }
        let exchange = Exchange {
            suite: session.suite,
            console_id: session.console_id,
            bmc_id: rakp1.bmc_id,
            console_random: rakp1.console_random,
            bmc_random: self.rng.random(),
            guid: self.commands.guid(),
            role: rakp1.role,
            user: rakp1.user,
        };
        let rakp2 = Rakp2 {
            tag: rakp1.tag,
            status: Status::OK,
            console_id: session.console_id,
            accepted: Some(Rakp2Accepted {
                bmc_random: exchange.bmc_random,
                guid: exchange.guid,
                code: exchange.bmc_code(self.account.credentials.password()).to_vec(),
            }),
        };
        let answer = packet::plain(PayloadType::Rakp2, &rakp2.encode());
        session.limit = role;
        session.seen = now;
        session.stage =
            Stage::Keyed { rakp1: payload.to_vec(), answer: answer.clone(), exchange: Box::new(exchange) };
        Some(answer)
    }

    fn on_rakp3(&mut self, payload: &[u8], peer: SocketAddr, now: Instant) -> Option<Vec<u8>> {
        let rakp3 = Rakp3::decode(payload).ok()?;
        let full = self.active() >= MAX_ACTIVE;
        let Some(session) = self.sessions.get_mut(&rakp3.bmc_id) else {
            return Some(refuse_rakp3(rakp3.tag, 0, Status::INVALID_SESSION));
        };
        let console_id = session.console_id;
        let exchange = match &session.stage {
            Stage::Active(active) if active.rakp3 == payload => return Some(active.answer.clone()),
            Stage::Active(_) => return None,
            Stage::Opened { .. } => {
                return Some(refuse_rakp3(rakp3.tag, console_id, Status::INACTIVE_SESSION));
            }
            Stage::Keyed { exchange, .. } => exchange,
        };
        let password = self.account.credentials.password();
        let refused = if rakp3.status != Status::OK {
            // The console has ended the attempt and wants no answer (section 13.22).
            self.sessions.remove(&rakp3.bmc_id);
            return None;
        } else if !same(&exchange.console_code(password), &rakp3.code) {
            Some(Status::INVALID_CODE)
        } else if full {
            Some(Status::NO_SESSION_ROOM)
        } else {
            None
        };
        if let Some(status) = refused {
            self.sessions.remove(&rakp3.bmc_id);
            return Some(refuse_rakp3(rakp3.tag, console_id, status));
        }
        let sik = exchange.session_integrity_key(password);
        let check = exchange.integrity_check(&sik);
        let rakp4 = Rakp4 { tag: rakp3.tag, status: Status::OK, console_id, check };
        let answer = packet::plain(PayloadType::Rakp4, &rakp4.encode());
        session.stage = Stage::Active(Box::new(Active {
            keys: exchange.keys(&sik),
            rakp3: payload.to_vec(),
            answer: answer.clone(),
            // Section 22.18: a session starts at user level, whatever its limit.
            privilege: Privilege::User.min(session.limit),
            next_sequence: 1,
            window: SequenceWindow::new(AHEAD),
            last: None,
        }));
        session.peer = peer;
        session.seen = now;
        Some(answer)
    }

    fn on_secured(
        &mut self,
        secured: &Secured<'_>,
        peer: SocketAddr,
        view: View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Option<Vec<u8>> {
        let session = self.sessions.get_mut(&secured.session_id)?;
        let Stage::Active(active) = &mut session.stage else { return None };
        let payload = secured.open(&active.keys).ok()?;
        if secured.payload_type != PayloadType::Ipmi || !active.window.accept(secured.sequence) {
            return None;
        }
        session.seen = now;
        session.peer = peer;
        let request = Message::decode(&payload).ok().filter(is_for_bmc)?;
        let response = match &active.last {
            Some((last, response)) if *last == request => response.clone(),
            _ => {
                let answer = self.in_session(secured.session_id, &request, view, now, perform);
                respond(&request, &answer)
            }
        };
        let closes = response.command == Command::CLOSE_SESSION.code
            && request.netfn == Command::CLOSE_SESSION.netfn
            && response.data.first() == Some(&CompletionCode::OK.0);
        let vector: [u8; BLOCK] = self.rng.random();
        let session = self.sessions.get_mut(&secured.session_id)?;
        let console_id = session.console_id;
        let Stage::Active(active) = &mut session.stage else { return None };
        let sequence = active.next_sequence;
        active.next_sequence = sequence.checked_add(1).unwrap_or(1);
        let payload = response.encode();
        active.last = Some((request, response));
        let datagram =
            packet::secured(&active.keys, console_id, sequence, PayloadType::Ipmi, &vector, &payload);
        if closes {
            self.sessions.remove(&secured.session_id);
        }
        Some(datagram)
    }

    fn in_session(
        &mut self,
        bmc_id: u32,
        request: &Message,
        view: View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Answer {
        let command = Command::new(request.netfn, request.command);
        let (active, limit) = match self.sessions.get_mut(&bmc_id) {
            Some(Session { stage: Stage::Active(active), limit, .. }) => (active, *limit),
            _ => return Err(CompletionCode::INVALID_SESSION_ID),
        };
        match command {
            Command::SET_SESSION_PRIVILEGE => set_privilege(&mut active.privilege, limit, &request.data),
            Command::CLOSE_SESSION => self.close(bmc_id, &request.data),
            Command::GET_SESSION_INFO => self.session_info(bmc_id, &request.data),
            command => match Commands::required_privilege(command) {
                None => Err(CompletionCode::INVALID_COMMAND),
                Some(required) if active.privilege < required => Err(CompletionCode::INSUFFICIENT_PRIVILEGE),
                Some(_) => self.commands.answer(command, &request.data, view, now, perform),
            },
        }
    }

    /// Section 22.19. A session's own end is left to the caller, who still has to sign the answer.
    fn close(&mut self, own: u32, data: &[u8]) -> Answer {
        let id = *data.first_chunk::<4>().ok_or(CompletionCode::DATA_TRUNCATED)?;
        let id = u32::from_le_bytes(id);
        if id == own {
            return Ok(Vec::new());
        }
        // Another session may only be closed by an administrator, and nobody here needs to.
        Err(CompletionCode::INVALID_SESSION_ID)
    }

    /// Section 22.20: this session (index 0) or the n-th active one.
    fn session_info(&self, own: u32, data: &[u8]) -> Answer {
        let mut ids: Vec<u32> =
            self.sessions.iter().filter(|(_, session)| session.is_active()).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let id = match *data {
            [0] => Some(own),
            [index @ 1..=0xfd] => ids.get(usize::from(index) - 1).copied(),
            _ => return Err(CompletionCode::INVALID_FIELD),
        };
        let count = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let Some(Session { peer, stage: Stage::Active(active), .. }) =
            id.and_then(|id| self.sessions.get(&id))
        else {
            return Ok(vec![0, count(MAX_ACTIVE), count(ids.len())]);
        };
        let handle = ids.iter().position(|known| Some(*known) == id).map_or(0, |at| count(at + 1));
        let address = match peer.ip() {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        // IPMI 2.0 over LAN, channel 1.
        let head = [handle, count(MAX_ACTIVE), count(ids.len()), USER_ID, active.privilege.number(), 0x11];
        Ok([head.as_slice(), &address, &[0; 6], &peer.port().to_le_bytes()].concat())
    }

    fn make_room_for_opening(&mut self) {
        let opening = || self.sessions.iter().filter(|(_, session)| !session.is_active());
        if opening().count() >= MAX_OPENING
            && let Some((&oldest, _)) = opening().min_by_key(|(_, session)| session.seen)
        {
            self.sessions.remove(&oldest);
        }
    }

    fn unused_id(&mut self) -> u32 {
        loop {
            let id = self.rng.random_range(1..=u32::MAX);
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    const fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Active(_))
    }
}

fn is_for_bmc(message: &Message) -> bool {
    message.to == BMC_ADDRESS && message.netfn.is_multiple_of(2)
}

fn respond(request: &Message, answer: &Answer) -> Message {
    match answer {
        Ok(data) => request.response(CompletionCode::OK.0, data),
        Err(code) => request.response(code.0, &[]),
    }
}

fn refuse_rakp1(tag: u8, console_id: u32, status: Status) -> Vec<u8> {
    let rakp2 = Rakp2 { tag, status, console_id, accepted: None };
    packet::plain(PayloadType::Rakp2, &rakp2.encode())
}

fn refuse_rakp3(tag: u8, console_id: u32, status: Status) -> Vec<u8> {
    let rakp4 = Rakp4 { tag, status, console_id, check: Vec::new() };
    packet::plain(PayloadType::Rakp4, &rakp4.encode())
}

/// The best suite that fits what the console proposed; an algorithm left open fits any.
fn choose_suite(proposed: Algorithms) -> Result<CipherSuite, Status> {
    let refusals =
        [Status::INVALID_AUTHENTICATION, Status::INVALID_INTEGRITY, Status::INVALID_CONFIDENTIALITY];
    let mut candidates = vec![CipherSuite::Suite17, CipherSuite::Suite3];
    for (at, (proposed, refusal)) in proposed.into_iter().zip(refusals).enumerate() {
        let fits = |suite: &CipherSuite, number: u8| suite.algorithms().get(at) == Some(&number);
        let Some(number) = proposed else { continue };
        let known = [CipherSuite::Suite17, CipherSuite::Suite3].iter().any(|suite| fits(suite, number));
        candidates.retain(|suite| fits(suite, number));
        if candidates.is_empty() {
            return Err(if known { Status::NO_SUITE } else { refusal });
        }
    }
    candidates.first().copied().ok_or(Status::NO_SUITE)
}

/// Section 22.18. Level zero asks for the present one.
fn set_privilege(current: &mut Privilege, limit: Privilege, data: &[u8]) -> Answer {
    let [number] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
    if number & PRIVILEGE_MASK != 0 {
        let wanted = Privilege::from_number(number & PRIVILEGE_MASK).ok_or(CompletionCode::INVALID_FIELD)?;
        if wanted > limit {
            return Err(CompletionCode::PRIVILEGE_LIMIT);
        }
        *current = wanted;
    }
    Ok(vec![current.number()])
}
