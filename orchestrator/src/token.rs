// SPDX-License-Identifier: Apache-2.0

//! The token by which one machine may join: made with its user data, let in when it is its turn, gone when it has joined.
//!
//! Owns the form of a bootstrap token. kubeadm waits in its discovery until the cluster signs for its token, so the moment at
//! which the token's Secret is put into the cluster is the moment at which the machine joins: that is how the control plane
//! grows one member at a time, with nothing that has to ask on the machine's side.

use std::collections::BTreeMap;

use daemon::Secret;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1};
use kube::core::ObjectMeta;

/// Namespace of tokens in a cluster.
pub const NAMESPACE: &str = "kube-system";
/// How long a token lets a machine in. It is renewed while the machine is expected.
pub const LIFE: SignedDuration = SignedDuration::from_mins(30);

const ID: usize = 6;
const SECRET: usize = 16;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A bootstrap token: a public name and a secret.
#[derive(Clone)]
pub struct Token {
    id: String,
    secret: Secret<String>,
}

impl Token {
    /// Makes one out of random bytes.
    #[must_use]
    pub fn make(mut random: impl FnMut() -> u8) -> Self {
        let mut text = |length: usize| {
            // Bytes at the end of the range would make some characters likelier.
            let even =
                std::iter::repeat_with(&mut random).filter(|byte| usize::from(*byte) < 7 * ALPHABET.len());
            let letters = even.filter_map(|byte| ALPHABET.get(usize::from(byte) % ALPHABET.len()));
            letters.take(length).map(|byte| char::from(*byte)).collect::<String>()
        };
        Self { id: text(ID), secret: Secret::new(text(SECRET)) }
    }

    /// Reads one back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let plain = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte))
        };
        (plain(id, ID) && plain(secret, SECRET))
            .then(|| Self { id: id.to_owned(), secret: Secret::new(secret.to_owned()) })
    }

    /// The whole token, for the machine.
    #[must_use]
    pub fn reveal(&self) -> Secret<String> {
        Secret::new(format!("{}.{}", self.id, self.secret.expose()))
    }

    /// Name of its Secret in the cluster.
    #[must_use]
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// What lets its bearer into a cluster, until `now` and [`LIFE`].
    #[must_use]
    pub fn secret(&self, slot: &str, now: Timestamp) -> v1::Secret {
        let until = now + LIFE;
        let data = [
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token".to_owned()),
            ("description", format!("lets {slot} join")),
            ("expiration", until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("token-id", self.id.clone()),
            ("token-secret", self.secret.expose().clone()),
            ("usage-bootstrap-authentication", "true".to_owned()),
            ("usage-bootstrap-signing", "true".to_owned()),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
        v1::Secret {
            metadata: ObjectMeta {
                name: Some(self.secret_name()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("bootstrap.kubernetes.io/token".to_owned()),
            data: Some(BTreeMap::from(data)),
            ..v1::Secret::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubeadms_form_and_an_end() {
        let mut next = 0_u8;
        let token = Token::make(|| {
            next = next.wrapping_add(41);
            next
        });
        let text = token.reveal();
        let (id, secret) = text.expose().split_once('.').unwrap();
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert!(Token::parse(text.expose()).is_some());
        for bad in ["", "abc", "abcdef.short", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0"] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let secret = token.secret("rack-md-0-1", now);
        let data = secret.data.unwrap();
        assert_eq!(data["expiration"].0, b"2026-01-02T03:34:05Z");
        assert_eq!(data["token-id"].0, id.as_bytes());
        assert_eq!(secret.metadata.name.unwrap(), format!("bootstrap-token-{id}"));
    }
}
