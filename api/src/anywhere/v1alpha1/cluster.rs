// SPDX-License-Identifier: Apache-2.0

//! The Cluster kind: how many machines of which configuration, and what Kubernetes they become.
//!
//! Owns only the wire form; the orchestrator reads it once into types that cannot be wrong.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Taint,
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ClusterNetwork;
use crate::schema;

/// What a cluster is to be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "anywhere.eks.amazonaws.com",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    singular = "cluster",
    namespaced,
    status = "ClusterStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "A Kubernetes cluster: how many machines of which configuration."
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Pins the release of EKS Anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundles_ref: Option<BundlesRef>,
    /// Networks of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_network: Option<ClusterNetwork>,
    /// Its control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_configuration: Option<ControlPlaneConfiguration>,
    /// The object that describes the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter_ref: Option<Ref>,
    /// Release of EKS Anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eksa_version: Option<String>,
    /// Encryption of what etcd holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::any_objects")]
    pub etcd_encryption: Vec<BTreeMap<String, Value>>,
    /// Machines for etcd alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_etcd_configuration: Option<ExternalEtcdConfiguration>,
    /// The Git repository that this cluster follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_ops_ref: Option<Ref>,
    /// Who may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_provider_refs: Vec<Ref>,
    /// Version of Kubernetes, major and minor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// License of EKS Anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_token: Option<String>,
    /// When a machine counts as broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_health_check: Option<MachineHealthCheck>,
    /// The cluster that manages this one; itself when it has this cluster's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_cluster: Option<ManagementCluster>,
    /// Curated packages of EKS Anywhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub packages: BTreeMap<String, Value>,
    /// Accounts for pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_iam_config: Option<PodIamConfig>,
    /// How machines reach the internet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_configuration: Option<ProxyConfiguration>,
    /// The registry that images come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_mirror_configuration: Option<RegistryMirrorConfiguration>,
    /// Groups of workers; none at all makes the control plane run the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worker_node_group_configurations: Vec<WorkerNodeGroupConfiguration>,
}

/// Names an object of the same file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ref {
    /// Kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Names a Bundles object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundlesRef {
    /// `apiVersion` of the object.
    pub api_version: String,
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// The control plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneConfiguration {
    /// Flags of kube-apiserver besides the usual.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub api_server_extra_args: BTreeMap<String, String>,
    /// Audit policy of the API server, as YAML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_policy_content: Option<String>,
    /// More names and addresses in the certificate of the API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cert_sans: Vec<String>,
    /// Number of machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Where the API server is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// KubeletConfiguration of these machines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub kubelet_configuration: BTreeMap<String, Value>,
    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_group_ref: Option<Ref>,
    /// When a machine counts as broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_health_check: Option<MachineHealthCheck>,
    /// Whether admission lets everything of the system's namespaces pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_admission_for_system_resources: Option<bool>,
    /// Whether somebody else brings the load balancer of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_load_balancer_deployment: Option<bool>,
    /// Taints of the nodes; without any, the usual one of a control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
    /// How machines are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_rollout_strategy: Option<UpgradeRolloutStrategy>,
}

/// Where an API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// An address that no machine has.
    pub host: String,
}

/// Machines for etcd alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalEtcdConfiguration {
    /// Number of machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// The machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_group_ref: Option<Ref>,
}

/// When a machine counts as broken. Durations as Go writes them: `20m0s`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineHealthCheck {
    /// As many as may be broken at once for any to be replaced: a number or a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_string")]
    pub max_unhealthy: Option<IntOrString>,
    /// Longest time until the node has joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_startup_timeout: Option<String>,
    /// Longest time that a node is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_machine_timeout: Option<String>,
}

/// The cluster that manages another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManagementCluster {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Accounts for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodIamConfig {
    /// URL of the issuer.
    pub service_account_issuer: String,
}

/// How machines reach the internet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfiguration {
    /// Proxy for `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// Proxy for `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_proxy: Option<String>,
    /// Hosts and networks that are reached without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
}

/// The registry that images come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryMirrorConfiguration {
    /// Whether it wants a user and a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticate: Option<bool>,
    /// Its certificate authority, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert_content: Option<String>,
    /// Host name or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether any certificate is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
    /// Where in it the images of each registry are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub oci_namespaces: Vec<OciNamespace>,
    /// Port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// Where in a mirror the images of a registry are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OciNamespace {
    /// Path in the mirror.
    pub namespace: String,
    /// The registry.
    pub registry: String,
}

/// A group of workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerNodeGroupConfiguration {
    /// Bounds within which their number follows the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling_configuration: Option<AutoscalingConfiguration>,
    /// Number of machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Failure domains of providers that have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_domains: Vec<String>,
    /// KubeletConfiguration of these machines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub kubelet_configuration: BTreeMap<String, Value>,
    /// Version of Kubernetes, when it is not that of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Labels of the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_group_ref: Option<Ref>,
    /// When a machine counts as broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_health_check: Option<MachineHealthCheck>,
    /// Name of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Taints of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// How machines are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_rollout_strategy: Option<UpgradeRolloutStrategy>,
}

/// Bounds within which the number of workers follows the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingConfiguration {
    /// Most machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_count: Option<i64>,
    /// Fewest machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_count: Option<i64>,
}

/// How machines are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeRolloutStrategy {
    /// For the type `RollingUpdate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
    /// `RollingUpdate` or `InPlace`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

/// How many machines are replaced at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// How many there may be besides the wanted number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<i64>,
    /// How many may be missing from the wanted number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<i64>,
}

/// What became of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What is and is not so: `ControlPlaneInitialized`, `ControlPlaneReady`, `DefaultCNIConfigured`, `WorkersReady`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What failed, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
    /// What failed, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// One thing that is or is not so, in the form of Cluster API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// When it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Explanation for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `Error`, `Warning` or `Info`, when the status is `False`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: String,
}
