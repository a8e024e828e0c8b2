// SPDX-License-Identifier: Apache-2.0
//! Another host on the rack's network, in a network namespace of its own: a DHCP server that is not ours, or the router behind
//! which the provisioner is.
//!
//! The rack starts it and hands it out; what runs on it is the caller's, through [`Neighbour::arguments`]. It must never be
//! reached but over the rack's switch and, if it is the router, over the cable to the provisioner.

use std::fs::{File, read_link};
use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::netns::{Namespace, OWN, ip};
use crate::process::Process;
use crate::rack::{PROVISIONER_INTERFACE, RackError};
use crate::tap;

/// Its interface on the rack's network.
pub const NEIGHBOUR_INTERFACE: &str = "rack0";
/// Its interface towards the provisioner, if it is the router.
const UPLINK: &str = "uplink0";

/// Longest time until its namespace is there.
const START: Duration = Duration::from_secs(10);
/// How often that is looked for: it cannot be waited for.
const POLL: Duration = Duration::from_millis(5);

/// A neighbour as the rack's owner describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourSpec {
    /// Its address on the rack's network.
    pub address: Ipv4Addr,
    /// Its address on the provisioner's network. With one it is the router between the two networks, and the provisioner does
    /// not hang on the rack's switch.
    pub uplink: Option<Ipv4Addr>,
}

/// A running neighbour. It ends when it is dropped, and with us whatever ends us.
#[derive(Debug)]
pub struct Neighbour {
    /// Holds the namespace.
    _holder: Process,
    number: String,
}

impl Neighbour {
    /// Makes the namespace with its interface; gives the switch's end of the cable too. `prefix` is that of the rack's network.
    pub(crate) async fn start(
        own: &Namespace,
        spec: NeighbourSpec,
        prefix: u8,
    ) -> Result<(Self, File), RackError> {
        let neighbour = Self::new().await.map_err(RackError::Neighbour)?;
        let tap = tap::create(own, NEIGHBOUR_INTERFACE).map_err(RackError::Tap)?;
        ip(&["link", "set", NEIGHBOUR_INTERFACE, "netns", &neighbour.number])?;
        neighbour.run(&["ip", "link", "set", "lo", "up"])?;
        neighbour.furnish(NEIGHBOUR_INTERFACE, &format!("{}/{prefix}", spec.address))?;
        Ok((neighbour, tap))
    }

    /// Makes it the router: a cable to the provisioner, whose end is called [`PROVISIONER_INTERFACE`] and has no address yet.
    pub(crate) fn route(&self, uplink: Ipv4Addr, prefix: u8) -> Result<(), RackError> {
        let veth = ["link", "add", "name", PROVISIONER_INTERFACE, "type", "veth", "peer", "name", UPLINK];
        ip(&[&veth[..], &["netns", &self.number]].concat())?;
        self.furnish(UPLINK, &format!("{uplink}/{prefix}"))?;
        self.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    }

    /// What to run a program with so that it runs on this host: `nsenter` with these arguments, then the program.
    pub fn arguments(&self) -> [String; 1] {
        [format!("--net=/proc/{}/ns/net", self.number)]
    }

    async fn new() -> io::Result<Self> {
        let holder = Process::spawn("unshare", |command| {
            command.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
        })?;
        let number = holder.number().ok_or_else(|| io::Error::other("unshare ended"))?.to_string();
        let (own, theirs) = (read_link(OWN)?, format!("/proc/{number}/ns/net"));
        let moved = async {
            while read_link(&theirs)? == own {
                tokio::time::sleep(POLL).await;
            }
            Ok::<(), io::Error>(())
        };
        tokio::time::timeout(START, moved).await.map_err(io::Error::from)??;
        Ok(Self { _holder: holder, number })
    }

    fn furnish(&self, interface: &str, address: &str) -> Result<(), RackError> {
        self.run(&["ip", "address", "add", address, "dev", interface])?;
        self.run(&["ip", "link", "set", interface, "up"])
    }

    fn run(&self, program: &[&str]) -> Result<(), RackError> {
        let mut command = Command::new("nsenter");
        let output = command.args(self.arguments()).args(program).stdin(Stdio::null()).output();
        let output = output.map_err(RackError::Neighbour)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(RackError::Neighbour(io::Error::other(format!("{}: {said}", program.join(" ")))))
    }
}
