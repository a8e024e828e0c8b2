// SPDX-License-Identifier: Apache-2.0
//! IPMI over LAN, from both ends: any datagram, any payload behind a valid integrity code, every message codec, and
//! the client's state machine fed by a BMC that answers anything.

#![no_main]

use std::time::{Duration, Instant};

use ipmi::chassis::{BootFlags, ChassisStatus};
use ipmi::crypto::SessionKeys;
use ipmi::packet::{self, Packet, PayloadType};
use ipmi::session::Session;
use ipmi::{CipherSuite, Command, Credentials, Options, lan, rakp};
use libfuzzer_sys::fuzz_target;

/// What both ends of the fuzzed session know.
const PASSWORD: &str = "secret";

fuzz_target!(|data: &[u8]| {
    datagram(data);
    messages(data);
    client(data);
});

fn datagram(data: &[u8]) {
    for suite in [CipherSuite::Suite3, CipherSuite::Suite17] {
        let keys = SessionKeys::derive(suite, b"a session integrity key");
        if let Ok(Packet::Secured(secured)) = Packet::decode(data) {
            let _ = secured.open(&keys);
        }
        open_signed(&keys, data);
        let sealed = packet::secured(&keys, 1, 1, PayloadType::Ipmi, &[7; 16], data);
        if let (Ok(_), Ok(Packet::Secured(secured))) =
            (u16::try_from(data.len() + 32), Packet::decode(&sealed))
        {
            assert_eq!(secured.open(&keys).as_deref(), Ok(data));
        }
    }
}

/// A packet whose signature is right and whose content is the input: what is behind the integrity check.
fn open_signed(keys: &SessionKeys, data: &[u8]) {
    let mut bytes = vec![6, 0, 0xff, 7, 6, 0xc0, 1, 0, 0, 0, 1, 0, 0, 0];
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_le_bytes());
    bytes.extend_from_slice(data);
    bytes.extend([0, 7]);
    let tag = keys.sign(&bytes[4..]);
    bytes.extend(tag);
    if let Ok(Packet::Secured(secured)) = Packet::decode(&bytes) {
        let _ = secured.open(keys);
    }
}

fn messages(data: &[u8]) {
    if let Ok(message) = lan::Message::decode(data) {
        assert_eq!(lan::Message::decode(&message.encode()), Ok(message));
    }
    let _ =
        rakp::OpenRequest::decode(data).map(|m| rakp::OpenRequest::decode(&m.encode()).expect("reads back"));
    let _ = rakp::OpenResponse::decode(data)
        .map(|m| rakp::OpenResponse::decode(&m.encode()).expect("reads back"));
    let _ = rakp::Rakp1::decode(data).map(|m| rakp::Rakp1::decode(&m.encode()).expect("reads back"));
    let _ = rakp::Rakp2::decode(data).map(|m| rakp::Rakp2::decode(&m.encode()).expect("reads back"));
    let _ = rakp::Rakp3::decode(data).map(|m| rakp::Rakp3::decode(&m.encode()).expect("reads back"));
    let _ = rakp::Rakp4::decode(data).map(|m| rakp::Rakp4::decode(&m.encode()).expect("reads back"));
    let _ = (ChassisStatus::decode(data), BootFlags::decode(data));
}

/// Each chunk of the input, after its header byte, is one step of the BMC: with the high bit its datagram as it is,
/// otherwise the right answer, twisted by the chunk. The low bits are the length.
fn client(mut data: &[u8]) {
    let credentials = Credentials::new("admin", PASSWORD).expect("credentials are valid");
    let mut session = Session::new(credentials, Options::default(), [7; 32]);
    let mut bmc = Bmc::default();
    let mut now = Instant::now();
    let mut sent = session.open(now).send;
    while let Some((header, rest)) = data.split_first() {
        let (chunk, rest) = rest.split_at(rest.len().min(usize::from(header & 0x7f)));
        data = rest;
        now += Duration::from_millis(100);
        let datagram = match header & 0x80 {
            0 => sent.as_deref().and_then(|asked| bmc.answer(asked, chunk)),
            _ => Some(chunk.to_vec()),
        };
        let mut step = datagram.map(|datagram| session.datagram(&datagram, now)).unwrap_or_default();
        if matches!(step.outcome, Some(Ok(_))) {
            step = session.request(Command::GET_DEVICE_ID, chunk, now);
        }
        sent = step.send.or(session.tick(now).send).or(sent);
    }
    let _ = (session.close(now), session.farewell());
}

/// The other end of a session, as far as the client can see it.
#[derive(Default)]
struct Bmc {
    exchange: Option<rakp::Exchange>,
    keys: Option<SessionKeys>,
    sequence: u32,
}

impl Bmc {
    fn answer(&mut self, asked: &[u8], twist: &[u8]) -> Option<Vec<u8>> {
        let mut answer = match Packet::decode(asked).ok()? {
            Packet::Unauthenticated { message, .. } => {
                let capabilities = [1, 0x80, 0, 2, 0, 0, 0, 0];
                let asked = lan::Message::decode(message).ok()?;
                packet::unauthenticated(&asked.response(0, &capabilities).encode())
            }
            Packet::Plain { payload_type: PayloadType::OpenRequest, payload } => self.opened(payload)?,
            Packet::Plain { payload_type: PayloadType::Rakp1, payload } => self.rakp2(payload)?,
            Packet::Plain { payload_type: PayloadType::Rakp3, payload } => self.rakp4(payload)?,
            Packet::Secured(secured) => {
                let keys = self.keys.as_ref()?;
                let asked = lan::Message::decode(&secured.open(keys).ok()?).ok()?;
                let (code, data) = twist.split_first().unwrap_or((&0, &[]));
                let answer = asked.response(*code, data).encode();
                self.sequence += 1;
                let console_id = self.exchange.as_ref()?.console_id;
                return Some(packet::secured(
                    keys,
                    console_id,
                    self.sequence,
                    PayloadType::Ipmi,
                    &[9; 16],
                    &answer,
                ));
            }
            _ => return None,
        };
        if let [at, with, ..] = twist {
            let at = usize::from(*at) % answer.len();
            answer[at] ^= with;
        }
        Some(answer)
    }

    fn opened(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let asked = rakp::OpenRequest::decode(payload).ok()?;
        let suite = [CipherSuite::Suite17, CipherSuite::Suite3]
            .into_iter()
            .find(|suite| suite.algorithms().map(Some) == asked.algorithms)?;
        self.exchange = Some(rakp::Exchange {
            suite,
            console_id: asked.console_id,
            bmc_id: 0x0203_0405,
            console_random: [0; 16],
            bmc_random: [3; 16],
            guid: [4; 16],
            role: 0,
            user: Vec::new(),
        });
        let accepted = Some((0x0203_0405, asked.algorithms));
        let (tag, console_id) = (asked.tag, asked.console_id);
        let opened = rakp::OpenResponse { tag, status: rakp::Status::OK, privilege: 4, console_id, accepted };
        Some(packet::plain(PayloadType::OpenResponse, &opened.encode()))
    }

    fn rakp2(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let asked = rakp::Rakp1::decode(payload).ok()?;
        let exchange = self.exchange.as_mut()?;
        exchange.console_random = asked.console_random;
        exchange.role = asked.role;
        exchange.user = asked.user;
        let code = exchange.bmc_code(PASSWORD.as_bytes()).to_vec();
        let accepted = rakp::Rakp2Accepted { bmc_random: exchange.bmc_random, guid: exchange.guid, code };
        let (tag, console_id) = (asked.tag, exchange.console_id);
        let answer = rakp::Rakp2 { tag, status: rakp::Status::OK, console_id, accepted: Some(accepted) };
        Some(packet::plain(PayloadType::Rakp2, &answer.encode()))
    }

    fn rakp4(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let asked = rakp::Rakp3::decode(payload).ok()?;
        let exchange = self.exchange.as_ref()?;
        let sik = exchange.session_integrity_key(PASSWORD.as_bytes());
        self.keys = Some(exchange.keys(&sik));
        let (tag, console_id) = (asked.tag, exchange.console_id);
        let check = exchange.integrity_check(&sik);
        let answer = rakp::Rakp4 { tag, status: rakp::Status::OK, console_id, check };
        Some(packet::plain(PayloadType::Rakp4, &answer.encode()))
    }
}
