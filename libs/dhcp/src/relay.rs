// SPDX-License-Identifier: Apache-2.0
//! What a relay says about where a client is: option 82 (RFC 3046, RFC 3527, RFC 5107, RFC 3993).
//!
//! Read by the choice of subnet and by the lookup of a machine by its switch port. The option itself goes back verbatim;
//! nothing here writes one.

use std::net::Ipv4Addr;

use crate::Message;
use crate::options::code;

/// Sub-option: the port that the client hangs on (RFC 3046 section 3.1).
const CIRCUIT_ID: u8 = 1;
/// Sub-option: the relay or the line (RFC 3046 section 3.2).
const REMOTE_ID: u8 = 2;
/// Sub-option: the client's subnet, when `giaddr` is in another one (RFC 3527 section 3).
const LINK_SELECTION: u8 = 5;
/// Sub-option: the customer (RFC 3993 section 2).
const SUBSCRIBER_ID: u8 = 6;
/// Sub-option: what the client shall take for its server, so that renewals pass the relay (RFC 5107 section 4).
const SERVER_OVERRIDE: u8 = 11;

/// Option 82 of one message. A sub-option that is cut off or has a wrong length is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayInfo<'a> {
    /// Sub-option 1.
    pub circuit_id: Option<&'a [u8]>,
    /// Sub-option 2.
    pub remote_id: Option<&'a [u8]>,
    /// Sub-option 5.
    pub link: Option<Ipv4Addr>,
    /// Sub-option 6.
    pub subscriber_id: Option<&'a [u8]>,
    /// Sub-option 11.
    pub server: Option<Ipv4Addr>,
}

impl<'a> RelayInfo<'a> {
    /// Option 82 of a message; all absent when it has none.
    #[must_use]
    pub fn of(message: &'a Message) -> Self {
        let mut info = Self::default();
        let mut rest = message.options.get(code::RELAY_AGENT).unwrap_or_default();
        // No padding and no end among these (RFC 3046 section 2.0).
        while let [code, length, tail @ ..] = rest {
            let Some((value, next)) = tail.split_at_checked(usize::from(*length)) else { break };
            let address = || value.as_array::<4>().copied().map(Ipv4Addr::from);
            match *code {
                CIRCUIT_ID => info.circuit_id = Some(value),
                REMOTE_ID => info.remote_id = Some(value),
                LINK_SELECTION => info.link = address(),
                SUBSCRIBER_ID => info.subscriber_id = Some(value),
                SERVER_OVERRIDE => info.server = address(),
                _ => {}
            }
            rest = next;
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageType;

    fn of(option: &[u8]) -> Message {
        let mut message = Message::request(MessageType::Discover, [2; 6], 1);
        message.options.set(code::RELAY_AGENT, option);
        message
    }

    #[test]
    fn known_sub_options_are_read_and_others_passed_over() {
        let message =
            of(b"\x01\x03Gi1\x09\x00\x02\x02sw\x05\x04\x0a\x00\x00\x00\x0b\x04\x0a\x00\x00\x01\x06\x01c");
        assert_eq!(
            RelayInfo::of(&message),
            RelayInfo {
                circuit_id: Some(b"Gi1"),
                remote_id: Some(b"sw"),
                link: Some(Ipv4Addr::new(10, 0, 0, 0)),
                subscriber_id: Some(b"c"),
                server: Some(Ipv4Addr::new(10, 0, 0, 1)),
            }
        );
    }

    #[test]
    fn what_is_cut_off_or_has_a_wrong_length_is_absent() {
        assert_eq!(RelayInfo::of(&Message::request(MessageType::Discover, [2; 6], 1)), RelayInfo::default());
        let message = of(b"\x05\x03\x0a\x00\x00\x01\x01x\x02\x09sw");
        assert_eq!(RelayInfo::of(&message), RelayInfo { circuit_id: Some(b"x"), ..RelayInfo::default() });
        assert_eq!(RelayInfo::of(&of(b"\x01")), RelayInfo::default());
    }
}
