// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes API: etcd, kube-apiserver and the three controllers that our API server has built in, on loopback.
//!
//! Called by the tests and benchmarks that compare our API server with it, mostly through [`crate::target`]. The programs
//! are built by `./x test` and `./x bench`, which name their folder in `KUBERNETES_BIN`. It runs no kubelet and no
//! scheduler, and must never be reachable from another machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustix::process::Signal;

use crate::process::Process;

/// Time until everything answers, on a machine that is busy with other tests.
const READY: Duration = Duration::from_secs(180);
/// Starts with fresh ports: another process may take one between our look and the program's.
const ATTEMPTS: usize = 3;
const POLL: Duration = Duration::from_millis(50);
/// The token of the cluster's admin.
const ADMIN_TOKEN: &str = "admin-of-a-test-cluster";

/// Somebody who may log in besides the admin; what they may do is up to RBAC objects.
#[derive(Debug, Clone)]
pub struct User {
    /// Bearer token.
    pub token: String,
    /// Name.
    pub name: String,
    /// Groups, besides `system:authenticated`.
    pub groups: Vec<String>,
}

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Run kube-controller-manager with its garbage collector, namespace and service account controllers.
    pub controllers: bool,
    /// Who else may log in.
    pub users: Vec<User>,
    /// Further flags of kube-apiserver.
    pub flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { controllers: true, users: Vec::new(), flags: Vec::new() }
    }
}

/// A running cluster. Everything is killed and removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Ends before the directory goes.
    processes: Vec<Process>,
    directory: tempfile::TempDir,
    url: String,
    ca: String,
}

impl Cluster {
    /// Starts one and waits until it is ready. Must be called on a thread that stays: the processes end with it.
    ///
    /// # Errors
    /// When the programs are missing, end, or are not ready within the deadline; with the end of their logs.
    pub async fn start(options: &Options) -> Result<Self> {
        let programs = programs()?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::attempt(&programs, options).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) if format!("{error:#}").contains("address already in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    async fn attempt(programs: &Path, options: &Options) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("kubernetes-").tempdir()?;
        let dir = directory.path().to_owned();
        let port = free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let ca = write_certificates(&dir)?;
        write_tokens(&dir, &options.users)?;
        write_kubeconfig(&dir.join("kubeconfig"), &url, &dir.join("ca.crt"), ADMIN_TOKEN)?;
        let mut cluster = Self { processes: Vec::new(), directory, url, ca };

        let etcd = cluster.start_etcd(programs)?;
        cluster.start_apiserver(programs, port, &etcd, &options.flags)?;
        cluster.until_ready().await?;
        if options.controllers {
            cluster.start_controllers(programs)?;
        }
        Ok(cluster)
    }

    fn start_etcd(&mut self, programs: &Path) -> Result<String> {
        let (client, peer) = (free_port()?, free_port()?);
        let url = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let data = self.data();
        // fsync stays on: `--unsafe-no-fsync` would compare something that nobody runs.
        self.spawn(programs, "etcd", |command| {
            command
                .args(["--name", "test", "--log-level", "warn"])
                .arg(format!("--data-dir={}", data.display()))
                .arg(format!("--listen-client-urls={url}"))
                .arg(format!("--advertise-client-urls={url}"))
                .arg(format!("--listen-peer-urls={peers}"))
                .arg(format!("--initial-advertise-peer-urls={peers}"))
                .arg(format!("--initial-cluster=test={peers}"));
        })?;
        Ok(url)
    }

    fn start_apiserver(&mut self, programs: &Path, port: u16, etcd: &str, flags: &[String]) -> Result<()> {
        let dir = self.directory.path().to_owned();
        let file = |name: &str| dir.join(name).display().to_string();
        self.spawn(programs, "kube-apiserver", |command| {
            command
                .arg(format!("--etcd-servers={etcd}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                .arg(format!("--secure-port={port}"))
                .arg("--endpoint-reconciler-type=none")
                .arg("--service-cluster-ip-range=10.0.0.0/24")
                .arg("--authorization-mode=RBAC")
                .arg(format!("--token-auth-file={}", file("tokens.csv")))
                .arg(format!("--tls-cert-file={}", file("server.crt")))
                .arg(format!("--tls-private-key-file={}", file("server.key")))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(format!("--service-account-key-file={}", file("accounts.pub")))
                .arg(format!("--service-account-signing-key-file={}", file("accounts.key")))
                .arg("--profiling=false")
                .args(flags);
        })
    }

    pub(crate) fn start_controllers(&mut self, programs: &Path) -> Result<()> {
        let kubeconfig = self.kubeconfig();
        self.spawn(programs, "kube-controller-manager", |command| {
            command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args([
                "--controllers=garbage-collector-controller,namespace-controller,serviceaccount-controller",
            ])
            .args(["--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=false"]);
        })
    }

    fn spawn(&mut self, programs: &Path, name: &str, configure: impl FnOnce(&mut Command)) -> Result<()> {
        let log = self.directory.path().join(format!("{name}.log"));
        self.processes.push(Process::start(name, &programs.join(name), log, configure)?);
        Ok(())
    }

    /// Waits until `/readyz` says ok.
    async fn until_ready(&mut self) -> Result<()> {
        let client = crate::stack::client_of(&self.kubeconfig()).await?;
        let until = Instant::now() + READY;
        loop {
            for process in &mut self.processes {
                process.check()?;
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = tokio::time::timeout(POLL * 40, client.request_text(request)).await;
            if matches!(answer, Ok(Ok(text)) if text == "ok") {
                return Ok(());
            }
            if Instant::now() > until {
                let logs: Vec<String> = self.processes.iter().map(Process::tail).collect();
                bail!("kube-apiserver is not ready after {} s:\n{}", READY.as_secs(), logs.join("\n"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends etcd and kube-apiserver with `signal`; controllers wait.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn end(&mut self, signal: Signal) -> Result<()> {
        for name in ["kube-apiserver", "etcd"] {
            self.process(name)?.end(signal, READY).await?;
        }
        Ok(())
    }

    /// Starts them again with their data; gives the time from start to ready.
    ///
    /// # Errors
    /// When they do not become ready.
    pub async fn begin(&mut self) -> Result<Duration> {
        let started = Instant::now();
        for name in ["etcd", "kube-apiserver"] {
            self.process(name)?.start_again()?;
        }
        self.until_ready().await?;
        Ok(started.elapsed())
    }

    fn process(&mut self, name: &str) -> Result<&mut Process> {
        let found = self.processes.iter_mut().find(|process| process.name() == name);
        found.with_context(|| format!("{name} was never started"))
    }

    /// `https://` address of the API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority that signed the API's certificate, as PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Bearer token of a member of `system:masters`.
    pub fn token(&self) -> &str {
        ADMIN_TOKEN
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Writes a kubeconfig for another bearer token.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_for(&self, token: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(format!("kubeconfig-{token}"));
        write_kubeconfig(&path, &self.url, &self.directory.path().join("ca.crt"), token)?;
        Ok(path)
    }

    /// The folder of etcd's files.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("etcd")
    }

    /// Name and process number of everything that runs.
    pub fn processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.processes.iter().map(|process| (process.name(), process.number()))
    }
}

/// The folder that `KUBERNETES_BIN` names.
///
/// # Errors
/// When it does not, or has no Kubernetes; with the command that mends it.
pub fn programs() -> Result<PathBuf> {
    let folder = std::env::var_os("KUBERNETES_BIN").context("KUBERNETES_BIN is not set: run ./x test")?;
    let folder = PathBuf::from(folder);
    for program in ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"] {
        ensure!(folder.join(program).is_file(), "{} has no {program}: run ./x test", folder.display());
    }
    Ok(folder)
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Authority, server certificate and the key of service account tokens; gives the authority as PEM.
fn write_certificates(dir: &Path) -> Result<String> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "test cluster");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"].map(str::to_owned);
    let server = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&server, &authority)?;
    let accounts = KeyPair::generate()?;
    fs::write(dir.join("ca.crt"), authority.pem())?;
    fs::write(dir.join("server.crt"), certificate.pem())?;
    fs::write(dir.join("server.key"), server.serialize_pem())?;
    fs::write(dir.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(dir.join("accounts.pub"), accounts.public_key_pem())?;
    Ok(authority.pem())
}

/// kube-apiserver's static token file: token, user, UID, groups.
fn write_tokens(dir: &Path, users: &[User]) -> Result<()> {
    let mut lines = format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n");
    for User { token, name, groups } in users {
        lines.push_str(&format!("{token},{name},{name},\"{}\"\n", groups.join(",")));
    }
    Ok(fs::write(dir.join("tokens.csv"), lines)?)
}

fn write_kubeconfig(path: &Path, url: &str, ca: &Path, token: &str) -> Result<()> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
        "current-context": "test",
    });
    Ok(fs::write(path, config.to_string())?)
}
