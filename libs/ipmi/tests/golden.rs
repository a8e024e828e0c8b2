// SPDX-License-Identifier: Apache-2.0
//! Recorded sessions of `ipmitool`: every code is recomputed from the password, every packet verified and decrypted.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

use ipmi::CipherSuite;
use ipmi::crypto::SessionKeys;
use ipmi::lan::Message;
use ipmi::packet::{Packet, PayloadType};
use ipmi::rakp::{Exchange, OpenRequest, OpenResponse, Rakp1, Rakp2, Rakp3, Rakp4};

/// Network function and command of a request, with its data.
type Asked = (u8, u8, Vec<u8>);

fn datagrams(record: &str) -> Vec<Vec<u8>> {
    let bytes = |digits: &str| {
        let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    record.lines().filter(|line| !line.starts_with('#')).map(|line| bytes(&line[2..])).collect()
}

fn plain(datagram: &[u8], expected: PayloadType) -> &[u8] {
    match Packet::decode(datagram) {
        Ok(Packet::Plain { payload_type, payload }) if payload_type == expected => payload,
        other => panic!("{other:?} is not a plain {expected:?}"),
    }
}

/// Follows the handshake and gives the keys of the session.
fn keys(record: &[Vec<u8>], suite: CipherSuite, password: &[u8]) -> SessionKeys {
    let open = OpenRequest::decode(plain(&record[2], PayloadType::OpenRequest)).unwrap();
    assert_eq!(open.algorithms, suite.algorithms().map(Some));
    let opened = OpenResponse::decode(plain(&record[3], PayloadType::OpenResponse)).unwrap();
    let rakp1 = Rakp1::decode(plain(&record[4], PayloadType::Rakp1)).unwrap();
    assert_eq!(rakp1.user, b"admin");
    let rakp2 = Rakp2::decode(plain(&record[5], PayloadType::Rakp2)).unwrap().accepted.unwrap();
    let rakp3 = Rakp3::decode(plain(&record[6], PayloadType::Rakp3)).unwrap();
    let rakp4 = Rakp4::decode(plain(&record[7], PayloadType::Rakp4)).unwrap();
    let exchange = Exchange {
        suite,
        console_id: open.console_id,
        bmc_id: opened.accepted.unwrap().0,
        console_random: rakp1.console_random,
        bmc_random: rakp2.bmc_random,
        guid: rakp2.guid,
        role: rakp1.role,
        user: rakp1.user,
    };
    assert_eq!(*exchange.bmc_code(password), rakp2.code, "RAKP 2");
    assert_eq!(*exchange.console_code(password), rakp3.code, "RAKP 3");
    let sik = exchange.session_integrity_key(password);
    assert_eq!(exchange.integrity_check(&sik), rakp4.check, "RAKP 4");
    exchange.keys(&sik)
}

/// Opens all packets of the session; gives what was asked.
fn requests(record: &[Vec<u8>], keys: &SessionKeys) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut last: Option<Message> = None;
    for datagram in &record[8..] {
        let Ok(Packet::Secured(secured)) = Packet::decode(datagram) else { panic!("not secured") };
        let message = Message::decode(&secured.open(keys).unwrap()).unwrap();
        match last.take() {
            Some(request) => assert!(message.answers(&request), "{message:?} to {request:?}"),
            None => {
                asked.push((message.netfn, message.command, message.data.clone()));
                last = Some(message);
            }
        }
    }
    asked
}

#[test]
fn a_suite_3_session_of_ipmitool_with_ipmi_sim() {
    let record = datagrams(include_str!("golden/suite3.txt"));
    let keys = keys(&record, CipherSuite::Suite3, b"test");
    let asked = requests(&record, &keys);
    assert_eq!(asked[0], (0x06, 0x3b, vec![4]), "set session privilege level");
    assert!(asked.contains(&(0x00, 0x08, vec![5, 0xe0, 0x04, 0, 0, 0])), "boot flags: {asked:x?}");
    assert_eq!(asked.last().unwrap().1, 0x3c, "close session");
}

#[test]
fn a_suite_17_session_of_ipmitool() {
    let record = datagrams(include_str!("golden/suite17.txt"));
    let keys = keys(&record, CipherSuite::Suite17, b"correct horse");
    let asked = requests(&record, &keys);
    assert_eq!(asked[0], (0x06, 0x3b, vec![4]), "set session privilege level");
    assert!(asked.contains(&(0x00, 0x08, vec![5, 0xe0, 0x04, 0, 0, 0])), "boot flags: {asked:x?}");
    assert_eq!(asked.last().unwrap().1, 0x3c, "close session");
}
