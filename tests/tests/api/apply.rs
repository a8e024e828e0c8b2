// SPDX-License-Identifier: Apache-2.0
//! Server-side apply: who owns what, conflicts, force, and what becomes of fields that nobody wants any more.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{APPLY, Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("creates_and_changes", |w| Box::pin(creates_and_changes(w))),
    ("conflicts_name_everybody", |w| Box::pin(conflicts_name_everybody(w))),
    ("force_takes", |w| Box::pin(force_takes(w))),
    ("what_is_left_out_goes", |w| Box::pin(what_is_left_out_goes(w))),
    ("shared_fields_stay", |w| Box::pin(shared_fields_stay(w))),
    ("updates_take_silently", |w| Box::pin(updates_take_silently(w))),
    ("managers_and_times", |w| Box::pin(managers_and_times(w))),
    ("the_status_is_applied_apart", |w| Box::pin(the_status_is_applied_apart(w))),
    ("managed_fields_are_not_applied", |w| Box::pin(managed_fields_are_not_applied(w))),
    ("requests_that_are_wrong", |w| Box::pin(requests_that_are_wrong(w))),
];

/// Manager, operation and subresource of each entry, and its fields.
fn entries(object: &Value) -> Vec<(String, String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let row = |e: &Value| {
        (text(&e["manager"]), text(&e["operation"]), text(&e["subresource"]), e["fieldsV1"].clone())
    };
    entries.iter().map(row).collect()
}

fn entry(manager: &str, operation: &str, fields: Value) -> (String, String, String, Value) {
    (manager.to_owned(), operation.to_owned(), String::new(), fields)
}

async fn creates_and_changes(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let made = w
        .apply(&path, "one", &widget("a", json!({"colour": "red"})))
        .await?
        .is(201)
        .at("/metadata/generation", 1);
    w.same("entries", entries(&made.json), vec![entry("one", "Apply", json!({"f:spec": {"f:colour": {}}}))]);
    let again = w.apply(&path, "one", &widget("a", json!({"colour": "red"}))).await?.is(200);
    w.same("the same again", again.object(), made.object());
    let mut second = widget("a", json!({"size": 4}));
    second["metadata"]["labels"] = json!({"l": "v"});
    let second = w
        .apply(&path, "two", &second)
        .await?
        .is(200)
        .at("/spec", json!({"colour": "red", "size": 4}))
        .at("/metadata/generation", 2);
    let wanted = vec![
        entry("one", "Apply", json!({"f:spec": {"f:colour": {}}})),
        entry("two", "Apply", json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {"f:size": {}}})),
    ];
    w.same("entries", entries(&second.json), wanted);
    // YAML is what it is called.
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\ndata:\n  k: v\n";
    w.send("PATCH", format!("{}/b?fieldManager=one", w.maps()), &[("content-type", APPLY)], yaml)
        .await?
        .is(201)
        .at("/data/k", "v");
    w.apply(format!("{}/c", w.maps()), "one", &json!({"apiVersion": "v1", "kind": "ConfigMap"}))
        .await?
        .refused(
            400,
            "BadRequest",
            "the name of the object (c based on URL) was undeterminable: name must be provided",
        );
    Ok(())
}

async fn conflicts_name_everybody(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    w.apply(
        &path,
        "one",
        &widget("a", json!({"colour": "red", "parts": [{"id": "x", "amount": 1}], "tags": ["t"]})),
    )
    .await?
    .is(201);
    w.apply(&path, "two", &widget("a", json!({"colour": "blue"})))
        .await?
        .refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"one\": .spec.colour")
        .details(json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.colour"}]}));
    w.apply(&path, "three", &widget("a", json!({"size": 2}))).await?.is(200);
    let all = widget("a", json!({"colour": "blue", "size": 3, "parts": [{"id": "x", "amount": 2}]}));
    let refused = w.apply(&path, "two", &all).await?.refused(
        409,
        "Conflict",
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .spec.colour\n- .spec.parts[id=\"x\"].amount\nconflicts with \"three\":\n- .spec.size",
    );
    // The message is in order, the causes are not.
    let mut fields: Vec<&str> = refused.json["details"]["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|cause| cause["field"].as_str())
        .collect();
    fields.sort_unstable();
    w.same("fields", fields, vec![".spec.colour", ".spec.parts[id=\"x\"].amount", ".spec.size"]);
    let two = widget("a", json!({"colour": "blue", "parts": [{"id": "x", "amount": 2}]}));
    w.apply(&path, "two", &two).await?.refused(
        409,
        "Conflict",
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.colour\n- .spec.parts[id=\"x\"].amount",
    );
    w.patch(MERGE, format!("{path}?fieldManager=hand"), &json!({"spec": {"title": "abc"}})).await?.is(200);
    w.apply(&path, "two", &widget("a", json!({"title": "def"}))).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"hand\" using example.org/v1: .spec.title",
    );
    // Who wants the same has no conflict.
    w.apply(&path, "two", &widget("a", json!({"colour": "red"}))).await?.is(200);
    Ok(())
}

async fn force_takes(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    w.apply(&path, "one", &widget("a", json!({"colour": "red", "size": 1}))).await?.is(201);
    let taken = w
        .apply_by_force(&path, "two", &widget("a", json!({"colour": "blue"})))
        .await?
        .is(200)
        .at("/spec", json!({"colour": "blue", "size": 1}));
    let wanted = vec![
        entry("one", "Apply", json!({"f:spec": {"f:size": {}}})),
        entry("two", "Apply", json!({"f:spec": {"f:colour": {}}})),
    ];
    w.same("entries", entries(&taken.json), wanted);
    let all =
        w.apply_by_force(&path, "two", &widget("a", json!({"colour": "blue", "size": 2}))).await?.is(200);
    w.same(
        "nothing left",
        entries(&all.json),
        vec![entry("two", "Apply", json!({"f:spec": {"f:colour": {}, "f:size": {}}}))],
    );
    Ok(())
}

async fn what_is_left_out_goes(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let mut first = widget(
        "a",
        json!({"colour": "red", "size": 1, "words": {"a": "1", "b": "2"}, "options": {"mode": "x"}}),
    );
    first["metadata"]["labels"] = json!({"a": "1", "b": "2"});
    w.apply(&path, "one", &first).await?.is(201).at("/spec/options/level", 3);
    let mut less = widget("a", json!({"size": 1, "words": {"a": "1"}}));
    less["metadata"]["labels"] = json!({"b": "2"});
    let left = w
        .apply(&path, "one", &less)
        .await?
        .is(200)
        .at("/spec/colour", Value::Null)
        .at("/spec/words", json!({"a": "1"}));
    left.at("/metadata/labels", json!({"b": "2"}));
    // What was made by others stays, and with it what it is in.
    w.patch(MERGE, format!("{path}?fieldManager=hand"), &json!({"spec": {"words": {"z": "9"}}}))
        .await?
        .is(200);
    w.apply(&path, "one", &widget("a", json!({})))
        .await?
        .is(200)
        .at("/spec/words", json!({"z": "9"}))
        .at("/spec/size", Value::Null);
    // A field that is set to null is not wanted.
    w.apply(&path, "one", &widget("a", json!({"size": 5}))).await?.is(200).at("/spec/size", 5);
    let patched = w
        .apply(&path, "one", &widget("a", json!({"note": null})))
        .await?
        .is(200)
        .at("/spec/size", Value::Null);
    w.same("note", &patched.json["spec"]["note"], &Value::Null);
    Ok(())
}

async fn shared_fields_stay(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    w.apply(&path, "one", &widget("a", json!({"colour": "red", "size": 1}))).await?.is(201);
    w.apply(&path, "two", &widget("a", json!({"colour": "red"}))).await?.is(200);
    let left =
        w.apply(&path, "one", &widget("a", json!({"size": 1}))).await?.is(200).at("/spec/colour", "red");
    let mut found = entries(&left.json);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let wanted = vec![
        entry("one", "Apply", json!({"f:spec": {"f:size": {}}})),
        entry("two", "Apply", json!({"f:spec": {"f:colour": {}}})),
    ];
    w.same("entries", found, wanted);
    w.apply(&path, "two", &widget("a", json!({}))).await?.is(200).at("/spec/colour", Value::Null);
    Ok(())
}

async fn updates_take_silently(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    w.apply(&path, "one", &widget("a", json!({"colour": "red", "size": 1}))).await?.is(201);
    let patched = w
        .patch(MERGE, format!("{path}?fieldManager=hand"), &json!({"spec": {"colour": "blue"}}))
        .await?
        .is(200);
    let wanted = vec![
        entry("one", "Apply", json!({"f:spec": {"f:size": {}}})),
        entry("hand", "Update", json!({"f:spec": {"f:colour": {}}})),
    ];
    w.same("entries", entries(&patched.json), wanted);
    // What an update removes is nobody's.
    let removed = w
        .patch(MERGE, format!("{path}?fieldManager=hand"), &json!({"spec": {"size": null, "title": "abc"}}))
        .await?
        .is(200);
    w.same(
        "entries",
        entries(&removed.json),
        vec![entry("hand", "Update", json!({"f:spec": {"f:colour": {}, "f:title": {}}}))],
    );
    // Fields of an update become those of an apply by the same manager only by applying them.
    let applied = w.apply(&path, "hand", &widget("a", json!({"colour": "blue"}))).await?.is(200);
    let wanted = vec![
        entry("hand", "Apply", json!({"f:spec": {"f:colour": {}}})),
        entry("hand", "Update", json!({"f:spec": {"f:colour": {}, "f:title": {}}})),
    ];
    w.same("entries", entries(&applied.json), wanted);
    let applied = w.apply(&path, "hand", &widget("a", json!({}))).await?.is(200).at("/spec/colour", "blue");
    let wanted = vec![
        entry("hand", "Apply", json!({"f:spec": {}})),
        entry("hand", "Update", json!({"f:spec": {"f:colour": {}, "f:title": {}}})),
    ];
    w.same("entries", entries(&applied.json), wanted);
    Ok(())
}

async fn managers_and_times(w: &World<'_>) -> Result<()> {
    let json_type = ("content-type", "application/json");
    for (agent, wanted) in [
        ("kubectl/v1.34 (linux/amd64) kubernetes/abc", "kubectl"),
        ("just-a-word", "just-a-word"),
        ("", "unknown"),
        ("with space/1", "with space"),
    ] {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "agent-"}, "data": {"k": "v"}});
        let made = w.send("POST", w.maps(), &[json_type, ("user-agent", agent)], body.to_string()).await?;
        made.is(201)
            .at("/metadata/managedFields/0/manager", wanted)
            .at("/metadata/managedFields/0/operation", "Update");
    }
    let made =
        w.post(format!("{}?fieldManager=me", w.maps()), &config_map("a", json!({"k": "v"}))).await?.is(201);
    made.at("/metadata/managedFields/0/manager", "me");
    // The time of an entry is that of its last change only.
    let path = format!("{}/b", w.maps());
    let made = w.apply(&path, "one", &config_map("b", json!({"a": "1"}))).await?.is(201);
    let first = made.json["metadata"]["managedFields"][0]["time"].clone();
    w.second_after(&first).await?;
    let second = w
        .apply(&path, "two", &config_map("b", json!({"b": "2"})))
        .await?
        .is(200)
        .at("/metadata/managedFields/0/time", first.clone());
    w.same("a later time", second.json["metadata"]["managedFields"][1]["time"] == first, false);
    let again = w.apply(&path, "one", &config_map("b", json!({"a": "1"}))).await?.is(200);
    w.same("nothing new", again.object(), second.object());
    w.second_after(&second.json["metadata"]["managedFields"][1]["time"]).await?;
    let third = w.apply(&path, "one", &config_map("b", json!({"a": "2"}))).await?.is(200);
    // The newest entry comes last.
    w.same("order", third.json["metadata"]["managedFields"][0]["manager"].as_str(), Some("two"));
    Ok(())
}

async fn the_status_is_applied_apart(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let mut both = widget("a", json!({"size": 1}));
    both["status"] = json!({"state": "busy"});
    let made = w.apply(&path, "one", &both).await?.is(201).at("/status", Value::Null);
    w.same("entries", entries(&made.json), vec![entry("one", "Apply", json!({"f:spec": {"f:size": {}}}))]);
    let applied = w
        .apply(format!("{path}/status"), "one", &both)
        .await?
        .is(200)
        .at("/status/state", "busy")
        .at("/metadata/generation", 1);
    let status =
        ("one".to_owned(), "Apply".to_owned(), "status".to_owned(), json!({"f:status": {"f:state": {}}}));
    w.same(
        "entries",
        entries(&applied.json),
        vec![entry("one", "Apply", json!({"f:spec": {"f:size": {}}})), status],
    );
    let mut other = widget("a", json!({}));
    other["status"] = json!({"state": "idle"});
    w.apply(format!("{path}/status"), "two", &other).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\" with subresource \"status\": .status.state",
    );
    let conditions = |kind: &str| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "a"}, "status": {"conditions": [{"type": kind, "status": "True"}]}});
    w.apply(format!("{path}/status"), "ready", &conditions("Ready")).await?.is(200);
    w.apply(format!("{path}/status"), "idle", &conditions("Idle")).await?.is(200).at(
        "/status/conditions",
        json!([{"type": "Ready", "status": "True"}, {"type": "Idle", "status": "True"}]),
    );
    // Labels in a change of the status are not kept, but are the writer's: with the map around them, while there is none.
    let labelled = json!({"metadata": {"labels": {"l": "x"}}, "status": {"state": "idle"}});
    w.patch(MERGE, format!("{path}/status?fieldManager=hand"), &labelled).await?.is(200);
    let mut labels = widget("a", json!({}));
    labels["metadata"]["labels"] = json!({"l": "y"});
    w.apply(&path, "labels", &labels).await?.refused(
        409,
        "Conflict",
        "Apply failed with 2 conflicts: conflicts with \"hand\" with subresource \"status\" using example.org/v1:\n- .metadata.labels\n- .metadata.labels.l",
    );
    w.apply(format!("{}/none/status", w.widgets()), "one", &widget("none", json!({}))).await?.refused(
        404,
        "NotFound",
        "widgets.example.org \"none\" not found",
    );
    Ok(())
}

async fn managed_fields_are_not_applied(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let made = w.apply(&path, "one", &widget("a", json!({"size": 1}))).await?.is(201).object();
    let mut body = widget("a", json!({"size": 2}));
    body["metadata"]["managedFields"] = made["metadata"]["managedFields"].clone();
    w.apply(&path, "one", &body).await?.refused(400, "BadRequest", "metadata.managedFields must be nil");
    // An update may drop or edit them.
    let cleared = w
        .patch(MERGE, format!("{path}?fieldManager=hand"), &json!({"metadata": {"managedFields": [{}]}}))
        .await?
        .is(200);
    w.same("cleared", entries(&cleared.json), Vec::new());
    let applied = w.apply(&path, "one", &widget("a", json!({"size": 1, "colour": "red"}))).await?.is(200);
    let names: Vec<String> = entries(&applied.json).into_iter().map(|(name, ..)| name).collect();
    w.same("what was there before", names, vec!["one".to_owned(), "before-first-apply".to_owned()]);
    let missing = json!({"metadata": {"managedFields": [{"manager": "x", "operation": "Dance", "apiVersion": "example.org/v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]}});
    // What cannot be right is not taken.
    let kept = w.patch(MERGE, &path, &missing).await?.is(200);
    w.same("entries", entries(&kept.json), entries(&applied.json));
    let mut versioned = widget("a", json!({"size": 3}));
    versioned["metadata"]["resourceVersion"] = "1".into();
    w.apply_by_force(&path, "one", &versioned).await?.refused_like(
        409,
        "Conflict",
        &["the object has been modified"],
    );
    let mut uid = widget("new", json!({}));
    uid["metadata"]["uid"] = "u".into();
    w.apply(format!("{}/new", w.widgets()), "one", &uid)
        .await?
        .refused_like(409, "Conflict", &["Operation cannot be fulfilled on widgets.example.org \"new\": uid mismatch: the provided object specified uid u, and no existing object was found"]);
    Ok(())
}

async fn requests_that_are_wrong(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let body = widget("a", json!({}));
    let invalid = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: ";
    w.patch(APPLY, &path, &body).await?.refused(
        422,
        "Invalid",
        format!("{invalid}Required value: is required for apply patch"),
    );
    let long = "x".repeat(129);
    w.apply(&path, &long, &body).await?.refused(
        422,
        "Invalid",
        format!("{invalid}Too long: may not be more than 128 bytes"),
    );
    w.apply(&path, &"x".repeat(128), &body).await?.is(201);
    w.apply(&path, "a%07b", &body).await?.refused_like(
        422,
        "Invalid",
        &["fieldManager: Invalid value: \"a\\ab\": invalid character U+0007 (at position 1)"],
    );
    let mut named = body.clone();
    named["metadata"]["name"] = "b".into();
    w.apply(&path, "m", &named).await?.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    for (key, value) in [("kind", "Gadget"), ("apiVersion", "example.org/v2")] {
        let mut other = body.clone();
        other[key] = value.into();
        let answer = w.apply(&path, "m", &other).await?;
        w.same(&answer.text(), (answer.code, answer.str("/reason")), (400, "BadRequest"));
    }
    let mut generated =
        json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"generateName": "x-"}});
    w.apply(&path, "m", &generated).await?.is(200);
    generated["spec"] = json!({"size": 0});
    w.apply(&path, "m", &generated).await?.is(422);
    w.apply(&path, "m", &widget("a", json!({"size": "many"}))).await?.refused_like(
        500,
        "",
        &["failed to create typed patch object"],
    );
    let twice = widget("a", json!({"parts": [{"id": "x"}, {"id": "x"}]}));
    w.apply(&path, "m", &twice).await?.refused_like(500, "", &["duplicate entries for key [id=\"x\"]"]);
    Ok(())
}
