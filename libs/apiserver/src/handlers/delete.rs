// SPDX-License-Identifier: Apache-2.0

//! delete and deletecollection.
//!
//! An object without finalizers goes at once. Others get `deletionTimestamp` and go when the last finalizer does (in `write::modify`). Propagation policies are
//! finalizers too (`foregroundDeletion`, `orphan`), which the garbage collector serves.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::write::{PutError, may_go, put};
use super::{Call, read};
use crate::admission::CRD_FINALIZER;
use crate::body::{self, Answer};
use crate::inner::Inner;
use crate::object;
use crate::registry::Builtin;
use crate::request;
use crate::status::{self, ApiError, Cause};
use crate::store::Expect;

/// Attempts before a delete without preconditions gives up; each lost attempt means that somebody else's write went through.
const ATTEMPTS: usize = 128;

/// Finalizer of a foreground deletion.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of a deletion that orphans its dependents.
pub(crate) const ORPHAN: &str = "orphan";

/// What happens to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// What must be true of the object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Preconditions {
    pub uid: Option<String>,
    pub version: Option<String>,
}

struct DeleteOptions {
    propagation: Option<Propagation>,
    preconditions: Preconditions,
    dry_run: bool,
    /// In the words of old clients: dependents go, too.
    cascades: bool,
}

/// Options from the body or, where there is none, from the query: never from both.
fn options(call: &Call<'_>, media_type: &str, bytes: &Bytes) -> Result<DeleteOptions, ApiError> {
    let query = &call.query;
    if bytes.is_empty() {
        let (policy, orphan) = (query.propagation_policy.clone(), query.orphan_dependents);
        let propagation = propagation(policy.as_deref(), orphan, query.dry_run_causes())?;
        return Ok(DeleteOptions {
            propagation,
            preconditions: Preconditions::default(),
            dry_run: query.dry_run,
            cascades: orphan == Some(false),
        });
    }
    let body = body::options(media_type, bytes)?;
    let text = |path: &[&str]| object::at(&body, path).and_then(Value::as_str).map(str::to_owned);
    let policy = text(&["propagationPolicy"]);
    let orphan = body.get("orphanDependents").and_then(Value::as_bool);
    let dry_runs = body.get("dryRun").and_then(Value::as_array).into_iter().flatten();
    let (all, odd): (Vec<_>, Vec<_>) =
        dry_runs.filter_map(Value::as_str).map(str::to_owned).partition(|value| value == "All");
    let wrong = request::dry_run_causes(&odd, !all.is_empty());
    let propagation = propagation(policy.as_deref(), orphan, wrong)?;
    let preconditions = Preconditions {
        uid: text(&["preconditions", "uid"]),
        version: text(&["preconditions", "resourceVersion"]),
    };
    Ok(DeleteOptions {
        propagation,
        preconditions,
        dry_run: !all.is_empty(),
        cascades: orphan == Some(false),
    })
}

fn propagation(
    policy: Option<&str>,
    orphan: Option<bool>,
    wrong: Vec<Cause>,
) -> Result<Option<Propagation>, ApiError> {
    const FIELD: &str = "propagationPolicy";
    let mut causes = Vec::new();
    if let (Some(policy), Some(_)) = (policy, orphan) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        causes.push(Cause::invalid(FIELD, &policy.into(), why));
    }
    let propagation = match (policy, orphan) {
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (None, None) => None,
        (Some(other), _) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"].map(Value::from);
            causes.push(Cause::unsupported(FIELD, &other.into(), &supported));
            None
        }
    };
    causes.extend(wrong);
    if causes.is_empty() {
        return Ok(propagation);
    }
    Err(ApiError::invalid(&request::options_subject("DeleteOptions"), &causes))
}

/// What became of an object.
pub(crate) enum Removed {
    /// It is gone; its last state.
    Gone(Bytes),
    /// It waits for its finalizers.
    Pending(Bytes),
}

pub(super) async fn delete(
    inner: &Inner,
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let options = options(call, media_type, bytes)?;
    let call = &call.with_dry_run(options.dry_run);
    match remove(inner, call, call.name(), options.propagation, &options.preconditions).await? {
        Removed::Pending(bytes) if options.cascades => call.show(StatusCode::ACCEPTED, bytes),
        Removed::Pending(bytes) => call.show(StatusCode::OK, bytes),
        Removed::Gone(bytes) if call.served.resource.builtin().is_some_and(Builtin::returns_deleted) => {
            call.show(StatusCode::OK, bytes)
        }
        Removed::Gone(bytes) => {
            let object: Value = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
            let status = status::success(&call.subject(), object::uid(&object));
            Ok(call.say(StatusCode::OK, &status))
        }
    }
}

pub(super) async fn delete_collection(
    inner: &Inner,
    call: &Call<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let options = options(call, media_type, bytes)?;
    let call = &call.with_dry_run(options.dry_run);
    let mut removed = Vec::new();
    for stored in read::selected(inner, call)? {
        match remove(inner, call, stored.key.name(), options.propagation, &options.preconditions).await {
            // Shown as they were found.
            Ok(Removed::Gone(_) | Removed::Pending(_)) => removed.push(stored.bytes),
            // Somebody else removed it in between.
            Err(error) if error.code() == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    let meta = crate::view::ListMeta { version: inner.store.snapshot()?.version(), ..Default::default() };
    Ok(body::answer(StatusCode::OK, "application/json", call.view.list(&removed, &meta)?))
}

/// Namespaces that everything relies on; Kubernetes refuses their removal, too.
const IMMORTAL_NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// Removes one object of the call's collection, or marks it for removal.
pub(crate) async fn remove(
    inner: &Inner,
    call: &Call<'_>,
    name: &str,
    propagation: Option<Propagation>,
    preconditions: &Preconditions,
) -> Result<Removed, ApiError> {
    let resource = &call.served.resource;
    let subject = resource.subject(name);
    let key = resource.key(call.namespace(), name);
    if resource.builtin() == Some(Builtin::Namespace) && IMMORTAL_NAMESPACES.contains(&name) {
        return Err(ApiError::forbidden(&subject, "this namespace may not be deleted", None));
    }
    for _ in 0..ATTEMPTS {
        let stored = inner.store.snapshot()?.get(&key)?.ok_or_else(|| ApiError::not_found(&subject))?;
        let stored = call.served.renewed(stored);
        let live: Value = serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?;
        let live = call.served.request_form(live);
        preconditions.check(&subject, &live)?;
        // Nobody waits for an Event: the collector leaves it alone.
        let collected = !matches!(resource.builtin(), Some(Builtin::Event | Builtin::EventsV1Event));
        let marked = marked(resource.builtin().is_some(), &live, propagation.filter(|_| collected));
        let gone = may_go(resource.builtin(), &marked);
        if !gone && marked == live {
            return Ok(Removed::Pending(stored.bytes));
        }
        let last = if gone { live } else { marked };
        match put(inner, call, Expect::Version(stored.version), last, gone).await {
            Ok(outcome) if gone => return Ok(Removed::Gone(outcome.bytes)),
            Ok(outcome) => return Ok(Removed::Pending(outcome.bytes)),
            Err(PutError::Other(error)) => return Err(error),
            Err(PutError::Lost | PutError::Exists) => tokio::task::yield_now().await,
        }
    }
    Err(ApiError::modified(&subject))
}

impl Preconditions {
    fn check(&self, subject: &status::Subject<'_>, live: &Value) -> Result<(), ApiError> {
        let facts = [
            ("UID", &self.uid, object::uid(live), "deleted and then recreated"),
            ("ResourceVersion", &self.version, object::meta_str(live, "resourceVersion"), "modified"),
        ];
        for (what, wanted, found, fate) in facts {
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {fate}"
                );
                // About the kind, where other conflicts are about the resource; both forms of an Event are of the core group.
                let group = if subject.kind == "Event" { "" } else { subject.group };
                let subject = status::Subject { plural: subject.kind, group, ..subject.clone() };
                return Err(ApiError::conflict(&subject, &why));
            }
        }
        Ok(())
    }
}

/// The object as it waits for its removal.
fn marked(builtin: bool, live: &Value, propagation: Option<Propagation>) -> Value {
    let mut object = live.clone();
    let already = object::is_deleting(live);
    let mut finalizers: Vec<String> = object::finalizers(live).into_iter().map(str::to_owned).collect();
    if let Some(propagation) = propagation {
        let wanted = match propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        finalizers.retain(|f| (f != FOREGROUND && f != ORPHAN) || Some(f.as_str()) == wanted);
        if let Some(wanted) = wanted.filter(|wanted| !finalizers.iter().any(|f| f == wanted)) {
            finalizers.push(wanted.to_owned());
        }
    }
    // A definition goes after its objects.
    let definition =
        builtin && object.get("kind").and_then(Value::as_str) == Some("CustomResourceDefinition");
    if definition && !already && !finalizers.iter().any(|f| f == CRD_FINALIZER) {
        finalizers.push(CRD_FINALIZER.to_owned());
    }
    let metadata = object::metadata_mut(&mut object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
    if !already {
        metadata.insert("deletionTimestamp".into(), object::timestamp().into());
        metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|g| *g > 0) {
            metadata.insert("generation".into(), generation.saturating_add(1).into());
        }
        // A namespace says in its phase that it goes.
        if builtin && object.get("kind").and_then(Value::as_str) == Some("Namespace") {
            object::object_mut(object::entry(&mut object, "status"))
                .insert("phase".into(), "Terminating".into());
        }
    }
    object
}
