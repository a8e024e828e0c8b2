// SPDX-License-Identifier: Apache-2.0
//! All that an answer takes but sockets, disk and Events: which of our addresses the client knows, which boot its message
//! belongs to, and the decision.
//!
//! Owned by the listener; [`exchanges`](super::exchanges) drives it without one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use api::Mac;
use dhcp::{Arch, Message, MessageType, UserClass, netboot_client};
use ipnet::Ipv4Net;

use super::decide::{Answer, Asked, Port, Server, Silence, decide};
use super::local::server_address;
use super::pool::Leases;
use crate::backend::Index;
use crate::config::{DhcpConfig, Urls};
use crate::machine::Nic;
use crate::session::{BootSession, Exchange};

/// What decides, with the leases that it remembers.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: DhcpConfig,
    pub(crate) urls: Urls,
    pub(crate) programs: BTreeMap<Arch, String>,
    pub(crate) leases: Leases,
}

/// A message of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came<'a> {
    pub(crate) request: &'a Message,
    pub(crate) kind: MessageType,
    pub(crate) mac: Mac,
    pub(crate) port: Port,
    /// The interface of the client, if exactly one Hardware has it.
    pub(crate) nic: Option<&'a Nic>,
    /// Our own addresses on the interface that it came in on.
    pub(crate) addresses: &'a [Ipv4Net],
}

impl Engine {
    /// The answer and the address that the client knows us by. `session` finds the boot that a network-boot client's message
    /// belongs to; `now` is in unix seconds.
    pub(crate) fn decide(
        &mut self,
        came: Came<'_>,
        index: &Index,
        session: impl FnOnce(Mac, Exchange, UserClass) -> BootSession,
        now: u64,
    ) -> Result<(Answer, Ipv4Addr), Silence> {
        let Came { request, kind, mac, port, nic, addresses } = came;
        let held = Some(request.ciaddr).filter(|ip| !ip.is_unspecified());
        let link = addresses.iter().map(Ipv4Net::addr).find(|address| self.leases.pool(*address).is_some());
        let client = nic.and_then(|nic| nic.lease.address).or(held).or(link);
        let relayed = !request.giaddr.is_unspecified();
        let address = server_address(self.config.server, addresses, client, relayed);
        // Only network-boot clients of machines that DHCP may answer have a boot to number.
        let booting = nic.filter(|nic| nic.dhcp && self.config.netboot);
        let session = booting.and_then(|nic| {
            let client = netboot_client(request).ok()?;
            let message = if kind == MessageType::Discover { Exchange::Begins } else { Exchange::GoesOn };
            Some(session(nic.mac, message, client.user_class))
        });
        let link = link.unwrap_or(address);
        let server = Server { dhcp: &self.config, urls: &self.urls, programs: &self.programs, address, link };
        let asked = Asked { request, mac, port, nic, session: session.as_ref() };
        let reserved = |address| index.is_reserved(address);
        decide(asked, server, &mut self.leases, reserved, now).map(|answer| (answer, address))
    }
}
