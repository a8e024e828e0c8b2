// SPDX-License-Identifier: Apache-2.0

//! One of the two servers of a move: who it is, its journal, its preparation, and whether its daemons have stopped.

use std::time::{Duration, Instant};

use api::{
    access::{RUFIO_LEASE, Reach, TINK_SERVER_LEASE},
    annotations::SYSTEM_NAMESPACE,
    ownership::{self, Journal},
};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace},
};
use kube::{Api, Client, api::PostParams};

use super::MoveError;
use crate::setup;

/// How often it is looked whether daemons have stopped.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// Time in which a daemon on its own that is connected hears that it may not act any more.
const HEARD: Duration = Duration::from_secs(5);
/// What a server without a name of its own is told apart by.
const IDENTITY: &str = "kube-system";

/// A server.
#[derive(Clone)]
pub struct Side {
    /// With the rights of an administrator.
    pub(super) client: Client,
    /// Tells it from others.
    pub(super) id: String,
    /// Its address.
    pub(super) url: String,
    /// Whether it is a Kubernetes; else it is ours, whose process stops daemons and says so.
    is_kubernetes: bool,
}

/// A journal with the version that it was read at.
pub(super) struct Known {
    pub(super) journal: Journal,
    version: Option<String>,
}

impl Side {
    /// Asks a server who it is.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn meet(client: Client, url: String) -> Result<Self, MoveError> {
        let failed = |source| MoveError::of(&url, "the namespace kube-system", source);
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let id = namespaces.get(IDENTITY).await.map_err(failed)?.metadata.uid.unwrap_or_default();
        let is_kubernetes = setup::has_rbac(&client).await?;
        Ok(Self { client, id, url, is_kubernetes })
    }

    /// Namespaces, definitions, and the daemons' accounts where the server has accounts to be made.
    pub(super) async fn prepare(&self) -> Result<(), MoveError> {
        Ok(setup::apply(&self.client, Reach::AllNamespaces, |_| Ok(())).await?)
    }

    fn journals(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    /// The journal.
    pub(super) async fn journal(&self) -> Result<Known, MoveError> {
        let found = self.journals().get_opt(ownership::NAME).await;
        let found = found.map_err(|source| MoveError::of(&self.url, "the journal", source))?;
        let journal = Journal::read(found.as_ref())
            .map_err(|source| MoveError::Journal { url: self.url.clone(), source })?;
        Ok(Known { journal, version: found.and_then(|found| found.metadata.resource_version) })
    }

    /// Writes the journal in place of the one that is known; false when somebody else wrote meanwhile.
    pub(super) async fn write(&self, known: &Known, journal: &Journal) -> Result<bool, MoveError> {
        let (object, params) = (journal.object(known.version.clone()), PostParams::default());
        let written = match known.version {
            None => self.journals().create(&params, &object).await,
            Some(_) => self.journals().replace(ownership::NAME, &params, &object).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(source) => Err(MoveError::of(&self.url, "the journal", source)),
        }
    }

    /// What is waited for until nobody acts on this side any more; nothing when that is so. `since` is when it was asked for.
    pub(super) async fn draining(&self, since: Instant) -> Result<Option<String>, MoveError> {
        if !self.is_kubernetes {
            let known = self.journal().await?;
            let stopped = known.journal.state.stopped().is_none();
            return Ok((!stopped).then(|| "its daemons to stop".to_owned()));
        }
        // Nobody speaks for daemons that are programs of their own: they read the journal. Who may act alone says so with a Lease.
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        for name in [RUFIO_LEASE, TINK_SERVER_LEASE] {
            let lease = leases.get_opt(name).await;
            let lease = lease.map_err(|source| MoveError::of(&self.url, name, source))?;
            if let Some(holder) = lease.as_ref().and_then(|lease| held(lease, since)) {
                return Ok(Some(format!("{holder}, which holds the Lease {name}, to stop")));
            }
        }
        Ok((since.elapsed() < HEARD).then(|| "daemons on their own to hear of it".to_owned()))
    }

    /// Says in the name of daemons on their own that they have stopped, where nobody else can.
    pub(super) async fn speak_for_daemons(&self) -> Result<(), MoveError> {
        let known = self.journal().await?;
        if let Some(stopped) = known.journal.state.stopped().filter(|_| self.is_kubernetes) {
            self.write(&known, &known.journal.in_state(stopped)).await?;
        }
        Ok(())
    }
}

/// Who holds a Lease. One whose holder vanished ends by our own clock, not by the times that somebody else wrote.
fn held(lease: &Lease, since: Instant) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.as_ref().filter(|holder| !holder.is_empty())?;
    let renewed = spec.renew_time.as_ref()?.0;
    let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let age = jiff::Timestamp::now().duration_since(renewed).unsigned_abs();
    let over = since.elapsed() >= Duration::from_secs(lasts) && age >= Duration::from_secs(lasts);
    (!over).then(|| holder.clone())
}
