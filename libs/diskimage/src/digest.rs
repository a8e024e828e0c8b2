// SPDX-License-Identifier: Apache-2.0
//! The digest of an image as downloaded, written `sha256:<64 hex digits>` as in OCI descriptors.

use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest of the bytes as downloaded (before decompression).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// The algorithm before the colon is missing or another one.
    #[error("`{0}` is not a digest: write it as sha256:<64 hex digits>")]
    Algorithm(String),
    /// What follows the colon is not 32 bytes of hexadecimal.
    #[error("`{0}` is not a SHA-256 digest: 64 hex digits must follow `sha256:`")]
    Value(String),
}

impl Digest {
    /// The digest with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let value =
            text.strip_prefix("sha256:").ok_or_else(|| ParseDigestError::Algorithm(text.to_owned()))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(value, &mut bytes).map_err(|_| ParseDigestError::Value(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_upper_case_is_accepted() {
        let text = format!("sha256:{}", "0A".repeat(32));
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text.to_lowercase());
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn what_is_not_sha256_is_named() {
        assert!(matches!("abc".parse::<Digest>(), Err(ParseDigestError::Algorithm(_))));
        assert!(matches!("sha512:00".parse::<Digest>(), Err(ParseDigestError::Algorithm(_))));
        assert!(matches!("sha256:00".parse::<Digest>(), Err(ParseDigestError::Value(_))));
        let odd = format!("sha256:{}zz", "00".repeat(31));
        assert!(matches!(odd.parse::<Digest>(), Err(ParseDigestError::Value(_))));
    }
}
