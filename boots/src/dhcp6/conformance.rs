// SPDX-License-Identifier: Apache-2.0
//! The contract as a table: one named case per rule of Tinkerbell's DHCPv6 and of RFC 8415, bytes in and bytes out. The rows are
//! in the modules below, by what they are about; here is what a row is, and what is done with all of them.
//!
//! A case says in words what the answer must have; `conformance.txt` beside this file holds the packets themselves. After a
//! change on purpose run the test with `UPDATE_GOLDEN=1` and read the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use dhcp::v6::{Duid, IaNa, Message, MessageType, Options, Packet, Relay, code};
use serde_json::{Value, json};

use super::client::{find, macs};
use super::decide::{Asked, Server, decide};
use crate::backend::{Found, Index};
use crate::config::tests::config;
use crate::machine::tests::hardware;

mod boot;
mod conduct;
mod network;
mod relays;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const RESERVED: &str = "2001:db8::11";
const OTHER: &str = "2001:db8::99";
const GOLDEN: &str = include_str!("conformance.txt");
const ON: [&str; 5] = [
    "--dhcpv6-enabled",
    "--public-ipv6=fd00::1",
    "--bind-address=::",
    "--dhcpv6-default-name-servers=2001:db8::53,2001:db8::54",
    "--dhcpv6-default-domain-search-list=default.example",
];

const STATELESS: &[&str] = &[];
const AUTO: &[&str] = &["--dhcpv6-mode=auto-stateless"];
const RESERVATION: &[&str] = &["--dhcpv6-mode=reservation"];

/// One row.
struct Case {
    name: &'static str,
    flags: &'static [&'static str],
    /// Differences from the lab's first machine.
    machine: Value,
    packet: Packet,
    from: Ipv6Addr,
    unicast: bool,
    /// What a reader of the rule expects of the answer: field or option, and value. `-` is absence.
    expected: Vec<(&'static str, String)>,
}

fn case(
    name: &'static str,
    flags: &'static [&'static str],
    message: Message,
    expected: &[(&'static str, &str)],
) -> Case {
    let expected = expected.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let packet = Packet { relays: Vec::new(), message };
    let from = "fe80::5054:ff:fe00:11".parse().unwrap();
    Case { name, flags, machine: json!({}), packet, from, unicast: false, expected }
}

fn silence(name: &'static str, flags: &'static [&'static str], message: Message, reason: &str) -> Case {
    case(name, flags, message, &[("silence", reason)])
}

impl Case {
    fn machine(self, machine: Value) -> Self {
        Self { machine, ..self }
    }

    fn by_unicast(self) -> Self {
        Self { unicast: true, ..self }
    }

    fn from(self, from: &str) -> Self {
        Self { from: from.parse().unwrap(), ..self }
    }

    fn through(mut self, relays: Vec<Relay>) -> Self {
        self.packet.relays = relays;
        self
    }

    /// Runs the packet through everything but the socket.
    fn run(&self, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        let config = config(&[&ON[..], self.flags].concat());
        let mut index = Index::default();
        assert_eq!(index.apply_hardware(&machine(&self.machine)), Vec::<String>::new(), "{}", self.name);
        let packet = Packet::parse(bytes).unwrap();
        let macs = macs(&packet, self.from);
        let found = find(&index, &macs, &packet).ok();
        let nic = found.as_ref().map(Found::nic);
        let Some(mac) = nic.map(|nic| nic.mac).or(macs.first().copied()) else { return Err("no-mac") };
        let sizes = BTreeMap::from([("ipxe.efi".to_owned(), 1_061_376), ("own.efi".to_owned(), 1 << 30)]);
        let on_link = ["2001:db8::/64".parse().unwrap()];
        let dhcp = config.dhcp6.as_ref().unwrap();
        let server = Server { dhcp, programs: &config.programs, sizes: &sizes, on_link: &on_link };
        let asked = Asked { packet: &packet, mac, nic, unicast: self.unicast };
        let answer = decide(asked, server).map_err(|silence| silence.label())?;
        Ok(packet.encode_reply(&answer.reply))
    }
}

/// The lab's first machine with an address of IPv6.
fn machine(changes: &Value) -> api::v1alpha1::Hardware {
    let mut interface = json!({ "dhcp": {
        "ip": { "address": RESERVED, "netmask": null, "gateway": null },
        "lease_time": 7200,
        "name_servers": ["1.1.1.1", "2001:db8::1", "2001:db8::2"],
        "time_servers": ["2001:db8::123"],
        "domain_name": "lab.example",
    }});
    merge(&mut interface, changes);
    hardware(&interface)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.iter().for_each(|(key, value)| merge(into.entry(key.clone()).or_insert(Value::Null), value));
        }
        (into, from) => *into = from.clone(),
    }
}

/// A field or an option of an answer as text.
fn field(packet: &Packet, key: &str) -> String {
    let Packet { relays, message } = packet;
    let associations: Vec<IaNa> = message.options.ia_na().collect();
    let of_ia = |i: usize| {
        let Some(ia) = associations.get(i) else { return "-".to_owned() };
        let lifetimes = ia.options.all(code::IA_ADDRESS).map(|value| {
            let number = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().unwrap());
            format!(" {}/{}", number(16), number(20))
        });
        let addresses = ia.addresses().zip(lifetimes).map(|(address, times)| format!("{address}{times}"));
        let addresses: Vec<String> = addresses.collect();
        match addresses.is_empty() {
            true => format!("status {}", dhcp::v6::status_of(&ia.options)),
            false => format!("{} t1={} t2={}", addresses.join(","), ia.t1, ia.t2),
        }
    };
    match key {
        "type" => message.kind.name().to_owned(),
        "ia" => of_ia(0),
        "ia2" => of_ia(1),
        "status" => dhcp::v6::status_of(&message.options).to_string(),
        "url" => match message.options.get(code::BOOT_FILE_URL) {
            None => "-".to_owned(),
            Some(url) => String::from_utf8(url.to_vec()).unwrap(),
        },
        "relays" => relays.len().to_string(),
        "interface" => relays.last().and_then(|relay| relay.options.get(18)).map_or("-".to_owned(), hex),
        "remote" => relays.first().and_then(|relay| relay.options.get(37)).map_or("-".to_owned(), hex),
        option => message.options.get(option.parse().unwrap()).map_or("-".to_owned(), hex),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn message(kind: MessageType, duid: &Duid) -> Message {
    let mut message = Message::new(kind, [0xa1, 0xb2, 0xc3]);
    message.options.add(code::CLIENT_ID, duid.as_bytes());
    message
}

/// A message of the machine's operating system to this server where it must name it.
fn system(kind: MessageType, associations: &[&[&str]]) -> Message {
    use MessageType::{Confirm, InformationRequest, Rebind, Solicit};
    let mut message = message(kind, &Duid::link_layer_time(MAC, 0x2e5f_0000));
    if !matches!(kind, Solicit | Confirm | Rebind | InformationRequest) {
        let ours = config(&ON).dhcp6.unwrap().duid;
        message.options.add(code::SERVER_ID, ours.as_bytes());
    }
    for (i, addresses) in associations.iter().enumerate() {
        let id = u32::try_from(i + 1).unwrap().to_be_bytes();
        let mut ia = IaNa { id, t1: 0, t2: 0, options: Options::default() };
        addresses.iter().for_each(|address| ia.add_address(address.parse().unwrap(), (0, 0)));
        message.options.add_ia_na(&ia);
    }
    message
}

/// A message of a program that boots, as EDK II and iPXE write it.
fn booting(kind: MessageType, class: &str, arch: u16) -> Message {
    let mut message = message(kind, &Duid::uuid([7; 16]));
    if kind == MessageType::Solicit {
        message.options.add_ia_na(&IaNa { id: [0, 0, 0, 1], t1: 0, t2: 0, options: Options::default() });
    }
    message.options.add_codes(code::REQUEST_LIST, &[59, 60, 23]);
    message.options.add(code::CLIENT_ARCH, arch.to_be_bytes());
    message.options.add(62, [1, 3, 16]);
    message.options.add_vendor_class(343, class);
    message
}

fn with(mut message: Message, change: impl FnOnce(&mut Message)) -> Message {
    change(&mut message);
    message
}

fn wanting(message: Message, codes: &[u16]) -> Message {
    with(message, |m| m.options.add_codes(code::REQUEST_LIST, codes))
}

fn user(message: Message, class: &str) -> Message {
    with(message, |m| m.options.add_user_class(class))
}

fn relay(hops: u8, link: &str, peer: &str) -> Relay {
    let mut options = Options::default();
    options.add(code::INTERFACE_ID, *b"eth7");
    options.add(code::REMOTE_ID, *b"\0\0\x01\x57line");
    Relay { hops, link: link.parse().unwrap(), peer: peer.parse().unwrap(), options }
}

#[test]
fn every_rule_gives_its_bytes() {
    let cases: Vec<Case> =
        [conduct::cases(), network::cases(), boot::cases(), relays::cases()].into_iter().flatten().collect();
    let mut written = String::new();
    let (mut names, mut wrong) = (BTreeMap::new(), Vec::new());
    for case in &cases {
        assert!(names.insert(case.name, ()).is_none(), "{} is there twice", case.name);
        let packet = case.packet.encode();
        let ours = config(&[&ON[..], case.flags].concat()).dhcp6.unwrap().duid;
        writeln!(written, "{}\nin  {}", case.name, hex(&packet)).unwrap();
        match case.run(&packet) {
            Ok(bytes) => {
                let reply = Packet::parse_reply(&bytes).unwrap();
                for (key, value) in &case.expected {
                    assert_ne!(*key, "silence", "{}: there is an answer", case.name);
                    let found = field(&reply, key);
                    if found != *value {
                        wrong.push(format!("{}: {key} is {found}, not {value}", case.name));
                    }
                }
                let client = case.packet.message.options.get(code::CLIENT_ID);
                assert_eq!(reply.message.options.get(code::CLIENT_ID), client, "{}", case.name);
                assert_eq!(
                    reply.message.options.get(code::SERVER_ID),
                    Some(ours.as_bytes()),
                    "{}",
                    case.name
                );
                assert_eq!(reply.message.id, case.packet.message.id, "{}", case.name);
                harmless(case.name, &reply.message);
                writeln!(written, "out {}\n", hex(&bytes)).unwrap();
            }
            Err(reason) => {
                if case.expected != [("silence", reason.to_owned())] {
                    wrong.push(format!("{}: silence for {reason}, not {:?}", case.name, case.expected));
                }
                writeln!(written, "silence {reason}\n").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dhcp6/conformance.txt");
        std::fs::write(path, &written).unwrap();
        return;
    }
    for (ours, golden) in written.split("\n\n").zip(GOLDEN.split("\n\n")) {
        assert_eq!(ours, golden);
    }
    assert_eq!(written, GOLDEN, "the same number of cases");
}

/// The shapes by which EDK II's DHCPv6 clients were harmed (CVE-2023-45229 to -45235): identifiers longer than a DUID that
/// is a UUID, name servers that are not whole addresses, associations shorter than their head.
fn harmless(name: &str, reply: &Message) {
    assert!(reply.options.get(code::SERVER_ID).is_some_and(|id| id.len() == 18), "{name}");
    for servers in reply.options.all(code::DNS) {
        assert!(!servers.is_empty() && servers.len() % 16 == 0, "{name}");
    }
    for ia in reply.options.all(code::IA_NA) {
        assert!(ia.len() >= 12, "{name}");
        for (code, value) in Options::parse(&ia[12..]).iter() {
            assert!(value.len() >= if code == code::IA_ADDRESS { 24 } else { 2 }, "{name}");
        }
    }
    assert!(reply.options.all(code::STATUS).count() <= 1 && reply.encode().len() <= 1232, "{name}");
}
