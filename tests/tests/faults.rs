// SPDX-License-Identifier: Apache-2.0
//! What goes wrong while a cluster is made ends in one sentence that names the machine, the cause and what is to be done; what is
//! good stays as it is, and the same command completes after the cause is gone. One row for each fault, on simulated machines
//! with a real etcd and kube-apiserver.
//!
//! Each row is a process of its own, in a network namespace.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::annotations::PROTECTED;
use api::anywhere::v1alpha1::{Cluster, NAMESPACE};
use api::v1alpha1::Hardware;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use lab::chassis::{BootTarget, Chassis as _, PowerState};
use lab::netns::Namespace;
use serde_json::json;
use tests::cluster::{self, ENDPOINT, Plan, Template, comes_up, table};
use tests::kubeadm::Order;
use tests::runner::{self, Apart};
use tests::simulated::{self, PROVISIONER, Simulated};
use tests::stack::{Up, client, client_of, run_tink};
use tests::web::{self, Web};
use tink::demo::Artefacts;

const READY: Duration = Duration::from_secs(120);
/// Until a fault is told, or a cluster is ready, on a machine whose cores are shared.
const WITHIN: Duration = Duration::from_secs(360);
const PASSWORD: &str = "secret-7";
const DISK: u64 = 2 << 20;
const SMALL: u64 = 1 << 20;
const IMAGE: usize = 1200 << 10;
/// For machines that do not come up where no other has to; and where one has to, on a busy machine.
const PATIENCE: &str = "25s";
const MORE_PATIENCE: &str = "1m0s";
/// Rows at the same time: they mostly wait.
const AT_ONCE: usize = 3;

const ROWS: &[Apart] = &[
    ("a_wrong_bmc_password_is_told_before_anything_begins", || row(&[("cp1", DISK)], wrong_password)),
    ("a_machine_that_is_in_no_table_is_not_written_over", || {
        row(&[("cp1", DISK), ("wk1", DISK), ("wk2", DISK)], unlisted)
    }),
    ("bmcs_whose_protocols_are_off_are_told_before_anything_begins", || {
        row(&[("cp1", DISK), ("wk1", DISK)], protocols_off)
    }),
    ("a_bmc_that_is_switched_off_after_the_check_is_told_with_the_machine", || row(&[("cp1", DISK)], no_bmc)),
    ("a_clock_that_is_wrong_is_told_before_anything_begins", || row(&[("cp1", DISK)], wrong_clock)),
    ("an_address_that_somebody_has_is_told_before_anything_begins", || row(&[("cp1", DISK)], taken)),
    ("another_dhcp_server_is_told_before_anything_begins", || row(&[("cp1", DISK)], rival)),
    ("an_image_that_is_not_there_is_told_with_the_machine", || row(&[("cp1", DISK)], no_image)),
    ("an_image_with_another_digest_is_told_with_the_machine", || row(&[("cp1", DISK)], wrong_digest)),
    ("a_disk_that_is_too_small_and_no_spare", || row(&[("cp1", DISK), ("wk1", SMALL)], no_spare)),
    ("a_spare_takes_the_place_of_a_machine_that_fails", || {
        row(&[("cp1", DISK), ("wk1", SMALL), ("wk2", DISK)], a_spare)
    }),
    ("a_machine_that_dies_after_its_installation_is_replaced", || {
        row(&[("cp1", DISK), ("wk1", DISK), ("wk2", DISK)], dies)
    }),
    ("kubeadm_that_makes_no_cluster_is_told", || row(&[("cp1", DISK)], no_cluster)),
    ("firmware_that_does_not_boot_from_the_network_is_told", || row(&[("cp1", DISK)], no_netboot)),
];

fn main() -> ExitCode {
    runner::apart(AT_ONCE, ROWS)
}

fn row(machines: &[(&str, u64)], play: impl AsyncFnOnce(&mut Scene) -> Result<()>) -> Result<()> {
    runner::in_namespace("fault-", async |namespace: &Namespace, dir: &Path| {
        let mut scene = Scene::new(namespace, dir, machines).await?;
        play(&mut scene).await?;
        scene.end().await
    })
}

/// A rack, the stack, and what machines become.
struct Scene {
    dir: PathBuf,
    state: PathBuf,
    up: Up,
    web: Web,
    image: Vec<u8>,
    machines: Vec<Simulated>,
    order: Order,
    plan: Plan,
    _disks: tempfile::TempDir,
}

impl Scene {
    async fn new(namespace: &Namespace, dir: &Path, machines: &[(&str, u64)]) -> Result<Self> {
        simulated::plug(namespace)?;
        let state = dir.join("state");
        // An inventory names disks below /dev.
        let disks = tempfile::Builder::new().prefix("fault-").tempdir_in("/dev/shm")?;
        let mut up = Up::start(&Artefacts::find()?.up_flags(&state, PROVISIONER), &dir.join("up.log"))?;
        let image = web::image(IMAGE);
        let web = Web::start(PROVISIONER, image.clone(), IMAGE).await?;
        web.release();
        let mut mounted = Vec::new();
        for (number, (name, disk)) in (1..).zip(machines) {
            mounted.push(simulated::mount(disks.path(), name, number, PASSWORD, *disk).await?);
        }
        let workers = usize::from(machines.iter().any(|(name, _)| name.starts_with("wk")));
        let plan = Plan::new(1, workers, web.slow_url());
        up.ready(READY).await?;
        let order = Arc::new(Mutex::new(Vec::new()));
        let scene = Self {
            dir: dir.to_owned(),
            state,
            up,
            web,
            image,
            machines: mounted,
            order,
            plan,
            _disks: disks,
        };
        scene.write()?;
        Ok(scene)
    }

    fn write(&self) -> Result<()> {
        fs::write(self.dir.join("hardware.csv"), table(&self.machines)?)?;
        cluster::write(&self.dir, &self.plan)
    }

    fn machine(&self, name: &str) -> Result<&Simulated> {
        self.machines.iter().find(|machine| machine.server.name == name).context("no such machine")
    }

    /// What was installed on these comes up once it is there.
    fn lives(&self, names: &[&str]) -> Result<()> {
        for name in names {
            comes_up(self.machine(name)?, &self.dir, &self.image, &self.order)?;
        }
        Ok(())
    }

    /// Runs it to its end; what it said of what went wrong, nothing when all went well.
    async fn create(&self, more: &[&str]) -> Result<Option<String>> {
        let (progress, errors) = (self.dir.join("create.log"), self.dir.join("create.err"));
        let mut command = cluster::create(&self.dir, &self.state)?;
        command.args(more).stdout(fs::File::options().create(true).append(true).open(&progress)?);
        command.stderr(fs::File::create(&errors)?);
        let ended = tokio::time::timeout(WITHIN, command.spawn()?.wait()).await;
        let told = || fs::read_to_string(&progress).unwrap_or_default();
        let status = ended.map_err(|_| anyhow::anyhow!("it goes on and on:\n{}", told()))??;
        let said = fs::read_to_string(&errors)?;
        println!("  {status} {}", said.trim());
        Ok((!status.success()).then_some(said))
    }

    /// It ends with an error in one line of which all of this is part.
    async fn fails(&self, more: &[&str], words: &[&str]) -> Result<()> {
        let said = self.create(more).await?.context("it went well")?;
        let fits = |line: &str| words.iter().all(|word| line.contains(word));
        ensure!(said.lines().any(fits), "no line has all of {words:?}:\n{said}");
        Ok(())
    }

    /// The same command completes, with these nodes.
    async fn completes(&self, nodes: &[&str]) -> Result<()> {
        self.completes_with(&["--offline"], nodes).await
    }

    async fn completes_with(&self, more: &[&str], nodes: &[&str]) -> Result<()> {
        if let Some(said) = self.create(more).await? {
            anyhow::bail!("the rerun did not complete: {said}");
        }
        let kubeconfig = self.dir.join("rack/rack-eks-a-cluster.kubeconfig");
        let there = Api::<Node>::all(client_of(&kubeconfig).await?).list(&ListParams::default()).await?;
        let names: Vec<_> = there.items.iter().map(|node| node.name_any()).collect();
        ensure!(names == nodes, "the nodes are {names:?}");
        Ok(())
    }

    /// No machine was touched, and nothing is kept.
    async fn nothing_began(&self) -> Result<()> {
        let clusters: Api<Cluster> = Api::namespaced(client(&self.state).await?, NAMESPACE);
        let kept = clusters.get_opt("rack").await?;
        ensure!(kept.is_none(), "a cluster is kept: {kept:?}");
        for machine in &self.machines {
            let starts = machine.chassis.starts();
            ensure!(starts.is_empty(), "{} was started {starts:?}", machine.server.name);
        }
        Ok(())
    }

    /// A machine was started once, and runs.
    fn is_untouched(&self, name: &str) -> Result<()> {
        let machine = self.machine(name)?;
        let starts = machine.chassis.starts();
        ensure!(starts == [BootTarget::Pxe], "{name} was started {starts:?}");
        ensure!(machine.chassis.power() == PowerState::On, "{name} is off");
        Ok(())
    }

    /// Another disk is put in.
    fn blank(&self, name: &str, bytes: u64) -> Result<()> {
        let disk = fs::File::create(&self.machine(name)?.server.disk)?;
        Ok(disk.set_len(bytes)?)
    }

    async fn end(self) -> Result<()> {
        let ended = self.up.terminate(READY).await?;
        ensure!(ended.success(), "tink up ended with {ended}");
        Ok(())
    }
}

async fn wrong_password(scene: &mut Scene) -> Result<()> {
    let good = fs::read_to_string(scene.dir.join("hardware.csv"))?;
    fs::write(scene.dir.join("hardware.csv"), good.replace(PASSWORD, "guessed"))?;
    scene.fails(&[], &["hardware.csv:2", "the BMC 172.31.0.101 of cp1", "password"]).await?;
    scene.nothing_began().await?;
    fs::write(scene.dir.join("hardware.csv"), good)?;
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

/// wk2 is known from before, and would be as good as wk1.
async fn unlisted(scene: &mut Scene) -> Result<()> {
    let all = scene.dir.join("hardware.csv");
    run_tink(&scene.state, &["hardware", "apply", "-z", &all.display().to_string()])?;
    fs::write(&all, table(scene.machines.iter().take(2))?)?;
    scene.fails(&["--offline"], &["wk2", &scene.machine("wk2")?.server.disk]).await?;
    scene.nothing_began().await?;
    let hardware: Api<Hardware> = Api::namespaced(client(&scene.state).await?, NAMESPACE);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { PROTECTED: "true" } } }));
    hardware.patch("wk2", &PatchParams::default(), &patch).await?;
    scene.lives(&["cp1", "wk1"])?;
    scene.completes(&["cp1", "wk1"]).await?;
    let starts = scene.machine("wk2")?.chassis.starts();
    ensure!(starts.is_empty(), "wk2 was started {starts:?}");
    let told: Vec<_> = hardware.list(&ListParams::default()).await?.items;
    let told: Vec<_> =
        told.iter().filter(|one| one.spec.user_data.is_some()).map(|one| one.name_any()).collect();
    ensure!(told.is_empty(), "the user data of nodes that have joined is kept: {told:?}");
    Ok(())
}

/// cp1 has IPMI over LAN, wk1 Redfish.
async fn protocols_off(scene: &mut Scene) -> Result<()> {
    for machine in &mut scene.machines {
        machine.bmc_off().await;
    }
    scene.fails(&[], &["hardware.csv:2", "the BMC 172.31.0.101 of cp1", "IPMI over LAN (UDP 623)"]).await?;
    scene.fails(&[], &["hardware.csv:3", "the BMC 172.31.0.102 of wk1", "Redfish (TCP 443)"]).await?;
    scene.nothing_began().await?;
    for machine in &mut scene.machines {
        machine.bmc_on().await?;
    }
    scene.lives(&["cp1", "wk1"])?;
    scene.completes(&["cp1", "wk1"]).await
}

/// Each look at a BMC that is gone takes some ten seconds.
async fn no_bmc(scene: &mut Scene) -> Result<()> {
    scene.plan.patience = Some(MORE_PATIENCE);
    scene.write()?;
    let machine = scene.machines.first_mut().context("a machine")?;
    machine.bmc_off().await;
    scene
        .fails(
            &["--offline"],
            &["cp1", "could not be started within 60 s", "BMC", "172.31.0.101", "run it again"],
        )
        .await?;
    let machine = scene.machines.first_mut().context("a machine")?;
    machine.bmc_on().await?;
    ensure!(machine.chassis.starts().is_empty(), "it was started {:?}", machine.chassis.starts());
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

/// Which of the two is wrong cannot be told: both are named.
async fn wrong_clock(scene: &mut Scene) -> Result<()> {
    let file = scene.dir.join("cluster.yaml");
    let good = fs::read_to_string(&file)?
        .replace(&format!("http://{PROVISIONER}/debian-1-34.gz"), &scene.web.image_url());
    fs::write(&file, good)?;
    scene.web.is_behind(7200);
    scene
        .fails(&[], &["clock of this machine", "differs from that of", &scene.web.image_url(), "by NTP"])
        .await?;
    scene.nothing_began().await?;
    scene.web.is_behind(0);
    scene.lives(&["cp1"])?;
    scene.completes_with(&[], &["cp1"]).await
}

async fn taken(scene: &mut Scene) -> Result<()> {
    let other = simulated::neighbour(ENDPOINT)?;
    scene.fails(&[], &["cluster.yaml", &ENDPOINT.to_string(), "in use"]).await?;
    scene.nothing_began().await?;
    drop(other);
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

async fn rival(scene: &mut Scene) -> Result<()> {
    let (address, last) = (Ipv4Addr::new(172, 31, 0, 250), Ipv4Addr::new(172, 31, 0, 254));
    let mut other = simulated::neighbour(address)?;
    other.serve_dhcp(Ipv4Addr::new(172, 31, 0, 251), last)?;
    // It may take a moment until it answers, and the check looks once.
    let begun = Instant::now();
    while let Err(error) =
        scene.fails(&[], &["another DHCP server", &address.to_string(), "switch it off"]).await
    {
        ensure!(begun.elapsed() < READY, "{error:#}");
    }
    scene.nothing_began().await?;
    drop(other);
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

async fn no_image(scene: &mut Scene) -> Result<()> {
    let good = scene.plan.image.clone();
    scene.plan.image = good.replace("slow.img", "none.img");
    scene.write()?;
    scene.fails(&["--offline"], &["cp1", "stream image to disk", "404", "none.img", "run it again"]).await?;
    ensure!(scene.machine("cp1")?.chassis.power() == PowerState::Off, "cp1 was given back, and runs");
    scene.plan.image = good;
    scene.write()?;
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

async fn wrong_digest(scene: &mut Scene) -> Result<()> {
    scene.plan.template = Template::Own { digest: Some(format!("sha256:{}", "0".repeat(64))) };
    scene.write()?;
    scene.fails(&["--offline"], &["cp1", "stream image to disk", "sha256:0000", "run it again"]).await?;
    scene.plan.template = Template::Own { digest: None };
    scene.write()?;
    scene.blank("cp1", DISK)?;
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

async fn no_spare(scene: &mut Scene) -> Result<()> {
    scene.lives(&["cp1"])?;
    scene.fails(&["--offline"], &["md-0 lacks 1", "wk1", "stream image to disk", "run it again"]).await?;
    scene.is_untouched("cp1")?;
    scene.blank("wk1", DISK)?;
    scene.lives(&["wk1"])?;
    scene.completes(&["cp1", "wk1"]).await?;
    scene.is_untouched("cp1")
}

async fn a_spare(scene: &mut Scene) -> Result<()> {
    scene.lives(&["cp1", "wk2"])?;
    scene.completes(&["cp1", "wk2"]).await?;
    ensure!(scene.machine("wk1")?.chassis.power() == PowerState::Off, "wk1 was replaced, and runs");
    scene.is_untouched("cp1")
}

async fn dies(scene: &mut Scene) -> Result<()> {
    scene.plan.patience = Some(MORE_PATIENCE);
    scene.write()?;
    scene.lives(&["cp1", "wk2"])?;
    scene.completes(&["cp1", "wk2"]).await?;
    let died = scene.machine("wk1")?;
    ensure!(died.chassis.power() == PowerState::Off, "wk1 was replaced, and runs");
    ensure!(died.chassis.starts() == [BootTarget::Pxe], "it was installed {:?}", died.chassis.starts());
    let images = scene.web.slow_requests();
    ensure!(images == 3, "three machines read {images} images");
    scene.is_untouched("cp1")
}

async fn no_cluster(scene: &mut Scene) -> Result<()> {
    scene.plan.patience = Some(PATIENCE);
    scene.write()?;
    scene.fails(&["--offline"], &["cp1", "kubeadm made no cluster within 25 s", "run it again"]).await?;
    scene.plan.patience = None;
    scene.write()?;
    scene.blank("cp1", DISK)?;
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}

/// Its agent is switched off, as if the firmware had started something else.
async fn no_netboot(scene: &mut Scene) -> Result<()> {
    scene.plan.patience = Some(PATIENCE);
    scene.write()?;
    scene.machine("cp1")?.starts_something_else();
    scene
        .fails(&["--offline"], &["cp1", "did not boot from the network within 25 s", "run it again"])
        .await?;
    scene.plan.patience = None;
    scene.write()?;
    scene.machines.first_mut().context("a machine")?.starts_from_the_network();
    scene.lives(&["cp1"])?;
    scene.completes(&["cp1"]).await
}
