// SPDX-License-Identifier: Apache-2.0
//! Which action an agent gets.
//!
//! Of the Workflows that name the agent the active one whose turn it is decides ([`Workflow::turn`], the rule by which
//! boots names the Workflow in the agent's token); one that is over never blocks another. In it the first action that
//! has not succeeded is handed out: a pending one for the first time, a running one again (the agent was restarted; it
//! knows from its journal how far it was).
//!
//! Called by the gRPC endpoint. It reads and gives a status; it writes nothing.

use std::cmp::Reverse;

use api::v1alpha1::{Action, Task, Turn, Workflow, WorkflowState, WorkflowStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use proto::workflow::{ActionResponse, Namespaces};

use super::{current, current_state, task_and_action};

/// Why an agent gets nothing now. It asks again after its back-off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No Workflow names this agent.
    #[error("no workflow for this agent")]
    NoWorkflow,
    /// The Workflow has nothing for it in its present state.
    #[error("workflow {workflow} is {state}")]
    NotReady {
        /// The Workflow.
        workflow: String,
        /// What it is.
        state: String,
    },
    /// The Workflow is at a task of another agent, or all its actions are done.
    #[error("workflow {workflow} has no action for this agent")]
    NothingLeft {
        /// The Workflow.
        workflow: String,
    },
}

/// Whether an agent can be working on it, or is about to.
pub fn is_active(workflow: &Workflow) -> bool {
    matches!(workflow.state(), WorkflowState::Preparing | WorkflowState::Pending | WorkflowState::Running)
        && !workflow.is_disabled()
        && workflow.metadata.deletion_timestamp.is_none()
}

/// Picks the Workflow that decides for an agent among those that name it: the active one whose turn it is, and when none
/// is active the newest, whose state is then what the agent is told.
pub fn choose<W: AsRef<Workflow>>(mine: impl IntoIterator<Item = W>) -> Option<W> {
    mine.into_iter().min_by_key(|workflow| Place::of(workflow.as_ref()))
}

/// Where a Workflow stands among those of an agent. The order of the variants counts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Active(Turn),
    Idle(Reverse<(Timestamp, String, String)>),
}

impl Place {
    fn of(workflow: &Workflow) -> Self {
        if let Some(turn) = workflow.turn().filter(|_| is_active(workflow)) {
            return Self::Active(turn);
        }
        let created = workflow.creation_timestamp().map_or(Timestamp::MIN, |time| time.0);
        Self::Idle(Reverse((created, workflow.namespace().unwrap_or_default(), workflow.name_any())))
    }
}

/// The action that `agent` gets of this Workflow, and the status that remembers it (the same as before when the same
/// action is handed out again).
///
/// # Errors
/// See [`Refusal`].
pub fn serve(workflow: &Workflow, agent: &str) -> Result<(Task, Action, WorkflowStatus), Refusal> {
    let name = workflow.name_any();
    let state = workflow.state();
    if !matches!(state, WorkflowState::Pending | WorkflowState::Running) || !is_active(workflow) {
        let state = match state {
            _ if workflow.is_disabled() => "disabled",
            WorkflowState::Unset => "not rendered yet",
            other => other.as_str(),
        };
        return Err(Refusal::NotReady { workflow: name, state: state.to_owned() });
    }
    let status = workflow.status.clone().unwrap_or_default();
    let found = current(&status).and_then(|at| task_and_action(&status, at));
    let Some((task, action)) = found.filter(|(task, _)| task.agent_id == agent) else {
        return Err(Refusal::NothingLeft { workflow: name });
    };
    if !matches!(action.state, WorkflowState::Pending | WorkflowState::Running) {
        return Err(Refusal::NotReady { workflow: name, state: action.state.to_string() });
    }
    let (task, action) = (task.clone(), action.clone());
    let state = current_state(&task, &action);
    let status = WorkflowStatus { current_state: Some(state), ..status };
    Ok((task, action, status))
}

/// The wire form: volumes of the task, then of the action; the task's environment overlaid by the action's, sorted.
pub fn response(workflow: &Workflow, task: &Task, action: &Action) -> ActionResponse {
    let mut environment = task.environment.clone();
    environment.extend(action.environment.iter().map(|(k, v)| (k.clone(), v.clone())));
    let mut environment: Vec<String> = environment.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    environment.sort_unstable();
    let text = |text: &Option<String>| Some(text.clone().unwrap_or_default());
    let namespaces = action.namespaces.clone().unwrap_or_default();
    let pid = namespaces.pid.clone().filter(|pid| !pid.is_empty()).or_else(|| action.pid.clone());
    ActionResponse {
        workflow_id: Some(format!("{}/{}", workflow.namespace().unwrap_or_default(), workflow.name_any())),
        task_id: Some(task.id.clone()),
        agent_id: Some(task.agent_id.clone()),
        action_id: Some(action.id.clone()),
        name: text(&action.name),
        image: text(&action.image),
        timeout: Some(action.timeout.unwrap_or(0)),
        command: action.command.clone(),
        volumes: task.volumes.iter().chain(&action.volumes).cloned().collect(),
        environment,
        pid: Some(pid.unwrap_or_default()),
        namespaces: Some(Namespaces { network: namespaces.network, pid: namespaces.pid }),
    }
}
