// SPDX-License-Identifier: Apache-2.0
//! Addresses in DHCPv6 answers: which one an interface has, and what each identity association is told (RFC 8415 section
//! 18.3). Pure.

use std::net::Ipv6Addr;

use api::Mac;
use dhcp::v6::{IaNa, Message, MessageType, Options, Packet, code, status};
use ipnet::Ipv6Net;
use sha2::{Digest as _, Sha256};

use crate::config::{Dhcp6Config, Dhcp6Mode};
use crate::machine::{DEFAULT_LEASE, Nic};

/// Identity associations that are answered in one message; a machine has one per interface.
const MAX_ASSOCIATIONS: usize = 16;
/// Shortest valid lifetime in seconds.
const MIN_LEASE: u32 = 60;

/// The identity associations of a message.
#[derive(Debug)]
pub(super) struct Associations {
    addresses: Vec<IaNa>,
    /// Numbers of those that are not served here: temporary addresses and prefixes, with their code and status.
    others: Vec<(u16, [u8; 4], u16)>,
}

/// The address of an interface: the reserved one, else the one that follows from its MAC.
pub(super) fn address(nic: &Nic, packet: &Packet, dhcp: &Dhcp6Config) -> Option<Ipv6Addr> {
    if let Some(reserved) = nic.lease6.address {
        return Some(reserved);
    }
    if dhcp.mode != Dhcp6Mode::Derived {
        return None;
    }
    let prefix = match packet.link() {
        Some(link) => Ipv6Net::new(link, dhcp.relay_prefix).ok()?,
        None if packet.relays.is_empty() => dhcp.derived?,
        None => return None,
    };
    Some(derive(prefix, nic.mac))
}

/// Tinkerbell's address for a MAC: the low bits of the hash of its text, behind the prefix. Two MACs may have the same.
fn derive(prefix: Ipv6Net, mac: Mac) -> Ipv6Addr {
    let digest: [u8; 32] = Sha256::digest(mac.to_string()).into();
    let hash = digest.last_chunk::<16>().map_or(0, |low| u128::from_be_bytes(*low));
    let host = hash & u128::from(prefix.hostmask());
    Ipv6Addr::from(u128::from(prefix.network()) | host.max(1))
}

impl Associations {
    /// Those of a message; nothing when it has none for addresses, or more than make sense.
    pub(super) fn of(message: &Message) -> Option<Self> {
        let addresses: Vec<IaNa> = message.options.ia_na().take(MAX_ASSOCIATIONS + 1).collect();
        let numbers = |code, status| {
            let all = message.options.all(code).filter_map(|value| value.first_chunk::<4>().copied());
            all.take(MAX_ASSOCIATIONS + 1).map(move |id| (code, id, status)).collect::<Vec<_>>()
        };
        let others =
            [numbers(code::IA_TA, status::NO_ADDRESSES), numbers(code::IA_PD, status::NO_PREFIX)].concat();
        let bounded = addresses.len() + others.len() <= MAX_ASSOCIATIONS;
        (bounded && !addresses.is_empty()).then_some(Self { addresses, others })
    }

    /// All addresses that the client names.
    pub(super) fn named(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().flat_map(IaNa::addresses)
    }

    /// Tells one association its address and the others that there is none for them. True when one got it.
    ///
    /// The one that has the address is asked first, else the first that names none, or any in a Solicit, where addresses are
    /// only wishes. An address that is not the client's comes back with lifetimes of 0, or, where its association has no
    /// other, as the status that makes the client begin anew.
    pub(super) fn grant(
        &self,
        kind: MessageType,
        address: Ipv6Addr,
        seconds: u32,
        reply: &mut Options,
    ) -> bool {
        let missing = match kind {
            MessageType::Renew | MessageType::Rebind => status::NO_BINDING,
            _ => status::NO_ADDRESSES,
        };
        let has = |ia: &IaNa| ia.addresses().any(|named| named == address);
        let open = |ia: &IaNa| kind == MessageType::Solicit || ia.addresses().next().is_none();
        let all = || self.addresses.iter();
        let chosen = all().position(has).or_else(|| all().position(open));
        for (i, ia) in all().enumerate() {
            if chosen == Some(i) {
                reply.add_ia_na(&granted(ia, kind, address, seconds));
            } else {
                reply.add_ia_na(&refused(ia, missing));
            }
        }
        for (code, id, status) in &self.others {
            let mut inner = Options::default();
            inner.add_status((*status, ""));
            // T1 and T2 stand in an association for prefixes only.
            let head = if *code == code::IA_PD { [&id[..], &[0; 8]].concat() } else { id.to_vec() };
            reply.add_inner(*code, &head, &inner);
        }
        chosen.is_some()
    }

    /// Confirms that addresses were given back or declined: nothing is said of an association that had the address, and that
    /// the others are not known (RFC 8415 sections 18.3.7 and 18.3.8). True when one had it.
    pub(super) fn take_back(&self, address: Option<Ipv6Addr>, reply: &mut Options) -> bool {
        let mut had = false;
        for ia in &self.addresses {
            if address.is_some_and(|address| ia.addresses().any(|named| named == address)) {
                had = true;
            } else {
                reply.add_ia_na(&refused(ia, status::NO_BINDING));
            }
        }
        had
    }
}

fn granted(ia: &IaNa, kind: MessageType, address: Ipv6Addr, seconds: u32) -> IaNa {
    let valid = if seconds == 0 { DEFAULT_LEASE } else { seconds.max(MIN_LEASE) };
    // RFC 8415 section 21.4 recommends 0.5 and 0.8 of the preferred lifetime; Tinkerbell's are of the valid one.
    let (preferred, rebind) = (valid / 2, valid / 5 * 4);
    let mut granted = IaNa { id: ia.id, t1: preferred, t2: rebind, options: Options::default() };
    granted.add_address(address, (preferred, valid));
    if kind != MessageType::Solicit {
        ia.addresses().filter(|named| *named != address).for_each(|named| granted.add_address(named, (0, 0)));
    }
    granted
}

fn refused(ia: &IaNa, status: u16) -> IaNa {
    let mut refused = IaNa { id: ia.id, t1: 0, t2: 0, options: Options::default() };
    refused.options.add_status((status, ""));
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_address_is_the_low_bits_of_the_hash() {
        let mac: Mac = "52:54:00:00:00:11".parse().unwrap();
        let digest = Sha256::digest("52:54:00:00:00:11");
        let low: [u8; 8] = digest[24..].try_into().unwrap();
        let made = derive("2001:db8:7::/64".parse().unwrap(), mac);
        assert_eq!(made.octets()[8..], low);
        assert_eq!(made.octets()[..8], [0x20, 1, 0xd, 0xb8, 0, 7, 0, 0]);
        let wide = derive("2001:db8::/33".parse().unwrap(), mac);
        assert_eq!(u128::from(wide) >> 95, u128::from("2001:db8::".parse::<Ipv6Addr>().unwrap()) >> 95);
        assert_eq!(wide.octets()[8..], low);
    }
}
