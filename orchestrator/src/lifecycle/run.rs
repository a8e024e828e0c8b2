// SPDX-License-Identifier: Apache-2.0

//! The rim: looks at the world, writes the record, acts, and looks again, until there is nothing left to do.
//!
//! Owns the order of that: nothing is done that was not written down before, and whatever an action comes to is seen by the next
//! look and by nothing else. Called by `tink cluster create` and `delete`, which print what they are told, and by the keeper.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use api::anywhere::v1alpha1::{ClusterSpec, OsFamily, TinkerbellMachineConfig};
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Action, Decision, Outcome, Record, Stage, Target, Wait, World, decide, remove,
    status::status,
    store::{BOOTSTRAP_ADDRESS, FINALIZER, Objects, Read, STACK_IMAGE, Store, StoreError},
    target::{self, Named, TargetError},
};
use crate::{
    check::CONTROL_PLANE,
    node::{self, Entry, NodeError},
    plan::{Role, RoleKind},
    provider::{Boot, Observation, Power, Provider, ProviderError, Slot, Switched},
    syntax, templates,
};

/// Between two looks when there is nothing to do but wait.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at a cluster that is as it is to be, when nothing is told of a change.
const IDLE: Duration = Duration::from_secs(30);
/// Questions and actions at once.
const AT_ONCE: usize = 32;
/// EKS Anywhere's time for a node to come up, in seconds.
const PATIENCE: i64 = 20 * 60;
/// An API server that does not answer for so long ends a run.
const SILENCE: Duration = Duration::from_secs(300);
/// Connections to the cluster are made anew after this: our certificate for its etcd is good for a day.
const RENEWED: Duration = Duration::from_secs(12 * 3600);

/// What a run tells while it goes on.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// It begins to do something.
    Begins {
        /// What.
        #[serde(flatten)]
        action: Action,
    },
    /// It was done.
    Done {
        /// What.
        #[serde(flatten)]
        action: Action,
    },
    /// It could not be done, and is tried again.
    Failed {
        /// What.
        #[serde(flatten)]
        action: Action,
        /// Why.
        problem: String,
    },
    /// A place reached another stage.
    Stage {
        /// The place.
        slot: String,
        /// Its machine.
        machine: String,
        /// The stage.
        stage: Stage,
    },
    /// What is waited for at this moment.
    Waits {
        /// All of it.
        waits: Vec<Waiting>,
    },
}

/// A wait with its time so far.
#[derive(Clone, Debug, Serialize)]
pub struct Waiting {
    /// What is waited for.
    #[serde(flatten)]
    pub wait: Wait,
    /// Seconds so far.
    pub seconds: u64,
}

/// Why a run ended without its end.
#[derive(Debug, Error)]
pub enum RunError {
    /// Nothing goes on any more; what a person has to do, one sentence each.
    #[error("{}", .0.join("\n"))]
    Stuck(Vec<String>),
    /// What is kept of the cluster is not usable, or the API server was silent too long.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider did not answer.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The cluster does not say what a node needs.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Why an action failed. All are tried again by the next look.
#[derive(Debug, Error)]
enum ActError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("{0}")]
    Object(String),
    #[error("the API server of the cluster is silent")]
    Silent,
}

/// The life of one cluster.
pub struct Run<'a> {
    store: Store,
    provider: Arc<dyn Provider>,
    tell: &'a mut (dyn FnMut(Event) + Send + Sync),
    drained: BTreeSet<String>,
    /// What fails again and again: since when, and why.
    failing: BTreeMap<Action, (Instant, String)>,
    /// Since when each wait lasts.
    waits: BTreeMap<(String, String), Instant>,
    /// The cluster while it answers, and when its connections were made: a handshake for each look is most of what a small control
    /// plane does.
    cluster: Option<(Instant, Arc<target::Cluster>)>,
}

/// One look.
struct Look {
    world: World,
    objects: Objects,
    read: Read,
    cluster: Option<Arc<target::Cluster>>,
}

impl Look {
    /// Whether the cluster was marked as deleted.
    fn is_leaving(&self) -> bool {
        self.objects.cluster.metadata.deletion_timestamp.is_some()
    }
}

impl<'a> Run<'a> {
    /// Nothing is asked yet; `tell` is called with everything that happens.
    pub fn new(
        store: Store,
        provider: Arc<dyn Provider>,
        tell: &'a mut (dyn FnMut(Event) + Send + Sync),
    ) -> Self {
        let (drained, failing, waits) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { store, provider, tell, drained, failing, waits, cluster: None }
    }

    /// Makes the cluster, from wherever an earlier run ended.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn create(&mut self) -> Result<(), RunError> {
        let mut again = true;
        loop {
            let mut look = self.patiently().await?;
            if look.is_leaving() {
                return Err(StoreError::Deleting(self.store.cluster().to_owned()).into());
            }
            if std::mem::take(&mut again) {
                look.world.record.forgive(look.world.now);
            }
            let Some(decision) = self.decided(&look).await? else { continue };
            match &decision.outcome {
                Outcome::Ready => return Ok(()),
                Outcome::Stuck(problems) => return Err(RunError::Stuck(problems.clone())),
                Outcome::Going => self.act(&look, decision).await,
            }
            self.gets_on(look.world.patience)?;
        }
    }

    /// An error when something has failed for longer than a node may take to come up: that will not pass by itself.
    fn gets_on(&self, patience: i64) -> Result<(), RunError> {
        let patience = Duration::from_secs(patience.unsigned_abs());
        let overdue = self.failing.values().filter(|(since, _)| since.elapsed() > patience);
        let problems: Vec<_> = overdue
            .map(|(since, problem)| format!("{problem} (tried for {} s)", since.elapsed().as_secs()))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(RunError::Stuck(problems)) }
    }

    /// Keeps the cluster as its objects say, until `stop`, or until it was deleted and taken apart. Where there is nothing to do, it
    /// looks again when `woken`, and now and then. Machines that failed get another chance when the Cluster is changed.
    ///
    /// # Errors
    ///
    /// See [`RunError`]; whoever called goes on by calling again.
    pub async fn keep(&mut self, woken: &Notify, stop: &CancellationToken) -> Result<(), RunError> {
        while !stop.is_cancelled() {
            let mut look = self.patiently().await?;
            if look.is_leaving() {
                self.may_leave().await?;
                return self.remove().await;
            }
            let cluster = &look.objects.cluster;
            let observed = cluster.status.as_ref().and_then(|status| status.observed_generation);
            if observed != cluster.metadata.generation {
                look.world.record.forgive(look.world.now);
            }
            let Some(decision) = self.decided(&look).await? else { continue };
            match &decision.outcome {
                Outcome::Going => self.act(&look, decision).await,
                Outcome::Ready | Outcome::Stuck(_) => {
                    tokio::select! {
                        () = woken.notified() => {}
                        () = tokio::time::sleep(IDLE) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Refuses, also where the Cluster says how it stands, that a cluster takes itself apart.
    async fn may_leave(&self) -> Result<(), StoreError> {
        let elsewhere = self.store.is_elsewhere(&*self.provider).await;
        if let Err(problem @ StoreError::Itself { .. }) = &elsewhere {
            self.store.status(serde_json::json!({ "failureMessage": problem.to_string() })).await?;
        }
        elsewhere
    }

    /// Takes the cluster apart; it was marked as deleted.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn remove(&mut self) -> Result<(), RunError> {
        loop {
            let look = self.patiently().await?;
            let decision = remove::decide(&look.world, &self.drained);
            if !self.note(&look, &decision).await? {
                continue;
            }
            match &decision.outcome {
                Outcome::Ready => return Ok(self.store.forget().await?),
                Outcome::Stuck(problems) => return Err(RunError::Stuck(problems.clone())),
                Outcome::Going => self.act(&look, decision).await,
            }
        }
    }

    /// A look, as often as it takes while the API server is away.
    async fn patiently(&mut self) -> Result<Look, RunError> {
        let begin = Instant::now();
        loop {
            let problem = match self.look().await {
                Ok(look) => return Ok(look),
                Err(RunError::Store(StoreError::Api { object, source })) if begin.elapsed() < SILENCE => {
                    format!("{object}: {source}")
                }
                Err(RunError::Provider(ProviderError::Api { machine, source }))
                    if begin.elapsed() < SILENCE =>
                {
                    format!("{machine}: {source}")
                }
                Err(error) => return Err(error),
            };
            let wait = Wait { on: "API server of the provisioner".to_owned(), reason: problem, live: true };
            let seconds = begin.elapsed().as_secs();
            (self.tell)(Event::Waits { waits: vec![Waiting { wait, seconds }] });
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn look(&mut self) -> Result<Look, RunError> {
        let now = Timestamp::now();
        let objects = self.store.objects().await?;
        let read = self.store.record().await?;
        let cluster = self.store.cluster().to_owned();
        let held = self.provider.held(&cluster).await?;
        let told = held.iter().filter(|(_, held)| held.told).map(|(slot, _)| slot.clone()).collect();
        let held = held.into_iter().map(|(slot, held)| (slot, held.machine)).collect();
        let roles = self.roles(&objects).await?;
        let (observed, switched) = self.machines(&held, &read.record).await?;
        let (client, target) = self.target(&read.record, &held, now).await?;
        let world = World {
            cluster,
            now: now.as_second(),
            patience: patience(&objects.cluster.spec),
            roles,
            held,
            told,
            observed,
            switched,
            record: read.record.clone(),
            addons: self.store.addons().await?,
            target,
        };
        Ok(Look { world, objects, read, cluster: client })
    }

    async fn roles(&self, objects: &Objects) -> Result<Vec<Role>, RunError> {
        let mut roles = Vec::new();
        for (name, kind, count, config) in wanted(&objects.cluster.spec) {
            let config = config_of(objects, config)?;
            let candidates = self.provider.candidates(&config.spec, self.store.cluster()).await?;
            roles.push(Role { name, kind, count, candidates });
        }
        Ok(roles)
    }

    /// How far machines are: of those alone about which something is to be decided.
    async fn machines(
        &self,
        held: &BTreeMap<String, String>,
        record: &Record,
    ) -> Result<(BTreeMap<String, Observation>, BTreeMap<String, Switched>), RunError> {
        let ask = |name: &str, machine: &str| {
            let (name, machine) = (name.to_owned(), machine.to_owned());
            let stage = record.places.get(&name).map(|place| &place.stage);
            async move {
                let slot = self.slot(&name);
                let observed = match stage {
                    None | Some(Stage::Installing | Stage::Repeating) => {
                        Some(self.provider.observe(&machine, &slot).await?)
                    }
                    Some(_) => None,
                };
                let switched = match stage {
                    Some(Stage::Leaving(_)) => {
                        Some(self.provider.switched(&machine, &slot, Power::Off).await?)
                    }
                    Some(_) | None => None,
                };
                Ok::<_, ProviderError>((name, observed, switched))
            }
            .boxed()
        };
        let asked: Vec<_> = held.iter().map(|(name, machine)| ask(name, machine)).collect();
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let (mut observed, mut switched) = (BTreeMap::new(), BTreeMap::new());
        for answer in answers {
            let (name, seen, off) = answer?;
            observed.extend(seen.map(|seen| (name.clone(), seen)));
            switched.extend(off.map(|off| (name.clone(), off)));
        }
        Ok((observed, switched))
    }

    /// The cluster itself, once a machine may have made it.
    async fn target(
        &mut self,
        record: &Record,
        held: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(Option<Arc<target::Cluster>>, Target), RunError> {
        let installing =
            |stage: &Stage| matches!(stage, Stage::Installing | Stage::Repeating | Stage::Starting);
        if !record.initialized && record.places.values().all(|place| installing(&place.stage)) {
            return Ok((None, Target::Silent("no machine has made the cluster yet".to_owned())));
        }
        let (made, cluster) = match self.cluster.take().filter(|(made, _)| made.elapsed() < RENEWED) {
            Some(known) => known,
            None => {
                let (pki, kubeconfig) = (self.store.pki(now).await?, self.store.kubeconfig(now).await?);
                match target::Cluster::new(kubeconfig.expose(), &pki, now).await {
                    Ok(cluster) => (Instant::now(), Arc::new(cluster)),
                    Err(error) => return Ok((None, Target::Silent(daemon::chain(&error)))),
                }
            }
        };
        let named: Vec<_> = held
            .values()
            .map(|machine| Named { machine, identity: self.provider.node_identity(machine) })
            .collect();
        let seen = async {
            let tokens =
                self.store.tokens().await.map_err(|error| TargetError::Kubeconfig(error.to_string()))?;
            cluster.see(&named, &tokens).await
        };
        Ok(match seen.await {
            Ok(seen) => {
                self.cluster = Some((made, Arc::clone(&cluster)));
                (Some(cluster), Target::Answers(seen))
            }
            Err(error) => (None, Target::Silent(daemon::chain(&error))),
        })
    }

    /// What is done next, written down and told; nothing when somebody else wrote in between, and the world has to be looked at again.
    async fn decided(&mut self, look: &Look) -> Result<Option<Decision>, RunError> {
        let decision = decide(&look.world);
        if !self.note(look, &decision).await? {
            return Ok(None);
        }
        self.tell_status(look, &decision).await?;
        Ok(Some(decision))
    }

    /// Writes the record, if it changed; false when somebody else did in between, and the world has to be looked at again.
    async fn note(&mut self, look: &Look, decision: &Decision) -> Result<bool, RunError> {
        if decision.record == look.read.record && look.read.version.is_some() {
            return Ok(true);
        }
        match self.store.write(&decision.record, &look.read).await {
            Ok(()) => {}
            Err(StoreError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        for (slot, place) in &decision.record.places {
            if look.read.record.places.get(slot).map(|old| &old.stage) != Some(&place.stage) {
                let (machine, stage) = (place.machine.clone(), place.stage.clone());
                (self.tell)(Event::Stage { slot: slot.clone(), machine, stage });
            }
        }
        Ok(true)
    }

    async fn tell_status(&self, look: &Look, decision: &Decision) -> Result<(), RunError> {
        let cluster = &look.objects.cluster;
        let before = cluster.status.clone().unwrap_or_default();
        let after = status(&look.world, decision, &before, cluster.metadata.generation, Timestamp::now());
        if after == before {
            return Ok(());
        }
        let mut after = serde_json::to_value(&after).unwrap_or_default();
        if let Some(after) = after.as_object_mut() {
            // A merge takes away only what is named.
            for key in ["failureMessage", "failureReason"] {
                after.entry(key).or_insert(serde_json::Value::Null);
            }
        }
        match self.store.status(after).await {
            Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does everything at once, tells what is waited for, and rests when nothing was to be done or something failed.
    async fn act(&mut self, look: &Look, decision: Decision) {
        let waits = self.timed(&decision.waits);
        (self.tell)(Event::Waits { waits });
        for action in &decision.actions {
            (self.tell)(Event::Begins { action: action.clone() });
        }
        let mut rest = decision.actions.is_empty();
        let run = &*self;
        let carry_out = |action: Action| {
            async move {
                let result = run.carry_out(look, &action).await;
                (action, result)
            }
            .boxed()
        };
        let acting: Vec<_> = decision.actions.into_iter().map(carry_out).collect();
        let ended: Vec<_> = stream::iter(acting).buffer_unordered(AT_ONCE).collect().await;
        let failed = |action: &Action| ended.iter().any(|(one, result)| one == action && result.is_err());
        self.failing.retain(|action, _| failed(action));
        for (action, result) in ended {
            match result {
                Ok(true) => {
                    if let Action::Drain { machine } = &action {
                        self.drained.insert(machine.clone());
                    }
                    (self.tell)(Event::Done { action });
                }
                // It was asked for, and is not over.
                Ok(false) => rest = true,
                Err(error) => {
                    rest = true;
                    let problem = daemon::chain(&error);
                    let known = self.failing.entry(action.clone());
                    known.or_insert_with(|| (Instant::now(), String::new())).1.clone_from(&problem);
                    (self.tell)(Event::Failed { action, problem });
                }
            }
        }
        if rest {
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn timed(&mut self, waits: &[Wait]) -> Vec<Waiting> {
        // Numbers change while one waits for the same thing.
        let key = |wait: &Wait| {
            let reason = wait.reason.split(',').next().unwrap_or_default().to_owned();
            (wait.on.clone(), reason)
        };
        let now: BTreeSet<_> = waits.iter().map(key).collect();
        self.waits.retain(|known, _| now.contains(known));
        let timed = waits.iter().map(|wait| {
            let since = self.waits.entry(key(wait)).or_insert_with(Instant::now);
            Waiting { wait: wait.clone(), seconds: since.elapsed().as_secs() }
        });
        timed.collect()
    }

    fn slot(&self, name: &str) -> Slot {
        Slot {
            cluster: self.store.cluster().to_owned(),
            name: name.to_owned(),
            namespace: api::anywhere::v1alpha1::NAMESPACE.to_owned(),
        }
    }

    /// True when it is over, false when it has to be asked for again.
    async fn carry_out(&self, look: &Look, action: &Action) -> Result<bool, ActError> {
        let now = Timestamp::now();
        let cluster = || look.cluster.as_ref().ok_or(ActError::Silent);
        let named = |machine| Named { machine, identity: self.provider.node_identity(machine) };
        match action {
            Action::Claim { slot, machine } => self.provider.claim(machine, &self.slot(slot)).await?,
            Action::Boot { slot, machine, entry, role } => {
                let boot = self.boot(look, slot, machine, *entry, role).await?;
                self.provider.boot(machine, &self.slot(slot), &boot).await?;
            }
            Action::Reset { slot, machine } => self.provider.reset(machine, &self.slot(slot)).await?,
            Action::Admit { slot, machine } => {
                let token = self.store.token(slot, machine).await?;
                cluster()?.admit(slot, &token, now).await?;
            }
            Action::Revoke { slot } => {
                if let Some(token) = self.store.tokens().await?.get(slot) {
                    cluster()?.revoke(token).await?;
                }
            }
            Action::Forget { slot, machine } => self.provider.forget(machine, &self.slot(slot)).await?,
            Action::RemoveMember { machine } => cluster()?.remove_member(machine).await?,
            Action::Drain { machine } => return Ok(cluster()?.drain(&named(machine)).await?),
            Action::RemoveNode { machine } => cluster()?.remove_node(&named(machine)).await?,
            Action::PowerOff { slot, machine } => {
                self.provider.power(machine, &self.slot(slot), Power::Off).await?;
            }
            Action::Release { slot, machine } => self.provider.release(machine, &self.slot(slot)).await?,
            Action::Apply { addon } => cluster()?.apply(*addon, &self.store.addon(*addon).await?).await?,
        }
        Ok(true)
    }

    /// What a machine is installed with.
    async fn boot(
        &self,
        look: &Look,
        slot: &str,
        machine: &str,
        entry: Entry,
        role: &str,
    ) -> Result<Boot, ActError> {
        let objects = &look.objects;
        let spec = &objects.cluster.spec;
        let group = (entry == Entry::JoinWorker).then_some(role);
        let config = wanted(spec).into_iter().find(|(name, ..)| name == role).and_then(|(.., config)| config);
        let config = config_of(objects, config)?;
        let pki = self.store.pki(Timestamp::now()).await?;
        let token = self.store.token(slot, machine).await?;
        let annotation = |key: &str| objects.cluster.annotations().get(key).map(String::as_str);
        let settings = node::Settings {
            cluster: self.store.cluster(),
            spec,
            provisioner: Some(objects.datacenter.spec.tinkerbell_ip.as_str()).filter(|ip| !ip.is_empty()),
            bootstrap: annotation(BOOTSTRAP_ADDRESS),
            stack_image: annotation(STACK_IMAGE),
            pki: &pki,
        };
        let identity = self.provider.node_identity(machine);
        let told = node::Node {
            entry,
            name: machine,
            group,
            identity: &identity,
            config: &config.spec,
            token: &token,
        };
        let user_data = node::user_data(&settings, &told)?;
        Ok(Boot { template: self.template(objects, config)?, user_data: user_data.expose().clone() })
    }

    fn template(
        &self,
        objects: &Objects,
        config: &TinkerbellMachineConfig,
    ) -> Result<api::anywhere::v1alpha1::WorkflowTemplate, ActError> {
        let own = config.spec.template_ref.as_ref().and_then(|one| one.name.as_deref());
        if let Some(name) = own.filter(|name| !name.is_empty()) {
            let found = objects.templates.get(name);
            let missing = || ActError::Object(format!("there is no TinkerbellTemplateConfig {name:?}"));
            return Ok(found.ok_or_else(missing)?.spec.template.clone());
        }
        let site = &objects.datacenter.spec;
        let url = config.spec.os_image_url.as_deref().or(site.os_image_url.as_deref());
        let bootstrap = objects.cluster.annotations().get(BOOTSTRAP_ADDRESS).map(String::as_str);
        let hosts: Vec<_> = bootstrap
            .into_iter()
            .chain([site.tinkerbell_ip.as_str()])
            .filter(|host| !host.is_empty())
            .collect();
        let settings = templates::Settings {
            cluster: self.store.cluster(),
            image_url: url.ok_or_else(|| ActError::Object("no osImageURL is given".to_owned()))?,
            image_digest: config.spec.os_image_digest.as_deref().or(site.os_image_digest.as_deref()),
            metadata_hosts: &hosts,
            proxy: objects.cluster.spec.proxy_configuration.as_ref(),
        };
        Ok(templates::built_in(config.spec.os_family.unwrap_or(OsFamily::Ubuntu), &settings))
    }
}

/// Whether a Cluster is one that is made here.
#[must_use]
pub fn is_ours(cluster: &api::anywhere::v1alpha1::Cluster) -> bool {
    cluster.finalizers().iter().any(|one| one == FINALIZER)
}

/// The roles of a cluster with the names of their machine configurations.
fn wanted(spec: &ClusterSpec) -> Vec<(String, RoleKind, usize, Option<&str>)> {
    let count = |count: Option<i64>| usize::try_from(count.unwrap_or(0)).unwrap_or(0);
    let first = spec.control_plane_configuration.as_ref().map(|one| {
        let config = one.machine_group_ref.as_ref().and_then(|one| one.name.as_deref());
        (CONTROL_PLANE.to_owned(), RoleKind::ControlPlane, count(one.count), config)
    });
    let groups = spec.worker_node_group_configurations.iter().map(|group| {
        let least = group.autoscaling_configuration.as_ref().and_then(|scaling| scaling.min_count);
        let config = group.machine_group_ref.as_ref().and_then(|one| one.name.as_deref());
        (group.name.clone().unwrap_or_default(), RoleKind::Worker, count(group.count.max(least)), config)
    });
    first.into_iter().chain(groups).collect()
}

fn config_of<'o>(
    objects: &'o Objects,
    name: Option<&str>,
) -> Result<&'o TinkerbellMachineConfig, StoreError> {
    let name = name.unwrap_or_default();
    let missing = || StoreError::Missing(format!("there is no TinkerbellMachineConfig {name:?}"));
    objects.configs.get(name).ok_or_else(missing)
}

/// How long a node may take, in seconds.
fn patience(spec: &ClusterSpec) -> i64 {
    let check = spec.machine_health_check.as_ref();
    let given = check.and_then(|check| check.node_startup_timeout.as_deref()).and_then(syntax::go_seconds);
    given.unwrap_or(PATIENCE)
}
