// SPDX-License-Identifier: Apache-2.0

//! Strategic merge patch, for the built-in kinds only. Pure.
//!
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value};

use crate::body;
use crate::status::ApiError;

/// How a list is merged: by the key of its items, or as a set of plain values. Lists not named here are replaced.
enum ListRule {
    Key(&'static str),
    Set,
}

/// The lists of the built-in kinds that merge (`patchStrategy` in their Go types), by field path.
const LISTS: &[(&str, ListRule)] = &[
    ("metadata.finalizers", ListRule::Set),
    ("metadata.ownerReferences", ListRule::Key("uid")),
    ("secrets", ListRule::Key("name")),
    ("status.conditions", ListRule::Key("type")),
];

const DIRECTIVE: &str = "$patch";
const DELETE_PRIMITIVE: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";
const RETAIN_KEYS: &str = "$retainKeys";

/// The object after the patch.
///
/// # Errors
/// 400 for directives that are not known or list items without their merge key.
pub(crate) fn merge(object: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch = match body::document(patch).map_err(ApiError::bad_request)? {
        Value::Object(patch) => patch,
        Value::Null => return Ok(object.clone()),
        other => {
            let found = body::go_kind(&other);
            let wanted = "Go value of type map[string]interface {}";
            return Err(ApiError::bad_request(format!("json: cannot unmarshal {found} into {wanted}")));
        }
    };
    let object = object.as_object().cloned().unwrap_or_default();
    merge_map(object, &patch, "").map(Value::Object)
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn merge_map(
    mut object: Map<String, Value>,
    patch: &Map<String, Value>,
    path: &str,
) -> Result<Map<String, Value>, ApiError> {
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            return Ok(patch
                .iter()
                .filter(|(k, _)| k.as_str() != DIRECTIVE)
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect());
        }
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(ApiError::bad_request(format!("Unknown patch type found: {other}"))),
    }
    if let Some(retain) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        object.retain(|key, _| retain.iter().any(|kept| kept == key.as_str()));
    }
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(SET_ORDER) {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_PRIMITIVE) {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(list) = object.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        let at = child(path, key);
        match (object.get(key), value) {
            (_, Value::Null) => {
                object.remove(key);
            }
            (Some(Value::Object(before)), Value::Object(changes)) => {
                let merged = merge_map(before.clone(), changes, &at)?;
                object.insert(key.clone(), Value::Object(merged));
            }
            (None, Value::Object(changes)) => {
                let merged = merge_map(Map::new(), changes, &at)?;
                object.insert(key.clone(), Value::Object(merged));
            }
            (before, Value::Array(changes)) => {
                let before = before.and_then(Value::as_array).cloned().unwrap_or_default();
                object.insert(key.clone(), Value::Array(merge_list(before, changes, &at)?));
            }
            (_, value) => {
                object.insert(key.clone(), value.clone());
            }
        }
    }
    order_lists(&mut object, patch, path);
    Ok(object)
}

fn rule(path: &str) -> Option<&'static ListRule> {
    LISTS.iter().find(|(at, _)| *at == path).map(|(_, rule)| rule)
}

fn merge_list(mut list: Vec<Value>, changes: &[Value], path: &str) -> Result<Vec<Value>, ApiError> {
    match rule(path) {
        None => Ok(changes.to_vec()),
        Some(ListRule::Set) => {
            for value in changes {
                if !list.contains(value) {
                    list.push(value.clone());
                }
            }
            Ok(list)
        }
        Some(ListRule::Key(key)) => {
            if changes.iter().any(|change| change.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")) {
                return Ok(changes.iter().filter(|c| c.get(DIRECTIVE).is_none()).cloned().collect());
            }
            for change in changes {
                let Some(fields) = change.as_object() else {
                    return Err(ApiError::bad_request(format!("{path}: an item is not an object")));
                };
                let Some(id) = fields.get(*key) else {
                    return Err(ApiError::bad_request(format!(
                        "map: {change} does not contain declared merge key: {key}"
                    )));
                };
                let position = list.iter().position(|item| item.get(key) == Some(id));
                let deletes = fields.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
                match (position.and_then(|at| list.get(at).cloned().map(|item| (at, item))), deletes) {
                    (Some((at, _)), true) => {
                        list.remove(at);
                    }
                    (None, true) => {}
                    (Some((at, Value::Object(before))), false) => {
                        let merged = Value::Object(merge_map(before, fields, path)?);
                        if let Some(slot) = list.get_mut(at) {
                            *slot = merged;
                        }
                    }
                    (_, false) => list.push(Value::Object(merge_map(Map::new(), fields, path)?)),
                }
            }
            Ok(list)
        }
    }
}

/// `$setElementOrder/<field>`: items named there in that order, the others after them in theirs.
fn order_lists(object: &mut Map<String, Value>, patch: &Map<String, Value>, path: &str) {
    for (key, order) in patch {
        let (Some(field), Some(order)) = (key.strip_prefix(SET_ORDER), order.as_array()) else { continue };
        let Some(list) = object.get_mut(field).and_then(Value::as_array_mut) else { continue };
        let id = |value: &Value| match rule(&child(path, field)) {
            Some(ListRule::Key(key)) => value.get(key).cloned(),
            _ => Some(value.clone()),
        };
        let place =
            |item: &Value| order.iter().position(|wanted| id(wanted) == id(item)).unwrap_or(usize::MAX);
        list.sort_by_key(place);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merge_of(object: &Value, patch: &Value) -> Result<Value, ApiError> {
        merge(object, patch.to_string().as_bytes())
    }

    #[test]
    fn maps_merge_and_nulls_remove() {
        let object = json!({"data": {"a": "1", "b": "2"}, "metadata": {"labels": {"x": "y"}}});
        let patched = merge_of(&object, &json!({"data": {"a": null, "c": "3"}})).unwrap();
        assert_eq!(patched, json!({"data": {"b": "2", "c": "3"}, "metadata": {"labels": {"x": "y"}}}));
        let replaced = merge_of(&object, &json!({"data": {"$patch": "replace", "z": "9"}})).unwrap();
        assert_eq!(replaced["data"], json!({"z": "9"}));
    }

    #[test]
    fn lists_merge_by_their_keys() {
        let object = json!({"secrets": [{"name": "a", "kind": "x"}, {"name": "b"}]});
        let patch = json!({"$setElementOrder/secrets": [{"name": "c"}, {"name": "a"}],
            "secrets": [{"name": "c"}, {"name": "b", "$patch": "delete"}, {"name": "a", "kind": "z"}]});
        let patched = merge_of(&object, &patch).unwrap();
        assert_eq!(patched["secrets"], json!([{"name": "c"}, {"name": "a", "kind": "z"}]));
        assert!(merge_of(&object, &json!({"secrets": [{"kind": "x"}]})).is_err());
        let object = json!({"metadata": {"finalizers": ["a/b", "c/d"]}});
        let patch =
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f"]}});
        assert_eq!(merge_of(&object, &patch).unwrap()["metadata"]["finalizers"], json!(["c/d", "e/f"]));
    }
}
