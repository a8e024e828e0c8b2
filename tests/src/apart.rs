// SPDX-License-Identifier: Apache-2.0
//! The daemons as programs of their own, each with the account that it gets, against our API server or a real Kubernetes.
//!
//! Both variants leave the same files in a state directory: the administrator's `kubeconfig`, and `<daemon>.kubeconfig` for
//! each daemon, which finds it there by itself. Everything ends with the values here, and with this process.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::access::Component;
use api::annotations::SYSTEM_NAMESPACE;
use k8s_openapi::api::authentication::v1::TokenRequest;
use kube::Client;
use rustix::process::Signal;

use crate::kubernetes::{Cluster, Options};
use crate::process::Process;
use crate::stack::{self, client, run_tink};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A running program of ours. Its group is killed when it is dropped, and with this process whatever ends it.
#[derive(Debug)]
pub struct Program {
    process: Process,
    health: u16,
}

impl Program {
    /// Starts a program of `TINK_BIN_DIR`, with its log in `dir`. Must be called on a thread that stays: the parent-death
    /// signal is tied to it.
    ///
    /// # Errors
    /// When it is not built or cannot be started.
    pub fn start(program: &str, name: &str, flags: &[String], health: u16, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let process = Process::start(name, &stack::program(program)?, log, |command| {
            command.args(flags).env_remove("KUBECONFIG");
        })?;
        Ok(Self { process, health })
    }

    /// Its process number; `setpriv` becomes the program, so it is the program's own.
    pub fn process(&self) -> u32 {
        self.process.number()
    }

    /// What it is called here.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn kill(mut self) -> Result<()> {
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

    /// Waits until it answers that it is ready.
    ///
    /// # Errors
    /// When it ends, or the deadline passes.
    pub async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        while self.asked("readyz").is_err() {
            self.process.check()?;
            ensure!(Instant::now() < until, "{} is not ready: {}", self.name(), self.tail());
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// What its health port says to `readyz`, `healthz` or `metrics`.
    ///
    /// # Errors
    /// When it does not answer with success.
    pub fn asked(&self, what: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/{what}", self.health);
        let output = Command::new("curl").args(["-sf", "--max-time", "10", &url]).output()?;
        ensure!(output.status.success(), "{} does not answer {what}", self.name());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// An API server for separate programs.
#[derive(Debug)]
pub enum Server {
    /// `tink api`.
    Embedded(Program),
    /// kube-apiserver, set up by `tink setup`.
    Kubernetes(Box<Cluster>),
}

impl Server {
    /// Starts `tink api` with its state in `state`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn embedded(state: &Path, dir: &Path, deadline: Duration) -> Result<Self> {
        let flags =
            ["api".to_owned(), format!("--state-dir={}", state.display()), "--api-port=6443".to_owned()];
        let mut program = Program::start("tink", "api", &flags, 9105, dir)?;
        program.ready(deadline).await?;
        Ok(Self::Embedded(program))
    }

    /// Starts a Kubernetes, sets it up as its administrator would, and gets a token for every service account.
    ///
    /// # Errors
    /// When it does not start, or `tink setup` or a token is refused.
    pub async fn kubernetes(state: &Path) -> Result<Self> {
        let cluster = Cluster::start(&Options::default()).await?;
        fs::create_dir_all(state)?;
        let text = fs::read_to_string(cluster.kubeconfig())?;
        fs::write(state.join("kubeconfig"), &text)?;
        run_tink(state, &["setup"])?;
        // A second run finds everything as it left it.
        run_tink(state, &["setup"])?;
        let admin = client(state).await?;
        for component in Component::ALL {
            let name = component.name();
            let token =
                service_account_token(&admin, name).await.with_context(|| format!("a token of {name}"))?;
            let own = text.replace(cluster.token(), &token);
            ensure!(own != text, "the administrator's kubeconfig has no token in it");
            fs::write(state.join(format!("{name}.kubeconfig")), own)?;
        }
        Ok(Self::Kubernetes(Box::new(cluster)))
    }

    /// Ends it; our own has to end well.
    ///
    /// # Errors
    /// When it does not.
    pub async fn stop(self, deadline: Duration) -> Result<()> {
        match self {
            Self::Embedded(program) => {
                let ended = program.terminate(deadline).await?;
                ensure!(ended.success(), "tink api ended with {ended}");
                Ok(())
            }
            Self::Kubernetes(_) => Ok(()),
        }
    }
}

/// A token of a service account, as the kubelet gets it for a pod.
///
/// # Errors
/// When it is refused.
pub async fn service_account_token(admin: &Client, name: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{name}/token");
    let request = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], "expirationSeconds": 3600},
    });
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(request.to_string().into_bytes())?;
    let answer: TokenRequest = admin.request(request).await?;
    Ok(answer.status.context("no token")?.token)
}

/// Flags that every daemon gets: where its kubeconfig is.
pub fn own_flags(state: &Path) -> Vec<String> {
    vec![format!("--state-dir={}", state.display())]
}

/// Starts one of each daemon on its usual ports; boots gets `boots` as its flags, with the state directory among them.
///
/// # Errors
/// When one does not become ready.
pub async fn daemons(state: &Path, boots: &[String], dir: &Path, deadline: Duration) -> Result<Vec<Program>> {
    let own = own_flags(state);
    let mut all = Vec::new();
    for (name, health) in [("tink-server", 9104), ("rufio", 9103), ("hegel", 9102), ("boots", 9101)] {
        let flags = if name == "boots" { boots } else { &own };
        all.push(Program::start(name, name, flags, health, dir)?);
    }
    for program in &mut all {
        program.ready(deadline).await?;
    }
    Ok(all)
}
