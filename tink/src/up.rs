// SPDX-License-Identifier: Apache-2.0

//! `tink up`: the API server and all daemons in one process; and `tink api`, the server without them.
//!
//! Owns what lies between them: which ports are needed, the order of starting and draining. The daemons talk to the API
//! server in process, each with its own rights ([`api::access`]); everybody else over TLS.
//!
//! ```text
//! ports free? -> store open, CRDs installed -> TLS listener, kubeconfigs -> daemons -> (signal) daemons drain -> API closes
//! ```
//!
//! The demo, the tests and the command line call [`Stack`]. Nothing here decides anything about machines.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::access::Component;
use apiserver::{Server, pki};
use daemon::Health;
use kube::Client;
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

mod config;
pub(crate) mod ports;
mod serve;

pub use config::{AloneConfig, UpConfig, help, sample};
pub use ports::{Busy, Holder, Protocol};

use config::{ApiConfig, Part};
use ports::Listener;

/// How long the daemons may take to end their work after a signal.
const DRAIN: Duration = Duration::from_secs(25);

/// How long requests to the API may take to end after that.
const DRAIN_API: Duration = Duration::from_secs(7);

/// After which time of waiting for readiness it is said, again and again, what is waited for.
const READY_NOTICE: Duration = Duration::from_secs(10);

/// Why the stack could not start, or ended. None is retried: whoever started it decides.
#[derive(Debug, Error)]
pub enum UpError {
    /// Ports cannot be used; all of them are named.
    #[error("{}", lines(.0))]
    Ports(Vec<Busy>),
    /// The state directory or a file in it cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    State {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] apiserver::OpenError),
    /// The resource definitions cannot be installed.
    #[error(transparent)]
    Definitions(#[from] apiserver::InstallError),
    /// Certificates or kubeconfig cannot be made.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The API server's TLS does not work.
    #[error("the API server cannot serve TLS: {0}")]
    Tls(#[from] apiserver::ServeError),
    /// A port was taken between the check and its use, or a health port failed.
    #[error("cannot listen on {address} for {part}: {source}")]
    Bind {
        /// The part that wanted it.
        part: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A part ended by itself.
    #[error("{part}: {problem}")]
    Part {
        /// The part.
        part: &'static str,
        /// What it said.
        problem: String,
    },
    /// Parts did not end when they were asked to.
    #[error("still busy {} s after being asked to stop", DRAIN.as_secs())]
    Stuck,
}

fn lines(all: &[Busy]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

type Daemons = (Part<boots::Config>, Part<hegel::Config>, Part<rufio::Config>, Part<tink_server::Config>);

/// What a task of the stack ends with: which part it is, and what went wrong.
type Ended = (&'static str, Result<(), String>);

/// A running stack. Dropping it ends everything without waiting; [`Stack::run`] ends it cleanly.
pub struct Stack {
    server: Arc<Server>,
    kubeconfig: PathBuf,
    url: String,
    daemons: JoinSet<Ended>,
    stop_daemons: CancellationToken,
    rims: JoinSet<Ended>,
    stop_rims: CancellationToken,
    health: Vec<(&'static str, Health)>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("url", &self.url)
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// Opens the store, serves the API, and starts the daemons. They may not be ready yet: see [`Stack::ready`].
    ///
    /// # Errors
    ///
    /// See [`UpError`]; what was started is ended again.
    pub async fn start(config: UpConfig) -> Result<Self, UpError> {
        let UpConfig { state_dir, api, boots, hegel, rufio, tink_server, listeners, .. } = config;
        let mut stack = Self::serve(&state_dir, &api, &listeners).await?;
        stack.start_daemons((boots, hegel, rufio, tink_server)).await?;
        Ok(stack)
    }

    /// Opens the store and serves the API, for daemons that are programs of their own.
    ///
    /// # Errors
    ///
    /// See [`UpError`].
    pub async fn alone(config: AloneConfig) -> Result<Self, UpError> {
        Self::serve(&config.state_dir, &config.api, &config.listeners()).await
    }

    async fn serve(state_dir: &Path, config: &ApiConfig, listeners: &[Listener]) -> Result<Self, UpError> {
        daemon::install_crypto();
        let busy = ports::busy(listeners);
        if !busy.is_empty() {
            return Err(UpError::Ports(busy));
        }
        let served = serve::Served::open(state_dir, config).await?;
        let mut stack = Self {
            server: served.server.clone(),
            kubeconfig: served.kubeconfig,
            url: served.url,
            daemons: JoinSet::new(),
            stop_daemons: CancellationToken::new(),
            rims: JoinSet::new(),
            stop_rims: CancellationToken::new(),
            health: Vec::new(),
        };
        let (server, stop) = (stack.server.clone(), stack.stop_rims.clone());
        stack.rims.spawn(async move {
            ("API server", told(server.serve_tls(served.listener, served.tls, stop).await))
        });
        // The store is open and the listener is bound by now.
        stack.admin("api", config.health).await?.latch("serving", "the listener").set();
        Ok(stack)
    }

    async fn start_daemons(&mut self, (boots, hegel, rufio, tink_server): Daemons) -> Result<(), UpError> {
        let stop = self.stop_daemons.clone();
        let health = self.admin("tink-server", tink_server.health).await?;
        let client = self.client_of(Component::TinkServer);
        let run = tink_server::run(tink_server.config, client, health, stop.clone());
        self.daemons.spawn(async move { ("tink-server", told(run.await)) });
        let health = self.admin("rufio", rufio.health).await?;
        let run = rufio::run(rufio.config, self.client_of(Component::Rufio), health, stop.clone());
        self.daemons.spawn(async move { ("rufio", told(run.await)) });
        let health = self.admin("hegel", hegel.health).await?;
        let run = hegel::run(hegel.config, self.client_of(Component::Hegel), health, stop.clone());
        self.daemons.spawn(async move { ("hegel", told(run.await)) });
        let health = self.admin("boots", boots.health).await?;
        let run = boots::run(boots.config, self.client_of(Component::Boots), health, stop);
        self.daemons.spawn(async move { ("boots", told(run.await)) });
        Ok(())
    }

    /// A client in process with the rights of one daemon.
    fn client_of(&self, component: Component) -> Client {
        self.server.client_as(&component.user(), api::annotations::DEFAULT_NAMESPACE)
    }

    /// Makes the health of one part, and serves it where an address is given.
    async fn admin(&mut self, part: &'static str, address: Option<SocketAddr>) -> Result<Health, UpError> {
        let health = Health::new();
        if let Some(address) = address {
            let listener = bind(part, address).await?;
            let serving = daemon::admin::serve(listener, health.clone(), self.stop_rims.clone());
            self.rims.spawn(async move { (part, told(serving.await)) });
        }
        if part != "api" {
            self.health.push((part, health.clone()));
        }
        Ok(health)
    }

    /// A client of the API server, in process, that may do everything.
    #[must_use]
    pub fn client(&self) -> Client {
        self.server.client(api::annotations::DEFAULT_NAMESPACE)
    }

    /// The administrator's kubeconfig; those of the daemons lie beside it.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// URL of the API server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until every daemon is ready.
    ///
    /// # Errors
    ///
    /// When a part ends instead.
    pub async fn ready(&mut self) -> Result<(), UpError> {
        let parts: Vec<Health> = self.health.iter().map(|(_, health)| health.clone()).collect();
        let all = futures::future::join_all(parts.iter().map(Health::ready));
        tokio::pin!(all);
        loop {
            tokio::select! {
                _ = &mut all => return Ok(()),
                ended = next(&mut self.daemons) => return Err(unasked(ended)),
                ended = next(&mut self.rims) => return Err(unasked(ended)),
                () = tokio::time::sleep(READY_NOTICE) => {
                    tracing::warn!(waiting = self.waiting().join("; "), "not ready yet");
                }
            }
        }
    }

    /// What daemons still wait for.
    #[must_use]
    pub fn waiting(&self) -> Vec<String> {
        let all = self.health.iter();
        all.flat_map(|(part, health)| {
            health.waiting().into_iter().map(move |(latch, text)| format!("{part}: {latch} waits for {text}"))
        })
        .collect()
    }

    /// Runs until `shutdown` or until a part ends by itself, then drains: the daemons first, then the API, then the store.
    ///
    /// # Errors
    ///
    /// When a part failed or did not end in time.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), UpError> {
        let cause = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = next(&mut self.daemons) => Some(unasked(ended)),
            ended = next(&mut self.rims) => Some(unasked(ended)),
        };
        if let Some(error) = &cause {
            tracing::error!(%error, "stopping");
        }
        let drained = self.drain().await;
        cause.map_or(drained, Err)
    }

    async fn drain(&mut self) -> Result<(), UpError> {
        self.stop_daemons.cancel();
        let daemons = join(&mut self.daemons, DRAIN).await;
        self.stop_rims.cancel();
        let rims = join(&mut self.rims, DRAIN_API).await;
        self.server.close().await;
        daemons.and(rims)
    }
}

/// The next task that ends; never when there is none.
async fn next(tasks: &mut JoinSet<Ended>) -> Ended {
    match tasks.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(error)) => ("a task", Err(error.to_string())),
        None => std::future::pending().await,
    }
}

/// A part that ended without being asked to, as an error.
fn unasked((part, result): Ended) -> UpError {
    let problem = result.err().unwrap_or_else(|| "ended without being asked to".to_owned());
    UpError::Part { part, problem }
}

/// Joins all tasks; the first error is returned when all have ended.
async fn join(tasks: &mut JoinSet<Ended>, limit: Duration) -> Result<(), UpError> {
    let mut first = Ok(());
    let all = async {
        while !tasks.is_empty() {
            if let (part, Err(problem)) = next(tasks).await {
                tracing::error!(part, error = problem, "failed while stopping");
                first = std::mem::replace(&mut first, Ok(())).and(Err(UpError::Part { part, problem }));
            }
        }
    };
    if tokio::time::timeout(limit, all).await.is_err() {
        tasks.shutdown().await;
        return Err(UpError::Stuck);
    }
    first
}

fn told<E: std::error::Error>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| daemon::chain(&error))
}

async fn bind(part: &'static str, address: SocketAddr) -> Result<TcpListener, UpError> {
    TcpListener::bind(address).await.map_err(|source| UpError::Bind { part, address, source })
}
