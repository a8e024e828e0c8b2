// SPDX-License-Identifier: Apache-2.0
//! The rack: servers, their BMCs, the switch they hang on, and the cable to whoever provisions them.
//!
//! It lives in a network namespace ([`crate::netns`]) and takes everything with it when it is dropped; [`Rack::stop`] does the
//! same and waits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::bmc::{self, Account, Behaviour, BmcHandle};
use crate::chassis::{Chassis as _, ChassisError, PowerAction, PowerState};
use crate::machine::{Firmware, Machine, MachineSpec, Places};
use crate::neighbour::{Neighbour, NeighbourSpec};
use crate::netns::{Namespace, NetnsError, ip};
use crate::router::{self, Router};
use crate::switch::Vlans;
use crate::switch::fabric::{Cable, Fabric, Link};
use crate::switch::faults::Faults;
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
    /// What goes wrong on the cables of the servers.
    pub faults: Faults,
    /// Another host on the rack's network, or the router to it.
    pub neighbour: Option<NeighbourSpec>,
    /// A VLAN with tags on the cables of the servers, beside the one without. The provisioner is in both: its interface is a
    /// bridge of two, each of which hangs on a port of one VLAN.
    pub vlan: Option<u16>,
    /// IPv6 on the rack's network.
    pub ipv6: Option<Ipv6Spec>,
}

/// IPv6 on a rack's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Spec {
    /// What its router advertises.
    pub router: Router,
    /// Address of the provisioner's interface, in the router's prefix.
    pub provisioner: Ipv6Addr,
}

/// Why there is no rack. None of them is retried.
#[derive(Debug, thiserror::Error)]
pub enum RackError {
    /// The namespace could not be furnished.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// A tap interface could not be made.
    #[error("cannot make a tap interface")]
    Tap(#[source] std::io::Error),
    /// The neighbour could not be furnished.
    #[error("cannot furnish the neighbour")]
    Neighbour(#[source] std::io::Error),
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
            faults: Faults::default(),
            neighbour: None,
            vlan: None,
            ipv6: None,
        })
    }

    fn check(&self) -> Result<(), RackError> {
        let mut names: Vec<&str> = self.servers.iter().map(|server| server.machine.name()).collect();
        names.sort_unstable();
        if names.len() > MAX_SERVERS {
            return Err(RackError::Spec(format!("at most {MAX_SERVERS} servers fit into a rack")));
        }
        let routed = self.neighbour.is_some_and(|neighbour| neighbour.uplink.is_some());
        if routed && (self.vlan.is_some() || self.ipv6.is_some()) {
            return Err(RackError::Spec("a provisioner behind a router has no VLAN and no IPv6".to_owned()));
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
    neighbour: Option<Neighbour>,
    router: Option<AbortOnDropHandle<()>>,
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

        let (neighbour, mut links) = surroundings(namespace, &spec).await?;
        let router = match spec.ipv6 {
            Some(ipv6) => {
                let place = |name: &str| sockets.path().join(name);
                links.push(
                    Cable::Datagram { ours: place("router.switch"), theirs: place("router.net") }.into(),
                );
                let place = (place("router.net"), place("router.switch"));
                let task = router::start(ipv6.router, place).map_err(files("the router"))?;
                Some(AbortOnDropHandle::new(task))
            }
            None => None,
        };
        let vlans = Vlans { tagged: spec.vlan, ..Vlans::default() };
        let mut machines = Vec::new();
        for server in spec.servers {
            let places = Places::new(server.machine.name(), dir, sockets.path());
            let ours = places.switch_socket.clone();
            let cable = Cable::Datagram { ours, theirs: places.machine_socket.clone() };
            links.push(Link { cable, faults: spec.faults, vlans });
            let name = server.machine.name().to_owned();
            let (machine, task) = Machine::new(server.machine, places).map_err(files(&name))?;
            machines.push((name, machine, task, server.bmc));
        }
        let fabric = Fabric::start(links, spec.capture.as_ref()).map_err(RackError::Switch)?;
        let mut servers = Vec::new();
        for (name, machine, task, bmc) in machines {
            let address = bmc.address;
            let handle = bmc::start(bmc.kind, address, bmc.account, Arc::new(machine.clone()), bmc.behaviour)
                .await
                .map_err(|source| RackError::Bmc { machine: name, address, source })?;
            servers.push(Server { machine, bmc: handle, task });
        }
        Ok(Self { servers, fabric, neighbour, router, _sockets: sockets })
    }

    /// The other host on its network.
    pub fn neighbour(&self) -> Option<&Neighbour> {
        self.neighbour.as_ref()
    }

    /// Frames that its switch and cables have lost.
    pub fn lost_frames(&self) -> u64 {
        self.fabric.lost()
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
        drop((self.router, self.fabric, self.neighbour));
    }
}

/// Everything of the rack's network but the servers: the neighbour, and the provisioner's interface.
async fn surroundings(
    namespace: &Namespace,
    spec: &RackSpec,
) -> Result<(Option<Neighbour>, Vec<Link>), RackError> {
    let mut links = Vec::new();
    let neighbour = match spec.neighbour {
        Some(neighbour) => {
            let (running, tap) = Neighbour::start(namespace, neighbour, spec.prefix).await?;
            links.push(Cable::Tap(tap).into());
            Some((running, neighbour.uplink, neighbour.address))
        }
        None => None,
    };
    let router =
        neighbour.as_ref().and_then(|(running, uplink, address)| Some((running, (*uplink)?, *address)));
    match router {
        Some((router, uplink, address)) => {
            router.route(uplink, spec.prefix)?;
            provision(spec, 32)?;
            ip(&["route", "add", &network(address, spec.prefix), "via", &uplink.to_string()])?;
        }
        None => {
            links.extend(provisioner_cables(namespace, spec.vlan)?);
            provision(spec, spec.prefix)?;
        }
    }
    Ok((neighbour.map(|(running, ..)| running), links))
}

/// The cables of an interface of the provisioner that hangs on the switch.
fn provisioner_cables(namespace: &Namespace, vlan: Option<u16>) -> Result<Vec<Link>, RackError> {
    let tap = |name: &str| tap::create(namespace, name).map(Cable::Tap).map_err(RackError::Tap);
    let Some(vlan) = vlan else { return Ok(vec![tap(PROVISIONER_INTERFACE)?.into()]) };
    ip(&["link", "add", "name", PROVISIONER_INTERFACE, "type", "bridge"])?;
    let mut links = Vec::new();
    for (name, untagged) in [("untagged0", Vlans::default().untagged), ("tagged0", vlan)] {
        links.push(Link { vlans: Vlans { untagged, tagged: None }, ..tap(name)?.into() });
        ip(&["link", "set", name, "master", PROVISIONER_INTERFACE, "up"])?;
    }
    Ok(links)
}

/// Gives the provisioner's interface its own addresses and those of the BMCs, which have a prefix of this length.
fn provision(spec: &RackSpec, bmc_prefix: u8) -> Result<(), RackError> {
    let own = format!("{}/{}", spec.provisioner, spec.prefix);
    let bmcs = spec.servers.iter().map(|server| format!("{}/{bmc_prefix}", server.bmc.address.ip()));
    for address in std::iter::once(own).chain(bmcs) {
        ip(&["address", "add", &address, "dev", PROVISIONER_INTERFACE])?;
    }
    if let Some(ipv6) = spec.ipv6 {
        // Nobody else can have it, and daemons bind to it at once.
        let address = format!("{}/64", ipv6.provisioner);
        ip(&["address", "add", &address, "dev", PROVISIONER_INTERFACE, "nodad"])?;
    }
    ip(&["link", "set", PROVISIONER_INTERFACE, "up"])?;
    Ok(())
}

/// The network of an address.
fn network(address: Ipv4Addr, prefix: u8) -> String {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    format!("{}/{prefix}", Ipv4Addr::from_bits(address.to_bits() & mask))
}
