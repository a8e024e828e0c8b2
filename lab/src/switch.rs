// SPDX-License-Identifier: Apache-2.0
//! The rack's switch: learns which address is behind which port, and forwards frames between the ports of a VLAN.
//!
//! [`Switch`] decides and knows no sockets; [`fabric`] moves the frames; [`faults`] says what goes wrong with them.

pub mod fabric;
pub mod faults;
pub mod pcap;

use std::borrow::Cow;
use std::collections::HashMap;

/// Addresses that are remembered. When a machine invents more, all are forgotten and learnt anew: frames are flooded meanwhile.
const MAX_ADDRESSES: usize = 1024;

/// Destination, source and type: what every Ethernet frame begins with (IEEE 802.3).
const HEADER_BYTES: usize = 14;
/// Where the tag of a frame is, if it has one: type and VLAN (IEEE 802.1Q section 9.6).
const TAG: std::ops::Range<usize> = 12..16;
/// The type of a tag.
const TAGGED: [u8; 2] = [0x81, 0x00];
/// The VLAN's bits in it; the others are priority.
const VLAN_BITS: u16 = 0x0fff;

/// One port, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub usize);

/// The VLANs of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlans {
    /// That of frames without a tag, and of those that are sent without one.
    pub untagged: u16,
    /// Another one, whose frames have a tag on this cable.
    pub tagged: Option<u16>,
}

impl Default for Vlans {
    fn default() -> Self {
        Self { untagged: 1, tagged: None }
    }
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Nowhere.
    Drop,
    /// To one port of this VLAN.
    Port(Port, u16),
    /// To every port of this VLAN but the one it came from.
    Flood(u16),
}

/// The forwarding table of a learning switch.
#[derive(Debug, Default)]
pub struct Switch {
    learnt: HashMap<(u16, [u8; 6]), Port>,
    /// By the number of the port; one that is not here has the default.
    vlans: Vec<Vlans>,
}

impl Switch {
    /// A switch whose ports have these VLANs.
    pub fn new(vlans: Vec<Vlans>) -> Self {
        Self { learnt: HashMap::new(), vlans }
    }

    /// Learns from a frame and says where it goes.
    pub fn forward(&mut self, from: Port, frame: &[u8]) -> Egress {
        let Some((destination, source)) = addresses(frame) else { return Egress::Drop };
        let ports = self.of(from);
        let vlan = match tag(frame) {
            None | Some(0) => ports.untagged,
            Some(vlan) if vlan == ports.untagged || Some(vlan) == ports.tagged => vlan,
            Some(_) => return Egress::Drop,
        };
        if !is_group(source) {
            if self.learnt.len() >= MAX_ADDRESSES && !self.learnt.contains_key(&(vlan, source)) {
                self.learnt.clear();
            }
            self.learnt.insert((vlan, source), from);
        }
        if is_group(destination) {
            return Egress::Flood(vlan);
        }
        match self.learnt.get(&(vlan, destination)) {
            Some(port) if *port == from => Egress::Drop,
            Some(port) => Egress::Port(*port, vlan),
            None => Egress::Flood(vlan),
        }
    }

    /// A frame of a VLAN as it leaves through a port; nothing when the port is not in that VLAN.
    pub fn leaving<'a>(&self, to: Port, vlan: u16, frame: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let ports = self.of(to);
        let wanted = Some(vlan).filter(|vlan| *vlan != ports.untagged);
        if wanted.is_some() && wanted != ports.tagged {
            return None;
        }
        let has = tag(frame);
        if wanted == has {
            return Some(Cow::Borrowed(frame));
        }
        let rest = frame.get(if has.is_some() { TAG.end } else { TAG.start }..)?;
        let tag = wanted.map(|vlan| [TAGGED, vlan.to_be_bytes()].concat()).unwrap_or_default();
        Some(Cow::Owned([frame.get(..TAG.start)?, &tag, rest].concat()))
    }

    fn of(&self, port: Port) -> Vlans {
        self.vlans.get(port.0).copied().unwrap_or_default()
    }
}

/// The VLAN in a frame's tag, if it has one.
fn tag(frame: &[u8]) -> Option<u16> {
    let [a, b, c, d] = *frame.get(TAG)?.first_chunk()?;
    ([a, b] == TAGGED).then_some(u16::from_be_bytes([c, d]) & VLAN_BITS)
}

fn addresses(frame: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    let (destination, rest) = frame.get(..HEADER_BYTES)?.split_first_chunk()?;
    Some((*destination, *rest.first_chunk()?))
}

/// Broadcast or multicast: the lowest bit of the first byte.
fn is_group(address: [u8; 6]) -> bool {
    let [first, ..] = address;
    first & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
    const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x12];
    const ALL: [u8; 6] = [0xff; 6];

    fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        [&to[..], &from, &[0x08, 0x00], b"payload"].concat()
    }

    #[test]
    fn an_address_is_flooded_until_it_has_spoken_and_follows_its_cable() {
        let mut switch = Switch::default();
        assert_eq!(switch.forward(Port(0), &frame(B, A)), Egress::Flood(1));
        assert_eq!(switch.forward(Port(1), &frame(A, B)), Egress::Port(Port(0), 1));
        assert_eq!(switch.forward(Port(0), &frame(B, A)), Egress::Port(Port(1), 1));
        assert_eq!(switch.forward(Port(1), &frame(B, A)), Egress::Drop, "A moved to the port that B is on");
        assert_eq!(switch.forward(Port(0), &frame(ALL, A)), Egress::Flood(1));
    }

    #[test]
    fn nonsense_is_dropped_and_a_group_address_is_never_learnt() {
        let mut switch = Switch::default();
        assert_eq!(switch.forward(Port(0), &frame(A, B)[..13]), Egress::Drop);
        assert_eq!(switch.forward(Port(0), &frame(B, ALL)), Egress::Flood(1));
        assert_eq!(switch.forward(Port(1), &frame(ALL, B)), Egress::Flood(1));
    }

    #[test]
    fn a_machine_that_invents_addresses_does_not_grow_the_table() {
        let mut switch = Switch::default();
        for number in 0..100_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            switch.forward(Port(0), &frame(ALL, [2, 0, a, b, c, d]));
            assert!(switch.learnt.len() <= MAX_ADDRESSES);
        }
        switch.forward(Port(1), &frame(ALL, B));
        assert_eq!(switch.forward(Port(0), &frame(B, A)), Egress::Port(Port(1), 1));
    }

    #[test]
    fn vlans_do_not_meet_and_each_cable_has_its_tags() {
        let trunk = Vlans { untagged: 1, tagged: Some(42) };
        let mut switch = Switch::new(vec![Vlans::default(), Vlans { untagged: 42, tagged: None }, trunk]);
        let (plain, tagged) =
            (frame(ALL, A), [&ALL[..], &A, &[0x81, 0, 0x60, 42, 0x08, 0x00], b"payload"].concat());
        assert_eq!(switch.forward(Port(2), &plain), Egress::Flood(1));
        assert_eq!(switch.leaving(Port(0), 1, &plain).as_deref(), Some(&plain[..]));
        assert_eq!(switch.leaving(Port(1), 1, &plain), None);
        assert_eq!(switch.forward(Port(2), &tagged), Egress::Flood(42));
        assert_eq!(switch.leaving(Port(0), 42, &tagged), None);
        assert_eq!(switch.leaving(Port(1), 42, &tagged).as_deref(), Some(&plain[..]), "the tag is taken off");
        assert_eq!(
            switch.forward(Port(1), &frame(A, B)),
            Egress::Port(Port(2), 42),
            "learnt in each VLAN for itself"
        );
        let answer = switch.leaving(Port(2), 42, &frame(A, B)).unwrap().into_owned();
        assert_eq!((answer.len(), &answer[TAG]), (25, &[0x81, 0, 0, 42][..]), "the tag is put on");
        assert_eq!(switch.forward(Port(0), &frame(A, B)), Egress::Port(Port(2), 1));
        assert_eq!(switch.forward(Port(0), &tagged), Egress::Drop, "a tag that is not of this cable");
        assert_eq!(switch.forward(Port(2), &tagged[..15]), Egress::Flood(1), "a tag that is cut off is none");
    }
}
