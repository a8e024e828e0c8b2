// SPDX-License-Identifier: Apache-2.0

//! The API over TLS: HTTP/1.1 and HTTP/2, authenticated by bearer tokens, each of one user.
//!
//! ```text
//! accept -> handshake (deadline) -> requests, each with a token -> drain on shutdown (deadline)
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::Account;
use crate::body::Answer;
use crate::front::{self, Credentials};
use crate::handlers;
use crate::inner::{ADMIN, Inner};
use crate::pki::{Identity, Token};
use crate::server::Server;
use crate::status::ApiError;

/// Open connections; further ones wait to be accepted.
const CONNECTIONS: usize = 1024;
/// Time for a handshake or the header of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for running requests to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Between probes of a silent HTTP/2 connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection: watches of a whole controller manager fit.
const STREAMS: u32 = 1000;

/// Why serving ended or could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate or key cannot be used. Not retried.
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// The listener broke. Not retried.
    #[error("accept: {0}")]
    Accept(std::io::Error),
    /// A connection's task panicked: a bug.
    #[error("a connection panicked: {0}")]
    Panicked(tokio::task::JoinError),
}

/// What the listener needs: certificate, key and the tokens it lets in.
pub struct Tls {
    config: Arc<rustls::ServerConfig>,
    credentials: Credentials,
}

impl Tls {
    /// From the server's identity; its token is the administrator's.
    ///
    /// # Errors
    /// [`ServeError::Tls`] when key and certificate do not fit together.
    pub fn new(identity: &Identity) -> Result<Self, ServeError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut credentials = Credentials::default();
        credentials.add(identity.token().clone(), ADMIN.to_owned());
        credentials.sign_with(identity.signer());
        Ok(Self { config: Arc::new(config), credentials })
    }

    /// Lets the bearer of `token` in as the user of this name; what they may do is in [`crate::Options::accounts`].
    #[must_use]
    pub fn admit(mut self, token: &Token, user: &str) -> Self {
        self.credentials.add(token.clone(), user.to_owned());
        self
    }
}

struct Gate {
    inner: Arc<Inner>,
    credentials: Credentials,
    stop: CancellationToken,
}

impl Server {
    /// Serves the API on `listener` until `shutdown`, then lets running requests end (watches end at once).
    ///
    /// # Errors
    /// [`ServeError`] when the listener breaks or a request panics.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        tls: Tls,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let acceptor = TlsAcceptor::from(tls.config);
        // Ends when either the listener or the server is told to stop.
        let stop = self.inner.shutdown.child_token();
        let gate = Arc::new(Gate {
            inner: Arc::clone(&self.inner),
            credentials: tls.credentials,
            stop: stop.clone(),
        });
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let ended = loop {
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                () = stop.cancelled() => break Ok(()),
                Some(joined) = connections.join_next() => {
                    if let Err(error) = joined {
                        break Err(ServeError::Panicked(error));
                    }
                }
                accepted = accept(&listener, &room) => match accepted {
                    Ok((stream, peer, permit)) => {
                        let (gate, acceptor) = (Arc::clone(&gate), acceptor.clone());
                        connections.spawn(async move {
                            connection(gate, acceptor, stream, peer).await;
                            drop(permit);
                        });
                    }
                    Err(error) => break Err(ServeError::Accept(error)),
                },
            }
        };
        stop.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
        ended
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Result<Accepted, std::io::Error> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, peer, permit)),
            // The peer's fault, or a shortage of descriptors that passes (EMFILE 24, ENFILE 23).
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(23 | 24))
}

async fn connection(gate: Arc<Gate>, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    let tuned = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = match (tuned, handshake) {
        (Ok(()), Ok(Ok(stream))) => stream,
        (Err(error), _) | (_, Ok(Err(error))) => {
            tracing::debug!(%peer, %error, "connection failed");
            return;
        }
        (_, Err(_)) => {
            tracing::debug!(%peer, "handshake timed out");
            return;
        }
    };
    let stop = gate.stop.clone();
    let service = hyper::service::service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, std::convert::Infallible>(gate.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).max_concurrent_streams(STREAMS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, error, "connection ended");
    }
}

impl Gate {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let Some(account) = self.authenticate(&request) else {
            return handlers::refuse(&request.into_parts().0, &ApiError::unauthorized());
        };
        let inner = Arc::clone(&self.inner);
        front::answer(inner, account, &self.credentials, &self.stop, request.into_parts()).await
    }

    /// Who asks: without a token nobody in particular, who may ask for next to nothing.
    fn authenticate(&self, request: &Request<Incoming>) -> Option<Arc<Account>> {
        let Some(presented) = request.headers().get(header::AUTHORIZATION) else {
            return Some(Arc::new(Account::anonymous()));
        };
        let (scheme, token) = presented.as_bytes().split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        self.credentials.account(&self.inner, token.trim_ascii(), &[])
    }
}
