// SPDX-License-Identifier: Apache-2.0

//! What the server says of itself: OpenAPI documents, discovery, and the scale subresource that they announce.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use common::{Fixture, WIDGETS, start, widget_json};
use serde_json::{Value, json};

/// Follows every reference of a document; the names that lead nowhere.
fn dangling(value: &Value, root: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str)
                && root.pointer(reference.trim_start_matches('#')).is_none()
            {
                found.push(reference.to_owned());
            }
            map.values().for_each(|below| dangling(below, root, found));
        }
        Value::Array(list) => list.iter().for_each(|below| dangling(below, root, found)),
        _ => {}
    }
}

async fn document(fixture: &Fixture, path: &str) -> Value {
    let answer = fixture.get(path).await;
    assert_eq!(answer.code, 200, "{path}: {}", answer.text);
    let mut found = Vec::new();
    dangling(&answer.json, &answer.json, &mut found);
    assert!(found.is_empty(), "{path} refers to {found:?}");
    answer.json
}

#[tokio::test]
async fn version_3_has_every_group_and_version_under_a_hash() {
    let fixture = start().await;
    let index = fixture.get("/openapi/v3").await.json;
    let paths = index["paths"].as_object().unwrap();
    for path in
        ["api/v1", "apis/apiextensions.k8s.io/v1", "apis/coordination.k8s.io/v1", "apis/example.org/v1"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, entry) in paths {
        let address = entry["serverRelativeURL"].as_str().unwrap();
        assert!(address.starts_with(&format!("/openapi/v3/{path}?hash=")), "{address}");
        document(&fixture, address).await;
    }
    let address = paths["apis/example.org/v1"]["serverRelativeURL"].as_str().unwrap();
    let answer = fixture.get(address).await;
    assert_eq!(answer.headers["cache-control"], "public, immutable");
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    let again = fixture.send_with("GET", address, &[("if-none-match", &tag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    let stale = fixture.get("/openapi/v3/apis/example.org/v1?hash=0").await;
    assert_eq!((stale.code, stale.headers["location"].to_str().unwrap()), (301, address));
    let gone = fixture.get("/openapi/v3/apis/example.org/v9").await;
    assert_eq!(gone.code, 404);
    fixture.server.close().await;
}

#[tokio::test]
async fn schemas_say_how_lists_merge_and_whose_they_are() {
    let fixture = start().await;
    let core = document(&fixture, "/openapi/v3/api/v1").await;
    let schemas = &core["components"]["schemas"];
    let meta = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
    assert_eq!(meta["ownerReferences"]["x-kubernetes-patch-merge-key"], "uid");
    assert_eq!(meta["finalizers"]["x-kubernetes-patch-strategy"], "merge");
    let secret = &schemas["io.k8s.api.core.v1.Secret"];
    assert_eq!(
        secret["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Secret"}])
    );
    assert_eq!(secret.get("required"), None);
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/secrets/{name}"]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    let custom = document(&fixture, "/openapi/v3/apis/example.org/v1").await;
    let path = "/apis/example.org/v1/namespaces/{namespace}/widgets/{name}";
    let patch = &custom["paths"][path]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(custom["paths"].get(format!("{path}/status")).is_some());
    let scale = &custom["paths"][format!("{path}/scale")]["get"]["x-kubernetes-group-version-kind"];
    assert_eq!(scale, &json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    let widget = &custom["components"]["schemas"]["org.example.v1.Widget"];
    assert_eq!(widget["properties"]["spec"]["properties"]["size"]["default"], 7);
    assert!(widget["properties"]["metadata"]["allOf"].is_array());
    fixture.server.close().await;
}

#[tokio::test]
async fn version_2_is_there_as_json_and_as_protobuf() {
    let fixture = start().await;
    let v2 = document(&fixture, "/openapi/v2").await;
    assert_eq!(v2["swagger"], "2.0");
    let spec = &v2["definitions"]["org.example.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(spec["free"].get("type"), None, "kubectl would refuse unknown fields of a typed object");
    assert_eq!(spec["note"].get("nullable"), None);
    assert!(!v2.to_string().contains("#/components/"));
    assert!(!v2["definitions"]["org.example.v1.Widget"].to_string().contains("anyOf"));
    let body = &v2["paths"]["/api/v1/namespaces/{namespace}/configmaps"]["post"]["parameters"];
    assert!(body.as_array().unwrap().iter().any(|p| p["in"] == "body"));
    let wanted = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = fixture.send_with("GET", "/openapi/v2", &[("accept", wanted)], "").await;
    assert_eq!(answer.code, 200);
    assert!(answer.headers["content-type"].to_str().unwrap().ends_with("+protobuf"));
    // Field 1, "2.0"; then the title and version of field 2.
    assert!(answer.text.starts_with("\u{a}\u{3}2.0\u{12}"), "{:?}", answer.text.get(..20));
    assert!(answer.text.contains("org.example.v1.Widget"));
    let refused = fixture.send_with("GET", "/openapi/v2", &[("accept", "text/html")], "").await;
    assert_eq!(refused.code, 406);
    fixture.server.close().await;
}

#[tokio::test]
async fn documents_follow_the_definitions() {
    let fixture = start().await;
    let before = fixture.get("/openapi/v3").await.json;
    let change = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/fresh",
        "value": {"type": "string", "description": "It was not there before."}}]);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.org";
    let patched = fixture.send("PATCH", path, "application/json-patch+json", change.to_string()).await;
    assert_eq!(patched.code, 200, "{}", patched.text);
    let after = fixture.get("/openapi/v3").await.json;
    assert_ne!(before["paths"]["apis/example.org/v1"], after["paths"]["apis/example.org/v1"]);
    assert_eq!(before["paths"]["api/v1"], after["paths"]["api/v1"]);
    assert!(fixture.get("/openapi/v3/apis/example.org/v1").await.text.contains("It was not there before."));
    fixture.server.close().await;
}

#[tokio::test]
async fn scale_reads_and_writes_the_replicas() {
    let fixture = start().await;
    let created = fixture
        .send("POST", WIDGETS, "application/json", widget_json("w", json!({"size": 3})).to_string())
        .await;
    assert_eq!(created.code, 201, "{}", created.text);
    let path = format!("{WIDGETS}/w/scale");
    let scale = fixture.get(&path).await.json;
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(3), &json!(0)));
    let merged = r#"{"spec":{"replicas":5}}"#;
    let patched = fixture.send("PATCH", &path, "application/merge-patch+json", merged).await;
    assert_eq!((patched.code, &patched.json["spec"]["replicas"]), (200, &json!(5)));
    // The version of the first answer is no longer the newest.
    let stale = fixture.send("PUT", &path, "application/json", scale.to_string()).await;
    assert_eq!((stale.code, stale.json["reason"].as_str()), (409, Some("Conflict")));
    let negative = r#"{"spec":{"replicas":-1}}"#;
    let refused = fixture.send("PATCH", &path, "application/merge-patch+json", negative).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let strategic = fixture.send("PATCH", &path, "application/strategic-merge-patch+json", merged).await;
    assert_eq!(strategic.code, 415);
    let applied =
        r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"w"},"spec":{"replicas":9}}"#;
    let applied = fixture
        .send(
            "PATCH",
            &format!("{path}?fieldManager=scaler&force=true"),
            "application/apply-patch+yaml",
            applied,
        )
        .await;
    assert_eq!(applied.code, 200, "{}", applied.text);
    let widget = fixture.get(&format!("{WIDGETS}/w")).await.json;
    assert_eq!((&widget["spec"]["size"], &widget["metadata"]["generation"]), (&json!(9), &json!(3)));
    // The schema's bounds hold on this way, too.
    let beyond = r#"{"spec":{"replicas":101}}"#;
    let refused = fixture.send("PATCH", &path, "application/merge-patch+json", beyond).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    fixture.server.close().await;
}
