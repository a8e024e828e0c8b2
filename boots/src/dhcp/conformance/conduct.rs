// SPDX-License-Identifier: Apache-2.0
//! RFC 2131: who is answered what, and where the answer goes.

use std::net::Ipv4Addr;

use dhcp::{Message, MessageType, code};
use serde_json::json;

use super::{Case, OTHER, OURS, RELAY, RESERVED, STRANGER, case, plain, request, with};

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
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
