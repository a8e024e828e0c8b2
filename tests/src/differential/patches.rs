// SPDX-License-Identifier: Apache-2.0
//! Patches of the four kinds. Pure; called by the generator.

use serde_json::{Map, Value, json};

use super::generator::{Aim, Generator, MERGE, set, with_query};
use super::requests::{options, version, wrote};
use super::spoil;
use super::step::{Action, Request};

const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn send(generator: &mut Generator, what: &str, aim: &Aim, content_type: &str, patch: &Value) {
    let status = aim.kind.subresources.contains(&"status") && generator.dice.chance(20);
    let query = options(generator);
    send_with(generator, what, aim, (content_type, status), (query, patch));
}

fn send_with(
    generator: &mut Generator,
    what: &str,
    aim: &Aim,
    (content_type, status): (&str, bool),
    (query, patch): (Vec<String>, &Value),
) {
    let path = if status { format!("{}/status", aim.path()) } else { aim.path() };
    let what = if status { format!("{what} status") } else { what.to_owned() };
    let path = with_query(&path, &query);
    let headers = vec![("content-type", content_type.to_owned())];
    let request = Request { method: "PATCH", path, headers, body: patch.to_string() };
    let step = generator.push(what, &aim.path(), Action::Ask(request));
    wrote(generator, aim, step, &query);
}

/// A part of an object, some of it null.
fn partial(generator: &mut Generator, aim: &Aim) -> Value {
    let mut content = (aim.kind.content)(&mut generator.dice);
    let dice = &mut generator.dice;
    if let Value::Object(map) = &mut content {
        for value in map.values_mut() {
            let Value::Object(inner) = value else { continue };
            let kept: Map<String, Value> =
                std::mem::take(inner).into_iter().filter(|_| dice.chance(50)).collect();
            *inner = kept;
            for value in inner.values_mut() {
                if dice.chance(20) {
                    *value = Value::Null;
                }
            }
        }
    }
    if dice.chance(30) {
        set(&mut content, "status", (aim.kind.status)(dice));
    }
    generator.spoiled = generator.dice.chance(20);
    if generator.spoiled {
        spoil::spoil(&mut generator.dice, &mut content);
    }
    content
}

/// What a patch does to metadata.
fn metadata(generator: &mut Generator, aim: &Aim) -> Value {
    let mut metadata = json!({});
    match generator.dice.below(12) {
        0..3 => set(&mut metadata, "labels", json!({"tier": generator.dice.pick(&["front", "back"])})),
        3 => set(&mut metadata, "labels", json!({"tier": null})),
        4 => set(&mut metadata, "labels", Value::Null),
        5 => set(&mut metadata, "annotations", json!({"example.com/note": "patched"})),
        6 => {
            if let Some(version) = version(generator, aim) {
                set(&mut metadata, "resourceVersion", version.into());
            }
        }
        7 => {
            set(&mut metadata, "finalizers", json!(["example.com/hold"]));
            generator.life_mut(aim).held = true;
        }
        8 => {
            if let Some(owner) = generator.owner(aim) {
                set(&mut metadata, "ownerReferences", json!([owner]));
            }
        }
        _ => {}
    }
    metadata
}

fn patch(generator: &mut Generator, aim: &Aim) -> (Value, bool) {
    let mut patch = partial(generator, aim);
    let metadata = metadata(generator, aim);
    let owned = metadata.get("ownerReferences").is_some();
    if metadata != json!({}) {
        set(&mut patch, "metadata", metadata);
    }
    (patch, owned)
}

/// A merge patch.
pub(super) fn merge(generator: &mut Generator) {
    let aim = generator.aim();
    let (patch, owned) = patch(generator, &aim);
    send(generator, "merge patch", &aim, MERGE, &patch);
    if owned {
        generator.settle();
    }
}

/// A strategic merge patch, mostly of a kind that has it.
pub(super) fn strategic(generator: &mut Generator) {
    let mut aim = generator.aim();
    for _ in 0..3 {
        if aim.kind.custom {
            aim = generator.aim();
        }
    }
    let (mut patch, owned) = patch(generator, &aim);
    match generator.dice.below(12) {
        0 => set(&mut patch, "$patch", "replace".into()),
        1 => set(&mut patch, "data", json!({"$patch": "replace", "only": "b25l"})),
        2 => set(&mut patch, "data", json!({"$retainKeys": ["key"], "key": "a2V5"})),
        3 => set(&mut patch, "secrets", json!([{"name": "s1", "$patch": "delete"}])),
        4 => set(&mut patch, "secrets", json!([{"$patch": "replace"}, {"name": "s9"}])),
        5 => set(&mut patch, "secrets", json!([{"name": "s0", "namespace": "x"}])),
        6 => set(&mut patch, "$setElementOrder/secrets", json!([{"name": "s1"}, {"name": "s0"}])),
        7 => {
            set(&mut patch, "metadata", json!({"$deleteFromPrimitiveList/finalizers": ["example.com/hold"]}))
        }
        8 => set(&mut patch, "metadata", json!({"finalizers": ["example.com/second"]})),
        9 => set(&mut patch, "$patch", "sideways".into()),
        _ => {}
    }
    send(generator, "strategic patch", &aim, STRATEGIC, &patch);
    if owned {
        generator.settle();
    }
}

/// A JSON patch.
pub(super) fn json(generator: &mut Generator) {
    let aim = generator.aim();
    let content = (aim.kind.content)(&mut generator.dice);
    let count = 1 + generator.dice.below(3);
    let mut operations: Vec<Value> = (0..count).map(|_| operation(generator, &aim, &content)).collect();
    generator.spoiled = generator.dice.chance(8);
    if generator.spoiled {
        let mut broken = Value::Array(operations);
        spoil::spoil(&mut generator.dice, &mut broken);
        send(generator, "JSON patch", &aim, JSON_PATCH, &broken);
        return;
    }
    if generator.dice.chance(5) {
        operations.clear();
    }
    send(generator, "JSON patch", &aim, JSON_PATCH, &operations.into());
}

fn operation(generator: &mut Generator, aim: &Aim, content: &Value) -> Value {
    let place = |generator: &mut Generator| {
        let fields: Vec<(String, Value)> = match content.as_object().and_then(|map| map.iter().next()) {
            Some((top, Value::Object(inner))) => {
                let path = |field: &String| format!("/{top}/{}", field.replace('/', "~1"));
                inner.iter().map(|(field, value)| (path(field), value.clone())).collect()
            }
            Some((top, value)) => vec![(format!("/{top}"), value.clone())],
            None => Vec::new(),
        };
        let rows: Vec<&(String, Value)> = fields.iter().collect();
        let default = ("/metadata/labels/tier".to_owned(), json!("front"));
        if rows.is_empty() { default } else { generator.dice.pick(&rows).clone() }
    };
    let (path, value) = place(generator);
    match generator.dice.below(14) {
        0..3 => json!({"op": "add", "path": path, "value": value}),
        3..5 => json!({"op": "replace", "path": path, "value": value}),
        5 => json!({"op": "remove", "path": path}),
        6 => json!({"op": "test", "path": path, "value": without_nulls(value)}),
        7 => {
            let version = version(generator, aim).unwrap_or_default();
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})
        }
        8 => json!({"op": "copy", "from": "/metadata/name", "path": "/metadata/labels"}),
        9 => json!({"op": "move", "from": path, "path": "/metadata/annotations"}),
        10 => {
            json!({"op": "add", "path": "/metadata/labels/tier", "value": generator.dice.pick(&["front", "back"])})
        }
        11 => json!({"op": "add", "path": "/metadata/labels", "value": {"tier": "front"}}),
        12 => json!({"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/hold"}),
        _ => {
            json!({"op": generator.dice.pick(&["remove", "replace", "sideways"]), "path": "/spec/nowhere/at/all", "value": 1})
        }
    }
}

/// kube-apiserver panics when a patch tests for a value with null inside, and gives no answer.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().filter(|item| !item.is_null()).map(without_nulls).collect(),
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        other => other,
    }
}

/// Server-side apply.
pub(super) fn apply(generator: &mut Generator) {
    let aim = generator.aim();
    let mut metadata = json!({});
    if generator.dice.chance(40) {
        set(&mut metadata, "labels", json!({"tier": generator.dice.pick(&["front", "back"])}));
    }
    if generator.dice.chance(6)
        && let Some(version) = version(generator, &aim)
    {
        set(&mut metadata, "resourceVersion", version.into());
    }
    if generator.dice.chance(3) {
        set(&mut metadata, "managedFields", json!([{"manager": "x"}]));
    }
    if generator.dice.chance(6)
        && let Some(owner) = generator.owner(&aim)
    {
        set(&mut metadata, "ownerReferences", json!([owner]));
    }
    let owned = metadata.get("ownerReferences").is_some();
    let content = generator.content(aim.kind);
    let mut object = aim.object(content, metadata);
    let status = aim.kind.subresources.contains(&"status") && generator.dice.chance(20);
    if status || generator.dice.chance(10) {
        set(&mut object, "status", (aim.kind.status)(&mut generator.dice));
    }
    let mut query = options(generator);
    query.retain(|option| !option.starts_with("fieldManager"));
    if generator.dice.chance(97) {
        query.push(format!("fieldManager={}", generator.dice.pick(&["alpha", "beta", "gamma"])));
    }
    if generator.dice.chance(35) {
        query.push("force=true".to_owned());
    }
    let trial = super::requests::is_trial(&query) || query.iter().all(|option| !option.starts_with("fieldM"));
    let number = generator.steps.len();
    if !generator.life(&aim).alive && !generator.spoiled && !status && !trial {
        let life = generator.life_mut(&aim);
        (life.alive, life.created, life.writes, life.held) = (true, number, Vec::new(), false);
    }
    send_with(generator, "apply", &aim, (APPLY, status), (query, &object));
    if owned {
        generator.settle();
    }
}
