// SPDX-License-Identifier: Apache-2.0
//! The listening socket: takes requests, opens content, and runs one session per client port.
//!
//! One task owns the socket and the table of sessions. A request is opened in the session's task, so a slow provider
//! delays nobody else. The socket tells which local address was asked (IP_PKTINFO), and the answer comes from there.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::content::Content;
use crate::negotiate::Limits;
use crate::packet::{self, ErrorCode, Packet, Request};
use crate::session::{Report, Session, Timing};

/// The longest request that is read; RFC 2347 says 512, firmware sends less.
const MAX_REQUEST: usize = 2048;
/// An identical request from the same port that comes this long after the first one is a new transfer, not a repeat.
const REPEAT_WINDOW: Duration = Duration::from_secs(3);
/// A pause after a failure of the listening socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Settings of a server.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddrV4,
    /// The most that is granted in a negotiation.
    pub limits: Limits,
    /// The longest wait for one acknowledgement.
    pub timeout: Duration,
    /// The silence of a client is endured for this many times `timeout`.
    pub retries: u32,
    /// Transfers at once; a request beyond that is dropped and the client repeats it.
    pub max_sessions: usize,
    /// Transfers at once for one client address.
    pub max_sessions_per_client: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 69),
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

/// Who decides what is behind a name. A name is a key: it must never be opened as a path unchecked.
pub trait Provider: Send + Sync + 'static {
    /// The content for a request, or the error for the client.
    fn open(
        &self,
        peer: SocketAddrV4,
        request: &Request,
    ) -> impl Future<Output = Result<Content, Refusal>> + Send;

    /// A transfer that was opened has ended.
    fn finished(&self, report: &Report);
}

/// The listening socket, bound before there is a provider, so that a port that somebody holds is known early.
#[derive(Debug)]
pub struct Socket(UdpSocket);

/// A server.
#[derive(Debug)]
pub struct Server<P> {
    socket: UdpSocket,
    provider: Arc<P>,
    config: Config,
}

/// What the table knows of a running session.
struct Entry {
    request: Request,
    asked: Instant,
    repeats: mpsc::Sender<()>,
    stop: CancellationToken,
    id: u64,
}

/// A datagram on the listening socket.
struct Datagram {
    peer: SocketAddrV4,
    local: Ipv4Addr,
    length: usize,
}

impl Socket {
    /// Binds the address of a configuration. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address is in use or may not be bound.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(config.listen)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket.as_fd(), sockopt::Ipv4PacketInfo, &true)?;
        UdpSocket::from_std(socket).map(Self)
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
        Self { socket: socket.0, provider, config }
    }

    /// Serves until `shutdown`, then waits for nothing: transfers under way end with it.
    ///
    /// # Panics
    ///
    /// Passes on the panic of a provider.
    pub async fn run(self, shutdown: CancellationToken) {
        let stop = shutdown.child_token();
        let mut sessions: HashMap<SocketAddrV4, Entry> = HashMap::new();
        let mut tasks: JoinSet<(SocketAddrV4, u64)> = JoinSet::new();
        let mut next_id = 0u64;
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            let datagram = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    match ended {
                        Ok((peer, id)) => {
                            if sessions.get(&peer).is_some_and(|entry| entry.id == id) {
                                sessions.remove(&peer);
                            }
                        }
                        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                        Err(_) => {}
                    }
                    continue;
                }
                received = receive(&self.socket, &mut buffer) => match received {
                    Ok(datagram) => datagram,
                    Err(error) => {
                        tracing::warn!(%error, "cannot receive TFTP requests");
                        tokio::time::sleep(ERROR_PAUSE).await;
                        continue;
                    }
                },
            };
            let Some(request) = self.read(&buffer, &datagram).await else { continue };
            if repeats_or_replaces(&mut sessions, datagram.peer, &request)
                || !self.admits(&sessions, &datagram)
            {
                continue;
            }
            next_id += 1;
            let (repeats, repeated) = mpsc::channel(1);
            let entry = Entry {
                request: request.clone(),
                asked: Instant::now(),
                repeats,
                stop: stop.child_token(),
                id: next_id,
            };
            let id = next_id;
            let (provider, config, token) = (Arc::clone(&self.provider), self.config, entry.stop.clone());
            sessions.insert(datagram.peer, entry);
            tasks.spawn(async move {
                let peer = datagram.peer;
                if let Err(error) = serve(&*provider, config, &datagram, request, repeated, token).await {
                    tracing::warn!(%peer, %error, "TFTP transfer not started");
                }
                (peer, id)
            });
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }

    /// The read request in a datagram; others are answered or dropped here.
    async fn read(&self, buffer: &[u8], datagram: &Datagram) -> Option<Request> {
        let peer = datagram.peer;
        match Packet::parse(buffer.get(..datagram.length).unwrap_or_default()) {
            Ok(Packet::Read(request)) => Some(request),
            Ok(Packet::Write) => {
                let refusal = packet::error(ErrorCode::IllegalOperation, "This server is read-only");
                if let Err(error) = self.socket.send_to(&refusal, peer).await {
                    tracing::debug!(%peer, %error, "refusal not sent");
                }
                None
            }
            Ok(Packet::Ack(_) | Packet::Error { .. }) => None,
            Err(error) => {
                tracing::debug!(%peer, %error, "not a TFTP request");
                None
            }
        }
    }

    fn admits(&self, sessions: &HashMap<SocketAddrV4, Entry>, datagram: &Datagram) -> bool {
        let client = datagram.peer.ip();
        let full = sessions.len() >= self.config.max_sessions
            || sessions.keys().filter(|peer| peer.ip() == client).count()
                >= self.config.max_sessions_per_client;
        if full {
            tracing::warn!(peer = %datagram.peer, "too many TFTP transfers, request dropped");
        }
        !full
    }
}

/// Whether the request belongs to a running session. A different request from the same port ends that session.
fn repeats_or_replaces(
    sessions: &mut HashMap<SocketAddrV4, Entry>,
    peer: SocketAddrV4,
    request: &Request,
) -> bool {
    let Some(entry) = sessions.get(&peer) else { return false };
    let again = entry.request == *request && entry.asked.elapsed() < REPEAT_WINDOW;
    if again && !entry.repeats.is_closed() {
        // A full channel means that a repeat is already under way.
        if entry.repeats.try_send(()).is_err() {
            tracing::trace!(%peer, "request repeated while it is being answered");
        }
        return true;
    }
    entry.stop.cancel();
    sessions.remove(&peer);
    false
}

/// Opens the content and runs the transfer.
async fn serve<P: Provider>(
    provider: &P,
    config: Config,
    datagram: &Datagram,
    request: Request,
    repeats: mpsc::Receiver<()>,
    stop: CancellationToken,
) -> io::Result<()> {
    let peer = datagram.peer;
    let socket = UdpSocket::bind(SocketAddrV4::new(datagram.local, 0)).await?;
    socket.connect(peer).await?;
    let content = tokio::select! {
        () = stop.cancelled() => return Ok(()),
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
            let session = Session::new(socket, peer, &request, content, (config.limits, timing));
            provider.finished(&session.run(repeats, stop).await);
        }
        Err(refusal) => {
            socket.send(&packet::error(refusal.code, &refusal.message)).await?;
        }
    }
    Ok(())
}

/// The next datagram, with the local address that it was sent to.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    socket
        .async_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(nix::libc::in_pktinfo);
            let message =
                recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
            let peer = message.address.ok_or(io::ErrorKind::InvalidData)?;
            let local = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
                }
                _ => None,
            });
            Ok(Datagram {
                peer: SocketAddrV4::new(peer.ip(), peer.port()),
                local: local.unwrap_or(Ipv4Addr::UNSPECIFIED),
                length: message.bytes,
            })
        })
        .await
}
