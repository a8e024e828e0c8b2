// SPDX-License-Identifier: Apache-2.0
//! `kill -9` under a write load, fifty times. Several writers note what was acknowledged; several watchers reconnect with the
//! last version that they have seen, and must have seen every write once and in order when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::json;
use tests::alone::Alone;
use tests::target::Kind;
use tokio::task::JoinSet;

const KILLS: usize = 50;
const WRITERS: usize = 4;
const WATCHERS: usize = 3;
/// Shortest and longest life of the server after it is ready, in milliseconds.
const LIFE: std::ops::Range<u64> = 10..120;
/// Until everything has been told to everybody at the end.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between tries while the server is away.
const PAUSE: Duration = Duration::from_millis(5);

/// What is shared with the tasks.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The newest version that anybody was told.
    newest: AtomicU64,
}

/// One acknowledged write; a removal has no step, and its answer no version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Acknowledged {
    version: u64,
    name: String,
    uid: String,
    step: Option<String>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    kind: &'static str,
    version: u64,
    name: String,
    uid: String,
    step: String,
}

pub async fn run() -> Result<()> {
    let (mut server, _) = Alone::start(Kind::Embedded, false).await?;
    let first = maps(server.client().await?).list(&ListParams::default()).await?;
    let start = version(&first.metadata.resource_version)?;
    let shared = Arc::new(Shared::default());
    let (mut writers, mut watchers) = (JoinSet::new(), JoinSet::new());
    for number in 0..WRITERS {
        writers.spawn(write(maps(server.client().await?), number, Arc::clone(&shared)));
    }
    for _ in 0..WATCHERS {
        watchers.spawn(watch(maps(server.client().await?), start, Arc::clone(&shared)));
    }
    let began = Instant::now();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rand::random_range(LIFE))).await;
        let before = shared.newest.load(Ordering::SeqCst);
        server.restart(Signal::KILL).await?;
        let list = maps(server.client().await?).list(&ListParams::default()).await?;
        let after = version(&list.metadata.resource_version)?;
        ensure!(after >= before, "the version went back from {before} to {after}");
    }
    let took = began.elapsed();
    shared.stop.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    while let Some(done) = writers.join_next().await {
        acknowledged.extend(done??);
    }
    // Written when nobody else does any more: the watchers end with it.
    let api = maps(server.client().await?);
    let last = api.create(&PostParams::default(), &map("the-last", "end")).await?;
    let end = version(&last.metadata.resource_version)?;
    let list = api.list(&ListParams::default()).await?;
    let mut all = Vec::new();
    while let Some(done) = tokio::time::timeout(DEADLINE, watchers.join_next()).await? {
        all.push(done??);
    }
    let heard = all.first().context("a watcher")?;
    for other in &all {
        ensure!(other.last().map(|event| event.version) == Some(end), "a watcher has not heard the last");
        ensure!(other == heard, "two watchers heard different things");
    }
    check_events(heard, &list.items)?;
    check_acknowledged(heard, &acknowledged)?;
    println!(
        "  {KILLS} kills in {:.1} s, {} writes acknowledged, {} events at each of {WATCHERS} watchers",
        took.as_secs_f64(),
        acknowledged.len(),
        heard.len()
    );
    ensure!(acknowledged.len() > KILLS * WRITERS, "hardly anything was written: {}", acknowledged.len());
    Ok(())
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, "default")
}

fn map(name: &str, step: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some([("step".to_owned(), step.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn version(text: &Option<String>) -> Result<u64> {
    Ok(text.as_deref().context("a version")?.parse()?)
}

fn step_of(map: &ConfigMap) -> String {
    map.data.as_ref().and_then(|data| data.get("step")).cloned().unwrap_or_default()
}

/// Creates, changes and removes objects of its own, and notes what the server acknowledged.
async fn write(api: Api<ConfigMap>, number: usize, shared: Arc<Shared>) -> Result<Vec<Acknowledged>> {
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    let note = |object: &ConfigMap, step: &str| -> Result<Acknowledged> {
        let version = version(&object.metadata.resource_version)?;
        shared.newest.fetch_max(version, Ordering::SeqCst);
        let (name, uid) = (object.metadata.name.clone(), object.metadata.uid.clone());
        let (name, uid) = (name.context("a name")?, uid.context("a UID")?);
        Ok(Acknowledged { version, name, uid, step: Some(step.to_owned()) })
    };
    for round in 0.. {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("w{number}-{round}");
        match api.create(&PostParams::default(), &map(&name, "0")).await {
            Ok(object) => acknowledged.push(note(&object, "0")?),
            Err(error) => {
                away(&error).await?;
                continue;
            }
        }
        for step in ["1", "2"] {
            let patch = Patch::Merge(json!({"data": {"step": step}}));
            match api.patch(&name, &PatchParams::default(), &patch).await {
                Ok(object) => acknowledged.push(note(&object, step)?),
                Err(error) => away(&error).await?,
            }
        }
        if round % 3 == 0 {
            match api.delete(&name, &DeleteParams::default()).await {
                // The answer to a removal has no version; that it stays removed is checked by the name.
                Ok(_) => acknowledged_removal(&mut acknowledged, &name),
                Err(error) => away(&error).await?,
            }
        }
    }
    Ok(acknowledged)
}

/// The server went away in the middle: whether the write was made is not known. Any other refusal is an error.
async fn away(error: &kube::Error) -> Result<()> {
    match error {
        // Its connection ended, or another request of this writer was made before the answer was lost.
        kube::Error::Api(status) if !matches!(status.code, 404 | 409 | 500..=599) => {
            bail!("refused: {status:?}")
        }
        _ => {
            tokio::time::sleep(PAUSE).await;
            Ok(())
        }
    }
}

fn acknowledged_removal(acknowledged: &mut Vec<Acknowledged>, name: &str) {
    let uid = acknowledged.iter().rev().find(|one| one.name == name).map(|one| one.uid.clone());
    let removal =
        Acknowledged { version: 0, name: name.to_owned(), uid: uid.unwrap_or_default(), step: None };
    acknowledged.push(removal);
}

/// Watches from a version on, and goes on from the last one seen whenever the server goes away, until the last object is made.
async fn watch(api: Api<ConfigMap>, start: u64, shared: Arc<Shared>) -> Result<Vec<Heard>> {
    let (mut heard, mut position): (Vec<Heard>, u64) = (Vec::new(), start);
    loop {
        let Ok(events) = api.watch(&WatchParams::default(), &position.to_string()).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut events = std::pin::pin!(events);
        while let Ok(Some(event)) = events.try_next().await {
            let (kind, object) = match event {
                WatchEvent::Added(object) => ("ADDED", object),
                WatchEvent::Modified(object) => ("MODIFIED", object),
                WatchEvent::Deleted(object) => ("DELETED", object),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) => bail!("a watch after {position} ends with {status:?}"),
            };
            let version = version(&object.metadata.resource_version)?;
            ensure!(version > position, "{version} after {position}: doubled or out of order");
            position = version;
            shared.newest.fetch_max(version, Ordering::SeqCst);
            let name = object.metadata.name.clone().context("a name")?;
            let uid = object.metadata.uid.clone().context("a UID")?;
            let done = name == "the-last";
            heard.push(Heard { kind, version, name, uid, step: step_of(&object) });
            if done {
                return Ok(heard);
            }
        }
    }
}

/// The events make sense one after the other, and their sum is what is there.
fn check_events(heard: &[Heard], found: &[ConfigMap]) -> Result<()> {
    let mut there: BTreeMap<&str, &Heard> = BTreeMap::new();
    let mut uids = BTreeSet::new();
    for event in heard {
        let before = there.get(event.name.as_str());
        match (event.kind, before) {
            ("ADDED", None) => ensure!(uids.insert(&event.uid), "{event:?}: a UID is used again"),
            ("MODIFIED", Some(before)) => {
                ensure!(before.uid == event.uid, "{event:?}: another UID than {before:?}");
                ensure!(before.step < event.step, "{event:?} after {before:?}");
            }
            ("DELETED", Some(before)) => ensure!(before.uid == event.uid, "{event:?} after {before:?}"),
            _ => bail!("{event:?} after {before:?}"),
        }
        if event.kind == "DELETED" {
            there.remove(event.name.as_str());
        } else {
            there.insert(&event.name, event);
        }
    }
    let mut left = there.len();
    for object in found.iter().filter(|object| !step_of(object).is_empty()) {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let event = there.get(name).with_context(|| format!("{name} is there and was never told"))?;
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        ensure!((&*event.uid, &event.step) == (uid, &step_of(object)), "{name} differs from {event:?}");
        ensure!(
            event.version == version(&object.metadata.resource_version)?,
            "{name} differs from {event:?}"
        );
        left -= 1;
    }
    ensure!(left == 0, "{left} objects that were told are not there");
    Ok(())
}

/// Every acknowledged write was told, as it was acknowledged.
fn check_acknowledged(heard: &[Heard], acknowledged: &[Acknowledged]) -> Result<()> {
    let by_version: BTreeMap<u64, &Heard> = heard.iter().map(|event| (event.version, event)).collect();
    ensure!(by_version.len() == heard.len(), "two events of one version");
    for write in acknowledged {
        let Some(step) = &write.step else {
            let removed =
                heard.iter().any(|e| e.kind == "DELETED" && e.name == write.name && e.uid == write.uid);
            ensure!(removed, "the removal of {} is lost", write.name);
            continue;
        };
        let event = by_version.get(&write.version).with_context(|| format!("{write:?} is lost"))?;
        ensure!(
            (&event.name, &event.uid, &event.step) == (&write.name, &write.uid, step),
            "{write:?} was told as {event:?}"
        );
    }
    Ok(())
}
