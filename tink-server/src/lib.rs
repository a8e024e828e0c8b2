// SPDX-License-Identifier: Apache-2.0
//! The workflow daemon: turns Templates into actions, hands them to agents, and keeps what agents report.
//!
//! Two halves that meet in the Workflow's status and nowhere else: the controller (`controller`) renders, prepares
//! and cleans up; the gRPC endpoint (`grpc`) serves agents. Both decide with the pure functions of [`workflow`] and
//! write with optimistic concurrency, so that they, and several instances of them, cannot undo each other's work, and
//! a `kill -9` at any moment loses nothing that was answered.
//!
//! It powers nothing and writes no disk: BMC Jobs are rufio's work, actions are the agent's.

mod attributes;
pub mod config;
mod controller;
mod events;
mod grpc;
mod mirror;
pub mod program;
mod release;
mod store;
pub mod template;
pub mod token;
pub mod view;
pub mod workflow;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::token::TokenKey;
use daemon::Health;
use daemon::events::Recorder;
use daemon::leader::LeaderError;
use kube::Client;
use proto::agent::v1::agent_service_server::AgentServiceServer;
use proto::workflow::workflow_service_server::WorkflowServiceServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

pub use config::{Config, SETTINGS, TlsFiles};

use controller::WorkflowController;
use events::Events;
use grpc::Endpoint;
use token::{Guard, KeyError};

/// Name of this daemon: its section in the configuration and the component of its Events.
pub const NAME: &str = "tink-server";

/// How often a peer that says nothing is asked whether it is there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long connections may take to end at a shutdown. Agents are told to come back at once; a machine that lost its power
/// never answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// Calls at the same time over one connection; an agent needs two.
const STREAMS_PER_CONNECTION: u32 = 64;

/// Largest request, in bytes: an inventory is far smaller.
const LARGEST_REQUEST: usize = 1 << 20;

/// Pause between two tries to read the token key at start.
const KEY_PAUSE: Duration = Duration::from_secs(2);

/// Why the daemon ended. None is retried here: whoever started it decides.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken or not ours to take.
    #[error("cannot listen on {address} for agents")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A TLS file cannot be read.
    #[error("cannot read {path}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The endpoint could not be set up, or broke.
    #[error("the gRPC endpoint failed")]
    Serve(#[source] Box<tonic::transport::Error>),
    /// The reflection service could not be built.
    #[error("the gRPC descriptors are broken")]
    Reflection(#[source] Box<tonic_reflection::server::Error>),
    /// The token key is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A task of this daemon panicked.
    #[error("a task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Binds the configured address and runs until `shutdown`.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    config: Config,
    client: Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let address = config.bind;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
    run_on(listener, config, client, health, shutdown).await
}

/// Like [`run`], on a listener that is bound already.
///
/// # Errors
/// See [`Error`].
pub async fn run_on(
    listener: TcpListener,
    config: Config,
    client: Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let cache = health.latch("workflows", "the first list of Workflows");
    let serving = health.latch("grpc", "the gRPC endpoint");
    let tls = config.tls.as_ref().map(identity).transpose()?;
    let Some(key) = load_key(&client, &config.agent_token_namespace, &shutdown).await? else { return Ok(()) };

    let stop_recorder = CancellationToken::new();
    let (recorder, recorder_task) =
        Recorder::spawn(client.clone(), NAME, health.metrics(), stop_recorder.clone());
    let events = Events::new(recorder);
    let namespace = config.namespace.as_deref();
    let (workflows, writer) = kube::runtime::reflector::store();
    let (tell_listed, listed) = oneshot::channel();
    let all = daemon::watch::scoped(&client, namespace);
    let mirror = tokio::spawn(mirror::follow(all, writer, cache, tell_listed, shutdown.clone()));
    let controller = tokio::spawn(controllers(&config, &client, &health, &events, shutdown.clone()));
    let endpoint = Endpoint {
        client,
        workflows,
        guard: Arc::new(Guard::new(key, config.allow_legacy_agents)),
        events,
        namespace: config.namespace.clone(),
        shutdown: shutdown.clone(),
    };
    // Without the list, an agent would be told that it has no Workflow.
    let listed = tokio::select! {
        result = listed => result.is_ok(),
        () = shutdown.cancelled() => false,
    };
    let outcome = if listed {
        tracing::info!(address = ?listener.local_addr().ok(), tls = tls.is_some(), "serving agents");
        serving.set();
        serve(listener, endpoint, tls, shutdown.clone()).await
    } else {
        Ok(())
    };
    shutdown.cancel();
    mirror.await?;
    controller.await??;
    stop_recorder.cancel();
    recorder_task.await?;
    outcome
}

/// The controllers, while this process leads; when they end by themselves, so does everything else.
fn controllers(
    config: &Config,
    client: &Client,
    health: &Health,
    events: &Events,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<(), Error>> + use<> {
    let elected = health.latch("leader election", "a look at the Lease");
    let (config, client, health, events) = (config.clone(), client.clone(), health.clone(), events.clone());
    async move {
        let work = |stop: CancellationToken| {
            let ready = health.latch("controller", "the first list of Workflows");
            let namespace = config.namespace.as_deref();
            let controller = WorkflowController::new(&client, namespace, config.concurrency, events.clone());
            async move {
                controller.run(ready, stop).await;
                Ok::<_, Infallible>(())
            }
        };
        let race = (api::access::TINK_SERVER_LEASE, config.election.as_ref());
        let outcome = daemon::leader::run(client.clone(), race, elected, shutdown.clone(), work).await;
        shutdown.cancel();
        outcome.map_err(|error| match error {
            LeaderError::Work(never) => match never {},
            LeaderError::Task(error) => Error::Task(error),
        })
    }
}

fn identity(files: &TlsFiles) -> Result<Identity, Error> {
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|source| Error::TlsFile { path: path.clone(), source });
    Ok(Identity::from_pem(read(&files.certificate)?, read(&files.key)?))
}

/// The token key; waits for an API server that does not answer yet. Nothing when told to stop meanwhile.
async fn load_key(
    client: &Client,
    namespace: &str,
    shutdown: &CancellationToken,
) -> Result<Option<TokenKey>, Error> {
    loop {
        let error = match token::load_key(client, namespace).await {
            Ok(key) => return Ok(Some(key)),
            Err(KeyError::Kube { source, .. }) if !refused(&source) => source,
            Err(error) => return Err(error.into()),
        };
        tracing::warn!(error = %error, "waiting for the API server");
        tokio::select! {
            () = tokio::time::sleep(KEY_PAUSE) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}

/// Whether the API understood and said no; asking again would not help. A namespace that is not there yet may come.
fn refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403))
}

async fn serve(
    listener: TcpListener,
    endpoint: Endpoint,
    tls: Option<Identity>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let failed = |error| Error::Serve(Box::new(error));
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION));
    if let Some(identity) = tls {
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(failed)?;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
    };
    let broken = |error| Error::Reflection(Box::new(error));
    let agents = AgentServiceServer::new(endpoint.clone()).max_decoding_message_size(LARGEST_REQUEST);
    let workflows = WorkflowServiceServer::new(endpoint).max_decoding_message_size(LARGEST_REQUEST);
    let serving = server
        .add_service(workflows)
        .add_service(agents)
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.clone().cancelled_owned(),
        );
    let too_long = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        served = serving => served.map_err(failed),
        () = too_long => {
            tracing::info!("left connections whose peers answer nothing");
            Ok(())
        }
    }
}
