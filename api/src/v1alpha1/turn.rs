// SPDX-License-Identifier: Apache-2.0

//! Whose turn a machine is, where several Workflows name it.
//!
//! One rule for everybody who has to choose: boots names the Workflow in the agent's token, the workflow server hands out
//! actions and prepares boots. A Workflow that runs keeps its machine until it is over; of those that wait, the one that
//! is further on its way comes first, and among equals the one that was made first. So nobody starves, and what was asked
//! for last is what the machine has in the end. One that is over, disabled or being deleted has no turn at all.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::annotations::FIRST_UID;

use super::{Workflow, WorkflowState};

/// A place in the queue of a machine's Workflows: the smallest has the turn. No two Workflows have the same place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    stage: Stage,
    created: Timestamp,
    namespace: String,
    name: String,
}

/// How far a Workflow is that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Pending,
    Preparing,
    New,
}

impl Workflow {
    /// The UID by which tokens of agents and whoever else outlives a move name the Workflow: the first that it had. Empty before it has any.
    #[must_use]
    pub fn first_uid(&self) -> &str {
        let moved = self.metadata.annotations.as_ref().and_then(|all| all.get(FIRST_UID));
        moved.or(self.metadata.uid.as_ref()).map_or("", String::as_str)
    }

    /// The Workflow's place in the queue for its machine; nothing when the machine has nothing to do for it (any more).
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        if self.is_disabled() || self.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let stage = match self.state() {
            WorkflowState::Running => Stage::Running,
            WorkflowState::Pending => Stage::Pending,
            WorkflowState::Preparing => Stage::Preparing,
            WorkflowState::Unset => Stage::New,
            WorkflowState::Other(name) if name == "STATE_PENDING" => Stage::New,
            WorkflowState::Post
            | WorkflowState::Success
            | WorkflowState::Failed
            | WorkflowState::Timeout
            | WorkflowState::Other(_) => return None,
        };
        Some(Turn {
            stage,
            created: self.creation_timestamp().map_or(Timestamp::MIN, |time| time.0),
            namespace: self.namespace().unwrap_or_default(),
            name: self.name_any(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(name: &str, state: &str, created: &str) -> Workflow {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "tinkerbell.org/v1alpha1",
            "kind": "Workflow",
            "metadata": { "name": name, "namespace": "t", "creationTimestamp": created },
            "status": { "state": state },
        }))
        .unwrap()
    }

    fn first(all: &[Workflow]) -> Option<String> {
        let waiting = all.iter().filter_map(|workflow| Some((workflow.turn()?, workflow.name_any())));
        waiting.min().map(|(_, name)| name)
    }

    #[test]
    fn the_one_that_runs_then_the_furthest_then_the_oldest_then_by_name() {
        let day = |day: u8| format!("2026-01-{day:02}T00:00:00Z");
        let mut all = vec![
            workflow("foreign", "STATE_SUCCESS", &day(1)),
            workflow("legacy", "STATE_PENDING", &day(2)),
            workflow("failed", "FAILED", &day(1)),
            workflow("timeout", "TIMEOUT", &day(1)),
            workflow("success", "SUCCESS", &day(1)),
            workflow("post", "POST", &day(1)),
            workflow("new", "", &day(1)),
            workflow("preparing", "PREPARING", &day(2)),
            workflow("late", "PENDING", &day(4)),
            workflow("b", "PENDING", &day(3)),
            workflow("a", "PENDING", &day(3)),
            workflow("running", "RUNNING", &day(9)),
        ];
        let mut order = Vec::new();
        while let Some(name) = first(&all) {
            all.retain(|workflow| workflow.name_any() != name);
            order.push(name);
        }
        assert_eq!(order, ["running", "a", "b", "late", "preparing", "new", "legacy"]);
    }

    #[test]
    fn a_disabled_or_vanishing_one_has_no_turn() {
        let mut disabled = workflow("w", "PENDING", "2026-01-01T00:00:00Z");
        disabled.spec.disabled = Some(true);
        assert_eq!(disabled.turn(), None);
        let mut vanishing = workflow("w", "RUNNING", "2026-01-01T00:00:00Z");
        vanishing.metadata.deletion_timestamp = vanishing.metadata.creation_timestamp.clone();
        assert_eq!(vanishing.turn(), None);
    }
}
