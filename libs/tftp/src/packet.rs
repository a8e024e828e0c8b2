// SPDX-License-Identifier: Apache-2.0
//! TFTP packets: bytes to [`Packet`], and the bytes of what a server sends.
//!
//! Reading is lenient, because firmware is sloppy: a missing last NUL, trailing NULs or junk after the options, an
//! unknown mode, or a name that is not UTF-8 do not make a request unreadable.

use thiserror::Error;

/// Bytes before the data of a DATA packet.
pub(crate) const DATA_HEADER: u16 = 4;
/// Options read from one request; more are ignored.
const MAX_OPTIONS: usize = 16;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Why a datagram is not a packet that a server understands. It is dropped.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than its kind of packet.
    #[error("the packet is cut short")]
    Short,
    /// An opcode that a client does not send.
    #[error("opcode {0} is not one of a client")]
    Opcode(u16),
    /// A request without a file name.
    #[error("the request names no file")]
    NoName,
}

/// How the bytes are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Octet,
    /// With network line ends (RFC 1350 section 1 and RFC 764).
    Netascii,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The name as sent, invalid UTF-8 replaced.
    pub name: String,
    /// Transfer mode.
    pub mode: Mode,
    /// Options in the order sent, names in lower case.
    pub options: Vec<(String, String)>,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A read request.
    Read(Request),
    /// A write request.
    Write,
    /// An acknowledgement.
    Ack(u16),
    /// The client gives up.
    Error {
        /// Code of RFC 1350.
        code: u16,
        /// Its text.
        message: String,
    },
}

/// Codes of an ERROR packet (RFC 1350 and RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    Undefined = 0,
    /// No such file.
    NotFound = 1,
    /// Refused.
    AccessViolation = 2,
    /// Not an operation of this server.
    IllegalOperation = 4,
}

impl Packet {
    /// Reads a datagram.
    ///
    /// # Errors
    ///
    /// When it is none of the packets above.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (opcode, rest) = bytes.split_first_chunk::<2>().ok_or(ParseError::Short)?;
        match u16::from_be_bytes(*opcode) {
            RRQ => Request::parse(rest).map(Self::Read),
            WRQ => Ok(Self::Write),
            ACK => {
                let block = rest.first_chunk::<2>().ok_or(ParseError::Short)?;
                Ok(Self::Ack(u16::from_be_bytes(*block)))
            }
            ERROR => {
                let (code, text) = rest.split_first_chunk::<2>().ok_or(ParseError::Short)?;
                let message = text.split(|b| *b == 0).next().unwrap_or_default();
                Ok(Self::Error {
                    code: u16::from_be_bytes(*code),
                    message: String::from_utf8_lossy(message).into_owned(),
                })
            }
            other => Err(ParseError::Opcode(other)),
        }
    }
}

impl Request {
    fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut fields = bytes.split(|b| *b == 0).map(|field| String::from_utf8_lossy(field).into_owned());
        let name = fields.next().filter(|name| !name.is_empty()).ok_or(ParseError::NoName)?;
        let mode = match fields.next() {
            Some(mode) if mode.eq_ignore_ascii_case("netascii") => Mode::Netascii,
            _ => Mode::Octet,
        };
        let mut options = Vec::new();
        while let (Some(option), Some(value)) = (fields.next(), fields.next()) {
            if option.is_empty() || options.len() >= MAX_OPTIONS {
                break;
            }
            options.push((option.to_ascii_lowercase(), value));
        }
        Ok(Self { name, mode, options })
    }

    /// The first value of an option, by its lower-case name.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
    }
}

/// The bytes of an ERROR packet.
pub(crate) fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    error_of(code as u16, message)
}

/// The bytes of an ERROR packet with any code, as a client's may have.
pub(crate) fn error_of(code: u16, message: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 5);
    bytes.extend(ERROR.to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(message.bytes().filter(|b| *b != 0));
    bytes.push(0);
    bytes
}

/// The bytes of an ACK packet.
pub(crate) fn ack(block: u64) -> Vec<u8> {
    [ACK.to_be_bytes(), wire_block(block).to_be_bytes()].concat()
}

/// The bytes of an OACK packet.
pub(crate) fn oack(options: &[(&'static str, u64)]) -> Vec<u8> {
    let mut bytes = OACK.to_be_bytes().to_vec();
    for (name, value) in options {
        bytes.extend(name.bytes());
        bytes.push(0);
        bytes.extend(value.to_string().bytes());
        bytes.push(0);
    }
    bytes
}

/// What comes before the data of a block. Block numbers wrap from 65535 to 0, as every client expects.
pub(crate) fn data_header(block: u64) -> [u8; DATA_HEADER as usize] {
    let ([a, b], [c, d]) = (DATA.to_be_bytes(), wire_block(block).to_be_bytes());
    [a, b, c, d]
}

/// The 16 bits of a block number that go on the wire.
pub(crate) fn wire_block(block: u64) -> u16 {
    u16::try_from(block & 0xffff).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(bytes: &[u8]) -> Request {
        match Packet::parse(bytes).unwrap() {
            Packet::Read(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_options_in_any_case() {
        let read = request(b"\x00\x01undionly.kpxe\0OcTeT\0BLKSIZE\x001456\0tsize\x000\0");
        assert_eq!(read.name, "undionly.kpxe");
        assert_eq!(read.mode, Mode::Octet);
        assert_eq!(read.option("blksize"), Some("1456"));
        assert_eq!(read.option("tsize"), Some("0"));
    }

    #[test]
    fn sloppy_requests_are_read() {
        assert_eq!(request(b"\x00\x01a\0netascii").mode, Mode::Netascii);
        assert_eq!(request(b"\x00\x01a").mode, Mode::Octet);
        assert_eq!(request(b"\x00\x01a\0octet\0\0\0\0\0\0").options, []);
        assert_eq!(request(b"\x00\x01a\0octet\0blksize\x00512\0junk").options.len(), 1);
        assert_eq!(request(b"\x00\x01\xff\xfe\0octet\0").name, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn refuses_what_is_no_client_packet() {
        assert_eq!(Packet::parse(b"\x00"), Err(ParseError::Short));
        assert_eq!(Packet::parse(b"\x00\x04\x01"), Err(ParseError::Short));
        assert_eq!(Packet::parse(b"\x00\x01\0octet\0"), Err(ParseError::NoName));
        assert_eq!(Packet::parse(b"\x00\x03\x00\x01x"), Err(ParseError::Opcode(3)));
    }

    #[test]
    fn writes_the_bytes_of_the_rfcs() {
        assert_eq!(error(ErrorCode::NotFound, "no"), b"\x00\x05\x00\x01no\0");
        assert_eq!(oack(&[("blksize", 1468), ("tsize", 7)]), b"\x00\x06blksize\x001468\0tsize\x007\0");
        assert_eq!([1, 65_535, 65_536].map(data_header), [[0, 3, 0, 1], [0, 3, 255, 255], [0, 3, 0, 0]]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Packet::parse(&bytes).is_ok();
        }
    }
}
