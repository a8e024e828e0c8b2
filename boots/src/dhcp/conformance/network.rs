// SPDX-License-Identifier: Apache-2.0
//! What the network is described by, and the form of the packet.

use dhcp::{MessageType, code};
use serde_json::json;

use super::{Case, case, plain, pxe, with};

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
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
            "what is not set is not sent",
            plain(Discover),
            &[
                ("yiaddr", "172.31.0.11"),
                ("1", "-"),
                ("3", "-"),
                ("6", "-"),
                ("7", "-"),
                ("12", "-"),
                ("15", "-"),
                ("28", "-"),
                ("42", "-"),
                ("119", "-"),
                ("121", "-"),
            ],
        )
        .flags(&["--dhcp-syslog-ip=0.0.0.0"])
        .machine(json!({ "dhcp": { "hostname": null, "ip": { "netmask": null, "gateway": null } } })),
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
