// SPDX-License-Identifier: Apache-2.0
//! What is known to differ, by its kind. The table may only become shorter: a kind that no longer occurs in the fixed sequences fails until it is taken out,
//! and so does any kind that is not here.

use super::difference::Report;

/// The kind of a difference as the report names it, and why it is there.
type Known = (&'static str, &'static str);

const SCALE: &str = "an owner of the replicas that a scale made stays longer than at Kubernetes";

const KNOWN: &[Known] = &[
    ("settle: /metadata/managedFields/*", SCALE),
    ("settle: /metadata/managedFields/*/fieldsV1/f:spec", SCALE),
    ("settle: /metadata/managedFields/*/fieldsV1/f:status", SCALE),
    ("settle: /metadata/managedFields/*/subresource", SCALE),
    ("settle: /metadata/managedFields/*/time", SCALE),
    ("get: /body/metadata/managedFields/*", SCALE),
    ("list: /body/items/*/metadata/managedFields/*", SCALE),
    (
        "merge patch status: /body/metadata/managedFields/*/fieldsV1/f:spec /body/metadata/managedFields/*/fieldsV1/f:status /body/metadata/managedFields/*/subresource",
        SCALE,
    ),
    (
        "merge patch status: /body/metadata/managedFields",
        "Kubernetes forgets all owners when an update does not fit the schema where that is not looked at",
    ),
    (
        "merge patch: /body/metadata/managedFields/*/fieldsV1/f:status",
        "the owner of a status loses at Kubernetes what an update of the rest would change in it",
    ),
    ("apply status: /body/metadata/managedFields/*/time", "whether an apply of a status changed anything"),
    (
        "replace: /body/metadata/managedFields/*/fieldsV1/f:metadata /body/metadata/deletionTimestamp",
        "a PUT that creates keeps its deletionTimestamp at Kubernetes",
    ),
    ("strategic patch: /warnings/*", "an unknown field of a strategic patch with a directive in it"),
    ("strategic patch: /body/imagePullSecrets/*/name", "an empty name of a reference is left out"),
    (
        "merge patch: /body/details/causes/*",
        "an Event as the owner is refused once, at Kubernetes three times",
    ),
    (
        "merge patch: /body/details/causes/*/field /body/details/causes/*/message /body/details/causes/* (Invalid value: \"\": missing field `lastObservedTime` | Invalid value: \"\": should be at least )",
        "a series of an Event without a time does not decode",
    ),
    (
        "odd identity: /body/details/causes/*/message /body/message (Invalid value: \"\": no such key: mode evaluating rule: only fast widgets are large | Invalid value: \"\": no such key: size evaluating rule: only fast widgets are large)",
        "which of two errors in a rule is told",
    ),
];

/// What is left to complain of; with `all`, a known kind that did not occur, too.
pub fn judged(report: &mut Report, all: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (kind, why) in KNOWN {
        match report.remove(kind) {
            Some(group) => println!("differs (known), {} times: {kind}: {why}", group.count),
            None if all => wrong.push(format!("no longer differs, take it out of the table: {kind}")),
            None => {}
        }
    }
    wrong
}
