// SPDX-License-Identifier: Apache-2.0
//! What is told of the boot.

use dhcp::v6::{Duid, MessageType, code};
use serde_json::json;

use super::{AUTO, Case, RESERVATION, STATELESS, booting, case, message, silence, user, with};

const SCRIPT: &str = "http://[fd00::1]:7171/ipxe/script/52:54:00:00:00:11/auto6.ipxe";
const REFUSED: &str = "http://[fd00::1]:7171/ipxe/script/52:54:00:00:00:11/netboot-not-allowed";
const NO_BOOT: &[&str] = &["--dhcpv6-mode=reservation", "--dhcpv6-enable-netboot-options=false"];
const OWN_SCRIPT: &[&str] = &[
    "--dhcpv6-ipxe-http-script-host=boot.example",
    "--dhcpv6-ipxe-http-script-port=8080",
    "--dhcpv6-ipxe-http-script-path=/own/x.ipxe",
    "--dhcpv6-ipxe-http-script-prepend-mac=false",
];
const PXE7: &str = "PXEClient:Arch:00007:UNDI:003016";
const HTTP16: &str = "HTTPClient:Arch:00016:UNDI:003016";

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
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
        case(
            "not allowed: an architecture without a program",
            RESERVATION,
            booting(Solicit, "PXEClient", 27),
            &[
                ("ia", "2001:db8::11 3600/7200 t1=3600 t2=5760"),
                ("url", REFUSED),
                ("60", "-"),
                ("61", "001b"),
            ],
        )
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
