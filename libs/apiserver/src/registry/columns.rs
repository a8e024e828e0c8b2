// SPDX-License-Identifier: Apache-2.0

//! The table columns of the built-in kinds, as `kubectl get` shows them. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::Builtin;
use crate::object;
use crate::table::{self, Column, OBJECT_META};

const SECRET: &str = "io.k8s.api.core.v1.Secret";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";
const ACCOUNT: &str = "io.k8s.api.core.v1.ServiceAccount";
const LEASE_SPEC: &str = "io.k8s.api.coordination.v1.LeaseSpec";
const EVENT: &str = "io.k8s.api.core.v1.Event";
const REFERENCE: &str = "io.k8s.api.core.v1.ObjectReference";

/// The columns of a kind.
pub(super) fn of(kind: Builtin) -> Vec<Column> {
    let path = |name: &str, kind: &str, path: &str| Column::new(name, kind, path);
    let age = Some(Column::made("Age", "string", 0, created).described(OBJECT_META, "creationTimestamp"));
    let data = |definition| Some(Column::made("Data", "string", 0, data).described(definition, "data"));
    let more: Vec<Option<Column>> = match kind {
        Builtin::Namespace => {
            let status = path("Status", "string", ".status.phase").map(|mut status| {
                status.description = "The status of the namespace".into();
                status
            });
            vec![status, age]
        }
        Builtin::Secret => {
            let kind = path("Type", "string", ".type").map(|kind| kind.described(SECRET, "type"));
            vec![kind, data(SECRET), age]
        }
        Builtin::ConfigMap => vec![data(CONFIG_MAP), age],
        Builtin::ServiceAccount => {
            vec![Some(Column::made("Secrets", "string", 0, secrets).described(ACCOUNT, "secrets")), age]
        }
        Builtin::Lease => {
            let holder = Column::made("Holder", "string", 0, holder);
            vec![Some(holder.described(LEASE_SPEC, "holderIdentity")), age]
        }
        Builtin::CustomResourceDefinition => {
            let made = Column::made("Created At", "date", 0, made_at);
            vec![Some(made.described(OBJECT_META, "creationTimestamp"))]
        }
        Builtin::Event | Builtin::EventsV1Event => return events(),
    };
    std::iter::once(Column::name()).chain(more.into_iter().flatten()).collect()
}

fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    object::at(object, path).and_then(Value::as_str).unwrap_or_default()
}

fn count(object: &Value, field: &str) -> usize {
    match object.get(field) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

fn age(now: Timestamp, then: &str) -> Value {
    table::since(now, then).unwrap_or_else(|| "<unknown>".into()).into()
}

fn created(object: &Value, now: Timestamp) -> Value {
    age(now, object::meta_str(object, "creationTimestamp"))
}

/// The time itself, which readers of the table make an age of, or not.
fn made_at(object: &Value, _: Timestamp) -> Value {
    object::meta_str(object, "creationTimestamp").into()
}

fn data(object: &Value, _: Timestamp) -> Value {
    (count(object, "data") + count(object, "binaryData")).into()
}

fn secrets(object: &Value, _: Timestamp) -> Value {
    count(object, "secrets").into()
}

fn holder(object: &Value, _: Timestamp) -> Value {
    text(object, &["spec", "holderIdentity"]).into()
}

fn events() -> Vec<Column> {
    let message = |event: &Value, _: Timestamp| either(event, "message", "note").trim().into();
    let mut columns = vec![
        Column::made("Last Seen", "string", 0, last_seen).described(EVENT, "lastTimestamp"),
        Column::made("Type", "string", 0, |event, _| text(event, &["type"]).into()).described(EVENT, "type"),
        Column::made("Reason", "string", 0, |event, _| text(event, &["reason"]).into())
            .described(EVENT, "reason"),
        Column::made("Object", "string", 0, about).described(EVENT, "involvedObject"),
        Column::made("Subobject", "string", 1, |event, _| subject(event, "fieldPath").into())
            .described(REFERENCE, "fieldPath"),
        Column::made("Source", "string", 1, source).described(EVENT, "source"),
        Column::made("Message", "string", 0, message).described(EVENT, "message"),
        Column::made("First Seen", "string", 1, |event, now| age(now, first_seen(event)))
            .described(EVENT, "firstTimestamp"),
        Column::made("Count", "string", 1, times).described(EVENT, "count"),
    ];
    let mut name = Column::name();
    name.priority = 1;
    columns.push(name);
    columns
}

/// A field of an Event, which is called differently in `events.k8s.io`.
fn either<'a>(event: &'a Value, core: &str, newer: &str) -> &'a str {
    event.get(core).or_else(|| event.get(newer)).and_then(Value::as_str).unwrap_or_default()
}

/// A field of what an Event is about.
fn subject<'a>(event: &'a Value, field: &str) -> &'a str {
    let about = event.get("involvedObject").or_else(|| event.get("regarding"));
    about.and_then(|about| about.get(field)).and_then(Value::as_str).unwrap_or_default()
}

fn about(event: &Value, _: Timestamp) -> Value {
    let kind = subject(event, "kind").to_lowercase();
    match subject(event, "name") {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn first_seen(event: &Value) -> &str {
    match either(event, "firstTimestamp", "deprecatedFirstTimestamp") {
        "" => text(event, &["eventTime"]),
        first => first,
    }
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    let last = match text(event, &["series", "lastObservedTime"]) {
        "" => either(event, "lastTimestamp", "deprecatedLastTimestamp"),
        observed => observed,
    };
    age(now, if last.is_empty() { first_seen(event) } else { last })
}

fn times(event: &Value, _: Timestamp) -> Value {
    let count =
        event.get("count").or_else(|| event.get("deprecatedCount")).and_then(Value::as_i64).unwrap_or(0);
    let series = object::at(event, &["series", "count"]).and_then(Value::as_i64);
    series.unwrap_or(if count == 0 { 1 } else { count }).into()
}

fn source(event: &Value, _: Timestamp) -> Value {
    let of = |field: &str| {
        let source = event.get("source").or_else(|| event.get("deprecatedSource"));
        source.and_then(|source| source.get(field)).and_then(Value::as_str).unwrap_or_default()
    };
    let (mut component, mut host) = (of("component"), of("host"));
    if component.is_empty() {
        component = either(event, "reportingComponent", "reportingController");
        host = text(event, &["reportingInstance"]);
    }
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}
