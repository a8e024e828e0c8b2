// SPDX-License-Identifier: Apache-2.0

//! Server-side apply: what each manager owns (`metadata.managedFields`), and what an apply therefore changes.
//!
//! An apply sets the fields that it names, removes those that its manager applied before and names no more (unless another manager owns them too), and is refused
//! when it would change a field that somebody else owns. Every other write makes its manager the owner of what it changed. Pure; called by the write handlers.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>; the field format is that of `sigs.k8s.io/structured-merge-diff` (`fields`).

mod fields;
mod merge;
mod shape;
mod typed;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::object;
use crate::registry::{Builtin, Served};
use crate::status::ApiError;

use fields::FieldSet;
use shape::Shape;

/// Managers with updates of their own that are kept apart; beyond it the oldest are merged into one, as kube-apiserver does.
const MAX_UPDATE_MANAGERS: usize = 10;
/// Who owns what was there when somebody first applied and nobody was noted.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Name of the merged old managers.
const ANCIENT: &str = "ancient-changes";

/// Metadata that nobody owns.
const SERVER_OWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
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

/// `operation` of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells entries apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    manager: String,
    operation: Operation,
    api_version: String,
    subresource: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    /// Empty where an apply changed nothing, or a client left it out.
    time: String,
    fields: FieldSet,
}

/// The managed fields of an object.
type Managed = BTreeMap<Identity, Owned>;

fn read_managed(object: &Value) -> Managed {
    let list = object::at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    let mut managed = Managed::new();
    for entry in list.into_iter().flatten() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = if text("operation") == "Apply" { Operation::Apply } else { Operation::Update };
        let identity = Identity {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        };
        let fields = entry.get("fieldsV1").map(FieldSet::from_json).unwrap_or_default();
        managed.insert(identity, Owned { time: text("time"), fields });
    }
    managed
}

fn write_managed(object: &mut Value, managed: &Managed) {
    write_entries(object, managed.iter().collect());
}

fn write_entries(object: &mut Value, mut entries: Vec<(&Identity, &Owned)>) {
    entries.retain(|(_, owned)| !owned.fields.is_empty());
    // Applies first, then by time: the order that kube-apiserver gives.
    entries.sort_by(|(a, x), (b, y)| {
        let key = |identity: &Identity| (identity.api_version.clone(), identity.subresource.clone());
        (a.operation, &x.time, &a.manager, key(a)).cmp(&(b.operation, &y.time, &b.manager, key(b)))
    });
    let list: Vec<Value> =
        entries.into_iter().map(|(identity, owned)| entry_value(identity, owned)).collect();
    let metadata = object::metadata_mut(object);
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), list.into());
    }
}

/// Takes out what is owned in a version that the resource does not have (any more). To both APIs of Events the other one's versions are unknown.
fn forget_unknown(served: &Served, managed: &mut Managed) {
    let resource = &served.resource;
    managed.retain(|identity, _| {
        let (group, name) = identity.api_version.rsplit_once('/').unwrap_or(("", &identity.api_version));
        group == resource.group && resource.versions.iter().any(|version| version.name == name)
    });
}

fn entry_value(identity: &Identity, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": identity.manager,
        "operation": identity.operation.name(),
        "apiVersion": identity.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields.to_json(),
    });
    for (name, text) in [("time", &owned.time), ("subresource", &identity.subresource)] {
        if !text.is_empty() {
            object::object_mut(&mut entry).insert(name.into(), text.as_str().into());
        }
    }
    entry
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

/// Checks an applied configuration: it names the object it is applied to and carries no managed fields.
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
    let given = object::name(&body);
    if !given.is_empty() && given != name {
        let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(ApiError::bad_request(message));
    }
    let metadata = object::metadata_mut(&mut body);
    metadata.insert("name".into(), name.into());
    metadata.remove("managedFields");
    Ok(body)
}

/// Notes in `managedFields` that an update made `new` of `old`. A client that sends an empty list resets the ownership; another list that it sends replaces
/// what was noted before (so `kubectl` hands over from client-side apply); without one the noted ownership stays.
pub(crate) fn record_update(served: &Served, old: Option<&Value>, new: &mut Value, manager: &Manager) {
    if object::at(new, &["metadata", "managedFields"]).is_some_and(is_reset) {
        object::metadata_mut(new).remove("managedFields");
        return;
    }
    let mut managed = read_managed(new);
    if managed.is_empty() || !is_sound(new) {
        managed = old.map(read_managed).unwrap_or_default();
    }
    let after = ownable(new);
    let before = old.map_or_else(|| made_by_server(served, &after), ownable);
    note(served, managed, (&before, &after), new, manager);
}

/// The same for a write of the status of a custom resource: `requested` is the whole object that was sent. Only its status is taken, but Kubernetes works
/// out the ownership before, from everything but the spec.
pub(crate) fn record_status(
    served: &Served,
    live: &Value,
    requested: &Value,
    new: &mut Value,
    manager: &Manager,
) {
    if object::at(requested, &["metadata", "managedFields"]).is_some_and(is_reset) {
        object::metadata_mut(new).remove("managedFields");
        return;
    }
    let mut managed = read_managed(new);
    if managed.is_empty() {
        managed = read_managed(live);
    }
    let (before, mut after) = (ownable(live), ownable(requested));
    if let Some(status) = new.get("status") {
        object::object_mut(&mut after).insert("status".into(), status.clone());
    }
    match before.get("spec") {
        Some(spec) => object::object_mut(&mut after).insert("spec".into(), spec.clone()),
        None => object::object_mut(&mut after).remove("spec"),
    };
    note(served, managed, (&before, &after), new, manager);
}

/// The same for a change through the scale subresource.
///
/// Kubernetes hands the owners of the replicas to the Scale, notes the change there and brings what became of them back. There and back an update's owner is
/// not recognised, since the version of the Scale is another: its replicas come back in an entry of their own, without a time, even beside one of the same
/// manager, where the next write finds only the later of the two. A wish for no replicas is left out of a Scale: then nobody owns it. Clients see all this
/// in `managedFields`, so it is done here, too.
pub(crate) fn record_scale(served: &Served, live: &Value, new: &mut Value, manager: &Manager) {
    let Some(scale) = &served.version().scale else { return };
    let path: Vec<&str> = scale.spec_replicas.iter().map(String::as_str).collect();
    let replicas = |object: &Value| object::at(object, &path).and_then(Value::as_i64).unwrap_or(0);
    let field = FieldSet::field(&path);
    let scales = |api_version: &str| {
        let (_, name) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        served.resource.versions.iter().any(|version| version.name == name && version.scale.is_some())
    };
    let mut managed = read_managed(live);
    forget_unknown(served, &mut managed);
    let owns = |(identity, owned): &(&Identity, &Owned)| {
        scales(&identity.api_version) && owned.fields.intersection(&field) == field
    };
    let own_version =
        |identity: &Identity| Identity { api_version: served.api_version(), ..identity.clone() };
    let mut owners: Vec<Identity> =
        managed.iter().filter(owns).map(|(identity, _)| own_version(identity)).collect();
    let wanted = replicas(new);
    if replicas(live) != wanted {
        owners.clear();
        if wanted != 0 {
            owners.push(Identity {
                manager: manager.name.clone(),
                operation: Operation::Update,
                api_version: served.api_version(),
                subresource: manager.subresource.clone(),
            });
        }
    }
    owners.dedup();
    for (identity, owned) in managed.iter_mut().filter(|(identity, _)| scales(&identity.api_version)) {
        let kept = identity.operation == Operation::Apply && owners.contains(&own_version(identity));
        if !kept {
            owned.fields = owned.fields.difference(&field);
        }
    }
    owners.retain(|owner| owner.operation == Operation::Update);
    let back = Owned { time: String::new(), fields: field };
    let entries = managed.iter().chain(owners.iter().map(|owner| (owner, &back)));
    write_entries(new, entries.collect());
}

/// Notes in `new` who owns what after `before` became `after`.
fn note(
    served: &Served,
    mut managed: Managed,
    (before, after): (&Value, &Value),
    new: &mut Value,
    manager: &Manager,
) {
    let shape = Shape::of(served);
    forget_unknown(served, &mut managed);
    let changed = FieldSet::changed(before, after, shape).without_metadata();
    let gone = FieldSet::all(before, shape).difference(&FieldSet::all(after, shape));
    // Nobody owns what is not there any more, and only the writer owns what changed.
    for owned in managed.values_mut() {
        owned.fields = owned.fields.difference(&gone).difference(&changed);
    }
    if !changed.is_empty() {
        let identity = Identity {
            manager: manager.name.clone(),
            operation: Operation::Update,
            api_version: served.api_version(),
            subresource: manager.subresource.clone(),
        };
        let owned = managed
            .entry(identity)
            .or_insert_with(|| Owned { time: manager.time.clone(), fields: FieldSet::default() });
        owned.fields = owned.fields.union(&changed);
        owned.time.clone_from(&manager.time);
    }
    bound(&mut managed);
    write_managed(new, &managed);
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

/// True when all entries are what managed fields can be: else those noted before count.
fn is_sound(object: &Value) -> bool {
    let list = object::at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    list.into_iter().flatten().all(|entry| {
        let is = |field: &str, allowed: &[&str]| {
            allowed.iter().any(|one| entry.get(field).is_some_and(|v| v == one))
        };
        let versioned = entry.get("apiVersion").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        versioned && is("operation", &["Apply", "Update"]) && is("fieldsType", &["FieldsV1"])
    })
}

/// `managedFields: []` or `[{}]` from a client.
fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_none_or(Map::is_empty),
        _ => false,
    }
}

/// Merges the oldest update entries into one when there are too many.
fn bound(managed: &mut Managed) {
    let mut updates: Vec<(String, Identity)> = managed
        .iter()
        .filter(|(identity, _)| identity.operation == Operation::Update && identity.subresource.is_empty())
        .map(|(identity, owned)| (owned.time.clone(), identity.clone()))
        .collect();
    if updates.len() <= MAX_UPDATE_MANAGERS {
        return;
    }
    updates.sort();
    let surplus = updates.len() - MAX_UPDATE_MANAGERS + 1;
    for (_, old) in updates.into_iter().take(surplus) {
        let Some(owned) = managed.remove(&old) else { continue };
        let ancient = Identity { manager: ANCIENT.into(), ..old };
        let merged = managed
            .entry(ancient)
            .or_insert_with(|| Owned { time: owned.time.clone(), fields: FieldSet::default() });
        merged.fields = merged.fields.union(&owned.fields);
    }
}

/// Whether two objects are equal, but for the times of their managers.
pub(crate) fn same_but_for_times(one: &Value, other: &Value) -> bool {
    let lists = |one: &Value, other: &Value| match (one.as_array(), other.as_array()) {
        (Some(one), Some(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| alike(one, other, "time", |_, _| true))
        }
        _ => one == other,
    };
    alike(one, other, "metadata", |one, other| alike(one, other, "managedFields", lists))
}

/// Whether two maps are equal, whose values of `field` are compared in another way where both have one.
fn alike(one: &Value, other: &Value, field: &str, how: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    one.len() == other.len()
        && one.iter().all(|(key, value)| {
            let found = other.get(key);
            found.is_some_and(|found| if key == field { how(value, found) } else { value == found })
        })
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
    let shape = Shape::of(served);
    let identity = Identity {
        manager: manager.name.clone(),
        operation: Operation::Apply,
        api_version: served.api_version(),
        subresource: manager.subresource.clone(),
    };
    let configuration = relevant(served, &ownable(&applied.object), &manager.subresource);
    let wanted = FieldSet::of(&relevant(served, &ownable(&applied.given), &manager.subresource), shape);
    let applied = &applied.object;
    let Some(live) = live else {
        let mut object = applied.clone();
        let owned = Owned { time: manager.time.clone(), fields: wanted };
        write_managed(&mut object, &Managed::from([(identity, owned)]));
        return Ok(object);
    };
    let mut managed = read_managed(live);
    let nobody = managed.is_empty();
    forget_unknown(served, &mut managed);
    let before = ownable(live);
    if nobody {
        let identity = Identity {
            manager: BEFORE_FIRST_APPLY.into(),
            operation: Operation::Update,
            subresource: String::new(),
            ..identity.clone()
        };
        let fields = FieldSet::changed(&made_by_server(served, &before), &before, shape).without_metadata();
        managed.insert(identity, Owned { time: manager.time.clone(), fields });
    }
    let merged = merge::merge(&before, &configuration, shape);
    let changed = FieldSet::changed(&before, &merged, shape);
    if !force {
        let disputed = changed.intersection(&wanted).difference(&upgraded(live, &before, manager, shape));
        let conflicts = conflicts(&managed, &identity, &disputed);
        if !conflicts.is_empty() {
            return Err(ApiError::apply_conflict(&conflicts));
        }
    }
    let given_up = managed.get(&identity).map(|owned| owned.fields.difference(&wanted)).unwrap_or_default();
    let mut others = FieldSet::default();
    for (other, owned) in &mut managed {
        if *other != identity {
            owned.fields = owned.fields.difference(&changed.intersection(&wanted));
            others = others.union(&owned.fields);
        }
    }
    // What is still applied keeps the structures around it, too, which an earlier update may have owned.
    let merged = merge::remove(&merged, &given_up, &others.union(&wanted), shape);
    let mut object = merge::with_ownable(live, &merged);
    // What is no longer there is owned by nobody.
    let gone = FieldSet::all(&before, shape).difference(&FieldSet::all(&merged, shape));
    for owned in managed.values_mut() {
        owned.fields = owned.fields.difference(&gone);
    }
    // The time is that of the last change; who applies what is there already gets none.
    let unchanged = merged == before;
    let time = match managed.remove(&identity) {
        _ if !unchanged => manager.time.clone(),
        Some(owned) => owned.time,
        None => String::new(),
    };
    managed.insert(identity, Owned { time, fields: wanted });
    write_managed(&mut object, &managed);
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
        Some(schema) => typed::misfits(schema, configuration),
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

/// What of a configuration an apply to this subresource is about.
fn relevant(served: &Served, configuration: &Value, subresource: &str) -> Value {
    let mut configuration = configuration.clone();
    let map = object::object_mut(&mut configuration);
    match subresource {
        "" if served.version().status => {
            map.remove("status");
        }
        "" | "scale" => {}
        "finalize" => map.retain(|key, _| key == "spec"),
        // Kubernetes takes only the spec away, of a definition the metadata, too.
        "status" => {
            let definition = served.resource.builtin() == Some(Builtin::CustomResourceDefinition);
            map.retain(|key, _| key != "spec" && !(definition && key == "metadata"));
        }
        part => map.retain(|key, _| key == part),
    }
    configuration
}

fn conflicts(managed: &Managed, own: &Identity, changed: &FieldSet) -> Vec<(String, String)> {
    let mut conflicts = Vec::new();
    for (identity, owned) in managed {
        if identity == own {
            continue;
        }
        let mut who = format!("\"{}\"", identity.manager);
        if !identity.subresource.is_empty() {
            who.push_str(&format!(" with subresource \"{}\"", identity.subresource));
        }
        if identity.operation == Operation::Update {
            who.push_str(&format!(" using {}", identity.api_version));
        }
        for path in owned.fields.intersection(changed).paths() {
            conflicts.push((who.clone(), path));
        }
    }
    conflicts
}

#[cfg(test)]
mod tests;
