// SPDX-License-Identifier: Apache-2.0

//! The Hardware kind: one machine, how it boots, and what it is told about itself.
//!
//! Owns the wire form of `Hardware` in `tinkerbell.org/v1alpha1` and the questions that several daemons ask of it (see the
//! methods of [`Hardware`] and [`Interface`]). Boots, hegel, rufio and the workflow controller read it; it never judges
//! its content beyond what the schema says.

use std::{collections::BTreeMap, net::IpAddr};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Attributes, Metadata};
use crate::{Mac, schema::Quantity};

const BOTH_OR_NEITHER: &str = "(has(self.tftp_server_name) && self.tftp_server_name != \"\") == (has(self.boot_file_name) && self.boot_file_name != \"\")";
const MAC_PATTERN: &str = "([0-9a-f]{2}[:]){5}([0-9a-f]{2})";
const VLAN_PATTERN: &str = "^(([0-9][0-9]{0,2}|[1-3][0-9][0-9][0-9]|40([0-8][0-9]|9[0-6]))(,[1-9][0-9]{0,2}|[1-3][0-9][0-9][0-9]|40([0-8][0-9]|9[0-6]))*)$";
const IPV4_PATTERN: &str =
    r"^((25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\.){3}(25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)$";
const CIDR_PATTERN: &str = r"^((25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\.){3}(25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)/(3[0-2]|[12]?[0-9])$";

/// What is known and wanted of one machine.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tinkerbell.org",
    version = "v1alpha1",
    kind = "Hardware",
    plural = "hardware",
    singular = "hardware",
    shortname = "hw",
    category = "tinkerbell",
    namespaced,
    status = "HardwareStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "One machine: how it boots, and what it is told about itself.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state")
)]
#[serde(rename_all = "camelCase")]
pub struct HardwareSpec {
    /// The identity that the machine's agent reports; without one it is the MAC of the booting interface.
    #[serde(rename = "agentID", skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// What may happen to this machine without being asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// The BMC Machine of the same namespace that powers this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc_ref: Option<BmcRef>,
    /// Disks that templates may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// What the metadata service tells the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Other objects that templates may read, under the names they use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<String, Reference>,
    /// What the machine offers, for programs that choose machines by size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, Quantity>,
    /// Kept for older manifests; not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tink_version: Option<i64>,
    /// User data of the metadata service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// Vendor data for templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_data: Option<String>,
}

/// What may happen to a machine without being asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auto {
    /// Whether a matching rule set may start a workflow for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub enrollment_enabled: Option<bool>,
}

/// Names the BMC Machine of a Hardware; only the name is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct BmcRef {
    /// API group of the referenced object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// Kind of the referenced object.
    pub kind: String,
    /// Name of the Machine.
    pub name: String,
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Path of the block device, as the agent will see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// One network interface of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its DHCP reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    /// Keeps the DHCP server silent towards this interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub disable_dhcp: Option<bool>,
    /// Boot from an ISO image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isoboot: Option<Isoboot>,
    /// Boot from the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netboot: Option<Netboot>,
}

/// What DHCP answers to one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [{ "rule": BOTH_OR_NEITHER, "message": "tftp_server_name and boot_file_name must be set together" }]))]
pub struct Dhcp {
    /// Architecture: `x86_64` (default) or `aarch64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Option 67 as it is; with `tftp_server_name` it replaces every netboot option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_file_name: Option<String>,
    /// Option 121.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classless_static_routes: Vec<ClasslessStaticRoute>,
    /// Options 15 and 119.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_name: Option<String>,
    /// Option 12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Interface name, for templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iface_name: Option<String>,
    /// The reserved address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ip>,
    /// Lease in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_time: Option<i64>,
    /// Hardware address, in lower case with colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = MAC_PATTERN))]
    pub mac: Option<String>,
    /// Option 6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
    /// Option 66 as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp_server_name: Option<String>,
    /// Option 42.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_servers: Vec<String>,
    /// Whether the machine boots by UEFI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi: Option<bool>,
    /// VLAN for the kernel command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = VLAN_PATTERN))]
    pub vlan_id: Option<String>,
}

/// One route of option 121 (RFC 3442).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClasslessStaticRoute {
    /// Destination in CIDR form.
    #[schemars(extend("pattern" = CIDR_PATTERN))]
    pub destination_descriptor: String,
    /// Address of the router.
    #[schemars(extend("pattern" = IPV4_PATTERN))]
    pub router: String,
}

/// An address with its network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ip {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<i64>,
    /// Router of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Netmask in dotted form; IPv4 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
}

/// Boot from an ISO image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Isoboot {
    /// URL of the image that is patched and served.
    #[serde(rename = "sourceISO", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri"))]
    pub source_iso: Option<String>,
}

/// Boot from the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Netboot {
    /// Whether boot files and scripts are handed out; absent means no.
    #[serde(rename = "allowPXE", skip_serializing_if = "Option::is_none")]
    pub allow_pxe: Option<bool>,
    /// Kept for older manifests; not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_workflow: Option<bool>,
    /// What iPXE is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe: Option<Ipxe>,
    /// The in-memory operating system to boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub osie: Option<Osie>,
    /// Configuration for pxelinux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pxelinux: Option<Pxelinux>,
    /// Network boot of a Raspberry Pi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpi: Option<Rpi>,
}

/// What iPXE is given instead of the usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ipxe {
    /// Name of the boot program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// The script itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// A script to chain to; wins over `contents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Where the in-memory operating system comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Osie {
    /// URL of the folder with kernel and initial RAM disk.
    #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// File name of the initial RAM disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// File name of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Kernel arguments after all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_params: Vec<String>,
}

/// Configuration for pxelinux.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pxelinux {
    /// Body of the configuration file of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// Network boot of a Raspberry Pi.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rpi {
    /// Body of `config.txt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_txt: Option<String>,
    /// Folder of the firmware files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_path: Option<String>,
    /// Serial number that the boot loader asks with.
    pub serial_num: String,
}

/// Names any object of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reference {
    /// API group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Plural resource name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// API version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What was found out about a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HardwareStatus {
    /// Inventory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<HardwareAttributes>,
    /// Kept for older readers; not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Inventory by source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HardwareAttributes {
    /// What the BMC says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_band: Option<Attributes>,
}

impl Hardware {
    /// The interface with this MAC.
    #[must_use]
    pub fn interface_by_mac(&self, mac: Mac) -> Option<&Interface> {
        self.spec.interfaces.iter().find(|interface| interface.mac() == Some(mac))
    }

    /// The interface whose reservation is this address.
    #[must_use]
    pub fn interface_by_ip(&self, ip: IpAddr) -> Option<&Interface> {
        self.spec.interfaces.iter().find(|interface| interface.ip() == Some(ip))
    }

    /// The MACs of all interfaces that have a valid one, in the order of the interfaces.
    pub fn macs(&self) -> impl Iterator<Item = Mac> + '_ {
        self.spec.interfaces.iter().filter_map(Interface::mac)
    }

    /// The instance ID under which the metadata service knows this machine; an empty one counts as none.
    #[must_use]
    pub fn instance_id(&self) -> Option<&str> {
        let id = self.spec.metadata.as_ref()?.instance.as_ref()?.id.as_deref()?;
        (!id.is_empty()).then_some(id)
    }

    /// The identity that the agent reports when the machine booted from `mac`: `spec.agentID`, else the MAC. It is the
    /// kernel argument `worker_id`.
    #[must_use]
    pub fn agent_id(&self, mac: Mac) -> String {
        match self.spec.agent_id.as_deref() {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => mac.to_string(),
        }
    }

    /// Whether `id` is what an agent on this machine may call itself, whichever interface it booted from.
    #[must_use]
    pub fn has_agent_id(&self, id: &str) -> bool {
        match self.spec.agent_id.as_deref() {
            Some(own) if !own.is_empty() => own == id,
            _ => id.parse::<Mac>().is_ok_and(|mac| self.interface_by_mac(mac).is_some()),
        }
    }

    /// Name of the BMC Machine in the same namespace.
    #[must_use]
    pub fn bmc_name(&self) -> Option<&str> {
        self.spec.bmc_ref.as_ref().map(|bmc| bmc.name.as_str())
    }

    /// Whether the machine boots by UEFI: any interface that says so decides.
    #[must_use]
    pub fn is_uefi(&self) -> bool {
        self.spec.interfaces.iter().any(|i| i.dhcp.as_ref().and_then(|dhcp| dhcp.uefi) == Some(true))
    }

    /// Whether this machine is marked as never to be written; see [`crate::annotations::PROTECTED`].
    #[must_use]
    pub fn is_protected(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(crate::annotations::PROTECTED))
            .is_some_and(|value| value != "false")
    }
}

impl Interface {
    /// The MAC of the reservation, if it is there and valid.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        self.dhcp.as_ref()?.mac.as_deref()?.parse().ok()
    }

    /// The reserved address, if it is there and valid.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.dhcp.as_ref()?.ip.as_ref()?.address.as_deref()?.parse().ok()
    }

    /// Whether boot files and scripts may be handed out; not said means no.
    #[must_use]
    pub fn allows_netboot(&self) -> bool {
        self.netboot.as_ref().and_then(|netboot| netboot.allow_pxe) == Some(true)
    }

    /// Whether the DHCP server answers this interface.
    #[must_use]
    pub fn allows_dhcp(&self) -> bool {
        self.disable_dhcp != Some(true)
    }
}
