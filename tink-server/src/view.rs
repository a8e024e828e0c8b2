// SPDX-License-Identifier: Apache-2.0
//! What a workflow template sees: the data of [`data`], with the Go-cased view of the Hardware beside the JSON one.
//!
//! Published templates are written against Go structs (`.Hardware.Metadata.Instance.ID`), so every field of
//! HardwareSpec has its Go name in the table `ROOT`; a test holds the table against the schema. The meaning of an
//! absent field is Go's: a member held by value has its zero value (`""`, `0`, `false`, an empty list), a member
//! held by pointer is nil, and reading through nil is an error that says where (the template engine's rule).
//!
//! Called by the controller, once per Workflow. It never fails: absent Hardware gives an empty view.

use std::collections::BTreeMap;

use api::v1alpha1::Hardware;
use gotemplate::Value;
use gotemplate::data::{from_json, list, map, string};
use serde_json::{Map, Value as Json};

/// How a field is held in Go, which decides what its absence looks like.
enum Kind {
    /// `string`.
    Text,
    /// `int64`.
    Int,
    /// `bool`.
    Bool,
    /// `*bool`: nil when absent.
    OptionalBool,
    /// `*string`: nil when absent.
    OptionalText,
    /// A list of strings.
    Texts,
    /// A struct held by value: all its members are there.
    Struct(&'static [Field]),
    /// A struct held by pointer: nil when absent.
    Pointer(&'static [Field]),
    /// A list of structs, or of pointers to them.
    Structs(&'static [Field]),
    /// A map of structs.
    Named(&'static [Field]),
    /// A map of plain values.
    Plain,
}

/// One field: name in JSON, name in Go, kind.
type Field = (&'static str, &'static str, Kind);

const ROOT: &[Field] = &[
    ("agentID", "AgentID", Kind::Text),
    ("auto", "Auto", Kind::Struct(AUTO)),
    ("bmcRef", "BMCRef", Kind::Pointer(BMC_REF)),
    ("disks", "Disks", Kind::Structs(&[("device", "Device", Kind::Text)])),
    ("interfaces", "Interfaces", Kind::Structs(INTERFACE)),
    ("metadata", "Metadata", Kind::Pointer(METADATA)),
    ("references", "References", Kind::Named(REFERENCE)),
    ("resources", "Resources", Kind::Plain),
    ("tinkVersion", "TinkVersion", Kind::Int),
    ("userData", "UserData", Kind::OptionalText),
    ("vendorData", "VendorData", Kind::OptionalText),
];

const AUTO: &[Field] = &[("enrollmentEnabled", "EnrollmentEnabled", Kind::Bool)];

const BMC_REF: &[Field] = &[
    ("apiGroup", "APIGroup", Kind::OptionalText),
    ("kind", "Kind", Kind::Text),
    ("name", "Name", Kind::Text),
];

const REFERENCE: &[Field] = &[
    ("group", "Group", Kind::Text),
    ("name", "Name", Kind::Text),
    ("namespace", "Namespace", Kind::Text),
    ("resource", "Resource", Kind::Text),
    ("version", "Version", Kind::Text),
];

const INTERFACE: &[Field] = &[
    ("dhcp", "DHCP", Kind::Pointer(DHCP)),
    ("disableDhcp", "DisableDHCP", Kind::Bool),
    ("isoboot", "Isoboot", Kind::Pointer(&[("sourceISO", "SourceISO", Kind::Text)])),
    ("netboot", "Netboot", Kind::Pointer(NETBOOT)),
];

const DHCP: &[Field] = &[
    ("arch", "Arch", Kind::Text),
    ("boot_file_name", "BootFileName", Kind::Text),
    ("classless_static_routes", "ClasslessStaticRoutes", Kind::Structs(ROUTE)),
    ("domain_name", "DomainName", Kind::Text),
    ("hostname", "Hostname", Kind::Text),
    ("iface_name", "IfaceName", Kind::Text),
    ("ip", "IP", Kind::Pointer(IP)),
    ("lease_time", "LeaseTime", Kind::Int),
    ("mac", "MAC", Kind::Text),
    ("name_servers", "NameServers", Kind::Texts),
    ("tftp_server_name", "TFTPServerName", Kind::Text),
    ("time_servers", "TimeServers", Kind::Texts),
    ("uefi", "UEFI", Kind::Bool),
    ("vlan_id", "VLANID", Kind::Text),
];

const ROUTE: &[Field] =
    &[("destination_descriptor", "DestinationDescriptor", Kind::Text), ("router", "Router", Kind::Text)];

const IP: &[Field] = &[
    ("address", "Address", Kind::Text),
    ("family", "Family", Kind::Int),
    ("gateway", "Gateway", Kind::Text),
    ("netmask", "Netmask", Kind::Text),
];

const NETBOOT: &[Field] = &[
    ("allowPXE", "AllowPXE", Kind::OptionalBool),
    ("allowWorkflow", "AllowWorkflow", Kind::OptionalBool),
    ("ipxe", "IPXE", Kind::Pointer(IPXE)),
    ("osie", "OSIE", Kind::Pointer(OSIE)),
    ("pxelinux", "Pxelinux", Kind::Pointer(&[("config", "Config", Kind::Text)])),
    ("rpi", "RPI", Kind::Pointer(RPI)),
];

const IPXE: &[Field] =
    &[("binary", "Binary", Kind::Text), ("contents", "Contents", Kind::Text), ("url", "URL", Kind::Text)];

const OSIE: &[Field] = &[
    ("baseURL", "BaseURL", Kind::Text),
    ("initrd", "Initrd", Kind::Text),
    ("kernel", "Kernel", Kind::Text),
    ("kernelParams", "KernelParams", Kind::Texts),
];

const RPI: &[Field] = &[
    ("configTxt", "ConfigTxt", Kind::Text),
    ("firmwarePath", "FirmwarePath", Kind::Text),
    ("serialNum", "SerialNum", Kind::Text),
];

const METADATA: &[Field] = &[
    ("bonding_mode", "BondingMode", Kind::Int),
    ("custom", "Custom", Kind::Pointer(CUSTOM)),
    ("facility", "Facility", Kind::Pointer(FACILITY)),
    ("instance", "Instance", Kind::Pointer(INSTANCE)),
    ("manufacturer", "Manufacturer", Kind::Pointer(MANUFACTURER)),
    ("state", "State", Kind::Text),
];

const CUSTOM: &[Field] = &[
    (
        "preinstalled_operating_system_version",
        "PreinstalledOperatingSystemVersion",
        Kind::Pointer(OPERATING_SYSTEM),
    ),
    ("private_subnets", "PrivateSubnets", Kind::Texts),
];

const FACILITY: &[Field] = &[
    ("facility_code", "FacilityCode", Kind::Text),
    ("plan_slug", "PlanSlug", Kind::Text),
    ("plan_version_slug", "PlanVersionSlug", Kind::Text),
];

const MANUFACTURER: &[Field] = &[("id", "ID", Kind::Text), ("slug", "Slug", Kind::Text)];

const OPERATING_SYSTEM: &[Field] = &[
    ("distro", "Distro", Kind::Text),
    ("image_tag", "ImageTag", Kind::Text),
    ("os_slug", "OsSlug", Kind::Text),
    ("slug", "Slug", Kind::Text),
    ("version", "Version", Kind::Text),
];

const INSTANCE: &[Field] = &[
    ("allow_pxe", "AllowPxe", Kind::Bool),
    ("always_pxe", "AlwaysPxe", Kind::Bool),
    ("crypted_root_password", "CryptedRootPassword", Kind::Text),
    ("hostname", "Hostname", Kind::Text),
    ("id", "ID", Kind::Text),
    ("ips", "Ips", Kind::Structs(INSTANCE_IP)),
    ("ipxe_script_url", "IpxeScriptURL", Kind::Text),
    ("network_ready", "NetworkReady", Kind::Bool),
    ("operating_system", "OperatingSystem", Kind::Pointer(OPERATING_SYSTEM)),
    ("rescue", "Rescue", Kind::Bool),
    ("ssh_keys", "SSHKeys", Kind::Texts),
    ("state", "State", Kind::Text),
    ("storage", "Storage", Kind::Pointer(STORAGE)),
    ("tags", "Tags", Kind::Texts),
    ("userdata", "Userdata", Kind::Text),
];

const INSTANCE_IP: &[Field] = &[
    ("address", "Address", Kind::Text),
    ("family", "Family", Kind::Int),
    ("gateway", "Gateway", Kind::Text),
    ("management", "Management", Kind::Bool),
    ("netmask", "Netmask", Kind::Text),
    ("public", "Public", Kind::Bool),
];

const STORAGE: &[Field] = &[
    ("disks", "Disks", Kind::Structs(STORAGE_DISK)),
    ("filesystems", "Filesystems", Kind::Structs(&[("mount", "Mount", Kind::Pointer(MOUNT))])),
    ("raid", "Raid", Kind::Structs(RAID)),
];

const STORAGE_DISK: &[Field] = &[
    ("device", "Device", Kind::Text),
    ("partitions", "Partitions", Kind::Structs(PARTITION)),
    ("wipe_table", "WipeTable", Kind::Bool),
];

const PARTITION: &[Field] = &[
    ("label", "Label", Kind::Text),
    ("number", "Number", Kind::Int),
    ("size", "Size", Kind::Int),
    ("start", "Start", Kind::Int),
    ("type_guid", "TypeGUID", Kind::Text),
];

const MOUNT: &[Field] = &[
    (
        "create",
        "Create",
        Kind::Pointer(&[("force", "Force", Kind::Bool), ("options", "Options", Kind::Texts)]),
    ),
    ("device", "Device", Kind::Text),
    ("files", "Files", Kind::Structs(MOUNT_FILE)),
    ("format", "Format", Kind::Text),
    ("point", "Point", Kind::Text),
];

const MOUNT_FILE: &[Field] = &[
    ("contents", "Contents", Kind::Text),
    ("gid", "GID", Kind::Int),
    ("mode", "Mode", Kind::Int),
    ("path", "Path", Kind::Text),
    ("uid", "UID", Kind::Int),
];

const RAID: &[Field] = &[
    ("devices", "Devices", Kind::Texts),
    ("level", "Level", Kind::Text),
    ("name", "Name", Kind::Text),
    ("spare", "Spare", Kind::Int),
];

/// Members that the legacy `.Hardware` of a workflow template has; in media URLs all members are there.
const LEGACY: &[&str] = &["Disks", "Interfaces", "Metadata", "UserData", "VendorData"];

/// The data of a workflow template: the keys of `hardwareMap` at the top, `hardware` with JSON names, `Hardware`
/// with Go names, and an empty `references`.
pub fn data(hardware_map: &BTreeMap<String, String>, hardware: Option<&Hardware>) -> Value {
    let json = hardware.map_or(Json::Object(Map::new()), |h| serde_json::to_value(h).unwrap_or_default());
    let spec = json.get("spec").and_then(Json::as_object).cloned().unwrap_or_default();
    let mut legacy = BTreeMap::new();
    if let Value::Map(all) = structure(&spec, ROOT) {
        for name in LEGACY {
            if let Some(value) = all.get(*name) {
                legacy.insert((*name).into(), value.clone());
            }
        }
    }
    // Here, and only here, a disk is its device's path.
    let disks = spec.get("disks").and_then(Json::as_array).into_iter().flatten();
    let devices = disks.map(|disk| string(disk.get("device").and_then(Json::as_str).unwrap_or_default()));
    legacy.insert("Disks".into(), list(devices));

    let own = hardware_map.iter().map(|(key, value)| (key.as_str().into(), string(value)));
    let fixed = [("hardware", from_json(&json)), ("Hardware", map(legacy)), ("references", map([]))];
    map(own.chain(fixed.map(|(key, value)| (key.into(), value))))
}

/// The data of a `customboot` media URL: `.Hardware` alone, with every member of the spec.
pub fn media_url_data(hardware: &Hardware) -> Value {
    let json = serde_json::to_value(&hardware.spec).unwrap_or_default();
    let spec = json.as_object().cloned().unwrap_or_default();
    map([("Hardware".into(), structure(&spec, ROOT))])
}

fn structure(json: &Map<String, Json>, fields: &[Field]) -> Value {
    map(fields.iter().map(|(name, go, kind)| ((*go).into(), member(json.get(*name), kind))))
}

fn member(json: Option<&Json>, kind: &Kind) -> Value {
    let json = json.filter(|value| !value.is_null());
    let object = json.and_then(Json::as_object);
    let items = || json.and_then(Json::as_array).into_iter().flatten();
    match kind {
        Kind::Text | Kind::Int | Kind::Bool if json.is_some() => json.map_or(Value::Nil, from_json),
        Kind::Text => string(""),
        Kind::Int => Value::Int(0),
        Kind::Bool => Value::Bool(false),
        Kind::OptionalBool | Kind::OptionalText => json.map_or(Value::Nil, from_json),
        Kind::Texts => list(items().map(from_json)),
        Kind::Struct(fields) => structure(object.unwrap_or(&Map::new()), fields),
        Kind::Pointer(fields) => object.map_or(Value::Nil, |object| structure(object, fields)),
        Kind::Structs(fields) => list(items().map(|item| member(Some(item), &Kind::Pointer(fields)))),
        Kind::Named(fields) => {
            let entries = object.into_iter().flatten();
            map(entries
                .map(|(key, value)| (key.as_str().into(), member(Some(value), &Kind::Pointer(fields)))))
        }
        Kind::Plain => json.map_or(map([]), from_json),
    }
}

#[cfg(test)]
mod tests;
