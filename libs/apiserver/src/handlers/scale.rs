// SPDX-License-Identifier: Apache-2.0

//! The `scale` subresource: the replicas of a custom resource in the one form (`autoscaling/v1 Scale`) that `kubectl scale` and autoscalers know.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Call;
use super::write::{Successor, modify};
use crate::admission::Stamp;
use crate::apply::{self, Owners};
use crate::body::{self, Answer};
use crate::inner::Inner;
use crate::object;
use crate::patch::{self, PatchType};
use crate::registry::Scale;
use crate::request::{Form, Verb};
use crate::status::ApiError;
use crate::table::{self, Column};

const API_VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";
/// Stands for replicas that an object does not have.
const UNSET: i64 = -2_147_483_648;

/// Answers a request that addresses the scale of an object.
pub(super) async fn handle(
    inner: &Inner,
    call: &Call<'_>,
    verb: Verb,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Answer, ApiError> {
    let scale = call.served.version().scale.clone().ok_or_else(ApiError::no_such_path)?;
    let live = match verb {
        Verb::Get => read(inner, call)?,
        Verb::Update => {
            let given = body::parse_object(KIND, media_type, bytes)?;
            change(inner, call, &scale, |_| Ok(given.clone())).await?
        }
        Verb::Patch => match PatchType::of(media_type) {
            Some(PatchType::Apply) => apply_replicas(inner, call, &scale, bytes).await?,
            Some(kind @ (PatchType::Json | PatchType::Merge)) => {
                change(inner, call, &scale, |shown| match kind {
                    PatchType::Json => patch::json(shown, bytes),
                    _ => patch::merge(shown, bytes),
                })
                .await?
            }
            _ => return Err(ApiError::unsupported_media_type(PatchType::accepted(true))),
        },
        _ => return Err(ApiError::method_not_allowed()),
    };
    if object::at(&live, &path(&scale.spec_replicas)).is_none() {
        let at = scale.spec_replicas.join(".");
        return Err(ApiError::internal(format!("the spec replicas field \".{at}\" does not exist")));
    }
    let shown = shown(&live, &scale);
    let answer = match call.view.accept.form {
        Form::Table => {
            let meta = json!({"resourceVersion": object::meta_str(&shown, "resourceVersion")});
            table::table(&columns(), &[shown], meta, call.view.include, true)
        }
        Form::Partial => table::partial(&shown),
        Form::Full | Form::Discovery(_) => shown,
    };
    Ok(body::json_answer(StatusCode::OK, &answer))
}

/// What `kubectl get --subresource=scale` prints.
fn columns() -> Vec<Column> {
    let rest = [
        ("Desired", "integer", ".spec.replicas"),
        ("Available", "integer", ".status.replicas"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ];
    let rest = rest.iter().filter_map(|(name, kind, path)| Column::new(name, kind, path));
    [Column::name()].into_iter().chain(rest).collect()
}

fn path(fields: &[String]) -> Vec<&str> {
    fields.iter().map(String::as_str).collect()
}

fn read(inner: &Inner, call: &Call<'_>) -> Result<Value, ApiError> {
    let key = call.served.resource.key(call.namespace(), call.name());
    let stored = inner.store.snapshot()?.get(&key)?.ok_or_else(|| ApiError::not_found(&call.subject()))?;
    let live = serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?;
    Ok(call.served.request_form(live))
}

/// The Scale of an object.
fn shown(live: &Value, scale: &Scale) -> Value {
    let number = |fields: &[String]| object::at(live, &path(fields)).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&scale.status_replicas)});
    if let Some(selector) = scale.label_selector.as_deref().and_then(|at| object::at(live, &path(at)))
        && selector.as_str().is_some_and(|text| !text.is_empty())
    {
        object::object_mut(&mut status).insert("selector".into(), selector.clone());
    }
    let metadata = object::metadata(live);
    let identity: serde_json::Map<String, Value> =
        ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
            .into_iter()
            .filter_map(|field| Some((field.to_owned(), metadata.get(field)?.clone())))
            .collect();
    // Go leaves out a wish for none.
    let spec = match number(&scale.spec_replicas) {
        0 => json!({}),
        wanted => json!({"replicas": wanted}),
    };
    json!({"kind": KIND, "apiVersion": API_VERSION, "metadata": identity, "spec": spec, "status": status})
}

/// Writes the replicas that `successor` makes of the Scale into the object.
async fn change(
    inner: &Inner,
    call: &Call<'_>,
    scale: &Scale,
    successor: impl Fn(&Value) -> Result<Value, ApiError> + Sync,
) -> Result<Value, ApiError> {
    write(inner, call, |live| {
        let before = to_change(live, scale);
        let wanted = successor(&before)?;
        let replicas = replicas(call, &wanted)?;
        let manager = call.manager_at(&Stamp::new());
        let owners = Owners::of(&call.served, live);
        let owners =
            owners.updated((&wish(&before), &wish(&json!({"spec": {"replicas": replicas}}))), &manager);
        let mut new = with_replicas(live, scale, replicas)?;
        // What the Scale pins, the change is pinned to.
        let version = object::meta_str(&wanted, "resourceVersion");
        if !version.is_empty() {
            object::metadata_mut(&mut new).insert("resourceVersion".into(), version.into());
        }
        owners.bring_back(&call.served, live, &mut new);
        Ok(new)
    })
    .await
}

async fn apply_replicas(
    inner: &Inner,
    call: &Call<'_>,
    scale: &Scale,
    bytes: &Bytes,
) -> Result<Value, ApiError> {
    let given = apply::configuration((API_VERSION, KIND), body::configuration(bytes)?.0, call.name())?;
    replicas(call, &given)?;
    let configuration = json!({"spec": given.get("spec").cloned().unwrap_or_else(|| json!({}))});
    write(inner, call, |live| {
        let before = wish(&to_change(live, scale));
        let manager = call.manager_at(&Stamp::new());
        let owners = Owners::of(&call.served, live);
        let (owners, after) = owners.applied(&before, configuration.clone(), (&manager, call.query.force))?;
        let mut new = with_replicas(live, scale, replicas(call, &after)?)?;
        owners.bring_back(&call.served, live, &mut new);
        Ok(new)
    })
    .await
}

/// Changes the object that has the Scale.
async fn write(
    inner: &Inner,
    call: &Call<'_>,
    successor: impl Fn(&Value) -> Result<Value, ApiError> + Sync,
) -> Result<Value, ApiError> {
    let outcome = modify(inner, call, |live| successor(live).map(Successor::Applied)).await?;
    let stored = serde_json::from_slice(&outcome.bytes).map_err(ApiError::internal)?;
    Ok(call.served.request_form(stored))
}

/// The Scale that a change begins with: where the object wishes for nothing, with a number that no client sends.
fn to_change(live: &Value, scale: &Scale) -> Value {
    let mut before = shown(live, scale);
    if object::at(live, &path(&scale.spec_replicas)).is_none() {
        object::object_mut(object::entry(&mut before, "spec")).insert("replicas".into(), UNSET.into());
    }
    before
}

/// What a Scale wishes for. Go leaves out a wish for none.
fn wish(scale: &Value) -> Value {
    match object::at(scale, &["spec", "replicas"]).filter(|replicas| replicas.as_i64() != Some(0)) {
        Some(replicas) => json!({"spec": {"replicas": replicas}}),
        None => json!({"spec": {}}),
    }
}

/// The object with the replicas of its Scale.
fn with_replicas(live: &Value, scale: &Scale, replicas: i64) -> Result<Value, ApiError> {
    if replicas == UNSET {
        let at = scale.spec_replicas.join(".");
        return Err(ApiError::bad_request(format!("the spec replicas field \".{at}\" cannot be empty")));
    }
    let mut new = live.clone();
    set(&mut new, &scale.spec_replicas, replicas.into());
    Ok(new)
}

/// `spec.replicas` of a Scale that a client sent.
fn replicas(call: &Call<'_>, scale: &Value) -> Result<i64, ApiError> {
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let found = scale.get(field).and_then(Value::as_str).unwrap_or_default();
        if !found.is_empty() && found != wanted {
            let message =
                format!("the {field} in the data ({found}) does not match the expected {field} ({wanted})");
            return Err(ApiError::bad_request(message));
        }
    }
    let name = object::name(scale);
    if !name.is_empty() && name != call.name() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    let given = object::at(scale, &["spec", "replicas"]);
    let replicas = match given {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
            .map(i64::from)
            .ok_or_else(|| ApiError::bad_request("spec.replicas is not a 32-bit whole number"))?,
    };
    Ok(replicas)
}

fn set(object: &mut Value, fields: &[String], value: Value) {
    match fields {
        [] => *object = value,
        [first, rest @ ..] => set(object::entry(object, first), rest, value),
    }
}
