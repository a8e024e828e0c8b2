// SPDX-License-Identifier: Apache-2.0

//! kube-rs controllers, reflectors and conditions run unchanged; conflicts resolve.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{eventually, start, widget, widget_resource, widgets};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{Controller, WatchStreamExt as _, reflector, watcher};
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

#[tokio::test]
async fn a_controller_with_finalizers_and_owned_objects() {
    let fixture = start().await;
    let client = fixture.client();
    let api = widgets(client.clone());
    let cleaned = Arc::new(AtomicUsize::new(0));
    let context = Arc::new((client.clone(), Arc::clone(&cleaned)));
    let reconcile = |object: Arc<DynamicObject>, context: Arc<(kube::Client, Arc<AtomicUsize>)>| async move {
        let api = widgets(context.0.clone());
        let maps: Api<ConfigMap> = Api::namespaced(context.0.clone(), "default");
        finalizer(&api, "example.org/test", object, |event| async {
            match event {
                Event::Apply(object) => {
                    let owner = json!([{"apiVersion": "example.org/v1", "kind": "Widget", "name": object.metadata.name,
                        "uid": object.metadata.uid, "controller": true}]);
                    let name = object.metadata.name.clone().unwrap_or_default();
                    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": name, "ownerReferences": owner}, "data": {"size": object.data["spec"]["size"].to_string()}});
                    let params = PatchParams::apply("controller").force();
                    maps.patch(&name, &params, &Patch::Apply(map)).await?;
                    let status = json!({"status": {"state": "done", "count": object.data["spec"]["size"]}});
                    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
                }
                Event::Cleanup(_) => drop(context.1.fetch_add(1, Ordering::SeqCst)),
            }
            Ok::<_, kube::Error>(Action::await_change())
        })
        .await
        .map_err(|e| Failed(e.to_string()))
    };
    let controller = Controller::new_with(api.clone(), watcher::Config::default(), widget_resource())
        .owns(Api::<ConfigMap>::namespaced(client.clone(), "default"), watcher::Config::default())
        .run(reconcile, |_, error, _| panic!("reconcile failed: {error}"), context)
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);
    for index in 0..20 {
        api.create(&PostParams::default(), &widget(&format!("w{index}"), json!({"size": index + 1})))
            .await
            .unwrap();
    }
    eventually("all are done", || async {
        let list = api.list(&Default::default()).await.unwrap();
        list.items.iter().all(|o| o.data["status"]["state"] == "done").then_some(())
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    assert_eq!(maps.get("w4").await.unwrap().data.unwrap()["size"], "5");
    api.delete("w4", &DeleteParams::default()).await.unwrap();
    eventually("the finalizer ran and the map went with its owner", || async {
        let gone = api.get_opt("w4").await.unwrap().is_none() && maps.get_opt("w4").await.unwrap().is_none();
        (gone && cleaned.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    controller.abort();
}

#[tokio::test]
async fn a_reflector_mirrors_the_store() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let writer = reflector::store::Writer::new(widget_resource());
    let reader = writer.as_reader();
    let mirror = reflector(writer, watcher(api.clone(), watcher::Config::default())).touched_objects();
    let task = tokio::spawn(mirror.for_each(|_| async {}));
    for index in 0..50 {
        api.create(&PostParams::default(), &widget(&format!("w{index}"), json!({}))).await.unwrap();
    }
    api.delete("w7", &DeleteParams::default()).await.unwrap();
    eventually("the mirror is complete", || async { (reader.state().len() == 49).then_some(()) }).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_conflict_storm_loses_no_update() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    api.create(&PostParams::default(), &widget("counter", json!({"size": 1}))).await.unwrap();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let api = api.clone();
            tokio::spawn(async move {
                for step in 0..25 {
                    // Optimistic: read, change, replace, again on conflict.
                    loop {
                        let mut object = api.get("counter").await.unwrap();
                        let count = object.data["status"]["count"].as_i64().unwrap_or(0);
                        object.data["status"] = json!({"count": count + 1});
                        match api.replace_status("counter", &PostParams::default(), &object).await {
                            Ok(_) => break,
                            Err(kube::Error::Api(status)) if status.is_conflict() => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    // Unpinned: never a conflict for the client.
                    let patch =
                        Patch::Merge(json!({"metadata": {"annotations": {format!("w{worker}-{step}"): ""}}}));
                    api.patch("counter", &PatchParams::default(), &patch).await.unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let object = api.get("counter").await.unwrap();
    assert_eq!(object.data["status"]["count"], 200);
    assert_eq!(object.metadata.annotations.unwrap().len(), 200);
}

#[tokio::test]
async fn server_side_apply_through_the_client() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let config = |spec: Value| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let apply = |manager: &str, spec: Value| {
        let (api, params, patch) = (api.clone(), PatchParams::apply(manager), Patch::Apply(config(spec)));
        async move { api.patch("w", &params, &patch).await }
    };
    let created = apply("one", json!({"colour": "red", "parts": [{"id": "a"}]})).await.unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    let managed = created.metadata.managed_fields.clone().unwrap();
    assert_eq!(
        (managed.len(), managed[0].manager.as_deref(), managed[0].operation.as_deref()),
        (1, Some("one"), Some("Apply"))
    );
    let again = apply("one", json!({"colour": "red", "parts": [{"id": "a"}]})).await.unwrap();
    assert_eq!(
        again.metadata.resource_version, created.metadata.resource_version,
        "the same apply writes nothing"
    );
    let error = apply("two", json!({"colour": "blue"})).await.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 409 && status.message.contains(".spec.colour")),
        "{error}"
    );
    apply("two", json!({"parts": [{"id": "b", "count": 5}]})).await.unwrap();
    let merged = apply("one", json!({})).await.unwrap();
    assert_eq!(merged.data["spec"], json!({"size": 7, "parts": [{"id": "b", "count": 5}]}));

    let missing = PatchParams { field_manager: None, ..PatchParams::default() };
    let path = format!("{}/w", common::WIDGETS);
    let yaml = "apiVersion: example.org/v1\nkind: Widget\nspec: {colour: green}\n";
    let refused = fixture.send("PATCH", &path, "application/apply-patch+yaml", yaml).await;
    assert_eq!(refused.code, 422, "{missing:?}");
    let applied = fixture
        .send("PATCH", &format!("{path}?fieldManager=yaml"), "application/apply-patch+yaml", yaml)
        .await;
    assert_eq!((applied.code, &applied.json["spec"]["colour"]), (200, &json!("green")));
    let commented = yaml.replace("spec: {", &format!("spec:\n{}  {{", "  # size: 3\n".repeat(100)));
    let applied = fixture
        .send("PATCH", &format!("{path}?fieldManager=yaml"), "application/apply-patch+yaml", commented)
        .await;
    assert_eq!(applied.code, 200, "{}", applied.text);
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let shown = api.create(&dry, &widget("a", json!({}))).await.unwrap();
    assert_eq!(shown.data["spec"]["size"], 7);
    assert!(api.get_opt("a").await.unwrap().is_none());
    let created = api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let shown = api.patch("a", &params, &Patch::Merge(json!({"spec": {"size": 9}}))).await.unwrap();
    assert_eq!(shown.data["spec"]["size"], 9);
    assert_eq!(api.get("a").await.unwrap().metadata.resource_version, created.metadata.resource_version);
    tokio::time::timeout(Duration::from_secs(10), fixture.server.close()).await.expect("closes");
}
