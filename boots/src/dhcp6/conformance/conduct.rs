// SPDX-License-Identifier: Apache-2.0
//! Which message is answered how.

use dhcp::v6::{Duid, Message, MessageType, code};
use serde_json::json;

use super::{
    Case, MAC, ON, OTHER, RESERVATION, RESERVED, STATELESS, STRANGER, case, message, silence, system,
    wanting, with,
};
use crate::config::tests::config;

const ELSEWHERE: &str = "2001:db8:9::1";

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
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
