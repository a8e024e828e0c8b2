// SPDX-License-Identifier: Apache-2.0
//! IP packets around payloads that have none: for clients that have no address yet (`dhcp::link`), and in captures. Pure.
//!
//! A packet may say that it is longer than what is there of it, as one does in a capture; then it has no checksum that anybody
//! could verify.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER: usize = 40;
/// Most bytes of a packet.
const MAX_PACKET: usize = 65_535;
const TTL: u8 = 64;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Data offset of a TCP header without options, and the flags PSH and ACK (RFC 9293 section 3.1).
const TCP_DATA: [u8; 2] = [0x50, 0x18];

/// A packet and the length that it says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) length: usize,
}

/// Sequence numbers of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) number: u32,
    pub(crate) acknowledged: u32,
}

/// A packet with one UDP datagram (RFC 768), of whose payload of `length` bytes this is the beginning. Nothing when it is too
/// large for one.
pub(crate) fn udp((from, to): (SocketAddr, SocketAddr), payload: &[u8], length: usize) -> Option<Packet> {
    let total = UDP_HEADER + length;
    let mut header = ports(from, to);
    header.extend(u16::try_from(total).ok()?.to_be_bytes());
    header.extend([0, 0]);
    let sum = match transport_checksum((from.ip(), to.ip()), UDP, &header, payload, total) {
        // 0 means "none" in UDP; all ones is the same sum.
        Some(0) => 0xffff,
        Some(sum) => sum,
        // IPv6 knows no "none" (RFC 8200 section 8.1).
        None if to.is_ipv6() => 0xffff,
        None => 0,
    };
    header.splice(6..8, sum.to_be_bytes());
    packet((from.ip(), to.ip()), UDP, &[&header, payload], total)
}

/// A packet with one TCP segment (RFC 9293), of whose data of `length` bytes this is the beginning. It says of data that is more
/// than a packet has room for that it is as much as fits.
pub(crate) fn tcp(
    (from, to): (SocketAddr, SocketAddr),
    Sequence { number, acknowledged }: Sequence,
    data: &[u8],
    length: usize,
) -> Option<Packet> {
    let total = (TCP_HEADER + length).min(MAX_PACKET - IPV6_HEADER);
    let mut header = ports(from, to);
    header.extend(number.to_be_bytes());
    header.extend(acknowledged.to_be_bytes());
    header.extend(TCP_DATA);
    header.extend([0xff, 0xff, 0, 0, 0, 0]);
    let data = data.get(..total - TCP_HEADER).unwrap_or(data);
    let sum = transport_checksum((from.ip(), to.ip()), TCP, &header, data, total).unwrap_or(0);
    header.splice(16..18, sum.to_be_bytes());
    packet((from.ip(), to.ip()), TCP, &[&header, data], total)
}

fn ports(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

/// The checksum over pseudo header, header and payload; nothing when not all of the payload is there.
fn transport_checksum(
    (from, to): (IpAddr, IpAddr),
    protocol: u8,
    header: &[u8],
    payload: &[u8],
    total: usize,
) -> Option<u16> {
    let length = u32::try_from(total).ok().filter(|_| header.len() + payload.len() == total)?;
    let mut pseudo = octets(from);
    pseudo.extend(octets(to));
    // The same sum for both versions (RFC 9293 section 3.1, RFC 8200 section 8.1).
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    Some(checksum(&[&pseudo, header, payload]))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Puts an IP header in front (RFC 791, RFC 8200). Both addresses are of one family.
fn packet((from, to): (IpAddr, IpAddr), protocol: u8, parts: &[&[u8]], total: usize) -> Option<Packet> {
    let (mut bytes, header) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(IPV4_HEADER + total).ok()?;
            (ipv4_header((from, to), protocol, length), IPV4_HEADER)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(u16::try_from(total).ok()?.to_be_bytes());
            header.extend([protocol, TTL]);
            header.extend(from.octets());
            header.extend(to.octets());
            (header, IPV6_HEADER)
        }
        _ => return None,
    };
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Some(Packet { bytes, length: header + total })
}

fn ipv4_header((from, to): (Ipv4Addr, Ipv4Addr), protocol: u8, length: u16) -> Vec<u8> {
    let mut header = Vec::with_capacity(usize::from(length));
    header.extend([0x45, 0]);
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&[&header]);
    header.splice(10..12, sum.to_be_bytes());
    header
}

/// The Internet checksum (RFC 1071) over parts of which all but the last have an even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
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

    const V4: [&str; 2] = ["172.31.0.1:67", "172.31.0.11:68"];
    const V6: [&str; 2] = ["[fe80::1]:547", "[fe80::11]:546"];

    fn ends([from, to]: [&str; 2]) -> (SocketAddr, SocketAddr) {
        (from.parse().unwrap(), to.parse().unwrap())
    }

    /// The sum over the pseudo header and all that follows the IP header, which is 0 when the checksum is right.
    fn verified(packet: &[u8], protocol: u8) -> u16 {
        let (addresses, rest) = match packet[0] >> 4 {
            4 => (&packet[12..20], &packet[20..]),
            _ => (&packet[8..40], &packet[40..]),
        };
        let length = u32::try_from(rest.len()).unwrap().to_be_bytes();
        checksum(&[addresses, &length, &[0, 0, 0, protocol], rest])
    }

    #[test]
    fn headers_have_valid_checksums_and_lengths() {
        for payload in [&b"odd"[..], b"even", b""] {
            let Packet { bytes, length } = udp(ends(V4), payload, payload.len()).unwrap();
            assert_eq!((bytes.len(), length), (28 + payload.len(), 28 + payload.len()));
            assert_eq!((checksum(&[&bytes[..20]]), verified(&bytes, UDP)), (0, 0));
            assert_eq!(bytes[20..24], [0, 67, 0, 68]);
            let Packet { bytes, length } = udp(ends(V6), payload, payload.len()).unwrap();
            assert_eq!((bytes.len(), length), (48 + payload.len(), 48 + payload.len()));
            assert_eq!(usize::from(bytes[5]), 8 + payload.len());
            assert_eq!(verified(&bytes, UDP), 0);
            let sequence = Sequence { number: 7, acknowledged: 9 };
            for ends in [ends(V4), ends(V6)] {
                let Packet { bytes, length } = tcp(ends, sequence, payload, payload.len()).unwrap();
                assert_eq!((bytes.len(), verified(&bytes, TCP)), (length, 0));
            }
        }
    }

    #[test]
    fn what_is_left_out_counts_and_has_no_checksum() {
        let Packet { bytes, length } = udp(ends(V4), b"head", 1004).unwrap();
        assert_eq!((bytes.len(), length), (32, 1032));
        assert_eq!((&bytes[2..4], &bytes[24..28]), (&[4, 8][..], &[3, 244, 0, 0][..]));
        assert_eq!(udp(ends(V6), b"head", 1004).unwrap().bytes[46..48], [0xff, 0xff]);
        let sequence = Sequence { number: 0, acknowledged: 0 };
        let Packet { bytes, length } = tcp(ends(V4), sequence, b"head", 1 << 30).unwrap();
        assert_eq!((bytes.len(), length), (44, MAX_PACKET - IPV6_HEADER + IPV4_HEADER));
        assert_eq!(udp(ends(V4), b"", MAX_PACKET), None, "no datagram is so large");
        assert_eq!(udp(ends([V4[0], V6[1]]), b"", 0), None, "a packet is of one version");
    }

    /// The example of RFC 1071 section 3.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
