// SPDX-License-Identifier: Apache-2.0

//! `metadata.managedFields`: its entries in memory, what tells them apart, how they are written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::FieldSet;
use crate::object;

/// Managers with updates of their own that are kept apart; beyond it the oldest are merged into one, as kube-apiserver does.
const MAX_UPDATE_MANAGERS: usize = 10;
/// Name of the merged old managers.
const ANCIENT: &str = "ancient-changes";

/// `operation` of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
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
pub(super) struct Identity {
    pub manager: String,
    pub operation: Operation,
    /// Empty for applies: whichever version a configuration is in, it is the manager's one configuration.
    pub api_version: String,
    pub subresource: String,
}

impl Identity {
    pub fn update(manager: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            operation: Operation::Update,
            manager: manager.into(),
            api_version: api_version.into(),
            subresource: subresource.into(),
        }
    }

    pub fn apply(manager: &str, subresource: &str) -> Self {
        Self { operation: Operation::Apply, ..Self::update(manager, "", subresource) }
    }

    /// Its place among those that a conflict is told of: kube-apiserver sorts them by how it writes them down, in which an update has its time.
    pub fn place(&self, time: &str) -> (String, Operation, String, String, bool, String) {
        let (api_version, time) = match self.operation {
            Operation::Apply => (String::new(), String::new()),
            Operation::Update => (self.api_version.clone(), time.to_owned()),
        };
        let whole = self.subresource.is_empty();
        (self.manager.clone(), self.operation, api_version, time, whole, self.subresource.clone())
    }

    /// As the words of a conflict name it.
    pub fn told(&self) -> String {
        let mut who = format!("\"{}\"", self.manager);
        if !self.subresource.is_empty() {
            who.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == Operation::Update {
            who.push_str(&format!(" using {}", self.api_version));
        }
        who
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owned {
    /// Empty where an apply changed nothing, a scale brought the entry back, or a client left it out.
    pub time: String,
    /// The version in which the fields are meant.
    pub api_version: String,
    pub fields: FieldSet,
}

/// The managed fields of an object.
pub(super) type Managed = BTreeMap<Identity, Owned>;

/// The entries of an object; of two with one identity the later counts.
pub(super) fn read(object: &Value) -> Managed {
    let list = object::at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    let mut managed = Managed::new();
    for entry in list.into_iter().flatten() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let identity = match text("operation") {
            "Apply" => Identity::apply(text("manager"), text("subresource")),
            _ => Identity::update(text("manager"), text("apiVersion"), text("subresource")),
        };
        let fields = entry.get("fieldsV1").map(FieldSet::from_json).unwrap_or_default();
        let (time, api_version) = (text("time").to_owned(), text("apiVersion").to_owned());
        managed.insert(identity, Owned { time, api_version, fields });
    }
    managed
}

/// Writes the entries in place of those of the object.
pub(super) fn write<'a>(object: &mut Value, entries: impl IntoIterator<Item = (&'a Identity, &'a Owned)>) {
    let mut entries: Vec<_> = entries.into_iter().filter(|(_, owned)| !owned.fields.is_empty()).collect();
    // Applies first, then by time: the order that kube-apiserver gives.
    entries.sort_by(|(a, x), (b, y)| {
        let one = (a.operation, &x.time, &a.manager, &x.api_version, &a.subresource);
        one.cmp(&(b.operation, &y.time, &b.manager, &y.api_version, &b.subresource))
    });
    let list: Vec<Value> = entries.into_iter().map(|(identity, owned)| entry(identity, owned)).collect();
    let metadata = object::metadata_mut(object);
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), list.into());
    }
}

fn entry(identity: &Identity, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": identity.manager,
        "operation": identity.operation.name(),
        "apiVersion": owned.api_version,
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

/// True when all entries are what managed fields can be: else those noted before count.
pub(super) fn is_sound(object: &Value) -> bool {
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
pub(super) fn is_reset(object: &Value) -> bool {
    let list = object::at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    match list.map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_none_or(Map::is_empty),
        _ => false,
    }
}

/// Merges the oldest updates into one of each version when there are too many.
pub(super) fn bound(managed: &mut Managed) {
    let updates = managed.iter().filter(|(identity, _)| identity.operation == Operation::Update);
    let mut updates: Vec<(String, Identity)> =
        updates.map(|(identity, owned)| (owned.time.clone(), identity.clone())).collect();
    updates.sort();
    let mut surplus = updates.len().saturating_sub(MAX_UPDATE_MANAGERS);
    let mut oldest: BTreeMap<String, Identity> = BTreeMap::new();
    for (time, identity) in updates {
        if surplus == 0 {
            return;
        }
        // The first of its version is only merged with a second.
        let Some(first) = oldest.get(&identity.api_version) else {
            oldest.insert(identity.api_version.clone(), identity);
            continue;
        };
        let ancient = Identity::update(ANCIENT, &identity.api_version, "");
        if !managed.contains_key(&ancient)
            && let Some(owned) = managed.remove(first)
        {
            managed.insert(ancient.clone(), owned);
        }
        if let Some(owned) = managed.remove(&identity)
            && let Some(merged) = managed.get_mut(&ancient)
        {
            merged.fields = merged.fields.union(&owned.fields);
            merged.time = time;
        }
        surplus -= 1;
    }
}

/// Whether two objects are equal, but for the times of their managers.
pub(crate) fn same_but_for_times(one: &Value, other: &Value) -> bool {
    let entries = |one: &Value, other: &Value| without(one, other, "time", |_, _| true);
    let lists = |one: &Value, other: &Value| match (one.as_array(), other.as_array()) {
        (Some(one), Some(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| entries(one, other))
        }
        _ => one == other,
    };
    let metadata = |one: &Value, other: &Value| without(one, other, "managedFields", lists);
    without(one, other, "metadata", metadata)
}

/// Whether two maps are equal, whose values of `field` (null where there is none) are compared in another way.
fn without(one: &Value, other: &Value, field: &str, how: impl Fn(&Value, &Value) -> bool) -> bool {
    static NOTHING: Value = Value::Null;
    let (Some(a), Some(b)) = (one.as_object(), other.as_object()) else { return one == other };
    let rest = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key(field));
    rest(a) == rest(b)
        && a.iter().filter(|(key, _)| *key != field).all(|(key, value)| b.get(key) == Some(value))
        && how(a.get(field).unwrap_or(&NOTHING), b.get(field).unwrap_or(&NOTHING))
}
