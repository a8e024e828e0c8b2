// SPDX-License-Identifier: Apache-2.0

//! Accessors on objects in their JSON form. Pure; used by every other module.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// `metadata` of an object; empty when there is none.
pub(crate) fn metadata(object: &Value) -> Cow<'_, Map<String, Value>> {
    match object.get("metadata").and_then(Value::as_object) {
        Some(metadata) => Cow::Borrowed(metadata),
        None => Cow::Owned(Map::new()),
    }
}

/// `metadata` for writing; made when missing. The object has to be a JSON object, which decoding has checked.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    object_mut(entry(object, "metadata"))
}

/// A field for writing; null when it was missing.
pub(crate) fn entry<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    object_mut(object).entry(field).or_insert(Value::Null)
}

/// The value as a JSON object; replaced by an empty one when it is something else.
pub(crate) fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// A string of `metadata`; empty when missing.
pub(crate) fn meta_str<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    meta_str(object, "name")
}

pub(crate) fn uid(object: &Value) -> &str {
    meta_str(object, "uid")
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    object.get("metadata").and_then(|m| m.get("deletionTimestamp")).is_some_and(|t| !t.is_null())
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(crate) fn labels(object: &Value) -> BTreeMap<&str, &str> {
    let labels = object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect()
}

/// A value by plain path, such as `["spec", "bmcRef", "name"]`.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, field| value.get(field))
}

/// `metadata.resourceVersion` of an object in its bytes.
pub(crate) fn version_of(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Versioned,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        resource_version: String,
    }
    let named: Named = serde_json::from_slice(bytes).ok()?;
    named.metadata.resource_version.parse().ok()
}

/// `metadata.ownerReferences[]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub block_owner_deletion: Option<bool>,
}

impl OwnerReference {
    /// API group of the owner; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

pub(crate) fn owner_references(object: &Value) -> Vec<OwnerReference> {
    object
        .get("metadata")
        .and_then(|m| m.get("ownerReferences"))
        .and_then(|list| Vec::<OwnerReference>::deserialize(list).ok())
        .unwrap_or_default()
}

/// `group/version`, or `version` for the core group.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Now, as `metadata.creationTimestamp` writes it (seconds, UTC).
pub(crate) fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
