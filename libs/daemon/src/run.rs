// SPDX-License-Identifier: Apache-2.0
//! The life of a lone daemon: configuration, logs, signals, API client, health port, work, drain, exit code.
//!
//! `main` calls [`main`] and nothing else. A process that composes several daemons calls the parts ([`Telemetry`],
//! [`abort_on_panic`], [`install_crypto`], [`shutdown_on_signal`], [`crate::admin`]) and each daemon's own `run`.

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{self, ConfigErrors, Inputs, Kind, Layers, Setting, Settings, Table};
use crate::telemetry::Telemetry;
use crate::{Health, admin, connect, state_dir};

/// Exit code for a wrong command line or configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Exit code when a daemon cannot start, or ends on its own.
pub const EXIT_FAILURE: u8 = 1;

/// How long a daemon may take to end its work after a signal; below the 30 s that systemd's and Kubernetes' defaults allow.
const DRAIN: Duration = Duration::from_secs(25);

/// Flag that checks the configuration and starts nothing.
pub const CHECK_CONFIG: &str = "--check-config";

/// Settings that the skeleton adds to every daemon's table.
pub const COMMON: &[Setting] = &[
    Setting::new(
        "log-level",
        "log-level",
        Kind::Text,
        "0 info, 1 debug, 2 and up trace, negative off, or a log filter",
    )
    .with_default("0"),
    Setting::new(
        "log-format",
        "log-format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto is text on a terminal, else json",
    )
    .with_default("auto"),
    Setting::new("backend-kube-config", "backend-kube-config", Kind::Path, "kubeconfig of the API server")
        .with_alias("kubeconfig"),
    Setting::new(
        "backend-kube-namespace",
        "backend-kube-namespace",
        Kind::Text,
        "namespace to work in; empty is all",
    ),
    Setting::new(
        "state-dir",
        "state-dir",
        Kind::Path,
        "directory for what must survive a restart; unset: /var/lib/tinkerbell for root, else ~/.local/state/tinkerbell",
    ),
    Setting::new("health-bind-addr", "health-bind-addr", Kind::Ip, "address of the health ports")
        .with_default("127.0.0.1"),
];

/// One daemon as its `main` names it.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    /// Its name: section of the file, component of its Events.
    pub name: &'static str,
    /// Its version, usually `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// Its settings; [`COMMON`] comes on top.
    pub settings: &'static [Setting],
    /// The names of what it keeps in the state directory unless it is told another place, for whoever removes that directory.
    pub state: &'static [&'static str],
}

impl Daemon {
    /// The table of all settings that this daemon understands.
    pub const fn table(&self) -> Table {
        Table { daemon: self.name, settings: self.settings, common: COMMON }
    }
}

/// What the skeleton itself needs, apart from the daemon's configuration.
#[derive(Debug)]
struct Skeleton {
    telemetry: Telemetry,
    kubeconfig: Option<PathBuf>,
    state_dir: PathBuf,
    health: Option<SocketAddr>,
}

impl Skeleton {
    fn from_settings(settings: &mut Settings) -> Self {
        let address = settings.get_or("health-bind-addr", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port: u16 = settings.get_or("health-port", 0);
        Self {
            telemetry: Telemetry::from_settings(settings),
            kubeconfig: settings.path("backend-kube-config"),
            state_dir: state_dir(settings.path("state-dir")),
            health: (port != 0).then_some(SocketAddr::new(address, port)),
        }
    }
}

/// Runs a daemon from its arguments, without the program's name, to its exit code: 64 for a wrong configuration, 1 when it cannot start or fails, 0 after a
/// clean drain.
pub fn main<C, E, Fut>(
    daemon: &Daemon,
    args: Vec<String>,
    configure: impl FnOnce(&mut Settings) -> C,
    run: impl FnOnce(C, kube::Client, Health, CancellationToken) -> Fut,
) -> ExitCode
where
    E: Error,
    Fut: Future<Output = Result<(), E>>,
{
    main_checked(daemon, args, configure, |_| Vec::new(), run)
}

/// [`main`] for a daemon whose configuration names things that may not be there: `check` gives one line for each that is not.
/// With `--check-config` every mistake of settings and of these is told, and nothing is started.
pub fn main_checked<C, E, Fut>(
    daemon: &Daemon,
    mut args: Vec<String>,
    configure: impl FnOnce(&mut Settings) -> C,
    check: impl FnOnce(&C) -> Vec<String>,
    run: impl FnOnce(C, kube::Client, Health, CancellationToken) -> Fut,
) -> ExitCode
where
    E: Error,
    Fut: Future<Output = Result<(), E>>,
{
    let all = args.len();
    args.retain(|arg| arg != CHECK_CONFIG);
    let only_check = args.len() < all;
    if let Some(text) = information(daemon, &args) {
        println!("{text}");
        return ExitCode::SUCCESS;
    }
    let layers = Layers::read(&[daemon.table()], Inputs::gather(args, std::env::vars()), false);
    let mut settings = layers.settings(daemon.name);
    let skeleton = Skeleton::from_settings(&mut settings);
    let config = configure(&mut settings);
    let finished = layers.finish([settings]);
    if only_check {
        return checked(daemon.name, finished, check(&config));
    }
    let warnings = match finished {
        Ok(warnings) => warnings,
        Err(errors) => {
            eprintln!("{}: {errors}", daemon.name);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    skeleton.telemetry.init();
    abort_on_panic(|| false);
    install_crypto();
    for warning in warnings {
        tracing::warn!(warning, "configuration");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(daemon, &error),
    };
    let outcome = runtime.block_on(async {
        let client = connect(
            daemon.name,
            skeleton.kubeconfig.as_deref(),
            kubeconfig_variable().as_deref(),
            &skeleton.state_dir,
        )
        .await?;
        supervise(daemon, skeleton.health, |health, shutdown| run(config, client, health, shutdown)).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(daemon, error.as_ref()),
    }
}

/// Tells what a check found, and gives the exit code: 0 when that is nothing.
pub fn checked(name: &str, settings: Result<Vec<String>, ConfigErrors>, found: Vec<String>) -> ExitCode {
    let (warnings, mistakes) = match settings {
        Ok(warnings) => (warnings, None),
        Err(mistakes) => (Vec::new(), Some(mistakes)),
    };
    for warning in warnings {
        eprintln!("{name}: warning: {warning}");
    }
    let good = mistakes.is_none() && found.is_empty();
    for mistake in mistakes.iter().map(ToString::to_string).chain(found) {
        eprintln!("{name}: {mistake}");
    }
    if good {
        println!("{name}: the configuration is good");
        return ExitCode::SUCCESS;
    }
    ExitCode::from(EXIT_USAGE)
}

/// Answers `--help` and `--version`.
fn information(daemon: &Daemon, args: &[String]) -> Option<String> {
    let asked = |names: &[&str]| args.iter().any(|arg| names.contains(&arg.as_str()));
    if asked(&["--version", "-V"]) {
        return Some(format!("{} {}", daemon.name, daemon.version));
    }
    if asked(&["--help", "-h"]) {
        let flags = config::help(&[daemon.table()]);
        return Some(format!("Usage: {} [--check-config] [--config FILE] [FLAGS]\n\n{flags}", daemon.name));
    }
    None
}

fn kubeconfig_variable() -> Option<PathBuf> {
    std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Runs the daemon's work beside its health port until it ends or a signal comes, then gives it time to drain.
async fn supervise<E, Fut>(
    daemon: &Daemon,
    health_address: Option<SocketAddr>,
    run: impl FnOnce(Health, CancellationToken) -> Fut,
) -> Result<(), Box<dyn Error>>
where
    E: Error,
    Fut: Future<Output = Result<(), E>>,
{
    let health = Health::new();
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(shutdown_on_signal(shutdown.clone())?);
    // The health port outlives the drain, so that whoever watches it sees the daemon leave.
    let stop_admin = CancellationToken::new();
    let admin = match health_address {
        Some(address) => {
            let listener =
                TcpListener::bind(address).await.map_err(|source| BindError { address, source })?;
            Some(tokio::spawn(admin::serve(listener, health.clone(), stop_admin.clone())))
        }
        None => None,
    };
    tracing::info!(daemon = daemon.name, version = daemon.version, health = ?health_address, "starting");
    let outcome = drain_after(run(health, shutdown.clone()), &shutdown, DRAIN).await;
    stop_admin.cancel();
    if let Some(admin) = admin {
        admin.await??;
    }
    signals.abort();
    match outcome {
        Some(Ok(())) if shutdown.is_cancelled() => {
            tracing::info!(daemon = daemon.name, "stopped");
            Ok(())
        }
        Some(Ok(())) => Err("ended without being asked to".into()),
        Some(Err(error)) => Err(chain(&error).into()),
        None => Err(format!("did not end within {} s of being asked to", DRAIN.as_secs()).into()),
    }
}

/// The work's result, or nothing when it goes on for longer than `limit` after `shutdown`.
async fn drain_after<T>(
    work: impl Future<Output = T>,
    shutdown: &CancellationToken,
    limit: Duration,
) -> Option<T> {
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        outcome = work => Some(outcome),
        () = overdue => None,
    }
}

/// A future that cancels `shutdown` on SIGTERM or SIGINT, and ends the process at once on a second signal.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_on_signal(shutdown: CancellationToken) -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for ask in ["drain", "leave at once"] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(ask, "signal received");
            if shutdown.is_cancelled() {
                std::process::exit(i32::from(EXIT_FAILURE));
            }
            shutdown.cancel();
        }
    })
}

/// Makes a panic of any task end the process, after the usual message on standard error and a log record; one that is
/// `expected`, as its thread says, is left to whoever catches it.
pub fn abort_on_panic(expected: fn() -> bool) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if expected() {
            return;
        }
        usual(info);
        tracing::error!(panic = %info, "a task panicked; the process ends");
        std::process::abort();
    }));
}

/// Makes ring the process's provider of TLS cryptography, for libraries that take whatever is installed; a second call changes
/// nothing.
pub fn install_crypto() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a provider of TLS cryptography was already installed");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for health and metrics: {source}")]
struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

/// An error with everything that caused it, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let next = source.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = source.source();
    }
    text
}

fn failed(daemon: &Daemon, error: &dyn Error) -> ExitCode {
    tracing::error!(daemon = daemon.name, error = chain(error), "failed");
    ExitCode::from(EXIT_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_may_drain_until_the_deadline_and_no_longer() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let quick = tokio::time::sleep(Duration::from_secs(24));
        assert!(drain_after(quick, &shutdown, DRAIN).await.is_some());
        let slow = tokio::time::sleep(Duration::from_secs(26));
        assert!(drain_after(slow, &shutdown, DRAIN).await.is_none());
    }

    #[test]
    fn chain_names_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("list failed")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(chain(&error), "list failed: connection refused");
    }

    #[test]
    fn help_lists_the_flags_of_daemon_and_skeleton() {
        const SETTINGS: &[Setting] = &[Setting::health_port("tootles-health-port", "9102")];
        let daemon = Daemon { name: "hegel", version: "1.2.3", settings: SETTINGS, state: &[] };
        let help = information(&daemon, &["--help".to_owned()]).unwrap();
        assert!(
            help.contains("--tootles-health-port VALUE")
                && help.contains("--backend-kube-config, --kubeconfig VALUE")
        );
        assert_eq!(information(&daemon, &["--version".to_owned()]).unwrap(), "hegel 1.2.3");
    }
}
