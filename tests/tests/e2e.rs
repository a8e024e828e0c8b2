// SPDX-License-Identifier: Apache-2.0
//! Two emulated machines (BIOS with IPMI, UEFI with Redfish) from powered off to a login on their installed Debian, with
//! every part as a user runs it: `tink up` as a process, manifests through `tink apply`, real firmware, real cloud-init.
//!
//! One scenario, because a boot takes half a minute under emulation and each part needs what the one before left:
//!
//! 1. m1 gets an image that is cut in the middle: FAILED, the byte is named, the disk does not boot;
//! 2. m2 is installed meanwhile;
//! 3. m1 is installed, and `tink up` is killed with SIGKILL in the middle of the image and started again: one SUCCESS, and
//!    the bytes served are at most the image plus one window;
//! 4. both are logged in to with the key and under the name that came from the metadata service, network boot is off;
//! 5. both are power-cycled: they boot from disk and are not installed again.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::v1alpha1::{Hardware, Workflow, WorkflowState, WorkflowStatus};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use lab::netns::Namespace;
use lab::rack::{PROVISIONER_INTERFACE, Rack, RackSpec};
use tests::runner;
use tests::stack::{self, Up, client, eventually, run_tink};
use tink::demo::{Artefacts, Install, NAMESPACE, Server, TEMPLATE, describe, digest, server, workflow};

const NAME: &str = "machines_from_powered_off_to_their_own_system";
const READY: Duration = Duration::from_secs(60);
/// From power-on to the agent's last word, on a machine whose cores are shared.
const INSTALL: Duration = Duration::from_secs(600);
/// From reboot to a login, on the same.
const BOOT: Duration = Duration::from_secs(400);
/// Headers of Ethernet, IP, TCP on a full frame are 4 %; the rest is retransmission.
const OVERHEAD_PERCENT: u64 = 6;
/// One window of one connection, and the agent's calls.
const WINDOW: u64 = 8 << 20;

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("e2e-", run))
}

/// Everything that the steps share.
struct Lab {
    dir: PathBuf,
    state: PathBuf,
    servers: Vec<Server>,
    rack: Rack,
    flags: Vec<String>,
    image: String,
    digest: String,
    image_bytes: u64,
    started: Instant,
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    let lab = Lab::build(namespace, dir).await?;
    let mut up = lab.up()?;
    up.ready(READY).await?;
    let client = client(&lab.state).await?;
    lab.apply("template.yaml", TEMPLATE)?;
    for one in &lab.servers {
        lab.apply(&format!("{}.yaml", one.name), &server(one))?;
    }

    lab.step("m1 gets half an image, m2 a whole one");
    let (cut, cut_digest) = lab.cut_image()?;
    lab.install("cut-m1", "m1", &cut, &cut_digest)?;
    lab.install("install-m2", "m2", &lab.image, &lab.digest)?;
    half_an_image_never_boots(&lab, &client).await?;
    succeeded(&client, "install-m2").await?;

    lab.step("m1 gets a whole image; tink up is killed in the middle of it");
    killed_in_the_middle(&lab, &client, &mut up).await?;

    lab.step("both are logged in to");
    let mut boots = Vec::new();
    for one in &lab.servers {
        boots.push(installed(&lab, &client, one).await?);
    }

    lab.step("both are power-cycled");
    let scripts = count_events(&client, "ScriptSent").await?;
    for one in &lab.servers {
        lab.rack.power_cycle(&one.name).await?;
    }
    for (one, before) in lab.servers.iter().zip(&boots) {
        lab.login(one, BOOT_ID, |id| !id.is_empty() && id != before).await?;
        succeeded(&client, &format!("install-{}", one.name)).await?;
    }
    ensure!(
        count_events(&client, "ScriptSent").await? == scripts,
        "a machine asked for its boot script again"
    );

    lab.step("everything is taken down");
    lab.rack.stop().await;
    let ended = up.terminate(READY).await?;
    ensure!(ended.success(), "tink up ended with {ended}");
    let left = Command::new("pgrep").args(["-f", &format!("qemu.*{}", dir.display())]).output()?;
    ensure!(left.stdout.is_empty(), "machines are left: {}", String::from_utf8_lossy(&left.stdout));
    Ok(())
}

const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

impl Lab {
    async fn build(namespace: &Namespace, dir: &Path) -> Result<Self> {
        let artefacts = Artefacts::find()?;
        let key = dir.join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
        ensure!(made.success(), "ssh-keygen failed");
        let public = fs::read_to_string(dir.join("key.pub"))?.trim().to_owned();
        let (image, digest) = artefacts.image()?;
        let images = dir.join("images");
        fs::create_dir_all(&images)?;
        let image_bytes = fs::copy(artefacts.image_path(&image), images.join(&image))?;

        let spec = RackSpec::demo()?;
        let mut servers = spec.servers.iter().map(|one| describe(one, &spec)).collect::<Result<Vec<_>>>()?;
        servers.iter_mut().for_each(|one| one.ssh_key.clone_from(&public));
        let state = dir.join("state");
        let mut flags = artefacts.up_flags(&state, spec.provisioner);
        flags.retain(|flag| !flag.starts_with("--images-dir"));
        flags.push(format!("--images-dir={}", images.display()));
        let rack = Rack::start(namespace, spec, dir).await?;
        let (dir, started) = (dir.to_owned(), Instant::now());
        Ok(Self { dir, state, servers, rack, flags, image, digest, image_bytes, started })
    }

    fn step(&self, what: &str) {
        println!("  {:4} s  {what}", self.started.elapsed().as_secs());
    }

    fn up(&self) -> Result<Up> {
        Up::start(&self.flags, &self.dir.join("tink.log"))
    }

    fn apply(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        run_tink(&self.state, &["apply", "-f", &path.display().to_string()])?;
        Ok(())
    }

    fn install(&self, workflow_name: &str, machine: &str, image: &str, digest: &str) -> Result<()> {
        let server = self.servers.iter().find(|one| one.name == machine).context("a server of the lab")?;
        let install = Install {
            name: workflow_name.to_owned(),
            image_url: format!("http://{}:7171/images/{image}", server.provisioner),
            image_digest: digest.to_owned(),
            metadata_url: format!("http://{}:7172", server.provisioner),
        };
        self.apply(&format!("{workflow_name}.yaml"), &workflow(server, &install))
    }

    /// The first half of the image under a name of its own, with the digest of that half.
    fn cut_image(&self) -> Result<(String, String)> {
        let name = "cut.raw.zst".to_owned();
        let path = self.dir.join("images").join(&name);
        fs::copy(self.dir.join("images").join(&self.image), &path)?;
        fs::OpenOptions::new().write(true).open(&path)?.set_len(self.image_bytes / 2)?;
        let digest = digest(&path)?;
        Ok((name, digest))
    }

    /// Runs a command on the installed system with the key from its metadata, until its output is `good`.
    async fn login(&self, one: &Server, command: &str, good: impl Fn(&str) -> bool) -> Result<String> {
        stack::login(&self.dir.join("key"), one.address, command, BOOT, good).await
    }
}

/// The Workflow with the cut image fails with the byte; the disk has no boot code, and firmware passes it by.
async fn half_an_image_never_boots(lab: &Lab, client: &Client) -> Result<()> {
    let failed = settled(client, "cut-m1").await?;
    ensure!(failed.state == WorkflowState::Failed, "cut-m1 ended {}", failed.state);
    let mut actions = failed.tasks.iter().flat_map(|task| &task.actions);
    let action = actions.find(|action| action.state == WorkflowState::Failed);
    let message = action.and_then(|action| action.message.clone()).context("no action says why it failed")?;
    let byte = format!("byte {}", lab.image_bytes / 2);
    ensure!(message.contains(&byte), "the message does not name {byte}: {message}");
    let why = run_tink(&lab.state, &["why", "m1"])?;
    ensure!(why.contains(&byte), "tink why does not say it: {why}");
    netboot_is_off(client, "m1").await?;

    let places = lab.rack.machine("m1").context("m1")?.places();
    let mut first = vec![0xff; 1 << 20];
    std::io::Read::read_exact(&mut fs::File::open(&places.disk)?, &mut first)?;
    ensure!(first.iter().all(|byte| *byte == 0), "the first MiB of m1's disk is not empty");
    // Firmware goes on to the network, where the machine may not boot either.
    let refused_before = count_events(client, "NetbootRefused").await?;
    lab.rack.power_cycle("m1").await?;
    eventually("m1's firmware to pass the disk by", BOOT, async || {
        let refused = count_events(client, "NetbootRefused").await.map_err(|error| error.to_string())?;
        Ok((refused > refused_before).then_some(()))
    })
    .await
}

/// `kill -9` in the middle of the image write, then a new start.
async fn killed_in_the_middle(lab: &Lab, client: &Client, up: &mut Up) -> Result<()> {
    lab.install("install-m1", "m1", &lab.image, &lab.digest)?;
    let read = async || -> Result<Option<u64>, String> {
        let status = status(client, "install-m1").await.map_err(|error| error.to_string())?;
        Ok(status.agent_first_call.map(|_| status.progress.map_or(0, |progress| progress.bytes_read)))
    };
    // The agent has called and has at the most begun: what it read already belongs to the count.
    let early = eventually("the agent's first call", INSTALL, read).await?;
    let before = transmitted()?.saturating_sub(early);
    eventually("a quarter of the image", INSTALL, async || {
        Ok(read().await?.filter(|bytes| *bytes > lab.image_bytes / 4))
    })
    .await?;
    up.kill()?;
    *up = lab.up()?;
    up.ready(READY).await?;
    succeeded(client, "install-m1").await?;
    let sent = transmitted()?.saturating_sub(before);
    lab.step(&format!("{sent} bytes crossed the wire for an image of {}", lab.image_bytes));
    let most = lab.image_bytes * (100 + OVERHEAD_PERCENT) / 100 + WINDOW;
    ensure!(sent <= most, "{sent} bytes were sent for an image of {}: it was not resumed", lab.image_bytes);
    let successes = eventually("the Event of the success", READY, async || {
        let events = events(client, "WorkflowSucceeded").await.map_err(|error| error.to_string())?;
        let of_m1 = events.iter().filter(|event| event.involved_object.name.as_deref() == Some("m1"));
        let counts: Vec<i32> = of_m1.map(|event| event.count.unwrap_or(1)).collect();
        Ok((!counts.is_empty()).then_some(counts))
    })
    .await?;
    ensure!(successes == [1], "there must be one success of m1: {successes:?}");
    Ok(())
}

/// A login with the key works, the name is the one from the metadata, network boot is off. Gives the boot's id.
async fn installed(lab: &Lab, client: &Client, one: &Server) -> Result<String> {
    lab.login(one, "hostname", |name| name == one.name).await?;
    lab.login(one, "cloud-init status --wait", |text| text.contains("status: done")).await?;
    let log = fs::read(lab.rack.machine(&one.name).context("a machine of the lab")?.serial_log())?;
    let prompt = format!("{} login:", one.name);
    ensure!(String::from_utf8_lossy(&log).contains(&prompt), "no `{prompt}` on the console of {}", one.name);
    netboot_is_off(client, &one.name).await?;
    lab.login(one, BOOT_ID, |id| !id.is_empty()).await
}

async fn netboot_is_off(client: &Client, name: &str) -> Result<()> {
    let hardware: Hardware = Api::namespaced(client.clone(), NAMESPACE).get(name).await?;
    let allowed = hardware.spec.interfaces.iter().any(api::v1alpha1::Interface::allows_netboot);
    ensure!(!allowed, "network boot of {name} is still on");
    Ok(())
}

async fn status(client: &Client, name: &str) -> Result<WorkflowStatus> {
    let workflow: Workflow = Api::namespaced(client.clone(), NAMESPACE).get(name).await?;
    Ok(workflow.status.unwrap_or_default())
}

/// The status of a Workflow once it is over.
async fn settled(client: &Client, name: &str) -> Result<WorkflowStatus> {
    let over = [WorkflowState::Success, WorkflowState::Failed, WorkflowState::Timeout];
    eventually(&format!("the end of {name}"), INSTALL, async || {
        let status = status(client, name).await.map_err(|error| error.to_string())?;
        if over.contains(&status.state) { Ok(Some(status)) } else { Err(format!("state {}", status.state)) }
    })
    .await
}

async fn succeeded(client: &Client, name: &str) -> Result<()> {
    let status = settled(client, name).await?;
    ensure!(status.state == WorkflowState::Success, "{name} ended {}: {:?}", status.state, status.tasks);
    Ok(())
}

async fn events(client: &Client, reason: &str) -> Result<Vec<Event>> {
    let parameters = ListParams::default().fields(&format!("reason={reason}"));
    Ok(Api::<Event>::namespaced(client.clone(), NAMESPACE).list(&parameters).await?.items)
}

/// How often something happened, to any machine.
async fn count_events(client: &Client, reason: &str) -> Result<i32> {
    Ok(events(client, reason).await?.iter().map(|event| event.count.unwrap_or(1)).sum())
}

/// Bytes that the provisioner's interface has sent to the rack.
fn transmitted() -> Result<u64> {
    let arguments = ["-j", "-s", "link", "show", "dev", PROVISIONER_INTERFACE];
    let output = Command::new("ip").args(arguments).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let bytes = links.pointer("/0/stats64/tx/bytes").and_then(serde_json::Value::as_u64);
    bytes.context("ip does not tell the bytes sent")
}
