// SPDX-License-Identifier: Apache-2.0
//! An API server in processes of its own, which may be killed and started again with its data: `tink api`, or etcd with
//! kube-apiserver. For what [`crate::target`] in this process cannot show: restarts, memory, size on disk.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rustix::process::Signal;

use crate::kubernetes::{Cluster, Options, free_port};
use crate::process::{Process, memory};
use crate::stack::{client_of, eventually, tink};
use crate::target::Kind;

/// Time until it answers, on a machine that is busy with other tests.
const READY: Duration = Duration::from_secs(60);
/// Time between looks: short, because the time to readiness is measured with it.
const POLL: Duration = Duration::from_millis(2);

/// A running API server. Its processes are killed and its data is removed when it is dropped.
#[derive(Debug)]
pub struct Alone {
    /// Which of the two.
    pub kind: Kind,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Embedded(TinkApi),
    Kubernetes(Cluster),
}

impl Alone {
    /// Starts one with nothing in it, with our CRDs; gives it with the time from start to ready. `controllers` says whether
    /// Kubernetes gets its garbage collector, which ours always has. Must be called on a thread that stays.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(kind: Kind, controllers: bool) -> Result<(Self, Duration)> {
        let started = Instant::now();
        let holder = match kind {
            Kind::Embedded => Holder::Embedded(TinkApi::start().await?),
            Kind::Kubernetes => {
                Holder::Kubernetes(Cluster::start(&Options { controllers, ..Options::default() }).await?)
            }
        };
        let took = started.elapsed();
        let alone = Self { kind, holder };
        alone.install_crds().await?;
        Ok((alone, took))
    }

    async fn install_crds(&self) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await?);
        for crd in api::crds() {
            let name = crd.metadata.name.clone().context("a CRD has a name")?;
            definitions.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&crd)).await?;
            eventually(&format!("{name} is served"), READY, async || {
                let crd = definitions.get_status(&name).await.map_err(|error| error.to_string())?;
                let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
                let served = conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
                Ok(served.then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Ends it with `signal` and starts it again at the same address with its data; gives the time from start to ready.
    ///
    /// # Errors
    /// When it does not end or does not become ready.
    pub async fn restart(&mut self, signal: Signal) -> Result<Duration> {
        self.end(signal).await?;
        self.begin().await
    }

    /// Ends it with `signal`.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(&mut self, signal: Signal) -> Result<()> {
        match &mut self.holder {
            Holder::Embedded(ours) => ours.process.end(signal, READY).await.map(drop),
            Holder::Kubernetes(cluster) => cluster.end(signal).await,
        }
    }

    /// Starts it again at the same address with its data, once it has ended; gives the time from start to ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn begin(&mut self) -> Result<Duration> {
        match &mut self.holder {
            Holder::Embedded(ours) => ours.begin().await,
            Holder::Kubernetes(cluster) => cluster.begin().await,
        }
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        match &self.holder {
            Holder::Embedded(ours) => ours.kubeconfig(),
            Holder::Kubernetes(cluster) => cluster.kubeconfig(),
        }
    }

    /// A client with the admin's rights and connections of its own.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig()).await
    }

    /// Resident memory of all its processes now and at its highest, in bytes.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let processes = match &self.holder {
            Holder::Embedded(ours) => vec![ours.process.number()],
            Holder::Kubernetes(cluster) => cluster.processes().map(|(_, number)| number).collect(),
        };
        let (mut now, mut peak) = (0, 0);
        for number in processes {
            let (resident, highest) = memory(number)?;
            now += resident;
            peak += highest;
        }
        Ok((now, peak))
    }

    /// Space that its files take, in bytes.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn disk(&self) -> Result<u64> {
        match &self.holder {
            Holder::Embedded(ours) => space(ours.directory.path()),
            Holder::Kubernetes(cluster) => space(&cluster.data()),
        }
    }
}

/// Allocated bytes of everything below a folder.
fn space(folder: &Path) -> Result<u64> {
    const BLOCK: u64 = 512;
    let mut all = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        all += if data.is_dir() { space(&entry.path())? } else { data.blocks() * BLOCK };
    }
    Ok(all)
}

/// `tink api`.
#[derive(Debug)]
struct TinkApi {
    // Ends before the directory goes.
    process: Process,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl TinkApi {
    async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("embedded-").tempdir()?;
        let (port, health) = (free_port()?, free_port()?);
        let state = directory.path().join("state");
        let process = Process::start("tink api", &tink()?, directory.path().join("log"), |command| {
            command
                .arg("--state-dir")
                .arg(state)
                .args(["api", "--api-bind-addr=127.0.0.1"])
                .arg(format!("--api-port={port}"))
                .arg(format!("--api-health-port={health}"))
                .env_remove("KUBECONFIG");
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut api = Self { process, address, directory };
        api.until_ready().await?;
        Ok(api)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("state/kubeconfig")
    }

    async fn begin(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.process.start_again()?;
        self.until_ready().await?;
        Ok(started.elapsed())
    }

    /// Waits until `/readyz` says ok.
    async fn until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY;
        loop {
            self.process.check()?;
            if TcpStream::connect(self.address).is_ok()
                && let Ok(client) = client_of(&self.kubeconfig()).await
            {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                if client.request_text(request).await.is_ok_and(|text| text == "ok") {
                    return Ok(());
                }
            }
            ensure!(Instant::now() < until, "tink api is not ready after {} s", READY.as_secs());
            tokio::time::sleep(POLL).await;
        }
    }
}
