// SPDX-License-Identifier: Apache-2.0
//! One UDP datagram: RMCP header, ASF presence ping, and the session headers of IPMI 1.5 and 2.0.
//!
//! [`Packet::decode`] only splits; nothing is trusted until [`Secured::open`] has verified it with the session's keys.
//! The encoders are the exact inverse and are used by both ends.

use crate::crypto::{BLOCK, SessionKeys};
use crate::wire::Reader;

/// RMCP version 1.0 (DSP0136 section 3.2.2.2).
const RMCP_VERSION: u8 = 0x06;
/// RMCP sequence number that asks for no acknowledge.
const RMCP_NO_ACK: u8 = 0xff;
/// RMCP class ASF.
const CLASS_ASF: u8 = 0x06;
/// RMCP class IPMI.
const CLASS_IPMI: u8 = 0x07;
/// IANA enterprise number of ASF, big-endian on the wire.
const ASF_IANA: [u8; 4] = [0x00, 0x00, 0x11, 0xbe];
/// ASF message type Presence Ping.
const ASF_PING: u8 = 0x80;
/// ASF message type Presence Pong.
const ASF_PONG: u8 = 0x40;
/// Session header format "no authentication" of IPMI 1.5.
const AUTH_NONE: u8 = 0x00;
/// Session header format RMCP+ (section 13.6).
const AUTH_RMCP_PLUS: u8 = 0x06;
/// Bit of the payload type: the payload is encrypted.
const ENCRYPTED: u8 = 0x80;
/// Bit of the payload type: the packet carries an integrity code.
const AUTHENTICATED: u8 = 0x40;
/// "Next header" of the session trailer, always 07h (section 13.6).
const NEXT_HEADER: u8 = 0x07;
/// Value of the bytes that pad a packet before its integrity code.
const INTEGRITY_PAD: u8 = 0xff;

/// Payload types of table 13-16 that a console or a BMC has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// An IPMI message.
    Ipmi,
    /// RMCP+ Open Session Request.
    OpenRequest,
    /// RMCP+ Open Session Response.
    OpenResponse,
    /// RAKP message 1.
    Rakp1,
    /// RAKP message 2.
    Rakp2,
    /// RAKP message 3.
    Rakp3,
    /// RAKP message 4.
    Rakp4,
}

impl PayloadType {
    const ALL: [Self; 7] = [
        Self::Ipmi,
        Self::OpenRequest,
        Self::OpenResponse,
        Self::Rakp1,
        Self::Rakp2,
        Self::Rakp3,
        Self::Rakp4,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ipmi => 0x00,
            Self::OpenRequest => 0x10,
            Self::OpenResponse => 0x11,
            Self::Rakp1 => 0x12,
            Self::Rakp2 => 0x13,
            Self::Rakp3 => 0x14,
            Self::Rakp4 => 0x15,
        }
    }
}

/// Why a datagram is not a packet of ours. Never retried by itself: the caller drops the datagram and waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the datagram is too short")]
    Short,
    /// A version, class or type that this crate does not speak.
    #[error("the datagram is not RMCP, ASF ping or IPMI over LAN")]
    Foreign,
    /// A checksum, length or padding is wrong.
    #[error("the datagram is malformed")]
    Malformed,
    /// Integrity code or encryption do not fit the session's keys.
    #[error("the datagram is not authentic")]
    NotAuthentic,
}

/// A datagram, split into its parts.
#[derive(Debug)]
pub enum Packet<'a> {
    /// ASF presence ping with its tag.
    Ping {
        /// Message tag, repeated in the pong.
        tag: u8,
    },
    /// ASF presence pong with its tag.
    Pong {
        /// Message tag of the ping.
        tag: u8,
    },
    /// An IPMI 1.5 packet without authentication: how capabilities are asked before there is a session.
    Unauthenticated {
        /// Session identifier, zero outside a session.
        session_id: u32,
        /// The IPMI message.
        message: &'a [u8],
    },
    /// An RMCP+ packet outside a session: its open payload.
    Plain {
        /// What the payload is.
        payload_type: PayloadType,
        /// The payload.
        payload: &'a [u8],
    },
    /// An RMCP+ packet of a session.
    Secured(Secured<'a>),
}

/// An RMCP+ packet that claims to belong to a session.
#[derive(Debug)]
pub struct Secured<'a> {
    /// The session identifier of the receiving side.
    pub session_id: u32,
    /// The sender's session sequence number.
    pub sequence: u32,
    /// What the payload is.
    pub payload_type: PayloadType,
    encrypted: bool,
    authenticated: bool,
    payload: &'a [u8],
    signed: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Splits a datagram.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that is not one of the variants.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let [version, _reserved, _sequence, class] = reader.array().ok_or(DecodeError::Short)?;
        if version != RMCP_VERSION {
            return Err(DecodeError::Foreign);
        }
        match class {
            CLASS_ASF => decode_asf(reader),
            CLASS_IPMI => decode_session(reader),
            _ => Err(DecodeError::Foreign),
        }
    }
}

impl Secured<'_> {
    /// Verifies and decrypts. Both are demanded: a suite of ours always signs and encrypts.
    ///
    /// # Errors
    /// [`DecodeError::NotAuthentic`] or [`DecodeError::Malformed`].
    pub fn open(&self, keys: &SessionKeys) -> Result<Vec<u8>, DecodeError> {
        if !self.encrypted || !self.authenticated {
            return Err(DecodeError::NotAuthentic);
        }
        let covered_len = self.signed.len().checked_sub(keys.suite().tag_len()).ok_or(DecodeError::Short)?;
        let (covered, tag) = self.signed.split_at_checked(covered_len).ok_or(DecodeError::Short)?;
        if !keys.verify(covered, tag) {
            return Err(DecodeError::NotAuthentic);
        }
        keys.decrypt(self.payload).ok_or(DecodeError::Malformed)
    }
}

/// An ASF presence ping.
#[must_use]
pub fn ping(tag: u8) -> Vec<u8> {
    asf(ASF_PING, tag, &[])
}

/// The answer to a ping: no OEM, IPMI supported, ASF 1.0 (section 13.2.4).
#[must_use]
pub fn pong(tag: u8) -> Vec<u8> {
    let mut data = [0_u8; 16];
    let (head, tail) = data.split_at_mut(8);
    head.copy_from_slice(&[0x00, 0x00, 0x11, 0xbe, 0, 0, 0, 0]);
    if let Some(entities) = tail.first_mut() {
        *entities = 0x81;
    }
    asf(ASF_PONG, tag, &data)
}

/// An IPMI 1.5 packet without authentication, outside a session.
#[must_use]
pub fn unauthenticated(message: &[u8]) -> Vec<u8> {
    let mut datagram = rmcp(CLASS_IPMI);
    datagram.push(AUTH_NONE);
    datagram.extend_from_slice(&[0; 8]);
    datagram.push(u8::try_from(message.len()).unwrap_or(u8::MAX));
    datagram.extend_from_slice(message);
    datagram
}

/// An RMCP+ packet outside a session.
#[must_use]
pub fn plain(payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    let mut datagram = rmcp(CLASS_IPMI);
    datagram.extend_from_slice(&session_header(payload_type.number(), 0, 0, payload));
    datagram
}

/// A signed and encrypted RMCP+ packet. `session_id` is the receiver's.
#[must_use]
pub fn secured(
    keys: &SessionKeys,
    session_id: u32,
    sequence: u32,
    payload_type: PayloadType,
    vector: &[u8; BLOCK],
    payload: &[u8],
) -> Vec<u8> {
    let sealed = keys.encrypt(vector, payload);
    let kind = payload_type.number() | ENCRYPTED | AUTHENTICATED;
    let mut signed = session_header(kind, session_id, sequence, &sealed);
    let pad = (4 - (signed.len() + 2) % 4) % 4;
    signed.extend(std::iter::repeat_n(INTEGRITY_PAD, pad));
    signed.push(u8::try_from(pad).unwrap_or(0));
    signed.push(NEXT_HEADER);
    let tag = keys.sign(&signed);
    [rmcp(CLASS_IPMI), signed, tag].concat()
}

fn rmcp(class: u8) -> Vec<u8> {
    vec![RMCP_VERSION, 0x00, RMCP_NO_ACK, class]
}

fn asf(kind: u8, tag: u8, data: &[u8]) -> Vec<u8> {
    let mut datagram = rmcp(CLASS_ASF);
    datagram.extend_from_slice(&ASF_IANA);
    datagram.extend_from_slice(&[kind, tag, 0x00, u8::try_from(data.len()).unwrap_or(u8::MAX)]);
    datagram.extend_from_slice(data);
    datagram
}

fn session_header(kind: u8, session_id: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![AUTH_RMCP_PLUS, kind];
    header.extend_from_slice(&session_id.to_le_bytes());
    header.extend_from_slice(&sequence.to_le_bytes());
    header.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes());
    header.extend_from_slice(payload);
    header
}

fn decode_asf(mut reader: Reader<'_>) -> Result<Packet<'static>, DecodeError> {
    let iana: [u8; 4] = reader.array().ok_or(DecodeError::Short)?;
    let [kind, tag, _reserved, _length] = reader.array().ok_or(DecodeError::Short)?;
    match (iana, kind) {
        (ASF_IANA, ASF_PING) => Ok(Packet::Ping { tag }),
        (ASF_IANA, ASF_PONG) => Ok(Packet::Pong { tag }),
        _ => Err(DecodeError::Foreign),
    }
}

fn decode_session(reader: Reader<'_>) -> Result<Packet<'_>, DecodeError> {
    let signed = reader.rest();
    let mut reader = reader;
    match reader.u8().ok_or(DecodeError::Short)? {
        AUTH_NONE => {
            let _sequence = reader.u32().ok_or(DecodeError::Short)?;
            let session_id = reader.u32().ok_or(DecodeError::Short)?;
            let length = reader.u8().ok_or(DecodeError::Short)?;
            let message = reader.take(usize::from(length)).ok_or(DecodeError::Short)?;
            Ok(Packet::Unauthenticated { session_id, message })
        }
        AUTH_RMCP_PLUS => decode_rmcp_plus(reader, signed),
        _ => Err(DecodeError::Foreign),
    }
}

fn decode_rmcp_plus<'a>(mut reader: Reader<'a>, signed: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
    let kind = reader.u8().ok_or(DecodeError::Short)?;
    let number = kind & !(ENCRYPTED | AUTHENTICATED);
    let payload_type =
        PayloadType::ALL.into_iter().find(|known| known.number() == number).ok_or(DecodeError::Foreign)?;
    let session_id = reader.u32().ok_or(DecodeError::Short)?;
    let sequence = reader.u32().ok_or(DecodeError::Short)?;
    let length = reader.u16().ok_or(DecodeError::Short)?;
    let payload = reader.take(usize::from(length)).ok_or(DecodeError::Short)?;
    if session_id == 0 {
        return Ok(Packet::Plain { payload_type, payload });
    }
    Ok(Packet::Secured(Secured {
        session_id,
        sequence,
        payload_type,
        encrypted: kind & ENCRYPTED != 0,
        authenticated: kind & AUTHENTICATED != 0,
        payload,
        signed,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::CipherSuite;

    fn keys(suite: CipherSuite) -> SessionKeys {
        SessionKeys::derive(suite, b"a session integrity key")
    }

    #[test]
    fn a_ping_is_answered_by_a_pong_that_says_ipmi() {
        assert_eq!(ping(9), [6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 9, 0, 0]);
        let pong = pong(9);
        assert!(matches!(Packet::decode(&pong), Ok(Packet::Pong { tag: 9 })));
        assert_eq!((pong.len(), pong[11], pong[20]), (28, 16, 0x81));
    }

    proptest! {
        #[test]
        fn opens_what_it_secured(
            payload in proptest::collection::vec(any::<u8>(), 0..200), session_id in 1_u32.., sequence: u32,
            vector: [u8; BLOCK], strong: bool,
        ) {
            let keys = keys(if strong { CipherSuite::Suite17 } else { CipherSuite::Suite3 });
            let datagram = secured(&keys, session_id, sequence, PayloadType::Ipmi, &vector, &payload);
            let Ok(Packet::Secured(packet)) = Packet::decode(&datagram) else { panic!("not a secured packet") };
            prop_assert_eq!((packet.session_id, packet.sequence), (session_id, sequence));
            prop_assert_eq!(packet.open(&keys), Ok(payload));
        }

        #[test]
        fn one_flipped_bit_is_never_authentic(
            payload in proptest::collection::vec(any::<u8>(), 0..60), at: prop::sample::Index, bit in 0_u8..8,
        ) {
            let keys = keys(CipherSuite::Suite3);
            let mut datagram = secured(&keys, 7, 1, PayloadType::Ipmi, &[5; BLOCK], &payload);
            let at = at.index(datagram.len() - 4) + 4;
            datagram[at] ^= 1 << bit;
            if let Ok(Packet::Secured(packet)) = Packet::decode(&datagram) {
                prop_assert!(packet.open(&keys).is_err());
            }
        }

        #[test]
        fn survives_any_datagram(mut datagram in proptest::collection::vec(any::<u8>(), 0..200), shape in 0_u8..4) {
            let header: &[u8] = match shape {
                0 => &[],
                1 => &[6, 0, 0xff, 7, 6],
                2 => &[6, 0, 0xff, 7, 0],
                _ => &[6, 0, 0xff, 6],
            };
            for (to, from) in datagram.iter_mut().zip(header) {
                *to = *from;
            }
            if let Ok(Packet::Secured(packet)) = Packet::decode(&datagram) {
                let _ = packet.open(&keys(CipherSuite::Suite17));
            }
        }
    }
}
