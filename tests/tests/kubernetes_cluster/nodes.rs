// SPDX-License-Identifier: Apache-2.0
//! What a real cluster is when all is well: its nodes, the pods of its system and of our daemons, and one that reaches the API
//! through its Service.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::access::Component;
use api::annotations::SYSTEM_NAMESPACE;
use api::anywhere::v1alpha1::NAMESPACE;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, LogParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tests::stack::eventually;

/// For pods that start when their node is ready.
const PODS: Duration = Duration::from_secs(400);
const VERSION: &str = "v1.34.2";
/// Pods of `kube-system` besides those that each node has, without the node's name or the end that a controller gave them.
const PODS_OF_THE_SYSTEM: [(&str, usize); 6] = [
    ("coredns", 2),
    ("etcd", 1),
    ("kube-apiserver", 1),
    ("kube-controller-manager", 1),
    ("kube-scheduler", 1),
    ("kube-vip", 1),
];
const PODS_OF_A_NODE: [&str; 2] = ["kube-proxy", "network"];

/// These nodes and no others, each as it was asked for; the first alone is of the control plane.
pub async fn are(cluster: &Client, wanted: &[&str]) -> Result<()> {
    eventually("the nodes", PODS, async || {
        seen(cluster, wanted).await.map(Some).map_err(|error| error.to_string())
    })
    .await
}

async fn seen(cluster: &Client, wanted: &[&str]) -> Result<()> {
    let nodes = Api::<Node>::all(cluster.clone()).list(&ListParams::default()).await?.items;
    let names: Vec<_> = nodes.iter().map(|node| node.name_any()).collect();
    ensure!(names == wanted, "the nodes are {names:?}");
    for node in &nodes {
        let (name, status) = (node.name_any(), node.status.clone().unwrap_or_default());
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        ensure!(ready.is_some_and(|ready| ready.status == "True"), "{name} is not ready: {ready:?}");
        let info = status.node_info.context("a node tells what runs it")?;
        ensure!(info.kubelet_version == VERSION, "the kubelet of {name} is {}", info.kubelet_version);
        let runtime = &info.container_runtime_version;
        ensure!(runtime.starts_with("containerd://"), "{name} runs containers with {runtime}");
        let identity = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
        ensure!(identity == Some(&format!("tinkerbell://{NAMESPACE}/{name}")), "{name} is {identity:?}");
        let controls = node.labels().contains_key("node-role.kubernetes.io/control-plane");
        ensure!(
            controls == (Some(&name.as_str()) == wanted.first()),
            "{name} has another part in the control plane"
        );
    }
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// How many pods of each name are ready, in a namespace where they are to be these.
async fn become_ready(cluster: &Client, namespace: &str, wanted: BTreeMap<String, usize>) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.clone(), namespace);
    eventually(&format!("the pods of {namespace}"), PODS, async || {
        let listed = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let mut ready = BTreeMap::new();
        for pod in listed.iter().filter(|pod| is_ready(pod)) {
            let name = pod.name_any();
            let known = wanted.keys().find(|known| name.starts_with(&format!("{known}-")));
            *ready.entry(known.unwrap_or(&name).clone()).or_insert(0) += 1;
        }
        if ready == wanted { Ok(Some(())) } else { Err(format!("ready are {ready:?}")) }
    })
    .await
}

/// Every pod of the system is there and ready.
pub async fn run_the_system(cluster: &Client, nodes: usize) -> Result<()> {
    let of_nodes = PODS_OF_A_NODE.map(|name| (name, nodes));
    let wanted = PODS_OF_THE_SYSTEM.into_iter().chain(of_nodes);
    let wanted = wanted.map(|(name, count)| (name.to_owned(), count)).collect();
    become_ready(cluster, "kube-system", wanted).await
}

/// Each of our daemons is there and ready.
pub async fn run_the_daemons(cluster: &Client) -> Result<()> {
    let wanted = Component::ALL.map(|daemon| (daemon.name().to_owned(), 1));
    become_ready(cluster, SYSTEM_NAMESPACE, BTreeMap::from(wanted)).await
}

/// The network plugin once more, as a pod of the worker with an address of its own: it ends well when it has read the nodes
/// through the API's Service, whose name the cluster's name server knows.
pub async fn have_a_pod_that_reaches_the_api(cluster: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.clone(), "kube-system");
    let probe: Pod = serde_json::from_value(json!({
        "metadata": { "name": "probe" },
        "spec": {
            "nodeName": "m2",
            "serviceAccountName": "network",
            "containers": [{
                "name": "probe",
                "image": "tests.invalid/network:1",
                "imagePullPolicy": "Never",
                "command": ["/usr/local/bin/network", "--nodes"],
                "env": [{ "name": "API_SERVER", "value": "https://kubernetes.default.svc" }],
            }],
            "restartPolicy": "OnFailure",
        },
    }))?;
    eventually("a pod to be taken", PODS, async || match pods.create(&PostParams::default(), &probe).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(())),
        other => other.map(|_| Some(())).map_err(|error| error.to_string()),
    })
    .await?;
    eventually("a pod of the worker", PODS, async || {
        let pod = pods.get("probe").await.map_err(|error| error.to_string())?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Succeeded") { Ok(Some(())) } else { Err(format!("{:?}", pod.status)) }
    })
    .await?;
    let told = eventually("the log of a pod", PODS, async || {
        pods.logs("probe", &LogParams::default()).await.map(Some).map_err(|error| error.to_string())
    })
    .await?;
    ensure!(told.split_whitespace().eq(["m1", "m2"]), "it saw other nodes: {told}");
    Ok(())
}
