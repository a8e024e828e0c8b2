// SPDX-License-Identifier: Apache-2.0
//! Which file a network-boot client is told to load next, and from where. Pure; shared by all DHCP modes.
//!
//! The table by architecture and the order of the rows are Tinkerbell's contract. Two things differ on purpose. An iPXE
//! that says it speaks HTTP gets the script at once: a second iPXE would only cost time. And one that does not, but has
//! loaded its program in this boot already, gets the script over TFTP: it either runs it, or shows what it lacks, and
//! does not load the same program for ever.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use dhcp::{Arch, ClientKind, NetbootClient, UserClass};

use crate::config::Urls;
use crate::machine::Nic;
use crate::scripts::SCRIPT;
use crate::session::BootSession;

/// What goes into `file` (or option 67) and `siaddr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootFile {
    pub(crate) name: String,
    pub(crate) next_server: Option<Ipv4Addr>,
}

/// The boot program of an architecture; `None` for one that there is no program for.
pub(crate) fn program(arch: Arch, overrides: &BTreeMap<Arch, String>) -> Option<&str> {
    if let Some(program) = overrides.get(&arch) {
        return Some(program);
    }
    match arch.0 {
        0..=5 | 20 => Some("undionly.kpxe"),
        6..=9 | 15 | 16 => Some("ipxe.efi"),
        10 | 11 | 18 | 19 | 41 => Some("snp-arm64.efi"),
        _ => None,
    }
}

/// The file for a client that may boot and has a program.
pub(crate) fn choose(
    client: &NetbootClient,
    nic: &Nic,
    program: &str,
    urls: &Urls,
    session: Option<&BootSession>,
) -> BootFile {
    let program = nic.boot.program.as_deref().unwrap_or(program);
    let script = || nic.boot.script_url.as_ref().map_or_else(|| urls.script(nic.mac), ToString::to_string);
    let speaks_http = client.ipxe.is_some_and(|features| features.http);
    let name = match (client.user_class, client.kind) {
        (UserClass::Tinkerbell, _) => script(),
        (UserClass::Ipxe, _) if speaks_http => script(),
        (_, ClientKind::Http) => urls.binary_http(nic.mac, program),
        (UserClass::Ipxe, ClientKind::Pxe) => {
            let repeated = session.is_some_and(|session| session.has_loaded(program));
            urls.tftp(nic.mac, if repeated { SCRIPT } else { program })
        }
        (UserClass::Firmware, ClientKind::Pxe) => program.to_owned(),
    };
    let next_server = match client.kind {
        ClientKind::Http => urls.binary_ip,
        ClientKind::Pxe => match urls.tftp.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        },
    };
    BootFile { name, next_server: next_server.filter(|ip| !ip.is_unspecified()) }
}

/// The URL for a DHCPv6 client that may boot; nothing when there is no program for it. There every file has a URL, and every
/// iPXE that speaks IPv6 speaks HTTP, so the same program is never given twice.
pub(crate) fn choose6(
    client: &NetbootClient,
    nic: &Nic,
    program: Option<&str>,
    urls: &Urls,
) -> Option<String> {
    match (client.user_class, client.kind) {
        (UserClass::Tinkerbell | UserClass::Ipxe, _) => {
            let own = nic.boot.script_url.as_ref().map(ToString::to_string);
            Some(own.unwrap_or_else(|| urls.script(nic.mac)))
        }
        (UserClass::Firmware, ClientKind::Http) => Some(urls.binary_http(nic.mac, program?)),
        (UserClass::Firmware, ClientKind::Pxe) => Some(urls.tftp(nic.mac, program?)),
    }
}

#[cfg(test)]
mod tests {
    use dhcp::IpxeFeatures;
    use dhcp::quirks::{self, Applies, BOOT_PROGRAM, Effect};
    use serde_json::json;

    use super::*;
    use crate::config::tests::config;
    use crate::machine::tests::nic;
    use crate::session::Sessions;

    const SCRIPT: &str = "http://172.31.0.1:7171/ipxe/script/52:54:00:00:00:11/auto.ipxe";

    fn client(kind: ClientKind, user_class: UserClass, http: Option<bool>) -> NetbootClient {
        let ipxe = http.map(|http| IpxeFeatures { http, ..IpxeFeatures::default() });
        NetbootClient { kind, arch: Arch(7), user_class, ipxe }
    }

    fn name(client: &NetbootClient, program: &str, session: Option<&BootSession>) -> String {
        choose(client, &nic(&json!({})), program, &config(&[]).urls, session).name
    }

    #[test]
    fn every_architecture_has_upstreams_program() {
        let none = BTreeMap::new();
        for arch in 0..=300 {
            let expected = match arch {
                0 | 1 | 2 | 3 | 4 | 5 | 20 => Some("undionly.kpxe"),
                6 | 7 | 8 | 9 | 15 | 16 => Some("ipxe.efi"),
                10 | 11 | 18 | 19 | 41 => Some("snp-arm64.efi"),
                _ => None,
            };
            assert_eq!(program(Arch(arch), &none), expected, "{arch}");
        }
        let overrides = config(&["--ipxe-override-arch-mapping=7=snp-x86_64.efi,99=x"]).programs;
        assert_eq!(program(Arch(7), &overrides), Some("snp-x86_64.efi"));
        assert_eq!(program(Arch(99), &overrides), Some("x"));
    }

    #[test]
    fn the_rows_of_the_table_in_their_order() {
        use ClientKind::{Http, Pxe};
        use UserClass::{Firmware, Ipxe, Tinkerbell};
        let http = "http://172.31.0.1:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi";
        let tftp = "tftp://172.31.0.1:69/52:54:00:00:00:11/ipxe.efi";
        for (kind, class, features, expected) in [
            (Pxe, Tinkerbell, None, SCRIPT),
            (Http, Tinkerbell, None, SCRIPT),
            (Pxe, Ipxe, Some(true), SCRIPT),
            (Http, Ipxe, Some(true), SCRIPT),
            (Http, Ipxe, None, http),
            (Http, Firmware, None, http),
            (Pxe, Ipxe, Some(false), tftp),
            (Pxe, Ipxe, None, tftp),
            (Pxe, Firmware, None, "ipxe.efi"),
        ] {
            assert_eq!(
                name(&client(kind, class, features), "ipxe.efi", None),
                expected,
                "{kind:?} {class:?}"
            );
        }
    }

    #[test]
    fn the_same_program_is_never_given_twice_in_a_boot() {
        let mut sessions = Sessions::default();
        let mac = "52:54:00:00:00:11".parse().unwrap();
        let session = sessions.loaded(mac, "undionly.kpxe", 1).clone();
        let stage2 = client(ClientKind::Pxe, UserClass::Ipxe, Some(false));
        assert_eq!(
            name(&stage2, "undionly.kpxe", Some(&session)),
            "tftp://172.31.0.1:69/52:54:00:00:00:11/auto.ipxe"
        );
        assert!(name(&stage2, "ipxe.efi", Some(&session)).ends_with("/ipxe.efi"));
    }

    #[test]
    fn the_machine_overrides_program_and_script() {
        let nic = nic(&json!({ "netboot": { "ipxe": { "url": "http://own/s", "binary": "own.efi" } } }));
        let urls = config(&[]).urls;
        let firmware = client(ClientKind::Pxe, UserClass::Firmware, None);
        assert_eq!(choose(&firmware, &nic, "ipxe.efi", &urls, None).name, "own.efi");
        let tinkerbell = client(ClientKind::Pxe, UserClass::Tinkerbell, None);
        assert_eq!(choose(&tinkerbell, &nic, "ipxe.efi", &urls, None).name, "http://own/s");
    }

    #[test]
    fn the_programs_that_quirks_name_are_given_to_the_machines_that_an_operator_names_them_for() {
        let quirks = quirks::QUIRKS.iter().filter_map(|quirk| match quirk.applies {
            Applies::Named { setting: BOOT_PROGRAM, value } => Some((quirk.effect, value)),
            _ => None,
        });
        let quirks: Vec<_> = quirks.collect();
        assert_eq!(quirks, [(Effect::BootProgram, "snp-x86_64.efi")]);
        for (_, program) in quirks {
            let nic = nic(&json!({ "netboot": { "ipxe": { "binary": program } } }));
            let firmware = client(ClientKind::Pxe, UserClass::Firmware, None);
            assert_eq!(choose(&firmware, &nic, "ipxe.efi", &config(&[]).urls, None).name, program);
        }
    }

    #[test]
    fn the_next_server_is_where_the_file_is() {
        let urls = config(&["--dhcp-tftp-ip=10.0.0.9", "--dhcp-ipxe-http-binary-host=boot.example"]).urls;
        let next = |kind| {
            choose(&client(kind, UserClass::Firmware, None), &nic(&json!({})), "x", &urls, None).next_server
        };
        assert_eq!(next(ClientKind::Pxe), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(next(ClientKind::Http), None, "a name is no next server");
    }
}
