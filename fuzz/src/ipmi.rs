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

/// Each chunk of the input, after a length byte, is one datagram of the BMC.
fn client(mut data: &[u8]) {
    let credentials = Credentials::new("admin", "secret").expect("credentials are valid");
    let mut session = Session::new(credentials, Options::default(), [7; 32]);
    let mut now = Instant::now();
    session.open(now);
    let _ = session.request(Command::GET_DEVICE_ID, &[], now);
    while let Some((length, rest)) = data.split_first() {
        let (chunk, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        data = rest;
        now += Duration::from_millis(100);
        session.datagram(chunk, now);
        session.tick(now);
    }
    let _ = session.close(now);
}
