// SPDX-License-Identifier: Apache-2.0

//! What is served, told to clients: `/api`, `/apis`, their groups and versions, and the aggregated form (`apidiscovery.k8s.io`). Pure.

use base64::Engine as _;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::body::{self, Answer};
use crate::object;
use crate::openapi::Document;
use crate::registry::{Builtin, Catalogue, Resource, Served};
use crate::request::{Accept, Form};
use crate::reviews;
use crate::status::ApiError;

/// The Kubernetes version whose API behaviour this server follows.
pub(crate) const VERSION: &str = "v1.34.2";

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same for custom resources, in the order that kube-apiserver gives.
const CUSTOM_VERBS: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: &[&str] = &["get", "patch", "update"];

fn verbs(resource: &Resource) -> Vec<&'static str> {
    if resource.builtin().is_none() {
        return CUSTOM_VERBS.to_vec();
    }
    // Namespaces go one by one.
    let all = resource.builtin() == Some(Builtin::Namespace);
    VERBS.iter().copied().filter(|verb| !(all && *verb == "deletecollection")).collect()
}

fn subresource_verbs(name: &str) -> &'static [&'static str] {
    match name {
        "finalize" => &["update"],
        "token" => &["create"],
        _ => SUBRESOURCE_VERBS,
    }
}

/// Group, version and kind of what a subresource takes and gives.
fn subresource_kind(served: &Served, name: &str) -> Value {
    match name {
        "scale" => json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}),
        "token" => json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}),
        _ => {
            let resource = &served.resource;
            json!({"group": resource.group, "version": served.version().name, "kind": resource.kind})
        }
    }
}

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "34",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/`.
pub(crate) fn root(catalogue: &Catalogue) -> Answer {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(str::to_owned).to_vec();
    for group in all_groups(catalogue).into_iter().filter(|g| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions(catalogue, group).iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned),
    );
    body::json_answer(StatusCode::OK, &json!({"paths": paths}))
}

/// `/api` and `/apis`.
pub(crate) fn groups(catalogue: &Catalogue, core: bool, headers: &HeaderMap) -> Result<Answer, ApiError> {
    if let Form::Discovery(version) = Accept::parse(headers)?.form {
        return Ok(aggregated(catalogue, core, version, headers));
    }
    if core {
        let value = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []});
        return Ok(body::json_answer(StatusCode::OK, &value));
    }
    let groups: Vec<Value> = all_groups(catalogue)
        .into_iter()
        .filter(|g| !g.is_empty())
        .map(|g| group_value(catalogue, g))
        .collect();
    Ok(body::json_answer(
        StatusCode::OK,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
    ))
}

/// The groups of what is stored, and of what is only answered.
fn all_groups(catalogue: &Catalogue) -> Vec<&str> {
    let mut groups = catalogue.groups();
    groups.extend(reviews::GROUPS);
    // Groups of custom resources come last, by name.
    let custom = |group: &&str| !reviews::GROUPS.contains(group) && catalogue.is_custom(group);
    groups.sort_by_key(|group| if custom(group) { (true, *group) } else { (false, "") });
    groups
}

fn versions<'a>(catalogue: &'a Catalogue, group: &str) -> Vec<&'a str> {
    let mut versions = catalogue.versions(group);
    if versions.is_empty() && reviews::GROUPS.contains(&group) {
        versions.push("v1");
    }
    versions
}

fn group_value(catalogue: &Catalogue, group: &str) -> Value {
    let versions: Vec<Value> = versions(catalogue, group)
        .into_iter()
        .map(|version| json!({"groupVersion": object::api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis/<group>`.
pub(crate) fn group(catalogue: &Catalogue, group: &str) -> Result<Answer, ApiError> {
    if group.is_empty() || !all_groups(catalogue).contains(&group) {
        return Err(ApiError::no_such_path());
    }
    let mut value = group_value(catalogue, group);
    let map = object::object_mut(&mut value);
    map.insert("kind".into(), "APIGroup".into());
    map.insert("apiVersion".into(), "v1".into());
    Ok(body::json_answer(StatusCode::OK, &value))
}

/// The subresources of a resource in a version.
pub(crate) fn subresources(served: &Served) -> Vec<&'static str> {
    let mut names = Vec::new();
    if served.version().status {
        names.push("status");
    }
    if served.version().scale.is_some() {
        names.push("scale");
    }
    if served.resource.builtin() == Some(Builtin::Namespace) {
        names.push("finalize");
    }
    if served.resource.builtin() == Some(Builtin::ServiceAccount) {
        names.push("token");
    }
    names
}

fn resource_value(resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs(resource),
    });
    let map = object::object_mut(&mut value);
    for (key, list) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !list.is_empty() {
            map.insert(key.into(), json!(list));
        }
    }
    map.insert("storageVersionHash".into(), storage_version_hash(resource).into());
    value
}

/// Tells clients whether objects are still stored in the same version: a hash as kube-apiserver makes it, of group, version and kind.
fn storage_version_hash(resource: &Resource) -> String {
    let (group, kind) = match resource.builtin() {
        // Stored in the older form.
        Some(Builtin::EventsV1Event) => ("", "Event"),
        _ => (resource.group.as_str(), resource.kind.as_str()),
    };
    let version = match resource.builtin() {
        // What kube-apiserver stores them as.
        Some(Builtin::CustomResourceDefinition) => "v1beta1",
        _ => resource.storage_version.as_str(),
    };
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(crate) fn group_version(catalogue: &Catalogue, group: &str, version: &str) -> Result<Answer, ApiError> {
    let all = catalogue.in_version(group, version);
    let mut resources: Vec<Value> = reviews::of(group, version)
        .map(|review| {
            json!({
                "name": review.plural,
                "singularName": review.kind.to_lowercase(),
                "namespaced": review.namespaced,
                "kind": review.kind,
                "verbs": ["create"],
            })
        })
        .collect();
    if all.is_empty() && resources.is_empty() {
        return Err(ApiError::no_such_path());
    }
    for served in &all {
        let resource = &served.resource;
        resources.push(resource_value(resource));
        for name in subresources(served) {
            let mut value = json!({
                "name": format!("{}/{name}", resource.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": subresource_verbs(name),
            });
            // A foreign kind is named in full.
            if let (true, Value::Object(kind)) =
                (matches!(name, "scale" | "token"), subresource_kind(served, name))
            {
                object::object_mut(&mut value).extend(kind);
            }
            resources.push(value);
        }
    }
    let value = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": object::api_version(group, version),
        "resources": resources,
    });
    Ok(body::json_answer(StatusCode::OK, &value))
}

fn aggregated(catalogue: &Catalogue, core: bool, version: &'static str, headers: &HeaderMap) -> Answer {
    let wanted = all_groups(catalogue).into_iter().filter(|group| group.is_empty() == core);
    let items: Vec<Value> = wanted.map(|group| aggregated_group(catalogue, group)).collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let media_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    Document::new(value.to_string().into_bytes()).answer(media_type, headers)
}

fn aggregated_group(catalogue: &Catalogue, group: &str) -> Value {
    let versions: Vec<Value> = versions(catalogue, group)
        .into_iter()
        .map(|version| {
            let all = catalogue.in_version(group, version);
            let answered = reviews::of(group, version).map(|review| {
                json!({
                    "resource": review.plural,
                    "responseKind": {"group": group, "version": version, "kind": review.kind},
                    "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
                    "singularResource": review.kind.to_lowercase(),
                    "verbs": ["create"],
                })
            });
            let stored = all.iter().map(|served| aggregated_resource(served, group, version));
            let resources: Vec<Value> = stored.chain(answered).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
}

fn aggregated_resource(served: &Served, group: &str, version: &str) -> Value {
    let resource = &served.resource;
    // kube-apiserver leaves the version of the core group out.
    let shown = if group.is_empty() { "" } else { version };
    let kind = json!({"group": group, "version": shown, "kind": resource.kind});
    let subresources: Vec<Value> = subresources(served)
        .into_iter()
        .map(|name| json!({"subresource": name, "responseKind": subresource_kind(served, name), "verbs": subresource_verbs(name)}))
        .collect();
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": kind,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    let map = object::object_mut(&mut value);
    for (key, list) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !list.is_empty() {
            map.insert(key.into(), json!(list));
        }
    }
    if !subresources.is_empty() {
        map.insert("subresources".into(), subresources.into());
    }
    value
}
