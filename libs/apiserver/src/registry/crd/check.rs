// SPDX-License-Identifier: Apache-2.0

//! What may stand in a CustomResourceDefinition beside its schemas, in kube-apiserver's words. Pure.

use serde_json::Value;

use super::{strings, text, versions};
use crate::object;
use crate::selector::{check_dns_label_1035, check_dns_subdomain};
use crate::status::Cause;

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["binary", "bool", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// Most fields that a version offers to field selectors.
const MAX_SELECTABLE: usize = 8;

/// True when all versions have the same under `field`: kube-apiserver then tells of it as of one field of the spec.
pub(super) fn all_alike(crd: &Value, field: &str) -> bool {
    let mut all = versions(crd).iter().map(|version| version.get(field));
    let first = all.next();
    first.is_some_and(|first| first.is_some() && all.all(|other| other == first))
}

/// Where a field of a version is told of.
pub(super) fn place(crd: &Value, index: usize, field: &str) -> String {
    match (all_alike(crd, field), field) {
        (true, "schema") => "spec.validation".into(),
        (true, field) => format!("spec.{field}"),
        (false, field) => format!("spec.versions[{index}].{field}"),
    }
}

/// Everything wrong beside the schemas.
pub(super) fn check(crd: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let group = text(crd, &["spec", "group"]);
    let wanted = format!("{}.{group}", text(crd, &["spec", "names", "plural"]));
    if object::name(crd) != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &object::name(crd).into(), why));
    }
    if group.is_empty() {
        causes.push(Cause::required("spec.group"));
    } else if let Err(why) = check_dns_subdomain(group) {
        causes.push(Cause::invalid("spec.group", &group.into(), why));
    } else if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
    }
    match text(crd, &["spec", "scope"]) {
        "Namespaced" | "Cluster" => {}
        "" => causes.push(Cause::required("spec.scope")),
        other => {
            let supported: [Value; 2] = ["Cluster".into(), "Namespaced".into()];
            causes.push(Cause::unsupported("spec.scope", &other.into(), &supported));
        }
    }
    check_versions(crd, &mut causes);
    names(&super::names_of(crd), &mut causes);
    conversion(crd, &mut causes);
    if object::at(crd, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", &true.into(), why));
    }
    causes
}

fn check_versions(crd: &Value, causes: &mut Vec<Cause>) {
    let all = versions(crd);
    let shown = internal(crd);
    for (index, version) in all.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        let name = text(version, &["name"]);
        if let Err(why) = check_dns_label_1035(name) {
            causes.push(Cause::invalid(format!("{at}.name"), &name.into(), why));
        }
        if object::at(version, &["schema", "openAPIV3Schema"]).is_none() {
            causes.push(Cause::required(format!("{at}.schema.openAPIV3Schema")));
        }
        if let Some(warning) = version.get("deprecationWarning").filter(|warning| !warning.is_null())
            && version.get("deprecated") != Some(&Value::Bool(true))
        {
            let why = "can only be set for deprecated versions";
            causes.push(Cause::invalid(format!("{at}.deprecationWarning"), warning, why));
        }
        let once = |field: &str| index == 0 || !all_alike(crd, field);
        if once("additionalPrinterColumns") {
            columns(version, &place(crd, index, "additionalPrinterColumns"), causes);
        }
        if once("selectableFields") {
            selectable(version, &place(crd, index, "selectableFields"), causes);
        }
        if once("subresources") {
            scale(version, &place(crd, index, "subresources"), causes);
        }
        if all.iter().take(index).any(|earlier| text(earlier, &["name"]) == name) {
            causes.push(Cause::invalid_json("spec.versions", &shown, "must contain unique version names"));
        }
    }
    if all.iter().filter(|version| version.get("storage") == Some(&Value::Bool(true))).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid_json("spec.versions", &shown, why));
        if object::at(crd, &["status", "storedVersions"]).is_none() {
            let why = "must have at least one stored version";
            causes.push(Cause::invalid("status.storedVersions", &Value::Null, why));
        }
    }
    // The first one is also held by itself.
    let first = all.first().map(|version| text(version, &["name"])).filter(|name| !name.is_empty());
    if let Some((name, why)) = first.and_then(|name| Some((name, check_dns_label_1035(name).err()?))) {
        causes.push(Cause::invalid("spec.version", &name.into(), why));
    }
}

/// The versions in the form in which kube-apiserver holds them: every field by its Go name, and nothing in the place of what all of them have in common.
fn internal(crd: &Value) -> String {
    const FIELDS: [(&str, &str); 9] = [
        ("name", "Name"),
        ("served", "Served"),
        ("storage", "Storage"),
        ("deprecated", "Deprecated"),
        ("deprecationWarning", "DeprecationWarning"),
        ("schema", "Schema"),
        ("subresources", "Subresources"),
        ("additionalPrinterColumns", "AdditionalPrinterColumns"),
        ("selectableFields", "SelectableFields"),
    ];
    let shared =
        |field: &str| FIELDS.iter().skip(5).any(|(shared, _)| *shared == field) && all_alike(crd, field);
    let version = |version: &Value| {
        let fields = FIELDS.iter().map(|(field, name)| {
            let value = match version.get(field) {
                Some(value) if !shared(field) => value.clone(),
                _ if matches!(*field, "served" | "storage" | "deprecated") => false.into(),
                _ => Value::Null,
            };
            format!("{name:?}:{value}")
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    format!("[{}]", versions(crd).iter().map(version).collect::<Vec<_>>().join(","))
}

fn names(names: &Value, causes: &mut Vec<Cause>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(names, &[field]);
        let at = format!("spec.names.{field}");
        if name.is_empty() {
            causes.push(Cause::required(at));
            continue;
        }
        if let Err(why) = check_dns_label_1035(&name.to_lowercase()) {
            let mixed =
                if field.ends_with("ind") { "may have mixed case, but should otherwise match: " } else { "" };
            causes.push(Cause::invalid(at, &name.into(), format!("{mixed}{why}")));
        } else if field != "kind" && field != "listKind" && name.to_lowercase() != name {
            let why = check_dns_label_1035(name).err().unwrap_or_default();
            causes.push(Cause::invalid(at, &name.into(), why));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in strings(names, &[field]).iter().enumerate() {
            if let Err(why) = check_dns_label_1035(name) {
                let at = format!("spec.names.{field}[{index}]");
                causes.push(Cause::invalid(at, &name.as_str().into(), why));
            }
        }
    }
    let list_kind = text(names, &["listKind"]);
    if !list_kind.is_empty() && text(names, &["kind"]) == list_kind {
        let why = "kind and listKind may not be the same";
        causes.push(Cause::invalid("spec.names.listKind", &list_kind.into(), why));
    }
}

fn conversion(crd: &Value, causes: &mut Vec<Cause>) {
    let strategy = text(crd, &["spec", "conversion", "strategy"]);
    if !matches!(strategy, "" | "None" | "Webhook") {
        let supported: [Value; 2] = ["None".into(), "Webhook".into()];
        causes.push(Cause::unsupported("spec.conversion.strategy", &strategy.into(), &supported));
    }
}

fn columns(version: &Value, at: &str, causes: &mut Vec<Cause>) {
    let list = version.get("additionalPrinterColumns").and_then(Value::as_array);
    for (index, column) in list.into_iter().flatten().enumerate() {
        let at = format!("{at}[{index}]");
        let (name, kind) = (text(column, &["name"]), text(column, &["type"]));
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name")));
        }
        let one_of = |words: &[&str]| format!("must be one of {}", words.join(","));
        if kind.is_empty() {
            causes.push(Cause::required_because(format!("{at}.type"), &one_of(COLUMN_TYPES)));
        } else if !COLUMN_TYPES.contains(&kind) {
            causes.push(Cause::invalid(format!("{at}.type"), &kind.into(), one_of(COLUMN_TYPES)));
        }
        let format = text(column, &["format"]);
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            causes.push(Cause::invalid(format!("{at}.format"), &format.into(), one_of(COLUMN_FORMATS)));
        }
        let path = text(column, &["jsonPath"]);
        if path.is_empty() {
            causes.push(Cause::required(format!("{at}.JSONPath")));
        } else if !path.starts_with('.') {
            let why = "must be a simple json path starting with .";
            causes.push(Cause::invalid(format!("{at}.JSONPath"), &path.into(), why));
        }
    }
}

fn selectable(version: &Value, at: &str, causes: &mut Vec<Cause>) {
    let list = version.get("selectableFields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, field) in list.iter().enumerate() {
        let at = format!("{at}[{index}].jsonPath");
        let path = text(field, &["jsonPath"]);
        if path.is_empty() {
            causes.push(Cause::required(at));
            continue;
        }
        let steps: Vec<&str> = path.trim_start_matches('.').split('.').collect();
        let mut schema = object::at(version, &["schema", "openAPIV3Schema"]);
        for step in &steps {
            schema = schema.and_then(|schema| schema.get("properties")).and_then(|fields| fields.get(*step));
        }
        let first = steps.first().copied().unwrap_or_default();
        if first == "metadata" {
            causes.push(Cause::invalid(at.as_str(), &path.into(), "must not point to fields in metadata"));
        } else if !path.starts_with('.') || schema.is_none() {
            let why = "is an invalid path: does not refer to a valid field";
            causes.push(Cause::invalid(at.as_str(), &path.into(), why));
            continue;
        }
        let kind = schema.map(|schema| text(schema, &["type"])).unwrap_or_default();
        if first != "metadata" && !matches!(kind, "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            causes.push(Cause::invalid(at.as_str(), &path.into(), why));
        }
        if list.iter().take(index).any(|earlier| text(earlier, &["jsonPath"]) == path) {
            causes.push(Cause::duplicate(at, &path.into()));
        }
    }
    if list.len() > MAX_SELECTABLE {
        causes.push(Cause::too_many(at, list.len(), MAX_SELECTABLE as u64));
    }
}

fn scale(version: &Value, at: &str, causes: &mut Vec<Cause>) {
    let Some(scale) = object::at(version, &["subresources", "scale"]) else { return };
    for (field, prefixes, why) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ] {
        let path = text(scale, &[field]);
        let at = format!("{at}.scale.{field}");
        if path.is_empty() {
            if field != "labelSelectorPath" {
                causes.push(Cause::required(at));
            }
        } else if !prefixes.iter().any(|prefix| path.starts_with(prefix)) {
            causes.push(Cause::invalid(at, &path.into(), why));
        }
    }
}
