// SPDX-License-Identifier: Apache-2.0
//! Which of this host's addresses a client is to take for its server.
//!
//! The choice is pure. The table of addresses is read from the kernel at most every few seconds, so that an address that
//! comes or goes needs no restart and a flood of packets costs no system calls. Owned by the listener.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::sys::socket::SockaddrIn;

use crate::config::ServerAddress;

/// How old the table may be.
const FRESH: Duration = Duration::from_secs(5);

/// IPv4 addresses by index of their interface.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    by_index: HashMap<u32, Vec<Ipv4Net>>,
    read: Option<Instant>,
}

impl Interfaces {
    /// The addresses of an interface, none for one that is unknown.
    pub(crate) fn addresses(&mut self, index: u32) -> &[Ipv4Net] {
        if self.read.is_none_or(|read| read.elapsed() > FRESH) {
            self.by_index = read();
            self.read = Some(Instant::now());
        }
        self.by_index.get(&index).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Those of all interfaces, as they are now.
pub(crate) fn read() -> HashMap<u32, Vec<Ipv4Net>> {
    let mut by_index: HashMap<u32, Vec<Ipv4Net>> = HashMap::new();
    let ip =
        |address: Option<nix::sys::socket::SockaddrStorage>| address?.as_sockaddr_in().map(SockaddrIn::ip);
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Ok(index) = nix::net::if_::if_nametoindex(entry.interface_name.as_str()) else { continue };
        let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) else { continue };
        if let Ok(net) = Ipv4Net::with_netmask(address, mask) {
            by_index.entry(index).or_default().push(net);
        }
    }
    by_index
}

/// The server identifier for a packet that came in on an interface with these addresses.
///
/// A configured one always. To a relay the public one, which it can reach whatever interface it is on. Otherwise, of the
/// interface's own addresses, one in the network of the client's address, the public one before others.
pub(crate) fn server_address(
    server: ServerAddress,
    addresses: &[Ipv4Net],
    client: Option<Ipv4Addr>,
    relayed: bool,
) -> Ipv4Addr {
    let public = match server {
        ServerAddress::Fixed(address) => return address,
        ServerAddress::Public(address) => address,
    };
    let near = |net: &&Ipv4Net| client.is_some_and(|client| net.contains(&client));
    let is_public = |net: &&Ipv4Net| net.addr() == public;
    if relayed {
        return public;
    }
    let mut near_public = addresses.iter().filter(near).filter(is_public);
    let chosen = near_public
        .next()
        .or_else(|| addresses.iter().find(near))
        .or_else(|| addresses.iter().find(is_public))
        .or_else(|| addresses.first());
    chosen.map_or(public, Ipv4Net::addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_the_address_that_its_clients_reach() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect::<Vec<Ipv4Net>>();
        let public = ServerAddress::Public(ip("172.31.0.1"));
        let choose = |server, all: &[&str], client: Option<&str>, relayed| {
            server_address(server, &nets(all), client.map(ip), relayed).to_string()
        };
        let two = ["10.0.0.1/24", "172.31.0.1/24", "172.31.0.2/24", "10.1.0.1/24"];
        assert_eq!(choose(public, &two, Some("10.1.0.9"), false), "10.1.0.1");
        assert_eq!(choose(public, &two, Some("172.31.0.9"), false), "172.31.0.1");
        assert_eq!(choose(public, &two, Some("192.0.2.1"), false), "172.31.0.1");
        assert_eq!(choose(public, &["10.0.0.1/24"], None, false), "10.0.0.1");
        assert_eq!(choose(public, &["10.0.0.1/24"], Some("10.0.0.7"), true), "172.31.0.1");
        assert_eq!(choose(public, &[], Some("10.0.0.7"), false), "172.31.0.1");
        let fixed = ServerAddress::Fixed(ip("192.0.2.7"));
        assert_eq!(choose(fixed, &two, Some("10.1.0.9"), false), "192.0.2.7");
    }

    #[test]
    fn the_loopback_interface_is_found() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        // In a namespace where it is down it has no address.
        let addresses = Interfaces::default().addresses(index).to_vec();
        assert!(addresses.iter().all(|net| net.addr().is_loopback()), "{addresses:?}");
    }
}
