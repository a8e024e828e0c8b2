// SPDX-License-Identifier: Apache-2.0
//! The server: takes requests, opens content, and runs one session per client port.
//!
//! One task owns the listening socket and the table of transfers. A request is opened in a task of its own, so a slow
//! provider delays nobody else. In single-port mode that task also receives the packets of running transfers and hands
//! them on.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::content::Content;
use crate::link::{Datagram, Link, Listener, is_report};
use crate::negotiate::Limits;
use crate::packet::{self, ErrorCode, Packet, Request};
use crate::session::{Report, Session, Timing};
use crate::table::{Admission, Admitted, Dropped, Table};
use crate::transfer::Event;

/// The longest request that is read; RFC 2347 says 512, firmware sends less.
const MAX_REQUEST: usize = 2048;
/// A pause after a failure of the listening socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Which ports the packets of a transfer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// A new one for each transfer (RFC 1350 section 4).
    PerTransfer,
    /// Always the one that was asked: what lies between needs no rule for other ports, such as NAT or a firewall.
    Single,
}

/// Settings of a server.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Where to listen; port 0 picks one. The IPv6 wildcard hears IPv4 too.
    pub listen: SocketAddr,
    /// Where answers come from.
    pub ports: Ports,
    /// The most that is granted in a negotiation.
    pub limits: Limits,
    /// The longest wait for one acknowledgement.
    pub timeout: Duration,
    /// The silence of a client is endured for this many times `timeout`.
    pub retries: u32,
    /// Transfers at once. At the limit a client that never answered gives way; without one the request is dropped and the
    /// client repeats it.
    pub max_sessions: usize,
    /// Transfers at once for one client address; a request beyond that is dropped.
    pub max_sessions_per_client: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 69).into(),
            ports: Ports::PerTransfer,
            limits: Limits { block_size: 1468, window: 64 },
            timeout: Duration::from_secs(10),
            retries: 5,
            max_sessions: 1024,
            max_sessions_per_client: 32,
        }
    }
}

/// Why a provider does not serve a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Code for the client.
    pub code: ErrorCode,
    /// Text for the client; firmware shows it.
    pub message: String,
}

impl Refusal {
    /// No such file.
    #[must_use]
    pub fn not_found() -> Self {
        Self { code: ErrorCode::NotFound, message: "File not found".into() }
    }
}

/// Whether a packet came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// A packet of a transfer, or its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Which way it goes.
    pub way: Way,
    /// The client.
    pub peer: SocketAddr,
    /// Our end; its address is unspecified where the packet was for everybody.
    pub local: SocketAddr,
    /// The name that is asked for.
    pub name: &'a str,
    /// What is shown of it: all, of a block of data the header.
    pub bytes: &'a [u8],
    /// Bytes of the whole packet.
    pub length: usize,
}

/// Who decides what is behind a name. A name is a key: it must never be opened as a path unchecked.
pub trait Provider: Send + Sync + 'static {
    /// The content for a request, or the error for the client.
    fn open(
        &self,
        peer: SocketAddr,
        request: &Request,
    ) -> impl Future<Output = Result<Content, Refusal>> + Send;

    /// Whether a client may ask now; what it asks is dropped otherwise. Called by the server's task, once for each request: it must be
    /// quick. Everybody may unless a provider says otherwise.
    fn allows(&self, _peer: SocketAddr) -> bool {
        true
    }

    /// A transfer that was opened has ended.
    fn finished(&self, report: &Report);

    /// A request was dropped because there is no place for it. Called by the server's task: it must be quick.
    fn dropped(&self, peer: SocketAddr, reason: Dropped);

    /// A packet came or is about to go: a request, an OACK, the first block, an ERROR of ours. Called before it is worked on: it
    /// must be quick. Nobody has to look.
    fn seen(&self, _packet: &Seen<'_>) {}
}

/// The listening socket, bound before there is a provider, so that a port that somebody holds is known early.
#[derive(Debug)]
pub struct Socket(Listener);

/// A server.
#[derive(Debug)]
pub struct Server<P> {
    listener: Listener,
    provider: Arc<P>,
    config: Config,
}

impl Socket {
    /// Binds the address of a configuration. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address is in use or may not be bound.
    pub fn bind(config: &Config) -> io::Result<Self> {
        Listener::bind(config.listen).map(Self)
    }

    /// The bound address.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl<P: Provider> Server<P> {
    /// A server of what `provider` has.
    #[must_use]
    pub fn new(config: Config, socket: Socket, provider: Arc<P>) -> Self {
        Self { listener: socket.0, provider, config }
    }

    /// Serves until `shutdown`, then waits for nothing: transfers under way end with it.
    ///
    /// # Panics
    ///
    /// Passes on the panic of a provider.
    pub async fn run(self, shutdown: CancellationToken) {
        let stop = shutdown.child_token();
        let Config { max_sessions, max_sessions_per_client, .. } = self.config;
        let mut table = Table::new(max_sessions, max_sessions_per_client, stop.clone());
        let mut tasks: JoinSet<(SocketAddr, u64)> = JoinSet::new();
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(task) = tasks.join_next() => {
                    if let Some((peer, id)) = ended(task) {
                        table.ended(peer, id);
                    }
                    continue;
                }
                Ok(closed) = self.listener.closed() => {
                    if let Some(peer) = closed {
                        table.packet(peer, Event::Unreachable);
                    }
                    continue;
                }
                received = self.listener.receive(&mut buffer) => received,
            };
            match received {
                Ok(datagram) => {
                    let bytes = buffer.get(..datagram.length).unwrap_or_default();
                    self.take(bytes, datagram, &mut table, &mut tasks).await;
                }
                // News of some client; of which one is told by the socket's error queue.
                Err(error) if is_report(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot receive TFTP requests");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
        stop.cancel();
        while let Some(task) = tasks.join_next().await {
            ended(task);
        }
    }

    /// Starts a transfer, or hands the packet to the one that it belongs to.
    async fn take(
        &self,
        bytes: &[u8],
        datagram: Datagram,
        table: &mut Table,
        tasks: &mut JoinSet<(SocketAddr, u64)>,
    ) {
        let (peer, single) = (datagram.peer, self.config.ports == Ports::Single);
        let packet = Packet::parse(bytes);
        // Both are answered, whoever really sent them.
        if matches!(packet, Ok(Packet::Read(_) | Packet::Write)) && !self.provider.allows(peer) {
            return self.provider.dropped(peer, Dropped::Rate);
        }
        let request = match packet {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write) => {
                let refusal = packet::error(ErrorCode::IllegalOperation, "This server is read-only");
                if let Err(error) = self.listener.send_to(&refusal, &datagram).await {
                    tracing::debug!(%peer, %error, "refusal not sent");
                }
                return;
            }
            Ok(Packet::Ack(block)) if single => return table.packet(peer, Event::Ack(block)),
            Ok(Packet::Error { code, message }) if single => {
                return table.packet(peer, Event::ClientError { code, message });
            }
            // The late packets of a transfer that is over. An answer could hit the next one from the same port.
            Ok(Packet::Ack(_) | Packet::Error { .. }) => return,
            Err(error) => {
                tracing::debug!(%peer, %error, "not a TFTP packet");
                return;
            }
        };
        let local = self.listener.end(datagram.local);
        let (name, length) = (request.name.as_str(), bytes.len());
        self.provider.seen(&Seen { way: Way::In, peer, local, name, bytes, length });
        match table.request(peer, &request, Instant::now()) {
            Admission::Repeat => {}
            Admission::Dropped(reason) => {
                tracing::debug!(%peer, ?reason, "TFTP request dropped");
                self.provider.dropped(peer, reason);
            }
            Admission::Admitted(admitted) => {
                let link = if single { Ok(self.listener.shared(&datagram)) } else { Link::own(&datagram) };
                let (provider, config, id) = (Arc::clone(&self.provider), self.config, admitted.id);
                tasks.spawn(async move {
                    let served = match link {
                        Ok(link) => serve(&*provider, config, (link, peer), request, admitted).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = served {
                        tracing::warn!(%peer, %error, "TFTP transfer not started");
                    }
                    (peer, id)
                });
            }
        }
    }
}

/// Which transfer a task was.
fn ended(task: Result<(SocketAddr, u64), JoinError>) -> Option<(SocketAddr, u64)> {
    match task {
        Ok(ended) => Some(ended),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// Opens the content and runs the transfer.
async fn serve<P: Provider>(
    provider: &P,
    config: Config,
    (link, peer): (Link, SocketAddr),
    request: Request,
    admitted: Admitted,
) -> io::Result<()> {
    let content = tokio::select! {
        () = admitted.stop.cancelled() => return Ok(()),
        content = provider.open(peer, &request) => content,
    };
    let content = match content {
        Ok(content) => content
            .in_mode(request.mode)
            .await
            .map_err(|error| Refusal { code: ErrorCode::Undefined, message: error.to_string() }),
        Err(refusal) => Err(refusal),
    };
    match content {
        Ok(content) => {
            let timing = Timing {
                timeout: config.timeout,
                patience: config.timeout.saturating_mul(config.retries.max(1)),
            };
            let session = Session::new(provider, (link, peer), &request, content, (config.limits, timing));
            provider.finished(&session.run(admitted).await);
        }
        Err(refusal) => {
            let bytes = packet::error(refusal.code, &refusal.message);
            let (local, name) = (link.local(), request.name.as_str());
            provider.seen(&Seen { way: Way::Out, peer, local, name, bytes: &bytes, length: bytes.len() });
            link.send(&bytes).await?;
        }
    }
    Ok(())
}
