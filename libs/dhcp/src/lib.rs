// SPDX-License-Identifier: Apache-2.0
//! DHCPv4 messages: bytes to [`Message`] and back, and the PXE and iPXE vocabulary inside them. DHCPv6 is in [`v6`].
//!
//! Owns the wire formats of RFC 2131 and RFC 2132 and of RFC 8415 and nothing else: no sockets, no clock, no policy. The boot
//! daemon decides what to answer; the lab and the tests build client messages with the same type.
//!
//! The codec is our own because receiving must be lenient in a way that typed codecs are not: options are kept
//! as raw bytes, so one that is malformed costs only itself and never hides those behind it (a client whose
//! host name is not UTF-8 still shows that it is a PXE client). Every accessor checks the length it needs.
//!
//! This crate must never panic on any input, whatever its length or content.

mod encode;
mod ipxe;
mod message;
mod options;
mod pxe;
pub mod quirks;
mod relay;
pub mod v6;

pub use encode::{EncodeError, Encoded, MIN_SIZE};
pub use ipxe::IpxeFeatures;
pub use message::{Message, MessageType, Op, ParseError, TextTooLong};
pub use options::{Options, Route, code};
pub use pxe::{
    Arch, ClientKind, NetbootClient, NotNetboot, UserClass, VendorOptions, boot_item, netboot_client,
};
pub use relay::RelayInfo;

/// UDP port of servers and relays (RFC 2131 section 4.1).
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients (RFC 2131 section 4.1).
pub const CLIENT_PORT: u16 = 68;
/// UDP port of PXE boot servers, where clients ask the one that they chose (PXE 2.1 section 2.2.3).
pub const PXE_PORT: u16 = 4011;
