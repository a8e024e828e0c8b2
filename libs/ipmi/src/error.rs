// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between us and a BMC, told apart by what the caller should do about it.

use std::io;

use crate::command::{Command, CompletionCode};
use crate::crypto::CipherSuite;
use crate::rakp::Status;

/// Why a session could not be set up, or a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host name has no address. Retried by the caller: name servers come back.
    #[error("cannot resolve the BMC's name")]
    Resolve(#[source] io::Error),
    /// The local socket cannot be used. Retried by the caller.
    #[error("cannot use a UDP socket")]
    Socket(#[source] io::Error),
    /// No answer, all attempts used up. Retried by the caller with a new session. The source is what the network said
    /// last (for example "connection refused"), if anything.
    #[error("the BMC does not answer ({step}, {attempts} attempts)")]
    Unreachable {
        /// What was being asked.
        step: &'static str,
        /// Datagrams sent for it.
        attempts: u32,
        /// The last error of the socket.
        #[source]
        source: Option<io::Error>,
    },
    /// User name, password or privilege are not accepted. Never retried: only a change of the credentials helps, and
    /// some BMCs lock an account that keeps failing.
    #[error("the BMC refuses the credentials: {0}")]
    Auth(AuthFailure),
    /// The BMC answers, but speaks none of the cipher suites (or no IPMI 2.0 at all). Never retried.
    #[error("the BMC supports none of the cipher suites {}: {reason}", suites(tried))]
    Unsupported {
        /// The suites that were offered.
        tried: Vec<CipherSuite>,
        /// What the BMC said.
        reason: String,
    },
    /// The BMC refuses to set up a session right now (no room for another one, or it forgot the attempt). Retried.
    #[error("the BMC cannot open a session now: {0}")]
    Busy(Status),
    /// The BMC answered the command with an error. Retried by the caller only where the code says so, see
    /// [`Error::is_transient`].
    #[error("{command}: {code}")]
    Completion {
        /// The command.
        command: Command,
        /// The BMC's answer.
        code: CompletionCode,
    },
    /// The BMC's answer makes no sense. Never retried.
    #[error("{command}: the BMC's answer is malformed")]
    Malformed {
        /// The command.
        command: Command,
    },
    /// The session has ended: closed, or lost after [`Error::Unreachable`]. Retried with a new session.
    #[error("the IPMI session is closed")]
    Closed,
}

/// Which part of the credentials was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// The user does not exist or is disabled.
    #[error("unknown user name")]
    UnknownUser,
    /// The password is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// The user exists and may not have the privilege level that was asked for.
    #[error("the user lacks the privilege")]
    Privilege,
    /// The BMC has a key of its own (K_G), which we do not have.
    #[error("the BMC demands a BMC key (K_G)")]
    BmcKey,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing a setting.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Resolve(_) | Self::Socket(_) | Self::Unreachable { .. } | Self::Busy(_) | Self::Closed => {
                true
            }
            Self::Completion { code, .. } => matches!(code.0, 0xc0 | 0xc3 | 0xce | 0xd0..=0xd3),
            Self::Auth(_) | Self::Unsupported { .. } | Self::Malformed { .. } => false,
        }
    }
}

fn suites(tried: &[CipherSuite]) -> String {
    tried.iter().map(|suite| suite.id().to_string()).collect::<Vec<_>>().join(", ")
}
