// SPDX-License-Identifier: Apache-2.0
//! Syslog messages as they come in datagrams: RFC 5424, RFC 3164, and what real senders make of the latter.
//!
//! A receiver may refuse nothing (RFC 3164 section 4.3): whatever is no message of a known form is the text of one. So
//! [`Message::parse`] does not fail; it is pure, copies each byte a bounded number of times, and bounds every field. What
//! it returns is safe to print: control characters are written out (`#033`), as other receivers do, so that no machine
//! can take over the terminal of whoever reads its log.

mod bsd;
mod message;
mod structured;

pub use message::{Facility, Form, MAX_TEXT, Message, Severity};
