// SPDX-License-Identifier: Apache-2.0
//! Bodies that cannot be read, and bodies that are too much.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, JSON, World, YAML, config_map, widget};

pub const ALL: &[Check] = &[
    ("malformed_json", |w| Box::pin(malformed_json(w))),
    ("malformed_yaml", |w| Box::pin(malformed_yaml(w))),
    ("another_kind", |w| Box::pin(another_kind(w))),
    ("media_types", |w| Box::pin(media_types(w))),
    ("too_large", |w| Box::pin(too_large(w))),
    ("too_deep", |w| Box::pin(too_deep(w))),
];

async fn malformed_json(w: &World<'_>) -> Result<()> {
    for (path, kind) in [(w.maps(), "ConfigMap"), (w.widgets(), "Widget")] {
        for body in ["{", "[]", "\"x\"", "5", "{\"a\":1,}", "{\"kind\":1}", "\u{feff}{}", "{\"a\" 1}", "tru"]
        {
            let answer = w.send("POST", &path, &[("content-type", JSON)], body).await?;
            w.same(
                &format!("{kind} {body:?}: {}", answer.text()),
                (answer.code, answer.str("/reason"), answer.str("/kind")),
                (400, "BadRequest", "Status"),
            );
        }
        let answer = w.send("POST", &path, &[("content-type", JSON)], vec![0xff, 0xfe, 0x00]).await?;
        w.same(&answer.text(), (answer.code, answer.str("/reason")), (400, "BadRequest"));
    }
    let headers = [("content-type", JSON)];
    w.send("POST", w.maps(), &headers, "{\"a\": }").await?.refused(
        400,
        "BadRequest",
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: invalid character '}' looking for beginning of value ({\"a\": })",
    );
    w.send("POST", w.maps(), &headers, "null").await?.refused(
        422,
        "Invalid",
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
    );
    w.send("POST", w.widgets(), &headers, "null").await?.is(400).at("/reason", "BadRequest");
    w.send("POST", w.maps(), &headers, "").await?.is(400).at("/reason", "BadRequest");
    w.send("POST", w.widgets(), &headers, "").await?.is(400).at("/reason", "BadRequest");
    w.send("PUT", format!("{}/a", w.maps()), &headers, "{").await?.is(400);
    Ok(())
}

async fn malformed_yaml(w: &World<'_>) -> Result<()> {
    for path in [w.maps(), w.widgets()] {
        for body in ["a: [", "\t- x", "a: b: c", "- list", "just words"] {
            let answer = w.send("POST", &path, &[("content-type", YAML)], body).await?;
            w.same(
                &format!("{body:?}: {}", answer.text()),
                (answer.code, answer.str("/reason")),
                (400, "BadRequest"),
            );
        }
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    let answer = w.send("POST", w.maps(), &[("content-type", YAML)], bomb).await?;
    w.same(&answer.text(), (answer.code, answer.str("/reason")), (400, "BadRequest"));
    Ok(())
}

async fn another_kind(w: &World<'_>) -> Result<()> {
    let mut other = config_map("a", json!({}));
    other["kind"] = "Secret".into();
    w.post(w.maps(), &other).await?.refused(400, "BadRequest", "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion");
    other["kind"] = "Sculpture".into();
    w.post(w.maps(), &other).await?.refused(400, "BadRequest", "Sculpture in version \"v1\" cannot be handled as a ConfigMap: no kind \"Sculpture\" is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:110\"");
    let mut other = config_map("a", json!({}));
    other["apiVersion"] = "v2".into();
    w.post(w.maps(), &other).await?.refused_like(400, "BadRequest", &["v2"]);
    let mut other = widget("a", json!({}));
    other["kind"] = "Gadget".into();
    w.post(w.widgets(), &other)
        .await?
        .refused(422, "Invalid", "Gadget.example.org \"a\" is invalid: kind: Invalid value: \"Gadget\": must be Widget")
        .details(json!({"name": "a", "group": "example.org", "kind": "Gadget",
            "causes": [{"reason": "FieldValueInvalid", "message": "Invalid value: \"Gadget\": must be Widget", "field": "kind"}]}));
    let mut other = widget("a", json!({}));
    other["apiVersion"] = "example.org/v2".into();
    w.post(w.widgets(), &other).await?.refused_like(400, "BadRequest", &["example.org/v2", "example.org/v1"]);
    // Built-in kinds may leave both out, custom resources may not.
    w.post(w.maps(), &json!({"metadata": {"name": "bare"}})).await?.is(201).at("/kind", "ConfigMap");
    w.post(w.widgets(), &json!({"metadata": {"name": "bare"}})).await?.refused_like(
        400,
        "BadRequest",
        &["Object 'Kind' is missing in"],
    );
    Ok(())
}

async fn media_types(w: &World<'_>) -> Result<()> {
    let accepted = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let map = config_map("a", json!({})).to_string();
    for form in ["text/plain", "application/xml", "application/x-www-form-urlencoded", "nonsense"] {
        w.send("POST", w.maps(), &[("content-type", form)], map.clone())
            .await?
            .refused(415, "UnsupportedMediaType", accepted)
            .details(Value::Null);
    }
    let body = widget("a", json!({})).to_string();
    w.send("POST", w.widgets(), &[("content-type", "text/plain")], body.clone()).await?.refused(
        415,
        "UnsupportedMediaType",
        accepted,
    );
    w.send("POST", w.maps(), &[], map.clone()).await?.is(201);
    w.send("POST", w.widgets(), &[("content-type", "application/json; charset=utf-8")], body).await?.is(201);
    let protobuf =
        w.send("POST", w.maps(), &[("content-type", "application/vnd.kubernetes.protobuf")], map).await?;
    w.same(&protobuf.text(), (protobuf.code, protobuf.str("/reason")), (400, "BadRequest"));
    Ok(())
}

async fn too_large(w: &World<'_>) -> Result<()> {
    // What etcd does not take.
    let large = widget("large", json!({"lines": ["x".repeat(1_600_000)]}));
    w.post(w.widgets(), &large).await?.refused(500, "", "etcdserver: request is too large");
    let below = widget("below", json!({"lines": ["x".repeat(1_500_000)]}));
    w.post(w.widgets(), &below).await?.is(201);
    // What is not read at all.
    let huge = config_map("huge", json!({"k": "x".repeat(3 * 1024 * 1024)}));
    w.post(w.maps(), &huge)
        .await?
        .refused(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")
        .details(Value::Null);
    let patch = json!({"spec": {"lines": ["x".repeat(3 * 1024 * 1024)]}});
    w.patch(crate::world::MERGE, format!("{}/below", w.widgets()), &patch).await?.refused(
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 3145728",
    );
    w.get(w.widgets()).await?.is(200).lists(&["below"]);
    Ok(())
}

async fn too_deep(w: &World<'_>) -> Result<()> {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let body = |name: &str, depth: usize| {
        format!(
            "{{\"apiVersion\":\"example.org/v1\",\"kind\":\"Widget\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{\"free\":{}}}}}",
            nested(depth)
        )
    };
    let json = [("content-type", JSON)];
    w.send("POST", w.widgets(), &json, body("some", 100)).await?.is(201);
    let answer = w.send("POST", w.widgets(), &json, body("deep", 20_000)).await?;
    w.same(&answer.text(), (answer.code, answer.str("/reason")), (400, "BadRequest"));
    for path in [w.maps(), w.widgets()] {
        let answer = w.send("POST", path, &json, "[".repeat(100_000)).await?;
        w.same("lists", (answer.code, answer.str("/reason")), (400, "BadRequest"));
    }
    w.get(w.widgets()).await?.is(200).lists(&["some"]);
    Ok(())
}
