// SPDX-License-Identifier: Apache-2.0

//! Structural schemas of custom resources: what a CRD's `openAPIV3Schema` means.
//!
//! Parsed once when a CRD is registered ([`Schema::parse`], which refuses what is not structural), then used by admission in the order Kubernetes
//! uses: prune unknown fields, fill in defaults, validate. Server-side apply asks it which lists are maps and which are sets. Pure.
//!
//! Rules: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

mod check;
mod format;
mod library;
mod ordered;
mod parse;
mod prune;
mod published;
mod rules;
mod times;
mod types;
mod validate;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::status::Cause;

pub(crate) use prune::{default, drop_nulls, each_embedded, prune};
pub(crate) use published::of_definition;
pub(crate) use validate::{validate, validate_rules, validate_status};

/// Deepest nesting of a schema; CRDs beyond it are refused.
const MAX_DEPTH: usize = 64;

/// `type` of a schema node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Type {
    /// No type given: allowed with int-or-string, preserve-unknown-fields, or inside a junctor.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    /// With its key fields.
    Map(Vec<String>),
}

/// Bounds on a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: bool,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    unique_items: bool,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
}

/// One node of a structural schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    pub kind: Type,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub default: Option<Value>,
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic_map: bool,
    required: Vec<String>,
    values: Vec<Value>,
    pattern: Option<regex::Regex>,
    pub format: Option<String>,
    bounds: Bounds,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    rules: Vec<rules::Rule>,
}

impl Schema {
    /// A schema that keeps and accepts everything: of a CRD version without one.
    pub fn anything() -> Self {
        Self { kind: Type::Object, preserve_unknown: true, ..Self::default() }
    }

    /// Reads `openAPIV3Schema`, which lies at `at` in its CRD.
    ///
    /// # Errors
    /// Every place that is not a structural schema.
    pub fn parse(schema: &Value, at: &str) -> Result<Self, Vec<Cause>> {
        parse::parse(schema, at)
    }

    /// What is wrong with the rules of a schema that lies at `at`: they have to fit its types.
    pub fn rule_problems(&self, at: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        types::check(self, at, &mut causes);
        causes
    }

    /// The node for a field of this object node.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

/// `a.b`, `b` at the root.
fn child(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

#[cfg(test)]
mod tests;
