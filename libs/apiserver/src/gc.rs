// SPDX-License-Identifier: Apache-2.0

//! The garbage collector: dependents of removed owners, foreground and orphaning removals, contents of removed namespaces and CRDs, old Events, old snapshots;
//! and the service account that every namespace has.
//!
//! One task. It keeps an index from owner UID to dependents, fed by the change log, and a set of things to look at. Looking reads the store as it is now
//! (what woke it is not used to decide) and makes at most a few writes through the same handlers as everybody else; what fails is looked at again.

mod remaining;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::CRD_FINALIZER;
use crate::handlers::{self, Call, FOREGROUND, ORPHAN, Preconditions, Propagation};
use crate::inner::{CRDS, Inner};
use crate::object::{self, OwnerReference};
use crate::registry::Served;
use crate::request::Address;
use crate::status::ApiError;
use crate::store::{ChangeKind, Key, LogEntry, Prefix};

/// How often failed work is repeated and old things are let go.
const TICK: Duration = Duration::from_secs(1);
/// How often Events are checked for their age, in ticks.
const EVENTS_EVERY: u32 = 60;
/// Log entries read at once.
const CHUNK: usize = 512;
/// Objects removed per look at a namespace or CRD, so that one large removal does not starve the others.
const REMOVALS: usize = 256;

const NAMESPACES: &str = "/namespaces";
const EVENTS: &str = "/events";
const ACCOUNTS: &str = "/serviceaccounts";
/// The service account that every namespace has.
const DEFAULT_ACCOUNT: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// An object with owners: do they still exist?
    Dependent(Key),
    /// An object that waits for its dependents, or to let them go.
    Owner(Key),
    Namespace(String),
    Crd(String),
    /// A namespace that should have its service account.
    Account(String),
}

#[derive(Default)]
struct Index {
    dependents: HashMap<String, HashSet<Key>>,
    owners: HashMap<Key, Vec<OwnerReference>>,
    /// Stays until done: a namespace that empties, an owner that waits are looked at again after every commit.
    work: BTreeSet<Work>,
}

/// Runs until shutdown.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut head = inner.store.head();
    let mut index = Index::default();
    let mut position = None;
    let mut ticks = 0_u32;
    loop {
        head.borrow_and_update();
        position = match advance(&inner, &mut index, position) {
            Ok(position) => position,
            Err(error) => {
                tracing::error!(error = %error.body(), "garbage collector cannot read the store");
                None
            }
        };
        let failed = work(&inner, &mut index).await;
        let idle = index.work.is_empty() || failed;
        if !idle {
            continue;
        }
        tokio::select! {
            () = inner.shutdown.cancelled() => return,
            changed = head.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK) => {
                ticks = ticks.wrapping_add(1);
                inner.snapshots.expire(inner.options.log_age);
                if ticks % EVENTS_EVERY == 1 {
                    expire_events(&inner).await;
                }
            }
        }
    }
}

/// Feeds the index from the log, or from everything when the log does not reach back.
fn advance(inner: &Inner, index: &mut Index, position: Option<u64>) -> Result<Option<u64>, ApiError> {
    let mut position = match position {
        Some(position) => position,
        None => rebuild(inner, index)?,
    };
    loop {
        match inner.store.changes(position, CHUNK)? {
            Err(_compacted) => position = rebuild(inner, index)?,
            Ok(entries) if entries.is_empty() => return Ok(Some(position)),
            Ok(entries) => {
                for entry in entries {
                    position = entry.version;
                    index.note(&entry);
                }
            }
        }
    }
}

fn rebuild(inner: &Inner, index: &mut Index) -> Result<u64, ApiError> {
    *index = Index::default();
    let snapshot = inner.store.snapshot()?;
    snapshot.scan(&Prefix::everything(), None, |stored| {
        if let Ok(Named { metadata }) = serde_json::from_slice(&stored.bytes) {
            index.present(&stored.key, &metadata);
        }
        ControlFlow::Continue(())
    })?;
    Ok(snapshot.version())
}

/// The part of an object that the index is made of; the rest is passed over.
#[derive(Deserialize)]
struct Named {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<String>,
    #[serde(default)]
    finalizers: Vec<String>,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

impl Index {
    fn note(&mut self, entry: &LogEntry) {
        let Ok(Named { metadata }) = serde_json::from_slice(&entry.object) else { return };
        match entry.kind {
            ChangeKind::Added | ChangeKind::Modified => self.present(&entry.key, &metadata),
            ChangeKind::Deleted => self.absent(&entry.key, &metadata.uid),
        }
    }

    fn present(&mut self, key: &Key, metadata: &Metadata) {
        // Kubernetes' collector leaves Events alone, too: their age ends them.
        if key.resource() == EVENTS {
            return;
        }
        let owners = &metadata.owner_references;
        if self.owners.get(key).map_or(&[][..], Vec::as_slice) != owners.as_slice() {
            self.forget(key);
            for owner in owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(key.clone());
            }
            if !owners.is_empty() {
                self.owners.insert(key.clone(), owners.clone());
                self.work.insert(Work::Dependent(key.clone()));
            }
        }
        if metadata.deletion_timestamp.is_none() {
            if key.resource() == NAMESPACES {
                self.work.insert(Work::Account(key.name().into()));
            }
            return;
        }
        if metadata.finalizers.iter().any(|f| f == FOREGROUND || f == ORPHAN) {
            self.work.insert(Work::Owner(key.clone()));
        }
        if key.resource() == NAMESPACES {
            self.work.insert(Work::Namespace(key.name().into()));
        }
        if key.resource() == CRDS {
            self.work.insert(Work::Crd(key.name().into()));
        }
    }

    fn absent(&mut self, key: &Key, uid: &str) {
        self.forget(key);
        if key.resource() == ACCOUNTS && key.name() == DEFAULT_ACCOUNT {
            self.work.insert(Work::Account(key.namespace().into()));
        }
        let dependents = self.dependents.get(uid).into_iter().flatten();
        self.work.extend(dependents.cloned().map(Work::Dependent));
    }

    fn forget(&mut self, key: &Key) {
        for owner in self.owners.remove(key).unwrap_or_default() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

/// `plural.group` of a CRD to `group/plural` of its instances.
fn instances_of(crd: &str) -> String {
    let (plural, group) = crd.split_once('.').unwrap_or((crd, ""));
    format!("{group}/{plural}")
}

/// Looks at everything once; true when something failed or has to wait.
async fn work(inner: &Inner, index: &mut Index) -> bool {
    let mut failed = false;
    let batch: Vec<Work> = index.work.iter().cloned().collect();
    for item in batch {
        let done = match &item {
            Work::Dependent(key) => dependent(inner, index, key).await,
            Work::Owner(key) => owner(inner, index, key).await,
            Work::Namespace(name) => namespace(inner, name).await,
            Work::Crd(name) => crd(inner, name).await,
            Work::Account(namespace) => default_account(inner, namespace).await,
        };
        match done {
            Ok(true) => {
                index.work.remove(&item);
            }
            Ok(false) => failed = true,
            Err(error) => {
                tracing::warn!(error = %error.body(), ?item, "garbage collection step failed; it is repeated");
                failed = true;
            }
        }
    }
    failed
}

/// Gives a namespace that stays the service account that Kubernetes gives every namespace.
async fn default_account(inner: &Inner, namespace: &str) -> Result<bool, ApiError> {
    let key = Key::new(ACCOUNTS, namespace, DEFAULT_ACCOUNT);
    let stays = read(inner, &Key::new(NAMESPACES, "", namespace))?.is_some_and(|n| !object::is_deleting(&n));
    if !stays || read(inner, &key)?.is_some() {
        return Ok(true);
    }
    let Some(served) = served(inner, &key) else { return Ok(true) };
    let address = Address { name: None, ..address(&key) };
    let call = Call::internal(served, &address);
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": DEFAULT_ACCOUNT, "namespace": namespace},
    });
    match handlers::create_object(inner, &call, account).await {
        // Somebody else made it, or the namespace goes.
        Err(error) if !matches!(error.code().as_u16(), 403 | 404 | 409) => Err(error),
        _ => Ok(true),
    }
}

fn read(inner: &Inner, key: &Key) -> Result<Option<Value>, ApiError> {
    let Some(stored) = inner.store.snapshot()?.get(key)? else { return Ok(None) };
    serde_json::from_slice(&stored.bytes).map(Some).map_err(ApiError::internal)
}

fn served(inner: &Inner, key: &Key) -> Option<Served> {
    inner.registry.catalogue().by_storage(key.resource())
}

fn address(key: &Key) -> Address {
    Address {
        namespace: (!key.namespace().is_empty()).then(|| key.namespace().to_owned()),
        name: Some(key.name().to_owned()),
        ..Address::default()
    }
}

async fn delete(
    inner: &Inner,
    key: &Key,
    uid: &str,
    propagation: Option<Propagation>,
) -> Result<(), ApiError> {
    let Some(served) = served(inner, key) else { return Ok(()) };
    let address = address(key);
    let call = Call::internal(served, &address);
    let preconditions = Preconditions { uid: Some(uid.to_owned()), version: None };
    match handlers::remove(inner, &call, key.name(), propagation, &preconditions).await {
        Err(error) if !matches!(error.code().as_u16(), 404 | 409) => Err(error),
        _ => Ok(()),
    }
}

async fn change(inner: &Inner, key: &Key, edit: impl Fn(&mut Value) + Sync) -> Result<(), ApiError> {
    change_at(inner, key, address(key), edit).await
}

async fn change_status(inner: &Inner, key: &Key, edit: impl Fn(&mut Value) + Sync) -> Result<(), ApiError> {
    change_at(inner, key, Address { subresource: Some("status".into()), ..address(key) }, edit).await
}

async fn change_at(
    inner: &Inner,
    key: &Key,
    address: Address,
    edit: impl Fn(&mut Value) + Sync,
) -> Result<(), ApiError> {
    let Some(served) = served(inner, key) else { return Ok(()) };
    let call = Call::internal(served, &address);
    let changed = handlers::modify(inner, &call, |live| {
        let mut new = live.clone();
        edit(&mut new);
        Ok(handlers::Successor::Updated(new))
    });
    match changed.await {
        Err(error) if error.code().as_u16() != 404 => Err(error),
        _ => Ok(()),
    }
}

/// What an owner reference points to.
enum Owner {
    Solid,
    /// It is going and waits for its dependents.
    Waiting,
    Gone,
    /// Its kind is not served here, or out of reach: nothing can be said.
    Unknown,
}

fn resolve(inner: &Inner, dependent: &Key, owner: &OwnerReference) -> Result<Owner, ApiError> {
    let catalogue = inner.registry.catalogue();
    let Some(resource) = catalogue.by_kind(owner.group(), &owner.kind) else { return Ok(Owner::Unknown) };
    if resource.namespaced && dependent.namespace().is_empty() {
        return Ok(Owner::Unknown);
    }
    let namespace = if resource.namespaced { dependent.namespace() } else { "" };
    Ok(match read(inner, &resource.key(namespace, &owner.name))? {
        Some(found) if object::uid(&found) == owner.uid => {
            let waits = object::is_deleting(&found) && object::finalizers(&found).contains(&FOREGROUND);
            if waits { Owner::Waiting } else { Owner::Solid }
        }
        _ => Owner::Gone,
    })
}

async fn dependent(inner: &Inner, index: &Index, key: &Key) -> Result<bool, ApiError> {
    let Some(value) = read(inner, key)? else { return Ok(true) };
    if object::is_deleting(&value) && !object::finalizers(&value).contains(&FOREGROUND) {
        return Ok(true);
    }
    let (mut solid, mut waiting, mut gone) = (false, false, Vec::new());
    for owner in object::owner_references(&value) {
        match resolve(inner, key, &owner)? {
            Owner::Solid | Owner::Unknown => solid = true,
            Owner::Waiting => waiting = true,
            Owner::Gone => gone.push(owner.uid),
        }
    }
    let uid = object::uid(&value);
    match (solid, waiting, gone.is_empty()) {
        (true, _, true) | (false, false, true) => {}
        (true, _, false) => change(inner, key, |value| drop_owners(value, &gone)).await?,
        (false, true, _) => {
            // Its own dependents go first, too.
            let has_dependents = index.dependents.contains_key(uid);
            let propagation = has_dependents.then_some(Propagation::Foreground);
            delete(inner, key, uid, propagation).await?;
        }
        (false, false, false) => delete(inner, key, uid, None).await?,
    }
    Ok(true)
}

fn drop_owners(value: &mut Value, uids: &[String]) {
    let metadata = object::metadata_mut(value);
    let Some(list) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) else { return };
    list.retain(|owner| !uids.iter().any(|uid| owner.get("uid").and_then(Value::as_str) == Some(uid)));
    if list.is_empty() {
        metadata.remove("ownerReferences");
    }
}

fn drop_finalizer(value: &mut Value, finalizer: &str) {
    let metadata = object::metadata_mut(value);
    let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) else { return };
    list.retain(|f| f != finalizer);
    if list.is_empty() {
        metadata.remove("finalizers");
    }
}

async fn owner(inner: &Inner, index: &Index, key: &Key) -> Result<bool, ApiError> {
    let Some(value) = read(inner, key)? else { return Ok(true) };
    let uid = object::uid(&value).to_owned();
    let dependents: Vec<Key> = index.dependents.get(&uid).into_iter().flatten().cloned().collect();
    let finalizers = object::finalizers(&value);
    if finalizers.contains(&ORPHAN) {
        for dependent in &dependents {
            change(inner, dependent, |value| drop_owners(value, std::slice::from_ref(&uid))).await?;
        }
        change(inner, key, |value| drop_finalizer(value, ORPHAN)).await?;
    } else if finalizers.contains(&FOREGROUND) {
        let mut blocked = false;
        for dependent_key in &dependents {
            let Some(dependent_value) = read(inner, dependent_key)? else { continue };
            let references = object::owner_references(&dependent_value);
            blocked |= references.iter().any(|r| r.uid == uid && r.block_owner_deletion == Some(true));
            dependent(inner, index, dependent_key).await?;
        }
        if blocked {
            return Ok(false);
        }
        change(inner, key, |value| drop_finalizer(value, FOREGROUND)).await?;
    }
    Ok(true)
}

/// Removes what is under a prefix; true when nothing is left there.
async fn empty(inner: &Inner, prefix: &Prefix) -> Result<bool, ApiError> {
    let mut found = Vec::new();
    let snapshot = inner.store.snapshot()?;
    snapshot.scan(prefix, None, |stored| {
        found.push(stored);
        if found.len() < REMOVALS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    drop(snapshot);
    for stored in &found {
        let value: Value = serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)?;
        if !object::is_deleting(&value) {
            delete(inner, &stored.key, object::uid(&value), None).await?;
        }
    }
    Ok(found.is_empty())
}

async fn namespace(inner: &Inner, name: &str) -> Result<bool, ApiError> {
    let key = Key::new(NAMESPACES, "", name);
    match read(inner, &key)? {
        Some(value) if object::is_deleting(&value) => {}
        _ => return Ok(true),
    }
    let catalogue = inner.registry.catalogue();
    let mut all_empty = true;
    for resource in catalogue.resources().iter().filter(|r| r.namespaced) {
        all_empty &= empty(inner, &resource.prefix(Some(name))).await?;
    }
    if !all_empty {
        let remaining = remaining::look(inner, name)?;
        change_status(inner, &key, |namespace| remaining.tell(namespace)).await?;
        return Ok(false);
    }
    let Some(served) = served(inner, &key) else { return Ok(true) };
    let address = Address { subresource: Some("finalize".into()), ..address(&key) };
    let call = Call::internal(served, &address);
    let changed = handlers::modify(inner, &call, |live| {
        let mut new = live.clone();
        object::object_mut(object::entry(&mut new, "spec"))
            .insert("finalizers".into(), Value::Array(Vec::new()));
        Ok(handlers::Successor::Updated(new))
    });
    match changed.await {
        Err(error) if error.code().as_u16() != 404 => Err(error),
        _ => Ok(true),
    }
}

async fn crd(inner: &Inner, name: &str) -> Result<bool, ApiError> {
    let key = Key::new(CRDS, "", name);
    match read(inner, &key)? {
        Some(value) if object::is_deleting(&value) => {}
        _ => return Ok(true),
    }
    if !empty(inner, &Prefix::new(&instances_of(name), None)).await? {
        change_status(inner, &key, remaining::tell_definition).await?;
        return Ok(false);
    }
    change(inner, &key, |value| drop_finalizer(value, CRD_FINALIZER)).await?;
    Ok(true)
}

/// Removes Events beyond their age and count, oldest first.
async fn expire_events(inner: &Inner) {
    let mut found: Vec<(i64, Key, String)> = Vec::new();
    let scanned = inner.store.snapshot().and_then(|snapshot| {
        snapshot.scan(&Prefix::new(EVENTS, None), None, |stored| {
            if let Ok(value) = serde_json::from_slice::<Value>(&stored.bytes) {
                found.push((last_seen(&value), stored.key, object::uid(&value).to_owned()));
            }
            ControlFlow::Continue(())
        })
    });
    if let Err(error) = scanned {
        tracing::warn!(%error, "cannot read Events to expire them");
        return;
    }
    found.sort();
    let horizon = jiff::Timestamp::now().as_second()
        - i64::try_from(inner.options.event_age.as_secs()).unwrap_or(i64::MAX);
    let too_many = found.len().saturating_sub(inner.options.event_count);
    for (index, (seen, key, uid)) in found.iter().enumerate() {
        if (index < too_many || *seen < horizon)
            && let Err(error) = delete(inner, key, uid, None).await
        {
            tracing::warn!(error = %error.body(), "cannot remove an old Event");
        }
    }
}

fn last_seen(event: &Value) -> i64 {
    let time = |path: &[&str]| {
        let text = object::at(event, path).and_then(Value::as_str)?;
        text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
    };
    let times = [
        time(&["lastTimestamp"]),
        time(&["series", "lastObservedTime"]),
        time(&["eventTime"]),
        time(&["metadata", "creationTimestamp"]),
    ];
    times.into_iter().flatten().max().unwrap_or(i64::MAX)
}
