// SPDX-License-Identifier: Apache-2.0

//! Server-side apply: what each manager owns (`metadata.managedFields`), and what an apply therefore changes.
//!
//! An apply sets the fields that it names, removes those that its manager applied before and names no more (unless another manager owns them too), and is refused
//! when it would change a field that somebody else owns. Every other write makes its manager the owner of what it changed. Pure; called by the write handlers.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>; the field format is that of `sigs.k8s.io/structured-merge-diff` (`fields`).

mod change;
mod fields;
mod managed;
mod merge;
mod scale;
mod shape;
mod typed;

use serde_json::{Value, json};

use crate::object;
use crate::registry::{Builtin, Served};
use crate::status::ApiError;

use change::{Found, Types};
use fields::FieldSet;
use shape::Shape;
use typed::Duplicates;

pub(crate) use managed::same_but_for_times;
pub(crate) use scale::Owners;

/// Metadata that nobody owns.
const SERVER_OWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "selfLink",
    "managedFields",
];

/// Who writes, through which subresource, and when.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    pub name: String,
    pub subresource: String,
    pub time: String,
}

/// The part of an object that can be owned: not its identity, not what only the server writes.
fn ownable(object: &Value) -> Value {
    let mut object = object.clone();
    let map = object::object_mut(&mut object);
    map.remove("apiVersion");
    map.remove("kind");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        for server_owned in SERVER_OWNED.iter().copied() {
            metadata.remove(server_owned);
        }
        if metadata.is_empty() {
            map.remove("metadata");
        }
    }
    object
}

/// Checks an applied configuration, which is of the kind of the object and carries no managed fields, and gives it the object's name.
///
/// # Errors
/// 400.
pub(crate) fn configuration(
    (api_version, kind): (&str, &str),
    mut body: Value,
    name: &str,
) -> Result<Value, ApiError> {
    let managed = object::at(&body, &["metadata", "managedFields"]);
    if managed.is_some_and(|m| !m.is_null() && m.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let given = (text("apiVersion"), text("kind"));
    if given != (api_version, kind) {
        // A version without a group is that of the core group.
        let version = if given.0.contains('/') { given.0.to_owned() } else { format!("/{}", given.0) };
        return Err(ApiError::bad_request(format!("invalid object type: {version}, Kind={}", given.1)));
    }
    let metadata = object::metadata_mut(&mut body);
    metadata.insert("name".into(), name.into());
    metadata.remove("managedFields");
    Ok(body)
}

/// Notes in `managedFields` who made a new object.
pub(crate) fn record_create(served: &Served, new: &mut Value, manager: &Manager) {
    if !is_typed(served, new) {
        object::metadata_mut(new).remove("managedFields");
        return;
    }
    let noted = if managed::is_sound(new) { managed::read(new) } else { managed::Managed::new() };
    let after = ownable(new);
    let before = made_by_server(served, &after);
    let owners = change::update(&Types::of(served, ""), noted, (&before, &after), manager);
    managed::write(new, &owners);
}

/// Notes in `managedFields` of `new` that a write asked for `requested` in place of `old`.
///
/// A client that sends an empty list resets the ownership; another list that it sends replaces what was noted before (so `kubectl` hands over from client-side
/// apply); without one the noted ownership stays. Through a subresource the noted ownership counts whatever is sent. Where nobody is noted, nobody is from
/// then on: until somebody applies.
///
/// Kubernetes works the ownership out before it takes away what a write must not change: `requested` may say more than came to be. And where it cannot tell
/// the fields apart, because what was sent along or what is stored does not fit the schema, it forgets all owners.
pub(crate) fn record_update(
    served: &Served,
    old: &Value,
    requested: &Value,
    new: &mut Value,
    manager: &Manager,
) {
    let whole = manager.subresource.is_empty();
    let mut noted =
        if whole && managed::is_sound(new) { managed::read(new) } else { managed::Managed::new() };
    if noted.is_empty() && !(whole && managed::is_reset(new)) {
        noted = managed::read(old);
    }
    let nobody = noted.is_empty() && !object::uid(old).is_empty();
    if nobody || !is_typed(served, requested) || !is_typed(served, old) {
        object::metadata_mut(new).remove("managedFields");
        return;
    }
    let (before, after) = (ownable(old), asked(served, requested, new));
    let owners = change::update(&Types::of(served, &manager.subresource), noted, (&before, &after), manager);
    managed::write(new, &owners);
}

/// What a write asked for: of a built-in kind with what the server has filled in since.
fn asked(served: &Served, requested: &Value, new: &Value) -> Value {
    if served.resource.builtin().is_none() {
        return ownable(requested);
    }
    let mut asked = ownable(new);
    // What of the Secrets of an account is not kept was asked for all the same.
    if let Some(secrets) = requested.get("secrets") {
        object::object_mut(&mut asked).insert("secrets".into(), secrets.clone());
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        match object::at(requested, &["metadata", field]) {
            Some(given) => object::metadata_mut(&mut asked).insert(field.into(), given.clone()),
            None => asked.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()?.remove(field)),
        };
    }
    asked
}

/// Whether the fields of an object can be told apart by the schema of its kind.
fn is_typed(served: &Served, object: &Value) -> bool {
    let builtin = served.resource.builtin().and_then(typed::of_builtin);
    let Some(schema) = served.version().schema.as_ref().or(builtin) else { return true };
    let kind = object.get("kind").and_then(Value::as_str);
    kind == Some(&served.resource.kind) && typed::misfits(schema, object, Duplicates::Allowed).is_empty()
}

/// The part of a new object that its creator has no hand in: what the server fills in, and the structs that an empty object of its Go type has.
fn made_by_server(served: &Served, new: &Value) -> Value {
    let part = |field: &str| new.get(field).cloned().unwrap_or_else(|| json!({}));
    match served.resource.builtin() {
        Some(Builtin::Namespace) => json!({"spec": part("spec"), "status": part("status")}),
        Some(Builtin::CustomResourceDefinition) => json!({"spec": {"names": {}}, "status": part("status")}),
        Some(kind) => kind.zero(),
        None => json!({}),
    }
}

/// What is applied.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The decoded configuration.
    pub object: Value,
    /// The configuration as it was sent, whose every field gets an owner, also one that says nothing.
    pub given: Value,
}

/// The object after an apply, managed fields included.
///
/// # Errors
/// 409 when another manager owns a field that is to change and `force` is not set.
pub(crate) fn apply(
    served: &Served,
    live: Option<&Value>,
    applied: &Applied,
    manager: &Manager,
    force: bool,
) -> Result<Value, ApiError> {
    let before = live.map_or_else(|| json!({}), ownable);
    let made = made_by_server(served, &before);
    let shape = Shape::of(served.version());
    let found = Found {
        before: &before,
        new: live.is_none(),
        made: &made,
        managed: live.map(managed::read).unwrap_or_default(),
        upgraded: live.map(|live| upgraded(live, &before, manager, shape)).unwrap_or_default(),
    };
    let configuration = Applied { object: ownable(&applied.object), given: ownable(&applied.given) };
    let types = Types::of(served, &manager.subresource);
    let made = change::apply(&types, found, &configuration, (manager, force))
        .map_err(|conflicts| ApiError::apply_conflict(&conflicts))?;
    let applied = &applied.object;
    let mut object = merge::with_ownable(live.unwrap_or(applied), &made.after);
    managed::write(&mut object, &made.managed);
    let Some(_) = live else { return Ok(object) };
    keep_last_applied(&mut object, applied, manager);
    // A resourceVersion in the configuration pins the apply to that version.
    let pinned = object::meta_str(applied, "resourceVersion");
    if !pinned.is_empty() {
        object::metadata_mut(&mut object).insert("resourceVersion".into(), pinned.into());
    }
    let uid = object::uid(applied);
    if !uid.is_empty() {
        object::metadata_mut(&mut object).insert("uid".into(), uid.into());
    }
    Ok(object)
}

/// Fields over which an apply by `kubectl` has no conflict: what its apply without `--server-side` set before, and nobody changed since.
fn upgraded(live: &Value, before: &Value, manager: &Manager, shape: Shape<'_>) -> FieldSet {
    let noted = object::at(live, &["metadata", "annotations", LAST_APPLIED]).and_then(Value::as_str);
    let last = noted.filter(|_| manager.name == "kubectl").and_then(|text| serde_json::from_str(text).ok());
    let Some(last) = last.filter(Value::is_object) else { return FieldSet::default() };
    let last = ownable(&last);
    FieldSet::of(&last, shape).difference(&FieldSet::changed(before, &last, shape))
}

/// What in an applied configuration does not fit the schema of its kind, as kube-apiserver words it. Metadata is not looked at.
pub(crate) fn misfits(served: &Served, configuration: &Value, unknown: &[String]) -> Vec<String> {
    let builtin = served.resource.builtin().and_then(typed::of_builtin);
    match served.version().schema.as_ref().or(builtin) {
        Some(schema) => typed::misfits(schema, configuration, Duplicates::Refused),
        None => {
            let unknown = unknown.iter().filter(|path| !path.starts_with("metadata."));
            unknown.map(|path| format!(".{path}: field not declared in schema")).collect()
        }
    }
}

/// What `kubectl apply` without `--server-side` compares with. An apply by `kubectl` keeps it true where there is one.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn keep_last_applied(object: &mut Value, applied: &Value, manager: &Manager) {
    let there = object::at(object, &["metadata", "annotations", LAST_APPLIED]).and_then(Value::as_str);
    if manager.name != "kubectl" || there.is_none_or(str::is_empty) {
        return;
    }
    let mut configuration = applied.clone();
    let metadata = object::metadata_mut(&mut configuration);
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let text = format!("{configuration}\n");
    let annotations = object::entry(object::entry(object, "metadata"), "annotations");
    object::object_mut(annotations).insert(LAST_APPLIED.into(), text.into());
}

#[cfg(test)]
mod tests;
