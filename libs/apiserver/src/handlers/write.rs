// SPDX-License-Identifier: Apache-2.0

//! create, update and patch.
//!
//! All changes of existing objects go through [`modify`]: read, let the verb make the successor, admit, write if nobody was faster, else again.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::Call;
use crate::admission::{self, Part, Stamp};
use crate::body::{self, Answer};
use crate::go;
use crate::inner::Inner;
use crate::naming;
use crate::object;
use crate::openapi::mismatch;
use crate::patch::{self, PatchType};
use crate::registry::{Behaviour, Builtin, Served};
use crate::request::{self, Address, FieldValidation};
use crate::status::{ApiError, Cause, Subject};
use crate::store::{Change, Committed, Expect, Key, ReadError, Write, WriteError};
use crate::{apply, strategic};

/// Attempts of a change that did not pin a version, before the client gets the conflict. Each lost attempt means that somebody else's write went through.
const ATTEMPTS: usize = 128;
/// Attempts to find a free generated name.
const NAME_ATTEMPTS: usize = 8;

/// What a verb makes of the live object.
pub(crate) enum Successor {
    /// The result of an update or patch: what differs from the live object becomes the writer's.
    Updated(Value),
    /// The result of a server-side apply or of a change of the Scale, its managed fields already worked out.
    Applied(Value),
}

/// The object after a change.
pub(crate) struct Outcome {
    pub bytes: Bytes,
}

pub(super) async fn create(
    inner: &Inner,
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let mut object = decode_body(call, media_type, bytes, call.query.field_validation)?;
    admission::wipe(&mut object);
    let outcome = create_object(inner, call, object).await?;
    call.show(StatusCode::CREATED, outcome.bytes)
}

/// The object in a body; the call notes what is to be said of it.
pub(super) fn decode_body(
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
    validation: FieldValidation,
) -> Result<Value, ApiError> {
    let resource = &call.served.resource;
    let expected = body::Expected { kind: &resource.kind, custom: resource.builtin().is_none() };
    let noted = body::parse_noted(expected, media_type, bytes)?;
    let text = |field: &str| noted.0.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let given = (text("apiVersion"), text("kind"));
    let decoded = admission::decode_in_order(&call.served, noted, validation, bytes)
        .map_err(|refusal| refusal.of_body(&call.served, (&given.0, &given.1)))?;
    call.warn(decoded.warnings);
    Ok(decoded.object)
}

/// Creates a decoded object, under a generated name if it has none.
pub(crate) async fn create_object(
    inner: &Inner,
    call: &Call<'_>,
    object: Value,
) -> Result<Outcome, ApiError> {
    let generates = object::name(&object).is_empty();
    for attempt in 1.. {
        let mut object = object.clone();
        let stamp = Stamp::new();
        if let Some(name) = admission::generated_name(&object, rand::random) {
            object::metadata_mut(&mut object).insert("name".into(), name.into());
        }
        admission::check_namespace(&object, call.namespace())?;
        check_namespace(inner, call, object::name(&object))?;
        let version = has_version(&object);
        admission::fill_in(&call.served, &mut object);
        let mut object = admission::create(&call.served, object, call.namespace(), &stamp)?;
        apply::record_create(&call.served, &mut object, &call.manager_at(&stamp));
        call.warn_of(None, &object);
        let name = object::name(&object).to_owned();
        // The storage says this: a trial does not come so far.
        if version && !call.query.dry_run {
            return Err(ApiError::version_on_create());
        }
        match put(inner, call, Expect::Absent, object, false).await {
            Err(PutError::Exists) if generates && attempt < NAME_ATTEMPTS => {}
            Err(PutError::Exists) => return Err(taken(inner, call, &name)?),
            Err(PutError::Lost) => return Err(ApiError::modified(&call.served.resource.subject(&name))),
            Err(PutError::Other(error)) => return Err(error),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(ApiError::internal("no attempts left"))
}

/// Whether an object says which version of it is meant.
fn has_version(object: &Value) -> bool {
    object::meta_str(object, "resourceVersion").parse().is_ok_and(|version: u64| version != 0)
}

/// A resource version is a number.
///
/// # Errors
/// 500, as kube-apiserver answers it.
fn check_version(object: &Value) -> Result<(), ApiError> {
    let given = object::meta_str(object, "resourceVersion");
    match given.is_empty() || given.parse::<u64>().is_ok() {
        true => Ok(()),
        false => Err(ApiError::unexplained(request::not_unsigned(given))),
    }
}

/// What a creation is told whose name is in use.
fn taken(inner: &Inner, call: &Call<'_>, name: &str) -> Result<ApiError, ApiError> {
    let resource = &call.served.resource;
    let stored = inner.store.snapshot()?.get(&resource.key(call.namespace(), name))?;
    let live = stored.and_then(|stored| serde_json::from_slice::<Value>(&stored.bytes).ok());
    let subject = resource.subject(name);
    Ok(match live.is_some_and(|live| object::is_deleting(&live)) {
        true => ApiError::still_exists(&subject),
        false => ApiError::already_exists(&subject),
    })
}

/// Objects are only made in namespaces that exist and stay.
fn check_namespace(inner: &Inner, call: &Call<'_>, name: &str) -> Result<(), ApiError> {
    if !call.served.resource.namespaced {
        return Ok(());
    }
    let namespace = call.namespace();
    let Some(stored) = inner.store.snapshot()?.get(&namespace_key(namespace))? else {
        return Err(namespace_missing(namespace));
    };
    let stored: Value = serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?;
    if object::is_deleting(&stored) {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = Cause {
            reason: "NamespaceTerminating",
            field: "metadata.namespace".into(),
            message: format!("namespace {namespace} is being terminated"),
        };
        return Err(ApiError::forbidden(&call.served.resource.subject(name), &why, Some(cause)));
    }
    Ok(())
}

fn namespace_key(name: &str) -> Key {
    Key::new("/namespaces", "", name)
}

fn namespace_missing(name: &str) -> ApiError {
    let subject = Subject { plural: "namespaces", kind: "Namespace", name, group: "" };
    ApiError::not_found(&subject)
}

pub(super) async fn update(
    inner: &Inner,
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let new = decode_body(call, media_type, bytes, call.query.field_validation)?;
    let resource = &call.served.resource;
    let builtin = resource.builtin();
    // Before anything is read: what is on the address does not matter.
    admission::check_name(&new, call.name())?;
    admission::check_namespace(&new, call.namespace())?;
    let result = modify(inner, call, |live| {
        check_uid(call, &new, object::uid(live))?;
        Ok(Successor::Updated(new.clone()))
    })
    .await;
    let (status, outcome) = match result {
        Err(error) if missing(&error) && builtin.is_some_and(Builtin::allows_create_on_update) => {
            check_uid(call, &new, "")?;
            check_version(&new)?;
            // Whichever version it names.
            let mut new = new;
            if !call.query.dry_run {
                object::metadata_mut(&mut new).remove("resourceVersion");
            }
            (StatusCode::CREATED, create_object(inner, call, new).await?)
        }
        other => (StatusCode::OK, other?),
    };
    call.show(status, outcome.bytes)
}

/// A UID in an object that replaces another is a condition, which the storage checks.
fn check_uid(call: &Call<'_>, new: &Value, uid: &str) -> Result<(), ApiError> {
    let wanted = object::uid(new);
    if wanted.is_empty() || wanted == uid {
        return Ok(());
    }
    let path = call.served.resource.storage_path(call.namespace(), call.name());
    // A trial is made in front of the storage, which puts its own root before the path.
    let root = if call.query.dry_run { "" } else { "/registry" };
    let key = format!("{root}{path}");
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
    );
    Err(ApiError::conflict(&call.subject(), &why))
}

fn missing(error: &ApiError) -> bool {
    error.code() == StatusCode::NOT_FOUND
}

/// The type of a patch, by its media type.
///
/// # Errors
/// 415 for one that the resource does not take.
pub(super) fn patch_type(call: &Call<'_>, media_type: &str) -> Result<PatchType, ApiError> {
    let custom = call.served.resource.behaviour == Behaviour::Custom;
    let kind = PatchType::of(media_type).filter(|kind| !(custom && *kind == PatchType::Strategic));
    kind.ok_or_else(|| match custom {
        true => ApiError::unsupported_media_type(PatchType::accepted(true)),
        false => ApiError::unsupported_patch(),
    })
}

pub(super) async fn patch(
    inner: &Inner,
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let kind = patch_type(call, media_type)?;
    if kind == PatchType::Apply {
        return apply_patch(inner, call, bytes).await;
    }
    let noted = patch::notes(kind, bytes);
    let outcome = modify(inner, call, |live| {
        let patched = match kind {
            PatchType::Merge => patch::merge(live, bytes)?,
            PatchType::Json => patch::json(live, bytes)?,
            PatchType::Strategic => {
                call.served.resource.builtin().map_or(Ok(()), |kind| strategic::check_lists(kind, bytes))?;
                strategic::merge(live, bytes)?
            }
            PatchType::Apply => return Err(ApiError::internal("apply is not a patch of this kind")),
        };
        let mut shown = patched.to_string();
        if let (PatchType::Strategic, Some(builtin)) = (kind, call.served.resource.builtin()) {
            shown = strategic::shown(bytes);
            // What a merge by fields makes is not decoded from text.
            if let Some(why) = mismatch::find_unconvertible(builtin, &patched) {
                return Err(admission::Refusal::Unfit(why).of_patch(&call.served, &shown));
            }
        }
        let noted = (patched, noted.clone());
        let decoded = admission::decode_noted(&call.served, noted, call.query.field_validation)
            .map_err(|refusal| refusal.of_patch(&call.served, &shown))?;
        call.warn(decoded.warnings);
        Ok(Successor::Updated(decoded.object))
    })
    .await?;
    call.show(StatusCode::OK, outcome.bytes)
}

/// What an apply is given.
struct Configuration {
    applied: apply::Applied,
    /// The name in it; empty where it has none.
    name: String,
    /// Why it is no object of its kind, which is told when it conflicts with nobody.
    unfit: Option<ApiError>,
}

impl Configuration {
    /// Reads and decodes it.
    fn of(call: &Call<'_>, bytes: &Bytes) -> Result<Self, ApiError> {
        let (body, noted) = body::configuration(bytes)?;
        let (api_version, own) = (call.served.api_version(), call.served.resource.kind.clone());
        let name = object::name(&body).to_owned();
        let (subject, kind) = configured(call, &body);
        let metadata = body.get("metadata").cloned().unwrap_or_default();
        let given = apply::configuration((&api_version, &own), body, call.name())?;
        check_typed(call, &subject, (&given, &metadata))?;
        let builtin = call.served.resource.builtin();
        if let Some(why) = builtin.and_then(|builtin| mismatch::find_unconvertible(builtin, &given)) {
            let unfit = ApiError::unexplained(format!(
                "failed to convert new object ({subject}) to proper version: unable to convert unstructured object to {kind}: {why}"
            ));
            let applied = apply::Applied { object: given.clone(), given };
            return Ok(Self { applied, name, unfit: Some(unfit) });
        }
        let decoded =
            admission::decode_noted(&call.served, (given.clone(), noted), call.query.field_validation)
                .map_err(|refusal| refusal.of_body(&call.served, (&api_version, &own)))?;
        call.warn(decoded.warnings);
        Ok(Self { applied: apply::Applied { object: decoded.object, given }, name, unfit: None })
    }

    /// Lays it over what there is, and refuses it then for what is wrong with itself.
    fn over(
        &self,
        call: &Call<'_>,
        live: Option<&Value>,
        manager: &apply::Manager,
    ) -> Result<Value, ApiError> {
        let made = apply::apply(&call.served, live, &self.applied, manager, call.query.force);
        if made.is_err() {
            // Nobody is told how to write better what is refused.
            call.warn(Vec::new());
        }
        let made = made?;
        if let Some(unfit) = &self.unfit {
            return Err(unfit.clone());
        }
        if !self.name.is_empty() && self.name != call.name() {
            return Err(ApiError::misnamed(&self.name, call.name()));
        }
        check_version(&made)?;
        admission::check_namespace(&self.applied.object, call.namespace())?;
        Ok(made)
    }
}

/// Server-side apply: creates what is not there, else changes what the manager owns.
async fn apply_patch(inner: &Inner, call: &Call<'_>, bytes: &Bytes) -> Result<Answer, ApiError> {
    if call.address.subresource.is_some() {
        // Only what is there has a part.
        let key = call.served.resource.key(call.namespace(), call.name());
        inner.store.snapshot()?.get(&key)?.ok_or_else(|| ApiError::not_found(&call.subject()))?;
    }
    let configuration = Configuration::of(call, bytes)?;
    for _ in 0..ATTEMPTS {
        let stamp = Stamp::new();
        let manager = call.manager_at(&stamp);
        let changed = modify(inner, call, |live| {
            configuration.over(call, Some(live), &manager).map(Successor::Applied)
        })
        .await;
        let (status, outcome) = match changed {
            Err(error) if missing(&error) && call.address.subresource.is_none() => {
                if configuration.name.is_empty() {
                    return Err(ApiError::nameless(call.name()));
                }
                let uid = object::uid(&configuration.applied.object);
                if !uid.is_empty() {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    );
                    return Err(ApiError::conflict(&call.subject(), &why));
                }
                let mut object = configuration.over(call, None, &manager)?;
                check_namespace(inner, call, call.name())?;
                admission::fill_in_applied(&call.served, &mut object);
                let object = admission::create(&call.served, object, call.namespace(), &stamp)?;
                call.warn_of(None, &object);
                match put(inner, call, Expect::Absent, object, false).await {
                    // Somebody else created it in between: apply to that.
                    Err(PutError::Exists | PutError::Lost) => continue,
                    Err(PutError::Other(error)) => return Err(error),
                    Ok(outcome) => (StatusCode::CREATED, outcome),
                }
            }
            other => (StatusCode::OK, other?),
        };
        return call.show(status, outcome.bytes);
    }
    Err(ApiError::modified(&call.subject()))
}

/// Refuses a configuration with fields that would have no owner.
fn check_typed(
    call: &Call<'_>,
    subject: &str,
    (configuration, metadata): (&Value, &Value),
) -> Result<(), ApiError> {
    let unknown = admission::unknown_fields(&call.served, configuration);
    let mut problems = apply::misfits(&call.served, configuration, &unknown);
    if !metadata.is_null() && !metadata.is_object() {
        problems.insert(0, format!(".metadata: expected map, got &{{{}}}", go::plain(metadata)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ApiError::untyped_configuration(subject, &problems))
}

/// What a configuration is about, and its kind, in the words of errors of an apply.
fn configured(call: &Call<'_>, body: &Value) -> (String, String) {
    let Address { group, version, .. } = call.address;
    let kind = format!("{group}/{version}, Kind={}", call.served.resource.kind);
    let namespace = object::meta_str(body, "namespace");
    (format!("{namespace}/{}; {kind}", object::name(body)), kind)
}

impl Call<'_> {
    /// Who changes what part, and when, for `managedFields`.
    pub(super) fn manager_at(&self, stamp: &Stamp) -> apply::Manager {
        apply::Manager {
            name: self.manager(),
            subresource: self.address.subresource.clone().unwrap_or_default(),
            time: stamp.now.clone(),
        }
    }

    /// Notes what is odd, but allowed, in an object that was admitted.
    fn warn_of(&self, old: Option<&Value>, object: &Value) {
        if self.part() == Part::Main {
            self.warn_too(admission::warnings(&self.served.resource, old, object));
        }
    }

    fn part(&self) -> Part {
        match self.address.subresource.as_deref() {
            Some("status") => Part::Status,
            Some("finalize") => Part::Finalize,
            _ => Part::Main,
        }
    }
}

/// Changes the object a request addresses. `change` makes the successor of the live object (in the request's version) and runs again when somebody else was
/// faster, unless the successor names the resource version it was made for.
pub(crate) async fn modify(
    inner: &Inner,
    call: &Call<'_>,
    change: impl Fn(&Value) -> Result<Successor, ApiError> + Sync,
) -> Result<Outcome, ApiError> {
    let resource = &call.served.resource;
    let key = resource.key(call.namespace(), call.name());
    for _ in 0..ATTEMPTS {
        let found = inner.store.snapshot()?.get(&key)?;
        let stored = found.ok_or_else(|| ApiError::not_found(&call.subject()))?;
        let live: Value = serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?;
        let live = call.served.request_form(live);
        let successor = change(&live)?;
        let updates = matches!(successor, Successor::Updated(_));
        let (Successor::Updated(mut new) | Successor::Applied(mut new)) = successor;
        admission::check_name(&new, call.name())?;
        check_version(&new)?;
        let wanted = object::meta_str(&new, "resourceVersion");
        let current = object::meta_str(&live, "resourceVersion");
        if wanted.is_empty() && !resource.builtin().is_some_and(Builtin::allows_unconditional_update) {
            let why = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &0.into(), why);
            // The storage says this, which knows resources and no kinds.
            let subject = Subject { kind: &resource.plural, ..call.subject() };
            return Err(ApiError::invalid(&subject, &[cause]));
        }
        if !wanted.is_empty() && wanted != current {
            return Err(ApiError::modified(&call.subject()));
        }
        match updates {
            true => admission::fill_in(&call.served, &mut new),
            false => admission::fill_in_applied(&call.served, &mut new),
        }
        let requested = updates.then(|| new.clone());
        let mut new = admission::update(&call.served, &live, new, call.part())?;
        call.warn_of(Some(&live), &new);
        if let Some(requested) = requested {
            let manager = call.manager_at(&Stamp::new());
            apply::record_update(&call.served, &live, &requested, &mut new, &manager);
        }
        stored_without(call, &mut new, &["selfLink"]);
        // What changes nothing but when somebody said so is not written: an apply that leaves out a default in a list would be
        // a change in every second.
        if apply::same_but_for_times(&live, &new) && !call.served.renews(&stored) {
            return Ok(Outcome { bytes: stored.bytes });
        }
        let gone = object::is_deleting(&new) && may_go(resource.builtin(), &new);
        // What goes is removed as it was; who took its last finalizer sees it without.
        let last = if gone { live } else { new.clone() };
        match put(inner, call, Expect::Version(stored.version), last, gone).await {
            Err(PutError::Lost | PutError::Exists) => tokio::task::yield_now().await,
            Err(PutError::Other(error)) => return Err(error),
            Ok(_) if gone => return Ok(Outcome { bytes: call.served.stored_form(new).to_string().into() }),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(ApiError::modified(&call.subject()))
}

/// True when nothing holds a deleted object any more.
pub(super) fn may_go(builtin: Option<Builtin>, object: &Value) -> bool {
    let held_by_namespace = builtin == Some(Builtin::Namespace)
        && object::at(object, &["spec", "finalizers"])
            .and_then(Value::as_array)
            .is_some_and(|f| !f.is_empty());
    object::finalizers(object).is_empty() && !held_by_namespace
}

pub(super) enum PutError {
    Exists,
    Lost,
    Other(ApiError),
}

impl From<ReadError> for PutError {
    fn from(error: ReadError) -> Self {
        Self::Other(error.into())
    }
}

/// Takes out what the storage takes away, but of a trial, which does not come so far and shows it as it was given.
fn stored_without(call: &Call<'_>, object: &mut Value, fields: &[&str]) {
    if !call.query.dry_run {
        let metadata = object::metadata_mut(object);
        for field in fields {
            metadata.remove(*field);
        }
    }
}

/// Writes (or, with `gone`, removes) an admitted object given in the request's version.
pub(super) async fn put(
    inner: &Inner,
    call: &Call<'_>,
    expect: Expect,
    object: Value,
    gone: bool,
) -> Result<Outcome, PutError> {
    let resource = &call.served.resource;
    let name = object::name(&object).to_owned();
    let mut object = object;
    if expect == Expect::Absent {
        stored_without(call, &mut object, &["selfLink", "resourceVersion"]);
    }
    let keep_previous = expect != Expect::Absent && !gone && selectors_care(inner, call, &object);
    let stored = call.served.stored_form(object);
    let key = resource.key(call.namespace(), &name);
    let size = stored.to_string().len();
    if size > inner.options.max_object_bytes {
        return Err(PutError::Other(ApiError::object_too_large()));
    }
    if call.query.dry_run {
        let found = inner.store.snapshot().and_then(|snapshot| snapshot.get(&key));
        if expect == Expect::Absent && found.map_err(|error| PutError::Other(error.into()))?.is_some() {
            return Err(PutError::Exists);
        }
        return Ok(Outcome { bytes: stored.to_string().into() });
    }
    let write = Write {
        key,
        expect,
        change: if gone { Change::Delete(stored) } else { Change::Put(stored) },
        requires: resource.namespaced.then(|| namespace_key(call.namespace())),
        keep_previous,
    };
    let committed = commit(inner, &call.served, write).await.map_err(|error| match error {
        WriteError::Exists => PutError::Exists,
        WriteError::Conflict => PutError::Lost,
        WriteError::RequirementGone => PutError::Other(namespace_missing(call.namespace())),
        other => PutError::Other(other.into()),
    })?;
    Ok(Outcome { bytes: committed.bytes })
}

/// One write, and what follows from it at once: an applied CRD is served when its writer is answered.
pub(super) async fn commit(inner: &Inner, served: &Served, write: Write) -> Result<Committed, WriteError> {
    let committed = inner.store.write(write).await?;
    if served.resource.builtin() == Some(Builtin::CustomResourceDefinition) {
        naming::settle(inner).await;
    }
    Ok(committed)
}

/// True when labels or selectable fields differ from the stored state, so that the log has to keep that state for watches with selectors.
fn selectors_care(inner: &Inner, call: &Call<'_>, new: &Value) -> bool {
    let resource = &call.served.resource;
    let key = resource.key(call.namespace(), object::name(new));
    let Ok(Some(stored)) = inner.store.snapshot().and_then(|s| s.get(&key)) else { return true };
    let Ok(old) = serde_json::from_slice::<Value>(&stored.bytes) else { return true };
    let old = call.served.request_form(old);
    if object::labels(&old) != object::labels(new) {
        return true;
    }
    let selectable = resource.versions.iter().flat_map(|version| &version.selectable);
    selectable.into_iter().any(|field| {
        let path: Vec<&str> = field.split('.').collect();
        object::at(&old, &path) != object::at(new, &path)
    })
}
