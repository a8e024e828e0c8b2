// SPDX-License-Identifier: Apache-2.0

//! What of a cluster is kept in the API: the objects of its file, its keys, the tokens of its machines, the record of its runs.
//!
//! | object | what |
//! |---|---|
//! | `<cluster>-ca`, `-etcd`, `-proxy`, `-sa`, `-kubeconfig` (Secrets) | keys, as Cluster API has them |
//! | `<slot>-bootstrap` (Secret) | the token of a place's machine |
//! | `<cluster>-machines` (ConfigMap) | the [`Record`], written by compare and swap |
//! | `<cluster>-addons` (ConfigMap) | manifests that are put into the cluster |

use std::collections::{BTreeMap, BTreeSet};

use api::{
    annotations::LABEL_CLUSTER,
    anywhere::v1alpha1::{
        Cluster, NAMESPACE, TinkerbellDatacenterConfig, TinkerbellMachineConfig, TinkerbellTemplateConfig,
    },
};
use daemon::Secret;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, ConfigMap, Namespace};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::json;
use thiserror::Error;

use super::{Addon, Record, addons::FIELD_MANAGER};
use crate::{
    cluster::ClusterFile,
    node::API_PORT,
    object::Namespaced,
    pki::{self, Part, Pki, PkiError},
    provider::{Provider, ProviderError},
    token::Token,
};

/// Annotation of EKS Anywhere: the address of the provisioner while the cluster is made.
pub const BOOTSTRAP_ADDRESS: &str = "anywhere.eks.amazonaws.com/tinkerbell-bootstrap-ip";
/// Annotation: where nodes of the control plane get the image of the daemons from.
pub const STACK_IMAGE: &str = "tinkerbell.org/stack-image";
/// What keeps a Cluster from going before its machines were given back.
pub const FINALIZER: &str = "tinkerbell.org/cluster";
const RECORD: &str = "record";
const TOKEN: &str = "token";
const MACHINE: &str = "machine";

/// Why something was not read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The server refused, or did not answer. Retried.
    #[error("{object}: {source}")]
    Api {
        /// Kind and name.
        object: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Somebody else wrote at the same moment, perhaps a second run. Retried from a new look.
    #[error("{object} was changed by somebody else at this moment")]
    Conflict {
        /// Kind and name.
        object: String,
    },
    /// There is no such cluster, or a part of it is missing. Not retried.
    #[error("{0}")]
    Missing(String),
    /// The cluster is on its way out. Not retried.
    #[error("the cluster {0} is being deleted: finish that with `tink cluster delete {0}` first")]
    Deleting(String),
    /// The cluster would take itself apart. Not retried.
    #[error(
        "{cluster} runs what would switch its machines off ({node} is one of them): `tink cluster move` that to an admin machine first, and delete it from there"
    )]
    Itself {
        /// The cluster.
        cluster: String,
        /// A node of it.
        node: String,
    },
    /// The provider does not tell which machines there are. Retried.
    #[error(transparent)]
    Machines(Box<ProviderError>),
    /// A key is no use. Not retried.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The record is none. Not retried.
    #[error("the ConfigMap {name} holds no record: {source}")]
    Record {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The objects of a cluster's file.
#[derive(Debug)]
pub struct Objects {
    /// The cluster.
    pub cluster: Cluster,
    /// Its site.
    pub datacenter: TinkerbellDatacenterConfig,
    /// Configurations of machines by name.
    pub configs: BTreeMap<String, TinkerbellMachineConfig>,
    /// Templates by name.
    pub templates: BTreeMap<String, TinkerbellTemplateConfig>,
}

/// A record with the version that it was read at; none when there is no record yet.
pub(super) struct Read {
    pub(super) record: Record,
    pub(super) version: Option<String>,
}

/// What is kept of one cluster.
#[derive(Clone)]
pub struct Store {
    client: Client,
    cluster: String,
}

impl Store {
    /// That of the cluster of this name.
    #[must_use]
    pub fn new(client: Client, cluster: &str) -> Self {
        Self { client, cluster: cluster.to_owned() }
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Saves the objects of a cluster file, and what is to be put into the cluster; what an earlier run saved is replaced.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn save(
        &self,
        file: &ClusterFile,
        (bootstrap, stack_image): (&str, Option<&str>),
        addons: &BTreeMap<Addon, String>,
    ) -> Result<(), StoreError> {
        if let Some(cluster) = self.get::<Cluster>(&self.cluster).await?
            && cluster.metadata.deletion_timestamp.is_some()
        {
            return Err(StoreError::Deleting(self.cluster.clone()));
        }
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let applied = namespaces.patch(NAMESPACE, &params, &Patch::Apply(&namespace)).await;
        applied.map_err(|source| failed::<Namespace>(NAMESPACE, source))?;
        for template in &file.templates {
            self.apply(template.value.clone()).await?;
        }
        for config in &file.machine_configs {
            self.apply(config.value.clone()).await?;
        }
        if let Some(datacenter) = &file.datacenter {
            self.apply(datacenter.value.clone()).await?;
        }
        if !addons.is_empty() {
            let data = addons.iter().map(|(addon, text)| (addon.key().to_owned(), text.clone())).collect();
            let metadata = self.meta(&self.addons_name());
            self.apply(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).await?;
        }
        let mut cluster = file.cluster.value.clone();
        cluster.annotations_mut().insert(BOOTSTRAP_ADDRESS.to_owned(), bootstrap.to_owned());
        if let Some(url) = stack_image {
            cluster.annotations_mut().insert(STACK_IMAGE.to_owned(), url.to_owned());
        }
        cluster.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        cluster.status = None;
        self.apply(cluster).await
    }

    /// The objects of the cluster.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn objects(&self) -> Result<Objects, StoreError> {
        let cluster = self.cluster_object().await?;
        let reference = cluster.spec.datacenter_ref.as_ref().and_then(|one| one.name.clone());
        let name = reference.unwrap_or_default();
        let datacenter = self.get(&name).await?;
        let missing = || StoreError::Missing(format!("there is no TinkerbellDatacenterConfig {name:?}"));
        let configs = self.list::<TinkerbellMachineConfig>(&ListParams::default()).await?;
        let templates = self.list::<TinkerbellTemplateConfig>(&ListParams::default()).await?;
        Ok(Objects {
            cluster,
            datacenter: datacenter.ok_or_else(missing)?,
            configs: configs.into_iter().map(|one| (one.name_any(), one)).collect(),
            templates: templates.into_iter().map(|one| (one.name_any(), one)).collect(),
        })
    }

    /// The Cluster.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn cluster_object(&self) -> Result<Cluster, StoreError> {
        let found = self.get::<Cluster>(&self.cluster).await?;
        found.ok_or_else(|| StoreError::Missing(format!("there is no cluster {:?}", self.cluster)))
    }

    /// The manifest of an addon.
    pub(super) async fn addon(&self, addon: Addon) -> Result<String, StoreError> {
        let kept = self.get::<ConfigMap>(&self.addons_name()).await?.and_then(|kept| kept.data);
        let text = kept.and_then(|mut kept| kept.remove(addon.key()));
        text.ok_or_else(|| StoreError::Missing(format!("no manifest of the {addon} was kept")))
    }

    /// What is to be put into the cluster.
    pub(super) async fn addons(&self) -> Result<BTreeSet<Addon>, StoreError> {
        let kept = self.get::<ConfigMap>(&self.addons_name()).await?.and_then(|kept| kept.data);
        let kept = kept.unwrap_or_default();
        Ok(Addon::ALL.into_iter().filter(|addon| kept.contains_key(addon.key())).collect())
    }

    /// The record of earlier runs.
    pub(super) async fn record(&self) -> Result<Read, StoreError> {
        let Some(kept) = self.get::<ConfigMap>(&self.record_name()).await? else {
            return Ok(Read { record: Record::default(), version: None });
        };
        let text = kept.data.as_ref().and_then(|data| data.get(RECORD)).map_or("{}", String::as_str);
        let record = serde_json::from_str(text)
            .map_err(|source| StoreError::Record { name: self.record_name(), source })?;
        Ok(Read { record, version: kept.metadata.resource_version })
    }

    /// Writes the record, if it still is the one that was read.
    pub(super) async fn write(&self, record: &Record, read: &Read) -> Result<(), StoreError> {
        let name = self.record_name();
        let text = serde_json::to_string(record)
            .map_err(|source| StoreError::Record { name: name.clone(), source })?;
        let mut metadata = self.meta(&name);
        metadata.resource_version.clone_from(&read.version);
        let data = Some(BTreeMap::from([(RECORD.to_owned(), text)]));
        let object = ConfigMap { metadata, data, ..ConfigMap::default() };
        let kept = self.api::<ConfigMap>();
        let written = match read.version {
            None => kept.create(&PostParams::default(), &object).await,
            Some(_) => kept.replace(&name, &PostParams::default(), &object).await,
        };
        written.map(drop).map_err(|source| failed::<ConfigMap>(&name, source))
    }

    /// Somebody has looked at a cluster of which nothing went on any more: machines that failed get another chance.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn forgive(&self, now: Timestamp) -> Result<(), StoreError> {
        let read = self.record().await?;
        let mut record = read.record.clone();
        record.forgive(now.as_second());
        if record != read.record {
            self.write(&record, &read).await?;
        }
        self.forget_failure().await
    }

    /// The keys of the cluster; what is not there yet is made.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn pki(&self, now: Timestamp) -> Result<Pki, StoreError> {
        let pair = async |part: Part| {
            let name = part.secret_name(&self.cluster);
            let secret = match self.get::<v1::Secret>(&name).await? {
                Some(secret) => secret,
                None => self.create(part.secret(&self.cluster, &part.make(now)?)).await?,
            };
            Ok::<_, StoreError>(part.read(&secret)?)
        };
        Ok(Pki {
            kubernetes: pair(Part::Kubernetes).await?,
            etcd: pair(Part::Etcd).await?,
            front_proxy: pair(Part::FrontProxy).await?,
            accounts: pair(Part::Accounts).await?,
        })
    }

    /// The administrator's kubeconfig; made when it is not there yet, and anew long before its certificate ends.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn kubeconfig(&self, now: Timestamp) -> Result<Secret<String>, StoreError> {
        let name = format!("{}-kubeconfig", self.cluster);
        let known = self.get::<v1::Secret>(&name).await?;
        let is_old = |secret: &v1::Secret| {
            let made = secret.metadata.creation_timestamp.as_ref();
            made.is_some_and(|made| now.duration_since(made.0) > pki::ADMIN_RENEWED)
        };
        if known.as_ref().is_some_and(is_old) {
            self.delete::<v1::Secret>(&name).await?;
        }
        let secret = match known.filter(|secret| !is_old(secret)) {
            Some(secret) => secret,
            None => {
                let cluster = self.cluster_object().await?;
                let endpoint = cluster.spec.control_plane_configuration.and_then(|one| one.endpoint);
                let host = endpoint.map(|endpoint| endpoint.host).unwrap_or_default();
                let pki = self.pki(now).await?;
                let text = pki.kubeconfig(&self.cluster, &format!("{host}:{API_PORT}"), now)?;
                self.create(pki::secret(name.clone(), &self.cluster, [("value", text.expose().clone())]))
                    .await?
            }
        };
        let damaged = || PkiError::Damaged { name: name.clone(), key: "value" };
        Ok(Secret::new(pki::value(&secret, "value").ok_or_else(damaged)?))
    }

    /// The tokens of all places.
    pub(super) async fn tokens(&self) -> Result<BTreeMap<String, Token>, StoreError> {
        let ours = ListParams::default().labels(&format!("{LABEL_CLUSTER}={}", self.cluster));
        let secrets = self.list::<v1::Secret>(&ours).await?;
        let token = |secret: &v1::Secret| {
            let slot = secret.metadata.name.as_deref()?.strip_suffix("-bootstrap")?.to_owned();
            Some((slot, Token::parse(&pki::value(secret, TOKEN)?)?))
        };
        Ok(secrets.iter().filter_map(token).collect())
    }

    /// The token of a place's machine; made when it is not there yet, and for every machine anew.
    pub(super) async fn token(&self, slot: &str, machine: &str) -> Result<Token, StoreError> {
        let name = format!("{slot}-bootstrap");
        if let Some(secret) = self.get::<v1::Secret>(&name).await? {
            let same = pki::value(&secret, MACHINE).as_deref() == Some(machine);
            if let Some(token) = pki::value(&secret, TOKEN).as_deref().and_then(Token::parse).filter(|_| same)
            {
                return Ok(token);
            }
            self.delete::<v1::Secret>(&name).await?;
        }
        let token = Token::make(rand::random);
        let data = [(TOKEN, token.reveal().expose().clone()), (MACHINE, machine.to_owned())];
        let made = self.create(pki::secret(name, &self.cluster, data)).await?;
        Ok(pki::value(&made, TOKEN).as_deref().and_then(Token::parse).unwrap_or(token))
    }

    /// Somebody has looked at what went wrong: it is not what is told any more.
    async fn forget_failure(&self) -> Result<(), StoreError> {
        self.status(json!({ "failureMessage": null, "failureReason": null })).await
    }

    /// Writes the status of the Cluster.
    pub(super) async fn status(&self, status: serde_json::Value) -> Result<(), StoreError> {
        let patch = Patch::Merge(json!({ "status": status }));
        let clusters = self.api::<Cluster>();
        let written = clusters.patch_status(&self.cluster, &PatchParams::default(), &patch).await;
        written.map(drop).map_err(|source| failed::<Cluster>(&self.cluster, source))
    }

    /// Whether the machines of the cluster are elsewhere than what tells of them: a cluster that keeps itself cannot switch its last
    /// machine off and still say so, and what it knows of its machines would go with it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Itself`] when they are not.
    pub async fn is_elsewhere(&self, provider: &dyn Provider) -> Result<(), StoreError> {
        let nodes: Api<v1::Node> = Api::all(self.client.clone());
        let nodes = match nodes.list(&ListParams::default()).await {
            Ok(nodes) => nodes.items,
            // A server of ours has no nodes, and who is confined to a namespace may not ask for them.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(()),
            Err(source) => return Err(failed::<v1::Node>("", source)),
        };
        let held =
            provider.held(&self.cluster).await.map_err(|error| StoreError::Machines(Box::new(error)))?;
        let identities: BTreeSet<_> =
            held.values().map(|held| provider.node_identity(&held.machine)).collect();
        let own = nodes.iter().find(|node| {
            let identity = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
            identity.is_some_and(|identity| identities.contains(identity))
        });
        match own {
            Some(node) => Err(StoreError::Itself { cluster: self.cluster.clone(), node: node.name_any() }),
            None => Ok(()),
        }
    }

    /// Asks for the end of the cluster; the Cluster stays until `forget`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn mark_deleted(&self) -> Result<(), StoreError> {
        self.cluster_object().await?;
        self.delete::<Cluster>(&self.cluster).await
    }

    /// Removes everything that was kept, the Cluster last.
    pub(super) async fn forget(&self) -> Result<(), StoreError> {
        let ours = ListParams::default().labels(&format!("{LABEL_CLUSTER}={}", self.cluster));
        for secret in self.list::<v1::Secret>(&ours).await? {
            self.delete::<v1::Secret>(&secret.name_any()).await?;
        }
        for kept in self.list::<ConfigMap>(&ours).await? {
            self.delete::<ConfigMap>(&kept.name_any()).await?;
        }
        let Some(cluster) = self.get::<Cluster>(&self.cluster).await? else { return Ok(()) };
        let others = self.list::<Cluster>(&ListParams::default()).await?;
        let others: Vec<_> = others.iter().filter(|other| other.name_any() != self.cluster).collect();
        for (kind, name) in references(&cluster.spec) {
            // Two clusters may share a site.
            if others.iter().any(|other| references(&other.spec).contains(&(kind.clone(), name.clone()))) {
                continue;
            }
            match kind.as_str() {
                "TinkerbellDatacenterConfig" => self.delete::<TinkerbellDatacenterConfig>(&name).await?,
                "TinkerbellMachineConfig" => self.delete::<TinkerbellMachineConfig>(&name).await?,
                _ => {}
            }
        }
        let kept = cluster.finalizers().iter().filter(|one| *one != FINALIZER).cloned().collect::<Vec<_>>();
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": kept } }));
        let patched = self.api::<Cluster>().patch(&self.cluster, &PatchParams::default(), &patch).await;
        match patched {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(|source| failed::<Cluster>(&self.cluster, source)),
        }
    }

    fn record_name(&self) -> String {
        format!("{}-machines", self.cluster)
    }

    fn addons_name(&self) -> String {
        format!("{}-addons", self.cluster)
    }

    fn meta(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(LABEL_CLUSTER.to_owned(), self.cluster.clone())])),
            ..ObjectMeta::default()
        }
    }

    fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn get<K: Namespaced>(&self, name: &str) -> Result<Option<K>, StoreError> {
        self.api::<K>().get_opt(name).await.map_err(|source| failed::<K>(name, source))
    }

    async fn list<K: Namespaced>(&self, params: &ListParams) -> Result<Vec<K>, StoreError> {
        Ok(self.api::<K>().list(params).await.map_err(|source| failed::<K>("", source))?.items)
    }

    /// Creates an object; the one that is there wins.
    async fn create<K: Namespaced>(&self, object: K) -> Result<K, StoreError> {
        let name = object.name_any();
        match self.api::<K>().create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = self.api::<K>().get(&name).await;
                there.map_err(|source| failed::<K>(&name, source))
            }
            other => other.map_err(|source| failed::<K>(&name, source)),
        }
    }

    async fn apply<K: Namespaced>(&self, mut object: K) -> Result<(), StoreError> {
        let name = object.name_any();
        object.meta_mut().namespace = Some(NAMESPACE.to_owned());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.api::<K>().patch(&name, &params, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|source| failed::<K>(&name, source))
    }

    async fn delete<K: Namespaced>(&self, name: &str) -> Result<(), StoreError> {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(|source| failed::<K>(name, source)),
        }
    }
}

/// What a cluster names: kind and name.
fn references(spec: &api::anywhere::v1alpha1::ClusterSpec) -> BTreeSet<(String, String)> {
    let groups = spec.worker_node_group_configurations.iter().map(|group| group.machine_group_ref.as_ref());
    let control_plane = spec.control_plane_configuration.as_ref();
    let all = [spec.datacenter_ref.as_ref(), control_plane.and_then(|one| one.machine_group_ref.as_ref())];
    let named = all.into_iter().chain(groups).flatten();
    named.filter_map(|one| Some((one.kind.clone()?, one.name.clone()?))).collect()
}

fn failed<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> StoreError {
    let object = format!("{}/{name}", K::kind(&()).to_lowercase());
    match &source {
        kube::Error::Api(status) if status.code == 409 => StoreError::Conflict { object },
        _ => StoreError::Api { object, source: Box::new(source) },
    }
}
