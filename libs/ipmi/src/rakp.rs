// SPDX-License-Identifier: Apache-2.0
//! How a session is set up: Open Session (sections 13.17, 13.18), RAKP messages 1-4 (13.20 to 13.23), and the codes that
//! prove to each side that the other one knows the password (13.31).
//!
//! Used by the client's state machine and by the lab's BMC; each side builds an [`Exchange`] from what was said and
//! compares codes. No randomness and no decision about users is made here.

use zeroize::Zeroizing;

use crate::crypto::{CipherSuite, SessionKeys};
use crate::packet::DecodeError;
use crate::wire::Reader;

/// Longest user name (section 22.28).
pub const MAX_USER: usize = 16;
/// Longest password of IPMI 2.0 (section 22.30).
pub const MAX_PASSWORD: usize = 20;
/// Bit of the role byte: look the user up by name only, not by name and privilege (section 13.20).
pub const NAME_ONLY_LOOKUP: u8 = 0x10;
/// The privilege level in the low bits of the role byte.
pub const PRIVILEGE_MASK: u8 = 0x0f;

/// RMCP+ and RAKP status codes of table 13-15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u8);

impl Status {
    /// No errors.
    pub const OK: Self = Self(0x00);
    /// The BMC has no room for another session.
    pub const NO_SESSION_ROOM: Self = Self(0x01);
    /// The session identifier is unknown: the BMC has forgotten the attempt.
    pub const INVALID_SESSION: Self = Self(0x02);
    /// The authentication algorithm is not offered.
    pub const INVALID_AUTHENTICATION: Self = Self(0x04);
    /// The integrity algorithm is not offered.
    pub const INVALID_INTEGRITY: Self = Self(0x05);
    /// The session is no longer being set up.
    pub const INACTIVE_SESSION: Self = Self(0x08);
    /// The role does not exist.
    pub const INVALID_ROLE: Self = Self(0x09);
    /// The user may not have this role.
    pub const UNAUTHORIZED_ROLE: Self = Self(0x0a);
    /// No room for another session at this role.
    pub const NO_ROLE_ROOM: Self = Self(0x0b);
    /// The user name is too long.
    pub const INVALID_NAME_LENGTH: Self = Self(0x0c);
    /// The user name is unknown or disabled.
    pub const UNAUTHORIZED_NAME: Self = Self(0x0d);
    /// An authentication code is wrong: the two sides do not have the same password.
    pub const INVALID_CODE: Self = Self(0x0f);
    /// The confidentiality algorithm is not offered.
    pub const INVALID_CONFIDENTIALITY: Self = Self(0x10);
    /// No offered cipher suite has these algorithms.
    pub const NO_SUITE: Self = Self(0x11);
    /// A parameter is illegal.
    pub const ILLEGAL: Self = Self(0x12);

    /// Whether the BMC refuses the cipher suite and another one may work.
    #[must_use]
    pub const fn refuses_suite(self) -> bool {
        matches!(self.0, 0x04..=0x07 | 0x10..=0x12)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let meaning = match self.0 {
            0x00 => "no error",
            0x01 => "no room for another session",
            0x02 => "invalid session identifier",
            0x03 => "invalid payload type",
            0x04 => "invalid authentication algorithm",
            0x05 => "invalid integrity algorithm",
            0x06 => "no matching authentication payload",
            0x07 => "no matching integrity payload",
            0x08 => "inactive session identifier",
            0x09 => "invalid role",
            0x0a => "unauthorized role or privilege level",
            0x0b => "no room for another session at this role",
            0x0c => "invalid name length",
            0x0d => "unauthorized name",
            0x0e => "unauthorized GUID",
            0x0f => "invalid integrity check value",
            0x10 => "invalid confidentiality algorithm",
            0x11 => "no cipher suite with these algorithms",
            0x12 => "illegal or unrecognized parameter",
            _ => "unknown status",
        };
        write!(f, "{meaning} ({:#04x})", self.0)
    }
}

/// Algorithm numbers as proposed or chosen; `None` is a proposal that leaves the choice to the BMC.
pub type Algorithms = [Option<u8>; 3];

/// RMCP+ Open Session Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Pairs the response with this request.
    pub tag: u8,
    /// Highest privilege wanted; zero leaves it to the BMC.
    pub privilege: u8,
    /// The console's session identifier, not zero.
    pub console_id: u32,
    /// Authentication, integrity, confidentiality.
    pub algorithms: Algorithms,
}

/// RMCP+ Open Session Response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenResponse {
    /// Tag of the request.
    pub tag: u8,
    /// Whether the BMC goes on.
    pub status: Status,
    /// Highest privilege that the suite allows.
    pub privilege: u8,
    /// The console's session identifier.
    pub console_id: u32,
    /// The BMC's session identifier and the chosen algorithms; present when the status is [`Status::OK`].
    pub accepted: Option<(u32, Algorithms)>,
}

/// RAKP message 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp1 {
    /// Pairs the answer with this message.
    pub tag: u8,
    /// The BMC's session identifier.
    pub bmc_id: u32,
    /// Random number of the console.
    pub console_random: [u8; 16],
    /// Privilege level and [`NAME_ONLY_LOOKUP`].
    pub role: u8,
    /// User name.
    pub user: Vec<u8>,
}

/// RAKP message 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp2 {
    /// Tag of message 1.
    pub tag: u8,
    /// Whether the BMC goes on.
    pub status: Status,
    /// The console's session identifier.
    pub console_id: u32,
    /// Present when the status is [`Status::OK`].
    pub accepted: Option<Rakp2Accepted>,
}

/// What RAKP message 2 carries when the BMC goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp2Accepted {
    /// Random number of the BMC.
    pub bmc_random: [u8; 16],
    /// The BMC's GUID.
    pub guid: [u8; 16],
    /// [`Exchange::bmc_code`].
    pub code: Vec<u8>,
}

/// RAKP message 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp3 {
    /// Pairs the answer with this message.
    pub tag: u8,
    /// Anything but [`Status::OK`] ends the attempt.
    pub status: Status,
    /// The BMC's session identifier.
    pub bmc_id: u32,
    /// [`Exchange::console_code`]; empty with an error status.
    pub code: Vec<u8>,
}

/// RAKP message 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp4 {
    /// Tag of message 3.
    pub tag: u8,
    /// Whether the session is active.
    pub status: Status,
    /// The console's session identifier.
    pub console_id: u32,
    /// [`Exchange::integrity_check`]; empty with an error status.
    pub check: Vec<u8>,
}

/// Everything that both sides know after RAKP message 2: the input of all codes.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The agreed suite.
    pub suite: CipherSuite,
    /// SIDM.
    pub console_id: u32,
    /// SIDC.
    pub bmc_id: u32,
    /// RM.
    pub console_random: [u8; 16],
    /// RC.
    pub bmc_random: [u8; 16],
    /// GUIDC.
    pub guid: [u8; 16],
    /// ROLEM, exactly as sent in message 1.
    pub role: u8,
    /// UNAMEM.
    pub user: Vec<u8>,
}

impl Exchange {
    /// The code of RAKP message 2: the BMC knows the password.
    #[must_use]
    pub fn bmc_code(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        self.suite.keyed_hash(
            password,
            &[
                &self.console_id.to_le_bytes(),
                &self.bmc_id.to_le_bytes(),
                &self.console_random,
                &self.bmc_random,
                &self.guid,
                &[self.role, self.user_len()],
                &self.user,
            ],
        )
    }

    /// The code of RAKP message 3: the console knows the password.
    #[must_use]
    pub fn console_code(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        self.suite.keyed_hash(
            password,
            &[&self.bmc_random, &self.console_id.to_le_bytes(), &[self.role, self.user_len()], &self.user],
        )
    }

    /// The session integrity key, for a BMC without a key of its own (K_G): the password takes its place.
    #[must_use]
    pub fn session_integrity_key(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        self.suite.keyed_hash(
            password,
            &[&self.console_random, &self.bmc_random, &[self.role, self.user_len()], &self.user],
        )
    }

    /// The check value of RAKP message 4.
    #[must_use]
    pub fn integrity_check(&self, sik: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 3] = [&self.console_random, &self.bmc_id.to_le_bytes(), &self.guid];
        let mut check = self.suite.keyed_hash(sik, &parts).to_vec();
        check.truncate(self.suite.tag_len());
        check
    }

    /// The keys of the session.
    #[must_use]
    pub fn keys(&self, sik: &[u8]) -> SessionKeys {
        SessionKeys::derive(self.suite, sik)
    }

    fn user_len(&self) -> u8 {
        u8::try_from(self.user.len()).unwrap_or(u8::MAX)
    }
}

impl OpenRequest {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.privilege, 0, 0];
        out.extend_from_slice(&self.console_id.to_le_bytes());
        encode_algorithms(&mut out, self.algorithms);
        out
    }

    /// Takes [`Self::encode`] back.
    ///
    /// # Errors
    /// [`DecodeError`] for a payload that is too short or has its algorithms out of order.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let [tag, privilege, _, _] = reader.array().ok_or(DecodeError::Short)?;
        let console_id = reader.u32().ok_or(DecodeError::Short)?;
        let algorithms = decode_algorithms(&mut reader)?;
        Ok(Self { tag, privilege: privilege & PRIVILEGE_MASK, console_id, algorithms })
    }
}

impl OpenResponse {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status.0, self.privilege, 0];
        out.extend_from_slice(&self.console_id.to_le_bytes());
        if let Some((bmc_id, algorithms)) = self.accepted {
            out.extend_from_slice(&bmc_id.to_le_bytes());
            encode_algorithms(&mut out, algorithms);
        }
        out
    }

    /// Takes [`Self::encode`] back. A refusal may stop after the status (section 13.18); its console identifier is
    /// then zero.
    ///
    /// # Errors
    /// [`DecodeError`] for a payload that is too short for what its status says.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let [tag, status] = reader.array().ok_or(DecodeError::Short)?;
        let status = Status(status);
        let [privilege, _] = reader.array().unwrap_or_default();
        let console_id = reader.u32();
        if status != Status::OK {
            return Ok(Self { tag, status, privilege, console_id: console_id.unwrap_or(0), accepted: None });
        }
        let console_id = console_id.ok_or(DecodeError::Short)?;
        let bmc_id = reader.u32().ok_or(DecodeError::Short)?;
        let algorithms = decode_algorithms(&mut reader)?;
        Ok(Self { tag, status, privilege, console_id, accepted: Some((bmc_id, algorithms)) })
    }
}

impl Rakp1 {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, 0, 0, 0];
        out.extend_from_slice(&self.bmc_id.to_le_bytes());
        out.extend_from_slice(&self.console_random);
        out.extend_from_slice(&[self.role, 0, 0, u8::try_from(self.user.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(&self.user);
        out
    }

    /// Takes [`Self::encode`] back.
    ///
    /// # Errors
    /// [`DecodeError`] for a payload that is too short, or a name longer than [`MAX_USER`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let [tag, _, _, _] = reader.array().ok_or(DecodeError::Short)?;
        let bmc_id = reader.u32().ok_or(DecodeError::Short)?;
        let console_random = reader.array().ok_or(DecodeError::Short)?;
        let [role, _, _, user_len] = reader.array().ok_or(DecodeError::Short)?;
        if usize::from(user_len) > MAX_USER {
            return Err(DecodeError::Malformed);
        }
        let user = reader.take(usize::from(user_len)).ok_or(DecodeError::Short)?.to_vec();
        Ok(Self { tag, bmc_id, console_random, role, user })
    }
}

impl Rakp2 {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status.0, 0, 0];
        out.extend_from_slice(&self.console_id.to_le_bytes());
        if let Some(accepted) = &self.accepted {
            out.extend_from_slice(&accepted.bmc_random);
            out.extend_from_slice(&accepted.guid);
            out.extend_from_slice(&accepted.code);
        }
        out
    }

    /// Takes [`Self::encode`] back.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let (tag, status, console_id) = decode_answer_head(&mut reader)?;
        let accepted = if status == Status::OK {
            Some(Rakp2Accepted {
                bmc_random: reader.array().ok_or(DecodeError::Short)?,
                guid: reader.array().ok_or(DecodeError::Short)?,
                code: reader.rest().to_vec(),
            })
        } else {
            None
        };
        Ok(Self { tag, status, console_id, accepted })
    }
}

impl Rakp3 {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_answer(self.tag, self.status, self.bmc_id, &self.code)
    }

    /// Takes [`Self::encode`] back.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let (tag, status, bmc_id) = decode_answer_head(&mut reader)?;
        Ok(Self { tag, status, bmc_id, code: reader.rest().to_vec() })
    }
}

impl Rakp4 {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_answer(self.tag, self.status, self.console_id, &self.check)
    }

    /// Takes [`Self::encode`] back.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let (tag, status, console_id) = decode_answer_head(&mut reader)?;
        Ok(Self { tag, status, console_id, check: reader.rest().to_vec() })
    }
}

fn encode_answer(tag: u8, status: Status, session_id: u32, code: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, status.0, 0, 0];
    out.extend_from_slice(&session_id.to_le_bytes());
    out.extend_from_slice(code);
    out
}

fn decode_answer_head(reader: &mut Reader<'_>) -> Result<(u8, Status, u32), DecodeError> {
    let [tag, status, _, _] = reader.array().ok_or(DecodeError::Short)?;
    let session_id = reader.u32().ok_or(DecodeError::Short)?;
    Ok((tag, Status(status), session_id))
}

/// Three payloads of eight bytes: type, two reserved, length, algorithm, three reserved.
fn encode_algorithms(out: &mut Vec<u8>, algorithms: Algorithms) {
    for (kind, algorithm) in (0_u8..).zip(algorithms) {
        let length = if algorithm.is_some() { 8 } else { 0 };
        out.extend_from_slice(&[kind, 0, 0, length, algorithm.unwrap_or(0), 0, 0, 0]);
    }
}

fn decode_algorithms(reader: &mut Reader<'_>) -> Result<Algorithms, DecodeError> {
    let mut algorithms = [None; 3];
    for (kind, slot) in (0_u8..).zip(&mut algorithms) {
        let payload: [u8; 8] = reader.array().ok_or(DecodeError::Short)?;
        let [found, _, _, length, algorithm, _, _, _] = payload;
        if found != kind {
            return Err(DecodeError::Malformed);
        }
        *slot = (length != 0).then_some(algorithm & 0x3f);
    }
    Ok(algorithms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn survives_any_payload(payload in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = OpenRequest::decode(&payload);
            let _ = OpenResponse::decode(&payload);
            let _ = Rakp1::decode(&payload);
            let _ = Rakp2::decode(&payload);
            let _ = Rakp3::decode(&payload);
            let _ = Rakp4::decode(&payload);
        }

        #[test]
        fn decodes_what_it_encoded(tag: u8, console_id: u32, bmc_id: u32, random: [u8; 16], guid: [u8; 16], role: u8,
            user in proptest::collection::vec(any::<u8>(), 0..=MAX_USER),
            code in proptest::collection::vec(any::<u8>(), 0..33))
        {
            let open = OpenRequest { tag, privilege: role & PRIVILEGE_MASK, console_id, algorithms: [Some(3), None, Some(1)] };
            prop_assert_eq!(OpenRequest::decode(&open.encode()), Ok(open));
            let opened = OpenResponse { tag, status: Status::OK, privilege: 4, console_id,
                accepted: Some((bmc_id, [Some(1), Some(1), Some(1)])) };
            prop_assert_eq!(OpenResponse::decode(&opened.encode()), Ok(opened));
            let one = Rakp1 { tag, bmc_id, console_random: random, role, user };
            prop_assert_eq!(Rakp1::decode(&one.encode()), Ok(one));
            let accepted = Some(Rakp2Accepted { bmc_random: random, guid, code: code.clone() });
            let two = Rakp2 { tag, status: Status::OK, console_id, accepted };
            prop_assert_eq!(Rakp2::decode(&two.encode()), Ok(two));
            let three = Rakp3 { tag, status: Status::OK, bmc_id, code: code.clone() };
            prop_assert_eq!(Rakp3::decode(&three.encode()), Ok(three));
            let four = Rakp4 { tag, status: Status::INVALID_CODE, console_id, check: code };
            prop_assert_eq!(Rakp4::decode(&four.encode()), Ok(four));
        }
    }
}
