// SPDX-License-Identifier: Apache-2.0
//! The network-boot daemon: takes a machine from DHCP over its boot program and script to kernel and initramfs.
//!
//! The floor plan. Pure: `machine` (a Hardware as boot sees it), `boot` (whether it may boot, and what), `session` (how far each boot is), `script`, `grub`,
//! `dhcp::decide`, `dhcp::bootfile`, `dhcp::address`, `dhcp6::decide`, the index in `backend`. Rim: `dhcp::listener`,
//! `dhcp6::listener`, `tftp`, `http`, `syslog`, `logs`, `capture`, `backend::watch`, `token`, `files`, `assets`. `journal` is where all of them say what they saw. State of record is read from the
//! API; nothing but Events and the token key is ever written there, and no packet waits for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::Health;
use daemon::events::Recorder;
use daemon::tls::Identity;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod access;
mod assets;
mod backend;
mod bare;
mod boot;
mod buffer;
mod capture;
mod check;
mod config;
mod dhcp;
mod dhcp6;
mod files;
mod grub;
mod http;
mod ip;
mod iso;
mod journal;
mod kept;
mod limit;
mod logs;
mod machine;
mod metrics;
pub mod program;
mod script;
mod scripts;
mod session;
mod standby;
mod syslog;
mod tftp;
mod token;

pub use access::{ACCESS_FILE, AccessFile, HttpToken};
pub use check::check;
pub use config::{
    CaptureConfig, Config, Dhcp6Config, Dhcp6Mode, DhcpConfig, DhcpMode, HttpsConfig, IsoConfig, MacFormat,
    Pool, PxeConfig, SETTINGS, ScriptConfig, ServerAddress, SyslogConfig, Urls,
};
pub use files::FilesError;
pub use logs::{LogLine, LogsConfig};
pub use standby::{AddressError, Standby, VirtualAddress};

/// The daemon without its rim and the decoders that meet what strangers send, for benchmarks and fuzz targets.
#[doc(hidden)]
pub mod decoders {
    pub use crate::bare::Web;
    pub use crate::dhcp::exchanges::Exchanges;
    pub use crate::http::range::{Asked, Parts};
    pub use crate::iso::HOOK_MARKER as MARKER;
    pub use crate::iso::marker::{Patch, Scanner, TooLong, TooMany};
}

use assets::Assets;
use backend::watch::Backend;
use dhcp::listener::Listener;
use files::{Directory, Programs};
use journal::Journal;
use limit::Limits;
use scripts::{Scripts, Side};

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
    /// Certificate and key cannot be used.
    #[error(transparent)]
    Tls(#[from] daemon::tls::TlsError),
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
    /// The address that goes with the Lease cannot be had.
    #[error("the virtual address")]
    Address(#[from] AddressError),
    /// Another may answer now.
    #[error("the Lease was not renewed in time")]
    LeaseLost,
    /// A part panicked.
    #[error("a part of it failed")]
    Task(#[source] tokio::task::JoinError),
}

/// Runs until `shutdown`, and answers while it is the one to do so.
///
/// # Errors
///
/// When files are missing or a socket cannot be bound, and when the Lease was lost.
pub async fn run(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    standby::run(config, client, health, shutdown, answer).await
}

/// Answers until `shutdown`. Sockets are bound first, so that a port somebody holds is an error at once; they are answered when
/// machines, Workflows and the token key are known.
///
/// # Errors
///
/// When files are missing or a socket cannot be bound.
async fn answer(
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
    let mut tasks = JoinSet::new();
    let (captures, captured) = captures(&config, &metrics, &mut tasks)?.unzip();
    let journal = Journal::new(recorder, metrics.clone(), captures);
    let (backend, watches) =
        Backend::spawn(&client, config.namespace.as_deref(), latches, &metrics, &shutdown);
    for task in watches.into_iter().chain([recorder_task]) {
        tasks.spawn(joined(task));
    }

    let state = (programs, backend, journal);
    let started = serve(&config, client, state, captured, (key_latch, sockets), &shutdown);
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

/// The sockets of all servers but that of log messages, which waits for nothing.
struct Bound {
    http: TcpListener,
    https: Option<(TcpListener, Arc<Identity>)>,
    dhcp: Option<Listener>,
    dhcp6: Option<dhcp6::listener::Listener>,
    tftp: Option<(::tftp::Config, ::tftp::Socket)>,
}

impl Bound {
    async fn new(
        config: &Config,
        files: &Programs,
        (backend, journal): (&Backend, &Journal),
    ) -> Result<Self, Error> {
        let failed = |service, address| move |source| Error::Bind { service, address, source };
        let http = TcpListener::bind(config.http).await.map_err(failed("HTTP", config.http))?;
        let https = match &config.https {
            None => None,
            Some(HttpsConfig { listen, certificate, key }) => {
                let listener = TcpListener::bind(listen).await.map_err(failed("HTTPS", *listen))?;
                Some((listener, Arc::new(Identity::load(certificate, key)?)))
            }
        };
        let dhcp = config.dhcp.as_ref().map(|dhcp| {
            let (urls, programs) = (config.urls.clone(), config.programs.clone());
            Listener::bind(dhcp.clone(), urls, programs, (backend.clone(), journal.clone()))
                .map_err(failed("DHCP", dhcp.listen.into()))
        });
        let dhcp6 = config.dhcp6.as_ref().map(|dhcp| {
            let handles = (backend.clone(), journal.clone());
            dhcp6::listener::Listener::bind(dhcp.clone(), config.programs.clone(), files, handles)
                .map_err(failed("DHCPv6", dhcp.listen.into()))
        });
        let tftp = config.tftp.map(|tftp| {
            let socket = ::tftp::Socket::bind(&tftp).map_err(failed("TFTP", tftp.listen))?;
            Ok::<_, Error>((tftp, socket))
        });
        Ok(Self { http, https, dhcp: dhcp.transpose()?, dhcp6: dhcp6.transpose()?, tftp: tftp.transpose()? })
    }

    /// Starts a server on each of them.
    fn start(
        self,
        files: tftp::Files,
        router: axum::Router,
        servers: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        let Self { http, https, dhcp, dhcp6, tftp } = self;
        if let Some((config, socket)) = tftp {
            servers.spawn(::tftp::Server::new(config, socket, Arc::new(files)).run(shutdown.clone()));
        }
        if let Some(listener) = dhcp {
            servers.spawn(listener.run(shutdown.clone()));
        }
        if let Some(listener) = dhcp6 {
            servers.spawn(listener.run(shutdown.clone()));
        }
        let limits = daemon::http::Limits { drain: DRAIN, ..daemon::http::Limits::default() };
        if let Some((listener, identity)) = https {
            let serving =
                daemon::http::serve_tls(listener, identity, router.clone(), limits, shutdown.clone());
            servers.spawn(serving);
        }
        servers.spawn(daemon::http::serve(http, router, limits, shutdown.clone()));
    }
}

/// Binds all sockets, waits for what is needed to answer, and starts the servers.
async fn serve(
    config: &Config,
    client: kube::Client,
    (programs, backend, journal): (Programs, Backend, Journal),
    captured: Option<capture::Reader>,
    (key_latch, sockets): (daemon::Latch, daemon::Latch),
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>, Error> {
    let bound = Bound::new(config, &programs, (&backend, &journal)).await?;
    let mut servers = JoinSet::new();
    let opens = http_token(config)?;
    let logs = log_server(config, (&backend, &journal), &opens, &mut servers, shutdown)?;
    sockets.set();

    let Some(key) = token::key(client, &config.token_namespace, shutdown).await else { return Ok(servers) };
    key_latch.set();
    tokio::select! {
        () = backend.synced() => {}
        () = shutdown.cancelled() => return Ok(servers),
    }

    let scripts = scripts(config, backend, key, journal);
    let isos = isos(config, &scripts, &mut servers)?;
    let pcap = captured.map(|reader| http::Pcap::new(reader, opens));
    let files = machine_files(config, programs, scripts);
    let router = router(config, &files, (logs, pcap, isos));
    bound.start(files, router, &mut servers, shutdown);
    tracing::info!(http = %config.http, dhcp = config.dhcp.is_some(), dhcp6 = config.dhcp6.is_some(), tftp = config.tftp.is_some(), "network boot serves");
    Ok(servers)
}

/// What scripts are made from.
fn scripts(config: &Config, backend: Backend, key: api::token::TokenKey, journal: Journal) -> Scripts {
    let v4 = Side {
        config: config.script.clone(),
        urls: config.urls.clone(),
        strangers: config.dhcp_mode == DhcpMode::AutoProxy,
        gives_addresses: config.dhcp.as_ref().is_some_and(|dhcp| dhcp.mode == DhcpMode::Reservation),
    };
    let v6 = config.dhcp6.as_ref().map(|dhcp| Side {
        config: dhcp.script.clone(),
        urls: dhcp.urls.clone(),
        strangers: dhcp.mode == Dhcp6Mode::AutoStateless,
        gives_addresses: dhcp.mode.gives_addresses(),
    });
    Scripts { backend, key, journal, v4: Arc::new(v4), v6: v6.map(Arc::new) }
}

/// The files that machines boot from, as TFTP serves them.
fn machine_files(config: &Config, programs: Programs, scripts: Scripts) -> tftp::Files {
    let (backend, journal) = (scripts.backend.clone(), scripts.journal.clone());
    let assets = Assets { backend, journal, dir: config.pxe.assets.as_deref().map(Arc::from) };
    tftp::Files { programs, assets, scripts, limits: Limits::new(config.tftp_rate) }
}

/// All that HTTP serves: these files and more, and what is kept of machines.
fn router(
    config: &Config,
    files: &tftp::Files,
    (logs, pcap, isos): (Option<http::Logs>, Option<http::Pcap>, Option<iso::Isos>),
) -> axum::Router {
    let tftp::Files { programs, assets, scripts, .. } = files;
    http::router(http::Server {
        scripts: scripts.clone(),
        programs: programs.clone(),
        hook: config.hook_dir.as_deref().map(Directory::new),
        images: config.images_dir.as_deref().map(Directory::new),
        assets: config.pxe.http_prefix.clone().map(|prefix| (assets.clone(), prefix)),
        trusted_proxies: config.trusted_proxies.clone(),
        logs,
        pcap,
        isos,
        limits: Limits::new(config.http_rate),
        serves: http::Serves { programs: config.http_programs, scripts: config.http_scripts },
    })
}

/// Starts what keeps the packets of boots, unless it is off.
fn captures(
    config: &Config,
    metrics: &metrics::Metrics,
    tasks: &mut JoinSet<()>,
) -> Result<Option<(capture::Captures, capture::Reader)>, Error> {
    let Some(capture) = &config.capture else { return Ok(None) };
    let (captures, reader, task) = capture::spawn(capture, metrics.clone())
        .map_err(|source| Error::State { path: capture.dir.clone(), source })?;
    tasks.spawn(joined(task));
    Ok(Some((captures, reader)))
}

/// Starts what keeps images, unless they are off.
fn isos(config: &Config, scripts: &Scripts, tasks: &mut JoinSet<()>) -> Result<Option<iso::Isos>, Error> {
    let Some(iso) = &config.iso else { return Ok(None) };
    let (isos, task) = iso::Isos::spawn(iso.clone(), scripts.clone())
        .map_err(|source| Error::State { path: iso.dir.clone(), source })?;
    tasks.spawn(joined(task));
    Ok(Some(isos))
}

/// Binds and starts the log server, unless it is off. Log messages wait for nothing but a machine that they are of.
fn log_server(
    config: &Config,
    (backend, journal): (&Backend, &Journal),
    opens: &HttpToken,
    servers: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<Option<http::Logs>, Error> {
    let Some(SyslogConfig { listen, logs: kept }) = &config.syslog else { return Ok(None) };
    let (writer, logs) = logs(kept, journal, opens, servers)?;
    let receiver = syslog::Receiver::bind(*listen, backend.clone(), writer, journal.clone())
        .map_err(|source| Error::Bind { service: "syslog", address: *listen, source })?;
    servers.spawn(receiver.run(shutdown.clone()));
    Ok(Some(logs))
}

/// Starts what keeps the logs of machines.
fn logs(
    config: &LogsConfig,
    journal: &Journal,
    opens: &HttpToken,
    tasks: &mut JoinSet<()>,
) -> Result<(logs::Writer, http::Logs), Error> {
    let (writer, reader, task) = logs::spawn(config, journal.clone())
        .map_err(|source| Error::State { path: config.dir.clone(), source })?;
    tasks.spawn(joined(task));
    Ok((writer, http::Logs::new(reader, opens.clone())))
}

/// What opens what is kept of machines.
fn http_token(config: &Config) -> Result<HttpToken, Error> {
    match &config.http_token {
        Some(token) => Ok(token.clone()),
        None => HttpToken::load_or_create(&config.state_dir, &config.http_url)
            .map_err(|source| Error::State { path: config.state_dir.join(ACCESS_FILE), source }),
    }
}

/// Waits for a task, and says when it panicked.
async fn joined(task: tokio::task::JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a task ended badly");
    }
}
