// SPDX-License-Identifier: Apache-2.0
//! IPMI 2.0 over LAN (RMCP+): the codec, the session cryptography and an asynchronous client.
//!
//! Owns everything that is specific to IPMI on the wire. `rufio` drives real BMCs through [`Client`]; the lab's
//! virtual BMC answers with the same [`packet`], [`rakp`], [`lan`] and [`chassis`] codecs. The crate knows nothing of
//! machines, Kubernetes or provisioning, never prints a password or a key, and never panics on what a peer sends.
//!
//! | module | what |
//! |---|---|
//! | [`packet`] | RMCP, ASF ping, session headers of IPMI 1.5 (no authentication) and 2.0, integrity and encryption |
//! | [`rakp`] | Open Session and RAKP messages 1-4, and what both sides compute from them |
//! | [`crypto`] | cipher suites 3 and 17, session keys |
//! | [`lan`] | the IPMI message inside a session |
//! | [`command`] | command numbers and completion codes |
//! | [`chassis`] | chassis status, chassis control, boot options |
//! | [`window`] | the session sequence window |
//! | [`options`] | credentials, privilege, patience |
//! | [`session`] | the client's state machine: no socket, no clock |
//! | [`client`] | the client: one UDP socket around one state machine |
//!
//! Section numbers are those of the IPMI specification 2.0, revision 1.1.

pub mod chassis;
pub mod client;
pub mod command;
pub mod crypto;
pub mod error;
pub mod lan;
pub mod options;
pub mod packet;
pub mod rakp;
pub mod session;
pub mod window;

mod wire;

pub use chassis::{BootDevice, BootFlags, ChassisControl, ChassisStatus};
pub use client::{Client, DEFAULT_PORT, DeviceId};
pub use command::{Command, CompletionCode};
pub use crypto::CipherSuite;
pub use error::{AuthFailure, Error};
pub use options::{Credentials, CredentialsError, Options, Privilege};
pub use packet::DecodeError;
