// SPDX-License-Identifier: Apache-2.0
//! Finds the address that machines reach this host at, for when the configuration does not say.

use std::net::Ipv4Addr;

/// Names the interface whose address it is; Tinkerbell's variable.
const INTERFACE_VARIABLE: &str = "TINKERBELL_PUBLIC_IP_INTERFACE";

/// The address of the interface in the environment, else of the one with the default route, else the first one that
/// reaches beyond this host.
pub(super) fn address() -> Option<Ipv4Addr> {
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

fn addresses(interface: Option<&str>) -> impl Iterator<Item = Ipv4Addr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter(move |entry| interface.is_none_or(|name| entry.interface_name == name))
        .filter_map(|entry| entry.address?.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
        .filter(|ip| !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_route_names_its_interface() {
        let table = "Iface\tDestination\tGateway\nlo\t0000007F\t0\neth1\t00000000\t0101A8C0\t0003\n";
        assert_eq!(super::default_interface(table), Some("eth1"));
        assert_eq!(super::default_interface("Iface\n"), None);
    }
}
