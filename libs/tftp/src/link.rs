// SPDX-License-Identifier: Apache-2.0
//! Sockets: the one that listens, and the way to one client.
//!
//! A listener on an IPv6 wildcard hears IPv4 too; addresses leave this module in their plain form. It tells which local
//! address was asked (PKTINFO), so that the answer comes from there. A [`Link`] has either a socket of its own, connected to
//! the client (a new port per transfer, RFC 1350 section 4), or sends through the listener (single-port mode). A window
//! leaves in as few system calls as the kernel allows (UDP_SEGMENT), without being copied together first; where that is
//! refused, packet by packet.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recv, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Smallest MTU that every IPv4 host handles (RFC 791), and every IPv6 link (RFC 8200 section 5).
const MIN_MTU: (u16, u16) = (576, 1280);
/// MTU when the kernel does not tell.
const USUAL_MTU: u16 = 1500;
/// IP and UDP headers.
const HEADERS: (u16, u16) = (20 + 8, 40 + 8);
/// Segments that the kernel takes in one send (UDP_MAX_SEGMENTS of Linux before 6.9).
const MAX_SEGMENTS: usize = 64;
/// Largest UDP payload over IPv4; over IPv6 it is a little larger.
const MAX_PAYLOAD: usize = 65_507;

/// A datagram that came to the listening socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    pub(crate) peer: SocketAddr,
    /// The address that was asked; nothing for a multicast or broadcast one.
    pub(crate) local: Option<IpAddr>,
    pub(crate) length: usize,
}

/// The listening socket.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    socket: Arc<UdpSocket>,
    is_ipv6: bool,
}

/// The way to one client.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<UdpSocket>,
    /// Where to and from which address, on the listening socket; nothing on a connected one.
    shared: Option<(SocketAddr, Option<IpAddr>)>,
    /// Largest UDP payload that needs no fragments.
    payload: u16,
    segments: bool,
}

impl Listener {
    /// Binds an address. Must be called inside a tokio runtime.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let is_ipv6 = address.is_ipv6();
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if is_ipv6 {
            socket.set_only_v6(false)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        // An IPv6 socket needs it for the IPv4 clients that it hears.
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(Self { socket: Arc::new(UdpSocket::from_std(socket.into())?), is_ipv6 })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Our end of a datagram that came to this address; an unspecified one when it was for everybody.
    pub(crate) fn end(&self, local: Option<IpAddr>) -> SocketAddr {
        end(&self.socket, local)
    }

    /// The next datagram.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let received = |buffer: &mut [u8]| {
            let mut parts = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(libc::in6_pktinfo);
            let message = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let peer = message.address.and_then(plain).ok_or(io::ErrorKind::InvalidData)?;
            let local = message.cmsgs()?.find_map(local_address).filter(|local| !local.is_multicast());
            Ok(Datagram { peer, local, length: message.bytes })
        };
        self.socket.async_io(Interest::READABLE, || received(buffer)).await
    }

    /// The next client whose port is reported as closed; nothing for other reports of the network, which may pass.
    pub(crate) async fn closed(&self) -> io::Result<Option<SocketAddr>> {
        self.socket
            .async_io(Interest::ERROR, || {
                let mut buffer = [0; 64];
                let mut parts = [IoSliceMut::new(&mut buffer)];
                // The address that the packet was sent from comes along, as with every datagram.
                let mut control =
                    nix::cmsg_space!(libc::in6_pktinfo, libc::sock_extended_err, libc::sockaddr_in6);
                let flags = MsgFlags::MSG_ERRQUEUE;
                let fd = self.socket.as_raw_fd();
                let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags)?;
                let is_closed = message.cmsgs()?.any(|control| match control {
                    ControlMessageOwned::Ipv4RecvErr(error, _)
                    | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                        error.ee_errno == Errno::ECONNREFUSED as u32
                    }
                    _ => false,
                });
                Ok(message.address.and_then(plain).filter(|_| is_closed))
            })
            .await
    }

    /// Sends one packet to anybody.
    pub(crate) async fn send_to(&self, bytes: &[u8], datagram: &Datagram) -> io::Result<()> {
        let to = (self.wire(datagram.peer), datagram.local);
        transmit(&self.socket, Some(to), &[IoSlice::new(bytes)], None).await
    }

    /// The way to the sender of a datagram through this socket.
    pub(crate) fn shared(&self, datagram: &Datagram) -> Link {
        // A socket that is connected only to ask for the MTU; without it the usual one is taken for granted.
        let payload =
            connected(datagram).map_or(USUAL_MTU - HEADERS.1, |socket| payload(&socket, datagram.peer));
        let shared = Some((self.wire(datagram.peer), datagram.local));
        Link { socket: Arc::clone(&self.socket), shared, payload, segments: true }
    }

    /// An address as this socket writes it.
    fn wire(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.is_ipv6 => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            other => other,
        }
    }
}

impl Link {
    /// A way to the sender of a datagram with a socket and a port of its own.
    pub(crate) fn own(datagram: &Datagram) -> io::Result<Self> {
        let socket = connected(datagram)?;
        let payload = payload(&socket, datagram.peer);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        Ok(Self { socket, shared: None, payload, segments: true })
    }

    /// Our end of it.
    pub(crate) fn local(&self) -> SocketAddr {
        end(&self.socket, self.shared.and_then(|(_, local)| local))
    }

    /// Largest UDP payload that needs no fragments on the way as the kernel knows it.
    pub(crate) fn payload(&self) -> u16 {
        self.payload
    }

    /// Packets of this size that leave in one system call.
    pub(crate) fn batch(&self, packet: usize) -> usize {
        if self.segments { (MAX_PAYLOAD / packet.max(1)).clamp(1, MAX_SEGMENTS) } else { 1 }
    }

    /// The next packet from the client, on a socket of its own; never on a shared one, whose owner receives.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.shared.is_some() {
            return std::future::pending().await;
        }
        // A closed port is an error that makes a socket ready without making it readable.
        let interest = Interest::READABLE | Interest::ERROR;
        let fd = self.socket.as_raw_fd();
        self.socket.async_io(interest, || Ok(recv(fd, buffer, MsgFlags::empty())?)).await
    }

    /// Sends one packet.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        transmit(&self.socket, self.shared, &[IoSlice::new(bytes)], None).await
    }

    /// Sends packets, each of a header and a payload, all but the last `packet` bytes long; at most [`Self::batch`].
    pub(crate) async fn send_packets(&mut self, parts: &[IoSlice<'_>], packet: usize) -> io::Result<()> {
        let (many, segment) = (parts.len() > 2, u16::try_from(packet).unwrap_or(u16::MAX));
        if self.segments && many {
            let sent = transmit(&self.socket, self.shared, parts, Some(segment)).await;
            match sent {
                // The interface or the route cannot do it: from here on the kernel gets single packets.
                Err(error) if is_refusal(&error) => {
                    tracing::debug!(%error, "segmentation offload refused");
                    self.segments = false;
                }
                other => return other,
            }
        }
        for one in parts.chunks(2) {
            transmit(&self.socket, self.shared, one, None).await?;
        }
        Ok(())
    }
}

/// The port of a socket, on this address or its own.
fn end(socket: &UdpSocket, address: Option<IpAddr>) -> SocketAddr {
    let own = socket.local_addr().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
    SocketAddr::new(address.unwrap_or(own.ip()).to_canonical(), own.port())
}

/// What the kernel answers to UDP_SEGMENT where it cannot segment, or where a segment is larger than the route's MTU.
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::EINVAL, Errno::EIO, Errno::EMSGSIZE, Errno::EOPNOTSUPP, Errno::ENOPROTOOPT];
    error.raw_os_error().is_some_and(|code| refusals.contains(&Errno::from_raw(code)))
}

/// One system call; `segment` is the size of the packets that the kernel is to make of it.
async fn transmit(
    socket: &UdpSocket,
    shared: Option<(SocketAddr, Option<IpAddr>)>,
    parts: &[IoSlice<'_>],
    segment: Option<u16>,
) -> io::Result<()> {
    let to = shared.map(|(to, _)| SockaddrStorage::from(to));
    let from = shared.and_then(|(to, from)| Some(source(to, from?)));
    let mut control: Vec<ControlMessage<'_>> = Vec::with_capacity(2);
    control.extend(segment.as_ref().map(ControlMessage::UdpGsoSegments));
    control.extend(from.as_ref().map(|from| match from {
        Source::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        Source::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    }));
    let mut attempts = 0;
    loop {
        let send =
            || Ok(sendmsg(socket.as_raw_fd(), parts, &control, MsgFlags::empty(), to.as_ref()).map(drop)?);
        let sent: io::Result<()> = socket.async_io(Interest::WRITABLE, send).await;
        attempts += 1;
        match sent {
            // On a shared socket that is the news of another client, told once; nothing was sent.
            Err(error) if shared.is_some() && attempts < 3 && is_report(&error) => {}
            other => return other,
        }
    }
}

/// Whether an error tells that the client's port is closed.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Whether an error is a report of the network about an earlier packet.
pub(crate) fn is_report(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable};
    is_closed(error) || matches!(error.kind(), HostUnreachable | NetworkUnreachable)
}

enum Source {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

/// The address to send from, in the family of the address to send to.
fn source(to: SocketAddr, from: IpAddr) -> Source {
    match (to, from) {
        (SocketAddr::V4(_), IpAddr::V4(from)) => {
            let any = libc::in_addr { s_addr: 0 };
            let from = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            Source::V4(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: any })
        }
        (_, from) => {
            let from = match from {
                IpAddr::V4(from) => from.to_ipv6_mapped(),
                IpAddr::V6(from) => from,
            };
            let ipi6_addr = libc::in6_addr { s6_addr: from.octets() };
            Source::V6(libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 })
        }
    }
}

/// A socket from the address that was asked to the one that asked.
fn connected(datagram: &Datagram) -> io::Result<std::net::UdpSocket> {
    let any: IpAddr = match datagram.peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut local = SocketAddr::new(datagram.local.unwrap_or(any), 0);
    // A link-local address means nothing without its link.
    if let (SocketAddr::V6(local), SocketAddr::V6(peer)) = (&mut local, datagram.peer) {
        local.set_scope_id(peer.scope_id());
    }
    let socket = std::net::UdpSocket::bind(local)?;
    socket.connect(datagram.peer)?;
    Ok(socket)
}

/// Largest UDP payload that needs no fragments on the route of a connected socket.
fn payload(socket: &std::net::UdpSocket, peer: SocketAddr) -> u16 {
    let (known, least, headers) = match peer {
        SocketAddr::V4(_) => (rustix::net::sockopt::ip_mtu(socket), MIN_MTU.0, HEADERS.0),
        SocketAddr::V6(_) => (rustix::net::sockopt::ipv6_mtu(socket), MIN_MTU.1, HEADERS.1),
    };
    let mtu = known.map_or(USUAL_MTU, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
    mtu.max(least) - headers
}

/// The local address in a datagram's control messages.
fn local_address(control: ControlMessageOwned) -> Option<IpAddr> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical())
        }
        _ => None,
    }
}

/// An address without the form that IPv4 has on an IPv6 socket.
fn plain(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = SocketAddrV6::from(*address.as_sockaddr_in6()?);
    Some(match v6.ip().to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(v4.into(), v6.port()),
        None => v6.into(),
    })
}
