// SPDX-License-Identifier: Apache-2.0
//! `dryRun=All`: the whole answer, and nothing done.

use anyhow::Result;
use serde_json::json;

use crate::world::{Check, MERGE, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("no_verb_does_anything", |w| Box::pin(no_verb_does_anything(w))),
    ("refusals_are_the_same", |w| Box::pin(refusals_are_the_same(w))),
    ("values_that_are_none", |w| Box::pin(values_that_are_none(w))),
];

async fn no_verb_does_anything(w: &World<'_>) -> Result<()> {
    let dry = w
        .post(format!("{}?dryRun=All", w.widgets()), &widget("dry", json!({"colour": "red"})))
        .await?
        .is(201);
    let dry = dry
        .at("/metadata/resourceVersion", serde_json::Value::Null)
        .at("/spec/colour", "red")
        .at("/metadata/generation", 1);
    w.same("uid", dry.str("/metadata/uid").len(), 36);
    w.get(format!("{}/dry", w.widgets())).await?.is(404);
    let made = w.create(w.widgets(), &widget("a", json!({"colour": "red"}))).await?;
    let path = format!("{}/a", w.widgets());
    let mut changed = made.clone();
    changed["spec"]["colour"] = "blue".into();
    w.put(format!("{path}?dryRun=All"), &changed)
        .await?
        .is(200)
        .at("/spec/colour", "blue")
        .at("/metadata/generation", 2);
    w.patch(MERGE, format!("{path}?dryRun=All"), &json!({"spec": {"size": 4}}))
        .await?
        .is(200)
        .at("/spec/size", 4);
    w.apply(format!("{path}?dryRun=All&x=1").replace("?dryRun=All&x=1", ""), "none", &json!({}))
        .await?
        .is(400);
    let applied = widget("a", json!({"title": "dry"}));
    w.patch(crate::world::APPLY, format!("{path}?dryRun=All&fieldManager=m"), &applied)
        .await?
        .is(200)
        .at("/spec/title", "dry");
    w.patch(
        crate::world::APPLY,
        format!("{}/new?dryRun=All&fieldManager=m", w.widgets()),
        &widget("new", json!({})),
    )
    .await?
    .is(201);
    w.get(format!("{}/new", w.widgets())).await?.is(404);
    w.patch(MERGE, format!("{path}/status?dryRun=All"), &json!({"status": {"count": 1}}))
        .await?
        .is(200)
        .at("/status/count", 1);
    w.delete(format!("{path}?dryRun=All")).await?.is(200);
    w.delete_with(&path, &json!({"dryRun": ["All"]})).await?.is(200);
    w.delete(format!("{}?dryRun=All", w.widgets())).await?.is(200).lists(&["a"]);
    let after = w.get(&path).await?.is(200);
    w.same("the object", after.object(), made);
    Ok(())
}

async fn refusals_are_the_same(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    w.post(format!("{}?dryRun=All", w.maps()), &config_map("a", json!({}))).await?.refused(
        409,
        "AlreadyExists",
        "configmaps \"a\" already exists",
    );
    w.put(format!("{}/b?dryRun=All", w.maps()), &config_map("b", json!({}))).await?.is(404);
    w.post(format!("{}?dryRun=All", w.widgets()), &widget("a", json!({"size": 0}))).await?.is(422);
    w.delete(format!("{}/none?dryRun=All", w.maps())).await?.is(404);
    w.post("/api/v1/namespaces/nowhere/configmaps?dryRun=All", &config_map("a", json!({}))).await?.is(404);
    Ok(())
}

async fn values_that_are_none(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    let path = format!("{}/a", w.maps());
    let said = |kind: &str| {
        format!(
            "{kind}.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
        )
    };
    let cause =
        ("FieldValueNotSupported", "dryRun", "Unsupported value: [\"Some\"]: supported values: \"All\"");
    w.post(format!("{}?dryRun=Some", w.maps()), &config_map("b", json!({})))
        .await?
        .refused(422, "Invalid", said("CreateOptions"))
        .causes(&[cause]);
    w.put(format!("{path}?dryRun=Some"), &config_map("a", json!({}))).await?.refused(
        422,
        "Invalid",
        said("UpdateOptions"),
    );
    w.patch(MERGE, format!("{path}?dryRun=Some"), &json!({})).await?.refused(
        422,
        "Invalid",
        said("PatchOptions"),
    );
    w.delete(format!("{path}?dryRun=Some")).await?.refused(422, "Invalid", said("DeleteOptions"));
    w.delete_with(&path, &json!({"dryRun": ["Some"]})).await?.refused(422, "Invalid", said("DeleteOptions"));
    w.get(&path).await?.is(200);
    // The empty value is no value either.
    w.post(format!("{}?dryRun=", w.maps()), &config_map("c", json!({}))).await?.is(422);
    w.get(format!("{}/c", w.maps())).await?.is(404);
    Ok(())
}
