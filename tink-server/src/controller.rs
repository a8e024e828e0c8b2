// SPDX-License-Identifier: Apache-2.0
//! The Workflow controller: watches, reads what a decision needs, carries the decision out.
//!
//! Watches Workflows, the Jobs they own, and the Templates and Hardware they name, so that a missing one is picked up
//! when it appears. Nothing here waits for anything: a Job that is not done yet is looked at when it changes. Every
//! reconciliation reads the Workflow afresh; the status it writes is refused if another write came between, and then
//! it decides again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::bmc::v1alpha1::Job;
use api::v1alpha1::{Hardware, Template, Workflow, WorkflowState};
use daemon::Latch;
use daemon::watch::scoped;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::runtime::controller::{self, Action, Config as ControllerConfig};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::release;
use crate::store::{self, Netboot, StoreError, is_status};
use crate::workflow::{self, Decision, Effect, Input, boot};

/// First pause after an error; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause after errors.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a reconciliation stopped. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A write failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A read failed.
    #[error("the API did not answer a read: {0}")]
    Read(#[source] Box<kube::Error>),
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self::Read(Box::new(error))
    }
}

/// What reconciliations share.
struct Context {
    client: Client,
    /// All Workflows as the watch has them.
    workflows: Store<Workflow>,
    events: Events,
    /// Failures in a row per Workflow; entries go with the first success or the end of the Workflow.
    failures: std::sync::Mutex<BTreeMap<String, u32>>,
}

/// The controller, ready to run.
pub(crate) struct WorkflowController {
    controller: Controller<Workflow>,
    release: Controller<Hardware>,
    context: Arc<Context>,
}

impl WorkflowController {
    /// Prepares the watches.
    pub(crate) fn new(client: &Client, namespace: Option<&str>, concurrency: u16, events: Events) -> Self {
        let everything = watcher::Config::default;
        let controller = Controller::new(scoped::<Workflow>(client, namespace), everything())
            .with_config(ControllerConfig::default().concurrency(concurrency))
            .owns(scoped::<Job>(client, namespace), everything());
        let (by_template, by_hardware) = (controller.store(), controller.store());
        let controller = controller
            .watches(scoped::<Template>(client, namespace), everything(), move |template: Template| {
                let name = template.name_any();
                affected(&by_template, template.namespace(), move |workflow| {
                    workflow.spec.template_ref.as_ref() == Some(&name)
                })
            })
            .watches(scoped::<Hardware>(client, namespace), everything(), move |hardware: Hardware| {
                let name = hardware.name_any();
                affected(&by_hardware, hardware.namespace(), move |workflow| {
                    workflow.spec.hardware_ref.as_ref() == Some(&name)
                })
            });
        let context = Arc::new(Context {
            client: client.clone(),
            workflows: controller.store(),
            events,
            failures: Default::default(),
        });
        Self { controller, release: release::controller(client, namespace), context }
    }

    /// Works until `shutdown`; once all Workflows were read, `ready` is set.
    pub(crate) async fn run(self, ready: Latch, shutdown: CancellationToken) {
        let store = self.controller.store();
        // The store wakes one waiting task only. The controller waits too, so nobody outside this task may.
        let caught_up = async {
            if store.wait_until_ready().await.is_ok() {
                ready.set();
            }
            std::future::pending::<()>().await;
        };
        let release = release::run(
            self.release,
            self.context.client.clone(),
            self.controller.store(),
            shutdown.clone(),
        );
        let work = self
            .controller
            .graceful_shutdown_on(shutdown.cancelled_owned())
            .run(reconcile, on_error, self.context)
            .for_each(async |outcome| tell_broken_watch(outcome));
        tokio::select! {
            ((), ()) = futures::future::join(work, release) => {}
            () = caught_up => {}
        }
    }
}

/// What a failed reconciliation says was logged with its object; what is left to tell are broken watches.
pub(crate) fn tell_broken_watch<T, R, Q>(outcome: Result<T, controller::Error<R, Q>>)
where
    R: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    if let Err(error @ controller::Error::QueueError(_)) = outcome {
        tracing::warn!(error = %error, "a watch broke and is taken up again");
    }
}

/// Workflows of a namespace that are not over and that `names` picks.
fn affected(
    store: &Store<Workflow>,
    namespace: Option<String>,
    names: impl Fn(&Workflow) -> bool,
) -> Vec<ObjectRef<Workflow>> {
    store
        .state()
        .iter()
        .filter(|workflow| {
            workflow.namespace() == namespace && !workflow.state().is_final() && names(workflow)
        })
        .map(|workflow| ObjectRef::from_obj(workflow.as_ref()))
        .collect()
}

async fn reconcile(cached: Arc<Workflow>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let action = if cached.state().is_final() {
        Action::await_change()
    } else {
        reconcile_active(&cached, &context).await?
    };
    forget(&context, &cached);
    Ok(action)
}

async fn reconcile_active(cached: &Workflow, context: &Context) -> Result<Action, ReconcileError> {
    let namespace = cached.namespace().unwrap_or_default();
    let workflows: Api<Workflow> = Api::namespaced(context.client.clone(), &namespace);
    let name = cached.name_any();
    for attempt in 1.. {
        let Some(workflow) = workflows.get_opt(&name).await? else { break };
        let surroundings = Surroundings::read(context, &workflow).await?;
        let decision = surroundings.decide(&workflow);
        for effect in &decision.effects {
            apply(&context.client, &namespace, &workflow, effect).await?;
        }
        let Decision { status, notes, again, .. } = decision;
        if let Some(status) = &status {
            let Some(written) = store::write_status(&context.client, &workflow, status).await? else {
                store::pause(attempt).await?;
                continue;
            };
            log_transition(&workflow, &written);
            context.events.tell(&written, &notes);
        }
        return Ok(again.map_or_else(Action::await_change, Action::requeue));
    }
    Ok(Action::await_change())
}

fn log_transition(before: &Workflow, after: &Workflow) {
    if before.state() != after.state() {
        tracing::info!(
            workflow = after.name_any(),
            namespace = after.namespace(),
            from = before.state().as_str(),
            to = after.state().as_str(),
            "workflow changed state"
        );
    }
}

/// The objects around a Workflow that its state makes interesting.
struct Surroundings {
    template: Option<Template>,
    hardware: Option<Hardware>,
    rival: Option<Arc<Workflow>>,
    jobs: BTreeMap<String, Job>,
}

impl Surroundings {
    async fn read(context: &Context, workflow: &Workflow) -> Result<Self, kube::Error> {
        let client = &context.client;
        let namespace = workflow.namespace().unwrap_or_default();
        let mut found = Self { template: None, hardware: None, rival: None, jobs: BTreeMap::new() };
        let state = workflow.state();
        // A running Workflow gets a status write every second; it needs nothing but itself.
        if *state == WorkflowState::Running {
            return Ok(found);
        }
        if let Some(name) = workflow::hardware_name(workflow) {
            found.hardware = Api::namespaced(client.clone(), &namespace).get_opt(name).await?;
        }
        let wanted = match state {
            WorkflowState::Preparing => {
                found.rival = workflow::rival(workflow, context.workflows.state());
                boot::preparing_job(workflow)
            }
            WorkflowState::Post => boot::post_job(workflow, &workflow.status.clone().unwrap_or_default()),
            WorkflowState::Unset | WorkflowState::Other(_) => {
                if let Some(name) = workflow.spec.template_ref.as_deref().filter(|name| !name.is_empty()) {
                    found.template = Api::namespaced(client.clone(), &namespace).get_opt(name).await?;
                }
                None
            }
            _ => None,
        };
        if let Some(name) = wanted
            && let Some(job) = Api::<Job>::namespaced(client.clone(), &namespace).get_opt(&name).await?
        {
            found.jobs.insert(name, job);
        }
        Ok(found)
    }

    fn decide(&self, workflow: &Workflow) -> Decision {
        let input = Input {
            workflow,
            template: self.template.as_ref(),
            hardware: self.hardware.as_ref(),
            rival: self.rival.as_deref(),
            jobs: &self.jobs,
            now: Timestamp::now(),
        };
        workflow::decide(&input, &mut |text, data| {
            crate::template::render(text, data, &mut || ulid::Ulid::new().to_string())
        })
    }
}

/// Carries out one effect; done already counts as done.
async fn apply(
    client: &Client,
    namespace: &str,
    workflow: &Workflow,
    effect: &Effect,
) -> Result<(), ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    match effect {
        Effect::SetNetboot { hardware, allow } => {
            let netboot = if *allow { Netboot::OnFor(store::holder(workflow)) } else { Netboot::Off };
            store::set_netboot(client, namespace, hardware, &netboot).await?;
            tracing::info!(machine = hardware, allow, workflow = workflow.name_any(), "netboot switched");
        }
        Effect::CreateJob(job) => match jobs.create(&PostParams::default(), job).await {
            Ok(_) => tracing::info!(job = job.name_any(), workflow = workflow.name_any(), "bmc job created"),
            // Ours from before a crash, or an earlier Workflow's: the next decision tells them apart.
            Err(error) if is_status(&error, 409) => {}
            Err(error) => return Err(StoreError::from(error).into()),
        },
        Effect::DeleteJob { name, uid } => {
            let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match jobs.delete(name, &params).await {
                Ok(_) => {
                    tracing::info!(job = name, workflow = workflow.name_any(), "earlier bmc job deleted")
                }
                Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
    }
    Ok(())
}

fn key(workflow: &Workflow) -> String {
    format!("{}/{}", workflow.namespace().unwrap_or_default(), workflow.name_any())
}

fn forget(context: &Context, workflow: &Workflow) {
    if let Ok(mut failures) = context.failures.lock() {
        failures.remove(&key(workflow));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the controller passes Arcs")]
fn on_error(workflow: Arc<Workflow>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.failures.lock().map_or(1, |mut failures| {
        let count = failures.entry(key(&workflow)).or_default();
        *count = count.saturating_add(1);
        *count
    });
    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    tracing::warn!(workflow = workflow.name_any(), error = %error, failures, "workflow will be tried again");
    Action::requeue(pause)
}
