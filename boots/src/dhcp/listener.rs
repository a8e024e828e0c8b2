// SPDX-License-Identifier: Apache-2.0
//! The DHCP socket: reads packets one after the other, asks the decision, sends the answer.
//!
//! One task; no state of its own but the list of strangers that were logged already. A packet costs a map access and a
//! few hundred nanoseconds of decision, so there is no queue and no task per packet: the kernel's socket buffer is the
//! bound, and what does not fit is repeated by the client.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use api::Mac;
use dhcp::{Arch, Message, MessageType, Op, netboot_client};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::address::{Destination, destination};
use super::decide::{Answer, Server, Silence, decide};
use super::link::Link;
use crate::backend::watch::Backend;
use crate::backend::{Found, Miss};
use crate::config::{DhcpConfig, Urls};
use crate::journal::Journal;

/// Largest packet that is read; clients send 300 to 1500 bytes.
const MAX_PACKET: usize = 4096;
/// Bytes of packets that the kernel keeps while we are busy.
const SOCKET_BUFFER: usize = 4 << 20;
/// Strangers logged by name; further ones are only counted.
const MAX_STRANGERS: usize = 1024;
/// A pause after a failure of the socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UdpSocket,
    link: Option<Link>,
    config: DhcpConfig,
    urls: Urls,
    programs: BTreeMap<Arch, String>,
    backend: Backend,
    journal: Journal,
    strangers: HashSet<Mac>,
}

/// A packet and where it came in.
struct Packet {
    length: usize,
    interface: u32,
}

impl Listener {
    /// Binds the socket.
    ///
    /// # Errors
    ///
    /// When somebody holds the port, or the interface does not exist, or the privilege is missing.
    pub(crate) fn bind(
        config: DhcpConfig,
        urls: Urls,
        programs: BTreeMap<Arch, String>,
        (backend, journal): (Backend, Journal),
    ) -> io::Result<Self> {
        // Without SO_REUSEADDR, which on UDP would let two DHCP servers share the port unnoticed.
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        if let Err(error) = socket.set_recv_buffer_size(SOCKET_BUFFER) {
            tracing::debug!(%error, "DHCP keeps the default socket buffer");
        }
        if let Some(interface) = &config.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        setsockopt(&socket.as_fd(), sockopt::Ipv4PacketInfo, &true)?;
        socket.bind(&SocketAddr::V4(config.listen).into())?;
        let link = Link::open()
            .inspect_err(|error| tracing::warn!(%error, "no packet socket: all DHCP answers are broadcast"))
            .ok();
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, link, config, urls, programs, backend, journal, strangers: HashSet::new() })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = receive(&self.socket, &mut buffer) => received,
            };
            match received {
                Ok(packet) => {
                    let bytes = buffer.get(..packet.length).unwrap_or_default();
                    self.handle(bytes, packet.interface).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot receive DHCP packets");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn handle(&mut self, bytes: &[u8], interface: u32) {
        let request = match Message::parse(bytes) {
            Ok(request) if request.op == Op::Request => request,
            Ok(_) => return self.journal.metrics().silence("reply"),
            Err(error) => {
                tracing::debug!(%error, "not a DHCP message");
                return self.journal.metrics().silence("malformed");
            }
        };
        let kind = request.message_type();
        self.journal.metrics().dhcp("recv", kind.map_or("unknown", MessageType::name));
        let (Some(mac), Some(kind)) = (request.mac().map(Mac::from), kind) else {
            return self.journal.metrics().silence("unsupported");
        };
        let found = self.backend.read().by_mac(mac);
        let found = match found {
            Ok(found) => found,
            Err(miss) => return self.stranger(mac, miss),
        };
        // Only network-boot clients of machines that DHCP may answer have a boot to number.
        let client = netboot_client(&request).ok().filter(|_| found.nic().dhcp && self.config.netboot);
        let session = client.map(|client| self.journal.asked(mac, kind, client.user_class));
        let server = Server { dhcp: &self.config, urls: &self.urls, programs: &self.programs };
        match decide(&request, found.nic(), server, session.as_ref()) {
            Ok(answer) => self.answer(&request, &answer, &found, interface).await,
            Err(silence) => self.silent(&found, &request, silence),
        }
    }

    async fn answer(&self, request: &Message, answer: &Answer, found: &Found, interface: u32) {
        let (machine, mac) = (&found.machine.name, found.nic().mac);
        let kind = answer.reply.message_type().map_or("unknown", MessageType::name);
        let encoded = match answer.reply.encode(request.accepted_size()) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::warn!(machine, %mac, %error, "DHCP answer not sent");
                return self.journal.metrics().silence("too-large");
            }
        };
        if !encoded.dropped.is_empty() {
            tracing::warn!(machine, %mac, options = ?encoded.dropped, "options left out of a DHCP answer: too large");
        }
        let to = destination(request, &answer.reply);
        if let Err(error) = self.send(to, interface, &encoded.bytes).await {
            tracing::warn!(machine, %mac, ?to, %error, "DHCP answer not sent");
            return self.journal.metrics().silence("send");
        }
        self.journal.metrics().dhcp("send", kind);
        tracing::debug!(machine, %mac, kind, address = %answer.reply.yiaddr, ?to, "DHCP answer");
        if let Some(client) = &answer.client {
            self.journal.leased(found, &answer.reply, client, answer.boot_file.as_deref());
        }
    }

    async fn send(&self, to: Destination, interface: u32, bytes: &[u8]) -> io::Result<()> {
        let everybody = (Mac::from([0xff; 6]), Ipv4Addr::BROADCAST);
        let (target, fallback) = match (to, &self.link) {
            (Destination::Routed(address), _) => {
                self.socket.send_to(bytes, address).await?;
                return Ok(());
            }
            (Destination::Direct(mac, address), Some(link)) => (Some((link, (mac, address))), everybody.1),
            (Destination::Broadcast, Some(link)) => (Some((link, everybody)), everybody.1),
            (_, None) => (None, everybody.1),
        };
        if let Some((link, target)) = target.filter(|_| interface != 0) {
            match link.send(interface, target, self.config.server, bytes) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(?to, %error, "packet socket refused, trying a broadcast"),
            }
        }
        self.socket.send_to(bytes, SocketAddrV4::new(fallback, dhcp::CLIENT_PORT)).await?;
        Ok(())
    }

    fn silent(&self, found: &Found, request: &Message, silence: Silence) {
        let (machine, mac) = (&found.machine.name, found.nic().mac);
        let reason = match silence {
            Silence::Disabled => "disabled",
            Silence::NoAddress => "no-address",
            Silence::OtherServer => "other-server",
            Silence::Released => "released",
            Silence::Declined => "declined",
            Silence::NotForServers => "not-for-servers",
        };
        self.journal.metrics().silence(reason);
        match silence {
            Silence::Declined => {
                let address = request.options.ip(dhcp::code::REQUESTED_IP);
                tracing::warn!(machine, %mac, ?address, "a machine found its reserved address in use by another host");
            }
            Silence::Released => tracing::info!(machine, %mac, "a machine released its address"),
            _ => tracing::debug!(machine, %mac, reason, "DHCP message not answered"),
        }
    }

    /// One log line per unknown MAC, for the first of them; all are counted.
    fn stranger(&mut self, mac: Mac, miss: Miss) {
        let reason = match miss {
            Miss::Unknown => "unknown-mac",
            Miss::Ambiguous => "ambiguous-mac",
        };
        self.journal.metrics().silence(reason);
        if self.strangers.len() < MAX_STRANGERS && self.strangers.insert(mac) {
            tracing::warn!(%mac, reason, "DHCP from a MAC that is not exactly one Hardware's; not answered");
            if self.strangers.len() == MAX_STRANGERS {
                tracing::warn!(limit = MAX_STRANGERS, "further strangers are only counted");
            }
        }
    }
}

/// The next packet and the index of its interface, 0 when the kernel does not say.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Packet> {
    socket
        .async_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(libc::in_pktinfo);
            let message =
                recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
            let interface = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
                _ => None,
            });
            Ok(Packet { length: message.bytes, interface: interface.unwrap_or(0) })
        })
        .await
}
