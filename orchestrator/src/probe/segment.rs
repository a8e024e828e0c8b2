// SPDX-License-Identifier: Apache-2.0

//! The machines' segment as this machine sees it: who answers for the addresses that must be free, and who else is a DHCP server.
//!
//! An address is asked for by ARP, which the kernel does for any datagram to it: no rights are needed, and a machine that drops
//! every packet is seen all the same. DHCP servers are asked by a DHCPDISCOVER of an address that no machine has; that needs port
//! 68, and so root. What cannot be asked is a warning.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use dhcp::{Message, MessageType, code};
use ipnet::Ipv4Net;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    cluster::ClusterFile,
    finding::{Finding, Findings, Place},
};

/// Port "discard": what is sent there says nothing to whoever gets it.
const DISCARD: u16 = 9;
/// Three questions of the kernel, one second apart (`mcast_solicit` of `arp(7)`), and some more.
const ARP_WAIT: Duration = Duration::from_secs(4);
/// An old answer is believed for five seconds, then asked for again three times (`delay_first_probe_time`, `ucast_solicit`).
const STALE_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// How long offers of DHCP servers are waited for.
const OFFER_WAIT: Duration = Duration::from_secs(3);
/// Locally administered, of no machine.
const DISCOVER_MAC: [u8; 6] = [0x02, 0x74, 0x69, 0x6e, 0x6b, 0x00];
/// ATF_COM of `<linux/if_arp.h>`: the entry has a hardware address.
const COMPLETE: u32 = 2;

/// Asks for both addresses, and for DHCP servers on the segment that they are in.
pub(super) async fn all(file: &ClusterFile) -> Vec<Finding> {
    let host =
        file.cluster.value.spec.control_plane_configuration.as_ref().and_then(|one| one.endpoint.as_ref());
    let endpoint = host.and_then(|endpoint| endpoint.host.parse::<Ipv4Addr>().ok());
    let own = file.datacenter.as_ref().and_then(|one| {
        Some((one.value.spec.tinkerbell_ip.parse::<Ipv4Addr>().ok()?, one.place("spec.tinkerbellIP")))
    });
    let endpoint =
        endpoint.map(|address| (address, file.cluster.place("spec.controlPlaneConfiguration.endpoint.host")));
    let routes = fs::read_to_string("/proc/net/route").map(|text| on_link(&text)).unwrap_or_default();
    let interface =
        endpoint.as_ref().or(own.as_ref()).and_then(|(address, _)| interface_of(*address, &routes));
    let (first, second, rivals) =
        tokio::join!(address(endpoint, &routes), address(own, &routes), rivals(interface),);
    first.into_iter().chain(second).chain(rivals).collect()
}

async fn address(asked: Option<(Ipv4Addr, Place)>, routes: &[(String, Ipv4Net)]) -> Vec<Finding> {
    let Some((address, place)) = asked else { return Vec::new() };
    let mut findings = Findings::default();
    if interface_of(address, routes).is_none() {
        let what = format!("whether {address} is free cannot be seen from here: it is behind a router");
        findings.warning(
            "address-not-checked",
            place,
            what,
            "run the check on a machine in the machines' network",
        );
        return findings.sorted();
    }
    match holder(address).await {
        Ok(None) => {}
        Ok(Some(mac)) => {
            let what = format!("{address} is in use: {mac} answers for it");
            findings.error(
                "address-in-use",
                place,
                what,
                "choose a free address, or switch that machine off",
            );
        }
        Err(error) => {
            let what = format!("whether {address} is free cannot be seen: {error}");
            findings.warning("address-not-checked", place, what, "look at the network of this machine");
        }
    }
    findings.sorted()
}

/// The hardware address that answers for this one.
async fn holder(address: Ipv4Addr) -> io::Result<Option<String>> {
    let known_before = neighbour(address)?.is_some();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    match socket.send_to(&[0], (address, DISCARD)).await {
        Ok(_) => {}
        // What the kernel has learned already: nobody is there.
        Err(error) if error.kind() == io::ErrorKind::HostUnreachable => return Ok(None),
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + if known_before { STALE_WAIT } else { ARP_WAIT };
    loop {
        let now = neighbour(address)?;
        // An answer that was not there before is fresh; an old one counts when it outlives being asked for again.
        match now {
            Some(mac) if !known_before || Instant::now() >= deadline => return Ok(Some(mac)),
            None if known_before || Instant::now() >= deadline => return Ok(None),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

fn neighbour(address: Ipv4Addr) -> io::Result<Option<String>> {
    Ok(entry(&fs::read_to_string("/proc/net/arp")?, address))
}

/// The hardware address of a complete entry of `/proc/net/arp`.
fn entry(table: &str, address: Ipv4Addr) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (ip, flags, mac) = (words.next()?, words.nth(1)?, words.next()?);
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        (ip.parse() == Ok(address) && flags & COMPLETE != 0).then(|| mac.to_owned())
    })
}

/// Networks that are reached without a router: `/proc/net/route`, whose numbers have the byte order of the machine.
fn on_link(table: &str) -> Vec<(String, Ipv4Net)> {
    let number = |text: &str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let route = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, network, gateway, mask) = (words.first()?, words.get(1)?, words.get(2)?, words.get(7)?);
        let network = Ipv4Net::with_netmask(number(network)?, number(mask)?).ok()?;
        (*gateway == "00000000").then(|| ((*name).to_owned(), network))
    };
    table.lines().skip(1).filter_map(route).collect()
}

fn interface_of(address: Ipv4Addr, routes: &[(String, Ipv4Net)]) -> Option<&str> {
    let mut fitting: Vec<_> = routes.iter().filter(|(_, network)| network.contains(&address)).collect();
    fitting.sort_by_key(|(_, network)| network.prefix_len());
    fitting.last().map(|(name, _)| name.as_str())
}

/// Other DHCP servers on the segment.
async fn rivals(interface: Option<&str>) -> Vec<Finding> {
    let Some(interface) = interface else { return Vec::new() };
    let mut findings = Findings::default();
    let place = Place::new("", 0, format!("network of {interface}"));
    match servers(interface).await {
        Ok(servers) => {
            for server in servers {
                let what = format!("another DHCP server, {server}, answers there");
                let fix =
                    "switch it off for these machines: the one that answers first decides what they boot";
                findings.error(
                    "rival-dhcp",
                    Place { field: format!("{} ({server})", place.field), ..place.clone() },
                    what,
                    fix,
                );
            }
        }
        Err(error) => {
            let what = format!("whether another DHCP server answers there cannot be seen: {error}");
            findings.warning(
                "dhcp-not-checked",
                place,
                what,
                "run the check as root, on a machine whose port 68 is free",
            );
        }
    }
    findings.sorted()
}

async fn servers(interface: &str) -> io::Result<Vec<Ipv4Addr>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let xid = std::process::id() ^ 0x7469_6e6b;
    let mut discover = Message::request(MessageType::Discover, DISCOVER_MAC, xid);
    discover.set_broadcast(true);
    let encoded = discover.encode(1472).map_err(io::Error::other)?;
    socket.send_to(&encoded.bytes, (Ipv4Addr::BROADCAST, 67)).await?;

    let (mut found, mut buffer) = (Vec::new(), [0; 1500]);
    let deadline = Instant::now() + OFFER_WAIT;
    while let Ok(received) = tokio::time::timeout_at(deadline, socket.recv_from(&mut buffer)).await {
        let (length, from) = received?;
        let Ok(offer) = Message::parse(buffer.get(..length).unwrap_or_default()) else { continue };
        if offer.xid != xid || offer.message_type() != Some(MessageType::Offer) {
            continue;
        }
        let named = offer.options.ip(code::SERVER_ID);
        let from = if let SocketAddr::V4(from) = from { *from.ip() } else { continue };
        let server = named.unwrap_or(from);
        if !found.contains(&server) {
            found.push(server);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
                   10.0.0.1         0x1         0x2         52:54:00:00:00:01     *        eth0\n\
                   10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        assert_eq!(entry(arp, Ipv4Addr::new(10, 0, 0, 1)).as_deref(), Some("52:54:00:00:00:01"));
        assert_eq!(entry(arp, Ipv4Addr::new(10, 0, 0, 2)), None);
        let number = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let routes = format!(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask\n\
             eth0 {zero} {gateway} 0003 0 0 0 {zero} 0 0 0\n\
             eth0 {net} {zero} 0001 0 0 0 {mask} 0 0 0\n\
             eth1 {wide} {zero} 0001 0 0 0 {wide_mask} 0 0 0\n",
            zero = "00000000",
            gateway = number([10, 0, 0, 254]),
            net = number([10, 0, 0, 0]),
            mask = number([255, 255, 255, 0]),
            wide = number([10, 0, 0, 0]),
            wide_mask = number([255, 0, 0, 0]),
        );
        let routes = on_link(&routes);
        assert_eq!(interface_of(Ipv4Addr::new(10, 0, 0, 7), &routes), Some("eth0"));
        assert_eq!(interface_of(Ipv4Addr::new(10, 9, 0, 7), &routes), Some("eth1"));
        assert_eq!(interface_of(Ipv4Addr::new(192, 168, 0, 1), &routes), None);
    }
}
