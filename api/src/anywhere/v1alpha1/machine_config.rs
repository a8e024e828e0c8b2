// SPDX-License-Identifier: Apache-2.0

//! The TinkerbellMachineConfig kind: which machines a role takes, and what is put on them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ref;
use crate::schema::Quantity;

/// Which machines a role takes, and what is put on them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "anywhere.eks.amazonaws.com",
    version = "v1alpha1",
    kind = "TinkerbellMachineConfig",
    plural = "tinkerbellmachineconfigs",
    singular = "tinkerbellmachineconfig",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "Which machines a role takes, and what is put on them."
)]
#[serde(rename_all = "camelCase")]
pub struct TinkerbellMachineConfigSpec {
    /// Architecture that the machines must have: `x86_64` or `aarch64`. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// Firmware that the machines must boot with. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    /// The disk to write, by its properties; without it the first one that the Hardware names. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_selector: Option<DiskSelector>,
    /// Which machines, by label selectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_affinity: Option<HardwareAffinity>,
    /// Which machines, by one label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hardware_selector: BTreeMap<String, String>,
    /// Settings of the installed system.
    #[serde(rename = "hostOSConfiguration", skip_serializing_if = "Option::is_none")]
    pub host_os_configuration: Option<HostOsConfiguration>,
    /// Family of the operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_family: Option<OsFamily>,
    /// `sha256:` and the digest of what is decompressed from `osImageURL`. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_image_digest: Option<String>,
    /// URL of the operating-system image, when the datacenter names none.
    #[serde(rename = "osImageURL", skip_serializing_if = "Option::is_none")]
    pub os_image_url: Option<String>,
    /// A TinkerbellTemplateConfig instead of the built-in template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<Ref>,
    /// Who may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
}

/// Architecture of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
}

/// How a machine's firmware boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    /// UEFI.
    Uefi,
    /// BIOS.
    Bios,
}

/// Family of an operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OsFamily {
    /// Ubuntu, and Debian, which is configured alike.
    Ubuntu,
    /// Red Hat Enterprise Linux.
    Redhat,
    /// Bottlerocket; no image for bare metal exists for any Kubernetes after 1.28.
    Bottlerocket,
}

/// A disk by its properties: all that are named must fit, and of several the smallest is meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskSelector {
    /// Its model contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its size is at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Quantity>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its World Wide Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
}

/// Which machines, by label selectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HardwareAffinity {
    /// Those that fit better come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<PreferredAffinityTerm>,
    /// One of these must fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<AffinityTerm>,
}

/// One selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityTerm {
    /// Labels of the Hardware.
    pub label_selector: LabelSelector,
}

/// One selector with its weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredAffinityTerm {
    /// The selector.
    pub hardware_affinity_term: AffinityTerm,
    /// 1 to 100; the weights of all that fit are added.
    pub weight: i64,
}

/// Settings of the installed system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostOsConfiguration {
    /// Settings of Bottlerocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottlerocket_configuration: Option<BottlerocketConfiguration>,
    /// Certificate authorities that the system trusts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cert_bundles: Vec<CertBundle>,
    /// Time servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntp_configuration: Option<NtpConfiguration>,
}

/// Certificate authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertBundle {
    /// The certificates, PEM.
    pub data: String,
    /// A name for them.
    pub name: String,
}

/// Time servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NtpConfiguration {
    /// Names or addresses.
    pub servers: Vec<String>,
}

/// Settings of Bottlerocket, kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BottlerocketConfiguration {
    /// Boot loader.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub boot: BTreeMap<String, serde_json::Value>,
    /// Kernel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub kernel: BTreeMap<String, serde_json::Value>,
    /// Kubelet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub kubernetes: BTreeMap<String, serde_json::Value>,
}

/// Somebody who may log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Account.
    pub name: String,
    /// Public keys.
    pub ssh_authorized_keys: Vec<String>,
}

impl Arch {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl BootMode {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uefi => "uefi",
            Self::Bios => "bios",
        }
    }
}

impl OsFamily {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ubuntu => "ubuntu",
            Self::Redhat => "redhat",
            Self::Bottlerocket => "bottlerocket",
        }
    }
}
