// SPDX-License-Identifier: Apache-2.0

//! What the three controllers share: the API, the pool, the Events, and what this process remembers between passes.
//!
//! The memories are caches that a restart may lose; what must survive is in the objects. Their locks are held for a map
//! access and never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::bmc::v1alpha1::{Connection, Machine};
use api::events::Reason;
use daemon::events::Recorder;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bmc::{Fault, FaultKind, Power, Switch};
use crate::config::Config;
use crate::hardware::Index;
use crate::metrics::Metrics;
use crate::pool::{Answer, Outcome, Pool, Request};
use crate::target::{self, Target};
use crate::task::Attempt;
use crate::{machine, task};

/// Entries of a memory above which stale ones are looked for.
const MEMORY_SOFT_LIMIT: usize = 1024;
/// Age after which an entry that nobody touched belongs to an object that is gone.
const MEMORY_AGE: Duration = Duration::from_secs(2 * 3600);

/// A pass could not be finished; it is repeated soon. Never carries a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// The API refused or did not answer.
    #[error("the API: {0}")]
    Api(#[from] kube::Error),
    /// The object has no name or namespace, which a server never lets happen.
    #[error("an object without {0}")]
    Incomplete(&'static str),
}

impl PassError {
    /// Somebody else changed the object meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }
}

/// Shared by all passes.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) recorder: Recorder,
    pub(crate) hardware: Index,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
    tasks: Mutex<HashMap<String, TaskMemo>>,
    machines: Mutex<HashMap<String, MachineMemo>>,
}

/// What is remembered of an open Task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskMemo {
    /// The last command, how often, and whether only the condition told of it.
    pub(crate) command: Option<(Switch, u8, bool)>,
    /// When that was.
    pub(crate) at: Instant,
    /// Transient faults in a row.
    pub(crate) faults: u32,
}

impl TaskMemo {
    pub(crate) fn new(command: Option<(Switch, u8, bool)>) -> Self {
        Self { command, at: Instant::now(), faults: 0 }
    }

    pub(crate) fn attempt(&self) -> Option<Attempt> {
        self.command.map(|(last, sent, resumed)| Attempt { last, sent, resumed, elapsed: self.at.elapsed() })
    }
}

/// When a Machine is due, and for which content of Machine and Secret that was decided.
#[derive(Clone, Debug)]
pub(crate) struct MachineMemo {
    pub(crate) fingerprint: (Option<i64>, Option<String>),
    pub(crate) due: Instant,
    pub(crate) failures: u32,
}

impl Context {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once; the parts have nothing in common but this place"
    )]
    pub(crate) fn new(
        client: Client,
        config: Config,
        pool: Pool,
        recorder: Recorder,
        hardware: Index,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let (tasks, machines) = (Mutex::default(), Mutex::default());
        Arc::new(Self { client, config, pool, recorder, hardware, metrics, shutdown, tasks, machines })
    }

    /// All objects of a kind that this rufio looks after.
    pub(crate) fn all<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        daemon::watch::scoped(&self.client, self.config.namespace.as_deref())
    }

    /// The objects of one namespace.
    pub(crate) fn in_namespace<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The object as the API has it now, its API and its name; caches may be behind our own writes.
    pub(crate) async fn current<K>(&self, cached: &K) -> Result<Option<(Api<K>, K)>, PassError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let namespace = cached.namespace().ok_or(PassError::Incomplete("namespace"))?;
        let api = self.in_namespace::<K>(&namespace);
        let current = api.get_opt(&cached.name_any()).await?;
        Ok(current.filter(|object| object.uid() == cached.uid()).map(|object| (api, object)))
    }

    /// Reads the Secret of a connection and makes a target of both; `namespace` is where the object is, for a reference
    /// without one. Gives the Secret's resource version as well.
    pub(crate) async fn target(
        &self,
        connection: &Connection,
        namespace: &str,
    ) -> Result<(Result<Target, Fault>, Option<String>), PassError> {
        // Told before a missing Secret, because what we do not speak may do without one.
        if let Err(fault) = target::drivers(&connection.provider_options.clone().unwrap_or_default()) {
            return Ok((Err(fault), None));
        }
        let reference = connection.auth_secret_ref.clone().unwrap_or_default();
        let Some(name) = reference.name.filter(|name| !name.is_empty()) else {
            let fault = Fault::new(FaultKind::Config, "connection.authSecretRef names no Secret");
            return Ok((Err(fault), None));
        };
        let namespace =
            reference.namespace.filter(|text| !text.is_empty()).unwrap_or_else(|| namespace.to_owned());
        let Some(secret) = self.in_namespace::<Secret>(&namespace).get_opt(&name).await? else {
            let fault = Fault::new(FaultKind::Config, format!("Secret {namespace}/{name} does not exist"));
            return Ok((Err(fault), None));
        };
        Ok((Target::new(connection, &secret), secret.resource_version()))
    }

    /// Asks a BMC, counted.
    pub(crate) async fn ask(&self, target: &Target, request: Request) -> Result<Answer, Fault> {
        let result = self.pool.request(target, request).await;
        self.metrics.request(&result);
        result
    }

    /// Asks for the power state.
    pub(crate) async fn power(&self, target: &Target) -> Result<Power, Fault> {
        match self.ask(target, Request::Power).await?.outcome {
            Outcome::Power(power) => Ok(power),
            Outcome::Switched | Outcome::Boot(_) | Outcome::Media(_) => Ok(Power::Unknown),
        }
    }

    /// Tells the Hardware of a Machine what happened.
    pub(crate) fn tell(&self, namespace: &str, machine: &str, reason: Reason, message: &str) {
        for hardware in self.hardware.of_machine(namespace, machine) {
            self.tell_hardware(&hardware, reason, message);
        }
    }

    fn tell_hardware(&self, hardware: &ObjectReference, reason: Reason, message: &str) {
        let (text, phase) = (reason.as_str(), reason.phase());
        self.recorder.record(hardware, text, phase, None, message.to_owned(), reason.is_warning());
    }

    /// Writes what a contact showed into a Machine's status. A conflict is left alone: whoever won has newer knowledge.
    pub(crate) async fn note_contact(
        &self,
        machine: &Machine,
        contact: Result<Power, &Fault>,
    ) -> Result<(), PassError> {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
        let status = machine::status(machine.status.as_ref(), contact, now);
        if machine.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = machine.namespace().ok_or(PassError::Incomplete("namespace"))?;
        let api = self.in_namespace::<Machine>(&namespace);
        // The merge replaces the list of conditions as a whole, so that an old message does not stay.
        patch_status(&api, machine, json!(status)).await.map(drop)
    }

    pub(crate) fn task_memo(&self, uid: &str) -> Option<TaskMemo> {
        self.tasks().get(uid).copied()
    }

    pub(crate) fn remember_task(&self, uid: &str, memo: TaskMemo) {
        let mut tasks = self.tasks();
        if tasks.len() >= MEMORY_SOFT_LIMIT {
            tasks.retain(|_, memo| memo.at.elapsed() < task::TASK_LIMIT * 2);
        }
        tasks.insert(uid.to_owned(), memo);
    }

    pub(crate) fn forget_task(&self, uid: &str) {
        self.tasks().remove(uid);
    }

    pub(crate) fn machine_memo(&self, uid: &str) -> Option<MachineMemo> {
        self.machines().get(uid).cloned()
    }

    pub(crate) fn remember_machine(&self, uid: &str, memo: MachineMemo) {
        let mut machines = self.machines();
        if machines.len() >= MEMORY_SOFT_LIMIT && machines.len().is_multiple_of(MEMORY_SOFT_LIMIT) {
            machines.retain(|_, memo| memo.due.elapsed() < MEMORY_AGE);
        }
        machines.insert(uid.to_owned(), memo);
    }

    /// How many Machines there are, as far as they were looked at.
    pub(crate) fn machine_count(&self) -> usize {
        self.machines().len()
    }

    pub(crate) fn forget_machine(&self, uid: &str) {
        self.machines().remove(uid);
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, TaskMemo>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machines(&self) -> MutexGuard<'_, HashMap<String, MachineMemo>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Merges `status` into an object's status, provided that nobody changed the object since it was read.
pub(crate) async fn patch_status<K>(
    api: &Api<K>,
    object: &K,
    status: serde_json::Value,
) -> Result<K, PassError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    use kube::api::{Patch, PatchParams};
    let patch = json!({ "metadata": { "resourceVersion": object.resource_version() }, "status": status });
    Ok(api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?)
}
