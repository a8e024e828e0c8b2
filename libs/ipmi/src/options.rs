// SPDX-License-Identifier: Apache-2.0
//! What a caller decides about a session: who logs in, with which suites, and how patiently.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::CipherSuite;
use crate::rakp::{MAX_PASSWORD, MAX_USER};

/// User name and password. The password is wiped when this goes; there is no way to print it.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: Zeroizing<Vec<u8>>,
}

/// Credentials that no IPMI 2.0 BMC can hold. Never retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Longer than 16 bytes.
    #[error("an IPMI user name has at most {MAX_USER} bytes")]
    UserTooLong,
    /// Longer than 20 bytes.
    #[error("an IPMI password has at most {MAX_PASSWORD} bytes")]
    PasswordTooLong,
    /// A zero byte ends user name and password in a BMC.
    #[error("an IPMI user name or password cannot contain a zero byte")]
    ZeroByte,
}

impl Credentials {
    /// Checks and takes over user name and password.
    ///
    /// # Errors
    /// [`CredentialsError`] where the BMC could not store them.
    pub fn new(user: impl Into<String>, password: &str) -> Result<Self, CredentialsError> {
        let user = user.into();
        if user.len() > MAX_USER {
            return Err(CredentialsError::UserTooLong);
        }
        if password.len() > MAX_PASSWORD {
            return Err(CredentialsError::PasswordTooLong);
        }
        if user.bytes().chain(password.bytes()).any(|byte| byte == 0) {
            return Err(CredentialsError::ZeroByte);
        }
        Ok(Self { user, password: Zeroizing::new(password.as_bytes().to_vec()) })
    }

    /// The user name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password, for keyed hashes only.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.password
    }
}

/// Privilege level of a session (section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// Reads.
    User,
    /// Reads and power control.
    Operator,
    /// Everything, among it boot options on most BMCs.
    Administrator,
}

impl Privilege {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::User => 2,
            Self::Operator => 3,
            Self::Administrator => 4,
        }
    }

    /// The level with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::User),
            3 => Some(Self::Operator),
            4 => Some(Self::Administrator),
            _ => None,
        }
    }
}

/// How a session is opened and how long answers are waited for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Suites to offer, best first.
    pub suites: Vec<CipherSuite>,
    /// Level that the session is raised to.
    pub privilege: Privilege,
    /// Wait for the first answer; doubles with every attempt.
    pub first_timeout: Duration,
    /// Longest wait for one answer.
    pub max_timeout: Duration,
    /// Datagrams sent for one question before the BMC counts as unreachable.
    pub attempts: u32,
}

impl Default for Options {
    /// Suite 17 then 3, administrator, 0.5 s doubling to 2 s, seven attempts: a silent BMC is told after 11.5 s, and with
    /// a fifth of all datagrams lost in both directions one question in 1,300 fails.
    fn default() -> Self {
        Self {
            suites: vec![CipherSuite::Suite17, CipherSuite::Suite3],
            privilege: Privilege::Administrator,
            first_timeout: Duration::from_millis(500),
            max_timeout: Duration::from_secs(2),
            attempts: 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_bmc_can_hold() {
        assert!(Credentials::new("a".repeat(16), &"p".repeat(20)).is_ok());
        assert_eq!(Credentials::new("a".repeat(17), "p").err(), Some(CredentialsError::UserTooLong));
        assert_eq!(Credentials::new("a", &"p".repeat(21)).err(), Some(CredentialsError::PasswordTooLong));
        assert_eq!(Credentials::new("a", "p\0").err(), Some(CredentialsError::ZeroByte));
    }
}
