// SPDX-License-Identifier: Apache-2.0
//! Deletion of single objects and of collections: finalizers, preconditions, what is answered.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("what_is_answered", |w| Box::pin(what_is_answered(w))),
    ("finalizers_hold", |w| Box::pin(finalizers_hold(w))),
    ("preconditions", |w| Box::pin(preconditions(w))),
    ("options_in_body_and_query", |w| Box::pin(options_in_body_and_query(w))),
    ("options_that_are_wrong", |w| Box::pin(options_that_are_wrong(w))),
    ("collections", |w| Box::pin(collections(w))),
    ("collections_keep_what_is_held", |w| Box::pin(collections_keep_what_is_held(w))),
];

fn held(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["example.org/hold"]);
    object
}

async fn what_is_answered(w: &World<'_>) -> Result<()> {
    let made = w.create(w.maps(), &config_map("a", json!({}))).await?;
    let answer = w.delete(format!("{}/a", w.maps())).await?.is(200);
    let details = json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]});
    w.same("status", answer.object(), json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}));
    w.delete(format!("{}/a", w.maps())).await?.refused(404, "NotFound", "configmaps \"a\" not found");
    let made = w.create(w.widgets(), &widget("a", json!({}))).await?;
    let details =
        json!({"name": "a", "group": "example.org", "kind": "widgets", "uid": made["metadata"]["uid"]});
    w.delete(format!("{}/a", w.widgets())).await?.is(200).at("/status", "Success").details(details);
    // Who comes again under the name is somebody else.
    let again = w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.same("uid", again["metadata"]["uid"] == made["metadata"]["uid"], false);
    Ok(())
}

async fn finalizers_hold(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &held(widget("a", json!({"size": 1})))).await?;
    let path = format!("{}/a", w.widgets());
    let pending =
        w.delete(&path).await?.is(200).at("/kind", "Widget").at("/metadata/deletionGracePeriodSeconds", 0);
    let time = pending.str("/metadata/deletionTimestamp").to_owned();
    w.same("time", time.len(), "2001-01-01T00:00:00Z".len());
    w.same("version", pending.version() == made["metadata"]["resourceVersion"], false);
    let again = w.delete(&path).await?.is(200).at("/metadata/deletionTimestamp", time.as_str());
    w.same("nothing new", again.version(), pending.version());
    w.post(w.widgets(), &widget("a", json!({}))).await?.refused(
        409,
        "AlreadyExists",
        "object is being deleted: widgets.example.org \"a\" already exists",
    );
    // It may still be changed, but nobody may hold it longer.
    w.patch(MERGE, &path, &json!({"spec": {"size": 2}})).await?.is(200).at("/spec/size", 2);
    let more = json!({"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}});
    let message = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.org/more\"}";
    w.patch(MERGE, &path, &more)
        .await?
        .refused(
            422,
            "Invalid",
            format!("Widget.example.org \"a\" is invalid: metadata.finalizers: {message}"),
        )
        .causes(&[("FieldValueForbidden", "metadata.finalizers", message); 2]);
    w.patch(MERGE, &path, &json!({"metadata": {"deletionTimestamp": null}}))
        .await?
        .is(200)
        .at("/metadata/deletionTimestamp", time);
    let last =
        w.patch(MERGE, &path, &json!({"metadata": {"finalizers": null}, "spec": {"size": 3}})).await?.is(200);
    last.at("/spec/size", 3).at("/metadata/finalizers", Value::Null);
    w.get(&path).await?.is(404);
    Ok(())
}

async fn preconditions(w: &World<'_>) -> Result<()> {
    let made = w.create(w.maps(), &config_map("a", json!({}))).await?;
    let path = format!("{}/a", w.maps());
    let (uid, version) = (
        made["metadata"]["uid"].as_str().unwrap_or_default(),
        made["metadata"]["resourceVersion"].as_str().unwrap_or_default(),
    );
    let begin = "Operation cannot be fulfilled on ConfigMap \"a\": the";
    w.delete_with(&path, &json!({"preconditions": {"uid": "other"}}))
        .await?
        .refused(409, "Conflict", format!("{begin} UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"))
        .details(json!({"name": "a", "kind": "ConfigMap"}));
    w.delete_with(&path, &json!({"preconditions": {"resourceVersion": "1"}}))
        .await?
        .refused(409, "Conflict", format!("{begin} ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({version}). The object might have been modified"));
    w.delete_with(&path, &json!({"preconditions": {"uid": uid, "resourceVersion": version}}))
        .await?
        .is(200)
        .at("/status", "Success");
    w.gone(&path).await
}

async fn options_in_body_and_query(w: &World<'_>) -> Result<()> {
    for name in ["a", "b", "c", "d"] {
        w.create(w.maps(), &config_map(name, json!({}))).await?;
    }
    let full = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5, "propagationPolicy": "Background"});
    w.delete_with(format!("{}/a", w.maps()), &full).await?.is(200).at("/status", "Success");
    let grouped = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
    w.delete_with(format!("{}/b", w.maps()), &grouped).await?.is(200);
    w.delete(format!("{}/c?gracePeriodSeconds=0&propagationPolicy=Background", w.maps())).await?.is(200);
    let yaml = "propagationPolicy: Background\n";
    w.send("DELETE", format!("{}/d", w.maps()), &[("content-type", "application/yaml")], yaml).await?.is(200);
    w.get(w.maps()).await?.is(200).lists(&[]);
    Ok(())
}

async fn options_that_are_wrong(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let path = format!("{}/a", w.maps());
    let invalid = "DeleteOptions.meta.k8s.io \"\" is invalid: ";
    let policy = format!(
        "{invalid}propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
    );
    w.delete_with(&path, &json!({"propagationPolicy": "Sideways"})).await?.refused(422, "Invalid", &policy);
    w.delete(format!("{path}?propagationPolicy=Sideways")).await?.refused(422, "Invalid", &policy);
    let both = format!(
        "{invalid}propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set"
    );
    w.delete_with(&path, &json!({"propagationPolicy": "Orphan", "orphanDependents": true}))
        .await?
        .refused(422, "Invalid", both);
    // Not a refusal: kube-apiserver takes its own decoder's errors for accidents.
    for (body, message) in [
        ("{", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (
            "{\"gracePeriodSeconds\": \"soon\"}",
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
        (
            "{\"preconditions\": 5}",
            "json: cannot unmarshal number into Go struct field DeleteOptions.preconditions of type v1.Preconditions",
        ),
        (
            "{\"kind\":\"Secret\",\"apiVersion\":\"v1\"}",
            "no kind \"Secret\" is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:110\"",
        ),
    ] {
        w.send("DELETE", &path, &[("content-type", "application/json")], body)
            .await?
            .refused(500, "", message);
    }
    w.delete(format!("{path}?gracePeriodSeconds=soon")).await?.is(400);
    w.send("DELETE", &path, &[("content-type", "text/plain")], "{}").await?.is(415);
    w.get(&path).await?.is(200);
    Ok(())
}

async fn collections(w: &World<'_>) -> Result<()> {
    for (name, colour) in [("a", "red"), ("b", "blue"), ("c", "red"), ("d", "green")] {
        let mut object = widget(name, json!({"colour": colour}));
        object["metadata"]["labels"] = json!({"colour": colour});
        w.create(w.widgets(), &object).await?;
    }
    let path = w.widgets();
    let removed = w.delete(format!("{path}?labelSelector=colour%3Dred")).await?.is(200).lists(&["a", "c"]);
    removed.at("/kind", "WidgetList").at("/apiVersion", "example.org/v1");
    w.get(&path).await?.is(200).lists(&["b", "d"]);
    w.delete(format!("{path}?fieldSelector=spec.colour%3Dgreen")).await?.is(200).lists(&["d"]);
    w.delete(format!("{path}?labelSelector=%3D%3D")).await?.is(400);
    w.delete(format!("{path}?fieldSelector=spec.title%3Da")).await?.is(400);
    w.get(&path).await?.is(200).lists(&["b"]);
    w.delete(&path).await?.is(200).lists(&["b"]);
    w.delete(&path).await?.is(200).lists(&[]);
    for name in ["a", "b"] {
        w.create(w.maps(), &config_map(name, json!({}))).await?;
    }
    w.delete(w.maps()).await?.is(200).at("/kind", "ConfigMapList").lists(&["a", "b"]);
    w.get(w.maps()).await?.is(200).lists(&[]);
    let refused = "the server does not allow this method on the requested resource";
    w.delete("/api/v1/configmaps").await?.refused(405, "MethodNotAllowed", refused);
    w.delete("/api/v1/namespaces").await?.refused(405, "MethodNotAllowed", refused);
    Ok(())
}

async fn collections_keep_what_is_held(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &held(widget("held", json!({})))).await?;
    w.create(w.widgets(), &widget("free", json!({}))).await?;
    w.delete(w.widgets()).await?.is(200).lists(&["free", "held"]);
    let left = w.get(w.widgets()).await?.is(200).lists(&["held"]);
    w.same("marked", left.str("/items/0/metadata/deletionTimestamp").is_empty(), false);
    w.patch(MERGE, format!("{}/held", w.widgets()), &json!({"metadata": {"finalizers": []}})).await?.is(200);
    w.get(w.widgets()).await?.is(200).lists(&[]);
    Ok(())
}
