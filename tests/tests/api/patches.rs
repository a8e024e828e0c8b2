// SPDX-License-Identifier: Apache-2.0
//! JSON patches (RFC 6902) and merge patches (RFC 7396).

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{APPLY, Check, JSON, JSON_PATCH, MERGE, STRATEGIC, World, YAML, config_map, widget};

pub const ALL: &[Check] = &[
    ("merge", |w| Box::pin(merge(w))),
    ("json_operations", |w| Box::pin(json_operations(w))),
    ("json_that_does_not_apply", |w| Box::pin(json_that_does_not_apply(w))),
    ("bodies_that_are_no_patch", |w| Box::pin(bodies_that_are_no_patch(w))),
    ("media_types", |w| Box::pin(media_types(w))),
    ("a_version_in_a_patch_is_a_condition", |w| Box::pin(a_version_in_a_patch_is_a_condition(w))),
    ("what_no_patch_may_change", |w| Box::pin(what_no_patch_may_change(w))),
];

async fn merge(w: &World<'_>) -> Result<()> {
    let spec =
        json!({"colour": "red", "size": 5, "words": {"a": "1", "b": "2"}, "lines": ["x", "y"], "note": "n"});
    w.create(w.widgets(), &widget("a", spec)).await?;
    let path = format!("{}/a", w.widgets());
    let patch = json!({"spec": {"size": 6, "colour": null, "words": {"b": null, "c": "3"}, "lines": ["z"], "none": null}});
    let wanted = json!({"size": 6, "words": {"a": "1", "c": "3"}, "lines": ["z"], "note": "n"});
    let patched =
        w.patch(MERGE, &path, &patch).await?.is(200).at("/spec", wanted).at("/metadata/generation", 2);
    let again = w.patch(MERGE, &path, &json!({})).await?.is(200);
    w.same("an empty patch", again.object(), patched.object());
    w.patch(MERGE, &path, &json!({"spec": {"words": null, "lines": []}}))
        .await?
        .is(200)
        .at("/spec", json!({"size": 6, "lines": [], "note": "n"}));
    w.patch(MERGE, &path, &json!({"spec": {"box": {"width": 1, "height": null}}}))
        .await?
        .is(200)
        .at("/spec/box", json!({"width": 1}));
    w.patch(MERGE, format!("{}/none", w.widgets()), &json!({})).await?.refused(
        404,
        "NotFound",
        "widgets.example.org \"none\" not found",
    );
    w.patch(MERGE, &path, &json!({"spec": {"size": 101}}))
        .await?
        .refused(422, "Invalid", "Widget.example.org \"a\" is invalid: spec.size: Invalid value: 101: spec.size in body should be less than or equal to 100")
        .details(json!({"name": "a", "group": "example.org", "kind": "Widget", "causes": [{"reason": "FieldValueInvalid",
            "message": "Invalid value: 101: spec.size in body should be less than or equal to 100", "field": "spec.size"}]}));
    w.patch(MERGE, format!("{path}?fieldValidation=Strict"), &json!({"spec": {"typo": 1}}))
        .await?
        .refused_like(422, "Invalid", &["strict decoding error: unknown field \"spec.typo\""]);
    w.patch(MERGE, &path, &json!({"spec": {"typo": 1}}))
        .await?
        .is(200)
        .warns(&["299 - \"unknown field \\\"spec.typo\\\"\""])
        .at("/spec/typo", Value::Null);
    Ok(())
}

async fn json_operations(w: &World<'_>) -> Result<()> {
    let mut map = config_map("a", json!({"one": "1", "two": "2"}));
    map["metadata"]["annotations"] = json!({"example.org/a": "x", "b": "y"});
    w.create(w.maps(), &map).await?;
    let path = format!("{}/a", w.maps());
    let patch = json!([
        {"op": "test", "path": "/data/one", "value": "1"},
        {"op": "add", "path": "/data/three", "value": "3"},
        {"op": "replace", "path": "/data/one", "value": "uno"},
        {"op": "remove", "path": "/metadata/annotations/example.org~1a"},
        {"op": "copy", "from": "/data/one", "path": "/data/copy"},
        {"op": "move", "from": "/data/two", "path": "/data/moved"},
        {"op": "add", "path": "/metadata/labels", "value": {"l": "v"}},
    ]);
    let wanted = json!({"one": "uno", "three": "3", "copy": "uno", "moved": "2"});
    w.patch(JSON_PATCH, &path, &patch)
        .await?
        .is(200)
        .at("/data", wanted)
        .at("/metadata/labels", json!({"l": "v"}))
        .at("/metadata/annotations", json!({"b": "y"}));
    w.create(w.widgets(), &widget("a", json!({"lines": ["a", "b", "c"]}))).await?;
    let path = format!("{}/a", w.widgets());
    let patch = json!([
        {"op": "add", "path": "/spec/lines/1", "value": "between"},
        {"op": "add", "path": "/spec/lines/-", "value": "last"},
        {"op": "remove", "path": "/spec/lines/0"},
        {"op": "replace", "path": "/spec/lines/1", "value": "B"},
    ]);
    w.patch(JSON_PATCH, &path, &patch).await?.is(200).at("/spec/lines", json!(["between", "B", "c", "last"]));
    w.patch(JSON_PATCH, &path, &json!([])).await?.is(200);
    Ok(())
}

async fn json_that_does_not_apply(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({"one": "1"}))).await?;
    let path = format!("{}/a", w.maps());
    let general = "the server rejected our request due to an error in our request";
    let rows = [
        json!([{"op": "test", "path": "/data/one", "value": "2"}]),
        json!([{"op": "remove", "path": "/data/none"}]),
        json!([{"op": "add", "path": "/none/deep", "value": "x"}]),
        json!([{"op": "move", "from": "/data/none", "path": "/data/x"}]),
        json!([{"op": "test", "path": "/data/none", "value": "x"}]),
        json!([{"op": "sing", "path": "/data/one"}]),
    ];
    for patch in rows {
        w.patch(JSON_PATCH, &path, &patch).await?.refused(422, "Invalid", general);
    }
    // All or nothing.
    let half = json!([{"op": "add", "path": "/data/two", "value": "2"}, {"op": "test", "path": "/data/one", "value": "no"}]);
    w.patch(JSON_PATCH, &path, &half).await?.is(422);
    w.get(&path).await?.is(200).at("/data", json!({"one": "1"}));
    // A test of a value that is there, in any form.
    w.patch(JSON_PATCH, &path, &json!([{"op": "test", "path": "/metadata/name", "value": "a"}]))
        .await?
        .is(200);
    Ok(())
}

async fn bodies_that_are_no_patch(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({"one": "1"}))).await?;
    let path = format!("{}/a", w.maps());
    for (form, body) in [
        (MERGE, "{"),
        (MERGE, "[]"),
        (MERGE, "\"text\""),
        (MERGE, ""),
        (JSON_PATCH, "{}"),
        (JSON_PATCH, "["),
        (JSON_PATCH, ""),
        (JSON_PATCH, "[1]"),
        (STRATEGIC, "{"),
        (STRATEGIC, "[]"),
        (APPLY, "{"),
        (APPLY, "[]"),
        (APPLY, "a: ["),
    ] {
        let path = if form == APPLY { format!("{path}?fieldManager=m") } else { path.clone() };
        let answer = w.send("PATCH", path, &[("content-type", form)], body).await?;
        w.same(
            &format!("{form} {body:?}: {}", answer.text()),
            (answer.code, answer.str("/reason")),
            (400, "BadRequest"),
        );
    }
    let many: Vec<Value> =
        (0..10_001).map(|_| json!({"op": "add", "path": "/data/x", "value": "y"})).collect();
    w.patch(JSON_PATCH, &path, &Value::Array(many)).await?.refused(
        413,
        "RequestEntityTooLarge",
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
    );
    Ok(())
}

async fn media_types(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    let said = "the body of the request was in an unknown format - accepted media types include: ";
    let custom = format!(
        "{said}application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    );
    let typed = "415: Unsupported Media Type".to_owned();
    for (path, form, message) in [
        (w.widgets(), STRATEGIC, &custom),
        (w.widgets(), JSON, &custom),
        (w.maps(), JSON, &typed),
        (w.maps(), YAML, &typed),
        (w.maps(), "", &typed),
    ] {
        w.patch(form, format!("{path}/a"), &json!({})).await?.refused(415, "UnsupportedMediaType", message);
    }
    // Parameters of a media type do not matter.
    w.patch("application/merge-patch+json; charset=utf-8", format!("{}/a", w.maps()), &json!({}))
        .await?
        .is(200);
    Ok(())
}

async fn a_version_in_a_patch_is_a_condition(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &widget("a", json!({}))).await?;
    let path = format!("{}/a", w.widgets());
    let version = made["metadata"]["resourceVersion"].clone();
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"size": 2}});
    w.patch(MERGE, &path, &patch).await?.is(200);
    let message = "Operation cannot be fulfilled on widgets.example.org \"a\": the object has been modified; please apply your changes to the latest version and try again";
    w.patch(MERGE, &path, &patch).await?.refused(409, "Conflict", message);
    let test = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]);
    w.patch(JSON_PATCH, &path, &test).await?.refused(409, "Conflict", message);
    let uid = json!({"metadata": {"uid": "other"}});
    w.patch(MERGE, &path, &uid).await?.refused(
        422,
        "Invalid",
        "Widget.example.org \"a\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable",
    );
    Ok(())
}

async fn what_no_patch_may_change(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let (custom, typed) = (format!("{}/a", w.widgets()), format!("{}/a", w.maps()));
    w.patch(MERGE, &custom, &json!({"metadata": {"name": "b"}})).await?.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    w.patch(MERGE, &typed, &json!({"metadata": {"namespace": "default"}})).await?.refused(
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    for (path, patch, message) in [
        (
            &custom,
            json!({"kind": "Gadget"}),
            "Gadget.example.org \"a\" is invalid: kind: Invalid value: \"Gadget\": must be Widget",
        ),
        (
            &custom,
            json!({"apiVersion": "example.org/v2"}),
            "Widget.example.org \"a\" is invalid: apiVersion: Invalid value: \"example.org/v2\": must be example.org/v1",
        ),
        (
            &custom,
            json!({"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}}),
            "Widget.example.org \"a\" is invalid: metadata.deletionTimestamp: Invalid value: \"2001-01-01T00:00:00Z\": field is immutable",
        ),
        (&typed, json!({"kind": "Secret"}), "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        (
            &typed,
            json!({"apiVersion": "v2"}),
            "no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/runtime/scheme.go:110\"",
        ),
    ] {
        w.patch(MERGE, path, &patch).await?.refused_like(422, "Invalid", &[message]);
    }
    let before = w.get(&custom).await?.object();
    let times = json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}, "status": {"state": "busy"}});
    let after = w.patch(MERGE, &custom, &times).await?.is(200);
    w.same("nothing changed", after.object(), before);
    w.patch(MERGE, format!("{custom}?force=true"), &json!({})).await?.refused(
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
    );
    Ok(())
}
