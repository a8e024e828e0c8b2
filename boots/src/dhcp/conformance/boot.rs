// SPDX-License-Identifier: Apache-2.0
//! Boot data in reservation mode.

use api::Mac;
use dhcp::{MessageType, code};
use serde_json::json;

use super::{Case, OURS, PI, RESERVED, case, plain, pxe, pxe_of, user_class, with};

const HTTP_SCRIPT: &str = "http://172.31.0.1:7171/ipxe/script/52:54:00:00:00:11/auto.ipxe";

#[expect(clippy::too_many_lines, reason = "a table, one row a case")]
pub(super) fn cases() -> Vec<Case> {
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
