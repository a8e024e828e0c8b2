// SPDX-License-Identifier: Apache-2.0

//! The three-way merge behind `apply`.
//!
//! Owns one function: from what was applied last, what is wanted now and what is there, the merge patch (RFC 7386) that
//! is still needed. What others have written and nobody applied stays.

use serde_json::{Map, Value};

/// The patch that brings `current` to `wanted`; none when it is there already.
///
/// A field is removed when `last` has it and `wanted` does not, or when `wanted` says null. Lists are replaced whole, but
/// not for what the server has put into the elements of a list that is wanted as it was applied last.
pub(super) fn patch(last: Option<&Value>, wanted: &Value, current: &Value) -> Option<Value> {
    let (Value::Object(wanted), Value::Object(current)) = (wanted, current) else {
        let same = wanted == current || (last == Some(wanted) && covers(current, wanted));
        return (!same).then(|| wanted.clone());
    };
    let mut patch = Map::new();
    for (key, value) in wanted {
        let change = match (value, current.get(key)) {
            (Value::Null, None | Some(Value::Null)) => None,
            (Value::Null, Some(_)) => Some(Value::Null),
            (value, Some(there)) => self::patch(last.and_then(|last| last.get(key)), value, there),
            (value, None) => Some(value.clone()),
        };
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    for key in last.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        if !wanted.contains_key(key) && current.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Whether `current` is `wanted` with at most some more fields in its maps.
fn covers(current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| current.get(key).map_or(value.is_null(), |there| covers(there, value))),
        (Value::Array(current), Value::Array(wanted)) => {
            current.len() == wanted.len() && current.iter().zip(wanted).all(|(a, b)| covers(a, b))
        }
        _ => current == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let current = json!({ "a": 1, "b": { "c": 2, "set": "by another" }, "l": [1, 2] });
        assert_eq!(patch(None, &json!({ "a": 1, "b": { "c": 2 }, "l": [1, 2] }), &current), None);
        assert_eq!(
            patch(None, &json!({ "a": 1, "b": { "c": 3 }, "l": [2], "n": { "x": [] } }), &current),
            Some(json!({ "b": { "c": 3 }, "l": [2], "n": { "x": [] } }))
        );
    }

    #[test]
    fn what_was_applied_and_is_gone_is_removed_and_what_others_wrote_stays() {
        let last = json!({ "a": 1, "b": { "c": 2, "d": 3 } });
        let current = json!({ "a": 1, "b": { "c": 2, "d": 3, "e": 4 }, "f": 5 });
        assert_eq!(
            patch(Some(&last), &json!({ "b": { "c": 2 } }), &current),
            Some(json!({ "a": null, "b": { "d": null } }))
        );
        assert_eq!(patch(Some(&last), &json!({ "a": 1, "b": { "c": 2, "d": 3 } }), &current), None);
    }

    #[test]
    fn defaults_inside_a_list_are_no_difference_unless_the_list_is_wanted_otherwise_than_before() {
        let applied = json!({ "l": [{ "a": 1 }] });
        let current = json!({ "l": [{ "a": 1, "default": false }] });
        assert_eq!(patch(Some(&applied), &applied, &current), None);
        let before = json!({ "l": [{ "a": 1, "default": true }] });
        assert_eq!(patch(Some(&before), &applied, &current), Some(applied.clone()));
        let more = json!({ "l": [{ "a": 1 }, {}] });
        assert_eq!(patch(Some(&applied), &more, &current), Some(more));
    }

    #[test]
    fn null_asks_for_removal_and_shapes_may_change() {
        let current = json!({ "a": { "x": 1 }, "b": 2 });
        assert_eq!(
            patch(None, &json!({ "a": [1], "b": null, "c": null }), &current),
            Some(json!({ "a": [1], "b": null }))
        );
    }
}
