// SPDX-License-Identifier: Apache-2.0
//! Servers without a processor: a BMC of the lab over a chassis in memory, and the real agent in this process, which begins
//! when the chassis was started from the network. The disk is a file.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::bmc::{self, Account, Behaviour, BmcHandle, Kind};
use lab::chassis::{BootTarget, Identity, SimulatedChassis};
use lab::netns::Namespace;
use lab::rack::PROVISIONER_INTERFACE;
use tink::demo::{BmcProtocol, NAMESPACE, Server};
use tokio_util::sync::CancellationToken;

/// The other end of the provisioner's cable.
pub const RACK_INTERFACE: &str = "rack0";
/// The interface that a neighbour has.
pub const NEIGHBOUR_INTERFACE: &str = "other0";
/// The provisioner's address.
pub const PROVISIONER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);

const USER: &str = "admin";
/// How often the agent looks whether its server was started.
const POLL: Duration = Duration::from_millis(50);
/// Longest wait of the agent between questions.
const BACKOFF: Duration = Duration::from_secs(1);

/// A server that is mounted. Its BMC and its agent end when it is dropped.
#[derive(Debug)]
pub struct Simulated {
    /// As its owner describes it.
    pub server: Server,
    /// Its power and boot override.
    pub chassis: SimulatedChassis,
    /// Nothing while it is switched off.
    bmc: Option<BmcHandle>,
    agent: CancellationToken,
    config: tink_worker::config::Config,
}

impl Simulated {
    /// From now on its firmware starts something else: no agent of it will ever ask.
    pub fn starts_something_else(&self) {
        self.agent.cancel();
    }

    /// From its next start on its firmware starts from the network again.
    pub fn starts_from_the_network(&mut self) {
        self.agent = CancellationToken::new();
        tokio::spawn(boot(self.chassis.clone(), self.config.clone(), self.agent.clone()));
    }

    /// Switches Redfish or IPMI over LAN off: nobody has the port any more.
    pub async fn bmc_off(&mut self) {
        if let Some(bmc) = self.bmc.take() {
            bmc.stop().await;
        }
    }

    /// Switches it on again.
    ///
    /// # Errors
    /// When its port cannot be bound.
    pub async fn bmc_on(&mut self) -> Result<()> {
        self.bmc = Some(start_bmc(&self.server, &self.chassis).await?);
        Ok(())
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.agent.cancel();
    }
}

/// The cable between provisioner and rack.
///
/// # Errors
/// When `ip` fails.
pub fn plug(_namespace: &Namespace) -> Result<()> {
    connect()
}

/// The same on a thread that is alone in its network namespace.
///
/// # Errors
/// When `ip` fails.
pub fn connect() -> Result<()> {
    let name = PROVISIONER_INTERFACE;
    ip(&["link", "add", name, "type", "veth", "peer", "name", RACK_INTERFACE])?;
    ip(&["address", "add", &format!("{PROVISIONER}/24"), "dev", name])?;
    ip(&["link", "set", name, "up"])?;
    ip(&["link", "set", RACK_INTERFACE, "up"])
}

/// Another host of the rack's network with this address, in a network namespace of its own, until it is dropped.
///
/// # Errors
/// When it cannot be plugged in.
pub fn neighbour(address: Ipv4Addr) -> Result<Neighbour> {
    let process = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
        .spawn()?;
    let host = Neighbour(vec![process]);
    let number = host.number();
    // Until it has its namespace, the interface would come back to ours.
    while fs::read_link(format!("/proc/{number}/ns/net"))? == fs::read_link("/proc/self/ns/net")? {
        std::thread::sleep(Duration::from_millis(1));
    }
    let name = NEIGHBOUR_INTERFACE;
    ip(&["link", "add", name, "link", RACK_INTERFACE, "type", "macvlan", "mode", "bridge"])?;
    ip(&["link", "set", name, "netns", &number])?;
    for words in [
        &["address", "add", &format!("{address}/24"), "dev", name][..],
        &["link", "set", name, "up"],
        &["link", "set", "lo", "up"],
    ] {
        let mut inside = Command::new("nsenter");
        inside.args(host.entry()).arg("ip").args(words);
        ensure!(inside.status()?.success(), "ip {} failed", words.join(" "));
    }
    Ok(host)
}

/// A host that [`neighbour`] made: the process that has its namespace, and what else runs there.
#[derive(Debug)]
pub struct Neighbour(Vec<Child>);

impl Neighbour {
    fn number(&self) -> String {
        self.0.first().map(Child::id).unwrap_or_default().to_string()
    }

    /// Arguments of `nsenter` for a program that is to run there.
    pub fn entry(&self) -> [String; 3] {
        ["--target".to_owned(), self.number(), "--net".to_owned()]
    }

    /// Makes it a DHCP server.
    ///
    /// # Errors
    /// When dnsmasq cannot be started.
    pub fn serve_dhcp(&mut self, first: Ipv4Addr, last: Ipv4Addr) -> Result<()> {
        let mut server = Command::new("setpriv");
        server.args(["--pdeathsig", "KILL", "nsenter"]).args(self.entry()).arg("dnsmasq");
        server.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0"]);
        server.arg(format!("--interface={NEIGHBOUR_INTERFACE}"));
        server.args(["--dhcp-leasefile=/dev/null", &format!("--dhcp-range={first},{last},1h")]);
        self.0.push(server.stderr(Stdio::null()).spawn()?);
        Ok(())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // One that has ended is gone already.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Runs `ip` of iproute2 inside the namespace.
///
/// # Errors
/// With what it said.
pub fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {}: {said}", arguments.join(" "));
    Ok(())
}

/// Mounts a server: number 1 to 99 of the rack, its BMC with `password`, its disk a file of `disk_bytes` in `dir`. Even
/// numbers speak Redfish, odd ones IPMI.
///
/// # Errors
/// When its BMC or its disk cannot be made.
pub async fn mount(dir: &Path, name: &str, number: u8, password: &str, disk_bytes: u64) -> Result<Simulated> {
    mount_for(PROVISIONER, dir, (name, number), password, disk_bytes).await
}

/// The same for a provisioner with another address.
///
/// # Errors
/// As [`mount`].
pub async fn mount_for(
    provisioner: Ipv4Addr,
    dir: &Path,
    (name, number): (&str, u8),
    password: &str,
    disk_bytes: u64,
) -> Result<Simulated> {
    let mac = format!("52:54:00:00:01:{number:02x}");
    let protocol = if number.is_multiple_of(2) { BmcProtocol::Redfish } else { BmcProtocol::Ipmi };
    let address = Ipv4Addr::new(172, 31, 0, 100 + number);
    ip(&["address", "add", &format!("{address}/24"), "dev", PROVISIONER_INTERFACE])?;
    let identity = Identity {
        name: name.to_owned(),
        uuid: format!("00000000-0000-0000-0000-0000000000{number:02x}"),
        mac: mac.clone(),
        manufacturer: "Lab".to_owned(),
        model: "Simulated".to_owned(),
        serial: name.to_owned(),
    };
    let chassis = SimulatedChassis::new(identity, Duration::from_millis(100));
    let disk = dir.join(format!("{name}.disk"));
    fs::File::create(&disk)?.set_len(disk_bytes)?;
    let server = Server {
        name: name.to_owned(),
        mac: mac.clone(),
        address: Ipv4Addr::new(172, 31, 0, number + 10),
        netmask: Ipv4Addr::new(255, 255, 255, 0),
        provisioner,
        uefi: true,
        disk: disk.display().to_string(),
        bmc: address,
        protocol,
        user: USER.to_owned(),
        password: password.to_owned(),
        ssh_key: "ssh-ed25519 AAAA test".to_owned(),
    };
    let bmc = Some(start_bmc(&server, &chassis).await?);
    let agent = CancellationToken::new();
    let mut config = tink_worker::config::Config::new(
        mac,
        format!("{provisioner}:42113"),
        dir.join(format!("{name}.agent")),
    );
    config.longest_backoff = BACKOFF;
    tokio::spawn(boot(chassis.clone(), config.clone(), agent.clone()));
    Ok(Simulated { server, chassis, bmc, agent, config })
}

async fn start_bmc(server: &Server, chassis: &SimulatedChassis) -> Result<BmcHandle> {
    let (kind, port) = match server.protocol {
        BmcProtocol::Redfish => (Kind::Redfish, 443),
        BmcProtocol::Ipmi => (Kind::Ipmi, 623),
    };
    let account = Account::administrator(&server.user, &server.password)?;
    let at = SocketAddr::new(IpAddr::V4(server.bmc), port);
    Ok(bmc::start(kind, at, account, Arc::new(chassis.clone()), Behaviour::default()).await?)
}

/// Runs the agent once the server is started from the network, which it may have been before.
async fn boot(chassis: SimulatedChassis, config: tink_worker::config::Config, stop: CancellationToken) {
    let before = chassis.starts().len();
    while chassis.starts().get(before..).and_then(<[_]>::last) != Some(&BootTarget::Pxe) {
        if stop.is_cancelled() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    let id = config.agent_id.clone();
    if let Err(error) = tink_worker::run(config, stop).await {
        println!("the agent {id} did not start: {error}");
    }
}

/// A Template with one action that writes the image at `key`, which may take so many seconds.
pub fn template(name: &str, key: &str, seconds: u32) -> String {
    format!(
        "apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  data: |
    version: \"0.1\"
    name: {name}
    global_timeout: {seconds}
    tasks:
      - name: os
        worker: \"{{{{ (index .Hardware.Interfaces 0).DHCP.MAC }}}}\"
        actions:
          - name: image2disk
            image: 127.0.0.1/embedded/image2disk:latest
            timeout: {seconds}
            environment:
              DEST_DISK: {{{{ index .Hardware.Disks 0 }}}}
              IMG_URL: {{{{ {key} }}}}
"
    )
}
