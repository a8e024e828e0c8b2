// SPDX-License-Identifier: Apache-2.0
//! Who may read what boots keeps of machines: whoever has the token.
//!
//! The token is the configured one, else one that is drawn at the first start. The latter lies beside this server's URL in a
//! file of the state directory, for its owner only, where `tink` finds both.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use axum::response::{IntoResponse as _, Response};
use daemon::Secret;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Name of the file in the state directory.
pub const ACCESS_FILE: &str = "boots.access";
/// Bytes of a token that is drawn.
const TOKEN_BYTES: usize = 32;
/// Bytes of a file that is read.
const MAX_FILE: u64 = 4096;

/// The content of the file: where a boots is, and the token that opens it.
#[derive(Serialize, Deserialize)]
pub struct AccessFile {
    /// Its base URL.
    pub url: String,
    /// The token.
    pub token: String,
}

/// The token, which cannot be printed.
#[derive(Clone)]
pub struct HttpToken(Secret<String>);

impl fmt::Debug for HttpToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpToken(..)")
    }
}

impl From<Secret<String>> for HttpToken {
    fn from(secret: Secret<String>) -> Self {
        Self(secret)
    }
}

impl HttpToken {
    /// The token of the file in a state directory, which is made or brought up to date.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or is none of ours.
    pub(crate) fn load_or_create(state_dir: &Path, url: &str) -> io::Result<Self> {
        let path = state_dir.join(ACCESS_FILE);
        let token = match AccessFile::read(&path) {
            Ok(file) if file.url == url => return Ok(Self(Secret::new(file.token))),
            Ok(file) => file.token,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                hex::encode(rand::random::<[u8; TOKEN_BYTES]>())
            }
            Err(error) => return Err(error),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        let file = AccessFile { url: url.to_owned(), token };
        let beside = state_dir.join(format!("{ACCESS_FILE}.new"));
        let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        new.write_all(&serde_json::to_vec(&file)?)?;
        new.sync_all()?;
        fs::rename(&beside, &path)?;
        Ok(Self(Secret::new(file.token)))
    }

    /// What a request is answered that does not carry the token.
    pub(crate) fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        let refusal =
            || (StatusCode::UNAUTHORIZED, challenge, "the token of boots is needed\n").into_response();
        (!self.opens(headers)).then(refusal)
    }

    /// Whether a request carries the token, as a bearer token (RFC 6750 section 2.1). Takes the same time wherever a wrong
    /// one differs.
    fn opens(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = value.and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, token)| {
            let (given, wanted) = (token.trim().as_bytes(), self.0.expose().as_bytes());
            scheme.eq_ignore_ascii_case("bearer") && bool::from(given.ct_eq(wanted))
        })
    }
}

impl AccessFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it is not there, or is none of ours.
    pub fn read(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_token_stays_the_same_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = HttpToken::load_or_create(&state, "http://a:1").unwrap();
        let second = HttpToken::load_or_create(&state, "http://b:2").unwrap();
        assert_eq!(first.0.expose(), second.0.expose());
        let path = state.join(ACCESS_FILE);
        let file = AccessFile::read(&path).unwrap();
        assert_eq!((file.url.as_str(), &file.token), ("http://b:2", first.0.expose()));
        assert_eq!(file.token.len(), 2 * TOKEN_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{").unwrap();
        assert!(HttpToken::load_or_create(&state, "http://a:1").is_err(), "another file is not overwritten");
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = HttpToken::from(Secret::new("s3cret".to_owned()));
        assert!(token.opens(&headers("Bearer s3cret")) && token.opens(&headers("bearer s3cret")));
        for wrong in ["Bearer s3cre", "Bearer s3cret1", "Bearer", "Bearer ", "Basic s3cret", "s3cret"] {
            assert!(!token.opens(&headers(wrong)), "{wrong}");
        }
        assert!(!token.opens(&HeaderMap::new()));
        assert_eq!(format!("{token:?}"), "HttpToken(..)");
    }
}
