// SPDX-License-Identifier: Apache-2.0

//! JSON patch and JSON merge patch. Pure; server-side apply and strategic merge have their own modules.

use serde_json::Value;

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
    /// The media types for the 415 answer; strategic merge is for built-in kinds only.
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

/// RFC 7386.
pub(crate) fn merge(object: &Value, patch: &Value) -> Value {
    let mut patched = object.clone();
    json_patch::merge(&mut patched, patch);
    patched
}

/// RFC 6902, with the two differences that Kubernetes has: `test` for null holds where the path does not exist, and `replace` adds a field to an object that
/// lacks it.
///
/// # Errors
/// 400 for a patch that does not parse, 413 for too many operations, 422 for one that does not apply.
pub(crate) fn json(object: &Value, patch: &Value) -> Result<Value, ApiError> {
    let operations: Vec<json_patch::PatchOperation> =
        serde_json::from_value(patch.clone()).map_err(|e| ApiError::bad_request(e.to_string()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::too_large(MAX_OPERATIONS));
    }
    let mut patched = object.clone();
    for operation in operations {
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
        super::json(object, patch)
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
