// SPDX-License-Identifier: Apache-2.0
//! The OpenAPI documents, as far as clients use them: to validate, to explain, to merge.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, World};

pub const ALL: &[Check] = &[
    ("the_index_of_version_three", |w| Box::pin(the_index_of_version_three(w))),
    ("a_definition_in_version_three", |w| Box::pin(a_definition_in_version_three(w))),
    ("built_in_kinds_in_version_three", |w| Box::pin(built_in_kinds_in_version_three(w))),
    ("version_two", |w| Box::pin(version_two(w))),
];

async fn the_index_of_version_three(w: &World<'_>) -> Result<()> {
    let index = w.get("/openapi/v3").await?.is(200);
    let paths = index.json["paths"].as_object().cloned().unwrap_or_default();
    for path in [
        "api",
        "api/v1",
        "apis",
        "apis/apiextensions.k8s.io",
        "apis/apiextensions.k8s.io/v1",
        "apis/coordination.k8s.io/v1",
        "apis/events.k8s.io/v1",
        "apis/example.org/v1",
        "version",
    ] {
        let address =
            paths.get(path).and_then(|entry| entry["serverRelativeURL"].as_str()).unwrap_or_default();
        w.same(path, address.starts_with(&format!("/openapi/v3/{path}?hash=")), true);
    }
    let address = paths["apis/example.org/v1"]["serverRelativeURL"].as_str().unwrap_or_default().to_owned();
    let document = w
        .get(&address)
        .await?
        .is(200)
        .has("cache-control", "public, immutable")
        .has("content-type", "application/json");
    let again = w.send("GET", &address, &[("if-none-match", document.header("etag"))], "").await?.is(304);
    w.same("body", again.text(), "");
    w.get("/openapi/v3/apis/example.org/v1?hash=0").await?.is(301).has("location", &address);
    w.get("/openapi/v3/apis/example.org/v9").await?.is(404);
    w.get("/openapi/v3/apis/example.org/v1").await?.is(200).at("/openapi", "3.0.0");
    Ok(())
}

async fn a_definition_in_version_three(w: &World<'_>) -> Result<()> {
    let document = w.get("/openapi/v3/apis/example.org/v1").await?.is(200).object();
    let schema = &document["components"]["schemas"]["org.example.v1.Widget"];
    w.same(
        "kind",
        &schema["x-kubernetes-group-version-kind"],
        &json!([{"group": "example.org", "version": "v1", "kind": "Widget"}]),
    );
    w.same("description", schema["description"].as_str(), Some("A thing to test with."));
    let spec = &schema["properties"]["spec"]["properties"];
    w.same("enum", &spec["colour"], &json!({"type": "string", "enum": ["red", "green", "blue"]}));
    w.same("default", &spec["options"]["properties"]["level"], &json!({"type": "integer", "default": 3}));
    w.same("list", &spec["parts"]["x-kubernetes-list-map-keys"], &json!(["id"]));
    w.same(
        "metadata",
        schema["properties"]["metadata"]
            .to_string()
            .contains("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        true,
    );
    let path = "/apis/example.org/v1/namespaces/{namespace}/widgets/{name}";
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    for path in [
        path,
        "/apis/example.org/v1/widgets",
        "/apis/example.org/v1/namespaces/{namespace}/widgets",
        &format!("{path}/status"),
        &format!("{path}/scale"),
    ] {
        w.same(path, paths.contains_key(path), true);
    }
    let patch = &document["paths"][path]["patch"];
    let mut forms: Vec<String> = patch["requestBody"]["content"]
        .as_object()
        .map(|all| all.keys().cloned().collect())
        .unwrap_or_default();
    forms.sort();
    w.same(
        "patches",
        forms.iter().filter(|form| form.contains("patch")).map(String::as_str).collect::<Vec<_>>(),
        vec!["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"],
    );
    w.same("action", patch["x-kubernetes-action"].as_str(), Some("patch"));
    let mut names: Vec<&str> =
        patch["parameters"].as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect();
    names.sort_unstable();
    w.same("parameters", names, vec!["dryRun", "fieldManager", "fieldValidation", "force"]);
    Ok(())
}

async fn built_in_kinds_in_version_three(w: &World<'_>) -> Result<()> {
    let document = w.get("/openapi/v3/api/v1").await?.is(200).object();
    let schemas = &document["components"]["schemas"];
    let meta = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
    w.same("owners", &meta["ownerReferences"]["x-kubernetes-patch-merge-key"], &json!("uid"));
    w.same("owners", &meta["ownerReferences"]["x-kubernetes-list-map-keys"], &json!(["uid"]));
    w.same("finalizers", &meta["finalizers"]["x-kubernetes-patch-strategy"], &json!("merge"));
    let secret = &schemas["io.k8s.api.core.v1.Secret"];
    w.same(
        "kind",
        &secret["x-kubernetes-group-version-kind"],
        &json!([{"group": "", "version": "v1", "kind": "Secret"}]),
    );
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect::<std::collections::BTreeSet<_>>())
            .unwrap_or_default()
    };
    let wanted =
        ["apiVersion", "data", "immutable", "kind", "metadata", "stringData", "type"].map(str::to_owned);
    w.same("fields", keys(&secret["properties"]), wanted.into_iter().collect());
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/secrets/{name}"]["patch"]["requestBody"]["content"];
    w.same("strategic", patch.get("application/strategic-merge-patch+json").is_some(), true);
    Ok(())
}

async fn version_two(w: &World<'_>) -> Result<()> {
    let document = w
        .until("the document has the definition", "/openapi/v2", |answer| {
            answer.json["definitions"].get("org.example.v1.Widget").is_some()
        })
        .await?;
    w.same("version", document["swagger"].as_str(), Some("2.0"));
    let widget = &document["definitions"]["org.example.v1.Widget"];
    w.same(
        "kind",
        &widget["x-kubernetes-group-version-kind"],
        &json!([{"group": "example.org", "version": "v1", "kind": "Widget"}]),
    );
    let spec = &widget["properties"]["spec"]["properties"];
    w.same("enum", &spec["colour"]["type"], &json!("string"));
    // kubectl refuses unknown fields of what has a type.
    w.same("free", &spec["free"]["type"], &Value::Null);
    w.same("nullable", &spec["note"]["nullable"], &Value::Null);
    let map = &document["definitions"]["io.k8s.api.core.v1.ConfigMap"]["properties"]["data"];
    w.same(
        "data",
        (&map["type"], &map["additionalProperties"]["type"]),
        (&json!("object"), &json!("string")),
    );
    w.same(
        "paths",
        document["paths"].get("/apis/example.org/v1/namespaces/{namespace}/widgets").is_some(),
        true,
    );
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = w.get_as("/openapi/v2", protobuf).await?.is(200);
    w.same(
        "type",
        answer.header("content-type").starts_with("application/com.github.proto-openapi.spec.v2"),
        true,
    );
    w.get_as("/openapi/v2", "text/html").await?.is(406);
    Ok(())
}
