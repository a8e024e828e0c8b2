// SPDX-License-Identifier: Apache-2.0
//! Definitions: a kind comes, changes its versions, and goes with its objects.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{APPLY, CRDS, Check, JSON_PATCH, MERGE, World};

pub const ALL: &[Check] = &[
    ("a_definition_is_served", |w| Box::pin(a_definition_is_served(w))),
    ("cluster_scope", |w| Box::pin(cluster_scope(w))),
    ("versions", |w| Box::pin(versions(w))),
    ("a_deletion_takes_the_objects", |w| Box::pin(a_deletion_takes_the_objects(w))),
    ("names_in_use", |w| Box::pin(names_in_use(w))),
    ("no_subresources", |w| Box::pin(no_subresources(w))),
    ("applied", |w| Box::pin(applied(w))),
    ("a_schema_changes", |w| Box::pin(a_schema_changes(w))),
];

/// A definition of a namespaced kind with one version and no subresources.
pub fn definition(group: &str, kind: &str, plural: &str, schema: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn anything() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

async fn a_definition_is_served(w: &World<'_>) -> Result<()> {
    let group = "served.example.org";
    let path = w.of(&format!("{group}/v1"), "cogs");
    w.get(&path).await?.is(404).text_is("404 page not found\n");
    let made = w
        .post(CRDS, &definition(group, "Cog", "cogs", anything()))
        .await?
        .is(201)
        .at("/metadata/generation", 1);
    let names = json!({"plural": "cogs", "singular": "cog", "kind": "Cog", "listKind": "CogList"});
    let made = made.at("/spec/names", names.clone()).at("/spec/conversion", json!({"strategy": "None"}));
    w.same("stored", &made.json["status"]["storedVersions"], &json!(["v1"]));
    let crd = format!("{CRDS}/cogs.{group}");
    let settled = w
        .until("it is established", &crd, |answer| {
            let conditions = answer.json["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
        })
        .await?;
    w.same("accepted names", &settled["status"]["acceptedNames"], &names);
    let said: Vec<(Value, Value, Value, Value)> = settled["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .iter()
        .map(|c| (c["type"].clone(), c["status"].clone(), c["reason"].clone(), c["message"].clone()))
        .collect();
    let wanted =
        |kind: &str, reason: &str, message: &str| (json!(kind), json!("True"), json!(reason), json!(message));
    let wanted = vec![
        wanted("NamesAccepted", "NoConflicts", "no conflicts found"),
        wanted("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ];
    w.same("conditions", said, wanted);
    w.until("it is served", &path, |answer| answer.code == 200).await?;
    let cog = json!({"apiVersion": format!("{group}/v1"), "kind": "Cog", "metadata": {"name": "a"}, "spec": {"any": [1]}});
    w.post(&path, &cog).await?.is(201).at("/spec", json!({"any": [1]}));
    w.until("its group is discovered", &format!("/apis/{group}/v1"), |answer| {
        answer.code == 200
            && answer.json["resources"].as_array().is_some_and(|all| all.iter().any(|r| r["name"] == "cogs"))
    })
    .await?;
    w.until("the group is listed", "/apis", |answer| {
        answer.json["groups"].as_array().is_some_and(|groups| groups.iter().any(|g| g["name"] == group))
    })
    .await?;
    Ok(())
}

async fn cluster_scope(w: &World<'_>) -> Result<()> {
    let group = "wide.example.org";
    let mut wide = definition(group, "Globe", "globes", anything());
    wide["spec"]["scope"] = "Cluster".into();
    let path = format!("/apis/{group}/v1/globes");
    w.define(&wide, &path).await?;
    let globe = json!({"apiVersion": format!("{group}/v1"), "kind": "Globe", "metadata": {"name": "a"}});
    w.post(&path, &globe).await?.is(201).at("/metadata/namespace", Value::Null);
    w.get(&path).await?.is(200).lists(&["a"]);
    w.get(w.of(&format!("{group}/v1"), "globes")).await?.is(404);
    let mut spaced = globe.clone();
    spaced["metadata"] = json!({"name": "b", "namespace": "default"});
    w.post(&path, &spaced).await?.is(201).at("/metadata/namespace", Value::Null);
    w.delete(format!("{path}/a")).await?.is(200);
    Ok(())
}

async fn versions(w: &World<'_>) -> Result<()> {
    let group = "versions.example.org";
    let mut two = definition(group, "Gear", "gears", anything());
    let version = |name: &str, served: bool, storage: bool| json!({"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": anything()}});
    two["spec"]["versions"] = json!([
        version("v1beta1", true, false),
        version("v1", true, true),
        version("v1alpha1", false, false)
    ]);
    two["spec"]["versions"][0]["deprecated"] = true.into();
    let path = |version: &str| w.of(&format!("{group}/{version}"), "gears");
    w.define(&two, &path("v1")).await?;
    let gear = |version: &str, name: &str| json!({"apiVersion": format!("{group}/{version}"), "kind": "Gear", "metadata": {"name": name}, "spec": {"n": 1}});
    let warning = format!("299 - \"{group}/v1beta1 Gear is deprecated; use {group}/v1 Gear\"");
    w.post(path("v1beta1"), &gear("v1beta1", "a"))
        .await?
        .is(201)
        .at("/apiVersion", format!("{group}/v1beta1"))
        .warns(&[&warning]);
    w.get(format!("{}/a", path("v1")))
        .await?
        .is(200)
        .at("/apiVersion", format!("{group}/v1"))
        .at("/spec/n", 1)
        .warns(&[]);
    w.post(path("v1"), &gear("v1", "b")).await?.is(201);
    w.get(path("v1beta1"))
        .await?
        .is(200)
        .lists(&["a", "b"])
        .at("/items/1/apiVersion", format!("{group}/v1beta1"));
    w.get(path("v1alpha1")).await?.is(404);
    w.post(path("v1"), &gear("v1beta1", "c")).await?.is(400).at("/reason", "BadRequest");
    let discovered = w
        .until("the group is discovered", &format!("/apis/{group}"), |answer| {
            answer.code == 200 && answer.json["versions"].as_array().map(Vec::len) == Some(2)
        })
        .await?;
    let wanted = json!({"kind": "APIGroup", "apiVersion": "v1", "name": group,
        "versions": [{"groupVersion": format!("{group}/v1"), "version": "v1"}, {"groupVersion": format!("{group}/v1beta1"), "version": "v1beta1"}],
        "preferredVersion": {"groupVersion": format!("{group}/v1"), "version": "v1"}});
    w.same("group", &discovered, &wanted);
    // A version ends.
    let crd = format!("{CRDS}/gears.{group}");
    w.patch(JSON_PATCH, &crd, &json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}]))
        .await?
        .is(200);
    w.gone(path("v1beta1")).await?;
    w.patch(JSON_PATCH, &crd, &json!([{"op": "replace", "path": "/spec/versions/1/storage", "value": false}, {"op": "replace", "path": "/spec/versions/0/storage", "value": true}]))
        .await?
        .is(200)
        .at("/status/storedVersions", json!(["v1", "v1beta1"]));
    let removed = json!([{"op": "remove", "path": "/spec/versions/1"}]);
    w.patch(JSON_PATCH, &crd, &removed).await?.refused_like(422, "Invalid", &["status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"]);
    Ok(())
}

async fn a_deletion_takes_the_objects(w: &World<'_>) -> Result<()> {
    let group = "short.example.org";
    let path = w.of(&format!("{group}/v1"), "lives");
    let crd = format!("{CRDS}/lives.{group}");
    w.define(&definition(group, "Life", "lives", anything()), &path).await?;
    let life =
        |name: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "Life", "metadata": {"name": name}});
    w.create(&path, &life("a")).await?;
    let mut held = life("held");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    w.create(&path, &held).await?;
    let answer = w.delete(&crd).await?.is(200).at("/kind", "CustomResourceDefinition");
    answer.at("/metadata/finalizers", json!(["customresourcecleanup.apiextensions.k8s.io"]));
    w.until("the object is asked to go", &format!("{path}/held"), |answer| {
        !answer.str("/metadata/deletionTimestamp").is_empty()
    })
    .await?;
    let answer = w.post(&path, &life("late")).await?;
    let message = format!(
        "lives.{group} \"late\" is forbidden: create not allowed while custom resource definition is terminating"
    );
    answer.refused(403, "Forbidden", message);
    w.until("it says that it goes", &crd, |answer| {
        let conditions = answer.json["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Terminating" && c["status"] == "True")
    })
    .await?;
    w.patch(MERGE, format!("{path}/held"), &json!({"metadata": {"finalizers": null}})).await?.is(200);
    w.gone(&crd).await?;
    w.gone(&path).await?;
    w.define(&definition(group, "Life", "lives", anything()), &path).await?;
    w.get(&path).await?.is(200).lists(&[]);
    Ok(())
}

async fn names_in_use(w: &World<'_>) -> Result<()> {
    let group = "used.example.org";
    let path = w.of(&format!("{group}/v1"), "nuts");
    let mut first = definition(group, "Nut", "nuts", anything());
    first["spec"]["names"]["shortNames"] = json!(["nt"]);
    w.define(&first, &path).await?;
    w.post(CRDS, &first).await?.refused(
        409,
        "AlreadyExists",
        format!("customresourcedefinitions.apiextensions.k8s.io \"nuts.{group}\" already exists"),
    );
    let mut second = definition(group, "Nut", "nutshells", anything());
    second["spec"]["names"]["shortNames"] = json!(["nt"]);
    w.create(CRDS, &second).await?;
    let refused = w
        .until("its names are refused", &format!("{CRDS}/nutshells.{group}"), |answer| {
            let conditions = answer.json["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "NamesAccepted" && c["status"] == "False")
        })
        .await?;
    let conditions = refused["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let names = conditions.iter().find(|c| c["type"] == "NamesAccepted").cloned().unwrap_or_default();
    w.same("reason", &names["reason"], &json!("ListKindConflict"));
    w.same("message", &names["message"], &json!("\"NutList\" is already in use"));
    let established = conditions.iter().find(|c| c["type"] == "Established").cloned().unwrap_or_default();
    w.same(
        "established",
        (&established["status"], &established["reason"]),
        (&json!("False"), &json!("NotAccepted")),
    );
    w.get(w.of(&format!("{group}/v1"), "nutshells")).await?.is(404);
    Ok(())
}

async fn no_subresources(w: &World<'_>) -> Result<()> {
    let group = "plain.example.org";
    let path = w.of(&format!("{group}/v1"), "bolts");
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}, "other": {"type": "string"}}});
    w.define(&definition(group, "Bolt", "bolts", schema), &path).await?;
    let bolt = json!({"apiVersion": format!("{group}/v1"), "kind": "Bolt", "metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"s": 1}, "other": "x"});
    w.post(&path, &bolt).await?.is(201).at("/status", json!({"s": 1})).at("/other", "x");
    let one = format!("{path}/a");
    // Without the subresource the status is a field like others, and everything but metadata counts.
    w.patch(MERGE, &one, &json!({"status": {"s": 2}}))
        .await?
        .is(200)
        .at("/status/s", 2)
        .at("/metadata/generation", 2);
    w.patch(MERGE, &one, &json!({"other": "y"})).await?.is(200).at("/metadata/generation", 3);
    w.patch(MERGE, &one, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await?
        .is(200)
        .at("/metadata/generation", 3);
    w.get(format!("{one}/status")).await?.refused(404, "NotFound", format!("bolts.{group} \"a\" not found"));
    w.get(format!("{one}/scale")).await?.is(404);
    Ok(())
}

async fn applied(w: &World<'_>) -> Result<()> {
    let group = "applied.example.org";
    let path = w.of(&format!("{group}/v1"), "pins");
    let crd = format!("{CRDS}/pins.{group}");
    let body = definition(group, "Pin", "pins", anything());
    w.patch(APPLY, format!("{crd}?fieldManager=m"), &body).await?.is(201);
    w.until("it is served", &path, |answer| answer.code == 200).await?;
    let before = w.until("it is settled", &crd, |answer| {
        answer.json["status"]["conditions"].as_array().is_some_and(|conditions| conditions.len() >= 2)
    });
    before.await?;
    let again =
        w.patch(APPLY, format!("{crd}?fieldManager=m"), &body).await?.is(200).at("/metadata/generation", 1);
    w.same("status", again.json["status"]["conditions"].as_array().map(Vec::len), Some(2));
    let mut changed = body.clone();
    changed["spec"]["versions"][0]["additionalPrinterColumns"] =
        json!([{"name": "N", "type": "integer", "jsonPath": ".spec.n"}]);
    w.patch(APPLY, format!("{crd}?fieldManager=m"), &changed).await?.is(200).at("/metadata/generation", 2);
    Ok(())
}

/// What was stored before a schema changed is read as the schema has it now.
async fn a_schema_changes(w: &World<'_>) -> Result<()> {
    let group = "changes.example.org";
    let path = w.of(&format!("{group}/v1"), "cams");
    let schema = |fields: Value| json!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}});
    let before = schema(json!({"old": {"type": "string"}, "kept": {"type": "integer"}}));
    w.define(&definition(group, "Cam", "cams", before), &path).await?;
    let cam = |name: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "Cam", "metadata": {"name": name}, "spec": {"old": "x", "kept": 1}});
    for name in ["a", "b", "c"] {
        w.create(&path, &cam(name)).await?;
    }
    let one = format!("{path}/a");
    w.get(&one).await?.is(200).at("/spec", json!({"old": "x", "kept": 1}));
    let after =
        schema(json!({"kept": {"type": "integer"}, "new": {"type": "string", "default": "filled in"},
        "deep": {"type": "object", "default": {}, "properties": {"n": {"type": "integer", "default": 7}}}}));
    let change =
        json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": after}]);
    w.patch(JSON_PATCH, format!("{CRDS}/cams.{group}"), &change).await?.is(200);
    let filled = json!({"kept": 1, "new": "filled in", "deep": {"n": 7}});
    let read =
        w.until("the new schema counts", &one, |answer| answer.json["spec"]["new"] == "filled in").await?;
    w.same("get", &read["spec"], &filled);
    let version = read["metadata"]["resourceVersion"].clone();
    let listed = w.get(&path).await?.is(200).lists(&["a", "b", "c"]).at("/items/1/spec", filled.clone());
    let since = listed.str("/metadata/resourceVersion").to_owned();
    w.get(format!("{path}?limit=1")).await?.is(200).at("/items/0/spec", filled.clone());
    let mut events = w.watch(format!("{path}?watch=1")).await?;
    for _ in 0..3 {
        let event = events.next().await?;
        w.same("watch", &event["object"]["spec"], &filled);
    }
    // Nothing was written by that, and writing back what was read writes it.
    w.get(&one).await?.is(200).at("/metadata/resourceVersion", version.clone());
    let unchanged =
        w.patch(MERGE, &one, &json!({"spec": {"kept": 1}})).await?.is(200).at("/spec", filled.clone());
    w.same("it is written", unchanged.json["metadata"]["resourceVersion"] == version, false);
    let again = w.patch(MERGE, &one, &json!({"spec": {"kept": 1}})).await?.is(200);
    w.same(
        "once",
        &again.json["metadata"]["resourceVersion"],
        &unchanged.json["metadata"]["resourceVersion"],
    );
    let mut changes = w.watch(format!("{path}?watch=1&resourceVersion={since}")).await?;
    let event = changes.next().await?;
    w.same("change", (&event["type"], &event["object"]["spec"]), (&json!("MODIFIED"), &filled));
    w.patch(MERGE, format!("{path}/b"), &json!({"spec": {"deep": {"n": 8}}}))
        .await?
        .is(200)
        .at("/spec", json!({"kept": 1, "new": "filled in", "deep": {"n": 8}}));
    let removed = changes.next().await?;
    w.same("its change", &removed["object"]["spec"]["deep"]["n"], &json!(8));
    w.delete(format!("{path}/c")).await?.is(200);
    let removed = changes.next().await?;
    w.same("removal", (&removed["type"], &removed["object"]["spec"]), (&json!("DELETED"), &filled));
    Ok(())
}
