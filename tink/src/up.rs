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
//! The daemons run only while the journal of this API server says that it owns the machines (`duty`); the API is served all the time.
//!
//! The demo, the tests and the command line call [`Stack`]. Nothing here decides anything about machines.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::{
    access::Component,
    ownership::{Journal, JournalError},
};
use apiserver::{Server, access::Writes, pki};
use daemon::Health;
use kube::Client;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::handover::Leaders;

mod config;
mod duty;
pub(crate) mod ports;
pub(crate) mod serve;

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
    /// Who owns the machines cannot be read from our own server.
    #[error("it cannot be read who owns the machines: {}", daemon::chain(.0))]
    Journal(#[source] Box<kube::Error>),
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

/// What the daemons are started with, each time that they are.
type Daemons = (Part<boots::Config>, Part<hegel::Config>, Part<rufio::Config>, Part<tink_server::Config>);

/// What a task of the stack ends with: which part it is, and what went wrong.
type Ended = (&'static str, Result<(), String>);

/// A running stack. Dropping it ends everything without waiting; [`Stack::run`] ends it cleanly.
pub struct Stack {
    server: Arc<Server>,
    kubeconfig: PathBuf,
    url: String,
    /// None where the daemons are programs of their own.
    daemons: Option<Daemons>,
    /// The daemons that run: none while the machines are not ours.
    term: Option<Term>,
    rims: JoinSet<Ended>,
    stop_rims: CancellationToken,
    journal: watch::Receiver<Result<Journal, JournalError>>,
    /// Set while it is still to be said that nobody acts here any more.
    leaving: Option<Leaving>,
}

/// Daemons were told to stop, and it was not yet said that they have.
struct Leaving {
    /// When it is looked whether that can be said.
    at: Instant,
    /// Those that are programs of their own.
    leaders: Leaders,
    /// What was told to be waited for.
    told: Option<String>,
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
        Self::serve(&state_dir, &api, &listeners, Some((boots, hegel, rufio, tink_server))).await
    }

    /// Opens the store and serves the API, for daemons that are programs of their own.
    ///
    /// # Errors
    ///
    /// See [`UpError`].
    pub async fn alone(config: AloneConfig) -> Result<Self, UpError> {
        Self::serve(&config.state_dir, &config.api, &config.listeners(), None).await
    }

    async fn serve(
        state_dir: &Path,
        config: &ApiConfig,
        listeners: &[Listener],
        daemons: Option<Daemons>,
    ) -> Result<Self, UpError> {
        daemon::install_crypto();
        let busy = ports::busy(listeners);
        if !busy.is_empty() {
            return Err(UpError::Ports(busy));
        }
        let served = serve::Served::open(state_dir, config).await?;
        let (server, mut rims, stop_rims) = (served.server, JoinSet::new(), CancellationToken::new());
        // Before anybody else can write: an account that may not must not even begin to.
        let client = server.client(api::annotations::SYSTEM_NAMESPACE);
        let (journal, watching) = duty::watch(client, stop_rims.clone()).await?;
        if !acts(&journal.borrow()) {
            server.set_writes(Writes::Suspended);
        }
        rims.spawn(async move {
            watching.await;
            ("journal", Ok(()))
        });
        let (serving, stop) = (Arc::clone(&server), stop_rims.clone());
        rims.spawn(async move {
            ("API server", told(serving.serve_tls(served.listener, served.tls, stop).await))
        });
        if let Some(address) = config.health {
            let health = Health::new();
            // The store is open and the listener is bound by now.
            health.latch("serving", "the listener").set();
            serve_health("api", address, health, (&mut rims, &stop_rims)).await?;
        }
        let (kubeconfig, url) = (served.kubeconfig, served.url);
        let mut stack =
            Self { server, kubeconfig, url, daemons, term: None, rims, stop_rims, journal, leaving: None };
        stack.follow().await?;
        Ok(stack)
    }

    /// Lets the daemons run, or not, as the journal says.
    async fn follow(&mut self) -> Result<(), UpError> {
        let journal = self.journal.borrow_and_update().clone();
        self.leaving = None;
        if acts(&journal) {
            self.server.set_writes(Writes::Allowed);
            if let (None, Some(daemons)) = (&self.term, &self.daemons) {
                self.term = Some(Term::start(&self.server, daemons.clone()).await?);
            }
            return Ok(());
        }
        match &journal {
            Ok(journal) => {
                let peer = journal.of.as_ref().map_or("", |of| of.peer.url.as_str());
                tracing::warn!(
                    state = journal.state.word(),
                    peer,
                    "the machines are not owned here; no daemon acts"
                );
            }
            Err(error) => tracing::error!(%error, "it cannot be told who owns the machines; no daemon acts"),
        }
        // They may still write what they have done.
        if let Some(term) = self.term.take()
            && let Err(error) = term.end().await
        {
            tracing::error!(%error, "a daemon did not stop well");
        }
        if matches!(&journal, Ok(journal) if journal.state.stopped().is_some()) {
            // Daemons that are programs of their own hear of it as we did.
            let heard = if self.daemons.is_some() { Duration::ZERO } else { duty::HEARD };
            let leaders = Leaders::of(&self.server.client(api::annotations::SYSTEM_NAMESPACE));
            self.leaving = Some(Leaving { at: Instant::now() + heard, leaders, told: None });
        } else {
            self.server.set_writes(Writes::Suspended);
        }
        Ok(())
    }

    /// Says that nobody acts here any more; tried again while somebody does, or it cannot be written.
    async fn let_go(&mut self) {
        let Some(mut leaving) = self.leaving.take() else { return };
        let waits = match self.say_stopped(&mut leaving.leaders).await {
            Ok(None) => return,
            Ok(Some(reason)) => reason,
            Err(error) => daemon::chain(&error),
        };
        if leaving.told.as_ref() != Some(&waits) {
            tracing::warn!(waits, "cannot say yet that the daemons have stopped");
            leaving.told = Some(waits);
        }
        leaving.at = Instant::now() + duty::AGAIN;
        self.leaving = Some(leaving);
    }

    /// Gives what is to be waited for, if there is anything.
    async fn say_stopped(&self, leaders: &mut Leaders) -> Result<Option<String>, kube::Error> {
        // Those in this process have ended.
        if self.daemons.is_none()
            && let Some(reason) = leaders.waited_for().await?
        {
            return Ok(Some(reason));
        }
        self.server.set_writes(Writes::Suspended);
        if tokio::time::timeout(DRAIN_API, self.server.writes_ended()).await.is_err() {
            return Ok(Some("requests that write to end".to_owned()));
        }
        let client = self.server.client(api::annotations::SYSTEM_NAMESPACE);
        duty::say_stopped(&client).await.map(|()| None)
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

    /// Waits until every daemon is ready that is to run.
    ///
    /// # Errors
    ///
    /// When a part ends instead.
    pub async fn ready(&mut self) -> Result<(), UpError> {
        loop {
            let parts: Vec<Health> = self.term.iter().flat_map(Term::health).collect();
            tokio::select! {
                _ = futures::future::join_all(parts.iter().map(Health::ready)) => return Ok(()),
                ended = ended(&mut self.term) => return Err(unasked(ended)),
                ended = next(&mut self.rims) => return Err(unasked(ended)),
                changed = self.journal.changed() => self.heard(changed).await?,
                () = at(self.leaving.as_ref()) => self.let_go().await,
                () = tokio::time::sleep(READY_NOTICE) => {
                    tracing::warn!(waiting = self.waiting().join("; "), "not ready yet");
                }
            }
        }
    }

    /// What daemons still wait for.
    #[must_use]
    pub fn waiting(&self) -> Vec<String> {
        self.term.iter().flat_map(Term::waiting).collect()
    }

    /// Runs until `shutdown` or until a part ends by itself, then drains: the daemons first, then the API, then the store.
    ///
    /// # Errors
    ///
    /// When a part failed or did not end in time.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), UpError> {
        let cause = loop {
            let step = tokio::select! {
                () = shutdown.cancelled() => break None,
                ended = ended(&mut self.term) => Err(unasked(ended)),
                ended = next(&mut self.rims) => Err(unasked(ended)),
                changed = self.journal.changed() => self.heard(changed).await,
                () = at(self.leaving.as_ref()) => {
                    self.let_go().await;
                    Ok(())
                }
            };
            if let Err(error) = step {
                break Some(error);
            }
        };
        if let Some(error) = &cause {
            tracing::error!(%error, "stopping");
        }
        let drained = self.drain().await;
        cause.map_or(drained, Err)
    }

    async fn heard(&mut self, changed: Result<(), watch::error::RecvError>) -> Result<(), UpError> {
        match changed {
            Ok(()) => self.follow().await,
            // Whoever watches has ended, which is told as the end of its task.
            Err(_) => std::future::pending().await,
        }
    }

    async fn drain(&mut self) -> Result<(), UpError> {
        let daemons = match self.term.take() {
            Some(term) => term.end().await,
            None => Ok(()),
        };
        self.stop_rims.cancel();
        let rims = join(&mut self.rims, DRAIN_API).await;
        self.server.close().await;
        daemons.and(rims)
    }
}

/// The daemons from one start to their end, with their health ports. Dropping it ends them without waiting.
struct Term {
    daemons: JoinSet<Ended>,
    stop: CancellationToken,
    rims: JoinSet<Ended>,
    stop_rims: CancellationToken,
    health: Vec<(&'static str, Health)>,
}

impl Term {
    async fn start(server: &Server, (boots, hegel, rufio, tink_server): Daemons) -> Result<Self, UpError> {
        let mut term = Self {
            daemons: JoinSet::new(),
            stop: CancellationToken::new(),
            rims: JoinSet::new(),
            stop_rims: CancellationToken::new(),
            health: Vec::new(),
        };
        // A client in process with the rights of one daemon.
        let client =
            |component: Component| server.client_as(&component.user(), api::annotations::DEFAULT_NAMESPACE);
        let stop = term.stop.clone();
        let health = term.admin("tink-server", tink_server.health).await?;
        let run = tink_server::run(tink_server.config, client(Component::TinkServer), health, stop.clone());
        term.daemons.spawn(async move { ("tink-server", told(run.await)) });
        let health = term.admin("rufio", rufio.health).await?;
        let run = rufio::run(rufio.config, client(Component::Rufio), health, stop.clone());
        term.daemons.spawn(async move { ("rufio", told(run.await)) });
        let health = term.admin("hegel", hegel.health).await?;
        let run = hegel::run(hegel.config, client(Component::Hegel), health, stop.clone());
        term.daemons.spawn(async move { ("hegel", told(run.await)) });
        let health = term.admin("boots", boots.health).await?;
        let run = boots::run(boots.config, client(Component::Boots), health, stop);
        term.daemons.spawn(async move { ("boots", told(run.await)) });
        Ok(term)
    }

    /// Makes the health of one part, and serves it where an address is given.
    async fn admin(&mut self, part: &'static str, address: Option<SocketAddr>) -> Result<Health, UpError> {
        let health = Health::new();
        if let Some(address) = address {
            serve_health(part, address, health.clone(), (&mut self.rims, &self.stop_rims)).await?;
        }
        self.health.push((part, health.clone()));
        Ok(health)
    }

    fn health(&self) -> impl Iterator<Item = Health> {
        self.health.iter().map(|(_, health)| health.clone())
    }

    fn waiting(&self) -> impl Iterator<Item = String> {
        self.health.iter().flat_map(|(part, health)| {
            health.waiting().into_iter().map(move |(latch, text)| format!("{part}: {latch} waits for {text}"))
        })
    }

    /// Asks the daemons to end, and waits until they have; whatever is left is ended.
    async fn end(mut self) -> Result<(), UpError> {
        self.stop.cancel();
        let daemons = join(&mut self.daemons, DRAIN).await;
        self.stop_rims.cancel();
        daemons.and(join(&mut self.rims, DRAIN_API).await)
    }
}

fn acts(journal: &Result<Journal, JournalError>) -> bool {
    matches!(journal, Ok(journal) if journal.acts())
}

/// Serves the health of a part until the token ends it.
async fn serve_health(
    part: &'static str,
    address: SocketAddr,
    health: Health,
    (rims, stop): (&mut JoinSet<Ended>, &CancellationToken),
) -> Result<(), UpError> {
    let serving = daemon::admin::serve(bind(part, address).await?, health, stop.clone());
    rims.spawn(async move { (part, told(serving.await)) });
    Ok(())
}

/// The next part of a term that ends; never when none runs.
async fn ended(term: &mut Option<Term>) -> Ended {
    match term {
        Some(Term { daemons, rims, .. }) => tokio::select! {
            ended = next(daemons) => ended,
            ended = next(rims) => ended,
        },
        None => std::future::pending().await,
    }
}

/// Done when it is to be looked, or never.
async fn at(leaving: Option<&Leaving>) {
    match leaving {
        Some(leaving) => tokio::time::sleep_until(leaving.at).await,
        None => std::future::pending().await,
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
