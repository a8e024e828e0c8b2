// SPDX-License-Identifier: Apache-2.0

//! The Workflow kind: one Template applied to one Hardware, and how far that is.
//!
//! Owns the wire form of `Workflow` in `tinkerbell.org/v1alpha1` and its states. The workflow controller and the gRPC
//! server write the status, everybody reads it. `status.agentToken`, `status.agentFirstCall` and `status.progress` are
//! additions of this implementation; a reader that does not know them loses nothing.

#![expect(clippy::duplicated_attributes, reason = "the derive takes one printcolumn for each column")]

use std::{borrow::Cow, collections::BTreeMap, convert::Infallible, fmt, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::bmc::v1alpha1::Action as BmcAction;

/// What is to be done, and on which machine.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tinkerbell.org",
    version = "v1alpha1",
    kind = "Workflow",
    plural = "workflows",
    singular = "workflow",
    shortname = "wf",
    category = "tinkerbell",
    namespaced,
    status = "WorkflowStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "One template applied to one machine, and how far that is.",
    printcolumn(name = "Template", type_ = "string", json_path = ".spec.templateRef"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Task", type_ = "string", json_path = ".status.currentState.taskName", priority = 1),
    printcolumn(name = "Action", type_ = "string", json_path = ".status.currentState.actionName"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.currentState.agentID"),
    printcolumn(name = "Hardware", type_ = "string", json_path = ".spec.hardwareRef"),
    printcolumn(
        name = "Template-Rendering",
        type_ = "string",
        json_path = ".status.templateRendering",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSpec {
    /// How the machine is brought to boot the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_options: Option<BootOptions>,
    /// Keeps the Workflow from being worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Values for the template, at its top level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hardware_map: BTreeMap<String, String>,
    /// Name of the Hardware in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_ref: Option<String>,
    /// Name of the Template in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<String>,
}

/// How a machine is brought to boot the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootOptions {
    /// What the BMC is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    /// The BMC actions of boot mode `customboot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customboot_config: Option<CustombootConfig>,
    /// The image of boot mode `isoboot`.
    #[serde(rename = "isoURL", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri"))]
    pub iso_url: Option<String>,
    /// Whether network boot is allowed before and forbidden after the Workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toggle_allow_netboot: Option<bool>,
}

/// The BMC actions of boot mode `customboot`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustombootConfig {
    /// What to do after the Workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_actions: Vec<BmcAction>,
    /// What to do before the Workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preparing_actions: Vec<BmcAction>,
}

/// How far a Workflow is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// The agent that the current task is for.
    #[serde(rename = "agentID", skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// When the agent of the last boot said hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_first_call: Option<AgentFirstCall>,
    /// First use of the one-time agent token in the last boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<AgentToken>,
    /// What was done to bring the machine to boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_options: Option<BootOptionsStatus>,
    /// What happened so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub conditions: Vec<WorkflowCondition>,
    /// The action last handed out or reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_state: Option<CurrentState>,
    /// When the Workflow must be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_execution_stop: Option<Time>,
    /// Seconds that the whole Workflow may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_timeout: Option<i64>,
    /// How far the running action is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// State of the Workflow.
    #[serde(default, skip_serializing_if = "WorkflowState::is_unset")]
    pub state: WorkflowState,
    /// The rendered tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
    /// Whether the Template could be rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub template_rendering: Option<TemplateRendering>,
}

/// When the agent of the last boot said hello.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentFirstCall {
    /// Address it called from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// When the call arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Seconds since that machine's kernel had started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    /// Version of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// First use of a one-time agent token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentToken {
    /// Boot number in the token.
    pub boot: u64,
    /// Address that used it first; no other may use it in that boot.
    pub peer: String,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// How far the running action is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The action.
    #[serde(rename = "actionID")]
    pub action_id: String,
    /// Bytes taken from the source.
    pub bytes_read: u64,
    /// Bytes that the source has, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Bytes written to the disk.
    pub bytes_written: u64,
    /// Bytes of zeros that needed no writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_zero: Option<u64>,
    /// When the agent said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
    /// Why nothing moves at the moment, while the action tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// What was done to bring a machine to boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootOptionsStatus {
    /// Switching of network boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_netboot: Option<AllowNetbootStatus>,
    /// BMC Jobs by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, JobStatus>,
}

/// Switching of network boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowNetbootStatus {
    /// Whether it was switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toggled_false: Option<bool>,
    /// Whether it was switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toggled_true: Option<bool>,
}

/// One BMC Job of a Workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Whether it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// Whether an older Job of that name was removed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_job_deleted: Option<bool>,
    /// UID of the Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// One thing that happened to a Workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowCondition {
    /// Explanation for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Reason for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What happened, for example `TemplateRenderedSuccess`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// The action last handed out or reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentState {
    /// The action.
    #[serde(rename = "actionID", skip_serializing_if = "Option::is_none")]
    pub action_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_name: Option<String>,
    /// The agent.
    #[serde(rename = "agentID", skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Its state.
    #[serde(default, skip_serializing_if = "WorkflowState::is_unset")]
    pub state: WorkflowState,
    /// The task.
    #[serde(rename = "taskID", skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_name: Option<String>,
}

/// One rendered task: actions for one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// The actions, in order.
    pub actions: Vec<Action>,
    /// The agent.
    #[serde(rename = "agentID")]
    pub agent_id: String,
    /// Environment of every action.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// Volumes of every action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// One rendered action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Arguments of the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// How long it ran, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_duration: Option<String>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_start: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_stop: Option<Time>,
    /// Identifier.
    pub id: String,
    /// Image to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the agent said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Linux namespaces to run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
    /// Older spelling of `namespaces.pid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// State.
    #[serde(default, skip_serializing_if = "WorkflowState::is_unset")]
    pub state: WorkflowState,
    /// Seconds it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// Linux namespaces of an action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Namespaces {
    /// Network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Process namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
}

/// Types of the conditions of a Workflow.
pub mod condition {
    /// The Template could be rendered, or not (with the reason).
    pub const TEMPLATE_RENDERED: &str = "TemplateRenderedSuccess";
    /// The BMC Job that boots the machine exists.
    pub const BOOT_JOB_SETUP_COMPLETE: &str = "BootJobSetupComplete";
    /// The BMC Job that boots the machine could not be made.
    pub const BOOT_JOB_SETUP_FAILED: &str = "BootJobSetupFailed";
    /// The BMC Job that boots the machine is done.
    pub const BOOT_JOB_COMPLETE: &str = "BootJobComplete";
    /// The BMC Job that boots the machine failed.
    pub const BOOT_JOB_FAILED: &str = "BootJobFailed";
    /// The BMC Job that boots the machine runs.
    pub const BOOT_JOB_RUNNING: &str = "BootJobRunning";
    /// Network boot was switched on.
    pub const ALLOW_NETBOOT_TRUE: &str = "AllowNetbootTrue";
    /// Network boot was switched off.
    pub const ALLOW_NETBOOT_FALSE: &str = "AllowNetbootFalse";
    /// Reason of [`BOOT_JOB_SETUP_FAILED`]: the machine is protected, and nothing was tried. Ours.
    pub const REASON_PROTECTED: &str = "Protected";
}

/// What the BMC is asked for when a Workflow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    /// Power cycle into network boot.
    Netboot,
    /// Boot an ISO image as virtual media.
    Isoboot,
    /// Older name of `isoboot`.
    Iso,
    /// The actions of `custombootConfig`.
    Customboot,
}

/// Whether a Template could be rendered. What this version does not know reads as `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateRendering {
    /// It could.
    Successful,
    /// It could not; the condition says why.
    Failed,
    /// Not tried.
    #[serde(other)]
    Unknown,
}

/// State of a Workflow, and of each of its actions.
///
/// ```text
/// Unset -> Preparing -> Pending -> Running -> Post -> Success
///    \---------------------^          \-> Failed, Timeout (through Post when there is something to undo)
/// ```
///
/// The wire has any string here, so one that this version does not know is kept, not refused: a single odd object must
/// not make a whole list unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum WorkflowState {
    /// Not looked at yet.
    #[default]
    Unset,
    /// The machine is being brought to boot.
    Preparing,
    /// Waiting for the agent.
    Pending,
    /// The agent works on it.
    Running,
    /// All actions succeeded; what was prepared is being undone.
    Post,
    /// Done.
    Success,
    /// Ended with an error.
    Failed,
    /// Ran out of time.
    Timeout,
    /// A state of another version, as it was read.
    Other(String),
}

impl WorkflowState {
    /// The name on the wire; empty for [`Self::Unset`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unset => "",
            Self::Preparing => "PREPARING",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Post => "POST",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Other(name) => name,
        }
    }

    /// Whether nothing was said yet.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::Unset
    }

    /// Whether it is over, one way or the other.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Timeout)
    }
}

impl From<&str> for WorkflowState {
    fn from(name: &str) -> Self {
        match name {
            "" => Self::Unset,
            "PREPARING" => Self::Preparing,
            "PENDING" => Self::Pending,
            "RUNNING" => Self::Running,
            "POST" => Self::Post,
            "SUCCESS" => Self::Success,
            "FAILED" => Self::Failed,
            "TIMEOUT" => Self::Timeout,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl From<String> for WorkflowState {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<WorkflowState> for String {
    fn from(state: WorkflowState) -> Self {
        state.as_str().to_owned()
    }
}

impl FromStr for WorkflowState {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::from(name))
    }
}

impl fmt::Display for WorkflowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl JsonSchema for WorkflowState {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WorkflowState".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl Workflow {
    /// State of the Workflow; one without a status has none yet.
    #[must_use]
    pub fn state(&self) -> &WorkflowState {
        self.status.as_ref().map_or(&WorkflowState::Unset, |status| &status.state)
    }

    /// Whether the Workflow is kept from being worked on.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.spec.disabled == Some(true)
    }

    /// Whether something was switched for it: network boot, or a BMC Job was made.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        let boot = self.status.as_ref().and_then(|status| status.boot_options.as_ref());
        boot.is_some_and(|boot| !boot.jobs.is_empty() || boot.allow_netboot.is_some())
    }

    /// Whether its Template cannot be rendered as it is.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let rendering = self.status.as_ref().and_then(|status| status.template_rendering.as_ref());
        matches!(rendering, Some(TemplateRendering::Failed))
    }
}

impl WorkflowStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&WorkflowCondition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Puts a condition in place of the one of its type, or adds it. The time of a condition that says nothing new stays.
    pub fn set_condition(&mut self, new: WorkflowCondition) {
        match self.conditions.iter_mut().find(|condition| condition.type_ == new.type_) {
            Some(old) if old.says_the_same(&new) => {}
            Some(old) => *old = new,
            None => self.conditions.push(new),
        }
    }

    /// The rendered action with this ID, with its task.
    #[must_use]
    pub fn action(&self, id: &str) -> Option<(&Task, &Action)> {
        self.tasks.iter().find_map(|task| Some((task, task.actions.iter().find(|action| action.id == id)?)))
    }
}

impl WorkflowCondition {
    fn says_the_same(&self, other: &Self) -> bool {
        (&self.status, &self.reason, &self.message) == (&other.status, &other.reason, &other.message)
    }
}
