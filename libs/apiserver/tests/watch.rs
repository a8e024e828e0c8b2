// SPDX-License-Identifier: Apache-2.0

//! Watches: exactly what happened, once, in order, from any version that is still held.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use common::{Fixture, WIDGETS, start, start_with, widget, widgets};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tower::ServiceExt as _;

type Events = Pin<Box<dyn Stream<Item = Value> + Send>>;

/// The events of a raw watch, as JSON.
async fn watch(fixture: &Fixture, query: &str) -> Events {
    let request = http::Request::get(format!("{WIDGETS}?watch=1&{query}"));
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answer = fixture.server.service().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let frames = answer.into_body().into_data_stream().map_err(std::io::Error::other);
    let reader = tokio_util::io::StreamReader::new(frames);
    let lines = tokio_util::codec::FramedRead::new(reader, tokio_util::codec::LinesCodec::new());
    Box::pin(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
}

async fn next(events: &mut Events) -> Value {
    tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

fn short(event: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn version(fixture: &Fixture) -> u64 {
    let list = fixture.get(WIDGETS).await.json;
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_watch_tells_what_happens_after_its_version() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    api.create(&PostParams::default(), &widget("before", json!({}))).await.unwrap();
    let from = version(&fixture).await;
    let mut events = watch(&fixture, &format!("resourceVersion={from}")).await;
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 8}}))).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let first = next(&mut events).await;
    let (second, third) = (next(&mut events).await, next(&mut events).await);
    assert_eq!(
        [short(&first), short(&second), short(&third)],
        [pair("ADDED", "a"), pair("MODIFIED", "a"), pair("DELETED", "a")]
    );
    let versions: Vec<u64> = [&first, &second, &third]
        .iter()
        .map(|e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(
        from < versions[0] && versions[0] < versions[1] && versions[1] < versions[2],
        "{from} {versions:?}"
    );
    // The same again, afterwards, from the log.
    let mut again = watch(&fixture, &format!("resourceVersion={from}")).await;
    assert_eq!(
        [next(&mut again).await, next(&mut again).await, next(&mut again).await],
        [first, second, third]
    );
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let from = version(&fixture).await;
    let mut events = watch(&fixture, &format!("resourceVersion={from}&labelSelector=on%3Dyes")).await;
    let mut by_field =
        watch(&fixture, &format!("resourceVersion={from}&fieldSelector=spec.colour%3Dred")).await;
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"on": value}}}));
    let created = api.create(&PostParams::default(), &widget("a", json!({"colour": "red"}))).await.unwrap();
    api.patch("a", &PatchParams::default(), &label("yes")).await.unwrap();
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 9}}))).await.unwrap();
    api.patch("a", &PatchParams::default(), &label("no")).await.unwrap();
    let last = api
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"colour": "blue"}})))
        .await
        .unwrap();
    api.patch("a", &PatchParams::default(), &label("yes")).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let kinds: Vec<String> = {
        let mut kinds = Vec::new();
        for _ in 0..5 {
            kinds.push(short(&next(&mut events).await).0);
        }
        kinds
    };
    assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]);
    let first = next(&mut by_field).await;
    assert_eq!(first["object"]["metadata"]["uid"], json!(created.metadata.uid));
    for expected in ["MODIFIED", "MODIFIED", "MODIFIED"] {
        assert_eq!(short(&next(&mut by_field).await).0, expected);
    }
    let left = next(&mut by_field).await;
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["spec"]["colour"], "red", "the state before it left");
    assert_eq!(left["object"]["metadata"]["resourceVersion"], json!(last.metadata.resource_version));
}

#[tokio::test]
async fn initial_events_end_with_their_bookmark() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    // More than one page of initial state.
    for index in 0..600 {
        api.create(&PostParams::default(), &widget(&format!("w{index:03}"), json!({}))).await.unwrap();
    }
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = watch(&fixture, query).await;
    for index in 0..600 {
        assert_eq!(short(&next(&mut events).await), pair("ADDED", &format!("w{index:03}")));
    }
    let end = next(&mut events).await;
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(end["object"]["kind"], "Widget");
    api.delete("w000", &DeleteParams::default()).await.unwrap();
    assert_eq!(short(&next(&mut events).await), pair("DELETED", "w000"));
    let refused = fixture.get(&format!("{WIDGETS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!((refused.code, &refused.json["reason"]), (422, &json!("Invalid")));
}

#[tokio::test]
async fn bookmarks_and_timeouts() {
    let fixture = start_with(|options| options.bookmark_interval = Duration::from_millis(100)).await;
    let from = version(&fixture).await;
    let query = format!("resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=1");
    let events = watch(&fixture, &query).await;
    // A change of another resource moves the bookmark.
    let client = fixture.client();
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(client);
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}})).unwrap();
    let map = maps.create(&PostParams::default(), &map).await.unwrap();
    let all: Vec<Value> =
        tokio::time::timeout(Duration::from_secs(20), events.collect()).await.expect("the stream ends");
    assert!(all.len() > 1 && all.iter().all(|event| event["type"] == "BOOKMARK"), "{all:?}");
    let last = all.last().unwrap()["object"]["metadata"]["resourceVersion"].clone();
    assert_eq!(last, json!(map.metadata.resource_version));
}

#[tokio::test]
async fn versions_that_are_compacted_are_gone() {
    let fixture = start_with(|options| options.log_entries = 32).await;
    let api = widgets(fixture.client());
    let from = version(&fixture).await;
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    for size in 0..200 {
        let patch = Patch::Merge(json!({"spec": {"size": size % 50 + 1}}));
        api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    }
    let mut events = watch(&fixture, &format!("resourceVersion={from}")).await;
    let error = next(&mut events).await;
    assert_eq!(
        (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(events.next().await.is_none(), "the stream ends");
    let exact = fixture.get(&format!("{WIDGETS}?resourceVersion={from}&resourceVersionMatch=Exact")).await;
    assert_eq!((exact.code, &exact.json["reason"]), (410, &json!("Expired")));
    let future = fixture.get(&format!("{WIDGETS}?resourceVersion=99999999")).await;
    assert_eq!((future.code, &future.json["reason"]), (504, &json!("Timeout")));
    // The recent past is there.
    let now = version(&fixture).await;
    let mut recent = watch(&fixture, &format!("resourceVersion={}", now - 3)).await;
    for _ in 0..3 {
        assert_eq!(short(&next(&mut recent).await), pair("MODIFIED", "a"));
    }
}

#[tokio::test]
async fn a_watch_that_nobody_reads_costs_nothing_and_is_told_that_it_is_late() {
    let fixture = start_with(|options| options.log_entries = 32).await;
    let api = widgets(fixture.client());
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let from = version(&fixture).await;
    let mut slow = watch(&fixture, &format!("resourceVersion={from}")).await;
    for size in 0..200 {
        api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": size % 50 + 1}})))
            .await
            .unwrap();
    }
    let told: Vec<Value> = tokio::time::timeout(Duration::from_secs(20), async {
        let mut told = Vec::new();
        while let Some(event) = slow.next().await {
            told.push(event);
        }
        told
    })
    .await
    .expect("the stream ends");
    assert_eq!(told.last().unwrap()["object"]["reason"], "Expired");
}

#[tokio::test]
async fn history_and_versions_survive_a_restart() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let from = version(&fixture).await;
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let before = version(&fixture).await;
    fixture.server.close().await;
    let closed = fixture.get(WIDGETS).await;
    assert_eq!(closed.code, 503);
    let Fixture { server, directory } = fixture;
    drop(server);
    let server =
        apiserver::Server::open(apiserver::Options::new(directory.path().join("api.redb"))).await.unwrap();
    let fixture = Fixture { server, directory };
    assert!(version(&fixture).await >= before);
    let mut events = watch(&fixture, &format!("resourceVersion={from}")).await;
    assert_eq!(short(&next(&mut events).await), pair("ADDED", "a"));
}

/// A random history, seen by watches that begin at every kind of place, is replayed by each into the true state.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watcher_sees_the_same_history() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let from = version(&fixture).await;
    let writers = (0..4).map(|writer| {
        let api = api.clone();
        tokio::spawn(async move {
            for step in 0..100_u32 {
                let name = format!("w{}", rand::random_range(0..10));
                match rand::random_range(0..4) {
                    0 => drop(api.delete(&name, &DeleteParams::default()).await),
                    1 => drop(api.create(&PostParams::default(), &widget(&name, json!({}))).await),
                    _ => {
                        let patch = Patch::Merge(json!({"metadata": {"labels": {"half": (step % 2).to_string()}}, "spec": {"lines": [format!("{writer}-{step}")]}}));
                        drop(api.patch(&name, &PatchParams::default(), &patch).await);
                    }
                }
            }
        })
    });
    let live: Vec<_> = (0..8)
        .map(|index| {
            let api = api.clone();
            let selector = ["", "half=1"][index % 2];
            let config = watcher::Config::default().labels(selector);
            let config = if index < 4 { config } else { config.streaming_lists() };
            (selector, tokio::spawn(replay_until_quiet(api, config)))
        })
        .collect();
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for (selector, task) in live {
        let seen = task.await.unwrap();
        let list = api.list(&ListParams::default().labels(selector)).await.unwrap();
        assert_eq!(seen, state(list.items), "selector {selector:?}");
    }
    // The raw history from the first version: every version once, in order, consistent with the objects' lives.
    let end = version(&fixture).await;
    let mut events = watch(&fixture, &format!("resourceVersion={from}")).await;
    let (mut last, mut alive) = (from, BTreeMap::new());
    while last < end {
        let event = next(&mut events).await;
        let (kind, name) = short(&event);
        let at: u64 = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(at > last, "{at} after {last}");
        last = at;
        let was = alive.contains_key(&name);
        match kind.as_str() {
            "ADDED" => assert!(!was, "{name} added twice"),
            "MODIFIED" | "DELETED" => assert!(was, "{name} {kind} while gone"),
            other => panic!("{other}"),
        }
        if kind == "DELETED" {
            alive.remove(&name)
        } else {
            alive.insert(name, at)
        };
    }
}

fn state(objects: Vec<DynamicObject>) -> BTreeMap<String, String> {
    let entry = |o: DynamicObject| (o.metadata.name.unwrap(), o.metadata.resource_version.unwrap());
    objects.into_iter().map(entry).collect()
}

async fn replay_until_quiet(api: Api<DynamicObject>, config: watcher::Config) -> BTreeMap<String, String> {
    let stream = watcher(api, config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let (mut seen, mut building) = (BTreeMap::new(), BTreeMap::new());
    let entry = |o: DynamicObject| (o.metadata.name.unwrap(), o.metadata.resource_version.unwrap());
    // Quiet for a second means that the writers are done: they never pause.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), stream.next()).await {
        match event.unwrap() {
            watcher::Event::Init => building.clear(),
            watcher::Event::InitApply(object) => {
                drop(building.insert(entry(object.clone()).0, entry(object).1))
            }
            watcher::Event::InitDone => seen = std::mem::take(&mut building),
            watcher::Event::Apply(object) => drop(seen.insert(entry(object.clone()).0, entry(object).1)),
            watcher::Event::Delete(object) => drop(seen.remove(&object.metadata.name.unwrap())),
        }
    }
    seen
}
