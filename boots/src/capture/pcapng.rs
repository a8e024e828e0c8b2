// SPDX-License-Identifier: Apache-2.0
//! The pcapng format (draft-ietf-opsawg-pcapng), which tshark and Wireshark read: one section, one interface of raw IP packets.
//!
//! The comment of the section begins with the number of the boot, by which a later process knows whose packets those are. Pure.

use std::time::{Duration, UNIX_EPOCH};

use super::{Packet, Transport, Way};
use crate::ip::{self, Sequence};

/// Block types.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// By which a reader knows the order of bytes.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// `LINKTYPE_RAW`: each packet begins with its IP header, of either version.
const RAW_IP: u32 = 101;
/// Options of blocks.
const COMMENT: u16 = 1;
const PACKET_FLAGS: u16 = 2;
const INTERFACE_NAME: u16 = 2;
const APPLICATION: u16 = 4;
/// Bytes of a block without its content: type and twice its length.
const FRAME: usize = 12;
/// Where the comment of the first block begins: type, length, byte order, version, length of the section, head of the option.
const FIRST_COMMENT: usize = 28;
/// The words before and after the number of a boot.
const BOOT: (&str, &str) = ("boot ", ": ");

/// Bytes of both directions of a machine's TCP streams so far. One count for all streams keeps each of them in order; between the
/// parts of one that were not kept there are gaps, as in every capture that misses something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Streams {
    received: u32,
    sent: u32,
}

/// The beginning of a file.
pub(super) fn head(boot: u64) -> Vec<u8> {
    let comment = format!(
        "{}{boot}{}what boots saw of it. IP, UDP and TCP headers are made; contents of files and scripts are left out.",
        BOOT.0, BOOT.1
    );
    let mut section = BYTE_ORDER.to_le_bytes().to_vec();
    // Version 1.0 and a length that is not known.
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    options(&mut section, &[(COMMENT, comment.as_bytes()), (APPLICATION, b"boots")]);
    let mut interface = RAW_IP.to_le_bytes().to_vec();
    // No packet was cut but those that say so.
    interface.extend([0; 4]);
    options(&mut interface, &[(INTERFACE_NAME, b"boots")]);
    [block(SECTION, &section), block(INTERFACE, &interface)].concat()
}

/// One packet; nothing for one that no IP packet can carry.
pub(super) fn packet(packet: &Packet, streams: &mut Streams) -> Option<Vec<u8>> {
    let ends = (packet.from, packet.to);
    let length = usize::try_from(packet.length).unwrap_or(usize::MAX / 2);
    let carried = match packet.transport {
        Transport::Udp => ip::udp(ends, &packet.bytes, length)?,
        Transport::Tcp => ip::tcp(ends, streams.advance(packet), &packet.bytes, length)?,
    };
    // Microseconds, which is what a reader takes them for when an interface says nothing.
    let at = packet.at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros();
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    for field in [0, at >> 32, at, carried.bytes.len() as u64, carried.length as u64] {
        content.extend(low(field).to_le_bytes());
    }
    content.extend(&carried.bytes);
    pad(&mut content);
    let direction: u32 = match packet.way {
        Way::In => 1,
        Way::Out => 2,
    };
    let flags = direction.to_le_bytes();
    let note = packet.note.as_ref().map(|note| (COMMENT, note.as_bytes()));
    let all: Vec<_> = [(PACKET_FLAGS, &flags[..])].into_iter().chain(note).collect();
    options(&mut content, &all);
    Some(block(ENHANCED_PACKET, &content))
}

/// The number of the boot that a file is of.
pub(super) fn boot(file: &[u8]) -> Option<u64> {
    let comment = file.get(FIRST_COMMENT..)?.strip_prefix(BOOT.0.as_bytes())?;
    let digits = comment.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// How much of a file is whole blocks.
pub(super) fn whole(file: &[u8]) -> usize {
    let number = |bytes: Option<&[u8]>| bytes?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let mut end = 0;
    loop {
        let rest = file.get(end..).unwrap_or_default();
        let Some(length) = number(rest.get(4..)).and_then(|length| usize::try_from(length).ok()) else {
            return end;
        };
        let again = length.checked_sub(4).and_then(|at| number(rest.get(at..)));
        if length < FRAME || length % 4 != 0 || again != number(rest.get(4..)) {
            return end;
        }
        end += length;
    }
}

impl Streams {
    /// The sequence numbers of the next packet.
    fn advance(&mut self, packet: &Packet) -> Sequence {
        // Sequence numbers begin anew after 2^32 (RFC 9293 section 3.4).
        let length = low(packet.length);
        let (own, other) = match packet.way {
            Way::In => (&mut self.received, self.sent),
            Way::Out => (&mut self.sent, self.received),
        };
        let number = *own;
        *own = own.wrapping_add(length);
        Sequence { number, acknowledged: other }
    }
}

/// The lower half of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

fn block(kind: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(FRAME + content.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, content, &length].concat()
}

fn options(block: &mut Vec<u8>, options: &[(u16, &[u8])]) {
    for (code, value) in options {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        block.extend(code.to_le_bytes());
        block.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
        block.extend_from_slice(value);
        pad(block);
    }
    // The end of the options.
    block.extend([0; 4]);
}

fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Packet {
        let ends = ("10.0.0.1:1024".parse().unwrap(), "10.0.0.2:69".parse().unwrap());
        let at = UNIX_EPOCH + Duration::from_micros(0x1_2345_6789);
        Packet::received(ends, b"\0\x01a\0octet\0").at(at).note("n")
    }

    #[test]
    fn a_file_has_these_bytes() {
        let file = head(1_700_000_000);
        let packet = packet(&request(), &mut Streams::default()).unwrap();
        let lines: Vec<String> = [file, packet].concat().chunks(16).map(hex::encode).collect();
        assert_eq!(lines.join("\n") + "\n", include_str!("golden.hex"));
    }

    #[test]
    fn a_file_tells_its_boot_and_where_its_last_whole_block_ends() {
        let (head, packet) = (head(1_700_000_000), packet(&request(), &mut Streams::default()).unwrap());
        let file = [&head[..], &packet, &packet].concat();
        let section = usize::from(head[4]) + (usize::from(head[5]) << 8);
        let ends = [0, section, head.len(), head.len() + packet.len(), file.len()];
        assert_eq!((boot(&file), boot(b""), boot(b"something else")), (Some(1_700_000_000), None, None));
        for length in 0..=file.len() {
            let expected = ends.into_iter().rfind(|end| *end <= length);
            assert_eq!(Some(whole(&file[..length])), expected, "{length}");
        }
        let mut wrong = file.clone();
        wrong[head.len() + 4..head.len() + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(whole(&wrong), head.len());
        wrong[head.len() + 4..head.len() + 8].copy_from_slice(&[0; 4]);
        assert_eq!(whole(&wrong), head.len(), "and it ends");
    }

    #[test]
    fn streams_are_in_order() {
        let (client, server) = ("10.0.0.1:1024".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let mut streams = Streams::default();
        let mut next = |packet: Packet| streams.advance(&packet.over_tcp());
        assert_eq!(
            next(Packet::received((client, server), &[0; 10])),
            Sequence { number: 0, acknowledged: 0 }
        );
        let long = Packet::sent((server, client), &[0; 20]).of_length(1 << 32);
        assert_eq!(next(long), Sequence { number: 0, acknowledged: 10 });
        let answer = Packet::sent((server, client), &[0; 20]);
        assert_eq!(next(answer), Sequence { number: 0, acknowledged: 10 }, "after 2^32 bytes");
        assert_eq!(next(Packet::received((client, server), &[])), Sequence { number: 10, acknowledged: 20 });
    }
}
