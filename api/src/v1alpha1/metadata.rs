// SPDX-License-Identifier: Apache-2.0

//! The metadata tree of a Hardware: what a machine is told about itself.
//!
//! Owns only the wire form. The metadata service answers from it, boots takes the facility code from it, templates may
//! read all of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a machine is told about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// Bonding mode of the instance's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bonding_mode: Option<i64>,
    /// Facts of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
    /// Where the machine stands and what it is sold as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facility: Option<Facility>,
    /// The installed system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// Who made the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<Manufacturer>,
    /// State of the machine, for programs that keep one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Facts of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Custom {
    /// What was installed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preinstalled_operating_system_version: Option<OperatingSystem>,
    /// Private networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_subnets: Vec<String>,
}

/// Where a machine stands and what it is sold as.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Facility {
    /// Code of the site; becomes the kernel argument `facility`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facility_code: Option<String>,
    /// Plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_slug: Option<String>,
    /// Version of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_version_slug: Option<String>,
}

/// Who made a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manufacturer {
    /// Identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// The installed system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Kept for older manifests; `netboot.allowPXE` of the interface decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_pxe: Option<bool>,
    /// Kept for older manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_pxe: Option<bool>,
    /// Hash of root's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypted_root_password: Option<String>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Instance ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<InstanceIp>,
    /// Kept for older manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe_script_url: Option<String>,
    /// Kept for older manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_ready: Option<bool>,
    /// Operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operating_system: Option<OperatingSystem>,
    /// Whether the machine is being rescued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescue: Option<bool>,
    /// Public keys that may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// State of the instance, for programs that keep one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Wanted disk layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// User data of older manifests; the metadata service serves `spec.userData`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userdata: Option<String>,
}

/// One address of the installed system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceIp {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<i64>,
    /// Router of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Whether it is for management.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<bool>,
    /// Netmask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// Whether the internet can reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
}

/// An operating system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperatingSystem {
    /// Distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distro: Option<String>,
    /// Tag of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
    /// Short name of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_slug: Option<String>,
    /// Short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Wanted disk layout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Storage {
    /// Disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<StorageDisk>,
    /// File systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Arrays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raid: Vec<Raid>,
}

/// Wanted layout of one disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StorageDisk {
    /// Path of the block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
    /// Whether the partition table is made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe_table: Option<bool>,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Number, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    /// GPT type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_guid: Option<String>,
}

/// One file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Filesystem {
    /// Where and how it is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
}

/// Where and how a file system is mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mount {
    /// How it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<MountCreate>,
    /// Path of the block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Files to put into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<MountFile>,
    /// Kind of file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Mount point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
}

/// How a file system is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MountCreate {
    /// Whether an existing one is overwritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// Arguments of mkfs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// One file to put into a file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MountFile {
    /// Content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// Group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<i64>,
    /// Mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<i64>,
    /// Path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
}

/// One array.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Raid {
    /// Member devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// RAID level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of spares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare: Option<i64>,
}
