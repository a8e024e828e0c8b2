// SPDX-License-Identifier: Apache-2.0
//! `./x demo --cluster`: simulated servers go from powered off to a cluster that owns its own provisioner, grow by one, and are off
//! again at the end. Every command is a program of its own that is started as its line says, and shows what it prints.
//!
//! Owns the story and what must be true between its commands; the admin machine is `admin`'s, the files `files`', the daemons of
//! the new cluster `successor`'s. The process is in a network namespace that is the rack: BMCs, agents, and what was installed. The
//! admin machine is a host of its own beside it, so that what `tink cluster cleanup` looks for there can only be the admin machine's.
//!
//! Nothing is pretended: what these machines cannot do is said where it comes up.

mod admin;
mod files;
mod successor;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use api::annotations::LABEL_OWNER_NAME;
use api::anywhere::v1alpha1::{Cluster, NAMESPACE};
use kube::Api;
use lab::chassis::{BootTarget, Chassis as _, PowerState};
use lab::netns::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use crate::cluster::{NETWORK, comes_up, table};
use crate::kubeadm::Order;
use crate::kubernetes;
use crate::simulated::{self, PROVISIONER, Simulated};
use crate::stack::{client_of, eventually};
use crate::web::{self, Web};
use admin::Admin;
use successor::Successor;

const CONTROL_PLANE: [&str; 3] = ["cp1", "cp2", "cp3"];
const WORKERS: [&str; 2] = ["wk1", "wk2"];
/// Racked after the cluster has moved into itself.
const LATE: &str = "wk3";
const SERVERS: usize = CONTROL_PLANE.len() + WORKERS.len() + 1;
const ADMIN: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
/// Where the cluster's own provisioner answers.
const OWN: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 6);
const PASSWORD: &str = "secret-7";
const DISK: u64 = 2 << 20;
const IMAGE: usize = 1200 << 10;
const KUBECONFIG: &str = "rack/rack-eks-a-cluster.kubeconfig";
/// For everything, on a machine that does other things too.
const DEADLINE: Duration = Duration::from_secs(900);
/// Until a program is ready, or has ended.
const READY: Duration = Duration::from_secs(120);
/// Until everything that was killed is gone.
const GONE: Duration = Duration::from_secs(30);

const ABOUT: &str = "\
Six simulated servers, all powered off, in a network of their own. Real: their BMCs (odd ones speak IPMI, even ones Redfish), the agent
that writes their disks, and what each becomes once it is installed: a member of etcd, with kube-apiserver 1.34 on the first. They have
no processor: the agent begins when a BMC starts a server from the network, without DHCP, iPXE and HookOS in between (`./x demo` shows
those), and there is no kubelet, so that no pod ever runs. Commands are typed on the admin machine, 172.31.0.2.";

const PODS: &str = "\
Here no pod can run (there is no kubelet), so --without-pods: the demo starts the same daemons as plain programs beside the new API
server, each with the token of its account, where on real machines `tink cluster move` would have installed them as pods.";

/// Shows it; everything lies in `dir` and stays there, or in a folder that is removed at the end. The process must not have started
/// any thread yet.
///
/// # Errors
/// The first step that went wrong.
pub fn main(dir: Option<PathBuf>) -> Result<()> {
    let dir = dir.map(std::path::absolute).transpose()?;
    let namespace = lab::netns::enter_or_reexec()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let temporary = tempfile::Builder::new().prefix("cluster-demo-").tempdir()?;
    // An inventory names disks below /dev.
    let disks = tempfile::Builder::new().prefix("cluster-demo-").tempdir_in("/dev/shm")?;
    let place = dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&place)?;
    let shown = runtime.block_on(watched(&namespace, &place, disks.path()));
    // What hangs in a task must not keep the process.
    runtime.shutdown_timeout(READY / 10);
    end_all(&namespace)?;
    disks.close()?;
    temporary.close()?;
    let seconds = shown?.as_secs();
    let left = dir.map_or_else(
        || "nothing of it is left on this machine".to_owned(),
        |dir| format!("the files are in {}", dir.display()),
    );
    println!("\nAll {SERVERS} servers are off and free after {seconds} s; {left}.");
    Ok(())
}

/// Until it is over, interrupted, or too late.
async fn watched(namespace: &Namespace, dir: &Path, disks: &Path) -> Result<Duration> {
    let stop = CancellationToken::new();
    let signals = tokio::spawn(daemon::shutdown_on_signal(stop.clone())?);
    let outcome = tokio::select! {
        outcome = show(namespace, dir, disks) => outcome,
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        () = tokio::time::sleep(DEADLINE) => Err(anyhow::anyhow!("not done after {} s", DEADLINE.as_secs())),
    };
    signals.abort();
    outcome
}

/// Kills what is left in our namespace, where everything but this process was started by us, and waits until it is gone.
fn end_all(_ours: &Namespace) -> Result<()> {
    let (own, until) = (fs::read_link("/proc/self/ns/net")?, Instant::now() + GONE);
    loop {
        let mut left = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let Some(process) = number.and_then(Pid::from_raw) else { continue };
            // One that ends meanwhile, or is a zombie, has no namespace.
            let is_inside =
                fs::read_link(entry.path().join("ns/net")).is_ok_and(|namespace| namespace == own);
            if is_inside && process != rustix::process::getpid() {
                left += 1;
                match kill_process(process, Signal::KILL) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if left == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{left} processes do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn show(_namespace: &Namespace, dir: &Path, disks: &Path) -> Result<Duration> {
    kubernetes::programs()?;
    simulated::connect()?;
    let mut stage = Stage::set(dir, disks).await?;
    println!("{ABOUT}");
    stage.is_made().await?;
    let successor = stage.moves_in().await?;
    stage.grows().await?;
    stage.moves_back(successor).await?;
    stage.is_deleted().await?;
    Ok(stage.started.elapsed())
}

/// The rack and the admin machine.
struct Stage {
    started: Instant,
    dir: PathBuf,
    admin: Admin,
    web: Web,
    /// In the order of their numbers, the late one at the end.
    machines: Vec<Simulated>,
}

impl Stage {
    async fn set(dir: &Path, disks: &Path) -> Result<Self> {
        let admin = Admin::new(ADMIN, dir)?;
        let image = web::image(IMAGE);
        let web = Web::start(PROVISIONER, image.clone(), IMAGE).await?;
        web.release();
        let order: Order = Arc::new(Mutex::new(Vec::new()));
        let mut machines = Vec::new();
        for (number, name) in (1..).zip(CONTROL_PLANE.iter().chain(&WORKERS).chain([&LATE])) {
            // What DHCP would tell it.
            let provisioner = if *name == LATE { OWN } else { ADMIN };
            let machine = simulated::mount_for(provisioner, disks, (name, number), PASSWORD, DISK).await?;
            comes_up(&machine, dir, &image, &order)?;
            machines.push(machine);
        }
        Ok(Self { started: Instant::now(), dir: dir.to_owned(), admin, web, machines })
    }

    fn title(&self, title: &str) {
        println!("\n== {title} ({} s)", self.started.elapsed().as_secs());
    }

    async fn is_made(&mut self) -> Result<()> {
        self.title("A cluster file, a table of machines, and what is wrong with them");
        self.admin.run("tink cluster generate rack | tee rack.yaml").await?;
        let generated = fs::read_to_string(self.dir.join("rack.yaml"))?;
        let (filled, changes) = files::fill(&generated, &self.web.image_url())?;
        fs::write(self.dir.join("rack.yaml"), filled)?;
        println!("\nIn an editor its owner fills in:\n{changes}");
        let late = self.machines.len() - 1;
        let (first, last) = self.machines.split_at(late);
        fs::write(self.dir.join("hardware.csv"), table(first)?)?;
        fs::write(self.dir.join("late.csv"), table(last)?)?;
        fs::write(self.dir.join("cni.yaml"), NETWORK)?;
        self.admin.run("cat hardware.csv").await?;
        self.admin.run("tink cluster check -f rack.yaml -z hardware.csv").await?;

        self.title("From powered off to a cluster");
        self.admin.up(READY).await?;
        let create = "tink cluster create -f rack.yaml -z hardware.csv --cni-manifest cni.yaml --yes";
        self.admin.run(create).await?;
        self.admin.run("tink cluster get rack").await?;
        self.admin.run(&format!("kubectl --kubeconfig {KUBECONFIG} get nodes")).await?;
        self.was_installed_once(late)
    }

    /// These machines, and no more, were started once and have read their image once.
    fn was_installed_once(&self, machines: usize) -> Result<()> {
        for (number, machine) in self.machines.iter().enumerate() {
            let (name, starts) = (&machine.server.name, machine.chassis.starts());
            let wanted: &[BootTarget] = if number < machines { &[BootTarget::Pxe] } else { &[] };
            ensure!(starts == wanted, "{name} was started {starts:?}");
        }
        let images = usize::try_from(self.web.slow_requests())?;
        ensure!(images == machines, "{machines} machines read {images} images");
        Ok(())
    }

    /// The cluster comes to own the machines, and the admin machine is left empty.
    async fn moves_in(&mut self) -> Result<Successor> {
        self.title("The provisioner moves into the cluster");
        println!("{PODS}");
        self.admin.run(&format!("tink cluster move --to {KUBECONFIG} --without-pods")).await?;
        let successor = Successor::start(&self.dir.join(KUBECONFIG), &self.dir, OWN, READY).await?;
        println!(
            "(boots, hegel, rufio, tink-server and orchestrator run there and are ready; boots has {OWN})"
        );
        self.admin.run("tink cluster cleanup").await?;
        self.admin.has_ended(READY).await?;
        Ok(successor)
    }

    /// One more worker, of which there is no Hardware yet.
    async fn grows(&mut self) -> Result<()> {
        self.title("One worker more, asked for where the cluster is");
        self.admin.export(Some(KUBECONFIG));
        let patch =
            r#"[{"op": "replace", "path": "/spec/workerNodeGroupConfigurations/0/count", "value": 3}]"#;
        let clusters = "-n eksa-system clusters.anywhere.eks.amazonaws.com";
        self.admin.run(&format!("kubectl patch {clusters} rack --type json -p '{patch}'")).await?;
        let client = client_of(&self.dir.join(KUBECONFIG)).await?;
        let objects: Api<Cluster> = Api::namespaced(client, NAMESPACE);
        eventually("the want of a machine", READY, async || {
            let seen = objects.get_status("rack").await.map_err(|error| error.to_string())?;
            let told = seen.status.unwrap_or_default().failure_message.unwrap_or_default();
            if told.contains("lacks 1 of its machines") { Ok(Some(())) } else { Err(told) }
        })
        .await?;
        self.admin.run("tink cluster get rack").await?;
        println!("\nThere is no machine for it, until somebody racks one:");
        self.admin.run("tink hardware generate -z late.csv --secrets | kubectl apply -f -").await?;
        self.admin.run(&format!("kubectl wait {clusters}/rack --for condition=Ready --timeout 300s")).await?;
        self.admin.run("kubectl get nodes").await?;
        self.was_installed_once(self.machines.len())
    }

    /// A cluster cannot switch off the machines that it runs on and still say so.
    async fn moves_back(&mut self, successor: Successor) -> Result<()> {
        self.title("Back to an admin machine, which can take the cluster apart");
        self.admin.up(READY).await?;
        self.admin.run("tink cluster move --to state/kubeconfig").await?;
        successor.has_left(READY).await?;
        self.admin.export(None);
        self.was_installed_once(self.machines.len())
    }

    async fn is_deleted(&mut self) -> Result<()> {
        self.title("The end of the cluster");
        self.admin.run("tink cluster delete rack --yes").await?;
        self.admin.run("tink get machines -n eksa-system").await?;
        for machine in &self.machines {
            ensure!(machine.chassis.power() == PowerState::Off, "{} is still on", machine.server.name);
        }
        let all = self.hardware("").await?;
        ensure!(all == SERVERS, "there is Hardware of {all} of {SERVERS} servers");
        let held = self.hardware(&format!("-l {LABEL_OWNER_NAME}")).await?;
        ensure!(held == 0, "the cluster is gone, and {held} servers are held");
        self.admin.down(READY).await
    }

    /// How many objects there are.
    async fn hardware(&self, selector: &str) -> Result<usize> {
        let listed = self.admin.output(&format!("tink get hardware -A -o json {selector}")).await?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        let items = listed.get("items").and_then(serde_json::Value::as_array);
        Ok(items.with_context(|| format!("no list: {listed}"))?.len())
    }
}
