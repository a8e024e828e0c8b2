// SPDX-License-Identifier: Apache-2.0
//! Watches: where a daemon looks, and the one loop that follows a watch.
//!
//! What an event means is the caller's business; a watch that breaks is taken up again by its stream, which has a backoff.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use tokio_util::sync::CancellationToken;

/// The API of a kind in one namespace, or in all.
#[must_use]
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Gives every event to `take`, until `shutdown` or the end of the stream. A failure is told once until the watch works again.
pub async fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    shutdown: CancellationToken,
    mut take: impl FnMut(Event<K>),
) where
    K: Resource<DynamicType = ()> + Debug,
{
    let mut events = std::pin::pin!(events);
    let mut failing = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shutdown.cancelled() => return,
        };
        match event {
            Some(Ok(event)) => {
                failing = false;
                take(event);
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    let kind = K::kind(&());
                    tracing::warn!(%kind, error = crate::chain(&error), "cannot be watched; trying again");
                }
            }
            None => return,
        }
    }
}
