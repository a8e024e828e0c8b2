// SPDX-License-Identifier: Apache-2.0

//! What a row becomes: Hardware, Machine and Secrets in the namespace of clusters, and back.
//!
//! Owns names, labels and constants of these objects, which are EKS Anywhere's, so that its own commands and CAPT find what they
//! expect. The way back reads the inventory that is already in an API, for instance Hardware that was applied with kubectl.

use std::{collections::BTreeMap, net::Ipv4Addr};

use api::{
    annotations::{LABEL_CLUSTER, LABEL_MOVE, LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE},
    anywhere::v1alpha1::{Arch, BootMode, NAMESPACE},
    bmc::v1alpha1::{
        Connection, IpmiOptions, Machine, MachineSpec, ProviderName, ProviderOptions, RedfishOptions,
        RpcHmac, RpcOptions, SecretReference,
    },
    v1alpha1::{
        BmcRef, Dhcp, Disk, Facility, Hardware, HardwareSpec, Instance, InstanceIp, Interface, Ip, Metadata,
        Netboot, OperatingSystem,
    },
};
use daemon::Secret as Hidden;
use ipnet::Ipv4Net;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use thiserror::Error;

use super::{BmcAccess, BmcAccount, BmcDriver, Nic, Server};

/// As long as a lease can be, in seconds: the reservation is for ever.
const LEASE_SECONDS: i64 = 4_294_967_294;
const FACILITY: &str = "onprem";
const PLAN: &str = "c2.medium.x86";
/// Protocols that a BMC without `bmc_driver` is tried with.
const PROTOCOLS: [&str; 2] = ["gofish", "ipmitool"];
/// Each key of a web hook signs with both.
const HMAC_ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// A web hook that stands for all BMCs (`bmc_options`).
#[derive(Clone)]
pub struct RpcBmc {
    /// Where and how requests are sent; without the keys.
    pub options: RpcOptions,
    /// Keys that sign the requests.
    pub hmac_secrets: Vec<Hidden<String>>,
}

/// The objects of one machine.
#[derive(Clone, PartialEq)]
pub struct Objects {
    /// The machine.
    pub hardware: Hardware,
    /// Its BMC.
    pub machine: Option<Machine>,
    /// The account on the BMC, or the keys of the web hook.
    pub secrets: Vec<Secret>,
}

/// Why objects are not a machine that a cluster can take. Only changed objects can help.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotAServer {
    /// A field is missing or cannot be read.
    #[error("Hardware {name}: {field} is missing, or is not what a cluster needs")]
    Field {
        /// The Hardware.
        name: String,
        /// The field.
        field: &'static str,
    },
}

impl Server {
    /// The objects that this machine is in the API.
    #[must_use]
    pub fn objects(&self, rpc: Option<&RpcBmc>) -> Objects {
        let bmc_name = format!("bmc-{}", self.hostname);
        let (machine, secrets) = match (&self.bmc, rpc) {
            (None, _) => (None, Vec::new()),
            (Some(bmc), Some(rpc)) => {
                let secrets = hmac_secrets(&bmc_name, rpc);
                (Some(machine(&bmc_name, bmc, Some(rpc_options(rpc, &secrets)))), secrets)
            }
            (Some(bmc), None) => (
                Some(machine(&bmc_name, bmc, None)),
                bmc.account.iter().map(|a| account(&bmc_name, a)).collect(),
            ),
        };
        Objects { hardware: self.hardware(machine.as_ref().map(|_| bmc_name)), machine, secrets }
    }

    fn hardware(&self, bmc_name: Option<String>) -> Hardware {
        let mac = self.nic.mac.to_string();
        let address = self.address().map(|address| address.to_string());
        let ip = InstanceIp {
            address,
            family: Some(4),
            gateway: Some(self.gateway.to_string()),
            netmask: self.nic.address.map(|network| network.netmask().to_string()),
            public: Some(true),
            ..InstanceIp::default()
        };
        let instance = Instance {
            id: Some(mac),
            hostname: Some(self.hostname.clone()),
            ips: vec![ip],
            allow_pxe: Some(true),
            always_pxe: Some(true),
            // Templates reach through it.
            operating_system: Some(OperatingSystem::default()),
            ..Instance::default()
        };
        let facility = Facility {
            facility_code: Some(FACILITY.to_owned()),
            plan_slug: Some(PLAN.to_owned()),
            ..Facility::default()
        };
        Hardware {
            metadata: meta(&self.hostname, self.labels.clone()),
            spec: HardwareSpec {
                bmc_ref: bmc_name.map(|name| BmcRef { api_group: None, kind: "Machine".to_owned(), name }),
                disks: vec![Disk { device: Some(self.disk.clone()) }],
                interfaces: self.interfaces(),
                metadata: Some(Metadata {
                    facility: Some(facility),
                    instance: Some(instance),
                    ..Metadata::default()
                }),
                ..HardwareSpec::default()
            },
            status: None,
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        let first = Interface {
            netboot: Some(Netboot {
                allow_pxe: Some(true),
                allow_workflow: Some(true),
                ..Netboot::default()
            }),
            dhcp: Some(Dhcp {
                ip: self.nic.address.map(|network| ip(network, Some(self.gateway))),
                name_servers: self.name_servers.iter().map(ToString::to_string).collect(),
                vlan_id: self.vlan.map(|vlan| vlan.to_string()),
                ..self.dhcp(&self.nic)
            }),
            ..Interface::default()
        };
        let others = self.extra_nics.iter().map(|nic| Interface {
            netboot: Some(Netboot { allow_pxe: Some(false), ..Netboot::default() }),
            disable_dhcp: nic.address.is_none().then_some(true),
            dhcp: Some(Dhcp { ip: nic.address.map(|network| ip(network, None)), ..self.dhcp(nic) }),
            ..Interface::default()
        });
        std::iter::once(first).chain(others).collect()
    }

    fn dhcp(&self, nic: &Nic) -> Dhcp {
        Dhcp {
            arch: Some(self.arch.as_str().to_owned()),
            hostname: Some(self.hostname.clone()),
            lease_time: Some(LEASE_SECONDS),
            mac: Some(nic.mac.to_string()),
            uefi: Some(self.boot_mode == BootMode::Uefi),
            ..Dhcp::default()
        }
    }

    /// The machine that these objects are. Labels that say who holds it are no part of it.
    ///
    /// # Errors
    ///
    /// [`NotAServer`] with the first field that a cluster needs and that is not there.
    pub fn from_objects(
        hardware: &Hardware,
        machine: Option<&Machine>,
        secret: Option<&Secret>,
    ) -> Result<Self, NotAServer> {
        let name = hardware.metadata.name.clone().unwrap_or_default();
        let missing = |field| NotAServer::Field { name: name.clone(), field };
        let (first, others) =
            hardware.spec.interfaces.split_first().ok_or_else(|| missing("spec.interfaces"))?;
        let dhcp = first.dhcp.as_ref().ok_or_else(|| missing("spec.interfaces[0].dhcp"))?;
        let nic = nic(first).ok_or_else(|| missing("spec.interfaces[0].dhcp.mac"))?;
        nic.address.ok_or_else(|| missing("spec.interfaces[0].dhcp.ip"))?;
        let gateway = dhcp.ip.as_ref().and_then(|ip| ip.gateway.as_deref()?.parse().ok());
        let disk = hardware.spec.disks.first().and_then(|disk| disk.device.clone());
        let mut labels = hardware.metadata.labels.clone().unwrap_or_default();
        labels.retain(|key, _| {
            ![LABEL_CLUSTER, LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE].contains(&key.as_str())
        });
        let arch = match dhcp.arch.as_deref() {
            Some("aarch64" | "arm64") => Arch::Aarch64,
            _ => Arch::X86_64,
        };
        Ok(Self {
            nic,
            gateway: gateway.ok_or_else(|| missing("spec.interfaces[0].dhcp.ip.gateway"))?,
            name_servers: dhcp.name_servers.iter().filter_map(|server| server.parse().ok()).collect(),
            vlan: dhcp.vlan_id.as_deref().and_then(|vlan| vlan.parse().ok()),
            extra_nics: others.iter().filter_map(self::nic).collect(),
            labels,
            disk: disk.ok_or_else(|| missing("spec.disks[0].device"))?,
            arch,
            boot_mode: if hardware.is_uefi() { BootMode::Uefi } else { BootMode::Bios },
            bmc: machine.and_then(|machine| access(machine, secret)),
            hostname: name,
        })
    }
}

fn meta(name: &str, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: (!labels.is_empty()).then_some(labels),
        ..ObjectMeta::default()
    }
}

fn ip(network: Ipv4Net, gateway: Option<Ipv4Addr>) -> Ip {
    Ip {
        address: Some(network.addr().to_string()),
        family: Some(4),
        gateway: gateway.map(|gateway| gateway.to_string()),
        netmask: Some(network.netmask().to_string()),
    }
}

fn nic(interface: &Interface) -> Option<Nic> {
    let ip = interface.dhcp.as_ref().and_then(|dhcp| dhcp.ip.as_ref());
    let address = ip.and_then(|ip| {
        let mask = ip.netmask.as_deref()?.parse().ok()?;
        Ipv4Net::with_netmask(ip.address.as_deref()?.parse().ok()?, mask).ok()
    });
    Some(Nic { mac: interface.mac()?, address })
}

fn machine(name: &str, bmc: &BmcAccess, rpc: Option<RpcOptions>) -> Machine {
    let port = bmc.port.map(i64::from);
    let redfish = RedfishOptions { port, ..RedfishOptions::default() };
    let ipmi = IpmiOptions { port, ..IpmiOptions::default() };
    let options = ProviderOptions {
        preferred_order: PROTOCOLS.map(|name| ProviderName(name.to_owned())).to_vec(),
        redfish: (bmc.driver == Some(BmcDriver::Redfish)).then_some(redfish),
        ipmitool: (bmc.driver == Some(BmcDriver::Ipmi)).then_some(ipmi),
        rpc,
        ..ProviderOptions::default()
    };
    let secret = SecretReference { name: Some(secret_name(name)), namespace: Some(NAMESPACE.to_owned()) };
    Machine {
        metadata: meta(name, BTreeMap::new()),
        spec: MachineSpec {
            connection: Connection {
                auth_secret_ref: bmc.account.as_ref().map(|_| secret),
                host: bmc.address.to_string(),
                insecure_tls: true,
                port: Some(0),
                provider_options: Some(options),
            },
        },
        status: None,
    }
}

fn secret_name(bmc_name: &str) -> String {
    format!("{bmc_name}-auth")
}

/// A Secret that goes along when its cluster moves.
fn secret(name: &str, type_: &str, data: impl IntoIterator<Item = (String, String)>) -> Secret {
    let data = data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes())));
    Secret {
        metadata: meta(name, BTreeMap::from([(LABEL_MOVE.to_owned(), "true".to_owned())])),
        data: Some(data.collect()),
        type_: Some(type_.to_owned()),
        ..Secret::default()
    }
}

fn account(bmc_name: &str, account: &BmcAccount) -> Secret {
    let data = [
        ("username".to_owned(), account.username.clone()),
        ("password".to_owned(), account.password.expose().clone()),
    ];
    secret(&secret_name(bmc_name), "kubernetes.io/basic-auth", data)
}

fn hmac_secrets(bmc_name: &str, rpc: &RpcBmc) -> Vec<Secret> {
    let one = |(number, key): (usize, &Hidden<String>)| {
        let name = format!("{}-{number}", secret_name(bmc_name));
        secret(&name, "Opaque", [("secret".to_owned(), key.expose().clone())])
    };
    rpc.hmac_secrets.iter().enumerate().map(one).collect()
}

fn rpc_options(rpc: &RpcBmc, secrets: &[Secret]) -> RpcOptions {
    let references: Vec<_> = secrets
        .iter()
        .map(|one| SecretReference { name: one.metadata.name.clone(), namespace: Some(NAMESPACE.to_owned()) })
        .collect();
    let mut options = rpc.options.clone();
    if !references.is_empty() {
        let hmac = options.hmac.get_or_insert_with(RpcHmac::default);
        hmac.secrets =
            HMAC_ALGORITHMS.map(|name| (name.to_owned(), references.clone())).into_iter().collect();
    }
    options
}

fn access(machine: &Machine, secret: Option<&Secret>) -> Option<BmcAccess> {
    let connection = &machine.spec.connection;
    let options = connection.provider_options.clone().unwrap_or_default();
    let (driver, port) = match (&options.redfish, &options.ipmitool) {
        (Some(redfish), None) => (Some(BmcDriver::Redfish), redfish.port),
        (None, Some(ipmi)) => (Some(BmcDriver::Ipmi), ipmi.port),
        _ => (None, None),
    };
    let text = |key: &str| {
        let bytes = &secret?.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok()
    };
    let account = text("username").zip(text("password"));
    Some(BmcAccess {
        address: connection.host.parse().ok()?,
        account: account.map(|(username, password)| BmcAccount { username, password: Hidden::new(password) }),
        driver,
        port: port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
    })
}
