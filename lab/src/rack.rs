// SPDX-License-Identifier: Apache-2.0
//! The rack: servers, their BMCs, the switch they hang on, and the cable to whoever provisions them.
//!
//! It lives in a network namespace ([`crate::netns`]) and takes everything with it when it is dropped; [`Rack::stop`] does the
//! same and waits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::bmc::{self, Account, Behaviour, BmcHandle};
use crate::chassis::{Chassis as _, ChassisError, PowerAction, PowerState};
use crate::machine::{Firmware, Machine, MachineSpec, Places};
use crate::netns::{Namespace, NetnsError, ip};
use crate::switch::fabric::{Cable, Fabric};
use crate::switch::pcap::Capture;
use crate::tap;

/// The interface of whoever provisions the rack.
pub const PROVISIONER_INTERFACE: &str = "prov0";

/// Servers in one rack; each is a process and two sockets.
const MAX_SERVERS: usize = 64;

/// The account that the BMCs of the demo's rack have.
pub const DEMO_USER: &str = "admin";
/// Its password. It protects nothing: these BMCs are reachable from inside the lab's own namespace only.
pub const DEMO_PASSWORD: &str = "lab-password";

/// A BMC as the rack's owner describes it.
#[derive(Clone)]
pub struct BmcSpec {
    /// What it speaks.
    pub kind: bmc::Kind,
    /// Where; the address is added to the namespace.
    pub address: SocketAddr,
    /// Its account.
    pub account: Account,
    /// How it behaves.
    pub behaviour: Behaviour,
}

/// A server with its BMC.
#[derive(Clone)]
pub struct ServerSpec {
    /// The server.
    pub machine: MachineSpec,
    /// Its BMC.
    pub bmc: BmcSpec,
}

/// A whole rack.
#[derive(Clone)]
pub struct RackSpec {
    /// Address of the provisioner's interface.
    pub provisioner: Ipv4Addr,
    /// Length of the prefix of the rack's network.
    pub prefix: u8,
    /// The servers, in the order of the switch's ports.
    pub servers: Vec<ServerSpec>,
    /// Where the frames are captured, if they are.
    pub capture: Option<Capture>,
}

/// Why there is no rack. None of them is retried.
#[derive(Debug, thiserror::Error)]
pub enum RackError {
    /// The namespace could not be furnished.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// The tap interface could not be made.
    #[error("cannot make the tap interface {PROVISIONER_INTERFACE}")]
    Tap(#[source] std::io::Error),
    /// The switch did not start.
    #[error("cannot start the switch")]
    Switch(#[source] std::io::Error),
    /// The files or sockets of a machine could not be made.
    #[error("cannot make the files of {machine}")]
    Files {
        /// The machine, or the directory.
        machine: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// A BMC did not start.
    #[error("cannot start the BMC of {machine} on {address}")]
    Bmc {
        /// The machine.
        machine: String,
        /// Where it should listen.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// Two servers have one name, or there are too many.
    #[error("{0}")]
    Spec(String),
}

impl RackSpec {
    /// The rack of demo and tests: `m1` (BIOS, IPMI) and `m2` (UEFI, Redfish) in 172.31.0.0/24, provisioner at .1.
    ///
    /// # Errors
    /// When a part of it does not fit together, which no caller can help.
    pub fn demo() -> Result<Self, RackError> {
        let server = |number: u8, firmware, kind, port| -> Result<ServerSpec, RackError> {
            let spec = |error: &dyn std::error::Error| RackError::Spec(error.to_string());
            let mac = api::Mac::from([0x52, 0x54, 0, 0, 0, 0x10 + number]);
            let address = SocketAddr::new(IpAddr::from([172, 31, 0, 100 + number]), port);
            let account = Account::administrator(DEMO_USER, DEMO_PASSWORD).map_err(|error| spec(&error))?;
            let machine =
                MachineSpec::new(&format!("m{number}"), mac, firmware).map_err(|error| spec(&error))?;
            Ok(ServerSpec {
                machine,
                bmc: BmcSpec { kind, address, account, behaviour: Behaviour::default() },
            })
        };
        Ok(Self {
            provisioner: Ipv4Addr::new(172, 31, 0, 1),
            prefix: 24,
            servers: vec![
                server(1, Firmware::Bios, bmc::Kind::Ipmi, 623)?,
                server(2, Firmware::Uefi, bmc::Kind::Redfish, 443)?,
            ],
            capture: None,
        })
    }

    fn check(&self) -> Result<(), RackError> {
        let mut names: Vec<&str> = self.servers.iter().map(|server| server.machine.name()).collect();
        names.sort_unstable();
        if names.len() > MAX_SERVERS {
            return Err(RackError::Spec(format!("at most {MAX_SERVERS} servers fit into a rack")));
        }
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(RackError::Spec(format!("two servers are called {}", pair.concat()))),
            None => Ok(()),
        }
    }
}

/// A server that is mounted.
#[derive(Debug)]
pub struct Server {
    machine: Machine,
    bmc: BmcHandle,
    task: JoinHandle<()>,
}

impl Server {
    /// The machine: power, boot override, logs.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The BMC: where it listens, its certificate.
    pub fn bmc(&self) -> &BmcHandle {
        &self.bmc
    }
}

/// A running rack. Dropping it cuts the power and takes it down.
#[derive(Debug)]
pub struct Rack {
    servers: Vec<Server>,
    fabric: Fabric,
    _sockets: tempfile::TempDir,
}

impl Rack {
    /// Builds the rack: interface and addresses, switch, machines (switched off), BMCs. Files that stay go to `dir`, where a
    /// rack of the same names finds its disks again.
    ///
    /// # Errors
    /// See [`RackError`].
    pub async fn start(namespace: &Namespace, spec: RackSpec, dir: &Path) -> Result<Self, RackError> {
        spec.check()?;
        let files = |machine: &str| {
            let machine = machine.to_owned();
            move |source| RackError::Files { machine, source }
        };
        std::fs::create_dir_all(dir).map_err(files(&dir.display().to_string()))?;
        let sockets = tempfile::Builder::new().prefix("lab-").tempdir().map_err(files("the sockets"))?;

        let mut cables = vec![Cable::Tap(provisioner(namespace, &spec)?)];
        let mut machines = Vec::new();
        for server in spec.servers {
            let places = Places::new(server.machine.name(), dir, sockets.path());
            cables.push(Cable::Datagram {
                ours: places.switch_socket.clone(),
                theirs: places.machine_socket.clone(),
            });
            let name = server.machine.name().to_owned();
            let (machine, task) = Machine::new(server.machine, places).map_err(files(&name))?;
            machines.push((name, machine, task, server.bmc));
        }
        let fabric = Fabric::start(cables, spec.capture.as_ref()).map_err(RackError::Switch)?;
        let mut servers = Vec::new();
        for (name, machine, task, bmc) in machines {
            let address = bmc.address;
            let handle = bmc::start(bmc.kind, address, bmc.account, Arc::new(machine.clone()), bmc.behaviour)
                .await
                .map_err(|source| RackError::Bmc { machine: name, address, source })?;
            servers.push(Server { machine, bmc: handle, task });
        }
        Ok(Self { servers, fabric, _sockets: sockets })
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.machine.identity().name == name)
    }

    /// The machine of that name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.server(name).map(Server::machine)
    }

    /// All servers, in the order of the specification.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Cuts the power of a machine and switches it on again, past its BMC, also when it was off.
    ///
    /// # Errors
    /// When there is no such machine, or it does not start.
    pub async fn power_cycle(&self, name: &str) -> Result<(), ChassisError> {
        let machine =
            self.machine(name).ok_or_else(|| ChassisError::Failed(format!("there is no machine {name}")))?;
        let action = match machine.power() {
            PowerState::On => PowerAction::Cycle,
            PowerState::Off => PowerAction::On,
        };
        machine.set_power(action).await
    }

    /// Cuts the power, stops BMCs and switch, and waits until nothing is left.
    pub async fn stop(self) {
        for server in self.servers {
            server.bmc.stop().await;
            server.machine.stop().await;
            if let Err(error) = server.task.await {
                tracing::error!(error = %error, "the task of a machine failed");
            }
        }
        drop(self.fabric);
    }
}

/// The provisioner's interface with its own address and those of the BMCs.
fn provisioner(namespace: &Namespace, spec: &RackSpec) -> Result<std::fs::File, RackError> {
    let tap = tap::create(namespace, PROVISIONER_INTERFACE).map_err(RackError::Tap)?;
    let bmcs = spec.servers.iter().map(|server| server.bmc.address.ip());
    for address in std::iter::once(IpAddr::V4(spec.provisioner)).chain(bmcs) {
        ip(&["address", "add", &format!("{address}/{}", spec.prefix), "dev", PROVISIONER_INTERFACE])?;
    }
    ip(&["link", "set", PROVISIONER_INTERFACE, "up"])?;
    Ok(tap)
}
