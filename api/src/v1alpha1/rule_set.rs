// SPDX-License-Identifier: Apache-2.0

//! The WorkflowRuleSet kind: which machines get a Workflow without being asked for.
//!
//! Owns only the wire form; enrollment in the workflow server reads it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which machines get which Workflow.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tinkerbell.org",
    version = "v1alpha1",
    kind = "WorkflowRuleSet",
    plural = "workflowrulesets",
    singular = "workflowruleset",
    shortname = "wrs",
    category = "tinkerbell",
    namespaced,
    status = "WorkflowRuleSetStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "Which machines get a workflow without being asked for."
)]
pub struct WorkflowRuleSetSpec {
    /// Patterns over the inventory that an agent reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The Workflow that a matching machine gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<RuleSetWorkflow>,
}

/// The Workflow that a matching machine gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetWorkflow {
    /// Whether the inventory is copied into an annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_attributes: Option<bool>,
    /// Whether the Workflow begins disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Namespace of the Workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What it is rendered from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<RuleSetTemplate>,
}

/// What an enrolled Workflow is rendered from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetTemplate {
    /// Key under which the template finds the agent's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_value: Option<String>,
    /// Further values for the template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kvs: BTreeMap<String, String>,
    /// Name of the Template.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<String>,
}

/// State of a WorkflowRuleSet: nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowRuleSetStatus {}
