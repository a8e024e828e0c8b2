// SPDX-License-Identifier: Apache-2.0
//! The daemons as pods of the target. kube-apiserver takes the manifests; the test is controller and kubelet, and says how far
//! the pods are. After a move back they are gone, and nothing else is.

use anyhow::{Context, Result, ensure};
use api::access::Component;
use api::annotations::SYSTEM_NAMESPACE;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tests::alone::Alone;
use tests::stack::eventually;
use tests::target::Kind;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::kills::{STEP, journal, mover, told};
use crate::rack::{everything, populate, same};

const ADDRESS: &str = "192.0.2.6";

pub async fn wait_there() -> Result<()> {
    let (one, _) = Alone::start(Kind::Embedded, false).await?;
    let (two, _) = Alone::start(Kind::Kubernetes, true).await?;
    let (here, there) = (one.client().await?, two.client().await?);
    populate(&here).await?;
    let before = everything(&here).await?;
    let mut child = mover(&one, &two, &["--address", ADDRESS])?.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();

    told(&mut lines, "its controller has not seen it yet").await?;
    ensure!(!journal(&there).await?.acts(), "pods that come now would act");
    for daemon in Component::ALL {
        schedule(&there, daemon).await?;
        says(&there, daemon, json!({ "waiting": { "reason": "ErrImagePull", "message": "no such image" } }))
            .await?;
    }
    told(&mut lines, "boots: 0 of 1 pods; on m1: ErrImagePull no such image").await?;
    ensure!(journal(&here).await?.acts(), "the source was told, and nobody waits on the target");
    for daemon in Component::ALL {
        says(&there, daemon, json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } })).await?;
    }

    told(&mut lines, "boots: 0 of 1 pods").await?;
    ensure!(journal(&there).await?.acts() && !journal(&here).await?.acts(), "it is not moved");
    for daemon in Component::ALL {
        counts(&there, daemon, 1).await?;
    }
    told(&mut lines, "\"ready\"").await?;
    let ended = child.wait().await?;
    ensure!(ended.success(), "the move ended with {ended}");
    same(&before, &everything(&there).await?)?;
    is_made_for_machines(&there).await?;
    are_taken_away(&one, &two).await
}

/// Moves back; what has a name or the label of ours, and not both, is of others.
async fn are_taken_away(one: &Alone, two: &Alone) -> Result<()> {
    let there = two.client().await?;
    like_boots(&there, "boots-of-others").await?;
    let no_label = Patch::Merge(json!({ "metadata": { "labels": null } }));
    sets(&there).patch(Component::Hegel.name(), &PatchParams::default(), &no_label).await?;

    let output = mover(two, one, &[])?.output().await?;
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the move back ended with {}: {problem}", output.status);
    let removed =
        said.lines().find(|line| line.contains("\"removed\"")).context("nothing is told of the pods")?;
    ensure!(removed.contains("boots") && !removed.contains("hegel"), "{removed}");
    ensure!(journal(&one.client().await?).await?.acts(), "it is not moved back");
    eventually("the pods to be deleted", STEP, async || {
        let left = sets(&there).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let left: Vec<_> = left.items.iter().map(ResourceExt::name_any).collect();
        if left == ["boots-of-others", "hegel"] { Ok(Some(())) } else { Err(format!("there are {left:?}")) }
    })
    .await?;
    let settings: Api<ConfigMap> = Api::namespaced(there.clone(), SYSTEM_NAMESPACE);
    ensure!(settings.get_opt("tinkerbell-settings").await?.is_none(), "the settings are still there");
    Ok(())
}

/// A DaemonSet with our label and a name that is not ours.
async fn like_boots(client: &Client, name: &str) -> Result<()> {
    let boots = sets(client).get(Component::Boots.name()).await?;
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), labels: boots.metadata.labels, ..ObjectMeta::default() };
    sets(client)
        .create(&PostParams::default(), &DaemonSet { metadata, spec: boots.spec, status: None })
        .await?;
    Ok(())
}

fn sets(client: &Client) -> Api<DaemonSet> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

fn pod_name(daemon: Component) -> String {
    format!("{}-1", daemon.name())
}

/// What the controller and the scheduler do with one node.
async fn schedule(client: &Client, daemon: Component) -> Result<()> {
    let set = sets(client).get(daemon.name()).await?;
    let template = set.spec.context("it has no spec")?.template;
    let mut spec = template.spec.context("its pods have no spec")?;
    spec.node_name = Some("m1".to_owned());
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = Some(pod_name(daemon));
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    pods.create(&PostParams::default(), &Pod { metadata, spec: Some(spec), status: None }).await?;
    counts(client, daemon, 0).await
}

async fn counts(client: &Client, daemon: Component, ready: i32) -> Result<()> {
    let set = sets(client).get(daemon.name()).await?;
    let status = json!({ "status": {
        "observedGeneration": set.metadata.generation, "currentNumberScheduled": 1, "desiredNumberScheduled": 1,
        "numberMisscheduled": 0, "updatedNumberScheduled": 1, "numberReady": ready,
    }});
    sets(client).patch_status(daemon.name(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// What the kubelet says of the container.
async fn says(client: &Client, daemon: Component, state: Value) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let status = json!({ "status": { "containerStatuses": [{
        "name": daemon.name(), "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }] } });
    pods.patch_status(&pod_name(daemon), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// boots tells machines the address, and has it; nobody but boots may do anything to the host.
async fn is_made_for_machines(client: &Client) -> Result<()> {
    for daemon in Component::ALL {
        let set = serde_json::to_value(sets(client).get(daemon.name()).await?)?;
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let flags: Vec<&str> =
            container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_boots = daemon == Component::Boots;
        for flag in [format!("--public-ipv4={ADDRESS}"), format!("--boots-virtual-ip={ADDRESS}")] {
            ensure!(flags.contains(&flag.as_str()) == is_boots, "{} has {flags:?}", daemon.name());
        }
        let added = container["securityContext"]["capabilities"]["add"].is_array();
        ensure!(added == is_boots, "{} has {container}", daemon.name());
    }
    Ok(())
}
