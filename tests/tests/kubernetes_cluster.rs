// SPDX-License-Identifier: Apache-2.0
//! From two files to a real Kubernetes and back: a control-plane machine (BIOS, IPMI) and a worker (UEFI, Redfish), emulated and
//! powered off, with `tink up` as a process, `tink cluster create` on an unmodified `cluster.yaml` and `hardware.csv`, and in the
//! machines the real kubeadm, kubelet, containerd, etcd and kube-vip of the node image (`./x build --node`).
//!
//! Both nodes are ready, everything of the control plane runs, the cluster's address is where kube-vip says, and a pod of the
//! worker reaches the API through its Service. Then `tink cluster delete` leaves both machines off and free.
//! It has not passed: both machines are installed and `kubeadm init` starts the control plane, but on two cores with other work the
//! API server ended itself before it was ready. Its name keeps it out of `./x test` until then, and it is skipped without the image.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::anywhere::v1alpha1::NAMESPACE;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, LogParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use lab::chassis::{Chassis as _, PowerState};
use lab::netns::Namespace;
use lab::rack::{Rack, RackSpec};
use serde_json::{Value, json};
use tests::cluster::{self, ENDPOINT, Plan, Template, table_of};
use tests::runner;
use tests::stack::{Up, client_of, eventually, is_given_back, run_tink};
use tink::demo::{Artefacts, Server, describe};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const NAME: &str = "full_two_machines_become_a_real_kubernetes_and_are_given_back";
const READY: Duration = Duration::from_secs(120);
/// From powered off to the last node, on a machine whose cores are shared.
const CREATE: Duration = Duration::from_secs(1800);
/// For pods that start when their node is ready.
const PODS: Duration = Duration::from_secs(400);
const VERSION: &str = "v1.34.2";
const NETWORK: &str = include_str!("../node/network/manifest.yaml");
/// Processors and memory of both machines: kubeadm asks two and 1700 MiB of the control plane at the least.
const SIZES: [(u32, u32); 2] = [(2, 3072), (1, 2048)];
/// Pods of `kube-system` when all is well, without the node's name or the end that a controller gave them.
const PODS_OF_THE_SYSTEM: [(&str, usize); 8] = [
    ("coredns", 2),
    ("etcd", 1),
    ("kube-apiserver", 1),
    ("kube-controller-manager", 1),
    ("kube-proxy", 2),
    ("kube-scheduler", 1),
    ("kube-vip", 1),
    ("network", 2),
];

fn main() -> ExitCode {
    match node_image() {
        Ok(_) => runner::main(NAME, || runner::in_namespace("kubernetes-", run)),
        Err(why) => runner::skipped(NAME, &why),
    }
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    let (started, state) = (Instant::now(), dir.join("state"));
    let step = |what: &str| println!("  {:4} s  {what}", started.elapsed().as_secs());
    let mut spec = RackSpec::demo()?;
    for (server, (processors, memory)) in spec.servers.iter_mut().zip(SIZES) {
        server.machine.processors = processors;
        server.machine.memory_mib = memory;
    }
    let servers = spec.servers.iter().map(|one| describe(one, &spec)).collect::<Result<Vec<_>>>()?;
    let provisioner = spec.provisioner;
    let (images, image) = node_image()?;
    write_files(dir, &servers, format!("http://{provisioner}:7171/images/{image}"))?;
    let rack = Rack::start(namespace, spec, dir).await?;
    let mut flags = Artefacts::find()?.up_flags(&state, provisioner);
    flags.retain(|flag| !flag.starts_with("--images-dir"));
    flags.push(format!("--images-dir={}", images.display()));
    let mut up = Up::start(&flags, &dir.join("up.log"))?;
    up.ready(READY).await?;
    step("the stack is ready");

    create(dir, &state, &step).await?;
    step("the cluster is ready");
    let kubeconfig = dir.join("rack/rack-eks-a-cluster.kubeconfig");
    let cluster = client_of(&kubeconfig).await?;
    nodes_are_what_was_asked_for(&cluster).await?;
    let address = format!("https://{ENDPOINT}:6443");
    ensure!(fs::read_to_string(&kubeconfig)?.contains(&address), "the kubeconfig does not name {address}");
    eventually("the pods of the system", PODS, async || system_runs(&cluster).await).await?;
    step("all pods of the system are ready");
    a_pod_of_the_worker_reaches_the_api(&cluster).await?;
    step("a pod of the worker has reached the API");

    run_tink(&state, &["cluster", "delete", "rack", "--yes"])?;
    step("the cluster is deleted");
    is_gone(&state, &rack).await?;
    rack.stop().await;
    let ended = up.terminate(READY).await?;
    ensure!(ended.success(), "tink up ended with {ended}");
    Ok(())
}

/// The folder of the node image, and the name of its file.
fn node_image() -> Result<(PathBuf, String)> {
    let artefacts = std::env::var_os("TINK_ARTEFACTS").context("TINK_ARTEFACTS is not set: run ./x test")?;
    let folder = PathBuf::from(artefacts).join("node");
    let files = fs::read_dir(&folder).context("there is no node image: run ./x build --node")?;
    let mut names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let image = names.find(|name| name.ends_with(".raw.zst")).context("there is no node image")?;
    Ok((folder, image))
}

/// The files of the cluster, as their owner would write them.
fn write_files(dir: &Path, servers: &[Server], image: String) -> Result<()> {
    fs::write(dir.join("hardware.csv"), table_of(servers.iter().zip(["cp", "wk"])))?;
    let network = NETWORK.replace("ENDPOINT", &ENDPOINT.to_string());
    cluster::write(dir, &Plan { template: Template::OfSystem, network, ..Plan::new(1, 1, image) })
}

/// `tink cluster create`, and what it tells.
async fn create(dir: &Path, state: &Path, step: &impl Fn(&str)) -> Result<()> {
    let errors = fs::File::create(dir.join("create.log"))?;
    let mut maker = cluster::create(dir, state)?;
    let mut maker = maker.args(["--output", "json"]).stdout(Stdio::piped()).stderr(errors).spawn()?;
    let mut lines = BufReader::new(maker.stdout.take().context("no output")?).lines();
    let mut waits = String::new();
    let told = async {
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            match event.get("event").and_then(Value::as_str) {
                Some("waits") => waits = line,
                Some("begins" | "ready") => {}
                _ => step(&line),
            }
        }
        anyhow::Ok(())
    };
    let ended = tokio::time::timeout(CREATE, told).await;
    ended.map_err(|_| anyhow::anyhow!("the cluster is not ready; last: {waits}"))??;
    let ended = maker.wait().await?;
    ensure!(ended.success(), "it ended with {ended}: {}", fs::read_to_string(dir.join("create.log"))?);
    Ok(())
}

async fn nodes_are_what_was_asked_for(cluster: &Client) -> Result<()> {
    let nodes = Api::<Node>::all(cluster.clone()).list(&ListParams::default()).await?.items;
    let names: Vec<_> = nodes.iter().map(|node| node.name_any()).collect();
    ensure!(names == ["m1", "m2"], "the nodes are {names:?}");
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
        ensure!(controls == (name == "m1"), "{name} has another part in the control plane");
    }
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Whether every pod of the system is there and ready; else which are.
async fn system_runs(cluster: &Client) -> Result<Option<()>, String> {
    let pods: Api<Pod> = Api::namespaced(cluster.clone(), "kube-system");
    let pods = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
    let mut ready = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_ready(pod)) {
        let name = pod.name_any();
        let known = PODS_OF_THE_SYSTEM.iter().find(|(known, _)| name.starts_with(&format!("{known}-")));
        *ready.entry(known.map_or(name.clone(), |(known, _)| (*known).to_owned())).or_insert(0) += 1;
    }
    let wanted = PODS_OF_THE_SYSTEM.map(|(name, count)| (name.to_owned(), count));
    if ready == BTreeMap::from(wanted) { Ok(Some(())) } else { Err(format!("ready are {ready:?}")) }
}

/// The network plugin once more, as a pod of the worker with an address of its own: it ends well when it has read the nodes
/// through the API's Service, whose name the cluster's name server knows.
async fn a_pod_of_the_worker_reaches_the_api(cluster: &Client) -> Result<()> {
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
    pods.create(&PostParams::default(), &probe).await?;
    eventually("a pod of the worker", PODS, async || {
        let pod = pods.get("probe").await.map_err(|error| error.to_string())?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Succeeded") { Ok(Some(())) } else { Err(format!("{:?}", pod.status)) }
    })
    .await?;
    let told = pods.logs("probe", &LogParams::default()).await?;
    ensure!(told.split_whitespace().eq(["m1", "m2"]), "it saw other nodes: {told}");
    Ok(())
}

async fn is_gone(state: &Path, rack: &Rack) -> Result<()> {
    for server in rack.servers() {
        let machine = server.machine();
        ensure!(machine.power() == PowerState::Off, "{} is still on", machine.identity().name);
    }
    is_given_back(state, "rack").await
}
