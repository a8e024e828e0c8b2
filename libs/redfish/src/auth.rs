// SPDX-License-Identifier: Apache-2.0

//! Proof of identity on each request: nothing, Basic, or a session token (DSP0266, "Authentication").
//!
//! The header values exist only here and are marked sensitive, so that no layer below prints them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use reqwest::RequestBuilder;
use url::Url;
use zeroize::Zeroizing;

use crate::client::Credentials;
use crate::error::Error;

/// How requests are authenticated at the moment.
pub(crate) enum Auth {
    /// Only the service root and the session creation go out like this.
    None,
    /// RFC 7617 on every request.
    Basic(HeaderValue),
    /// A session of ours; `location` is what has to be deleted at the end.
    Session { token: HeaderValue, location: Option<Url> },
}

impl Auth {
    /// Basic authentication with these credentials.
    pub(crate) fn basic(credentials: &Credentials) -> Result<Self, Error> {
        let pair = Zeroizing::new(format!("{}:{}", credentials.username, credentials.password.as_str()));
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        Ok(Self::Basic(sensitive(&value)?))
    }

    /// A session from the `X-Auth-Token` header of the answer that created it.
    pub(crate) fn session(token: &HeaderValue, location: Option<Url>) -> Self {
        let mut token = token.clone();
        token.set_sensitive(true);
        Self::Session { token, location }
    }

    /// Adds the header to a request.
    pub(crate) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic(value) => request.header(http::header::AUTHORIZATION, value.clone()),
            Self::Session { token, .. } => request.header("X-Auth-Token", token.clone()),
        }
    }
}

fn sensitive(value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Error::Protocol("the credentials cannot be put into an HTTP header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
