// SPDX-License-Identifier: Apache-2.0

//! The rules of the built-in kinds: defaults, derived fields, validation.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{Part, Stamp};
use crate::object;
use crate::registry::{self, Builtin};
use crate::status::Cause;

/// Sum of the data of a Secret or ConfigMap (Kubernetes `MaxSecretSize`).
const MAX_DATA_BYTES: usize = 1 << 20;

pub(super) fn finish(
    kind: Builtin,
    object: &mut Value,
    old: Option<&Value>,
    part: Part,
    stamp: &Stamp,
    causes: &mut Vec<Cause>,
) {
    match kind {
        Builtin::Namespace => namespace(object, old),
        Builtin::Secret => secret(object, old, causes),
        Builtin::ConfigMap => config_map(object, old, causes),
        Builtin::CustomResourceDefinition => crd(object, old, part, stamp, causes),
        Builtin::Event => event(object, "involvedObject", causes),
        Builtin::EventsV1Event => event(object, "regarding", causes),
        Builtin::Lease => lease(object, causes),
        Builtin::ServiceAccount => {}
    }
}

fn namespace(object: &mut Value, old: Option<&Value>) {
    let name = object::name(object).to_owned();
    let labels = object::entry(object::entry(object, "metadata"), "labels");
    object::object_mut(labels).insert("kubernetes.io/metadata.name".into(), name.into());
    if old.is_none() {
        object::object_mut(object).insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
        object::object_mut(object).insert("status".into(), json!({"phase": "Active"}));
    }
}

fn secret(object: &mut Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(Value::Object(plain)) = object::object_mut(object).remove("stringData") {
        let data = object::object_mut(object::entry(object, "data"));
        for (key, value) in plain {
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
    object::object_mut(object).entry("type").or_insert_with(|| "Opaque".into());
    check_keys(object, "data", causes);
    check_immutable(object, old, &["data"], causes);
    if let Some(old) = old.filter(|old| old.get("type") != object.get("type")) {
        let found = object.get("type").or(old.get("type")).cloned().unwrap_or_default();
        causes.push(Cause::invalid("type", &found, "field is immutable"));
    }
}

fn config_map(object: &mut Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    check_keys(object, "data", causes);
    check_keys(object, "binaryData", causes);
    check_immutable(object, old, &["data", "binaryData"], causes);
}

fn check_keys(object: &Value, field: &str, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
        bytes += value.as_str().map_or(0, str::len);
        let well_formed = !key.is_empty()
            && key.len() <= 253
            && key != "."
            && !key.starts_with("..")
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !well_formed {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), why));
        }
    }
    // Base64 of the limit is four thirds of it.
    if bytes > MAX_DATA_BYTES / 3 * 4 {
        causes.push(Cause::too_long(field, MAX_DATA_BYTES as u64));
    }
}

fn check_immutable(object: &Value, old: Option<&Value>, fields: &[&str], causes: &mut Vec<Cause>) {
    let Some(old) = old.filter(|old| old.get("immutable") == Some(&Value::Bool(true))) else { return };
    let why = "field is immutable when `immutable` is set";
    if object.get("immutable") != Some(&Value::Bool(true)) {
        causes.push(Cause::forbidden("immutable", why));
    }
    for field in fields.iter().filter(|field| object.get(**field) != old.get(**field)) {
        causes.push(Cause::forbidden(*field, why));
    }
}

fn event(object: &Value, about: &str, causes: &mut Vec<Cause>) {
    let namespace = object::meta_str(object, "namespace");
    let involved = object::at(object, &[about, "namespace"]).and_then(Value::as_str).unwrap_or_default();
    // Events about cluster-scoped objects live in `default`.
    let fits = involved == namespace || (involved.is_empty() && namespace == "default");
    if !fits {
        causes.push(Cause::invalid(
            format!("{about}.namespace"),
            &involved.into(),
            "does not match event.namespace",
        ));
    }
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
        let Some(value) = object::at(object, &["spec", field]) else { continue };
        if value.as_i64().is_some_and(|number| number < least) {
            let why =
                if least == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
            causes.push(Cause::invalid(format!("spec.{field}"), value, why));
        }
    }
}

/// Names filled in, the schema checked, the status that says that it is served. Instances block the removal by a finalizer.
fn crd(object: &mut Value, old: Option<&Value>, part: Part, stamp: &Stamp, causes: &mut Vec<Cause>) {
    if part != Part::Main {
        return;
    }
    if let Err(problems) = registry::parse_crd(object) {
        causes.extend(problems.into_iter().map(|problem| match problem.why.as_str() {
            "Required value" => Cause::required(problem.field),
            why => Cause::forbidden(problem.field, why),
        }));
        return;
    }
    for path in
        [&["spec", "group"][..], &["spec", "scope"], &["spec", "names", "plural"], &["spec", "names", "kind"]]
    {
        if let Some(found) = old
            .filter(|old| object::at(old, path) != object::at(object, path))
            .and_then(|_| object::at(object, path))
        {
            causes.push(Cause::invalid(path.join("."), found, "field is immutable"));
        }
    }
    let names = registry::names_of(object);
    let storage = registry::storage_version(object).unwrap_or_default().to_owned();
    let spec = object::object_mut(object::entry(object, "spec"));
    spec.insert("names".into(), names.clone());
    spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    if old.is_none() {
        object::object_mut(object).insert("status".into(), Value::Null);
    }
    let status = object::object_mut(object::entry(object, "status"));
    status.insert("acceptedNames".into(), names);
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(list) = stored.as_array_mut().filter(|list| !list.iter().any(|v| v == storage.as_str())) {
        list.push(storage.into());
    }
    if status.get("conditions").is_none_or(Value::is_null) {
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": stamp.now});
        let conditions = [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ];
        status.insert("conditions".into(), conditions.to_vec().into());
    }
    if !old.is_some_and(object::is_deleting) {
        let finalizers = object::entry(object::entry(object, "metadata"), "finalizers");
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(list) = finalizers.as_array_mut().filter(|list| !list.iter().any(|f| f == CRD_FINALIZER))
        {
            list.push(CRD_FINALIZER.into());
        }
    }
}

/// Removed by the garbage collector when the last instance is gone.
pub(crate) const CRD_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
