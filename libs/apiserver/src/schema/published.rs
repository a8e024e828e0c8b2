// SPDX-License-Identifier: Apache-2.0

//! The schema of a built-in kind from its published definition, as far as ownership asks for it: types, fields, items, what lists and maps are. Pure;
//! called by `apply`.

use serde_json::Value;

use super::{Schema, parse};

/// Deepest nesting that is followed; definitions that contain themselves end there.
const MAX_DEPTH: usize = 16;

/// Reads a definition; `find` gives what a reference (with its prefix) names.
pub(crate) fn of_definition<'a>(definition: &'a Value, find: &impl Fn(&str) -> Option<&'a Value>) -> Schema {
    read(definition, find, 0)
}

fn read<'a>(node: &'a Value, find: &impl Fn(&str) -> Option<&'a Value>, depth: usize) -> Schema {
    let all_of = node.get("allOf").and_then(Value::as_array).and_then(|all| all.first());
    let reference = node.get("$ref").or_else(|| all_of.and_then(|one| one.get("$ref")));
    let named = reference.and_then(Value::as_str).and_then(find);
    if depth > MAX_DEPTH {
        return Schema::anything();
    }
    if let Some(target) = named {
        return read(target, find, depth + 1);
    }
    let below = |node: &'a Value| Box::new(read(node, find, depth + 1));
    let properties = node.get("properties").and_then(Value::as_object).into_iter().flatten();
    Schema {
        kind: parse::kind(node),
        format: node.get("format").and_then(Value::as_str).map(str::to_owned),
        properties: properties.map(|(name, node)| (name.clone(), *below(node))).collect(),
        additional: node.get("additionalProperties").map(below),
        items: node.get("items").map(below),
        list_type: parse::list_type(node),
        ..Schema::default()
    }
}
