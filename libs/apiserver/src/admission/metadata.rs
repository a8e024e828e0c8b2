// SPDX-License-Identifier: Apache-2.0

//! The rules of `metadata`: what the system owns, what must not change, what names and keys may look like.

use serde_json::{Map, Value};

use super::Stamp;
use crate::object;
use crate::registry::{Builtin, Resource};
use crate::selector::{check_dns_label, check_dns_subdomain, check_label_value, qualified_name_problems};
use crate::status::{ApiError, Cause};

/// Sum of the annotations' bytes (Kubernetes `TotalAnnotationSizeLimitB`).
const MAX_ANNOTATION_BYTES: usize = 256 << 10;
/// Longest prefix that `generateName` keeps, so that the name with its suffix fits a label.
const MAX_GENERATED_PREFIX: usize = 58;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
const FINALIZERS: &str = "metadata.finalizers";
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

/// Takes what a client cannot set out of an object that is to be made. A write that makes an object only because there is none does not, as on Kubernetes.
pub(crate) fn wipe(object: &mut Value) {
    let metadata = object::metadata_mut(object);
    for owned in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        metadata.remove(owned);
    }
}

pub(super) fn prepare_create(object: &mut Value, namespace: &str, stamp: &Stamp) -> Result<(), ApiError> {
    check_namespace(object, namespace)?;
    let metadata = object::metadata_mut(object);
    metadata.remove("namespace");
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
    if given.is_empty() {
        return Err(ApiError::nameless(name));
    }
    Err(ApiError::misnamed(given, name))
}

/// The namespace in a body, where there is one, is that of its address; of what lives in none it is taken away.
///
/// # Errors
/// 400.
pub(crate) fn check_namespace(object: &Value, namespace: &str) -> Result<(), ApiError> {
    let given = object::meta_str(object, "namespace");
    if given.is_empty() || namespace.is_empty() || given == namespace {
        return Ok(());
    }
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    Err(ApiError::bad_request(message))
}

pub(super) fn check_identity(old: &Value, new: &Value) -> Result<(), ApiError> {
    let name = object::name(old);
    check_name(new, name)?;
    check_namespace(new, object::meta_str(old, "namespace"))
}

/// Takes what only the system sets from `old`.
pub(super) fn prepare_update(old: &Value, new: &mut Value) {
    let before = object::metadata(old).into_owned();
    let metadata = object::metadata_mut(new);
    for owned in [
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
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

/// What is wrong with the metadata of a new object.
pub(super) fn validate(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    validate_whole(resource, object, causes);
    validate_bare_finalizers(resource, object, causes);
}

/// What is wrong with a change of metadata. kube-apiserver looks at it for all kinds, and again for each.
pub(super) struct Changed {
    /// Of the first look.
    pub first: Vec<Cause>,
    /// Of the second.
    pub second: Vec<Cause>,
    /// Of the third, after what the kind says of the change: some kinds look at every change as if it were new.
    pub third: Vec<Cause>,
}

/// What is wrong with metadata that is changed; `immutable` is what is wrong with what only the system sets.
pub(super) fn validate_update(
    resource: &Resource,
    old: &Value,
    new: &Value,
    immutable: Vec<Cause>,
) -> Changed {
    let mut change = Vec::new();
    if object::is_deleting(old) {
        let added = added_finalizers(Some(old), new);
        if !added.is_empty() {
            let added: Vec<String> = added.into_iter().map(|name| format!("{name:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            change.push(Cause::forbidden("metadata.finalizers", why));
        }
    }
    change.extend(immutable);
    let metadata = object::metadata(new);
    validate_labels(&metadata, &mut change);
    validate_owners(&metadata, &mut change);
    let mut first = Vec::new();
    validate_whole(resource, new, &mut first);
    first.extend(change.iter().cloned());
    use Builtin::{ConfigMap, Event, Namespace, Secret, ServiceAccount};
    let mut second = if resource.builtin() == Some(Event) { Vec::new() } else { change };
    validate_bare_finalizers(resource, new, &mut second);
    let mut third = Vec::new();
    if matches!(resource.builtin(), Some(ConfigMap | Namespace | Secret | ServiceAccount)) {
        validate(resource, new, &mut third);
    }
    if resource.builtin() == Some(Namespace) {
        std::mem::swap(&mut second, &mut third);
    }
    Changed { first, second, third }
}

fn validate_whole(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let metadata = object::metadata(object);
    validate_name(resource, &metadata, causes);
    validate_labels(&metadata, causes);
    validate_owners(&metadata, causes);
    validate_finalizers(list(&metadata, "finalizers"), causes);
}

/// Labels and annotations.
fn validate_labels(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    for (key, value) in map(metadata, "labels") {
        let at = "metadata.labels";
        for why in qualified_name_problems(key) {
            causes.push(Cause::invalid(at, &key.as_str().into(), why));
        }
        if let Err(why) = check_label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(at, value, why));
        }
    }
    let mut bytes = 0;
    for (key, value) in map(metadata, "annotations") {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        for why in qualified_name_problems(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.as_str().into(), why));
        }
    }
    if bytes > MAX_ANNOTATION_BYTES {
        causes.push(Cause::too_long("metadata.annotations", MAX_ANNOTATION_BYTES as u64));
    }
}

/// Finalizers that an object did not have before.
fn added_finalizers<'a>(old: Option<&Value>, new: &'a Value) -> Vec<&'a str> {
    let before = old.map(object::finalizers).unwrap_or_default();
    object::finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect()
}

/// A finalizer without a domain that Kubernetes does not know.
fn is_bare(finalizer: &str) -> bool {
    !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer)
}

fn validate_finalizers(finalizers: &[Value], causes: &mut Vec<Cause>) {
    for finalizer in finalizers {
        for why in qualified_name_problems(finalizer.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(FINALIZERS, finalizer, why));
        }
    }
    if ["orphan", "foregroundDeletion"].iter().all(|wanted| finalizers.iter().any(|one| one == wanted)) {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(Cause::invalid(FINALIZERS, &finalizers.into(), why));
    }
}

/// Kinds of the first groups are strict about finalizers without a domain; definitions and custom resources are not.
fn validate_bare_finalizers(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    // Those of the core group alone, but for its Events.
    use Builtin::{CustomResourceDefinition, Event, Lease};
    if matches!(resource.builtin(), None | Some(CustomResourceDefinition | Event | Lease)) {
        return;
    }
    for (index, finalizer) in list(&object::metadata(object), "finalizers").iter().enumerate() {
        if finalizer.as_str().is_some_and(is_bare) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(format!("{FINALIZERS}[{index}]"), finalizer, why));
        }
    }
}

/// What is to be said of the finalizers that a write gives a custom resource.
pub(crate) fn warnings(resource: &Resource, old: Option<&Value>, new: &Value) -> Vec<String> {
    if resource.builtin().is_some() {
        return Vec::new();
    }
    let mut bare: Vec<&str> = added_finalizers(old, new).into_iter().filter(|one| is_bare(one)).collect();
    bare.sort_unstable();
    let why =
        "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers";
    bare.iter().map(|finalizer| format!("metadata.finalizers: {finalizer:?}: {why}")).collect()
}

/// What only the system sets, and a change gives otherwise; other such fields are silently kept.
pub(super) fn immutable(old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let deleting = object::is_deleting(old);
    for (field, kept) in
        [("uid", false), ("deletionTimestamp", deleting), ("deletionGracePeriodSeconds", false)]
    {
        let at = |value: &Value| object::at(value, &["metadata", field]).cloned().unwrap_or_default();
        let (before, given) = (at(old), at(new));
        if !kept && !matches!(given, Value::Null) && given != "" && given != before {
            causes.push(Cause::invalid(format!("metadata.{field}"), &given, "field is immutable"));
        }
    }
    causes
}

fn validate_name(resource: &Resource, metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    let check = |name: &str| match resource.builtin() {
        Some(Builtin::Namespace) => check_dns_label(name),
        // The rules of the core group's Events ask for no form.
        Some(Builtin::Event) => check_path_segment(name),
        _ => check_dns_subdomain(name),
    };
    let prefix = text("generateName");
    // It may end in a hyphen: a suffix follows.
    let begun = match prefix.strip_suffix('-') {
        Some(begun) if !begun.is_empty() => format!("{begun}a"),
        _ => prefix.to_owned(),
    };
    if let Err(why) = check(&begun)
        && !prefix.is_empty()
    {
        causes.push(Cause::invalid("metadata.generateName", &prefix.into(), why));
    }
    let name = text("name");
    if name.is_empty() {
        causes.push(Cause::required_because("metadata.name", "name or generateName is required"));
    } else if let Err(why) = check(name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
}

/// What can stand in a path.
fn check_path_segment(name: &str) -> Result<(), String> {
    if matches!(name, "." | "..") {
        return Err(format!("may not be '{name}'"));
    }
    match ["/", "%"].into_iter().find(|odd| name.contains(odd)) {
        Some(odd) => Err(format!("may not contain '{odd}'")),
        None => Ok(()),
    }
}

fn validate_owners(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    let references = list(metadata, "ownerReferences");
    for owner in references {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion");
        // What is no group and version has no version.
        if version.is_empty() || version.matches('/').count() > 1 || version.ends_with('/') {
            let at = format!("{FIELD}.apiVersion");
            causes.push(Cause::invalid(at, &version.into(), "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                causes.push(Cause::invalid(format!("{FIELD}.{field}"), &"".into(), "must not be empty"));
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(Cause::invalid_json(FIELD, &in_order(owner), why));
        }
        if owner.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let this = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => {
                let shown: Vec<String> = references.iter().map(in_order).collect();
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                causes.push(Cause::invalid_json(FIELD, &format!("[{}]", shown.join(",")), &why));
            }
        }
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
