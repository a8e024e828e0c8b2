// SPDX-License-Identifier: Apache-2.0
//! DHCPv6 messages: bytes to [`Packet`] and back, relays around them included, and the boot vocabulary inside them.
//!
//! Owns the wire format of RFC 8415 and of the options that network boot adds to it (RFC 5970, RFC 5908, RFC 6939), and
//! nothing else: no sockets, no clock, no policy. Like the DHCPv4 side it keeps options as raw bytes, so that one that is
//! malformed costs only itself. Vendor class and user class are lists with a length before each item, which a codec must
//! count in bytes: the ready ones that do not are why this is our own.
//!
//! It must never panic on any input, whatever its length or content.

mod boot;
mod duid;
mod message;
mod options;

pub use boot::{HTTP_CLASS, INTEL, boot_file_size, netboot_client, user_class};
pub use duid::{Duid, DuidError, eui64_mac};
pub use message::{MAX_RELAYS, Message, MessageType, Packet, ParseError, Relay};
pub use options::{IaNa, Options, Status, code, status, status_of};

/// UDP port of servers and relays (RFC 8415 section 7.2).
pub const SERVER_PORT: u16 = 547;
/// UDP port of clients (RFC 8415 section 7.2).
pub const CLIENT_PORT: u16 = 546;
/// All servers and relays of a link (RFC 8415 section 7.1).
pub const ALL_ON_LINK: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// All servers of a site (RFC 8415 section 7.1).
pub const ALL_SERVERS: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
