// SPDX-License-Identifier: Apache-2.0
//! The rim of a daemon's HTTP server: accepts connections, bounds them, and drains them at shutdown.
//!
//! Handlers find the peer's address as a [`Peer`] extension of the request, and the server's as [`Local`]. What they answer is their own business.

mod proxies;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub use proxies::{BadAddress, TrustedProxies};

use crate::tls::Identity;

/// The address that a request came from, as a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The address of this server that a request came to, as a request extension; missing when the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local(pub SocketAddr);

/// What one server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; the next ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at a time from one address, so that one client cannot take all; the next ones are closed at once.
    pub per_source: usize,
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
        Self {
            connections: 4096,
            per_source: 1024,
            head: seconds(30),
            stall: seconds(120),
            drain: seconds(10),
        }
    }
}

/// Pause after a failed accept (out of file descriptors), so that the error does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2 without TLS until `shutdown`, then drains.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    run(listener, None, router, limits, shutdown).await;
}

/// The same over TLS, each connection with the certificate that `identity` has when it begins.
pub async fn serve_tls(
    listener: TcpListener,
    identity: Arc<Identity>,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    run(listener, Some(identity), router, limits, shutdown).await;
}

async fn run(
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // GRUB (2.12, grub-core/net/http.c) knows `Content-Length` in this spelling only, and verifies no file whose length it does
    // not know: no kernel would start under Secure Boot.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).title_case_headers(true);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(limits.head);
    let builder = Arc::new(builder);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let sources = Sources::default();
    let graceful = GracefulShutdown::new();
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots, limits.stall) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let Some(place) = sources.enter(peer.ip(), limits.per_source) else {
            tracing::debug!(%peer, "a client has too many connections; this one is closed");
            continue;
        };
        let (router, local) = (router.clone(), stream.local_addr().ok().map(Local));
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            local.map(|local| request.extensions_mut().insert(local));
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let (builder, watcher, identity) = (Arc::clone(&builder), graceful.watcher(), identity.clone());
        let serving = async move {
            match identity {
                None => {
                    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                    watcher.watch(connection.into_owned()).await
                }
                Some(identity) => match handshake(stream, &identity, limits.head).await {
                    Ok(stream) => {
                        let connection =
                            builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                        watcher.watch(connection.into_owned()).await
                    }
                    Err(error) => Err(error.into()),
                },
            }
        };
        let cut = cut.clone();
        connections.spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(serving).await {
                tracing::debug!(%peer, error = %error, "connection ended early");
            }
            drop((slot, place));
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut at shutdown");
    }
    // What a connection holds is free when this returns: a client that is gone would keep it until the kernel gives up.
    cut.cancel();
    connections.close();
    connections.wait().await;
}

async fn handshake(
    stream: TcpStream,
    identity: &Identity,
    limit: Duration,
) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let acceptor = tokio_rustls::TlsAcceptor::from(identity.config());
    tokio::time::timeout(limit, acceptor.accept(stream)).await.map_err(std::io::Error::other)?
}

/// Connections by the address that they come from. Bounded by the connections that there are.
#[derive(Debug, Clone, Default)]
struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// Takes a place, unless `most` are taken.
    fn enter(&self, source: IpAddr, most: usize) -> Option<Place> {
        let source = source.to_canonical();
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place { sources: self.clone(), source })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Every change is one number, so that a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.sources.counts();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
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
    async fn a_client_that_reads_nothing_holds_nothing_after_the_drain() {
        let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(());
        let held = Arc::downgrade(&state);
        let router = Router::new().route(
            "/",
            get(move || std::future::ready(vec![u8::from(Arc::strong_count(&state) > 0); 64 << 20])),
        );
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        let mut stalled = TcpStream::connect(address).await.unwrap();
        stalled.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(stalled.read(&mut [0; 1]).await.unwrap(), 1, "the answer has begun");
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), server).await.expect("it is cut").unwrap();
        assert_eq!(held.strong_count(), 0, "no connection has the state of the handlers");
    }

    #[tokio::test]
    async fn one_client_cannot_take_every_connection() {
        let limits = Limits { per_source: 2, ..Limits::default() };
        let (address, _shutdown, _server) = start(limits).await;
        let ask = async |from: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            let mut client = socket.connect(address).await.unwrap();
            // A connection that is closed at once may be so before this is written.
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap_or_default();
            let mut buffer = vec![0; 1024];
            let read = client.read(&mut buffer).await.unwrap_or(0);
            (client, read > 0)
        };
        let (first, second) = (ask("127.0.0.1").await, ask("127.0.0.1").await);
        assert!(first.1 && second.1 && !ask("127.0.0.1").await.1);
        assert!(ask("127.0.0.2").await.1, "another client is served");
        drop(first);
        let begin = std::time::Instant::now();
        while !ask("127.0.0.1").await.1 {
            assert!(begin.elapsed() < Duration::from_secs(10), "the place came free");
        }
    }

    /// Requests over TLS until one is answered under this name; fails after ten seconds.
    async fn ask_tls(address: SocketAddr, certificate: &rcgen::Certificate) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(builder.with_no_client_auth()));
        let begin = std::time::Instant::now();
        loop {
            let stream = TcpStream::connect(address).await.unwrap();
            if let Ok(mut stream) = connector.connect("boots.test".try_into().unwrap(), stream).await {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "the certificate is used");
        }
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let write = || {
            let made = rcgen::generate_simple_self_signed(vec!["boots.test".to_owned()]).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            made.cert
        };
        let first = write();
        let identity = Arc::new(Identity::load(&certificate, &key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_tls(listener, identity, router, Limits::default(), shutdown.clone()));
        ask_tls(address, &first).await;
        std::fs::write(&certificate, "broken").unwrap();
        ask_tls(address, &first).await;
        let second = write();
        ask_tls(address, &second).await;
        shutdown.cancel();
        server.await.unwrap();
        std::fs::write(&key, "broken").unwrap();
        let error = Identity::load(&certificate, &key).unwrap_err().to_string();
        assert!(error.contains("tls.key") && error.contains("private key"), "{error}");
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
