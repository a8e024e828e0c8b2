// SPDX-License-Identifier: Apache-2.0
//! The contract as a table: one named case per rule of Tinkerbell's DHCP and of the RFCs that it leaves out, bytes in and
//! bytes out. The rows are in the modules below, by what they are about; here is what a row is, and what is done with all of them.
//!
//! A case says in words what the answer must have; `conformance.txt` beside this file holds the packets themselves, so that
//! a change of any byte is seen. After a change on purpose run the test with `UPDATE_GOLDEN=1` and read the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use api::Mac;
use dhcp::{Message, MessageType, code};
use serde_json::{Value, json};

use super::address::{Destination, destination};
use super::decide::{Asked, Port, Server, decide};
use super::listener::find;
use super::local::server_address;
use super::pool::Leases;
use crate::backend::{Found, Index};
use crate::config::tests::config;
use crate::machine::tests::hardware;

mod boot;
mod conduct;
mod modes;
mod network;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
const PI: [u8; 6] = [0xdc, 0xa6, 0x32, 1, 2, 3];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OURS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 99);
const RESERVED: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 11);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const GOLDEN: &str = include_str!("conformance.txt");
const NOW: u64 = 1_700_000_000;

/// One row.
struct Case {
    name: &'static str,
    flags: &'static [&'static str],
    /// Differences from the lab's first machine.
    machine: Value,
    request: Message,
    port: Port,
    /// What a reader of the rule expects of the answer: field or option, and value. `-` is absence.
    expected: Vec<(&'static str, String)>,
}

fn case(name: &'static str, request: Message, expected: &[(&'static str, &str)]) -> Case {
    let expected = expected.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Case { name, flags: &[], machine: json!({}), request, port: Port::Server, expected }
}

impl Case {
    fn flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    fn machine(self, machine: Value) -> Self {
        Self { machine, ..self }
    }

    fn on_pxe_port(self) -> Self {
        Self { port: Port::Pxe, ..self }
    }

    /// Runs the packet through everything but the sockets.
    fn run(&self, packet: &[u8]) -> Result<(Message, Vec<u8>, Destination), &'static str> {
        let config = config(self.flags);
        let dhcp = config.dhcp.as_ref().unwrap();
        let mut index = Index::default();
        let mut machine = hardware(&self.machine);
        let annotations = machine.metadata.annotations.get_or_insert_default();
        annotations.insert("tinkerbell.org/dhcp-circuit-id".to_owned(), "Gi1/0/7".to_owned());
        assert!(index.apply_hardware(&machine).is_empty(), "{}: the machine is sound", self.name);
        let request = Message::parse(packet).unwrap();
        let mac = Mac::from(request.mac().unwrap());
        let found = find(&index, mac, &request).ok();
        let nic = found.as_ref().map(Found::nic);
        let ours = ["172.31.0.1/24".parse().unwrap()];
        let address = server_address(dhcp.server, &ours, None, !request.giaddr.is_unspecified());
        let server = Server { dhcp, urls: &config.urls, programs: &config.programs, address, link: OURS };
        let asked = Asked { request: &request, mac, port: self.port, nic, session: None };
        let mut leases = Leases::new(&dhcp.pools);
        let answer = decide(asked, server, &mut leases, |address| index.is_reserved(address), NOW);
        let answer = answer.map_err(|silence| silence.label())?;
        let encoded = answer.reply.encode_for(&request).unwrap();
        assert!(encoded.dropped.is_empty(), "{}: everything fits", self.name);
        Ok((Message::parse(&encoded.bytes).unwrap(), encoded.bytes, destination(&request, &answer.reply)))
    }
}

/// A field or an option of an answer as text.
fn field(reply: &Message, to: Destination, key: &str) -> String {
    match key {
        "type" => reply.message_type().unwrap().name().to_owned(),
        "yiaddr" => reply.yiaddr.to_string(),
        "ciaddr" => reply.ciaddr.to_string(),
        "siaddr" => reply.siaddr.to_string(),
        "giaddr" => reply.giaddr.to_string(),
        "file" => reply.file(),
        "sname" => reply.sname(),
        "broadcast" => reply.wants_broadcast().to_string(),
        "to" => match to {
            Destination::Routed(address) => address.to_string(),
            Destination::Broadcast => "broadcast".to_owned(),
            Destination::Direct(mac, address) => format!("{mac} {address}"),
        },
        option => match reply.options.get(option.parse().unwrap()) {
            None => "-".to_owned(),
            Some(value) => hex(value),
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Hexadecimal digits in which long runs of zero bytes are `(count)`.
fn packed(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        let taken = if zeros >= 6 {
            write!(text, "({zeros})").unwrap();
            zeros
        } else {
            write!(text, "{first:02x}").unwrap();
            1
        };
        rest = &rest[taken..];
    }
    text
}

fn plain(kind: MessageType) -> Message {
    Message::request(kind, MAC, 0x1234_5678)
}

fn with(mut message: Message, change: impl FnOnce(&mut Message)) -> Message {
    change(&mut message);
    message
}

fn pxe_of(mac: [u8; 6], kind: MessageType, class: &str, arch: u16) -> Message {
    with(Message::request(kind, mac, 0x1234_5678), |m| {
        m.options.set_text(code::VENDOR_CLASS, class);
        m.options.set(code::CLIENT_ARCH, arch.to_be_bytes());
        m.options.set(code::CLIENT_NDI, [1, 3, 16]);
    })
}

fn pxe(kind: MessageType, class: &str, arch: u16) -> Message {
    pxe_of(MAC, kind, class, arch)
}

fn user_class(class: &str) -> Message {
    with(pxe(MessageType::Discover, "PXEClient:Arch:00007:UNDI:003016", 7), |m| {
        m.options.set_text(code::USER_CLASS, class);
    })
}

fn request(server: Option<Ipv4Addr>, wanted: Option<Ipv4Addr>, held: Option<Ipv4Addr>) -> Message {
    with(plain(MessageType::Request), |m| {
        server.into_iter().for_each(|ip| m.options.set_ip(code::SERVER_ID, ip));
        wanted.into_iter().for_each(|ip| m.options.set_ip(code::REQUESTED_IP, ip));
        m.ciaddr = held.unwrap_or(Ipv4Addr::UNSPECIFIED);
    })
}

#[test]
fn every_rule_gives_its_bytes() {
    let cases: Vec<Case> =
        [conduct::cases(), network::cases(), boot::cases(), modes::cases()].into_iter().flatten().collect();
    let mut written = String::new();
    let mut names = BTreeMap::new();
    for case in &cases {
        assert!(names.insert(case.name, ()).is_none(), "{} is there twice", case.name);
        let packet = case.request.encode(usize::MAX).unwrap().bytes;
        let port = if case.port == Port::Pxe { "4011" } else { "67" };
        writeln!(written, "{}\nport {port} in  {}", case.name, packed(&packet)).unwrap();
        match case.run(&packet) {
            Ok((reply, bytes, to)) => {
                for (key, value) in &case.expected {
                    assert_ne!(*key, "silence", "{}: there is an answer", case.name);
                    assert_eq!(field(&reply, to, key), *value, "{}: {key}", case.name);
                }
                assert!(bytes.len() >= 300, "{}", case.name);
                writeln!(written, "{} out {}\n", field(&reply, to, "to"), packed(&bytes)).unwrap();
            }
            Err(reason) => {
                assert_eq!(case.expected, [("silence", reason.to_owned())], "{}", case.name);
                writeln!(written, "silence {reason}\n").unwrap();
            }
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dhcp/conformance.txt");
        std::fs::write(path, &written).unwrap();
        return;
    }
    for (ours, golden) in written.split("\n\n").zip(GOLDEN.split("\n\n")) {
        assert_eq!(ours, golden);
    }
    assert_eq!(written, GOLDEN, "the same number of cases");
}
