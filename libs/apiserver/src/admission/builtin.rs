// SPDX-License-Identifier: Apache-2.0

//! The rules of the built-in kinds: defaults, derived fields, validation.

use base64::Engine as _;
use serde_json::{Value, json};

use super::Part;
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
    causes: &mut Vec<Cause>,
) {
    match kind {
        Builtin::Namespace => namespace(object, old),
        Builtin::Secret => secret(object, old, causes),
        Builtin::ConfigMap => config_map(object, old, causes),
        Builtin::CustomResourceDefinition => crd(object, old, part, causes),
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

/// Names filled in, everything checked. `naming` says in the status whether it is served.
fn crd(object: &mut Value, old: Option<&Value>, part: Part, causes: &mut Vec<Cause>) {
    if part != Part::Main {
        return;
    }
    let names = registry::names_of(object);
    let spec = object::object_mut(object::entry(object, "spec"));
    spec.insert("names".into(), names);
    spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    if let Err(problems) = registry::parse_crd(object) {
        causes.extend(problems);
        return;
    }
    if let Some(old) = old.filter(|old| registry::is_established(old)) {
        immutable_fields(object, old, causes);
    }
    let storage = registry::storage_version(object).unwrap_or_default().to_owned();
    if old.is_none() {
        let status = json!({"acceptedNames": {"kind": "", "plural": ""}, "storedVersions": [storage]});
        object::object_mut(object).insert("status".into(), status);
    } else {
        stored_versions(object, &storage, causes);
    }
}

/// What a served CRD is about stays; its other names may change.
fn immutable_fields(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    for path in
        [&["spec", "group"][..], &["spec", "scope"], &["spec", "names", "kind"], &["spec", "names", "plural"]]
    {
        let found = object::at(object, path);
        if let Some(found) = found.filter(|found| object::at(old, path) != Some(*found)) {
            causes.push(Cause::invalid(path.join("."), found, "field is immutable"));
        }
    }
}

/// The storage version joins those that objects may be stored in; one that may be is not taken away.
fn stored_versions(object: &mut Value, storage: &str, causes: &mut Vec<Cause>) {
    let names: Vec<String> = registry::version_names(object).into_iter().map(str::to_owned).collect();
    let status = object::object_mut(object::entry(object, "status"));
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    let Some(list) = stored.as_array_mut() else { return };
    if !list.iter().any(|version| version == storage) {
        list.push(storage.into());
    }
    for (index, version) in list.iter().enumerate() {
        let name = version.as_str().unwrap_or_default();
        if !names.iter().any(|known| known == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            causes.push(Cause::invalid(format!("status.storedVersions[{index}]"), version, why));
        }
    }
}

/// Given to a CRD whose removal was asked for; taken away by the garbage collector when the last instance is gone.
pub(crate) const CRD_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
