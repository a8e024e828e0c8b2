// SPDX-License-Identifier: Apache-2.0

//! What can go wrong between us and a Redfish service, each as one sentence a person can act on.
//!
//! No variant ever carries a password, a token or a URL with credentials in it.

use crate::endpoint::Endpoint;

/// Why a Redfish operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection, or it broke. Retried by callers.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// The service that was asked.
        endpoint: Endpoint,
        /// The innermost cause, such as "connection refused".
        reason: String,
    },
    /// Connected, but no answer in time. Retried by callers.
    #[error("{endpoint} did not answer in time")]
    Timeout {
        /// The service that was asked.
        endpoint: Endpoint,
    },
    /// The TLS handshake failed. Not retried: somebody has to change the certificate or `insecureTLS`.
    #[error("{endpoint}: {reason}")]
    Tls {
        /// The service that was asked.
        endpoint: Endpoint,
        /// What is wrong with the certificate or the handshake.
        reason: String,
    },
    /// The user name or the password is wrong, or the account may not do this. Not retried: BMCs lock accounts.
    #[error("{endpoint} refuses the user name or password{}", status_note(*.status))]
    Auth {
        /// The service that was asked.
        endpoint: Endpoint,
        /// The HTTP status it answered with.
        status: u16,
    },
    /// What answers there is not a Redfish service. Not retried.
    #[error("{endpoint} is not a Redfish service: {reason}")]
    NotRedfish {
        /// The service that was asked.
        endpoint: Endpoint,
        /// What gave it away.
        reason: String,
    },
    /// The service says that it cannot do this. Not retried.
    #[error("the BMC does not support {what}{}", allowed_note(.allowed))]
    Unsupported {
        /// The thing asked for.
        what: String,
        /// What the service allows instead, when it says so.
        allowed: Vec<String>,
    },
    /// No system has the wanted name, or there are several and none was named. Not retried.
    #[error("{problem}; this service has: {}", names.join(", "))]
    System {
        /// Which of the two it is.
        problem: String,
        /// The names of the systems that exist.
        names: Vec<String>,
    },
    /// The service answered with an error. Retried when [`Error::is_transient`] says so.
    #[error("the BMC answered HTTP {status}: {message}{}", message_id_note(.message_id))]
    Api {
        /// HTTP status.
        status: u16,
        /// The registry's message id, such as `Base.1.8.PropertyValueNotInList`.
        message_id: Option<String>,
        /// The service's own words, shortened.
        message: String,
    },
    /// A task that the service ran for us (HTTP 202) ended badly or did not end. Not retried.
    #[error("the BMC's task ended as {state}: {message}")]
    Task {
        /// The task's last state.
        state: String,
        /// The service's own words.
        message: String,
    },
    /// The answer breaks the rules: too large, wrong type, a link to another host. Not retried.
    #[error("the BMC's answer cannot be used: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the same call may succeed a little later without anybody changing anything.
    ///
    /// 409 counts: BMCs refuse a reset just after the previous one (iDRAC), or a boot device during POST (HPE).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Api { status, .. } => matches!(status, 409 | 412 | 423 | 429 | 500 | 502 | 503 | 504),
            Self::Tls { .. }
            | Self::Auth { .. }
            | Self::NotRedfish { .. }
            | Self::Unsupported { .. }
            | Self::System { .. }
            | Self::Task { .. }
            | Self::Protocol(_) => false,
        }
    }
}

fn status_note(status: u16) -> &'static str {
    if status == 403 { " (HTTP 403: the account lacks the privilege)" } else { "" }
}

fn allowed_note(allowed: &[String]) -> String {
    if allowed.is_empty() { String::new() } else { format!(" (it allows: {})", allowed.join(", ")) }
}

fn message_id_note(message_id: &Option<String>) -> String {
    message_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default()
}
