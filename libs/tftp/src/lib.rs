// SPDX-License-Identifier: Apache-2.0
//! A read-only TFTP server for network-boot firmware.
//!
//! RFC 1350 with the option extension (RFC 2347) and `blksize` (RFC 2348), `timeout` and `tsize` (RFC 2349) and
//! `windowsize` (RFC 7440). What is served under which name is the business of a [`Provider`]; this crate owns
//! packets, negotiation, the state of each transfer, and the sockets.
//!
//! `packet`, `negotiate` and `transfer` are pure; `content`, `session` and `server` are the rim. Each transfer has a
//! socket of its own, bound to the address that the client asked. Transfers are bounded in number, in all and per
//! client address; requests beyond that are dropped, and the client repeats them.
//!
//! It must never write a file, and never let a request stay without a bound on memory or time.

mod content;
mod negotiate;
mod packet;
mod server;
mod session;
mod transfer;

pub use content::Content;
pub use negotiate::{Limits, Negotiated, negotiate};
pub use packet::{ErrorCode, Mode, Packet, ParseError, Request};
pub use server::{Config, Provider, Refusal, Server, Socket};
pub use session::Report;
pub use transfer::{Event, Outcome, Output, Transfer};
