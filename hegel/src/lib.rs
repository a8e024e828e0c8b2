// SPDX-License-Identifier: Apache-2.0
//! The metadata daemon: tells an installed machine who it is (EC2's layout of 2009-04-04, and rootio's `/metadata`).
//!
//! A machine is known by the address it asks from, matched against the reserved addresses of its Hardware. The floor plan:
//! `tree` says which path is which value, `machine` what a Hardware answers, `index` which machine has which address (all
//! pure); `server` and `watch` are the rim. It asks the API server nothing per request, writes nothing but Events, and must
//! never answer one machine with another's data.

mod config;
mod index;
mod machine;
mod metrics;
pub mod program;
mod rootio;
mod server;
mod tree;
mod watch;

use daemon::Health;
use daemon::events::Recorder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Config, SETTINGS};

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be bound; not retried.
    #[error("cannot listen on {address} for metadata")]
    Bind {
        /// The address from the configuration.
        address: std::net::SocketAddr,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
}

/// Runs until `shutdown`. Connections that come before the first list of Hardware wait in the kernel's queue, so that no machine
/// is told that it does not exist only because we have not looked yet.
///
/// # Errors
/// When the listener cannot be made.
pub async fn run(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let cache = health.latch("hardware", "the first list of Hardware");
    let socket = health.latch("http", "the listener");
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
    socket.set();

    let (recorder, recorder_task) =
        Recorder::spawn(client.clone(), "hegel", health.metrics(), shutdown.clone());
    let (index, watch_task) = watch::spawn(client, config.namespace.clone(), cache, shutdown.clone());
    let metrics = metrics::Metrics::register(health.metrics());
    let router = server::router(&config, index.clone(), metrics, recorder);
    tracing::info!(%address, "metadata service listens");
    if index.synced(&shutdown).await {
        daemon::http::serve(listener, router, daemon::http::Limits::default(), shutdown.clone()).await;
    }
    for task in [watch_task, recorder_task] {
        if let Err(error) = task.await {
            tracing::error!(error = %error, "a task ended badly");
        }
    }
    Ok(())
}
