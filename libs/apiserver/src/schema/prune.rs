// SPDX-License-Identifier: Apache-2.0

//! Pruning of unknown fields and filling in of defaults. Called by admission on every write of a custom resource.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Schema, Type, child};

static UNKNOWN: LazyLock<Schema> = LazyLock::new(Schema::default);

/// Removes what the schema does not know; returns the paths removed (`spec.foo`, `spec.list[2].bar`). The root's `apiVersion`, `kind` and `metadata` are
/// known in any case.
pub(crate) fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    prune_node(schema, object, "", true, &mut removed);
    removed
}

/// The same for a value inside of an object.
pub(super) fn prune_value(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    prune_node(schema, value, "", schema.embedded_resource, &mut removed);
    removed
}

fn prune_node(schema: &Schema, value: &mut Value, path: &str, resource: bool, removed: &mut Vec<String>) {
    match value {
        Value::Object(map) => prune_map(schema, map, path, resource, removed),
        Value::Array(list) => {
            // Of the items of what is to be no list nothing is known.
            let items = match &schema.items {
                Some(items) => items.as_ref(),
                None if schema.preserve_unknown => return,
                None => &UNKNOWN,
            };
            for (index, item) in list.iter_mut().enumerate() {
                prune_node(items, item, &format!("{path}[{index}]"), items.embedded_resource, removed);
            }
        }
        _ => {}
    }
}

fn prune_map(
    schema: &Schema,
    map: &mut Map<String, Value>,
    path: &str,
    resource: bool,
    removed: &mut Vec<String>,
) {
    let mut unknown = Vec::new();
    for (key, value) in map.iter_mut() {
        if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        match schema.field(key) {
            Some(field) => prune_node(field, value, &child(path, key), field.embedded_resource, removed),
            None if schema.preserve_unknown => {}
            None => unknown.push(key.clone()),
        }
    }
    for key in unknown {
        map.remove(&key);
        removed.push(child(path, &key));
    }
}

/// Fills in defaults, outside in, so that the default of an object gets the defaults of its fields. A null counts as missing in a field that has a
/// default and is not nullable.
pub(crate) fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.properties {
                let missing = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !field.nullable && field.default.is_some(),
                    Some(_) => false,
                };
                if let (true, Some(default)) = (missing, &field.default) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(field) = schema.field(key) {
                    default(field, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|item| default(items, item));
            }
        }
        _ => {}
    }
}

/// Takes out the fields that are null where null is no value: they count as not given. For after the defaults.
pub(crate) fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !value.is_null() || schema.field(key).is_none_or(|field| field.nullable));
            for (key, value) in map.iter_mut() {
                if let Some(field) = schema.field(key) {
                    drop_nulls(field, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|item| drop_nulls(items, item));
            }
        }
        _ => {}
    }
}

/// Calls `visit` for every object that is embedded in another, with its path.
///
/// # Errors
/// The first one of `visit`.
pub(crate) fn each_embedded<E>(
    schema: &Schema,
    value: &mut Value,
    visit: &mut impl FnMut(&str, &mut Map<String, Value>) -> Result<(), E>,
) -> Result<(), E> {
    embedded_below(schema, value, "", visit)
}

fn embedded_below<E>(
    schema: &Schema,
    value: &mut Value,
    path: &str,
    visit: &mut impl FnMut(&str, &mut Map<String, Value>) -> Result<(), E>,
) -> Result<(), E> {
    match value {
        Value::Object(map) => {
            if schema.embedded_resource {
                visit(path, map)?;
            }
            for (key, below) in map.iter_mut() {
                if let Some(field) = schema.field(key) {
                    embedded_below(field, below, &child(path, key), visit)?;
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return Ok(()) };
            for (index, item) in list.iter_mut().enumerate() {
                embedded_below(items, item, &format!("{path}[{index}]"), visit)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// True when a value of this JSON type can be of this schema type.
pub(super) fn is_of_type(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Number => value.is_number(),
        // 1.0 is an integer in JSON Schema.
        Type::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
    }
}
