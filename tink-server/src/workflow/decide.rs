// SPDX-License-Identifier: Apache-2.0
//! The controller's decisions: from a Workflow and the objects around it to what is to be done next.
//!
//! Level-triggered: it does not know what woke it, and deciding twice on the same input asks for nothing new. Every
//! effect may be repeated after a crash: a Job is made only when there is none, a switch is set to a value.

use std::collections::BTreeMap;
use std::time::Duration;

use api::bmc::v1alpha1::{COMPLETED as JOB_COMPLETED, FAILED as JOB_FAILED, Job};
use api::events::Reason;
use api::v1alpha1::{
    Hardware, Template, TemplateRendering, Workflow, WorkflowState, WorkflowStatus, condition as types,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Note, arm, boot, condition, current, end, finish, may_write_disk, protected_message, task_and_action,
};

/// How long until a Workflow whose Template or Hardware is missing or wrong is looked at again without an event. The
/// watches of both wake it at once; this is for a lost one.
const RETRY_RENDER: Duration = Duration::from_secs(300);

/// How long until a Workflow that waits for another one of its machine is looked at again; no watch tells it of that one.
const RETRY_TURN: Duration = Duration::from_secs(5);

/// How long until a Job is looked at again without an event.
const RETRY_JOB: Duration = Duration::from_secs(60);

/// Reason of the condition of a Workflow that waits for another one of its machine.
const WAITING: &str = "Waiting";

/// Everything that a decision depends on.
#[derive(Debug)]
pub struct Input<'a> {
    /// The Workflow as it was just read.
    pub workflow: &'a Workflow,
    /// Its Template, if it is there. Only read while the Workflow is not rendered.
    pub template: Option<&'a Template>,
    /// Its Hardware, if it names one and it is there.
    pub hardware: Option<&'a Hardware>,
    /// The Workflow that has the machine now ([`super::rival`]). Only looked at in PREPARING.
    pub rival: Option<&'a Workflow>,
    /// The BMC Jobs under the names of this Workflow's Jobs.
    pub jobs: &'a BTreeMap<String, Job>,
    /// Now.
    pub now: Timestamp,
}

/// Something outside the Workflow's status.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Set `netboot.allowPXE` of every interface of the Hardware.
    SetNetboot {
        /// Name of the Hardware.
        hardware: String,
        /// The value.
        allow: bool,
    },
    /// Create a Job.
    CreateJob(Box<Job>),
    /// Delete a Job of an earlier Workflow, if it still has this UID.
    DeleteJob {
        /// Its name.
        name: String,
        /// Its UID.
        uid: Option<String>,
    },
}

/// What to do: the effects in order, then the status, then the notes. A failed step ends it; the next decision starts
/// from what was reached.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// Before the status.
    pub effects: Vec<Effect>,
    /// The new status, where it changes.
    pub status: Option<WorkflowStatus>,
    /// What to tell about the machine, after the status.
    pub notes: Vec<Note>,
    /// When to decide again without an event.
    pub again: Option<Duration>,
}

/// Renders a Template: given by the caller because identifiers are random.
pub type Rendering<'a> =
    dyn FnMut(&str, &gotemplate::Value) -> Result<crate::template::Rendered, crate::template::Error> + 'a;

/// Decides what happens next to a Workflow.
pub fn decide(input: &Input<'_>, render: &mut Rendering<'_>) -> Decision {
    let workflow = input.workflow;
    if workflow.metadata.deletion_timestamp.is_some() {
        return Decision::default();
    }
    let before = workflow.status.clone().unwrap_or_default();
    let mut next = Next { decision: Decision::default(), status: before.clone() };
    match workflow.state() {
        WorkflowState::Unset => rendering(input, &mut next, render),
        WorkflowState::Other(name) if name == "STATE_PENDING" => rendering(input, &mut next, render),
        _ if workflow.is_disabled() && *workflow.state() != WorkflowState::Post => {}
        WorkflowState::Preparing => preparing(input, &mut next),
        WorkflowState::Pending => pending(input, &mut next),
        WorkflowState::Running => running(input, &mut next),
        WorkflowState::Post => post(input, &mut next),
        _ => {}
    }
    let Next { mut decision, status } = next;
    decision.status = (status != before).then_some(status);
    decision
}

/// A decision in the making.
struct Next {
    decision: Decision,
    status: WorkflowStatus,
}

impl Next {
    fn note(&mut self, note: Option<Note>) {
        self.decision.notes.extend(note);
    }

    fn fail(&mut self, input: &Input<'_>, type_: &str, why: &str) {
        self.status.set_condition(condition(type_, true, "Error", why, input.now));
        let note = end(input.workflow, &mut self.status, WorkflowState::Failed, why);
        self.note(note);
    }
}

/// `""`: from the Template to tasks.
fn rendering(input: &Input<'_>, next: &mut Next, render: &mut Rendering<'_>) {
    let workflow = input.workflow;
    let rendered = match try_render(input, render) {
        Ok(rendered) => rendered,
        // A disabled Workflow is not worked on; what is wrong with it is told when it is enabled.
        Err(_) if workflow.is_disabled() => return,
        Err(why) => {
            let known = next.status.condition(types::TEMPLATE_RENDERED).and_then(|c| c.message.as_deref());
            if known != Some(why.as_str()) {
                next.note(Some(Note::new(Reason::TemplateFailed, why.clone())));
            }
            next.status.template_rendering = Some(TemplateRendering::Failed);
            next.status.set_condition(condition(types::TEMPLATE_RENDERED, false, "Error", &why, input.now));
            next.decision.again = Some(RETRY_RENDER);
            return;
        }
    };
    next.status.agent_id = rendered.tasks.first().map(|task| task.agent_id.clone());
    if workflow.is_disabled() {
        return;
    }
    next.status.global_timeout = Some(rendered.global_timeout);
    next.status.tasks = rendered.tasks;
    if let Some((task, _)) = current(&next.status).and_then(|at| task_and_action(&next.status, at)) {
        next.status.agent_id = Some(task.agent_id.clone());
    }
    next.status.template_rendering = Some(TemplateRendering::Successful);
    let message = "template rendered successfully";
    next.status.set_condition(condition(types::TEMPLATE_RENDERED, true, "Complete", message, input.now));
    // Before the state: nothing was touched yet, so nothing is to be undone.
    refuse_protected(input, next);
    if next.status.state.is_final() {
        return;
    }
    let boot = workflow.spec.boot_options.as_ref();
    let prepare = boot.is_some_and(|b| b.toggle_allow_netboot == Some(true) || b.boot_mode.is_some());
    next.status.state = if prepare { WorkflowState::Preparing } else { WorkflowState::Pending };
}

fn try_render(input: &Input<'_>, render: &mut Rendering<'_>) -> Result<crate::template::Rendered, String> {
    let spec = &input.workflow.spec;
    let name = spec.template_ref.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or("the Workflow has no templateRef")?;
    let template = input.template.ok_or_else(|| format!("Template {name} does not exist"))?;
    if let Some(wanted) = hardware_name(input.workflow)
        && input.hardware.is_none()
    {
        return Err(format!("Hardware {wanted} does not exist"));
    }
    let text = template.spec.data.as_deref().filter(|data| !data.is_empty());
    let text = text.ok_or_else(|| format!("Template {name} has no data"))?;
    let data = crate::view::data(&spec.hardware_map, input.hardware);
    render(text, &data).map_err(|error| format!("Template {name}: {error}"))
}

/// The Hardware that a Workflow names.
pub(crate) fn hardware_name(workflow: &Workflow) -> Option<&str> {
    workflow.spec.hardware_ref.as_deref().filter(|name| !name.is_empty())
}

/// Fails a Workflow that would write a machine marked as protected.
fn refuse_protected(input: &Input<'_>, next: &mut Next) {
    let Some(hardware) = input.hardware.filter(|hardware| hardware.is_protected()) else { return };
    let writer =
        next.status.tasks.iter().flat_map(|task| &task.actions).find(|action| may_write_disk(action));
    if let Some(action) = writer {
        let why = protected_message(&hardware.name_any(), action);
        next.fail(input, types::BOOT_JOB_SETUP_FAILED, &why);
        if let Some(condition) =
            next.status.conditions.iter_mut().find(|c| c.type_ == types::BOOT_JOB_SETUP_FAILED)
        {
            condition.reason = Some(types::REASON_PROTECTED.to_owned());
        }
    }
}

/// `PREPARING`: network boot on, then the BMC Job; not while another Workflow has the machine, which would be switched off
/// under its install, and whose end would switch off the netboot that was just switched on.
fn preparing(input: &Input<'_>, next: &mut Next) {
    let workflow = input.workflow;
    refuse_protected(input, next);
    if next.status.state != WorkflowState::Preparing {
        return;
    }
    if let Some(rival) = input.rival {
        let why = format!(
            "Workflow {} is {} and has the machine; this one waits until it is over, disabled or deleted",
            rival.name_any(),
            if rival.state().is_unset() { "first" } else { rival.state().as_str() },
        );
        let waits = condition(types::BOOT_JOB_SETUP_COMPLETE, false, WAITING, &why, input.now);
        next.status.set_condition(waits);
        next.decision.again = Some(RETRY_TURN);
        return;
    }
    // It waits no longer.
    next.status
        .conditions
        .retain(|c| c.type_ != types::BOOT_JOB_SETUP_COMPLETE || c.reason.as_deref() != Some(WAITING));
    let Some(hardware) = input.hardware else {
        let why = match hardware_name(workflow) {
            Some(name) => format!("Hardware {name} does not exist"),
            None => "bootOptions need a hardwareRef".to_owned(),
        };
        return next.fail(input, types::BOOT_JOB_SETUP_FAILED, &why);
    };
    let toggle = workflow.spec.boot_options.as_ref().is_some_and(|b| b.toggle_allow_netboot == Some(true));
    let done = netboot_status(&mut next.status).toggled_true == Some(true);
    if toggle && !done {
        next.decision.effects.push(Effect::SetNetboot { hardware: hardware.name_any(), allow: true });
        netboot_status(&mut next.status).toggled_true = Some(true);
        let message = "netboot is allowed";
        next.status.set_condition(condition(types::ALLOW_NETBOOT_TRUE, true, "Complete", message, input.now));
    }
    let Some(name) = boot::preparing_job(workflow) else {
        next.status.state = WorkflowState::Pending;
        return;
    };
    match job(input, next, &name, true) {
        JobState::Waiting => {}
        JobState::Completed => next.status.state = WorkflowState::Pending,
        JobState::Failed(why) => {
            next.fail(input, types::BOOT_JOB_FAILED, &why);
        }
        JobState::Impossible(why) => next.fail(input, types::BOOT_JOB_SETUP_FAILED, &why),
    }
}

/// `PENDING`: the agent moves it on; one without any action has nothing to wait for.
fn pending(input: &Input<'_>, next: &mut Next) {
    refuse_protected(input, next);
    if next.status.state == WorkflowState::Pending && current(&next.status).is_none() {
        next.status.state = WorkflowState::Post;
    }
}

/// How far a Job is.
enum JobState {
    Waiting,
    Completed,
    Failed(String),
    Impossible(String),
}

/// Looks after one Job: creates it when there is none, replaces that of an earlier Workflow, watches ours.
fn job(input: &Input<'_>, next: &mut Next, name: &str, preparing: bool) -> JobState {
    let workflow = input.workflow;
    let boot_status = next.status.boot_options.get_or_insert_default();
    let known = boot_status.jobs.get(name).is_some_and(|job| job.uid.is_some());
    let Some(job) = input.jobs.get(name) else {
        if known {
            return JobState::Failed(format!("BMC Job {name} was deleted before it was done"));
        }
        let Some(hardware) = input.hardware else {
            return JobState::Impossible("the Hardware does not exist any more".to_owned());
        };
        return match boot::job(workflow, hardware, name, preparing) {
            Ok(job) => {
                boot_status.jobs.entry(name.to_owned()).or_default();
                next.decision.effects.push(Effect::CreateJob(Box::new(job)));
                next.decision.again = Some(RETRY_JOB);
                JobState::Waiting
            }
            Err(error) => JobState::Impossible(error.to_string()),
        };
    };
    next.decision.again = Some(RETRY_JOB);
    let record = boot_status.jobs.entry(name.to_owned()).or_default();
    if !boot::is_ours(job, workflow) {
        if job.metadata.deletion_timestamp.is_none() {
            next.decision.effects.push(Effect::DeleteJob { name: name.to_owned(), uid: job.uid() });
        }
        record.existing_job_deleted = Some(true);
        return JobState::Waiting;
    }
    record.uid = job.uid();
    let status = job.status.clone().unwrap_or_default();
    let state = if status.is(JOB_FAILED) {
        let message = status.condition(JOB_FAILED).and_then(|c| c.message.clone()).unwrap_or_default();
        JobState::Failed(format!("BMC Job {name} failed: {message}").trim_end_matches([' ', ':']).to_owned())
    } else if status.is(JOB_COMPLETED) {
        record.complete = Some(true);
        JobState::Completed
    } else {
        JobState::Waiting
    };
    let message = format!("BMC Job {name} was created");
    next.status.set_condition(condition(
        types::BOOT_JOB_SETUP_COMPLETE,
        true,
        "Created",
        &message,
        input.now,
    ));
    if matches!(state, JobState::Completed) {
        let message = format!("BMC Job {name} is complete");
        next.status.set_condition(condition(types::BOOT_JOB_COMPLETE, true, "Complete", &message, input.now));
    }
    state
}

fn netboot_status(status: &mut WorkflowStatus) -> &mut api::v1alpha1::AllowNetbootStatus {
    status.boot_options.get_or_insert_default().allow_netboot.get_or_insert_default()
}

/// `RUNNING`: the deadline, and the hand-over to the agent of the next task.
fn running(input: &Input<'_>, next: &mut Next) {
    arm(&mut next.status);
    if let Some(stop) = next.status.global_execution_stop.clone() {
        let left = stop.0.duration_since(input.now);
        if left.is_positive() {
            // One second more, so that rounding never wakes it just before.
            next.decision.again = Some(left.unsigned_abs() + Duration::from_secs(1));
        } else {
            return time_out(input, next);
        }
    }
    match current(&next.status).and_then(|at| task_and_action(&next.status, at)) {
        Some((task, _)) if next.status.agent_id.as_deref() != Some(&task.agent_id) => {
            next.status.agent_id = Some(task.agent_id.clone());
        }
        Some(_) => {}
        // All done, but the report that ended it was cut off before its state was written.
        None => next.status.state = WorkflowState::Post,
    }
}

fn time_out(input: &Input<'_>, next: &mut Next) {
    let seconds = next.status.global_timeout.unwrap_or_default();
    let why = format!("the workflow took longer than its global_timeout of {seconds} s");
    if let Some((t, a)) = current(&next.status)
        && let Some(action) = next.status.tasks.get_mut(t).and_then(|task| task.actions.get_mut(a))
    {
        action.state = WorkflowState::Timeout;
        action.message = Some(why.clone());
    }
    let note = end(input.workflow, &mut next.status, WorkflowState::Timeout, &why);
    next.note(note);
}

/// `POST`: undo, then the final state. A failed clean-up is told, but does not turn an install into a failure: the
/// machine runs, and its boot device was set for one boot only.
fn post(input: &Input<'_>, next: &mut Next) {
    let workflow = input.workflow;
    let toggle = workflow.spec.boot_options.as_ref().is_some_and(|b| b.toggle_allow_netboot == Some(true));
    if toggle && netboot_status(&mut next.status).toggled_false != Some(true) {
        if let Some(hardware) = input.hardware {
            next.decision.effects.push(Effect::SetNetboot { hardware: hardware.name_any(), allow: false });
        }
        netboot_status(&mut next.status).toggled_false = Some(true);
        let message = "netboot is not allowed any more";
        next.status.set_condition(condition(
            types::ALLOW_NETBOOT_FALSE,
            true,
            "Complete",
            message,
            input.now,
        ));
    }
    if let Some(name) = boot::post_job(workflow, &next.status) {
        match job(input, next, &name, false) {
            JobState::Waiting => return,
            JobState::Completed => {}
            JobState::Failed(why) | JobState::Impossible(why) => {
                let failed = condition(types::BOOT_JOB_FAILED, true, "Error", &why, input.now);
                next.status.set_condition(failed);
            }
        }
    }
    let reported = next.status.current_state.as_ref().map(|current| current.state.clone());
    let outcome = match reported {
        Some(state) if state.is_final() => state,
        _ if current(&next.status).is_none() => WorkflowState::Success,
        _ => WorkflowState::Failed,
    };
    let why = failure(&next.status);
    let note = finish(&mut next.status, outcome, &why);
    next.note(Some(note));
}

/// Why a Workflow did not succeed: what its failed action or its conditions say.
fn failure(status: &WorkflowStatus) -> String {
    let actions = status.tasks.iter().flat_map(|task| &task.actions);
    let failed = actions.into_iter().find(|a| a.state.is_final() && a.state != WorkflowState::Success);
    if let Some(action) = failed {
        let message = action.message.as_deref().unwrap_or("no reason given");
        return format!("action \"{}\" ended with {}: {message}", super::action_name(action), action.state);
    }
    let condition = [types::BOOT_JOB_SETUP_FAILED, types::BOOT_JOB_FAILED]
        .into_iter()
        .find_map(|type_| status.condition(type_))
        .and_then(|condition| condition.message.clone());
    condition.unwrap_or_else(|| "the workflow failed".to_owned())
}
