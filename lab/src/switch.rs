// SPDX-License-Identifier: Apache-2.0
//! The rack's switch: learns which address is behind which port, and forwards frames between them.
//!
//! [`Switch`] decides and knows no sockets; [`fabric`] moves the frames.

pub mod fabric;
pub mod pcap;

use std::collections::HashMap;

/// Addresses that are remembered. When a machine invents more, all are forgotten and learnt anew: frames are flooded meanwhile.
const MAX_ADDRESSES: usize = 1024;

/// Destination, source and type: what every Ethernet frame begins with (IEEE 802.3).
const HEADER_BYTES: usize = 14;

/// One port, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub usize);

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Nowhere.
    Drop,
    /// To one port.
    Port(Port),
    /// To every port but the one it came from.
    Flood,
}

/// The forwarding table of a learning switch.
#[derive(Debug, Default)]
pub struct Switch {
    learnt: HashMap<[u8; 6], Port>,
}

impl Switch {
    /// Learns from a frame and says where it goes.
    pub fn forward(&mut self, from: Port, frame: &[u8]) -> Egress {
        let Some((destination, source)) = addresses(frame) else { return Egress::Drop };
        if !is_group(source) {
            if self.learnt.len() >= MAX_ADDRESSES && !self.learnt.contains_key(&source) {
                self.learnt.clear();
            }
            self.learnt.insert(source, from);
        }
        if is_group(destination) {
            return Egress::Flood;
        }
        match self.learnt.get(&destination) {
            Some(port) if *port == from => Egress::Drop,
            Some(port) => Egress::Port(*port),
            None => Egress::Flood,
        }
    }
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
        assert_eq!(switch.forward(Port(0), &frame(B, A)), Egress::Flood);
        assert_eq!(switch.forward(Port(1), &frame(A, B)), Egress::Port(Port(0)));
        assert_eq!(switch.forward(Port(0), &frame(B, A)), Egress::Port(Port(1)));
        assert_eq!(switch.forward(Port(1), &frame(B, A)), Egress::Drop, "A moved to the port that B is on");
        assert_eq!(switch.forward(Port(0), &frame(ALL, A)), Egress::Flood);
    }

    #[test]
    fn nonsense_is_dropped_and_a_group_address_is_never_learnt() {
        let mut switch = Switch::default();
        assert_eq!(switch.forward(Port(0), &frame(A, B)[..13]), Egress::Drop);
        assert_eq!(switch.forward(Port(0), &frame(B, ALL)), Egress::Flood);
        assert_eq!(switch.forward(Port(1), &frame(ALL, B)), Egress::Flood);
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
        assert_eq!(switch.forward(Port(0), &frame(B, A)), Egress::Port(Port(1)));
    }
}
