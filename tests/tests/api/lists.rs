// SPDX-License-Identifier: Apache-2.0
//! Lists: chunks, their tokens, and what a list says of the version it shows.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, Reply, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("in_the_order_of_names", |w| Box::pin(in_the_order_of_names(w))),
    ("chunks_show_one_state", |w| Box::pin(chunks_show_one_state(w))),
    ("chunks_of_a_selection", |w| Box::pin(chunks_of_a_selection(w))),
    ("tokens_that_are_none", |w| Box::pin(tokens_that_are_none(w))),
    ("an_old_token_is_expired", |w| Box::pin(an_old_token_is_expired(w))),
    ("versions_and_how_to_match_them", |w| Box::pin(versions_and_how_to_match_them(w))),
    ("an_old_version_is_expired", |w| Box::pin(an_old_version_is_expired(w))),
];

async fn several(w: &World<'_>, names: &[&str]) -> Result<()> {
    for name in names {
        w.create(w.maps(), &config_map(name, json!({}))).await?;
    }
    Ok(())
}

fn token(list: &Reply) -> String {
    list.str("/metadata/continue").to_owned()
}

async fn in_the_order_of_names(w: &World<'_>) -> Result<()> {
    w.get(w.maps()).await?.is(200).at("/items", json!([]));
    several(w, &["b", "a-b", "a", "c.d", "a.b", "10", "9"]).await?;
    let list = w.get(w.maps()).await?.is(200).lists(&["10", "9", "a", "a-b", "a.b", "b", "c.d"]);
    let list = list.at("/kind", "ConfigMapList").at("/apiVersion", "v1");
    w.same("version", list.version().parse::<u64>().is_ok(), true);
    let keys = list.json["metadata"].as_object().map(|meta| meta.keys().cloned().collect::<Vec<_>>());
    w.same("metadata", keys, Some(vec!["resourceVersion".to_owned()]));
    // Items of typed lists do not repeat their kind, those of custom resources do.
    let list = list.at("/items/0/kind", Value::Null).at("/items/0/apiVersion", Value::Null);
    w.same("item", list.str("/items/0/metadata/name"), "10");
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    w.get(w.widgets())
        .await?
        .is(200)
        .at("/kind", "WidgetList")
        .at("/apiVersion", "example.org/v1")
        .at("/items/0/kind", "Widget")
        .at("/items/0/apiVersion", "example.org/v1");
    let everywhere = w.get("/apis/example.org/v1/widgets").await?.is(200);
    let mine = |item: &&Value| item["metadata"]["namespace"] == w.namespace.as_str();
    w.same(
        "in all namespaces",
        everywhere.json["items"].as_array().map(|i| i.iter().filter(mine).count()),
        Some(1),
    );
    Ok(())
}

async fn chunks_show_one_state(w: &World<'_>) -> Result<()> {
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        w.create(w.widgets(), &widget(name, json!({}))).await?;
    }
    let path = w.widgets();
    let first = w.get(format!("{path}?limit=3")).await?.is(200).lists(&["a", "b", "c"]);
    let first = first.at("/metadata/remainingItemCount", 4);
    w.delete(format!("{path}/e")).await?.is(200);
    w.create(w.widgets(), &widget("dd", json!({}))).await?;
    let second = w.get(format!("{path}?limit=3&continue={}", token(&first))).await?.is(200);
    let second = second.lists(&["d", "e", "f"]).at("/metadata/remainingItemCount", 1);
    w.same("the same version", second.version(), first.version());
    let last = w.get(format!("{path}?limit=3&continue={}", token(&second))).await?.is(200).lists(&["g"]);
    // An empty token of a custom resource's list is there all the same.
    let last = last.at("/metadata/continue", "").at("/metadata/remainingItemCount", Value::Null);
    w.same("the same version", last.version(), first.version());
    // A token goes on without a limit, too, and again.
    let rest = w.get(format!("{path}?continue={}", token(&first))).await?;
    rest.is(200).lists(&["d", "e", "f", "g"]).at("/metadata/continue", "");
    for limit in ["0", "7", "500", "9223372036854775807"] {
        let list = w.get(format!("{path}?limit={limit}")).await?.is(200);
        list.lists(&["a", "b", "c", "d", "dd", "f", "g"]).at("/metadata/continue", "");
    }
    let exact =
        w.get(format!("{path}?limit=7&resourceVersion={}&resourceVersionMatch=Exact", first.version()));
    exact.await?.is(200).lists(&["a", "b", "c", "d", "e", "f", "g"]);
    Ok(())
}

async fn chunks_of_a_selection(w: &World<'_>) -> Result<()> {
    for name in ["a", "b", "c", "d", "e"] {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"odd": (name == "a" || name == "c" || name == "e").to_string()});
        w.create(w.maps(), &map).await?;
    }
    let path = format!("{}?labelSelector=odd%3Dtrue&limit=2", w.maps());
    // Nobody has counted what a selector leaves.
    let first =
        w.get(&path).await?.is(200).lists(&["a", "c"]).at("/metadata/remainingItemCount", Value::Null);
    let last = w.get(format!("{path}&continue={}", token(&first))).await?.is(200).lists(&["e"]);
    last.at("/metadata/continue", Value::Null);
    let path = format!("{}?fieldSelector=metadata.name%3Db&limit=1", w.maps());
    w.get(path).await?.is(200).lists(&["b"]).at("/metadata/continue", Value::Null);
    Ok(())
}

async fn tokens_that_are_none(w: &World<'_>) -> Result<()> {
    several(w, &["a", "b"]).await?;
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    for path in [w.maps(), w.widgets()] {
        for token in ["garbage", "%25", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ"] {
            w.get(format!("{path}?limit=1&continue={token}")).await?.refused_like(
                400,
                "BadRequest",
                &["continue key is not valid: "],
            );
        }
    }
    let first = w.get(format!("{}?limit=1", w.maps())).await?.is(200);
    w.get(format!("{}?limit=1&resourceVersion=5&continue={}", w.maps(), token(&first))).await?.refused(
        400,
        "BadRequest",
        "specifying resource version is not allowed when using continue",
    );
    w.get(format!("{}?limit=1&resourceVersionMatch=Exact&continue={}", w.maps(), token(&first)))
        .await?
        .refused_like(
            422,
            "Invalid",
            &["resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"],
        );
    w.get(format!("{}?limit=-1", w.maps())).await?.is(200).lists(&["a", "b"]);
    w.get(format!("{}?limit=many", w.maps())).await?.is(400);
    Ok(())
}

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// When the state of the first chunk is forgotten, the rest can be had as it is now.
async fn an_old_token_is_expired(w: &World<'_>) -> Result<()> {
    several(w, &["a", "b", "d"]).await?;
    let first = w.get(format!("{}?limit=2", w.maps())).await?.is(200).lists(&["a", "b"]);
    several(w, &["c"]).await?;
    let path = format!("{}?limit=2&continue={}", w.maps(), token(&first));
    w.until("the token is forgotten", &path, |answer| answer.code == 410).await?;
    let expired = w.get(&path).await?.is(410);
    let expired = expired.at("/reason", "Expired").at("/message", EXPIRED).at("/status", "Failure");
    let rest =
        w.get(format!("{}?limit=1&continue={}", w.maps(), token(&expired))).await?.is(200).lists(&["c"]);
    let rest = w.get(format!("{}?limit=2&continue={}", w.maps(), token(&rest))).await?.is(200);
    rest.lists(&["d"]);
    Ok(())
}

async fn versions_and_how_to_match_them(w: &World<'_>) -> Result<()> {
    several(w, &["a"]).await?;
    let path = w.maps();
    let first = w.get(&path).await?.is(200);
    let version = first.version();
    several(w, &["b"]).await?;
    let exact = w.get(format!("{path}?resourceVersion={version}&resourceVersionMatch=Exact")).await?.is(200);
    w.same("exactly that version", exact.version(), version.clone());
    exact.lists(&["a"]);
    let newer = w.get(format!("{path}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")).await?;
    let newer = newer.is(200);
    w.same("not older", newer.version().parse::<u64>()? >= version.parse::<u64>()?, true);
    w.get(format!("{path}?resourceVersion={version}")).await?.is(200);
    w.get(format!("{path}?resourceVersion=0")).await?.is(200);
    let invalid = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: ";
    for (query, message) in [
        (
            "resourceVersionMatch=Exact",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=NotOlderThan",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Perhaps",
            "Unsupported value: \"Perhaps\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
    ] {
        w.get(format!("{path}?{query}")).await?.refused(422, "Invalid", format!("{invalid}{message}"));
    }
    let initial = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
    w.get(format!("{path}?sendInitialEvents=true")).await?.refused(422, "Invalid", initial);
    w.get(format!("{path}?resourceVersion=abc")).await?.is(400);
    let future = version.parse::<u64>()? + 1_000_000;
    w.get(format!("{path}?resourceVersion={future}"))
        .await?
        .refused_like(504, "Timeout", &[&format!("Too large resource version: {future}, current: ")])
        .has("retry-after", "1");
    Ok(())
}

async fn an_old_version_is_expired(w: &World<'_>) -> Result<()> {
    several(w, &["a"]).await?;
    let version = w.get(w.maps()).await?.is(200).version();
    let path = format!("{}?resourceVersion={version}&resourceVersionMatch=Exact", w.maps());
    w.until("the version is forgotten", &path, |answer| answer.code == 410).await?;
    let message = "The resourceVersion for the provided list is too old.";
    w.get(&path).await?.refused(410, "Expired", message);
    Ok(())
}
