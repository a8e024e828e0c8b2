// SPDX-License-Identifier: Apache-2.0
//! Watches: where they begin, what they tell, and how they end.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("from_the_beginning", |w| Box::pin(from_the_beginning(w))),
    ("from_a_version_nothing_is_lost_or_doubled", |w| Box::pin(from_a_version(w))),
    ("selectors_make_additions_and_deletions", |w| Box::pin(selectors_make_additions_and_deletions(w))),
    ("of_one_object", |w| Box::pin(of_one_object(w))),
    ("initial_events_and_their_end", |w| Box::pin(initial_events_and_their_end(w))),
    ("options_that_contradict_each_other", |w| Box::pin(options_that_contradict_each_other(w))),
    ("a_timeout_ends_it_with_a_bookmark", |w| Box::pin(a_timeout_ends_it(w))),
    ("a_forgotten_version_is_an_error_event", |w| Box::pin(a_forgotten_version_is_an_error_event(w))),
    ("as_tables_and_metadata", |w| Box::pin(as_tables_and_metadata(w))),
];

async fn from_the_beginning(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.create(w.widgets(), &widget("b", json!({}))).await?;
    for query in ["watch=1", "watch=true&resourceVersion=0"] {
        let mut events = w.watch(format!("{}?{query}", w.widgets())).await?;
        events.sees(&[("ADDED", "a"), ("ADDED", "b")]).await?;
        w.patch(
            MERGE,
            format!("{}/a", w.widgets()),
            &json!({"metadata": {"labels": {"seen": query.replace('&', "-").replace('=', "_")}}}),
        )
        .await?
        .is(200);
        events.sees(&[("MODIFIED", "a")]).await?;
        w.create(w.widgets(), &widget("c", json!({}))).await?;
        w.delete(format!("{}/c", w.widgets())).await?.is(200);
        events.sees(&[("ADDED", "c"), ("DELETED", "c")]).await?;
    }
    // The old path for watches.
    let old = format!("/apis/example.org/v1/watch/namespaces/{}/widgets?resourceVersion=0", w.namespace);
    w.watch(old).await?.sees(&[("ADDED", "a"), ("ADDED", "b")]).await?;
    Ok(())
}

async fn from_a_version(w: &World<'_>) -> Result<()> {
    let made = w.create(w.maps(), &config_map("a", json!({"n": "0"}))).await?;
    let since = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let path = format!("{}/a", w.maps());
    let mut versions = Vec::new();
    for number in 1..=5 {
        let patched = w.patch(MERGE, &path, &json!({"data": {"n": number.to_string()}})).await?.is(200);
        versions.push(patched.version());
    }
    w.delete(&path).await?.is(200);
    let mut events = w.watch(format!("{}?watch=1&resourceVersion={since}", w.maps())).await?;
    let mut seen = Vec::new();
    for number in 1..=5 {
        let event = events.next().await?;
        w.same("type", event["type"].as_str(), Some("MODIFIED"));
        w.same("state", event["object"]["data"]["n"].as_str().map(str::to_owned), Some(number.to_string()));
        w.same("kind", event["object"]["kind"].as_str(), Some("ConfigMap"));
        seen.push(event["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned());
    }
    w.same("versions", seen, versions.clone());
    let last = events.next().await?;
    w.same("type", last["type"].as_str(), Some("DELETED"));
    w.same("the last state", last["object"]["data"]["n"].as_str(), Some("5"));
    // It is gone in a version of its own, from which a client may go on.
    let version = last["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    w.same("a later version", version.parse::<u64>()? > versions[4].parse::<u64>()?, true);
    let mut again = w.watch(format!("{}?watch=1&resourceVersion={version}", w.maps())).await?;
    w.create(w.maps(), &config_map("next", json!({}))).await?;
    again.sees(&[("ADDED", "next")]).await?;
    Ok(())
}

async fn selectors_make_additions_and_deletions(w: &World<'_>) -> Result<()> {
    let version = w.get(w.widgets()).await?.version();
    let by_label = format!("{}?watch=1&resourceVersion={version}&labelSelector=tier%3Dtop", w.widgets());
    let by_field =
        format!("{}?watch=1&resourceVersion={version}&fieldSelector=spec.colour%3Dred", w.widgets());
    let (mut labels, mut fields) = (w.watch(by_label).await?, w.watch(by_field).await?);
    w.create(w.widgets(), &widget("a", json!({"colour": "blue"}))).await?;
    let path = format!("{}/a", w.widgets());
    let change = async |patch: Value| anyhow::Ok(w.patch(MERGE, &path, &patch).await?.is(200).version());
    change(json!({"metadata": {"labels": {"tier": "top"}}})).await?;
    change(json!({"spec": {"colour": "red"}})).await?;
    let left = change(json!({"metadata": {"labels": {"tier": "low"}}})).await?;
    change(json!({"spec": {"colour": "green"}})).await?;
    change(json!({"metadata": {"labels": {"tier": "top"}}, "spec": {"colour": "red"}})).await?;
    w.delete(&path).await?.is(200);
    labels.sees(&[("ADDED", "a"), ("MODIFIED", "a")]).await?;
    let event = labels.next().await?;
    w.same("leaves", event["type"].as_str(), Some("DELETED"));
    w.same("state before", event["object"]["metadata"]["labels"]["tier"].as_str(), Some("top"));
    w.same(
        "version of the change",
        event["object"]["metadata"]["resourceVersion"].as_str().map(str::to_owned),
        Some(left),
    );
    labels.sees(&[("ADDED", "a"), ("DELETED", "a")]).await?;
    fields
        .sees(&[("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")])
        .await?;
    Ok(())
}

async fn of_one_object(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.create(w.maps(), &config_map("b", json!({}))).await?;
    let mut by_name = w.watch(format!("{}?watch=1&fieldSelector=metadata.name%3Da", w.maps())).await?;
    // Of one object by its path there is only the old form: this reads it.
    w.get(format!("{}/a?watch=1", w.maps())).await?.is(200).at("/kind", "ConfigMap");
    let old = format!("/api/v1/watch/namespaces/{}/configmaps/a", w.namespace);
    let mut by_old_path = w.watch(old).await?;
    w.patch(MERGE, format!("{}/b", w.maps()), &json!({"data": {"k": "v"}})).await?.is(200);
    w.patch(MERGE, format!("{}/a", w.maps()), &json!({"data": {"k": "v"}})).await?.is(200);
    for events in [&mut by_name, &mut by_old_path] {
        events.sees(&[("ADDED", "a"), ("MODIFIED", "a")]).await?;
    }
    Ok(())
}

async fn initial_events_and_their_end(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    let made = w.create(w.widgets(), &widget("b", json!({}))).await?;
    let options = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    for version in ["", "0", version] {
        let mut events = w.watch(format!("{}?{options}&resourceVersion={version}", w.widgets())).await?;
        events.sees(&[("ADDED", "a"), ("ADDED", "b")]).await?;
        let end = events.next().await?;
        w.same("type", end["type"].as_str(), Some("BOOKMARK"));
        let object = &end["object"];
        w.same(
            "kind",
            (object["kind"].as_str(), object["apiVersion"].as_str()),
            (Some("Widget"), Some("example.org/v1")),
        );
        let meta = &object["metadata"];
        w.same("annotation", &meta["annotations"], &json!({"k8s.io/initial-events-end": "true"}));
        let reached = meta["resourceVersion"].as_str().unwrap_or_default().parse::<u64>()?;
        w.same("version", reached >= version.parse().unwrap_or(0), true);
        w.create(w.widgets(), &widget("c", json!({}))).await?;
        events.sees(&[("ADDED", "c")]).await?;
        w.delete(format!("{}/c", w.widgets())).await?.is(200);
        events.sees(&[("DELETED", "c")]).await?;
    }
    let none = w.of("coordination.k8s.io/v1", "leases");
    let mut events = w.watch(format!("{none}?{options}")).await?;
    events.sees(&[("BOOKMARK", "")]).await?;
    Ok(())
}

async fn options_that_contradict_each_other(w: &World<'_>) -> Result<()> {
    let invalid = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let path = w.widgets();
    for (query, message) in [
        (
            "sendInitialEvents=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "sendInitialEvents=false&allowWatchBookmarks=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "resourceVersionMatch=NotOlderThan&resourceVersion=0",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
            "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        ),
    ] {
        w.get(format!("{path}?watch=1&timeoutSeconds=1&{query}")).await?.refused(
            422,
            "Invalid",
            format!("{invalid}{message}"),
        );
    }
    w.get(format!("{path}?watch=1&timeoutSeconds=soon")).await?.is(400);
    let message =
        "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax";
    w.get(format!("{path}?watch=1&resourceVersion=abc")).await?.refused(500, "", message);
    w.get(format!("{path}?watch=1&fieldSelector=spec.none%3Da")).await?.is(400);
    Ok(())
}

async fn a_timeout_ends_it(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let mut plain = w.watch(format!("{}?watch=1&timeoutSeconds=1", w.maps())).await?;
    plain.sees(&[("ADDED", "a")]).await?;
    plain.ends().await?;
    let mut marked =
        w.watch(format!("{}?watch=1&timeoutSeconds=3&allowWatchBookmarks=true", w.maps())).await?;
    let added = marked.next().await?;
    w.same("type", added["type"].as_str(), Some("ADDED"));
    let mark = marked.next().await?;
    w.same("type", mark["type"].as_str(), Some("BOOKMARK"));
    w.same(
        "object",
        (mark["object"]["kind"].as_str(), mark["object"]["apiVersion"].as_str()),
        (Some("ConfigMap"), Some("v1")),
    );
    let version = |event: &Value| {
        event["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse::<u64>()
    };
    w.same("version", version(&mark)? >= version(&added)?, true);
    Ok(())
}

async fn a_forgotten_version_is_an_error_event(w: &World<'_>) -> Result<()> {
    let path = format!("{}?watch=1&resourceVersion=1&timeoutSeconds=60", w.widgets());
    let mut found = Value::Null;
    // Ours has to forget it first.
    for _ in 0..60 {
        let mut events = w.watch(&path).await?;
        w.create(
            w.widgets(),
            &json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"generateName": "any-"}}),
        )
        .await?;
        found = events.next().await?;
        if found["type"] == "ERROR" {
            events.ends().await?;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    w.same("type", found["type"].as_str(), Some("ERROR"));
    let object = &found["object"];
    w.same(
        "code",
        (object["code"].as_u64(), object["reason"].as_str(), object["status"].as_str()),
        (Some(410), Some("Expired"), Some("Failure")),
    );
    let message = object["message"].as_str().unwrap_or_default();
    w.same("message", message.starts_with("too old resource version: 1 ("), true);
    Ok(())
}

async fn as_tables_and_metadata(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({"colour": "red"}))).await?;
    let accept = |form: &str| format!("application/json;as={form};v=v1;g=meta.k8s.io");
    let mut tables = w.watch_as(format!("{}?watch=1", w.widgets()), &accept("Table")).await?;
    let first = tables.next().await?;
    w.same("kind", first["object"]["kind"].as_str(), Some("Table"));
    w.same("columns", first["object"]["columnDefinitions"].as_array().map(Vec::len), Some(6));
    w.same("row", first["object"]["rows"][0]["cells"][1].as_str(), Some("red"));
    w.patch(MERGE, format!("{}/a", w.widgets()), &json!({"spec": {"colour": "blue"}})).await?.is(200);
    let second = tables.next().await?;
    w.same("columns again", &second["object"]["columnDefinitions"], &Value::Null);
    w.same("row", second["object"]["rows"][0]["cells"][1].as_str(), Some("blue"));
    let mut partial =
        w.watch_as(format!("{}?watch=1", w.widgets()), &accept("PartialObjectMetadata")).await?;
    let event = partial.next().await?;
    w.same("kind", event["object"]["kind"].as_str(), Some("PartialObjectMetadata"));
    w.same("spec", &event["object"]["spec"], &Value::Null);
    w.same("name", event["object"]["metadata"]["name"].as_str(), Some("a"));
    Ok(())
}
