// SPDX-License-Identifier: Apache-2.0
//! From two files to a cluster of three control-plane machines and two workers, on simulated servers that become real members of
//! a real etcd: `tink cluster create` is killed with SIGKILL at each thing that it tells, and goes on each time. The machines join
//! in their order, each image is read once. Then the keeper is started: the Cluster asks for one worker more than there is hardware
//! for, the Hardware that is applied after it is what was missing, and `tink cluster delete`, which leaves the work to the keeper,
//! leaves every machine off and free.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::anywhere::v1alpha1::{Cluster, NAMESPACE};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use lab::chassis::{BootTarget, Chassis as _, PowerState};
use lab::netns::Namespace;
use serde_json::Value;
use tests::apart::Program;
use tests::cluster::{self, Plan, comes_up, table};
use tests::kubeadm::Order;
use tests::runner;
use tests::simulated::{self, PROVISIONER, Simulated};
use tests::stack::{Up, client, client_of, eventually, is_given_back, run_tink};
use tests::web::{self, Web};
use tink::demo::Artefacts;
use tokio::io::{AsyncBufReadExt as _, BufReader};

const NAME: &str = "a_cluster_comes_to_be_although_its_maker_is_killed_at_each_step";
const READY: Duration = Duration::from_secs(120);
/// For the whole of it, with all kills, on a machine whose cores are shared.
const CREATE: Duration = Duration::from_secs(900);
const PASSWORD: &str = "secret-7";
const DISK: u64 = 2 << 20;
const IMAGE: usize = 1200 << 10;
const CONTROL_PLANE: [&str; 3] = ["cp1", "cp2", "cp3"];
const WORKERS: [&str; 2] = ["wk1", "wk2"];
/// Not in the files that the cluster is made from.
const LATE: &str = "wk3";
/// For one more worker.
const GROW: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("create-", run))
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    simulated::plug(namespace)?;
    let (started, state) = (Instant::now(), dir.join("state"));
    let step = |what: &str| println!("  {:4} s  {what}", started.elapsed().as_secs());
    // An inventory names disks below /dev.
    let disks = tempfile::Builder::new().prefix("create-").tempdir_in("/dev/shm")?;
    let mut up = Up::start(&Artefacts::find()?.up_flags(&state, PROVISIONER), &dir.join("up.log"))?;
    let image = web::image(IMAGE);
    let web = Web::start(PROVISIONER, image.clone(), IMAGE).await?;
    web.release();
    let order: Order = Arc::new(Mutex::new(Vec::new()));
    let mut machines = Vec::new();
    for (number, name) in (1..).zip(CONTROL_PLANE.iter().chain(&WORKERS).chain([&LATE])) {
        machines.push(mount(dir, disks.path(), name, number, &image, &order).await?);
    }
    let late = machines.split_off(CONTROL_PLANE.len() + WORKERS.len());
    fs::write(dir.join("hardware.csv"), table(&machines)?)?;
    let (control_plane, workers) = (CONTROL_PLANE.len(), WORKERS.len());
    cluster::write(dir, &Plan::new(control_plane, workers, web.slow_url()))?;
    up.ready(READY).await?;
    step("the stack is ready");

    let kills = create_with_kills(dir, &state).await?;
    step(&format!("the cluster is ready after {} kills", kills.len()));
    for action in ["claim", "boot", "admit", "revoke", "apply"] {
        let begins = format!("\"event\":\"begins\",\"action\":\"{action}\"");
        let told = kills.iter().filter(|line| line.contains(&begins)).count();
        ensure!(told > 0, "it was never killed when it was about to {action}: {kills:#?}");
    }
    let came_up = order.lock().map_err(|_| anyhow::anyhow!("a machine panicked"))?.clone();
    let members: Vec<_> = came_up.iter().filter(|name| name.starts_with("cp")).collect();
    ensure!(members == CONTROL_PLANE.iter().collect::<Vec<_>>(), "they joined in the order {members:?}");
    ensure!(came_up.first().map(String::as_str) == Some("cp1"), "somebody was before the first: {came_up:?}");
    let images = web.slow_requests();
    ensure!(images == 5, "five machines read {images} images");
    for machine in &machines {
        let starts = machine.chassis.starts();
        ensure!(starts == [BootTarget::Pxe], "{} was started {starts:?}", machine.server.name);
    }
    is_a_cluster(dir, &["cp1", "cp2", "cp3", "wk1", "wk2"]).await?;
    let shown = run_tink(&state, &["cluster", "get", "rack"])?;
    ensure!(shown.matches(" True ").count() == 5, "not all is ready:\n{shown}");

    let keeper = grows(dir, &state, &late).await?;
    step("one more worker has joined");
    is_a_cluster(dir, &["cp1", "cp2", "cp3", "wk1", "wk2", LATE]).await?;
    ensure!(web.slow_requests() == 6, "six machines read {} images", web.slow_requests());

    run_tink(&state, &["cluster", "delete", "rack", "--yes"])?;
    step("the cluster is deleted");
    machines.extend(late);
    is_gone(&state, &machines).await?;
    let ended = keeper.terminate(READY).await?;
    ensure!(ended.success(), "the keeper ended with {ended}");
    let ended = up.terminate(READY).await?;
    ensure!(ended.success(), "tink up ended with {ended}");
    Ok(())
}

async fn mount(
    dir: &Path,
    disks: &Path,
    name: &str,
    number: u8,
    image: &[u8],
    order: &Order,
) -> Result<Simulated> {
    let mounted = simulated::mount(disks, name, number, PASSWORD, DISK).await?;
    comes_up(&mounted, dir, image, order)?;
    Ok(mounted)
}

/// Runs it as often as it tells something that it was not killed at before; gives what it was killed at.
async fn create_with_kills(dir: &Path, state: &Path) -> Result<BTreeSet<String>> {
    let mut killed_at = BTreeSet::new();
    let until = Instant::now() + CREATE;
    loop {
        ensure!(Instant::now() < until, "it is not done; killed at {killed_at:#?}");
        let errors = fs::File::options().create(true).append(true).open(dir.join("create.log"))?;
        let mut maker = cluster::create(dir, state)?;
        maker.args(["--offline", "--output", "json"]).stdout(Stdio::piped()).stderr(errors);
        let mut maker = maker.spawn()?;
        let mut lines = BufReader::new(maker.stdout.take().context("no output")?).lines();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(what) = moment(&line)?
                    && killed_at.insert(what)
                {
                    return Ok::<_, anyhow::Error>(true);
                }
            }
            Ok(false)
        };
        let kill = tokio::time::timeout(CREATE, told).await.context("it tells nothing")??;
        if kill {
            maker.kill().await?;
            continue;
        }
        let ended = maker.wait().await?;
        ensure!(ended.success(), "it ended with {ended}: {}", fs::read_to_string(dir.join("create.log"))?);
        return Ok(killed_at);
    }
}

/// What a line tells of, without what differs from run to run; nothing for a wait.
fn moment(line: &str) -> Result<Option<String>> {
    let event: BTreeMap<String, Value> = serde_json::from_str(line).with_context(|| line.to_owned())?;
    match event.get("event").and_then(Value::as_str) {
        Some("waits" | "failed" | "ready") => Ok(None),
        Some(_) => Ok(Some(line.to_owned())),
        None => bail!("no event: {line}"),
    }
}

/// The keeper makes the cluster larger when its object says so, as soon as there is a machine for it.
async fn grows(dir: &Path, state: &Path, late: &[Simulated]) -> Result<Program> {
    let flags = ["orchestrator".to_owned(), format!("--state-dir={}", state.display())];
    let mut keeper = Program::start("tink", "orchestrator", &flags, 9106, dir)?;
    keeper.ready(READY).await?;
    let clusters: Api<Cluster> = Api::namespaced(client(state).await?, NAMESPACE);
    let mut cluster = clusters.get("rack").await?;
    let groups = &mut cluster.spec.worker_node_group_configurations;
    groups.iter_mut().for_each(|group| group.count = Some(3));
    clusters.replace("rack", &PostParams::default(), &cluster).await?;
    let status = async || Ok::<_, String>(clusters.get_status("rack").await.map_err(text)?);
    eventually("the want of a machine", GROW, async || {
        let status = status().await?.status.unwrap_or_default();
        let told = status.failure_message.unwrap_or_default();
        if told.contains("md-0 lacks 1 of its machines") { Ok(Some(())) } else { Err(told) }
    })
    .await?;
    fs::write(dir.join("late.csv"), table(late)?)?;
    run_tink(state, &["hardware", "apply", "-z", &dir.join("late.csv").display().to_string()])?;
    eventually("the third worker", GROW, async || {
        let cluster = status().await?;
        let seen = cluster.status.unwrap_or_default();
        let ready = seen.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        let is_of_now = seen.observed_generation == cluster.metadata.generation;
        if ready && is_of_now { Ok(Some(())) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    Ok(keeper)
}

fn text(error: kube::Error) -> String {
    error.to_string()
}

async fn is_a_cluster(dir: &Path, wanted: &[&str]) -> Result<()> {
    let kubeconfig = dir.join("rack/rack-eks-a-cluster.kubeconfig");
    let mode = fs::metadata(&kubeconfig)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the kubeconfig has mode {mode:o}");
    let cluster = client_of(&kubeconfig).await?;
    let nodes = Api::<Node>::all(cluster.clone()).list(&ListParams::default()).await?.items;
    let names: Vec<_> = nodes.iter().map(|node| node.name_any()).collect();
    ensure!(names == wanted, "the nodes are {names:?}");
    let identity = nodes.first().and_then(|node| node.spec.as_ref()?.provider_id.clone());
    ensure!(identity.as_deref() == Some("tinkerbell://eksa-system/cp1"), "{identity:?}");
    let networks: Api<ConfigMap> = Api::namespaced(cluster.clone(), "kube-system");
    networks.get("network").await.context("the network plugin")?;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(cluster, "kube-system");
    let tokens = secrets.list(&ListParams::default().fields("type=bootstrap.kubernetes.io/token")).await?;
    ensure!(tokens.items.is_empty(), "{} tokens are left", tokens.items.len());
    Ok(())
}

async fn is_gone(state: &Path, machines: &[Simulated]) -> Result<()> {
    for machine in machines {
        ensure!(machine.chassis.power() == PowerState::Off, "{} is still on", machine.server.name);
    }
    is_given_back(state, "rack").await
}
