// SPDX-License-Identifier: Apache-2.0
//! Names, labels, annotations and finalizers that no object may have.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("names", |w| Box::pin(names(w))),
    ("labels_and_annotations", |w| Box::pin(labels_and_annotations(w))),
    ("finalizers", |w| Box::pin(finalizers(w))),
    ("types", |w| Box::pin(types(w))),
    ("updates", |w| Box::pin(updates(w))),
];

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

async fn names(w: &World<'_>) -> Result<()> {
    for (path, kind, make) in [
        (w.maps(), "ConfigMap", config_map as fn(&str, Value) -> Value),
        (w.widgets(), "Widget.example.org", widget),
    ] {
        for name in ["UPPER", "under_score", "-a", "a-", "a..b", "white space"] {
            w.post(&path, &make(name, json!({})))
                .await?
                .refused(
                    422,
                    "Invalid",
                    format!(
                        "{kind} {name:?} is invalid: metadata.name: Invalid value: {name:?}: {SUBDOMAIN}"
                    ),
                )
                .causes(&[(
                    "FieldValueInvalid",
                    "metadata.name",
                    &format!("Invalid value: {name:?}: {SUBDOMAIN}"),
                )]);
        }
        let long = "a".repeat(254);
        w.post(&path, &make(&long, json!({}))).await?.refused(
            422,
            "Invalid",
            format!("{kind} {long:?} is invalid: metadata.name: Invalid value: {long:?}: must be no more than 253 characters"),
        );
        w.post(&path, &make(&"a".repeat(253), json!({}))).await?.is(201);
        w.post(&path, &make("a.b-c", json!({}))).await?.is(201);
    }
    w.post(w.maps(), &config_map("a/b", json!({}))).await?.is(422);
    w.post(w.maps(), &json!({"metadata": {"generateName": "UP-"}})).await?.refused_like(
        422,
        "Invalid",
        &["metadata.generateName: Invalid value: \"UP-\": "],
    );
    Ok(())
}

async fn labels_and_annotations(w: &World<'_>) -> Result<()> {
    let long = "x".repeat(64);
    let rows = [
        (json!({"labels": {"-bad": "x"}}), "labels", format!("Invalid value: \"-bad\": {NAME_PART}")),
        (json!({"labels": {"a/b/c": "x"}}), "labels", "Invalid value: \"a/b/c\": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".to_owned()),
        (json!({"labels": {"UP/name": "x"}}), "labels", format!("Invalid value: \"UP/name\": prefix part {SUBDOMAIN}")),
        (json!({"labels": {"/name": "x"}}), "labels", "Invalid value: \"/name\": prefix part must be non-empty".to_owned()),
        (json!({"labels": {long.clone(): "x"}}), "labels", format!("Invalid value: {long:?}: name part must be no more than 63 characters")),
        (json!({"labels": {"k": "white space"}}), "labels", format!("Invalid value: \"white space\": {LABEL_VALUE}")),
        (json!({"labels": {"k": long}}), "labels", format!("Invalid value: {long:?}: must be no more than 63 characters")),
        (json!({"annotations": {"-bad": "anything goes"}}), "annotations", format!("Invalid value: \"-bad\": {NAME_PART}")),
        (json!({"annotations": {"k": "x".repeat(262_144)}}), "annotations", "Too long: may not be more than 262144 bytes".to_owned()),
    ];
    for (metadata, field, message) in rows {
        for (path, kind, make) in [
            (w.maps(), "ConfigMap", config_map as fn(&str, Value) -> Value),
            (w.widgets(), "Widget.example.org", widget),
        ] {
            let mut body = make("a", json!({}));
            body["metadata"][field] = metadata[field].clone();
            let place = format!("metadata.{field}");
            w.post(path, &body).await?.refused_like(
                422,
                "Invalid",
                &[&format!("{kind} \"a\" is invalid: "), &format!("{place}: {message}")],
            );
        }
    }
    let mut fine = config_map("fine", json!({}));
    fine["metadata"]["labels"] = json!({"example.org/a_b.C": "Ok_1.2-3", "empty": ""});
    fine["metadata"]["annotations"] = json!({"example.org/A": "any\ntext at all", "k": "x".repeat(262_000)});
    w.post(w.maps(), &fine).await?.is(201);
    Ok(())
}

async fn finalizers(w: &World<'_>) -> Result<()> {
    for (finalizer, message) in [
        ("no spaces allowed", format!("Invalid value: \"no spaces allowed\": {NAME_PART}")),
        (
            "",
            format!(
                "Invalid value: \"\": name part must be non-empty, metadata.finalizers: Invalid value: \"\": {NAME_PART}"
            ),
        ),
    ] {
        let mut body = widget("a", json!({}));
        body["metadata"]["finalizers"] = json!([finalizer]);
        w.post(w.widgets(), &body).await?.refused_like(
            422,
            "Invalid",
            &["Widget.example.org \"a\" is invalid: ", &format!("metadata.finalizers: {message}")],
        );
    }
    let mut unqualified = config_map("a", json!({}));
    unqualified["metadata"]["finalizers"] = json!(["word"]);
    w.post(w.maps(), &unqualified).await?.refused_like(422, "Invalid", &["metadata.finalizers", "word"]);
    // A change is looked at twice, before and after what the kind says of it.
    let mut fixed = config_map("fixed", json!({"k": "v"}));
    fixed["immutable"] = true.into();
    w.post(w.maps(), &fixed).await?.is(201);
    fixed["metadata"]["finalizers"] = json!(["word"]);
    fixed["data"]["k"] = "w".into();
    let bare = (
        "FieldValueInvalid",
        "metadata.finalizers[0]",
        "Invalid value: \"word\": name is neither a standard finalizer name nor is it fully qualified",
    );
    let frozen = ("FieldValueForbidden", "data", "Forbidden: field is immutable when `immutable` is set");
    w.put(format!("{}/fixed", w.maps()), &fixed)
        .await?
        .refused_like(422, "Invalid", &[])
        .causes(&[bare, frozen, bare]);
    let mut warned = widget("warned", json!({}));
    warned["metadata"]["finalizers"] = json!(["word"]);
    let answer = w.post(w.widgets(), &warned).await?.is(201);
    answer.warns(&["299 - \"metadata.finalizers: \\\"word\\\": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers\""]);
    let mut both = widget("b", json!({}));
    both["metadata"]["finalizers"] = json!(["foregroundDeletion", "orphan"]);
    w.post(w.widgets(), &both).await?.refused(
        422,
        "Invalid",
        "Widget.example.org \"b\" is invalid: metadata.finalizers: Invalid value: [\"foregroundDeletion\",\"orphan\"]: finalizer orphan and foregroundDeletion cannot be both set",
    );
    w.patch(MERGE, format!("{}/warned", w.widgets()), &json!({"metadata": {"finalizers": null}}))
        .await?
        .is(200);
    Ok(())
}

async fn types(w: &World<'_>) -> Result<()> {
    let rows = [
        json!({"name": 1}),
        json!({"name": "a", "labels": {"k": 1}}),
        json!({"name": "a", "labels": ["k"]}),
        json!("text"),
        json!([]),
        json!({"name": "a", "finalizers": "x"}),
        json!({"name": "a", "creationTimestamp": "never"}),
    ];
    for metadata in rows {
        for mut body in [config_map("a", json!({})), widget("a", json!({}))] {
            body["metadata"] = metadata.clone();
            let path = if body["kind"] == "Widget" { w.widgets() } else { w.maps() };
            let answer = w.post(path, &body).await?;
            w.same(
                &format!("{} {metadata}: {}", body["kind"], answer.text()),
                (answer.code, answer.str("/reason")),
                (400, "BadRequest"),
            );
        }
    }
    Ok(())
}

async fn updates(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    let path = format!("{}/a", w.widgets());
    w.patch(MERGE, &path, &json!({"metadata": {"labels": {"-bad": "x"}}})).await?.refused_like(
        422,
        "Invalid",
        &["metadata.labels: Invalid value: \"-bad\""],
    );
    w.patch(MERGE, &path, &json!({"metadata": {"labels": {"k": 5}}})).await?.refused_like(
        422,
        "Invalid",
        &[
            " \"\" is invalid: patch: Invalid value: ",
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
        ],
    );
    w.patch(
        MERGE,
        format!("{path}/status"),
        &json!({"metadata": {"annotations": {"-bad": "x"}}, "status": {"count": 1}}),
    )
    .await?
    .is(200)
    .at("/status/count", 1);
    Ok(())
}
