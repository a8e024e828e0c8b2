// SPDX-License-Identifier: Apache-2.0
//! Server-side apply of lists and maps: by key, as sets, and as one value.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("by_key", |w| Box::pin(by_key(w))),
    ("sets", |w| Box::pin(sets(w))),
    ("whole_values", |w| Box::pin(whole_values(w))),
    ("untyped_content", |w| Box::pin(untyped_content(w))),
    ("metadata", |w| Box::pin(metadata(w))),
    ("built_in_kinds", |w| Box::pin(built_in_kinds(w))),
];

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .find(|entry| entry["manager"] == manager)
        .map(|entry| entry["fieldsV1"].clone())
        .unwrap_or_default()
}

async fn by_key(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let one = widget("a", json!({"parts": [{"id": "x", "amount": 1}, {"id": "y", "amount": 2}]}));
    let made = w.apply(&path, "one", &one).await?.is(201);
    let wanted = json!({"f:spec": {"f:parts": {
        "k:{\"id\":\"x\"}": {".": {}, "f:amount": {}, "f:id": {}}, "k:{\"id\":\"y\"}": {".": {}, "f:amount": {}, "f:id": {}}}}});
    w.same("fields", fields(&made.json, "one"), wanted);
    let two = widget("a", json!({"parts": [{"id": "z", "amount": 3}, {"id": "x", "unit": "kg"}]}));
    let merged = w.apply(&path, "two", &two).await?.is(200);
    let parts =
        json!([{"id": "z", "amount": 3}, {"id": "x", "amount": 1, "unit": "kg"}, {"id": "y", "amount": 2}]);
    w.same("parts", &merged.json["spec"]["parts"], &parts);
    let less = widget("a", json!({"parts": [{"id": "y", "amount": 2}]}));
    let left = w.apply(&path, "one", &less).await?.is(200);
    // What somebody else holds stays with what they hold of it.
    let parts = json!([{"id": "z", "amount": 3}, {"id": "x", "unit": "kg"}, {"id": "y", "amount": 2}]);
    w.same("parts", &left.json["spec"]["parts"], &parts);
    w.apply(&path, "two", &widget("a", json!({})))
        .await?
        .is(200)
        .at("/spec/parts", json!([{"id": "y", "amount": 2}]));
    let bare = widget("a", json!({"parts": [{"amount": 2}]}));
    w.apply(&path, "two", &bare).await?.is(500);
    Ok(())
}

async fn sets(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let made = w.apply(&path, "one", &widget("a", json!({"tags": ["a", "b"]}))).await?.is(201);
    w.same(
        "fields",
        fields(&made.json, "one"),
        json!({"f:spec": {"f:tags": {"v:\"a\"": {}, "v:\"b\"": {}}}}),
    );
    w.apply(&path, "two", &widget("a", json!({"tags": ["c", "b"]})))
        .await?
        .is(200)
        .at("/spec/tags", json!(["a", "c", "b"]));
    w.apply(&path, "one", &widget("a", json!({"tags": ["d"]})))
        .await?
        .is(200)
        .at("/spec/tags", json!(["c", "b", "d"]));
    w.patch(MERGE, format!("{path}?fieldManager=hand"), &json!({"spec": {"tags": ["b", "e"]}}))
        .await?
        .is(200)
        .at("/spec/tags", json!(["b", "e"]));
    w.apply(&path, "one", &widget("a", json!({}))).await?.is(200).at("/spec/tags", json!(["b", "e"]));
    w.post(w.widgets(), &widget("twice", json!({"tags": ["a", "a"]})))
        .await?
        .refused(
            422,
            "Invalid",
            "Widget.example.org \"twice\" is invalid: spec.tags[1]: Duplicate value: \"a\"",
        )
        .causes(&[("FieldValueDuplicate", "spec.tags[1]", "Duplicate value: \"a\"")]);
    w.post(w.widgets(), &widget("twice", json!({"parts": [{"id": "a"}, {"id": "a"}]}))).await?.refused(
        422,
        "Invalid",
        "Widget.example.org \"twice\" is invalid: spec.parts[1]: Duplicate value: {\"id\":\"a\"}",
    );
    Ok(())
}

async fn whole_values(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let made = w
        .apply(&path, "one", &widget("a", json!({"lines": ["a", "b"], "box": {"width": 1, "height": 2}})))
        .await?
        .is(201);
    w.same("fields", fields(&made.json, "one"), json!({"f:spec": {"f:box": {}, "f:lines": {}}}));
    w.apply(&path, "two", &widget("a", json!({"lines": ["c"]}))).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .spec.lines",
    );
    w.apply(&path, "two", &widget("a", json!({"box": {"width": 5}}))).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .spec.box",
    );
    w.apply_by_force(&path, "two", &widget("a", json!({"lines": ["c"], "box": {"width": 5}})))
        .await?
        .is(200)
        .at("/spec/lines", json!(["c"]))
        .at("/spec/box", json!({"width": 5}));
    w.apply(&path, "one", &widget("a", json!({}))).await?.is(200).at("/spec/lines", json!(["c"]));
    Ok(())
}

async fn untyped_content(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.widgets());
    let one = widget("a", json!({"free": {"known": "k", "deep": {"list": [1, 2], "x": 1}}, "port": 80}));
    let made = w.apply(&path, "one", &one).await?.is(201);
    let wanted = json!({"f:spec": {"f:free": {"f:deep": {".": {}, "f:list": {}, "f:x": {}}, "f:known": {}}, "f:port": {}}});
    w.same("fields", fields(&made.json, "one"), wanted);
    w.apply(&path, "two", &widget("a", json!({"free": {"deep": {"y": 2}}, "port": "http"}))).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .spec.port",
    );
    w.apply(&path, "two", &widget("a", json!({"free": {"deep": {"y": 2}}})))
        .await?
        .is(200)
        .at("/spec/free", json!({"known": "k", "deep": {"list": [1, 2], "x": 1, "y": 2}}));
    w.apply(&path, "one", &widget("a", json!({}))).await?.is(200).at("/spec/free", json!({"deep": {"y": 2}}));
    Ok(())
}

async fn metadata(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.maps());
    let owner = w.create(w.widgets(), &widget("owner", json!({}))).await?;
    let uid = owner["metadata"]["uid"].as_str().unwrap_or_default();
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let mut other = map.clone();
    map["metadata"]["labels"] = json!({"l": "1"});
    map["metadata"]["annotations"] = json!({"example.org/a": "1"});
    map["metadata"]["finalizers"] = json!(["example.org/f"]);
    map["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.org/v1", "kind": "Widget", "name": "owner", "uid": uid}]);
    let made = w.apply(&path, "one", &map).await?.is(201);
    let wanted = json!({"f:metadata": {"f:annotations": {"f:example.org/a": {}}, "f:finalizers": {"v:\"example.org/f\"": {}},
        "f:labels": {"f:l": {}}, "f:ownerReferences": {format!("k:{{\"uid\":\"{uid}\"}}"): {}}}});
    w.same("fields", fields(&made.json, "one"), wanted);
    other["metadata"]["finalizers"] = json!(["example.org/g"]);
    other["metadata"]["labels"] = json!({"l": "2"});
    w.apply(&path, "two", &other).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .metadata.labels.l",
    );
    other["metadata"]["labels"] = json!({"m": "2"});
    let merged =
        w.apply(&path, "two", &other).await?.is(200).at("/metadata/labels", json!({"l": "1", "m": "2"}));
    merged.at("/metadata/finalizers", json!(["example.org/f", "example.org/g"]));
    w.patch(MERGE, &path, &json!({"metadata": {"finalizers": null}})).await?.is(200);
    Ok(())
}

async fn built_in_kinds(w: &World<'_>) -> Result<()> {
    let path = format!("{}/a", w.maps());
    w.apply(&path, "one", &config_map("a", json!({"x": "1", "y": "2"}))).await?.is(201);
    w.apply(&path, "two", &config_map("a", json!({"x": "3"}))).await?.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .data.x",
    );
    w.apply(&path, "two", &config_map("a", json!({"z": "3"})))
        .await?
        .is(200)
        .at("/data", json!({"x": "1", "y": "2", "z": "3"}));
    w.apply(&path, "one", &config_map("a", json!({"x": "1"})))
        .await?
        .is(200)
        .at("/data", json!({"x": "1", "z": "3"}));
    let account = |secrets: Value| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "secrets": secrets});
    let path = format!("{}/a", w.core("serviceaccounts"));
    let made = w.apply(&path, "one", &account(json!([{"name": "s"}, {"name": "t"}]))).await?.is(201);
    w.same(
        "fields",
        fields(&made.json, "one"),
        json!({"f:secrets": {"k:{\"name\":\"s\"}": {}, "k:{\"name\":\"t\"}": {}}}),
    );
    w.apply(&path, "two", &account(json!([{"name": "u"}])))
        .await?
        .is(200)
        .at("/secrets", json!([{"name": "s"}, {"name": "t"}, {"name": "u"}]));
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me", "renewTime": "2024-01-01T00:00:00.000000Z"}});
    let made =
        w.apply(format!("{}/a", w.of("coordination.k8s.io/v1", "leases")), "one", &lease).await?.is(201);
    w.same(
        "fields",
        fields(&made.json, "one"),
        json!({"f:spec": {"f:holderIdentity": {}, "f:renewTime": {}}}),
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"p": "w"}, "type": "Opaque"});
    let made = w
        .apply(format!("{}/a", w.core("secrets")), "one", &secret)
        .await?
        .is(201)
        .at("/data/p", "dw==")
        .at("/stringData", Value::Null);
    w.same("fields", fields(&made.json, "one"), json!({"f:stringData": {"f:p": {}}, "f:type": {}}));
    Ok(())
}
