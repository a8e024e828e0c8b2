// SPDX-License-Identifier: Apache-2.0
//! Sends UDP datagrams to clients that have no address yet, by their hardware address (packet(7)).
//!
//! Such a client does not answer ARP, so the kernel's UDP cannot reach it. The IPv4 and UDP headers are ours, the
//! kernel adds the Ethernet header. Broadcasts go the same way, which puts them on the interface that the request came
//! from. Used by the listener, and to tell neighbours of an address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use api::Mac;
use dhcp::{CLIENT_PORT, SERVER_PORT};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::ip;

/// A packet socket for IPv4. Needs CAP_NET_RAW.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
}

impl Link {
    /// Opens the socket; it receives nothing.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends a payload from port 67 of `source` to port 68 of `target`, whose hardware address is `mac`, on the
    /// interface with this index.
    pub(super) fn send(
        &self,
        interface: u32,
        (mac, target): (Mac, Ipv4Addr),
        source: Ipv4Addr,
        payload: &[u8],
    ) -> io::Result<()> {
        let ends = (SocketAddr::from((source, SERVER_PORT)), SocketAddr::from((target, CLIENT_PORT)));
        let frame = ip::udp(ends, payload, payload.len()).ok_or(io::ErrorKind::InvalidInput)?.bytes;
        let address = link_address(interface, mac, libc::ETH_P_IP)?;
        let sent = self.socket.send_to(&frame, &address)?;
        if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Sends an ARP packet to everybody on the interface with this index.
pub(crate) fn send_arp(interface: u32, packet: &[u8]) -> io::Result<()> {
    let everybody = Mac::from([0xff; 6]);
    let link = Link::open()?;
    link.socket.send_to(packet, &link_address(interface, everybody, libc::ETH_P_ARP)?).map(drop)
}

#[expect(unsafe_code, reason = "there is no safe way to make the address of a packet socket")]
fn link_address(interface: u32, mac: Mac, protocol: i32) -> io::Result<SockAddr> {
    let mut link_layer = [0; 8];
    for (to, from) in link_layer.iter_mut().zip(mac.octets()) {
        *to = from;
    }
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: u16::try_from(protocol).map_err(io::Error::other)?.to_be(),
        sll_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: link_layer,
    };
    // SAFETY: the storage is at least as large and as aligned as every socket address, the closure fills it with one
    // whole sockaddr_ll and says so with its length.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            length.write(libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default());
            Ok(())
        })
    };
    made.map(|((), address)| address)
}
