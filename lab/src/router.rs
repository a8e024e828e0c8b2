// SPDX-License-Identifier: Apache-2.0
//! The router of an IPv6 network: it advertises a prefix (RFC 4861) and forwards nothing, for want of anywhere to go.
//!
//! It hangs on the switch like a machine. The rack starts it; [`Router`] decides which frame is answered with which, and knows no
//! sockets. It is no DHCPv6 server: its advertisements say that there is one.

use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Its hardware address, and the address that is made of it (RFC 4291 appendix A).
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xfe];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe00, 0x00fe);
/// All nodes of the link, and their hardware address (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Between two advertisements that nobody asked for; MinRtrAdvInterval is 3 s (RFC 4861 section 6.2.1).
const INTERVAL: Duration = Duration::from_secs(3);
/// Largest frame that is looked at.
const MAX_FRAME: usize = 2048;

/// EtherType of IPv6, and its next header of ICMPv6 (RFC 4443).
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Headers of Ethernet and IPv6.
const HEADERS: usize = 14 + 40;
/// Types of RFC 4861 section 4.
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement: managed addresses, other configuration (section 4.2).
const MANAGED: u8 = 0x80 | 0x40;
/// Flags of a prefix: on the link, good for autoconfiguration (section 4.6.2).
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// Flags of a neighbour advertisement: a router, asked for, to be taken over (section 4.4).
const ROUTER_ANSWERS: u8 = 0x80 | 0x40 | 0x20;
/// Seconds that router and prefix are good for.
const LIFETIME: u16 = 1800;

/// Decides about frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router {
    /// The network that it advertises, 64 bits long.
    pub prefix: Ipv6Addr,
}

impl Router {
    /// The answer to a frame, if there is one.
    pub fn answer(self, frame: &[u8]) -> Option<Vec<u8>> {
        let payload = frame.get(HEADERS..).filter(|_| frame.get(12..14) == Some(&IPV6))?;
        if frame.get(20) != Some(&ICMPV6) {
            return None;
        }
        match *payload.first()? {
            SOLICITATION => Some(self.advertisement()),
            NEIGHBOUR_SOLICITATION if payload.get(8..24) == Some(&ADDRESS.octets()) => {
                let source = Ipv6Addr::from(*frame.get(22..38)?.first_chunk::<16>()?);
                let mac = *frame.get(6..12)?.first_chunk::<6>()?;
                // Who has no address yet asks whether it may have this one (RFC 4862 section 5.4.3); all are told.
                let (mac, target) =
                    if source.is_unspecified() { (group(ALL_NODES), ALL_NODES) } else { (mac, source) };
                let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ROUTER_ANSWERS, 0, 0, 0];
                message.extend(ADDRESS.octets());
                message.extend([2, 1]);
                message.extend(MAC);
                Some(packet(mac, target, message))
            }
            _ => None,
        }
    }

    /// An advertisement to everybody.
    pub fn advertisement(self) -> Vec<u8> {
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, 64, MANAGED];
        message.extend(LIFETIME.to_be_bytes());
        message.extend([0; 8]);
        message.extend([1, 1]);
        message.extend(MAC);
        message.extend([5, 1, 0, 0]);
        message.extend(1500u32.to_be_bytes());
        message.extend([3, 4, 64, ON_LINK | AUTONOMOUS]);
        message.extend(u32::from(LIFETIME).to_be_bytes());
        message.extend(u32::from(LIFETIME).to_be_bytes());
        message.extend([0; 4]);
        message.extend(self.prefix.octets());
        packet(group(ALL_NODES), ALL_NODES, message)
    }
}

/// Plugs a router in at the machine's end of a cable; the switch's end is `switch`. It runs until its task is aborted.
pub(crate) fn start(router: Router, (ours, switch): (PathBuf, PathBuf)) -> io::Result<JoinHandle<()>> {
    let socket = UnixDatagram::bind(ours)?;
    Ok(tokio::spawn(async move {
        let mut buffer = [0; MAX_FRAME];
        let mut turns = tokio::time::interval(INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let frame = tokio::select! {
                _ = turns.tick() => Some(router.advertisement()),
                received = socket.recv(&mut buffer) => {
                    received.ok().and_then(|length| router.answer(buffer.get(..length)?))
                }
            };
            if let Some(frame) = frame
                && let Err(error) = socket.send_to(&frame, &switch).await
            {
                tracing::debug!(%error, "a frame of the router is lost");
            }
        }
    }))
}

/// The hardware address of a group.
fn group(address: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A frame with an ICMPv6 message, whose checksum is filled in. Its hop limit shows that nobody forwarded it.
fn packet(mac: [u8; 6], to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let sum = checksum(to, length, &message);
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = [&mac[..], &MAC, &IPV6, &[0x60, 0, 0, 0]].concat();
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(ADDRESS.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// The checksum of an ICMPv6 message from the router, whose own field counts as it is (RFC 4443 section 2.3).
fn checksum(to: Ipv6Addr, length: u16, message: &[u8]) -> u16 {
    let head =
        [&ADDRESS.octets()[..], &to.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let words = |bytes: &[u8]| -> u32 {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let whole: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        whole + rest.first().map_or(0, |byte| u32::from(*byte) << 8)
    };
    let mut sum = words(&head) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Router = Router { prefix: Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, 0) };
    const HOST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];

    /// An ICMPv6 message of a host.
    fn from_host(source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
        let mut frame = [&group(ALL_NODES)[..], &HOST, &IPV6, &[0x60, 0, 0, 0, 0, 0, ICMPV6, 255]].concat();
        frame.extend(source.octets());
        frame.extend(ALL_NODES.octets());
        frame.extend(message);
        frame
    }

    fn is_sound(frame: &[u8]) -> bool {
        let message = &frame[HEADERS..];
        let to = Ipv6Addr::from(*frame[38..54].first_chunk::<16>().unwrap());
        // A message with its checksum in it sums up to none.
        checksum(to, u16::try_from(message.len()).unwrap(), message) == 0
            && usize::from(u16::from_be_bytes([frame[18], frame[19]])) == message.len()
    }

    #[test]
    fn an_advertisement_names_prefix_and_dhcp_server() {
        let frame = ROUTER.advertisement();
        assert!(is_sound(&frame));
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(
            (frame[21], frame[HEADERS], frame[HEADERS + 5]),
            (255, 134, 0xc0),
            "hop limit, type, flags"
        );
        assert!(frame.ends_with(&ROUTER.prefix.octets()));
        assert_eq!(
            ROUTER.answer(&from_host(Ipv6Addr::UNSPECIFIED, &[133, 0, 0, 0, 0, 0, 0, 0])),
            Some(frame)
        );
    }

    #[test]
    fn its_neighbours_find_it() {
        let host = "fe80::1".parse().unwrap();
        let ask = |source, target: Ipv6Addr| {
            ROUTER.answer(&from_host(source, &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()))
        };
        let answer = ask(host, ADDRESS).unwrap();
        assert!(is_sound(&answer));
        assert_eq!((&answer[..6], &answer[38..54]), (&HOST[..], &host.octets()[..]));
        assert!(answer.ends_with(&MAC));
        assert_eq!(
            ask(Ipv6Addr::UNSPECIFIED, ADDRESS).unwrap()[..6],
            [0x33, 0x33, 0, 0, 0, 1],
            "its address is taken"
        );
        assert_eq!(ask(host, host), None, "that of somebody else");
    }

    #[test]
    fn what_is_not_for_it_and_what_is_cut_is_not_answered() {
        let whole = from_host(
            "fe80::1".parse().unwrap(),
            &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &ADDRESS.octets()].concat(),
        );
        for length in 0..whole.len() {
            assert_eq!(ROUTER.answer(&whole[..length]), None);
        }
        let mut tcp = whole.clone();
        tcp[20] = 6;
        assert_eq!(ROUTER.answer(&tcp), None);
    }
}
