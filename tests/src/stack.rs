// SPDX-License-Identifier: Apache-2.0
//! `tink up` as a process of its own, which a test may kill, and what a user does beside it.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::anywhere::v1alpha1::{Cluster, NAMESPACE};
use api::v1alpha1::Hardware;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use rustix::process::Signal;

use crate::process::Process;
use crate::simulated::Neighbour;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A running `tink up`. Killed when dropped, and with this process whatever ends it.
#[derive(Debug)]
pub struct Up {
    process: Process,
    /// Where it runs, as [`Neighbour::entry`] has it; nothing when that is here.
    entry: Vec<String>,
}

impl Up {
    /// Starts it with these flags. Must be called on a thread that stays: the parent-death signal is tied to it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(flags: &[String], log: &Path) -> Result<Self> {
        let process = Process::start("tink up", &tink()?, log.to_owned(), |command| {
            command.arg("up").args(flags);
        })?;
        Ok(Self { process, entry: Vec::new() })
    }

    /// The same on another host of the rack's network.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_on(host: &Neighbour, flags: &[String], log: &Path) -> Result<Self> {
        let (entry, tink) = (Vec::from(host.entry()), tink()?);
        let process = Process::start("tink up", Path::new("nsenter"), log.to_owned(), |command| {
            command.args(&entry).arg(tink).arg("up").args(flags);
        })?;
        Ok(Self { process, entry })
    }

    /// Its process number.
    pub fn process(&self) -> u32 {
        self.process.number()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, and the exit status.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn terminate(mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.end(Signal::TERM, deadline).await
    }

    /// Waits for its end, whoever brought it about; gives the exit status.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.ended(deadline).await
    }

    /// Waits until every daemon answers that it is ready.
    ///
    /// # Errors
    /// When `tink up` ends, or the deadline passes.
    pub async fn ready(&mut self, deadline: Duration) -> Result<()> {
        self.ready_on(9101..=9105, deadline).await
    }

    /// The same with health ports of its own.
    ///
    /// # Errors
    /// As [`Up::ready`].
    pub async fn ready_on(&mut self, ports: RangeInclusive<u16>, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        for port in ports {
            let url = format!("http://127.0.0.1:{port}/readyz");
            while !self.curl().args(["-sf", "-o", "/dev/null", &url]).status()?.success() {
                self.process.check()?;
                ensure!(Instant::now() < until, "the daemon with health port {port} is not ready");
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn curl(&self) -> Command {
        if self.entry.is_empty() {
            return Command::new("curl");
        }
        let mut there = Command::new("nsenter");
        there.args(&self.entry).arg("curl");
        there
    }
}

/// The `tink` binary under test.
///
/// # Errors
/// When it was not built.
pub fn tink() -> Result<PathBuf> {
    program("tink")
}

/// A binary under test.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("TINK_BIN_DIR").context("TINK_BIN_DIR is not set: run ./x test")?;
    let binary = PathBuf::from(folder).join(name);
    ensure!(binary.is_file(), "{} is missing: run ./x test", binary.display());
    Ok(binary)
}

/// Runs a command on an installed system with this key, until its output is `good`.
///
/// # Errors
/// When it is not within the deadline; with what ssh said last.
pub async fn login(
    key: &Path,
    address: Ipv4Addr,
    command: &str,
    deadline: Duration,
    good: impl Fn(&str) -> bool,
) -> Result<String> {
    let options = [
        "BatchMode=yes",
        "ConnectTimeout=5",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ];
    let target = format!("debian@{address}");
    eventually(&format!("a login on {address}"), deadline, async || {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.arg("-i").arg(key).args(options.iter().flat_map(|option| ["-o", option]));
        ssh.arg(&target).arg(command).kill_on_drop(true);
        let answer = tokio::time::timeout(Duration::from_secs(30), ssh.output()).await;
        let output = answer.map_err(|_| "ssh hangs".to_owned())?.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && good(&text) {
            return Ok(Some(text));
        }
        Err(format!("{text} {}", String::from_utf8_lossy(&output.stderr).trim()))
    })
    .await
}

/// Runs a `tink` command against the stack with its state in `state`; gives what it printed.
///
/// # Errors
/// When it fails; with what it said.
pub fn run_tink(state: &Path, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(tink()?).arg("--state-dir").arg(state).args(arguments).stdin(Stdio::null()).output()?;
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "tink {} ended with {}: {error}{out}",
        arguments.join(" "),
        output.status
    );
    Ok(out.into_owned())
}

/// A client through TLS with the kubeconfig that `tink up` wrote.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub async fn client(state: &Path) -> Result<Client> {
    client_of(&state.join("kubeconfig")).await
}

/// A client with a kubeconfig.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub async fn client_of(kubeconfig: &Path) -> Result<Client> {
    daemon::install_crypto();
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Fails unless nothing is left of a deleted cluster on the provisioner: its machines have but the label of their inventory and
/// no user data, and its object is gone.
///
/// # Errors
/// What is left, or that the API cannot be asked.
pub async fn is_given_back(state: &Path, cluster: &str) -> Result<()> {
    let client = client(state).await?;
    let hardware: Api<Hardware> = Api::namespaced(client.clone(), NAMESPACE);
    for one in hardware.list(&ListParams::default()).await?.items {
        ensure!(one.labels().len() == 1, "{} is still held: {:?}", one.name_any(), one.labels());
        ensure!(one.spec.user_data.is_none(), "{} keeps its user data", one.name_any());
    }
    let clusters: Api<Cluster> = Api::namespaced(client, NAMESPACE);
    ensure!(clusters.get_opt(cluster).await?.is_none(), "the Cluster is still there");
    Ok(())
}

/// Waits until `condition` gives something; the error names what was waited for and what it said last.
///
/// # Errors
/// When the deadline passes, or `condition` fails for good (`Err`).
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>, String>,
) -> Result<T> {
    let until = Instant::now() + deadline;
    let mut last = String::from("nothing yet");
    loop {
        match condition().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(problem) => last = problem,
        }
        ensure!(Instant::now() < until, "{what}: not within {} s; last: {last}", deadline.as_secs());
        tokio::time::sleep(POLL).await;
    }
}
