// SPDX-License-Identifier: Apache-2.0

//! The Job and Task kinds: actions for one BMC, and the single action that is being carried out.
//!
//! Owns only the wire form. A Job is made by people, the workflow controller or Cluster API; rufio makes one Task for each
//! of its actions, in order.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Connection};

/// Condition of a Job: it has been started.
pub const RUNNING: &str = "Running";
/// Condition of a Job or Task: all of it is done.
pub const COMPLETED: &str = "Completed";
/// Condition of a Job or Task: it failed, and nothing more of it will be done.
pub const FAILED: &str = "Failed";

/// Actions for one BMC.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "bmc.tinkerbell.org",
    version = "v1alpha1",
    kind = "Job",
    plural = "jobs",
    singular = "job",
    shortname = "j",
    category = "tinkerbell",
    namespaced,
    status = "JobStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "Actions for one BMC, carried out in order."
)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// The BMC.
    pub machine_ref: MachineRef,
    /// The actions, in order.
    #[schemars(extend("minItems" = 1))]
    pub tasks: Vec<Action>,
}

/// Names a Machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineRef {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// How far a Job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Whether it runs, is done or failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<JobCondition>,
    /// When it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

/// One thing that is or is not so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobCondition {
    /// Explanation for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `True` or `False`.
    pub status: String,
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: String,
}

/// One action for one BMC.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "bmc.tinkerbell.org",
    version = "v1alpha1",
    kind = "Task",
    plural = "tasks",
    singular = "task",
    shortname = "t",
    category = "tinkerbell",
    namespaced,
    status = "TaskStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "One action for one BMC, as a Job has it carried out."
)]
pub struct TaskSpec {
    /// Copy of the Machine's connection at the time the Task was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// The action.
    pub task: Action,
}

/// How far a Task is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Whether it is done or failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<JobCondition>,
    /// When it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

impl JobStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&JobCondition> {
        find(&self.conditions, type_)
    }

    /// Whether a condition of this type is there and true.
    #[must_use]
    pub fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// Puts a condition in place of the one of its type, or adds it.
    pub fn set_condition(&mut self, new: JobCondition) {
        put(&mut self.conditions, new);
    }
}

impl JobCondition {
    /// A condition that holds.
    #[must_use]
    pub fn holds(type_: &str, message: Option<String>) -> Self {
        Self { type_: type_.to_owned(), status: "True".to_owned(), message }
    }
}

impl TaskStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&JobCondition> {
        find(&self.conditions, type_)
    }

    /// Whether a condition of this type is there and true.
    #[must_use]
    pub fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// Puts a condition in place of the one of its type, or adds it.
    pub fn set_condition(&mut self, new: JobCondition) {
        put(&mut self.conditions, new);
    }
}

fn find<'a>(conditions: &'a [JobCondition], type_: &str) -> Option<&'a JobCondition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn put(conditions: &mut Vec<JobCondition>, new: JobCondition) {
    match conditions.iter_mut().find(|condition| condition.type_ == new.type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}
