// SPDX-License-Identifier: Apache-2.0
//! A BMC that speaks Redfish (DSP0266) over HTTPS: a TLS listener around `service::Service`.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | routing, accounts, sessions, preconditions: no socket, no clock |
//! | [`resources`] | the documents |
//! | [`patch`] | what may be written to a system, and which property is wrong |
//! | [`problem`] | error bodies |

pub mod patch;
pub mod problem;
pub mod resources;
pub mod service;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use self::problem::Problem;
use self::service::{Effect, Service, View};
use super::power::{PowerButton, Refused};
use super::{Account, Behaviour, BootWrites};
use crate::chassis::Chassis;

/// Connections at once; the next one waits in the listener's backlog, as a small BMC makes it wait.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take for its TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest request body; a larger one gets 413.
const MAX_BODY: usize = 64 * 1024;
/// How much of a body that is too large is read and dropped before the answer: to close a connection with bytes unread is to
/// reset it, and the client may never see the 413.
const MAX_DROPPED: usize = 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A bound Redfish BMC.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    acceptor: TlsAcceptor,
    certificate: String,
    shared: Arc<Shared>,
}

struct Shared {
    chassis: Arc<dyn Chassis>,
    behaviour: Behaviour,
    power: PowerButton,
    service: Mutex<Service>,
}

impl Server {
    /// Makes a certificate for `addr` and binds the listener.
    ///
    /// # Errors
    /// What `bind` says, or why no certificate could be made.
    pub async fn bind(
        addr: SocketAddr,
        account: Account,
        chassis: Arc<dyn Chassis>,
        behaviour: Behaviour,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let identity = chassis.identity();
        let (acceptor, certificate) = tls(addr, &identity.name).map_err(io::Error::other)?;
        let service = Mutex::new(Service::new(account, identity, StdRng::from_os_rng()));
        let power = PowerButton::new(Arc::clone(&chassis), behaviour.power_lag);
        let shared = Arc::new(Shared { chassis, behaviour, power, service });
        Ok(Self { listener, addr, acceptor, certificate, shared })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Answers until `shutdown`; connections that are open then are cut.
    pub async fn run(self, shutdown: CancellationToken) {
        info!(addr = %self.addr, machine = self.shared.chassis.identity().name, "redfish bmc listens");
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(ended) = connections.join_next() => {
                    if let Err(failure) = ended {
                        error!(addr = %self.addr, error = %failure, "connection task failed");
                    }
                }
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, peer)) => {
                        let (acceptor, shared) = (self.acceptor.clone(), Arc::clone(&self.shared));
                        connections.spawn(async move {
                            if let Err(error) = converse(acceptor, stream, shared).await {
                                debug!(%peer, %error, "connection ended");
                            }
                        });
                    }
                    Err(error) => {
                        debug!(addr = %self.addr, %error, "accept failed");
                        // Out of file descriptors: give connections a moment to end.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
        let (head, body) = request.into_parts();
        let Some(body) = read(body).await? else {
            return Ok(Problem::too_large().into_response().map(Full::new));
        };
        tokio::time::sleep(self.behaviour.latency).await;
        let (power, boot_override) = (self.power.reported(), self.chassis.boot_override());
        let view = View { power, boot_override, media: self.chassis.media() };
        let now = Instant::now().into_std();
        // A panic elsewhere cannot leave half a change: the service changes one table entry per request.
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Request::from_parts(head, body);
        let response = service.respond(&request, &view, now, &mut |effect| self.perform(effect));
        Ok(response.map(Full::new))
    }

    fn perform(&self, effect: Effect) -> Result<(), Refused> {
        match effect {
            Effect::Power(action) => self.power.press(action),
            Effect::Boot(boot_override) => {
                if self.behaviour.boot_writes == BootWrites::Kept {
                    self.chassis.set_boot_override(boot_override);
                }
                Ok(())
            }
            Effect::Media(url) => {
                self.chassis.set_media(url);
                Ok(())
            }
        }
    }
}

/// Reads a whole body; none if it is longer than [`MAX_BODY`].
async fn read(mut body: Incoming) -> Result<Option<Bytes>, BoxError> {
    match Limited::new(&mut body, MAX_BODY).collect().await {
        Ok(collected) => Ok(Some(collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            let mut rest = Limited::new(body, MAX_DROPPED);
            while let Some(Ok(_)) = rest.frame().await {}
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn converse(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    shared: Arc<Shared>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
    let service = service_fn(move |request| Arc::clone(&shared).answer(request));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// A certificate that nobody vouches for, as BMCs have it from the factory.
fn tls(
    addr: SocketAddr,
    name: &str,
) -> Result<(TlsAcceptor, String), Box<dyn std::error::Error + Send + Sync>> {
    let names = vec![addr.ip().to_string(), name.to_owned()];
    let own = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), own.cert.pem()))
}
