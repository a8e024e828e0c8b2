// SPDX-License-Identifier: Apache-2.0

//! rufio: switches machines on and off and tells them what to boot from, through their BMCs.
//!
//! Three controllers over the API and nothing else: a Machine is a BMC whose power state is read now and then; a Job is a
//! list of actions for one Machine; a Task is one of them. `tink up` and the `rufio` binary call [`run`].
//!
//! | part | what |
//! |---|---|
//! | [`target`] | from a connection and its Secret to protocols and ports |
//! | [`bmc`] | what is asked of a BMC; the drivers for Redfish and IPMI |
//! | [`pool`] | one worker and one session per BMC, requests one after the other |
//! | [`task`], [`job`], [`machine`] | decisions: pure |
//! | `controller` | the rim: objects in, status and Events out |
//!
//! It must never put a secret into a log, an Event, a status or an error, never send a restart twice, and never act on
//! what a watch said: every pass reads the object again.

pub mod bmc;
mod config;
mod context;
mod controller;
mod hardware;
pub mod job;
pub mod machine;
mod metrics;
pub mod pool;
pub mod program;
pub mod target;
pub mod task;
mod verify;

use std::sync::Arc;

use daemon::Health;
use tokio_util::sync::CancellationToken;

pub use config::{Config, SETTINGS};

use crate::bmc::{Connector, Network};

/// Why rufio ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller or its helper stopped. Not retried: the process is started again by whoever runs it.
    #[error("the {0} stopped")]
    Stopped(&'static str),
}

/// Runs until `shutdown`, then closes every BMC session.
///
/// # Errors
/// When one of the parts stops by itself.
pub async fn run(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    run_with(config, client, health, shutdown, Arc::new(Network)).await
}

/// [`run`] with BMCs of the caller's making.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
    connector: Arc<dyn Connector>,
) -> Result<(), Error> {
    controller::run(config, client, health, shutdown, connector).await
}
