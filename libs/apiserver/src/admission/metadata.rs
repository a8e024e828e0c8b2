// SPDX-License-Identifier: Apache-2.0

//! The rules of `metadata`: what the system owns, what must not change, what names and keys may look like.

use serde_json::{Map, Value};

use super::Stamp;
use crate::object;
use crate::registry::{Builtin, Resource};
use crate::selector::{check_dns_label, check_dns_subdomain, check_label_value, check_qualified_name};
use crate::status::{ApiError, Cause};

/// Sum of the annotations' bytes (Kubernetes `TotalAnnotationSizeLimitB`).
const MAX_ANNOTATION_BYTES: usize = 256 << 10;
/// Longest prefix that `generateName` keeps, so that the name with its suffix fits a label.
const MAX_GENERATED_PREFIX: usize = 58;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
/// Letters of generated suffixes: no vowels, no look-alikes.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The name to create under: the given one, or one made from `generateName` and `random`.
pub(crate) fn generated_name(object: &Value, mut random: impl FnMut() -> u32) -> Option<String> {
    let name = object::name(object);
    if !name.is_empty() {
        return Some(name.to_owned());
    }
    let mut generated: String =
        object::meta_str(object, "generateName").chars().take(MAX_GENERATED_PREFIX).collect();
    if generated.is_empty() {
        return None;
    }
    for _ in 0..5 {
        let at = random() as usize % SUFFIX_LETTERS.len();
        generated.extend(SUFFIX_LETTERS.get(at).map(|letter| char::from(*letter)));
    }
    Some(generated)
}

pub(super) fn prepare_create(object: &mut Value, namespace: &str, stamp: &Stamp) -> Result<(), ApiError> {
    let given = object::meta_str(object, "namespace");
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !object::meta_str(object, "resourceVersion").is_empty() {
        return Err(ApiError::version_on_create());
    }
    let metadata = object::metadata_mut(object);
    for owned in
        ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "namespace"]
    {
        metadata.remove(owned);
    }
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    }
    metadata.insert("uid".into(), stamp.uid.as_str().into());
    metadata.insert("creationTimestamp".into(), stamp.now.as_str().into());
    Ok(())
}

/// The name in a body is that of its address.
///
/// # Errors
/// 400.
pub(crate) fn check_name(object: &Value, name: &str) -> Result<(), ApiError> {
    let given = object::name(object);
    if given == name {
        return Ok(());
    }
    let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
    Err(ApiError::bad_request(message))
}

pub(super) fn check_identity(resource: &Resource, old: &Value, new: &Value) -> Result<(), ApiError> {
    let name = object::name(old);
    check_name(new, name)?;
    let (namespace, given) = (object::meta_str(old, "namespace"), object::meta_str(new, "namespace"));
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (uid, given) = (object::uid(old), object::uid(new));
    if !given.is_empty() && given != uid {
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(ApiError::conflict(&resource.subject(name), &why));
    }
    Ok(())
}

/// Takes what only the system sets from `old`.
pub(super) fn prepare_update(old: &Value, new: &mut Value) {
    let before = object::metadata(old).into_owned();
    let metadata = object::metadata_mut(new);
    metadata.remove("selfLink");
    for owned in [
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        match before.get(owned) {
            Some(value) => metadata.insert(owned.into(), value.clone()),
            None => metadata.remove(owned),
        };
    }
}

pub(super) fn set_generation(old: &Value, new: &mut Value, changed: bool) {
    let before = object::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(1);
    let after = if changed { before.saturating_add(1) } else { before };
    object::metadata_mut(new).insert("generation".into(), after.into());
}

pub(super) fn validate(resource: &Resource, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let metadata = object::metadata(object);
    validate_name(resource, &metadata, causes);
    for (key, value) in map(&metadata, "labels") {
        let at = "metadata.labels";
        if let Err(why) = check_qualified_name(key) {
            causes.push(Cause::invalid(at, &key.as_str().into(), why));
        }
        if let Err(why) = check_label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(at, value, why));
        }
    }
    let mut bytes = 0;
    for (key, value) in map(&metadata, "annotations") {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = check_qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.as_str().into(), why));
        }
    }
    if bytes > MAX_ANNOTATION_BYTES {
        causes.push(Cause::too_long("metadata.annotations", MAX_ANNOTATION_BYTES as u64));
    }
    for (index, finalizer) in list(&metadata, "finalizers").iter().enumerate() {
        let (at, name) = (format!("metadata.finalizers[{index}]"), finalizer.as_str().unwrap_or_default());
        if let Err(why) = check_qualified_name(name) {
            causes.push(Cause::invalid(at, finalizer, why));
        } else if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(at, finalizer, why));
        }
    }
    validate_owners(&metadata, causes);
    if let Some(old) = old.filter(|old| object::is_deleting(old)) {
        let before = object::finalizers(old);
        let added: Vec<&str> =
            object::finalizers(object).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let added: Vec<String> = added.into_iter().map(|name| format!("{name:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", why));
        }
    }
}

fn validate_name(resource: &Resource, metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required_because("metadata.name", "name or generateName is required"));
        return;
    }
    let checked = match resource.builtin() {
        Some(Builtin::Namespace) => check_dns_label(name),
        // Everything else, Events too, is named like a DNS subdomain.
        _ => check_dns_subdomain(name),
    };
    if let Err(why) = checked {
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
}

fn validate_owners(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for owner in list(metadata, "ownerReferences") {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                let at = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::invalid(at, &"".into(), "must not be empty"));
            }
        }
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(Cause::invalid_json("metadata.ownerReferences", &in_order(owner), why));
        }
        controllers += usize::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", &controllers.into(), why));
    }
}

/// An owner reference as Go writes it, field by field.
fn in_order(owner: &Value) -> String {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let given = fields.iter().filter_map(|field| Some(format!("{field:?}:{}", owner.get(*field)?)));
    format!("{{{}}}", given.collect::<Vec<_>>().join(","))
}

fn map<'a>(metadata: &'a Map<String, Value>, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    metadata.get(field).and_then(Value::as_object).into_iter().flatten()
}

fn list<'a>(metadata: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    metadata.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
