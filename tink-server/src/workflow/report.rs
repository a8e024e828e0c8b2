// SPDX-License-Identifier: Apache-2.0
//! What an agent says about an action.
//!
//! ```text
//! action: PENDING --> RUNNING --> SUCCESS | FAILED | TIMEOUT     (PENDING --> final is accepted: the RUNNING got lost)
//! ```
//!
//! The same report twice is one report. A report that would go backwards, skip an action, or touch a Workflow that is
//! over is refused, so that a late one cannot bring a finished Workflow back.
//!
//! Called by the gRPC endpoint. It gives a status; it writes nothing.

use api::events::Reason;
use api::v1alpha1::{Workflow, WorkflowState, WorkflowStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Note, action_name, arm, current, current_state, end, task_and_action};

/// Longest message that is kept in a status, in bytes.
const MAX_MESSAGE: usize = 4096;

/// One report of an agent, as domain values.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Who says so.
    pub agent: String,
    /// The task, empty from agents that do not say.
    pub task: String,
    /// The action.
    pub action: String,
    /// Its new state: RUNNING, SUCCESS, FAILED or TIMEOUT.
    pub state: WorkflowState,
    /// When it started, where the agent knows.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub stop: Option<Timestamp>,
    /// How long it took, for people.
    pub duration: Option<String>,
    /// What the agent says about it.
    pub message: Option<String>,
}

/// What a report changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// The new status; nothing when the report was known already.
    pub status: Option<WorkflowStatus>,
    /// What to tell about the machine.
    pub notes: Vec<Note>,
}

/// Why a report is refused. All are permanent: repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The Workflow has no such action for this agent.
    #[error("workflow {workflow} has no action {action} for this agent")]
    NoAction {
        /// The Workflow.
        workflow: String,
        /// The action.
        action: String,
    },
    /// The Workflow is over, or not started.
    #[error("workflow {workflow} is {state}")]
    NotActive {
        /// The Workflow.
        workflow: String,
        /// Its state.
        state: String,
    },
    /// The action cannot go from one state to the other.
    #[error("action \"{action}\" is {from}, it cannot become {to}")]
    Backwards {
        /// The action.
        action: String,
        /// Its state.
        from: String,
        /// The reported state.
        to: String,
    },
    /// An earlier action is not done.
    #[error("action \"{action}\" is not next: \"{next}\" is")]
    OutOfOrder {
        /// The reported action.
        action: String,
        /// The one whose turn it is.
        next: String,
    },
}

/// Applies a report.
///
/// # Errors
/// See [`ReportError`].
pub fn report(workflow: &Workflow, report: &Report, now: Timestamp) -> Result<Reported, ReportError> {
    let name = workflow.name_any();
    let mut status = workflow.status.clone().unwrap_or_default();
    let no_action = || ReportError::NoAction { workflow: name.clone(), action: report.action.clone() };
    let (task, action) = status.action(&report.action).ok_or_else(no_action)?;
    if task.agent_id != report.agent || (!report.task.is_empty() && task.id != report.task) {
        return Err(no_action());
    }
    if action.state == report.state {
        return Ok(Reported { status: None, notes: Vec::new() });
    }
    let label = action_name(action).to_owned();
    if action.state.is_final() {
        let (from, to) = (action.state.to_string(), report.state.to_string());
        return Err(ReportError::Backwards { action: label, from, to });
    }
    if !matches!(status.state, WorkflowState::Pending | WorkflowState::Running) {
        let state = if status.state.is_unset() { "not started" } else { status.state.as_str() };
        return Err(ReportError::NotActive { workflow: name, state: state.to_owned() });
    }
    let at = current(&status).ok_or_else(no_action)?;
    let (_, next) = task_and_action(&status, at).ok_or_else(no_action)?;
    if next.id != report.action {
        return Err(ReportError::OutOfOrder { action: label, next: action_name(next).to_owned() });
    }
    apply(&mut status, at, report, now);
    let mut notes = vec![note(report, &label)];
    notes.extend(advance(workflow, &mut status, at, report, &label));
    Ok(Reported { status: Some(status), notes })
}

/// Writes the report into its action.
fn apply(status: &mut WorkflowStatus, at: (usize, usize), report: &Report, now: Timestamp) {
    let Some(action) = status.tasks.get_mut(at.0).and_then(|task| task.actions.get_mut(at.1)) else { return };
    action.state = report.state.clone();
    let start = report.start.map(Time).or_else(|| action.execution_start.clone());
    // The agents in the field report RUNNING without a start; the deadline hangs on it.
    action.execution_start = start.or(Some(Time(now)));
    if report.state.is_final() {
        action.execution_stop = Some(Time(report.stop.unwrap_or(now)));
        action.execution_duration = report.duration.clone();
    }
    action.message = report.message.as_deref().map(shortened);
    arm(status);
}

/// Moves the Workflow on.
fn advance(
    workflow: &Workflow,
    status: &mut WorkflowStatus,
    at: (usize, usize),
    report: &Report,
    label: &str,
) -> Option<Note> {
    if let Some((task, action)) = task_and_action(status, at) {
        status.current_state = Some(current_state(task, action));
    }
    match report.state {
        WorkflowState::Failed | WorkflowState::Timeout => {
            let message = report.message.as_deref().unwrap_or("no reason given");
            let why = format!("action \"{label}\" ended with {}: {}", report.state, shortened(message));
            return end(workflow, status, report.state.clone(), &why);
        }
        WorkflowState::Success => match current(status).and_then(|at| task_and_action(status, at)) {
            // What was prepared is undone by the controller, which also puts the final state.
            None => status.state = WorkflowState::Post,
            Some((task, _)) => {
                let agent = task.agent_id.clone();
                status.agent_id = Some(agent);
                status.state = WorkflowState::Running;
            }
        },
        _ => status.state = WorkflowState::Running,
    }
    None
}

fn note(report: &Report, label: &str) -> Note {
    let message = report.message.as_deref().unwrap_or_default();
    let (reason, text) = match report.state {
        WorkflowState::Success => (Reason::ActionSucceeded, format!("action \"{label}\" succeeded")),
        WorkflowState::Running => (Reason::ActionStarted, format!("action \"{label}\" started")),
        _ => (Reason::ActionFailed, format!("action \"{label}\" ended with {}: {message}", report.state)),
    };
    Note { reason, action_id: Some(report.action.clone()), message: shortened(&text) }
}

/// Cut to [`MAX_MESSAGE`] bytes at a character.
fn shortened(text: &str) -> String {
    let end = (0..=MAX_MESSAGE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
