// SPDX-License-Identifier: Apache-2.0
//! The status and scale subresources, and what `metadata.generation` counts.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, STRATEGIC, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("each_side_leaves_the_other_alone", |w| Box::pin(each_side_leaves_the_other_alone(w))),
    ("generation_counts_the_spec", |w| Box::pin(generation_counts_the_spec(w))),
    ("the_schema_holds", |w| Box::pin(the_schema_holds(w))),
    ("who_has_none", |w| Box::pin(who_has_none(w))),
    ("scale", |w| Box::pin(scale(w))),
];

async fn each_side_leaves_the_other_alone(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &widget("a", json!({"size": 1}))).await?;
    let (path, status) = (format!("{}/a", w.widgets()), format!("{}/a/status", w.widgets()));
    let mut body = made.clone();
    body["spec"]["size"] = 2.into();
    body["status"] = json!({"state": "busy"});
    body["metadata"]["labels"] = json!({"l": "v"});
    body["metadata"]["finalizers"] = json!(["example.org/f"]);
    let put = w
        .put(&status, &body)
        .await?
        .is(200)
        .at("/status", json!({"state": "busy"}))
        .at("/spec", json!({"size": 1}));
    // Of the metadata only the labels and annotations of a custom resource's status may come through this way.
    let put = put.at("/metadata/labels", Value::Null).at("/metadata/finalizers", Value::Null);
    let mut body = put.object();
    body["spec"]["size"] = 3.into();
    body["status"] = json!({"state": "idle"});
    w.put(&path, &body)
        .await?
        .is(200)
        .at("/status", json!({"state": "busy"}))
        .at("/spec", json!({"size": 3}));
    w.patch(MERGE, &status, &json!({"spec": {"size": 9}, "status": {"count": 4}}))
        .await?
        .is(200)
        .at("/status", json!({"state": "busy", "count": 4}))
        .at("/spec", json!({"size": 3}));
    w.patch(MERGE, &path, &json!({"status": {"count": 7}})).await?.is(200).at("/status/count", 4);
    w.get(&status).await?.is(200).at("/kind", "Widget").at("/spec/size", 3).at("/status/count", 4);
    w.patch(MERGE, &status, &json!({"status": null})).await?.is(200).at("/status", Value::Null);
    let stale = w.put(&status, &made).await?;
    stale.refused_like(409, "Conflict", &["the object has been modified"]);
    Ok(())
}

async fn generation_counts_the_spec(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({"size": 1}))).await?;
    let (path, status) = (format!("{}/a", w.widgets()), format!("{}/a/status", w.widgets()));
    w.patch(MERGE, &path, &json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}))
        .await?
        .is(200)
        .at("/metadata/generation", 1);
    w.patch(MERGE, &status, &json!({"status": {"count": 1}})).await?.is(200).at("/metadata/generation", 1);
    w.patch(MERGE, &path, &json!({"spec": {"size": 1}})).await?.is(200).at("/metadata/generation", 1);
    w.patch(MERGE, &path, &json!({"spec": {"size": 2}})).await?.is(200).at("/metadata/generation", 2);
    w.patch(MERGE, &path, &json!({"metadata": {"finalizers": ["example.org/f"]}}))
        .await?
        .is(200)
        .at("/metadata/generation", 2);
    // The deletion is a wish that its controller has to see.
    w.delete(&path).await?.is(200).at("/metadata/generation", 3);
    w.delete(&path).await?.is(200).at("/metadata/generation", 3);
    w.patch(MERGE, &path, &json!({"spec": {"size": 3}})).await?.is(200).at("/metadata/generation", 4);
    w.patch(MERGE, &path, &json!({"metadata": {"finalizers": null}}))
        .await?
        .is(200)
        .at("/metadata/generation", 4);
    w.gone(&path).await
}

const UNCHECKED: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

async fn the_schema_holds(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    let status = format!("{}/a/status", w.widgets());
    w.patch(MERGE, &status, &json!({"status": {"state": "asleep"}})).await?.refused(
        422,
        "Invalid",
        format!("Widget.example.org \"a\" is invalid: [status.state: Unsupported value: \"asleep\": supported values: \"idle\", \"busy\", {UNCHECKED}]"),
    );
    w.patch(MERGE, &status, &json!({"status": {"conditions": [{"type": "Ready"}]}})).await?.refused(
        422,
        "Invalid",
        format!(
            "Widget.example.org \"a\" is invalid: [status.conditions[0].status: Required value, {UNCHECKED}]"
        ),
    );
    w.patch(MERGE, &status, &json!({"status": {"unknown": 1, "count": 1}}))
        .await?
        .is(200)
        .at("/status", json!({"count": 1}));
    Ok(())
}

async fn who_has_none(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let message = "the server could not find the requested resource";
    w.get(format!("{}/a/status", w.maps())).await?.refused(404, "NotFound", message).details(json!({}));
    w.patch(MERGE, format!("{}/a/status", w.maps()), &json!({})).await?.is(404);
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.get(format!("{}/a/none", w.widgets())).await?.is(404);
    let refused =
        |verb: &str| format!("{verb} is not supported on resources of kind \"widgets.example.org\"");
    w.delete(format!("{}/a/status", w.widgets())).await?.refused(405, "MethodNotAllowed", refused("delete"));
    w.post(format!("{}/a/status", w.widgets()), &widget("a", json!({}))).await?.refused(
        405,
        "MethodNotAllowed",
        refused("create"),
    );
    Ok(())
}

async fn scale(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &widget("a", json!({"size": 3}))).await?;
    let (path, scale) = (format!("{}/a", w.widgets()), format!("{}/a/scale", w.widgets()));
    w.patch(MERGE, format!("{path}/status"), &json!({"status": {"count": 2, "selector": "app=a"}}))
        .await?
        .is(200);
    let read = w
        .get(&scale)
        .await?
        .is(200)
        .at("/kind", "Scale")
        .at("/apiVersion", "autoscaling/v1")
        .at("/metadata/name", "a")
        .at("/metadata/uid", made["metadata"]["uid"].clone())
        .at("/metadata/creationTimestamp", made["metadata"]["creationTimestamp"].clone())
        .at("/spec", json!({"replicas": 3}))
        .at("/status", json!({"replicas": 2, "selector": "app=a"}));
    w.patch(MERGE, &scale, &json!({"spec": {"replicas": 5}})).await?.is(200).at("/spec/replicas", 5);
    w.get(&path).await?.is(200).at("/spec/size", 5).at("/metadata/generation", 2);
    w.put(&scale, &read.object()).await?.refused_like(
        409,
        "Conflict",
        &["widgets.example.org \"a\": the object has been modified"],
    );
    w.patch(MERGE, &scale, &json!({"spec": {"replicas": -1}})).await?.refused(
        422,
        "Invalid",
        "Widget.example.org \"a\" is invalid: [spec.size: Invalid value: -1: spec.size in body should be greater than or equal to 1, .spec.size: Invalid value: -1: should be a non-negative integer]",
    );
    w.patch(MERGE, &scale, &json!({"spec": {"replicas": 101}})).await?.refused_like(
        422,
        "Invalid",
        &["spec.size in body should be less than or equal to 100"],
    );
    w.patch(STRATEGIC, &scale, &json!({"spec": {"replicas": 4}})).await?.is(415);
    let wrong = json!({"status": {"selector": 1, "count": 2147483648_i64}});
    w.patch(MERGE, format!("{path}/status"), &wrong).await?.refused_like(
        422,
        "Invalid",
        &[
            ".status.count: Invalid value: 2147483648: should be less than or equal to 2147483647",
            ".status.selector: Invalid value: \"\": .status.selector accessor error: 1 is of the type int64, expected string",
        ],
    );
    w.create(w.widgets(), &widget("none", json!({}))).await?;
    let message = "Internal error occurred: the spec replicas field \".spec.size\" does not exist";
    w.get(format!("{}/none/scale", w.widgets())).await?.refused(500, "InternalError", message);
    Ok(())
}
