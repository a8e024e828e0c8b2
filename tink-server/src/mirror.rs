// SPDX-License-Identifier: Apache-2.0
//! All Workflows as a watch has them, for the gRPC endpoint of every replica, whether or not it leads.
//!
//! Only *which* Workflow is an agent's is looked up here. What is handed out and what is kept is decided on the object as just
//! read from the API, so that an agent that reports to one replica and asks the next sees its own last report.

use api::v1alpha1::Workflow;
use daemon::Latch;
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
    let events = reflector(writer, watcher::watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = Some(listed);
    daemon::watch::follow(events, shutdown, |event| {
        if matches!(event, Event::InitDone)
            && let Some(listed) = listed.take()
        {
            ready.set();
            // Whoever asked may have been stopped meanwhile.
            listed.send(()).unwrap_or_default();
        }
    })
    .await;
}
