// SPDX-License-Identifier: Apache-2.0

//! OpenAPI documents for clients that validate or explain: `kubectl apply`, `kubectl explain`.

use serde_json::{Map, Value, json};

use crate::body::{self, Answer};
use crate::object;
use crate::registry::{Catalogue, Served};
use crate::status::ApiError;

/// Answers under `/openapi`.
///
/// # Errors
/// 404 for documents that there are not.
pub(crate) fn document(catalogue: &Catalogue, path: &str) -> Result<Answer, ApiError> {
    let parts: Vec<&str> = path.split('/').collect();
    let value = match parts.as_slice() {
        ["v3"] => index(catalogue),
        ["v3", "api", version] => group_version(catalogue, "", version)?,
        ["v3", "apis", group, version] => group_version(catalogue, group, version)?,
        _ => return Err(ApiError::no_such_path()),
    };
    Ok(body::json_answer(http::StatusCode::OK, &value))
}

fn gv_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn index(catalogue: &Catalogue) -> Value {
    let mut paths = Map::new();
    for group in catalogue.groups() {
        for version in catalogue.versions(group) {
            let path = gv_path(group, version);
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}));
        }
    }
    json!({"paths": paths})
}

fn schema_name(served: &Served) -> String {
    let resource = &served.resource;
    let reversed: Vec<&str> = resource.group.rsplit('.').filter(|part| !part.is_empty()).collect();
    let prefix = if reversed.is_empty() { "io.k8s.api.core".to_owned() } else { reversed.join(".") };
    format!("{prefix}.{}.{}", served.version().name, resource.kind)
}

fn group_version(catalogue: &Catalogue, group: &str, version: &str) -> Result<Value, ApiError> {
    let all = catalogue.in_version(group, version);
    if all.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for served in &all {
        let resource = &served.resource;
        let gvk = json!({"group": group, "version": version, "kind": resource.kind});
        let name = schema_name(served);
        let mut schema = served.version().openapi.clone().unwrap_or_else(|| json!({"type": "object"}));
        object::object_mut(&mut schema).insert("x-kubernetes-group-version-kind".into(), json!([gvk]));
        let properties = object::object_mut(object::entry(&mut schema, "properties"));
        properties.insert("apiVersion".into(), json!({"type": "string"}));
        properties.insert("kind".into(), json!({"type": "string"}));
        properties.insert("metadata".into(), json!({"type": "object"}));
        schemas.insert(name.clone(), schema);
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("/{}{scope}/{}/{{name}}", gv_path(group, version), resource.plural);
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        let content =
            json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
        let operation = |action: &str| {
            json!({
                "parameters": parameters,
                "responses": {"200": {"description": "OK", "content": content}},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
            })
        };
        paths.insert(
            path,
            json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}),
        );
    }
    Ok(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::discovery::VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}
