// SPDX-License-Identifier: Apache-2.0
//! From two files to a real Kubernetes that owns its own provisioner: a control-plane machine (BIOS, IPMI) and a worker (UEFI,
//! Redfish), emulated and powered off, with `tink up` as a process, `tink cluster create` on an unmodified `cluster.yaml` and
//! `hardware.csv`, and in the machines the real kubeadm, kubelet, containerd, etcd and kube-vip of the node image.
//!
//! Then the daemons move in as pods; in the middle of that everything on the admin machine is killed, started again, and the same
//! command goes on. Nothing of ours is left there. The cluster is asked for a worker more than there is hardware for, and makes it
//! of the Hardware that is then applied with kubectl. Every machine has read its image once. At the end the daemons move back to a
//! new `tink up`, which takes the cluster apart.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

mod nodes;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Mac;
use api::anywhere::v1alpha1::{Cluster, NAMESPACE};
use kube::{Api, Client};
use lab::bmc::{Account, Behaviour, Kind};
use lab::chassis::{Chassis as _, PowerState};
use lab::machine::{Firmware, MachineSpec};
use lab::netns::Namespace;
use lab::rack::{BmcSpec, DEMO_PASSWORD, DEMO_USER, Rack, RackSpec, ServerSpec};
use serde_json::Value;
use tests::cluster::{self, ENDPOINT, Plan, Template, table_of};
use tests::files::Files;
use tests::stack::{Up, client_of, eventually, is_given_back, tink};
use tests::{kubernetes, runner};
use tink::demo::{Artefacts, Server, describe};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const NAME: &str = "a_real_cluster_comes_to_own_its_provisioner_and_makes_a_node";
const READY: Duration = Duration::from_secs(120);
/// From powered off to the last node, on a machine whose cores are shared.
const CREATE: Duration = Duration::from_secs(2400);
/// One machine, whose provisioner is emulated too.
const GROW: Duration = Duration::from_secs(2000);
/// Daemons start as pods, or stop.
const MOVE: Duration = Duration::from_secs(1200);
/// For one machine to become a node: an emulated one is slow.
const PATIENCE: &str = "30m0s";
const NETWORK: &str = include_str!("../../node/network/manifest.yaml");
/// Processors and memory of the machines: kubeadm asks two and 1700 MiB of the control plane at the least.
const SIZES: [(u32, u32); 3] = [(2, 3072), (1, 2048), (1, 2048)];
const KUBECONFIG: &str = "rack/rack-eks-a-cluster.kubeconfig";
const CLUSTERS: &str = "clusters.anywhere.eks.amazonaws.com";
/// A worker more than there were.
const MORE: &str =
    r#"[{"op": "replace", "path": "/spec/workerNodeGroupConfigurations/0/count", "value": 2}]"#;

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("kubernetes-", run))
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut stage = Stage::set(namespace, dir).await?;
    let outcome = stage.play().await;
    if outcome.is_err() {
        // Whoever reads the log has nothing else to look at.
        let words = ["get", "nodes,pods,clusters,workflows,jobs.bmc,hardware", "-A", "-o", "wide"];
        println!("{}", stage.kubectl(&words).unwrap_or_else(|error| error.to_string()));
    }
    outcome
}

/// The rack, its admin machine, and the owner's web server.
struct Stage {
    started: Instant,
    dir: PathBuf,
    rack: Rack,
    /// In the order of the rack.
    servers: Vec<Server>,
    provisioner: Ipv4Addr,
    files: Files,
    /// Name of the image of nodes.
    image: String,
}

impl Stage {
    async fn set(namespace: &Namespace, dir: &Path) -> Result<Self> {
        let (image, stack) = (node_image()?, stack_image()?);
        let mut spec = RackSpec::demo()?;
        spec.servers.push(third()?);
        for (server, (processors, memory)) in spec.servers.iter_mut().zip(SIZES) {
            server.machine.processors = processors;
            server.machine.memory_mib = memory;
        }
        let servers = spec.servers.iter().map(|one| describe(one, &spec)).collect::<Result<Vec<_>>>()?;
        let provisioner = spec.provisioner;
        let rack = Rack::start(namespace, spec, dir).await?;
        let name = |path: &Path| {
            Ok::<_, anyhow::Error>(path.file_name().context("a file")?.to_string_lossy().into_owned())
        };
        let stage = Self {
            started: Instant::now(),
            dir: dir.to_owned(),
            rack,
            servers,
            provisioner,
            image: name(&image)?,
            files: Files::start(provisioner, [image, stack]).await?,
        };
        stage.write_files()?;
        Ok(stage)
    }

    /// The files of the cluster, as their owner would write them; the third machine's has a table of its own.
    fn write_files(&self) -> Result<()> {
        let (first, last) = self.servers.split_at(2);
        fs::write(self.dir.join("hardware.csv"), table_of(first.iter().zip(["cp", "wk"])))?;
        fs::write(self.dir.join("third.csv"), table_of(last.iter().zip(["wk"])))?;
        let network = NETWORK.replace("ENDPOINT", &ENDPOINT.to_string());
        let plan = Plan::new(1, 1, self.files.url(&self.image));
        let patience = Some(PATIENCE);
        cluster::write(&self.dir, &Plan { template: Template::OfSystem, network, patience, ..plan })
    }

    async fn play(&mut self) -> Result<()> {
        let mut up = self.up()?;
        up.ready(READY).await?;
        self.step("the stack is ready");
        self.create().await?;
        self.step("the cluster is ready");
        let cluster = client_of(&self.kubeconfig()).await?;
        self.works(&cluster).await?;
        self.were_installed_once(2)?;

        up = self.moves_in(up).await?;
        nodes::run_the_daemons(&cluster).await?;
        self.step("our daemons are ready as its pods");
        let cleaned = self.tink(&["cluster", "cleanup"])?;
        ensure!(cleaned.contains("nothing of ours is left here"), "{cleaned}");
        let ended = up.ended(READY).await?;
        ensure!(ended.success() && !self.state().exists(), "tink up ended with {ended}");
        self.step("nothing of ours is left on the admin machine");

        self.grows(&cluster).await?;
        self.were_installed_once(3)?;

        let mut up = self.up()?;
        up.ready(READY).await?;
        let back = Mover::start(self, &self.kubeconfig(), &self.state().join("kubeconfig"))?;
        back.until(self, None).await?;
        self.step("the daemons are back on the admin machine");
        self.tink(&["cluster", "delete", "rack", "--yes"])?;
        self.step("the cluster is deleted");
        self.is_gone().await?;
        let ended = up.terminate(READY).await?;
        ensure!(ended.success(), "tink up ended with {ended}");
        Ok(())
    }

    fn step(&self, what: &str) {
        println!("  {:4} s  {what}", self.started.elapsed().as_secs());
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join(KUBECONFIG)
    }

    /// `tink up` on the admin machine.
    fn up(&self) -> Result<Up> {
        Up::start(&Artefacts::find()?.up_flags(&self.state(), self.provisioner), &self.dir.join("up.log"))
    }

    fn tink(&self, arguments: &[&str]) -> Result<String> {
        tests::stack::run_tink(&self.state(), arguments)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let program = kubernetes::programs()?.join("kubectl");
        let output =
            Command::new(program).arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).output()?;
        let (said, problem) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "kubectl {}: {problem}{said}", arguments.join(" "));
        Ok(said.into_owned())
    }

    /// The same, until an API server takes it that has little time for each.
    async fn kubectl_says(&self, arguments: &[&str]) -> Result<String> {
        eventually(&format!("kubectl {}", arguments.join(" ")), READY, async || {
            self.kubectl(arguments).map(Some).map_err(|error| error.to_string())
        })
        .await
    }

    /// `tink cluster create`, and what it tells.
    async fn create(&self) -> Result<()> {
        let errors = fs::File::create(self.dir.join("create.log"))?;
        let mut maker = cluster::create(&self.dir, &self.state())?;
        let stack = self.files.url(STACK);
        let maker = maker.args(["--output", "json", "--stack-image", &stack]);
        let mut maker = maker.stdout(Stdio::piped()).stderr(errors).spawn()?;
        let mut lines = BufReader::new(maker.stdout.take().context("no output")?).lines();
        let mut waits = String::new();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
                match event.get("event").and_then(Value::as_str) {
                    Some("waits") => waits = line,
                    Some("begins" | "ready") => {}
                    _ => self.step(&line),
                }
            }
            anyhow::Ok(())
        };
        let ended = tokio::time::timeout(CREATE, told).await;
        ended.map_err(|_| anyhow::anyhow!("the cluster is not ready; last: {waits}"))??;
        let ended = maker.wait().await?;
        let problem = || fs::read_to_string(self.dir.join("create.log")).unwrap_or_default();
        ensure!(ended.success(), "it ended with {ended}: {}", problem());
        Ok(())
    }

    /// It is what was asked for.
    async fn works(&self, cluster: &Client) -> Result<()> {
        nodes::are(cluster, &["m1", "m2"]).await?;
        let (written, address) = (fs::read_to_string(self.kubeconfig())?, format!("https://{ENDPOINT}:6443"));
        ensure!(written.contains(&address), "the kubeconfig does not name {address}");
        nodes::run_the_system(cluster, 2).await?;
        self.step("all pods of the system are ready");
        nodes::have_a_pod_that_reaches_the_api(cluster).await?;
        self.step("a pod of the worker has reached the API");
        Ok(())
    }

    /// These first machines, and no others, have read the image, once each.
    fn were_installed_once(&self, machines: usize) -> Result<()> {
        let mut readers = self.files.readers(&self.image);
        readers.sort_unstable();
        let wanted: Vec<_> =
            self.servers.iter().take(machines).map(|server| IpAddr::V4(server.address)).collect();
        ensure!(readers == wanted, "the image was read by {readers:?}, and not by {wanted:?} alone");
        Ok(())
    }

    /// The daemons move in. When those on the admin machine have stopped, everything there is killed and started again, and the same
    /// command goes on. Gives the `tink up` that runs then.
    async fn moves_in(&self, mut up: Up) -> Result<Up> {
        let (here, there) = (self.state().join("kubeconfig"), self.kubeconfig());
        let mover = Mover::start(self, &here, &there)?;
        mover.until(self, Some("\"done\",\"step\":\"drain\"")).await?;
        up.kill()?;
        drop(up);
        self.step("everything on the admin machine was killed");
        let mut up = self.up()?;
        // Its daemons stay away, and so do their health ports.
        up.ready_on(9105..=9105, READY).await?;
        let told = Mover::start(self, &here, &there)?.until(self, None).await?;
        ensure!(
            told.iter().any(|line| line.contains(r#""done","step":"own""#)),
            "the first was not killed in the middle"
        );
        self.step("the cluster owns the machines");
        Ok(up)
    }

    /// One worker more, of which there is no Hardware yet; then there is.
    async fn grows(&self, cluster: &Client) -> Result<()> {
        let patch = ["-n", NAMESPACE, "patch", CLUSTERS, "rack", "--type", "json", "-p", MORE];
        self.kubectl_says(&patch).await?;
        let objects: Api<Cluster> = Api::namespaced(cluster.clone(), NAMESPACE);
        eventually("the want of a machine", READY, async || {
            let seen = objects.get_status("rack").await.map_err(|error| error.to_string())?;
            let told = seen.status.unwrap_or_default().failure_message.unwrap_or_default();
            if told.contains("lacks 1 of its machines") { Ok(Some(())) } else { Err(told) }
        })
        .await?;
        self.step("the cluster lacks a machine");
        let csv = self.dir.join("third.csv").display().to_string();
        let objects = self.dir.join("third.yaml");
        fs::write(&objects, self.tink(&["hardware", "generate", "-z", &csv, "--secrets"])?)?;
        self.kubectl_says(&["apply", "-f", &objects.display().to_string()]).await?;
        let until = format!("--timeout={}s", GROW.as_secs());
        let resource = format!("{CLUSTERS}/rack");
        self.kubectl(&["-n", NAMESPACE, "wait", &resource, "--for", "condition=Ready", &until])?;
        self.step("the cluster has made a third node of the Hardware that was applied");
        nodes::are(cluster, &["m1", "m2", "m3"]).await?;
        nodes::run_the_system(cluster, 3).await
    }

    async fn is_gone(&self) -> Result<()> {
        for server in self.rack.servers() {
            let machine = server.machine();
            ensure!(machine.power() == PowerState::Off, "{} is still on", machine.identity().name);
        }
        is_given_back(&self.state(), "rack").await
    }
}

/// A running `tink cluster move`. Killed when dropped.
struct Mover(tokio::process::Child);

impl Mover {
    fn start(stage: &Stage, from: &Path, to: &Path) -> Result<Self> {
        let mut mover = tokio::process::Command::new(tink()?);
        mover.arg("--state-dir").arg(stage.state()).arg("--kubeconfig").arg(from);
        mover.args(["cluster", "move", "--output", "json", "--to"]).arg(to);
        mover.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(Self(mover.spawn()?))
    }

    /// Until it tells this, when it is killed; without, to its end, which must be good. Gives what it told.
    async fn until(mut self, stage: &Stage, moment: Option<&str>) -> Result<Vec<String>> {
        let mut lines = BufReader::new(self.0.stdout.take().context("no output")?).lines();
        let mut all = Vec::new();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                stage.step(&line);
                let is_it = moment.is_some_and(|moment| line.contains(moment));
                all.push(line);
                if is_it {
                    return Ok::<_, std::io::Error>(true);
                }
            }
            Ok(false)
        };
        if tokio::time::timeout(MOVE, told).await.context("the move does not end")?? {
            self.0.kill().await?;
            return Ok(all);
        }
        let output = self.0.wait_with_output().await?;
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success() && moment.is_none(),
            "the move ended with {}: {problem}",
            output.status
        );
        Ok(all)
    }
}

/// The machine that is racked when the cluster is there.
fn third() -> Result<ServerSpec> {
    Ok(ServerSpec {
        machine: MachineSpec::new("m3", Mac::from([0x52, 0x54, 0, 0, 0, 0x13]), Firmware::Bios)?,
        bmc: BmcSpec {
            kind: Kind::Ipmi,
            address: SocketAddr::from(([172, 31, 0, 103], 623)),
            account: Account::administrator(DEMO_USER, DEMO_PASSWORD)?,
            behaviour: Behaviour::default(),
        },
    })
}

/// The image of nodes.
fn node_image() -> Result<PathBuf> {
    let artefacts = std::env::var_os("TINK_ARTEFACTS").context("TINK_ARTEFACTS is not set: run ./x test")?;
    let folder = PathBuf::from(artefacts).join("node");
    let files = fs::read_dir(&folder).context("there is no node image: run ./x test")?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    paths.find(|path| path.to_string_lossy().ends_with(".raw.zst")).context("there is no node image")
}

/// The container image of the daemons.
fn stack_image() -> Result<PathBuf> {
    let image =
        PathBuf::from(std::env::var_os("STACK_IMAGE").context("STACK_IMAGE is not set: run ./x test")?);
    ensure!(image.is_file() && image.ends_with(STACK), "{} is no {STACK}: run ./x test", image.display());
    Ok(image)
}

const STACK: &str = "tink.tar";
