// SPDX-License-Identifier: Apache-2.0
//! Readiness latches and the metrics registry of one daemon.
//!
//! A daemon makes one latch per thing it waits for (its caches, its sockets) before it starts waiting; `/readyz` answers 200 once
//! all are set. The handle is cheap to clone.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::metrics::Metrics;

/// One daemon's health.
#[derive(Debug, Clone)]
pub struct Health {
    latches: Arc<watch::Sender<Latches>>,
    metrics: Metrics,
}

/// Latch name and why it is not set; nothing once it is.
type Latches = BTreeMap<&'static str, Option<String>>;

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Health without latches, which is not ready.
    pub fn new() -> Self {
        Self { latches: Arc::new(watch::Sender::new(Latches::new())), metrics: Metrics::default() }
    }

    /// Makes a latch, unset. `waiting` says what for, as an operator would read it.
    pub fn latch(&self, name: &'static str, waiting: impl Into<String>) -> Latch {
        let latch = Latch { name, latches: Arc::clone(&self.latches) };
        latch.clear(waiting);
        latch
    }

    /// Whether there is a latch and all are set.
    pub fn is_ready(&self) -> bool {
        all_set(&self.latches.borrow())
    }

    /// The latches that are not set, with what they wait for.
    pub fn waiting(&self) -> Vec<(&'static str, String)> {
        let latches = self.latches.borrow();
        latches.iter().filter_map(|(name, waiting)| waiting.clone().map(|waiting| (*name, waiting))).collect()
    }

    /// Waits until [`Health::is_ready`]; the caller adds the deadline.
    pub async fn ready(&self) {
        let mut latches = self.latches.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        latches.wait_for(all_set).await.map(drop).unwrap_or_default();
    }

    /// Where the daemon registers its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

fn all_set(latches: &Latches) -> bool {
    !latches.is_empty() && latches.values().all(Option::is_none)
}

/// One thing that must be there before the daemon is ready.
#[derive(Debug, Clone)]
pub struct Latch {
    name: &'static str,
    latches: Arc<watch::Sender<Latches>>,
}

impl Latch {
    /// It is there.
    pub fn set(&self) {
        self.latches.send_if_modified(|latches| latches.insert(self.name, None) != Some(None));
    }

    /// It is gone again, or not there yet; says what is waited for.
    pub fn clear(&self, waiting: impl Into<String>) {
        self.latches.send_modify(|latches| {
            latches.insert(self.name, Some(waiting.into()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_only_when_every_latch_is_set_and_again_not_when_one_is_cleared() {
        let health = Health::new();
        assert!(!health.is_ready(), "nothing is known yet");
        let cache = health.latch("hardware cache", "first list");
        let socket = health.latch("http", "socket");
        socket.set();
        assert_eq!(health.waiting(), [("hardware cache", "first list".to_owned())]);

        let waiter = tokio::spawn({
            let health = health.clone();
            async move { health.ready().await }
        });
        cache.set();
        waiter.await.unwrap();
        assert!(health.is_ready());

        cache.clear("the watch to come back");
        assert!(!health.is_ready());
    }
}
