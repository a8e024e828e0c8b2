// SPDX-License-Identifier: Apache-2.0
//! Label selectors in their whole syntax, and the fields that can be selected on.

use anyhow::Result;
use serde_json::json;

use crate::world::{Check, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("labels", |w| Box::pin(labels(w))),
    ("labels_that_do_not_parse", |w| Box::pin(labels_that_do_not_parse(w))),
    ("fields_of_every_kind", |w| Box::pin(fields_of_every_kind(w))),
    ("fields_of_a_definition", |w| Box::pin(fields_of_a_definition(w))),
    ("fields_that_cannot_be_selected", |w| Box::pin(fields_that_cannot_be_selected(w))),
];

/// For a query string.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

async fn labels(w: &World<'_>) -> Result<()> {
    for (name, labels) in [
        ("a", json!({"app": "x", "tier": "front", "n": "1"})),
        ("b", json!({"app": "x", "tier": "back", "n": "5"})),
        ("c", json!({"app": "y", "n": "10", "example.org/long.name": ""})),
        ("d", json!({})),
    ] {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = labels;
        w.create(w.maps(), &map).await?;
    }
    let rows: &[(&str, &[&str])] = &[
        ("", &["a", "b", "c", "d"]),
        ("app=x", &["a", "b"]),
        ("app==x", &["a", "b"]),
        ("app = x , tier != front", &["b"]),
        ("app!=x", &["c", "d"]),
        ("app in (x,y)", &["a", "b", "c"]),
        ("app in (x), tier notin (front)", &["b"]),
        ("tier notin (front,back)", &["c", "d"]),
        ("tier", &["a", "b"]),
        ("!tier", &["c", "d"]),
        ("! tier,app", &["c"]),
        ("n>4", &["b", "c"]),
        ("n<10", &["a", "b"]),
        ("n>1,n<10", &["b"]),
        ("example.org/long.name", &["c"]),
        ("example.org/long.name=", &["c"]),
        ("tier in (front,)", &["a"]),
        ("app=x,app=y", &[]),
        ("app in (in,notin)", &[]),
        ("in in (in)", &[]),
    ];
    for (selector, wanted) in rows {
        w.get(format!("{}?labelSelector={}", w.maps(), escaped(selector))).await?.is(200).lists(wanted);
    }
    Ok(())
}

async fn labels_that_do_not_parse(w: &World<'_>) -> Result<()> {
    let rows = [
        ("==", "found '==', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        (
            "-a=b",
            "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            "a=-b",
            "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
    ];
    for (selector, message) in rows {
        for query in ["", "&watch=1"] {
            w.get(format!("{}?labelSelector={}{query}", w.maps(), escaped(selector))).await?.refused(
                400,
                "BadRequest",
                message,
            );
        }
    }
    Ok(())
}

async fn fields_of_every_kind(w: &World<'_>) -> Result<()> {
    for name in ["a", "b"] {
        w.create(w.maps(), &config_map(name, json!({}))).await?;
        w.create(w.widgets(), &widget(name, json!({}))).await?;
    }
    let namespace = format!("metadata.namespace={}", w.namespace);
    for path in [w.maps(), w.widgets()] {
        for (selector, wanted) in [
            ("metadata.name=a", &["a"][..]),
            ("metadata.name==a", &["a"]),
            ("metadata.name!=a", &["b"]),
            ("metadata.name=a,metadata.name=b", &[]),
            (&namespace, &["a", "b"]),
            ("metadata.namespace=other", &[]),
            ("metadata.namespace!=other,metadata.name=b", &["b"]),
        ] {
            w.get(format!("{path}?fieldSelector={}", escaped(selector))).await?.is(200).lists(wanted);
        }
    }
    let both = format!("{},metadata.name=b", namespace);
    w.get(format!("/api/v1/configmaps?fieldSelector={}", escaped(&both))).await?.is(200).lists(&["b"]);
    let secret =
        |name: &str, kind: &str| json!({"metadata": {"name": name}, "type": kind, "stringData": {"a": "b"}});
    w.create(w.core("secrets"), &secret("plain", "Opaque")).await?;
    w.create(w.core("secrets"), &secret("other", "example.org/other")).await?;
    w.get(format!("{}?fieldSelector=type%3DOpaque", w.core("secrets"))).await?.is(200).lists(&["plain"]);
    let mine = format!("metadata.name={},status.phase=Active", w.namespace);
    w.get(format!("/api/v1/namespaces?fieldSelector={}", escaped(&mine)))
        .await?
        .is(200)
        .lists(&[&w.namespace]);
    let mine = format!("metadata.name={},status.phase!=Active", w.namespace);
    w.get(format!("/api/v1/namespaces?fieldSelector={}", escaped(&mine))).await?.is(200).lists(&[]);
    Ok(())
}

async fn fields_of_a_definition(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({"colour": "red", "size": 5, "open": true}))).await?;
    w.create(w.widgets(), &widget("b", json!({"colour": "blue", "size": 15, "open": false}))).await?;
    w.create(w.widgets(), &widget("c", json!({}))).await?;
    for (selector, wanted) in [
        ("spec.colour=red", &["a"][..]),
        ("spec.colour!=red", &["b", "c"]),
        ("spec.colour=", &["c"]),
        ("spec.size=15", &["b"]),
        ("spec.open=true", &["a"]),
        ("spec.open=false", &["b"]),
        ("spec.size=5,spec.open=true,metadata.name=a", &["a"]),
    ] {
        w.get(format!("{}?fieldSelector={}", w.widgets(), escaped(selector))).await?.is(200).lists(wanted);
    }
    Ok(())
}

async fn fields_that_cannot_be_selected(w: &World<'_>) -> Result<()> {
    let rows = [
        (w.widgets(), "spec.title=a", "field label not supported: spec.title"),
        (w.widgets(), "metadata.uid=a", "field label not supported: metadata.uid"),
        (
            w.maps(),
            "data.a=b",
            "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (w.core("secrets"), "data.a=b", "field label not supported: data.a"),
        (w.core("events"), "message=b", "field label not supported: message"),
        (w.maps(), "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        (
            w.maps(),
            "metadata.name in (a)",
            "invalid selector: 'metadata.name in (a)'; can't understand 'metadata.name in (a)'",
        ),
    ];
    for (path, selector, message) in rows {
        w.get(format!("{path}?fieldSelector={}", escaped(selector))).await?.refused(
            400,
            "BadRequest",
            message,
        );
    }
    Ok(())
}
