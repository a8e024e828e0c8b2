// SPDX-License-Identifier: Apache-2.0
//! Sends UDP datagrams to clients that have no address yet, by their hardware address (packet(7)).
//!
//! Such a client does not answer ARP, so the kernel's UDP cannot reach it. The IPv4 and UDP headers are built here, the
//! kernel adds the Ethernet header. Broadcasts go the same way, which puts them on the interface that the request came
//! from. Used by the listener, and to tell neighbours of an address.

use std::io;
use std::net::Ipv4Addr;

use api::Mac;
use dhcp::{CLIENT_PORT, SERVER_PORT};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// IPv4 and UDP headers.
const HEADERS: usize = 28;
const TTL: u8 = 64;
const UDP: u8 = 17;

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
        let frame = datagram(source, target, payload).ok_or(io::ErrorKind::InvalidInput)?;
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

/// An IPv4 packet with one UDP datagram from port 67 to port 68 (RFC 791, RFC 768).
fn datagram(source: Ipv4Addr, target: Ipv4Addr, payload: &[u8]) -> Option<Vec<u8>> {
    let total = u16::try_from(HEADERS + payload.len()).ok()?;
    let udp_length = total - 20;
    let mut header = Vec::with_capacity(usize::from(total));
    header.extend([0x45, 0]);
    header.extend(total.to_be_bytes());
    header.extend([0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    header.extend(source.octets());
    header.extend(target.octets());
    let checksum = checksum(&[&header]);
    header.splice(10..12, checksum.to_be_bytes());

    let mut udp = Vec::with_capacity(8);
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    let pseudo = [&source.octets()[..], &target.octets(), &[0, UDP], &udp_length.to_be_bytes()].concat();
    let sum = match self::checksum(&[&pseudo, &udp, payload]) {
        // 0 means "none" in UDP; all ones is the same sum.
        0 => 0xffff,
        sum => sum,
    };
    udp.splice(6..8, sum.to_be_bytes());

    header.extend(udp);
    header.extend_from_slice(payload);
    Some(header)
}

/// The Internet checksum (RFC 1071) over parts of which all but the last have an even length.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        let (pairs, rest) = part.as_chunks::<2>();
        sum += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
        sum += rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_valid_checksums_and_lengths() {
        for payload in [&b"odd"[..], b"even", b""] {
            let packet =
                datagram(Ipv4Addr::new(172, 31, 0, 1), Ipv4Addr::new(172, 31, 0, 11), payload).unwrap();
            assert_eq!(packet.len(), 28 + payload.len());
            assert_eq!(checksum(&[&packet[..20]]), 0);
            let pseudo = [&packet[12..20], &[0, 17], &packet[24..26]].concat();
            assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
            assert_eq!(&packet[20..24], [0, 67, 0, 68]);
        }
    }

    /// The example of RFC 1071 section 3.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
