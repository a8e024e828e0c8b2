// SPDX-License-Identifier: Apache-2.0

//! What keeps a namespace or a definition from going, told in its status in Kubernetes' words.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::Named;
use crate::inner::Inner;
use crate::object;
use crate::status::ApiError;

/// Objects whose finalizers are looked at in one look: what they hold the namespace for is seen from these, and the looks go on until it is empty.
const LOOKED_AT: usize = 4096;

/// What is left in a namespace.
pub(super) struct Remaining {
    /// Objects of each resource, by its full name.
    objects: BTreeMap<String, usize>,
    /// Objects that each finalizer holds.
    finalizers: BTreeMap<String, usize>,
}

/// Counts what is left in a namespace; finalizers among the first [`LOOKED_AT`] objects.
pub(super) fn look(inner: &Inner, namespace: &str) -> Result<Remaining, ApiError> {
    let mut found = Remaining { objects: BTreeMap::new(), finalizers: BTreeMap::new() };
    let catalogue = inner.registry.catalogue();
    let snapshot = inner.store.snapshot()?;
    let mut looked = 0;
    for resource in catalogue.resources().iter().filter(|resource| resource.namespaced) {
        let prefix = resource.prefix(Some(namespace));
        let count = snapshot.count(&prefix, None)?;
        if count > 0 {
            found.objects.insert(format!("{}.{}", resource.plural, resource.group), count);
        }
        snapshot.scan(&prefix, None, |stored| {
            if looked == LOOKED_AT {
                return ControlFlow::Break(());
            }
            looked += 1;
            if let Ok(Named { metadata }) = serde_json::from_slice(&stored.bytes) {
                for finalizer in metadata.finalizers {
                    *found.finalizers.entry(finalizer).or_default() += 1;
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

impl Remaining {
    /// Writes the conditions of a namespace that goes.
    pub fn tell(&self, namespace: &mut Value) {
        let list = |counts: &BTreeMap<String, usize>, has: &str| {
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {has} {count} resource instances"))
                .collect();
            parts.join(", ")
        };
        let content = match self.objects.is_empty() {
            true => (false, "ContentRemoved", "All content successfully removed".to_owned()),
            false => {
                let what = list(&self.objects, "has");
                (true, "SomeResourcesRemain", format!("Some resources are remaining: {what}"))
            }
        };
        let finalizers = match self.finalizers.is_empty() {
            true => {
                (false, "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
            }
            false => {
                let what = list(&self.finalizers, "in");
                let message = format!("Some content in the namespace has finalizers remaining: {what}");
                (true, "SomeFinalizersRemain", message)
            }
        };
        let well = |reason, message: &str| (false, reason, message.to_owned());
        for (kind, said) in [
            (
                "NamespaceDeletionDiscoveryFailure",
                well("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                well("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            (
                "NamespaceDeletionContentFailure",
                well("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
            ("NamespaceContentRemaining", content),
            ("NamespaceFinalizersRemaining", finalizers),
        ] {
            put(namespace, kind, said);
        }
    }
}

/// Writes the condition of a definition whose objects go.
pub(super) fn tell_definition(crd: &mut Value) {
    let said = (true, "InstanceDeletionInProgress", "CustomResource deletion is in progress".to_owned());
    put(crd, "Terminating", said);
}

/// Sets a condition; its time changes with its status only.
fn put(value: &mut Value, kind: &str, (holds, reason, message): (bool, &str, String)) {
    let status = if holds { "True" } else { "False" };
    let conditions = object::entry(object::entry(value, "status"), "conditions");
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let found = conditions.iter().position(|condition| condition["type"] == kind);
    let before = found.and_then(|index| conditions.get(index));
    let since =
        before.filter(|before| before["status"] == status).map(|before| before["lastTransitionTime"].clone());
    let condition = json!({
        "type": kind,
        "status": status,
        "lastTransitionTime": since.unwrap_or_else(|| object::timestamp().into()),
        "reason": reason,
        "message": message,
    });
    match found.and_then(|index| conditions.get_mut(index)) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}
