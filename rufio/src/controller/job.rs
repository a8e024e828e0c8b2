// SPDX-License-Identifier: Apache-2.0

//! The Job controller: makes one Task after the other and writes how the Job ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::annotations::LABEL_TASK_OWNER;
use api::bmc::v1alpha1::{COMPLETED, FAILED, Job, JobCondition, JobStatus, Machine, RUNNING, Task, TaskSpec};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{now, since};
use crate::context::{Context, PassError, patch_status};
use crate::job::{self, PATIENCE, Step, TaskPhase, TaskView};

/// Pause between two looks for something that should appear by itself; what a Job owns wakes it anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Pause after a left-over Task was deleted.
const AFTER_DELETE: Duration = Duration::from_millis(500);

/// One pass.
pub(super) async fn reconcile(cached: Arc<Job>, context: Arc<Context>) -> Result<Action, PassError> {
    let Some((api, current)) = context.current(cached.as_ref()).await? else {
        return Ok(Action::await_change());
    };
    let status = current.status.clone().unwrap_or_default();
    if current.metadata.deletion_timestamp.is_some() || status.is(COMPLETED) || status.is(FAILED) {
        return Ok(Action::await_change());
    }
    let pass = Pass { context: &context, api, job: current };
    pass.run(status).await
}

struct Pass<'a> {
    context: &'a Context,
    api: Api<Job>,
    job: Job,
}

impl Pass<'_> {
    async fn run(mut self, mut status: JobStatus) -> Result<Action, PassError> {
        if status.start_time.is_none() {
            status.start_time = Some(now());
            status.set_condition(JobCondition::holds(RUNNING, None));
            self.job = patch_status(&self.api, &self.job, json!(status)).await?;
        }
        let Some(machine) = self.machine().await? else { return self.without_machine(status).await };
        let tasks = self.tasks().await?;
        let views: Vec<TaskView> = tasks.iter().filter_map(|task| self.view(task)).collect();
        match job::next(self.job.spec.tasks.len(), &views) {
            Step::Await(index) => self.tell(index, &tasks, status).await,
            Step::Create(index) => self.create(index, &machine, status).await,
            Step::Complete => self.finish(status, Ok(())).await,
            Step::Fail(reason) => self.finish(status, Err(reason)).await,
        }
    }

    async fn machine(&self) -> Result<Option<Machine>, PassError> {
        let reference = &self.job.spec.machine_ref;
        Ok(self.context.in_namespace(&self.machine_namespace()).get_opt(&reference.name).await?)
    }

    fn machine_namespace(&self) -> String {
        let given = &self.job.spec.machine_ref.namespace;
        if given.is_empty() { self.namespace() } else { given.clone() }
    }

    fn namespace(&self) -> String {
        self.job.namespace().unwrap_or_default()
    }

    async fn without_machine(self, mut status: JobStatus) -> Result<Action, PassError> {
        let problem =
            format!("Machine {}/{} does not exist", self.machine_namespace(), self.job.spec.machine_ref.name);
        if status.start_time.as_ref().is_some_and(|start| since(start) >= PATIENCE) {
            return self.finish(status, Err(problem)).await;
        }
        let waiting = JobCondition::holds(RUNNING, Some(problem));
        if status.condition(RUNNING) != Some(&waiting) {
            status.set_condition(waiting);
            patch_status(&self.api, &self.job, json!(status)).await?;
        }
        Ok(Action::requeue(LOOK_AGAIN))
    }

    /// The Tasks that this very Job owns, from the API: a cache may not have the one made a moment ago.
    async fn tasks(&self) -> Result<Vec<Task>, PassError> {
        let name = self.job.name_any();
        let params = match job::owner_label(&name) {
            Some(label) => ListParams::default().labels(&format!("{LABEL_TASK_OWNER}={label}")),
            None => ListParams::default(),
        };
        let list = self.context.in_namespace::<Task>(&self.namespace()).list(&params).await?;
        Ok(list.items.into_iter().filter(|task| self.owns(task)).collect())
    }

    fn owns(&self, task: &Task) -> bool {
        task.owner_references().iter().any(|owner| Some(&owner.uid) == self.job.metadata.uid.as_ref())
    }

    fn view(&self, task: &Task) -> Option<TaskView> {
        let index = job::task_index(&self.job.name_any(), &task.name_any())?;
        let status = task.status.clone().unwrap_or_default();
        let phase = if status.is(FAILED) {
            let reason = status.condition(FAILED).and_then(|failed| failed.message.clone());
            TaskPhase::Failed(reason.unwrap_or_else(|| "no reason given".to_owned()))
        } else if status.is(COMPLETED) {
            TaskPhase::Completed
        } else {
            TaskPhase::Open
        };
        Some(TaskView { index, phase })
    }

    /// Says what a Task meets while it is tried again, and no more once that is over.
    async fn tell(self, index: usize, tasks: &[Task], mut status: JobStatus) -> Result<Action, PassError> {
        let name = job::task_name(&self.job.name_any(), index);
        let task = tasks.iter().find(|task| task.name_any() == name);
        let trouble = task.and_then(|task| task.status.as_ref()?.condition(FAILED)?.message.clone());
        let running = JobCondition::holds(RUNNING, trouble);
        if status.condition(RUNNING) != Some(&running) {
            status.set_condition(running);
            patch_status(&self.api, &self.job, json!(status)).await?;
        }
        Ok(Action::await_change())
    }

    async fn create(self, index: usize, machine: &Machine, status: JobStatus) -> Result<Action, PassError> {
        let Some(action) = self.job.spec.tasks.get(index) else { return Ok(Action::await_change()) };
        let name = job::task_name(&self.job.name_any(), index);
        let mut connection = machine.spec.connection.clone();
        // The Task may be in another namespace than the Machine that the reference was written for.
        if let Some(secret) = &mut connection.auth_secret_ref
            && secret.namespace.as_deref().unwrap_or_default().is_empty()
        {
            secret.namespace = machine.namespace();
        }
        let mut task = Task::new(&name, TaskSpec { connection: Some(connection), task: action.clone() });
        task.metadata.namespace = self.job.namespace();
        task.metadata.owner_references = self.job.controller_owner_ref(&()).map(|owner| vec![owner]);
        task.metadata.labels = job::owner_label(&self.job.name_any())
            .map(|label| BTreeMap::from([(LABEL_TASK_OWNER.to_owned(), label.to_owned())]));
        let api = self.context.in_namespace::<Task>(&self.namespace());
        match api.create(&PostParams::default(), &task).await {
            Ok(_) => {
                tracing::info!(job = self.job.name_any(), task = name, "task created");
                Ok(Action::await_change())
            }
            Err(kube::Error::Api(error)) if error.code == 409 => self.meet(&api, &name, status).await,
            // A refusal by the schema stays one; anything else is tried again.
            Err(kube::Error::Api(error)) if matches!(error.code, 400 | 422) => {
                let reason = format!("task {index} cannot be made: {}", error.message);
                self.finish(status, Err(reason)).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A Task of the wanted name exists already.
    async fn meet(self, api: &Api<Task>, name: &str, status: JobStatus) -> Result<Action, PassError> {
        let Some(task) = api.get_opt(name).await? else { return Ok(Action::requeue(AFTER_DELETE)) };
        if self.owns(&task) {
            return Ok(Action::requeue(AFTER_DELETE));
        }
        // Left over from a Job of the same name that is gone; the collector has not come round yet.
        let own_name = self.job.name_any();
        let left_over = task
            .owner_references()
            .iter()
            .any(|owner| owner.kind == Job::kind(&()) && owner.name == own_name);
        if left_over {
            let only = Preconditions { uid: task.uid(), ..Preconditions::default() };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            match api.delete(name, &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(Action::requeue(AFTER_DELETE));
        }
        self.finish(status, Err(format!("a Task {name} exists already and does not belong to this Job")))
            .await
    }

    async fn finish(self, mut status: JobStatus, end: Result<(), String>) -> Result<Action, PassError> {
        let name = self.job.name_any();
        let completed = end.is_ok();
        match end {
            Ok(()) => {
                tracing::info!(job = name, "job completed");
                status.set_condition(JobCondition::holds(COMPLETED, None));
            }
            Err(reason) => {
                tracing::warn!(job = name, error = reason, "job failed");
                status.set_condition(JobCondition::holds(FAILED, Some(reason)));
            }
        }
        let ended = JobCondition { status: "False".to_owned(), ..JobCondition::holds(RUNNING, None) };
        status.set_condition(ended);
        status.completion_time = Some(now());
        patch_status(&self.api, &self.job, json!(status)).await?;
        self.context.metrics.ended("job", completed);
        Ok(Action::await_change())
    }
}
