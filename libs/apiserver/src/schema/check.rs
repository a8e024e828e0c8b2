// SPDX-License-Identifier: Apache-2.0

//! Whether an `openAPIV3Schema` is structural, in kube-apiserver's words. Pure; called when a CRD is admitted and when stored CRDs are loaded.
//!
//! A structural schema says of every field what it is outside of `allOf`, `anyOf`, `oneOf` and `not`; inside of those it only restricts values.

use serde_json::{Map, Value, json};

use super::MAX_DEPTH;
use crate::status::Cause;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Keywords of JSON Schema that CRDs may not use.
const FORBIDDEN: [&str; 6] =
    ["$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties"];

/// What is empty or missing inside of junctors, and how that is said.
const NOT_IN_JUNCTORS: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
];

type Node = Map<String, Value>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that is not structural; `at` is the path of the schema in its CRD.
pub(super) fn check(schema: &Value, at: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    match schema.as_object() {
        Some(root) => {
            node(root, at, Level::Root, 0, &mut causes);
            completeness(root, Some(root), at, at, &mut causes);
            // kube-apiserver looks whether a schema is structural first, and then whether its types are known.
            causes.sort_by_key(|cause| cause.reason == "FieldValueNotSupported");
        }
        None => causes.push(Cause::invalid(at, schema, "must be an object")),
    }
    causes
}

fn below(at: &str, field: &str) -> String {
    format!("{at}.{field}")
}

fn property(at: &str, name: &str) -> String {
    format!("{at}.properties[{name}]")
}

fn text<'a>(node: &'a Node, field: &str) -> &'a str {
    node.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn flag(node: &Node, field: &str) -> bool {
    node.get(field) == Some(&Value::Bool(true))
}

fn objects<'a>(node: &'a Node, field: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
    let map = node.get(field).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_object()?)))
}

fn list<'a>(node: &'a Node, field: &str) -> &'a [Value] {
    node.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn node(schema: &Node, at: &str, level: Level, depth: usize, causes: &mut Vec<Cause>) {
    if depth > MAX_DEPTH {
        causes.push(Cause::forbidden(at, format!("nested deeper than {MAX_DEPTH}")));
        return;
    }
    keywords(schema, at, causes);
    types(schema, at, level, causes);
    lists_and_maps(schema, at, causes);
    if level == Level::Root || flag(schema, "x-kubernetes-embedded-resource") {
        resource(schema, at, level, causes);
    }
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        node(items, &below(at, "items"), Level::Item, depth + 1, causes);
    }
    for (name, field) in objects(schema, "properties") {
        node(field, &property(at, name), Level::Field, depth + 1, causes);
    }
    if let Some(additional) = schema.get("additionalProperties").and_then(Value::as_object) {
        node(additional, &below(at, "additionalProperties"), Level::Field, depth + 1, causes);
    }
    junctors(schema, at, depth, causes);
}

fn keywords(schema: &Node, at: &str, causes: &mut Vec<Cause>) {
    for keyword in FORBIDDEN.into_iter().filter(|keyword| schema.contains_key(*keyword)) {
        causes.push(Cause::forbidden(below(at, keyword), format!("{keyword} is not supported")));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        causes.push(Cause::forbidden(below(at, "items"), "items must be a schema object and not an array"));
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(below(at, "uniqueItems"), why));
    }
    let additional = schema.get("additionalProperties").is_some_and(|value| *value != Value::Bool(false));
    if additional && objects(schema, "properties").next().is_some() {
        let why = "additionalProperties and properties are mutual exclusive";
        causes.push(Cause::forbidden(below(at, "additionalProperties"), why));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = below(at, "x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(at, &false.into(), "must be true or undefined"));
    }
    for (index, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        let at = below(at, &format!("x-kubernetes-validations[{index}]"));
        if let Some(rule) = rule.as_object() {
            rule_words(rule, &at, causes);
        }
    }
}

/// What can be said of a rule without its compiler.
fn rule_words(rule: &Node, at: &str, causes: &mut Vec<Cause>) {
    let trimmed = |field: &str| rule.get(field).and_then(Value::as_str).map(str::trim);
    let broken = |field: &str| trimmed(field).is_some_and(|text| text.contains('\n'));
    if trimmed("rule").unwrap_or_default().is_empty() {
        causes.push(Cause::required_because(below(at, "rule"), "rule is not specified"));
    }
    for field in ["message", "fieldPath"] {
        let value = rule.get(field).cloned().unwrap_or_default();
        if trimmed(field) == Some("") && !text(rule, field).is_empty() {
            causes.push(Cause::invalid(below(at, field), &value, "must be non-empty if specified"));
        } else if broken(field) {
            causes.push(Cause::invalid(below(at, field), &value, "must not contain line breaks"));
        }
    }
    if broken("rule") && trimmed("message").unwrap_or_default().is_empty() {
        let why = "message must be specified if rule contains line breaks";
        causes.push(Cause::required_because(below(at, "message"), why));
    }
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if let Some(reason) = rule.get("reason").filter(|reason| !REASONS.iter().any(|known| *reason == known)) {
        causes.push(Cause::unsupported(below(at, "reason"), reason, &REASONS.map(Value::from)));
    }
}

fn types(schema: &Node, at: &str, level: Level, causes: &mut Vec<Cause>) {
    let kind = text(schema, "type");
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let open = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let type_at = below(at, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        causes.push(Cause::unsupported(type_at.as_str(), &kind.into(), &TYPES.map(Value::from)));
    }
    if kind == "array" && !schema.contains_key("items") {
        causes.push(Cause::required_because(below(at, "items"), "must be specified"));
    }
    if int_or_string && open {
        let at = below(at, "x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(at, &true.into(), "must be false if x-kubernetes-int-or-string is true"));
    }
    if int_or_string && embedded {
        let at = below(at, "x-kubernetes-embedded-resource");
        causes.push(Cause::invalid(at, &true.into(), "must be false if x-kubernetes-int-or-string is true"));
    }
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(match kind {
            "" => Cause::required_because(type_at, why),
            kind => Cause::invalid(type_at, &kind.into(), why),
        });
    } else if kind.is_empty() && !int_or_string && !open {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        causes.push(Cause::required_because(type_at, why));
    } else if level == Level::Root && kind != "object" && !kind.is_empty() {
        causes.push(Cause::invalid(type_at, &kind.into(), "must be object at the root"));
    }
}

fn lists_and_maps(schema: &Node, at: &str, causes: &mut Vec<Cause>) {
    for (keyword, kind, allowed) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
    ] {
        let Some(given) = schema.get(keyword) else { continue };
        let found = text(schema, "type");
        if found != kind {
            let why = format!("must be {kind} if {keyword} is specified");
            causes.push(match found {
                "" => Cause::required_because(below(at, "type"), &why),
                found => Cause::invalid(below(at, "type"), &found.into(), why),
            });
        }
        if !allowed.iter().any(|word| given == word) {
            let allowed: Vec<Value> = allowed.iter().map(|word| (*word).into()).collect();
            causes.push(Cause::unsupported(below(at, keyword), given, &allowed));
        }
    }
    let items = schema.get("items").and_then(Value::as_object);
    match text(schema, "x-kubernetes-list-type") {
        "map" => list_map(schema, items, at, causes),
        "set" => {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let Some(items) = items else { return };
            for (kind, keyword) in [("array", "x-kubernetes-list-type"), ("object", "x-kubernetes-map-type")]
            {
                if text(items, "type") == kind && text(items, keyword) != "atomic" {
                    let found = items.get(keyword).cloned().unwrap_or_default();
                    causes.push(Cause::invalid(format!("{at}.items.{keyword}"), &found, why));
                }
            }
        }
        _ if !list(schema, "x-kubernetes-list-map-keys").is_empty() => {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            causes.push(match schema.get("x-kubernetes-list-type") {
                None => Cause::required_because(below(at, "x-kubernetes-list-type"), why),
                Some(found) => Cause::invalid(below(at, "x-kubernetes-list-type"), found, why),
            });
        }
        _ => {}
    }
}

fn list_map(schema: &Node, items: Option<&Node>, at: &str, causes: &mut Vec<Cause>) {
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let keys_at = below(at, "x-kubernetes-list-map-keys");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        causes.push(Cause::required_because(keys_at.as_str(), why));
    }
    let Some(items) = items else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        causes.push(Cause::required_because(below(at, "items"), why));
        return;
    };
    if text(items, "type") != "object" {
        let found = items.get("type").cloned().unwrap_or_else(|| "".into());
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(Cause::invalid(format!("{at}.items.type"), &found, why));
    }
    for (index, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        let Some((_, field)) = objects(items, "properties").find(|(found, _)| *found == name) else {
            let shown = json!(keys);
            causes.push(Cause::invalid(
                keys_at.as_str(),
                &shown,
                "entries must all be names of item properties",
            ));
            continue;
        };
        let field_at = format!("{at}.items.properties[{name}]");
        if matches!(text(field, "type"), "array" | "object") {
            let found = items.get("type").cloned().unwrap_or_default();
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            causes.push(Cause::invalid(below(&field_at, "type"), &found, why));
        }
        if keys.iter().take(index).any(|earlier| earlier == key) {
            causes.push(Cause::invalid(keys_at.as_str(), &json!(keys), "must not contain duplicate entries"));
        }
        let required = list(items, "required").contains(key);
        if !required && !field.contains_key("default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            causes.push(Cause::required_because(below(&field_at, "default"), why));
        }
        if flag(field, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            causes.push(Cause::forbidden(below(&field_at, "nullable"), why));
        }
    }
    if flag(items, "nullable") {
        let why = "cannot be nullable when x-kubernetes-list-type is map";
        causes.push(Cause::forbidden(format!("{at}.items.nullable"), why));
    }
}

/// The root, and what is embedded: whole objects with metadata of their own.
fn resource(schema: &Node, at: &str, level: Level, causes: &mut Vec<Cause>) {
    if level == Level::Root && schema.get("additionalProperties").is_some_and(|value| !value.is_null()) {
        causes.push(Cause::forbidden(below(at, "additionalProperties"), "must not be used at the root"));
    }
    if level == Level::Root && flag(schema, "nullable") {
        causes.push(Cause::forbidden(below(at, "nullable"), "nullable cannot be true at the root"));
    }
    for (name, field) in objects(schema, "properties") {
        let field_at = property(at, name);
        let kind = field.get("type").cloned().unwrap_or_else(|| "".into());
        match name.as_str() {
            "kind" | "apiVersion" if kind != "string" => {
                causes.push(Cause::invalid(below(&field_at, "type"), &kind, "must be string"));
            }
            "metadata" => {
                if kind != "object" {
                    causes.push(Cause::invalid(below(&field_at, "type"), &kind, "must be object"));
                }
                let only_names = objects(field, "properties")
                    .all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
                let plain = field.keys().all(|key| matches!(key.as_str(), "type" | "properties"));
                if level == Level::Root && !(only_names && plain) {
                    let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
                    causes.push(Cause::forbidden(field_at, why));
                }
            }
            _ => {}
        }
    }
    let open = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if level != Level::Root && !open && objects(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        causes.push(Cause::required_because(below(at, "properties"), why));
    }
}

/// The nodes of the junctors of a node, with their paths.
fn alternatives<'a>(schema: &'a Node, at: &str) -> Vec<(String, &'a Node)> {
    let mut found = Vec::new();
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(schema, junctor).iter().enumerate() {
            found.extend(inner.as_object().map(|inner| (below(at, &format!("{junctor}[{index}]")), inner)));
        }
    }
    let not = schema.get("not").and_then(Value::as_object);
    found.extend(not.map(|inner| (below(at, "not"), inner)));
    found
}

/// The one place where a junctor may name types: an integer or a string.
fn is_int_or_string(any_of: &[Value]) -> bool {
    matches!(any_of, [one, two] if *one == json!({"type": "integer"}) && *two == json!({"type": "string"}))
}

fn junctors(schema: &Node, at: &str, depth: usize, causes: &mut Vec<Cause>) {
    for (inner_at, inner) in alternatives(schema, at) {
        let in_any_of = inner_at.strip_prefix(at).is_some_and(|rest| rest.starts_with(".anyOf"));
        if !(in_any_of && is_int_or_string(list(schema, "anyOf"))) {
            nested(inner, &inner_at, depth + 1, causes);
        }
    }
}

fn nested(schema: &Node, at: &str, depth: usize, causes: &mut Vec<Cause>) {
    if depth > MAX_DEPTH {
        causes.push(Cause::forbidden(at, format!("nested deeper than {MAX_DEPTH}")));
        return;
    }
    for (keyword, why) in NOT_IN_JUNCTORS {
        let empty = match schema.get(keyword) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(_) => false,
        };
        if !empty {
            causes.push(Cause::forbidden(below(at, keyword), why));
        }
    }
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        nested(items, &below(at, "items"), depth + 1, causes);
    }
    for (name, field) in objects(schema, "properties") {
        if name == "metadata" {
            let why = "must not be specified in a nested context";
            causes.push(Cause::forbidden(property(at, name), why));
        }
        nested(field, &property(at, name), depth + 1, causes);
    }
    junctors(schema, at, depth, causes);
}

/// Every field that a junctor speaks of is described outside of junctors.
fn completeness(schema: &Node, base: Option<&Node>, base_at: &str, at: &str, causes: &mut Vec<Cause>) {
    for (inner_at, inner) in alternatives(schema, at) {
        restricted(inner, base, base_at, &inner_at, causes);
    }
}

fn restricted(schema: &Node, base: Option<&Node>, base_at: &str, at: &str, causes: &mut Vec<Cause>) {
    let Some(base) = base else {
        causes.push(Cause::required_because(base_at, &format!("because it is defined in {at}")));
        return;
    };
    completeness(schema, Some(base), base_at, at, causes);
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        let base_items = base.get("items").and_then(Value::as_object);
        restricted(items, base_items, &below(base_at, "items"), &below(at, "items"), causes);
    }
    for (name, field) in objects(schema, "properties") {
        let described = objects(base, "properties").find(|(found, _)| *found == name).map(|(_, field)| field);
        restricted(field, described, &property(base_at, name), &property(at, name), causes);
    }
}
