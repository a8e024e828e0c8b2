// SPDX-License-Identifier: Apache-2.0
//! What a user would write to have the lab's machines installed: Secret, Machine, Hardware, Template, Workflow.
//!
//! Plain YAML documents, so that the demo (and the end-to-end tests) take the same way as a user's files: through
//! `tink apply`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The Template of the demo.
pub const TEMPLATE: &str = include_str!("../../files/template.yaml");

/// Namespace of everything here.
pub const NAMESPACE: &str = "tinkerbell";

/// How a BMC is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BmcProtocol {
    /// IPMI 2.0 over LAN.
    Ipmi,
    /// Redfish over HTTPS.
    Redfish,
}

/// One server as its owner describes it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Name of the Hardware and of the BMC Machine.
    pub name: String,
    /// MAC of the first interface, lower case.
    pub mac: String,
    /// Address the machine gets.
    pub address: Ipv4Addr,
    /// Netmask of the address.
    pub netmask: Ipv4Addr,
    /// Provisioner's address: the name server field, for want of a real one.
    pub provisioner: Ipv4Addr,
    /// Whether the firmware is UEFI.
    pub uefi: bool,
    /// Disk to install to.
    pub disk: String,
    /// Address of the BMC.
    pub bmc: Ipv4Addr,
    /// How to speak to it.
    pub protocol: BmcProtocol,
    /// BMC user.
    pub user: String,
    /// BMC password.
    pub password: String,
    /// Public key for the installed system's default user.
    pub ssh_key: String,
}

/// What a Workflow installs.
#[derive(Debug, Clone)]
pub struct Install {
    /// Name of the Workflow.
    pub name: String,
    /// Where the image is.
    pub image_url: String,
    /// `sha256:<hex>` of the file at that URL.
    pub image_digest: String,
    /// Base URL of the metadata service.
    pub metadata_url: String,
}

/// Secret, Machine and Hardware of a server.
pub fn server(server: &Server) -> String {
    let Server { name, mac, address, netmask, provisioner, uefi, disk, bmc, user, password, ssh_key, .. } =
        server;
    let driver = match server.protocol {
        BmcProtocol::Ipmi => "ipmitool: {port: 623}\n      preferredOrder: [ipmitool]",
        BmcProtocol::Redfish => "redfish: {port: 443}\n      preferredOrder: [gofish]",
    };
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: {name}-bmc, namespace: {NAMESPACE}}}
type: kubernetes.io/basic-auth
stringData:
  username: {user:?}
  password: {password:?}
---
apiVersion: bmc.tinkerbell.org/v1alpha1
kind: Machine
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  connection:
    host: {bmc}
    insecureTLS: true
    authSecretRef: {{name: {name}-bmc, namespace: {NAMESPACE}}}
    providerOptions:
      {driver}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  agentID: {mac:?}
  bmcRef: {{apiGroup: bmc.tinkerbell.org, kind: Machine, name: {name}}}
  disks:
    - device: {disk}
  interfaces:
    - dhcp:
        mac: {mac:?}
        hostname: {name}
        arch: x86_64
        uefi: {uefi}
        lease_time: 86400
        name_servers: [{provisioner}]
        ip: {{address: {address}, netmask: {netmask}}}
      netboot:
        allowPXE: false
  metadata:
    facility: {{facility_code: lab}}
    instance:
      id: {mac:?}
      hostname: {name}
      ssh_keys:
        - {ssh_key:?}
  userData: |
    #cloud-config
    package_update: false
"
    )
}

/// A Workflow that boots the server from the network and installs it.
pub fn workflow(server: &Server, install: &Install) -> String {
    let mut text = format!(
        "apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {{name: {}, namespace: {NAMESPACE}}}
spec:
  templateRef: debian
  hardwareRef: {}
  bootOptions:
    toggleAllowNetboot: true
    bootMode: netboot
  hardwareMap:
",
        install.name, server.name
    );
    let rows = [
        ("device_1", server.mac.as_str()),
        ("image_url", &install.image_url),
        ("image_digest", &install.image_digest),
        ("metadata_url", &install.metadata_url),
    ];
    for (key, value) in rows {
        // Writing to a String cannot fail.
        let written = writeln!(text, "    {key}: {value:?}");
        debug_assert!(written.is_ok());
    }
    text
}
