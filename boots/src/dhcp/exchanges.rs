// SPDX-License-Identifier: Apache-2.0
//! DHCP as the listener does it, from bytes to bytes, without a socket: for the benchmark that counts the instructions of an
//! exchange.

use std::net::Ipv4Addr;

use api::Mac;
use api::v1alpha1::Hardware;
use dhcp::Message;
use ipnet::Ipv4Net;

use super::decide::Port;
use super::engine::{Came, Engine};
use super::limit::{Class, Limits};
use super::listener::find;
use super::pool::Leases;
use crate::backend::{Found, Index};
use crate::config::Config;
use crate::session::Sessions;

/// A server of DHCPv4 for some machines.
#[derive(Debug)]
pub struct Exchanges {
    engine: Engine,
    index: Index,
    limits: Limits,
    sessions: Sessions,
    addresses: [Ipv4Net; 1],
}

impl Exchanges {
    /// A server with this address and configuration that knows `machines`; nothing where DHCP is off.
    pub fn new(
        config: &Config,
        address: Ipv4Addr,
        machines: impl IntoIterator<Item = Hardware>,
    ) -> Option<Self> {
        let dhcp = config.dhcp.clone()?;
        let mut index = Index::default();
        for machine in machines {
            index.apply_hardware(&machine);
        }
        let limits = Limits::new(dhcp.rate);
        let leases = Leases::new(&dhcp.pools);
        let (urls, programs) = (config.urls.clone(), config.programs.clone());
        let engine = Engine { config: dhcp, urls, programs, leases };
        Some(Self { engine, index, limits, sessions: Sessions::default(), addresses: [address.into()] })
    }

    /// The answer to a message that came at `now`, in unix seconds, to the server's port; nothing where it is silent.
    pub fn answer(&mut self, message: &[u8], now: u64) -> Option<Vec<u8>> {
        let request = Message::parse(message).ok()?;
        let (mac, kind) = (Mac::from(request.mac()?), request.message_type()?);
        let found = find(&self.index, mac, &request).ok();
        let class = if found.is_some() { Class::Known } else { Class::Stranger };
        if !self.limits.allow(class, mac, now) {
            return None;
        }
        let nic = found.as_ref().map(Found::nic);
        let came = Came { request: &request, kind, mac, port: Port::Server, nic, addresses: &self.addresses };
        let sessions = &mut self.sessions;
        let session = |mac, message, class| sessions.asked(mac, message, class, now).clone();
        let (answer, _) = self.engine.decide(came, &self.index, session, now).ok()?;
        answer.reply.encode_for(&request).ok().map(|encoded| encoded.bytes)
    }
}
