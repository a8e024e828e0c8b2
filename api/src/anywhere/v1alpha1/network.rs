// SPDX-License-Identifier: Apache-2.0

//! The networks of a Cluster, and the network plugin that makes them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// Networks of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    /// Kept for older files: the name of the network plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
    /// The network plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni_config: Option<CniConfig>,
    /// Names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// What each node gets of the pods' network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// The network of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<CidrBlocks>,
    /// The network of the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<CidrBlocks>,
}

/// Networks in CIDR form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CidrBlocks {
    /// The networks; exactly one is supported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr_blocks: Vec<String>,
}

/// The network plugin: one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CniConfig {
    /// Cilium.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cilium: Option<Cilium>,
    /// kindnet, which EKS Anywhere uses in containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kindnetd: Option<Kindnetd>,
}

/// Settings of Cilium.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cilium {
    /// Whether it removes other plugins' configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni_exclusive: Option<bool>,
    /// Interfaces on which addresses of pods are hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_masquerade_interfaces: Option<String>,
    /// Values of its Helm chart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub helm_values: BTreeMap<String, Value>,
    /// Network that is routed as it is, IPv4.
    #[serde(rename = "ipv4NativeRoutingCIDR", skip_serializing_if = "Option::is_none")]
    pub ipv4_native_routing_cidr: Option<String>,
    /// The same, IPv6.
    #[serde(rename = "ipv6NativeRoutingCIDR", skip_serializing_if = "Option::is_none")]
    pub ipv6_native_routing_cidr: Option<String>,
    /// `default`, `always` or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_enforcement_mode: Option<String>,
    /// `overlay` or `direct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_mode: Option<String>,
    /// Whether it is left alone in an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_upgrade: Option<bool>,
}

/// Settings of kindnet: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kindnetd {}

/// Names in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// The resolver configuration that pods inherit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<ResolvConf>,
}

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvConf {
    /// Its path on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What each node gets of the pods' network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Length of the prefix of a node's part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_mask_size: Option<i64>,
}
