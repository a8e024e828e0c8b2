// SPDX-License-Identifier: Apache-2.0

//! One row of `hardware.csv`, cell by cell.
//!
//! Owns what each cell may hold. Every mistake of a row is told; a row with any gives no [`Server`], but what of it could be
//! read still takes part in the search for repeated values.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use api::{
    Mac,
    annotations::{LABEL_CLUSTER, LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE},
    anywhere::v1alpha1::{Arch, BootMode},
};
use daemon::Secret;
use ipnet::Ipv4Net;

use super::{
    BmcAccess, BmcAccount, BmcDriver, BmcMode, Nic, Server,
    columns::{Column, Header},
};
use crate::{
    finding::{Findings, Place},
    syntax,
};

/// What was readable of a row.
#[derive(Debug, Default)]
pub(super) struct Readable {
    pub hostname: Option<String>,
    pub mac: Option<Mac>,
    pub address: Option<Ipv4Addr>,
    pub bmc: Option<(IpAddr, Option<u16>)>,
    pub extra: Vec<Nic>,
    /// The whole, when nothing was wrong.
    pub server: Option<Server>,
}

/// Reads one row.
pub(super) fn read(
    place: (&str, u64),
    header: &Header,
    cells: &[String],
    mode: BmcMode,
    findings: &mut Findings,
) -> Readable {
    let mut row = Row { file: place.0, line: place.1, header, cells, findings, clean: true };
    let hostname = row.hostname();
    let mac = row.mac();
    let (address, gateway) = row.network();
    let name_servers = row.name_servers();
    let labels = row.labels();
    let disk = row.disk();
    let vlan = row.vlan();
    let extra = row.extra_nics();
    let arch = row.choice(Column::Arch, &ARCHES).unwrap_or(Arch::X86_64);
    let boot_mode = row.choice(Column::BootMode, &BOOT_MODES).unwrap_or(BootMode::Uefi);
    let bmc = row.bmc(mode);
    let clean = row.clean;

    let server = match (&hostname, mac, address, gateway, name_servers, labels, disk) {
        (
            Some(hostname),
            Some(mac),
            Some(address),
            Some(gateway),
            Some(name_servers),
            Some(labels),
            Some(disk),
        ) if clean => Some(Server {
            hostname: hostname.clone(),
            nic: Nic { mac, address: Some(address) },
            gateway,
            name_servers,
            vlan,
            extra_nics: extra.clone(),
            labels,
            disk,
            arch,
            boot_mode,
            bmc: bmc.clone(),
        }),
        _ => None,
    };
    Readable {
        hostname,
        mac,
        address: address.map(|network| network.addr()),
        bmc: bmc.map(|bmc| (bmc.address, bmc.port)),
        extra,
        server,
    }
}

const ARCHES: [(&str, Arch); 4] =
    [("x86_64", Arch::X86_64), ("amd64", Arch::X86_64), ("aarch64", Arch::Aarch64), ("arm64", Arch::Aarch64)];
const BOOT_MODES: [(&str, BootMode); 3] =
    [("uefi", BootMode::Uefi), ("bios", BootMode::Bios), ("legacy", BootMode::Bios)];
const DRIVERS: [(&str, BmcDriver); 4] = [
    ("redfish", BmcDriver::Redfish),
    ("gofish", BmcDriver::Redfish),
    ("ipmi", BmcDriver::Ipmi),
    ("ipmitool", BmcDriver::Ipmi),
];

struct Row<'a> {
    file: &'a str,
    line: u64,
    header: &'a Header,
    cells: &'a [String],
    findings: &'a mut Findings,
    clean: bool,
}

impl<'a> Row<'a> {
    fn cell(&self, column: Column) -> &'a str {
        self.header.cell(column, self.cells)
    }

    fn wrong(&mut self, column: Column, code: &'static str, what: String, fix: impl Into<String>) {
        self.clean = false;
        self.findings.error(code, Place::new(self.file, self.line, column.name()), what, fix);
    }

    /// The cell, which must hold something. A column that the file does not have was told once, at the header.
    fn needed(&mut self, column: Column, example: &str) -> Option<&'a str> {
        let cell = self.cell(column);
        if !cell.is_empty() {
            return Some(cell);
        }
        self.clean = false;
        if self.header.has(column) {
            self.wrong(column, "csv-empty", "is empty".to_owned(), format!("write one, such as {example}"));
        }
        None
    }

    fn hostname(&mut self) -> Option<String> {
        let name = self.needed(Column::Hostname, "worker-1")?;
        if syntax::is_subdomain(name) {
            return Some(name.to_owned());
        }
        let what = format!("{name:?} is no host name");
        self.wrong(Column::Hostname, "csv-hostname", what, syntax::SUBDOMAIN_RULE);
        None
    }

    fn mac(&mut self) -> Option<Mac> {
        let text = self.needed(Column::Mac, "52:54:00:12:34:56")?;
        self.parse_mac(Column::Mac, text)
    }

    fn parse_mac(&mut self, column: Column, text: &str) -> Option<Mac> {
        let fix = "write six bytes as 52:54:00:12:34:56";
        let Ok(mac) = text.parse::<Mac>() else {
            self.wrong(column, "csv-mac", format!("{text:?} is not a MAC"), fix);
            return None;
        };
        let [first, ..] = mac.octets();
        if first & 1 == 1 || mac.octets() == [0; 6] {
            let what = format!("{text} is not the address of one interface");
            self.wrong(column, "csv-mac", what, "copy it from the machine or its BMC");
            return None;
        }
        Some(mac)
    }

    fn ipv4(&mut self, column: Column, code: &'static str) -> Option<Ipv4Addr> {
        let text = self.needed(column, "10.10.44.1")?;
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if syntax::is_host_address(address) => return Some(address),
            Ok(IpAddr::V4(_)) => {
                let what = format!("{text} is no address that a machine can have");
                self.wrong(column, code, what, "write an address of the machines' network");
            }
            Ok(IpAddr::V6(_)) => {
                let what = format!("{text} is an IPv6 address");
                self.wrong(column, code, what, "machines are provisioned over IPv4: write an IPv4 address");
            }
            Err(_) => {
                let what = format!("{text:?} is not an IP address");
                self.wrong(
                    column,
                    code,
                    what,
                    "write four numbers as 10.10.44.1; the netmask has a column of its own",
                );
            }
        }
        None
    }

    /// Address with netmask, and the gateway inside that network.
    fn network(&mut self) -> (Option<Ipv4Net>, Option<Ipv4Addr>) {
        let address = self.ipv4(Column::IpAddress, "csv-ip");
        let prefix = self.prefix();
        let gateway = self.ipv4(Column::Gateway, "csv-gateway");
        let (Some(address), Some(prefix)) = (address, prefix) else { return (None, gateway) };
        let Ok(network) = Ipv4Net::new(address, prefix) else { return (None, gateway) };
        if prefix < 31 && (address == network.network() || address == network.broadcast()) {
            let what = format!("{address} is the first or last address of its network {}", network.trunc());
            self.wrong(Column::IpAddress, "csv-ip", what, "write an address between them");
        }
        let Some(gateway) = gateway else { return (Some(network), None) };
        if !network.contains(&gateway) {
            let what = format!("{gateway} is outside the machine's network {}", network.trunc());
            self.wrong(
                Column::Gateway,
                "csv-gateway",
                what,
                "write a router of that network, or correct the netmask",
            );
        } else if gateway == address {
            let what = format!("{gateway} is the machine's own address");
            self.wrong(Column::Gateway, "csv-gateway", what, "write the router's address");
        }
        (Some(network), Some(gateway))
    }

    /// The netmask: dotted, or the length of the prefix with or without a slash.
    fn prefix(&mut self) -> Option<u8> {
        let text = self.needed(Column::Netmask, "255.255.255.0")?;
        let dotted = text.parse::<Ipv4Addr>().ok().and_then(|mask| ipnet::ipv4_mask_to_prefix(mask).ok());
        let length = || text.strip_prefix('/').unwrap_or(text).parse::<u8>().ok();
        match dotted.or_else(length).filter(|length| (1..=32).contains(length)) {
            Some(length) => Some(length),
            None => {
                let what = format!("{text:?} is not a netmask");
                self.wrong(Column::Netmask, "csv-netmask", what, "write 255.255.255.0, or 24");
                None
            }
        }
    }

    fn name_servers(&mut self) -> Option<Vec<IpAddr>> {
        let text = self.needed(Column::Nameservers, "10.10.44.1|1.1.1.1")?;
        let mut servers = Vec::new();
        for item in text.split('|').map(str::trim) {
            if let Ok(address) = item.parse() {
                servers.push(address);
                continue;
            }
            let separated = item.split([',', ';', ' ']).filter(|part| !part.is_empty()).count() > 1;
            let (what, fix) = match item {
                "" => (format!("{text:?} has an empty item"), "write one | between two addresses"),
                _ if separated => (format!("{item:?} is not one IP address"), "separate the addresses by |"),
                _ => (
                    format!("{item:?} is not an IP address"),
                    "write the address of the server, not its name",
                ),
            };
            self.wrong(Column::Nameservers, "csv-nameservers", what, fix);
            return None;
        }
        Some(servers)
    }

    fn labels(&mut self) -> Option<BTreeMap<String, String>> {
        if !self.header.has(Column::Labels) {
            return None;
        }
        let text = self.cell(Column::Labels);
        let (mut labels, mut problems) = (BTreeMap::new(), Vec::new());
        for pair in text.split('|').map(str::trim).filter(|_| !text.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                problems.push(format!("{pair:?} has no ="));
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            if !syntax::is_label_key(key) {
                problems.push(format!("{key:?} is no label key"));
            } else if !syntax::is_label_value(value) {
                problems.push(format!("{value:?} is no label value"));
            } else if [LABEL_CLUSTER, LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE].contains(&key) {
                problems
                    .push(format!("{key:?} says which cluster holds a machine and is set by the cluster"));
            } else if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                problems.push(format!("the key {key:?} is there twice"));
            }
        }
        if problems.is_empty() {
            return Some(labels);
        }
        let fix = "write KEY=VALUE pairs with | between them, such as type=worker|rack=1: letters, digits, -, _ and ., at most 63 \
                   characters, a letter or digit at both ends";
        self.wrong(Column::Labels, "csv-labels", problems.join(", "), fix);
        None
    }

    fn disk(&mut self) -> Option<String> {
        let path = self.needed(Column::Disk, "/dev/sda")?;
        if syntax::is_disk_path(path) {
            return Some(path.to_owned());
        }
        let what = format!("{path:?} is not the path of one disk");
        self.wrong(Column::Disk, "csv-disk", what, "write /dev/sda, /dev/nvme0n1 or /dev/disk/by-id/...");
        None
    }

    fn vlan(&mut self) -> Option<u16> {
        let text = self.cell(Column::VlanId);
        if text.is_empty() {
            return None;
        }
        let number = text.parse().ok().filter(|number| (1..=4094).contains(number));
        if number.is_none() {
            let what = format!("{text:?} is not a VLAN");
            self.wrong(Column::VlanId, "csv-vlan", what, "write a number from 1 to 4094, or nothing");
        }
        number
    }

    /// `MAC` or `MAC=ADDRESS/PREFIX`, separated by `|`.
    fn extra_nics(&mut self) -> Vec<Nic> {
        let text = self.cell(Column::ExtraNics);
        let mut nics = Vec::new();
        for item in text.split('|').map(str::trim).filter(|_| !text.is_empty()) {
            let (mac, address) =
                item.split_once('=').map_or((item, None), |(mac, rest)| (mac, Some(rest.trim())));
            let Some(mac) = self.parse_mac(Column::ExtraNics, mac.trim()) else { continue };
            let network = match address.map(str::parse::<Ipv4Net>) {
                None => None,
                Some(Ok(network)) => Some(network),
                Some(Err(_)) => {
                    let what = format!("{:?} is no address with its prefix", address.unwrap_or_default());
                    self.wrong(
                        Column::ExtraNics,
                        "csv-nics",
                        what,
                        "write MAC=10.0.1.5/24, or the MAC alone",
                    );
                    continue;
                }
            };
            nics.push(Nic { mac, address: network });
        }
        nics
    }

    fn choice<T: Copy>(&mut self, column: Column, known: &[(&str, T)]) -> Option<T> {
        let text = self.cell(column);
        if text.is_empty() {
            return None;
        }
        let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            let what = format!("{text:?} is not known");
            self.wrong(column, "csv-choice", what, format!("write one of {}, or nothing", names.join(", ")));
        }
        found
    }

    /// A row has a BMC when any of its three cells is filled; then the others are needed too.
    fn bmc(&mut self, mode: BmcMode) -> Option<BmcAccess> {
        let [address, username, password] =
            [Column::BmcIp, Column::BmcUsername, Column::BmcPassword].map(|c| self.cell(c));
        let driver = self.choice(Column::BmcDriver, &DRIVERS);
        let port = self.bmc_port();
        if port.is_some() && driver.is_none() {
            let what = "is filled, but bmc_driver is not, and each protocol has a port of its own".to_owned();
            self.wrong(
                Column::BmcPort,
                "csv-bmc-port",
                what,
                "write redfish or ipmi into the column bmc_driver",
            );
        }
        if [address, username, password].iter().all(|cell| cell.is_empty()) {
            return None;
        }
        for (column, cell) in [(Column::BmcUsername, username), (Column::BmcPassword, password)] {
            if cell.is_empty() && mode == BmcMode::Accounts {
                let what = "is empty, but the row has a BMC".to_owned();
                self.wrong(column, "csv-bmc-account", what, "fill it, or empty all bmc_ cells of the row");
            }
        }
        let parsed = match address.parse::<IpAddr>() {
            Ok(parsed) => parsed,
            Err(_) if address.is_empty() => {
                let what = "is empty, but the row has an account for a BMC".to_owned();
                self.wrong(Column::BmcIp, "csv-bmc-ip", what, "fill it, or empty all bmc_ cells of the row");
                return None;
            }
            Err(_) => {
                let what = format!("{address:?} is not an IP address");
                self.wrong(
                    Column::BmcIp,
                    "csv-bmc-ip",
                    what,
                    "write the address of the BMC; bmc_port is a column of its own",
                );
                return None;
            }
        };
        let account = (mode == BmcMode::Accounts).then(|| BmcAccount {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        });
        Some(BmcAccess { address: parsed, account, driver, port })
    }

    fn bmc_port(&mut self) -> Option<u16> {
        let text = self.cell(Column::BmcPort);
        if text.is_empty() {
            return None;
        }
        let port = text.parse().ok().filter(|port| *port > 0);
        if port.is_none() {
            let what = format!("{text:?} is not a port");
            self.wrong(Column::BmcPort, "csv-bmc-port", what, "write a number from 1 to 65535, or nothing");
        }
        port
    }
}
