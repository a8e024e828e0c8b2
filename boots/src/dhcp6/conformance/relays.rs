// SPDX-License-Identifier: Apache-2.0
//! What relays add.

use dhcp::v6::{Duid, MessageType, Relay, code};

use super::{Case, MAC, RESERVATION, case, message, relay, silence, system, with};

pub(super) fn cases() -> Vec<Case> {
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
        case("relay: the MAC of the client's global address", RESERVATION, uuid(), &[("ia", mine)])
            .through(vec![relay(0, "2001:db8::1", "2001:db8::5054:ff:fe00:11")]),
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
