// SPDX-License-Identifier: Apache-2.0
//! A Hardware object as network boot sees it: parsed once, when it is watched, into types that cannot be wrong.
//!
//! A field that does not parse is dropped alone and reported as a problem; everything else of the object stays in use.
//! Made by `backend`, read by the DHCP decision, the scripts and the servers. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api::Mac;
use api::v1alpha1::{Dhcp, Hardware, Interface};
use dhcp::Route;
use dhcp::quirks::leave_by;
use dhcp::v6::Duid;
use k8s_openapi::api::core::v1::ObjectReference;
use url::Url;

use crate::boot::Permission;

/// Lease for an interface that says nothing, or nothing usable: one week.
pub(crate) const DEFAULT_LEASE: u32 = 604_800;
/// Architecture of an interface that says nothing.
const DEFAULT_ARCH: &str = "x86_64";

/// Annotations of a Hardware that name its switch port, for machines whose MAC nobody wrote down.
const CIRCUIT_ID: &str = "tinkerbell.org/dhcp-circuit-id";
const REMOTE_ID: &str = "tinkerbell.org/dhcp-remote-id";
/// Annotation of a Hardware that names its DHCPv6 identifier, for machines whose MAC a DHCPv6 message does not say.
const DUID: &str = "tinkerbell.org/dhcp-duid";

/// Annotation of a Hardware that says how its machine is given back to its disk, by the name of the setting for all.
const LEAVE: &str = "tinkerbell.org/ipxe-boot-from-disk-method";

/// A machine. There are tens of thousands of them in memory: nothing is kept that can be made of the rest.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// UID of the Hardware, if it has one.
    uid: Option<String>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Site code for the kernel command line; may be empty.
    pub(crate) facility: String,
    pub(crate) nics: Box<[Arc<Nic>]>,
    /// The switch port that it hangs on, by which it is known when its MAC is not.
    pub(crate) port: Option<RelayPort>,
    /// What it calls itself in DHCPv6, by which it is known when its MAC is not.
    pub(crate) duid: Option<Duid>,
    /// Commands before `exit 1` where it is given back to its disk, others than the configured ones.
    pub(crate) leave_by: Option<&'static str>,
}

/// A switch port as relays name it in option 82 (RFC 3046 section 3). One of the two may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RelayPort {
    pub(crate) circuit_id: Option<Vec<u8>>,
    pub(crate) remote_id: Option<Vec<u8>>,
}

/// One network interface that DHCP knows by its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) mac: Mac,
    /// What the agent is to call itself.
    pub(crate) agent_id: String,
    /// Whether DHCP answers it.
    pub(crate) dhcp: bool,
    pub(crate) lease: Lease,
    pub(crate) lease6: Lease6,
    /// Options 66 and 67 verbatim, which replace all boot data of ours.
    pub(crate) own_boot: Option<(String, String)>,
    /// Most machines of a site boot alike: those in the index share it.
    pub(crate) boot: Arc<Boot>,
}

/// What DHCP tells an interface about its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The reserved address; without one DHCP stays silent.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) netmask: Option<Ipv4Addr>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) seconds: u32,
    pub(crate) hostname: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) name_servers: Vec<Ipv4Addr>,
    pub(crate) time_servers: Vec<Ipv4Addr>,
    pub(crate) routes: Vec<Route>,
}

/// What DHCPv6 tells an interface about its network beyond what [`Lease`] has for both: seconds and domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lease6 {
    /// The reserved address.
    pub(crate) address: Option<Ipv6Addr>,
    pub(crate) name_servers: Vec<Ipv6Addr>,
    pub(crate) time_servers: Vec<Ipv6Addr>,
}

/// How an interface boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Boot {
    pub(crate) allowed: Permission,
    pub(crate) arch: String,
    pub(crate) vlan: Option<String>,
    /// Another boot program than its architecture's.
    pub(crate) program: Option<String>,
    /// A script to chain to; wins over `script`.
    pub(crate) script_url: Option<Url>,
    pub(crate) script: Option<String>,
    pub(crate) osie_url: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) initrd: Option<String>,
    pub(crate) kernel_args: Vec<String>,
    pub(crate) pxelinux: Option<String>,
    /// The files of a Raspberry Pi.
    pub(crate) rpi: Option<Rpi>,
    /// The image that virtual media gets, another than the configured one.
    pub(crate) iso: Option<Url>,
}

/// What the boot loader of a Raspberry Pi finds in the folder of its serial number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rpi {
    pub(crate) serial: String,
    /// The folder of its firmware below the assets, without a slash at either end.
    pub(crate) firmware: String,
    /// Its `config.txt`; may be empty.
    pub(crate) config: String,
}

impl Machine {
    /// Reads a Hardware object. The second value says what could not be used.
    pub(crate) fn read(hardware: &Hardware) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let namespace = hardware.metadata.namespace.clone().unwrap_or_default();
        let name = hardware.metadata.name.clone().unwrap_or_default();
        let facility = hardware.spec.metadata.as_ref().and_then(|metadata| metadata.facility.as_ref());
        let nics = hardware.spec.interfaces.iter().enumerate();
        let machine = Self {
            uid: hardware.metadata.uid.clone(),
            facility: facility.and_then(|facility| facility.facility_code.clone()).unwrap_or_default(),
            nics: nics
                .filter_map(|(i, nic)| read_nic(hardware, i, nic, &mut problems))
                .map(Arc::new)
                .collect(),
            port: read_port(hardware, &mut problems),
            duid: read_duid(hardware, &mut problems),
            leave_by: read_leave(hardware, &mut problems),
            namespace,
            name,
        };
        (machine, problems)
    }

    /// Where Events go.
    pub(crate) fn reference(&self) -> ObjectReference {
        daemon::events::hardware_reference(&self.namespace, &self.name, self.uid.as_deref())
    }
}

impl Nic {
    /// The reserved address, of which there is one at most.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.lease.address.map(IpAddr::V4).or(self.lease6.address.map(IpAddr::V6))
    }

    /// An interface of which there is no Hardware and that may boot all the same.
    pub(crate) fn stranger(mac: Mac) -> Self {
        let boot = Boot { allowed: true.into(), arch: DEFAULT_ARCH.to_owned(), ..Boot::default() };
        let (lease, lease6) = (Lease::default(), Lease6::default());
        Self {
            mac,
            agent_id: mac.to_string(),
            dhcp: true,
            lease,
            lease6,
            own_boot: None,
            boot: Arc::new(boot),
        }
    }
}

impl Boot {
    /// The VLAN for DHCP, where only a number in the range of IEEE 802.1Q makes sense: a boot program makes it an argument.
    pub(crate) fn vlan_id(&self) -> Option<&str> {
        let is_vlan = |id: &&str| {
            id.bytes().all(|b| b.is_ascii_digit()) && (1..4095).contains(&id.parse().unwrap_or(0u16))
        };
        self.vlan.as_deref().filter(is_vlan)
    }
}

impl Lease {
    /// The broadcast address of the network.
    pub(crate) fn broadcast(&self) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(u32::from(self.address?) | !u32::from(self.netmask?)))
    }
}

/// The switch port that the annotations name: text as it is, bytes as `0x` and hexadecimal digits.
fn read_port(hardware: &Hardware, problems: &mut Vec<String>) -> Option<RelayPort> {
    let mut id = |annotation: &str| {
        let text = hardware.metadata.annotations.as_ref()?.get(annotation)?;
        let bytes = match text.strip_prefix("0x") {
            None => Some(text.as_bytes().to_vec()),
            Some(digits) => {
                let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
                let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
            }
        };
        if bytes.is_none() {
            problems.push(format!("annotation {annotation}: {text:?} is not hexadecimal"));
        }
        bytes.filter(|bytes| !bytes.is_empty())
    };
    let port = RelayPort { circuit_id: id(CIRCUIT_ID), remote_id: id(REMOTE_ID) };
    (port.circuit_id.is_some() || port.remote_id.is_some()).then_some(port)
}

/// The DHCPv6 identifier that the annotation names.
fn read_duid(hardware: &Hardware, problems: &mut Vec<String>) -> Option<Duid> {
    let text = hardware.metadata.annotations.as_ref()?.get(DUID).filter(|text| !text.is_empty())?;
    let read = text.parse();
    if let Err(error) = &read {
        problems.push(format!("annotation {DUID}: {text:?}: {error}"));
    }
    read.ok()
}

/// How the annotation says that the machine is given back to its disk.
fn read_leave(hardware: &Hardware, problems: &mut Vec<String>) -> Option<&'static str> {
    let text = hardware.metadata.annotations.as_ref()?.get(LEAVE).filter(|text| !text.is_empty())?;
    let commands = leave_by(text);
    if commands.is_none() {
        problems.push(format!("annotation {LEAVE}: {text:?} is neither ipxe-exit nor ipxe-sanboot"));
    }
    commands
}

/// Collects problems of one interface.
struct Reader<'a> {
    index: usize,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, field: &str, value: &str, expected: &str) {
        let index = self.index;
        self.problems.push(format!("interfaces[{index}].{field}: {value:?} is not {expected}"));
    }

    /// A text parsed as `T`; an empty one counts as absent.
    fn parse<T: std::str::FromStr>(&mut self, field: &str, value: Option<&str>, expected: &str) -> Option<T> {
        let value = value.filter(|value| !value.is_empty())?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.problem(field, value, expected);
        }
        parsed
    }

    /// Addresses by their version.
    fn addresses(&mut self, field: &str, values: &[String]) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for value in values {
            match self.parse(field, Some(value), "an IP address") {
                Some(IpAddr::V4(address)) => v4.push(address),
                Some(IpAddr::V6(address)) => v6.push(address),
                None => {}
            }
        }
        (v4, v6)
    }
}

fn read_nic(
    hardware: &Hardware,
    index: usize,
    interface: &Interface,
    problems: &mut Vec<String>,
) -> Option<Nic> {
    let mut reader = Reader { index, problems };
    let dhcp = interface.dhcp.as_ref()?;
    let mac = reader.parse("dhcp.mac", dhcp.mac.as_deref(), "a MAC")?;
    let non_empty = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (lease, lease6) = read_leases(dhcp, &mut reader);
    Some(Nic {
        mac,
        agent_id: hardware.agent_id(mac),
        dhcp: interface.allows_dhcp(),
        lease,
        lease6,
        own_boot: match (non_empty(&dhcp.tftp_server_name), non_empty(&dhcp.boot_file_name)) {
            (None, None) => None,
            (server, file) => Some((server.unwrap_or_default(), file.unwrap_or_default())),
        },
        boot: Arc::new(read_boot(dhcp, interface, &mut reader)),
    })
}

fn read_leases(dhcp: &Dhcp, reader: &mut Reader<'_>) -> (Lease, Lease6) {
    let (name_servers, name_servers6) = reader.addresses("dhcp.name_servers", &dhcp.name_servers);
    let (time_servers, time_servers6) = reader.addresses("dhcp.time_servers", &dhcp.time_servers);
    let mut lease = Lease { name_servers, time_servers, ..read_lease(dhcp, reader) };
    let mut lease6 = Lease6 { address: None, name_servers: name_servers6, time_servers: time_servers6 };
    let ip = dhcp.ip.clone().unwrap_or_default();
    match reader.parse("dhcp.ip.address", ip.address.as_deref(), "an IP address") {
        Some(IpAddr::V6(address)) => {
            lease6.address = Some(address).filter(|address| !address.is_unspecified())
        }
        Some(IpAddr::V4(address)) => {
            lease.address = Some(address).filter(|address| !address.is_unspecified());
            lease.netmask = read_netmask(ip.netmask.as_deref(), reader);
            lease.gateway = reader.parse("dhcp.ip.gateway", ip.gateway.as_deref(), "an IPv4 address");
        }
        // Without an address of its own, an interface may get one from a pool, which has its own network.
        None => {}
    }
    (lease, lease6)
}

fn read_netmask(netmask: Option<&str>, reader: &mut Reader<'_>) -> Option<Ipv4Addr> {
    let mask: Ipv4Addr = reader.parse("dhcp.ip.netmask", netmask, "an IPv4 netmask")?;
    let contiguous = u32::from(mask).leading_ones() + u32::from(mask).trailing_zeros() >= 32;
    if !contiguous {
        reader.problem("dhcp.ip.netmask", &mask.to_string(), "an IPv4 netmask");
    }
    contiguous.then_some(mask)
}

/// What does not depend on the address.
fn read_lease(dhcp: &Dhcp, reader: &mut Reader<'_>) -> Lease {
    Lease {
        seconds: lease_seconds(dhcp.lease_time),
        hostname: dhcp.hostname.clone().filter(|name| !name.is_empty()),
        domain: dhcp.domain_name.clone().filter(|name| !name.is_empty()),
        routes: dhcp
            .classless_static_routes
            .iter()
            .filter_map(|route| {
                let to = Some(route.destination_descriptor.as_str());
                let net: ipnet::Ipv4Net =
                    reader.parse("dhcp.classless_static_routes.destination_descriptor", to, "a network")?;
                let via = Some(route.router.as_str());
                let router = reader.parse("dhcp.classless_static_routes.router", via, "an IPv4 address")?;
                Some(Route { destination: net.network(), prefix: net.prefix_len(), router })
            })
            .collect(),
        ..Lease::default()
    }
}

/// A week unless a usable time is given; 0 would be a lease that is over at once.
fn lease_seconds(lease_time: Option<i64>) -> u32 {
    lease_time
        .and_then(|seconds| u32::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .unwrap_or(DEFAULT_LEASE)
}

fn read_boot(dhcp: &Dhcp, interface: &Interface, reader: &mut Reader<'_>) -> Boot {
    let netboot = interface.netboot.clone().unwrap_or_default();
    let ipxe = netboot.ipxe.unwrap_or_default();
    let osie = netboot.osie.unwrap_or_default();
    let non_empty = |value: Option<String>| value.filter(|value| !value.is_empty());
    let script_url: Option<Url> = reader.parse("netboot.ipxe.url", ipxe.url.as_deref(), "a URL");
    let source = interface.isoboot.as_ref().and_then(|isoboot| isoboot.source_iso.as_deref());
    let mut iso: Option<Url> = reader.parse("isoboot.sourceISO", source, "a URL");
    if let Some(other) = iso.take_if(|url| !matches!(url.scheme(), "http" | "https")) {
        reader.problem("isoboot.sourceISO", other.as_str(), "a URL of http or https");
    }
    Boot {
        allowed: interface.allows_netboot().into(),
        arch: non_empty(dhcp.arch.clone()).unwrap_or_else(|| DEFAULT_ARCH.to_owned()),
        vlan: non_empty(dhcp.vlan_id.clone()),
        program: non_empty(ipxe.binary),
        script_url,
        script: non_empty(ipxe.contents),
        osie_url: non_empty(osie.base_url).map(|url| url.trim_end_matches('/').to_owned()),
        kernel: non_empty(osie.kernel),
        initrd: non_empty(osie.initrd),
        kernel_args: osie.kernel_params,
        pxelinux: netboot.pxelinux.and_then(|pxelinux| non_empty(pxelinux.config)),
        rpi: netboot.rpi.and_then(read_rpi),
        iso,
    }
}

/// The files of a Raspberry Pi, which has them only with both its serial number and its firmware.
fn read_rpi(rpi: api::v1alpha1::Rpi) -> Option<Rpi> {
    let firmware = rpi.firmware_path.as_deref().unwrap_or_default().trim_matches('/').to_owned();
    let rpi = Rpi { serial: rpi.serial_num, firmware, config: rpi.config_txt.unwrap_or_default() };
    (!rpi.serial.is_empty() && !rpi.firmware.is_empty()).then_some(rpi)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Hardware of the lab's first machine with other values for its interface.
    pub(crate) fn hardware(interface: &serde_json::Value) -> Hardware {
        let mut full = json!({
            "dhcp": {
                "mac": "52:54:00:00:00:11",
                "hostname": "m1",
                "ip": { "address": "172.31.0.11", "netmask": "255.255.255.0", "gateway": "172.31.0.1" },
            },
            "netboot": { "allowPXE": true },
        });
        merge(&mut full, interface);
        serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1",
            "kind": "Hardware",
            "metadata": { "name": "m1", "namespace": "tinkerbell", "uid": "u1" },
            "spec": { "metadata": { "facility": { "facility_code": "lab" } }, "interfaces": [full] },
        }))
        .unwrap()
    }

    fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
                }
            }
            (into, from) => *into = from.clone(),
        }
    }

    /// The one interface of such a machine.
    pub(crate) fn nic(interface: &serde_json::Value) -> Nic {
        Nic::clone(&Machine::read(&hardware(interface)).0.nics[0])
    }

    #[test]
    fn a_bad_field_costs_only_itself() {
        let (machine, problems) = Machine::read(&hardware(&json!({
            "dhcp": {
                "ip": { "netmask": "255.0.255.0", "gateway": "gw" },
                "name_servers": ["1.1.1.1", "one", "2606::1"],
                "lease_time": -1,
                "classless_static_routes": [
                    { "destination_descriptor": "10.0.0.0/8", "router": "172.31.0.9" },
                    { "destination_descriptor": "x", "router": "172.31.0.9" },
                ],
            },
            "netboot": { "ipxe": { "url": "not a url" } },
        })));
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(
            problems.iter().any(|p| p == "interfaces[0].dhcp.name_servers: \"one\" is not an IP address")
        );
        let nic = &machine.nics[0];
        assert_eq!(nic.lease.address, Some(Ipv4Addr::new(172, 31, 0, 11)));
        assert_eq!((nic.lease.netmask, nic.lease.gateway, nic.lease.seconds), (None, None, DEFAULT_LEASE));
        assert_eq!(nic.lease.name_servers, [Ipv4Addr::new(1, 1, 1, 1)]);
        assert_eq!(nic.lease6.name_servers, ["2606::1".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!(nic.lease.routes.len(), 1);
        assert!(nic.boot.allowed == true.into() && nic.boot.script_url.is_none());
    }

    #[test]
    fn a_switch_port_is_text_or_hexadecimal() {
        let read = |circuit: &str, remote: Option<&str>| {
            let mut hardware = hardware(&json!({}));
            let annotations = hardware.metadata.annotations.get_or_insert_default();
            annotations.insert(CIRCUIT_ID.to_owned(), circuit.to_owned());
            remote.into_iter().for_each(|remote| {
                annotations.insert(REMOTE_ID.to_owned(), remote.to_owned());
            });
            let (machine, problems) = Machine::read(&hardware);
            (machine.port, problems.len())
        };
        let port = |circuit: &[u8], remote: Option<&[u8]>| {
            Some(RelayPort { circuit_id: Some(circuit.to_vec()), remote_id: remote.map(<[u8]>::to_vec) })
        };
        assert_eq!(read("Gi1/0/7", None), (port(b"Gi1/0/7", None), 0));
        assert_eq!(read("0x0004000a", Some("sw1")), (port(&[0, 4, 0, 10], Some(b"sw1")), 0));
        assert_eq!(read("0x123", None), (None, 1));
        assert_eq!(Machine::read(&hardware(&json!({}))).0.port, None);
    }

    #[test]
    fn an_ipv6_reservation_is_dhcpv6s() {
        let nic = nic(&json!({ "dhcp": {
            "ip": { "address": "2001:db8::11", "netmask": null, "gateway": null },
            "lease_time": 7200, "domain_name": "lab.example", "time_servers": ["10.0.0.1", "2001:db8::1"],
        }}));
        assert_eq!((nic.lease.address, nic.lease.seconds), (None, 7200));
        assert_eq!(nic.lease.domain.as_deref(), Some("lab.example"));
        assert_eq!(nic.lease6.address, Some("2001:db8::11".parse().unwrap()));
        assert_eq!(nic.address(), Some("2001:db8::11".parse().unwrap()));
        assert_eq!((nic.lease.time_servers.len(), nic.lease6.time_servers.len()), (1, 1));
    }

    #[test]
    fn a_duid_is_hexadecimal() {
        let read = |text: &str| {
            let mut hardware = hardware(&json!({}));
            hardware.metadata.annotations.get_or_insert_default().insert(DUID.to_owned(), text.to_owned());
            let (machine, problems) = Machine::read(&hardware);
            (machine.duid, problems.len())
        };
        assert_eq!(read("00:04:0102"), (Duid::new(&[0, 4, 1, 2]).ok(), 0));
        assert_eq!(read("it"), (None, 1));
        assert_eq!(read(""), (None, 0));
    }

    #[test]
    fn a_vlan_is_a_number_that_a_tag_can_carry() {
        let vlan = |id: &str| nic(&json!({ "dhcp": { "vlan_id": id } })).boot.vlan_id().map(str::to_owned);
        assert_eq!(vlan("1"), Some("1".to_owned()));
        assert_eq!(vlan("4094"), Some("4094".to_owned()));
        for bad in ["0", "4095", "70000", "1; shell", "+5", ""] {
            assert_eq!(vlan(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_raspberry_pi_has_files_when_serial_number_and_firmware_are_known() {
        let rpi = |rpi: serde_json::Value| nic(&json!({ "netboot": { "rpi": rpi } })).boot.rpi.clone();
        let whole = rpi(json!({ "serialNum": "5dcc45e5", "firmwarePath": "/rpi4/", "configTxt": "a=1" }));
        let expected = Rpi { serial: "5dcc45e5".into(), firmware: "rpi4".into(), config: "a=1".into() };
        assert_eq!(whole, Some(expected));
        assert_eq!(rpi(json!({ "serialNum": "5dcc45e5" })), None);
        assert_eq!(rpi(json!({ "serialNum": "", "firmwarePath": "rpi4" })), None);
    }

    #[test]
    fn lease_times_that_make_no_sense_are_a_week() {
        assert_eq!(lease_seconds(None), DEFAULT_LEASE);
        assert_eq!(lease_seconds(Some(0)), DEFAULT_LEASE);
        assert_eq!(lease_seconds(Some(1 << 40)), DEFAULT_LEASE);
        assert_eq!(lease_seconds(Some(86_400)), 86_400);
    }

    #[test]
    fn hardware_without_netboot_still_has_its_lease() {
        let nic = nic(&json!({ "netboot": null, "disableDhcp": true }));
        assert!(nic.boot.allowed == false.into() && !nic.dhcp);
        assert_eq!(nic.lease.broadcast(), Some(Ipv4Addr::new(172, 31, 0, 255)));
        assert_eq!((nic.agent_id.as_str(), nic.boot.arch.as_str()), ("52:54:00:00:00:11", "x86_64"));
    }
}
