// SPDX-License-Identifier: Apache-2.0
//! The DHCP sockets: reads packets one after the other, asks the decision, hands the answer on.
//!
//! One task owns the leases, the buckets and the list of strangers that were logged already. A packet costs a map access
//! and some microseconds of decision, so there is no queue and no task per packet: the kernel's socket buffer is the bound,
//! and what does not fit is repeated by the client. Only an answer that gives an address from a pool waits: an offer in
//! the task of `probe`, a grant in another one until its lease is on the disk; that one takes all that wait with one write.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::Duration;

use api::Mac;
use dhcp::{Arch, Message, MessageType, Op, RelayInfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::address::{Destination, destination};
use super::decide::{Answer, Port, Silence};
use super::engine::{Came, Engine};
use super::leases::{LeaseFile, Record};
use super::limit::{Class, Limits};
use super::link::Link;
use super::local::Interfaces;
use super::pool::Leases;
use super::probe::{self, Echo, Offer};
use super::sender::{Arrival, Outgoing, Sender};
use crate::backend::watch::Backend;
use crate::backend::{Found, Index, Miss};
use crate::buffer;
use crate::capture::Packet;
use crate::config::{DhcpConfig, Urls};
use crate::journal::{Journal, now};

/// Largest packet that is read; clients send 300 to 1500 bytes.
const MAX_PACKET: usize = 4096;
/// Bytes of packets that the kernel keeps while we are busy.
const SOCKET_BUFFER: usize = 4 << 20;
/// Strangers logged by name; further ones are only counted.
const MAX_STRANGERS: usize = 1024;
/// A pause after a failure of the socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// Changes of leases that wait for the disk; further ones are dropped, and their clients ask again.
const MAX_WAITING: usize = 1024;
/// Changes that go to the disk in one write.
const BATCH: usize = 128;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    sender: Sender,
    engine: Engine,
    backend: Backend,
    interfaces: Interfaces,
    limits: Limits,
    /// The file of the leases, until the task starts that owns it.
    file: Option<LeaseFile>,
    writer: Option<mpsc::Sender<(Record, Option<Outgoing>)>>,
    /// The socket that asks for addresses, until the task starts that owns it.
    echo: Option<Echo>,
    prober: Option<mpsc::Sender<Offer>>,
    strangers: HashSet<Mac>,
}

impl Listener {
    /// Binds the sockets and reads the leases.
    ///
    /// # Errors
    ///
    /// When somebody holds a port, or the interface does not exist, or the privilege is missing, or the lease file cannot
    /// be used.
    pub(crate) fn bind(
        config: DhcpConfig,
        urls: Urls,
        programs: BTreeMap<Arch, String>,
        (backend, journal): (Backend, Journal),
    ) -> io::Result<Self> {
        let server = Arc::new(open(&config, config.listen.port())?);
        let pxe = config.pxe_port.map(|port| open(&config, port)).transpose()?.map(Arc::new);
        let link = Link::open()
            .inspect_err(|error| tracing::warn!(%error, "no packet socket: all DHCP answers are broadcast"))
            .ok()
            .map(Arc::new);
        let echo = config.pool_probe.filter(|_| !config.pools.is_empty()).and_then(|_| {
            Echo::open()
                .inspect_err(
                    |error| tracing::warn!(%error, "addresses of pools are offered without asking for them"),
                )
                .ok()
        });
        let mut leases = Leases::new(&config.pools);
        let file = if config.pools.is_empty() { None } else { Some(restore(&config, &mut leases)?) };
        Ok(Self {
            sender: Sender { server, pxe, link, journal },
            limits: Limits::new(config.rate),
            engine: Engine { config, urls, programs, leases },
            backend,
            interfaces: Interfaces::default(),
            file,
            writer: None,
            echo,
            prober: None,
            strangers: HashSet::new(),
        })
    }

    /// Answers until `shutdown`; leases that wait for the disk then are still written.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let writer = self.file.take().map(|file| {
            let (queue, waiting) = mpsc::channel(MAX_WAITING);
            self.writer = Some(queue);
            tokio::spawn(write_leases(file, waiting, self.sender.clone()))
        });
        let (told, conflicts) = mpsc::channel(probe::MAX_PENDING);
        let prober = self.echo.take().zip(self.engine.config.pool_probe).map(|asking| {
            let (queue, offers) = mpsc::channel(probe::MAX_PENDING);
            self.prober = Some(queue);
            tokio::spawn(probe::run(asking, offers, told.clone(), self.sender.clone()))
        });
        self.answer_all(conflicts, &shutdown).await;
        // Without a sender each task ends, that of the leases when it has written what waits.
        drop(self);
        if let Some(prober) = prober
            && let Err(error) = prober.await
        {
            tracing::error!(%error, "the task that asks for addresses ended badly");
        }
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the task that writes leases ended badly");
        }
    }

    async fn answer_all(&mut self, mut conflicts: mpsc::Receiver<Ipv4Addr>, shutdown: &CancellationToken) {
        let (mut buffer, mut pxe_buffer) = (vec![0; MAX_PACKET], vec![0; MAX_PACKET]);
        let (server, pxe) = (Arc::clone(&self.sender.server), self.sender.pxe.clone());
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                Some(address) = conflicts.recv() => {
                    self.conflict(address);
                    continue;
                }
                received = receive(&server, Port::Server, &mut buffer) => received.map(|got| (got, &buffer)),
                received = receive_if(pxe.as_deref(), &mut pxe_buffer) => received.map(|got| (got, &pxe_buffer)),
            };
            match received {
                Ok(((length, arrival), bytes)) => {
                    self.handle(bytes.get(..length).unwrap_or_default(), arrival).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot receive DHCP packets");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn handle(&mut self, bytes: &[u8], arrival: Arrival) {
        let metrics = self.sender.journal.metrics();
        let request = match Message::parse(bytes) {
            Ok(request) if request.op == Op::Request => request,
            Ok(_) => return metrics.silence("reply"),
            Err(error) => {
                tracing::debug!(%error, "not a DHCP message");
                return metrics.silence("malformed");
            }
        };
        let kind = request.message_type();
        metrics.dhcp("recv", kind.map_or("unknown", MessageType::name));
        let (Some(mac), Some(kind)) = (request.mac().map(Mac::from), kind) else {
            return metrics.silence("unsupported");
        };
        let found = find(&self.backend.read(), mac, &request);
        let class = if found.is_ok() { Class::Known } else { Class::Stranger };
        if !self.limits.allow(class, mac, now()) {
            return metrics.silence("rate");
        }
        let (found, miss) = found.map_or_else(|miss| (None, Some(miss)), |found| (Some(found), None));
        let decided = self.decide(&request, (mac, kind), found.as_ref(), arrival);
        if let Some(found) = &found {
            self.sender.journal.packet(found, || {
                let ends = (arrival.from.into(), (arrival.to, arrival.port.number()).into());
                let packet = Packet::received(ends, bytes);
                match &decided {
                    Ok(_) => packet,
                    Err(silence) => packet.note(format!("not answered: {}", silence.label())),
                }
            });
        }
        match decided {
            Ok((answer, server)) => self.answer(&request, (answer, server), mac, found, arrival).await,
            Err(Silence::Unknown) => self.stranger(mac, miss.unwrap_or(Miss::Unknown)),
            Err(silence) => self.silent(mac, found.as_ref(), &request, silence),
        }
    }

    /// The answer and the address that the client knows us by.
    fn decide(
        &mut self,
        request: &Message,
        (mac, kind): (Mac, MessageType),
        found: Option<&Found>,
        arrival: Arrival,
    ) -> Result<(Answer, Ipv4Addr), Silence> {
        let came = Came {
            request,
            kind,
            mac,
            port: arrival.port,
            nic: found.map(Found::nic),
            addresses: self.interfaces.addresses(arrival.interface),
        };
        let journal = &self.sender.journal;
        let session = |mac, message, class| journal.asked(mac, message, class);
        self.engine.decide(came, &self.backend.read(), session, now())
    }

    async fn answer(
        &self,
        request: &Message,
        (answer, server): (Answer, Ipv4Addr),
        mac: Mac,
        found: Option<Found>,
        arrival: Arrival,
    ) {
        let machine = found.as_ref().map_or("", |found| found.machine.name.as_str());
        let encoded = match answer.reply.encode_for(request) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::warn!(machine, %mac, %error, "DHCP answer not sent");
                return self.sender.journal.metrics().silence("too-large");
            }
        };
        if !encoded.dropped.is_empty() {
            tracing::warn!(machine, %mac, options = ?encoded.dropped, "options left out of a DHCP answer: too large");
        }
        let to = match arrival.port {
            // Whoever asks there has an address and is asked back where it asked from.
            Port::Pxe if !arrival.from.ip().is_unspecified() => Destination::Routed(arrival.from),
            _ => destination(request, &answer.reply),
        };
        let (record, probe) = (answer.record, answer.probe);
        let out = Outgoing { answer, bytes: encoded.bytes, to, arrival, server, mac, found };
        match (record, probe.zip(self.prober.as_ref())) {
            (Some(record), _) => self.write(record, Some(out)),
            (None, Some((address, prober))) => {
                if prober.try_send((address, out)).is_err() {
                    tracing::warn!(%mac, "too many offers wait; a client must ask again");
                    self.sender.journal.metrics().silence("probe-queue");
                }
            }
            (None, None) => self.sender.send(&out).await,
        }
    }

    /// Somebody answered at an address that was about to be offered.
    fn conflict(&mut self, address: Ipv4Addr) {
        self.sender.journal.metrics().silence("address-in-use");
        tracing::warn!(%address, "an address of a pool is in use by a host that did not get it here; it is not offered");
        if let Some(record) = self.engine.leases.in_use(address, now()) {
            self.write(record, None);
        }
    }

    /// Hands a change of a lease to the task that writes it and then sends the answer.
    fn write(&self, record: Record, out: Option<Outgoing>) {
        let queued = self.writer.as_ref().is_some_and(|writer| writer.try_send((record, out)).is_ok());
        if !queued {
            tracing::warn!(mac = %record.mac, "too many leases wait for the disk; a client must ask again");
            self.sender.journal.metrics().silence("lease-queue");
        }
    }

    fn silent(&self, mac: Mac, found: Option<&Found>, request: &Message, silence: Silence) {
        let machine = found.map_or("", |found| found.machine.name.as_str());
        let reason = silence.label();
        self.sender.journal.metrics().silence(reason);
        let declined = request.options.ip(dhcp::code::REQUESTED_IP);
        match silence {
            Silence::Declined(record) => {
                match found {
                    Some(found) => self.sender.journal.declined(found, declined.map(IpAddr::V4)),
                    None => {
                        tracing::warn!(%mac, ?declined, "a client found its address in use by another host")
                    }
                }
                record.into_iter().for_each(|record| self.write(record, None));
            }
            Silence::Released(record) => {
                tracing::info!(machine, %mac, address = %request.ciaddr, "a client released its address");
                record.into_iter().for_each(|record| self.write(record, None));
            }
            Silence::PoolEmpty => {
                tracing::warn!(machine, %mac, "no address left in the pool of a client's network")
            }
            _ => tracing::debug!(machine, %mac, reason, "DHCP message not answered"),
        }
    }

    /// One log line per unknown MAC, for the first of them; all are counted.
    fn stranger(&mut self, mac: Mac, miss: Miss) {
        let reason = match miss {
            Miss::Unknown => "unknown-mac",
            Miss::Ambiguous => "ambiguous-mac",
        };
        self.sender.journal.metrics().silence(reason);
        if self.strangers.len() < MAX_STRANGERS && self.strangers.insert(mac) {
            tracing::warn!(%mac, reason, "DHCP from a MAC that is not exactly one Hardware's; not answered");
            if self.strangers.len() == MAX_STRANGERS {
                tracing::warn!(limit = MAX_STRANGERS, "further strangers are only counted");
            }
        }
    }
}

/// The machine with this MAC, else the one on the switch port that a relay names.
pub(super) fn find(index: &Index, mac: Mac, request: &Message) -> Result<Found, Miss> {
    match index.by_mac(mac) {
        Err(Miss::Unknown) => index.by_port(&RelayInfo::of(request)),
        found => found,
    }
}

/// A socket on one port, without SO_REUSEADDR, which on UDP would let two DHCP servers share it unnoticed.
fn open(config: &DhcpConfig, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    buffer::enlarge(&socket, SOCKET_BUFFER)?;
    if let Some(interface) = &config.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    setsockopt(&socket.as_fd(), sockopt::Ipv4PacketInfo, &true)?;
    let address = SocketAddr::V4(SocketAddrV4::new(*config.listen.ip(), port));
    socket
        .bind(&address.into())
        .map_err(|error| io::Error::new(error.kind(), format!("port {port}: {error}")))?;
    UdpSocket::from_std(socket.into())
}

/// Reads the lease file into the table.
fn restore(config: &DhcpConfig, leases: &mut Leases) -> io::Result<LeaseFile> {
    let path = config.lease_file.display();
    let (file, records, damaged) = LeaseFile::open(&config.lease_file)
        .map_err(|error| io::Error::new(error.kind(), format!("lease file {path}: {error}")))?;
    if damaged > 0 {
        tracing::warn!(%path, damaged, "lines of the lease file are damaged and were passed over");
    }
    leases.restore(records);
    Ok(file)
}

/// Writes changes of leases, as many at a time as wait, and then sends the answers that waited for them.
async fn write_leases(
    mut file: LeaseFile,
    mut waiting: mpsc::Receiver<(Record, Option<Outgoing>)>,
    sender: Sender,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let records: Vec<Record> = batch.iter().map(|(record, _)| *record).collect();
        let written = tokio::task::spawn_blocking(move || {
            let written = file.append(&records);
            (file, written)
        });
        let written = match written.await {
            Ok((back, written)) => {
                file = back;
                written
            }
            Err(error) => {
                tracing::error!(%error, "leases can be written no more");
                return;
            }
        };
        if let Err(error) = written {
            tracing::error!(%error, leases = batch.len(), "leases not written; their clients get no answer");
            sender.journal.metrics().silence("lease-file");
            batch.clear();
        }
        for (_, out) in batch.drain(..) {
            if let Some(out) = out {
                sender.send(&out).await;
            }
        }
    }
}

async fn receive_if(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, Arrival)> {
    match socket {
        Some(socket) => receive(socket, Port::Pxe, buffer).await,
        None => std::future::pending().await,
    }
}

/// The next packet: its length and how it came.
async fn receive(socket: &UdpSocket, port: Port, buffer: &mut [u8]) -> io::Result<(usize, Arrival)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(libc::in_pktinfo);
            let message =
                recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
            let info = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
                _ => None,
            });
            let address = |address: libc::in_addr| Ipv4Addr::from(u32::from_be(address.s_addr));
            let local = info.map(|info| address(info.ipi_spec_dst));
            let from =
                message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), SocketAddrV4::from);
            let arrival = Arrival {
                port,
                interface: info.and_then(|info| u32::try_from(info.ipi_ifindex).ok()).unwrap_or(0),
                local: local.filter(|ip| !ip.is_unspecified()),
                to: info.map_or(Ipv4Addr::UNSPECIFIED, |info| address(info.ipi_addr)),
                from,
            };
            Ok((message.bytes, arrival))
        })
        .await
}
