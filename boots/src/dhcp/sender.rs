// SPDX-License-Identifier: Apache-2.0
//! Sends answers, and tells the journal of those that went out.
//!
//! A handle shared by the listener and the task that writes leases. The answer leaves with the address as its source that
//! the client sent to or knows us by: a relay drops one from another address.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use api::Mac;
use dhcp::MessageType;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::address::Destination;
use super::decide::{Answer, Port};
use super::link::Link;
use crate::backend::Found;
use crate::capture::Packet;
use crate::journal::{Given, Journal, Lease};

/// The handle.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) server: Arc<UdpSocket>,
    pub(crate) pxe: Option<Arc<UdpSocket>>,
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) journal: Journal,
}

/// How a packet came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) port: Port,
    /// Index of the interface, 0 when the kernel does not say.
    pub(crate) interface: u32,
    /// Our address on the way that it came.
    pub(crate) local: Option<Ipv4Addr>,
    /// The address that it was sent to.
    pub(crate) to: Ipv4Addr,
    pub(crate) from: SocketAddrV4,
}

/// An answer that is ready to go.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) answer: Answer,
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: Destination,
    pub(crate) arrival: Arrival,
    /// The address that the client knows us by.
    pub(crate) server: Ipv4Addr,
    pub(crate) mac: Mac,
    pub(crate) found: Option<Found>,
}

impl Port {
    /// Its number.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Server => dhcp::SERVER_PORT,
            Self::Pxe => dhcp::PXE_PORT,
        }
    }
}

impl Outgoing {
    /// Where it goes from and to.
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (port, own) = (self.arrival.port, self.arrival.local.unwrap_or(self.server));
        match self.to {
            Destination::Routed(address) => ((own, port.number()).into(), address.into()),
            Destination::Direct(_, address) => {
                ((self.server, dhcp::SERVER_PORT).into(), (address, dhcp::CLIENT_PORT).into())
            }
            Destination::Broadcast => {
                ((self.server, dhcp::SERVER_PORT).into(), (Ipv4Addr::BROADCAST, dhcp::CLIENT_PORT).into())
            }
        }
    }
}

impl Sender {
    /// Sends an answer; a failure is logged and counted, the client asks again.
    pub(crate) async fn send(&self, out: &Outgoing) {
        let machine = out.found.as_ref().map_or("", |found| found.machine.name.as_str());
        let (mac, to) = (out.mac, out.to);
        if let Err(error) = self.transmit(out).await {
            tracing::warn!(machine, %mac, ?to, %error, "DHCP answer not sent");
            return self.journal.metrics().silence("send");
        }
        let reply = &out.answer.reply;
        let kind = reply.message_type().map_or("unknown", MessageType::name);
        self.journal.metrics().dhcp("send", kind);
        tracing::debug!(machine, %mac, kind, address = %reply.yiaddr, ?to, "DHCP answer");
        if let Some(found) = &out.found {
            self.journal.packet(found, || Packet::sent(out.ends(), &out.bytes));
        }
        let lease = match reply.message_type() {
            Some(MessageType::Offer) => Lease::Offered,
            Some(MessageType::Ack) => Lease::Granted,
            _ => return,
        };
        if let (Some(found), Some(client)) = (&out.found, &out.answer.client) {
            let given = match reply.yiaddr {
                address if address.is_unspecified() => Given::BesideServer,
                address => Given::Address(IpAddr::V4(address)),
            };
            self.journal.leased(found, (lease, given), client, out.answer.boot_file.as_deref());
        }
    }

    async fn transmit(&self, out: &Outgoing) -> io::Result<()> {
        let everybody = (Mac::from([0xff; 6]), Ipv4Addr::BROADCAST);
        let target = match out.to {
            Destination::Routed(address) => {
                let socket = match (&self.pxe, out.arrival.port) {
                    (Some(pxe), Port::Pxe) => pxe,
                    _ => &self.server,
                };
                return send_from(socket, &out.bytes, address, (0, out.arrival.local)).await;
            }
            Destination::Direct(mac, address) => (mac, address),
            Destination::Broadcast => everybody,
        };
        let interface = out.arrival.interface;
        if let Some(link) = self.link.as_ref().filter(|_| interface != 0) {
            match link.send(interface, target, out.server, &out.bytes) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(to = ?out.to, %error, "packet socket refused, trying a broadcast")
                }
            }
        }
        let address = SocketAddrV4::new(everybody.1, dhcp::CLIENT_PORT);
        send_from(&self.server, &out.bytes, address, (interface, out.arrival.local)).await
    }
}

/// Sends a datagram on an interface (0 lets the kernel route) and from an address of this host (none lets it choose).
async fn send_from(
    socket: &UdpSocket,
    bytes: &[u8],
    to: SocketAddrV4,
    (interface, source): (u32, Option<Ipv4Addr>),
) -> io::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: i32::try_from(interface).map_err(io::Error::other)?,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(source.unwrap_or(Ipv4Addr::UNSPECIFIED)).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let sent = socket
        .async_io(Interest::WRITABLE, || {
            let (control, target) = ([ControlMessage::Ipv4PacketInfo(&info)], SockaddrIn::from(to));
            let parts = [IoSlice::new(bytes)];
            Ok(sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&target))?)
        })
        .await?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
