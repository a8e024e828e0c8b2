// SPDX-License-Identifier: Apache-2.0

//! Whether this API server owns the machines: the rim around its own journal ([`api::ownership`]).
//!
//! Owns the watch and the one thing that the server's process writes there: that the daemons have stopped.

use std::time::Duration;

use api::{
    annotations::SYSTEM_NAMESPACE,
    ownership::{self, Journal, JournalError},
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::UpError;

/// Time in which a daemon that is a program of its own hears that it may not act any more, and writes what it has done.
pub(super) const HEARD: Duration = Duration::from_secs(5);
/// Until it is tried again to write.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

type Known = Result<Journal, JournalError>;

/// The journal as it is, and what keeps it so until `stop`.
pub(super) async fn watch(
    client: Client,
    stop: CancellationToken,
) -> Result<(watch::Receiver<Known>, impl Future<Output = ()> + Send), UpError> {
    let journals: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let found = journals.get_opt(ownership::NAME).await;
    let found = found.map_err(|error| UpError::Journal(Box::new(error)))?;
    let (sender, receiver) = watch::channel(Journal::read(found.as_ref()));
    let watching = async move {
        let mut looks = watcher::watch_object(journals, ownership::NAME).default_backoff().boxed();
        loop {
            let look = tokio::select! {
                look = looks.next() => look,
                () = stop.cancelled() => return,
            };
            match look {
                Some(Ok(found)) => {
                    let new = Journal::read(found.as_ref());
                    sender.send_if_modified(|known| {
                        let changed = *known != new;
                        *known = new;
                        changed
                    });
                }
                Some(Err(error)) => {
                    tracing::warn!(
                        error = daemon::chain(&error),
                        "the journal cannot be watched; trying again"
                    );
                }
                None => return,
            }
        }
    };
    Ok((receiver, watching))
}

/// Writes that the daemons have stopped, where that is still asked for.
pub(super) async fn say_stopped(client: &Client) -> Result<(), kube::Error> {
    let journals: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(found) = journals.get_opt(ownership::NAME).await? else { return Ok(()) };
    let Ok(journal) = Journal::read(Some(&found)) else { return Ok(()) };
    let Some(stopped) = journal.state.stopped() else { return Ok(()) };
    let said = journal.in_state(stopped).object(found.metadata.resource_version);
    journals.replace(ownership::NAME, &PostParams::default(), &said).await.map(drop)
}
