// SPDX-License-Identifier: Apache-2.0

//! From the version 3 documents to the one version 2 document, for older clients. Pure; called by `openapi`.
//!
//! OpenAPI 2 has neither alternatives nor `nullable`, and `kubectl` reads an object with properties as one without others: such parts of custom schemas are
//! published without their inner structure, as kube-apiserver does.

use serde_json::{Map, Value, json};

use super::schemas::{PREFIX, each_schema};
use crate::object;

const V2_PREFIX: &str = "#/definitions/";
const EXTENSION: &str = "x-kubernetes-";

/// The document of all `documents`; `is_builtin` says whose definitions are Kubernetes' own.
pub(super) fn document(documents: impl Iterator<Item = Value>, is_builtin: impl Fn(&str) -> bool) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for mut document in documents {
        let components = object::entry(&mut document, "components");
        for (name, schema) in std::mem::take(object::object_mut(object::entry(components, "schemas"))) {
            if !definitions.contains_key(&name) {
                let definition = definition(schema, is_builtin(&name));
                definitions.insert(name, definition);
            }
        }
        for (path, item) in std::mem::take(object::object_mut(object::entry(&mut document, "paths"))) {
            paths.insert(path, path_item(item));
        }
    }
    let token = json!({"type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication"});
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": crate::discovery::VERSION},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": token},
        "security": [{"BearerToken": []}],
    })
}

fn definition(mut schema: Value, builtin: bool) -> Value {
    let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if !builtin && open {
        let map = object::object_mut(&mut schema);
        map.retain(|key, _| key == "x-kubernetes-group-version-kind");
        map.insert("type".into(), "object".into());
        return schema;
    }
    each_schema(&mut schema, &mut |map| {
        if let Some(reference) = only_reference(map) {
            map.remove("allOf");
            map.insert("$ref".into(), reference.into());
        } else if let Some(Value::String(reference)) = map.get_mut("$ref") {
            *reference = reference.replace(PREFIX, V2_PREFIX);
        }
        if !builtin {
            simplify(map);
        }
    });
    schema
}

/// The reference of `allOf` with nothing else in it, in the form of version 2. The inner node was visited before.
fn only_reference(map: &Map<String, Value>) -> Option<String> {
    match map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => {
            one.get("$ref").and_then(Value::as_str).map(|reference| reference.replace(PREFIX, V2_PREFIX))
        }
        _ => None,
    }
}

fn simplify(map: &mut Map<String, Value>) {
    for junctor in ["allOf", "anyOf", "oneOf", "not"] {
        map.remove(junctor);
    }
    let flag = |map: &Map<String, Value>, name: &str| map.get(name) == Some(&Value::Bool(true));
    let open = flag(map, "x-kubernetes-preserve-unknown-fields");
    if flag(map, "nullable") || open {
        map.remove("items");
        map.remove("properties");
    }
    if flag(map, "nullable") {
        map.remove("type");
    }
    map.remove("nullable");
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    if (kind == "array" && !map.contains_key("items")) || (kind == "object" && open) {
        map.remove("type");
    }
}

fn path_item(item: Value) -> Value {
    let Value::Object(item) = item else { return item };
    let converted = item.into_iter().map(|(key, value)| {
        let value = if key == "parameters" { parameters(value) } else { operation(value) };
        (key, value)
    });
    Value::Object(converted.collect())
}

/// In version 2 a parameter has its type in itself.
fn parameters(list: Value) -> Value {
    let Value::Array(list) = list else { return list };
    let converted = list.into_iter().map(|mut parameter| {
        let map = object::object_mut(&mut parameter);
        if let Some(Value::Object(schema)) = map.remove("schema") {
            map.extend(schema);
        }
        parameter
    });
    converted.collect()
}

fn media_types(content: Option<&Value>) -> Vec<&String> {
    content.and_then(Value::as_object).into_iter().flatten().map(|(form, _)| form).collect()
}

fn schema_of(content: Option<&Value>) -> Option<Value> {
    let first = content.and_then(Value::as_object)?.values().next()?;
    let reference = first.get("schema")?.get("$ref")?.as_str()?;
    Some(json!({"$ref": reference.replace(PREFIX, V2_PREFIX)}))
}

fn operation(operation: Value) -> Value {
    let mut converted = Map::new();
    for key in ["tags", "description", "operationId"] {
        if let Some(value) = operation.get(key) {
            converted.insert(key.into(), value.clone());
        }
    }
    let mut list = parameters(operation.get("parameters").cloned().unwrap_or_else(|| json!([])));
    if let (Some(body), Some(list)) = (operation.get("requestBody"), list.as_array_mut()) {
        let content = body.get("content");
        converted.insert("consumes".into(), json!(media_types(content)));
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema_of(content)});
        if body.get("required") == Some(&Value::Bool(true)) {
            object::object_mut(&mut parameter).insert("required".into(), true.into());
        }
        list.push(parameter);
    } else {
        converted.insert("consumes".into(), json!(["*/*"]));
    }
    converted.insert("parameters".into(), list);
    let mut responses = Map::new();
    for (code, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let content = response.get("content");
        let mut answer = json!({"description": response.get("description")});
        if let Some(schema) = schema_of(content) {
            converted.insert("produces".into(), json!(media_types(content)));
            object::object_mut(&mut answer).insert("schema".into(), schema);
        }
        responses.insert(code.clone(), answer);
    }
    converted.insert("responses".into(), responses.into());
    converted.insert("schemes".into(), json!(["https"]));
    let extensions =
        operation.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with(EXTENSION));
    converted.extend(extensions.map(|(key, value)| (key.clone(), value.clone())));
    Value::Object(converted)
}
