// SPDX-License-Identifier: Apache-2.0
//! The admin machine: a host of the rack's network with `tink` and `kubectl`, where lines are typed.
//!
//! Owns its `tink up` and how a line looks and is run: by a shell in a folder of its own, with a state directory of its own.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::rack::PROVISIONER_INTERFACE;
use tink::demo::Artefacts;
use tokio::process::Command;

use crate::kubernetes;
use crate::simulated::{self, NEIGHBOUR_INTERFACE, Neighbour};
use crate::stack::{Up, tink};

/// The state directory in the folder.
const STATE: &str = "state";
/// Ports on which the parts of `tink up` say whether they are ready.
const HEALTH: std::ops::RangeInclusive<u16> = 9101..=9105;

/// The machine. Everything on it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Admin {
    address: Ipv4Addr,
    dir: PathBuf,
    path: OsString,
    /// What `export KUBECONFIG` said.
    kubeconfig: Option<String>,
    up: Option<Up>,
    // Ends after what runs in it.
    host: Neighbour,
}

impl Admin {
    /// Plugs it in; its files lie in `dir`.
    pub(super) fn new(address: Ipv4Addr, dir: &Path) -> Result<Self> {
        let (tink, kubectl) = (tink()?, kubernetes::programs()?);
        let own = [tink.parent().context("a folder of programs")?.to_owned(), kubectl];
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&others)))?;
        let host = simulated::neighbour(address)?;
        Ok(Self { address, dir: dir.to_owned(), path, kubeconfig: None, up: None, host })
    }

    /// Starts `tink up`, and waits until all of it is ready.
    pub(super) async fn up(&mut self, deadline: Duration) -> Result<()> {
        let mut flags = Artefacts::find()?.up_flags(&self.dir.join(STATE), self.address);
        for flag in &mut flags {
            *flag = flag.replace(PROVISIONER_INTERFACE, NEIGHBOUR_INTERFACE);
        }
        println!("\n$ tink up {} &", flags.join(" "));
        let mut up = Up::start_on(&self.host, &flags, &self.dir.join("up.log"))?;
        up.ready_on(HEALTH, deadline).await?;
        println!("(API server, boots, hegel, rufio and tink-server are ready)");
        self.up = Some(up);
        Ok(())
    }

    /// `tink up` has been ended by somebody else.
    pub(super) async fn has_ended(&mut self, deadline: Duration) -> Result<()> {
        let mut up = self.up.take().context("tink up was never started")?;
        let ended = up.ended(deadline).await?;
        ensure!(ended.success(), "tink up ended with {ended}");
        Ok(())
    }

    /// Ends `tink up`.
    pub(super) async fn down(&mut self, deadline: Duration) -> Result<()> {
        let up = self.up.take().context("tink up was never started")?;
        let ended = up.terminate(deadline).await?;
        ensure!(ended.success(), "tink up ended with {ended}");
        Ok(())
    }

    /// `export KUBECONFIG`, and back.
    pub(super) fn export(&mut self, kubeconfig: Option<&str>) {
        match kubeconfig {
            Some(path) => println!("\n$ export KUBECONFIG={path}"),
            None => println!("\n$ unset KUBECONFIG"),
        }
        self.kubeconfig = kubeconfig.map(str::to_owned);
    }

    /// Shows a line, and what comes of it; an error when it ends badly.
    pub(super) async fn run(&self, line: &str) -> Result<()> {
        println!("\n$ {line}");
        let status = self.shell(line).status().await?;
        ensure!(status.success(), "`{line}` ended with {status}");
        Ok(())
    }

    /// What a line prints, without showing it.
    pub(super) async fn output(&self, line: &str) -> Result<String> {
        let output = self.shell(line).stdout(Stdio::piped()).spawn()?.wait_with_output().await?;
        ensure!(output.status.success(), "`{line}` ended with {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]).args(self.host.entry()).args(["sh", "-c", line]);
        command.current_dir(&self.dir).env("PATH", &self.path).env("TINKERBELL_STATE_DIR", STATE);
        match &self.kubeconfig {
            Some(path) => command.env("KUBECONFIG", path),
            None => command.env_remove("KUBECONFIG"),
        };
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}
