// SPDX-License-Identifier: Apache-2.0

//! The Template kind: the text that a Workflow is rendered from.
//!
//! Owns only the wire form. The workflow controller renders it, once per Workflow; nothing here reads the text.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The text of a workflow.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tinkerbell.org",
    version = "v1alpha1",
    kind = "Template",
    plural = "templates",
    singular = "template",
    shortname = "tpl",
    category = "tinkerbell",
    namespaced,
    status = "TemplateStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "The text that workflows are rendered from.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state")
)]
pub struct TemplateSpec {
    /// The workflow in YAML, with Go template actions in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// State of a Template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateStatus {
    /// Kept for older readers; not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}
