// SPDX-License-Identifier: Apache-2.0

//! Logging in and out: a session where the service offers one, else Basic (DSP0266, "Session management").
//!
//! BMCs have few sessions (eight on some), so every one made here is deleted again, and a full table is a reason for Basic.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::auth::Auth;
use crate::error::Error;
use crate::json;
use crate::transport::{Payload, Reply, Transport};

/// Where the service creates sessions: `Links.Sessions` of the root, which is readable without credentials.
pub(crate) fn sessions_link(root: &Value) -> Option<&str> {
    root.get("Links").and_then(|links| json::link(links, "Sessions"))
}

impl Transport {
    /// Makes `self.auth` usable: a session, or Basic where there are none to be had. Wrong credentials are found here when
    /// a session is made, and on the next request with Basic.
    pub(crate) async fn login(&mut self) -> Result<(), Error> {
        self.auth = Auth::None;
        if let Some(sessions) = self.sessions.clone() {
            let body = json!({
                "UserName": self.credentials().username,
                "Password": self.credentials().password.as_str(),
            });
            let payload = Payload { body: Some(&body), if_match: None };
            let reply = self.redirected(Method::POST, &sessions, payload).await?;
            if let Some(auth) = self.judge(&reply)? {
                self.auth = auth;
                return Ok(());
            }
            tracing::debug!(bmc = %self.endpoint(), status = reply.status.as_u16(), "no session to be had, using Basic");
        }
        self.auth = Auth::basic(self.credentials())?;
        Ok(())
    }

    /// Deletes the session. A failure is logged only: the service lets it expire.
    pub(crate) async fn logout(&mut self) {
        let Auth::Session { location, .. } = &self.auth else { return };
        if let Some(location) = location.clone() {
            match self.redirected(Method::DELETE, &location, Payload::default()).await {
                Ok(reply) if reply.status.is_success() => {}
                Ok(reply) => {
                    tracing::debug!(bmc = %self.endpoint(), status = reply.status.as_u16(), "session was not deleted");
                }
                Err(error) => tracing::debug!(bmc = %self.endpoint(), %error, "session was not deleted"),
            }
        }
        self.auth = Auth::None;
    }

    /// The session an answer grants; `None` when Basic is to be tried; an error when the credentials are wrong.
    fn judge(&self, reply: &Reply) -> Result<Option<Auth>, Error> {
        if reply.status.is_success() {
            let location = reply.header("location").or_else(|| json::text(&reply.body, "@odata.id"));
            // A location that cannot be resolved costs us the logout, not the session.
            let location = location.and_then(|link| self.endpoint().resolve(link).ok());
            return Ok(reply.headers.get("x-auth-token").map(|token| Auth::session(token, location)));
        }
        let full = json::error_message(&reply.body).0.is_some_and(|id| id.contains("SessionLimit"));
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !full => Err(self.refusal(reply)),
            _ => Ok(None),
        }
    }
}
