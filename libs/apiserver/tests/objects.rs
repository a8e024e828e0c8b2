// SPDX-License-Identifier: Apache-2.0

//! create, get, list, update, patch and delete as clients see them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use common::{WIDGETS, eventually, start, widget, widget_json, widgets};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn status_of(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("not an API error: {other}"),
    }
}

#[tokio::test]
async fn an_object_lives_as_on_kubernetes() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let created = api.create(&PostParams::default(), &widget("a", json!({"colour": "red"}))).await.unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    assert_eq!(created.data["spec"]["size"], 7, "the default is filled in");
    let version = created.metadata.resource_version.clone().unwrap();
    assert!(created.metadata.uid.is_some() && created.metadata.creation_timestamp.is_some());

    let again = api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap_err();
    assert_eq!(status_of(again), (409, "AlreadyExists".into()));

    let mut changed = created.clone();
    changed.data["spec"]["colour"] = json!("blue");
    changed.data["status"] = json!({"state": "ignored"});
    let updated = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(updated.metadata.generation, Some(2));
    assert_eq!(updated.data.get("status"), None, "the main resource does not write status");
    assert_ne!(updated.metadata.resource_version.as_ref(), Some(&version));

    let stale = api.replace("a", &PostParams::default(), &changed).await.unwrap_err();
    assert_eq!(status_of(stale), (409, "Conflict".into()));

    let status = api
        .patch_status(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"state": "ok"}, "spec": {"colour": "green"}})),
        )
        .await
        .unwrap();
    assert_eq!(status.data["status"]["state"], "ok");
    assert_eq!(status.data["spec"]["colour"], "blue", "status does not write spec");
    assert_eq!(status.metadata.generation, Some(2));

    let same = api
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"colour": "blue"}})))
        .await
        .unwrap();
    assert_eq!(same.metadata.resource_version, status.metadata.resource_version, "no change, no write");

    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(status_of(api.get("a").await.unwrap_err()), (404, "NotFound".into()));
}

#[tokio::test]
async fn names_are_generated() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let mut object = widget("x", json!({}));
    object.metadata.name = None;
    object.metadata.generate_name = Some("job-".into());
    let first = api.create(&PostParams::default(), &object).await.unwrap().metadata.name.unwrap();
    let second = api.create(&PostParams::default(), &object).await.unwrap().metadata.name.unwrap();
    assert!(first.starts_with("job-") && first.len() == 9, "{first}");
    assert_ne!(first, second);
}

#[tokio::test]
async fn errors_carry_what_kubectl_prints() {
    let fixture = start().await;
    let missing = fixture.get(&format!("{WIDGETS}/nope")).await;
    assert_eq!(missing.code, 404);
    assert_eq!(missing.json["message"], "widgets.example.org \"nope\" not found");
    assert_eq!(missing.json["details"], json!({"name": "nope", "group": "example.org", "kind": "widgets"}));
    let nowhere = widget_json("a", json!({})).to_string();
    let path = WIDGETS.replace("default", "gone");
    let answer = fixture.send("POST", &path, "application/json", nowhere).await;
    assert_eq!((answer.code, &answer.json["message"]), (404, &json!("namespaces \"gone\" not found")));
    let unknown = fixture.get("/apis/example.org/v1/namespaces/default/gadgets").await;
    assert_eq!((unknown.code, unknown.text.trim()), (404, "404 page not found"));

    let bad = widget_json("b", json!({"colour": "pink", "size": 0, "name": "TOO-LONG-NAME", "port": true}));
    let answer = fixture.send("POST", WIDGETS, "application/json", bad.to_string()).await;
    assert_eq!((answer.code, &answer.json["reason"]), (422, &json!("Invalid")));
    let causes = answer.json["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes.iter().map(|c| c["field"].as_str().unwrap()).collect();
    for field in ["spec.colour", "spec.size", "spec.name", "spec.port"] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.starts_with("Widget.example.org \"b\" is invalid: ["), "{message}");
    assert!(message.contains(
        "spec.colour: Unsupported value: \"pink\": supported values: \"red\", \"green\", \"blue\""
    ));
}

#[tokio::test]
async fn unknown_fields_are_pruned_warned_of_or_refused() {
    let fixture = start().await;
    let body = |name: &str| {
        let mut body =
            widget_json(name, json!({"free": {"any": 1}, "typo": 2, "parts": [{"id": "a", "odd": 1}]}));
        body["metadata"]["lables"] = json!({});
        body.to_string()
    };
    let warned = fixture.send("POST", WIDGETS, "application/json", body("a")).await;
    assert_eq!(warned.code, 201);
    let warnings: Vec<&str> = warned.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
    assert!(warnings.contains(&r#"299 - "unknown field \"spec.typo\"""#), "{warnings:?}");
    assert!(warnings.contains(&r#"299 - "unknown field \"spec.parts[0].odd\"""#), "{warnings:?}");
    assert!(warnings.contains(&r#"299 - "unknown field \"metadata.lables\"""#), "{warnings:?}");
    assert_eq!(warned.json["spec"].get("typo"), None);
    assert_eq!(warned.json["spec"]["free"]["any"], 1);
    let ignored = fixture
        .send("POST", &format!("{WIDGETS}?fieldValidation=Ignore"), "application/json", body("b"))
        .await;
    assert!(ignored.code == 201 && ignored.headers.get("warning").is_none());
    let refused = fixture
        .send("POST", &format!("{WIDGETS}?fieldValidation=Strict"), "application/json", body("c"))
        .await;
    assert_eq!(refused.code, 400);
    let message = refused.json["message"].as_str().unwrap();
    assert!(
        message.contains("strict decoding error: ") && message.contains("unknown field \"spec.typo\""),
        "{message}"
    );
}

#[tokio::test]
async fn selectors_and_chunks() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    for index in 0..7 {
        let mut object =
            widget(&format!("w{index}"), json!({"colour": if index % 2 == 0 { "red" } else { "blue" }}));
        object.metadata.labels = Some([("n".to_owned(), index.to_string())].into());
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let names = |list: kube::core::ObjectList<kube::core::DynamicObject>| {
        list.items.into_iter().map(|o| o.metadata.name.unwrap()).collect::<Vec<_>>()
    };
    let list = api.list(&ListParams::default().labels("n in (1,3),n!=3")).await.unwrap();
    assert_eq!(names(list), ["w1"]);
    let list = api.list(&ListParams::default().fields("spec.colour=blue")).await.unwrap();
    assert_eq!(names(list), ["w1", "w3", "w5"]);
    let refused = api.list(&ListParams::default().fields("spec.size=1")).await.unwrap_err();
    assert_eq!(status_of(refused).0, 400);

    let first = fixture.get(&format!("{WIDGETS}?limit=3")).await.json;
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    api.delete("w4", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &widget("w45", json!({}))).await.unwrap();
    let rest = fixture.get(&format!("{WIDGETS}?limit=500&continue={token}")).await.json;
    let rest_names: Vec<&str> =
        rest["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(rest_names, ["w3", "w4", "w5", "w6"], "the second chunk shows the state of the first");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(fixture.get(&format!("{WIDGETS}?continue=garbage")).await.code, 400);
    // Limits far beyond the collection, and negative or zero ones, mean everything.
    for limit in ["0", "-1", "9223372036854775807"] {
        let list = fixture.get(&format!("{WIDGETS}?limit={limit}")).await.json;
        assert_eq!(list["items"].as_array().unwrap().len(), 7, "{limit}");
    }
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let mut object = widget("held", json!({}));
    object.metadata.finalizers = Some(vec!["example.org/hold".into()]);
    api.create(&PostParams::default(), &object).await.unwrap();
    let pending = api.delete("held", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(pending.metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["example.org/hold", "example.org/new"]}});
    let refused = api.patch("held", &PatchParams::default(), &Patch::Merge(more)).await.unwrap_err();
    assert_eq!(status_of(refused).0, 422);
    let free = json!({"metadata": {"finalizers": null}});
    api.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    assert_eq!(status_of(api.get("held").await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn deletion_preconditions_hold() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    let object = api.create(&PostParams::default(), &widget("p", json!({}))).await.unwrap();
    let wrong = json!({"preconditions": {"uid": "other"}}).to_string();
    let answer = fixture.send("DELETE", &format!("{WIDGETS}/p"), "application/json", wrong).await;
    assert_eq!((answer.code, &answer.json["reason"]), (409, &json!("Conflict")));
    let right = json!({"preconditions": {"uid": object.metadata.uid, "resourceVersion": object.metadata.resource_version}});
    let mut tried = right.clone();
    tried["dryRun"] = json!(["All"]);
    let answer = fixture.send("DELETE", &format!("{WIDGETS}/p"), "application/json", tried.to_string()).await;
    assert_eq!(answer.code, 200);
    api.get("p").await.expect("a dry run removes nothing");
    let answer = fixture.send("DELETE", &format!("{WIDGETS}/p"), "application/json", right.to_string()).await;
    assert_eq!((answer.code, &answer.json["status"]), (200, &json!("Success")));
    assert_eq!(answer.json["details"]["uid"], json!(object.metadata.uid));
}

#[tokio::test]
async fn collections_are_removed_by_selector() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    for name in ["a", "b", "c"] {
        let mut object = widget(name, json!({}));
        object.metadata.labels = Some([("keep".to_owned(), (name == "b").to_string())].into());
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("keep=false"))
        .await
        .unwrap();
    let left = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    assert_eq!(left.items[0].metadata.name.as_deref(), Some("b"));
}

#[tokio::test]
async fn dependents_go_with_their_owners() {
    let fixture = start().await;
    let client = fixture.client();
    let api = widgets(client.clone());
    let owner = api.create(&PostParams::default(), &widget("owner", json!({}))).await.unwrap();
    let owned_by = |object: &kube::core::DynamicObject| {
        json!([{"apiVersion": "example.org/v1", "kind": "Widget", "name": object.metadata.name, "uid": object.metadata.uid,
            "blockOwnerDeletion": true}])
    };
    let child = |name: &str, owner: &kube::core::DynamicObject| {
        let mut value = widget_json(name, json!({}));
        value["metadata"]["ownerReferences"] = owned_by(owner);
        serde_json::from_value::<kube::core::DynamicObject>(value).unwrap()
    };
    let middle = api.create(&PostParams::default(), &child("middle", &owner)).await.unwrap();
    api.create(&PostParams::default(), &child("leaf", &middle)).await.unwrap();
    api.delete("owner", &DeleteParams::background()).await.unwrap();
    eventually("the whole chain is gone", || async {
        api.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;

    let owner = api.create(&PostParams::default(), &widget("owner", json!({}))).await.unwrap();
    let mut held = child("held", &owner);
    held.metadata.finalizers = Some(vec!["example.org/hold".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    api.delete("owner", &DeleteParams::foreground()).await.unwrap();
    eventually("the dependent is asked to go", || async {
        api.get("held").await.unwrap().metadata.deletion_timestamp.map(|_| ())
    })
    .await;
    api.get("owner").await.expect("the owner waits for its dependent");
    api.patch("held", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    eventually("the owner follows", || async { api.get_opt("owner").await.unwrap().is_none().then_some(()) })
        .await;

    let owner = api.create(&PostParams::default(), &widget("owner", json!({}))).await.unwrap();
    api.create(&PostParams::default(), &child("orphan", &owner)).await.unwrap();
    api.delete("owner", &DeleteParams::orphan()).await.unwrap();
    eventually("the owner is gone", || async { api.get_opt("owner").await.unwrap().is_none().then_some(()) })
        .await;
    let orphan = api.get("orphan").await.unwrap();
    assert_eq!(orphan.metadata.owner_references, None);
}

#[tokio::test]
async fn a_removed_namespace_takes_its_contents() {
    let fixture = start().await;
    let client = fixture.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let make = |name: &str| serde_json::from_value::<Namespace>(json!({"metadata": {"name": name}})).unwrap();
    namespaces.create(&PostParams::default(), &make("temp")).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "temp");
    let mut held: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "held"}})).unwrap();
    held.metadata.finalizers = Some(vec!["example.org/hold".into()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    namespaces.delete("temp", &DeleteParams::default()).await.unwrap();
    let other: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "late"}})).unwrap();
    assert_eq!(status_of(maps.create(&PostParams::default(), &other).await.unwrap_err()).0, 403);
    eventually("the content is asked to go", || async {
        maps.get("held").await.unwrap().metadata.deletion_timestamp.map(|_| ())
    })
    .await;
    maps.patch("held", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    eventually("the namespace is gone", || async {
        namespaces.get_opt("temp").await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_crd_is_served_at_once_and_its_removal_takes_the_instances() {
    let fixture = start().await;
    let api = widgets(fixture.client());
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(fixture.client());
    let crd = crds.get("widgets.example.org").await.unwrap();
    let established = crd
        .status
        .unwrap()
        .conditions
        .unwrap()
        .into_iter()
        .any(|c| c.type_ == "Established" && c.status == "True");
    assert!(established);
    crds.delete("widgets.example.org", &DeleteParams::default()).await.unwrap();
    eventually("the CRD is gone", || async {
        crds.get_opt("widgets.example.org").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(fixture.get(WIDGETS).await.code, 404);
    fixture.server.install_crds(&[common::widget_crd()]).await.unwrap();
    assert_eq!(fixture.get(WIDGETS).await.json["items"], json!([]));
}

#[tokio::test]
async fn the_built_in_kinds_keep_their_rules() {
    let fixture = start().await;
    let secrets: Api<Secret> = Api::namespaced(fixture.client(), "default");
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}))
            .unwrap();
    let stored = secrets.create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(stored.type_.as_deref(), Some("Opaque"));
    assert_eq!(stored.data.unwrap()["password"].0, b"hunter2");
    let broken =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}, "data": {"k": "%%%"}})
            .to_string();
    let answer = fixture.send("POST", "/api/v1/namespaces/default/secrets", "application/json", broken).await;
    assert_eq!(answer.code, 400, "{}", answer.text);

    let events: Api<Event> = Api::namespaced(fixture.client(), "default");
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Widget", "name": "w", "namespace": "default"},
        "reason": "Tested", "message": "hello", "type": "Normal", "count": 2});
    events.create(&PostParams::default(), &serde_json::from_value(event).unwrap()).await.unwrap();
    let newer = fixture.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.json;
    assert_eq!(
        (&newer["note"], &newer["regarding"]["name"], &newer["deprecatedCount"]),
        (&json!("hello"), &json!("w"), &json!(2))
    );
    assert_eq!(newer["apiVersion"], "events.k8s.io/v1");
    let found =
        events.list(&ListParams::default().fields("involvedObject.name=w,reason=Tested")).await.unwrap();
    assert_eq!(found.items.len(), 1);
    let list: Value =
        fixture.get("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dw").await.json;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}
