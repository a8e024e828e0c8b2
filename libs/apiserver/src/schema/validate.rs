// SPDX-License-Identifier: Apache-2.0

//! Validation of a value against a structural schema, with the messages of kube-apiserver. Called by admission; pure.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::prune::is_of_type;
use super::rules::{self, Budget};
use super::{ListType, Schema, Type, child, format};
use crate::status::Cause;

/// Most causes reported for one object: a huge wrong list must not make a huge answer.
const MAX_CAUSES: usize = 100;

/// All that is wrong with `object`, behind what is known of its metadata and before what is known of its scale and its rules; `old` is the state before, for transition rules.
pub(crate) fn validate(
    schema: &Schema,
    object: &Value,
    old: Option<&Value>,
    (mut causes, scale): (Vec<Cause>, Vec<Cause>),
) -> Vec<Cause> {
    // The root's metadata is checked by admission, whatever the CRD says of it.
    embedded(schema, object, "", &mut causes);
    node(schema, object, old, "", &mut causes);
    causes.extend(scale);
    lists(schema, object, old, "", &mut causes);
    with_rules(schema, object, old, causes)
}

/// All that is wrong with the status of `object`, which alone has changed. The words name fields from the status on.
pub(crate) fn validate_status(
    schema: &Schema,
    object: &Value,
    old: Option<&Value>,
    (mut causes, scale): (Vec<Cause>, Vec<Cause>),
) -> Vec<Cause> {
    let mut found = Vec::new();
    if let (Some(schema), Some(status)) = (schema.field("status"), object.get("status")) {
        embedded(schema, status, "", &mut found);
        node(schema, status, old.and_then(|old| old.get("status")), "", &mut found);
    }
    causes.extend(found.into_iter().map(|mut cause| {
        cause.field =
            if cause.field.is_empty() { "status".to_owned() } else { child("status", &cause.field) };
        cause
    }));
    causes.extend(scale);
    if let (Some(schema), Some(status)) = (schema.field("status"), object.get("status")) {
        lists(schema, status, old.and_then(|old| old.get("status")), "status", &mut causes);
    }
    with_rules(schema, object, old, causes)
}

/// The same of an object of which only the rules are to be looked at.
pub(crate) fn validate_rules(
    schema: &Schema,
    object: &Value,
    old: Option<&Value>,
    mut causes: Vec<Cause>,
) -> Vec<Cause> {
    embedded(schema, object, "", &mut causes);
    with_rules(schema, object, old, causes)
}

fn with_rules(schema: &Schema, object: &Value, old: Option<&Value>, mut causes: Vec<Cause>) -> Vec<Cause> {
    // Rules may rely on the types and sizes that the schema gives.
    if !causes.iter().any(blocks_rules) {
        rules_of(schema, object, old, "", &mut Budget::new(), &mut causes);
    } else if has_rules(schema) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        causes.push(Cause::invalid("<nil>", &Value::Null, why));
    }
    causes.truncate(MAX_CAUSES);
    causes
}

/// True for a mistake that rules could stumble over.
fn blocks_rules(cause: &Cause) -> bool {
    const REASONS: [&str; 5] = [
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ];
    REASONS.contains(&cause.reason)
}

fn has_rules(schema: &Schema) -> bool {
    !schema.rules.is_empty()
        || schema.properties.values().any(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
        || schema.additional.as_deref().is_some_and(has_rules)
}

/// What is wrong with the default of a schema; `at` is where it stands.
pub(super) fn default_value(schema: &Schema, default: &Value, at: &str, causes: &mut Vec<Cause>) {
    let mut found = Vec::new();
    node(schema, default, None, "", &mut found);
    lists(schema, default, None, "", &mut found);
    if found.is_empty() {
        rules_of(schema, default, None, "", &mut Budget::new(), &mut found);
    }
    // The words name fields from the default on, the causes from the CRD on.
    causes.extend(found.into_iter().map(|mut cause| {
        cause.field = if cause.field.is_empty() { at.to_owned() } else { child(at, &cause.field) };
        cause.message = cause.message.replacen(":  in body", ": in body", 1);
        cause
    }));
}

fn rules_of(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    budget: &mut Budget,
    causes: &mut Vec<Cause>,
) {
    if causes.len() >= MAX_CAUSES || value.is_null() {
        return;
    }
    rules::check(&schema.rules, value, old, path, budget, causes);
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                if let Some(field) = schema.field(key) {
                    let before = old.and_then(|old| old.get(key));
                    rules_of(field, below, before, &field_path(schema, path, key), budget, causes);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            // Items of a list map keep their identity over a change, others have none.
            let keys = map_keys(schema);
            let before = old.and_then(Value::as_array).filter(|_| !keys.is_empty());
            for (index, item) in list.iter().enumerate() {
                let id = map_key(keys, item);
                let before = before.and_then(|old| old.iter().find(|item| map_key(keys, item) == id));
                rules_of(items, item, before, &format!("{path}[{index}]"), budget, causes);
            }
        }
        _ => {}
    }
}

fn field_path(schema: &Schema, path: &str, key: &str) -> String {
    if schema.properties.contains_key(key) || path.is_empty() {
        child(path, key)
    } else {
        format!("{path}[{key}]")
    }
}

fn map_keys(schema: &Schema) -> &[String] {
    match &schema.list_type {
        ListType::Map(keys) => keys,
        ListType::Set | ListType::Atomic => &[],
    }
}

/// Objects inside of others say what they are.
fn embedded(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(map) => {
            for field in ["apiVersion", "kind"].into_iter().filter(|_| schema.embedded_resource) {
                if map.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                    causes.push(Cause::required(child(path, field)));
                }
            }
            for (key, below) in map {
                if let Some(field) = schema.field(key) {
                    embedded(field, below, &child(path, key), causes);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for (index, item) in list.iter().enumerate() {
                embedded(items, item, &format!("{path}[{index}]"), causes);
            }
        }
        _ => {}
    }
}

/// A value, and the one in its place before: what did not change may stay as it is, though an older schema let it in.
fn node(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if causes.len() >= MAX_CAUSES || (value.is_null() && schema.nullable) || old == Some(value) {
        return;
    }
    if !type_fits(schema, value) {
        causes.push(wrong_type(schema, value, path));
        if !value.is_null() {
            junctors(schema, value, old, path, causes);
        }
        enumeration(schema, value, path, causes);
        return;
    }
    junctors(schema, value, old, path, causes);
    match value {
        Value::String(text) => string(schema, text, value, path, causes),
        Value::Number(_) => number(schema, value, path, causes),
        Value::Array(list) => array(schema, list, old, path, causes),
        Value::Object(_) | Value::Bool(_) | Value::Null => {}
    }
    enumeration(schema, value, path, causes);
    if let Value::Object(map) = value {
        object(schema, map, old, path, causes);
    }
}

fn enumeration(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !schema.values.is_empty() && !schema.values.contains(value) {
        causes.push(Cause::unsupported(path, value, &schema.values));
    }
}

fn type_fits(schema: &Schema, value: &Value) -> bool {
    if schema.int_or_string {
        return value.is_string() || is_of_type(Type::Integer, value);
    }
    is_of_type(schema.kind, value) || (value.is_array() && written_in_a_form(schema).is_some())
}

/// The format that the values of a schema are written in. For kube-openapi a list may be such a value: bytes are one.
fn written_in_a_form(schema: &Schema) -> Option<&str> {
    let number = matches!(schema.kind, Type::Integer | Type::Number);
    schema.format.as_deref().filter(|format| !number && format::is_known(format))
}

fn wrong_type(schema: &Schema, value: &Value, path: &str) -> Cause {
    // What is no text and no list is compared with the format, where there is one.
    let format = written_in_a_form(schema);
    if let Some(format) =
        format.filter(|_| !matches!(value, Value::Null | Value::String(_) | Value::Array(_)))
    {
        let found = match value {
            Value::Number(number) if number.is_f64() => "float64",
            Value::Number(_) => "int64",
            _ => "",
        };
        return Cause::type_invalid(
            path,
            found,
            format!("{path} in body must be of type {format}: \"{found}\""),
        );
    }
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = match schema.kind {
        Type::Any => "integer,string",
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
    };
    Cause::type_invalid(path, found, format!("{path} in body must be of type {wanted}: \"{found}\""))
}

/// Of length and form the first mistake is told of.
fn string(schema: &Schema, text: &str, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    let bounds = &schema.bounds;
    if let Some(max) = bounds.max_length.filter(|max| length > *max) {
        causes.push(Cause::too_long(path, max));
    } else if let Some(min) = bounds.min_length.filter(|min| length < *min) {
        let why = format!("{path} in body should be at least {min} chars long");
        causes.push(Cause::invalid(path, value, why));
    } else if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        let why = format!("{path} in body should match '{}'", pattern.as_str());
        causes.push(Cause::invalid(path, value, why));
    }
    if let Some(name) = schema.format.as_deref().filter(|name| !format::is_valid(name, text)) {
        causes.push(Cause::malformed(path, value, name));
    }
}

fn number(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(number) = value.as_f64() else { return };
    let bounds = &schema.bounds;
    if let Some(min) = bounds.minimum {
        let (wrong, words) = match bounds.exclusive_minimum {
            true => (number <= min, "greater than"),
            false => (number < min, "greater than or equal to"),
        };
        if wrong {
            causes.push(Cause::invalid(path, value, format!("{path} in body should be {words} {min}")));
        }
    }
    if let Some(max) = bounds.maximum {
        let (wrong, words) = match bounds.exclusive_maximum {
            true => (number >= max, "less than"),
            false => (number > max, "less than or equal to"),
        };
        if wrong {
            causes.push(Cause::invalid(path, value, format!("{path} in body should be {words} {max}")));
        }
    }
    if let Some(step) = bounds.multiple_of.filter(|step| *step > 0.0 && (number / step).fract() != 0.0) {
        causes.push(Cause::invalid(path, value, format!("{path} in body should be a multiple of {step}")));
    }
    // The two integer formats are ranges, not syntax.
    let in_range = match schema.format.as_deref() {
        Some("int32") => value.as_i64().is_none_or(|n| i32::try_from(n).is_ok()),
        Some("uint32") => value.as_i64().is_none_or(|n| u32::try_from(n).is_ok()),
        _ => true,
    };
    if !in_range {
        let format = schema.format.as_deref().unwrap_or_default();
        causes.push(Cause::malformed(path, value, format));
    }
}

fn array(schema: &Schema, list: &[Value], old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let length = list.len();
    let bounds = &schema.bounds;
    if let Some(min) = bounds.min_items.filter(|min| (length as u64) < *min) {
        let why = format!("{path} in body should have at least {min} items");
        causes.push(Cause::invalid(path, &length.into(), why));
    }
    if let Some(max) = bounds.max_items.filter(|max| length as u64 > *max) {
        causes.push(Cause::too_many(path, length, max));
    }
    if bounds.unique_items {
        twice(list, path, causes);
    }
    let keys = map_keys(schema);
    let before = old.and_then(Value::as_array).filter(|_| !keys.is_empty());
    let Some(items) = &schema.items else { return };
    for (index, item) in list.iter().enumerate() {
        let id = map_key(keys, item);
        let before = before.and_then(|old| old.iter().find(|item| map_key(keys, item) == id));
        node(items, item, before, &format!("{path}[{index}]"), causes);
    }
}

/// Items of sets and maps that are there twice, and items of maps that have no fields: looked at by itself, and of a change only where the state before had none.
fn lists(schema: &Schema, object: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let mut found = Vec::new();
    list_types(schema, object, path, &mut found);
    let before = |old: &Value| {
        let mut found = Vec::new();
        list_types(schema, old, path, &mut found);
        !found.is_empty()
    };
    if !found.is_empty() && !old.is_some_and(before) {
        causes.extend(found);
    }
}

fn list_types(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                if let Some(field) = schema.field(key) {
                    list_types(field, below, &field_path(schema, path, key), causes);
                }
            }
        }
        Value::Array(list) => {
            match &schema.list_type {
                ListType::Atomic => {}
                ListType::Set => twice(list, path, causes),
                ListType::Map(keys) => {
                    match list.iter().position(|item| !item.is_object() && !item.is_null()) {
                        Some(index) => {
                            let why = "must be an object for an array of list-type map";
                            let item = list.get(index).unwrap_or(&Value::Null);
                            causes.push(Cause::invalid(format!("{path}[{index}]"), item, why));
                        }
                        None => {
                            let ids: Vec<Value> =
                                list.iter().map(|item| map_key(keys, item).into()).collect();
                            twice(&ids, path, causes);
                        }
                    }
                }
            }
            if let Some(items) = &schema.items {
                for (index, item) in list.iter().enumerate() {
                    list_types(items, item, &format!("{path}[{index}]"), causes);
                }
            }
        }
        _ => {}
    }
}

/// Tells of the second of equal items; of a third nothing is said.
fn twice(items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let mut seen: HashMap<String, u32> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            causes.push(Cause::duplicate(format!("{path}[{index}]"), item));
        }
    }
}

fn map_key(keys: &[String], item: &Value) -> Map<String, Value> {
    keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect()
}

fn object(
    schema: &Schema,
    map: &Map<String, Value>,
    old: Option<&Value>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let length = map.len();
    let bounds = &schema.bounds;
    if let Some(min) = bounds.min_properties.filter(|min| (length as u64) < *min) {
        let why = format!("{path} in body should have at least {min} properties");
        causes.push(Cause::invalid(path, &length.into(), why));
    }
    if let Some(max) = bounds.max_properties.filter(|max| length as u64 > *max) {
        causes.push(Cause::too_many(path, length, max));
    }
    for (key, value) in map {
        if path.is_empty() && key == "metadata" {
            continue;
        }
        if let Some(field) = schema.field(key) {
            node(field, value, old.and_then(|old| old.get(key)), &child(path, key), causes);
        }
    }
    for name in schema.required.iter().filter(|name| !map.contains_key(*name)) {
        causes.push(Cause::required(child(path, name)));
    }
}

fn junctors(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let problems = |sub: &Schema| {
        let mut found = Vec::new();
        node(sub, value, old, path, &mut found);
        found
    };
    let fits = |sub: &Schema| problems(sub).is_empty();
    // Told of the object as a whole: kube-openapi gives these no field.
    let wrong =
        |what: &str, why: &str| Cause::invalid("<nil>", &"".into(), format!("\"{path}\" must {what}{why}"));
    // Where none fits, what is wrong by the first is told, too.
    if !schema.any_of.is_empty() && !schema.any_of.iter().any(fits) {
        causes.push(wrong("validate at least one schema (anyOf)", ""));
        causes.extend(schema.any_of.first().map(problems).unwrap_or_default());
    }
    let fitting = schema.one_of.iter().filter(|sub| fits(sub)).count();
    if !schema.one_of.is_empty() && fitting != 1 {
        let found = match fitting {
            0 => ". Found none valid".to_owned(),
            many => format!(". Found {many} valid alternatives"),
        };
        causes.push(wrong("validate one and only one schema (oneOf)", &found));
        if fitting == 0 {
            causes.extend(schema.one_of.first().map(problems).unwrap_or_default());
        }
    }
    let wrong_of: Vec<Vec<Cause>> = schema.all_of.iter().map(problems).collect();
    let fitting = wrong_of.iter().filter(|found| found.is_empty()).count();
    if fitting < wrong_of.len() {
        let none = if fitting == 0 { ". None validated" } else { "" };
        causes.extend(wrong_of.into_iter().flatten());
        causes.push(wrong("validate all the schemas (allOf)", none));
    }
    if schema.not.as_deref().is_some_and(fits) {
        causes.push(wrong("not validate the schema (not)", ""));
    }
}
