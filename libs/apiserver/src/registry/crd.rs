// SPDX-License-Identifier: Apache-2.0

//! From a CustomResourceDefinition object to the [`Resource`] it defines.

mod check;

use serde_json::{Value, json};

use super::{Behaviour, Resource, Scale, Version};
use crate::object;
use crate::schema::Schema;
use crate::status::Cause;
use crate::table::{Column, OBJECT_META};

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    object::at(value, path).and_then(Value::as_str).unwrap_or_default()
}

fn strings(value: &Value, path: &[&str]) -> Vec<String> {
    let list = object::at(value, path).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn versions(crd: &Value) -> &[Value] {
    object::at(crd, &["spec", "versions"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The version marked `storage`.
pub(crate) fn storage_version(crd: &Value) -> Option<&str> {
    let stored = versions(crd).iter().find(|v| v.get("storage") == Some(&Value::Bool(true)))?;
    Some(text(stored, &["name"]))
}

/// Names of all versions.
pub(crate) fn version_names(crd: &Value) -> Vec<&str> {
    versions(crd).iter().map(|version| text(version, &["name"])).collect()
}

/// True once a CRD's names were accepted and its objects served.
pub(crate) fn is_established(crd: &Value) -> bool {
    let conditions = object::at(crd, &["status", "conditions"]).and_then(Value::as_array);
    let is = |condition: &Value| {
        text(condition, &["type"]) == "Established" && text(condition, &["status"]) == "True"
    };
    conditions.into_iter().flatten().any(is)
}

/// `status.acceptedNames`: the names asked for, with those that may be left out filled in.
pub(crate) fn names_of(crd: &Value) -> Value {
    let kind = text(crd, &["spec", "names", "kind"]);
    let mut names = object::at(crd, &["spec", "names"]).cloned().unwrap_or(json!({}));
    let map = object::object_mut(&mut names);
    map.entry("singular").or_insert_with(|| kind.to_lowercase().into());
    map.entry("listKind").or_insert_with(|| format!("{kind}List").into());
    names
}

/// Reads a CRD.
///
/// # Errors
/// Every problem.
pub(crate) fn parse(crd: &Value) -> Result<Resource, Vec<Cause>> {
    let mut problems = check::check(crd);
    let group = text(crd, &["spec", "group"]);
    let mut served = Vec::new();
    for (index, version) in versions(crd).iter().enumerate() {
        // A schema that all versions have is told of once.
        let same = check::all_alike(crd, "schema");
        let at = check::place(crd, index, "schema");
        match parse_version(crd, version, &at) {
            Ok(parsed) if version.get("served") == Some(&Value::Bool(true)) => served.push(parsed),
            Ok(_) => {}
            Err(_) if same && index > 0 => {}
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    served.sort_by_key(|version| std::cmp::Reverse(version_priority(&version.name)));
    let names = names_of(crd);
    // Names in use elsewhere are not served under this CRD.
    let accepted =
        object::at(crd, &["status", "acceptedNames"]).filter(|names| !text(names, &["kind"]).is_empty());
    let accepted = accepted.unwrap_or(&names);
    let plural = text(crd, &["spec", "names", "plural"]);
    Ok(Resource {
        group: group.into(),
        kind: text(&names, &["kind"]).into(),
        list_kind: text(&names, &["listKind"]).into(),
        plural: plural.into(),
        singular: text(&names, &["singular"]).into(),
        short_names: strings(accepted, &["shortNames"]),
        categories: strings(accepted, &["categories"]),
        namespaced: text(crd, &["spec", "scope"]) == "Namespaced",
        terminating: object::is_deleting(crd),
        behaviour: Behaviour::Custom,
        storage: format!("{group}/{plural}"),
        storage_version: storage_version(crd).unwrap_or_default().into(),
        versions: served,
        since: None,
    })
}

/// What is wrong with the rules of a definition that can be read. Only for one that is new: a stored definition is served as it is.
pub(crate) fn rule_problems(crd: &Value) -> Vec<Cause> {
    let mut problems = Vec::new();
    for (index, version) in versions(crd).iter().enumerate() {
        let Some(schema) = object::at(version, &["schema", "openAPIV3Schema"]) else { continue };
        if index > 0 && check::all_alike(crd, "schema") {
            break;
        }
        let at = format!("{}.openAPIV3Schema", check::place(crd, index, "schema"));
        problems
            .extend(Schema::parse(schema, &at).map(|schema| schema.rule_problems(&at)).unwrap_or_default());
    }
    problems
}

/// What clients of a deprecated version are told when its definition does not say.
fn deprecation(crd: &Value, name: &str) -> String {
    let (group, kind) = (text(crd, &["spec", "group"]), text(crd, &["spec", "names", "kind"]));
    let instead = versions(crd)
        .iter()
        .filter(|version| version.get("served") == Some(&Value::Bool(true)))
        .filter(|version| version.get("deprecated") != Some(&Value::Bool(true)))
        .map(|version| text(version, &["name"]))
        .filter(|other| version_priority(other) > version_priority(name))
        .max_by_key(|other| version_priority(other));
    let said = format!("{group}/{name} {kind} is deprecated");
    match instead {
        Some(instead) => format!("{said}; use {group}/{instead} {kind}"),
        None => said,
    }
}

fn parse_version(crd: &Value, version: &Value, at: &str) -> Result<Version, Vec<Cause>> {
    let openapi = object::at(version, &["schema", "openAPIV3Schema"]);
    let schema = match openapi {
        Some(schema) => Schema::parse(schema, &format!("{at}.openAPIV3Schema"))?,
        None => Schema::anything(),
    };
    let name = text(version, &["name"]);
    let columns = columns(version);
    let selectable = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
    let selectable = selectable.map(|f| text(f, &["jsonPath"]).trim_start_matches('.').to_owned()).collect();
    let deprecated = version.get("deprecated") == Some(&Value::Bool(true));
    let deprecation = deprecated.then(|| match text(version, &["deprecationWarning"]) {
        "" => deprecation(crd, name),
        warning => warning.to_owned(),
    });
    Ok(Version {
        name: name.into(),
        schema: Some(schema),
        openapi: openapi.cloned(),
        columns,
        status: object::at(version, &["subresources", "status"]).is_some(),
        scale: object::at(version, &["subresources", "scale"]).map(scale),
        selectable,
        deprecation,
    })
}

fn scale(scale: &Value) -> Scale {
    let path = |field: &str| -> Vec<String> {
        text(scale, &[field]).split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let label_selector = path("labelSelectorPath");
    Scale {
        spec_replicas: path("specReplicasPath"),
        status_replicas: path("statusReplicasPath"),
        label_selector: (!label_selector.is_empty()).then_some(label_selector),
    }
}

fn columns(version: &Value) -> Vec<Column> {
    let mut columns = vec![Column::name()];
    let declared = version.get("additionalPrinterColumns").and_then(Value::as_array);
    for column in declared.into_iter().flatten() {
        let parsed =
            Column::new(text(column, &["name"]), text(column, &["type"]), text(column, &["jsonPath"]));
        let priority = column.get("priority").and_then(Value::as_i64).unwrap_or(0);
        columns.extend(parsed.map(|mut parsed| {
            parsed.priority = priority;
            parsed.format = text(column, &["format"]).into();
            parsed.description = match text(column, &["description"]) {
                "" => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    text(column, &["jsonPath"])
                ),
                given => given.into(),
            };
            parsed
        }));
    }
    if declared.is_none_or(Vec::is_empty) {
        let age = Column::new("Age", "date", ".metadata.creationTimestamp");
        columns.extend(age.map(|age| age.described(OBJECT_META, "creationTimestamp")));
    }
    columns
}

/// Order of versions as Kubernetes prefers them: v2 before v1 before v1beta1 before v1alpha1; other names last.
pub(super) fn version_priority(version: &str) -> (u8, u64, u64) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, stage) = rest.split_at(digits);
    let Ok(major) = major.parse() else { return (0, 0, 0) };
    for (name, rank) in [("alpha", 1), ("beta", 2)] {
        if let Some(minor) = stage.strip_prefix(name) {
            return (rank, major, minor.parse().unwrap_or(0));
        }
    }
    if stage.is_empty() { (3, major, 0) } else { (0, 0, 0) }
}
