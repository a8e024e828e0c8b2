// SPDX-License-Identifier: Apache-2.0
//! The network-boot daemon: takes a machine from DHCP over its boot program and script to kernel and initramfs.
//!
//! The floor plan. Pure: `machine` (a Hardware as boot sees it), `session` (how far each boot is), `script`,
//! `dhcp::decide`, `dhcp::bootfile`, `dhcp::address`, the index in `backend`. Rim: `dhcp::listener`, `tftp`, `http`, `syslog`,
//! `logs`, `backend::watch`, `token`, `files`. `journal` is where all of them say what they saw. State of record is read from the
//! API; nothing but Events and the token key is ever written there, and no packet waits for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::Health;
use daemon::events::Recorder;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod access;
mod backend;
mod config;
mod dhcp;
mod files;
mod http;
mod journal;
mod limit;
mod logs;
mod machine;
mod metrics;
mod script;
mod scripts;
mod session;
mod syslog;
mod tftp;
mod token;

pub use access::{ACCESS_FILE, AccessFile, HttpToken};
pub use config::{
    Config, DhcpConfig, DhcpMode, MacFormat, Pool, SETTINGS, ScriptConfig, ServerAddress, SyslogConfig, Urls,
};
pub use files::FilesError;
pub use logs::{LogLine, LogsConfig};

use backend::watch::Backend;
use files::{Directory, Programs};
use journal::Journal;
use scripts::Scripts;

/// How long downloads under way may go on after shutdown. A client that is cut off repeats or resumes.
const DRAIN: Duration = Duration::from_secs(3);

/// Why the daemon could not start. Nothing of it is retried.
#[derive(Debug, Error)]
pub enum Error {
    /// Boot programs or HookOS are missing.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The state directory cannot be used.
    #[error("{} cannot be used", path.display())]
    State {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket cannot be bound.
    #[error("cannot listen on {address} for {service}")]
    Bind {
        /// What for.
        service: &'static str,
        /// The address from the configuration.
        address: SocketAddr,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// Runs until `shutdown`. Sockets are bound first, so that a port somebody holds is an error at once; they are answered when
/// machines, Workflows and the token key are known.
///
/// # Errors
///
/// When files are missing or a socket cannot be bound.
pub async fn run(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let programs = Programs::read(&config)?;
    files::check_hook(&config)?;
    let latches = (health.latch("hardware", "the first list"), health.latch("workflows", "the first list"));
    let key_latch = health.latch("agent token key", "its Secret");
    let sockets = health.latch("sockets", "DHCP, TFTP, syslog and HTTP");

    let metrics = metrics::Metrics::register(health.metrics());
    let (recorder, recorder_task) =
        Recorder::spawn(client.clone(), "boots", health.metrics(), shutdown.clone());
    let journal = Journal::new(recorder, metrics.clone());
    let (backend, watches) =
        Backend::spawn(&client, config.namespace.as_deref(), latches, &metrics, &shutdown);
    let mut tasks = JoinSet::new();
    for task in watches.into_iter().chain([recorder_task]) {
        tasks.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task ended badly");
            }
        });
    }

    let started = serve(&config, client, (programs, backend, journal), (key_latch, sockets), &shutdown);
    let outcome = match started.await {
        Ok(mut servers) => {
            while servers.join_next().await.is_some() {}
            Ok(())
        }
        Err(error) => {
            shutdown.cancel();
            Err(error)
        }
    };
    while tasks.join_next().await.is_some() {}
    outcome
}

/// Binds all sockets, waits for what is needed to answer, and starts the servers.
async fn serve(
    config: &Config,
    client: kube::Client,
    (programs, backend, journal): (Programs, Backend, Journal),
    (key_latch, sockets): (daemon::Latch, daemon::Latch),
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>, Error> {
    let http_listener = TcpListener::bind(config.http).await;
    let http_listener =
        http_listener.map_err(|source| Error::Bind { service: "HTTP", address: config.http, source })?;
    let dhcp_listener = match &config.dhcp {
        None => None,
        Some(dhcp) => Some(
            dhcp::listener::Listener::bind(
                dhcp.clone(),
                config.urls.clone(),
                config.programs.clone(),
                (backend.clone(), journal.clone()),
            )
            .map_err(|source| Error::Bind {
                service: "DHCP",
                address: dhcp.listen.into(),
                source,
            })?,
        ),
    };
    let tftp_socket = match config.tftp {
        None => None,
        Some(tftp) => Some((
            tftp,
            ::tftp::Socket::bind(&tftp).map_err(|source| Error::Bind {
                service: "TFTP",
                address: tftp.listen,
                source,
            })?,
        )),
    };
    let mut servers = JoinSet::new();
    let logs = log_server(config, (&backend, &journal), &mut servers, shutdown)?;
    sockets.set();

    let Some(key) = token::key(client, &config.token_namespace, shutdown).await else { return Ok(servers) };
    key_latch.set();
    tokio::select! {
        () = backend.synced() => {}
        () = shutdown.cancelled() => return Ok(servers),
    }

    let scripts = Scripts {
        backend,
        config: Arc::new(config.script.clone()),
        urls: Arc::new(config.urls.clone()),
        key,
        journal,
        strangers: config.dhcp.as_ref().is_some_and(|dhcp| dhcp.mode == DhcpMode::AutoProxy),
    };
    if let Some((tftp_config, socket)) = tftp_socket {
        let files = tftp::Files { programs: programs.clone(), scripts: scripts.clone() };
        let server = ::tftp::Server::new(tftp_config, socket, Arc::new(files));
        servers.spawn(server.run(shutdown.clone()));
    }
    if let Some(listener) = dhcp_listener {
        servers.spawn(listener.run(shutdown.clone()));
    }
    let router = http::router(http::Server {
        scripts,
        programs,
        hook: config.hook_dir.as_deref().map(Directory::new),
        images: config.images_dir.as_deref().map(Directory::new),
        trusted_proxies: config.trusted_proxies.clone(),
        logs,
        serves: http::Serves { programs: config.http_programs, scripts: config.http_scripts },
    });
    tracing::info!(http = %config.http, dhcp = config.dhcp.is_some(), tftp = config.tftp.is_some(), "network boot serves");
    let limits = daemon::http::Limits { drain: DRAIN, ..daemon::http::Limits::default() };
    servers.spawn(daemon::http::serve(http_listener, router, limits, shutdown.clone()));
    Ok(servers)
}

/// Binds and starts the log server, unless it is off. Log messages wait for nothing but a machine that they are of.
fn log_server(
    config: &Config,
    (backend, journal): (&Backend, &Journal),
    servers: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<Option<http::Logs>, Error> {
    let Some(SyslogConfig { listen, logs }) = &config.syslog else { return Ok(None) };
    let state = |path: PathBuf| move |source| Error::State { path, source };
    let token = match &config.http_token {
        Some(token) => token.clone(),
        None => HttpToken::load_or_create(&config.state_dir, &config.http_url)
            .map_err(state(config.state_dir.join(ACCESS_FILE)))?,
    };
    let (writer, reader, task) = logs::spawn(logs, journal.clone()).map_err(state(logs.dir.clone()))?;
    let receiver = syslog::Receiver::bind(*listen, backend.clone(), writer, journal.metrics().clone())
        .map_err(|source| Error::Bind { service: "syslog", address: *listen, source })?;
    servers.spawn(receiver.run(shutdown.clone()));
    servers.spawn(async move {
        if let Err(error) = task.await {
            tracing::error!(%error, "the task that writes logs ended badly");
        }
    });
    Ok(Some(http::Logs::new(reader, token)))
}
