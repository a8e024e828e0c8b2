// SPDX-License-Identifier: Apache-2.0
//! Who is let in, what those who are not are told, and what one may ask about oneself.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, JSON, World, config_map};

pub const ALL: &[Check] = &[
    ("tokens", |w| Box::pin(tokens(w))),
    ("what_the_forbidden_are_told", |w| Box::pin(what_the_forbidden_are_told(w))),
    ("reviews", |w| Box::pin(reviews(w))),
    ("impersonation", |w| Box::pin(impersonation(w))),
];

async fn tokens(w: &World<'_>) -> Result<()> {
    w.as_token(Some("wrong"), &w.maps()).await?.refused(401, "Unauthorized", "Unauthorized");
    w.as_token(Some("wrong"), "/version").await?.refused(401, "Unauthorized", "Unauthorized");
    // Who says nothing is anonymous.
    w.as_token(None, &w.maps()).await?.refused(
        403,
        "Forbidden",
        format!("configmaps is forbidden: User \"system:anonymous\" cannot list resource \"configmaps\" in API group \"\" in the namespace {:?}", w.namespace),
    );
    w.as_token(None, "/version").await?.is(200);
    w.as_token(None, "/healthz").await?.is(200).text_is("ok");
    w.as_token(None, "/readyz").await?.is(200).text_is("ok");
    w.as_token(None, "/apis").await?.refused(
        403,
        "Forbidden",
        "forbidden: User \"system:anonymous\" cannot get path \"/apis\"",
    );
    Ok(())
}

/// Method and path of what nobody may do, with the message and the details that they get.
fn questions(w: &World<'_>) -> Vec<(&'static str, String, String, Value)> {
    let cannot = |what: &str, verb: &str, kind: &str, group: &str| {
        format!(
            "{what} is forbidden: User \"nobody\" cannot {verb} resource \"{kind}\" in API group \"{group}\""
        )
    };
    let space = format!(" in the namespace {:?}", w.namespace);
    let all = |method, query: &str, verb| {
        let said = cannot("configmaps", verb, "configmaps", "") + &space;
        (method, format!("{}{query}", w.maps()), said, json!({"kind": "configmaps"}))
    };
    let one = |method, verb| {
        let said = cannot("configmaps \"a\"", verb, "configmaps", "") + &space;
        (method, format!("{}/a", w.maps()), said, json!({"name": "a", "kind": "configmaps"}))
    };
    let everywhere =
        cannot("widgets.example.org", "list", "widgets", "example.org") + " at the cluster scope";
    let status = cannot("widgets.example.org \"a\"", "patch", "widgets/status", "example.org") + &space;
    vec![
        all("GET", "", "list"),
        all("GET", "?watch=1", "watch"),
        all("POST", "", "create"),
        all("DELETE", "", "deletecollection"),
        one("GET", "get"),
        one("PUT", "update"),
        one("PATCH", "patch"),
        one("DELETE", "delete"),
        (
            "GET",
            "/api/v1/namespaces".to_owned(),
            cannot("namespaces", "list", "namespaces", "") + " at the cluster scope",
            json!({"kind": "namespaces"}),
        ),
        (
            "GET",
            "/apis/example.org/v1/widgets".to_owned(),
            everywhere,
            json!({"group": "example.org", "kind": "widgets"}),
        ),
        (
            "PATCH",
            format!("{}/a/status", w.widgets()),
            status,
            json!({"name": "a", "group": "example.org", "kind": "widgets"}),
        ),
        (
            "GET",
            "/metrics".to_owned(),
            "forbidden: User \"nobody\" cannot get path \"/metrics\"".to_owned(),
            json!({}),
        ),
    ]
}

async fn what_the_forbidden_are_told(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({}))).await?;
    for (method, path, message, details) in questions(w) {
        let headers = [("impersonate-user", "nobody"), ("content-type", JSON)];
        w.send(method, path, &headers, if method == "GET" { "" } else { "{}" })
            .await?
            .refused(403, "Forbidden", message)
            .details(details);
    }
    w.get(format!("{}/a", w.maps())).await?.is(200);
    Ok(())
}

async fn reviews(w: &World<'_>) -> Result<()> {
    let review = |attributes: Value| json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": attributes});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let attributes =
        json!({"resourceAttributes": {"verb": "get", "resource": "configmaps", "namespace": w.namespace}});
    let mine = w
        .post(path, &review(attributes.clone()))
        .await?
        .is(201)
        .at("/kind", "SelfSubjectAccessReview")
        .at("/spec", attributes.clone());
    mine.at("/status/allowed", true);
    let nobody = [
        ("impersonate-user", "nobody"),
        ("impersonate-group", "system:authenticated"),
        ("content-type", JSON),
    ];
    w.send("POST", path, &nobody, review(attributes).to_string())
        .await?
        .is(201)
        .at("/status", json!({"allowed": false}));
    let elsewhere = json!({"nonResourceAttributes": {"verb": "get", "path": "/healthz"}});
    w.send("POST", path, &nobody, review(elsewhere).to_string()).await?.is(201).at("/status/allowed", true);
    w.post(path, &review(json!({}))).await?.refused(
        422,
        "Invalid",
        ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
    );
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    w.post(path, &who)
        .await?
        .is(201)
        .at("/status/userInfo/username", "admin")
        .at("/status/userInfo/groups", json!(["system:masters", "system:authenticated"]));
    w.send("POST", path, &nobody, who.to_string())
        .await?
        .is(201)
        .at("/status/userInfo", json!({"username": "nobody", "groups": ["system:authenticated"]}));
    w.get(path).await?.is(405);
    Ok(())
}

async fn impersonation(w: &World<'_>) -> Result<()> {
    let masters = [("impersonate-user", "somebody"), ("impersonate-group", "system:masters")];
    w.send("GET", w.maps(), &masters, "").await?.is(200);
    // Who may nothing may not be another either.
    let group_only = [("impersonate-group", "system:masters")];
    w.send("GET", w.maps(), &group_only, "").await?.is(500);
    Ok(())
}
