// SPDX-License-Identifier: Apache-2.0
//! What the network is said to be.

use dhcp::v6::{Duid, MessageType};
use serde_json::json;

use super::{
    AUTO, Case, OTHER, RESERVATION, STATELESS, STRANGER, case, message, relay, silence, system, wanting,
};

const DERIVED: &[&str] = &["--dhcpv6-mode=derived", "--dhcpv6-derived-direct-address-pool=2001:db8:7::/64"];
const DERIVED_RELAY: &[&str] = &["--dhcpv6-mode=derived", "--dhcpv6-derived-relay-address-prefix=48"];

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
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
