// SPDX-License-Identifier: Apache-2.0
//! An address that a host has while its boots is the one that answers.
//!
//! Owns a task that tells the kernel again and again that the address is ours, each time for a while only: whatever ends this
//! process, the address is gone before another may take the Lease. Neighbours hear of it as RFC 5227 section 2.3 has it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use api::Mac;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use rtnetlink::{Handle, new_connection};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dhcp::{link, local};

/// How long the kernel keeps the address after it was last told to, in seconds: shorter than a Lease lasts.
const LIFETIME: u32 = 10;
const REFRESH: Duration = Duration::from_secs(3);
/// One host.
const PREFIX: u8 = 32;

/// Why a host does not have the address. Not retried.
#[derive(Debug, Error)]
pub enum AddressError {
    /// There is no such interface.
    #[error("there is no interface {0}")]
    Interface(String),
    /// No interface has a network that it is in.
    #[error("{0} is in the network of no interface: name one with virtual-ip-interface")]
    Network(Ipv4Addr),
    /// The kernel cannot be asked.
    #[error("the kernel cannot be asked")]
    Netlink(#[source] io::Error),
    /// The kernel refused.
    #[error("{0} cannot be added; it needs CAP_NET_ADMIN")]
    Refused(Ipv4Addr, #[source] Box<rtnetlink::Error>),
}

/// An address, and where it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address.
    pub ip: Ipv4Addr,
    /// Its interface; without it, the one in whose network it lies.
    pub interface: Option<String>,
}

/// The address while this host has it. Dropped without [`Held::give_back`], it goes by itself within [`LIFETIME`].
#[derive(Debug)]
pub(super) struct Held {
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Held {
    /// Takes it from the interface.
    pub(super) async fn give_back(mut self) {
        self.stop.cancel();
        // One that panicked has ended, too: the address goes by itself.
        let _: Result<(), tokio::task::JoinError> = (&mut self.keeper).await;
    }
}

impl VirtualAddress {
    /// Gives it to this host.
    ///
    /// # Errors
    ///
    /// See [`AddressError`].
    pub(super) async fn take(&self) -> Result<Held, AddressError> {
        let index = self.index()?;
        let (connection, handle, _) = new_connection().map_err(AddressError::Netlink)?;
        let connection = tokio::spawn(connection);
        let ip = self.ip;
        let added = add(&handle, index, ip).await;
        added.map_err(|error| AddressError::Refused(ip, Box::new(error)))?;
        tracing::info!(%ip, index, "this host has the address now");
        announce(index, ip);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let keeper = tokio::spawn(async move {
            while tokio::time::timeout(REFRESH, stopped.cancelled()).await.is_err() {
                if let Err(error) = add(&handle, index, ip).await {
                    tracing::warn!(%ip, error = daemon::chain(&error), "the address cannot be kept; trying again");
                }
                announce(index, ip);
            }
            if let Err(error) = remove(&handle, index, ip).await {
                tracing::warn!(%ip, error = daemon::chain(&error), "the address goes by itself");
            }
            connection.abort();
        });
        Ok(Held { stop, keeper })
    }

    /// Index of the interface.
    fn index(&self) -> Result<u32, AddressError> {
        match &self.interface {
            Some(name) => nix::net::if_::if_nametoindex(name.as_str())
                .map_err(|_| AddressError::Interface(name.clone())),
            None => within(self.ip, local::read()).ok_or(AddressError::Network(self.ip)),
        }
    }
}

/// The interface whose network an address lies in; of several, that of the smallest network.
fn within(ip: Ipv4Addr, interfaces: impl IntoIterator<Item = (u32, Vec<Ipv4Net>)>) -> Option<u32> {
    let nets = interfaces.into_iter().flat_map(|(index, nets)| nets.into_iter().map(move |net| (net, index)));
    let fits = nets.filter(|(net, _)| net.prefix_len() < PREFIX && net.contains(&ip));
    fits.max_by_key(|(net, index)| (net.prefix_len(), std::cmp::Reverse(*index))).map(|(_, index)| index)
}

async fn add(handle: &Handle, index: u32, ip: Ipv4Addr) -> Result<(), rtnetlink::Error> {
    let mut request = handle.address().add(index, IpAddr::V4(ip), PREFIX).replace();
    let mut life = CacheInfo::default();
    (life.ifa_valid, life.ifa_preferred) = (LIFETIME, LIFETIME);
    request.message_mut().attributes.push(AddressAttribute::CacheInfo(life));
    request.execute().await
}

async fn remove(handle: &Handle, index: u32, ip: Ipv4Addr) -> Result<(), rtnetlink::Error> {
    let mut message = AddressMessage::default();
    message.header.family = rtnetlink::packet_route::AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = PREFIX;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(ip)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(ip)));
    handle.address().del(message).execute().await
}

/// Tells the neighbours who has the address now. Where that cannot be sent, they ask when they need it.
fn announce(index: u32, ip: Ipv4Addr) {
    let sent = hardware_address(index).and_then(|mac| link::send_arp(index, &announcement(mac, ip)));
    if let Err(error) = sent {
        tracing::debug!(%ip, %error, "the address is not announced");
    }
}

fn hardware_address(index: u32) -> io::Result<Mac> {
    let name = nix::net::if_::if_indextoname(index)?;
    let text = fs::read_to_string(format!("/sys/class/net/{}/address", name.to_string_lossy()))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// An ARP request for one's own address (RFC 826, RFC 5227 section 2.3).
fn announcement(mac: Mac, ip: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    let fields: [&[u8]; 8] = [
        // Ethernet, IPv4, their lengths, a request.
        &[0, 1],
        &[8, 0],
        &[6, 4],
        &[0, 1],
        &mac.octets(),
        &ip.octets(),
        &[0; 6],
        &ip.octets(),
    ];
    for (to, from) in packet.iter_mut().zip(fields.iter().copied().flatten()) {
        *to = *from;
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_for_ones_own_address() {
        let packet = announcement("52:54:00:00:00:11".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 7));
        let wanted =
            [0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 0x11, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7];
        assert_eq!(packet, wanted);
    }

    #[test]
    fn the_interface_is_the_one_with_the_smallest_network_around_it() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        let all = [
            (1, vec![net("127.0.0.1/8")]),
            (2, vec![net("10.0.0.1/8"), net("10.1.0.7/32")]),
            (3, vec![net("10.1.0.1/16")]),
            (4, vec![net("10.1.0.2/16")]),
        ];
        assert_eq!(within(Ipv4Addr::new(10, 1, 0, 7), all.clone()), Some(3));
        assert_eq!(within(Ipv4Addr::new(10, 9, 0, 7), all.clone()), Some(2));
        assert_eq!(within(Ipv4Addr::new(192, 0, 2, 1), all), None);
    }
}
