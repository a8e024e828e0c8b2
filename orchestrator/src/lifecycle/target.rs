// SPDX-License-Identifier: Apache-2.0

//! The cluster that comes to be, seen through its own API: nodes, tokens, what was put into it, and its etcd.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, Pod, Secret},
    policy::v1::Eviction,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::ObjectMeta,
};
use serde_json::json;
use thiserror::Error;

use super::{
    Addon, NodeSeen, Seen,
    addons::{self, AddonError, FIELD_MANAGER},
    etcd::{self, Etcd, EtcdError},
};
use crate::{
    pki::Pki,
    token::{self, Token},
};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// ConfigMap in the cluster that says what was put into it.
const MARK: &str = "tink-cluster-addons";
/// An API server that does not answer within this is silent.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pods whose absence is no loss to a node that goes.
const STATIC_POD: &str = "kubernetes.io/config.mirror";

/// Why something was not seen or done in the cluster. Retried.
#[derive(Debug, Error)]
pub enum TargetError {
    /// The kubeconfig that we made is no use.
    #[error("the administrator's kubeconfig: {0}")]
    Kubeconfig(String),
    /// The API server refused or did not answer.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// A manifest was not applied.
    #[error(transparent)]
    Addon(#[from] AddonError),
    /// etcd refused or did not answer.
    #[error("etcd: {0}")]
    Etcd(String),
}

impl From<EtcdError> for TargetError {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(daemon::chain(&error))
    }
}

/// The cluster.
pub(super) struct Cluster {
    client: Client,
    etcd: etcd::Connections,
}

/// One of its machines, as its provider names it.
pub(super) struct Named<'a> {
    pub(super) machine: &'a str,
    /// `spec.providerID` of its node.
    pub(super) identity: String,
}

impl Cluster {
    /// Nothing is sent yet.
    pub(super) async fn new(kubeconfig: &str, pki: &Pki, now: Timestamp) -> Result<Self, TargetError> {
        let wrong = |problem: String| TargetError::Kubeconfig(problem);
        let read = Kubeconfig::from_yaml(kubeconfig).map_err(|error| wrong(error.to_string()))?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .map_err(|error| wrong(error.to_string()))?;
        config.connect_timeout = Some(TIMEOUT);
        config.read_timeout = Some(TIMEOUT);
        // A proxy of this machine is none of the cluster's.
        config.proxy_url = None;
        let pair = pki.etcd_client(now).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client: Client::try_from(config)?, etcd: etcd::Connections::new(pki, &pair)? })
    }

    /// What is seen of these machines and of the tokens of these places.
    pub(super) async fn see(
        &self,
        machines: &[Named<'_>],
        tokens: &BTreeMap<String, Token>,
    ) -> Result<Seen, TargetError> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        let known = |identity: &str| nodes.iter().find(|node| identity_of(node) == Some(identity));
        let found = machines.iter().filter_map(|one| Some((one.machine, known(&one.identity)?)));
        let found: Vec<(&str, &Node)> = found.collect();
        let secrets = Api::<Secret>::namespaced(self.client.clone(), token::NAMESPACE);
        let selector = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let open: BTreeSet<String> = secrets
            .list(&selector)
            .await?
            .items
            .into_iter()
            .filter(|secret| crate::pki::value(secret, "expiration").is_none_or(|until| until > now))
            .map(|secret| secret.name_any())
            .collect();
        let open = tokens.iter().filter(|(_, token)| open.contains(&token.secret_name()));
        Ok(Seen {
            members: self.etcd(&nodes).members().await.map_err(|error| daemon::chain(&error)),
            nodes: found.into_iter().map(|(machine, node)| (machine.to_owned(), seen(node))).collect(),
            tokens: open.map(|(slot, _)| slot.clone()).collect(),
            addons: self.marked().await?,
        })
    }

    fn etcd(&self, nodes: &[Node]) -> Etcd {
        let members = nodes.iter().filter(|node| node.labels().contains_key(CONTROL_PLANE));
        self.etcd.to(members.filter_map(address).collect())
    }

    async fn marked(&self) -> Result<BTreeSet<Addon>, TargetError> {
        let marks = Api::<ConfigMap>::namespaced(self.client.clone(), token::NAMESPACE);
        let mark = marks.get_opt(MARK).await?.and_then(|mark| mark.data).unwrap_or_default();
        Ok(Addon::ALL.into_iter().filter(|addon| mark.contains_key(addon.key())).collect())
    }

    /// Lets a machine in; an older token of the place is renewed.
    pub(super) async fn admit(&self, slot: &str, token: &Token, now: Timestamp) -> Result<(), TargetError> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), token::NAMESPACE);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        secrets.patch(&token.secret_name(), &params, &Patch::Apply(token.secret(slot, now))).await?;
        Ok(())
    }

    pub(super) async fn revoke(&self, token: &Token) -> Result<(), TargetError> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), token::NAMESPACE);
        gone(secrets.delete(&token.secret_name(), &DeleteParams::default()).await.map(drop))
    }

    pub(super) async fn apply(&self, addon: Addon, text: &str) -> Result<(), TargetError> {
        addons::apply(&self.client, addon, text).await?;
        let marks = Api::<ConfigMap>::namespaced(self.client.clone(), token::NAMESPACE);
        let mark = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": MARK },
            "data": { addon.key(): "applied" },
        });
        let params = PatchParams::apply(&format!("{FIELD_MANAGER}-{}", addon.key())).force();
        marks.patch(MARK, &params, &Patch::Apply(&mark)).await?;
        Ok(())
    }

    pub(super) async fn remove_member(&self, machine: &str) -> Result<(), TargetError> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        Ok(self.etcd(&nodes).remove(machine).await?)
    }

    pub(super) async fn remove_node(&self, one: &Named<'_>) -> Result<(), TargetError> {
        let nodes = Api::<Node>::all(self.client.clone());
        let Some(node) = self.node(one).await? else { return Ok(()) };
        gone(nodes.delete(&node, &DeleteParams::default()).await.map(drop))
    }

    /// Takes a node out of scheduling and asks its pods to go, each once; how long that may take is the caller's.
    /// True when none is left.
    pub(super) async fn drain(&self, one: &Named<'_>) -> Result<bool, TargetError> {
        let Some(node) = self.node(one).await? else { return Ok(true) };
        let nodes = Api::<Node>::all(self.client.clone());
        let cordon = json!({ "spec": { "unschedulable": true } });
        nodes.patch(&node, &PatchParams::default(), &Patch::Merge(&cordon)).await?;
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let pods = Api::<Pod>::all(self.client.clone()).list(&on_node).await?.items;
        let moved: Vec<_> = pods.iter().filter(|pod| is_moved(pod)).collect();
        for pod in &moved {
            let namespace = pod.namespace().unwrap_or_default();
            let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace);
            let eviction = Eviction {
                metadata: ObjectMeta {
                    name: Some(pod.name_any()),
                    namespace: Some(namespace),
                    ..ObjectMeta::default()
                },
                ..Eviction::default()
            };
            let name = pod.name_any();
            let asked = pods
                .create_subresource::<Eviction, serde_json::Value>(
                    "eviction",
                    &name,
                    &PostParams::default(),
                    &eviction,
                )
                .await;
            match asked {
                // 429: a disruption budget wants it to wait.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => {}
                other => drop(other?),
            }
        }
        Ok(moved.is_empty())
    }

    async fn node(&self, one: &Named<'_>) -> Result<Option<String>, TargetError> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        let found = nodes.iter().find(|node| identity_of(node) == Some(one.identity.as_str()));
        Ok(found.map(|node| node.name_any()))
    }
}

fn identity_of(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.provider_id.as_deref()
}

fn address(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    internal.address.parse().ok()
}

fn seen(node: &Node) -> NodeSeen {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let ready = match ready {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => Err(condition.message.clone().unwrap_or_default()),
        None => Err("its kubelet said nothing yet".to_owned()),
    };
    NodeSeen { control_plane: node.labels().contains_key(CONTROL_PLANE), ready }
}

/// Whether a pod runs elsewhere when its node goes: not one of every node, not one of the node's own files, not one that ended.
fn is_moved(pod: &Pod) -> bool {
    let every_node = pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !every_node
        && !pod.annotations().contains_key(STATIC_POD)
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn gone(answer: Result<(), kube::Error>) -> Result<(), TargetError> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other?),
    }
}
