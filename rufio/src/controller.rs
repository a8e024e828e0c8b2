// SPDX-License-Identifier: Apache-2.0

//! The three controllers: objects in, status and Events out. The rim around the pure parts.

mod job;
mod machine;
mod task;

use std::sync::Arc;
use std::time::Duration;

use api::bmc::v1alpha1::{Job, Machine, Task};
use daemon::events::Recorder;
use daemon::leader::LeaderError;
use daemon::{Health, Latch};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::bmc::Connector;
use crate::config::Config;
use crate::context::{Context, PassError};
use crate::hardware::Index;
use crate::metrics::Metrics;
use crate::pool::Pool;

/// Pause before a pass that the API interrupted is repeated.
const API_RETRY: Duration = Duration::from_secs(5);
/// The same when somebody else changed the object meanwhile.
const CONFLICT_RETRY: Duration = Duration::from_millis(200);

/// Runs until `shutdown`: the controllers while this process leads, and the recorder always.
pub(crate) async fn run(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
    connector: Arc<dyn Connector>,
) -> Result<(), Error> {
    let events = CancellationToken::new();
    let (recorder, recording) = Recorder::spawn(client.clone(), "rufio", health.metrics(), events.clone());
    let metrics = Metrics::new(health.metrics());
    let latch = health.latch("leader election", "a look at the Lease");
    let election = config.election.clone();
    let work = {
        let client = client.clone();
        move |stop: CancellationToken| {
            let pool = Pool::new(Arc::clone(&connector), config.bmc_connect_timeout, stop.clone());
            // What a term remembers ends with it: another may have acted since.
            let (index, recorder, metrics) = (Index::default(), recorder.clone(), metrics.clone());
            let (client, config) = (client.clone(), config.clone());
            term(Context::new(client, config, pool, recorder, index, metrics, stop), &health)
        }
    };
    let race = (api::access::RUFIO_LEASE, election.as_ref());
    let outcome = daemon::leader::run(client, race, latch, shutdown, work).await;
    events.cancel();
    if let Err(error) = recording.await {
        tracing::warn!(%error, "events were left unwritten");
    }
    outcome.map_err(|error| match error {
        LeaderError::Work(error) => error,
        LeaderError::Task(_) => Error::Stopped("controllers"),
    })
}

/// The controllers, until their context's token is cancelled; then waits for what is under way.
fn term(context: Arc<Context>, health: &Health) -> impl Future<Output = Result<(), Error>> + use<> {
    let mut parts: JoinSet<&'static str> = JoinSet::new();
    let follow = context.hardware.clone().follow(context.all(), context.shutdown.clone());
    parts.spawn(async move {
        follow.await;
        "Hardware watch"
    });
    machines(&mut parts, &context, health);
    jobs(&mut parts, &context, health);
    tasks(&mut parts, &context, health);
    async move {
        let mut outcome = Ok(());
        while let Some(part) = parts.join_next().await {
            if !context.shutdown.is_cancelled() {
                // A part that ends before it is asked to takes the others with it; a panic has aborted the process already.
                outcome = Err(Error::Stopped(part.unwrap_or("controller")));
                context.shutdown.cancel();
            }
        }
        context.pool.drained().await;
        outcome
    }
}

fn machines(parts: &mut JoinSet<&'static str>, context: &Arc<Context>, health: &Health) {
    let controller = Controller::new(context.all::<Machine>(), watcher::Config::default());
    let caught_up = caught_up(controller.store(), health.latch("machine cache", "the first list"));
    parts.spawn(
        controller
            .with_config(concurrency(context))
            .graceful_shutdown_on(context.shutdown.clone().cancelled_owned())
            .run(machine::reconcile, again, Arc::clone(context))
            .for_each(|result| async { log(result) })
            .beside(caught_up, "Machine controller"),
    );
}

fn jobs(parts: &mut JoinSet<&'static str>, context: &Arc<Context>, health: &Health) {
    let controller = Controller::new(context.all::<Job>(), watcher::Config::default());
    let caught_up = caught_up(controller.store(), health.latch("job cache", "the first list"));
    parts.spawn(
        controller
            .owns(context.all::<Task>(), watcher::Config::default())
            .with_config(concurrency(context))
            .graceful_shutdown_on(context.shutdown.clone().cancelled_owned())
            .run(job::reconcile, again, Arc::clone(context))
            .for_each(|result| async { log(result) })
            .beside(caught_up, "Job controller"),
    );
}

fn tasks(parts: &mut JoinSet<&'static str>, context: &Arc<Context>, health: &Health) {
    let controller = Controller::new(context.all::<Task>(), watcher::Config::default());
    let caught_up = caught_up(controller.store(), health.latch("task cache", "the first list"));
    parts.spawn(
        controller
            .with_config(concurrency(context))
            .graceful_shutdown_on(context.shutdown.clone().cancelled_owned())
            .run(task::reconcile, again, Arc::clone(context))
            .for_each(|result| async { log(result) })
            .beside(caught_up, "Task controller"),
    );
}

/// Runs a part's side work in the part's own task and gives the part's name as the result.
trait Beside: Future<Output = ()> + Sized {
    fn beside(
        self,
        side: impl Future<Output = ()>,
        name: &'static str,
    ) -> impl Future<Output = &'static str> {
        async move {
            tokio::select! {
                () = self => {}
                () = side => {}
            }
            name
        }
    }
}

impl<F: Future<Output = ()>> Beside for F {}

fn concurrency(context: &Context) -> ControllerConfig {
    ControllerConfig::default().concurrency(context.config.max_concurrent_reconciles)
}

/// Sets a readiness latch once the first list is there, and never ends.
///
/// A store wakes only the task that asked last (kube-runtime's `DelayedInit` keeps one waker), and the controller asks too: so
/// this must be polled by the controller's task and by no other.
async fn caught_up<K>(store: Store<K>, latch: Latch)
where
    K: kube::Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    if store.wait_until_ready().await.is_ok() {
        latch.set();
    }
    std::future::pending::<()>().await;
}

fn again<K: ResourceExt<DynamicType = ()>>(
    object: Arc<K>,
    error: &PassError,
    _context: Arc<Context>,
) -> Action {
    if error.is_conflict() {
        return Action::requeue(CONFLICT_RETRY);
    }
    tracing::warn!(kind = %K::kind(&()), name = object.name_any(), error = daemon::chain(error), "pass interrupted");
    Action::requeue(API_RETRY)
}

fn log<K: kube::Resource<DynamicType = ()>, E: std::error::Error>(
    result: Result<(ObjectRef<K>, Action), kube::runtime::controller::Error<PassError, E>>,
) {
    match result {
        // Told by `again` already.
        Ok(_) | Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
        // Deleted meanwhile.
        Err(kube::runtime::controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::debug!(error = daemon::chain(&error), "watch broke, starting again"),
    }
}

fn now() -> Time {
    Time(Timestamp::now())
}

/// Time since `start`; zero when clocks were set back.
fn since(start: &Time) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(start.0)).unwrap_or_default()
}
