// SPDX-License-Identifier: Apache-2.0
//! Cipher suites 3 and 17 (section 22.15.2): keyed hashes, session keys, integrity and confidentiality.
//!
//! Used by [`crate::rakp`] and [`crate::packet`]. Keys are wiped when they go and cannot be printed. There is no
//! randomness here: initialisation vectors are the caller's.

use aes::Aes128;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// One AES block, and so the length of an initialisation vector.
pub const BLOCK: usize = 16;
/// Constant that turns the session integrity key into K1 (section 13.32).
const K1_CONSTANT: [u8; 20] = [0x01; 20];
/// Constant that turns the session integrity key into K2 (section 13.32).
const K2_CONSTANT: [u8; 20] = [0x02; 20];

/// The cipher suites that this crate speaks. Everything below (no authentication, no encryption, MD5) is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Suite3,
    /// RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Suite17,
}

impl CipherSuite {
    /// The suite with this number, if it is one that we speak.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            3 => Some(Self::Suite3),
            17 => Some(Self::Suite17),
            _ => None,
        }
    }

    /// The suite's number.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Suite3 => 3,
            Self::Suite17 => 17,
        }
    }

    /// Numbers of the authentication, integrity and confidentiality algorithms (sections 13.28, 13.28.4, 13.28.5).
    #[must_use]
    pub const fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Suite3 => [1, 1, 1],
            Self::Suite17 => [3, 4, 1],
        }
    }

    /// Bytes of a RAKP key exchange code.
    #[must_use]
    pub const fn code_len(self) -> usize {
        match self {
            Self::Suite3 => 20,
            Self::Suite17 => 32,
        }
    }

    /// Bytes of an integrity code: the trailer of a packet, and the check value of RAKP message 4.
    #[must_use]
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Suite3 => 12,
            Self::Suite17 => 16,
        }
    }

    /// The suite's keyed hash over the parts, one after the other.
    #[must_use]
    pub fn keyed_hash(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Suite3 => keyed::<Hmac<Sha1>>(key, parts),
            Self::Suite17 => keyed::<Hmac<Sha256>>(key, parts),
        }
    }
}

/// K1 and K2 of one session: signs, verifies, encrypts and decrypts its packets.
pub struct SessionKeys {
    suite: CipherSuite,
    integrity: Zeroizing<Vec<u8>>,
    cipher: Zeroizing<[u8; BLOCK]>,
}

impl SessionKeys {
    /// The keys that follow from a session integrity key (section 13.32).
    #[must_use]
    pub fn derive(suite: CipherSuite, sik: &[u8]) -> Self {
        let k2 = suite.keyed_hash(sik, &[&K2_CONSTANT]);
        let mut cipher = Zeroizing::new([0; BLOCK]);
        for (to, from) in cipher.iter_mut().zip(k2.iter()) {
            *to = *from;
        }
        Self { suite, integrity: suite.keyed_hash(sik, &[&K1_CONSTANT]), cipher }
    }

    /// The suite these keys belong to.
    #[must_use]
    pub const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// The integrity code over `covered`.
    #[must_use]
    pub fn sign(&self, covered: &[u8]) -> Vec<u8> {
        let mut code = self.suite.keyed_hash(&self.integrity, &[covered]).to_vec();
        code.truncate(self.suite.tag_len());
        code
    }

    /// Whether `tag` is the integrity code over `covered`, in constant time.
    #[must_use]
    pub fn verify(&self, covered: &[u8], tag: &[u8]) -> bool {
        same(&self.sign(covered), tag)
    }

    /// AES-CBC-128 with the padding of section 13.29: 1, 2, 3, ... and its length. The vector comes first.
    #[must_use]
    pub fn encrypt(&self, vector: &[u8; BLOCK], plain: &[u8]) -> Vec<u8> {
        let mut padded = plain.to_vec();
        let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
        for (value, _) in (1_u8..).zip(0..pad) {
            padded.push(value);
        }
        padded.push(u8::try_from(pad).unwrap_or(0));
        let sealed = cbc::Encryptor::<Aes128>::new((&*self.cipher).into(), vector.into())
            .encrypt_padded_vec_mut::<NoPadding>(&padded);
        [vector.as_slice(), &sealed].concat()
    }

    /// Takes [`Self::encrypt`] back; `None` for bytes that no honest peer sends.
    #[must_use]
    pub fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (vector, body) = sealed.split_first_chunk::<BLOCK>()?;
        let mut plain = cbc::Decryptor::<Aes128>::new((&*self.cipher).into(), vector.into())
            .decrypt_padded_vec_mut::<NoPadding>(body)
            .ok()?;
        let pad = usize::from(plain.pop()?);
        let padding = plain.split_off(plain.len().checked_sub(pad)?);
        padding.iter().zip(1_u8..).all(|(byte, value)| *byte == value).then_some(plain)
    }
}

/// Compares two codes in constant time.
#[must_use]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

fn keyed<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 section 2)")]
    let mut mac = <M as Mac>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decrypts_what_it_encrypted(plain in proptest::collection::vec(any::<u8>(), 0..300), vector: [u8; BLOCK]) {
            let keys = SessionKeys::derive(CipherSuite::Suite17, b"session integrity key");
            let sealed = keys.encrypt(&vector, &plain);
            prop_assert_eq!(sealed.len() % BLOCK, 0);
            prop_assert_eq!(keys.decrypt(&sealed), Some(plain));
        }

        #[test]
        fn survives_any_ciphertext(sealed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let keys = SessionKeys::derive(CipherSuite::Suite3, b"session integrity key");
            let _ = keys.decrypt(&sealed);
        }
    }
}
