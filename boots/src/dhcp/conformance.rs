// SPDX-License-Identifier: Apache-2.0
//! The contract as a table: one named case per rule of Tinkerbell's DHCP and of the RFCs that it leaves out, bytes in and
//! bytes out.
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

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
const PI: [u8; 6] = [0xdc, 0xa6, 0x32, 1, 2, 3];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OURS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 99);
const RESERVED: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 11);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const GOLDEN: &str = include_str!("conformance.txt");
const HTTP_SCRIPT: &str = "http://172.31.0.1:7171/ipxe/script/52:54:00:00:00:11/auto.ipxe";
const NOW: u64 = 1_700_000_000;

const PROXY: &[&str] = &["--dhcp-mode=proxy"];
const AUTO: &[&str] = &["--dhcp-mode=auto-proxy"];
const POOL: &[&str] = &["--dhcp-pools=172.31.0.100-172.31.0.109/24 router=172.31.0.1 dns=9.9.9.9 lease=10m"];

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

/// RFC 2131: who is answered what, and where the answer goes.
#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
fn conduct() -> Vec<Case> {
    use MessageType::{Decline, Discover, Inform, Offer, Release};
    let silence = |name, request, reason| case(name, request, &[("silence", reason)]);
    vec![
        case(
            "DISCOVER is offered the reservation",
            plain(Discover),
            &[
                ("type", "OFFER"),
                ("yiaddr", "172.31.0.11"),
                ("54", "ac1f0001"),
                ("siaddr", "172.31.0.1"),
                ("to", "52:54:00:00:00:11 172.31.0.11"),
            ],
        ),
        case(
            "SELECTING this server",
            request(Some(OURS), Some(RESERVED), None),
            &[("type", "ACK"), ("yiaddr", "172.31.0.11"), ("51", "00093a80")],
        ),
        silence("SELECTING another server", request(Some(OTHER), Some(OTHER), None), "other-server"),
        case(
            "SELECTING this server with another address",
            request(Some(OURS), Some(OTHER), None),
            &[("type", "NAK"), ("yiaddr", "0.0.0.0"), ("51", "-"), ("1", "-"), ("to", "broadcast")],
        ),
        case(
            "INIT-REBOOT with the reserved address",
            request(None, Some(RESERVED), None),
            &[("type", "ACK"), ("ciaddr", "0.0.0.0")],
        ),
        case(
            "INIT-REBOOT with an address of another network",
            request(None, Some(Ipv4Addr::new(10, 1, 1, 1)), None),
            &[("type", "NAK"), ("to", "broadcast")],
        ),
        case(
            "RENEWING is answered at its address",
            request(None, None, Some(RESERVED)),
            &[("type", "ACK"), ("ciaddr", "172.31.0.11"), ("to", "172.31.0.11:68")],
        ),
        case(
            "RENEWING another address",
            request(None, None, Some(OTHER)),
            &[("type", "NAK"), ("to", "broadcast")],
        ),
        case(
            "REBINDING after another server's lease",
            request(None, None, Some(RESERVED)),
            &[("type", "ACK"), ("54", "ac1f0001")],
        ),
        case(
            "a NAK through a relay asks it to broadcast",
            with(request(None, Some(OTHER), None), |m| m.giaddr = RELAY),
            &[("type", "NAK"), ("broadcast", "true"), ("to", "10.9.0.1:67")],
        ),
        case(
            "INFORM gets parameters and no lease",
            with(plain(Inform), |m| m.ciaddr = OTHER),
            &[
                ("type", "ACK"),
                ("yiaddr", "0.0.0.0"),
                ("51", "-"),
                ("1", "ffffff00"),
                ("to", "172.31.0.99:68"),
            ],
        ),
        case(
            "INFORM through a relay is answered at the client",
            with(plain(Inform), |m| (m.ciaddr, m.giaddr) = (OTHER, RELAY)),
            &[("to", "172.31.0.99:68")],
        ),
        silence("INFORM without an address", plain(Inform), "no-client-address"),
        silence(
            "DECLINE",
            with(plain(Decline), |m| m.options.set_ip(code::REQUESTED_IP, RESERVED)),
            "declined",
        ),
        silence(
            "DECLINE of another server's address",
            with(plain(Decline), |m| m.options.set_ip(code::SERVER_ID, OTHER)),
            "other-server",
        ),
        silence("RELEASE", with(plain(Release), |m| m.ciaddr = RESERVED), "released"),
        silence("a message that only servers send", plain(Offer), "not-for-servers"),
        silence("unknown MAC", Message::request(Discover, STRANGER, 1), "unknown-mac"),
        silence("disableDhcp", plain(Discover), "disabled").machine(json!({ "disableDhcp": true })),
        silence("no IPv4 reservation and no pool", plain(Discover), "no-address")
            .machine(json!({ "dhcp": { "ip": null } })),
        case(
            "the broadcast flag",
            with(plain(Discover), |m| m.set_broadcast(true)),
            &[("to", "broadcast"), ("broadcast", "true")],
        ),
        case(
            "giaddr",
            with(plain(Discover), |m| m.giaddr = RELAY),
            &[("to", "10.9.0.1:67"), ("giaddr", "10.9.0.1")],
        ),
        case(
            "option 82 and 61 come back",
            with(plain(Discover), |m| {
                m.giaddr = RELAY;
                m.options.set(code::RELAY_AGENT, *b"\x01\x02p1\x97\x00");
                m.options.set(code::CLIENT_ID, *b"\x01\x52\x54\x00\x00\x00\x11");
            }),
            &[("82", "010270319700"), ("61", "01525400000011")],
        ),
        case(
            "a relay that is to be the server (RFC 5107)",
            with(request(Some(RELAY), Some(RESERVED), None), |m| {
                m.giaddr = RELAY;
                m.options.set(code::RELAY_AGENT, *b"\x0b\x04\x0a\x09\x00\x01");
            }),
            &[("type", "ACK"), ("54", "0a090001")],
        ),
        case(
            "an unknown MAC on a machine's switch port",
            with(Message::request(Discover, STRANGER, 1), |m| {
                m.giaddr = RELAY;
                m.options.set(code::RELAY_AGENT, *b"\x01\x07Gi1/0/7");
            }),
            &[("type", "OFFER"), ("yiaddr", "172.31.0.11")],
        ),
    ]
}

/// What the network is described by, and the form of the packet.
fn network() -> Vec<Case> {
    use MessageType::Discover;
    let full = json!({ "dhcp": {
        "domain_name": "lab.example", "name_servers": ["1.1.1.1", "8.8.8.8"], "time_servers": ["10.0.0.7"], "lease_time": 86400,
        "classless_static_routes": [
            { "destination_descriptor": "10.0.0.0/8", "router": "192.168.1.10" },
            { "destination_descriptor": "172.16.0.0/12", "router": "192.168.1.20" },
        ],
    }});
    let long = json!({ "dhcp": { "domain_name": "a.very.long.domain.name.of.a.lab.example", "name_servers": vec!["1.1.1.1"; 45], "time_servers": vec!["10.0.0.7"; 20] } });
    vec![
        case(
            "every option of the network",
            plain(Discover),
            &[
                ("1", "ffffff00"),
                ("3", "ac1f0001"),
                ("6", "0101010108080808"),
                ("7", "ac1f0001"),
                ("12", "6d31"),
                ("15", "6c61622e6578616d706c65"),
                ("28", "ac1f00ff"),
                ("42", "0a000007"),
                ("51", "00015180"),
                ("119", "036c6162076578616d706c6500"),
                ("121", "080ac0a8010a0cac10c0a80114"),
            ],
        )
        .machine(full.clone()),
        case(
            "the configured server identifier",
            plain(Discover),
            &[("54", "ac1f0003"), ("siaddr", "172.31.0.3"), ("7", "ac1f0001")],
        )
        .flags(&["--dhcp-ip-for-packet=172.31.0.3"]),
        case("the configured log server", plain(Discover), &[("7", "0a000009"), ("54", "ac1f0001")])
            .flags(&["--dhcp-syslog-ip=10.0.0.9"]),
        case("no lease time is a week", plain(Discover), &[("51", "00093a80")]),
        case("a lease time of 0 is a week", plain(Discover), &[("51", "00093a80")])
            .machine(json!({ "dhcp": { "lease_time": 0 } })),
        case("a lease time of more than 32 bits is a week", plain(Discover), &[("51", "00093a80")])
            .machine(json!({ "dhcp": { "lease_time": 1_i64 << 32 } })),
        case(
            "a machine without netboot still has its lease",
            pxe(Discover, "PXEClient", 7),
            &[("yiaddr", "172.31.0.11"), ("file", "/netboot-not-allowed")],
        )
        .machine(json!({ "netboot": null })),
        case(
            "a plain client gets no boot data",
            plain(Discover),
            &[("file", ""), ("43", "-"), ("60", "-"), ("siaddr", "172.31.0.1")],
        ),
        case(
            "options come in the order of the parameter list",
            with(plain(Discover), |m| m.options.set(code::PARAMETER_LIST, [121, 3, 6, 1, 51])),
            &[("type", "OFFER")],
        )
        .machine(full),
        case(
            "what does not fit 576 bytes moves into file and sname",
            with(plain(Discover), |m| m.options.set(code::MAX_MESSAGE_SIZE, [2, 64])),
            &[("file", ""), ("42", &"0a000007".repeat(20)), ("6", &"01010101".repeat(45))],
        )
        .machine(long.clone()),
        case(
            "option 57 allows more",
            with(plain(Discover), |m| m.options.set(code::MAX_MESSAGE_SIZE, [5, 220])),
            &[("type", "OFFER")],
        )
        .machine(long),
        case(
            "a value over 255 bytes is split",
            with(plain(Discover), |m| m.options.set(code::MAX_MESSAGE_SIZE, [5, 220])),
            &[("type", "OFFER")],
        )
        .machine(json!({ "dhcp": { "name_servers": vec!["1.1.1.1"; 70] } })),
    ]
}

/// Boot data in reservation mode.
#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
fn boot() -> Vec<Case> {
    use MessageType::{Discover, Request};
    let pxe7 = || pxe(Discover, "PXEClient:Arch:00007:UNDI:003016", 7);
    let http = || pxe(Discover, "HTTPClient:Arch:00016:UNDI:003001", 16);
    let refused = json!({ "netboot": { "allowPXE": false } });
    let trace = format!("060108451a{}", "00".repeat(26));
    let mut cases = vec![
        case(
            "file, row 1: Tinkerbell's iPXE gets the script",
            user_class("Tinkerbell"),
            &[("file", HTTP_SCRIPT), ("43", &trace)],
        ),
        case(
            "file, row 1: the machine's own script",
            user_class("Tinkerbell"),
            &[("file", "http://localhost:8181/auto.ipxe")],
        )
        .machine(json!({ "netboot": { "ipxe": { "url": "http://localhost:8181/auto.ipxe" } } })),
        case(
            "file, row 2: UEFI HTTP boot",
            http(),
            &[
                ("file", "http://172.31.0.1:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi"),
                ("60", "48545450436c69656e74"),
                ("siaddr", "172.31.0.1"),
            ],
        ),
        case(
            "file, row 1: Tinkerbell's iPXE that firmware loaded over HTTP",
            with(pxe(Discover, "HTTPClient:Arch:xxxxx:UNDI:yyyzzz", 16), |m| {
                m.options.set_text(code::USER_CLASS, "Tinkerbell");
            }),
            &[
                ("file", "http://localhost:8181/auto.ipxe"),
                ("siaddr", "172.31.0.1"),
                ("60", "48545450436c69656e74"),
                ("43", &trace),
            ],
        )
        .machine(json!({ "netboot": { "ipxe": { "url": "http://localhost:8181/auto.ipxe" } } })),
        case(
            "file, row 2: another iPXE that firmware loaded over HTTP",
            with(http(), |m| m.options.set_text(code::USER_CLASS, "iPXE")),
            &[("file", "http://172.31.0.1:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi")],
        ),
        case(
            "file, row 3: another iPXE",
            user_class("iPXE"),
            &[("file", "tftp://172.31.0.1:69/52:54:00:00:00:11/ipxe.efi")],
        ),
        case(
            "file, row 3: an iPXE that speaks HTTP needs no other",
            with(user_class("iPXE"), |m| m.options.set(code::ETHERBOOT, [0x13, 1, 1])),
            &[("file", HTTP_SCRIPT)],
        ),
        case(
            "file, row 4: firmware",
            pxe7(),
            &[("file", "ipxe.efi"), ("60", "-"), ("siaddr", "172.31.0.1"), ("43", &trace)],
        ),
        case("a user class with a length is not iPXE", user_class("\u{4}iPXE"), &[("file", "ipxe.efi")]),
        case("the machine's own program", pxe7(), &[("file", "own.efi")])
            .machine(json!({ "netboot": { "ipxe": { "binary": "own.efi" } } })),
        case("the configured program of an architecture", pxe7(), &[("file", "snp-x86_64.efi")])
            .flags(&["--ipxe-override-arch-mapping=7=snp-x86_64.efi"]),
        case("the machine's own program comes before the configured one", pxe7(), &[("file", "own.efi")])
            .flags(&["--ipxe-override-arch-mapping=7=snp-x86_64.efi"])
            .machine(json!({ "netboot": { "ipxe": { "binary": "own.efi" } } })),
        case(
            "a configured program makes an architecture known",
            pxe(Discover, "PXEClient", 12),
            &[("file", "ppc.elf")],
        )
        .flags(&["--ipxe-override-arch-mapping=12=ppc.elf"]),
        case("a TFTP server without an address is this server", pxe7(), &[("siaddr", "172.31.0.1")])
            .flags(&["--dhcp-tftp-ip=0.0.0.0"]),
        case("the next server is the TFTP server", pxe7(), &[("siaddr", "172.31.0.2")])
            .flags(&["--dhcp-tftp-ip=172.31.0.2"]),
        case("may not boot", pxe7(), &[("file", "/netboot-not-allowed"), ("siaddr", "0.0.0.0"), ("43", "-")])
            .machine(refused.clone()),
        case(
            "may not boot over HTTP",
            http(),
            &[("file", "/netboot-not-allowed"), ("60", "48545450436c69656e74")],
        )
        .machine(refused),
        case(
            "no program for the architecture",
            pxe(Discover, "PXEClient", 12),
            &[("file", "/netboot-not-allowed")],
        ),
        case(
            "66 and 67 of the machine replace all of ours",
            pxe7(),
            &[("66", "31302e302e302e38"), ("67", "6f776e2e30"), ("file", "own.0"), ("43", "-")],
        )
        .machine(json!({ "dhcp": { "tftp_server_name": "10.0.0.8", "boot_file_name": "own.0" } })),
        case("66 and 67 go to plain clients too", plain(Request), &[("67", "6f776e2e30"), ("file", "own.0")])
            .machine(json!({ "dhcp": { "tftp_server_name": "10.0.0.8", "boot_file_name": "own.0" } })),
        case("boot data switched off", http(), &[("file", ""), ("60", "-"), ("43", "-")])
            .flags(&["--dhcp-enable-netboot-options=false"]),
        case(
            "option 97 comes back",
            with(pxe7(), |m| m.options.set(code::CLIENT_UUID, [0; 17])),
            &[("97", &"00".repeat(17)), ("file", "ipxe.efi")],
        ),
        case(
            "option 97 of a wrong form is no network-boot client",
            with(pxe7(), |m| m.options.set(code::CLIENT_UUID, [1; 17])),
            &[("97", "-"), ("file", "")],
        ),
        case(
            "no option 93 is no network-boot client",
            with(pxe7(), |m| drop(m.options.remove(code::CLIENT_ARCH))),
            &[("file", "")],
        ),
        case(
            "no option 94 is no network-boot client",
            with(pxe7(), |m| drop(m.options.remove(code::CLIENT_NDI))),
            &[("file", "")],
        ),
        case(
            "option 60 of another class is no network-boot client",
            pxe(Discover, "U-Boot.armv8", 7),
            &[("file", ""), ("43", "-")],
        ),
        case(
            "INFORM is no request for boot data",
            with(pxe(MessageType::Inform, "PXEClient:Arch:00007:UNDI:003016", 7), |m| m.ciaddr = RESERVED),
            &[("type", "ACK"), ("file", ""), ("43", "-")],
        ),
        case(
            "an ACK has the boot data of its OFFER",
            with(pxe(Request, "PXEClient:Arch:00007:UNDI:003016", 7), |m| {
                m.options.set_ip(code::SERVER_ID, OURS);
                m.options.set_ip(code::REQUESTED_IP, RESERVED);
            }),
            &[("type", "ACK"), ("file", "ipxe.efi"), ("siaddr", "172.31.0.1"), ("43", &trace)],
        ),
        case(
            "the next server of HTTP boot is the host of its URL",
            http(),
            &[
                ("siaddr", "10.1.1.1"),
                ("file", "https://10.1.1.1:8443/bin/52:54:00:00:00:11/ipxe.efi"),
                ("54", "ac1f0001"),
            ],
        )
        .flags(&[
            "--dhcp-ipxe-http-binary-scheme=https",
            "--dhcp-ipxe-http-binary-host=10.1.1.1",
            "--dhcp-ipxe-http-binary-port=8443",
            "--dhcp-ipxe-http-binary-path=/bin/",
        ]),
        case(
            "a host that is a name leaves the next server as it is",
            http(),
            &[
                ("siaddr", "172.31.0.1"),
                ("file", "http://boot.example/ipxe/binary/52:54:00:00:00:11/ipxe.efi"),
            ],
        )
        .flags(&["--dhcp-ipxe-http-binary-host=boot.example", "--dhcp-ipxe-http-binary-port=80"]),
        case(
            "the script URL without a MAC",
            user_class("Tinkerbell"),
            &[("file", "http://boot.example:8080/own/x.ipxe")],
        )
        .flags(&[
            "--dhcp-ipxe-http-script-host=boot.example",
            "--dhcp-ipxe-http-script-port=8080",
            "--dhcp-ipxe-http-script-path=/own/x.ipxe",
            "--dhcp-ipxe-http-script-prepend-mac=false",
        ]),
        case(
            "the script URL with the MAC before its last element",
            user_class("Tinkerbell"),
            &[("file", "http://172.31.0.1:7171/own/52:54:00:00:00:11/x.ipxe")],
        )
        .flags(&["--dhcp-ipxe-http-script-path=/own/x.ipxe"]),
        case(
            "another port of TFTP",
            user_class("iPXE"),
            &[("file", "tftp://10.0.0.9:6969/52:54:00:00:00:11/ipxe.efi"), ("siaddr", "10.0.0.9")],
        )
        .flags(&["--dhcp-tftp-ip=10.0.0.9", "--dhcp-tftp-port=6969"]),
        case("option 43.116 carries the VLAN", pxe7(), &[("43", &format!("{trace}7403313030"))])
            .machine(json!({ "dhcp": { "vlan_id": "100" } })),
        case(
            "the first architecture that has a name counts",
            with(pxe7(), |m| m.options.set(code::CLIENT_ARCH, [0xff, 0xff, 0, 0])),
            &[("file", "undionly.kpxe")],
        ),
        case(
            "a Raspberry Pi is known by its address",
            pxe_of(PI, Discover, "PXEClient:Arch:00000", 0),
            &[
                ("file", "snp-arm64.efi"),
                (
                    "43",
                    &format!(
                        "060108091400001152617370626572727920506920426f6f740a0400505845451a{}",
                        "00".repeat(26)
                    ),
                ),
            ],
        )
        .machine(json!({ "dhcp": { "mac": "dc:a6:32:01:02:03" } })),
    ];
    for (name, oui) in [
        ("a Raspberry Pi 1 to 3", [0xb8, 0x27, 0xeb]),
        ("a Raspberry Pi with e4:5f:01", [0xe4, 0x5f, 0x01]),
        ("a Raspberry Pi with 28:cd:c1", [0x28, 0xcd, 0xc1]),
        ("a Raspberry Pi with d8:3a:dd", [0xd8, 0x3a, 0xdd]),
    ] {
        let mac = [oui[0], oui[1], oui[2], 1, 2, 3];
        let own = json!({ "dhcp": { "mac": Mac::from(mac).to_string() } });
        let request = pxe_of(mac, Discover, "PXEClient:Arch:00000", 0);
        cases.push(case(name, request, &[("file", "snp-arm64.efi")]).machine(own));
    }
    for (format, expected) in [
        ("dot", "5254.0000.0011/"),
        ("dash", "52-54-00-00-00-11/"),
        ("no-delimiter", "525400000011/"),
        ("empty", ""),
    ] {
        let (name, flags): (&'static str, &'static [&'static str]) = match format {
            "dot" => ("MAC with dots", &["--ipxe-binary-inject-mac-addr-format=dot"]),
            "dash" => ("MAC with dashes", &["--ipxe-binary-inject-mac-addr-format=dash"]),
            "empty" => ("no MAC", &["--ipxe-binary-inject-mac-addr-format=empty"]),
            _ => ("MAC without delimiters", &["--ipxe-binary-inject-mac-addr-format=no-delimiter"]),
        };
        let file = format!("tftp://172.31.0.1:69/{expected}ipxe.efi");
        cases.push(case(name, user_class("iPXE"), &[("file", &file)]).flags(flags));
    }
    cases
}

/// Proxy modes, the PXE port and pools.
#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
fn modes() -> Vec<Case> {
    use MessageType::{Discover, Inform, Release, Request};
    let pxe7 = |kind| {
        with(pxe(kind, "PXEClient:Arch:00007:UNDI:003016", 7), |m| m.options.set(code::CLIENT_UUID, [0; 17]))
    };
    let foreign = |kind| pxe_of(STRANGER, kind, "PXEClient:Arch:00000:UNDI:002001", 0);
    let silence = |name, request, reason| case(name, request, &[("silence", reason)]);
    vec![
        case(
            "proxy: boot data without an address",
            pxe7(Discover),
            &[
                ("type", "OFFER"),
                ("yiaddr", "0.0.0.0"),
                ("51", "-"),
                ("1", "-"),
                ("60", "505845436c69656e74"),
                ("54", "ac1f0001"),
                ("siaddr", "172.31.0.1"),
                ("sname", "172.31.0.1"),
                ("43", "060108"),
                ("97", &"00".repeat(17)),
                ("file", "ipxe.efi"),
                ("to", "broadcast"),
            ],
        )
        .flags(PROXY),
        case("proxy: REQUEST", pxe7(Request), &[("type", "ACK"), ("file", "ipxe.efi")]).flags(PROXY),
        case(
            "proxy: the next server is where the file is",
            pxe7(Discover),
            &[("54", "ac1f0002"), ("sname", "172.31.0.2")],
        )
        .flags(&["--dhcp-mode=proxy", "--dhcp-tftp-ip=172.31.0.2"]),
        case(
            "proxy: HTTP boot",
            pxe(Discover, "HTTPClient:Arch:00016", 16),
            &[
                ("60", "48545450436c69656e74"),
                ("file", "http://172.31.0.1:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi"),
            ],
        )
        .flags(PROXY),
        case(
            "proxy: the next server of HTTP boot is the host of its URL",
            pxe(Discover, "HTTPClient:Arch:00016", 16),
            &[("54", "0a010101"), ("siaddr", "10.1.1.1"), ("sname", "10.1.1.1")],
        )
        .flags(&["--dhcp-mode=proxy", "--dhcp-ipxe-http-binary-host=10.1.1.1"]),
        case(
            "proxy: may not boot over HTTP",
            pxe(Discover, "HTTPClient:Arch:00016", 16),
            &[("60", "48545450436c69656e74"), ("file", "/52:54:00:00:00:11/netboot-not-allowed")],
        )
        .flags(PROXY)
        .machine(json!({ "netboot": { "allowPXE": false } })),
        case("proxy: may not boot", pxe7(Discover), &[("file", "/52:54:00:00:00:11/netboot-not-allowed")])
            .flags(PROXY)
            .machine(json!({ "netboot": { "allowPXE": false } })),
        case("proxy: the machine's own script", user_class("Tinkerbell"), &[("file", "http://own/s")])
            .flags(PROXY)
            .machine(json!({ "netboot": { "ipxe": { "url": "http://own/s" } } })),
        case(
            "proxy: a Raspberry Pi's menu",
            pxe_of(PI, Discover, "PXEClient:Arch:00000", 0),
            &[("43", "060108091400001152617370626572727920506920426f6f740a0400505845")],
        )
        .flags(PROXY)
        .machine(json!({ "dhcp": { "mac": "dc:a6:32:01:02:03" } })),
        silence("proxy: unknown MAC", foreign(Discover), "unknown-mac").flags(PROXY),
        silence("proxy: plain client", plain(Discover), "not-netboot").flags(PROXY),
        silence("proxy: INFORM", pxe7(Inform), "not-for-servers").flags(PROXY),
        silence("proxy: RELEASE", with(pxe7(Release), |m| m.ciaddr = RESERVED), "not-for-servers")
            .flags(PROXY),
        silence("proxy: boot data switched off", pxe7(Discover), "not-netboot")
            .flags(&["--dhcp-mode=proxy", "--dhcp-enable-netboot-options=false"]),
        silence("proxy: no program for the architecture", pxe(Discover, "PXEClient", 12), "no-program")
            .flags(PROXY),
        case(
            "proxy: the machine's own program is one for any architecture",
            pxe(Discover, "PXEClient", 12),
            &[("file", "own.efi")],
        )
        .flags(PROXY)
        .machine(json!({ "netboot": { "ipxe": { "binary": "own.efi" } } })),
        case(
            "proxy: another iPXE",
            user_class("iPXE"),
            &[("file", "tftp://172.31.0.1:69/52:54:00:00:00:11/ipxe.efi")],
        )
        .flags(PROXY),
        silence("proxy: disableDhcp", pxe7(Discover), "disabled")
            .flags(PROXY)
            .machine(json!({ "disableDhcp": true })),
        case(
            "auto-proxy: unknown MAC",
            foreign(Discover),
            &[("type", "OFFER"), ("yiaddr", "0.0.0.0"), ("file", "undionly.kpxe")],
        )
        .flags(AUTO),
        case(
            "auto-proxy: REQUEST of an unknown MAC",
            foreign(Request),
            &[("type", "ACK"), ("yiaddr", "0.0.0.0"), ("file", "undionly.kpxe")],
        )
        .flags(AUTO),
        case(
            "auto-proxy: a Raspberry Pi that nobody knows",
            pxe_of(PI, Discover, "PXEClient:Arch:00000", 0),
            &[
                ("file", "snp-arm64.efi"),
                ("43", "060108091400001152617370626572727920506920426f6f740a0400505845"),
            ],
        )
        .flags(AUTO),
        case("auto-proxy: known MAC", pxe7(Discover), &[("file", "own.efi")])
            .flags(AUTO)
            .machine(json!({ "netboot": { "ipxe": { "binary": "own.efi" } } })),
        case(
            "auto-proxy: may not boot",
            pxe7(Discover),
            &[("file", "/52:54:00:00:00:11/netboot-not-allowed")],
        )
        .flags(AUTO)
        .machine(json!({ "netboot": { "allowPXE": false } })),
        case(
            "auto-proxy: an unknown MAC of Tinkerbell's iPXE gets its script",
            with(foreign(Discover), |m| m.options.set_text(code::USER_CLASS, "Tinkerbell")),
            &[("file", "http://172.31.0.1:7171/ipxe/script/02:00:00:00:00:09/auto.ipxe"), ("97", "-")],
        )
        .flags(AUTO),
        silence("auto-proxy: boot data switched off", foreign(Discover), "not-netboot")
            .flags(&["--dhcp-mode=auto-proxy", "--dhcp-enable-netboot-options=false"]),
        silence(
            "auto-proxy: no program for the architecture",
            pxe_of(STRANGER, Discover, "PXEClient", 12),
            "no-program",
        )
        .flags(AUTO),
        silence("auto-proxy: plain client", Message::request(Discover, STRANGER, 1), "not-netboot")
            .flags(AUTO),
        case(
            "PXE port: boot data only",
            with(pxe7(Request), |m| m.ciaddr = RESERVED),
            &[("type", "ACK"), ("yiaddr", "0.0.0.0"), ("51", "-"), ("file", "ipxe.efi")],
        )
        .on_pxe_port(),
        case(
            "PXE port: the boot server asked for answers",
            with(pxe7(Request), |m| m.options.set(code::VENDOR_SPECIFIC, *b"\x47\x04\x80\x00\x00\x00")),
            &[("43", "060108470480000000")],
        )
        .on_pxe_port(),
        silence("PXE port: unknown MAC", foreign(Request), "unknown-mac").on_pxe_port(),
        case(
            "pool: an unknown MAC gets an address and no boot",
            foreign(Discover),
            &[
                ("yiaddr", "172.31.0.100"),
                ("51", "00000258"),
                ("3", "ac1f0001"),
                ("6", "09090909"),
                ("file", "/netboot-not-allowed"),
            ],
        )
        .flags(POOL),
        case(
            "pool: a wish is granted",
            with(Message::request(Discover, STRANGER, 1), |m| {
                m.options.set_ip(code::REQUESTED_IP, Ipv4Addr::new(172, 31, 0, 105))
            }),
            &[("yiaddr", "172.31.0.105")],
        )
        .flags(POOL),
        case("pool: a reservation comes first", plain(Discover), &[("yiaddr", "172.31.0.11")]).flags(POOL),
        case(
            "pool: a machine without an address boots from it",
            pxe7(Discover),
            &[("yiaddr", "172.31.0.100"), ("file", "ipxe.efi")],
        )
        .flags(POOL)
        .machine(json!({ "dhcp": { "ip": null } })),
        case(
            "pool: a relay's network has none",
            with(Message::request(Discover, STRANGER, 1), |m| m.giaddr = RELAY),
            &[("silence", "unknown-mac")],
        )
        .flags(POOL),
        case(
            "pool: the relay names the network",
            with(Message::request(Discover, STRANGER, 1), |m| {
                m.giaddr = RELAY;
                m.options.set(code::RELAY_AGENT, *b"\x05\x04\xac\x1f\x00\x00");
            }),
            &[("yiaddr", "172.31.0.100"), ("to", "10.9.0.1:67")],
        )
        .flags(POOL),
        case(
            "pool: an address outside it",
            with(Message::request(Request, STRANGER, 1), |m| m.options.set_ip(code::REQUESTED_IP, OTHER)),
            &[("type", "NAK"), ("to", "broadcast")],
        )
        .flags(POOL),
        silence(
            "pool: a lease that nobody knows of",
            with(Message::request(Request, STRANGER, 1), |m| {
                m.options.set_ip(code::REQUESTED_IP, Ipv4Addr::new(172, 31, 0, 103))
            }),
            "other-server",
        )
        .flags(POOL),
    ]
}

#[test]
fn every_rule_gives_its_bytes() {
    let cases: Vec<Case> = [conduct(), network(), boot(), modes()].into_iter().flatten().collect();
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
