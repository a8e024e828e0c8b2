// SPDX-License-Identifier: Apache-2.0

//! One of the two servers of a move: who it is, its journal, its preparation, and whether its daemons have stopped.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api::{
    access::{BOOTS_LEASE, ORCHESTRATOR_LEASE, RUFIO_LEASE, Reach, TINK_SERVER_LEASE},
    annotations::SYSTEM_NAMESPACE,
    ownership::{self, Journal},
};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ConfigMap, Namespace},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams};

use super::MoveError;
use crate::setup;

/// How often it is looked whether daemons have stopped.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// Time in which a daemon on its own that is connected hears that it may not act any more.
const HEARD: Duration = Duration::from_secs(5);
/// The same for one whose server was away: it asks again that often at the least.
const HEARD_AGAIN: Duration = Duration::from_secs(60);
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
    pub(super) is_kubernetes: bool,
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

    /// What is waited for until nobody acts on this side any more; nothing when that is so. `since` is when it was asked for, and
    /// `away` says that a server was away in this move.
    pub(super) async fn draining(
        &self,
        leaders: &mut Leaders,
        (since, away): (Instant, bool),
    ) -> Result<Option<String>, MoveError> {
        let leader = leaders.waited_for().await;
        let leader =
            leader.map_err(|source| MoveError::of(&self.url, "the Leases of the daemons", source))?;
        if !self.is_kubernetes {
            let stopped = self.journal().await?.journal.state.stopped().is_none();
            return Ok((!stopped).then(|| leader.unwrap_or_else(|| "its daemons to stop".to_owned())));
        }
        // Nobody speaks for daemons that are programs of their own: they read the journal.
        let heard = since.elapsed() >= if away { HEARD_AGAIN } else { HEARD };
        Ok(leader.or_else(|| (!heard).then(|| "daemons on their own to hear of it".to_owned())))
    }

    /// Says in the name of daemons on their own that they have stopped, where nobody else can and that is still what was asked for.
    pub(super) async fn speak_for_daemons(&self, asked: &Journal) -> Result<(), MoveError> {
        let known = self.journal().await?;
        let stopped = known.journal.state.stopped().filter(|_| self.is_kubernetes && known.journal == *asked);
        if let Some(stopped) = stopped {
            self.write(&known, &known.journal.in_state(stopped)).await?;
        }
        Ok(())
    }
}

/// Of daemons that are programs of their own, those that may act alone, as they say with Leases.
pub(crate) struct Leaders {
    leases: Api<Lease>,
    /// When each was last seen to be renewed, and what it said then.
    seen: BTreeMap<&'static str, (MicroTime, Instant)>,
}

impl Leaders {
    pub(crate) fn of(client: &Client) -> Self {
        Self { leases: Api::namespaced(client.clone(), SYSTEM_NAMESPACE), seen: BTreeMap::new() }
    }

    /// What is to be waited for; nothing when nobody holds a Lease any more. One whose holder vanished is over when it was not renewed for as long as it
    /// lasts, by this clock: the times in it are of others.
    pub(crate) async fn waited_for(&mut self) -> Result<Option<String>, kube::Error> {
        for name in [BOOTS_LEASE, ORCHESTRATOR_LEASE, RUFIO_LEASE, TINK_SERVER_LEASE] {
            let Some(lease) = self.leases.get_opt(name).await? else { continue };
            if let Some(holder) = self.holder(name, lease.spec.unwrap_or_default(), Instant::now()) {
                return Ok(Some(format!("{holder}, which holds the Lease {name}, to stop")));
            }
        }
        Ok(None)
    }

    fn holder(&mut self, name: &'static str, lease: LeaseSpec, now: Instant) -> Option<String> {
        let holder = lease.holder_identity.filter(|holder| !holder.is_empty())?;
        let renewed = lease.renew_time?;
        let seen = self.seen.entry(name).or_insert_with(|| (renewed.clone(), now));
        if seen.0 != renewed {
            *seen = (renewed, now);
        }
        let lasts = u64::try_from(lease.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        (now.duration_since(seen.1) < Duration::from_secs(lasts)).then_some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_is_over_when_it_was_given_back_or_not_renewed_whatever_the_clock_of_its_holder_says() {
        daemon::install_crypto();
        let nowhere = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
        let mut leaders = Leaders::of(&Client::try_from(nowhere).unwrap());
        let begun = Instant::now();
        let mut look = |holder: &str, renewed: i64, after: u64| {
            let renewed = jiff::Timestamp::from_second(renewed).unwrap();
            let lease = LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                renew_time: Some(MicroTime(renewed)),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            };
            leaders.holder(RUFIO_LEASE, lease, begun + Duration::from_secs(after))
        };
        let held = Some("rufio-1".to_owned());
        // Its clock is years behind.
        assert_eq!(look("rufio-1", 100, 0), held);
        assert_eq!(look("rufio-1", 100, 14), held);
        assert_eq!(look("rufio-1", 102, 14), held, "it was renewed");
        assert_eq!(look("rufio-1", 102, 28), held);
        assert_eq!(look("rufio-1", 102, 29), None);
        assert_eq!(look("rufio-1", 104, 40), held, "it was only slow");
        assert_eq!(look("", 105, 41), None, "given back");
    }
}
