// SPDX-License-Identifier: Apache-2.0
//! The skeleton that every daemon shares: layered configuration, logs, signals, readiness, metrics, Events on Hardware, leader election,
//! exit codes.
//!
//! A daemon's `main` is one call:
//!
//! ```no_run
//! # mod hegel {
//! #     pub const SETTINGS: &[daemon::config::Setting] = &[daemon::config::Setting::health_port("tootles-health-port", "9102")];
//! #     pub struct Config;
//! #     impl Config { pub fn from_settings(_: &mut daemon::config::Settings) -> Self { Self } }
//! #     pub async fn run(_: Config, _: kube::Client, _: daemon::Health, _: tokio_util::sync::CancellationToken) -> Result<(), std::io::Error> { Ok(()) }
//! # }
//! const DAEMON: daemon::Daemon =
//!     daemon::Daemon { name: "hegel", version: env!("CARGO_PKG_VERSION"), settings: hegel::SETTINGS, state: &[] };
//!
//! fn main() -> std::process::ExitCode {
//!     daemon::main(&DAEMON, std::env::args().skip(1).collect(), hegel::Config::from_settings, hegel::run)
//! }
//! ```
//!
//! The crate knows nothing of provisioning and never decides anything for a daemon.

pub mod admin;
pub mod config;
mod connect;
pub mod events;
pub mod gate;
mod health;
pub mod http;
pub mod leader;
pub mod metrics;
mod run;
mod secret;
mod telemetry;
pub mod tls;
pub mod watch;

pub use connect::{ConnectError, connect, state_dir};
pub use health::{Health, Latch};
pub use run::{
    CHECK_CONFIG, COMMON, Daemon, EXIT_FAILURE, EXIT_USAGE, abort_on_panic, chain, checked, install_crypto,
    main, main_checked, shutdown_on_signal,
};
pub use secret::Secret;
pub use telemetry::Telemetry;
