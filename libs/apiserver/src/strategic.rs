// SPDX-License-Identifier: Apache-2.0

//! Strategic merge patch, for the built-in kinds only. Pure.
//!
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value};

use crate::body;
use crate::openapi::mismatch;
use crate::registry::Builtin;
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
/// 400 for a patch that is none, 500 for directives that are not known and list items without their merge key: so does kube-apiserver, whose patch library
/// has these for accidents.
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

/// A patch as Go prints it.
pub(crate) fn shown(patch: &[u8]) -> String {
    body::document(patch).map(|patch| go(&patch)).unwrap_or_default()
}

fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        plain => plain.to_string(),
    }
}

/// A directive that is not known.
fn bad_type(directive: &str, patch: &Map<String, Value>) -> ApiError {
    let shown = go(&Value::Object(patch.clone()));
    ApiError::unexplained(format!("unknown patch type: {directive} in map: {shown}"))
}

/// Refuses the order of a list that the kind does not have.
///
/// # Errors
/// 500, as kube-apiserver answers it.
pub(crate) fn check_lists(kind: Builtin, patch: &[u8]) -> Result<(), ApiError> {
    body::document(patch).map_or(Ok(()), |patch| check_lists_at(kind, &patch, ""))
}

fn check_lists_at(kind: Builtin, patch: &Value, path: &str) -> Result<(), ApiError> {
    for (key, below) in patch.as_object().into_iter().flatten() {
        if let Some(field) = key.strip_prefix(SET_ORDER)
            && let Some(structure) = mismatch::without_field(kind, path, field)
        {
            let why = format!("unable to find api field in struct {structure} for the json field {field:?}");
            return Err(ApiError::unexplained(why));
        }
        check_lists_at(kind, below, &child(path, key))?;
    }
    Ok(())
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
        Some(other) => return Err(bad_type(other, patch)),
    }
    if let Some(retain) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        object.retain(|key, _| retain.iter().any(|kept| kept == key.as_str()));
    }
    let original = object.clone();
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
            (before, value) => {
                if let (Some(changes), Some(order)) = (value.as_array(), order(patch, key)) {
                    check_order(changes, order, &at)?;
                }
                let merged = match (before, value) {
                    (Some(Value::Array(before)), Value::Array(changes)) => {
                        Some(Value::Array(merge_list(before.clone(), changes, &at)?))
                    }
                    // There is nothing to merge with.
                    (_, value) => without_directives(value),
                };
                match merged {
                    Some(merged) => object.insert(key.clone(), merged),
                    None => object.remove(key),
                };
            }
        }
    }
    for (key, order) in patch {
        let (Some(field), Some(order)) = (key.strip_prefix(SET_ORDER), order.as_array()) else { continue };
        let Some(list) = object.get_mut(field).and_then(Value::as_array_mut) else { continue };
        let before = original.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        *list = in_order(std::mem::take(list), order, before, &child(path, field));
    }
    Ok(object)
}

/// The order that a patch gives a list.
fn order<'a>(patch: &'a Map<String, Value>, field: &str) -> Option<&'a Vec<Value>> {
    patch.get(&format!("{SET_ORDER}{field}")).and_then(Value::as_array)
}

/// What of a patch comes where there was nothing: no nulls, and nothing that says how it is to be merged.
fn without_directives(patch: &Value) -> Option<Value> {
    match patch {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            let kept = kept.filter_map(|(key, value)| Some((key.clone(), without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(items.iter().filter_map(without_directives).collect()),
        plain => Some(plain.clone()),
    }
}

fn rule(path: &str) -> Option<&'static ListRule> {
    LISTS.iter().find(|(at, _)| *at == path).map(|(_, rule)| rule)
}

/// What tells an item of a list from others.
fn id(item: &Value, path: &str) -> Option<Value> {
    match rule(path) {
        Some(ListRule::Key(key)) => item.get(key).cloned(),
        _ => Some(item.clone()),
    }
}

fn merge_list(list: Vec<Value>, changes: &[Value], path: &str) -> Result<Vec<Value>, ApiError> {
    let before = list.clone();
    let merged = match rule(path) {
        None => return Ok(changes.to_vec()),
        Some(ListRule::Set) => {
            let mut list = list;
            for value in changes {
                if !list.contains(value) {
                    list.push(value.clone());
                }
            }
            list
        }
        Some(ListRule::Key(key)) => {
            if changes.iter().any(|change| change.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")) {
                return Ok(changes.iter().filter(|c| c.get(DIRECTIVE).is_none()).cloned().collect());
            }
            merge_by_key(list, changes, key, path)?
        }
    };
    Ok(in_order(merged, changes, &before, path))
}

fn merge_by_key(
    mut list: Vec<Value>,
    changes: &[Value],
    key: &str,
    path: &str,
) -> Result<Vec<Value>, ApiError> {
    for change in changes {
        let Some(fields) = change.as_object() else {
            return Err(ApiError::bad_request(format!("{path}: an item is not an object")));
        };
        let directive = fields.get(DIRECTIVE).and_then(Value::as_str);
        if let Some(other) = directive.filter(|directive| !["delete", "merge"].contains(directive)) {
            return Err(bad_type(other, fields));
        }
        let Some(id) = fields.get(key) else {
            let shown = go(change);
            return Err(ApiError::unexplained(format!(
                "map: {shown} does not contain declared merge key: {key}"
            )));
        };
        let at = list.iter().position(|item| item.get(key) == Some(id));
        if directive == Some("delete") {
            at.map(|at| list.remove(at));
            continue;
        }
        let before = at.and_then(|at| list.get(at)).and_then(Value::as_object).cloned();
        let merged = Value::Object(merge_map(before.unwrap_or_default(), fields, path)?);
        match at.and_then(|at| list.get_mut(at)) {
            Some(slot) => *slot = merged,
            None => list.push(merged),
        }
    }
    Ok(list)
}

/// Items that `order` names in its order; the others, in theirs, stay before those that they were before in the list that was.
fn in_order(items: Vec<Value>, order: &[Value], before: &[Value], path: &str) -> Vec<Value> {
    let place =
        |list: &[Value], item: &Value| list.iter().position(|other| id(other, path) == id(item, path));
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(before, item));
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let at = place(before, &item);
        while let Some(other) =
            others.next_if(|other| at.zip(place(before, other)).is_some_and(|(at, other)| other < at))
        {
            ordered.push(other);
        }
        ordered.push(item);
    }
    ordered.extend(others);
    ordered
}

/// The items of a patch come in the order that it asks for.
fn check_order(changes: &[Value], order: &[Value], path: &str) -> Result<(), ApiError> {
    let deletes = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let mut wanted = order.iter();
    for item in changes.iter().filter(|item| !deletes(item)) {
        if !wanted.any(|other| id(other, path) == id(item, path)) {
            let (found, asked) = (go(&changes.into()), go(&order.into()));
            return Err(ApiError::unexplained(format!(
                "The order in patch list:\n{found}\n doesn't match $setElementOrder list:\n{asked}\n"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_that_a_kind_does_not_have_have_no_order() {
        let check = |patch: Value| check_lists(Builtin::ServiceAccount, patch.to_string().as_bytes());
        assert!(
            check(json!({"$setElementOrder/secrets": [], "metadata": {"$setElementOrder/finalizers": []}}))
                .is_ok()
        );
        let error = check(json!({"metadata": {"$setElementOrder/others": []}})).unwrap_err();
        let why = "unable to find api field in struct ObjectMeta for the json field \"others\"";
        assert_eq!((error.code().as_u16(), &error.body()["message"]), (500, &json!(why)));
    }

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
    fn what_is_new_comes_without_directives() {
        let patch = json!({"data": {"$patch": "replace", "z": "9"}, "spec": {"a": null, "b": {"$patch": "delete"}, "c": [{"$patch": "delete"}, 1]}});
        assert_eq!(merge_of(&json!({}), &patch).unwrap(), json!({"spec": {"c": [1]}}));
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
        assert_eq!(merge_of(&object, &patch).unwrap()["metadata"]["finalizers"], json!(["e/f", "c/d"]));
    }
}
