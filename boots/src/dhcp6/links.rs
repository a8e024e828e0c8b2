// SPDX-License-Identifier: Apache-2.0
//! The links that this host is on: which interfaces hear DHCPv6, and the prefixes of each.
//!
//! Read from the kernel every few seconds, so that an interface that comes or goes needs no restart. Owned by the listener.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use dhcp::v6::{ALL_ON_LINK, ALL_SERVERS};
use ipnet::Ipv6Net;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrIn6;
use tokio::net::UdpSocket;

/// The links, and on which of them the socket is a member of the groups.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// The only interfaces; none named is all.
    only: Vec<String>,
    by_index: HashMap<u32, Vec<Ipv6Net>>,
    joined: HashSet<u32>,
    refused: HashSet<u32>,
}

impl Links {
    pub(crate) fn new(only: Vec<String>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Whether an interface is one that is listened on.
    pub(crate) fn hears(&self, index: u32) -> bool {
        self.by_index.contains_key(&index)
    }

    /// The prefixes of an interface, without that of link-local addresses.
    pub(crate) fn prefixes(&self, index: u32) -> &[Ipv6Net] {
        self.by_index.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// Reads the table anew and joins the groups of servers on every interface that is new in it.
    ///
    /// # Errors
    ///
    /// When one of the named interfaces does not exist; the others are joined all the same.
    pub(crate) fn refresh(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let (by_index, names) = read(&self.only);
        self.by_index = by_index;
        self.joined.retain(|index| self.by_index.contains_key(index));
        self.refused.retain(|index| self.by_index.contains_key(index));
        for (name, index) in &names {
            if self.joined.contains(index) {
                continue;
            }
            match join(socket, *index) {
                Ok(()) => {
                    self.joined.insert(*index);
                    tracing::info!(interface = name, "DHCPv6 is heard on an interface");
                }
                // Said once, tried again each time.
                Err(error) if self.refused.insert(*index) => {
                    tracing::warn!(interface = name, %error, "DHCPv6 is not heard on an interface");
                }
                Err(_) => {}
            }
        }
        match self.only.iter().find(|name| !names.contains_key(*name)) {
            Some(name) => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name}")))
            }
            None => Ok(()),
        }
    }
}

fn join(socket: &UdpSocket, index: u32) -> io::Result<()> {
    for group in [ALL_ON_LINK, ALL_SERVERS] {
        match socket.join_multicast_v6(&group, index) {
            // It is a member already.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => other?,
        }
    }
    Ok(())
}

/// Prefixes by index, and indexes by name, of the wanted interfaces that can carry multicast.
fn read(only: &[String]) -> (HashMap<u32, Vec<Ipv6Net>>, BTreeMap<String, u32>) {
    let (mut prefixes, mut names): (HashMap<u32, Vec<Ipv6Net>>, _) = (HashMap::new(), BTreeMap::new());
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let name = entry.interface_name;
        let carries = entry.flags.contains(InterfaceFlags::IFF_MULTICAST);
        let wanted = if only.is_empty() { carries } else { only.contains(&name) };
        let Ok(index) = nix::net::if_::if_nametoindex(name.as_str()) else { continue };
        if !wanted {
            continue;
        }
        let of_interface = prefixes.entry(index).or_default();
        names.insert(name, index);
        let ip = |address: Option<nix::sys::socket::SockaddrStorage>| {
            address?.as_sockaddr_in6().map(SockaddrIn6::ip)
        };
        let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) else { continue };
        if let Ok(net) = Ipv6Net::with_netmask(address, mask)
            && !address.is_unicast_link_local()
        {
            of_interface.push(net.trunc());
        }
    }
    (prefixes, names)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_named_interfaces_are_read() {
        let (prefixes, names) = super::read(&["lo".to_owned(), "none6".to_owned()]);
        assert_eq!(names.keys().collect::<Vec<_>>(), ["lo"]);
        assert_eq!(prefixes.len(), 1);
    }
}
