// SPDX-License-Identifier: Apache-2.0

//! The TinkerbellDatacenterConfig kind: what all machines of a site have in common.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What all machines of a site have in common.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "anywhere.eks.amazonaws.com",
    version = "v1alpha1",
    kind = "TinkerbellDatacenterConfig",
    plural = "tinkerbelldatacenterconfigs",
    singular = "tinkerbelldatacenterconfig",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "What all machines of a site have in common."
)]
#[serde(rename_all = "camelCase")]
pub struct TinkerbellDatacenterConfigSpec {
    /// Certificate authority of the BMCs, PEM; without it any certificate is taken, as EKS Anywhere does. Ours.
    #[serde(rename = "bmcCACert", skip_serializing_if = "Option::is_none")]
    pub bmc_ca_cert: Option<String>,
    /// URL of the folder with kernel and initial RAM disk of the in-memory operating system.
    #[serde(rename = "hookImagesURLPath", skip_serializing_if = "Option::is_none")]
    pub hook_images_url_path: Option<String>,
    /// URL of the in-memory operating system as an ISO.
    #[serde(rename = "hookIsoURL", skip_serializing_if = "Option::is_none")]
    pub hook_iso_url: Option<String>,
    /// Whether machines boot from the BMC's virtual media instead of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iso_boot: Option<bool>,
    /// The interface that the stack's address is announced on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_interface: Option<String>,
    /// `sha256:` and the digest of what is decompressed from `osImageURL`. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_image_digest: Option<String>,
    /// URL of the operating-system image.
    #[serde(rename = "osImageURL", skip_serializing_if = "Option::is_none")]
    pub os_image_url: Option<String>,
    /// Whether somebody else brings the load balancer of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_load_balancer_deployment: Option<bool>,
    /// The address of the stack in the final cluster.
    #[serde(rename = "tinkerbellIP")]
    pub tinkerbell_ip: String,
}
