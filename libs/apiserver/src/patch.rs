// SPDX-License-Identifier: Apache-2.0

//! JSON patch and JSON merge patch. Pure; server-side apply and strategic merge have their own modules.

use serde_json::Value;

use crate::body;
use crate::status::ApiError;

/// Operations in one JSON patch (kube-apiserver's `maxJSONPatchOperations`).
const MAX_OPERATIONS: usize = 10_000;

/// Body types of PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    /// The media types that are taken; strategic merge is for built-in kinds only.
    pub fn accepted(custom: bool) -> &'static [&'static str] {
        const CUSTOM: &[&str] =
            &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
        const BUILTIN: &[&str] = &[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ];
        if custom { CUSTOM } else { BUILTIN }
    }

    /// From `Content-Type` without its parameters.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

fn undecodable(why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("error decoding patch: {why}"))
}

/// What is to be said of fields that a patch gives twice, and of those that an operation does not have.
pub(crate) fn notes(kind: PatchType, patch: &[u8]) -> Vec<String> {
    match kind {
        PatchType::Merge | PatchType::Strategic => body::notes(patch),
        PatchType::Apply => Vec::new(),
        PatchType::Json => {
            let list = body::document(patch).unwrap_or_default();
            let operations = list.as_array().into_iter().flatten().enumerate();
            operations
                .flat_map(|(index, operation)| {
                    let fields = operation.as_object().into_iter().flatten();
                    let odd = fields.filter(|(field, _)| !OPERATION.contains(&field.as_str()));
                    odd.map(move |(field, _)| format!("json patch unknown field \"[{index}].{field}\""))
                })
                .collect()
        }
    }
}

/// The fields of an operation of a JSON patch.
const OPERATION: [&str; 4] = ["op", "path", "from", "value"];

/// RFC 7386.
///
/// # Errors
/// 400 for a patch that is no object.
pub(crate) fn merge(object: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch = body::document(patch).map_err(undecodable)?;
    match &patch {
        Value::Object(_) => {}
        Value::Null => return Err(ApiError::bad_request("Invalid JSON Patch")),
        other => {
            let found = body::go_kind(other);
            let wanted = "Go value of type map[string]interface {}";
            return Err(undecodable(format!("json: cannot unmarshal {found} into {wanted}")));
        }
    }
    let mut patched = object.clone();
    json_patch::merge(&mut patched, &patch);
    Ok(patched)
}

/// The operations of a JSON patch, as far as they have the form of operations.
fn operations(patch: &[u8]) -> Result<Vec<Value>, ApiError> {
    let cannot = |found: &Value, wanted: &str| {
        let found = body::go_kind(found);
        undecodable(format!("json: cannot unmarshal {found} into Go {wanted}"))
    };
    let list = match body::document(patch).map_err(undecodable)? {
        Value::Array(list) => list,
        Value::Null => return Ok(Vec::new()),
        other => return Err(cannot(&other, "value of type []handlers.jsonPatchOp")),
    };
    for operation in &list {
        let Value::Object(fields) = operation else {
            return Err(cannot(operation, "value of type handlers.jsonPatchOp"));
        };
        for field in ["op", "path", "from"] {
            if let Some(found) = fields.get(field).filter(|found| !found.is_string() && !found.is_null()) {
                return Err(cannot(found, &format!("struct field jsonPatchOp.{field} of type string")));
            }
        }
    }
    Ok(list)
}

/// RFC 6902, with the two differences that Kubernetes has: `test` for null holds where the path does not exist, and `replace` adds a field to an object that
/// lacks it.
///
/// # Errors
/// 400 for a patch that does not parse, 413 for too many operations, 422 for one that does not apply.
pub(crate) fn json(object: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let operations = operations(patch)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::too_much(&format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patched = object.clone();
    for mut operation in operations {
        // A value that is left out is null.
        if let Some(fields) = operation.as_object_mut()
            && matches!(fields.get("op").and_then(Value::as_str), Some("add" | "replace" | "test"))
        {
            fields.entry("value").or_insert(Value::Null);
        }
        let operation: json_patch::PatchOperation =
            serde_json::from_value(operation).map_err(|_| ApiError::rejected_patch())?;
        let operation = match operation {
            json_patch::PatchOperation::Test(test)
                if test.value.is_null() && patched.pointer(test.path.as_str()).is_none() =>
            {
                continue;
            }
            json_patch::PatchOperation::Replace(replace) if in_object(&patched, replace.path.as_str()) => {
                json_patch::PatchOperation::Add(json_patch::AddOperation {
                    path: replace.path,
                    value: replace.value,
                })
            }
            other => other,
        };
        json_patch::patch(&mut patched, std::slice::from_ref(&operation))
            .map_err(|_| ApiError::rejected_patch())?;
    }
    Ok(patched)
}

/// True for the path of a field of an object that is there, whether the field is or not.
fn in_object(value: &Value, path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| value.pointer(parent).is_some_and(Value::is_object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn testing_for_null_holds_where_nothing_is() {
        let object = json!({"metadata": {"name": "a"}});
        let patch = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["x/y"]},
        ]);
        let patched = json_of(&object, &patch).unwrap();
        assert_eq!(patched["metadata"]["finalizers"], json!(["x/y"]));
        let error = json_of(&patched, &patch).unwrap_err();
        assert_eq!(error.code().as_u16(), 422);
    }

    fn json_of(object: &Value, patch: &Value) -> Result<Value, ApiError> {
        super::json(object, patch.to_string().as_bytes())
    }

    #[test]
    fn a_patch_applies_whole_or_not_at_all() {
        let object = json!({"a": 1});
        let patch = json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "remove", "path": "/b"}]);
        assert_eq!(json_of(&object, &patch).unwrap_err().code().as_u16(), 422);
        let patch = json!([{"op": "replace", "path": "/b", "value": 2}]);
        assert_eq!(json_of(&object, &patch).unwrap(), json!({"a": 1, "b": 2}));
        let patch = json!([{"op": "replace", "path": "/b/c", "value": 2}]);
        assert_eq!(json_of(&object, &patch).unwrap_err().code().as_u16(), 422);
        assert_eq!(object, json!({"a": 1}));
        assert_eq!(json_of(&object, &json!({"op": "x"})).unwrap_err().code().as_u16(), 400);
    }
}
