// SPDX-License-Identifier: Apache-2.0
//! Definitions that are refused, in Kubernetes' words.

use anyhow::Result;
use serde_json::{Value, json};

use crate::crds::definition;
use crate::world::{CRDS, Check, JSON_PATCH, World};

pub const ALL: &[Check] = &[
    ("names_and_versions", |w| Box::pin(names_and_versions(w))),
    ("structural_schemas", |w| Box::pin(structural_schemas(w))),
    ("values_in_schemas", |w| Box::pin(values_in_schemas(w))),
    ("columns_and_subresources", |w| Box::pin(columns_and_subresources(w))),
    ("what_may_not_change", |w| Box::pin(what_may_not_change(w))),
];

const GROUP: &str = "checks.example.org";

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = definition(GROUP, "Thing", "things", json!({"type": "object"}));
    change(&mut body);
    body
}

fn with_schema(spec: Value) -> Value {
    definition(GROUP, "Thing", "things", json!({"type": "object", "properties": {"spec": spec}}))
}

/// Expects that a definition is refused for this field with this message first.
async fn refused(w: &World<'_>, body: &Value, causes: &[(&str, &str, &str)]) -> Result<()> {
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    let begin = format!("CustomResourceDefinition.apiextensions.k8s.io {name:?} is invalid: ");
    w.post(format!("{CRDS}?dryRun=All"), body).await?.refused_like(422, "Invalid", &[&begin]).causes(causes);
    Ok(())
}

async fn names_and_versions(w: &World<'_>) -> Result<()> {
    let dry = format!("{CRDS}?dryRun=All");
    let body = with(|b| b["metadata"]["name"] = "wrong".into());
    refused(
        w,
        &body,
        &[(
            "FieldValueInvalid",
            "metadata.name",
            "Invalid value: \"wrong\": must be spec.names.plural+\".\"+spec.group",
        )],
    )
    .await?;
    let body = with(|b| b["spec"]["scope"] = "Galaxy".into());
    refused(
        w,
        &body,
        &[(
            "FieldValueNotSupported",
            "spec.scope",
            "Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
        )],
    )
    .await?;
    let body = with(|b| b["spec"]["versions"][0]["storage"] = false.into());
    w.post(&dry, &body).await?.refused_like(
        422,
        "Invalid",
        &[
            "spec.versions: Invalid value: ",
            ": must have exactly one version marked as storage version, ",
            "status.storedVersions: Invalid value: null: must have at least one stored version",
        ],
    );
    let body = with(|b| b["spec"]["versions"][0]["schema"] = Value::Null);
    refused(w, &body, &[("FieldValueRequired", "spec.versions[0].schema.openAPIV3Schema", "Required value")])
        .await?;
    let body = with(|b| b["spec"]["versions"][0]["name"] = "V1".into());
    w.post(&dry, &body).await?.refused_like(422, "Invalid", &["spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label must consist of lower case alphanumeric characters"]);
    let body = with(|b| {
        let version = b["spec"]["versions"][0].clone();
        b["spec"]["versions"] = json!([version.clone(), version]);
    });
    w.post(&dry, &body).await?.refused_like(422, "Invalid", &["must contain unique version names"]);
    let body = with(|b| b["spec"]["names"]["kind"] = "thing kind".into());
    w.post(&dry, &body).await?.refused_like(422, "Invalid", &["spec.names.kind: Invalid value: \"thing kind\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of"]);
    let body = with(|b| b["spec"]["preserveUnknownFields"] = true.into());
    refused(w, &body, &[("FieldValueInvalid", "spec.preserveUnknownFields", "Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead")]).await?;
    let body = with(|b| {
        b["metadata"]["name"] = "things.k8s.io".into();
        b["spec"]["group"] = "k8s.io".into();
    });
    refused(w, &body, &[("FieldValueRequired", "metadata.annotations[api-approved.kubernetes.io]", "Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111")]).await?;
    Ok(())
}

async fn structural_schemas(w: &World<'_>) -> Result<()> {
    let at = |rest: &str| format!("spec.validation.openAPIV3Schema.properties[spec]{rest}");
    let required = |rest: &str, why: &str| ("FieldValueRequired", at(rest), format!("Required value: {why}"));
    let forbidden = |rest: &str, why: &str| ("FieldValueForbidden", at(rest), format!("Forbidden: {why}"));
    let rows = [
        (json!({}), required(".type", "must not be empty for specified object fields")),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            required(".properties[a].type", "must not be empty for specified object fields"),
        ),
        (json!({"type": "array"}), required(".items", "must be specified")),
        (
            json!({"type": "array", "items": {}}),
            required(".items.type", "must not be empty for specified array items"),
        ),
        (
            json!({"type": "object", "additionalProperties": {}}),
            required(".additionalProperties.type", "must not be empty for specified object fields"),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            forbidden(".additionalProperties", "additionalProperties and properties are mutual exclusive"),
        ),
        (
            json!({"type": "object", "uniqueItems": true}),
            forbidden(
                ".uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
        ),
        (json!({"type": "object", "$ref": "#/x"}), forbidden(".$ref", "$ref is not supported")),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            required(
                ".properties",
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ),
        ),
    ];
    for (spec, (reason, field, message)) in &rows {
        refused(w, &with_schema(spec.clone()), &[(*reason, field.as_str(), message.as_str())]).await?;
    }
    Ok(())
}

async fn values_in_schemas(w: &World<'_>) -> Result<()> {
    let dry = format!("{CRDS}?dryRun=All");
    let field = "spec.validation.openAPIV3Schema.properties[spec]";
    let whole = definition(GROUP, "Thing", "things", json!({"type": "string"}));
    w.post(&dry, &whole).await?.refused_like(
        422,
        "Invalid",
        &["spec.validation.openAPIV3Schema.type: Invalid value: \"string\": must be object"],
    );
    for (spec, parts) in [
        (
            json!({"type": "string", "pattern": "("}),
            &[
                ".pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
            ][..],
        ),
        (
            json!({"type": "planet"}),
            &[
                ".type: Unsupported value: \"planet\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (json!({"type": "integer", "default": "x"}), &[".default: Invalid value: \"string\": "]),
        (json!({"type": "object", "x-kubernetes-list-type": "map"}), &["x-kubernetes-list-type"]),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"}),
            &[
                "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "heap"}),
            &[
                "x-kubernetes-list-type: Unsupported value: \"heap\": supported values: \"atomic\", \"set\", \"map\"",
            ],
        ),
        (
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            &["anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
    ] {
        let mut parts = parts.to_vec();
        parts.push(field);
        w.post(&dry, &with_schema(spec)).await?.refused_like(422, "Invalid", &parts);
    }
    Ok(())
}

async fn columns_and_subresources(w: &World<'_>) -> Result<()> {
    let version = |key: &str, value: Value| with(|b| b["spec"]["versions"][0][key] = value);
    let rows = [
        (
            version("additionalPrinterColumns", json!([{"name": "", "type": "string", "jsonPath": ".spec"}])),
            "spec.additionalPrinterColumns[0].name: Required value",
        ),
        (
            version(
                "additionalPrinterColumns",
                json!([{"name": "A", "type": "planet", "jsonPath": ".spec"}]),
            ),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"planet\": must be one of boolean,date,integer,number,string",
        ),
        (
            version("additionalPrinterColumns", json!([{"name": "A", "type": "string", "jsonPath": ""}])),
            "spec.additionalPrinterColumns[0].JSONPath: Required value",
        ),
        (
            version(
                "additionalPrinterColumns",
                json!([{"name": "A", "type": "string", "jsonPath": "spec["}]),
            ),
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec[\"",
        ),
        (
            version(
                "subresources",
                json!({"scale": {"specReplicasPath": "spec.n", "statusReplicasPath": ".status.n"}}),
            ),
            "subresources.scale.specReplicasPath: Invalid value: \"spec.n\"",
        ),
        (
            version(
                "subresources",
                json!({"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ""}}),
            ),
            "subresources.scale.statusReplicasPath: Required value",
        ),
        (
            version("selectableFields", json!([{"jsonPath": ".spec.none"}])),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to a valid field",
        ),
    ];
    for (body, part) in rows {
        w.post(format!("{CRDS}?dryRun=All"), &body).await?.refused_like(422, "Invalid", &[part]);
    }
    Ok(())
}

async fn what_may_not_change(w: &World<'_>) -> Result<()> {
    let group = "fixed.example.org";
    let path = w.of(&format!("{group}/v1"), "things");
    w.define(&definition(group, "Thing", "things", json!({"type": "object"})), &path).await?;
    let crd = format!("{CRDS}/things.{group}");
    for (field, value, said) in [
        ("scope", "Cluster", "spec.scope: Invalid value: \"Cluster\": field is immutable"),
        (
            "group",
            "other.example.org",
            "spec.group: Invalid value: \"other.example.org\": field is immutable",
        ),
    ] {
        let patch = json!([{"op": "replace", "path": format!("/spec/{field}"), "value": value}]);
        w.patch(JSON_PATCH, &crd, &patch).await?.refused_like(422, "Invalid", &[said]);
    }
    for (field, value) in [("plural", "others"), ("kind", "Other")] {
        let patch = json!([{"op": "replace", "path": format!("/spec/names/{field}"), "value": value}]);
        w.patch(JSON_PATCH, &crd, &patch).await?.refused_like(
            422,
            "Invalid",
            &[&format!("spec.names.{field}: Invalid value: {value:?}: field is immutable")],
        );
    }
    Ok(())
}
