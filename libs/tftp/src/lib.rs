// SPDX-License-Identifier: Apache-2.0
//! A read-only TFTP server for network-boot firmware.
//!
//! RFC 1350 with the option extension (RFC 2347) and `blksize` (RFC 2348), `timeout` and `tsize` (RFC 2349) and
//! `windowsize` (RFC 7440). What is served under which name is the business of a [`Provider`]; this crate owns
//! packets, negotiation, the state of each transfer, and the sockets.
//!
//! `packet`, `negotiate`, `transfer` and `table` are pure; `content`, `link`, `session` and `server` are the rim. A transfer
//! has a port of its own, or answers come from the port that was asked ([`Ports`]); the address is the one that was asked.
//! Transfers are bounded in number, in all and per client address; requests beyond that are dropped, and the client
//! repeats them. A client that never answers gets its first packet [`FIRST_PACKETS`] times at most: who sends requests in
//! the name of another makes little out of them.
//!
//! netascii is converted as RFC 1350 says (a text of up to 16 MiB); every other mode, `mail` too, is read as octet, because
//! firmware that sends an odd one wants its boot program as it is.
//!
//! It must never write a file, and never let a request stay without a bound on memory or time.

mod content;
mod link;
mod negotiate;
mod packet;
mod server;
mod session;
mod table;
mod transfer;

pub use content::Content;
pub use negotiate::{Limits, Negotiated, negotiate};
pub use packet::{ErrorCode, Mode, Packet, ParseError, Request};
pub use server::{Config, Ports, Provider, Refusal, Seen, Server, Socket, Way};
pub use session::Report;
pub use table::Dropped;
pub use transfer::{Event, FIRST_PACKETS, Outcome, Output, Transfer};
