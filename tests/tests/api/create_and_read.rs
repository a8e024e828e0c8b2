// SPDX-License-Identifier: Apache-2.0
//! What a creation makes of what was sent, and how single objects are read.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("the_server_sets_its_fields", |w| Box::pin(the_server_sets_its_fields(w))),
    ("custom_resources_begin_with_generation_one", |w| {
        Box::pin(custom_resources_begin_with_generation_one(w))
    }),
    ("names_are_generated", |w| Box::pin(names_are_generated(w))),
    ("a_name_is_taken_once", |w| Box::pin(a_name_is_taken_once(w))),
    ("namespaces_must_match_and_exist", |w| Box::pin(namespaces_must_match_and_exist(w))),
    ("what_is_missing_is_not_found", |w| Box::pin(what_is_missing_is_not_found(w))),
    ("reads_wait_for_no_version", |w| Box::pin(reads_wait_for_no_version(w))),
    ("yaml_both_ways", |w| Box::pin(yaml_both_ways(w))),
];

/// What only the server may say is the server's, whatever was sent.
async fn the_server_sets_its_fields(w: &World<'_>) -> Result<()> {
    let mut body = config_map("a", json!({"k": "v"}));
    body["metadata"]["uid"] = "mine".into();
    body["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    body["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into();
    body["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    body["metadata"]["generation"] = 7.into();
    body["metadata"]["selfLink"] = "/mine".into();
    let made = w.post(w.maps(), &body).await?.is(201).has("content-type", "application/json");
    let made = made.has("cache-control", "no-cache, private");
    let meta = &made.json["metadata"];
    w.same("uid", meta["uid"].as_str().map(str::len), Some(36));
    w.same("time", meta["creationTimestamp"] == "2001-01-01T00:00:00Z", false);
    w.same("version", made.version().parse::<u64>().is_ok(), true);
    let fields = json!([{"manager": "suite", "operation": "Update", "apiVersion": "v1",
        "time": meta["creationTimestamp"], "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:k": {}}}}]);
    let made = made
        .at("/kind", "ConfigMap")
        .at("/apiVersion", "v1")
        .at("/metadata/namespace", w.namespace.as_str())
        .at("/metadata/deletionTimestamp", Value::Null)
        .at("/metadata/deletionGracePeriodSeconds", Value::Null)
        .at("/metadata/generation", 7)
        .at("/metadata/managedFields", fields);
    let read = w.get(format!("{}/a", w.maps())).await?.is(200);
    w.same("what is read", &read.json, &made.json);

    let mut body = config_map("b", json!({}));
    body["metadata"]["resourceVersion"] = "5".into();
    let message = "resourceVersion should not be set on objects to be created";
    w.post(w.maps(), &body).await?.refused(500, "", message).details(Value::Null);
    Ok(())
}

async fn custom_resources_begin_with_generation_one(w: &World<'_>) -> Result<()> {
    let mut body = widget("a", json!({"colour": "red"}));
    body["status"] = json!({"state": "idle"});
    body["metadata"]["generation"] = 9.into();
    let made = w.post(w.widgets(), &body).await?.is(201);
    let made = made
        .at("/metadata/generation", 1)
        .at("/status", Value::Null)
        .at("/apiVersion", "example.org/v1")
        .at("/kind", "Widget");
    let fields = json!({"f:spec": {".": {}, "f:colour": {}}});
    let made = made.at("/metadata/managedFields/0/fieldsV1", fields);
    w.same("entries", made.json["metadata"]["managedFields"].as_array().map(Vec::len), Some(1));
    // Objects without spec and status are objects, too.
    let bare = json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "bare"}});
    w.post(w.widgets(), &bare).await?.is(201).at("/spec", Value::Null).at("/metadata/generation", 1);
    Ok(())
}

async fn names_are_generated(w: &World<'_>) -> Result<()> {
    let body =
        |prefix: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": prefix}});
    let first = w.post(w.maps(), &body("made-")).await?.is(201).at("/metadata/generateName", "made-");
    let second = w.post(w.maps(), &body("made-")).await?.is(201);
    let (first, second) = (first.str("/metadata/name").to_owned(), second.str("/metadata/name").to_owned());
    let suffix = first.strip_prefix("made-").unwrap_or_default();
    w.same("length of the suffix", suffix.len(), 5);
    w.same("letters", suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), true);
    w.same("two names", first == second, false);
    let long = w.post(w.maps(), &body(&"x".repeat(100))).await?.is(201);
    let name = long.str("/metadata/name");
    w.same("a long prefix is cut", (name.len(), name.starts_with(&"x".repeat(58))), (63, true));
    let mut both = body("made-");
    both["metadata"]["name"] = "given".into();
    w.post(w.maps(), &both)
        .await?
        .is(201)
        .at("/metadata/name", "given")
        .at("/metadata/generateName", "made-");
    let custom =
        json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"generateName": "w-"}});
    let custom = w.post(w.widgets(), &custom).await?.is(201);
    w.same("a custom resource", custom.str("/metadata/name").len(), 7);
    let message =
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    let cause = ("FieldValueRequired", "metadata.name", "Required value: name or generateName is required");
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    w.post(w.maps(), &none).await?.refused(422, "Invalid", message).causes(&[cause]);
    Ok(())
}

async fn a_name_is_taken_once(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.post(w.maps(), &config_map("a", json!({})))
        .await?
        .refused(409, "AlreadyExists", "configmaps \"a\" already exists")
        .details(json!({"name": "a", "kind": "configmaps"}));
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.post(w.widgets(), &widget("a", json!({})))
        .await?
        .refused(409, "AlreadyExists", "widgets.example.org \"a\" already exists")
        .details(json!({"name": "a", "group": "example.org", "kind": "widgets"}));
    w.post("/api/v1/namespaces", &json!({"metadata": {"name": w.namespace}}))
        .await?
        .refused(409, "AlreadyExists", format!("namespaces {:?} already exists", w.namespace))
        .details(json!({"name": w.namespace, "kind": "namespaces"}));
    Ok(())
}

async fn namespaces_must_match_and_exist(w: &World<'_>) -> Result<()> {
    let mut elsewhere = config_map("a", json!({}));
    elsewhere["metadata"]["namespace"] = "default".into();
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    w.post(w.maps(), &elsewhere).await?.refused(400, "BadRequest", message).details(Value::Null);
    let mut elsewhere = widget("a", json!({}));
    elsewhere["metadata"]["namespace"] = "default".into();
    w.post(w.widgets(), &elsewhere).await?.refused(400, "BadRequest", message);
    for (path, body) in [
        ("/api/v1/namespaces/nowhere/configmaps", config_map("a", json!({}))),
        ("/apis/example.org/v1/namespaces/nowhere/widgets", widget("a", json!({}))),
    ] {
        w.post(path, &body)
            .await?
            .refused(404, "NotFound", "namespaces \"nowhere\" not found")
            .details(json!({"name": "nowhere", "kind": "namespaces"}));
        w.get(path).await?.is(200).lists(&[]);
    }
    // A namespaced object has no address without its namespace.
    w.post("/api/v1/configmaps", &config_map("a", json!({}))).await?.refused(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    );
    Ok(())
}

async fn what_is_missing_is_not_found(w: &World<'_>) -> Result<()> {
    w.get(format!("{}/none", w.maps()))
        .await?
        .refused(404, "NotFound", "configmaps \"none\" not found")
        .details(json!({"name": "none", "kind": "configmaps"}));
    let message = "widgets.example.org \"none\" not found";
    let details = json!({"name": "none", "group": "example.org", "kind": "widgets"});
    let path = format!("{}/none", w.widgets());
    w.get(&path).await?.refused(404, "NotFound", message).details(details.clone());
    w.delete(&path).await?.refused(404, "NotFound", message).details(details.clone());
    w.get(format!("{path}/status")).await?.refused(404, "NotFound", message).details(details);
    w.get(format!("{}/none", w.of("coordination.k8s.io/v1", "leases"))).await?.refused(
        404,
        "NotFound",
        "leases.coordination.k8s.io \"none\" not found",
    );
    Ok(())
}

async fn reads_wait_for_no_version(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &widget("a", json!({}))).await?;
    let path = format!("{}/a", w.widgets());
    let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    for query in ["", "?resourceVersion=0", &format!("?resourceVersion={version}")] {
        w.get(format!("{path}{query}")).await?.is(200).at("/metadata/resourceVersion", version);
    }
    let future = version.parse::<u64>()? + 1_000_000;
    w.get(format!("{path}?resourceVersion={future}"))
        .await?
        .refused_like(504, "Timeout", &[&format!("Too large resource version: {future}, current: ")])
        .at(
            "/details/causes",
            json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
        )
        .at("/details/retryAfterSeconds", 1)
        .has("retry-after", "1");
    w.get(format!("{path}?resourceVersion=abc")).await?.refused(
        500,
        "",
        "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
    );
    Ok(())
}

async fn yaml_both_ways(w: &World<'_>) -> Result<()> {
    let body = "# a comment\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  text: |\n    two\n    lines\n  other: \"no\"\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let made =
        w.send("POST", w.maps(), &headers, body).await?.is(201).has("content-type", "application/yaml");
    w.same("text", made.text().contains("kind: ConfigMap\n"), true);
    w.get(format!("{}/a", w.maps()))
        .await?
        .is(200)
        .at("/data", json!({"text": "two\nlines\n", "other": "no"}));
    let read = w.get_as(format!("{}/none", w.maps()), "application/yaml").await?.is(404);
    let read = read.has("content-type", "application/yaml");
    w.same("a failure as YAML", read.text().contains("reason: NotFound\n"), true);
    let pretty = w.get(format!("{}/a?pretty=true", w.maps())).await?.is(200);
    w.same(
        "pretty",
        pretty.text().starts_with("{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n"),
        true,
    );
    Ok(())
}
