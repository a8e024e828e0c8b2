// SPDX-License-Identifier: Apache-2.0

//! Reading `openAPIV3Schema` into [`Schema`]. Called when a CRD is admitted and when stored CRDs are loaded.

use serde_json::{Map, Value};

use super::{Bounds, ListType, MAX_DEPTH, Schema, Type, check, child, prune, rules, validate};
use crate::status::Cause;

type Problems = Vec<Cause>;

/// Reads a schema that lies at `at` in its CRD.
pub(super) fn parse(schema: &Value, at: &str) -> Result<Schema, Problems> {
    let mut problems = check::check(schema, at);
    if !problems.is_empty() {
        return Err(problems);
    }
    let parsed = node(schema, at, 0, &mut problems);
    if problems.is_empty() {
        defaults(&parsed, at, &mut problems);
    }
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

/// Defaults have to be what they stand in for.
fn defaults(schema: &Schema, at: &str, problems: &mut Problems) {
    if let Some(default) = &schema.default {
        let at = child(at, "default");
        validate::default_value(schema, default, &at, problems);
        let mut pruned = default.clone();
        for unknown in prune::prune_value(schema, &mut pruned) {
            let why = "must not have unknown fields";
            problems.push(Cause::invalid(child(&at, &unknown), default, why));
        }
    }
    for (name, field) in &schema.properties {
        defaults(field, &child(at, &format!("properties[{name}]")), problems);
    }
    if let Some(items) = &schema.items {
        defaults(items, &child(at, "items"), problems);
    }
    if let Some(additional) = &schema.additional {
        defaults(additional, &child(at, "additionalProperties"), problems);
    }
}

fn node(schema: &Value, path: &str, depth: usize, problems: &mut Problems) -> Schema {
    let Some(map) = schema.as_object() else {
        problems.push(Cause::invalid(path, schema, "must be an object"));
        return Schema::default();
    };
    if depth > MAX_DEPTH {
        problems.push(Cause::forbidden(path, format!("nested deeper than {MAX_DEPTH}")));
        return Schema::default();
    }
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut parsed = Schema {
        kind: kind(schema),
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        default: map.get("default").filter(|default| !default.is_null()).cloned(),
        list_type: list_type(schema),
        atomic_map: map.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        required: strings(map.get("required")),
        values: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        pattern: pattern(map, path, problems),
        format: map.get("format").and_then(Value::as_str).map(str::to_owned),
        bounds: bounds(map),
        rules: rules::parse(map.get("x-kubernetes-validations"), path, problems),
        ..Schema::default()
    };
    children(map, &mut parsed, path, depth, problems);
    parsed
}

fn children(
    map: &Map<String, Value>,
    parsed: &mut Schema,
    path: &str,
    depth: usize,
    problems: &mut Problems,
) {
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let at = child(path, &format!("properties[{name}]"));
        parsed.properties.insert(name.clone(), node(property, &at, depth + 1, problems));
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(true)) => {
            parsed.additional = Some(Box::new(Schema { preserve_unknown: true, ..Schema::default() }));
        }
        Some(additional @ Value::Object(_)) => {
            let at = child(path, "additionalProperties");
            parsed.additional = Some(Box::new(node(additional, &at, depth + 1, problems)));
        }
        _ => {}
    }
    if let Some(items) = map.get("items") {
        parsed.items = Some(Box::new(node(items, &child(path, "items"), depth + 1, problems)));
    }
    for (keyword, list) in
        [("allOf", &mut parsed.all_of), ("anyOf", &mut parsed.any_of), ("oneOf", &mut parsed.one_of)]
    {
        for (index, sub) in map.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = child(path, &format!("{keyword}[{index}]"));
            list.push(node(sub, &at, depth + 1, problems));
        }
    }
    if let Some(not) = map.get("not") {
        parsed.not = Some(Box::new(node(not, &child(path, "not"), depth + 1, problems)));
    }
}

/// What a node says of its type.
pub(super) fn kind(node: &Value) -> Type {
    match node.get("type").and_then(Value::as_str) {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        // Others were refused before.
        _ => Type::Any,
    }
}

/// What a node says of its list.
pub(super) fn list_type(node: &Value) -> ListType {
    match node.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(strings(node.get("x-kubernetes-list-map-keys"))),
        _ => ListType::Atomic,
    }
}

fn pattern(map: &Map<String, Value>, path: &str, problems: &mut Problems) -> Option<regex::Regex> {
    let text = map.get("pattern").and_then(Value::as_str).filter(|text| !text.is_empty())?;
    match regex::RegexBuilder::new(text).size_limit(1 << 20).build() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let why = format!("must be a valid regular expression, but isn't: {}", in_go(&error, text));
            problems.push(Cause::invalid(child(path, "pattern"), &text.into(), why));
            None
        }
    }
}

/// Why a text is no regular expression, in the words of Go where they are known.
fn in_go(error: &regex::Error, pattern: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("unclosed group", "missing closing )"),
        ("unopened group", "unexpected )"),
        ("unclosed character class", "missing closing ]"),
        ("repetition operator missing expression", "missing argument to repetition operator"),
        ("invalid character class range", "invalid character class range"),
        ("incomplete escape sequence", "trailing backslash at end of expression"),
        ("unrecognized escape sequence", "invalid escape sequence"),
    ];
    let said = error.to_string();
    match WORDS.iter().find(|(ours, _)| said.contains(ours)) {
        Some((_, go)) => format!("error parsing regexp: {go}: `{pattern}`"),
        None => said,
    }
}

fn bounds(map: &Map<String, Value>) -> Bounds {
    let number = |name: &str| map.get(name).and_then(Value::as_f64);
    let count = |name: &str| map.get(name).and_then(Value::as_u64);
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    Bounds {
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
