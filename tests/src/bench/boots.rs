// SPDX-License-Identifier: Apache-2.0
//! boots beside Kea (DHCP from reservations and from a pool, perfdhcp as relay) and nginx (HTTP, wrk), with few and with many
//! machines known.
//!
//! The servers run in the network namespace of the benchmark, the clients in a second one at the other end of a veth pair. A
//! bare UDP reflector is measured with them: it shows what perfdhcp itself can do. boots gets its machines from `tink api`,
//! Kea from its configuration file; only one DHCP server runs at a time, since they share port 67.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use kube::Client;
use serde_json::json;
use tink::demo::Artefacts;

use super::{RUNS, Row, in_namespace, median, succeed};
use crate::apart::{Program, Server, daemons};
use crate::process::{self, Process};
use crate::stack;

mod dhcp;
pub mod instructions;
mod transfers;

/// Machines that are known, and a small selection of that.
const SCALES: [usize; 3] = [100, 5_000, 50_000];
const QUICK: [usize; 1] = [100];
const SERVER: &str = "10.77.0.1";
const RELAY: &str = "10.77.0.2";
const READY: Duration = Duration::from_secs(120);
/// Size of the large file, in bytes.
const FILE: usize = 100_000_000;
/// The script of nginx has as many bytes as ours is about to have.
const SCRIPT: usize = 1024;
/// Connections of the HTTP client.
const CONNECTIONS: &str = "64";
const COLLECTION: &str = "/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware";

/// Measures; `quick` does so with few machines only.
///
/// # Errors
/// When a program is missing or does not start, or without the rights to make network namespaces.
pub fn run(quick: bool) -> Result<Vec<Row>> {
    in_namespace(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(quick))
    })
}

async fn measure(quick: bool) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let clients = ClientSide::new()?;
    let files = Files::write(dir.path())?;
    let mut rows = Vec::new();
    let reflector = dhcp::Reflector::start()?;
    let limit = dhcp::highest_rate(&clients, SCALES[0])?;
    drop(reflector);
    rows.push(row("DORA", "a UDP reflector, perfdhcp's limit", limit.acknowledged, "/s"));
    let scales: &[usize] = if quick { &QUICK } else { &SCALES };
    for (number, machines) in scales.iter().copied().enumerate() {
        let bench = |what: &str| format!("{what}, {machines} machines");
        let mut clean = 0;
        for (source, subject) in [
            (dhcp::Source::Pool, "Kea, memfile, from a pool"),
            (dhcp::Source::Reservations, "Kea, memfile, reservations"),
        ] {
            let kea = dhcp::Kea::start(dir.path(), machines, source)?;
            let theirs = dhcp::highest_rate(&clients, machines)?;
            rows.push(row(bench("DORA without loss"), subject, theirs.acknowledged, "/s"));
            if source == dhcp::Source::Reservations {
                clean = theirs.rate;
                rows.extend(delays(&bench, subject, &dhcp::delays(&clients, machines, clean)?));
                rows.push(row(bench("RSS after the load"), subject, kea.memory()?, "MB"));
            }
        }
        let ours = Ours::start(dir.path(), &files, number, machines).await?;
        let idle = ours.boots.memory()?;
        let rate = dhcp::highest_rate(&clients, machines)?;
        rows.push(row(bench("DORA without loss"), "boots", rate.acknowledged, "/s"));
        rows.extend(delays(&bench, "boots", &dhcp::delays(&clients, machines, clean)?));
        rows.push(row(bench("RSS when ready"), "boots", idle, "MB"));
        rows.push(row(bench("RSS after the load"), "boots", ours.boots.memory()?, "MB"));
        let instructions = instructions::per_exchange(machines)?;
        rows.push(row(bench("instructions of an exchange"), "boots", instructions, ""));
        if machines == *scales.last().unwrap_or(&machines) {
            let held = transfers::hold(1000).await?;
            rows.push(row(
                bench("RSS with 1,000 TFTP transfers running"),
                "boots",
                ours.boots.memory()?,
                "MB",
            ));
            drop(held);
            rows.extend(transfers::http(&clients, &files, dir.path())?);
            rows.push(row(bench("RSS after HTTP, 64 connections"), "boots", ours.boots.memory()?, "MB"));
        }
    }
    Ok(rows)
}

/// Rows of the time from a DISCOVER to its OFFER and from a REQUEST to its ACK.
fn delays(bench: &impl Fn(&str) -> String, subject: &str, delays: &dhcp::Delays) -> [Row; 2] {
    [("p50", delays.median), ("p99", delays.p99)].map(|(name, value)| {
        row(bench(&format!("{name} of an answer at Kea's clean rate")), subject, value, "ms")
    })
}

/// A figure, which is also told at once: all of them take a quarter of an hour.
fn row(bench: impl Into<String>, subject: &str, value: f64, unit: &'static str) -> Row {
    let row = Row { bench: bench.into(), subject: subject.to_owned(), value, unit };
    eprintln!("{}, {subject}: {value:.1} {unit}", row.bench);
    row
}

/// The namespace of the clients, with the other end of the veth pair.
struct ClientSide(Child);

impl ClientSide {
    fn new() -> Result<Self> {
        // Holds the namespace; it ends with this process.
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("start unshare")?;
        let side = Self(holder);
        let process = side.0.id().to_string();
        let own = std::fs::read_link("/proc/thread-self/ns/net")?;
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(format!("/proc/{process}/ns/net"))? == own {
            ensure!(std::time::Instant::now() < until, "unshare makes no namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
        ip(&["link", "add", "servers", "type", "veth", "peer", "name", "clients", "netns", &process])?;
        ip(&["address", "add", &format!("{SERVER}/16"), "dev", "servers"])?;
        ip(&["link", "set", "servers", "up"])?;
        for arguments in [
            vec!["link", "set", "lo", "up"],
            vec!["address", "add", "10.77.0.2/16", "dev", "clients"],
            vec!["link", "set", "clients", "up"],
        ] {
            succeed(side.command("ip").args(arguments))?;
        }
        Ok(side)
    }

    /// A program in the namespace of the clients.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.0.id().to_string(), program]);
        command
    }
}

impl Drop for ClientSide {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    succeed(Command::new("ip").args(arguments)).map(drop)
}

/// What both HTTP servers serve.
struct Files {
    /// `images/file` and `script`.
    root: PathBuf,
}

impl Files {
    fn write(dir: &Path) -> Result<Self> {
        let root = dir.join("files");
        std::fs::create_dir_all(root.join("images"))?;
        let pattern: Vec<u8> = (0..FILE).map(|index| (index / 7).to_le_bytes()[0]).collect();
        std::fs::write(root.join("images/file"), &pattern)?;
        std::fs::write(root.join("script"), pattern.get(..SCRIPT).unwrap_or_default())?;
        Ok(Self { root })
    }
}

/// `tink api` with its machines, and the daemons: boots begins when tink-server made the key of agent tokens.
struct Ours {
    boots: Program,
    _others: Vec<Program>,
    _api: Server,
}

impl Ours {
    async fn start(dir: &Path, files: &Files, number: usize, machines: usize) -> Result<Self> {
        let dir = dir.join(format!("ours-{number}"));
        let state = dir.join("state");
        std::fs::create_dir_all(&state)?;
        let api = Server::embedded(&state, &dir, READY).await?;
        fill(&stack::client(&state).await?, machines).await?;
        let mut flags = Artefacts::find()?.up_flags(&state, SERVER.parse()?);
        flags.retain(|flag| !flag.starts_with("--images-dir") && !flag.starts_with("--dhcp-bind-interface"));
        flags.push("--dhcp-bind-interface=servers".to_owned());
        // One client has each machine boot many times a second, and another one asks as fast as it can, which is what the limits
        // are there to stop; Kea and nginx have none.
        flags.extend(["--dhcp-rate=0", "--http-rate=0"].map(str::to_owned));
        flags.push(format!("--images-dir={}", files.root.join("images").display()));
        let mut others = daemons(&state, &flags, &dir, READY).await?;
        let boots = others.pop().context("boots is the last of them")?;
        Ok(Self { boots, _others: others, _api: api })
    }
}

/// Creates machines, each with a reservation.
async fn fill(client: &Client, machines: usize) -> Result<()> {
    futures::stream::iter(0..machines)
        .map(|number| {
            let machine = machine(number);
            let request = Request::post(COLLECTION).header("content-type", "application/json");
            async move {
                let request = request.body(machine.to_string().into_bytes())?;
                client.request::<serde_json::Value>(request).await.context("create a machine")
            }
        })
        .buffer_unordered(64)
        .try_for_each(async |_| Ok(()))
        .await
}

/// A machine with a reservation.
fn machine(number: usize) -> serde_json::Value {
    json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": {"name": format!("m{number}")},
        "spec": {"interfaces": [{
            "dhcp": {
                "mac": dhcp::mac(number),
                "hostname": format!("m{number}"),
                "lease_time": 86_400,
                "name_servers": [SERVER],
                "ip": {"address": dhcp::address(number), "netmask": "255.255.0.0", "gateway": SERVER},
            },
            "netboot": {"allowPXE": true, "allowWorkflow": true},
        }]},
    })
}

/// Resident memory of a process, in megabytes (10^6 bytes).
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn memory(process: u32) -> Result<f64> {
    Ok(process::memory(process)?.0 as f64 / 1e6)
}

impl Program {
    /// Resident memory, in megabytes (10^6 bytes).
    fn memory(&self) -> Result<f64> {
        memory(self.process())
    }
}

/// A server that is not ours, in the namespace of the servers.
struct Foreign(Process);

impl Foreign {
    fn start(name: &str, program: &str, log: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
        let program = found.with_context(|| format!("{program} is not there: run ./x bench"))?;
        Ok(Self(Process::start(name, &program, log.to_owned(), configure)?))
    }
}

/// The median of some runs.
fn typical(mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(median((0..RUNS).map(|_| run()).collect::<Result<_>>()?))
}
