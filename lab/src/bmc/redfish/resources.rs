// SPDX-License-Identifier: Apache-2.0
//! The documents of the service (DSP0268 schemas). Pure: identity and present state in, JSON out.
//!
//! Called by `Service`. Clients must follow the links; the paths are ours to choose.

use serde_json::{Value, json};

use super::patch::{INTERFACES, MODES, TARGETS, name_of};
use super::service::View;
use crate::chassis::{Identity, PowerAction, PowerState};

/// The service root (DSP0266 section 6.1: the only path that a client may know).
pub const ROOT: &str = "/redfish/v1";
/// Path segment of the manager.
pub const MANAGER: &str = "BMC";
/// Path segment of the network interface.
pub const INTERFACE: &str = "NIC.1";
/// Path segment of the virtual drive.
pub const DRIVE: &str = "Cd";
/// Path segments of its actions.
pub const INSERT: &str = "VirtualMedia.InsertMedia";
/// The other one.
pub const EJECT: &str = "VirtualMedia.EjectMedia";
/// Reset types that the machine knows.
pub const RESETS: [(&str, PowerAction); 5] = [
    ("On", PowerAction::On),
    ("ForceOff", PowerAction::ForceOff),
    ("GracefulShutdown", PowerAction::GracefulShutdown),
    ("ForceRestart", PowerAction::Reset),
    ("PowerCycle", PowerAction::Cycle),
];

/// The minimal OData metadata document (DSP0266 section 8.4.2).
pub const METADATA: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">
  <edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/ServiceRoot_v1.xml">
    <edmx:Include Namespace="ServiceRoot"/>
    <edmx:Include Namespace="ServiceRoot.v1_15_0"/>
  </edmx:Reference>
  <edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/ComputerSystem_v1.xml">
    <edmx:Include Namespace="ComputerSystem"/>
    <edmx:Include Namespace="ComputerSystem.v1_20_0"/>
  </edmx:Reference>
  <edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/Manager_v1.xml">
    <edmx:Include Namespace="Manager"/>
  </edmx:Reference>
  <edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/Chassis_v1.xml">
    <edmx:Include Namespace="Chassis"/>
  </edmx:Reference>
  <edmx:DataServices>
    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service">
      <EntityContainer Name="Service" Extends="ServiceRoot.v1_15_0.ServiceContainer"/>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"#;

/// `/redfish`: the protocol versions.
#[must_use]
pub fn versions() -> Value {
    json!({"v1": "/redfish/v1/"})
}

/// The service root.
#[must_use]
pub fn root(identity: &Identity) -> Value {
    json!({
        "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot",
        "@odata.id": "/redfish/v1/",
        "Id": "RootService",
        "Name": "Root Service",
        "Product": "Virtual BMC",
        "RedfishVersion": "1.18.0",
        "UUID": identity.uuid,
        "Systems": link("/Systems"),
        "Managers": link("/Managers"),
        "Chassis": link("/Chassis"),
        "SessionService": link("/SessionService"),
        "Links": {"Sessions": link("/SessionService/Sessions")},
    })
}

/// The OData service document.
#[must_use]
pub fn odata() -> Value {
    let entry = |name: &str| json!({"name": name, "kind": "Singleton", "url": format!("{ROOT}/{name}")});
    json!({
        "@odata.context": "/redfish/v1/$metadata",
        "value": [
            {"name": "Service", "kind": "Singleton", "url": "/redfish/v1/"},
            entry("Systems"), entry("Managers"), entry("Chassis"), entry("SessionService"),
        ],
    })
}

/// A collection with these members.
#[must_use]
pub fn collection(kind: &str, path: &str, members: &[String]) -> Value {
    let members: Vec<Value> = members.iter().map(|member| link(&format!("{path}/{member}"))).collect();
    json!({
        "@odata.type": format!("#{kind}Collection.{kind}Collection"),
        "@odata.id": format!("{ROOT}{path}"),
        "Name": format!("{kind} Collection"),
        "Members@odata.count": members.len(),
        "Members": members,
    })
}

/// The session service; `timeout` in seconds.
#[must_use]
pub fn session_service(timeout: u64) -> Value {
    json!({
        "@odata.type": "#SessionService.v1_1_9.SessionService",
        "@odata.id": format!("{ROOT}/SessionService"),
        "Id": "SessionService",
        "Name": "Session Service",
        "ServiceEnabled": true,
        "SessionTimeout": timeout,
        "Status": ok(),
        "Sessions": link("/SessionService/Sessions"),
    })
}

/// One session.
#[must_use]
pub fn session(id: &str, user: &str) -> Value {
    json!({
        "@odata.type": "#Session.v1_7_0.Session",
        "@odata.id": format!("{ROOT}/SessionService/Sessions/{id}"),
        "Id": id,
        "Name": "User Session",
        "UserName": user,
        "SessionType": "Redfish",
    })
}

/// The computer system.
#[must_use]
pub fn system(identity: &Identity, view: &View) -> Value {
    let path = format!("/Systems/{}", identity.name);
    let boot = view.boot_override;
    json!({
        "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
        "@odata.id": format!("{ROOT}{path}"),
        "Id": identity.name,
        "Name": identity.name,
        "SystemType": "Physical",
        "Manufacturer": identity.manufacturer,
        "Model": identity.model,
        "SerialNumber": identity.serial,
        "UUID": identity.uuid,
        "Status": ok(),
        "PowerState": power_state(view.power),
        "Boot": {
            "BootSourceOverrideEnabled": name_of(&MODES, boot.mode),
            "BootSourceOverrideEnabled@Redfish.AllowableValues": names(&MODES),
            "BootSourceOverrideTarget": name_of(&TARGETS, boot.target),
            "BootSourceOverrideTarget@Redfish.AllowableValues": names(&TARGETS),
            "BootSourceOverrideMode": name_of(&INTERFACES, boot.uefi),
            "BootSourceOverrideMode@Redfish.AllowableValues": names(&INTERFACES),
        },
        "EthernetInterfaces": link(&format!("{path}/EthernetInterfaces")),
        "Links": {
            "Chassis": [link(&format!("/Chassis/{}", identity.name))],
            "ManagedBy": [link(&format!("/Managers/{MANAGER}"))],
        },
        "Actions": {"#ComputerSystem.Reset": {
            "target": format!("{ROOT}{path}/Actions/ComputerSystem.Reset"),
            "ResetType@Redfish.AllowableValues": names(&RESETS),
        }},
    })
}

/// The machine's network interface.
#[must_use]
pub fn ethernet_interface(identity: &Identity) -> Value {
    json!({
        "@odata.type": "#EthernetInterface.v1_10_0.EthernetInterface",
        "@odata.id": format!("{ROOT}/Systems/{}/EthernetInterfaces/{INTERFACE}", identity.name),
        "Id": INTERFACE,
        "Name": "Network Interface 1",
        "InterfaceEnabled": true,
        "MACAddress": identity.mac,
        "PermanentMACAddress": identity.mac,
        "Status": ok(),
    })
}

/// The BMC itself.
#[must_use]
pub fn manager(identity: &Identity) -> Value {
    json!({
        "@odata.type": "#Manager.v1_19_0.Manager",
        "@odata.id": format!("{ROOT}/Managers/{MANAGER}"),
        "Id": MANAGER,
        "Name": "Virtual BMC",
        "ManagerType": "BMC",
        "FirmwareVersion": env!("CARGO_PKG_VERSION"),
        "PowerState": "On",
        "Status": ok(),
        "VirtualMedia": link(&format!("/Managers/{MANAGER}/VirtualMedia")),
        "Links": {
            "ManagerForServers": [link(&format!("/Systems/{}", identity.name))],
            "ManagerForChassis": [link(&format!("/Chassis/{}", identity.name))],
        },
    })
}

/// The virtual drive.
#[must_use]
pub fn drive(view: &View) -> Value {
    let path = format!("{ROOT}/Managers/{MANAGER}/VirtualMedia/{DRIVE}");
    let name = view.media.as_ref().and_then(|url| url.rsplit('/').next());
    json!({
        "@odata.type": "#VirtualMedia.v1_6_3.VirtualMedia",
        "@odata.id": path,
        "Id": DRIVE,
        "Name": "Virtual CD",
        "MediaTypes": ["CD", "DVD"],
        "Image": view.media,
        "ImageName": name,
        "ConnectedVia": if view.media.is_some() { "URI" } else { "NotConnected" },
        "Inserted": view.media.is_some(),
        "WriteProtected": true,
        "Actions": {
            "#VirtualMedia.InsertMedia": {"target": format!("{path}/Actions/{INSERT}")},
            "#VirtualMedia.EjectMedia": {"target": format!("{path}/Actions/{EJECT}")},
        },
    })
}

/// The enclosure.
#[must_use]
pub fn chassis(identity: &Identity, view: &View) -> Value {
    json!({
        "@odata.type": "#Chassis.v1_25_0.Chassis",
        "@odata.id": format!("{ROOT}/Chassis/{}", identity.name),
        "Id": identity.name,
        "Name": identity.name,
        "ChassisType": "RackMount",
        "Manufacturer": identity.manufacturer,
        "Model": identity.model,
        "SerialNumber": identity.serial,
        "PowerState": power_state(view.power),
        "Status": ok(),
        "Links": {
            "ComputerSystems": [link(&format!("/Systems/{}", identity.name))],
            "ManagedBy": [link(&format!("/Managers/{MANAGER}"))],
        },
    })
}

const fn power_state(power: PowerState) -> &'static str {
    match power {
        PowerState::On => "On",
        PowerState::Off => "Off",
    }
}

fn link(path: &str) -> Value {
    json!({"@odata.id": format!("{ROOT}{path}")})
}

fn ok() -> Value {
    json!({"State": "Enabled", "Health": "OK"})
}

fn names<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}
