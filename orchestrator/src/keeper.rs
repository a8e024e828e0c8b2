// SPDX-License-Identifier: Apache-2.0

//! The keeper: a daemon that keeps every cluster as its objects say, for as long as it runs.
//!
//! Owns one task for each Cluster that is made here, and what wakes it: a change of a Cluster or of a Hardware, and now and then
//! nothing at all. What a task does is [`Run::keep`]'s. Of several replicas one acts, the holder of a Lease; `tink cluster create`
//! and `delete` leave the work to it where there is one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::{
    access::ORCHESTRATOR_LEASE,
    annotations::SYSTEM_NAMESPACE,
    anywhere::v1alpha1::{Cluster, NAMESPACE},
    v1alpha1::Hardware,
};
use daemon::{
    Health,
    config::{Kind, Setting, Settings},
    leader::{self, Election, LeaderError},
};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event as Seen, watcher},
    },
};
use thiserror::Error;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    lifecycle::{
        run::{Event, Run, RunError, is_ours},
        store::{Store, StoreError},
    },
    provider::bare_metal::Rack,
};

/// Until a cluster that could not be looked at is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// All settings of this daemon, beside those of the skeleton.
pub const SETTINGS: &[Setting] = &[
    Setting::new(
        "enable-leader-election",
        "orchestrator-enable-leader-election",
        Kind::Bool,
        "of several replicas let one act; off, there must be no other",
    )
    .with_default("true"),
    Setting::new(
        "leader-election-namespace",
        "orchestrator-leader-election-namespace",
        Kind::Text,
        "namespace of the Lease",
    )
    .with_default(SYSTEM_NAMESPACE),
    Setting::health_port("orchestrator-health-port", "9106"),
];

/// What it works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How replicas agree on who acts; `None` where there is no other.
    pub election: Option<Election>,
}

impl Config {
    /// Reads the settings; every mistake is recorded in them.
    pub fn from_settings(settings: &mut Settings) -> Self {
        Self { election: Election::from_settings(settings) }
    }
}

/// Why it ended without being asked to. Not retried: the process is started again by whoever runs it.
#[derive(Debug, Error)]
pub enum Error {
    /// The election failed.
    #[error(transparent)]
    Election(#[from] LeaderError<Ended>),
}

/// What was watched came to an end.
#[derive(Debug, Error)]
#[error("the watch on {0} ended")]
pub struct Ended(&'static str);

/// Runs until `shutdown`.
///
/// # Errors
///
/// When a part of it ends by itself.
pub async fn run(
    config: Config,
    client: Client,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let elected = health.latch("leader election", "a look at the Lease");
    let race = (ORCHESTRATOR_LEASE, config.election.as_ref());
    let work = |stop| keep(client.clone(), stop);
    Ok(leader::run(client.clone(), race, elected, shutdown, work).await?)
}

/// Who keeps clusters on this API at the moment; nobody where the Lease is free or was not renewed in time.
///
/// # Errors
///
/// When the server does not answer.
pub async fn holder(client: &Client) -> Result<Option<String>, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(spec) = leases.get_opt(ORCHESTRATOR_LEASE).await?.and_then(|lease| lease.spec) else {
        return Ok(None);
    };
    let lasts = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(0)));
    let lives = spec.renew_time.is_some_and(|renewed| renewed.0 + lasts > Timestamp::now());
    Ok(spec.holder_identity.filter(|holder| lives && !holder.is_empty()))
}

/// All clusters, until `stop`.
async fn keep(client: Client, stop: CancellationToken) -> Result<(), Ended> {
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), NAMESPACE);
    let machines: Api<Hardware> = Api::namespaced(client.clone(), NAMESPACE);
    let mut clusters = watcher(clusters, watcher::Config::default()).default_backoff().boxed();
    // Only that one changed matters here; a task reads them itself.
    let mut machines = watcher(machines, watcher::Config::default()).default_backoff().boxed();
    let mut kept = Kept { client, stop: stop.clone(), wakes: BTreeMap::new(), tasks: JoinSet::new() };
    let outcome = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(ended) = kept.tasks.join_next() => kept.forget(ended.ok()),
            seen = clusters.next() => match seen {
                Some(Ok(Seen::Apply(one) | Seen::InitApply(one) | Seen::Delete(one))) => kept.see(&one),
                Some(Ok(Seen::Init | Seen::InitDone)) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = daemon::chain(&error), "Clusters cannot be watched; trying again");
                }
                None => break Err(Ended("Clusters")),
            },
            seen = machines.next() => match seen {
                Some(Ok(Seen::Apply(_) | Seen::Delete(_) | Seen::InitDone)) => kept.wake_all(),
                Some(Ok(Seen::Init | Seen::InitApply(_))) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = daemon::chain(&error), "Hardware cannot be watched; trying again");
                }
                None => break Err(Ended("Hardware")),
            },
        }
    };
    kept.stop.cancel();
    while kept.tasks.join_next().await.is_some() {}
    outcome
}

/// The tasks, each with what wakes it.
struct Kept {
    client: Client,
    stop: CancellationToken,
    wakes: BTreeMap<String, Arc<Notify>>,
    tasks: JoinSet<String>,
}

impl Kept {
    /// A Cluster is there, or changed, or went.
    fn see(&mut self, cluster: &Cluster) {
        let name = cluster.name_any();
        if let Some(wake) = self.wakes.get(&name) {
            wake.notify_one();
            return;
        }
        if !is_ours(cluster) {
            return;
        }
        tracing::info!(cluster = name, "it is kept from now on");
        let wake = Arc::new(Notify::new());
        self.wakes.insert(name.clone(), Arc::clone(&wake));
        let store = Store::new(self.client.clone(), &name);
        let rack = Rack::new(self.client.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            one(store, rack, &wake, &stop).await;
            name
        });
    }

    fn wake_all(&self) {
        for wake in self.wakes.values() {
            wake.notify_one();
        }
    }

    /// A task ended: its cluster is gone, or it is to stop. One that panicked took the process with it.
    fn forget(&mut self, name: Option<String>) {
        if let Some(name) = name {
            self.wakes.remove(&name);
        }
    }
}

/// One cluster, until it is gone or `stop`.
async fn one(store: Store, rack: Rack, wake: &Notify, stop: &CancellationToken) {
    let name = store.cluster().to_owned();
    let mut tell = |event: Event| told(&name, &event);
    let mut run = Run::new(store, Arc::new(rack), &mut tell);
    let mut last = None;
    loop {
        match run.keep(wake, stop).await {
            Ok(()) | Err(RunError::Store(StoreError::Missing(_))) if stop.is_cancelled() => return,
            Ok(()) => {
                tracing::info!(cluster = name, "it is gone");
                return;
            }
            Err(error) => {
                let problem = daemon::chain(&error);
                if last.as_ref() != Some(&problem) {
                    tracing::warn!(cluster = name, problem, "it cannot be kept as it is to be; trying again");
                    last = Some(problem);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// What happens to a cluster, as lines of the log.
fn told(cluster: &str, event: &Event) {
    match event {
        Event::Stage { slot, machine, stage } => tracing::info!(cluster, slot, machine, ?stage, "stage"),
        Event::Done { action } => tracing::info!(cluster, ?action, "done"),
        Event::Failed { action, problem } => tracing::warn!(cluster, ?action, problem, "tried again"),
        Event::Begins { action } => tracing::debug!(cluster, ?action, "begins"),
        Event::Waits { waits } => tracing::debug!(cluster, ?waits, "waits"),
    }
}
