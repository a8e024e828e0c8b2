// SPDX-License-Identifier: Apache-2.0
//! Everything that people and machines get wrong: each time the Workflow or Machine says what it is, `tink why` says it in
//! one sentence within seconds, and the machine next to it is installed as if nothing had happened.
//!
//! `tink up` is a process, BMCs and agents are the real ones; only processors are missing ([`tests::simulated`]). One
//! installation, of the machine `steady`, lasts from before the first mistake until after the last.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::bmc::v1alpha1::{CONTACTABLE, Machine};
use api::v1alpha1::{Hardware, TemplateRendering, Workflow, WorkflowState, WorkflowStatus, condition};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client};
use lab::netns::Namespace;
use tests::runner;
use tests::simulated::{self, PROVISIONER, RACK_INTERFACE, Simulated};
use tests::stack::{self, Up, client, eventually, run_tink};
use tests::web::{Web, image};
use tink::demo::{Artefacts, NAMESPACE, server};

const NAME: &str = "bad_input_is_named_within_seconds_and_disturbs_nobody";
const READY: Duration = Duration::from_secs(60);
/// Within seconds, on a machine whose cores are shared.
const SECONDS: Duration = Duration::from_secs(20);

/// Every disk but the one that is too small, and the image that fits.
/// What an action may take, in seconds.
const ACTION_SECONDS: u32 = 600;
const DISK: u64 = 1 << 20;
const IMAGE: usize = 512 << 10;
/// The whole of a slow image; at its pace it would take five minutes.
const SLOW_IMAGE: usize = 600 << 10;
/// Every password begins with this; it must appear nowhere but in Secrets. Six bytes, so that base64 begins alike too.
const MARK: &str = "pw7Zq4";
const MARK_BASE64: &str = "cHc3WnE0";

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("bad-input-", run))
}

/// What the cases share.
struct World {
    dir: PathBuf,
    state: PathBuf,
    client: Client,
    web: Web,
    up: Up,
    started: Instant,
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut world = World::build(namespace, dir).await?;
    let steady = world.mount("steady", 1, DISK).await?;
    world.add(&steady, |_| {})?;
    world.install("install-steady", "steady", "stream", &world.web.slow_url())?;
    world.undisturbed().await?;

    let mut wrong = Vec::new();
    macro_rules! case {
        ($name:ident) => {
            let since = Instant::now();
            let outcome = match $name(&mut world).await {
                Ok(()) => world.undisturbed().await,
                failed => failed,
            };
            let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
            let (at, took) = (world.started.elapsed().as_secs(), since.elapsed().as_secs_f32());
            println!("  {at:4} s  {} ... {verdict} ({took:.1} s)", stringify!($name));
            if let Err(error) = outcome {
                wrong.push(format!("{}: {error:?}", stringify!($name)));
            }
        };
    }
    case!(a_manifest_with_a_wrong_field);
    case!(a_template_that_does_not_render);
    case!(an_image_that_is_not_there);
    case!(an_image_that_is_shorter_than_announced);
    case!(an_image_that_is_larger_than_the_disk);
    case!(a_disk_that_is_missing);
    case!(a_wrong_password_over_redfish);
    case!(a_wrong_password_over_ipmi);
    case!(a_protected_machine);
    case!(an_unknown_mac);
    case!(a_bad_configuration);
    case!(a_held_port);

    world.web.release();
    world.succeeded("install-steady").await?;
    let disk = fs::read(&steady.server.disk)?;
    ensure!(disk.get(..SLOW_IMAGE) == Some(&image(SLOW_IMAGE)[..]), "steady's disk is not its image");
    ensure!(
        world.web.slow_requests() == 1,
        "steady's image was asked for {} times",
        world.web.slow_requests()
    );
    let why = world.why("steady")?;
    ensure!(why.starts_with("steady is installed: Workflow install-steady succeeded"), "{why}");

    if let Err(error) = no_password_is_told(&world).await {
        wrong.push(format!("no_password_is_told: {error:?}"));
    }
    let ended = world.up.terminate(READY).await?;
    ensure!(ended.success(), "tink up ended with {ended}");
    ensure!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}

// The cases.

async fn a_manifest_with_a_wrong_field(world: &mut World) -> Result<()> {
    let text = format!(
        "apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {{name: fine, namespace: {NAMESPACE}}}
spec: {{}}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {{name: wrong, namespace: {NAMESPACE}}}
spec:
  interfaces:
    - dhcp:
        mac: 52:54:00:00:02:01
      netbot:
        allowPXE: true
  disks: /dev/sda
"
    );
    let path = world.write("wrong.yaml", &text)?;
    let output = world.tink(&["apply", "-f", &path])?;
    ensure!(!output.status.success(), "it was applied");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for (line, field, more) in [(13, "netbot", "netboot"), (15, "disks", "")] {
        let place = format!("{path}:{line}");
        let told =
            said.lines().any(|text| text.contains(&place) && text.contains(field) && text.contains(more));
        ensure!(told, "no line has {place}, {field} and {more}: {said}");
    }
    let hardware: Api<Hardware> = world.api();
    for name in ["fine", "wrong"] {
        ensure!(hardware.get_opt(name).await?.is_none(), "{name} was made");
    }
    Ok(())
}

async fn a_template_that_does_not_render(world: &mut World) -> Result<()> {
    let _machine = world.ready("unrendered", 2, DISK, |_| {}).await?;
    world.apply("broken.yaml", &simulated::template("broken", ".imgae_url", ACTION_SECONDS))?;
    world.install("render", "unrendered", "broken", &world.image("good.img"))?;
    eventually("the Workflow to say that its Template does not render", SECONDS, async || {
        let status = world.status("render").await?;
        let told = status.condition(condition::TEMPLATE_RENDERED).filter(|c| c.status == "False");
        let message = told.and_then(|condition| condition.message.clone()).unwrap_or_default();
        let failed = status.template_rendering == Some(TemplateRendering::Failed);
        if failed && message.contains("imgae_url") { Ok(Some(())) } else { Err(format!("{status:?}")) }
    })
    .await?;
    world
        .why_says(
            "unrendered",
            &["the Template broken of Workflow render cannot be rendered: template line 13", "imgae_url"],
        )
        .await?;
    // Put right, it goes on by itself.
    world.apply("broken.yaml", &simulated::template("broken", ".image_url", ACTION_SECONDS))?;
    world.succeeded("render").await
}

async fn an_image_that_is_not_there(world: &mut World) -> Result<()> {
    let _machine = world.ready("nowhere", 3, DISK, |_| {}).await?;
    let url = world.image("no-such.img");
    world.fails("nowhere", &url, &["image2disk", &url, "404 Not Found"]).await
}

async fn an_image_that_is_shorter_than_announced(world: &mut World) -> Result<()> {
    let _machine = world.ready("cut", 4, DISK, |_| {}).await?;
    let (at, of) = (format!("byte {}", IMAGE / 2), format!("of {IMAGE}"));
    world.fails("cut", &world.web.short_url(), &["image2disk", "ended", &at, &of]).await
}

async fn an_image_that_is_larger_than_the_disk(world: &mut World) -> Result<()> {
    let small = IMAGE as u64 / 2;
    let machine = world.ready("small", 5, small, |_| {}).await?;
    let (has, disk) = (format!("{IMAGE} bytes"), format!("{} has {small}", machine.server.disk));
    world.fails("small", &world.image("good.img"), &["does not fit", &has, &disk]).await
}

async fn a_disk_that_is_missing(world: &mut World) -> Result<()> {
    let _machine =
        world.ready("diskless", 6, DISK, |server| server.disk = "/dev/no-such-disk".to_owned()).await?;
    let present = disks_of_this_host()?;
    let mut says = vec!["/dev/no-such-disk does not exist", "this machine has"];
    says.extend(present.iter().map(String::as_str));
    world.fails("diskless", &world.image("good.img"), &says).await
}

async fn a_wrong_password_over_redfish(world: &mut World) -> Result<()> {
    wrong_password(world, "locked", 8).await
}

async fn a_wrong_password_over_ipmi(world: &mut World) -> Result<()> {
    wrong_password(world, "barred", 7).await
}

async fn wrong_password(world: &mut World, name: &str, number: u8) -> Result<()> {
    let machine = world.mount(name, number, DISK).await?;
    world.add(&machine, |server| server.password = format!("{MARK}-wrong"))?;
    world.contact(name, "False", "password").await?;
    world.why_says(name, &["cannot be reached through its BMC", "password"]).await?;

    let first = format!("install-{name}");
    world.install(&first, name, "stream", &world.image("good.img"))?;
    let status = world.settled(&first).await?;
    let failed = status.condition(condition::BOOT_JOB_FAILED).filter(|condition| condition.status == "True");
    let message = failed.and_then(|condition| condition.message.as_deref()).unwrap_or_default();
    ensure!(status.state == WorkflowState::Failed && message.contains("password"), "{status:?}");
    world.why_says(name, &["failed", &first, "password"]).await?;
    ensure!(machine.chassis.starts().is_empty(), "{name} was started with a wrong password");

    // Put right, the Machine notices by itself, and the next Workflow is none the worse.
    world.add(&machine, |_| {})?;
    world.contact(name, "True", "").await?;
    let second = format!("again-{name}");
    world.install(&second, name, "stream", &world.image("good.img"))?;
    world.succeeded(&second).await
}

async fn a_protected_machine(world: &mut World) -> Result<()> {
    let machine = world.mount("guarded", 9, DISK).await?;
    let plain = format!("kind: Hardware\nmetadata: {{name: guarded, namespace: {NAMESPACE}");
    let protected = format!("{plain}, annotations: {{{}: \"true\"}}", api::annotations::PROTECTED);
    let text = server(&machine.server);
    ensure!(text.contains(&plain), "the manifest looks different: {text}");
    world.apply("guarded.yaml", &text.replace(&plain, &protected))?;
    world.contact("guarded", "True", "").await?;
    world.install("install-guarded", "guarded", "stream", &world.image("good.img"))?;
    let status = world.settled("install-guarded").await?;
    let message = status.conditions.iter().filter_map(|condition| condition.message.as_deref());
    let told = message.filter(|message| message.contains("protected")).count();
    ensure!(status.state == WorkflowState::Failed && told == 1, "{status:?}");
    world
        .why_says("guarded", &["install-guarded: Hardware guarded is protected", api::annotations::PROTECTED])
        .await?;
    ensure!(machine.chassis.starts().is_empty(), "guarded was started");
    let disk = fs::read(&machine.server.disk)?;
    ensure!(disk.iter().all(|byte| *byte == 0), "guarded was written");
    Ok(())
}

async fn an_unknown_mac(world: &mut World) -> Result<()> {
    let stranger = "52:54:00:00:99:99";
    simulated::ip(&["link", "set", RACK_INTERFACE, "address", stranger])?;
    let counted = "boots_dhcp_silence_total{reason=\"unknown-mac\"}";
    let before = metric(counted)?;
    ensure!(!udhcpc().await?, "a stranger got an address");
    let heard = metric(counted)? - before;
    ensure!(heard >= 2, "{heard} packets of a stranger were counted");
    let log = fs::read_to_string(world.log())?;
    let lines = log.lines().filter(|line| line.contains(stranger)).count();
    ensure!(lines == 1, "{lines} log lines name the stranger");
    let events: Api<Event> = world.api();
    let told = serde_json::to_string(&events.list(&Default::default()).await?)?;
    ensure!(!told.contains(stranger), "an Event names the stranger");
    let output = world.tink(&["why", stranger])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success() && said.starts_with("No Hardware has"), "{said}");

    // The silence is no deaf client's: a known one is answered on the same cable.
    simulated::ip(&["link", "set", RACK_INTERFACE, "address", "52:54:00:00:01:01"])?;
    ensure!(udhcpc().await?, "steady's own MAC got no address");
    Ok(())
}

async fn a_bad_configuration(world: &mut World) -> Result<()> {
    let text = "api:
  port: 70000
boots:
  http-prt: 7171
  public-ipv4: 172.31.0.999
rufio:
  power-check-interval: often
tink-sever:
  bind-port: 1
";
    let path = world.write("bad.yaml", text)?;
    let state = world.dir.join("never");
    let state_flag = state.display().to_string();
    let output = command(&["--state-dir", &state_flag, "up", "--config", &path, "--dhcp-mode=maybe"])?;
    ensure!(output.status.code() == Some(64), "exit status {}", output.status);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mistakes = [
        (format!("{path}:2"), "port"),
        (format!("{path}:4"), "http-prt"),
        (format!("{path}:5"), "public-ipv4"),
        (format!("{path}:7"), "power-check-interval"),
        (format!("{path}:8"), "tink-sever"),
        ("--dhcp-mode".to_owned(), "maybe"),
    ];
    for (place, what) in mistakes {
        let told = said.lines().any(|line| line.contains(&place) && line.contains(what));
        ensure!(told, "no line has {place} and {what}: {said}");
    }
    ensure!(!state.exists(), "the state directory was made");
    Ok(())
}

async fn a_held_port(world: &mut World) -> Result<()> {
    let state = world.dir.join("second");
    let mut arguments = vec!["up".to_owned()];
    arguments.extend(Artefacts::find()?.up_flags(&state, PROVISIONER));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = command(&arguments)?;
    ensure!(!output.status.success(), "two stacks run beside each other");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let holder = format!("is held by tink (process {})", world.up.process());
    for port in [6443, 7171, 7172, 42113, 67, 69, 9101, 9102, 9103, 9104, 9105] {
        let address = format!(":{port} for ");
        let told = said.lines().any(|line| line.contains(&address) && line.contains(&holder));
        ensure!(told, "no line has {address}and `{holder}`: {said}");
    }
    ensure!(!state.exists(), "the state directory was made");
    Ok(())
}

/// No password, right or wrong, is in a log, in an object that is no Secret, or in what `tink` shows of them.
async fn no_password_is_told(world: &World) -> Result<()> {
    let leaks = |what: &str, text: &str| {
        let line = text.lines().find(|line| line.contains(MARK) || line.contains(MARK_BASE64));
        line.map(|line| format!("{what}: {line}"))
    };
    let mut found: Vec<String> = Vec::new();
    let log = fs::read_to_string(world.log())?;
    ensure!(log.contains("DEBUG"), "the log must be detailed for this to mean anything");
    found.extend(leaks("the log", &log));
    let kinds =
        ["hardware", "templates", "workflows", "machines", "jobs", "tasks", "events", "configmaps", "leases"];
    for kind in kinds {
        found.extend(leaks(kind, &run_tink(&world.state, &["get", kind, "-A", "-o", "yaml"])?));
        found.extend(leaks(kind, &run_tink(&world.state, &["describe", kind, "-A"])?));
    }
    for machine in ["steady", "locked", "barred", "guarded"] {
        found.extend(leaks("tink why", &run_tink(&world.state, &["why", machine])?));
    }
    for port in 9101..=9105 {
        found.extend(leaks("metrics", &metrics(port)?));
    }
    ensure!(found.is_empty(), "a password is told: {}", found.join("\n"));
    // It would be found: the Secrets have it.
    let secrets = run_tink(&world.state, &["get", "secrets", "-A", "-o", "yaml"])?;
    ensure!(leaks("secrets", &secrets).is_some(), "no Secret has a password: {secrets}");
    Ok(())
}

// What they need.

impl World {
    async fn build(namespace: &Namespace, dir: &Path) -> Result<Self> {
        simulated::plug(namespace)?;
        let web = Web::start(PROVISIONER, image(SLOW_IMAGE), IMAGE).await?;
        let images = dir.join("images");
        fs::create_dir_all(&images)?;
        fs::write(images.join("good.img"), image(IMAGE))?;
        let state = dir.join("state");
        let mut flags = Artefacts::find()?.up_flags(&state, PROVISIONER);
        flags.retain(|flag| !flag.starts_with("--images-dir"));
        flags.push(format!("--images-dir={}", images.display()));
        flags.push("--log-level=1".to_owned());
        let mut up = Up::start(&flags, &dir.join("tink.log"))?;
        up.ready(READY).await?;
        let client = client(&state).await?;
        let world = Self { dir: dir.to_owned(), state, client, web, up, started: Instant::now() };
        world.apply("stream.yaml", &simulated::template("stream", ".image_url", ACTION_SECONDS))?;
        Ok(world)
    }

    /// A server with the password that its BMC has.
    async fn mount(&self, name: &str, number: u8, disk_bytes: u64) -> Result<Simulated> {
        simulated::mount(&self.dir, name, number, &format!("{MARK}-{name}"), disk_bytes).await
    }

    /// Applies a server's manifests, with something in them changed.
    fn add(&self, machine: &Simulated, change: impl FnOnce(&mut tink::demo::Server)) -> Result<()> {
        let mut described = machine.server.clone();
        change(&mut described);
        self.apply(&format!("{}.yaml", described.name), &server(&described))
    }

    /// A server whose BMC answers.
    async fn ready(
        &self,
        name: &str,
        number: u8,
        disk_bytes: u64,
        change: impl FnOnce(&mut tink::demo::Server),
    ) -> Result<Simulated> {
        let machine = self.mount(name, number, disk_bytes).await?;
        self.add(&machine, change)?;
        self.contact(name, "True", "").await?;
        Ok(machine)
    }

    fn install(&self, workflow: &str, machine: &str, template: &str, image_url: &str) -> Result<()> {
        let text = format!(
            "apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {{name: {workflow}, namespace: {NAMESPACE}}}
spec:
  templateRef: {template}
  hardwareRef: {machine}
  bootOptions: {{toggleAllowNetboot: true, bootMode: netboot}}
  hardwareMap: {{image_url: {image_url:?}}}
"
        );
        self.apply(&format!("{workflow}.yaml"), &text)
    }

    /// An installation of this image fails; status and `tink why` say all of this.
    async fn fails(&self, machine: &str, image_url: &str, says: &[&str]) -> Result<()> {
        let workflow = format!("install-{machine}");
        self.install(&workflow, machine, "stream", image_url)?;
        let status = self.settled(&workflow).await?;
        ensure!(status.state == WorkflowState::Failed, "{workflow} ended {}", status.state);
        let mut actions = status.tasks.iter().flat_map(|task| &task.actions);
        let failed =
            actions.find(|action| action.state == WorkflowState::Failed).context("no action failed")?;
        let said = format!("{:?}: {}", failed.name, failed.message.as_deref().unwrap_or_default());
        let missing = says.iter().find(|part| !said.contains(**part));
        ensure!(missing.is_none(), "the action does not say {missing:?}: {said}");
        self.why_says(machine, says).await
    }

    /// The one sentence of `tink why`.
    fn why(&self, machine: &str) -> Result<String> {
        let text = run_tink(&self.state, &["why", machine])?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    async fn why_says(&self, machine: &str, parts: &[&str]) -> Result<()> {
        let sentence = eventually(&format!("tink why {machine} to say {parts:?}"), SECONDS, async || {
            let sentence = self.why(machine).map_err(|error| error.to_string())?;
            if parts.iter().all(|part| sentence.contains(part)) { Ok(Some(sentence)) } else { Err(sentence) }
        })
        .await?;
        println!("          {sentence}");
        ensure!(sentence.starts_with(machine) && sentence.ends_with('.'), "not a sentence: {sentence}");
        Ok(())
    }

    /// The BMC Machine says that its BMC can be contacted, or why not.
    async fn contact(&self, name: &str, status: &str, part: &str) -> Result<()> {
        let machines: Api<Machine> = self.api();
        eventually(&format!("Contactable={status} of {name}"), SECONDS, async || {
            let machine = machines.get(name).await.map_err(|error| error.to_string())?;
            let condition = machine.status.and_then(|status| status.condition(CONTACTABLE).cloned());
            let condition = condition.ok_or("not asked yet")?;
            let message = condition.message.clone().unwrap_or_default();
            let good = condition.status == status && message.contains(part);
            if good { Ok(Some(())) } else { Err(format!("{condition:?}")) }
        })
        .await
    }

    async fn status(&self, workflow: &str) -> Result<WorkflowStatus, String> {
        let workflow = self.api::<Workflow>().get(workflow).await.map_err(|error| error.to_string())?;
        Ok(workflow.status.unwrap_or_default())
    }

    /// The status of a Workflow once it is over.
    async fn settled(&self, name: &str) -> Result<WorkflowStatus> {
        eventually(&format!("the end of {name}"), SECONDS, async || {
            let status = self.status(name).await?;
            let state = status.state.to_string();
            if status.state.is_final() { Ok(Some(status)) } else { Err(format!("state {state}")) }
        })
        .await
    }

    async fn succeeded(&self, name: &str) -> Result<()> {
        let status = self.settled(name).await?;
        ensure!(status.state == WorkflowState::Success, "{name} ended {}: {status:?}", status.state);
        Ok(())
    }

    /// The installation of steady goes on.
    async fn undisturbed(&mut self) -> Result<()> {
        let before = self.status("install-steady").await.unwrap_or_default().progress;
        let before = before.map_or(0, |progress| progress.bytes_read);
        eventually("steady to go on", SECONDS, async || {
            let status = self.status("install-steady").await?;
            if status.state.is_final() {
                return Err(format!("steady ended {}", status.state));
            }
            let read = status.progress.as_ref().map_or(0, |progress| progress.bytes_read);
            Ok((status.state == WorkflowState::Running && read > before).then_some(()))
        })
        .await
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn image(&self, name: &str) -> String {
        format!("http://{PROVISIONER}:7171/images/{name}")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("tink.log")
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn apply(&self, name: &str, text: &str) -> Result<()> {
        let path = self.write(name, text)?;
        run_tink(&self.state, &["apply", "-f", &path])?;
        Ok(())
    }

    /// `tink`, however it ends.
    fn tink(&self, arguments: &[&str]) -> Result<Output> {
        let state = self.state.display().to_string();
        command(&[&["--state-dir", &state], arguments].concat())
    }
}

/// `tink`, however it ends, which it must do.
fn command(arguments: &[&str]) -> Result<Output> {
    let tink = stack::tink()?;
    Ok(Command::new("timeout").arg("30").arg(tink).args(arguments).stdin(Stdio::null()).output()?)
}

/// Device nodes of what `lsblk` calls a disk with a size.
fn disks_of_this_host() -> Result<Vec<String>> {
    let output = Command::new("lsblk")
        .args(["--nodeps", "--noheadings", "--bytes", "-o", "NAME,TYPE,SIZE"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    Ok(rows
        .filter_map(|row| match row.as_slice() {
            // Memory that calls itself a disk is none to install to.
            [name, "disk", size] if *size != "0" && !name.contains("ram") => Some(format!("/dev/{name}")),
            _ => None,
        })
        .collect())
}

/// Whether a DHCP client at the rack's end of the cable gets a lease.
async fn udhcpc() -> Result<bool> {
    let fixed = ["udhcpc", "-i", RACK_INTERFACE, "-f", "-q", "-n", "-t", "3", "-T", "1", "-s", "/bin/true"];
    let running = tokio::process::Command::new("busybox").args(fixed).kill_on_drop(true).output();
    let output = tokio::time::timeout(SECONDS, running).await.context("udhcpc does not end")??;
    Ok(output.status.success())
}

fn metrics(port: u16) -> Result<String> {
    let output = Command::new("curl").args(["-sf", &format!("http://127.0.0.1:{port}/metrics")]).output()?;
    ensure!(output.status.success(), "no metrics on port {port}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A number of boots; 0 before it was first counted.
fn metric(name: &str) -> Result<u64> {
    let text = metrics(9101)?;
    let Some(line) = text.lines().find(|line| line.starts_with(name)) else { return Ok(0) };
    match line.rsplit(' ').next().and_then(|number| number.parse().ok()) {
        Some(number) => Ok(number),
        None => bail!("not a number: {line}"),
    }
}
