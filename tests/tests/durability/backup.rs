// SPDX-License-Identifier: Apache-2.0
//! `tink backup` while others write, and `tink restore` of it into a new server: every object is what it was, and all are of
//! one moment. A restore that is broken off is repeated; into a Kubernetes, UIDs are new and everything else is the same.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::alone::Alone;
use tests::stack::{eventually, tink};
use tests::target::Kind;

/// Pairs of objects, of which both are always written in order.
const PAIRS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(20);

pub async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("backup.yaml");
    let (server, _) = Alone::start(Kind::Embedded, false).await?;
    let client = server.client().await?;
    populate(&client).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(write(client.clone(), Arc::clone(&stop)));
    // So that it is under way.
    eventually_written(&client).await?;
    let made = command(&server, &["backup"], &file, &[])?;
    stop.store(true, Ordering::SeqCst);
    let rounds = load.await??;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "others can read it");
    let refused = command(&server, &["backup"], &file, &[])?;
    ensure!(refused.status.code() == Some(1), "a file was replaced without --force");
    println!("  {} bytes, {rounds} rounds of writes beside it", std::fs::metadata(&file)?.len());
    one_moment(&std::fs::read_to_string(&file)?)?;

    // What is quiet now is what is compared.
    let before = everything(&client).await?;
    let made = command(&server, &["backup", "--force"], &file, &[])?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (other, _) = Alone::start(Kind::Embedded, false).await?;
    for round in 0..2 {
        let done = command(&other, &["restore"], &file, &[])?;
        let text =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{text}");
        ensure!(
            round == 0 || text.starts_with("0 objects restored"),
            "a second time it changes something: {text}"
        );
        let after = everything(&other.client().await?).await?;
        for (one, two) in before.iter().zip(&after) {
            ensure!(one == two, "restored as\n{two:#}\ninstead of\n{one:#}");
        }
        ensure!(before.len() == after.len(), "{} objects instead of {}", after.len(), before.len());
    }

    onto_kubernetes(&file, &before).await?;
    broken_off(&file, &before).await?;

    // A server that holds something else is left alone.
    let patch = Patch::Merge(json!({"data": {"step": "other"}}));
    let maps: Api<ConfigMap> = Api::namespaced(other.client().await?, "default");
    maps.patch("pair-0-a", &PatchParams::default(), &patch).await?;
    let refused = command(&other, &["restore"], &file, &[])?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && text.contains("pair-0-a") && text.contains("--force"),
        "{text}"
    );
    let forced = command(&other, &["restore", "--force"], &file, &[])?;
    ensure!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    ensure!(everything(&other.client().await?).await? == before, "--force does not bring it back");
    Ok(())
}

/// Kubernetes makes new objects: with new UIDs, by which owners are named.
async fn onto_kubernetes(file: &Path, before: &[Value]) -> Result<()> {
    let (server, _) = Alone::start(Kind::Kubernetes, false).await?;
    for round in 0..2 {
        let done = command(&server, &["restore"], file, &[])?;
        let text =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "onto Kubernetes: {text}");
        ensure!(
            round == 0 || text.starts_with("0 objects restored"),
            "onto Kubernetes a second time: {text}"
        );
    }
    let after = everything(&server.client().await?).await?;
    let uid = |objects: &[Value], name: &str| -> Option<String> {
        let found = objects.iter().find(|object| object["metadata"]["name"] == name)?;
        Some(found["metadata"]["uid"].as_str()?.to_owned())
    };
    let owner = uid(&after, "pair-0-a").context("the owner is not there")?;
    for one in before.iter().filter(|one| one["kind"] != "Namespace" && one["metadata"]["name"] != "default")
    {
        let same = |two: &&Value| {
            ["/kind", "/metadata/namespace", "/metadata/name"]
                .iter()
                .all(|field| one.pointer(field) == two.pointer(field))
        };
        let two =
            after.iter().find(same).with_context(|| format!("not restored onto Kubernetes: {one:#}"))?;
        let (mut wanted, found) = (lasting(one), lasting(two));
        if let Some(owner_uid) = wanted.pointer_mut("/metadata/ownerReferences/0/uid") {
            *owner_uid = owner.clone().into();
        }
        ensure!(wanted == found, "restored onto Kubernetes as\n{found:#}\ninstead of\n{wanted:#}");
        let going = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        ensure!(going(one) == going(two), "a removal that waits does so there too: {two:#}");
    }
    Ok(())
}

/// An object without what every server makes for itself.
fn lasting(object: &Value) -> Value {
    let mut object = object.clone();
    let own = [
        "uid",
        "creationTimestamp",
        "generation",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !own.contains(&field.as_str()));
    }
    object
}

/// The restoring program and then the server are killed in the middle; repeating it completes it.
async fn broken_off(file: &Path, before: &[Value]) -> Result<()> {
    let (mut server, _) = Alone::start(Kind::Embedded, false).await?;
    let maps = |client: Client| Api::<ConfigMap>::namespaced(client, "default");
    let begun = server.client().await?;
    let mut command = std::process::Command::new(tink()?);
    command.arg("restore").arg(file).arg("--kubeconfig").arg(server.kubeconfig()).env_remove("KUBECONFIG");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // Polled without a pause: the first object that is seen is one of the first that were made.
    let seen = eventually("something is restored", DEADLINE, async || {
        let list =
            maps(begun.clone()).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        Ok((!list.items.is_empty()).then_some(list.items.len()))
    })
    .await;
    child.kill()?;
    child.wait()?;
    println!("  broken off at {} of {} ConfigMaps", seen?, PAIRS * 2 + 2);
    server.restart(Signal::KILL).await?;
    let done = self::command(&server, &["restore"], file, &[])?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let after = everything(&server.client().await?).await?;
    ensure!(after == before, "a repeated restore gives\n{after:#?}\ninstead of\n{before:#?}");
    Ok(())
}

fn command(server: &Alone, words: &[&str], file: &Path, more: &[&str]) -> Result<Output> {
    let mut command = std::process::Command::new(tink()?);
    command.args(words).arg(file).args(more).arg("--kubeconfig").arg(server.kubeconfig());
    Ok(command.env_remove("KUBECONFIG").output()?)
}

fn hardware() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("tinkerbell.org", "v1alpha1", "Hardware"),
        "hardware",
    )
}

/// Objects with everything that is easily lost: status, finalizers, a removal that waits, owners, odd texts.
async fn populate(client: &Client) -> Result<()> {
    let create = PostParams::default();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for pair in 0..PAIRS {
        for half in ["a", "b"] {
            let map = json!({"metadata": {"name": format!("pair-{pair}-{half}")}, "data": {"step": "0"}});
            maps.create(&create, &serde_json::from_value(map)?).await?;
        }
    }
    let owner = maps.get("pair-0-a").await?;
    let owned = json!({
        "metadata": {
            "name": "owned", "labels": {"a": "b"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "pair-0-a", "uid": owner.metadata.uid, "blockOwnerDeletion": true}],
        },
        "data": {"yes": "no", "text": "a\n---\n# b\n\n", "number": "1.10", "empty": "", "odd": "\u{85}\u{2028}\ttab: [&x *y !z"},
    });
    maps.create(&create, &serde_json::from_value(owned)?).await?;
    let held =
        json!({"metadata": {"name": "held", "finalizers": ["tests.invalid/hold"]}, "data": {"step": ""}});
    maps.create(&create, &serde_json::from_value(held)?).await?;
    maps.delete("held", &Default::default()).await?;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), "default");
    let secret =
        json!({"metadata": {"name": "secret"}, "type": "Opaque", "stringData": {"password": "a secret"}});
    secrets.create(&create, &serde_json::from_value(secret)?).await?;
    let machines: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &hardware());
    let machine = json!({
        "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "m1"},
        "spec": {"agentID": "52:54:00:12:34:00", "userData": "#cloud-config\nusers:\n- name: a\n"},
    });
    machines.create(&create, &serde_json::from_value(machine)?).await?;
    let status = Patch::Merge(json!({"status": {"state": "provisioned"}}));
    machines.patch_status("m1", &PatchParams::default(), &status).await?;
    Ok(())
}

/// Writes all pairs, the first half of each before the second, until it is stopped.
async fn write(client: Client, stop: Arc<AtomicBool>) -> Result<usize> {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    for round in 1.. {
        for pair in 0..PAIRS {
            if stop.load(Ordering::SeqCst) {
                return Ok(round);
            }
            for half in ["a", "b"] {
                let patch = Patch::Merge(json!({"data": {"step": round.to_string()}}));
                maps.patch(&format!("pair-{pair}-{half}"), &PatchParams::default(), &patch).await?;
            }
        }
    }
    Ok(0)
}

async fn eventually_written(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    eventually("something is written", DEADLINE, async || {
        let map = maps.get("pair-3-a").await.map_err(|error| error.to_string())?;
        Ok(map.data.and_then(|data| data.get("step").cloned()).filter(|step| step != "0").map(drop))
    })
    .await
}

/// The writes in a backup are the first so many of all that were made: a second half is never newer than its first half, a
/// later pair never newer than an earlier one, and all steps are within one.
fn one_moment(text: &str) -> Result<()> {
    let step = |name: &str| -> Result<u64> {
        let named = |document: &&str| document.contains(&format!("\n  name: {name}\n"));
        let document =
            text.split("\n---\n").find(named).with_context(|| format!("{name} is not in the backup"))?;
        let line = document.lines().find_map(|line| line.trim().strip_prefix("step:"));
        Ok(line.context("a step")?.trim().trim_matches(['"', '\'']).parse()?)
    };
    let mut steps = Vec::new();
    for pair in 0..PAIRS {
        steps.push(step(&format!("pair-{pair}-a"))?);
        steps.push(step(&format!("pair-{pair}-b"))?);
    }
    ensure!(steps.is_sorted_by(|one, two| one >= two), "not of one moment: {steps:?}");
    ensure!(steps.first().unwrap_or(&0) - steps.last().unwrap_or(&0) <= 1, "not of one moment: {steps:?}");
    Ok(())
}

/// All objects but for the resource version, in order; definitions by their specification.
async fn everything(client: &Client) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let kinds = [
        ("", "v1", "Namespace", "namespaces"),
        ("", "v1", "ConfigMap", "configmaps"),
        ("", "v1", "Secret", "secrets"),
        ("", "v1", "ServiceAccount", "serviceaccounts"),
    ];
    let mut resources: Vec<ApiResource> = kinds
        .into_iter()
        .map(|(group, version, kind, plural)| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
        })
        .collect();
    for crd in api::crds() {
        let gvk = GroupVersionKind::gvk(&crd.spec.group, "v1alpha1", &crd.spec.names.kind);
        resources.push(ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural));
    }
    for resource in resources {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        for object in api.list(&ListParams::default()).await?.items {
            let mut object = serde_json::to_value(object)?;
            // Items of built-in kinds do not say what they are.
            object["apiVersion"] = resource.api_version.clone().into();
            object["kind"] = resource.kind.clone().into();
            object
                .pointer_mut("/metadata")
                .and_then(Value::as_object_mut)
                .map(|metadata| metadata.remove("resourceVersion"));
            all.push(object);
        }
    }
    Ok(all)
}
