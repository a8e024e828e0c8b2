// SPDX-License-Identifier: Apache-2.0

//! Whether an object fits the schema of its kind: an apply must know whose every field is, so a field that the schema does not have is refused however unknown
//! fields are to be treated, and so is a value of another type. An update that does not fit is not refused for it: its owners are not told apart.

use std::sync::LazyLock;

use serde_json::Value;

use super::fields::Step;
use super::shape::{Keys, List};
use crate::go;
use crate::openapi::mismatch;
use crate::registry::Builtin;
use crate::schema::{ListType, Schema, Type};

/// Schemas of the built-in kinds but for definitions, whose schemas contain themselves.
static BUILTIN: LazyLock<Vec<(Builtin, Schema)>> = LazyLock::new(|| {
    let kinds = Builtin::ALL.iter().filter(|kind| **kind != Builtin::CustomResourceDefinition);
    kinds.filter_map(|kind| Some((*kind, mismatch::schema(*kind)?))).collect()
});

/// The schema of a built-in kind.
pub(super) fn of_builtin(kind: Builtin) -> Option<&'static Schema> {
    BUILTIN.iter().find(|(of, _)| *of == kind).map(|(_, schema)| schema)
}

/// Whether a set or a map may have an item twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    Allowed,
    Refused,
}

/// What every object has.
const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Every problem with an object but for its metadata.
pub(super) fn misfits(schema: &Schema, object: &Value, duplicates: Duplicates) -> Vec<String> {
    let mut problems = Problems { found: Vec::new(), duplicates };
    let fields = object.as_object().into_iter().flatten();
    fields_of(schema, fields.filter(|(name, _)| !HEAD.contains(&name.as_str())), "", &mut problems);
    problems.found
}

struct Problems {
    found: Vec<String>,
    duplicates: Duplicates,
}

impl Problems {
    fn push(&mut self, problem: String) {
        self.found.push(problem);
    }
}

/// The fields of a structure, up to the first that it does not have: structured-merge-diff looks no further.
fn fields_of<'a>(
    schema: &Schema,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    path: &str,
    problems: &mut Problems,
) {
    for (name, value) in fields {
        let at = format!("{path}{}", Step::Field(name.clone()).show());
        match schema.field(name) {
            Some(below) => check(below, value, &at, problems),
            None if schema.preserve_unknown => {}
            None => return problems.push(format!("{at}: field not declared in schema")),
        }
    }
}

fn check(schema: &Schema, value: &Value, at: &str, problems: &mut Problems) {
    let mut expected = |what: &str, got: String| problems.push(format!("{at}: expected {what}, got {got}"));
    // Of the values that structured-merge-diff wraps, it shows some with the wrapper.
    let wrapped = || format!("&{{{}}}", go::plain(value));
    let typed = || format!("&value.valueUnstructured{{Value:{}}}", go::literal(value));
    match (schema.kind, value) {
        (_, Value::Null) => {}
        (Type::Object, Value::Object(map)) => {
            // Another object inside has a type of its own for what every object has.
            let known = |name: &String| !schema.embedded_resource || schema.properties.contains_key(name);
            fields_of(schema, map.iter().filter(|(name, _)| known(name)), at, problems);
        }
        (Type::Array, Value::Array(items)) => list(schema, items, at, problems),
        (Type::Object, _) => expected("map", wrapped()),
        (Type::Array, _) => expected("list", wrapped()),
        // A text with a format may be given as any other scalar.
        (Type::String, Value::Object(_) | Value::Array(_)) if has_form(schema) => {
            expected("any scalar", wrapped());
        }
        (Type::String, _) if has_form(schema) => {}
        (Type::String, found) if !found.is_string() => expected("string", typed()),
        (Type::Boolean, found) if !found.is_boolean() => expected("boolean", wrapped()),
        (Type::Integer | Type::Number, found) if !found.is_number() => {
            expected("numeric (int or float)", go::type_name(value).to_owned());
        }
        _ => {}
    }
}

/// True for texts that are written in a form, which structured-merge-diff takes for any scalar.
fn has_form(schema: &Schema) -> bool {
    schema.format.as_deref().is_some_and(|format| format != "byte")
}

fn list(schema: &Schema, items: &[Value], at: &str, problems: &mut Problems) {
    let list = match &schema.list_type {
        ListType::Atomic => List::Atomic,
        ListType::Set => List::Set,
        ListType::Map(keys) => List::Map(Keys::Schema(keys)),
    };
    let mut seen: Vec<Step> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        // Without an identity the rest of the list is not looked at either.
        if let Some(why) = anonymous(schema, item) {
            return problems.push(format!("{at}: element {index}: {why}"));
        }
        let step = Step::of_item(item, &list);
        let place = match &step {
            Some(step) => format!("{at}{}", step.show()),
            None => format!("{at}[{index}]"),
        };
        if let Some(step) = step {
            if problems.duplicates == Duplicates::Refused && seen.contains(&step) {
                problems.push(format!("{at}: duplicate entries for key {}", step.show()));
            }
            seen.push(step);
        }
        if let Some(below) = &schema.items {
            check(below, item, &place, problems);
        }
    }
}

/// Why an item of a list whose items have an identity has none.
fn anonymous(schema: &Schema, item: &Value) -> Option<String> {
    let keys = match (&schema.list_type, item) {
        (ListType::Atomic, _) => return None,
        (ListType::Set, Value::Object(_)) => {
            return Some("associative list without keys has an element that's a map type".into());
        }
        (ListType::Set, Value::Array(_)) => {
            return Some("not supported: associative list with lists as elements".into());
        }
        (ListType::Set, Value::Null) => {
            return Some("associative list without keys has an element that's an explicit null".into());
        }
        (ListType::Set, _) => return None,
        (ListType::Map(_), Value::Null) => {
            return Some("associative list with keys may not have a null element".into());
        }
        (ListType::Map(_), item) if !item.is_object() => {
            return Some("associative list with keys may not have non-map elements".into());
        }
        (ListType::Map(keys), _) => keys,
    };
    let default = |key: &String| {
        let field = schema.items.as_ref().and_then(|items| items.field(key));
        field.is_some_and(|field| field.default.is_some())
    };
    if keys.iter().any(|key| item.get(key.as_str()).is_some() || default(key)) {
        return None;
    }
    let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    Some(format!(
        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
        keys.join(" ")
    ))
}
