// SPDX-License-Identifier: Apache-2.0
//! What the server says that it serves, one group at a time and all at once.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, World};

pub const ALL: &[Check] = &[
    ("health_and_version", |w| Box::pin(health_and_version(w))),
    ("groups", |w| Box::pin(groups(w))),
    ("resources_of_a_definition", |w| Box::pin(resources_of_a_definition(w))),
    ("resources_that_are_built_in", |w| Box::pin(resources_that_are_built_in(w))),
    ("aggregated", |w| Box::pin(aggregated(w))),
];

async fn health_and_version(w: &World<'_>) -> Result<()> {
    for path in ["/healthz", "/readyz", "/livez"] {
        w.get(path)
            .await?
            .is(200)
            .text_is("ok")
            .has("content-type", "text/plain; charset=utf-8")
            .has("x-content-type-options", "nosniff");
    }
    let version =
        w.get("/version").await?.is(200).at("/major", "1").at("/minor", "34").at("/gitVersion", "v1.34.2");
    let keys: Vec<String> =
        version.json.as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
    for key in ["buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"] {
        w.same(key, keys.iter().any(|k| k == key), true);
    }
    Ok(())
}

async fn groups(w: &World<'_>) -> Result<()> {
    let core = w.get("/api").await?.is(200).at("/kind", "APIVersions").at("/versions", json!(["v1"]));
    w.same("addresses", core.json["serverAddressByClientCIDRs"].is_array(), true);
    let all = w.get("/apis").await?.is(200).at("/kind", "APIGroupList").at("/apiVersion", "v1");
    let names: Vec<&str> =
        all.json["groups"].as_array().into_iter().flatten().filter_map(|g| g["name"].as_str()).collect();
    for group in [
        "apiextensions.k8s.io",
        "coordination.k8s.io",
        "events.k8s.io",
        "authorization.k8s.io",
        "authentication.k8s.io",
        "example.org",
    ] {
        w.same(group, names.contains(&group), true);
    }
    let version = json!({"groupVersion": "example.org/v1", "version": "v1"});
    let wanted = json!({"kind": "APIGroup", "apiVersion": "v1", "name": "example.org", "versions": [version], "preferredVersion": version});
    let group = w.get("/apis/example.org").await?.is(200);
    w.same("group", group.object(), wanted);
    for path in ["/apis/nobody.org", "/apis/nobody.org/v1", "/apis/example.org/v9", "/api/v2"] {
        let answer = w.get(path).await?.is(404);
        w.same(
            &format!("{path}: {}", answer.text()),
            answer.text().contains("ot found") || answer.str("/reason") == "NotFound",
            true,
        );
    }
    Ok(())
}

fn resource(list: &Value, name: &str) -> Value {
    let all = list["resources"].as_array().cloned().unwrap_or_default();
    all.into_iter()
        .find(|resource| resource["name"] == name)
        .map(|mut found| {
            found.as_object_mut().map(|map| map.remove("storageVersionHash"));
            found
        })
        .unwrap_or_default()
}

const ALL_VERBS: [&str; 8] =
    ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

async fn resources_of_a_definition(w: &World<'_>) -> Result<()> {
    let list = w
        .get("/apis/example.org/v1")
        .await?
        .is(200)
        .at("/kind", "APIResourceList")
        .at("/groupVersion", "example.org/v1");
    let wanted = json!({"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "verbs": ALL_VERBS,
        "shortNames": ["wd"], "categories": ["all", "toys"]});
    w.same("widgets", resource(&list.json, "widgets"), wanted);
    let wanted = json!({"name": "widgets/status", "singularName": "", "namespaced": true, "kind": "Widget", "verbs": ["get", "patch", "update"]});
    w.same("status", resource(&list.json, "widgets/status"), wanted);
    let wanted = json!({"name": "widgets/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]});
    w.same("scale", resource(&list.json, "widgets/scale"), wanted);
    Ok(())
}

async fn resources_that_are_built_in(w: &World<'_>) -> Result<()> {
    let core = w.get("/api/v1").await?.is(200).at("/groupVersion", "v1").object();
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let row = |name: &str, singular: &str, kind: &str, short: &[&str]| {
        let mut row =
            json!({"name": name, "singularName": singular, "namespaced": true, "kind": kind, "verbs": verbs});
        if !short.is_empty() {
            row["shortNames"] = json!(short);
        }
        row
    };
    w.same("configmaps", resource(&core, "configmaps"), row("configmaps", "configmap", "ConfigMap", &["cm"]));
    w.same("secrets", resource(&core, "secrets"), row("secrets", "secret", "Secret", &[]));
    w.same("events", resource(&core, "events"), row("events", "event", "Event", &["ev"]));
    w.same(
        "accounts",
        resource(&core, "serviceaccounts"),
        row("serviceaccounts", "serviceaccount", "ServiceAccount", &["sa"]),
    );
    let wanted = json!({"name": "serviceaccounts/token", "singularName": "", "namespaced": true, "group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest", "verbs": ["create"]});
    w.same("tokens", resource(&core, "serviceaccounts/token"), wanted);
    let wanted = json!({"name": "namespaces", "singularName": "namespace", "namespaced": false, "kind": "Namespace",
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"], "shortNames": ["ns"]});
    w.same("namespaces", resource(&core, "namespaces"), wanted);
    let wanted = json!({"name": "namespaces/status", "singularName": "", "namespaced": false, "kind": "Namespace", "verbs": ["get", "patch", "update"]});
    w.same("status", resource(&core, "namespaces/status"), wanted);
    let wanted = json!({"name": "namespaces/finalize", "singularName": "", "namespaced": false, "kind": "Namespace", "verbs": ["update"]});
    w.same("finalize", resource(&core, "namespaces/finalize"), wanted);
    let leases = w.get("/apis/coordination.k8s.io/v1").await?.object();
    w.same("leases", resource(&leases, "leases"), row("leases", "lease", "Lease", &[]));
    let crds = w.get("/apis/apiextensions.k8s.io/v1").await?.object();
    let wanted = json!({"name": "customresourcedefinitions", "singularName": "customresourcedefinition", "namespaced": false, "kind": "CustomResourceDefinition",
        "verbs": verbs, "shortNames": ["crd", "crds"], "categories": ["api-extensions"]});
    w.same("definitions", resource(&crds, "customresourcedefinitions"), wanted);
    let reviews = w.get("/apis/authorization.k8s.io/v1").await?.object();
    let wanted = json!({"name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": false, "kind": "SelfSubjectAccessReview", "verbs": ["create"]});
    w.same("reviews", resource(&reviews, "selfsubjectaccessreviews"), wanted);
    Ok(())
}

async fn aggregated(w: &World<'_>) -> Result<()> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = w.get_as("/apis", accept).await?.is(200).has("content-type", accept);
    let all = all.at("/kind", "APIGroupDiscoveryList").at("/apiVersion", "apidiscovery.k8s.io/v2");
    w.same("etag", all.header("etag").starts_with('"'), true);
    let again =
        w.send("GET", "/apis", &[("accept", accept), ("if-none-match", all.header("etag"))], "").await?;
    // Another scenario may have changed what is served in between.
    w.same("not modified", again.code == 304 || again.header("etag") != all.header("etag"), true);
    let groups = all.json["items"].as_array().cloned().unwrap_or_default();
    let mine =
        groups.iter().find(|group| group["metadata"]["name"] == "example.org").cloned().unwrap_or_default();
    let widgets = &mine["versions"][0];
    w.same("version", (&widgets["version"], &widgets["freshness"]), (&json!("v1"), &json!("Current")));
    let kind = |kind: &str| json!({"group": "example.org", "version": "v1", "kind": kind});
    let wanted = json!([{"resource": "widgets", "responseKind": kind("Widget"), "scope": "Namespaced", "singularResource": "widget",
    "verbs": ALL_VERBS, "shortNames": ["wd"], "categories": ["all", "toys"],
    "subresources": [
        {"subresource": "status", "responseKind": kind("Widget"), "verbs": ["get", "patch", "update"]},
        {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get", "patch", "update"]},
    ]}]);
    w.same("resources", &widgets["resources"], &wanted);
    let core = w.get_as("/api", accept).await?.is(200).at("/kind", "APIGroupDiscoveryList");
    let resources = core.json["items"][0]["versions"][0]["resources"].as_array().cloned().unwrap_or_default();
    let maps =
        resources.into_iter().find(|resource| resource["resource"] == "configmaps").unwrap_or_default();
    let wanted = json!({"resource": "configmaps", "responseKind": {"group": "", "version": "", "kind": "ConfigMap"}, "scope": "Namespaced", "singularResource": "configmap",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], "shortNames": ["cm"]});
    w.same("configmaps", maps, wanted);
    // kubectl's own header: the newest form of those that it knows.
    let many = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    w.get_as("/apis", many)
        .await?
        .is(200)
        .at("/kind", "APIGroupDiscoveryList")
        .at("/apiVersion", "apidiscovery.k8s.io/v2");
    Ok(())
}
