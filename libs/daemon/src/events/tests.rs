// SPDX-License-Identifier: Apache-2.0

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::Value;
use tower::service_fn;

use super::*;

/// An API server that knows only Events: create, get, merge patch with the resourceVersion check.
#[derive(Default)]
struct Store {
    events: BTreeMap<String, Value>,
    version: u64,
    conflicts_to_come: u32,
    calls: u32,
}

impl Store {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        self.calls += 1;
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap().to_owned();
        if method == Method::POST {
            assert_eq!(path, "/api/v1/namespaces/tinkerbell/events");
            let name = body["metadata"]["name"].as_str().unwrap().to_owned();
            if self.events.contains_key(&name) {
                return refused(409, "AlreadyExists");
            }
            return (StatusCode::CREATED, self.put(name, body));
        }
        let Some(mut event) = self.events.get(&name).cloned() else { return refused(404, "NotFound") };
        if method == Method::GET {
            return (StatusCode::OK, event);
        }
        assert_eq!(method, Method::PATCH);
        if self.conflicts_to_come > 0 {
            self.conflicts_to_come -= 1;
            event["count"] = (event["count"].as_i64().unwrap() + 1).into();
            self.put(name, event);
            return refused(409, "Conflict");
        }
        assert_eq!(body["metadata"]["resourceVersion"], event["metadata"]["resourceVersion"]);
        for (key, value) in body.as_object().unwrap() {
            if key != "metadata" {
                event[key] = value.clone();
            }
        }
        (StatusCode::OK, self.put(name, event))
    }

    fn put(&mut self, name: String, mut event: Value) -> Value {
        self.version += 1;
        event["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.events.insert(name, event.clone());
        event
    }
}

fn refused(code: u16, reason: &str) -> (StatusCode, Value) {
    let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    (StatusCode::from_u16(code).unwrap(), body)
}

fn client(store: &Arc<Mutex<Store>>) -> kube::Client {
    let store = Arc::clone(store);
    let service = service_fn(move |request: Request<Body>| {
        let store = Arc::clone(&store);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let (status, value) = store.lock().unwrap().answer(&parts.method, parts.uri.path(), &body);
            let response =
                Response::builder().status(status).body(Body::from(value.to_string().into_bytes())).unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    kube::Client::new(service, "default")
}

#[tokio::test]
async fn one_event_per_machine_phase_and_boot_and_a_repeat_raises_its_count() {
    let store = Arc::new(Mutex::new(Store { conflicts_to_come: 1, ..Store::default() }));
    let shutdown = CancellationToken::new();
    let (recorder, task) = Recorder::spawn(client(&store), "boots", &Metrics::default(), shutdown.clone());
    let m1 = hardware_reference("tinkerbell", "m1", Some("uid-1"));
    recorder.record(&m1, "DhcpOffered", "dhcp", Some(7), "first".into(), false);
    // The first batch must be written before the repeat comes, so that the repeat meets an Event that is there.
    while store.lock().unwrap().events.is_empty() {
        tokio::task::yield_now().await;
    }
    recorder.record(&m1, "DhcpOffered", "dhcp", Some(7), "second".into(), false);
    recorder.record(&m1, "NetbootRefused", "dhcp", Some(8), "no".into(), true);
    shutdown.cancel();
    task.await.unwrap();

    let store = store.lock().unwrap();
    assert_eq!(store.events.keys().collect::<Vec<_>>(), ["m1.dhcp.7", "m1.dhcp.8"]);
    let first = &store.events["m1.dhcp.7"];
    assert_eq!(first["count"], 3, "ours twice, and once by whoever caused the conflict");
    assert_eq!(first["message"], "second");
    assert_eq!(first["reason"], "DhcpOffered");
    assert_eq!(first["type"], "Normal");
    assert_eq!(first["involvedObject"]["uid"], "uid-1");
    assert_eq!(first["metadata"]["annotations"][BOOT_ANNOTATION], "7");
    assert_eq!(store.events["m1.dhcp.8"]["type"], "Warning");
}

#[tokio::test]
async fn a_flood_is_merged_and_what_does_not_fit_is_counted() {
    let store = Arc::new(Mutex::new(Store::default()));
    let shutdown = CancellationToken::new();
    let metrics = Metrics::default();
    let (recorder, task) = Recorder::spawn(client(&store), "boots", &metrics, shutdown.clone());
    let m1 = hardware_reference("tinkerbell", "m1", None);
    // Nothing yields in between, so that the writer sees nothing of it before the queue is full.
    for _ in 0..QUEUE + 10 {
        recorder.record(&m1, "DhcpOffered", "dhcp", None, "again".into(), false);
    }
    shutdown.cancel();
    task.await.unwrap();
    let store = store.lock().unwrap();
    assert_eq!(store.events["m1.dhcp.0"]["count"], QUEUE);
    assert!(store.calls <= 3 * u32::try_from(QUEUE / BATCH).unwrap() + 3, "{} calls", store.calls);
    assert!(metrics.encode().contains("events_dropped_total 10\n"));
}

#[test]
fn names_and_messages_fit_what_the_api_accepts() {
    assert_eq!(event_name("m1", "Boot Program", Some(1)), "m1.boot-program.1");
    assert_eq!(event_name("m1", "action-started.01JC_X", None), "m1.action-started.01jc-x.0");
    assert!(event_name(&"a.".repeat(200), "dhcp", Some(1)).len() <= MAX_NAME_BYTES);
    let message = truncated("é".repeat(2000));
    assert!(message.len() <= MAX_MESSAGE_BYTES && message.ends_with('…'));
}
