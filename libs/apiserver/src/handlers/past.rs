// SPDX-License-Identifier: Apache-2.0

//! What a collection was at an earlier version: the objects of now, but for those that changed since, which the change log tells of.
//!
//! Called by lists that name their version. The log is bounded, and so is what is held here of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::object;
use crate::store::{ChangeKind, Key, Prefix, ReadError, Store, Stored};

/// Log entries read at once.
const CHUNK: usize = 512;

/// Objects that are different now from what they were, or that were not there.
pub(super) type Past = BTreeMap<Key, Option<Stored>>;

/// How the objects under `prefix` were at `version`, where they are not what they are at `now`; `None` when the log does not go back so far.
pub(super) fn of(store: &Store, prefix: &Prefix, version: u64, now: u64) -> Result<Option<Past>, ReadError> {
    let Some((mut past, unknown)) = changed(store, prefix, version, now)? else { return Ok(None) };
    let Some(earlier) = before(store, &unknown, version)? else { return Ok(None) };
    if unknown.iter().any(|key| !earlier.contains_key(key)) {
        return Ok(None);
    }
    past.extend(earlier);
    Ok(Some(past))
}

/// What changed after `version`, as it was before; and the keys of what the changes do not tell of.
fn changed(
    store: &Store,
    prefix: &Prefix,
    version: u64,
    now: u64,
) -> Result<Option<(Past, BTreeSet<Key>)>, ReadError> {
    let (mut past, mut unknown, mut at) = (Past::new(), BTreeSet::new(), version);
    while at < now {
        let Ok(entries) = store.changes(at, CHUNK)? else { return Ok(None) };
        let Some(last) = entries.last().map(|entry| entry.version) else { break };
        for entry in entries.iter().filter(|entry| entry.version <= now && prefix.contains(&entry.key)) {
            let key = &entry.key;
            // The first change is the one that tells what was before.
            if past.contains_key(key) || unknown.contains(key) {
                continue;
            }
            match (entry.kind, &entry.previous) {
                (ChangeKind::Added, _) => drop(past.insert(key.clone(), None)),
                (_, Some(bytes)) => {
                    // Its own version tells which definition it was stored under.
                    let own = object::version_of(bytes).unwrap_or(version);
                    let stored = Stored { key: key.clone(), version: own, bytes: bytes.clone() };
                    past.insert(key.clone(), Some(stored));
                }
                (_, None) => drop(unknown.insert(key.clone())),
            }
        }
        at = last;
    }
    Ok(Some((past, unknown)))
}

/// The last changes of objects up to `version`.
fn before(store: &Store, keys: &BTreeSet<Key>, version: u64) -> Result<Option<Past>, ReadError> {
    let mut past = Past::new();
    if keys.is_empty() {
        return Ok(Some(past));
    }
    let mut at = match store.changes(0, 1)? {
        Ok(_) => 0,
        Err(compacted) => compacted.oldest,
    };
    while at < version {
        let Ok(entries) = store.changes(at, CHUNK)? else { return Ok(None) };
        let Some(last) = entries.last().map(|entry| entry.version) else { break };
        for entry in entries.iter().filter(|entry| entry.version <= version && keys.contains(&entry.key)) {
            let stored =
                Stored { key: entry.key.clone(), version: entry.version, bytes: entry.object.clone() };
            past.insert(entry.key.clone(), Some(stored));
        }
        at = last;
    }
    Ok(Some(past))
}
