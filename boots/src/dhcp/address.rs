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
    let held = Some(request.ciaddr).filter(|ip| !ip.is_unspecified());
    // RFC 2131 section 4.3.5: the answer to INFORM goes to the client itself, a relay or not.
    let informed = held.filter(|_| request.message_type() == Some(MessageType::Inform));
    if let Some(address) = informed {
        return Destination::Routed(SocketAddrV4::new(address, CLIENT_PORT));
    }
    if !request.giaddr.is_unspecified() {
        return Destination::Routed(SocketAddrV4::new(request.giaddr, SERVER_PORT));
    }
    if reply.message_type() == Some(MessageType::Nak) {
        return Destination::Broadcast;
    }
    if let Some(address) = held {
        return Destination::Routed(SocketAddrV4::new(address, CLIENT_PORT));
    }
    match request.mac() {
        // An answer without an address, as a proxy gives it, can be sent to no address.
        Some(mac) if !request.wants_broadcast() && !reply.yiaddr.is_unspecified() => {
            Destination::Direct(mac.into(), reply.yiaddr)
        }
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
    fn an_answer_to_inform_goes_to_the_client_and_one_without_an_address_to_all() {
        let mut inform = Message::request(MessageType::Inform, MAC, 1);
        (inform.ciaddr, inform.giaddr) = (ADDRESS, RELAY);
        let reply = Message::reply(&inform, MessageType::Ack);
        assert_eq!(destination(&inform, &reply), Destination::Routed(SocketAddrV4::new(ADDRESS, 68)));
        let discover = Message::request(MessageType::Discover, MAC, 1);
        let proxied = Message::reply(&discover, MessageType::Offer);
        assert_eq!(destination(&discover, &proxied), Destination::Broadcast);
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
