// SPDX-License-Identifier: Apache-2.0
//! The DHCPv6 socket: reads packets one after the other, asks the decision, sends the answer.
//!
//! One socket for all links, a member of the groups of servers on each of them; a packet on an interface that is not listened
//! on is not ours. As for DHCPv4 there is no queue and no task per packet, and here nothing waits for the disk either.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use api::Mac;
use dhcp::Arch;
use dhcp::v6::{CLIENT_PORT, MessageType, Packet, SERVER_PORT, code};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::client::{find, macs};
use super::decide::{Answer, Asked, Server, Silence, decide};
use super::links::Links;
use crate::backend::watch::Backend;
use crate::backend::{Found, Miss};
use crate::buffer;
use crate::capture::Packet as Captured;
use crate::config::Dhcp6Config;
use crate::dhcp::limit::{Class, Limits};
use crate::files::Programs;
use crate::journal::{Given, Journal, Lease, now};
use crate::session::Exchange;

/// Largest packet that is read; clients send some hundred bytes, each relay adds as much.
const MAX_PACKET: usize = 4096;
/// Bytes of packets that the kernel keeps while we are busy.
const SOCKET_BUFFER: usize = 4 << 20;
/// Strangers logged by name; further ones are only counted.
const MAX_STRANGERS: usize = 1024;
/// How often the links are looked at.
const REFRESH: Duration = Duration::from_secs(5);
/// A pause after a failure of the socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UdpSocket,
    config: Dhcp6Config,
    programs: BTreeMap<Arch, String>,
    sizes: BTreeMap<String, u64>,
    backend: Backend,
    journal: Journal,
    links: Links,
    limits: Limits,
    strangers: HashSet<Mac>,
}

/// How a packet came in.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// Index of the interface, 0 when the kernel does not say.
    interface: u32,
    /// The address that it was sent to, none for a group.
    local: Option<Ipv6Addr>,
    /// The address that it was sent to, also that of a group.
    to: Ipv6Addr,
    from: SocketAddrV6,
}

impl Listener {
    /// Binds the socket and joins the groups.
    ///
    /// # Errors
    ///
    /// When somebody holds the port, or a named interface does not exist, or the privilege is missing.
    pub(crate) fn bind(
        config: Dhcp6Config,
        programs: BTreeMap<Arch, String>,
        files: &Programs,
        (backend, journal): (Backend, Journal),
    ) -> io::Result<Self> {
        let socket = open(&config)?;
        let mut links = Links::new(config.interfaces.clone());
        links.refresh(&socket)?;
        tracing::info!(duid = %config.duid, "DHCPv6 server identifier");
        Ok(Self {
            socket,
            limits: Limits::new(config.rate),
            config,
            programs,
            sizes: files.sizes(),
            backend,
            journal,
            links,
            strangers: HashSet::new(),
        })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; MAX_PACKET];
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = refresh.tick() => {
                    if let Err(error) = self.links.refresh(&self.socket) {
                        tracing::debug!(%error, "a link of DHCPv6 is gone");
                    }
                    continue;
                }
                received = receive(&self.socket, &mut buffer) => received,
            };
            match received {
                Ok((length, arrival)) => {
                    self.handle(buffer.get(..length).unwrap_or_default(), arrival).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot receive DHCPv6 packets");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn handle(&mut self, bytes: &[u8], arrival: Arrival) {
        let metrics = self.journal.metrics();
        if !self.links.hears(arrival.interface) {
            return metrics.silence("other-interface");
        }
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                tracing::debug!(%error, "not a DHCPv6 message");
                return metrics.silence("malformed");
            }
        };
        metrics.dhcp("recv", packet.message.kind.name());
        let macs = macs(&packet, *arrival.from.ip());
        let found = find(&self.backend.read(), &macs, &packet);
        let known = found.as_ref().ok().map(|found| found.nic().mac);
        let Some(mac) = known.or(macs.first().copied()) else { return metrics.silence("no-mac") };
        let class = if known.is_some() { Class::Known } else { Class::Stranger };
        if !self.limits.allow(class, mac, now()) {
            return metrics.silence("rate");
        }
        let (found, miss) = found.map_or_else(|miss| (None, miss), |found| (Some(found), Miss::Unknown));
        let decided = self.decide(&packet, mac, found.as_ref(), arrival);
        if let Some(found) = &found {
            self.note(bytes, &packet, (found, &decided), arrival);
        }
        match decided {
            Ok(answer) => self.answer(&packet, &answer, (mac, found.as_ref()), arrival).await,
            Err(Silence::Unknown) => self.stranger(mac, miss),
            Err(silence) => {
                let (machine, reason) = (name(found.as_ref()), silence.label());
                self.journal.metrics().silence(reason);
                tracing::debug!(machine, %mac, reason, "DHCPv6 message not answered");
            }
        }
    }

    /// Tells the journal of a message: that a boot begins with it or goes on, and what it was.
    fn note(
        &self,
        bytes: &[u8],
        packet: &Packet,
        (found, decided): (&Found, &Result<Answer, Silence>),
        arrival: Arrival,
    ) {
        if let Ok(Answer { client: Some(client), .. }) = decided {
            let kind = packet.message.kind;
            let begins = matches!(kind, MessageType::Solicit | MessageType::InformationRequest);
            let exchange = if begins { Exchange::Begins } else { Exchange::GoesOn };
            self.journal.asked(found.nic().mac, exchange, client.user_class);
        }
        self.journal.packet(found, || {
            let ends = (arrival.from.into(), (arrival.to, self.config.listen.port()).into());
            let packet = Captured::received(ends, bytes);
            match decided {
                Ok(_) => packet,
                Err(silence) => packet.note(format!("not answered: {}", silence.label())),
            }
        });
    }

    fn decide(
        &self,
        packet: &Packet,
        mac: Mac,
        found: Option<&Found>,
        arrival: Arrival,
    ) -> Result<Answer, Silence> {
        let nic = found.map(Found::nic);
        // A relay says in which network a client is; the prefix of that one is 64 bits long, as of all with machines in it.
        let relayed =
            packet.link().and_then(|link| ipnet::Ipv6Net::new(link, 64).ok()).map(|net| net.trunc());
        let on_link = match &relayed {
            Some(net) => std::slice::from_ref(net),
            None if packet.relays.is_empty() => self.links.prefixes(arrival.interface),
            None => &[],
        };
        let server = Server { dhcp: &self.config, programs: &self.programs, sizes: &self.sizes, on_link };
        let asked = Asked { packet, mac, nic, unicast: arrival.local.is_some() };
        decide(asked, server)
    }

    async fn answer(
        &self,
        packet: &Packet,
        answer: &Answer,
        (mac, found): (Mac, Option<&Found>),
        arrival: Arrival,
    ) {
        let request = &packet.message;
        let machine = name(found);
        let to = destination(packet, arrival.from);
        let bytes = packet.encode_reply(&answer.reply);
        if let Err(error) = send(&self.socket, &bytes, to, arrival).await {
            tracing::warn!(machine, %mac, %to, %error, "DHCPv6 answer not sent");
            return self.journal.metrics().silence("send");
        }
        let (kind, address) = (answer.reply.kind, answer.address);
        self.journal.metrics().dhcp("send", kind.name());
        tracing::debug!(machine, %mac, kind = kind.name(), ?address, %to, "DHCPv6 answer");
        let Some(found) = found else { return };
        self.journal.packet(found, || {
            // A group is answered from an address that the kernel chooses.
            let own = arrival.local.unwrap_or(Ipv6Addr::UNSPECIFIED);
            Captured::sent(((own, self.config.listen.port()).into(), to.into()), &bytes)
        });
        match request.kind {
            MessageType::Decline => self.journal.declined(found, answer.address.map(IpAddr::V6)),
            MessageType::Release => tracing::info!(machine, %mac, ?address, "a client released its address"),
            _ => {}
        }
        let Some(client) = &answer.client else { return };
        let lease = if kind == MessageType::Advertise { Lease::Offered } else { Lease::Granted };
        let given = match answer.address {
            Some(address) => Given::Address(IpAddr::V6(address)),
            None => Given::BesideRouter,
        };
        self.journal.leased(found, (lease, given), client, answer.boot_file.as_deref());
    }

    /// One log line per unknown MAC, for the first of them; all are counted.
    fn stranger(&mut self, mac: Mac, miss: Miss) {
        let reason = match miss {
            Miss::Unknown => "unknown-mac",
            Miss::Ambiguous => "ambiguous-mac",
        };
        self.journal.metrics().silence(reason);
        if self.strangers.len() < MAX_STRANGERS && self.strangers.insert(mac) {
            tracing::warn!(%mac, reason, "DHCPv6 from a MAC that is not exactly one Hardware's; not answered");
        }
    }
}

fn name(found: Option<&Found>) -> &str {
    found.map_or("", |found| found.machine.name.as_str())
}

/// Where the answer goes: to the client's port, or to the relay's, which may say that it has another one (RFC 8357 section
/// 5.2). A client may send from any port, but hears only its own (RFC 8415 section 7.2).
fn destination(packet: &Packet, from: SocketAddrV6) -> SocketAddrV6 {
    let port = match packet.relays.first() {
        None => CLIENT_PORT,
        Some(relay) if relay.options.contains(code::RELAY_PORT) => from.port(),
        Some(_) => SERVER_PORT,
    };
    SocketAddrV6::new(*from.ip(), port, 0, from.scope_id())
}

/// A socket without SO_REUSEADDR, which on UDP would let two servers share the port unnoticed.
fn open(config: &Dhcp6Config) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_nonblocking(true)?;
    buffer::enlarge(&socket, SOCKET_BUFFER)?;
    setsockopt(&socket.as_fd(), sockopt::Ipv6RecvPacketInfo, &true)?;
    socket.bind(&SocketAddr::V6(config.listen).into())?;
    UdpSocket::from_std(socket.into())
}

/// The next packet: its length and how it came.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Arrival)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(libc::in6_pktinfo);
            let message = recvmsg::<SockaddrIn6>(
                socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let info = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
                _ => None,
            });
            let local = info.map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr));
            let nobody = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0);
            let arrival = Arrival {
                interface: info.map_or(0, |info| info.ipi6_ifindex),
                local: local.filter(|address| !address.is_multicast()),
                to: local.unwrap_or(Ipv6Addr::UNSPECIFIED),
                from: message.address.map_or(nobody, SocketAddrV6::from),
            };
            Ok((message.bytes, arrival))
        })
        .await
}

/// Sends an answer on the interface that the request came from where the receiver has only a link-local address, from the
/// address that was asked, if it was one.
async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddrV6, arrival: Arrival) -> io::Result<()> {
    let interface = if to.ip().is_unicast_link_local() { arrival.interface } else { 0 };
    let source = arrival.local.unwrap_or(Ipv6Addr::UNSPECIFIED);
    let info =
        libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.octets() }, ipi6_ifindex: interface };
    let sent = socket
        .async_io(Interest::WRITABLE, || {
            let (control, target) = ([ControlMessage::Ipv6PacketInfo(&info)], SockaddrIn6::from(to));
            let parts = [IoSlice::new(bytes)];
            Ok(sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&target))?)
        })
        .await?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use dhcp::v6::{Message, Options, Relay};

    use super::*;

    #[test]
    fn answers_go_to_the_port_of_client_or_relay() {
        let from: SocketAddrV6 = "[fe80::1]:49152".parse().unwrap();
        let from = SocketAddrV6::new(*from.ip(), from.port(), 0, 3);
        let mut packet = Packet { relays: Vec::new(), message: Message::new(MessageType::Solicit, [0; 3]) };
        let expected = |port| SocketAddrV6::new(*from.ip(), port, 0, 3);
        assert_eq!(destination(&packet, from), expected(546));
        let relay =
            Relay { hops: 0, link: Ipv6Addr::UNSPECIFIED, peer: *from.ip(), options: Options::default() };
        packet.relays.push(relay);
        assert_eq!(destination(&packet, from), expected(547));
        packet.relays[0].options.add(code::RELAY_PORT, [0, 0]);
        assert_eq!(destination(&packet, from), expected(49152));
    }
}
