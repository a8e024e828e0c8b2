// SPDX-License-Identifier: Apache-2.0
//! Which machine a DHCPv6 message is of. Pure.
//!
//! A message says its MAC in up to three places: what a relay saw, the address that it came from, and a DUID made of one. The
//! interface that asks comes before the DUID, which differs from Tinkerbell for a direct client: a DUID names a machine by
//! any of its interfaces (RFC 8415 section 11), and two interfaces of one machine are not to get one address. A machine that
//! none of these finds is looked for by its whole DUID, then by its switch port.

use std::net::Ipv6Addr;

use api::Mac;
use dhcp::RelayInfo;
use dhcp::v6::{Duid, Message, Packet, code, eui64_mac};

use crate::backend::{Found, Index, Miss};

/// Hardware type Ethernet in option 79.
const ETHERNET: [u8; 2] = [0, 1];

/// The MACs that a message may be of, the likeliest first. `from` is where it came from.
pub(crate) fn macs(packet: &Packet, from: Ipv6Addr) -> Vec<Mac> {
    let seen = packet.innermost().and_then(|relay| {
        let (kind, mac) = relay.options.get(code::CLIENT_LINK_LAYER)?.split_first_chunk::<2>()?;
        mac.as_array::<6>().copied().filter(|_| *kind == ETHERNET)
    });
    // A relay tells the address that the client sent from, which is a global one where the client asks anew for what it has.
    let made = match packet.innermost() {
        Some(relay) => eui64_mac(relay.peer),
        None => eui64_mac(from).filter(|_| from.is_unicast_link_local()),
    };
    let named = duid(&packet.message).and_then(|duid| duid.mac());
    let mut macs: Vec<Mac> = Vec::new();
    for mac in [seen, made, named].into_iter().flatten().map(Mac::from) {
        if !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    macs
}

/// The client's DUID, if it has one that is sound.
pub(crate) fn duid(message: &Message) -> Option<Duid> {
    Duid::new(message.options.get(code::CLIENT_ID)?).ok()
}

/// The machine of a message with these MACs.
pub(crate) fn find(index: &Index, macs: &[Mac], packet: &Packet) -> Result<Found, Miss> {
    for mac in macs {
        match index.by_mac(*mac) {
            Err(Miss::Unknown) => {}
            found => return found,
        }
    }
    let by_duid = duid(&packet.message).map_or(Err(Miss::Unknown), |duid| index.by_duid(&duid));
    match by_duid {
        Err(Miss::Unknown) => index.by_port(&port(packet)),
        found => found,
    }
}

/// The switch port that the relay next to the client names, as DHCPv4 relays do it in option 82.
fn port(packet: &Packet) -> RelayInfo<'_> {
    let options = packet.innermost().map(|relay| &relay.options);
    RelayInfo {
        circuit_id: options.and_then(|options| options.get(code::INTERFACE_ID)),
        remote_id: options.and_then(|options| options.remote_id()),
        ..RelayInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use dhcp::v6::{MessageType, Options, Relay};
    use serde_json::json;

    use super::*;
    use crate::machine::tests::hardware;

    const MADE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
    const NAMED: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x22];
    const SEEN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x33];

    fn packet(duid: &Duid, relay: Option<(&str, Option<[u8; 6]>)>) -> Packet {
        let mut message = Message::new(MessageType::Solicit, [0; 3]);
        message.options.add(code::CLIENT_ID, duid.as_bytes());
        let relays = relay.map(|(peer, seen)| {
            let mut options = Options::default();
            seen.into_iter()
                .for_each(|mac| options.add(code::CLIENT_LINK_LAYER, [&[0, 1][..], &mac].concat()));
            options.add(code::INTERFACE_ID, *b"Gi1/0/7");
            Relay { hops: 0, link: Ipv6Addr::UNSPECIFIED, peer: peer.parse().unwrap(), options }
        });
        Packet { relays: relays.into_iter().collect(), message }
    }

    #[test]
    fn the_interface_that_asks_comes_before_the_duid() {
        let from: Ipv6Addr = "fe80::5054:ff:fe00:11".parse().unwrap();
        let other: Ipv6Addr = "fe80::1".parse().unwrap();
        let named = Duid::link_layer_time(NAMED, 1);
        let all = |packet: &Packet, from| macs(packet, from).into_iter().map(Mac::octets).collect::<Vec<_>>();
        assert_eq!(all(&packet(&named, None), from), [MADE, NAMED]);
        assert_eq!(all(&packet(&named, None), other), [NAMED]);
        assert_eq!(all(&packet(&Duid::uuid([1; 16]), None), from), [MADE]);
        assert_eq!(all(&packet(&Duid::link_layer(MADE), None), from), [MADE], "each once");
        let relayed = packet(&named, Some(("fe80::5054:ff:fe00:11", Some(SEEN))));
        assert_eq!(all(&relayed, other), [SEEN, MADE, NAMED]);
        let global = packet(&named, Some(("2001:db8::5054:ff:fe00:11", None)));
        assert_eq!(all(&global, other), [MADE, NAMED], "a global address of the client");
        assert_eq!(all(&packet(&named, Some(("fe80::2", None))), from), [NAMED], "not the relay's address");
        let direct: Ipv6Addr = "2001:db8::5054:ff:fe00:11".parse().unwrap();
        assert_eq!(all(&packet(&named, None), direct), [NAMED], "without a relay, only one of the link");
        assert!(all(&packet(&Duid::uuid([1; 16]), None), other).is_empty());
    }

    #[test]
    fn a_machine_is_found_by_mac_duid_and_port_in_this_order() {
        let machine = |name: &str, mac: [u8; 6], key: &str, value: &str| {
            let mut machine = hardware(&json!({ "dhcp": { "mac": Mac::from(mac).to_string(), "ip": null } }));
            machine.metadata.name = Some(name.to_owned());
            let annotations = machine.metadata.annotations.get_or_insert_default();
            annotations.insert(format!("tinkerbell.org/{key}"), value.to_owned());
            machine
        };
        let mut index = Index::default();
        index.apply_hardware(&machine("mac", MADE, "note", "x"));
        index.apply_hardware(&machine("duid", [2; 6], "dhcp-duid", "00:04:07"));
        index.apply_hardware(&machine("port", [4; 6], "dhcp-circuit-id", "Gi1/0/7"));
        let find = |duid: &[u8], relay| {
            let packet = packet(&Duid::new(duid).unwrap(), relay);
            super::find(&index, &macs(&packet, "fe80::1".parse().unwrap()), &packet)
                .map(|found| found.machine.name.clone())
        };
        assert_eq!(find(&[0, 4, 7], Some(("fe80::5054:ff:fe00:11", None))).as_deref(), Ok("mac"));
        assert_eq!(find(&[0, 4, 7], Some(("fe80::2", None))).as_deref(), Ok("duid"));
        assert_eq!(find(&[0, 4, 8], Some(("fe80::2", None))).as_deref(), Ok("port"));
        assert_eq!(find(&[0, 4, 8], None), Err(Miss::Unknown));
    }
}
