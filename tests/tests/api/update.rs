// SPDX-License-Identifier: Apache-2.0
//! PUT: optimistic concurrency, and what an update may not do.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("a_stale_version_conflicts", |w| Box::pin(a_stale_version_conflicts(w))),
    ("without_a_version", |w| Box::pin(without_a_version(w))),
    ("what_is_not_there", |w| Box::pin(what_is_not_there(w))),
    ("names_must_match", |w| Box::pin(names_must_match(w))),
    ("the_servers_fields_stay", |w| Box::pin(the_servers_fields_stay(w))),
    ("the_same_again_changes_nothing", |w| Box::pin(the_same_again_changes_nothing(w))),
];

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

async fn a_stale_version_conflicts(w: &World<'_>) -> Result<()> {
    let stale = w.create(w.widgets(), &widget("a", json!({"colour": "red"}))).await?;
    let path = format!("{}/a", w.widgets());
    let mut newer = stale.clone();
    newer["spec"]["colour"] = "blue".into();
    let newer = w.put(&path, &newer).await?.is(200).at("/spec/colour", "blue").at("/metadata/generation", 2);
    w.same("a newer version", newer.version() == stale["metadata"]["resourceVersion"], false);
    let message = format!("Operation cannot be fulfilled on widgets.example.org \"a\": {MODIFIED}");
    w.put(&path, &stale)
        .await?
        .refused(409, "Conflict", message)
        .details(json!({"name": "a", "group": "example.org", "kind": "widgets"}));
    let map = w.create(w.maps(), &config_map("a", json!({"k": "1"}))).await?;
    let path = format!("{}/a", w.maps());
    w.put(&path, &config_map("a", json!({"k": "2"}))).await?.is(200);
    let message = format!("Operation cannot be fulfilled on configmaps \"a\": {MODIFIED}");
    w.put(&path, &map)
        .await?
        .refused(409, "Conflict", message)
        .details(json!({"name": "a", "kind": "configmaps"}));
    Ok(())
}

async fn without_a_version(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.put(format!("{}/a", w.widgets()), &widget("a", json!({"colour": "red"})))
        .await?
        .refused(
            422,
            "Invalid",
            "widgets.example.org \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
        )
        .causes(&[("FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0: must be specified for an update")]);
    w.create(w.maps(), &config_map("a", json!({"old": "1"}))).await?;
    w.put(format!("{}/a", w.maps()), &config_map("a", json!({"new": "2"})))
        .await?
        .is(200)
        .at("/data", json!({"new": "2"}));
    Ok(())
}

async fn what_is_not_there(w: &World<'_>) -> Result<()> {
    w.put(format!("{}/none", w.maps()), &config_map("none", json!({})))
        .await?
        .refused(404, "NotFound", "configmaps \"none\" not found")
        .details(json!({"name": "none", "kind": "configmaps"}));
    let mut versioned = widget("none", json!({}));
    versioned["metadata"]["resourceVersion"] = "1".into();
    w.put(format!("{}/none", w.widgets()), &versioned).await?.refused(
        404,
        "NotFound",
        "widgets.example.org \"none\" not found",
    );
    // Leases and Events are created by an update.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"holderIdentity": "me"}});
    let leases = w.of("coordination.k8s.io/v1", "leases");
    w.put(format!("{leases}/l"), &lease).await?.is(201).at("/spec/holderIdentity", "me");
    w.put(format!("{leases}/l"), &lease).await?.refused(
        422,
        "Invalid",
        "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
    );
    Ok(())
}

async fn names_must_match(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let path = format!("{}/a", w.maps());
    w.put(&path, &config_map("b", json!({}))).await?.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    let mut elsewhere = config_map("a", json!({}));
    elsewhere["metadata"]["namespace"] = "default".into();
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    w.put(&path, &elsewhere).await?.refused(400, "BadRequest", message);
    // A body has to say its name.
    let unnamed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"k": "v"}});
    w.put(&path, &unnamed).await?.refused(
        400,
        "BadRequest",
        "the name of the object (a based on URL) was undeterminable: name must be provided",
    );
    let made = w.create(w.widgets(), &widget("a", json!({}))).await?;
    let mut renamed = made.clone();
    renamed["metadata"]["name"] = "b".into();
    w.put(format!("{}/a", w.widgets()), &renamed).await?.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    Ok(())
}

async fn the_servers_fields_stay(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &widget("a", json!({"colour": "red"}))).await?;
    let path = format!("{}/a", w.widgets());
    let mut changed = made.clone();
    changed["metadata"]["generation"] = 50.into();
    changed["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    changed["metadata"]["selfLink"] = "/x".into();
    changed["spec"]["colour"] = "blue".into();
    changed["status"] = json!({"state": "busy"});
    let put = w
        .put(&path, &changed)
        .await?
        .is(200)
        .at("/metadata/generation", 2)
        .at("/metadata/creationTimestamp", made["metadata"]["creationTimestamp"].clone())
        .at("/metadata/deletionTimestamp", Value::Null)
        .at("/status", Value::Null);
    let mut other = put.object();
    other["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    let uid = put.str("/metadata/uid").to_owned();
    let end = format!(
        "Precondition failed: UID in precondition: 11111111-2222-3333-4444-555555555555, UID in object meta: {uid}"
    );
    w.put(&path, &other).await?.refused_like(
        409,
        "Conflict",
        &["Operation cannot be fulfilled on widgets.example.org \"a\": ", &end],
    );
    Ok(())
}

async fn the_same_again_changes_nothing(w: &World<'_>) -> Result<()> {
    for (path, body) in [
        (w.maps(), config_map("a", json!({"k": "v"}))),
        (w.widgets(), widget("a", json!({"colour": "red", "options": {}}))),
    ] {
        let made = w.create(&path, &body).await?;
        let path = format!("{path}/a");
        let again = w.put(&path, &made).await?.is(200);
        w.same("the object", again.object(), made.clone());
        let other = w.send(
            "PUT",
            &path,
            &[("content-type", "application/json"), ("user-agent", "other/1")],
            made.to_string(),
        );
        w.same("by somebody else", other.await?.is(200).object(), made.clone());
    }
    Ok(())
}
