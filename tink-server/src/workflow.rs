// SPDX-License-Identifier: Apache-2.0
//! The life of one Workflow, as pure decisions.
//!
//! ```text
//! "" --render--> PREPARING --boot Job done--> PENDING --first report--> RUNNING --last SUCCESS--> POST --> SUCCESS
//!   \---------------------------------------->/          |                 |                       ^ \---> FAILED
//!    (nothing to prepare)      boot Job failed, protected, FAILED, TIMEOUT  \---(to be undone)-----/  \---> TIMEOUT
//! ```
//!
//! [`decide()`] is the controller's half: it renders, prepares, watches the clock and undoes. [`serve()`] and [`report()`]
//! are the agents' half. All three take a Workflow as it was read and give the status it should have; who calls them
//! writes it with the resourceVersion that was read, so that two of them cannot both win.
//!
//! Rules that hold whatever is called in whatever order: a final state never changes; an action that reported SUCCESS
//! is never handed out again; what was switched on for the boot is switched off before a final state is reached.
//! While a Workflow is in POST, `currentState.state` holds the outcome that it will have.
//!
//! Nothing here has a clock, a socket or randomness.

pub mod boot;
mod decide;
mod queue;
mod report;
mod serve;

pub use decide::{Decision, Effect, Input, Rendering, decide};
pub use queue::rival;
pub use report::{Report, ReportError, Reported, report};
pub use serve::{Refusal, choose, is_active, response, serve};

pub(crate) use decide::hardware_name;

use api::events::Reason;
use api::v1alpha1::condition as types;
use api::v1alpha1::{Action, CurrentState, Task, Workflow, WorkflowCondition, WorkflowState, WorkflowStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Something to tell about the machine, once the status is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What happened.
    pub reason: Reason,
    /// The action it happened to.
    pub action_id: Option<String>,
    /// One sentence for people.
    pub message: String,
}

impl Note {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, action_id: None, message: message.into() }
    }
}

/// The name of an action for people.
pub(crate) fn action_name(action: &Action) -> &str {
    action.name.as_deref().unwrap_or(&action.id)
}

/// The first task that has an action that is not done, with that action.
fn current(status: &WorkflowStatus) -> Option<(usize, usize)> {
    status.tasks.iter().enumerate().find_map(|(t, task)| {
        let a = task.actions.iter().position(|action| action.state != WorkflowState::Success)?;
        Some((t, a))
    })
}

fn task_and_action(status: &WorkflowStatus, at: (usize, usize)) -> Option<(&Task, &Action)> {
    let task = status.tasks.get(at.0)?;
    Some((task, task.actions.get(at.1)?))
}

/// `currentState` for an action as it stands.
fn current_state(task: &Task, action: &Action) -> CurrentState {
    CurrentState {
        agent_id: Some(task.agent_id.clone()),
        task_id: Some(task.id.clone()),
        task_name: Some(task.name.clone()),
        action_id: Some(action.id.clone()),
        action_name: action.name.clone(),
        state: action.state.clone(),
    }
}

fn condition(type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) -> WorkflowCondition {
    WorkflowCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        time: Some(Time(now)),
    }
}

/// Whether something that was done for the boot is to be undone. A Workflow that came to PREPARING may have switched
/// netboot on even where its status does not say so: the controller may have died between the two.
fn must_undo(workflow: &Workflow, status: &WorkflowStatus) -> bool {
    let toggle = workflow.spec.boot_options.as_ref().is_some_and(|b| b.toggle_allow_netboot == Some(true));
    let netboot = status.boot_options.as_ref().and_then(|b| b.allow_netboot.as_ref());
    let off = netboot.is_some_and(|n| n.toggled_false == Some(true));
    let begun = !matches!(status.state, WorkflowState::Unset | WorkflowState::Other(_));
    (toggle && begun && !off) || boot::post_job(workflow, status).is_some()
}

/// Ends a Workflow with `outcome`: through POST when something is to be undone. Says so when it is over at once.
fn end(workflow: &Workflow, status: &mut WorkflowStatus, outcome: WorkflowState, why: &str) -> Option<Note> {
    status.current_state.get_or_insert_default().state = outcome.clone();
    if must_undo(workflow, status) {
        status.state = WorkflowState::Post;
        return None;
    }
    Some(finish(status, outcome, why))
}

/// Puts the final state and says so.
fn finish(status: &mut WorkflowStatus, outcome: WorkflowState, why: &str) -> Note {
    let note = match outcome {
        WorkflowState::Success => Note::new(Reason::WorkflowSucceeded, "all actions succeeded"),
        _ => Note::new(Reason::WorkflowFailed, why),
    };
    status.state = outcome;
    note
}

/// Arms the global timeout from the start of the first action.
fn arm(status: &mut WorkflowStatus) {
    let Some(seconds) = status.global_timeout.filter(|seconds| *seconds > 0) else { return };
    if status.global_execution_stop.is_some() {
        return;
    }
    let start = status.tasks.iter().flat_map(|t| &t.actions).find_map(|a| a.execution_start.as_ref());
    status.global_execution_stop = start
        .and_then(|start| start.0.checked_add(k8s_openapi::jiff::SignedDuration::from_secs(seconds)).ok())
        .map(Time);
}

/// Actions that never write a disk, by the last element of their image's path below `actions/` or `embedded/`; elsewhere
/// an image of that name may be anything.
const HARMLESS: &[&str] = &["kexec", "poweroff", "reboot", "slurp"];

/// Whether an action may write a disk. A container runs privileged with all devices, so everything may that is not
/// known not to; a `waitdaemon` runs the image in its environment.
pub fn may_write_disk(action: &Action) -> bool {
    let image = action.image.as_deref().unwrap_or_default();
    if image_name(image).1 == "waitdaemon" {
        return !is_harmless(action.environment.get("IMAGE").map_or("", String::as_str));
    }
    !is_harmless(image)
}

fn is_harmless(image: &str) -> bool {
    let (folder, name) = image_name(image);
    matches!(folder, "actions" | "embedded") && HARMLESS.contains(&name)
}

/// The last two elements of an image's path, without tag and digest.
fn image_name(image: &str) -> (&str, &str) {
    let path = image.split('@').next().unwrap_or_default();
    let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
    (folder.rsplit('/').next().unwrap_or_default(), last.split(':').next().unwrap_or_default())
}

/// What a refusal because of the annotation says.
pub(crate) fn protected_message(hardware: &str, action: &Action) -> String {
    format!(
        "Hardware {hardware} is protected (annotation {}): action \"{}\" may write a disk",
        api::annotations::PROTECTED,
        action_name(action)
    )
}

/// The status of a Workflow whose machine turned out to be protected when `action` was about to be handed out.
pub(crate) fn fail_protected(
    workflow: &Workflow,
    action: &str,
    why: &str,
    now: Timestamp,
) -> (WorkflowStatus, Vec<Note>) {
    let mut status = workflow.status.clone().unwrap_or_default();
    let actions = status.tasks.iter_mut().flat_map(|task| &mut task.actions);
    for action in actions.filter(|other| other.id == action) {
        action.state = WorkflowState::Failed;
        action.message = Some(why.to_owned());
    }
    let (type_, reason) = (types::BOOT_JOB_SETUP_FAILED, types::REASON_PROTECTED);
    status.set_condition(condition(type_, true, reason, why, now));
    let note = end(workflow, &mut status, WorkflowState::Failed, why);
    (status, note.into_iter().collect())
}

#[cfg(test)]
mod tests;
