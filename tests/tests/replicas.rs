// SPDX-License-Identifier: Apache-2.0
//! Two replicas of every daemon, as separate programs over TLS against `tink api`, install simulated machines while the leaders
//! are killed with SIGKILL: boots', which alone has the address that machines know, rufio's in the middle of a Job, tink-server's
//! in the middle of an image. The other replica goes on, and nothing is done twice: one start of each machine, one read of each
//! image, one success.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use api::access::{BOOTS_LEASE, RUFIO_LEASE, TINK_SERVER_LEASE};
use api::bmc::v1alpha1::Job;
use api::v1alpha1::{Workflow, WorkflowState, WorkflowStatus};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use lab::chassis::BootTarget;
use lab::netns::Namespace;
use lab::rack::PROVISIONER_INTERFACE;
use tests::apart::{Program, Server, own_flags};
use tests::simulated::{self, PROVISIONER, Simulated};
use tests::stack::{client, eventually, run_tink};
use tests::web::{self, Web};
use tests::{balancer, runner};
use tink::demo::{Artefacts, NAMESPACE, server};
use tokio::net::TcpStream;

const NAME: &str = "a_replica_goes_on_where_a_killed_leader_stopped";
/// Until programs are ready, on a machine whose cores are shared.
const READY: Duration = Duration::from_secs(120);
/// A takeover takes a Lease's 15 seconds and two tries; the rest is the machine's.
const TAKEOVER: Duration = Duration::from_secs(120);
const INSTALL: Duration = Duration::from_secs(300);

/// What the image may take, in seconds.
const ACTION_SECONDS: u32 = 900;
/// The address of the boots that leads.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 6);
const BOOTS_PORTS: [u16; 2] = [7171, 7271];
const DISK: u64 = 1 << 20;
const IMAGE: usize = 600 << 10;

fn main() -> ExitCode {
    runner::main(NAME, || runner::in_namespace("replicas-", run))
}

struct World {
    dir: PathBuf,
    state: PathBuf,
    client: Client,
    web: Web,
    started: Instant,
}

async fn run(namespace: &Namespace, dir: &Path) -> Result<()> {
    simulated::plug(namespace)?;
    let (started, state) = (Instant::now(), dir.join("state"));
    let api = Server::embedded(&state, dir, READY).await?;
    let mut pairs = replicas(&state, dir)?;
    for program in pairs.iter_mut().flatten() {
        program.ready(READY).await?;
    }
    let replicas = [42213, 42214].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    balancer::start((PROVISIONER, 42113).into(), replicas.to_vec()).await?;
    let image = web::image(IMAGE);
    let web = Web::start(PROVISIONER, image.clone(), IMAGE).await?;
    let client = client(&state).await?;
    let world = World { dir: dir.to_owned(), state, client, web, started };
    let [tink_servers, rufios, hegels, boots] = pairs;

    world.step("boots' leader is killed");
    let leads = async || Ok(answering().await.first().map(drop));
    let (killed, boots) = world.kill_leader(BOOTS_LEASE, boots, leads).await?;
    eventually("the other boots to answer", TAKEOVER, async || match answering().await.as_slice() {
        [port] if (*port == BOOTS_PORTS[0]) == (boots.name() == "boots-0") => Ok(Some(())),
        ports => Err(format!("{killed} was killed, and {ports:?} answer")),
    })
    .await?;
    world.step(&format!("{killed} was killed"));

    world.apply("template.yaml", &simulated::template("stream", ".image_url", ACTION_SECONDS))?;
    world.step("rufio's leader is killed in the middle of a Job");
    let first = world.install("one", 1).await?;
    let (rufio, rest) = world.kill_leader(RUFIO_LEASE, rufios, async || world.job_begun("one").await).await?;
    world.step(&format!("{rufio} was killed"));

    world.step("tink-server's leader is killed in the middle of the image");
    let streaming = async || {
        let status = world.status("install-one").await?;
        let read = status.progress.map_or(0, |progress| progress.bytes_read);
        if read > 0 { Ok(Some(())) } else { Err(format!("state {}, {read} bytes", status.state)) }
    };
    let (tink_server, left) = world.kill_leader(TINK_SERVER_LEASE, tink_servers, streaming).await?;
    world.step(&format!("{tink_server} was killed"));
    // The controller of the other replica is at work before the first machine is done.
    let second = world.install("two", 2).await?;
    world.led_by(TINK_SERVER_LEASE, left.process()).await?;
    world.web.release();
    for (name, machine) in [("one", &first), ("two", &second)] {
        world.succeeded(name, machine, &image).await?;
    }
    world.step("both are installed");

    // Who is asked to leave gives its Lease back, and the other need not wait for its end.
    for program in [rest, left, boots].into_iter().chain(hegels) {
        let name = program.name().to_owned();
        let ended = program.terminate(READY).await?;
        ensure!(ended.success(), "{name} ended with {ended}");
    }
    ensure!(!has_address()?, "boots has ended, and {ADDRESS} is still there");
    for lease in [BOOTS_LEASE, RUFIO_LEASE, TINK_SERVER_LEASE] {
        ensure!(world.holder(lease).await?.is_empty(), "{lease} was not given back");
        let transitions = world.lease(lease).await?.spec.and_then(|spec| spec.lease_transitions);
        ensure!(transitions == Some(1), "{lease} changed hands {transitions:?} times");
    }
    api.stop(READY).await
}

/// Two of each: tink-server, rufio, hegel, boots. The second of each pair has ports of its own.
fn replicas(state: &Path, dir: &Path) -> Result<[Vec<Program>; 4]> {
    let artefacts = Artefacts::find()?;
    let own = own_flags(state);
    let pair = |name: &str, health: u16, flags: [Vec<String>; 2]| -> Result<Vec<Program>> {
        let start = |(number, more): (u16, Vec<String>)| {
            let port = health + 100 * number;
            let flags = own.iter().cloned().chain(more).chain([format!("--{}={port}", health_flag(name))]);
            let flags: Vec<String> = flags.collect();
            Program::start(name, &format!("{name}-{number}"), &flags, port, dir)
        };
        (0u16..).zip(flags).map(start).collect()
    };
    let grpc = |port: u16| {
        vec!["--tink-server-bind-addr=127.0.0.1".to_owned(), format!("--tink-server-bind-port={port}")]
    };
    let metadata =
        |port: u16| vec!["--tootles-bind-addr=127.0.0.1".to_owned(), format!("--tootles-http-port={port}")];
    let boots = |port: u16| {
        let mut flags = artefacts.up_flags(state, PROVISIONER);
        flags.retain(|flag| !flag.starts_with("--state-dir") && !flag.starts_with("--dhcp-bind"));
        flags.extend(["--dhcp-enabled=false".to_owned(), "--tftp-server-enabled=false".to_owned()]);
        flags.push("--syslog-enabled=false".to_owned());
        flags.push(format!("--http-port={port}"));
        flags.push("--boots-enable-leader-election".to_owned());
        flags.push(format!("--boots-virtual-ip={ADDRESS}"));
        flags
    };
    Ok([
        pair("tink-server", 9104, [grpc(42213), grpc(42214)])?,
        pair("rufio", 9103, [Vec::new(), Vec::new()])?,
        pair("hegel", 9102, [metadata(7172), metadata(7272)])?,
        pair("boots", 9101, BOOTS_PORTS.map(boots))?,
    ])
}

/// The ports of boots that answer at the address.
async fn answering() -> Vec<u16> {
    let mut ports = Vec::new();
    for port in BOOTS_PORTS {
        if TcpStream::connect((ADDRESS, port)).await.is_ok() {
            ports.push(port);
        }
    }
    ports
}

fn has_address() -> Result<bool> {
    let output = Command::new("ip").args(["-o", "address", "show", "dev", PROVISIONER_INTERFACE]).output()?;
    Ok(String::from_utf8(output.stdout)?.contains(&format!("{ADDRESS}/32")))
}

fn health_flag(program: &str) -> &'static str {
    match program {
        "tink-server" => "tink-server-health-port",
        "rufio" => "rufio-health-port",
        "hegel" => "tootles-health-port",
        _ => "smee-health-port",
    }
}

impl World {
    fn step(&self, what: &str) {
        println!("  {:4} s  {what}", self.started.elapsed().as_secs());
    }

    fn apply(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        run_tink(&self.state, &["apply", "-f", &path.display().to_string()]).map(drop)
    }

    /// Mounts a machine and asks for its installation.
    async fn install(&self, name: &str, number: u8) -> Result<Simulated> {
        let machine = simulated::mount(&self.dir, name, number, "secret-7", DISK).await?;
        self.apply(&format!("{name}.yaml"), &server(&machine.server))?;
        let url = self.web.slow_url();
        let workflow = format!(
            "apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {{name: install-{name}, namespace: {NAMESPACE}}}
spec:
  templateRef: stream
  hardwareRef: {name}
  bootOptions: {{toggleAllowNetboot: true, bootMode: netboot}}
  hardwareMap: {{image_url: {url:?}}}
"
        );
        self.apply(&format!("install-{name}.yaml"), &workflow)?;
        Ok(machine)
    }

    async fn lease(&self, name: &str) -> Result<Lease> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), api::annotations::SYSTEM_NAMESPACE);
        Ok(leases.get(name).await?)
    }

    async fn holder(&self, lease: &str) -> Result<String> {
        Ok(self.lease(lease).await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
    }

    /// Kills the leader once `ripe`, waits until the other leads; the name of the one, and the other.
    async fn kill_leader(
        &self,
        lease: &str,
        replicas: Vec<Program>,
        ripe: impl AsyncFnMut() -> Result<Option<()>, String>,
    ) -> Result<(String, Program)> {
        eventually("the moment to kill", INSTALL, ripe).await?;
        let holder = self.holder(lease).await?;
        let leads = |program: &Program| holder.contains(&format!("_{}_", program.process()));
        let (leader, mut others): (Vec<Program>, Vec<Program>) = replicas.into_iter().partition(leads);
        let (Some(leader), Some(other)) = (leader.into_iter().next(), others.pop()) else {
            bail!("{lease} is held by {holder}, which is none of the replicas");
        };
        let name = leader.name().to_owned();
        leader.kill()?;
        self.led_by(lease, other.process()).await?;
        Ok((name, other))
    }

    async fn led_by(&self, lease: &str, process: u32) -> Result<()> {
        eventually("the other replica to lead", TAKEOVER, async || {
            let holder = self.holder(lease).await.map_err(|error| error.to_string())?;
            if holder.contains(&format!("_{process}_")) { Ok(Some(())) } else { Err(holder) }
        })
        .await
    }

    /// Whether rufio works on the Job that boots a machine.
    async fn job_begun(&self, name: &str) -> Result<Option<()>, String> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), NAMESPACE);
        let job =
            jobs.get_opt(&format!("netboot-install-{name}")).await.map_err(|error| error.to_string())?;
        let begun = job.and_then(|job| job.status).is_some_and(|status| status.start_time.is_some());
        Ok(begun.then_some(()))
    }

    async fn status(&self, name: &str) -> Result<WorkflowStatus, String> {
        let workflows: Api<Workflow> = Api::namespaced(self.client.clone(), NAMESPACE);
        let workflow = workflows.get(name).await.map_err(|error| error.to_string())?;
        Ok(workflow.status.unwrap_or_default())
    }

    /// A machine is installed, and everything was done once.
    async fn succeeded(&self, name: &str, machine: &Simulated, image: &[u8]) -> Result<()> {
        let workflow = format!("install-{name}");
        let status = eventually(&format!("the end of {workflow}"), INSTALL, async || {
            let status = self.status(&workflow).await?;
            if status.state.is_final() { Ok(Some(status)) } else { Err(format!("state {}", status.state)) }
        })
        .await?;
        ensure!(status.state == WorkflowState::Success, "{workflow} ended {}: {status:?}", status.state);
        let disk = fs::read(&machine.server.disk)?;
        ensure!(disk.get(..image.len()) == Some(image), "the disk of {name} is not its image");
        let starts = machine.chassis.starts();
        ensure!(starts == [BootTarget::Pxe], "{name} was started {starts:?}");
        let events: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let successes = eventually("the Event of the success", READY, async || {
            let selector = ListParams::default().fields("reason=WorkflowSucceeded");
            let all = events.list(&selector).await.map_err(|error| error.to_string())?;
            let of_this =
                all.items.iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
            let counts: Vec<i32> = of_this.map(|event| event.count.unwrap_or(1)).collect();
            Ok((!counts.is_empty()).then_some(counts))
        })
        .await?;
        ensure!(successes == [1], "there must be one success of {name}: {successes:?}");
        let requests = self.web.slow_requests();
        ensure!(requests <= 2, "two images were asked for {requests} times");
        Ok(())
    }
}
