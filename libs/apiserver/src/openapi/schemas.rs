// SPDX-License-Identifier: Apache-2.0

//! The schemas that the documents publish: of the built-in kinds (made from their `k8s_openapi` types), of Kubernetes' common types, and of custom
//! resources (their CRD's, with the fields that every object has). Pure; called by `openapi`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event as EventsV1;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, ObjectMeta, Status};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::object;
use crate::registry::{Builtin, Served};

/// Where references point to in version 3 documents.
pub(super) const PREFIX: &str = "#/components/schemas/";

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(crate) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
pub(super) const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";

/// What the Go types say of a list or map beyond its JSON type.
#[derive(Clone, Copy)]
enum Extension {
    AtomicMap,
    AtomicList,
    /// A set of plain values that strategic merge patch adds to.
    MergedSet,
    /// A list of objects told apart by a field.
    Map(&'static str),
    /// The same, which strategic merge patch merges by that field.
    MergedMap(&'static str),
}

/// Definition (without its prefix up to the version), property (empty: the definition itself), what it is. From the published OpenAPI document of Kubernetes 1.34.
const EXTENSIONS: &[(&str, &str, Extension)] = &[
    ("meta.v1.ObjectMeta", "finalizers", Extension::MergedSet),
    ("meta.v1.ObjectMeta", "managedFields", Extension::AtomicList),
    ("meta.v1.ObjectMeta", "ownerReferences", Extension::MergedMap("uid")),
    ("meta.v1.OwnerReference", "", Extension::AtomicMap),
    ("meta.v1.StatusDetails", "causes", Extension::AtomicList),
    ("meta.v1.DeleteOptions", "dryRun", Extension::AtomicList),
    ("core.v1.LocalObjectReference", "", Extension::AtomicMap),
    ("core.v1.NamespaceSpec", "finalizers", Extension::AtomicList),
    ("core.v1.NamespaceStatus", "conditions", Extension::MergedMap("type")),
    ("core.v1.ObjectReference", "", Extension::AtomicMap),
    ("core.v1.ServiceAccount", "imagePullSecrets", Extension::AtomicList),
    ("core.v1.ServiceAccount", "secrets", Extension::MergedMap("name")),
    ("apiextensions.v1.CustomResourceDefinitionNames", "categories", Extension::AtomicList),
    ("apiextensions.v1.CustomResourceDefinitionNames", "shortNames", Extension::AtomicList),
    ("apiextensions.v1.CustomResourceDefinitionSpec", "versions", Extension::AtomicList),
    ("apiextensions.v1.CustomResourceDefinitionStatus", "conditions", Extension::Map("type")),
    ("apiextensions.v1.CustomResourceDefinitionStatus", "storedVersions", Extension::AtomicList),
    ("apiextensions.v1.CustomResourceDefinitionVersion", "additionalPrinterColumns", Extension::AtomicList),
    ("apiextensions.v1.CustomResourceDefinitionVersion", "selectableFields", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "allOf", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "anyOf", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "enum", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "oneOf", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "required", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "x-kubernetes-list-map-keys", Extension::AtomicList),
    ("apiextensions.v1.JSONSchemaProps", "x-kubernetes-validations", Extension::MergedMap("rule")),
    ("apiextensions.v1.WebhookConversion", "conversionReviewVersions", Extension::AtomicList),
];

/// What a CEL rule may give as its reason.
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Definitions whose values are of several JSON types: published without a type, as Kubernetes does.
const UNTYPED: &[&str] = &[
    "apiextensions.v1.JSON",
    "apiextensions.v1.JSONSchemaPropsOrArray",
    "apiextensions.v1.JSONSchemaPropsOrBool",
    "apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// The definitions of the built-in kinds and of everything they are made of, by name.
static BUILTIN: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut generator = SchemaSettings::openapi3().into_generator();
    for kind in Builtin::ALL {
        definition(*kind, &mut generator);
    }
    register::<ObjectMeta>(&mut generator);
    register::<ListMeta>(&mut generator);
    register::<DeleteOptions>(&mut generator);
    register::<Status>(&mut generator);
    register::<Scale>(&mut generator);
    register::<TokenRequest>(&mut generator);
    let mut definitions = generator.take_definitions(true);
    for (name, definition) in &mut definitions {
        publish(name, definition);
    }
    let patch = json!({"type": "object", "description": "The body of a PATCH request, in the form that its media type names."});
    definitions.insert(PATCH.into(), patch);
    definitions
});

/// One of Kubernetes' own definitions.
pub(super) fn published(name: &str) -> Option<&'static Value> {
    BUILTIN.get(name)
}

/// What Kubernetes says of a field of one of its own definitions; empty where it says nothing.
pub(crate) fn description(definition: &str, field: &str) -> &'static str {
    let field = published(definition).and_then(|schema| schema.pointer(&format!("/properties/{field}")));
    field.and_then(|field| field.get("description")).and_then(Value::as_str).unwrap_or_default()
}

/// Name of the definition of a built-in kind.
pub(super) fn definition_name(kind: Builtin) -> String {
    definition(kind, &mut SchemaSettings::openapi3().into_generator())
}

/// True for the name of one of Kubernetes' own definitions.
pub(super) fn is_builtin(name: &str) -> bool {
    BUILTIN.contains_key(name)
}

fn register<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

/// Registers a kind; its definition's name.
fn definition(kind: Builtin, generator: &mut SchemaGenerator) -> String {
    match kind {
        Builtin::Namespace => register::<Namespace>(generator),
        Builtin::Secret => register::<Secret>(generator),
        Builtin::ConfigMap => register::<ConfigMap>(generator),
        Builtin::Event => register::<Event>(generator),
        Builtin::EventsV1Event => register::<EventsV1>(generator),
        Builtin::ServiceAccount => register::<ServiceAccount>(generator),
        Builtin::Lease => register::<Lease>(generator),
        Builtin::CustomResourceDefinition => register::<CustomResourceDefinition>(generator),
    }
}

/// From the generated form to the published one.
fn publish(name: &str, definition: &mut Value) {
    if UNTYPED.iter().any(|untyped| name.ends_with(untyped)) {
        object::object_mut(definition).retain(|key, _| key == "description");
        return;
    }
    each_schema(definition, &mut wrap_reference);
    let is = |wanted: &str| name.strip_suffix(wanted).is_some_and(|before| before.ends_with('.'));
    // The Rust types always have metadata; on the wire only core Events must.
    if !is("core.v1.Event")
        && let Some(required) = definition.get_mut("required").and_then(Value::as_array_mut)
    {
        required.retain(|field| field != "metadata");
    }
    // A time that may be null, and must be there all the same.
    if is("events.v1.Event") {
        let required = object::entry(definition, "required");
        match required.as_array_mut() {
            Some(list) => list.push("eventTime".into()),
            None => *required = json!(["eventTime"]),
        }
    }
    if is("apiextensions.v1.ValidationRule")
        && let Some(reason) = definition.pointer_mut("/properties/reason").and_then(Value::as_object_mut)
    {
        reason.insert("enum".into(), json!(REASONS));
    }
    if definition.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        object::object_mut(definition).remove("required");
    }
    for (_, property, extension) in EXTENSIONS.iter().filter(|(wanted, _, _)| is(wanted)) {
        let node = match *property {
            "" => Some(&mut *definition),
            property => definition.get_mut("properties").and_then(|p| p.get_mut(property)),
        };
        if let Some(node) = node {
            extend(object::object_mut(node), *extension);
        }
    }
}

fn extend(node: &mut Map<String, Value>, extension: Extension) {
    let mut set = |key: &str, value: Value| node.insert(format!("x-kubernetes-{key}"), value);
    match extension {
        Extension::AtomicMap => {
            set("map-type", "atomic".into());
        }
        Extension::AtomicList => {
            set("list-type", "atomic".into());
        }
        Extension::MergedSet => {
            set("list-type", "set".into());
            set("patch-strategy", "merge".into());
        }
        Extension::Map(key) => {
            set("list-type", "map".into());
            set("list-map-keys", json!([key]));
        }
        Extension::MergedMap(key) => {
            set("list-type", "map".into());
            set("list-map-keys", json!([key]));
            set("patch-merge-key", key.into());
            set("patch-strategy", "merge".into());
        }
    }
}

/// Calls `change` for a schema and all those in it, inside first.
pub(super) fn each_schema(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Some(map) = schema.as_object_mut() else { return };
    for single in ["items", "additionalProperties", "not"] {
        if let Some(below) = map.get_mut(single) {
            each_schema(below, change);
        }
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for below in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            each_schema(below, change);
        }
    }
    for below in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        each_schema(below.1, change);
    }
    change(map);
}

/// A reference with words beside it becomes `allOf` of the reference: OpenAPI 3.0 ignores what stands beside `$ref`.
fn wrap_reference(map: &mut Map<String, Value>) {
    if map.len() > 1
        && let Some(Value::String(reference)) = map.get("$ref").cloned()
    {
        map.remove("$ref");
        map.insert("allOf".into(), json!([{"$ref": reference}]));
    }
}

/// Name of the definition of a resource in the version of the request.
pub(super) fn name_of(served: &Served) -> String {
    let resource = &served.resource;
    if let Some(kind) = resource.builtin() {
        return definition_name(kind);
    }
    let reversed: Vec<&str> = resource.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), served.version().name, resource.kind)
}

/// Name of the definition of a resource's list.
pub(super) fn list_name_of(name: &str, served: &Served) -> String {
    let package = name.strip_suffix(&served.resource.kind).unwrap_or(name);
    format!("{package}{}", served.resource.list_kind)
}

fn gvk(served: &Served, kind: &str) -> Value {
    json!({"group": served.resource.group, "version": served.version().name, "kind": kind})
}

fn reference(name: &str, description: &str) -> Value {
    json!({"allOf": [{"$ref": format!("{PREFIX}{name}")}], "description": description})
}

const ABOUT_API_VERSION: &str =
    "Group and version of this object's form. A server converts forms that it knows and refuses others.";
const ABOUT_KIND: &str = "Name of the resource that this object is, in CamelCase. The address of a request decides it; it cannot be changed.";
const ABOUT_METADATA: &str = "Name, labels, owners and what else every object has.";

/// The definition of one resource.
pub(super) fn of_resource(served: &Served, name: &str) -> Value {
    let mut schema = match (served.resource.builtin(), &served.version().openapi) {
        (Some(_), _) => BUILTIN.get(name).cloned().unwrap_or_else(|| json!({"type": "object"})),
        (None, Some(published)) => of_custom(published),
        // Fields named here would make kubectl refuse all others.
        (None, None) => json!({"type": "object"}),
    };
    let map = object::object_mut(&mut schema);
    map.insert("x-kubernetes-group-version-kind".into(), json!([gvk(served, &served.resource.kind)]));
    let selectable = &served.version().selectable;
    if served.resource.builtin().is_none() && !selectable.is_empty() {
        let fields: Vec<Value> = selectable.iter().map(|field| json!({"fieldPath": field})).collect();
        map.insert("x-kubernetes-selectable-fields".into(), fields.into());
    }
    schema
}

fn of_custom(published: &Value) -> Value {
    let mut schema = published.clone();
    each_schema(&mut schema, &mut |map| {
        // An untyped value that may be either is told in words that OpenAPI has.
        if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
            && !map.contains_key("anyOf")
            && !map.contains_key("allOf")
        {
            map.insert("anyOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
        }
        if map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
            add_object_fields(map);
            let required = map.entry("required").or_insert_with(|| json!([]));
            for field in ["kind", "apiVersion"] {
                if let Some(list) = required.as_array_mut().filter(|list| !list.iter().any(|f| f == field)) {
                    list.push(field.into());
                }
            }
        }
    });
    add_object_fields(object::object_mut(&mut schema));
    schema
}

fn add_object_fields(map: &mut Map<String, Value>) {
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    let properties = object::object_mut(properties);
    properties.insert("apiVersion".into(), json!({"type": "string", "description": ABOUT_API_VERSION}));
    properties.insert("kind".into(), json!({"type": "string", "description": ABOUT_KIND}));
    properties.insert("metadata".into(), reference(OBJECT_META, ABOUT_METADATA));
}

/// The definition of a resource's list.
pub(super) fn of_list(served: &Served, name: &str) -> Value {
    let resource = &served.resource;
    json!({
        "type": "object",
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": ABOUT_API_VERSION},
            "kind": {"type": "string", "description": ABOUT_KIND},
            "metadata": reference(LIST_META, "What every list has."),
            "items": {
                "type": "array",
                "description": format!("List of {}", resource.plural),
                "items": {"$ref": format!("{PREFIX}{name}")},
            },
        },
        "x-kubernetes-group-version-kind": [gvk(served, &resource.list_kind)],
    })
}

/// Adds every definition that is referred to and not there yet.
pub(super) fn close(schemas: &mut Map<String, Value>, roots: &[&str]) {
    let mut wanted: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    let mut seen = BTreeSet::new();
    schemas.values().for_each(|schema| references(schema, &mut wanted));
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) || schemas.contains_key(&name) {
            continue;
        }
        if let Some(definition) = BUILTIN.get(&name) {
            references(definition, &mut wanted);
            schemas.insert(name, definition.clone());
        }
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PREFIX)) {
                found.push(name.to_owned());
            }
            map.values().for_each(|below| references(below, found));
        }
        Value::Array(list) => list.iter().for_each(|below| references(below, found)),
        _ => {}
    }
}
