// SPDX-License-Identifier: Apache-2.0
//! Owner references: who goes with whom, in which order, and what a namespace takes with it.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("background", |w| Box::pin(background(w))),
    ("foreground", |w| Box::pin(foreground(w))),
    ("orphans", |w| Box::pin(orphans(w))),
    ("owners_that_never_were", |w| Box::pin(owners_that_never_were(w))),
    ("one_owner_of_two", |w| Box::pin(one_owner_of_two(w))),
    ("references_that_are_wrong", |w| Box::pin(references_that_are_wrong(w))),
    ("a_namespace_takes_its_contents", |w| Box::pin(a_namespace_takes_its_contents(w))),
    ("a_namespace_waits_for_what_is_held", |w| Box::pin(a_namespace_waits_for_what_is_held(w))),
];

fn reference(owner: &Value, blocks: bool) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks})
}

fn owned(mut object: Value, references: Value) -> Value {
    object["metadata"]["ownerReferences"] = references;
    object
}

fn held(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["example.org/hold"]);
    object
}

async fn release(w: &World<'_>, path: &str) -> Result<()> {
    w.patch(MERGE, path, &json!({"metadata": {"finalizers": null}})).await?.is(200);
    Ok(())
}

async fn background(w: &World<'_>) -> Result<()> {
    let owner = w.create(w.widgets(), &widget("owner", json!({}))).await?;
    let middle =
        w.create(w.maps(), &owned(config_map("middle", json!({})), json!([reference(&owner, true)]))).await?;
    w.create(
        w.core("secrets"),
        &owned(json!({"metadata": {"name": "leaf"}}), json!([reference(&middle, false)])),
    )
    .await?;
    w.create(w.maps(), &config_map("stranger", json!({}))).await?;
    let path = format!("{}/owner", w.widgets());
    w.delete_with(&path, &json!({"propagationPolicy": "Background"})).await?.is(200).at("/status", "Success");
    w.get(&path).await?.is(404);
    w.gone(format!("{}/middle", w.maps())).await?;
    w.gone(format!("{}/leaf", w.core("secrets"))).await?;
    w.get(format!("{}/stranger", w.maps())).await?.is(200);
    Ok(())
}

async fn foreground(w: &World<'_>) -> Result<()> {
    let owner = w.create(w.widgets(), &widget("owner", json!({}))).await?;
    let path = format!("{}/owner", w.widgets());
    let (blocks, free) = (format!("{}/blocks", w.maps()), format!("{}/free", w.maps()));
    w.create(w.maps(), &held(owned(config_map("blocks", json!({})), json!([reference(&owner, true)]))))
        .await?;
    w.create(w.maps(), &held(owned(config_map("free", json!({})), json!([reference(&owner, false)]))))
        .await?;
    let pending = w.delete_with(&path, &json!({"propagationPolicy": "Foreground"})).await?.is(200);
    let pending = pending.at("/kind", "Widget").at("/metadata/finalizers", json!(["foregroundDeletion"]));
    w.same("marked", pending.str("/metadata/deletionTimestamp").is_empty(), false);
    let marked = |answer: &tests::target::Answer| !answer.str("/metadata/deletionTimestamp").is_empty();
    w.until("the dependent is asked to go", &blocks, marked).await?;
    w.until("the other is asked to go", &free, marked).await?;
    w.get(&path).await?.is(200);
    release(w, &blocks).await?;
    // Who does not block its owner's deletion may outlive it.
    w.gone(&path).await?;
    w.get(&free).await?.is(200);
    release(w, &free).await?;
    w.gone(&free).await
}

async fn orphans(w: &World<'_>) -> Result<()> {
    for (name, options) in
        [("one", json!({"propagationPolicy": "Orphan"})), ("two", json!({"orphanDependents": true}))]
    {
        let owner = w.create(w.widgets(), &widget(name, json!({}))).await?;
        let child = format!("child-of-{name}");
        w.create(w.maps(), &owned(config_map(&child, json!({})), json!([reference(&owner, true)]))).await?;
        let path = format!("{}/{name}", w.widgets());
        // The collector has to have seen the child.
        w.delete_with(&path, &options).await?.is(200).at("/metadata/finalizers", json!(["orphan"]));
        w.gone(&path).await?;
        w.get(format!("{}/{child}", w.maps())).await?.is(200).at("/metadata/ownerReferences", Value::Null);
    }
    Ok(())
}

async fn owners_that_never_were(w: &World<'_>) -> Result<()> {
    let ghost = json!({"apiVersion": "example.org/v1", "kind": "Widget", "name": "ghost", "uid": "11111111-2222-3333-4444-555555555555"});
    w.create(w.maps(), &owned(config_map("haunted", json!({})), json!([ghost]))).await?;
    w.gone(format!("{}/haunted", w.maps())).await?;
    // The name alone makes nobody an owner.
    let real = w.create(w.widgets(), &widget("real", json!({}))).await?;
    let mut other = reference(&real, false);
    other["uid"] = "11111111-2222-3333-4444-555555555556".into();
    w.create(w.maps(), &owned(config_map("mistaken", json!({})), json!([other]))).await?;
    w.gone(format!("{}/mistaken", w.maps())).await
}

async fn one_owner_of_two(w: &World<'_>) -> Result<()> {
    let one = w.create(w.widgets(), &widget("one", json!({}))).await?;
    let two = w.create(w.widgets(), &widget("two", json!({}))).await?;
    let child = format!("{}/child", w.maps());
    w.create(
        w.maps(),
        &owned(config_map("child", json!({})), json!([reference(&one, false), reference(&two, false)])),
    )
    .await?;
    w.delete(format!("{}/one", w.widgets())).await?.is(200);
    let left = json!([reference(&two, false)]);
    w.until("the dead owner is forgotten", &child, |answer| {
        answer.json["metadata"]["ownerReferences"] == left
    })
    .await?;
    w.delete(format!("{}/two", w.widgets())).await?.is(200);
    w.gone(&child).await
}

async fn references_that_are_wrong(w: &World<'_>) -> Result<()> {
    let good = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"});
    let with = |key: &str, value: Value| {
        let mut reference = good.clone();
        reference[key] = value;
        reference
    };
    let begin = "ConfigMap \"a\" is invalid: metadata.ownerReferences";
    let rows = [
        (json!([with("uid", "".into())]), ".uid: Invalid value: \"\": must not be empty"),
        (json!([with("name", "".into())]), ".name: Invalid value: \"\": must not be empty"),
        (json!([with("kind", "".into())]), ".kind: Invalid value: \"\": must not be empty"),
        (
            json!([with("apiVersion", "".into())]),
            ".apiVersion: Invalid value: \"\": version must not be empty",
        ),
        (
            json!([with("apiVersion", "a/b/c".into())]),
            ".apiVersion: Invalid value: \"a/b/c\": version must not be empty",
        ),
        (
            json!([with("controller", true.into()), {"apiVersion": "v1", "kind": "ConfigMap", "name": "y", "uid": "v", "controller": true}]),
            ": Invalid value: [{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"x\",\"uid\":\"u\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"y\",\"uid\":\"v\",\"controller\":true}]: Only one reference can have Controller set to true. Found \"true\" in references for ConfigMap/x and ConfigMap/y",
        ),
        (
            json!([{"apiVersion": "v1", "kind": "Event", "name": "x", "uid": "u"}]),
            ": Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"x\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
        ),
    ];
    for (references, message) in rows {
        w.post(w.maps(), &owned(config_map("a", json!({})), references)).await?.refused(
            422,
            "Invalid",
            format!("{begin}{message}"),
        );
    }
    Ok(())
}

async fn a_namespace_takes_its_contents(w: &World<'_>) -> Result<()> {
    let name = format!("{}-inner", w.namespace);
    let path = format!("/api/v1/namespaces/{name}");
    w.create("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
    w.create(format!("{path}/configmaps"), &config_map("a", json!({}))).await?;
    w.create(format!("/apis/example.org/v1/namespaces/{name}/widgets"), &widget("a", json!({}))).await?;
    let pending = w.delete(&path).await?.is(200).at("/kind", "Namespace").at("/status/phase", "Terminating");
    w.same("marked", pending.str("/metadata/deletionTimestamp").is_empty(), false);
    w.gone(&path).await?;
    w.get(format!("{path}/configmaps")).await?.is(200).lists(&[]);
    w.get(format!("/apis/example.org/v1/namespaces/{name}/widgets")).await?.is(200).lists(&[]);
    w.create("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
    w.get(format!("{path}/configmaps/a")).await?.is(404);
    Ok(())
}

async fn a_namespace_waits_for_what_is_held(w: &World<'_>) -> Result<()> {
    let name = format!("{}-inner", w.namespace);
    let path = format!("/api/v1/namespaces/{name}");
    let held_path = format!("/apis/example.org/v1/namespaces/{name}/widgets/held");
    let made = w.create("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
    w.same("phase", &made["status"], &json!({"phase": "Active"}));
    w.same("finalizers", &made["spec"], &json!({"finalizers": ["kubernetes"]}));
    w.create(format!("/apis/example.org/v1/namespaces/{name}/widgets"), &held(widget("held", json!({}))))
        .await?;
    w.delete(&path).await?.is(200);
    let message = format!(
        "configmaps \"late\" is forbidden: unable to create new content in namespace {name} because it is being terminated"
    );
    let cause = format!("namespace {name} is being terminated");
    w.post(format!("{path}/configmaps"), &config_map("late", json!({})))
        .await?
        .refused(403, "Forbidden", message)
        .details(json!({"name": "late", "kind": "configmaps", "causes": [{"reason": "NamespaceTerminating", "message": cause, "field": "metadata.namespace"}]}));
    let condition = |answer: &tests::target::Answer, kind: &str, status: &str| {
        let conditions = answer.json["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status)
    };
    let waits = w
        .until("the namespace says what it waits for", &path, |answer| {
            condition(answer, "NamespaceFinalizersRemaining", "True")
        })
        .await?;
    let conditions = waits["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let said = |kind: &str, key: &str| {
        conditions.iter().find(|c| c["type"] == kind).map(|c| c[key].clone()).unwrap_or_default()
    };
    w.same("reason", said("NamespaceFinalizersRemaining", "reason"), "SomeFinalizersRemain");
    w.same(
        "message",
        said("NamespaceFinalizersRemaining", "message"),
        "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances",
    );
    w.same(
        "content",
        said("NamespaceContentRemaining", "message"),
        "Some resources are remaining: widgets.example.org has 1 resource instances",
    );
    w.until("the content is asked to go", &held_path, |answer| {
        !answer.str("/metadata/deletionTimestamp").is_empty()
    })
    .await?;
    let again = w.delete(&path).await?;
    w.same("deleted again", again.code, 200);
    release(w, &held_path).await?;
    w.gone(&path).await
}
