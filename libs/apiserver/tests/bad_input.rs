// SPDX-License-Identifier: Apache-2.0

//! Requests that are wrong in every way: each gets the code and reason that Kubernetes gives, and the server goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use common::{Fixture, WIDGETS, start, widget_json};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Sends a body and expects a `Status` with this code and reason.
async fn expect(
    f: &Fixture,
    method: &str,
    path: &str,
    kind: &str,
    body: impl Into<Vec<u8>>,
    wanted: (u16, &str),
) {
    let answer = f.send(method, path, kind, body).await;
    assert_eq!(
        (answer.code, answer.json["reason"].as_str()),
        (wanted.0, Some(wanted.1)),
        "{method} {path} {kind}: {}",
        answer.text
    );
    assert_eq!(answer.json["kind"], "Status");
}

/// What Kubernetes says of paths that nobody serves: no Status.
async fn expect_no_page(f: &Fixture, method: &str, path: &str, body: impl Into<Vec<u8>>) {
    let answer = f.send(method, path, JSON, body).await;
    assert_eq!((answer.code, answer.text.trim()), (404, "404 page not found"), "{method} {path}");
}

const JSON: &str = "application/json";

#[tokio::test]
async fn wrong_bodies() {
    let fixture = start().await;
    let f = &fixture;
    for body in ["", "{", "[]", "null", "\"x\"", "{\"kind\":1}", "\u{feff}{}", "{\"a\":1,}"] {
        expect(f, "POST", WIDGETS, JSON, body, (400, "BadRequest")).await;
    }
    let nested = "[".repeat(100_000);
    expect(f, "POST", WIDGETS, JSON, nested, (400, "BadRequest")).await;
    expect(f, "POST", WIDGETS, JSON, vec![0xff, 0xfe, 0x00], (400, "BadRequest")).await;
    for body in ["a: [", "\t- x", "&a [*a, *a", "a: &x [*x]"] {
        expect(f, "POST", WIDGETS, "application/yaml", body, (400, "BadRequest")).await;
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    expect(f, "POST", WIDGETS, "application/yaml", bomb, (400, "BadRequest")).await;
    let good = widget_json("a", json!({})).to_string();
    let protobuf = "application/vnd.kubernetes.protobuf";
    let envelope = b"k8s\0\n\x18\n\x0eexample.org/v1\x12\x06Widget\x12\x00";
    expect(f, "POST", WIDGETS, protobuf, envelope, (415, "UnsupportedMediaType")).await;
    expect(f, "POST", WIDGETS, protobuf, good.clone(), (400, "BadRequest")).await;
    expect(f, "POST", WIDGETS, "text/plain", good, (415, "UnsupportedMediaType")).await;
    let other_kind =
        json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "a"}}).to_string();
    expect(f, "POST", WIDGETS, JSON, other_kind, (422, "Invalid")).await;
    let elsewhere = json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "tinkerbell"}});
    expect(f, "POST", WIDGETS, JSON, elsewhere.to_string(), (400, "BadRequest")).await;
    let large = widget_json("large", json!({"lines": ["x".repeat(1_600_000)]})).to_string();
    let refused = f.send("POST", WIDGETS, JSON, large).await;
    assert_eq!((refused.code, &refused.json["message"]), (500, &json!("etcdserver: request is too large")));
    expect(f, "POST", WIDGETS, JSON, vec![b' '; 4 << 20], (413, "RequestEntityTooLarge")).await;
}

#[tokio::test]
async fn wrong_metadata() {
    let fixture = start().await;
    let cases = [
        json!({}),
        json!({"name": "UPPER"}),
        json!({"name": "a/b"}),
        json!({"name": "a".repeat(254)}),
        json!({"name": "a", "labels": {"-bad": "x"}}),
        json!({"name": "a", "labels": {"k": "white space"}}),
        json!({"name": "a", "annotations": {"k": "x".repeat(300_000)}}),
        json!({"name": "a", "finalizers": ["no spaces allowed"]}),
        json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "", "uid": "u"}]}),
    ];
    for metadata in cases {
        let body =
            json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": metadata}).to_string();
        expect(&fixture, "POST", WIDGETS, JSON, body, (422, "Invalid")).await;
    }
    for metadata in [json!({"name": 1}), json!({"name": "a", "labels": {"k": 1}}), json!("text"), json!([])] {
        let body =
            json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": metadata}).to_string();
        expect(&fixture, "POST", WIDGETS, JSON, body, (400, "BadRequest")).await;
    }
}

#[tokio::test]
async fn wrong_verbs_paths_and_patches() {
    let fixture = start().await;
    let f = &fixture;
    let one = format!("{WIDGETS}/a");
    let good = widget_json("a", json!({}));
    assert_eq!(f.send("POST", WIDGETS, JSON, good.to_string()).await.code, 201);
    // Kubernetes creates custom resources here, too.
    expect(f, "POST", &one, JSON, good.to_string(), (409, "AlreadyExists")).await;
    expect(f, "PUT", WIDGETS, JSON, good.to_string(), (400, "BadRequest")).await;
    expect_no_page(f, "POST", "/apis/example.org/v1/widgets", good.to_string()).await;
    expect(f, "DELETE", "/api/v1/namespaces/default", JSON, "", (403, "Forbidden")).await;
    expect(f, "DELETE", "/version", JSON, "", (405, "MethodNotAllowed")).await;
    expect_no_page(f, "GET", "/apis/example.org/v9/widgets", "").await;
    expect(f, "GET", "/apis/nobody.org", JSON, "", (404, "NotFound")).await;
    expect(f, "GET", &format!("{one}/size"), JSON, "", (404, "NotFound")).await;
    expect(f, "PUT", &one, JSON, good.to_string(), (422, "Invalid")).await;
    expect(f, "PUT", &format!("{WIDGETS}/b"), JSON, good.to_string(), (400, "BadRequest")).await;
    let mut renamed = good.clone();
    renamed["metadata"] = json!({"name": "b", "resourceVersion": "1"});
    expect(f, "PUT", &one, JSON, renamed.to_string(), (400, "BadRequest")).await;
    expect(f, "PATCH", &one, "application/strategic-merge-patch+json", "{}", (415, "UnsupportedMediaType"))
        .await;
    expect(f, "PATCH", &one, JSON, "{}", (415, "UnsupportedMediaType")).await;
    expect(f, "PATCH", &one, "application/merge-patch+json", "[", (400, "BadRequest")).await;
    expect(f, "PATCH", &one, "application/json-patch+json", "{}", (400, "BadRequest")).await;
    let nowhere = json!([{"op": "remove", "path": "/spec/none"}]).to_string();
    expect(f, "PATCH", &one, "application/json-patch+json", nowhere, (422, "Invalid")).await;
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"size": 3}}).to_string();
    expect(f, "PATCH", &one, "application/merge-patch+json", stale, (409, "Conflict")).await;
    let uid = json!({"metadata": {"uid": "other"}}).to_string();
    expect(f, "PATCH", &one, "application/merge-patch+json", uid, (422, "Invalid")).await;
    expect(f, "PATCH", &format!("{one}?force=true"), "application/merge-patch+json", "{}", (422, "Invalid"))
        .await;
    for query in [
        "labelSelector=%3D%3D",
        "fieldSelector=spec.nope%3D1",
        "limit=many",
        "resourceVersion=x",
        "continue=%25",
    ] {
        expect(f, "GET", &format!("{WIDGETS}?{query}"), JSON, "", (400, "BadRequest")).await;
    }
    let unmatched = format!("{WIDGETS}?resourceVersionMatch=Exact");
    expect(f, "GET", &unmatched, JSON, "", (422, "Invalid")).await;
    let given_version = json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "v", "resourceVersion": "5"}});
    assert_eq!(f.send("POST", WIDGETS, JSON, given_version.to_string()).await.code, 500);
    let protobuf =
        f.send_with("GET", WIDGETS, &[("accept", "application/vnd.kubernetes.protobuf")], "").await;
    assert_eq!((protobuf.code, protobuf.json["reason"].as_str()), (406, Some("NotAcceptable")));
}

#[tokio::test]
async fn wrong_crds_are_refused_with_all_reasons() {
    let fixture = start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "wrong"},
        "spec": {"group": "example.org", "scope": "Galaxy", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": false,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}}}]}});
    let answer = fixture.send("POST", path, JSON, crd.to_string()).await;
    assert_eq!((answer.code, answer.json["reason"].as_str()), (422, Some("Invalid")));
    let fields: Vec<&str> = answer.json["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["field"].as_str().unwrap())
        .collect();
    for field in [
        "metadata.name",
        "spec.scope",
        "spec.versions",
        "spec.validation.openAPIV3Schema.properties[a].pattern",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,5}".prop_map(Value::from),
    ];
    let keys = prop_oneof![
        Just("spec".to_owned()),
        Just("status".to_owned()),
        Just("metadata".to_owned()),
        Just("name".to_owned()),
        Just("labels".to_owned()),
        Just("finalizers".to_owned()),
        Just("ownerReferences".to_owned()),
        Just("parts".to_owned()),
        Just("managedFields".to_owned()),
        Just("fieldsV1".to_owned()),
        Just("deletionTimestamp".to_owned()),
        Just("size".to_owned()),
        Just("id".to_owned()),
        "[a-z]{1,3}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(keys.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Whatever is sent, the answer is a success or a client error, and what is stored can be read back and listed.
#[test]
fn no_body_breaks_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(start());
    let base = widget_json("target", json!({"parts": [{"id": "a"}]}));
    runtime.block_on(async {
        assert_eq!(fixture.send("POST", WIDGETS, JSON, base.to_string()).await.code, 201)
    });
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(mut body in arbitrary_json(), kind in 0..5_usize)| {
        let (method, path, media) = [
            ("POST", WIDGETS.to_owned(), JSON),
            ("PUT", format!("{WIDGETS}/target"), JSON),
            ("PATCH", format!("{WIDGETS}/target"), "application/merge-patch+json"),
            ("PATCH", format!("{WIDGETS}/target?fieldManager=f&force=true"), "application/apply-patch+yaml"),
            ("DELETE", format!("{WIDGETS}/none"), JSON),
        ][kind].clone();
        if let Some(map) = body.as_object_mut() {
            map.insert("apiVersion".into(), "example.org/v1".into());
            map.insert("kind".into(), "Widget".into());
        }
        let answer = runtime.block_on(fixture.send(method, &path, media, body.to_string()));
        // Two kinds of bodies Kubernetes refuses with 500: options that do not decode, and configurations that do not fit.
        let accidents: &[&str] = match (method, media) {
            ("DELETE", _) => &[
                "couldn't get version/kind; json parse error: ",
                "no kind \"Widget\" is registered for version \"example.org/v1\" in scheme ",
            ],
            // About what the configuration itself says that it is.
            (_, "application/apply-patch+yaml") => &["failed to create typed patch object ("],
            _ => &[],
        };
        let said = answer.json["message"].as_str().unwrap_or_default();
        let expected = answer.code == 500 && accidents.iter().any(|words| said.starts_with(words));
        prop_assert!(answer.code < 500 || expected, "{} {} {body}: {}", method, path, answer.text);
        let list = runtime.block_on(fixture.get(WIDGETS));
        prop_assert_eq!(list.code, 200);
    });
}
