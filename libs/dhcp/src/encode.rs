// SPDX-License-Identifier: Apache-2.0
//! A message to bytes: the order of its options, and what happens when the client accepts fewer bytes than it needs.
//!
//! Options go in ascending order of their codes, or, in the answer to a client that sent a parameter request list, in the
//! order of that list (RFC 2132 section 9.8); option 82 is the last (RFC 3046 section 2.1). What does not fit moves into the
//! fields `file` and `sname` where these are empty (option 52, RFC 2131 section 4.1), and only then is left out. Messages are
//! padded to 300 bytes for old relays (RFC 1542 section 2.1).

use std::cmp::Reverse;

use thiserror::Error;

use crate::message::{COOKIE, FILE_SIZE, HEADER, Message, SNAME_SIZE};
use crate::options::{Options, code};

/// Messages are padded to this many bytes.
pub const MIN_SIZE: usize = 300;
/// Bytes that option 52 takes.
const OVERLOAD_SIZE: usize = 3;

/// Options that are left out when the message gets too large, the most dispensable first. All others stay: without
/// them the answer is not a lease or not a boot.
const DISPENSABLE: [u8; 9] = [
    code::LOG_SERVER,
    code::DOMAIN_SEARCH,
    code::NTP,
    code::BROADCAST,
    code::DOMAIN_NAME,
    code::HOST_NAME,
    code::MESSAGE,
    code::CLASSLESS_ROUTES,
    code::DNS,
];
/// Never moved into another field: a reader needs them before it knows that there is one.
const FIRST: [u8; 3] = [code::MESSAGE_TYPE, code::SERVER_ID, code::LEASE_TIME];

/// Why a message could not be encoded.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum EncodeError {
    /// Too large even without every dispensable option.
    #[error("the message needs {needed} bytes and the client accepts {limit}")]
    TooLarge {
        /// Bytes needed.
        needed: usize,
        /// Bytes that the client accepts.
        limit: usize,
    },
}

/// The bytes of a message, and what had to be left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// UDP payload.
    pub bytes: Vec<u8>,
    /// Codes of options left out because the client accepts no larger message.
    pub dropped: Vec<u8>,
}

/// Which options go into which field, in their order.
#[derive(Debug, Default)]
struct Layout {
    main: Vec<u8>,
    file: Vec<u8>,
    sname: Vec<u8>,
}

impl Message {
    /// The bytes of this message, at most `limit` of them, options in ascending order.
    ///
    /// # Errors
    ///
    /// When it does not fit even without the options that a client can do without.
    pub fn encode(&self, limit: usize) -> Result<Encoded, EncodeError> {
        self.encode_in_order(limit, &[])
    }

    /// The bytes of this answer to `request`: no more than its sender accepts, in the order in which it asked.
    ///
    /// # Errors
    ///
    /// When it does not fit even without the options that a client can do without.
    pub fn encode_for(&self, request: &Self) -> Result<Encoded, EncodeError> {
        let wishes = request.options.get(code::PARAMETER_LIST).unwrap_or_default();
        self.encode_in_order(request.accepted_size(), wishes)
    }

    fn encode_in_order(&self, limit: usize, wishes: &[u8]) -> Result<Encoded, EncodeError> {
        let mut order = self.order(wishes);
        let mut dropped = Vec::new();
        let layout = loop {
            let needed = self.size(&order);
            if needed <= limit {
                break Layout { main: order, ..Layout::default() };
            }
            if let Some(layout) = self.overload(limit, &order) {
                break layout;
            }
            let Some(dispensable) = most_dispensable(&order, wishes) else {
                return Err(EncodeError::TooLarge { needed, limit });
            };
            order.retain(|code| *code != dispensable);
            dropped.push(dispensable);
        };
        Ok(Encoded { bytes: self.write(&layout), dropped })
    }

    /// The codes of all options but 82 in the order of sending.
    fn order(&self, wishes: &[u8]) -> Vec<u8> {
        let here = |code: &u8| self.options.contains(*code);
        let first = if wishes.is_empty() { &[][..] } else { &FIRST };
        let all = self.options.iter().map(|(code, _)| code);
        let mut seen = [false; 256];
        let once = move |code: &u8| {
            seen.get_mut(usize::from(*code)).is_some_and(|seen| !std::mem::replace(seen, true))
        };
        let wished = first.iter().chain(wishes).copied().filter(here);
        wished
            .chain(all)
            .filter(|code| ![code::RELAY_AGENT, code::OVERLOAD].contains(code))
            .filter(once)
            .collect()
    }

    /// Bytes of the message with these options and option 82, without padding.
    fn size(&self, order: &[u8]) -> usize {
        HEADER + 1 + self.relay_size() + order.iter().map(|code| self.option_size(*code)).sum::<usize>()
    }

    fn option_size(&self, code: u8) -> usize {
        self.options.get(code).map_or(0, Options::wire_size)
    }

    fn relay_size(&self) -> usize {
        self.option_size(code::RELAY_AGENT)
    }

    /// Spreads the options over the options field and the free ones of `file` and `sname`.
    fn overload(&self, limit: usize, order: &[u8]) -> Option<Layout> {
        let mut room = limit.checked_sub(HEADER + 1 + self.relay_size() + OVERLOAD_SIZE)?;
        // Each of the two ends with an End option.
        let mut file_room = if self.file_is_empty() { FILE_SIZE - 1 } else { 0 };
        let mut sname_room = if self.sname_is_empty() { SNAME_SIZE - 1 } else { 0 };
        let mut layout = Layout::default();
        // The largest first: they fit nowhere else.
        let mut by_size = order.to_vec();
        by_size.sort_by_key(|code| (!FIRST.contains(code), Reverse(self.option_size(*code))));
        for code in by_size {
            let size = self.option_size(code);
            let may_move = !FIRST.contains(&code);
            if let Some(left) = room.checked_sub(size) {
                room = left;
                layout.main.push(code);
            } else if let Some(left) = file_room.checked_sub(size).filter(|_| may_move) {
                file_room = left;
                layout.file.push(code);
            } else if let Some(left) = sname_room.checked_sub(size).filter(|_| may_move) {
                sname_room = left;
                layout.sname.push(code);
            } else {
                return None;
            }
        }
        layout.main = order.iter().copied().filter(|code| layout.main.contains(code)).collect();
        Some(layout)
    }

    fn write(&self, layout: &Layout) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size(&layout.main).max(MIN_SIZE) + OVERLOAD_SIZE);
        let field = |codes: &[u8]| {
            (!codes.is_empty()).then(|| {
                let mut field = Vec::new();
                self.write_options(&mut field, codes);
                field.push(code::END);
                field
            })
        };
        let (file, sname) = (field(&layout.file), field(&layout.sname));
        self.write_header(&mut bytes, file.as_deref(), sname.as_deref());
        bytes.extend(COOKIE);
        self.write_options(&mut bytes, &layout.main);
        let overloaded = u8::from(file.is_some()) | u8::from(sname.is_some()) << 1;
        if overloaded != 0 {
            Options::write(&mut bytes, code::OVERLOAD, &[overloaded]);
        }
        self.write_options(&mut bytes, &[code::RELAY_AGENT]);
        bytes.push(code::END);
        if bytes.len() < MIN_SIZE {
            bytes.resize(MIN_SIZE, code::PAD);
        }
        bytes
    }

    fn write_options(&self, out: &mut Vec<u8>, codes: &[u8]) {
        for code in codes {
            if let Some(value) = self.options.get(*code) {
                Options::write(out, *code, value);
            }
        }
    }
}

/// What goes next: options that the client did not ask for before those that it did.
fn most_dispensable(order: &[u8], wishes: &[u8]) -> Option<u8> {
    let candidates = || DISPENSABLE.iter().filter(|code| order.contains(code));
    candidates().find(|code| !wishes.contains(code)).or_else(|| candidates().next()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageType;

    fn request(wishes: &[u8]) -> Message {
        let mut request = Message::request(MessageType::Discover, [2; 6], 1);
        if !wishes.is_empty() {
            request.options.set(code::PARAMETER_LIST, wishes);
        }
        request
    }

    fn reply(request: &Message, options: &[(u8, usize)]) -> Message {
        let mut reply = Message::reply(request, MessageType::Ack);
        for (code, length) in options {
            reply.options.set(*code, vec![*code; *length]);
        }
        reply
    }

    /// Codes of the options field in their order.
    fn codes(bytes: &[u8]) -> Vec<u8> {
        let mut rest = &bytes[240..];
        let mut codes = Vec::new();
        while let [code, length, tail @ ..] = rest {
            if *code == code::END {
                break;
            }
            codes.push(*code);
            rest = &tail[usize::from(*length)..];
        }
        codes
    }

    #[test]
    fn options_are_sent_in_the_order_in_which_they_were_asked_for() {
        let some = [(3, 4), (6, 4), (12, 2), (54, 4), (82, 3), (121, 8)];
        let mut request = request(&[]);
        request.options.set(code::RELAY_AGENT, [1, 1, 7]);
        assert_eq!(
            codes(&reply(&request, &some).encode_for(&request).unwrap().bytes),
            [3, 6, 12, 53, 54, 121, 82]
        );
        request.options.set(code::PARAMETER_LIST, [121, 82, 6, 6, 99, 255, 3]);
        assert_eq!(
            codes(&reply(&request, &some).encode_for(&request).unwrap().bytes),
            [53, 54, 121, 6, 3, 12, 82]
        );
    }

    #[test]
    fn what_does_not_fit_moves_into_the_empty_fields() {
        let request = request(&[]);
        let reply = reply(&request, &[(43, 200), (119, 120), (6, 40)]);
        let encoded = reply.encode_for(&request).unwrap();
        assert_eq!((encoded.dropped.len(), encoded.bytes.len() <= 548), (0, true));
        assert!(codes(&encoded.bytes).contains(&code::OVERLOAD));
        assert_eq!(Message::parse(&encoded.bytes).unwrap(), reply);
    }

    #[test]
    fn a_field_that_is_in_use_is_left_alone_and_dispensable_options_go() {
        let request = request(&[119]);
        let mut reply = reply(&request, &[(43, 200), (119, 80), (6, 40)]);
        reply.set_file("ipxe.efi").unwrap();
        let encoded = reply.encode_for(&request).unwrap();
        let back = Message::parse(&encoded.bytes).unwrap();
        assert_eq!(
            (back.file().as_str(), back.options.contains(6)),
            ("ipxe.efi", true),
            "sname holds option 6"
        );
        assert_eq!(encoded.dropped, []);
        reply.set_sname("10.0.0.1").unwrap();
        let encoded = reply.encode_for(&request).unwrap();
        assert_eq!(encoded.dropped, [6], "what was not asked for goes before what was");
        assert!(Message::parse(&encoded.bytes).unwrap().options.contains(119));
    }

    #[test]
    fn an_answer_without_its_essence_is_none() {
        let request = request(&[]);
        let reply = reply(&request, &[(43, 400)]);
        assert!(matches!(reply.encode_for(&request), Err(EncodeError::TooLarge { limit: 548, .. })));
    }
}
