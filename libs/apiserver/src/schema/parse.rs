// SPDX-License-Identifier: Apache-2.0

//! Reading `openAPIV3Schema` into [`Schema`]. Called when a CRD is admitted and when stored CRDs are loaded.

use serde_json::{Map, Value};

use super::{Bounds, ListType, MAX_DEPTH, Schema, Type, child, rules};

type Problems = Vec<(String, String)>;

pub(super) fn parse(schema: &Value) -> Result<Schema, Problems> {
    let mut problems = Vec::new();
    let parsed = node(schema, "", 0, false, &mut problems);
    if parsed.kind != Type::Object {
        problems.push((String::new(), "type must be object at the root".into()));
    }
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

fn node(schema: &Value, path: &str, depth: usize, in_junctor: bool, problems: &mut Problems) -> Schema {
    let Some(map) = schema.as_object() else {
        problems.push((path.into(), "must be an object".into()));
        return Schema::default();
    };
    if depth > MAX_DEPTH {
        problems.push((path.into(), format!("nested deeper than {MAX_DEPTH}")));
        return Schema::default();
    }
    if map.contains_key("$ref") {
        problems.push((child(path, "$ref"), "must not be set: structural schemas have no references".into()));
    }
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut parsed = Schema {
        kind: kind(map, path, problems),
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        default: map.get("default").cloned(),
        list_type: list_type(map, path, problems),
        atomic_map: map.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        required: strings(map.get("required")),
        values: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        pattern: pattern(map, path, problems),
        format: map.get("format").and_then(Value::as_str).map(str::to_owned),
        bounds: bounds(map),
        rules: rules::parse(map.get("x-kubernetes-validations"), path, problems),
        ..Schema::default()
    };
    let untyped_allowed = in_junctor || parsed.int_or_string || parsed.preserve_unknown;
    if parsed.kind == Type::Any && !untyped_allowed {
        problems.push((child(path, "type"), "must not be empty for specified object fields".into()));
    }
    children(map, &mut parsed, path, depth, in_junctor, problems);
    parsed
}

fn children(
    map: &Map<String, Value>,
    parsed: &mut Schema,
    path: &str,
    depth: usize,
    in_junctor: bool,
    problems: &mut Problems,
) {
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let at = child(path, &format!("properties[{name}]"));
        parsed.properties.insert(name.clone(), node(property, &at, depth + 1, in_junctor, problems));
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(true)) => {
            parsed.additional = Some(Box::new(Schema { preserve_unknown: true, ..Schema::default() }));
        }
        Some(additional @ Value::Object(_)) => {
            let at = child(path, "additionalProperties");
            parsed.additional = Some(Box::new(node(additional, &at, depth + 1, in_junctor, problems)));
        }
        _ => {}
    }
    if let Some(items) = map.get("items") {
        parsed.items = Some(Box::new(node(items, &child(path, "items"), depth + 1, in_junctor, problems)));
    } else if parsed.kind == Type::Array && !in_junctor {
        problems.push((child(path, "items"), "must be specified".into()));
    }
    for (keyword, list) in
        [("allOf", &mut parsed.all_of), ("anyOf", &mut parsed.any_of), ("oneOf", &mut parsed.one_of)]
    {
        for (index, sub) in map.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = child(path, &format!("{keyword}[{index}]"));
            list.push(node(sub, &at, depth + 1, true, problems));
        }
    }
    if let Some(not) = map.get("not") {
        parsed.not = Some(Box::new(node(not, &child(path, "not"), depth + 1, true, problems)));
    }
}

fn kind(map: &Map<String, Value>, path: &str, problems: &mut Problems) -> Type {
    match map.get("type").and_then(Value::as_str) {
        None | Some("") => Type::Any,
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        Some(other) => {
            problems.push((child(path, "type"), format!("unsupported type {other:?}")));
            Type::Any
        }
    }
}

fn list_type(map: &Map<String, Value>, path: &str, problems: &mut Problems) -> ListType {
    match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = strings(map.get("x-kubernetes-list-map-keys"));
            if keys.is_empty() {
                let at = child(path, "x-kubernetes-list-map-keys");
                problems.push((at, "must not be empty if x-kubernetes-list-type is map".into()));
            }
            ListType::Map(keys)
        }
        _ => ListType::Atomic,
    }
}

fn pattern(map: &Map<String, Value>, path: &str, problems: &mut Problems) -> Option<regex::Regex> {
    let text = map.get("pattern").and_then(Value::as_str).filter(|text| !text.is_empty())?;
    match regex::RegexBuilder::new(text).size_limit(1 << 20).build() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            problems.push((child(path, "pattern"), format!("must be a valid regular expression: {error}")));
            None
        }
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
