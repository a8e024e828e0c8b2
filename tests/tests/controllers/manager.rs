// SPDX-License-Identifier: Apache-2.0
//! The programs in Go: a manager of controller-runtime with two replicas, and the probe of what client-go asks.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::v1alpha1::{Hardware, Workflow};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::alone::Alone;
use tests::kubernetes;
use tests::process::Process;
use tests::stack::eventually;

/// Time for whatever the manager does by itself, on a busy machine; more than its Lease, after which another takes over.
pub const DEADLINE: Duration = Duration::from_secs(120);
const FINALIZER: &str = "tests.invalid/manager";

/// Every way in which client-go reads and writes gives what it should.
pub async fn probe(server: &Alone) -> Result<()> {
    let namespace = namespace(&server.client().await?, "probe").await?;
    let mut command = Command::new(program()?);
    command.args(["probe", "--namespace", &namespace]).arg("--kubeconfig").arg(server.kubeconfig());
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Two replicas reconcile; one goes on when the server is killed, and the other when it is.
pub async fn goes_on(server: &mut Alone) -> Result<()> {
    let client = server.client().await?;
    let world = World { namespace: namespace(&client, "manager").await?, client };
    let folder = tempfile::tempdir()?;
    // One fills its caches with lists, the other with watches that begin with everything.
    let mut a = Manager::start(server, &world.namespace, "a", false, folder.path())?;
    world.leader(&mut [&mut a]).await?;
    let mut b = Manager::start(server, &world.namespace, "b", true, folder.path())?;
    for number in 0..8 {
        world.rack(number).await?;
    }
    let twin = json!({"spec": {"interfaces": [{"dhcp": {"mac": mac(0)}}]}});
    world.create::<Hardware>("Hardware", "twin", twin).await?;
    for number in 0..3 {
        let spec = json!({"spec": {"hardwareRef": machine(number), "templateRef": "any"}});
        world.create::<Workflow>("Workflow", &format!("w{number}"), spec).await?;
    }
    let labels =
        json!({"metadata": {"labels": {"tests.invalid/hardware": machine(0)}}, "data": {"a": "Yg=="}});
    world.create::<Secret>("Secret", "labelled", labels).await?;
    for number in 0..8 {
        let workflows = if number < 3 { "1" } else { "0" };
        world.reconciled(number, "a", workflows, &mut [&mut a, &mut b]).await?;
    }
    world.annotated(&machine(0), "tests.invalid/secrets", "1").await?;
    world.annotated("twin", "tests.invalid/twins", "1").await?;
    world.told().await?;

    server.restart(Signal::KILL).await?;
    for number in 8..12 {
        world.rack(number).await?;
        world.reconciled(number, "a", "0", &mut [&mut a, &mut b]).await?;
    }

    a.kill()?;
    world.rack(12).await?;
    world.reconciled(12, "b", "0", &mut [&mut b]).await?;

    world.deleted(&mut b).await?;
    let status = b.terminate().await?;
    ensure!(status.success(), "the manager ended with {status}: {}", b.0.tail());
    let lease: Lease = world.api().get("tests-manager").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    ensure!(holder.is_empty(), "the Lease is still held by {holder}");
    Ok(())
}

fn machine(number: u32) -> String {
    format!("m{number}")
}

fn mac(number: u32) -> String {
    format!("52:54:00:00:01:{number:02x}")
}

/// A namespace of a scenario's own.
pub async fn namespace(client: &Client, name: &str) -> Result<String> {
    let namespace = serde_json::from_value(json!({"metadata": {"generateName": format!("{name}-")}}))?;
    let api: Api<Namespace> = Api::all(client.clone());
    Ok(api.create(&PostParams::default(), &namespace).await?.name_any())
}

/// What the manager looks at.
struct World {
    client: Client,
    namespace: String,
}

impl World {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create<K>(&self, kind: &str, name: &str, rest: Value) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned + Clone,
        K: serde::Serialize + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let mut object = rest;
        let api_version = K::api_version(&K::DynamicType::default()).into_owned();
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        let object = serde_json::from_value(object)?;
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("create {name}"))?;
        Ok(())
    }

    async fn rack(&self, number: u32) -> Result<()> {
        let spec =
            json!({"spec": {"interfaces": [{"dhcp": {"mac": mac(number), "hostname": machine(number)}}]}});
        self.create::<Hardware>("Hardware", &machine(number), spec).await
    }

    /// Waits until somebody holds the Lease.
    async fn leader(&self, managers: &mut [&mut Manager]) -> Result<()> {
        eventually("a manager leads", DEADLINE, async || {
            check(managers)?;
            let lease: Option<Lease> =
                self.api().get_opt("tests-manager").await.map_err(|e| e.to_string())?;
            Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
        })
        .await
        .map(drop)
    }

    /// Waits until a machine has everything that the manager gives it.
    async fn reconciled(
        &self,
        number: u32,
        by: &str,
        workflows: &str,
        managers: &mut [&mut Manager],
    ) -> Result<()> {
        let name = machine(number);
        eventually(&format!("{name} is reconciled by {by}"), DEADLINE, async || {
            check(managers)?;
            let hardware: Hardware = self.api().get(&name).await.map_err(|e| e.to_string())?;
            let wanted = [("tests.invalid/seen-by", by), ("tests.invalid/workflows", workflows)];
            let annotations = hardware.annotations();
            let noted = wanted.iter().all(|(key, value)| annotations.get(*key).is_some_and(|v| v == value));
            let held = hardware.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
            let state = hardware.status.as_ref().and_then(|status| status.state.as_deref());
            if !noted || !held || state != Some("seen") {
                return Err(format!("{annotations:?}, {:?}, {state:?}", hardware.finalizers()));
            }
            Ok(Some(()))
        })
        .await?;
        let map: ConfigMap = self.api().get(&name).await?;
        let secret: Secret = self.api().get(&name).await?;
        let hardware: Hardware = self.api().get(&name).await?;
        ensure!(
            map.data.as_ref().and_then(|data| data.get("mac")) == Some(&mac(number)),
            "{name}: {:?}",
            map.data
        );
        for owners in [map.owner_references(), secret.owner_references()] {
            let uids: Vec<&str> = owners.iter().map(|owner| owner.uid.as_str()).collect();
            ensure!(uids == [hardware.uid().unwrap_or_default()], "{name}: {owners:?}");
        }
        ensure!(
            hardware.metadata.generation == Some(1),
            "{name}: the generation counts what is not in the spec"
        );
        let interfaces = serde_json::to_value(&hardware.spec.interfaces)?;
        ensure!(
            interfaces[0]["dhcp"]["hostname"] == name,
            "{name}: a patch lost what it did not name: {interfaces}"
        );
        Ok(())
    }

    async fn annotated(&self, name: &str, key: &str, wanted: &str) -> Result<()> {
        eventually(&format!("{name} has {key}={wanted}"), DEADLINE, async || {
            let hardware: Hardware = self.api().get(name).await.map_err(|e| e.to_string())?;
            Ok(hardware.annotations().get(key).is_some_and(|value| value == wanted).then_some(()))
        })
        .await
    }

    /// Waits for the conditions of the Workflows and for both kinds of Events.
    async fn told(&self) -> Result<()> {
        eventually("the Workflows have a condition", DEADLINE, async || {
            let list = self.api::<Workflow>().list(&Default::default()).await.map_err(|e| e.to_string())?;
            let looked = |workflow: &Workflow| {
                let status = serde_json::to_value(&workflow.status).unwrap_or_default();
                status["conditions"][0]["type"] == "Looked"
            };
            Ok((list.items.len() == 3 && list.items.iter().all(looked)).then_some(()))
        })
        .await?;
        eventually("both kinds of Events are there", DEADLINE, async || {
            let list = self.api::<Event>().list(&Default::default()).await.map_err(|e| e.to_string())?;
            let of = |reason: &str| {
                let about = |event: &&Event| event.reason.as_deref() == Some(reason);
                list.items
                    .iter()
                    .filter(about)
                    .filter_map(|event| event.involved_object.name.clone())
                    .collect()
            };
            let (core, new): (Vec<String>, Vec<String>) = (of("CoreSeen"), of("Seen"));
            let all = (0..8).map(machine).all(|name| core.contains(&name) && new.contains(&name));
            if all { Ok(Some(())) } else { Err(format!("{core:?} {new:?}")) }
        })
        .await
    }

    /// A machine that a Workflow names stays; then it goes, and what it owns goes with it.
    async fn deleted(&self, manager: &mut Manager) -> Result<()> {
        let hardware = self.api::<Hardware>();
        for name in [machine(0), machine(4)] {
            hardware.delete(&name, &DeleteParams::default()).await?;
        }
        eventually("a machine without a Workflow goes", DEADLINE, async || {
            check(&mut [manager])?;
            let found = hardware.get_opt(&machine(4)).await.map_err(|e| e.to_string())?;
            Ok(found.is_none().then_some(()))
        })
        .await?;
        let kept = hardware.get(&machine(0)).await.context("a machine with a Workflow stays")?;
        ensure!(kept.metadata.deletion_timestamp.is_some(), "it is not being deleted");
        self.api::<Workflow>().delete("w0", &DeleteParams::default()).await?;
        eventually("what they own goes with them", DEADLINE, async || {
            check(&mut [manager])?;
            for name in [machine(0), machine(4)] {
                let hardware = hardware.get_opt(&name).await.map_err(|e| e.to_string())?;
                let map = self.api::<ConfigMap>().get_opt(&name).await.map_err(|e| e.to_string())?;
                let secret = self.api::<Secret>().get_opt(&name).await.map_err(|e| e.to_string())?;
                if hardware.is_some() || map.is_some() || secret.is_some() {
                    let there = (hardware.is_some(), map.is_some(), secret.is_some());
                    return Err(format!("{name}: Hardware, ConfigMap, Secret: {there:?}"));
                }
            }
            Ok(Some(()))
        })
        .await?;
        self.api::<ConfigMap>().get(&machine(5)).await.context("what others own stays")?;
        Ok(())
    }
}

/// An error when one has ended.
fn check(managers: &mut [&mut Manager]) -> Result<(), String> {
    managers.iter_mut().try_for_each(|manager| manager.check())
}

/// The program, built by `./x test` beside Kubernetes.
fn program() -> Result<PathBuf> {
    let program = kubernetes::programs()?.join("manager");
    ensure!(program.is_file(), "{} is missing: run ./x test", program.display());
    Ok(program)
}

/// A running manager.
struct Manager(Process);

impl Manager {
    fn start(server: &Alone, namespace: &str, name: &str, watch_list: bool, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let process = Process::start("the manager", &program()?, log, |command| {
            command
                .args(["run", "--namespace", namespace, "--identity", name, "--kubeconfig"])
                .arg(server.kubeconfig())
                .env("KUBE_FEATURE_WatchListClient", watch_list.to_string());
        })?;
        Ok(Self(process))
    }

    fn check(&mut self) -> Result<(), String> {
        self.0.check().map_err(|error| error.to_string())
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    async fn terminate(&mut self) -> Result<ExitStatus> {
        self.0.end(Signal::TERM, DEADLINE).await
    }
}
