// SPDX-License-Identifier: Apache-2.0
//! Where an answer goes (RFC 2131 section 4.1). Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use api::Mac;
use dhcp::{CLIENT_PORT, Message, MessageType, SERVER_PORT};

/// The way of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To a relay, or to a client that has its address already: the kernel routes it.
    Routed(SocketAddrV4),
    /// To everybody on the interface.
    Broadcast,
    /// To a client that has no address yet and cannot answer ARP: by its hardware address.
    Direct(Mac, Ipv4Addr),
}

/// Where `reply`, the answer to `request`, goes.
pub(crate) fn destination(request: &Message, reply: &Message) -> Destination {
    if !request.giaddr.is_unspecified() {
        return Destination::Routed(SocketAddrV4::new(request.giaddr, SERVER_PORT));
    }
    if reply.message_type() == Some(MessageType::Nak) {
        return Destination::Broadcast;
    }
    if !request.ciaddr.is_unspecified() {
        return Destination::Routed(SocketAddrV4::new(request.ciaddr, CLIENT_PORT));
    }
    match request.mac() {
        Some(mac) if !request.wants_broadcast() => Destination::Direct(mac.into(), reply.yiaddr),
        _ => Destination::Broadcast,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

    fn sent(change: impl Fn(&mut Message), kind: MessageType) -> Destination {
        let mut request = Message::request(MessageType::Request, MAC, 1);
        change(&mut request);
        let mut reply = Message::reply(&request, kind);
        reply.yiaddr = ADDRESS;
        destination(&request, &reply)
    }

    #[test]
    fn the_rules_in_their_order() {
        let all = |m: &mut Message| {
            m.giaddr = RELAY;
            m.ciaddr = ADDRESS;
            m.set_broadcast(true);
        };
        assert_eq!(sent(all, MessageType::Ack), Destination::Routed(SocketAddrV4::new(RELAY, 67)));
        assert_eq!(sent(all, MessageType::Nak), Destination::Routed(SocketAddrV4::new(RELAY, 67)));
        let renewing = |m: &mut Message| m.ciaddr = ADDRESS;
        assert_eq!(sent(renewing, MessageType::Ack), Destination::Routed(SocketAddrV4::new(ADDRESS, 68)));
        assert_eq!(sent(renewing, MessageType::Nak), Destination::Broadcast);
        assert_eq!(sent(|m| m.set_broadcast(true), MessageType::Offer), Destination::Broadcast);
        assert_eq!(sent(|_| {}, MessageType::Offer), Destination::Direct(MAC.into(), ADDRESS));
    }
}
