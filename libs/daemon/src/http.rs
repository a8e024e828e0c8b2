// SPDX-License-Identifier: Apache-2.0
//! The rim of a daemon's HTTP server: accepts connections, bounds them, and drains them at shutdown.
//!
//! Handlers find the peer's address as a [`Peer`] extension of the request. What they answer is their own business.

mod proxies;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub use proxies::{BadAddress, TrustedProxies};

/// The address that a request came from, as a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What one server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; the next ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for a client to send the head of a request, also while a kept-alive connection idles; then it is closed.
    pub head: Duration,
    /// Time that a client may leave an answer unread without taking a byte of it; then the connection is reset. The kernel
    /// keeps it (TCP_USER_TIMEOUT, RFC 5482), so that a stalled client costs nothing but its slot until then.
    pub stall: Duration,
    /// Time for running requests to end after shutdown; then they are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connections: 4096, head: seconds(30), stall: seconds(120), drain: seconds(10) }
    }
}

/// Pause after a failed accept (out of file descriptors), so that the error does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2 without TLS until `shutdown`, then drains.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(limits.head);
    let builder = Arc::new(builder);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots, limits.stall) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let router = router.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        // The task ends with its connection, which the drain below waits for.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, error = %error, "connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut at shutdown");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stall: Duration,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are one small write each; a failure to set this only costs latency.
            stream.set_nodelay(true).unwrap_or_default();
            let milliseconds = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
            if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, milliseconds) {
                tracing::debug!(%peer, error = %error, "a stalled client will be waited for");
            }
            Some((stream, peer, slot))
        }
        Err(error) => {
            tracing::warn!(error = %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn start(limits: Limits) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|Extension(peer): Extension<Peer>| async move { peer.0.to_string() }));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        (address, shutdown, server)
    }

    #[tokio::test]
    async fn a_handler_learns_the_peer_and_shutdown_ends_idle_connections() {
        let (address, shutdown, server) = start(Limits::default()).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut buffer = vec![0; 1024];
        let read = client.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..read]).into_owned();
        assert!(answer.ends_with(&client.local_addr().unwrap().to_string()), "{answer}");
        shutdown.cancel();
        assert_eq!(client.read(&mut buffer).await.unwrap(), 0, "the idle connection is closed");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_gives_its_slot_back() {
        let limits = Limits { connections: 1, stall: Duration::from_millis(500), ..Limits::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "small" }))
            .route("/large", get(|| async { vec![0_u8; 64 << 20] }));
        let _server = tokio::spawn(serve(listener, router, limits, CancellationToken::new()));
        let mut stalled = TcpStream::connect(address).await.unwrap();
        stalled.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = second.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("the slot came free").unwrap();
        assert!(answer.ends_with("small"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_closed() {
        let limits = Limits { connections: 1, head: Duration::from_millis(50), ..Limits::default() };
        let (address, _shutdown, _server) = start(limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET").await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "the second waits for the only slot and gets it: {answer}"
        );
    }
}
