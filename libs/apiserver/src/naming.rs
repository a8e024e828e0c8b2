// SPDX-License-Identifier: Apache-2.0

//! Which CustomResourceDefinitions have the names that they ask for, and are therefore served.
//!
//! Called after every write of a CRD. Within a group, a name belongs to the first that got it; a CRD that asks for a taken one waits, with the reason in its
//! status, until the other gives it up. What a CRD has once been granted is never taken from it here.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde_json::{Value, json};

use crate::apply::{self, Manager};
use crate::inner::{CRDS, Inner};
use crate::object;
use crate::registry::Served;
use crate::store::{Change, Expect, Key, Prefix, ReadError, Write, WriteError};

/// Manager of the statuses, as in Kubernetes.
const MANAGER: &str = "kube-apiserver";
/// Rounds before the rest is left to the next write: each settles at least one CRD.
const ROUNDS: usize = 1000;

struct Definition {
    key: Key,
    version: u64,
    crd: Value,
}

/// Grants names until nothing more can be granted, and serves what was granted.
pub(crate) async fn settle(inner: &Inner) {
    for _ in 0..ROUNDS {
        let all = match definitions(inner) {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(%error, "cannot read the stored CRDs");
                break;
            }
        };
        let Some((definition, crd)) = next(&all) else { break };
        match write(inner, definition, crd).await {
            // A conflict: somebody else changed it, look again.
            Ok(()) | Err(WriteError::Conflict | WriteError::Exists) => {}
            Err(error) => {
                tracing::error!(%error, "cannot record the names of a CRD");
                break;
            }
        }
    }
    inner.reload_crds();
}

fn definitions(inner: &Inner) -> Result<Vec<Definition>, ReadError> {
    let mut all = Vec::new();
    inner.store.snapshot()?.scan(&Prefix::new(CRDS, None), None, |stored| {
        if let Ok(crd) = serde_json::from_slice(&stored.bytes) {
            all.push(Definition { key: stored.key, version: stored.version, crd });
        }
        ControlFlow::Continue(())
    })?;
    // The oldest gets a name that several wait for.
    all.sort_by_key(|definition| object::meta_str(&definition.crd, "creationTimestamp").to_owned());
    Ok(all)
}

/// The first CRD whose status has to change, with the change.
fn next(all: &[Definition]) -> Option<(&Definition, Value)> {
    all.iter().find_map(|definition| {
        let taken = Taken::by_others(all, definition);
        let settled = settled(&definition.crd, &taken, &object::timestamp())?;
        Some((definition, settled))
    })
}

async fn write(inner: &Inner, definition: &Definition, mut crd: Value) -> Result<(), WriteError> {
    if let Some(served) = served(inner) {
        let manager =
            Manager { name: MANAGER.into(), subresource: "status".into(), time: object::timestamp() };
        let requested = crd.clone();
        apply::record_update(&served, &definition.crd, &requested, &mut crd, &manager);
    }
    let write = Write {
        key: definition.key.clone(),
        expect: Expect::Version(definition.version),
        change: Change::Put(crd),
        requires: None,
        keep_previous: false,
    };
    inner.store.write(write).await.map(drop)
}

fn served(inner: &Inner) -> Option<Served> {
    inner.registry.catalogue().find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

/// Names in use in a group.
#[derive(Debug, Default)]
struct Taken {
    /// Plural, singular and short names.
    resources: BTreeSet<String>,
    /// Kinds and kinds of lists.
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by_others(all: &[Definition], but: &Definition) -> Self {
        let group = |crd: &Value| object::at(crd, &["spec", "group"]).cloned();
        let mut taken = Self::default();
        for other in all.iter().filter(|other| other.key != but.key && group(&other.crd) == group(&but.crd)) {
            let Some(names) = object::at(&other.crd, &["status", "acceptedNames"]) else { continue };
            let name = |field: &str| text(names, field).to_owned();
            taken.resources.extend([name("plural"), name("singular")]);
            taken.resources.extend(list(names, "shortNames"));
            taken.kinds.extend([name("kind"), name("listKind")]);
        }
        taken
    }
}

fn text<'a>(names: &'a Value, field: &str) -> &'a str {
    names.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list(names: &Value, field: &str) -> Vec<String> {
    let list = names.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The CRD with its names settled; `None` when nothing changes.
fn settled(crd: &Value, taken: &Taken, now: &str) -> Option<Value> {
    let wanted = object::at(crd, &["spec", "names"])?;
    let had = object::at(crd, &["status", "acceptedNames"]).cloned().unwrap_or_else(|| json!({}));
    if *wanted == had {
        return None;
    }
    let (granted, refusal) = grant(wanted, &had, taken);
    let names_condition = match &refusal {
        Some((reason, message)) => condition("NamesAccepted", false, reason, message, now),
        None => condition("NamesAccepted", true, "NoConflicts", "no conflicts found", now),
    };
    let mut settled = crd.clone();
    let status = object::object_mut(object::entry(&mut settled, "status"));
    status.insert("acceptedNames".into(), granted);
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let established = if refusal.is_none() {
        condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted", now)
    } else {
        condition("Established", false, "NotAccepted", "not all names are accepted", now)
    };
    if let Some(conditions) = conditions.as_array_mut() {
        put(conditions, names_condition);
        // Once served, always served.
        let served =
            conditions.iter().any(|c| text(c, "type") == "Established" && text(c, "status") == "True");
        if !served {
            put(conditions, established);
        }
    }
    (settled != *crd).then_some(settled)
}

/// The names a CRD has from now on, and what it did not get.
fn grant(wanted: &Value, had: &Value, taken: &Taken) -> (Value, Option<(&'static str, String)>) {
    let mut granted = had.clone();
    let names = object::object_mut(&mut granted);
    let mut refusal = None;
    for (field, used, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("shortNames", &taken.resources, "ShortNamesConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        // The last clash is the one that is told of.
        match claim(wanted, had, field, used) {
            Ok(value) if value.as_array().is_some_and(Vec::is_empty) => drop(names.remove(field)),
            Ok(value) => drop(names.insert(field.into(), value)),
            Err(why) => refusal = Some((reason, why)),
        }
    }
    set_list(names, "categories", list(wanted, "categories"));
    (granted, refusal)
}

/// One of the names asked for, or a list of them, where nobody else has it.
fn claim(wanted: &Value, had: &Value, field: &str, used: &BTreeSet<String>) -> Result<Value, String> {
    let in_use = |name: &str| format!("\"{name}\" is already in use");
    if field != "shortNames" {
        let name = text(wanted, field);
        let taken = name != text(had, field) && used.contains(name);
        return if taken { Err(in_use(name)) } else { Ok(name.into()) };
    }
    let (names, own) = (list(wanted, field), list(had, field));
    let clashes: Vec<String> = names
        .iter()
        .filter(|name| !own.contains(name) && used.contains(*name))
        .map(|name| in_use(name))
        .collect();
    match clashes.as_slice() {
        [] => Ok(names.into()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn set_list(names: &mut serde_json::Map<String, Value>, field: &str, list: Vec<String>) {
    if list.is_empty() {
        names.remove(field);
    } else {
        names.insert(field.into(), list.into());
    }
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str, now: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

/// Replaces the condition of the same type, and keeps its time where its status stays.
fn put(conditions: &mut Vec<Value>, mut new: Value) {
    let kind = text(&new, "type").to_owned();
    let Some(old) = conditions.iter_mut().find(|old| text(old, "type") == kind) else {
        conditions.push(new);
        return;
    };
    if text(old, "status") == text(&new, "status")
        && let Some(time) = old.get("lastTransitionTime")
    {
        object::object_mut(&mut new).insert("lastTransitionTime".into(), time.clone());
    }
    *old = new;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(name: &str, short: &str, accepted: bool) -> Definition {
        let names = json!({"plural": name, "singular": name, "kind": name.to_uppercase(), "listKind": format!("{name}List"), "shortNames": [short]});
        let status = if accepted {
            json!({"acceptedNames": names})
        } else {
            json!({"acceptedNames": {"kind": "", "plural": ""}})
        };
        let crd = json!({"metadata": {"name": name}, "spec": {"group": "g.example", "names": names}, "status": status});
        Definition { key: Key::new(CRDS, "", name), version: 1, crd }
    }

    #[test]
    fn a_taken_name_keeps_a_definition_waiting() {
        let all = [crd("one", "x", true), crd("two", "x", false)];
        let (definition, settled) = next(&all).unwrap();
        assert_eq!(definition.key.name(), "two");
        let conditions = settled["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions[0]["reason"], "ShortNamesConflict");
        assert_eq!(conditions[0]["message"], "\"x\" is already in use");
        assert_eq!(
            (&conditions[1]["status"], &conditions[1]["reason"]),
            (&json!("False"), &json!("NotAccepted"))
        );
        let waiting = [crd("one", "x", true), Definition { crd: settled.clone(), ..crd("two", "x", false) }];
        assert!(next(&waiting).is_none(), "it waits without being written again");
        let freed = [crd("one", "y", true), Definition { crd: settled, ..crd("two", "x", false) }];
        let (_, granted) = next(&freed).unwrap();
        assert_eq!(granted["status"]["acceptedNames"], granted["spec"]["names"]);
        assert!(crate::registry::is_established(&granted));
        assert_eq!(granted["status"]["conditions"].as_array().unwrap().len(), 2);
    }
}
