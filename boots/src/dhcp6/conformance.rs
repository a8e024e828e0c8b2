// SPDX-License-Identifier: Apache-2.0
//! The contract as a table: one named case per rule of Tinkerbell's DHCPv6 and of RFC 8415, bytes in and bytes out.
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

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const RESERVED: &str = "2001:db8::11";
const OTHER: &str = "2001:db8::99";
const ELSEWHERE: &str = "2001:db8:9::1";
const GOLDEN: &str = include_str!("conformance.txt");
const SCRIPT: &str = "http://[fd00::1]:7171/ipxe/script/52:54:00:00:00:11/auto6.ipxe";
const REFUSED: &str = "http://[fd00::1]:7171/ipxe/script/52:54:00:00:00:11/netboot-not-allowed";
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
const NO_BOOT: &[&str] = &["--dhcpv6-mode=reservation", "--dhcpv6-enable-netboot-options=false"];
const OWN_SCRIPT: &[&str] = &[
    "--dhcpv6-ipxe-http-script-host=boot.example",
    "--dhcpv6-ipxe-http-script-port=8080",
    "--dhcpv6-ipxe-http-script-path=/own/x.ipxe",
    "--dhcpv6-ipxe-http-script-prepend-mac=false",
];
const DERIVED: &[&str] = &["--dhcpv6-mode=derived", "--dhcpv6-derived-direct-address-pool=2001:db8:7::/64"];
const DERIVED_RELAY: &[&str] = &["--dhcpv6-mode=derived", "--dhcpv6-derived-relay-address-prefix=48"];

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

const PXE7: &str = "PXEClient:Arch:00007:UNDI:003016";
const HTTP16: &str = "HTTPClient:Arch:00016:UNDI:003016";

/// Which message is answered how.
#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
fn conduct() -> Vec<Case> {
    use MessageType::{Confirm, Decline, InformationRequest, Rebind, Release, Renew, Request, Solicit};
    let mine = "2001:db8::11 3600/7200 t1=3600 t2=5760";
    let rapid = |m: Message| with(m, |m| m.options.add(code::RAPID_COMMIT, []));
    vec![
        case(
            "Solicit: Advertise with the reservation",
            RESERVATION,
            system(Solicit, &[&[]]),
            &[("type", "ADVERTISE"), ("ia", mine), ("14", "-")],
        ),
        case("Solicit: a wish changes nothing", RESERVATION, system(Solicit, &[&[OTHER]]), &[("ia", mine)]),
        case(
            "Solicit: rapid commit gives a Reply",
            RESERVATION,
            rapid(system(Solicit, &[&[]])),
            &[("type", "REPLY"), ("14", ""), ("ia", mine)],
        ),
        case(
            "Solicit: the second association gets none",
            RESERVATION,
            system(Solicit, &[&[], &[]]),
            &[("ia", mine), ("ia2", "status 2")],
        ),
        silence("Solicit: without an association", RESERVATION, system(Solicit, &[]), "no-association"),
        silence(
            "Solicit: more associations than make sense",
            RESERVATION,
            system(Solicit, &[&[][..]; 17]),
            "no-association",
        ),
        case(
            "Solicit: prefixes and temporary addresses are not given",
            RESERVATION,
            with(system(Solicit, &[&[]]), |m| {
                m.options.add(code::IA_PD, [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
                m.options.add(code::IA_TA, [0, 0, 0, 8]);
            }),
            &[("ia", mine), ("25", "000000090000000000000000000d00020006"), ("4", "00000008000d00020002")],
        ),
        silence(
            "Solicit: names a server",
            RESERVATION,
            with(system(Solicit, &[&[]]), |m| {
                m.options.add(code::SERVER_ID, config(&ON).dhcp6.unwrap().duid.as_bytes())
            }),
            "identifiers",
        ),
        silence(
            "Solicit: without a DUID",
            RESERVATION,
            with(Message::new(Solicit, [1; 3]), |m| m.options.add(code::IA_NA, [0; 12])),
            "identifiers",
        ),
        silence(
            "Solicit: an unknown machine",
            RESERVATION,
            message(Solicit, &Duid::link_layer(STRANGER)),
            "unknown-mac",
        )
        .from("fe80::1"),
        silence("Solicit: a machine without an address", RESERVATION, system(Solicit, &[&[]]), "no-address")
            .machine(json!({ "dhcp": { "ip": { "address": "172.31.0.11" } } })),
        silence("Solicit: DHCP is switched off", RESERVATION, system(Solicit, &[&[]]), "disabled")
            .machine(json!({ "disableDhcp": true })),
        silence("Solicit: by unicast", RESERVATION, system(Solicit, &[&[]]), "unicast").by_unicast(),
        case(
            "Request: the reservation",
            RESERVATION,
            system(Request, &[&[RESERVED]]),
            &[("type", "REPLY"), ("ia", mine)],
        ),
        case("Request: names no address", RESERVATION, system(Request, &[&[]]), &[("ia", mine)]),
        case("Request: another address", RESERVATION, system(Request, &[&[OTHER]]), &[("ia", "status 2")]),
        case(
            "Request: the second association has it",
            RESERVATION,
            system(Request, &[&[OTHER], &[RESERVED]]),
            &[("ia", "status 2"), ("ia2", mine)],
        ),
        case(
            "Request: an address too many is over",
            RESERVATION,
            system(Request, &[&[OTHER, RESERVED]]),
            &[("ia", "2001:db8::11 3600/7200,2001:db8::99 0/0 t1=3600 t2=5760")],
        ),
        silence(
            "Request: another server",
            RESERVATION,
            with(message(Request, &Duid::link_layer(MAC)), |m| {
                m.options.add(code::SERVER_ID, [0, 3, 0, 1, 9, 9, 9, 9, 9, 9])
            }),
            "other-server",
        ),
        silence("Request: no server", RESERVATION, message(Request, &Duid::link_layer(MAC)), "identifiers"),
        case(
            "Request: by unicast",
            RESERVATION,
            system(Request, &[&[RESERVED]]),
            &[("status", "5"), ("ia", "-")],
        )
        .by_unicast(),
        case("Renew: the reservation", RESERVATION, system(Renew, &[&[RESERVED]]), &[("ia", mine)]),
        case("Renew: another address", RESERVATION, system(Renew, &[&[OTHER]]), &[("ia", "status 3")]),
        case("Rebind: the reservation", RESERVATION, system(Rebind, &[&[RESERVED]]), &[("ia", mine)]),
        case("Rebind: another address", RESERVATION, system(Rebind, &[&[OTHER]]), &[("ia", "status 3")]),
        case(
            "Release: the reservation",
            RESERVATION,
            system(Release, &[&[RESERVED]]),
            &[("type", "REPLY"), ("status", "0"), ("13", "0000"), ("ia", "-")],
        ),
        case(
            "Release: another address",
            RESERVATION,
            system(Release, &[&[OTHER]]),
            &[("13", "0000"), ("ia", "status 3")],
        ),
        case(
            "Decline: the reservation",
            RESERVATION,
            system(Decline, &[&[RESERVED]]),
            &[("13", "0000"), ("ia", "-")],
        ),
        case("Decline: another address", RESERVATION, system(Decline, &[&[OTHER]]), &[("ia", "status 3")]),
        case(
            "Confirm: addresses of the link",
            RESERVATION,
            system(Confirm, &[&[RESERVED, OTHER]]),
            &[("13", "0000")],
        ),
        case(
            "Confirm: an address of elsewhere",
            RESERVATION,
            system(Confirm, &[&[RESERVED], &[ELSEWHERE]]),
            &[("status", "4")],
        ),
        silence("Confirm: no address", RESERVATION, system(Confirm, &[&[]]), "no-association"),
        silence(
            "Advertise: another server's",
            RESERVATION,
            system(MessageType::Advertise, &[&[]]),
            "not-for-servers",
        ),
        case(
            "lease time: none is a week",
            RESERVATION,
            system(Solicit, &[&[]]),
            &[("ia", "2001:db8::11 302400/604800 t1=302400 t2=483840")],
        )
        .machine(json!({ "dhcp": { "lease_time": 0 } })),
        case(
            "lease time: a minute at least",
            RESERVATION,
            system(Solicit, &[&[]]),
            &[("ia", "2001:db8::11 30/60 t1=30 t2=48")],
        )
        .machine(json!({ "dhcp": { "lease_time": 5 } })),
        case(
            "Information-request: no address",
            RESERVATION,
            system(InformationRequest, &[]),
            &[("type", "REPLY"), ("ia", "-")],
        ),
        silence(
            "Information-request: with an association",
            RESERVATION,
            system(InformationRequest, &[&[]]),
            "identifiers",
        ),
        silence(
            "Information-request: another server",
            RESERVATION,
            with(system(InformationRequest, &[]), |m| m.options.add(code::SERVER_ID, [0, 4, 1])),
            "other-server",
        ),
        case(
            "Information-request: without a DUID",
            STATELESS,
            wanting(Message::new(InformationRequest, [1; 3]), &[32]),
            &[("32", "00003840"), ("1", "-")],
        ),
    ]
}

/// What the network is said to be.
#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
fn network() -> Vec<Case> {
    use MessageType::{InformationRequest, Renew, Request, Solicit};
    let none = json!({ "dhcp": { "name_servers": [], "time_servers": [], "domain_name": null } });
    let (dns1, dns2) = ("20010db8000000000000000000000001", "20010db8000000000000000000000002");
    let both = format!("{dns1}{dns2}");
    let defaults = "20010db800000000000000000000005320010db8000000000000000000000054";
    vec![
        case(
            "options: on request",
            RESERVATION,
            wanting(system(Solicit, &[&[]]), &[23, 24, 56]),
            &[
                ("23", &both),
                ("24", "036c6162076578616d706c6500"),
                ("56", "0001001020010db8000000000000000000000123"),
            ],
        ),
        case(
            "options: not without",
            RESERVATION,
            system(Solicit, &[&[]]),
            &[("23", "-"), ("24", "-"), ("56", "-"), ("32", "-"), ("59", "-")],
        ),
        case(
            "options: defaults list by list",
            STATELESS,
            wanting(system(InformationRequest, &[]), &[23, 24, 56]),
            &[("23", defaults), ("24", "0764656661756c74076578616d706c6500"), ("56", "-")],
        )
        .machine(none),
        case(
            "options: a domain of the machine wins",
            STATELESS,
            wanting(system(InformationRequest, &[]), &[23, 24]),
            &[("23", defaults), ("24", "036c6162076578616d706c6500")],
        )
        .machine(json!({ "dhcp": { "name_servers": [] } })),
        case(
            "stateless: refresh time on request",
            STATELESS,
            wanting(system(InformationRequest, &[]), &[32]),
            &[("32", "00003840")],
        ),
        case(
            "the configured DUID of the server",
            &["--dhcpv6-server-duid=00:04:8d-5f 4b6a7c2e490f9a38369d4c612f10"],
            system(InformationRequest, &[]),
            &[("2", "00048d5f4b6a7c2e490f9a38369d4c612f10")],
        ),
        silence("stateless: Solicit", STATELESS, system(Solicit, &[&[]]), "stateless"),
        silence(
            "stateless: an unknown machine",
            STATELESS,
            message(InformationRequest, &Duid::link_layer(STRANGER)),
            "unknown-mac",
        )
        .from("fe80::1"),
        case(
            "auto-stateless: an unknown machine",
            AUTO,
            wanting(message(InformationRequest, &Duid::link_layer(STRANGER)), &[23, 24]),
            &[("23", defaults), ("24", "0764656661756c74076578616d706c6500")],
        )
        .from("fe80::1"),
        silence(
            "auto-stateless: a machine that says no MAC",
            AUTO,
            message(InformationRequest, &Duid::uuid([1; 16])),
            "no-mac",
        )
        .from("fe80::1"),
        silence("auto-stateless: by unicast", AUTO, system(InformationRequest, &[]), "unicast").by_unicast(),
        case(
            "derived: a reservation comes first",
            DERIVED,
            system(Solicit, &[&[]]),
            &[("ia", "2001:db8::11 3600/7200 t1=3600 t2=5760")],
        ),
        case(
            "derived: from the pool",
            DERIVED,
            system(Solicit, &[&[]]),
            &[("ia", "2001:db8:7:0:7b4c:bbd1:1382:695b 3600/7200 t1=3600 t2=5760")],
        )
        .machine(json!({ "dhcp": { "ip": null } })),
        silence(
            "derived: an unknown machine",
            DERIVED,
            message(Solicit, &Duid::link_layer(STRANGER)),
            "unknown-mac",
        )
        .from("fe80::1"),
        case(
            "derived: Request",
            DERIVED,
            system(Request, &[&["2001:db8:7:0:7b4c:bbd1:1382:695b"]]),
            &[("type", "REPLY"), ("ia", "2001:db8:7:0:7b4c:bbd1:1382:695b 3600/7200 t1=3600 t2=5760")],
        )
        .machine(json!({ "dhcp": { "ip": null } })),
        case("derived: Renew of another address", DERIVED, system(Renew, &[&[OTHER]]), &[("ia", "status 3")])
            .machine(json!({ "dhcp": { "ip": null } })),
        case(
            "derived: the relay's network comes before the pool, 64 bits of it",
            DERIVED,
            system(Solicit, &[&[]]),
            &[("ia", "2001:db8:5:6:7b4c:bbd1:1382:695b 3600/7200 t1=3600 t2=5760")],
        )
        .machine(json!({ "dhcp": { "ip": null } }))
        .through(vec![relay(0, "2001:db8:5:6::1", "fe80::5054:ff:fe00:11")]),
        case(
            "derived: from the relay's address",
            DERIVED_RELAY,
            system(Solicit, &[&[]]),
            &[("ia", "2001:db8:5:f5f0:7b4c:bbd1:1382:695b 3600/7200 t1=3600 t2=5760")],
        )
        .machine(json!({ "dhcp": { "ip": null } }))
        .through(vec![relay(0, "2001:db8:5:6::1", "fe80::5054:ff:fe00:11")]),
        silence("derived: no pool for a direct client", DERIVED_RELAY, system(Solicit, &[&[]]), "no-address")
            .machine(json!({ "dhcp": { "ip": null } })),
    ]
}

/// What is told of the boot.
#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
fn boot() -> Vec<Case> {
    use MessageType::{InformationRequest, Solicit};
    let tftp = "tftp://[fd00::1]/52:54:00:00:00:11/ipxe.efi";
    let http = "http://[fd00::1]:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi";
    let class = "00000157000a48545450436c69656e74";
    let pxe7 = || booting(Solicit, PXE7, 7);
    let http16 = || booting(Solicit, HTTP16, 16);
    let ipxe = |class: &str| user(booting(InformationRequest, PXE7, 7), class);
    let refused = json!({ "netboot": { "allowPXE": false } });
    vec![
        case(
            "PXE firmware: TFTP, the size in blocks, one name server, no class",
            RESERVATION,
            pxe7(),
            &[
                ("url", tftp),
                ("60", "000432303733"),
                ("61", "0007"),
                ("16", "-"),
                ("23", "20010db8000000000000000000000001"),
            ],
        ),
        case(
            "PXE firmware: no size where none is wanted",
            RESERVATION,
            with(message(Solicit, &Duid::uuid([7; 16])), |m| {
                m.options.add(code::IA_NA, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
                m.options.add_codes(code::REQUEST_LIST, &[59]);
                m.options.add(code::CLIENT_ARCH, [0, 7]);
            }),
            &[("url", tftp), ("60", "-")],
        ),
        case(
            "PXE firmware: no size for a file with too many blocks",
            RESERVATION,
            pxe7(),
            &[("url", "tftp://[fd00::1]/52:54:00:00:00:11/own.efi"), ("60", "-")],
        )
        .machine(json!({ "netboot": { "ipxe": { "binary": "own.efi" } } })),
        case(
            "PXE firmware: the architecture from the class",
            RESERVATION,
            with(message(Solicit, &Duid::uuid([7; 16])), |m| {
                m.options.add(code::IA_NA, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
                m.options.add_codes(code::REQUEST_LIST, &[59]);
                m.options.add_vendor_class(343, PXE7);
            }),
            &[("url", tftp), ("61", "-")],
        ),
        case(
            "PXE firmware: no file where none is wanted",
            RESERVATION,
            with(message(Solicit, &Duid::uuid([7; 16])), |m| {
                m.options.add(code::IA_NA, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
                m.options.add_codes(code::REQUEST_LIST, &[60]);
                m.options.add(code::CLIENT_ARCH, [0, 7]);
            }),
            &[("ia", "2001:db8::11 3600/7200 t1=3600 t2=5760"), ("url", "-"), ("60", "-"), ("61", "-")],
        ),
        case(
            "PXE firmware: without an address",
            STATELESS,
            booting(InformationRequest, PXE7, 7),
            &[("type", "REPLY"), ("ia", "-"), ("url", tftp), ("61", "0007")],
        ),
        case(
            "PXE firmware: the configured program",
            &["--dhcpv6-mode=reservation", "--ipxe-override-arch-mapping=7=snp-x86_64.efi"],
            pxe7(),
            &[("url", "tftp://[fd00::1]/52:54:00:00:00:11/snp-x86_64.efi"), ("60", "-")],
        ),
        case(
            "PXE firmware: another form of the MAC",
            &["--dhcpv6-mode=reservation", "--ipxe-binary-inject-mac-addr-format=dash"],
            pxe7(),
            &[("url", "tftp://[fd00::1]/52-54-00-00-00-11/ipxe.efi")],
        ),
        case(
            "PXE firmware: another TFTP server and port",
            &["--dhcpv6-mode=reservation", "--dhcpv6-tftp-ip=fd00::9", "--dhcpv6-tftp-port=6969"],
            pxe7(),
            &[("url", "tftp://[fd00::9]:6969/52:54:00:00:00:11/ipxe.efi")],
        ),
        case(
            "HTTP firmware: by the architecture alone",
            RESERVATION,
            booting(Solicit, "PXEClient:Arch:00016:UNDI:003016", 16),
            &[("url", http), ("16", class), ("61", "0010")],
        ),
        case(
            "HTTP firmware: of RISC-V",
            &["--dhcpv6-mode=reservation", "--ipxe-override-arch-mapping=28=riscv64.efi"],
            booting(Solicit, "PXEClient:Arch:00028", 28),
            &[
                ("url", "http://[fd00::1]:7171/ipxe/binary/52:54:00:00:00:11/riscv64.efi"),
                ("16", class),
                ("61", "001c"),
            ],
        ),
        case(
            "HTTP firmware: another URL",
            &[
                "--dhcpv6-mode=reservation",
                "--dhcpv6-ipxe-http-binary-scheme=https",
                "--dhcpv6-ipxe-http-binary-host=boot.example",
                "--dhcpv6-ipxe-http-binary-port=8443",
                "--dhcpv6-ipxe-http-binary-path=/bin",
            ],
            http16(),
            &[("url", "https://boot.example:8443/bin/52:54:00:00:00:11/ipxe.efi"), ("16", class)],
        ),
        case(
            "iPXE: another script URL",
            OWN_SCRIPT,
            ipxe("iPXE"),
            &[("url", "http://boot.example:8080/own/x.ipxe")],
        ),
        case(
            "not allowed: beside another script URL",
            OWN_SCRIPT,
            ipxe("iPXE"),
            &[("url", "http://boot.example:8080/own/netboot-not-allowed")],
        )
        .machine(refused.clone()),
        case(
            "HTTP firmware: URL and class",
            RESERVATION,
            http16(),
            &[("url", http), ("16", class), ("61", "0010"), ("60", "-")],
        ),
        case(
            "HTTP firmware: by the class alone",
            RESERVATION,
            booting(Solicit, HTTP16, 7),
            &[("url", http), ("16", class)],
        ),
        case(
            "HTTP firmware: all name servers",
            RESERVATION,
            http16(),
            &[("23", "20010db800000000000000000000000120010db8000000000000000000000002")],
        ),
        case("iPXE: the script", STATELESS, ipxe("iPXE"), &[("url", SCRIPT), ("60", "-"), ("16", "-")]),
        case("Tinkerbell: the script", STATELESS, ipxe("Tinkerbell"), &[("url", SCRIPT)]),
        case("iPXE: the machine's own script", STATELESS, ipxe("iPXE"), &[("url", "http://own/s")])
            .machine(json!({ "netboot": { "ipxe": { "url": "http://own/s" } } })),
        case(
            "iPXE: an architecture without a program",
            STATELESS,
            user(booting(InformationRequest, "PXEClient", 27), "iPXE"),
            &[("url", SCRIPT)],
        ),
        silence(
            "firmware: an architecture without a program",
            RESERVATION,
            booting(Solicit, "PXEClient", 27),
            "no-program",
        ),
        case("not allowed: firmware", RESERVATION, pxe7(), &[("url", REFUSED), ("60", "-")])
            .machine(refused.clone()),
        case("not allowed: HTTP firmware", RESERVATION, http16(), &[("url", REFUSED), ("16", class)])
            .machine(refused.clone()),
        case("not allowed: iPXE", STATELESS, ipxe("iPXE"), &[("url", REFUSED)]).machine(refused),
        case(
            "boot data switched off",
            NO_BOOT,
            pxe7(),
            &[("ia", "2001:db8::11 3600/7200 t1=3600 t2=5760"), ("url", "-"), ("61", "-"), ("60", "-")],
        ),
        case(
            "auto-stateless: an unknown machine boots",
            AUTO,
            ipxe("iPXE"),
            &[("url", "http://[fd00::1]:7171/ipxe/script/02:00:00:00:00:09/auto6.ipxe")],
        )
        .from("fe80::ff:fe00:9"),
        case("auto-stateless: a known machine keeps its own", AUTO, ipxe("iPXE"), &[("url", "http://own/s")])
            .machine(json!({ "netboot": { "ipxe": { "url": "http://own/s" } } })),
    ]
}

/// What relays add.
fn relays() -> Vec<Case> {
    use MessageType::Solicit;
    let uuid = || with(message(Solicit, &Duid::uuid([7; 16])), |m| m.options.add(code::IA_NA, [0; 12]));
    let mine = "2001:db8::11 3600/7200 t1=3600 t2=5760";
    let with_mac = |mut relay: Relay, mac: [u8; 6]| {
        relay.options.add(code::CLIENT_LINK_LAYER, [&[0, 1][..], &mac].concat());
        relay
    };
    let echo = [("interface", "65746837"), ("remote", "000001576c696e65")];
    vec![
        case(
            "relay: the MAC that it saw",
            RESERVATION,
            uuid(),
            &[&[("ia", mine), ("relays", "1")][..], &echo].concat(),
        )
        .through(vec![with_mac(relay(0, "2001:db8::1", "fe80::2"), MAC)]),
        case("relay: the MAC of the client's address", RESERVATION, uuid(), &[("ia", mine)])
            .through(vec![relay(0, "2001:db8::1", "fe80::5054:ff:fe00:11")]),
        case("relay: the MAC of the DUID", RESERVATION, system(Solicit, &[&[]]), &[("ia", mine)])
            .through(vec![relay(0, "2001:db8::1", "fe80::2")]),
        case(
            "relay: a second one around it",
            RESERVATION,
            uuid(),
            &[&[("ia", mine), ("relays", "2")][..], &echo].concat(),
        )
        .through(vec![relay(1, "::", "2001:db8:1::1"), with_mac(relay(0, "2001:db8::1", "fe80::2"), MAC)]),
        silence("relay: the outer one's client is a relay", RESERVATION, uuid(), "no-mac").through(vec![
            with_mac(relay(1, "::", "2001:db8:1::1"), MAC),
            relay(0, "2001:db8::1", "fe80::2"),
        ]),
        case("relay: unicast to this server", RESERVATION, uuid(), &[("ia", mine)])
            .through(vec![with_mac(relay(0, "2001:db8::1", "fe80::2"), MAC)])
            .by_unicast(),
    ]
}

#[test]
fn every_rule_gives_its_bytes() {
    let cases: Vec<Case> = [conduct(), network(), boot(), relays()].into_iter().flatten().collect();
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
