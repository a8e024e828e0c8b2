// SPDX-License-Identifier: Apache-2.0
//! Paths, verbs and parameters that are not there.

use anyhow::Result;
use serde_json::json;

use crate::world::{Check, JSON, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("verbs", |w| Box::pin(verbs(w))),
    ("paths", |w| Box::pin(paths(w))),
    ("parameters", |w| Box::pin(parameters(w))),
    ("field_managers", |w| Box::pin(field_managers(w))),
    ("heads", |w| Box::pin(heads(w))),
];

/// What there is instead of a `Status` where nothing is known of the path.
const NOT_FOUND: &str = "404 page not found\n";
const METHOD: &str = "the server does not allow this method on the requested resource";

async fn verbs(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let (path, body) = (w.maps(), config_map("a", json!({})));
    w.post(format!("{path}/a"), &body).await?.refused(405, "MethodNotAllowed", METHOD).details(json!({}));
    w.put(&path, &body).await?.refused(405, "MethodNotAllowed", METHOD);
    w.patch(MERGE, &path, &json!({})).await?.refused(405, "MethodNotAllowed", METHOD);
    let (path, body) = (w.widgets(), widget("a", json!({})));
    w.put(&path, &body).await?.refused(400, "BadRequest", "name must be provided");
    w.patch(MERGE, &path, &json!({})).await?.refused(400, "BadRequest", "name must be provided");
    w.post("/apis/example.org/v1/widgets", &body).await?.is(404).text_is(NOT_FOUND);
    w.delete("/apis/example.org/v1/widgets").await?.is(404).text_is(NOT_FOUND);
    w.delete("/version").await?.is(405);
    w.delete("/api/v1").await?.is(405);
    Ok(())
}

async fn paths(w: &World<'_>) -> Result<()> {
    let message = "the server could not find the requested resource";
    for path in [
        w.core("gadgets"),
        "/api/v1/gadgets".to_owned(),
        "/api/v9/configmaps".to_owned(),
        "/apis/apiextensions.k8s.io/v1/gadgets".to_owned(),
    ] {
        w.get(&path).await?.refused(404, "NotFound", message).details(json!({}));
        w.post(&path, &json!({})).await?.refused(404, "NotFound", message);
    }
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.get(format!("{}/a/none", w.maps())).await?.refused(404, "NotFound", message);
    // What is no part of the API is not there, in plain words.
    for path in [
        "/nothing".to_owned(),
        "/apis/none.example.org/v1/things".to_owned(),
        "/apis/example.org/v9/widgets".to_owned(),
        "/apis/example.org/v1/gadgets".to_owned(),
        w.of("example.org/v1", "gadgets"),
    ] {
        let answer = w.get(path).await?.is(404);
        answer.text_is(NOT_FOUND).has("content-type", "text/plain; charset=utf-8");
    }
    Ok(())
}

async fn parameters(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.get(format!("{}?color=blue&x", w.maps())).await?.is(200).lists(&["a"]);
    for query in ["limit=many", "timeoutSeconds=x", "resourceVersion=-1"] {
        let answer = w.get(format!("{}?{query}", w.maps())).await?;
        w.same(
            &format!("{query}: {}", answer.text()),
            (answer.code, answer.str("/reason")),
            (400, "BadRequest"),
        );
    }
    let answer = w.get(format!("{}?limit=many", w.maps())).await?;
    answer.refused(400, "BadRequest", "strconv.ParseInt: parsing \"many\": invalid syntax");
    for query in ["allowWatchBookmarks=perhaps", "watch=no", "watch=0", "watch=false"] {
        let answer = w.get(format!("{}?{query}&timeoutSeconds=1", w.maps())).await?;
        w.same(&format!("{query}: {}", answer.text()), answer.code, 200);
    }
    Ok(())
}

async fn field_managers(w: &World<'_>) -> Result<()> {
    let long = "x".repeat(129);
    let message = |kind: &str| {
        format!("{kind}.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes")
    };
    w.post(format!("{}?fieldManager={long}", w.maps()), &config_map("a", json!({}))).await?.refused(
        422,
        "Invalid",
        message("CreateOptions"),
    );
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.put(format!("{}/a?fieldManager={long}", w.maps()), &config_map("a", json!({}))).await?.refused(
        422,
        "Invalid",
        message("UpdateOptions"),
    );
    w.patch(MERGE, format!("{}/a?fieldManager={long}", w.maps()), &json!({})).await?.refused(
        422,
        "Invalid",
        message("PatchOptions"),
    );
    w.post(format!("{}?fieldManager=a%07b", w.maps()), &config_map("b", json!({}))).await?.refused(
        422,
        "Invalid",
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\ab\": invalid character U+0007 (at position 1)",
    );
    // A manager's name out of the client's own is cut instead.
    let agent = "y".repeat(200);
    let made = w
        .send(
            "POST",
            w.maps(),
            &[("content-type", JSON), ("user-agent", &agent)],
            config_map("b", json!({"k": "v"})).to_string(),
        )
        .await?
        .is(201);
    w.same("cut", made.str("/metadata/managedFields/0/manager").len(), 128);
    Ok(())
}

async fn heads(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let there = w.send("HEAD", format!("{}/a", w.maps()), &[], "").await?;
    let missing = w.send("HEAD", format!("{}/none", w.maps()), &[], "").await?;
    let listed = w.send("HEAD", w.maps(), &[], "").await?;
    w.same("codes", (there.code, missing.code, listed.code), (405, 405, 405));
    Ok(())
}
