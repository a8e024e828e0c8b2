// SPDX-License-Identifier: Apache-2.0
//! All Workflows as a watch has them, for the gRPC endpoint of every replica, whether or not it leads.
//!
//! Only *which* Workflow is an agent's is looked up here. What is handed out and what is kept is decided on the object as just
//! read from the API, so that an agent that reports to one replica and asks the next sees its own last report.

use api::v1alpha1::Workflow;
use daemon::Latch;
use futures::StreamExt;
use kube::Api;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Follows the watch until `shutdown`; with the first list `ready` is set and `listed` is told.
pub(crate) async fn follow(
    api: Api<Workflow>,
    writer: Writer<Workflow>,
    ready: Latch,
    listed: oneshot::Sender<()>,
    shutdown: CancellationToken,
) {
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(reflector(writer, events));
    let (mut listed, mut failing) = (Some(listed), false);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shutdown.cancelled() => return,
        };
        match event {
            Some(Ok(event)) => {
                failing = false;
                if matches!(event, Event::InitDone)
                    && let Some(listed) = listed.take()
                {
                    ready.set();
                    // Whoever asked may have been stopped meanwhile.
                    listed.send(()).unwrap_or_default();
                }
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        error = daemon::chain(&error),
                        "Workflows cannot be watched; trying again"
                    );
                }
            }
            None => return,
        }
    }
}
