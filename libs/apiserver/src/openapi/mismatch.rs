// SPDX-License-Identifier: Apache-2.0

//! Values of the wrong JSON type in objects of the built-in kinds, told as Go's decoder tells them: people search for these words. Pure; called by admission.

use base64::Engine as _;
use serde_json::Value;

use super::schemas;
use crate::body;
use crate::registry::Builtin;
use crate::schema::{self, Schema};

/// Definition of the metadata of every object.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Named texts of the built-in kinds' Go types: the structure and path of a field, and its type.
const NAMED: &[(&str, &str, &str)] = &[
    ("ObjectMeta", "uid", "types.UID"),
    ("ObjectReference", "uid", "types.UID"),
    ("OwnerReference", "uid", "types.UID"),
    ("Preconditions", "uid", "types.UID"),
    ("ManagedFieldsEntry", "operation", "v1.ManagedFieldsOperationType"),
    ("DeleteOptions", "propagationPolicy", "v1.DeletionPropagation"),
    ("Secret", "type", "v1.SecretType"),
    ("NamespaceSpec", "finalizers", "[]v1.FinalizerName"),
    ("NamespaceStatus", "phase", "v1.NamespacePhase"),
    ("NamespaceCondition", "type", "v1.NamespaceConditionType"),
    ("NamespaceCondition", "status", "v1.ConditionStatus"),
    ("LeaseSpec", "strategy", "v1.CoordinatedLeaseStrategy"),
    ("CustomResourceDefinitionSpec", "scope", "v1.ResourceScope"),
    ("CustomResourceConversion", "strategy", "v1.ConversionStrategyType"),
    ("CustomResourceDefinitionCondition", "type", "v1.CustomResourceDefinitionConditionType"),
    ("CustomResourceDefinitionCondition", "status", "v1.ConditionStatus"),
    ("ValidationRule", "reason", "v1.FieldValueErrorReason"),
];
/// Times: their definition, and their form as Go writes it.
const TIMES: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "2006-01-02T15:04:05Z07:00"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "2006-01-02T15:04:05.000000Z07:00"),
];
/// Deepest nesting that is looked at.
const MAX_DEPTH: usize = 64;

/// The first value that is not of its field's type; `None` when all are.
pub(crate) fn find(kind: Builtin, object: &Value) -> Option<String> {
    let name = schemas::definition_name(kind);
    walk(&Typed::of(&name)?, "", object, 0)
}

/// The Go structure at a path (`a.b`, through the items of lists) of a built-in kind, when it has no such field.
pub(crate) fn without_field(kind: Builtin, path: &str, field: &str) -> Option<String> {
    let mut name = schemas::definition_name(kind);
    let mut schema = schemas::published(&name)?;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        schema = schema.get("properties")?.get(step)?;
        schema = schema.get("items").unwrap_or(schema);
        name = target(schema)?.to_owned();
        schema = schemas::published(&name)?;
    }
    schema.get("properties")?.get(field).is_none().then(|| last(&name).to_owned())
}

/// The schema of a built-in kind.
pub(crate) fn schema(kind: Builtin) -> Option<Schema> {
    let find = |reference: &str| schemas::published(reference.strip_prefix(schemas::PREFIX)?);
    Some(schema::of_definition(schemas::published(&schemas::definition_name(kind))?, &find))
}

/// The same for the metadata of a custom resource, which is decoded by itself.
pub(crate) fn find_in_metadata(metadata: &Value) -> Option<String> {
    walk(&Typed::of(META)?, "", metadata, 0)
}

/// The same in the words of the converter that makes typed objects of what a patch by fields gives.
pub(crate) fn find_unconvertible(kind: Builtin, object: &Value) -> Option<String> {
    let name = schemas::definition_name(kind);
    let typed = Typed { converts: true, ..Typed::of(&name)? };
    walk(&typed, "", object, 0)
}

/// The same for the options of a removal.
pub(crate) fn find_in_delete_options(options: &Value) -> Option<String> {
    walk(&Typed::of(schemas::DELETE_OPTIONS)?, "", options, 0)
}

/// Puts the empty text or object where null stands for one (among the values of a map and the items of a list), and base64 where bytes are given one by one.
pub(crate) fn fill_nulls(kind: Builtin, object: &mut Value) {
    let name = schemas::definition_name(kind);
    if let Some(schema) = schemas::published(&name) {
        fill(schema, object, 0);
    }
}

/// The same for the metadata of a custom resource.
pub(crate) fn fill_nulls_in_metadata(metadata: &mut Value) {
    if let Some(schema) = schemas::published(META) {
        fill(schema, metadata, 0);
    }
}

fn fill(schema: &Value, value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(name) = target(schema) {
        if let Some(schema) = schemas::published(name) {
            fill(schema, value, depth + 1);
        }
        return;
    }
    if is_bytes(schema)
        && let Some(bytes) =
            value.as_array().and_then(|list| list.iter().map(byte).collect::<Option<Vec<u8>>>())
    {
        *value = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        return;
    }
    let below = |schema: &Value, value: &mut Value| {
        if value.is_null() {
            let schema = target(schema).and_then(schemas::published).unwrap_or(schema);
            match schema.get("type").and_then(Value::as_str) {
                Some("string") => *value = "".into(),
                Some("object") => *value = Value::Object(serde_json::Map::new()),
                _ => {}
            }
        }
        fill(schema, value, depth + 1);
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let field = schema.get("properties").and_then(|fields| fields.get(key));
                match (field, schema.get("additionalProperties")) {
                    (Some(schema), _) => fill(schema, value, depth + 1),
                    (None, Some(schema)) => below(schema, value),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            if let Some(schema) = schema.get("items") {
                list.iter_mut().for_each(|value| below(schema, value));
            }
        }
        _ => {}
    }
}

/// True for bytes, which JSON has as base64, and Go reads from a list of numbers, too.
fn is_bytes(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some("byte")
}

/// One of them.
fn byte(value: &Value) -> Option<u8> {
    if value.is_null() { Some(0) } else { value.as_u64().and_then(|number| u8::try_from(number).ok()) }
}

/// A schema, and the Go structure that its fields belong to.
struct Typed<'a> {
    schema: &'a Value,
    structure: &'a str,
    /// Name of the definition.
    name: &'a str,
    /// It is converted from values, not decoded from a text.
    converts: bool,
}

impl<'a> Typed<'a> {
    fn of(name: &'a str) -> Option<Self> {
        Some(Self { schema: schemas::published(name)?, structure: last(name), name, converts: false })
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The definition that a schema is a reference to.
fn target(schema: &Value) -> Option<&str> {
    let all_of = schema.get("allOf").and_then(Value::as_array).and_then(|all| all.first());
    let reference = schema.get("$ref").or_else(|| all_of.and_then(|one| one.get("$ref")))?;
    reference.as_str()?.strip_prefix(schemas::PREFIX)
}

fn walk(typed: &Typed<'_>, path: &str, value: &Value, depth: usize) -> Option<String> {
    if value.is_null() || depth > MAX_DEPTH {
        return None;
    }
    if let Some(name) = target(typed.schema) {
        let schema = schemas::published(name)?;
        // A wrong value is told of as the field that holds the reference.
        if !fits(schema, value) {
            // Times read themselves, from a text.
            let is_time = TIMES.iter().any(|(time, _)| *time == name);
            return Some(match (is_time, typed.converts) {
                (true, true) => {
                    let found = body::go_kind(value);
                    format!("json: cannot unmarshal {found} into Go value of type string")
                }
                (true, false) => told(&Typed { schema, ..*typed }, path, value),
                (false, _) => told(typed, path, value),
            });
        }
        if let Some(why) = malformed_time(name, value) {
            return Some(why);
        }
        return walk(&Typed { schema, structure: last(name), name, ..*typed }, path, value, depth + 1);
    }
    if is_bytes(typed.schema) {
        if let Some(at) = value.as_str().and_then(malformed_base64) {
            let decoder = if typed.converts { "error decoding from json: " } else { "" };
            return Some(format!("{decoder}illegal base64 data at input byte {at}"));
        }
        if let Value::Array(list) = value {
            let odd = list.iter().find(|item| byte(item).is_none())?;
            return Some(told_as(typed, path, odd, "uint8"));
        }
    }
    if !fits(typed.schema, value) {
        return Some(told(typed, path, value));
    }
    match value {
        Value::Object(map) => map.iter().find_map(|(key, below)| {
            if let Some(schema) = typed.schema.get("properties").and_then(|fields| fields.get(key)) {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                return walk(&Typed { schema, ..*typed }, &at, below, depth + 1);
            }
            // Values of a map are told of as the map.
            let schema = typed.schema.get("additionalProperties")?;
            walk(&Typed { schema, ..*typed }, path, below, depth + 1)
        }),
        Value::Array(list) => {
            let schema = typed.schema.get("items")?;
            list.iter().find_map(|below| walk(&Typed { schema, ..*typed }, path, below, depth + 1))
        }
        _ => None,
    }
}

fn malformed_time(name: &str, value: &Value) -> Option<String> {
    let (_, form) = TIMES.iter().find(|(time, _)| *time == name)?;
    let text = value.as_str().filter(|text| text.parse::<jiff::Timestamp>().is_err())?;
    Some(format!("parsing time {text:?} as {form:?}: cannot parse {text:?} as \"2006\""))
}

/// The first byte that is not base64, where Go's decoder stops.
fn malformed_base64(text: &str) -> Option<usize> {
    base64::engine::general_purpose::STANDARD.decode(text).err()?;
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    Some(text.bytes().position(|byte| !good(&byte)).unwrap_or(text.len()))
}

fn fits(schema: &Value, value: &Value) -> bool {
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    }
}

/// What Go's converter says of a value of another kind.
fn unconvertible(typed: &Typed<'_>, value: &Value, wanted: &str) -> String {
    let (kind, name) = match value {
        Value::Null => ("invalid", "<nil>"),
        Value::Bool(_) => ("bool", "bool"),
        Value::Number(number) if number.is_f64() => ("float64", "float64"),
        Value::Number(_) => ("int64", "int64"),
        Value::String(_) => ("string", "string"),
        Value::Array(_) => ("slice", "[]interface {}"),
        Value::Object(_) => ("map", "map[string]interface {}"),
    };
    let schema = target(typed.schema).and_then(schemas::published).unwrap_or(typed.schema);
    // Integers become texts in Go, and numbers integers, if one lets them.
    let similar = match value {
        Value::Number(number) if number.is_f64() => wanted.starts_with("int"),
        Value::Number(_) => !is_number(schema) && wanted != "bool",
        _ => false,
    };
    match schema.get("type").and_then(Value::as_str) {
        _ if is_bytes(schema) && wanted != "uint8" => format!("cannot restore slice from {kind}"),
        Some("array") => format!("cannot restore slice from {kind}"),
        Some("object") if schema.get("additionalProperties").is_some() => {
            format!("cannot restore map from {kind}")
        }
        Some("object") => format!("cannot restore struct from: {kind}"),
        _ if similar => format!("cannot convert {name} to {wanted}"),
        Some("string") if wanted != "uint8" => "unrecognized type: string".to_owned(),
        _ => format!("unrecognized type: {wanted}"),
    }
}

fn told(typed: &Typed<'_>, path: &str, value: &Value) -> String {
    let named =
        NAMED.iter().find(|(structure, field, _)| *structure == typed.structure && *field == last(path));
    let wanted = named.map_or_else(|| go_type(typed.schema), |(_, _, named)| (*named).to_owned());
    told_as(typed, path, value, &wanted)
}

fn told_as(typed: &Typed<'_>, path: &str, value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Where a number is wanted, it is this one that does not do.
        Value::Number(number) if number.is_f64() && is_number(typed.schema) => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    if typed.converts {
        return unconvertible(typed, value, wanted);
    }
    if path.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type v1.{}", last(typed.name));
    }
    format!("json: cannot unmarshal {found} into Go struct field {}.{path} of type {wanted}", typed.structure)
}

fn is_number(schema: &Value) -> bool {
    matches!(schema.get("type").and_then(Value::as_str), Some("integer" | "number"))
}

fn go_type(schema: &Value) -> String {
    if let Some(name) = target(schema) {
        return format!("v1.{}", last(name));
    }
    let text = |field: &str| schema.get(field).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("string", "byte") => "[]uint8".into(),
        ("boolean", _) => "bool".into(),
        ("integer", "int32") => "int32".into(),
        ("integer", _) => "int64".into(),
        ("number", _) => "float64".into(),
        ("array", _) => format!("[]{}", schema.get("items").map(go_type).unwrap_or_default()),
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) => format!("map[string]{}", go_type(values)),
            None => "struct".into(),
        },
        _ => "string".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        let cases = [
            (
                Builtin::ConfigMap,
                json!({"data": {"a": 7}}),
                "number into Go struct field ConfigMap.data of type string",
            ),
            (
                Builtin::ConfigMap,
                json!({"data": []}),
                "array into Go struct field ConfigMap.data of type map[string]string",
            ),
            (
                Builtin::Secret,
                json!({"metadata": {"labels": {"a": true}}}),
                "bool into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                Builtin::Lease,
                json!({"spec": {"leaseDurationSeconds": "x"}}),
                "string into Go struct field LeaseSpec.spec.leaseDurationSeconds of type int32",
            ),
            (
                Builtin::Namespace,
                json!({"metadata": {"finalizers": "x"}}),
                "string into Go struct field ObjectMeta.metadata.finalizers of type []string",
            ),
            (
                Builtin::Namespace,
                json!({"metadata": 7}),
                "number into Go struct field Namespace.metadata of type v1.ObjectMeta",
            ),
        ];
        for (kind, object, expected) in cases {
            assert_eq!(find(kind, &object).unwrap(), format!("json: cannot unmarshal {expected}"));
        }
        assert_eq!(find(Builtin::Secret, &json!({"data": {"a": "eA=="}, "metadata": {"name": null}})), None);
    }
}
