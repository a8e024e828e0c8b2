// SPDX-License-Identifier: Apache-2.0
//! Finds the address that machines reach this host at, for when the configuration does not say.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrStorage};

/// Names the interface whose address it is; Tinkerbell's variable.
const INTERFACE_VARIABLE: &str = "TINKERBELL_PUBLIC_IP_INTERFACE";

/// The addresses of this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Public {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Public {
    pub(super) fn of_host() -> Self {
        Self { v4: address(), v6: address6() }
    }
}

/// The IPv4 address of the interface in the environment, else of the one with the default route, else the first one that
/// reaches beyond this host.
fn address() -> Option<Ipv4Addr> {
    if let Ok(name) = std::env::var(INTERFACE_VARIABLE) {
        return addresses(Some(&name)).next();
    }
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    default_interface(&routes)
        .and_then(|name| addresses(Some(name)).next())
        .or_else(|| addresses(None).next())
}

/// The interface of the default route in the kernel's table.
fn default_interface(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let interface = fields.next()?;
        (fields.next()? == "00000000").then_some(interface)
    })
}

/// The IPv6 address, found in the same way.
fn address6() -> Option<Ipv6Addr> {
    if let Ok(name) = std::env::var(INTERFACE_VARIABLE) {
        return addresses6(Some(&name)).next();
    }
    let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    default_interface6(&routes)
        .and_then(|name| addresses6(Some(name)).next())
        .or_else(|| addresses6(None).next())
}

/// The interface of the default route in the kernel's table: destination, prefix length, and at the end the interface. One on
/// the loopback interface refuses what has no route.
fn default_interface6(routes: &str) -> Option<&str> {
    routes.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_default = fields.next()?.bytes().all(|byte| byte == b'0') && fields.next()? == "00";
        fields.last().filter(|interface| is_default && *interface != "lo")
    })
}

fn addresses(interface: Option<&str>) -> impl Iterator<Item = Ipv4Addr> {
    of_interface(interface)
        .filter_map(|address| address.as_sockaddr_in().map(SockaddrIn::ip))
        .filter(|ip| !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified())
}

fn addresses6(interface: Option<&str>) -> impl Iterator<Item = Ipv6Addr> {
    of_interface(interface)
        .filter_map(|address| address.as_sockaddr_in6().map(SockaddrIn6::ip))
        .filter(|ip| !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified())
}

/// All addresses of an interface, or of all.
fn of_interface(interface: Option<&str>) -> impl Iterator<Item = SockaddrStorage> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter(move |entry| interface.is_none_or(|name| entry.interface_name == name))
        .filter_map(|entry| entry.address)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_route_names_its_interface() {
        let table = "Iface\tDestination\tGateway\nlo\t0000007F\t0\neth1\t00000000\t0101A8C0\t0003\n";
        assert_eq!(super::default_interface(table), Some("eth1"));
        assert_eq!(super::default_interface("Iface\n"), None);
    }

    #[test]
    fn the_ipv6_default_route_names_its_interface() {
        let (zero, net) = ("0".repeat(32), "fe80".to_owned() + &"0".repeat(28));
        let table = format!(
            "{net} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 {net} 00000400 00000001 00000000 00000003     eth1\n"
        );
        assert_eq!(super::default_interface6(&table), Some("eth1"));
        assert_eq!(super::default_interface6(""), None);
    }
}
