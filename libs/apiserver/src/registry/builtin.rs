// SPDX-License-Identifier: Apache-2.0

//! The kinds that are served without a CRD. Their schema is their `k8s_openapi` type: an object that decodes into it is valid, what the type does not know
//! is pruned.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event as EventsV1;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Behaviour, Resource, Version, columns};
use crate::object;

/// A built-in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Namespace,
    Secret,
    ConfigMap,
    Event,
    /// `events.k8s.io/v1`: the same stored objects as [`Builtin::Event`] in their newer form.
    EventsV1Event,
    ServiceAccount,
    Lease,
    CustomResourceDefinition,
}

impl Builtin {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Namespace,
        Self::Secret,
        Self::ConfigMap,
        Self::Event,
        Self::EventsV1Event,
        Self::ServiceAccount,
        Self::Lease,
        Self::CustomResourceDefinition,
    ];

    /// True for a group that one of them is in.
    pub fn has_group(group: &str) -> bool {
        ROWS.iter().any(|row| row.group == group)
    }

    /// The kind of this name and `apiVersion`.
    pub fn named(api_version: &str, kind: &str) -> Option<Self> {
        let row = ROWS
            .iter()
            .find(|row| row.name == kind && object::api_version(row.group, "v1") == api_version)?;
        Some(row.kind)
    }

    /// The Go package of the type in which kube-apiserver holds its objects.
    pub fn package(self) -> &'static str {
        match self {
            Self::Lease => "coordination",
            Self::CustomResourceDefinition => "apiextensions",
            _ => "core",
        }
    }

    /// Decodes into the kind's type and back: what the type does not know is gone.
    ///
    /// # Errors
    /// The decoder's message, when the object is not of this kind's form.
    pub fn normalise(self, object: Value) -> Result<Value, String> {
        match self {
            Self::Namespace => round_trip::<Namespace>(object),
            Self::Secret => round_trip::<Secret>(object),
            Self::ConfigMap => round_trip::<ConfigMap>(object),
            Self::Event => round_trip::<Event>(object).map(with_time_of_series),
            Self::EventsV1Event => new_event(object),
            Self::ServiceAccount => round_trip::<ServiceAccount>(object),
            Self::Lease => round_trip::<Lease>(object),
            Self::CustomResourceDefinition => round_trip::<CustomResourceDefinition>(object),
        }
    }

    /// Takes out the empty texts that Go leaves out.
    pub fn drop_blank(self, object: &mut Map<String, Value>) {
        let drop = |structure: &mut Map<String, Value>| structure.retain(|_, value| *value != "");
        match self {
            Self::Event | Self::EventsV1Event => {
                let always = ["reportingComponent", "reportingInstance"];
                object
                    .retain(|field, value| *value != "" || self == Self::Event && always.contains(&&**field));
                object.values_mut().filter_map(Value::as_object_mut).for_each(drop);
            }
            Self::ServiceAccount => {
                let lists = object.values_mut().filter_map(Value::as_array_mut);
                lists.flatten().filter_map(Value::as_object_mut).for_each(drop);
            }
            _ => {}
        }
    }

    /// What an object has that says nothing: structures and times that the Go type writes whether they are set or not.
    pub fn zero(self) -> Value {
        match self {
            Self::Lease => json!({"spec": {}}),
            Self::Namespace => json!({"spec": {}, "status": {}}),
            Self::Event => {
                json!({
                    "involvedObject": {}, "source": {}, "eventTime": null, "firstTimestamp": null,
                    "lastTimestamp": null, "reportingComponent": "", "reportingInstance": "",
                })
            }
            Self::EventsV1Event => json!({
                "regarding": {}, "deprecatedSource": {}, "eventTime": null, "deprecatedFirstTimestamp": null,
                "deprecatedLastTimestamp": null,
            }),
            Self::CustomResourceDefinition => json!({"spec": {"names": {}}, "status": {}}),
            Self::Secret | Self::ConfigMap | Self::ServiceAccount => json!({}),
        }
    }

    /// A removal answers with the object, not with a `Status`.
    pub fn returns_deleted(self) -> bool {
        matches!(self, Self::ServiceAccount)
    }

    /// PUT without `resourceVersion` overwrites (each kind's `AllowUnconditionalUpdate` in Kubernetes).
    pub fn allows_unconditional_update(self) -> bool {
        !matches!(self, Self::Lease | Self::CustomResourceDefinition)
    }

    /// PUT on a name that does not exist creates (`AllowCreateOnUpdate`).
    pub fn allows_create_on_update(self) -> bool {
        matches!(self, Self::Lease | Self::Event | Self::EventsV1Event)
    }

    /// `metadata.generation` counts changes of the spec.
    pub fn has_generation(self) -> bool {
        matches!(self, Self::CustomResourceDefinition)
    }
}

fn round_trip<T: DeserializeOwned + Serialize>(object: Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

/// Where the time of a series is told.
const SERIES_TIME: &str = "lastObservedTime";

/// Go writes the time of a series whether it has one or not.
fn with_time_of_series(mut event: Value) -> Value {
    if let Some(series) = event.get_mut("series").and_then(Value::as_object_mut) {
        series.entry(SERIES_TIME).or_insert(Value::Null);
    }
    event
}

/// An Event of `events.k8s.io`: the Rust type has no room for a series without a time or a number, which Go's has.
fn new_event(mut event: Value) -> Result<Value, String> {
    const ANY_TIME: &str = "1970-01-01T00:00:00.000000Z";
    let mut untimed = false;
    if let Some(series) = event.get_mut("series").and_then(Value::as_object_mut) {
        for (field, nothing) in [("count", json!(0)), (SERIES_TIME, json!(ANY_TIME))] {
            if series.get(field).is_none_or(Value::is_null) {
                untimed |= field == SERIES_TIME;
                series.insert(field.to_owned(), nothing);
            }
        }
    }
    let mut event = round_trip::<EventsV1>(event)?;
    if let Some(time) = event.pointer_mut("/series/lastObservedTime").filter(|_| untimed) {
        *time = Value::Null;
    }
    Ok(event)
}

struct Row {
    kind: Builtin,
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    status: bool,
    selectable: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        kind: Builtin::Namespace,
        group: "",
        name: "Namespace",
        plural: "namespaces",
        short: &["ns"],
        namespaced: false,
        status: true,
        selectable: &["status.phase"],
    },
    Row {
        kind: Builtin::Secret,
        group: "",
        name: "Secret",
        plural: "secrets",
        short: &[],
        namespaced: true,
        status: false,
        selectable: &["type"],
    },
    Row {
        kind: Builtin::ConfigMap,
        group: "",
        name: "ConfigMap",
        plural: "configmaps",
        short: &["cm"],
        namespaced: true,
        status: false,
        selectable: &[],
    },
    Row {
        kind: Builtin::Event,
        group: "",
        name: "Event",
        plural: "events",
        short: &["ev"],
        namespaced: true,
        status: false,
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    },
    Row {
        kind: Builtin::ServiceAccount,
        group: "",
        name: "ServiceAccount",
        plural: "serviceaccounts",
        short: &["sa"],
        namespaced: true,
        status: false,
        selectable: &[],
    },
    Row {
        kind: Builtin::CustomResourceDefinition,
        group: "apiextensions.k8s.io",
        name: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        short: &["crd", "crds"],
        namespaced: false,
        status: true,
        selectable: &[],
    },
    Row {
        kind: Builtin::Lease,
        group: "coordination.k8s.io",
        name: "Lease",
        plural: "leases",
        short: &[],
        namespaced: true,
        status: false,
        selectable: &[],
    },
    Row {
        kind: Builtin::EventsV1Event,
        group: "events.k8s.io",
        name: "Event",
        plural: "events",
        short: &["ev"],
        namespaced: true,
        status: false,
        selectable: &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "reason",
            "reportingController",
            "type",
        ],
    },
];

pub(super) fn resources() -> Vec<Resource> {
    ROWS.iter().map(resource).collect()
}

fn resource(row: &Row) -> Resource {
    let storage = match row.kind {
        Builtin::EventsV1Event => "/events".into(),
        _ => format!("{}/{}", row.group, row.plural),
    };
    let version = Version {
        name: "v1".into(),
        columns: columns::of(row.kind),
        status: row.status,
        selectable: row.selectable.iter().map(|s| (*s).to_owned()).collect(),
        ..Version::default()
    };
    Resource {
        group: row.group.into(),
        kind: row.name.into(),
        list_kind: format!("{}List", row.name),
        plural: row.plural.into(),
        singular: row.name.to_lowercase(),
        short_names: row.short.iter().map(|s| (*s).to_owned()).collect(),
        categories: match row.kind {
            Builtin::CustomResourceDefinition => vec!["api-extensions".into()],
            _ => Vec::new(),
        },
        namespaced: row.namespaced,
        terminating: false,
        behaviour: Behaviour::Builtin(row.kind),
        storage,
        storage_version: "v1".into(),
        versions: vec![version],
        since: None,
    }
}

/// Field names of an Event: `events.k8s.io/v1`, then core `v1`; all others are the same in both.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub(super) fn event_to_core(event: &mut Value) {
    rename(event, EVENT_FIELDS.iter().map(|(new, core)| (*new, *core)));
    let map = object::object_mut(event);
    for field in ["reportingComponent", "reportingInstance"] {
        map.entry(field).or_insert_with(|| "".into());
    }
    if let Some(series) = map.get_mut("series").and_then(Value::as_object_mut) {
        series.retain(|field, value| field != "count" || *value != json!(0));
    }
}

pub(super) fn event_from_core(event: &mut Value) {
    rename(event, EVENT_FIELDS.iter().map(|(new, core)| (*core, *new)));
    let map = object::object_mut(event);
    map.entry("eventTime").or_insert(Value::Null);
    map.entry("deprecatedSource").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(series) = map.get_mut("series").and_then(Value::as_object_mut) {
        series.entry("count").or_insert_with(|| 0.into());
    }
    // What the older form always has.
    for field in ["reportingController", "reportingInstance"] {
        if map.get(field).and_then(Value::as_str) == Some("") {
            map.remove(field);
        }
    }
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let map = object::object_mut(object);
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
}
