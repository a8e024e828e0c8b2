// SPDX-License-Identifier: Apache-2.0
//! Strategic merge patches on built-in kinds: the lists that merge by key, and the directives.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, STRATEGIC, World, config_map};

pub const ALL: &[Check] = &[
    ("maps_merge", |w| Box::pin(maps_merge(w))),
    ("lists_merge_by_key", |w| Box::pin(lists_merge_by_key(w))),
    ("lists_of_words_merge", |w| Box::pin(lists_of_words_merge(w))),
    ("directives", |w| Box::pin(directives(w))),
    ("order", |w| Box::pin(order(w))),
    ("kept_keys", |w| Box::pin(kept_keys(w))),
    ("directives_that_are_wrong", |w| Box::pin(directives_that_are_wrong(w))),
];

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid})
}

async fn maps_merge(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({"one": "1", "two": "2"}))).await?;
    let path = format!("{}/a", w.maps());
    let patch = json!({"data": {"two": null, "three": "3"}, "metadata": {"labels": {"l": "v"}}});
    let patched =
        w.patch(STRATEGIC, &path, &patch).await?.is(200).at("/data", json!({"one": "1", "three": "3"}));
    let patched = patched.at("/metadata/labels", json!({"l": "v"}));
    let again = w.patch(STRATEGIC, &path, &json!({})).await?.is(200);
    w.same("nothing", again.object(), patched.object());
    w.patch(STRATEGIC, &path, &json!({"data": null})).await?.is(200).at("/data", Value::Null);
    w.patch(STRATEGIC, format!("{}/none", w.maps()), &json!({})).await?.refused(
        404,
        "NotFound",
        "configmaps \"none\" not found",
    );
    w.patch(STRATEGIC, &path, &json!({"data": {"k": 1}})).await?.refused(
        422,
        "Invalid",
        " \"\" is invalid: patch: Invalid value: \"map[data:map[k:1]]\": cannot convert int64 to string",
    );
    w.patch(STRATEGIC, &path, &json!({"data": []})).await?.is(422);
    Ok(())
}

/// ServiceAccount's `secrets` merge by `name`; `imagePullSecrets` do not.
async fn lists_merge_by_key(w: &World<'_>) -> Result<()> {
    let account = json!({"metadata": {"name": "a"}, "secrets": [{"name": "one"}, {"name": "two"}],
        "imagePullSecrets": [{"name": "p"}, {"name": "q"}]});
    w.create(w.core("serviceaccounts"), &account).await?;
    let path = format!("{}/a", w.core("serviceaccounts"));
    let patch = json!({"secrets": [{"name": "two"}, {"name": "three"}], "imagePullSecrets": [{"name": "r"}]});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/secrets", json!([{"name": "one"}, {"name": "two"}, {"name": "three"}]))
        .at("/imagePullSecrets", json!([{"name": "r"}]));
    let mut map = config_map("a", json!({}));
    map["metadata"]["finalizers"] = json!(["example.org/a"]);
    w.create(w.maps(), &map).await?;
    let path = format!("{}/a", w.maps());
    let patch = json!({"metadata": {"ownerReferences": [owner("n", "u1"), owner("m", "u2")]}});
    w.patch(STRATEGIC, &path, &patch).await?.is(200);
    let patch = json!({"metadata": {"ownerReferences": [{"uid": "u2", "controller": true}]}});
    let patched = w.patch(STRATEGIC, &path, &patch).await?.is(200);
    let owners = patched.json["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let said: Vec<(&str, bool)> =
        owners.iter().map(|o| (o["uid"].as_str().unwrap_or_default(), o["controller"] == true)).collect();
    w.same("owners", said.as_slice(), &[("u1", false), ("u2", true)][..]);
    Ok(())
}

async fn lists_of_words_merge(w: &World<'_>) -> Result<()> {
    let mut map = config_map("a", json!({}));
    map["metadata"]["finalizers"] = json!(["example.org/a", "example.org/b"]);
    w.create(w.maps(), &map).await?;
    let path = format!("{}/a", w.maps());
    let patch = json!({"metadata": {"finalizers": ["example.org/c", "example.org/a"]}});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/metadata/finalizers", json!(["example.org/c", "example.org/a", "example.org/b"]));
    let patch =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.org/a", "example.org/none"]}});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/metadata/finalizers", json!(["example.org/c", "example.org/b"]));
    let patch = json!({"metadata": {"finalizers": null}});
    w.patch(STRATEGIC, &path, &patch).await?.is(200).at("/metadata/finalizers", Value::Null);
    Ok(())
}

async fn directives(w: &World<'_>) -> Result<()> {
    let account = json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "secrets": [{"name": "one"}, {"name": "two"}, {"name": "three"}]});
    w.create(w.core("serviceaccounts"), &account).await?;
    let path = format!("{}/a", w.core("serviceaccounts"));
    let patch = json!({"secrets": [{"$patch": "delete", "name": "two"}]});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/secrets", json!([{"name": "one"}, {"name": "three"}]));
    let patch = json!({"secrets": [{"$patch": "replace"}, {"name": "new"}]});
    w.patch(STRATEGIC, &path, &patch).await?.is(200).at("/secrets", json!([{"name": "new"}]));
    let patch = json!({"metadata": {"labels": {"$patch": "replace", "z": "3"}}});
    w.patch(STRATEGIC, &path, &patch).await?.is(200).at("/metadata/labels", json!({"z": "3"}));
    let patch = json!({"metadata": {"labels": {"$patch": "delete"}}});
    w.patch(STRATEGIC, &path, &patch).await?.is(200).at("/metadata/labels", Value::Null);
    w.create(w.maps(), &config_map("a", json!({"one": "1"}))).await?;
    let patch = json!({"data": {"$patch": "replace", "two": "2"}});
    w.patch(STRATEGIC, format!("{}/a", w.maps()), &patch).await?.is(200).at("/data", json!({"two": "2"}));
    Ok(())
}

async fn order(w: &World<'_>) -> Result<()> {
    let account = json!({"metadata": {"name": "a", "finalizers": ["example.org/a", "example.org/b"]}, "secrets": [{"name": "one"}, {"name": "two"}, {"name": "three"}]});
    w.create(w.core("serviceaccounts"), &account).await?;
    let path = format!("{}/a", w.core("serviceaccounts"));
    let patch = json!({"$setElementOrder/secrets": [{"name": "three"}, {"name": "four"}, {"name": "one"}, {"name": "two"}], "secrets": [{"name": "four"}]});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/secrets", json!([{"name": "three"}, {"name": "four"}, {"name": "one"}, {"name": "two"}]));
    let patch = json!({"$setElementOrder/secrets": [{"name": "two"}, {"name": "one"}]});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/secrets", json!([{"name": "three"}, {"name": "four"}, {"name": "two"}, {"name": "one"}]));
    let patch = json!({"metadata": {"$setElementOrder/finalizers": ["example.org/c", "example.org/b", "example.org/a"], "finalizers": ["example.org/c"]}});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/metadata/finalizers", json!(["example.org/c", "example.org/b", "example.org/a"]));
    let patch = json!({"metadata": {"finalizers": null}});
    w.patch(STRATEGIC, &path, &patch).await?.is(200);
    Ok(())
}

async fn kept_keys(w: &World<'_>) -> Result<()> {
    let mut map = config_map("a", json!({"one": "1", "two": "2", "three": "3"}));
    map["metadata"]["labels"] = json!({"x": "1", "y": "2"});
    w.create(w.maps(), &map).await?;
    let path = format!("{}/a", w.maps());
    let patch = json!({"data": {"$retainKeys": ["one", "four"], "four": "4"}, "metadata": {"labels": {"$retainKeys": ["y"]}}});
    w.patch(STRATEGIC, &path, &patch)
        .await?
        .is(200)
        .at("/data", json!({"one": "1", "four": "4"}))
        .at("/metadata/labels", json!({"y": "2"}));
    Ok(())
}

async fn directives_that_are_wrong(w: &World<'_>) -> Result<()> {
    w.create(w.core("serviceaccounts"), &json!({"metadata": {"name": "a"}, "secrets": [{"name": "one"}]}))
        .await?;
    let path = format!("{}/a", w.core("serviceaccounts"));
    for (patch, message) in [
        (
            json!({"secrets": [{"$patch": "sing", "name": "one"}]}),
            "unknown patch type: sing in map: map[$patch:sing name:one]",
        ),
        (
            json!({"secrets": [{"fieldPath": "x"}]}),
            "map: map[fieldPath:x] does not contain declared merge key: name",
        ),
        (
            json!({"$setElementOrder/secrets": [{"name": "two"}], "secrets": [{"name": "one"}]}),
            "The order in patch list:\n[map[name:one]]\n doesn't match $setElementOrder list:\n[map[name:two]]\n",
        ),
    ] {
        // Not refusals: kube-apiserver takes what its patch library says for accidents.
        w.patch(STRATEGIC, &path, &patch).await?.refused(500, "", message);
    }
    w.patch(STRATEGIC, &path, &json!({"secrets": {"name": "one"}})).await?.refused(
        422,
        "Invalid",
        " \"\" is invalid: patch: Invalid value: \"map[secrets:map[name:one]]\": cannot restore slice from map",
    );
    w.get(&path).await?.is(200).at("/secrets", json!([{"name": "one"}]));
    Ok(())
}
