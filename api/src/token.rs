// SPDX-License-Identifier: Apache-2.0

//! The one-time token by which an agent proves that it runs on the machine that was booted for a Workflow.
//!
//! Owns its form, its minting and its checking; it keeps no state. Boots mints it into the kernel command line, the same
//! for every fetch within one boot. The workflow server checks it, and remembers which peer used it first.
//!
//! ```text
//! token = base64url(boot u64 BE || expiry u64 BE || HMAC-SHA256(key, LABEL || mac || boot || expiry || workflow UID))
//! ```

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use k8s_openapi::api::core::v1::Secret;
use sha2::Sha256;
use thiserror::Error;

use crate::Mac;

/// Name of the Secret that holds the key, in the namespace of the daemons.
pub const SECRET_NAME: &str = "tink-agent-token-key";
/// The Secret's data key.
pub const SECRET_DATA_KEY: &str = "key";
/// Bytes of a key.
pub const KEY_LENGTH: usize = 32;
/// Seconds from a boot until its token expires.
pub const LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// The kernel argument that carries the token.
pub const KERNEL_ARGUMENT: &str = "tink_agent_token";
/// The gRPC metadata key that carries the token.
pub const METADATA_KEY: &str = "tink-agent-token";

/// Keeps this use of the key apart from any other.
const LABEL: &[u8] = b"tink-agent-token/v1\0";
const NUMBER: usize = 8;
const TAG: usize = 32;

/// The key that tokens are minted and checked with. It cannot be printed.
#[derive(Clone)]
pub struct TokenKey([u8; KEY_LENGTH]);

/// What a valid token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Boot number: unix seconds of the first DHCP packet of that boot.
    pub boot: u64,
    /// Unix seconds at which the token is void.
    pub expiry: u64,
}

/// Why a token is refused. None is worth a retry with the same token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// It is not base64url of the right length.
    #[error("the agent token is malformed")]
    Malformed,
    /// It was not minted for this machine and Workflow, or not with this key.
    #[error("the agent token is not for this machine and workflow")]
    Forged,
    /// It is too old.
    #[error("the agent token expired {ago} s ago")]
    Expired {
        /// Seconds since then.
        ago: u64,
    },
}

/// Bytes are no key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the agent token key has {length} bytes; it must have {KEY_LENGTH}")]
pub struct KeyError {
    length: usize,
}

/// Why a Secret holds no key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SecretError {
    /// It has no data under [`SECRET_DATA_KEY`].
    #[error("it is missing")]
    Missing,
    /// It has, but that is no key.
    #[error(transparent)]
    Content(#[from] KeyError),
}

impl TokenKey {
    /// Takes a key that was drawn at random.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the Secret and nothing else.
    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl TryFrom<&[u8]> for TokenKey {
    type Error = KeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes.try_into().map(Self).map_err(|_| KeyError { length: bytes.len() })
    }
}

impl TryFrom<&Secret> for TokenKey {
    type Error = SecretError;

    fn try_from(secret: &Secret) -> Result<Self, SecretError> {
        let data = secret.data.as_ref().and_then(|data| data.get(SECRET_DATA_KEY));
        Ok(Self::try_from(data.ok_or(SecretError::Missing)?.0.as_slice())?)
    }
}

/// Makes the token of the machine with this MAC for this Workflow in this boot. The same input gives the same token.
#[must_use]
pub fn mint(key: &TokenKey, mac: Mac, workflow_uid: &str, boot: u64) -> String {
    let expiry = boot.saturating_add(LIFETIME_SECONDS);
    let tag = keyed(key, mac, workflow_uid, Claims { boot, expiry }).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode([&boot.to_be_bytes()[..], &expiry.to_be_bytes()[..], &tag[..]].concat())
}

/// Checks a token against the machine and Workflow that its bearer speaks for, at `now` in unix seconds. Takes the same
/// time wherever a forged tag differs.
///
/// # Errors
///
/// See [`TokenError`]. A forged token is called that even when it is expired too.
pub fn verify(
    key: &TokenKey,
    token: &str,
    mac: Mac,
    workflow_uid: &str,
    now: u64,
) -> Result<Claims, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
    let bytes: &[u8; 2 * NUMBER + TAG] = bytes.as_slice().try_into().map_err(|_| TokenError::Malformed)?;
    let (boot, rest) = bytes.split_first_chunk::<NUMBER>().ok_or(TokenError::Malformed)?;
    let (expiry, tag) = rest.split_first_chunk::<NUMBER>().ok_or(TokenError::Malformed)?;
    let claims = Claims { boot: u64::from_be_bytes(*boot), expiry: u64::from_be_bytes(*expiry) };

    keyed(key, mac, workflow_uid, claims).verify_slice(tag).map_err(|_| TokenError::Forged)?;
    match now.checked_sub(claims.expiry) {
        Some(ago) => Err(TokenError::Expired { ago }),
        None => Ok(claims),
    }
}

fn keyed(key: &TokenKey, mac: Mac, workflow_uid: &str, claims: Claims) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 section 2)")]
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key.0).expect("a key of any length");
    hmac.update(LABEL);
    hmac.update(&mac.octets());
    hmac.update(&claims.boot.to_be_bytes());
    hmac.update(&claims.expiry.to_be_bytes());
    hmac.update(workflow_uid.as_bytes());
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6b1c1d3e-0000-4000-8000-000000000001";
    const BOOT: u64 = 1_700_000_000;

    fn key() -> TokenKey {
        TokenKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    fn mac() -> Mac {
        "52:54:00:00:00:11".parse().unwrap()
    }

    /// Computed with Python's hmac module from the form in the module header.
    #[test]
    fn a_token_has_the_fixed_form() {
        assert_eq!(
            mint(&key(), mac(), UID, BOOT),
            "AAAAAGVT8QAAAAAAZVVCgPY24Eox2Bm1J6VZHOLI6TmjT4x6-pYzTRD5Y9PimTAH"
        );
    }

    #[test]
    fn a_token_holds_for_its_machine_workflow_and_day_only() {
        let token = mint(&key(), mac(), UID, BOOT);
        let claims = Claims { boot: BOOT, expiry: BOOT + 86_400 };
        assert_eq!(verify(&key(), &token, mac(), UID, BOOT + 86_399), Ok(claims));
        assert_eq!(verify(&key(), &token, mac(), UID, BOOT + 86_400), Err(TokenError::Expired { ago: 0 }));
        let other = "52:54:00:00:00:12".parse().unwrap();
        assert_eq!(verify(&key(), &token, other, UID, BOOT), Err(TokenError::Forged));
        assert_eq!(verify(&key(), &token, mac(), "other", BOOT), Err(TokenError::Forged));
        let wrong = TokenKey::new([0; KEY_LENGTH]);
        assert_eq!(verify(&wrong, &token, mac(), UID, BOOT), Err(TokenError::Forged));
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let token = mint(&key(), mac(), UID, BOOT);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(verify(&key(), &changed, mac(), UID, BOOT), Err(TokenError::Forged), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let token = mint(&key(), mac(), UID, BOOT);
        for text in ["", "x", &token[1..], &format!("{token}AAAA"), &format!("{token}="), "\u{e9}"] {
            assert_eq!(verify(&key(), text, mac(), UID, BOOT), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(TokenKey::try_from(&[0u8; 32][..]).is_ok());
        assert_eq!(TokenKey::try_from(&[0u8; 31][..]).err(), Some(KeyError { length: 31 }));
    }
}
