// SPDX-License-Identifier: Apache-2.0
//! One DHCPv4 message: the fixed BOOTP header and its options (RFC 2131 section 2).
//!
//! Called with the payload of a UDP datagram; gives back the payload of the answer. Parsing refuses only what
//! cannot be a DHCP message at all. How a message is written is in `encode`.

use std::net::Ipv4Addr;

use thiserror::Error;

use crate::options::{Options, code};

/// The magic cookie in front of the options (RFC 2131 section 3).
pub(crate) const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Bytes before the options: the BOOTP header and the cookie.
pub(crate) const HEADER: usize = 240;
/// Bytes of the field `sname`.
pub(crate) const SNAME_SIZE: usize = 64;
/// Bytes of the field `file`.
pub(crate) const FILE_SIZE: usize = 128;
/// IPv4 and UDP headers; option 57 counts them, the UDP payload does not.
const IP_UDP_HEADERS: usize = 28;
/// Every client accepts an IP datagram of this size (RFC 2131 section 2).
const DEFAULT_MAX_MESSAGE: u16 = 576;
/// No answer is larger than an Ethernet frame, whatever the client says.
const ETHERNET_MTU: u16 = 1500;
/// The broadcast bit of `flags` (RFC 2131 figure 2).
const BROADCAST: u16 = 0x8000;

/// Why bytes are not a DHCP message. Never retried: the datagram is dropped.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum ParseError {
    /// Shorter than the header and the cookie.
    #[error("{0} bytes are too short for a DHCP message")]
    TooShort(usize),
    /// The cookie is another one: BOOTP or something else.
    #[error("no DHCP cookie")]
    NoCookie,
    /// The header claims a hardware address longer than its field.
    #[error("hardware address length {0} is over 16")]
    HardwareLength(u8),
    /// `op` is neither request nor reply.
    #[error("op {0} is neither request nor reply")]
    Op(u8),
}

/// A text does not fit its header field.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("{length} bytes do not fit a field of {field}")]
pub struct TextTooLong {
    /// Bytes of the text.
    pub length: usize,
    /// Bytes of the field, its NUL included.
    pub field: usize,
}

/// Direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// From a client.
    Request,
    /// From a server.
    Reply,
}

/// Value of option 53 (RFC 2132 section 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are RFC 2131's own")]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    /// The type for a value of option 53.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }

    /// Upper-case name, for logs and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Offer => "OFFER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Ack => "ACK",
            Self::Nak => "NAK",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
        }
    }
}

/// A message and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Direction.
    pub op: Op,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Bytes of `chaddr` in use, at most 16.
    hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags; only the broadcast bit has a meaning.
    pub flags: u16,
    /// The address that the client has and answers ARP for.
    pub ciaddr: Ipv4Addr,
    /// "Your" address.
    pub yiaddr: Ipv4Addr,
    /// Next server.
    pub siaddr: Ipv4Addr,
    /// Relay.
    pub giaddr: Ipv4Addr,
    chaddr: [u8; 16],
    sname: [u8; SNAME_SIZE],
    file: [u8; FILE_SIZE],
    /// Options, those of overloaded fields included.
    pub options: Options,
}

impl Message {
    /// An empty request of an Ethernet client, for clients and tests.
    #[must_use]
    pub fn request(kind: MessageType, mac: [u8; 6], xid: u32) -> Self {
        let mut chaddr = [0; 16];
        for (to, from) in chaddr.iter_mut().zip(mac) {
            *to = from;
        }
        let mut message = Self {
            op: Op::Request,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: [0; SNAME_SIZE],
            file: [0; FILE_SIZE],
            options: Options::default(),
        };
        message.options.set(code::MESSAGE_TYPE, [kind as u8]);
        message
    }

    /// The skeleton of an answer: what RFC 2131 table 3 and RFC 3046, RFC 6842 copy from the request.
    #[must_use]
    pub fn reply(request: &Self, kind: MessageType) -> Self {
        let mut message = Self {
            op: Op::Reply,
            hops: 0,
            secs: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            sname: [0; SNAME_SIZE],
            file: [0; FILE_SIZE],
            options: Options::default(),
            ..request.clone()
        };
        message.options.set(code::MESSAGE_TYPE, [kind as u8]);
        for echoed in [code::CLIENT_ID, code::RELAY_AGENT] {
            if let Some(value) = request.options.get(echoed) {
                message.options.set(echoed, value);
            }
        }
        message
    }

    /// Parses the payload of a datagram. Malformed options are dropped, never an error.
    ///
    /// # Errors
    ///
    /// Only when the fixed part cannot be one of DHCP.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut rest = bytes;
        let message = Self::parse_header(&mut rest);
        let (message, cookie) = message.zip(take::<4>(&mut rest)).ok_or(ParseError::TooShort(bytes.len()))?;
        let (op, mut message) = message;
        message.op = match op {
            1 => Op::Request,
            2 => Op::Reply,
            other => return Err(ParseError::Op(other)),
        };
        if message.hlen > 16 {
            return Err(ParseError::HardwareLength(message.hlen));
        }
        if cookie != COOKIE {
            return Err(ParseError::NoCookie);
        }
        message.options.walk(rest);
        let overload = message.options.bytes::<1>(code::OVERLOAD).map_or(0, |[value]| value);
        // RFC 2131 section 4.1: `file` is read before `sname`.
        if overload & 1 != 0 {
            message.options.walk(&message.file);
            message.file = [0; FILE_SIZE];
        }
        if overload & 2 != 0 {
            message.options.walk(&message.sname);
            message.sname = [0; SNAME_SIZE];
        }
        message.options.remove(code::OVERLOAD);
        Ok(message)
    }

    fn parse_header(rest: &mut &[u8]) -> Option<(u8, Self)> {
        let [op, htype, hlen, hops] = take::<4>(rest)?;
        let message = Self {
            op: Op::Request,
            htype,
            hlen,
            hops,
            xid: u32::from_be_bytes(take(rest)?),
            secs: u16::from_be_bytes(take(rest)?),
            flags: u16::from_be_bytes(take(rest)?),
            ciaddr: take::<4>(rest)?.into(),
            yiaddr: take::<4>(rest)?.into(),
            siaddr: take::<4>(rest)?.into(),
            giaddr: take::<4>(rest)?.into(),
            chaddr: take(rest)?,
            sname: take(rest)?,
            file: take(rest)?,
            options: Options::default(),
        };
        Some((op, message))
    }

    /// The value of option 53, if it is one that RFC 2131 knows.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        self.options.bytes::<1>(code::MESSAGE_TYPE).and_then(|[value]| MessageType::from_u8(value))
    }

    /// The client's Ethernet address; `None` for other hardware.
    #[must_use]
    pub fn mac(&self) -> Option<[u8; 6]> {
        (self.htype == 1 && self.hlen == 6).then(|| self.chaddr.first_chunk::<6>().copied()).flatten()
    }

    /// Whether the client asks for a broadcast answer.
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST != 0
    }

    /// Sets or clears the broadcast bit.
    pub fn set_broadcast(&mut self, on: bool) {
        self.flags = if on { self.flags | BROADCAST } else { self.flags & !BROADCAST };
    }

    /// The boot file field up to its NUL, invalid UTF-8 replaced.
    #[must_use]
    pub fn file(&self) -> String {
        text(&self.file)
    }

    /// The server name field up to its NUL, invalid UTF-8 replaced.
    #[must_use]
    pub fn sname(&self) -> String {
        text(&self.sname)
    }

    /// Sets the boot file field.
    ///
    /// # Errors
    ///
    /// When the text is over 127 bytes; the field stays as it was.
    pub fn set_file(&mut self, value: &str) -> Result<(), TextTooLong> {
        fill(&mut self.file, value)
    }

    /// Sets the server name field.
    ///
    /// # Errors
    ///
    /// When the text is over 63 bytes; the field stays as it was.
    pub fn set_sname(&mut self, value: &str) -> Result<(), TextTooLong> {
        fill(&mut self.sname, value)
    }

    /// How many bytes of UDP payload the sender of this message accepts in an answer (option 57, which counts the
    /// IP and UDP headers and is at least 576).
    #[must_use]
    pub fn accepted_size(&self) -> usize {
        let announced =
            self.options.bytes::<2>(code::MAX_MESSAGE_SIZE).map_or(DEFAULT_MAX_MESSAGE, u16::from_be_bytes);
        usize::from(announced.clamp(DEFAULT_MAX_MESSAGE, ETHERNET_MTU)) - IP_UDP_HEADERS
    }

    pub(crate) fn file_is_empty(&self) -> bool {
        self.file.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn sname_is_empty(&self) -> bool {
        self.sname.iter().all(|byte| *byte == 0)
    }

    /// Writes the BOOTP header, with other content for `file` and `sname` where some is given.
    pub(crate) fn write_header(&self, out: &mut Vec<u8>, file: Option<&[u8]>, sname: Option<&[u8]>) {
        let op = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        out.extend([op, self.htype, self.hlen, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for ip in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(ip.octets());
        }
        out.extend(self.chaddr);
        let start = out.len();
        out.extend_from_slice(sname.unwrap_or(&self.sname));
        out.resize(start + SNAME_SIZE, 0);
        out.extend_from_slice(file.unwrap_or(&self.file));
        out.resize(start + SNAME_SIZE + FILE_SIZE, 0);
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

fn fill(field: &mut [u8], value: &str) -> Result<(), TextTooLong> {
    if value.len() >= field.len() {
        return Err(TextTooLong { length: value.len(), field: field.len() });
    }
    field.fill(0);
    for (to, from) in field.iter_mut().zip(value.bytes()) {
        *to = from;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::MIN_SIZE;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];

    fn discover() -> Message {
        Message::request(MessageType::Discover, MAC, 0x1234_5678)
    }

    fn wire(message: &Message) -> Vec<u8> {
        message.encode(usize::MAX).unwrap().bytes
    }

    #[test]
    fn a_minimal_message_is_padded_to_300_bytes() {
        let bytes = wire(&discover());
        assert_eq!(bytes.len(), MIN_SIZE);
        assert_eq!(&bytes[..4], [1, 1, 6, 0]);
        assert_eq!(&bytes[28..34], MAC);
        assert_eq!(&bytes[236..244], [99, 130, 83, 99, 53, 1, 1, 255]);
    }

    #[test]
    fn relay_option_is_last_before_end() {
        let mut message = discover();
        message.options.set(code::RELAY_AGENT, [1, 1, 7]);
        message.options.set(code::ETHERBOOT, [0x13, 1, 1]);
        let bytes = wire(&message);
        assert_eq!(&bytes[243..], {
            let mut tail = vec![175, 3, 0x13, 1, 1, 82, 3, 1, 1, 7, 255];
            tail.resize(MIN_SIZE - 243, 0);
            tail
        });
    }

    #[test]
    fn split_and_repeated_options_are_joined() {
        let mut message = discover();
        let long: Vec<u8> = (0..600u16).map(|i| (i % 251) as u8).collect();
        message.options.set(code::BOOT_FILE_NAME, long.clone());
        let bytes = wire(&message);
        let heads = bytes[240..].windows(2).filter(|w| *w == [67, 252]).count();
        assert_eq!(heads, 2);
        assert_eq!(Message::parse(&bytes).unwrap().options.get(code::BOOT_FILE_NAME).unwrap(), long);
    }

    #[test]
    fn a_bad_option_costs_only_itself() {
        let mut bytes = wire(&discover());
        bytes.truncate(243);
        bytes.extend([12, 2, 0xff, 0xfe, 3, 5, 1, 2, 3, 4, 5, 94, 2, 1, 2]);
        bytes.extend([60, 9]);
        bytes.extend(b"PXEClient");
        bytes.extend([93, 2, 0, 7, 255]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.options.get(code::VENDOR_CLASS).unwrap(), b"PXEClient");
        assert_eq!(message.options.bytes(code::CLIENT_ARCH), Some([0, 7]));
    }

    #[test]
    fn a_truncated_last_option_keeps_those_before() {
        let mut bytes = wire(&discover());
        bytes.truncate(243);
        bytes.extend([60, 40, b'P']);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.message_type(), Some(MessageType::Discover));
        assert!(!message.options.contains(code::VENDOR_CLASS));
    }

    #[test]
    fn overloaded_fields_are_read_file_first() {
        let mut bytes = wire(&discover());
        bytes.truncate(243);
        bytes.extend([52, 1, 3, 255]);
        bytes[108..108 + 7].copy_from_slice(&[77, 2, b'i', b'P', 255, 0, 0]);
        bytes[44..44 + 5].copy_from_slice(&[77, 2, b'X', b'E', 255]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.options.get(code::USER_CLASS).unwrap(), b"iPXE");
        assert_eq!(message.file(), "");
        assert_eq!(message.sname(), "");
    }

    #[test]
    fn refuses_what_is_not_dhcp() {
        let good = wire(&discover());
        assert_eq!(Message::parse(&good[..239]), Err(ParseError::TooShort(239)));
        let mut bad = good.clone();
        bad[236] = 0;
        assert_eq!(Message::parse(&bad), Err(ParseError::NoCookie));
        let mut bad = good.clone();
        bad[2] = 17;
        assert_eq!(Message::parse(&bad), Err(ParseError::HardwareLength(17)));
        let mut bad = good;
        bad[0] = 3;
        assert_eq!(Message::parse(&bad), Err(ParseError::Op(3)));
    }

    #[test]
    fn the_client_bounds_the_answer() {
        let mut request = discover();
        assert_eq!(request.accepted_size(), 548);
        request.options.set(code::MAX_MESSAGE_SIZE, 1260u16.to_be_bytes());
        assert_eq!(request.accepted_size(), 1232);
        request.options.set(code::MAX_MESSAGE_SIZE, 60u16.to_be_bytes());
        assert_eq!(request.accepted_size(), 548);
    }

    #[test]
    fn texts_are_terminated_or_refused() {
        let mut message = discover();
        message.set_file(&"x".repeat(127)).unwrap();
        assert_eq!(message.file().len(), 127);
        assert_eq!(message.set_file(&"y".repeat(128)), Err(TextTooLong { length: 128, field: 128 }));
        assert!(message.file().starts_with('x'));
        message.set_sname("10.0.0.1").unwrap();
        assert_eq!(Message::parse(&wire(&message)).unwrap().sname(), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Message::parse(&bytes).map(|m| crate::netboot_client(&m).is_ok());
        }

        #[test]
        fn random_options_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut bytes = wire(&discover());
            bytes.truncate(243);
            bytes.extend(tail);
            let message = Message::parse(&bytes).unwrap();
            let _ = crate::netboot_client(&message).is_ok();
            prop_assert!(message.mac() == Some(MAC));
        }

        #[test]
        fn round_trip(
            xid: u32, secs: u16, flags: u16, ips: [u32; 4],
            options in proptest::collection::btree_map(
                (1u8..=254).prop_filter("53 is set, 52 is structure", |c| *c != 52 && *c != 53),
                proptest::collection::vec(any::<u8>(), 0..600), 0..12),
        ) {
            let mut message = discover();
            message.xid = xid;
            message.secs = secs;
            message.flags = flags;
            [message.ciaddr, message.yiaddr, message.siaddr, message.giaddr] = ips.map(Ipv4Addr::from);
            for (code, value) in options {
                message.options.set(code, value);
            }
            let bytes = wire(&message);
            prop_assert!(bytes.len() >= MIN_SIZE);
            prop_assert_eq!(Message::parse(&bytes).unwrap(), message);
        }
    }
}
