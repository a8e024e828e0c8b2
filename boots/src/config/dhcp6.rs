// SPDX-License-Identifier: Apache-2.0
//! What can be set about DHCPv6, and what follows from it: what machines are told that boot over IPv6.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

use ::dhcp::v6::{Duid, SERVER_PORT};
use daemon::config::{Kind, Setting, Settings};
use ipnet::Ipv6Net;
use sha2::{Digest as _, Sha256};

use super::{ScriptConfig, Urls, urls, with_port};
use crate::limit::Rate;

/// Identifies a server that has no address to make a DUID of.
const DUID_OF_NOBODY: [u8; 16] =
    [0x8d, 0x5f, 0x4b, 0x6a, 0x7c, 0x2e, 0x49, 0x0f, 0x9a, 0x38, 0x36, 0x9d, 0x4c, 0x61, 0x2f, 0x10];
/// What the DUID of a server that has one is made of, before the address.
const DUID_SALT: &str = "tinkerbell:smee:dhcpv6:";

/// The settings.
pub(super) const SETTINGS: [Setting; 26] = [
    Setting::new(
        "public-ipv6",
        "public-ipv6",
        Kind::Ip,
        "IPv6 address that machines reach this server at; found from the default route when unset",
    ),
    Setting::new("dhcpv6-enabled", "dhcpv6-enabled", Kind::Bool, "answer DHCPv6").with_default("false"),
    Setting::new(
        "dhcpv6-mode",
        "dhcpv6-mode",
        Kind::Choice(&["stateless", "auto-stateless", "reservation", "derived"]),
        "stateless: boot data for known machines, addresses come from their router; auto-stateless: that for unknown \
         machines too; reservation: reserved addresses as well; derived: addresses from the MAC where none is reserved",
    )
    .with_default("stateless"),
    Setting::new(
        "dhcpv6-enable-netboot-options",
        "dhcpv6-enable-netboot-options",
        Kind::Bool,
        "send boot data in DHCPv6 answers",
    )
    .with_default("true"),
    Setting::new("dhcpv6-bind-addr", "dhcpv6-bind-addr", Kind::Ip, "IPv6 address that DHCPv6 listens on; other than :: it hears only relays")
        .with_default("::"),
    Setting::new("dhcpv6-bind-port", "dhcpv6-bind-port", Kind::Port, "port that DHCPv6 listens on")
        .with_default("547"),
    Setting::new(
        "dhcpv6-bind-interface",
        "dhcpv6-bind-interface",
        Kind::Csv("interfaces"),
        "the only interfaces on which DHCPv6 is answered; unset: all",
    ),
    Setting::new(
        "dhcpv6-server-duid",
        "dhcpv6-server-duid",
        Kind::Text,
        "server identifier in hexadecimal digits; unset: a UUID made of the address of the workflow server",
    ),
    Setting::new(
        "dhcpv6-default-name-servers",
        "dhcpv6-default-name-servers",
        Kind::Csv("IPv6 addresses"),
        "name servers for machines whose Hardware names none",
    ),
    Setting::new(
        "dhcpv6-default-domain-search-list",
        "dhcpv6-default-domain-search-list",
        Kind::Csv("domain names"),
        "domain search list for machines whose Hardware names no domain",
    ),
    Setting::new(
        "dhcpv6-derived-direct-address-pool",
        "dhcpv6-derived-direct-address-pool",
        Kind::Text,
        "prefix of addresses that are derived for machines without a relay, such as 2001:db8::/64",
    ),
    Setting::new(
        "dhcpv6-derived-relay-address-prefix",
        "dhcpv6-derived-relay-address-prefix",
        Kind::Integer,
        "length of the prefix that derived addresses have in common with their relay's",
    )
    .with_default("64"),
    Setting::new("dhcpv6-syslog-ip", "dhcpv6-syslog-ip", Kind::Ip, "log server over IPv6; public-ipv6 when unset"),
    Setting::new("dhcpv6-tftp-ip", "dhcpv6-tftp-ip", Kind::Ip, "TFTP server in DHCPv6 answers; public-ipv6 when unset"),
    Setting::new("dhcpv6-tftp-port", "dhcpv6-tftp-port", Kind::Port, "port of that TFTP server")
        .with_default("69"),
    Setting::new(
        "dhcpv6-ipxe-http-binary-scheme",
        "dhcpv6-ipxe-http-binary-scheme",
        Kind::Choice(&["http", "https"]),
        "scheme of the boot program URL over IPv6",
    )
    .with_default("http"),
    Setting::new(
        "dhcpv6-ipxe-http-binary-host",
        "dhcpv6-ipxe-http-binary-host",
        Kind::Text,
        "host of the boot program URL over IPv6; public-ipv6 when unset",
    ),
    Setting::new(
        "dhcpv6-ipxe-http-binary-port",
        "dhcpv6-ipxe-http-binary-port",
        Kind::Port,
        "port of the boot program URL over IPv6; 0 is http-port",
    )
    .with_default("0"),
    Setting::new(
        "dhcpv6-ipxe-http-binary-path",
        "dhcpv6-ipxe-http-binary-path",
        Kind::Text,
        "path of the boot program URL over IPv6",
    )
    .with_default("/ipxe/binary/"),
    Setting::new(
        "dhcpv6-ipxe-http-script-scheme",
        "dhcpv6-ipxe-http-script-scheme",
        Kind::Choice(&["http", "https"]),
        "scheme of the script URL over IPv6",
    )
    .with_default("http"),
    Setting::new(
        "dhcpv6-ipxe-http-script-host",
        "dhcpv6-ipxe-http-script-host",
        Kind::Text,
        "host of the script URL over IPv6; public-ipv6 when unset",
    ),
    Setting::new(
        "dhcpv6-ipxe-http-script-port",
        "dhcpv6-ipxe-http-script-port",
        Kind::Port,
        "port of the script URL over IPv6; 0 is http-port",
    )
    .with_default("0"),
    Setting::new(
        "dhcpv6-ipxe-http-script-path",
        "dhcpv6-ipxe-http-script-path",
        Kind::Text,
        "path of the script URL over IPv6, with auto6.ipxe as its last element",
    )
    .with_default("/ipxe/script/auto6.ipxe"),
    Setting::new(
        "dhcpv6-ipxe-http-script-prepend-mac",
        "dhcpv6-ipxe-http-script-prepend-mac",
        Kind::Bool,
        "put the MAC before the last element of the script path over IPv6",
    )
    .with_default("true"),
    Setting::new(
        "ipxe-http-script-osie-url-v6",
        "ipxe-http-script-osie-url-v6",
        Kind::Url,
        "URL of the directory with kernel and initramfs over IPv6; ipxe-http-script-osie-url when unset, else our own /hook",
    ),
    Setting::new(
        "ipxe-script-tink-server-addr-port-v6",
        "ipxe-script-tink-server-addr-port-v6",
        Kind::Text,
        "workflow server for the agent over IPv6; port 42113 of public-ipv6 when unset",
    ),
];

/// The DHCPv6 listener and what it says about this server.
#[derive(Debug, Clone)]
pub struct Dhcp6Config {
    /// Where to listen.
    pub listen: SocketAddrV6,
    /// The only interfaces; none named is all.
    pub interfaces: Vec<String>,
    /// Who is answered what.
    pub mode: Dhcp6Mode,
    /// Whether boot data is sent at all.
    pub netboot: bool,
    /// How many messages of one client are answered; nothing is no limit.
    pub rate: Option<Rate>,
    /// Who this server is.
    pub duid: Duid,
    /// Name servers for machines without their own.
    pub name_servers: Vec<Ipv6Addr>,
    /// Search list for machines without a domain.
    pub search: Vec<String>,
    /// Prefix of derived addresses without a relay.
    pub derived: Option<Ipv6Net>,
    /// Length of the prefix of derived addresses behind a relay.
    pub relay_prefix: u8,
    /// What machines are told about where things are.
    pub urls: Urls,
    /// What their scripts are made from.
    pub script: ScriptConfig,
}

/// Who is answered what over DHCPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp6Mode {
    /// Boot data for machines that are known; addresses come from their router.
    Stateless,
    /// That for every network-boot client.
    AutoStateless,
    /// Reserved addresses and boot data for machines that are known.
    Reservation,
    /// The same, with an address made of the MAC where none is reserved.
    Derived,
}

impl Dhcp6Mode {
    /// Whether it gives addresses.
    #[must_use]
    pub fn gives_addresses(self) -> bool {
        matches!(self, Self::Reservation | Self::Derived)
    }
}

impl Dhcp6Config {
    /// Reads the settings, nothing when DHCPv6 is off; mistakes are recorded in them. `script` is what scripts over IPv4 are
    /// made from, `bind` where HTTP and TFTP listen, `public` the address of this server, `own_hook` whether kernel and initramfs
    /// are ours there.
    pub(super) fn from_settings(
        settings: &mut Settings,
        script: &ScriptConfig,
        (bind, http_port): (IpAddr, u16),
        (public, own_hook): (Option<Ipv6Addr>, bool),
    ) -> Option<Self> {
        let enabled = settings.bool("dhcpv6-enabled");
        if enabled && public.is_none() {
            settings
                .mistake("public-ipv6", "must be set: this host has no IPv6 default route to find it from");
        }
        if enabled && bind.is_ipv4() && !settings.is_set("dhcpv6-ipxe-http-script-host") {
            settings.mistake(
                "bind-address",
                "must be :: for dhcpv6-enabled: machines that boot over IPv6 reach neither HTTP nor TFTP",
            );
        }
        let public = public.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let script = script6(settings, script, (public, http_port), own_hook);
        let duid = settings.get("dhcpv6-server-duid").unwrap_or_else(|| duid_of(&script.grpc_authority));
        let search = domains(settings);
        let derived: Option<Ipv6Net> = settings.get("dhcpv6-derived-direct-address-pool");
        if let Some(pool) = derived.filter(|pool| !is_pool(*pool)) {
            let problem = format!("{pool} is not a prefix of ordinary addresses from /1 to /64");
            settings.mistake("dhcpv6-derived-direct-address-pool", problem);
        }
        let relay_prefix = settings.get_or("dhcpv6-derived-relay-address-prefix", 64u8);
        if !(1..=64).contains(&relay_prefix) {
            settings.mistake("dhcpv6-derived-relay-address-prefix", "must be from 1 to 64");
        }
        let listen = settings.get_or("dhcpv6-bind-addr", Ipv6Addr::UNSPECIFIED);
        let config = Self {
            listen: SocketAddrV6::new(listen, settings.get_or("dhcpv6-bind-port", SERVER_PORT), 0, 0),
            interfaces: settings.list("dhcpv6-bind-interface"),
            mode: match settings.text("dhcpv6-mode").as_str() {
                "auto-stateless" => Dhcp6Mode::AutoStateless,
                "reservation" => Dhcp6Mode::Reservation,
                "derived" => Dhcp6Mode::Derived,
                _ => Dhcp6Mode::Stateless,
            },
            netboot: settings.bool("dhcpv6-enable-netboot-options"),
            rate: super::dhcp::rate(settings),
            duid,
            name_servers: settings.list("dhcpv6-default-name-servers"),
            search,
            derived,
            relay_prefix,
            urls: urls(settings, "dhcpv6", public.into(), http_port),
            script,
        };
        enabled.then_some(config)
    }
}

/// What scripts over IPv6 are made from.
fn script6(
    settings: &mut Settings,
    script: &ScriptConfig,
    (public, http_port): (Ipv6Addr, u16),
    own_hook: bool,
) -> ScriptConfig {
    let syslog_ip: Ipv6Addr = settings.get_or("dhcpv6-syslog-ip", public);
    let osie_url: Option<String> = settings.get("ipxe-http-script-osie-url-v6");
    let elsewhere =
        || if own_hook { format!("http://[{public}]:{http_port}/hook") } else { script.osie_url.clone() };
    let authority: String = settings.get_or("ipxe-script-tink-server-addr-port-v6", public.to_string());
    ScriptConfig {
        osie_url: osie_url.unwrap_or_else(elsewhere).trim_end_matches('/').to_owned(),
        syslog: settings.get_or("ipxe-script-syslog-fqdn", syslog_ip.to_string()),
        grpc_authority: with_port(&authority),
        ..script.clone()
    }
}

/// The same server has the same DUID after every start, and another one another.
fn duid_of(authority: &str) -> Duid {
    let host = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(host, _)| host);
    let address =
        host.and_then(|host| Ipv6Addr::from_str(host).ok()).filter(|address| !address.is_unspecified());
    let made = address.and_then(|address| {
        let digest = Sha256::digest(format!("{DUID_SALT}{address}"));
        digest.first_chunk::<16>().copied()
    });
    Duid::uuid(made.unwrap_or(DUID_OF_NOBODY))
}

/// Names of the search list; one that is none is a mistake.
fn domains(settings: &mut Settings) -> Vec<String> {
    let search: Vec<String> = settings.list("dhcpv6-default-domain-search-list");
    let refused: Vec<String> = ::dhcp::v6::Options::default()
        .add_domains(::dhcp::v6::code::DOMAIN_LIST, &search)
        .into_iter()
        .map(str::to_owned)
        .collect();
    for domain in refused {
        settings.mistake("dhcpv6-default-domain-search-list", format!("{domain:?} is not a domain name"));
    }
    search
}

/// Whether addresses of machines can be made in a prefix.
fn is_pool(pool: Ipv6Net) -> bool {
    let address = pool.network();
    let ordinary = !address.is_multicast()
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none();
    ordinary && (1..=64).contains(&pool.prefix_len())
}

#[cfg(test)]
mod tests {
    use daemon::config::{Inputs, Settings};

    use super::*;
    use crate::config::tests::config;
    use crate::config::{Config, SETTINGS};

    const ON: [&str; 3] = ["--dhcpv6-enabled", "--public-ipv6=fd00::1", "--bind-address=::"];

    fn on(flags: &[&str]) -> Dhcp6Config {
        config(&[&ON[..], flags].concat()).dhcp6.unwrap()
    }

    #[test]
    fn defaults_follow_from_the_public_address() {
        assert!(config(&[]).dhcp6.is_none(), "off by default");
        let config = on(&[]);
        let mac = "52:54:00:00:00:11".parse().unwrap();
        assert_eq!(config.listen.to_string(), "[::]:547");
        assert_eq!(config.mode, Dhcp6Mode::Stateless);
        assert_eq!(config.urls.script(mac), "http://[fd00::1]:7171/ipxe/script/52:54:00:00:00:11/auto6.ipxe");
        assert_eq!(
            config.urls.binary_http(mac, "ipxe.efi"),
            "http://[fd00::1]:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi"
        );
        assert_eq!(config.urls.tftp(mac, "ipxe.efi"), "tftp://[fd00::1]/52:54:00:00:00:11/ipxe.efi");
        assert_eq!(config.script.osie_url, "http://[fd00::1]:7171/hook");
        assert_eq!(config.script.grpc_authority, "[fd00::1]:42113");
        assert_eq!(config.script.syslog, "fd00::1");
    }

    #[test]
    fn parts_can_be_elsewhere() {
        let config = on(&[
            "--dhcpv6-tftp-ip=fd00::2",
            "--dhcpv6-tftp-port=6969",
            "--dhcpv6-ipxe-http-script-host=boot.example.com",
            "--dhcpv6-ipxe-http-script-port=80",
            "--ipxe-http-script-osie-url=http://files.example.com/",
            "--ipxe-script-tink-server-addr-port-v6=tink.example.com",
        ]);
        let mac = "52:54:00:00:00:11".parse().unwrap();
        assert_eq!(config.urls.tftp(mac, "f"), "tftp://[fd00::2]:6969/52:54:00:00:00:11/f");
        assert_eq!(
            config.urls.script(mac),
            "http://boot.example.com/ipxe/script/52:54:00:00:00:11/auto6.ipxe"
        );
        assert_eq!(config.script.osie_url, "http://files.example.com");
        assert_eq!(config.script.grpc_authority, "tink.example.com:42113");
    }

    #[test]
    fn the_servers_duid_is_the_configured_one_or_follows_from_its_address() {
        assert_eq!(
            on(&["--dhcpv6-server-duid=00:03:00:01:02:00:00:00:00:01"]).duid.to_string(),
            "00:03:00:01:02:00:00:00:00:01"
        );
        let made = on(&[]).duid;
        assert_eq!(made.to_string(), "00:04:f6:12:72:d6:86:0a:5b:a1:a0:3d:54:a1:cf:23:55:71");
        assert_eq!(on(&[]).duid, made, "the same after another start");
        assert_ne!(on(&["--public-ipv6=fd00::2"]).duid, made);
        let nobody = on(&["--ipxe-script-tink-server-addr-port-v6=tink.example.com"]).duid;
        assert_eq!(nobody.to_string(), "00:04:8d:5f:4b:6a:7c:2e:49:0f:9a:38:36:9d:4c:61:2f:10");
    }

    #[test]
    fn mistakes_are_told_together() {
        let args = [
            "--public-ipv4=172.31.0.1",
            "--public-ipv6=fd00::1",
            "--dhcpv6-enabled",
            "--dhcpv6-server-duid=zz",
            "--dhcpv6-default-name-servers=1.1.1.1",
            "--dhcpv6-default-domain-search-list=a..b",
            "--dhcpv6-derived-direct-address-pool=fe80::/64",
            "--dhcpv6-derived-relay-address-prefix=65",
        ];
        let mut settings = Settings::load("boots", SETTINGS, Inputs::gather(args.map(str::to_owned), []));
        Config::from_settings(&mut settings);
        let text = settings.finish().unwrap_err().to_string();
        for key in [
            "bind-address",
            "server-duid",
            "name-servers",
            "domain-search",
            "address-pool",
            "relay-address-prefix",
        ] {
            assert!(text.contains(key), "{key}: {text}");
        }
    }
}
