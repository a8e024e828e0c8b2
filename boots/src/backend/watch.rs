// SPDX-License-Identifier: Apache-2.0
//! Keeps the index true: one task watches Hardware, one watches Workflows, and they own every change.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use api::v1alpha1::Hardware;
use daemon::Latch;
use daemon::watch::scoped;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Index, Key, key};
use crate::metrics::Metrics;

/// The index as packets and requests see it. Locked for one lookup or one change, never across an await.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backend {
    index: Arc<RwLock<Index>>,
    /// How many of the two watches had their first list.
    listed: Arc<watch::Sender<usize>>,
}

impl Backend {
    /// The index, for one lookup.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index; for the watches, and for tests.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the first list of both kinds.
    pub(crate) async fn synced(&self) {
        let mut listed = self.listed.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        listed.wait_for(|listed| *listed >= 2).await.map(drop).unwrap_or_default();
    }

    /// Starts both watches, of one namespace or of all. Each sets its latch after its first list.
    pub(crate) fn spawn(
        client: &kube::Client,
        namespace: Option<&str>,
        (hardware, workflows): (Latch, Latch),
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> (Self, [JoinHandle<()>; 2]) {
        let backend = Self::default();
        let machines = Watch {
            backend: backend.clone(),
            latch: hardware,
            metrics: metrics.clone(),
            apply: apply_hardware,
            remove: |index, key| index.remove_hardware(key),
            keys: |index| index.machines.keys().map(|key| Key::clone(key)).collect(),
        };
        let flows = Watch {
            backend: backend.clone(),
            latch: workflows,
            metrics: metrics.clone(),
            apply: |index, workflow, _| index.apply_workflow(workflow),
            remove: |index, key| index.remove_workflow(key),
            keys: |index| index.claims.keys().cloned().collect(),
        };
        let tasks = [
            tokio::spawn(machines.run(scoped(client, namespace), shutdown.clone())),
            tokio::spawn(flows.run(scoped(client, namespace), shutdown.clone())),
        ];
        (backend, tasks)
    }
}

fn apply_hardware(index: &mut Index, hardware: &Hardware, metrics: &Metrics) {
    let problems = index.apply_hardware(hardware);
    metrics.problems(problems.len());
    metrics.machines(index.len());
    for problem in problems {
        let machine = hardware.metadata.name.as_deref().unwrap_or_default();
        tracing::warn!(machine, problem, "a field of the Hardware cannot be used");
    }
}

/// One watch and what it does to the index.
struct Watch<K> {
    backend: Backend,
    latch: Latch,
    metrics: Metrics,
    apply: fn(&mut Index, &K, &Metrics),
    remove: fn(&mut Index, &Key),
    keys: fn(&Index) -> Vec<Key>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    async fn run(self, api: Api<K>, shutdown: CancellationToken) {
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        let mut listed = HashSet::new();
        let mut synced = false;
        daemon::watch::follow(events, shutdown, |event| {
            if self.take(event, &mut listed) && !std::mem::replace(&mut synced, true) {
                self.backend.listed.send_modify(|listed| *listed += 1);
            }
        })
        .await;
    }

    /// What is known stays in use while a new list comes in; what is not in it goes when it is complete. True when it is.
    fn take(&self, event: Event<K>, listed: &mut HashSet<Key>) -> bool {
        let complete = matches!(event, Event::InitDone);
        self.backend.change(|index| match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(key(&object));
                (self.apply)(index, &object, &self.metrics);
            }
            Event::InitDone => {
                for gone in (self.keys)(index).iter().filter(|key| !listed.contains(*key)) {
                    (self.remove)(index, gone);
                }
                listed.clear();
                self.latch.set();
            }
            Event::Apply(object) => (self.apply)(index, &object, &self.metrics),
            Event::Delete(object) => (self.remove)(index, &key(&object)),
        });
        complete
    }
}
