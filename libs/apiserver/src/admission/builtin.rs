// SPDX-License-Identifier: Apache-2.0

//! The rules of the built-in kinds: defaults, derived fields, validation.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::Part;
use crate::json;
use crate::object;
use crate::registry::{self, Builtin};
use crate::selector::qualified_name_problems;
use crate::status::Cause;

/// Sum of the data of a Secret or ConfigMap (Kubernetes `MaxSecretSize`).
const MAX_DATA_BYTES: usize = 1 << 20;
/// Longest key of their data.
const MAX_KEY_BYTES: usize = 253;
/// Longest action, reason and reporting instance of an Event with a time.
const MAX_EVENT_WORD: usize = 128;
/// Longest text of one.
const MAX_EVENT_NOTE: usize = 1024;

/// What is wrong with an object by the rules of its kind, in the order in which kube-apiserver looks.
#[derive(Default)]
pub(super) struct Wrong {
    /// With what was changed, of kinds that look at the whole object after that.
    pub change: Vec<Cause>,
    /// With the object.
    pub object: Vec<Cause>,
}

pub(super) fn finish(kind: Builtin, object: &mut Value, old: Option<&Value>, part: Part) -> Wrong {
    let mut wrong = Wrong::default();
    let causes = &mut wrong.object;
    if let (Value::Object(object), Value::Object(zero)) = (&mut *object, kind.zero()) {
        for (field, value) in zero.into_iter().filter(|_| kind != Builtin::CustomResourceDefinition) {
            object.entry(field).or_insert(value);
        }
    }
    match kind {
        Builtin::Namespace => namespace(object, old, part),
        Builtin::Secret => secret(object, old, &mut wrong),
        Builtin::ConfigMap => config_map(object, old, &mut wrong),
        Builtin::CustomResourceDefinition => crd(object, old, part, causes),
        Builtin::Event => core_event(object, causes),
        Builtin::EventsV1Event => new_event(object, old, causes),
        Builtin::Lease => lease(object, causes),
        Builtin::ServiceAccount => service_account(object),
    }
    wrong
}

/// Of the Secrets of an account only the names are kept.
fn service_account(object: &mut Value) {
    let secrets = object.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten();
    for secret in secrets.filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}

fn namespace(object: &mut Value, old: Option<&Value>, part: Part) {
    let name = object::name(object).to_owned();
    let labels = object::entry(object::entry(object, "metadata"), "labels");
    object::object_mut(labels).insert("kubernetes.io/metadata.name".into(), name.into());
    match old {
        None => {
            object::object_mut(object).insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
            object::object_mut(object).insert("status".into(), json!({"phase": "Active"}));
        }
        // Only its finalization takes the finalizers away.
        Some(old) if part == Part::Main => {
            let spec = old.get("spec").cloned().unwrap_or_default();
            object::object_mut(object).insert("spec".into(), spec);
        }
        Some(_) => {}
    }
}

fn secret(object: &mut Value, old: Option<&Value>, wrong: &mut Wrong) {
    if let Some(Value::Object(plain)) = object::object_mut(object).remove("stringData")
        && !plain.is_empty()
    {
        let data = object::object_mut(object::entry(object, "data"));
        for (key, value) in plain {
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
    let kind = object::object_mut(object).entry("type").or_insert_with(|| "".into());
    if *kind == "" {
        *kind = "Opaque".into();
    }
    if let Some(old) = old.filter(|old| old.get("type") != object.get("type")) {
        let found = object.get("type").or(old.get("type")).cloned().unwrap_or_default();
        wrong.change.push(Cause::invalid("type", &found, "field is immutable"));
    }
    check_immutable(object, old, &["data"], &mut wrong.change);
    let causes = &mut wrong.object;
    check_keys(object, "data", causes);
    let bytes: usize = values(object, "data").map(|(_, value)| decoded_length(value)).sum();
    if bytes > MAX_DATA_BYTES {
        causes.push(Cause::too_long("data", MAX_DATA_BYTES as u64));
    }
    secret_type(object, causes);
}

/// What a Secret of a well-known type has to have.
fn secret_type(object: &Value, causes: &mut Vec<Cause>) {
    let data = object.get("data").and_then(Value::as_object);
    let has = |key: &str| data.is_some_and(|data| data.contains_key(key));
    let required = |key: &str| Cause::required(format!("data[{key}]"));
    match object.get("type").and_then(Value::as_str).unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            let account = object::at(object, &["metadata", "annotations", annotation]);
            if account.and_then(Value::as_str).is_none_or(str::is_empty) {
                causes.push(Cause::required(format!("metadata.annotations[{annotation}]")));
            }
        }
        "kubernetes.io/dockercfg" => docker(data, ".dockercfg", causes),
        "kubernetes.io/dockerconfigjson" => docker(data, ".dockerconfigjson", causes),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            causes.extend(["username", "password"].map(required));
        }
        "kubernetes.io/ssh-auth" => {
            let key = data.and_then(|data| data.get("ssh-privatekey")).and_then(Value::as_str);
            if key.is_none_or(str::is_empty) {
                causes.push(required("ssh-privatekey"));
            }
        }
        "kubernetes.io/tls" => {
            causes.extend(["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)).map(required));
        }
        _ => {}
    }
}

/// A registry's credentials are JSON; what is wrong in them is not shown.
fn docker(data: Option<&Map<String, Value>>, key: &str, causes: &mut Vec<Cause>) {
    let at = format!("data[{key}]");
    let Some(encoded) = data.and_then(|data| data.get(key)).and_then(Value::as_str) else {
        causes.push(Cause::required(at));
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    if let Err(error) = json::parse(&bytes) {
        let why = json::problem(&bytes).unwrap_or(error.to_string());
        causes.push(Cause::invalid(at, &"<secret contents redacted>".into(), why));
    }
}

fn config_map(object: &Value, old: Option<&Value>, wrong: &mut Wrong) {
    check_immutable(object, old, &["data", "binaryData"], &mut wrong.change);
    let causes = &mut wrong.object;
    check_keys(object, "data", causes);
    for (key, _) in values(object, "data") {
        if object::at(object, &["binaryData", key]).is_some() {
            let why = "duplicate of key present in binaryData";
            causes.push(Cause::invalid(format!("data[{key}]"), &key.into(), why));
        }
    }
    check_keys(object, "binaryData", causes);
    let text: usize = values(object, "data").map(|(_, value)| value.len()).sum();
    let binary: usize = values(object, "binaryData").map(|(_, value)| decoded_length(value)).sum();
    if text.saturating_add(binary) > MAX_DATA_BYTES {
        // Of the object as a whole: kube-apiserver names no field.
        causes.push(Cause::too_long("[]", MAX_DATA_BYTES as u64));
    }
}

fn values<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object.get(field).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

/// Bytes that base64 stands for.
fn decoded_length(base64: &str) -> usize {
    base64.trim_end_matches('=').len() / 4 * 3 + base64.trim_end_matches('=').len() % 4 * 3 / 4
}

fn check_keys(object: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (key, _) in values(object, field) {
        let mut wrong = |why: &str| causes.push(Cause::invalid(format!("{field}[{key}]"), &key.into(), why));
        if key.len() > MAX_KEY_BYTES {
            wrong(&format!("must be no more than {MAX_KEY_BYTES} characters"));
        }
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            wrong(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            );
        }
        match key {
            "." => wrong("must not be '.'"),
            ".." => wrong("must not be '..'"),
            _ if key.starts_with("..") => wrong("must not start with '..'"),
            _ => {}
        }
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

/// An Event of the core group.
fn core_event(object: &Value, causes: &mut Vec<Cause>) {
    event(object, ["involvedObject", "reportingComponent", "message"], causes);
}

/// An Event of `events.k8s.io`, which has to be of the new form when it is made.
fn new_event(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    event(object, ["regarding", "reportingController", "note"], causes);
    if let Some(old) = old {
        if object.get("series") != old.get("series") {
            series(object, causes);
        }
        unchanged(object, old, causes);
        return;
    }
    series(object, causes);
    if object.get("eventTime").is_none_or(Value::is_null) {
        causes.push(Cause::required("eventTime"));
    }
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "Normal" | "Warning") {
        causes.push(Cause::invalid("type", &"".into(), format!("has invalid value: {kind}")));
    }
    for (field, core) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        let says_nothing = |value: &Value| value.is_null() || *value == json!(0) || *value == json!({});
        if object.get(field).is_some_and(|value| !says_nothing(value)) {
            causes.push(Cause::invalid(core, &"".into(), "needs to be unset"));
        }
    }
}

/// What an Event that stands for several has to say of them.
fn series(object: &Value, causes: &mut Vec<Cause>) {
    let Some(series) = object.get("series").filter(|series| !series.is_null()) else { return };
    if series.get("count").and_then(Value::as_i64).unwrap_or(0) < 2 {
        causes.push(Cause::invalid("series.count", &"".into(), "should be at least 2"));
    }
    if series.get("lastObservedTime").is_none_or(Value::is_null) {
        causes.push(Cause::required("series.lastObservedTime"));
    }
}

/// Only the series of an Event changes: each other field is named as in the core group.
fn unchanged(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const FIELDS: [(&str, &str); 14] = [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        // Kubernetes looks twice.
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, core) in FIELDS {
        let nothing = match field {
            "reason" | "note" | "type" | "action" | "reportingController" | "reportingInstance" => json!(""),
            "regarding" | "deprecatedSource" => json!({}),
            "deprecatedCount" => json!(0),
            _ => Value::Null,
        };
        let of = |event: &Value| event.get(field).cloned().unwrap_or_else(|| nothing.clone());
        let value = of(object);
        if value != of(old) {
            let shown = match field {
                "regarding" | "related" if value.is_object() => internal(&value, REFERENCE),
                "deprecatedSource" => internal(&value, SOURCE),
                _ => value.to_string(),
            };
            causes.push(Cause::invalid_json(core, &shown, "field is immutable"));
        }
    }
}

/// Fields and what they are called in the type that Kubernetes has for itself, which writes all of them.
type Internal = &'static [(&'static str, &'static str)];

const REFERENCE: Internal = &[
    ("kind", "Kind"),
    ("namespace", "Namespace"),
    ("name", "Name"),
    ("uid", "UID"),
    ("apiVersion", "APIVersion"),
    ("resourceVersion", "ResourceVersion"),
    ("fieldPath", "FieldPath"),
];
const SOURCE: Internal = &[("component", "Component"), ("host", "Host")];

fn internal(value: &Value, fields: Internal) -> String {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let shown = fields.iter().map(|(field, name)| format!("{name:?}:{}", json!(text(field))));
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

/// What both forms share. One with a time says who reports it.
fn event(object: &Value, [about, reporter, message]: [&str; 3], causes: &mut Vec<Cause>) {
    // Named so in either form.
    const REPORTER: &str = "reportingController";
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let namespace = object::meta_str(object, "namespace");
    let involved = object::at(object, &[about, "namespace"]).and_then(Value::as_str).unwrap_or_default();
    let timed = object.get("eventTime").is_some_and(|time| !time.is_null());
    // Events about cluster-scoped objects live in `default`.
    let fits = match (timed, involved.is_empty()) {
        (_, true) => namespace == "default" || (timed && namespace == "kube-system"),
        (false, false) => involved == namespace,
        (true, false) => true,
    };
    if !fits {
        let why = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &involved.into(), why));
    }
    if !timed {
        return;
    }
    if text(reporter).is_empty() {
        causes.push(Cause::required(REPORTER));
    }
    for why in qualified_name_problems(text(reporter)) {
        causes.push(Cause::invalid(REPORTER, &text(reporter).into(), why));
    }
    for field in ["reportingInstance", "action", "reason"] {
        match text(field) {
            "" => causes.push(Cause::required(field)),
            long if long.len() > MAX_EVENT_WORD => {
                let why = format!("can have at most {MAX_EVENT_WORD} characters");
                causes.push(Cause::invalid(field, &"".into(), why));
            }
            _ => {}
        }
    }
    if text(message).len() > MAX_EVENT_NOTE {
        let why = format!("can have at most {MAX_EVENT_NOTE} characters");
        causes.push(Cause::invalid("message", &"".into(), why));
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
    if let Some(old) = old.filter(|old| registry::is_established(old)) {
        immutable_fields(object, old, causes);
    }
    if old.is_none() {
        approval(object, causes);
    }
    if let Err(problems) = registry::parse_crd(object) {
        causes.extend(problems);
        return;
    }
    if old.is_none_or(|old| old.get("spec") != object.get("spec")) {
        causes.extend(registry::rule_problems(object));
    }
    let storage = registry::storage_version(object).unwrap_or_default().to_owned();
    if old.is_none() {
        let status = json!({
            "acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": [storage],
        });
        object::object_mut(object).insert("status".into(), status);
    } else {
        stored_versions(object, &storage, causes);
    }
}

/// Groups of the community need its word for it.
fn approval(object: &Value, causes: &mut Vec<Cause>) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    let group = object::at(object, &["spec", "group"]).and_then(Value::as_str).unwrap_or_default();
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    let given = object::at(object, &["metadata", "annotations", ANNOTATION]).and_then(Value::as_str);
    let at = format!("metadata.annotations[{ANNOTATION}]");
    let more = "see https://github.com/kubernetes/enhancements/pull/1111";
    match given.unwrap_or_default() {
        _ if !protected => {}
        "" => {
            let why = format!("protected groups must have approval annotation \"{ANNOTATION}\", {more}");
            causes.push(Cause::required_because(at, &why));
        }
        reason if reason.starts_with("unapproved") || reason.contains("://") => {}
        other => {
            let why = format!(
                "protected groups must have approval annotation \"{ANNOTATION}\" with either a URL or a reason starting with \"unapproved\", {more}"
            );
            causes.push(Cause::invalid(at, &other.into(), why));
        }
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
