// SPDX-License-Identifier: Apache-2.0
//! Whether a garbage collector has done all that it can do with what is stored. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// Finalizers that a collector serves.
const OF_COLLECTORS: [&str; 2] = ["foregroundDeletion", "orphan"];

fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn uid(object: &Value) -> &str {
    object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}

fn owners(object: &Value) -> impl Iterator<Item = (&str, bool)> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().map(|owner| {
        let uid = owner.get("uid").and_then(Value::as_str).unwrap_or_default();
        (uid, owner.get("blockOwnerDeletion").and_then(Value::as_bool).unwrap_or(false))
    })
}

/// The path of an object that a collector still has to deal with.
pub(super) fn unsettled(stored: &[(String, Value)]) -> Option<&str> {
    let there: BTreeSet<&str> = stored.iter().map(|(_, object)| uid(object)).collect();
    let deleting = |object: &Value| object.pointer("/metadata/deletionTimestamp").is_some();
    let open = |object: &Value| {
        if !deleting(object) {
            return owners(object).any(|(uid, _)| !there.contains(uid));
        }
        let finalizers = texts(object, "/metadata/finalizers");
        if finalizers.contains(&"orphan") {
            return true;
        }
        // A dependent that somebody else holds keeps a foreground deletion waiting.
        let held = |dependent: &Value| {
            let blocks = owners(dependent).any(|(owner, blocks)| owner == uid(object) && blocks);
            let others = texts(dependent, "/metadata/finalizers");
            blocks && deleting(dependent) && others.iter().any(|name| !OF_COLLECTORS.contains(name))
        };
        finalizers.contains(&"foregroundDeletion") && !stored.iter().any(|(_, dependent)| held(dependent))
    };
    // Collectors leave Events alone.
    let collected = stored.iter().filter(|(path, _)| !path.contains("/events/"));
    collected.into_iter().find(|(_, object)| open(object)).map(|(path, _)| path.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(uid: &str, owner: Option<&str>, finalizers: &[&str], deleting: bool) -> (String, Value) {
        let mut metadata = json!({"uid": uid, "finalizers": finalizers});
        if let Some(owner) = owner {
            metadata["ownerReferences"] = json!([{"uid": owner, "blockOwnerDeletion": true}]);
        }
        if deleting {
            metadata["deletionTimestamp"] = json!("now");
        }
        (uid.to_owned(), json!({"metadata": metadata}))
    }

    #[test]
    fn what_a_collector_will_change_is_not_settled() {
        let owner = object("a", None, &[], false);
        assert_eq!(unsettled(&[owner.clone(), object("b", Some("a"), &[], false)]), None);
        assert_eq!(unsettled(&[owner, object("b", Some("gone"), &[], false)]), Some("b"));
        assert_eq!(unsettled(&[object("b", Some("gone"), &["x/y"], true)]), None);
        assert_eq!(unsettled(&[object("a", None, &["orphan"], true)]), Some("a"));
        let waiting = object("a", None, &["foregroundDeletion"], true);
        assert_eq!(unsettled(std::slice::from_ref(&waiting)), Some("a"));
        assert_eq!(unsettled(&[waiting.clone(), object("b", Some("a"), &["x/y"], true)]), None);
        assert_eq!(unsettled(&[waiting, object("b", Some("a"), &[], true)]), Some("a"));
    }
}
