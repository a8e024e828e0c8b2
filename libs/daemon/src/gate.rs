// SPDX-License-Identifier: Apache-2.0
//! A daemon that works only while an object of the API lets it.
//!
//! Owns the waiting before the work, and its end: the daemon is asked to stop as by a signal, so that its process ends cleanly and
//! whoever supervises it starts it again, to wait once more. What the object means is the caller's. An API that does not answer
//! changes nothing for work that goes on, and lets none begin.
//!
//! ```text
//! waits --may pass--> works --may not any more--> drains, the process ends
//! ```

use std::error::Error;
use std::future::Future;

use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::Health;

/// A ConfigMap, and how it is read.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it lets work go on; what keeps it from that, otherwise. Nothing is passed where there is no such object.
    pub may_pass: fn(Option<&ConfigMap>) -> Result<(), String>,
}

impl Gate {
    /// `run` behind the gate, for [`crate::main`].
    pub fn guard<C, E, Fut>(
        self,
        run: impl FnOnce(C, Client, Health, CancellationToken) -> Fut + 'static,
    ) -> impl FnOnce(C, Client, Health, CancellationToken) -> LocalBoxFuture<'static, Result<(), E>>
    where
        C: 'static,
        E: Error + 'static,
        Fut: Future<Output = Result<(), E>> + 'static,
    {
        move |config, client, health, shutdown| {
            async move {
                let looks = self.looks(&client);
                let mut looks = std::pin::pin!(looks);
                let latch = health.latch("gate", "leave to work");
                tokio::select! {
                    () = self.opens(&mut looks) => latch.set(),
                    () = shutdown.cancelled() => return Ok(()),
                }
                let work = run(config, client, health, shutdown.clone());
                let mut work = std::pin::pin!(work);
                tokio::select! {
                    outcome = &mut work => return outcome,
                    reason = self.closes(&mut looks) => {
                        tracing::warn!(reason, "this daemon may not work any more; it ends, and waits when it is started again");
                        shutdown.cancel();
                    }
                }
                work.await
            }
            .boxed_local()
        }
    }

    /// What is there, each time that it changes.
    fn looks(&self, client: &Client) -> impl Stream<Item = watcher::Result<Option<ConfigMap>>> + use<> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), self.namespace);
        watcher::watch_object(api, self.name).default_backoff()
    }

    /// Returns when the work may begin.
    async fn opens(&self, looks: &mut (impl Stream<Item = watcher::Result<Option<ConfigMap>>> + Unpin)) {
        let mut told = None;
        while let Some(look) = looks.next().await {
            let reason = match look.map(|found| (self.may_pass)(found.as_ref())) {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason,
                Err(error) => crate::chain(&error),
            };
            if told.as_ref() != Some(&reason) {
                tracing::warn!(object = self.name, reason, "this daemon may not work yet");
                told = Some(reason);
            }
        }
        // The stream begins again by itself and has no end.
        std::future::pending().await
    }

    /// Returns when the work has to end, with the reason.
    async fn closes(
        &self,
        looks: &mut (impl Stream<Item = watcher::Result<Option<ConfigMap>>> + Unpin),
    ) -> String {
        let mut failing = false;
        while let Some(look) = looks.next().await {
            match look {
                Ok(found) => {
                    failing = false;
                    if let Err(reason) = (self.may_pass)(found.as_ref()) {
                        return reason;
                    }
                }
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(
                        object = self.name,
                        error = crate::chain(&error),
                        "cannot be watched; trying again"
                    );
                }
                Err(_) => {}
            }
        }
        std::future::pending().await
    }
}
