// SPDX-License-Identifier: Apache-2.0

//! What happens to an object between the request and the store: decoding, pruning, defaults, the system's metadata fields, validation.
//!
//! Pure but for the clock, the random suffix and the UID of a creation, which come in through [`Stamp`]. Called by the write handlers, once per attempt.

mod builtin;
mod metadata;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::body;
use crate::go;
use crate::json::{self, Noted};
use crate::object;
use crate::openapi::mismatch;
use crate::registry::{Builtin, Served};
use crate::request::FieldValidation;
use crate::schema;
use crate::status::{ApiError, Cause, Subject};

pub(crate) use builtin::CRD_FINALIZER;
pub(crate) use metadata::{check_name, check_namespace, generated_name, warnings, wipe};

/// Facts of the moment that a write records.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub now: String,
    pub uid: String,
}

impl Stamp {
    pub fn new() -> Self {
        Self { now: object::timestamp(), uid: uuid::Uuid::new_v4().to_string() }
    }
}

/// Which part of an object a request may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but `status`, where the resource has the status subresource.
    Main,
    /// `status` only.
    Status,
    /// `spec.finalizers` of a Namespace.
    Finalize,
}

/// A decoded body with the warnings that its fields earned.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Why an object is not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It does not decode; what that means is told by how it came.
    Unfit(String),
    /// It is a custom resource of another version.
    Version { given: String, wanted: String, name: String },
}

impl Refusal {
    /// For an object that was sent.
    pub fn of_body(self, served: &Served, given: (&str, &str)) -> ApiError {
        let kind = &served.resource.kind;
        match self {
            Self::Version { given, wanted, .. } => ApiError::bad_request(format!(
                "the API version in the data ({given}) does not match the expected API version ({wanted})"
            )),
            Self::Unfit(why) => {
                // The version without its group.
                let version = given.0.rsplit('/').next().filter(|version| !version.is_empty());
                let version = version.unwrap_or(&served.version().name);
                let found = if given.1.is_empty() { kind } else { given.1 };
                ApiError::bad_request(format!(
                    "{found} in version \"{version}\" cannot be handled as a {kind}: {why}"
                ))
            }
        }
    }

    /// For what a patch made; `shown` is that object or the patch.
    pub fn of_patch(self, served: &Served, shown: &str) -> ApiError {
        match self {
            Self::Version { given, wanted, name } => {
                let cause = Cause::invalid("apiVersion", &given.into(), format!("must be {wanted}"));
                ApiError::invalid(&served.resource.subject(&name), &[cause])
            }
            Self::Unfit(why) => {
                ApiError::invalid(&Subject::default(), &[Cause::invalid_text("patch", shown, &why)])
            }
        }
    }
}

/// Checks `apiVersion` and `kind` of a body that came with notes on fields that it gives twice, drops unknown fields and says which.
///
/// # Errors
/// 400 for a wrong kind, a value of the wrong JSON type in a typed field, or unknown fields under `Strict`.
pub(crate) fn decode_noted(
    served: &Served,
    noted: Noted,
    validation: FieldValidation,
) -> Result<Decoded, Refusal> {
    decode_in_order(served, noted, validation, &[])
}

/// The same for a body whose text is at hand: what is wrong with a typed object is told of in the order in which its decoder meets it.
pub(crate) fn decode_in_order(
    served: &Served,
    (body, mut wrong): Noted,
    validation: FieldValidation,
    text_of_body: &[u8],
) -> Result<Decoded, Refusal> {
    let resource = &served.resource;
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    check_type(served, text("apiVersion"), text("kind"), object::name(&body))?;
    let (object, unknown) = match resource.builtin() {
        Some(builtin) => decode_builtin(served, builtin, body)?,
        None => decode_custom(served, body)?,
    };
    wrong.extend(unknown.into_iter().map(|path| format!("unknown field \"{path}\"")));
    if wrong.len() > 1 && resource.builtin().is_some() {
        let places = json::places(text_of_body);
        // The path of a note is what it quotes.
        wrong.sort_by_key(|note| note.split('"').nth(1).and_then(|path| places.get(path)).copied());
    }
    match validation {
        FieldValidation::Strict if !wrong.is_empty() => {
            Err(Refusal::Unfit(format!("strict decoding error: {}", wrong.join(", "))))
        }
        FieldValidation::Warn => Ok(Decoded { object, warnings: wrong }),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
    }
}

/// Paths of the fields of a body that a built-in kind does not have; none for custom resources and bodies that do not decode.
pub(crate) fn unknown_fields(served: &Served, body: &Value) -> Vec<String> {
    let builtin = served.resource.builtin();
    let decoded = builtin.and_then(|builtin| decode_builtin(served, builtin, body.clone()).ok());
    decoded.map(|(_, unknown)| unknown).unwrap_or_default()
}

/// Empty maps, lists and texts that Kubernetes' encoder leaves out.
fn drop_empty(object: &mut Value, builtin: Option<Builtin>) {
    let is_empty = |value: &Value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let Some(map) = object.as_object_mut() else { return };
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        // An empty list of managed fields is a wish: see `apply::record_update`.
        metadata.retain(|field, value| field == "managedFields" || !(is_empty(value) || *value == ""));
    }
    if let Some(builtin) = builtin {
        builtin.drop_blank(map);
        map.retain(|field, value| {
            !(is_empty(value)
                && ["data", "binaryData", "secrets", "imagePullSecrets"].contains(&field.as_str()))
        });
    }
}

/// Built-in kinds may leave both out, as typed clients do; custom resources may not. Whether the kind of a custom resource is right is found by validation
/// (`finish`): its schema says nothing of objects of another kind.
fn check_type(served: &Served, api_version: &str, kind: &str, name: &str) -> Result<(), Refusal> {
    let (wanted_version, wanted) = (served.api_version(), served.resource.kind.as_str());
    if served.resource.builtin().is_some() {
        let fits = |given: &str, wanted: &str| given.is_empty() || given == wanted;
        if fits(api_version, &wanted_version) && fits(kind, wanted) {
            return Ok(());
        }
        let version = if api_version.is_empty() { &wanted_version } else { api_version };
        let kind = if kind.is_empty() { wanted } else { kind };
        let why = match Builtin::named(version, kind) {
            Some(_) => {
                let home = served.resource.builtin().map(Builtin::package).unwrap_or_default();
                format!("converting (v1.{kind}) to ({home}.{wanted}): unknown conversion")
            }
            None => body::not_registered(kind, version),
        };
        return Err(Refusal::Unfit(why));
    }
    if api_version != wanted_version {
        return Err(Refusal::Version {
            given: api_version.to_owned(),
            wanted: wanted_version,
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn decode_builtin(
    served: &Served,
    builtin: Builtin,
    mut body: Value,
) -> Result<(Value, Vec<String>), Refusal> {
    let map = object::object_mut(&mut body);
    map.insert("apiVersion".into(), served.api_version().into());
    map.insert("kind".into(), served.resource.kind.as_str().into());
    mismatch::fill_nulls(builtin, &mut body);
    let normalised = builtin.normalise(body.clone());
    let object = normalised.map_err(|why| Refusal::Unfit(mismatch::find(builtin, &body).unwrap_or(why)))?;
    let mut unknown = Vec::new();
    lost_fields(&body, &object, "", &mut unknown);
    Ok((object, unknown))
}

fn decode_custom(served: &Served, mut body: Value) -> Result<(Value, Vec<String>), Refusal> {
    let mut unknown = Vec::new();
    let given = object::object_mut(&mut body).remove("metadata").unwrap_or_default();
    let metadata = decode_metadata(given, "metadata", &mut unknown).map_err(Refusal::Unfit)?;
    unknown.sort();
    if let Some(schema) = served.version().schema.as_ref().filter(|_| is_of_kind(served, &body)) {
        let mut pruned = schema::prune(schema, &mut body);
        schema::each_embedded(schema, &mut body, &mut |at, object| {
            let Some(given) = object.remove("metadata") else { return Ok(()) };
            let shown = given.to_string();
            let metadata = decode_metadata(given, &format!("{at}.metadata"), &mut pruned)
                .map_err(|why| Refusal::Unfit(format!("{at}.metadata: Invalid value: {shown}: {why}")))?;
            object.insert("metadata".into(), metadata);
            Ok(())
        })?;
        pruned.sort();
        unknown.extend(pruned);
    }
    object::object_mut(&mut body).insert("metadata".into(), metadata);
    Ok((body, unknown))
}

/// Metadata in its own form; the paths of what it has no room for join `unknown`.
///
/// # Errors
/// What does not decode.
fn decode_metadata(mut given: Value, at: &str, unknown: &mut Vec<String>) -> Result<Value, String> {
    mismatch::fill_nulls_in_metadata(&mut given);
    let typed: ObjectMeta = match &given {
        Value::Null => ObjectMeta::default(),
        given => serde_json::from_value(given.clone())
            .map_err(|error| mismatch::find_in_metadata(given).unwrap_or(error.to_string()))?,
    };
    let metadata = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    lost_fields(&given, &metadata, at, unknown);
    Ok(metadata)
}

/// False for a custom resource that says that it is of another kind.
fn is_of_kind(served: &Served, object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some(&served.resource.kind)
}

/// Paths of what `before` has and `after` has not; nulls are no loss.
fn lost_fields(before: &Value, after: &Value, path: &str, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match after.get(key) {
                    Some(kept) => lost_fields(value, kept, &at, lost),
                    None if value.is_null() => {}
                    None => lost.push(at),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (index, (value, kept)) in before.iter().zip(after).enumerate() {
                lost_fields(value, kept, &format!("{path}[{index}]"), lost);
            }
        }
        _ => {}
    }
}

/// Makes a decoded and filled in object ready to be stored for the first time. The name must be set (see [`generated_name`]), and what a client cannot set must be
/// gone where the request is one that takes it away (see [`wipe`]).
///
/// # Errors
/// 400 for a wrong namespace, 422 with every invalid field.
pub(crate) fn create(
    served: &Served,
    mut object: Value,
    namespace: &str,
    stamp: &Stamp,
) -> Result<Value, ApiError> {
    if served.resource.terminating {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::forbidden(&served.resource.subject(object::name(&object)), why, None));
    }
    metadata::prepare_create(&mut object, namespace, stamp)?;
    let resource = &served.resource;
    if resource.builtin().is_none_or(Builtin::has_generation) {
        object::metadata_mut(&mut object).insert("generation".into(), 1.into());
    }
    if served.version().status && resource.builtin().is_none() {
        object::object_mut(&mut object).remove("status");
    }
    finish(served, &mut object, None, Part::Main)?;
    Ok(object)
}

/// Makes `new` the successor of `old`: what the request may not change is taken from `old`. The caller has compared resource versions and filled in what the
/// request left out (see [`fill_in`]).
///
/// # Errors
/// 400 for another name or namespace, 409 for another UID, 422 with every invalid field.
pub(crate) fn update(served: &Served, old: &Value, mut new: Value, part: Part) -> Result<Value, ApiError> {
    let resource = &served.resource;
    metadata::check_identity(old, &new)?;
    match part {
        Part::Status => new = with_field(old, &new, "status"),
        Part::Finalize => new = with_field(old, &new, "spec"),
        Part::Main if served.version().status => keep_status(old, &mut new),
        Part::Main => {}
    }
    let immutable = metadata::immutable(old, &new);
    metadata::prepare_update(old, &mut new);
    finish(served, &mut new, Some((old, immutable)), part)?;
    // After the rules of the kind, so that what they fill in is no change.
    if resource.builtin().is_none_or(Builtin::has_generation) {
        let spec_changed = !same_but(
            old,
            &new,
            if served.version().status { &["metadata", "status"] } else { &["metadata"] },
        );
        metadata::set_generation(old, &mut new, spec_changed);
    }
    Ok(new)
}

/// `old` with one top-level field and the managed fields of `new`.
fn with_field(old: &Value, new: &Value, field: &str) -> Value {
    let mut result = old.clone();
    let map = object::object_mut(&mut result);
    match new.get(field) {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
    if let Some(managed) = object::at(new, &["metadata", "managedFields"]) {
        object::metadata_mut(&mut result).insert("managedFields".into(), managed.clone());
    }
    result
}

fn keep_status(old: &Value, new: &mut Value) {
    let map = object::object_mut(new);
    match old.get("status") {
        Some(status) => map.insert("status".into(), status.clone()),
        None => map.remove("status"),
    };
}

/// Equality but for some top-level fields.
fn same_but(old: &Value, new: &Value, but: &[&str]) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    let relevant = |key: &&String| !but.contains(&key.as_str());
    old.keys().filter(relevant).all(|key| old.get(key) == new.get(key))
        && new.keys().filter(relevant).all(|key| old.contains_key(key))
}

/// What encoders leave out, and defaults of a custom resource: before anything is compared with the old object, so that a field that was filled in then is no change now.
pub(crate) fn fill_in(served: &Served, object: &mut Value) {
    fill_in_applied(served, object);
    if let Some(schema) = served.version().schema.as_ref().filter(|_| is_of_kind(served, object)) {
        schema::drop_nulls(schema, object);
    }
}

/// The same for what an apply made: a null that it set is a value, which the schema may refuse.
pub(crate) fn fill_in_applied(served: &Served, object: &mut Value) {
    drop_empty(object, served.resource.builtin());
    if let Some(schema) = served.version().schema.as_ref().filter(|_| is_of_kind(served, object)) {
        schema::default(schema, object);
    }
}

/// What is wrong with what the scale subresource shows: numbers of replicas, and a selector as text. A change of the status is not
/// asked for what the specification says.
fn scale(served: &Served, object: &Value, part: Part) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(scale) = &served.version().scale else { return causes };
    if part != Part::Status {
        causes.extend(replicas(object, &scale.spec_replicas));
    }
    causes.extend(replicas(object, &scale.status_replicas));
    if let Some(path) = &scale.label_selector
        && let Err(why) = shown_at(object, path, Value::is_string, "string")
    {
        causes.push(Cause::invalid(format!(".{}", path.join(".")), &"".into(), why));
    }
    causes
}

fn replicas(object: &Value, path: &[String]) -> Option<Cause> {
    let at = format!(".{}", path.join("."));
    match shown_at(object, path, Value::is_i64, "int64") {
        Err(why) => Some(Cause::invalid(at, &0.into(), why)),
        Ok(found) => {
            let found = found?;
            let number = found.as_i64()?;
            let why = match number {
                ..0 => "should be a non-negative integer".to_owned(),
                _ if i32::try_from(number).is_err() => {
                    format!("should be less than or equal to {}", i32::MAX)
                }
                _ => return None,
            };
            Some(Cause::invalid(at, found, why))
        }
    }
}

/// The value that the scale subresource shows, if there is one.
///
/// # Errors
/// Why it cannot be shown, in the words of kube-apiserver.
fn shown_at<'a>(
    object: &'a Value,
    path: &[String],
    fits: fn(&Value) -> bool,
    wanted: &str,
) -> Result<Option<&'a Value>, String> {
    if let Some(why) = no_structure(object, path) {
        return Err(why);
    }
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    match object::at(object, &steps) {
        Some(found) if !fits(found) => {
            let (at, shown, kind) = (path.join("."), go::plain(found), go::type_name(found));
            Err(format!(".{at} accessor error: {shown} is of the type {kind}, expected {wanted}"))
        }
        found => Ok(found),
    }
}

/// Why a path cannot be followed: something before its end has no fields.
fn no_structure(object: &Value, path: &[String]) -> Option<String> {
    let mut at = object;
    for step in path.split_last()?.1 {
        at = at.get(step)?;
        if !at.is_object() {
            let (shown, kind) = (go::plain(at), go::type_name(at));
            let path = path.join(".");
            return Some(format!(
                ".{path} accessor error: {shown} is of the type {kind}, expected map[string]interface{{}}"
            ));
        }
    }
    None
}

/// The rules of the kind, and validation; a change comes with the state before and with what is wrong with what only the system sets.
fn finish(
    served: &Served,
    object: &mut Value,
    change: Option<(&Value, Vec<Cause>)>,
    part: Part,
) -> Result<(), ApiError> {
    let resource = &served.resource;
    let old = change.as_ref().map(|(old, _)| *old);
    let builtin = resource.builtin();
    let of_kind = builtin.map(|builtin| builtin::finish(builtin, object, old, part)).unwrap_or_default();
    let (mut causes, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    match change {
        Some((old, immutable)) => {
            let changed = metadata::validate_update(resource, old, object, immutable);
            (causes, second, third) = (changed.first, changed.second, changed.third);
        }
        None => metadata::validate(resource, object, &mut second),
    }
    let kind = object.get("kind").cloned().unwrap_or_default();
    match &served.version().schema {
        // Events are looked at before what all kinds share.
        _ if old.is_none() && builtin == Some(Builtin::Event) && !of_kind.object.is_empty() => {
            causes = of_kind.object;
        }
        Some(schema) if kind.as_str() == Some(&resource.kind) => {
            causes.extend(second);
            let scale = scale(served, object, part);
            causes = match part {
                Part::Status => schema::validate_status(schema, object, old, (causes, scale)),
                _ => schema::validate(schema, object, old, (causes, scale)),
            };
        }
        // Of an object of another kind only the rules are looked at.
        Some(schema) => {
            causes.push(Cause::invalid("kind", &kind, format!("must be {}", resource.kind)));
            causes = schema::validate_rules(schema, object, old, causes);
        }
        None => causes.extend(second.into_iter().chain(of_kind.change).chain(third).chain(of_kind.object)),
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = match object::name(object) {
        "" => object::meta_str(object, "generateName"),
        name => name,
    };
    let mut subject = resource.subject(name);
    match builtin {
        // The rules of both forms are those of the core group.
        Some(Builtin::EventsV1Event) => subject.group = "",
        Some(_) => {}
        None => subject.kind = object.get("kind").and_then(Value::as_str).unwrap_or(subject.kind),
    }
    Err(ApiError::invalid(&subject, &causes))
}
