// SPDX-License-Identifier: Apache-2.0

//! An API server, rufio on it, and words to write manifests and wait with.

use std::sync::Arc;
use std::time::Duration;

use api::bmc::v1alpha1::{CONTACTABLE, Job, Machine, PowerState, Task};
use api::v1alpha1::Hardware;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource};
use rufio::bmc::Connector;
use rufio::{Config, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Namespace of everything.
pub const NAMESPACE: &str = "tinkerbell";
/// The password of every BMC; must never appear outside of a Secret.
pub const PASSWORD: &str = "correct-horse-7";
/// Longest wait for anything that should happen within seconds; generous, as the machine may be busy.
pub const SOON: Duration = Duration::from_secs(60);

/// One API server and, most of the time, one rufio.
pub struct World {
    pub client: Client,
    _server: apiserver::Server,
    _folder: TempDir,
    rufio: Option<Running>,
}

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl World {
    /// An empty API with the CRDs, and rufio on it.
    pub async fn start(connector: Arc<dyn Connector>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = apiserver::Options::new(folder.path().join("state.redb"));
        options.namespaces = vec![NAMESPACE.to_owned()];
        let server = apiserver::Server::open(options).await.unwrap();
        server.install_crds(&api::crds()).await.unwrap();
        let client = server.client(NAMESPACE);
        let mut world = Self { client, _server: server, _folder: folder, rufio: None };
        world.start_rufio(connector);
        world
    }

    /// Starts rufio (again).
    pub fn start_rufio(&mut self, connector: Arc<dyn Connector>) {
        let shutdown = CancellationToken::new();
        let config = Config { bmc_connect_timeout: Duration::from_secs(10), ..Config::default() };
        let health = daemon::Health::new();
        let running = rufio::run_with(config, self.client.clone(), health, shutdown.clone(), connector);
        self.rufio = Some(Running { shutdown, task: tokio::spawn(running) });
    }

    /// Ends rufio as a signal does.
    pub async fn stop_rufio(&mut self) {
        let running = self.rufio.take().unwrap();
        running.shutdown.cancel();
        tokio::time::timeout(SOON, running.task).await.expect("it must drain").unwrap().unwrap();
    }

    /// Ends rufio as `kill -9` does: nothing it was doing goes on, and it hears nothing of it.
    pub async fn kill_rufio(&mut self) {
        let running = self.rufio.take().unwrap();
        running.task.abort();
        assert!(running.task.await.unwrap_err().is_cancelled());
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn create<K>(&self, manifest: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(manifest).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// The Secret `<machine>-bmc`.
    pub async fn secret(&self, machine: &str, password: &str) {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{machine}-bmc")},
            "stringData": {"username": "admin", "password": password},
        });
        let secret: Secret = serde_json::from_value(manifest).unwrap();
        let params = PatchParams::apply("test").force();
        self.api::<Secret>().patch(&format!("{machine}-bmc"), &params, &Patch::Apply(&secret)).await.unwrap();
    }

    /// Secret, Machine and Hardware of one name; `options` is `providerOptions`.
    pub async fn machine(&self, name: &str, host: &str, options: Value) {
        self.secret(name, PASSWORD).await;
        self.create::<Hardware>(json!({
            "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": name},
            "spec": {"bmcRef": {"apiGroup": "bmc.tinkerbell.org", "kind": "Machine", "name": format!("{name}-bmc")}},
        }))
        .await;
        self.create::<Machine>(json!({
            "apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Machine", "metadata": {"name": format!("{name}-bmc")},
            "spec": {"connection": {
                "host": host, "insecureTLS": true, "providerOptions": options,
                "authSecretRef": {"name": format!("{name}-bmc"), "namespace": NAMESPACE},
            }},
        }))
        .await;
    }

    /// A Job for the Machine of this name.
    pub async fn job(&self, name: &str, machine: &str, tasks: Value) {
        self.create::<Job>(json!({
            "apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Job", "metadata": {"name": name},
            "spec": {"machineRef": {"name": format!("{machine}-bmc"), "namespace": NAMESPACE}, "tasks": tasks},
        }))
        .await;
    }

    /// Waits for a Job to end: nothing when it completed, or the reason.
    pub async fn job_end(&self, name: &str) -> Result<(), String> {
        let job = self
            .until::<Job>(name, "an end", |job| {
                job.status.as_ref().is_some_and(|status| status.is("Completed") || status.is("Failed"))
            })
            .await;
        let status = job.status.unwrap();
        assert!(status.completion_time.is_some() && status.start_time.is_some());
        match status.condition("Failed") {
            Some(failed) => Err(failed.message.clone().unwrap_or_default()),
            None => Ok(()),
        }
    }

    pub async fn task_message(&self, name: &str) -> String {
        let task = self.api::<Task>().get(name).await.unwrap();
        let status = task.status.unwrap();
        let condition = status.condition("Completed").or_else(|| status.condition("Failed")).cloned();
        condition.and_then(|condition| condition.message).unwrap_or_default()
    }

    /// Waits until the Machine's BMC answers.
    pub async fn contactable(&self, machine: &str) -> PowerState {
        let machine = self
            .until::<Machine>(&format!("{machine}-bmc"), "contact", |machine| {
                contact(machine).is_some_and(|c| c.0)
            })
            .await;
        machine.status.unwrap().power_state.unwrap()
    }

    /// Waits until the Machine's BMC cannot be talked to; the reason.
    pub async fn uncontactable(&self, machine: &str) -> String {
        let machine = self
            .until::<Machine>(&format!("{machine}-bmc"), "no contact", |machine| {
                contact(machine).is_some_and(|c| !c.0)
            })
            .await;
        contact(&machine).unwrap().1
    }

    /// Waits for an object to be so.
    pub async fn until<K>(&self, name: &str, what: &str, is_so: impl Fn(&K) -> bool + Send) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let waiting = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_some_and(&is_so));
        match tokio::time::timeout(SOON, waiting).await {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => panic!("{name}: no {what} in time: {:#?}", self.api::<K>().get_opt(name).await),
        }
    }

    /// Waits for the Event of this reason on a Hardware; its message.
    pub async fn event(&self, hardware: &str, reason: api::events::Reason) -> String {
        let name = daemon::events::event_name(hardware, reason.phase(), None);
        let event = self
            .until::<Event>(&name, "Event", |event| event.reason.as_deref() == Some(reason.as_str()))
            .await;
        assert_eq!(event.involved_object.kind.as_deref(), Some("Hardware"));
        assert_eq!(event.involved_object.name.as_deref(), Some(hardware));
        event.message.unwrap_or_default()
    }

    /// Everything the API holds that is not a Secret, as text.
    pub async fn everything(&self) -> String {
        let mut text = String::new();
        let all = ListParams::default();
        text += &format!("{:?}", self.api::<Machine>().list(&all).await.unwrap().items);
        text += &format!("{:?}", self.api::<Job>().list(&all).await.unwrap().items);
        text += &format!("{:?}", self.api::<Task>().list(&all).await.unwrap().items);
        text += &format!("{:?}", self.api::<Hardware>().list(&all).await.unwrap().items);
        text += &format!("{:?}", self.api::<Event>().list(&all).await.unwrap().items);
        text
    }
}

fn contact(machine: &Machine) -> Option<(bool, String)> {
    let condition = machine.status.as_ref()?.condition(CONTACTABLE)?;
    Some((condition.status == "True", condition.message.clone().unwrap_or_default()))
}
