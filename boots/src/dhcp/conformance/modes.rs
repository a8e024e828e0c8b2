// SPDX-License-Identifier: Apache-2.0
//! Proxy modes, the PXE port and pools.

use std::net::Ipv4Addr;

use dhcp::{Message, MessageType, code};
use serde_json::json;

use super::{Case, OTHER, PI, RELAY, RESERVED, STRANGER, case, plain, pxe, pxe_of, user_class, with};

const PROXY: &[&str] = &["--dhcp-mode=proxy"];
const AUTO: &[&str] = &["--dhcp-mode=auto-proxy"];
const POOL: &[&str] = &["--dhcp-pools=172.31.0.100-172.31.0.109/24 router=172.31.0.1 dns=9.9.9.9 lease=10m"];

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
    use MessageType::{Discover, Inform, Release, Request};
    let pxe7 = |kind| {
        with(pxe(kind, "PXEClient:Arch:00007:UNDI:003016", 7), |m| m.options.set(code::CLIENT_UUID, [0; 17]))
    };
    let foreign = |kind| pxe_of(STRANGER, kind, "PXEClient:Arch:00000:UNDI:002001", 0);
    let relayed = |message| {
        with(message, |m| {
            m.giaddr = RELAY;
            m.options.set(code::RELAY_AGENT, *b"\x01\x04port");
        })
    };
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
        case(
            "proxy: behind a relay",
            relayed(pxe7(Discover)),
            &[
                ("yiaddr", "0.0.0.0"),
                ("giaddr", "10.9.0.1"),
                ("82", "0104706f7274"),
                ("54", "ac1f0001"),
                ("file", "ipxe.efi"),
                ("to", "10.9.0.1:67"),
            ],
        )
        .flags(PROXY),
        case(
            "proxy: the PXE port behind a relay",
            relayed(pxe7(Request)),
            &[("type", "ACK"), ("82", "0104706f7274"), ("file", "ipxe.efi"), ("to", "10.9.0.1:67")],
        )
        .flags(PROXY)
        .on_pxe_port(),
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
            "auto-proxy: an unknown MAC behind a relay",
            relayed(foreign(Discover)),
            &[
                ("giaddr", "10.9.0.1"),
                ("82", "0104706f7274"),
                ("file", "undionly.kpxe"),
                ("to", "10.9.0.1:67"),
            ],
        )
        .flags(AUTO),
        case(
            "auto-proxy: an unknown MAC on the PXE port behind a relay",
            relayed(foreign(Request)),
            &[("type", "ACK"), ("82", "0104706f7274"), ("file", "undionly.kpxe"), ("to", "10.9.0.1:67")],
        )
        .flags(AUTO)
        .on_pxe_port(),
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
            &[("file", "http://172.31.0.1:7171/ipxe/script/02:00:00:00:00:09/auto.ipxe"), ("97", "")],
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
