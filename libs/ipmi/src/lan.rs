// SPDX-License-Identifier: Apache-2.0
//! The IPMI message as it travels over LAN (section 13.8): addresses, two checksums, sequence number, command, data.

use crate::packet::DecodeError;
use crate::wire::Reader;

/// Slave address of a BMC.
pub const BMC_ADDRESS: u8 = 0x20;
/// Software identifier of a remote console.
pub const CONSOLE_ADDRESS: u8 = 0x81;
/// Number of values of the six-bit requester sequence number.
pub const SEQUENCES: u8 = 64;

/// A request or a response. In a response the first data byte is the completion code and the network function is odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub to: u8,
    /// Who sent it.
    pub from: u8,
    /// Network function, six bits.
    pub netfn: u8,
    /// Requester's sequence number, six bits: pairs a response with its request.
    pub sequence: u8,
    /// Command number.
    pub command: u8,
    /// Request data, or completion code and response data.
    pub data: Vec<u8>,
}

impl Message {
    /// A request from a console to a BMC.
    #[must_use]
    pub fn request(netfn: u8, command: u8, sequence: u8, data: &[u8]) -> Self {
        let data = data.to_vec();
        Self { to: BMC_ADDRESS, from: CONSOLE_ADDRESS, netfn, sequence: sequence % SEQUENCES, command, data }
    }

    /// The response to this request.
    #[must_use]
    pub fn response(&self, completion: u8, data: &[u8]) -> Self {
        Self {
            to: self.from,
            from: self.to,
            netfn: self.netfn | 1,
            sequence: self.sequence,
            command: self.command,
            data: [&[completion], data].concat(),
        }
    }

    /// Whether this is the response to `request`.
    #[must_use]
    pub fn answers(&self, request: &Self) -> bool {
        self.netfn == request.netfn | 1
            && self.command == request.command
            && self.sequence == request.sequence
            && !self.data.is_empty()
    }

    /// The bytes on the wire. Logical unit numbers are zero: nothing here talks to another one.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut head = vec![self.to, self.netfn << 2];
        head.push(checksum(&head));
        let mut body = vec![self.from, self.sequence << 2, self.command];
        body.extend_from_slice(&self.data);
        body.push(checksum(&body));
        [head, body].concat()
    }

    /// Takes [`Self::encode`] back and verifies both checksums.
    ///
    /// # Errors
    /// [`DecodeError::Short`], or [`DecodeError::Malformed`] for a wrong checksum.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let head: [u8; 3] = reader.array().ok_or(DecodeError::Short)?;
        let body = reader.rest();
        let [from, sequence, command] = reader.array().ok_or(DecodeError::Short)?;
        let (_, data) = reader.rest().split_last().ok_or(DecodeError::Short)?;
        if sum(&head) != 0 || sum(body) != 0 {
            return Err(DecodeError::Malformed);
        }
        let [to, netfn, _] = head;
        Ok(Self { to, from, netfn: netfn >> 2, sequence: sequence >> 2, command, data: data.to_vec() })
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Two's complement checksum: makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    sum(bytes).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encodes_what_ipmitool_sends() {
        // Get Channel Authentication Capabilities as captured from ipmitool 1.8.19, with its sequence number 0.
        let message = Message::request(0x06, 0x38, 0, &[0x8e, 0x04]);
        assert_eq!(message.encode(), [0x20, 0x18, 0xc8, 0x81, 0x00, 0x38, 0x8e, 0x04, 0xb5]);
    }

    proptest! {
        #[test]
        fn decodes_what_it_encoded(
            netfn in 0_u8..64, sequence in 0_u8..64, command: u8,
            data in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let message = Message::request(netfn, command, sequence, &data);
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::decode(&bytes);
        }
    }
}
