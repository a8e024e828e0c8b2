// SPDX-License-Identifier: Apache-2.0

//! The Task controller: carries out one action, level by level. Each pass reads the Task and the machine and takes one
//! step; between two steps nothing is held but the BMC's session, by the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::bmc::v1alpha1::{
    COMPLETED, FAILED, Job, JobCondition, Machine, Operation, PowerAction, Task, TaskStatus,
};
use api::events::Reason;
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{now, since};
use crate::bmc::{BootRequest, Fault, FaultKind, Power, Switch};
use crate::context::{Context, PassError, TaskMemo, patch_status};
use crate::pool::{Outcome, Request};
use crate::target::Target;
use crate::task::{self, ISSUED, Step, TASK_LIMIT};
use crate::verify;

/// Pause after a command before the first look.
const FIRST_LOOK: Duration = Duration::from_millis(300);

/// One pass.
pub(super) async fn reconcile(cached: Arc<Task>, context: Arc<Context>) -> Result<Action, PassError> {
    let uid = cached.uid().unwrap_or_default();
    let Some((api, current)) = context.current(cached.as_ref()).await? else {
        context.forget_task(&uid);
        return Ok(Action::await_change());
    };
    let status = current.status.clone().unwrap_or_default();
    if current.metadata.deletion_timestamp.is_some() || status.is(COMPLETED) || status.is(FAILED) {
        context.forget_task(&uid);
        return Ok(Action::await_change());
    }
    Pass { context: &context, api, uid, task: current, status }.run().await
}

/// How an action ended well.
struct Done {
    message: String,
    /// The power state, where the action read one.
    power: Option<Power>,
    reason: Option<Reason>,
}

struct Pass<'a> {
    context: &'a Context,
    api: Api<Task>,
    uid: String,
    task: Task,
    status: TaskStatus,
}

impl Pass<'_> {
    async fn run(mut self) -> Result<Action, PassError> {
        let operation = match Operation::try_from(&self.task.spec.task) {
            Ok(operation) => operation,
            Err(error) => return self.fail(Fault::new(FaultKind::Config, error.to_string())).await,
        };
        if self.status.start_time.is_none() {
            self.status.start_time = Some(now());
            self.write().await?;
        }
        if self.status.start_time.as_ref().is_some_and(|start| since(start) > TASK_LIMIT) {
            let last = self.status.condition(FAILED).and_then(|failed| failed.message.clone());
            let last = last.map(|message| format!("; last: {message}")).unwrap_or_default();
            let message = format!("not done within {} minutes{last}", TASK_LIMIT.as_secs() / 60);
            return self.fail(Fault::new(FaultKind::Refused, message)).await;
        }
        let Some(connection) = self.task.spec.connection.clone() else {
            return self.fail(Fault::new(FaultKind::Config, "the Task has no connection")).await;
        };
        let namespace = self.task.namespace().ok_or(PassError::Incomplete("namespace"))?;
        let target = match self.context.target(&connection, &namespace).await?.0 {
            Ok(target) => target,
            Err(fault) => return self.fault(fault).await,
        };
        match operation {
            Operation::Power(action) => self.power(action, &target).await,
            Operation::Boot { device, persistent, efi } => {
                self.boot(BootRequest { device, persistent, efi }, &target).await
            }
            Operation::InsertMedia { kind, url } => self.media(kind, Some(url), &target).await,
            Operation::EjectMedia { kind } => self.media(kind, None, &target).await,
        }
    }

    async fn power(mut self, action: PowerAction, target: &Target) -> Result<Action, PassError> {
        let read = match self.context.power(target).await {
            Ok(read) => read,
            Err(fault) => return self.fault(fault).await,
        };
        let memo = self.memo();
        match task::next(action, memo.attempt(), read) {
            Step::Done(message) => {
                let reason = power_reason(action, read);
                self.complete(Done { message, power: Some(read), reason }).await
            }
            Step::Fail(message) => self.fail(Fault::new(FaultKind::Refused, message)).await,
            Step::Wait(pause) => {
                self.context.remember_task(&self.uid, TaskMemo { faults: 0, ..memo });
                Ok(Action::requeue(pause))
            }
            Step::Send(switch) => match self.send(switch, memo, target).await? {
                Err(fault) if fault.kind == FaultKind::Unsupported => match task::substitute(switch, read) {
                    None => self.fail(fault).await,
                    Some(other) => match self.send(other, memo, target).await? {
                        Ok(()) => Ok(Action::requeue(FIRST_LOOK)),
                        Err(fault) => self.fault(fault).await,
                    },
                },
                Err(fault) if fault.kind == FaultKind::Refused => self.refused(action, fault, target).await,
                Err(fault) => self.fault(fault).await,
                Ok(()) => Ok(Action::requeue(FIRST_LOOK)),
            },
        }
    }

    /// What is known of the Task's commands: from memory, or after a restart from the condition.
    fn memo(&self) -> TaskMemo {
        self.context.task_memo(&self.uid).unwrap_or_else(|| {
            let message = self.status.condition(ISSUED).and_then(|issued| issued.message.as_deref());
            let memo = TaskMemo::new(message.and_then(task::issued).map(|switch| (switch, 1, true)));
            self.context.remember_task(&self.uid, memo);
            memo
        })
    }

    /// Writes down what is about to be sent, then sends it.
    async fn send(
        &mut self,
        switch: Switch,
        memo: TaskMemo,
        target: &Target,
    ) -> Result<Result<(), Fault>, PassError> {
        let issued = JobCondition::holds(ISSUED, Some(switch.to_string()));
        if self.status.condition(ISSUED) != Some(&issued) {
            self.status.set_condition(issued);
            self.write().await?;
        }
        let before = match memo.command {
            Some((last, sent, false)) if last == switch => sent,
            _ => 0,
        };
        let sent = TaskMemo {
            command: Some((switch, before.saturating_add(1), false)),
            at: Instant::now(),
            faults: 0,
        };
        self.context.remember_task(&self.uid, sent);
        tracing::info!(task = self.task.name_any(), bmc = target.host, command = %switch, "sending power command");
        let result = self.context.ask(target, Request::Switch(switch)).await;
        if let Err(fault) = &result
            && fault.kind == FaultKind::Busy
        {
            // The BMC said that it did not do it.
            self.context.remember_task(&self.uid, memo);
        }
        Ok(result.map(drop))
    }

    /// BMCs refuse a command whose state is reached already; the state decides.
    async fn refused(self, action: PowerAction, fault: Fault, target: &Target) -> Result<Action, PassError> {
        let read = match self.context.power(target).await {
            Ok(read) => read,
            Err(fault) => return self.fault(fault).await,
        };
        let reached = match action {
            PowerAction::On => read == Power::On,
            PowerAction::Off | PowerAction::Soft => read == Power::Off,
            PowerAction::Cycle | PowerAction::Reset | PowerAction::Status => false,
        };
        if reached {
            let done = Done {
                message: format!("power is {read}"),
                power: Some(read),
                reason: power_reason(action, read),
            };
            self.complete(done).await
        } else {
            self.fail(fault).await
        }
    }

    async fn boot(self, wanted: BootRequest, target: &Target) -> Result<Action, PassError> {
        let answer = match self.context.ask(target, Request::Boot(wanted)).await {
            Ok(answer) => answer,
            Err(fault) => return self.fault(fault).await,
        };
        let notes = match &answer.outcome {
            Outcome::Boot(read) => verify::boot_flags(&wanted, read),
            Outcome::Power(_) | Outcome::Switched | Outcome::Media(_) => Vec::new(),
        };
        let how_long = if wanted.persistent { "every boot" } else { "the next boot" };
        let mut message =
            format!("boot device is {} for {how_long}, set over {}", wanted.device, answer.driver);
        for note in &notes {
            tracing::warn!(
                task = self.task.name_any(),
                bmc = target.host,
                note,
                "boot flag was not taken over"
            );
            message.push_str("; ");
            message.push_str(note);
        }
        self.complete(Done { message, power: None, reason: Some(Reason::BootDeviceSet) }).await
    }

    async fn media(self, kind: String, url: Option<String>, target: &Target) -> Result<Action, PassError> {
        let message = match &url {
            Some(_) => format!("image inserted as {kind}"),
            None => format!("{kind} is empty"),
        };
        match self.context.ask(target, Request::Media { kind, url }).await {
            Ok(_) => self.complete(Done { message, power: None, reason: None }).await,
            Err(fault) => self.fault(fault).await,
        }
    }

    /// A fault ends the Task or is tried again, and is told in either case.
    async fn fault(mut self, fault: Fault) -> Result<Action, PassError> {
        if self.context.shutdown.is_cancelled() {
            return Ok(Action::await_change());
        }
        let memo = self.memo();
        let faults = memo.faults + 1;
        if task::gives_up(fault.kind, faults) {
            return self.fail(fault).await;
        }
        self.context.remember_task(&self.uid, TaskMemo { faults, ..memo });
        let message = format!("{}; trying again", fault.message);
        let told = JobCondition { status: "False".to_owned(), ..JobCondition::holds(FAILED, Some(message)) };
        if self.status.condition(FAILED) != Some(&told) {
            tracing::warn!(
                task = self.task.name_any(),
                error = fault.message,
                "BMC request failed, trying again"
            );
            self.status.set_condition(told);
            self.write().await?;
        }
        Ok(Action::requeue(task::pause_after_faults(faults)))
    }

    async fn complete(mut self, done: Done) -> Result<Action, PassError> {
        // An old "trying again" is not true any more.
        self.status.conditions.retain(|condition| condition.type_ != FAILED);
        self.status.set_condition(JobCondition::holds(COMPLETED, Some(done.message.clone())));
        self.end().await?;
        tracing::info!(task = self.task.name_any(), outcome = done.message, "task completed");
        self.context.metrics.ended("task", true);
        let Some(machine) = self.machine().await else { return Ok(Action::await_change()) };
        if let Some(reason) = done.reason {
            self.context.tell(
                &machine.namespace().unwrap_or_default(),
                &machine.name_any(),
                reason,
                &done.message,
            );
        }
        if let Some(power) = done.power {
            self.note(&machine, Ok(power)).await;
        }
        Ok(Action::await_change())
    }

    async fn fail(mut self, fault: Fault) -> Result<Action, PassError> {
        self.status.set_condition(JobCondition::holds(FAILED, Some(fault.message.clone())));
        self.end().await?;
        tracing::warn!(task = self.task.name_any(), error = fault.message, "task failed");
        self.context.metrics.ended("task", false);
        let Some(machine) = self.machine().await else { return Ok(Action::await_change()) };
        let (namespace, name) = (machine.namespace().unwrap_or_default(), machine.name_any());
        self.context.tell(&namespace, &name, Reason::PowerFailed, &fault.message);
        if matches!(fault.kind, FaultKind::Unreachable | FaultKind::Auth | FaultKind::Tls) {
            // The Machine's own look is due now, and goes on until the BMC is back.
            self.context.forget_machine(&machine.uid().unwrap_or_default());
            self.note(&machine, Err(&fault)).await;
        }
        Ok(Action::await_change())
    }

    async fn end(&mut self) -> Result<(), PassError> {
        self.status.completion_time = Some(now());
        self.write().await?;
        self.context.forget_task(&self.uid);
        Ok(())
    }

    async fn write(&mut self) -> Result<(), PassError> {
        self.task = patch_status(&self.api, &self.task, json!(self.status)).await?;
        Ok(())
    }

    /// The Machine behind this Task, through its Job. For telling only: without one the Task is carried out all the same.
    async fn machine(&self) -> Option<Machine> {
        let owners = self.task.owner_references();
        let owner = owners.iter().find(|owner| owner.kind == Job::kind(&()))?;
        let namespace = self.task.namespace()?;
        let found = async {
            let Some(job) = self.context.in_namespace::<Job>(&namespace).get_opt(&owner.name).await? else {
                return Ok(None);
            };
            let reference = job.spec.machine_ref;
            let namespace =
                if reference.namespace.is_empty() { namespace.clone() } else { reference.namespace };
            self.context.in_namespace::<Machine>(&namespace).get_opt(&reference.name).await
        };
        let found: Result<Option<Machine>, kube::Error> = found.await;
        found.unwrap_or_else(|error| {
            tracing::debug!(task = self.task.name_any(), %error, "machine of the task cannot be read");
            None
        })
    }

    async fn note(&self, machine: &Machine, contact: Result<Power, &Fault>) {
        if let Err(error) = self.context.note_contact(machine, contact).await {
            tracing::debug!(machine = machine.name_any(), %error, "machine status was not updated by a task");
        }
    }
}

fn power_reason(action: PowerAction, read: Power) -> Option<Reason> {
    match (action, read) {
        (PowerAction::Status, _) | (_, Power::Unknown) => None,
        (_, Power::On) => Some(Reason::PoweredOn),
        (_, Power::Off) => Some(Reason::PoweredOff),
    }
}
