// SPDX-License-Identifier: Apache-2.0
//! Takes netboot back from machines whose Workflow was deleted before it was over.
//!
//! A Workflow switches netboot on and, when it ends, off; one that is deleted in between never ends, and a machine that
//! boots from the network first would go on asking. The Hardware says for whom its switch is on
//! ([`api::annotations::NETBOOT_FOR`]), so nothing has to be remembered and no finalizer holds up a deletion. Where a
//! person switched netboot on, there is no note, and nothing is touched.

use std::sync::Arc;
use std::time::Duration;

use api::annotations::NETBOOT_FOR;
use api::v1alpha1::{Hardware, Workflow};
use daemon::watch::scoped;
use futures::StreamExt;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::controller::{ReconcileError, tell_broken_watch};
use crate::store::{self, Netboot};

/// How often a machine whose netboot is on for a Workflow is looked at: in memory, without a call.
const INTERVAL: Duration = Duration::from_secs(5);

/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(10);

struct Context {
    client: Client,
    /// All Workflows as the watch has them.
    workflows: Store<Workflow>,
}

/// Prepares the watch.
pub(crate) fn controller(client: &Client, namespace: Option<&str>) -> Controller<Hardware> {
    Controller::new(scoped::<Hardware>(client, namespace), watcher::Config::default())
}

/// Works until `shutdown`.
pub(crate) async fn run(
    controller: Controller<Hardware>,
    client: Client,
    workflows: Store<Workflow>,
    shutdown: CancellationToken,
) {
    controller
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, on_error, Arc::new(Context { client, workflows }))
        .for_each(async |outcome| tell_broken_watch(outcome))
        .await;
}

async fn reconcile(hardware: Arc<Hardware>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let Some(holder) = hardware.annotations().get(NETBOOT_FOR) else { return Ok(Action::await_change()) };
    let namespace = hardware.namespace().unwrap_or_default();
    let name = holder.split('/').next().unwrap_or_default();
    let is_there = |workflow: &Workflow| store::holder(workflow) == *holder;
    if context.workflows.get(&ObjectRef::new(name).within(&namespace)).is_some_and(|found| is_there(&found)) {
        return Ok(Action::requeue(INTERVAL));
    }
    // The watch may not have it yet.
    let workflow = Api::<Workflow>::namespaced(context.client.clone(), &namespace).get_opt(name).await?;
    if workflow.is_some_and(|found| is_there(&found)) {
        return Ok(Action::requeue(INTERVAL));
    }
    let machine = hardware.name_any();
    store::set_netboot(&context.client, &namespace, &machine, &Netboot::OffFor(holder.clone())).await?;
    tracing::info!(machine, workflow = name, "netboot switched off: its workflow was deleted");
    Ok(Action::await_change())
}

#[expect(clippy::needless_pass_by_value, reason = "the controller passes Arcs")]
fn on_error(hardware: Arc<Hardware>, error: &ReconcileError, _: Arc<Context>) -> Action {
    tracing::warn!(machine = hardware.name_any(), error = %error, "hardware will be tried again");
    Action::requeue(PAUSE)
}
