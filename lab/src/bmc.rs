// SPDX-License-Identifier: Apache-2.0
//! Virtual BMCs: what a lab machine shows to `rufio`, `ipmitool` and any Redfish client.
//!
//! Called by the rack, and by tests that need a BMC and no machine (with [`crate::chassis::SimulatedChassis`]). A BMC holds
//! an `Arc<dyn Chassis>`; accounts, sessions and pending power actions are its own, and all of them are bounded. It answers
//! as real ones do: at once and before the action is done, refusing what the power state forbids.
//!
//! It must never know what the machine is being provisioned with.

pub mod ipmi;
mod power;
pub mod redfish;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::ipmi::{Credentials, CredentialsError, Privilege};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::chassis::Chassis;

/// What the BMC speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPMI 2.0 over LAN, suites 3 and 17.
    Ipmi,
    /// Redfish over HTTPS with a certificate of its own.
    Redfish,
}

/// The one account of a BMC.
#[derive(Clone)]
pub struct Account {
    credentials: Credentials,
    privilege: Privilege,
}

impl Account {
    /// An account that may do everything.
    ///
    /// # Errors
    /// [`CredentialsError`] where an IPMI BMC could not store user name or password.
    pub fn administrator(user: &str, password: &str) -> Result<Self, CredentialsError> {
        Ok(Self { credentials: Credentials::new(user, password)?, privilege: Privilege::Administrator })
    }

    /// The same account with another privilege.
    #[must_use]
    pub fn with_privilege(self, privilege: Privilege) -> Self {
        Self { privilege, ..self }
    }
}

/// How a BMC differs from a quick and honest one. The default is quick and honest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behaviour {
    /// Every answer takes this long.
    pub latency: Duration,
    /// What becomes of a boot override that a client writes.
    pub boot_writes: BootWrites,
    /// For how long after a power action the power state is reported as it was before.
    pub power_lag: Duration,
}

/// What a BMC does with a boot override that a client writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootWrites {
    /// Takes it over.
    #[default]
    Kept,
    /// Says yes and changes nothing.
    Ignored,
}

/// A running BMC. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct BmcHandle {
    addr: SocketAddr,
    certificate: Option<String>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl BmcHandle {
    /// Where it listens; the port is the real one when port 0 was asked for.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of a Redfish BMC in PEM, for clients that verify.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// Stops the BMC and waits until its port is free.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take()
            && let Err(failure) = task.await
        {
            error!(addr = %self.addr, error = %failure, "bmc task failed");
        }
    }
}

impl Drop for BmcHandle {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Starts a BMC on `addr` and returns once it listens.
///
/// # Errors
/// What `bind` says, and for Redfish what making a certificate says. Not retried here.
pub async fn start(
    kind: Kind,
    addr: SocketAddr,
    account: Account,
    chassis: Arc<dyn Chassis>,
    behaviour: Behaviour,
) -> io::Result<BmcHandle> {
    let shutdown = CancellationToken::new();
    match kind {
        Kind::Ipmi => {
            let server = ipmi::Server::bind(addr, account, chassis, behaviour).await?;
            let addr = server.addr();
            let task = Some(tokio::spawn(server.run(shutdown.clone())));
            Ok(BmcHandle { addr, certificate: None, shutdown, task })
        }
        Kind::Redfish => {
            let server = redfish::Server::bind(addr, account, chassis, behaviour).await?;
            let addr = server.addr();
            let certificate = Some(server.certificate().to_owned());
            let task = Some(tokio::spawn(server.run(shutdown.clone())));
            Ok(BmcHandle { addr, certificate, shutdown, task })
        }
    }
}
