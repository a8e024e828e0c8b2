// SPDX-License-Identifier: Apache-2.0

//! The two halves of an apply on values: laying a configuration over an object, and taking away what was given up.

use serde_json::{Map, Value};

use super::fields::{FieldSet, Step, is_leaf};
use super::shape::{List, Shape};
use crate::object;

/// `live` with everything that `configuration` sets.
pub(super) fn merge(live: &Value, configuration: &Value, shape: Shape<'_>) -> Value {
    // Nothing in the place of what is owned part by part sets no part.
    if configuration.is_null() && !is_leaf(live, shape) && !is_empty(live) {
        return live.clone();
    }
    if is_leaf(live, shape) || is_leaf(configuration, shape) {
        return configuration.clone();
    }
    match (live, configuration) {
        (Value::Object(live), Value::Object(configuration)) => {
            let mut merged = live.clone();
            for (name, value) in configuration {
                let value = match live.get(name) {
                    Some(before) => merge(before, value, shape.field(name)),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(configuration)) => merge_lists(live, configuration, shape),
        _ => configuration.clone(),
    }
}

/// Items of the configuration in its order; items of the live list that it does not name keep their place behind what they followed.
fn merge_lists(live: &[Value], configuration: &[Value], shape: Shape<'_>) -> Value {
    let list = shape.list();
    let step = |item: &Value| Step::of_item(item, &list);
    let named = |item: &Value| configuration.iter().find(|wanted| step(wanted) == step(item));
    let mut merged: Vec<Value> = Vec::with_capacity(live.len() + configuration.len());
    let mut rest = configuration.iter().peekable();
    for item in live {
        if named(item).is_none() {
            merged.push(item.clone());
            continue;
        }
        // The configuration's order decides: take from it up to and including this item.
        while let Some(wanted) = rest.peek().filter(|_| !merged.iter().any(|done| step(done) == step(item))) {
            merged.push(merge_item(live, wanted, shape, &list));
            rest.next();
        }
    }
    for wanted in rest {
        if !merged.iter().any(|done| step(done) == step(wanted)) {
            merged.push(merge_item(live, wanted, shape, &list));
        }
    }
    Value::Array(merged)
}

fn merge_item(live: &[Value], wanted: &Value, shape: Shape<'_>, list: &List<'_>) -> Value {
    let before = live.iter().find(|item| Step::of_item(item, list) == Step::of_item(wanted, list));
    match (before, list) {
        (Some(before), List::Map(_)) => merge(before, wanted, shape.item()),
        _ => wanted.clone(),
    }
}

/// `value` without the members of `gone`, but for what `kept` has something of. Maps and lists that become empty by it go, too.
pub(super) fn remove(value: &Value, gone: &FieldSet, kept: &FieldSet, shape: Shape<'_>) -> Value {
    match value {
        Value::Object(map) if !shape.is_atomic_map() => {
            let mut left = Map::new();
            for (name, below) in map {
                let step = Step::Field(name.clone());
                if let Some(below) = remove_at(below, &step, gone, kept, shape.field(name)) {
                    left.insert(name.clone(), below);
                }
            }
            Value::Object(left)
        }
        Value::Array(items) => {
            let list = shape.list();
            let left = items.iter().filter_map(|item| match Step::of_item(item, &list) {
                Some(step) => remove_at(item, &step, gone, kept, shape.item()),
                None => Some(item.clone()),
            });
            Value::Array(left.collect())
        }
        other => other.clone(),
    }
}

fn remove_at(
    value: &Value,
    step: &Step,
    gone: &FieldSet,
    kept: &FieldSet,
    shape: Shape<'_>,
) -> Option<Value> {
    let Some((member, gone_below)) = gone.at(step) else { return Some(value.clone()) };
    let nothing = FieldSet::default();
    let kept_here = kept.at(step);
    if member && kept_here.is_none() {
        return None;
    }
    let kept_below = kept_here.map_or(&nothing, |(_, below)| below);
    let left = remove(value, gone_below, kept_below, shape);
    let emptied = is_empty(&left) && !is_empty(value) && kept_here.is_none();
    (!emptied).then_some(left)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// `live` with its ownable part replaced.
pub(super) fn with_ownable(live: &Value, ownable: &Value) -> Value {
    let mut object = ownable.clone();
    let map = object::object_mut(&mut object);
    for identity in ["apiVersion", "kind"] {
        if let Some(value) = live.get(identity) {
            map.insert(identity.into(), value.clone());
        }
    }
    let server_owned = super::SERVER_OWNED.iter().filter_map(|name| {
        let value = object::at(live, &["metadata", name])?;
        Some(((*name).to_owned(), value.clone()))
    });
    let server_owned: Vec<(String, Value)> = server_owned.collect();
    object::metadata_mut(&mut object).extend(server_owned);
    object
}
