// SPDX-License-Identifier: Apache-2.0

//! The kinds that the command line knows: their names, how they are listed, and their schema.
//!
//! Owns the table of kinds. Ours come from the definitions in `api`, so that a listing has the columns that the
//! definition publishes; a few columns that only make sense on a terminal are added here.

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{ConfigMap, Event, Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps},
};
use kube::core::{ApiResource, Resource};
use serde_json::Value;

/// One kind.
#[derive(Clone, Debug)]
pub struct Kind {
    /// How the API server knows it.
    pub resource: ApiResource,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Columns of a listing, after the name and before the age.
    pub columns: Vec<Column>,
    /// Its schema, where we publish it.
    pub schema: Option<JSONSchemaProps>,
    names: Vec<String>,
}

/// One column of a listing.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// Whether it is shown only when asked for more.
    pub wide: bool,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// A path of field names with dots.
    Path(String),
    Computed(fn(&Value) -> String),
}

impl Kind {
    /// The kind as it is written in messages: `hardware.tinkerbell.org`, `secret`.
    #[must_use]
    pub fn full_name(&self) -> String {
        let kind = self.resource.kind.to_lowercase();
        if self.resource.group.is_empty() { kind } else { format!("{kind}.{}", self.resource.group) }
    }

    /// Whether this is the kind of a manifest.
    #[must_use]
    pub fn is(&self, api_version: &str, kind: &str) -> bool {
        self.resource.api_version == api_version && self.resource.kind == kind
    }

    /// A kind that only the API server knows: no columns, no schema.
    #[must_use]
    pub fn unlisted(resource: ApiResource, namespaced: bool) -> Self {
        Self { resource, namespaced, columns: Vec::new(), schema: None, names: Vec::new() }
    }
}

impl Column {
    /// The text of this column for one object.
    #[must_use]
    pub fn text(&self, object: &Value) -> String {
        match &self.source {
            Source::Path(path) => text_at(object, path),
            Source::Computed(compute) => compute(object),
        }
    }

    fn path(name: &str, path: &str, wide: bool) -> Self {
        Self { name: name.to_owned(), wide, source: Source::Path(path.trim_start_matches('.').to_owned()) }
    }

    fn computed(name: &str, wide: bool, compute: fn(&Value) -> String) -> Self {
        Self { name: name.to_owned(), wide, source: Source::Computed(compute) }
    }
}

/// All kinds.
#[must_use]
pub fn all() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = api::crds().iter().filter_map(defined).collect();
    kinds.push(built_in::<Secret>(
        true,
        &["secrets"],
        vec![
            Column::path("Type", "type", false),
            Column::computed("Data", false, |object| count(object, "data")),
        ],
    ));
    kinds.push(built_in::<ConfigMap>(
        true,
        &["configmaps", "cm"],
        vec![Column::computed("Data", false, |object| count(object, "data"))],
    ));
    kinds.push(built_in::<Namespace>(
        false,
        &["namespaces", "ns"],
        vec![Column::path("Status", "status.phase", false)],
    ));
    kinds.push(built_in::<Event>(
        true,
        &["events", "ev"],
        vec![
            Column::path("Type", "type", false),
            Column::path("Reason", "reason", false),
            Column::path("Object", "involvedObject.name", false),
            Column::path("Count", "count", false),
            Column::path("Message", "message", false),
        ],
    ));
    kinds.push(built_in::<Lease>(
        true,
        &["leases"],
        vec![Column::path("Holder", "spec.holderIdentity", false)],
    ));
    kinds.push(built_in::<CustomResourceDefinition>(
        false,
        &["customresourcedefinitions", "crds", "crd"],
        vec![],
    ));
    kinds
}

/// The kind that somebody names: plural, singular, short name, or plural with group, in any case.
///
/// # Errors
///
/// A sentence that says which names there are.
pub fn find(name: &str) -> Result<Kind, String> {
    let wanted = name.to_lowercase();
    let kinds = all();
    if let Some(kind) = kinds.iter().find(|kind| kind.names.contains(&wanted)) {
        return Ok(kind.clone());
    }
    let plurals: Vec<_> = kinds.iter().map(|kind| kind.resource.plural.as_str()).collect();
    let names = kinds.iter().flat_map(|kind| &kind.names).map(String::as_str);
    let hint =
        manifest::nearest(name, names).map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default();
    Err(format!("there is no kind {name:?}{hint}; known are {}", plurals.join(", ")))
}

/// The text of a field, for a terminal: empty when it is not there.
#[must_use]
pub fn text_at(object: &Value, path: &str) -> String {
    let pointer = format!("/{}", path.replace('.', "/"));
    match object.pointer(&pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn defined(crd: &CustomResourceDefinition) -> Option<Kind> {
    let version = crd.spec.versions.iter().find(|version| version.storage)?;
    let (spec, names) = (&crd.spec, &crd.spec.names);
    let mut columns: Vec<_> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| Column::path(&column.name, &column.json_path, column.priority.is_some_and(|p| p > 0)))
        .collect();
    columns.extend(added(&names.kind));
    Some(Kind {
        resource: ApiResource {
            group: spec.group.clone(),
            version: version.name.clone(),
            api_version: format!("{}/{}", spec.group, version.name),
            kind: names.kind.clone(),
            plural: names.plural.clone(),
        },
        namespaced: spec.scope == "Namespaced",
        columns,
        schema: version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.clone()),
        names: [names.plural.clone(), format!("{}.{}", names.plural, spec.group)]
            .into_iter()
            .chain(names.singular.clone())
            .chain(names.short_names.clone().unwrap_or_default())
            .collect(),
    })
}

fn built_in<K: Resource<DynamicType = ()>>(namespaced: bool, names: &[&str], columns: Vec<Column>) -> Kind {
    let resource = ApiResource::erase::<K>(&());
    let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    names.push(resource.kind.to_lowercase());
    Kind { resource, namespaced, columns, schema: None, names }
}

/// What a listing on a terminal has beyond the published columns.
fn added(kind: &str) -> Vec<Column> {
    match kind {
        "Hardware" => vec![
            Column::computed("MAC", true, |object| interfaces(object, "/dhcp/mac")),
            Column::computed("IP", true, |object| interfaces(object, "/dhcp/ip/address")),
            Column::path("BMC", "spec.bmcRef.name", true),
        ],
        "Machine" => vec![
            Column::path("Power", "status.powerState", false),
            Column::computed("Contactable", false, |object| condition(object, "Contactable")),
            Column::path("Host", "spec.connection.host", true),
        ],
        "Cluster" => vec![
            Column::path("Version", "spec.kubernetesVersion", false),
            Column::computed("Ready", false, |object| condition(object, "Ready")),
        ],
        "Job" => vec![
            Column::path("Machine", "spec.machineRef.name", false),
            Column::computed("State", false, job_state),
        ],
        "Task" => {
            vec![Column::computed("Action", false, action), Column::computed("State", false, job_state)]
        }
        _ => Vec::new(),
    }
}

fn interfaces(object: &Value, pointer: &str) -> String {
    let all = object.pointer("/spec/interfaces").and_then(Value::as_array);
    let texts: Vec<_> =
        all.into_iter().flatten().filter_map(|interface| interface.pointer(pointer)?.as_str()).collect();
    texts.join(",")
}

fn condition(object: &Value, type_: &str) -> String {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|condition| condition["type"] == type_);
    found.map(|condition| text_at(condition, "status")).unwrap_or_default()
}

fn job_state(object: &Value) -> String {
    ["Failed", "Completed", "Running"]
        .into_iter()
        .find(|type_| condition(object, type_) == "True")
        .unwrap_or_default()
        .to_owned()
}

fn action(object: &Value) -> String {
    let Some(task) = object.pointer("/spec/task").and_then(Value::as_object) else { return String::new() };
    let texts: Vec<_> = task
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={}", text_at(other, "device")),
        })
        .collect();
    texts.join(",")
}

fn count(object: &Value, field: &str) -> String {
    object.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_every_name_and_wrong_ones_get_a_hint() {
        for name in ["hardware", "hw", "Hardware", "hardware.tinkerbell.org"] {
            assert_eq!(find(name).unwrap().resource.plural, "hardware", "{name}");
        }
        assert_eq!(find("machine").unwrap().resource.api_version, "bmc.tinkerbell.org/v1alpha1");
        assert_eq!(find("ns").unwrap().full_name(), "namespace");
        assert_eq!(find("jobs").unwrap().full_name(), "job.bmc.tinkerbell.org");
        let problem = find("workflw").unwrap_err();
        assert!(problem.contains("did you mean \"workflow\"?") && problem.contains("templates"), "{problem}");
    }

    #[test]
    fn columns_are_those_of_the_definition() {
        let workflow = find("wf").unwrap();
        let names: Vec<_> = workflow.columns.iter().map(|c| (c.name.as_str(), c.wide)).collect();
        let expected = [
            ("Template", false),
            ("State", false),
            ("Task", true),
            ("Action", false),
            ("Agent", false),
            ("Hardware", false),
            ("Template-Rendering", true),
        ];
        assert_eq!(names, expected);
        let object = serde_json::json!({ "status": { "state": "RUNNING" } });
        assert_eq!(workflow.columns[1].text(&object), "RUNNING");
        assert_eq!(workflow.columns[3].text(&object), "");
    }

    #[test]
    fn two_kinds_never_share_a_name() {
        let mut names: Vec<_> = all().into_iter().flat_map(|kind| kind.names).collect();
        let total = names.len();
        names.sort();
        names.dedup();
        // Hardware is its own plural.
        assert_eq!(names.len(), total - 1);
    }
}
