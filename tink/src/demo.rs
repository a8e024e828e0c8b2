// SPDX-License-Identifier: Apache-2.0
//! `tink demo`: two simulated servers go from powered off to their installed, running operating system.
//!
//! Owns the run: a network namespace with the lab's rack in it, the whole stack beside it in the same process, a user's
//! manifests, and what a person sees of it. Everything goes the way that a real installation goes; the demo only watches.
//! Whatever ends it, no process, namespace or interface stays: they end with this process.

mod manifests;
mod report;
mod timeline;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use api::events::Reason;
use api::v1alpha1::Workflow;
use clap::Args;
use daemon::config::Inputs;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use lab::bmc::Kind;
use lab::machine::{DiskBus, Firmware};
use lab::rack::{DEMO_PASSWORD, DEMO_USER, PROVISIONER_INTERFACE, Rack, RackSpec, ServerSpec};
use tokio_util::sync::CancellationToken;

pub use manifests::{BmcProtocol, Install, NAMESPACE, Server, TEMPLATE, server, workflow};
use timeline::{State, Timeline};

use crate::apply::apply;
use crate::up::{Stack, UpConfig};

/// How long the whole run may take before it is called stuck.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// Room that disks, logs and store need at the most, in MiB.
const DISK_MIB: u64 = 3 * 1024;

/// What can be said to `tink demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Write the figures of the run to this file as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Keep disks, logs and captured frames in this directory [default: a temporary one; its logs stay]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What `./x build` made.
#[derive(Debug)]
pub struct Artefacts {
    hook: PathBuf,
    boot_programs: PathBuf,
    images: PathBuf,
    iso: PathBuf,
}

impl Artefacts {
    /// The artefacts in `TINK_ARTEFACTS`, else in the user's cache.
    ///
    /// # Errors
    /// When one is missing; names the command that makes it.
    pub fn find() -> Result<Self> {
        let current = crate::path_variable("TINK_ARTEFACTS")
            .or_else(crate::built_artefacts)
            .context("neither TINK_ARTEFACTS nor HOME is set")?;
        let found = Self {
            hook: current.join("hook"),
            boot_programs: current.join("boot-programs"),
            images: current.join("images"),
            iso: current.join("iso"),
        };
        for folder in [&found.hook, &found.boot_programs, &found.images] {
            ensure!(folder.is_dir(), "{} is missing: run ./x build", folder.display());
        }
        Ok(found)
    }

    /// The operating-system image: file name and `sha256:<hex>`.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn image(&self) -> Result<(String, String)> {
        let mut names =
            fs::read_dir(&self.images)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let name = names
            .find(|name| name.ends_with(".raw.zst"))
            .context("no image in the image directory: run ./x build")?;
        let digest = digest(&self.images.join(&name))?;
        Ok((name, digest))
    }

    /// Where an image file is.
    pub fn image_path(&self, name: &str) -> PathBuf {
        self.images.join(name)
    }

    /// The ISO image of HookOS.
    ///
    /// # Errors
    /// When it was not built.
    pub fn iso(&self) -> Result<PathBuf> {
        let iso = self.iso.join("hook-x86_64.iso");
        ensure!(iso.is_file(), "{} is missing: run ./x build", iso.display());
        Ok(iso)
    }

    /// Sizes of the HookOS kernel and initramfs in bytes.
    ///
    /// # Errors
    /// When one is missing.
    pub fn hook_sizes(&self) -> Result<(u64, u64)> {
        let size =
            |name: &str| fs::metadata(self.hook.join(name)).with_context(|| format!("{name}: run ./x build"));
        Ok((size("vmlinuz-x86_64")?.len(), size("initramfs-x86_64")?.len()))
    }

    /// Flags for `tink up` on the lab's network, with its state in `state`.
    pub fn up_flags(&self, state: &Path, provisioner: Ipv4Addr) -> Vec<String> {
        let folder = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        vec![
            folder("state-dir", state),
            folder("hook-dir", &self.hook),
            folder("boot-program-dir", &self.boot_programs),
            folder("images-dir", &self.images),
            format!("--public-ipv4={provisioner}"),
            format!("--dhcp-bind-interface={PROVISIONER_INTERFACE}"),
        ]
    }
}

/// `sha256:<hex>` of a file, as `IMG_DIGEST` wants it.
///
/// # Errors
/// When the file cannot be read.
pub fn digest(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("start sha256sum")?;
    ensure!(output.status.success(), "sha256sum failed on {}", file.display());
    let text = String::from_utf8(output.stdout)?;
    let digest = text.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(format!("sha256:{digest}"))
}

/// Runs the demo in this process, which must not have started any thread yet.
///
/// # Errors
/// When the lab or the stack cannot be built, or a machine does not end installed and running.
pub fn main(arguments: &DemoArgs) -> Result<()> {
    let report = arguments.report.as_deref().map(std::path::absolute).transpose()?;
    let namespace = lab::netns::enter_or_reexec()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let (dir, temporary) = match &arguments.dir {
        Some(dir) => (std::path::absolute(dir)?, false),
        None => (std::env::temp_dir().join(format!("tink-demo-{}", std::process::id())), true),
    };
    fs::create_dir_all(&dir)?;
    let result = runtime.block_on(run(&namespace, &dir, report.as_deref(), started));
    if temporary {
        clean(&dir);
    }
    // A second Ctrl-C may have cut the drain short; nothing may hold the process up after that.
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Removes disks and state; logs stay.
fn clean(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_log = path.extension().is_some_and(|kind| kind == "log" || kind == "pcap");
        // What cannot be removed is left for the user to see.
        if path.is_dir() {
            drop(fs::remove_dir_all(path));
        } else if !is_log {
            drop(fs::remove_file(path));
        }
    }
}

async fn run(
    namespace: &lab::netns::Namespace,
    dir: &Path,
    report: Option<&Path>,
    started: Instant,
) -> Result<()> {
    let artefacts = Artefacts::find()?;
    let spec = RackSpec::demo()?;
    announce(&spec, dir, &artefacts)?;
    log_to(&dir.join("tink.log"))?;

    let provisioner = spec.provisioner;
    let servers = spec.servers.iter().map(|server| describe(server, &spec)).collect::<Result<Vec<_>>>()?;
    let kinds: Vec<_> =
        spec.servers.iter().map(|server| (server.machine.firmware, server.bmc.kind)).collect();
    let rack = Rack::start(namespace, spec, dir).await.context("build the rack")?;
    let inputs = Inputs::gather(artefacts.up_flags(&dir.join("state"), provisioner), []);
    let (config, _) = UpConfig::read(inputs)?;
    let mut stack = Stack::start(config).await.context("start the stack")?;
    stack.ready().await?;
    let client = stack.client();
    say(started.elapsed(), "stack", "API, boots, hegel, rufio and tink-server are ready");

    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(daemon::shutdown_on_signal(shutdown.clone())?);
    let stop_stack = CancellationToken::new();
    let mut running = tokio::spawn(stack.run(stop_stack.clone()));
    let mut watching = Watching::new(&servers, started);
    let outcome = tokio::select! {
        result = async {
            apply_manifests(&client, dir, &servers, &artefacts, provisioner).await?;
            watching.run(&client).await
        } => result,
        ended = &mut running => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("the stack ended by itself")),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error.into()),
        },
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
        () = tokio::time::sleep(DEADLINE) => Err(anyhow::anyhow!("not done after {} minutes", DEADLINE.as_secs() / 60)),
    };
    watching.summary(&servers, &kinds, dir);
    if let Some(path) = report {
        let report = watching.report(&servers, &kinds, artefacts.hook_sizes()?);
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    rack.stop().await;
    stop_stack.cancel();
    if !running.is_finished() {
        running.await??;
    }
    // Until here a second Ctrl-C ends the process at once.
    signals.abort();
    outcome
}

fn announce(spec: &RackSpec, dir: &Path, artefacts: &Artefacts) -> Result<()> {
    let memory: u32 = spec.servers.iter().map(|server| server.machine.memory_mib).sum();
    let (kernel, initramfs) = artefacts.hook_sizes()?;
    println!(
        "This takes about 4 minutes on two cores without hardware virtualisation, {memory} MiB of memory for the machines,\n\
         and up to {DISK_MIB} MiB in {}. Nothing leaves this machine: the rack has a network namespace of its own.",
        dir.display()
    );
    for server in &spec.servers {
        let machine = &server.machine;
        println!(
            "  {}  {:4}  BMC {:7} at {}   serial log {}",
            machine.name(),
            firmware(machine.firmware),
            protocol(server.bmc.kind),
            server.bmc.address,
            dir.join(format!("{}.serial.log", machine.name())).display()
        );
    }
    println!("  log of the daemons {}", dir.join("tink.log").display());
    println!("  HookOS: kernel {} kB, initramfs {} kB\n", kernel / 1000, initramfs / 1000);
    let free = Command::new("df").args(["--output=avail", "-BM"]).arg(dir).output().context("start df")?;
    let text = String::from_utf8_lossy(&free.stdout).into_owned();
    let free: u64 = text
        .lines()
        .nth(1)
        .and_then(|line| line.trim().trim_end_matches('M').parse().ok())
        .unwrap_or(u64::MAX);
    ensure!(
        free >= DISK_MIB,
        "{} has {free} MiB free, {DISK_MIB} are needed; --dir names another place",
        dir.display()
    );
    Ok(())
}

/// The daemons' log goes to a file: the terminal shows the timeline.
fn log_to(path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Mutex::new(file));
    subscriber.try_init().map_err(|error| anyhow::anyhow!("set up logging: {error}"))
}

/// A server of the rack as its owner would describe it in manifests.
///
/// # Errors
/// When its BMC is not on IPv4, or there is no address for it.
pub fn describe(server: &ServerSpec, spec: &RackSpec) -> Result<Server> {
    let IpAddr::V4(bmc) = server.bmc.address.ip() else {
        bail!("the BMC of {} is not on IPv4", server.machine.name())
    };
    // The lab's plan: the BMC at .101 belongs to the server at .11.
    let [a, b, c, d] = bmc.octets();
    let host = d.checked_sub(90).context("the lab's BMCs begin at .101")?;
    Ok(Server {
        name: server.machine.name().to_owned(),
        mac: server.machine.mac().to_string(),
        address: Ipv4Addr::new(a, b, c, host),
        netmask: Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(spec.prefix)).unwrap_or(0)),
        provisioner: spec.provisioner,
        uefi: server.machine.firmware == Firmware::Uefi,
        disk: match server.machine.disk.map(|disk| disk.bus) {
            Some(DiskBus::Nvme) => "/dev/nvme0n1".to_owned(),
            _ => "/dev/vda".to_owned(),
        },
        bmc,
        protocol: match server.bmc.kind {
            Kind::Ipmi => BmcProtocol::Ipmi,
            Kind::Redfish => BmcProtocol::Redfish,
        },
        user: DEMO_USER.to_owned(),
        password: DEMO_PASSWORD.to_owned(),
        ssh_key: DEMO_KEY.to_owned(),
    })
}

/// A public key whose private half nobody has: the demo shows that it arrives, it does not log in.
const DEMO_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAdJ9lqXQ4ZC9uYyNtqgpcZqF1sXbB0yXG8S3TzqQm1F demo";

async fn apply_manifests(
    client: &kube::Client,
    dir: &Path,
    servers: &[Server],
    artefacts: &Artefacts,
    provisioner: Ipv4Addr,
) -> Result<()> {
    let (image, digest) = artefacts.image()?;
    let folder = dir.join("manifests");
    fs::create_dir_all(&folder)?;
    let mut paths = Vec::new();
    let mut write = |name: String, text: &str| -> Result<()> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        paths.push(path);
        Ok(())
    };
    write("template.yaml".to_owned(), TEMPLATE)?;
    for one in servers {
        write(format!("{}.yaml", one.name), &server(one))?;
    }
    for one in servers {
        let install = Install {
            name: format!("install-{}", one.name),
            image_url: format!("http://{provisioner}:7171/images/{image}"),
            image_digest: digest.clone(),
            metadata_url: format!("http://{provisioner}:7172"),
        };
        write(format!("install-{}.yaml", one.name), &workflow(one, &install))?;
    }
    apply(client, &paths, NAMESPACE).await.map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the manifests were refused: {}", lines.join("; "))
    })
}

/// What is seen of the machines.
struct Watching {
    started: Instant,
    machines: BTreeMap<String, Timeline>,
}

impl Watching {
    fn new(servers: &[Server], started: Instant) -> Self {
        let machines =
            servers.iter().map(|server| (server.name.clone(), Timeline::new(started.elapsed()))).collect();
        Self { started, machines }
    }

    /// Follows Events and Workflows until every machine is done.
    async fn run(&mut self, client: &kube::Client) -> Result<()> {
        let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
        let workflows: Api<Workflow> = Api::namespaced(client.clone(), NAMESPACE);
        let mut events =
            watcher(events, watcher::Config::default()).default_backoff().applied_objects().boxed();
        let mut workflows =
            watcher(workflows, watcher::Config::default()).default_backoff().applied_objects().boxed();
        while !self.machines.values().all(Timeline::is_over) {
            tokio::select! {
                event = events.try_next() => self.event(&event?.context("the watch of Events ended")?),
                workflow = workflows.try_next() => self.workflow(&workflow?.context("the watch of Workflows ended")?),
            }
        }
        let failed: Vec<&str> = self
            .machines
            .iter()
            .filter(|(_, one)| one.state != State::Running)
            .map(|(name, _)| name.as_str())
            .collect();
        ensure!(failed.is_empty(), "not installed: {}", failed.join(", "));
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        let now = self.started.elapsed();
        let Some(name) = event.involved_object.name.as_deref() else { return };
        let reason = event.reason.as_deref().and_then(|reason| reason.parse::<Reason>().ok());
        if let (Some(timeline), Some(reason)) = (self.machines.get_mut(name), reason) {
            let message = event.message.as_deref().unwrap_or_default();
            if let Some(line) = timeline.event(reason, message, event.count.unwrap_or(1), now) {
                say(now, name, &line);
            }
        }
    }

    fn workflow(&mut self, workflow: &Workflow) {
        let now = self.started.elapsed();
        let (Some(name), Some(status)) = (workflow.spec.hardware_ref.as_deref(), &workflow.status) else {
            return;
        };
        if let Some(timeline) = self.machines.get_mut(name) {
            for line in timeline.workflow(status, now) {
                say(now, name, &line);
            }
        }
    }

    fn summary(&self, servers: &[Server], kinds: &[(Firmware, Kind)], dir: &Path) {
        println!();
        for (server, (firmware_kind, bmc)) in servers.iter().zip(kinds) {
            let Some(timeline) = self.machines.get(&server.name) else { continue };
            let state = match &timeline.state {
                State::Running => "installed and running".to_owned(),
                State::Installed => "installed, its operating system has not called yet".to_owned(),
                State::Installing => "not installed yet".to_owned(),
                State::Failed(reason) => format!("FAILED: {reason}"),
            };
            println!("{} ({}, {}): {state}", server.name, firmware(*firmware_kind), protocol(*bmc));
            for phase in &timeline.phases {
                println!("  {:42} {:7.1} s", phase.name, phase.took.as_secs_f64());
            }
            if let Some(seconds) = timeline.agent_first_call {
                println!("  {:42} {seconds:7.1} s", "(kernel start to the agent's first call)");
            }
        }
        println!("\nlogs: {}", dir.display());
    }

    fn report(
        &self,
        servers: &[Server],
        kinds: &[(Firmware, Kind)],
        (kernel, initramfs): (u64, u64),
    ) -> report::Report {
        let machine = |(server, (firmware_kind, bmc)): (&Server, &(Firmware, Kind))| {
            let timeline = self.machines.get(&server.name)?;
            Some(report::Machine::new(&server.name, firmware(*firmware_kind), protocol(*bmc), timeline))
        };
        report::Report {
            machines: servers.iter().zip(kinds).filter_map(machine).collect(),
            kernel_bytes: kernel,
            initramfs_bytes: initramfs,
        }
    }
}

fn firmware(kind: Firmware) -> &'static str {
    match kind {
        Firmware::Bios => "bios",
        Firmware::Uefi => "uefi",
    }
}

fn protocol(kind: Kind) -> &'static str {
    match kind {
        Kind::Ipmi => "ipmi",
        Kind::Redfish => "redfish",
    }
}

/// One line of the timeline. A terminal that is gone is no reason to leave a machine half installed.
fn say(at: Duration, who: &str, what: &str) {
    drop(writeln!(std::io::stdout(), "[{:6.1} s] {who:5} {what}", at.as_secs_f64()));
}
