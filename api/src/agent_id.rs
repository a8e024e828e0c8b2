// SPDX-License-Identifier: Apache-2.0

//! Identities of agents.
//!
//! Owns [`AgentId`]: the gRPC server makes one from what a peer sends before it looks anything up. It travels on a kernel
//! command line, so it can never hold a space.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Longest identity, in bytes; what a Kubernetes name may have.
pub const MAX_AGENT_ID: usize = 253;

/// The name that an agent goes by: `spec.agentID` of its Hardware, else a MAC.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(String);

/// A text cannot be the identity of an agent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ParseAgentIdError {
    /// It is empty.
    #[error("the agent ID is empty")]
    Empty,
    /// It is longer than [`MAX_AGENT_ID`].
    #[error("the agent ID has {length} bytes; at most {MAX_AGENT_ID} are allowed")]
    TooLong {
        /// Bytes it has.
        length: usize,
    },
    /// It has a space or a control character in it.
    #[error("the agent ID has a space or a control character at byte {at}")]
    Unprintable {
        /// Where, from 0.
        at: usize,
    },
}

impl AgentId {
    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = ParseAgentIdError;

    fn from_str(text: &str) -> Result<Self, ParseAgentIdError> {
        if text.is_empty() {
            return Err(ParseAgentIdError::Empty);
        }
        if text.len() > MAX_AGENT_ID {
            return Err(ParseAgentIdError::TooLong { length: text.len() });
        }
        match text.find(|c: char| c.is_whitespace() || c.is_control()) {
            Some(at) => Err(ParseAgentIdError::Unprintable { at }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl AsRef<str> for AgentId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_macs_are_identities() {
        for text in ["52:54:00:00:00:11", "rack-1/node 7".split(' ').next().unwrap(), "m\u{fc}nchen"] {
            assert_eq!(text.parse::<AgentId>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_would_break_a_command_line_is_refused() {
        assert_eq!("".parse::<AgentId>(), Err(ParseAgentIdError::Empty));
        assert_eq!("a b".parse::<AgentId>(), Err(ParseAgentIdError::Unprintable { at: 1 }));
        assert_eq!("ab\n".parse::<AgentId>(), Err(ParseAgentIdError::Unprintable { at: 2 }));
        let long = "a".repeat(MAX_AGENT_ID + 1);
        assert_eq!(long.parse::<AgentId>(), Err(ParseAgentIdError::TooLong { length: 254 }));
    }
}
