// SPDX-License-Identifier: Apache-2.0
//! Makes something wrong in an object, as people do. Pure.

use serde_json::{Value, json};

use super::dice::Dice;

/// Changes one place in a value.
pub(super) fn spoil(dice: &mut Dice, value: &mut Value) {
    let mut places = Vec::new();
    collect(value, String::new(), &mut places);
    let Some(place) = (!places.is_empty()).then(|| places.swap_remove(dice.below(places.len()))) else {
        return;
    };
    let Some(found) = value.pointer_mut(&place) else { return };
    match dice.below(10) {
        0 | 1 => {
            if let Some(map) = nearest_map(value, &place) {
                map.insert(dice.pick(&["unknown", "Size", "namee"]).to_owned(), json!("?"));
            }
        }
        2 => {
            let (parent, field) = place.rsplit_once('/').unwrap_or_default();
            let field = field.to_owned();
            if let Some(Value::Object(map)) = value.pointer_mut(parent) {
                map.remove(&field);
            }
        }
        3 => match found {
            Value::Array(list) => list.extend(list.clone()),
            other => *other = json!([other]),
        },
        4 => *found = Value::Null,
        _ => *found = other(dice),
    }
}

/// A value that hardly fits anywhere.
fn other(dice: &mut Dice) -> Value {
    match dice.below(10) {
        0 => json!("a text that is longer than most fields want it to be"),
        1 => json!(""),
        2 => json!(-1),
        3 => json!(101),
        4 => json!(1.25),
        5 => json!(true),
        6 => json!({}),
        7 => json!([]),
        8 => json!({"a": {"b": 1}}),
        _ => json!("five"),
    }
}

fn collect(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                let at = format!("{at}/{}", field.replace('~', "~0").replace('/', "~1"));
                places.push(at.clone());
                collect(value, at, places);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                places.push(format!("{at}/{index}"));
                collect(value, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}

fn nearest_map<'a>(value: &'a mut Value, place: &str) -> Option<&'a mut serde_json::Map<String, Value>> {
    let mut at = place;
    loop {
        if value.pointer(at).is_some_and(Value::is_object) {
            return value.pointer_mut(at).and_then(Value::as_object_mut);
        }
        at = at.rsplit_once('/')?.0;
    }
}
