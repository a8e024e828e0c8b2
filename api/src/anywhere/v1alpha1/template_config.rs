// SPDX-License-Identifier: Apache-2.0

//! The TinkerbellTemplateConfig kind: a workflow template instead of the built-in one.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workflow template.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "anywhere.eks.amazonaws.com",
    version = "v1alpha1",
    kind = "TinkerbellTemplateConfig",
    plural = "tinkerbelltemplateconfigs",
    singular = "tinkerbelltemplateconfig",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "A workflow template that is used instead of the built-in one."
)]
pub struct TinkerbellTemplateConfigSpec {
    /// The template.
    pub template: WorkflowTemplate,
}

/// The template of a workflow, with the fields of a Tinkerbell template. Texts may hold Go template expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowTemplate {
    /// Seconds that the whole workflow may take.
    pub global_timeout: i64,
    /// Kept for older files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name.
    pub name: String,
    /// What is done, one task for each machine.
    pub tasks: Vec<TemplateTask>,
    /// Version of the format: `0.1`.
    pub version: String,
}

/// What one machine does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateTask {
    /// The actions, in order.
    pub actions: Vec<TemplateAction>,
    /// Environment of every action.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Name.
    pub name: String,
    /// Mounts of every action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// The machine: the identity of its agent.
    pub worker: String,
}

/// One action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TemplateAction {
    /// Arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The container image that says what is done.
    pub image: String,
    /// Name.
    pub name: String,
    /// Kept for older files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<String>,
    /// Kept for older files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_timeout: Vec<String>,
    /// `host` for the processes of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Seconds that it may take.
    pub timeout: i64,
    /// Mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}
