// SPDX-License-Identifier: Apache-2.0
//! A packet: a client's or server's message, and the relays that it passed (RFC 8415 sections 8 and 9).

use std::net::Ipv6Addr;

use thiserror::Error;

use super::options::{Options, code};

/// Relays around a message at most: the hop count of the first is 0, that of the last at most 8 (RFC 8415 sections 7.6 and
/// 19.1.2).
pub const MAX_RELAYS: usize = 9;

const RELAY_FORWARD: u8 = 12;
const RELAY_REPLY: u8 = 13;

/// The type of a message between client and server (RFC 8415 section 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the RFC")]
pub enum MessageType {
    Solicit,
    Advertise,
    Request,
    Confirm,
    Renew,
    Rebind,
    Reply,
    Release,
    Decline,
    Reconfigure,
    InformationRequest,
}

/// Types, their numbers and their names in logs and metrics.
const TYPES: [(MessageType, u8, &str); 11] = [
    (MessageType::Solicit, 1, "SOLICIT"),
    (MessageType::Advertise, 2, "ADVERTISE"),
    (MessageType::Request, 3, "REQUEST6"),
    (MessageType::Confirm, 4, "CONFIRM"),
    (MessageType::Renew, 5, "RENEW"),
    (MessageType::Rebind, 6, "REBIND"),
    (MessageType::Reply, 7, "REPLY"),
    (MessageType::Release, 8, "RELEASE6"),
    (MessageType::Decline, 9, "DECLINE6"),
    (MessageType::Reconfigure, 10, "RECONFIGURE"),
    (MessageType::InformationRequest, 11, "INFORMATION-REQUEST"),
];

/// A message between client and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: MessageType,
    /// Chosen by the client; the answer repeats it.
    pub id: [u8; 3],
    /// Its options.
    pub options: Options,
}

/// What one relay says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Relays between it and the client.
    pub hops: u8,
    /// An address of the client's link; unspecified where the relay does not say.
    pub link: Ipv6Addr,
    /// Where the message came from.
    pub peer: Ipv6Addr,
    /// Its own options, without the message.
    pub options: Options,
}

/// A message with the relays that it passed, the one that we hear first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The relays.
    pub relays: Vec<Relay>,
    /// The message.
    pub message: Message,
}

/// Why bytes are no DHCPv6 packet.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// The header is cut off.
    #[error("the message is cut off")]
    Short,
    /// The type is none of a client, a server or a relay.
    #[error("type {0} is not one of a message that is read here")]
    Type(u8),
    /// A relay's message has no message in it.
    #[error("a relay's message has no message in it")]
    Empty,
    /// It passed more relays than a message may.
    #[error("the message passed more than {MAX_RELAYS} relays")]
    TooManyRelays,
}

impl MessageType {
    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        TYPES.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, number, _)| *number)
    }

    /// Name for logs and metrics. Those of DHCPv4's messages that share a name have a 6.
    #[must_use]
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }

    fn from_number(number: u8) -> Option<Self> {
        TYPES.iter().find(|(_, found, _)| *found == number).map(|(kind, ..)| *kind)
    }
}

impl Message {
    /// A message of a client, without options.
    #[must_use]
    pub fn new(kind: MessageType, id: [u8; 3]) -> Self {
        Self { kind, id, options: Options::default() }
    }

    /// Reads a message without relays.
    ///
    /// # Errors
    ///
    /// When it is cut off or of no type of a client or server.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let ([number, id @ ..], options) = bytes.split_first_chunk::<4>().ok_or(ParseError::Short)?;
        let kind = MessageType::from_number(*number).ok_or(ParseError::Type(*number))?;
        Ok(Self { kind, id: *id, options: Options::parse(options) })
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind.number()];
        bytes.extend(self.id);
        self.options.encode(&mut bytes);
        bytes
    }
}

impl Packet {
    /// Reads what a client or a relay sent.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the first header that is.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(RELAY_FORWARD, bytes)
    }

    /// Reads an answer as its first relay gets it.
    ///
    /// # Errors
    ///
    /// As for [`Packet::parse`].
    pub fn parse_reply(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(RELAY_REPLY, bytes)
    }

    fn read(kind: u8, bytes: &[u8]) -> Result<Self, ParseError> {
        let (mut relays, mut inner) = (Vec::new(), bytes.to_vec());
        while inner.first() == Some(&kind) {
            if relays.len() == MAX_RELAYS {
                return Err(ParseError::TooManyRelays);
            }
            let (relay, message) = Relay::parse(&inner)?;
            relays.push(relay);
            inner = message;
        }
        Ok(Self { message: Message::parse(&inner)?, relays })
    }

    /// The bytes of an answer to it, which goes back the way that it came. Every relay gets back its interface, its line and
    /// what it asks to be echoed (RFC 8415 section 19.3, RFC 4994 section 4, RFC 8357 section 5.2).
    #[must_use]
    pub fn encode_reply(&self, reply: &Message) -> Vec<u8> {
        let echo = |relay: &Relay| {
            let asked: Vec<u16> = relay
                .options
                .get(code::ECHO_REQUEST)
                .map(|codes| codes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
                .unwrap_or_default();
            let mut options = Options::default();
            let always = [code::INTERFACE_ID, code::REMOTE_ID, code::RELAY_PORT];
            for (code, value) in relay.options.iter() {
                if always.contains(&code) || asked.contains(&code) {
                    options.add(code, value);
                }
            }
            options
        };
        self.relays.iter().rev().fold(reply.encode(), |message, relay| {
            wrap(RELAY_REPLY, &Relay { options: echo(relay), ..relay.clone() }, &message)
        })
    }

    /// The bytes as relays forward it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.relays
            .iter()
            .rev()
            .fold(self.message.encode(), |inner, relay| wrap(RELAY_FORWARD, relay, &inner))
    }

    /// The relay next to the client.
    #[must_use]
    pub fn innermost(&self) -> Option<&Relay> {
        self.relays.last()
    }

    /// An address of the client's link, from the relay next to the client that says one.
    #[must_use]
    pub fn link(&self) -> Option<Ipv6Addr> {
        self.relays.iter().rev().map(|relay| relay.link).find(|link| !link.is_unspecified())
    }
}

impl Relay {
    /// Reads a relay's message: what it says, and the message inside it.
    fn parse(bytes: &[u8]) -> Result<(Self, Vec<u8>), ParseError> {
        let ([_, hops], rest) = bytes.split_first_chunk::<2>().ok_or(ParseError::Short)?;
        let (link, rest) = rest.split_first_chunk::<16>().ok_or(ParseError::Short)?;
        let (peer, rest) = rest.split_first_chunk::<16>().ok_or(ParseError::Short)?;
        let (mut options, mut message) = (Options::default(), None);
        for (found, value) in Options::parse(rest).iter() {
            match (found, &message) {
                (code::RELAY_MESSAGE, None) => message = Some(value.to_vec()),
                (code::RELAY_MESSAGE, Some(_)) => {}
                _ => options.add(found, value),
            }
        }
        let relay = Self { hops: *hops, link: Ipv6Addr::from(*link), peer: Ipv6Addr::from(*peer), options };
        Ok((relay, message.ok_or(ParseError::Empty)?))
    }
}

fn wrap(kind: u8, relay: &Relay, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, relay.hops];
    bytes.extend(relay.link.octets());
    bytes.extend(relay.peer.octets());
    relay.options.encode(&mut bytes);
    let mut inner = Options::default();
    inner.add(code::RELAY_MESSAGE, message);
    inner.encode(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relay(hops: u8, interface: &[u8]) -> Relay {
        let mut options = Options::default();
        options.add(code::INTERFACE_ID, interface);
        let link =
            if hops == 0 { Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 1) } else { Ipv6Addr::UNSPECIFIED };
        Relay { hops, link, peer: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9), options }
    }

    fn solicit() -> Message {
        let mut message = Message::new(MessageType::Solicit, [1, 2, 3]);
        message.options.add(code::CLIENT_ID, [0, 4, 7]);
        message
    }

    #[test]
    fn an_answer_goes_back_through_every_relay() {
        let mut first = relay(1, b"far");
        first.options.add(code::REMOTE_ID, *b"\0\0\x01\x57line");
        first.options.add(38, *b"subscriber");
        first.options.add(99, *b"other");
        first.options.add_codes(code::ECHO_REQUEST, &[38]);
        let packet = Packet { relays: vec![first, relay(0, b"near")], message: solicit() };
        let read = Packet::parse(&packet.encode()).unwrap();
        assert_eq!(read, packet);
        assert_eq!(read.link(), Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 1)));
        assert_eq!(read.relays[0].options.remote_id(), Some(&b"line"[..]));

        let reply = Message::new(MessageType::Advertise, [1, 2, 3]);
        let back = Packet::parse_reply(&packet.encode_reply(&reply)).unwrap();
        assert_eq!(back.message, reply);
        let codes = |relay: &Relay| relay.options.iter().map(|(code, _)| code).collect::<Vec<_>>();
        assert_eq!(back.relays.iter().map(codes).collect::<Vec<_>>(), [vec![18, 37, 38], vec![18]]);
        assert_eq!((back.relays[0].hops, back.relays[1].hops), (1, 0));
        assert_eq!(back.relays[1].peer, packet.relays[1].peer);
        assert_eq!(back.relays[1].options.get(code::INTERFACE_ID), Some(&b"near"[..]));
    }

    #[test]
    fn as_many_relays_as_may_be_and_no_more() {
        let many = |n: usize| Packet { relays: vec![relay(0, b""); n], message: solicit() }.encode();
        assert!(Packet::parse(&many(MAX_RELAYS)).is_ok());
        assert_eq!(Packet::parse(&many(MAX_RELAYS + 1)), Err(ParseError::TooManyRelays));
    }

    #[test]
    fn what_is_no_packet_says_why() {
        assert_eq!(Packet::parse(&[]), Err(ParseError::Short));
        assert_eq!(Packet::parse(&[1, 2, 3]), Err(ParseError::Short));
        assert_eq!(Packet::parse(&[0, 0, 0, 0]), Err(ParseError::Type(0)));
        assert_eq!(Packet::parse(&[13, 0, 0, 0]), Err(ParseError::Type(13)), "the answer of another server");
        assert_eq!(Packet::parse(&[12, 0, 0]), Err(ParseError::Short));
        assert_eq!(Packet::parse(&[&[12, 0][..], &[0; 32]].concat()), Err(ParseError::Empty));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_read_back_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
            }
        }
    }
}
